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

from ..abi.bpf import BPF_RINGBUF_BUSY_BIT, BPF_RINGBUF_DISCARD_BIT, BPF_RINGBUF_HDR_SZ
from ..base.errors import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from typing import Any, Protocol, Self

    from .bpf import Map
    from .kernel import Kernel
    from .perf_buffer import PerfBuffer

    Batches = Generator[tuple[memoryview, Sequence[int]], None, None]

    class Ring(Protocol):
        """What both readers have."""

        fds: tuple[int, ...]

        @property
        def lost(self) -> int: ...
        def consume(self, handle: Callable[[memoryview], object], limit: int = ...) -> int: ...
        def batches(self, limit: int = ...) -> Batches: ...
        def close(self) -> None: ...


__all__ = ("PerfBuffer", "RingBuffer")

#: no limit that matters
ALL = 1 << 62
#: records after which the space is given back
CHUNK = 1024
_LENGTH = BPF_RINGBUF_DISCARD_BIT - 1
#: fewest records of one length that are taken as a column; bytes that must wait before one is looked for; batches after a failure
#: in which none is looked for
_ALIKE, _MANY, _FORGET = 16, 1024, 8


class RingBuffer:
    """Reads a BPF_MAP_TYPE_RINGBUF map.

    The map is mapped as the kernel lays it out: the consumer's page (ours), the producer's page (read-only), then the data twice in a
    row, so that a record that wraps around the end is contiguous.

    Args:
        map: the map; the reader does not own it.

    Raises:
        KernelError: the kernel does not map it.
    """

    __slots__ = (
        "fd",
        "fds",
        "size",
        "_maps",
        "_position",
        "_consumer",
        "_producer",
        "_data",
        "_words",
        "_heads",
        "_mask",
        "_mixed",
        "_barrier",
    )

    def __init__(self, kernel: Kernel, map: Map) -> None:
        self.fd = map.fd
        self.fds = (map.fd,)
        #: bytes of the ring
        self.size = size = map.max_entries
        self._mask = size - 1
        self._maps: list[Any] = []
        try:
            self._maps.append(kernel.mmap(map.fd, PAGESIZE, writable=True))
            self._maps.append(kernel.mmap(map.fd, PAGESIZE + 2 * size, offset=PAGESIZE))
        except OSError as error:
            close_maps(self._maps)
            raise not_mapped(map.name, error) from None
        self._consumer = memoryview(self._maps[0]).cast("Q")
        produced = memoryview(self._maps[1])
        self._producer = produced[:8].cast("Q")
        self._data = produced[PAGESIZE:]
        self._words = self._data.cast("Q")
        self._heads = self._data.cast("I")
        self._mixed = 0
        self._position = self._consumer[0]
        self._barrier = barrier_of(kernel.machine)

    @property
    def lost(self) -> int:
        """Always 0: a full ring buffer refuses in the program, which counts it."""
        return 0

    @property
    def available(self) -> int:
        """Bytes that wait, headers included."""
        return self._producer[0] - self._position

    def consume(self, handle: Callable[[memoryview], object], limit: int = ALL) -> int:
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
                self.rewind(starts[done])
            raise
        finally:
            batches.close()
        return count

    def batches(self, limit: int = ALL) -> Batches:
        """Yields (data, starts) until the ring is empty or ``limit`` records were given.

        A record starts at ``data[start]``; ``length(start)`` tells its size.  The batch's space is given back when the next one is asked
        for or the iterator is closed.
        """
        words, mask = self._words, self._mask
        special, length, chunk = BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT, _LENGTH, range(CHUNK)
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
                starts = self._alike(position, end, min(limit, CHUNK))
            if starts:
                position += len(starts) * (starts[1] - starts[0])
            else:
                found: list[int] = []
                starts = found
                add = found.append
                for _ in chunk if limit >= CHUNK else range(limit):
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

    def rewind(self, start: int) -> None:
        """Leaves the record at ``start``, and those behind it, for the next call; only while their batch is the current one."""
        self._position -= (self._position - (start - BPF_RINGBUF_HDR_SZ)) & self._mask

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
            maps, self._maps = self._maps, []
            close_maps(maps, (self._heads, self._words, self._data, self._producer, self._consumer))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def __getattr__(name: str) -> Any:
    """``PerfBuffer`` is imported when it is asked for: kernels since 5.8 do not need it."""
    if name == "PerfBuffer":
        from .perf_buffer import PerfBuffer

        return PerfBuffer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _no_barrier() -> None:
    """For machines that keep loads in order."""


def barrier_of(machine: str) -> Callable[[], None]:
    """What keeps loads in order on a machine."""
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


def close_maps(maps: list[Any], views: tuple[memoryview, ...] = ()) -> None:
    """Unmaps; what somebody still looks at stays mapped until the last view of it goes.

    Args:
        views: our own ones, released first; a record that a callback made an object of, and which lives on (in the traceback of an
            interrupt, say), holds one.
    """
    for view in views:
        try:
            view.release()
        except BufferError:
            pass
    for map in maps:
        try:
            map.close()
        except BufferError:
            pass


def not_mapped(name: str, error: OSError) -> KernelError:
    """The error for a ring that the kernel does not map."""
    hint = ""
    if error.errno == errno.EPERM:
        hint = "the buffers of this user may not exceed kernel.perf_event_mlock_kb and the locked memory limit (ulimit -l): use fewer pages"
    elif error.errno == errno.ENOMEM:
        hint = "make the buffer smaller"
    number = error.errno or 0
    return KernelError(f"cannot map the ring {name!r}: {os.strerror(number).lower()}", call="mmap()", errno=number, hint=hint)
