"""Symbol tables of an ELF file as columns, in bulk: .symtab, .dynsym, and names for the stubs of the procedure linkage table.

A symbol of a 64-bit file is three words of eight bytes; read as one array, every third of them is a column.  Files of the other class or
byte order go through ``struct.iter_unpack``, which takes five times as long.
"""

from __future__ import annotations

import struct
import sys
from itertools import accumulate, compress

from ..base.errors import FormatError
from ..native.symbol_table import CODE, LOADED, add, arrange
from .model import preference
from .symbol_table_stubs import add_stubs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array

    from ..formats.elf import Elf, Section

__all__ = ("Arrays", "read_arrays", "MAX_SYMBOLS")

#: Most symbols that are read from one file.
MAX_SYMBOLS = 1 << 21
_MAX_SECTIONS = 1 << 18
#: Longest name and most bytes of names that are kept; tables may point to the same long string a million times.
_MAX_NAME, _MAX_NAMES = 1 << 14, 1 << 28
_PAGE = 4096

_SYMTAB, _DYNSYM = 2, 11
_ALLOC, _EXECUTABLE = 2, 4
_NOTYPE, _OBJECT, _FUNC, _IFUNC = 0, 1, 2, 10
_LOCAL, _GLOBAL, _WEAK, _UNIQUE = 0, 1, 2, 10
#: By st_info: 1 for functions and objects, 2 for untyped labels, 0 for the rest.
_KEEP = bytes([1 if info & 15 in (_OBJECT, _FUNC, _IFUNC) else 2 if info & 15 == _NOTYPE else 0 for info in range(256)])
#: Machines whose assemblers mark code and data with symbols "$x", "$d.1" (ELF for the Arm architecture; RISC-V psABI).
_MAPPING_SYMBOLS = (40, 183, 243)


class Columns:
    """Symbols as parallel arrays.

    ``names`` are (number of the string table << 32 | offset in it); ``strings`` are those tables.
    """

    def __init__(self) -> None:
        from array import array

        self.values, self.sizes, self.infos, self.names = array("Q"), array("Q"), array("B"), array("Q")
        self.strings: list[bytes] = []

    def all(self) -> tuple[array[int], array[int], array[int], array[int]]:
        """Values, sizes, infos and names."""
        return self.values, self.sizes, self.infos, self.names

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


class Arrays:
    """Symbols by address, as a ``SymbolTable`` keeps them.

    ``starts``, ``ends`` and ``sizes`` have one entry for each address; ``bounds`` and ``inner`` cut the addresses into pieces where symbols
    overlap (else they are empty); then the aliases.  The name of entry i, aliases after the others, is
    ``block[offsets[i] : offsets[i + 1] - 1]``.
    """

    def __init__(self) -> None:
        from array import array

        self.starts, self.ends, self.sizes = array("Q"), array("Q"), array("Q")
        self.bounds, self.inner = array("Q"), array("q")
        self.alias_starts, self.alias_sizes = array("Q"), array("Q")
        self.offsets = array("I", [0])
        self.block: bytes | bytearray = b""
        self.problem = ""

    def columns(self) -> tuple[object, ...]:
        """All of them."""
        pieces = self.bounds, self.inner
        return self.starts, self.ends, self.sizes, *pieces, self.alias_starts, self.alias_sizes, self.offsets, self.block


def read_arrays(elf: Elf, debug: Elf | None = None) -> tuple[Arrays, bool]:
    """The symbols of a file, and whether there was a full table (.symtab), in it or in the debug file.

    Raises:
        FormatError: the file's headers do not fit.
    """
    columns = Columns()
    full = _read(columns, elf, debug)
    done = arrange(columns.all(), columns.strings, _MAX_NAMES)
    if done is None:
        return _sorted(columns), full
    arrays = Arrays()
    arrays.starts, arrays.ends, arrays.sizes, arrays.bounds, arrays.inner = done[:5]
    arrays.alias_starts, arrays.alias_sizes, arrays.offsets, arrays.block = done[5:]
    return arrays, full


