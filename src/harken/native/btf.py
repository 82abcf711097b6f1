"""The walk through the types of a kernel, and looking for names among them (``btf.c``).

``formats.btf_layout``, ``btf_scan`` and ``btf_index`` have the same in Python.
"""

from __future__ import annotations

from . import library
from .foreign import Pointer, Structure, Word, addressof
from .memory import address, numbers, room

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("Types", "find", "keys", "walk", "words_at")

#: Rows of a name that ``find`` has room for; more are looked for in Python.
_EACH = 16


class _Types(Structure):
    _fields_ = [(name, Word) for name in "words positions kinds fixed strings count found length".split()]


class _Wanted(Structure):
    _fields_ = [(name, Word) for name in "names starts count mask table marks places room".split()]


def walk(data: Any, start: int, count: int, fixed: bytes, items: bytes, limit: int) -> tuple[memoryview, bytes] | None:
    """Where each record of a type section starts, as an index of words, and of what kind it is.

    Args:
        data: BTF in this machine's byte order.
        start: byte at which the type section begins.
        count: its words, 4 bytes each.
        fixed, items: by kind, the words behind the first three and those of each item.
        limit: records there may be.

    Returns:
        None without the accelerator, for ``data`` that are not ``bytes``, and for sections that are not well formed.

    Example:
        >>> fixed, items = bytes([0, 1] + 18 * [0]), bytes(20)
        >>> found = walk(bytes(4) + b"\\0\\0\\0\\1" + bytes(8), 0, 4, fixed, items, 9)
        >>> found is None or (found[0].tolist(), found[1]) == ([0], b"\\1")
        True
    """
    native = library()
    if native is None or type(data) is not bytes or count < 3 or not 0 <= start <= start + 4 * count <= len(data) or start & 3:
        return None
    most = min(count // 3, limit)
    positions, kinds = room(4 * most), room(most)
    call: Any = native.harken_btf_walk
    call.argtypes = (Pointer, Word, Pointer, Pointer, Pointer, Pointer, Word)
    found = call(address(data) + start, count, address(fixed), address(items), address(positions), address(kinds), most)
    return (positions[: 4 * found].cast("I"), bytes(kinds[:found])) if found > 0 else None


def words_at(data: Any, start: int, count: int, positions: Any) -> memoryview | None:
    """The words of a type section at some positions (see ``walk``); None without the accelerator, and if one lies outside."""
    native = library()
    if native is None or type(data) is not bytes or not 0 <= start <= start + 4 * count <= len(data) or start & 3 or not len(positions):
        return None
    values = room(4 * len(positions))
    call: Any = native.harken_btf_words
    call.argtypes = (Pointer, Word, Pointer, Word, Pointer)
    return values.cast("I") if call(address(data) + start, count, address(positions), len(positions), address(values)) else None


class Types:
    """A type section that was walked, and its strings, for ``find`` and ``keys``.

    Args:
        data, start, count, fixed: as for ``walk``.
        positions, kinds: what it returned.
        strings: all that names are offsets into.
    """

    def __init__(self, data: Any, start: int, count: int, fixed: bytes, positions: Any, kinds: bytes, strings: bytes) -> None:
        if type(data) is not bytes or not 0 <= start <= start + 4 * count <= len(data) or start & 3 or len(strings) >> 32:
            raise TypeError("no section that C can read")
        self.count, self.found, self._kept = count, len(kinds), (data, positions, kinds, fixed, strings)
        places = address(data) + start, *map(address, (positions, kinds, fixed, strings))
        self.table = _Types(*places, count, len(kinds), len(strings))
        self.strings = strings


def find(types: Types, names: list[bytes]) -> memoryview | None:
    """The records that are called one of some names, and the enums that have an enumerator so called.

    Returns:
        u32 in threes: the place of the name in ``names``, that of the record in ``positions``, and 1 if it is an enum's; ascending by
        record.  None without the accelerator, and if a name is there so often that no room is left.
    """
    native = library()
    if native is None or not names:
        return None
    starts, end = [0], 0
    for name in names:
        end += len(name) + 1
        starts.append(end)
    text = b"\0".join(names) + b"\0"
    bits = (4 * len(names)).bit_length()
    offsets, table, marks = numbers("I", starts), room(4 << bits), room((len(types.strings) >> 3) + 1)
    most = 2 * len(names) + _EACH
    places, rows = room(8 * most), room(12 * _EACH * most)
    wanted = _Wanted(*map(address, (text, offsets)), len(names), (1 << bits) - 1, *map(address, (table, marks, places)), most)
    call: Any = native.harken_btf_find
    call.argtypes = (Pointer, Pointer, Pointer, Word)
    found = call(addressof(types.table), addressof(wanted), address(rows), _EACH * most)
    return rows[: 12 * found].cast("I") if found >= 0 else None


def keys(types: Types, first: int) -> tuple[memoryview, memoryview, memoryview] | None:
    """The keys of ``formats.btf_index``, sorted: of types and of enumerators, and the ids of declaration tags.

    Args:
        first: the first record's id.

    Returns:
        None without the accelerator, and if a name lies outside of the strings or is too long.
    """
    native = library()
    if native is None or not types.found:
        return None
    most = types.count // 2
    names, values, tags, spare = (room(size) for size in (8 * types.found, 8 * most, 4 * types.found, 8 * max(most, types.found)))
    counts = numbers("Q", (0, 0, 0))
    call: Any = native.harken_btf_keys
    call.argtypes = (Pointer, Word, Pointer, Pointer, Word, Pointer, Pointer, Pointer)
    if not call(addressof(types.table), first, *map(address, (names, values)), most, *map(address, (tags, spare, counts))):
        return None
    return names[: 8 * counts[0]], values[: 8 * counts[1]], tags[: 4 * counts[2]]
