"""Questions about getting a program run at a probe: each attaches a program that does nothing, for an instant, to a harmless place.

Kernel functions: ``bpf_fentry_test1``, which exists to be hooked and runs only when asked to (net/bpf/test_run.c, with CONFIG_NET).
User functions: a file in memory that nobody executes.
"""

from __future__ import annotations

import errno
import os
import struct

from ...abi import bpf as abi
from ..bpf import attr, bpf, try_load_program
from ..kernel import Call, Memory
from ..perf_event import PerfEvent, attempt, kprobe, pmu_type, tracepoint, uprobe
from .asking import RETURN_0, Asking, yes
from .options import OPTIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from . import Answer

__all__ = ("PROBES",)

#: Functions to hook, the most harmless first; each is in any kernel with what it belongs to.
_FUNCTIONS = ("bpf_fentry_test1", "kernel_restart", "vfs_fsync")
_TRACEPOINT = ("sched", "sched_process_exit")
#: Functions whose result may be changed: the first without CONFIG_FUNCTION_ERROR_INJECTION only since Linux 6.3, hooks of security always.
_CHANGEABLE = ("bpf_modify_return_test", "security_settime64")


class _Loaded:
    """A program that does nothing; ``fd`` is ``-errno`` if the kernel refused it."""

    def __init__(self, asking: Asking, kind: int, **options: int) -> None:
        self._kernel = asking.kernel
        self.fd = try_load_program(asking.kernel, kind, RETURN_0, name="harken_probe", **options)

    def __enter__(self) -> _Loaded:
        return self

    def __exit__(self, *_details: object) -> None:
        if self.fd >= 0:
            self._kernel.close(self.fd)


def _closed(asking: Asking, tried: str, fd: int, options: tuple[str, ...] = (), reason: str = "") -> Answer:
    if fd >= 0:
        asking.close_later(fd)
        return yes(tried, reason)
    return asking.no(tried, -fd, options=options)


def _bpf_first(function: Callable[[Asking], Answer]) -> Callable[[Asking, str], Answer]:
    def ask(asking: Asking, _name: str) -> Answer:
        missing = asking.without("bpf")
        return function(asking) if missing is None else missing

    return ask


# -- kernel functions


_KPROBES, _FPROBE = OPTIONS["kprobe_perf"], OPTIONS["kprobe_multi"]


def _kprobe_perf(asking: Asking, _name: str) -> Answer:
    kernel = asking.kernel
    if pmu_type(kernel, "kprobe") is None:
        return asking.no("open(/sys/bus/event_source/devices/kprobe/type)", errno.ENOENT, options=_KPROBES)
    result, tried = -errno.ENOENT, ""
    for function in _FUNCTIONS:
        tried = f"perf_event_open(kprobe {function})"
        result = attempt(kernel, kprobe(kernel, function), cpu=0)
        if result != -errno.ENOENT:
            break
    if result < 0:
        return asking.no(tried, -result, capabilities=("perfmon",), options=_KPROBES)
    return _set_bpf(asking, result, abi.BPF_PROG_TYPE_KPROBE, tried, _KPROBES)


def _set_bpf(asking: Asking, fd: int, kind: int, tried: str, options: tuple[str, ...]) -> Answer:
    """Attaches a program to an event that stays disabled, then closes it; without bpf(2) the event alone counts (perf can use it)."""
    try:
        return _attached(asking, PerfEvent(asking.kernel, fd), kind, tried, options)
    finally:
        asking.close_later(fd)


def _attached(asking: Asking, event: PerfEvent, kind: int, tried: str, options: tuple[str, ...]) -> Answer:
    from ...base.errors import KernelError

    if not asking.features.has("bpf"):
        return yes(tried, "for events; programs cannot be attached without bpf(2)")
    with _Loaded(asking, kind) as program:
        if program.fd < 0:
            return asking.no(f"bpf(BPF_PROG_LOAD) for {tried}", -program.fd, options=options)
        try:
            event.set_bpf(program)
        except KernelError as error:
            return asking.no(f"ioctl(PERF_EVENT_IOC_SET_BPF) on {tried}", error.errno, options=options)
    return yes(f"{tried}, PERF_EVENT_IOC_SET_BPF")


def _kprobe_multi(asking: Asking, attach_type: int, what: str) -> Answer:
    with _Loaded(asking, abi.BPF_PROG_TYPE_KPROBE, expected_attach_type=attach_type) as program:
        if program.fd < 0:
            return asking.no(f"bpf(BPF_PROG_LOAD, {what})", -program.fd, options=_FPROBE)
        result, tried = 0, ""
        for function in _FUNCTIONS:
            tried = f"bpf(BPF_LINK_CREATE, {what} {function})"
            attribute = attr(
                abi.LINK_CREATE,
                abi.LINK_CREATE_SIZE,
                prog_fd=program.fd,
                attach_type=attach_type,
                kprobe_multi_cnt=1,
                kprobe_multi_syms=Memory.array([function.encode() + b"\0"]),
            )
            result = bpf(asking.kernel, abi.BPF_LINK_CREATE, attribute)
            if result not in (-errno.ESRCH, -errno.ENOENT):
                break
        return _closed(asking, tried, result, _FPROBE)


