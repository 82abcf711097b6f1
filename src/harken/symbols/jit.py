"""Names of code that run-time compilers make: /tmp/perf-PID.map and jitdump files.

A perf map is a text of lines "START SIZE NAME" (hex, hex, text), which a process appends to (Linux:
tools/perf/Documentation/jit-interface.txt); Node.js, Java's perf-map-agent, CPython 3.12 with -X perf, LuaJIT, .NET and others write it.  A
jitdump file (jit-PID.dump, mapped by the process so that a recording shows where it lies) is binary and also has source lines
(tools/perf/Documentation/jitdump-specification.txt).

Memory is used again: where entries overlap, the later one counts.  The files belong to users: their size and number of entries are bounded.

Example:
    >>> code = JitCode(parse_perf_map(b"1000 20 first\\n1010 8 LazyCompile:~second a.js:1\\nrubbish\\n"))
    >>> code.lookup(0x1004), code.lookup(0x1012), code.lookup(0x1019)[:2], code.lookup(0x1020)
    (('first', 4, 4096, 32), ('LazyCompile:~second a.js:1', 2, 4112, 8), ('first', 25), None)
"""

from __future__ import annotations

import os
import stat
import struct
from bisect import bisect_right

from ..base.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..kernel.kernel import Kernel

    Entry = tuple[int, int, str]

__all__ = ("JitCode", "newest", "parse_perf_map", "parse_jitdump", "read_file", "LIMIT")

#: Most bytes of a file that are read.
LIMIT = 256 << 20
_MOST = 1 << 21
_LONGEST = 1 << 14
_JITDUMP = 0x4A695444
_LOAD, _MOVE, _DEBUG, _CLOSE = 0, 1, 2, 3


class JitCode:
    """Pieces of code by address.

    Args:
        entries: (start, size, name), the oldest first.
        lines: address -> (file, line) of places where a source line starts, for ``line``.
    """

    def __init__(self, entries: Sequence[Entry], lines: dict[int, tuple[str, int]] | None = None) -> None:
        self.entries = entries
        self._bounds, self._owners = newest(entries)
        self._lines = lines or {}
        self._line_starts = sorted(self._lines)

    def __len__(self) -> int:
        return len(self.entries)

    def lookup(self, address: int) -> tuple[str, int, int, int] | None:
        """(name, offset, start, size) of the code that contains an address."""
        owner = self.piece(address)[2]
        if owner < 0:
            return None
        start, size, name = self.entries[owner]
        return name, address - start, start, size

    def piece(self, address: int) -> tuple[int, int, int]:
        """(first address, end, number of the entry or -1) of the largest range around an address that has one answer."""
        bounds = self._bounds
        place = bisect_right(bounds, address) - 1
        high = bounds[place + 1] if place + 1 < len(bounds) else 1 << 64
        return (bounds[place], high, self._owners[place]) if place >= 0 else (0, high, -1)

    def line(self, address: int) -> tuple[str, int] | None:
        """(file, line) of an address, if the file of the process tells."""
        found = self.lookup(address)
        place = bisect_right(self._line_starts, address) - 1
        if found is None or place < 0 or self._line_starts[place] < found[2]:
            return None
        return self._lines[self._line_starts[place]]


def parse_perf_map(data: bytes) -> list[tuple[int, int, str]]:
    """(start, size, name) of every line of a perf map; lines that are none are left out."""
    found: list[tuple[int, int, str]] = []
    for line in data.split(b"\n"):
        words = line.split(None, 2)
        if len(words) < 3:
            continue
        try:
            start, size = int(words[0], 16), int(words[1], 16)
        except ValueError:
            continue
        if start >= 0 and size > 0 and start + size <= 1 << 64:
            found.append((start, size, words[2][:_LONGEST].rstrip(b"\r").decode("utf-8", "backslashreplace")))
            if len(found) >= _MOST:
                break
    return found


