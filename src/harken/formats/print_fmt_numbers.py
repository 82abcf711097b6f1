"""Numbers in programs for the accelerator: Python's expressions as operations on 64 bits (``print_fmt_program`` makes whole programs).

Python's integers have no size, the accelerator's have 64 bits: along with each expression goes the range that its value can have, and what
would need more is left to Python.
"""

from __future__ import annotations

import ast

from ..native.text import OPS, Flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    Range = tuple[int, int]

__all__ = ("NotProgram", "Numbers", "signed")

_TOP = 1 << 64
SIZES = {"b": 1, "B": 1, "h": 2, "H": 2, "i": 4, "I": 4, "q": 8, "Q": 8}
_DEEPEST, _VARIABLES = 20, 8
_BUFFER = 1 << 40  # more bytes than any buffer has


class NotProgram(Exception):
    """An expression that is computed by Python; a format that has something in it that is seldom met."""


def signed(*ranges: Range) -> bool:
    """Whether numbers are compared with their sign.

    Raises:
        NotProgram: no 64 bits hold them all.
    """
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    if low >= 0 and high < _TOP:
        return False
    if low >= -(_TOP >> 1) and high < _TOP >> 1:
        return True
    raise NotProgram


class Numbers:
    """Operations that compute numbers.

    Args:
        slots: name -> (offset, ``struct`` code) of each number in the record.

    Attributes:
        ops: code, flags, width, place and value of each; places of jumps count from the program's start.
    """

    def __init__(self, slots: Mapping[str, tuple[int, str]]) -> None:
        self.slots = slots
        self.ops: list[list[int]] = []
        self.variables: dict[str, tuple[int, Range]] = {}

    def add(self, name: str, flags: int = 0, width: int = 0, place: int = 0, value: int = 0) -> int:
        self.ops.append([OPS[name], flags, width, place, value & _TOP - 1])
        return len(self.ops) - 1

    def number(self, tree: ast.expr, depth: int) -> Range:
        """Puts a number on the stack; gives the range of its value."""
        if depth > _DEEPEST:
            raise NotProgram
        if isinstance(tree, ast.Name):
            if tree.id in self.slots:
                offset, code = self.slots[tree.id]
                bits = 8 * SIZES[code]
                self.add("LOAD", SIZES[code] | Flags.SIGNED * code.islower(), place=offset)
                return (-(1 << bits - 1), (1 << bits - 1) - 1) if code.islower() else (0, (1 << bits) - 1)
            if tree.id in self.variables:
                number, found = self.variables[tree.id]
                self.add("GET", place=number)
                return found
            if tree.id in ("s", "e"):
                self.add("START" if tree.id == "s" else "STOP")
                return 0, _BUFFER
        elif isinstance(tree, ast.Constant) and isinstance(tree.value, int):
            self.add("CONST", value=tree.value)
            return int(tree.value), int(tree.value)
        elif isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub):
            low, high = self.number(tree.operand, depth)
            self.add("NEG")
            return -high, -low
        elif isinstance(tree, ast.NamedExpr):
            found = self.number(tree.value, depth)
            number = self.variables.get(tree.target.id, (len(self.variables), found))[0]
            if number >= _VARIABLES:
                raise NotProgram
            self.variables[tree.target.id] = number, found
            self.add("SET", place=number)
            return found
        elif isinstance(tree, ast.IfExp):
            return self._choice(tree, depth)
        elif isinstance(tree, ast.BinOp):
            return self._extension(tree, depth) or self._binary(tree, depth)
        elif isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and tree.func.id in ("min", "max") and len(tree.args) == 2:
            one, two = self.number(tree.args[0], depth), self.number(tree.args[1], depth + 1)
            pick = min if tree.func.id == "min" else max
            self.add(tree.func.id.upper() + "S" * signed(one, two))
            return pick(one[0], two[0]), pick(one[1], two[1])
        raise NotProgram

    def _choice(self, tree: ast.IfExp, depth: int) -> Range:
        self.truth(tree.test, depth)
        skip = self.add("JUMP_ZERO")
        one = self.number(tree.body, depth)
        end = self.add("JUMP")
        self.ops[skip][3] = len(self.ops)
        two = self.number(tree.orelse, depth)
        self.ops[end][3] = len(self.ops)
        return min(one[0], two[0]), max(one[1], two[1])

    def _extension(self, tree: ast.BinOp, depth: int) -> Range | None:
        """``(x + 2**31 & 2**32 - 1) - 2**31``: C's conversion to a signed number."""
        inner = tree.left
        if not (isinstance(tree.op, ast.Sub) and isinstance(inner, ast.BinOp) and isinstance(inner.op, ast.BitAnd)):
            return None
        half, total, mask = tree.right, inner.left, inner.right
        if not (isinstance(total, ast.BinOp) and isinstance(total.op, ast.Add)):
            return None
        constants = [part.value if isinstance(part, ast.Constant) else None for part in (half, total.right, mask)]
        for size in (1, 2, 4, 8):
            top = 1 << 8 * size - 1
            if constants == [top, top, 2 * top - 1]:
                self.number(total.left, depth)
                self.add("EXTEND", size)
                return -top, top - 1
        return None

    def _binary(self, tree: ast.BinOp, depth: int) -> Range:
        kind = tree.op
        one, two = self.number(tree.left, depth), self.number(tree.right, depth + 1)
        if isinstance(kind, ast.Add):
            self.add("ADD")
            return one[0] + two[0], one[1] + two[1]
        if isinstance(kind, ast.Sub):
            self.add("SUB")
            return one[0] - two[1], one[1] - two[0]
        if isinstance(kind, ast.BitAnd):
            self.add("AND")
            if two[0] >= 0 and two[1] < _TOP:
                return 0, two[1] if one[0] < 0 else min(one[1], two[1])
            if one[0] >= 0 and one[1] < _TOP:
                return 0, one[1]
            raise NotProgram
        if one[0] < 0 or two[0] < 0:
            raise NotProgram
        if isinstance(kind, (ast.BitOr, ast.BitXor)) and max(one[1], two[1]) < _TOP:
            self.add("OR" if isinstance(kind, ast.BitOr) else "XOR")
            return 0, (1 << max(one[1], two[1]).bit_length()) - 1
        if isinstance(kind, ast.Mult) and one[1] * two[1] < 1 << 128:
            self.add("MUL")
            return one[0] * two[0], one[1] * two[1]
        if two[1] < 64 and isinstance(kind, ast.LShift):
            self.add("SHL")
            return one[0] << two[0], one[1] << two[1]
        if two[1] < 64 and one[1] < _TOP and isinstance(kind, ast.RShift):
            self.add("SHR")
            return one[0] >> two[1], one[1] >> two[0]
        if two[0] > 0 and max(one[1], two[1]) < _TOP and isinstance(kind, (ast.FloorDiv, ast.Mod)):
            self.add("DIV" if isinstance(kind, ast.FloorDiv) else "MOD")
            return (one[0] // two[1], one[1] // two[0]) if isinstance(kind, ast.FloorDiv) else (0, two[1] - 1)
        raise NotProgram

    def truth(self, tree: ast.expr, depth: int) -> None:
        """Puts a number on the stack that is not zero where the expression is true."""
        if isinstance(tree, ast.Compare) and len(tree.ops) == 1:
            one = self.number(tree.left, depth)
            two = self.number(tree.comparators[0], depth + 1)
            sign = "S" * signed(one, two)
            names = {ast.Eq: "EQ", ast.NotEq: "NE", ast.Lt: "LT" + sign, ast.GtE: "LT" + sign, ast.LtE: "LE" + sign, ast.Gt: "LE" + sign}
            name = names.get(type(tree.ops[0]))
            if name is None:
                raise NotProgram
            self.add(name)
            if isinstance(tree.ops[0], (ast.GtE, ast.Gt)):
                self.add("NOT")
            return
        if isinstance(tree, ast.BoolOp):
            # both sides are computed: nothing in them has effects but names, which Python would not bind either
            if any(isinstance(node, ast.NamedExpr) for node in ast.walk(tree)):
                raise NotProgram
            for place, part in enumerate(tree.values):
                self.truth(part, depth + (place > 0))
                self._flag()
                if place:
                    self.add("AND" if isinstance(tree.op, ast.And) else "OR")
            return
        if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.Not):
            self.truth(tree.operand, depth)
            self.add("NOT")
            return
        signed(self.number(tree, depth))

    def _flag(self) -> None:
        """Makes a number 0 or 1."""
        self.add("NOT")
        self.add("NOT")
