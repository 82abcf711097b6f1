"""printf against C's own printf, and bpftrace's additions."""

from __future__ import annotations

import ctypes
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harken.base.schema import Field, Schema
from harken.render.printf import Conversion, bulk_encoder, encoder, formatter, parse, render

CODES = "bBhHiIqQ"


def one(text: str, kind: str, value: object, **more: object) -> str:
    size = struct.calcsize("=" + kind)
    schema = Schema("", 8 + size, (Field("arg0", 8, kind, **more),))  # type: ignore[arg-type]
    return render(text, schema, struct.pack("=Q" + kind, 0, value))


def c_printf(text: str, value: int) -> str:
    libc = ctypes.CDLL(None)
    buffer = ctypes.create_string_buffer(1 << 12)
    libc.snprintf(buffer, len(buffer), text.encode(), ctypes.c_uint64(value & 0xFFFFFFFFFFFFFFFF))
    return buffer.value.decode()


@given(
    flags=st.sets(st.sampled_from("-+ #0")).map("".join),
    width=st.integers(0, 30),
    precision=st.integers(-1, 25),
    length=st.sampled_from(("", "h", "hh", "l", "ll")),
    verb=st.sampled_from("diuxXo"),
    code=st.sampled_from(CODES),
    data=st.data(),
)
def test_integers_are_those_of_c(flags: str, width: int, precision: int, length: str, verb: str, code: str, data: st.DataObject) -> None:
    bits = struct.calcsize(code) * 8
    low = -(1 << (bits - 1)) if code.islower() else 0
    value = data.draw(st.integers(low, (1 << (bits - (1 if code.islower() else 0))) - 1) | st.sampled_from((0, 1)))
    text = f"%{flags}{width or ''}{'' if precision < 0 else f'.{precision}'}{length}{verb}"
    assert one(text, code, value) == c_printf(text, value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%s", "/etc/passwd"),
        ("%.4s|", "/etc|"),
        ("%14s|", "   /etc/passwd|"),
        ("%-14s|", "/etc/passwd   |"),
        ("%14.4s|", "          /etc|"),
    ],
)
def test_strings(text: str, expected: str) -> None:
    raw = b"/etc/passwd"
    tail = struct.pack("=QI", 0, len(raw) << 16 | 12) + raw
    assert render(text, Schema("", 12, (Field("arg0", 8, "v"),)), tail) == expected
    fixed = struct.pack("=Q16s", 0, raw)
    assert render(text, Schema("", 24, (Field("arg0", 8, "s", 16),)), fixed) == expected


def test_records_at_any_offset_and_from_memoryviews() -> None:
    schema = Schema("", 24, (Field("arg0", 8, "I"), Field("arg1", 12, "v"), Field("arg2", 16, "s", 8)))
    record = struct.pack("=QII8s", 3, 7, 2 << 16 | 24, b"cat") + b"ab"
    show = formatter("%d %s %s", schema)
    assert show(memoryview(b"x" * 40 + record + b"zz"), 40) == "7 ab cat"


def test_bytes() -> None:
    raw = b'a\x01b"\\\xff\n'
    record = struct.pack("=QI", 0, len(raw) << 16 | 12) + raw
    schema = Schema("", 12, (Field("arg0", 8, "w", 1, "buf"),))
    assert render("%r", schema, record) == 'a\\x01b"\\\\xff\\x0a'
    assert render("%rx", schema, record).startswith("\\x61\\x01\\x62")
    assert render("%rh", schema, record) == "61 01 62 22 5c ff 0a"
    assert render("%s", schema, record) == 'a\\x01b"\\\\xff\\x0a'


def test_values_with_a_meaning() -> None:
    names = ((1, "ONE"), (2, "TWO"))
    assert one("%s %%", "I", 2, role="enum", detail=names) == "TWO %"
    assert one("%d", "I", 2, role="enum", detail=names) == "2"
    assert one("%s", "I", 9, role="enum", detail=names) == "9"
    assert one("%s", "B", 1, role="bool") == "true"
    assert one("%d", "?", True) == "1"
    assert one("%s", "Q", 16, role="ptr") == "0x10"
    assert one("%p", "Q", 16) == "0x10"
    assert one("%10p|", "Q", 255) == "      0xff|"
    assert one("%s", "q", -5) == "-5"
    assert one("%c%%", "I", 65) == "A%"
    assert one("%c", "I", 233).encode("utf-8", "surrogateescape") == b"\xe9"


