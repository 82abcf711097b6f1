"""Spilling: registers that found no room live in the frame, and stay in a register for a few instructions after each use."""

from __future__ import annotations

from .operands import VIRTUAL, MachineBlock
from .ranges import MOV, Range, references

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Machine = list[Any]

__all__ = ("spill",)


def spill(
    blocks: list[MachineBlock],
    families: dict[int, int],
    ranges: dict[int, Range],
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
        ranges: dict[int, Range],
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
            if op == MOV and not insn[3]:
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
                if family is None or (insn[0] == MOV and families.get(insn[2]) == family):
                    continue
                once[family] = insn if family not in once and insn[0] in (0xB7, 0xB4, 0x18) else None
    return {family: insn for family, insn in once.items() if insn is not None}


def _remake(insn: Machine, register: int, span: Any) -> Machine:
    return [insn[0], register, insn[2], insn[3], insn[4], insn[5], span]
