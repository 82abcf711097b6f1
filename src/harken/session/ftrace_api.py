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

An instance disturbs nobody and vanishes with the ``with`` block.  Where the kernel has function_graph for the top buffer only (before
Linux 6.11) that buffer is used, and all of its settings are put back.
"""

from __future__ import annotations

import os
import time

from ..analysis.function_graph import Builder, Leaves
from ..analysis.function_graph_records import ENTRY_EVENTS, EXIT_EVENT, Decoder
from ..base.errors import KernelError, ProbeError, UsageError
from ..formats.event_format import EventFormat, parse
from ..formats.ring_page import Layout, Records, parse_layout, walk
from ..formats.ring_page import parse as parse_page
from ..kernel.ftrace import Ftrace
from ..kernel.tracefs import find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from ..analysis.function_graph import Call, Step
    from ..formats.event_records import EventColumns
    from ..kernel.kernel import Kernel
    from ..symbols.kernel_symbols import KernelSymbols

__all__ = ("TraceInstance", "TraceRecord", "instance")

#: Pages that are read from one CPU before the next one has its turn.
_TURN = 256
_PAUSE = 0.05
_BUILT_IN = ("print", "bprint", "bputs", "function", "kernel_stack", "user_stack")


class TraceRecord:
    """One record: ``time`` in the clock's unit, ``cpu``, ``event`` (its format), ``data`` (payload); fields by name: ``record["pid"]``."""

    __slots__ = ("_columns", "cpu", "data", "event", "time")

    def __init__(self, time: int, cpu: int, event: EventFormat, data: bytes) -> None:
        self.time, self.cpu, self.event, self.data = time, cpu, event, data
        self._columns: EventColumns | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the fields."""
        return tuple(field.name for field in self.event.fields)

    def __getitem__(self, name: str) -> Any:
        if self._columns is None:
            from array import array

            from ..formats.event_records import columns

            records = Records(array("Q", (self.time,)), array("Q", (0,)), array("I", (len(self.data),)), [self.event.id], ())
            self._columns = columns(self.event, self.data, records, Layout().order, self.cpu)
        return self._columns[name][0]

    def __repr__(self) -> str:
        return f"<TraceRecord {self.event.name} cpu {self.cpu} at {self.time}>"


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


class TraceInstance:
    """A buffer that is traced into.  ``ftrace`` has all its settings (``kernel.ftrace.Ftrace``); ``lost`` counts lost records per CPU."""

    def __init__(self, ftrace: Ftrace) -> None:
        self.ftrace = ftrace
        self.kernel = ftrace.kernel
        self.lost: dict[int, int] = {}
        self._top: Ftrace | None = None
        self._fds: dict[int, int] = {}
        self._formats: dict[int, EventFormat] = {}
        self._decoder: Decoder | None = None
        self._layout: Layout | None = None
        self._symbols: KernelSymbols | None = None
        self._comms: dict[int, str] = {0: "<idle>"}
        self._comms_read = -1.0
        self._stopped = False

    def __enter__(self) -> TraceInstance:
        return self

    def __exit__(self, *_details: object) -> None:
        self.close()

    def close(self) -> None:
        """Undoes all settings; a private instance is removed."""
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()
        self.ftrace.close()
        if self._top is not None:
            self._top.close()

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
            depth: levels of calls; 0: all.
            options: ``trace_options`` of the tracer ("sleep-time", "nofuncgraph-irqs", ...).
            pids: these threads only; with ``children`` also those that they start.

        Raises:
            ProbeError: the kernel has no function_graph, or no such function.
        """
        if "function_graph" not in self.ftrace.tracers and self.ftrace.name and "function_graph" in self.ftrace.root.tracers():
            if self._fds:
                raise UsageError("choose the tracer before records are read")
            self._top, self.ftrace = self.ftrace, Ftrace.top(self.ftrace.root)
        target = self.ftrace
        if "function_graph" not in target.tracers:
            raise ProbeError(
                "this kernel has no function_graph tracer", "'harken graph' traces calls by probes at both ends of functions instead"
            )
        target.set("tracing_on", "0")
        if functions:
            target.functions("set_graph_function", functions)
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

    def start(self) -> None:
        """Starts tracing from an empty buffer."""
        self._open()
        self.ftrace.clear()
        self.ftrace.start()

    def stop(self) -> None:
        """Stops tracing and lets iterators end when they have read what there is; may be called from another thread or a signal handler."""
        self._stopped = True
        self.ftrace.stop()

    # -- what was traced

    def records(self, duration: float | None = None) -> Iterator[TraceRecord]:
        """Records in the order of time as they come, until ``stop`` or for ``duration`` seconds; starts tracing if that was not done."""
        yield from self._merged(_Records(self._formats, self._pages().name), duration, None)

    def steps(self, duration: float | None = None, done: Callable[[], bool] | None = None, leaves: bool = True) -> Iterator[Step]:
        """Entries and returns of functions (``analysis.function_graph.Step``) in the order of time, with leaves found.

        Args:
            done: asked now and then whether to end.
            leaves: find calls whose return comes right behind their entry.
        """
        yield from self._merged(_Steps(self._decoding(), leaves), duration, done)

    def calls(self, duration: float | None = None, done: Callable[[], bool] | None = None) -> Iterator[Call]:
        """Outermost calls with all below them, each as soon as it is complete."""
        ready: list[Call] = []
        builder = Builder(ready.append)
        for step in self.steps(duration, done, leaves=False):
            builder.feed(step)
            if ready:
                yield from ready
                ready.clear()
        builder.close()
        yield from ready

    def graph(self, duration: float | None = None) -> dict[tuple[int, int], list[Call]]:
        """Task (thread, -1; or 0, CPU) -> its outermost calls."""
        builder = Builder()
        for step in self.steps(duration, leaves=False):
            builder.feed(step)
        return builder.close()

    def columns(self, duration: float | None = None) -> dict[str, EventColumns]:
        """Everything as columns: event name -> columns of all CPUs in the order of time, without a Python object per record."""
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
        return {self._formats[number].name: concatenate(parts) for number, parts in found.items()}

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
        event = self._formats.get(step.type)
        if event is None or event.name in ("function", "kernel_stack", "user_stack"):
            return None
        from ..formats.print_fmt import Env, compile_format

        renderers: dict[int, Any] = self.__dict__.setdefault("_renderers", {})
        render = renderers.get(step.type)
        if render is None:
            env = Env(symbol=lambda address: (self.symbol(address), address, 0), comm=self.comm)
            render = renderers[step.type] = compile_format(event, env)
        text = str(render(step.data))
        return text.partition(": ")[2] if event.name in ("print", "bprint", "bputs") else f"{event.name}: {text}"

    # -- reading

    def _learn(self, system: str, event: str) -> None:
        try:
            found = parse(self.ftrace.root.read(f"events/{system}/{event}/format"), system)
        except KernelError:
            return
        self._formats[found.id] = found
        self._decoder = None

    def _decoding(self) -> Decoder:
        if self._decoder is None:
            for name in _BUILT_IN:
                self._learn("ftrace", name)
            self._decoder = Decoder(self._formats.values(), self._pages().order, self._pages().long_size)
        return self._decoder

    def _pages(self) -> Layout:
        if self._layout is None:
            self._layout = parse_layout(self.ftrace.root.read("events/header_page"))
        return self._layout

    def _open(self) -> None:
        if self._fds:
            return
        for cpu in self.ftrace.cpus:
            file = f"per_cpu/cpu{cpu}/trace_pipe_raw"
            try:
                self._fds[cpu] = self.kernel.open(self.ftrace.tracefs.path(file), os.O_RDONLY | os.O_NONBLOCK)
            except OSError as error:
                raise self.ftrace.tracefs.refused(file, error, "read") from None

    def _rounds(self, duration: float | None, done: Callable[[], bool] | None) -> Iterator[tuple[dict[int, list[bytes]], bool]]:
        """(CPU -> pages, whether that is all there was) again and again; the last round comes after tracing has stopped."""
        if not self._fds:
            self.start()
        self._stopped = False
        end = None if duration is None else time.monotonic() + duration
        size = self.ftrace.page_size
        last = False
        while True:
            found: dict[int, list[bytes]] = {}
            whole = True
            for cpu, fd in self._fds.items():
                pages = found[cpu] = []
                while True:
                    if len(pages) >= _TURN:
                        whole = False
                        break
                    try:
                        page = os.read(fd, size)
                    except BlockingIOError:
                        break
                    except InterruptedError:
                        continue
                    if not page:
                        break
                    pages.append(page)
            yield found, whole
            if last and whole:
                return
            if not last and (self._stopped or (end is not None and time.monotonic() >= end) or (done is not None and done())):
                self.ftrace.stop()
                last = True
            elif whole and not last:
                time.sleep(_PAUSE if end is None else max(0.0, min(_PAUSE, end - time.monotonic())))

    def _count_lost(self, cpu: int, numbers: Sequence[int]) -> None:
        for number in numbers:
            self.lost[cpu] = self.lost.get(cpu, 0) + max(1, number)

    def _merged(
        self,
        stage: _Records | _Steps,
        duration: float | None,
        done: Callable[[], bool] | None,
    ) -> Iterator[Any]:
        """What a stage makes of all records, in the order of time.

        What a CPU recorded up to the end of a round is read in the next one at the latest, so what is older than the newest record of the
        round before is complete.
        """
        layout, make = self._pages(), stage.make
        waiting: list[tuple[int, int, int, Any]] = []
        latest: dict[int, int] = {}
        number = 0

        def put(cpu: int, found: list[tuple[int, Any]]) -> None:
            nonlocal number
            for at, thing in found:
                latest[cpu] = at = max(latest.get(cpu, 0), at)  # a record of an interrupt may be older than the one before it
                waiting.append((at, cpu, number, thing))
                number += 1

        for batch, whole in self._rounds(duration, done):
            complete = max(latest.values(), default=-1)
            for cpu, pages in batch.items():
                if not pages:  # nothing came behind it for a whole round
                    put(cpu, stage.flush(cpu))
                for data in pages:
                    page = parse_page(data, layout=layout)
                    if page.lost is not None:
                        self._count_lost(cpu, (page.lost,))
                    for at, start, size in page.records:
                        put(cpu, make(at, cpu, data, start, size))
            if not whole:
                continue
            complete = min(complete, stage.held())
            waiting.sort()
            ready = 0
            while ready < len(waiting) and waiting[ready][0] <= complete:
                ready += 1
            for entry in waiting[:ready]:
                yield entry[3]
            del waiting[:ready]
        for cpu in self._fds:
            put(cpu, stage.flush(cpu))
        waiting.sort()
        for entry in waiting:
            yield entry[3]


