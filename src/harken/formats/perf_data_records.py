"""Records of perf as values: samples, and what tells of processes, lost events and the kernel's own code.

The same records come out of live rings (``kernel.sampling``) and out of files (``perf_data``); where the fields of a sample lie is
``perf_data_layout``'s knowledge.  A record begins with its type (u32), ``misc`` (u16) and size (u16); those that are no samples end with
the fields that identify a sample (``sample_id_all``), which give their time.

Layouts: ``include/uapi/linux/perf_event.h`` (enum perf_event_type).
"""

from __future__ import annotations

from struct import Struct, error

from ..abi import perf_event as abi
from ..base.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    Event: TypeAlias = "Sample | MappingEvent | CommEvent | TaskEvent"
    Other: TypeAlias = "MappingEvent | CommEvent | TaskEvent | LostEvent | SymbolEvent"

__all__ = ("Sample", "MappingEvent", "CommEvent", "TaskEvent", "LostEvent", "SymbolEvent", "RecordReader", "split_chain")

_CONTEXT_KERNEL, _CONTEXT_USER = abi.PERF_CONTEXT_KERNEL, abi.PERF_CONTEXT_USER
#: Addresses from here on are markers of a call chain (include/linux/perf_event.h, PERF_CONTEXT_MAX).
CONTEXT_MAX = (1 << 64) - 4095
_PROT_EXEC = 4
# decoding is most of what a recording of short-lived processes costs: names of modules are looked up, those of constants too
_MMAP, _MMAP2, _COMM, _FORK, _EXIT = (
    abi.PERF_RECORD_MMAP, abi.PERF_RECORD_MMAP2, abi.PERF_RECORD_COMM, abi.PERF_RECORD_FORK, abi.PERF_RECORD_EXIT,
)  # fmt: skip
_MAPPINGS, _TASKS = (_MMAP2, _MMAP), (_FORK, _EXIT)
#: Bytes of records before what may be of any length, and before the trailer.
_LEAST = {
    _MMAP: 40, _MMAP2: 72, _COMM: 16, _FORK: 32, _EXIT: 32, abi.PERF_RECORD_LOST: 24, abi.PERF_RECORD_LOST_SAMPLES: 16,
    abi.PERF_RECORD_KSYMBOL: 24,
}  # fmt: skip
_MODE, _IN_KERNEL, _BUILD_ID = abi.PERF_RECORD_MISC_CPUMODE_MASK, abi.PERF_RECORD_MISC_KERNEL, abi.PERF_RECORD_MISC_MMAP_BUILD_ID
_MAP_HUGETLB = 0x40000
_MAX_TEXT = 4096
_NOTHING = memoryview(b"")


class Sample:
    """One sample.

    Attributes:
        pid, tid: process and thread.
        time: in nanoseconds of the recording's clock (CLOCK_MONOTONIC for live samples).
        cpu: where it ran.
        ip: the address that was interrupted, in the kernel or in the process.
        period: events since the last sample.
        kernel: the kernel's call chain, innermost first; empty for samples in the process.
        user: the process's call chain by frame pointers, innermost first.
        registers: the process's registers by name, with ``bits`` (32) in 32-bit processes of 64-bit kernels; None if there are none (kernel
            threads) or they were not asked for.
        stack: the process's memory from the stack pointer on, as much as there is.
        raw: a tracepoint's record.
        in_kernel: whether ``ip`` is in the kernel.
        more: fields that are rarely sampled, by name (``perf_data_layout.SampleLayout``).
    """

    __slots__ = ("pid", "tid", "time", "cpu", "ip", "period", "kernel", "user", "registers", "stack", "raw", "in_kernel", "more")

    def __init__(self, pid: int, tid: int, time: int, cpu: int, ip: int, period: int, in_kernel: bool) -> None:
        self.pid, self.tid, self.time, self.cpu, self.ip, self.period, self.in_kernel = pid, tid, time, cpu, ip, period, in_kernel
        self.kernel: tuple[int, ...] = ()
        self.user: tuple[int, ...] = ()
        self.registers: dict[str, int] | None = None
        self.stack: memoryview = _NOTHING
        self.raw: memoryview = _NOTHING
        self.more: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return (
            f"Sample(pid={self.pid}, tid={self.tid}, time={self.time}, cpu={self.cpu}, ip={self.ip:#x}, stack of {len(self.stack)} bytes)"
        )


