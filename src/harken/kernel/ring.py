"""Readers of the rings through which programs send records: the BPF ring buffer, and the perf buffer of older kernels.

Both have the same small interface:

``fds``
    descriptors to poll; readable when there is something to read.
``consume(handle, limit)``
    calls ``handle(record)`` with a memoryview of each record; returns how many there were.
``batches(limit)``
    the bulk path: yields ``(data, starts)``, a memoryview and the offsets in it at which records start; a ``range`` where records
    of equal length follow one another, so that a reader can take them as columns.
    Records lie in the shared memory itself: nothing is copied, and no object is made per record but its offset.
``lost``
    records that the kernel could not store (perf buffer; a BPF ring buffer refuses at once, so the program counts).
``close()``

What is handed out stays valid only until ``consume``'s handler returns, or the next batch is asked for: then its space belongs to the
kernel again.  Space is given back often (every 1,024 records), so that producers need not wait for a whole ring.

Memory order.  The kernel writes a record, then publishes it with a release store; we must load the position before the record, and finish
with the record before giving its space back.  x86-64 keeps loads, and stores after loads, in order by itself (and CPython never merges
them: each goes through a call of its own).  Other machines need barriers, of which Python has one: taking and releasing a lock, twice.

Facts: ``kernel/bpf/ringbuf.c``, ``include/uapi/linux/perf_event.h`` (PERF_RECORD_SAMPLE, PERF_RECORD_LOST).
"""

from __future__ import annotations

import errno
import os
from mmap import PAGESIZE
from struct import Struct

from ..abi import perf_event as perf
from ..abi.bpf import BPF_RINGBUF_BUSY_BIT, BPF_RINGBUF_DISCARD_BIT, BPF_RINGBUF_HDR_SZ
from ..base.errors import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from typing import Any, Protocol, Self

    from .bpf import Map
    from .kernel import Kernel
    from .perf_event import PerfEvent

    Batches = Generator[tuple[memoryview, Sequence[int]], None, None]

    class Ring(Protocol):
        """What both readers have."""

        fds: tuple[int, ...]

        @property
        def lost(self) -> int: ...
        def consume(self, handle: Callable[[memoryview], object], limit: int = ...) -> int: ...
        def batches(self, limit: int = ...) -> Batches: ...
        def close(self) -> None: ...


__all__ = ("RingBuffer", "PerfBuffer")

#: no limit that matters
_ALL = 1 << 62
#: records after which the space is given back
_CHUNK = 1024
_LENGTH = BPF_RINGBUF_DISCARD_BIT - 1
#: fewest records of one length that are taken as a column; bytes that must wait before one is looked for; batches after a failure
#: in which none is looked for
_ALIKE, _MANY, _FORGET = 16, 1024, 8
#: a perf record is a header of 8 bytes, the u32 size of the raw data, the raw data
_RAW_SIZE, _RAW_HEADER = 4, 12
_U32 = Struct("=I")


