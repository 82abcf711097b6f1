"""Records of perf rings as values: samples, and what tells of processes (new mappings, names, threads).

``SampleLayout`` decodes what events of ``kernel.sampling`` write.

Layouts: ``include/uapi/linux/perf_event.h`` (enum perf_event_type).
"""

from __future__ import annotations

from struct import Struct, error, unpack_from

from ..abi import perf_event as abi
from ..base.errors import FormatError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    Event: TypeAlias = "Sample | MappingEvent | CommEvent | TaskEvent"

__all__ = ("Sample", "MappingEvent", "CommEvent", "TaskEvent", "SampleLayout", "ALWAYS")

#: What is sampled always; the order of the record's fields is fixed by the kernel.
ALWAYS = abi.PERF_SAMPLE_IP | abi.PERF_SAMPLE_TID | abi.PERF_SAMPLE_TIME | abi.PERF_SAMPLE_CPU | abi.PERF_SAMPLE_PERIOD
#: Bytes of the fields (pid, tid, time, cpu) at the end of records that are no samples.
_TRAILER = Struct("=IIQII")
_HEAD = Struct("=QIIQIIQ")  # ip, pid, tid, time, cpu, reserved, period
_MMAP2 = Struct("=IIQQQIIQQII")  # pid, tid, addr, len, pgoff, maj, min, ino, generation, prot, flags
_TASK = Struct("=IIIIQ")  # pid, ppid, tid, ptid, time
_CONTEXT = 1 << 64
_CONTEXT_KERNEL, _CONTEXT_USER = _CONTEXT - 128, _CONTEXT - 512  # PERF_CONTEXT_*
_CONTEXT_MAX = _CONTEXT - 4095
_ABI_NONE, _ABI_64 = 0, 2  # PERF_SAMPLE_REGS_ABI_*
_PROT_EXEC = 4


class Sample:
    """One sample.

    Attributes:
        pid, tid: process and thread.
        time: CLOCK_MONOTONIC, in nanoseconds.
        cpu: where it ran.
        ip: the address that was interrupted, in the kernel or in the process.
        period: events since the last sample.
        kernel: the kernel's call chain, innermost first; empty for samples in the process.
        user: the process's call chain by frame pointers, innermost first.
        registers: the process's registers by name; None if there are none (kernel threads, 32-bit processes) or they were not asked for.
        stack: the process's memory from the stack pointer on, as much as there is.
        raw: a tracepoint's record.
        in_kernel: whether ``ip`` is in the kernel.
    """

    __slots__ = ("pid", "tid", "time", "cpu", "ip", "period", "kernel", "user", "registers", "stack", "raw", "in_kernel")

    def __init__(self, pid: int, tid: int, time: int, cpu: int, ip: int, period: int, in_kernel: bool) -> None:
        self.pid, self.tid, self.time, self.cpu, self.ip, self.period, self.in_kernel = pid, tid, time, cpu, ip, period, in_kernel
        self.kernel: tuple[int, ...] = ()
        self.user: tuple[int, ...] = ()
        self.registers: dict[str, int] | None = None
        self.stack: memoryview = _NOTHING
        self.raw: memoryview = _NOTHING

    def __repr__(self) -> str:
        return (
            f"Sample(pid={self.pid}, tid={self.tid}, time={self.time}, cpu={self.cpu}, ip={self.ip:#x}, stack of {len(self.stack)} bytes)"
        )


_NOTHING = memoryview(b"")


class MappingEvent:
    """A process has mapped a file (PERF_RECORD_MMAP2); the fields are those of ``symbols.model.Mapping``, with pid, tid and time."""

    __slots__ = ("pid", "tid", "time", "start", "end", "offset", "path", "inode", "device", "build_id", "executable")

    def __init__(self, pid: int, tid: int, time: int, start: int, end: int, offset: int, path: str) -> None:
        self.pid, self.tid, self.time, self.start, self.end, self.offset, self.path = pid, tid, time, start, end, offset, path
        self.inode, self.device, self.build_id, self.executable = 0, "", "", True


class CommEvent:
    """A thread has a new name; ``exec``: because it runs another program, so that its mappings are gone."""

    __slots__ = ("pid", "tid", "time", "comm", "exec")

    def __init__(self, pid: int, tid: int, time: int, comm: str, exec: bool) -> None:
        self.pid, self.tid, self.time, self.comm, self.exec = pid, tid, time, comm, exec


class TaskEvent:
    """A thread has started (``kind`` "fork": ``parent`` and ``parent_tid`` made it) or ended ("exit")."""

    __slots__ = ("pid", "tid", "time", "parent", "parent_tid", "kind")

    def __init__(self, pid: int, tid: int, time: int, parent: int, parent_tid: int, kind: str) -> None:
        self.pid, self.tid, self.time, self.parent, self.parent_tid, self.kind = pid, tid, time, parent, parent_tid, kind


