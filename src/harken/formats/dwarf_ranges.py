"""Lists of address ranges in DWARF: pairs of addresses in .debug_ranges (until version 4), typed entries in .debug_rnglists, and
.debug_aranges, which tells the ranges of all units.

All are bounded, whatever they say.
"""

from __future__ import annotations

from ..base.errors import FormatError
from .dwarf_forms import leb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .dwarf_sections import Sections

    Ranges = list[tuple[int, int]]

__all__ = ("aranges", "entries", "pairs")

_MAX_RANGES = 1 << 16
_MAX_ARANGES = 1 << 22
# kinds of entries (version 5, 7.25)
_END, _BASE_X, _START_END_X, _START_LENGTH_X, _OFFSET_PAIR, _BASE, _START_END, _START_LENGTH = range(8)


def pairs(sections: Sections, place: int, base: int, size: int) -> Ranges:
    """(start, end) of the list at ``place`` of .debug_ranges.

    Args:
        base: what addresses are relative to, until the list says otherwise.
        size: bytes of an address.
    """
    highest = (1 << 8 * size) - 1
    found: Ranges = []
    for _ in range(_MAX_RANGES):
        low = sections.number("ranges", place, size)
        high = sections.number("ranges", place + size, size)
        place += 2 * size
        if low == highest:
            base = high
        elif not low and not high:
            return found
        elif low < high:
            found.append((base + low, base + high))
    return found


def entries(sections: Sections, place: int, base: int, size: int, address: Callable[[int], int]) -> Ranges:
    """The same for .debug_rnglists.

    Args:
        address: gives the address with an index.

    Raises:
        FormatError: the list is truncated or has entries of an unknown kind.
    """
    data = sections.whole("rnglists")
    found: Ranges = []

    def word() -> int:
        nonlocal place
        place += size
        return int.from_bytes(data[place - size : place], sections.order)

    def number() -> int:
        nonlocal place
        value, place = leb(data, place)
        return value

    try:
        for _ in range(_MAX_RANGES):
            kind = data[place]
            place += 1
            low = high = 0
            if kind == _END:
                return found
            if kind == _BASE_X:
                base = address(number())
            elif kind == _START_END_X:
                low, high = address(number()), address(number())
            elif kind == _START_LENGTH_X:
                low = address(number())
                high = low + number()
            elif kind == _OFFSET_PAIR:
                low, high = base + number(), base + number()
            elif kind == _BASE:
                base = word()
            elif kind == _START_END:
                low, high = word(), word()
            elif kind == _START_LENGTH:
                low = word()
                high = low + number()
            else:
                raise FormatError(sections.what, f"an unknown kind of range, {kind}", place)
            if low < high:
                found.append((low, high))
    except IndexError:
        raise FormatError(sections.what, "a list of ranges is truncated", place) from None
    return found


def aranges(sections: Sections) -> list[tuple[int, int, int]]:
    """(offset of the unit, start, end) from .debug_aranges; raises FormatError."""
    data, order = sections.whole("aranges"), sections.order
    found: list[tuple[int, int, int]] = []
    place = 0
    while place + 12 <= len(data):
        start = place
        size, place, wide = int.from_bytes(data[place : place + 4], order), place + 4, 4
        if size == 0xFFFFFFFF:
            size, place, wide = int.from_bytes(data[place : place + 8], order), place + 8, 8
        end = place + size
        if end > len(data) or size < wide + 4:
            raise FormatError(sections.what, "section .debug_aranges is truncated", start)
        unit = int.from_bytes(data[place + 2 : place + 2 + wide], order)
        width, segment = data[place + 2 + wide], data[place + 3 + wide]
        place += 4 + wide
        if width in (4, 8) and not segment:
            place = start + (place - start + 2 * width - 1) // (2 * width) * (2 * width)
            while place + 2 * width <= end and len(found) < _MAX_ARANGES:
                low = int.from_bytes(data[place : place + width], order)
                length = int.from_bytes(data[place + width : place + 2 * width], order)
                place += 2 * width
                if length:
                    found.append((unit, low, low + length))
                elif not low:
                    break
        place = end
    return found