def parse_jitdump(data: bytes, what: str = "jitdump") -> JitCode:
    """The code that a jitdump file describes; a record that is not whole ends it (the process may be writing).

    Raises:
        FormatError: not a jitdump file.
    """
    if len(data) < 40:
        raise FormatError(what, "truncated", len(data))
    order = "<" if data[:4] == _JITDUMP.to_bytes(4, "little") else ">"
    magic, _, header = struct.unpack_from(order + "III", data, 0)
    if magic != _JITDUMP or not 40 <= header <= len(data):
        raise FormatError(what, "not a jitdump file", 0)
    entries: list[tuple[int, int, str]] = []
    names: dict[int, str] = {}
    lines: dict[int, tuple[str, int]] = {}
    place = header
    while place + 16 <= len(data) and len(entries) < _MOST:
        kind, size = struct.unpack_from(order + "II", data, place)
        if size < 16 or place + size > len(data):
            break
        body, end = place + 16, place + size
        if kind == _LOAD and size >= 56:
            _, _, _, start, length, index = struct.unpack_from(order + "IIQQQQ", data, body)
            name = _text(data, body + 40, end)
            names[index] = name
            if length and start + length <= 1 << 64:
                entries.append((start, length, name))
        elif kind == _MOVE and size >= 64:
            _, _, _, _, start, length, index = struct.unpack_from(order + "IIQQQQQ", data, body)
            if length and start + length <= 1 << 64 and index in names:
                entries.append((start, length, names[index]))
        elif kind == _DEBUG and size >= 32:
            _lines(data, body, end, order, lines)
        elif kind == _CLOSE:
            break
        place = end
    return JitCode(entries, lines)


def read_file(kernel: Kernel, path: str, owners: tuple[int, ...]) -> bytes | None:
    """A file that one of ``owners`` (or root) wrote; None if it is not there, not regular, or somebody else's.

    Anybody can put a file for any process into /tmp: only the process's own user may name its code.
    """
    try:
        fd = kernel.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        state = os.fstat(fd)
        if not stat.S_ISREG(state.st_mode) or state.st_uid not in (0, *owners):
            return None
    except OSError:  # a kernel that is not the real one
        pass
    finally:
        kernel.close(fd)
    try:
        return kernel.read(path, LIMIT)
    except OSError:
        return None


def _lines(data: bytes, body: int, end: int, order: str, lines: dict[int, tuple[str, int]]) -> None:
    _, count = struct.unpack_from(order + "QQ", data, body)
    place, name = body + 16, ""
    while count and place + 17 <= end and len(lines) < _MOST:
        count -= 1
        address, line, _ = struct.unpack_from(order + "Qii", data, place)
        if data[place + 16 : place + 18] == b"\xff\0":  # the same file as before
            place += 18
        else:
            stop = data.find(b"\0", place + 16, min(end, place + 16 + _LONGEST))
            if stop < 0:
                break
            name = data[place + 16 : stop].decode("utf-8", "backslashreplace")
            place = stop + 1
        lines[address] = (name, max(line, 0))


def _text(data: bytes, start: int, end: int) -> str:
    stop = data.find(b"\0", start, end)
    return data[start : stop if stop >= 0 else end][:_LONGEST].decode("utf-8", "backslashreplace")


def newest(entries: Sequence[Entry]) -> tuple[list[int], list[int]]:
    """Cuts the addresses into pieces: (their starts, the number of the last entry that covers each, or -1)."""
    order = sorted(range(len(entries)), key=lambda number: entries[number][0])
    bounds: list[int] = []
    owners: list[int] = []
    from heapq import heappop, heappush

    points = sorted({entry[0] for entry in entries} | {entry[0] + entry[1] for entry in entries})
    active: list[int] = []
    following = 0
    for point in points:
        while following < len(order) and entries[order[following]][0] == point:
            heappush(active, -order[following])
            following += 1
        while active and entries[-active[0]][0] + entries[-active[0]][1] <= point:
            heappop(active)
        owner = -active[0] if active else -1
        if not owners or owners[-1] != owner:
            bounds.append(point)
            owners.append(owner)
    return bounds, owners
