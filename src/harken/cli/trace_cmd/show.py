"""``trace-cmd show``: a file of tracefs: the trace itself, trace_pipe (-p), the snapshot (-s), or a setting."""

from __future__ import annotations

import sys

from ...base.errors import UsageError
from .arguments import number, parse
from .buffers import copy_file, existing
from .setup import open_tracefs

__all__ = ("run",)

_FILES = {
    "tracing_on": "tracing_on",
    "current_tracer": "current_tracer",
    "buffer_size": "buffer_size_kb",
    "buffer_total_size": "buffer_total_size_kb",
    "buffer_subbuf_size": "buffer_subbuf_size_kb",
    "buffer_percent": "buffer_percent",
    "ftrace_filter": "set_ftrace_filter",
    "ftrace_notrace": "set_ftrace_notrace",
    "ftrace_pid": "set_ftrace_pid",
    "graph_function": "set_graph_function",
    "graph_notrace": "set_graph_notrace",
    "cpumask": "tracing_cpumask",
    "max_latency": "tracing_max_latency",
}

USAGE = """\
usage:
  harken trace-cmd show [-p|-s] [-c CPU] [-B BUFFER] [-f]
  harken trace-cmd show [-B BUFFER] SETTING ...

   (none: the trace so far, which stays there)
   -p           read and take away, and wait for more, until Ctrl-C
   -s           the snapshot
   -c CPU       of one CPU
   -B BUFFER    of a buffer that 'list -B' shows, instead of the top one
   -f           the name of the file first

   SETTING is one of
   --hist EVENT  --trigger EVENT  --tracing_on  --current_tracer  --buffer_size  --buffer_total_size  --buffer_subbuf_size
   --buffer_percent  --ftrace_filter  --ftrace_notrace  --ftrace_pid  --graph_function  --graph_notrace  --cpumask  --max_latency
"""


def run(argv: list[str]) -> int:
    """Runs the command; returns the exit status."""
    pairs, rest = parse(argv, "B:c:fsph", (*_FILES, "hist=", "trigger=", "help"))
    if rest:
        raise UsageError(f"show takes no {rest[0]!r}")
    names = [name for name, _ in pairs]
    if "h" in names or "help" in names:
        print(USAGE, end="")
        return 0
    if "s" in names and "p" in names:
        raise UsageError("-s and -p exclude each other")
    for single, what in (("B", "buffer"), ("c", "CPU")):
        if names.count(single) > 1:
            raise UsageError(f"one {what} at a time")
    values = dict(pairs)
    root = open_tracefs()
    trace = existing(root, values.get("B", ""))
    settings = [(name, value) for name, value in pairs if name in _FILES or name in ("hist", "trigger")]
    for name, value in settings:
        if name in _FILES:
            copy_file(trace, _FILES[name])
        else:
            for system, event in trace.event_list.required(value):
                copy_file(trace, f"events/{system}/{event}/{name}")
    if settings:
        return 0
    file = "trace_pipe" if "p" in names else "snapshot" if "s" in names else "trace"
    if "c" in values:
        file = f"per_cpu/cpu{number(values['c'], '-c', 0)}/{file}"
    if "f" in names:
        print(trace.tracefs.path(file))
        sys.stdout.flush()
    copy_file(trace, file)
    return 0
