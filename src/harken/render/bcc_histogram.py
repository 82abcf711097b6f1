"""Histograms as BCC's ``print_log2_hist``, ``print_linear_hist`` and ``print_json_hist`` lay them out.

A log2 histogram is a list of counts: slot 0 is not shown, slot k counts values from 2**(k-1) to 2**k - 1, slot 1 those of 0 and 1.  Columns
are wider from slot 33 on, where bounds have more than ten digits.

Example:
    >>> print("\\n".join(log2_lines([0, 2, 0, 4], "usecs")))
         usecs               : count     distribution
             0 -> 1          : 2        |********************                    |
             2 -> 3          : 0        |                                        |
             4 -> 7          : 4        |****************************************|
    >>> print("\\n".join(linear_lines([0, 3], "queue")))
         queue         : count     distribution
            0          : 0        |                                        |
            1          : 3        |****************************************|
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ("json_histogram", "linear_lines", "log2_lines", "stars", "LOG2_SLOTS", "LINEAR_SLOTS", "STARS")

#: how many slots there can be
LOG2_SLOTS, LINEAR_SLOTS = 65, 1025
#: width of a full bar
STARS = 40


def stars(value: int, most: int, width: int) -> str:
    """A bar in proportion to the largest value; a value beyond it ends in ``+``.

    >>> stars(1, 4, 8), stars(0, 4, 8), stars(9, 4, 8)
    ('**', '', '*******+')
    """
    full = min(width, width * value // most if most else width)
    bar = "*" * max(0, full)
    return bar[:-1] + "+" if value > most else bar


def log2_lines(counts: Sequence[int], title: str, strip_leading_zero: bool | None = False) -> list[str]:
    """The lines of a log2 histogram; none if nothing was counted.

    Args:
        title: what the values are, over the column of bounds.
        strip_leading_zero: leave out slots before the first that counted something.
    """
    last, most = _extent(counts)
    if last <= 32:
        header, body, width = "     %-19s : count     distribution", "%10d -> %-10d : %-8d |%-*s|", STARS
    else:
        header, body, width = "               %-29s : count     distribution", "%20d -> %-20d : %-8d |%-*s|", STARS // 2
    lines = [header % title] if last > 0 else []
    for slot in range(1, last + 1):
        count = counts[slot]
        if strip_leading_zero and not count:
            continue
        strip_leading_zero = False
        low, high = (1 << slot) >> 1, (1 << slot) - 1
        lines.append(body % (low - (low == high), high, count, width, stars(count, most, width)))
    return lines


def linear_lines(counts: Sequence[int], title: str, strip_leading_zero: bool | None = False) -> list[str]:
    """The lines of a linear histogram, one value per slot."""
    last, most = _extent(counts)
    lines = [f"     {title:<13} : count     distribution"] if last >= 0 else []
    for slot in range(last + 1):
        count = counts[slot]
        if strip_leading_zero and not count:
            continue
        strip_leading_zero = False
        lines.append(f"        {slot:<10} : {count:<8} |{stars(count, most, STARS):<{STARS}}|")
    return lines


def json_histogram(counts: Sequence[int], title: str, moment: str, section: tuple[str, Any] | None = None) -> dict[str, Any]:
    """A log2 histogram as plain data.

    Args:
        moment: when it was taken, as text.
        section: (name, value) of the part that it belongs to.

    >>> json_histogram([0, 1, 2], "bytes", "now")["data"][1]
    {'interval-start': 2, 'interval-end': 3, 'count': 2}
    """
    last = max((slot for slot, count in enumerate(counts) if count), default=0)
    data = []
    low = 0
    for slot in range(1, last + 1):
        data.append({"interval-start": low, "interval-end": (1 << slot) - 1, "count": int(counts[slot])})
        low = 1 << slot
    found: dict[str, Any] = {"ts": moment, "val_type": title, "data": data}
    if section:
        found[section[0]] = section[1]
    return found


def _extent(counts: Sequence[int]) -> tuple[int, int]:
    """(last slot that counted something or -1, the largest count)."""
    last, most = -1, 0
    for slot, count in enumerate(counts):
        if count > 0:
            last = slot
            most = max(most, count)
    return last, most
