"""Lines of samples by the accelerator: processes, files and the kernel's symbols laid out as it reads them (``native.symbols``).

What ``AddressLines`` and ``RecordingSymbolizer`` make in plain Python comes out byte for byte.  Only what is mapped where samples are and
their symbols cost anything here, each once: the accelerator asks for them.
"""

from __future__ import annotations

from itertools import accumulate
from struct import pack

from ..native import symbols as native
from ..native.memory import address, numbers, room
from .model import KERNEL_MODULE
from .symbolizer_places import LAST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from ..formats.perf_data_batch import Batch
    from ..native.symbols_spaces import Spaces
    from .kernel_symbols import KernelSymbols
    from .kernel_symbols_index import KallsymsIndex
    from .model import Mapping
    from .symbolizer_places import Names, Places

__all__ = ("NativeLines",)

#: From so many symbols on, most are never asked for, and their states should take no memory.
_MANY = 1 << 14
#: Different things that are mapped, at first.
_KINDS = 1 << 10


class NativeLines:
    """Makes lines.

    Args:
        engine: ``native.symbols.engine()``.
        places: what is at the mappings.
        symbols: gives the kernel's symbols, at the first address of the kernel.
        mapping_of: a process and its mapping, by the number of what is mapped.

    Attributes:
        shift: how far the kernel lay from where its symbols say.
    """

    def __init__(
        self, engine: Any, places: Places, symbols: Callable[[], KernelSymbols], mapping_of: Callable[[int], tuple[int, Mapping]]
    ) -> None:
        self._engine, self._places, self._symbols, self._mapping_of = engine, places, symbols, mapping_of
        self.shift = 0
        self._rows = native.Rows()
        #: What gives [(name, what stands behind it)] of symbols that are asked for, by number of the names.
        self._special: list[Callable[[list[int]], Sequence[tuple[bytes, bytes]]]] = []
        self._states: list[memoryview] = []
        self._kernel: list[int] = []
        self._of_index: dict[int, int] = {}
        #: Numbers of places plus 1, by the number of what is mapped.
        self._known = _zeros(_KINDS)
        self._job = native.Job()

    def forget_kernel(self) -> None:
        """The kernel has other symbols now."""
        self._kernel = []

    def blocks(self, batch: Batch, spaces: Spaces, chains: bool) -> Iterator[tuple[memoryview, memoryview]]:
        """The texts of some samples, in order of time, and where each of them ends; until all are done.

        Args:
            spaces: the mappings that hold for the samples (``RecordedSpaces.follow``).
            chains: show call chains.
        """
        job = self._job = native.Job()
        held: list[Any] = [batch.data]
        if chains:
            found = batch.recorded_chains()
            assert found is not None
            job.words, job.word_count = address(batch.data), len(batch.words)
            job.starts, job.lengths = [self._rows_of(part, held) for part in found]
        else:
            job.addresses = self._rows_of(batch.recorded_array("ip"), held)
        order = batch.recorded_order()
        if order is not None:
            job.order = self._rows_of(order if type(order) is memoryview else numbers("I", order), held)
        job.count = len(batch)
        job.spaces_of = self._rows_of(spaces.spaces_of, held)
        (job.spaces, job.space_count), (job.rows, job.row_count) = spaces.tables, spaces.rows
        if len(self._known) < spaces.kinds:
            known, self._known = self._known, _zeros(2 * spaces.kinds)
            self._known[: len(known)] = known
        job.kind_places, job.kind_count = address(self._known), len(self._known)
        job.nowhere_start, job.nowhere_size = self._rows.text(self._places.nowhere.after)
        job.with_symbol, job.with_offset, job.before = self._places.symbol, self._places.offset, ord("\t" if chains else " ")
        if self._kernel:
            self._meet_kernel()
        yield from native.run(self._engine, job, self._rows, self._meet)

    # -- private

    @staticmethod
    def _rows_of(memory: Any, held: list[Any]) -> int:
        held.append(memory)
        return address(memory) if len(memory) else 0

    def _meet(self, needs: list[int]) -> None:
        """Puts what is asked for into the rows."""
        wanted: dict[int, list[int]] = {}
        for kind, first, second in zip(needs[::3], needs[1::3], needs[2::3]):
            if kind == native.NEED_TEXT:
                wanted.setdefault(first, []).append(second)
            elif kind == native.NEED_PLACE:
                self._known[first] = self._place(*self._mapping_of(first)) + 1
            else:
                self._meet_kernel()
        for number, symbols in wanted.items():
            self._meet_texts(self._states[number], symbols, self._special[number](symbols))

    def _meet_texts(self, states: memoryview, symbols: list[int], found: Sequence[tuple[bytes, bytes]]) -> None:
        rows = self._rows
        start, number = len(rows.blob), rows.count("specials") + native.SPECIAL
        rows.blob += b"".join([name for name, _ in found])
        words: list[int] = []
        for symbol, (name, after) in zip(symbols, found):
            states[symbol] = number
            number += 1
            words += start, len(name), *rows.text(after)
            start += len(name)
        rows.specials += pack(f"={len(words)}Q", *words)

    def _place(self, pid: int, mapping: Mapping) -> int:
        """The number of the place of what is mapped."""
        rows = self._rows
        place = self._places.of(pid, mapping)
        if place.number < 0:
            place.number = rows.count("places")
            names, first = place.names, rows.count("pieces")
            if place.pieces and names.number < 0:
                names.number = self._of_jit(names) if names.jit is not None else self._of_table(names)
            for low, high, shift in place.pieces:
                rows.add("pieces", low, min(high, LAST), shift & LAST, names.number)
            offset = place.offset
            rows.add("places", first, len(place.pieces), (offset or 0) & LAST, offset is not None, *rows.text(names.after))
        return place.number

    # -- private: symbols

    def _add(
        self,
        columns: tuple[Any, Any, Any, Any, Any, Any],
        owners: Any,
        modules: list[bytes],
        flags: int,
        special: Callable[[list[int]], Sequence[tuple[bytes, bytes]]],
    ) -> int:
        """Adds names: bounds, inner, starts, ends, offsets and block; what stands behind a symbol by its owner."""
        rows = self._rows
        bounds, inner, starts, ends, offsets, block = map(rows.place_of, columns)
        count = max(len(columns[4]) - 1, 0)
        states = _zeros(count)
        parts = numbers("Q", [word for module in modules for word in rows.text(module)])
        sizes = len(columns[0]), count
        modules_of = rows.place_of(owners), rows.place_of(parts), len(modules)
        rows.add(
            "names", bounds, inner, starts, ends, *sizes, offsets, block, len(columns[5]), *modules_of, rows.place_of(states), flags
        )  # fmt: skip
        self._states.append(states)
        self._special.append(special)
        return len(self._special) - 1

    def _of_table(self, names: Names) -> int:
        """The symbols of a file."""
        table, places = names.table, self._places
        assert table is not None
        starts, ends, _, bounds, inner, _, _, offsets, block = table.columns
        columns = (bounds, inner, starts, ends, offsets, block) if len(bounds) else (starts, b"", starts, ends, offsets, block)
        after, view = names.after, memoryview(block)

        def special(symbols: list[int]) -> list[tuple[bytes, bytes]]:
            raw = [bytes(view[offsets[symbol] : offsets[symbol + 1] - 1]) for symbol in symbols]
            return [(name, after) for name in places.readable_many(raw)]

        flags = native.MANGLED if places.demangle is not None else 0
        return self._add(columns, b"", [after], flags, special)

    def _of_jit(self, names: Names) -> int:
        """The code that a process has made itself."""
        assert names.jit is not None
        entries, bounds, owners = names.jit.pieces()
        if bounds and bounds[-1] > LAST:
            bounds, owners = bounds[:-1], owners[:-1]
        texts = [name.encode("utf-8", "surrogateescape") for _, _, name in entries]
        spans = [(start, start + size) for start, size, _ in entries]
        inner = numbers("q", owners)

        def special(symbols: list[int]) -> list[tuple[bytes, bytes]]:
            return [(self._places.readable(texts[symbol], True), names.after) for symbol in symbols]

        flags = native.MANGLED if self._places.demangle is not None else 0
        return self._add(_columns(numbers("Q", bounds), inner, spans, texts), b"", [names.after], flags, special)

    # -- private: the kernel

    def _meet_kernel(self) -> None:
        job = self._job
        if not self._kernel:
            added, lasting, changing = self._symbols().layout()
            self._kernel = [
                self._of_added(added) + 1 if added else 0,
                self._of_kallsyms(lasting) + 1,
                self._of_kallsyms(changing) + 1 if changing is not None else 0,
            ]
        job.added, job.static, job.changing = self._kernel
        job.kernel_known, job.kernel_shift = 1, self.shift & LAST

    def _of_kallsyms(self, index: KallsymsIndex) -> int:
        known = self._of_index.get(id(index))
        if known is not None:
            return known
        starts, offsets, owners, block, modules = index.columns()

        def special(symbols: list[int]) -> list[tuple[bytes, bytes]]:
            raw = [bytes(block[offsets[symbol] : offsets[symbol + 1] - 1]) for symbol in symbols]
            return [self._of_module(name, modules[owners[symbol]], "backslashreplace") for name, symbol in zip(raw, symbols)]

        afters = [self._places.after(f"[{module}]" if module else KERNEL_MODULE) for module in modules]
        flags = native.ASK_ALWAYS if "bpf" in modules else 0
        self._of_index[id(index)] = number = self._add((starts, b"", starts, b"", offsets, block), owners, afters, flags, special)
        return number

    def _of_added(self, added: list[tuple[int, int, str, str]]) -> int:
        """Code that the kernel has made while it was recorded."""
        texts = [name.encode("utf-8", "surrogateescape") for _, _, name, _ in added]
        spans = [(start, start + size) for start, size, _, _ in added]

        def special(symbols: list[int]) -> list[tuple[bytes, bytes]]:
            return [self._of_module(texts[symbol], added[symbol][3], "surrogateescape") for symbol in symbols]

        bounds = numbers("Q", [start for start, _ in spans])
        return self._add(_columns(bounds, b"", spans, texts), b"", [b""], native.ASK_ALWAYS, special)

    def _of_module(self, name: bytes, module: str, errors: str) -> tuple[bytes, bytes]:
        """The name of a symbol of the kernel, and what stands behind it; programs stand for themselves."""
        places = self._places
        if not name:
            return b"", places.nowhere.after
        path = name.decode("utf-8", errors) if module == "bpf" else f"[{module}]" if module else KERNEL_MODULE
        return places.readable(name, False), places.after(path)


def _columns(bounds: Any, inner: Any, spans: list[tuple[int, int]], texts: list[bytes]) -> tuple[Any, Any, Any, Any, Any, Any]:
    """What ``_add`` wants, of starts and ends of symbols and their names."""
    starts = numbers("Q", [start for start, _ in spans])
    ends = numbers("Q", [min(end, LAST) for _, end in spans])
    offsets = numbers("I", list(accumulate([len(text) + 1 for text in texts], initial=0)))
    return bounds, inner, starts, ends, offsets, b"\0".join([*texts, b""])


def _zeros(count: int) -> memoryview:
    """So many 32-bit numbers."""
    return (room(4 * count) if count > _MANY else memoryview(bytearray(4 * count))).cast("I")
