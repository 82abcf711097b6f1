"""Types and checks.

Types of variables, map keys and map values are those that hold every value assigned anywhere in the program: the check runs over all
groups of probes until nothing widens any more, then once again to report.  Several errors are reported at once; an expression
that is wrong has the type ``None`` and causes no further messages.
"""

from __future__ import annotations

from ...base.diagnostics import Span, nearest
from ...compiler.builtins import types as T
from . import ast as A
from .check_calls import Calls
from .forms import AGGREGATIONS
from .model import Group, MapInfo

__all__ = ("Checker",)

_MAX_ROUNDS = 50
_UNROLL_MAX = 100


class Checker(Calls):
    """Checks one program.  After ``run`` the groups and ``maps`` hold all types."""

    def run(self) -> None:
        while True:
            self.problems.quiet = True
            for _ in range(_MAX_ROUNDS):
                self.changed = False
                for group in self.groups:
                    self.check_group(group)
                if not self.changed:
                    break
            self.problems.quiet = False
            for group in self.groups:
                self.check_group(group)
            # @n = @n + 1: nothing but itself tells its type, and no mistake explains that
            alone = [info for info in self.maps.values() if info.assigned and info.value is None]
            if not alone or self.problems.failed:
                break
            alone[0].kind, alone[0].value = "value", T.INT64
        self.problems.group = None
        for info in self.maps.values():
            if info.here and (info.looked is not None or info.decl is not None):
                span = info.looked or info.span
                self.error(
                    f"{info.name} has stacks in its keys that are unwound and counted in harken: the program cannot look there",
                    span,
                    f"{info.name}[...] = count() and the other aggregations work, += and ++ as statements; print, clear and zero too",
                )
            if info.decl is not None and info.key is None:
                self.warn(f"Unused map: {info.name}", info.span)
            elif not info.assigned and info.decl is None and info.value is None:
                near = nearest(info.name, [m.name for m in self.maps.values() if m.assigned])
                self.error(
                    f"Undefined map: {info.name}", info.span, f"did you mean {near[0]}?" if near else "nothing is ever assigned to it"
                )

    # -- groups and scopes
    def check_group(self, group: Group) -> None:
        self.group = self.problems.group = group
        self.types, self.constants = group.types, group.constants
        self.scopes = [(id(group.probe), {})]
        self.function, self.loops = 0, 0
        if group.probe.filter is not None:
            kind = self.expr(group.probe.filter)
            if kind is not None and kind.kind not in ("int", "bool", "ptr", "enum", "string"):
                self.error(f"Invalid type for a filter: {kind}", group.probe.filter.span, "a filter is a number or a comparison")
        self.block(group.probe.body)

    def block(self, body: tuple[A.Stmt, ...], scope: object = None) -> None:
        if scope is not None:
            self.scopes.append((id(scope), {}))
        for statement in body:
            getattr(self, "stmt_" + type(statement).__name__)(statement)
        if scope is not None:
            self.scopes.pop()

    # -- statements
    def stmt_ExprStmt(self, node: A.ExprStmt) -> None:
        value = node.value
        if isinstance(value, A.Call) and value.name in AGGREGATIONS:
            self.error(
                f"{value.name}() must be assigned directly to a map",
                value.span,
                f"for example: @ = {value.name}({'...' if value.args else ''});",
            )
            return
        if isinstance(value, A.Ternary):
            self.types[id(value)] = self.ternary(value, statement=True) or T.NONE
            return
        self.statement = value
        kind = self.expr(value, statement=True)
        if kind is not None and isinstance(value, A.Call) and kind.kind != "none" and value.name not in ("delete",):
            self.warn("Return value discarded.", value.span)

    def stmt_Assign(self, node: A.Assign) -> None:
        target, value = node.target, node.value
        if node.op:
            self.compound(node)
            return
        if isinstance(target, A.Name):
            self.expr(value)
            return
        if isinstance(value, A.Call) and value.name in AGGREGATIONS:
            if isinstance(target, A.Map):
                self.aggregation(target, value)
            else:
                self.error(f"{value.name}() must be assigned directly to a map", value.span)
            return
        kind = self.value(value)
        if isinstance(target, A.Var):
            variable = self.find_variable(target.name) or self.declare(target.name, target.span)
            self.touch(target, variable)
            if kind is not None:
                self.literal, self.wide = self.constants.get(id(value)), isinstance(value, A.Binary)
                self.widen(variable, kind, value.span)
            variable.assigned = True
            if variable.type is not None:
                self.types[id(target)] = variable.type
        elif isinstance(target, A.Map):
            info = self.map_access(target, assign=True)
            info.looked = info.looked or node.span
            if kind is not None:
                self.literal = self.constants.get(id(value))
                self.map_value(info, "value", kind, value.span)

    def compound(self, node: A.Assign) -> None:
        kind = self.number(node.value, f"The {node.op}= operator")
        result = T.UINT64 if kind is not None and not kind.signed and kind.kind == "int" and node.op != "-" else T.INT64
        if isinstance(node.target, A.Map) and node.op not in ("+", "-") and node.target.name in self.maps:
            self.look(self.maps[node.target.name], node.span)
        self.modify(node.target, result, node.span, kind)
        if node.op in ("/", "%") and self.constants.get(id(node.value)) == 0:
            self.error("Division by zero", node.value.span)

    def modify(self, target: A.Expr, result: T.Type, span: Span, operand: T.Type | None = None) -> T.Type | None:
        """``target op= ...``, ``++`` and ``--``: the place holds at least the 64-bit result."""
        if isinstance(target, A.Var):
            variable = self.find_variable(target.name)
            if variable is None:
                self.undefined(target)
                return None
            self.touch(target, variable)
            if variable.type is not None:
                if variable.type.kind == "ptr":
                    self.types[id(target)] = variable.type
                    return variable.type
                if not T.is_integer(variable.type):
                    self.error(f"The operator can not be used on {variable.name} of type '{variable.type}'", span)
                    return None
                if not variable.declared:
                    self.widen(variable, self.same_sign(variable.type, result), span)
                self.types[id(target)] = variable.type
            return variable.type
        if isinstance(target, A.Map):
            info = self.map_access(target, assign=True)
            if info.value is not None and info.kind not in ("", "value"):
                self.error(
                    f"The operator can not be used on {info.name}, which holds {info.kind}()", span, f"use {info.name} = {info.kind}(...)"
                )
                return None
            if info.value is not None and not T.is_integer(info.value):
                self.error(f"The operator can not be used on {info.name} of type '{info.value}'", span)
                return None
            self.map_value(info, "value", self.same_sign(info.value or result, result), span)
            if info.value is not None:
                self.types[id(target)] = info.value
            return info.value
        self.error("The operator needs a variable or a map", target.span)
        return None

    @staticmethod
    def same_sign(have: T.Type, result: T.Type) -> T.Type:
        """64 bits; unsigned places stay unsigned."""
        return (
            T.UINT64
            if have.kind == "int" and not have.signed and result is not T.INT64 or (have.kind == "int" and not have.signed)
            else result
        )

    def stmt_Let(self, node: A.Let) -> None:
        outer = self.scopes[-1][1].get(node.name)
        if outer is not None and self.problems.quiet is False:
            self.problems.error(f"Variable {node.name} was already declared.", node.span, "", ((outer.span, "first declared here"),))
        kind = self.value(node.value) if node.value is not None else None
        variable = self.declare(node.name, node.span)
        self.touch(node, variable)
        if node.type is not None:
            wanted = self.resolve(node.type)
            if wanted is not None:
                variable.type, variable.declared = wanted, True
        if kind is not None and node.value is not None:
            self.literal, self.wide = self.constants.get(id(node.value)), isinstance(node.value, A.Binary)
            self.widen(variable, kind, node.value.span)
            variable.assigned = True

    def stmt_If(self, node: A.If) -> None:
        self.condition(node.condition)
        self.block(node.then, node.then or node)
        if node.otherwise:
            self.block(node.otherwise, node.otherwise)

    def condition(self, node: A.Expr) -> None:
        kind = self.expr(node)
        if kind is not None and kind.kind not in ("int", "bool", "ptr", "enum", "string"):
            self.error(f"Invalid condition: a value of type '{kind}' is neither true nor false", node.span)

    def stmt_While(self, node: A.While) -> None:
        saved = self.function, self.loops
        self.function, self.loops = id(node), 1
        self.condition(node.condition)
        self.block(node.body, node)
        self.function, self.loops = saved

    def stmt_Unroll(self, node: A.Unroll) -> None:
        self.expr(node.count)
        count = self.constants.get(id(node.count))
        if not isinstance(count, int):
            self.error("unroll expects a constant or a positional parameter", node.count.span)
        elif count > _UNROLL_MAX:
            self.error(f"unroll maximum value is {_UNROLL_MAX}", node.count.span)
        elif count < 1:
            self.error("unroll minimum value is 1", node.count.span)
        self.block(node.body, node)

    def stmt_ForMap(self, node: A.ForMap) -> None:
        if not isinstance(node.map, A.Map) or node.map.keys is not None:
            self.expr(node.map)
            self.error("for loops go over a whole map or a range", node.map.span, "for ($kv : @map) { ... } or for ($i : 0..10) { ... }")
            return
        info = self.maps.get(node.map.name)
        if info is None:
            info = self.maps[node.map.name] = MapInfo(node.map.name, node.map.span)
        self.look(info, node.map.span)
        if info.key == ():
            self.error(f"for loops need a map with keys: {info.name} is a scalar map", node.map.span, "its value can be used directly")
            return
        self.loop_body(node, self.pair(info))

    def stmt_ForRange(self, node: A.ForRange) -> None:
        for end in (node.start, node.stop):
            self.number(end, "A range")
        self.loop_body(node, T.INT64)

    def loop_body(self, node: A.ForMap | A.ForRange, kind: T.Type | None) -> None:
        saved = self.function, self.loops
        self.scopes.append((id(node), {}))
        self.function, self.loops = id(node), 1
        variable = self.declare(node.name, node.span)
        variable.assigned = True
        self.touch(node, variable)
        if kind is not None and (variable.type is None or not T.same(variable.type, kind)):
            variable.type = kind
            self.changed = True
        self.block(node.body, node.body or None)
        self.scopes.pop()
        self.function, self.loops = saved

    def stmt_Jump(self, node: A.Jump) -> None:
        if node.kind != "return" and not self.loops:
            self.error(f"{node.kind} statement must be inside a loop", node.span)
        if node.value is not None:
            self.expr(node.value)

    def stmt_Block(self, node: A.Block) -> None:
        self.block(node.body, node)

    # -- expressions
    def expr(self, node: A.Expr, statement: bool = False) -> T.Type | None:
        kind: T.Type | None
        if isinstance(node, A.Call):
            kind = self.x_Call(node, statement)
        else:
            kind = getattr(self, "x_" + type(node).__name__)(node)
        if kind is not None:
            self.types[id(node)] = kind
        return kind
