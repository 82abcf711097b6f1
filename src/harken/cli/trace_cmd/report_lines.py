"""The records of recordings as text: filters, corrections of time, several buffers and files in one order."""

from __future__ import annotations

from ...formats.print_fmt import Env
from ...formats.ring_page import Records
from ...render.ftrace_batches import Batch, part
from ...render.ftrace_latency import LatencyLines
from ...render.trace_cmd import Labelled, LabelledKernelLines, LabelledLatencyLines, LabelledLines, TimeDifferences, Wakeups
from .filters import Filters
from .report import Report, Source, _short, batches_of
from .report_graph import draw_graph, has_records, kernel_graph, recorded_arguments, recorded_names
from .report_workers import parallel, workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from ...formats.trace_dat import TraceFile
    from ...render.function_graph_kernel import KernelGraph

__all__ = ("Output",)

_HARD, _SOFT = 0x08, 0x10  # common_flags, include/linux/trace_events.h


class _File:
    """One recording with all that printing it needs."""

    def __init__(self, report: Report, source: Source, trace: TraceFile, width: int, many: bool) -> None:
        self.trace, self.report, self.source = trace, report, source
        self.streams: list[tuple[str, int]] = []
        self.number_of: dict[tuple[str, int], int] = {}
        labels: dict[str, str] = {}
        for buffer in trace.buffers:
            name = buffer.name or (_short(trace.name) if many else "")
            label = (f"{name:>{width}}: " if name else " " * (width + 2)) if width else ""
            labels[label] = buffer.name
            for place in buffer.cpus:
                self.number_of[buffer.name, place.cpu] = len(self.streams)
                self.streams.append((label, place.cpu))
        clock = trace.clock or "local"
        env = Env.of_file(trace, "kernel", **recorded_names(trace)) if report.layout == "kernel" else Env.of_file(trace)
        function = trace.events.find("ftrace:function")
        if report.layout != "3.1" and function is not None and function.field("args") is not None:
            env = env.replace(arguments=recorded_arguments(trace, trace_cmd=report.layout == "3.4"))
        seconds = bool(source.hertz) or (trace.tsc2nsec is not None and clock in ("x86-tsc", "tsc2nsec"))
        shown = "local" if seconds else clock
        self.wakeups: Wakeups | None = None
        self.graph: KernelGraph | None = None
        self.lines: Labelled
        self._entries: frozenset[int] = frozenset()
        if report.layout == "kernel":
            kernel_lines = self.lines = (LabelledLatencyLines if report.has("l") else LabelledKernelLines)(trace.events, env, shown)
            kernel_lines.by_mmiotrace = lambda kinds: any(has_records(trace, buffer.name, kinds) for buffer in trace.buffers)
            if isinstance(kernel_lines, LabelledKernelLines):
                self.graph = kernel_graph(kernel_lines, report, trace, labels)
        else:
            lines = self.lines = self._report_lines(trace, env, shown)
            self._entries = draw_graph(lines, report, trace)
        self.lines.streams = self.streams
        if report.has("boundary"):
            self.lines.page_sizes = [buffer.page_size for buffer in trace.buffers for _ in buffer.cpus]
        self.lines.raw_times = report.has("raw-ts")
        self.lines.differences = report.has("ts-diff")
        self.filters = Filters(report.filters, trace.order, trace.comm) if report.filters else None
        self.comms = frozenset(report.comms)
        self.pids = frozenset(report.pids)
        self._stack = trace.events.names.get("ftrace:kernel_stack", -1)
        self._shown: dict[int, bool] = {}  # whether the last record of a stream was shown
        correct = correction(report, source, trace)
        self.correct = _column(correct) if correct is not None else None

    def _report_lines(self, trace: TraceFile, env: Env, clock: str) -> LabelledLines:
        """The layouts of trace-cmd."""
        report = self.report
        lines = LabelledLines(
            trace.events,
            env,
            clock,
            generation=report.layout,
            nanosecond=report.has("t"),
            raw=True if report.has("R") else _named(report.raw_events, trace),
            latency=report.has("l"),
            plugins=not report.has("N"),
            no_handlers=_named(report.no_handlers, trace),
            parent=report.plugin_options.get("parent", "0") != "0",
            indent=report.plugin_options.get("indent", "1") != "0",
            offset=report.plugin_options.get("offset", "0") != "0",
        )
        if report.has("w"):
            self.wakeups = Wakeups(lines)
            for name in ("sched_switch", "sched_wakeup", "sched_wakeup_new"):
                event = trace.events.find(f"sched:{name}")
                if event is not None:
                    lines.special[event.id] = self.wakeups
        return lines

    @property
    def independent(self) -> bool:
        """Whether windows can be printed each by itself, and finding their records is little work."""
        if self.lines.writer() is not None:  # the accelerator is done before a second process has found its records
            return False
        return not (self.wakeups or self.lines.special or self._entries or self.filters or self.comms or self.pids)

    def windows(self, problems: list[str]) -> Iterator[list[Batch]]:
        """The records that are wanted, with their corrected times."""
        found = self._windows(problems)
        return _held_back(found, self._entries) if self._entries else found

    def _windows(self, problems: list[str]) -> Iterator[list[Batch]]:
        plain = self.filters is None and not self.comms and not self.pids and not self.report.has("I", "S")
        for window in batches_of(self.trace, self.report.cpus, self.number_of, problems):
            batches = window if plain else [self._filtered(batch) for batch in window]
            if self.correct is not None:
                batches = [_retimed(batch, self.correct) for batch in batches]
            yield [batch for batch in batches if len(batch.records)]

    def _filtered(self, batch: Batch) -> Batch:
        """The records of a batch that are wanted."""
        records, buffer = batch.records, batch.buffer
        cpu = self.streams[batch.cpu][1]
        kinds = records.types.tolist() if hasattr(records.types, "tolist") else list(records.types)
        starts, sizes, times = (list(map(int, column)) for column in (records.starts, records.sizes, records.times))
        tests: dict[int, Any] = {}
        if self.filters is not None:
            for kind in set(kinds):
                tests[kind] = self.filters.test(self.trace.events.get(kind))
        order: Any = "little" if self.trace.order == "<" else "big"
        left_out = (_HARD if self.report.has("I") else 0) | (_SOFT if self.report.has("S") else 0)
        tasks = {kind: self._tasks(kind) for kind in set(kinds)} if self.pids or self.comms else {}
        kept = []
        shown = self._shown.get(batch.cpu, False)
        for at, kind in enumerate(kinds):
            start = starts[at]
            flags = buffer[start + 2]
            if flags & left_out:
                shown = False
                continue
            test = tests.get(kind, True)
            wanted = test is True or (test is not False and bool(test(buffer, start, start + sizes[at], cpu, times[at])))
            if wanted and tasks:
                wanted = any(self._wanted(int.from_bytes(buffer[start + o : start + o + 4], order, signed=True)) for o in tasks[kind])
            shown = wanted or (shown and kind == self._stack)  # the stack of a record belongs to it
            if shown:
                kept.append(at)
        self._shown[batch.cpu] = shown
        return Batch(batch.cpu, buffer, _chosen(records, kept))

    def _tasks(self, kind: int) -> list[int]:
        """Where a record has the tasks by which ``--pid`` and ``--comm`` choose: its own, and whom it wakes up or switches to."""
        event = self.trace.events.get(kind)
        found = [event.field(name) for name in ("pid", "next_pid")] if event is not None else []
        return [4, *(field.offset for field in found if field is not None and field.size == 4)]

    def _wanted(self, pid: int) -> bool:
        return (not self.pids or pid in self.pids) and (not self.comms or self.trace.comm(pid) in self.comms)


