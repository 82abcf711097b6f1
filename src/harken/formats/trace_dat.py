"""``trace.dat``: recordings of ftrace as trace-cmd, KernelShark and harken write them.

``TraceFile`` reads both versions of the format, compressed ones, truncated ones, and ones from other machines (big-endian, 32 bit).  What
is not asked for is not expanded or parsed: opening a recording takes the same time whatever its size.

    >>> try:
    ...     TraceFile(b"PK\\3\\4")
    ... except FormatError as error:
    ...     print(error)
    trace.dat: not a trace.dat file at byte 0x0

``formats.trace_dat_layout`` knows where the parts are, ``formats.ring_page`` reads the pages, ``formats.trace_dat_writer`` writes.
"""

from __future__ import annotations

import struct

from ..base.errors import FormatError
from . import trace_dat_layout as layout
from .trace_dat_chunks import Chunks, check_expanded
from .trace_dat_events import Events
from .trace_dat_head import read_layout
from .trace_dat_layout import BufferPlace, CpuData, Cursor, Option
from .trace_dat_symbols import Symbols, parse_comms, parse_printk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ("TraceFile", "open_trace")

_MAX_SECTION = 64 << 20  # kallsyms is 20 MB, the formats of 2,300 events are 3 MB
_RUN = 4 << 20  # bytes of pages that are handed out at once


