"""Event filters of ``report -F``: which records are shown.

    EVENT[,EVENT...][: EXPRESSION]

An EVENT is a regular expression for the name of an event or of a system, or SYSTEM/EVENT with one for each.  The EXPRESSION is C-like:
fields, numbers and "texts", compared with ``== != < <= > >= =~ !~`` (the last two with a regular expression), computed with
``+ - * / % | & ^ << >>``, joined by ``&& || !`` and parentheses.  COMM, CPU, PID and TIMESTAMP are fields of every event.  A comparison
with a field that an event lacks is false.

Example:
    >>> from harken.formats.event_format import parse
    >>> event = parse('name: x\\nID: 7\\nformat:\\n\\tfield:int a;\\toffset:8;\\tsize:4;\\tsigned:1;\\n\\nprint fmt: ""', "sys")
    >>> chosen = Filter("x: a > 3 && CPU == 0").compile(event, "<", lambda pid: "ls")
    >>> chosen(bytes(8) + b"\\4\\0\\0\\0", 0, 12, 0, 0), chosen(bytes(12), 0, 12, 0, 0)
    (True, False)
    >>> str(Filter("x: a > 3 && !(b == 1)"))
    'x: (a > 3) && (!(b == 1))'
"""

from __future__ import annotations

import re

from ...base.ctype import Array, Int
from ...base.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ...formats.event_format import EventFormat, FormatField

    #: (buffer, start, end, cpu, time) -> value
    Value = Callable[[Any, int, int, int, int], Any]

__all__ = ("ALWAYS", "Filter", "Filters", "show", "whole")

#: what every record has
ALWAYS = frozenset(("COMM", "CPU", "PID", "TIMESTAMP", "TIMESTAMP_USECS"))

_TOKEN = re.compile(
    r"""\s*(?:(0[xX][0-9a-fA-F]+|\d+)|("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|([A-Za-z_][\w.]*)"""
    r"""|(=~|!~|==|!=|<=|>=|<<|>>|&&|\|\||[-+*/%<>&|^!()]))"""
)
_LEVELS: tuple[tuple[str, ...], ...] = (
    ("||",), ("&&",), ("|",), ("^",), ("&",), ("==", "!=", "=~", "!~"), ("<", "<=", ">", ">="), ("<<", ">>"), ("+", "-"), ("*", "/", "%"),
)  # fmt: skip
_MAX_TEXT = 8192
_MAX_DEPTH = 60


class _Missing(Exception):
    """A field that the event does not have."""


class Filter:
    """One ``-F``.

    Raises:
        UsageError: it does not parse.
    """

    def __init__(self, text: str, negated: bool = False) -> None:
        if len(text) > _MAX_TEXT:
            raise UsageError(f"the filter is longer than {_MAX_TEXT} characters")
        self.text, self.negated = text, negated
        names, colon, expression = text.partition(":")
        self.names = [_Name(name) for name in names.split(",") if name.strip()]
        if not self.names:
            raise UsageError(f"the filter {text!r} names no event", "EVENT[,EVENT]: EXPRESSION, such as 'sched_switch: prev_pid == 0'")
        self.tree: Any = None
        if colon and expression.strip():
            self.tree = _Parser(expression, text).parse()

    def __str__(self) -> str:
        names = self.text.partition(":")[0].strip()
        return f"{names}: {show(self.tree, False)}" if self.tree is not None else names

    def matches(self, event: EventFormat) -> bool:
        """Whether the filter is about this event."""
        return any(name.matches(event) for name in self.names)

    def compile(self, event: EventFormat, order: str, comm: Callable[[int], str]) -> Value:
        """A function that tells whether a record of this event passes."""
        if self.tree is None:
            return lambda buffer, start, end, cpu, time: True
        try:
            test = _compile(self.tree, event, order, comm)
        except _Missing:
            return lambda buffer, start, end, cpu, time: False
        return lambda buffer, start, end, cpu, time: bool(test(buffer, start, end, cpu, time))


class Filters:
    """All filters of a command line.

    A record is shown if one of those without ``-v`` passes it (or there are none), and none of those with ``-v``.
    """

    def __init__(self, filters: list[Filter], order: str, comm: Callable[[int], str]) -> None:
        self._filters, self._order, self._comm = filters, order, comm
        self._wanted = any(not item.negated for item in filters)
        self._made: dict[int, Value | bool] = {}

    def test(self, event: EventFormat | None) -> Value | bool:
        """A function for the records of an event; True or False if it is the same for all of them."""
        if event is None:
            return not self._wanted
        found = self._made.get(event.id)
        if found is None:
            found = self._made[event.id] = self._make(event)
        return found

    def _make(self, event: EventFormat) -> Value | bool:
        about = [item for item in self._filters if item.matches(event)]
        wanted = [item.compile(event, self._order, self._comm) for item in about if not item.negated]
        unwanted = [item.compile(event, self._order, self._comm) for item in about if item.negated]
        if self._wanted and not wanted:
            return False
        if not wanted and not unwanted:
            return True
        if all(item.tree is None for item in about):
            return not unwanted

        def test(buffer: Any, start: int, end: int, cpu: int, time: int) -> bool:
            if wanted and not any(function(buffer, start, end, cpu, time) for function in wanted):
                return False
            return not any(function(buffer, start, end, cpu, time) for function in unwanted)

        return test


