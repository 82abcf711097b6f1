"""The meaning of the integer operations on constants: what folding, the evaluator of the tests and the back ends agree on.

Shift counts are taken modulo 64, or modulo 32 for narrower types, as BPF does; a narrower result is cut to its width.
"""

from __future__ import annotations

__all__ = ("binary", "unary", "compare", "signed", "INVERSE", "SWAPPED")

INVERSE = {
    "eq": "ne", "ne": "eq", "ult": "uge", "uge": "ult", "ule": "ugt", "ugt": "ule", "slt": "sge", "sge": "slt", "sle": "sgt", "sgt": "sle",
}  # fmt: skip
SWAPPED = {
    "eq": "eq", "ne": "ne", "ult": "ugt", "ugt": "ult", "ule": "uge", "uge": "ule", "slt": "sgt", "sgt": "slt", "sle": "sge", "sge": "sle",
}  # fmt: skip


def signed(value: int, bits: int) -> int:
    """The signed reading of an unsigned number of ``bits``."""
    return value - (1 << bits) if value >> (bits - 1) & 1 else value


def binary(op: str, a: int, b: int, bits: int) -> int:
    """``a op b``; operands and result are unsigned numbers of ``bits``."""
    mask = (1 << bits) - 1
    if op == "add":
        return (a + b) & mask
    if op == "sub":
        return (a - b) & mask
    if op == "mul":
        return a * b & mask
    if op == "and":
        return a & b
    if op == "or":
        return a | b
    if op == "xor":
        return a ^ b
    if op == "udiv":
        return a // b if b else 0
    if op == "umod":
        return a % b if b else a
    if op in ("shl", "lshr", "ashr"):
        count = b & (63 if bits == 64 else 31)
        if op == "shl":
            return a << count & mask
        return a >> count if op == "lshr" else signed(a, bits) >> count & mask
    x, y = signed(a, bits), signed(b, bits)
    if op == "sdiv":
        if not y:
            return 0
        quotient = abs(x) // abs(y)
        return (-quotient if (x < 0) != (y < 0) else quotient) & mask
    if op == "smod":
        if not y:
            return a
        rest = abs(x) % abs(y)
        return (-rest if x < 0 else rest) & mask
    raise ValueError(op)


def unary(op: str, a: int, bits: int) -> int:
    """``op a`` for neg, not and bswap."""
    if op == "neg":
        return -a & ((1 << bits) - 1)
    if op == "not":
        return ~a & ((1 << bits) - 1)
    return int.from_bytes(a.to_bytes(max(1, bits // 8), "little"), "big")


def compare(predicate: str, a: int, b: int, bits: int) -> bool:
    """Whether the predicate holds between unsigned numbers of ``bits``."""
    if predicate[0] == "s":
        a, b = signed(a, bits), signed(b, bits)
    if predicate == "eq":
        return a == b
    if predicate == "ne":
        return a != b
    kind = predicate[1:]
    return a < b if kind == "lt" else a <= b if kind == "le" else a > b if kind == "gt" else a >= b
