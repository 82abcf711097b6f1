"""The grammar: ``SELECT`` fields ``FROM`` event [``JOIN`` event ``ON`` matches] [``WHERE`` conditions].

Key words are in any case; a backslash before one makes it a name.  At the top of ``WHERE``, ``&&`` and ``,`` separate conditions, each of
which is about one event.

Example:
    >>> from harken.base.diagnostics import Source
    >>> query = parse(Source("sql", "select pid as p, CAST(prio AS hex) from sched_waking where prio < 5 && pid != 0"))
    >>> [(item.field.name, item.label, item.cast) for item in query.selection], query.start.name, len(query.where)
    ([('pid', 'p', ''), ('prio', '', 'hex')], 'sched_waking', 2)
"""

from __future__ import annotations

import re

from ...base.diagnostics import Source, Span, error
from ...base.errors import SourceError
from ...base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ("Compare", "Field", "Group", "Not", "Query", "Select", "fail", "parse")

_TOKEN = re.compile(
    r"(?P<space>[ \t\r\n]+)|(?P<string>\"[^\"]*\")|(?P<name>sym-offset\b|\\?[a-z_][a-z0-9_.]*)|(?P<number>-?(?:0x[0-9a-f]+|[0-9]+))"
    r"|(?P<op>!=|<=|>=|==|&&|\|\||[<>&~!()\-+*/,=])",
    re.IGNORECASE,
)
_KEYWORDS = frozenset(("select", "as", "from", "join", "on", "where", "cast"))
_MAX_DEPTH = 100
_MAX_TEXT = 1 << 16


class Field(Record):
    """A name as it is written: a field ("start.pid"), or an event."""

    name: str
    span: Span


class Select(Record):
    """One item of a selection: a field, or with ``other`` its sum with (``operator`` "+") or difference from another."""

    field: Field
    label: str = ""
    cast: str = ""
    operator: str = ""
    other: Field | None = None
    cast_span: Span | None = None


class Compare(Record):
    """``field operator value``; ``value`` is an integer, or a text with its quotes."""

    field: Field
    operator: str
    value: int | str
    span: Span


class Group(Record):
    """Conditions between && and ||: (condition, operator, condition, ...); ``parentheses`` as written."""

    parts: tuple[Condition | str, ...]
    parentheses: bool = False


class Not(Record):
    """A condition that must not hold."""

    part: Condition


if TYPE_CHECKING:
    Condition = Compare | Group | Not


class Query(Record):
    """A whole statement; ``end`` and ``matches`` are there with a JOIN, labels are "" without AS."""

    source: Source
    selection: tuple[Select, ...]
    start: Field
    start_label: str = ""
    end: Field | None = None
    end_label: str = ""
    matches: tuple[tuple[Field, Field], ...] = ()
    where: tuple[Condition, ...] = ()


def fail(message: str, span: Span, hint: str = "") -> NoReturn:
    """Raises the error about a place in the text."""
    raise SourceError((error(message, span, hint),))


def parse(source: Source) -> Query:
    """Reads a statement.

    Raises:
        SourceError: with the place in the text.
    """
    return _Parser(source).query()


