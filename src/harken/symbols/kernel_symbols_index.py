"""The compact form of /proc/kallsyms: sorted arrays and one block of names, as bytes that can be mapped.

Layout, in the byte order of this machine (the index never leaves it)::

    magic 8s   entries u32   of them with an address u32   bytes of names u32   bytes of modules u32
    u64 address [entries]    ascending; symbols that are no addresses (absolute ones) follow at the end
    u32 offset of the name in the block of names [entries + 1]
    u16 number of the module, 0 for the kernel [entries]
    names and modules, each followed by a NUL

Among symbols at one address the last of the text that is code or data stands last, where a search from the right finds it.  perf means to
choose by other rules, but ends up with that one: it computes where symbols end first, so that only the last of them has a length, and
symbols with a length win (tools/perf/util/symbol.c, symbols__fixup_end before symbols__fixup_duplicate).

A line of kallsyms is "ADDRESS TYPE NAME", for modules and generated code followed by a tab and "[OWNER]" (kernel/kallsyms.c).

Example:
    >>> static, changing = build(b"ffffffff81000000 T a\\nffffffff81000000 t b\\nffffffffc0000000 t bpf_prog_1\\t[bpf]\\n")
    >>> KallsymsIndex(static).lookup(0xffffffff81000010)[0], KallsymsIndex(changing).named("bpf_prog_1")
    ('b', [(18446744072635809792, 'bpf')])
"""

from __future__ import annotations

import struct
import sys
from bisect import bisect_right

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ("KallsymsIndex", "build", "changing_lines")

_HEAD = struct.Struct("=8sIIII")
_MAGIC = b"kallsym3"
#: Owners whose symbols come and go.
_CHANGING = (b"\t[bpf]", b"\t[__builtin__")
#: Types of nm(1) that are not addresses of memory: absolute (per-CPU offsets), undefined, debugging.
_NO_ADDRESS = b"AaUNn?-"
#: Types that perf reads.
_MEMORY = b"TtWwDdBb"
_ADDRESSED = bytes([value not in _NO_ADDRESS for value in range(256)])
_DIGITS = b"0123456789abcdefABCDEF"
_PAGE = 4096


class KallsymsIndex:
    """Reads an index.

    Args:
        data: what ``build`` made.

    Raises:
        ValueError: it is not an index, or not whole.
    """

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(bytearray(data) if type(data) is bytes else data)
        if len(view) < _HEAD.size:
            raise ValueError("not an index of kernel symbols")
        magic, count, addressed, names, modules = _HEAD.unpack_from(view)
        places = [_HEAD.size]
        for size in (8 * count, 4 * (count + 1), 2 * count + (2 * count) % 4, names, modules):
            places.append(places[-1] + size)
        if magic != _MAGIC or places[-1] != len(view) or addressed > count:
            raise ValueError("not an index of kernel symbols")
        self.count: int = count
        self._starts = view[places[0] : places[1]].cast("Q")
        self._addressed = self._starts[:addressed]
        self._offsets = view[places[1] : places[2]].cast("I")
        self._owners = view[places[2] : places[2] + 2 * count].cast("H")
        self._names = view[places[3] : places[4]]
        self._modules = bytes(view[places[4] :]).decode("ascii", "backslashreplace").split("\0")
        self._block = b""

    def columns(self) -> tuple[Any, Any, Any, Any, list[str]]:
        """Addresses, offsets of names, modules' numbers and names as memory; names of the modules.  Symbols without address come last."""
        return self._addressed, self._offsets, self._owners, self._names, self._modules

    @property
    def hidden(self) -> bool:
        """Whether no symbol has an address."""
        addressed = self._addressed
        return not len(addressed) or not addressed[-1]

    def lookup(self, address: int) -> tuple[str, int, int, str] | None:
        """(name, start, end, module) of the symbol that contains an address."""
        starts = self._addressed
        place = bisect_right(starts, address) - 1
        if place < 0 or not starts[place]:
            return None
        end = starts[place + 1] if place + 1 < len(starts) else 0
        start, owner = starts[place], self._owners[place]
        if place + 1 == len(starts) or self._owners[place + 1] != owner:
            # the last of the kernel or of a module: to the end of the following page
            last = (start + _PAGE - 1) // _PAGE * _PAGE + _PAGE
            end = min(end, last) if end else last
            if address >= end:
                return None
        return self._name(place), start, end, self._modules[owner]

    def named(self, name: str) -> list[tuple[int, str]]:
        """(address, module) of every symbol of this name, ascending."""
        word = name.encode("utf-8", "surrogateescape") + b"\0"
        if len(word) == 1 or b"\0" in word[:-1]:
            return []
        if not self._block:
            self._block = bytes(self._names)
        block, found = self._block, []
        place = block.find(word)
        while place >= 0:
            if place == 0 or not block[place - 1]:
                index = bisect_right(self._offsets, place) - 1
                found.append((self._starts[index], self._modules[self._owners[index]]))
            place = block.find(word, place + 1)
        return found

    def symbols(self) -> Iterator[tuple[str, int, str]]:
        """(name, address, module) of all, by address."""
        return ((self._name(i), self._starts[i], self._modules[self._owners[i]]) for i in range(self.count))

    def _name(self, place: int) -> str:
        return str(self._names[self._offsets[place] : self._offsets[place + 1] - 1], "utf-8", "backslashreplace")


def changing_lines(text: bytes) -> bytes:
    """The lines of symbols that come and go (BPF, ftrace, kprobes), without cutting the others."""
    place = text.find(b"\t[")
    if place < 0:
        return b""
    tail = text[text.rfind(b"\n", 0, place) + 1 :]
    return b"\n".join([line for line in tail.split(b"\n") if _CHANGING[0] in line or _CHANGING[1] in line])


