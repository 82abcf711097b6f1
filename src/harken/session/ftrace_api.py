"""The library's ftrace: ``harken.ftrace.instance()``, a private ring buffer with events, tracers and call graphs.

Examples (need root)::

    import harken

    with harken.ftrace.instance() as t:
        t.enable("sched:sched_switch")
        for record in t.records(1.0):
            print(record.time, record.event.name, record["next_comm"])

    with harken.ftrace.instance() as t:
        t.function_graph("do_sys_openat2", depth=4)
        for task, calls in t.graph(1.0).items():
            for call in calls:
                print(t.symbol(call.func), call.duration, call.self_time)

    with harken.ftrace.instance() as t:
        sizes = t.histogram("kmem:kmalloc", "bytes_req.log2")
        time.sleep(1)
        print(sizes.plot())

An instance disturbs nobody and vanishes with the ``with`` block.  Where the kernel has function_graph for the top buffer only (before
Linux 6.11) that buffer is used, and all of its settings are put back.
"""

from __future__ import annotations

import os
import time

from ..analysis.function_graph import build, roots
from ..analysis.function_graph_records import ENTRY_EVENTS, EXIT_EVENT
from ..base.errors import KernelError, ProbeError, UsageError
from ..formats.print_fmt import Env
from ..formats.ring_page import walk
from ..kernel.ftrace import Ftrace
from ..kernel.tracefs import find
from .ftrace_reading import EventTexts, Reader, RecordStage, StepStage, TraceRecord

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..analysis.function_graph import Call, Step
    from ..formats.event_records import EventColumns
    from ..kernel.ftrace_synthetic import SyntheticEvent
    from ..kernel.kernel import Kernel
    from ..symbols.kernel_symbols import KernelSymbols
    from .ftrace_histogram import HistogramTrigger

__all__ = ("TraceInstance", "TraceRecord", "instance")


def instance(name: str = "", *, top: bool = False, kernel: Kernel | None = None) -> TraceInstance:
    """A ring buffer to trace into; a context manager.

    Args:
        name: of an instance that others can see; "": a private one.
        top: the top buffer, which everybody shares.

    Raises:
        KernelError: no tracefs, or not permitted.
    """
    if kernel is None:
        from ..kernel.kernel import live

        kernel = live()
    root = find(kernel)
    if top:
        return TraceInstance(Ftrace.top(root))
    return TraceInstance(Ftrace.named(root, name) if name else Ftrace.private(root))


