"""Events of the ring buffer as data: columns and rows, without formatting.

``columns`` takes the records that ``ring_page.walk`` found, and the format of one event, and gives its fields as columns: numpy arrays
where numpy is installed (made when asked for, by one gather per field), lists otherwise.  Texts are a ``TextColumn`` (lists of ``str``
without numpy).  Columns of several CPUs are put together with ``concatenate``; ``of_file`` gives all of a recording.

Example:
    >>> from harken.formats.event_format import parse
    >>> event = parse('name: x\\nID: 5\\nformat:\\n\\tfield:int a;\\toffset:4;\\tsize:4;\\tsigned:1;\\n\\nprint fmt: ""')
    >>> from harken.formats.ring_page import Layout, walk
    >>> import struct
    >>> page = struct.pack("<QQ", 1000, 12) + struct.pack("<IHHi", 7 << 5 | 2, 5, 0, -3) + bytes(4)
    >>> found = columns(event, page, walk(page, len(page), Layout("<"), numpy=False), "<")
    >>> list(found.times), list(found["a"]), list(found.rows())
    ([1007], [-3], [(1007, 0, -3)])
"""

from __future__ import annotations

from ..base.ctype import Array, Struct
from ..base.schema import Field, Schema
from ..native import library
from .event_columns import EventColumns, JoinedColumns, is_text
from .print_fmt_values import CODES
from .ring_page import Layout, numpy_or_none, parse_layout, walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from .event_format import EventFormat
    from .ring_page import Records
    from .trace_dat import TraceFile

__all__ = ("EventColumns", "columns", "concatenate", "event_schema", "of_file", "split", "take")


