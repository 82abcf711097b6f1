"""Writes ``trace.dat``: version 6 and version 7, the latter plain or compressed (``formats.trace_dat_layout`` describes both).

``write_trace`` makes a file from its parts; recordings, ``convert``, ``split`` and ``restore`` all end there.  Pages come as iterators of
buffers and are never in memory as a whole.

``Growing`` makes a file to record into.  At every moment it is a valid v7 file that trace-cmd and KernelShark read: everything but the
pages stands in it before the first record is taken, each CPU's pages have a region of their own in the (sparse) file, and the table
of their sizes is updated as they grow.  Whoever is killed while recording leaves a readable recording.

``Parts.of`` takes the parts out of an existing file.
"""

from __future__ import annotations

import os
import struct

from ..base.errors import FormatError
from ..base.record import Record
from . import trace_dat_layout as layout
from .trace_dat_layout import MAGIC
from .trace_dat_output import Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from .trace_dat import TraceFile

    Pages = Callable[[], Iterable[Any]]

__all__ = ("Parts", "CpuSource", "BufferSource", "Growing", "sources_of", "write_trace")

_CHUNK_PAGES = 10  # as trace-cmd compresses; a reader expands a whole chunk to get at one page
_TABLES = frozenset((layout.BUFFER, layout.CPUCOUNT, layout.DONE, *range(layout.STRINGS, layout.BUFFER_TEXT + 4)))

#: What trace-cmd calls the sections.
_DESCRIPTIONS = {
    layout.HEADER_INFO: "headers",
    layout.FTRACE_EVENTS: "ftrace events",
    layout.EVENT_FORMATS: "events format",
    layout.KALLSYMS: "kallsyms",
    layout.PRINTK: "printk",
    layout.CMDLINES: "command lines",
    0: "options",
    layout.BUFFER: "buffer flyrecord ",
    layout.BUFFER_TEXT: "buffer latency ",
    layout.STRINGS: "strings",
}


class CpuSource(Record):
    """A CPU's pages: ``pages()`` iterates over buffers of ``size`` bytes in all."""

    cpu: int
    size: int
    pages: Pages


class BufferSource(Record):
    """A ring buffer: ``text`` is the text of a latency tracer in place of pages."""

    name: str
    clock: str
    page_size: int
    cpus: tuple[CpuSource, ...] = ()
    text: bytes | None = None


class Parts(Record):
    """All of a file but its buffers.

    ``ftrace_formats`` and ``event_formats`` (category, formats) are format files; ``options`` are (id, data) without those that a
    writer makes by itself (places of sections, buffers, the number of CPUs).
    """

    header_page: bytes
    header_event: bytes
    ftrace_formats: tuple[bytes, ...] = ()
    event_formats: tuple[tuple[str, tuple[bytes, ...]], ...] = ()
    kallsyms: bytes = b""
    printk: bytes = b""
    cmdlines: bytes = b""
    options: tuple[tuple[int, bytes], ...] = ()
    cpus: int = 1
    order: str = "<"
    long_size: int = 8
    page_size: int = 4096

    @staticmethod
    def of(trace: TraceFile) -> Parts:
        """The parts of a recording."""
        kept = []
        for option in trace.options:
            if option.id not in _TABLES:
                kept.append((option.id, option.data))
        return Parts(
            trace.header_page.encode("utf-8", "surrogateescape"),
            trace.header_event.encode("utf-8", "surrogateescape"),
            tuple(bytes(text) for text in trace.ftrace_formats),
            tuple((category, tuple(bytes(text) for text in group)) for category, group in trace.event_formats),
            trace.kallsyms,
            trace.printk_formats.encode("utf-8", "surrogateescape"),
            trace.cmdlines.encode("utf-8", "surrogateescape"),
            tuple(kept),
            trace.cpus,
            trace.order,
            trace.long_size,
            trace.page_size,
        )

    def body(self, number: int) -> bytes:
        """The body of a section."""
        u32, u64 = struct.Struct(self.order + "I").pack, struct.Struct(self.order + "Q").pack
        if number == layout.HEADER_INFO:
            return b"".join(
                (
                    b"header_page\0",
                    u64(len(self.header_page)),
                    self.header_page,
                    b"header_event\0",
                    u64(len(self.header_event)),
                    self.header_event,
                )
            )
        if number == layout.FTRACE_EVENTS:
            return u32(len(self.ftrace_formats)) + b"".join([u64(len(text)) + text for text in self.ftrace_formats])
        if number == layout.EVENT_FORMATS:
            pieces = [u32(len(self.event_formats))]
            for category, group in self.event_formats:
                pieces += [category.encode("utf-8", "surrogateescape"), b"\0", u32(len(group))]
                pieces += [u64(len(text)) + text for text in group]
            return b"".join(pieces)
        if number == layout.KALLSYMS:
            return u32(len(self.kallsyms)) + self.kallsyms
        if number == layout.PRINTK:
            return u32(len(self.printk)) + self.printk
        return u64(len(self.cmdlines)) + self.cmdlines