def _sorted(columns: Columns) -> Arrays:
    from array import array

    values, sizes, names = columns.values, columns.sizes, columns.names
    order = sorted(range(len(values)), key=values.__getitem__)
    chosen: list[int] = []
    others: list[int] = []
    last = -1
    for index in order:
        value = values[index]
        if value != last:
            chosen.append(index)
            last = value
        else:
            best = chosen[-1]
            if names[index] != names[best]:
                if columns.rank(index) > columns.rank(best):
                    chosen[-1], index = index, best
                others.append(index)
    arrays = Arrays()
    texts, arrays.problem = _texts(columns, chosen + others)
    if len(texts) < len(chosen) + len(others):
        chosen, others = chosen[: len(texts)], others[: max(0, len(texts) - len(chosen))]
    starts = arrays.starts = array("Q", [values[index] for index in chosen])
    arrays.sizes = array("Q", [sizes[index] for index in chosen])
    arrays.alias_starts = array("Q", [values[index] for index in others])
    arrays.alias_sizes = array("Q", [sizes[index] for index in others])
    arrays.offsets = array("I", accumulate([len(text) + 1 for text in texts], initial=0))
    arrays.block = b"\0".join([*texts, b""]) if texts else b""
    top = (1 << 64) - 1
    following = [*starts[1:], 0]
    ends = [min(start + size, top) if size else after for start, size, after in zip(starts, arrays.sizes, following)]
    if ends and not arrays.sizes[-1]:
        ends[-1] = min((starts[-1] + _PAGE - 1) // _PAGE * _PAGE + _PAGE, top)
    arrays.ends = array("Q", ends)
    if any([end > after for end, after in zip(ends, following[:-1])]):
        _nest(arrays)
    return arrays


def _texts(columns: Columns, order: list[int]) -> tuple[list[bytes], str]:
    """Names without versions; fewer than asked for, and the reason, if they would take too much memory."""
    texts: list[bytes] = []
    left = _MAX_NAMES
    strings = columns.strings
    for index in order:
        key = columns.names[index]
        table, start = strings[key >> 32], key & 0xFFFFFFFF
        end = table.find(b"\0", start, start + _MAX_NAME)
        text = table[start : end if end >= 0 else start + _MAX_NAME]
        if b"@" in text and not text.endswith(b"@plt"):  # memcpy@@GLIBC_2.14
            text = text.partition(b"@")[0] or text
        left -= len(text) + 1
        if left < 0:
            return texts, f"names of more than {_MAX_NAMES >> 20} MiB"
        texts.append(text)
    return texts, ""


def _nest(arrays: Arrays) -> None:
    """Symbols overlap: cuts the range of addresses into pieces, each with the symbol that starts last of those around it."""
    starts, ends, bounds, inner = arrays.starts, arrays.ends, arrays.bounds, arrays.inner
    stack: list[int] = []
    for place, start in enumerate(starts):
        while stack and ends[stack[-1]] <= start:
            done = ends[stack.pop()]
            while stack and ends[stack[-1]] <= done:
                stack.pop()
            if done < start:
                bounds.append(done)
                inner.append(stack[-1] if stack else -1)
        bounds.append(start)
        inner.append(place)
        stack.append(place)
    while stack:
        done = ends[stack.pop()]
        while stack and ends[stack[-1]] <= done:
            stack.pop()
        bounds.append(done)
        inner.append(stack[-1] if stack else -1)


def _read(columns: Columns, elf: Elf, debug: Elf | None = None) -> bool:
    """Fills ``columns``; tells whether there was a full table."""
    check_size(elf)
    main = _table(elf, _SYMTAB)
    if main is not None:
        _add(columns, elf, main, elf.sections, None)
    else:
        debug = debug if debug is not None else elf.debug
        if debug is not None:
            check_size(debug)
            main = _table(debug, _SYMTAB)
            if main is not None:
                # The debug file's sections have no contents but the same headers.
                _add(columns, debug, main, debug.sections, None)
    dynamic = _table(elf, _DYNSYM)
    if dynamic is not None:
        _add(columns, elf, dynamic, elf.sections, columns.values[:])
        add_stubs(columns, elf, dynamic)
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


def _add(columns: Columns, elf: Elf, table: Section, sections: tuple[Section, ...], known: array[int] | None) -> None:
    """Adds the symbols of a table whose addresses are not ``known``."""
    from array import array

    size = 24 if elf.bits == 64 else 16
    if table.entry_size not in (0, size):
        raise FormatError(elf.what, f"section {table.name}: symbols of {table.entry_size} bytes", table.offset)
    if table.link >= len(sections):
        return
    strings = bytes(sections[table.link].data)
    if not strings or len(strings) >= 1 << 32:
        return
    data = bytes(table.data[: min(len(table.data) // size, MAX_SYMBOLS) * size])
    loaded = bytearray(1 << 16)
    for index, section in enumerate(sections[1:0xFF00], 1):
        if section.flags & _ALLOC:
            loaded[index] = LOADED | CODE if section.flags & _EXECUTABLE else LOADED
    base = len(columns.strings) << 32
    marks = elf.machine in _MAPPING_SYMBOLS
    own = elf.bits == 64 and elf.big_endian == (sys.byteorder == "big")
    if own and add(columns.all(), data, strings, bytes(loaded), base, known if known is not None else array("Q"), marks):
        columns.strings.append(strings)
        return
    heads, values, sizes = _split(data, elf)
    infos = data[4::24] if size == 24 else data[12::16]
    code = [holds & CODE for holds in loaded]
    end = len(strings)
    low = 0xFFFFFFFF
    kinds = infos.translate(_KEEP)
    wanted = [
        index
        for index in compress(range(len(kinds)), kinds)
        if loaded[heads[index] >> 48] and (heads[index] & low) < end and strings[heads[index] & low]
    ]
    if known:
        others = frozenset(known)
        wanted = [index for index in wanted if values[index] not in others]
    if 2 in kinds:  # hidden and internal labels are the linker's
        wanted = [i for i in wanted if kinds[i] == 1 or (code[heads[i] >> 48] and heads[i] >> 40 & 3 not in (1, 2))]
    if marks:
        wanted = [index for index in wanted if strings[heads[index] & low] != 36]
    columns.values.extend([values[index] for index in wanted])
    columns.sizes.extend([sizes[index] for index in wanted])
    columns.infos.extend([infos[index] for index in wanted])
    columns.names.extend([base | heads[index] & low for index in wanted])
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
