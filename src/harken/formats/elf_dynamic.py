"""What an ELF file tells the linker: its name as a library, and the libraries that it needs.

Both stand in the dynamic section, as offsets into its string table (System V ABI, chapter 5).  Files without section headers have them as
well: there the segment PT_DYNAMIC leads to the section, and its entry DT_STRTAB to the strings.

Example:
    >>> from harken.testing.elf_builder import ElfBuilder
    >>> from harken.formats.elf import Elf
    >>> soname(Elf(ElfBuilder().build())), needed(Elf(ElfBuilder().build()))
    ('', ())
"""

from __future__ import annotations

import struct

from .elf_symbols import string

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .elf import Elf

__all__ = ("needed", "soname")

_PT_DYNAMIC, _SHT_DYNAMIC = 2, 6
_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_SONAME = 0, 1, 5, 14
_MOST_ENTRIES, _MOST_NEEDED = 4096, 512
#: Most bytes of a string table that is known by its start only.
_STRINGS = 16 << 20


def soname(elf: Elf) -> str:
    """The name under which a library is linked ("libc.so.6"), "" if there is none; raises FormatError."""
    entries, strings = _dynamic(elf)
    return next((string(strings, value) for tag, value in entries if tag == _DT_SONAME), "")


def needed(elf: Elf) -> tuple[str, ...]:
    """The sonames of the libraries that a file is linked with, in the loader's order; raises FormatError."""
    entries, strings = _dynamic(elf)
    return tuple(string(strings, value) for tag, value in entries if tag == _DT_NEEDED)[:_MOST_NEEDED]


def _dynamic(elf: Elf) -> tuple[list[tuple[int, int]], memoryview]:
    """The entries up to DT_NULL as (tag, value), and the string table."""
    data, strings = elf.data[:0], elf.data[:0]
    sections = elf.sections
    for section in sections:
        if section.type == _SHT_DYNAMIC:
            data = section.data
            strings = sections[section.link].data if section.link < len(sections) else strings
            break
    else:
        for segment in elf.segments:
            if segment.type == _PT_DYNAMIC:
                data = elf.data[segment.offset : segment.offset + segment.file_size]
                break
    layout = struct.Struct((">" if elf.big_endian else "<") + ("qQ" if elf.bits == 64 else "iI"))
    size = min(len(data) // layout.size, _MOST_ENTRIES) * layout.size
    entries: list[tuple[int, int]] = []
    for tag, value in layout.iter_unpack(data[:size]):
        if tag == _DT_NULL:
            break
        entries.append((tag, value))
    if not len(strings):
        place = next((elf.offset_of(value) for tag, value in entries if tag == _DT_STRTAB), None)
        strings = elf.data[place : place + _STRINGS] if place is not None else strings
    return entries, strings
