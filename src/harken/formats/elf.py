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
from .elf_symbols import BINDINGS, KINDS, Symbol, SymbolTable, string, version_names

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

_MAX_NOTES = 1 << 16
_MAX_EMBEDDED = 64 << 20


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
        self._debug_known = False
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
        self._symbol_tables: list[SymbolTable] | None = None

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
                Section(string(table, h[0]), h[1], h[2], h[3], h[4], h[5], h[6], h[7], h[9], self._contents(h)) for h in headers
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
        if not self._debug_known:
            self._debug_known = True
            if all(section.type != SHT_SYMTAB for section in self.sections):
                try:
                    self._debug = (self._find_debug(self) if self._find_debug else None) or self._embedded()
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
        for section in self.sections:
            if section.type in (SHT_SYMTAB, SHT_DYNSYM) and table in ("", section.name):
                yield from self._table(section).symbols()

    def functions(self) -> list[tuple[str, int, int]]:
        """(name, address, size) of every defined function of both tables, sorted by name, each once; raises FormatError.

        In object files the address counts from the start of the section.  "@VERSION" suffixes that some linkers write are cut off.
        """
        if self._functions is None:
            found: set[tuple[str, int, int]] = set()
            for table in self._tables():
                found |= table.functions()
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
        for table in self._tables():
            for symbol in table.search(base.encode("utf-8", "surrogateescape")):
                if not version or symbol.version == version:
                    found.append(symbol)
        return found

    def symbol_at(self, address: int) -> tuple[str, int] | None:
        """(name, offset in it) of the function, or failing that object, that contains an address; None if none does."""
        if self._sorted is None:
            best: dict[int, tuple[int, int, str]] = {}
            for table in (*self._tables(), *(self.debug._tables() if self.debug is not None else ())):
                table.rank(best)
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

    def _tables(self) -> list[SymbolTable]:
        """The symbol tables, .dynsym first."""
        if self._symbol_tables is None:
            sections = [section for section in self.sections if section.type in (SHT_SYMTAB, SHT_DYNSYM)]
            self._symbol_tables = [self._table(section) for section in sorted(sections, key=lambda s: s.type != SHT_DYNSYM)]
        return self._symbol_tables

    def _table(self, section: Section) -> SymbolTable:
        sections = self.sections
        names = bytes(sections[section.link].data) if section.link < len(sections) else b""
        what = f"{self.what}, section {section.name}"
        table = (what, section.data, names, self.bits == 64, self._order, section.entry_size)
        if section.type != SHT_DYNSYM:
            return SymbolTable(*table)
        versions = next((s.data for s in sections if s.type == _SHT_VERSYM), self.data[:0])
        known: dict[int, tuple[str, bool]] = {}
        for other in sections:
            if other.type in (_SHT_VERDEF, _SHT_VERNEED) and other.link < len(sections):
                known |= version_names(other.type == _SHT_VERDEF, other.data, sections[other.link].data, self._order)
        return SymbolTable(*table, versions, known)

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
