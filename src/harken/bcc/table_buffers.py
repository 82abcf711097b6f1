"""Tables through which programs send events: perf buffers (a ring per CPU) and ring buffers (one ring for all).

A callback gets what BCC's gets: the CPU (or the context object), the record's address, its size.  The record lies in the shared ring and
stays there only until the callback returns; ``event(data)`` gives a copy of it as an object with the struct's members.

An exception in a callback is reported through ``sys.unraisablehook``, as BCC does it, and the next record is delivered; KeyboardInterrupt,
SystemExit and a closed pipe end the poll.
"""

from __future__ import annotations

import ctypes as ct
import errno
import sys
from itertools import repeat
from time import monotonic

from ..base.errors import KernelError
from .memory import address_of
from .table_base import TableBase, failure
from .table_percpu import ArrayBase

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from ..kernel.perf_buffer import PerfBuffer
    from ..kernel.ring import RingBuffer

__all__ = ("PerfEventArray", "PerfReader", "RingBuf", "RingReader")

#: records that one poll takes from a ring before it looks at the others
_TURN = 65536
#: records of one CPU, found at once, that make its ring a busy one
_BUSY = 8
#: seconds between two questions to the kernel how much was lost
_ASK = 0.1


class _Window:
    """The memory that holds the record of the running callback, so that ``event`` can copy from it without a look at each address."""

    __slots__ = ("data", "start", "end")

    def __init__(self) -> None:
        self.data: memoryview | None = None
        self.start = self.end = 0

    def over(self, data: memoryview | None) -> int:
        self.data = data
        self.start = address_of(data) if data is not None else 0
        self.end = self.start + (len(data) if data is not None else 0)
        return self.start


_window = _Window()


class _Unraisable:
    """What ``sys.unraisablehook`` wants to be told."""

    def __init__(self, error: BaseException, source: object) -> None:
        self.exc_type, self.exc_value, self.exc_traceback = type(error), error, error.__traceback__
        self.err_msg, self.object = "Exception ignored in the callback", source


def _failed(error: Exception, callback: object) -> None:
    """Deals with a callback's exception."""
    if isinstance(error, OSError) and error.errno == errno.EPIPE:
        raise SystemExit from None
    sys.unraisablehook(_Unraisable(error, callback))  # type: ignore[arg-type]


def _places(base: int, starts: Sequence[int], length: Callable[[int], int]) -> Iterator[tuple[int, int]]:
    """(address, size) of each record of a batch; without a look at each where all have one size."""
    if type(starts) is range:
        return zip(range(base + starts.start, base + starts.stop, starts.step), repeat(length(starts[0])))
    return iter([(base + start, length(start)) for start in starts])


def _length_before(data: memoryview) -> Callable[[int], int]:
    """The size of a perf buffer's record: the u32 before it."""
    sizes = data.cast("I")
    return lambda start: sizes[(start >> 2) - 1]


