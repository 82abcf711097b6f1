"""Arithmetic on values: C's operators on machine integers, on pairs of them for ``__int128``, and on pointers.

Operations happen in the width that C's conversions gave the operands (the tree has them as casts), so nothing here promotes.  Where C
says "undefined", the machine decides: shift counts are taken modulo the width, ``x / 0`` is 0 and ``x % 0`` is ``x``.
"""

from __future__ import annotations

from ...base.ctype import CType
from ...compiler.ir import I64, Const, Value
from .lower_memory import MemoryCode, Result, Wide, is_signed, is_wide, pointee_size

__all__ = ("ArithmeticCode",)

_ARITHMETIC = {"+": "add", "-": "sub", "*": "mul", "&": "and", "|": "or", "^": "xor", "<<": "shl"}
_BY_SIGN = {"/": ("udiv", "sdiv"), "%": ("umod", "smod"), ">>": ("lshr", "ashr")}


class ArithmeticCode(MemoryCode):
    """Code of operators whose operands have been computed."""

    def distance(self, index: Value, type: CType, size: int) -> Value:
        """An index as a distance in bytes."""
        wide = self.b.resize(index, I64, is_signed(type))
        return wide if size == 1 else self.b.binary("mul", wide, Const(size))

    def step_pointer(self, pointer: Value, count: Value, type: CType, pointer_type: CType) -> Value:
        """``pointer + count``."""
        return self.b.gep(self.pointer(pointer), self.distance(count, type, pointee_size(pointer_type)))

    def arithmetic(self, op: str, a: Result, c: Result, type: CType, count: CType | None = None) -> Result:
        """``a op c`` in a C type; ``count`` is the type of the right side where that may differ (shifts)."""
        b = self.b
        if is_wide(type):
            left = a if isinstance(a, Wide) else self.convert(a, type, type)
            assert isinstance(left, Wide)
            return self.wide_binary(op, left, c, is_signed(type))
        machine = self.scalar(type)
        left_, right = self.value(a), self.value(c)
        if op in ("<<", ">>") and right.type.bits != machine.bits:
            right = b.resize(right, machine, count is not None and is_signed(count))
        name = _ARITHMETIC.get(op) or _BY_SIGN[op][is_signed(type)]
        return b.binary(name, left_, right)

    def wide_binary(self, op: str, a: Wide, c: Result, signed: bool) -> Wide:
        """128-bit operations on pairs; multiplication and division are refused."""
        b = self.b
        if op in ("<<", ">>"):
            return self.wide_shift(op, a, c, signed)
        other = c if isinstance(c, Wide) else Wide(b.resize(self.value(c), I64, signed), Const(0))
        if op in ("&", "|", "^"):
            name = _ARITHMETIC[op]
            return Wide(b.binary(name, a.low, other.low), b.binary(name, a.high, other.high))
        if op == "+":
            low = b.add(a.low, other.low)
            carry = b.resize(b.icmp("ult", low, a.low), I64, False)
            return Wide(low, b.add(b.add(a.high, other.high), carry))
        if op == "-":
            borrow = b.resize(b.icmp("ult", a.low, other.low), I64, False)
            return Wide(b.sub(a.low, other.low), b.sub(b.sub(a.high, other.high), borrow))
        return self.fail(
            f"'{op}' of 128-bit integers is not supported", hint="only + - & | ^ ~ << >> and comparisons are; use 64-bit integers"
        )

    def wide_shift(self, op: str, a: Wide, c: Result, signed: bool) -> Wide:
        count = c.low if isinstance(c, Wide) else self.value(c)
        if not isinstance(count, Const):
            self.fail("a 128-bit integer can only be shifted by a constant")
        n, b = count.value & 127, self.b
        fill: Value = b.binary("ashr", a.high, Const(63)) if signed else Const(0)
        if not n:
            return a
        if op == "<<":
            if n >= 64:
                return Wide(Const(0), b.binary("shl", a.low, Const(n - 64)) if n > 64 else a.low)
            return Wide(
                b.binary("shl", a.low, Const(n)), b.binary("or", b.binary("shl", a.high, Const(n)), b.binary("lshr", a.low, Const(64 - n)))
            )
        right = "ashr" if signed else "lshr"
        if n >= 64:
            return Wide(b.binary(right, a.high, Const(n - 64)) if n > 64 else a.high, fill)
        low = b.binary("or", b.binary("lshr", a.low, Const(n)), b.binary("shl", a.high, Const(64 - n)))
        return Wide(low, b.binary(right, a.high, Const(n)))

    def wide_comparison(self, predicate: str, left: Result, right: Result, signed: bool) -> Value:
        b = self.b
        if not isinstance(left, Wide) or not isinstance(right, Wide):
            self.fail("128-bit integers are compared with something else")
        if predicate in ("eq", "ne"):
            difference = b.binary("or", b.binary("xor", left.low, right.low), b.binary("xor", left.high, right.high))
            return b.icmp(predicate, difference, Const(0))
        same = b.icmp("eq", left.high, right.high)
        return b.select(
            same, b.icmp("u" + predicate, left.low, right.low), b.icmp(("s" if signed else "u") + predicate, left.high, right.high)
        )
