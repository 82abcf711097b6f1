"""Where local memory lives: in the frame, shared by what is not live at the same time, or in per-CPU scratch memory.

``place`` decides.  An alloca's range reaches from the first instruction that touches it to the last, along the flow of control; allocas
whose ranges do not overlap share bytes (``colour``).  If the frame is still larger than the budget, the largest leave it for scratch
memory (``scratch``), but for those that the verifier only follows on the stack.
"""

from __future__ import annotations

from bisect import insort

from ..ir import Block, Function, Inst, Value
from .cfg import reverse_postorder
from .legalise import RECORD

__all__ = ("Placement", "place", "colour")

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
    active: list[tuple[int, int, int]] = []  # (offset, end of memory, last position), sorted
    offsets: dict[Inst, int] = {}
    size = base
    for i in order:
        begin, finish = ranges[i]
        if begin < 0:
            continue
        active = [a for a in active if a[2] >= begin]
        need = (allocas[i].attr[0] + 7) & ~7
        at = base
        for offset, stop, _ in active:
            if at + need <= offset:
                break
            at = max(at, stop)
        offsets[allocas[i]] = at
        insort(active, (at, at + need, finish))
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
    leave = [i for i, inst in enumerate(allocas) if inst.attr[2] == RECORD]
    rest = [i for i, inst in enumerate(allocas) if inst.attr[2] != RECORD]
    largest = sorted([i for i in rest if allocas[i].attr[0] > 8 and not pinned >> i & 1], key=lambda i: -allocas[i].attr[0])

    def without(count: int) -> Placement:
        gone = set(largest[:count])
        stay = [i for i in rest if i not in gone]
        return colour([allocas[i] for i in stay], [ranges[i] for i in stay])

    frame = without(0)
    if frame.size > budget:
        too_few, enough = 0, len(largest)
        frame = without(enough)
        while enough - too_few > 1:  # by halves: a large frame takes long to colour
            middle = (too_few + enough) // 2
            smaller = without(middle)
            if smaller.size <= budget:
                frame, enough = smaller, middle
            else:
                too_few = middle
        leave += largest[:enough]
    return frame, [allocas[i] for i in leave], [ranges[i] for i in leave]
