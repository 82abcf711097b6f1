"""BPF instructions: an assembler of small typed functions, and a disassembler in the kernel's own style.

An instruction is a plain tuple ``(code, dst, src, off, imm)`` (``Documentation/bpf/standardization/instruction-set.rst`` in the
kernel); ``encode`` packs a list of them.  ``ld_imm64`` takes two slots of 8 bytes but is one tuple whose ``imm`` has 64 bits.

Example:
    >>> program = [mov64(R0, imm=3), alu64("mul", R0, imm=14), exit_()]
    >>> data = encode(program)
    >>> len(data)
    24
    >>> print("\\n".join(disassemble(data)))
    0: (b7) r0 = 3
    1: (27) r0 *= 14
    2: (95) exit
"""

from __future__ import annotations

import struct

from ..abi.bpf_helpers import HELPERS, name_of
from ..base.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Insn = tuple[int, int, int, int, int]

__all__ = (
    "R0", "R1", "R2", "R3", "R4", "R5", "R6", "R7", "R8", "R9", "R10",
    "ALU", "JUMPS", "SIZES", "LD_IMM64", "CALL", "EXIT", "JA", "JA32", "MOV64", "MOV32",
    "PSEUDO_MAP_FD", "PSEUDO_MAP_VALUE", "PSEUDO_BTF_ID", "PSEUDO_FUNC", "PSEUDO_CALL", "PSEUDO_KFUNC",
    "alu64", "alu32", "mov64", "mov32", "movsx64", "neg64", "neg32", "sdiv64", "smod64", "to_be", "to_le", "bswap",
    "ldx", "ldsx", "stx", "st", "atomic", "jmp", "jmp32", "ja", "gotol", "ld_imm64", "call", "call_local", "exit_",
    "encode", "decode", "disassemble",
)  # fmt: skip

R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10 = range(11)

#: the high four bits of an arithmetic opcode
ALU = {
    "add": 0x00, "sub": 0x10, "mul": 0x20, "div": 0x30, "or": 0x40, "and": 0x50, "lsh": 0x60, "rsh": 0x70,
    "neg": 0x80, "mod": 0x90, "xor": 0xA0, "mov": 0xB0, "arsh": 0xC0, "end": 0xD0,
}  # fmt: skip
#: the high four bits of a jump
JUMPS = {
    "ja": 0x00, "eq": 0x10, "gt": 0x20, "ge": 0x30, "set": 0x40, "ne": 0x50, "sgt": 0x60, "sge": 0x70,
    "lt": 0xA0, "le": 0xB0, "slt": 0xC0, "sle": 0xD0,
}  # fmt: skip
#: size in bytes -> size bits
SIZES = {1: 0x10, 2: 0x08, 4: 0x00, 8: 0x18}
_BYTES = {0x10: 1, 0x08: 2, 0x00: 4, 0x18: 8}

LD_IMM64, CALL, EXIT, JA, JA32, MOV64, MOV32 = 0x18, 0x85, 0x95, 0x05, 0x06, 0xBF, 0xBC
PSEUDO_MAP_FD, PSEUDO_MAP_VALUE, PSEUDO_BTF_ID, PSEUDO_FUNC = 1, 2, 3, 4
PSEUDO_CALL, PSEUDO_KFUNC = 1, 2

#: operation of an atomic instruction -> its imm
ATOMICS = {"add": 0x00, "or": 0x40, "and": 0x50, "xor": 0xA0, "xchg": 0xE1, "cmpxchg": 0xF1}
FETCH = 1


def alu64(op: str, dst: int, src: int | None = None, imm: int = 0) -> Insn:
    """``dst op= src`` (or ``imm``, sign-extended) on 64 bits."""
    return (0x07 | ALU[op], dst, 0, 0, imm) if src is None else (0x0F | ALU[op], dst, src, 0, 0)


