"""formats.event_records and analysis.merge: columns with and without numpy say the same, in both byte orders, also of short records."""

from __future__ import annotations

import random

import numpy
import pytest

from harken.analysis.merge import merge, merge_records
from harken.formats.event_format import parse
from harken.formats.event_records import columns, concatenate, event_schema, split, take
from harken.formats.ring_page import Layout, walk
from harken.testing.ring_builder import pages, random_record, record

TEXT = """\
name: x
ID: {id}
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:s16 small;\toffset:8;\tsize:2;\tsigned:1;
\tfield:u64 large;\toffset:16;\tsize:8;\tsigned:0;
\tfield:char comm[16];\toffset:24;\tsize:16;\tsigned:0;
\tfield:unsigned long args[3];\toffset:40;\tsize:24;\tsigned:0;
\tfield:__data_loc char[] path;\toffset:64;\tsize:4;\tsigned:0;
\tfield:__rel_loc u8[] raw;\toffset:68;\tsize:4;\tsigned:0;
\tfield:u8 uuid[16];\toffset:72;\tsize:16;\tsigned:0;

print fmt: ""
"""
EVENTS = {number: parse(TEXT.replace("{id}", str(number))) for number in (5, 6)}
NAMES = ("common_pid", "small", "large", "comm", "args", "path", "raw", "uuid")


def plain(column):
    return [tuple(row) if hasattr(row, "__len__") and not isinstance(row, (str, bytes)) else row for row in column]


def stream(seed: int, order: str, count: int = 3000) -> bytes:
    rng = random.Random(seed)
    return pages([(1000 * i + seed, random_record(EVENTS[rng.choice((5, 6))], rng, order)) for i in range(count)], order)


@pytest.mark.parametrize("order", ("<", ">"))
def test_columns_with_and_without_numpy(order):
    data = stream(1, order)
    fast, slow = walk(data, 4096, Layout(order)), walk(data, 4096, Layout(order), numpy=False)
    for number, event in EVENTS.items():
        one, two = columns(event, data, fast, order, 3), columns(event, data, slow, order, 3)
        assert 0 < len(one) == len(two) < 3000 and list(one.cpus) == list(two.cpus) == [3] * len(one)
        assert list(one.times) == list(two.times)
        for name in NAMES:
            assert plain(one[name]) == plain(two[name]), name
        assert one["large"].dtype == numpy.dtype("u8") and one["args"].shape == (len(one), 3) and one["small"].dtype == numpy.dtype("i2")
        assert set(one["common_type"].tolist()) == {number}


def test_values():
    values = {
        "small": -3,
        "large": 1 << 63,
        "comm": "bash",
        "args": b"".join(n.to_bytes(8, "little") for n in (1, 2, 3)),
        "path": "/etc/x",
        "raw": b"\1\2",
    }
    data = pages([(7, record(EVENTS[5], values, "<", pid=-1)), (9, b"\x05\0" + bytes(6))], "<")
    found = columns(EVENTS[5], data, walk(data, 4096, Layout("<")), "<")
    rows = list(found.rows())
    assert rows[0][:2] == (7, 0) and rows[0][2:8] == (-3, 1 << 63, "bash", [1, 2, 3], "/etc/x", b"\1\2")
    assert rows[1] == (9, 0, 0, 0, "", [0, 0, 0], "", b"", [0] * 16)  # a record that is too short
    assert list(found["common_pid"]) == [-1, 0]
    assert list(found.rows(("comm",))) == [(7, 0, "bash"), (9, 0, "")]
    assert found.names[:2] == ("common_type", "common_pid")
    with pytest.raises(KeyError):
        found["nothing"]


def test_references_that_lead_outside():
    payload = bytearray(record(EVENTS[5], {"path": "abc"}))
    payload[64:68] = (0xFFFF << 16 | 4).to_bytes(4, "little")
    payload[68:72] = (8 << 16 | 0xFFF0).to_bytes(4, "little")
    data = pages([(1, bytes(payload)), (2, record(EVENTS[5], {"path": "secret"}))], "<")
    found = columns(EVENTS[5], data, walk(data, 4096, Layout("<")), "<")
    assert found["raw"][0] == b"" and "secret" not in found["path"][0]


def test_several_cpus_in_the_order_of_time():
    for numpy_too in (True, False):
        parts = []
        for cpu in range(3):
            data = stream(cpu, "<", 500)
            parts.append(split(data, walk(data, 4096, Layout("<"), numpy=numpy_too), EVENTS, "<", cpu))
        assert set(parts[0]) == {5, 6}
        whole = concatenate([part[5] for part in parts])
        assert len(whole) == sum(len(part[5]) for part in parts)
        assert list(whole.times) == sorted(whole.times) and set(whole.cpus) == {0, 1, 2}
        where = {(int(time), int(cpu)): row for cpu, part in enumerate(parts) for time, row in zip(part[5].times, part[5]["large"])}
        assert all(where[int(time), int(cpu)] == value for time, cpu, value in zip(whole.times, whole.cpus, whole["large"]))
        assert [t for t, _, _ in take(whole, numpy.array([2, 0]) if numpy_too else [2, 0]).rows(("comm",))] == [
            whole.times[2],
            whole.times[0],
        ]
        assert set(whole.to_dict()) == {"time", "cpu", "small", "large", "comm", "args", "path", "raw", "uuid"}
    with pytest.raises(ValueError):
        concatenate([])


def test_the_schema_reads_the_same():
    schema = event_schema(EVENTS[5])
    row = dict(zip(schema.names(), schema.row(record(EVENTS[5], {"small": -3, "comm": "ls", "path": "/x"}))))
    assert row["small"] == -3 and row["comm"] == "ls" and row["path"] == "/x" and row["args"] == (0, 0, 0)


@pytest.mark.parametrize("numpy_too", (True, False))
def test_merge(numpy_too):
    rng = random.Random(3)
    streams = [sorted(rng.randrange(100) for _ in range(rng.randrange(60))) for _ in range(4)] + [[]]
    given = [numpy.array(stream, dtype="u8") for stream in streams] if numpy_too else streams
    numbers, index = merge(given, numpy=None if numpy_too else False)
    pairs = list(zip(map(int, numbers), map(int, index)))
    assert pairs == [(n, i) for _, n, i in sorted((time, n, i) for n, stream in enumerate(streams) for i, time in enumerate(stream))]
    assert list(map(list, merge([], numpy=False))) == [[], []]


def test_a_step_back_stays_behind_its_predecessor():
    for streams in ([[1, 9, 3, 10], [2, 4, 9]], [numpy.array([1, 9, 3, 10], dtype="u8"), numpy.array([2, 4, 9], dtype="u8")]):
        numbers, index = merge(streams)
        assert list(zip(numbers, index)) == [(0, 0), (1, 0), (1, 1), (0, 1), (0, 2), (1, 2), (0, 3)]
    lazy = merge_records([iter([(1, "a"), (9, "b"), (3, "c")]), iter([(2, "d"), (9, "e")])])
    assert list(lazy) == [(1, 0, "a"), (2, 1, "d"), (9, 0, "b"), (3, 0, "c"), (9, 1, "e")]