class PerfReader:
    """A perf buffer with its callbacks; ``table`` is kept alive by it."""

    table: Any = None

    def __init__(self, buffer: PerfBuffer, callback: Callable[[int, int, int], object], lost_cb: Callable[[int], object] | None) -> None:
        self.buffer = buffer
        self.fds = buffer.fds
        self._callback, self._lost_cb = callback, lost_cb
        self._told: dict[int, int] = {}
        self._asked = 0.0
        #: whether losses may not have been reported yet
        self.unsettled = False

    @property
    def hushed(self) -> bool:
        """Whether records do not wake a poll at once."""
        return self.buffer.hushed

    def rouse(self) -> None:
        """Lets records wake a poll again."""
        self.buffer.rouse()

    def read(self, ask: bool = False) -> int:
        """Hands waiting records to the callback; returns how many there were.

        Rings in which many had come are hushed.

        Args:
            ask: let the kernel count losses now, not only ten times a second.
        """
        callback, buffer, window = self._callback, self.buffer, _window
        count = 0
        busy: dict[int, int] = {}
        try:
            for cpu, data, starts in buffer.by_cpu(_TURN):
                base = window.over(data)
                count += len(starts)
                busy[cpu] = busy.get(cpu, 0) + len(starts)
                waiting = _places(base, starts, _length_before(data))
                while True:
                    try:
                        for address, size in waiting:
                            callback(cpu, address, size)
                        break
                    except Exception as error:
                        _failed(error, callback)
                    except BaseException:
                        # what was not delivered stays for the next poll
                        after = next(waiting, None)
                        if after is not None:
                            buffer.rewind(cpu, after[0] - base)
                        raise
                if buffer.lost_by_cpu != self._told:
                    self._tell()
        finally:
            window.over(None)
        for cpu, records in busy.items():
            if records >= _BUSY:
                buffer.hush(cpu)
        if count:
            self.unsettled = True
        if self._lost_cb is not None:
            now = monotonic()
            if ask or now - self._asked > _ASK:
                self._asked = now
                buffer.count_lost()
        if ask:
            self.unsettled = False
        if buffer.lost_by_cpu != self._told:
            self._tell()
        return count

    def _tell(self) -> None:
        """Reports losses that are new."""
        now = self.buffer.lost_by_cpu
        for cpu, lost in now.items():
            more = lost - self._told.get(cpu, 0)
            if more and self._lost_cb is not None:
                try:
                    self._lost_cb(more)
                except Exception as error:
                    _failed(error, self._lost_cb)
        self._told = now

    def close(self) -> None:
        self.buffer.close()


class RingReader:
    """A ring buffer with its callback; ``table`` is kept alive by it."""

    table: Any = None
    #: as ``PerfReader`` has them: programs count what does not fit, and whether records wake the reader is theirs to say
    hushed = unsettled = False

    def __init__(self, buffer: RingBuffer, callback: Callable[[Any, int, int], object], context: Any) -> None:
        self.buffer = buffer
        self.fds = buffer.fds
        self._callback, self._context = callback, context

    def read(self) -> int:
        """Hands waiting records to the callback until it returns a negative number; returns how many there were."""
        callback, context, buffer, window = self._callback, self._context, self.buffer, _window
        count = 0
        batches = buffer.batches(_TURN)
        try:
            for data, starts in batches:
                base = window.over(data)
                count += len(starts)
                waiting = _places(base, starts, buffer.length)
                while True:
                    try:
                        for address, size in waiting:
                            answer = callback(context, address, size)
                            if type(answer) is int and answer < 0:
                                after = next(waiting, None)
                                if after is not None:
                                    buffer.rewind(after[0] - base)
                                return count
                        break
                    except Exception as error:
                        _failed(error, callback)
                    except BaseException:
                        after = next(waiting, None)
                        if after is not None:
                            buffer.rewind(after[0] - base)
                        raise
        finally:
            batches.close()
            window.over(None)
        return count

    def close(self) -> None:
        self.buffer.close()


class _Events:
    """``event``: a record as an object."""

    if TYPE_CHECKING:
        info: Any

    _event_class: Any = None

    def event(self, data: Any) -> Any:
        """The record at an address (what the callback got), as an instance of the struct that the program submits; a copy.

        Raises:
            Exception: the program submits nothing through this table whose type is known.
        """
        self._find_class()
        return self.event(data)

    def _elsewhere(self, data: Any) -> Any:
        """An event at the end of a ring, or in memory of the script's own."""
        kind, window = self._event_class, _window
        if type(data) is int:
            if window.data is not None and window.start <= data < window.end:
                # the struct may be longer than the record, and this the end of the ring
                part = bytes(window.data[data - window.start :][: ct.sizeof(kind)])
                return kind.from_buffer_copy(part.ljust(ct.sizeof(kind), b"\0"))
            return kind.from_buffer_copy(kind.from_address(data))
        if isinstance(data, (bytes, bytearray, memoryview)):
            return kind.from_buffer_copy(bytes(data).ljust(ct.sizeof(kind), b"\0"))
        return ct.cast(data, ct.POINTER(kind)).contents

    def _find_class(self) -> None:
        """Makes the event class, and puts a function in the method's place that is as short as can be: it runs for every record."""
        if self.info.event is None:
            raise Exception(
                f"the program submits nothing of a known type through {self.info.name!r}: define the data with ctypes and cast to it"
            )
        from .types import ctypes_class

        self._event_class = ctypes_class(self.info.event)
        copy, window, elsewhere = self._event_class.from_buffer_copy, _window, self._elsewhere

        def event(data: Any) -> Any:
            try:
                return copy(window.data, data - window.start)
            except (ValueError, TypeError):
                return elsewhere(data)

        self.event = event  # type: ignore[method-assign]


