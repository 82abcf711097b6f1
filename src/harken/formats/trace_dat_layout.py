"""Where things are in a ``trace.dat``: the two layouts, v6 and v7, read into one ``Layout``.

Both begin with ``17 08 44 "tracing"``, the version as a string, the byte order (0 little, 1 big), the size of a long in user space, and the
page size.  From there (trace-cmd.dat.v6(5), trace-cmd.dat.v7(5)):

v6
    the parts in a fixed order (header formats, ftrace's and the events' formats, kallsyms, printk formats, command lines), the number
    of CPUs, options, then "flyrecord" with the place of each CPU's pages, or "latency" with the text of the ``trace`` file.  More buffers
    stand behind BUFFER options.  Nothing is compressed.
v7
    the compression algorithm, then the place of the first of a chain of option sections.  Options tell where all other sections are;
    sections may be compressed; a BUFFER option has the place of each CPU's pages, which are compressed in chunks.

The bodies of the parts are the same in both, so everything above this module knows no versions.  What a truncated file lacks is noted in
``Layout.problems``; only a file without the parts that give records a meaning is refused.
"""

from __future__ import annotations

import struct

from ..base.errors import FormatError
from ..base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .trace_dat_compress import Codec

__all__ = (
    "MAGIC",
    "DATE",
    "CPUSTAT",
    "BUFFER",
    "TRACECLOCK",
    "UNAME",
    "HOOK",
    "OFFSET",
    "CPUCOUNT",
    "VERSION",
    "PROCMAPS",
    "TRACEID",
    "TIME_SHIFT",
    "GUEST",
    "TSC2NSEC",
    "STRINGS",
    "HEADER_INFO",
    "FTRACE_EVENTS",
    "EVENT_FORMATS",
    "KALLSYMS",
    "PRINTK",
    "CMDLINES",
    "BUFFER_TEXT",
    "OPTION_NAMES",
    "Option",
    "CpuData",
    "BufferPlace",
    "Section",
    "Layout",
    "Cursor",
    "entries",
    "expand",
    "section_at",
    "chosen_clock",
    "read_layout",
)

MAGIC = b"\x17\x08\x44tracing"

# Option ids; those from STRINGS on are section ids too.
(DONE, DATE, CPUSTAT, BUFFER, TRACECLOCK, UNAME, HOOK, OFFSET, CPUCOUNT, VERSION, PROCMAPS, TRACEID, TIME_SHIFT, GUEST, TSC2NSEC) = range(
    15
)
(STRINGS, HEADER_INFO, FTRACE_EVENTS, EVENT_FORMATS, KALLSYMS, PRINTK, CMDLINES, BUFFER_TEXT) = range(15, 23)

#: Names of option ids, for messages and ``dump``.
OPTION_NAMES = tuple(
    "DONE DATE CPUSTAT BUFFER TRACECLOCK UNAME HOOK OFFSET CPUCOUNT VERSION PROCMAPS TRACEID TIME_SHIFT GUEST TSC2NSEC STRINGS HEADER_INFO "
    "FTRACE_EVENTS EVENT_FORMATS KALLSYMS PRINTK CMDLINES BUFFER_TEXT BTF_FILE LAST_BOOT_INFO MODULES_FILE".split()
)

_MAX_PARTS = 1 << 16  # options, sections, buffers: far beyond what any file has
_MAX_CPUS = 8192
_COMPRESSED = 1


class Option(Record):
    """One option: ``offset`` is where its data stands in the file, -1 in a compressed section."""

    id: int
    data: bytes
    offset: int = -1


class CpuData(Record):
    """Where a CPU's pages are: ``size`` bytes at ``offset`` of the file (compressed, the size that is stored)."""

    cpu: int
    offset: int
    size: int


class BufferPlace(Record):
    """One ring buffer: the top one is called ""; ``text`` is the place of a latency tracer's text instead of pages, or None."""

    name: str
    clock: str
    page_size: int
    cpus: tuple[CpuData, ...]
    compressed: bool = False
    text: tuple[int, int] | None = None
    offset: int = 0


