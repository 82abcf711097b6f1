"""Where a name stands: scopes, variables, and what built-ins may ask."""

from __future__ import annotations

from ...base.ctype import CType, Enum
from ...base.diagnostics import Span, nearest
from ...compiler.builtins import functions
from ...compiler.builtins import types as T
from . import ast as A
from .forms import FORMS
from .model import Group, MapInfo, Options, Problems, Variable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("Scope",)


class Scope:
    """Base of the checker.  As the ``Scope`` of built-ins it answers what they ask about the place where they stand."""

    def __init__(self, groups: list[Group], catalogue: Any, options: Options, problems: Problems, declared: tuple[A.MapDecl, ...]) -> None:
        self.groups, self.catalogue, self.options, self.problems = groups, catalogue, options, problems
        self.maps: dict[str, MapInfo] = {}
        self.needs: set[str] = set()
        self.changed = False
        self.registers: tuple[str, ...] = ()
        #: the program's own C types by spelling ("struct x"), and the enumerators among them
        self.own_types: dict[str, CType] = {}
        self.own_constants: dict[str, Enum] = {}
        # of the group that is being checked
        self.group: Group
        self.types: dict[int, T.Type] = {}
        self.constants: dict[int, int | str] = {}
        self.scopes: list[tuple[int, dict[str, Variable]]] = []
        self.function = self.loops = 0
        for one in declared:
            info = self.maps[one.name] = MapInfo(one.name, one.span)
            info.decl = one

    # -- the Scope of built-ins
    @property
    def view(self) -> Any:
        return self.group.view

    @property
    def kind(self) -> str:
        return self.group.kind

    @property
    def context(self) -> str:
        return self.group.context

    @property
    def max_strlen(self) -> int:
        return self.options.max_strlen

    @property
    def stack_mode(self) -> str:
        return self.options.stack_mode

    @property
    def user_stack_bytes(self) -> int:
        return self.options.user_stack_bytes

    @property
    def probed(self) -> tuple[str, int]:
        return self.group.probed

    @property
    def unsafe(self) -> bool:
        return self.options.unsafe

    def texts(self, what: str) -> tuple[str, ...]:
        return self.group.texts(what, self.catalogue)

    def error(self, message: str, span: Span, hint: str = "") -> None:
        self.problems.error(message, span, hint)

    def warn(self, message: str, span: Span, hint: str = "") -> None:
        self.problems.warn(message, span, hint)

    def use(self, what: str) -> None:
        self.needs.add(what)

    def find_variable(self, name: str) -> Variable | None:
        for _, names in reversed(self.scopes):
            if name in names:
                return names[name]
        return None

    def declare(self, name: str, span: Span) -> Variable:
        scope, names = self.scopes[-1]
        key = (scope, name)
        found = self.group.declared.get(key)
        if found is None:
            found = self.group.declared[key] = Variable(name, span)
        names[name] = found
        return found

    def touch(self, node: A.Node, variable: Variable) -> None:
        self.group.variables[id(node)] = variable
        variable.functions.add(self.function)

    def kept(self, kind: T.Type, span: Span) -> bool:
        """Whether a value can be kept in a variable, a map or a tuple; reports one that cannot."""
        if T.is_copied(kind):
            stack = f"ustack({kind.detail[0]})"
            self.error(
                f"{stack} has no frames before it is unwound: it can only be printed or be the key of an aggregation",
                span,
                f'for example: @[{stack}] = count(); or printf("%s", {stack});',
            )
            return False
        return True

    def widen(self, variable: Variable, kind: T.Type, span: Span) -> None:
        if not self.kept(kind, span):
            return
        if variable.type is None:
            variable.type = self.stored(kind)
            self.changed = True
            return
        if variable.declared:
            self.fits(variable.name, "variable", variable.type, kind, span, variable.span)
            return
        wider = T.join(variable.type, kind)
        if wider is None or not self.compatible(variable.type, kind):
            self.mismatch(variable.name, "variable", variable.type, kind, span, variable.span)
        elif not T.same(wider, variable.type):
            variable.type = wider
            self.changed = True

    @staticmethod
    def stored(kind: T.Type) -> T.Type:
        """The type of a place that is given this value."""
        return kind.replace(detail=None) if kind.kind == "buf" else kind

    @staticmethod
    def compatible(a: T.Type, b: T.Type) -> bool:
        """Numbers may not turn into pointers and the like by assignment alone, except a literal 0 or an address."""
        return {a.kind, b.kind} != {"bool", "string"}

    def mismatch(self, name: str, what: str, have: T.Type, got: T.Type, span: Span, first: Span) -> None:
        self.problems.error(
            f"Type mismatch for {name}: trying to assign value of type '{got}' when {what} already has a type '{have}'",
            span,
            f"use another {what} for values of another type",
            ((first, "first used here"),),
        )

    def fits(self, name: str, what: str, have: T.Type, got: T.Type, span: Span, first: Span) -> None:
        """A value for a place whose type was written down."""
        wider = T.join(have, got)
        if wider is not None and T.same(wider, have):
            return
        if T.is_integer(have) and got.kind in ("int", "bool", "enum"):
            constant = self.literal
            if isinstance(constant, int):
                low = -(1 << (have.size * 8 - 1)) if have.signed else 0
                high = (1 << (have.size * 8 - have.signed)) - 1
                if low <= constant <= high:
                    return
            elif got.size <= have.size or self.wide:
                return
        if have.kind == got.kind == "ptr":
            return
        self.mismatch(name, what, have, got, span, first)

    #: the literal that is being assigned, and whether the value is a 64-bit result of arithmetic
    literal: int | str | None = None

    wide = False

    def number(self, node: A.Expr, what: str) -> T.Type | None:
        kind = self.expr(node)
        if kind is not None and not T.is_integer(kind) and kind.kind not in ("ptr", "ksym"):
            self.error(f"{what} needs an integer ('{kind}' provided)", node.span)
            return None
        return kind

    def fold(self, node: A.Expr, value: int) -> T.Type:
        if value >= 1 << 63 or value < -(1 << 63):
            value &= (1 << 64) - 1
        self.constants[id(node)] = value
        return T.literal_type(value)

    def constant(self, node: A.Expr, message: str) -> int | None:
        self.expr(node)
        value = self.constants.get(id(node))
        if not isinstance(value, int):
            self.error(message, node.span)
            return None
        return value

    def undefined(self, node: A.Var) -> None:
        names = [name for _, scope in self.scopes for name in scope]
        near = nearest(node.name, names)
        other = next((v for (_, name), v in self.group.declared.items() if name == node.name), None)
        hint = f"did you mean {near[0]}?" if near else "assign to it first, in the same block or one around it"
        if other is not None:
            hint = f"declare it before the block that assigns to it: let {node.name};"
        self.error(f"Undefined or undeclared variable: {node.name}", node.span, hint)

    def arity(self, call: A.Call, least: int, most: int) -> bool:
        count = len(call.args)
        if least <= count and (most < 0 or count <= most):
            return True
        wanted = f"{least}" if least == most else f"at least {least}" if most < 0 else f"{least} to {most}"
        plural = "s" if wanted != "1" else ""
        self.error(f"{call.name}() requires {wanted} argument{plural} ({count} provided)", call.span, self.signature(call.name))
        return False

    @staticmethod
    def signature(name: str) -> str:
        row = functions.FUNCTIONS.get(name) or FORMS.get(name)
        return row.signature if row is not None else ""

    # -- what the classes built on this one add
    def expr(self, node: A.Expr, statement: bool = False) -> T.Type | None:
        """The type of an expression; None if it is wrong or not known yet."""
        raise NotImplementedError

    def block(self, body: tuple[A.Stmt, ...], scope: object = None) -> None:
        """Checks statements, in a scope of their own if ``scope`` is given."""
        raise NotImplementedError

    def condition(self, node: A.Expr) -> None:
        """Checks an expression that is true or false."""
        raise NotImplementedError

    def modify(self, target: A.Expr, result: T.Type, span: Span, operand: T.Type | None = None) -> T.Type | None:
        """Checks what changes a variable or a map by its own value."""
        raise NotImplementedError
