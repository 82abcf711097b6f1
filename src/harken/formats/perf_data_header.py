"""What stands before and behind the records of a ``perf.data``: the header, the events with their attributes, the feature sections.

A file (tools/perf/Documentation/perf.data-file-format.txt)::

    "PERFILE2"  u64 size of this header  u64 size of one attribute entry
    section of attributes, section of records, section of event types (unused)     a section: u64 offset, u64 size
    bits of the features that are there, 256
    ...
    one section for every feature, behind the records

What ``perf record -o -`` writes begins with the magic and a header size of 16; attributes and features come as records.  The byte order of
the magic is the byte order of everything.

What the feature sections say is ``perf_data_features``.
"""

from __future__ import annotations

from struct import unpack_from

from ..abi import perf_event as abi
from ..base.errors import FormatError, HarkenError
from .perf_data_features import Features, read_attribute
from .perf_data_layout import SampleLayout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

__all__ = ("RecordedEvent", "Header", "read_header", "byte_order", "read", "read_whole")

#: Files from this size on are read into large pages.
_LARGE, _PAGE = 1 << 20, 1 << 21

_MAGIC = b"PERFILE2"
_OLD = b"PERFFILE"
_MAX_EVENTS = 1 << 16
_MAX_IDS = 1 << 22
_MAX_FEATURE = 256 << 20


class RecordedEvent:
    """One event of a recording.

    Attributes:
        name: as perf shows it; "" if the recording does not tell.
        ids: of its records, one per CPU or thread.
        fields: of ``struct perf_event_attr``, by name ("type", "config", "sample_type", ...).
        flags: names of the flags that are set.
    """

    __slots__ = ("name", "ids", "fields", "flags", "order", "_layout", "_machine")

    def __init__(self, name: str, ids: tuple[int, ...], fields: dict[str, int], flags: frozenset[str], order: str) -> None:
        self.name, self.ids, self.fields, self.flags, self.order = name, ids, fields, flags, order
        self._layout: SampleLayout | None = None
        self._machine = ""

    def layout(self, machine: str) -> SampleLayout:
        """Where the fields of its samples lie.

        Args:
            machine: as ``uname -m`` says it, for the names of registers.

        Raises:
            UsageError: it samples what is not known here.
        """
        if self._layout is None or self._machine != machine:
            fields = self.fields
            self._machine = machine
            kinds = fields["sample_type"]
            self._layout = SampleLayout(
                kinds,
                _registers(fields["sample_regs_user"], machine) if kinds & abi.PERF_SAMPLE_REGS_USER else (),
                read_format=fields["read_format"],
                interrupted=_registers(fields["sample_regs_intr"], machine) if kinds & abi.PERF_SAMPLE_REGS_INTR else (),
                branch_type=fields["branch_sample_type"],
                order=self.order,
                id_all="sample_id_all" in self.flags,
            )
        return self._layout

    def same_layout(self, other: RecordedEvent) -> bool:
        """Whether samples of both have the same fields."""
        names = ("sample_type", "read_format", "sample_regs_user", "sample_regs_intr", "branch_sample_type")
        same_flag = ("sample_id_all" in self.flags) == ("sample_id_all" in other.flags)
        return same_flag and all([self.fields[name] == other.fields[name] for name in names])

    def __repr__(self) -> str:
        return f"RecordedEvent({self.name!r}, type {self.fields['type']}, config {self.fields['config']:#x}, {len(self.ids)} ids)"


class Header:
    """What ``read_header`` found."""

    def __init__(self, order: str, pipe: bool) -> None:
        self.order, self.pipe = order, pipe
        self.events: list[RecordedEvent] = []
        self.start, self.end = 16, -1
        self.problems: list[str] = []


def byte_order(head: bytes, what: str) -> str:
    """ "<" or ">" of a recording by its first eight bytes.

    Raises:
        FormatError: it is none of perf.
    """
    if head == _MAGIC:
        return "<"
    if head == _MAGIC[::-1]:
        return ">"
    if head in (_OLD, _OLD[::-1]):
        raise FormatError(what, "written by a perf before Linux 2.6.33", 0, hint="no perf of the last ten years reads these files reliably")
    raise FormatError(what, "not a perf.data file", 0)


