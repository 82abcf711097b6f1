"""Loads whose result is known: what was just stored, or loaded, at the same place.

Besides saving instructions it is what makes bounds hold: ``if (p->n < 8) p->array[p->n] = x`` reads ``p->n`` twice, and the verifier knows
only of the value in one register that it was compared.  Only memory that programs read directly is considered, along chains of blocks that
are entered from one place.
"""

from __future__ import annotations

from ..ir import PURE, Block, Const, Function, Inst, Value, int_type
from .cfg import replace_values
from .dead import base_of
from .simplify import IDLE_HELPERS

__all__ = ("forward_loads",)

_DIRECT = frozenset(("stack", "map_value", "map_key", "ring"))
#: where pointers lead that helpers do not write through, or not to memory of the program
_NOT_OURS = frozenset(("map", "ctx", "kernel", "user", "btf"))
#: at most so many places are remembered at a time
_MOST = 48
#: operations on maps that do not change what values hold
_READS = frozenset(("lookup", "record", "count_loss"))
#: calls that may reach any memory of the program through pointers they are not given
_FOLLOWS = frozenset(("call", "loop", "for_each", "kfunc", "tail_call"))

_Place = tuple[Value, int, int, bool]


def _offset(pointer: Value) -> int | None:
    total = 0
    while isinstance(pointer, Inst) and pointer.op in ("gep", "field"):
        if pointer.op == "field":
            total += pointer.attr.offset
        elif type(pointer.args[1]) is Const:
            total += pointer.args[1].signed
        else:
            return None
        pointer = pointer.args[0]
    return total


def _apart(a: Value, b: Value) -> bool:
    """Whether two bases surely lead to different memory."""
    if isinstance(a, Inst) and isinstance(b, Inst) and a.op == b.op == "alloca":
        return a is not b
    return bool(a.space and b.space and a.space != b.space and a.space in _DIRECT and b.space in _DIRECT)


class _Known:
    """What memory holds at a point of the program: (base, offset, size, is pointer) -> value, and ranges of zeros."""

    __slots__ = ("values", "zeros")

    def __init__(self, other: _Known | None = None) -> None:
        self.values: dict[_Place, Value] = dict(other.values) if other is not None else {}
        self.zeros: list[tuple[Value, int, int]] = list(other.zeros) if other is not None else []

    def forget(self, base: Value | None, offset: int | None = None, size: int = 0) -> None:
        """Something was written: at a range of a base, anywhere in it (``offset`` None), or anywhere (``base`` None)."""
        if base is None:
            self.values.clear()
            self.zeros.clear()
            return

        def hit(other: Value, at: int, length: int) -> bool:
            if other is not base:
                return not _apart(other, base)
            return offset is None or (at < offset + size and offset < at + length)

        if self.values:
            self.values = {place: value for place, value in self.values.items() if not hit(place[0], place[1], place[2])}
        if self.zeros:
            kept: list[tuple[Value, int, int]] = []
            for area in self.zeros:
                other, begin, length = area
                if not hit(other, begin, length):
                    kept.append(area)
                elif other is base and offset is not None:
                    kept += [
                        part
                        for part in ((other, begin, offset - begin), (other, offset + size, begin + length - offset - size))
                        if part[2] > 0
                    ]
            self.zeros = kept

    def put(self, place: _Place, value: Value) -> None:
        if len(self.values) >= _MOST:
            del self.values[next(iter(self.values))]
        self.values[place] = value

    def get(self, place: _Place) -> Value | None:
        found = self.values.get(place)
        if found is None and not place[3]:
            base, offset, size, _ = place
            for other, begin, length in self.zeros:
                if other is base and begin <= offset and offset + size <= begin + length:
                    return Const(0, int_type(size))
        return found


def _write(known: _Known, pointer: Value, offset: int, size: int) -> None:
    distance = _offset(pointer)
    known.forget(base_of(pointer), None if distance is None else distance + offset, size)


def _effect(inst: Inst, known: _Known) -> None:
    """Forgets what an operation may change."""
    op = inst.op
    if op in PURE or op in _READS or op in ("alloca", "phi", "load", "br", "condbr", "switch", "ret", "unreachable"):
        return
    if op == "zero":
        offset, size = inst.attr
        _write(known, inst.args[0], offset, size)
        distance = _offset(inst.args[0])
        if distance is not None and size > 0 and len(known.zeros) < _MOST:
            known.zeros.append((base_of(inst.args[0]), distance + offset, size))
        return
    if op == "copy":
        to_offset, _, size = inst.attr
        _write(known, inst.args[0], to_offset, size)
        return
    if op == "read_str":
        known.forget(base_of(inst.args[0]))
        return
    if op == "atomic":
        _write(known, inst.args[0], inst.attr[1], inst.args[1].type.size)
        return
    if op == "helper" and inst.attr in IDLE_HELPERS:
        return
    if op in _FOLLOWS or (op == "helper" and inst.attr in ("loop", "for_each_map_elem", "tail_call")):
        known.forget(None)
        return
    # the kernel may write what it was given, and the values of maps
    for arg in inst.args:
        if arg.type.pointer and arg.space not in _NOT_OURS:
            known.forget(base_of(arg))
    known.values = {place: value for place, value in known.values.items() if place[0].space == "stack"}
    known.zeros = [area for area in known.zeros if area[0].space == "stack"]


def forward_loads(function: Function) -> bool:
    """Replaces loads of known contents, in place; true if there were some."""
    before = function.predecessors()
    new: dict[Value, Value] = {}
    start = function.blocks[0]
    work: list[tuple[Block, _Known]] = [(block, _Known()) for block in function.blocks if block is start or len(before[block]) != 1]
    while work:
        block, known = work.pop()
        keep: list[Inst] = []
        for inst in block.insts:
            op = inst.op
            if op == "load":
                pointer = inst.args[0]
                distance = _offset(pointer)
                base = base_of(pointer)
                if distance is not None and base.space in _DIRECT and pointer.space in _DIRECT:
                    place = (base, distance + inst.attr, inst.type.size, inst.type.pointer)
                    found = known.get(place)
                    if found is not None and found.type.bits == inst.type.bits:
                        new[inst] = new.get(found, found)
                        continue
                    known.put(place, inst)
            elif op == "store":
                pointer, value = inst.args
                size = value.type.size
                _write(known, pointer, inst.attr, size)
                distance = _offset(pointer)
                base = base_of(pointer)
                if distance is not None and base.space in _DIRECT and value.type.bits >= 8:
                    known.put((base, distance + inst.attr, size, value.type.pointer), value)
            else:
                _effect(inst, known)
            keep.append(inst)
        block.insts = keep
        for after in dict.fromkeys(block.successors()):
            if after is not start and len(before[after]) == 1:
                work.append((after, _Known(known)))
    replace_values(function, new)
    return bool(new)
