"""DWARF debug information, versions 2 to 5: units, entries (DIEs) and attributes, as far as functions and lines are concerned.

``Dwarf`` is the debug information of one ELF file (with compressed sections, .zdebug_* or SHF_COMPRESSED); ``Unit`` one unit of it,
whose bytes are copied when it is first read.  Split units (``.dwo`` files, ``.dwp`` packages) and supplementary files (dwz,
.gnu_debugaltlink) are found by the callbacks that the caller gives: no file is opened here.

Entries are read one by one with ``entry``, or passed over with ``skip``, which is what makes a walk through a large unit fast: per
abbreviation it is known how many bytes there are to pass.

The data is not trusted.  Offsets are checked, references are followed a few steps only, what does not fit raises FormatError.

Reference: the DWARF Debugging Information Format, Version 5 (dwarfstd.org), chapters 2, 3 and 7; version 4 for what differs;
https://gcc.gnu.org/wiki/DebugFission for split units before version 5.
"""

from __future__ import annotations

from bisect import bisect_right

from ..base.errors import FormatError
from .dwarf_forms import (
    ADDRESS_INDEXES,
    ALT_REFERENCES,
    LOCAL_REFERENCES,
    STRING_INDEXES,
    Abbreviation,
    Abbreviations,
    leb,
    read_value,
    steps_of,
)
from .dwarf_ranges import entries, pairs
from .dwarf_sections import Sections, cut

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .elf import Elf

    #: attribute -> (form, value): a number, a place in the unit's bytes for inline strings and blocks
    Attributes = dict[int, tuple[int, int]]

__all__ = ("Dwarf", "Unit")

# attributes
AT_SIBLING, AT_NAME, AT_STMT_LIST, AT_LOW_PC, AT_HIGH_PC = 0x01, 0x03, 0x10, 0x11, 0x12
AT_COMP_DIR, AT_ABSTRACT_ORIGIN, AT_SPECIFICATION, AT_RANGES = 0x1B, 0x31, 0x47, 0x55
AT_CALL_FILE, AT_CALL_LINE, AT_LINKAGE_NAME, AT_MIPS_LINKAGE_NAME = 0x58, 0x59, 0x6E, 0x2007
AT_STR_OFFSETS_BASE, AT_ADDR_BASE, AT_RNGLISTS_BASE, AT_DWO_NAME = 0x72, 0x73, 0x74, 0x76
AT_GNU_DWO_NAME, AT_GNU_DWO_ID, AT_GNU_RANGES_BASE, AT_GNU_ADDR_BASE = 0x2130, 0x2131, 0x2132, 0x2133
# unit types
UT_COMPILE, UT_TYPE, UT_PARTIAL, UT_SKELETON, UT_SPLIT_COMPILE, UT_SPLIT_TYPE = 1, 2, 3, 4, 5, 6

_FORM_ADDR, _FORM_ADDRX, _FORM_RANGE_INDEX = 0x01, 0x1B, 0x23
_MAX_UNITS = 1 << 18
_MAX_HOPS = 16
#: A unit larger than this is not read: its copy would be too large.
_MAX_UNIT = 1 << 28
#: Bytes of a unit that are enough for its first entry, nearly always.
_HEAD = 4096


