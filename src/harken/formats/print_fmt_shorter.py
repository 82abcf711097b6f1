"""Shorter programs for the accelerator: operations that come one after the other again and again, as one that does the same.

``print_fmt_program`` translates expression by expression; a number of the record that is cast to its own type, a place in the record, a
text at a place that a number of the record tells (``__data_loc``) each take several operations that way.

Example:
    >>> row = lambda name, flags=0, place=0, value=0: [OPS[name], flags, 0, place, value]
    >>> rows = [row("START"), row("CONST", value=8), row("ADD"), row("LOAD", 4, 24), row("EXTEND", 4), row("DEC", 16), row("END")]
    >>> names = {number: name for name, number in OPS.items()}
    >>> [(names[code], flags, value) for code, flags, _, _, value in shorter(rows)]
    [('START', 0, 8), ('LOAD', 20, 0), ('DEC', 16, 0), ('END', 0, 0)]
"""

from __future__ import annotations

from ..native.text import OPS, Flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    #: Code, flags, width, place, value.
    Row = list[int]

__all__ = ("shorter",)

_JUMPS = (OPS["JUMP"], OPS["JUMP_ZERO"])
_LOAD, _EXTEND, _CONST, _AND, _ADD, _START = (OPS[name] for name in ("LOAD", "EXTEND", "CONST", "AND", "ADD", "START"))
#: The two ends of a text that a number tells: its place is in the lower half, its size in the upper one, and the record ends somewhere.
_ENDS = [OPS[name] for name in "START LOAD CONST AND ADD START LOAD CONST AND ADD LOAD CONST SHR ADD STOP MIN".split()]


def shorter(rows: Sequence[Row]) -> list[Row]:
    """The same program in fewer operations.

    Args:
        rows: of one program; jumps lead forward, to places in it.
    """
    found = [list(row) for row in rows]
    while True:
        before = len(found)
        found = _once(found)
        if len(found) == before:
            return found


def _once(rows: list[Row]) -> list[Row]:
    targets = {row[3] for row in rows if row[0] in _JUMPS}
    made: list[Row] = []
    places: list[int] = []  # where each of the rows has gone
    at = 0
    while at < len(rows):
        count, row = _first(rows, at)
        if any(at + step in targets for step in range(1, count)):
            count, row = 1, rows[at]
        places += [len(made)] * count
        made.append(row)
        at += count
    for row in made:
        if row[0] in _JUMPS:
            row[3] = places[row[3]]
    return made


def _first(rows: list[Row], at: int) -> tuple[int, Row]:
    """How many rows from a place on are one, and which."""
    row, second = rows[at], rows[min(at + 1, len(rows) - 1)]
    if row[0] == _LOAD and second[0] == _EXTEND:
        size, extended = row[1] & 15, second[1] & 15
        if extended > size or extended == size == 8:
            return 2, row
        if extended == size:
            return 2, [_LOAD, size | Flags.SIGNED, *row[2:]]
    if at + 2 < len(rows) and second[0] == _CONST:
        third = rows[at + 2][0]
        if row[0] == _START and third == _ADD:
            return 3, [*row[:4], (row[4] + second[4]) & (1 << 64) - 1]
        if row[0] == _LOAD and third == _AND and second[4] == (1 << 8 * (row[1] & 15)) - 1:
            return 3, [_LOAD, row[1] & 15, *row[2:]]
    if row[0] == _START and [code for code, *_ in rows[at : at + len(_ENDS)]] == _ENDS:
        loads = [rows[at + place] for place in (1, 6, 10)]
        numbers = [rows[at + place][4] for place in (0, 2, 5, 7, 11)]
        if loads[0] == loads[1] == loads[2] and loads[0][1] == 4 and numbers == [0, 0xFFFF, 0, 0xFFFF, 16]:
            return len(_ENDS), [OPS["DYNAMIC"], *loads[0][1:]]
    return 1, row
