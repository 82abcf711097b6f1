"""Symbol tables of an ELF file as columns, in bulk: .symtab, .dynsym, and names for the stubs of the procedure linkage table.

A symbol of a 64-bit file is three words of eight bytes; read as one array, every third of them is a column.  Files of the other class or
byte order go through ``struct.iter_unpack``, which takes five times as long.
"""

from __future__ import annotations

import struct
import sys
from itertools import compress

from ..base.errors import FormatError
from .model import preference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..formats.elf import Elf, Section

__all__ = ("Columns", "read_columns", "MAX_SYMBOLS")

#: Most symbols that are read from one file.
MAX_SYMBOLS = 1 << 22
_MAX_SECTIONS = 1 << 18
_MAX_STUBS = 1 << 18

_SYMTAB, _DYNSYM, _RELA, _REL = 2, 11, 4, 9
_ALLOC, _EXECUTABLE = 2, 4
_NOTYPE, _OBJECT, _FUNC, _IFUNC = 0, 1, 2, 10
_LOCAL, _GLOBAL, _WEAK, _UNIQUE = 0, 1, 2, 10
#: By st_info: 1 for functions and objects, 2 for untyped labels, 0 for the rest.
_KEEP = bytes([1 if info & 15 in (_OBJECT, _FUNC, _IFUNC) else 2 if info & 15 == _NOTYPE else 0 for info in range(256)])
#: Machines whose assemblers mark code and data with symbols "$x", "$d.1" (ELF for the Arm architecture; RISC-V psABI).
_MAPPING_SYMBOLS = (40, 183, 243)


class Columns:
    """Symbols as parallel lists.

    ``names`` are (number of the string table << 32 | offset in it); ``strings`` are those tables.
    """

    def __init__(self) -> None:
        self.values: list[int] = []
        self.sizes: list[int] = []
        self.infos: list[int] = []
        self.names: list[int] = []
        self.strings: list[bytes] = []

    def name(self, index: int) -> bytes:
        """The first 4096 bytes of a symbol's name."""
        key = self.names[index]
        strings, start = self.strings[key >> 32], key & 0xFFFFFFFF
        end = strings.find(b"\0", start, start + 4096)
        return strings[start : end if end >= 0 else start + 4096]

    def rank(self, index: int) -> tuple[object, ...]:
        """What ``model.preference`` says of a symbol."""
        binding = self.infos[index] >> 4
        return preference(self.name(index), self.sizes[index] > 0, binding == _WEAK, binding in (_GLOBAL, _UNIQUE))

    def ifunc_rank(self, index: int) -> tuple[object, ...]:
        """``rank``, with the ifuncs themselves before aliases of their resolvers."""
        return self.infos[index] & 15 == _IFUNC, *self.rank(index)


def read_columns(columns: Columns, elf: Elf, debug: Elf | None = None) -> bool:
    """Fills ``columns``; tells whether there was a full table (.symtab).

    Raises:
        FormatError: the file's headers do not fit.
    """
    check_size(elf)
    main = _table(elf, _SYMTAB)
    if main is not None:
        _add(columns, elf, main, elf.sections, ())
    else:
        debug = debug if debug is not None else elf.debug
        if debug is not None:
            check_size(debug)
            main = _table(debug, _SYMTAB)
            if main is not None:
                # The debug file's sections have no contents but the same headers.
                _add(columns, debug, main, debug.sections, ())
    dynamic = _table(elf, _DYNSYM)
    if dynamic is not None:
        _add(columns, elf, dynamic, elf.sections, frozenset(columns.values))
        _stubs(columns, elf, dynamic)
    return main is not None


def check_size(elf: Elf) -> None:
    """Refuses files whose number of sections is absurd, before an object is made for each.

    Raises:
        FormatError: more than 262,144 sections.
    """
    wide = elf.bits == 64
    order = ">" if elf.big_endian else "<"
    try:
        (offset,) = struct.unpack_from(order + ("Q" if wide else "I"), elf.data, 40 if wide else 32)
        (count,) = struct.unpack_from(order + "H", elf.data, 60 if wide else 48)
        if not count and offset:
            (count,) = struct.unpack_from(order + ("Q" if wide else "I"), elf.data, offset + (32 if wide else 20))
    except (struct.error, OverflowError):
        raise FormatError(elf.what, "the section headers do not fit into the file (truncated?)", 40) from None
    if count > _MAX_SECTIONS:
        raise FormatError(elf.what, f"{count} sections, more than the {_MAX_SECTIONS} that are read", 60)


def _table(elf: Elf, kind: int) -> Section | None:
    """The first table of this kind that has contents."""
    return next((section for section in elf.sections if section.type == kind and len(section.data)), None)


