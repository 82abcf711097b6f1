"""The records of one CPU of a recording, as plain numbers, for commands that look at one record after the other."""

from __future__ import annotations

from ...formats.ring_page import Records, parse_layout, walk
from .report import safe_chunks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...formats.trace_dat import TraceFile

__all__ = ("numbers_of", "records_of")


def records_of(trace: TraceFile, cpu: int, buffer: str, problems: list[str]) -> Iterator[tuple[bytes, Records]]:
    """Runs of pages with what was found in them, up to the first damage, which is added to ``problems``."""
    place = trace.buffer(buffer)
    if place is None:
        return
    layout = parse_layout(trace.header_page, trace.order, trace.kernel_long)
    for run in safe_chunks(trace, cpu, buffer, problems):
        data = bytes(run)
        yield data, walk(data, place.page_size, layout)


def numbers_of(records: Records) -> tuple[list[int], list[int], list[int]]:
    """(types, starts, sizes) of records as Python integers."""
    columns = (records.types, records.starts, records.sizes)
    types, starts, sizes = [column.tolist() if hasattr(column, "tolist") else list(column) for column in columns]
    return types, starts, sizes
