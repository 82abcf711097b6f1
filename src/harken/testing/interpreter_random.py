"""Random IR programs for tests: structured, terminating, defined in every operation.

``generate(seed)`` gives a module whose only program (type syscall, so that any kernel with BPF_PROG_TEST_RUN can run it) reads eight
u64 from its context and leaves what it computed in the value of the array map "out".
"""

from __future__ import annotations

from ..abi.bpf import BPF_F_SLEEPABLE, BPF_PROG_TYPE_SYSCALL
from ..compiler.ir import I8, I16, I32, I64, PTR, Builder, Function, Module, Param, Program, Type, Value
from ..formats.spec import MapSpec

__all__ = ("generate", "INPUTS", "OUTPUT")

INPUTS, OUTPUT = 8, 16
_TYPES = (I8, I16, I32, I64, I64, I64)
_OPS = "add sub mul udiv sdiv umod smod and or xor shl lshr ashr add sub and or xor".split()
_PREDICATES = "eq ne ult ule ugt uge slt sle sgt sge".split()
_CONSTANTS = (
    0,
    1,
    2,
    3,
    7,
    8,
    16,
    31,
    63,
    64,
    100,
    127,
    128,
    255,
    256,
    65535,
    1 << 31,
    (1 << 31) - 1,
    (1 << 32) - 1,
    1 << 40,
    (1 << 63),
    (1 << 64) - 1,
)


class _Random:
    """A tiny linear congruential generator (importing ``random`` costs more than the rest of this module)."""

    def __init__(self, seed: int) -> None:
        self.state = seed * 2862933555777941757 + 3037000493 & (1 << 64) - 1
        for _ in range(4):
            self.below(7)

    def below(self, n: int) -> int:
        self.state = self.state * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
        return (self.state >> 33) % n

    def of(self, choices: tuple[object, ...] | list[object] | list[str]) -> object:
        return choices[self.below(len(choices))]