def event_schema(event: EventFormat) -> Schema:
    """The event's layout as a ``Schema``, in this machine's byte order; fields that are no integers, texts or arrays of them are raw
    bytes."""
    fields = []
    for field in event.fields:
        if field.data_loc:
            fields.append(Field(field.name, field.offset, "v" if is_text(field) else "w"))
        elif field.array or isinstance(field.ctype, (Array, Struct)) or field.size not in (1, 2, 4, 8):
            count = field.size
            if is_text(field):
                fields.append(Field(field.name, field.offset, "s", count))
            elif field.array and count % field.array == 0 and (count // field.array, field.signed) in CODES:
                fields.append(Field(field.name, field.offset, CODES[count // field.array, field.signed], field.array))
            elif count:
                fields.append(Field(field.name, field.offset, "p", count))
        else:
            fields.append(Field(field.name, field.offset, CODES[field.size, field.signed]))
    return Schema(event.name, event.size, tuple(fields))


def _arrays(records: Records) -> tuple[Records, Any]:
    """Records as numpy arrays and numpy, where both are to be had; else as they are, and None."""
    if not hasattr(records.times, "dtype") and not isinstance(records.times, memoryview):
        return records, None
    np = numpy_or_none()
    return (records, None) if np is None else (records.arrays(np), np)


def columns(event: EventFormat, buffer: Any, records: Records, order: str = "<", cpu: int = 0) -> EventColumns:
    """The records of ``event`` among those of one CPU.

    Args:
        buffer: what the records were found in (``bytes``, ``mmap``, ``memoryview``).
        records: of ``ring_page.walk``.
        order: "<" or ">".
    """
    records, np = _arrays(records)
    if np is not None:
        index = np.nonzero(records.types == event.id)[0]
        whole = len(index) == len(records.types)
        times, starts, sizes = (c if whole else c[index] for c in (records.times, records.starts, records.sizes))
        return EventColumns(event, buffer, times, np.full(len(index), cpu, dtype="u2"), starts, sizes, order, np)
    chosen = [i for i, kind in enumerate(records.types) if kind == event.id]
    return EventColumns(
        event,
        buffer,
        [records.times[i] for i in chosen],
        [cpu] * len(chosen),
        [records.starts[i] for i in chosen],
        [records.sizes[i] for i in chosen],
        order,
        None,
    )


def split(buffer: Any, records: Records, events: Mapping[int, EventFormat], order: str = "<", cpu: int = 0) -> dict[int, EventColumns]:
    """All events of one CPU: event id -> columns; ids without a format are left out."""
    given, (records, np) = records, _arrays(records)
    if np is not None and library() is not None and order == "<" == Layout().order:
        return _split_native(buffer, given, events, order, cpu, np)
    if np is not None:
        present = np.nonzero(np.bincount(records.types))[0].tolist() if len(records.types) else []
    else:
        present = sorted(set(records.types))
    found = {}
    for number in present:
        event = events.get(number)
        if event is not None:
            found[number] = columns(event, buffer, records, order, cpu)
    return found


def _split_native(
    buffer: Any, records: Records, events: Mapping[int, EventFormat], order: str, cpu: int, np: Any
) -> dict[int, EventColumns]:
    from ..native.columns import split as native_split
    from ..native.ring import counts

    plain = records.plain()
    formats = {number: (event, count) for number, count in counts([plain.types]).items() if (event := events.get(number)) is not None}
    wanted = {number: count for number, (_, count) in formats.items()}
    found = {}
    for number, parts in native_split((plain.times, plain.starts, plain.sizes, plain.types), wanted).items():
        times, starts, sizes = (np.frombuffer(part, dtype=kind) for part, kind in zip(parts, ("u8", "i8", "i8")))
        cpus = np.full(len(times), cpu, dtype="u2")
        found[number] = EventColumns(formats[number][0], buffer, times, cpus, starts, sizes, order, np)
    return found


def concatenate(parts: Sequence[EventColumns], by_time: bool = True) -> EventColumns:
    """Columns of one event from several CPUs as one, in the order of time.

    Raises:
        ValueError: no parts, or parts of several events.
    """
    if not parts or any(part.event.id != parts[0].event.id for part in parts):
        raise ValueError("columns of one event are needed")
    if len(parts) == 1 or not by_time:
        return JoinedColumns(parts)
    np = parts[0].numpy
    if np is not None:
        return JoinedColumns(parts, np.argsort(np.concatenate([part.times for part in parts]), kind="stable"))
    times = [time for part in parts for time in part.times]
    return JoinedColumns(parts, sorted(range(len(times)), key=times.__getitem__))


def take(columns: EventColumns, index: Any) -> EventColumns:
    """Some records of ``columns``, in the order of ``index`` (positions, or a mask with numpy)."""
    return JoinedColumns([columns], index)


def of_file(trace: TraceFile, buffer: str = "", load: bool = False) -> dict[str, EventColumns]:
    """All of a recording: "category:name" -> columns of all CPUs in the order of time.

    Args:
        buffer: an instance's name; "" for the main buffer.
        load: makes the columns of all numbers and texts at once, which takes a fraction of the time that one by one takes; they share
            memory, which lasts until the last of them is gone.

    Raises:
        FormatError: the recording is damaged.
    """
    layout = parse_layout(trace.header_page, trace.order, trace.kernel_long)
    page_size, data, places = _whole(trace, buffer)
    from .event_recording import fits, in_one_pass

    made = None
    if library() is not None and layout.order == "<" == Layout().order and places:
        made = in_one_pass(data, page_size, places, layout, trace.events, load)
    if made is None:
        found: dict[int, list[tuple[EventColumns, int]]] = {}
        for cpu, start, size in places:
            records = walk(data[start : start + size], page_size, layout, numpy=None)
            for number, part in split(data[start : start + size], records, trace.events, trace.order, cpu).items():
                found.setdefault(number, []).append((part, start))
        bounded = not fits([(part.event, len(part)) for parts in found.values() for part, _ in parts], len(data))
        made = [_in_order(parts, data, bounded) for _, parts in sorted(found.items())]
    return {f"{columns.event.category}:{columns.event.name}": columns for columns in made}


def _whole(trace: TraceFile, buffer: str) -> tuple[int, memoryview, list[tuple[int, int, int]]]:
    """All pages of a buffer in one memory: (bytes of a page, the memory, (CPU, start, size) in it)."""
    found = trace.buffer(buffer)
    if found is None or found.text is not None:
        return trace.page_size, memoryview(b""), []
    if not found.compressed:
        return found.page_size, trace.data[:], [(place.cpu, place.offset, place.size) for place in found.cpus]
    data, places = bytearray(), []
    for place in found.cpus:
        start = len(data)
        for run in trace.chunks(place.cpu, buffer):
            data += run
        places.append((place.cpu, start, len(data) - start))
    return found.page_size, memoryview(data), places


def _moved(part: EventColumns, data: Any, start: int, bounded: bool) -> EventColumns:
    """Columns of a part of a buffer as columns of the buffer."""
    starts = part.starts + start if part.numpy is not None else [at + start for at in part.starts]
    return EventColumns(part.event, data, part.times, part.cpus, starts, part.sizes, part.order, part.numpy, bounded)


def _in_order(found: list[tuple[EventColumns, int]], data: memoryview, bounded: bool) -> EventColumns:
    """Columns of one event, of parts of a buffer that start somewhere in ``data``, as columns of all in the order of time."""
    parts = [_moved(part, data, start, bounded) for part, start in found]
    first, np = parts[0], parts[0].numpy
    if np is None:
        times = [time for part in parts for time in part.times]
        return JoinedColumns(parts, sorted(range(len(times)), key=times.__getitem__))
    times = np.concatenate([part.times for part in parts])
    if len(parts) == 1 and not (times[1:] < times[:-1]).any():
        return first
    index = np.argsort(times, kind="stable")
    cpus, starts, sizes = (np.concatenate([getattr(part, name) for part in parts])[index] for name in ("cpus", "starts", "sizes"))
    return EventColumns(first.event, data, times[index], cpus, starts, sizes, first.order, np, bounded)
