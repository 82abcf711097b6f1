"""Diagnostics and errors as text.

Form: ``FILE:LINE:COLUMN-COLUMN: ERROR: message``, the source line, ``~~~`` under the span, ``HINT: what to do``.

Example:
    >>> from harken.base.diagnostics import Source, error
    >>> print(diagnostic_text(error("Undefined variable: $x", Source("stdin", "BEGIN { $x }").span(8, 10), "assign it first")))
    stdin:1:9-11: ERROR: Undefined variable: $x
    BEGIN { $x }
            ~~
    HINT: assign it first
"""

from __future__ import annotations

from ..base.errors import HarkenError, KernelError, SourceError, VerifierError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..base.diagnostics import Diagnostic, Span

__all__ = ("diagnostic_text", "error_text", "warning_text")

_WORDS = {"error": "ERROR", "warning": "WARNING"}
#: Longest source line that is shown whole; of longer ones a window around the span.
_WINDOW = 512


def diagnostic_text(diagnostic: Diagnostic) -> str:
    """A diagnostic with its source line, without a line end."""
    word = _WORDS.get(diagnostic.severity, diagnostic.severity.upper())
    lines = [f"{diagnostic.position}: {word}: {diagnostic.message}" if diagnostic.span else f"{word}: {diagnostic.message}"]
    if diagnostic.span is not None:
        lines += _excerpt(diagnostic.span)
    for span, note in diagnostic.related:
        lines.append(f"{_position(span)}: NOTE: {note}")
        lines += _excerpt(span)
    if diagnostic.hint:
        lines.append(f"HINT: {diagnostic.hint}")
    return "\n".join(lines)


def warning_text(position: str, message: str, hint: str = "", source: tuple[str, str] | None = None) -> str:
    """A warning that a compiled program keeps: ``position`` is "name:line:column-column"; ``source`` is (name, text) if it is known."""
    lines = [f"{position}: WARNING: {message}" if position else f"WARNING: {message}"]
    if source is not None and position.startswith(source[0] + ":"):
        lines += _excerpt_at(source[1], position[len(source[0]) + 1 :])
    if hint:
        lines.append(f"HINT: {hint}")
    return "\n".join(lines)


def error_text(error: HarkenError, full: bool = False) -> str:
    """Any of harken's errors, with its hint, without a line end.

    Args:
        full: show the verifier's whole log.
    """
    if isinstance(error, SourceError):
        return "\n".join([diagnostic_text(diagnostic) for diagnostic in error.diagnostics])
    lines = []
    if isinstance(error, VerifierError):
        if error.diagnostic is not None:
            text = diagnostic_text(error.diagnostic)
            hint = error.hint if error.diagnostic.hint != error.hint else ""
        else:
            text, hint = f"ERROR: {error.message}", error.hint
        lines.append(text)
        if hint:
            lines.append(f"HINT: {hint}")
        if full:
            lines.append(error.log.rstrip())
        elif error.log:
            lines.append("NOTE: -v shows the verifier's whole log")
        return "\n".join(lines)
    place = error.diagnostic if isinstance(error, KernelError) else None
    if place is not None:
        return "\n".join([diagnostic_text(place)] + ([f"HINT: {error.hint}"] if error.hint not in ("", place.hint) else []))
    lines.append(f"ERROR: {error.message}")
    if error.hint:
        lines.append(f"HINT: {error.hint}")
    return "\n".join(lines)


def _position(span: Span) -> str:
    from ..base.diagnostics import Diagnostic

    return Diagnostic("note", "", span).position


def _excerpt(span: Span) -> list[str]:
    """The source line and the marks below it; nothing for a span over several lines but its first line."""
    source = span.source
    line, column = source.line_column(span.start)
    last_line, last_column = source.line_column(span.end)
    text = source.line_text(line)
    if last_line != line:
        return [_visible(text)] if text.strip() else []
    return _marked(text, column, max(last_column, column + 1))


def _excerpt_at(text: str, place: str) -> list[str]:
    """The same from "line:column-column"."""
    line, _, columns = place.partition(":")
    first, _, last = columns.partition("-")
    if not (line.isdigit() and first.isdigit() and last.isdigit()):
        return []
    lines = text.split("\n")
    if not 0 < int(line) <= len(lines):
        return []
    return _marked(lines[int(line) - 1], int(first), int(last))


def _marked(text: str, column: int, end: int) -> list[str]:
    if len(text) > _WINDOW:
        cut = max(0, column - 1 - _WINDOW // 4)
        text, column, end = text[cut : cut + _WINDOW], column - cut, end - cut
    end = min(end, max(len(text) + 1, column + 1))
    before = "".join(["\t" if character == "\t" else " " for character in text[: column - 1]])
    return [_visible(text), before + "~" * (end - column)]


def _visible(text: str) -> str:
    """Control characters and undecodable bytes of a hostile source do not reach the terminal, and the marks stay in place."""
    if text.isascii() and text.isprintable():
        return text
    return "".join([c if c == "\t" or c.isprintable() else "?" for c in text])
