"""An index over the types of one BTF blob, as bytes that can be mapped from a cache.

Finding ``struct task_struct`` in a kernel's BTF means walking 126,000 records, a fifth of a second in Python.  The index holds where
every record starts and three sorted tables of name hashes, so that a later start finds a name with one binary search and parses only
the record it wants.  It may carry a copy of the BTF itself, because /sys/kernel/btf/vmlinux is slow to read (4 KB per system
call) and can be mapped on newest kernels only.

Layout, in native byte order: ``magic, 8 counters``, then arrays of u64 ``keys[names]``, ``keys[enumerators]``, of u32
``positions[types]``, ``ids[decl tags]``, then ``kinds[types]`` (bytes), padding, and the copy.  A key is ``hash << 32 | id``, a hash is
CRC-32 of the name; whoever looks up compares names, so a collision costs time and nothing else.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from zlib import crc32

from ..base.errors import FormatError
from .btf_layout import DECL_TAG, ENUM, ENUM64, FIXED_WORDS, MAX_NAME, for_native, split, walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from .btf_layout import Sections

    Buffer = bytes | bytearray | memoryview

__all__ = ("Index", "build", "FORMAT")

#: Part of every cache key: changes when the layout does.
FORMAT = "btf-index-2"

_MAGIC = b"harkenBI"
_RARE = (ENUM, ENUM64, DECL_TAG)
#: a multiple of 8 bytes, so that all arrays are aligned
_HEAD = struct.Struct("=8s8I")


class Index:
    """A built index.

    Args:
        data: what ``build`` returned, possibly mapped from a file.

    Raises:
        FormatError: the bytes are no index.
    """

    __slots__ = ("_copy", "decl_tags", "enum_keys", "first", "keys", "kinds", "positions")

    def __init__(self, data: Buffer) -> None:
        what = "BTF index"
        if len(data) < _HEAD.size:
            raise FormatError(what, "too short", 0)
        magic, self.first, types, names, enumerators, tags, copy_start, copy_length, check = _HEAD.unpack_from(data)
        if magic != _MAGIC or check != types ^ names ^ enumerators ^ copy_length:
            raise FormatError(what, "damaged header", 0)
        view = memoryview(data).cast("B")
        position = _HEAD.size
        tables = []
        for count, size in ((names, 8), (enumerators, 8), (types, 4), (tags, 4)):
            table = view[position : position + size * count]
            tables.append(table.cast("Q") if size == 8 else table.cast("I"))
            position += size * count
        self.keys, self.enum_keys, self.positions, self.decl_tags = tables
        self.kinds = view[position : position + types]
        if len(self.kinds) != types or copy_start + copy_length > len(data):
            raise FormatError(what, "truncated", position)
        self._copy = view[copy_start : copy_start + copy_length]

    @property
    def copy(self) -> memoryview | None:
        """The copy of the BTF, if the index carries one."""
        return self._copy if len(self._copy) else None

    def expect(self, names: Iterable[bytes]) -> None:
        """Told which names will be asked for (see ``btf_scan``); here all are found at once."""

    def named(self, name: bytes) -> Iterator[int]:
        """Ids of types that may be called ``name``, ascending."""
        return _matches(self.keys, crc32(name))

    def enumerators(self, name: bytes) -> Iterator[int]:
        """Ids of enums that may have an enumerator called ``name``, ascending."""
        return _matches(self.enum_keys, crc32(name))


def _matches(keys: memoryview, wanted: int) -> Iterator[int]:
    place = bisect_left(keys, wanted << 32)
    while place < len(keys) and keys[place] >> 32 == wanted:
        yield keys[place] & 0xFFFFFFFF
        place += 1


def build(
    data: Buffer,
    what: str = "BTF",
    *,
    first: int = 1,
    base_strings: bytes = b"",
    copy: bool = False,
    walked: tuple[Sequence[int], bytes] | None = None,
) -> bytes:
    """Walks a blob once and returns its index.

    Args:
        data: raw BTF.
        what: what the user calls it, for messages.
        first: id of the first type (1, or for split BTF the number of types of the base, void included).
        base_strings: the string section of the base.
        copy: whether the index shall carry the BTF itself.
        walked: what ``walk`` found, if somebody has walked already.

    Raises:
        FormatError: the blob is not well formed (see ``btf_layout``), or a name lies outside of the strings.
    """
    sections = split(data, what, base_strings=bool(base_strings))
    positions, kinds = walked or walk(sections)
    strings = base_strings + sections.strings()
    types = for_native(sections, positions, kinds, strings)
    found = None
    if types is not None:
        from ..native.btf import keys

        found = keys(types, first)
    names, enumerators, tags = found or _keys(sections, positions, kinds, strings, first)
    counts = len(names) // 8, len(enumerators) // 8, len(tags) // 4
    parts: list[Any] = [b"", names, enumerators, memoryview(positions).cast("B"), tags, kinds]  # type: ignore[arg-type]
    size = _HEAD.size + sum(map(len, parts))
    padding = -size % 64
    length = len(data) if copy else 0
    check = len(positions) ^ counts[0] ^ counts[1] ^ length
    parts[0] = _HEAD.pack(_MAGIC, first, len(positions), *counts, size + padding, length, check)
    parts.append(bytes(padding))
    if copy:
        parts.append(data)
    return b"".join(parts)


def _keys(sections: Sections, positions: Sequence[int], kinds: bytes, strings: bytes, first: int) -> tuple[bytes, bytes, bytes]:
    """The keys of types and of enumerators, sorted, and the ids of declaration tags, as ``native.btf.keys`` finds them."""
    words, what, limit = sections.words, sections.what, len(strings)
    names: list[int] = []
    enumerators: list[int] = []
    tags: list[int] = []
    # hardly a name is there twice, so none is remembered: this may be the most memory that a process ever holds
    find = strings.find

    def hashed(offset: int, position: int) -> int:
        end = find(b"\0", offset, offset + MAX_NAME + 1) if offset < limit else -1
        if end < 0:
            raise FormatError(what, f"name offset {offset:#x} is wrong", sections.types_start + 4 * position)
        return crc32(strings[offset:end]) << 32

    number = first
    for position, kind in zip(positions, kinds):
        offset = words[position]
        if offset:
            names.append(hashed(offset, position) | number)
        if kind in _RARE:
            if kind == DECL_TAG:
                tags.append(number)
            else:
                step = 2 if kind == ENUM else 3
                start = position + 3 + FIXED_WORDS[kind]
                for item in range(start, start + step * (words[position + 1] & 0xFFFF), step):
                    enumerators.append(hashed(words[item], item) | number)
        number += 1

    from array import array

    tables = []
    for keys in (names, enumerators):
        keys.sort()
        tables.append(array("Q", keys).tobytes())
        keys.clear()
    return tables[0], tables[1], array("I", tags).tobytes()
