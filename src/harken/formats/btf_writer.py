"""BTF for our own programs: a FUNC type per function, and where each instruction came from.

With it the kernel's verifier log quotes the user's source lines by itself, ``bpftool prog dump`` does too, and callbacks are
allowed at all (the kernel wants func_info for them).  Layout: ``include/uapi/linux/btf.h``, ``struct bpf_func_info`` and ``struct
bpf_line_info`` in ``include/uapi/linux/bpf.h``.

Example:
    >>> writer = BtfWriter()
    >>> writer.function("probe", ("ctx",))
    4
    >>> writer.function("probe", ("ctx",))
    4
    >>> data = writer.data()
    >>> data[:2].hex(), len(data) > 24
    ('9feb', True)
"""

from __future__ import annotations

import struct
from bisect import bisect_right

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..base.diagnostics import Source, Span

__all__ = ("BtfWriter",)

_INT, _PTR, _FUNC, _FUNC_PROTO = 1, 2, 12, 13
_MAX_COLUMN = 1023


class BtfWriter:
    """Collects types and strings; equal ones are stored once."""

    __slots__ = ("_functions", "_lines", "_next", "_offsets", "_strings", "_types")

    def __init__(self) -> None:
        self._strings = bytearray(b"\0")
        self._offsets: dict[str, int] = {"": 0}
        self._functions: dict[tuple[str, tuple[str, ...]], int] = {}
        #: source -> (start of each line, its text)
        self._lines: dict[int, tuple[list[int], list[str]]] = {}
        # 1: long long int, 2: void *
        self._types: list[bytes] = [
            struct.pack("<IIII", self.string("long long int"), _INT << 24, 8, 1 << 24 | 64),
            struct.pack("<III", 0, _PTR << 24, 0),
        ]
        self._next = 3

    def string(self, text: str) -> int:
        """The offset of ``text`` in the string section."""
        offset = self._offsets.get(text)
        if offset is None:
            offset = self._offsets[text] = len(self._strings)
            self._strings += text.encode("utf-8", "replace").replace(b"\0", b" ") + b"\0"
        return offset

    def function(self, name: str, params: tuple[str, ...] = ()) -> int:
        """The type id of a static function ``long long name(void *, ...)``; ``params`` are the parameters' names."""
        name = "".join([c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name]) or "_"
        if name[0].isdigit():
            name = "_" + name
        key = (name, params)
        found = self._functions.get(key)
        if found is not None:
            return found
        proto = struct.pack("<III", 0, _FUNC_PROTO << 24 | len(params), 1)
        for param in params:
            proto += struct.pack("<II", self.string(param), 2)
        self._types.append(proto)
        self._types.append(struct.pack("<III", self.string(name), _FUNC << 24, self._next))
        self._functions[key] = self._next + 1
        self._next += 2
        return self._functions[key]

    def func_info(self, functions: list[tuple[int, int]]) -> bytes:
        """The kernel's func_info records from (instruction slot, type id) pairs."""
        return b"".join([struct.pack("<II", slot, kind) for slot, kind in functions])

    def line_info(self, marks: list[tuple[int, Span | None]], starts: frozenset[int] = frozenset()) -> bytes:
        """The kernel's line_info records from (instruction slot, span) pairs in order of slots.

        ``starts`` are the slots where functions begin: each must have a record of its own.
        """
        out: list[bytes] = []
        last: tuple[int, int, int] | None = None
        file = text = line = column = 0
        for slot, span in marks:
            if span is not None:
                line, column, source_line = self._place(span.source, span.start)
                file, text = self.string(span.source.name), self.string(source_line)
            key = (file, text, line << 10 | min(column, _MAX_COLUMN))
            if key == last and slot not in starts:
                continue
            last = key
            out.append(struct.pack("<IIII", slot, *key))
        return b"".join(out)

    def _place(self, source: Source, offset: int) -> tuple[int, int, str]:
        """1-based line and column of an offset, and the line's text."""
        found = self._lines.get(id(source))
        if found is None:
            texts = source.text.split("\n")
            starts, position = [], 0
            for text in texts:
                starts.append(position)
                position += len(text) + 1
            found = self._lines[id(source)] = (starts, texts)
        starts, texts = found
        number = max(0, bisect_right(starts, offset) - 1)
        return number + 1, offset - starts[number] + 1, texts[number].rstrip()

    def data(self) -> bytes:
        """The whole BTF blob."""
        types = b"".join(self._types)
        header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(self._strings))
        return header + types + bytes(self._strings)
