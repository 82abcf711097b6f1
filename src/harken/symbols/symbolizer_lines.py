"""Addresses of recorded processes as lines of text: the address in hexadecimal, the symbol, the file.

``AddressLines`` cuts the different addresses of a process, in ascending order, by mapping and then by symbol, so that nearly all of the
work is done once for a symbol.  What is known of a file's symbols serves all processes that have it mapped, the kernel's lines serve all.

Where a process has generated code, its /tmp/perf-PID.map is read, as perf does.
"""

from __future__ import annotations

from bisect import bisect_left

from ..formats.perf_data_columns import getter
from ..formats.perf_data_records import CONTEXT_MAX
from .symbolizer_chains import hexadecimal
from .symbolizer_images import Images

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..kernel.kernel import Kernel
    from .kernel_symbols import KernelSymbols
    from .model import Mapping
    from .processes import Processes
    from .symbolizer_images import Image
    from .symbolizer_parts import Jit
    from .symbolizer_spaces import Table

__all__ = ("AddressLines",)

_KERNEL = 1 << 63
_MANGLED = (b"_Z", b"_R", b"__Z")


class _Names:
    """What stands behind addresses of one file: ``texts`` by number of the symbol."""

    __slots__ = ("image", "path", "after", "unknown", "texts", "generated")

    def __init__(self, image: Image | None, path: str, after: bytes, unknown: bytes) -> None:
        self.image, self.path, self.after, self.unknown = image, path, after, unknown
        self.texts: dict[int, bytes] = {-1: unknown}
        self.generated = _generated_by(path) if image is None else -1


class _Place:
    """Where addresses of a mapping lie in the file: those ``low`` to ``high`` behind the mapping's start are ``shift`` above the file's."""

    __slots__ = ("names", "low", "high", "shift")

    def __init__(self, names: _Names, low: int, high: int, shift: int) -> None:
        self.names, self.low, self.high, self.shift = names, low, high, shift


