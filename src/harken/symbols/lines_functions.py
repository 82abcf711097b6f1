"""The functions of a DWARF unit with what was inlined into them, as a tree that addresses are looked up in.

``functions`` walks the entries of a unit once.  Most of them are types, variables and parameters: they are passed over by size, whole
trees of them by their sibling's place where the compiler states it.
"""

from __future__ import annotations

from ..base.errors import FormatError
from ..formats.dwarf import AT_CALL_FILE, AT_CALL_LINE, AT_HIGH_PC, AT_LOW_PC, AT_RANGES, AT_SIBLING
from ..formats.dwarf_forms import leb, plan_of, skip

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..formats.dwarf import Unit

__all__ = ("Function", "functions")

_SUBPROGRAM, _INLINED = 0x2E, 0x1D
#: Entries without code inside: types, enumerations, members, call sites, templates' parameters, imported units.
_NO_CODE = frozenset((0x01, 0x02, 0x04, 0x05, 0x13, 0x15, 0x17, 0x34, 0x48, 0x49, 0x4109, 0x410A, 0x4107, 0x4108))
_MAX_ENTRIES = 1 << 23
_MAX_DEPTH = 1 << 10
_WANTED = frozenset((AT_LOW_PC, AT_HIGH_PC, AT_RANGES, AT_SIBLING))


class Function:
    """A function that became code, or one that was inlined into another.

    ``ranges`` are (start, end) pairs of addresses; ``place`` is that of its entry in ``unit``.
    """

    __slots__ = ("_facts", "children", "inlined", "place", "ranges", "unit")

    def __init__(self, unit: Unit, place: int, ranges: list[tuple[int, int]], inlined: bool) -> None:
        self.unit, self.place, self.ranges, self.inlined = unit, place, ranges, inlined
        self.children: list[Function] = []
        self._facts: tuple[str, int, int] | None = None

    @property
    def facts(self) -> tuple[str, int, int]:
        """(name, number of the file with the call that was inlined, its line); raises FormatError."""
        if self._facts is None:
            unit = self.unit
            _, attributes, _ = unit.entry(self.place)
            self._facts = unit.name(attributes), unit.number(attributes, AT_CALL_FILE), unit.number(attributes, AT_CALL_LINE)
        return self._facts

    def around(self, address: int) -> list[Function]:
        """This function and the inlined ones around an address in it, outermost first."""
        found = [self]
        at: Function | None = self
        while at is not None:
            onward = None
            for child in at.children:
                for low, high in child.ranges:
                    if low <= address < high:
                        onward = child
                        break
                if onward is not None:
                    found.append(onward)
                    break
            at = onward
        return found

    @property
    def size(self) -> int:
        """How many functions this is, inlined ones among them."""
        total, left = 0, [self]
        while left:
            total += 1
            left += left.pop().children
        return total


def functions(unit: Unit) -> list[tuple[int, int, Function]]:
    """(start, end, function) of every function of a unit, by start; one entry per range.  Raises FormatError."""
    try:
        return _walk(unit)
    except (IndexError, ValueError, OverflowError):
        raise FormatError(unit.dwarf.what, "entries of .debug_info are truncated", unit.offset) from None


def _walk(unit: Unit) -> list[tuple[int, int, Function]]:
    data, abbreviations = unit.data, unit.abbreviations
    end, place = len(data), unit.header
    tops: list[tuple[int, int, Function]] = []
    #: per level the function that its entries are inside of
    stack: list[Function | None] = []
    within: Function | None = None
    for _ in range(_MAX_ENTRIES):
        if place >= end:
            break
        start = place
        code = data[place]
        if code < 128:
            place += 1
        else:
            code, place = leb(data, place)
        if not code:
            if not stack:
                break
            within = stack.pop()
            if not stack:
                break
            continue
        abbreviation = abbreviations[code]
        tag = abbreviation.tag
        inner = within
        if tag in (_SUBPROGRAM, _INLINED):
            inner, place, sibling = _function(unit, data, start, tag, within, tops)
        else:
            place = skip(unit, data, place, plan_of(unit, abbreviation))
            sibling = 0
            if (
                abbreviation.children
                and tag in _NO_CODE
                and abbreviation.attributes
                and abbreviation.attributes[-1][:2] == (AT_SIBLING, 0x13)
            ):
                sibling = int.from_bytes(data[place - 4 : place], unit.dwarf.order)
        if abbreviation.children:
            if sibling > place:
                place = sibling
                continue
            if len(stack) >= _MAX_DEPTH:
                raise FormatError(unit.dwarf.what, "entries are nested too deep", unit.offset + start)
            stack.append(within)
            within = inner
    else:
        raise FormatError(unit.dwarf.what, "a unit with too many entries", unit.offset)
    tops.sort(key=lambda entry: entry[:2])
    return tops


def _function(
    unit: Unit, data: bytes, start: int, tag: int, within: Function | None, tops: list[tuple[int, int, Function]]
) -> tuple[Function | None, int, int]:
    """(the function whose code the entry's children are in, the place behind, the place of the sibling if the children need no look)."""
    _, attributes, place = unit.entry(start, _WANTED)
    has_code = AT_LOW_PC in attributes and AT_HIGH_PC in attributes or AT_RANGES in attributes
    ranges = unit.ranges(attributes) if has_code else []
    if tag == _INLINED:
        if within is None or not ranges:
            return within, place, 0
        made = Function(unit, start, ranges, True)
        within.children.append(made)
        return made, place, 0
    if not ranges:  # a declaration, or the abstract one of what is inlined elsewhere
        return None, place, attributes.get(AT_SIBLING, (0, 0))[1]
    made = Function(unit, start, ranges, False)
    tops += [(low, high, made) for low, high in ranges]
    return made, place, 0