def build(text: bytes) -> tuple[bytes | bytearray, bytes | bytearray]:
    """Indexes of the lasting and of the changing symbols of a kallsyms text; lines that are none are left out."""
    from ..native.kallsyms import columns as read

    static, changes = read(text, False), read(text, True)
    if static is not None and changes is not None:
        return _packed(*static), _packed(*changes)
    # the kernel's own symbols come first, and are cut all at once
    tail = text.find(b"\t[")
    tail = text.rfind(b"\n", 0, tail) + 1 if tail >= 0 else len(text)
    columns = _columns(text[:tail])
    if columns is None:
        tail, columns = 0, ([], [], [])
    lines = text[tail:].split(b"\n")
    if lines and not lines[-1]:
        lines.pop()
    changing: list[bytes] = []
    if b"\t[" in text:
        changing = changing_lines(text).split(b"\n")
        known = set(changing)
        lines = [line for line in lines if line not in known]
    return _index(columns, lines), _index(([], [], []), changing)


def _columns(text: bytes) -> tuple[list[bytes], list[bytes], list[bytes]] | None:
    """Addresses, types and names of lines without a module; None if they have to be looked at one by one."""
    words = text.split()
    count = text.count(b"\n") + (not text.endswith(b"\n") and bool(text))
    addresses, types = words[0::3], words[1::3]
    digits = b"\n".join(addresses)
    if (
        len(words) != 3 * count
        or digits[16::17].strip(b"\n")
        or len(digits) != 17 * count - 1
        or digits.translate(None, _DIGITS + b"\n")
        or len(b"".join(types)) != count
        or b"\0" in text
    ):
        return None
    return addresses, types, words[2::3]


def _index(columns: tuple[list[bytes], list[bytes], list[bytes]], lines: list[bytes]) -> bytearray:
    """The index of what was cut already, and of lines."""
    from array import array
    from itertools import accumulate, compress

    addresses, types, names = columns
    for line in _well_formed(lines):
        addresses.append(line[:16])
        types.append(line[17:18])
        names.append(line[19:])
    starts = array("Q", bytes.fromhex(b"".join(addresses).decode("ascii")))
    if starts.itemsize != 8:
        raise AssertionError("array('Q') is 8 bytes")
    if sys.byteorder == "little":
        starts.byteswap()
    values = starts.tolist()
    order = sorted(range(len(values)), key=values.__getitem__)  # stable: symbols at one address stay in the text's order
    kinds = b"".join(types)
    plain = kinds.translate(_ADDRESSED)
    if 0 in plain:
        chosen = [plain[index] for index in order]
        others = [index for index in order if not plain[index]]
        order = list(compress(order, chosen))
    else:
        others = []
    addressed = len(order)
    _best_last(order, values, kinds)
    order += others
    if order != list(range(len(values))):
        starts = array("Q", [values[index] for index in order])
        names = [names[index] for index in order]
    owners = array("H", bytes(2 * len(names)))
    modules: dict[bytes, int] = {b"": 0}
    block = b"\0".join(names) + b"\0" if names else b""
    if b"\t" in block:
        for place, name in enumerate(names):
            if b"\t" in name:
                names[place], _, owner = name.partition(b"\t")
                number = modules.setdefault(owner.strip(b"[] \t"), len(modules))
                owners[place] = number if number < 0xFFFF else 0
        block = b"\0".join(names) + b"\0"
    offsets = array("I", accumulate([len(name) + 1 for name in names], initial=0))
    owner_names = b"\0".join(list(modules)[:0xFFFF])
    return _packed(memoryview(starts), memoryview(offsets), memoryview(owners), memoryview(block), owner_names, addressed)


def _packed(starts: memoryview, offsets: memoryview, owners: memoryview, block: memoryview, modules: bytes, addressed: int) -> bytearray:
    """The index; in memory that can be written to, so that the accelerator may have its address."""
    head = _HEAD.pack(_MAGIC, owners.nbytes // 2, addressed, len(block), len(modules))
    return bytearray().join((head, starts, offsets, owners, bytes(owners.nbytes % 4), block, modules))


def _well_formed(lines: list[bytes]) -> list[bytes]:
    """Lines with 16 digits (32-bit kernels print 8); others are made so or dropped."""
    digits = frozenset(_DIGITS)
    if all([line[16:17] == b" " and line[18:19] == b" " and len(line) > 19 for line in lines]):
        heads = b"".join([line[:16] for line in lines])
        if not heads.translate(None, _DIGITS) and not any([b"\0" in line for line in lines]):
            return lines
    found = []
    for line in lines:
        address, _, rest = line.partition(b" ")
        if 0 < len(address) <= 16 and digits.issuperset(address) and len(rest) > 2 and rest[1:2] == b" " and b"\0" not in rest:
            found.append(address.rjust(16, b"0").lower() + b" " + rest)
    return found


def _best_last(order: list[int], values: list[int], kinds: bytes) -> None:
    """Puts the best of the symbols at one address behind the others."""
    from itertools import compress
    from operator import eq

    addresses = [values[index] for index in order]
    end = 0
    for place in compress(range(len(addresses)), map(eq, addresses, addresses[1:])):
        if place < end:
            continue
        end = place + 1
        while end < len(addresses) and addresses[end] == addresses[place]:
            end += 1
        order[place:end] = sorted(order[place:end], key=lambda index: kinds[index] in _MEMORY)
