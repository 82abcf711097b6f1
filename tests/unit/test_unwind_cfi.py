"""Call frame information: rows, rules, expressions, tables, and files that lie."""

from __future__ import annotations

import random
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harken.base.errors import FormatError
from harken.formats.elf import Elf
from harken.symbols.unwind import cfi
from harken.symbols.unwind.cfi import FrameSection, Row
from harken.symbols.unwind.expression import evaluate, registers_of
from harken.symbols.unwind.frame_table import FrameTable
from harken.symbols.unwind.reader import pointer, sleb, uleb
from harken.testing.elf_builder import ElfBuilder

BASE = 0x401000


def entry(body: bytes, align: int = 8) -> bytes:
    body += bytes(-(len(body) + 4) % align)
    return struct.pack("<I", len(body)) + body


def eh_frame(
    program: bytes, initial: bytes = b"\x0c\x07\x08\x90\x01", augmentation: bytes = b"zR", start: int = BASE, size: int = 64
) -> bytes:
    """A section with one CIE (absolute 8-byte addresses) and one FDE."""
    cie = entry(struct.pack("<IB", 0, 1) + augmentation + b"\0" + bytes((1, 0x78, 16, 1, 0x04)) + initial)
    return cie + entry(struct.pack("<IQQ", len(cie) + 4, start, size) + b"\0" + program)


def rows(program: bytes, initial: bytes = b"\x0c\x07\x08\x90\x01") -> cfi.Fde:
    section = FrameSection(memoryview(eh_frame(program, initial)), 0)
    found = section.find(BASE)
    assert found is not None
    return found


def test_a_function_with_a_frame_pointer() -> None:
    # push %rbp (1 byte); mov %rsp,%rbp (3 bytes); ...; leave (at 0x20); ret
    fde = rows(bytes((0x41, 0x0E, 16, 0x86, 2, 0x43, 0x0D, 6, 0x02, 0x1C, 0x0C, 7, 8, 0xC6)))
    assert fde.row(BASE) == Row(7, 8, b"", {16: (cfi.OFFSET, -8)})
    assert fde.row(BASE + 1) == Row(7, 16, b"", {16: (cfi.OFFSET, -8), 6: (cfi.OFFSET, -16)})
    assert fde.row(BASE + 4).cfa_register == 6
    assert fde.row(BASE + 0x1F).cfa_register == 6
    assert fde.row(BASE + 0x20) == Row(7, 8, b"", {16: (cfi.OFFSET, -8)})
    assert (fde.start, fde.end) == (BASE, BASE + 64)


def test_every_instruction_has_its_meaning() -> None:
    program = bytes(
        (
            0x05, 33, 3,  # offset_extended
            0x07, 1,  # undefined
            0x08, 2,  # same_value
            0x09, 3, 12,  # register
            0x10, 4, 2, 0x77, 8,  # expression
            0x16, 5, 2, 0x77, 16,  # val_expression
            0x11, 6, 0x7E,  # offset_extended_sf: -2 * -8
            0x14, 8, 4,  # val_offset
            0x15, 9, 0x7F,  # val_offset_sf
            0x2F, 10, 5,  # GNU_negative_offset_extended
            0x2E, 24,  # GNU_args_size
            0x41,
            0x0A,  # remember_state
            0x12, 6, 0x7C,  # def_cfa_sf: -4 * -8
            0x06, 33,  # restore_extended
            0x42,
            0x0B,  # restore_state
            0x13, 0x7B,  # def_cfa_offset_sf
            0x03, 4, 0,  # advance_loc2
            0x0F, 2, 0x77, 8,  # def_cfa_expression
        )
    )  # fmt: skip
    fde = rows(program)
    first = fde.row(BASE).rules
    assert first == {
        16: (cfi.OFFSET, -8), 33: (cfi.OFFSET, -24), 1: (cfi.UNDEFINED, 0), 2: (cfi.SAME, 0), 3: (cfi.REGISTER, 12),
        4: (cfi.EXPRESSION, b"w\x08"), 5: (cfi.VALUE_EXPRESSION, b"w\x10"), 6: (cfi.OFFSET, 16), 8: (cfi.VALUE_OFFSET, -32),
        9: (cfi.VALUE_OFFSET, 8), 10: (cfi.OFFSET, 40),
    }  # fmt: skip
    second = fde.row(BASE + 1)
    assert (second.cfa_register, second.cfa_offset) == (6, 32) and 33 not in second.rules
    third = fde.row(BASE + 3)
    assert (third.cfa_register, third.cfa_offset) == (7, 40) and third.rules == first
    assert fde.row(BASE + 7).cfa_expression == b"w\x08"


def test_the_arm64_signing_state_toggles_and_is_remembered() -> None:
    fde = rows(bytes((0x41, 0x2D, 0x0A, 0x41, 0x2D, 0x41, 0x0B)))
    assert [fde.row(BASE + place).rules.get(34) for place in range(4)] == [None, (3, 1), (3, 0), (3, 1)]


