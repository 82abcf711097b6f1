"""Writes ``trace.dat``: version 6 and version 7, the latter plain or compressed (``formats.trace_dat_layout`` describes both).

``write_trace`` makes a file from its parts; recordings, ``convert``, ``split`` and ``restore`` all end there.  Pages come as iterators of
buffers and are never in memory as a whole.

``trace_dat_parts.Parts`` are the parts, ``Parts.of`` takes them out of an existing file; ``trace_dat_growing`` makes a file to record into.
"""

from __future__ import annotations

import struct

from . import trace_dat_layout as layout
from .trace_dat_output import Output
from .trace_dat_parts import BufferSource, CpuSource, Parts
from .trace_dat_sections import HEAD, buffer_option, initial, own_types, start_v7, write_strings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

__all__ = ("write_trace",)

_CHUNK_PAGES = 10  # as trace-cmd compresses; a reader expands a whole chunk to get at one page


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


def _write_v6(fd: int, parts: Parts, buffers: Sequence[BufferSource]) -> list[tuple[str, int, int, int, int]]:
    out = Output(fd, parts.order)
    out.write(initial(parts, 6))
    for number in (*HEAD, layout.CMDLINES):
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


def _write_v7(fd: int, parts: Parts, buffers: Sequence[BufferSource], compression: str) -> list[tuple[str, int, int, int, int]]:
    out, sections = start_v7(fd, parts, compression)
    first: tuple[int, ...] = (*HEAD, layout.CMDLINES)
    if parts.btf and sections.codec is not None:
        first = (*first, layout.BTF_FILE)
    places = [(number, sections.add(number, parts.body(number))) for number in first]
    options = [(number, struct.pack(parts.order + "Q", at)) for number, at in places]
    sections.options(
        [*options, *parts.options, *own_types(parts, sections.codec), (layout.CPUCOUNT, struct.pack(parts.order + "I", parts.cpus))]
    )
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
        sections.options([buffer_option(buffer, parts.order, at, table)])
    write_strings(out, sections)
    out.close()
    return written


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
