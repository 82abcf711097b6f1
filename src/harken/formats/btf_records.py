"""Records of BTF by id and by name, before anything is made of them.

``Records`` is what ``formats.btf.Btf`` stands on: it finds records through the index, reads their words and names, and answers for split
BTF together with its base (ids and string offsets below the base's ends are the base's).
"""

from __future__ import annotations

from ..base.errors import FormatError
from . import btf_layout as layout
from .btf_index import Index, build
from .btf_layout import KIND_OF, KINDS, string_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .btf_layout import Buffer
    from .btf_scan import Scan

__all__ = ("Records",)


class Records:
    """The records of one blob, on top of those of its base.

    Args:
        data: raw BTF; referred to, not copied.
        what: what the user calls it, for messages.
        below: the records that this blob continues.
        index: a ready index (``btf_index.build``, ``btf_scan``); made on first need otherwise.

    Raises:
        FormatError: not BTF.  Wrong records are found when they are looked at.
    """

    def __init__(self, data: Buffer, what: str = "BTF", below: Records | None = None, index: Index | Scan | None = None) -> None:
        self.what, self._below = what, below
        self._sections = layout.split(data, what, base_strings=below is not None)
        self._first = below.count if below else 1
        self._string_base: int = below.strings_length if below else 0
        self._index_made: Index | Scan | None = index
        self._kinds: memoryview | None = None
        self._positions: memoryview | None = None

    # -- whole blob

    @property
    def index(self) -> Index | Scan:
        """The index, built by one walk if none was given; raises FormatError."""
        if self._index_made is None:
            strings = self._below.all_strings() if self._below else b""
            self._index_made = Index(build(self._sections.data, self.what, first=self._first, base_strings=strings))
        return self._index_made

    @property
    def count(self) -> int:
        """Number of types, void and those of the base included: ids are below it."""
        return self._first + len(self.index.positions)

    @property
    def first(self) -> int:
        """The first id that is not the base's."""
        return self._first

    @property
    def strings_length(self) -> int:
        return self._string_base + self._sections.strings_length

    @property
    def big_endian(self) -> bool:
        return self._sections.big_endian

    def all_strings(self) -> bytes:
        """The string sections, the base's first (a copy)."""
        return (self._below.all_strings() if self._below else b"") + self._sections.strings()

    # -- records

    def kind(self, number: int) -> str:
        """The kind of a type by id, as bpftool spells it in lower case ("void" for 0); raises FormatError."""
        return KINDS[self._kind(number)]

    def name(self, number: int) -> str:
        """The name of a type by id, "" if it has none; raises FormatError."""
        return "" if number == 0 else self._string(self._words(number)[0])

    def info(self, number: int) -> tuple[str, str, int, int, bool]:
        """(kind, name, vlen, size or type id, kind flag) as they stand in the record; raises FormatError."""
        name, info, last = self._words(number)
        return KINDS[info >> 24 & 0x1F], self._string(name), info & 0xFFFF, last, bool(info >> 31)

    def items(self, number: int) -> tuple[tuple[int, ...], ...]:
        """The words after the common three, one tuple per item (member, enumerator, parameter, ...); raises FormatError."""
        kind, info = self._kind(number), self._words(number)[1]
        fixed, each = layout.FIXED_WORDS[kind], layout.ITEM_WORDS[kind]
        if fixed:
            return (self._tail(number, 0, fixed),)
        words = self._tail(number, 0, each * (info & 0xFFFF))
        return tuple(zip(*(words[i::each] for i in range(each))))

    def ids(self, *kinds: str) -> Iterator[int]:
        """Ids of all own types (not the base's) of these kinds, ascending."""
        wanted = {KIND_OF[kind] for kind in kinds}
        return (number for number, kind in enumerate(self.index.kinds.tobytes(), self._first) if kind in wanted)

    def names(self, *kinds: str) -> list[str]:
        """Names of all own types of these kinds in order of ids, nameless ones left out; made for listing all functions at once."""
        words, positions = self._sections.words, self.index.positions
        text = self.all_strings().decode("latin-1")
        find = text.find
        result = []
        for number in self.ids(*kinds):
            offset = words[positions[number - self._first]]
            if offset:
                result.append(text[offset : find("\0", offset)])
        if not text.isascii():
            return [name.encode("latin-1").decode("utf-8", "backslashreplace") for name in result]
        return result

    # -- lookups

    def expect(self, names: Iterable[str]) -> None:
        """Tells that these names will be looked for, which may be faster together; nothing depends on it."""
        self.index.expect([name.encode("utf-8", "surrogateescape") for name in names])

    def ids_of(self, name: str, *kinds: str) -> list[int]:
        """Every id with this name and one of these kinds: own ones first, then the base's."""
        wanted = {KIND_OF[kind] for kind in kinds}
        raw = name.encode("utf-8", "surrogateescape")
        found = []
        if raw:
            for number in self.index.named(raw):
                if self._kind(number) in wanted and self._raw_string(self._words(number)[0]) == raw:
                    found.append(number)
        if self._below is not None:
            found += self._below.ids_of(name, *kinds)
        return found

    def id_of(self, name: str, kind: str) -> int | None:
        """The id of the first type with this name; ``kind`` "enum" also finds a 64-bit enum."""
        found = self.ids_of(name, *(("enum", "enum64") if kind == "enum" else (kind,)))
        return found[0] if found else None

    def decl_tags(self, name: str) -> list[tuple[int, int]]:
        """What carries the declaration tag ``name``: (type id, index of the member or parameter, -1 for the whole); e.g. "bpf_kfunc"."""
        raw = name.encode("utf-8", "surrogateescape")
        found = []
        for number in self.index.decl_tags:
            if self._raw_string(self._words(number)[0]) == raw:
                (component,) = self._tail(number, 0, 1)
                found.append((self._words(number)[2], component - (component >> 31 << 32)))
        return found

    def _wrong(self, number: int, problem: str) -> FormatError:
        offset = None
        if self._first <= number < self.count:
            offset = self._sections.types_start + 4 * self.index.positions[number - self._first]
        return FormatError(self.what, f"type {number}: {problem}", offset)

    def _kind(self, number: int) -> int:
        place = number - self._first
        if place >= 0:
            kinds = self._kinds
            if kinds is None:
                kinds = self._kinds = self.index.kinds
            if place < len(kinds):
                return kinds[place]
        elif number == 0:
            return 0
        elif self._below is not None:
            return self._below._kind(number)
        raise FormatError(self.what, f"type {number} does not exist (there are {self.count})")

    def _words(self, number: int) -> tuple[int, int, int]:
        """The three common words of a record."""
        return self._tail(number, -3, 3)  # type: ignore[return-value]

    def _tail(self, number: int, start: int, length: int) -> tuple[int, ...]:
        """Words of a record, ``start`` counted from the end of the common three."""
        place = number - self._first
        if place < 0:
            if self._below is not None and number:
                return self._below._tail(number, start, length)
            raise FormatError(self.what, f"type {number} has no record")
        positions = self._positions
        if positions is None:
            positions = self._positions = self.index.positions
        if place >= len(positions):
            raise FormatError(self.what, f"type {number} does not exist (there are {self.count})")
        begin = positions[place] + 3 + start
        words = tuple(self._sections.words[begin : begin + length])
        if len(words) != length:
            raise FormatError(self.what, f"type {number} is cut off", self._sections.types_start + 4 * begin)
        return words

    def _raw_string(self, offset: int) -> bytes:
        if offset < self._string_base:
            assert self._below is not None
            return self._below._raw_string(offset)
        if offset == 0:
            return b""
        return string_at(self._sections, offset - self._string_base)

    def _string(self, offset: int) -> str:
        return self._raw_string(offset).decode("utf-8", "backslashreplace") if offset else ""
