"""What a ``Symbolizer`` keeps: answers by process, the part of a file that one mapping shows, and the names of generated code."""

from __future__ import annotations

from .jit import JitCode, newest, parse_jitdump, parse_perf_map, read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel.kernel import Kernel
    from .model import Frame, Mapping, Span
    from .processes import Processes
    from .symbol_table import SymbolTable
    from .symbolizer_images import Image

__all__ = ("Memo", "Part", "Jit")


class Memo:
    """Answers for one process, as long as its mappings do not change."""

    __slots__ = ("changes", "frames", "spans")

    def __init__(self, changes: int) -> None:
        self.changes = changes
        self.frames: dict[int, tuple[Frame, ...]] = {}
        self.spans: dict[int, Span] = {}


class Part:
    """The part of a mapping that one segment of its file fills, where an address and the file's own differ by ``shift``."""

    __slots__ = ("pid", "changes", "start", "end", "path", "image", "table", "shift")

    def __init__(self, pid: int, changes: int, mapping: Mapping, image: Image, table: SymbolTable, shift: int) -> None:
        self.pid, self.changes, self.path = pid, changes, mapping.path
        self.image, self.table, self.shift = image, table, shift
        self.start, self.end = table.part(mapping, shift)


class Jit:
    """The files in which one process names its generated code; read again when an address is not found."""

    def __init__(self) -> None:
        self._codes: list[tuple[str, JitCode]] = []
        self._read_at = -1e9

    def lookup(self, address: int) -> tuple[str, int, int, str, tuple[str, int] | None] | None:
        for path, code in self._codes:
            found = code.lookup(address)
            if found is not None:
                return *found[:3], path, code.line(address)
        return None

    def pieces(self) -> tuple[list[tuple[int, int, str]], list[int], list[int]]:
        """All code as (start, size, name), and the addresses cut into pieces: their starts, and the number of each one's code or -1."""
        entries = [entry for _, code in reversed(self._codes) for entry in code.entries]
        return entries, *newest(entries)

    def range(self, address: int) -> tuple[int, int]:
        """The addresses around one for which ``lookup`` gives the same code, or none."""
        low, high = 0, 1 << 64
        for _, code in self._codes:
            start, end, owner = code.piece(address)
            low, high = max(low, start), min(high, end)
            if owner >= 0:
                break
        return low, high

    def read(self, kernel: Kernel, pid: int, processes: Processes) -> bool:
        import time

        from ..base.errors import FormatError

        now = time.monotonic()
        if now - self._read_at < 1.0:
            return False
        self._read_at = now
        owners = processes.users(pid)
        root, number = processes.root(pid), processes.namespace_pid(pid)
        codes: list[tuple[str, JitCode]] = []
        for mapping in processes.mappings(pid):
            name = mapping.path.rpartition("/")[2]
            if name.startswith("jit-") and name.endswith(".dump") and all(mapping.path != path for path, _ in codes):
                data = read_file(kernel, root + mapping.path, owners)
                try:
                    codes += [(mapping.path, parse_jitdump(data, mapping.path))] if data else []
                except FormatError:
                    continue
        path = f"/tmp/perf-{number}.map"
        data = read_file(kernel, root + path, owners)
        if data is not None:
            codes.append((path, JitCode(parse_perf_map(data))))
        if not codes:
            return False  # a process that is gone may have removed its file: what was read stays
        self._codes = codes
        return True
