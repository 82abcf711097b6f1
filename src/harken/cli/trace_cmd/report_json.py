"""A recording as JSON: one object per record and line, in the order of time.

    {"time": 12.345678901, "cpu": 1, "pid": 4711, "comm": "cat", "event": "sched:sched_switch", "fields": {...}}

``time`` is in seconds for clocks that count nanoseconds, else the clock's number.  Memory that is neither numbers nor text is in hex.
"""

from __future__ import annotations

import sys

from ...formats.event_columns import numbers_of
from ...formats.event_records import split
from ...render.ftrace import COUNTERS
from ...render.json import dump

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ...formats.event_records import EventColumns
    from ...formats.trace_dat import TraceFile
    from ...render.ftrace_batches import Batch

__all__ = ("objects", "run")

_LINES = 4096


def run(argv: list[str]) -> int:
    """Prints the records that the options of ``report`` choose; returns the exit status."""
    from .report import Report, opened
    from .report_lines import Output

    report = Report(argv)
    traces = opened(report)
    try:
        output = Output(report, traces)
        many = len(output.files) > 1 or any(trace.instances for trace in traces)
        lines: list[str] = []
        for file in output.files:
            for window in file.windows(output.problems):
                for found in objects(file.trace, window, [cpu for _, cpu in file.streams]):
                    if many:
                        found["buffer"] = file.streams[found.pop("stream")][0].strip(": ")
                    else:
                        del found["stream"]
                    lines.append(dump(found))
                    if len(lines) >= _LINES:
                        sys.stdout.write("\n".join(lines) + "\n")
                        lines.clear()
        sys.stdout.write("".join([line + "\n" for line in lines]))
        for problem in output.problems:
            print(f"WARNING: {problem}", file=sys.stderr)
        return 0
    finally:
        for trace in traces:
            trace.close()


def objects(trace: TraceFile, window: list[Batch], cpus: list[int]) -> Iterator[dict[str, Any]]:
    """The records of a window as dictionaries, in the order of time."""
    seconds = trace.clock not in COUNTERS
    rows: list[tuple[int, int, int, str, tuple[str, ...], tuple[Any, ...]]] = []
    for batch in window:
        for columns in split(batch.buffer, batch.records, trace.events, trace.order, cpus[batch.cpu]).values():
            rows += _rows(columns, batch.cpu)
    rows.sort(key=lambda row: row[:2])
    for time, stream, pid, event, names, values in rows:
        yield {
            "time": _seconds(time) if seconds else time,
            "cpu": cpus[stream],
            "pid": pid,
            "comm": trace.comm(pid),
            "event": event,
            "fields": dict(zip(names, map(_plain, values))),
            "stream": stream,
        }


def _rows(columns: EventColumns, stream: int) -> list[tuple[int, int, int, str, tuple[str, ...], tuple[Any, ...]]]:
    event = columns.event
    names = tuple(field.name for field in event.own)
    title = f"{event.category}:{event.name}"
    if numbers_of(event.field("common_pid")) != (4, 1):  # every kernel's events have it
        return [(row[0], stream, 0, title, names, row[2:]) for row in columns.rows(names)]
    return [(row[0], stream, row[2], title, names, row[3:]) for row in columns.rows(["common_pid", *names])]


def _seconds(time: int) -> float:
    return time / 1e9


def _plain(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