class TraceFile:
    """A recording.

    ``version`` 6 or 7; ``order`` "<" or ">"; ``long_size`` and ``page_size`` of the traced machine; ``compression`` (name, version);
    ``problems`` what is wrong with the file without making it useless; ``buffers`` the ring buffers, the top one ("") first.
    """

    def __init__(self, data: Any, name: str = "trace.dat") -> None:
        """
        Args:
            data: the file's bytes, or anything with the buffer protocol (an mmap).
            name: how to call it in messages.

        Raises:
            FormatError: it is no trace.dat.
        """
        self.name = name
        self.data = memoryview(data).cast("B")
        found = read_layout(self.data, name)
        self.layout = found
        self.version, self.order = found.version, found.order
        self.long_size, self.page_size = found.long_size, found.page_size
        self.compression = found.compression
        self.options = found.options
        self.buffers = found.buffers
        self.cpus = found.cpus
        self.problems: list[str] = list(found.problems)
        self._bodies: dict[int, memoryview] = {}
        self._events: Events | None = None
        self._comms: dict[int, str] | None = None
        self._symbols: Symbols | None = None
        self._printk: dict[int, str] | None = None
        self._chunks: dict[tuple[str, int], Chunks] = {}
        self._expanding = 0  # bytes that they claim
        self._by_name = {buffer.name: buffer for buffer in reversed(found.buffers)}
        self._places = {(buffer.name, place.cpu): place for buffer in reversed(found.buffers) for place in reversed(buffer.cpus)}
        self._owner: Any = None

    def close(self) -> None:
        """Lets go of the file; views into it become invalid."""
        self._bodies.clear()
        self._events = None
        self.data.release()
        if self._owner is not None:
            try:
                self._owner.close()
            except BufferError:  # somebody still holds a view
                pass
            self._owner = None

    def __enter__(self) -> TraceFile:
        return self

    def __exit__(self, *_details: object) -> None:
        self.close()

    def _codec(self) -> Any:
        if self.compression[0] in ("none", ""):
            return None
        from .trace_dat_compress import codec

        return codec(self.compression[0])

    def section(self, number: int) -> memoryview:
        """The body of a section (expanded); empty if the file has none.

        Raises:
            FormatError: it is damaged.
        """
        body = self._bodies.get(number)
        if body is None:
            place = self.layout.section(number)
            if place is None:
                return memoryview(b"")
            body = layout.expand(Cursor(self.data, self.order, what=self.name), place, self._codec(), _MAX_SECTION)
            self._bodies[number] = body
        return body

    def _cursor(self, number: int) -> Cursor:
        return Cursor(self.section(number), self.order, what=f"{self.name}: {layout.OPTION_NAMES[number].lower()}")

    @property
    def header_page(self) -> str:
        """``events/header_page``: the layout of pages."""
        cursor = self._cursor(layout.HEADER_INFO)
        cursor.expect(b"header_page\0")
        return bytes(cursor.take(cursor.u64())).decode("utf-8", "backslashreplace")

    @property
    def header_event(self) -> str:
        """``events/header_event``: the layout of record headers."""
        cursor = self._cursor(layout.HEADER_INFO)
        cursor.expect(b"header_page\0")
        cursor.take(cursor.u64())
        cursor.expect(b"header_event\0")
        return bytes(cursor.take(cursor.u64())).decode("utf-8", "backslashreplace")

    @property
    def ftrace_formats(self) -> list[memoryview]:
        """Format files of ftrace's own events (function, funcgraph_entry, ...)."""
        cursor = self._cursor(layout.FTRACE_EVENTS)
        return [cursor.take(cursor.u64()) for _ in range(layout.entries(cursor))] if cursor.left else []

    @property
    def event_formats(self) -> list[tuple[str, list[memoryview]]]:
        """(category, format files of its events)."""
        cursor = self._cursor(layout.EVENT_FORMATS)
        found, total = [], 0
        if cursor.left:
            for _ in range(layout.entries(cursor)):
                category, count = cursor.string(), layout.entries(cursor)
                total += count
                if total > layout.MAX_PARTS:
                    raise FormatError(cursor.what, f"more than {layout.MAX_PARTS} events", cursor.at)
                found.append((category, [cursor.take(cursor.u64()) for _ in range(count)]))
        return found

    @property
    def events(self) -> Events:
        """Event formats by id."""
        if self._events is None:
            texts: list[tuple[str, memoryview | bytes]] = [("ftrace", text) for text in self.ftrace_formats]
            texts += [(category, text) for category, group in self.event_formats for text in group]
            self._events = Events(texts)
        return self._events

    def _counted(self, number: int, wide: bool = False) -> bytes:
        """A section that is a size and that many bytes."""
        cursor = self._cursor(number)
        if not cursor.left:
            return b""
        size = cursor.u64() if wide else cursor.u32()
        return bytes(cursor.take(min(size, cursor.left)))

    @property
    def kallsyms(self) -> bytes:
        return self._counted(layout.KALLSYMS)

    @property
    def printk_formats(self) -> str:
        return self._counted(layout.PRINTK).decode("utf-8", "backslashreplace")

    @property
    def cmdlines(self) -> str:
        """``saved_cmdlines``: lines of "PID NAME"."""
        return self._counted(layout.CMDLINES, True).decode("utf-8", "backslashreplace")

    @property
    def symbols(self) -> Symbols:
        if self._symbols is None:
            self._symbols = Symbols(self.kallsyms)
        return self._symbols

    def symbol(self, address: int) -> str:
        """The name of the kernel symbol that an address lies in, "" if unknown."""
        return self.symbols.name(address)

    def printk(self, address: int) -> str | None:
        """The format string of trace_printk at an address."""
        if self._printk is None:
            self._printk = parse_printk(self.printk_formats)
        return self._printk.get(address)

    @property
    def comms(self) -> dict[int, str]:
        """Names of tasks by PID."""
        self._comms = found = parse_comms(self.cmdlines) if self._comms is None else self._comms
        return found

    def comm(self, pid: int) -> str:
        """The name of a task; "<...>" if the recording does not know it."""
        return self.comms.get(pid, "<...>")

    def option(self, number: int) -> bytes | None:
        """The data of the first option with an id."""
        return next((option.data for option in self.options if option.id == number), None)

    def option_text(self, number: int) -> str:
        """The same as text, "" if there is none."""
        return (self.option(number) or b"").split(b"\0", 1)[0].decode("utf-8", "backslashreplace")

    def option_list(self, number: int) -> list[Option]:
        return [option for option in self.options if option.id == number]

    @property
    def btf(self) -> bytes:
        """The kernel's types (``/sys/kernel/btf/vmlinux``), which recordings of functions' arguments have; b"" if it is not in the file."""
        return bytes(self.section(layout.BTF_FILE)) or self.option(layout.OWN_BTF) or b""

    @property
    def uname(self) -> str:
        return self.option_text(layout.UNAME)

    @property
    def written_by(self) -> str:
        """The version of the program that recorded."""
        return self.option_text(layout.VERSION)

    @property
    def clock(self) -> str:
        """The clock of the top buffer's time stamps; "" if the file does not say."""
        text = layout.chosen_clock(self.option_text(layout.TRACECLOCK))
        return next((buffer.clock for buffer in self.buffers if buffer.clock), "") or text

    @property
    def instances(self) -> tuple[str, ...]:
        """Names of the buffers beside the top one."""
        return tuple(buffer.name for buffer in self.buffers if buffer.name)

    @property
    def date_offset(self) -> int:
        """What to add to time stamps to get nanoseconds since 1970 (``record --date``); 0 if not recorded.

        The file has it in microseconds, hexadecimal.
        """
        text = self.option_text(layout.DATE)
        try:
            return int(text, 0) * 1000
        except ValueError:
            return 0

    @property
    def time_offset(self) -> int:
        """A fixed offset that was added at recording (``--ts-offset``)."""
        try:
            return int(self.option_text(layout.OFFSET) or "0", 0)
        except ValueError:
            return 0

    @property
    def trace_id(self) -> int:
        data = self.option(layout.TRACEID) or b""
        return int(struct.unpack_from(self.order + "Q", data)[0]) if len(data) >= 8 else 0

    @property
    def tsc2nsec(self) -> tuple[int, int, int] | None:
        """(multiplier, shift, offset) that turn TSC ticks into nanoseconds: (ticks * multiplier >> shift) + offset."""
        data = self.option(layout.TSC2NSEC) or b""
        return struct.unpack_from(self.order + "IIQ", data) if len(data) >= 16 else None

    @property
    def kernel_long(self) -> int:
        """Bytes of a long in the traced kernel (that of user space may differ)."""
        text = self.header_page
        place = text.find("commit;")
        size = text[text.find("size:", place) + 5 : text.find("size:", place) + 6] if place >= 0 else ""
        return int(size) if size in ("4", "8") else self.long_size

    def buffer(self, name: str = "") -> BufferPlace | None:
        """A buffer by name; the top one is ""."""
        return self._by_name.get(name)

    def place(self, cpu: int, buffer: str = "") -> CpuData | None:
        return self._places.get((buffer, cpu))

    def text(self, buffer: str = "") -> bytes | None:
        """The text of a latency tracer's recording; None if the buffer has pages."""
        found = self.buffer(buffer)
        if found is None or found.text is None:
            return None
        offset, size = found.text
        section = layout.Section(layout.BUFFER_TEXT, offset, size, found.compressed)
        if not found.compressed:
            return bytes(self.data[offset : offset + size])
        return b"".join(bytes(chunk) for chunk in self._expanded(CpuData(-1, section.offset, section.size), found))

    def size(self, cpu: int, buffer: str = "") -> int:
        """Bytes of a CPU's pages, expanded."""
        found, place = self.buffer(buffer), self.place(cpu, buffer)
        if found is None or place is None or not place.size:
            return 0
        return self._compressed(place, found).size if found.compressed else place.size

    def chunks(self, cpu: int, buffer: str = "", first: int = 0) -> Iterator[memoryview]:
        """A CPU's pages in runs of several megabytes, in the order of recording.

        Args:
            first: number of the page to start with.

        Raises:
            FormatError: a compressed run is damaged (those before it have been delivered).
        """
        found, place = self.buffer(buffer), self.place(cpu, buffer)
        if found is None or place is None:
            return
        page = found.page_size
        if not found.compressed:
            step = max(_RUN // page, 1) * page
            for at in range(place.offset + first * page, place.offset + place.size, step):
                yield self.data[at : min(at + step, place.offset + place.size)]
            return
        skip = first * page
        pending: list[memoryview] = []
        size = 0
        for chunk in self._expanded(place, found, skip):
            pending.append(chunk)
            size += len(chunk)
            if size >= _RUN and size % page == 0:
                yield pending[0] if len(pending) == 1 else memoryview(b"".join(pending))
                pending, size = [], 0
        if pending:
            yield memoryview(b"".join(pending))

    def pages(self, cpu: int, buffer: str = "", first: int = 0) -> Iterator[memoryview]:
        """A CPU's pages one by one; the last may be short in a truncated file."""
        found = self.buffer(buffer)
        page = found.page_size if found else self.page_size
        for run in self.chunks(cpu, buffer, first):
            for at in range(0, len(run), page):
                yield run[at : at + page]

    def _compressed(self, place: CpuData, found: BufferPlace) -> Chunks:
        key = (found.name, place.cpu)
        chunks = self._chunks.get(key)
        if chunks is None:  # trace-cmd does not count the number of chunks itself in the size
            cursor = Cursor(self.data, self.order, place.offset, place.offset + place.size + 4, self.name)
            chunks = self._chunks[key] = Chunks(cursor, found.page_size)
            if chunks.problem:
                self.problems.append(chunks.problem)
            self._expanding += chunks.size
        check_expanded(self.name, len(self.data), self._expanding)
        return chunks

    def _expanded(self, place: CpuData, found: BufferPlace, skip: int = 0) -> Iterator[memoryview]:
        codec = self._codec()
        if codec is None:
            raise FormatError(self.name, "compressed records in a file without compression", place.offset)
        return self._compressed(place, found).expanded(codec, skip)


def open_trace(path: str) -> TraceFile:
    """Opens a recording; its contents are mapped, not read.

    Raises:
        FormatError: it is empty or no trace.dat.
        OSError: it cannot be opened.
    """
    import mmap
    import os
    import stat

    with open(path, "rb", buffering=0) as stream:
        about = os.fstat(stream.fileno())
        try:
            owner: Any = mmap.mmap(stream.fileno(), about.st_size, mmap.MAP_PRIVATE, mmap.PROT_READ)
        except (OSError, ValueError):  # empty, a pipe, or a file system without mappings
            owner = memoryview(b"" if stat.S_ISCHR(about.st_mode) else stream.read())
            if not owner:
                raise FormatError(path, "the file is empty") from None
    try:
        trace = TraceFile(owner, path)
    except BaseException:
        if isinstance(owner, mmap.mmap):
            try:
                owner.close()
            except BufferError:
                pass
        raise
    if isinstance(owner, mmap.mmap):
        trace._owner = owner
    return trace
