"""software and hardware: every Nth event of a counter of the kernel or the CPU.

``software:page-faults:100`` runs at every hundredth page fault, on the CPU and in the process that took it.  Without a count each event
has a default that keeps the load bearable.  Events go by the kernel's names, with the usual short ones as aliases.
"""

from __future__ import annotations

from ...kernel import perf_event_names as names
from ..model import Pattern, Probe, View
from .base import count, either, fail, is_glob, matcher, near_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...base.diagnostics import Span

__all__ = ("PROVIDERS", "Event")


class Event:
    """One of the two kinds."""

    def __init__(self, kind: str, alias: str, table: tuple[names.Event, ...], example: str) -> None:
        self.kind, self.aliases, self.example = kind, (alias,), example
        self.attachers = (f"perf_{kind}",)
        self.table = {event.name: event for event in table}
        self._names = {alias: event.name for event in table for alias in (event.name, *event.aliases)}

    def parse(self, words: tuple[str, ...], span: Span | None) -> Pattern:
        if len(words) not in (1, 2):
            fail(f"{self.kind} probe type requires 1 or 2 arguments, found {len(words)}", span, f"write {self.example}")
        if not is_glob(words[0]) and words[0] not in self._names:
            near = near_names(words[0], self._names)
            hint = f"did you mean {either(near)}?" if near else f"the events are {', '.join(self.table)}"
            fail(f"{words[0]} is not a {self.kind} probe", span, hint)
        if len(words) == 2:
            self._period(words[1], span)
        return Pattern(self.kind, words, span)

    def _period(self, word: str, span: Span | None) -> int:
        value = count(word, span, f"the count of {self.kind}", self.example)
        if value >> 63:
            fail(f"the count of {self.kind} is out of range", span, f"write {self.example}")
        return value

    def expand(self, pattern: Pattern, catalogue: Any) -> tuple[Probe, ...]:
        word, *period = pattern.words
        probes = []
        for name in matcher(word, self.table) if is_glob(word) else [self._names[word]]:
            shown = name if is_glob(word) else word
            every = self._period(period[0], pattern.span) if period else self.table[name].period
            probes.append(Probe(self.kind, (name, every), ":".join((self.kind, shown, *period))))
        return tuple(probes)

    def near(self, pattern: Pattern, catalogue: Any) -> list[str]:
        return near_names(pattern.words[0], self._names)

    def view(self, probe: Probe, catalogue: Any) -> View:
        return View()


PROVIDERS = (
    Event("software", "s", names.SOFTWARE, "software:page-faults:100"),
    Event("hardware", "h", names.HARDWARE, "hardware:cache-misses:1000000"),
)
