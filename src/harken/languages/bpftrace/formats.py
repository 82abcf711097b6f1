"""printf formats at compile time: which conversions there are and what each accepts.

Example:
    >>> [c.verb for c in conversions("%-16s %5lld%%\\n")]
    ['s', 'd']
"""

from __future__ import annotations

from ...base.record import Record
from ...compiler.builtins import types as T

__all__ = ("Conversion", "FormatProblem", "conversions", "accepts")

_LENGTHS = ("hh", "ll", "h", "l", "j", "z", "t")
_INTEGER = frozenset("diouxXcp")


class Conversion(Record):
    """One conversion: ``text`` as written, ``start`` its place in the format, ``verb`` its letter ("r", "rx", "rh" for buffers)."""

    text: str
    start: int
    verb: str


class FormatProblem(Exception):
    """A conversion that does not exist; ``text`` is what was written."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


def conversions(format: str) -> list[Conversion]:
    """All conversions in order.

    Raises:
        FormatProblem: for the first that is none.
    """
    found: list[Conversion] = []
    i, n = 0, len(format)
    while True:
        start = format.find("%", i)
        if start < 0:
            return found
        i = start + 1
        while i < n and format[i] in "-+ #0":
            i += 1
        while i < n and format[i] in "0123456789*.":
            i += 1
        length = next((word for word in _LENGTHS if format.startswith(word, i)), "")
        i += len(length)
        verb = format[i : i + 1]
        i += 1
        if verb == "%":
            continue
        if verb == "r" and format[i : i + 1] in ("x", "h"):
            verb += format[i]
            i += 1
        if verb not in _INTEGER and verb not in ("s", "r", "rx", "rh"):
            raise FormatProblem(format[start:i])
        found.append(Conversion(format[start:i], start, verb))


def accepts(verb: str, kind: T.Type) -> bool:
    """Whether a conversion can show a value of this type."""
    if verb in _INTEGER:
        return kind.kind in ("int", "bool", "enum", "ptr", "ksym", "timestamp")
    if verb == "s":
        return T.is_printable(kind)
    return kind.kind in ("buf", "string", "array", "mac")