class TraceInstance(Reader):
    """A buffer that is traced into.  ``ftrace`` has all its settings (``kernel.ftrace.Ftrace``); ``lost`` counts lost records per CPU."""

    def __init__(self, ftrace: Ftrace) -> None:
        super().__init__(ftrace)
        self._top: Ftrace | None = None
        self._symbols: KernelSymbols | None = None
        self._comms: dict[int, str] = {0: "<idle>"}
        self._comms_read = -1.0
        self._texts: EventTexts | None = None

    def __enter__(self) -> TraceInstance:
        return self

    def __exit__(self, *_details: object) -> None:
        self.close()

    def close(self) -> list[KernelError]:
        """Undoes all settings; a private instance is removed.  Returns what could not be undone."""
        self._close()
        return self.ftrace.close() + (self._top.close() if self._top is not None else [])

    # -- what is traced

    def enable(self, pattern: str, filter: str = "") -> list[tuple[str, str]]:
        """Enables events ("sched:sched_switch", "sched", globs), those that a condition holds for; returns (system, event) of them."""
        chosen = self.ftrace.enable(pattern, filter)
        for system, event in chosen:
            self._learn(system, event)
        return chosen

    def function_graph(
        self,
        *functions: str,
        only: Sequence[str] = (),
        depth: int = 0,
        options: Sequence[str] = (),
        pids: Sequence[int] = (),
        children: bool = False,
    ) -> None:
        """Traces calls.

        Args:
            functions: names or globs: these and all that they call; none: everything.
            only: names or globs: record these functions only, whoever calls them.
            depth: levels of calls; 0: all; 1: only ``functions`` themselves have to be watched, which costs the others nothing.
            options: ``trace_options`` of the tracer ("sleep-time", "nofuncgraph-irqs", ...).
            pids: these threads only; with ``children`` also those that they start.

        Raises:
            ProbeError: the kernel has no function_graph, or no such function; or it has the tracer in the top buffer only, where another
                is running.
        """
        if "function_graph" not in self.ftrace.tracers and self.ftrace.name and "function_graph" in self.ftrace.root.tracers():
            if self._fds:
                raise UsageError("choose the tracer before records are read")
            from ..kernel.ftrace_tracers import refuse_used

            top = Ftrace.top(self.ftrace.root)
            refuse_used(top, "function_graph")
            self._top, self.ftrace = self.ftrace, top
        target = self.ftrace
        if "function_graph" not in target.tracers:
            raise ProbeError(
                "this kernel has no function_graph tracer", "'harken graph' traces calls by probes at both ends of functions instead"
            )
        target.set("tracing_on", "0")
        # Everything is chosen before the tracer is: it patches all functions that may be recorded, which takes long if those are all.
        if functions:
            target.functions("set_graph_function", functions)
        if functions and depth == 1 and not only:
            only = functions
        if only:
            target.functions("set_ftrace_filter", only)
        if depth:
            target.set("max_graph_depth", str(depth))
        if pids:
            target.pids(pids, children)
        target.set_tracer("function_graph")
        for option in options:
            target.option(option)
        for name in (*ENTRY_EVENTS, EXIT_EVENT):
            self._learn("ftrace", name)

    @property
    def has_function_graph(self) -> bool:
        """Whether this kernel can do ``function_graph``, here or in the top buffer."""
        return "function_graph" in self.ftrace.tracers or "function_graph" in self.ftrace.root.tracers()

    # -- what the kernel does at events

    def trigger(self, pattern: str, text: str) -> list[tuple[str, str]]:
        """Has the kernel do something at events ("stacktrace", "traceoff:1 if prev_pid == 7", "snapshot"); returns (system, event) of them.

        Raises:
            KernelError: with the kernel's reason and the place in ``text``.
        """
        return self.ftrace.enable(pattern, trigger=text, on=False)

    def histogram(
        self,
        event: str,
        keys: str | Sequence[str],
        values: str | Sequence[str] = (),
        sort: str | Sequence[str] = (),
        size: int = 0,
        filter: str = "",
    ) -> HistogramTrigger:
        """Has the kernel count an event by one to three keys (``session.ftrace_histogram``).

        Raises:
            ProbeError: no such event, or the kernel has no histogram triggers.
            KernelError: with the kernel's reason and the place in the trigger.
        """
        from .ftrace_histogram import HistogramTrigger, one_event, trigger_text

        return HistogramTrigger(self.ftrace, one_event(self.ftrace, event), trigger_text(keys, values, sort, size, filter))

    def synthetic(self, name: str, fields: str) -> SyntheticEvent:
        """Defines an event ("synthetic:NAME") that histogram triggers make; it goes with this buffer.

        Raises:
            KernelError: with the kernel's reason and the place in ``fields``.
        """
        return self.ftrace.synthetic(name, fields)

    def sql(self, text: str, name: str = "") -> HistogramTrigger | SyntheticEvent:
        """Carries out a statement of ``languages.sqlhist``: a histogram, or with JOIN a synthetic event, which can then be enabled.

        Args:
            name: of the synthetic event; a name of its own if "".

        Raises:
            SourceError: the statement is wrong, with the place in it.
            KernelError: the kernel refuses it.
        """
        from ..base.diagnostics import Source
        from ..languages.sqlhist.build import build
        from ..languages.sqlhist.parse import parse
        from .ftrace_histogram import HistogramTrigger
        from .ftrace_sql import Finder, new_trace, number

        root, unique = self.ftrace.root, number()
        query = parse(Source("sql", text))
        built = build(query, Finder(root), name or f"sql_{os.getpid()}_{unique}", unique, new_trace=new_trace(root))
        if built.end is None:
            return HistogramTrigger(self.ftrace, built.start[:2], built.start[2])
        event = self.ftrace.synthetic(built.name, built.fields)
        self.ftrace.add_trigger(*built.start)
        self.ftrace.add_trigger(*built.end)
        return event

    def threshold(self, microseconds: float) -> None:
        """Records only calls and latencies that are longer (``tracing_thresh``, which exists once for all buffers and is put back).

        The kernel takes whole microseconds; less than one is one, and 0 is no threshold.

        Raises:
            UsageError: calls are being traced or read in a private instance, whose tracer looks at the threshold only as it is chosen
                (``tracing_thresh_write`` in kernel/trace/trace.c tells the one of the top buffer).
        """
        again = bool(self.ftrace.name) and self.ftrace.tracer == "function_graph"
        if again and self._fds:
            raise UsageError("a threshold is set before records are read, or when all of them have been")
        self.ftrace.set("tracing_thresh", str(max(round(microseconds), 1) if microseconds > 0 else 0))
        if again:  # not journalled: undoing it step by step would switch the tracer on once more
            for tracer in ("nop", "function_graph"):
                self.ftrace.tracefs.write("current_tracer", tracer)

    def take_snapshot(self) -> None:
        """Swaps the buffer with the spare one, which ``snapshot_text`` shows.

        Raises:
            KernelError: the kernel has no snapshots (CONFIG_TRACER_SNAPSHOT).
        """
        self.ftrace.set("snapshot", "1")

    def snapshot_text(self) -> str:
        """The snapshot as the kernel prints it, without its comments."""
        lines = self.ftrace.read("snapshot").split("\n")
        return "\n".join([line for line in lines if not line.startswith("#")])

    # -- what was traced

    def records(self, duration: float | None = None) -> Iterator[TraceRecord]:
        """Records in the order of time as they come, until ``stop`` or for ``duration`` seconds.

        Tracing starts, from an empty buffer, unless ``start`` was called; after ``stop`` what was traced up to there is read.  The next
        call starts anew.
        """
        yield from self._merged(RecordStage(self._formats, self._pages().name), duration, None)

    def steps(self, duration: float | None = None, done: Callable[[], bool] | None = None, leaves: bool = True) -> Iterator[Step]:
        """Entries and returns of functions (``analysis.function_graph.Step``) in the order of time, with leaves found.

        Args:
            done: asked now and then whether to end.
            leaves: find calls whose return comes right behind their entry.
        """
        yield from self._merged(StepStage(self._decoding(), leaves), duration, done)

    def calls(self, duration: float | None = None, done: Callable[[], bool] | None = None) -> Iterator[Call]:
        """Outermost calls with all below them, each as soon as it is complete."""
        return roots(self.steps(duration, done, leaves=False))

    def graph(self, duration: float | None = None) -> dict[tuple[int, int], list[Call]]:
        """Task (thread, -1; or 0, CPU) -> its outermost calls."""
        return build(self.steps(duration, leaves=False))

    def columns(self, duration: float | None = None) -> dict[str, EventColumns]:
        """Everything as columns, without a Python object per record: "category:name" -> columns of all CPUs in the order of time."""
        from ..formats.event_records import concatenate, split

        layout = self._pages()
        found: dict[int, list[EventColumns]] = {}
        size = self.ftrace.page_size
        for batch, _ in self._rounds(duration, None):
            for cpu, pages in batch.items():
                if pages:
                    data = b"".join([page.ljust(size, b"\0") for page in pages])
                    records = walk(data, size, layout)
                    self._count_lost(cpu, [number for _, number in records.lost])
                    for number, part in split(data, records, self._formats, layout.order, cpu).items():
                        found.setdefault(number, []).append(part)
        named = ((self._formats[number], parts) for number, parts in found.items())
        return {f"{event.category}:{event.name}": concatenate(parts) for event, parts in named}

    # -- names

    def symbol(self, address: int) -> str:
        """The kernel function at an address, its module in brackets behind it."""
        if self._symbols is None:
            from ..symbols.kernel_symbols import KernelSymbols

            self._symbols = KernelSymbols(self.kernel)
        frame = self._symbols.resolve(address)
        if not frame.name:
            return f"0x{address:x}"
        module = frame.module.strip("[]")
        return frame.name if module in ("", "kernel", "kernel.kallsyms", "vmlinux") else f"{frame.name} [{module}]"

    def comm(self, pid: int) -> str:
        """The name of a thread, "<...>" if ftrace did not note it."""
        name = self._comms.get(pid)
        if name is None:
            now = time.monotonic()
            if now - self._comms_read > 0.2:
                self._comms_read = now
                for line in self.ftrace.root.read("saved_cmdlines").splitlines():
                    number, _, text = line.partition(" ")
                    if number.isdigit():
                        self._comms[int(number)] = text
            name = self._comms.get(pid, "<...>")
        return name

    def interrupts(self) -> tuple[int, int]:
        """First and last address of the functions that begin interrupts, (0, 0) if not known."""
        self.symbol(0)
        assert self._symbols is not None
        first, last = (self._symbols.addresses(f"__irqentry_text_{word}") for word in ("start", "end"))
        return (first[0], last[0]) if first and last else (0, 0)

    def comment(self, step: Step) -> str | None:
        """The text of an event that stands between calls."""
        if self._texts is None:
            self._texts = EventTexts(Env(symbol=lambda address: (self.symbol(address), address, 0), comm=self.comm))
        return self._texts.comment(self._formats.get(step.type), step.data)
