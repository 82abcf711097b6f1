"""Words of the language.

The scanner works on demand: the parser asks for the next token, or, at the head of an action block, for the raw text of attach
points, whose rules differ (paths, wildcards, ``interval:s:1``).  A ``/`` that is followed by ``{`` closes a filter; any other ``/``
divides.

Example:
    >>> lexer = Lexer(Source("stdin", "@x[pid] += 1_000us"))
    >>> [lexer.next().text for _ in range(6)]
    ['@x', '[', 'pid', ']', '+=', '1_000us']
"""

from __future__ import annotations

from ...base.diagnostics import Diagnostic, Source, Span, error
from ...base.errors import SourceError
from ...base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

__all__ = ("Lexer", "Token", "fail", "DURATIONS")

#: Suffixes of durations, in nanoseconds.
DURATIONS = {
    "ns": 1,
    "us": 1000,
    "ms": 1000_000,
    "s": 1000_000_000,
    "m": 60 * 1000_000_000,
    "h": 3600 * 1000_000_000,
    "d": 86400 * 1000_000_000,
}
_C_SUFFIXES = frozenset(("u", "l", "ul", "lu", "ll", "ull", "llu"))
_OPERATORS = (
    ("<<=", ">>=", "..."),
    ("==", "!=", "<=", ">=", "<<", ">>", "&&", "||", "++", "--", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "->", "..", "?:"),
)
_SINGLE = frozenset("+-*/%&|^~!<>=?:;,.(){}[]#")
_ESCAPES = {"n": 10, "t": 9, "r": 13, '"': 34, "\\": 92, "a": 7, "b": 8, "f": 12, "v": 11, "e": 27, "'": 39}
_OCTAL, _HEX = frozenset("01234567"), frozenset("0123456789abcdefABCDEF")
_DIGITS = frozenset("0123456789")
#: More digits are more than 64 bits in any base, unless they are zeros; Python refuses to convert 4,301 of them.
_MOST_DIGITS = 256
_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_START = _WORD - _DIGITS


def fail(message: str, span: Span | None, hint: str = "") -> NoReturn:
    """Raises SourceError with one error."""
    raise SourceError((error(message, span, hint),))


def _short(text: str) -> str:
    """Hostile words do not flood the message."""
    return text if len(text) <= 64 else text[:61] + "..."


class Token(Record):
    """``kind``: "int", "string", "word", "var" ($x), "map" (@x), "param" ($1, $#), "op", "end"; ``value`` is the number or text."""

    kind: str
    text: str
    value: Any
    start: int
    end: int


