"""The accelerator names recordings and reads symbol tables as plain Python does, byte for byte, and damaged ones too.

``HARKEN_MUTANTS`` in the environment is how many damaged files of a kind are tried.
"""

from __future__ import annotations

import ctypes
import os
import random
import struct
from pathlib import Path
from typing import Any

import pytest

from harken import native
from harken.abi import perf_event as abi
from harken.base.errors import FormatError, HarkenError
from harken.formats.elf import Elf
from harken.formats.perf_data import PerfData
from harken.kernel.kernel import live
from harken.render.perf_script import heads
from harken.symbols import jit
from harken.symbols.kernel_symbols import KernelSymbols
from harken.symbols.model import Mapping
from harken.symbols.symbol_table import SymbolTable
from harken.symbols.symbolizer_recording import RecordingSymbolizer
from harken.symbols.symbolizer_spaces import RecordedSpaces
from harken.testing.elf_builder import ElfBuilder
from harken.testing.perf_data_builder import DEFAULT_TYPE, PerfDataBuilder

pytestmark = pytest.mark.skipif(native.library() is None, reason="the accelerator is not built")

MUTANTS = int(os.environ.get("HARKEN_MUTANTS", "120"))
KERNEL = (
    b"0000000000000000 A absolute\nffffffff81000000 T _text\nffffffff81000000 T first\nffffffff81000100 t second\n"
    b"ffffffff81000200 t l\xc3\xa4st\nffffffffc0000000 t init\t[ext4]\nffffffffc0001000 t bpf_prog_1\t[bpf]\n"
    b"ffffffffc0003000 T late\t[xfs]\nffffffffc0003010 T later\t[xfs]\n"
)
CHAINS = DEFAULT_TYPE | abi.PERF_SAMPLE_CALLCHAIN
USER, IN_KERNEL = abi.PERF_CONTEXT_USER, abi.PERF_CONTEXT_KERNEL
BASE = 0x401000
PLACE = SymbolTable(Elf(ElfBuilder().function("f", BASE, 64).build())).file_offset(BASE) or 0


@pytest.fixture
def files(tmp_path):
    builder = ElfBuilder().function("plain", BASE, 64).function("_ZN1a1bEi", BASE + 64, 64).function("outer", BASE + 128, 256)
    builder.function("inner", BASE + 160, 32).function("n\xe4me", BASE + 512).function("__alias", BASE, 64).function("last", BASE + 1024)
    one, two = tmp_path / "one", tmp_path / "t)w%o"
    one.write_bytes(builder.build())
    two.write_bytes(ElfBuilder().function("other", BASE, 4000).build())
    return str(one), str(two)


@pytest.fixture
def both(monkeypatch):
    """Calls a function with and without the accelerator; what it gives must be the same."""

    def call(function, *arguments, **options):
        found = []
        for library in (native.library(), None):
            with monkeypatch.context() as patch:
                patch.setattr(native, "_found", [library])
                found.append(function(*arguments, **options))
        assert found[0] == found[1]
        return found[0]

    return call


