"""``trace-cmd extract``: makes a trace.dat of what is in the kernel's buffers, after ``start`` and ``stop``.

What is read is gone from the buffer.  Tracers that keep the worst case only (wakeup, irqsoff, ...) are extracted as text, with ``-p``.
"""

from __future__ import annotations

from ...base.errors import KernelError, UsageError
from ...formats import trace_dat_layout as layout
from ...kernel.ftrace_tracers import LATENCY_TRACERS
from ...kernel.tracefs_instances import instance_names
from .arguments import parse
from .buffers import existing
from .naming import naming
from .record import date_offset, say_places
from .record_options import Setup
from .setup import open_tracefs
from .worst_case import write_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...kernel.ftrace import Ftrace
    from ...kernel.tracefs import Tracefs

__all__ = ("run",)


def run(argv: list[str]) -> int:
    """Runs the command; returns the exit status."""
    names = ("date", "compression=", "file-version=", "help", "cmdlines-size=", "verbose?")
    pairs, rest = parse(argv, "p:O:o:sB:atqh", names)
    options = [option for option, _ in pairs]
    if "h" in options or "help" in options:
        print(
            "usage:\n  harken trace-cmd extract [-o FILE] [-s] [-B BUFFER [-B ...]] [-a] [-t] [-p TRACER] [-O OPTION] [--date]\n"
            "       [--file-version 6|7] [--compression any|none|zlib|zstd]\n\n"
            "   -s from the snapshot   -a all buffers   -t the top one, too"
        )
        return 0
    if rest:
        raise UsageError(f"extract takes no {rest[0]!r}")
    values = dict(pairs)
    setup = Setup()
    setup.version = int(values.get("file-version", "7")) if values.get("file-version", "7") in ("6", "7") else 0
    if not setup.version:
        raise UsageError(f"there is no file version {values['file-version']!r}", "6 and 7 are known")
    setup.compression = values.get("compression", "any")
    setup.output = values.get("o", "trace.dat")
    setup.quiet = "q" in options
    from .record import choose_compression

    choose_compression(setup)
    root = open_tracefs()
    if values.get("p") in LATENCY_TRACERS:
        trace = existing(root, values.get("B", ""))
        for option in [value for option, value in pairs if option == "O"]:
            trace.option(option)
        write_text(root, setup, trace)
        return 0
    chosen = [value for option, value in pairs if option == "B"]
    if "a" in options:
        chosen += instance_names(root)
    if not chosen or "t" in options or "a" in options:
        chosen.insert(0, "")
    traces = [(name, existing(root, name)) for name in dict.fromkeys(chosen)]
    return _extract(root, setup, traces, "s" in options, "date" in options)


def _extract(root: Tracefs, setup: Setup, traces: list[tuple[str, Ftrace]], snapshot: bool, date: bool) -> int:
    from ...session.recorder_ftrace import Recorder
    from ...session.recorder_ftrace_parts import collect, kernel_types

    parts = collect(root, buffer=traces[0][1].tracefs)
    options = [f"options/{name}" for name in ("func-args", "funcgraph-args")]
    if any(trace.has(option) and trace.tracefs.read(option).strip() == "1" for _, trace in traces for option in options):
        parts = parts.replace(btf=kernel_types(root.kernel))
    file = "snapshot_raw" if snapshot else "trace_pipe_raw"
    for _, trace in traces:
        if not trace.has(f"per_cpu/cpu{trace.cpus[0]}/{file}"):
            raise KernelError("this kernel has no snapshots", errno=2, hint="they come with CONFIG_TRACER_SNAPSHOT")
        if not snapshot:
            trace.stop()
    with naming(setup.output), Recorder(setup.output, parts, traces, file=file) as recorder:
        extra = []
        if date:
            extra.append((layout.DATE, date_offset(traces[0][1])))
        outcome = recorder.finish(setup.version, setup.compression, extra)
    if not setup.quiet:
        say_places(outcome)
    return 0
