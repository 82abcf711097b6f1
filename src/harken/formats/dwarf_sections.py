"""The sections that DWARF stands in: found by name, uncompressed, read with bounds.

Compressed are sections with the flag SHF_COMPRESSED (a header says how and how much) and the older .zdebug_* ("ZLIB", size, data).
A ``.dwp`` package holds the sections of many split units one after the other; its index tells which part belongs to which unit
(DWARF 5, section 7.3.5; https://gcc.gnu.org/wiki/DebugFissionDWP for version 2).
"""

from __future__ import annotations

import zlib

from ..base.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal

    from .elf import Elf, Section

__all__ = ("Sections", "cut")

_SHF_COMPRESSED = 0x800
_ZLIB, _ZSTD = 1, 2
_MAX_SECTION = 1 << 30
_MAX_STRING = 1 << 14
_MAX_UNITS = 1 << 18
#: Columns of a package's index -> section.
_COLUMNS = {1: "info", 3: "abbrev", 4: "line", 6: "str_offsets", 8: "rnglists"}


class Sections:
    """The debug sections of a file, by their names without ".debug_" (and ".dwo")."""

    def __init__(self, elf: Elf, split: bool = False) -> None:
        self.what, self._split = elf.what, split
        self.order: Literal["little", "big"] = "big" if elf.big_endian else "little"
        self._elf = elf
        self._by_name = {section.name: section for section in elf.sections}
        self._views: dict[str, memoryview] = {}
        self._wholes: dict[str, bytes] = {}

    def has(self, name: str) -> bool:
        """Whether there is such a section with contents."""
        section = self._section(name)
        return section is not None and len(section.data) > 0

    def view(self, name: str) -> memoryview:
        """A section, uncompressed; empty if it is not there.  Raises FormatError."""
        found = self._views.get(name)
        if found is None:
            section = self._section(name)
            found = self._views[name] = memoryview(b"") if section is None else self._contents(section)
        return found

    def whole(self, name: str) -> bytes:
        """A section as bytes."""
        found = self._wholes.get(name)
        if found is None:
            found = self._wholes[name] = bytes(self.view(name))
        return found

    def number(self, name: str, place: int, size: int) -> int:
        """An unsigned number at ``place`` of a section; raises FormatError."""
        data = self.view(name)
        if place < 0 or place + size > len(data):
            raise FormatError(self.what, f"an offset outside of .debug_{name}", place)
        return int.from_bytes(data[place : place + size], self.order)

    def string(self, name: str, place: int) -> str:
        """The text at ``place`` of a section of strings, "" outside of it."""
        return cut(self.view(name), place)

    def contributions(self) -> dict[int, dict[str, int]]:
        """Of a package: where the parts of each unit's sections start, by the unit's offset in .debug_info; empty for other files."""
        section = self._by_name.get(".debug_cu_index")
        if section is None:
            return {}
        data = bytes(section.data)

        def number(place: int, size: int = 4) -> int:
            if place + size > len(data):
                raise FormatError(self.what, "section .debug_cu_index is truncated", place)
            return int.from_bytes(data[place : place + size], self.order)

        columns, units, slots = number(4), number(8), number(12)
        start = 16 + 12 * slots
        if columns > 16 or units > _MAX_UNITS or start + 4 * columns * (2 * units + 1) > len(data):
            raise FormatError(self.what, "section .debug_cu_index does not fit", 0)
        names = [_COLUMNS.get(number(start + 4 * column), "") for column in range(columns)]
        found: dict[int, dict[str, int]] = {}
        for row in range(units):
            place = start + 4 * columns * (row + 1)
            bases = {name: number(place + 4 * column) for column, name in enumerate(names) if name}
            found[bases.get("info", 0)] = bases
        return found

    def _section(self, name: str) -> Section | None:
        if self._split:
            return self._by_name.get(f".debug_{name}.dwo")
        return self._by_name.get(f".debug_{name}") or self._by_name.get(f".zdebug_{name}")

    def _contents(self, section: Section) -> memoryview:
        data = section.data
        if section.name.startswith(".zdebug_") and bytes(data[:4]) == b"ZLIB":
            return self._inflated(section, data[12:], int.from_bytes(data[4:12], "big"), _ZLIB)
        if not section.flags & _SHF_COMPRESSED:
            return data
        wide = self._elf.bits == 64
        kind = int.from_bytes(data[:4], self.order)
        size = int.from_bytes(data[8:16] if wide else data[4:8], self.order)
        return self._inflated(section, data[24 if wide else 12 :], size, kind)

    def _inflated(self, section: Section, data: memoryview, size: int, kind: int) -> memoryview:
        if size > _MAX_SECTION:
            raise FormatError(self.what, f"section {section.name} would take {size >> 20} MiB", section.offset)
        if kind == _ZLIB:
            try:
                made = zlib.decompressobj().decompress(data, size or 1)
            except zlib.error:
                made = b""
        elif kind == _ZSTD:
            made = self._unpacked(section, data, size)
        else:
            raise FormatError(self.what, f"section {section.name} is compressed in an unknown way ({kind})", section.offset)
        if len(made) != size:
            raise FormatError(self.what, f"section {section.name} cannot be uncompressed", section.offset)
        return memoryview(made)

    def _unpacked(self, section: Section, data: memoryview, size: int) -> bytes:
        try:
            from compression import zstd  # Python 3.14

            return bytes(zstd.ZstdDecompressor().decompress(bytes(data), size))
        except ImportError:
            pass
        except Exception:  # its own error class, which older Pythons do not have
            return b""
        try:
            import zstandard
        except ImportError:
            hint = "pip install harken[zstd], or use Python 3.14"
            error = FormatError(self.what, f"section {section.name} is compressed with zstd, which this Python cannot read", section.offset)
            error.hint = hint
            raise error from None
        try:
            return bytes(zstandard.ZstdDecompressor().decompress(bytes(data), max_output_size=size))
        except zstandard.ZstdError:
            return b""


def cut(data: Any, place: int) -> str:
    """The NUL-terminated text at ``place``, "" outside of the data.

    >>> cut(b"ab\\0cd\\0", 3), cut(b"ab", 9)
    ('cd', '')
    """
    if not 0 <= place < len(data):
        return ""
    chunk = bytes(data[place : place + 128])
    if 0 not in chunk:
        chunk = bytes(data[place : place + _MAX_STRING])
    return chunk.partition(b"\0")[0].decode("utf-8", "backslashreplace")
