"""Conditions to branches: comparisons, ``&&``, ``||``, ``!`` and ``?:``."""

from __future__ import annotations

from ...base.ctype import CType, Void
from ...compiler.ir import I1, I32, I64, PTR, Const, Value
from . import tree
from .lower_arithmetic import ArithmeticCode
from .lower_memory import Place, Result, Wide, is_aggregate, is_signed, is_wide

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ...compiler.ir import Block

__all__ = ("ConditionCode",)

_COMPARE = {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}


class ConditionCode(ArithmeticCode):
    """Code of expressions that choose."""

    def rvalue(self, node: tree.Expr) -> Result:
        """The value of an expression."""
        raise NotImplementedError

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
            b.short_circuit(node, self.branch, then, otherwise)
        elif isinstance(node, tree.Unary) and node.op == "!":
            self.branch(node.operand, otherwise, then)
        else:
            condition = self.condition(node)
            if then is otherwise:
                b.br(then)
            else:
                b.condbr(condition, then, otherwise)

    def logical(self, node: tree.Binary) -> Value:
        return self.b.decided(lambda then, otherwise: self.branch(node, then, otherwise))

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