class _Name:
    def __init__(self, text: str) -> None:
        self.text = text.strip()
        system, slash, event = self.text.partition("/")
        self.system = whole(system) if slash or system else None
        self.event = whole(event) if slash and event else None
        self.both = not slash

    def matches(self, event: EventFormat) -> bool:
        if self.both:
            return bool(self.system and (self.system(event.name) or self.system(event.category)))
        return bool((self.system is None or self.system(event.category)) and (self.event is None or self.event(event.name)))


def whole(text: str) -> Any:
    """A function that tells whether a regular expression is all of a name, in whatever case.

    Raises:
        UsageError: it is none.
    """
    try:
        return re.compile(text, re.IGNORECASE).fullmatch
    except re.error as error:
        raise UsageError(f"{text!r} is not a regular expression: {error}") from None


class _Parser:
    """Expression -> tree: ("num", n), ("str", s), ("name", s), (operator, left, right), ("!", x), ("-", x)."""

    def __init__(self, text: str, whole: str) -> None:
        self.whole = whole
        self.tokens: list[tuple[str, str]] = []
        at = 0
        text = text.rstrip()
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None:
                raise UsageError(f"the filter {whole!r} cannot be understood at {text[at : at + 20]!r}")
            for kind, value in zip(("num", "str", "name", "op"), found.groups()):
                if value is not None:
                    self.tokens.append((kind, value))
            at = found.end()
        self.at = 0
        self.depth = 0

    def parse(self) -> Any:
        tree = self.level(0)
        if self.at < len(self.tokens):
            raise UsageError(f"the filter {self.whole!r} has something left over: {self.tokens[self.at][1]!r}")
        return tree

    def level(self, level: int) -> Any:
        if level == len(_LEVELS):
            return self.unary()
        left = self.level(level + 1)
        while self.at < len(self.tokens) and self.tokens[self.at][0] == "op" and self.tokens[self.at][1] in _LEVELS[level]:
            operator = self.tokens[self.at][1]
            self.at += 1
            left = (operator, left, self.level(level + 1))
        return left

    def unary(self) -> Any:
        if self.at >= len(self.tokens):
            raise UsageError(f"the filter {self.whole!r} ends too early")
        kind, value = self.tokens[self.at]
        self.at += 1
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise UsageError("the filter is nested too deeply")
        try:
            if kind == "num":
                octal = len(value) > 1 and value[0] == "0" and value.isdigit() and not set(value) & {"8", "9"}
                return ("num", int(value, 16 if value[:2] in ("0x", "0X") else 8 if octal else 10))
            if kind == "str":
                return ("str", re.sub(r"\\(.)", r"\1", value[1:-1]) if "\\" in value and "~" not in self._before() else value[1:-1])
            if kind == "name":
                return ("name", value)
            if value == "(":
                tree = self.level(0)
                if self.at >= len(self.tokens) or self.tokens[self.at][1] != ")":
                    raise UsageError(f"a parenthesis of the filter {self.whole!r} is not closed")
                self.at += 1
                return tree
            if value in ("!", "-"):
                return (value, self.unary())
        finally:
            self.depth -= 1
        raise UsageError(f"the filter {self.whole!r} has {value!r} where a value should be")

    def _before(self) -> str:
        return self.tokens[self.at - 2][1] if self.at >= 2 else ""


def show(tree: Any, inner: bool) -> str:
    """An expression as text; ``inner``: in parentheses if it has an operator."""
    kind = tree[0]
    if kind in ("num", "name"):
        return str(tree[1])
    if kind == "str":
        return f'"{tree[1]}"'
    if len(tree) == 2:
        return f"{kind}({show(tree[1], False)})" if not inner else f"({kind}({show(tree[1], False)}))"
    text = f"{show(tree[1], True)} {kind} {show(tree[2], True)}"
    return f"({text})" if inner else text


