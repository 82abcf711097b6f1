"""Records of a recording in order of time: samples as columns, everything else as objects with the number of samples before it.

Lists of integers serve better here than numpy, whose import alone takes as long as naming 100,000 samples; ``numpy.array`` takes them.
Which event a sample belongs to is told by its identifier; samples of events with different fields are in one batch.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from struct import error

from ..abi import perf_event as abi
from ..base.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .perf_data_columns import Walk
    from .perf_data_layout import SampleLayout
    from .perf_data_records import Other, Sample

__all__ = ("Batch",)


class Batch:
    """Samples in order of time, as columns, and what happened between them.

    Attributes:
        data, words: the bytes of the records, and the same as words.
        places: of the samples, in words.
        times: of the samples; empty if they have none.
        others: (number of samples before it, record) of records that are no samples, in order.
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
        self.others: list[tuple[int, Other]] = []
        self.times: list[int] = []
        self._order: list[int] | None = None
        self._places: list[int] | None = None
        self._count = sum([len(group) for group in walk.samples])
        self._check()
        self._sort()

    def __len__(self) -> int:
        return self._count

    @property
    def places(self) -> list[int]:
        if self._places is None:
            self._places = self._sorted(self.walk.places())
        return self._places

    def events(self) -> list[int]:
        """The number of its event (``PerfData.events``) for every sample."""
        return self._events_at(self.places)

    def column(self, name: str) -> list[int] | None:
        """One field of every sample: "pid", "tid" or the name of a word (``SampleLayout.fixed``); None if no event samples it.

        Samples of an event without it have 0.
        """
        word, shift = (name, -1) if name not in ("pid", "tid", "cpu") else ("cpu" if name == "cpu" else "tid", name == "tid")
        if not any([word in layout.fixed for layout in self.layouts]):
            return None
        if len(self.layouts) == 1:
            values = self._sorted(self.walk.column(self.layouts[0].fixed[word]))
        else:
            words = self.words
            offsets = [self.layouts[number].fixed.get(word, -1) for number in self._layout_of]
            values = [words[place + offsets[at]] if offsets[at] >= 0 else 0 for place, at in zip(self.places, self.events())]
        if shift < 0:
            return values
        if bool(shift) != self.walk.big:  # the second half of a word of the usual order, or the first of the other
            return [value >> 32 for value in values]
        return [value & 0xFFFFFFFF for value in values]

    def chains(self) -> list[bytes] | None:
        """The call chain of every sample, as words of this machine's order with the kernel's markers; None if no event samples them.

        Equal chains are equal keys: what is done for one need not be done again.

        Raises:
            FormatError: a chain does not fit into its record.
        """
        if not any([layout.sample_type & abi.PERF_SAMPLE_CALLCHAIN for layout in self.layouts]):
            return None
        words, places, data = self.words, self.places, self.data
        native = type(words) is memoryview
        if len(self.layouts) == 1 and self.layouts[0].chain >= 0:
            chain = self.layouts[0].chain
            if self._count and self.walk.least() <= chain:
                raise FormatError("perf record", "a sample without room for its call chain")
            counts = [words[place + chain] for place in places]
            room = self._sizes(places)
            if not all([count + chain < size for count, size in zip(counts, room)]):
                raise FormatError("perf record", "a call chain does not fit into its sample")
            if native:
                first = 8 * chain + 8
                return [data[8 * place + first : 8 * (place + count) + first] for place, count in zip(places, counts)]
            return [words[place + chain + 1 : place + chain + 1 + count].tobytes() for place, count in zip(places, counts)]
        found = []
        for place, event in zip(places, self.events()):
            first, length = self._sections(place, self._layout(event)).get("callchain", (0, 0))
            # what stands before a chain may be of any length only in records of a group, of whole words
            found.append(words[first // 8 : (first + length) // 8].tobytes())
        return found

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
        del order[count:], self.times[count:]
        self._count, self._places = count, None
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

    def _sizes(self, places: list[int]) -> list[int]:
        """The sizes of records in words."""
        words = self.words
        if self.walk.big:
            return [(words[place] & 0xFFFF) >> 3 for place in places]
        return [words[place] >> 51 for place in places]

    def _sections(self, place: int, layout: SampleLayout) -> dict[str, tuple[int, int]]:
        try:
            return layout.sections(self.data, 8 * place, self.walk.size(place))
        except (ValueError, IndexError, error) as problem:
            raise FormatError("perf record", f"a sample is damaged ({problem})", 8 * place) from None

    def _sorted(self, values: list[int]) -> list[int]:
        return values if self._order is None else list(map(values.__getitem__, self._order))

    def _sort(self) -> None:
        """Brings the samples into order of time; of equal times, the first in the recording stays the first."""
        if not all(["time" in layout.fixed for layout in self.layouts]):
            return
        times = self.column("time")
        assert times is not None
        order = sorted(range(len(times)), key=times.__getitem__)
        self._places = None
        self._order = order
        self.times = list(map(times.__getitem__, order))
