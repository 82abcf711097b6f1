"""Tree and types to IR.

One function per group of probes, plus one per loop body.  What loop bodies share with the probe (variables, arguments, the context)
lies in the *frame*, a small piece of the probe's stack whose address every loop body is given.

Maps: a scalar map is an array of one entry; aggregations are per CPU, so that probes on different CPUs never touch the same memory.
One lookup serves ``@x[k] += 1``: a key that is new is inserted with zero and looked up again, which also makes two CPUs that insert
the same key at the same time count both.
"""

from __future__ import annotations

from ...base.ctype import Struct
from ...base.schema import Field, Schema
from ...compiler.builtins import functions, values
from ...compiler.builtins import types as T
from ...compiler.builtins.builtin import Argument
from ...compiler.builtins.code import Code, Environment, Events, Val
from ...compiler.ir import I1, I32, I64, PTR, Block, Const, FieldRef, Function, Module, Param, Value, int_type
from ...compiler.unit import Table
from ...formats.spec import MapSpec
from . import ast as A
from .forms import AGGREGATIONS
from .model import Group, MapInfo, Options, Variable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ("Lowerer", "Maps")

_HASH, _ARRAY, _PERCPU_HASH, _PERCPU_ARRAY, _LRU_HASH, _LRU_PERCPU_HASH = 1, 2, 5, 6, 9, 10
_NO_PREALLOC, _NOEXIST = 1, 1
#: Preallocated memory of one map above which its elements are allocated on demand.
_PREALLOC_LIMIT = 16 << 20
_DECLARED = {"hash": _HASH, "lruhash": _LRU_HASH, "percpuhash": _PERCPU_HASH, "percpulruhash": _LRU_PERCPU_HASH}
_COMPARISONS = {"==": "eq", "!=": "ne", "<": "lt", ">": "gt", "<=": "le", ">=": "ge"}
_ARITHMETIC = {"+": "add", "-": "sub", "*": "mul", "&": "and", "|": "or", "^": "xor", "<<": "shl"}
_JOIN_ARGUMENTS = 16
#: The most rounds of bpf_loop (include/linux/bpf_verifier.h, BPF_MAX_LOOPS).
_MAX_LOOPS = 1 << 23
#: Variables up to this size lie in the frame itself; of larger ones it holds the address.
_FRAME_PART = 64


class Maps:
    """The maps of a program as specifications, tables and layouts."""

    def __init__(self, infos: dict[str, MapInfo], options: Options, cpus: int) -> None:
        self.infos = infos
        self.specs: dict[str, MapSpec] = {}
        self.tables: list[Table] = []
        self._names: dict[str, str] = {}
        taken: set[str] = set()
        for info in infos.values():
            if info.value is None and info.decl is None:
                continue
            if info.value is None:
                continue
            name = ("AT_" + info.name[1:])[:15]
            number = 1
            while name in taken:
                number += 1
                name = ("AT_" + info.name[1:])[: 14 - len(str(number))] + f"_{number}"
            taken.add(name)
            self._names[info.name] = name
            self._add(info, name, options, cpus)

    def name(self, info: MapInfo) -> str:
        """The MapSpec's name."""
        return self._names[info.name]

    def _add(self, info: MapInfo, name: str, options: Options, cpus: int) -> None:
        key = info.key or ()
        key_size = T.layout(key)[1] if key else 4
        value_size = value_bytes(info)
        per_cpu = info.kind != "value"
        kind = (_PERCPU_HASH if per_cpu else _HASH) if key else (_PERCPU_ARRAY if per_cpu else _ARRAY)
        entries = options.max_map_keys if key else 1
        if info.decl is not None and key:
            entries = info.decl.entries
            kind = _DECLARED[info.decl.type]
            per_cpu = kind in (_PERCPU_HASH, _LRU_PERCPU_HASH)
        flags = 0
        if kind in (_HASH, _PERCPU_HASH) and (value_size * (cpus if per_cpu else 1) + key_size) * entries > _PREALLOC_LIMIT:
            flags = _NO_PREALLOC
        self.specs[name] = MapSpec(name, kind, key_size, value_size, entries, flags)
        names = tuple(f"key{i}" for i in range(len(key))) if len(key) != 1 else ("key",)
        schema = Schema("key", key_size if key else 0, T.fields(key, names) if key else ())
        self.tables.append(Table(info.name, name, info.kind, schema, value_schema(info), per_cpu, info.params))

    def per_cpu(self, info: MapInfo) -> bool:
        return self.specs[self.name(info)].type in (_PERCPU_HASH, _PERCPU_ARRAY, _LRU_PERCPU_HASH)


def buckets(info: MapInfo) -> int:
    """Number of buckets of a histogram."""
    if info.kind == "lhist":
        low, high, step = info.params
        return (high - low) // step + 2
    bits = info.params[0] if info.params else 0
    return ((65 - bits) << bits) + 1


