"""Names for all samples of a recording of perf, as text: what ``perf script -F ip,sym,dso --no-inline`` prints, many times as fast.

``RecordingSymbolizer`` follows the recording's mappings, forks and execs, and gives every sample the *table* of its process: addresses and
their text.  A table is good until another file is mapped where one of its process's files lay.
When a batch of samples is through, each table knows which addresses it needs; these are cut by mapping, looked up by file (all processes
that have a file share what is known of it), and the samples' lines are then read off the tables.  Nothing but a few dictionary accesses
is done for each sample, and nothing for each frame of a call chain that was seen before.

Where a process has generated code, its /tmp/perf-PID.map is read, as perf does.

The kernel's names are those of the running kernel, if the recording is of its build; else those that ``perf record`` has kept in
``~/.debug``.  If the kernel has been booted since (addresses are randomised), names of its image are found by the difference.

What perf and harken mean by a name is compared in ``tests/oracle/test_perf_data.py``.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from itertools import repeat

from ..formats.perf_data_records import CONTEXT_MAX, MappingEvent, SymbolEvent
from ..kernel.procfs import build_id as kernel_build_id
from .demangle import demangle as readable
from .demangle import save, short
from .kernel_symbols import KernelSymbols
from .model import KERNEL_MODULE
from .symbolizer_chains import hexadecimal, strangers
from .symbolizer_images import Images
from .symbolizer_parts import Jit, Part
from .symbolizer_spaces import RecordedSpaces, Table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..formats.perf_data import PerfData
    from ..formats.perf_data_batch import Batch
    from ..formats.perf_data_records import Other
    from ..kernel.kernel import Kernel
    from .model import Mapping
    from .symbolizer_images import Image

__all__ = ("RecordingSymbolizer",)

_KERNEL = 1 << 63
#: Addresses from which on it pays to import numpy.
_MANY = 120_000
#: A word that ends a chain: of the values that are neither an address nor a marker, one that stray frame pointers do not have.
_END_OF_CHAIN = CONTEXT_MAX
_BEFORE_FRAME = "\t"
_DEBUG_KALLSYMS = "/.debug/[kernel.kallsyms]/"


class _Names:
    """Text behind the addresses of one file, by the file's own addresses; ``wanted`` are those that are not known yet."""

    __slots__ = ("image", "path", "texts", "wanted")

    def __init__(self, image: Image | None, path: str) -> None:
        self.image, self.path = image, path
        self.texts: dict[int, str] = {}
        self.wanted: set[int] = set()


