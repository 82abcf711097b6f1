"""Where pointers point: the spaces that a front end left open, found by data flow.

C does not say of a pointer variable what it points to.  A front end for such a language leaves the space of what it loads, selects or makes
from a number empty; when functions stand in one another and variables are values, it follows from where the pointer came.  Different
origins meet like this:

* own memory (stack, map value, ring record, ...) with own memory: own memory, with the stack's demands on alignment;
* own memory or kernel with user, or with what is unknown: ``any``, whose address decides when it is read.

A pointer from memory, or from a number that is none of ours, is ``any``.
"""

from __future__ import annotations

from ..ir import Const, Function, Inst, Value
from .dead import base_of

__all__ = ("infer_spaces",)

_DIRECT = frozenset(("stack", "ctx", "map_value", "map_key", "ring", "packet"))
_DEPTH = 8


def _join(a: str, b: str) -> str:
    if a == b or not b:
        return a
    if not a:
        return b
    if a in _DIRECT and b in _DIRECT:
        return "stack" if "stack" in (a, b) else a
    if {a, b} <= {"kernel", "btf"}:
        return "kernel"
    return "any"


def _offset(pointer: Value) -> int | None:
    """The distance of a pointer from its base, or None if it varies."""
    total = 0
    while isinstance(pointer, Inst) and pointer.op in ("gep", "field"):
        if pointer.op == "field":
            total += pointer.attr.offset
        else:
            step = pointer.args[1]
            if type(step) is not Const:
                return None
            total += step.signed
        pointer = pointer.args[0]
    return total


class _Memory:
    """Pointers kept in local memory: what is stored at which distance of which alloca; ``open`` are those that others may write."""

    def __init__(self, function: Function) -> None:
        self.stored: dict[tuple[Value, int], list[Value]] = {}
        self.open: set[Value] = set()
        for inst in function.instructions():
            for i, arg in enumerate(inst.args):
                if not arg.type.pointer:
                    continue
                base = base_of(arg)
                if not (isinstance(base, Inst) and base.op == "alloca"):
                    continue
                op = inst.op
                if op in ("gep", "field", "load", "icmp", "zero") or (op == "copy" and i == 1):
                    continue
                if op == "store" and i == 0:
                    value, distance = inst.args[1], _offset(arg)
                    if distance is None:
                        self.open.add(base)
                    elif value.type.pointer:
                        self.stored.setdefault((base, distance + inst.attr), []).append(value)
                    continue
                self.open.add(base)

    def values(self, load: Inst) -> list[Value] | None:
        """What a load may give, or None if anything."""
        base, distance = base_of(load.args[0]), _offset(load.args[0])
        if distance is None or base in self.open or not (isinstance(base, Inst) and base.op == "alloca"):
            return None
        return self.stored.get((base, distance + load.attr))


def infer_spaces(function: Function, packets: bool = False) -> None:
    """Gives every pointer of the function a space, in place.

    ``packets``: the program's context holds pointers to a packet, as numbers of 32 bits.
    """
    unknown = [inst for block in function.blocks for inst in block.insts if inst.type.pointer and not inst.space]
    params = [param for param in function.params if param.type.pointer and not param.space]
    if not unknown and not params:
        return
    for param in params:
        param.space = "any"
    memory = _Memory(function)
    found: dict[Value, str] = {}

    def space(value: Value) -> str:
        if type(value) is Const:
            return ""
        return value.space or found.get(value, "")

    def carried(value: Value, depth: int = _DEPTH) -> str:
        """The space of the pointer that a number was made from; "any" for other numbers."""
        if type(value) is Const:
            return ""
        if isinstance(value, Inst) and depth:
            if value.op == "ptrtoint":
                return space(value.args[0])
            if value.op in ("add", "sub"):
                sides = [carried(arg, depth - 1) for arg in value.args]
                own = [side for side in sides if side in _DIRECT]
                return own[0] if len(own) == 1 and value.type.bits == 64 else "any"
            if packets and value.op in ("zext", "load"):
                source = value.args[0] if value.op == "zext" else value
                if isinstance(source, Inst) and source.op == "load" and source.type.bits == 32 and space(source.args[0]) == "ctx":
                    return "packet"
        return "any"

    def of(inst: Inst) -> str:
        op, result = inst.op, ""
        if op in ("gep", "field"):
            return space(inst.args[0])
        if op in ("phi", "select"):
            for arg in inst.args if op == "phi" else inst.args[1:]:
                result = _join(result, space(arg) if arg.type.pointer else carried(arg))
            return result
        if op == "inttoptr":
            return carried(inst.args[0])
        if op == "load":
            values = memory.values(inst)
            if values is not None:
                for value in values:
                    result = _join(result, space(value))
                return result
        return "any"

    changed = True
    while changed:
        changed = False
        for inst in unknown:
            now = _join(found.get(inst, ""), of(inst))
            if now != found.get(inst, ""):
                found[inst] = now
                changed = True
    for inst in unknown:
        inst.space = found.get(inst) or "any"
