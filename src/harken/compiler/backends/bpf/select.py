"""Instruction selection: legal IR to BPF instructions over virtual registers.

A machine instruction is a list ``[code, dst, src, off, imm, extra, span]``: BPF's own fields, where registers from ``VIRTUAL`` on
are virtual; ``extra`` is a jump's target block, a call's number of arguments, or what the loader must fill in.  Constants, frame
addresses, map references and pointers at a constant distance never occupy a register of their own: they are made again where they are used.
"""

from __future__ import annotations

from ....abi.bpf_helpers import HELPERS
from ....formats.insn import ALU, SIZES
from ...ir import Block, Const, Function, Inst, IRError, Param, Value
from ...passes import fold
from ...passes.cfg import dominators, loop_depths, reverse_postorder
from ...passes.legalise import RODATA
from ...passes.simplify import width
from ...passes.stack import Placement
from ...target import Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ....base.diagnostics import Span

    Machine = list[Any]

__all__ = ("VIRTUAL", "MachineBlock", "Selected", "select")

VIRTUAL = 16
CODE, DST, SRC, OFF, IMM, EXTRA, SPAN = range(7)

_MOV, _MOV_K, _MOV32, _MOV32_K = 0xBF, 0xB7, 0xBC, 0xB4
_LD64 = 0x18
_JUMP_OF = {
    "eq": 0x10, "ne": 0x50, "ugt": 0x20, "uge": 0x30, "ult": 0xA0, "ule": 0xB0, "sgt": 0x60, "sge": 0x70, "slt": 0xC0, "sle": 0xD0,
}  # fmt: skip
_ALU_OF = {
    "add": "add", "sub": "sub", "mul": "mul", "udiv": "div", "umod": "mod", "and": "and", "or": "or", "xor": "xor",
    "shl": "lsh", "lshr": "rsh", "ashr": "arsh",
}  # fmt: skip
_ATOMIC = {"add": 0x00, "or": 0x40, "and": 0x50, "xor": 0xA0, "xchg": 0xE1, "cmpxchg": 0xF1}
_ALIAS = frozenset(("zext", "inttoptr", "ptrtoint"))
_REMADE = frozenset(("alloca", "map", "rodata", "data", "funcref", "ksym"))
_OVERFLOWS = frozenset(("add", "sub", "mul", "shl", "ashr"))
_COMMUTES = frozenset(("add", "mul", "and", "or", "xor"))
_PURE = frozenset(
    "add sub mul udiv sdiv umod smod and or xor shl lshr ashr neg not bswap icmp select zext sext trunc ptrtoint inttoptr gep "
    "map rodata data funcref ksym ctx load phi".split()
)


class MachineBlock:
    """Straight-line machine code; ``jumps`` at its end name other blocks by number."""

    __slots__ = ("code", "depth", "number", "successors")

    def __init__(self, number: int, depth: int) -> None:
        self.number, self.depth = number, depth
        self.code: list[Machine] = []
        self.successors: list[int] = []


class Selected:
    """The machine code of one function: blocks in layout order, number of registers used, those that must not be spilled or merged."""

    __slots__ = ("blocks", "frame", "name", "precious", "registers", "span")

    def __init__(self, name: str, blocks: list[MachineBlock], registers: int, frame: int, precious: set[int], span: Span | None) -> None:
        self.name, self.blocks, self.registers, self.frame = name, blocks, registers, frame
        self.precious, self.span = precious, span


def select(function: Function, placement: Placement, target: Target) -> Selected:
    """Machine code for ``function``, whose allocas stand at ``placement`` (offsets from the start of the frame)."""
    return _Selector(function, placement, target).run()


def _fits(value: int) -> bool:
    return -(1 << 31) <= value < 1 << 31