class RingBuffer:
    """Reads a BPF_MAP_TYPE_RINGBUF map.

    The map is mapped as the kernel lays it out: the consumer's page (ours), the producer's page (read-only), then the data twice in a
    row, so that a record that wraps around the end is contiguous.

    Args:
        map: the map; the reader does not own it.

    Raises:
        KernelError: the kernel does not map it.
    """

    __slots__ = ("fd", "fds", "_maps", "_position", "_consumer", "_producer", "_data", "_words", "_heads", "_mask", "_mixed", "_barrier")

    def __init__(self, kernel: Kernel, map: Map) -> None:
        self.fd = map.fd
        self.fds = (map.fd,)
        size = map.max_entries
        self._mask = size - 1
        self._maps: list[Any] = []
        try:
            self._maps.append(kernel.mmap(map.fd, PAGESIZE, writable=True))
            self._maps.append(kernel.mmap(map.fd, PAGESIZE + 2 * size, offset=PAGESIZE))
        except OSError as error:
            _close(self._maps)
            raise _not_mapped(map.name, error) from None
        self._consumer = memoryview(self._maps[0]).cast("Q")
        produced = memoryview(self._maps[1])
        self._producer = produced[:8].cast("Q")
        self._data = produced[PAGESIZE:]
        self._words = self._data.cast("Q")
        self._heads = self._data.cast("I")
        self._mixed = 0
        self._position = self._consumer[0]
        self._barrier = _barrier_of(kernel.machine)

    @property
    def lost(self) -> int:
        """Always 0: a full ring buffer refuses in the program, which counts it."""
        return 0

    @property
    def available(self) -> int:
        """Bytes that wait, headers included."""
        return self._producer[0] - self._position

    def consume(self, handle: Callable[[memoryview], object], limit: int = _ALL) -> int:
        """Hands each waiting record to ``handle``.

        Args:
            handle: gets a memoryview of the record, valid until it returns.  If it raises, the record counts as read.
            limit: at most so many records.

        Returns:
            How many records were handed out.
        """
        words = self._words
        count = done = 0
        starts: Sequence[int] = ()
        batches = self.batches(limit)
        try:
            for data, starts in batches:
                done = 0
                for start in starts:
                    done += 1
                    handle(data[start : start + (words[(start >> 3) - 1] & _LENGTH)])
                count += done
        except BaseException:
            # what was not read stays for the next call
            if done < len(starts):
                self._position -= (self._position - (starts[done] - BPF_RINGBUF_HDR_SZ)) & self._mask
            raise
        finally:
            batches.close()
        return count

    def batches(self, limit: int = _ALL) -> Batches:
        """Yields (data, starts) until the ring is empty or ``limit`` records were given.

        A record starts at ``data[start]``; ``length(start)`` tells its size.  The batch's space is given back when the next one is asked
        for or the iterator is closed.
        """
        words, mask = self._words, self._mask
        special, length, chunk = BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT, _LENGTH, range(_CHUNK)
        while limit > 0:
            end = self._producer[0]
            self._barrier()
            position = self._position
            if position >= end:
                return
            starts: Sequence[int] = ()
            if self._mixed:
                self._mixed -= 1
            elif end - position >= _MANY:
                starts = self._alike(position, end, min(limit, _CHUNK))
            if starts:
                position += len(starts) * (starts[1] - starts[0])
            else:
                found: list[int] = []
                starts = found
                add = found.append
                for _ in chunk if limit >= _CHUNK else range(limit):
                    offset = position & mask
                    word = words[offset >> 3]
                    if word & special:
                        if word & BPF_RINGBUF_BUSY_BIT:
                            # reserved and not yet submitted: everything behind it waits
                            break
                    else:
                        add(offset + 8)
                    position += ((word & length) + 15) & -8
                    if position >= end:
                        break
            if position == self._position:
                return
            # the headers were loaded after the position; now the records after their headers
            self._barrier()
            self._position = position
            limit -= len(starts)
            try:
                if starts:
                    yield self._data, starts
            finally:
                # also when the consumer stops early or raises
                self._barrier()
                self._consumer[0] = self._position

    def _alike(self, position: int, end: int, most: int) -> range | tuple[()]:
        """The records from ``position`` on that have one length, if they are many: found by comparing a column of headers at once."""
        heads, offset = self._heads, position & self._mask
        head = heads[offset >> 2]
        step = ((head & _LENGTH) + (BPF_RINGBUF_HDR_SZ + 7)) & ~7
        most = min(most, (end - position) // step)
        if head & ~_LENGTH or most < _ALIKE or heads[(offset + step) >> 2] != head:
            self._mixed = _FORGET
            return ()
        column = heads[offset >> 2 : (offset + most * step) >> 2 : step >> 2].tolist()
        same = most if column.count(head) == most else next(i for i, other in enumerate(column) if other != head)
        if same < _ALIKE:
            self._mixed = _FORGET
            return ()
        first = offset + BPF_RINGBUF_HDR_SZ
        return range(first, first + same * step, step)

    def length(self, start: int) -> int:
        """The size of the record that starts there, in bytes."""
        return self._words[(start >> 3) - 1] & _LENGTH

    def close(self) -> None:
        """Unmaps; more than once does no harm."""
        if self._maps:
            for view in (self._heads, self._words, self._data, self._producer, self._consumer):
                view.release()
            maps, self._maps = self._maps, []
            _close(maps)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


class _CpuRing:
    """One CPU's perf ring: the control page, then ``size`` bytes; ``position`` is where the next record to read begins."""

    __slots__ = ("event", "map", "head", "tail", "data", "size", "position")

    def __init__(self, event: PerfEvent, map: Any, size: int) -> None:
        self.event = event
        self.map = map
        self.size = size
        view = memoryview(map)
        self.head = view[perf.MMAP_PAGE["data_head"][0] :][:8].cast("Q")
        self.tail = view[perf.MMAP_PAGE["data_tail"][0] :][:8].cast("Q")
        self.data = view[PAGESIZE : PAGESIZE + size]
        self.position = self.tail[0]

    def close(self) -> None:
        for view in (self.head, self.tail, self.data):
            view.release()
        _close([self.map])
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

    __slots__ = ("fds", "_kernel", "_map", "_rings", "_lost", "_barrier", "_next")

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
        self._rings: dict[int, _CpuRing] = {}
        self._lost: dict[int, int] = {}
        self._barrier = _barrier_of(kernel.machine)
        self._next = 0
        size = pages * PAGESIZE
        try:
            for cpu in cpus_online(kernel):
                event = open_event(kernel, attr, pid=-1, cpu=cpu)
                try:
                    memory = kernel.mmap(event.fd, PAGESIZE + size, writable=True)
                except OSError as error:
                    event.close()
                    raise _not_mapped(map.name, error) from None
                self._rings[cpu] = _CpuRing(event, memory, size)
                event.enable()
                map.update(cpu.to_bytes(4, "little"), event.fd.to_bytes(4, "little"))
        except BaseException:
            self.close()
            raise
        self.fds = tuple([ring.event.fd for ring in self._rings.values()])

    @property
    def lost(self) -> int:
        """Records that did not fit, as far as the kernel has told (it tells with the next record that fits)."""
        return sum(self._lost.values())

    @property
    def lost_by_cpu(self) -> dict[int, int]:
        """CPU -> lost records, CPUs without loss left out."""
        return dict(self._lost)

    def consume(self, handle: Callable[[memoryview], object], limit: int = _ALL) -> int:
        """Hands each waiting record to ``handle``; see ``RingBuffer.consume``."""
        count = 0
        size_at = _U32.unpack_from
        for ring, batches in self._readers(limit):
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
                    ring.position -= (ring.position - (starts[done] - _RAW_HEADER)) & (ring.size - 1)
                raise
            finally:
                batches.close()
            if count >= limit:
                break
        return count

    def batches(self, limit: int = _ALL) -> Batches:
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

    def _readers(self, limit: int) -> Iterator[tuple[_CpuRing, Batches]]:
        order = list(self._rings.items())
        # do not always favour the same CPU when a limit cuts in
        turn = self._next % len(order) if order else 0
        self._next += 1
        for cpu, ring in order[turn:] + order[:turn]:
            if ring.position < ring.head[0]:
                yield ring, self._read(cpu, ring, limit)

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
                starts: list[int] = []
                wrapped = b""
                room = min(limit, _CHUNK)
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
                            if not starts:
                                wrapped = bytes(data[offset:]) + bytes(data[: offset + length - size])
                                tail += length
                            break
                        starts.append(offset + _RAW_HEADER)
                        room -= 1
                    elif kind == perf.PERF_RECORD_LOST:
                        if starts:
                            # it begins the next batch, so that it is counted once whatever happens to this one
                            break
                        # u64 id, u64 number of lost records
                        self._lost[cpu] = self._lost.get(cpu, 0) + words[((offset + 16) & mask) >> 3]
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


def _no_barrier() -> None:
    """For machines that keep loads in order."""


def _barrier_of(machine: str) -> Callable[[], None]:
    if machine == "x86_64":
        return _no_barrier
    from _thread import allocate_lock

    lock = allocate_lock()

    def barrier() -> None:
        # an earlier load stays before the first release, the release before the second acquire, and that before later loads
        with lock:
            pass
        with lock:
            pass

    return barrier


def _close(maps: list[Any]) -> None:
    for map in maps:
        try:
            map.close()
        except BufferError:
            # somebody kept a record's memoryview: the mapping goes away with it
            pass


def _not_mapped(name: str, error: OSError) -> KernelError:
    hint = ""
    if error.errno == errno.EPERM:
        hint = "the buffers of this user may not exceed kernel.perf_event_mlock_kb and the locked memory limit (ulimit -l): use fewer pages"
    elif error.errno == errno.ENOMEM:
        hint = "make the buffer smaller"
    number = error.errno or 0
    return KernelError(f"cannot map the ring {name!r}: {os.strerror(number).lower()}", call="mmap()", errno=number, hint=hint)
