"""Maps: keys, values, aggregations, and their sums over all CPUs."""

from __future__ import annotations

from ...compiler.builtins import types as T
from ...compiler.builtins.code import Val
from ...compiler.builtins.events import emit
from ...compiler.builtins.numbers import log2
from ...compiler.ir import I64, PTR, Const, Value, int_type
from . import ast as A
from .lower_base import Base, ignore, position_of
from .maps import buckets, value_bytes
from .model import MapInfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("MapCode",)

_NOEXIST = 1


class MapCode(Base):
    """Code that works on maps."""

    # -- maps
    def info(self, node: A.Map) -> MapInfo:
        return self.maps.infos[node.name]

    def key(self, info: MapInfo, keys: tuple[A.Expr, ...] | None) -> Value:
        """A pointer to the packed key."""
        b = self.code.b
        parts = info.key or ()
        if not keys:
            return b.bytes(bytes(4))
        if len(keys) == 1 and isinstance(keys[0], A.Tuple) and len(parts) == len(keys[0].items):
            keys = keys[0].items
        offsets, size = T.layout(parts)
        packed = self.constant_key(parts, keys, offsets, size)
        if packed is not None:
            return b.bytes(packed)
        to = b.alloca((size + 7) // 8 * 8, "key")
        if len(keys) == 1 and len(parts) != 1:
            whole = T.tuple_of(*parts)
            self.code.store(self.expr(keys[0]), whole, to, 0, True)
            return to
        self.code.zero_gaps(parts, to, 0)
        for part, key, offset in zip(parts, keys, offsets):
            self.store_as(key, part, to, offset, True)
        return to

    def constant_key(self, parts: tuple[T.Type, ...], keys: tuple[A.Expr, ...], offsets: tuple[int, ...], size: int) -> bytes | None:
        """The key's bytes if every part is a constant."""
        if len(keys) != len(parts):
            return None
        packed = bytearray(size)
        for part, key, offset in zip(parts, keys, offsets):
            value = self.constants.get(id(key))
            if isinstance(value, int) and T.is_scalar(part):
                packed[offset : offset + part.size] = (value & ((1 << part.size * 8) - 1)).to_bytes(part.size, "little")
            elif isinstance(value, str) and part.kind == "string":
                text = value.encode("utf-8", "surrogateescape")[: part.size - 1]
                packed[offset : offset + len(text)] = text
            else:
                return None
        return bytes(packed)

    def store_as(self, node: A.Expr, kind: T.Type, to: Value, offset: int, pad: bool = False) -> None:
        """Evaluates an expression into memory as a ``kind``."""
        value = self.expr(node)
        if T.is_scalar(kind):
            value = Val(kind, self.code.convert(value, kind))
        self.code.store(value, kind, to, offset, pad)

    def with_slot(self, info: MapInfo, key: Value, use: Callable[[Value], None]) -> None:
        """Runs ``use`` on the value of a key, which is inserted as zero if it is new.  A full map counts as a loss."""
        b = self.code.b
        name = self.maps.name(info)
        if not info.key:
            where = b.lookup(name, key)
            there, done = b.block("there"), b.block("done")
            b.not_null(where, there, done)
            b.goto(there)
            use(where)
            b.br(done)
            b.goto(done)
            return
        first = b.lookup(name, key)
        there, absent, full, done = b.block("there"), b.block("absent"), b.block("full"), b.block("done")
        b.not_null(first, there, absent)
        first_end = b.at
        b.goto(absent)
        b.update(name, key, b.bytes(bytes(value_bytes(info))), _NOEXIST)
        second = b.lookup(name, key)
        b.not_null(second, there, full)
        second_end = b.at
        b.goto(full)
        b.count_loss("map", info.name)
        b.br(done)
        b.goto(there)
        where = b.phi(PTR, ((first_end, first), (second_end, second)), space="map_value")
        use(where)
        b.br(done)
        b.goto(done)

    def assign_map(self, target: A.Map, node: A.Assign) -> None:
        info = self.info(target)
        b, code = self.code.b, self.code
        kind = info.value
        assert kind is not None
        if info.here:
            amount = code.convert(self.expr(node.value), kind)
            self.send(info, target.keys, b.unary("neg", amount) if node.op == "-" else amount, node)
            return
        if node.op:
            key = self.key(info, target.keys)
            operand = self.expr(node.value)
            if node.op in ("+", "-", "&", "|", "^") and kind.size >= 4 and kind.kind == "int":
                amount = code.convert(operand, kind)
                if node.op == "-":
                    amount = b.unary("neg", amount) if not isinstance(amount, Const) else Const(-amount.signed)
                name = {"+": "add", "-": "add", "&": "and", "|": "or", "^": "xor"}[node.op]
                narrow = b.resize(amount, int_type(kind.size), False)
                self.with_slot(info, key, lambda where: ignore(b.atomic(name, where, narrow)))
                return

            def modify(where: Value) -> None:
                result = self.arithmetic(node.op, code.load(where, kind), operand, kind, node)
                code.store(Val(kind, code.convert(result, kind)), kind, where)

            self.with_slot(info, key, modify)
            return
        key = self.key(info, target.keys)
        if not info.key:
            where = b.lookup(self.maps.name(info), key)
            code.when(b.icmp("ne", where, Const(0)), lambda: self.store_as(node.value, kind, where, 0))
            return
        value = self.expr(node.value)
        placed = not T.is_scalar(kind) and value.literal is None and value.limit is None and value.fill is None
        fits = kind.kind != "string" and T.same(value.type, kind)
        if placed and fits and value.ir is not None and value.ir.space in ("stack", "map_value"):
            self.checked_update(info, key, value.ir)
            return
        slot = b.alloca((kind.size + 7) // 8 * 8, "value")
        if T.is_scalar(kind):
            value = Val(kind, code.convert(value, kind))
        elif kind.kind == "string":
            b.zero(slot, 1)
        code.store(value, kind, slot, 0, kind.kind == "string" and kind.size <= 64)
        self.checked_update(info, key, slot)

    def send(self, info: MapInfo, keys: tuple[A.Expr, ...] | None, value: Value, node: A.Node) -> None:
        """An update of a map that lies in harken, as an event."""
        kinds = info.key or ()
        parts: list[tuple[str, Val]] = []
        for number, (key, kind) in enumerate(zip(keys or (), kinds)):
            part = self.expr(key)
            parts.append((f"key{number}", Val(kind, self.code.convert(part, kind)) if T.is_scalar(kind) else part))
        assert info.value is not None
        number_kind = T.INT64 if info.value.signed else T.UINT64
        emit(
            self.code,
            "aggregate",
            (info.name, self.maps.most_keys[info.name]),
            [*parts, ("value", Val(number_kind, value))],
            position_of(node),
        )

    def checked_update(self, info: MapInfo, key: Value, value: Value) -> None:
        b = self.code.b
        status = b.update(self.maps.name(info), key, value)
        self.code.when(b.icmp("ne", status, Const(0)), lambda: ignore(b.count_loss("map", info.name)))

    def aggregate(self, target: A.Map, call: A.Call) -> None:
        """``@x[...] = count()`` and the others."""
        info, b, code = self.info(target), self.code.b, self.code
        argument = code.i64(self.expr(call.args[0])) if call.args else Const(1)
        if info.here:
            self.send(info, target.keys, argument, call)
            return
        key = self.key(info, target.keys)
        assert info.value is not None
        signed, kind = info.value.signed, info.kind

        def use(where: Value) -> None:
            if kind in ("count", "sum"):
                b.atomic("add", where, argument)
            elif kind in ("avg", "stats"):
                b.atomic("add", where, argument)
                b.atomic("add", where, Const(1), 8)
            elif kind in ("min", "max"):
                self.extreme(where, argument, kind == "min", signed)
            else:
                index = self.bucket(info, argument)
                b.atomic("add", b.gep(where, b.binary("shl", index, Const(3))), Const(1))

        self.with_slot(info, key, use)

    def extreme(self, where: Value, value: Value, least: bool, signed: bool) -> None:
        b = self.code.b
        store, test, done = b.block("take"), b.block("test"), b.block("kept")
        b.condbr(b.icmp("ne", b.load(where, I64, 8), Const(0)), test, store)
        b.goto(test)
        predicate = ("s" if signed else "u") + ("lt" if least else "gt")
        b.condbr(b.icmp(predicate, value, b.load(where, I64, 0)), store, done)
        b.goto(store)
        b.store(where, value)
        b.store(where, Const(1), 8)
        b.br(done)
        b.goto(done)

    def bucket(self, info: MapInfo, value: Value) -> Value:
        """Index of a value's bucket, bounded for the verifier."""
        b, code = self.code.b, self.code
        if info.kind == "lhist":
            low, high, step = info.params
            last = buckets(info) - 1

            def inside() -> Value:
                index = b.add(b.binary("udiv", b.sub(value, Const(low)), Const(step)), Const(1))
                return b.select(b.icmp("ult", index, Const(last)), index, Const(last))

            return code.choose(
                b.icmp("slt", value, Const(low)),
                lambda: Const(0),
                lambda: code.choose(b.icmp("sge", value, Const(high)), lambda: Const(last), inside),
            )
        bits = info.params[0] if info.params else 0
        mask = (1 << bits) - 1
        last = buckets(info) - 1

        def logarithm() -> Value:
            power = log2(code, value)
            if not bits:
                return b.add(power, Const(2))
            power = b.sub(power, Const(bits))
            inner = b.binary("and", b.binary("lshr", value, power), Const(mask))
            return b.add(b.add(b.binary("shl", b.add(power, Const(1)), Const(bits)), inner), Const(1))

        index = code.choose(
            b.icmp("slt", value, Const(0)),
            lambda: Const(0),
            lambda: code.choose(b.icmp("ule", value, Const(mask)), lambda: b.add(value, Const(1)), logarithm),
        )
        return b.select(b.icmp("ult", index, Const(last)), index, Const(last))

    def total(self, info: MapInfo, key: Value) -> Value:
        """An aggregation's value over all CPUs as I64."""
        b, code = self.code.b, self.code
        name = self.maps.name(info)
        assert info.value is not None
        first, second = code.slot("total", 0), code.slot("seen", 0)
        cpu = code.slot("cpu", 0)
        head, look, there, onward, done = (b.block(one) for one in ("cpus", "look", "there", "next", "summed"))
        b.br(head)
        b.goto(head)
        number = b.load(cpu)
        b.condbr(b.icmp("ult", number, Const(self.environment.cpus)), look, done)
        b.goto(look)
        where = b.insert("helper", (b.map(name), key, number), PTR, "map_lookup_percpu_elem", space="map_value", nullable=True)
        b.not_null(where, there, onward)
        b.goto(there)
        value = b.load(where)
        if info.kind in ("min", "max"):
            predicate = ("s" if info.value.signed else "u") + ("lt" if info.kind == "min" else "gt")

            def take() -> None:
                better = b.icmp(predicate, value, b.load(first))
                fresh = b.icmp("eq", b.load(second), Const(0))
                code.when(b.binary("or", better, fresh), lambda: ignore(b.store(first, value)))
                b.store(second, Const(1))

            code.when(b.icmp("ne", b.load(where, I64, 8), Const(0)), take)
        else:
            b.store(first, b.add(b.load(first), value))
            if info.kind in ("avg", "stats"):
                b.store(second, b.add(b.load(second), b.load(where, I64, 8)))
        b.br(onward)
        b.goto(onward)
        b.store(cpu, b.add(number, Const(1)))
        b.br(head)
        b.goto(done)
        if info.kind in ("avg", "stats"):
            count = b.load(second)
            return code.choose(
                b.icmp("ne", count, Const(0)),
                lambda: b.binary("sdiv" if info.value is not None and info.value.signed else "udiv", b.load(first), count),
                lambda: Const(0),
            )
        return b.load(first)

    def x_Map(self, node: A.Map) -> Val:
        info, b, code = self.info(node), self.code.b, self.code
        kind = info.value
        assert kind is not None
        key = self.key(info, node.keys)
        if info.kind != "value":
            return Val(self.types[id(node)], self.total(info, key))
        where = b.lookup(self.maps.name(info), key)
        if T.is_scalar(kind):
            loaded = code.choose(b.icmp("ne", where, Const(0)), lambda: code.i64(code.load(where, kind)), lambda: Const(0))
            return Val(kind, loaded)
        address = code.choose(b.icmp("ne", where, Const(0)), lambda: where, lambda: b.bytes(bytes(kind.size)))
        return Val(kind, address)
