"""Selection of integer operations and comparisons."""

from __future__ import annotations

from ....formats.insn import ALU
from ...ir import Const, Inst, Value
from ...passes import fold
from ...passes.algebra import width
from .operands import MOV, MOV32, MOV_K, Operands, fits

__all__ = ("Arithmetic",)

_JUMP_OF = {
    "eq": 0x10, "ne": 0x50, "ugt": 0x20, "uge": 0x30, "ult": 0xA0, "ule": 0xB0, "sgt": 0x60, "sge": 0x70, "slt": 0xC0, "sle": 0xD0,
}  # fmt: skip
_ALU_OF = {
    "add": "add", "sub": "sub", "mul": "mul", "udiv": "div", "umod": "mod", "and": "and", "or": "or", "xor": "xor",
    "shl": "lsh", "lshr": "rsh", "ashr": "arsh",
}  # fmt: skip
_OVERFLOWS = frozenset(("add", "sub", "mul", "shl", "ashr"))
_COMMUTES = frozenset(("add", "mul", "and", "or", "xor"))


class Arithmetic(Operands):
    """Integer operations, conversions, comparisons and selections."""

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
            self.put(MOV32, register, self.use(a))
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
            if fits(number) and not (op in ("udiv", "umod") and number <= 0):
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
            self.put(MOV, register, self.use(value), bits)
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
        if isinstance(b, Const) and self.v4 and b.signed not in (0, -1) and fits(b.signed):
            self.put(code & ~8, result, 0, 1, b.signed)
        else:
            sign = self.fresh()
            self.put(MOV, sign, result)
            divisor = self.fresh()
            self.extend(b, divisor)
            if not modulo:
                self.put(0xAF, sign, divisor)
            self.negate_if_negative(result, result)
            self.negate_if_negative(divisor, divisor)
            self.put(code, result, divisor)
            self.negate_if_negative(sign, result)
        self.put(MOV, register, result)
        if bits == 32:
            self.put(MOV32, register, register)
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
            self.put(MOV32, register, self.use(inst.args[0]))
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
                if type(b) is Const and fits(b.signed):
                    self.jump(code, left, 0, b.signed, then)
                else:
                    right = self.fresh()
                    self.extend(b, right)
                    self.jump(code | 8, left, right, 0, then)
                return
        left = instead[1] if instead is not None and instead[0] is a else self.use(a)
        if type(b) is Const:
            number = b.signed if bits == 64 or code & 7 == 6 else b.value
            if fits(number):
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
        self.put(MOV_K, result, 0, 0, 1)
        done, zero = self.number(), self.number()
        self.branch(inst, done, zero)
        self.start(zero, depth)
        self.put(MOV_K, result, 0, 0, 0)
        self.jump(0x05, 0, 0, 0, done)
        self.start(done, depth)
        self.put(MOV, register, result)

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
        self.put(MOV, register, result)
