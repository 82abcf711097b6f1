"""Expressions: lvalues to places, rvalues to values.

Every conversion is a cast in the tree; ``lower_arithmetic`` has the operators themselves, ``lower_conditions`` comparisons and ``?:``.
"""

from __future__ import annotations

from ...base.ctype import Int, Void
from ...compiler.ir import I32, I64, Const, Value
from . import tree
from .lower_conditions import ConditionCode
from .lower_memory import Place, Result, Wide, ir_type, is_aggregate, is_pointer, is_signed, is_wide, pointee_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


__all__ = ("ExpressionCode",)

_TRUTHS = frozenset(("==", "!=", "<", "<=", ">", ">=", "&&", "||"))


class ExpressionCode(ConditionCode):
    """Code of expressions.

    The rules for calls are elsewhere: ``call_user`` and ``call_builtin`` here in the package, ``call_helper``, ``call_dialect`` and
    ``method`` (of maps) in ``lower_calls``.
    """

    # -- entry points
    def rvalue(self, node: tree.Expr) -> Result:
        """The value of an expression."""
        return self._visit("x_", node)  # type: ignore[no-any-return]

    def number(self, node: tree.Expr) -> Value:
        """The value of a scalar expression."""
        return self.value(self.rvalue(node))

    def lvalue(self, node: tree.Expr) -> Place:
        """Where the object is that an expression denotes; a struct value that is no object lies in a temporary."""
        rule = getattr(self, "l_" + type(node).__name__, None)
        if rule is None:
            result = self.rvalue(node)
            return result if isinstance(result, Place) else Place(self.spill(result, node.type), node.type)
        return self._visit("l_", node)  # type: ignore[no-any-return]

    def memory(self, node: tree.Expr) -> Value:
        """The address of memory that holds an expression's value: of the object itself, or of a copy."""
        return self.spill(self.rvalue(node), node.type)

    def constant(self, node: tree.Expr) -> int | None:
        """The number that an expression is at compile time, or None."""
        while isinstance(node, tree.Cast) and node.kind in ("integral", "same"):
            inner = self.constant(node.operand)
            kind = node.type.strip()
            if inner is None or not kind.size:
                return None
            bits = kind.size * 8
            inner &= (1 << bits) - 1
            return inner - (1 << bits) if is_signed(kind) and inner >> (bits - 1) else inner
        return node.value if isinstance(node, tree.Literal) else None

    def _visit(self, prefix: str, node: tree.Expr) -> Any:
        b = self.b
        before = b.span
        if node.span is not None:
            b.span = node.span
        rule = getattr(self, prefix + type(node).__name__, None)
        if rule is None:
            self.fail(f"this expression cannot be used here ({type(node).__name__.lower()})")
        result = rule(node)
        b.span = before
        return result

    # -- leaves
    def x_Literal(self, node: tree.Literal) -> Result:
        if is_pointer(node.type):
            return Const(node.value) if not node.value else self.b.to_pointer(Const(node.value), "")
        if is_wide(node.type):
            return Wide(Const(node.value), Const(node.value >> 64))
        return Const(node.value, self.scalar(node.type))

    def l_StringLiteral(self, node: tree.StringLiteral) -> Place:
        # programs read a little past the end of literals (memcpy of a member's size)
        return Place(self.b.bytes(node.data + bytes(-len(node.data) % 8)), node.type)

    def l_Name(self, node: tree.Name) -> Place:
        declaration = node.declaration
        place = self.places.get(declaration)
        if place is None:
            if not isinstance(declaration, tree.Variable):
                self.fail(f"{declaration.name} is no variable here")
            place = self.unit.variable(self, declaration)
            if declaration.storage == "local":
                self.places[declaration] = place
        return place

    def l_CompoundLiteral(self, node: tree.CompoundLiteral) -> Place:
        place = self.new_place(node.type, "literal")
        self.initialise(place, node.init)
        return place

    # -- parts
    def l_Member(self, node: tree.Member) -> Place:
        if node.arrow:
            whole = Place(self.pointer(self.number(node.base)), node.struct)
        else:
            whole = self.lvalue(node.base)
        return whole.part(node.type, node.bit_offset, node.bit_size)

    def l_Index(self, node: tree.Index) -> Place:
        base = self.pointer(self.number(node.base))
        size = pointee_size(node.base.type)
        number = self.constant(node.index)
        if number is not None and abs(number * size) < 1 << 28:
            return Place(base, node.type, number * size)
        return Place(self.b.gep(base, self.distance(self.number(node.index), node.index.type, size)), node.type)

    def l_Deref(self, node: tree.Deref) -> Place:
        return Place(self.pointer(self.number(node.pointer)), node.type)

    def x_AddressOf(self, node: tree.AddressOf) -> Result:
        operand = node.operand
        if isinstance(operand, tree.Name) and isinstance(operand.declaration, tree.Function):
            return self.function_value(operand.declaration)
        return self.address(self.lvalue(operand))

    def x_Member(self, node: tree.Member) -> Result:
        return self.load(self.l_Member(node))

    def x_Name(self, node: tree.Name) -> Result:
        if isinstance(node.declaration, tree.Function):
            return self.function_value(node.declaration)
        return self.load(self.l_Name(node))

    def x_Index(self, node: tree.Index) -> Result:
        return self.load(self.l_Index(node))

    def x_Deref(self, node: tree.Deref) -> Result:
        return self.load(self.l_Deref(node))

    def x_StringLiteral(self, node: tree.StringLiteral) -> Result:
        return self.l_StringLiteral(node)

    def x_CompoundLiteral(self, node: tree.CompoundLiteral) -> Result:
        return self.load(self.l_CompoundLiteral(node))

    def x_InitList(self, node: tree.InitList) -> Result:
        place = self.new_place(node.type, "value")
        self.initialise(place, node)
        return self.load(place)

    # -- conversions
    def x_Cast(self, node: tree.Cast) -> Result:
        kind, operand = node.kind, node.operand
        if kind == "load":
            return self.load(self.lvalue(operand))
        if kind == "decay":
            return self.address(self.lvalue(operand))
        if kind == "null":
            if not isinstance(operand, tree.Literal):
                self.rvalue(operand)
            return Const(0)
        if kind == "function":
            if isinstance(operand, tree.Name) and isinstance(operand.declaration, tree.Function):
                return self.function_value(operand.declaration)
            self.fail("a function can only be called by its name", hint="BPF has no calls through pointers")
        if kind == "boolean" and not is_wide(operand.type):
            return self.b.resize(self.condition(operand), ir_type(node.type), False)
        value = self.rvalue(operand)
        if kind == "void":
            return Const(0, I32)
        if kind in ("same", "pointer"):
            return value
        return self.convert(value, operand.type, node.type)

    # -- operators
    def x_Unary(self, node: tree.Unary) -> Result:
        b = self.b
        if node.op == "!":
            return b.resize(self.condition(node), I32, False)
        value = self.rvalue(node.operand)
        if isinstance(value, Wide):
            if node.op == "~":
                return Wide(b.unary("not", value.low), b.unary("not", value.high))
            return self.wide_binary("-", Wide(Const(0), Const(0)), value, False)
        value = self.value(value)
        if node.op == "+":
            return value
        op = "neg" if node.op == "-" else "not"
        self.scalar(node.type)
        return b.unary(op, value)

    def x_Step(self, node: tree.Step) -> Result:
        place = self.lvalue(node.target)
        old = self.load(place)
        one: Result = (
            Wide(Const(1), Const(0)) if isinstance(old, Wide) else Const(1, I64 if is_pointer(node.type) else self.scalar(node.type))
        )
        if is_pointer(node.type):
            new: Result = self.step_pointer(self.value(old), Const(1 if node.op == "+" else -1), Int("long", 8, True), node.type)
        elif isinstance(place.type.strip(), Int) and place.type.strip().encoding == "bool":  # type: ignore[attr-defined]
            new = (
                Const(1, self.scalar(node.type))
                if node.op == "+"
                else self.b.binary("xor", self.value(old), Const(1, self.scalar(node.type)))
            )
        else:
            new = self.arithmetic(node.op, old, one, node.type)
        self.store(place, new)
        if not node.prefix:
            return old
        return self.cut_bits(place, self.value(new)) if place.bits else new

    def x_Comma(self, node: tree.Comma) -> Result:
        self.rvalue(node.left)
        return self.rvalue(node.right)

    def x_Assign(self, node: tree.Assign) -> Result:
        if not node.op:
            if is_aggregate(node.type) and isinstance(node.value, tree.InitList):
                place = self.lvalue(node.target)
                self.initialise(place, node.value)
                return place
            value = self.rvalue(node.value)
            place = self.lvalue(node.target)
            self.store(place, value)
            if isinstance(value, Place):
                return place
            return self.cut_bits(place, self.value(value)) if place.bits else value
        place = self.lvalue(node.target)
        right = self.rvalue(node.value)
        old = self.load(place)
        if is_pointer(node.computation):
            number = self.value(right)
            if node.op == "-":
                number = self.b.unary("neg", self.b.resize(number, I64, is_signed(node.value.type)))
            step_type = Int("long", 8, True) if node.op == "-" else node.value.type
            result: Result = self.step_pointer(self.value(old), number, step_type, node.type)
        else:
            left = self.convert(old, node.target.type, node.computation)
            count = node.value.type if node.op in ("<<", ">>") else None
            result = self.convert(self.arithmetic(node.op, left, right, node.computation, count), node.computation, node.type)
        self.store(place, result)
        return self.cut_bits(place, self.value(result)) if place.bits else result

    def x_Binary(self, node: tree.Binary) -> Result:
        op, left, right = node.op, node.left, node.right
        if op in _TRUTHS:
            return self.b.resize(self.condition(node), self.scalar(node.type), False)
        if is_pointer(left.type) and op in "+-":
            if is_pointer(right.type):
                return self.pointer_difference(node)
            base = self.number(left)
            count = self.number(right)
            if op == "-":
                count = self.b.unary("neg", self.b.resize(count, I64, is_signed(right.type)))
                return self.step_pointer(base, count, Int("long", 8, True), left.type)
            return self.step_pointer(base, count, right.type, left.type)
        if is_pointer(right.type) and op == "+":
            count = self.number(left)
            return self.step_pointer(self.number(right), count, left.type, right.type)
        a = self.rvalue(left)
        return self.arithmetic(op, a, self.rvalue(right), node.type, right.type)

    def pointer_difference(self, node: tree.Binary) -> Value:
        b = self.b
        left, right = self.pointer(self.number(node.left)), self.pointer(self.number(node.right))
        bytes_between = b.sub(b.to_int(left), b.to_int(right))
        size = pointee_size(node.left.type)
        if size & (size - 1) == 0:
            return bytes_between if size == 1 else b.binary("ashr", bytes_between, Const(size.bit_length() - 1))
        return b.binary("sdiv", bytes_between, Const(size))

    def x_StatementExpression(self, node: tree.StatementExpression) -> Result:
        body = node.body.body
        last = body[-1] if body else None
        if isinstance(last, tree.ExpressionStatement) and not isinstance(node.type.strip(), Void):
            for statement in body[:-1]:
                self.statement(statement)
            return self.rvalue(last.expression)
        for statement in body:
            self.statement(statement)
        return Const(0, I32)

    # -- calls
    def x_Call(self, node: tree.Call) -> Result:
        kind = node.function.kind
        if kind == "helper":
            return self.call_helper(node)
        if kind == "builtin":
            return self.call_builtin(node)
        if kind == "dialect":
            return self.call_dialect(node)
        if kind == "user":
            return self.call_user(node)
        return self.fail(
            f"{node.function.name}() is declared but not defined", hint="a BPF program can only call its own functions and BPF helpers"
        )

    def x_Method(self, node: tree.Method) -> Result:
        return self.method(node)

    def function_value(self, declaration: tree.Function) -> Value:
        """A function's address, which only helpers that call back take."""
        return self.fail(f"the address of {declaration.name}() is taken", hint="BPF has no calls through pointers")

    # -- what the classes that build on this one supply
    def initialise(self, place: Place, init: tree.Expr) -> None:
        raise NotImplementedError

    def statement(self, node: tree.Stmt) -> None:
        raise NotImplementedError

    def call_user(self, node: tree.Call) -> Result:
        raise NotImplementedError

    def call_builtin(self, node: tree.Call) -> Result:
        raise NotImplementedError

    def call_helper(self, node: tree.Call) -> Result:
        raise NotImplementedError

    def call_dialect(self, node: tree.Call) -> Result:
        raise NotImplementedError

    def method(self, node: tree.Method) -> Result:
        raise NotImplementedError