def recording(files, sample_type: int, chance: random.Random, order: str = "<") -> PerfDataBuilder:
    """Processes that map files over one another, fork and run anywhere."""
    builder = PerfDataBuilder(order, sample_type)
    chained = sample_type & abi.PERF_SAMPLE_CALLCHAIN
    builder.mmap(-1, 0xFFFFFFFF81000000, 0x1000000, 0xFFFFFFFF81000000, "[kernel.kallsyms]_text", 0)
    paths = [*files, "//anon", "[stack]", "/nonexistent", ""]

    def address() -> int:
        return chance.choice(
            [
                0x10000 + chance.randrange(0x8000), 0x10000 + 0x1000 * chance.randrange(8) + chance.randrange(0x100),
                0xFFFFFFFF81000000 + chance.randrange(0x400), 0xFFFFFFFFC0000000 + chance.randrange(0x5000), chance.getrandbits(64), 5,
                1 << 56 | 1, IN_KERNEL,
            ]
        )  # fmt: skip

    for time in range(1, 220):
        pid, what = chance.randrange(1, 5), chance.random()
        if what < 0.15:
            size, offset = 0x1000 * chance.randrange(1, 3), PLACE + 0x1000 * chance.randrange(2) - chance.choice((0, 0x800))
            builder.mmap2(pid, 0x10000 + 0x1000 * chance.randrange(8), size, offset & (1 << 64) - 1, chance.choice(paths), time)
        elif what < 0.2:
            builder.fork(pid, chance.randrange(1, 5), time).comm(pid, f"c{time}", time)
        elif what < 0.23:
            start = 0xFFFFFFFFC0002000 + 0x80 * chance.randrange(16)  # programs do not lie over one another
            name = chance.choice((b"bpf_prog_2\0\0\0\0\0\0", b"f\xfftr\0\0\0\0"))
            trailer = builder._fields(((0, "", ()),), 0, {})
            builder._timed(abi.PERF_RECORD_KSYMBOL, 0, struct.pack(order + "QIHH", start, 0x80, 1, 0) + name + trailer, pid, time)
        else:
            words = [chance.choice((IN_KERNEL, USER)), *[address() for _ in range(chance.randrange(40))]]
            words.insert(chance.randrange(len(words)), USER)
            late = max(0, time - chance.randrange(10))
            builder.sample(builder.chain(words) if chained else b"", ip=address(), pid=pid, tid=pid, time=late)
            if chance.random() < 0.05:
                builder.round()
    return builder


def named(raw: bytes, window: int = 1 << 26, chains: bool = True, with_heads: bool = False, **options) -> tuple[object, ...]:
    """All lines of a recording, or what is wrong with it."""
    out: list[bytes] = []
    problems: list[str] = []
    try:
        data = PerfData(raw)
        problems = data.problems
        symbolizer = RecordingSymbolizer(live(), data, kernel_symbols=KernelSymbols(None, KERNEL), **options)
        for batch in data.batches(window):
            make = (lambda follow, comms: heads(("comm",), {"comm": comms}, follow)) if with_heads else None
            out.append(b"".join([bytes(block) for block in symbolizer.blocks(batch, chains, make)]))
    except HarkenError as error:
        return type(error), error.message, len(out)
    return b"".join(out), tuple(problems)


@pytest.mark.parametrize("sample_type", [DEFAULT_TYPE, CHAINS, abi.PERF_SAMPLE_IP | abi.PERF_SAMPLE_TID, abi.PERF_SAMPLE_IP])
def test_the_same_lines(files, both, sample_type) -> None:
    for seed in range(6):
        raw = recording(files, sample_type, random.Random(seed)).build()
        text, problems = both(named, raw)
        assert len(text) > 5000 and not problems
        if sample_type & abi.PERF_SAMPLE_TIME:
            assert both(named, raw, window=1000)[0].count(b"\n") == text.count(b"\n")
    for options in ({"offset": True}, {"symbol": False}, {"module": False}, {"demangle": False}, {"parameters": True, "offset": True}):
        both(named, raw, **options)
    both(named, raw, chains=False)
    both(named, raw, with_heads=bool(sample_type & abi.PERF_SAMPLE_TIME))
    both(named, recording(files, sample_type, random.Random(1), ">").build())


def test_what_there_is_no_room_for_is_done_in_parts(files, both, monkeypatch) -> None:
    from harken.native import symbols

    raws = [recording(files, sample_type, random.Random(3)).build() for sample_type in (DEFAULT_TYPE, CHAINS)]
    whole = [both(named, raw, offset=True) for raw in raws]
    small = {"_OUT": 100, "_MOST": 3, "_NEEDS": 2, "_STEP": 40, "_SLOT_BITS": 7, "_KEYS": 64, "_IDS": 100, "_TEXTS": 300}
    for name, value in small.items():
        with monkeypatch.context() as patch:
            patch.setattr(symbols, name, value)
            if name == "_SLOT_BITS":
                patch.setattr(symbols, "_KEYS", 64)
            assert [both(named, raw, offset=True) for raw in raws] == whole
    for name, value in small.items():
        monkeypatch.setattr(symbols, name, value)
    assert [both(named, raw, offset=True) for raw in raws] == whole


