"""Builds small ELF files in code, for tests: one executable segment, symbol tables, notes; any class and byte order.

Example:
    >>> ElfBuilder().function("main", 0x401000, 16).build()[:4]
    b'\\x7fELF'
"""

from __future__ import annotations

import struct

__all__ = ("ElfBuilder",)


class ElfBuilder:
    """Collects parts; every method returns the builder.

    Args:
        bits: 64 or 32.
        order: "<" or ">".
        machine: e_machine (62 is x86-64).
        base: address of the text segment, which holds ``text_size`` bytes from file offset 4096.
    """

    def __init__(self, bits: int = 64, order: str = "<", machine: int = 62, base: int = 0x401000, text_size: int = 4096) -> None:
        self.bits, self.order, self.machine, self.base, self.text_size = bits, order, machine, base, text_size
        self._symbols: dict[int, list[tuple[str, int, int, int, int]]] = {2: [], 11: []}
        self._notes: list[tuple[str, str, int, bytes]] = []
        self._sections: list[tuple[str, int, int, bytes]] = []

    def function(self, name: str, address: int, size: int = 0, dynamic: bool = False, info: int = 0x12) -> ElfBuilder:
        """A function symbol in .symtab or .dynsym; ``info`` is st_info (0x12: global function)."""
        return self.symbol(name, address, size, info, 1, dynamic)

    def symbol(self, name: str, value: int, size: int, info: int, section: int, dynamic: bool = False) -> ElfBuilder:
        self._symbols[11 if dynamic else 2].append((name, value, size, info, section))
        return self

    def note(self, section: str, owner: str, kind: int, description: bytes) -> ElfBuilder:
        self._notes.append((section, owner, kind, description))
        return self

    def section(self, name: str, data: bytes, kind: int = 1, address: int = 0) -> ElfBuilder:
        self._sections.append((name, kind, address, data))
        return self

    def marker(self, provider: str, name: str, address: int, arguments: str = "", base: int = 0, semaphore: int = 0) -> ElfBuilder:
        """A USDT note; ``base`` is the link-time address of .stapsdt.base that the note states."""
        words = struct.pack(self.order + ("QQQ" if self.bits == 64 else "III"), address, base, semaphore)
        texts = b"".join(text.encode() + b"\0" for text in (provider, name, arguments))
        return self.note(".note.stapsdt", "stapsdt", 3, words + texts)

    def build(self) -> bytes:
        """The file."""
        order, wide = self.order, self.bits == 64
        sections: list[tuple[str, int, int, int, bytes, int, int]] = [
            ("", 0, 0, 0, b"", 0, 0)
        ]  # name, type, flags, address, data, link, entry
        sections.append((".text", 1, 6, self.base, bytes(self.text_size), 0, 0))
        notes: dict[str, bytes] = {}
        for section, owner, kind, description in self._notes:
            raw = owner.encode() + b"\0"
            note = struct.pack(order + "III", len(raw), len(description), kind) + _pad(raw) + _pad(description)
            notes[section] = notes.get(section, b"") + note
        sections += [(section, 7, 0, 0, content, 0, 0) for section, content in notes.items()]
        sections += [(name, kind, 0, address, data, 0, 0) for name, kind, address, data in self._sections]
        for kind, name, strings_name in ((2, ".symtab", ".strtab"), (11, ".dynsym", ".dynstr")):
            if self._symbols[kind]:
                strings, table = b"\0", bytes(24 if wide else 16)
                for symbol, value, size, info, index in self._symbols[kind]:
                    row = (len(strings), info, 0, index, value, size) if wide else (len(strings), value, size, info, 0, index)
                    table += struct.pack(order + ("IBBHQQ" if wide else "IIIBBH"), *row)
                    strings += symbol.encode() + b"\0"
                sections.append((name, kind, 0, 0, table, len(sections) + 1, 24 if wide else 16))
                sections.append((strings_name, 3, 0, 0, strings, 0, 0))
        names, name_offsets = b"\0", []
        for section_name in [*(part[0] for part in sections), ".shstrtab"]:
            name_offsets.append(len(names) if section_name else 0)
            names += section_name.encode() + b"\0" if section_name else b""
        sections.append((".shstrtab", 3, 0, 0, names, 0, 0))
        body, headers = bytearray(4096), b""
        for (_, kind, flags, address, data, link, entry), name_offset in zip(sections, name_offsets):
            offset = len(body) if kind else 0
            body += _pad(data, 8)
            values = (name_offset, kind, flags, address, offset, len(data), link, 0, 1 if kind else 0, entry)
            headers += struct.pack(order + ("IIQQQQIIQQ" if wide else "IIIIIIIIII"), *values)
        header_size, program_size, section_size = (64, 56, 64) if wide else (52, 32, 40)
        ident = b"\x7fELF" + bytes((2 if wide else 1, 1 if order == "<" else 2, 1)) + bytes(9)
        fixed = (
            2,
            self.machine,
            1,
            self.base,
            header_size,
            len(body),
            0,
            header_size,
            program_size,
            1,
            section_size,
            len(sections),
            len(sections) - 1,
        )
        body[:header_size] = ident + struct.pack(order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH"), *fixed)
        if wide:
            program = struct.pack(order + "IIQQQQQQ", 1, 5, 4096, self.base, self.base, self.text_size, self.text_size, 4096)
        else:
            program = struct.pack(order + "IIIIIIII", 1, 4096, self.base, self.base, self.text_size, self.text_size, 5, 4096)
        body[header_size : header_size + program_size] = program
        return bytes(body) + headers


def _pad(data: bytes, align: int = 4) -> bytes:
    return data + bytes(-len(data) % align)
