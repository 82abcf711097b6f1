"""All of a recording as columns in one pass over its pages, by the accelerator (``native.one_pass``).

``event_records.of_file`` calls this first and has another way for recordings that this one leaves to it.
"""

from __future__ import annotations

from ..native.memory import address
from ..native.one_pass import Recording, Wanted
from .event_columns import EventColumns, is_text, numbers_of, text_place, width_of
from .ring_page import numpy_or_none

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .event_format import EventFormat
    from .ring_page import Layout

__all__ = ("fits", "in_one_pass")

#: Bytes of columns per byte of pages: real recordings have 2 to 4.  Formats that say more are read field by field, when asked, and each
#: event's columns are held against its records.
_MOST = 24


def in_one_pass(
    data: memoryview,
    page_size: int,
    places: Sequence[tuple[int, int, int]],
    layout: Layout,
    events: Mapping[int, EventFormat],
    load: bool,
) -> list[EventColumns] | None:
    """The columns of all events that have a format, in the order of their ids.

    Args:
        places: (CPU, start, size) of each CPU's pages in ``data``.
        load: makes all columns of numbers and texts; else only times, CPUs and where the records are.

    Returns:
        None if this is left to others: without numpy, of records that are not in the order of time, of layouts that are none, of formats
        whose columns would take much more memory than the pages do.
    """
    np = numpy_or_none()
    if np is None or any(cpu >> 16 for cpu, _, _ in places) or max(page_size, len(data)) >> 32:
        return None
    whole = np.frombuffer(data, dtype="u1")
    parts = (page_size, layout.time, layout.commit, layout.commit_size, layout.data, layout.long_size)
    recording = Recording((address(whole), len(whole)), places, parts)
    counts = recording.counts()
    if counts is None:
        return None
    formats = {number: event for number in counts if (event := events.get(number)) is not None}
    bounded = not fits([(event, counts[number]) for number, event in formats.items()], len(data))
    if load and bounded:
        return None
    taken = recording.take({number: (counts[number], _wanted(event, load)) for number, event in formats.items()})
    if taken is None:
        return None
    made = []
    for number, found in taken.items():
        times, cpus = np.frombuffer(found.times, "u8"), np.frombuffer(found.cpus, "u2")
        starts, sizes = (None if column is None else np.frombuffer(column, "i8") for column in (found.starts, found.sizes))
        columns = EventColumns(formats[number], data, times, cpus, starts, sizes, layout.order, np, bounded)
        if load:
            columns.fill(found.numbers, found.texts)
        made.append(columns)
    return made


def fits(found: Iterable[tuple[EventFormat, int]], size: int) -> bool:
    """Whether columns of so many records of each event take no more than some times the memory of their pages."""
    return sum([count * (10 + width_of(event)) for event, count in found]) <= _MOST * size


def _wanted(event: EventFormat, load: bool) -> Wanted:
    if not load:
        return Wanted(True)
    numbers, texts, others = [], [], False
    for field in event.named:
        shape = numbers_of(field)
        if shape is not None:
            numbers.append((field.offset, shape[0] * shape[1]))
        elif is_text(field):
            texts.append(text_place(field))
        else:
            others = True
    return Wanted(others, numbers, texts)