@pytest.mark.parametrize(
    "program",
    [
        b"\x0b",  # nothing is remembered
        b"\x3f",  # unknown
        b"\x0f\x7f\x00",  # expression longer than the program
        b"\x04\x01",  # cut off
        b"\x0e" + b"\xff" * 12,  # endless number
        b"\x0a" * 1000,  # remembers for ever
        b"\x01" + struct.pack("<Q", 1),  # goes back
    ],
)
def test_damaged_programs_are_refused(program: bytes) -> None:
    # padding must not make them whole
    cie = entry(struct.pack("<IB", 0, 1) + b"zR\0" + bytes((1, 0x78, 16, 1, 0x04)) + b"\x0c\x07\x08\x90\x01")
    body = struct.pack("<IQQ", len(cie) + 4, BASE, 64) + b"\0" + program
    section = FrameSection(memoryview(cie + struct.pack("<I", len(body)) + body), 0)
    fde = section.fde(len(cie))
    with pytest.raises(FormatError):
        fde.row(BASE)


def test_too_many_rows_are_refused() -> None:
    with pytest.raises(FormatError):
        rows(b"\x41" * 100_000).row(BASE)


def test_signal_frames_are_marked() -> None:
    section = FrameSection(memoryview(eh_frame(b"", augmentation=b"zRS")), 0)
    found = section.find(BASE)
    assert found is not None and found.signal


def test_addresses_are_found_by_walking_the_section() -> None:
    first = eh_frame(b"\x41")
    second = eh_frame(b"\x41", start=BASE + 256, size=16)
    section = FrameSection(memoryview(first + bytes(4) + second), 0)  # a terminator in the middle, as crtend.o leaves one
    assert [bool(section.find(BASE + offset)) for offset in (-1, 0, 63, 64, 255, 256, 271, 272)] == [
        False, True, True, False, False, True, True, False,
    ]  # fmt: skip


def test_debug_frame_names_its_cie_by_offset() -> None:
    cie = entry(struct.pack("<IB", 0xFFFFFFFF, 4) + b"\0" + bytes((8, 0, 1, 0x78, 16)) + b"\x0c\x07\x08\x90\x01")
    data = cie + entry(struct.pack("<IQQ", 0, BASE, 32) + b"\x41\x0e\x20")
    section = FrameSection(memoryview(data), 0, debug=True)
    found = section.find(BASE + 4)
    assert found is not None and found.row(BASE + 4).cfa_offset == 32


def test_a_compressed_debug_frame_is_read() -> None:
    cie = entry(struct.pack("<IB", 0xFFFFFFFF, 4) + b"\0" + bytes((8, 0, 1, 0x78, 16)) + b"\x0c\x07\x08\x90\x01")
    data = cie + entry(struct.pack("<IQQ", 0, BASE, 32) + b"\x41\x0e\x20")
    raw = bytearray(ElfBuilder().section(".debug_frame", struct.pack("<IIQQ", 1, 0, len(data), 8) + zlib.compress(data)).build())
    elf = Elf(raw)
    index = next(number for number, section in enumerate(elf.sections) if section.name == ".debug_frame")
    (shoff,) = struct.unpack_from("<Q", raw, 40)
    struct.pack_into("<Q", raw, shoff + 64 * index + 8, 0x800)  # SHF_COMPRESSED
    found = FrameTable(Elf(bytes(raw))).find(BASE)
    assert found is not None and found.row(BASE + 1).cfa_offset == 32


def with_header(frames: bytes, table: list[tuple[int, int]], count: int | None = None) -> Elf:
    """An ELF file with .eh_frame at 0x2000 and .eh_frame_hdr at 0x3000; ``table``: (start, offset in .eh_frame)."""
    head = struct.pack("<BBBBiI", 1, 0x1B, 0x03, 0x3B, 0x2000 - 0x3004, len(table) if count is None else count)
    head += b"".join(struct.pack("<ii", start - 0x3000, 0x2000 + offset - 0x3000) for start, offset in table)
    return Elf(ElfBuilder().section(".eh_frame", frames, address=0x2000).section(".eh_frame_hdr", head, address=0x3000).build())


def test_the_header_table_is_bisected() -> None:
    frames, table = b"", []
    for number in range(50):
        part = eh_frame(b"\x41\x0e\x10", start=BASE + 64 * number, size=32)
        (cie_size,) = struct.unpack_from("<I", part)
        table.append((BASE + 64 * number, len(frames) + cie_size + 4))
        frames += part
    found = FrameTable(with_header(frames, table))
    for number in range(50):
        fde = found.find(BASE + 64 * number + 31)
        assert fde is not None and fde.start == BASE + 64 * number
        assert found.find(BASE + 64 * number + 32) is None
    assert found.find(BASE - 1) is None


