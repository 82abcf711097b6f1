"""The records of a recording in bulk: where each one starts, and fields of all samples as columns.

A record is a few words of eight bytes, the first of which tells its length.  ``Walk`` goes from one to the next, with the accelerator
(``native.perf``) where there is one.

Recordings of the other byte order are turned word by word; which half of a word comes first goes by the recording's order.
"""

from __future__ import annotations

import sys
from struct import Struct

from ..abi import perf_event as abi
from ..base.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from typing import Any

    from ..native.perf import Walker

__all__ = ("NATIVE_ORDER", "Walk", "words_of", "getter")

#: This machine's byte order.
NATIVE_ORDER = "<" if sys.byteorder == "little" else ">"
# tools/perf/lib/include/perf/event.h, enum perf_user_event_type
_FIRST_USER = 64
_FOREVER = (1 << 64) - 1
#: Kinds of records with data behind them that their size does not count.
_TRACING_DATA, _AUXTRACE = 66, 71
_SAMPLE = abi.PERF_RECORD_SAMPLE


def words_of(data: Any, order: str) -> Any:
    """The words of eight bytes of a buffer, as numbers; bytes at the end that make no word are left out."""
    view = memoryview(data)
    view = view[: len(view) & ~7]
    if order == NATIVE_ORDER:
        return view.cast("Q")
    from array import array

    turned = array("Q")
    turned.frombytes(view)
    turned.byteswap()
    return turned


class _Steps(dict[int, int]):
    """Words of a usual sample by its first word."""

    def __init__(self, big: bool) -> None:
        super().__init__()
        self._big = big

    def __missing__(self, head: int) -> int:
        size = head & 0xFFFF if self._big else head >> 48
        if (head >> 32 if self._big else head & 0xFFFFFFFF) != _SAMPLE or size < 8 or size & 7:
            raise KeyError(head)
        self[head] = step = size >> 3
        return step


