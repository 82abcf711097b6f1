"""symbols.symbol_table: choice among aliases, ends, overlaps, stubs, damage."""

from __future__ import annotations

import lzma
import random
import struct

import pytest

from harken.base.errors import FormatError, HarkenError
from harken.formats.elf import Elf
from harken.symbols.symbol_table import SymbolTable
from harken.testing.elf_builder import ElfBuilder

GLOBAL, WEAK, LOCAL = 0x12, 0x22, 0x02


def table(builder: ElfBuilder) -> SymbolTable:
    return SymbolTable(Elf(builder.build(), "file"))


def name(symbols: SymbolTable, address: int) -> str:
    found = symbols.lookup(address)
    return found[0] if found else ""


@pytest.mark.parametrize(
    ("aliases", "best"),
    [
        ((("weak", 8, WEAK), ("strong", 8, GLOBAL)), "strong"),
        ((("local", 8, LOCAL), ("exported", 8, GLOBAL)), "exported"),
        ((("weak", 8, WEAK), ("local", 8, LOCAL)), "local"),
        ((("__libc_read", 8, GLOBAL), ("read", 8, GLOBAL)), "read"),
        ((("_a", 8, GLOBAL), ("__bb", 8, GLOBAL)), "_a"),
        ((("short", 8, GLOBAL), ("longer_name", 8, GLOBAL)), "longer_name"),
        ((("unsized", 0, GLOBAL), ("sized", 8, LOCAL)), "sized"),
        ((("first", 8, GLOBAL), ("other", 8, GLOBAL)), "first"),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_aliases_are_chosen_as_perf_does(aliases, best, turned):
    builder = ElfBuilder()
    if turned and best != "first":
        aliases = aliases[::-1]
    for alias, size, info in aliases:
        builder.function(alias, 0x401010, size, info=info)
    symbols = table(builder)
    assert name(symbols, 0x401012) == best
    assert {symbols.find(alias)[0] for alias, _, _ in aliases} == {0x401010}, "all aliases are found by name"


@pytest.mark.parametrize(("bits", "order"), [(64, "<"), (64, ">"), (32, "<"), (32, ">")])
def test_both_classes_and_byte_orders(bits, order):
    symbols = table(ElfBuilder(bits, order, 21).function("a", 0x401000, 4).function("b", 0x401010, 4, dynamic=True))
    assert symbols.lookup(0x401003) == ("a", 3, 0x401000, 4)
    assert symbols.lookup(0x401004) is None
    assert symbols.lookup(0x401010) == ("b", 0, 0x401010, 4)


def test_a_symbol_without_size_ends_at_the_next_and_the_last_with_a_page():
    symbols = table(ElfBuilder().function("asm", 0x401000).function("next", 0x401080, 8).function("last", 0x401100))
    assert symbols.lookup(0x40107F) == ("asm", 0x7F, 0x401000, 0)
    assert symbols.lookup(0x401088) is None
    assert symbols.lookup(0x402FFF)[0] == "last"
    assert symbols.lookup(0x403000) is None


def test_inner_symbols_win_and_the_outer_one_goes_on_behind_them():
    symbols = table(ElfBuilder().function("outer", 0x401000, 0x100).function("inner", 0x401020, 0x10).function("innermost", 0x401028, 4))
    got = [name(symbols, address) for address in (0x401000, 0x401020, 0x401028, 0x40102C, 0x401030, 0x4010FF, 0x401100)]
    assert got == ["outer", "inner", "innermost", "inner", "outer", "outer", ""]
    assert symbols.lookup(0x401030) == ("outer", 0x30, 0x401000, 0x100)


def test_overlapping_symbols_against_a_plain_search():
    random.seed(7)
    for _ in range(60):
        made = {}
        builder = ElfBuilder()
        for number in range(random.randrange(1, 12)):
            start, size = 0x401000 + random.randrange(64), random.randrange(1, 40)
            if start not in made:
                made[start] = (size, f"f{number}")
                builder.function(f"f{number}", start, size)
        symbols = table(builder)
        again = SymbolTable.unpack(symbols.pack())
        for address in range(0x400FFE, 0x401070):
            covering = [(start, text) for start, (size, text) in made.items() if start <= address < start + size]
            best = max(covering)[1] if covering else ""
            assert name(symbols, address) == name(again, address) == best, (made, hex(address))
            low, high, _ = symbols.piece(address)
            assert low <= address < high
            assert {name(symbols, other) for other in range(max(low, 0x400FF0), min(high, 0x401080))} == {best}
        every = symbols.lookup_many(range(0x400FFE, 0x401070))
        assert all(symbols.lookup(address) == every.get(address) for address in range(0x400FFE, 0x401070))


def test_what_is_no_symbol_is_left_out():
    builder = ElfBuilder(machine=183).function("real", 0x401000, 8)
    builder.function("second", 0x401010, 8).symbol("imported", 0x401010, 8, GLOBAL, 0)
    builder.symbol("absolute", 0x401020, 8, GLOBAL, 0xFFF1).symbol("$x.1", 0x401030, 0, 0, 1).symbol("tls", 0x401040, 8, 0x16, 1)
    builder.symbol("file.c", 0x401050, 0, 4, 1).symbol("", 0x401060, 8, GLOBAL, 1).symbol("beyond", 0x401070, 8, GLOBAL, 60000)
    symbols = table(builder)
    found = [text for text, _, _ in symbols.symbols()]
    assert found == ["real", "second"]


def test_versions_are_cut_off_and_names_found_exactly():
    symbols = table(ElfBuilder().function("memcpy@@GLIBC_2.14", 0x401000, 8).function("my_memcpy", 0x401010, 8))
    assert name(symbols, 0x401000) == "memcpy"
    assert symbols.find("memcpy") == (0x401000, 8)
    assert symbols.find("emcpy") is None and symbols.find("memcp") is None and symbols.find("") is None and symbols.find("a\0b") is None


def test_debug_file_and_embedded_symbols():
    stripped = ElfBuilder().function("exported", 0x401000, 8, dynamic=True)
    debug = Elf(ElfBuilder().function("exported", 0x401000, 8).function("hidden", 0x401010, 8).build())
    assert name(SymbolTable(Elf(stripped.build()), debug), 0x401012) == "hidden"
    assert SymbolTable(Elf(stripped.build())).stripped
    mini = lzma.compress(ElfBuilder().function("small", 0x401020, 8).build())
    symbols = table(stripped.section(".gnu_debugdata", mini))
    assert (name(symbols, 0x401001), name(symbols, 0x401021), symbols.stripped) == ("exported", "small", False)


def test_stubs_are_named_after_their_slots():
    # endbr64; jmp *0x2fc4(%rip): the slot lies at 0x401010 + 10 + 0x2fc4 - for both stubs by their own distance
    plt = bytes(16)
    for number, slot in enumerate((0x404000, 0x404008)):
        place = 0x401200 + 16 + 16 * number
        plt += b"\xf3\x0f\x1e\xfa\xff\x25" + struct.pack("<i", slot - (place + 10)) + bytes(6)
    relocations = struct.pack("<QQq", 0x404000, 1 << 32 | 7, 0) + struct.pack("<QQq", 0x404008, 2 << 32 | 7, 0)
    builder = ElfBuilder().section(".plt.sec", plt, address=0x401200).section(".rela.plt", relocations, kind=4)
    builder.symbol("malloc", 0, 0, GLOBAL, 0, dynamic=True).symbol("free", 0, 0, GLOBAL, 0, dynamic=True)
    symbols = table(builder)
    assert symbols.lookup(0x401214) == ("malloc@plt", 4, 0x401210, 16)
    assert name(symbols, 0x401220) == "free@plt"
    assert symbols.lookup(0x401230) is None


def test_stubs_of_arm64():
    words = [0xA9BF7BF0] * 8  # what goes before the stubs
    for number in range(2):
        place = 0x401200 + 32 + 16 * number
        slot = 0x420018 + 8 * number
        pages = (slot >> 12) - (place >> 12)
        words += [0x90000010 | (pages & 3) << 29 | (pages >> 2) << 5, 0xF9400211 | (slot & 0xFFF) // 8 << 10, 0x91000210, 0xD61F0220]
    relocations = b"".join(struct.pack("<QQq", 0x420018 + 8 * i, (i + 1) << 32 | 1026, 0) for i in range(2))
    builder = ElfBuilder(machine=183).section(".plt", struct.pack(f"<{len(words)}I", *words), address=0x401200)
    builder.section(".rela.plt", relocations, kind=4)
    builder.symbol("malloc", 0, 0, GLOBAL, 0, dynamic=True).symbol("free", 0, 0, GLOBAL, 0, dynamic=True)
    symbols = table(builder)
    assert (name(symbols, 0x401220), name(symbols, 0x40123F), name(symbols, 0x401210)) == ("malloc@plt", "free@plt", "")


def test_file_offsets_and_addresses():
    symbols = table(ElfBuilder().function("main", 0x401000, 16))
    assert symbols.vaddr(4096) == 0x401000 and symbols.file_offset(0x401010) == 4112
    assert symbols.vaddr(1 << 40) is None and symbols.file_offset(0) is None


def test_truncated_and_damaged_files_take_bounded_time():
    data = ElfBuilder().function("main", 0x401000, 16).function("other", 0x401010, 16, dynamic=True).build()
    for length in [*range(0, 200, 7), *range(200, len(data), 97)]:
        try:
            SymbolTable(Elf(data[:length], "cut")).lookup(0x401004)
        except FormatError as error:
            assert error.message
    random.seed(11)
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(random.randrange(1, 6)):
            place = random.choice((random.randrange(64), random.randrange(len(data) - 900, len(data)), random.randrange(len(data))))
            damaged[place] = random.choice((0, 0xFF, 0x7F, 0x80, random.randrange(256)))
        try:
            symbols = SymbolTable(Elf(bytes(damaged), "damaged"))
            for address in (0, 0x401004, 1 << 63, (1 << 64) - 1):
                symbols.lookup(address)
            SymbolTable.unpack(symbols.pack())
        except HarkenError:
            pass


def test_an_absurd_number_of_sections_is_refused():
    data = bytearray(ElfBuilder().function("main", 0x401000, 16).build())
    data += bytes(1 << 12)
    (offset,) = struct.unpack_from("<Q", data, 40)
    struct.pack_into("<H", data, 60, 0)
    struct.pack_into("<Q", data, offset + 32, 1 << 40)
    symbols = SymbolTable(Elf(bytes(data), "many"))
    assert "sections" in symbols.problem and len(symbols) == 0


def test_a_million_symbols_of_one_long_name_stay_bounded(monkeypatch):
    from harken.symbols import symbol_table_read

    monkeypatch.setattr(symbol_table_read, "_MAX_NAMES", 100_000)
    builder = ElfBuilder()
    for number in range(50):
        builder.function("x" * 5000, 0x401000 + number * 8, 8)
    symbols = table(builder)
    assert symbols.problem and 0 < len(symbols) < 50
    assert name(symbols, 0x401004) == "x" * 5000


def test_only_whole_bytes_are_unpacked():
    data = table(ElfBuilder().function("main", 0x401000, 16)).pack()
    for wrong in (b"", b"12345678", data[:-8], data + bytes(8), b"\xff" * 100):
        with pytest.raises(ValueError):
            SymbolTable.unpack(wrong)
