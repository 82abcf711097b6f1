"""Records of a recording in order of time: samples as columns, everything else as objects with the number of samples before it.

Columns are lists of integers or memory of them (``numpy.array`` takes both; to import it takes as long as naming 100,000 samples).
To sort a column takes as long as to read it.  Who needs no order meanwhile takes columns as they are recorded (``recorded=True``) and sorts
what comes out of them (``sorted``).
Which event a sample belongs to is told by its identifier; samples of events with different fields are in one batch.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate, groupby
from struct import error, pack

from ..abi import perf_event as abi
from ..base.errors import FormatError
from .perf_data_columns import getter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from .perf_data_columns import Walk
    from .perf_data_layout import SampleLayout
    from .perf_data_records import Other, Sample

__all__ = ("Batch",)

#: Times from here on (behind the year 2554) are no ascending numbers when their bits are taken for those of floating-point numbers.
_NO_NUMBERS = 0x7FF0_0000_0000_0000


class Batch:
    """Samples in order of time, as columns, and what happened between them.

    Attributes:
        data, words: the bytes of the records, and the same as words.
        places: of the samples, in words.
        times: of the samples; empty if they have none.
        events_between: (moment, record) of records that are no samples, in order.  Moments are numbers in the order of times that are quick
            to compare; without times, a sample's is its number, and a record's that of the next sample.
        others: (number of samples before it, record) of the same.
        layouts: the layouts of the samples; one if they all have the same.
    """

    def __init__(self, walk: Walk, layouts: Sequence[SampleLayout], layout_of: Sequence[int], by_id: dict[int, int]) -> None:
        """
        Args:
            walk: the records.
            layouts: the different layouts.
            layout_of: the number of its layout for every event.
            by_id: the number of its event for every identifier of records.

        Raises:
            FormatError: samples are shorter than their fields.
        """
        self.walk, self.data, self.words = walk, walk.data, walk.words
        self.layouts, self._layout_of, self._by_id = tuple(layouts), tuple(layout_of), by_id
        #: Places and times of the other records, in order, and what makes a value of one.
        self._other_places: Sequence[int] = ()
        self._other_times: Sequence[int] = ()
        self._decode: Callable[[int], Other | None] = lambda _: None
        self._between: list[tuple[Any, Other]] | None = None
        self._times: list[int] | None = None
        self._floats = not walk.native
        self._moments: Any = []
        self._order: Any = None
        self._places: list[int] | None = None
        self._kept: Callable[[Any], Any] | None = None
        self._count = len(walk.samples)
        self._check()
        if self.native:
            fixed = self.layouts[0].fixed
            self.walk.prepare(fixed.get("tid", -1), fixed.get("time", -1), -1 if self.samples("callchain") else fixed.get("ip", -1))
        self._sort()

    def __len__(self) -> int:
        return self._count

    @property
    def times(self) -> list[int]:
        if self._times is None:
            self._times = (self.column("time") or []) if self._order is not None else []
        return self._times

    def put_others(self, places: Any, times: Any, decode: Callable[[int], Other | None]) -> None:
        """The records that are no samples: places and times as they are recorded (memory of numbers if the walk is ``native``).

        Args:
            decode: gives the record at a place, None if it is damaged.
        """
        self._decode, self._between = decode, None
        if self.walk.native:
            from ..native import perf

            self._other_places, self._other_times = perf.in_order(places, times)
        else:
            order = sorted(range(len(places)), key=times.__getitem__)
            self._other_places, self._other_times = [places[index] for index in order], [times[index] for index in order]

    @property
    def other_count(self) -> int:
        """How many records there are that are no samples."""
        return len(self._other_places)

    @property
    def events_between(self) -> list[tuple[Any, Other]]:
        """(moment, record) of records that are no samples, in order; damaged ones are told and left out."""
        if self._between is None:
            records = [self._decode(place) for place in self._other_places]
            self._between = [(moment, record) for moment, record in zip(self._other_moments(), records) if record is not None]
        return self._between

    def other(self, index: int) -> Other | None:
        """A record that is no sample; None if it is damaged."""
        return self._decode(self._other_places[index])

    def recorded_others(self) -> tuple[Any, Any]:
        """Places and moments of the other records, in order, as memory of 32-bit and 64-bit numbers; only if ``native``."""
        moments = self._other_moments()
        return self._other_places, moments if type(moments) is memoryview else _memory("Q", moments)

    def _other_moments(self) -> Sequence[Any]:
        return self.moments_of(self._other_times) if self.timed else [self.before(place) for place in self._other_places]

    @property
    def others(self) -> list[tuple[int, Other]]:
        if self._order is None:
            return self.events_between
        moments = self.sorted(self._moments)
        return [(bisect_left(moments, moment), event) for moment, event in self.events_between]

    @property
    def places(self) -> list[int]:
        if self._places is None:
            self._places = self.sorted(self._recorded_places())
        return self._places

    def events(self) -> list[int]:
        """The number of its event (``PerfData.events``) for every sample."""
        return self._events_at(self.places)

    def column(self, name: str, recorded: bool = False) -> list[int] | None:
        """One field of every sample: "pid", "tid" or the name of a word (``SampleLayout.fixed``); None if no event samples it.

        Samples of an event without it have 0.

        Args:
            recorded: in the order of the recording instead of that of time.
        """
        values = self._words("tid" if name == "pid" else name, None if name not in ("pid", "tid", "cpu") else name == "tid")
        return values if values is None or recorded else self.sorted(values)

    @property
    def native(self) -> bool:
        """Whether the accelerator can take what it needs from here: samples of one layout."""
        return self.walk.native and len(self.layouts) == 1

    def samples(self, name: str) -> bool:
        """Whether an event samples a word (``SampleLayout.fixed``), or "callchain"."""
        if name == "callchain":
            return any([layout.sample_type & abi.PERF_SAMPLE_CALLCHAIN for layout in self.layouts])
        return any([name in layout.fixed for layout in self.layouts])

    def recorded_order(self) -> Any:
        """The indexes of samples as they are recorded, in order of time; None if that is the same."""
        return self._order

    def recorded_array(self, name: str) -> Any:
        """``column`` as memory of 64-bit numbers in the order of the recording, "pid" and "tid" of 32-bit ones; only if ``native``."""
        word = self.layouts[0].fixed["tid" if name == "pid" else name]
        found = self.walk.halves(word, name == "tid") if name in ("pid", "tid") else self.walk.array(word)
        return found if self._kept is None else _memory(found.format, self._still(found))

    def recorded_chains(self) -> tuple[memoryview, memoryview] | None:
        """Where the words of the call chains are, and how many, in the order of the recording; only if ``native``.

        None: their places are not all alike, or one is damaged (``chains`` says so).
        """
        from ..native import perf

        chain = self.layouts[0].chain
        found = perf.chains(self.data, self.walk.samples, chain) if chain >= 0 else None
        if found is None or self._kept is None:
            return found
        return _memory("I", self._still(found[0])), _memory("I", self._still(found[1]))

    def by_process(self) -> tuple[Sequence[int], Sequence[Any], list[tuple[int, int, int]]]:
        """Samples by process and then by time: their indexes as they are recorded, their moments, and (process, first, behind the last).

        Samples without a process belong to -1.  If samples have no time, their moments are their numbers.
        """
        order = self._order if self._order is not None else range(self._count)
        if not self.samples("tid"):
            return order, order if self._order is None else self.sorted(self._moments), [(-1, 0, self._count)][: self._count]
        pids = self._words("tid", False)
        assert pids is not None
        indexes = sorted(order, key=pids.__getitem__)
        ends = list(accumulate([len(list(group)) for _, group in groupby(map(pids.__getitem__, indexes))]))
        moments = getter(indexes)(self._moments) if self.timed else indexes
        starts = [0, *ends[:-1]] if ends else []
        return indexes, moments, list(zip([pids[indexes[start]] for start in starts], starts, ends))

    def recorded_by_process(self) -> tuple[Any, Any, Any, Any]:
        """``by_process`` as memory: indexes (32 bits); times (64; None: there are none) and processes (32; None: not known) of the samples
        as they are recorded; and where those of each process end in the indexes (32); only if ``native``.
        """
        from ..native import perf

        order = self._order if type(self._order) is memoryview else _memory("I", self._order or range(self._count))
        if self.samples("tid"):
            pids = self.recorded_array("pid")
            indexes, ends = perf.by_value(pids, order)
        else:
            pids, indexes, ends = None, order, [self._count][: self._count]
        times = None
        if self.timed:
            times = self._moments if type(self._moments) is memoryview else _memory("Q", self._moments)
        return indexes, times, pids, _memory("I", ends)

    def moments_of(self, times: Sequence[int]) -> Sequence[Any]:
        """Times as moments."""
        if not self._floats:
            return times
        # a sample's time is always less than that
        return memoryview(pack(f"={len(times)}Q", *[min(time, _NO_NUMBERS) for time in times])).cast("d").tolist()

    def sorted(self, values: list[Any]) -> list[Any]:
        """Brings a value of every sample from the order of the recording into that of time."""
        return values if self._order is None else list(getter(self._order)(values))

    def sorted_blocks(self, values: list[Any], size: int) -> Iterator[tuple[int, Sequence[Any]]]:
        """``sorted`` in parts: (number of the first one, values)."""
        order = self._order
        for place in range(0, self._count, size):
            yield place, values[place : place + size] if order is None else getter(order[place : place + size])(values)

    def chains(self, recorded: bool = False) -> list[bytes] | None:
        """The call chain of every sample, as words of this machine's order with the kernel's markers; None if no event samples them.

        Equal chains are equal keys: what is done for one need not be done again.

        Args:
            recorded: in the order of the recording instead of that of time.

        Raises:
            FormatError: a chain does not fit into its record.
        """
        if not self.samples("callchain"):
            return None
        from operator import sub

        words, walk = self.words, self.walk
        keys: list[bytes] = []
        if len(self.layouts) == 1 and self.layouts[0].chain >= 0:
            chain = self.layouts[0].chain
            places, counts = self._recorded_places(), self._still(walk.column(chain))
            if max(map(sub, counts, self._still(walk.sizes())), default=-chain - 1) >= -chain:
                raise FormatError("perf record", "a call chain does not fit into its sample")
            if type(words) is memoryview:
                data, first = self.data, 8 * chain + 8
                keys = [data[8 * place + first : 8 * (place + count) + first] for place, count in zip(places, counts)]
            else:
                keys = [words[place + chain + 1 : place + chain + 1 + count].tobytes() for place, count in zip(places, counts)]
        else:
            places = self._recorded_places()
            for place, event in zip(places, self._events_at(places)):
                first, length = self._sections(place, self._layout(event)).get("callchain", (0, 0))
                # what stands before a chain may be of any length only in records of a group, of whole words
                keys.append(words[first // 8 : (first + length) // 8].tobytes())
        return keys if recorded else self.sorted(keys)

    def sample(self, number: int) -> Sample:
        """One sample as an object.

        Raises:
            FormatError: it is damaged.
        """
        place = self.places[number]
        layout = self._layout(self._events_at([place])[0])
        found = layout.decode(memoryview(self.data), 8 * place, self.walk.size(place))
        assert found is not None
        return found  # type: ignore[return-value]

    def cut(self, limit: int) -> list[int]:
        """Leaves only samples up to a time in the batch; returns the places of the others, as they are in the buffer."""
        order = self._order
        if order is None:
            return []
        count = bisect_right(self.times, limit)
        if count == self._count:
            return []
        everything = self.walk.places()
        rest = sorted([everything[index] for index in order[count:]])
        del self.times[count:]
        kept = sorted(order[:count])
        numbers = dict(zip(kept, range(count)))
        self._order = [numbers[index] for index in order[:count]]
        self._count, self._places, self._kept = count, None, getter(kept)
        self._moments = self._still(self._moments)
        return rest

    @property
    def timed(self) -> bool:
        """Whether samples have a time."""
        return self._order is not None

    def newest(self, end: int) -> int:
        """The newest time of the samples before a place in the buffer; 0 if there are none."""
        if self._order is None:
            return 0
        places = self.walk.places()
        return max([time for time, index in zip(self.times, self._order) if places[index] < end], default=0)

    def before(self, place: int) -> int:
        """How many samples stand before a place in the buffer."""
        return bisect_left(self.walk.places(), place)

    # -- private

    def _check(self) -> None:
        """Refuses samples that are shorter than their fixed fields."""
        least = self.walk.least()
        if self._count and least < min([layout.size for layout in self.layouts]):
            raise FormatError("perf record", f"a sample of {8 * least} bytes")
        if self._count and len(self.layouts) > 1:
            places = self.walk.places()
            for place, event in zip(places, self._events_at(places)):
                if self.walk.size(place) < 8 * self._layout(event).size:
                    raise FormatError("perf record", f"a sample of {self.walk.size(place)} bytes", 8 * place)

    def _layout(self, event: int) -> SampleLayout:
        return self.layouts[self._layout_of[event]]

    def _events_at(self, places: list[int]) -> list[int]:
        words, by_id, at = self.words, self._by_id, self.layouts[0].id_place
        if at < 0 or len(self._layout_of) == 1:
            return [0] * len(places)
        return [by_id.get(words[place + at], 0) for place in places]

    def _sections(self, place: int, layout: SampleLayout) -> dict[str, tuple[int, int]]:
        try:
            return layout.sections(self.data, 8 * place, self.walk.size(place))
        except (ValueError, IndexError, error) as problem:
            raise FormatError("perf record", f"a sample is damaged ({problem})", 8 * place) from None

    def _words(self, name: str, second: bool | None = None) -> list[int] | None:
        """A word of every sample as they are recorded, or its first or second half; None if no event samples it."""
        if not self.samples(name):
            return None
        if len(self.layouts) == 1:
            word = self.layouts[0].fixed[name]
            values: list[int] = self._still(self.walk.column(word) if second is None else self.walk.half(word, second))
            return values
        words, places = self.words, self._recorded_places()
        offsets = [self.layouts[number].fixed.get(name, -1) for number in self._layout_of]
        values = [words[place + offsets[at]] if offsets[at] >= 0 else 0 for place, at in zip(places, self._events_at(places))]
        if second is None:
            return values
        return [value >> 32 for value in values] if second != self.walk.big else [value & 0xFFFFFFFF for value in values]

    def _recorded_places(self) -> Any:
        return self._still(self.walk.samples)

    def _still(self, values: Any) -> Any:
        """Without the samples that ``cut`` has taken out."""
        return values if self._kept is None else list(self._kept(values))

    def _sort(self) -> None:
        """Brings the samples into order of time; of equal times, the first in the recording stays the first."""
        if not all(["time" in layout.fixed for layout in self.layouts]):
            return
        if self.native:
            from ..native import perf

            self._moments = self.recorded_array("time")
            self._order = perf.order(self._moments)
            return
        times = self._words("time")
        assert times is not None
        self._floats = self._floats and max(times, default=0) < _NO_NUMBERS
        moments = self.moments_of(times)
        self._order, self._moments = sorted(range(len(moments)), key=moments.__getitem__), moments


def _memory(letter: str, values: Any) -> memoryview:
    from ..native.memory import numbers

    return numbers(letter, values)
