"""Stream: the records that programs send, from the ring to the sink.

A record begins with the number of its event.  The sink makes a function from records to items once per event (``sink``); records of one
event that follow one another at equal distance are taken in bulk.  What nobody understands is counted, not guessed.
"""

from __future__ import annotations

import struct
import time

from .ledger import Loss

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..base.schema import Buffer
    from ..kernel.bpf import Map
    from .session import TraceSession
    from .sink import Bulk, Handler, Sink

__all__ = ("Stream",)

_RINGBUF = 27  # BPF_MAP_TYPE_RINGBUF
#: Pages per CPU of a perf buffer where there is no ring buffer.
_PERF_PAGES = 64
#: Records taken from the ring before what they gave is handed on.
_BATCH = 16384
#: Records of one look at the ring from which on the next look follows at once; milliseconds until then if there were fewer.
_MANY, _REST = 1024, 1
_event_id = struct.Struct("=Q").unpack_from


class Stream:
    """The records of one session.

    Args:
        map: the ring buffer, or the array of perf events where the kernel has no ring buffers.
        pages: pages per CPU of a perf buffer; None for the usual number.
        session: whose ``events`` come; it is told what actions ask for.
        sink: takes the items.

    Attributes:
        fds: readable when records wait.
        silent: ``exit()`` was met, so that what comes is dropped.
    """

    def __init__(self, map: Map, pages: int | None, session: TraceSession, sink: Sink) -> None:
        self._session, self._sink, self._events = session, sink, session.events
        self._ring: Any
        #: records begin at multiples of 8 bytes
        self._aligned = map.type == _RINGBUF
        if self._aligned:
            from ..kernel.ring import RingBuffer

            self._ring = RingBuffer(session.kernel, map)
        else:
            from ..kernel.ring import PerfBuffer

            self._ring = PerfBuffer(session.kernel, map, pages or _PERF_PAGES)
        self.fds: tuple[int, ...] = self._ring.fds
        self.silent = False
        self._unread = 0
        self._handlers: list[Handler] = [self._first(index) for index in range(len(self._events))]
        #: functions for many records at once; False: not asked for yet
        self._bulk: list[Bulk | None | bool] = [False] * len(self._events)

    def close(self) -> None:
        self._ring.close()

    def losses(self) -> list[Loss]:
        """What did not get through, or was not understood."""
        lost = getattr(self._ring, "lost", 0)
        losses = [Loss("perfbuf", "the event buffer", lost)] if lost else []
        return losses + ([Loss("unread", "unknown event or short record", self._unread)] if self._unread else [])

    def drain(self) -> int:
        """Takes a batch of records from the ring and hands what they gave to the sink; returns how many there were."""
        items: list[object] = []
        count = 0
        batches = self._ring.batches(_BATCH)
        try:
            for data, starts in batches:
                count += len(starts)
                if not self._aligned:
                    self._singly(items, data, starts, None)
                else:
                    with data.cast("Q") as words:
                        many = self._many(data, words, starts) if type(starts) is range else None
                        if many is not None:
                            items += many
                        else:
                            self._singly(items, data, starts, words)
                if self._session.exited:
                    break
        finally:
            batches.close()
        if self._session.exited:
            items = self._before_exit(items)
        if None in items:
            items = [item for item in items if item is not None]
        if items:
            self._sink.emit(items)
        return count

    def rest(self, count: int) -> int:
        """Milliseconds for which what comes can wait after a look that found ``count`` records: perf buffers may have few pages."""
        return _REST if self._aligned and count < _MANY else 0

    def settle(self, deadline: float | None) -> None:
        """Takes what is in the ring now.

        Args:
            deadline: on the clock of ``time.monotonic``, if probes go on filling the ring: then to have emptied it once is enough, and
                nothing more is taken after the deadline.  None: nobody fills it any more.
        """
        while True:
            count = self.drain()
            if not count or (deadline is not None and (count < _BATCH or time.monotonic() >= deadline)):
                return

    def _many(self, data: memoryview, words: memoryview, starts: range) -> list[object] | None:
        """The items of records that follow one another at equal distance, if all are of one event that can be taken in bulk."""
        first, step = starts.start >> 3, starts.step >> 3
        with words[first : first + len(starts) * step : step] as column:
            ids = column.tolist()
        index = ids[0]
        if ids.count(index) != len(ids) or index >= len(self._bulk):
            return None
        bulk = self._bulk[index]
        if bulk is False:
            event = self._events[index]
            bulk = self._bulk[index] = self._sink.bulk(event) if event.action in ("printf", "print_value") else None
        try:
            return None if bulk is None else bulk(data, starts)  # type: ignore[operator]
        except (IndexError, struct.error):  # they are shorter than the event's records
            return None

    def _singly(self, items: list[object], data: Buffer, starts: Sequence[int], words: memoryview | None) -> None:
        """Adds the items of records one by one; those that nobody understands are counted.

        Args:
            words: the data as words, if records begin at multiples of 8 bytes.
        """
        handlers, add, left = self._handlers, items.append, iter(starts)
        while True:
            try:
                if words is None:
                    for start in left:
                        add(handlers[_event_id(data, start)[0]](data, start))
                else:
                    for start in left:
                        add(handlers[words[start >> 3]](data, start))
                return
            except (IndexError, struct.error):  # go on behind it: what the others did must not be done twice
                self._unread += 1

    def _before_exit(self, items: list[object]) -> list[object]:
        """What was put out before exit(); later batches are dropped whole."""
        if self.silent:
            return []
        self.silent = True
        from .actions import EXIT

        return items[: items.index(EXIT)] if EXIT in items else items

    def _first(self, index: int) -> Handler:
        """Stands for a handler until the first record comes."""

        def make(buffer: Buffer, start: int) -> object:
            from .actions import handler

            made = self._handlers[index] = handler(self._events[index], self._session)
            return made(buffer, start)

        return make
