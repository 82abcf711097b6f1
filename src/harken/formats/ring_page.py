"""Pages of ftrace's ring buffer: what ``trace_pipe_raw`` gives and ``trace.dat`` holds.

A page (a sub-buffer, since Linux 6.8 of any power-of-two size) starts with a 64-bit time stamp and a ``local_t`` called *commit*; their
places are in ``events/header_page`` (``Layout``).  Commit holds the number of bytes of records that follow, and two flags: events were
lost before this page, and the number of them stands behind the records (kernel/trace/ring_buffer.c, ``RB_MISSED_EVENTS`` and
``RB_MISSED_STORED``).

A record starts with 32 bits: ``type_len`` (5 bits) and ``time_delta`` (27 bits), in the order of the machine's bit fields:

==========  ===========================================================================================================
type_len
==========  ===========================================================================================================
1 .. 28     ``4 * type_len`` bytes of payload follow
0           a u32 follows, the payload's size plus 4, then the payload
29          padding: ``time_delta`` 0 ends the page; else a discarded record whose u32 size follows
30          time extend: a u32 follows, bits 27.. of the delta
31          absolute time stamp: a u32 follows, bits 27..58 of the time; the upper 5 bits are those of the time before
==========  ===========================================================================================================

``parse`` reads one page and returns a list.  ``walk`` reads many at once into arrays: with the accelerator (``native.ring``), else with
numpy (``ring_page_numpy``), else one by one.

Whatever a page says is checked against its size; a record that leaves its page ends the page.

Example:
    >>> import struct
    >>> page = struct.pack("<QQ", 1000, 12) + struct.pack("<I", 7 << 5 | 2) + b"\\x05\\0\\0\\0abcd" + bytes(4)
    >>> parse(page)
    Page(time=1000, lost=None, records=[(1007, 20, 8)])
"""

from __future__ import annotations

import struct
import sys
from array import array

from ..base.errors import FormatError
from ..base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Buffer = bytes | bytearray | memoryview

__all__ = ("Layout", "Page", "Records", "parse", "parse_layout", "walk", "numpy_or_none")

COMMIT_MASK = (1 << 27) - 1
MISSED = 1 << 31
STORED = 1 << 30
PADDING, EXTEND, STAMP = 29, 30, 31
_TIME = (1 << 64) - 1
_UPPER = 0xF8 << 56
#: Fewer pages than this are walked without numpy: a step over few pages costs as much as one over a thousand.
_FEW = 24


class Layout(Record):
    """Where the parts of a page are: offsets and sizes in bytes; ``order`` is "<" or ">" as in ``struct``."""

    order: str = "<" if sys.byteorder == "little" else ">"
    long_size: int = 8
    time: int = 0
    commit: int = 8
    commit_size: int = 8
    data: int = 16

    @property
    def name(self) -> str:
        """The byte order as ``int.from_bytes`` calls it."""
        return "little" if self.order == "<" else "big"


class Page(Record):
    """One page: its time stamp, the number of events lost before it (None: none were; 0: some were, the kernel does not say how many) and
    its records as
    (time stamp, start of the payload in the buffer, size of the payload)."""

    time: int
    lost: int | None
    records: list[tuple[int, int, int]]


class Records(Record):
    """Records of many pages as columns of equal length: numpy arrays, memory (``memoryview``) of the accelerator, or ``array.array`` and
    ``list``.

    ``times`` in the clock's unit, ``starts`` and ``sizes`` of the payloads in bytes, ``types`` the event ids.  ``lost`` lists (index
    of the record before which events were lost,
    number of them or 0 if unknown); an index of ``len(times)`` stands behind the last record.
    """

    times: Any
    starts: Any
    sizes: Any
    types: Any
    lost: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.times)

    def arrays(self, np: Any) -> Records:
        """The same as numpy arrays."""
        if hasattr(self.times, "dtype"):
            return self
        columns = zip((self.times, self.starts, self.sizes, self.types), ("u8", "i8", "i8", "u2"))
        times, starts, sizes, types = [np.frombuffer(c, k) if isinstance(c, memoryview) else np.array(c, k) for c, k in columns]
        return Records(times, starts, sizes, types, self.lost)

    def plain(self) -> Records:
        """The same as memory that the accelerator takes: 64-bit times, starts and sizes, 16-bit types."""
        return Records(_memory(self.times, "Q"), _memory(self.starts, "q"), _memory(self.sizes, "q"), _memory(self.types, "H"), self.lost)