class _Records:
    """Makes records of records."""

    def __init__(self, formats: dict[int, EventFormat], order: str) -> None:
        self._formats, self._order = formats, order

    def make(self, at: int, cpu: int, data: bytes, start: int, size: int) -> list[tuple[int, Any]]:
        event = self._formats.get(int.from_bytes(data[start : start + 2], self._order))  # type: ignore[arg-type]
        return [] if event is None else [(at, TraceRecord(at, cpu, event, data[start : start + size]))]

    def flush(self, _cpu: int) -> list[tuple[int, Any]]:
        return []

    def held(self) -> int:
        return 1 << 64


class _Steps:
    """Makes steps of records, and finds leaves."""

    def __init__(self, decoder: Decoder, leaves: bool) -> None:
        self._step, self._leaves = decoder.step, leaves
        self._states: dict[int, Leaves] = {}

    def make(self, at: int, cpu: int, data: bytes, start: int, size: int) -> list[tuple[int, Any]]:
        step = self._step(at, cpu, data, start, size)
        if step is None:
            return []
        if not self._leaves:
            return [(at, step)]
        state = self._states.get(cpu)
        if state is None:
            state = self._states[cpu] = Leaves()
        return [(found.time, found) for found in state.feed(step)]

    def flush(self, cpu: int) -> list[tuple[int, Any]]:
        state = self._states.get(cpu)
        return [] if state is None else [(found.time, found) for found in state.flush()]

    def held(self) -> int:
        """The time of the oldest entry that waits for what comes next."""
        return min([state.held.time for state in self._states.values() if state.held is not None], default=1 << 64)
