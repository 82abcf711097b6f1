"""How DWARF encodes attributes: abbreviations and forms (DWARF 5, sections 7.5.3 to 7.5.6).

An ``Abbreviation`` knows what its entries look like, and how to pass over one: ``plan`` merges neighbouring attributes of fixed size, so
that most entries are passed with one or two additions.
"""

from __future__ import annotations

from ..base.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .dwarf import Unit

__all__ = (
    "ADDRESS_INDEXES",
    "ALT_REFERENCES",
    "LOCAL_REFERENCES",
    "STRING_INDEXES",
    "Abbreviation",
    "Abbreviations",
    "leb",
    "plan_of",
    "read_value",
    "signed_leb",
    "steps_of",
    "skip",
)

#: Forms of a size that is always the same.
_FIXED = {
    0x05: 2, 0x06: 4, 0x07: 8, 0x0B: 1, 0x0C: 1, 0x11: 1, 0x12: 2, 0x13: 4, 0x14: 8, 0x19: 0, 0x1C: 4, 0x1E: 16, 0x20: 8, 0x21: 0,
    0x24: 8, 0x25: 1, 0x26: 2, 0x27: 3, 0x28: 4, 0x29: 1, 0x2A: 2, 0x2B: 3, 0x2C: 4,
}  # fmt: skip
#: Forms of the size of an offset in the unit's format: strp, sec_offset, strp_sup, line_strp, GNU_ref_alt, GNU_strp_alt.
_OFFSETS = frozenset((0x0E, 0x17, 0x1D, 0x1F, 0x1F20, 0x1F21))
#: Forms that are LEB128 numbers: sdata, udata, ref_udata, strx, addrx, loclistx, rnglistx, GNU_addr_index, GNU_str_index.
_LEBS = frozenset((0x0D, 0x0F, 0x15, 0x1A, 0x1B, 0x22, 0x23, 0x1F01, 0x1F02))
#: Blocks, by the size of their length: block2, block4, block1, block and exprloc (0: LEB128).
_BLOCKS = {0x03: 2, 0x04: 4, 0x0A: 1, 0x09: 0, 0x18: 0}
STRING_INDEXES = frozenset((0x1A, 0x25, 0x26, 0x27, 0x28, 0x1F02))
ADDRESS_INDEXES = frozenset((0x1B, 0x29, 0x2A, 0x2B, 0x2C, 0x1F01))
LOCAL_REFERENCES = frozenset((0x11, 0x12, 0x13, 0x14, 0x15))
ALT_REFERENCES = frozenset((0x1F20, 0x1C, 0x24))
_IMPLICIT, _PRESENT, _INDIRECT = 0x21, 0x19, 0x16

_MAX_ABBREVIATIONS = 1 << 17
_MAX_ATTRIBUTES = 1 << 10
# steps of a plan: a number of bytes, or one of these
_LEB, _STRING, _INDIRECTLY = -1, -2, -3
_BLOCK = {1: -4, 2: -5, 4: -6, 0: -7}


def leb(data: bytes, place: int) -> tuple[int, int]:
    """(value, place behind) of an unsigned LEB128; raises IndexError at the end of the data.

    >>> leb(bytes((0xE5, 0x8E, 0x26)), 0)
    (624485, 3)
    """
    byte = data[place]
    place += 1
    if byte < 128:
        return byte, place
    value, shift = byte & 127, 7
    while True:
        byte = data[place]
        place += 1
        if shift < 70:
            value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, place


def signed_leb(data: bytes, place: int) -> tuple[int, int]:
    """The same for a signed one.

    >>> signed_leb(bytes((0x80, 0x7F)), 0)
    (-128, 2)
    """
    start = place
    value, place = leb(data, place)
    bits = 7 * min(place - start, 11)
    return (value - (1 << bits) if data[place - 1] & 64 else value), place


class Abbreviation:
    """What entries with one code look like: ``attributes`` are (name, form, constant of form implicit_const)."""

    __slots__ = ("attributes", "children", "plans", "steps", "tag")

    def __init__(self, tag: int, children: bool, attributes: tuple[tuple[int, int, int], ...]) -> None:
        self.tag, self.children, self.attributes = tag, children, attributes
        #: by (size of offsets, size of addresses, size of ref_addr)
        self.plans: dict[tuple[int, int, int], tuple[int, ...]] = {}
        #: the same for attributes one by one: (name, form, constant, size or -1 if it is not fixed)
        self.steps: dict[tuple[int, int, int], tuple[tuple[int, int, int, int], ...]] = {}


class Abbreviations(dict[int, Abbreviation]):
    """The abbreviations of a unit by code, from offset ``place`` of .debug_abbrev.

    They are read as far as they are asked for: of most units nobody wants more than the first entry.  A code that is not declared raises
    FormatError, as damage does.
    """

    def __init__(self, data: bytes, place: int, what: str) -> None:
        super().__init__()
        self._data, self._place, self._what = data, place, what

    def __missing__(self, wanted: int) -> Abbreviation:
        data, place, what = self._data, self._place, self._what
        if place < 0:
            raise FormatError(what, f"abbreviation {wanted} is not declared")
        try:
            while True:
                code, place = leb(data, place)
                if not code:
                    self._place = -1
                    raise FormatError(what, f"abbreviation {wanted} is not declared")
                tag, place = leb(data, place)
                children = data[place] != 0
                place += 1
                attributes = []
                for _ in range(_MAX_ATTRIBUTES):
                    name, form, constant = data[place], data[place + 1], 0
                    if name < 128 and form < 128:
                        place += 2
                    else:
                        name, place = leb(data, place)
                        form, place = leb(data, place)
                    if form == _IMPLICIT:
                        constant, place = signed_leb(data, place)
                    elif not name and not form:
                        break
                    attributes.append((name, form, constant))
                else:
                    raise FormatError(what, "an abbreviation with too many attributes", place)
                if len(self) >= _MAX_ABBREVIATIONS:
                    raise FormatError(what, "too many abbreviations", place)
                self._place = place
                made = Abbreviation(tag, children, tuple(attributes))
                if dict.setdefault(self, code, made) is made and code == wanted:
                    return made
        except IndexError:
            raise FormatError(what, "section .debug_abbrev is truncated", place) from None