def test_names_of_all_kinds_are_among_them(files, both) -> None:
    start = SymbolTable(Elf(Path(files[0]).read_bytes())).file_offset(BASE) or 0
    builder = PerfDataBuilder().mmap(-1, 0xFFFFFFFF81000000, 0x1000000, 0xFFFFFFFF81000000, "[kernel.kallsyms]_text", 0)
    builder.mmap2(7, 0x10000, 0x1000, start, files[0], 1).mmap2(7, 0x20000, 0x1000, PLACE, files[1], 1).mmap2(
        7, 0x30000, 0x1000, 0, "[stack]", 1
    )
    places = [0x10000, 0x10044, 0x10084, 0x100A4, 0x10204, 0x20008, 0x30008]
    kernel = [0xFFFFFFFF81000008, 0xFFFFFFFF81000208, 0xFFFFFFFFC0000008, 0xFFFFFFFFC0001008]
    for time, ip in enumerate([*places, *kernel], 10):
        builder.sample(ip=ip, pid=7, tid=7, time=time)
    found = both(named, builder.build(), offset=True)[0]
    for name in (
        b"plain+",
        b"a::b+",
        b"outer+",
        b"inner+",
        b"n\xc3\xa4me",
        b"other+",
        b"first+",
        b"l\xc3\xa4st+",
        b"init+",
    ):
        assert name in found, name
    assert b"(bpf_prog_" in found and b"([ext4])" in found


def test_generated_code(files, both, monkeypatch) -> None:
    entries = b"10010 40 Fn\xc3\xa4me\n10020 10 _ZN1a1bEi\n10100 100 b c\nfffffffffffffff0 10 top\n"
    monkeypatch.setattr("harken.symbols.symbolizer_parts.read_file", lambda kernel, path, owners: entries)
    builder = PerfDataBuilder().mmap2(7, 0x10000, 0x1000, 0, "//anon", 1)
    for time, ip in enumerate(range(0x10000, 0x10220, 8), 10):
        builder.sample(ip=ip, pid=7, tid=7, time=time)
    text = both(named, builder.build(), offset=True)[0]
    assert b" Fn\xc3\xa4me+0x8 (/tmp/perf-7.map)" in text and b" a::b+0x8 " in text and b" b c+0xf8 " in text and b"[unknown] " in text
    assert len(jit.parse_perf_map(entries)) == 4


def mutants(raw: bytes, start: int, chance: random.Random):
    """Damaged versions of a file, most of them in few places."""
    for _ in range(MUTANTS):
        data = bytearray(raw)
        for _ in range(chance.choice((1, 1, 2, 5, 40))):
            place = chance.randrange(start, len(data))
            kind = chance.random()
            if kind < 0.5:
                data[place] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
            elif kind < 0.9:
                place &= ~7
                word = chance.choice((0, 8, (1 << 64) - 1, 1 << 63, chance.getrandbits(64), USER, 1 << chance.randrange(64)))
                data[place : place + 8] = word.to_bytes(8, "little")
            else:
                del data[place : place + chance.choice((1, 8, 64))]
        yield bytes(data)


@pytest.mark.parametrize("sample_type", [DEFAULT_TYPE, CHAINS])
def test_damaged_recordings(files, both, sample_type) -> None:
    raw = recording(files, sample_type, random.Random(7)).build()
    for number, data in enumerate(mutants(raw, 8, random.Random(sample_type))):
        both(named, data, (1 << 26, 2000)[number % 2])


