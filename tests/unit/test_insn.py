"""The assembler's bytes and the disassembler's text."""

from __future__ import annotations

import pytest

from harken.base.errors import FormatError
from harken.formats import insn as asm


def text(*insns: asm.Insn) -> str:
    return "\n".join(line.split(": ", 1)[1] for line in asm.disassemble(asm.encode(insns), opcodes=False))


@pytest.mark.parametrize(
    ("insn", "line"),
    [
        (asm.mov64(1, 2), "r1 = r2"),
        (asm.mov32(1, imm=-1), "w1 = -1"),
        (asm.alu64("add", 3, imm=-8), "r3 += -8"),
        (asm.alu32("arsh", 3, 4), "w3 s>>= w4"),
        (asm.neg64(5), "r5 = -r5"),
        (asm.neg32(5), "w5 = -w5"),
        (asm.to_be(2, 16), "r2 = be16 r2"),
        (asm.to_le(2, 64), "r2 = le64 r2"),
        (asm.bswap(2, 32), "r2 = bswap32 r2"),
        (asm.movsx64(1, 2, 8), "r1 = (s8)r2"),
        (asm.sdiv64(1, 2), "r1 s/= r2"),
        (asm.smod64(1, imm=7), "r1 s%= 7"),
        (asm.ldx(8, 1, 10, -16), "r1 = *(u64 *)(r10 -16)"),
        (asm.ldsx(4, 1, 6, 8), "r1 = *(s32 *)(r6 +8)"),
        (asm.stx(2, 10, 1, -2), "*(u16 *)(r10 -2) = r1"),
        (asm.st(1, 10, 7, -1), "*(u8 *)(r10 -1) = 7"),
        (asm.atomic("add", 8, 0, 1), "lock *(u64 *)(r0 +0) += r1"),
        (asm.atomic("xor", 4, 0, 1, 4), "lock *(u32 *)(r0 +4) ^= r1"),
        (asm.atomic("add", 8, 0, 1, fetch=True), "r1 = atomic64_fetch_add((u64 *)(r0 +0), r1)"),
        (asm.atomic("xchg", 8, 0, 1), "r1 = atomic64_xchg((u64 *)(r0 +0), r1)"),
        (asm.atomic("cmpxchg", 4, 0, 1), "r0 = atomic_cmpxchg((u32 *)(r0 +0), r0, r1)"),
        (asm.jmp("ne", 1, imm=0, off=3), "if r1 != 0x0 goto pc+3"),
        (asm.jmp("sgt", 1, imm=-1, off=-3), "if r1 s> 0xffffffff goto pc-3"),
        (asm.jmp32("le", 1, 2, off=1), "if w1 <= w2 goto pc+1"),
        (asm.jmp("set", 1, imm=4, off=0), "if r1 & 0x4 goto pc+0"),
        (asm.ja(-2), "goto pc-2"),
        (asm.gotol(70000), "gotol pc+70000"),
        (asm.call("map_lookup_elem"), "call bpf_map_lookup_elem#1"),
        (asm.call_local(5), "call pc+5"),
        (asm.ld_imm64(3, 1 << 63), "r3 = 0x8000000000000000"),
        (asm.exit_(), "exit"),
    ],
)
def test_text(insn: asm.Insn, line: str) -> None:
    assert text(insn) == line


def test_bytes_are_the_kernels_layout() -> None:
    assert asm.encode([asm.alu64("add", 3, imm=-8)]).hex() == "07030000f8ffffff"
    assert asm.encode([asm.stx(8, 10, 1, -16)]).hex() == "7b1af0ff00000000"
    assert asm.encode([asm.ld_imm64(1, 0x1122334455667788)]).hex() == "18010000887766550000000044332211"


def test_decode_inverts_encode() -> None:
    insns = [asm.mov64(1, imm=-1), asm.ld_imm64(2, 0xDEADBEEF00000001, asm.PSEUDO_MAP_VALUE), asm.jmp32("lt", 1, 2, off=-3), asm.exit_()]
    assert [i for i in asm.decode(asm.encode(insns)) if i is not None] == insns


def test_symbols_replace_numbers() -> None:
    data = asm.encode([asm.ld_imm64(1, 7, asm.PSEUDO_MAP_FD), asm.call_local(2)])
    assert asm.disassemble(data, lambda slot, insn: f"sym{slot}") == ["0: (18) r1 = sym0", "2: (85) call sym2"]


@pytest.mark.parametrize(
    "data", [b"\x95", asm.encode([asm.ld_imm64(1, 0)])[:8], asm.encode([asm.ld_imm64(1, 0)])[:8] + asm.encode([asm.exit_()])]
)
def test_broken_programs_are_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        asm.decode(data)


def test_every_byte_string_disassembles() -> None:
    for code in range(256):
        if code != asm.LD_IMM64:
            assert asm.disassemble(bytes((code, 0x21, 1, 0, 8, 0, 0, 0)))
