"""``trace-cmd report``: a recording as text.

Without options every record is a line in the order of time, as trace-cmd 3.1 prints it; ``--layout 3.4`` prints the lines of trace-cmd 3.4.
``docs/trace_cmd.md`` has all options.
"""

from __future__ import annotations

import sys

from ...base.errors import FormatError, UsageError
from ...base.record import Record
from ...formats.trace_dat import open_trace
from .arguments import number, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ...formats.trace_dat import TraceFile
    from ...render.ftrace_batches import Batch
    from .filters import Filter

__all__ = ("run", "Source", "Report", "open_recording", "opened", "batches_of", "safe_chunks")

_MAX_SYMBOLS = 64 << 20

LETTERS = "hi:H:feGpRr:tlPLNn:EF:vV::TqO:wISc:"
NAMES = (
    "cpu= cpus events event= filter-test kallsyms= stat uname version profile by-comm "
    "ts-offset= ts2secs= ts-diff ts-check nodate raw-ts align-ts "
    "first-event last-event boundary check-events debug verbose? comm= pid= layout= help"
).split()

USAGE = """\
usage:
  harken trace-cmd report [-i FILE [--ts-offset N] [--ts2secs HZ]] ... [FILE] [OPTIONS]

 Which records:
   -F EVENT[,EVENT][: EXPRESSION]   only these: 'sched_switch: prev_prio < 100 && next_comm =~ "^ls"'
   -v              leave out what the -F behind it choose
   -T              show what the filters are for each event, and end
   --cpu LIST      of these CPUs: 0,2-4
   --comm NAME, --pid PID    of these tasks, and those that wake them up or switch to them
   -I, -S          none of hard interrupts, none of soft ones

 How they look:
   -t              nanoseconds
   -l              flags and depths as latency tracers show them
   -R, -r EVENT    fields without the event's own text: of all, of those that a regular expression names
   -N, -L, -n EVENT  without the handlers of plugins: of all, of some
   -w              latencies of wakeups, and their average
   -O [PLUGIN:]OPTION[=VALUE]    tailprint, depth, parent, indent, offset, ...; 'harken trace-cmd options' shows them
   --ts-diff       time since the record before
   --ts-check      tell if time goes backwards
   --align-ts      count time from the first record
   --raw-ts        times as they were recorded
   --nodate        not the dates of 'record --date'
   --ts-offset N   add this to the times of the -i before it
   --ts2secs HZ    times count so many per second
   --kallsyms FILE more symbols of the kernel
   --boundary      show where the pages of the buffers begin
   --layout 3.1|3.4|kernel   the lines of which trace-cmd (3.1), or of the kernel's trace file (with -l of its latency format)
   --profile       what each task did and how long it took; --by-comm, -G, -H START/END as for 'profile'

 About the file instead:
   --stat, --uname, --version, -e  what was lost, which machine, which program recorded, byte order
   --cpus, --first-event, --last-event  CPUs with records, times of the first and last ones
   -E, --events, --event REGEX, --check-events  names of events, their formats, whether these can be understood
   -f, -P          symbols, texts of trace_printk
"""


class Source(Record):
    """One input file as the command line has it."""

    path: str
    offset: int = 0
    hertz: int = 0


class Report:
    """A command line of report."""

    def __init__(self, argv: list[str]) -> None:
        pairs, rest = parse(argv, LETTERS, tuple(NAMES))
        self.pairs = pairs
        self.given = {name for name, _ in pairs}
        if "L" in self.given:  # handlers that are installed with trace-cmd are built in here: without them none is left
            self.given.add("N")
        self.sources: list[Source] = []
        self.filters: list[Filter] = []
        self.cpus: frozenset[int] | None = None
        self.comms: list[str] = []
        self.pids: list[int] = []
        self.raw_events: list[str] = []
        self.no_handlers: list[str] = []
        self.listed = ""
        self.kallsyms = ""
        self.plugin_options: dict[str, str] = {}
        self.layout = "3.1"
        self.hooks: list[str] = []
        self._hertz = 0
        self._negated = False
        for name, value in pairs:
            self._take(name, value)
        self.sources += [Source(path, 0, self._hertz) for path in rest]
        if not self.sources:
            self.sources.append(Source("trace.dat", 0, self._hertz))

    def _take(self, name: str, value: str) -> None:
        if name == "i":
            self.sources.append(Source(value, 0, self._hertz))
        elif name == "ts-offset":
            if not self.sources:
                raise UsageError("--ts-offset must come after -i")
            self.sources[-1] = self.sources[-1].replace(offset=number(value, "--ts-offset", 0))
        elif name == "ts2secs":
            if self.sources:
                self.sources[-1] = self.sources[-1].replace(hertz=number(value, "--ts2secs"))
            else:
                self._hertz = number(value, "--ts2secs")
        elif name == "F":
            from .filters import Filter

            self.filters.append(Filter(value, self._negated))
        elif name == "v":
            self._negated = True
        elif name in ("cpu", "c"):
            self.cpus = (self.cpus or frozenset()) | _cpu_list(value)
        elif name == "comm":
            self.comms += value.split(",")
        elif name == "pid":
            self.pids += [number(word, "--pid") for word in value.split(",")]
        elif name == "r":
            self.raw_events.append(value)
        elif name == "n":
            self.no_handlers.append(value)
        elif name == "O":
            key, equals, setting = value.partition("=")
            self.plugin_options[key.rpartition(":")[2]] = setting if equals else "1"
        elif name == "layout":
            if value not in ("3.1", "3.4", "kernel"):
                raise UsageError(f"there is no layout {value!r}", "3.1, 3.4 and kernel are known")
            self.layout = value
        elif name == "H":
            self.hooks.append(value)
        elif name == "event":
            self.listed = value
        elif name == "kallsyms":
            self.kallsyms = value

    def has(self, *names: str) -> bool:
        return any(name in self.given for name in names)


