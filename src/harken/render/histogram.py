"""Histograms as text and JSON, in bpftrace's layout.

Example:
    >>> from harken.analysis.histogram import Histogram
    >>> print("\\n".join(histogram_lines(Histogram.log2((0, 0, 1, 2)))))
    [1]                    1 |@@@@@@@@@@@@@@@@@@@@@@@@@@                          |
    [2, 4)                 2 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|
    >>> histogram_json(Histogram.log2((1, 1)))
    '[{"max": -1, "count": 1},{"min": 0, "max": 0, "count": 1}]'
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..analysis.histogram import Bucket, Histogram

__all__ = ("BAR", "histogram_lines", "histogram_json")

#: Width of the bars in characters.
BAR = 52
_SUFFIXES = ("", "K", "M", "G", "T", "P", "E")


def histogram_lines(histogram: Histogram) -> list[str]:
    """One line per bucket: label, count, bar."""
    most = max([bucket.count for bucket in histogram.buckets], default=0)
    label = _log2_label if histogram.kind == "log2" else _linear_label
    lines = []
    for bucket in histogram.buckets:
        bar = "@" * (bucket.count * BAR // most if most else 0)
        lines.append(f"{label(bucket, histogram.bits):<16}{bucket.count:>8} |{bar:<{BAR}}|")
    return lines


def histogram_json(histogram: Histogram) -> str:
    """A list of buckets with inclusive bounds; a missing bound is left out."""
    parts = []
    for bucket in histogram.buckets:
        low = "" if bucket.low is None else f'"min": {bucket.low}, '
        high = "" if bucket.high is None else f'"max": {bucket.high - 1}, '
        parts.append(f'{{{low}{high}"count": {bucket.count}}}')
    return f"[{','.join(parts)}]"


def _log2_label(bucket: Bucket, bits: int) -> str:
    low, high = bucket.low, bucket.high
    if low is None or high is None:
        return "(..., 0)"
    if high - low == 1:
        return f"[{low}]"
    return f"[{_power(low, bits)}, {_power(high, bits)})"


def _power(bound: int, bits: int) -> str:
    """A bound with a suffix for each whole 2**10 of its unit (the width of one part), so that it never needs a fraction."""
    decade = max(0, bound.bit_length() - 1 - bits) // 10
    return f"{bound >> 10 * decade}{_SUFFIXES[decade]}"


def _linear_label(bucket: Bucket, _bits: int) -> str:
    low = "(..." if bucket.low is None else f"[{_round(bucket.low)}"
    high = "...)" if bucket.high is None else f"{_round(bucket.high)})"
    return f"{low}, {high}"


def _round(bound: int) -> str:
    """A bound with the largest suffix that divides it."""
    suffix = 0
    while bound and not bound % 1024 and suffix < len(_SUFFIXES) - 1:
        bound //= 1024
        suffix += 1
    return f"{bound}{_SUFFIXES[suffix]}"