class _Writer:
    def __init__(self, random: _Random, module: Module, b: Builder, budget: int) -> None:
        self.random, self.module, self.b, self.budget = random, module, b, budget
        self.variables: list[tuple[Value, Type]] = []
        self.array: Value | None = None
        self.heavy: Value | None = None
        self.helpers: list[Function] = []
        self.callbacks: list[Function] = []
        self.depth = 0

    def variable(self, type: Type, start: Value) -> None:
        place = self.b.alloca(type.size, f"v{len(self.variables)}")
        self.b.store(place, start)
        self.variables.append((place, type))

    def expression(self, type: Type, depth: int = 3) -> Value:
        random, b = self.random, self.b
        kind = random.below(12) if depth else random.below(4)
        if kind < 2:
            return b.const(int(_CONSTANTS[random.below(len(_CONSTANTS))]), type)
        if kind < 4:
            place, own = self.variables[random.below(len(self.variables))]
            return b.resize(b.load(place, own), type, bool(random.below(2)))
        if kind < 8:
            op = _OPS[random.below(len(_OPS))]
            return b.binary(op, self.expression(type, depth - 1), self.expression(type, depth - 1))
        if kind == 8:
            return b.select(self.condition(depth - 1), self.expression(type, depth - 1), self.expression(type, depth - 1))
        if kind == 9:
            wide = _TYPES[random.below(len(_TYPES))]
            return b.resize(self.expression(wide, depth - 1), type, bool(random.below(2)))
        if kind == 10:
            if self.array is not None and random.below(2):
                return b.resize(b.load(self.slot(), I64), type, False)
            op = ("neg", "not", "bswap")[random.below(3)]
            return b.unary(op, self.expression(type, depth - 1))
        if self.helpers and random.below(2):
            function = self.helpers[random.below(len(self.helpers))]
            args = [self.expression(I64, 1) for _ in function.params]
            return b.resize(b.call(function, *args), type, False)
        return b.resize(self.condition(depth - 1), type, bool(random.below(2)))

    def slot(self) -> Value:
        assert self.array is not None
        index = self.b.binary("and", self.expression(I64, 1), self.b.const(7))
        return self.b.gep(self.array, self.b.binary("mul", index, self.b.const(8)))

    def condition(self, depth: int) -> Value:
        type = _TYPES[self.random.below(len(_TYPES))]
        predicate = _PREDICATES[self.random.below(len(_PREDICATES))]
        first = self.b.icmp(predicate, self.expression(type, depth), self.expression(type, depth))
        if depth > 0 and self.random.below(6) == 0:
            return self.b.binary(("and", "or", "xor")[self.random.below(3)], first, self.condition(depth - 1))
        return first

    def statements(self, count: int) -> None:
        for _ in range(count):
            if self.budget <= 0:
                return
            self.budget -= 1
            self.statement()

    def statement(self) -> None:
        random, b = self.random, self.b
        kind = random.below(16)
        if self.heavy is not None and random.below(6) == 0:
            self.heavy_work()
        elif kind < 6 or self.depth >= 3:
            place, type = self.variables[random.below(len(self.variables))]
            b.store(place, self.expression(type))
        elif kind < 9:
            self.branch()
        elif kind == 9:
            self.count_loop()
        elif kind == 10:
            self.choice()
        elif kind == 11 and self.array is not None:
            b.store(self.slot(), self.expression(I64))
        elif kind == 12 and self.array is not None:
            pointer = b.gep(self.array, b.const(8 * random.below(4)))
            if random.below(2):
                b.zero(pointer, 1 + random.below(24))
            else:
                b.copy(pointer, self.array, 8, 8, 32)
        elif kind == 13 and self.array is not None and random.below(2):
            op = ("add", "or", "and", "xor", "xchg")[random.below(5)]
            place, type = self.variables[0]
            old = b.atomic(op, self.array, self.expression(I64, 1), 8 * random.below(8), True)
            b.store(place, b.resize(old, type, False))
        elif kind == 14:
            self.map_work()
        elif kind == 15 and self.callbacks:
            self.callback_loop()
        elif kind == 13:
            self.leave()
        else:
            self.branch()

    def heavy_work(self) -> None:
        """Uses a variable that is too large for the stack, somewhere in the control flow."""
        b = self.b
        assert self.heavy is not None
        at = 8 * self.random.below(70)
        b.zero(self.heavy, 600)
        b.store(self.heavy, self.expression(I64, 2), at)
        place, type = self.variables[self.random.below(len(self.variables))]
        b.store(place, b.resize(b.load(self.heavy, I64, at), type, False))

    def leave(self) -> None:
        """Returns early, sometimes."""
        b = self.b
        out, after = b.block("leave"), b.block("after")
        b.condbr(b.icmp("eq", b.binary("and", self.expression(I64, 1), b.const(15)), b.const(9)), out, after)
        b.goto(out)
        # what a callback returns must be 0 or 1
        b.ret(b.binary("and", self.expression(I64, 1), b.const(1)))
        b.goto(after)

    def branch(self) -> None:
        b = self.b
        then, other, after = b.block("then"), b.block("else"), b.block("after")
        b.condbr(self.condition(2), then, other if self.random.below(2) else after)
        self.depth += 1
        for block in (then, other):
            b.goto(block)
            self.statements(1 + self.random.below(3))
            b.br(after)
        self.depth -= 1
        b.goto(after)

    def count_loop(self) -> None:
        b = self.b
        counter = b.alloca(8, "counter")
        b.store(counter, b.const(0))
        head, body, after = b.block("head"), b.block("body"), b.block("after")
        b.br(head)
        b.goto(head)
        count = 1 + self.random.below(5)
        b.condbr(b.icmp("ult", b.load(counter), b.const(count)), body, after)
        b.goto(body)
        b.store(counter, b.add(b.load(counter), b.const(1)))
        self.depth += 1
        self.statements(1 + self.random.below(2))
        self.depth -= 1
        b.br(head)
        b.goto(after)

    def choice(self) -> None:
        b = self.b
        value = self.expression(I32, 2)
        after = b.block("after")
        blocks = [b.block("case") for _ in range(3)]
        b.insert(
            "switch", (value,), attr=(after, tuple((int(_CONSTANTS[i * 5 + 1]) & 0xFFFFFFFF, block) for i, block in enumerate(blocks)))
        )
        self.depth += 1
        for block in blocks:
            b.goto(block)
            self.statements(1)
            b.br(after)
        self.depth -= 1
        b.goto(after)

    def map_work(self) -> None:
        b = self.b
        key = b.alloca(4, "key")
        b.store(key, b.resize(b.binary("and", self.expression(I64, 1), b.const(3)), I32, False))
        if self.random.below(2):
            value = b.alloca(8, "value")
            b.store(value, self.expression(I64, 2))
            b.update("table", key, value)
            return
        found = b.lookup("table", key)
        then, after = b.block("found"), b.block("after")
        b.not_null(found, then, after)
        b.goto(then)
        if self.random.below(2):
            b.atomic("add", found, self.expression(I64, 1))
        place, type = self.variables[self.random.below(len(self.variables))]
        b.store(place, b.resize(b.load(found), type, False))
        b.br(after)
        b.goto(after)

    def callback_loop(self) -> None:
        b = self.b
        function = self.callbacks[self.random.below(len(self.callbacks))]
        context = b.alloca(16, "context")
        b.store(context, self.expression(I64, 1))
        b.store(context, self.expression(I64, 1), 8)
        rounds = b.insert("loop", (b.binary("and", self.expression(I64, 1), b.const(7)), context), I64, function.name)
        place, type = self.variables[self.random.below(len(self.variables))]
        b.store(place, b.resize(b.add(rounds, b.load(context)), type, False))


