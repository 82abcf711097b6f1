"""The command line of ``harken graph``."""

from __future__ import annotations

import os

from ...base.errors import UsageError
from ...base.record import Record

__all__ = ("NAME", "HELP", "Options", "options", "parse_time")

NAME = "graph"
HELP = "show who calls whom and how long it takes, of kernel or user functions"

_EXAMPLES = """\
examples:
  harken graph -F do_sys_openat2 ls                     a kernel function and all that it calls, while ls runs
  harken graph -F 'vfs_*' --depth 2 -d 5                two levels, five seconds
  harken graph -F vfs_read --threshold 1ms              only long calls, until Ctrl-C
  harken graph -F vfs_read --summary -- ls -R /etc      time per function, and what each called most
  harken graph -F vfs_read --folded -d 5 > vfs.folded   for flame graphs
  harken graph -x ./program -F main -F 'parse_*' -- ./program input
  harken graph -i trace.dat --summary                   calls that harken or trace-cmd recorded
"""

_UNITS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}


class Options(Record):
    """The command's options; ``threshold`` in ns, ``duration`` in seconds."""

    functions: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    binary: str = ""
    threshold: int = 0
    depth: int = 0
    summary: bool = False
    folded: bool = False
    sort: str = "self_time"
    top: int = 30
    pid: int = 0
    command: tuple[str, ...] = ()
    duration: float | None = None
    words: tuple[str, ...] = ()
    using: str = ""
    input: str = ""


def parse_time(text: str) -> int:
    """A time with its unit as ns; without one it is in microseconds, as in ``tracing_thresh``.

    Example:
        >>> parse_time("1.5ms"), parse_time("20")
        (1500000, 20000)

    Raises:
        UsageError: it is none.
    """
    digits = text.rstrip("nums")
    try:
        value = float(digits) * _UNITS[text[len(digits) :] or "us"]
    except (KeyError, ValueError):
        raise UsageError(f"{text!r} is not a time", "for example: 500ns, 20us, 1.5ms, 2s") from None
    if not 0 <= value < 1e18:
        raise UsageError(f"{text!r} is not a time that can be measured")
    return int(value)


def options(argv: list[str]) -> Options:
    """The options in the arguments after the command's name.

    Raises:
        UsageError: they contradict each other.
    """
    import argparse

    parser = argparse.ArgumentParser(
        prog=f"harken {NAME}",
        description=HELP[0].upper() + HELP[1:] + ".",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("-F", "--function", action="append", default=[], metavar="FUNC", help="this function (or glob) and what it calls; several")
    add("-l", "--only", action="append", default=[], metavar="FUNC", help="record only these kernel functions, whoever calls them")
    add("-x", "--binary", default="", help="functions of this program or library")
    add("-t", "--threshold", default="0", metavar="TIME", help="only calls at least this long (20us, 1.5ms)")
    add("--depth", type=int, default=0, metavar="N", help="only N levels of calls")
    add("--summary", action="store_true", help="time per function, and what each called most")
    add("--folded", action="store_true", help="folded stacks with their own time in ns, for flame graphs")
    add("--sort", choices=("self", "total", "calls", "longest"), default="self", help="order of the summary")
    add("--top", type=int, default=30, metavar="N", help="lines of the summary (default: 30)")
    add("-p", "--pid", type=int, default=0, help="only this process")
    add("-c", "--cmd", default="", metavar="COMMAND", help="run this command, trace only it")
    add("-d", "--duration", type=float, default=None, metavar="SECONDS", help="end after this time")
    add(
        "-O", dest="words", action="append", default=[], metavar="OPTION", help="an option of the tracer: funcgraph-proc, nosleep-time, ..."
    )
    add("-i", "--input", default="", metavar="FILE", help="calls of a recording (trace.dat) instead of a live trace")
    add("--using", choices=("function_graph", "fentry", "kprobe"), default="", help="how to trace kernel functions")
    add("command", nargs=argparse.REMAINDER, help="a command to run and trace")
    found = parser.parse_args(argv)
    command = tuple(found.command[1:] if found.command[:1] == ["--"] else found.command)
    if found.cmd:
        import shlex

        if command:
            raise UsageError("a command is given twice")
        command = tuple(shlex.split(found.cmd))
    if command and found.pid:
        raise UsageError("a graph follows a process or a command, not both")
    if found.binary and not found.function:
        raise UsageError("which functions? say -F FUNC", "globs are allowed: -F 'parse_*'")
    if found.binary and found.only:
        raise UsageError("-l is for kernel functions; with -x, say -F")
    if found.depth < 0 or found.pid < 0 or found.top < 1 or (found.duration is not None and not found.duration > 0):
        raise UsageError("--depth, --pid, --top and --duration are positive numbers")
    if found.input and (found.binary or found.only or found.using or command or found.duration):
        raise UsageError("-i is for a recording; -x, -l, -d, --using and a command are for a live trace")
    binary = found.binary
    if binary and "/" not in binary:
        from shutil import which

        binary = which(binary) or binary
    return Options(
        tuple(found.function),
        tuple(found.only),
        os.path.abspath(binary) if binary else "",
        parse_time(found.threshold),
        found.depth,
        found.summary,
        found.folded,
        "self_time" if found.sort == "self" else found.sort,
        found.top,
        found.pid,
        command,
        found.duration,
        tuple(found.words),
        found.using,
        found.input,
    )
