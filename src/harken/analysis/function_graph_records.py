"""Steps of a call graph from ftrace's records: ``funcgraph_entry``, ``funcgraph_exit`` and whatever stands between them.

The places of the fields come from the event formats, so that kernels with return values (Linux 6.5), return addresses (6.13), arguments
(6.15) and those that sort the fields differently are all read alike (kernel/trace/trace_entries.h).
"""

from __future__ import annotations

import struct
import sys

from ..base.errors import FormatError
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


class _Fields:
    """Takes some integer fields out of a record; those that an event lacks are None."""

    def __init__(self, event: EventFormat, names: Sequence[str], order: str) -> None:
        places = {field.name: field for field in event.fields}
        found = sorted((places[name].offset, name) for name in names if name in places and places[name].size in _CODES)
        text, at = order, 0
        kept = []
        for offset, name in found:
            if offset < at:
                raise FormatError(f"event {event.name}", f"the field {name} lies within another")
            code = _CODES[places[name].size]
            text += f"{offset - at}x" * (offset > at) + (code if places[name].signed else code.upper())
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
        events: all formats that may be met: a mapping with ``get(id)``, or formats.
        order, long_size: of the recorded machine.
    """

    def __init__(self, events: Iterable[EventFormat], order: str = "", long_size: int = 8) -> None:
        self.order = order or ("<" if sys.byteorder == "little" else ">")
        self.long_size = long_size
        self._common = struct.Struct(self.order + "HBBi").unpack_from
        self._entries: dict[int, _Fields] = {}
        self._exits: dict[int, _Fields] = {}
        for event in events:
            if event.name in ENTRY_EVENTS:
                self._entries[event.id] = self._fields(event, "func depth retaddr", "func depth")
            elif event.name == EXIT_EVENT:
                self._exits[event.id] = self._fields(event, "func depth calltime rettime overrun retval", "func depth calltime rettime")

    def _fields(self, event: EventFormat, wanted: str, needed: str) -> _Fields:
        made = _Fields(event, wanted.split(), self.order)
        for name in needed.split():
            if name not in made.index:
                raise FormatError(f"event {event.name}", f"no field {name}")
        return made

    @property
    def ids(self) -> frozenset[int]:
        """The ids of graph events."""
        return frozenset((*self._entries, *self._exits))

    def step(self, time: int, cpu: int, data: Any, start: int, size: int) -> Step | None:
        """The step of a record; None if the record is too short to be one."""
        if size < 8:
            return None
        kind, flags, preempt, pid = self._common(data, start)
        fields = self._exits.get(kind)
        if fields is not None:
            if size < fields.need:
                return None
            values, index = fields.unpack(data, start), fields.index
            over, result = index.get("overrun"), index.get("retval")
            return Step(
                time,
                cpu,
                pid,
                RETURN,
                values[index["func"]],
                values[index["depth"]],
                values[index["calltime"]],
                values[index["rettime"]],
                0 if over is None else values[over],
                None if result is None else values[result],
                flags=flags,
                preempt=preempt,
            )
        fields = self._entries.get(kind)
        if fields is not None:
            if size < fields.need:
                return None
            values, index = fields.unpack(data, start), fields.index
            back = index.get("retaddr")
            args: tuple[int, ...] = ()
            if fields.tail and size >= fields.tail + self.long_size:
                count = (size - fields.tail) // self.long_size
                args = struct.unpack_from(f"{self.order}{count}{'Q' if self.long_size == 8 else 'I'}", data, start + fields.tail)
            return Step(
                time,
                cpu,
                pid,
                ENTRY,
                values[index["func"]],
                values[index["depth"]],
                retaddr=None if back is None else values[back],
                args=args,
                flags=flags,
                preempt=preempt,
            )
        return Step(time, cpu, pid, COMMENT, flags=flags, preempt=preempt, type=kind, data=bytes(data[start : start + size]))


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
