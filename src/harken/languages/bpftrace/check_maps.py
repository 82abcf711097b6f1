"""Maps: keys and values that hold all that is assigned to them."""

from __future__ import annotations

from ...base.diagnostics import Span
from ...compiler.builtins import types as T
from . import ast as A
from .check_types import Types
from .forms import AGGREGATIONS
from .model import MapInfo

__all__ = ("Maps",)

_LHIST_MAX = 1000


class Maps(Types):
    """Accesses, assignments and aggregations."""

    # -- maps
    def map_access(self, node: A.Map, assign: bool = False) -> MapInfo:
        """Notes the keys of one access."""
        info = self.maps.get(node.name)
        if info is None:
            info = self.maps[node.name] = MapInfo(node.name, node.span)
        if assign:
            info.assigned = True
        else:
            self.look(info, node.span)
        self.map_keys(info, node.keys, node.span)
        return info

    @staticmethod
    def look(info: MapInfo, span: Span) -> None:
        """Notes that the program reads a map, or does to it what needs its present value."""
        info.read = True
        info.looked = info.looked or span

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
        info.here = info.here or any(T.is_copied(kind) for kind in kinds)
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
        if not self.kept(value, span):
            return
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

    def pair(self, info: MapInfo) -> T.Type | None:
        """The type of ``$kv``."""
        if info.key is None or info.value is None:
            return None
        key = info.key[0] if len(info.key) == 1 else T.tuple_of(*info.key)
        value = info.value if info.kind == "value" else T.INT64
        return T.tuple_of(key, value)

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
