"""Numbers of DWARF: LEB128, and pointers as .eh_frame encodes them.

References: DWARF 5, section 7.6; LSB 5.0 Core, chapter 10.5 ("DWARF Extensions", DW_EH_PE_*).

Example:
    >>> uleb(bytes([0xE5, 0x8E, 0x26]), 0), sleb(bytes([0x7E]), 0)
    ((624485, 3), (-2, 1))
    >>> pointer(bytes([0xF0, 0xFF, 0xFF, 0xFF]), 0, 0x1B, 0x1000) == (0xFF0, 4)
    True
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    Buffer = bytes | memoryview

__all__ = ("uleb", "sleb", "block", "pointer", "OMIT", "WORD")

#: DW_EH_PE_omit: there is no pointer
OMIT = 0xFF
#: values are kept to 64 bits
WORD = (1 << 64) - 1
_LEB_LIMIT = 70  # bits after which a number is damaged

_FORMATS = {0x02: ("<H", 2), 0x03: ("<I", 4), 0x04: ("<Q", 8), 0x0A: ("<h", 2), 0x0B: ("<i", 4), 0x0C: ("<q", 8)}


def uleb(data: Buffer, position: int) -> tuple[int, int]:
    """(value, position behind it); raises IndexError at the end of the data and ValueError for endless numbers."""
    byte = data[position]
    position += 1
    if byte < 0x80:
        return byte, position
    value, shift = byte & 0x7F, 7
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & WORD, position
        shift += 7
        if shift > _LEB_LIMIT:
            raise ValueError("endless LEB128 number")


def sleb(data: Buffer, position: int) -> tuple[int, int]:
    """Like ``uleb``, signed."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return (value - (1 << shift) if byte & 0x40 else value), position
        if shift > _LEB_LIMIT:
            raise ValueError("endless LEB128 number")


def block(data: bytes, position: int) -> tuple[bytes, int]:
    """(bytes with their length before them, position behind them); raises IndexError where the data ends before."""
    size, position = uleb(data, position)
    if position + size > len(data):
        raise IndexError("cut off")
    return data[position : position + size], position + size


def pointer(
    data: Buffer, position: int, encoding: int, place: int, text: int = 0, base: int = 0, function: int = 0, word: int = 8
) -> tuple[int, int]:
    """An encoded pointer.

    Args:
        encoding: DW_EH_PE_*; the "indirect" bit is left to the caller.
        place: the address at which the pointer itself lies (for pc-relative ones).
        text, base, function: start of .text, of the data (.eh_frame_hdr or GOT), of the function.
        word: bytes of an address.

    Returns:
        (value, position behind it); raises ValueError for encodings that do not exist, IndexError or struct.error at the data's end.
    """
    kind = encoding & 0x70
    if kind == 0x50:  # aligned: an absolute word at the next multiple of its size
        position += -place % word
        return struct.unpack_from("<Q" if word == 8 else "<I", data, position)[0], position + word
    shape = encoding & 0x0F
    if shape == 0x01:
        value, end = uleb(data, position)
    elif shape == 0x09:
        value, end = sleb(data, position)
    elif shape == 0x00:
        value, end = struct.unpack_from("<Q" if word == 8 else "<I", data, position)[0], position + word
    else:
        layout = _FORMATS.get(shape)
        if layout is None:
            raise ValueError(f"unknown pointer encoding {encoding:#x}")
        value, end = struct.unpack_from(layout[0], data, position)[0], position + layout[1]
    if value:
        if kind == 0x10:
            value += place
        elif kind == 0x20:
            value += text
        elif kind == 0x30:
            value += base
        elif kind == 0x40:
            value += function
        elif kind:
            raise ValueError(f"unknown pointer encoding {encoding:#x}")
    return value & (WORD if word == 8 else 0xFFFFFFFF), end
