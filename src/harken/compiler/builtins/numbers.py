"""Numbers that several front ends compute the same way."""

from __future__ import annotations

from ..ir import I64, Const, Value, int_type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...formats.stapsdt import Operand
    from .code import Code

__all__ = ("log2", "operand_value")


def log2(code: Code, value: Value) -> Value:
    """The position of the highest bit of an I64 taken as unsigned; 0 for 0 and 1."""
    b = code.b
    rest, shift = code.slot("rest", 0), code.slot("log", 0)
    b.store(rest, value)
    for step in (32, 16, 8, 4, 2, 1):
        current = b.load(rest)

        def halve(current: Value = current, step: int = step) -> None:
            b.store(rest, b.binary("lshr", current, Const(step)))
            b.store(shift, b.add(b.load(shift), Const(step)))

        code.when(b.icmp("ugt", current, Const((1 << step) - 1)), halve)
    return b.load(shift)


def widened(value: int, size: int, signed: bool) -> int:
    """The low ``size`` bytes of a number, widened to 64 bits."""
    bits = 8 * size
    value &= (1 << bits) - 1
    return value - (1 << bits) if signed and value >> (bits - 1) else value


def operand_value(code: Code, operand: Operand) -> Value:
    """An argument of a USDT probe as I64, from where the probe's note says."""
    b = code.b
    if operand.kind == "const":
        return Const(widened(operand.value, operand.size, operand.signed))
    value: Value = b.reg(operand.register) if operand.register else Const(0)
    size = operand.size
    if operand.kind == "memory":
        if operand.index:
            index: Value = b.reg(operand.index)
            if operand.index_bits < 64:
                index = b.resize(b.resize(index, int_type(operand.index_bits // 8), False), I64, operand.index_signed)
            value = b.add(value, b.binary("mul", index, Const(operand.scale)))
        value = b.add(value, Const(operand.value))
        if operand.address_bits < 64:
            value = b.resize(b.resize(value, int_type(operand.address_bits // 8), False), I64, False)
        value = b.load(b.to_pointer(value, "user"), int_type(size))
        return b.resize(value, I64, operand.signed)
    if operand.kind == "sum":
        value = b.add(value, Const(operand.value))
    else:
        if operand.high:
            low = b.resize(b.resize(value, int_type(4), False), I64, False)
            value = b.binary("or", b.binary("shl", b.reg(operand.high), Const(32)), low)
        if operand.shift:  # %ah is the second byte of rax
            value = b.binary("lshr", value, Const(operand.shift))
        size = min(size, operand.bits // 8)
    return b.resize(b.resize(value, int_type(size), False), I64, operand.signed)