def value_bytes(info: MapInfo) -> int:
    if info.kind == "value":
        assert info.value is not None
        return max(1, info.value.size)
    return {"count": 8, "sum": 8, "min": 16, "max": 16, "avg": 16, "stats": 16}.get(info.kind) or buckets(info) * 8


def value_schema(info: MapInfo) -> Schema:
    assert info.value is not None
    size, kind = value_bytes(info), info.kind
    code = "q" if info.value.signed else "Q"
    if kind == "value":
        fields: tuple[Field, ...] = (T.field("value", info.value, 0),)
    elif kind == "count":
        fields = (Field("count", 0, "Q"),)
    elif kind == "sum":
        fields = (Field("sum", 0, code),)
    elif kind in ("min", "max"):
        fields = (Field(kind, 0, code), Field("set", 8, "Q"))
    elif kind in ("avg", "stats"):
        fields = (Field("total", 0, code), Field("count", 8, "Q"))
    else:
        fields = (Field("buckets", 0, "Q", buckets(info)),)
    return Schema(kind, size, fields)


class _Frame:
    """What the probe and its loop bodies share: slots of eight bytes."""

    def __init__(self) -> None:
        self.slots: dict[object, int] = {}

    def slot(self, key: object) -> int:
        if key not in self.slots:
            self.slots[key] = len(self.slots) * 8
        return self.slots[key]

    @property
    def size(self) -> int:
        return max(8, len(self.slots) * 8)


class _Body:
    """One function under construction."""

    def __init__(self, code: Code, frame: Value | None, number: int) -> None:
        self.code, self.frame, self.number = code, frame, number
        self.places: dict[Variable, Value] = {}
        #: (continue, break) blocks of native loops
        self.loops: list[tuple[Block, Block]] = []
        self.pairs: dict[Variable, tuple[Val, Val]] = {}


