"""The typed tree of a C program, as the lowering reads it.  It is plain data: nothing in it refers to the parser that made it.

Every expression has the C type that the language rules give it, and every conversion, written or implied, is a ``Cast`` node, so
whoever reads the tree never applies the usual arithmetic conversions again.  What can be computed at compile time (sizeof, offsetof,
enumerators, character constants) is a ``Literal``.  Initialisers list offset, type and value of what they set; all other bytes are zero.

An expression is an *lvalue* (denotes memory) if it is a ``Name`` of a variable or parameter, a ``Deref``, ``Index``, ``Member`` (of an
lvalue, or through an arrow), ``StringLiteral`` or ``CompoundLiteral``; its value is fetched by ``Cast("load")``.  Struct values are
loaded by the same cast.

Conversions (``Cast.kind``):

==================  =================================================================================
``load``            lvalue to its value (``volatile`` accesses too)
``decay``           array to pointer to its first element
``function``        function designator to pointer
``integral``        integer (or enum) to integer: sign of the *source* type decides about the extension
``boolean``         anything scalar to ``_Bool`` (0 or 1)
``pointer``         pointer to pointer, the bits unchanged
``null``            a null pointer constant to a pointer
``int_to_pointer``  integer to pointer
``pointer_to_int``  pointer to integer
``void``            value thrown away
``same``            no change of bits (a struct value to its own type, a qualifier dropped)
==================  =================================================================================

Nodes are immutable records; what names stand for (variables, functions, tables) is in ``tree_names``.

Example:
    >>> from harken.base.ctype import Int
    >>> i = Variable("i", Int("int", 4, True))
    >>> Cast(i.type, None, "load", Name(i.type, None, i)).operand.declaration is i
    True
"""

from __future__ import annotations

from ...base.ctype import CType, Struct
from ...base.diagnostics import Span
from ...base.record import Record
from .tree_names import Declaration, Function, Parameter, Table, Variable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = (
    "Declaration", "Variable", "Parameter", "Function", "Table",
    "Node", "Expr", "Literal", "StringLiteral", "Name", "Member", "Index", "Deref", "AddressOf", "Unary", "Step", "Binary", "Comma",
    "Assign", "Conditional", "Call", "Method", "Cast", "InitEntry", "InitList", "CompoundLiteral", "StatementExpression",
    "Stmt", "Compound", "Declare", "ExpressionStatement", "If", "While", "Do", "For", "Switch", "Case", "Default", "Label", "Goto",
    "Break", "Continue", "Return", "AsmOperand", "Asm", "Empty", "TranslationUnit", "walk",
)  # fmt: skip


# -- expressions


class Node(Record):
    """Anything with a place in the text; places inside macros are those of the macro's use."""


class Expr(Node):
    """An expression; ``type`` is of its value, or of the object if it is an lvalue; without qualifiers."""

    type: CType
    span: Span | None


class Literal(Expr):
    """A constant integer (or enumerator, or null pointer); ``value`` is signed or unsigned as ``type`` is."""

    value: int


class StringLiteral(Expr):
    """lvalue: ``type`` is an array of char; ``data`` has the final NUL and fills the array."""

    data: bytes


class Name(Expr):
    """A variable or parameter (lvalue), or a function (designator)."""

    declaration: Declaration


class Member(Expr):
    """``base.field`` (``base`` is an lvalue or a struct value) or ``base->field`` (``base`` is a pointer value).

    ``struct`` is the struct or union that ``base`` is (or points to); anonymous members between it and the field are folded into
    ``bit_offset``, which counts from the start of ``struct``.  ``bit_size`` is 0 unless the field is a bitfield.
    """

    base: Expr
    arrow: bool
    field: str
    struct: Struct
    bit_offset: int
    bit_size: int = 0


class Index(Expr):
    """lvalue: ``base[index]``; ``base`` is a pointer value (an array has a "decay" cast), ``index`` an integer of any width."""

    base: Expr
    index: Expr


class Deref(Expr):
    """lvalue: ``*pointer``."""

    pointer: Expr


class AddressOf(Expr):
    """``&operand``: ``operand`` is an lvalue or a function designator."""

    operand: Expr


class Unary(Expr):
    """``-``, ``~``, ``!`` (the type of ``!x`` is int; ``x`` may be a pointer)."""

    op: str
    operand: Expr


class Step(Expr):
    """``++`` and ``--``: ``op`` is "+" or "-"; ``target`` is an lvalue (a pointer steps by elements)."""

    op: str
    prefix: bool
    target: Expr


class Binary(Expr):
    """``+ - * / % << >> & ^ | == != < <= > >= && ||``.

    Arithmetic operands have the same type, except shifts (each its own) and pointer arithmetic: pointer + integer (either order),
    pointer - integer, pointer - pointer (type ``ptrdiff_t``, counted in elements).  Comparisons and ``&& ||`` are ``int``.
    """

    op: str
    left: Expr
    right: Expr


class Comma(Expr):
    left: Expr
    right: Expr


