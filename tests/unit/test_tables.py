"""Maps: what is read from the kernel becomes values, and values become text and JSON."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harken.analysis.aggregate import Stats, divide, reducer
from harken.analysis.histogram import Histogram, linear_size, log2_bounds, log2_index, log2_size
from harken.base.schema import Field, Schema
from harken.render.histogram import histogram_json, histogram_lines
from harken.render.tables import Layout

NONE = Schema("key", 0, ())
WORD = Schema("value", 8, (Field("v", 0, "Q"),))
SIGNED = Schema("value", 8, (Field("v", 0, "q"),))
COMM = Schema("key", 16, (Field("k0", 0, "s", 16),))
PAIR = Schema("key", 24, (Field("k0", 0, "q"), Field("k1", 8, "s", 16)))


def test_scalars() -> None:
    assert Layout("@", "count", NONE, WORD).text([((), 7)]) == "@: 7\n"
    assert Layout("@x", "value", NONE, SIGNED).text([((), (-3,))]) == "@x: -3\n"
    assert Layout("@x", "stats", NONE, WORD).text([((), Stats(3, 2, 6))]) == "@x: { .count = 3, .average = 2, .total = 6 }\n"
    assert Layout("@x", "avg", NONE, WORD).text([((), Stats(3, 2, 6))]) == "@x: 2\n"
    assert Layout("@x", "count", NONE, WORD).text([]) == ""
    assert Layout("@x", "count", NONE, WORD).json([]) == ""


def test_numbers_are_ordered_by_value_then_key() -> None:
    layout = Layout("@b", "sum", PAIR, WORD)
    rows = [((1, "x"), 5), ((0, "zz"), 5), ((0, "aa"), 7), ((2, "a"), 1)]
    assert layout.text(rows).split("\n") == ["@b[2, a]: 1", "@b[0, zz]: 5", "@b[1, x]: 5", "@b[0, aa]: 7", ""]
    assert layout.json(rows) == '{"type": "map", "data": {"@b": {"2,a": 1, "0,zz": 5, "1,x": 5, "0,aa": 7}}}'


def test_other_values_are_ordered_by_key() -> None:
    text = Schema("value", 8, (Field("v", 0, "s", 8),))
    assert Layout("@s", "value", COMM, text).text([(("b",), ("x",)), (("a",), ("z",))]) == "@s[a]: z\n@s[b]: x\n"
    pointer = Schema("value", 8, (Field("v", 0, "Q", role="ptr"),))
    assert Layout("@p", "value", COMM, pointer).text([(("b",), (1,)), (("a",), (9,))]) == "@p[a]: 0x9\n@p[b]: 0x1\n"


def test_top_and_divisor() -> None:
    layout = Layout("@", "count", COMM, WORD)
    rows = [(("a",), 1), (("b",), 30), (("c",), 20)]
    assert layout.text(rows, 2) == "@[c]: 20\n@[b]: 30\n"
    assert layout.text(rows, 1, 7) == "@[b]: 4\n"
    assert layout.text(rows, 0, 10) == "@[a]: 0\n@[c]: 2\n@[b]: 3\n"
    assert layout.text(rows, 99) == layout.text(rows)
    plain = Layout("@", "value", COMM, SIGNED)
    assert plain.text([(("a",), (-7,))], 0, 2) == "@[a]: -3\n"


def test_averages_are_ordered_by_average_and_histograms_by_total() -> None:
    stats = Layout("@s", "stats", COMM, WORD)
    assert stats.text([(("a",), Stats(1, 4, 4)), (("b",), Stats(9, 2, 18))]).startswith("@s[b]")
    assert stats.json([(("a",), Stats(1, 4, 4))]) == '{"type": "stats", "data": {"@s": {"a": {"count": 1, "average": 4, "total": 4}}}}'
    hist = Layout("@h", "hist", COMM, WORD)
    rows = [(("a",), Histogram.log2((0, 5))), (("b",), Histogram.log2((0, 2)))]
    assert hist.text(rows).startswith("@h[b]:\n[0]                    2 |@@@")
    assert hist.text(rows).endswith("|\n\n")


def test_keys() -> None:
    inner = Schema("t", 16, (Field("a", 0, "q"), Field("b", 8, "q")))
    only = Schema("key", 16, (Field("k", 0, "r", 1, "tuple", inner),))
    assert Layout("@", "count", only, WORD).text([(((1, 2),), 3)]) == "@[1, 2]: 3\n"
    two = Schema("key", 24, (Field("k", 0, "r", 1, "tuple", inner), Field("l", 16, "q")))
    assert Layout("@", "count", two, WORD).text([(((1, 2), 5), 3)]) == "@[(1, 2), 5]: 3\n"
    array = Schema("key", 12, (Field("k", 0, "i", 3),))
    assert Layout("@", "count", array, WORD).text([(((1, 2, 3),), 3)]) == "@[[1,2,3]]: 3\n"


def test_values_of_many_kinds() -> None:
    record = Schema("r", 16, (Field("a", 0, "q"), Field("b", 8, "s", 8)))
    struct_value = Schema("v", 16, (Field("v", 0, "r", 1, "struct", record),))
    layout = Layout("@e", "value", NONE, struct_value)
    assert layout.text([((), ((1, "x"),))]) == "@e: { .a = 1, .b = x }\n"
    assert layout.json([((), ((1, "x"),))]) == '{"type": "map", "data": {"@e": {"a": 1, "b": "x"}}}'
    tuple_value = Schema("v", 16, (Field("v", 0, "r", 1, "tuple", record),))
    assert Layout("@t", "value", NONE, tuple_value).text([((), ((1, "x"),))]) == "@t: (1, x)\n"
    assert Layout("@t", "value", NONE, tuple_value).json([((), ((1, "x"),))]) == '{"type": "map", "data": {"@t": [1,"x"]}}'
    flag = Schema("v", 8, (Field("v", 0, "B", role="bool"),))
    assert Layout("@b", "value", NONE, flag).text([((), (1,))]) == "@b: true\n"
    assert Layout("@b", "value", NONE, flag).json([((), (1,))]) == '{"type": "map", "data": {"@b": true}}'


def test_reducers_join_cpus() -> None:
    assert reducer("count", False, 3)(struct.pack("=3Q", 1, 2, 3)) == 6
    assert reducer("sum", True, 2)(struct.pack("=2q", -5, 2)) == -3
    assert reducer("sum", False, 2)(struct.pack("=2Q", (1 << 64) - 1, 2)) == 1
    assert reducer("min", True, 3)(struct.pack("=qQqQqQ", 5, 1, 0, 0, -2, 1)) == -2
    assert reducer("max", False, 2)(struct.pack("=QQQQ", 0, 0, 0, 0)) == 0
    assert reducer("max", False, 2)(struct.pack("=QQQQ", 9, 1, 70, 0)) == 9
    assert reducer("stats", True, 2)(struct.pack("=qQqQ", -5, 2, -6, 1)) == Stats(3, -3, -11)
    counts = [0] * 66
    counts[2] = 4
    other = [0] * 66
    other[3] = 1
    both = reducer("hist", True, 2, (0,))(struct.pack("=132Q", *counts, *other))
    assert [(b.low, b.high, b.count) for b in both] == [(1, 2, 4), (2, 4, 1)]
    size = linear_size(0, 10, 2)
    assert size == 7
    lhist = reducer("lhist", True, 1, (0, 10, 2))(struct.pack("=7Q", 1, 0, 1, 0, 0, 0, 2))
    assert [(b.low, b.high, b.count) for b in (lhist.buckets[0], lhist.buckets[2], lhist.buckets[-1])] == [
        (None, 0, 1),
        (2, 4, 1),
        (10, None, 2),
    ]


@given(st.integers(-(1 << 63), (1 << 63) - 1), st.integers(0, 5))
def test_every_value_lies_in_its_bucket(value: int, bits: int) -> None:
    index = log2_index(value, bits)
    assert 0 <= index < log2_size(bits)
    low, high = log2_bounds(index, bits)
    assert (low is None or low <= value) and value < high
    if low:
        assert (high - low) << bits <= max(low, 1 << bits)


@pytest.mark.parametrize(
    ("value", "bits", "label"),
    [
        (0, 2, "[0]"), (5, 2, "[5]"), (9, 2, "[8, 10)"), (1100, 2, "[1024, 1280)"), (1300, 1, "[1024, 1536)"), (-4, 0, "(..., 0)"),
        (7680, 3, "[7680, 8K)"), (8200, 3, "[8K, 9K)"), (1 << 20, 3, "[1024K, 1152K)"), (512, 0, "[512, 1K)"), (1 << 40, 0, "[1T, 2T)"),
    ],
)  # fmt: skip
def test_log2_labels(value: int, bits: int, label: str) -> None:
    counts = [0] * log2_size(bits)
    counts[log2_index(value, bits)] = 1
    assert histogram_lines(Histogram.log2(counts, bits))[0].startswith(f"{label:<16}       1 |@")


def test_linear_labels_and_json() -> None:
    histogram = Histogram.linear((1, 0, 0, 2, 0, 1), 0, 4096, 1024)
    assert [line[:16].rstrip() for line in histogram_lines(histogram)] == [
        "(..., 0)",
        "[0, 1K)",
        "[1K, 2K)",
        "[2K, 3K)",
        "[3K, 4K)",
        "[4K, ...)",
    ]
    assert histogram_json(histogram).startswith('[{"max": -1, "count": 1},{"min": 0, "max": 1023, "count": 0}')
    assert histogram_json(histogram).endswith('{"min": 4096, "count": 1}]')
    assert histogram.percentile(50) == 3072


def test_division_leaves_what_cannot_be_divided() -> None:
    assert divide("x", 3) == "x"
    assert divide(7, 0) == 7
    assert divide(Stats(2, 8, 16), 2) == Stats(2, 4, 8)
