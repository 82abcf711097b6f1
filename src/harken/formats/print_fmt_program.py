"""Texts of records as programs for the accelerator (``native.text``).

What ``print_fmt`` compiles is one ``%`` format and a Python expression per argument.  ``Program`` translates both into a short list of
operations: literals, numbers of the record with C's arithmetic, digits, texts inside the record.  Python's integers have no size, the
accelerator's have 64 bits: along with each expression goes the range that its value can have, and what would need more is left to Python.

Whatever cannot be said in operations is a *memo*: its text is made by Python, once for all records that have the same inputs (the numbers
and the memory that the expression reads), and looked up afterwards.

Example:
    >>> program = Program("n=%d", ["f0"], {(8, "i"): "f0"}, {}, literals := bytearray(), [])
    >>> [name for code in program.codes() for name, number in OPS.items() if number == code], bytes(literals)
    (['TEXT', 'LOAD', 'DEC', 'END'], b'n=')
"""

from __future__ import annotations

import ast
import re

from ..native.text import OPS, Flags, op

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    Range = tuple[int, int]
    #: Makes the text of a memo: (buffer, start, end) of a record -> text.
    Make = Callable[[Any, int, int], str]

__all__ = ("OPS", "NotProgram", "Program")

_CONVERSION = re.compile(r"%(?:%|([-+ #0]*)(\d*)(?:\.(\d+))?([dxXs]))|([^%]+)")
_TOP = 1 << 64
_SIZES = {"b": 1, "B": 1, "h": 2, "H": 2, "i": 4, "I": 4, "q": 8, "Q": 8}
_DEEPEST, _VARIABLES = 20, 8
_WIDEST = 4096
_BUFFER = 1 << 40  # more bytes than any buffer has
_FLAGS = {"-": Flags.LEFT, "0": Flags.ZERO, "+": Flags.PLUS, " ": Flags.BLANK, "#": Flags.PREFIX}


class NotProgram(Exception):
    """An expression that is computed by Python; a format that has something in it that is seldom met."""


def _signed(*ranges: Range) -> bool:
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