def _memory(column: Any, code: str) -> memoryview:
    if isinstance(column, memoryview) and column.format == code:
        return column
    if hasattr(column, "dtype"):
        import numpy

        return memoryview(numpy.require(column, code, ("C", "W")).data)
    return memoryview(array(code, column.tolist() if hasattr(column, "tolist") else column))


def numpy_or_none() -> Any:
    """The numpy module, or None where it is not installed."""
    try:
        import numpy
    except ImportError:
        return None
    return numpy


def parse_layout(text: str | bytes, order: str = "", long_size: int = 8) -> Layout:
    """Reads ``events/header_page``.

    Args:
        text: its contents; empty for kernels that had none (before Linux 2.6.31).
        order: "<" or ">"; the machine's own if empty.
        long_size: bytes of a ``long`` of the recorded kernel.

    Raises:
        FormatError: a field that every page has is missing.

    Example:
        >>> text = "field: u64 timestamp; offset:0; size:8;\\nfield: local_t commit; offset:8; size:4;\\n"
        >>> parse_layout(text + "field: char data; offset:12; size:4084;", "<", 4)
        Layout(order='<', long_size=4, time=0, commit=8, commit_size=4, data=12)
    """
    order = order or ("<" if sys.byteorder == "little" else ">")
    if isinstance(text, bytes):
        text = text.decode("ascii", "replace")
    if not text.strip():
        return Layout(order, long_size, 0, 8, long_size, 8 + long_size)
    found: dict[str, tuple[int, int]] = {}
    for line in text[: 1 << 16].splitlines():
        parts = [part.strip() for part in line.split(";")]
        if not parts[0].startswith("field:"):
            continue
        numbers = {}
        for part in parts[1:]:
            key, _, value = part.partition(":")
            if value.strip().isdecimal() and len(value) < 10:
                numbers[key.strip()] = int(value)
        if "offset" in numbers and "size" in numbers:
            found[parts[0].split()[-1]] = numbers["offset"], numbers["size"]
    for name in ("timestamp", "commit", "data"):
        if name not in found:
            raise FormatError("header_page", f"no field {name}")
    commit, commit_size = found["commit"]
    if commit_size not in (4, 8) or max(found["timestamp"][0], commit, found["data"][0]) > 4096 or found["data"][0] % 4:
        raise FormatError("header_page", "offsets or sizes that no kernel has")
    return Layout(order, long_size, found["timestamp"][0], commit, commit_size, found["data"][0])


def _head(page: Buffer, base: int, end: int, layout: Layout) -> tuple[int, int, int, int | None]:
    """(time stamp, first byte of records, first byte after them, lost) of the page at ``base``."""
    order = layout.order
    try:
        (time,) = struct.unpack_from(order + "Q", page, base + layout.time)
        (commit,) = struct.unpack_from(order + ("Q" if layout.commit_size == 8 else "I"), page, base + layout.commit)
    except struct.error:
        raise FormatError("ring buffer page", f"shorter than its header of {layout.data} bytes", base) from None
    start = base + layout.data
    used = commit & COMMIT_MASK
    stop = min(start + used, end)
    lost = None
    if commit & MISSED:
        lost = 0
        size = layout.long_size
        if commit & STORED and start + used + size <= end:
            lost = max(0, int.from_bytes(page[start + used : start + used + size], layout.name, signed=True))  # type: ignore[arg-type]
    return time, start, stop, lost


def parse(page: Buffer, order: str = "", long_size: int = 8, layout: Layout | None = None, base: int = 0, size: int = 0) -> Page:
    """Reads one page.

    Args:
        page: the buffer; ``base`` and ``size`` say where in it the page is (default: all of it).
        order: "<" or ">", the machine's own if empty; with ``long_size`` the layout of a page of a usual kernel.
        layout: what ``header_page`` says, instead of the two.

    Raises:
        FormatError: the buffer is shorter than the page's header.
    """
    if layout is None:
        layout = Layout(order or ("<" if sys.byteorder == "little" else ">"), long_size, 0, 8, long_size, 8 + long_size)
    end = min(len(page), base + size) if size else len(page)
    time, start, stop, lost = _head(page, base, end, layout)
    records: list[tuple[int, int, int]] = []
    _records(page, time, start, stop, layout.order, records)
    if records and max(records)[0] >> 64:  # past the last moment that there is, the kernel's counter begins again
        records = [(time & _TIME, start, size) for time, start, size in records]
    return Page(time, lost, records)