def _named(patterns: list[str], trace: TraceFile) -> frozenset[str]:
    """The events whose name, system, or both (``SYSTEM:EVENT``), one of some regular expressions is, as ``-r`` and ``-n`` mean them."""
    if not patterns:
        return frozenset()
    from .filters import whole

    tests = [whole(pattern) for pattern in patterns]
    return frozenset(name for name in trace.events.names if any(test(part) for test in tests for part in (name, *name.split(":", 1))))


def _chosen(records: Records, kept: list[int]) -> Records:
    lost = []
    if records.lost:
        from bisect import bisect_left

        lost = [(bisect_left(kept, at), count) for at, count in records.lost]
    if hasattr(records.times, "dtype"):
        import numpy

        index = numpy.array(kept, dtype="i8")
        times, starts, sizes, types = (column[index] for column in (records.times, records.starts, records.sizes, records.types))
    else:
        times, starts, sizes, types = ([c[at] for at in kept] for c in (records.times, records.starts, records.sizes, records.types))
    return Records(times, starts, sizes, types, tuple(lost))


def _retimed(batch: Batch, correct: Any) -> Batch:
    records = batch.records
    return Batch(batch.cpu, batch.buffer, records.replace(times=correct(records.times)))


def correction(report: Report, source: Source, trace: TraceFile) -> Callable[[int], int] | None:
    """What the time of a record is shown as, None if it is as it was recorded."""
    if report.has("raw-ts"):
        return None
    if source.hertz:
        return lambda time: (time + source.offset) * 1000000000 // source.hertz
    found = trace.tsc2nsec
    if found is not None and (trace.clock or "local") in ("x86-tsc", "tsc2nsec"):
        multiply, shift, base = found
        return lambda time: ((time + source.offset) * multiply >> shift) + base
    add = source.offset + trace.time_offset + (0 if report.has("nodate") else trace.date_offset)
    return (lambda time: time + add) if add else None


