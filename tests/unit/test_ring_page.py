"""formats.ring_page: all record types in both byte orders, what was lost, and pages that lie."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harken.base.errors import FormatError
from harken.formats.ring_page import Layout, parse, parse_layout, walk
from harken.testing.ring_builder import page, pages

ORDERS = ("<", ">")


def head(kind: int, delta: int, order: str) -> bytes:
    return struct.pack(order + "I", delta << 5 | kind if order == "<" else kind << 27 | delta)


def word(value: int, order: str) -> bytes:
    return struct.pack(order + "I", value)


def data(type_id: int, order: str, size: int = 8) -> bytes:
    return struct.pack(order + "H", type_id) + bytes(size - 2)


def plain(records):
    return list(zip(map(int, records.times), map(int, records.starts), map(int, records.sizes)))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("long_size", (4, 8))
def test_every_record_type(order, long_size):
    body = b"".join(
        (
            head(2, 5, order) + data(1, order),  # at 1005
            head(30, 3, order) + word(2, order),  # + 2 << 27 | 3
            head(2, 1, order) + data(2, order),
            head(29, 7, order) + word(8, order) + bytes(4),  # discarded: 8 bytes counting its length
            head(2, 0, order) + data(3, order),
            head(31, 9, order) + word(1 << 20, order),  # absolute
            head(0, 2, order) + word(204, order) + data(4, order, 200),
            head(29, 0, order) + bytes(100),  # end
        )
    )
    built = page(1000, body, order, long_size)
    found = parse(built, order, long_size)
    first = 8 + long_size
    extended = 1005 + (2 << 27) + 3 + 1
    absolute = (1 << 47) + 9 + 2
    assert found.time == 1000 and found.lost is None
    assert [(time, size) for time, _, size in found.records] == [(1005, 8), (extended, 8), (extended + 7, 8), (absolute, 200)]
    assert found.records[0][1] == first + 4
    assert [struct.unpack_from(order + "H", built, start)[0] for _, start, _ in found.records] == [1, 2, 3, 4]


def test_absolute_stamps_keep_the_upper_bits():
    time = (3 << 59) + 100
    built = page(time, head(31, 50, "<") + word(0, "<") + head(1, 0, "<") + bytes(4))
    assert parse(built, "<").records[0][0] == (3 << 59) + (1 << 59) + 50  # it went back: 59 bits have passed
    built = page(time, head(31, 200, "<") + word(0, "<") + head(1, 1, "<") + bytes(4))
    assert parse(built, "<").records[0][0] == (3 << 59) + 201


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("lost", "expected"), [(None, None), (-1, 0), (12345, 12345)])
def test_lost(order, lost, expected):
    built = page(0, head(1, 0, order) + bytes(4), order, lost=lost)
    assert parse(built, order).lost == expected
    found = walk(page(0, b"", order) + built, 4096, Layout(order))
    assert found.lost == (() if expected is None else ((0, expected),))


def test_header_page():
    text = (
        "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n\tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n"
        "\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n\tfield: char data;\toffset:16;\tsize:4080;\tsigned:0;\n"
    )
    assert parse_layout(text, "<") == Layout("<")
    assert parse_layout("", ">", 4) == Layout(">", 4, 0, 8, 4, 12)
    with pytest.raises(FormatError):
        parse_layout("field: u64 timestamp; offset:0; size:8;")
    with pytest.raises(FormatError):
        parse_layout(text.replace("size:8;\tsigned:1", "size:3;\tsigned:1"))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("page_size", (4096, 65536))
def test_many_pages_with_and_without_numpy(order, page_size):
    rng = random.Random(7)
    time, records = 1 << 40, []
    for _ in range(30000 if page_size == 4096 else 60000):
        time += rng.choice((0, 1, 500, 1 << 20, (1 << 27) + 3, 1 << 35)) if rng.random() < 0.05 else rng.randrange(2000)
        records.append((time, data(rng.randrange(1, 2000), order, rng.choice((4, 8, 28, 64, 112, 116, 300)))))
    built = pages(records, order, page_size=page_size, lost={3: 9, 5: -1})
    assert len(built) // page_size >= 24
    fast, slow = walk(built, page_size, Layout(order)), walk(built, page_size, Layout(order), numpy=False)
    assert plain(fast) == plain(slow) and list(fast.types) == list(slow.types) and fast.lost == slow.lost
    assert [(int(t), n) for t, n in zip(fast.times, fast.sizes)] == [(t, len(p)) for t, p in records]
    assert list(fast.types) == [struct.unpack_from(order + "H", p)[0] for _, p in records]
    assert [number for _, number in fast.lost] == [9, 0]


def test_an_incomplete_last_page_is_read_as_far_as_it_goes():
    built = pages([(time, data(1, "<", 64)) for time in range(0, 300000, 100)], "<")
    whole = walk(built, 4096, Layout("<"), numpy=False)
    for numpy in (True, False):
        cut = walk(built[:-2048], 4096, Layout("<"), numpy=numpy)
        assert 0 < len(cut) < len(whole) or len(built) // 4096 * 4096 != len(built)
        assert plain(cut) == plain(whole)[: len(cut)]
    assert len(walk(built[:10], 4096, Layout("<"))) == 0
    with pytest.raises(FormatError):
        parse(built[:10])
    with pytest.raises(FormatError):
        walk(built, 12)


@settings(max_examples=150, deadline=None)
@given(st.binary(min_size=40, max_size=200), st.sampled_from(ORDERS), st.integers(0, 1 << 32))
def test_hostile_pages_stay_inside_and_both_walkers_agree(noise, order, commit):
    """Random bytes as records, and commit fields that promise more than there is."""
    size = 256
    one = (struct.pack(order + "QQ", 1 << 60, commit) + noise).ljust(size, b"\xff")[:size]
    good = page(5, head(1, 0, order) + data(3, order, 4), order, page_size=size)
    built = (one + good) * 15
    fast, slow = walk(built, size, Layout(order)), walk(built, size, Layout(order), numpy=False)
    assert plain(fast) == plain(slow) and fast.lost == slow.lost
    for _, start, length in plain(slow):
        assert start // size == (start + max(length, 1) - 1) // size and start + length <= len(built)
    assert len(slow) <= len(built) // 4
