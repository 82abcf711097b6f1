"""Where local memory lives: the frame, shared by what is not live at the same time, or per-CPU scratch memory.

A program may be interrupted by another one (or by itself) on the same CPU, so scratch memory has several slots: a program claims one
by swapping its flag, and gives it back on every way out.  When all are taken the event is counted as lost ("scratch", "").

Functions that are not inlined reach the caller's scratch memory and context through an *environment* on the caller's stack:
u64 context, u64 scratch memory, u64 the callback's own context pointer.
"""

from __future__ import annotations

from ..ir import I1, I32, I64, PTR, Block, Const, Function, Inst, Param, Value
from ..unit import LOSS
from .cfg import dominators, loop_depths, replace_values, reverse_postorder
from .legalise import RECORD

__all__ = (
    "Placement",
    "SCRATCH",
    "SCRATCH_SLOTS",
    "place",
    "colour",
    "move_to_scratch",
    "claim_scratch",
    "give_environment",
    "pass_environment",
)

SCRATCH = "harken_scratch"
#: process context, soft interrupt, hard interrupt, non-maskable interrupt
SCRATCH_SLOTS = 4
#: bytes before the memory proper: the slot's flag
_HEADER = 8
_VERIFIED = frozenset(("stack", "ctx", "map_value", "map_key", "ring", "btf", "map"))


class Placement:
    """Which allocas stand in the frame at which distance from its start, and the frame's size."""

    __slots__ = ("offsets", "size")

    def __init__(self, offsets: dict[Inst, int], size: int) -> None:
        self.offsets, self.size = offsets, size


def _lifetimes(function: Function, allocas: list[Inst]) -> tuple[list[tuple[int, int]], int]:
    """(first, last) instruction positions per alloca, and the bit mask of those that must stay on the stack."""
    bits: dict[Value, int] = {inst: 1 << i for i, inst in enumerate(allocas)}
    again = True
    while again:
        again = False
        for block in function.blocks:
            for inst in block.insts:
                if inst.type.pointer and inst.op in ("gep", "phi", "select", "inttoptr"):
                    mask = 0
                    for arg in inst.args:
                        mask |= bits.get(arg, 0)
                    if mask & ~bits.get(inst, 0):
                        again = inst.op == "phi" or again
                        bits[inst] = mask | bits.get(inst, 0)
    everywhere = pinned = 0
    position = 0
    count = len(allocas)
    first, last = [-1] * count, [-1] * count
    # in the order of control flow: what follows a piece of code may stand before it in the function
    blocks = reverse_postorder(function)
    reached = set(blocks)
    blocks += [block for block in function.blocks if block not in reached]
    touched: dict[Block, int] = {}
    starts: dict[Block, int] = {}
    for block in blocks:
        starts[block] = position
        total = 0
        for inst in block.insts:
            position += 1
            op = inst.op
            mask = 0
            for i, arg in enumerate(inst.args):
                bit = bits.get(arg, 0)
                if bit:
                    mask |= bit
                    if (op == "store" and i == 1) or op == "ptrtoint":
                        everywhere |= bit
                    if op in ("call", "kfunc") or (op == "helper" and inst.attr in ("loop", "for_each_map_elem") and i == 2):
                        pinned |= bit
            # the verifier follows pointers through the stack only
            carried = inst.args[1] if op == "store" else inst if op == "load" else None
            if carried is not None and carried.type.pointer and carried.space in _VERIFIED:
                pinned |= bits.get(inst.args[0], 0)
            total |= mask
            while mask:
                low = mask & -mask
                i = low.bit_length() - 1
                if first[i] < 0:
                    first[i] = position
                last[i] = position
                mask ^= low
        touched[block] = total
    if len(blocks) > 1:
        _stretch(function, blocks, touched, starts, position, first, last)
    result = []
    for i in range(count):
        result.append((0, position + 1) if everywhere >> i & 1 else (first[i], last[i]))
    return result, pinned


def _stretch(
    function: Function,
    blocks: list[Block],
    touched: dict[Block, int],
    starts: dict[Block, int],
    end: int,
    first: list[int],
    last: list[int],
) -> None:
    """Widens the ranges over blocks where an alloca was touched before and will be touched later."""
    before = function.predecessors()
    forward = dict(touched)
    backward = dict(touched)
    work = True
    while work:
        work = False
        for block in blocks:
            mask = touched[block]
            for p in before[block]:
                mask |= forward[p]
            if mask != forward[block]:
                forward[block] = mask
                work = True
    work = True
    while work:
        work = False
        for block in reversed(blocks):
            mask = touched[block]
            for s in block.successors():
                mask |= backward[s]
            if mask != backward[block]:
                backward[block] = mask
                work = True
    for number, block in enumerate(blocks):
        entering = 0
        for p in before[block]:
            entering |= forward[p]
        leaving = 0
        for s in block.successors():
            leaving |= backward[s]
        begin = starts[block]
        finish = starts[blocks[number + 1]] if number + 1 < len(blocks) else end
        for mask, at in ((entering & backward[block], begin), (forward[block] & leaving, finish + 1)):
            while mask:
                low = mask & -mask
                i = low.bit_length() - 1
                if first[i] < 0 or at < first[i]:
                    first[i] = at
                last[i] = max(last[i], at)
                mask ^= low


