"""clang's tree to ours: expressions.

libclang shows a C program as clang's semantic analysis left it, with two gaps that are closed here: an implicit conversion is a node
without a name, whose kind follows from the types on both sides, and initialisers appear as they were written (``reader_init``).
"""

from __future__ import annotations

from ...base.ctype import VOID, Array, CType, Enum, Float, Func, Int, Ptr, Struct
from . import libclang as lc
from . import tree
from .depth import DEEPEST
from .macros import ALIASES
from .reader_base import INT, Reader, same

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ...base.diagnostics import Source
    from .libclang import Cursor, Parsed
    from .reader_types import Types

__all__ = ("ExpressionReader",)

_FOLDED = ("__builtin_constant_p", "__builtin_types_compatible_p", "__builtin_offsetof", "__builtin_object_size")
_NOT_FOLDED = ("__builtin_mem", "__builtin_preserve", "__builtin_trap", "__builtin_unreachable", "__builtin_return", "__builtin_frame")
#: comparisons, and what they are with their sides exchanged
_MIRRORED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "==": "==", "!=": "!="}


class ExpressionReader(Reader):
    """Reads expressions; ``reader_statements`` and ``reader_init`` add the rest."""

    def __init__(self, parsed: Parsed, source: Source, types: Types) -> None:
        super().__init__(parsed, source, types)
        self.readers: dict[int, Callable[[Cursor], tree.Expr]] = {
            lc.UNEXPOSED_EXPR: self.implicit,
            lc.DECL_REF: self.name,
            lc.MEMBER_EXPR: self.member,
            lc.CALL: self.call,
            lc.INTEGER: self.constant,
            lc.CHARACTER: self.constant,
            lc.SIZEOF: self.constant,
            lc.FLOATING: self.floating,
            lc.STRING: self.string,
            lc.PAREN: self.paren,
            lc.UNARY: self.unary,
            lc.SUBSCRIPT: self.subscript,
            lc.BINARY: self.binary,
            lc.COMPOUND_ASSIGN: self.compound_assign,
            lc.CONDITIONAL: self.conditional,
            lc.CAST: self.cast,
            lc.COMPOUND_LITERAL: self.compound_literal,
            lc.INIT_LIST: self.init_list,
            lc.STATEMENT_EXPR: self.statement_expression,
            lc.GENERIC: self.generic,
        }

    # -- expressions

    def expression(self, cursor: Cursor) -> tree.Expr:
        """Any expression."""
        reader = self.readers.get(cursor.kind)
        if reader is None:
            raise self.fail("this kind of expression cannot be used in a BPF program", cursor)
        self.depth += 1
        if self.depth > DEEPEST:
            raise self.fail("this expression is nested too deep", cursor, "split it with variables")
        try:
            return reader(cursor)
        finally:
            self.depth -= 1

    def value(self, cursor: Cursor) -> tree.Expr:
        """An expression as a value: what denotes memory is loaded."""
        node = self.expression(cursor)
        return self.loaded(node)

    def constant(self, cursor: Cursor) -> tree.Expr:
        """Whatever clang can compute to an integer."""
        value = self.parsed.evaluate(cursor)
        if value is None:
            raise self.fail("the value of this must be known when the program is compiled", cursor)
        return self.literal(int(value), self.kind(cursor), self.span(cursor))

    def paren(self, cursor: Cursor) -> tree.Expr:
        return self.expression(self.parsed.children(cursor)[-1])

    def implicit(self, cursor: Cursor) -> tree.Expr:
        """A node without a name: an implicit conversion, and the rarer expressions that libclang does not name."""
        parts = self.parsed.children(cursor)
        kind = self.kind(cursor)
        if not parts or any(part.kind in (lc.TYPE_REF, lc.MEMBER_REF) for part in parts):
            value = self.parsed.evaluate(cursor)
            if value is not None:
                return self.literal(int(value), kind, self.span(cursor))
            if not parts:  # what an initialiser leaves out
                bare = kind.strip()
                return tree.InitList(kind, None, ()) if isinstance(bare, (Struct, Array)) else self.literal(0, kind, None)
            raise self.fail("the value of this must be known when the program is compiled", cursor)
        if len(parts) == 1:
            return self.converted(parts[0], kind, cursor)
        return self._unnamed(cursor, parts, kind)

    def _unnamed(self, cursor: Cursor, parts: list[Cursor], kind: CType) -> tree.Expr:
        file, start, end = self.parsed.extent(cursor)
        words = self.source.text[self.offset(start) : self.offset(end)] if file == self.source.name else ""
        if "__atomic_" in words[:40] or "__c11_atomic_" in words[:40]:
            name = words[: words.find("(")].strip()
            arguments = [self.value(part) for part in (parts[0], *parts[2:])]  # without the memory order
            function = tree.Function(name, Func(name, kind, ()), kind="builtin")
            return tree.Call(kind, self.span(cursor), function, tuple(arguments))
        if len(parts) == 4 and len({self.parsed.extent(part) for part in parts[:3]}) == 1:  # a ?: b
            return tree.Conditional(kind, self.span(cursor), self.value(parts[0]), None, self.value(parts[3]))
        if len(parts) == 3 and parts[0].kind == lc.INTEGER or "__builtin_choose_expr" in words[:24]:
            return self.expression(parts[1] if self.parsed.evaluate(parts[0]) else parts[2])
        raise self.fail("this kind of expression cannot be used in a BPF program", cursor)

    def converted(self, part: Cursor, kind: CType, cursor: Cursor, explicit: bool = False) -> tree.Expr:
        """``part`` converted to ``kind``."""
        inner = self.types.of(part).strip()
        if isinstance(inner, Float) or isinstance(kind.strip(), Float):
            value = self.parsed.evaluate(cursor)
            if value is None or isinstance(kind.strip(), Float):
                self.floating(cursor)
            return self.literal(int(value or 0), kind, self.span(cursor))
        node = self.expression(part)
        span = self.span(cursor) if explicit else node.span
        return self.cast_to(node, kind, span, explicit)

    def cast(self, cursor: Cursor) -> tree.Expr:
        return self.converted(self.parsed.children(cursor)[-1], self.kind(cursor), cursor, True)

    def name(self, cursor: Cursor) -> tree.Expr:
        target = self.parsed.referenced(cursor)
        if target.kind == lc.ENUM_CONSTANT:
            return self.literal(self.lib.clang_getEnumConstantDeclValue(target), self.kind(cursor), self.span(cursor))
        declaration = self.declaration(target)
        if declaration is None:
            raise self.fail(f"{self.parsed.spelling(cursor)} cannot be used here", cursor)
        if isinstance(declaration, tree.Function):
            self.mentions.setdefault(self.current, []).append(declaration)
        return tree.Name(declaration.type, self.span(cursor), declaration)

    def member(self, cursor: Cursor) -> tree.Expr:
        lib, parsed = self.lib, self.parsed
        field = parsed.referenced(cursor)
        name = parsed.spelling(field)
        offset = lib.clang_Cursor_getOffsetOfField(field)
        bits = lib.clang_getFieldDeclBitWidth(field) if lib.clang_Cursor_isBitField(field) else 0
        parts = parsed.children(cursor)
        while parts and parts[0].kind == lc.MEMBER_EXPR:
            outer = parsed.referenced(parts[0])
            if parsed.spelling(outer).isidentifier():
                break
            offset += lib.clang_Cursor_getOffsetOfField(outer)
            parts = parsed.children(parts[0])
        if not parts:
            raise self.fail("this kind of expression cannot be used in a BPF program", cursor)
        base = self.expression(parts[0])
        bare = base.type.strip()
        arrow = isinstance(bare, Ptr)
        struct = bare.target.strip() if isinstance(bare, Ptr) else bare
        if not isinstance(struct, Struct):
            raise self.fail(f"{name} is a member of an unknown struct", cursor)
        if arrow:
            base = self.loaded(base)
        found = struct.member(name)
        if found is not None:
            # clang does not show the anonymous members on the way to it
            offset = found.bit_offset
            if struct in self.types.packets:
                return self._packet_field(cursor, base, offset, bits)
        path = ALIASES.get(struct.name, {}).get(name, name)
        if path != name and struct.member(path.split(".")[0]) is None:
            path = name
        return tree.Member(self.kind(cursor), self.span(cursor), base, arrow, path, struct, offset, bits)

    def _packet_field(self, cursor: Cursor, base: tree.Expr, offset: int, bits: int) -> tree.Expr:
        """A field of a packet: the program's first parameter is the packet, ``base`` a distance from its start."""
        kind, span = self.kind(cursor), self.span(cursor)
        if self.current is None or not self.current.params:
            raise self.fail("a packet's fields can only be read in a function whose first parameter is the packet", cursor)
        packet = self.current.params[0]
        wide = Int("unsigned long long", 8, False)
        start: tree.Expr = tree.Cast(wide, span, "pointer_to_int", base)
        if offset >= 8:
            start = tree.Binary(wide, span, "+", start, self.literal(offset >> 3, wide, span))
        place = (tree.Cast(packet.type, span, "load", tree.Name(packet.type, span, packet)), start)
        width = bits or 8 * kind.strip().size
        function = tree.Function("bpf_dext_pkt", Func("bpf_dext_pkt", wide, ()), kind="dialect")
        numbers = (self.literal(offset & 7, wide, span), self.literal(width, wide, span))
        return tree.Call(kind, span, function, (*place, *numbers))

    def call(self, cursor: Cursor) -> tree.Expr:
        parts = self.parsed.children(cursor)
        if not parts:
            raise self.fail("this call cannot be used in a BPF program", cursor)
        callee = parts[0]
        while callee.kind in (lc.UNEXPOSED_EXPR, lc.PAREN):
            inner = self.parsed.children(callee)
            if len(inner) != 1:
                break
            callee = inner[0]
        if callee.kind == lc.MEMBER_EXPR:
            base = self.parsed.children(callee)
            if base and base[0].kind in (lc.DECL_REF, lc.PAREN):
                node = self.expression(base[0])
                if isinstance(node, tree.Name) and isinstance(node.declaration, tree.Table):
                    arguments = tuple(self.value(part) for part in parts[1:])
                    name = self.parsed.spelling(callee)
                    method = tree.Method(self.kind(cursor), self.span(cursor), node.declaration, name, arguments)
                    self.methods.append((self.current, method))
                    return method
        if callee.kind != lc.DECL_REF or self.parsed.referenced(callee).kind != lc.FUNCTION_DECL:
            raise self.fail("functions cannot be called through pointers in a BPF program", cursor)
        function = self.function(self.parsed.referenced(callee))
        self.mentions.setdefault(self.current, []).append(function)
        if function.kind == "builtin":
            if function.name == "__builtin_expect":
                return self.expression(parts[1])
            if not function.name.startswith(_NOT_FOLDED) and not function.name.startswith(("__sync", "__atomic")):
                value = self.parsed.evaluate(cursor)
                if value is not None or function.name in _FOLDED:
                    return self.literal(int(value or 0), self.kind(cursor), self.span(cursor))
        arguments = tuple(self.value(part) for part in parts[1:])
        return tree.Call(self.kind(cursor), self.span(cursor), function, arguments)

    def unary(self, cursor: Cursor) -> tree.Expr:
        operator = lc.UNARY_OPERATORS[self.lib.clang_getCursorUnaryOperatorKind(cursor)]
        kind, span = self.kind(cursor), self.span(cursor)
        node = self.expression(self.parsed.children(cursor)[-1])
        if operator == "&":
            return tree.AddressOf(kind, span, node)
        if operator == "*":
            if isinstance(kind.strip(), Func):
                return node
            return tree.Deref(kind, span, self.loaded(node))
        if operator in ("x++", "x--", "++x", "--x"):
            return tree.Step(kind, span, "+" if "+" in operator else "-", not operator.startswith("x"), node)
        if operator in ("+", "__extension__"):
            return node
        if operator not in ("-", "~", "!"):
            raise self.fail("complex numbers cannot be used in a BPF program", cursor)
        node = self.loaded(node)
        if isinstance(node, tree.Literal) and operator in "-~":
            return self.literal(-node.value if operator == "-" else ~node.value, kind, span)
        return tree.Unary(kind, span, operator, node)

    def subscript(self, cursor: Cursor) -> tree.Expr:
        first, second = (self.value(part) for part in self.parsed.children(cursor)[-2:])
        if not isinstance(first.type.strip(), Ptr):
            first, second = second, first
        return tree.Index(self.kind(cursor), self.span(cursor), first, second)

    def binary(self, cursor: Cursor) -> tree.Expr:
        operator = lc.BINARY_OPERATORS[self.lib.clang_getCursorBinaryOperatorKind(cursor)]
        kind, span = self.kind(cursor), self.span(cursor)
        parts = self.parsed.children(cursor)
        if operator in _MIRRORED:
            compared = self._compared_with_float(operator, parts[0], parts[-1], cursor)
            if compared is not None:
                return compared
        left = self.expression(parts[0])
        right = self.expression(parts[-1])
        if operator == ",":
            return tree.Comma(kind, span, left, right)
        right = self.loaded(right)
        if operator == "=" and isinstance(left, tree.Call) and left.function.name == "bpf_dext_pkt":
            function = tree.Function("bpf_dins_pkt", Func("bpf_dins_pkt", VOID, ()), kind="dialect")
            return tree.Call(VOID, span, function, (*left.args, right))
        if operator == "=":
            return tree.Assign(kind, span, "", left, right, kind)
        return tree.Binary(kind, span, operator, self.loaded(left), right)

    def _compared_with_float(self, operator: str, left: Cursor, right: Cursor, cursor: Cursor) -> tree.Expr | None:
        """An integer compared with a floating constant, as scripts write it that paste a threshold of Python into C: ``delta >= 1e6``.

        As long as the constant is exact to one, the same is asked in integers (clang's optimiser does so too); None: it is not such a case.
        """
        inner = self._widened(left)
        if inner is None:
            left, right, operator = right, left, _MIRRORED[operator]
            inner = self._widened(left)
        if inner is None or not isinstance(self.types.of(right).strip(), Float):
            return None
        constant = self.parsed.evaluate(right)
        if constant is None or not abs(constant) < 1 << 53:
            return None
        number = int(constant // 1)
        exact = number == constant
        if operator in ("<", ">=") and not exact:
            number += 1
        kind, span = self.kind(cursor), self.span(cursor)
        value = self.value(inner)
        wide = Int("long long" if value.type.strip().signed else "unsigned long long", 8, value.type.strip().signed)  # type: ignore[attr-defined]
        if operator in ("==", "!=") and not exact or number < 0 and not wide.signed:
            known = operator in ("!=", ">", ">=")
            return tree.Comma(kind, span, value, self.literal(int(known), kind, span))
        return tree.Binary(kind, span, operator, self.cast_to(value, wide), self.literal(number, wide, span))

    def _widened(self, cursor: Cursor) -> Cursor | None:
        """The integer that is implicitly converted to a floating point number here."""
        while cursor.kind in (lc.PAREN, lc.UNEXPOSED_EXPR):
            parts = self.parsed.children(cursor)
            if len(parts) != 1:
                return None
            if isinstance(self.types.of(cursor).strip(), Float) and isinstance(self.types.of(parts[0]).strip(), (Int, Enum)):
                return parts[0]
            cursor = parts[0]
        return None

    def compound_assign(self, cursor: Cursor) -> tree.Expr:
        operator = lc.BINARY_OPERATORS[self.lib.clang_getCursorBinaryOperatorKind(cursor)][:-1]
        parts = self.parsed.children(cursor)
        target, value = self.expression(parts[0]), self.value(parts[-1])
        computation = target.type if isinstance(target.type.strip(), Ptr) else value.type
        if operator in ("<<", ">>"):
            computation = target.type if target.type.size >= 4 else INT
        return tree.Assign(self.kind(cursor), self.span(cursor), operator, target, value, computation)

    def conditional(self, cursor: Cursor) -> tree.Expr:
        condition, then, otherwise = self.parsed.children(cursor)[-3:]
        kind = self.kind(cursor)
        return tree.Conditional(kind, self.span(cursor), self.value(condition), self.value(then), self.value(otherwise))

    def generic(self, cursor: Cursor) -> tree.Expr:
        """``_Generic``: libclang does not tell which choice was taken; the only one of the result's type was."""
        value = self.parsed.evaluate(cursor)
        kind = self.kind(cursor)
        if value is not None:
            return self.literal(int(value), kind, self.span(cursor))
        choices = [part for part in self.parsed.children(cursor)[1:] if part.kind in self.readers and same(self.kind(part), kind)]
        if len(choices) != 1:
            raise self.fail("this _Generic has several choices of one type", cursor, "write the choice out")
        return self.expression(choices[0])

    # -- what other modules add

    def compound_literal(self, cursor: Cursor) -> tree.Expr:
        raise NotImplementedError

    def init_list(self, cursor: Cursor) -> tree.Expr:
        raise NotImplementedError

    def statement_expression(self, cursor: Cursor) -> tree.Expr:
        raise NotImplementedError
