"""How long x86-64 instructions are, so that a probe is not put into the middle of one.

The kernel does not check that: it writes its breakpoint where it is told, and the probed program computes something else from then on.
Only lengths are decoded, from prefixes, opcode, ModRM, SIB, displacement and immediate; legacy, VEX and EVEX encodings.  What is not known
(or no instruction in 64-bit mode) has length 0.

Reference: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, chapter 2 and appendix A.

Example:
    >>> code = bytes.fromhex("f30f1efa 55 4889e5 488b053c2d0000 e800000000 c3")
    >>> [length(code, at) for at in (0, 4, 5, 8, 15, 20)]
    [4, 1, 3, 7, 5, 1]
    >>> starts_at(code, 0, 8), starts_at(code, 0, 9), starts_at(code, 0, 100)
    (True, False, None)
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    Buffer = bytes | bytearray | memoryview

__all__ = ("length", "starts_at")

#: Instructions are at most this long; the CPU refuses longer ones.
_MOST = 15
#: Bytes of a function that are decoded.
_MOST_CODE = 1 << 20

_PREFIXES = frozenset(b"\x26\x2e\x36\x3e\x64\x65\x66\x67\xf0\xf2\xf3")

# What follows an opcode: M a ModRM byte; 1, 2 and z immediates of 1, 2 and 4 bytes (z: 2 with prefix 66); r a 4-byte distance; G like M
# with an immediate only for TEST (/0, /1); Q 8 bytes with REX.W, else z; a an address of 8 bytes (4 with prefix 67); "-" nothing;
# "x" invalid.
_ALU = ["M", "M", "M", "M", "1", "z"]


def _one_byte() -> list[str]:
    table = ["-"] * 256
    for row in range(8):
        table[row * 8 : row * 8 + 8] = [*_ALU, "x", "x"]
    table[0x60:0x63] = "xxx"
    table[0x63] = "M"
    table[0x68:0x6C] = ["z", "Mz", "1", "M1"]
    table[0x70:0x80] = ["1"] * 16
    table[0x80:0x90] = ["M1", "Mz", "x", "M1"] + ["M"] * 12
    table[0x9A] = "x"
    table[0xA0:0xA4] = "aaaa"
    table[0xA8:0xAA] = "1z"
    table[0xB0:0xC0] = ["1"] * 8 + ["Q"] * 8
    table[0xC0:0xD0] = ["M1", "M1", "2", "-", "x", "x", "M1", "Mz", "21", "-", "2", "-", "-", "1", "x", "-"]
    table[0xD0:0xE0] = ["M"] * 4 + ["x", "x", "x", "-"] + ["M"] * 8
    table[0xE0:0xF0] = ["1"] * 8 + ["r", "r", "x", "1", "-", "-", "-", "-"]
    table[0xF6:0xF8] = ["G1", "Gz"]
    table[0xFE:0x100] = "MM"
    return table


def _two_byte() -> list[str]:
    table = ["M"] * 256
    table[0x04:0x10] = ["x", "-", "-", "-", "-", "-", "x", "-", "x", "M", "-", "M1"]
    table[0x24:0x28] = "xxxx"
    table[0x30:0x40] = ["-"] * 6 + ["x", "-"] + ["x"] * 8
    table[0x70:0x74] = ["M1"] * 4
    table[0x77] = "-"
    table[0x80:0x90] = ["r"] * 16
    table[0xA0:0xA3] = "---"
    table[0xA4] = table[0xAC] = table[0xBA] = table[0xC2] = table[0xC4] = table[0xC5] = table[0xC6] = "M1"
    table[0xA8:0xAB] = "---"
    table[0xC8:0xD0] = "--------"
    return table


_ONE, _TWO = _one_byte(), _two_byte()
#: Opcodes of the 0F map that have an immediate in VEX and EVEX encodings.
_VECTOR_IMMEDIATE = frozenset((0x70, 0x71, 0x72, 0x73, 0xC2, 0xC4, 0xC5, 0xC6))


def length(code: Buffer, at: int) -> int:
    """The length of the instruction at ``code[at:]`` in bytes, 0 if it is not known or does not end inside of ``code``."""
    raw = bytes(code[at : at + _MOST])
    found = _length(raw + bytes(_MOST))  # zeros end every instruction; it is checked below that none were used
    return found if 0 < found <= len(raw) else 0


def starts_at(code: Buffer, start: int, offset: int) -> bool | None:
    """Whether an instruction starts ``offset`` bytes behind the instruction at ``start``; None if that cannot be told.

    Decoding is linear, so it errs where data stands between instructions; compilers for x86-64 put data elsewhere.
    """
    place, end = start, start + offset
    if not 0 <= offset <= _MOST_CODE:
        return None
    while place < end:
        size = length(code, place)
        if not size:
            return None
        place += size
    return place == end


def _length(code: bytes) -> int:
    place, narrow, short = 0, False, False
    while code[place] in _PREFIXES:
        narrow |= code[place] == 0x66
        short |= code[place] == 0x67
        place += 1
        if place > _MOST:
            return 0
    rex = code[place] if 0x40 <= code[place] < 0x50 else 0
    place += 1 if rex else 0
    wide = bool(rex & 8)
    op = code[place]
    if op in (0xC4, 0xC5, 0x62):
        return _vector(code, place)
    if op != 0x0F:
        return _operands(code, place + 1, _ONE[op], narrow and not wide, short, wide)
    op = code[place + 1]
    if op == 0x38:
        return _operands(code, place + 3, "M", False, short, wide)
    if op == 0x3A:
        return _operands(code, place + 3, "M1", False, short, wide)
    if 0x20 <= op < 0x24:  # control and debug registers: ModRM always means registers
        return place + 3
    return _operands(code, place + 2, _TWO[op], narrow and not wide, short, wide)


def _vector(code: bytes, place: int) -> int:
    """VEX (C5: map 0F; C4) and EVEX (62)."""
    lead = code[place]
    if lead == 0xC5:
        table, place = 1, place + 2
    elif lead == 0xC4:
        table, place = code[place + 1] & 31, place + 3
    else:
        table, place = code[place + 1] & 7, place + 4
    op = code[place]
    if table == 1:
        if op == 0x77 and lead != 0x62:
            return place + 1
        what = "M1" if op in _VECTOR_IMMEDIATE else "M"
    elif table == 2 or (lead == 0x62 and table in (5, 6)):
        what = "M"
    elif table == 3:
        what = "M1"
    else:
        return 0
    return _operands(code, place + 1, what, False, False, False)


def _operands(code: bytes, place: int, what: str, narrow: bool, short: bool, wide: bool) -> int:
    """Where the instruction ends whose operands start at ``place``, 0 if it is invalid."""
    for part in what:
        if part in "MG":
            byte = code[place]
            mode, register, base = byte >> 6, byte >> 3 & 7, byte & 7
            place += 1
            if mode != 3:
                if base == 4:
                    base = 5 if code[place] & 7 == 5 and mode == 0 else 0
                    place += 1
                elif mode != 0:
                    base = 0
                place += 1 if mode == 1 else 4 if mode == 2 or base == 5 else 0
            if part == "G" and register > 1:
                return place
        elif part == "1":
            place += 1
        elif part == "2" or (part == "z" and narrow):
            place += 2
        elif part in "zr":
            place += 4
        elif part == "Q":
            place += 8 if wide else 2 if narrow else 4
        elif part == "a":
            place += 4 if short else 8
        elif part == "x":
            return 0
    return place
