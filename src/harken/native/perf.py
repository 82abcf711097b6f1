"""Records of ``perf.data`` in bulk (``perf.c``); ``formats.perf_data_columns`` and ``perf_data_batch`` have the same in Python."""

from __future__ import annotations

from mmap import mmap

from . import library
from .foreign import Pointer, Structure, Word, addressof
from .memory import address, numbers, room

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ("Walker", "by_value", "chains", "columns", "halves", "in_order", "order", "select", "words", "words_at")

#: Places of records are 32-bit numbers of words.
_MOST = 1 << 32


class _Walk(Structure):
    _fields_ = [(name, Word) for name in "words place end samples others sample_count other_count least".split()]


class Walker:
    """Walks over the records of a buffer.

    Args:
        data: the buffer; it must be kept.
        end: the part of it that is walked, in words.

    Attributes:
        samples: where samples are, in words.
        least: words of the shortest sample; 0 if there is none.

    Example:
        >>> import struct
        >>> walker = Walker.of(struct.pack("=IHHQIHHIHH", 9, 1, 16, 5, 68, 0, 8, 9, 0, 7), 4)
        >>> walker is None or (walker.go(0), walker.samples.tolist(), walker.others(), walker.least) == (3, [0], [2], 2)
        True
    """

    def __init__(self, native: Any, data: bytes | mmap, end: int) -> None:
        self._go = native.harken_perf_walk
        self._go.argtypes = (Pointer,)
        #: Places of samples from the start on, of others from the end on: large pages are expensive.
        self._data, self._places, self._end = data, room(4 * end), end
        self._done = 0
        self._walk = _Walk(address(data), 0, end, address(self._places), address(self._places) + 4 * end, 0, 0, _MOST)

    @classmethod
    def of(cls, data: Any, end: int) -> Walker | None:
        """A walker; None without the accelerator, or if the buffer is none that it walks over."""
        native = library()
        return (
            cls(native, data, end)
            if native is not None and isinstance(data, (bytes, mmap)) and 0 < end < _MOST and 8 * end <= len(data)
            else None
        )

    def go(self, place: int) -> int:
        """Walks from a place on; returns the place of the first record that needs a closer look, or the end."""
        self._walk.place = place
        self._go(addressof(self._walk))
        return int(self._walk.place)

    @property
    def samples(self) -> memoryview:
        return self._places[: 4 * self._walk.sample_count].cast("I")

    @property
    def least(self) -> int:
        return int(self._walk.least) if self._walk.least != _MOST else 0

    def others(self) -> list[int]:
        """Where the records are that are no samples, since the last question."""
        end, self._done = 4 * (self._end - self._done), self._walk.other_count
        return self._places[4 * (self._end - self._done) : end].cast("I").tolist()[::-1]


def words(data: bytes, places: memoryview, word: int) -> memoryview:
    """A word of every sample, which all must have, as 64-bit numbers."""
    return _column(data, places, word, "harken_perf_words", 8, "Q")


def halves(data: bytes, places: memoryview, half: int) -> memoryview:
    """The 32 bits at twice the place and ``half`` of every sample."""
    return _column(data, places, half, "harken_perf_halves", 4, "I")


def columns(data: bytes, places: memoryview, half: int, first: int, second: int) -> list[memoryview | None]:
    """``halves`` and ``words`` of two words at once; -1: none of these."""
    count = len(places)
    wide = [room(8 * count)[: 8 * count].cast("Q") if word >= 0 else None for word in (first, second)]
    found = [room(4 * count)[: 4 * count].cast("I") if half >= 0 else None, *wide]
    if count:
        into = [word for number, memory in zip((half, first, second), found) for word in (max(number, 0), address(memory) if memory else 0)]
        _function("harken_perf_columns", 9)(address(data), address(places), count, *into)
    return found


def chains(data: bytes, places: memoryview, word: int) -> tuple[memoryview, memoryview] | None:
    """Places and lengths of call chains, in words, whose length stands at a word of every sample; None if one does not fit."""
    call = _function("harken_perf_chains", 6)
    count = len(places)
    starts, lengths = room(4 * count), room(4 * count)
    if count and call(address(data), address(places), count, word, address(starts), address(lengths)) != count:
        return None
    return starts[: 4 * count].cast("I"), lengths[: 4 * count].cast("I")


