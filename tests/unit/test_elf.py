"""formats.elf and formats.stapsdt: both classes and byte orders, versions of symbols, USDT arguments, hostile files."""

from __future__ import annotations

import lzma
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harken.base.errors import FormatError
from harken.formats.elf import Elf
from harken.formats.stapsdt import Operand, arguments
from harken.testing.elf_builder import ElfBuilder

BASE = 0x401000


def example(bits: int = 64, order: str = "<") -> ElfBuilder:
    return (
        ElfBuilder(bits, order)
        .function("main", BASE, 32)
        .function("helper", BASE + 32, 0, info=0x02)
        .symbol("variable", BASE + 100, 8, 0x11, 1)
        .symbol("printf", 0, 0, 0x12, 0, dynamic=True)
        .function("exported", BASE + 64, 16, dynamic=True)
        .note(".note.gnu.build-id", "GNU", 3, bytes.fromhex("00112233aabb"))
        .marker("app", "start", BASE + 8, "-4@%edi 8@%rsi")
        .marker("app", "stop", BASE + 16, "", semaphore=BASE + 100)
    )


@pytest.fixture(params=[(64, "<"), (64, ">"), (32, "<"), (32, ">")], ids=str)
def elf(request):
    return Elf(example(*request.param).build())


def test_header_sections_and_segments(elf):
    assert elf.machine_name == "x86_64" and elf.entry == BASE and elf.type == 2 and not elf.relocatable
    assert elf.section(".text").address == BASE and elf.section(".text").size == 4096 and elf.section(".none") is None
    (segment,) = elf.segments
    assert (segment.type, segment.flags, segment.offset, segment.address, segment.file_size) == (1, 5, 4096, BASE, 4096)
    assert elf.build_id == "00112233aabb"


def test_addresses_and_offsets(elf):
    assert elf.offset_of(BASE) == 4096 and elf.offset_of(BASE + 4095) == 8191
    assert elf.offset_of(BASE + 4096) is None and elf.offset_of(BASE - 1) is None
    assert elf.address_of(4100) == BASE + 4 and elf.address_of(8192) is None


def test_symbols(elf):
    assert elf.functions() == [("exported", BASE + 64, 16), ("helper", BASE + 32, 0), ("main", BASE, 32)]
    main = elf.symbol("main")
    assert (main.value, main.size, main.kind, main.binding) == (BASE, 32, "func", "global")
    assert elf.symbol_offset(main) == 4096
    assert elf.symbol("helper").binding == "local" and elf.symbol("variable").kind == "object"
    assert elf.symbol("printf") is None and elf.symbol("mai") is None and elf.symbol("ain") is None and elf.symbol("") is None
    assert [s.name for s in elf.symbols(".dynsym")] == ["", "printf", "exported"]


def test_symbol_at(elf):
    assert elf.symbol_at(BASE + 5) == ("main", 5)
    assert elf.symbol_at(BASE + 40) == ("helper", 8)  # no size: up to the next symbol
    assert elf.symbol_at(BASE + 64) == ("exported", 0)
    assert elf.symbol_at(BASE + 80) is None and elf.symbol_at(BASE - 1) is None and elf.symbol_at(1 << 40) is None


def test_names_that_share_their_tail():
    data = bytearray(ElfBuilder().function("xread", BASE, 8).function("other", BASE + 8, 8).build())
    elf = Elf(data)
    table = elf.section(".symtab")
    struct.pack_into("<I", data, table.offset + 2 * 24, 2)  # "other" becomes "read", the tail of "xread"
    elf = Elf(data)
    assert elf.symbol("read").value == BASE + 8 and elf.symbol("xread").value == BASE


def test_markers(elf):
    start, stop = elf.stapsdt()
    assert (start.provider, start.name, start.address, start.offset, start.semaphore) == ("app", "start", BASE + 8, 4104, 0)
    assert start.operands == (
        Operand(4, True, "register", register="rdi", bits=32),
        Operand(8, False, "register", register="rsi", bits=64),
    )
    assert stop.operands == () and (stop.semaphore, stop.semaphore_offset) == (BASE + 100, 4196)


def test_markers_of_a_prelinked_file():
    built = (
        ElfBuilder()
        .section(".stapsdt.base", b"\0", address=BASE + 0x500)
        .marker("p", "n", BASE + 8, base=BASE + 0x400, semaphore=BASE + 16)
    )
    (marker,) = Elf(built.build()).stapsdt()
    assert marker.address == BASE + 0x108 and marker.semaphore == BASE + 0x110


