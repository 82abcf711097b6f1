"""clang's tree to ours: expressions.

libclang shows a C program as clang's semantic analysis left it, with two gaps that are closed here: an implicit conversion is a node
without a name, whose kind follows from the types on both sides, and initialisers appear as they were written (``reader_init``).
"""

from __future__ import annotations

from ...base.ctype import VOID, Array, CType, Enum, Float, Func, Int, Ptr, Struct, Void
from ...base.diagnostics import Diagnostic, Span, error
from ...base.errors import HarkenError, SourceError
from . import libclang as lc
from . import tree
from .helpers import PROTOTYPES
from .macros import ALIASES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ...base.diagnostics import Source
    from .libclang import Cursor, Parsed
    from .reader_types import Types

__all__ = ("ExpressionReader", "DIALECT", "is_lvalue", "same")

#: Functions that are neither the program's nor helpers of the kernel.
DIALECT = frozenset(
    "bpf_usdt_readarg bpf_usdt_readarg_p bpf_num_cpus bpf_log2 bpf_log2l load_byte load_half load_word load_dword bpf_dext_pkt "
    "bpf_dins_pkt".split()
)
_FOLDED = ("__builtin_constant_p", "__builtin_types_compatible_p", "__builtin_offsetof", "__builtin_object_size")
_NOT_FOLDED = ("__builtin_mem", "__builtin_preserve", "__builtin_trap", "__builtin_unreachable", "__builtin_return", "__builtin_frame")
#: Deepest nesting of expressions: Python's own stack is the limit.
_DEEPEST = 200
_LVALUES = (tree.Deref, tree.Index, tree.StringLiteral, tree.CompoundLiteral)
_INT = Int("int", 4, True)
_ESCAPES = {"n": 10, "t": 9, "r": 13, "a": 7, "b": 8, "f": 12, "v": 11, "e": 27, "\\": 92, '"': 34, "'": 39, "?": 63}


def is_lvalue(node: tree.Expr) -> bool:
    """Whether an expression denotes memory."""
    if isinstance(node, tree.Name):
        return not isinstance(node.declaration, tree.Function)
    if isinstance(node, tree.Member):
        return node.arrow or is_lvalue(node.base)
    return isinstance(node, _LVALUES)


def unescape(text: str) -> bytes:
    """The bytes of a string literal as clang prints it: quotes, C escapes, octal for what cannot be printed.

    >>> unescape(r'"a\\n\\003\\""')
    b'a\\n\\x03"'
    """
    out = bytearray()
    start = text.find('"') + 1
    end = text.rfind('"')
    position = start
    while position < end:
        char = text[position]
        position += 1
        if char != "\\":
            out += char.encode("utf-8", "surrogateescape")
            continue
        char = text[position]
        position += 1
        if char in "01234567":
            digits = char
            while len(digits) < 3 and text[position] in "01234567":
                digits += text[position]
                position += 1
            out.append(int(digits, 8) & 255)
        elif char == "x":
            digits = ""
            while text[position] in "0123456789abcdefABCDEF":
                digits += text[position]
                position += 1
            out.append(int(digits or "0", 16) & 255)
        else:
            out.append(_ESCAPES.get(char, ord(char) & 255))
    return bytes(out)