class MappingEvent:
    """A process has mapped a file (PERF_RECORD_MMAP, MMAP2); the fields are those of ``symbols.model.Mapping``, with pid, tid and time.

    ``in_kernel``: the kernel's own image or a module (``pid`` -1).  ``huge``: memory of huge pages, which no file backs.
    ``numbers``: major and minor number of ``device``.
    """

    __slots__ = (
        "pid", "tid", "time", "start", "end", "offset", "path", "inode", "numbers", "build_id", "executable", "in_kernel", "huge",
    )  # fmt: skip

    def __init__(self, pid: int, tid: int, time: int, start: int, end: int, offset: int, path: str) -> None:
        self.pid, self.tid, self.time, self.start, self.end, self.offset, self.path = pid, tid, time, start, end, offset, path
        self.inode, self.build_id, self.executable = 0, "", True
        self.numbers: tuple[int, int] | None = None
        self.in_kernel = self.huge = False

    @property
    def device(self) -> str:
        return f"{self.numbers[0]:02x}:{self.numbers[1]:02x}" if self.numbers is not None else ""


class CommEvent:
    """A thread has a new name; ``exec``: because it runs another program, so that its mappings are gone."""

    __slots__ = ("pid", "tid", "time", "comm", "exec")

    def __init__(self, pid: int, tid: int, time: int, comm: str, exec: bool) -> None:
        self.pid, self.tid, self.time, self.comm, self.exec = pid, tid, time, comm, exec


class TaskEvent:
    """A thread has started (``kind`` "fork": ``parent`` and ``parent_tid`` made it) or ended ("exit").

    ``known``: it ran when the recording began; its mappings are its own, not those of the parent.
    """

    __slots__ = ("pid", "tid", "time", "parent", "parent_tid", "kind", "known")

    def __init__(self, pid: int, tid: int, time: int, parent: int, parent_tid: int, kind: str) -> None:
        self.pid, self.tid, self.time, self.parent, self.parent_tid, self.kind = pid, tid, time, parent, parent_tid, kind
        self.known = False


class LostEvent:
    """``count`` records (PERF_RECORD_LOST) or samples (PERF_RECORD_LOST_SAMPLES, ``samples``) did not fit into a ring."""

    __slots__ = ("time", "count", "samples")

    def __init__(self, time: int, count: int, samples: bool) -> None:
        self.time, self.count, self.samples = time, count, samples


class SymbolEvent:
    """The kernel has made code at run time, or removed it: a BPF program, a trampoline (PERF_RECORD_KSYMBOL)."""

    __slots__ = ("time", "start", "size", "name", "removed")

    def __init__(self, time: int, start: int, size: int, name: str, removed: bool) -> None:
        self.time, self.start, self.size, self.name, self.removed = time, start, size, name, removed