def _cpu_list(text: str) -> frozenset[int]:
    from ...kernel.procfs import parse_cpu_list

    try:
        return frozenset(parse_cpu_list(text.replace(":", ",")))
    except ValueError:
        raise UsageError(f"{text!r} is not a list of CPUs", "such as 0,2-4") from None


def run(argv: list[str]) -> int:
    """Runs the command; returns the exit status."""
    report = Report(argv)
    if report.has("h", "help"):
        print(USAGE, end="")
        return 0
    traces = opened(report)
    try:
        if report.has("profile"):
            from .profile import report_profile

            return report_profile(report, traces)
        from .report_info import inform

        status = inform(report, traces)
        if status is not None:
            return status
        return _records(report, traces)
    finally:
        for trace in traces:
            trace.close()


def opened(report: Report) -> list[TraceFile]:
    """The recordings of a command line.

    Raises:
        HarkenError: one cannot be read, or the command line asks for what is in none of them.
    """
    traces: list[TraceFile] = []
    try:
        for source in report.sources:
            traces.append(open_recording(source.path))
        if report.kallsyms:
            text = _whole(report.kallsyms)
            for trace in traces:
                trace.symbols.add(text)
        if report.filters:
            from .filter_check import check

            check(report.filters, traces)
        for name in report.comms:
            if not any(name in trace.comms.values() for trace in traces):
                print(f"WARNING: no task of the recording is called {name!r}", file=sys.stderr)
    except BaseException:
        for trace in traces:
            trace.close()
        raise
    return traces


def _whole(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read(_MAX_SYMBOLS)
    except OSError as error:
        from ...base.errors import KernelError

        raise KernelError(f"cannot read {path}: {error.strerror}", errno=error.errno or 0) from None


def open_recording(path: str) -> TraceFile:
    try:
        trace = open_trace(path)
    except OSError as error:
        from ...base.errors import KernelError

        raise KernelError(f"cannot open {path}: {error.strerror}", errno=error.errno or 0) from None
    for problem in trace.problems:
        print(f"WARNING: {problem}", file=sys.stderr)
    return trace


def _records(report: Report, traces: list[TraceFile]) -> int:
    from .report_lines import Output

    write = sys.stdout.write
    many = len(traces) > 1
    width = max(len(_short(trace.name)) for trace in traces) if many else 0
    for trace in traces:
        text = trace.text()
        label = f"{_short(trace.name):>{width}}: " if many else ""
        if report.layout != "kernel":
            write(f"{label}cpus={trace.cpus}\n")
        if text is not None:
            sys.stdout.flush()
            sys.stdout.buffer.write(text + b"\n")  # trace-cmd ends it with an empty line
            sys.stdout.buffer.flush()
    output = Output(report, traces)
    raw = getattr(sys.stdout, "buffer", None)
    for piece in output.pieces():
        if isinstance(piece, str):
            write(piece)
        elif raw is None:
            write(bytes(piece).decode("utf-8", "surrogateescape"))
        else:
            sys.stdout.flush()
            raw.write(piece)
    write(output.summary())
    for problem in output.problems:
        print(f"WARNING: {problem}", file=sys.stderr)
    return 0


def _short(path: str) -> str:
    return path.rpartition("/")[2]


def batches_of(
    trace: TraceFile, chosen: frozenset[int] | None, number_of: dict[tuple[str, int], int], problems: list[str]
) -> Iterator[list[Batch]]:
    """The records of a recording in windows of time; ``cpu`` of a batch is the number of its stream.

    Args:
        chosen: CPUs that are wanted, None for all.
        number_of: (buffer, CPU) -> number of the stream.
        problems: gets what is wrong with the file.
    """
    from ...formats.ring_page import parse_layout
    from ...render.ftrace_batches import windows

    page_layout = parse_layout(trace.header_page, trace.order, trace.kernel_long)
    groups: dict[int, list[tuple[int, Any]]] = {}
    for buffer in trace.buffers:
        for place in buffer.cpus:
            if chosen is None or place.cpu in chosen:
                stream = number_of[buffer.name, place.cpu]
                groups.setdefault(buffer.page_size, []).append((stream, safe_chunks(trace, place.cpu, buffer.name, problems)))
    if len(groups) == 1:
        size, streams = next(iter(groups.items()))
        yield from windows(streams, size, page_layout)
    elif groups:
        yield from _mixed(groups, page_layout)


def safe_chunks(trace: TraceFile, cpu: int, buffer: str, problems: list[str]) -> Iterator[Any]:
    """Runs of pages up to the first damage."""
    try:
        yield from trace.chunks(cpu, buffer)
    except FormatError as error:
        problems.append(f"{error}: the rest of CPU {cpu} cannot be read")


def _mixed(groups: dict[int, list[tuple[int, Any]]], page_layout: Any) -> Iterator[list[Batch]]:
    """Buffers with pages of different sizes: each group in its own windows, all in one go at the end (rare, and small)."""
    from ...render.ftrace_batches import windows

    everything: list[Batch] = []
    for size, streams in groups.items():
        for window in windows(streams, size, page_layout):
            everything += window
    yield everything
