"""Instruction selection: legal IR to BPF instructions over virtual registers.

``operands`` has what it builds on and what a machine instruction looks like, ``arithmetic`` the integer operations; here are memory, calls,
control flow and the walk over a function.
"""

from __future__ import annotations

from ....abi.bpf_helpers import HELPERS
from ....formats.insn import SIZES
from ...ir import Block, Const, Function, Inst, IRError, Value
from ...passes.cfg import dominators, loop_depths, reverse_postorder
from ...passes.stack import Placement
from ...target import Target
from .arithmetic import Arithmetic
from .operands import ALIAS, MOV, MOV_K, REMADE, VIRTUAL, MachineBlock, Selected, fits

__all__ = ("VIRTUAL", "MachineBlock", "Selected", "select")

_ATOMIC = {"add": 0x00, "or": 0x40, "and": 0x50, "xor": 0xA0, "xchg": 0xE1, "cmpxchg": 0xF1}
_PURE = frozenset(
    "add sub mul udiv sdiv umod smod and or xor shl lshr ashr neg not bswap icmp select zext sext trunc ptrtoint inttoptr gep "
    "map rodata data funcref ksym ctx load phi".split()
)


def select(function: Function, placement: Placement, target: Target) -> Selected:
    """Machine code for ``function``, whose allocas stand at ``placement`` (offsets from the start of the frame)."""
    return _Selector(function, placement, target).run()