def colour(allocas: list[Inst], ranges: list[tuple[int, int]], base: int = 0) -> Placement:
    """Assigns offsets from ``base``: allocas share memory unless their ranges overlap."""
    order = sorted(range(len(allocas)), key=lambda i: ranges[i][0])
    active: list[tuple[int, int, int]] = []  # (offset, end of memory, last position)
    offsets: dict[Inst, int] = {}
    size = base
    for i in order:
        begin, finish = ranges[i]
        if begin < 0:
            continue
        active = [a for a in active if a[2] >= begin]
        active.sort()
        need = (allocas[i].attr[0] + 7) & ~7
        at = base
        for offset, stop, _ in active:
            if at + need <= offset:
                break
            at = max(at, stop)
        offsets[allocas[i]] = at
        active.append((at, at + need, finish))
        size = max(size, at + need)
    return Placement(offsets, size)


def place(function: Function, budget: int) -> tuple[Placement, list[Inst], list[tuple[int, int]]]:
    """Splits the allocas between the frame (at most ``budget`` bytes) and scratch memory.

    Returns:
        the frame, the allocas to move, their ranges.
    """
    allocas = [inst for inst in function.blocks[0].insts if inst.op == "alloca"]
    if not allocas:
        return Placement({}, 0), [], []
    ranges, pinned = _lifetimes(function, allocas)
    moved = [i for i, inst in enumerate(allocas) if inst.attr[2] == RECORD]
    stay = [i for i in range(len(allocas)) if i not in moved] if moved else list(range(len(allocas)))
    frame = colour([allocas[i] for i in stay], [ranges[i] for i in stay])
    if frame.size > budget:
        for i in sorted(stay, key=lambda i: -allocas[i].attr[0]):
            if pinned >> i & 1 or allocas[i].attr[0] <= 8:
                continue
            moved.append(i)
            stay.remove(i)
            frame = colour([allocas[j] for j in stay], [ranges[j] for j in stay])
            if frame.size <= budget:
                break
    return frame, [allocas[i] for i in moved], [ranges[i] for i in moved]


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


def give_environment(function: Function, scratch: Inst | None) -> bool:
    """Makes a function that is not an entry take its context and scratch memory from an environment; false if it needs neither."""
    entry = function.blocks[0]
    contexts = [inst for inst in function.instructions() if inst.op == "ctx"]
    if not contexts and scratch is None:
        return False
    if function.kind == "callback":
        old = function.params[-1]
        environment = Param(old.index, "environment", PTR, "stack")
        own = Inst("load", (environment,), PTR, 16, None, old.space or "stack", False, old.ctype)
        replace_values(function, {old: own})
        function.params = (*function.params[:-1], environment)
        added = [own]
    else:
        environment = Param(len(function.params), "environment", PTR, "stack")
        function.params = (*function.params, environment)
        added = []
    new: dict[Value, Value] = {}
    if contexts:
        context = Inst("load", (environment,), PTR, 0, None, "ctx")
        added.append(context)
        gone = set(contexts)
        for inst in contexts:
            new[inst] = context
        for block in function.blocks:
            block.insts = [inst for inst in block.insts if inst not in gone]
    if scratch is not None:
        memory = Inst("load", (environment,), PTR, 8, None, "map_value")
        added.append(memory)
        new[scratch] = memory
    replace_values(function, new)
    at = next((i for i, inst in enumerate(entry.insts) if inst.op != "alloca"), 0)
    entry.insts[at:at] = added
    return True


def pass_environment(function: Function, needs: dict[str, tuple[bool, bool]]) -> Inst | None:
    """Builds an environment at each call of a function that takes one.

    Args:
        needs: function name -> (takes an environment, uses scratch memory).

    Returns:
        a detached ``scratch`` instruction if a callee uses scratch memory.
    """
    scratch: Inst | None = None
    environments: list[Inst] = []
    for block in function.blocks:
        out: list[Inst] = []
        callback = ""
        for inst in block.insts:
            name = ""
            if inst.op == "call":
                name = inst.attr
            elif inst.op == "helper" and inst.attr in ("loop", "for_each_map_elem"):
                reference = inst.args[1]
                callback = reference.attr if isinstance(reference, Inst) else ""
                name = callback
            takes, memory = needs.get(name, (False, False))
            if takes:
                span = inst.span
                place_ = Inst("alloca", (), PTR, (24, 8, "environment"), span, "stack")
                environments.append(place_)
                context = Inst("ctx", (), PTR, None, span, "ctx")
                out += [context, Inst("store", (place_, context), attr=0, span=span)]
                if memory:
                    scratch = scratch or Inst("scratch", (), PTR, None, span, "map_value")
                    out.append(Inst("store", (place_, scratch), attr=8, span=span))
                if inst.op == "call":
                    inst.args.append(place_)
                else:
                    own = inst.args[2]
                    if own.type.pointer:
                        out.append(Inst("store", (place_, own), attr=16, span=span))
                    else:
                        out.append(Inst("store", (place_, Const(0)), attr=16, span=span))
                    inst.args[2] = place_
            out.append(inst)
        block.insts = out
    function.blocks[0].insts[:0] = environments
    return scratch


def scratch_map_size(end: int) -> int:
    """The value size of the scratch map for memory that ends at ``end``."""
    return (max(end, _HEADER) + 7) & ~7
