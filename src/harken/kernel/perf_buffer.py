"""The perf buffer: how programs send records to user space before Linux 5.8, and where a map must not be shared between CPUs.

See ``kernel.ring`` for the interface that it shares with the BPF ring buffer.

An event that wakes its reader does so for every record, whether anybody sleeps or not: an interrupt that the writer sends to its own CPU
(``perf_output_wakeup``, kernel/events/ring_buffer.c), and in a virtual machine half of what a record costs.  Whether it does cannot be
changed once the event is there.  So a busy ring gets a second event, which wakes only when half of the ring is full and writes into the
same ring (PERF_EVENT_IOC_SET_OUTPUT), and ``hush`` and ``rouse`` put the one or the other into the map.
"""

from __future__ import annotations

import errno
from mmap import PAGESIZE
from struct import Struct

from ..abi import perf_event as perf
from ..base.errors import KernelError
from .ring import ALL, CHUNK, barrier_of, close_maps, not_mapped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from typing import Any, Self

    from .bpf import Map
    from .kernel import Kernel
    from .perf_event import PerfEvent
    from .ring import Batches

__all__ = ("PerfBuffer",)

#: a perf record is a header of 8 bytes, the u32 size of the raw data, the raw data
_RAW_SIZE, _RAW_HEADER = 4, 12
_U32 = Struct("=I")
#: records of one length: more than so many are compared as a column; more than so many make a batch
_ALIKE, _ALONE = 4, 16
#: PERF_FORMAT_LOST
_LOST = 1 << 4


class _CpuRing:
    """One CPU's perf ring: the control page, then ``size`` bytes; ``position`` is where the next record to read begins."""

    __slots__ = ("event", "quiet", "hushed", "counts", "map", "head", "tail", "data", "size", "position", "told")

    def __init__(self, event: PerfEvent, map: Any, size: int, counts: bool = False) -> None:
        self.event = event
        #: the event that does not wake, once it was needed; None also if the kernel gave none
        self.quiet: PerfEvent | None = None
        #: whether it is the one in the map; None: never, the kernel did not give it
        self.hushed: bool | None = False
        self.counts = counts
        self.map = map
        self.size = size
        view = memoryview(map)
        self.head = view[perf.MMAP_PAGE["data_head"][0] :][:8].cast("Q")
        self.tail = view[perf.MMAP_PAGE["data_tail"][0] :][:8].cast("Q")
        self.data = view[PAGESIZE : PAGESIZE + size]
        self.position = self.tail[0]
        #: losses that records in the ring told of
        self.told = 0

    def close(self) -> None:
        close_maps([self.map], (self.head, self.tail, self.data))
        if self.quiet is not None:
            self.quiet.close()
        self.event.close()


