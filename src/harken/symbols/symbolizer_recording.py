"""Names for all samples of a recording of perf, as text: what ``perf script -F ip,sym,dso --no-inline`` prints, faster.

``RecordingSymbolizer`` divides a batch of samples by process (``RecordedSpaces``: a process whose mappings were replaced while it ran is
more than one) and makes lines of the different addresses of each (``AddressLines``).  An address or a call chain that occurs again costs
one dictionary access.

The kernel's names are those of the running kernel, if the recording is of its build; else those that ``perf record`` has kept in
``~/.debug``.  If the kernel has been booted since (addresses are randomised), names of its image are found by the difference.

What perf and harken mean by a name is compared in ``tests/oracle/test_perf_data.py``.
"""

from __future__ import annotations

from ..formats.perf_data_columns import getter
from ..formats.perf_data_records import MappingEvent, SymbolEvent
from ..kernel.procfs import build_id as kernel_build_id
from .demangle import demangle as readable
from .demangle import save, short
from .kernel_symbols import KernelSymbols
from .model import KERNEL_MODULE
from .symbolizer_places import Places
from .symbolizer_spaces import RecordedSpaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from ..formats.perf_data import PerfData
    from ..formats.perf_data_batch import Batch
    from ..formats.perf_data_records import Other
    from ..kernel.kernel import Kernel
    from .symbolizer_lines import AddressLines
    from .symbolizer_native import NativeLines
    from .symbolizer_spaces import Table

__all__ = ("RecordingSymbolizer",)