class AddressLines:
    """Makes lines.

    Args:
        kernel: opens files.
        processes: the recorded ones.
        symbols: gives the kernel's symbols, at the first address of the kernel.
        symbol, offset, module: what follows an address: its symbol, the distance from the symbol's start, the file.
        readable: what makes a mangled name readable; None: names stay as they are.

    Attributes:
        shift: how far the kernel lay from where its symbols say.
        problems: path -> why addresses in this file have no names.
    """

    def __init__(
        self,
        kernel: Kernel,
        processes: Processes,
        symbols: Callable[[], KernelSymbols],
        symbol: bool,
        offset: bool,
        module: bool,
        readable: Callable[[str], str] | None,
    ) -> None:
        self._kernel, self._processes, self._symbols = kernel, processes, symbols
        self._symbol, self._offset, self._module, self._readable = symbol, offset and symbol, module, readable
        self._images = Images(kernel)
        self.problems = self._images.problems
        self.shift = 0
        self._names: dict[tuple[int, str], _Names] = {}
        self._places: dict[tuple[str, str, int, int, bool], _Place] = {}
        self._jits: dict[int, Jit] = {}
        self._unknown = self._named(None, "")
        self._of_kernel: dict[bytes, dict[int, bytes]] = {}
        self._afters: dict[str, bytes] = {}

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
                lines[address] = b"%b%16x" % (before, ~address) + self._unknown.unknown
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

    # -- private: processes

    def _cut(self, table: Table, addresses: list[int], texts: list[bytes], in_file: bool) -> list[int]:
        """Appends the text behind each of ascending addresses; returns the addresses that are shown."""
        starts, maps = table.starts, table.maps
        shown: list[int] = [] if in_file else addresses
        place, count = 0, len(addresses)
        while place < count:
            address = addresses[place]
            index = bisect_left(starts, address + 1) - 1
            mapping = maps[index] if index >= 0 else None
            if mapping is None or address >= mapping.end:
                end = bisect_left(addresses, starts[index + 1], place) if index + 1 < len(starts) else count
                texts += [self._unknown.unknown] * (end - place)
                if in_file:
                    shown += addresses[place:end]
                place = end
                continue
            start = mapping.start
            key = (mapping.path, mapping.build_id, mapping.offset, mapping.end - start, mapping.executable)
            found = self._places.get(key)
            if found is None or not found.low <= address - start < found.high:
                found = self._places[key] = self._in_mapping(table.pid, mapping, address)
            end = bisect_left(addresses, start + found.high, place + 1)
            names = found.names
            if names.image is not None:
                self._of_file(names, addresses, place, end, start + found.shift, texts)
            elif names.generated >= 0:
                self._of_generated(names, addresses[place:end], texts)
            else:
                texts += [names.unknown] * (end - place)
            if in_file:
                distance = start - mapping.offset if names.generated < 0 and names.path else 0
                shown += [address - distance for address in addresses[place:end]] if distance else addresses[place:end]
            place = end
        return shown

    def _of_file(self, names: _Names, addresses: list[int], place: int, end: int, shift: int, texts: list[bytes]) -> None:
        """Appends the texts of the addresses of a file from index ``place`` to ``end``."""
        assert names.image is not None and names.image.table is not None
        table, known = names.image.table, names.texts
        for after, symbol in table.runs(addresses, place, end, shift):
            text = known.get(symbol)
            if text is None:
                text = known[symbol] = self._text(table.raw_name(symbol), names.after, True)
            if self._offset and symbol >= 0:
                base = table.starts[symbol] + shift
                texts += [text % (address - base) for address in addresses[place:after]]
            else:
                texts += [text] * (after - place)
            place = after

    def _of_generated(self, names: _Names, addresses: list[int], texts: list[bytes]) -> None:
        """Code that a process has made itself."""
        from .symbolizer_parts import Jit

        pid = names.generated
        jit = self._jits.get(pid)
        if jit is None:
            jit = self._jits[pid] = Jit()
            jit.read(self._kernel, pid, self._processes)
        for address in addresses:
            found = jit.lookup(address)
            text = names.unknown
            if found is not None and found[0]:
                text = self._text(found[0].encode("utf-8", "surrogateescape"), names.after, True)
                text = text % found[1] if self._offset else text
            texts.append(text)

    def _in_mapping(self, pid: int, mapping: Mapping, address: int) -> _Place:
        """What is at an address of a mapping."""
        path, size = mapping.path, mapping.end - mapping.start
        if _generated_by(path) >= 0 or (not path.startswith("/") and path != "[vdso]"):
            return _Place(self._named(None, path), 0, size, 0)
        image = self._images.of_mapping(pid, mapping, self._processes)
        if image.table is None:
            return _Place(self._named(None, path), 0, size, 0)
        vaddr = image.table.vaddr(mapping.file_offset(address), mapping.executable)
        if vaddr is None:
            return _Place(self._named(None, path), address - mapping.start, address - mapping.start + 1, 0)
        shift = address - vaddr
        start, end = image.table.part(mapping, shift)
        return _Place(self._named(image, path), start - mapping.start, end - mapping.start, shift - mapping.start)

    def _named(self, image: Image | None, path: str) -> _Names:
        key = id(image), path
        names = self._names.get(key)
        if names is None:
            after = self._after(path)
            names = self._names[key] = _Names(image, path, after, (b" [unknown]" if self._symbol else b"") + after)
        return names

    # -- private: the kernel

    def _texts_of_kernel(self, addresses: list[int]) -> list[bytes]:
        """The texts behind ascending addresses of the kernel."""
        texts: list[bytes] = []
        place, shift = 0, self.shift
        for end, span in self._symbols().runs([address - shift for address in addresses] if shift else addresses):
            if not span.name:
                texts += [self._unknown.unknown] * (end - place)
            else:
                module = span.name if span.module == "[bpf]" else span.module
                after = self._afters.get(module) or self._afters.setdefault(module, self._after(module))
                text = self._text(span.name.encode("utf-8", "surrogateescape"), after, False)
                if self._offset:
                    texts += [text % (address - shift - span.base) for address in addresses[place:end]]
                else:
                    texts += [text] * (end - place)
            place = end
        return texts

    # -- private: text

    def _text(self, name: bytes, after: bytes, mangled: bool) -> bytes:
        """What stands behind an address of a symbol; with ``offset``, to be filled in by ``%``."""
        if mangled and self._readable is not None and name.startswith(_MANGLED):
            name = self._readable(name.decode("utf-8", "backslashreplace")).encode("utf-8", "surrogateescape")
        elif not name.isascii():
            name = name.decode("utf-8", "backslashreplace").encode()
        if not self._symbol:
            return after
        if self._offset:
            return b" " + name.replace(b"%", b"%%") + b"+%#x" + after.replace(b"%", b"%%")
        return b" " + name + after

    def _after(self, path: str) -> bytes:
        """What stands behind a symbol."""
        return f" ({path or '[unknown]'})\n".encode("utf-8", "surrogateescape") if self._module else b"\n"


def _generated_by(path: str) -> int:
    """The process whose generated code a path stands for, -1 if it is a file."""
    digits = path.removeprefix("/tmp/perf-").removesuffix(".map")
    return int(digits) if len(path) - len(digits) == 14 and digits.isascii() and digits.isdigit() and len(digits) < 11 else -1
