"""Texts of records as programs for the accelerator (``native.text``).

What ``print_fmt`` compiles is one ``%`` format and a Python expression per argument.  ``Program`` translates both into a short list of
operations: literals, numbers of the record with C's arithmetic (``print_fmt_numbers``), digits, texts inside the record.

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
from .print_fmt_numbers import SIZES, NotProgram, Numbers, signed
from .print_fmt_shorter import shorter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    #: Makes the text of a memo: (buffer, start, end) of a record -> text.
    Make = Callable[[Any, int, int], str]

__all__ = ("OPS", "NotProgram", "Program")

_CONVERSION = re.compile(r"%(?:%|([-+ #0]*)(\d*)(?:\.(\d+))?([dxXs]))|([^%]+)")
_WIDEST = 4096
_FLAGS = {"-": Flags.LEFT, "0": Flags.ZERO, "+": Flags.PLUS, " ": Flags.BLANK, "#": Flags.PREFIX}


class Program(Numbers):
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
        super().__init__({name: place for place, name in slots.items()})
        self.names, self.literals, self.memos, self.base = names, literals, memos, base
        self._format(text, list(values), lambda form, code: self._piece(form, ast.parse(code, mode="eval").body, code))
        self.add("END")
        self.ops = shorter(self.ops)

    def codes(self) -> list[int]:
        """The operations' codes."""
        return [row[0] for row in self.ops]

    def placed(self, start: int) -> bytes:
        """The program for the place ``start`` among all operations."""
        jumps = (OPS["JUMP"], OPS["JUMP_ZERO"])
        return b"".join(
            [op(code, flags, width, place + start if code in jumps else place, value) for code, flags, width, place, value in self.ops]
        )

    def _format(self, text: str, rest: list[Any], piece: Callable[[tuple[str, int, str | None, str], Any], None]) -> None:
        """A ``%`` format: ``piece`` makes each conversion (flags, width, precision, letter) of one of ``rest``."""
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
                piece((flags, int(width or 0), precision, kind), rest.pop(0))
        if rest:
            raise NotProgram

    def literal(self, text: str) -> None:
        data = text.encode("utf-8", "surrogateescape")
        at = self.literals.find(data) if len(data) < 64 and len(self.literals) < 1 << 14 else -1
        if at < 0:
            at = len(self.literals)
            self.literals += data
        if data:
            self.add("TEXT", place=len(data), value=at)

    def _piece(self, form: tuple[str, int, str | None, str], tree: ast.expr, code: str) -> None:
        """One conversion: in operations, or by a memo."""
        before, variables = len(self.ops), dict(self.variables)
        flags, width, precision, kind = form
        whole = f"'%{flags}{width or ''}{'' if precision is None else '.' + precision}{kind}' % ({code},)"
        try:
            memo = self._memo(whole) if kind == "s" and (width or precision is not None) else 0
            self._operations(form, tree, memo, 0)
        except NotProgram:
            del self.ops[before:]
            self.variables = variables
            self._by_memo(tree, whole)

    def _operations(self, form: tuple[str, int, str | None, str], tree: ast.expr, memo: int, depth: int) -> None:
        flags, width, precision, kind = form
        limit = 0 if precision is None else int(precision) + 1
        marks = 0
        for flag in flags:
            marks |= _FLAGS[flag]
        if kind == "s":
            self._text(tree, marks & Flags.LEFT, width, limit, memo, depth)
            return
        marks |= Flags.SIGNED * signed(self.number(tree, depth)) | Flags.UPPER * (kind == "X")
        self.add("DEC" if kind == "d" else "HEX", marks, width, limit)

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
                self.number(part, 0)
                self.add("KEY_INT")
        self.add("MEMO")

    # ---- texts

    def _text(self, tree: ast.expr, flags: int, width: int, limit: int, memo: int, depth: int) -> None:
        if isinstance(tree, ast.IfExp):
            self.truth(tree.test, depth)
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
        if (
            isinstance(tree, ast.BinOp)
            and isinstance(tree.op, ast.Mod)
            and isinstance(tree.left, ast.Constant)
            and isinstance(tree.left.value, str)
        ):
            values = tree.right.elts if isinstance(tree.right, ast.Tuple) else [tree.right]
            self._format(tree.left.value, list(values), lambda form, value: self._inner(form, value, depth))
            return
        if isinstance(tree, ast.Subscript) and isinstance(tree.value, ast.Name) and tree.value.id[:1] == "k":
            self.add("KEY", value=self._memo(f"{tree.value.id}[{ast.unparse(tree.slice)}]"))
            signed(self.number(tree.slice, depth))
            self.add("KEY_INT")
            self.add("MEMO")
            return
        raise NotProgram

    def _inner(self, form: tuple[str, int, str | None, str], tree: ast.expr, depth: int) -> None:
        """A conversion within a text."""
        if form[3] == "s" and (form[1] or form[2] is not None):
            raise NotProgram
        self._operations(form, tree, 0, depth)

    def _bounds(self, part: ast.Slice, depth: int) -> None:
        """Puts the two ends of a slice of the buffer on the stack."""
        if part.lower is None or part.upper is None or part.step is not None:
            raise NotProgram
        for place, bound in enumerate((part.lower, part.upper)):
            low, high = self.number(bound, depth + place)
            if low < 0 or high >> 64:
                raise NotProgram


def _unpackers() -> dict[str, Any]:
    import struct

    return {f"_u{letter}": struct.Struct("<" + letter).unpack_from for letter in SIZES}


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
