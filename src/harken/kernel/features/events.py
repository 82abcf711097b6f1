"""Questions about perf_event_open(2): which kinds of events can be counted, and for whom."""

from __future__ import annotations

import errno

from ...abi import perf_event as abi
from ..perf_event import Attr, attempt, breakpoint_at, software, tracepoint
from .asking import Asking, yes
from .options import OPTIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from . import Answer

__all__ = ("PROBES",)


def _opened(asking: Asking, attr: Attr, tried: str, pid: int = -1, cpu: int = 0) -> Answer:
    fd = attempt(asking.kernel, attr, pid, cpu)
    if fd >= 0:
        asking.close_later(fd)
        return yes(tried)
    if -fd in (errno.EACCES, errno.EPERM):
        return _forbidden(asking, tried, -fd)
    return asking.no(tried, -fd, capabilities=("perfmon",), options=OPTIONS["perf_events"])


def _forbidden(asking: Asking, tried: str, number: int) -> Answer:
    from ..procfs import sysctl

    found = asking.no(tried, number, capabilities=("perfmon",), options=OPTIONS["perf_events"])
    level = sysctl(asking.kernel, "kernel.perf_event_paranoid")
    if found.cause.startswith("capability:") and level is not None:
        return found.replace(reason=f"{found.reason}, and kernel.perf_event_paranoid is {level}", cause="sysctl:kernel.perf_event_paranoid")
    return found


def _perf_events(asking: Asking, _name: str) -> Answer:
    """The system call exists: the sysctl is made with it, so no attempt has to succeed."""
    path = "/proc/sys/kernel/perf_event_paranoid"
    if asking.kernel.exists(path):
        return yes(path)
    return asking.no(f"open({path})", errno.ENOENT, capabilities=(), options=OPTIONS["perf_events"])


def _software(asking: Asking, _name: str) -> Answer:
    return _opened(asking, software("cpu-clock", freq=99), "perf_event_open(cpu-clock, all processes, CPU 0)")


def _self(asking: Asking, _name: str) -> Answer:
    attr = Attr(abi.PERF_TYPE_SOFTWARE, abi.PERF_COUNT_SW_TASK_CLOCK, flags=("disabled", "exclude_kernel", "exclude_hv"))
    return _opened(asking, attr, "perf_event_open(task-clock:u, this process)", 0, -1)


def _counter(asking: Asking, attr: Attr, tried: str) -> Answer:
    """A hardware counter: whether the CPU has it is asked for this process (no privilege needed), then for all."""
    from . import Answer

    own = attr.replace(flags=(*attr.flags, "exclude_kernel", "exclude_hv"))
    fd = attempt(asking.kernel, own, 0, -1)
    if fd >= 0:
        asking.kernel.close(fd)
        return _opened(asking, attr, tried)
    if -fd in (errno.ENOENT, errno.EOPNOTSUPP, errno.ENODEV, errno.EINVAL):
        from ..mounts import errno_name

        virtual = _virtual(asking)
        why = "this virtual machine has no PMU" if virtual else "this CPU's PMU does not offer it, or the kernel has no driver for it"
        return Answer("no", f"{tried} = {errno_name(fd)}: {why}", -fd, tried, "hardware")
    if -fd in (errno.EACCES, errno.EPERM):
        return _forbidden(asking, tried, -fd)
    return asking.no(tried, -fd, capabilities=("perfmon",), options=OPTIONS["perf_events"])


def _virtual(asking: Asking) -> bool:
    """Whether the CPU says that it is virtual (x86), or the firmware tells the name of a hypervisor."""
    try:
        for line in asking.kernel.read("/proc/cpuinfo", 1 << 16).split(b"\n"):
            if line.startswith(b"flags"):
                return b"hypervisor" in line.split()
    except OSError:
        pass
    return asking.kernel.exists("/sys/hypervisor/type") or asking.kernel.exists("/proc/device-tree/hypervisor")


def _hardware(asking: Asking, _name: str) -> Answer:
    return _counter(asking, Attr(abi.PERF_TYPE_HARDWARE, abi.PERF_COUNT_HW_CPU_CYCLES), "perf_event_open(cpu-cycles)")


def _cache(asking: Asking, _name: str) -> Answer:
    from ..perf_event_names import cache_events

    for event in cache_events():
        if event.name in ("L1-dcache-loads", "LLC-loads", "L1-dcache-load-misses", "dTLB-loads"):
            found = _counter(asking, Attr(event.type, event.config), f"perf_event_open({event.name})")
            if found.state != "no" or found.cause != "hardware":
                break
    return found


def _tracepoint(asking: Asking, _name: str) -> Answer:
    attached = asking.features.answer("tracepoint_perf")
    if attached.state == "yes":  # a program is attached to such an event
        return yes(attached.tried.partition(",")[0])
    from ...base.errors import KernelError

    try:
        number = asking.tracefs.event_id("sched", "sched_process_exit")
    except KernelError as error:
        missing = asking.without("tracefs")
        return missing if missing is not None else asking.no(error.call, error.errno or errno.ENOENT, capabilities=("sys_admin",))
    return _opened(asking, tracepoint(number), "perf_event_open(tracepoint sched:sched_process_exit)")


def _breakpoint(asking: Asking, _name: str) -> Answer:
    tried = "perf_event_open(breakpoint, this process)"
    attr = breakpoint_at(0x1000, 4, "w", flags=("disabled", "exclude_kernel", "exclude_hv"))
    found = _opened(asking, attr, tried, 0, -1)
    if found.state == "no" and found.cause == "kernel":
        missing = asking.set_options("CONFIG_HAVE_HW_BREAKPOINT")
        if missing:
            return found.replace(cause="config:CONFIG_HAVE_HW_BREAKPOINT")
        return found.replace(reason=f"{found.reason} (no debug registers for it)", cause="hardware")
    return found


PROBES: dict[str, Callable[[Asking, str], Answer]] = {
    "perf_events": _perf_events,
    "perf_software": _software,
    "perf_self": _self,
    "perf_hardware": _hardware,
    "perf_cache": _cache,
    "perf_tracepoint": _tracepoint,
    "breakpoint": _breakpoint,
}
