"""``harken hist``: the kernel counts events by their fields; tables and plots of what it counted.

::

    harken hist kmem:kmalloc -k bytes_req.log2 -d 5            # sizes of allocations, as bars
    harken hist raw_syscalls:sys_enter -k id.syscall,common_pid.execname -- ls /
    harken hist kmem:kmalloc -k call_site.sym -v bytes_req -s bytes_req --top 20 -d 1
    harken hist --sql 'SELECT end.next_comm AS comm, (end.TIMESTAMP_USECS - start.TIMESTAMP_USECS) AS us
                       FROM sched_waking AS start JOIN sched_switch AS end ON start.pid = end.next_pid' -d 5

Histogram triggers do it in a private instance; nothing is copied to user space but the counts.  Kernels without them
(CONFIG_HIST_TRIGGERS) are told so.
"""

from __future__ import annotations

import sys

from ...base.errors import ProbeError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...formats.event_histogram import EventHistogram
    from ...session.ftrace_api import TraceInstance
    from ...session.ftrace_histogram import HistogramTrigger

__all__ = ("NAME", "HELP", "run")

NAME = "hist"
HELP = "count events of the kernel by their fields: tables and plots"

USAGE = """\
USAGE: harken hist [SYSTEM:]EVENT [OPTIONS] [-- COMMAND ...]
       harken hist --sql 'SELECT ...' [OPTIONS] [-- COMMAND ...]

    -k KEY,...    one to three fields to count by (default: common_pid.execname); modifiers: .log2 .buckets=N .hex .sym .sym-offset
                  .execname .syscall; common_stacktrace and common_cpu are keys too
    -v FIELD,...  fields to sum up beside the hits
    -s FIELD      sort by a key or value; FIELD.descending: the largest first
    -f FILTER     count only if this holds
    -p PID        count only what this task does
    -n ROWS       room for so many rows (default: 2048)
    -d SECONDS    count so long (default: until the command ends, or Ctrl-C)
    -i SECONDS    show the state every so often
    --top N       only the N largest rows
    --table       a table, also for ranges      --plot   bars, also without ranges      --json   one object per row
    --sql TEXT    count what a statement says; joined events become a synthetic event, of which all fields are keys
"""


def run(argv: list[str]) -> int:
    """Runs the command; returns the exit status."""
    from ..trace_cmd.arguments import parse

    pairs, rest = parse(_before_command(argv)[0], "hk:v:s:f:p:n:d:i:", ("help", "top=", "table", "plot", "json", "sql="))
    command = _before_command(argv)[1]
    given = dict(pairs)
    if "h" in given or "help" in given:
        print(USAGE, end="")
        return 0
    if len(rest) + ("sql" in given) != 1:
        raise UsageError("hist needs one event, or --sql", "such as 'harken hist kmem:kmalloc -k bytes_req.log2'")
    from ...session.ftrace_api import instance
    from ..trace_cmd.setup import open_tracefs

    open_tracefs()
    with instance() as trace:
        found = _trigger(trace, given, rest)
        _count(trace, found, given, command)
    return 0


def _before_command(argv: list[str]) -> tuple[list[str], list[str]]:
    """(options, the command behind ``--``)."""
    if "--" not in argv:
        return argv, []
    at = argv.index("--")
    return argv[:at], argv[at + 1 :]


def _number(given: dict[str, str], name: str, default: float) -> float:
    try:
        value = float(given.get(name, default))
    except ValueError:
        raise UsageError(f"{given[name]!r} is not a number") from None
    if not 0 <= value < 1e9:
        raise UsageError(f"{given[name]!r} is out of range")
    return value


def _trigger(trace: TraceInstance, given: dict[str, str], rest: list[str]) -> HistogramTrigger:
    condition = given.get("f", "")
    if "p" in given:
        own = f"common_pid == {int(_number(given, 'p', 0))}"
        condition = f"({condition}) && {own}" if condition else own
    size = int(_number(given, "n", 0))
    if "sql" in given:
        from ...session.ftrace_histogram import HistogramTrigger

        made = trace.sql(given["sql"])
        if isinstance(made, HistogramTrigger):
            return made
        keys = given.get("k") or ",".join(_keys(made.fields))
        return trace.histogram(f"synthetic:{made.name}", keys, given.get("v", ""), given.get("s", ""), size, condition)
    return trace.histogram(rest[0], given.get("k", "common_pid.execname"), given.get("v", ""), given.get("s", ""), size, condition)


def _keys(fields: str) -> list[str]:
    """Keys for the fields of a synthetic event: texts and PIDs as they are, other numbers by powers of two.

    Example:
        >>> _keys("pid_t pid; u64 lat; char comm[16];")
        ['pid', 'comm', 'lat.log2']
    """
    plain: list[str] = []
    ranges: list[str] = []
    for field in fields.split(";"):
        kind, _, name = field.strip().rpartition(" ")
        if name:
            (plain if "[" in field or kind == "pid_t" else ranges).append(name.partition("[")[0])
    return [*plain, *[f"{name}.log2" for name in ranges]][:3]


def _count(trace: TraceInstance, found: HistogramTrigger, given: dict[str, str], words: list[str]) -> None:
    import time

    from ..trace_cmd.running import Stop

    stop = Stop()
    command = None
    end = time.monotonic() + _number(given, "d", 0) if "d" in given else None
    every = _number(given, "i", 0)
    try:
        if words:
            from ...session.recorder_ftrace_command import RecordedCommand

            command = RecordedCommand(words)
        found.clear()
        if command is not None:
            command.release()
        elif end is None:
            print("counting: Ctrl-C ends it", file=sys.stderr, flush=True)
        following = time.monotonic() + every if every else None
        while not stop.wanted and not (command is not None and command.poll()):
            now = time.monotonic()
            if end is not None and now >= end:
                break
            if following is not None and now >= following:
                _show(found.read(), given)
                print()
                following = now + every
            time.sleep(max(0.001, min([0.05, *([end - now] if end is not None else [])])))
        found.pause()
        _show(found.read(), given)
    finally:
        if command is not None:
            command.close()
        stop.restore()


def _show(found: EventHistogram, given: dict[str, str]) -> None:
    from ...render.event_histogram import plot_text, summary_text, table_text

    top = int(_number(given, "top", 0))
    if "json" in given:
        from ...render.json import dump

        columns = found.columns()
        for row in zip(*columns.values()):
            print(dump(dict(zip(columns, row))))
        return
    if not found.rows:
        raise ProbeError("nothing was counted", "the event did not happen, or the filter held for none")
    ranged = any(name.partition(".")[2].partition("=")[0] in ("log2", "buckets") for name in found.keys)
    if "table" in given or not (ranged or "plot" in given):
        print(table_text(found, top), end="")
    if "plot" in given or (ranged and "table" not in given):
        print(plot_text(found, given.get("v", "").partition(",")[0], top), end="")
    print(summary_text(found), file=sys.stderr)