def followed(builder: PerfDataBuilder, window: int, natively: int) -> list[object]:
    """The mappings of every sample, by the accelerator in so many batches and then without it."""
    found: list[object] = []
    data = PerfData(builder.build())
    spaces = RecordedSpaces(data, lambda event: found.append(("kernel", event.time)))
    for number, batch in enumerate(data.batches(window)):
        if number < natively:
            native_spaces = spaces.follow(batch, native.library())
            tables, _ = native_spaces.tables
            memory = (ctypes.c_uint64 * (4 * native_spaces.tables[1])).from_address(tables)
            parts = [memory[place : place + 3] for place in range(0, len(memory), 4)]
            owners, of_sample = [pid for pid, _, _ in parts], native_spaces.spaces_of
            rows = native_spaces._memory["rows"]
            shown = []
            for _, first, count in parts:
                words = [rows[32 * row : 32 * row + 32] for row in range(first, first + count)]
                shown.append([(*struct.unpack("=3Q", word[:24]), struct.unpack("=I", word[24:28])[0]) for word in words])
            laid = [
                [
                    (start, end, spaces.mapping_of(kind)[1].path, spaces.mapping_of(kind)[1].offset + start - base)
                    for start, end, base, kind in part
                ]
                for part in shown
            ]
            found += [(owners[of_sample[index]], laid[of_sample[index]]) for index in batch.recorded_order()]
        else:
            indexes, tables = spaces.tables(batch)
            at: dict[int, Any] = {indexes[place]: table for table in tables for place in range(table.first, table.end)}
            order = batch.recorded_order()
            for table in (at[index] for index in (order if order is not None else range(len(batch)))):
                found.append((table.pid, [(mapping.start, mapping.end, mapping.path, mapping.offset) for mapping in table.maps]))
    return found


@pytest.mark.parametrize("window", [1 << 26, 3000])
def test_the_same_address_spaces(files, monkeypatch, window) -> None:
    from harken.native import symbols_spaces
    from harken.symbols import processes, symbolizer_spaces

    builders = [recording(files, DEFAULT_TYPE, random.Random(seed)) for seed in range(8)]
    for small in (False, True):
        if small:  # most of what is kept is not, and rooms become greater
            for module in (processes, symbolizer_spaces):
                for name, value in (("MOST_PROCESSES", 2), ("MOST_RECORDED", 11), ("MOST_MAPS", 5)):
                    monkeypatch.setattr(module, name, value)
            monkeypatch.setattr(symbols_spaces, "_ROOMS", {"rows": 32, "kinds": 1, "paths": 1, "tables": 1})
        found = [followed(builder, window, 0) for builder in builders]
        assert all(len(each) > 100 for each in found)
        for natively in (1, 2, 1000):
            assert [followed(builder, window, natively) for builder in builders] == found


def test_what_a_mapping_is(files, both, monkeypatch) -> None:
    """Large pages, data, build-ids of records and of the file: each is told from others that look alike."""
    read = []
    monkeypatch.setattr("harken.symbols.symbolizer_parts.read_file", lambda kernel, path, owners: read.append(path) or b"20000 1000 made\n")
    build_id = Elf(Path(files[0]).read_bytes()).build_id
    builder = PerfDataBuilder()
    for time, (kind, misc, flags, path) in enumerate(
        [
            (10, 2, 0, files[0]),
            (10, 2, 0x40000, files[0]),
            (1, 2, 0, files[0]),
            (1, 2 | 1 << 13, 0, "//anon"),
            (10, 2 | 1 << 14, 0, files[0]),
        ]
    ):
        for pid in (7, 8):
            body = struct.pack("=IIQQQ", pid, pid, 0x20000, 0x1000, PLACE)
            body += struct.pack("=IIQQII", 20, 0x01020304, 5, 6, 5, flags) if kind == 10 else b""
            builder._timed(kind, misc, body + builder._text(path), pid, 10 * time).sample(ip=0x20008, pid=pid, tid=pid, time=10 * time + 5)
    text = both(named, builder.build())[0].decode()
    lines = [line.split(None, 1)[1] for line in text.splitlines()]
    plain = f"plain ({files[0]})"
    unknown = f"[unknown] ({files[0]})"
    assert not build_id and lines[:2] == [plain, plain] and lines[4:6] == [plain, plain] and lines[8:] == [unknown, unknown]
    assert lines[2:4] == ["made (/tmp/perf-7.map)", "made (/tmp/perf-8.map)"] and lines[6:8] == ["[unknown] (//anon)"] * 2
    assert len(read) == 4  # two processes, with and without the accelerator