class _Parser:
    def __init__(self, source: Source) -> None:
        self.source = source
        self.tokens: list[tuple[str, str, int]] = []
        if len(source.text) > _MAX_TEXT:
            fail("the statement is too long", source.span(_MAX_TEXT, _MAX_TEXT))
        at = 0
        while at < len(source.text):
            found = _TOKEN.match(source.text, at)
            if found is None:
                fail(f"{source.text[at]!r} has no meaning here", source.span(at, at + 1))
            kind, text = str(found.lastgroup), found.group()
            if kind == "number" and text.startswith("-") and self.tokens and self.tokens[-1][0] == "name":
                kind, text = "op", "-"  # a difference: a.x -1 is no comparison
            if kind == "name" and text.lower() in _KEYWORDS:
                kind, text = "word", text.lower()
            if kind != "space":
                self.tokens.append((kind, text, at))
            at += len(text)
        self.tokens.append(("end", "", at))
        self.at = 0
        self.depth = 0

    # -- tokens

    def span(self) -> Span:
        _, text, start = self.tokens[self.at]
        return self.source.span(start, start + max(len(text), 1))

    def here(self, text: str) -> bool:
        return self.tokens[self.at][1] == text and self.tokens[self.at][0] in ("op", "word")

    def accept(self, *texts: str) -> str:
        for text in texts:
            if self.here(text):
                self.at += 1
                return text
        return ""

    def expect(self, text: str) -> None:
        if not self.accept(text):
            self.unexpected(text.upper() if text in _KEYWORDS else repr(text))

    def unexpected(self, wanted: str) -> NoReturn:
        kind, text, _ = self.tokens[self.at]
        what = "the statement ends" if kind == "end" else f"{text.upper() if kind == 'word' else repr(text)} stands"
        name = "a backslash before it makes it a field's name: \\" + text if kind == "word" and wanted.startswith("a ") else ""
        fail(f"{what} where {wanted} should be", self.span(), name)

    def name(self, what: str) -> Field:
        kind, text, _ = self.tokens[self.at]
        if kind != "name":
            self.unexpected(what)
        span = self.span()
        self.at += 1
        return Field(text.removeprefix("\\"), span)

    def label(self) -> str:
        if self.accept("as") or self.tokens[self.at][0] == "name":
            return self.name("a label").name
        return ""

    # -- clauses

    def query(self) -> Query:
        self.expect("select")
        selection = [self.select()]
        while self.accept(","):
            selection.append(self.select())
        self.expect("from")
        start, start_label = self.name("an event"), self.label()
        end, end_label, matches = None, "", []
        if self.accept("join"):
            end, end_label = self.name("an event"), self.label()
            self.expect("on")
            matches.append(self.match())
            while self.accept(","):
                matches.append(self.match())
        where: list[Condition] = []
        if self.accept("where"):
            where.append(self.top())
            while self.accept("&&", ","):
                where.append(self.top())
        if self.tokens[self.at][0] != "end":
            self.unexpected("the end")
        return Query(self.source, tuple(selection), start, start_label, end, end_label, tuple(matches), tuple(where))

    def select(self) -> Select:
        cast, other, operator, cast_span = "", None, "", None
        if self.accept("cast"):
            self.expect("(")
            field = self.name("a field")
            self.expect("as")
            kind = self.name("a type")
            cast, cast_span = kind.name, kind.span
            if self.accept("="):
                count, text, _ = self.tokens[self.at]
                if count != "number":
                    self.unexpected("a number")
                self.at += 1
                cast += f"={text}"
            self.expect(")")
        else:
            parenthesis = self.accept("(")
            field = self.name("a field")
            operator = self.accept("+", "-")
            if operator:
                other = self.name("a field")
            if parenthesis:
                self.expect(")")
        return Select(field, self.label(), cast, operator, other, cast_span)

    def match(self) -> tuple[Field, Field]:
        left = self.name("a field")
        if not self.accept("=", "=="):
            self.unexpected("'='")
        return left, self.name("a field")

    # -- conditions

    def top(self) -> Condition:
        """Between the ``&&`` of the top: comparisons of one event with ``||`` between them."""
        parts: list[Condition | str] = [self.item()]
        while self.accept("||"):
            parts += ["||", self.item()]
        return parts[0] if len(parts) == 1 else Group(tuple(parts))  # type: ignore[return-value]

    def item(self) -> Condition:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            fail(f"conditions are nested more than {_MAX_DEPTH} levels deep", self.span())
        try:
            if self.accept("!"):
                return Not(self.group() if self.accept("(") else self.compare())
            return self.group() if self.accept("(") else self.compare()
        finally:
            self.depth -= 1

    def group(self) -> Group:
        parts: list[Condition | str] = [self.item()]
        while operator := self.accept("&&", "||"):
            parts += [operator, self.item()]
        self.expect(")")
        return Group(tuple(parts), True)

    def compare(self) -> Compare:
        field = self.name("a field")
        operator = self.accept("<=", ">=", "==", "!=", "<", ">", "=", "&", "~")
        if not operator:
            self.unexpected("a comparison")
        kind, text, _ = self.tokens[self.at]
        span = self.span()
        if kind == "string" or (kind == "number" and operator != "~"):
            self.at += 1
            return Compare(field, "==" if operator == "=" else operator, text if kind == "string" else int(text, 0), field.span.to(span))
        self.unexpected("a text in double quotes" if operator == "~" else "a number or a text in double quotes")