class PerfBuffer:
    """Reads a BPF_MAP_TYPE_PERF_EVENT_ARRAY map, to which programs write with bpf_perf_event_output(..., BPF_F_CURRENT_CPU, ...).

    One ring per online CPU.  Records of one CPU come in order, CPUs one after the other.  A record's memoryview is up to 7 bytes longer
    than what the program wrote (the kernel pads), and starts at an address that is a multiple of 4.

    Args:
        map: the map; the reader does not own it, but puts its descriptors into it and takes them out at ``close``.
        pages: size of each ring in pages, a power of two.
        wakeup: the descriptors become readable after so many records.

    Raises:
        KernelError: the kernel gives no event or no memory.
    """

    __slots__ = ("fds", "hushed", "size", "_attr", "_kernel", "_map", "_rings", "_lost", "_barrier", "_next")

    def __init__(self, kernel: Kernel, map: Map, pages: int = 64, wakeup: int = 1) -> None:
        from .perf_event import Attr, open_event
        from .procfs import cpus_online

        if pages < 1 or pages & (pages - 1):
            raise KernelError(f"a perf buffer has a power of two of pages, not {pages}", errno=errno.EINVAL)
        attr = Attr(
            perf.PERF_TYPE_SOFTWARE,
            perf.PERF_COUNT_SW_BPF_OUTPUT,
            period=1,
            sample_type=perf.PERF_SAMPLE_RAW,
            flags=(),
            wakeup=wakeup,
        )
        self._kernel = kernel
        self._map = map
        self._attr = attr
        #: whether a ring is hushed
        self.hushed = False
        self._rings: dict[int, _CpuRing] = {}
        self._lost: dict[int, int] = {}
        self._barrier = barrier_of(kernel.machine)
        self._next = 0
        #: bytes of each CPU's ring
        self.size = size = pages * PAGESIZE
        counts = True
        try:
            for cpu in cpus_online(kernel):
                try:
                    event = open_event(kernel, attr.replace(read_format=_LOST) if counts else attr, pid=-1, cpu=cpu)
                except KernelError as error:
                    if not counts or error.errno != errno.EINVAL:
                        raise
                    counts = False  # the kernel does not count losses by event
                    event = open_event(kernel, attr, pid=-1, cpu=cpu)
                try:
                    memory = kernel.mmap(event.fd, PAGESIZE + size, writable=True)
                except OSError as error:
                    event.close()
                    raise not_mapped(map.name, error) from None
                self._rings[cpu] = _CpuRing(event, memory, size, counts)
                event.enable()
                map.update(cpu.to_bytes(4, "little"), event.fd.to_bytes(4, "little"))
        except BaseException:
            self.close()
            raise
        self.fds = tuple([ring.event.fd for ring in self._rings.values()])

    @property
    def lost(self) -> int:
        """Records that did not fit, as far as the kernel has told: it tells with the next record that fits, or when ``count_lost`` asks."""
        return sum(self._lost.values())

    def count_lost(self) -> int:
        """Asks the kernel for the number of lost records (PERF_FORMAT_LOST, Linux 6.0; commit 119a784c8127), and returns ``lost``."""
        for cpu, ring in self._rings.items():
            if ring.counts:
                lost = sum([event.read(2)[1] for event in (ring.event, ring.quiet) if event is not None])
                if lost > self._lost.get(cpu, 0):
                    self._lost[cpu] = lost
        return self.lost

    @property
    def lost_by_cpu(self) -> dict[int, int]:
        """CPU -> lost records, CPUs without loss left out."""
        return dict(self._lost)

    def consume(self, handle: Callable[[memoryview], object], limit: int = ALL) -> int:
        """Hands each waiting record to ``handle``; see ``RingBuffer.consume``."""
        count = 0
        size_at = _U32.unpack_from
        for cpu, batches in self._readers(limit):
            done = 0
            starts: Sequence[int] = ()
            try:
                for data, starts in batches:
                    done = 0
                    for start in starts:
                        done += 1
                        handle(data[start : start + size_at(data, start - _RAW_SIZE)[0]])
                    count += done
            except BaseException:
                # what was not read stays for the next call
                if done < len(starts):
                    self.rewind(cpu, starts[done])
                raise
            finally:
                batches.close()
            if count >= limit:
                break
        return count

    def batches(self, limit: int = ALL) -> Batches:
        """Yields (data, starts); see ``RingBuffer.batches``.  A record that wraps around the end of its ring comes alone, as a copy.

        The u32 before a record is its length.
        """
        for _, batches in self._readers(limit):
            try:
                for data, starts in batches:
                    yield data, starts
                    limit -= len(starts)
            finally:
                batches.close()
            if limit <= 0:
                return

    def by_cpu(self, limit: int = ALL) -> Generator[tuple[int, memoryview, Sequence[int]], None, None]:
        """Yields (CPU, data, starts) as ``batches`` does, at most ``limit`` records of each CPU.

        Losses that the kernel told of before a batch's first record are in ``lost_by_cpu`` when it comes.
        """
        for cpu, batches in self._readers(limit):
            try:
                for data, starts in batches:
                    yield cpu, data, starts
            finally:
                batches.close()

    def rewind(self, cpu: int, start: int) -> None:
        """Leaves a CPU's record at ``start``, and those behind it, for the next call; only while their batch is the current one."""
        ring = self._rings[cpu]
        ring.position -= (ring.position - (start - _RAW_HEADER)) & (ring.size - 1)

    def hush(self, cpu: int) -> None:
        """Lets what a CPU's programs write wake nobody until half of the ring is full; ``rouse`` before a wait that has no end.

        Where the kernel refuses, everything stays as it was.
        """
        ring = self._rings[cpu]
        if ring.hushed is not False:
            return
        ring.hushed = None
        try:
            if ring.quiet is None:
                from .perf_event import open_event

                attr = self._attr.replace(wakeup=0, read_format=_LOST if ring.counts else 0)
                ring.quiet = open_event(self._kernel, attr, pid=-1, cpu=cpu)
                ring.quiet.set_output(ring.event)
                ring.quiet.enable()
            self._map.update(cpu.to_bytes(4, "little"), ring.quiet.fd.to_bytes(4, "little"))
        except KernelError:
            return
        ring.hushed = self.hushed = True

    def rouse(self) -> None:
        """Lets records wake the reader again.

        A program that runs at this moment may still write without waking: whoever goes to sleep looks once more after a while.
        """
        if self.hushed:
            self.hushed = False
            for cpu, ring in self._rings.items():
                if ring.hushed:
                    self._map.update(cpu.to_bytes(4, "little"), ring.event.fd.to_bytes(4, "little"))
                    ring.hushed = False

    def _readers(self, limit: int) -> Iterator[tuple[int, Batches]]:
        order = list(self._rings.items())
        # do not always favour the same CPU when a limit cuts in
        turn = self._next % len(order) if order else 0
        self._next += 1
        for cpu, ring in order[turn:] + order[:turn]:
            if ring.position < ring.head[0]:
                yield cpu, self._read(cpu, ring, limit)

    def _read(self, cpu: int, ring: _CpuRing, limit: int) -> Batches:
        data, size = ring.data, ring.size
        mask = size - 1
        words = data.cast("Q")
        try:
            while limit > 0:
                head = ring.head[0]
                self._barrier()
                tail = ring.position
                if tail >= head:
                    return
                found: list[int] = []
                starts: Sequence[int] = found
                wrapped = b""
                room = min(limit, CHUNK)
                while tail < head and room:
                    offset = tail & mask
                    # u32 type, u16 misc, u16 size; records are multiples of 8 bytes, so the header never wraps
                    header = words[offset >> 3]
                    length = header >> 48
                    if length < 8 or tail + length > head:
                        raise KernelError(f"the perf ring of CPU {cpu} is damaged", errno=errno.EIO)
                    kind = header & 0xFFFFFFFF
                    if kind == perf.PERF_RECORD_SAMPLE:
                        if offset + length > size:
                            if not found:
                                wrapped = bytes(data[offset:]) + bytes(data[: offset + length - size])
                                tail += length
                            break
                        same = 1
                        # records of one length follow one another most of the time: their headers are compared as a column
                        most = min(room, (head - tail) // length, (size - offset) // length)
                        if most > _ALIKE:
                            first, step = offset >> 3, length >> 3
                            column = words[first : first + most * step : step].tolist()
                            same = most if column.count(header) == most else next(i for i, other in enumerate(column) if other != header)
                        run = range(offset + _RAW_HEADER, offset + length * same + _RAW_HEADER, length)
                        tail += length * same
                        if same > _ALONE and not found:
                            # a batch of its own, as a column
                            starts = run
                            break
                        found += run
                        room -= same
                        continue
                    if kind == perf.PERF_RECORD_LOST:
                        if found:
                            # it begins the next batch, so that it is counted once whatever happens to this one
                            break
                        # u64 id, u64 number of lost records
                        ring.told += words[((offset + 16) & mask) >> 3]
                        self._lost[cpu] = max(self._lost.get(cpu, 0), ring.told)
                    tail += length
                ring.position = tail
                limit -= len(starts) + bool(wrapped)
                try:
                    if wrapped:
                        yield memoryview(wrapped), [_RAW_HEADER]
                    elif starts:
                        yield data, starts
                finally:
                    self._barrier()
                    ring.tail[0] = ring.position
        finally:
            words.release()

    def close(self) -> None:
        """Takes the rings out of the map and gives them back; more than once does no harm."""
        rings, self._rings = self._rings, {}
        for cpu, ring in rings.items():
            if self._map.fd >= 0:
                try:
                    self._map.delete(cpu.to_bytes(4, "little"))
                except KernelError:
                    # the map may be gone or frozen already: closing the event is enough
                    pass
            ring.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