def read_header(data: Any, what: str, features: Callable[[str], Features]) -> tuple[Header, Features]:
    """The header of a recording, its events, and its feature sections.

    Args:
        data: the whole file, or for a pipe at least its first 16 bytes.
        what: what to call it.
        features: makes the empty ``Features`` for a byte order.

    Raises:
        FormatError: it is no recording, or its header cannot be true.
    """
    if len(data) < 16:
        raise FormatError(what, "the file is empty" if not len(data) else "not a perf.data file (too short)", 0)
    order = byte_order(bytes(data[:8]), what)
    (size,) = unpack_from(order + "Q", data, 8)
    if size == 16:
        return Header(order, True), features(order)
    if size < 104 or len(data) < 104:
        raise FormatError(what, f"a header of {min(size, len(data))} bytes", 8)
    (attr_size,) = unpack_from(order + "Q", data, 16)
    attr_at, attrs, start, length = unpack_from(order + "4Q", data, 24)
    header, found = Header(order, False), features(order)
    if not 80 <= attr_size <= 4096 or attrs % attr_size or attrs // attr_size > _MAX_EVENTS or attr_at + attrs > len(data):
        raise FormatError(what, "its table of events is not whole", 16)
    for place in range(attr_at, attr_at + attrs, attr_size):
        ids_at, ids_size = unpack_from(order + "QQ", data, place + attr_size - 16)
        if ids_at + ids_size > len(data) or ids_size > 8 * _MAX_IDS:
            raise FormatError(what, "the identifiers of an event lie outside of the file", place)
        ids = unpack_from(f"{order}{ids_size // 8}Q", data, ids_at)
        fields, flags = read_attribute(data, place, attr_size - 16, order)
        header.events.append(RecordedEvent("", ids, fields, flags, order))
    if start > len(data):
        raise FormatError(what, "its records lie outside of the file (truncated?)", 40)
    header.start, header.end = start, start + length
    if header.end > len(data) or not length:
        # perf writes the length when it ends; a recording that was killed has 0
        header.problems.append("the recording was not ended: it is read as far as it goes")
        header.end = len(data)
        return header, found
    place = header.end
    for number in _bits(bytes(data[72:104]), order):
        if place + 16 > len(data):
            header.problems.append("the table of features is not whole")
            break
        at, size = unpack_from(order + "QQ", data, place)
        place += 16
        if at + size > len(data) or size > _MAX_FEATURE:
            header.problems.append(f"the section of feature {number} lies outside of the file")
        else:
            found.add(number, memoryview(data)[at : at + size])
    return header, found


def _bits(data: bytes, order: str) -> Iterator[int]:
    # an array of unsigned longs of 64 bits
    for index, word in enumerate(unpack_from(order + "4Q", data)):
        for bit in range(64):
            if word >> bit & 1:
                yield 64 * index + bit


def _registers(mask: int, machine: str) -> tuple[str, ...]:
    from ..abi.arch import for_machine

    names: dict[int, str] = {}
    if mask:
        try:
            names = {number: name for name, number in for_machine(machine).perf_registers.items()}
        except HarkenError:  # a machine that is not known: registers by number
            names = {}
    return tuple([names.get(bit, f"r{bit}") for bit in range(64) if mask >> bit & 1])


def read_whole(fd: int, size: int) -> Any:
    """A file of some MiB: memory in large pages, which takes a tenth of the time of getting it page by page.

    It is not the mapped file: what another process cuts off must not end this one.
    """
    import mmap
    import os

    if size < _LARGE:
        return read(fd, size)
    data = mmap.mmap(-1, size + -size % _PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # else it would not begin with a large page
    try:
        data.resize(size)
        data.madvise(mmap.MADV_HUGEPAGE)
    except (OSError, SystemError, ValueError, AttributeError):
        pass
    if len(data) != size:
        return read(fd, size)
    place = 0
    with memoryview(data) as room:
        while place < size:
            part = os.readv(fd, [room[place:]])
            if not part:
                break
            place += part
    return data if place == size else data[:place]


def read(fd: int, size: int) -> bytes:
    """The next bytes of a file; less only at its end."""
    import os

    parts: list[bytes] = []
    while size > 0:
        part = os.read(fd, size)
        if not part:
            break
        parts.append(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