class Section(Record):
    """A section: ``size`` bytes at ``offset``, which is that of the body."""

    id: int
    offset: int
    size: int
    compressed: bool = False
    description: int = 0


class Layout(Record):
    """What is where.  ``order`` is "<" or ">"; ``long_size`` is that of the traced machine's user space."""

    version: int
    order: str
    long_size: int
    page_size: int
    compression: tuple[str, str]
    sections: tuple[Section, ...]
    options: tuple[Option, ...]
    option_sections: tuple[Section, ...]
    buffers: tuple[BufferPlace, ...]
    cpus: int
    problems: tuple[str, ...]
    options_at: int = 0

    def section(self, number: int) -> Section | None:
        """The section with an id; of several the last one, which was written when more was known."""
        return next((section for section in reversed(self.sections) if section.id == number), None)


class Cursor:
    """Reads numbers and texts from a buffer, refusing to read beyond its end."""

    __slots__ = ("data", "at", "end", "order", "what")

    def __init__(self, data: memoryview, order: str, at: int = 0, end: int | None = None, what: str = "trace.dat") -> None:
        self.data = data
        self.at = at
        self.end = len(data) if end is None else min(end, len(data))
        self.order = order
        self.what = what

    def _claim(self, size: int) -> int:
        at = self.at
        if size > self.end - at:
            raise FormatError(self.what, f"ends where {size} more bytes are expected: truncated?", at)
        self.at = at + size
        return at

    def u16(self) -> int:
        return int(struct.unpack_from(self.order + "H", self.data, self._claim(2))[0])

    def u32(self) -> int:
        return int(struct.unpack_from(self.order + "I", self.data, self._claim(4))[0])

    def u64(self) -> int:
        return int(struct.unpack_from(self.order + "Q", self.data, self._claim(8))[0])

    def take(self, size: int) -> memoryview:
        at = self._claim(size)
        return self.data[at : at + size]

    def string(self, limit: int = 4096) -> str:
        """A string up to its NUL."""
        window = bytes(self.data[self.at : min(self.end, self.at + limit)])
        length = window.find(b"\0")
        if length < 0:
            raise FormatError(self.what, "a string without an end", self.at)
        self.at += length + 1
        return window[:length].decode("utf-8", "backslashreplace")

    def expect(self, text: bytes) -> None:
        if bytes(self.data[self.at : min(self.at + len(text), self.end)]) != text:
            raise FormatError(self.what, f"{text.rstrip(chr(0).encode())!r} expected", self.at)
        self.at += len(text)

    @property
    def left(self) -> int:
        return self.end - self.at


def read_layout(data: memoryview, what: str = "trace.dat") -> Layout:
    """Finds the parts of a file.

    Raises:
        FormatError: it is no trace.dat, or one that ends before its records have a meaning.
    """
    cursor = Cursor(data, "<", what=what)
    if bytes(data[: len(MAGIC)]) != MAGIC:
        raise FormatError(what, "not a trace.dat file", 0, hint="it does not begin with trace-cmd's magic bytes")
    cursor.at = len(MAGIC)
    text = cursor.string(16)
    if text not in ("6", "7"):
        raise FormatError(what, f"version {text!r} of the file format is unknown", len(MAGIC), hint="harken reads versions 6 and 7")
    flags = cursor.take(2)
    if flags[0] > 1 or flags[1] not in (4, 8):
        raise FormatError(what, f"byte order {flags[0]}, size of a long {flags[1]}", cursor.at - 2)
    cursor.order = "<>"[flags[0]]
    page_size = cursor.u32()
    if page_size < 512 or page_size > 1 << 24 or page_size & (page_size - 1):
        raise FormatError(what, f"{page_size} is not the size of a page", cursor.at - 4)
    read = _read_v6 if text == "6" else _read_v7
    return read(cursor, flags[1], page_size)


