"""Dead code and dead stores: what nothing observable depends on, memory included."""

from __future__ import annotations

from ..ir import PURE, Block, Function, Inst, Value
from .simplify import IDLE_HELPERS

__all__ = ("drop_dead", "base_of")

_REMOVABLE = PURE | {"load", "alloca", "phi", "lookup", "select"}
_WRITERS = frozenset(("store", "zero", "copy", "read_str"))


def base_of(pointer: Value) -> Value:
    """The pointer behind geps and fields."""
    while isinstance(pointer, Inst) and pointer.op in ("gep", "field"):
        pointer = pointer.args[0]
    return pointer


def drop_dead(function: Function) -> bool:
    """Removes instructions whose results and effects nobody sees; stores to locals that are never read go too."""
    live: set[Inst] = set()
    work: list[Inst] = []
    writers: dict[Value, list[Inst]] = {}
    total = 0
    for block in function.blocks:
        total += len(block.insts)
        for inst in block.insts:
            op = inst.op
            if op in _REMOVABLE or (op == "helper" and inst.attr in IDLE_HELPERS):
                continue
            if op in _WRITERS or (op == "atomic" and not inst.attr[2]):
                base = base_of(inst.args[0])
                if isinstance(base, Inst) and base.op == "alloca":
                    writers.setdefault(base, []).append(inst)
                    continue
            live.add(inst)
            work.append(inst)
    while work:
        inst = work.pop()
        for arg in inst.args:
            if type(arg) is Inst and arg not in live:
                live.add(arg)
                work.append(arg)
                if arg.op == "alloca":
                    for writer in writers.get(arg, ()):
                        if writer not in live:
                            live.add(writer)
                            work.append(writer)
        # the result of a copy or read_str may be wanted although its memory is not
    if len(live) == total:
        return False
    for block in function.blocks:
        block.insts = [inst for inst in block.insts if inst in live]
    return True


def drop_dead_zeroing(function: Function) -> None:
    """Shrinks ``zero`` where stores in the same block cover its ends before anybody reads the memory."""
    for block in function.blocks:
        if any(inst.op == "zero" for inst in block.insts):
            _shrink(block)


def _shrink(block: Block) -> None:
    insts = block.insts
    removed: set[int] = set()
    for position, inst in enumerate(insts):
        if inst.op != "zero":
            continue
        base = inst.args[0]
        offset, size = inst.attr
        if size > 512 or not isinstance(base, Inst):
            continue
        covered = 0  # one bit per byte
        for later in insts[position + 1 :]:
            op = later.op
            if op == "store" and later.args[0] is base and later.args[1] is not base:
                begin = later.attr - offset
                if begin >= 0:
                    covered |= ((1 << later.args[1].type.size) - 1) << begin
                continue
            if op in ("store", "load", "zero") and later.args[0] is not base and base.op == "alloca":
                other = base_of(later.args[0])
                if isinstance(other, Inst) and other.op == "alloca" and other is not base and not (op == "store" and later.args[1] is base):
                    continue
                break
            if op in PURE and op not in ("inttoptr", "ptrtoint"):
                continue
            if op == "helper" and base not in later.args and later.attr in IDLE_HELPERS:
                continue
            break
        covered &= (1 << size) - 1
        if covered == (1 << size) - 1:
            removed.add(position)
            continue
        while covered & 0xFF == 0xFF and offset % 8 == 0:
            offset, size, covered = offset + 8, size - 8, covered >> 8
        while size >= 8 and (offset + size) % 8 == 0 and covered >> (size - 8) == 0xFF:
            size -= 8
            covered &= (1 << size) - 1
        inst.attr = (offset, size)
    if removed:
        block.insts = [inst for position, inst in enumerate(insts) if position not in removed]
