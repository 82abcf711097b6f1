"""Types of values: layout, joining, how they are shown."""

from __future__ import annotations

import struct

import pytest

from harken.base.ctype import Array, Enum, Int, Member, Ptr, Struct, Typedef
from harken.base.schema import Schema
from harken.compiler.builtins import types as T
from harken.compiler.builtins.type_fields import field
from harken.render.values import row_text

U32, CHAR = Int("unsigned int", 4, False), Int("char", 1, True)
POINT = Struct("point", 16, (Member("x", U32, 0), Member("name", Array(CHAR, 4), 32), Member("next", Ptr(U32), 64)))


@pytest.mark.parametrize(
    "kind, text",
    [
        (T.integer(4, False), "uint32"),
        (T.string(16), "string[16]"),
        (T.pointer(POINT), "struct point *"),
        (T.pointer(Ptr(POINT)), "struct point **"),
        (T.array(T.integer(1), 4), "int8[4]"),
        (T.tuple_of(T.BOOL, T.string(3)), "(bool,string[3])"),
        (T.tuple_of(T.BOOL, names=("a",)), "(a=bool)"),
        (T.Type("hist"), "hist_t"),
    ],
)
def test_names(kind: T.Type, text: str) -> None:
    assert str(kind) == text


def test_layout_is_that_of_c() -> None:
    assert T.layout((T.integer(1), T.integer(4), T.string(3), T.integer(2))) == ((0, 4, 8, 12), 16)
    assert T.layout((T.string(5),)) == ((0,), 5)
    assert T.layout(()) == ((), 0)
    nested = T.tuple_of(T.integer(1), T.tuple_of(T.integer(1), T.integer(8)))
    assert T.layout(nested.parts) == ((0, 8), 24)


@pytest.mark.parametrize(
    "a, b, joined",
    [
        (T.integer(1), T.integer(2), "int16"),
        (T.integer(4, False), T.integer(1, False), "uint32"),
        (T.integer(1), T.integer(4, False), "int64"),
        (T.string(4), T.string(9), "string[9]"),
        (T.BOOL, T.integer(1), "int8"),
        (T.tuple_of(T.integer(1), T.string(2)), T.tuple_of(T.integer(8), T.string(5)), "(int64,string[5])"),
        (T.VOIDPTR, T.pointer(POINT), "struct point *"),
        (T.integer(1), T.pointer(POINT), "struct point *"),
        (T.string(4), T.integer(4), "None"),
        (T.tuple_of(T.BOOL), T.tuple_of(T.BOOL, T.BOOL), "None"),
        (T.Type("count", 8), T.Type("sum", 8), "None"),
    ],
)
def test_join(a: T.Type, b: T.Type, joined: str) -> None:
    assert str(T.join(a, b)) == str(T.join(b, a)) == joined


def test_literals_are_as_small_as_they_can() -> None:
    found = [str(T.literal_type(value)) for value in (0, 127, 128, -128, -129, 1 << 31, (1 << 63) - 1, 1 << 63)]
    assert found == ["int8", "int8", "int16", "int8", "int16", "int64", "int64", "uint64"]


def test_from_c() -> None:
    assert str(T.from_ctype(Typedef("pid_t", Int("int", 4, True)))) == "int32"
    assert T.from_ctype(Int("_Bool", 1, False, "bool")) is T.BOOL
    assert str(T.from_ctype(Array(CHAR, 16))) == "string[16]"
    assert str(T.from_ctype(Array(U32, 4))) == "uint32[4]"
    assert T.from_ctype(Ptr(CHAR, space="user"), "kernel").space == "user"
    assert T.from_ctype(Ptr(CHAR), "kernel").space == "kernel"
    assert T.from_ctype(POINT, "kernel").space == "kernel"


@pytest.mark.parametrize(
    "kind, raw, text",
    [
        (T.integer(2), struct.pack("=h", -5), "-5"),
        (T.BOOL, b"\1", "true"),
        (T.VOIDPTR, struct.pack("=Q", 4096), "0x1000"),
        (T.MAC, bytes(range(6)), "00:01:02:03:04:05"),
        (T.INET, struct.pack("=I16s", 2, bytes([127, 0, 0, 1])), "127.0.0.1"),
        (T.from_ctype(Enum("e", 4, {"A": 0, "B": 7})), struct.pack("=I", 7), "B"),
        (T.array(T.integer(2), 3), struct.pack("=3h", 1, -2, 3), "[1,-2,3]"),
        (T.tuple_of(T.integer(1), T.string(4)), b"\x05abc\0", "(5, abc)"),
        (T.structure(POINT, "kernel"), struct.pack("=I4sQ", 7, b"ab", 16), "{ .x = 7, .name = ab, .next = 0x10 }"),
    ],
)
def test_fields_render(kind: T.Type, raw: bytes, text: str) -> None:
    schema = Schema("", kind.size, (field("value", kind, 0),))
    assert row_text(schema)(schema.row(raw)) == text