class PerfEventArray(_Events, ArrayBase):
    """A perf buffer, or an array of counters."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._counters: dict[int, Any] = {}
        self._reader: PerfReader | None = None

    def open_perf_buffer(
        self,
        callback: Callable[[int, int, int], object],
        page_cnt: int = 8,
        lost_cb: Callable[[int], object] | None = None,
        wakeup_events: int = 1,
    ) -> None:
        """Opens a ring per online CPU.

        Args:
            callback: gets CPU, address and size of each record, during ``BPF.perf_buffer_poll``.
            page_cnt: pages of each ring, a power of two.
            lost_cb: gets the number of records that did not fit, when the kernel tells.
            wakeup_events: a poll wakes up after so many records.
        """
        if page_cnt < 1 or page_cnt & (page_cnt - 1):
            raise Exception("Perf buffer page_cnt must be a power of two")
        from ..kernel.perf_buffer import PerfBuffer

        self.close()
        try:
            buffer = PerfBuffer(self.map.kernel, self.map, page_cnt, wakeup_events)
        except KernelError as error:
            raise Exception(f"Could not open perf buffer: {error.message}" + (f" ({error.hint})" if error.hint else "")) from None
        self._reader = PerfReader(buffer, callback, lost_cb)
        self._reader.table = self
        self.bpf.perf_buffers[(id(self), 0)] = self._reader

    def open_perf_event(self, typ: int, config: int) -> None:
        """Makes ``perf_read`` of the program give a counter of the CPU that it runs on.

        Args:
            typ, config: as perf_event_attr has them (``PerfType``, ``PerfHWConfig``, ...).
        """
        from ..kernel.perf_event import Attr, open_event
        from ..kernel.procfs import cpus_online

        for cpu in cpus_online(self.map.kernel):
            try:
                event = open_event(self.map.kernel, Attr(typ, config, flags=()), -1, cpu)
            except KernelError as error:
                raise Exception(f"bpf_open_perf_event failed: {error.message}") from None
            self._counters[cpu] = event
            self[cpu] = event.fd

    def __delitem__(self, key: Any) -> None:
        number = key if isinstance(key, int) else key.value
        event = self._counters.pop(number, None)
        if event is not None:
            self.map.delete(number.to_bytes(4, "little"))
            event.close()

    def clear(self) -> None:
        self.close()

    def close(self) -> None:
        """Gives back the rings and counters."""
        reader, self._reader = self._reader, None
        if reader is not None:
            self.bpf.perf_buffers.pop((id(self), 0), None)
            reader.close()
        for number in list(self._counters):
            del self[number]


class RingBuf(_Events, TableBase):
    """A ring buffer."""

    def open_ring_buffer(self, callback: Callable[[Any, int, int], object], ctx: Any = None) -> None:
        """Opens the ring.

        Args:
            callback: gets ``ctx``, address and size of each record, during ``BPF.ring_buffer_poll``.
            ctx: any object.
        """
        from ..kernel.ring import RingBuffer

        try:
            buffer = RingBuffer(self.map.kernel, self.map)
        except KernelError as error:
            raise Exception(f"Could not open ring buffer: {failure(error)}") from None
        reader = self.bpf._rings[id(self)] = RingReader(buffer, callback, ctx)
        reader.table = self

    def __len__(self) -> int:
        return 0

    def clear(self) -> None:
        """There is nothing to clear."""
