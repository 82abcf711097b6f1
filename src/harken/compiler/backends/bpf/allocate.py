"""Register allocation: live ranges as segments, copies merged, registers given by weight, the rest spilled to 8-byte slots.

Values that live across a call find only r6-r9 free, because a call occupies r0-r5 at its position.  The heaviest ranges (uses, times eight
per loop level, by length) choose first; what finds no register is kept in the frame, or made again if it is a constant.
Positions: instruction ``i`` reads at ``2i`` and writes at ``2i + 1``; segments are half-open.
"""

from __future__ import annotations

from bisect import bisect_right

from .operands import VIRTUAL, Selected
from .ranges import MOV, Range, joined, live_ranges, overlap, references

TYPE_CHECKING = False
if TYPE_CHECKING:
    Segments = list[tuple[int, int]]

__all__ = ("allocate", "references")

_PREFERENCE = (1, 2, 3, 4, 5, 0, 6, 7, 8, 9)
_INFINITE = float("inf")
#: positions that a short range spans at most
_SHORT = 48
#: for how many instructions a spilled value stays in a register after a use; the next is tried when registers do not suffice
_GAPS = (4, 0, -1)


def _merge_copies(
    ranges: dict[int, Range], copies: list[tuple[int, int, int]], precious: set[int], tiny: set[int], calls: _File
) -> dict[int, int]:
    """Unites registers that are copied into each other and never hold different values at once; returns register -> representative.

    A precious register is united only with short ranges that no call interrupts, so that the result still is sure to stay in a register.
    """
    into: dict[int, int] = {}

    def root(r: int) -> int:
        while r in into:
            r = into[r]
        return r

    copies.sort(key=lambda c: -c[0])
    for _, dst, src in copies:
        a, b = root(dst), root(src)
        if a == b or a in tiny or b in tiny or a not in ranges or b not in ranges:
            continue
        first, second = ranges[a], ranges[b]
        if a in precious or b in precious:
            if any(r.segments[-1][1] - r.segments[0][0] > _SHORT or not calls.free(r.segments) for r in (first, second)):
                continue
            if overlap(first.segments, second.segments):
                continue
            precious.add(a)
        elif overlap(first.segments, second.segments):
            continue
        first.segments = joined(first.segments + second.segments)
        first.weight += second.weight
        for register, number in second.hints.items():
            first.hints[register] = first.hints.get(register, 0) + number
        into[b] = a
        del ranges[b]
    return {r: root(r) for r in into}


class _File:
    """The occupied segments of one real register."""

    __slots__ = ("begins", "ends")

    def __init__(self, segments: Segments) -> None:
        self.begins = [s for s, _ in segments]
        self.ends = [e for _, e in segments]

    def free(self, segments: Segments) -> bool:
        begins, ends = self.begins, self.ends
        count = len(begins)
        for begin, end in segments:
            i = bisect_right(begins, begin)
            if (i and ends[i - 1] > begin) or (i < count and begins[i] < end):
                return False
        return True

    def take(self, segments: Segments) -> None:
        for begin, end in segments:
            i = bisect_right(self.begins, begin)
            self.begins.insert(i, begin)
            self.ends.insert(i, end)


def allocate(selected: Selected) -> int:
    """Replaces virtual registers by real ones in place; returns the bytes of frame in use, spill slots included."""
    blocks = selected.blocks
    original = [block.code for block in blocks]
    for gap in _GAPS:
        if gap != _GAPS[0]:
            for block, code in zip(blocks, original):
                block.code = [list(insn) for insn in code]
        frame = _try(selected, gap, gap != _GAPS[-1])
        if frame >= 0:
            return frame
    raise RuntimeError("register allocation failed")


def _try(selected: Selected, gap: int, retry: bool) -> int:
    """One attempt; -1 if registers that hold spilled values for ``gap`` instructions do not fit."""
    blocks = selected.blocks
    frame = selected.frame
    next_register = selected.registers
    tiny: set[int] = set()
    while True:
        ranges, fixed, copies = live_ranges(blocks)
        kept = set(selected.precious)
        # r5 is written by calls alone
        files = [_File(segments) for segments in fixed]
        merged = _merge_copies(ranges, copies, kept, tiny, files[5])
        kept |= tiny
        order = []
        for register, found in ranges.items():
            length = sum(e - b for b, e in found.segments)
            weight = _INFINITE if register in kept else found.weight / (length + 4)
            order.append((-weight, length, register))
        order.sort()
        assigned: dict[int, int] = {}
        hints: dict[int, list[int]] = {}
        for _, dst, src in copies:
            a, b = merged.get(dst, dst), merged.get(src, src)
            if a != b:
                hints.setdefault(a, []).append(b)
                hints.setdefault(b, []).append(a)
        spilled: list[int] = []
        for _, _, register in order:
            found = ranges[register]
            segments = found.segments
            wanted = sorted(found.hints, key=found.hints.__getitem__, reverse=True) if found.hints else []
            wanted += [assigned[other] for other in hints.get(register, ()) if other in assigned]
            for real in (*wanted, *_PREFERENCE):
                if files[real].free(segments):
                    assigned[register] = real
                    files[real].take(segments)
                    break
            else:
                if register in tiny:
                    return -1
                spilled.append(register)
        if not spilled:
            break
        if retry and not tiny:
            for block in blocks:
                block.code = [list(insn) for insn in block.code]
        from .spill import spill

        families: dict[int, int] = {r: r for r in spilled}
        for r, representative in merged.items():
            if representative in families:
                families[r] = representative
        frame, next_register = spill(blocks, families, ranges, frame, next_register, tiny, gap)
    for register, representative in merged.items():
        if representative in assigned:
            assigned[register] = assigned[representative]
    for block in blocks:
        out = []
        for insn in block.code:
            dst, src = insn[1], insn[2]
            if dst >= VIRTUAL:
                insn[1] = dst = assigned[dst]
            if src >= VIRTUAL:
                insn[2] = src = assigned[src]
            if insn[0] == MOV and dst == src and not insn[3]:
                continue
            out.append(insn)
        block.code = out
    return frame
