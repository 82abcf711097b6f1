"""Symbols in a recording: the kallsyms text and the ``trace_printk`` formats of the traced machine.

Lookups answer as trace-cmd's do, so that reports agree: of several symbols at one address the last one of the text counts, absolute
symbols (type A) do not, and the last symbol reaches to the end of the address space.

Example:
    >>> table = Symbols(b"ffffffff81000000 T _stext\\nffffffff81000100 t do_it\\nffffffffc0000000 t init\\t[ext4]\\n")
    >>> table.find(0xffffffff81000108)
    ('do_it', 18446744071578845440, '')
    >>> table.name(0xffffffffc0000000)
    'init'
"""

from __future__ import annotations

from array import array
from bisect import bisect_right

__all__ = ("Symbols", "parse_printk")

_MAX_TEXT = 128 << 20


class Symbols:
    """Kernel symbols; the text is parsed when the first address is asked for."""

    def __init__(self, text: bytes) -> None:
        self._text = text[:_MAX_TEXT]
        self._starts: array[int] | None = None
        self._lines: list[bytes] = []

    def _load(self) -> array[int]:
        found: dict[int, bytes] = {}
        for line in self._text.split(b"\n"):
            address, _, rest = line.partition(b" ")
            if len(rest) < 3 or rest[0] in b"aA" or len(address) > 16:
                continue
            try:
                found[int(address, 16)] = rest[2:]
            except ValueError:
                continue
        starts = sorted(found)
        self._lines = [found[start] for start in starts]
        self._starts = array("Q", starts)
        self._text = b""
        return self._starts

    def find(self, address: int) -> tuple[str, int, str] | None:
        """(name, address of the symbol, module or "") of the symbol that an address lies in; None before the first."""
        starts = self._starts
        if starts is None:
            starts = self._load()
        index = bisect_right(starts, address) - 1
        if index < 0:
            return None
        name, _, module = self._lines[index].partition(b"\t")
        return name.decode("utf-8", "backslashreplace"), starts[index], module.strip(b"[] \t\r").decode("utf-8", "backslashreplace")

    def name(self, address: int) -> str:
        """The symbol's name, "" if there is none."""
        found = self.find(address)
        return found[0] if found else ""

    @property
    def starts(self) -> array[int]:
        """The addresses of all symbols, ascending."""
        return self._load() if self._starts is None else self._starts

    def __len__(self) -> int:
        return len(self._load() if self._starts is None else self._starts)


def parse_printk(text: str) -> dict[int, str]:
    r"""Format strings of trace_printk by address, from ``printk_formats``: lines of ``0xADDRESS : "TEXT"``.

    Example:
        >>> parse_printk('0xffffffff82000000 : "hello %d\\n"\n')
        {18446744071595622400: 'hello %d\n'}
    """
    found = {}
    for line in text.split("\n"):
        address, colon, quoted = line.partition(" : ")
        start, end = quoted.find('"'), quoted.rfind('"')
        if not colon or not 0 <= start < end:
            continue
        try:
            found[int(address, 16)] = (
                quoted[start + 1 : end].replace("\\n", "\n").replace("\\t", "\t").replace('\\"', '"').replace("\\\\", "\\")
            )
        except ValueError:
            continue
    return found