class Dwarf:
    """The debug information of one file.

    Args:
        elf: the file with the sections.
        split: True for a .dwo or .dwp file, whose sections are called .debug_*.dwo.
        find_split: (name, directory of compilation, id) of a split unit -> the Dwarf with it, or None.
        find_alt: finds the supplementary file.
    """

    def __init__(
        self,
        elf: Elf,
        split: bool = False,
        find_split: Callable[[str, str, int], Dwarf | None] | None = None,
        find_alt: Callable[[], Dwarf | None] | None = None,
    ) -> None:
        self.what = elf.what
        self.sections = Sections(elf, split)
        self.order = self.sections.order
        self._find_split, self._find_alt = find_split, find_alt
        self._alt: Dwarf | None = None
        self._alt_known = False
        self._units: list[Unit] | None = None
        self._starts: list[int] = []
        self._abbreviations: dict[int, Abbreviations] = {}

    @property
    def units(self) -> list[Unit]:
        """All units of .debug_info; raises FormatError."""
        if self._units is None:
            self._units = self._read_units()
            self._starts = [unit.offset for unit in self._units]
        return self._units

    @property
    def alt(self) -> Dwarf | None:
        """The supplementary file."""
        if not self._alt_known:
            self._alt_known = True
            self._alt = self._find_alt() if self._find_alt is not None else None
        return self._alt

    def unit_at(self, offset: int) -> Unit | None:
        """The unit that contains an offset of .debug_info."""
        units = self.units
        place = bisect_right(self._starts, offset) - 1
        return units[place] if place >= 0 and offset < units[place].end else None

    def abbreviations(self, offset: int) -> Abbreviations:
        found = self._abbreviations.get(offset)
        if found is None:
            if len(self._abbreviations) > 4096:
                self._abbreviations.clear()
            found = self._abbreviations[offset] = Abbreviations(self.sections.whole("abbrev"), offset, self.what)
        return found

    def find_split(self, unit: Unit, name: str, folder: str, number: int) -> Unit | None:
        """The split unit of a skeleton."""
        other = self._find_split(name, folder, number) if self._find_split is not None else None
        if other is None:
            return None
        units = [one for one in other.units if one.type not in (UT_TYPE, UT_SPLIT_TYPE)]
        exact = [one for one in units if one.identity() == number]
        found = exact[0] if exact else units[0] if len(units) == 1 and not units[0].identity() else None
        return found.under(unit) if found is not None else None

    def _read_units(self) -> list[Unit]:
        data, order = self.sections.view("info"), self.order
        found: list[Unit] = []
        offset = 0
        contributions = self.sections.contributions()
        while offset + 11 <= len(data) and len(found) < _MAX_UNITS:
            head = bytes(data[offset : offset + 40])

            def number(place: int, size: int, head: bytes = head) -> int:
                return int.from_bytes(head[place : place + size], order)

            size, place, wide = number(0, 4), 4, 4
            if size == 0xFFFFFFFF:
                size, place, wide = number(4, 8), 12, 8
            elif size >= 0xFFFFFFF0:
                raise FormatError(self.what, "a reserved unit length in .debug_info", offset)
            end = offset + place + size
            if end > len(data) or size < 7:
                raise FormatError(self.what, "a unit of .debug_info does not fit (truncated?)", offset)
            version = number(place, 2)
            kind, identity = UT_COMPILE, 0
            if version == 5:
                kind, address_size = head[place + 2], head[place + 3]
                abbreviations = number(place + 4, wide)
                place += 4 + wide
                if kind in (UT_SKELETON, UT_SPLIT_COMPILE):
                    identity = number(place, 8)
                    place += 8
                elif kind in (UT_TYPE, UT_SPLIT_TYPE):
                    place += 8 + wide
            else:
                abbreviations, address_size = number(place + 2, wide), head[place + 2 + wide]
                place += 3 + wide
            if 2 <= version <= 5 and address_size in (4, 8):
                bases = contributions.get(offset, {})
                found.append(Unit(self, offset, end, version, kind, wide, address_size, abbreviations, place, identity, bases))
            offset = end
        return found


