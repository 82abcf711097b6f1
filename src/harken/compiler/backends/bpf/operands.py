"""What selecting instructions builds on: virtual registers, blocks of machine code, operands.

A machine instruction is a list ``[code, dst, src, off, imm, extra, span]``: BPF's own fields, where registers from ``VIRTUAL`` on
are virtual; ``extra`` is a jump's target block, a call's number of arguments, or what the loader must fill in.  Constants, frame
addresses, map references and pointers at a constant distance never occupy a register of their own: they are made again where they are used.
"""

from __future__ import annotations

from ...ir import Block, Const, Function, Inst, Param, Value
from ...passes.legalise import RODATA
from ...passes.stack import Placement
from ...target import Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ....base.diagnostics import Span

    Machine = list[Any]

__all__ = ("VIRTUAL", "ALIAS", "MOV", "MOV_K", "MOV32", "REMADE", "MachineBlock", "Operands", "Selected", "fits")

VIRTUAL = 16

MOV, MOV_K, MOV32, MOV32_K = 0xBF, 0xB7, 0xBC, 0xB4
LD64 = 0x18
#: operations that need no code: the value is in its operand's register
ALIAS = frozenset(("zext", "inttoptr", "ptrtoint"))
#: values that are made again at each use
REMADE = frozenset(("alloca", "map", "rodata", "data", "funcref", "ksym"))


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


def fits(value: int) -> bool:
    """Whether a signed number fits an instruction's immediate."""
    return -(1 << 31) <= value < 1 << 31


class Operands:
    """The state of selecting one function's instructions, and how its values get into registers."""

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
        self.put(MOV, register, base)
        self.put(0x07, register, 0, 0, offset)
        return register, 0

    def use(self, value: Value) -> int:
        """A register that holds ``value`` here."""
        while isinstance(value, Inst) and value.op in ALIAS:
            value = value.args[0]
        if isinstance(value, Inst):
            op = value.op
            if op == "ctx":
                return self.context
            if op in REMADE or (op == "gep" and type(value.args[1]) is Const):
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
        while isinstance(value, Inst) and value.op in ALIAS:
            value = value.args[0]
        if isinstance(value, Const):
            self.constant(value.value, register)
            return
        if isinstance(value, Inst):
            op = value.op
            if op == "map":
                self.put(LD64, register, 1, 0, 0, ("map", value.attr, 0))
                return
            if op == "rodata":
                self.put(LD64, register, 2, 0, value.attr << 32, ("map_value", RODATA, value.attr))
                return
            if op == "data":
                name, offset = value.attr
                self.put(LD64, register, 2, 0, offset << 32, ("map_value", name, offset))
                return
            if op == "funcref":
                self.put(LD64, register, 4, 0, 0, ("func", value.attr, 0))
                return
            if op == "ksym":
                self.put(LD64, register, 3, 0, 0, ("ksym", value.attr, 0))
                return
            if op == "alloca" or (op == "gep" and type(value.args[1]) is Const):
                base, offset = self.address(value)
                self.put(MOV, register, base)
                if offset:
                    self.put(0x07, register, 0, 0, offset)
                return
        self.put(MOV, register, self.use(value))

    def constant(self, number: int, register: int) -> None:
        """``number`` is an unsigned 64-bit (or narrower) value."""
        signed = number - (1 << 64) if number >> 63 else number
        if fits(signed):
            self.put(MOV_K, register, 0, 0, signed)
        elif number < 1 << 32:
            self.put(MOV32_K, register, 0, 0, number - (1 << 32))
        else:
            self.put(LD64, register, 0, 0, number)
