"""Expressions: lvalues to places, rvalues to values, conditions to branches.

Arithmetic happens in the width that C's conversions gave the operands (the tree has them as casts), so nothing here promotes.  Where C
says "undefined", the machine decides: shift counts are taken modulo the width, ``x / 0`` is 0 and ``x % 0`` is ``x``.
"""

from __future__ import annotations

from ...base.ctype import CType, Int, Void
from ...compiler.ir import I1, I32, I64, PTR, Const, Value
from . import tree
from .lower_memory import MemoryCode, Place, Result, Wide, ir_type, is_aggregate, is_pointer, is_signed, is_wide, pointee_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ...compiler.ir import Block

__all__ = ("ExpressionCode",)

_COMPARE = {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}
_ARITHMETIC = {"+": "add", "-": "sub", "*": "mul", "&": "and", "|": "or", "^": "xor", "<<": "shl"}
_BY_SIGN = {"/": ("udiv", "sdiv"), "%": ("umod", "smod"), ">>": ("lshr", "ashr")}


class ExpressionCode(MemoryCode):
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

    def distance(self, index: Value, type: CType, size: int) -> Value:
        """An index as a distance in bytes."""
        wide = self.b.resize(index, I64, is_signed(type))
        return wide if size == 1 else self.b.binary("mul", wide, Const(size))

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

    def step_pointer(self, pointer: Value, count: Value, type: CType, pointer_type: CType) -> Value:
        """``pointer + count``."""
        return self.b.gep(self.pointer(pointer), self.distance(count, type, pointee_size(pointer_type)))

    def x_Binary(self, node: tree.Binary) -> Result:
        op, left, right = node.op, node.left, node.right
        if op in _COMPARE or op in ("&&", "||"):
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

    def arithmetic(self, op: str, a: Result, c: Result, type: CType, count: CType | None = None) -> Result:
        """``a op c`` in a C type; ``count`` is the type of the right side where that may differ (shifts)."""
        b = self.b
        if is_wide(type):
            left = a if isinstance(a, Wide) else self.convert(a, type, type)
            assert isinstance(left, Wide)
            return self.wide_binary(op, left, c, is_signed(type))
        machine = self.scalar(type)
        left_, right = self.value(a), self.value(c)
        if op in ("<<", ">>") and right.type.bits != machine.bits:
            right = b.resize(right, machine, count is not None and is_signed(count))
        name = _ARITHMETIC.get(op) or _BY_SIGN[op][is_signed(type)]
        return b.binary(name, left_, right)

    def wide_binary(self, op: str, a: Wide, c: Result, signed: bool) -> Wide:
        """128-bit operations on pairs; multiplication and division are refused."""
        b = self.b
        if op in ("<<", ">>"):
            return self.wide_shift(op, a, c, signed)
        other = c if isinstance(c, Wide) else Wide(b.resize(self.value(c), I64, signed), Const(0))
        if op in ("&", "|", "^"):
            name = _ARITHMETIC[op]
            return Wide(b.binary(name, a.low, other.low), b.binary(name, a.high, other.high))
        if op == "+":
            low = b.add(a.low, other.low)
            carry = b.resize(b.icmp("ult", low, a.low), I64, False)
            return Wide(low, b.add(b.add(a.high, other.high), carry))
        if op == "-":
            borrow = b.resize(b.icmp("ult", a.low, other.low), I64, False)
            return Wide(b.sub(a.low, other.low), b.sub(b.sub(a.high, other.high), borrow))
        return self.fail(
            f"'{op}' of 128-bit integers is not supported", hint="only + - & | ^ ~ << >> and comparisons are; use 64-bit integers"
        )

    def wide_shift(self, op: str, a: Wide, c: Result, signed: bool) -> Wide:
        count = c.low if isinstance(c, Wide) else self.value(c)
        if not isinstance(count, Const):
            self.fail("a 128-bit integer can only be shifted by a constant")
        n, b = count.value & 127, self.b
        fill: Value = b.binary("ashr", a.high, Const(63)) if signed else Const(0)
        if not n:
            return a
        if op == "<<":
            if n >= 64:
                return Wide(Const(0), b.binary("shl", a.low, Const(n - 64)) if n > 64 else a.low)
            return Wide(
                b.binary("shl", a.low, Const(n)), b.binary("or", b.binary("shl", a.high, Const(n)), b.binary("lshr", a.low, Const(64 - n)))
            )
        right = "ashr" if signed else "lshr"
        if n >= 64:
            return Wide(b.binary(right, a.high, Const(n - 64)) if n > 64 else a.high, fill)
        low = b.binary("or", b.binary("lshr", a.low, Const(n)), b.binary("shl", a.high, Const(64 - n)))
        return Wide(low, b.binary(right, a.high, Const(n)))

    # -- conditions
    def condition(self, node: tree.Expr) -> Value:
        """I1: whether an expression is not zero."""
        if isinstance(node, tree.Unary) and node.op == "!":
            inner = self.condition(node.operand)
            return Const(1 - inner.value, I1) if isinstance(inner, Const) else self.b.unary("not", inner)
        if isinstance(node, tree.Binary):
            if node.op in _COMPARE:
                return self.comparison(node)
            if node.op in ("&&", "||"):
                return self.logical(node)
        if isinstance(node, tree.Cast) and node.kind == "integral" and node.type.strip().size >= node.operand.type.strip().size:
            return self.condition(node.operand)
        if isinstance(node, tree.Cast) and node.kind in ("boolean", "same"):
            return self.condition(node.operand)
        return self.truth(self.rvalue(node))

    def branch(self, node: tree.Expr, then: Block, otherwise: Block) -> None:
        """Goes to ``then`` if an expression is not zero, else to ``otherwise``."""
        b = self.b
        if isinstance(node, tree.Binary) and node.op in ("&&", "||"):
            more = b.block("and" if node.op == "&&" else "or")
            if node.op == "&&":
                self.branch(node.left, more, otherwise)
            else:
                self.branch(node.left, then, more)
            b.goto(more)
            self.branch(node.right, then, otherwise)
        elif isinstance(node, tree.Unary) and node.op == "!":
            self.branch(node.operand, otherwise, then)
        else:
            condition = self.condition(node)
            if then is otherwise:
                b.br(then)
            else:
                b.condbr(condition, then, otherwise)

    def logical(self, node: tree.Binary) -> Value:
        b = self.b
        yes, no, done = b.block("true"), b.block("false"), b.block("join")
        self.branch(node, yes, no)
        b.goto(yes)
        b.br(done)
        b.goto(no)
        b.br(done)
        b.goto(done)
        return b.phi(I1, ((yes, Const(1, I1)), (no, Const(0, I1))))

    def comparison(self, node: tree.Binary) -> Value:
        b = self.b
        predicate = _COMPARE[node.op]
        left, right = self.rvalue(node.left), self.rvalue(node.right)
        kind = node.left.type
        if isinstance(left, Wide) or isinstance(right, Wide):
            return self.wide_comparison(predicate, left, right, is_signed(kind))
        a, c = self.value(left), self.value(right)
        if a.type.pointer or c.type.pointer:
            if predicate in ("eq", "ne"):
                if not a.type.pointer:
                    a, c = c, a
                if not c.type.pointer and not isinstance(c, Const):
                    a = b.to_int(a)
                return b.icmp(predicate, a, c)
            a, c = b.to_int(a), b.to_int(c)
        if predicate not in ("eq", "ne"):
            predicate = ("s" if is_signed(kind) else "u") + predicate
        return b.icmp(predicate, a, c)

    def wide_comparison(self, predicate: str, left: Result, right: Result, signed: bool) -> Value:
        b = self.b
        if not isinstance(left, Wide) or not isinstance(right, Wide):
            self.fail("128-bit integers are compared with something else")
        if predicate in ("eq", "ne"):
            difference = b.binary("or", b.binary("xor", left.low, right.low), b.binary("xor", left.high, right.high))
            return b.icmp(predicate, difference, Const(0))
        same = b.icmp("eq", left.high, right.high)
        return b.select(
            same, b.icmp("u" + predicate, left.low, right.low), b.icmp(("s" if signed else "u") + predicate, left.high, right.high)
        )

    def x_Conditional(self, node: tree.Conditional) -> Result:
        b = self.b
        if node.then is None:
            value = self.rvalue(node.condition)
            test = self.truth(value)

            def first() -> Result:
                return self.convert(value, node.condition.type, node.type)

            then: Callable[[], Result] = first
        else:
            chosen = node.then

            def second() -> Result:
                return self.rvalue(chosen)

            then = second
        yes, no = b.block("then"), b.block("else")
        if node.then is None:
            b.condbr(test, yes, no)
        else:
            self.branch(node.condition, yes, no)
        return self.join(node.type, ((yes, then), (no, lambda: self.rvalue(node.otherwise))))

    def join(self, type: CType, branches: tuple[tuple[Block, Callable[[], Result]], ...]) -> Result:
        """The value of whichever branch ran; each starts in its block."""
        b = self.b
        done = b.block("join")
        values: list[tuple[Block, Result]] = []
        for block, make in branches:
            b.goto(block)
            value = make()
            if isinstance(value, Place):
                value = self.address(value)
            values.append((b.at, value))
            b.br(done)
        b.goto(done)
        if isinstance(type.strip(), Void):
            return Const(0, I32)
        if is_wide(type):
            return Wide(
                b.phi(I64, [(at, v.low) for at, v in values if isinstance(v, Wide)]),
                b.phi(I64, [(at, v.high) for at, v in values if isinstance(v, Wide)]),
            )
        if is_aggregate(type):
            return Place(b.phi(PTR, [(at, self.value(v)) for at, v in values], space=""), type)
        return b.phi(self.scalar(type), [(at, self.value(v)) for at, v in values])

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