def read_value(unit: Unit, data: bytes, place: int, form: int, constant: int) -> tuple[int, int, int]:
    """(form, value, place behind) of an attribute.

    The value is a number; of strings and blocks in the entry itself it is the place where they start.  Raises IndexError at the end
    of the data, FormatError for a form that is not known.
    """
    size = _FIXED.get(form)
    if size:
        end = place + size
        if end > len(data):
            raise IndexError
        return form, int.from_bytes(data[place:end], unit.dwarf.order), end
    if form in _OFFSETS:
        size = unit.offset_size
    elif form == 0x01:
        size = unit.address_size
    elif form == 0x10:
        size = unit.address_size if unit.version < 3 else unit.offset_size
    elif form == _PRESENT:
        return form, 1, place
    elif form == _IMPLICIT:
        return form, constant, place
    elif form == 0x0D:
        value, place = signed_leb(data, place)
        return form, value, place
    elif form in _LEBS:
        value, place = leb(data, place)
        return form, value, place
    elif form == 0x08:
        end = data.find(b"\0", place)
        if end < 0:
            raise IndexError
        return form, place, end + 1
    elif form in _BLOCKS:
        width = _BLOCKS[form]
        if width:
            length, place = int.from_bytes(data[place : place + width], unit.dwarf.order), place + width
        else:
            length, place = leb(data, place)
        return form, place, place + length
    elif form == _INDIRECT:
        form, place = leb(data, place)
        if form in (_INDIRECT, _IMPLICIT):
            raise FormatError(unit.dwarf.what, "an indirect form that refers to none", unit.offset + place)
        return read_value(unit, data, place, form, 0)
    else:
        raise FormatError(unit.dwarf.what, f"form {form:#x} is not known", unit.offset + place)
    end = place + size
    if end > len(data):
        raise IndexError
    return form, int.from_bytes(data[place:end], unit.dwarf.order), end


def steps_of(unit: Unit, abbreviation: Abbreviation) -> tuple[tuple[int, int, int, int], ...]:
    """An abbreviation's attributes with their sizes in this unit: (name, form, constant, size), -1 for what ``read_value`` must read."""
    key = unit.sizes
    steps = abbreviation.steps.get(key)
    if steps is None:
        made = []
        for name, form, constant in abbreviation.attributes:
            size = _FIXED.get(form, -1)
            if form in _OFFSETS:
                size = key[0]
            elif form == 0x01:
                size = key[1]
            elif form == 0x10:
                size = key[2]
            made.append((name, form, constant, size or -1))
        steps = abbreviation.steps[key] = tuple(made)
    return steps


def plan_of(unit: Unit, abbreviation: Abbreviation) -> tuple[int, ...]:
    """How to pass over an entry's attributes, for ``skip``."""
    key = unit.sizes
    plan = abbreviation.plans.get(key)
    if plan is None:
        steps: list[int] = []
        for _, form, _ in abbreviation.attributes:
            size = _FIXED.get(form)
            if size is None:
                if form in _OFFSETS:
                    size = unit.offset_size
                elif form == 0x01:
                    size = unit.address_size
                elif form == 0x10:
                    size = key[2]
                elif form in _LEBS:
                    size = _LEB
                elif form == 0x08:
                    size = _STRING
                elif form in _BLOCKS:
                    size = _BLOCK[_BLOCKS[form]]
                elif form == _INDIRECT:
                    size = _INDIRECTLY
                else:
                    raise FormatError(unit.dwarf.what, f"form {form:#x} is not known", unit.offset)
            if size >= 0 and steps and steps[-1] >= 0:
                steps[-1] += size
            elif size:
                steps.append(size)
        plan = abbreviation.plans[key] = tuple(steps)
    return plan


def skip(unit: Unit, data: bytes, place: int, plan: tuple[int, ...]) -> int:
    """The place behind an entry whose attributes start at ``place``; raises IndexError at the end of the data."""
    for step in plan:
        if step >= 0:
            place += step
        elif step == _LEB:
            while data[place] >= 128:
                place += 1
            place += 1
        elif step == _STRING:
            place = data.index(b"\0", place) + 1 if place < len(data) else len(data) + 1
        elif step == _INDIRECTLY:
            form, place = leb(data, place)
            if form in (_INDIRECT, _IMPLICIT):
                raise FormatError(unit.dwarf.what, "an indirect form that refers to none", unit.offset + place)
            _, _, place = read_value(unit, data, place, form, 0)
        elif step == -7:
            length, place = leb(data, place)
            place += length
        else:
            width = 1 if step == -4 else 2 if step == -5 else 4
            place += width + int.from_bytes(data[place : place + width], unit.dwarf.order)
    return place
