"""Tables of call graphs: time per function, and who called what."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from ..analysis.function_graph_summary import Summary

__all__ = ("duration", "folded_lines", "summary_lines")


def duration(ns: float) -> str:
    """A time in the unit that suits it.

    Example:
        >>> duration(870), duration(12_345), duration(2_500_000), duration(3.2e9)
        ('870 ns', '12.345 us', '2.500 ms', '3.200 s')
    """
    for limit, divisor, unit in ((1_000, 1, "ns"), (1_000_000, 1_000, "us"), (1_000_000_000, 1_000_000, "ms")):
        if ns < limit:
            return f"{ns:.0f} ns" if divisor == 1 else f"{ns / divisor:.3f} {unit}"
    return f"{ns / 1e9:.3f} s"


def summary_lines(summary: Summary, name: Callable[[Any], str], by: str = "self_time", top: int = 30, callees: int = 3) -> Iterator[str]:
    """Lines of a table of functions, each followed by what it called most.

    Args:
        by: the column to sort by.
        top: how many functions.
        callees: how many of the functions that each called.
    """
    rows = summary.rows(by)
    yield f"{'CALLS':>9} {'TOTAL':>12} {'SELF':>12} {'AVERAGE':>12} {'LONGEST':>12}  FUNCTION\n"
    for row in rows[:top]:
        more = f"  ({row.unfinished} not returned)" if row.unfinished else ""
        yield (
            f"{row.calls:>9} {duration(row.total):>12} {duration(row.self_time):>12} {duration(row.average):>12} "
            f"{duration(row.longest):>12}  {name(row.func)}{more}\n"
        )
        for func, calls, total in summary.callees(row.func)[:callees]:
            yield f"{'':>9} {duration(total):>12} {'':>12} {'':>12} {'':>12}    > {name(func)} ({calls})\n"
    if len(rows) > top:
        yield f"... and {len(rows) - top} more functions\n"


def folded_lines(summary: Summary) -> Iterator[str]:
    """Stacks and their own time in ns, one per line, as flame graph tools take them."""
    for stack, own in sorted(summary.folded.items()):
        if own > 0:
            yield f"{stack} {own}\n"
    if summary.other_stacks:
        yield f"[other stacks] {summary.other_stacks}\n"