#: Stands between the texts of two chains: five bytes, in whose steps it is searched for (longer ones are searched for in another way).
_BETWEEN = bytes(5)
#: Samples that are put in order at a time.
_BLOCK = 2048
#: The kernel's image lies within the upper 128 TiB.
_MOST_SHIFT = 1 << 47
_DEBUG_KALLSYMS = "/.debug/[kernel.kallsyms]/"


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
        self._kernel_symbols = kernel_symbols
        #: To give back hundreds of thousands of objects one by one takes a tenth of the time of a program that is about to end.
        self._held: list[Any] = []
        self.spaces = RecordedSpaces(recording, self._of_the_kernel)
        names = (readable if parameters else short) if demangle else None
        self._places = Places(kernel, self.spaces.processes, symbol, offset, module, names)
        self.problems = self._places.problems
        self._shift = 0
        self._another: tuple[int, bool] | None = None
        self._plain: AddressLines | None = None
        self._native: NativeLines | None = None
        self._library: Any = None

    def close(self) -> None:
        """Keeps demangled names for the next run."""
        self.spaces.processes.close()
        save()

    def blocks(
        self, batch: Batch, chains: bool = True, heads: Callable[[bool, list[str]], list[str]] | None = None
    ) -> Iterator[bytes | memoryview]:
        """What is to be printed, in order of time: of every sample a line, or with ``chains`` its call chain, one address in each line.

        Args:
            chains: show call chains, if there are any.
            heads: gives what stands before each sample, by whether chains follow, and by the names of the samples' threads.

        Yields:
            Texts that are valid until the next one.

        Raises:
            FormatError: a sample is damaged.
        """
        chains = chains and batch.samples("callchain")
        if not chains and not batch.samples("ip"):
            alone = self.heads(batch, heads) if heads is not None else [b""] * len(batch)
            yield b"".join([head + b"\n" for head in alone])
            return
        before = self.heads(batch, heads, chains) if heads is not None else None
        native = self._native_lines(batch, chains)
        if native is None:
            yield from self._plain_blocks(batch, chains, before)
            return
        spaces = self.spaces.follow(batch, self._library)
        native.shift, place = self._shift, 0
        for text, ends in native.blocks(batch, spaces, chains):
            if before is None:
                yield text
            else:
                parts = zip(before[place : place + len(ends)], [0, *ends], ends)
                yield b"".join([part for head, start, end in parts for part in (head, text[start:end])])
                place += len(ends)

    def heads(self, batch: Batch, heads: Callable[[bool, list[str]], list[str]], chains: bool = False) -> list[bytes]:
        """Only what stands before samples (see ``blocks``)."""
        return [head.encode("utf-8", "surrogateescape") for head in heads(chains, self.spaces.comms(batch))]

    # -- private: samples

    def _native_lines(self, batch: Batch, chains: bool) -> NativeLines | None:
        """What makes the lines of a batch if the accelerator can."""
        if self._plain is not None or not batch.native or (chains and batch.recorded_chains() is None):
            return None
        if self._native is None:
            from ..native.symbols import engine
            from .symbolizer_native import NativeLines

            self._library = engine()
            if self._library is not None:
                self._native = NativeLines(self._library, self._places, self._symbols, self.spaces.mapping_of)
        return self._native

    def _plain_blocks(self, batch: Batch, chains: bool, before: list[bytes] | None) -> Iterator[bytes]:
        if self._plain is None:
            from .symbolizer_lines import AddressLines

            self._plain = AddressLines(self._places, self._symbols)
        values: Sequence[Any] = (batch.chains(recorded=True) if chains else batch.column("ip", recorded=True)) or []
        indexes, tables = self.spaces.tables(batch)
        self._plain.shift = self._shift
        values = getter(indexes)(values)
        found: list[Any] = self._of_chains(self._plain, tables, values) if chains else self._of_addresses(self._plain, tables, values)
        self._held = [values, tables, found]
        texts = [b""] * len(values)
        for table, known in zip(tables, found):
            for index, value in zip(indexes[table.first : table.end], values[table.first : table.end]):
                texts[index] = known[value]
        # what is put in order is written at once, while it is near
        for place, block in batch.sorted_blocks(texts, _BLOCK):
            yield b"".join(block if before is None else map(bytes.__add__, before[place : place + len(block)], block))

    @staticmethod
    def _of_addresses(lines: AddressLines, tables: list[Table], addresses: Sequence[int]) -> list[dict[int, bytes]]:
        """The lines of the addresses of each table."""
        return lines.lines([(table, set(addresses[table.first : table.end])) for table in tables], b" ", False)

    @staticmethod
    def _of_chains(lines: AddressLines, tables: list[Table], keys: Sequence[bytes]) -> list[dict[bytes, bytes]]:
        """The texts of the call chains of each table."""
        from .symbolizer_chains import cut_long, words_of_chains

        parts = []
        for table in tables:
            whole, cut = cut_long(list(set(keys[table.first : table.end])))
            parts.append((whole, cut, words_of_chains(whole)))
        found = lines.lines([(table, set(part[2])) for table, part in zip(tables, parts)], b"\t", True)
        return [_chains(*both) for both in zip(found, parts)]

    # -- private: the kernel

    def _symbols(self) -> KernelSymbols:
        if self._kernel_symbols is None:
            self._kernel_symbols = self._find_kernel()
        return self._kernel_symbols

    def _recorded_kernel(self) -> str:
        ids = [found.build_id for found in self._recording.build_ids if found.in_kernel and found.path.startswith(KERNEL_MODULE)]
        return ids[0] if ids else ""

    def _recording_of_another_kernel(self) -> bool:
        count = len(self._recording.build_ids)  # they only become more
        if self._another is None or self._another[0] != count:
            recorded = self._recorded_kernel()
            self._another = count, bool(recorded) and recorded != kernel_build_id(self._kernel)
        return self._another[1]

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
            self._forget_kernel()

    def _kernel_mapping(self, event: MappingEvent) -> None:
        """The kernel's image: its ``offset`` is the address of the symbol that its path ends with."""
        if not event.path.startswith(KERNEL_MODULE) or not event.offset:
            return
        name = event.path[len(KERNEL_MODULE) :]
        symbols = self._symbols()
        if name and not symbols.hidden and symbols.resolve(event.offset).start != event.offset:
            places = symbols.addresses(name, "vmlinux")
            shift = event.offset - places[0] if len(places) == 1 else _MOST_SHIFT
            if abs(shift) < _MOST_SHIFT and shift != self._shift:
                self._shift = shift
                self._forget_kernel()

    def _forget_kernel(self) -> None:
        """The kernel has other symbols now, or they are elsewhere."""
        for lines in (self._plain, self._native):
            if lines is not None:
                lines.forget_kernel()


def _chains(lines: dict[int, bytes], part: tuple[list[bytes], dict[bytes, list[bytes]], list[int]]) -> dict[bytes, bytes]:
    """The texts of the different call chains of a process, from the lines of its addresses."""
    from .symbolizer_chains import END_OF_CHAIN

    whole, cut, words = part
    address, lines[END_OF_CHAIN] = lines[END_OF_CHAIN], b"\n%b\n" % _BETWEEN
    texts = b"".join(getter(words)(lines)).split(_BETWEEN)[1:-1]
    if len(texts) != len(whole):  # the end's mark stands within a chain
        lines[END_OF_CHAIN], place, texts = address, 1, []
        for size in [len(key) >> 3 for key in whole]:
            texts.append(b"\n%b\n" % b"".join(getter(words[place : place + size])(lines)))
            place += size + 1
    found = dict(zip(whole, texts))
    for key, pieces in cut.items():
        found[key] = b"\n%b\n" % b"".join([found[piece][1:-1] for piece in pieces])
    return found
