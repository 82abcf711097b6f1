"""The first bytes of a ``trace.dat``: which version it is, and of which machine; then the version's own reader finds the parts."""

from __future__ import annotations

from ..base.errors import FormatError
from .trace_dat_layout import MAGIC, CpuData, Cursor, Layout
from .trace_dat_v6 import read_v6
from .trace_dat_v7 import read_v7

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

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
    return _disjoint(_single(read(cursor, flags[1], page_size), what), len(data), what)


def _single(found: Layout, what: str) -> Layout:
    """The layout with one buffer of a name and one place of a CPU in it: pages are asked for by these, and thousands of others would have
    the pages of the first one, too.
    """
    problems = list(found.problems)
    buffers = _first_of_each(found.buffers, [buffer.name for buffer in found.buffers])
    for at, buffer in enumerate(buffers):
        cpus = _first_of_each(buffer.cpus, [place.cpu for place in buffer.cpus])
        if len(cpus) < len(buffer.cpus):
            problems.append(f"{what}: buffer {buffer.name!r} has CPUs again, which are left out: {len(buffer.cpus) - len(cpus)}")
            buffers[at] = buffer.replace(cpus=tuple(cpus))
    if len(buffers) < len(found.buffers):
        problems.append(f"{what}: buffers whose name another one has are left out: {len(found.buffers) - len(buffers)}")
    return found.replace(buffers=tuple(buffers), problems=tuple(problems))


def _first_of_each(things: Iterable[Any], keys: Iterable[Any]) -> list[Any]:
    first: dict[Any, Any] = {}
    for key, thing in zip(keys, things):
        first.setdefault(key, thing)
    return list(first.values())


def _disjoint(found: Layout, size: int, what: str) -> Layout:
    """The layout without pages that are others', too: else the same megabyte could be that of thousands of CPUs."""
    places = [(place.offset, place.size, at, place.cpu) for at, buffer in enumerate(found.buffers) for place in buffer.cpus if place.size]
    end, within, texts = 0, set(), 0
    for offset, length, at, cpu in sorted(places):
        if offset < end:
            within.add((at, cpu))
        else:
            end = offset + length
    if not within and not any(buffer.text for buffer in found.buffers):
        return found
    buffers = []
    for at, buffer in enumerate(found.buffers):
        texts += buffer.text[1] if buffer.text is not None else 0
        if texts > 2 * size:
            break
        cpus = [CpuData(place.cpu, place.offset, 0) if (at, place.cpu) in within else place for place in buffer.cpus]
        buffers.append(buffer.replace(cpus=tuple(cpus)))
    problems = list(found.problems)
    if within:
        problems.append(f"{what}: the pages of {len(within)} CPUs lie within those of others, and are left out")
    if len(buffers) < len(found.buffers):
        problems.append(f"{what}: {len(found.buffers) - len(buffers)} buffers are left out, as their texts are larger than the file")
    return found.replace(buffers=tuple(buffers), problems=tuple(problems))
