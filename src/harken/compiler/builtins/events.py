"""Events: records that programs send to the session.

A record is a u64 event number, the fields' fixed part, and a tail: strings that may be long, and other values of changing length, lie in
the tail with their real length, found through a u32 in the fixed part (the kernel's ``__data_loc``: length << 16 | offset).  Fields are
written straight into the record that was reserved, not built elsewhere first.
"""

from __future__ import annotations

from ...base.schema import Field, Schema
from ..ir import I32, PTR, Const, Value
from ..unit import GATE, RING, Event
from . import types as T
from .type_fields import field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .code import Code, Val

__all__ = ("Events", "emit", "FIXED_STRING")

#: Strings up to this capacity lie in the fixed part of an event; longer ones go to its tail with their real length.
FIXED_STRING = 64


class Events:
    """The events of one compilation, numbered in the order in which they are first met.

    Attributes:
        events: all of them.
        met: those that were met since this was emptied, also what was met before.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.met: list[Event] = []
        self._ids: dict[Event, int] = {}

    def number(self, event: Event) -> int:
        """The number of an event, which gets one if it has none."""
        self.met.append(event)
        known = self._ids.get(event)
        if known is None:
            known = self._ids[event] = len(self.events)
            self.events.append(event)
        return known


def emit(code: Code, action: str, args: tuple[Any, ...], fields: list[tuple[str, Val]], position: str = "") -> None:
    """Sends one record.

    The IR's ``emit`` stores the event number, and a refusal is counted as ``("ring", event)`` by what the back end makes of it.

    Args:
        action: what the session does with the record (``session.actions``), with its constant ``args``.
        fields: names and values, in order.
        position: where the program says so, "line:column".
    """
    b = code.b
    layout, size, tail = _layout(fields)
    event = code.events.number(Event(action, args, Schema(action, size, tuple(one for _, one, _ in layout)), position))
    record = b.record(RING, size, tail)
    room, full, done = b.block("room"), b.block("full"), b.block("sent")
    b.not_null(record, room, full)
    b.goto(full)
    b.br(done)
    b.goto(room)
    if action == "exit" and GATE in code.module.maps:
        b.store(b.insert("data", (), PTR, (GATE, 0), space="map_value"), Const(1))
    end = 8
    used: Value = Const(0)
    for value, one, dynamic in layout:
        if one.offset > end:
            b.zero(record, one.offset - end, end)
        if dynamic:
            used = _append(code, value, record, one.offset, size, used)
            end = one.offset + 4
        else:
            code.store(value, value.type, record, one.offset)
            end = one.offset + max(one.size, value.type.size)
    if size > end:
        b.zero(record, size - end, end)
    if tail:
        b.emit(record, event, used)
    else:
        b.emit(record, event)
    b.br(done)
    b.goto(done)


def _layout(fields: list[tuple[str, Val]]) -> tuple[list[tuple[Val, Field, bool]], int, int]:
    """(value, field, whether it lies in the tail) of each, the size of the fixed part, and the most that the tail can take."""
    layout: list[tuple[Val, Field, bool]] = []
    offset, tail = 8, 0
    for name, value in fields:
        kind = value.type
        dynamic = kind.kind == "string" and kind.size > FIXED_STRING and value.literal is None
        dynamic = dynamic or (kind.kind == "buf" and value.limit is not None) or value.append is not None
        align = 4 if dynamic else T.align_of(kind)
        offset = (offset + align - 1) // align * align
        if dynamic:
            one = Field(name, offset, "v") if kind.kind == "string" else Field(name, offset, "w", role=kind.kind, detail=kind.detail)
            tail += kind.size
            offset += 4
        else:
            one = field(name, kind, offset)
            offset += max(one.size, kind.size)
        layout.append((value, one, dynamic))
    size = (offset + 7) // 8 * 8
    return layout, size, tail


def _append(code: Code, value: Val, record: Value, offset: int, size: int, used: Value) -> Value:
    """A value of changing length behind the fixed part and the ``used`` bytes of the tail; returns what is used then."""
    b = code.b
    start = b.add(used, Const(size))
    if value.append is not None:
        length = value.append(b.gep(record, start))
        word = b.binary("or", b.binary("shl", length, Const(16)), start)
        b.store(record, b.resize(word, I32, False), offset)
        return b.add(used, length)
    if value.type.kind == "buf":
        assert value.ir is not None and value.limit is not None
        code.read_bytes(b.gep(record, start), value.ir, value.limit)
        word = b.binary("or", b.binary("shl", value.limit, Const(16)), start)
        b.store(record, b.resize(word, I32, False), offset)
        return b.add(used, value.limit)
    if value.fill is not None:
        value = code.spill(value)
    assert value.ir is not None
    got = code.read_str(b.gep(record, start), value.ir, value.type.size, value.limit)
    length = code.text_length(got)
    word = b.binary("or", b.binary("shl", length, Const(16)), start)
    b.store(record, b.resize(word, I32, False), offset)
    return b.add(used, length)
