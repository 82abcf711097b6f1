"""Histograms: what the numbers of a bucket array mean.

``hist()`` counts powers of two; with ``bits`` > 0 each power is cut into ``2**bits`` equal parts, so that the error stays below
``1 / 2**bits``.  ``lhist()`` counts equal steps between two bounds.  The bucket arrays are filled by programs in the kernel; here
they become values that know their bounds.

Layout of a ``hist`` array: bucket 0 counts negative values; then come ``(65 - bits) << bits`` buckets: value v < 2**bits has
bucket ``v + 1``; others are found by their highest bit and the ``bits`` bits below it.  Layout of an ``lhist`` array: bucket 0
counts values below ``min``, the last one values of ``max`` and more.

Example:
    >>> h = Histogram.log2((0, 1, 0, 2, 0))
    >>> [(b.low, b.high, b.count) for b in h.buckets]
    [(0, 1, 1), (1, 2, 0), (2, 4, 2)]
    >>> h.total, h.percentile(50)
    (3, 4)
    >>> [(b.low, b.high, b.count) for b in Histogram.linear((1, 0, 2, 0), 0, 10, 5).buckets]
    [(None, 0, 1), (0, 5, 0), (5, 10, 2)]
"""

from __future__ import annotations

from ..base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ("Bucket", "Histogram", "log2_index", "log2_bounds", "log2_size", "linear_size")


class Bucket(Record):
    """Values v with ``low <= v < high``; ``low`` None means no lower, ``high`` None no upper bound."""

    low: int | None
    high: int | None
    count: int


class Histogram(Record):
    """A histogram as a value.

    ``buckets`` run from the first to the last bucket that counted something, those between included.  ``kind`` is "log2" or
    "linear"; ``bits`` is the resolution of a log2 histogram.
    """

    kind: str
    buckets: tuple[Bucket, ...]
    bits: int = 0

    @property
    def total(self) -> int:
        """How many values were counted."""
        return sum(bucket.count for bucket in self.buckets)

    def __iter__(self) -> Iterator[Bucket]:
        return iter(self.buckets)

    def __len__(self) -> int:
        return len(self.buckets)

    def divided(self, divisor: int) -> Histogram:
        """The same with every count divided (rounded down): ``print(@h, 0, divisor)``."""
        return self.replace(buckets=tuple([b.replace(count=b.count // divisor) for b in self.buckets]))

    def percentile(self, percent: float) -> int | None:
        """The exclusive upper bound of the bucket where ``percent`` of all values are reached (its lower bound if it has no upper)."""
        left = self.total * percent / 100
        for bucket in self.buckets:
            left -= bucket.count
            if bucket.count and left <= 0:
                return bucket.low if bucket.high is None else bucket.high
        return None

    @staticmethod
    def log2(counts: Sequence[int], bits: int = 0) -> Histogram:
        """From the bucket array of ``hist()``."""
        buckets = []
        for index in _used(counts):
            low, high = log2_bounds(index, bits)
            buckets.append(Bucket(low, high, counts[index]))
        return Histogram("log2", tuple(buckets), bits)

    @staticmethod
    def linear(counts: Sequence[int], minimum: int, maximum: int, step: int) -> Histogram:
        """From the bucket array of ``lhist()``."""
        buckets, last = [], len(counts) - 1
        for index in _used(counts):
            if index == 0:
                buckets.append(Bucket(None, minimum, counts[0]))
            elif index == last:
                buckets.append(Bucket(maximum, None, counts[last]))
            else:
                low = minimum + (index - 1) * step
                buckets.append(Bucket(low, low + step, counts[index]))
        return Histogram("linear", tuple(buckets))


def _used(counts: Sequence[int]) -> range:
    """The indices from the first to the last bucket that is not empty."""
    first, last = 0, len(counts) - 1
    while first <= last and not counts[first]:
        first += 1
    while last >= first and not counts[last]:
        last -= 1
    return range(first, last + 1)


def log2_size(bits: int = 0) -> int:
    """How many buckets a ``hist()`` array has.

    >>> log2_size(), log2_size(5)
    (66, 1921)
    """
    return ((65 - bits) << bits) + 1


def linear_size(minimum: int, maximum: int, step: int) -> int:
    """How many buckets an ``lhist()`` array has (a last step that does not fit counts as one)."""
    return -(-(maximum - minimum) // step) + 2


def log2_index(value: int, bits: int = 0) -> int:
    """The bucket of a signed 64-bit value.

    >>> [log2_index(v) for v in (-1, 0, 1, 2, 3, 4, 1024)]
    [0, 1, 2, 3, 3, 4, 12]
    """
    if value < 0:
        return 0
    if value < 1 << bits:
        return value + 1
    power = value.bit_length() - 1 - bits
    return ((power + 1) << bits) + ((value >> power) & ((1 << bits) - 1)) + 1


def log2_bounds(index: int, bits: int = 0) -> tuple[int | None, int]:
    """Lower (inclusive) and upper (exclusive) bound of a bucket of a ``hist()`` array.

    >>> log2_bounds(0), log2_bounds(1), log2_bounds(12), log2_bounds(log2_index(1100, 2), 2)
    ((None, 0), (0, 1), (1024, 2048), (1024, 1280))
    """
    if index == 0:
        return None, 0
    index -= 1
    parts = 1 << bits
    if index < parts:
        return index, index + 1
    power = (index >> bits) - 1
    low = (parts + (index & (parts - 1))) << power
    return low, low + (1 << power)