_HEAD = (layout.HEADER_INFO, layout.FTRACE_EVENTS, layout.EVENT_FORMATS, layout.KALLSYMS, layout.PRINTK)


def sources_of(trace: TraceFile, name: str) -> BufferSource:
    """A buffer of a recording as a source for another file."""
    found = trace.buffer(name)
    if found is None:
        raise FormatError(trace.name, f"no buffer {name!r}")
    if found.text is not None:
        return BufferSource(name, found.clock, found.page_size, text=trace.text(name))
    cpus = []
    for place in found.cpus:
        whole = trace.size(place.cpu, name) // found.page_size * found.page_size
        if whole or not found.compressed:
            cpus.append(CpuSource(place.cpu, whole, _pages_of(trace, place.cpu, name, whole)))
    return BufferSource(name, found.clock, found.page_size, tuple(cpus))


def _pages_of(trace: TraceFile, cpu: int, name: str, size: int) -> Pages:
    def pages() -> Iterable[Any]:
        left = size
        for run in trace.chunks(cpu, name):
            yield run[:left]
            left -= len(run)
            if left <= 0:
                return

    return pages


def write_trace(
    fd: int, parts: Parts, buffers: Sequence[BufferSource], version: int = 7, compression: str = "none"
) -> list[tuple[str, int, int, int, int]]:
    """Writes a file to an empty, seekable descriptor.

    Args:
        buffers: the top one ("") first, if there is one.
        compression: "none", "zlib" or "zstd"; version 6 knows none.

    Returns:
        (buffer, CPU, offset in the file, stored size, size) of each CPU's data.

    Raises:
        FormatError: an unknown algorithm.
        UsageError: it cannot be written here.
        OSError: the file cannot be written.
    """
    if version == 6:
        return _write_v6(fd, parts, buffers)
    if not any(not buffer.name for buffer in buffers):  # readers expect a top buffer
        buffers = [BufferSource("", buffers[0].clock if buffers else "local", parts.page_size), *buffers]
    return _write_v7(fd, parts, buffers, compression)


def _initial(parts: Parts, version: int) -> bytes:
    head = MAGIC + b"%d\0" % version + bytes((parts.order == ">", parts.long_size))
    return head + struct.pack(parts.order + "I", parts.page_size)


def _write_v6(fd: int, parts: Parts, buffers: Sequence[BufferSource]) -> list[tuple[str, int, int, int, int]]:
    out = Output(fd, parts.order)
    out.write(_initial(parts, 6))
    for number in (*_HEAD, layout.CMDLINES):
        out.write(parts.body(number))
    out.u32(parts.cpus)
    top = next((buffer for buffer in buffers if not buffer.name), None) or BufferSource("", "local", parts.page_size)
    others = [buffer for buffer in buffers if buffer.name]
    out.write(b"options  \0")
    for number, data in parts.options:
        out.option(number, data)
    places = []
    for buffer in others:
        places.append(out.at + 6)
        out.option(layout.BUFFER, bytes(8) + buffer.name.encode("utf-8", "surrogateescape") + b"\0")
    out.u16(layout.DONE)
    written = _buffer_v6(out, top, parts)
    for place, buffer in zip(places, others):
        out.patch(place, struct.pack(parts.order + "Q", out.at))
        written += _buffer_v6(out, buffer, parts)
    out.close()
    return written


