"""Scratch memory: one map value per slot and CPU, for what does not fit into the frame.

A program may be interrupted by another one (or by itself) on the same CPU, so scratch memory has several slots: a program claims one
by swapping its flag, and gives it back on every way out.  When all are taken the event is counted as lost ("scratch", "").
"""

from __future__ import annotations

from ..ir import I1, I32, I64, PTR, Block, Const, Function, Inst, Value
from ..unit import LOSS
from .cfg import dominators, loop_depths, replace_values, reverse_postorder
from .stack import colour

__all__ = ("SCRATCH", "SCRATCH_SLOTS", "move_to_scratch", "claim_scratch", "scratch_map_size")

SCRATCH = "harken_scratch"
#: process context, soft interrupt, hard interrupt, non-maskable interrupt
SCRATCH_SLOTS = 4
#: bytes before the memory proper: the slot's flag
_HEADER = 8


def scratch_map_size(end: int) -> int:
    """The value size of the scratch map for memory that ends at ``end``."""
    return (max(end, _HEADER) + 7) & ~7


def move_to_scratch(function: Function, moved: list[Inst], ranges: list[tuple[int, int]], base: int) -> tuple[Inst, int]:
    """Turns the allocas into addresses in scratch memory from offset ``base`` on.

    Returns:
        the ``scratch`` instruction (detached: the caller puts the real pointer in its place), the end of the memory used.
    """
    placement = colour(moved, ranges, base)
    scratch = Inst("scratch", (), PTR, None, moved[0].span, "map_value")
    for inst in moved:
        offset = placement.offsets.get(inst, base)
        inst.op, inst.args, inst.attr, inst.space = "gep", [scratch, Const(offset)], None, "map_value"
    gone = set(moved)
    function.blocks[0].insts = [inst for inst in function.blocks[0].insts if inst not in gone]
    # an address is made where it is used: geps of constants cost nothing
    for block in function.blocks:
        out: list[Inst] = []
        for inst in block.insts:
            for i, arg in enumerate(inst.args):
                if arg in gone and inst.op != "phi":
                    copy = Inst("gep", (scratch, arg.args[1]), PTR, None, inst.span, "map_value")
                    out.append(copy)
                    inst.args[i] = copy
            out.append(inst)
        block.insts = out
    for block in function.blocks:
        for inst in block.insts:
            if inst.op != "phi":
                break
            for i, arg in enumerate(inst.args):
                if arg in gone:
                    copy = Inst("gep", (scratch, arg.args[1]), PTR, None, inst.span, "map_value")
                    end = inst.attr[i].insts
                    end.insert(len(end) - 1, copy)
                    inst.args[i] = copy
    return scratch, placement.size


def claim_scratch(function: Function, scratch: Inst, loss: int, atomic: bool) -> None:
    """Claims a slot where ``scratch`` is first needed and releases it on every way out of an entry function."""
    order = reverse_postorder(function)
    before = function.predecessors()
    idom = dominators(order, before)
    number = {block: i for i, block in enumerate(order)}
    uses = [block for block in order if any(scratch in inst.args for inst in block.insts)]
    depth = loop_depths(order, before, idom)

    def common(a: Block, b: Block) -> Block:
        while a is not b:
            while number[a] > number[b]:
                a = idom[a]
            while number[b] > number[a]:
                b = idom[b]
        return a

    home = uses[0]
    for block in uses[1:]:
        home = common(home, block)
    while depth[home]:
        home = idom[home]
    while True:
        inside = {home}
        for block in order[number[home] + 1 :]:
            if idom[block] in inside:
                inside.add(block)
        reached = {home}
        work = [home]
        while work:
            for after in work.pop().successors():
                if after not in reached:
                    reached.add(after)
                    work.append(after)
        mixed = [b for b in order if b in reached and b not in inside and b.insts[-1].op == "ret"]
        tangled = [b for b in mixed if not _can_split(b, before[b], inside, reached)]
        if not tangled:
            break
        for block in tangled:
            home = common(home, block)
    for block in mixed:
        _split_return(function, block, before[block], inside)
    for block in function.blocks:
        if block.insts[-1].op == "ret" and (block in inside or block not in number):
            block.insts.insert(len(block.insts) - 1, Inst("store", (scratch, Const(0)), attr=0, span=block.insts[-1].span))
    _insert_claim(function, home, scratch, loss, atomic)


def _can_split(block: Block, preds: list[Block], inside: set[Block], reached: set[Block]) -> bool:
    if any(inst.op not in ("phi", "ret") for inst in block.insts):
        return False
    return all(p in inside or p not in reached for p in preds)