@pytest.mark.parametrize("order", ["<", ">"])
def test_records_that_are_too_short_do_nothing(both, order) -> None:
    builder = PerfDataBuilder(order)
    for kind, size in ((1, 32), (10, 64), (3, 0), (7, 16), (4, 16), (2, 8), (13, 0), (17, 8)):
        builder.record(kind, 2, bytes(size))
    builder.sample(ip=5, pid=7, tid=7, time=9)
    text, problems = both(named, builder.build())
    assert len(text.splitlines()) == 1 and len(problems) == 8 and all("is damaged" in problem for problem in problems)


def test_more_mappings_than_can_be_kept_are_refused(files, both, monkeypatch) -> None:
    from harken.symbols import symbolizer_spaces

    builder = PerfDataBuilder().mmap2(7, 0x10000, 0x1000, PLACE, files[0], 1)
    for time in range(10, 60, 10):
        builder.sample(ip=0x10010, pid=7, tid=7, time=time).mmap2(7, 0x10000, 0x1000, PLACE, files[1], time + 1)
        builder.fork(7, time, time + 2)
    for name, value in (("_MOST_COPIED", 9), ("_MOST_ENDED", 3)):
        with monkeypatch.context() as patch:
            patch.setattr(symbolizer_spaces, name, value)
            assert both(named, builder.build())[0] is FormatError
    assert len(both(named, builder.build())[0].splitlines()) == 5


def columns(raw: bytes) -> object:
    try:
        table = SymbolTable(Elf(raw))
    except HarkenError as error:
        return type(error), error.message
    mapping = Mapping(0x10000, 0x12000, PLACE, "x")
    return [bytes(column) for column in table.columns], table.problem, table.pieces(mapping)


def elf(machine: int = 62, bits: int = 64, order: str = "<") -> bytes:
    """Aliases, symbols in others, versions, marks of the assembler, hidden labels."""
    chance, builder = random.Random(machine), ElfBuilder(bits, order, machine)
    for number in range(120):
        address = BASE + chance.randrange(300) * 8
        name = chance.choice(("", "_", "__")) + f"f{number}" + chance.choice(("", "@V1", "@@V2.3", "@plt"))
        builder.function(
            name, address, chance.choice((0, 8, 16, 400)), number % 3 == 0, chance.choice((0x12, 0x02, 0x22, 0x11, 0x1A, 0x10, 0xA2))
        )
    return builder.function("$x", BASE, 0, False, 0).build()


@pytest.mark.parametrize(("machine", "bits", "order"), [(62, 64, "<"), (183, 64, "<"), (62, 64, ">"), (3, 32, "<")])
def test_the_same_symbols(both, machine, bits, order) -> None:
    assert len(both(columns, elf(machine, bits, order))[0][0]) > 500


def stubs(chance: random.Random, end: bool = False) -> bytes:
    """Stubs of all layouts, places with several relocations, with none, with names that are none, and that a file's own code fills."""
    builder, places = ElfBuilder(), [0x404000 + 8 * number for number in range(12)]
    sections = [(".plt", 16, 16), (".plt.sec", 16, 0), (".plt.got", 8, 0)]
    for name, step, first in sections:
        address = (1 << 64) - 0x60 if end and name == ".plt.sec" else 0x401200 + 0x200 * len(name)
        code = bytes(first)
        for _ in range(6):
            place = address + len(code)
            before = b"" if step == 8 else chance.choice((b"", b"\xf3\x0f\x1e\xfa", b"\xff"))
            slot = chance.choice(places) - (place + len(before) + 6)
            code += (before + b"\xff\x25" + struct.pack("<I", slot & 0xFFFFFFFF) + b"\x66\x90" + bytes(8))[:step]
        builder.section(name, code + bytes(chance.randrange(3)), address=address)
    for name, kind in ((".rela.dyn", 4), (".rela.plt", 4), (".rel.plt", 9)):
        rows = b""
        for _ in range(10):
            symbol = chance.choice((0, 1, 2, 3, 4, 99))
            rows += struct.pack("<QQ", chance.choice(places), symbol << 32 | 7) + (struct.pack("<q", BASE) if kind == 4 else b"")
        if name == ".rela.plt" and chance.random() < 0.3:
            rows += struct.pack("<QQq", chance.choice(places), 37, BASE)
        builder.section(name, rows, kind=kind)
    for name in ("malloc", "", "f" * 5000, "free@V1"):
        builder.symbol(name, 0, 0, 0x12, 0, dynamic=True)
    return builder.function("ifunc", BASE, 8, False, 0x1A).build()


