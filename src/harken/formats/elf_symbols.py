"""Symbol tables of ELF files: rows in bulk, one name without reading them all, versions.

A table is a section of fixed-size entries and a section of strings; .dynsym has versions beside it (sections .gnu.version, .gnu.version_d,
.gnu.version_r; Linux Standard Base, "Symbol Versioning").  ``Elf`` in ``formats.elf`` is what users see.
"""

from __future__ import annotations

import struct

from ..base.errors import FormatError
from ..base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("Symbol", "SymbolTable", "KINDS", "BINDINGS", "FUNCTIONS", "MAX_NAME", "cut", "string", "decode", "version_names")

#: Symbol types and bindings by number (the low and high half of st_info).
KINDS = {0: "notype", 1: "object", 2: "func", 3: "section", 4: "file", 5: "common", 6: "tls", 10: "ifunc"}
BINDINGS = {0: "local", 1: "global", 2: "weak", 10: "unique"}
#: Numbers of the types that are functions.
FUNCTIONS = frozenset((2, 10))
#: Longest name that is read.
MAX_NAME = 1 << 16


class Symbol(Record):
    """A defined or undefined symbol.

    ``kind`` and ``binding`` are words of ``KINDS`` and ``BINDINGS``; ``section`` is the section's index (0: undefined, 0xfff1: absolute);
    ``version`` is the symbol's version ("GLIBC_2.2.5"), ``default`` whether new programs get this version.
    """

    name: str
    value: int
    size: int
    kind: str
    binding: str
    section: int
    version: str = ""
    default: bool = True


