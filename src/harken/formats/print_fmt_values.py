"""Code and what it means: the values that ``print_fmt_code`` makes of C expressions, and C's arithmetic on constants."""

from __future__ import annotations

from ..base.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("CODES", "Unsupported", "Value", "compare", "compute", "constant", "divide", "modulo", "wrapped")

#: (bytes, signed) -> the code of the ``struct`` module.
CODES = {
    (1, False): "B",
    (1, True): "b",
    (2, False): "H",
    (2, True): "h",
    (4, False): "I",
    (4, True): "i",
    (8, False): "Q",
    (8, True): "q",
}


class Unsupported(FormatError):
    """The print format uses something that cannot be computed outside of the kernel."""

    def __init__(self, problem: str) -> None:
        super().__init__("print fmt", problem)
        self.problem = problem


class Value:
    """Code and what it means.

    ``kind`` is "int", "str", "mem" (``code`` is the start in the buffer, ``end`` its end; ``size``/``signed`` of one element),
    "table" (a local array of trees) or
    "struct" (an integer with the layout ``layout``).  ``const`` is the value where it is known.
    """

    __slots__ = ("code", "const", "end", "kind", "layout", "pointer", "signed", "size", "step")

    def __init__(
        self,
        code: str,
        size: int = 8,
        signed: bool = False,
        kind: str = "int",
        const: int | None = None,
        end: str = "",
        layout: Any = None,
        pointer: bool = False,
        step: int = 1,
    ) -> None:
        self.step = step  # of pointer arithmetic: the size of what a pointer points to
        self.code, self.size, self.signed, self.kind = code, size, signed, kind
        self.const, self.end, self.layout, self.pointer = const, end, layout, pointer


def constant(value: int, size: int, signed: bool) -> Value:
    value = wrapped(value, size, signed)
    return Value(str(value) if value >= 0 else f"({value})", size, signed, const=value)


def wrapped(value: int, size: int, signed: bool) -> int:
    value &= (1 << 8 * size) - 1
    return value - (1 << 8 * size) if signed and value >> (8 * size - 1) else value


def compare(operator: str, left: int, right: int) -> int:
    if operator in ("==", "!="):
        return int((left == right) == (operator == "=="))
    if operator in ("<=", ">="):
        return int(left <= right if operator == "<=" else left >= right)
    return int(left < right if operator == "<" else left > right)


def compute(operator: str, left: int, right: int) -> int:
    if operator == "+":
        return left + right
    if operator == "-":
        return left - right
    if operator == "*":
        return left * right
    if operator == "&":
        return left & right
    if operator == "|":
        return left | right
    if operator == "^":
        return left ^ right
    return divide(left, right) if operator == "/" else modulo(left, right)


def divide(left: int, right: int) -> int:
    """C's division, towards zero; by zero gives 0, as there is nobody to trap."""
    if not right:
        return 0
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def modulo(left: int, right: int) -> int:
    return left - divide(left, right) * right
