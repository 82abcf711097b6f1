"""The BTF that programs carry is read back by our own reader."""

from __future__ import annotations

import struct

from harken.base.diagnostics import Source
from harken.formats.btf_writer import BtfWriter


def test_functions_are_types_with_params() -> None:
    from harken.formats.btf import Btf

    writer = BtfWriter()
    number = writer.function("tracepoint:a:b", ("ctx",))
    assert writer.function("tracepoint:a:b", ("ctx",)) == number
    btf = Btf(writer.data())
    function = btf.function("tracepoint_a_b")
    assert function is not None and [name for name, _ in function.params] == ["ctx"]


def test_lines_carry_the_users_text() -> None:
    source = Source("x.bt", "BEGIN {\n  $a = 1;\n  exit();\n}")
    writer = BtfWriter()
    marks = [(0, source.span(0, 5)), (1, source.span(10, 12)), (2, source.span(10, 17)), (5, source.span(20, 24))]
    records = list(struct.iter_unpack("<IIII", writer.line_info(marks)))
    data = writer.data()
    (type_length,) = struct.unpack_from("<I", data, 12)
    strings = data[24 + type_length :]

    def string(offset: int) -> str:
        return strings[offset : strings.index(b"\0", offset)].decode()

    assert [(slot, string(name), string(text), place >> 10, place & 1023) for slot, name, text, place in records] == [
        (0, "x.bt", "BEGIN {", 1, 1),
        (1, "x.bt", "  $a = 1;", 2, 3),
        (5, "x.bt", "  exit();", 3, 3),
    ]


def test_functions_starts_have_a_line_of_their_own() -> None:
    span = Source("x", "BEGIN { }").span(0, 5)
    writer = BtfWriter()
    records = list(struct.iter_unpack("<IIII", writer.line_info([(0, span), (4, span), (9, None)], frozenset((0, 9)))))
    assert [record[0] for record in records] == [0, 9]