class SymbolTable:
    """One table.

    Args:
        what: what the user calls the file and table, for messages.
        data: the entries.
        names: the strings.
        wide: 64-bit entries.
        order: "<" or ">".
        entry_size: what the section states, 0 if nothing.
        versions: section .gnu.version (a u16 per entry); empty for .symtab.
        version_names: version number -> (name, whether the file defines it).

    Raises:
        FormatError: entries of another size.
    """

    def __init__(
        self,
        what: str,
        data: memoryview,
        names: bytes,
        wide: bool,
        order: str,
        entry_size: int = 0,
        versions: memoryview | None = None,
        version_names: dict[int, tuple[str, bool]] | None = None,
    ) -> None:
        self.size = 24 if wide else 16
        if entry_size not in (0, self.size):
            raise FormatError(what, f"symbols of {entry_size} bytes")
        self.data = data[: len(data) // self.size * self.size]
        self.names, self._wide, self._order = names, wide, order
        self._versions, self._version_names = versions, version_names or {}

    def rows(self, data: memoryview | None = None) -> Iterator[tuple[int, ...]]:
        """(name, info, other, section, value, size) of every entry."""
        data = self.data if data is None else data
        if self._wide:
            return struct.iter_unpack(self._order + "IBBHQQ", data)
        rows = struct.iter_unpack(self._order + "IIIBBH", data)
        return ((name, info, other, index, value, length) for name, value, length, info, other, index in rows)

    def symbols(self) -> Iterator[Symbol]:
        """Every entry."""
        return (self._symbol(index, row) for index, row in enumerate(self.rows()))

    def functions(self) -> set[tuple[str, int, int]]:
        """(name, address, size) of every defined function."""
        found: set[tuple[str, int, int]] = set()
        names = self.names
        text = names.decode("latin-1")
        find, plain, add, length = text.find, text.isascii(), found.add, len(text)
        for name, info, _, index, value, size in self.rows():
            if info & 15 in FUNCTIONS and index and name and name < length:
                end = find("\0", name, name + MAX_NAME)
                if end > name:
                    add((text[name:end], value, size) if plain else (decode(names[name:end]), value, size))
        return found

    def rank(self, best: dict[int, tuple[int, int, str]]) -> None:
        """Adds the best symbol at every address: (rank, size, name)."""
        for name, info, _, index, value, size in self.rows():
            kind = info & 15
            if not index or index >= 0xFF00 or kind not in (0, 1, 2, 10) or not name:
                continue
            # of several at one address: functions, then sized ones, then global ones
            rank = (0 if kind in FUNCTIONS else 4 if kind == 1 else 8) + (0 if size else 2) + (0 if info >> 4 else 1)
            known = best.get(value)
            if known is None or rank < known[0]:
                text = decode(cut(self.names, name)).partition("@")[0]
                if text and not text.startswith("$"):  # $x, $d: arm64 mapping symbols
                    best[value] = (rank, size, text)

    def search(self, name: bytes) -> Iterator[Symbol]:
        """Defined symbols called ``name``: its occurrences among the strings first, then entries that refer to them."""
        names, size = self.names, self.size
        wanted: set[int] = set()
        for needle in (name + b"\0", name + b"@"):  # newer linkers write memcpy@@GLIBC_2.14 into .symtab
            position = names.find(needle)
            while position >= 0:
                wanted.add(position)
                position = names.find(needle, position + 1)
        if len(wanted) <= 16:
            data = bytes(self.data)
            places = []
            for start in wanted:
                word = struct.pack(self._order + "I", start)
                place = data.find(word)
                while place >= 0:
                    if place % size == 0:
                        places.append(place // size)
                    place = data.find(word, place + 1)
            for index in sorted(places):
                (row,) = self.rows(self.data[index * size : (index + 1) * size])
                if row[3]:
                    yield self._symbol(index, row)
            return
        for index, row in enumerate(self.rows()):
            if row[0] in wanted and row[3]:
                yield self._symbol(index, row)

    def _symbol(self, index: int, row: tuple[int, ...]) -> Symbol:
        name, info, _, section, value, size = row
        text = decode(cut(self.names, name))
        version, default = "", True
        if self._versions is not None:
            version, default = self._version(index)
        else:
            base, at, suffix = text.partition("@")
            if base and at:
                text, version, default = base, suffix.lstrip("@"), suffix.startswith("@")
        kind, binding = info & 15, info >> 4
        return Symbol(text, value, size, KINDS.get(kind, str(kind)), BINDINGS.get(binding, str(binding)), section, version, default)

    def _version(self, index: int) -> tuple[str, bool]:
        """(version, whether it is the default) of a dynamic symbol."""
        if self._versions is None or 2 * index + 2 > len(self._versions):
            return "", True
        (number,) = struct.unpack_from(self._order + "H", self._versions, 2 * index)
        name, defined = self._version_names.get(number & 0x7FFF, ("", True))
        return name, defined and not number & 0x8000


def version_names(defined: bool, data: memoryview, strings: memoryview, order: str) -> dict[int, tuple[str, bool]]:
    """(version, ``defined``) by number, from the chain in .gnu.version_d (defined) or .gnu.version_r (needed).

    The number of steps is bounded by the size of the section.
    """
    found: dict[int, tuple[str, bool]] = {}
    position, left = 0, len(data) // 8
    while position + 16 <= len(data) and left > 0:
        left -= 1
        if defined:
            entry = bytes(data[position : position + 20]).ljust(20, b"\0")
            _, flags, number, _, _, aux, following = struct.unpack(order + "HHHHIII", entry)
            if position + aux + 8 <= len(data) and not flags & 1:  # VER_FLG_BASE names the file itself
                (name,) = struct.unpack_from(order + "I", data, position + aux)
                found[number & 0x7FFF] = string(strings, name), True
        else:
            _, count, _, aux, following = struct.unpack_from(order + "HHIII", data, position)
            place = position + aux
            while count > 0 and place + 16 <= len(data) and left > 0:
                left -= 1
                count -= 1
                _, _, number, name, step = struct.unpack_from(order + "IHHII", data, place)
                found[number & 0x7FFF] = string(strings, name), False
                if not step:
                    break
                place += step
        if not following:
            break
        position += following
    return found


def cut(strings: bytes, start: int) -> bytes:
    """The NUL-terminated string at ``start``, b"" if it lies outside."""
    if start >= len(strings):
        return b""
    end = strings.find(b"\0", start, start + MAX_NAME)
    return strings[start:end] if end >= 0 else strings[start : start + MAX_NAME]


def string(table: memoryview, start: int) -> str:
    """The NUL-terminated string at ``start`` of a mapped table."""
    chunk = bytes(table[start : start + 64])
    if 0 not in chunk:
        chunk = bytes(table[start : start + MAX_NAME])
    return decode(chunk.split(b"\0", 1)[0])


def decode(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