def _trampoline(attach_type: int, what: str, functions: tuple[str, ...] = _FUNCTIONS) -> Callable[[Asking], Answer]:
    options = OPTIONS["fentry"]

    def ask(asking: Asking) -> Answer:
        from . import Answer

        missing = asking.without("btf_vmlinux", f"bpf(BPF_PROG_LOAD, {what})")
        if missing is not None:
            return missing
        known = [(name, number) for name in functions if (number := asking.btf_id(name)) is not None]
        if not known:
            return Answer("unknown", "could not tell: BTF lists none of the functions that can be hooked safely", 0, "BTF", "moment")
        for name, number in known:
            tried = f"bpf(BPF_PROG_LOAD, {what} {name})"
            program = _Loaded(asking, abi.BPF_PROG_TYPE_TRACING, expected_attach_type=attach_type, attach_btf_id=number)
            if program.fd != -errno.EINVAL:
                break
        with program:
            if program.fd < 0:
                return _evidence(asking, asking.no(tried, -program.fd, options=options))
            # Loading proves little: some machines (arm64 before 6.0) load the program and cannot attach it.
            attribute = attr(abi.RAW_TRACEPOINT, abi.RAW_TRACEPOINT_SIZE, prog_fd=program.fd)
            result = bpf(asking.kernel, abi.BPF_RAW_TRACEPOINT_OPEN, attribute)
            return _closed(asking, f"{tried}, BPF_RAW_TRACEPOINT_OPEN", result, options)

    return ask


def _evidence(asking: Asking, found: Answer) -> Answer:
    """Adds to a refusal by policy what shows that it is one: programs of the same type that the kernel takes."""
    if found.cause == "policy" and asking.features.has("tp_btf"):
        return found.replace(reason=found.reason + "; a program for a BTF tracepoint is accepted")
    return found


def _lsm(asking: Asking) -> Answer:
    from . import Answer

    missing = asking.without("btf_vmlinux", "bpf(BPF_PROG_LOAD, lsm)")
    if missing is not None:
        return missing
    number = asking.btf_id("bpf_lsm_file_open")
    if number is None:
        return asking.no("BTF lists no bpf_lsm_file_open", errno.ENOENT, options=OPTIONS["lsm"])
    tried = "bpf(BPF_PROG_LOAD, lsm file_open)"
    with _Loaded(asking, abi.BPF_PROG_TYPE_LSM, expected_attach_type=abi.BPF_LSM_MAC, attach_btf_id=number) as program:
        if program.fd < 0:
            return _evidence(asking, asking.no(tried, -program.fd, options=OPTIONS["lsm"]))
    modules = asking.lockdown.modules
    if modules is not None and "bpf" not in modules:
        return Answer("no", 'programs load but never run: "bpf" is not among the active security modules', 0, "lsm", "bootparam:lsm=")
    return yes(tried)


# -- static probes of the kernel


def _raw_tracepoint(asking: Asking) -> Answer:
    tried = f"bpf(BPF_RAW_TRACEPOINT_OPEN, {_TRACEPOINT[1]})"
    with _Loaded(asking, abi.BPF_PROG_TYPE_RAW_TRACEPOINT) as program:
        if program.fd < 0:
            return asking.no("bpf(BPF_PROG_LOAD, raw_tracepoint)", -program.fd, options=OPTIONS["raw_tracepoint"])
        attribute = attr(abi.RAW_TRACEPOINT, abi.RAW_TRACEPOINT_SIZE, name=_TRACEPOINT[1].encode() + b"\0", prog_fd=program.fd)
        return _closed(asking, tried, bpf(asking.kernel, abi.BPF_RAW_TRACEPOINT_OPEN, attribute), ("CONFIG_BPF_EVENTS",))