def _records(page: Buffer, time: int, position: int, stop: int, order: str, out: list[tuple[int, int, int]]) -> None:
    word = struct.Struct(order + "I").unpack_from
    little = order == "<"
    append = out.append
    while position + 4 <= stop:
        (head,) = word(page, position)
        if little:
            kind, delta = head & 31, head >> 5
        else:
            kind, delta = head >> 27, head & COMMIT_MASK
        position += 4
        if 0 < kind < PADDING:
            size = kind * 4
            time += delta
            if position + size > stop:
                return
            append((time, position, size))
            position += size
            continue
        if kind == PADDING and not delta or position + 4 > stop:
            return
        time &= _TIME
        (extra,) = word(page, position)
        if kind == 0:
            size = extra - 4
            time += delta
            position += 4
            if size < 0 or position + size > stop:
                return
            append((time, position, size))
            position += size + 3 & ~3
        elif kind == EXTEND:
            time += (extra << 27) + delta
            position += 4
        elif kind == STAMP:
            time = absolute((extra << 27) + delta, time)
            position += 4
        else:  # a discarded record; its time counts for the next one's delta
            time += delta
            position += max(4, extra + 3 & ~3)
        time &= _TIME


def absolute(stamp: int, before: int) -> int:
    """An absolute stamp has 59 bits; the others are those of the time before it (``rb_fix_abs_ts``)."""
    if before & _UPPER:
        stamp |= before & _UPPER
        if stamp < before:
            stamp += 1 << 59
    return stamp & 0xFFFFFFFFFFFFFFFF


def walk(pages: Buffer, page_size: int, layout: Layout | None = None, numpy: Any = True, rooms: list[Any] | None = None) -> Records:
    """Reads pages that stand back to back.

    Args:
        pages: one CPU's pages in order; a last incomplete page is read as far as it goes.
        page_size: bytes of a page (``buffer_subbuf_size_kb``, the file's page size).
        layout: what ``header_page`` says; default: this machine's usual one.
        numpy: True for numpy arrays, if it is installed; None for columns of whatever kind is made fastest; False for the plain way.
        rooms: a list that calls which come one after the other share, to use memory again.

    Raises:
        FormatError: the page size cannot be one.
    """
    layout = layout or Layout()
    if page_size % 8 or page_size <= layout.data:
        raise FormatError("ring buffer page", f"{page_size} bytes cannot be a page's size")
    module = numpy_or_none() if numpy is True else numpy or None
    if numpy is not False and layout.order == "<" == Layout().order:
        from ..native.ring import walk as native_walk

        walked = native_walk(pages, page_size, layout.time, layout.commit, layout.commit_size, layout.data, layout.long_size, rooms)
        if walked is not None:
            records = Records(*walked)
            return records if module is None else records.arrays(module)
    module = numpy_or_none() if numpy is None else module
    if module is not None and len(pages) // page_size >= _FEW:
        from .ring_page_numpy import walk as numpy_walk

        return numpy_walk(pages, page_size, layout, module)
    times, starts, sizes = array("Q"), array("Q"), array("I")
    types: list[int] = []
    lost: list[tuple[int, int]] = []
    size = len(pages)
    short = struct.Struct(layout.order + "H").unpack_from
    for base in range(0, size - layout.data + 1, page_size):
        time, start, stop, missed = _head(pages, base, min(base + page_size, size), layout)
        if missed is not None:
            lost.append((len(times), missed))
        found: list[tuple[int, int, int]] = []
        _records(pages, time, start, stop, layout.order, found)
        if found:
            a, b, c = zip(*found)
            times.extend(a if a[-1] >> 64 == 0 and max(a) >> 64 == 0 else [time & _TIME for time in a])
            starts.extend(b)
            sizes.extend(c)
            types += [short(pages, at)[0] if length > 1 else 0 for at, length in zip(b, c)]
    made = Records(times, starts, sizes, types, tuple(lost))
    return made if module is None else made.arrays(module)
