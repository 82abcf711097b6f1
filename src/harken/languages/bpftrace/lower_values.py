"""Expressions: names, operators, conditions."""

from __future__ import annotations

from ...compiler.builtins import types as T
from ...compiler.builtins import values
from ...compiler.builtins.code import Val
from ...compiler.builtins.comparison import strings_equal, words_equal
from ...compiler.builtins.events import emit
from ...compiler.ir import I1, I64, Block, Const, Value, int_type
from . import ast as A
from .lower_base import negate, position_of, positive
from .lower_members import MemberCode

__all__ = ("ValueCode",)

_COMPARISONS = {"==": "eq", "!=": "ne", "<": "lt", ">": "gt", "<=": "le", ">=": "ge"}
_ARITHMETIC = {"+": "add", "-": "sub", "*": "mul", "&": "and", "|": "or", "^": "xor", "<<": "shl"}


class ValueCode(MemberCode):
    """Expressions other than calls."""

    # -- expressions
    def expr(self, node: A.Expr) -> Val:
        constant = self.constants.get(id(node))
        if constant is not None and not isinstance(node, A.Unary) | isinstance(constant, str):
            kind = self.types.get(id(node), T.INT64)
            if isinstance(constant, int):
                return Val(kind, Const(constant))
        if isinstance(constant, str):
            text = constant.encode("utf-8", "surrogateescape")
            return Val(self.types[id(node)], literal=text[: self.types[id(node)].size - 1], padded=True)
        if isinstance(constant, int):
            return Val(self.types.get(id(node), T.INT64), Const(constant))
        span, self.code.b.span = self.code.b.span, node.span
        value: Val = getattr(self, "x_" + type(node).__name__)(node)
        self.code.b.span = span
        return value

    def truth(self, node: A.Expr) -> Value:
        """A condition as I1."""
        if isinstance(node, A.Binary) and node.op in ("&&", "||") and id(node) not in self.constants:
            return self.code.b.decided(lambda yes, no: self.branch(node, yes, no))
        value = self.expr(node)
        if value.type.kind == "string":
            return self.code.b.unary("not", strings_equal(self.code, value, Val(T.string(1), literal=b"")))
        return self.code.truth(value)

    def branch(self, node: A.Expr, yes: Block, no: Block) -> None:
        """A condition as jumps: && and || evaluate their right side only when it matters."""
        b = self.code.b
        if isinstance(node, A.Binary) and node.op in ("&&", "||"):
            b.short_circuit(node, self.branch, yes, no)
        elif isinstance(node, A.Unary) and node.op == "!":
            self.branch(node.operand, no, yes)
        else:
            condition = self.truth(node)
            if isinstance(condition, Const):
                b.br(yes if condition.value else no)
            else:
                b.condbr(condition, yes, no)

    def x_Var(self, node: A.Var) -> Val:
        variable = self.group.variables[id(node)]
        return self.read(variable)

    def x_Name(self, node: A.Name) -> Val:
        name = node.name[10:] if node.name.startswith("__builtin_") else node.name
        kind = self.types[id(node)]
        if name == "nsecs":
            return Val(kind, self.code.b.helper("ktime_get_boot_ns"))
        builtin = values.find(name)
        assert builtin is not None
        return builtin.lower(self.code, kind, [], (), self)

    def x_Unary(self, node: A.Unary) -> Val:
        b, code, op = self.code.b, self.code, node.op
        if op in ("++", "--"):
            return self.increment(node, True)
        value = self.expr(node.operand)
        kind = self.types[id(node)]
        if op == "!":
            condition = code.truth(value)
            if isinstance(condition, Const):
                return Val(kind, Const(1 - condition.value))
            return Val(kind, b.icmp("eq", b.resize(condition, I64, False), Const(0)) if condition.type == I1 else condition)
        if op == "-":
            return Val(kind, b.unary("neg", code.i64(value)))
        if op == "~":
            return Val(kind, b.unary("not", code.i64(value)))
        return self.load_from(value, kind, Const(0))

    def increment(self, node: A.Unary, wanted: bool) -> Val:
        """``++`` and ``--``; the old value for postfix, the new one for prefix."""
        b, code, target = self.code.b, self.code, node.operand
        step = 1 if node.op == "++" else -1
        if isinstance(target, A.Var):
            variable = self.group.variables[id(target)]
            kind = variable.type
            assert kind is not None
            old = self.read(variable)
            amount = step * (self.pointed(kind) if kind.kind == "ptr" else 1)
            new = Val(kind, b.add(code.i64(old), Const(amount)))
            self.assign(variable, new)
            return old if node.postfix else Val(kind, code.convert(new, kind) if kind.kind == "int" else code.i64(new))
        assert isinstance(target, A.Map)
        info = self.info(target)
        kind = info.value
        assert kind is not None
        if info.here:
            self.send(info, target.keys, Const(step), node)
            return Val(kind, Const(0))
        key = self.key(info, target.keys)
        result = code.slot("old", 0) if wanted else None

        def use(where: Value) -> None:
            if kind.size < 4:
                old = code.load(where, kind)
                code.store(Val(kind, b.add(code.i64(old), Const(step))), kind, where)
                before: Value = code.i64(old)
            elif result is None:
                b.atomic("add", where, Const(step, int_type(kind.size)))
                return
            else:
                before = b.resize(b.atomic("add", where, Const(step, int_type(kind.size)), 0, True), I64, kind.signed)
            if result is not None:
                b.store(result, before if node.postfix else b.add(before, Const(step)))

        self.with_slot(info, key, use)
        return Val(kind, b.load(result) if result is not None else Const(0))

    def x_Binary(self, node: A.Binary) -> Val:
        op, kind = node.op, self.types[id(node)]
        if op in ("&&", "||"):
            return Val(kind, self.truth(node))
        left = self.expr(node.left)
        if op in _COMPARISONS:
            return Val(kind, self.compare(op, left, self.expr(node.right), node))
        return self.arithmetic(op, left, self.expr(node.right), kind, node)

    def compare(self, op: str, left: Val, right: Val, node: A.Binary) -> Value:
        b, code = self.code.b, self.code
        if left.type.kind == "string":
            equal = strings_equal(code, left, right)
            return equal if op == "==" else negate(b, equal)
        if not T.is_scalar(left.type):
            a, z = code.spill(left, True), code.spill(right, True)
            assert a.ir is not None and z.ir is not None
            equal = words_equal(code, a.ir, z.ir, left.type.size)
            return equal if op == "==" else negate(b, equal)
        name = _COMPARISONS[op]
        if name in ("eq", "ne"):
            return b.icmp(name, code.i64(left), code.i64(right))
        unsigned = (not left.type.signed or positive(self.constants.get(id(node.left)))) and (
            not right.type.signed or positive(self.constants.get(id(node.right)))
        )
        return b.icmp(("u" if unsigned else "s") + name, code.i64(left), code.i64(right))

    def arithmetic(self, op: str, left: Val, right: Val, kind: T.Type, node: A.Node) -> Val:
        b, code = self.code.b, self.code
        a, z = code.i64(left), code.i64(right)
        if kind.kind == "ptr" and op in ("+", "-"):
            if left.type.kind == "ptr":
                z = self.scale(z, self.pointed(left.type))
            else:
                a = self.scale(a, self.pointed(right.type))
        if op in ("/", "%"):
            return Val(kind, self.divide(op, a, z, left, right, kind, node))
        if op == ">>":
            return Val(kind, b.binary("ashr" if left.type.signed and kind.signed else "lshr", a, b.binary("and", z, Const(63))))
        if op == "<<":
            z = b.binary("and", z, Const(63)) if not isinstance(z, Const) else Const(z.value & 63)
        return Val(kind, b.binary(_ARITHMETIC[op], a, z))

    def divide(self, op: str, a: Value, z: Value, left: Val, right: Val, kind: T.Type, node: A.Node) -> Value:
        """Division; by zero it gives 1 and says so."""
        b = self.code.b
        signed = kind.signed
        name = ("s" if signed else "u") + ("div" if op == "/" else "mod")
        if isinstance(z, Const) and z.value:
            return b.binary(name, a, z)

        def warn() -> Value:
            emit(self.code, "error", ("div_zero", position_of(node)), [], position_of(node))
            return Const(1)

        return self.code.choose(b.icmp("ne", z, Const(0)), lambda: b.binary(name, a, z), warn)

    def x_Ternary(self, node: A.Ternary) -> Val:
        kind = self.types[id(node)]
        code = self.code
        if node.then is None:
            first = self.expr(node.condition)
            chosen = code.choose(
                code.truth(first), lambda: code.convert(first, kind), lambda: code.convert(self.expr(node.otherwise), kind)
            )
            return Val(kind, chosen)
        return self.either(node.condition, node.then, node.otherwise, kind)

    def either(self, condition: A.Expr, then: A.Expr, otherwise: A.Expr, kind: T.Type) -> Val:
        code, b = self.code, self.code.b
        if kind.kind == "none":
            code.when(self.truth(condition), lambda: self.effect(then), lambda: self.effect(otherwise))
            return Val(kind)
        if T.is_scalar(kind):
            chosen = code.choose(
                self.truth(condition), lambda: code.convert(self.expr(then), kind), lambda: code.convert(self.expr(otherwise), kind)
            )
            return Val(kind, chosen)
        slot = b.alloca((kind.size + 7) // 8 * 8, "chosen")
        code.when(
            self.truth(condition),
            lambda: self.store_as(then, kind, slot, 0, kind.size <= 64),
            lambda: self.store_as(otherwise, kind, slot, 0, kind.size <= 64),
        )
        return Val(kind, slot)

    def x_IfExpr(self, node: A.IfExpr) -> Val:
        return self.either(node.condition, node.then, node.otherwise, self.types[id(node)])

    def x_BlockExpr(self, node: A.BlockExpr) -> Val:
        self.block(node.body)
        return self.expr(node.value) if node.value is not None else Val(T.NONE)
