"""Addresses of recorded processes as lines of text: the address in hexadecimal, the symbol, the file.

``AddressLines`` cuts the different addresses of a process, in ascending order, by mapping and then by symbol, so that nearly all of the
work is done once for a symbol.  The kernel's lines serve all processes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from ..formats.perf_data_columns import getter
from ..formats.perf_data_records import CONTEXT_MAX
from .symbolizer_chains import hexadecimal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .kernel_symbols import KernelSymbols
    from .symbolizer_places import Names, Places
    from .symbolizer_spaces import Table

__all__ = ("AddressLines",)

_KERNEL, _LAST = 1 << 63, (1 << 64) - 1


class AddressLines:
    """Makes lines.

    Args:
        places: what is at the mappings.
        symbols: gives the kernel's symbols, at the first address of the kernel.

    Attributes:
        shift: how far the kernel lay from where its symbols say.
    """

    def __init__(self, places: Places, symbols: Callable[[], KernelSymbols]) -> None:
        self._places, self._symbols = places, symbols
        self.shift = 0
        self._unknown = places.unknown(places.nowhere.after)
        self._of_kernel: dict[bytes, dict[int, bytes]] = {}
        self._afters: dict[str, bytes] = {}

    def forget_kernel(self) -> None:
        """The kernel has other symbols now."""
        self._of_kernel = {}

    def lines(self, work: list[tuple[Table, set[int]]], before: bytes, in_file: bool) -> list[dict[int, bytes]]:
        """The lines of addresses, of processes and of the kernel.

        Args:
            work: processes and their addresses; ``~address`` is a stray value of the process that looks like an address of the kernel.
            before: what a line begins with.
            in_file: show a process's addresses as places in the file, as perf does in call chains.
        """
        found = []
        kernels = self._of_kernel.setdefault(before, {})
        of_kernel: set[int] = set()
        parts: list[list[int]] = []
        for table, wanted in work:
            addresses = sorted(wanted)
            start, split = bisect_left(addresses, 0), bisect_left(addresses, _KERNEL)
            own = addresses[start:split]
            texts: list[bytes] = []
            shown = self._cut(table, own, texts, in_file)
            lines = dict(zip(own, map(bytes.__add__, hexadecimal(shown, before), texts)))
            for address in addresses[:start]:
                lines[address] = b"%b%16x" % (before, ~address) + self._unknown
            found.append(lines)
            parts.append(addresses[split:])
            of_kernel.update(addresses[split:])
        # marks of the kernel are no frames
        kernels.update(dict.fromkeys([address for address in of_kernel if address >= CONTEXT_MAX], b""))
        of_kernel.difference_update(kernels)
        new = sorted(of_kernel)
        kernels.update(zip(new, map(bytes.__add__, hexadecimal(new, before), self._texts_of_kernel(new))))
        for lines, part in zip(found, parts):
            lines.update(zip(part, getter(part)(kernels)))
        return found

    # -- private

    def _cut(self, table: Table, addresses: list[int], texts: list[bytes], in_file: bool) -> list[int]:
        """Appends the text behind each of ascending addresses; returns the addresses that are shown."""
        starts, maps = table.starts, table.maps
        shown: list[int] = [] if in_file else addresses
        at, count = 0, len(addresses)
        while at < count:
            address = addresses[at]
            index = bisect_right(starts, address) - 1
            mapping = maps[index] if index >= 0 else None
            if mapping is None or address >= mapping.end:
                end = bisect_left(addresses, starts[index + 1], at) if index + 1 < len(starts) else count
                texts += [self._unknown] * (end - at)
                if in_file:
                    shown += addresses[at:end]
                at = end
                continue
            start, end = mapping.start, bisect_left(addresses, mapping.end, at + 1)
            place = self._places.of(table.pid, mapping)
            if in_file:
                distance = start - place.offset if place.offset is not None else 0
                shown += [address - distance & _LAST for address in addresses[at:end]] if distance else addresses[at:end]
            names = place.names
            unknown = self._places.unknown(names.after)
            if names.jit is not None:
                self._of_generated(names, addresses[at:end], unknown, texts)
                at = end
            first = bisect_right(place.pieces, (addresses[at] - start, _LAST, 0)) - 1 if at < end else 0
            for low, high, shift in place.pieces[max(first, 0) :]:
                if at == end:
                    break
                after = bisect_left(addresses, start + low, at, end)
                texts += [unknown] * (after - at)
                at = bisect_left(addresses, start + high, after, end)
                self._of_file(names, addresses, after, at, start + shift, unknown, texts)
            texts += [unknown] * (end - at)
            at = end
        return shown

    def _of_file(self, names: Names, addresses: list[int], place: int, end: int, shift: int, unknown: bytes, texts: list[bytes]) -> None:
        """Appends the texts of the addresses of a file from index ``place`` to ``end``."""
        table, known = names.table, names.texts
        assert table is not None
        for after, symbol in table.runs(addresses, place, end, shift):
            if symbol < 0:
                texts += [unknown] * (after - place)
                place = after
                continue
            text = known.get(symbol)
            if text is None:
                text = known[symbol] = self._places.text(table.raw_name(symbol), names.after, True)
            if self._places.offset:
                base = table.starts[symbol] + shift
                texts += [text % (address - base) for address in addresses[place:after]]
            else:
                texts += [text] * (after - place)
            place = after

    def _of_generated(self, names: Names, addresses: list[int], unknown: bytes, texts: list[bytes]) -> None:
        """Code that a process has made itself."""
        assert names.jit is not None
        for address in addresses:
            found = names.jit.lookup(address)
            text = unknown
            if found is not None and found[0]:
                text = self._places.text(found[0].encode("utf-8", "surrogateescape"), names.after, True)
                text = text % found[1] if self._places.offset else text
            texts.append(text)

    def _texts_of_kernel(self, addresses: list[int]) -> list[bytes]:
        """The texts behind ascending addresses of the kernel."""
        texts: list[bytes] = []
        place, shift = 0, self.shift
        for end, span in self._symbols().runs([address - shift for address in addresses] if shift else addresses):
            if not span.name:
                texts += [self._unknown] * (end - place)
            else:
                module = span.name if span.module == "[bpf]" else span.module
                after = self._afters.get(module) or self._afters.setdefault(module, self._places.after(module))
                text = self._places.text(span.name.encode("utf-8", "surrogateescape"), after, False)
                if self._places.offset:
                    texts += [text % (address - shift - span.base) for address in addresses[place:end]]
                else:
                    texts += [text] * (end - place)
            place = end
        return texts
