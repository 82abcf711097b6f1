"""The functions of one ELF file by address.

A ``SymbolTable`` is made in one pass over .symtab and .dynsym with array slices, not with an object per symbol: 75,000 symbols take some
50 ms.  It keeps sorted arrays and the strings, not the file.  All addresses are virtual addresses of the file; ``vaddr`` turns file offsets
(what a mapping and a sample give) into them.

What counts as a symbol, which alias is chosen and where a symbol without size ends follows perf (tools/perf/util/symbol-elf.c and
symbol.c): functions, ifuncs and objects; untyped labels in sections that hold code, unless hidden; the best alias by
``model.preference``; without a size up to the next symbol, the last one to the end of the following page.  Where symbols lie inside others
the innermost is taken, and behind its end the outer one again.

Stubs of the procedure linkage table have no symbols; they are named after what they jump to: "malloc@plt".

The file is not trusted.  What does not fit is left out, and the number of symbols is bounded.

Example:
    >>> from harken.formats.elf import Elf
    >>> from harken.testing.elf_builder import ElfBuilder
    >>> table = SymbolTable(Elf(ElfBuilder().function("main", 0x401000, 16).function("end", 0x401020).build()))
    >>> table.lookup(0x401004), table.lookup(0x401010), table.lookup(0x401024)[:2], table.find("end") == (0x401020, 0)
    (('main', 4, 4198400, 16), None, ('end', 4), True)
"""

from __future__ import annotations

from bisect import bisect_right

from ..base.errors import FormatError
from ..formats.elf_symbols import MAX_NAME
from .symbol_table_read import MAX_SYMBOLS, Columns, read_columns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable, Iterator

    from ..formats.elf import Elf

__all__ = ("SymbolTable", "MAX_SYMBOLS")

_PAGE = 4096
_PT_LOAD = 1


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
    """

    def __init__(self, elf: Elf, debug: Elf | None = None) -> None:
        self.what = elf.what
        self.problem = ""
        self.build_id = _or_empty(lambda: elf.build_id)
        self.segments: tuple[tuple[int, int, int, bool], ...] = ()
        try:
            self.segments = tuple(
                (segment.offset, segment.address, segment.file_size, bool(segment.flags & 1))
                for segment in elf.segments
                if segment.type == _PT_LOAD
            )
        except FormatError as error:
            self.problem = error.message
        columns = Columns()
        try:
            self.stripped = not read_columns(columns, elf, debug)
        except FormatError as error:
            self.problem = self.problem or error.message
            self.stripped = True
        self._finish(columns)

    def __len__(self) -> int:
        return len(self._starts)

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
        place = bisect_right(self._bounds, vaddr) - 1
        if place < 0:
            return None
        if self._inner is not None:
            place = self._inner[place]
            if place < 0:
                return None
        start = self._starts[place]
        if vaddr >= self._ends[place]:
            return None
        return self._name(place), vaddr - start, start, self._sizes[place]

    def lookup_many(self, vaddrs: Iterable[int]) -> dict[int, tuple[str, int, int, int]]:
        """``lookup`` of many addresses; those without a symbol are missing from the result."""
        found = {}
        for vaddr in set(vaddrs):
            symbol = self.lookup(vaddr)
            if symbol is not None:
                found[vaddr] = symbol
        return found

    def find(self, name: str) -> tuple[int, int] | None:
        """(address, size) of a symbol by its name without version; of several the lowest that a lookup would give, then any alias."""
        word = name.encode("utf-8", "surrogateescape")
        wanted: set[int] = set()
        for source, strings in enumerate(self._strings):
            for needle in (word + b"\0", word + b"@"):
                place = strings.find(needle) if word else -1
                while place >= 0 and len(wanted) < 64:
                    wanted.add(source << 32 | place)
                    place = strings.find(needle, place + 1)
        for names, starts, sizes in ((self._names, self._starts, self._sizes), self._aliases):
            for place, key in enumerate(names):
                if key in wanted:
                    return starts[place], sizes[place]
        return None

    def symbols(self) -> Iterator[tuple[str, int, int]]:
        """(name, start, size) by address, one for each address."""
        return ((self._name(place), self._starts[place], self._sizes[place]) for place in range(len(self._starts)))

    # -- private

    def _name(self, place: int) -> str:
        key = self._names[place]
        strings, start = self._strings[key >> 32], key & 0xFFFFFFFF
        end = strings.find(b"\0", start, start + MAX_NAME)
        text = strings[start : end if end >= 0 else start + MAX_NAME].decode("utf-8", "backslashreplace")
        if "@" in text and not text.endswith("@plt"):  # memcpy@@GLIBC_2.14
            text = text.partition("@")[0] or text
        return text

    def _finish(self, columns: Columns) -> None:
        from array import array

        self._strings = columns.strings
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
        self._starts: array[int] = array("Q", [values[index] for index in chosen])
        self._sizes: array[int] = array("Q", [sizes[index] for index in chosen])
        self._names: array[int] = array("Q", [names[index] for index in chosen])
        self._aliases = tuple(array("Q", [column[index] for index in others]) for column in (names, values, sizes))
        top = (1 << 64) - 1
        following = [*self._starts[1:], 0]
        ends = [min(start + size, top) if size else after for start, size, after in zip(self._starts, self._sizes, following)]
        if ends and not self._sizes[-1]:
            ends[-1] = min((self._starts[-1] + _PAGE - 1) // _PAGE * _PAGE + _PAGE, top)
        self._ends: array[int] = array("Q", ends)
        self._bounds = self._starts
        self._inner: array[int] | None = None
        if any([end > after for end, after in zip(ends, following[:-1])]):
            self._nest()

    def _nest(self) -> None:
        """Symbols overlap: cuts the range of addresses into pieces, each with the symbol that starts last of those around it."""
        from array import array

        starts, ends = self._starts, self._ends
        bounds, inner = array("Q"), array("q")
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
        self._bounds, self._inner = bounds, inner


def _or_empty(read: object) -> str:
    try:
        return str(read())  # type: ignore[operator]
    except FormatError:
        return ""
