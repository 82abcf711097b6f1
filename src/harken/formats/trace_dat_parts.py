"""The parts of a ``trace.dat``: what ``trace_dat_writer`` and ``trace_dat_growing`` put into a file, and where they come from."""

from __future__ import annotations

import struct

from ..base.errors import FormatError
from ..base.record import Record
from . import trace_dat_layout as layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from .trace_dat import TraceFile

    Pages = Callable[[], Iterable[Any]]

__all__ = ("BufferSource", "CpuSource", "Parts", "sources_of")

_TABLES = frozenset((layout.BUFFER, layout.CPUCOUNT, layout.DONE, layout.OWN_BTF, *range(layout.STRINGS, layout.BUFFER_TEXT + 4)))


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
    #: ``/sys/kernel/btf/vmlinux``, for the arguments of functions; not in version 6
    btf: bytes = b""

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
            trace.btf,
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
        if number == layout.BTF_FILE:
            return self.btf
        return u64(len(self.cmdlines)) + self.cmdlines


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