class Lowerer:
    """Builds the functions of one group.  As the ``site`` of built-ins it knows the probe."""

    def __init__(
        self,
        group: Group,
        module: Module,
        maps: Maps,
        events: Events,
        environment: Environment,
        options: Options,
        catalogue: Any,
        name: str,
    ) -> None:
        self.group, self.module, self.maps, self.events = group, module, maps, events
        self.environment, self.options, self.catalogue, self.name = environment, options, catalogue, name
        self.types, self.constants = group.types, group.constants
        self.view = group.view
        self.kind = group.kind
        self.default_space = "any" if group.view.space != "user" else "user"
        self.frame = _Frame()
        self.callbacks = 0

    @property
    def function_text(self) -> str:
        return self.view.function

    @property
    def probe_text(self) -> str:
        return self.group.probe_text

    @property
    def code(self) -> Code:
        return self.body.code

    # -- functions
    def build(self) -> Function:
        probe = self.group.probe
        function = self.module.add(Function(self.name, span=probe.span))
        self.body = _Body(Code(self.module, function, self.events, self.environment), None, 0)
        b = self.code.b
        if self.options.pid >= 0 and self.kind not in ("BEGIN", "END"):
            self.guard(b.icmp("eq", self.code.current_pid(), Const(self.options.pid)))
        if probe.filter is not None:
            b.span = probe.filter.span
            self.guard(self.truth(probe.filter))
        loops = [node for node in A.walk(probe.body) if isinstance(node, (A.ForMap, A.ForRange, A.While))]
        frame = None
        if loops:
            frame = b.alloca(8, "frame")
            self.body.frame = frame
            self.capture(loops)
        self.block(probe.body)
        if not self.code.b.ended:
            self.code.b.ret(Const(0))
        if frame is not None:
            frame.attr = (self.frame.size, 8, "frame")
        return function

    def guard(self, condition: Value) -> None:
        """Leaves the program unless the condition holds."""
        b = self.code.b
        go, leave = b.block("go"), b.block("leave")
        b.condbr(condition, go, leave)
        b.goto(leave)
        b.ret(Const(0))
        b.goto(go)

    def capture(self, loops: list[A.ForMap | A.ForRange | A.While]) -> None:
        """Fills the frame: variables that loop bodies share with others, and what these bodies need of the context.

        Loop bodies are functions of their own and do not get the context.
        """
        b, frame = self.code.b, self.body.frame
        assert frame is not None
        b.store(frame, Const(0), self.frame.slot("returned"))
        for variable in dict.fromkeys(self.group.variables.values()):
            kind = variable.type
            if len(variable.functions) < 2 or kind is None:
                continue
            slot = self.frame.slot(variable)
            if not T.is_scalar(kind) and kind.size > _FRAME_PART:
                b.store(frame, b.alloca((kind.size + 7) // 8 * 8, variable.name), slot)
                continue
            b.store(frame, Const(0), slot)
            for extra in range(1, (kind.size + 7) // 8):
                b.store(frame, Const(0), self.frame.slot((variable, extra)))
        inside = [loop.body for loop in loops] + [(loop.condition,) for loop in loops if isinstance(loop, A.While)]
        for node in A.walk(tuple(inside)):
            what: tuple[Any, ...] | None = None
            if isinstance(node, A.Name) and node.name.startswith("arg") and node.name[3:].isdecimal():
                what = ("arg", int(node.name[3:]))
            elif isinstance(node, A.Name) and node.name == "retval":
                what = ("retval",)
            elif isinstance(node, A.Call) and node.name == "reg":
                what = ("reg", str(self.constants.get(id(node.args[0]))))
            elif isinstance(node, A.Member) and isinstance(node.operand, A.Name) and node.operand.name == "args":
                if self.group.context == "tracepoint":
                    what = ("ctx",)
                else:
                    found = next(one for one in self.view.args if one.name == node.name)
                    what = ("arg", found.offset)
            if what is not None and what not in self.frame.slots:
                b.store(frame, self.register(what), self.frame.slot(what))

    def register(self, what: tuple[Any, ...]) -> Value:
        """An argument, the return value or a register of the probe, also inside of loop bodies."""
        b = self.code.b
        if self.body.number:
            assert self.body.frame is not None
            if what[0] == "ctx":
                return b.load(self.body.frame, PTR, self.frame.slot(what), space="ctx")
            return b.load(self.body.frame, I64, self.frame.slot(what))
        if what[0] == "arg":
            return self.argument_value(what[1])
        if what[0] == "retval":
            return b.retval()
        if what[0] == "reg":
            return b.reg(what[1])
        return b.ctx()

    def argument_value(self, number: int) -> Value:
        """``argN``; those of USDT probes are where the probe's note says."""
        b = self.code.b
        if not self.view.operands:
            return b.arg(number)
        operand = self.view.operands[number]
        if operand.kind == "const":
            return Const(operand.value)
        value: Value = b.reg(operand.register) if operand.register else Const(0)
        if operand.kind == "mem":
            if operand.index:
                value = b.add(value, b.binary("mul", b.reg(operand.index), Const(operand.scale)))
            value = b.load(b.to_pointer(b.add(value, Const(operand.value)), "user"), int_type(operand.size))
            return b.resize(value, I64, operand.signed)
        return b.resize(b.resize(value, int_type(operand.size), False), I64, operand.signed)

    # -- statements
    def block(self, body: tuple[A.Stmt, ...]) -> None:
        for statement in body:
            if self.code.b.ended:
                return
            self.code.b.span = statement.span
            getattr(self, "stmt_" + type(statement).__name__)(statement)

    def stmt_ExprStmt(self, node: A.ExprStmt) -> None:
        value = node.value
        if isinstance(value, A.Ternary):
            self.code.when(self.truth(value.condition), lambda: self.effect(value.then), lambda: self.effect(value.otherwise))
            return
        self.effect(value)

    def effect(self, node: A.Expr | None) -> None:
        """An expression for what it does."""
        if isinstance(node, A.Call) and node.name in (
            "printf",
            "print",
            "clear",
            "zero",
            "exit",
            "time",
            "join",
            "cat",
            "system",
            "errorf",
            "warnf",
        ):
            getattr(self, "form_" + node.name)(node)
        elif isinstance(node, A.Unary) and node.op in ("++", "--"):
            self.increment(node, False)
        elif node is not None and not isinstance(node, (A.IntLit, A.StrLit, A.BoolLit, A.Name)):
            self.expr(node)

    def stmt_Assign(self, node: A.Assign) -> None:
        target, value = node.target, node.value
        if isinstance(target, A.Name):
            self.effect(value)
        elif isinstance(value, A.Call) and value.name in AGGREGATIONS and not node.op:
            assert isinstance(target, A.Map)
            self.aggregate(target, value)
        elif isinstance(target, A.Var):
            variable = self.group.variables[id(target)]
            if node.op:
                assert variable.type is not None
                result = self.arithmetic(node.op, self.read(variable), self.expr(value), variable.type, node)
                self.assign(variable, result)
            else:
                self.assign(variable, self.expr(value))
        elif isinstance(target, A.Map):
            self.assign_map(target, node)

    def stmt_Let(self, node: A.Let) -> None:
        variable = self.group.variables[id(node)]
        if variable.type is None:
            return
        if node.value is not None:
            self.assign(variable, self.expr(node.value))
            return
        to, offset = self.place(variable)
        if T.is_scalar(variable.type):
            self.code.b.store(to, Const(0), offset)
        else:
            self.code.b.zero(to, variable.type.size, offset)

    def stmt_If(self, node: A.If) -> None:
        otherwise = (lambda: self.block(node.otherwise)) if node.otherwise else None
        constant = self.constants.get(id(node.condition))
        if isinstance(constant, int):
            self.block(node.then if constant else node.otherwise)
            return
        b = self.code.b
        yes, done = b.block("then"), b.block("done")
        no = b.block("else") if otherwise is not None else done
        self.branch(node.condition, yes, no)
        b.goto(yes)
        self.block(node.then)
        reached = otherwise is None
        if not b.ended:
            b.br(done)
            reached = True
        if otherwise is not None:
            b.goto(no)
            otherwise()
            if not b.ended:
                b.br(done)
                reached = True
        b.goto(done)
        if not reached:
            b.insert("unreachable")

    def branch(self, node: A.Expr, yes: Block, no: Block) -> None:
        """A condition as jumps: && and || evaluate their right side only when it matters."""
        b = self.code.b
        if isinstance(node, A.Binary) and node.op in ("&&", "||"):
            middle = b.block("and" if node.op == "&&" else "or")
            if node.op == "&&":
                self.branch(node.left, middle, no)
            else:
                self.branch(node.left, yes, middle)
            b.goto(middle)
            self.branch(node.right, yes, no)
        elif isinstance(node, A.Unary) and node.op == "!":
            self.branch(node.operand, no, yes)
        else:
            condition = self.truth(node)
            if isinstance(condition, Const):
                b.br(yes if condition.value else no)
            else:
                b.condbr(condition, yes, no)

    def stmt_While(self, node: A.While) -> None:
        """A loop that the kernel bounds: the verifier need not understand why it ends."""
        b, frame = self.code.b, self.body.frame
        assert frame is not None
        index, context = Param(0, "index", I64), Param(1, "frame", PTR, "stack")

        def begin(code: Code) -> None:
            go, leave = code.b.block("go"), code.b.block("leave")
            self.branch(node.condition, go, leave)
            code.b.goto(leave)
            code.b.ret(Const(1))
            code.b.goto(go)

        name = self.callback((index, context), node, begin)
        self.blur(node)
        rounds = b.insert("loop", (Const(_MAX_LOOPS), frame), I64, name)
        self.returned()
        position = _position(node)
        self.code.when(
            b.icmp("uge", rounds, Const(_MAX_LOOPS)), lambda: self.code.emit("error", ("loop_limit", position), [], position)
        )

    def stmt_Unroll(self, node: A.Unroll) -> None:
        b = self.code.b
        count = self.constants[id(node.count)]
        assert isinstance(count, int)
        done = b.block("unrolled")
        for _ in range(count):
            onward = b.block("again")
            self.body.loops.append((onward, done))
            self.block(node.body)
            self.body.loops.pop()
            if not b.ended:
                b.br(onward)
            b.goto(onward)
        b.br(done)
        b.goto(done)

    def stmt_Block(self, node: A.Block) -> None:
        self.block(node.body)

    def stmt_Jump(self, node: A.Jump) -> None:
        if node.kind == "return":
            if node.value is not None:
                self.effect(node.value)
            self.leave()
            return
        b = self.code.b
        if self.body.loops:
            onward, done = self.body.loops[-1]
            b.br(onward if node.kind == "continue" else done)
        else:
            b.ret(Const(int(node.kind == "break")))

    def leave(self) -> None:
        """Ends the action; from a loop body, by a flag that the probe looks at."""
        b = self.code.b
        if self.body.number:
            assert self.body.frame is not None
            b.store(self.body.frame, Const(1), self.frame.slot("returned"))
            b.ret(Const(1))
        else:
            b.ret(Const(0))

    # -- loops with bodies of their own
    def stmt_ForRange(self, node: A.ForRange) -> None:
        b = self.code.b
        start = self.code.i64(self.expr(node.start))
        stop = self.code.i64(self.expr(node.stop))
        frame = self.body.frame
        assert frame is not None
        slot = self.frame.slot(("start", id(node)))
        b.store(frame, start, slot)
        count: Value
        if isinstance(start, Const) and isinstance(stop, Const):
            count = Const(max(0, stop.signed - start.signed))
        else:
            count = b.select(b.icmp("sgt", stop, start), b.sub(stop, start), Const(0))
        variable = self.group.variables[id(node)]
        index, context = Param(0, "index", I64), Param(1, "frame", PTR, "stack")

        def begin(code: Code) -> None:
            self.assign(variable, Val(T.INT64, code.b.add(code.b.load(context, I64, slot), index)))

        name = self.callback((index, context), node, begin)
        self.blur(node)
        b.insert("loop", (count, frame), I64, name)
        self.returned()

    def stmt_ForMap(self, node: A.ForMap) -> None:
        assert isinstance(node.map, A.Map)
        info = self.maps.infos[node.map.name]
        if info.value is None or info.key is None:
            return
        b, frame = self.code.b, self.body.frame
        assert frame is not None
        variable = self.group.variables[id(node)]
        which, key, value, context = (
            Param(0, "map", PTR, "map"),
            Param(1, "key", PTR, "map_key"),
            Param(2, "value", PTR, "map_value"),
            Param(3, "frame", PTR, "stack"),
        )
        assert variable.type is not None
        key_type, value_type = variable.type.parts
        whole = len(variable.functions) > 1 or any(
            isinstance(one, A.Var) and one.name == node.name and id(one) not in self.members(node.body) for one in A.walk(node.body)
        )

        def begin(code: Code) -> None:
            first = code.load(key, key_type)
            if info.kind != "value":
                second = Val(value_type, self.total(info, key))
            else:
                second = code.load(value, value_type)
            self.body.pairs[variable] = (first, second)
            if whole:
                to, offset = self.place(variable)
                offsets, _ = T.layout(variable.type.parts)  # type: ignore[union-attr]
                code.store(first, key_type, to, offset + offsets[0])
                code.store(second, value_type, to, offset + offsets[1])

        name = self.callback((which, key, value, context), node, begin)
        self.blur(node)
        b.insert("for_each", (b.map(self.maps.name(info)), frame), I64, name)
        self.returned()

    @staticmethod
    def members(body: tuple[A.Stmt, ...]) -> set[int]:
        """Ids of variables of which only a part is used."""
        found = set()
        for node in A.walk(body):
            if isinstance(node, (A.Member, A.Index)) and isinstance(node.operand, A.Var):
                found.add(id(node.operand))
        return found

    def blur(self, node: A.ForMap | A.ForRange | A.While) -> None:
        """Makes the verifier forget the values of variables that a loop changes.

        It would otherwise follow a counter through every round, and give up after a million instructions.  An atomic operation on
        the stack leaves the slot with a value that it does not know.
        """
        b, frame = self.code.b, self.body.frame
        assert frame is not None
        changed: dict[Variable, None] = {}
        for one in A.walk(node.body):
            target = one.target if isinstance(one, A.Assign) else one.operand if isinstance(one, A.Unary) and one.op in ("++", "--") else None
            if isinstance(target, A.Var):
                changed[self.group.variables[id(target)]] = None
        for variable in changed:
            if len(variable.functions) > 1 and variable.type is not None and T.is_scalar(variable.type):
                b.atomic("add", frame, Const(0), self.frame.slot(variable))

    def callback(self, params: tuple[Param, ...], node: A.ForMap | A.ForRange | A.While, begin: Callable[[Code], None]) -> str:
        self.callbacks += 1
        function = self.module.add(Function(f"{self.name}_loop{self.callbacks}", params, I64, "callback", node.span))
        outer = self.body
        self.body = _Body(Code(self.module, function, self.events, self.environment), params[-1], id(node))
        begin(self.body.code)
        self.block(node.body)
        if not self.code.b.ended:
            self.code.b.ret(Const(0))
        self.body = outer
        return function.name

    def returned(self) -> None:
        """After a loop: leaves if its body returned."""
        b = self.code.b
        frame = self.body.frame
        assert frame is not None
        flag = b.load(frame, I64, self.frame.slot("returned"))
        leave, onward = b.block("returned"), b.block("after")
        b.condbr(b.icmp("ne", flag, Const(0)), leave, onward)
        b.goto(leave)
        b.ret(Const(int(bool(self.body.number))))
        b.goto(onward)

    # -- variables
    def place(self, variable: Variable) -> tuple[Value, int]:
        """Where a variable is stored: (pointer, offset)."""
        kind = variable.type
        assert kind is not None
        b = self.code.b
        if len(variable.functions) > 1:
            assert self.body.frame is not None
            slot = self.frame.slot(variable)
            if T.is_scalar(kind) or kind.size <= _FRAME_PART:
                return self.body.frame, slot
            return b.load(self.body.frame, PTR, slot, space="stack"), 0
        place = self.body.places.get(variable)
        if place is None:
            place = self.body.places[variable] = b.alloca(8 if T.is_scalar(kind) else (kind.size + 7) // 8 * 8, variable.name)
        return place, 0

    def assign(self, variable: Variable, value: Val) -> None:
        kind = variable.type
        assert kind is not None
        to, offset = self.place(variable)
        if T.is_scalar(kind):
            self.code.b.store(to, self.code.convert(value, kind), offset)
        else:
            self.code.store(value, kind, to, offset)

    def read(self, variable: Variable) -> Val:
        kind = variable.type
        assert kind is not None
        to, offset = self.place(variable)
        if T.is_scalar(kind):
            return Val(kind, self.code.b.load(to, I64, offset))
        return Val(kind, self.code.at(to, offset))

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
        b.goto(absent)
        b.update(name, key, b.bytes(bytes(value_bytes(info))), _NOEXIST)
        second = b.lookup(name, key)
        b.not_null(second, there, full)
        second_end = b.at
        b.goto(full)
        b.count_loss("map", info.name)
        b.br(done)
        b.goto(there)
        first_end = next(block for block in self.code.function.blocks if first in block.insts)
        where = b.phi(PTR, ((first_end, first), (second_end, second)), space="map_value")
        use(where)
        b.br(done)
        b.goto(done)

    def assign_map(self, target: A.Map, node: A.Assign) -> None:
        info = self.info(target)
        b, code = self.code.b, self.code
        kind = info.value
        assert kind is not None
        if node.op:
            key = self.key(info, target.keys)
            operand = self.expr(node.value)
            if node.op in ("+", "-", "&", "|", "^") and kind.size >= 4 and kind.kind == "int":
                amount = code.convert(operand, kind)
                if node.op == "-":
                    amount = b.unary("neg", amount) if not isinstance(amount, Const) else Const(-amount.signed)
                name = {"+": "add", "-": "add", "&": "and", "|": "or", "^": "xor"}[node.op]
                narrow = b.resize(amount, int_type(kind.size), False)
                self.with_slot(info, key, lambda where: _ignore(b.atomic(name, where, narrow)))
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

    def checked_update(self, info: MapInfo, key: Value, value: Value) -> None:
        b = self.code.b
        status = b.update(self.maps.name(info), key, value)
        self.code.when(b.icmp("ne", status, Const(0)), lambda: _ignore(b.count_loss("map", info.name)))

    def aggregate(self, target: A.Map, call: A.Call) -> None:
        """``@x[...] = count()`` and the others."""
        info, b, code = self.info(target), self.code.b, self.code
        argument = code.i64(self.expr(call.args[0])) if call.args else Const(1)
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
            rest, shift = code.slot("rest", 0), code.slot("log", 0)
            b.store(rest, value)
            for step in (32, 16, 8, 4, 2, 1):
                current = b.load(rest)

                def halve(current: Value = current, step: int = step) -> None:
                    b.store(rest, b.binary("lshr", current, Const(step)))
                    b.store(shift, b.add(b.load(shift), Const(step)))

                code.when(b.icmp("ugt", current, Const((1 << step) - 1)), halve)
            power = b.load(shift)
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
                code.when(b.binary("or", better, fresh), lambda: _ignore(b.store(first, value)))
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
            b = self.code.b
            yes, no, done = b.block("yes"), b.block("no"), b.block("join")
            self.branch(node, yes, no)
            b.goto(yes)
            b.br(done)
            b.goto(no)
            b.br(done)
            b.goto(done)
            return b.phi(I1, ((yes, Const(1, I1)), (no, Const(0, I1))))
        value = self.expr(node)
        if value.type.kind == "string":
            return self.code.b.unary("not", self.code.string_equals(value, Val(T.string(1), literal=b"")))
        return self.code.truth(value)

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

    def load_from(self, pointer: Val, kind: T.Type, offset: Value) -> Val:
        """What a pointer points to."""
        b, code = self.code.b, self.code
        space = pointer.type.space if pointer.type.kind == "ptr" else ""
        address = code.pointer(pointer, self.memory(space))
        if not (isinstance(offset, Const) and offset.value == 0):
            address = b.gep(address, offset)
        if kind.kind in ("struct", "array", "string"):
            return Val(kind, address)
        return code.load(address, kind)

    def memory(self, space: str) -> str:
        """A pointer's space as IR knows it: untyped addresses belong to what the probe traces."""
        if space in ("user", "kernel", "stack", "map_value", "ctx", "btf"):
            return space if space != "btf" else "kernel"
        return "user" if self.view.space == "user" else "kernel"

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

    @staticmethod
    def pointed(kind: T.Type) -> int:
        """Size of what a pointer points to; 1 for void."""
        return max(1, kind.ctype.strip().size) if kind.ctype is not None else 1

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
            equal = code.string_equals(left, right)
            return equal if op == "==" else _negate(b, equal)
        if not T.is_scalar(left.type):
            a, z = code.spill(left, True), code.spill(right, True)
            assert a.ir is not None and z.ir is not None
            equal = code.words_equal(a.ir, z.ir, left.type.size)
            return equal if op == "==" else _negate(b, equal)
        name = _COMPARISONS[op]
        if name in ("eq", "ne"):
            return b.icmp(name, code.i64(left), code.i64(right))
        unsigned = (not left.type.signed or _positive(self.constants.get(id(node.left)))) and (
            not right.type.signed or _positive(self.constants.get(id(node.right)))
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

    def scale(self, value: Value, size: int) -> Value:
        return value if size == 1 else self.code.b.binary("mul", value, Const(size))

    def divide(self, op: str, a: Value, z: Value, left: Val, right: Val, kind: T.Type, node: A.Node) -> Value:
        """Division; by zero it gives 1 and says so."""
        b = self.code.b
        signed = kind.signed
        name = ("s" if signed else "u") + ("div" if op == "/" else "mod")
        if isinstance(z, Const) and z.value:
            return b.binary(name, a, z)

        def warn() -> Value:
            self.code.emit("error", ("div_zero", _position(node)), [], _position(node))
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

    def x_Tuple(self, node: A.Tuple | A.RecordLit) -> Val:
        kind = self.types[id(node)]
        offsets, _ = T.layout(kind.parts)

        def fill(to: Value, base: int) -> None:
            self.code.zero_gaps(kind.parts, to, base)
            for item, part, offset in zip(node.items, kind.parts, offsets):
                self.store_as(item, part, to, base + offset, part.kind != "string" or part.size <= 64)

        return Val(kind, fill=fill)

    x_RecordLit = x_Tuple

    def x_Cast(self, node: A.Cast) -> Val:
        value, kind = self.expr(node.operand), self.types[id(node)]
        code = self.code
        if T.is_scalar(kind):
            if T.is_scalar(value.type):
                if kind.kind == "ptr":
                    return Val(kind, code.i64(value))
                return Val(kind, code.convert(value, kind))
            if kind.kind == "ptr":
                memory = code.spill(value) if value.ir is None else value
                assert memory.ir is not None
                return Val(kind, code.b.to_int(memory.ir))
            memory = code.spill(value, True)
            assert memory.ir is not None
            return code.load(memory.ir, kind)
        if T.is_scalar(value.type):
            slot = code.b.alloca((max(8, kind.size) + 7) // 8 * 8, "cast")
            code.b.store(slot, code.i64(value))
            return Val(kind, slot)
        if value.type.kind == "string" and (value.ir is None or value.limit is not None or value.ir.space == "any"):
            value = code.spill(value, True)
        if kind.size > value.type.size and kind.kind != "string":
            slot = code.b.alloca((kind.size + 7) // 8 * 8, "cast")
            code.store(value, kind.replace(kind="buf"), slot)
            return Val(kind, slot)
        return Val(kind, value.ir, value.literal, value.fill, value.limit, value.padded)

    # -- members
    def x_Member(self, node: A.Member) -> Val:
        operand = node.operand
        if isinstance(operand, A.Name) and operand.name == "args":
            return self.argument(node)
        if isinstance(operand, A.Var):
            pair = self.body.pairs.get(self.group.variables[id(operand)])
            if pair is not None:
                return pair[int(node.name)]
        kind = self.types[id(operand)]
        if kind.kind in ("tuple", "record"):
            index = kind.names.index(node.name) if kind.kind == "record" and node.name in kind.names else int(node.name)
            return self.part(self.expr(operand), index)
        return self.member(self.expr(operand), node)

    def part(self, value: Val, index: int) -> Val:
        value = self.code.spill(value)
        assert value.ir is not None
        offsets, _ = T.layout(value.type.parts)
        return self.code.load(value.ir, value.type.parts[index], offsets[index])

    def member(self, value: Val, node: A.Member) -> Val:
        """A field of a struct that is pointed to or lies in memory."""
        code = self.code
        ctype = value.type.ctype
        struct = ctype.strip() if ctype is not None else None
        assert isinstance(struct, Struct)
        member = struct.member(node.name)
        assert member is not None
        if value.type.kind == "ptr":
            base = code.pointer(value, self.memory(value.type.space))
        else:
            base = self.remote(code.spill(value) if value.ir is None else value)
        if member.bit_size:
            return self.bit_field(
                base, struct, node.name, member.bit_offset, member.bit_size, member.type.strip().size, self.types[id(node)]
            )
        kind = T.from_ctype(member.type, value.type.space or "kernel")
        where = self.field(base, struct, node.name, member.bit_offset // 8)
        return code.load(where, kind) if T.is_scalar(kind) else Val(kind, where)

    def field(self, base: Value, struct: Struct, path: str, offset: int) -> Value:
        b = self.code.b
        if struct.name and base.space in ("kernel", "btf"):
            return b.field(base, FieldRef(struct.name, path, offset))
        return self.code.at(base, offset)

    def remote(self, value: Val) -> Value:
        assert value.ir is not None
        return value.ir

    def bit_field(self, base: Value, struct: Struct, name: str, bit: int, width: int, size: int, kind: T.Type) -> Val:
        b = self.code.b
        size = max(1, size)
        start = bit // (size * 8) * size
        shift = bit - start * 8
        if shift + width > size * 8 and size < 8:
            size, start = 8, bit // 8
            shift = bit - start * 8
        raw = b.resize(b.load(self.code.at(base, start), int_type(size)), I64, False)
        raw = b.binary("shl", raw, Const(64 - shift - width))
        return Val(kind, b.binary("ashr" if kind.signed else "lshr", raw, Const(64 - width)))

    def argument(self, node: A.Member) -> Val:
        """``args.name``."""
        b, code = self.code.b, self.code
        kind = self.types[id(node)]
        found = next(one for one in self.view.args if one.name == node.name)
        if self.group.context != "tracepoint":
            raw = Val(T.UINT64, self.register(("arg", found.offset)))
            return Val(kind, code.convert(raw, kind) if T.is_scalar(kind) else raw.ir)
        context = self.register(("ctx",))
        if found.data_loc:
            word = b.resize(b.load(context, I32, found.offset), I64, False)
            start = b.add(b.to_int(context), b.binary("and", word, Const(0xFFFF)))
            if kind.kind == "ptr":
                return Val(kind, start)
            return Val(kind, b.to_pointer(start, "kernel"))
        if T.is_scalar(kind):
            return code.load(context, kind, found.offset)
        return Val(kind, b.to_pointer(b.add(b.to_int(context), Const(found.offset)), "kernel"))

    def x_Index(self, node: A.Index) -> Val:
        b, code = self.code.b, self.code
        operand = node.operand
        kind = self.types[id(operand)]
        element = self.types[id(node)]
        constant = self.constants.get(id(node.index))
        if kind.kind == "tuple":
            if isinstance(operand, A.Var):
                pair = self.body.pairs.get(self.group.variables[id(operand)])
                if pair is not None:
                    return pair[int(constant or 0)]
            return self.part(self.expr(operand), int(constant or 0))
        value = self.expr(operand)
        index = code.i64(self.expr(node.index))
        if kind.kind == "ptr":
            return self.load_from(value, element, self.scale(index, max(1, element.size)))
        value = code.spill(value) if value.ir is None or value.limit is not None else value
        assert value.ir is not None
        size = max(1, element.size)
        if isinstance(index, Const):
            return code.load(code.at(value.ir, index.value * size), element)
        count = kind.count if kind.kind == "array" else kind.size
        if not count or value.ir.space in ("kernel", "user"):
            if count:
                index = b.select(b.icmp("ult", index, Const(count)), index, Const(0))
            return code.load(b.gep(value.ir, self.scale(index, size)), element)

        def inside() -> Value:
            return code.i64(code.load(b.gep(value.ir, self.scale(index, size)), element))  # type: ignore[arg-type]

        if T.is_scalar(element):
            return Val(element, code.choose(b.icmp("ult", index, Const(count)), inside, lambda: Const(0)))
        bounded = b.select(b.icmp("ult", index, Const(count)), index, Const(0))
        return code.load(b.gep(value.ir, self.scale(bounded, size)), element)

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
        arguments = tuple(Argument(self.types[id(arg)], arg.span, self.constants.get(id(arg))) for arg in node.args)
        return builtin.lower(self.code, self.types[id(node)], [self.expr(arg) for arg in node.args], arguments, self)

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
        self.code.emit(action, (format,), self.fields(node.args[1:]), _position(node))

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
            self.code.emit("print_map", (info.name, top, div), [], _position(node))
            return
        self.code.emit("print_value", (), self.fields((target,)), _position(node))

    def form_clear(self, node: A.Call) -> None:
        target = node.args[0]
        assert isinstance(target, A.Map)
        if self.info(target).value is not None:
            self.code.emit(node.name, (target.name,), [], _position(node))

    form_zero = form_clear

    def form_exit(self, node: A.Call) -> None:
        if not node.args:
            self.code.emit("exit", (0,), [], _position(node))
        else:
            constant = self.constants.get(id(node.args[0]))
            if isinstance(constant, int):
                self.code.emit("exit", (constant & 0xFF,), [], _position(node))
            else:
                value = Val(T.INT64, self.code.i64(self.expr(node.args[0])))
                self.code.emit("exit", (-1,), [("code", value)], _position(node))
        self.leave()
        self.code.b.goto(self.code.b.block("after_exit"))
        self.code.b.insert("unreachable")

    def form_time(self, node: A.Call) -> None:
        format = self.constants[id(node.args[0])] if node.args else "%H:%M:%S\n"
        self.code.emit("time", (format,), [], _position(node))

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
        code.emit("join", (separator,), strings, _position(node))

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
            code.emit("zero", (info.name,), [], _position(node))
            return Val(T.BOOL, Const(1))
        where = b.lookup(self.maps.name(info), key)
        code.when(b.icmp("ne", where, Const(0)), lambda: _ignore(b.zero(where, value_bytes(info))))
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
        """Walks through the map: what the walk returns is the number of keys."""
        target = node.args[0]
        assert isinstance(target, A.Map)
        info, b = self.info(target), self.code.b
        if info.value is None:
            return Val(T.INT64, Const(0))
        params = (Param(0, "map", PTR, "map"), Param(1, "key", PTR, "map_key"), Param(2, "value", PTR, "map_value"), Param(3, "none", PTR, "stack"))
        self.callbacks += 1
        function = self.module.add(Function(f"{self.name}_len{self.callbacks}", params, I64, "callback", node.span))
        Code(self.module, function, self.events, self.environment).b.ret(Const(0))
        nothing = b.alloca(8, "nothing")
        b.store(nothing, Const(0))
        return Val(T.INT64, b.insert("for_each", (b.map(self.maps.name(info)), nothing), I64, function.name))

    def form_static_assert(self, node: A.Call) -> None:
        return None


def _ignore(value: object) -> None:
    """Callbacks that build one instruction return nothing."""


def _negate(b: Any, condition: Value) -> Value:
    if isinstance(condition, Const):
        return Const(1 - condition.value, I1)
    return b.binary("xor", condition, Const(1, I1))  # type: ignore[no-any-return]


def _positive(value: object) -> bool:
    return isinstance(value, int) and value >= 0


def _position(node: A.Node) -> str:
    from ...base.diagnostics import error

    return error("", node.span).position