def _tp_btf(asking: Asking) -> Answer:
    missing = asking.without("btf_vmlinux", "bpf(BPF_PROG_LOAD, tp_btf)")
    if missing is not None:
        return missing
    name = f"btf_trace_{_TRACEPOINT[1]}"
    number = asking.btf_id(name)
    if number is None:
        return asking.no(f"BTF lists no {name}", errno.ENOENT, options=OPTIONS["raw_tracepoint"])
    tried = f"bpf(BPF_PROG_LOAD, tp_btf {_TRACEPOINT[1]})"
    with _Loaded(asking, abi.BPF_PROG_TYPE_TRACING, expected_attach_type=abi.BPF_TRACE_RAW_TP, attach_btf_id=number) as program:
        if program.fd < 0:
            return asking.no(tried, -program.fd, options=OPTIONS["raw_tracepoint"])
        attribute = attr(abi.RAW_TRACEPOINT, abi.RAW_TRACEPOINT_SIZE, prog_fd=program.fd)
        return _closed(asking, f"{tried}, BPF_RAW_TRACEPOINT_OPEN", bpf(asking.kernel, abi.BPF_RAW_TRACEPOINT_OPEN, attribute))


def _iter(asking: Asking) -> Answer:
    missing = asking.without("btf_vmlinux", "bpf(BPF_PROG_LOAD, iter)")
    if missing is not None:
        return missing
    number = asking.btf_id("bpf_iter_task")
    if number is None:
        return asking.no("BTF lists no bpf_iter_task", errno.ENOENT)
    tried = "bpf(BPF_PROG_LOAD, iter task)"
    with _Loaded(asking, abi.BPF_PROG_TYPE_TRACING, expected_attach_type=abi.BPF_TRACE_ITER, attach_btf_id=number) as program:
        if program.fd < 0:
            return asking.no(tried, -program.fd)
        attribute = attr(abi.LINK_CREATE, abi.LINK_CREATE_SIZE, prog_fd=program.fd, attach_type=abi.BPF_TRACE_ITER)
        return _closed(asking, f"{tried}, BPF_LINK_CREATE", bpf(asking.kernel, abi.BPF_LINK_CREATE, attribute))


def _tracepoint_perf(asking: Asking, _name: str) -> Answer:
    from ...base.errors import KernelError

    category, event = _TRACEPOINT
    try:
        number = asking.tracefs.event_id(category, event)
    except KernelError as error:
        missing = asking.without("tracefs")
        if missing is not None:
            return missing
        return asking.no(error.call, error.errno or errno.ENOENT, capabilities=("sys_admin",), options=OPTIONS["tracepoint_perf"])
    tried = f"perf_event_open(tracepoint {category}:{event})"
    fd = attempt(asking.kernel, tracepoint(number), cpu=0)
    if fd < 0:
        return asking.no(tried, -fd, capabilities=("perfmon",), options=("CONFIG_PERF_EVENTS",))
    return _set_bpf(asking, fd, abi.BPF_PROG_TYPE_TRACEPOINT, tried, ("CONFIG_BPF_EVENTS",))


# -- functions of user programs


class Victim:
    """A page of memory that has a path, to be probed; nobody executes it."""

    def __init__(self, asking: Asking) -> None:
        self._kernel = asking.kernel
        self.fd = asking.kernel.call(Call("memfd_create", (b"harken_probe\0", 1)))  # MFD_CLOEXEC
        if self.fd >= 0 and asking.kernel.call(Call("ftruncate", (self.fd, 4096))) < 0:
            self.close()
        # Where memory files are forbidden, this very source file serves: a regular file that is never mapped to be executed.
        self.path = f"/proc/{os.getpid()}/fd/{self.fd}" if self.fd >= 0 else os.path.realpath(__file__)

    def close(self) -> None:
        if self.fd >= 0:
            self._kernel.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Victim:
        return self

    def __exit__(self, *_details: object) -> None:
        self.close()


_UPROBES = OPTIONS["uprobe_perf"]


def _uprobe_perf(asking: Asking, name: str) -> Answer:
    kernel = asking.kernel
    if pmu_type(kernel, "uprobe") is None:
        return asking.no("open(/sys/bus/event_source/devices/uprobe/type)", errno.ENOENT, options=_UPROBES)
    if kernel.exists("/sys/bus/event_source/devices/uprobe/format/ref_ctr_offset"):
        # Detaching a uprobe takes some 50 ms, so one attempt answers both questions if it succeeds.
        counted = asking.once("uprobe with a counter", lambda: _open_uprobe(asking, 64))
        if counted.state == "yes" or name == "usdt_refcount":
            return counted  # type: ignore[no-any-return]
    elif name == "usdt_refcount":
        return asking.no("open(/sys/bus/event_source/devices/uprobe/format/ref_ctr_offset)", errno.ENOENT, options=_UPROBES)
    return _open_uprobe(asking, 0)


def _open_uprobe(asking: Asking, counter: int) -> Answer:
    tried = "perf_event_open(uprobe" + (" with ref_ctr_offset)" if counter else ")")
    with Victim(asking) as victim:
        fd = attempt(asking.kernel, uprobe(asking.kernel, victim.path, 0, ref_ctr_offset=counter), cpu=0)
        if fd < 0:
            return asking.no(tried, -fd, capabilities=("perfmon",), options=_UPROBES)
        return _set_bpf(asking, fd, abi.BPF_PROG_TYPE_KPROBE, tried, _UPROBES)


