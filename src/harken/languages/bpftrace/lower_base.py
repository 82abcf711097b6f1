"""What all of lowering shares: the function under construction, the frame, variables and the probe's registers."""

from __future__ import annotations

from ...abi.arch import for_machine
from ...base.diagnostics import error
from ...compiler.builtins import types as T
from ...compiler.builtins.code import Code, Environment, Val
from ...compiler.builtins.events import Events
from ...compiler.builtins.numbers import operand_value
from ...compiler.ir import I1, I32, I64, PTR, Block, Const, Function, Module, Value
from . import ast as A
from .maps import Maps
from .model import Group, Options, Variable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = (
    "Base",
    "Body",
    "Frame",
    "ENTRIES",
    "FRAME_PART",
    "ignore",
    "negate",
    "positive",
    "position_of",
)

#: The map of where functions begin: u32 process id, u32 number of the program -> u64 address.
ENTRIES = "harken_entries"
#: Variables up to this size lie in the frame itself; of larger ones it holds the address.
FRAME_PART = 64


class Frame:
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


class Body:
    """One function under construction."""

    def __init__(self, code: Code, frame: Value | None, number: int) -> None:
        self.code, self.frame, self.number = code, frame, number
        self.places: dict[Variable, Value] = {}
        #: (continue, break) blocks of native loops
        self.loops: list[tuple[Block, Block]] = []
        self.pairs: dict[Variable, tuple[Val, Val]] = {}


def ignore(value: object) -> None:
    """For callbacks that build one instruction and return nothing."""


def negate(b: Any, condition: Value) -> Value:
    """The opposite of an I1."""
    if isinstance(condition, Const):
        return Const(1 - condition.value, I1)
    return b.binary("xor", condition, Const(1, I1))  # type: ignore[no-any-return]


def positive(value: object) -> bool:
    """Whether a constant is known and not negative."""
    return isinstance(value, int) and value >= 0


def position_of(node: A.Node) -> str:
    """``name:line:column-column``."""
    return error("", node.span).position


class Base:
    """State of lowering one group.  As the ``site`` of built-ins it knows the probe."""

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
        number: int = 0,
    ) -> None:
        self.group, self.module, self.maps, self.events = group, module, maps, events
        self.environment, self.options, self.catalogue, self.name, self.number = environment, options, catalogue, name, number
        self.types, self.constants = group.types, group.constants
        self.view = group.view
        self.kind = group.kind
        self.default_space = "any" if group.view.space != "user" else "user"
        self.frame = Frame()
        self.body: Body
        self.callbacks = 0
        #: whether ``ENTRIES`` is asked, which a program of its own fills
        self.wants_entry = False

    def texts(self, what: str) -> tuple[str, ...]:
        """What "probe" or "func" is at each probe that shares the program."""
        return self.group.texts(what, self.catalogue)

    @property
    def probed(self) -> tuple[str, int]:
        return self.group.probed

    @property
    def program_counter(self) -> str:
        """The machine's name for it."""
        machine, _ = self.catalogue.features.target()
        return for_machine(machine).ip

    @property
    def knows_function(self) -> bool:
        """Whether bpf_get_func_ip tells the function that returns."""
        return self.group.plan.attacher == "uprobe_multi"

    def entered_at(self) -> Value:
        """Where the function that returns begins in this process; 0 if that is not known."""
        self.wants_entry = True
        b = self.code.b
        where = b.lookup(ENTRIES, self.entry_key(self.code))
        return self.code.choose(b.icmp("ne", where, Const(0)), lambda: b.load(where), lambda: Const(0))

    def entry_key(self, code: Code) -> Value:
        key = code.b.alloca(8, "process")
        code.b.store(key, code.b.resize(code.current_pid(), I32, False))
        code.b.store(key, Const(self.number, I32), 4)
        return key

    def entry_program(self, name: str) -> None:
        """Builds a program for the function's first instruction that notes where that is."""
        function = self.module.add(Function(name, span=self.group.probe.span))
        code = Code(self.module, function, self.events, self.environment)
        value = code.b.alloca(8, "address")
        code.b.store(value, code.b.reg(self.program_counter))
        code.b.update(ENTRIES, self.entry_key(code), value)
        code.b.ret(Const(0))

    @property
    def code(self) -> Code:
        return self.body.code

    def guard(self, condition: Value) -> None:
        """Leaves the program unless the condition holds."""
        b = self.code.b
        go, leave = b.block("go"), b.block("leave")
        b.condbr(condition, go, leave)
        b.goto(leave)
        b.ret(Const(0))
        b.goto(go)

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
        return operand_value(self.code, self.view.operands[number])

    def memory(self, space: str) -> str:
        """A pointer's space as IR knows it: untyped addresses belong to what the probe traces."""
        if space in ("user", "kernel", "stack", "map_value", "ctx", "btf"):
            return space if space != "btf" else "kernel"
        return "user" if self.view.space == "user" else "kernel"

    @staticmethod
    def pointed(kind: T.Type) -> int:
        """Size of what a pointer points to; 1 for void."""
        return max(1, kind.ctype.strip().size) if kind.ctype is not None else 1

    def scale(self, value: Value, size: int) -> Value:
        return value if size == 1 else self.code.b.binary("mul", value, Const(size))

    # -- variables
    def place(self, variable: Variable) -> tuple[Value, int]:
        """Where a variable is stored: (pointer, offset)."""
        kind = variable.type
        assert kind is not None
        b = self.code.b
        if len(variable.functions) > 1:
            assert self.body.frame is not None
            slot = self.frame.slot(variable)
            if T.is_scalar(kind) or kind.size <= FRAME_PART:
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

    # -- what the classes built on this one add
    def expr(self, node: A.Expr) -> Val:
        """The value of an expression."""
        raise NotImplementedError

    def truth(self, node: A.Expr) -> Value:
        """A condition as I1."""
        raise NotImplementedError

    def effect(self, node: A.Expr | None) -> None:
        """An expression for what it does."""
        raise NotImplementedError

    def block(self, body: tuple[A.Stmt, ...]) -> None:
        """Statements in order."""
        raise NotImplementedError

    def arithmetic(self, op: str, left: Val, right: Val, kind: T.Type, node: A.Node) -> Val:
        """One arithmetic operator."""
        raise NotImplementedError
