"""Steps of a call graph from ftrace's records: ``funcgraph_entry``, ``funcgraph_exit`` and whatever stands between them.

The places of the fields come from the event formats, so that kernels with return values (Linux 6.5), return addresses (6.13), arguments
(6.15) and those that sort the fields differently are all read alike (kernel/trace/trace_entries.h).
"""

from __future__ import annotations

import struct
import sys

from ..base.errors import FormatError
from ..formats.function_arguments import MOST
from .function_graph import COMMENT, ENTRY, RETURN, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

    from ..formats.event_format import EventFormat

__all__ = ("ENTRY_EVENTS", "EXIT_EVENT", "Decoder", "steps")

#: Events that start a call, by the names that kernels gave them.
ENTRY_EVENTS = ("funcgraph_entry", "funcgraph_retaddr_entry", "fgraph_retaddr_entry")
EXIT_EVENT = "funcgraph_exit"
_CODES = {1: "b", 2: "h", 4: "i", 8: "q"}
_ADDRESSES = frozenset(("func", "retaddr"))  # which have no sign, whatever a format says


class _Fields:
    """Takes some integer fields out of a record; those that an event lacks are None."""

    def __init__(self, event: EventFormat, names: Sequence[str], order: str) -> None:
        places = {field.name: field for field in event.named}
        found = sorted((places[name].offset, name) for name in names if name in places and places[name].number)
        text, at = order, 0
        kept = []
        for offset, name in found:
            if offset < at:
                raise FormatError(f"event {event.name}", f"the field {name} lies within another")
            code = _CODES[places[name].size]
            text += f"{offset - at}x" * (offset > at) + (code if places[name].signed and name not in _ADDRESSES else code.upper())
            at = offset + places[name].size
            kept.append(name)
        self.need = at
        self.unpack = struct.Struct(text).unpack_from
        #: for each wanted name its place in the tuple
        self.index = {name: kept.index(name) for name in names if name in kept}
        self.tail = places["args"].offset if "args" in places else 0


