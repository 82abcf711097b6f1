"""Histograms of the kernel's triggers as tables and as plots.

Example:
    >>> from harken.formats.event_histogram import parse_histograms
    >>> text = "# trigger info: hist:keys=comm,us.log2:vals=hitcount:sort=hitcount:size=64 [active]\\n\\n"
    >>> text += "{ comm: cat  , us: ~ 2^3  } hitcount:          2\\n{ comm: cat  , us: ~ 2^5  } hitcount:          8\\n"
    >>> found = parse_histograms(text)[0]
    >>> print(table_text(found), end="")
    COMM  US        HITCOUNT
    cat   [5, 8]           2
    cat   [17, 32]         8
    >>> print(plot_text(found), end="")
    cat
      [5, 8]             2 |@@@@@@@@@@@@@                                       |
      [9, 16]            0 |                                                    |
      [17, 32]           8 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|
"""

from __future__ import annotations

from .histogram import BAR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..formats.event_histogram import EventHistogram, HistogramRow, Key

__all__ = ("plot_text", "summary_text", "table_text")

_GAPS = 64  # empty ranges that are drawn between two that are not


def _titles(found: EventHistogram) -> list[str]:
    return [name.partition(".")[0].upper() for name in found.keys] + [name.upper() for name in found.values]


def _number(value: int | float) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def table_text(found: EventHistogram, top: int = 0) -> str:
    """A table: keys to the left, numbers to the right; stacks below their row.

    Args:
        top: only so many rows, the last ones (the kernel sorts upwards); 0: all.
    """
    rows = found.rows[-top:] if top else found.rows
    cells: list[list[str]] = []
    for row in rows:
        keys = ["(stack)" if "\n" in key.text else key.text for key in row.keys]
        cells.append(keys + [_number(value) for value in row.values])
    titles = _titles(found)
    widths = [max([len(title), *[len(line[at]) for line in cells if at < len(line)]]) for at, title in enumerate(titles)]
    left = len(found.keys)
    lines = [_line(titles, widths, left)]
    for row, line in zip(rows, cells):
        lines.append(_line(line, widths, left))
        for key in row.keys:
            if "\n" in key.text:
                lines += ["    " + function for function in key.text.split("\n")]
        if row.saved:
            lines.append("    " + "  ".join([f"{name}: {value}" for name, value in row.saved]))
    return "".join([line + "\n" for line in lines])


def _line(cells: Sequence[str], widths: Sequence[int], left: int) -> str:
    parts = [f"{cell:<{width}}" if at < left else f"{cell:>{width}}" for at, (cell, width) in enumerate(zip(cells, widths))]
    return "  ".join(parts).rstrip()


def plot_text(found: EventHistogram, value: str = "", top: int = 0) -> str:
    """Bars: ranges in their order with the empty ones between, one block per other keys; other keys by size.

    Args:
        value: the value that is drawn; the hit count if there is none of this name.
    """
    place = found.values.index(value) if value in found.values else 0
    ranged = next((at for at, name in enumerate(found.keys) if name.partition(".")[2].partition("=")[0] in ("log2", "buckets")), None)
    rows = found.rows[-top:] if top else found.rows
    if ranged is None:
        labels = [", ".join([key.text.partition("\n")[0] for key in row.keys]) for row in rows]
        return "".join(_bars(labels, [row.values[place] for row in rows], ""))
    blocks: dict[tuple[str, ...], list[HistogramRow]] = {}
    for row in rows:
        blocks.setdefault(tuple([key.text for at, key in enumerate(row.keys) if at != ranged]), []).append(row)
    lines: list[str] = []
    log2 = ".log2" in found.keys[ranged]
    for names, block in blocks.items():
        indent = ""
        if names:
            lines.append(", ".join([name.partition("\n")[0] for name in names]) + "\n")
            indent = "  "
        block.sort(key=lambda row: row.keys[ranged].number or 0)
        ranges: list[tuple[str, int | float]] = []
        before: Key | None = None
        for row in block:
            key = row.keys[ranged]
            if before is not None:
                ranges += [(text, 0) for text in _between(before, key, log2)]
            ranges.append((key.text, row.values[place]))
            before = key
        lines += _bars([label for label, _ in ranges], [count for _, count in ranges], indent)
    return "".join(lines)


def _between(before: Key, after: Key, log2: bool) -> list[str]:
    """The empty ranges between two; none if one is not known or they are too many."""
    if before.last is None or before.number is None or after.number is None:
        return []
    found: list[str] = []
    first, last = before.last + 1, before.last * 2 if log2 else before.last + 1 + before.last - before.number
    while first < after.number:
        if len(found) >= _GAPS:
            return ["..."]
        found.append(f"[{first}, {last}]" if first < last else f"{last}")
        first, last = last + 1, last * 2 if log2 else last + 1 + last - first
    return found


def _bars(labels: Sequence[str], counts: Sequence[int | float], indent: str) -> list[str]:
    most = max(counts, default=0)
    width = max([14 - len(indent), *[len(label) for label in labels]])
    lines = []
    for label, count in zip(labels, counts):
        bar = "@" * int(count * BAR / most) if most else ""
        lines.append(f"{indent}{label:<{width}}{_number(count):>8} |{bar:<{BAR}}|\n")
    return lines


def summary_text(found: EventHistogram) -> str:
    """How many hits are in it, and how many were not counted."""
    text = f"{found.hits or found.total} hits in {len(found)} rows"
    return text + (f", {found.dropped} dropped (a larger size keeps them)" if found.dropped else "")
