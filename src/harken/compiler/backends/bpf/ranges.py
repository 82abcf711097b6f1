"""Live ranges: what instructions read and write, and for which positions each register holds a value.

Positions: instruction ``i`` reads at ``2i`` and writes at ``2i + 1``; segments are half-open.
"""

from __future__ import annotations

from .operands import VIRTUAL, MachineBlock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Machine = list[Any]
    Segments = list[tuple[int, int]]

__all__ = ("MOV", "Range", "joined", "live_ranges", "overlap", "references")

MOV = 0xBF


def references(insn: Machine) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(registers read, registers written) by an instruction, real and virtual, without r10."""
    code, dst, src = insn[0], insn[1], insn[2]
    kind = code & 7
    if kind == 7 or kind == 4:
        op = code & 0xF0
        if op == 0xB0:
            return ((src,) if code & 8 else ()), (dst,)
        if code & 8 and op != 0xD0:
            return (dst, src), (dst,)
        return (dst,), (dst,)
    if kind == 1:
        return (src,), (dst,)
    if kind == 3:
        if code & 0xE0 == 0xC0:
            imm = insn[4]
            if imm == 0xF1:
                return (dst, src, 0), (0,)
            if imm & 1:
                return (dst, src), (src,)
        return (dst, src), ()
    if kind == 2:
        return (dst,), ()
    if kind == 5 or kind == 6:
        if code == 0x85:
            return _ARGUMENTS[insn[5][0]], (0, 1, 2, 3, 4, 5)
        if code == 0x95:
            return (0,), ()
        if code == 0x05:
            return (), ()
        return ((dst, src) if code & 8 else (dst,)), ()
    return (), (dst,)  # ld_imm64


_ARGUMENTS = ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), (1, 2, 3, 4, 5))


def _live_out(blocks: list[MachineBlock], refs: list[list[tuple[tuple[int, ...], tuple[int, ...]]]]) -> list[int]:
    """Bit masks of the virtual registers that live at each block's end."""
    index = {block.number: i for i, block in enumerate(blocks)}
    needs: list[int] = []
    kills: list[int] = []
    for block_refs in refs:
        need = kill = 0
        for reads, writes in block_refs:
            for r in reads:
                if r >= VIRTUAL and not kill >> r & 1:
                    need |= 1 << r
            for r in writes:
                if r >= VIRTUAL:
                    kill |= 1 << r
        needs.append(need)
        kills.append(kill)
    after = [[index[s] for s in block.successors] for block in blocks]
    live_in = list(needs)
    out = [0] * len(blocks)
    changed = True
    while changed:
        changed = False
        for i in range(len(blocks) - 1, -1, -1):
            mask = 0
            for s in after[i]:
                mask |= live_in[s]
            if mask != out[i]:
                out[i] = mask
                live_in[i] = needs[i] | (mask & ~kills[i])
                changed = True
    return out


class Range:
    """Everything known of one register, or of several that were merged."""

    __slots__ = ("hints", "segments", "slot", "weight")

    def __init__(self) -> None:
        self.segments: Segments = []
        self.weight = 0.0
        self.hints: dict[int, int] = {}


def live_ranges(blocks: list[MachineBlock]) -> tuple[dict[int, Range], list[Segments], list[tuple[int, int, int]]]:
    """Live ranges of virtual registers, occupied segments of real ones, and the copies between virtual registers (depth, to, from)."""
    refs = [[references(insn) for insn in block.code] for block in blocks]
    out = _live_out(blocks, refs)
    ranges: dict[int, Range] = {}
    fixed: list[Segments] = [[] for _ in range(10)]
    copies: list[tuple[int, int, int]] = []
    starts = []
    position = 0
    for block in blocks:
        starts.append(position)
        position += len(block.code)
    for number in range(len(blocks) - 1, -1, -1):
        block, begin = blocks[number], starts[number]
        count = len(block.code)
        block_start, block_end = 2 * begin, 2 * (begin + count)
        # register -> end of the segment being built
        ends: dict[int, int] = {}
        mask = out[number]
        while mask:
            low = mask & -mask
            ends[low.bit_length() - 1] = block_end
            mask ^= low
        scale = 8.0 ** min(block.depth, 6)
        for i in range(count - 1, -1, -1):
            reads, writes = refs[number][i]
            at = 2 * (begin + i)
            for r in writes:
                if r == 10:
                    continue
                end = ends.pop(r, at + 2)
                if r >= VIRTUAL:
                    found = ranges.get(r)
                    if found is None:
                        found = ranges[r] = Range()
                    found.segments.append((at + 1, end))
                    found.weight += scale
                else:
                    fixed[r].append((at + 1, end))
            for r in reads:
                if r == 10:
                    continue
                if r not in ends:
                    ends[r] = at + 1
                if r >= VIRTUAL:
                    found = ranges.get(r)
                    if found is None:
                        found = ranges[r] = Range()
                    found.weight += scale
            insn = block.code[i]
            if insn[0] == MOV and not insn[3]:
                dst, src = insn[1], insn[2]
                if dst >= VIRTUAL and src >= VIRTUAL:
                    copies.append((block.depth, dst, src))
                elif dst >= VIRTUAL and src < 10:
                    hints = ranges[dst].hints
                    hints[src] = hints.get(src, 0) + 1
                elif src >= VIRTUAL and dst < 10:
                    hints = ranges[src].hints
                    hints[dst] = hints.get(dst, 0) + 1
        for r, end in ends.items():
            # live into the block (arguments of the function for real registers)
            if r >= VIRTUAL:
                found = ranges.get(r)
                if found is None:
                    found = ranges[r] = Range()
                found.segments.append((block_start, end))
            else:
                fixed[r].append((block_start, end))
    for found in ranges.values():
        found.segments = joined(found.segments)
    return ranges, [joined(segments) for segments in fixed], copies


def joined(segments: Segments) -> Segments:
    """Sorted, overlapping and touching ones united."""
    if len(segments) < 2:
        return segments
    segments.sort()
    out = [segments[0]]
    for begin, end in segments[1:]:
        if begin <= out[-1][1]:
            if end > out[-1][1]:
                out[-1] = (out[-1][0], end)
        else:
            out.append((begin, end))
    return out


def overlap(a: Segments, b: Segments) -> bool:
    if a[-1][1] <= b[0][0] or b[-1][1] <= a[0][0]:
        return False
    i = j = 0
    while i < len(a) and j < len(b):
        if a[i][1] <= b[j][0]:
            i += 1
        elif b[j][1] <= a[i][0]:
            j += 1
        else:
            return True
    return False
