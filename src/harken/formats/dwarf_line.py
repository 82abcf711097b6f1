"""DWARF line tables: which source line the code at an address comes from (DWARF 5, section 6.2; versions 2 to 5).

A line program is a list of instructions for a machine with the registers address, file, line, column and is_stmt; every row that it
puts out holds until the address of the next one.  ``LineProgram`` runs it once and keeps the rows in arrays, one set per sequence.

Programs are not trusted: their length bounds the number of rows, names and tables of names are bounded.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right

from ..base.errors import FormatError
from .dwarf_forms import leb, signed_leb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .dwarf_sections import Sections

__all__ = ("LineProgram", "Sequence", "join")

_MAX_NAMES = 1 << 16
_MAX_ROWS = 1 << 24
# content types of version 5
_PATH, _DIRECTORY = 1, 2


def join(*parts: str) -> str:
    """A path from its parts; an absolute one makes those before it void.

    >>> join("/src", "lib", "a.c"), join("/src", "/usr/include", "b.h"), join("", "", "c.c")
    ('/src/lib/a.c', '/usr/include/b.h', 'c.c')
    """
    path = ""
    for part in parts:
        path = part if part.startswith("/") or not path else f"{path}/{part}" if part else path
    return path


class Sequence:
    """Rows for code that lies together.

    ``addresses`` never go down; the row at index i holds from ``addresses[i]`` on, the last one until ``end``.
    ``files`` are indexes into the program's files, ``statements`` tells where a statement begins.
    """

    __slots__ = ("addresses", "columns", "end", "files", "lines", "start", "statements")

    def __init__(self) -> None:
        self.start = self.end = 0
        self.addresses, self.files, self.lines, self.columns = array("Q"), array("I"), array("I"), array("I")
        self.statements = bytearray()


class LineProgram:
    """One program of .debug_line.

    Args:
        sections: of the file.
        offset: of the program in .debug_line.
        folder: the directory of compilation (DW_AT_comp_dir), which relative names start from.
        name: of the unit, the file with number 0 before version 5.
        address_size: of the unit.

    Attributes:
        files: paths by their number in the program.
        end: where the next program starts.

    Raises:
        FormatError: damaged, or a version that is not known.
    """

    def __init__(self, sections: Sections, offset: int, folder: str = "", name: str = "", address_size: int = 8) -> None:
        self._sections = sections
        self.what, self.order = sections.what, sections.order
        self._address_size = address_size
        self._sequences: list[Sequence] | None = None
        self._starts: list[int] = []
        data = self._data = sections.whole("line")
        if offset + 11 > len(data):
            raise FormatError(self.what, "an offset outside of .debug_line", offset)
        size, place, wide = self._number(offset, 4), offset + 4, 4
        if size == 0xFFFFFFFF:
            size, place, wide = self._number(offset + 4, 8), offset + 12, 8
        self.end = place + size
        if self.end > len(data) or size < 10:
            raise FormatError(self.what, "a program of .debug_line does not fit (truncated?)", offset)
        self.version = self._number(place, 2)
        if not 2 <= self.version <= 5:
            raise FormatError(self.what, f"version {self.version} of .debug_line is not known", offset)
        place += 2
        if self.version >= 5:
            self._address_size = data[place]
            place += 2
        self._start = place + wide + self._number(place, wide)
        place += wide
        if self._start > self.end:
            raise FormatError(self.what, "a header of .debug_line does not fit", offset)
        try:
            self._least = data[place]
            place += 2 if self.version >= 4 else 1  # the second: operations per instruction, for VLIW machines
            self._default_statement = bool(data[place])
            base = data[place + 1]
            self._base, self._range, self._first = base - 256 if base > 127 else base, data[place + 2], data[place + 3]
            place += 4
            self._lengths = data[place : place + max(0, self._first - 1)]
            place += max(0, self._first - 1)
            self.files = self._names5(place, wide, folder) if self.version >= 5 else self._names(place, folder, name)
        except IndexError:
            raise FormatError(self.what, "a header of .debug_line is truncated", place) from None
        if not self._range:
            raise FormatError(self.what, "a line range of 0", offset)

    @property
    def sequences(self) -> list[Sequence]:
        """All sequences by their start; raises FormatError."""
        if self._sequences is None:
            found = sorted(self._run(), key=lambda sequence: sequence.start)
            self._starts = [sequence.start for sequence in found]
            self._sequences = found
        return self._sequences

    def rows(self) -> int:
        """How many rows there are."""
        return sum(len(sequence.addresses) for sequence in self.sequences)

    def lookup(self, address: int) -> tuple[str, int, int] | None:
        """(file, line, column) of the code at an address; None if the program says nothing about it."""
        sequences = self.sequences
        place = bisect_right(self._starts, address)
        for sequence in reversed(sequences[max(0, place - 8) : place]):
            if address < sequence.end:
                row = bisect_right(sequence.addresses, address) - 1
                return self.file(sequence.files[row]), sequence.lines[row], sequence.columns[row]
        return None

    def file(self, number: int) -> str:
        """The path of a file by number, "" if there is none."""
        return self.files[number] if number < len(self.files) else ""

    def numbers(self, file: str) -> frozenset[int]:
        """The numbers of the files that a path means, or the last parts of one ("a.c", "lib/a.c")."""
        last = file.rpartition("/")[2]
        return frozenset([number for number, path in enumerate(self.files) if path.endswith(last) and _is(path, file)])

    # -- private

    def _number(self, place: int, size: int) -> int:
        return int.from_bytes(self._data[place : place + size], self.order)

    def _text(self, place: int) -> tuple[str, int]:
        end = self._data.find(b"\0", place, self.end)
        if end < 0:
            raise IndexError
        return self._data[place:end].decode("utf-8", "backslashreplace"), end + 1

    def _names(self, place: int, folder: str, name: str) -> list[str]:
        folders = [folder]
        while True:
            text, place = self._text(place)
            if not text or len(folders) > _MAX_NAMES:
                break
            folders.append(join(folder, text))
        files = [join(folder, name)]
        while True:
            text, place = self._text(place)
            if not text or len(files) > _MAX_NAMES:
                return files
            where, place = leb(self._data, place)
            for _ in range(2):  # time and size
                _, place = leb(self._data, place)
            files.append(join(folders[where] if where < len(folders) else folder, text))

    def _names5(self, place: int, wide: int, folder: str) -> list[str]:
        rows, place = self._table(place, wide)
        # relative to the directory of compilation, as addr2line has it; the first is that directory itself, usually absolute
        folders = [join(folder, text) for text, _ in rows]
        rows, place = self._table(place, wide)
        return [join(folders[where] if where < len(folders) else folder, text) for text, where in rows]

    def _table(self, place: int, wide: int) -> tuple[list[tuple[str, int]], int]:
        """A table of names of version 5: (path, number of the directory) each, and the place behind."""
        data = self._data
        formats = []
        number = data[place]
        place += 1
        for _ in range(number):
            content, place = leb(data, place)
            form, place = leb(data, place)
            formats.append((content, form))
        count, place = leb(data, place)
        if count > _MAX_NAMES or (count and not formats):
            raise FormatError(self.what, f"{count} names in a header of .debug_line", place)
        found = []
        for _ in range(count):
            path, folder = "", 0
            for content, form in formats:
                text, value, place = self._value(form, place, wide)
                if content == _PATH:
                    path = text
                elif content == _DIRECTORY:
                    folder = value
            found.append((path, folder))
        return found, place

    def _value(self, form: int, place: int, wide: int) -> tuple[str, int, int]:
        """(text, number, place behind) of a value in a table of names."""
        if form == 0x08:
            text, place = self._text(place)
            return text, 0, place
        if form in (0x1F, 0x0E, 0x17):
            value = self._number(place, wide)
            return self._sections.string("line_str" if form == 0x1F else "str", value) if form != 0x17 else "", value, place + wide
        size = {0x0B: 1, 0x05: 2, 0x06: 4, 0x07: 8, 0x1E: 16, 0x25: 1, 0x26: 2, 0x27: 3, 0x28: 4}.get(form)
        if size is not None:
            return "", self._number(place, size), place + size
        if form in (0x0F, 0x1A):
            value, place = leb(self._data, place)
            return "", value, place
        if form in (0x09, 0x0A):
            length, place = leb(self._data, place) if form == 0x09 else (self._data[place], place + 1)
            return "", 0, place + length
        raise FormatError(self.what, f"form {form:#x} in a header of .debug_line", place)

    def _run(self) -> list[Sequence]:
        try:
            return self._execute()
        except (IndexError, OverflowError):
            raise FormatError(self.what, "a program of .debug_line is truncated or writes impossible rows", self._start) from None

    def _execute(self) -> list[Sequence]:
        data, place, end, order = self._data, self._start, self.end, self.order
        base, span, first, least = self._base, self._range, self._first, self._least or 1
        default, lengths, mask = self._default_statement, self._lengths, (1 << 8 * self._address_size) - 1
        # a special opcode's advances of address and line, computed once
        steps = [((code - first) // span * least, base + (code - first) % span) for code in range(256)]
        constant_step = steps[255][0]
        found: list[Sequence] = []
        current, rows = Sequence(), 0
        address, file, line, column, statement = 0, 1, 1, 0, default
        addresses: list[int] = []
        files: list[int] = []
        lines: list[int] = []
        columns: list[int] = []
        statements = bytearray()
        while place < end:
            code = data[place]
            place += 1
            if code >= first:
                advance, more = steps[code]
                address += advance
                line += more
            elif code == 1:  # copy
                pass
            elif code == 0:
                length, place = leb(data, place)
                after = place + length
                if not length or after > end:
                    raise IndexError
                extended = data[place]
                if extended == 1:  # end_sequence
                    self._finish(current, found, addresses, files, lines, columns, statements, address & mask)
                    current = Sequence()
                    addresses, files, lines, columns, statements = [], [], [], [], bytearray()
                    address, file, line, column, statement = 0, 1, 1, 0, default
                elif extended == 2:  # set_address
                    address = int.from_bytes(data[place + 1 : after], order) & mask
                place = after
                continue
            else:
                if code == 2:  # advance_pc
                    value, place = leb(data, place)
                    address += value * least
                elif code == 3:  # advance_line
                    value, place = signed_leb(data, place)
                    line += value
                elif code == 4:
                    file, place = leb(data, place)
                elif code == 5:
                    column, place = leb(data, place)
                elif code == 6:
                    statement = not statement
                elif code == 8:  # const_add_pc
                    address += constant_step
                elif code == 9:  # fixed_advance_pc
                    address += int.from_bytes(data[place : place + 2], order)
                    place += 2
                elif code not in (7, 10, 11):
                    for _ in range(lengths[code - 1]):  # an opcode of a later version
                        _, place = leb(data, place)
                    if code == 12:  # set_isa, known without its argument's meaning
                        pass
                continue
            rows += 1
            if rows > _MAX_ROWS:
                raise FormatError(self.what, "a program of .debug_line with too many rows", self._start)
            addresses.append(address & mask)
            files.append(file)
            lines.append(line if line > 0 else 0)
            columns.append(column)
            statements.append(statement)
        return found

    @staticmethod
    def _finish(
        made: Sequence,
        found: list[Sequence],
        addresses: list[int],
        files: list[int],
        lines: list[int],
        columns: list[int],
        statements: bytearray,
        end: int,
    ) -> None:
        if not addresses or addresses[0] >= end:
            return
        order = range(len(addresses))
        if any(addresses[i] > addresses[i + 1] for i in range(len(addresses) - 1)):  # against the rules, but it happens
            order = sorted(order, key=addresses.__getitem__)  # type: ignore[assignment]
        made.start, made.end = addresses[order[0]], end
        made.addresses = array("Q", [addresses[i] for i in order])
        made.files = array("I", [files[i] for i in order])
        made.lines = array("I", [lines[i] for i in order])
        made.columns = array("I", [columns[i] for i in order])
        made.statements = bytearray(statements[i] for i in order)
        found.append(made)


def _is(path: str, file: str) -> bool:
    """Whether a path ends with the parts of ``file``, or is it."""
    path, file = os.path.normpath(path), os.path.normpath(file)
    return path == file or path.endswith("/" + file.lstrip("/") if not file.startswith("/") else file)