def alu32(op: str, dst: int, src: int | None = None, imm: int = 0) -> Insn:
    """``dst op= src`` (or ``imm``) on the low 32 bits; the upper half becomes zero."""
    return (0x04 | ALU[op], dst, 0, 0, imm) if src is None else (0x0C | ALU[op], dst, src, 0, 0)


def mov64(dst: int, src: int | None = None, imm: int = 0) -> Insn:
    return alu64("mov", dst, src, imm)


def mov32(dst: int, src: int | None = None, imm: int = 0) -> Insn:
    return alu32("mov", dst, src, imm)


def movsx64(dst: int, src: int, bits: int) -> Insn:
    """Sign-extending move of the low 8, 16 or 32 bits (cpu v4)."""
    return (MOV64, dst, src, bits, 0)


def neg64(dst: int) -> Insn:
    return (0x87, dst, 0, 0, 0)


def neg32(dst: int) -> Insn:
    return (0x84, dst, 0, 0, 0)


def sdiv64(dst: int, src: int | None = None, imm: int = 0) -> Insn:
    """Signed division (cpu v4)."""
    code, d, s, _, i = alu64("div", dst, src, imm)
    return (code, d, s, 1, i)


def smod64(dst: int, src: int | None = None, imm: int = 0) -> Insn:
    """Signed remainder (cpu v4)."""
    code, d, s, _, i = alu64("mod", dst, src, imm)
    return (code, d, s, 1, i)


def to_be(dst: int, bits: int) -> Insn:
    """Converts the low ``bits`` between host and big endian, zeroes the rest."""
    return (0xDC, dst, 0, 0, bits)


def to_le(dst: int, bits: int) -> Insn:
    return (0xD4, dst, 0, 0, bits)


def bswap(dst: int, bits: int) -> Insn:
    """Unconditional byte swap (cpu v4)."""
    return (0xD7, dst, 0, 0, bits)


def ldx(size: int, dst: int, base: int, off: int = 0) -> Insn:
    """``dst = *(size *)(base + off)``, zero-extended; size in bytes."""
    return (0x61 | SIZES[size], dst, base, off, 0)


def ldsx(size: int, dst: int, base: int, off: int = 0) -> Insn:
    """``dst = *(signed size *)(base + off)``, sign-extended (cpu v4); size 1, 2 or 4."""
    return (0x81 | SIZES[size], dst, base, off, 0)


def stx(size: int, base: int, src: int, off: int = 0) -> Insn:
    return (0x63 | SIZES[size], base, src, off, 0)


def st(size: int, base: int, imm: int, off: int = 0) -> Insn:
    return (0x62 | SIZES[size], base, 0, off, imm)


def atomic(op: str, size: int, base: int, src: int, off: int = 0, fetch: bool = False) -> Insn:
    """An atomic operation on 4 or 8 bytes; "xchg" and "cmpxchg" always fetch (cmpxchg compares with and returns in r0)."""
    return (0xC3 | SIZES[size], base, src, off, ATOMICS[op] | (FETCH if fetch else 0))


def jmp(op: str, dst: int, src: int | None = None, imm: int = 0, off: int = 0) -> Insn:
    """Compares 64 bits; jumps over ``off`` slots."""
    return (0x05 | JUMPS[op], dst, 0, off, imm) if src is None else (0x0D | JUMPS[op], dst, src, off, 0)


def jmp32(op: str, dst: int, src: int | None = None, imm: int = 0, off: int = 0) -> Insn:
    return (0x06 | JUMPS[op], dst, 0, off, imm) if src is None else (0x0E | JUMPS[op], dst, src, off, 0)


def ja(off: int) -> Insn:
    return (JA, 0, 0, off, 0)


def gotol(off: int) -> Insn:
    """A jump with 32 bits of distance (cpu v4)."""
    return (JA32, 0, 0, 0, off)