class Walk:
    """Where the records of a buffer start.

    Args:
        data: records; the last one may be cut off.
        order: their byte order.
        start, end: the part of ``data`` that is walked, from a whole word on; places count from the start of ``data``.

    Attributes:
        words: of ``data``.
        samples: places of the samples, in words.
        others: places of all other records.
        end: the first byte behind the last whole record.
        problem: why it ended before the data did, "" if it did not.
        native: whether the accelerator gives columns (``array``, ``halves``).

    Example:
        >>> import struct
        >>> data = struct.pack("<IHHQ", 9, 1, 16, 5) * 100 + struct.pack("<IHH", 68, 0, 8) + b"123"
        >>> walk = Walk(data, "<")
        >>> list(walk.samples[1:3]), walk.others, walk.end, walk.kind(200)
        ([2, 4], [200], 1608, 68)
        >>> sum(walk.column(1)) == 500
        True
    """

    def __init__(self, data: bytes, order: str, start: int = 0, end: int | None = None) -> None:
        self.data, self.order = data, order
        self.words = words_of(data, order)
        self.others: list[int] = []
        self.problem = ""
        self._least = -1
        #: Columns that were taken before they are asked for: by word, those of halves by their negative number.
        self._columns: dict[int, memoryview] = {}
        self.big = order == ">"
        self._last = len(self.words) if end is None else min(end, len(data)) >> 3
        self._places: list[int] = []
        self._steps = _Steps(self.big)
        self._native = self._walker()
        self.native = self._native is not None
        self.end = 8 * self._go(start >> 3)
        self.samples: Any = self._places if self._native is None else self._native.samples

    def kind(self, place: int) -> int:
        """The type of the record at a place."""
        head = self.words[place]
        return int(head >> 32 if self.big else head & 0xFFFFFFFF)

    def misc(self, place: int) -> int:
        """Its ``misc`` bits."""
        return int(self.words[place] >> (16 if self.big else 32) & 0xFFFF)

    def size(self, place: int) -> int:
        """Its size in bytes."""
        head = self.words[place]
        return int(head & 0xFFFF if self.big else head >> 48)

    def column(self, word: int) -> list[int]:
        """One word of every sample.

        Raises:
            FormatError: there are shorter ones.
        """
        if self.native:
            return list(self.array(word))
        self._check(word)
        return list(getter(self.samples)(self.words[word:]))

    def half(self, word: int, second: bool) -> list[int]:
        """The first or the second half of a word of every sample."""
        if self.native:
            return list(self.halves(word, second))
        if second != self.big:
            return [value >> 32 for value in self.column(word)]
        return [value & 0xFFFFFFFF for value in self.column(word)]

    def array(self, word: int) -> memoryview:
        """``column`` as memory of 64-bit numbers; only if ``native``."""
        from ..native import perf

        self._check(word)
        known = self._columns.get(word)
        return known if known is not None else perf.words(self.data, self.samples, word)

    def halves(self, word: int, second: bool) -> memoryview:
        """``half`` as memory of 32-bit numbers; only if ``native``."""
        from ..native import perf

        self._check(word)
        known = self._columns.get(-2 * word - second)
        return known if known is not None else perf.halves(self.data, self.samples, 2 * word + second)

    def prepare(self, half: int, first: int, second: int) -> None:
        """Takes columns that will be asked for in one go: the first half of a word, and two others (-1: not these); only if ``native``."""
        from ..native import perf

        self._check(max(half, first, second))
        found = perf.columns(self.data, self.samples, 2 * half if half >= 0 else -1, first, second)
        self._columns = {key: memory for key, memory in zip((-2 * half, first, second), found) if memory is not None}

    def sizes(self) -> list[int]:
        """The size of every sample, in words."""
        return list(getter(self.column(0))(self._steps)) if self.samples else []

    def places(self) -> list[int]:
        """The places of all samples."""
        return list(self.samples)

    def least(self) -> int:
        """Words of the shortest sample; 0 if there is none."""
        if self._native is not None:
            return self._native.least
        if self._least < 0:
            self._least = min([self._steps[head] for head in set(getter(self.samples)(self.words))], default=0)
        return self._least

    def select(self, kinds: Collection[int], others: bool, back: int = 0, least: int = 0) -> tuple[Any, Any]:
        """The records that are no samples, of some kinds: their places and times, as memory of 32-bit and 64-bit numbers if ``native``.

        Args:
            kinds: which ones, of those that the kernel writes.
            others: all of those that perf itself writes.
            back: how many words before its end a record's time stands; 0: they have none.
            least: words of the shortest record that has a time.
        """
        if self.native:
            from ..native import perf

            return perf.select(self.data, self.others, kinds, others, back, least)
        words, big = self.words, self.big
        places, times = [], []
        for at in self.others:
            head = words[at]
            kind = head >> 32 if big else head & 0xFFFFFFFF
            if kind in kinds or (others and kind >= _FIRST_USER):
                size = (head & 0xFFFF if big else head >> 48) >> 3
                time = words[at + size - back] if back and size >= least else 0
                places.append(at)
                times.append(time if time != _FOREVER else 0)
        return places, times

    def numbers(self, letter: str, values: list[int]) -> Any:
        """Numbers as ``select`` gives them."""
        if not self.native:
            return values
        from ..native.memory import numbers

        return numbers(letter, values)

    # -- private

    def _check(self, word: int) -> None:
        least = self.least()
        if least <= word and len(self.samples):
            raise FormatError("perf record", f"a sample of {8 * least} bytes")

    def _walker(self) -> Walker | None:
        if self.order != NATIVE_ORDER:
            return None
        from ..native import library

        if library() is None:
            return None
        from ..native.perf import Walker

        return Walker.of(self.data, self._last)

    def _go(self, place: int) -> int:
        """Walks from a place to the end; returns where the last whole record ends."""
        last, usual = self._last, self._usual if self._native is None else self._native.go
        while True:
            place = usual(place)
            if self._native is not None:
                self.others += self._native.others()
            if place >= last:
                return place
            size, kind = self.size(place), self.kind(place)
            if size < 8 or size & 7:
                self.problem = f"a record of {size} bytes"
                return place
            step = self._long(kind, place, size) if kind in (_TRACING_DATA, _AUXTRACE) else size >> 3
            if step > last - place:  # cut off
                return place
            self.others.append(place)
            place += step

    def _usual(self, place: int) -> int:
        """Behind the whole samples from a place on."""
        words, steps, end, add = self.words, self._steps, self._last, self._places.append
        try:
            while place < end:
                after = place + steps[words[place]]
                if after > end:
                    break
                add(place)
                place = after
        except KeyError:
            pass
        return place

    def _long(self, kind: int, place: int, size: int) -> int:
        """Words of a record that is followed by data."""
        if size < 16:
            raise FormatError("perf record", f"a record of type {kind} has {size} bytes", 8 * place)
        if place + 1 >= self._last:
            length = 8
        elif kind == _TRACING_DATA:
            length = (Struct(self.order + "I").unpack_from(self.data, 8 * place + 8)[0] + 7) & ~7
        else:
            length = (self.words[place + 1] + 7) & ~7
        return int(size + length) // 8


def getter(keys: Sequence[Any]) -> Callable[[Any], Sequence[Any]]:
    """Takes what stands under each of the keys or indexes out of a container: a third of the time of asking one by one.

    Example:
        >>> getter([2, 0])("abc"), getter([1])("abc"), getter([])("abc")
        (('c', 'a'), ('b',), ())
    """
    if len(keys) > 1:
        from operator import itemgetter

        return itemgetter(*keys)
    return lambda container: tuple([container[key] for key in keys])
