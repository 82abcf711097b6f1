"""The tree that the parser makes.  Every node has the span of the text it came from; no node is changed after it was made.

Types of expressions are not kept in the nodes: one action block is typed once per group of probes, since ``args`` differ from
probe to probe.
"""

from __future__ import annotations

from ...base.diagnostics import Source, Span
from ...base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = (
    "Node", "Expr", "Stmt", "TypeName", "IntLit", "StrLit", "BoolLit", "Name", "Var", "Map", "Positional", "Unary", "Binary",
    "Ternary", "Cast", "Call", "Member", "Index", "Tuple", "RecordLit", "Sizeof", "Offsetof", "Typeof", "BlockExpr", "IfExpr",
    "Comptime", "ExprStmt", "Assign", "Let", "If", "While", "Unroll", "ForMap", "ForRange", "Jump", "Block", "AttachPoint",
    "Probe", "Setting", "MapDecl", "CMember", "CStruct", "CEnum", "Include", "Unsupported", "Program", "walk",
)  # fmt: skip


class Node(Record):
    span: Span


class Expr(Node):
    pass


class Stmt(Node):
    pass


class TypeName(Node):
    """A written type: ``name`` ("uint32", "string", "struct task_struct", "tuple"), ``stars``, array ``dims`` (None: unsized)."""

    name: str
    stars: int = 0
    dims: tuple[int | None, ...] = ()
    parts: tuple[TypeName, ...] = ()


class IntLit(Expr):
    value: int


class StrLit(Expr):
    value: str


class BoolLit(Expr):
    value: bool


class Name(Expr):
    """A bare word: a built-in, an enumerator."""

    name: str


class Var(Expr):
    name: str


class Map(Expr):
    """``@x`` (``keys`` is None) or ``@x[a, b]``."""

    name: str
    keys: tuple[Expr, ...] | None = None


class Positional(Expr):
    """``$1`` is 1; ``$#`` is 0."""

    number: int


class Unary(Expr):
    """``op``: - ! ~ * & ++ --; ``postfix`` for the last two."""

    op: str
    operand: Expr
    postfix: bool = False


class Binary(Expr):
    op: str
    left: Expr
    right: Expr


class Ternary(Expr):
    """``then`` is None for ``a ?: b``."""

    condition: Expr
    then: Expr | None
    otherwise: Expr


class Cast(Expr):
    to: TypeName
    operand: Expr


class Call(Expr):
    name: str
    args: tuple[Expr, ...]


class Member(Expr):
    """``a.b`` and ``a->b``; ``name`` is a number for ``tuple.0``."""

    operand: Expr
    name: str
    arrow: bool
    name_span: Span


class Index(Expr):
    operand: Expr
    index: Expr


class Tuple(Expr):
    items: tuple[Expr, ...]


class RecordLit(Expr):
    names: tuple[str, ...]
    items: tuple[Expr, ...]


class Sizeof(Expr):
    of: TypeName | Expr


class Offsetof(Expr):
    of: TypeName | Expr
    path: str


class Typeof(Expr):
    """``typeof(x)`` and ``typeinfo(x)``."""

    name: str
    of: TypeName | Expr


class BlockExpr(Expr):
    body: tuple[Stmt, ...]
    value: Expr | None


class IfExpr(Expr):
    condition: Expr
    then: Expr
    otherwise: Expr


class Comptime(Expr):
    operand: Expr


class ExprStmt(Stmt):
    value: Expr


class Assign(Stmt):
    """``op`` is "" for a plain assignment, else the operator of ``target op= value``; target ``_`` is a Name."""

    target: Expr
    op: str
    value: Expr


class Let(Stmt):
    name: str
    type: TypeName | None
    value: Expr | None


class If(Stmt):
    condition: Expr
    then: tuple[Stmt, ...]
    otherwise: tuple[Stmt, ...]


class While(Stmt):
    condition: Expr
    body: tuple[Stmt, ...]


class Unroll(Stmt):
    count: Expr
    body: tuple[Stmt, ...]


class ForMap(Stmt):
    name: str
    map: Expr
    body: tuple[Stmt, ...]


class ForRange(Stmt):
    name: str
    start: Expr
    stop: Expr
    body: tuple[Stmt, ...]


class Jump(Stmt):
    """``kind``: break, continue, return."""

    kind: str
    value: Expr | None = None


class Block(Stmt):
    body: tuple[Stmt, ...]


class AttachPoint(Node):
    """``kind`` and the ``words`` after it, positional parameters replaced."""

    kind: str
    words: tuple[str, ...]
    text: str


class Probe(Node):
    """One action block."""

    points: tuple[AttachPoint, ...]
    filter: Expr | None
    body: tuple[Stmt, ...]
    name: str = ""


class Setting(Node):
    """``key = value`` inside ``config = { ... }``."""

    key: str
    value: int | str | bool


class MapDecl(Node):
    """``let @m = hash(1024)``."""

    name: str
    type: str
    entries: int


class CMember(Node):
    """A member of a C struct: ``bits`` is 0 unless it is a bit field."""

    type: TypeName
    name: str
    dims: tuple[int, ...] = ()
    bits: int = 0


class CStruct(Node):
    """``struct`` or ``union`` (``kind``) as the program defines it."""

    kind: str
    name: str
    members: tuple[CMember, ...]
    packed: bool = False


class CEnum(Node):
    name: str
    values: tuple[tuple[str, int], ...]


class Include(Node):
    """``#include <header>``."""

    header: str


class Unsupported(Node):
    """A part of the language that is understood as far as its name and extent, and refused by that name."""

    what: str


class Program(Record):
    source: Source
    probes: tuple[Probe, ...]
    settings: tuple[Setting, ...] = ()
    maps: tuple[MapDecl, ...] = ()
    unsupported: tuple[Unsupported, ...] = ()
    includes: tuple[Include, ...] = ()
    types: tuple[CStruct | CEnum, ...] = ()


def walk(node: object) -> Iterator[Node]:
    """The node and all nodes under it, in the order of the text."""
    if isinstance(node, tuple):
        for item in node:
            yield from walk(item)
    elif isinstance(node, Node):
        yield node
        for field in type(node)._fields:
            value = getattr(node, field)
            if isinstance(value, (Node, tuple)):
                yield from walk(value)