def _buffer_v6(out: Output, buffer: BufferSource, parts: Parts) -> list[tuple[str, int, int, int, int]]:
    if buffer.text is not None:
        out.write(b"latency  \0")
        out.write(buffer.text)
        return []
    out.write(b"flyrecord\0")
    table = out.at
    clock = b"[%s]" % (buffer.clock or "local").encode()
    by_cpu = {source.cpu: source for source in buffer.cpus}
    out.write(bytes(16 * parts.cpus))
    out.u64(len(clock))
    out.write(clock)
    out.align(buffer.page_size)
    written = []
    entries = []
    for cpu in range(parts.cpus):
        source = by_cpu.get(cpu)
        start = out.at
        size = _copy(out, source) if source is not None else 0
        out.align(buffer.page_size)
        entries.append(struct.pack(parts.order + "QQ", start, size))
        written.append((buffer.name, cpu, start, size, size))
    out.patch(table, b"".join(entries))
    return written


def _copy(out: Output, source: CpuSource) -> int:
    size = 0
    for run in source.pages():
        out.write(run)
        size += len(run)
    return size


class _Sections:
    """Version 7: sections with their headers, the table of strings and the chain of options."""

    def __init__(self, out: Output, compression: str) -> None:
        self.out = out
        self.strings = bytearray()
        self.codec: Any = None
        if compression != "none":
            from .trace_dat_compress import codec

            self.codec = codec(compression)
        self.next_options = out.at

    def string(self, text: str) -> int:
        at = len(self.strings)
        self.strings += text.encode("utf-8", "surrogateescape") + b"\0"
        return at

    def header(self, number: int, size: int, compressed: bool = False, name: str = "") -> int:
        at = self.out.at
        description = self.string(_DESCRIPTIONS[number] + name)
        self.out.write(struct.pack(self.out.order + "HHIQ", number, compressed, description, size))
        return at

    def add(self, number: int, body: bytes) -> int:
        """Writes a section; returns its place."""
        if self.codec is None or number == 0:
            at = self.header(number, len(body))
            self.out.write(body)
            return at
        packed = self.codec.compress(body)
        at = self.header(number, len(packed) + 8, True)
        self.out.u32(len(packed))
        self.out.u32(len(body))
        self.out.write(packed)
        return at

    def options(self, options: Iterable[tuple[int, bytes]]) -> None:
        """Writes a section of options and hangs it into the chain."""
        pack = struct.Struct(self.out.order + "HI").pack
        body = b"".join([pack(number, len(data)) + data for number, data in options]) + pack(layout.DONE, 8)
        at = self.add(0, body + bytes(8))
        self.out.patch(self.next_options, struct.pack(self.out.order + "Q", at))
        self.next_options = self.out.at - 8


def _start_v7(fd: int, parts: Parts, compression: str) -> tuple[Output, _Sections]:
    out = Output(fd, parts.order)
    out.write(_initial(parts, 7))
    version = ""
    if compression != "none":
        from .trace_dat_compress import codec

        version = codec(compression).version
    out.write(compression.encode() + b"\0" + version.encode() + b"\0")
    sections = _Sections(out, compression)
    out.u64(0)
    return out, sections


def _buffer_option(buffer: BufferSource, order: str, at: int, places: Iterable[tuple[int, int, int]]) -> tuple[int, bytes]:
    entries = [struct.pack(order + "IQQ", cpu, offset, size) for cpu, offset, size in places]
    head = struct.pack(order + "Q", at) + b"\0".join((buffer.name.encode("utf-8", "surrogateescape"), buffer.clock.encode(), b""))
    return layout.BUFFER, head + struct.pack(order + "II", buffer.page_size, len(entries)) + b"".join(entries)