def _compile(tree: Any, event: EventFormat, order: str, comm: Callable[[int], str]) -> Value:
    kind = tree[0]
    if kind in ("num", "str"):
        constant = tree[1]
        return lambda buffer, start, end, cpu, time: constant
    if kind == "name":
        return _field(tree[1], event, order, comm)
    if kind == "!":
        try:
            inner = _compile(tree[1], event, order, comm)
        except _Missing:
            return lambda buffer, start, end, cpu, time: True
        return lambda buffer, start, end, cpu, time: not inner(buffer, start, end, cpu, time)
    if kind == "-" and len(tree) == 2:
        inner = _compile(tree[1], event, order, comm)
        return lambda buffer, start, end, cpu, time: -inner(buffer, start, end, cpu, time)
    if kind in ("&&", "||"):
        return _logic(kind, tree, event, order, comm)
    left, right = _compile(tree[1], event, order, comm), _compile(tree[2], event, order, comm)
    if kind in ("=~", "!~"):
        if tree[2][0] != "str":
            raise UsageError(f"{kind} needs a text behind it")
        try:
            found = re.compile(tree[2][1], re.IGNORECASE).search
        except re.error as error:
            raise UsageError(f"{tree[2][1]!r} is not a regular expression: {error}") from None
        positive = kind == "=~"
        return lambda buffer, start, end, cpu, time: (found(str(left(buffer, start, end, cpu, time))) is not None) == positive
    function = _OPERATORS[kind]
    return lambda buffer, start, end, cpu, time: function(left(buffer, start, end, cpu, time), right(buffer, start, end, cpu, time))


def _logic(kind: str, tree: Any, event: EventFormat, order: str, comm: Callable[[int], str]) -> Value:
    sides: list[Value | None] = []
    for side in (tree[1], tree[2]):
        try:
            sides.append(_compile(side, event, order, comm))
        except _Missing:
            sides.append(None)
    left, right = sides
    if kind == "&&":
        if left is None or right is None:
            raise _Missing
        return lambda buffer, start, end, cpu, time: left(buffer, start, end, cpu, time) and right(buffer, start, end, cpu, time)
    if left is None and right is None:
        raise _Missing
    if left is None or right is None:
        only: Any = left or right
        return only  # type: ignore[no-any-return]
    return lambda buffer, start, end, cpu, time: left(buffer, start, end, cpu, time) or right(buffer, start, end, cpu, time)


def _compare(function: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    """Texts compare with texts, numbers with numbers; anything else is false."""

    def compare(left: Any, right: Any) -> bool:
        if isinstance(left, str) != isinstance(right, str):
            return False
        return function(left, right)

    return compare


_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": _compare(lambda a, b: a == b),
    "!=": _compare(lambda a, b: a != b),
    "<": _compare(lambda a, b: a < b),
    "<=": _compare(lambda a, b: a <= b),
    ">": _compare(lambda a, b: a > b),
    ">=": _compare(lambda a, b: a >= b),
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a // b if b else 0,
    "%": lambda a, b: a % b if b else 0,
    "&": lambda a, b: a & b,
    "|": lambda a, b: a | b,
    "^": lambda a, b: a ^ b,
    "<<": lambda a, b: a << b if 0 <= b < 64 else 0,
    ">>": lambda a, b: a >> b if 0 <= b < 64 else 0,
}


def _field(name: str, event: EventFormat, order: str, comm: Callable[[int], str]) -> Value:
    if name == "CPU":
        return lambda buffer, start, end, cpu, time: cpu
    if name in ("TIMESTAMP", "TIMESTAMP_USECS"):
        return (lambda buffer, start, end, cpu, time: time) if name == "TIMESTAMP" else (lambda buffer, start, end, cpu, time: time // 1000)
    field = event.field("common_pid" if name in ("PID", "COMM") else name)
    if name == "COMM":
        number = _integer(field, order)
        return lambda buffer, start, end, cpu, time: comm(number(buffer, start, end, cpu, time))
    if field is None:
        raise _Missing
    if isinstance(field.ctype, Array) and isinstance(field.ctype.element, Int) and field.ctype.element.encoding == "char":
        return _text(field, order)
    return _integer(field, order)


def _integer(field: FormatField | None, order: str) -> Value:
    if field is None or field.size not in (1, 2, 4, 8):
        raise _Missing
    name: Any = "little" if order == "<" else "big"
    offset, size, signed = field.offset, field.size, field.signed
    return lambda buffer, start, end, cpu, time: int.from_bytes(buffer[start + offset : start + offset + size], name, signed=signed)


def _text(field: FormatField, order: str) -> Value:
    name: Any = "little" if order == "<" else "big"
    offset, size = field.offset, field.size

    def fixed(buffer: Any, start: int, end: int, cpu: int, time: int) -> str:
        return bytes(buffer[start + offset : min(start + offset + size, end)]).split(b"\0", 1)[0].decode("utf-8", "backslashreplace")

    def dynamic(buffer: Any, start: int, end: int, cpu: int, time: int) -> str:
        where = int.from_bytes(buffer[start + offset : start + offset + 4], name)
        at = start + (where & 0xFFFF) + (offset + 4 if field.rel_loc else 0)
        return bytes(buffer[at : min(at + (where >> 16), end)]).split(b"\0", 1)[0].decode("utf-8", "backslashreplace")

    return dynamic if field.data_loc or field.rel_loc else fixed
