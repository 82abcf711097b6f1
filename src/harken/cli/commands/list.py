"""``harken list [PATTERN]``: what can be traced on this machine.

Without a pattern: tracepoints, raw tracepoints, kernel functions, software, hardware, cache and PMU events, timers, iterators,
tracers, trace options and clocks.  With ``-v``: fields, parameters, layouts.  ``probes.listing`` explains patterns and does the work,
``probes.description`` knows the details.
"""

from __future__ import annotations

import sys

from ...base.errors import HarkenError
from ..guarded import guarded, tell

__all__ = ("NAME", "HELP", "run")

NAME = "list"
HELP = "list what can be traced: events, functions, markers, types"

_EPILOG = """\
patterns ('*' is the only wildcard):
  tracepoint:sched:*             events of a category; -v shows their fields
  kprobe:vfs_*  fentry:vfs_*     kernel functions; -v shows their parameters
  *tcp*                          whatever has a part that matches
  sched_switch                   whatever is called so
  uprobe:/bin/bash:read*         functions of a program; also uprobe:libc:malloc
  usdt:/usr/bin/python3:*        static markers of a program
  software  hardware  pmu  ...   everything of a kind
  struct task_struct             with -v: its layout; also union, enum
"""


def run(argv: list[str]) -> int:
    """Runs the command with the arguments after its name; returns the exit code."""
    import argparse

    parser = argparse.ArgumentParser(
        prog=f"harken {NAME}", description=f"{HELP}.", epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pattern", nargs="*", help="what to look for; everything if missing")
    parser.add_argument("-v", "--verbose", action="store_true", help="show fields, parameters and layouts")
    parser.add_argument("-p", "--pid", type=int, default=-1, metavar="PID", help="add functions and markers of this process")
    options = parser.parse_args(argv)
    return show(" ".join(options.pattern), options.pid, options.verbose)


def show(pattern: str, pid: int = -1, verbose: bool = False) -> int:
    """Writes what matches to standard output; returns the exit code (1 if nothing does)."""
    from ...kernel.kernel import live
    from ...probes import description, listing
    from ...probes.catalogue import Catalogue
    from ...render.listing import text

    catalogue = Catalogue(live())

    def write() -> int:
        written = False
        groups = listing.search(catalogue, pattern, pid)
        for piece in text(groups, (lambda name: description.describe(catalogue, name)) if verbose else None):
            sys.stdout.write(piece)
            written = True
        sys.stdout.flush()
        if written:
            return 0
        near = listing.near(catalogue, pattern)
        tell(NAME, HarkenError(f"nothing matches {pattern!r}", f"did you mean {' or '.join(near)}?" if near else ""))
        return 1

    return guarded(NAME, write)