def _write_v7(fd: int, parts: Parts, buffers: Sequence[BufferSource], compression: str) -> list[tuple[str, int, int, int, int]]:
    out, sections = _start_v7(fd, parts, compression)
    places = [(number, sections.add(number, parts.body(number))) for number in (*_HEAD, layout.CMDLINES)]
    options = [(number, struct.pack(parts.order + "Q", at)) for number, at in places]
    sections.options([*options, *parts.options, (layout.CPUCOUNT, struct.pack(parts.order + "I", parts.cpus))])
    written = []
    for buffer in buffers:
        if buffer.text is not None:
            at = sections.header(layout.BUFFER_TEXT, 0, sections.codec is not None, buffer.name)
            start = out.at
            if sections.codec is None:
                out.write(buffer.text)
            else:
                _compress(out, [buffer.text], sections.codec, _CHUNK_PAGES * buffer.page_size)
            out.patch(at + 8, struct.pack(parts.order + "Q", out.at - start))
            head = struct.pack(parts.order + "Q", at) + b"\0".join((buffer.name.encode(), buffer.clock.encode(), b""))
            sections.options([(layout.BUFFER_TEXT, head)])
            continue
        at = sections.header(layout.BUFFER, 0, sections.codec is not None, buffer.name)
        start = out.at
        table = []
        for source in buffer.cpus:
            out.align(buffer.page_size)
            place = out.at
            if not source.size:  # trace-cmd leaves CPUs without records out of the table
                written.append((buffer.name, source.cpu, place, 0, 0))
                continue
            if sections.codec is None:
                size = stored = _copy(out, source)
            else:
                size, stored = _compress(out, source.pages(), sections.codec, _CHUNK_PAGES * buffer.page_size)
            table.append((source.cpu, place, stored))
            written.append((buffer.name, source.cpu, place, stored, size))
        out.patch(at + 8, struct.pack(parts.order + "Q", out.at - start))
        sections.options([_buffer_option(buffer, parts.order, at, table)])
    _write_strings(out, sections)
    out.close()
    return written


def _write_strings(out: Output, sections: _Sections) -> None:
    sections.string(_DESCRIPTIONS[layout.STRINGS])
    body = bytes(sections.strings)
    at = out.at
    out.write(struct.pack(out.order + "HHIQ", layout.STRINGS, 0, len(body) - len(_DESCRIPTIONS[layout.STRINGS]) - 1, 0))
    out.write(body)
    out.patch(at + 8, struct.pack(out.order + "Q", len(body)))


def _compress(out: Output, runs: Iterable[Any], codec: Any, chunk: int) -> tuple[int, int]:
    """Writes chunks; returns (size, stored size without the number of chunks, as trace-cmd counts)."""
    count_at = out.at
    out.u32(0)
    start = out.at
    count = size = 0
    rest = b""
    for run in runs:
        size += len(run)
        data = memoryview(rest + bytes(run)) if rest else memoryview(run)
        whole = len(data) // chunk * chunk
        for at in range(0, whole, chunk):
            _chunk(out, codec, bytes(data[at : at + chunk]))
            count += 1
        rest = bytes(data[whole:])
    if rest:
        _chunk(out, codec, rest)
        count += 1
    out.patch(count_at, struct.pack(out.order + "I", count))
    return size, out.at - start


def _chunk(out: Output, codec: Any, data: bytes) -> None:
    packed = codec.compress(data)
    out.write(struct.pack(out.order + "II", len(packed), len(data)) + packed)