class Unit:
    """One unit.  Places of entries count from the unit's start, as its own references do."""

    def __init__(
        self,
        dwarf: Dwarf,
        offset: int,
        end: int,
        version: int,
        kind: int,
        offset_size: int,
        address_size: int,
        abbreviations: int,
        header: int,
        identity: int,
        bases: dict[str, int],
    ) -> None:
        self.dwarf, self.offset, self.end, self.version, self.type = dwarf, offset, end, version, kind
        self.offset_size, self.address_size, self.header = offset_size, address_size, header
        #: of offsets, addresses and references to other units
        self.sizes = (offset_size, address_size, address_size if version < 3 else offset_size)
        self._abbreviation_offset = abbreviations + bases.get("abbrev", 0)
        self._identity = identity
        self._bases = bases
        self._skeleton: Unit | None = None
        self._data: bytes | None = None
        self._root: Attributes | None = None
        self._split: Unit | None = None
        self._split_known = False

    # -- entries

    @property
    def data(self) -> bytes:
        """The unit's bytes, from its header on."""
        if self._data is None:
            if self.end - self.offset > _MAX_UNIT:
                raise FormatError(self.dwarf.what, "a unit of more than 256 MiB", self.offset)
            self._data = bytes(self.dwarf.sections.view("info")[self.offset : self.end])
        return self._data

    def forget(self) -> None:
        """Gives the copy of the unit's bytes back."""
        self._data = None

    @property
    def abbreviations(self) -> Abbreviations:
        return self.dwarf.abbreviations(self._abbreviation_offset)

    @property
    def root(self) -> Attributes:
        """The attributes of the unit's own entry."""
        if self._root is None:
            if self._data is None and self.end - self.offset > _HEAD:
                # without keeping the whole unit for it
                self._data = bytes(self.dwarf.sections.view("info")[self.offset : self.offset + _HEAD])
                try:
                    self._root = self.entry(self.header)[1]
                    return self._root
                except FormatError:
                    pass
                finally:
                    self._data = None
            self._root = self.entry(self.header)[1]
        return self._root

    def entry(self, place: int, wanted: frozenset[int] | None = None) -> tuple[Abbreviation | None, Attributes, int]:
        """(abbreviation, attributes, place behind) of the entry at ``place``; abbreviation None ends a list of children.

        Args:
            wanted: leave out other attributes where that saves time.
        """
        data = self.data
        try:
            code, place = leb(data, place)
            if not code:
                return None, {}, place
            abbreviation = self.abbreviations[code]
            found: Attributes = {}
            order = self.dwarf.order
            for name, form, constant, size in steps_of(self, abbreviation):
                if size < 0:
                    form, value, place = read_value(self, data, place, form, constant)
                    found[name] = form, value
                else:
                    if wanted is None or name in wanted:
                        found[name] = form, int.from_bytes(data[place : place + size], order)
                    place += size
        except (IndexError, OverflowError):
            raise FormatError(self.dwarf.what, "an entry of .debug_info is truncated", self.offset) from None
        if place > len(data):
            raise FormatError(self.dwarf.what, "an entry of .debug_info is truncated", self.offset)
        return abbreviation, found, place

    # -- attributes

    def text(self, attributes: Attributes, name: int) -> str:
        """The value of an attribute that is a string; "" if it is not there."""
        form, value = attributes.get(name, (0, 0))
        if not form:
            return ""
        sections = self.dwarf.sections
        if form == 0x08:
            view = self._data if self._data is not None else sections.view("info")[self.offset : self.end]
            return cut(view, value)
        if form == 0x0E:
            return sections.string("str", value)
        if form == 0x1F:
            return sections.string("line_str", value)
        if form in STRING_INDEXES:
            size = self.offset_size
            base = self._number(AT_STR_OFFSETS_BASE)
            if base is None:
                base = self._bases.get("str_offsets", 0) + ((8 if size == 4 else 16) if self.version >= 5 else 0)
            place = sections.number("str_offsets", base + value * size, size)
            return sections.string("str", place)
        if form in (0x1F21, 0x1D):
            alt = self.dwarf.alt
            return alt.sections.string("str", value) if alt is not None else ""
        return ""

    def number(self, attributes: Attributes, name: int) -> int:
        """The value of an attribute that is a constant; 0 if it is not there."""
        return attributes.get(name, (0, 0))[1]

    def address(self, form: int, value: int) -> int:
        """The value of an attribute that is an address."""
        if form not in ADDRESS_INDEXES:
            return value
        owner = self._skeleton or self
        base = owner._number(AT_ADDR_BASE, AT_GNU_ADDR_BASE)
        if base is None:
            base = 8 if self.version >= 5 else 0
        size = self.address_size
        return owner.dwarf.sections.number("addr", base + value * size, size)

    def reference(self, form: int, value: int) -> tuple[Unit, int] | None:
        """(unit, place in it) of the entry that an attribute refers to; None if it is not here."""
        if form in LOCAL_REFERENCES:
            return (self, value) if self.header <= value < self.end - self.offset else None
        dwarf: Dwarf | None = self.dwarf
        if form in ALT_REFERENCES:
            dwarf = self.dwarf.alt
        elif form != 0x10:
            return None
        unit = dwarf.unit_at(value) if dwarf is not None else None
        return (unit, value - unit.offset) if unit is not None and value - unit.offset >= unit.header else None

    def name(self, attributes: Attributes) -> str:
        """The name of a function: as the linker knows it where that is said, "" if it has none.

        Concrete functions and inlined ones refer to the abstract entry, which may refer to a declaration.
        """
        unit: Unit = self
        plain = ""
        for _ in range(_MAX_HOPS):
            for attribute in (AT_LINKAGE_NAME, AT_MIPS_LINKAGE_NAME):
                linked = unit.text(attributes, attribute)
                if linked:
                    return linked
            plain = plain or unit.text(attributes, AT_NAME)
            onward = attributes.get(AT_ABSTRACT_ORIGIN) or attributes.get(AT_SPECIFICATION)
            target = unit.reference(*onward) if onward is not None else None
            if target is None:
                break
            unit = target[0]
            _, attributes, _ = unit.entry(target[1])
        return plain

    def ranges(self, attributes: Attributes) -> list[tuple[int, int]]:
        """(start, end) of the code that an entry is about; empty if it has none."""
        if AT_RANGES in attributes:
            return self._range_list(*attributes[AT_RANGES])
        if AT_LOW_PC not in attributes or AT_HIGH_PC not in attributes:
            return []
        low = self.address(*attributes[AT_LOW_PC])
        form, value = attributes[AT_HIGH_PC]
        high = self.address(form, value) if form == _FORM_ADDR or form in ADDRESS_INDEXES else low + value
        return [(low, high)] if low < high else []

    # -- split units

    def identity(self) -> int:
        """The id that a skeleton and its split unit share, 0 if there is none."""
        return self._identity or self.root.get(AT_GNU_DWO_ID, (0, 0))[1]

    def under(self, skeleton: Unit) -> Unit:
        self._skeleton = skeleton
        return self

    @property
    def split(self) -> Unit | None:
        """The unit in another file that this skeleton stands for."""
        if not self._split_known:
            self._split_known = True
            name = self.text(self.root, AT_DWO_NAME) or self.text(self.root, AT_GNU_DWO_NAME)
            if name:
                self._split = self.dwarf.find_split(self, name, self.text(self.root, AT_COMP_DIR), self.identity())
        return self._split

    @property
    def missing_split(self) -> bool:
        """Whether the unit's functions stand in a file that is not here."""
        return (AT_DWO_NAME in self.root or AT_GNU_DWO_NAME in self.root) and self.split is None

    # -- private

    def _number(self, *names: int) -> int | None:
        for name in names:
            if name in self.root:
                return self.root[name][1]
        return None

    def _range_list(self, form: int, value: int) -> list[tuple[int, int]]:
        owner = self._skeleton or self
        root = owner.root
        base = owner.address(*root[AT_LOW_PC]) if AT_LOW_PC in root else 0
        if self.version < 5:
            if self._skeleton is not None:
                value += owner._number(AT_GNU_RANGES_BASE) or 0
            return pairs(owner.dwarf.sections, value, base, self.address_size)
        sections = self.dwarf.sections
        if form == _FORM_RANGE_INDEX:
            start = self._number(AT_RNGLISTS_BASE)
            if start is None:
                start = self._bases.get("rnglists", 0) + (12 if self.offset_size == 4 else 20)
            value = start + sections.number("rnglists", start + value * self.offset_size, self.offset_size)
        return entries(sections, value, base, self.address_size, lambda index: self.address(_FORM_ADDRX, index))