def test_a_header_that_lies_is_not_trusted() -> None:
    frames = eh_frame(b"\x41\x0e\x10")
    (cie_size,) = struct.unpack_from("<I", frames)
    good = [(BASE, cie_size + 4)]
    assert FrameTable(with_header(frames, good, count=1 << 30)).find(BASE) is not None  # the section is walked instead
    assert FrameTable(with_header(frames, [(BASE, 0)])).find(BASE) is None  # a CIE
    assert FrameTable(with_header(frames, [(BASE, 1 << 20)])).find(BASE) is None


def test_pointers_are_decoded_by_their_encoding() -> None:
    assert pointer(struct.pack("<i", -16), 0, 0x1B, 0x1000) == (0xFF0, 4)
    assert pointer(struct.pack("<I", 16), 0, 0x33, 0x1000, base=0x500) == (0x510, 4)
    assert pointer(struct.pack("<Q", 16), 0, 0x24, 0, text=0x100) == (0x110, 8)
    assert pointer(b"\x00\x00" + struct.pack("<H", 7), 2, 0x42, 0, function=0x10) == (0x17, 4)
    assert pointer(b"\x7f", 0, 0x19, 0x100) == (0xFF, 1)
    assert pointer(bytes(6) + struct.pack("<Q", 9), 1, 0x50, 0x1003)[0] == 9
    assert pointer(bytes(4), 0, 0x1B, 0x1000) == (0, 4)  # a null pointer stays one
    for encoding in (0x05, 0x6B):
        with pytest.raises(ValueError):
            pointer(b"\x01" * 16, 0, encoding, 0)


@given(st.integers(0, (1 << 64) - 1), st.integers(-(1 << 62), (1 << 62) - 1))
def test_leb128_round_trips(plain: int, signed: int) -> None:
    encoded = bytearray()
    value = plain
    while True:
        byte = value & 0x7F
        value >>= 7
        encoded.append(byte | (0x80 if value else 0))
        if not value:
            break
    assert uleb(bytes(encoded), 0) == (plain, len(encoded))
    encoded, value = bytearray(), signed
    while True:
        byte = value & 0x7F
        value >>= 7
        done = value == (-1 if byte & 0x40 else 0)
        encoded.append(byte | (0 if done else 0x80))
        if done:
            break
    assert sleb(bytes(encoded), 0) == (signed, len(encoded))


def test_expressions_compute() -> None:
    memory = {0x7000: 0x1234, 0x7008: 0x7000}
    registers = {6: 0x7000, 7: 0x6FF0}

    def run(*code: int, first: int | None = None) -> int:
        return evaluate(bytes(code), registers.__getitem__, lambda address, size: memory[address] & ((1 << 8 * size) - 1), first)

    assert run(0x76, 8, 0x06) == 0x7000  # breg6+8; deref
    assert run(0x76, 0, 0x94, 1) == 0x34  # deref_size 1
    assert run(0x08, 5, 0x09, 0xFD, 0x22) == 2  # 5 + -3
    assert run(0x31, 0x32, 0x1C) == (1 << 64) - 1  # 1 - 2
    assert run(0x38, 0x28, 1, 0, 0x31, 0x37) == 7  # bra over lit1
    assert run(0x31, 0x32, 0x33, 0x17, 0x22) == 3  # rot
    assert run(0x23, 8, first=0x10) == 0x18
    assert run(0x39, 0x1F, 0x33, 0x1B) == (1 << 64) - 3  # -9 / 3
    assert run(0x39, 0x1F, 0x31, 0x26) == (1 << 64) - 5  # -9 >> 1, arithmetic
    assert run(0x92, 7, 0x78) == 0x6FE8
    for code in ((0x30, 0x30, 0x1B), (0x2F, 0xFD, 0xFF), (0x22,), (0x97,), (), (0x76,)):
        with pytest.raises((ValueError, LookupError)):
            run(*code)


def test_registers_of_straight_expressions() -> None:
    assert registers_of(bytes((0x77, 8, 0x80, 0, 0x3F, 0x1A, 0x3B, 0x2A, 0x33, 0x24, 0x22))) == {7, 16}
    assert registers_of(bytes((0x77, 8, 0x06))) == {-1}


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_hostile_sections_end_in_bounded_time(data: st.DataObject) -> None:
    """Whatever bytes are flipped: a row or FormatError."""
    raw = bytearray(eh_frame(bytes((0x41, 0x0E, 16, 0x86, 2, 0x43, 0x0D, 6, 0x10, 3, 2, 0x77, 8))))
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    section = FrameSection(memoryview(bytes(raw)), 0)
    try:
        found = section.find(BASE)
        if found is not None:
            found.row(BASE + 5)
    except FormatError:
        pass


def test_random_bytes_are_no_frames() -> None:
    source = random.Random(3)
    for _ in range(300):
        raw = source.randbytes(200)
        try:
            FrameSection(memoryview(raw), 0, debug=source.random() < 0.5).find(BASE)
        except FormatError:
            pass
        try:
            evaluate(raw, lambda _number: 0x7000, lambda _address, _size: 1)
        except (ValueError, LookupError):
            pass
