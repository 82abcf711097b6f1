"""Register allocation: live ranges as segments, copies merged, registers given by weight, the rest spilled to 8-byte slots.

Values that live across a call find only r6-r9 free, because a call occupies r0-r5 at its position.  The heaviest ranges (uses, times eight
per loop level, by length) choose first; what finds no register is kept in the frame, or made again if it is a constant.
Positions: instruction ``i`` reads at ``2i`` and writes at ``2i + 1``; segments are half-open.
"""

from __future__ import annotations

from bisect import bisect_right

from .operands import VIRTUAL, MachineBlock, Selected

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
#: for how many instructions a spilled value stays in a register after a use; the next is tried when registers do not suffice
_GAPS = (4, 0, -1)


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


def _merge_copies(
    ranges: dict[int, _Range], copies: list[tuple[int, int, int]], precious: set[int], tiny: set[int], calls: _File
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
        ranges, fixed, copies = _ranges(blocks)
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
        families: dict[int, int] = {r: r for r in spilled}
        for r, representative in merged.items():
            if representative in families:
                families[r] = representative
        frame, next_register = _spill(blocks, families, ranges, frame, next_register, tiny, gap)
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
    blocks: list[MachineBlock],
    families: dict[int, int],
    ranges: dict[int, _Range],
    frame: int,
    next_register: int,
    tiny: set[int],
    gap: int,
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
    begin = 0
    for block in blocks:
        count = len(block.code)
        rewriter = _Rewriter(families, constants, slots, ranges, next_register, tiny, gap)
        block.code = rewriter.block(block.code, 2 * begin)
        next_register = rewriter.next
        begin += count
    return frame, next_register


class _Rewriter:
    """Replaces the spilled registers of one block by memory and registers that hold them for a few instructions.

    ``near`` maps a family to [register that holds it, whether memory is out of date, position of its last use].
    """

    def __init__(
        self,
        families: dict[int, int],
        constants: dict[int, Machine],
        slots: dict[int, int],
        ranges: dict[int, _Range],
        next_register: int,
        tiny: set[int],
        gap: int,
    ) -> None:
        self.families, self.constants, self.slots, self.ranges = families, constants, slots, ranges
        self.next, self.tiny, self.gap = next_register, tiny, gap
        self.near: dict[int, list[Any]] = {}
        self.out: list[Machine] = []
        self.position = 0

    def leave(self, family: int) -> None:
        """Stops holding a family; stores it if it changed and is read again."""
        register, changed, _ = self.near.pop(family)
        if changed:
            at = self.position
            if any(begin <= at < end for begin, end in self.ranges[family].segments):
                self.out.append([0x7B, 10, register, self.slots[family], 0, None, None])

    def hold(self, register: int, position: int, reads: bool, writes: bool, span: Any) -> int:
        """The real-to-be register for a spilled one."""
        family = self.families[register]
        held = self.near.get(family)
        if held is None:
            held = self.near[family] = [self.next, False, position]
            self.tiny.add(self.next)
            self.next += 1
            if reads:
                if family in self.constants:
                    self.out.append(_remake(self.constants[family], held[0], span))
                else:
                    self.out.append([0x79, held[0], 10, self.slots[family], 0, None, span])
        held[1] = held[1] or writes
        held[2] = position
        return held[0]  # type: ignore[no-any-return]

    def block(self, code: list[Machine], start: int) -> list[Machine]:
        families, near, out = self.families, self.near, self.out
        for position, insn in enumerate(code):
            op, dst, src, span = insn[0], insn[1], insn[2], insn[6]
            self.position = start + 2 * position
            one, two = families.get(dst), families.get(src)
            leaves = op & 7 in (5, 6)
            if near:
                for family in [f for f, held in near.items() if (leaves or position - held[2] > self.gap) and f != one and f != two]:
                    self.leave(family)
            if one is None and two is None:
                out.append(insn)
                continue
            reads, writes = references(insn)
            if one is not None and one in self.constants and dst in writes:
                continue  # the definition of a constant: made again at each use
            if op == _MOV and not insn[3]:
                if one == two:
                    continue
                if one is None and two is not None and two not in near:
                    if two in self.constants:
                        out.append(_remake(self.constants[two], dst, span))
                    else:
                        out.append([0x79, dst, 10, self.slots[two], 0, None, span])
                    continue
                if one is not None and src < VIRTUAL and self.gap < 0:
                    near.pop(one, None)
                    out.append([0x7B, 10, src, self.slots[one], 0, None, span])
                    continue
            if op == 0xB7 and one is not None and not self.used_soon(code, position, dst):
                near.pop(one, None)
                out.append([0x7A, 10, 0, self.slots[one], insn[4], None, span])
                continue
            if two is not None and src in reads or src in writes and two is not None:
                insn[2] = self.hold(src, position, src in reads, src in writes, span)
            if one is not None:
                insn[1] = self.hold(dst, position, dst in reads, dst in writes, span)
            if leaves:
                for family in list(near):
                    self.leave(family)
            out.append(insn)
            if self.gap < 0:
                self.position += 2
                for family in list(near):
                    self.leave(family)
        self.position = start + 2 * len(code)
        for family in list(near):
            self.leave(family)
        return out

    def used_soon(self, code: list[Machine], position: int, register: int) -> bool:
        """Whether the next instructions use the register again."""
        family = self.families[register]
        for insn in code[position + 1 : position + 2 + self.gap]:
            if self.families.get(insn[1]) == family or self.families.get(insn[2]) == family:
                return True
        return False


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