def skip_formats(cursor: Cursor, number: int) -> None:
    """Steps over the body of a part of the fixed order (v6)."""
    if number == HEADER_INFO:
        cursor.expect(b"header_page\0")
        cursor.take(cursor.u64())
        cursor.expect(b"header_event\0")
        cursor.take(cursor.u64())
    elif number == FTRACE_EVENTS:
        for _ in range(entries(cursor)):
            cursor.take(cursor.u64())
    elif number == EVENT_FORMATS:
        for _ in range(entries(cursor)):
            cursor.string()
            for _ in range(entries(cursor)):
                cursor.take(cursor.u64())
    elif number in (KALLSYMS, PRINTK):
        cursor.take(cursor.u32())
    else:
        cursor.take(cursor.u64())


def entries(cursor: Cursor) -> int:
    """A number of entries, each of which takes eight bytes at least."""
    count = cursor.u32()
    if count > cursor.left // 8 + 1:
        raise FormatError(cursor.what, f"{count} entries cannot be in the {cursor.left} bytes that are left", cursor.at - 4)
    return count


def _read_v6(cursor: Cursor, long_size: int, page_size: int) -> Layout:
    sections: list[Section] = []
    problems: list[str] = []
    options: list[Option] = []
    buffers: list[BufferPlace] = []
    cpus = 0
    try:
        for number in (HEADER_INFO, FTRACE_EVENTS, EVENT_FORMATS, KALLSYMS, PRINTK, CMDLINES):
            start = cursor.at
            skip_formats(cursor, number)
            sections.append(Section(number, start, cursor.at - start))
        cpus = _cpu_count(cursor, cursor.u32())
        kind = bytes(cursor.take(10))
        if kind == b"options  \0":
            _options_v6(cursor, options)
            kind = bytes(cursor.take(10))
        buffers.append(_buffer_v6(cursor, kind, "", cpus, page_size, problems))
        count = 0  # a CPUCOUNT option tells about the buffer before it
        for option in options:
            if option.id == CPUCOUNT and len(option.data) >= 4 and len(buffers) > 1:
                count = _cpu_count(cursor, struct.unpack_from(cursor.order + "I", option.data)[0])
                buffers[-1] = _instance_v6(cursor, buffers[-1].name, buffers[-1].offset, count, page_size, problems)
            elif option.id == BUFFER and len(option.data) > 8:
                where = struct.unpack_from(cursor.order + "Q", option.data)[0]
                name = option.data[8:].split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
                buffers.append(_instance_v6(cursor, name, where, cpus, page_size, problems))
    except FormatError as error:
        if len(sections) < 3:
            raise
        problems.append(str(error))
    clock = next((option.data for option in options if option.id == TRACECLOCK), b"")
    if clock and buffers and not buffers[0].clock:
        buffers[0] = buffers[0].replace(clock=chosen_clock(clock.decode("utf-8", "replace")))
    return Layout(
        6, cursor.order, long_size, page_size, ("none", ""), tuple(sections), tuple(options), (), tuple(buffers), cpus, tuple(problems)
    )


def chosen_clock(text: str) -> str:
    """The clock in brackets of a ``trace_clock`` text; the text itself if it has none.

    Example:
        >>> chosen_clock("local [mono] boot\\n"), chosen_clock("global")
        ('mono', 'global')
    """
    start, end = text.find("["), text.find("]")
    return text[start + 1 : end] if 0 <= start < end else text.strip("\0 \n")


def _cpu_count(cursor: Cursor, count: int) -> int:
    if count > _MAX_CPUS:
        raise FormatError(cursor.what, f"{count} CPUs", cursor.at - 4)
    return count


def _options_v6(cursor: Cursor, options: list[Option]) -> None:
    for _ in range(_MAX_PARTS):
        number = cursor.u16()
        if number == DONE:
            return
        size = cursor.u32()
        at = cursor.at
        options.append(Option(number, bytes(cursor.take(size)), at))
    raise FormatError(cursor.what, f"more than {_MAX_PARTS} options", cursor.at)