class Program:
    """The text of one event's records.

    Args:
        text: a ``%`` format.
        values: Python expressions of its arguments.
        slots: (offset, ``struct`` code) -> name of each number in the record.
        names: what the expressions refer to.
        literals: where constant texts are put.
        memos: gets what makes texts; the number of a memo is its place plus ``base``.
        base: number of the first memo.

    Raises:
        NotProgram: the format has something that is seldom met.
    """

    def __init__(
        self,
        text: str,
        values: list[str],
        slots: Mapping[tuple[int, str], str],
        names: Mapping[str, Any],
        literals: bytearray,
        memos: list[Make],
        base: int = 0,
    ) -> None:
        self.slots = {name: place for place, name in slots.items()}
        self.names, self.literals, self.memos, self.base = names, literals, memos, base
        self.ops: list[list[int]] = []  # code, flags, width, place, value; places of jumps are relative until the program is placed
        self._variables: dict[str, tuple[int, Range]] = {}
        rest = list(values)
        position = 0
        while position < len(text):
            match = _CONVERSION.match(text, position)
            if match is None:
                raise NotProgram
            position = match.end()
            flags, width, precision, kind, literal = match.groups()
            if kind is None:
                self.literal(literal or "%")
            elif not rest or int(width or 0) > _WIDEST or int(precision or 0) > _WIDEST:
                raise NotProgram
            else:
                self._piece(flags, int(width or 0), precision, kind, rest.pop(0))
        if rest:
            raise NotProgram
        self.add("END")

    def codes(self) -> list[int]:
        """The operations' codes."""
        return [row[0] for row in self.ops]

    def placed(self, start: int) -> bytes:
        """The program for the place ``start`` among all operations."""
        jumps = (OPS["JUMP"], OPS["JUMP_ZERO"])
        return b"".join(
            [op(code, flags, width, place + start if code in jumps else place, value) for code, flags, width, place, value in self.ops]
        )

    def add(self, name: str, flags: int = 0, width: int = 0, place: int = 0, value: int = 0) -> int:
        self.ops.append([OPS[name], flags, width, place, value & _TOP - 1])
        return len(self.ops) - 1

    def literal(self, text: str) -> None:
        data = text.encode("utf-8", "surrogateescape")
        at = self.literals.find(data) if len(data) < 64 and len(self.literals) < 1 << 14 else -1
        if at < 0:
            at = len(self.literals)
            self.literals += data
        if data:
            self.add("TEXT", place=len(data), value=at)

    def _piece(self, flags: str, width: int, precision: str | None, kind: str, code: str) -> None:
        """One conversion: in operations, or by a memo."""
        tree = ast.parse(code, mode="eval").body
        before, variables = len(self.ops), dict(self._variables)
        limit = 0 if precision is None else int(precision) + 1
        marks = 0
        for flag in flags:
            marks |= _FLAGS[flag]
        form = f"%{flags}{width or ''}{'' if precision is None else '.' + precision}{kind}"
        try:
            if kind == "s":
                memo = self._memo(f"{form!r} % ({code},)") if width or limit else 0
                self._text(tree, marks & Flags.LEFT, width, limit, memo, 0)
                return
            low, high = self._number(tree, 0)
            marks |= Flags.SIGNED * _signed((low, high)) | Flags.UPPER * (kind == "X")
            self.add("DEC" if kind == "d" else "HEX", marks, width, limit)
        except NotProgram:
            del self.ops[before:]
            self._variables = variables
            self._by_memo(tree, f"{form!r} % ({code},)")

    # ---- what Python makes

    def _memo(self, code: str) -> int:
        """The number of the memo whose text an expression gives."""
        words = set(re.findall(r"\w+", code))
        lines = []
        for name, (offset, letter) in sorted(self.slots.items()):
            if name in words:
                lines.append(f"    {name} = _u{letter}(b, s + {offset})[0]\n")
        scope = dict(self.names)
        scope.update(_unpackers())
        exec(
            compile(f"def make(b, s, e):\n{''.join(lines)}    return {code}\n", "<print fmt by memo>", "exec"), scope
        )  # made of a parsed format
        self.memos.append(scope["make"])
        return self.base + len(self.memos) - 1

    def _by_memo(self, tree: ast.expr, code: str) -> None:
        inputs: list[ast.expr] = []
        _inputs(tree, self.slots, inputs)
        self.add("KEY", value=self._memo(code))
        seen = set()
        for part in inputs:
            text = ast.dump(part)
            if text in seen:
                continue
            seen.add(text)
            if isinstance(part, ast.Subscript):
                assert isinstance(part.slice, ast.Slice)
                self._bounds(part.slice, 0)
                self.add("KEY_MEMORY")
            elif isinstance(part, ast.Name) and part.id == "e":
                self.add("STOP")
                self.add("START")
                self.add("SUB")
                self.add("KEY_INT")
            else:
                self._number(part, 0)
                self.add("KEY_INT")
        self.add("MEMO")

    # ---- texts

    def _text(self, tree: ast.expr, flags: int, width: int, limit: int, memo: int, depth: int) -> None:
        if isinstance(tree, ast.IfExp):
            self._truth(tree.test, depth)
            skip = self.add("JUMP_ZERO")
            self._text(tree.body, flags, width, limit, memo, depth)
            end = self.add("JUMP")
            self.ops[skip][3] = len(self.ops)
            self._text(tree.orelse, flags, width, limit, memo, depth)
            self.ops[end][3] = len(self.ops)
            return
        if isinstance(tree, ast.Constant) and isinstance(tree.value, str):
            form = f"%{'-' if flags & Flags.LEFT else ''}{width or ''}{f'.{limit - 1}' if limit else ''}s"
            self.literal(form % tree.value)
            return
        if isinstance(tree, ast.Subscript) and isinstance(tree.value, ast.Name) and tree.value.id == "T":
            inner = tree.slice
            if (
                isinstance(inner, ast.Subscript)
                and isinstance(inner.value, ast.Name)
                and inner.value.id == "b"
                and isinstance(inner.slice, ast.Slice)
            ):
                self._bounds(inner.slice, depth)
                self.add("STRING", flags, width, limit, memo)
                return
        if width or limit:
            raise NotProgram
        if isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.Mod) and isinstance(tree.left, ast.Constant):
            found = re.fullmatch(r"([^%]*)%(#?)(x|d)", tree.left.value) if isinstance(tree.left.value, str) else None
            if found:
                self.literal(found[1])
                marks = Flags.SIGNED * _signed(self._number(tree.right, depth)) | Flags.PREFIX * bool(found[2])
                self.add("DEC" if found[3] == "d" else "HEX", marks)
                return
        if isinstance(tree, ast.Subscript) and isinstance(tree.value, ast.Name) and tree.value.id[:1] == "k":
            self.add("KEY", value=self._memo(f"{tree.value.id}[{ast.unparse(tree.slice)}]"))
            _signed(self._number(tree.slice, depth))
            self.add("KEY_INT")
            self.add("MEMO")
            return
        raise NotProgram

    def _bounds(self, part: ast.Slice, depth: int) -> None:
        """Puts the two ends of a slice of the buffer on the stack."""
        if part.lower is None or part.upper is None or part.step is not None:
            raise NotProgram
        for place, bound in enumerate((part.lower, part.upper)):
            low, high = self._number(bound, depth + place)
            if low < 0 or high >= _TOP:
                raise NotProgram

    # ---- numbers

    def _number(self, tree: ast.expr, depth: int) -> Range:
        """Puts a number on the stack; gives the range of its value."""
        if depth > _DEEPEST:
            raise NotProgram
        if isinstance(tree, ast.Name):
            if tree.id in self.slots:
                offset, code = self.slots[tree.id]
                bits = 8 * _SIZES[code]
                self.add("LOAD", _SIZES[code] | Flags.SIGNED * code.islower(), place=offset)
                return (-(1 << bits - 1), (1 << bits - 1) - 1) if code.islower() else (0, (1 << bits) - 1)
            if tree.id in self._variables:
                number, found = self._variables[tree.id]
                self.add("GET", place=number)
                return found
            if tree.id in ("s", "e"):
                self.add("START" if tree.id == "s" else "STOP")
                return 0, _BUFFER
        elif isinstance(tree, ast.Constant) and isinstance(tree.value, int):
            self.add("CONST", value=tree.value)
            return int(tree.value), int(tree.value)
        elif isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub):
            low, high = self._number(tree.operand, depth)
            self.add("NEG")
            return -high, -low
        elif isinstance(tree, ast.NamedExpr):
            found = self._number(tree.value, depth)
            number = self._variables.get(tree.target.id, (len(self._variables), found))[0]
            if number >= _VARIABLES:
                raise NotProgram
            self._variables[tree.target.id] = number, found
            self.add("SET", place=number)
            return found
        elif isinstance(tree, ast.IfExp):
            return self._choice(tree, depth)
        elif isinstance(tree, ast.BinOp):
            return self._extension(tree, depth) or self._binary(tree, depth)
        elif isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and tree.func.id in ("min", "max") and len(tree.args) == 2:
            one, two = self._number(tree.args[0], depth), self._number(tree.args[1], depth + 1)
            pick = min if tree.func.id == "min" else max
            self.add(tree.func.id.upper() + "S" * _signed(one, two))
            return pick(one[0], two[0]), pick(one[1], two[1])
        raise NotProgram

    def _choice(self, tree: ast.IfExp, depth: int) -> Range:
        self._truth(tree.test, depth)
        skip = self.add("JUMP_ZERO")
        one = self._number(tree.body, depth)
        end = self.add("JUMP")
        self.ops[skip][3] = len(self.ops)
        two = self._number(tree.orelse, depth)
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
                self._number(total.left, depth)
                self.add("EXTEND", size)
                return -top, top - 1
        return None

    def _binary(self, tree: ast.BinOp, depth: int) -> Range:
        kind = tree.op
        one, two = self._number(tree.left, depth), self._number(tree.right, depth + 1)
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

    def _truth(self, tree: ast.expr, depth: int) -> None:
        """Puts a number on the stack that is not zero where the expression is true."""
        if isinstance(tree, ast.Compare) and len(tree.ops) == 1:
            one = self._number(tree.left, depth)
            two = self._number(tree.comparators[0], depth + 1)
            sign = "S" * _signed(one, two)
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
                self._truth(part, depth + (place > 0))
                self._flag()
                if place:
                    self.add("AND" if isinstance(tree.op, ast.And) else "OR")
            return
        if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.Not):
            self._truth(tree.operand, depth)
            self.add("NOT")
            return
        _signed(self._number(tree, depth))

    def _flag(self) -> None:
        """Makes a number 0 or 1."""
        self.add("NOT")
        self.add("NOT")


def _unpackers() -> dict[str, Any]:
    import struct

    return {f"_u{letter}": struct.Struct("<" + letter).unpack_from for letter in _SIZES}


def _inputs(tree: ast.AST, slots: Mapping[str, Any], found: list[ast.expr]) -> None:
    """The numbers and parts of the record that an expression reads.

    Raises:
        NotProgram: it reads the record in another way.
    """
    if isinstance(tree, ast.Subscript) and isinstance(tree.value, ast.Name) and tree.value.id == "b":
        if not isinstance(tree.slice, ast.Slice):
            raise NotProgram
        found.append(tree)
        return
    if isinstance(tree, ast.Name):
        if tree.id in slots or tree.id == "e":
            found.append(tree)
        elif tree.id in ("b", "s"):
            raise NotProgram
        return
    for child in ast.iter_child_nodes(tree):
        _inputs(child, slots, found)