def test_tuples_are_shown_whole() -> None:
    inner = Schema("", 8, (Field("a", 0, "I"), Field("b", 4, "s", 4)))
    schema = Schema("", 16, (Field("arg0", 8, "r", 1, "tuple", inner),))
    assert render("%s", schema, struct.pack("=QI4s", 0, 1, b"x")) == "(1, x)"


def test_stars_are_accepted_and_ignored() -> None:
    assert one("%*d|%.*s", "i", 5) == "5|%.0s"


def test_what_is_no_conversion_stays() -> None:
    assert one("100%% %d %k %", "i", 1) == "100% 1 %k %"
    assert parse("%") == ("%",)
    assert parse("%5") == ("%5",)
    assert parse("a%lldb") == ("a", Conversion("", 0, -1, "ll", "d"), "b")


def test_missing_and_surplus_arguments_do_no_harm() -> None:
    assert one("%d %d %s", "i", 4) == "4 %d %s"
    assert one("nothing", "i", 4) == "nothing"


def test_bytes_that_are_not_utf8_pass_unchanged() -> None:
    record = struct.pack("=Q4s", 0, b"\xff\xfea")
    schema = Schema("", 12, (Field("arg0", 8, "s", 4),))
    assert render("%s", schema, record).encode("utf-8", "surrogateescape") == b"\xff\xfea"
    assert formatter("%s", schema, "backslashreplace")(record, 0) == "\\xff\\xfea"


def test_a_format_cannot_inject_code() -> None:
    assert one("'''{x}\\\"%d", "i", 1) == "'''{x}\\\"1"


@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_any_format_is_accepted(text: str) -> None:
    assert isinstance(one(text, "i", 1), str)


@given(st.binary(min_size=20, max_size=60))
def test_any_record_of_sufficient_size_is_accepted(data: bytes) -> None:
    schema = Schema("", 20, (Field("arg0", 8, "v"), Field("arg1", 12, "w"), Field("arg2", 16, "i")))
    assert isinstance(formatter("%s %r %d", schema)(data, 0), str)


@given(
    st.sampled_from(("%s", "%5s|", "%-9s|", "%.2s", "%d", "%x", "%5.3d", "%#o", "%c", "%p", "%r", "%s %s %s", "%%")),
    st.binary(min_size=8, max_size=8),
)
def test_bytes_and_text_agree(text: str, raw: bytes) -> None:
    ascii_only = bytes([byte & 0x7F for byte in raw])
    schema = Schema("", 32, (Field("arg0", 8, "q"), Field("arg1", 16, "s", 8), Field("arg2", 24, "I", role="ptr")))
    record = bytes(8) + ascii_only * 3
    assert encoder(text, schema)(record, 0) == formatter(text, schema)(record, 0).encode()


@given(st.lists(st.binary(min_size=20, max_size=20), min_size=2, max_size=20), st.sampled_from((24, 32, 40)))
def test_many_records_at_once(records: list[bytes], stride: int) -> None:
    schema = Schema("", 20, (Field("arg0", 8, "s", 4), Field("arg1", 12, "q", role="ptr")))
    data = memoryview(b"head" * 2 + b"".join([record.ljust(stride, b"x") for record in records]))
    bulk, one_by_one = bulk_encoder("%-5s|%p|%s", schema), encoder("%-5s|%p|%s", schema)
    starts = range(8, len(data), stride)
    assert bulk is not None
    assert bulk(data, starts) == [one_by_one(data, start) for start in starts]


def test_records_of_changing_length_are_not_taken_in_bulk() -> None:
    assert bulk_encoder("%s", Schema("", 12, (Field("arg0", 8, "v"),))) is None
    assert bulk_encoder("constant", Schema("", 8, ())) is None
