"""Builds BTF blobs in code, for tests: small, of either byte order, well formed or not.

Example:
    >>> b = BtfBuilder()
    >>> b.ptr(b.integer("int", 4, signed=True))
    2
    >>> b.build(">")[:3].hex()
    'eb9f01'
"""

from __future__ import annotations

import struct

__all__ = ("BtfBuilder",)


class BtfBuilder:
    """Collects types; every method that adds one returns its id.

    Args:
        first: id of the first type, for split BTF the ``count`` of its base.
        strings_base: length of the base's strings.
    """

    def __init__(self, first: int = 1, strings_base: int = 0) -> None:
        self.first, self._strings_base = first, strings_base
        self._words: list[int] = []
        self._count = 0
        self._strings = b"" if strings_base else b"\0"
        self._known: dict[str, int] = {}

    @property
    def next_id(self) -> int:
        """The id that the next type will have (for types that refer to themselves)."""
        return self.first + self._count

    @property
    def strings_length(self) -> int:
        return self._strings_base + len(self._strings)

    def string(self, text: str) -> int:
        """The offset of a string, added if new."""
        if not text:
            return 0
        if text not in self._known:
            self._known[text] = self._strings_base + len(self._strings)
            self._strings += text.encode() + b"\0"
        return self._known[text]

    def record(self, kind: int, name: str, last: int, tail: list[int] | tuple[int, ...] = (), vlen: int = 0, flag: bool = False) -> int:
        """Any record, also a wrong one: ``last`` is the size or type word, ``tail`` the words after it."""
        self._words += [self.string(name), int(flag) << 31 | kind << 24 | vlen, last, *tail]
        self._count += 1
        return self.first + self._count - 1

    def integer(self, name: str, size: int, signed: bool = False, bool: bool = False, bits: int = 0, offset: int = 0) -> int:
        encoding = (1 if signed else 0) | (4 if bool else 0)
        return self.record(1, name, size, (encoding << 24 | offset << 16 | (bits or size * 8),))

    def ptr(self, target: int) -> int:
        return self.record(2, "", target)

    def array(self, element: int, count: int, index: int = 0) -> int:
        return self.record(3, "", 0, (element, index, count))

    def struct(self, name: str, size: int, members: list[tuple[str, int, int]], kind: int = 4) -> int:
        """Members are (name, type id, bit offset)."""
        tail = [word for member, target, offset in members for word in (self.string(member), target, offset)]
        return self.record(kind, name, size, tail, len(members))

    def bitfields(self, name: str, size: int, members: list[tuple[str, int, int, int]], kind: int = 4) -> int:
        """Members are (name, type id, bit offset, bit size); kind_flag is set."""
        tail = [word for member, target, offset, bits in members for word in (self.string(member), target, bits << 24 | offset)]
        return self.record(kind, name, size, tail, len(members), flag=True)

    def union(self, name: str, size: int, members: list[tuple[str, int, int]]) -> int:
        return self.struct(name, size, members, kind=5)

    def enum(self, name: str, size: int, values: dict[str, int], signed: bool = False) -> int:
        tail = [word for key, value in values.items() for word in (self.string(key), value & 0xFFFFFFFF)]
        return self.record(6, name, size, tail, len(values), signed)

    def enum64(self, name: str, values: dict[str, int], signed: bool = False) -> int:
        tail = [w for key, value in values.items() for w in (self.string(key), value & 0xFFFFFFFF, value >> 32 & 0xFFFFFFFF)]
        return self.record(19, name, 8, tail, len(values), signed)

    def fwd(self, name: str, union: bool = False) -> int:
        return self.record(7, name, 0, flag=union)

    def typedef(self, name: str, target: int) -> int:
        return self.record(8, name, target)

    def volatile(self, target: int) -> int:
        return self.record(9, "", target)

    def const(self, target: int) -> int:
        return self.record(10, "", target)

    def restrict(self, target: int) -> int:
        return self.record(11, "", target)

    def proto(self, returns: int, params: list[tuple[str, int]], variadic: bool = False) -> int:
        tail = [word for name, target in params for word in (self.string(name), target)] + [0, 0] * variadic
        return self.record(13, "", returns, tail, len(params) + variadic)

    def func(self, name: str, proto: int, linkage: int = 0) -> int:
        return self.record(12, name, proto, vlen=linkage)

    def var(self, name: str, target: int, linkage: int = 1) -> int:
        return self.record(14, name, target, (linkage,))

    def datasec(self, name: str, size: int, variables: list[tuple[int, int, int]]) -> int:
        """Variables are (id, offset, size)."""
        return self.record(15, name, size, [word for variable in variables for word in variable], len(variables))

    def floating(self, name: str, size: int) -> int:
        return self.record(16, name, size)

    def decl_tag(self, name: str, target: int, component: int = -1) -> int:
        return self.record(17, name, target, (component & 0xFFFFFFFF,))

    def type_tag(self, name: str, target: int) -> int:
        return self.record(18, name, target)

    def build(self, order: str = "<") -> bytes:
        """The blob; ``order`` is "<" or ">"."""
        types = struct.pack(f"{order}{len(self._words)}I", *self._words)
        header = struct.pack(f"{order}HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(self._strings))
        return header + types + self._strings
