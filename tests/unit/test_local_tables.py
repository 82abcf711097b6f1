"""Maps that lie in harken count as the programs' maps do."""

from __future__ import annotations

import pytest

from harken.analysis.aggregate import Stats
from harken.base.schema import Field, Schema
from harken.compiler.unit import Table
from harken.session.local_tables import LocalTable, bucket_of

KEY = Schema("key", 8, (Field("key", 0, "q"),))
PAIR = Schema("value", 16, (Field("value", 0, "q"), Field("count", 8, "Q")))


def table(kind: str, value: Schema = PAIR, params: tuple[int, ...] = ()) -> LocalTable:
    return LocalTable(Table("@", "", kind, KEY, value, False, params))


@pytest.mark.parametrize(
    "kind, expected",
    [
        ("count", 4),
        ("sum", -6),
        ("min", -9),
        ("max", 4),
        ("avg", Stats(4, -1, -6)),
        ("stats", Stats(4, -1, -6)),
    ],
)
def test_kinds(kind: str, expected: object) -> None:
    made = table(kind, Schema("value", 8, (Field("value", 0, "q"),)) if kind in ("count", "sum") else PAIR)
    for value in (-9, -2, 1, 4):
        assert made.add((7,), 1 if kind == "count" else value, 1)
    assert made.rows() == [((7,), expected)]
    assert not made.add((8,), 1, 1)
    made.zero()
    assert [key for key, _ in made.rows()] == [(7,)]
    made.clear()
    assert made.rows() == []


def test_plain_values_wrap_as_in_the_program() -> None:
    made = table("value", Schema("value", 4, (Field("value", 0, "i"),)))
    for _ in range(3):
        made.add((1,), 0x7FFFFFFF, 9)
    assert made.rows() == [((1,), (0x7FFFFFFD,))]


@pytest.mark.parametrize("bits", range(6))
def test_buckets_of_powers(bits: int) -> None:
    """Every value lies in the bucket that the histogram shows for it."""
    from harken.analysis.histogram import Histogram

    count = ((65 - bits) << bits) + 1
    for value in (-5, 0, 1, 2, 3, 7, 8, 9, 31, 32, 33, 1000, 12345, (1 << 40) + 5):
        counts = [0] * count
        counts[bucket_of("hist", (bits,) if bits else (), value, count)] = 1
        ((low, high, _),) = [(b.low, b.high, b.count) for b in Histogram.log2(counts, bits).buckets if b.count]
        assert (low is None or low <= value) and (high is None or value < high), (value, low, high)
