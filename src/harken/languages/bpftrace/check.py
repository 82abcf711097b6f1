"""Types and checks.

Types of variables, map keys and map values are those that hold every value assigned anywhere in the program: the check runs over all
groups of probes until nothing widens any more, then once again to report.  Several errors are reported at once; an expression
that is wrong has the type ``None`` and causes no further messages.
"""

from __future__ import annotations

from ...base.ctype import Array, CType, Struct
from ...base.diagnostics import Span, nearest
from ...compiler.builtins import functions, values
from ...compiler.builtins import types as T
from ...compiler.builtins.builtin import Argument
from . import ast as A
from .formats import FormatProblem, accepts, conversions
from .forms import AGGREGATIONS, FORMS
from .model import Group, MapInfo, Options, Problems, Variable
from .parser import TYPE_NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("Checker",)

_MAX_ROUNDS = 50
_COMPARE = frozenset(("==", "!=", "<", ">", "<=", ">="))
_UNROLL_MAX = 100
_LHIST_MAX = 1000


class Checker:
    """Checks one program.  After ``run`` the groups and ``maps`` hold all types.

    As the ``Scope`` of built-ins it also answers what they ask about the place where they stand.
    """

    def __init__(self, groups: list[Group], catalogue: Any, options: Options, problems: Problems, declared: tuple[A.MapDecl, ...]) -> None:
        self.groups, self.catalogue, self.options, self.problems = groups, catalogue, options, problems
        self.maps: dict[str, MapInfo] = {}
        self.needs: set[str] = set()
        self.changed = False
        self.registers: tuple[str, ...] = ()
        for one in declared:
            info = self.maps[one.name] = MapInfo(one.name, one.span)
            info.decl = one

    def run(self) -> None:
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
        for info in self.maps.values():
            if info.decl is not None and info.key is None:
                self.warn(f"Unused map: {info.name}", info.span)
            elif not info.assigned and info.decl is None and info.value is None:
                near = nearest(info.name, [m.name for m in self.maps.values() if m.assigned])
                self.error(
                    f"Undefined map: {info.name}", info.span, f"did you mean {near[0]}?" if near else "nothing is ever assigned to it"
                )

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
    def unsafe(self) -> bool:
        return self.options.unsafe

    @property
    def function_text(self) -> str:
        return str(self.group.view.function)

    @property
    def probe_text(self) -> str:
        return self.group.probe_text

    def error(self, message: str, span: Span, hint: str = "") -> None:
        self.problems.error(message, span, hint)

    def warn(self, message: str, span: Span, hint: str = "") -> None:
        self.problems.warn(message, span, hint)

    def use(self, what: str) -> None:
        self.needs.add(what)

    # -- groups and scopes
    def check_group(self, group: Group) -> None:
        self.group = group
        self.types, self.constants = group.types, group.constants
        self.scopes: list[tuple[int, dict[str, Variable]]] = [(id(group.probe), {})]
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

    def widen(self, variable: Variable, kind: T.Type, span: Span) -> None:
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
            if kind is not None:
                self.literal = self.constants.get(id(value))
                self.map_value(info, "value", kind, value.span)

    def value(self, node: A.Expr) -> T.Type | None:
        """An expression whose value is kept."""
        kind = self.expr(node)
        if kind is not None and kind.kind == "none":
            self.error("Invalid expression for assignment: it has no value", node.span)
            return None
        return kind

    def compound(self, node: A.Assign) -> None:
        kind = self.number(node.value, f"The {node.op}= operator")
        result = T.UINT64 if kind is not None and not kind.signed and kind.kind == "int" and node.op != "-" else T.INT64
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
        info.read = True
        if info.key == ():
            self.error(f"for loops need a map with keys: {info.name} is a scalar map", node.map.span, "its value can be used directly")
            return
        self.loop_body(node, self.pair(info))

    def pair(self, info: MapInfo) -> T.Type | None:
        """The type of ``$kv``."""
        if info.key is None or info.value is None:
            return None
        key = info.key[0] if len(info.key) == 1 else T.tuple_of(*info.key)
        value = info.value if info.kind == "value" else T.INT64
        return T.tuple_of(key, value)

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

    def enumerator(self, name: str) -> tuple[T.Type, int] | None:
        """An enumerator of the kernel, by name."""
        btf = self.catalogue.btf
        found = btf.enumerator(name) if btf is not None else None
        if found is None:
            return None
        enum, number = found
        return T.from_ctype(enum), number

    def no_args(self, node: A.Name) -> None:
        hint = "use arg0, arg1, ..." if self.view.positional else "this kind of probe has no arguments"
        if self.view.positional and self.catalogue.btf is None:
            hint += " (argument names need the kernel's BTF, which is missing here)"
        self.error(f"The args builtin can not be used with '{self.kind}' probes here: no argument names are known", node.span, hint)

    def undefined(self, node: A.Var) -> None:
        names = [name for _, scope in self.scopes for name in scope]
        near = nearest(node.name, names)
        other = next((v for (_, name), v in self.group.declared.items() if name == node.name), None)
        hint = f"did you mean {near[0]}?" if near else "assign to it first, in the same block or one around it"
        if other is not None:
            hint = f"declare it before the block that assigns to it: let {node.name};"
        self.error(f"Undefined or undeclared variable: {node.name}", node.span, hint)

    def x_Var(self, node: A.Var) -> T.Type | None:
        variable = self.find_variable(node.name)
        if variable is None:
            self.undefined(node)
            return None
        self.touch(node, variable)
        if variable.type is None and not self.problems.quiet and not variable.assigned:
            self.error(f"The type of {node.name} is not known: nothing is assigned to it", node.span, f"let {node.name}: uint64;")
        return variable.type

    def x_Map(self, node: A.Map) -> T.Type | None:
        info = self.map_access(node)
        if info.value is None:
            return None
        if info.kind == "value":
            return info.value
        if info.kind in ("hist", "lhist", "stats"):
            self.error(
                f"{info.name} holds {info.kind}(), which can not be used in an expression", node.span, f"print({info.name}) shows it"
            )
            return None
        return T.INT64 if info.value.signed or info.kind in ("count", "avg") else T.UINT64

    # -- maps
    def map_access(self, node: A.Map, assign: bool = False) -> MapInfo:
        """Notes the keys of one access."""
        info = self.maps.get(node.name)
        if info is None:
            info = self.maps[node.name] = MapInfo(node.name, node.span)
        if assign:
            info.assigned = True
        else:
            info.read = True
        self.map_keys(info, node.keys, node.span)
        return info

    def map_keys(self, info: MapInfo, keys: tuple[A.Expr, ...] | None, span: Span) -> None:
        kinds: tuple[T.Type, ...] = ()
        if keys is not None:
            found = [self.expr(key) for key in keys]
            if any(kind is None for kind in found):
                return
            kinds = tuple(kind for kind in found if kind is not None)
            for key, kind in zip(keys, kinds):
                if kind.kind in ("none", "timestamp") or kind.kind in T.AGGREGATES:
                    self.error(f"Invalid map key type: {kind}", key.span)
                    return
            if len(kinds) == 1 and kinds[0].kind == "tuple" and kinds[0].parts:
                kinds = kinds[0].parts
            kinds = tuple(
                self.stored(kind).replace(space="") if kind.kind in ("string", "struct", "array", "buf") else kind for kind in kinds
            )
        if info.key is None:
            info.key = kinds
            self.changed = True
            return
        if len(info.key) != len(kinds):
            self.wrong_keys(info, kinds, span)
            return
        joined = [T.join(a, b) for a, b in zip(info.key, kinds)]
        if any(kind is None for kind in joined):
            self.wrong_keys(info, kinds, span)
            return
        wider = tuple(kind for kind in joined if kind is not None)
        if not all(T.same(a, b) for a, b in zip(wider, info.key)):
            info.key = wider
            self.changed = True

    def wrong_keys(self, info: MapInfo, kinds: tuple[T.Type, ...], span: Span) -> None:
        def shown(kinds: tuple[T.Type, ...]) -> str:
            return str(kinds[0]) if len(kinds) == 1 else f"({','.join(str(kind) for kind in kinds)})"

        have = info.key or ()
        if not kinds:
            message = (
                f"{info.name} used as a map without an explicit key (scalar map), previously used with an explicit key (non-scalar map)"
            )
        elif not have:
            message = (
                f"{info.name} used as a map with an explicit key (non-scalar map), previously used without an explicit key (scalar map)"
            )
        else:
            message = (
                f"Argument mismatch for {info.name}: trying to access with arguments: '{shown(kinds)}' "
                f"when map expects arguments: '{shown(have)}'"
            )
        self.problems.error(message, span, "use another map for another kind of key", ((info.span, "first used here"),))

    def map_value(self, info: MapInfo, kind: str, value: T.Type, span: Span, params: tuple[int, ...] = ()) -> None:
        """Notes one assignment."""
        shown = value if kind == "value" else T.Type(kind)
        if info.kind and info.kind != kind:
            have = info.value if info.kind == "value" and info.value is not None else T.Type(info.kind)
            self.mismatch(info.name, "map", have, shown, span, info.span)
            return
        if info.value is None:
            info.kind, info.value, info.params = kind, self.stored(value), params
            if kind == "value" and value.kind in ("struct", "array", "string"):
                info.value = info.value.replace(space="")
            self.changed = True
            return
        if params != info.params:
            self.error(
                f"{info.name}: different constants for {kind}(): {params} and {info.params}", span, "all uses of a map need the same"
            )
            return
        wider = T.join(info.value, value)
        if wider is None or not self.compatible(info.value, value):
            self.mismatch(info.name, "map", info.value, value, span, info.span)
        elif not T.same(wider, info.value):
            info.value = wider
            self.changed = True

    def aggregation(self, target: A.Map, call: A.Call) -> None:
        name = call.name
        info = self.map_access(target, assign=True)
        least, most = AGGREGATIONS[name]
        if not self.arity(call, least, most):
            return
        argument = self.number(call.args[0], f"{name}()") if call.args else T.UINT64
        self.types[id(call)] = T.Type(name)
        params: tuple[int, ...] = ()
        if name == "hist" and len(call.args) == 2:
            bits = self.constant(call.args[1], "hist() expects a constant as second argument")
            if bits is None:
                return
            if not 0 <= bits <= 5:
                self.error(f"hist: bits {bits} must be 0..5", call.args[1].span)
                return
            params = (bits,) if bits else ()
        if name == "lhist":
            found = [self.constant(arg, "lhist() expects constants for min, max and step") for arg in call.args[1:]]
            if None in found:
                return
            low, high, step = (number for number in found if number is not None)
            if step <= 0:
                self.error(f"lhist() step must be >= 1 ({step} provided)", call.args[3].span)
                return
            if low > high:
                self.error(
                    f"lhist() min must be less than max (provided min {low} and max {high})", call.args[1].span.to(call.args[2].span)
                )
                return
            if (high - low) // step > _LHIST_MAX:
                self.error(
                    f"lhist() too many buckets, must be <= {_LHIST_MAX} (would need {(high - low) // step})",
                    call.args[1].span.to(call.args[3].span),
                )
                return
            params = (low, high, step)
        signed = True if argument is None else argument.signed or name in ("hist", "lhist")
        self.map_value(info, name, T.Type(name, 8, signed), call.span, params)

    def constant(self, node: A.Expr, message: str) -> int | None:
        self.expr(node)
        value = self.constants.get(id(node))
        if not isinstance(value, int):
            self.error(message, node.span)
            return None
        return value

    # -- operators
    def x_Unary(self, node: A.Unary) -> T.Type | None:
        op, operand = node.op, node.operand
        if op in ("++", "--"):
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

    def dereference(self, kind: T.Type, span: Span) -> T.Type | None:
        target = kind.ctype.strip() if kind.ctype is not None else None
        found = T.from_ctype(kind.ctype, kind.space) if target is not None and kind.ctype is not None else T.NONE
        if found.kind == "none":
            self.error(f"Can not dereference a value of type '{kind}'", span, "cast it to a pointer to something first: *(uint32 *)$x")
            return None
        return found

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
        joined = T.join(then, otherwise)
        if joined is None:
            self.error(f"Ternary operator must return the same type: have '{then}' and '{otherwise}'", node.span)
        return joined

    def x_IfExpr(self, node: A.IfExpr) -> T.Type | None:
        self.condition(node.condition)
        then, otherwise = self.expr(node.then), self.expr(node.otherwise)
        if then is None or otherwise is None:
            return then or otherwise
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

    def x_Tuple(self, node: A.Tuple) -> T.Type | None:
        kinds = [self.value(item) for item in node.items]
        if any(kind is None for kind in kinds):
            return None
        return T.tuple_of(*[self.stored(kind) for kind in kinds if kind is not None])

    def x_RecordLit(self, node: A.RecordLit) -> T.Type | None:
        kinds = [self.value(item) for item in node.items]
        if any(kind is None for kind in kinds):
            return None
        return T.tuple_of(*[self.stored(kind) for kind in kinds if kind is not None], names=node.names)

    def x_Cast(self, node: A.Cast) -> T.Type | None:
        to, kind = self.resolve(node.to, self.view.space), self.expr(node.operand)
        if to is None or kind is None:
            return None
        if T.is_integer(to):
            if kind.kind in ("int", "bool", "enum", "ptr", "ksym"):
                constant = self.constants.get(id(node.operand))
                if isinstance(constant, int):
                    self.constants[id(node)] = _cut(constant, to)
                return to
            if kind.kind in ("array", "mac", "buf") and kind.size == to.size:
                return to
        elif to.kind == "ptr" and kind.kind in ("int", "ptr", "array", "string", "ksym", "enum"):
            if kind.kind == "ptr" and kind.space:
                return to.replace(space=kind.space)
            return to
        elif to.kind == "struct" and kind.kind in ("int", "ptr"):
            self.error(f"Cannot cast to '{to}': cast to a pointer to it instead", node.span, f"({to} *)...")
            return None
        elif to.kind in ("string", "array", "buf") and kind.kind in ("string", "array", "buf", "int"):
            literal = isinstance(self.constants.get(id(node.operand)), int)
            if to.kind == "array" and kind.kind == "int" and not to.count:
                to = T.array(to.parts[0], kind.size // to.parts[0].size)
            if to.kind == "array" and kind.kind == "int" and literal and to.size <= 8:
                return to
            if to.kind == "array" and kind.kind in ("string", "array", "buf") and not to.count:
                to = T.array(to.parts[0], kind.size // max(1, to.parts[0].size))
            if kind.kind != "int" or to.size == kind.size:
                return to
        elif to.kind == kind.kind and T.join(to, kind) is not None:
            return to
        self.error(f"Cannot cast from '{kind}' to '{to}'", node.span)
        return None

    # -- members
    def x_Member(self, node: A.Member) -> T.Type | None:
        operand = node.operand
        if isinstance(operand, A.Name) and operand.name == "args":
            return self.argument(node, operand)
        kind = self.expr(operand)
        if kind is None:
            return None
        if kind.kind in ("tuple", "record"):
            return self.part(node, kind)
        struct = self.struct_of(kind)
        if struct is None:
            hint = "cast it first: ((struct NAME *)x)->field" if kind.kind in ("int", "ptr") else ""
            self.error(f"Can not access field '{node.name}' on expression of type '{kind}'", node.span, hint)
            return None
        member = struct.member(node.name)
        if member is None:
            self.no_field(str(struct), node, list(struct.names()))
            return None
        if member.bit_size:
            inner = T.from_ctype(member.type)
            return T.integer(8, inner.signed) if inner.kind == "int" else inner
        space = kind.space or "kernel"
        return T.from_ctype(member.type, space)

    def no_field(self, struct: str, node: A.Member, names: list[str]) -> None:
        near = nearest(node.name, names)
        hint = (
            f"did you mean {' or '.join(near)}?"
            if near
            else f"there are {', '.join(names[:12])}{' ...' if len(names) > 12 else ''}"
            if names
            else ""
        )
        self.error(f"Struct/union of type '{struct}' does not contain a field named '{node.name}'", node.name_span, hint)

    def argument(self, node: A.Member, operand: A.Name) -> T.Type | None:
        arguments = self.view.args
        if not arguments:
            self.no_args(operand)
            return None
        found = next((one for one in arguments if one.name == node.name), None)
        if found is None:
            self.no_field(f"args of {self.group.plan.probes[0].text}", node, [one.name for one in arguments])
            return None
        if found.data_loc:
            inner = found.type.strip()
            if isinstance(inner, Array):
                element = T.from_ctype(Array(inner.element, 1))
                return T.string(self.max_strlen) if element.kind == "string" else T.pointer(inner.element, "kernel")
            return T.string(self.max_strlen)
        kind = T.from_ctype(found.type, self.view.space)
        if kind.kind in ("struct", "array", "string"):
            return kind.replace(space="ctx")
        return kind

    def part(self, node: A.Member, kind: T.Type) -> T.Type | None:
        if kind.kind == "record" and node.name in kind.names:
            return kind.parts[kind.names.index(node.name)]
        if not node.name.isdecimal():
            self.error(
                f"Can not access field '{node.name}' on expression of type '{kind}'", node.name_span, "the parts of a tuple are .0, .1, ..."
            )
            return None
        if int(node.name) >= len(kind.parts):
            self.error(f"Invalid tuple index: {node.name}. Found {len(kind.parts)} elements in tuple.", node.name_span)
            return None
        return kind.parts[int(node.name)]

    @staticmethod
    def struct_of(kind: T.Type) -> Struct | None:
        if kind.ctype is None or kind.kind not in ("ptr", "struct"):
            return None
        inner = kind.ctype.strip()
        return inner if isinstance(inner, Struct) else None

    def x_Index(self, node: A.Index) -> T.Type | None:
        kind, index = self.expr(node.operand), self.number(node.index, "An index")
        if kind is None or index is None:
            return None
        constant = self.constants.get(id(node.index))
        if kind.kind == "array":
            if isinstance(constant, int) and kind.count and not 0 <= constant < kind.count:
                self.error(f"the index {constant} is out of bounds for array of size {kind.count}", node.index.span)
                return None
            return kind.parts[0]
        if kind.kind == "tuple":
            if not isinstance(constant, int) or not 0 <= constant < len(kind.parts):
                self.error("a tuple needs a constant index within its size", node.index.span)
                return None
            return kind.parts[constant]
        if kind.kind == "string":
            return T.integer(1)
        if kind.kind == "ptr":
            return self.dereference(kind, node.span)
        self.error(f"The array index operator [] can not be used on expression of type '{kind}'", node.span)
        return None

    # -- types by name
    def resolve(self, name: A.TypeName, space: str = "") -> T.Type | None:
        """A written type."""
        base = self.base_type(name, space)
        if base is None:
            return None
        kind = base
        dims = name.dims[1:] if name.name in ("string", "buffer") and name.dims else name.dims
        for level in range(name.stars):
            target = self.base_ctype(base) if level == 0 else T.to_ctype(kind)
            if level == 0 and base.kind == "none":
                kind = T.VOIDPTR.replace(space=space)
            else:
                kind = T.pointer(target, space)
        for size in reversed(dims):
            if kind.kind == "none":
                self.error("an array of void is not possible", name.span)
                return None
            kind = T.array(kind, size or 0)
        return kind

    def base_ctype(self, base: T.Type) -> CType | None:
        """The C type behind a written type."""
        return base.ctype if base.ctype is not None and base.kind in ("struct", "enum") else T.to_ctype(base)

    def base_type(self, name: A.TypeName, space: str) -> T.Type | None:
        text = name.name
        if text == "tuple":
            parts = [self.resolve(part) for part in name.parts]
            return None if any(part is None for part in parts) else T.tuple_of(*[part for part in parts if part is not None])
        simple = _SIMPLE.get(text)
        if simple is not None:
            return simple
        if text in ("string", "buffer"):
            size = name.dims[0] if name.dims and name.dims[0] else self.max_strlen
            return T.string(size) if text == "string" else T.buffer(size)
        if text in TYPE_NAMES:
            self.error(f"the type {text} can not be written here", name.span)
            return None
        btf = self.catalogue.btf
        found = btf.find(text) if btf is not None else None
        if found is None:
            hint = "the kernel's types need BTF, which this kernel does not have" if btf is None else self.near_type(text)
            self.error(f"Unknown type: {text}" if " " not in text else f'Cannot resolve unknown type "{text}"', name.span, hint)
            return None
        return T.from_ctype(found, space)

    def near_type(self, text: str) -> str:
        near = nearest(text, TYPE_NAMES)
        if near:
            return f"did you mean {near[0]}?"
        kind, _, tag = text.partition(" ")
        if tag and self.catalogue.btf is not None:
            known = self.catalogue.btf.names(kind) if kind in ("struct", "union", "enum") else []
            close = nearest(tag, [one for one in known if abs(len(one) - len(tag)) <= 2 and one[:1] == tag[:1]])
            if close:
                return f"did you mean {kind} {close[0]}?"
        return ""

    def x_Sizeof(self, node: A.Sizeof) -> T.Type | None:
        kind = self.resolve(node.of) if isinstance(node.of, A.TypeName) else self.expr(node.of)
        if kind is None:
            return None
        self.fold(node, kind.size)
        return T.UINT64

    def x_Offsetof(self, node: A.Offsetof) -> T.Type | None:
        kind = self.resolve(node.of) if isinstance(node.of, A.TypeName) else self.expr(node.of)
        if kind is None:
            return None
        current: CType | None = self.struct_of(kind)
        bits = 0
        for name in node.path.split("."):
            inner = current.strip() if current is not None else None
            if not isinstance(inner, Struct):
                self.error(f"offsetof needs a struct ('{kind}' provided)", node.span)
                return None
            member = inner.member(name)
            if member is None:
                near = nearest(name, list(inner.names()))
                self.error(
                    f"Struct/union of type '{inner}' does not contain a field named '{name}'",
                    node.span,
                    f"did you mean {near[0]}?" if near else "",
                )
                return None
            bits += member.bit_offset
            current = member.type
        self.fold(node, bits // 8)
        return T.UINT64

    def x_Typeof(self, node: A.Typeof) -> None:
        self.error(f"{node.name}() is not yet available", node.span)

    # -- calls
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

    def x_Call(self, node: A.Call, statement: bool = False) -> T.Type | None:
        name = node.name[10:] if node.name.startswith("__builtin_") else node.name
        if name in FORMS:
            form = FORMS[name]
            if form.unsafe and not self.unsafe:
                self.error(f"{name}() is an unsafe function being used in safe mode", node.span, "the --unsafe option allows it")
                return None
            if not self.arity(node, form.least, form.most):
                return None
            kind = getattr(self, "form_" + name)(node)
            if kind is not None and kind.kind == "none" and not statement:
                self.error(f"{name}() should not be used in an expression: it has no value", node.span)
            return kind  # type: ignore[no-any-return]
        if name in AGGREGATIONS:
            self.error(f"{name}() must be assigned directly to a map", node.span)
            return None
        if name == "nsecs":
            return self.nsecs(node)
        builtin = functions.FUNCTIONS.get(name)
        if builtin is None and (value := values.find(name)) is not None:
            if value.most < len(node.args):
                self.error(f"{name} takes no arguments", node.span)
                return None
            return value.check(self, (), node.span)
        if builtin is None:
            near = nearest(name, [*functions.FUNCTIONS, *FORMS, *AGGREGATIONS])
            self.error(f"Unknown function: '{name}'", node.span, f"did you mean {near[0]}()?" if near else "")
            return None
        if builtin.unsafe and not self.unsafe:
            self.error(f"{name}() is an unsafe function being used in safe mode", node.span, "the --unsafe option allows it")
            return None
        if not self.arity(node, builtin.least, builtin.most):
            return None
        arguments = self.arguments(node, name)
        if arguments is None:
            return None
        return builtin.check(self, arguments, node.span)

    def arguments(self, node: A.Call, name: str) -> tuple[Argument, ...] | None:
        out = []
        for index, arg in enumerate(node.args):
            if name in ("str", "buf") and index == 0 and isinstance(arg, A.Positional) and arg.number:
                params = self.options.params
                text = params[arg.number - 1] if arg.number <= len(params) else ""
                self.constants[id(arg)] = text
                kind: T.Type | None = T.string(len(text.encode("utf-8", "surrogateescape")) + 1)
                assert kind is not None
                self.types[id(arg)] = kind
            else:
                kind = self.expr(arg)
            if kind is None:
                return None
            out.append(Argument(kind, arg.span, self.constants.get(id(arg))))
        return tuple(out)

    def nsecs(self, node: A.Call) -> T.Type | None:
        if not node.args:
            return T.UINT64
        clock = node.args[0]
        if not isinstance(clock, A.Name) or clock.name not in ("monotonic", "boot", "tai", "sw_tai"):
            self.error("nsecs() knows the clocks monotonic, boot, tai and sw_tai", clock.span)
            return None
        if clock.name == "sw_tai":
            self.error("the clock sw_tai is not yet available", clock.span, "use nsecs(tai)")
            return None
        return T.UINT64

    # -- forms
    def form_printf(self, node: A.Call) -> T.Type | None:
        return self.formatted(node)

    form_cat = form_system = form_errorf = form_warnf = form_printf

    def formatted(self, node: A.Call) -> T.Type | None:
        kinds = [self.expr(arg) for arg in node.args]
        text = self.constants.get(id(node.args[0]))
        if not isinstance(text, str):
            self.error(f"{node.name}() expects a string literal as its format", node.args[0].span)
            return None
        try:
            wanted = conversions(text)
        except FormatProblem as problem:
            self.error(
                f"unknown format specifier: {problem.text}", node.args[0].span, "known are %d %i %u %x %X %o %c %s %p %r %rx %rh and %%"
            )
            return None
        given = len(node.args) - 1
        if given < len(wanted):
            self.error(f"not enough arguments for format string ({given} supplied, {len(wanted)} expected)", node.span)
            return None
        if given > len(wanted):
            self.error(
                f"too many arguments for format string ({given} supplied, {len(wanted)} expected)",
                node.span,
                "write %% for a percent sign" if "%%" in text else "",
            )
            return None
        for one, kind in zip(wanted, kinds[1:]):
            if kind is None:
                continue
            if not accepts(one.verb, kind):
                hint = "%s shows any value" if kind.kind != "none" and T.is_printable(kind) else ""
                self.error(f"unsupported format specifier for type '{kind}': {one.verb}", node.span, hint)
        return T.NONE

    def whole_map(self, node: A.Call, name: str) -> MapInfo | None:
        target = node.args[0]
        if not isinstance(target, A.Map) or target.keys is not None:
            self.expr(target)
            self.error(f"{name}() expects a map to be provided", target.span, f"{name}(@name)")
            return None
        info = self.maps.get(target.name)
        if info is None:
            info = self.maps[target.name] = MapInfo(target.name, target.span)
        info.read = True
        return info

    def form_print(self, node: A.Call) -> T.Type | None:
        target = node.args[0]
        if isinstance(target, A.Map) and target.keys is None:
            info = self.whole_map(node, "print")
            if info is not None and info.key is None and info.value is None and not self.problems.quiet and not info.assigned:
                near = nearest(info.name, [m.name for m in self.maps.values() if m.assigned])
                self.error(
                    f"Undefined map: {info.name}", target.span, f"did you mean {near[0]}?" if near else "nothing is ever assigned to it"
                )
            for arg in node.args[1:]:
                self.constant(arg, "print() expects constants for top and div")
            return T.NONE
        if len(node.args) > 1:
            self.error("print() takes top and div only with a whole map", node.span)
            return None
        kind = self.expr(target)
        if kind is not None and not T.is_printable(kind):
            self.error(f"{kind} can not be printed", target.span)
        return T.NONE

    def form_clear(self, node: A.Call) -> T.Type:
        self.whole_map(node, node.name)
        return T.NONE

    form_zero = form_clear

    def keyed(self, node: A.Call) -> MapInfo | None:
        """``f(@map, key)``."""
        info = self.whole_map(node, node.name)
        if info is None:
            return None
        key = node.args[1]
        keys = key.items if isinstance(key, A.Tuple) else (key,)
        if isinstance(key, A.Tuple):
            self.expr(key)
        self.map_keys(info, keys, node.span)
        return info

    def form_delete(self, node: A.Call) -> T.Type | None:
        if len(node.args) == 2:
            self.keyed(node)
            return T.BOOL
        target = node.args[0]
        if not isinstance(target, A.Map):
            self.error("delete() expects a map to be provided", target.span, "delete(@map, key)")
            return None
        info = self.map_access(target)
        if target.keys is None and info.key:
            self.error(
                f"delete() expects a key for {info.name}", node.span, f"delete({info.name}, key); clear({info.name}) deletes all keys"
            )
        return T.BOOL

    def form_has_key(self, node: A.Call) -> T.Type | None:
        info = self.maps.get(node.args[0].name) if isinstance(node.args[0], A.Map) else None
        if info is not None and info.key == ():
            self.error("call to has_key() expects a map with explicit keys (non-scalar map)", node.span)
            return None
        self.keyed(node)
        return T.BOOL

    def form_len(self, node: A.Call) -> T.Type | None:
        if isinstance(node.args[0], A.Name) and node.args[0].name in ("kstack", "ustack"):
            self.expr(node.args[0])
            return None
        info = self.whole_map(node, "len")
        if info is not None and info.key == ():
            self.error("call to len() expects a map with explicit keys (non-scalar map)", node.span)
        return T.INT64

    def form_exit(self, node: A.Call) -> T.Type:
        if node.args:
            self.number(node.args[0], "exit()")
        return T.NONE

    def form_time(self, node: A.Call) -> T.Type:
        if node.args:
            self.expr(node.args[0])
            if not isinstance(self.constants.get(id(node.args[0])), str):
                self.error("time() expects a string literal as its format", node.args[0].span)
        return T.NONE

    def form_join(self, node: A.Call) -> T.Type:
        kind = self.expr(node.args[0])
        if kind is not None and kind.kind not in ("int", "ptr"):
            self.error(f"join() expects an integer or a pointer ({kind} provided)", node.args[0].span)
        if len(node.args) == 2:
            self.expr(node.args[1])
            if not isinstance(self.constants.get(id(node.args[1])), str):
                self.error("join() expects a string literal as separator", node.args[1].span)
        return T.NONE

    def form_static_assert(self, node: A.Call) -> T.Type:
        self.expr(node.args[0])
        value = self.constants.get(id(node.args[0]))
        message = node.args[1].value if len(node.args) > 1 and isinstance(node.args[1], A.StrLit) else ""
        if value is None:
            self.error("the condition is not known at compile time", node.args[0].span)
        elif not value:
            self.error(f"static assertion failed{': ' + message if message else ''}", node.span)
        return T.NONE


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


def _cut(value: int, kind: T.Type) -> int:
    if kind.kind == "bool":
        return int(value != 0)
    value &= (1 << (kind.size * 8)) - 1
    return value - (1 << (kind.size * 8)) if kind.signed and value >> (kind.size * 8 - 1) else value


_SIMPLE: dict[str, T.Type] = {
    "bool": T.BOOL,
    "void": T.NONE,
    "int": T.INT32,
    "uint": T.UINT32,
    "inet": T.INET,
    "mac_address": T.MAC,
    "ksym_t": T.KSYM,
    "usym_t": T.USYM,
    **{f"{'' if signed else 'u'}int{size * 8}": T.integer(size, signed) for size in (1, 2, 4, 8) for signed in (True, False)},
}
