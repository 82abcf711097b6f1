"""symbols.lines on DWARF built here byte by byte: versions 4 and 5, compressed, and damaged in thousands of ways."""

from __future__ import annotations

import random
import struct
import zlib

import pytest

from harken.base.errors import FormatError
from harken.formats.dwarf import Dwarf
from harken.formats.dwarf_line import LineProgram
from harken.formats.dwarf_sections import Sections
from harken.formats.elf import Elf
from harken.symbols.lines import LineTable
from harken.testing.elf_builder import ElfBuilder

BASE = 0x401000


def leb(value: int) -> bytes:
    made = bytearray()
    while True:
        made.append(value & 127 | (128 if value > 127 else 0))
        value >>= 7
        if not value:
            return bytes(made)


def cstring(text: str) -> bytes:
    return text.encode() + b"\0"


def abbreviation(code: int, tag: int, children: bool, *attributes: tuple[int, int]) -> bytes:
    return leb(code) + leb(tag) + bytes((children,)) + b"".join(leb(name) + leb(form) for name, form in attributes) + b"\0\0"


#: unit; function (name, low_pc, high_pc as data4); abstract function; inlined one (origin, low_pc, high_pc, call_file, call_line)
ABBREVIATIONS = (
    abbreviation(1, 0x11, True, (0x03, 0x08), (0x1B, 0x08), (0x10, 0x17), (0x11, 0x01), (0x12, 0x06))
    + abbreviation(2, 0x2E, True, (0x03, 0x08), (0x11, 0x01), (0x12, 0x06))
    + abbreviation(3, 0x2E, False, (0x03, 0x08), (0x6E, 0x08))
    + abbreviation(4, 0x1D, False, (0x31, 0x13), (0x11, 0x01), (0x12, 0x06), (0x58, 0x0B), (0x59, 0x0B))
    + abbreviation(5, 0x13, True, (0x03, 0x08), (0x01, 0x13))
    + b"\0"
)


def line_program(version: int, rows: list[tuple[int, int, int]], end: int) -> bytes:
    """Rows are (address, file, line); files 1 and 2 are /src/main.c and /src/lib/help.h (0 and 1 in version 5)."""
    header = bytes((1, 1) if version >= 4 else (1,)) + bytes((1, 0xFB, 14, 13)) + bytes((0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1))
    if version >= 5:
        header += bytes((1,)) + leb(1) + leb(8) + leb(2) + cstring("/src") + cstring("lib")
        header += bytes((2,)) + leb(1) + leb(8) + leb(2) + leb(0x0B) + leb(2) + cstring("main.c") + b"\0" + cstring("help.h") + b"\1"
    else:
        header += cstring("lib") + b"\0" + cstring("main.c") + b"\0\0\0" + cstring("help.h") + b"\1\0\0" + b"\0"
    program, line = b"", 1
    for index, (address, file, number) in enumerate(rows):
        program += b"\0\x09\x02" + struct.pack("<Q", address) if not index else b"\x02" + leb(address - rows[index - 1][0])
        delta = number - line
        program += (
            b"\x04" + leb(file) + b"\x03" + (bytes((delta & 127,)) if -64 <= delta < 64 else bytes((delta & 127 | 128, delta >> 7 & 127)))
        )
        program += b"\x01"
        line = number
    program += b"\x02" + leb(end - rows[-1][0]) + b"\0\1\1"
    body = struct.pack("<H", version) + (b"\x08\0" if version >= 5 else b"") + struct.pack("<I", len(header)) + header + program
    return struct.pack("<I", len(body)) + body


def sections(version: int) -> dict[str, bytes]:
    """main at BASE..BASE+0x40, with helper (called at main.c:21) inlined at +0x10..+0x20."""
    number = (lambda index: index) if version >= 5 else (lambda index: index + 1)
    rows = [(BASE, number(0), 20), (BASE + 0x10, number(1), 7), (BASE + 0x18, number(1), 8), (BASE + 0x20, number(0), 22)]
    unit = leb(1) + cstring("main.c") + cstring("/src") + struct.pack("<IQI", 0, BASE, 0x40)
    start = 12 if version >= 5 else 11
    struct_place = start + len(unit)
    members = leb(5) + cstring("bystander")
    after = struct_place + len(members) + 4 + 1
    unit += members + struct.pack("<I", after) + b"\0"
    helper = start + len(unit)
    unit += leb(3) + cstring("helper") + cstring("_Z6helperi")
    unit += leb(2) + cstring("main") + struct.pack("<QI", BASE, 0x40)
    unit += leb(4) + struct.pack("<IQIBB", helper, BASE + 0x10, 0x10, number(0), 21)
    unit += b"\0\0"
    head = struct.pack("<HBBI", version, 1, 8, 0) if version >= 5 else struct.pack("<HIB", version, 0, 8)
    return {
        ".debug_abbrev": ABBREVIATIONS,
        ".debug_info": struct.pack("<I", len(head) + len(unit)) + head + unit,
        ".debug_line": line_program(version, rows, BASE + 0x40),
    }


def build(parts: dict[str, bytes]) -> Elf:
    builder = ElfBuilder(base=BASE)
    for name, data in parts.items():
        builder.section(name, data)
    return Elf(builder.build(), "/nowhere/program")


def table(parts: dict[str, bytes]) -> LineTable:
    return LineTable(build(parts))