def _add(columns: Columns, elf: Elf, table: Section, sections: tuple[Section, ...], known: frozenset[int] | tuple[()]) -> None:
    """Adds the symbols of a table whose addresses are not ``known``."""
    size = 24 if elf.bits == 64 else 16
    if table.entry_size not in (0, size):
        raise FormatError(elf.what, f"section {table.name}: symbols of {table.entry_size} bytes", table.offset)
    if table.link >= len(sections):
        return
    strings = bytes(sections[table.link].data)
    if not strings or len(strings) >= 1 << 32:
        return
    data = bytes(table.data[: min(len(table.data) // size, MAX_SYMBOLS) * size])
    heads, values, sizes = _split(data, elf)
    infos = data[4::24] if size == 24 else data[12::16]
    loaded = bytearray(1 << 16)
    code = bytearray(1 << 16)
    for index, section in enumerate(sections[1:0xFF00], 1):
        loaded[index] = bool(section.flags & _ALLOC)
        code[index] = section.flags & (_ALLOC | _EXECUTABLE) == _ALLOC | _EXECUTABLE
    base = len(columns.strings) << 32
    end = len(strings)
    low = 0xFFFFFFFF
    kinds = infos.translate(_KEEP)
    wanted = [
        index
        for index in compress(range(len(kinds)), kinds)
        if loaded[heads[index] >> 48] and (heads[index] & low) < end and strings[heads[index] & low]
    ]
    if known:
        wanted = [index for index in wanted if values[index] not in known]
    if 2 in kinds:  # hidden and internal labels are the linker's
        wanted = [i for i in wanted if kinds[i] == 1 or (code[heads[i] >> 48] and heads[i] >> 40 & 3 not in (1, 2))]
    if elf.machine in _MAPPING_SYMBOLS:
        wanted = [index for index in wanted if strings[heads[index] & low] != 36]
    columns.values += [values[index] for index in wanted]
    columns.sizes += [sizes[index] for index in wanted]
    columns.infos += [infos[index] for index in wanted]
    columns.names += [base | heads[index] & low for index in wanted]
    columns.strings.append(strings)


def _split(data: bytes, elf: Elf) -> tuple[list[int], list[int], list[int]]:
    """(name | st_info << 32 | st_other << 40 | section << 48, value, size) of every entry, as columns."""
    from array import array

    if elf.bits == 64 and elf.big_endian == (sys.byteorder == "big") and not elf.big_endian:
        words = array("Q", data)
        return words[0::3].tolist(), words[1::3].tolist(), words[2::3].tolist()
    order = ">" if elf.big_endian else "<"
    heads, values, sizes = [], [], []
    if elf.bits == 64:
        rows = struct.iter_unpack(order + "IBBHQQ", data)
    else:
        rows = (
            (name, info, other, index, value, size) for name, value, size, info, other, index in struct.iter_unpack(order + "IIIBBH", data)
        )
    for name, info, other, index, value, size in rows:
        heads.append(name | info << 32 | other << 40 | index << 48)
        values.append(value)
        sizes.append(size)
    return heads, values, sizes


# -- stubs of the procedure linkage table


def _stubs(columns: Columns, elf: Elf, dynamic: Section) -> None:
    """Names every stub of the sections .plt, .plt.sec, .plt.got, .iplt after the slot that it jumps through.

    Decoding the jump works for all layouts (with and without -z now, -fcf-protection, BTI), where counting entries does not.
    """
    decode = {62: _jump_x86_64, 183: _jump_aarch64, 3: _jump_i386}.get(elf.machine)
    plts = [section for section in elf.sections if section.name in (".plt", ".plt.sec", ".plt.got", ".iplt", ".plt.bnd")]
    if decode is None or not plts or elf.big_endian:
        return
    got = next((section.address for section in elf.sections if section.name == ".got.plt"), 0)
    stubs = [stub for plt in plts for stub in decode(bytes(plt.data[: _MAX_STUBS * 16]), plt.address, got)][:_MAX_STUBS]
    names = _slots(elf, dynamic, columns, frozenset([slot for _, _, slot in stubs]))
    strings = bytearray(b"\0")
    source = len(columns.strings) << 32
    for start, size, slot in stubs:
        name = names.get(slot)
        if name:
            columns.values.append(start)
            columns.sizes.append(size)
            columns.infos.append(_GLOBAL << 4 | _FUNC)
            columns.names.append(source | len(strings))
            strings += name + b"@plt\0"
    columns.strings.append(bytes(strings))


def _slots(elf: Elf, dynamic: Section, columns: Columns, wanted: frozenset[int]) -> dict[int, bytes]:
    """Address of a slot of the global offset table -> name of the function that the dynamic linker puts there."""
    names = bytes(elf.sections[dynamic.link].data) if dynamic.link < len(elf.sections) else b""
    table, size = dynamic.data, 24 if elf.bits == 64 else 16
    relative = {62: 37, 183: 1032, 3: 42}.get(elf.machine)  # R_*_IRELATIVE
    slots: dict[int, bytes] = {}
    resolvers: dict[int, int] = {}
    for section in sorted(elf.sections, key=lambda section: ".dyn" in section.name):
        if section.type not in (_RELA, _REL) or section.name not in (".rela.plt", ".rel.plt", ".rela.dyn", ".rel.dyn", ".rela.iplt"):
            continue
        if len(slots) + len(resolvers) == len(wanted):  # .rela.dyn may be a hundred times longer than .rela.plt
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

    wide = elf.bits == 64
    count = 3 if section.type == _RELA else 2
    width = 8 if wide else 4
    words = array("Q" if wide else "I", bytes(section.data[: min(len(section.data) // (count * width), MAX_SYMBOLS) * count * width]))
    shift, mask = (32, 0xFFFFFFFF) if wide else (8, 255)
    rows = [(place, index) for index, place in enumerate(words[0::count]) if place in wanted]
    found = []
    for place, index in rows:
        info = words[count * index + 1]
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