def _then(before: Any, after: Any) -> Any:
    return after if before is None else lambda times: after(before(times))


def _column(function: Any) -> Any:
    def apply(times: Any) -> Any:
        if hasattr(times, "dtype"):
            import numpy

            # Python's integers do not overflow; a recording of which the times are corrected is seldom long
            return numpy.array([max(function(time), 0) & (1 << 64) - 1 for time in times.tolist()], dtype="u8")
        return [max(function(time), 0) & (1 << 64) - 1 for time in times]

    return apply


def _held_back(windows: Iterator[list[Batch]], entries: frozenset[int]) -> Iterator[list[Batch]]:
    """Moves a call's beginning that is the last record of a window to the next one: the record behind it tells whether it is a leaf."""
    carried: list[Batch] = []
    for window in windows:
        window = carried + window
        carried = []
        total = sum(len(batch.records) for batch in window)
        if total > 1:
            last = max(range(len(window)), key=lambda at: (int(window[at].records.times[-1]) if len(window[at].records) else -1, at))
            batch = window[last]
            if int(batch.records.types[-1]) in entries:
                count = len(batch.records)
                carried = [Batch(batch.cpu, batch.buffer, part(batch.records, count - 1, count))]
                window[last] = Batch(batch.cpu, batch.buffer, part(batch.records, 0, count - 1))
        yield [batch for batch in window if len(batch.records)]
    if carried:
        yield carried


class Output:
    """All files in one order."""

    def __init__(self, report: Report, traces: Sequence[TraceFile]) -> None:
        self.report = report
        self.problems: list[str] = []
        many = len(traces) > 1
        names = [_short(trace.name) for trace in traces] if many else []
        names += [buffer.name for trace in traces for buffer in trace.buffers if buffer.name]
        width = max(map(len, names), default=0)
        self.files = [_File(report, source, trace, width, many) for source, trace in zip(report.sources, traces)]

    def pieces(self) -> Iterator[str | bytes | memoryview]:
        """The text in pieces, of which each lasts until the next one is asked for."""
        simple = len(self.files) == 1 and not self.report.has("ts-diff", "ts-check", "align-ts", "boundary")
        if simple:
            file = self.files[0]
            if isinstance(file.lines, LatencyLines):  # a line tells how long it took to the next one
                batches = [batch for window in file.windows(self.problems) for batch in window]
                file.lines.start = min((int(batch.records.times[0]) for batch in batches), default=0)
                yield file.lines.data(batches)
                return
            if file.graph is not None:
                yield from file.graph.pieces(file.windows(self.problems))
                return
            count = workers(sum(place.size for buffer in file.trace.buffers for place in buffer.cpus)) if file.independent else 1
            if count > 1:
                yield from parallel(count, file.lines, file.windows, self.problems)
                return
            for window in file.windows(self.problems):
                yield from file.lines.pieces(window)
            return
        yield from self._in_order()

    def _in_order(self) -> Iterator[str]:
        from heapq import merge

        if self.report.has("align-ts"):
            self._align()
        unit = self.files[0].lines.unit()[0]
        differences = TimeDifferences(unit, not self.files[0].lines.nanoseconds) if self.report.has("ts-diff") else None
        last = 0
        pending: list[str] = []
        for time, _, line in merge(*[self._lines(number, file) for number, file in enumerate(self.files)], key=lambda row: row[:2]):
            if self.report.has("ts-check") and time < last:
                pending.append(f"  ERROR: Time went backwards! {last} -> {time}")
            last = time
            pending.append(differences.line(time, line) if differences is not None else line)
            if len(pending) >= 4096:
                yield "\n".join(pending) + "\n"
                pending = []
        if pending:
            yield "\n".join(pending) + "\n"

    def _lines(self, number: int, file: _File) -> Iterator[tuple[int, int, str]]:
        for window in file.windows(self.problems):
            for time, line in file.lines.pairs(window):
                yield time, number, line

    def _align(self) -> None:
        """Times count from the first record of all files."""
        firsts = []
        for file in self.files:
            window = next(file.windows([]), None)
            if window:
                firsts.append(min(int(batch.records.times[0]) for batch in window))
        first = min(firsts, default=0)
        for file in self.files:
            file.correct = _then(file.correct, _column(lambda time: time - first))

    def summary(self) -> str:
        return "".join([file.wakeups.summary() for file in self.files if file.wakeups is not None])
