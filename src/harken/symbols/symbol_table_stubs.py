"""Names for the stubs of the procedure linkage table, which have no symbols: "malloc@plt" for the stub that jumps to malloc.

A stub jumps through a slot of the global offset table, and a relocation tells which function the dynamic linker puts into that slot.
Decoding the jump works for all layouts (with and without -z now, -fcf-protection, BTI), where counting entries does not.  x86-64, i386 and
arm64; reference: the processor supplements of the System V ABI.
"""

from __future__ import annotations

import struct
import sys

from ..native import library
from ..native.symbol_table import stubs as name_stubs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..formats.elf import Elf, Section
    from .symbol_table_read import Columns

__all__ = ("add_stubs",)

_MAX_STUBS = 1 << 18
_MAX_RELOCATIONS = 1 << 22
_RELA, _REL = 4, 9
_RELOCATIONS = (".rela.plt", ".rel.plt", ".rela.dyn", ".rel.dyn", ".rela.iplt")
#: R_*_IRELATIVE by machine.
_RELATIVE = {62: 37, 183: 1032, 3: 42}
_GLOBAL_FUNCTION = 0x12


def add_stubs(columns: Columns, elf: Elf, dynamic: Section) -> None:
    """Adds a symbol for every stub of the sections .plt, .plt.sec, .plt.got and .iplt.

    Args:
        dynamic: section .dynsym of the file.
    """
    decode = {62: _jump_x86_64, 183: _jump_aarch64, 3: _jump_i386}.get(elf.machine)
    plts = [section for section in elf.sections if section.name in (".plt", ".plt.sec", ".plt.got", ".iplt", ".plt.bnd")]
    if decode is None or not plts or elf.big_endian:
        return
    if elf.machine == 62 and elf.bits == 64 and sys.byteorder == "little" and _add_quickly(columns, elf, dynamic, plts):
        return
    got = next((section.address for section in elf.sections if section.name == ".got.plt"), 0)
    stubs = [stub for plt in plts for stub in decode(bytes(plt.data[: _MAX_STUBS * 16]), plt.address, got)][:_MAX_STUBS]
    names = _slots(elf, dynamic, columns, frozenset([slot for _, _, slot in stubs]))
    strings = bytearray(b"\0")
    source = len(columns.strings) << 32
    for start, size, slot in stubs:
        name = names.get(slot)
        if name and not start >> 64:
            columns.values.append(start)
            columns.sizes.append(size)
            columns.infos.append(_GLOBAL_FUNCTION)
            columns.names.append(source | len(strings))
            strings += name + b"@plt\0"
    columns.strings.append(bytes(strings))


def _add_quickly(columns: Columns, elf: Elf, dynamic: Section, plts: list[Section]) -> bool:
    """``add_stubs`` by the accelerator; False if it does not do it."""
    if library() is None:
        return False
    names = bytes(elf.sections[dynamic.link].data) if dynamic.link < len(elf.sections) else b""
    text = name_stubs(
        columns.all(),
        [(bytes(plt.data[: _MAX_STUBS * 16]), plt.address) for plt in plts],
        _MAX_STUBS,
        ((_rows(elf, section), 3 if section.type == _RELA else 2) for section in _sections(elf)),
        _RELATIVE[62],
        bytes(dynamic.data),
        names,
        len(columns.strings) << 32,
    )
    if text is not None:
        columns.strings.append(text)
    return text is not None


def _sections(elf: Elf) -> list[Section]:
    """Those with relocations of stubs; .rela.dyn, which may be a hundred times longer than .rela.plt, comes last."""
    found = [section for section in elf.sections if section.type in (_RELA, _REL) and section.name in _RELOCATIONS]
    return sorted(found, key=lambda section: ".dyn" in section.name)


