"""The functions of one ELF file by address.

A ``SymbolTable`` is made in one pass over .symtab and .dynsym with array slices, not with an object per symbol: 75,000 symbols take some
0.1 s.  It keeps sorted arrays and one block of names, not the file, and can be kept as bytes (``pack``), which are mapped and used as they
are (``unpack``): that takes a tenth of a millisecond.  All addresses are virtual addresses of the file; ``vaddr`` turns file offsets (what
a mapping and a sample give) into them.

What counts as a symbol, which alias is chosen and where a symbol without size ends follows perf (tools/perf/util/symbol-elf.c and
symbol.c): functions, ifuncs and objects; untyped labels in sections that hold code, unless hidden; the best alias by
``model.preference``; without a size up to the next symbol, the last one to the end of the following page.  Where symbols lie inside others
the innermost is taken, and behind its end the outer one again.  Versions ("@GLIBC_2.2.5") are cut off.

Stubs of the procedure linkage table have no symbols; they are named after what they jump to: "malloc@plt".

The file is not trusted.  What does not fit is left out; the number of symbols and the length of names are bounded.

Example:
    >>> from harken.formats.elf import Elf
    >>> from harken.testing.elf_builder import ElfBuilder
    >>> table = SymbolTable(Elf(ElfBuilder().function("main", 0x401000, 16).function("end", 0x401020).build()))
    >>> table.lookup(0x401004), table.lookup(0x401010), table.lookup(0x401024)[:2], table.find("end") == (0x401020, 0)
    (('main', 4, 4198400, 16), None, ('end', 4), True)
    >>> SymbolTable.unpack(table.pack()).lookup(0x401004)
    ('main', 4, 4198400, 16)
"""

from __future__ import annotations

import marshal
from bisect import bisect_left, bisect_right

from ..base.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any, Self

    from ..formats.elf import Elf
    from .model import Mapping

__all__ = ("SymbolTable",)

_PT_LOAD = 1
_TOP = 1 << 64
_ALIGN = 8
#: Types of the columns (``symbol_table_read.Arrays.columns``).
_LETTERS = "QQQQqQQIB"


