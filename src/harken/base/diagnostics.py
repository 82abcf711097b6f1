"""Diagnostics are values: whoever finds a problem makes one, whoever owns a terminal renders it (``render.diagnostic``).

Example:
    >>> source = Source("stdin", "BEGIN { foo }")
    >>> error("undefined: foo", source.span(8, 11), "did you mean 'for'?").position
    'stdin:1:9-12'
"""

from __future__ import annotations

from .record import Record

__all__ = ("Source", "Span", "Diagnostic", "error", "warning", "nearest")


class Source(Record):
    """A text that programs are compiled from; ``name`` is what the user calls it ("stdin" for -e, else the file name)."""

    name: str
    text: str

    def span(self, start: int, end: int) -> Span:
        return Span(self, start, max(start, end))

    def line_column(self, offset: int) -> tuple[int, int]:
        """1-based line and column of a character offset."""
        offset = min(max(offset, 0), len(self.text))
        line = self.text.count("\n", 0, offset) + 1
        return line, offset - (self.text.rfind("\n", 0, offset) + 1) + 1

    def line_text(self, line: int) -> str:
        lines = self.text.split("\n")
        return lines[line - 1] if 0 < line <= len(lines) else ""


class Span(Record):
    """A half-open range of character offsets of one source."""

    source: Source
    start: int
    end: int

    @property
    def text(self) -> str:
        return self.source.text[self.start : self.end]

    @property
    def line(self) -> int:
        return self.source.line_column(self.start)[0]

    def to(self, other: Span) -> Span:
        """The span from this one's start to the other's end."""
        return Span(self.source, min(self.start, other.start), max(self.end, other.end))


class Diagnostic(Record):
    """One message about one place.

    ``severity`` is "error" or "warning"; ``related`` holds (span, note) pairs such as "map first used here".
    """

    severity: str
    message: str
    span: Span | None = None
    hint: str = ""
    related: tuple[tuple[Span, str], ...] = ()

    @property
    def position(self) -> str:
        """``name:line:column-column``, or ``name:line-line`` over several lines (the end column is exclusive)."""
        if self.span is None:
            return ""
        source = self.span.source
        line, column = source.line_column(self.span.start)
        last_line, last_column = source.line_column(self.span.end)
        if last_line != line:
            return f"{source.name}:{line}-{last_line}"
        if last_column <= column:
            last_column = column + 1
        return f"{source.name}:{line}:{column}-{last_column}"


def error(message: str, span: Span | None = None, hint: str = "", related: tuple[tuple[Span, str], ...] = ()) -> Diagnostic:
    """An error diagnostic."""
    return Diagnostic("error", message, span, hint, related)


def warning(message: str, span: Span | None = None, hint: str = "") -> Diagnostic:
    """A warning diagnostic."""
    return Diagnostic("warning", message, span, hint)


def nearest(name: str, candidates: object, limit: int = 3, closeness: float = 0.6) -> list[str]:
    """The candidates that look most like ``name``, best first (for "did you mean"); ``closeness`` 1 is the name itself."""
    from difflib import get_close_matches

    return get_close_matches(name, list(candidates), limit, closeness)  # type: ignore[call-overload]