class RecordingSymbolizer:
    """Turns the batches of a recording into text.

    Args:
        kernel: the running kernel: opens files, and names the kernel's addresses if it was recorded.
        recording: the recording.
        symbol, offset, module: what follows an address: its symbol, the distance from the symbol's start, the file.
        demangle: show C++ and Rust names as perf does: readable, without parameters.
        kernel_symbols: the kernel's symbols, if those of the running kernel shall not be taken.

    Attributes:
        spaces: the address spaces.
        problems: path -> why addresses in this file have no names.
    """

    def __init__(
        self,
        kernel: Kernel,
        recording: PerfData,
        *,
        symbol: bool = True,
        offset: bool = False,
        module: bool = True,
        demangle: bool = True,
        parameters: bool = False,
        kernel_symbols: KernelSymbols | None = None,
    ) -> None:
        self._kernel, self._recording = kernel, recording
        self._symbol, self._offset, self._module = symbol, offset and symbol, module
        self._readable: Callable[[str], str] | None = (readable if parameters else short) if demangle else None
        self._images = Images(kernel)
        self._of_kernel = _Names(None, KERNEL_MODULE)
        self._kernel_symbols = kernel_symbols
        self._shift = 0
        self._names: dict[tuple[int, str], _Names] = {}
        self._jits: dict[int, Jit] = {}
        self.spaces = RecordedSpaces(recording, self._of_the_kernel)

    @property
    def problems(self) -> dict[str, str]:
        return self._images.problems

    def close(self) -> None:
        """Keeps demangled names for the next run."""
        self.spaces.processes.close()
        save()

    def text(self, batch: Batch, chains: bool = True, heads: Callable[[bool, list[str]], list[str]] | None = None) -> str:
        """What is to be printed of a batch: a line for each sample, or with ``chains`` its call chain, one address in each line.

        Args:
            chains: show call chains, if there are any.
            heads: gives what stands before each sample, by whether chains follow, and by the names of the samples' threads.

        Raises:
            FormatError: a sample is damaged.
        """
        pids = batch.column("pid") or [-1] * len(batch)
        comms: list[str] | None = [] if heads is not None else None
        tables = self.spaces.assign(batch, pids, batch.column("tid") if heads is not None else None, comms)
        keys = batch.chains() if chains else None
        before = heads(keys is not None, comms or []) if heads is not None else None
        addresses = batch.column("ip") if keys is None else []
        if addresses is None:
            return "".join([f"{head}\n" for head in before or [""] * len(batch)])
        many = len(batch) if keys is None else sum(map(len, keys)) >> 4  # an address of a chain costs half as much
        if many >= _MANY and _numpy():
            from .symbolizer_columns import text

            return text(self._resolve, self.spaces.tables.all, tables, addresses, keys, before, self._stranger)
        if keys is None:
            for _ in map(dict.setdefault, tables, addresses, repeat("")):
                pass
            self._resolve(
                [(table, sorted([address for address, text in table.items() if not text])) for table in self.spaces.tables.all], " "
            )
            lines = map(dict.__getitem__, tables, addresses)
            return "".join(lines if before is None else map(str.__add__, before, lines))
        of_chains = [table.chains for table in tables]
        for _ in map(dict.setdefault, of_chains, keys):
            pass
        self._resolve_chains()
        texts: list[str] = list(map(dict.__getitem__, of_chains, keys))  # type: ignore[arg-type]
        if before is not None:
            return "".join([part for head, text in zip(before, texts) for part in (head, "\n", text, "\n")])
        return "\n" + "\n\n".join(texts) + "\n" if texts else ""

    def heads(self, batch: Batch, heads: Callable[[bool, list[str]], list[str]]) -> str:
        """Only what stands before samples, a line for each."""
        comms: list[str] = []
        self.spaces.assign(batch, [-1] * len(batch), batch.column("tid"), comms)
        return "".join([f"{head}\n" for head in heads(False, comms)])

    # -- private: addresses

    def _resolve_chains(self) -> None:
        """Finds the text of all chains that are not known yet."""
        end = _END_OF_CHAIN.to_bytes(8, sys.byteorder)
        work: list[tuple[Table, list[int]]] = []
        unknown: list[tuple[Table, list[bytes], list[int]]] = []
        for table in self.spaces.tables.all:
            keys = [key for key, text in table.chains.items() if text is None]
            words = array("Q")
            words.frombytes(end.join(keys))
            addresses = words.tolist()
            unknown.append((table, keys, addresses))
            for address in strangers(keys):
                table[address] = self._stranger(address)
            wanted = set(addresses)
            wanted.difference_update(table)
            work.append((table, sorted([address for address in wanted if address < CONTEXT_MAX])))
            # markers of the kernel are no frames
            table.update(dict.fromkeys([address for address in wanted if address >= CONTEXT_MAX], ""))
        self._resolve(work, _BEFORE_FRAME)
        for table, keys, addresses in unknown:
            table[_END_OF_CHAIN] = "\0"
            texts = "".join(map(table.__getitem__, addresses)).split("\0")
            if len(texts) != len(keys):  # the end's mark stands within a chain
                table[_END_OF_CHAIN] = ""
                texts = ["".join(map(table.__getitem__, array("Q", key))) for key in keys]
            table.chains.update(zip(keys, texts))

    def _resolve(self, work: Iterable[tuple[Table, list[int]]], before: str) -> None:
        """Fills in the texts of ascending addresses: ``before``, the address in hexadecimal, what is known of it, a line feed."""
        pieces: list[tuple[Table, list[int], _Names, int, int]] = []
        kernel = self._of_kernel
        for table, addresses in work:
            split = bisect_left(addresses, _KERNEL)
            if split:
                self._cut(table, addresses[:split], pieces)
            if split < len(addresses):
                rest = addresses[split:]
                kernel.wanted.update(rest)
                pieces.append((table, rest, kernel, 0, 0))
        for names in {id(names): names for _, _, names, _, _ in pieces}.values():
            names.wanted.difference_update(names.texts)
            if names.wanted:
                self._look_up(names)
                names.wanted = set()
        of_chain = before == _BEFORE_FRAME
        for table, addresses, names, shift, file_shift in pieces:
            texts = names.texts
            known = [texts[address - shift] for address in addresses] if shift else list(map(texts.__getitem__, addresses))
            # of a process's frames in a call chain, perf shows the place in the file
            shown = [address - file_shift for address in addresses] if of_chain and file_shift else addresses
            table.update(zip(addresses, map(str.__add__, hexadecimal(shown, before), known)))

    def _cut(self, table: Table, addresses: list[int], pieces: list[tuple[Table, list[int], _Names, int, int]]) -> None:
        """Cuts ascending addresses of a process by file."""
        starts, maps = self.spaces.maps(table)
        place, count = 0, len(addresses)
        while place < count:
            address = addresses[place]
            index = bisect_left(starts, address + 1) - 1
            mapping = maps[index] if index >= 0 else None
            if mapping is None or address >= mapping.end:
                end = bisect_left(addresses, starts[index + 1], place) if index + 1 < len(starts) else count
                names, shift = self._named(None, ""), 0
            else:
                names, shift, limit = self._in_mapping(table.pid, mapping, address)
                end = bisect_left(addresses, limit, place + 1)
            part = addresses[place:end]
            generated = names.image is None and _generated_by(names.path) >= 0
            if names.image is not None:
                names.wanted.update([address - shift for address in part] if shift else part)
            elif generated:
                names.wanted.update(part)
            else:
                names.texts.update(dict.fromkeys(part, self._text("", 0, names.path)))
            file_shift = mapping.start - mapping.offset if mapping is not None and names.path and not generated else 0
            pieces.append((table, part, names, shift, file_shift))
            place = end

    def _in_mapping(self, pid: int, mapping: Mapping, address: int) -> tuple[_Names, int, int]:
        """The names of the file at an address of a mapping, the distance of its addresses, and where that ends."""
        path = mapping.path
        if _generated_by(path) >= 0 or (not path.startswith("/") and path != "[vdso]"):
            return self._named(None, path), 0, mapping.end
        image = self._images.of_mapping(pid, mapping, self.spaces.processes)
        if image.table is None:
            return self._named(None, path), 0, mapping.end
        vaddr = image.table.vaddr(mapping.file_offset(address), mapping.executable)
        if vaddr is None:
            return self._named(None, path), 0, address + 1
        part = Part(pid, 0, mapping, image, image.table, address - vaddr)
        return self._named(image, path), part.shift, part.end

    def _named(self, image: Image | None, path: str) -> _Names:
        key = id(image), path
        names = self._names.get(key)
        if names is None:
            names = self._names[key] = _Names(image, path)
        return names

    def _look_up(self, names: _Names) -> None:
        """Finds the texts of a file's ``wanted`` addresses, symbol by symbol."""
        addresses = sorted(names.wanted)
        texts, image, path = names.texts, names.image, names.path
        place, count = 0, len(addresses)
        if names is self._of_kernel:
            self._look_up_kernel(addresses)
        elif image is not None and image.table is not None:
            table = image.table
            piece, starts = table.piece, table.starts
            while place < count:
                _, end, symbol = piece(addresses[place])
                after = bisect_left(addresses, end, place + 1)
                if symbol < 0:
                    texts.update(dict.fromkeys(addresses[place:after], self._text("", 0, path)))
                else:
                    name = image.names.get(symbol)
                    if name is None:
                        name = table.name(symbol)
                        name = image.names[symbol] = self._readable(name) if self._readable is not None else name
                    if self._offset:
                        start = starts[symbol]
                        texts.update([(at, self._text(name, at - start, path)) for at in addresses[place:after]])
                    else:
                        text = self._text(name, 0, path)
                        for at in addresses[place:after]:
                            texts[at] = text
                place = after
        else:
            self._look_up_generated(names, addresses)

    def _look_up_kernel(self, addresses: list[int]) -> None:
        texts, shift = self._of_kernel.texts, self._shift
        symbols = self._symbols()
        place = 0
        for end, span in symbols.runs([address - shift for address in addresses] if shift else addresses):
            module = span.name if span.module == "[bpf]" else span.module if span.name else ""
            for address in addresses[place:end]:
                texts[address] = self._text(span.name, address - shift - span.base, module)
            place = end

    def _look_up_generated(self, names: _Names, addresses: list[int]) -> None:
        """Code that a process has made itself."""
        pid = _generated_by(names.path)
        jit = self._jits.get(pid)
        if jit is None:
            jit = self._jits[pid] = Jit()
            jit.read(self._kernel, pid, self.spaces.processes)
        for address in addresses:
            found = jit.lookup(address)
            name, offset = (found[0], found[1]) if found is not None else ("", 0)
            names.texts[address] = self._text(self._readable(name) if self._readable is not None else name, offset, names.path)

    def _stranger(self, address: int) -> str:
        return f"{_BEFORE_FRAME}{address:16x}{self._text('', 0, '')}"

    def _text(self, name: str, offset: int, path: str) -> str:
        text = ""
        if self._symbol:
            text = f" {name or '[unknown]'}"
            if self._offset and name:
                text += f"+{offset:#x}"
        if self._module:
            text += f" ({path or '[unknown]'})"
        return text + "\n"

    # -- private: the kernel

    def _symbols(self) -> KernelSymbols:
        if self._kernel_symbols is None:
            self._kernel_symbols = self._find_kernel()
        return self._kernel_symbols

    def _recorded_kernel(self) -> str:
        ids = [found.build_id for found in self._recording.build_ids if found.in_kernel and found.path.startswith(KERNEL_MODULE)]
        return ids[0] if ids else ""

    def _recording_of_another_kernel(self) -> bool:
        recorded = self._recorded_kernel()
        return bool(recorded) and recorded != kernel_build_id(self._kernel)

    def _find_kernel(self) -> KernelSymbols:
        """The symbols of the kernel that was recorded."""
        if not self._recording_of_another_kernel():
            symbols = KernelSymbols(self._kernel, look_again=False)
            if symbols.hidden:
                self.problems[KERNEL_MODULE] = "the kernel hides its addresses from this user"
            return symbols
        import os

        recorded = self._recorded_kernel()
        try:
            kept = self._kernel.read(f"{os.path.expanduser('~')}{_DEBUG_KALLSYMS}{recorded}/kallsyms", 256 << 20)
            return KernelSymbols(None, kept)
        except OSError:
            self.problems[KERNEL_MODULE] = f"another kernel was recorded (build-id {recorded}), and its symbols are not on this machine"
            return KernelSymbols(None, b"")

    def _of_the_kernel(self, event: Other) -> None:
        if type(event) is MappingEvent:
            self._kernel_mapping(event)
        elif type(event) is SymbolEvent and not event.removed and not self._recording_of_another_kernel():
            # programs that were unloaded keep their names: samples may be of the time before
            self._symbols().add(event.start, event.size, event.name)

    def _kernel_mapping(self, event: MappingEvent) -> None:
        """The kernel's image: its ``offset`` is the address of the symbol that its path ends with."""
        if not event.path.startswith(KERNEL_MODULE) or not event.offset:
            return
        name = event.path[len(KERNEL_MODULE) :]
        symbols = self._symbols()
        if name and not symbols.hidden and symbols.resolve(event.offset).start != event.offset:
            places = symbols.addresses(name, "vmlinux")
            if len(places) == 1:
                self._shift = event.offset - places[0]


def _generated_by(path: str) -> int:
    """The process whose generated code a path stands for, -1 if it is a file."""
    digits = path.removeprefix("/tmp/perf-").removesuffix(".map")
    return int(digits) if len(path) - len(digits) == 14 and digits.isascii() and digits.isdigit() and len(digits) < 11 else -1


def _numpy() -> bool:
    from importlib.util import find_spec

    return "numpy" in sys.modules or find_spec("numpy") is not None
