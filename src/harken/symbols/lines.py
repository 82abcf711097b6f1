"""Source lines and inlined functions of addresses, and the addresses of source lines, from DWARF.

``LineTable.of("/usr/bin/program")`` reads the program's own DWARF or that of its separate debug file; split units (.dwo files, .dwp
packages) and dwz's supplementary files are found beside them.  Only what is asked for is read: the unit of an address by section
.debug_aranges, or by the units' own ranges where that is missing; of the unit its line program and its functions, once.

What comes of an address is the chain of functions that it is in, the innermost inlined one first.  A function's place is the call that was
inlined into it, the innermost one's the line of the address itself.

The files are not trusted: damage in one unit leaves its addresses without lines (``problem`` says why) and the others as they are; sizes
and numbers of entries are bounded.

Example::

    table = LineTable.of("/usr/bin/program")
    table.lookup(0x1139)                  # [("helper", "/src/a.c", 7, True), ("main", "/src/a.c", 21, False)]
    table.addresses("a.c", 7)             # [0x1139, 0x1180]: once per function that the line became part of

What DWARF says of a line is one row per run of its instructions.  ``addresses`` gives of each function and inlined copy the runs that are
reached first (``lines_entries``): one, unless the compiler has copied the line into several ways through the function.
"""

from __future__ import annotations

import os
from bisect import bisect_right

from ..base.errors import FormatError, HarkenError
from ..formats.dwarf import AT_COMP_DIR, AT_NAME, AT_STMT_LIST, UT_SPLIT_TYPE, UT_TYPE, Dwarf, Unit
from ..formats.dwarf_line import LineProgram, join
from ..formats.dwarf_ranges import aranges
from .lines_functions import Function, functions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..formats.elf import Elf
    from ..kernel.kernel import Kernel

    #: function ("" if unknown), file, line, whether it was inlined into the next one
    Place = tuple[str, str, int, bool]

__all__ = ("LineTable",)

_PF_X, _PT_LOAD = 1, 1
#: Rows and functions that are kept; more are read again when they are needed.
_KEPT = 4 << 20
_MAX_SPLIT = 4096