def test_versions_in_symtab_names():
    elf = Elf(ElfBuilder().function("memcpy@GLIBC_2.2.5", BASE, 8).function("memcpy@@GLIBC_2.14", BASE + 8, 8).build())
    assert elf.symbol("memcpy").value == BASE + 8
    assert elf.symbol("memcpy@GLIBC_2.2.5").value == BASE
    assert [name for name, _, _ in elf.functions()] == ["memcpy", "memcpy"]


def test_many_functions_of_one_name():
    builder = ElfBuilder(text_size=4096 * 8)
    for i in range(300):
        builder.function("init", BASE + 16 * i, 16, info=0x02).function(f"pre{i}init", BASE + 16 * i + 8, 8, info=0x02)
    elf = Elf(builder.build())
    assert sorted(s.value for s in elf.symbols_named("init")) == [BASE + 16 * i for i in range(300)]


def test_debug_symbols_are_looked_at_last():
    debug = Elf(ElfBuilder().function("hidden", BASE + 128, 8).build())
    asked = []

    def find(elf):
        asked.append(elf)
        return debug

    elf = Elf(ElfBuilder().function("exported", BASE + 64, 16, dynamic=True).build(), debug=find)
    assert elf.symbol("exported") is not None and not asked
    assert elf.symbol("hidden").value == BASE + 128 and elf.symbol_at(BASE + 130) == ("hidden", 2)
    assert [name for name, _, _ in elf.functions()] == ["exported", "hidden"] and len(asked) == 1
    whole = Elf(ElfBuilder().function("main", BASE, 8).build(), debug=find)
    assert whole.symbol("hidden") is None and len(asked) == 1  # it was not stripped


def test_embedded_debug_symbols_and_debug_link():
    inner = ElfBuilder().function("hidden", BASE + 128, 8).build()
    builder = ElfBuilder().function("exported", BASE, 8, dynamic=True).section(".gnu_debugdata", lzma.compress(inner))
    for elf in (Elf(builder.build()), Elf(builder.build(), debug=lambda elf: None)):
        assert elf.symbol("hidden").value == BASE + 128 and [name for name, _, _ in elf.functions()] == ["exported", "hidden"]
    damaged = Elf(ElfBuilder().section(".gnu_debugdata", b"\xfd7zXZ\0 rubbish").build(), debug=lambda elf: None)
    assert damaged.functions() == []
    link = b"app.debug\0\0\0" + struct.pack("<I", zlib.crc32(b"x"))
    assert Elf(ElfBuilder().section(".gnu_debuglink", link).build()).debug_link() == ("app.debug", zlib.crc32(b"x"))
    assert Elf(ElfBuilder().section(".gnu_debuglink", b"../x\0\0\0\0\0\0\0\0").build()).debug_link() is None


# -- USDT arguments


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8@%rax", Operand(8, False, "register", register="rax")),
        ("-1@%ah", Operand(1, True, "register", register="rax", bits=8, shift=8)),
        ("2@%r10w", Operand(2, False, "register", register="r10", bits=16)),
        ("%rdx", Operand(8, False, "register", register="rdx")),
        ("-4@$-5", Operand(4, True, "const", -5)),
        ("4@$0x10", Operand(4, False, "const", 16)),
        ("8@$table+8", Operand(8, False, "const", 8, symbol="table")),
        ("8@(%rax)", Operand(8, False, "memory", 0, "rax")),
        ("8@-40(%rbp)", Operand(8, False, "memory", -40, "rbp")),
        ("4@8(%rax,%rbx,4)", Operand(4, False, "memory", 8, "rax", "rbx", 4)),
        ("4@(,%rbx,8)", Operand(4, False, "memory", 0, "", "rbx", 8)),
        ("8@counter(%rip)", Operand(8, False, "memory", 0, "", symbol="counter")),
        ("8@counter+16(%rip)", Operand(8, False, "memory", 16, "", symbol="counter")),
        ("8@24+counter(%rip)", Operand(8, False, "memory", 24, "", symbol="counter")),
        ("8@-8+table(%rax)", Operand(8, False, "memory", -8, "rax", symbol="table")),
        ("8@16(%rip)", Operand(8, False, "memory", 16, "rip")),
        ("8f@%xmm0", Operand(8, False, "register", register="xmm0", bits=128, float=True)),
        ("4@0x601040", Operand(4, False, "memory", 0x601040)),
    ],
)
def test_x86_operands(text, expected):
    assert arguments(text, "x86_64") == (expected,)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8@x0", Operand(8, False, "register", register="x0")),
        ("-4@w3", Operand(4, True, "register", register="x3", bits=32)),
        ("4@wzr", Operand(4, False, "const", 0)),
        ("8@sp", Operand(8, False, "register", register="sp")),
        ("-4@[sp, 12]", Operand(4, True, "memory", 12, "sp")),
        ("8@[x19]", Operand(8, False, "memory", 0, "x19")),
        ("8@[x19, #-16]", Operand(8, False, "memory", -16, "x19")),
        ("8@[x1, x2]", Operand(8, False, "memory", 0, "x1", "x2")),
        ("8@[x1, x2, lsl 3]", Operand(8, False, "memory", 0, "x1", "x2", 8)),
        ("8@[x1, w2, sxtw 3]", Operand(8, False, "memory", 0, "x1", "x2", 8, index_bits=32, index_signed=True)),
        ("8@[x1, w2, uxtw]", Operand(8, False, "memory", 0, "x1", "x2", 1, index_bits=32)),
        ("4@5", Operand(4, False, "const", 5)),
        ("-4@-5", Operand(4, True, "const", -5)),
    ],
)
def test_arm64_operands(text, expected):
    assert arguments(text, "aarch64") == (expected,)