def _split_return(function: Function, block: Block, preds: list[Block], inside: set[Block]) -> None:
    """Gives each predecessor inside the claim its own copy of a return block."""
    end = block.insts[-1]
    for pred in preds:
        if pred not in inside:
            continue
        value = end.args[0]
        if isinstance(value, Inst) and value.op == "phi" and value in block.insts:
            value = value.args[value.attr.index(pred)]
        copy = Block(f"{block.name}.held")
        copy.insts = [Inst("ret", (value,), span=end.span)]
        function.blocks.append(copy)
        last = pred.insts[-1]
        if last.op == "br":
            last.attr = copy
        elif last.op == "condbr":
            last.attr = tuple([copy if b is block else b for b in last.attr])
        else:
            default, cases = last.attr
            last.attr = (copy if default is block else default, tuple((v, copy if b is block else b) for v, b in cases))
        for phi in block.insts:
            if phi.op != "phi":
                break
            i = phi.attr.index(pred)
            del phi.args[i]
            phi.attr = [b for b in phi.attr if b is not pred]
    if all(p in inside for p in preds):
        function.blocks.remove(block)


def _insert_claim(function: Function, home: Block, scratch: Inst, loss: int, atomic: bool) -> None:
    insts = home.insts
    at = next((i for i, inst in enumerate(insts) if inst.op not in ("phi", "alloca") and scratch in inst.args), len(insts) - 1)
    span = insts[at].span if at < len(insts) else None
    rest = Block(f"{home.name}.held")
    rest.insts = insts[at:]
    home.insts = insts[:at]
    for after in rest.successors():
        for phi in after.insts:
            if phi.op != "phi":
                break
            phi.attr = [rest if b is home else b for b in phi.attr]
    entry = function.blocks[0].insts
    key = Inst("alloca", (), PTR, (4, 8, "slot"), span, "stack")
    added: list[Block] = []
    values: list[Value] = []
    origins: list[Block] = []
    busy = Block(f"{home.name}.busy")
    block = home
    for slot in range(SCRATCH_SLOTS):
        table = Inst("map", (), PTR, SCRATCH, span, "map")
        pointer = Inst("helper", (table, key), PTR, "map_lookup_elem", span, "map_value", True)
        missing = Inst("icmp", (pointer, Const(0)), I1, "eq", span)
        try_block, following = Block(f"{home.name}.try{slot}"), Block(f"{home.name}.next{slot}")
        if slot == SCRATCH_SLOTS - 1:
            following = busy
        block.insts += [
            Inst("store", (key, Const(slot, I32)), attr=0, span=span),
            table,
            pointer,
            missing,
            Inst("condbr", (missing,), attr=(busy, try_block), span=span),
        ]
        if atomic:
            old = Inst("atomic", (pointer, Const(1)), I64, ("xchg", 0, True), span)
            try_block.insts = [old]
            done = rest
        else:
            old = Inst("load", (pointer,), I64, 0, span)
            try_block.insts = [old]
            done = Block(f"{home.name}.take{slot}")
            done.insts = [Inst("store", (pointer, Const(1)), attr=0, span=span), Inst("br", attr=rest, span=span)]
        free = Inst("icmp", (old, Const(0)), I1, "eq", span)
        try_block.insts += [free, Inst("condbr", (free,), attr=(done, following), span=span)]
        values.append(pointer)
        origins.append(try_block if done is rest else done)
        added.append(try_block)
        if done is not rest:
            added.append(done)
        if following is not busy:
            added.append(following)
        block = following
    entry.insert(0, key)
    # nobody's slot is free: count it and leave
    slot_key = Inst("alloca", (), PTR, (4, 8, "slot"), span, "stack")
    entry.insert(0, slot_key)
    table = Inst("map", (), PTR, LOSS, span, "map")
    counter = Inst("helper", (table, slot_key), PTR, "map_lookup_elem", span, "map_value", True)
    missing = Inst("icmp", (counter, Const(0)), I1, "eq", span)
    count, leave = Block(f"{home.name}.count"), Block(f"{home.name}.leave")
    busy.insts = [
        Inst("store", (slot_key, Const(loss, I32)), attr=0, span=span),
        table,
        counter,
        missing,
        Inst("condbr", (missing,), attr=(leave, count), span=span),
    ]
    count.insts = [Inst("atomic", (counter, Const(1)), attr=("add", 0, False), span=span), Inst("br", attr=leave, span=span)]
    leave.insts = [Inst("ret", (Const(0),), span=span)]
    held = Inst("phi", values, PTR, origins, span, "map_value")
    rest.insts.insert(0, held)
    position = function.blocks.index(home) + 1
    # the first try falls through to the work; the others stand at the end
    function.blocks[position:position] = [added[0], *(added[1:2] if not atomic else ()), rest]
    function.blocks += [*added[2 if not atomic else 1 :], busy, count, leave]
    replace_values(function, {scratch: held})
