"""What all readers of clang's tree need: places and problems, constants, conversions between types, declarations."""

from __future__ import annotations

from ...base.ctype import VOID, Array, CType, Enum, Func, Int, Ptr, Struct, Void
from ...base.diagnostics import Diagnostic, Span, error
from ...base.errors import HarkenError, SourceError
from . import libclang as lc
from . import tree
from .helpers import PROTOTYPES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...base.diagnostics import Source
    from .libclang import Cursor, Parsed
    from .reader_types import Types

__all__ = ("Reader", "DIALECT", "INT", "is_lvalue", "same", "unescape")

#: Functions that are neither the program's nor helpers of the kernel.
DIALECT = frozenset(
    "bpf_usdt_readarg bpf_usdt_readarg_p bpf_num_cpus bpf_log2 bpf_log2l load_byte load_half load_word load_dword bpf_dext_pkt "
    "bpf_dins_pkt".split()
)
_LVALUES = (tree.Deref, tree.Index, tree.StringLiteral, tree.CompoundLiteral)
#: ``int``
INT = Int("int", 4, True)
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


class Reader:
    """The base of the readers of a program.

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
            raise self.fail(problem.message, cursor, problem.hint) from None

    @staticmethod
    def loaded(node: tree.Expr) -> tree.Expr:
        if not is_lvalue(node):
            return node
        bare = node.type.strip()
        if isinstance(bare, Array):
            return tree.Cast(Ptr(bare.element), node.span, "decay", node)
        return tree.Cast(node.type, node.span, "load", node)

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
        kind = self.types.of(cursor).strip() if not name.startswith("__builtin") else Func(name, INT, (), True)
        if not isinstance(kind, Func):
            kind = Func(name, INT, (), True)
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

    def expression(self, cursor: Cursor) -> tree.Expr:
        """Any expression."""
        raise NotImplementedError
