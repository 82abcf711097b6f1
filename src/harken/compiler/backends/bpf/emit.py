"""From machine blocks to bytes: jump threading, fall-through, peephole, distances, links between functions, relocations."""

from __future__ import annotations

from ....base.errors import LimitError
from ....formats.insn import LD_IMM64, encode
from ....formats.spec import Reloc
from ...target import Target
from .operands import MachineBlock, Selected

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ....base.diagnostics import Span
    from ....formats.insn import Insn

    Machine = list[Any]
    #: a function: its name, its blocks by number, and where it stands in the source
    Laid = tuple[str, list[tuple[int, list[Machine]]], Span | None]

__all__ = ("Linked", "layout", "link")

_JA, _JA32 = 0x05, 0x06
#: Instructions that every kernel takes (BPF_MAXINSNS).
_ALWAYS = 4096
_INVERSE = {0x10: 0x50, 0x50: 0x10, 0x20: 0xB0, 0xB0: 0x20, 0x30: 0xA0, 0xA0: 0x30, 0x60: 0xD0, 0xD0: 0x60, 0x70: 0xC0, 0xC0: 0x70}


class Linked:
    """The bytes of one program: instructions, relocations, (slot, function name) starts and (slot, span) line marks."""

    __slots__ = ("functions", "insns", "lines", "relocs", "slots")

    def __init__(
        self, insns: bytes, relocs: tuple[Reloc, ...], functions: list[tuple[int, str]], lines: list[tuple[int, Span | None]], slots: int
    ) -> None:
        self.insns, self.relocs, self.functions, self.lines, self.slots = insns, relocs, functions, lines, slots


def layout(selected: Selected) -> list[tuple[int, list[Machine]]]:
    """The blocks that are jumped to or fallen into, jumps to jumps followed, jumps to the next instruction dropped."""
    blocks = selected.blocks
    alias: dict[int, int] = {}
    for block in blocks:
        if len(block.code) == 1 and block.code[0][0] == _JA and block.code[0][5] != block.number:
            alias[block.number] = block.code[0][5]

    def final(number: int) -> int:
        seen = set()
        while number in alias and number not in seen:
            seen.add(number)
            number = alias[number]
        return number

    for block in blocks:
        for insn in block.code:
            if insn[0] & 7 in (5, 6) and insn[0] not in (0x85, 0x95):
                insn[5] = final(insn[5])
    by_number = {block.number: block for block in blocks}
    reached: set[int] = set()
    work = [blocks[0].number]
    while work:
        number = work.pop()
        if number in reached:
            continue
        reached.add(number)
        for insn in by_number[number].code:
            if insn[0] & 7 in (5, 6) and insn[0] not in (0x85, 0x95):
                work.append(insn[5])
    ordered = _chain([block for block in blocks if block.number in reached])
    out: list[tuple[int, list[Machine]]] = []
    for position, block in enumerate(ordered):
        code = _peephole(block.code)
        following = ordered[position + 1].number if position + 1 < len(ordered) else -1
        if code and code[-1][0] == _JA:
            target = code[-1][5]
            if len(code) > 1 and _conditional(code[-2]) and code[-2][5] == target:
                code.pop(-2)
            if target == following:
                code.pop()
            elif len(code) > 1 and _conditional(code[-2]) and code[-2][5] == following and code[-2][0] & 0xF0 in _INVERSE:
                jump = code[-2]
                jump[0] = jump[0] & 0x0F | _INVERSE[jump[0] & 0xF0]
                jump[5] = target
                code.pop()
            if code and _conditional(code[-1]) and code[-1][5] == following:
                code.pop()
        out.append((block.number, code))
    return out


def _conditional(insn: Machine) -> bool:
    return insn[0] & 7 in (5, 6) and insn[0] not in (0x85, 0x95, _JA)


def _chain(blocks: list[MachineBlock]) -> list[MachineBlock]:
    """Puts behind each block one that it goes to: the one that stood there already, else the target of its final jump."""
    by_number = {block.number: block for block in blocks}
    after = {block.number: following.number for block, following in zip(blocks, blocks[1:])}
    placed: set[int] = set()
    out: list[MachineBlock] = []
    for first in blocks:
        block: MachineBlock | None = first
        while block is not None and block.number not in placed:
            placed.add(block.number)
            out.append(block)
            code = block.code
            if not code or code[-1][0] != _JA:
                break
            target = code[-1][5]
            if len(code) > 1 and _conditional(code[-2]) and code[-2][5] == after.get(block.number) and code[-2][5] not in placed:
                target = code[-2][5]
            block = by_number.get(target)
    return out