def test_several_arguments():
    assert [o.size for o in arguments("8@%rax  -4@$1\t2@%cx", "x86_64")] == [8, 4, 2]
    assert [o.kind for o in arguments("8@[sp, 8] 4@w0 1@7", "aarch64")] == ["memory", "register", "const"]
    assert arguments("", "x86_64") == () and arguments("   ", "aarch64") == ()


@pytest.mark.parametrize(
    "text",
    ["8@%nope", "3@%rax", "x@%rax", "8@", "8@$", "8@$x+y", "8@%fs:(%rax)", "8@(%rax,%rbx,3)", "8@(%al)", "8@4(%rax", "8@a+b(%rip)", "@"],
)
def test_x86_operands_that_are_refused(text):
    with pytest.raises(FormatError):
        arguments(text, "x86_64")


def test_what_is_not_understood_does_not_take_the_others_along():
    first, second, third = arguments("8@%rdi 4@%fs:16 3@%rax", "x86_64", partial=True)
    assert (first.obstacle, second.obstacle) == ("", "the place 4@%fs:16 is not understood") and third.kind == "unknown"
    places = [one.place for one in arguments("-8@-24(%rbp) 4@counter(%rip) 8f@%xmm1 1@%ah 8@$x", "x86_64")]
    assert places == ["[rbp - 24]", "[counter]", "xmm1", "rax >> 8", "x"]
    (number,) = arguments("8f@%xmm1", "x86_64")
    assert number.type == "double" and "floating-point" in number.obstacle
    assert arguments("16@(%rax)", "x86_64")[0].obstacle == "it has 16 bytes"


@pytest.mark.parametrize(
    "text", ["8@[x0", "8@[w0]", "8@[x0, x1, ror 2]", "8@[x0, w1]", "8@[x0, x1, sxtw 2]", "8@[x0, 1, 2]", "8@y0", "8@[v0]"]
)
def test_arm64_operands_that_are_refused(text):
    with pytest.raises(FormatError):
        arguments(text, "aarch64")


def test_arguments_are_bounded():
    for text in ("8@%rax " * 100, "8@" + "(" * 20000):
        with pytest.raises(FormatError):
            arguments(text, "x86_64")
    with pytest.raises(FormatError, match="not known"):
        arguments("8@r0", "s390x")


@given(st.text(alphabet="8-4@%$raxbip(),[]wxs +0123:.f#l", max_size=40))
def test_any_argument_string(text):
    for machine in ("x86_64", "aarch64"):
        try:
            arguments(text, machine)
        except FormatError:
            pass


# -- hostile files


def explore(data: bytes) -> None:
    elf = Elf(data)
    elf.segments, elf.sections, elf.build_id, elf.debug  # noqa: B018
    elf.functions()
    list(elf.symbols())
    elf.symbol("main")
    elf.symbol_at(BASE + 4)
    elf.debug_link()
    for marker in elf.stapsdt():
        marker.operands  # noqa: B018


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"\x7fELF" + bytes(12), b"#!/bin/sh\necho hello world\n", bytes(4096)])
def test_not_elf(data):
    with pytest.raises(FormatError):
        explore(data)


def test_truncations():
    data = example().build()
    explore(data)
    for size in [*range(300), *range(4000, len(data), 61)]:
        with pytest.raises(FormatError):
            explore(data[:size])


FILES = [example(bits, order).build() for bits in (64, 32) for order in "<>"]
HEADERS = [[*range(120), *range(len(data) - 64 * 9, len(data))] for data in FILES]


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 3), st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=6), st.booleans())
def test_mutants(which, changes, anywhere):
    data = bytearray(FILES[which])
    places = range(len(data)) if anywhere else HEADERS[which]
    for place, value in changes:
        data[places[place % len(places)]] = value
    try:
        explore(bytes(data))
    except FormatError:
        pass