def _function(random: _Random, module: Module, name: str, arity: int, kind: str) -> Function:
    callback = kind == "callback"
    params = [Param(i, f"p{i}") for i in range(arity)]
    if callback:
        params = [Param(0, "index"), Param(1, "context", PTR, "stack")]
    function = module.add(Function(name, params, kind=kind))
    b = Builder(function)
    writer = _Writer(random, module, b, 4 + random.below(6))
    for param in params:
        if not param.type.pointer:
            writer.variable(I64, param)
    writer.variable(I32, b.const(random.below(1000), I32))
    if callback:
        writer.variable(I64, b.load(params[1], I64))
        if random.below(2):
            writer.variable(I64, b.arg(random.below(INPUTS)))
    writer.statements(3)
    if callback:
        b.store(params[1], writer.expression(I64))
        b.ret(b.resize(b.icmp("eq", b.binary("and", params[0], b.const(5)), b.const(5)), I64, False))
    else:
        b.ret(writer.expression(I64))
    return function


def generate(seed: int, budget: int = 30, loops: bool = True, large: bool = False) -> Module:
    """A random module.

    Args:
        budget: about how many statements.
        loops: use ``loop`` with callbacks.
        large: add variables that do not fit the stack.
    """
    random = _Random(seed)
    module = Module()
    module.maps["out"] = MapSpec("out", 2, 4, 8 * OUTPUT, 1)
    module.maps["table"] = MapSpec("table", 1, 4, 8, 4)
    helpers = [_function(random, module, f"help{i}", 1 + random.below(3), "static") for i in range(random.below(3))]
    callbacks = [_function(random, module, f"each{i}", 2, "callback") for i in range(random.below(3) if loops else 0)]
    function = module.add(Function("main"))
    b = Builder(function)
    writer = _Writer(random, module, b, budget)
    writer.helpers, writer.callbacks = helpers, callbacks
    for i in range(INPUTS):
        value = b.arg(i)
        type = _TYPES[random.below(len(_TYPES))]
        writer.variable(type, b.resize(value, type, False))
    array = b.alloca(64, "array")
    b.zero(array, 64)
    writer.array = array
    if large:
        writer.heavy = b.alloca(600, "heavy")
    writer.statements(budget)
    key = b.alloca(4, "key")
    b.store(key, b.const(0, I32))
    out = b.lookup("out", key)
    then, after = b.block("write"), b.block("end")
    b.not_null(out, then, after)
    b.goto(then)
    for i, (place, type) in enumerate(writer.variables[:INPUTS]):
        b.store(out, b.resize(b.load(place, type), I64, bool(i & 1)), 8 * i)
    for i in range(6):
        b.store(out, b.load(array, I64, 8 * i), 8 * (INPUTS + i))
    b.br(after)
    b.goto(after)
    b.ret(b.resize(b.resize(writer.expression(I64), I32, False), I64, False))
    module.programs.append(Program("main", "main", BPF_PROG_TYPE_SYSCALL, "syscall", flags=BPF_F_SLEEPABLE))
    return module
