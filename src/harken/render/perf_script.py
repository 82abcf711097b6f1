"""Samples as ``perf script`` prints them: what stands before the address.

The columns are perf's (tools/perf/builtin-script.c, perf_sample__fprintf_start and process_event).

Example:
    >>> heads(("comm", "pid", "tid", "time"), {"comm": ["ls"], "pid": [7], "tid": [8], "time": [1234567890123]}, False)
    ['              ls     7/8      1234.567890: ']
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

__all__ = ("heads", "HEADS")

#: Fields that stand before the address, in perf's order.
HEADS = ("comm", "pid", "tid", "cpu", "time", "period", "event")


def heads(fields: Collection[str], columns: dict[str, list[Any]], chains: bool) -> list[str]:
    """The beginnings of samples.

    Args:
        fields: which of ``HEADS``.
        columns: their values by field; "time" in nanoseconds, "event" names padded already.
        chains: call chains follow, on lines of their own.
    """
    formats: list[str] = []
    values: list[Any] = []
    for field in HEADS:
        if field not in fields or field not in columns:
            continue
        if field == "tid" and "pid" in fields:
            continue
        if field == "comm":
            formats.append("%s " if chains else "%16s ")
        elif field == "pid" and "tid" in fields:
            formats.append("%5d/%-5d ")
            values.append(columns["pid"])
            field = "tid"
        elif field in ("pid", "tid"):
            formats.append("%5d ")
        elif field == "cpu":
            formats.append("[%03d] ")
        elif field == "time":
            formats.append("%5d.%06d: ")
            times = columns["time"]
            values += [[time // 1_000_000_000 for time in times], [time % 1_000_000_000 // 1000 for time in times]]
            continue
        elif field == "period":
            formats.append("%10d ")
        else:
            formats.append("%s: ")
        values.append(columns[field])
    return list(map("".join(formats).__mod__, zip(*values)))
