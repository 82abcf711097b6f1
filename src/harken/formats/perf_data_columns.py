"""The records of a recording in bulk: where each one starts, and fields of all samples as lists.

A record is a few words of eight bytes, the first of which tells its length.  ``walk`` goes from one to the next.  Samples without variable
fields are all of one size, and come in long runs: as soon as some records of one size have come in a row, the next ones are looked at
together, at that distance (each says that it has this size, so that the one behind it is where it is looked for).  Their fields are strided
slices, at a few nanoseconds each.

Recordings of the other byte order are turned word by word; which half of a word comes first goes by the recording's order.
"""

from __future__ import annotations

import sys
from array import array
from itertools import compress
from struct import Struct

from ..abi import perf_event as abi
from ..base.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("Walk", "words_of")

_STREAK, _BLOCK = 8, 64
#: Kinds of records with data behind them that their size does not count: (place of its length, format, what it is rounded to).
_TRACING_DATA, _AUXTRACE = 66, 71
_SAMPLE = abi.PERF_RECORD_SAMPLE


def words_of(data: Any, order: str) -> Any:
    """The words of eight bytes of a buffer, as numbers; bytes at the end that make no word are left out."""
    view = memoryview(data)
    view = view[: len(view) & ~7]
    if (order == "<") == (sys.byteorder == "little"):
        return view.cast("Q")
    turned = array("Q")
    turned.frombytes(view)
    turned.byteswap()
    return turned


class _Steps(dict[int, int]):
    """Words of a record by its first word."""

    def __init__(self, big: bool) -> None:
        super().__init__()
        self._big = big

    def __missing__(self, head: int) -> int:
        size = head & 0xFFFF if self._big else head >> 48
        if size < 8 or size & 7:
            raise ValueError(f"a record of {size} bytes")
        if (head >> 32 if self._big else head & 0xFFFFFFFF) in (_TRACING_DATA, _AUXTRACE):
            raise LookupError
        self[head] = step = size >> 3
        return step


class _Kinds(dict[int, bool]):
    """Whether a record is a sample, by its first word."""

    def __init__(self, big: bool) -> None:
        super().__init__()
        self._big = big

    def __missing__(self, head: int) -> bool:
        self[head] = found = (head >> 32 if self._big else head & 0xFFFFFFFF) == _SAMPLE
        return found


class Walk:
    """Where the records of a buffer start.

    Args:
        data: records; the last one may be cut off.
        order: their byte order.

    Attributes:
        words: of ``data``.
        samples: places of the samples, in words: ranges and lists, in the order of the buffer.
        others: places of all other records.
        end: the first byte behind the last whole record.
        problem: why it ended before the data did, "" if it did not.

    Example:
        >>> import struct
        >>> data = struct.pack("<IHHQ", 9, 1, 16, 5) * 100 + struct.pack("<IHH", 68, 0, 8) + b"123"
        >>> walk = Walk(data, "<")
        >>> walk.samples[1], walk.others, walk.end, walk.kind(200)
        (range(18, 146, 2), [200], 1608, 68)
        >>> sum(walk.column(1)) == 500
        True
    """

    def __init__(self, data: Any, order: str) -> None:
        self.data, self.order = data, order
        self.words = words_of(data, order)
        self.samples: list[range | list[int]] = []
        self.others: list[int] = []
        self.problem = ""
        self.big = order == ">"
        self._kinds = _Kinds(self.big)
        self._steps = _Steps(self.big)
        self._places: list[int] = []
        self._heads: list[int] = []
        place, end = 0, len(self.words)
        while True:
            try:
                place = self._go(place, end)
                break
            except LookupError:
                place = self._long(self._next(place))
            except ValueError as error:
                place = self._next(place)
                self.problem = str(error)
                break
        if place > end:  # cut off within a record
            place = self._places.pop()
            self._heads.pop()
        self._flush()
        self.end = 8 * place

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
        """One word of every sample; it must lie inside of them (``least``)."""
        words = self.words
        found: list[int] = []
        for group in self.samples:
            if type(group) is range:
                found += words[group.start + word : group.stop : group.step].tolist()
            else:
                found += [words[place + word] for place in group]
        return found

    def places(self) -> list[int]:
        """The places of all samples as one list."""
        found: list[int] = []
        for group in self.samples:
            found += group
        return found

    def least(self) -> int:
        """Words of the shortest sample; 0 if there is none."""
        return min([step for head, step in self._steps.items() if self._kinds[head]], default=0)

    def _go(self, place: int, end: int) -> int:
        """Walks from a place to the end; what it saw is in ``_places`` and ``_heads``."""
        words, steps = self.words, self._steps
        places, heads = self._places, self._heads
        add_place, add_head = places.append, heads.append
        last = streak = 0
        while place < end:
            head = words[place]
            step = steps[head]
            add_place(place)
            add_head(head)
            place += step
            if step != last:
                last, streak = step, 0
                continue
            streak += 1
            if streak < _STREAK:
                continue
            streak = 0
            alike = {known for known, length in steps.items() if length == step and self._kinds[known]}
            first, distance = place, step * _BLOCK
            while place + distance <= end and alike.issuperset(words[place : place + distance : step].tolist()):
                place += distance
            if place > first:
                self._flush()
                self.samples.append(range(first, place, step))
        return place

    def _next(self, start: int) -> int:
        """Where the walk stopped."""
        if self._places:
            return self._places[-1] + self._steps.get(self._heads[-1], 0)
        last = self.samples[-1] if self.samples else None
        return max(start, last.stop if type(last) is range else start)

    def _long(self, place: int) -> int:
        """Behind a record that is followed by data; its own size counts as well."""
        kind, size = self.kind(place), self.size(place)
        if size < 16:
            raise FormatError("perf record", f"a record of type {kind} has {size} bytes", 8 * place)
        if place + 1 >= len(self.words):
            length = 8
        elif kind == _TRACING_DATA:
            length = (Struct(self.order + "I").unpack_from(self.data, 8 * place + 8)[0] + 7) & ~7
        else:
            length = (self.words[place + 1] + 7) & ~7
        self._flush()
        self._places.append(place)
        self._heads.append(self.words[place])
        return int(place + (size + length) // 8)

    def _flush(self) -> None:
        """Sorts what was walked into samples and others."""
        places, heads = self._places, self._heads
        if places:
            kinds = list(map(self._kinds.__getitem__, heads))
            mine = list(compress(places, kinds))
            if mine:
                self.samples.append(mine)
            if len(mine) < len(places):
                self.others += [place for place, sample in zip(places, kinds) if not sample]
            places.clear()
            heads.clear()
