"""Symbols in a recording: the kallsyms text and the ``trace_printk`` formats of the traced machine.

Lookups answer as trace-cmd's do, so that reports agree: an address within a function that has several names has the first of the text,
absolute symbols (type A) do not count, and of the last symbol only its first address is known.

Example:
    >>> table = Symbols(b"ffffffff81000000 T _stext\\nffffffff81000100 t do_it\\nffffffffc0000000 t init\\t[ext4]\\n")
    >>> table.find(0xffffffff81000108)
    ('do_it', 18446744071578845440, '')
    >>> table.name(0xffffffffc0000000), table.name(0xffffffffc0000001)
    ('init', '')
"""

from __future__ import annotations

from array import array
from bisect import bisect_right

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("Symbols", "parse_comms", "parse_printk", "printk_lines")

_MAX_TEXT = 48 << 20  # 20 MB are many
_MAX_COMMS, _MAX_COMM = 1 << 19, 256  # PIDs; a name has 15 letters
_MAX_SYMBOLS, _MAX_NAME, _MAX_FORMAT = 2_000_000, 600, 4096  # a kernel has 200,000, of up to 512 letters and a module


class Symbols:
    """Kernel symbols; the text is parsed when the first address is asked for."""

    def __init__(self, text: bytes) -> None:
        self._text = text[:_MAX_TEXT]
        self._starts: array[int] | None = None
        self._lines: list[bytes] = []
        self._named: dict[bytes, int] = {}

    def add(self, text: bytes) -> None:
        """More lines of a ``kallsyms``, before the first address is asked for."""
        self._text = (self._text + b"\n" + text)[:_MAX_TEXT]

    def _load(self) -> array[int]:
        if self._starts is not None:
            return self._starts
        found: list[tuple[int, bytes]] = []
        # Symbols of one address stand in the reverse order of the text, as trace-cmd sorts them.
        for line in reversed(self._text.split(b"\n", _MAX_SYMBOLS)[:_MAX_SYMBOLS]):
            address, _, rest = line.partition(b" ")
            if len(rest) < 3 or rest[0] in b"aA" or len(address) > 16:
                continue
            try:
                found.append((int(address, 16) & 0xFFFFFFFFFFFFFFFF, rest[2:_MAX_NAME]))
            except ValueError:
                continue
        found.sort(key=lambda pair: pair[0])
        self._lines = [line for _, line in found]
        self._starts = array("Q", [start for start, _ in found])
        self._text = b""
        return self._starts

    def find(self, address: int) -> tuple[str, int, str] | None:
        """(name, address of the symbol, module or "") of the symbol that an address lies in; None before the first and behind the last."""
        starts = self._load()
        index = bisect_right(starts, address) - 1
        if index < 0 or (index == len(starts) - 1 and starts[index] != address):
            return None
        if starts[index] == address and index and starts[index - 1] == address:
            index = self._any_of(address)
        return self._at(index)

    def kernel_find(self, address: int) -> tuple[str, int, int, str] | None:
        """As the kernel itself finds it: (name, address and size of the symbol, module or ""); of several names the first of the text.

        A symbol ends where the next one begins; the size of the last one is 0.
        """
        starts = self._load()
        after = bisect_right(starts, address)
        if not after or (after == len(starts) and starts[after - 1] != address):
            return None
        name, start, module = self._at(after - 1)
        return name, start, starts[after] - start if after < len(starts) else 0, module

    def address(self, name: str) -> int | None:
        """The lowest address of symbols of this name, the kernel's own before those of modules; None if there is none."""
        if not self._named:  # all at once: formats may name as many as they like
            for own in (True, False):
                for start, line in zip(self._load(), self._lines):
                    symbol, tab, _ = line.partition(b"\t")
                    if own is not bool(tab):
                        self._named.setdefault(symbol, start)
        return self._named.get(name.encode("utf-8", "surrogateescape"))

    def _any_of(self, address: int) -> int:
        """Which of several symbols bsearch(3) finds."""
        starts = self._load()
        low, high = 0, len(starts)
        while low < high:
            middle = (low + high) // 2
            if starts[middle] == address:
                return middle
            if starts[middle] < address:
                low = middle + 1
            else:
                high = middle
        return low

    def _at(self, index: int) -> tuple[str, int, str]:
        name, _, module = self._lines[index].partition(b"\t")
        text = module.strip(b"[] \t\r").decode("utf-8", "backslashreplace")
        return name.decode("utf-8", "backslashreplace"), self._load()[index], text

    def image(self) -> tuple[int, int]:
        """Where the kernel itself is, without modules: start and end.  Beside it the table has offsets of per-CPU variables, which are
        small numbers; (0, 2**64) if it does not tell."""
        starts = self._load()
        found = {}
        for name in (b"_stext", b"_end", b"_einittext", b"_etext"):
            try:
                found[name] = starts[self._lines.index(name)]
            except ValueError:
                continue
        start = found.pop(b"_stext", 0)
        return (start, max(found.values())) if start and found else (0, 1 << 64)

    def name(self, address: int) -> str:
        """The symbol's name, "" if there is none."""
        found = self.find(address)
        return found[0] if found else ""

    def all(self) -> Iterator[tuple[int, str, str]]:
        """(address, name, module or "") of all symbols, by address."""
        for index in range(len(self._load())):
            name, start, module = self._at(index)
            yield start, name, module

    def __len__(self) -> int:
        return len(self._load())


def parse_comms(text: str) -> dict[int, str]:
    """Names of tasks by PID, from ``saved_cmdlines``: lines of "PID NAME".

    Example:
        >>> parse_comms("12 cat\\n-1 none")
        {0: '<idle>', 12: 'cat'}
    """
    found = {0: "<idle>"}
    for line in text.split("\n", _MAX_COMMS)[:_MAX_COMMS]:
        pid, space, comm = line[:_MAX_COMM].strip(" ").partition(" ")
        if space and pid.isdecimal() and len(pid) < 12:
            found[int(pid)] = comm
    return found


def parse_printk(text: str) -> dict[int, str]:
    r"""Format strings of trace_printk by address, from ``printk_formats``: lines of ``0xADDRESS : "TEXT"``.

    Example:
        >>> parse_printk('0xffffffff82000000 : "hello %d\\n"\n')
        {18446744071595622400: 'hello %d\n'}
    """
    return {address: _unescape(quoted) for address, quoted in printk_lines(text)}


def _unescape(text: str) -> str:
    return text.replace("\\n", "\n").replace("\\t", "\t").replace('\\"', '"').replace("\\\\", "\\") if "\\" in text else text


def printk_lines(text: str) -> list[tuple[int, str]]:
    """(address, what stands between the quotes) of each line, in order."""
    found = []
    for line in text.split("\n", _MAX_SYMBOLS)[:_MAX_SYMBOLS]:
        address, colon, quoted = line[:_MAX_FORMAT].partition(" : ")
        start, end = quoted.find('"'), quoted.rfind('"')
        if not colon or not 0 <= start < end:
            continue
        try:
            found.append((int(address, 16), quoted[start + 1 : end]))
        except ValueError:
            continue
    return found