def test_the_same_stubs(both) -> None:
    chance, named_stubs = random.Random(8), 0
    for number in range(60):
        found = both(columns, stubs(chance, number % 5 == 0))
        named_stubs += found[0][-1].count(b"@plt")
    assert named_stubs > 300


def test_damaged_files(both) -> None:
    for raw in (elf(), stubs(random.Random(1)), stubs(random.Random(4))):
        for data in mutants(raw, 0, random.Random(3)):
            both(columns, data)


def test_no_symbols_at_all(both) -> None:
    both(columns, ElfBuilder().build())


def kallsyms(chance: random.Random) -> bytes:
    """Lines as the kernel writes them, sometimes not quite."""
    lines = []
    for _ in range(chance.randrange(1, 60)):
        address = chance.choice((0xFFFFFFFF81000000 + 16 * chance.randrange(12), chance.getrandbits(64), 0))
        name = bytes([chance.choice(b"abc_.$0\xe9") for _ in range(chance.randrange(1, 9))])
        owner = chance.choice((b"", b"", b"", b"\t[ext4]", b"\t[xfs]", b"\t[bpf]", b"\t[__builtin__kprobes]", b"\t[__builtin__ftrace]"))
        lines.append(b"%016x %c %s%s" % (address, chance.choice(b"TtWwDdBbAaURr"), name, owner))
    return b"\n".join(lines) + chance.choice((b"\n", b""))


def test_kallsyms_is_indexed_the_same(both, monkeypatch) -> None:
    from harken.native import kallsyms as fast
    from harken.symbols.kernel_symbols_index import build

    chance, done = random.Random(5), 0
    for _ in range(300):
        both(build, text := kallsyms(chance))
        done += fast.columns(text, False) is not None
    assert done == 300
    for _ in range(3 * MUTANTS):  # owners without a line of the kernel's before them, blanks, cut lines, NULs
        raw = bytearray(kallsyms(chance))
        for _ in range(chance.randrange(1, 4)):
            place = chance.randrange(len(raw))
            raw[place : place + chance.randrange(3)] = bytes([chance.choice(b" \n\t[]\0\r\x0bAz0")] * chance.randrange(3))
        both(build, bytes(raw))
    assert fast.columns(b"ffffffff81000000 T a b\n", False) is None
    both(build, b"".join([b"ffffffff81000000 T a\t[m%d]\n" % number for number in range(600)]))


def test_a_recording_in_large_pages_is_the_same(files, both, tmp_path, monkeypatch) -> None:
    from harken.formats import perf_data_header
    from harken.formats.perf_data import open_perf_data

    raw = recording(files, CHAINS, random.Random(9)).build()
    path = tmp_path / "perf.data"
    path.write_bytes(raw)

    def lines() -> tuple[bytes, tuple[str, ...]]:
        with open_perf_data(str(path)) as data:
            symbolizer = RecordingSymbolizer(live(), data, kernel_symbols=KernelSymbols(None, KERNEL))
            found = [bytes(block) for batch in data.batches(threads=False) for block in symbolizer.blocks(batch)]
            return b"".join(found), tuple(data.problems)

    monkeypatch.setattr(perf_data_header, "_LARGE", 1)
    assert both(lines) == both(named, raw)
    path.write_bytes(raw[: len(raw) // 2])
    assert both(lines) == both(named, raw[: len(raw) // 2])
