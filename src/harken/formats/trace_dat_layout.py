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
    "BTF_FILE",
    "OWN_BTF",
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
    "MAX_BUFFERS",
    "MAX_CPUS",
    "MAX_PARTS",
    "MAX_PLACES",
    "check_places",
    "chosen_clock",
    "cpu_count",
    "inside",
)

MAGIC = b"\x17\x08\x44tracing"

# Option ids; those from STRINGS on are section ids too.
(DONE, DATE, CPUSTAT, BUFFER, TRACECLOCK, UNAME, HOOK, OFFSET, CPUCOUNT, VERSION, PROCMAPS, TRACEID, TIME_SHIFT, GUEST, TSC2NSEC) = range(
    15
)
(STRINGS, HEADER_INFO, FTRACE_EVENTS, EVENT_FORMATS, KALLSYMS, PRINTK, CMDLINES, BUFFER_TEXT, BTF_FILE) = range(15, 24)

#: An option of harken's own: the kernel's types in files that are not compressed, where trace-cmd 3.4 cannot read a section of them.
OWN_BTF = 0x4842

#: Names of option ids, for messages and ``dump``.
OPTION_NAMES = tuple(
    "DONE DATE CPUSTAT BUFFER TRACECLOCK UNAME HOOK OFFSET CPUCOUNT VERSION PROCMAPS TRACEID TIME_SHIFT GUEST TSC2NSEC STRINGS HEADER_INFO "
    "FTRACE_EVENTS EVENT_FORMATS KALLSYMS PRINTK CMDLINES BUFFER_TEXT BTF_FILE LAST_BOOT_INFO MODULES_FILE".split()
)

#: Options, sections, buffers: far beyond what any file has.
MAX_PARTS = 1 << 16
MAX_CPUS = 8192
#: Buffers of a file, and CPUs of all of them.
MAX_BUFFERS, MAX_PLACES = 4096, 1 << 17
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


def entries(cursor: Cursor) -> int:
    """A number of entries, each of which takes eight bytes at least."""
    count = cursor.u32()
    if count > cursor.left // 8 + 1:
        raise FormatError(cursor.what, f"{count} entries cannot be in the {cursor.left} bytes that are left", cursor.at - 4)
    if count > MAX_PARTS:
        raise FormatError(cursor.what, f"more than {MAX_PARTS} entries", cursor.at - 4)
    return count


def chosen_clock(text: str) -> str:
    """The clock in brackets of a ``trace_clock`` text; the text itself if it has none.

    Example:
        >>> chosen_clock("local [mono] boot\\n"), chosen_clock("global")
        ('mono', 'global')
    """
    start, end = text.find("["), text.find("]")
    return text[start + 1 : end] if 0 <= start < end else text.strip("\0 \n")


def check_places(cursor: Cursor, buffers: int, cpus: int) -> None:
    """Whether a file may have so many buffers, and CPUs of all of them.

    Raises:
        FormatError: no recorder makes so many.
    """
    if buffers > MAX_BUFFERS or cpus > MAX_PLACES:
        raise FormatError(cursor.what, f"more than {MAX_BUFFERS} buffers, or {MAX_PLACES} CPUs of them")


def cpu_count(cursor: Cursor, count: int) -> int:
    """A number of CPUs that was just read.

    Raises:
        FormatError: no machine has so many.
    """
    if count > MAX_CPUS:
        raise FormatError(cursor.what, f"{count} CPUs", cursor.at - 4)
    return count


def inside(cursor: Cursor, name: str, places: list[CpuData], problems: list[str]) -> tuple[CpuData, ...]:
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
