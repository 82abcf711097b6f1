"""Literals, names and operators."""

from __future__ import annotations

from ...compiler.builtins import functions, values
from ...compiler.builtins import types as T
from . import ast as A
from .check_members import Members
from .forms import AGGREGATIONS, FORMS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("Values",)

_COMPARE = frozenset(("==", "!=", "<", ">", "<=", ">="))


class Values(Members):
    """Expressions other than calls."""

    #: the expression that stands as a statement: its value is not wanted
    statement: A.Expr | None = None

    def x_IntLit(self, node: A.IntLit) -> T.Type:
        return self.fold(node, node.value)

    def x_BoolLit(self, node: A.BoolLit) -> T.Type:
        self.constants[id(node)] = int(node.value)
        return T.BOOL

    def x_StrLit(self, node: A.StrLit) -> T.Type:
        self.constants[id(node)] = node.value
        size = len(node.value.encode("utf-8", "surrogateescape")) + 1
        if size > self.max_strlen:
            self.error(f"String is too long ({size} bytes): {self.max_strlen} bytes max", node.span, "raise max_strlen in config")
        return T.string(min(size, self.max_strlen))

    def x_Positional(self, node: A.Positional) -> T.Type | None:
        params = self.options.params
        if not node.number:
            return self.fold(node, len(params))
        if node.number > len(params):
            self.warn(
                f"positional parameter ${node.number} was not given: it is 0", node.span, "give it after the program: harken -e '...' VALUE"
            )
            return self.fold(node, 0)
        try:
            return self.fold(node, int(params[node.number - 1], 0))
        except ValueError:
            text = params[node.number - 1]
            self.error(f'${node.number} used numerically but given "{text}"', node.span, f"use str(${node.number}) for text")
            return None

    def x_Comptime(self, node: A.Comptime) -> T.Type | None:
        kind = self.expr(node.operand)
        constant = self.constants.get(id(node.operand))
        if constant is None:
            self.error("the expression is not known at compile time", node.operand.span)
            return None
        self.constants[id(node)] = constant
        return kind

    def x_Name(self, node: A.Name) -> T.Type | None:
        name = node.name[10:] if node.name.startswith("__builtin_") else node.name
        if name == "nsecs":
            return T.UINT64
        if name == "args":
            if not self.view.args:
                self.no_args(node)
                return None
            self.error("args can not be used as a whole yet", node.span, "use args.NAME")
            return None
        builtin = values.find(name)
        if builtin is not None:
            if builtin.name in ("cpid", "has_cpid"):
                return self.child(node, builtin.name)
            return builtin.check(self, (), node.span)
        if name in functions.FUNCTIONS or name in FORMS or name in AGGREGATIONS:
            self.error(f"{name} is a function: call it", node.span, f"{name}(...)")
            return None
        constant = self.enumerator(name)
        if constant is not None:
            kind, number = constant
            self.constants[id(node)] = number
            return kind
        near = values.near(name)
        self.error(
            f"Unknown identifier: '{name}'",
            node.span,
            f"did you mean {near[0]}?" if near else 'variables are written $name, maps @name, text in "quotes"',
        )
        return None

    def child(self, node: A.Expr, name: str) -> T.Type:
        """The command's process id, and whether there is a command."""
        known = self.options.cpid >= 0
        if name == "has_cpid":
            self.constants[id(node)] = int(known)
            return T.BOOL
        if not known:
            self.error("cpid cannot be used without child command", node.span, "give one with -c")
        self.constants[id(node)] = max(self.options.cpid, 0)
        return T.UINT32

    def enumerator(self, name: str) -> tuple[T.Type, int] | None:
        """An enumerator of the program or the kernel, by name."""
        own = self.own_constants.get(name)
        if own is not None:
            return T.from_ctype(own), own.values[name]
        btf = self.catalogue.btf
        found = btf.enumerator(name) if btf is not None else None
        if found is None:
            return None
        enum, number = found
        return T.from_ctype(enum), number

    def x_Var(self, node: A.Var) -> T.Type | None:
        variable = self.find_variable(node.name)
        if variable is None:
            self.undefined(node)
            return None
        self.touch(node, variable)
        if variable.type is None and not self.problems.quiet and not variable.assigned:
            self.error(f"The type of {node.name} is not known: nothing is assigned to it", node.span, f"let {node.name}: uint64;")
        return variable.type

    # -- operators
    def x_Unary(self, node: A.Unary) -> T.Type | None:
        op, operand = node.op, node.operand
        if op in ("++", "--"):
            if isinstance(operand, A.Map) and node is not self.statement and operand.name in self.maps:
                self.look(self.maps[operand.name], node.span)
            return self.modify(operand, T.INT64, node.span)
        if op == "&":
            return self.address_of(node)
        kind = self.expr(operand)
        if kind is None:
            return None
        constant = self.constants.get(id(operand))
        if op == "*":
            if kind.kind == "ptr":
                return self.dereference(kind, node.span)
            if T.is_integer(kind):
                # an address without a type: eight bytes
                return T.UINT64
            self.error(f"Can not dereference a value of type '{kind}'", node.span, "cast it to a pointer first: *(uint32 *)$x")
            return None
        if op == "!":
            if kind.kind not in ("int", "bool", "ptr", "enum"):
                self.error(f"The ! operator can not be used on a value of type '{kind}'", node.span)
                return None
            if isinstance(constant, int):
                self.constants[id(node)] = int(not constant)
            return T.BOOL
        if not T.is_integer(kind):
            self.error(f"The {op} operator can not be used on a value of type '{kind}'", node.span)
            return None
        if isinstance(constant, int):
            return self.fold(node, -constant if op == "-" else ~constant)
        return T.INT64 if op == "-" or kind.signed else T.UINT64

    def address_of(self, node: A.Unary) -> T.Type | None:
        self.expr(node.operand)
        self.error("The & operator is not yet available", node.span, "pass the value itself")
        return None

    def x_Binary(self, node: A.Binary) -> T.Type | None:
        left, right, op = self.expr(node.left), self.expr(node.right), node.op
        if left is None or right is None:
            return T.BOOL if op in _COMPARE or op in ("&&", "||") else None
        a, z = self.constants.get(id(node.left)), self.constants.get(id(node.right))
        if op in ("&&", "||"):
            for kind, side in ((left, node.left), (right, node.right)):
                if kind.kind not in ("int", "bool", "ptr", "enum", "string"):
                    self.error(f"The {op} operator can not be used on a value of type '{kind}'", side.span)
            return T.BOOL
        if op in _COMPARE:
            return self.comparison(node, left, right, a, z)
        if left.kind == "ptr" or right.kind == "ptr":
            return self.pointer_arithmetic(node, left, right)
        if not T.is_integer(left) or not T.is_integer(right):
            wrong, side = (left, node.left) if not T.is_integer(left) else (right, node.right)
            self.error(
                f"The {op} operator can not be used on expressions of types '{left}' and '{right}'", node.span if wrong else side.span
            )
            return None
        if op in ("/", "%") and z == 0:
            self.error("Division by zero", node.right.span)
            return None
        if isinstance(a, int) and isinstance(z, int):
            folded = _fold(op, a, z)
            if folded is not None:
                return self.fold(node, folded)
        if op == "-":
            return T.INT64
        if op in ("<<", ">>"):
            return T.INT64 if left.signed and not _positive(a) else T.UINT64
        return T.UINT64 if self.unsigned(left, right, a, z) else T.INT64

    @staticmethod
    def unsigned(left: T.Type, right: T.Type, a: object, z: object) -> bool:
        """Arithmetic is unsigned if both sides are; a literal that is not negative takes the other side's sign."""
        first, second = not left.signed, not right.signed
        if _positive(a):
            return second
        if _positive(z):
            return first
        return first and second

    def comparison(self, node: A.Binary, left: T.Type, right: T.Type, a: object, z: object) -> T.Type | None:
        op = node.op
        if left.kind == right.kind == "string":
            if op not in ("==", "!="):
                self.error(f"The {op} operator can not be used on strings", node.span, "strings can be compared with == and !=")
            for text, other, side in ((a, right, node.left), (z, left, node.right)):
                if (
                    isinstance(text, str)
                    and len(text.encode("utf-8", "surrogateescape")) >= other.size
                    and not isinstance(self.constants.get(id(node.left if side is node.right else node.right)), str)
                ):
                    self.warn(
                        f"The literal is longer than the variable string (size={other.size}). "
                        f"Condition will always be {'false' if op == '==' else 'true'}.",
                        side.span,
                    )
            return T.BOOL
        scalar = ("int", "bool", "enum", "ptr", "ksym")
        if left.kind in scalar and right.kind in scalar:
            if isinstance(a, int) and isinstance(z, int):
                self.constants[id(node)] = int(_COMPARISONS[op](a, z))
            return T.BOOL
        if op in ("==", "!=") and left.kind == right.kind and left.kind in ("array", "tuple", "buf", "mac", "inet", "record"):
            wider = T.join(left, right)
            if wider is not None and left.size == right.size:
                return T.BOOL
        self.error(
            f"Type mismatch for '{op}': comparing '{left}' with '{right}'", node.span, "text is compared with text, numbers with numbers"
        )
        return None

    def pointer_arithmetic(self, node: A.Binary, left: T.Type, right: T.Type) -> T.Type | None:
        op = node.op
        if op == "+" and {left.kind, right.kind} <= {"ptr", "int", "enum", "bool"} and left.kind != right.kind:
            return left if left.kind == "ptr" else right
        if op == "-" and left.kind == "ptr" and T.is_integer(right):
            return left
        if op == "-" and left.kind == right.kind == "ptr":
            return T.INT64
        if op in ("&", "|", "^", ">>", "<<", "%", "/", "*") and {left.kind, right.kind} <= {"ptr", "int", "enum", "bool"}:
            return T.UINT64
        self.error(f"The {op} operator can not be used on expressions of types '{left}' and '{right}'", node.span)
        return None

    def x_Ternary(self, node: A.Ternary) -> T.Type | None:
        return self.ternary(node)

    def ternary(self, node: A.Ternary, statement: bool = False) -> T.Type | None:
        self.condition(node.condition)
        then = self.expr(node.then, statement) if node.then is not None else self.types.get(id(node.condition))
        otherwise = self.expr(node.otherwise, statement)
        if then is None or otherwise is None:
            return then or otherwise
        if statement:
            return T.NONE
        if not self.kept(then, node.span) or not self.kept(otherwise, node.span):
            return None
        joined = T.join(then, otherwise)
        if joined is None:
            self.error(f"Ternary operator must return the same type: have '{then}' and '{otherwise}'", node.span)
        return joined

    def x_IfExpr(self, node: A.IfExpr) -> T.Type | None:
        self.condition(node.condition)
        then, otherwise = self.expr(node.then), self.expr(node.otherwise)
        if then is None or otherwise is None:
            return then or otherwise
        if not self.kept(then, node.span) or not self.kept(otherwise, node.span):
            return None
        joined = T.join(then, otherwise)
        if joined is None:
            self.error(f"the branches of if have different types: '{then}' and '{otherwise}'", node.span)
        return joined

    def x_BlockExpr(self, node: A.BlockExpr) -> T.Type | None:
        self.scopes.append((id(node), {}))
        self.block(node.body)
        kind = self.expr(node.value) if node.value is not None else T.NONE
        self.scopes.pop()
        return kind


def _positive(value: object) -> bool:
    return isinstance(value, int) and value >= 0


_COMPARISONS: dict[str, Any] = {
    "==": lambda a, z: a == z,
    "!=": lambda a, z: a != z,
    "<": lambda a, z: a < z,
    ">": lambda a, z: a > z,
    "<=": lambda a, z: a <= z,
    ">=": lambda a, z: a >= z,
}


def _fold(op: str, a: int, z: int) -> int | None:
    """Constant arithmetic, as the program would do it; None where it would not fit."""
    if op == "+":
        return a + z
    if op == "-":
        return a - z
    if op == "*":
        return a * z
    if op in ("/", "%"):
        quotient = abs(a) // abs(z)
        quotient = -quotient if (a < 0) != (z < 0) else quotient
        return quotient if op == "/" else a - quotient * z
    if op == "&":
        return a & z
    if op == "|":
        return a | z
    if op == "^":
        return a ^ z
    if op in ("<<", ">>") and 0 <= z < 64:
        return a << z if op == "<<" else a >> z
    return None