def _instance_v6(cursor: Cursor, name: str, where: int, cpus: int, page_size: int, problems: list[str]) -> BufferPlace:
    at = Cursor(cursor.data, cursor.order, where, what=cursor.what)
    try:
        if where <= 0 or where >= len(cursor.data):
            raise FormatError(cursor.what, f"buffer {name!r} lies outside of the file", where)
        return _buffer_v6(at, bytes(at.take(10)), name, cpus, page_size, problems).replace(offset=where)
    except FormatError as error:
        problems.append(str(error))
        return BufferPlace(name, "", page_size, (), offset=where)


def _buffer_v6(cursor: Cursor, kind: bytes, name: str, cpus: int, page_size: int, problems: list[str]) -> BufferPlace:
    if kind == b"latency  \0":
        return BufferPlace(name, "", page_size, (), text=(cursor.at, cursor.left))
    if kind != b"flyrecord\0":
        raise FormatError(cursor.what, "neither 'flyrecord' nor 'latency' where the records begin", cursor.at - 10)
    places = [CpuData(cpu, cursor.u64(), cursor.u64()) for cpu in range(cpus)]
    clock = ""
    # The clock stands behind the table, unless there is only padding (files of trace-cmd before 2.0).
    after = cursor.at
    try:
        size = cursor.u64()
        if 0 < size < 4096 and size <= cursor.left:
            clock = chosen_clock(bytes(cursor.take(size)).decode("utf-8", "replace"))
    except FormatError:
        cursor.at = after
    return BufferPlace(name, clock, page_size, _inside(cursor, name, places, problems))


def _inside(cursor: Cursor, name: str, places: list[CpuData], problems: list[str]) -> tuple[CpuData, ...]:
    """The places, cut where the file ends."""
    size = len(cursor.data)
    inside = []
    for place in places:
        missing = place.offset + place.size - size
        if place.size and missing > 0:
            kept = max(place.size - missing, 0)
            of = f" of buffer {name}" if name else ""
            problems.append(f"{cursor.what}: truncated: {missing} of {place.size} bytes of CPU {place.cpu}{of} are missing")
            place = CpuData(place.cpu, min(place.offset, size), kept)
        inside.append(place)
    return tuple(inside)


def _read_v7(cursor: Cursor, long_size: int, page_size: int) -> Layout:
    compression = (cursor.string(256), cursor.string(256))
    options_at = cursor.u64()
    problems: list[str] = []
    options: list[Option] = []
    option_sections: list[Section] = []
    codec = None
    if compression[0] not in ("none", ""):
        from .trace_dat_compress import codec as find

        codec = find(compression[0])
    where, seen = options_at, set()
    while where:
        try:
            if where in seen or where >= len(cursor.data):
                problem = "a chain of options that bites its tail" if where in seen else "options beyond the end of the file: truncated?"
                raise FormatError(cursor.what, problem, where)
            seen.add(where)
            where = _options_v7(cursor, where, codec, options, option_sections)
        except FormatError as error:
            if not options:
                raise
            problems.append(str(error))
            break
    sections: list[Section] = []
    buffers: list[BufferPlace] = []
    cpus = 0
    for option in options:
        body = Cursor(memoryview(option.data), cursor.order, what=f"{cursor.what}: option {option.id}")
        try:
            if HEADER_INFO <= option.id <= CMDLINES or option.id >= 23:
                if len(option.data) == 8:
                    sections.append(section_at(cursor, body.u64(), option.id))
            elif option.id in (BUFFER, BUFFER_TEXT):
                buffers.append(_buffer_v7(cursor, body, option.id == BUFFER_TEXT, page_size, problems))
            elif option.id == CPUCOUNT:
                cpus = _cpu_count(cursor, body.u32())
        except FormatError as error:
            problems.append(str(error))
    if not any(section.id == HEADER_INFO for section in sections):
        raise FormatError(cursor.what, "no description of the ring buffer's pages" + (f" ({problems[0]})" if problems else ""))
    buffers.sort(key=lambda buffer: buffer.name != "")  # the top buffer first, the others in their order
    cpus = max([cpus, *(place.cpu + 1 for buffer in buffers for place in buffer.cpus)])
    return Layout(
        7,
        cursor.order,
        long_size,
        page_size,
        compression,
        tuple(sections),
        tuple(options),
        tuple(option_sections),
        tuple(buffers),
        cpus,
        tuple(problems),
        options_at,
    )


