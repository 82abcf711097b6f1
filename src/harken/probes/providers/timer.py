"""profile and interval: programs that run again and again.

``profile:hz:99`` runs on every CPU 99 times a second and sees what that CPU was doing; ``interval:s:1`` runs once a second on one CPU.
The unit is ``hz``, ``s``, ``ms``, ``us`` or ``ns``; ``interval:100ms`` and ``interval:100000000`` (nanoseconds) are the short forms.
"""

from __future__ import annotations

from ..model import Pattern, Probe, View
from .base import count, fail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...base.diagnostics import Span

__all__ = ("PROVIDERS", "NANOSECONDS")

#: unit -> nanoseconds; ``hz`` counts per second instead
NANOSECONDS = {"ns": 1, "us": 1000, "ms": 1000_000, "s": 1000_000_000, "m": 60 * 1000_000_000, "h": 3600 * 1000_000_000}

#: Units that may stand as a part of their own.
_UNITS = ("hz", "s", "ms", "us", "ns")
_LIMIT = (1 << 63) - 1


class Timer:
    """One of the two kinds."""

    def __init__(self, kind: str, alias: str, example: str) -> None:
        self.kind, self.aliases, self.example = kind, (alias,), example
        self.attachers = ("perf_timer",)

    def parse(self, words: tuple[str, ...], span: Span | None) -> Pattern:
        write = f"write {self.example}"
        if len(words) == 1 and words[0].lower() not in _UNITS:
            return Pattern(self.kind, self._short(words[0], span), span)
        if len(words) != 2:
            fail(f"{self.kind} probe type requires 2 arguments, found {len(words)}", span, write)
        unit = words[0].lower()
        if unit not in _UNITS:
            fail(f"{words[0]} is not an accepted unit of time", span, f"the units are {', '.join(_UNITS)}: {write}")
        self._check(unit, count(words[1], span, f"the {'frequency' if unit == 'hz' else 'time'} of {self.kind}", self.example), span)
        return Pattern(self.kind, (unit, words[1]), span)

    def _short(self, word: str, span: Span | None) -> tuple[str, str]:
        unit = word.lstrip("0123456789_")
        if not unit or word[0] not in "0123456789" or word[:2].lower() == "0x" or (unit[:1] == "e" and unit[1:].isdigit()):
            unit, value = "ns", word
        else:
            value = word[: len(word) - len(unit)]
        if unit.lower() not in NANOSECONDS:
            fail(f"{unit} is not an accepted unit of time", span, f"write {self.example}, or {self.kind}:100ms")
        self._check(unit.lower(), count(value, span, f"the time of {self.kind}", self.example), span)
        return unit.lower(), value

    def _check(self, unit: str, value: int, span: Span | None) -> None:
        if value > (1_000_000_000 if unit == "hz" else _LIMIT // NANOSECONDS[unit]):
            fail(f"{value} {unit} is out of range", span, f"write {self.example}")

    def expand(self, pattern: Pattern, catalogue: Any) -> tuple[Probe, ...]:
        unit, word = pattern.words
        return (Probe(self.kind, (unit, count(word, pattern.span, self.kind, self.example)), f"{self.kind}:{unit}:{word}"),)

    def near(self, pattern: Pattern, catalogue: Any) -> list[str]:
        return []

    def view(self, probe: Probe, catalogue: Any) -> View:
        return View()


PROVIDERS = (Timer("profile", "p", "profile:hz:99"), Timer("interval", "i", "interval:s:1"))