class Decoder:
    """Makes a ``Step`` of a record.

    Args:
        events: all formats that may be met; those that are not of the graph are passed over.
        order, long_size: of the recorded machine.

    Raises:
        FormatError: a graph event lacks a field that every kernel has.
    """

    def __init__(self, events: Iterable[EventFormat], order: str = "", long_size: int = 8) -> None:
        self.order = order or ("<" if sys.byteorder == "little" else ">")
        self.long_size = long_size
        self._type = struct.Struct(self.order + "H").unpack_from
        self._common = struct.Struct(self.order + "HBBi").unpack_from
        self._kept = {event.id: event for event in events}
        #: event id -> (least size, maker)
        self._makers: dict[int, tuple[int, Callable[[int, int, Any, int, int], Step]]] = {}
        for event in self._kept.values():
            if event.name in ENTRY_EVENTS:
                self._makers[event.id] = self._entry(event)
            elif event.name == EXIT_EVENT:
                self._makers[event.id] = self._exit(event)

    @property
    def ids(self) -> frozenset[int]:
        """The ids of graph events."""
        return frozenset(self._makers)

    def step(self, time: int, cpu: int, data: Any, start: int, size: int) -> Step | None:
        """The step of a record; None if the record is too short to be one."""
        if size < 8:
            return None
        found = self._makers.get(self._type(data, start)[0])
        if found is None:
            kind, flags, preempt, pid = self._common(data, start)
            return Step(time, cpu, pid, COMMENT, flags=flags, preempt=preempt, type=kind, data=bytes(data[start : start + size]))
        return found[1](time, cpu, data, start, size) if size >= found[0] else None

    def columns(self, number: int, buffer: bytes, starts: Any, shortest: int, np: Any) -> tuple[Any, Any, Any, Any, Any] | None:
        """(function, depth, PID, duration, whether they are returns) of records of one graph event as numpy arrays; None if some are short.

        Args:
            starts: where the records begin in ``buffer``; ``shortest`` is the size of the shortest.
        """
        event = self._kept[number]
        returns = event.name == EXIT_EVENT

        def column(name: str, kind: str) -> Any:
            field = event.field(name)
            if field is None or not field.number:
                return None
            code = f"{self.order}{'i' if field.signed and name not in _ADDRESSES else 'u'}{field.size}"
            at = np.ndarray((max(0, len(buffer) - field.size + 1),), dtype=code, buffer=buffer, strides=(1,))
            return at[starts + field.offset].astype(kind)

        if shortest < self._makers[number][0]:
            return None
        found = [column("func", "u8"), column("depth", "i8"), column("common_pid", "i8")]
        begin, end = (column("calltime", "u8"), column("rettime", "u8")) if returns else (None, None)
        if any(values is None for values in found) or (returns and (begin is None or end is None)):
            return None
        duration = end - begin if begin is not None and end is not None else np.zeros(len(starts), dtype="u8")
        return found[0], found[1], found[2], duration, np.full(len(starts), returns, dtype=bool)

    def needs(self, number: int) -> int:
        """Bytes that a record of a graph event has at least."""
        return self._makers[number][0]

    def arguments_at(self, number: int) -> int:
        """Where the arguments begin in a record of a graph event, 0 if it has none."""
        field = self._kept[number].field("args")
        return field.offset if field is not None else 0

    def has(self, name: str) -> bool:
        """Whether any graph event has a field of that name."""
        return any(number in self._makers and event.field(name) is not None for number, event in self._kept.items())

    def _fields(self, event: EventFormat, wanted: str, needed: str) -> _Fields:
        made = _Fields(event, f"common_flags common_preempt_count common_pid {wanted}".split(), self.order)
        for name in f"common_flags common_preempt_count common_pid {needed}".split():
            if name not in made.index:
                raise FormatError(f"event {event.name}", f"no field {name}")
        return made

    def _exit(self, event: EventFormat) -> tuple[int, Callable[[int, int, Any, int, int], Step]]:
        fields = self._fields(event, "func depth calltime rettime overrun retval", "func depth calltime rettime")
        unpack, index = fields.unpack, fields.index
        flags, preempt, pid, func, depth, begin, end = (
            index[name] for name in ("common_flags", "common_preempt_count", "common_pid", "func", "depth", "calltime", "rettime")
        )
        over, value = index.get("overrun", -1), index.get("retval", -1)

        def make(time: int, cpu: int, data: Any, start: int, _size: int) -> Step:
            at = unpack(data, start)
            return Step(
                time,
                cpu,
                at[pid],
                RETURN,
                at[func],
                at[depth],
                at[begin],
                at[end],
                at[over] if over >= 0 else 0,
                at[value] if value >= 0 else None,
                None,
                (),
                at[flags],
                at[preempt],
            )

        return fields.need, make

    def _entry(self, event: EventFormat) -> tuple[int, Callable[[int, int, Any, int, int], Step]]:
        fields = self._fields(event, "func depth retaddr", "func depth")
        unpack, index = fields.unpack, fields.index
        flags, preempt, pid, func, depth = (index[name] for name in ("common_flags", "common_preempt_count", "common_pid", "func", "depth"))
        back, tail, size_of = index.get("retaddr", -1), fields.tail, self.long_size
        layout = self.order + "{}" + ("Q" if size_of == 8 else "I")

        def make(time: int, cpu: int, data: Any, start: int, size: int) -> Step:
            at = unpack(data, start)
            args: tuple[int, ...] = ()
            if tail and size >= tail + size_of:
                args = struct.unpack_from(layout.format(min((size - tail) // size_of, MOST)), data, start + tail)
            return Step(
                time,
                cpu,
                at[pid],
                ENTRY,
                at[func],
                at[depth],
                0,
                0,
                0,
                None,
                at[back] if back >= 0 else None,
                args,
                at[flags],
                at[preempt],
            )

        return fields.need, make


def steps(
    decoder: Decoder, pages: Any, cpu: int, page_size: int, lost: Callable[[int, int], None] | None = None, layout: Any = None
) -> Iterator[Step]:
    """The steps of one CPU's pages.

    Args:
        pages: pages back to back.
        page_size: bytes of each.
        lost: is told (time of the record after the gap, number of lost records or 0 if unknown).
        layout: ``formats.ring_page.Layout`` of the recorded machine.
    """
    from ..formats.ring_page import Layout, parse

    layout = layout or Layout(decoder.order, decoder.long_size, 0, 8, decoder.long_size, 8 + decoder.long_size)
    make = decoder.step
    for base in range(0, len(pages), page_size):
        if len(pages) - base < layout.data:
            return
        page = parse(pages, layout=layout, base=base, size=page_size)
        if page.lost is not None and lost is not None:
            lost(page.records[0][0] if page.records else page.time, page.lost)
        for time, start, size in page.records:
            step = make(time, cpu, pages, start, size)
            if step is not None:
                yield step
