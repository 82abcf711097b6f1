"""formats.elf_dynamic: what a file tells the linker, with and without section headers."""

from __future__ import annotations

import struct

import pytest

from harken.formats.elf import Elf
from harken.formats.elf_dynamic import needed, soname


def dynamic_file(bits: int = 64, order: str = "<", soname_at: int = 1, entries: int = 0) -> bytes:
    """A file of two segments and no sections: one that loads all of it, and PT_DYNAMIC."""
    wide = bits == 64
    strings = b"\0libown.so.3\0libc.so.6\0libm.so.6\0"
    head = 256
    pair = order + ("qQ" if wide else "iI")
    start = 0x400000
    tags = [(1, 13), (1, 23), (14, soname_at), (5, start + head), *[(21, 0)] * entries, (0, 0), (1, 1)]
    table = b"".join(struct.pack(pair, *entry) for entry in tags)
    size = head + len(strings) + len(table)
    loaded, dynamic = (1, 5, 0, start, size), (2, 6, head + len(strings), start + head + len(strings), len(table))
    segments = b""
    for kind, flags, offset, address, length in (loaded, dynamic):
        if wide:
            segments += struct.pack(order + "IIQQQQQQ", kind, flags, offset, address, address, length, length, 8)
        else:
            segments += struct.pack(order + "IIIIIIII", kind, offset, address, address, length, length, flags, 4)
    ident = b"\x7fELF" + bytes((2 if wide else 1, 1 if order == "<" else 2, 1)) + bytes(9)
    sizes = (64, 56, 64) if wide else (52, 32, 40)
    layout = order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH")
    header = struct.pack(layout, 3, 62, 1, 0, sizes[0], 0, 0, sizes[0], sizes[1], 2, sizes[2], 0, 0)
    return (ident + header + segments).ljust(head, b"\0") + strings + table


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [64, 32])
def test_names_by_the_segment(bits: int, order: str) -> None:
    elf = Elf(dynamic_file(bits, order))
    assert soname(elf) == "libown.so.3" and needed(elf) == ("libc.so.6", "libm.so.6")


def test_numbers_that_lead_nowhere() -> None:
    assert soname(Elf(dynamic_file(soname_at=1 << 60))) == ""
    assert needed(Elf(dynamic_file()[:-32])) == ("libc.so.6", "libm.so.6")  # cut before DT_NULL
    assert len(needed(Elf(dynamic_file(entries=5000)))) == 2