class _Selector(Arithmetic):
    def run(self) -> Selected:
        function = self.function
        uses = self.uses
        for block in function.blocks:
            for inst in block.insts:
                for arg in inst.args:
                    uses[arg] = uses.get(arg, 0) + 1
                if inst.op == "phi":
                    self.registers[inst] = self.fresh()
                elif inst.op == "store":
                    value = inst.args[1]
                    if isinstance(value, Inst) and value.op == "trunc" and value.type.bits >= 8:
                        self.stored[value] = self.stored.get(value, 0) + 1
        order = function.blocks
        if len(order) > 1:
            before = function.predecessors()
            rpo = reverse_postorder(function)
            self.depths = loop_depths(rpo, before, dominators(rpo, before))
        else:
            self.depths = {order[0]: 0}
        self.labels = {block: self.number() for block in order}
        for position, block in enumerate(order):
            self.start(self.labels[block], self.depths.get(block, 0))
            self.current = block
            if position == 0:
                self.entry()
            for inst in block.insts:
                self.span = inst.span or self.span
                op = inst.op
                if op in _PURE:
                    if not uses.get(inst) or op in ALIAS or op in REMADE or op in ("phi", "ctx"):
                        continue
                    if op == "icmp":
                        if self.wanted(inst):
                            self.boolean(inst)
                        continue
                    if op == "trunc" and self.stored.get(inst) == uses[inst]:
                        continue
                    if op == "gep" and type(inst.args[1]) is Const:
                        continue
                rule = _RULES.get(op)
                if rule is None:
                    if op == "alloca":
                        continue
                    raise IRError(f"{function.name}: cannot select {op}")
                rule(self, inst)
        return Selected(function.name, self.blocks, self.next, self.placement.size, self.precious, function.span)

    def entry(self) -> None:
        for i, param in enumerate(self.function.params):
            if self.uses.get(param):
                register = self.registers[param] = self.fresh()
                self.put(MOV, register, i + 1)
        if any(inst.op == "ctx" and self.uses.get(inst) for inst in self.function.instructions()):
            self.context = self.fresh()
            self.put(MOV, self.context, 1)

    # -- memory
    def do_load(self, inst: Inst) -> None:
        base, offset = self.memory(inst.args[0], inst.attr)
        self.put(0x61 | SIZES[inst.type.size], self.define(inst), base, offset)

    def do_store(self, inst: Inst) -> None:
        pointer, value = inst.args
        size = value.type.size
        if isinstance(value, Const):
            number = value.signed if value.type.bits > 1 else value.value
            if fits(number):
                base, offset = self.memory(pointer, inst.attr)
                self.put(0x62 | SIZES[size], base, 0, offset, number)
                return
        if value in self.stored:
            value = value.args[0]  # type: ignore[attr-defined]
        register = self.use(value)
        base, offset = self.memory(pointer, inst.attr)
        self.put(0x63 | SIZES[size], base, register, offset)

    def do_atomic(self, inst: Inst) -> None:
        op, offset, fetch = inst.attr
        value = inst.args[1]
        size = SIZES[value.type.size]
        if op == "cmpxchg":
            register = self.use(value)
            base, offset = self.memory(inst.args[0], offset)
            self.into(inst.args[2], 0)
            self.put(0xC3 | size, base, register, offset, _ATOMIC[op])
            self.put(MOV, self.define(inst), 0)
        elif fetch or op == "xchg":
            register = self.fresh()
            self.into(value, register)
            base, offset = self.memory(inst.args[0], offset)
            self.put(0xC3 | size, base, register, offset, _ATOMIC[op] | 1)
            if self.uses.get(inst):
                self.put(MOV, self.define(inst), register)
        else:
            register = self.use(value)
            base, offset = self.memory(inst.args[0], offset)
            self.put(0xC3 | size, base, register, offset, _ATOMIC[op])

    # -- calls
    def arguments(self, values: list[Value]) -> None:
        if len(values) > 5:
            raise IRError(f"{self.function.name}: a call with {len(values)} arguments")
        late = []
        for i, value in enumerate(values):
            source = value
            while isinstance(source, Inst) and source.op in ALIAS:
                source = source.args[0]
            if type(source) is Const or (isinstance(source, Inst) and (source.op in REMADE or source.op == "ctx")):
                late.append((i, value))
            else:
                self.into(value, i + 1)
        for i, value in late:
            self.into(value, i + 1)

    def result(self, inst: Inst) -> None:
        if self.uses.get(inst):
            self.put(MOV, self.define(inst), 0)

    def do_helper(self, inst: Inst) -> None:
        number = HELPERS.get(inst.attr) if isinstance(inst.attr, str) else inst.attr
        if number is None:
            raise IRError(f"there is no helper {inst.attr}")
        self.arguments(inst.args)
        self.put(0x85, 0, 0, 0, number, (len(inst.args), None))
        self.result(inst)

    def do_kfunc(self, inst: Inst) -> None:
        self.arguments(inst.args)
        self.put(0x85, 0, 2, 0, 0, (len(inst.args), ("kfunc", inst.attr, 0)))
        self.result(inst)

    def do_call(self, inst: Inst) -> None:
        self.arguments(inst.args)
        self.put(0x85, 0, 1, 0, 0, (len(inst.args), ("func", inst.attr, 0)))
        self.result(inst)

    # -- control
    def edge(self, origin: Block, to: Block) -> int:
        """The number of the block that a branch from ``origin`` to ``to`` goes to; makes one for the copies to phis."""
        if to.insts[0].op != "phi":
            return self.labels[to]
        number = self.number()
        self.pending.append((number, origin, to))
        return number

    def copies(self, origin: Block, to: Block) -> None:
        """The parallel copy into the phis of ``to``."""
        moves: list[tuple[int, Value]] = []
        for inst in to.insts:
            if inst.op != "phi":
                break
            if self.uses.get(inst):
                moves.append((self.registers[inst], inst.args[inst.attr.index(origin)]))
        plain: list[tuple[int, int]] = []
        late: list[tuple[int, Value]] = []
        for register, value in moves:
            while isinstance(value, Inst) and value.op in ALIAS:
                value = value.args[0]
            if type(value) is Const or (isinstance(value, Inst) and (value.op in REMADE)):
                late.append((register, value))
            elif isinstance(value, Inst) and value.op == "gep" and type(value.args[1]) is Const:
                plain.append((register, self.use(value)))
            else:
                source = self.use(value)
                if source != register:
                    plain.append((register, source))
        while plain:
            sources = {source for _, source in plain}
            for i, (register, source) in enumerate(plain):
                if register not in sources:
                    self.put(MOV, register, source)
                    del plain[i]
                    break
            else:
                register, source = plain[0]
                saved = self.fresh()
                self.put(MOV, saved, register)
                plain = [(r, saved if s == register else s) for r, s in plain]
        for register, value in late:
            self.into(value, register)

    def flush(self) -> None:
        depth = self.block.depth
        for number, origin, to in self.pending:
            self.start(number, min(depth, self.depths.get(to, 0)))
            self.copies(origin, to)
            self.jump(0x05, 0, 0, 0, self.labels[to])
        self.pending.clear()

    def do_br(self, inst: Inst) -> None:
        origin = self.current
        if inst.attr.insts[0].op == "phi":
            self.copies(origin, inst.attr)
        self.jump(0x05, 0, 0, 0, self.labels[inst.attr])

    def do_condbr(self, inst: Inst) -> None:
        then, other = inst.attr
        origin = self.current
        self.branch(inst.args[0], self.edge(origin, then), self.edge(origin, other))
        self.flush()

    def do_switch(self, inst: Inst) -> None:
        default, cases = inst.attr
        origin = self.current
        kind = inst.args[0].type
        edges = {block: self.edge(origin, block) for block in dict.fromkeys((default, *(block for _, block in cases)))}
        runs: list[tuple[int, int, int]] = []
        first: dict[int, Block] = {}
        for number, block in cases:
            first.setdefault(Const(number, kind).value, block)
        for number in sorted(first):
            to = edges[first[number]]
            if runs and runs[-1][1] == number - 1 and runs[-1][2] == to:
                runs[-1] = (runs[-1][0], number, to)
            else:
                runs.append((number, number, to))
        self.find(self.use(inst.args[0]), runs, edges[default], inst)
        self.flush()

    def find(self, register: int, runs: list[tuple[int, int, int]], default: int, inst: Inst) -> None:
        """Goes to the target of the run of numbers (first, last, target) that a register is in; halves the runs while they are many."""
        depth = self.block.depth
        if len(runs) > 4:
            middle = len(runs) // 2
            left, right = self.number(), self.number()
            self.test(0x35, register, runs[middle][0], right, inst)
            self.jump(0x05, 0, 0, 0, left)
            self.start(left, depth)
            self.find(register, runs[:middle], default, inst)
            self.start(right, depth)
            self.find(register, runs[middle:], default, inst)
            return
        for begin, end, to in runs:
            following = self.number()
            if begin == end:
                self.test(0x15, register, begin, to, inst)
            else:
                inside = self.number()
                self.test(0x25, register, end, following, inst)
                self.jump(0x05, 0, 0, 0, inside)
                self.start(inside, depth)
                self.test(0x35, register, begin, to, inst)
            self.jump(0x05, 0, 0, 0, following)
            self.start(following, depth)
        self.jump(0x05, 0, 0, 0, default)

    def test(self, code: int, register: int, number: int, to: int, inst: Inst) -> None:
        """Compares a register with an unsigned number and jumps."""
        const = Const(number, inst.args[0].type)
        value = const.signed if const.type.bits == 64 else const.value
        if fits(value):
            self.jump(code, register, 0, value, to)
        else:
            self.jump(code | 8, register, self.use(const), 0, to)

    def do_ret(self, inst: Inst) -> None:
        self.into(inst.args[0] if inst.args else Const(0), 0)
        self.put(0x95)

    def do_unreachable(self, inst: Inst) -> None:
        self.put(MOV_K, 0, 0, 0, 0)
        self.put(0x95)


_RULES = dict.fromkeys("add sub mul udiv sdiv umod smod and or xor shl lshr ashr".split(), _Selector.binary)
for _name in "neg not bswap sext trunc gep select load store atomic helper kfunc call br condbr switch ret unreachable".split():
    _RULES[_name] = getattr(_Selector, "do_" + _name)
