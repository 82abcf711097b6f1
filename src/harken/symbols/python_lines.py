"""Line numbers of CPython code objects: the location table (``co_linetable``) of 3.11 and later.

The table is a sequence of entries; the first byte of each has its top bit set, tells for how many code units it holds and what kind it
is, and only that byte and a line delta matter here.

Reference: InternalDocs/code_objects.md (3.11: Objects/locations.md) in CPython's sources.

Example:
    >>> def function():
    ...     x = 1
    ...
    ...     return x
    >>> code = function.__code__
    >>> starts, lines = decode(code.co_linetable, code.co_firstlineno)
    >>> sorted({line - code.co_firstlineno for line in lines})
    [0, 1, 3]
"""

from __future__ import annotations

from bisect import bisect_right

__all__ = ("decode", "line_at")

_NONE, _LONG, _NO_COLUMNS, _ONE_LINE = 15, 14, 13, 10


def decode(table: bytes, first: int) -> tuple[list[int], list[int]]:
    """(byte offsets in the code at which a new line starts, the lines; 0 where an instruction has none).

    Args:
        table: ``co_linetable``; damaged ones give something, in time linear in their length.
        first: ``co_firstlineno``.
    """
    starts: list[int] = []
    lines: list[int] = []
    line, offset, position, end = first, 0, 0, len(table)
    last = -1
    while position < end:
        head = table[position]
        position += 1
        kind = (head >> 3) & 15
        shown = line
        if kind == _NONE:
            shown = 0
        elif kind in (_LONG, _NO_COLUMNS):
            value = shift = 0
            at = position
            while at < end and shift < 60:
                byte = table[at]
                at += 1
                value |= (byte & 0x3F) << shift
                shift += 6
                if not byte & 0x40:
                    break
            line += -(value >> 1) if value & 1 else value >> 1
            shown = line
        elif kind >= _ONE_LINE:
            line += kind - _ONE_LINE
            shown = line
        if shown != last:
            starts.append(offset)
            lines.append(shown)
            last = shown
        offset += 2 * ((head & 7) + 1)
        while position < end and not table[position] & 0x80:
            position += 1
    return starts, lines


def line_at(starts: list[int], lines: list[int], offset: int) -> int:
    """The line of the instruction at a byte offset; 0 if it has none."""
    place = bisect_right(starts, max(offset, 0)) - 1
    return lines[place] if place >= 0 else 0