class _Selector:
    def __init__(self, function: Function, placement: Placement, target: Target) -> None:
        self.function, self.placement = function, placement
        self.v4, self.jmp32 = target.has("cpu_v4"), target.has("jmp32")
        self.next = VIRTUAL
        self.registers: dict[Value, int] = {}
        self.precious: set[int] = set()
        self.blocks: list[MachineBlock] = []
        self.numbers = 0
        self.span: Span | None = None
        self.context = -1
        self.uses: dict[Value, int] = {}
        #: truncations -> how often they are stored (a store truncates by itself)
        self.stored: dict[Value, int] = {}
        #: blocks of copies still to be written: (number, from, to)
        self.pending: list[tuple[int, Block, Block]] = []
        self.current = function.blocks[0]
        self.depths: dict[Block, int] = {}
        self.labels: dict[Block, int] = {}
        self._wanted: set[Value] | None = None

    # -- plumbing
    def fresh(self) -> int:
        self.next += 1
        return self.next - 1

    def start(self, number: int, depth: int) -> MachineBlock:
        block = MachineBlock(number, depth)
        self.blocks.append(block)
        self.block, self.code = block, block.code
        return block

    def number(self) -> int:
        self.numbers += 1
        return self.numbers - 1

    def put(self, code: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0, extra: Any = None) -> None:
        self.code.append([code, dst, src, off, imm, extra, self.span])

    def jump(self, code: int, dst: int, src: int, imm: int, to: int) -> None:
        self.code.append([code, dst, src, 0, imm, to, self.span])
        self.block.successors.append(to)

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
                    if not uses.get(inst) or op in _ALIAS or op in _REMADE or op in ("phi", "ctx"):
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
                self.put(_MOV, register, i + 1)
        if any(inst.op == "ctx" and self.uses.get(inst) for inst in self.function.instructions()):
            self.context = self.fresh()
            self.put(_MOV, self.context, 1)

    def wanted(self, inst: Inst) -> bool:
        """Whether a comparison's truth is needed as a number (not only for branches and selects)."""
        if self._wanted is None:
            self._wanted = set()
            for block in self.function.blocks:
                for other in block.insts:
                    for i, arg in enumerate(other.args):
                        if type(arg) is Inst and arg.op == "icmp" and not (other.op == "condbr" or (other.op == "select" and i == 0)):
                            self._wanted.add(arg)
        return inst in self._wanted

    # -- operands
    def define(self, inst: Inst) -> int:
        register = self.registers.get(inst)
        if register is None:
            register = self.registers[inst] = self.fresh()
        return register

    def address(self, pointer: Value) -> tuple[int, int]:
        """(base register, offset) of a pointer, for a memory access."""
        offset = 0
        while isinstance(pointer, Inst):
            if pointer.op == "gep" and type(pointer.args[1]) is Const:
                offset += pointer.args[1].signed
                pointer = pointer.args[0]
            elif pointer.op == "alloca":
                return 10, self.placement.offsets.get(pointer, 0) - self.placement.size + offset
            elif pointer.op in ("inttoptr", "ptrtoint"):
                pointer = pointer.args[0]
            else:
                break
        return self.use(pointer), offset

    def memory(self, pointer: Value, offset: int) -> tuple[int, int]:
        """The same, with an offset that an instruction can hold."""
        base, more = self.address(pointer)
        offset += more
        if -32768 <= offset < 32768:
            return base, offset
        register = self.fresh()
        self.put(_MOV, register, base)
        self.put(0x07, register, 0, 0, offset)
        return register, 0

    def use(self, value: Value) -> int:
        """A register that holds ``value`` here."""
        while isinstance(value, Inst) and value.op in _ALIAS:
            value = value.args[0]
        if isinstance(value, Inst):
            op = value.op
            if op == "ctx":
                return self.context
            if op in _REMADE or (op == "gep" and type(value.args[1]) is Const):
                register = self.fresh()
                self.into(value, register)
                return register
            register_ = self.registers.get(value)
            if register_ is None:
                register_ = self.registers[value] = self.fresh()
            return register_
        if isinstance(value, Param):
            return self.registers[value]
        register = self.fresh()
        self.into(value, register)
        return register

    def into(self, value: Value, register: int) -> None:
        """Puts ``value`` into ``register``."""
        while isinstance(value, Inst) and value.op in _ALIAS:
            value = value.args[0]
        if isinstance(value, Const):
            self.constant(value.value, register)
            return
        if isinstance(value, Inst):
            op = value.op
            if op == "map":
                self.put(_LD64, register, 1, 0, 0, ("map", value.attr, 0))
                return
            if op == "rodata":
                self.put(_LD64, register, 2, 0, value.attr << 32, ("map_value", RODATA, value.attr))
                return
            if op == "data":
                name, offset = value.attr
                self.put(_LD64, register, 2, 0, offset << 32, ("map_value", name, offset))
                return
            if op == "funcref":
                self.put(_LD64, register, 4, 0, 0, ("func", value.attr, 0))
                return
            if op == "ksym":
                self.put(_LD64, register, 3, 0, 0, ("ksym", value.attr, 0))
                return
            if op == "alloca" or (op == "gep" and type(value.args[1]) is Const):
                base, offset = self.address(value)
                self.put(_MOV, register, base)
                if offset:
                    self.put(0x07, register, 0, 0, offset)
                return
        self.put(_MOV, register, self.use(value))

    def constant(self, number: int, register: int) -> None:
        """``number`` is an unsigned 64-bit (or narrower) value."""
        signed = number - (1 << 64) if number >> 63 else number
        if _fits(signed):
            self.put(_MOV_K, register, 0, 0, signed)
        elif number < 1 << 32:
            self.put(_MOV32_K, register, 0, 0, number - (1 << 32))
        else:
            self.put(_LD64, register, 0, 0, number)

    # -- arithmetic
    def binary(self, inst: Inst) -> None:
        op = inst.op
        bits = inst.type.bits
        a, b = inst.args
        if op in ("sdiv", "smod"):
            self.signed_division(inst)
            return
        uses = self.uses
        if op in _COMMUTES and type(b) is not Const and (type(a) is Const or (uses.get(b) == 1 and uses.get(a, 0) > 1)):
            a, b = b, a
        register = self.define(inst)
        wide = bits == 64
        if op == "and" and wide and type(b) is Const and b.value == 0xFFFFFFFF:
            self.put(_MOV32, register, self.use(a))
            return
        if op == "ashr" and bits < 32:
            self.into(a, register)
            self.put(0x64, register, 0, 0, 32 - bits)
            self.put(0xC4, register, 0, 0, 32 - bits)
        else:
            self.into(a, register)
        code = ALU[_ALU_OF[op]] | (7 if wide else 4)
        if type(b) is Const:
            number = b.signed if bits > 1 else b.value
            if op in ("shl", "lshr", "ashr"):
                number = b.value & (63 if wide else 31)
            elif not wide:
                number = b.value - (1 << 32) if b.value >> 31 & 1 else b.value
            if _fits(number) and not (op in ("udiv", "umod") and number <= 0):
                self.put(code, register, 0, 0, number)
            else:
                self.put(code | 8, register, self.use(b))
        else:
            self.put(code | 8, register, self.use(b))
        if bits < 32 and op in _OVERFLOWS:
            self.put(0x54, register, 0, 0, (1 << bits) - 1)

    def extend(self, value: Value, register: int) -> None:
        """Puts ``value``, sign-extended to 64 bits, into ``register``."""
        bits = value.type.bits
        if isinstance(value, Const):
            self.constant(value.signed & ((1 << 64) - 1), register)
        elif bits == 64:
            self.into(value, register)
        elif self.v4 and bits in (8, 16, 32):
            self.put(_MOV, register, self.use(value), bits)
        else:
            self.into(value, register)
            self.put(0x67, register, 0, 0, 64 - bits)
            self.put(0xC7, register, 0, 0, 64 - bits)

    def signed_division(self, inst: Inst) -> None:
        """Division that rounds toward zero; BPF had only the unsigned one until cpu v4."""
        a, b = inst.args
        bits = inst.type.bits
        modulo = inst.op == "smod"
        register = self.define(inst)
        code = 0x9F if modulo else 0x3F
        result = self.fresh()
        self.extend(a, result)
        if isinstance(b, Const) and self.v4 and b.signed not in (0, -1) and _fits(b.signed):
            self.put(code & ~8, result, 0, 1, b.signed)
        else:
            sign = self.fresh()
            self.put(_MOV, sign, result)
            divisor = self.fresh()
            self.extend(b, divisor)
            if not modulo:
                self.put(0xAF, sign, divisor)
            self.negate_if_negative(result, result)
            self.negate_if_negative(divisor, divisor)
            self.put(code, result, divisor)
            self.negate_if_negative(sign, result)
        self.put(_MOV, register, result)
        if bits == 32:
            self.put(_MOV32, register, register)
        elif bits < 32:
            self.put(0x57, register, 0, 0, (1 << bits) - 1)

    def negate_if_negative(self, tested: int, register: int) -> None:
        skip, then = self.number(), self.number()
        depth = self.block.depth
        self.jump(0x75, tested, 0, 0, skip)
        self.jump(0x05, 0, 0, 0, then)
        self.start(then, depth)
        self.put(0x87, register)
        self.jump(0x05, 0, 0, 0, skip)
        self.start(skip, depth)

    def do_neg(self, inst: Inst) -> None:
        register, bits = self.define(inst), inst.type.bits
        self.into(inst.args[0], register)
        self.put(0x87 if bits == 64 else 0x84, register)
        if bits < 32:
            self.put(0x54, register, 0, 0, (1 << bits) - 1)

    def do_not(self, inst: Inst) -> None:
        register, bits = self.define(inst), inst.type.bits
        self.into(inst.args[0], register)
        self.put(0xA7 if bits == 64 else 0xA4, register, 0, 0, -1 if bits >= 32 else (1 << bits) - 1)

    def do_bswap(self, inst: Inst) -> None:
        register = self.define(inst)
        self.into(inst.args[0], register)
        if inst.type.bits > 8:
            self.put(0xDC, register, 0, 0, inst.type.bits)

    def do_sext(self, inst: Inst) -> None:
        register, bits = self.define(inst), inst.type.bits
        if inst.args[0].type.bits == 1:
            self.into(inst.args[0], register)
            self.put(0x87 if bits == 64 else 0x84, register)
        elif bits == 64:
            self.extend(inst.args[0], register)
            return
        else:
            shift = 32 - inst.args[0].type.bits
            self.into(inst.args[0], register)
            self.put(0x64, register, 0, 0, shift)
            self.put(0xC4, register, 0, 0, shift)
        if bits < 32:
            self.put(0x54, register, 0, 0, (1 << bits) - 1)

    def do_trunc(self, inst: Inst) -> None:
        register, bits = self.define(inst), inst.type.bits
        if width(inst.args[0]) <= bits:
            self.into(inst.args[0], register)
        elif bits == 32:
            self.put(_MOV32, register, self.use(inst.args[0]))
        else:
            self.into(inst.args[0], register)
            self.put(0x57, register, 0, 0, (1 << bits) - 1)

    def do_gep(self, inst: Inst) -> None:
        register = self.define(inst)
        self.into(inst.args[0], register)
        self.put(0x0F, register, self.use(inst.args[1]))

    # -- comparisons
    def branch(self, condition: Value, then: int, otherwise: int, instead: tuple[Value, int] | None = None) -> None:
        """Jumps to ``then`` if the condition holds, else to ``otherwise``.

        ``instead`` names a register to compare in place of a value's own, so that the verifier learns the bound of that register.
        """
        if isinstance(condition, Inst) and condition.op == "icmp":
            self.compare(condition, then, instead)
        elif isinstance(condition, Const):
            self.jump(0x05, 0, 0, 0, then if condition.value else otherwise)
            return
        else:
            self.jump(0x55, self.use(condition), 0, 0, then)
        self.jump(0x05, 0, 0, 0, otherwise)

    def compare(self, inst: Inst, then: int, instead: tuple[Value, int] | None) -> None:
        a, b = inst.args
        predicate = inst.attr
        if type(a) is Const and type(b) is not Const:
            a, b, predicate = b, a, fold.SWAPPED[predicate]
        bits = a.type.bits
        code = _JUMP_OF[predicate] | 5
        if predicate[0] == "s" and bits < 64:
            if bits == 32 and self.jmp32:
                code = _JUMP_OF[predicate] | 6
            else:
                left = self.fresh()
                self.extend(a, left)
                if type(b) is Const and _fits(b.signed):
                    self.jump(code, left, 0, b.signed, then)
                else:
                    right = self.fresh()
                    self.extend(b, right)
                    self.jump(code | 8, left, right, 0, then)
                return
        left = instead[1] if instead is not None and instead[0] is a else self.use(a)
        if type(b) is Const:
            number = b.signed if bits == 64 or code & 7 == 6 else b.value
            if _fits(number):
                self.jump(code, left, 0, number, then)
                return
            if bits == 32 and self.jmp32:
                self.jump(code & ~7 | 6, left, 0, b.signed, then)
                return
        right = instead[1] if instead is not None and instead[0] is b else self.use(b)
        self.jump(code | 8, left, right, 0, then)

    def boolean(self, inst: Inst) -> None:
        register = self.define(inst)
        result = self.fresh()
        depth = self.block.depth
        self.put(_MOV_K, result, 0, 0, 1)
        done, zero = self.number(), self.number()
        self.branch(inst, done, zero)
        self.start(zero, depth)
        self.put(_MOV_K, result, 0, 0, 0)
        self.jump(0x05, 0, 0, 0, done)
        self.start(done, depth)
        self.put(_MOV, register, result)

    def do_select(self, inst: Inst) -> None:
        condition, a, b = inst.args
        register = self.define(inst)
        result = self.fresh()
        # the bound that the comparison proves must end up in the register that is used: keep it out of memory until then
        self.precious.add(result)
        depth = self.block.depth
        self.into(a, result)
        done, other = self.number(), self.number()
        self.branch(condition, done, other, (a, result))
        self.start(other, depth)
        self.into(b, result)
        self.jump(0x05, 0, 0, 0, done)
        self.start(done, depth)
        self.put(_MOV, register, result)

    # -- memory
    def do_load(self, inst: Inst) -> None:
        base, offset = self.memory(inst.args[0], inst.attr)
        self.put(0x61 | SIZES[inst.type.size], self.define(inst), base, offset)

    def do_store(self, inst: Inst) -> None:
        pointer, value = inst.args
        size = value.type.size
        if isinstance(value, Const):
            number = value.signed if value.type.bits > 1 else value.value
            if _fits(number):
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
            self.put(_MOV, self.define(inst), 0)
        elif fetch or op == "xchg":
            register = self.fresh()
            self.into(value, register)
            base, offset = self.memory(inst.args[0], offset)
            self.put(0xC3 | size, base, register, offset, _ATOMIC[op] | 1)
            if self.uses.get(inst):
                self.put(_MOV, self.define(inst), register)
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
            while isinstance(source, Inst) and source.op in _ALIAS:
                source = source.args[0]
            if type(source) is Const or (isinstance(source, Inst) and (source.op in _REMADE or source.op == "ctx")):
                late.append((i, value))
            else:
                self.into(value, i + 1)
        for i, value in late:
            self.into(value, i + 1)

    def result(self, inst: Inst) -> None:
        if self.uses.get(inst):
            self.put(_MOV, self.define(inst), 0)

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
            while isinstance(value, Inst) and value.op in _ALIAS:
                value = value.args[0]
            if type(value) is Const or (isinstance(value, Inst) and (value.op in _REMADE)):
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
                    self.put(_MOV, register, source)
                    del plain[i]
                    break
            else:
                register, source = plain[0]
                saved = self.fresh()
                self.put(_MOV, saved, register)
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
        value = inst.args[0]
        register = self.use(value)
        bits = value.type.bits
        depth = self.block.depth
        for number, block in cases:
            const = Const(number, value.type)
            to = self.edge(origin, block)
            if _fits(const.value if bits < 64 else const.signed):
                self.jump(0x15, register, 0, const.value if bits < 64 else const.signed, to)
            else:
                self.jump(0x1D, register, self.use(const), 0, to)
            following = self.number()
            self.jump(0x05, 0, 0, 0, following)
            self.start(following, depth)
        self.jump(0x05, 0, 0, 0, self.edge(origin, default))
        self.flush()

    def do_ret(self, inst: Inst) -> None:
        self.into(inst.args[0] if inst.args else Const(0), 0)
        self.put(0x95)

    def do_unreachable(self, inst: Inst) -> None:
        self.put(_MOV_K, 0, 0, 0, 0)
        self.put(0x95)


_RULES = dict.fromkeys("add sub mul udiv sdiv umod smod and or xor shl lshr ashr".split(), _Selector.binary)
for _name in "neg not bswap sext trunc gep select load store atomic helper kfunc call br condbr switch ret unreachable".split():
    _RULES[_name] = getattr(_Selector, "do_" + _name)
