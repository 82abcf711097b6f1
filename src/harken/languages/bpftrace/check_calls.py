"""Calls: built-in functions, and the forms of ``forms``."""

from __future__ import annotations

from ...base.diagnostics import nearest
from ...compiler.builtins import functions, values
from ...compiler.builtins import types as T
from ...compiler.builtins.builtin import Argument
from . import ast as A
from .check_values import Values
from .formats import FormatProblem, accepts, conversions
from .forms import AGGREGATIONS, FORMS
from .model import MapInfo

__all__ = ("Calls",)


class Calls(Values):
    """Calls of functions and forms."""

    # -- calls
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
        arguments = self.arguments(node, name, builtin.words)
        if arguments is None:
            return None
        return builtin.check(self, arguments, node.span)

    def arguments(self, node: A.Call, name: str, words: tuple[str, ...] = ()) -> tuple[Argument, ...] | None:
        out = []
        for index, arg in enumerate(node.args):
            if words and isinstance(arg, A.Name):
                if arg.name not in words:
                    near = nearest(arg.name, words)
                    hint = f"did you mean {near[0]}?" if near else f"it knows {', '.join(words)}"
                    self.error(f"{name}() does not know '{arg.name}'", arg.span, hint)
                    return None
                out.append(Argument(T.NONE, arg.span, arg.name))
                continue
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
        self.look(info, node.span)
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
        target = node.args[0]
        known = self.maps.get(target.name) if isinstance(target, A.Map) and target.keys is None else None
        scalar_stack = known is not None and known.key == () and known.value is not None and known.value.kind in ("kstack", "ustack")
        if not isinstance(target, A.Map) or target.keys is not None or scalar_stack:
            kind = self.expr(target)
            if kind is not None and not self.kept(kind, target.span):
                return None
            if kind is not None and kind.kind not in ("kstack", "ustack"):
                self.error(f"len() expects a map or a stack ({kind} provided)", target.span)
            return T.INT64
        info = self.whole_map(node, "len")
        if info is not None:
            self.look(info, node.span)
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
