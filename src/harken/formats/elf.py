"""ELF files: sections, segments, symbols, build-id, notes; 32 and 64 bits, either byte order.

``Elf`` works on anything with the buffer protocol, usually a mapped file, and reads only what it is asked for.  Symbol tables are cut with
``struct.iter_unpack``, and one name is found without reading the table at all.

The file is not trusted: every offset is checked, names and counts are bounded, and what does not fit raises FormatError.

Reference: elf(5), the System V ABI; include/uapi/linux/elf.h for the numbers.

Example:
    >>> from harken.testing.elf_builder import ElfBuilder
    >>> elf = Elf(ElfBuilder().function("main", 0x401000, 16).build())
    >>> elf.symbol("main").value == 0x401000, elf.symbol_at(0x401004), elf.offset_of(0x401000)
    (True, ('main', 4), 4096)
"""

from __future__ import annotations

import struct
from bisect import bisect_right

from ..base.errors import FormatError
from ..base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .stapsdt import Marker

    Buffer = bytes | bytearray | memoryview

__all__ = ("Elf", "Section", "Segment", "Symbol", "KINDS", "BINDINGS", "MACHINES")

ET_REL = 1
PT_LOAD, PT_NOTE = 1, 4
SHT_NOTE, SHT_NOBITS, SHT_SYMTAB, SHT_DYNSYM = 7, 8, 2, 11
_SHT_VERDEF, _SHT_VERNEED, _SHT_VERSYM = 0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF

#: Symbol types and bindings by number (the low and high half of st_info).
KINDS = {0: "notype", 1: "object", 2: "func", 3: "section", 4: "file", 5: "common", 6: "tls", 10: "ifunc"}
BINDINGS = {0: "local", 1: "global", 2: "weak", 10: "unique"}
#: e_machine as ``uname -m`` spells it.
MACHINES = {
    3: "i686",
    8: "mips",
    21: "ppc64",
    22: "s390x",
    40: "arm",
    62: "x86_64",
    183: "aarch64",
    243: "riscv64",
    247: "bpf",
    258: "loongarch64",
}

_MAX_NAME = 1 << 16
_MAX_NOTES = 1 << 16
_MAX_EMBEDDED = 64 << 20
_FUNCTIONS = frozenset((2, 10))


class Section(Record):
    """A section header and (a view of) its contents; ``address`` is 0 unless it is loaded."""

    name: str
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    entry_size: int
    data: memoryview


class Segment(Record):
    """A program header; ``flags`` are PF_X 1, PF_W 2, PF_R 4."""

    type: int
    flags: int
    offset: int
    address: int
    file_size: int
    memory_size: int
    align: int


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


