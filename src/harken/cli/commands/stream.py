"""``harken stream``: kernel events and calls as text while they happen, until the command ends or Ctrl-C.

The options are those of ``harken record``, without what is about its file.
"""

from __future__ import annotations

__all__ = ("NAME", "HELP", "run")

NAME = "stream"
HELP = "print events and calls of the kernel as they happen"

USAGE = """\
USAGE: harken stream [OPTIONS] [COMMAND ...]

The options are those of 'harken record', without what is about the file.

EXAMPLES:
    harken stream -e sched_process_exec       every program that is executed, until Ctrl-C
    harken stream ls                          scheduling and system calls of ls
    harken stream -e sched_switch -f 'next_comm ~ "ls*"' -d 5
"""


def run(argv: list[str]) -> int:
    """Runs the command; returns the exit status."""
    from ..trace_cmd import stream
    from .record import prepared

    setup = prepared(argv)
    if setup.help:
        print(USAGE, end="")
        return 0
    return stream.stream(setup)
