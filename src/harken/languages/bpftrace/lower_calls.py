"""Calls: built-in functions, events of actions, operations on maps."""

from __future__ import annotations

from ...compiler.builtins import functions, values
from ...compiler.builtins import types as T
from ...compiler.builtins.builtin import Argument
from ...compiler.builtins.code import Code, Val
from ...compiler.builtins.events import emit
from ...compiler.builtins.stacks import frames
from ...compiler.ir import I1, I64, PTR, Const, Function, Param, Value
from . import ast as A
from .lower_base import ignore, position_of
from .lower_values import ValueCode
from .maps import value_bytes

__all__ = ("CallCode",)

_JOIN_ARGUMENTS = 16


class CallCode(ValueCode):
    """Calls of functions and forms."""

    # -- calls
    def x_Call(self, node: A.Call) -> Val:
        name = node.name[10:] if node.name.startswith("__builtin_") else node.name
        form = getattr(self, "form_" + name, None)
        if form is not None:
            value: Val | None = form(node)
            return value if value is not None else Val(T.NONE)
        if name == "nsecs":
            return self.nsecs(node)
        builtin = functions.FUNCTIONS.get(name) or values.find(name)
        assert builtin is not None
        args = node.args if not builtin.words else tuple(arg for arg in node.args if not isinstance(arg, A.Name))
        arguments = tuple(Argument(self.types[id(arg)], arg.span, self.constants.get(id(arg))) for arg in args)
        return builtin.lower(self.code, self.types[id(node)], [self.expr(arg) for arg in args], arguments, self)

    def nsecs(self, node: A.Call) -> Val:
        clock = node.args[0].name if node.args and isinstance(node.args[0], A.Name) else "boot"
        helper = {"boot": "ktime_get_boot_ns", "monotonic": "ktime_get_ns", "tai": "ktime_get_tai_ns"}[clock]
        return Val(T.UINT64, self.code.b.helper(helper))

    def fields(self, nodes: tuple[A.Expr, ...]) -> list[tuple[str, Val]]:
        """Arguments of an event.

        Scalars are evaluated now, before space in the ring is asked for; strings and aggregates are written straight into the record.
        """
        out = []
        for number, node in enumerate(nodes):
            value = self.expr(node)
            kind = self.types[id(node)]
            if T.is_scalar(value.type) and value.ir is not None and value.ir.type == I1:
                value = Val(kind, self.code.i64(value))
            out.append((f"arg{number}", value))
        return out

    def formatted(self, node: A.Call, action: str) -> None:
        format = self.constants[id(node.args[0])]
        emit(self.code, action, (format,), self.fields(node.args[1:]), position_of(node))

    def form_printf(self, node: A.Call) -> None:
        self.formatted(node, "printf")

    def form_cat(self, node: A.Call) -> None:
        self.formatted(node, "cat")

    def form_system(self, node: A.Call) -> None:
        self.formatted(node, "system")

    def form_errorf(self, node: A.Call) -> None:
        self.formatted(node, "errorf")

    def form_warnf(self, node: A.Call) -> None:
        self.formatted(node, "warnf")

    def form_print(self, node: A.Call) -> None:
        target = node.args[0]
        if isinstance(target, A.Map) and target.keys is None:
            info = self.info(target)
            if info.value is None:
                return
            numbers = [int(self.constants[id(arg)]) for arg in node.args[1:]]
            top, div = (*numbers, 0, 0)[:2]
            emit(self.code, "print_map", (info.name, top, div), [], position_of(node))
            return
        emit(self.code, "print_value", (), self.fields((target,)), position_of(node))

    def form_clear(self, node: A.Call) -> None:
        target = node.args[0]
        assert isinstance(target, A.Map)
        if self.info(target).value is not None:
            emit(self.code, node.name, (target.name,), [], position_of(node))

    form_zero = form_clear

    def form_exit(self, node: A.Call) -> None:
        if not node.args:
            emit(self.code, "exit", (0,), [], position_of(node))
        else:
            constant = self.constants.get(id(node.args[0]))
            if isinstance(constant, int):
                emit(self.code, "exit", (constant & 0xFF,), [], position_of(node))
            else:
                value = Val(T.INT64, self.code.i64(self.expr(node.args[0])))
                emit(self.code, "exit", (-1,), [("code", value)], position_of(node))
        self.leave()
        self.code.b.goto(self.code.b.block("after_exit"))
        self.code.b.insert("unreachable")

    def leave(self) -> None:
        """Ends the action; from a loop body, by a flag that the probe looks at."""
        b = self.code.b
        if self.body.number:
            assert self.body.frame is not None
            b.store(self.body.frame, Const(1), self.frame.slot("returned"))
            b.ret(Const(1))
        else:
            b.ret(Const(0))

    def form_time(self, node: A.Call) -> None:
        format = self.constants[id(node.args[0])] if node.args else "%H:%M:%S\n"
        emit(self.code, "time", (format,), [], position_of(node))

    def form_join(self, node: A.Call) -> None:
        """Strings of an argv-like array, up to a null pointer; what follows it is empty."""
        b, code = self.code.b, self.code
        separator = self.constants[id(node.args[1])] if len(node.args) > 1 else " "
        value = self.expr(node.args[0])
        space = self.memory(value.type.space)
        base = code.pointer(value, space)
        live: Value = Const(1)
        strings: list[tuple[str, Val]] = []
        for number in range(_JOIN_ARGUMENTS):
            word = b.load(base, I64, number * 8)
            live = b.select(b.icmp("ne", word, Const(0)), live, Const(0))
            pointer = b.to_pointer(b.select(b.icmp("ne", live, Const(0)), word, Const(0)), space)
            strings.append((f"arg{number}", Val(T.string(self.options.max_strlen), pointer)))
        emit(code, "join", (separator,), strings, position_of(node))

    def form_delete(self, node: A.Call) -> Val:
        b, code = self.code.b, self.code
        target = node.args[0]
        assert isinstance(target, A.Map)
        info = self.info(target)
        if info.value is None:
            return Val(T.BOOL, Const(0))
        keys = self.call_keys(node) if len(node.args) == 2 else target.keys
        key = self.key(info, keys)
        if info.key:
            return Val(T.BOOL, b.icmp("eq", b.delete(self.maps.name(info), key), Const(0)))
        if self.maps.per_cpu(info):
            emit(code, "zero", (info.name,), [], position_of(node))
            return Val(T.BOOL, Const(1))
        where = b.lookup(self.maps.name(info), key)
        code.when(b.icmp("ne", where, Const(0)), lambda: ignore(b.zero(where, value_bytes(info))))
        return Val(T.BOOL, Const(1))

    @staticmethod
    def call_keys(node: A.Call) -> tuple[A.Expr, ...]:
        key = node.args[1]
        return key.items if isinstance(key, A.Tuple) else (key,)

    def form_has_key(self, node: A.Call) -> Val:
        target = node.args[0]
        assert isinstance(target, A.Map)
        info, b = self.info(target), self.code.b
        if info.value is None:
            return Val(T.BOOL, Const(0))
        where = b.lookup(self.maps.name(info), self.key(info, self.call_keys(node)))
        return Val(T.BOOL, b.icmp("ne", where, Const(0)))

    def form_len(self, node: A.Call) -> Val:
        """The number of frames of a stack, or of keys of a map: walking through the map returns it."""
        target = node.args[0]
        if self.types.get(id(target), T.NONE).kind in ("kstack", "ustack"):
            return Val(T.INT64, frames(self.code, self.expr(target)))
        assert isinstance(target, A.Map)
        info, b = self.info(target), self.code.b
        if info.value is None:
            return Val(T.INT64, Const(0))
        params = (
            Param(0, "map", PTR, "map"),
            Param(1, "key", PTR, "map_key"),
            Param(2, "value", PTR, "map_value"),
            Param(3, "none", PTR, "stack"),
        )
        self.callbacks += 1
        function = self.module.add(Function(f"{self.name}_len{self.callbacks}", params, I64, "callback", node.span))
        Code(self.module, function, self.events, self.environment).b.ret(Const(0))
        nothing = b.alloca(8, "nothing")
        b.store(nothing, Const(0))
        return Val(T.INT64, b.insert("for_each", (b.map(self.maps.name(info)), nothing), I64, function.name))

    def form_static_assert(self, node: A.Call) -> None:
        return None