class Elf:
    """One ELF file.

    Args:
        data: the whole file.
        what: what the user calls it, for messages.
        debug: finds the file with this one's debug symbols, if it was stripped; asked at most once, when a symbol is not found
            or all are wanted.

    Raises:
        FormatError: not an ELF file, or its header does not fit.
    """

    def __init__(self, data: Buffer, what: str = "ELF", debug: Callable[[Elf], Elf | None] | None = None) -> None:
        self.what = what
        self._find_debug = debug
        self._debug: Elf | None = None
        self.data = memoryview(data).cast("B")
        ident = bytes(self.data[:16])
        if len(ident) < 16 or ident[:4] != b"\x7fELF":
            raise FormatError(what, "not an ELF file", 0)
        if ident[4] not in (1, 2) or ident[5] not in (1, 2):
            raise FormatError(what, "unknown ELF class or byte order", 4)
        self.bits = 64 if ident[4] == 2 else 32
        self.big_endian = ident[5] == 2
        self._order = ">" if self.big_endian else "<"
        wide = self.bits == 64
        fields = self._unpack("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH", 16)
        self.type, self.machine, _, self.entry, phoff, shoff, _, _, phentsize, phnum, shentsize, shnum, shstrndx = fields
        self._program_headers = (phoff, phentsize, phnum)
        self._section_headers = (shoff, shentsize, shnum, shstrndx)
        self._segments: tuple[Segment, ...] | None = None
        self._sections: tuple[Section, ...] | None = None
        self._sorted: tuple[list[int], list[tuple[int, str]]] | None = None
        self._functions: list[tuple[str, int, int]] | None = None
        self._versions: tuple[memoryview, dict[int, tuple[str, bool]]] | None = None

    # -- headers

    @property
    def machine_name(self) -> str:
        """The machine as ``uname -m`` spells it, "" if unknown."""
        return MACHINES.get(self.machine, "")

    @property
    def relocatable(self) -> bool:
        """Whether this is an object file (its symbols' values count from the start of their section)."""
        return self.type == ET_REL

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The program headers; raises FormatError."""
        if self._segments is None:
            offset, entry, count = self._program_headers
            if count == 0xFFFF and self._section_headers[0]:  # PN_XNUM: the number stands in section 0
                count = self._header(0)[7]
            wide = self.bits == 64
            size = 56 if wide else 32
            if count and (entry < size or offset + count * entry > len(self.data)):
                raise FormatError(self.what, "the program headers do not fit into the file (truncated?)", 32)
            found = []
            for i in range(count):
                if wide:
                    kind, flags, start, address, _, filed, memory, align = self._unpack("IIQQQQQQ", offset + i * entry)
                else:
                    kind, start, address, _, filed, memory, flags, align = self._unpack("IIIIIIII", offset + i * entry)
                found.append(Segment(kind, flags, start, address, filed, memory, align))
            self._segments = tuple(found)
        return self._segments

    @property
    def sections(self) -> tuple[Section, ...]:
        """All sections, the null section first; raises FormatError.  Contents that lie outside of the file are cut short."""
        if self._sections is None:
            offset, entry, count, names = self._section_headers
            size = 64 if self.bits == 64 else 40
            if not offset:
                self._sections = ()
                return ()
            if entry < size or offset + entry > len(self.data):
                raise FormatError(self.what, "the section headers do not fit into the file (truncated?)", 40)
            first = self._header(0)
            count = count or first[5]
            names = first[6] if names == 0xFFFF else names
            if offset + count * entry > len(self.data):
                raise FormatError(self.what, "the section headers do not fit into the file (truncated?)", offset)
            headers = [self._header(i) for i in range(count)]
            table = self._contents(headers[names]) if names < count else self.data[:0]
            self._sections = tuple(
                Section(_string(table, h[0]), h[1], h[2], h[3], h[4], h[5], h[6], h[7], h[9], self._contents(h)) for h in headers
            )
        return self._sections

    def section(self, name: str) -> Section | None:
        """The first section called ``name``, or None."""
        return next((section for section in self.sections if section.name == name), None)

    def offset_of(self, address: int) -> int | None:
        """The file offset of a virtual address (what uprobes count in), or None if no segment loads it from the file."""
        for segment in self.segments:
            if segment.type == PT_LOAD and segment.address <= address < segment.address + segment.file_size:
                return address - segment.address + segment.offset
        return None

    def address_of(self, offset: int) -> int | None:
        """The virtual address of a file offset, executable segments first, or None if it is not loaded."""
        for executable in (1, 0):
            for segment in self.segments:
                inside = segment.offset <= offset < segment.offset + segment.file_size
                if segment.type == PT_LOAD and segment.flags & 1 == executable and inside:
                    return offset - segment.offset + segment.address
        return None

    def symbol_offset(self, symbol: Symbol) -> int | None:
        """The file offset of a symbol, or None if it has none (undefined, absolute, not loaded from the file)."""
        if not 0 < symbol.section < 0xFF00:
            return None
        if self.relocatable:
            sections = self.sections
            return sections[symbol.section].offset + symbol.value if symbol.section < len(sections) else None
        return self.offset_of(symbol.value)

    @property
    def build_id(self) -> str:
        """The GNU build-id in hex, "" if there is none."""
        for name, kind, description in self.notes():
            if name == "GNU" and kind == 3:
                return bytes(description).hex()
        return ""

    def notes(self) -> Iterator[tuple[str, int, memoryview]]:
        """(name, type, description) of every note in the note sections, or in the note segments of a file without sections."""
        areas = [(s.data, 8 if s.name == ".note.gnu.property" else 4) for s in self.sections if s.type == SHT_NOTE]
        if not areas:
            areas = [(self.data[s.offset : s.offset + s.file_size], 8 if s.align == 8 else 4) for s in self.segments if s.type == PT_NOTE]
        left = _MAX_NOTES
        for data, align in areas:
            position = 0
            while position + 12 <= len(data) and left:
                left -= 1
                name_size, size, kind = struct.unpack_from(self._order + "III", data, position)
                name_start = position + 12
                start = name_start + (name_size + align - 1) // align * align
                if start + size > len(data):
                    break
                name = bytes(data[name_start : name_start + min(name_size, 256)]).split(b"\0", 1)[0]
                yield name.decode("utf-8", "backslashreplace"), kind, data[start : start + size]
                position = start + (size + align - 1) // align * align

    def stapsdt(self) -> tuple[Marker, ...]:
        """The USDT markers of the file (``formats.stapsdt``); raises FormatError."""
        from .stapsdt import markers

        return markers(self)

    # -- symbols

    @property
    def debug(self) -> Elf | None:
        """The file with the symbols that were stripped from this one, None if there is none; its addresses are this one's.

        It comes from the ``debug`` argument, else from section ".gnu_debugdata" (a small ELF file of function symbols, compressed with xz).
        """
        find, self._find_debug = self._find_debug, None
        if find is not None and all(section.type != SHT_SYMTAB for section in self.sections):
            try:
                self._debug = find(self) or self._embedded()
            except FormatError:
                self._debug = None
        return self._debug

    def debug_link(self) -> tuple[str, int] | None:
        """(file name, CRC-32) that section ".gnu_debuglink" states, or None."""
        section = self.section(".gnu_debuglink")
        if section is None or len(section.data) < 8:
            return None
        name = bytes(section.data[:-4]).split(b"\0", 1)[0]
        (check,) = struct.unpack_from(self._order + "I", section.data, len(section.data) - 4)
        return (name.decode("utf-8", "surrogateescape"), check) if name and b"/" not in name else None

    def _embedded(self) -> Elf | None:
        section = self.section(".gnu_debugdata")
        if section is None:
            return None
        import lzma

        try:
            return Elf(lzma.LZMADecompressor().decompress(bytes(section.data), _MAX_EMBEDDED), f"{self.what}, section .gnu_debugdata")
        except (lzma.LZMAError, EOFError):
            raise FormatError(self.what, "section .gnu_debugdata is damaged", section.offset) from None

    def symbols(self, table: str = "") -> Iterator[Symbol]:
        """All symbols of ".symtab" and ".dynsym", or of the one named."""
        for section in self._tables():
            if table in ("", section.name):
                names = self._names(section)
                for index, row in enumerate(self._rows(section)):
                    yield self._symbol(section, names, index, row)

    def functions(self) -> list[tuple[str, int, int]]:
        """(name, address, size) of every defined function of both tables, sorted by name, each once; raises FormatError.

        In object files the address counts from the start of the section.  "@VERSION" suffixes that some linkers write are cut off.
        """
        if self._functions is None:
            found: set[tuple[str, int, int]] = set()
            for section in self._tables():
                names = self._names(section)
                text = names.decode("latin-1")
                find, plain, add = text.find, text.isascii(), found.add
                length = len(text)
                for name, info, _, index, value, size in self._rows(section):
                    if info & 15 in _FUNCTIONS and index and name and name < length:
                        end = find("\0", name, name + _MAX_NAME)
                        if end > name:
                            add((text[name:end], value, size) if plain else (_decode(names[name:end]), value, size))
            if self.debug is not None:
                found.update(self.debug.functions())
            if any("@" in name for name, _, _ in found):
                found = {(name.partition("@")[0] or name, value, size) for name, value, size in found}
            self._functions = sorted(found)
        return self._functions

    def symbol(self, name: str) -> Symbol | None:
        """The defined symbol ``name`` ("memcpy", or with a version "memcpy@GLIBC_2.2.5"), or None.

        Of several the best one: a function before other kinds, the default version before old ones, .dynsym's before .symtab's.
        """
        found = self.symbols_named(name) or (self.debug.symbols_named(name) if self.debug is not None else [])
        if not found:
            return None
        return min(found, key=lambda s: (s.kind not in ("func", "ifunc"), not s.default, s.binding == "local"))

    def symbols_named(self, name: str) -> list[Symbol]:
        """Every defined symbol called ``name``, with its versions, .dynsym's first."""
        base, _, version = name.partition("@")
        version = version.lstrip("@")
        if not base:
            base, version = name, ""
        found = []
        for section in sorted(self._tables(), key=lambda section: section.type != SHT_DYNSYM):
            for symbol in self._search(section, base.encode("utf-8", "surrogateescape")):
                if not version or symbol.version == version:
                    found.append(symbol)
        return found

    def symbol_at(self, address: int) -> tuple[str, int] | None:
        """(name, offset in it) of the function, or failing that object, that contains an address; None if none does."""
        if self._sorted is None:
            best: dict[int, tuple[int, int, str]] = {}
            self._rank(best)
            if self.debug is not None:
                self.debug._rank(best)
            addresses = sorted(best)
            self._sorted = (addresses, [best[a][1:] for a in addresses])
        addresses, entries = self._sorted
        place = bisect_right(addresses, address) - 1
        if place < 0:
            return None
        size, name_text = entries[place]
        start = addresses[place]
        if size and address >= start + size:
            return None
        if not size:  # assembly without .size: up to the next symbol, but inside the same segment
            segment = next((s for s in self.segments if s.type == PT_LOAD and s.address <= start < s.address + s.memory_size), None)
            if segment is not None and address >= segment.address + segment.memory_size:
                return None
        return name_text, address - start

    # -- private

    def _rank(self, best: dict[int, tuple[int, int, str]]) -> None:
        """Adds the best symbol at every address: (rank, size, name)."""
        for section in self._tables():
            names = self._names(section)
            for name, info, _, index, value, size in self._rows(section):
                kind = info & 15
                if not index or index >= 0xFF00 or kind not in (0, 1, 2, 10) or not name:
                    continue
                # of several at one address: functions, then sized ones, then global ones
                rank = (0 if kind in _FUNCTIONS else 4 if kind == 1 else 8) + (0 if size else 2) + (0 if info >> 4 else 1)
                known = best.get(value)
                if known is None or rank < known[0]:
                    text = _decode(_cut(names, name)).partition("@")[0]
                    if text and not text.startswith("$"):  # $x, $d: arm64 mapping symbols
                        best[value] = (rank, size, text)

    def _unpack(self, layout: str, offset: int) -> tuple[int, ...]:
        try:
            return struct.unpack_from(self._order + layout, self.data, offset)
        except (struct.error, OverflowError):
            raise FormatError(self.what, "truncated", min(offset, len(self.data))) from None

    def _header(self, index: int) -> tuple[int, ...]:
        """name, type, flags, addr, offset, size, link, info, addralign, entsize"""
        offset, entry, _, _ = self._section_headers
        return self._unpack("IIQQQQIIQQ" if self.bits == 64 else "IIIIIIIIII", offset + index * entry)

    def _contents(self, header: tuple[int, ...]) -> memoryview:
        kind, offset, size = header[1], header[4], header[5]
        return self.data[:0] if kind == SHT_NOBITS or offset > len(self.data) else self.data[offset : offset + size]

    def _tables(self) -> list[Section]:
        return [section for section in self.sections if section.type in (SHT_SYMTAB, SHT_DYNSYM)]

    def _names(self, table: Section) -> bytes:
        return bytes(self.sections[table.link].data) if table.link < len(self.sections) else b""

    def _rows(self, table: Section) -> Iterator[tuple[int, ...]]:
        """(name, info, other, section, value, size) of every entry."""
        size = 24 if self.bits == 64 else 16
        if table.entry_size not in (0, size):
            raise FormatError(self.what, f"{table.name}: symbols of {table.entry_size} bytes", table.offset)
        data = table.data[: len(table.data) // size * size]
        if self.bits == 64:
            return struct.iter_unpack(self._order + "IBBHQQ", data)
        rows = struct.iter_unpack(self._order + "IIIBBH", data)
        return ((name, info, other, index, value, length) for name, value, length, info, other, index in rows)

    def _search(self, table: Section, name: bytes) -> Iterator[Symbol]:
        """Defined symbols called ``name``: its occurrences among the strings first, then entries that refer to them."""
        names = self._names(table)
        needle = name + b"\0"
        wanted: set[int] = set()
        position = names.find(needle)
        while position >= 0:
            wanted.add(position)
            position = names.find(needle, position + 1)
        versioned = names.find(name + b"@")  # newer linkers write memcpy@@GLIBC_2.14 into .symtab
        while versioned >= 0:
            wanted.add(versioned)
            versioned = names.find(name + b"@", versioned + 1)
        size = 24 if self.bits == 64 else 16
        data = bytes(table.data[: len(table.data) // size * size])
        if len(wanted) <= 16:
            places = []
            for start in wanted:
                word = struct.pack(self._order + "I", start)
                place = data.find(word)
                while place >= 0:
                    if place % size == 0:
                        places.append(place // size)
                    place = data.find(word, place + 1)
            rows = list(self._rows(table)) if len(places) > 64 else None
            for index in sorted(places):
                (row,) = self._rows(table.replace(data=table.data[index * size : (index + 1) * size])) if rows is None else (rows[index],)
                if row[3]:
                    yield self._symbol(table, names, index, row)
            return
        for index, row in enumerate(self._rows(table)):
            if row[0] in wanted and row[3]:
                yield self._symbol(table, names, index, row)

    def _symbol(self, table: Section, names: bytes, index: int, row: tuple[int, ...]) -> Symbol:
        name, info, _, section, value, size = row
        text = _decode(_cut(names, name))
        version, default = "", True
        base, at, suffix = text.partition("@")
        if base and at and table.type == SHT_SYMTAB:
            text, version, default = base, suffix.lstrip("@"), suffix.startswith("@")
        elif table.type == SHT_DYNSYM:
            version, default = self._version(index)
        return Symbol(
            text, value, size, KINDS.get(info & 15, str(info & 15)), BINDINGS.get(info >> 4, str(info >> 4)), section, version, default
        )

    def _version(self, index: int) -> tuple[str, bool]:
        """(version, whether it is the default) of a dynamic symbol."""
        if self._versions is None:
            table = next((s.data for s in self.sections if s.type == _SHT_VERSYM), self.data[:0])
            self._versions = (table, self._version_names())
        table, names = self._versions
        if 2 * index + 2 > len(table):
            return "", True
        (number,) = struct.unpack_from(self._order + "H", table, 2 * index)
        name, defined = names.get(number & 0x7FFF, ("", True))
        return name, defined and not number & 0x8000

    def _version_names(self) -> dict[int, tuple[str, bool]]:
        """(version, whether this file defines it) by number.

        They stand in the chains of .gnu.version_d (defined) and .gnu.version_r (needed); the steps are bounded by their size.
        """
        found: dict[int, tuple[str, bool]] = {}
        for section in self.sections:
            if section.type not in (_SHT_VERDEF, _SHT_VERNEED) or section.link >= len(self.sections):
                continue
            strings, data = self.sections[section.link].data, section.data
            position, left = 0, len(data) // 8
            while position + 16 <= len(data) and left > 0:
                left -= 1
                if section.type == _SHT_VERDEF:
                    _, flags, number, _, _, aux, following = struct.unpack(
                        self._order + "HHHHIII", bytes(data[position : position + 20]).ljust(20, b"\0")
                    )
                    if position + aux + 8 <= len(data) and not flags & 1:  # VER_FLG_BASE names the file itself
                        (name,) = struct.unpack_from(self._order + "I", data, position + aux)
                        found[number & 0x7FFF] = _string(strings, name), True
                else:
                    _, count, _, aux, following = struct.unpack_from(self._order + "HHIII", data, position)
                    place = position + aux
                    while count > 0 and place + 16 <= len(data) and left > 0:
                        left -= 1
                        count -= 1
                        _, _, number, name, step = struct.unpack_from(self._order + "IHHII", data, place)
                        found[number & 0x7FFF] = _string(strings, name), False
                        if not step:
                            break
                        place += step
                if not following:
                    break
                position += following
        return found


def _cut(strings: bytes, start: int) -> bytes:
    """The NUL-terminated string at ``start``, b"" if it lies outside."""
    if start >= len(strings):
        return b""
    end = strings.find(b"\0", start, start + _MAX_NAME)
    return strings[start:end] if end >= 0 else strings[start : start + _MAX_NAME]


def _string(table: memoryview, start: int) -> str:
    """The NUL-terminated string at ``start`` of a mapped table."""
    chunk = bytes(table[start : start + 64])
    if 0 not in chunk:
        chunk = bytes(table[start : start + _MAX_NAME])
    return _decode(chunk.split(b"\0", 1)[0])


def _decode(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