class SampleLayout:
    """Decodes records of events that ``sampling_attr`` made.

    Example:
        >>> import struct
        >>> layout = SampleLayout(ALWAYS)
        >>> record = struct.pack("=IHHQIIQIIQ", 9, 2, 48, 0x401000, 7, 8, 1000, 1, 0, 5)
        >>> layout.decode(memoryview(record), 0, 48)
        Sample(pid=7, tid=8, time=1000, cpu=1, ip=0x401000, stack of 0 bytes)
    """

    def __init__(self, sample_type: int, registers: Sequence[str] = ()) -> None:
        other = sample_type & ~(
            ALWAYS | abi.PERF_SAMPLE_CALLCHAIN | abi.PERF_SAMPLE_RAW | abi.PERF_SAMPLE_REGS_USER | abi.PERF_SAMPLE_STACK_USER
        )
        if other or sample_type & ALWAYS != ALWAYS:
            raise UsageError(f"samples of the type {sample_type:#x} are not decoded here")
        self._chain = bool(sample_type & abi.PERF_SAMPLE_CALLCHAIN)
        self._raw = bool(sample_type & abi.PERF_SAMPLE_RAW)
        self._registers = bool(sample_type & abi.PERF_SAMPLE_REGS_USER)
        self._stack = bool(sample_type & abi.PERF_SAMPLE_STACK_USER)
        self._names = tuple(registers)
        self._values = Struct(f"={len(self._names)}Q")

    def decode(self, data: memoryview, start: int, size: int) -> Event | None:
        """The record that starts at ``data[start]``; None if it is of no interest.

        Raises:
            FormatError: it does not hold what it should.
        """
        kind, misc = unpack_from("=IH", data, start)
        try:
            if kind == abi.PERF_RECORD_SAMPLE:
                return self._sample(data, start + 8, start + size, misc)
            if size < 8 + _TRAILER.size:
                return None
            time = _TRAILER.unpack_from(data, start + size - _TRAILER.size)[2]
            if kind == abi.PERF_RECORD_MMAP2:
                return _mapping(data, start + 8, start + size - _TRAILER.size, misc, time)
            if kind == abi.PERF_RECORD_COMM:
                pid, tid = unpack_from("=II", data, start + 8)
                comm = _text(data, start + 16, start + size - _TRAILER.size)
                return CommEvent(pid, tid, time, comm, bool(misc & abi.PERF_RECORD_MISC_COMM_EXEC))
            if kind in (abi.PERF_RECORD_FORK, abi.PERF_RECORD_EXIT):
                pid, parent, tid, parent_tid, time = _TASK.unpack_from(data, start + 8)
                return TaskEvent(pid, tid, time, parent, parent_tid, "fork" if kind == abi.PERF_RECORD_FORK else "exit")
        except (IndexError, ValueError, OverflowError, error) as problem:
            raise FormatError("perf ring", f"a record of type {kind} is damaged ({problem})", start) from None
        return None

    def _sample(self, data: memoryview, position: int, end: int, misc: int) -> Sample:
        ip, pid, tid, time, cpu, _, period = _HEAD.unpack_from(data, position)
        cpumode = misc & abi.PERF_RECORD_MISC_CPUMODE_MASK
        sample = Sample(pid, tid, time, cpu, ip, period, cpumode == abi.PERF_RECORD_MISC_KERNEL)
        position += _HEAD.size
        if self._chain:
            (count,) = unpack_from("=Q", data, position)
            position += 8
            if count * 8 > end - position:
                raise ValueError("call chain")
            sample.kernel, sample.user = _chains(unpack_from(f"={count}Q", data, position))
            position += count * 8
        if self._raw:
            (size,) = unpack_from("=I", data, position)
            if size > end - position - 4:
                raise ValueError("raw data")
            sample.raw = data[position + 4 : position + 4 + size]
            position += 4 + size
        if self._registers:
            (mode,) = unpack_from("=Q", data, position)
            position += 8
            if mode != _ABI_NONE:
                values = self._values.unpack_from(data, position)
                if mode == _ABI_64:
                    sample.registers = dict(zip(self._names, values))
                position += self._values.size
        if self._stack:
            (size,) = unpack_from("=Q", data, position)
            position += 8
            if size:
                if size > end - position - 8:
                    raise ValueError("stack")
                (filled,) = unpack_from("=Q", data, position + size)
                sample.stack = data[position : position + min(size, filled)]
        return sample


def _chains(addresses: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The kernel's and the process's part of a call chain; markers part them."""
    if not addresses:
        return (), ()
    kernel: tuple[int, ...] = ()
    user: tuple[int, ...] = ()
    mode, start = 0, 0
    for place, address in enumerate((*addresses, _CONTEXT_MAX)):
        if address >= _CONTEXT_MAX:
            if mode == _CONTEXT_KERNEL:
                kernel += addresses[start:place]
            elif mode == _CONTEXT_USER:
                user += addresses[start:place]
            mode, start = address, place + 1
    return kernel, user


def _mapping(data: memoryview, position: int, end: int, misc: int, time: int) -> MappingEvent:
    pid, tid, start, length, offset, major, minor, inode, _, prot, _ = _MMAP2.unpack_from(data, position)
    found = MappingEvent(pid, tid, time, start, start + length, offset, _text(data, position + _MMAP2.size, end))
    if misc & abi.PERF_RECORD_MISC_MMAP_BUILD_ID:  # size, 3 bytes, 20 bytes in the place of device and inode
        size = min(data[position + 32], 20)
        found.build_id = bytes(data[position + 36 : position + 36 + size]).hex()
    else:
        found.inode, found.device = inode, f"{major:02x}:{minor:02x}"
    found.executable = bool(prot & _PROT_EXEC)
    return found


def _text(data: memoryview, start: int, end: int) -> str:
    return bytes(data[start:end]).split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