def order(times: memoryview) -> memoryview:
    """Indexes of 64-bit numbers in ascending order; of equal ones the first comes first.

    >>> order(memoryview(bytearray(b"".join([time.to_bytes(8, "little") for time in (7, 5, 1 << 60, 5)]))).cast("Q")).tolist() \\
    ...     if library() else [1, 3, 0, 2]
    [1, 3, 0, 2]
    """
    count = len(times)
    found, spare = room(4 * count), room(4 * count)
    if count:
        _function("harken_perf_count", 2)(address(found), count)
        _function("harken_perf_order", 5)(address(times), 8, count, address(found), address(spare))
    return found[: 4 * count].cast("I")


def select(data: bytes, places: list[int], kinds: Iterable[int], others: bool, back: int, least: int) -> tuple[memoryview, memoryview]:
    """Records of some kinds: their places and times, as memory of 32-bit and 64-bit numbers.

    Args:
        places: where records are, in words.
        kinds: which ones, of those below 64.
        others: all of those from 64 on.
        back: how many words before its end a record's time stands; 0: they have none.
        least: words of the shortest record that has a time.
    """
    count = len(places)
    found, times = memoryview(bytearray(4 * count)), memoryview(bytearray(8 * count))
    used = 0
    if count:
        at, mask = numbers("I", places), sum([1 << kind for kind in kinds])
        call = _function("harken_perf_select", 9)
        used = call(address(data), address(at), count, mask, others, back, least, address(found), address(times))
    return found[: 4 * used].cast("I"), times[: 8 * used].cast("Q")


def in_order(places: memoryview, times: memoryview) -> tuple[memoryview, memoryview]:
    """32-bit numbers and 64-bit ones in the order of the latter; of equal ones the first comes first.

    >>> from .memory import numbers
    >>> [found.tolist() for found in in_order(numbers("I", [7, 8, 9]), numbers("Q", [5, 3, 3]))] if library() else [[8, 9, 7], [3, 3, 5]]
    [[8, 9, 7], [3, 3, 5]]
    """
    count = len(places)
    if not count:
        return places, times
    found = order(times)
    sorted_places = memoryview(bytearray(4 * count)).cast("I")
    _function("harken_perf_halves_at", 4)(address(places), address(found), count, address(sorted_places))
    return sorted_places, words_at(times, found)


def words_at(values: memoryview, indexes: memoryview) -> memoryview:
    """64-bit numbers at indexes, all of which must be there."""
    count = len(indexes)
    found = room(8 * count)
    if count:
        _function("harken_perf_words_at", 4)(address(values), address(indexes), count, address(found))
    return found[: 8 * count].cast("Q")


def by_value(values: memoryview, order: memoryview) -> tuple[memoryview, list[int]]:
    """Indexes of 32-bit numbers in ascending order, those of equal ones as they are in ``order``; and where each run of equals ends.

    Args:
        order: all indexes.
    """
    count = len(order)
    indexes, spare = room(4 * count), room(4 * count)
    if not count:
        return indexes[:0].cast("I"), []
    indexes[: 4 * count] = order.cast("B")
    _function("harken_perf_order", 5)(address(values), 4, count, address(indexes), address(spare))
    runs = _function("harken_perf_runs", 4)(address(values), address(indexes), count, address(spare))
    return indexes[: 4 * count].cast("I"), spare[: 4 * runs].cast("I").tolist()


def _column(data: bytes, places: memoryview, number: int, name: str, width: int, letter: Any) -> memoryview:
    count = len(places)
    found = room(width * count)
    if count:
        _function(name, 5)(address(data), address(places), count, number, address(found))
    return found[: width * count].cast(letter)


def _function(name: str, arguments: int) -> Any:
    """A function of the library that takes and gives places and numbers."""
    call = getattr(library(), name)
    call.argtypes = (Word,) * arguments
    call.restype = Word
    return call
