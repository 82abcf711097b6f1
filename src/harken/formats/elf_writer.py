"""Writes relocatable ELF files of 64 bits, little endian: sections, symbols, relocations.

Example:
    >>> from harken.formats.elf import Elf
    >>> writer = ElfWriter(machine=247)
    >>> text = writer.section("text", b"\\x95" + bytes(7), flags=SHF_ALLOC | SHF_EXECINSTR, align=8)
    >>> _ = writer.symbol("program", text, 0, 8, STT_FUNC)
    >>> elf = Elf(writer.build())
    >>> elf.machine_name, elf.relocatable, elf.functions()
    ('bpf', True, [('program', 0, 8)])
"""

from __future__ import annotations

from struct import pack

__all__ = (
    "ElfWriter", "SHF_ALLOC", "SHF_EXECINSTR", "SHF_WRITE", "SHT_PROGBITS", "STT_FUNC", "STT_NOTYPE", "STT_OBJECT", "STT_SECTION",
)  # fmt: skip

SHT_PROGBITS, _SHT_SYMTAB, _SHT_STRTAB, _SHT_REL = 1, 2, 3, 9
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR, _SHF_INFO_LINK = 1, 2, 4, 64
STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_SECTION = 0, 1, 2, 3
_HEADER, _SECTION_HEADER, _SYMBOL = 64, 64, 24


class ElfWriter:
    """Collects parts; numbers of sections and symbols are final when they are given out.

    Local symbols must stand before global ones in the file (System V ABI), so symbols are handed out as tokens that ``build`` numbers.
    """

    def __init__(self, machine: int) -> None:
        self._machine = machine
        #: name, type, flags, data, align, entry size; section 0 is the null section
        self._sections: list[tuple[str, int, int, bytes, int]] = [("", 0, 0, b"", 0)]
        self._symbols: list[tuple[str, int, int, int, int, bool]] = []
        self._relocs: dict[int, list[tuple[int, int, int]]] = {}

    def section(self, name: str, data: bytes, type: int = SHT_PROGBITS, flags: int = 0, align: int = 1) -> int:
        """Adds a section; returns its number."""
        self._sections.append((name, type, flags, data, align))
        return len(self._sections) - 1

    def symbol(self, name: str, section: int, value: int, size: int, type: int = STT_NOTYPE, local: bool = False) -> int:
        """Adds a symbol (section 0: undefined); returns its token for ``reloc``."""
        self._symbols.append((name, section, value, size, type, local))
        return len(self._symbols) - 1

    def reloc(self, section: int, offset: int, symbol: int, type: int) -> None:
        """Adds a relocation without addend (SHT_REL) of the byte ``offset`` in a section."""
        self._relocs.setdefault(section, []).append((offset, symbol, type))

    def build(self) -> bytes:
        """The file."""
        sections = [(*section, 0, 0, 0) for section in self._sections]
        # locals first
        order = sorted(range(len(self._symbols)), key=lambda token: not self._symbols[token][5])
        number = {token: place + 1 for place, token in enumerate(order)}
        first_global = 1 + sum([symbol[5] for symbol in self._symbols])
        symtab_index = len(sections) + len(self._relocs)
        for section, relocs in self._relocs.items():
            data = b"".join([pack("<QQ", offset, number[symbol] << 32 | type) for offset, symbol, type in sorted(relocs)])
            sections.append((".rel" + self._sections[section][0], _SHT_REL, _SHF_INFO_LINK, data, 8, symtab_index, section, 16))
        strings, symbols = bytearray(b"\0"), [bytes(_SYMBOL)]
        for token in order:
            name, section, value, size, type, local = self._symbols[token]
            where = 0
            if name:
                where = len(strings)
                strings += name.encode() + b"\0"
            symbols.append(pack("<IBBHQQ", where, (0 if local else 1) << 4 | type, 0, section, value, size))
        sections.append((".symtab", _SHT_SYMTAB, 0, b"".join(symbols), 8, symtab_index + 1, first_global, _SYMBOL))
        sections.append((".strtab", _SHT_STRTAB, 0, bytes(strings), 1, 0, 0, 0))
        names, offsets = bytearray(b"\0"), []
        for name in [*(entry[0] for entry in sections), ".shstrtab"]:
            offsets.append(len(names) if name else 0)
            names += name.encode() + b"\0" if name else b""
        sections.append((".shstrtab", _SHT_STRTAB, 0, bytes(names), 1, 0, 0, 0))
        body, headers = bytearray(_HEADER), []
        for (_, type, flags, data, align, link, info, entry), name_offset in zip(sections, offsets):
            if align > 1:
                body += bytes(-len(body) % align)
            headers.append(pack("<IIQQQQIIQQ", name_offset, type, flags, 0, len(body) if type else 0, len(data), link, info, align, entry))
            body += data
        body += bytes(-len(body) % 8)
        ident = b"\x7fELF\x02\x01\x01" + bytes(9)
        # ET_REL, no program headers
        body[:_HEADER] = ident + pack(
            "<HHIQQQIHHHHHH", 1, self._machine, 1, 0, 0, len(body), 0, _HEADER, 0, 0, _SECTION_HEADER, len(sections), len(sections) - 1
        )
        return bytes(body) + b"".join(headers)