class Growing:
    """A v7 file that is complete at every moment of its recording.

    Regions lie far apart in a sparse file; the last size in the table says how much of each is there.
    """

    def __init__(self, fd: int, parts: Parts, buffers: Sequence[tuple[str, str, int, Sequence[int]]], comm_room: int = 1 << 16) -> None:
        """
        Args:
            fd: an empty regular file, open for reading and writing.
            buffers: (name, clock, page size, CPUs) of each.
            comm_room: bytes that are kept free for ``update_cmdlines``.

        Raises:
            OSError: the file system has no sparse files, or no room for what is not sparse.
        """
        self.fd = fd
        self.order = parts.order
        if not any(not buffer[0] for buffer in buffers):  # readers expect a top buffer
            buffers = [("", buffers[0][1] if buffers else "local", parts.page_size, ()), *buffers]
        out, sections = _start_v7(fd, parts, "none")
        places = [(number, sections.add(number, parts.body(number))) for number in _HEAD]
        comms = parts.body(layout.CMDLINES)
        self._comm_room = max(comm_room, len(comms))
        places.append((layout.CMDLINES, sections.header(layout.CMDLINES, self._comm_room)))
        self._comms_at = out.at
        out.write(comms.ljust(self._comm_room, b"\0"))
        sections.options(
            [
                *((number, struct.pack(parts.order + "Q", at)) for number, at in places),
                *parts.options,
                (layout.CPUCOUNT, struct.pack(parts.order + "I", parts.cpus)),
            ]
        )
        streams = sum(len(cpus) for _, _, _, cpus in buffers)
        tables: list[tuple[tuple[str, int], int]] = []
        options_places = []
        for name, clock, page_size, cpus in buffers:
            number, body = _buffer_option(BufferSource(name, clock, page_size), parts.order, 0, [(cpu, 0, 0) for cpu in cpus])
            sections.options([(number, body)])
            start = out.at - 14 - len(body)  # before the DONE option
            options_places.append(start)
            entries = out.at - 14 - 20 * len(cpus)
            tables += [((name, cpu), entries + 20 * index + 4) for index, cpu in enumerate(cpus)]
        for name, _, _, _ in buffers:
            sections.string(_DESCRIPTIONS[layout.BUFFER] + name)
        _write_strings(out, sections)
        alignment = max([4096, *(page_size for _, _, page_size, _ in buffers)])
        at = out.at
        self.room = _spread(fd, at + alignment, streams + len(buffers), alignment)
        self.places: dict[tuple[str, int], int] = {}
        tables_by_key = dict(tables)
        for (name, _, _, cpus), option in zip(buffers, options_places):
            description = bytes(sections.strings).find((_DESCRIPTIONS[layout.BUFFER] + name).encode("utf-8", "surrogateescape") + b"\0")
            first = (at + 16 + alignment - 1) // alignment * alignment
            size = first - at - 16 + self.room * len(cpus)
            out.patch(at, struct.pack(parts.order + "HHIQ", layout.BUFFER, 0, max(description, 0), size))
            out.patch(option, struct.pack(parts.order + "Q", at))
            for index, cpu in enumerate(cpus):
                self.places[name, cpu] = first + index * self.room
                out.patch(tables_by_key[name, cpu], struct.pack(parts.order + "Q", first + index * self.room))
            at = first + self.room * len(cpus)
        self._sizes_at = tables_by_key
        out.close()

    def update(self, buffer: str, cpu: int, size: int, start: int = -1) -> None:
        """Says how many bytes of a CPU's region are there now.

        Args:
            start: where they begin, if not at the region's beginning (``places``).
        """
        if start < 0:
            start = self.places[buffer, cpu]
        os.pwrite(self.fd, struct.pack(self.order + "QQ", start, size), self._sizes_at[buffer, cpu])

    def update_cmdlines(self, text: bytes) -> None:
        """Replaces the names of tasks (cut at a line's end if there is no room)."""
        room = self._comm_room - 8
        if len(text) > room:
            text = text[: text.rfind(b"\n", 0, room) + 1]
        os.pwrite(self.fd, text, self._comms_at + 8)
        os.pwrite(self.fd, struct.pack(self.order + "Q", len(text)), self._comms_at)


def _spread(fd: int, start: int, streams: int, alignment: int) -> int:
    """The distance between regions: as far as this file system's files reach."""
    for bits in (43, 42, 40, 38, 36, 34):  # 8 TiB: ext4 takes twice as much, and it can still be mapped; ... 16 GiB
        total = (1 << bits) - (1 << bits - 4)
        room = (total - start) // max(streams, 1) // alignment * alignment
        if room < 1 << 26:
            break
        try:
            os.ftruncate(fd, start + total)
        except OSError:
            continue
        os.ftruncate(fd, start)
        return room
    raise OSError(27, "no room for sparse regions in a file here")
