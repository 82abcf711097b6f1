"""perf_event_open(2): counters, samples, and the file descriptors that BPF programs are attached to.

``Attr`` is struct perf_event_attr as a value; ``open_event`` makes a ``PerfEvent`` of it.  Constructors exist for what harken attaches
to: ``software``, ``tracepoint``, ``kprobe``, ``uprobe``, ``breakpoint``; names of other events are found in ``perf_event_names`` and
``perf_event_pmu``.

Example::

    kernel = live()
    with open_event(kernel, software("cpu-clock", freq=99), pid=-1, cpu=0) as event:
        event.set_bpf(program)
        event.enable()
"""

from __future__ import annotations

import errno
import os
import struct

from ..abi import perf_event as abi
from ..base.errors import KernelError, UsageError
from ..base.record import Record
from .kernel import Call, Memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .kernel import Kernel

__all__ = (
    "Attr",
    "PerfEvent",
    "open_event",
    "attempt",
    "software",
    "tracepoint",
    "kprobe",
    "uprobe",
    "breakpoint_at",
    "pmu_type",
    "BREAKPOINT_MODES",
)

_PMUS = "/sys/bus/event_source/devices"
_FIELDS = (
    "type",
    "config",
    "config1",
    "config2",
    "config3",
    "sample_type",
    "read_format",
    "bp_type",
    "branch_sample_type",
    "sample_regs_user",
    "sample_stack_user",
    "clockid",
    "sample_regs_intr",
    "aux_watermark",
    "sample_max_stack",
    "sig_data",
)

#: Letters of a watchpoint's mode -> HW_BREAKPOINT_* bit.
BREAKPOINT_MODES = {"r": 1, "w": 2, "x": 4}


class Attr(Record):
    """struct perf_event_attr (include/uapi/linux/perf_event.h), the fields by their names there.

    ``period`` is sample_period; ``freq`` (samples per second) excludes it.  ``flags`` are names of the bit fields ("disabled",
    "exclude_kernel", ...); ``precise`` is precise_ip.  ``wakeup`` counts events, or bytes with flag "watermark".
    ``probe`` is the string that config1 points to for the kprobe and uprobe PMUs: function or path.
    A breakpoint's address and length are config1 and config2.
    """

    type: int
    config: int = 0
    config1: int = 0
    config2: int = 0
    config3: int = 0
    period: int = 0
    freq: int = 0
    sample_type: int = 0
    read_format: int = 0
    flags: tuple[str, ...] = ("disabled",)
    precise: int = 0
    wakeup: int = 0
    bp_type: int = 0
    branch_sample_type: int = 0
    sample_regs_user: int = 0
    sample_stack_user: int = 0
    clockid: int = 0
    sample_regs_intr: int = 0
    aux_watermark: int = 0
    sample_max_stack: int = 0
    sig_data: int = 0
    probe: str = ""

    def encode(self) -> bytes:
        """The struct's bytes, without the address of ``probe``.

        Example:
            >>> raw = Attr(1, 9, flags=("disabled", "exclude_kernel")).encode()
            >>> int.from_bytes(raw[0:4], "little"), int.from_bytes(raw[8:16], "little"), int.from_bytes(raw[40:48], "little")
            (1, 9, 33)
        """
        raw = bytearray(abi.ATTR_SIZE)
        layout = abi.ATTR
        values = {name: getattr(self, name) for name in _FIELDS}
        values["size"] = abi.ATTR_SIZE
        values["sample_freq" if self.freq else "sample_period"] = self.freq or self.period
        values["wakeup_events"] = self.wakeup
        for name, value in values.items():
            if value:
                offset, code = layout[name]
                struct.pack_into(code, raw, offset, value)
        bits = (self.precise & 3) << abi.ATTR_FLAGS["precise_ip"]
        for name in self.flags:
            bits |= 1 << abi.ATTR_FLAGS[name]
        if self.freq:
            bits |= 1 << abi.ATTR_FLAGS["freq"]
        struct.pack_into("=Q", raw, abi.ATTR_FLAGS_OFFSET, bits)
        return bytes(raw)


def attempt(kernel: Kernel, attr: Attr, pid: int = -1, cpu: int = -1, group: int = -1, flags: int = abi.PERF_FLAG_FD_CLOEXEC) -> int:
    """perf_event_open(2) as it is: a file descriptor or ``-errno``.  ``kernel.features`` asks this way."""
    if not attr.probe:
        return kernel.call(Call("perf_event_open", (attr.encode(), pid, cpu, group, flags)))
    memory = Memory(bytearray(attr.encode()), [(abi.ATTR["config1"][0], os.fsencode(attr.probe) + b"\0")])
    return kernel.call(Call("perf_event_open", (memory, pid, cpu, group, flags)))


