"""What a type of BTF stands on: qualifiers, typedefs and arrays that must end, structs in structs that must not contain themselves.

``Nesting`` is the part of ``formats.btf.Btf`` that follows such chains in records, before anything is made of them.  All are bounded: a
blob in which they have no end is refused.
"""

from __future__ import annotations

from ..base.errors import FormatError
from . import btf_layout as layout
from .btf_layout import KINDS
from .btf_records import Records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .btf_index import Index
    from .btf_layout import Buffer
    from .btf_scan import Scan

__all__ = ("COMPOSITE", "MODIFIERS", "Nesting")

_SPACES = {"user": "user", "percpu": "percpu", "rcu": "rcu"}
MODIFIERS = frozenset((layout.CONST, layout.VOLATILE, layout.RESTRICT, layout.TYPE_TAG))
COMPOSITE = frozenset((layout.STRUCT, layout.UNION))
_UNNAMED = MODIFIERS | {layout.PTR, layout.ARRAY, layout.FUNC_PROTO}
#: Longest chain of typedefs, qualifiers and arrays, and deepest nesting of structs by value (the kernel allows 32).
_MAX_DEPTH = 64


class Nesting(Records):
    """Records whose chains can be followed; arguments as ``Records`` has them."""

    def __init__(self, data: Buffer, what: str = "BTF", below: Nesting | None = None, index: Index | Scan | None = None) -> None:
        super().__init__(data, what, below, index)
        self._under = below
        self._depths: dict[int, int] = {}
        self._spelled: dict[int, int] = {}

    def _space(self, number: int) -> str:
        """The address space that type tags between a pointer and its target name."""
        for _ in range(_MAX_DEPTH):
            if number == 0 or self._kind(number) not in MODIFIERS:
                return ""
            if self._kind(number) == layout.TYPE_TAG:
                space = _SPACES.get(self.name(number), "")
                if space:
                    return space
            number = self._words(number)[2]
        raise self._wrong(number, "an endless chain of qualifiers")

    def _unqualified(self, number: int, typedefs: bool = False) -> int:
        """The id behind qualifiers (and typedefs)."""
        for _ in range(_MAX_DEPTH):
            kind = self._kind(number) if number else 0
            if kind not in MODIFIERS and not (typedefs and kind == layout.TYPEDEF):
                return number
            number = self._words(number)[2]
        raise self._wrong(number, "an endless chain of qualifiers")

    def _settled(self, number: int) -> int:
        """The id behind qualifiers, typedefs and arrays, all of which must end."""
        start = number
        for _ in range(_MAX_DEPTH):
            kind = self._kind(number) if number else 0
            if kind == layout.ARRAY:
                number = self._tail(number, 0, 3)[0]
            elif kind in MODIFIERS or kind == layout.TYPEDEF:
                number = self._words(number)[2]
            elif kind in (layout.FUNC, layout.VAR, layout.DATASEC, layout.DECL_TAG):
                raise self._wrong(start, f"refers to a {KINDS[kind]}")
            else:
                return number
        raise self._wrong(start, "an endless chain of typedefs or arrays")

    def _depth(self, number: int, spelling: bool = False) -> int:
        """How many types are nested in each other; a cycle, or more than ``_MAX_DEPTH``, raises FormatError.

        Nested are structs inside structs by value, or with ``spelling`` whatever has to be written out to name a type, because
        it has no name of its own: pointers, arrays, prototypes, anonymous structs.  C cannot express a cycle of either.
        """
        if number < self._first and self._under is not None:
            return self._under._depth(number, spelling)
        depths = self._spelled if spelling else self._depths
        edges = self._nameless if spelling else self._contained
        stack: list[tuple[int, list[int], list[int]]] = []

        def enter(node: int) -> None:
            inner = edges(node)
            depths[node] = 0  # being visited
            stack.append((node, inner, list(inner)))

        if number not in depths:
            enter(number)
        try:
            while stack:
                current, inner, rest = stack[-1]
                if rest:
                    following = rest.pop()
                    if following < self._first and self._under is not None:
                        depths[following] = self._under._depth(following, spelling)
                    elif following not in depths and len(stack) <= _MAX_DEPTH:
                        enter(following)
                    elif not depths.get(following):
                        raise self._wrong(number, "types nested too deeply or in a cycle")
                    continue
                depths[current] = max([depths[node] for node in inner], default=0) + 1
                if depths[current] > _MAX_DEPTH:
                    raise self._wrong(number, "types nested too deeply")
                stack.pop()
        except FormatError:
            for visited, _, _ in stack:  # so that asking again gives the same answer
                depths.pop(visited, None)
            raise
        return depths[number]

    def _nameless(self, number: int) -> list[int]:
        """Ids of the types that have to be written out to spell this one and have no name either."""
        if number == 0:
            return []
        name, info, last = self._words(number)
        kind = info >> 24 & 0x1F
        if kind == layout.PTR or kind in MODIFIERS:
            inner = [last]
        elif kind == layout.ARRAY:
            inner = [self._tail(number, 0, 3)[0]]
        elif kind == layout.FUNC_PROTO:
            inner = [last, *(item[1] for item in self.items(number))]
        elif kind in COMPOSITE and not name:
            inner = [item[1] for item in self.items(number)]
        else:
            return []
        return [node for node in inner if node and (self._kind(node) in _UNNAMED or not self._words(node)[0])]

    def _contained(self, number: int) -> list[int]:
        """Ids of the structs and unions that this one contains by value (also inside arrays)."""
        found = []
        for _, kind, _ in self.items(number):
            inner = self._settled(kind)
            if inner and self._kind(inner) in COMPOSITE:
                found.append(inner)
        return found