class LineTable:
    """The lines of one file.

    Args:
        elf: the file with the DWARF; ``elf.what`` is its path.
        kernel: opens split and supplementary files.
        path: of the program, beside which a .dwp package may lie; "" for ``elf.what``.
        program: the file with the code, if that is another one.

    Attributes:
        problem: why something could not be read, "" if nothing was amiss.
    """

    def __init__(self, elf: Elf, kernel: Kernel | None = None, path: str = "", program: Elf | None = None) -> None:
        self.what = elf.what
        self._program_file = program or elf
        self._elf, self._kernel, self._path = elf, kernel, path or elf.what
        self._dwarf = Dwarf(elf, find_split=self._find_split, find_alt=self._find_alt)
        self.problem = ""
        self._code = tuple(
            (segment.address, segment.address + segment.memory_size)
            for segment in elf.segments
            if segment.type == _PT_LOAD and segment.flags & _PF_X
        )
        self._index: tuple[list[int], list[tuple[int, Unit]]] | None = None
        self._programs: dict[int, LineProgram | None] = {}
        self._functions: dict[int, list[tuple[int, int, Function]]] = {}
        self._kept = 0
        self._splits: dict[str, Dwarf | None] = {}

    @staticmethod
    def of(file: str | Elf, kernel: Kernel | None = None) -> LineTable | None:
        """The lines of a file, from its own DWARF or that of its debug file; None if there is none.

        Args:
            file: a path, or the file itself.
            kernel: opens further files; the live one by default.

        Raises:
            ProbeError, FormatError: the file cannot be opened, or is no ELF file.
        """
        from .binaries import open_elf
        from .debug_files import find

        if kernel is None:
            from ..kernel.kernel import live

            kernel = live()
        elf = open_elf(kernel, file, debug=False) if isinstance(file, str) else file
        path = os.path.realpath(elf.what) if elf.what.startswith("/") else elf.what
        if _has_lines(elf):
            return LineTable(elf, kernel, path)
        root = "/".join(elf.what.split("/")[:4]) if elf.what.startswith("/proc/") and elf.what.split("/")[3:4] == ["root"] else ""
        debug = find(kernel, elf.what[len(root) :], elf, root)
        return LineTable(debug, kernel, path, elf) if debug is not None and _has_lines(debug) else None

    # -- addresses to lines

    def lookup(self, address: int) -> list[Place]:
        """The functions that an address is in, the innermost inlined one first; empty if nothing is known.

        Args:
            address: as the ELF file counts.
        """
        try:
            unit = self._unit(address)
            if unit is None:
                return []
            program = self._program(unit)
            row = program.lookup(address) if program is not None else None
            file, line = (row[0], row[1]) if row is not None else ("", 0)
            chain = self._chain(unit, address)
            if not chain:
                return [("", file, line, False)] if row is not None else []
            found: list[Place] = []
            for function in reversed(chain):
                name, number, called = function.facts
                found.append((name, file, line, function.inlined))
                if function.inlined:
                    file, line = program.file(number) if program is not None else "", called
            return found
        except FormatError as error:
            self._note(error)
            return []

    # -- lines to addresses

    def addresses(self, file: str, line: int, column: int = 0) -> list[int]:
        """Where the code of a source line begins in every function and inlined copy that contains it, in order.

        Args:
            file: a path, or its last parts ("a.c", "lib/a.c").
            line, column: as the source counts, from 1; column 0 for any.
        """
        rows = self._rows(file, line, column)
        owners: dict[tuple[int, int] | None, list[int]] = {}
        parts: dict[tuple[int, int] | None, list[tuple[int, int]]] = {}
        empty: list[tuple[tuple[int, int] | None, int]] = []
        any_filled = any(filled for _, _, filled in rows.values())
        for address in sorted(rows):
            unit, _, filled = rows[address]
            try:
                chain = self._chain(unit, address)
            except FormatError as error:
                self._note(error)
                chain = []
            owner = (chain[-1].unit.offset, chain[-1].place) if chain else None
            if filled or not any_filled:
                owners.setdefault(owner, []).append(address)
                parts[owner] = chain[0].ranges if chain else []
            elif chain and all(address != low for low, _ in chain[0].ranges):
                empty.append((owner, address))
        for owner, address in empty:  # the line's own instructions were moved up, and it is done with at this place
            if owner in owners:
                owners[owner].append(address)
        found: set[int] = set()
        for owner, places in owners.items():
            found.update(self._reached_first(parts[owner], sorted(places)))
        return sorted(found)

    def _rows(self, file: str, line: int, column: int) -> dict[int, tuple[Unit, bool, bool]]:
        """The rows of a line by address: (unit, whether a statement begins there, whether the row has instructions of its own).

        Rows without instructions count where a statement begins: it was made part of others.  Where a row with instructions begins a
        statement, only such rows and those are given.
        """
        rows: dict[int, tuple[Unit, bool, bool]] = {}
        for unit, program in self._with_file(file):
            numbers = program.numbers(file)
            for sequence in program.sequences:
                if line not in sequence.lines or not self._is_code(sequence.start):
                    continue
                for row, number in enumerate(sequence.lines):
                    if number == line and sequence.files[row] in numbers and (not column or sequence.columns[row] == column):
                        address = sequence.addresses[row]
                        filled = address < (sequence.addresses[row + 1] if row + 1 < len(sequence.addresses) else sequence.end)
                        _, statement, known = rows.get(address, (unit, False, False))
                        rows[address] = unit, statement or bool(sequence.statements[row]), known or filled
        filled = any(found[2] for found in rows.values())
        begun = any(found[1] and (found[2] or not filled) for found in rows.values())
        return {address: found for address, found in rows.items() if found[1 if begun else 2]}

    def _reached_first(self, parts: list[tuple[int, int]], places: list[int]) -> list[int]:
        """Of several places in one function those that are reached without passing another one."""
        if len(places) < 2 or not parts:
            return places[:1]
        from .lines_entries import LARGEST, reached_first

        if sum([high - low for low, high in parts]) > LARGEST:  # a damaged file may say of ten thousand parts that each is all of it
            return places[:1]
        code = []
        for low, high in parts:
            offset = self._program_file.offset_of(low)
            if offset is None:
                return places[:1]
            code.append((low, bytes(self._program_file.data[offset : offset + high - low])))
        return reached_first(self._program_file.machine_name, code, places)

    def lines_with_code(self, file: str, line: int, limit: int = 3) -> list[int]:
        """The lines nearest to a line of a file that became code, in order: what to offer for a line that did not."""
        lines: set[int] = set()
        for _, program in self._with_file(file):
            numbers = program.numbers(file)
            for sequence in program.sequences:
                if self._is_code(sequence.start):
                    ends = (*sequence.addresses[1:], sequence.end)
                    rows = zip(sequence.lines, sequence.files, sequence.statements, sequence.addresses, ends)
                    lines.update([number for number, owner, begins, low, high in rows if owner in numbers and (begins or low < high)])
        lines.discard(0)
        return sorted(sorted(lines, key=lambda number: (abs(number - line), number))[:limit])

    def files(self) -> list[str]:
        """All source files that are named, sorted."""
        found: set[str] = set()
        for _, program in self._with_file(""):
            found.update(program.files)
        return sorted(found)

    # -- private

    def _note(self, error: FormatError) -> None:
        self.problem = self.problem or str(error)

    @property
    def _units(self) -> list[Unit]:
        try:
            return self._dwarf.units
        except FormatError as error:
            self._note(error)
            return []

    def _is_code(self, address: int) -> bool:
        """Whether there is code at an address: what the linker threw away has lines at address 0."""
        return not self._code or any(low <= address < high for low, high in self._code)

    def _unit(self, address: int) -> Unit | None:
        if self._index is None:
            self._index = self._build_index()
        starts, entries = self._index
        place = bisect_right(starts, address)
        for end, unit in reversed(entries[max(0, place - 8) : place]):
            if address < end:
                return unit
        return None

    def _build_index(self) -> tuple[list[int], list[tuple[int, Unit]]]:
        found: list[tuple[int, int, Unit]] = []
        known: set[int] = set()
        try:
            for offset, low, high in aranges(self._dwarf.sections):
                unit = self._dwarf.unit_at(offset)
                if unit is not None:
                    known.add(unit.offset)
                    found.append((low, high, unit))
        except FormatError as error:
            self._note(error)
            found, known = [], set()
        # what dwz and link-time optimisation share between units refers to a line program of a unit that has the code
        taken: set[int] = set()
        without: list[tuple[int, Unit]] = []
        for unit in self._units:
            if unit.type in (UT_TYPE, UT_SPLIT_TYPE):
                continue
            try:
                ranges = [] if unit.offset in known else unit.ranges(unit.root)
                found += [(low, high, unit) for low, high in ranges]
                if AT_STMT_LIST in unit.root:
                    if ranges or unit.offset in known:
                        taken.add(unit.root[AT_STMT_LIST][1])
                    else:
                        without.append((unit.root[AT_STMT_LIST][1], unit))
            except FormatError as error:
                self._note(error)
        for offset, unit in without:
            if offset not in taken:
                taken.add(offset)
                program = self._program(unit)
                found += [(sequence.start, sequence.end, unit) for sequence in (program.sequences if program is not None else ())]
        found = [entry for entry in found if self._is_code(entry[0])]
        found.sort(key=lambda entry: entry[:2])
        return [low for low, _, _ in found], [(high, unit) for _, high, unit in found]

    def _program(self, unit: Unit) -> LineProgram | None:
        """The line program of a unit (of a skeleton for its split unit)."""
        root = unit.root
        if AT_STMT_LIST not in root:
            return None
        offset = root[AT_STMT_LIST][1]
        if offset not in self._programs:
            program: LineProgram | None = None
            try:
                program = LineProgram(
                    self._dwarf.sections, offset, unit.text(root, AT_COMP_DIR), unit.text(root, AT_NAME), unit.address_size
                )
                self._keep(program.rows())
            except FormatError as error:
                self._note(error)
                program = None
            self._programs[offset] = program
        return self._programs[offset]

    def _chain(self, unit: Unit, address: int) -> list[Function]:
        """The functions around an address, outermost first."""
        known = self._functions.get(unit.offset)
        if known is None:
            self._functions[unit.offset] = known = functions(unit.split or unit)
            self._keep(sum(top.size for _, _, top in known))
        place = bisect_right(known, address, key=lambda entry: entry[0])
        for low, high, top in reversed(known[max(0, place - 8) : place]):
            if low <= address < high:
                return top.around(address)
        return []

    def _keep(self, amount: int) -> None:
        self._kept += amount
        if self._kept > _KEPT:
            self._kept = amount
            self._programs.clear()
            self._functions.clear()
            for unit in self._units:
                unit.forget()

    def _with_file(self, file: str) -> list[tuple[Unit, LineProgram]]:
        """Units and their line programs, each program once, that name a file ("" for all)."""
        found: list[tuple[Unit, LineProgram]] = []
        seen: set[int] = set()
        for unit in self._units:
            try:
                if unit.type in (UT_TYPE, UT_SPLIT_TYPE) or AT_STMT_LIST not in unit.root:
                    continue
                offset = unit.root[AT_STMT_LIST][1]
                if offset in seen:
                    continue
                seen.add(offset)
                program = self._programs.get(offset) or LineProgram(
                    self._dwarf.sections, offset, unit.text(unit.root, AT_COMP_DIR), unit.text(unit.root, AT_NAME), unit.address_size
                )
                if not file or program.numbers(file):
                    _ = program.sequences
                    found.append((unit, program))
            except FormatError as error:
                self._note(error)
        return found

    def _open(self, path: str) -> Elf | None:
        from .binaries import open_elf

        if self._kernel is None or not self._kernel.exists(path):
            return None
        try:
            return open_elf(self._kernel, path, debug=False)
        except HarkenError:
            return None

    def _find_split(self, name: str, folder: str, number: int) -> Dwarf | None:
        """The file with a split unit: a package beside the program, else the .dwo file where the compiler put it or beside the program."""
        beside = os.path.dirname(self._path)
        for path in (f"{self._path}.dwp", f"{self.what}.dwp", join(folder, name), f"{beside}/{os.path.basename(name)}"):
            if path not in self._splits:
                if len(self._splits) >= _MAX_SPLIT:
                    self._splits.clear()
                elf = self._open(path)
                self._splits[path] = Dwarf(elf, split=True) if elf is not None else None
            found = self._splits[path]
            if found is not None and (not path.endswith(".dwp") or any(unit.identity() == number for unit in found.units)):
                return found
        self.problem = self.problem or f"{self.what}: {join(folder, name)} is missing, which has the names of functions"
        return None

    def _find_alt(self) -> Dwarf | None:
        """The file that dwz moved common entries to (section .gnu_debugaltlink: its path and build-id)."""
        from .debug_files import by_build_id

        section = self._elf.section(".gnu_debugaltlink")
        if section is None:
            return None
        name, _, identity = bytes(section.data).partition(b"\0")
        for path in (join(os.path.dirname(self.what), os.fsdecode(name)), by_build_id(identity.hex())):
            elf = self._open(path)
            if elf is not None and elf.build_id == identity.hex():
                return Dwarf(elf)
        self.problem = self.problem or f"{self.what}: {os.fsdecode(name)} is missing, which has some names of functions"
        return None


def _has_lines(elf: Elf) -> bool:
    return any(section.name in (".debug_info", ".zdebug_info") and section.data for section in elf.sections)