def open_event(
    kernel: Kernel, attr: Attr, pid: int = -1, cpu: int = -1, group: int = -1, flags: int = abi.PERF_FLAG_FD_CLOEXEC
) -> PerfEvent:
    """Opens an event.

    Args:
        pid: 0 for the caller, -1 for all processes (then ``cpu`` must not be -1), a cgroup's fd with PERF_FLAG_PID_CGROUP.
        cpu: -1 for any.
        group: fd of the group's leader, or -1.

    Raises:
        KernelError: with the errno and what to do about it.
    """
    fd = attempt(kernel, attr, pid, cpu, group, flags)
    if fd < 0:
        raise _refused(kernel, attr, pid, cpu, -fd)
    return PerfEvent(kernel, fd)


class PerfEvent:
    """An open event; it ends when closed or with the process."""

    def __init__(self, kernel: Kernel, fd: int) -> None:
        self._kernel = kernel
        self.fd = fd

    def _ioctl(self, name: str, request: int, argument: Any = 0) -> None:
        result = self._kernel.call(Call("ioctl", (self.fd, request, argument)))
        if result < 0:
            raise KernelError(
                f"the kernel refused {name} on a perf event: {os.strerror(-result)}",
                call=f"ioctl({self.fd}, {name})",
                errno=-result,
                hint=_IOCTL_HINTS.get((name, -result), ""),
            )

    def enable(self) -> None:
        self._ioctl("PERF_EVENT_IOC_ENABLE", abi.PERF_EVENT_IOC_ENABLE)

    def disable(self) -> None:
        self._ioctl("PERF_EVENT_IOC_DISABLE", abi.PERF_EVENT_IOC_DISABLE)

    def reset(self) -> None:
        self._ioctl("PERF_EVENT_IOC_RESET", abi.PERF_EVENT_IOC_RESET)

    def refresh(self, count: int) -> None:
        """Enables the event for ``count`` more overflows."""
        self._ioctl("PERF_EVENT_IOC_REFRESH", abi.PERF_EVENT_IOC_REFRESH, count)

    def set_period(self, period: int) -> None:
        self._ioctl("PERF_EVENT_IOC_PERIOD", abi.PERF_EVENT_IOC_PERIOD, struct.pack("=Q", period))

    def set_bpf(self, program: Any) -> None:
        """Attaches a BPF program (anything with ``fd``, or the descriptor itself); it runs while the event is enabled."""
        self._ioctl("PERF_EVENT_IOC_SET_BPF", abi.PERF_EVENT_IOC_SET_BPF, program if isinstance(program, int) else program.fd)

    def set_filter(self, expression: str) -> None:
        """A tracepoint's filter ("prev_pid == 0"), or an address filter; the kernel knows the syntax."""
        self._ioctl("PERF_EVENT_IOC_SET_FILTER", abi.PERF_EVENT_IOC_SET_FILTER, expression.encode() + b"\0")

    def set_output(self, other: PerfEvent | None) -> None:
        """Sends this event's samples to another event's ring (same CPU), or back to its own."""
        self._ioctl("PERF_EVENT_IOC_SET_OUTPUT", abi.PERF_EVENT_IOC_SET_OUTPUT, other.fd if other else -1)

    def pause(self, on: bool = True) -> None:
        """Stops (or resumes) writing to the ring."""
        self._ioctl("PERF_EVENT_IOC_PAUSE_OUTPUT", abi.PERF_EVENT_IOC_PAUSE_OUTPUT, int(on))

    def id(self) -> int:
        """The number that samples of this event carry (PERF_SAMPLE_ID)."""
        raw = bytearray(8)
        self._ioctl("PERF_EVENT_IOC_ID", abi.PERF_EVENT_IOC_ID, raw)
        return int.from_bytes(raw, "little" if struct.pack("=H", 1)[0] else "big")

    def programs(self, limit: int = 64) -> tuple[int, ...]:
        """Ids of the BPF programs that are attached (PERF_EVENT_IOC_QUERY_BPF; tracepoints and probes only)."""
        raw = bytearray(struct.pack("=II", limit, 0) + bytes(4 * limit))
        self._ioctl("PERF_EVENT_IOC_QUERY_BPF", abi.PERF_EVENT_IOC_QUERY_BPF, raw)
        count: int = struct.unpack_from("=I", raw, 4)[0]
        return struct.unpack_from(f"={min(count, limit)}I", raw, 8)

    def read(self, values: int = 1) -> tuple[int, ...]:
        """The counter's value and what else ``read_format`` asked for: ``values`` numbers of 64 bits.

        Raises:
            KernelError: also when the kernel returns fewer (a pinned event in error state reads as end of file).
        """
        raw = bytearray(8 * values)
        size = self._kernel.call(Call("read", (self.fd, raw, len(raw))))
        if size != len(raw):
            number = -size if size < 0 else errno.EIO
            raise KernelError(f"cannot read a perf event: {os.strerror(number)}", call=f"read({self.fd})", errno=number)
        return struct.unpack(f"={values}Q", raw)

    def close(self) -> None:
        """Detaches programs and frees the event."""
        if self.fd >= 0:
            self._kernel.close(self.fd)
            self.fd = -1

    def __enter__(self) -> PerfEvent:
        return self

    def __exit__(self, *_details: object) -> None:
        self.close()