class RecordReader:
    """Decodes records that are no samples.

    Args:
        order: the byte order, "<", ">" or "=".
        trailer: bytes at the end of every record that identify a sample.
        time: where in them its time is, in bytes; -1: they have none.

    Attributes:
        trailer: as above.
        back: words from the time to the end of a record; 0 if there is no time.

    Example:
        >>> import struct
        >>> reader = RecordReader("<", 24, 8)
        >>> record = struct.pack("<IHHIIIIQIIQII", 7, 0, 56, 7, 6, 8, 6, 900, 7, 8, 900, 1, 0)
        >>> event = reader.decode(memoryview(record), 0, 56)
        >>> event.kind, event.pid, event.parent, event.tid, event.time
        ('fork', 7, 6, 8, 900)
    """

    def __init__(self, order: str, trailer: int, time: int) -> None:
        self.trailer, self._time = trailer, time
        self.back = (trailer - time) // 8 if time >= 0 else 0
        self._big = order == ">"
        self._head = Struct(order + "IHH")
        self._u64 = Struct(order + "Q")
        self._pair = Struct(order + "II")
        self._mmap = Struct(order + "8xIIQQQ")  # pid, tid, addr, len, pgoff
        self._mmap2 = Struct(order + "8xIIQQQIIQ8xII")  # ..., maj, min, ino, generation, prot, flags
        self._task = Struct(order + "IIIIQ")  # pid, ppid, tid, ptid, time
        self._ksymbol = Struct(order + "QIHH")  # addr, len, type, flags
        self._texts: dict[bytes, str] = {}

    def time(self, data: Any, start: int, size: int) -> int:
        """When a record that is no sample was written; 0 if it does not tell."""
        if self._time < 0 or size < 8 + self.trailer:
            return 0
        return int(self._u64.unpack_from(data, start + size - self.trailer + self._time)[0])

    def decode(self, data: Any, start: int, size: int) -> Other | None:
        """The record that starts at ``data[start]``; None if it is of no interest.

        Raises:
            FormatError: it does not hold what it should.
        """
        kind, misc, _ = self._head.unpack_from(data, start)
        end = start + size - self.trailer
        body = start + 8
        if end - start < _LEAST.get(kind, 0):
            raise FormatError("perf record", f"a record of type {kind} is damaged ({size} bytes)", start)
        try:
            if kind in _MAPPINGS:
                return self._mapping(data, start, end, kind, misc, self.time(data, start, size))
            if kind == _COMM:
                pid, tid = self._pair.unpack_from(data, body)
                comm = self._text(data, body + 8, end)
                return CommEvent(pid, tid, self.time(data, start, size), comm, bool(misc & abi.PERF_RECORD_MISC_COMM_EXEC))
            if kind in _TASKS:
                pid, parent, tid, parent_tid, time = self._task.unpack_from(data, body)
                task = TaskEvent(pid, tid, time, parent, parent_tid, "fork" if kind == _FORK else "exit")
                task.known = kind == _FORK and bool(misc & abi.PERF_RECORD_MISC_FORK_EXEC)
                return task
            if kind == abi.PERF_RECORD_LOST:
                return LostEvent(self.time(data, start, size), self._u64.unpack_from(data, body + 8)[0], False)
            if kind == abi.PERF_RECORD_LOST_SAMPLES:
                return LostEvent(self.time(data, start, size), self._u64.unpack_from(data, body)[0], True)
            if kind == abi.PERF_RECORD_KSYMBOL:
                address, length, _, flags = self._ksymbol.unpack_from(data, body)
                return SymbolEvent(self.time(data, start, size), address, length, self._text(data, body + 16, end), bool(flags & 1))
        except (IndexError, ValueError, OverflowError, error) as problem:
            raise FormatError("perf record", f"a record of type {kind} is damaged ({problem})", start) from None
        return None

    def _mapping(self, data: Any, at: int, end: int, kind: int, misc: int, time: int) -> MappingEvent:
        if kind == _MMAP:
            pid, tid, start, length, offset = self._mmap.unpack_from(data, at)
            found = MappingEvent(pid, tid, time, start, start + length, offset, self._text(data, at + self._mmap.size, end))
            found.executable = not misc & abi.PERF_RECORD_MISC_MMAP_DATA
        else:
            pid, tid, start, length, offset, major, minor, inode, prot, flags = self._mmap2.unpack_from(data, at)
            found = MappingEvent(pid, tid, time, start, start + length, offset, self._text(data, at + self._mmap2.size, end))
            if misc & _BUILD_ID:  # size, 3 bytes, 20 bytes in the place of device and inode
                size = min(data[at + 40], 20)
                found.build_id = bytes(data[at + 44 : at + 44 + size]).hex()
            else:
                found.inode, found.numbers = inode, (major, minor)
            found.executable, found.huge = bool(prot & _PROT_EXEC), bool(flags & _MAP_HUGETLB)
        found.in_kernel = misc & _MODE == _IN_KERNEL
        return found

    def _text(self, data: Any, start: int, end: int) -> str:
        raw = bytes(data[start:end])
        text = self._texts.get(raw)
        if text is None:
            text = raw[:_MAX_TEXT].split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
            if len(self._texts) < _MAX_TEXT:
                self._texts[raw] = text
        return text


def split_chain(addresses: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The kernel's and the process's part of a call chain; markers part them.

    Example:
        >>> split_chain((abi.PERF_CONTEXT_KERNEL, 1, 2, abi.PERF_CONTEXT_USER, 3))
        ((1, 2), (3,))
    """
    if not addresses:
        return (), ()
    kernel: tuple[int, ...] = ()
    user: tuple[int, ...] = ()
    mode, start = 0, 0
    for place, address in enumerate((*addresses, CONTEXT_MAX)):
        if address >= CONTEXT_MAX:
            if mode == _CONTEXT_KERNEL:
                kernel += addresses[start:place]
            elif mode == _CONTEXT_USER:
                user += addresses[start:place]
            mode, start = address, place + 1
    return kernel, user
