"""Register allocation: live ranges as segments, copies merged, registers given by weight, the rest spilled to 8-byte slots.

Values that live across a call find only r6-r9 free, because a call occupies r0-r5 at its position.  The heaviest ranges (uses, times eight
per loop level, by length) choose first; what finds no register is kept in the frame, or made again if it is a constant.
Positions: instruction ``i`` reads at ``2i`` and writes at ``2i + 1``; segments are half-open.
"""

from __future__ import annotations

from bisect import bisect_right

from .select import VIRTUAL, MachineBlock, Selected

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Machine = list[Any]
    Segments = list[tuple[int, int]]

__all__ = ("allocate", "references")

_MOV = 0xBF
_PREFERENCE = (1, 2, 3, 4, 5, 0, 6, 7, 8, 9)
_INFINITE = float("inf")
#: positions that a short range spans at most
_SHORT = 48


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


class _Range:
    """Everything known of one register, or of several that were merged."""

    __slots__ = ("hints", "segments", "slot", "weight")

    def __init__(self) -> None:
        self.segments: Segments = []
        self.weight = 0.0
        self.hints: dict[int, int] = {}


def _ranges(blocks: list[MachineBlock]) -> tuple[dict[int, _Range], list[Segments], list[tuple[int, int, int]]]:
    """Live ranges of virtual registers, occupied segments of real ones, and the copies between virtual registers (depth, to, from)."""
    refs = [[references(insn) for insn in block.code] for block in blocks]
    out = _live_out(blocks, refs)
    ranges: dict[int, _Range] = {}
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
                        found = ranges[r] = _Range()
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
                        found = ranges[r] = _Range()
                    found.weight += scale
            insn = block.code[i]
            if insn[0] == _MOV and not insn[3]:
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
                    found = ranges[r] = _Range()
                found.segments.append((block_start, end))
            else:
                fixed[r].append((block_start, end))
    for found in ranges.values():
        found.segments = _joined(found.segments)
    return ranges, [_joined(segments) for segments in fixed], copies


def _joined(segments: Segments) -> Segments:
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


def _overlap(a: Segments, b: Segments) -> bool:
    i = j = 0
    while i < len(a) and j < len(b):
        if a[i][1] <= b[j][0]:
            i += 1
        elif b[j][1] <= a[i][0]:
            j += 1
        else:
            return True
    return False


def _merge_copies(
    ranges: dict[int, _Range], copies: list[tuple[int, int, int]], precious: set[int], tiny: set[int], calls: Segments
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
            if any(r.segments[-1][1] - r.segments[0][0] > _SHORT or _overlap(r.segments, calls) for r in (first, second)):
                continue
            if _overlap(first.segments, second.segments):
                continue
            precious.add(a)
        elif _overlap(first.segments, second.segments):
            continue
        first.segments = _joined(first.segments + second.segments)
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
    frame = selected.frame
    next_register = selected.registers
    tiny: set[int] = set()
    while True:
        ranges, fixed, copies = _ranges(blocks)
        kept = set(selected.precious)
        # r5 is written by calls alone
        merged = _merge_copies(ranges, copies, kept, tiny, fixed[5])
        kept |= tiny
        files = [_File(segments) for segments in fixed]
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
            choice = -1
            wanted = sorted(found.hints, key=lambda r: -found.hints[r]) if found.hints else []  # noqa: B023
            for other in hints.get(register, ()):
                if other in assigned:
                    wanted.append(assigned[other])
            for real in (*wanted, *_PREFERENCE):
                if files[real].free(segments):
                    choice = real
                    break
            if choice < 0:
                if register in tiny:
                    raise RuntimeError("register allocation failed")
                spilled.append(register)
                continue
            assigned[register] = choice
            files[choice].take(segments)
        if not spilled:
            break
        families: dict[int, int] = {r: r for r in spilled}
        for r, representative in merged.items():
            if representative in families:
                families[r] = representative
        frame, next_register = _spill(blocks, families, ranges, frame, next_register, tiny)
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
            if insn[0] == _MOV and dst == src and not insn[3]:
                continue
            out.append(insn)
        block.code = out
    return frame


def _spill(
    blocks: list[MachineBlock], families: dict[int, int], ranges: dict[int, _Range], frame: int, next_register: int, tiny: set[int]
) -> tuple[int, int]:
    """Rewrites every reference to spilled registers; returns the new frame size and next free register number."""
    constants = _constants(blocks, families)
    slots: dict[int, int] = {}
    active: list[tuple[int, int]] = []  # (end, slot)
    free: list[int] = []
    for register in sorted(set(families.values()) - set(constants), key=lambda r: ranges[r].segments[0][0]):
        begin, end = ranges[register].segments[0][0], ranges[register].segments[-1][1]
        still = []
        for stop, slot in active:
            if stop <= begin:
                free.append(slot)
            else:
                still.append((stop, slot))
        active = still
        if free:
            slot = free.pop()
        else:
            frame += 8
            slot = -frame
        slots[register] = slot
        active.append((end, slot))
    for block in blocks:
        out: list[Machine] = []
        for insn in block.code:
            dst, src = insn[1], insn[2]
            one, two = families.get(dst), families.get(src)
            if one is None and two is None:
                out.append(insn)
                continue
            code, span = insn[0], insn[6]
            reads, writes = references(insn)
            if one is not None and one in constants and dst in writes:
                continue  # the definition of a constant: made again at each use
            if code == _MOV and not insn[3]:
                if two is not None and one is None:
                    out.append(_remake(constants[two], dst, span) if two in constants else [0x79, dst, 10, slots[two], 0, None, span])
                    continue
                if one is not None and two is None:
                    out.append([0x7B, 10, src, slots[one], 0, None, span])
                    continue
                if one == two:
                    continue
            if code == 0xB7 and one is not None:
                out.append([0x7A, 10, 0, slots[one], insn[4], None, span])
                continue
            new: dict[int, int] = {}
            for register in (dst, src):
                if register in families and register not in new and (register in reads or register in writes):
                    new[register] = next_register
                    tiny.add(next_register)
                    next_register += 1
            for register, temporary in new.items():
                if register in reads:
                    family = families[register]
                    if family in constants:
                        out.append(_remake(constants[family], temporary, span))
                    else:
                        out.append([0x79, temporary, 10, slots[family], 0, None, span])
            insn[1], insn[2] = new.get(dst, dst), new.get(src, src)
            out.append(insn)
            for register, temporary in new.items():
                if register in writes:
                    out.append([0x7B, 10, temporary, slots[families[register]], 0, None, span])
        block.code = out
    return frame, next_register


def _constants(blocks: list[MachineBlock], families: dict[int, int]) -> dict[int, Machine]:
    """Spilled registers that are written once, with a constant or the address of a map, and so need no slot."""
    once: dict[int, Machine | None] = {}
    for block in blocks:
        for insn in block.code:
            for written in references(insn)[1]:
                family = families.get(written)
                if family is None or (insn[0] == _MOV and families.get(insn[2]) == family):
                    continue
                once[family] = insn if family not in once and insn[0] in (0xB7, 0xB4, 0x18) else None
    return {family: insn for family, insn in once.items() if insn is not None}


def _remake(insn: Machine, register: int, span: Any) -> Machine:
    return [insn[0], register, insn[2], insn[3], insn[4], insn[5], span]