def software(name: str, period: int = 0, freq: int = 0, flags: tuple[str, ...] = ("disabled",)) -> Attr:
    """A software event by name or alias; without period and frequency, bpftrace's default period.

    Example:
        >>> software("cs").config, software("faults").period, software("cpu-clock", freq=99).period
        (3, 100, 0)
    """
    from .perf_event_names import SOFTWARE

    for event in SOFTWARE:
        if name == event.name or name in event.aliases:
            return Attr(event.type, event.config, period=0 if freq else period or event.period, freq=freq, flags=flags)
    raise UsageError(f"no software event is called {name!r}", "known ones: " + ", ".join(event.name for event in SOFTWARE))


def tracepoint(event_id: int, flags: tuple[str, ...] = ("disabled",)) -> Attr:
    """A tracepoint by the number in its ``id`` file; every hit is an event."""
    return Attr(abi.PERF_TYPE_TRACEPOINT, event_id, period=1, sample_type=abi.PERF_SAMPLE_RAW, flags=flags)


def pmu_type(kernel: Kernel, name: str) -> int | None:
    """The number of a PMU ("uprobe"), or None if the kernel has none of that name."""
    try:
        return int(kernel.read(f"{_PMUS}/{name}/type", 64))
    except (OSError, ValueError):
        return None


def _format_bits(kernel: Kernel, pmu: str, term: str) -> tuple[int, int] | None:
    """First bit and width of a term of config ("config:32-63" -> (32, 32))."""
    try:
        text = kernel.read(f"{_PMUS}/{pmu}/format/{term}", 256).decode("ascii", "replace").strip()
        place, _, bits = text.partition(":")
        low, _, high = bits.partition("-")
        if place == "config":
            return int(low), int(high or low) - int(low) + 1
    except (OSError, ValueError):
        pass
    return None


def _probe(kernel: Kernel, pmu: str, text: str, offset: int, returns: bool, ref_ctr_offset: int, flags: tuple[str, ...]) -> Attr:
    number = pmu_type(kernel, pmu)
    if number is None:
        option = "CONFIG_KPROBE_EVENTS" if pmu == "kprobe" else "CONFIG_UPROBE_EVENTS"
        raise KernelError(
            f"this kernel has no {pmu} PMU",
            call=f'open("{_PMUS}/{pmu}/type")',
            errno=errno.ENOENT,
            hint=f"it comes with {option} (Linux 4.17); 'harken doctor' shows what else serves",
        )
    config = 0
    if returns:
        bits = _format_bits(kernel, pmu, "retprobe")
        config |= 1 << (bits[0] if bits else 0)
    if ref_ctr_offset:
        bits = _format_bits(kernel, pmu, "ref_ctr_offset")
        if bits is None or ref_ctr_offset >> bits[1]:
            raise KernelError(
                "this kernel cannot count a USDT semaphore through perf",
                call=f'open("{_PMUS}/{pmu}/format/ref_ctr_offset")',
                errno=errno.ENOENT if bits is None else errno.ERANGE,
                hint="ref_ctr_offset came with Linux 4.20; its offset must fit 32 bits",
            )
        config |= ref_ctr_offset << bits[0]
    return Attr(number, config, config2=offset, period=1, flags=flags, probe=text)


