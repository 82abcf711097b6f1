"""The kernel's symbols: name to address, and address to name and offset.

``Kallsyms`` keeps the text of /proc/kallsyms as it is (5 to 20 MB) and searches in it: a name with one pass of ``bytes.find``, an
address by binary search over the starts of the sorted lines.  That takes a fraction of the memory that an object per symbol would, and
nothing is sorted before an address is asked for.

A line is "ADDRESS TYPE NAME", for a module's symbol followed by a tab and "[MODULE]" (kernel/kallsyms.c).  Without CAP_SYSLOG
(kptr_restrict) all addresses read 0: ``hidden`` tells.

Example:
    >>> table = Kallsyms(b"ffffffff81000000 T _stext\\nffffffff81000100 t do_it\\nffffffffc0000000 t init\\t[ext4]\\n")
    >>> table.address("do_it") == 0xffffffff81000100, table.at(0xffffffff81000108), table.at(0xffffffffc0000004)
    (True, ('do_it', 8, ''), ('init', 4, 'ext4'))
"""

from __future__ import annotations

from ..base.errors import ProbeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ..kernel.kernel import Kernel

__all__ = ("Kallsyms", "read")

_TEXT = frozenset(("t ", "T ", "w ", "W "))


class Kallsyms:
    """The symbols of one text.

    Args:
        text: contents of /proc/kallsyms, or the same from a recording.  Lines that do not look like symbols are ignored.
    """

    def __init__(self, text: bytes) -> None:
        self.text = text if text.endswith(b"\n") or not text else text + b"\n"
        self._starts: Any = None
        self._by_address = b""

    @property
    def hidden(self) -> bool:
        """Whether the addresses are hidden from this user (all are 0); also True without any symbol."""
        return not self.text.translate(None, b"\n0") or self.text.count(b"\n") == (
            self.text.count(b"\n" + b"0" * 16 + b" ") + self.text.startswith(b"0" * 16 + b" ")
        )

    def addresses(self, name: str, module: str | None = None) -> list[int]:
        """All addresses of a symbol, in the text's order (static functions of different files may share a name).

        Args:
            module: only those of this module; "" for the kernel itself, None for all.
        """
        return [address for address, _, owner in self._lines(name) if module is None or owner == module]

    def address(self, name: str, module: str | None = None) -> int | None:
        """The address of a symbol, None if there is none.

        Raises:
            ProbeError: several symbols have this name, or the addresses are hidden from this user.
        """
        found = sorted(set(self.addresses(name, module)))
        if not found:
            return None
        if found == [0] and self.hidden:
            raise ProbeError(
                f"the address of {name} is hidden from this user",
                "run as root, or let root set kernel.kptr_restrict to 0 or grant CAP_SYSLOG",
            )
        if len(found) > 1:
            places = ", ".join(f"{address:#x}" for address in found[:4]) + (", ..." if len(found) > 4 else "")
            raise ProbeError(f"{len(found)} kernel symbols are called {name} ({places})", "name the one you mean by its address")
        return found[0]

    def modules_of(self, name: str) -> list[str]:
        """The modules that have a symbol of this name, "" for the kernel itself; one entry per symbol."""
        return [owner for _, _, owner in self._lines(name)]

    def at(self, address: int) -> tuple[str, int, str] | None:
        """(name, offset, module or "") of the symbol at or before an address; None if it lies before all of them."""
        starts = self._sort()
        low, high = 0, len(starts)
        text = self._by_address
        while low < high:
            middle = (low + high) // 2
            start = starts[middle]
            if int(text[start : start + 16], 16) <= address:
                low = middle + 1
            else:
                high = middle
        if not low:
            return None
        start = starts[low - 1]
        # Aliases share an address: the first of them that is a function, as the kernel's own lookup prefers.
        base = text[start : start + 16]
        best = low - 1
        while best > 0 and text[starts[best - 1] : starts[best - 1] + 16] == base:
            best -= 1
        choice = next((i for i in range(best, low) if text[starts[i] + 17 : starts[i] + 19].decode("latin-1") in _TEXT), best)
        start = starts[choice]
        end = text.find(b"\n", start)
        name, module = _name(text[start + 19 : end])
        return name, address - int(base, 16), module

    def functions(self) -> list[tuple[str, str]]:
        """(name, module or "") of every symbol in a text section, in the text's order."""
        text = self.text.decode("utf-8", "backslashreplace")
        width = text.find(" ")  # the same in all lines
        letter, name = width + 1, width + 3
        found = [line[name:] for line in text.split("\n") if line[letter:name] in _TEXT]
        return [(word, "") if "\t" not in word else _owned(word) for word in found if word]

    def _lines(self, name: str) -> Iterator[tuple[int, str, str]]:
        """(address, type letter, module) of every line with this name."""
        text = self.text
        word = b" " + name.encode("utf-8", "surrogateescape")
        place = text.find(word) if name else -1
        while place >= 0:
            after = place + len(word)
            if text[after : after + 1] in (b"\n", b"\t"):
                start = text.rfind(b"\n", 0, place) + 1
                fields = text[start : text.find(b"\n", place)].split(None, 3)
                try:
                    if len(fields) >= 3 and fields[2] == word[1:]:
                        module = fields[3].strip(b"[] \t").decode("ascii", "backslashreplace") if len(fields) > 3 else ""
                        yield int(fields[0], 16), chr(fields[1][0]), module
                except ValueError:
                    pass
            place = text.find(word, after)

    def _sort(self) -> Any:
        if self._starts is None:
            from array import array

            lines = sorted({_sortable(line) for line in self.text.split(b"\n")} - {b""}, key=lambda line: line[:16])
            self._by_address = b"\n".join(lines) + b"\n"
            starts = array("I")
            position = 0
            for line in lines:
                starts.append(position)
                position += len(line) + 1
            self._starts = starts
        return self._starts


def _sortable(line: bytes) -> bytes:
    """A line with its address in 16 digits (32-bit kernels print 8), b"" if it is none."""
    address, _, rest = line.partition(b" ")
    try:
        int(address, 16)
    except ValueError:
        return b""
    if len(rest) < 3 or rest[1:2] != b" " or len(address) > 16:
        return b""
    return address.rjust(16, b"0") + b" " + rest


def _owned(word: str) -> tuple[str, str]:
    name, _, module = word.partition("\t")
    return name, module.strip("[] ")


def _name(rest: bytes) -> tuple[str, str]:
    name, _, module = rest.partition(b"\t")
    return name.decode("utf-8", "backslashreplace"), module.strip(b"[] ").decode("ascii", "backslashreplace")


def read(kernel: Kernel) -> Kallsyms:
    """The running kernel's symbols; empty if they may not be read."""
    from ..kernel.procfs import kallsyms

    return Kallsyms(kallsyms(kernel))