def section_at(cursor: Cursor, where: int, number: int) -> Section:
    """The section whose header stands at ``where``; cut where the file ends.

    Raises:
        FormatError: there is none, or one with another id.
    """
    at = Cursor(cursor.data, cursor.order, where, what=cursor.what)
    found, flags, description, size = at.u16(), at.u16(), at.u32(), at.u64()
    if found != number:
        raise FormatError(cursor.what, f"section {found} where section {number} should be", where)
    return Section(number, at.at, min(size, at.left), bool(flags & _COMPRESSED), description)


def expand(cursor: Cursor, section: Section, codec: Codec | None, limit: int) -> memoryview:
    """The body of a section, at most ``limit`` bytes of it.

    Raises:
        FormatError: it is damaged, or too large.
    """
    if not section.compressed:
        return cursor.data[section.offset : section.offset + section.size]
    at = Cursor(cursor.data, cursor.order, section.offset, section.offset + section.size, cursor.what)
    packed, size = at.u32(), at.u32()
    if size > limit:
        raise FormatError(cursor.what, f"section {section.id} claims {size} bytes", section.offset)
    if codec is None:
        raise FormatError(cursor.what, "a compressed section in a file without compression", section.offset)
    return memoryview(codec.expand(at.take(packed), size, cursor.what, section.offset))


def _options_v7(cursor: Cursor, where: int, codec: Codec | None, options: list[Option], sections: list[Section]) -> int:
    """Reads one section of options; returns where the next one is, 0 if there is none."""
    section = section_at(cursor, where, 0)
    sections.append(section)
    body = Cursor(expand(cursor, section, codec, 1 << 26), cursor.order, what=f"{cursor.what}: options")
    base = -1 if section.compressed else section.offset
    while body.left >= 6:
        number, size = body.u16(), body.u32()
        at = body.at
        data = bytes(body.take(size))
        if number == DONE:
            return int(struct.unpack_from(cursor.order + "Q", data)[0]) if len(data) >= 8 else 0
        if len(options) >= _MAX_PARTS:
            raise FormatError(cursor.what, f"more than {_MAX_PARTS} options", where)
        options.append(Option(number, data, base + at if base >= 0 else -1))
    return 0


def _buffer_v7(cursor: Cursor, body: Cursor, text: bool, page_size: int, problems: list[str]) -> BufferPlace:
    where, name, clock = body.u64(), body.string(), body.string()
    section = section_at(cursor, where, BUFFER_TEXT if text else BUFFER)
    if text:
        return BufferPlace(name, chosen_clock(clock), page_size, (), section.compressed, (section.offset, section.size), where)
    own_page_size, count = body.u32(), body.u32()
    if not 512 <= own_page_size <= 1 << 24 or own_page_size & (own_page_size - 1):
        raise FormatError(cursor.what, f"buffer {name!r}: {own_page_size} is not the size of a page", where)
    if count > body.left // 20:
        raise FormatError(cursor.what, f"buffer {name!r} claims {count} CPUs", where)
    places = []
    for _ in range(count):
        cpu, offset, size = body.u32(), body.u64(), body.u64()
        if cpu >= _MAX_CPUS:
            raise FormatError(cursor.what, f"CPU {cpu}", where)
        places.append(CpuData(cpu, offset, size))
    return BufferPlace(name, chosen_clock(clock), own_page_size, _inside(cursor, name, places, problems), section.compressed, None, where)