@pytest.mark.parametrize("version", [3, 4, 5])
def test_lines_and_inlined_functions(version: int) -> None:
    lines = table(sections(version))
    assert lines.lookup(BASE) == lines.lookup(BASE + 0xF) == [("main", "/src/main.c", 20, False)]
    assert lines.lookup(BASE + 0x19) == [("_Z6helperi", "/src/lib/help.h", 8, True), ("main", "/src/main.c", 21, False)]
    assert lines.lookup(BASE + 0x20) == [("main", "/src/main.c", 22, False)]
    assert lines.lookup(BASE + 0x40) == lines.lookup(BASE - 1) == lines.lookup(0) == lines.lookup(1 << 63) == []
    assert not lines.problem


def test_addresses_of_lines() -> None:
    lines = table(sections(5))
    assert lines.addresses("main.c", 20) == [BASE] and lines.addresses("/src/main.c", 22) == [BASE + 0x20]
    assert lines.addresses("help.h", 7) == lines.addresses("lib/help.h", 7) == [BASE + 0x10]
    assert lines.addresses("b/help.h", 7) == lines.addresses("elp.h", 7) == lines.addresses("main.c", 21) == []
    assert lines.lines_with_code("main.c", 21) == [20, 22] and lines.lines_with_code("none.c", 1) == []
    assert lines.files() == ["/src/lib/help.h", "/src/main.c"]


def test_compressed_sections() -> None:
    parts = sections(5)
    wanted = table(parts).lookup(BASE + 0x19)
    old = {name.replace(".debug", ".zdebug"): b"ZLIB" + len(data).to_bytes(8, "big") + zlib.compress(data) for name, data in parts.items()}
    assert table(old).lookup(BASE + 0x19) == wanted
    for size in (0, 1 << 20, 1 << 40):
        bad = old | {".zdebug_info": b"ZLIB" + size.to_bytes(8, "big") + zlib.compress(parts[".debug_info"])}
        lines = table(bad)
        assert lines.lookup(BASE) == [] and ".zdebug_info" in lines.problem
    lines = table(old | {".zdebug_info": b"ZLIB" + (9).to_bytes(8, "big") + b"no zlib at all"})
    assert lines.lookup(BASE) == [] and "cannot be uncompressed" in lines.problem


def test_code_that_the_linker_threw_away_has_no_lines() -> None:
    parts = sections(4)
    parts[".debug_line"] = line_program(4, [(0, 1, 5)], 16) + line_program(4, [(BASE, 1, 5)], BASE + 16)
    lines = table(parts)
    assert lines.addresses("main.c", 5) == []  # the unit's program is the first one, at address 0


def test_a_missing_split_unit_leaves_the_lines() -> None:
    parts = sections(5)
    parts[".debug_abbrev"] = abbreviation(1, 0x4A, False, (0x76, 0x08), (0x1B, 0x08), (0x10, 0x17), (0x11, 0x01), (0x12, 0x06)) + b"\0"
    unit = leb(1) + cstring("main.dwo") + cstring("/src") + struct.pack("<IQI", 0, BASE, 0x40)
    head = struct.pack("<HBBIQ", 5, 4, 8, 0, 0x1234)
    parts[".debug_info"] = struct.pack("<I", len(head) + len(unit)) + head + unit
    lines = table(parts)
    assert lines.lookup(BASE + 0x19) == [("", "/src/lib/help.h", 8, False)]
    assert "/src/main.dwo is missing" in lines.problem


def test_what_refers_to_itself_ends() -> None:
    """An abstract origin that is the entry itself, and a sibling that lies before its entry."""
    parts = sections(5)
    data = bytearray(parts[".debug_info"])
    place = data.index(struct.pack("<Q", BASE + 0x10)) - 4
    struct.pack_into("<I", data, place, place - 1)
    lines = table(parts | {".debug_info": bytes(data)})
    assert lines.lookup(BASE + 0x19)[0][:3] == ("", "/src/lib/help.h", 8)
    data = bytearray(parts[".debug_info"])
    place = data.index(b"bystander\0") + 10
    struct.pack_into("<I", data, place, 12)
    assert table(parts | {".debug_info": bytes(data)}).lookup(BASE)[0][0] == "main"


@pytest.mark.parametrize("version", [4, 5])
def test_damage_is_an_answer_without_lines(version: int) -> None:
    """Bytes changed at random and sections cut short: no other error than FormatError, which ``lookup`` keeps in ``problem``."""
    choice = random.Random(version)
    parts = sections(version)
    for _ in range(600):
        name = choice.choice(list(parts))
        data = bytearray(parts[name])
        if choice.random() < 0.3:
            del data[choice.randrange(len(data)) :]
        else:
            for _ in range(choice.choice((1, 1, 2, 8))):
                data[choice.randrange(len(data))] = choice.choice((0, 1, 0x7F, 0x80, 0xFF, choice.randrange(256)))
        lines = table(parts | {name: bytes(data)})
        for address in (BASE, BASE + 0x19, BASE + 0x3F):
            assert isinstance(lines.lookup(address), list)
        assert isinstance(lines.addresses("main.c", 20), list) and isinstance(lines.files(), list)


def test_errors_name_what_is_wrong() -> None:
    parts = sections(5)
    with pytest.raises(FormatError, match="truncated"):
        _ = Dwarf(build(parts | {".debug_info": parts[".debug_info"][:-3]})).units
    with pytest.raises(FormatError, match="version 9 of .debug_line"):
        LineProgram(Sections(build(parts | {".debug_line": b"\x40\0\0\0\x09\0" + bytes(80)})), 0)
    lines = table(parts | {".debug_abbrev": b"\0"})
    assert lines.lookup(BASE) == [] and "abbreviation 1 is not declared" in lines.problem
    assert LineTable.of(Elf(ElfBuilder().build(), "/nowhere/else")) is None