def kprobe(kernel: Kernel, function: str, offset: int = 0, returns: bool = False, flags: tuple[str, ...] = ("disabled",)) -> Attr:
    """A kernel function's entry (``offset`` bytes in) or return, through the kprobe PMU (Linux 4.17).

    Raises:
        KernelError: this kernel has no such PMU.
    """
    return _probe(kernel, "kprobe", function, offset, returns, 0, flags)


def uprobe(
    kernel: Kernel,
    path: str,
    offset: int,
    returns: bool = False,
    ref_ctr_offset: int = 0,
    flags: tuple[str, ...] = ("disabled",),
) -> Attr:
    """An instruction of a file (``offset`` bytes from its start) or the return of the function there, through the uprobe PMU (Linux 4.17).

    Args:
        ref_ctr_offset: file offset of a USDT semaphore that the kernel raises while the probe is attached (Linux 4.20); 0 for none.

    Raises:
        KernelError: this kernel has no such PMU, or cannot count semaphores.
    """
    return _probe(kernel, "uprobe", path, offset, returns, ref_ctr_offset, flags)


def breakpoint_at(address: int, length: int, mode: str, flags: tuple[str, ...] = ("disabled",)) -> Attr:
    """A hardware breakpoint or watchpoint.

    Args:
        length: 1, 2, 4 or 8 bytes; execution breakpoints (mode "x") take the machine's word size whatever is given.
        mode: letters of "rwx".

    Example:
        >>> attr = breakpoint_at(0x1000, 4, "rw")
        >>> attr.type, attr.bp_type, attr.config1, attr.config2
        (5, 3, 4096, 4)
    """
    kind = 0
    for letter in mode:
        if letter not in BREAKPOINT_MODES:
            raise UsageError(f"a watchpoint's mode is made of r, w and x, not {letter!r}")
        kind |= BREAKPOINT_MODES[letter]
    if not kind or (kind & 4 and kind != 4):
        raise UsageError(f"no breakpoint has the mode {mode!r}", "use r, w, rw, or x alone")
    if kind == 4:
        length = struct.calcsize("l")
    elif length not in (1, 2, 4, 8):
        raise UsageError(f"a watchpoint covers 1, 2, 4 or 8 bytes, not {length}")
    return Attr(abi.PERF_TYPE_BREAKPOINT, 0, config1=address, config2=length, period=1, bp_type=kind, flags=flags)


_IOCTL_HINTS = {
    ("PERF_EVENT_IOC_SET_BPF", errno.EEXIST): "another program is attached to the event and this kernel allows one",
    ("PERF_EVENT_IOC_SET_BPF", errno.EINVAL): "the program's type does not fit the event",
    ("PERF_EVENT_IOC_SET_BPF", errno.E2BIG): "64 programs are attached to this tracepoint or probe already",
    ("PERF_EVENT_IOC_SET_BPF", errno.EACCES): "the program reads beyond the event's record",
    ("PERF_EVENT_IOC_SET_FILTER", errno.EINVAL): "a field's name or the expression is wrong; 'harken list -v' shows the fields",
}


def _refused(kernel: Kernel, attr: Attr, pid: int, cpu: int, number: int) -> KernelError:
    what = f"{attr.probe}+{attr.config2:#x}" if attr.probe else f"type {attr.type}, config {attr.config:#x}"
    if number in (errno.EACCES, errno.EPERM):
        from .procfs import sysctl

        level = sysctl(kernel, "kernel.perf_event_paranoid")
        hint = "run as root or with CAP_PERFMON"
        if level is not None:
            hint += f" (kernel.perf_event_paranoid is {level})"
    else:
        hint = {
            errno.ENOENT: "this machine cannot count the event (a virtual machine often has no PMU); 'harken doctor' shows what it can",
            errno.EOPNOTSUPP: "the PMU does not support sampling this event; software:cpu-clock always can",
            errno.ENODEV: "the event's device or CPU is not there",
            errno.ENOSPC: "all hardware breakpoint registers (four on x86) are in use",
            errno.EMFILE: "too many open files: raise the limit with 'ulimit -n'",
            errno.EBUSY: "another user holds the PMU exclusively",
            errno.ESRCH: f"no process has the PID {pid}",
        }.get(number, "")
    return KernelError(
        f"cannot open the perf event ({what}): {os.strerror(number)}",
        call=f"perf_event_open({{type={attr.type}, config={attr.config:#x}}}, {pid}, {cpu}, ...)",
        errno=number,
        hint=hint,
    )