def ld_imm64(dst: int, imm: int, kind: int = 0) -> Insn:
    """Loads 64 bits.  ``kind`` is a PSEUDO_* number: for PSEUDO_MAP_VALUE the offset stands in the upper half."""
    return (LD_IMM64, dst, kind, 0, imm)


def call(helper: str | int) -> Insn:
    """Calls a helper by name ("ktime_get_ns") or number."""
    return (CALL, 0, 0, 0, HELPERS[helper] if isinstance(helper, str) else helper)


def call_local(off: int) -> Insn:
    """Calls a function of the same program."""
    return (CALL, 0, PSEUDO_CALL, 0, off)


def exit_() -> Insn:
    return (EXIT, 0, 0, 0, 0)


_SLOT = struct.Struct("<BBhi")


def _signed(value: int) -> int:
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def encode(insns: Iterable[Insn]) -> bytes:
    """The bytes of the instructions, little-endian."""
    out: list[bytes] = []
    pack = _SLOT.pack
    for code, dst, src, off, imm in insns:
        if code == LD_IMM64:
            out.append(pack(code, dst | src << 4, off, _signed(imm)))
            out.append(pack(0, 0, 0, _signed(imm >> 32)))
        else:
            out.append(pack(code, dst | src << 4, off, _signed(imm)))
    return b"".join(out)


def decode(data: bytes) -> list[Insn | None]:
    """One entry per slot; the second slot of an ``ld_imm64`` is None.

    Raises:
        FormatError: the length is not a multiple of 8, or an ``ld_imm64`` lacks its second half.
    """
    if len(data) % 8:
        raise FormatError("BPF program", "its length is not a multiple of 8", len(data))
    out: list[Insn | None] = []
    slots = _SLOT.iter_unpack(data)
    for code, regs, off, imm in slots:
        if code == LD_IMM64:
            upper = next(slots, None)
            if upper is None or upper[0]:
                raise FormatError("BPF program", "ld_imm64 without a second half", len(out) * 8)
            out.append((code, regs & 15, regs >> 4, off, (imm & 0xFFFFFFFF) | (upper[3] & 0xFFFFFFFF) << 32))
            out.append(None)
        else:
            out.append((code, regs & 15, regs >> 4, off, imm))
    return out


_OPERATORS = {
    0x00: "+=", 0x10: "-=", 0x20: "*=", 0x30: "/=", 0x40: "|=", 0x50: "&=", 0x60: "<<=", 0x70: ">>=",
    0x90: "%=", 0xA0: "^=", 0xB0: "=", 0xC0: "s>>=",
}  # fmt: skip
_CONDITIONS = {
    0x10: "==", 0x20: ">", 0x30: ">=", 0x40: "&", 0x50: "!=", 0x60: "s>", 0x70: "s>=", 0xA0: "<", 0xB0: "<=", 0xC0: "s<", 0xD0: "s<=",
}  # fmt: skip
_TYPES = {0x10: "u8", 0x08: "u16", 0x00: "u32", 0x18: "u64"}
_SIGNED = {0x10: "s8", 0x08: "s16", 0x00: "s32", 0x18: "s64"}
_ATOMIC_NAMES = {0x00: "add", 0x40: "or", 0x50: "and", 0xA0: "xor"}


def disassemble(data: bytes, symbol: Callable[[int, Insn], str] | None = None, opcodes: bool = True) -> list[str]:
    """One line per instruction, as the verifier's log and ``bpftool prog dump xlated`` write them (kernel/bpf/disasm.c).

    Args:
        data: the instructions.
        symbol: (slot, instruction) -> text for an ``ld_imm64`` or a call ("" for the default), such as "map[id:7]".
        opcodes: leave out the numbers in parentheses if false.
    """
    lines = []
    for slot, insn in enumerate(decode(data)):
        if insn is None:
            continue
        name = symbol(slot, insn) if symbol is not None else ""
        code = f"({insn[0]:02x}) " if opcodes else ""
        lines.append(f"{slot}: {code}{_text(insn, name)}")
    return lines


