"""Pointers that walk through one object: as that object and a distance, so that a loop's end is a comparison of numbers.

``for (p = array; p < array + 8; p++)`` compares addresses, of which verifiers know nothing when they point to the stack or into a map's
value: they would follow the loop for ever.  Here ``p`` becomes ``array + distance``, and ``simplify`` compares the distances.
"""

from __future__ import annotations

from ..ir import I64, PTR, Block, Const, Function, Inst, Value

__all__ = ("rebase_pointers",)

_SPACES = frozenset(("stack", "map_value", "ring"))


def rebase_pointers(function: Function) -> bool:
    """Rewrites phis of pointers that all lead to one object and are compared, in place; true if there were some."""
    compared = {
        arg
        for block in function.blocks
        for inst in block.insts
        for arg in inst.args
        if arg.type.pointer and (inst.op == "ptrtoint" or (inst.op == "icmp" and all(other.type.pointer for other in inst.args)))
    }
    if not compared:
        return False
    where = {inst: block for block in function.blocks for inst in block.insts}
    changed = False
    for block in function.blocks:
        for phi in [inst for inst in block.insts if inst.op == "phi" and inst.type.pointer and inst.space in _SPACES]:
            family = _family(phi)
            if family is None:
                continue
            base, members = family
            if not any(_leads_to(pointer, members) for pointer in compared):
                continue
            _Rebase(function, base, members, where).run()
            changed = True
            where = {inst: one for one in function.blocks for inst in one.insts}
    return changed


def _leads_to(pointer: Value, members: set[Inst]) -> bool:
    while isinstance(pointer, Inst) and pointer.op == "gep":
        pointer = pointer.args[0]
    return pointer in members


def _family(phi: Inst) -> tuple[Value, set[Inst]] | None:
    """The one object that a phi and those it is made of lead to, and these phis; None if there are several objects."""
    members: set[Inst] = set()
    bases: set[Value] = set()
    work: list[Value] = [phi]
    while work:
        value = work.pop()
        while isinstance(value, Inst) and value.op == "gep":
            value = value.args[0]
        if isinstance(value, Inst) and value.op == "phi":
            if value not in members:
                members.add(value)
                work += value.args
        else:
            bases.add(value)
        if len(bases) > 1:
            return None
    base = bases.pop() if bases else None
    return (base, members) if base is not None and base.type.pointer and not isinstance(base, Const) else None


class _Rebase:
    """One rewriting: ``base``, the phis that lead to it, and in which block each instruction stands."""

    def __init__(self, function: Function, base: Value, members: set[Inst], where: dict[Inst, Block]) -> None:
        self.function, self.base, self.members, self.where = function, base, members, where
        self.distances: dict[Value, Value] = {base: Const(0)}

    def run(self) -> None:
        for phi in self.members:
            self.distances[phi] = Inst("phi", (), I64, list(phi.attr), phi.span)
        for phi in self.members:
            number = self.distances[phi]
            assert isinstance(number, Inst)
            number.args = [self.distance(arg) for arg in phi.args]
        for phi in self.members:
            number = self.distances[phi]
            assert isinstance(number, Inst)
            block = self.where[phi]
            block.insts[block.insts.index(phi)] = number
            end = next(i for i, inst in enumerate(block.insts) if inst.op != "phi")
            phi.op, phi.args, phi.attr, phi.type = "gep", [self.base, number], None, PTR
            block.insts.insert(end, phi)

    def distance(self, pointer: Value) -> Value:
        """How far a pointer is from the base; adds what computes it next to the pointer."""
        found = self.distances.get(pointer)
        if found is not None:
            return found
        assert isinstance(pointer, Inst) and pointer.op == "gep"
        outer = self.distance(pointer.args[0])
        if isinstance(outer, Const) and isinstance(pointer.args[1], Const):
            made: Value = Const(outer.value + pointer.args[1].value)
        else:
            total = Inst("add", (outer, pointer.args[1]), I64, None, pointer.span)
            block = self.where[pointer]
            block.insts.insert(block.insts.index(pointer) + 1, total)
            made = total
        self.distances[pointer] = made
        return made
