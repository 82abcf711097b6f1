"""``trace-cmd sqlhist``: SQL to the commands that make a histogram or a synthetic event; ``-e`` executes them.

    sqlhist -e -n lat 'SELECT end.next_pid AS pid, (end.TIMESTAMP_USECS - start.TIMESTAMP_USECS) AS lat
                       FROM sched_waking AS start JOIN sched_switch AS end ON start.pid = end.next_pid'

``languages.sqlhist`` has the grammar.  What was executed stays: ``trace-cmd reset`` removes it.
"""

from __future__ import annotations

import os
import sys

from ...base.diagnostics import Source
from ...base.errors import KernelError, UsageError
from ...kernel.kernel import live
from ...kernel.tracefs import MOUNT_POINTS, Tracefs
from ...languages.sqlhist.build import Built, build
from ...languages.sqlhist.parse import parse as parse_sql
from ...session.ftrace_sql import Finder, execute, new_trace, number
from .arguments import parse
from .setup import open_tracefs

__all__ = ("commands", "run")

USAGE = """\
usage:
  harken trace-cmd sqlhist [-n NAME] [-e] [-s] [-S FIELDS] [-m VAR] [-c VAR] [-T] [-t DIR] [-B BUFFER] [-f FILE | SQL ...]

   -n NAME    of the synthetic event, instead of Anonymous   -e         execute the commands
   -m VAR     act when VAR is a new maximum                  -c VAR     act when VAR changes
   -s         then: take a snapshot                          -S FIELDS  then: keep these fields of the end event
   -T         then: trace and take a snapshot                -t DIR     instead of /sys/kernel/tracing
   -B BUFFER  where the triggers are set                     -f FILE    read the SQL from a file, - is standard input
"""

_LIMIT = 1 << 16


def run(argv: list[str]) -> int:
    """Runs the command; returns the exit status."""
    pairs, rest = parse(argv, "ht:f:en:m:c:sS:TB:", ("help",), command=False)
    given = dict(pairs)
    if "h" in given or "help" in given or not (rest or "f" in given):
        print(USAGE, end="", file=sys.stdout if "h" in given or "help" in given else sys.stderr)
        return 0 if "h" in given or "help" in given else 255
    if "m" in given and "c" in given:
        raise UsageError("-m and -c exclude each other")
    handler, variable = ("onmax", given["m"]) if "m" in given else ("onchange", given["c"]) if "c" in given else ("", "")
    if not handler and {"s", "S", "T"} & set(given):
        raise UsageError("-s, -S and -T need -m or -c", "they say what happens at a new maximum (-m VAR) or a change (-c VAR)")
    source = _text(given["f"]) if "f" in given else Source("sql", " ".join(rest))
    root = events = open_tracefs() if "e" in given or "t" not in given else Tracefs(live(), MOUNT_POINTS[0])
    if "t" in given:  # a copy, perhaps of another machine: only its events are looked at
        events = Tracefs(root.kernel, given["t"].rstrip("/"))
        if not events.exists("events"):
            raise KernelError(f"{given['t']} is no directory of tracefs", errno=2, hint="it needs events/SYSTEM/EVENT/format files")
    built = build(
        parse_sql(source),
        Finder(events),
        given.get("n", "Anonymous"),
        number(),
        handler,
        variable,
        [word for word in given.get("S", "").split(",") if word],
        "s" in given or "T" in given,
        "T" in given,
        new_trace(root),
    )
    buffer = given.get("B", "")
    if "e" in given:
        execute(root, built, buffer)
    for line in commands(root, built, buffer):
        print(line)
    return 0


def _text(path: str) -> Source:
    if path == "-":
        return Source("stdin", sys.stdin.read(_LIMIT))
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return Source(path, file.read(_LIMIT))
    except OSError as error:
        raise KernelError(f"cannot read {path}: {os.strerror(error.errno or 5)}", errno=error.errno or 5) from None


def commands(root: Tracefs, built: Built, buffer: str = "") -> list[str]:
    """The shell commands that do it."""
    top = root.root
    base = f"{top}/instances/{buffer}" if buffer else top
    system, event, trigger = built.start
    if built.end is None:
        return [f"echo '{trigger}' > {base}/events/{system}/{event}/trigger"]
    old = root.exists("synthetic_events") and not root.exists("dynamic_events")
    target = "synthetic_events" if old else "dynamic_events"
    return [
        f"echo '{'' if old else 's:'}{built.name} {built.fields}' >> {top}/{target}",
        f"echo '{trigger}' >> {base}/events/{system}/{event}/trigger",
        f"echo '{built.end[2]}' >> {base}/events/{built.end[0]}/{built.end[1]}/trigger",
    ]