class Lexer:
    """Scans one source; ``position`` is a character offset that the parser may save and restore."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.text = source.text
        self.position = 0
        self.warnings: list[Diagnostic] = []

    def span(self, start: int, end: int) -> Span:
        return Span(self.source, start, end)

    def skip(self) -> None:
        """Passes white space and comments."""
        text, n, i = self.text, len(self.text), self.position
        while i < n:
            c = text[i]
            if c in " \t\r\n\f\v":
                i += 1
            elif c == "\\" and text.startswith("\\\n", i):
                i += 2
            elif c == "/" and text.startswith("//", i):
                end = text.find("\n", i)
                i = n if end < 0 else end + 1
            elif c == "/" and text.startswith("/*", i):
                end = text.find("*/", i + 2)
                if end < 0:
                    fail("syntax: unterminated comment", self.span(i, i + 2), "close it with */")
                i = end + 2
            else:
                break
        self.position = i

    def closes_filter(self) -> bool:
        """Whether the ``/`` at the position ends a filter: the next thing after it is ``{``."""
        saved = self.position
        self.position += 1
        self.skip()
        answer = self.text.startswith("{", self.position)
        self.position = saved
        return answer

    def next(self) -> Token:
        """The next token; "end" at the end of the text."""
        self.skip()
        text, start = self.text, self.position
        if start >= len(text):
            return Token("end", "", None, start, start)
        c = text[start]
        if c in _START:
            end = self._word(start)
            word = text[start:end]
            return self._token("word", start, end, word)
        if c in _DIGITS:
            return self._number(start)
        if c == '"':
            return self._string(start)
        if c == "$":
            end = self._word(start + 1)
            if text.startswith("$#", start):
                return self._token("param", start, start + 2, "#")
            name = text[start + 1 : end]
            if not name:
                fail(
                    "syntax: expected a name after '$'",
                    self.span(start, start + 1),
                    "variables look like $x, positional parameters like $1",
                )
            if name.isdecimal():
                return self._token("param", start, end, int(name))
            if name[0] in _DIGITS:
                fail(f"syntax: invalid variable name '${name}'", self.span(start, end), "a variable's name starts with a letter or '_'")
            return self._token("var", start, end, "$" + name)
        if c == "@":
            end = self._word(start + 1)
            return self._token("map", start, end, text[start:end])
        for size, operators in ((3, _OPERATORS[0]), (2, _OPERATORS[1])):
            word = text[start : start + size]
            if word in operators:
                return self._token("op", start, start + size, word)
        if c in _SINGLE:
            return self._token("op", start, start + 1, c)
        fail(f"syntax: invalid character '{c}'", self.span(start, start + 1))

    def _token(self, kind: str, start: int, end: int, value: Any) -> Token:
        self.position = end
        return Token(kind, self.text[start:end], value, start, end)

    def _word(self, i: int) -> int:
        text, n = self.text, len(self.text)
        while i < n and text[i] in _WORD:
            i += 1
        return i

    def _number(self, start: int) -> Token:
        text = self.text
        end = self._word(start)
        digits = text[start:end].replace("_", "")
        lower = digits.lower()
        value: int | None = None
        if lower.startswith("0x"):
            body = lower[2:].rstrip("ul")
            value = int(body, 16) if body and all(d in _HEX for d in body) else None
        else:
            split = 0
            while split < len(lower) and lower[split] in _DIGITS:
                split += 1
            body, suffix = lower[:split], lower[split:]
            octal = len(body) > 1 and body[0] == "0"
            if len(body) > _MOST_DIGITS:
                value = 1 << 64
            elif not octal or all(d in _OCTAL for d in body):
                number = int(body, 8) if octal else int(body)
                if not suffix or suffix in _C_SUFFIXES:
                    value = number
                elif suffix in DURATIONS:
                    value = number * DURATIONS[suffix]
                elif suffix[0] == "e" and suffix[1:].isdecimal() and len(suffix) < 4:
                    value = number * 10 ** int(suffix[1:])
        if value is None:
            fail(
                f"syntax: invalid number '{_short(text[start:end])}'",
                self.span(start, end),
                "numbers look like 10, 0x1f, 017, 1e6, 1_000 or 100ms",
            )
        if value >= 1 << 64:
            fail(f"syntax: number '{_short(text[start:end])}' does not fit 64 bits", self.span(start, end))
        return self._token("int", start, end, value)

    def _string(self, start: int) -> Token:
        text, n = self.text, len(self.text)
        out = bytearray()
        i = start + 1
        while True:
            if i >= n or text[i] == "\n":
                fail("syntax: unterminated string", self.span(start, min(i, n)), 'close it with "')
            c = text[i]
            if c == '"':
                break
            if c != "\\":
                out += c.encode("utf-8", "surrogateescape")
                i += 1
                continue
            i += 1
            c = text[i] if i < n else ""
            if c in _OCTAL and c:
                end = i
                while end < n and end < i + 3 and text[end] in _OCTAL:
                    end += 1
                out.append(int(text[i:end], 8) & 255)
                i = end
            elif c == "x":
                end = i + 1
                while end < n and end < i + 3 and text[end] in _HEX:
                    end += 1
                if end == i + 1:
                    fail("syntax: \\x needs hexadecimal digits", self.span(i - 1, end))
                out.append(int(text[i + 1 : end], 16))
                i = end
            elif c in _ESCAPES:
                out.append(_ESCAPES[c])
                i += 1
            else:
                fail(f"syntax: invalid escape character '\\{c}'", self.span(i - 1, i + 1), 'known are \\n \\t \\r \\\\ \\" \\0nn and \\xnn')
        return self._token("string", start, i + 1, out.decode("utf-8", "surrogateescape"))

    # -- attach points
    def attach_points(self) -> list[tuple[str, int, int]]:
        """The comma-separated attach points from here to ``{`` or to the filter's ``/``, as (text, start, end).

        A ``/`` right after ``:`` or inside a word starts or continues a path; one after white space opens the filter.
        """
        points: list[tuple[str, int, int]] = []
        text, n = self.text, len(self.text)
        while True:
            self.skip()
            start = i = self.position
            quoted = False
            while i < n:
                c = text[i]
                if c == '"':
                    quoted = not quoted
                elif not quoted and (c in ",{ \t\r\n\f\v" or (c == "/" and (i == start or (text[i - 1] in ')"' and i > start)))):
                    break
                i += 1
            if quoted:
                fail("syntax: unterminated string", self.span(start, i), 'close it with "')
            if i == start:
                what = f"'{text[i]}'" if i < n else "end of file"
                fail(
                    f"syntax: expected a probe, found {what}",
                    self.span(start, start + 1),
                    "a program looks like: tracepoint:syscalls:sys_enter_openat { ... }",
                )
            points.append((text[start:i], start, i))
            self.position = i
            self.skip()
            if not text.startswith(",", self.position):
                return points
            self.position += 1