class SymbolTable:
    """The symbols of one file.

    Args:
        elf: the file that is mapped; it may be dropped afterwards.
        debug: the file with its symbols if it was stripped; None: ``elf.debug``.

    Attributes:
        what: what the user calls the file.
        build_id: in hex, "" if it has none.
        problem: why there are no symbols or not all, "" if all is well.
        stripped: whether no .symtab was found, neither in the file nor in a debug file.
        segments: (file offset, address, size in the file, whether it holds code) of what is loaded.
        starts: addresses of the symbols, ascending; the index is the symbol's number.
        note: whatever the owner wants to keep with the table; part of ``pack``.
    """

    def __init__(self, elf: Elf, debug: Elf | None = None) -> None:
        self.what = elf.what
        self.problem = ""
        self.note: Any = None
        self.segments: tuple[tuple[int, int, int, bool], ...] = ()
        try:
            self.build_id = elf.build_id
        except FormatError:
            self.build_id = ""
        try:
            self.segments = tuple(
                [(part.offset, part.address, part.file_size, bool(part.flags & 1)) for part in elf.segments if part.type == _PT_LOAD]
            )
        except FormatError as error:
            self.problem = error.message
        from .symbol_table_read import Arrays, read_arrays

        try:
            arrays, full = read_arrays(elf, debug)
            self.stripped = not full
            self.problem = self.problem or arrays.problem
        except FormatError as error:
            self.problem = self.problem or error.message
            self.stripped = True
            arrays = Arrays()
        self._use(arrays.columns())

    def __len__(self) -> int:
        return len(self.starts)

    # -- to and from bytes

    def pack(self) -> bytes:
        """The table as bytes for this machine."""
        columns = [memoryview(column) for column in self._columns]
        head = marshal.dumps(
            (self.what, self.build_id, self.problem, self.stripped, self.segments, self.note, [column.nbytes for column in columns])
        )
        parts: list[bytes | memoryview] = [len(head).to_bytes(8, "little"), head, bytes(-len(head) % _ALIGN)]
        for column in columns:
            parts += [column, bytes(-column.nbytes % _ALIGN)]
        return b"".join(parts)

    @classmethod
    def unpack(cls, data: bytes | memoryview) -> Self:
        """The table of ``pack``; it uses ``data``, which must not change.  Only for bytes that this program has written.

        Raises:
            ValueError: not such bytes, or not whole.
        """
        view = memoryview(data)
        size = int.from_bytes(view[:8], "little")
        table = cls.__new__(cls)
        try:
            head = marshal.loads(view[8 : 8 + size])
            table.what, table.build_id, table.problem, table.stripped, table.segments, table.note, sizes = head
        except (EOFError, TypeError, ValueError) as error:
            raise ValueError(f"not a table of symbols: {error}") from None
        place = 8 + size + -size % _ALIGN
        columns: list[Any] = []
        letter: Any
        for length, letter in zip(sizes, _LETTERS, strict=True):
            columns.append(view[place : place + length].cast(letter))
            place += length + -length % _ALIGN
        if place != len(view):
            raise ValueError("not a whole table of symbols")
        table._use(tuple(columns))
        return table

    # -- addresses

    def vaddr(self, offset: int, executable: bool = True) -> int | None:
        """The virtual address of a file offset; None if nothing loads it.

        Args:
            executable: which segments come first, where two of them load the same page of the file.
        """
        for wanted in (executable, not executable):
            for start, address, size, code in self.segments:
                if code is wanted and start <= offset < start + size:
                    return offset - start + address
        return None

    def file_offset(self, vaddr: int) -> int | None:
        """The file offset of a virtual address; None if it is not loaded from the file."""
        for start, address, size, _ in self.segments:
            if address <= vaddr < address + size:
                return vaddr - address + start
        return None

    # -- symbols

    def lookup(self, vaddr: int) -> tuple[str, int, int, int] | None:
        """(name, offset in it, start, size) of the symbol that contains an address; ``size`` 0 if the file does not state it."""
        place = self.piece(vaddr)[2]
        if place < 0:
            return None
        start = self.starts[place]
        return self.name(place), vaddr - start, start, self._sizes[place]

    def lookup_many(self, vaddrs: Iterable[int]) -> dict[int, tuple[str, int, int, int]]:
        """``lookup`` of many addresses; those without a symbol are missing from the result."""
        found: dict[int, tuple[str, int, int, int]] = {}
        end, place, start, name, size = 0, -1, 0, "", 0
        for vaddr in sorted(set(vaddrs)):
            if vaddr >= end:
                _, end, place = self.piece(vaddr)
                if place >= 0:
                    name, start, size = self.name(place), self.starts[place], self._sizes[place]
            if place >= 0:
                found[vaddr] = name, vaddr - start, start, size
        return found

    def piece(self, vaddr: int) -> tuple[int, int, int]:
        """(first address, end, number of the symbol or -1) of the largest range around an address that has one answer."""
        bounds = self._bounds
        after = bisect_right(bounds, vaddr)
        high = bounds[after] if after < self._count else _TOP
        if not after:
            return 0, high, -1
        place = after - 1
        low = bounds[place]
        if self._nested:
            place = self._inner[place]
            if place < 0:
                return low, high, -1
        end = self._ends[place]
        if vaddr >= end:
            return low if low > end else end, high, -1
        return low, high if high < end else end, place

    def runs(self, addresses: Sequence[int], place: int, count: int, shift: int = 0) -> list[tuple[int, int]]:
        """Cuts ascending addresses by symbol: (index behind the last address, number of the symbol or -1).

        Args:
            addresses: of a process; those from index ``place`` to ``count`` are looked at.
            shift: how far they are above the file's.
        """
        bounds, ends, inner, nested, last = self._bounds, self._ends, self._inner, self._nested, self._count
        found, after = [], 0
        while place < count:
            vaddr = addresses[place] - shift
            after = bisect_right(bounds, vaddr, after)
            limit = bounds[after] if after < last else _TOP
            symbol = after - 1
            if nested and symbol >= 0:
                symbol = inner[symbol]
            if symbol >= 0:
                end = ends[symbol]
                if vaddr >= end:
                    symbol = -1
                elif end < limit:
                    limit = end
            place = bisect_left(addresses, limit + shift, place + 1, count)
            found.append((place, symbol))
        return found

    def part(self, mapping: Mapping, shift: int) -> tuple[int, int]:
        """[start, end) of what one segment fills of a mapping, where an address and the file's own differ by ``shift``."""
        for _, address, size, code in self.segments:
            # where two segments share a page of the file, each mapping shows the bytes of both, but means one
            if code == mapping.executable and address + shift < mapping.end and address + size + shift > mapping.start:
                return max(mapping.start, address + shift), min(mapping.end, address + size + shift)
        return mapping.start, mapping.end

    def pieces(self, mapping: Mapping) -> list[tuple[int, int, int]]:
        """The parts of a mapping that segments fill: (low, high, shift), ascending.

        ``low`` and ``high`` are distances from the mapping's start, which are ``shift`` above the file's own addresses.  Where two segments
        share a page of the file, each mapping shows the bytes of both, but means one (see ``vaddr``).
        """
        first, last = mapping.offset, min(mapping.offset + mapping.end - mapping.start, _TOP)
        loaded = [segment for segment in self.segments if segment[0] < last and segment[0] + segment[2] > first]
        # what means the mapping comes first, and lies above the others
        loaded.sort(key=lambda segment: segment[3] is not mapping.executable)
        loaded.reverse()
        spans = [(max(start, first), min(start + size, last, start + _TOP - address)) for start, address, size, _ in loaded]
        order = sorted(range(len(spans)), key=spans.__getitem__)
        if all([spans[one][0] < spans[one][1] <= spans[other][0] for one, other in zip(order, order[1:])]):  # as nearly always
            return [
                (low - first, high - first, loaded[owner][0] - first - loaded[owner][1])
                for owner in order
                for low, high in [spans[owner]]
                if low < high
            ]
        from .jit import newest

        bounds, owners = newest([(low, max(high - low, 0), "") for low, high in spans])
        found = []
        for low, high, owner in zip(bounds, [*bounds[1:], last], owners):
            if owner >= 0:
                start, address, _, _ = loaded[owner]
                found.append((low - first, high - first, start - first - address))
        return found

    @property
    def columns(self) -> tuple[Any, ...]:
        """``symbol_table_read.Arrays.columns``: all there is, as memory."""
        return self._columns

    def raw_name(self, place: int) -> bytes:
        """``name`` as the file has it."""
        return bytes(self._block[self._offsets[place] : self._offsets[place + 1] - 1])

    def name(self, place: int) -> str:
        """The name of a symbol by its number (from ``piece``)."""
        return str(self._block[self._offsets[place] : self._offsets[place + 1] - 1], "utf-8", "backslashreplace")

    def find(self, name: str) -> tuple[int, int] | None:
        """(address, size) of a symbol by its name without version: one that a lookup would give, else an alias; of several the lowest."""
        word = name.encode("utf-8", "surrogateescape") + b"\0"
        block = bytes(self._block)
        place = block.find(word) if len(word) > 1 else -1
        while place > 0 and block[place - 1]:
            place = block.find(word, place + 1)
        if place < 0:
            return None
        index = bisect_right(self._offsets, place) - 1
        count = len(self.starts)
        if index < count:
            return self.starts[index], self._sizes[index]
        return self._alias_starts[index - count], self._alias_sizes[index - count]

    def symbols(self) -> Iterator[tuple[str, int, int]]:
        """(name, start, size) by address, one for each address."""
        return ((self.name(place), self.starts[place], self._sizes[place]) for place in range(len(self.starts)))

    def _use(self, columns: tuple[Any, ...]) -> None:
        self._columns = columns
        self.starts, self._ends, self._sizes, bounds, self._inner, self._alias_starts, self._alias_sizes, self._offsets, block = columns
        self._nested = len(bounds) > 0
        self._bounds = bounds if self._nested else self.starts
        self._count = len(self._bounds)
        self._block = memoryview(block)