class ExpressionReader:
    """Reads expressions; ``reader_statements`` and ``reader_init`` add the rest.

    Args:
        parsed: the program.
        source: its text, for spans.
        types: converts types.
    """

    def __init__(self, parsed: Parsed, source: Source, types: Types) -> None:
        self.parsed, self.source, self.types = parsed, source, types
        self.lib = lc.library()
        self.declarations: dict[int, tree.Declaration] = {}
        self.problems: list[Diagnostic] = []
        self.globals: list[tree.Variable] = []
        self.depth = 0
        #: the function whose body is being read, the functions that each one mentions, and the methods of maps that it calls
        self.current: tree.Function | None = None
        self.mentions: dict[tree.Function | None, list[tree.Function]] = {}
        self.methods: list[tuple[tree.Function | None, tree.Method]] = []
        self.chars: list[int] | None = None
        if not source.text.isascii():
            self.chars = []
            for number, char in enumerate(source.text):
                self.chars += [number] * len(char.encode("utf-8", "surrogatepass"))
            self.chars.append(len(source.text))
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

    # -- places and problems

    def offset(self, byte: int) -> int:
        """A byte offset of the text as a character offset."""
        if self.chars is None:
            return byte
        return self.chars[min(byte, len(self.chars) - 1)]

    def span(self, cursor: Cursor) -> Span | None:
        file, start, end = self.parsed.extent(cursor)
        if file != self.source.name:
            return None
        return Span(self.source, self.offset(start), self.offset(end))

    def fail(self, message: str, cursor: Cursor, hint: str = "") -> SourceError:
        return SourceError((error(message, self.span(cursor), hint),))

    def kind(self, cursor: Cursor) -> CType:
        try:
            return self.types.of(cursor)
        except SourceError:
            raise
        except HarkenError as problem:
            raise self.fail(problem.message, cursor) from None

    # -- expressions

    def expression(self, cursor: Cursor) -> tree.Expr:
        """Any expression."""
        reader = self.readers.get(cursor.kind)
        if reader is None:
            raise self.fail("this kind of expression cannot be used in a BPF program", cursor)
        self.depth += 1
        if self.depth > _DEEPEST:
            raise self.fail("this expression is nested too deep", cursor, "split it with variables")
        try:
            return reader(cursor)
        finally:
            self.depth -= 1

    def value(self, cursor: Cursor) -> tree.Expr:
        """An expression as a value: what denotes memory is loaded."""
        node = self.expression(cursor)
        return self.loaded(node)

    @staticmethod
    def loaded(node: tree.Expr) -> tree.Expr:
        if not is_lvalue(node):
            return node
        bare = node.type.strip()
        if isinstance(bare, Array):
            return tree.Cast(Ptr(bare.element), node.span, "decay", node)
        return tree.Cast(node.type, node.span, "load", node)

    def constant(self, cursor: Cursor) -> tree.Expr:
        """Whatever clang can compute to an integer."""
        value = self.parsed.evaluate(cursor)
        if value is None:
            raise self.fail("the value of this must be known when the program is compiled", cursor)
        return self.literal(int(value), self.kind(cursor), self.span(cursor))

    @staticmethod
    def literal(value: int, kind: CType, span: Span | None) -> tree.Literal:
        bare = kind.strip()
        bits = 8 * (bare.size or 8)
        value &= (1 << bits) - 1
        if isinstance(bare, (Int, Enum)) and bare.signed and value >> (bits - 1):
            value -= 1 << bits
        return tree.Literal(kind, span, value)

    def floating(self, cursor: Cursor) -> tree.Expr:
        raise self.fail("there is no floating point in BPF", cursor, "multiply by a power of ten or two and use integers")

    def string(self, cursor: Cursor) -> tree.Expr:
        kind = self.kind(cursor)
        data = unescape(self.parsed.spelling(cursor))
        size = kind.strip().size
        return tree.StringLiteral(kind, self.span(cursor), data[:size] + bytes(max(0, size - len(data))))

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

    def cast_to(self, node: tree.Expr, kind: CType, span: Span | None = None, explicit: bool = False) -> tree.Expr:
        """A conversion whose kind follows from both types."""
        source, target = node.type.strip(), kind.strip()
        if isinstance(target, Array) and isinstance(source, Ptr):  # libclang shows an array parameter as it was written
            kind, target = node.type, source
        if isinstance(target, Void):
            return tree.Cast(VOID, span, "void", node, explicit)
        if isinstance(source, Func):
            return tree.Cast(kind, span, "function", node, explicit)
        if is_lvalue(node):
            if isinstance(source, Array) and isinstance(target, Ptr):
                return tree.Cast(kind, span, "decay", node, explicit)
            loaded = tree.Cast(node.type if isinstance(source, Struct) else kind, span, "load", node, explicit)
            if same(source, target):
                return loaded
            node = self.loaded(node)
        if isinstance(target, Ptr):
            if isinstance(source, Ptr):
                return tree.Cast(kind, span, "pointer", node, explicit)
            if isinstance(node, tree.Literal) and node.value == 0:
                return tree.Cast(kind, span, "null", node, explicit)
            return tree.Cast(kind, span, "int_to_pointer", node, explicit)
        if isinstance(target, Int) and target.encoding == "bool":
            return tree.Cast(kind, span, "same" if same(source, target) else "boolean", node, explicit)
        if isinstance(source, Ptr):
            return tree.Cast(kind, span, "pointer_to_int", node, explicit)
        if isinstance(node, tree.Literal) and isinstance(target, (Int, Enum)):
            return self.literal(node.value, kind, span)
        if isinstance(source, (Struct, Array)) or same(source, target):
            return tree.Cast(kind, span, "same", node, explicit)
        return tree.Cast(kind, span, "integral", node, explicit)

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

    def declaration(self, cursor: Cursor) -> tree.Declaration | None:
        """The variable, parameter, table or function that a declaration cursor stands for."""
        if cursor.kind == lc.FUNCTION_DECL:
            return self.function(cursor)
        return self.declarations.get(self.lib.clang_getCanonicalCursor(cursor).data0 or 0)

    def function(self, cursor: Cursor) -> tree.Function:
        """The function of a declaration, the same object for all its declarations."""
        key = self.lib.clang_getCanonicalCursor(cursor).data0 or 0
        found = self.declarations.get(key)
        if isinstance(found, tree.Function):
            return found
        name = self.parsed.spelling(cursor)
        kind = self.types.of(cursor).strip() if not name.startswith("__builtin") else Func(name, _INT, (), True)
        if not isinstance(kind, Func):
            kind = Func(name, _INT, (), True)
        body = not lc.INVALID_FIRST <= self.lib.clang_getCursorDefinition(cursor).kind <= lc.INVALID_LAST
        if body:
            role = "user"
        elif name in DIALECT:
            role = "dialect"
        elif name.startswith("bpf_") and name[4:] in PROTOTYPES:
            role, name = "helper", name[4:]
        elif name.startswith(("__builtin_", "__sync_", "__atomic_", "__c11_")):
            role = "builtin"
            if name.startswith("__sync_") and name.rpartition("_")[2].isdigit():  # clang picks the one of the operand's size
                name = name.rpartition("_")[0]
        else:
            role = "undefined"
        made = tree.Function(name, Func(name, kind.returns, kind.params, kind.variadic), kind=role)
        self.declarations[key] = made
        return made

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

    def compound_assign(self, cursor: Cursor) -> tree.Expr:
        operator = lc.BINARY_OPERATORS[self.lib.clang_getCursorBinaryOperatorKind(cursor)][:-1]
        parts = self.parsed.children(cursor)
        target, value = self.expression(parts[0]), self.value(parts[-1])
        computation = target.type if isinstance(target.type.strip(), Ptr) else value.type
        if operator in ("<<", ">>"):
            computation = target.type if target.type.size >= 4 else _INT
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


def same(left: CType, right: CType) -> bool:
    """Whether a value of one type is one of the other without any change of its bits' meaning."""
    left, right = left.strip(), right.strip()
    if left is right:
        return True
    if isinstance(left, (Int, Enum)) and isinstance(right, (Int, Enum)):
        boolean = [getattr(kind, "encoding", "") == "bool" for kind in (left, right)]
        return left.size == right.size and left.signed == right.signed and boolean[0] == boolean[1]
    if isinstance(left, Ptr) and isinstance(right, Ptr):
        return True
    return isinstance(left, Struct) and isinstance(right, Struct) and left.name == right.name and left.size == right.size
