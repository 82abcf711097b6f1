"""``trace-cmd stop``, ``restart`` and ``clear``: tracing off, on again, and empty buffers.  Settings stay as they are."""

from __future__ import annotations

from ...base.errors import UsageError
from .arguments import parse
from .buffers import chosen
from .setup import open_tracefs

__all__ = ("run",)


def run(argv: list[str]) -> int:
    """Runs the command named by the first word; returns the exit status."""
    name, *words = argv
    pairs, rest = parse(words, "B:ath", ("help",))
    if any(option in ("h", "help") for option, _ in pairs):
        print(f"usage:\n  harken trace-cmd {name} [-B BUFFER [-B ...]] [-a] [-t]\n\n   -a all instances   -t the top buffer, too")
        return 0
    if rest:
        raise UsageError(f"{name} takes no {rest[0]!r}")
    root = open_tracefs()
    for trace in chosen(root, pairs, everything=name == "clear"):
        if name == "clear":
            trace.clear()
        else:
            trace.tracefs.write("tracing_on", "1" if name == "restart" else "0")
    return 0