def _rows(elf: Elf, section: Section) -> bytes:
    """Whole relocations."""
    size = (3 if section.type == _RELA else 2) * (8 if elf.bits == 64 else 4)
    return bytes(section.data[: min(len(section.data) // size, _MAX_RELOCATIONS) * size])


def _slots(elf: Elf, dynamic: Section, columns: Columns, wanted: frozenset[int]) -> dict[int, bytes]:
    """Address of a slot of the global offset table -> name of the function that the dynamic linker puts there."""
    names = bytes(elf.sections[dynamic.link].data) if dynamic.link < len(elf.sections) else b""
    table, size = dynamic.data, 24 if elf.bits == 64 else 16
    relative = _RELATIVE.get(elf.machine)
    slots: dict[int, bytes] = {}
    resolvers: dict[int, int] = {}
    for section in _sections(elf):
        if len(slots) + len(resolvers) == len(wanted):
            break
        for place, symbol, kind, addend in _relocations(elf, section, wanted):
            if symbol and (symbol + 1) * size <= len(table):
                (start,) = struct.unpack_from("<I", table, symbol * size)
                end = names.find(b"\0", start, start + 4096)
                if 0 < start < end:
                    slots[place] = names[start:end]
            elif not symbol and kind == relative:
                resolvers[place] = addend
    if resolvers:
        # An ifunc of the file itself: the slot is filled by its resolver, whose address is the ifunc's symbol.
        targets = set(resolvers.values())
        known: dict[int, int] = {}
        for index, value in enumerate(columns.values):
            if value in targets and (value not in known or columns.ifunc_rank(index) > columns.ifunc_rank(known[value])):
                known[value] = index
        for slot, value in resolvers.items():
            if value in known:
                slots.setdefault(slot, columns.name(known[value]).partition(b"@")[0])
    return slots


def _relocations(elf: Elf, section: Section, wanted: frozenset[int]) -> list[tuple[int, int, int, int]]:
    """(place, symbol, type, addend) of the relocations at wanted places."""
    from array import array
    from itertools import compress

    wide = elf.bits == 64
    count = 3 if section.type == _RELA else 2
    words = array("Q" if wide else "I", _rows(elf, section))
    if sys.byteorder == "big":
        words.byteswap()
    shift, mask = (32, 0xFFFFFFFF) if wide else (8, 255)
    places = words[0::count]
    indexes = list(compress(range(len(places)), map(wanted.__contains__, places)))
    found = []
    for index in indexes:
        place, info = words[count * index], words[count * index + 1]
        found.append((place, info >> shift, info & mask, words[count * index + 2] if count == 3 else 0))
    return found


def _jump_x86_64(data: bytes, address: int, _got: int) -> list[tuple[int, int, int]]:
    """(start, size, slot) of every stub: ``ff 25 disp32`` is jmp *disp32(%rip); a stub has 16 bytes, in .plt.got without CET 8."""
    found = []
    place = data.find(b"\xff\x25")
    step = 8 if data[:2] == b"\xff\x25" and data[6:8] == b"\x66\x90" else 16
    while place >= 0 and place + 6 <= len(data):
        (distance,) = struct.unpack_from("<i", data, place + 2)
        start = place // step * step
        found.append((address + start, step, address + place + 6 + distance))
        place = data.find(b"\xff\x25", start + step)
    return found


def _jump_i386(data: bytes, address: int, got: int) -> list[tuple[int, int, int]]:
    """As for x86-64; ``ff a3 disp32`` jumps through %ebx, which holds the address of .got.plt, ``ff 25`` through an absolute address."""
    found = []
    for start in range(0, len(data) - 5, 16):
        stub = data[start : start + 16]
        for opcode, base in ((b"\xff\xa3", got), (b"\xff\x25", 0)):
            place = stub.find(opcode)
            if 0 <= place <= 10:
                (distance,) = struct.unpack_from("<i", stub, place + 2)
                found.append((address + start, 16, (base + distance) & 0xFFFFFFFF))
                break
    return found


def _jump_aarch64(data: bytes, address: int, _got: int) -> list[tuple[int, int, int]]:
    """(start, size, slot) of every stub: adrp x16, page; ldr x17, [x16, #offset]; the 32 bytes before the first belong to the resolver."""
    found = []
    words = struct.unpack(f"<{len(data) // 4}I", data[: len(data) // 4 * 4])
    begin = 0
    for index, (one, two) in enumerate(zip(words, words[1:])):
        if one & 0x9F00001F != 0x90000010 or two & 0xFFC003FF != 0xF9400211:
            continue
        page = (one >> 5 & 0x7FFFF) << 2 | one >> 29 & 3
        page = (page - (1 << 21) if page >> 20 else page) << 12
        place = index * 4
        slot = ((address + place) & ~0xFFF) + page + (two >> 10 & 0xFFF) * 8
        if index and words[index - 1] == 0xD503245F:  # bti c
            place -= 4
        found.append((address + place, slot))
        begin = begin or place
    starts = [start for start, _ in found] + [address + len(data)]
    return [(start, min(after - start, 24), slot) for (start, slot), after in zip(found, starts[1:])]
