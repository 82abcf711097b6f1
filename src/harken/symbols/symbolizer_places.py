"""What lies at the mappings of recorded processes: which file's symbols, and where its parts are; and how names are shown.

``AddressLines`` (plain Python) and ``NativeLines`` (the accelerator) make lines of it.  What is known of a file's symbols serves all
processes that have it mapped.

Where a process has generated code, its /tmp/perf-PID.map is read, as perf does.
"""

from __future__ import annotations

from .demangle import known, short
from .symbolizer_images import Images

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..kernel.kernel import Kernel
    from .model import Mapping
    from .processes import Processes
    from .symbol_table import SymbolTable
    from .symbolizer_parts import Jit

__all__ = ("Names", "Place", "Places", "LAST")

#: The last address.
LAST = (1 << 64) - 1
_MANGLED = (b"_Z", b"_R", b"__Z")


class Names:
    """The symbols of one file (``table``), of one process's generated code (``jit``), or none.

    Attributes:
        after: what stands behind a symbol.
        texts: what stands behind an address, by number of the symbol, as ``AddressLines`` keeps it.
        number: what ``NativeLines`` calls it.
    """

    __slots__ = ("table", "jit", "after", "texts", "number")

    def __init__(self, after: bytes, table: SymbolTable | None = None, jit: Jit | None = None) -> None:
        self.table, self.jit, self.after = table, jit, after
        self.texts: dict[int, bytes] = {}
        self.number = -1


class Place:
    """What a mapping shows.

    Attributes:
        names: its symbols.
        pieces: (low, high, shift) of its parts, ascending: distances from its start, which are ``shift`` above the file's own addresses.
        offset: the place in the file of its start; None if it is in none.
        number: what ``NativeLines`` calls it.
    """

    __slots__ = ("names", "pieces", "offset", "number")

    def __init__(self, names: Names, pieces: list[tuple[int, int, int]], offset: int | None) -> None:
        self.names, self.pieces, self.offset = names, pieces, offset
        self.number = -1


class Places:
    """Places by mapping.

    Args:
        kernel: opens files.
        processes: the recorded ones.
        symbol, offset, module: what follows an address: its symbol, the distance from the symbol's start, the file.
        demangle: what makes a mangled name readable; None: names stay as they are.
    """

    def __init__(
        self, kernel: Kernel, processes: Processes, symbol: bool, offset: bool, module: bool, demangle: Callable[[str], str] | None
    ) -> None:
        self._kernel, self._processes = kernel, processes
        self.symbol, self.offset, self.module, self.demangle = symbol, offset and symbol, module, demangle
        self._images = Images(kernel)
        self.problems = self._images.problems
        self._places: dict[tuple[str, str, int, int, bool, int], Place] = {}
        self._names: dict[tuple[int, str], Names] = {}
        self._jits: dict[int, Jit] = {}
        self.nowhere = Names(self.after(""))

    def of(self, pid: int, mapping: Mapping) -> Place:
        """What is at a mapping of a process."""
        path, start, size = mapping.path, mapping.start, mapping.end - mapping.start
        generated = _generated_by(path)
        key = (path, mapping.build_id, mapping.offset, size, mapping.executable, start if generated >= 0 else -1)
        place = self._places.get(key)
        if place is not None:
            return place
        table, jit = None, None
        pieces: list[tuple[int, int, int]] = []
        if generated >= 0:
            jit = self._jit(generated)
            pieces = [(0, size, -start)]
        elif path.startswith("/") or path == "[vdso]":
            table = self._images.of_mapping(pid, mapping, self._processes).table
            pieces = table.pieces(mapping) if table is not None else []
        owner = table if table is not None else jit
        names = self._names.get((id(owner), path))
        if names is None:
            names = self._names[id(owner), path] = Names(self.after(path), table, jit)
        place = self._places[key] = Place(names, pieces, mapping.offset if path and jit is None else None)
        return place

    def after(self, path: str) -> bytes:
        """What stands behind a symbol."""
        return f" ({path or '[unknown]'})\n".encode("utf-8", "surrogateescape") if self.module else b"\n"

    def unknown(self, after: bytes) -> bytes:
        """What stands behind an address without a symbol."""
        return (b" [unknown]" if self.symbol else b"") + after

    def readable(self, name: bytes, mangled: bool) -> bytes:
        """A name as it is shown.

        Args:
            mangled: it may be a mangled one.
        """
        if mangled and self.demangle is not None and name.startswith(_MANGLED):
            return self.demangle(name.decode("utf-8", "backslashreplace")).encode("utf-8", "surrogateescape")
        return name if name.isascii() else name.decode("utf-8", "backslashreplace").encode()

    def readable_many(self, names: list[bytes]) -> list[bytes]:
        """``readable`` of names that may be mangled."""
        if self.demangle is not short:
            return [self.readable(name, True) for name in names]
        texts = known([name.decode("utf-8", "backslashreplace") for name in names])
        return [
            text.encode("utf-8", "surrogateescape") if text is not None else self.readable(name, True) for name, text in zip(names, texts)
        ]

    def text(self, name: bytes, after: bytes, mangled: bool) -> bytes:
        """What stands behind an address of a symbol; with ``offset``, to be filled in by ``%``."""
        if not self.symbol:
            return after
        name = self.readable(name, mangled)
        if self.offset:
            return b" " + name.replace(b"%", b"%%") + b"+%#x" + after.replace(b"%", b"%%")
        return b" " + name + after

    def _jit(self, pid: int) -> Jit:
        """Code that a process has made itself."""
        from .symbolizer_parts import Jit

        jit = self._jits.get(pid)
        if jit is None:
            jit = self._jits[pid] = Jit()
            jit.read(self._kernel, pid, self._processes)
        return jit


def _generated_by(path: str) -> int:
    """The process whose generated code a path stands for, -1 if it is a file."""
    if not path.startswith("/tmp/perf-"):
        return -1
    digits = path.removeprefix("/tmp/perf-").removesuffix(".map")
    return int(digits) if len(path) - len(digits) == 14 and digits.isascii() and digits.isdigit() and len(digits) < 11 else -1
