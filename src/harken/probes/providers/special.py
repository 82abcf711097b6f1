"""BEGIN and END: programs that run once, when tracing starts and when it stops.

The session runs them itself, so they need no event and see no arguments.
"""

from __future__ import annotations

from ..model import Pattern, Probe, View
from .base import fail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...base.diagnostics import Span

__all__ = ("PROVIDERS",)


class Special:
    """``BEGIN`` and ``END``."""

    aliases: tuple[str, ...] = ()
    attachers = ("run",)

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def parse(self, words: tuple[str, ...], span: Span | None) -> Pattern:
        if words:
            fail(f"{self.kind} probe type requires 0 arguments, found {len(words)}", span, f"write {self.kind}")
        return Pattern(self.kind, (), span)

    def expand(self, pattern: Pattern, catalogue: Any) -> tuple[Probe, ...]:
        return (Probe(self.kind, (), self.kind),)

    def near(self, pattern: Pattern, catalogue: Any) -> list[str]:
        return []

    def view(self, probe: Probe, catalogue: Any) -> View:
        return View()


PROVIDERS = (Special("BEGIN"), Special("END"))