def _uprobe_multi(asking: Asking, attach_type: int, what: str) -> Answer:
    with _Loaded(asking, abi.BPF_PROG_TYPE_KPROBE, expected_attach_type=attach_type) as program, Victim(asking) as victim:
        if program.fd < 0:
            return asking.no(f"bpf(BPF_PROG_LOAD, {what})", -program.fd, options=_UPROBES)
        attribute = attr(
            abi.LINK_CREATE,
            abi.LINK_CREATE_SIZE,
            prog_fd=program.fd,
            attach_type=attach_type,
            uprobe_multi_path=os.fsencode(victim.path) + b"\0",
            uprobe_multi_offsets=struct.pack("=Q", 0),
            uprobe_multi_cnt=1,
        )
        return _closed(asking, f"bpf(BPF_LINK_CREATE, {what})", bpf(asking.kernel, abi.BPF_LINK_CREATE, attribute), _UPROBES)


def _uprobe_multi_pid(asking: Asking) -> Answer:
    """Whether the filter by PID means processes.

    Until Linux commit 46ba0e49b642 ("bpf: fix multi-uprobe PID filtering logic", v6.10) it let a single thread through.  With it came a
    check that shows: a negative PID is refused (EINVAL) before the path is looked at, which here is none (EBADF).  A kernel without
    such links refuses the same call without a PID in the same way.
    """
    what = "uprobe_multi, pid -1"
    with _Loaded(asking, abi.BPF_PROG_TYPE_KPROBE, expected_attach_type=abi.BPF_TRACE_UPROBE_MULTI) as program:
        if program.fd < 0:
            return asking.no(f"bpf(BPF_PROG_LOAD, {what})", -program.fd, options=_UPROBES)

        def create(pid: int) -> int:
            attribute = attr(
                abi.LINK_CREATE,
                abi.LINK_CREATE_SIZE,
                prog_fd=program.fd,
                attach_type=abi.BPF_TRACE_UPROBE_MULTI,
                uprobe_multi_path=b"/\0",
                uprobe_multi_offsets=struct.pack("=Q", 0),
                uprobe_multi_cnt=1,
                uprobe_multi_pid=pid,
            )
            return bpf(asking.kernel, abi.BPF_LINK_CREATE, attribute)

        tried, fd = f"bpf(BPF_LINK_CREATE, {what})", create(0xFFFFFFFF)
        if fd == -errno.EINVAL:
            without = create(0)
            if without == -errno.EINVAL:
                return asking.no("bpf(BPF_LINK_CREATE, uprobe_multi)", errno.EINVAL, options=_UPROBES)
            if without >= 0:
                asking.close_later(without)
            return yes(tried)
        if fd >= 0:
            asking.close_later(fd)
        from . import Answer

        number = max(0, -fd)
        return Answer("no", f"its filter lets only one thread of a process through ({tried})", number, tried, "kernel")


PROBES: dict[str, Callable[[Asking, str], Answer]] = {
    "kprobe_perf": _kprobe_perf,
    "kprobe_multi": _bpf_first(lambda asking: _kprobe_multi(asking, abi.BPF_TRACE_KPROBE_MULTI, "kprobe_multi")),
    "kprobe_session": _bpf_first(lambda asking: _kprobe_multi(asking, abi.BPF_TRACE_KPROBE_SESSION, "kprobe_session")),
    "fentry": _bpf_first(_trampoline(abi.BPF_TRACE_FENTRY, "fentry")),
    "fexit": _bpf_first(_trampoline(abi.BPF_TRACE_FEXIT, "fexit")),
    "fsession": _bpf_first(_trampoline(abi.BPF_TRACE_FSESSION, "fsession")),
    "fmod_ret": _bpf_first(_trampoline(abi.BPF_MODIFY_RETURN, "fmod_ret", _CHANGEABLE)),
    "lsm": _bpf_first(_lsm),
    "raw_tracepoint": _bpf_first(_raw_tracepoint),
    "tp_btf": _bpf_first(_tp_btf),
    "iter": _bpf_first(_iter),
    "tracepoint_perf": _tracepoint_perf,
    "uprobe_perf": _uprobe_perf,
    "usdt_refcount": _uprobe_perf,
    "uprobe_multi": _bpf_first(lambda asking: _uprobe_multi(asking, abi.BPF_TRACE_UPROBE_MULTI, "uprobe_multi")),
    "uprobe_multi_pid": _bpf_first(_uprobe_multi_pid),
    "uprobe_session": _bpf_first(lambda asking: _uprobe_multi(asking, abi.BPF_TRACE_UPROBE_SESSION, "uprobe_session")),
}