def _text(insn: Insn, name: str) -> str:
    code, dst, src, off, imm = insn
    kind = code & 7
    if kind in (4, 7):
        return _alu_text(insn)
    if kind == 1:
        types = _SIGNED if code & 0xE0 == 0x80 else _TYPES
        return f"r{dst} = *({types[code & 0x18]} *)(r{src} {off:+d})"
    if kind == 2:
        return f"*({_TYPES[code & 0x18]} *)(r{dst} {off:+d}) = {imm}"
    if kind == 3:
        if code & 0xE0 == 0xC0:
            return _atomic_text(insn)
        return f"*({_TYPES[code & 0x18]} *)(r{dst} {off:+d}) = r{src}"
    if kind in (5, 6):
        return _jump_text(insn, name)
    if code == LD_IMM64:
        return f"r{dst} = {name or f'{imm:#x}'}"
    return f"BUG_{code:02x}"


def _alu_text(insn: Insn) -> str:
    code, dst, src, off, imm = insn
    letter = "w" if code & 7 == 4 else "r"
    op = code & 0xF0
    target = f"{letter}{dst}"
    if op == 0x80:
        return f"{target} = -{target}"
    if op == 0xD0:
        if code & 7 == 7:
            return f"r{dst} = bswap{imm} r{dst}"
        return f"r{dst} = {'be' if code & 8 else 'le'}{imm} r{dst}"
    if op == 0xB0 and off and code & 8:
        return f"{target} = (s{off}){letter}{src}"
    operator = _OPERATORS.get(op)
    if operator is None:
        return f"BUG_alu_{code:02x}"
    if off == 1 and op in (0x30, 0x90):
        operator = "s" + operator
    return f"{target} {operator} " + (f"{letter}{src}" if code & 8 else str(imm))


def _atomic_text(insn: Insn) -> str:
    code, dst, src, off, imm = insn
    wide = code & 0x18 == 0x18
    place, bits = f"({'u64' if wide else 'u32'} *)(r{dst} {off:+d})", 64 if wide else 32
    if imm == ATOMICS["xchg"]:
        return f"r{src} = atomic{bits if wide else ''}_xchg({place}, r{src})"
    if imm == ATOMICS["cmpxchg"]:
        return f"r0 = atomic{bits if wide else ''}_cmpxchg({place}, r0, r{src})"
    name = _ATOMIC_NAMES.get(imm & 0xF0)
    if name is None or imm & 0x0E:
        return f"BUG_{code:02x}"
    if imm & FETCH:
        return f"r{src} = atomic{bits if wide else ''}_fetch_{name}({place}, r{src})"
    return f"lock *{place} {_OPERATORS[imm & 0xF0]} r{src}"


def _jump_text(insn: Insn, name: str) -> str:
    code, dst, src, off, imm = insn
    op = code & 0xF0
    if code == CALL:
        if src == PSEUDO_CALL:
            return f"call {name or f'pc{imm:+d}'}"
        if name:
            return f"call {name}"
        if src == PSEUDO_KFUNC:
            return f"call kernel-function#{imm}"
        known = name_of(imm)
        return f"call {'bpf_' if known and imm else ''}{known or 'unknown'}#{imm}"
    if code == EXIT:
        return "exit"
    if code == JA:
        return f"goto pc{off:+d}"
    if code == JA32:
        return f"gotol pc{imm:+d}"
    if op == 0xE0:
        return f"may_goto pc{off:+d}"
    condition = _CONDITIONS.get(op)
    if condition is None:
        return f"BUG_{code:02x}"
    letter = "w" if code & 7 == 6 else "r"
    right = f"{letter}{src}" if code & 8 else f"{imm & 0xFFFFFFFF:#x}"
    return f"if {letter}{dst} {condition} {right} goto pc{off:+d}"