class Assign(Expr):
    """``target = value`` (``op`` is ""), or ``target op= value``: then ``computation`` is the type in which the operation happens
    (the target is converted to it and the result back; a pointer type for pointer += integer).

    ``value`` has ``computation``'s type already, except shift counts and the integer of pointer arithmetic.
    """

    op: str
    target: Expr
    value: Expr
    computation: CType


class Conditional(Expr):
    """``condition ? then : otherwise``; ``then`` is None for ``condition ?: otherwise`` (then the condition's value is the result,
    converted to ``type`` if that differs)."""

    condition: Expr
    then: Expr | None
    otherwise: Expr


class Call(Expr):
    """A call of a function known by name."""

    function: Function
    args: tuple[Expr, ...]


class Method(Expr):
    """A call of a map's method: ``table.name(args)``."""

    table: Table
    name: str
    args: tuple[Expr, ...]


class Cast(Expr):
    """A conversion of ``operand`` to ``type``; ``kind`` as in the module's table; ``explicit``: the user wrote it."""

    kind: str
    operand: Expr
    explicit: bool = False


class InitEntry(Record):
    """One initialised part: ``bit_offset`` from the start of the whole object, ``bit_size`` 0 unless a bitfield.

    ``value`` is an rvalue of ``type``, or a ``StringLiteral`` for a char array (cut or zero-filled to ``type``)."""

    bit_offset: int
    bit_size: int
    type: CType
    value: Expr


class InitList(Expr):
    """The value of a struct, union or array: what ``entries`` do not set is zero.  Entries stand in order of evaluation; a later one
    that sets the same bytes wins."""

    entries: tuple[InitEntry, ...]


class CompoundLiteral(Expr):
    """lvalue: ``(type){...}``: an unnamed variable of the enclosing block, set to ``init`` here."""

    init: Expr


class StatementExpression(Expr):
    """``({ ...; value; })``: the last statement's value, if it is an expression statement; ``type`` is void otherwise."""

    body: Compound


# -- statements


class Stmt(Node):
    span: Span | None


class Compound(Stmt):
    body: tuple[Stmt, ...]


class Declare(Stmt):
    """Declarations of local variables, in order; each ``init`` is evaluated here (not that of static ones)."""

    variables: tuple[Variable, ...]


class ExpressionStatement(Stmt):
    expression: Expr


class If(Stmt):
    """``condition`` is scalar: true when not zero."""

    condition: Expr
    then: Stmt
    otherwise: Stmt | None = None


class While(Stmt):
    condition: Expr
    body: Stmt


class Do(Stmt):
    body: Stmt
    condition: Expr


class For(Stmt):
    """``unroll``: 0 nothing said, -1 ``#pragma unroll`` without a count."""

    init: Stmt | None
    condition: Expr | None
    step: Expr | None
    body: Stmt
    unroll: int = 0


class Switch(Stmt):
    value: Expr
    body: Stmt


class Case(Stmt):
    """``case low ... high:``; both are equal for a single value."""

    low: int
    high: int
    body: Stmt


class Default(Stmt):
    body: Stmt


class Label(Stmt):
    name: str
    body: Stmt


class Goto(Stmt):
    label: str


class Break(Stmt):
    pass


class Continue(Stmt):
    pass


class Return(Stmt):
    value: Expr | None = None


class AsmOperand(Record):
    """``[name] "constraint" (expression)``; outputs are lvalues."""

    name: str
    constraint: str
    expression: Expr


class Asm(Stmt):
    template: str
    outputs: tuple[AsmOperand, ...] = ()
    inputs: tuple[AsmOperand, ...] = ()
    clobbers: tuple[str, ...] = ()
    volatile: bool = False


class Empty(Stmt):
    pass


class TranslationUnit(Record):
    """A whole program.

    ``functions`` are those with a body, in order; ``globals`` file-scope and static variables; ``kernel_types`` names the structs,
    unions ("task_struct") and enums whose definition came from the kernel's type data, not from the program: field offsets of these
    depend on the kernel.  ``warnings`` are (span, text).  ``depends`` are the files that were read or looked for in vain, as dependencies
    of the cache (``session.cache``).
    """

    functions: tuple[Function, ...]
    globals: tuple[Variable, ...]
    tables: tuple[Table, ...]
    kernel_types: frozenset[str]
    license: str = "GPL"
    warnings: tuple[tuple[Span | None, str], ...] = ()
    depends: tuple[tuple[str, str, str], ...] = ()


def walk(node: object) -> Iterator[Node]:
    """The node and all nodes below it, parents first; declarations' initialisers are included, called functions' bodies are not."""
    todo: list[object] = [node.body if isinstance(node, Function) else node]
    while todo:
        item = todo.pop()
        if isinstance(item, tuple):
            todo += reversed(item)
        elif isinstance(item, Declare):
            yield item
            todo += [variable.init for variable in reversed(item.variables)]
        elif isinstance(item, (Node, InitEntry, AsmOperand)):
            if isinstance(item, Node):
                yield item
            todo += [getattr(item, field) for field in reversed(type(item)._fields)]