def _peephole(code: list[Machine]) -> list[Machine]:
    """Small repairs of what spilling and copying leave behind."""
    out: list[Machine] = []
    for insn in code:
        if out:
            last = out[-1]
            # a slot that was just written is read: take the register
            if insn[0] == 0x79 and insn[2] == 10 and last[0] == 0x7B and last[1] == 10 and last[3] == insn[3]:
                if insn[1] != last[2]:
                    out.append([0xBF, insn[1], last[2], 0, 0, None, insn[6]])
                continue
            # add twice to the same register
            if insn[0] == 0x07 and last[0] == 0x07 and insn[1] == last[1] and -(1 << 31) <= insn[4] + last[4] < 1 << 31:
                last[4] += insn[4]
                continue
        out.append(insn)
    return out


def link(functions: list[Laid], target: Target) -> Linked:
    """One program from the code of its functions, the entry first.

    Raises:
        LimitError: too many instructions, or a jump too far.
    """
    placed = _places(functions)
    if placed[2] > 32000 and target.has("cpu_v4"):
        functions = [(name, _far(blocks), span) for name, blocks, span in functions]
        placed = _places(functions)
    if placed[2] > _ALWAYS:
        limit = 1_000_000 if target.has("insns_1m") else _ALWAYS
        if placed[2] > limit:
            raise LimitError(
                f"the program has {placed[2]} instructions; this kernel takes {limit}",
                "split it into several probes, or make loops shorter",
            )
    return _write(functions, *placed[:2])


def _write(
    functions: list[Laid],
    starts: dict[str, int],
    places: list[dict[int, int]],
) -> Linked:
    out: list[Insn] = []
    relocs: list[Reloc] = []
    marks: list[tuple[int, Span | None]] = []
    slot = 0
    for (_, blocks, span), where in zip(functions, places):
        last: Any = span
        marks.append((slot, span))
        for _, code in blocks:
            for insn in code:
                op, dst, src, off, imm, extra, at = insn
                if at is not None and at is not last:
                    if marks[-1][0] == slot:
                        marks[-1] = (slot, at)
                    else:
                        marks.append((slot, at))
                    last = at
                if op == LD_IMM64:
                    if extra is not None:
                        kind, symbol, addend = extra
                        if kind == "func":
                            imm = (starts[symbol] - slot - 1) & 0xFFFFFFFF
                        else:
                            relocs.append(Reloc(slot, kind, symbol, addend))
                    out.append((op, dst, src, off, imm))
                    slot += 2
                    continue
                if op == 0x85:
                    reference = extra[1]
                    if reference is not None:
                        if reference[0] == "func":
                            imm = starts[reference[1]] - slot - 1
                        else:
                            relocs.append(Reloc(slot, reference[0], reference[1], 0))
                elif op == _JA32:
                    imm = where[extra] - slot - 1
                elif op & 7 in (5, 6) and op != 0x95:
                    off = where[extra] - slot - 1 if extra != "skip" else 1
                    if not -32768 <= off < 32768:
                        raise LimitError("the program is so long that a jump does not reach its target", "split it into several probes")
                out.append((op, dst, src, off, imm))
                slot += 1
    return Linked(encode(out), tuple(relocs), [(start, name) for name, start in starts.items()], marks, slot)


def _far(blocks: list[tuple[int, list[Machine]]]) -> list[tuple[int, list[Machine]]]:
    """Every jump with 32 bits of distance (used for programs of more than 32,000 instructions)."""
    out = []
    for number, code in blocks:
        new: list[Machine] = []
        for insn in code:
            if insn[0] == _JA:
                new.append([_JA32, 0, 0, 0, 0, insn[5], insn[6]])
            elif _conditional(insn):
                inverse = _INVERSE.get(insn[0] & 0xF0)
                target = insn[5]
                if inverse is not None:
                    new.append([insn[0] & 0x0F | inverse, *insn[1:5], "skip", insn[6]])
                else:
                    new.append([*insn[:5], "skip", insn[6]])
                    new.append([_JA, 0, 0, 0, 0, "skip", insn[6]])
                new.append([_JA32, 0, 0, 0, 0, target, insn[6]])
            else:
                new.append(insn)
        out.append((number, new))
    return out


def _places(functions: list[Laid]) -> tuple[dict[str, int], list[dict[int, int]], int]:
    """Where functions begin, where the blocks of each do, and the length of the whole, in slots."""
    starts: dict[str, int] = {}
    places: list[dict[int, int]] = []
    position = 0
    for name, blocks, _ in functions:
        starts[name] = position
        where: dict[int, int] = {}
        for number, code in blocks:
            where[number] = position
            for insn in code:
                position += 2 if insn[0] == LD_IMM64 else 1
        places.append(where)
    return starts, places, position
