"""The call frame information of one file: from an address of the file to its FDE.

.eh_frame_hdr has a table sorted by address, in which an address is found by bisection without reading anything else; a file without it (or
with a table that is not sorted) is walked once.  What .eh_frame does not cover is looked for in .debug_frame, here or in the separate debug
file.

Reference: LSB 5.0 Core, chapter 10.6.2 (.eh_frame_hdr).
"""

from __future__ import annotations

import struct

from ...base.errors import FormatError
from .cfi import Fde, FrameSection
from .reader import OMIT, pointer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...formats.elf import Elf, Section

__all__ = ("FrameTable",)

_PT_GNU_EH_FRAME = 0x6474E550
_SHF_COMPRESSED = 0x800
_MAX_SECTION = 1 << 30
_MAX_TABLE = 1 << 24
#: datarel | sdata4: what all linkers write
_USUAL = 0x3B


class FrameTable:
    """Finds FDEs of an ELF file.

    Args:
        elf: a little-endian file; others have no frames here.
    """

    def __init__(self, elf: Elf) -> None:
        self._elf = elf
        self._fdes: dict[int, Fde] = {}
        self._eh: FrameSection | None = None
        self._table: memoryview | None = None
        self._count = 0
        self._base = 0
        self._debug: list[FrameSection] | None = None
        self._word = elf.bits // 8
        if not elf.big_endian and not elf.relocatable:
            try:
                self._open()
            except (FormatError, struct.error, ValueError, IndexError):
                # a damaged header is no reason not to walk the section
                self._table = None

    def find(self, address: int) -> Fde | None:
        """The FDE that covers an address of the file, or None; what is damaged counts as absent."""
        try:
            return self._find(address)
        except (FormatError, struct.error, ValueError, IndexError):
            return None

    def _find(self, address: int) -> Fde | None:
        found: Fde | None = None
        if self._eh is not None:
            if self._table is not None:
                found = self._search(self._eh, self._table, address)
            else:
                found = self._eh.find(address)
        if found is None:
            for section in self._debug_frames():
                found = section.find(address)
                if found is not None:
                    break
        return found

    def _search(self, section: FrameSection, table: memoryview, address: int) -> Fde | None:
        key = address - self._base
        low, high = 0, self._count
        unpack = struct.unpack_from
        while low < high:
            middle = (low + high) >> 1
            if unpack("<i", table, 8 * middle)[0] <= key:
                low = middle + 1
            else:
                high = middle
        if not low:
            return None
        offset = unpack("<i", table, 8 * low - 4)[0] + self._base - section.address
        fde = self._fdes.get(offset)
        if fde is None:
            fde = self._fdes[offset] = section.fde(offset)
        return fde if fde.start <= address < fde.end else None

    def _open(self) -> None:
        elf = self._elf
        text = elf.section(".text")
        hdr = elf.section(".eh_frame_hdr")
        data, address = (hdr.data, hdr.address) if hdr is not None and len(hdr.data) else (None, 0)
        if data is None:
            # no section headers: the loader's own note of it
            segment = next((s for s in elf.segments if s.type == _PT_GNU_EH_FRAME), None)
            if segment is not None:
                data, address = elf.data[segment.offset : segment.offset + segment.file_size], segment.address
        frames = elf.section(".eh_frame")
        if frames is not None and len(frames.data):
            self._eh = FrameSection(
                frames.data, frames.address, text=text.address if text else 0, base=address, what=elf.what, word=self._word
            )
        if data is None or len(data) < 4 or data[0] != 1:
            return
        word = self._word
        place, position = pointer(data, 4, data[1], address + 4, base=address, word=word) if data[1] != OMIT else (0, 4)
        if self._eh is None and place:
            offset = elf.offset_of(place)
            segment = next((s for s in elf.segments if s.type == 1 and s.address <= place < s.address + s.file_size), None)
            if offset is None or segment is None:
                return
            end = min(segment.offset + segment.file_size, offset + _MAX_SECTION)
            self._eh = FrameSection(elf.data[offset:end], place, base=address, what=elf.what, word=word)
        if data[2] == OMIT or data[3] != _USUAL:
            return
        count, position = pointer(data, position, data[2], address + position, base=address, word=word)
        if count > _MAX_TABLE or position + 8 * count > len(data) or not count:
            return
        table = data[position : position + 8 * count]
        starts = [struct.unpack_from("<i", table, 8 * place)[0] for place in (0, count // 2, count - 1)]
        if starts == sorted(starts):
            self._table, self._count, self._base = table, count, address

    def _debug_frames(self) -> list[FrameSection]:
        if self._debug is None:
            self._debug = []
            for elf in (self._elf, self._elf.debug):
                section = elf.section(".debug_frame") if elf is not None and not elf.big_endian else None
                if elf is not None and section is not None:
                    self._debug.append(
                        FrameSection(_contents(elf, section), section.address, debug=True, what=elf.what, word=elf.bits // 8)
                    )
        return self._debug


def _contents(elf: Elf, section: Section) -> memoryview:
    """A section's bytes, decompressed (ELF gABI, "Compression Header": type, size, alignment; type 1 is zlib)."""
    data = section.data
    if not section.flags & _SHF_COMPRESSED:
        return data
    layout = struct.Struct("<IIQQ" if elf.bits == 64 else "<III")
    kind, size = (head := layout.unpack_from(data))[0], head[-2]
    if kind != 1 or size > _MAX_SECTION:
        raise FormatError(elf.what, f"section {section.name} is compressed in an unknown way", section.offset)
    import zlib

    return memoryview(zlib.decompressobj().decompress(bytes(data[layout.size :]), size))
