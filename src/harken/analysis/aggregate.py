"""Aggregations: from the raw values of a map, one per CPU, to one Python value.

=============  ===========================================  ==========================
kind           bytes per CPU                                result
=============  ===========================================  ==========================
count, sum     one integer                                  int
min, max       value, then 1 once a value was seen          int (0 if none was seen)
avg            total, count                                 ``Stats``
stats          total, count                                 ``Stats``
hist, lhist    one count per bucket                         ``Histogram``
=============  ===========================================  ==========================

All numbers are 64 bits wide in native byte order.  Totals of different CPUs are added modulo 2**64, as the kernel would.

Example:
    >>> import struct
    >>> reducer("count", signed=False, cpus=2)(struct.pack("=QQ", 3, 4))
    7
    >>> reducer("avg", signed=True, cpus=2)(struct.pack("=qQqQ", -7, 2, 0, 0))
    Stats(count=2, average=-3, total=-7)
"""

from __future__ import annotations

import struct

from ..base.record import Record
from .histogram import Histogram

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ("Stats", "reducer", "rank", "divide", "quotient")


class Stats(Record):
    """What ``stats()`` and ``avg()`` keep; ``average`` is rounded towards zero."""

    count: int
    average: int
    total: int


def quotient(number: int, divisor: int) -> int:
    """Division rounded towards zero, as C does.

    >>> quotient(-7, 2), quotient(7, 2), quotient(5, 0)
    (-3, 3, 0)
    """
    if not divisor:
        return 0
    result = abs(number) // abs(divisor)
    return -result if (number < 0) != (divisor < 0) else result


def reducer(kind: str, signed: bool, cpus: int, params: tuple[int, ...] = ()) -> Callable[[bytes], Any]:
    """A function from the bytes of a map's value (``cpus`` copies, each a multiple of 8 bytes) to the result.

    Args:
        kind: an aggregation of the table above.
        signed: whether values (not counts) are signed.
        cpus: how many copies a lookup returns; 1 for maps that are not per CPU.
        params: ``(bits,)`` for hist, ``(min, max, step)`` for lhist.
    """
    if kind in ("count", "sum"):
        numbers = struct.Struct(f"={cpus}{'q' if signed and kind == 'sum' else 'Q'}")
        return lambda raw: _wrap(sum(numbers.unpack(raw)), signed and kind == "sum")
    if kind in ("min", "max"):
        pairs = struct.Struct("=" + ("qQ" if signed else "QQ") * cpus)
        choose = min if kind == "min" else max

        def extreme(raw: bytes) -> int:
            found = pairs.unpack(raw)
            return choose([value for value, seen in zip(found[::2], found[1::2]) if seen], default=0)

        return extreme
    if kind in ("avg", "stats"):
        pairs = struct.Struct("=" + ("qQ" if signed else "QQ") * cpus)

        def stats(raw: bytes) -> Stats:
            found = pairs.unpack(raw)
            total, count = _wrap(sum(found[::2]), signed), sum(found[1::2])
            return Stats(count, quotient(total, count), total)

        return stats
    if kind in ("hist", "lhist"):

        def histogram(raw: bytes) -> Histogram:
            size = len(raw) // (8 * cpus)
            counts = struct.unpack_from(f"={size * cpus}Q", raw)
            merged = counts if cpus == 1 else [sum(counts[bucket::size]) for bucket in range(size)]
            if kind == "hist":
                return Histogram.log2(merged, params[0] if params else 0)
            return Histogram.linear(merged, *params[:3])

        return histogram
    raise ValueError(f"unknown aggregation {kind!r}")


def _wrap(number: int, signed: bool) -> int:
    number &= 0xFFFFFFFFFFFFFFFF
    return number - (1 << 64) if signed and number >> 63 else number


def rank(value: Any) -> Any:
    """What maps are ordered by when they are printed: numbers by value, averages by average, histograms by total count.

    None for values that have no order of their own (strings, tuples): those maps are ordered by key.
    """
    if isinstance(value, tuple) and len(value) == 1:
        value = value[0]
    if isinstance(value, Stats):
        return value.average
    if isinstance(value, Histogram):
        return value.total
    return value if isinstance(value, int) else None


def divide(value: Any, divisor: int) -> Any:
    """``print(@m, top, divisor)``: the value divided; what cannot be divided is left as it is."""
    if divisor in (0, 1):
        return value
    if isinstance(value, Stats):
        return value.replace(average=quotient(value.average, divisor), total=quotient(value.total, divisor))
    if isinstance(value, Histogram):
        return value.divided(divisor)
    if isinstance(value, int) and not isinstance(value, bool):
        return quotient(value, divisor)
    return value
