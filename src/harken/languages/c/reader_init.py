"""Initialisers: braces, designators and what they leave out, as (offset, type, value) of each part that is set.

The rules are C11's 6.7.9: parts are filled in order, a designator moves to the part it names, braces may be left out for parts inside
of parts, and what nothing sets is zero.
"""

from __future__ import annotations

from ...base.ctype import Array, CType, Int, Ptr, Struct
from . import libclang as lc
from . import tree
from .reader import ExpressionReader
from .reader_base import is_lvalue, same

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .libclang import Cursor

__all__ = ("InitReader", "pointee")

_MAX_ENTRIES = 20000


class InitReader(ExpressionReader):
    """Adds initialisers."""

    def init_list(self, cursor: Cursor) -> tree.Expr:
        return self.initialiser(cursor, self.kind(cursor))

    def compound_literal(self, cursor: Cursor) -> tree.Expr:
        kind = self.kind(cursor)
        return tree.CompoundLiteral(kind, self.span(cursor), self.initialiser(self.parsed.children(cursor)[-1], kind))

    def initialiser(self, cursor: Cursor, kind: CType) -> tree.Expr:
        """The value that ``cursor`` gives to an object of type ``kind``."""
        bare = kind.strip()
        entries: list[tree.InitEntry] = []
        if isinstance(bare, Array) and self._string(cursor) is not None:
            self._one(kind, cursor, 0, 0, entries)
            return tree.InitList(kind, self.span(cursor), tuple(entries))
        if cursor.kind != lc.INIT_LIST:
            return self._coerced(self.expression(cursor), kind)
        if not isinstance(bare, (Struct, Array)):
            parts = self.parsed.children(cursor)
            return self._coerced(self.expression(parts[0]), kind) if parts else self.literal(0, kind, self.span(cursor))
        self._aggregate(kind, self.parsed.children(cursor), 0, 0, entries, True)
        return tree.InitList(kind, self.span(cursor), tuple(entries))

    def _coerced(self, node: tree.Expr, kind: CType) -> tree.Expr:
        if is_lvalue(node) and not isinstance(kind.strip(), Array):
            node = self.loaded(node)
        if isinstance(node.type.strip(), (Struct, Array)) or isinstance(kind.strip(), (Struct, Array)) or same(node.type, kind):
            return node
        return self.cast_to(node, kind, node.span)

    def _string(self, cursor: Cursor) -> Cursor | None:
        """The string literal that this is, in parentheses or braces or bare."""
        while cursor.kind in (lc.PAREN, lc.INIT_LIST, lc.UNEXPOSED_EXPR):
            parts = self.parsed.children(cursor)
            if len(parts) != 1:
                return None
            cursor = parts[0]
        return cursor if cursor.kind == lc.STRING else None

    def _one(self, kind: CType, cursor: Cursor, offset: int, bits: int, entries: list[tree.InitEntry]) -> None:
        """One part set by one initialiser."""
        if len(entries) > _MAX_ENTRIES:
            raise self.fail("this initialiser is too long", cursor)
        bare = kind.strip()
        if isinstance(bare, Array) and isinstance(bare.element.strip(), Int) and bare.element.size == 1:
            text = self._string(cursor)
            if text is not None:
                literal = self.string(text)
                assert isinstance(literal, tree.StringLiteral)
                data = literal.data[: bare.size] + bytes(max(0, bare.size - len(literal.data)))
                entries.append(tree.InitEntry(offset, 0, kind, tree.StringLiteral(kind, literal.span, data)))
                return
        if cursor.kind == lc.INIT_LIST:
            parts = self.parsed.children(cursor)
            if isinstance(bare, (Struct, Array)):
                if entries:  # braces set the whole part: what an earlier designator set in it is zero again
                    entries[:] = [e for e in entries if not offset <= e.bit_offset < offset + 8 * bare.size]
                self._aggregate(kind, parts, 0, offset, entries, True)
                return
            if not parts:
                return
            cursor = parts[0]
        entries.append(tree.InitEntry(offset, bits, kind, self._coerced(self.expression(cursor), kind)))

    def _aggregate(self, kind: CType, items: list[Cursor], position: int, base: int, entries: list[tree.InitEntry], braced: bool) -> int:
        """Fills a struct, union or array from ``items``; returns the first item that was not used."""
        bare = kind.strip()
        places = self._places(bare)
        place = 0
        while position < len(items):
            item = items[position]
            if item.kind == lc.UNEXPOSED_EXPR and self._designated(item):
                if not braced:
                    return position
                place = self._designator(bare, item, base, entries) + 1
                position += 1
                if isinstance(bare, Struct) and bare.kind == "union":
                    place = len(places)
                continue
            part = self._part(bare, places, place)
            if part is None:
                return position if not braced else len(items)
            inner, offset, bits = part
            core = inner.strip()
            if isinstance(core, (Struct, Array)) and item.kind != lc.INIT_LIST and not self._whole(item, core):
                position = self._aggregate(inner, items, position, base + offset, entries, False)
            else:
                self._one(inner, item, base + offset, bits, entries)
                position += 1
            place += 1
            if isinstance(bare, Struct) and bare.kind == "union":
                place = len(places)
            if not braced and self._part(bare, places, place) is None:
                return position
        return position

    def _places(self, bare: CType) -> tuple[tuple[CType, int, int], ...]:
        if isinstance(bare, Struct):
            return tuple((member.type, member.bit_offset, member.bit_size) for member in bare.members)
        return ()

    @staticmethod
    def _part(bare: CType, places: tuple[tuple[CType, int, int], ...], place: int) -> tuple[CType, int, int] | None:
        if isinstance(bare, Array):
            if place >= bare.count:
                return None
            return bare.element, 8 * bare.element.size * place, 0
        return places[place] if place < len(places) else None

    def _whole(self, item: Cursor, core: CType) -> bool:
        """Whether an initialiser without braces is the value of the whole part: a struct of its type, a string for an array."""
        if isinstance(core, Array):
            return core.element.size == 1 and self._string(item) is not None
        found = self.kind(item).strip()
        return found is core or isinstance(found, Struct) and isinstance(core, Struct) and found.name == core.name != ""

    def _designated(self, item: Cursor) -> bool:
        return self.lib.clang_getCursorType(item).kind == lc.T_VOID and len(self.parsed.children(item)) > 1

    def _designator(self, bare: CType, item: Cursor, base: int, entries: list[tree.InitEntry]) -> int:
        """Sets what a designated initialiser names; returns the index of the part of ``bare`` that it lies in."""
        *path, value = self.parsed.children(item)
        kind: CType = bare
        offset, bits, top, repeat, step = base, 0, -1, 1, 0
        number = 0
        while number < len(path):
            part = path[number]
            number += 1
            core = kind.strip()
            if part.kind == lc.MEMBER_REF:
                field = self.parsed.referenced(part)
                bits = self.lib.clang_getFieldDeclBitWidth(field) if self.lib.clang_Cursor_isBitField(field) else 0
                own = max(0, self.lib.clang_Cursor_getOffsetOfField(field))
                if top < 0 and isinstance(core, Struct):
                    top = self._index(core, own, self.parsed.spelling(field))
                offset += own
                kind = self.types.of(field)
                continue
            if part.kind == lc.TYPE_REF:
                continue
            index = self.parsed.evaluate(part)
            if not isinstance(core, Array) or not isinstance(index, int):
                raise self.fail("this designator cannot be used in a BPF program", item)
            last = index
            if number < len(path) and path[number].kind != lc.MEMBER_REF and not isinstance(core.element.strip(), Array):
                last = int(self.parsed.evaluate(path[number]) or index)  # [first ... last]
                number += 1
                repeat, step = max(1, last - index + 1), 8 * core.element.size
            offset += 8 * core.element.size * index
            kind = core.element
            bits = 0
            if top < 0:
                top = last
        if repeat > _MAX_ENTRIES:
            raise self.fail("this initialiser is too long", item)
        for count in range(repeat):
            self._one(kind, value, offset + count * step, bits, entries)
        return top

    @staticmethod
    def _index(struct: Struct, offset: int, name: str) -> int:
        for number, member in enumerate(struct.members):
            if member.name == name if name.isidentifier() else member.bit_offset == offset and not member.name:
                return number
        return next((n for n, member in enumerate(struct.members) if member.bit_offset == offset), 0)


def pointee(node: tree.Expr) -> CType | None:
    """What a pointer argument really points to: conversions to ``void *`` are looked through."""
    while isinstance(node, tree.Cast) and node.kind in ("pointer", "same"):
        node = node.operand
    bare = node.type.strip()
    return bare.target if isinstance(bare, Ptr) else None
