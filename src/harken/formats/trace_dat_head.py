"""The first bytes of a ``trace.dat``: which version it is, and of which machine; then the version's own reader finds the parts."""

from __future__ import annotations

from ..base.errors import FormatError
from .trace_dat_layout import MAGIC, CpuData, Cursor, Layout
from .trace_dat_v6 import read_v6
from .trace_dat_v7 import read_v7

__all__ = ("read_layout",)


def read_layout(data: memoryview, what: str = "trace.dat") -> Layout:
    """Finds the parts of a file.

    Raises:
        FormatError: it is no trace.dat, or one that ends before its records have a meaning.
    """
    cursor = Cursor(data, "<", what=what)
    if bytes(data[: len(MAGIC)]) != MAGIC:
        hint = "it does not begin with trace-cmd's magic bytes"
        if bytes(data[:8]) in (b"PERFILE2", b"2ELIFREP"):
            hint = "it is a recording of perf: 'perf report' and 'perf script' show it, 'harken symbolize --recording' names its samples"
        raise FormatError(what, "not a trace.dat file", 0, hint=hint)
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
    read = read_v6 if text == "6" else read_v7
    return _disjoint(read(cursor, flags[1], page_size), len(data), what)


def _disjoint(found: Layout, size: int, what: str) -> Layout:
    """The layout without pages that are others', too: else the same megabyte could be that of thousands of CPUs."""
    pages = [(place, at) for at, buffer in enumerate(found.buffers) for place in buffer.cpus if place.size]
    places = sorted([(place.offset, place.size, at, place.cpu) for place, at in pages])
    end, kept, texts = 0, set(), 0
    for offset, length, at, cpu in places:
        if offset >= end:
            kept.add((at, cpu))
            end = offset + length
    if len(kept) == len(places) and not any(buffer.text for buffer in found.buffers):
        return found
    buffers = []
    for at, buffer in enumerate(found.buffers):
        texts += buffer.text[1] if buffer.text is not None else 0
        if texts > 2 * size:
            break
        cpus = tuple([place if not place.size or (at, place.cpu) in kept else CpuData(place.cpu, place.offset, 0) for place in buffer.cpus])
        buffers.append(buffer.replace(cpus=cpus))
    problems = list(found.problems)
    if len(kept) < len(places):
        problems.append(f"{what}: the pages of {len(places) - len(kept)} CPUs lie within those of others, and are left out")
    if len(buffers) < len(found.buffers):
        problems.append(f"{what}: {len(found.buffers) - len(buffers)} buffers are left out, as their texts are larger than the file")
    return found.replace(buffers=tuple(buffers), problems=tuple(problems))
