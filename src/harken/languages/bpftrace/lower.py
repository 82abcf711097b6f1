"""Tree and types to IR.

One function per group of probes, plus one per loop body.  What loop bodies share with the probe (variables, arguments, the context)
lies in the *frame*, a small piece of the probe's stack whose address every loop body is given.

Maps: a scalar map is an array of one entry; aggregations are per CPU, so that probes on different CPUs never touch the same memory.
One lookup serves ``@x[k] += 1``: a key that is new is inserted with zero and looked up again, which also makes two CPUs that insert
the same key at the same time count both.
"""

from __future__ import annotations

from ...compiler.builtins import types as T
from ...compiler.builtins.code import Code, Val
from ...compiler.builtins.events import emit
from ...compiler.ir import I64, PTR, Const, Function, Param, Value
from ...compiler.unit import GATE
from . import ast as A
from .forms import AGGREGATIONS
from .lower_base import FRAME_PART, Body, position_of
from .lower_calls import CallCode
from .model import Variable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ("Lowerer",)

#: The most rounds of bpf_loop (include/linux/bpf_verifier.h, BPF_MAX_LOOPS).
_MAX_LOOPS = 1 << 23


class Lowerer(CallCode):
    """Builds the functions of one group."""

    # -- functions
    def build(self) -> Function:
        probe = self.group.probe
        function = self.module.add(Function(self.name, span=probe.span))
        self.body = Body(Code(self.module, function, self.events, self.environment), None, 0)
        b = self.code.b
        if GATE in self.module.maps and self.kind not in ("BEGIN", "END"):
            self.guard(b.icmp("eq", b.load(b.insert("data", (), PTR, (GATE, 0), space="map_value"), I64), Const(0)))
        if self.options.pid >= 0 and self.kind not in ("BEGIN", "END", "interval"):
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
            if not T.is_scalar(kind) and kind.size > FRAME_PART:
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
            elif isinstance(node, (A.Name, A.Call)) and node.name.removeprefix("__builtin_") in ("kstack", "ustack", "func", "probe"):
                what = ("ctx",)
            elif isinstance(node, A.Call) and node.name == "uaddr":
                what = ("ctx",) if self.kind == "uretprobe" else ("reg", self.program_counter)
            elif isinstance(node, A.Member) and isinstance(node.operand, A.Name) and node.operand.name == "args":
                if self.group.context == "tracepoint":
                    what = ("ctx",)
                else:
                    found = next(one for one in self.view.args if one.name == node.name)
                    what = ("arg", found.offset)
            if what is not None and what not in self.frame.slots:
                b.store(frame, self.register(what), self.frame.slot(what))

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
        position = position_of(node)
        self.code.when(b.icmp("uge", rounds, Const(_MAX_LOOPS)), lambda: emit(self.code, "error", ("loop_limit", position), [], position))

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
            target = (
                one.target if isinstance(one, A.Assign) else one.operand if isinstance(one, A.Unary) and one.op in ("++", "--") else None
            )
            if isinstance(target, A.Var):
                changed[self.group.variables[id(target)]] = None
        for variable in changed:
            if len(variable.functions) > 1 and variable.type is not None and T.is_scalar(variable.type):
                b.atomic("add", frame, Const(0), self.frame.slot(variable))

    def callback(self, params: tuple[Param, ...], node: A.ForMap | A.ForRange | A.While, begin: Callable[[Code], None]) -> str:
        self.callbacks += 1
        function = self.module.add(Function(f"{self.name}_loop{self.callbacks}", params, I64, "callback", node.span))
        outer = self.body
        self.body = Body(Code(self.module, function, self.events, self.environment), params[-1], id(node))
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
