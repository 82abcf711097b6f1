"""What the first look at a kernel's BTF needs: an index that looks for names when it is asked, instead of sorting all of them.

``btf_index.build`` hashes every name, which takes three quarters of its time; a compilation asks for a dozen or two.  So where no index
is stored yet, ``Scan`` stands in for ``Index``: one walk finds where the records are, and a name is looked for in the string section, then
among the records' name offsets.  Both are searches for bytes, a millisecond each in 2 MB of strings.

It expects what every producer of BTF for kernels does (``btf__dedup`` of libbpf): a string is there once, and is not the tail of another.
Where that does not hold, a name may not be found before the index is built.

Example:
    >>> from harken.testing.btf_builder import BtfBuilder
    >>> b = BtfBuilder()
    >>> u32 = b.integer("unsigned int", 4)
    >>> list(Scan(b.build()).named(b"unsigned int")) == [u32]
    True
"""

from __future__ import annotations

from bisect import bisect_right

from .btf_layout import DECL_TAG, ENUM, ENUM64, FIXED_WORDS, for_native, name_offsets, split, walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Set
    from typing import Any

    from .btf_layout import Buffer

__all__ = ("Scan",)

#: so many are compared with what is wanted in one call
_STRETCH = 512


class Scan:
    """An index of a blob that stands on no other (see ``btf_index.Index``).

    Args:
        data: raw BTF.
        what: what the user calls it, for messages.

    Raises:
        FormatError: the blob is not well formed, as far as its header tells; of its records, whoever needs them first is told.
    """

    __slots__ = ("_column", "_data", "_enums", "_known", "_sections", "_walked", "first")

    copy = None

    def __init__(self, data: Buffer, what: str = "BTF") -> None:
        self._sections = split(data, what)
        self.first = 1
        self._walked: tuple[memoryview, memoryview] | None = None
        self._data = data if isinstance(data, bytes) else bytes(data)
        #: the records' name offsets
        self._column = b""
        #: name offsets of all enumerators, where those of each enum begin, the enums' ids
        self._enums: tuple[bytes, list[int], list[int]] | None = None
        #: name -> ids of types, ids of enums
        self._known: dict[bytes, tuple[list[int], list[int]]] = {}

    @property
    def positions(self) -> memoryview:
        """Where each record is, in words (``btf_layout.walk``); names that nothing has are answered without it."""
        return (self._walked or self._walk())[0]

    @property
    def kinds(self) -> memoryview:
        """Of what kind each record is."""
        return (self._walked or self._walk())[1]

    def _walk(self) -> tuple[memoryview, memoryview]:
        positions, kinds = walk(self._sections)
        self._walked = found = memoryview(positions), memoryview(kinds)  # type: ignore[arg-type]
        return found

    @property
    def decl_tags(self) -> list[int]:
        """Ids of declaration tags, ascending."""
        return [number for number, kind in enumerate(self.kinds, 1) if kind == DECL_TAG]

    def named(self, name: bytes) -> Iterator[int]:
        """Ids of types that are called ``name``, ascending."""
        if name in self._known:
            yield from self._known[name][0]
        elif offset := self._offset(name):
            for place in _places(self._names(), offset):
                yield 1 + place

    def enumerators(self, name: bytes) -> Iterator[int]:
        """Ids of enums that have an enumerator called ``name``."""
        if name in self._known:
            yield from self._known[name][1]
        elif offset := self._offset(name):
            column, starts, ids = self._enums or self._collect()
            for place in _places(column, offset):
                yield ids[bisect_right(starts, place) - 1]

    def expect(self, names: Iterable[bytes]) -> None:
        """Looks for many names at once, in the time that a dozen would take one by one."""
        known = self._known
        wanted = set(names).difference(known)
        known.update((name, ([], [])) for name in wanted)
        start = self._sections.strings_start
        strings = self._data[start : start + self._sections.strings_length]
        if self._found_fast(strings, [name for name in wanted if name and b"\0" not in name]):
            return
        parts = strings.split(b"\0")
        offsets: dict[int, bytes] = {}
        before = offset = 0
        for place in _among(parts, wanted - {b""}):
            offset += sum(map(len, parts[before:place])) + place - before
            before = place
            offsets[offset] = parts[place]
        column = memoryview(self._names()).cast("I").tolist()
        for place in _among(column, offsets.keys()):
            known[offsets[column[place]]][0].append(1 + place)
        data, starts, ids = self._enums or self._collect()
        column = memoryview(data).cast("I").tolist()
        for place in _among(column, offsets.keys()):
            known[offsets[column[place]]][1].append(ids[bisect_right(starts, place) - 1])

    def _found_fast(self, strings: bytes, names: list[bytes]) -> bool:
        """``expect`` by the accelerator; False if it cannot."""
        types = for_native(self._sections, self.positions, bytes(self.kinds), strings)
        if types is None:
            return False
        from ..native.btf import find

        rows = find(types, names)
        if rows is None:
            return False
        flat = rows.tolist()
        for place, record, is_enum in zip(flat[::3], flat[1::3], flat[2::3]):
            self._known[names[place]][is_enum].append(1 + record)
        return True

    def _names(self) -> bytes:
        """The records' name offsets as a column."""
        if not self._column:
            self._column = name_offsets(self._sections, self.positions)
        return self._column

    def _collect(self) -> tuple[bytes, list[int], list[int]]:
        """The name offsets of enumerators as one column."""
        from array import array

        words, positions, kinds = self._sections.words, self.positions, bytes(self.kinds)
        column, starts, ids = array("I"), [], []
        for kind, step in ((ENUM, 2), (ENUM64, 3)):
            place = kinds.find(kind)
            while place >= 0:
                start = positions[place] + 3 + FIXED_WORDS[kind]
                starts.append(len(column))
                ids.append(1 + place)
                column.extend(words[start : start + step * (words[positions[place] + 1] & 0xFFFF) : step])
                place = kinds.find(kind, place + 1)
        self._enums = column.tobytes(), starts, ids
        return self._enums

    def _offset(self, name: bytes) -> int:
        """Where a name is in the string section; 0 if it is not, or is empty."""
        start = self._sections.strings_start
        found = self._data.find(b"\0%b\0" % name, start, start + self._sections.strings_length) if name else -1
        return found + 1 - start if found >= 0 else 0


def _among(values: list[Any], wanted: Set[Any]) -> Iterator[int]:
    """Where some few are in a long list, ascending."""
    for start in range(0, len(values), _STRETCH):
        stretch = values[start : start + _STRETCH]
        if not wanted.isdisjoint(stretch):
            for place, value in enumerate(stretch, start):
                if value in wanted:
                    yield place


def _places(column: bytes, word: int) -> Iterator[int]:
    """Where a u32 is in a column of them."""
    import sys

    wanted = word.to_bytes(4, sys.byteorder)
    found = column.find(wanted)
    while found >= 0:
        if found & 3 == 0:
            yield found >> 2
        found = column.find(wanted, found + 1)
