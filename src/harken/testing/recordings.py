"""What tests ask of a recording of ftrace (``trace.dat``)."""

from __future__ import annotations

import os

from ..formats.ring_page import parse_layout, walk
from ..formats.trace_dat import open_trace

__all__ = ("events_of",)


def events_of(path: str | os.PathLike[str], buffer: str = "", killed: bool = False) -> dict[str, int]:
    """How many records of each event a recording has, by name; by number, if it does not describe the event.

    Args:
        buffer: an instance that was recorded with it; "" for the main buffer.
        killed: whether its recorder was killed, so that it need not be whole.

    Raises:
        AssertionError: there is no such buffer, or something of the file is damaged.
        FormatError: its pages cannot be read.
        OSError: it cannot be opened.
    """
    counts: dict[str, int] = {}
    with open_trace(os.fspath(path)) as trace:
        place = trace.buffer(buffer)
        assert place is not None and (killed or not trace.problems), trace.problems
        layout = parse_layout(trace.header_page, trace.order, trace.kernel_long)
        for cpu in place.cpus:
            for chunk in trace.chunks(cpu.cpu, buffer):
                for kind in walk(bytes(chunk), place.page_size, layout).types:
                    event = trace.events.get(int(kind))
                    name = event.name if event is not None else str(kind)
                    counts[name] = counts.get(name, 0) + 1
    return counts
