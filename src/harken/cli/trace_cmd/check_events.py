"""``trace-cmd check-events``: whether all event formats of this machine can be parsed and printed."""

from __future__ import annotations

import sys

from ...base.errors import FormatError, UsageError
from ...formats.trace_dat_events import Events
from .arguments import parse
from .setup import open_tracefs

__all__ = ("run", "problems_of")


def run(argv: list[str]) -> int:
    """Runs the command; returns the exit status: 0 if all can be parsed."""
    pairs, rest = parse(argv, "hNv", ("help", "verbose?"))
    names = [option for option, _ in pairs]
    if "h" in names or "help" in names:
        print("usage:\n  harken trace-cmd check-events [-v]\n\n   -v name the events that are printed without their own format, and why")
        return 0
    if rest:
        raise UsageError(f"check-events takes no {rest[0]!r}")
    root = open_tracefs()
    texts: list[tuple[str, bytes]] = []
    for system, event in root.events():
        try:
            texts.append((system, root.kernel.read(root.path(f"events/{system}/{event}/format"), 1 << 20)))
        except OSError:  # a dynamic event that has just gone
            continue
    events = Events(texts)
    found = problems_of(events)
    for problem in found:
        print(problem, file=sys.stderr)
    if "v" in names:
        from ...formats.print_fmt import Env, compile_format

        for number in events.ids:
            event_format = events.get(number)
            if event_format is not None and (renderer := compile_format(event_format, Env())).problem:
                print(f"{event_format.category}:{event_format.name}: fields only: {renderer.problem}")
    return 1 if found else 0


def problems_of(events: Events) -> list[str]:
    """What cannot be parsed, one sentence per event."""
    found = []
    for number in events.ids:
        try:
            events[number]
        except FormatError as error:
            found.append(str(error))
    return found
