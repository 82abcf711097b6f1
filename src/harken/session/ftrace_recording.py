"""The library's recordings: ``harken.ftrace.read("trace.dat")``, by whichever tool it was recorded.

Examples::

    import harken

    with harken.ftrace.read("trace.dat") as recording:
        for record in recording.records():
            print(record.time, record.cpu, record.event.name, recording.text(record))

    with harken.ftrace.read("trace.dat") as recording:
        switches = recording.columns()["sched:sched_switch"]  # numpy arrays; switches.to_arrow()
        print(len(switches), switches["next_pid"])

    with harken.ftrace.read("graph.dat") as recording:
        for call in recording.calls():
            print(recording.symbol(call.func), call.duration, call.self_time)

What is read live with ``harken.ftrace.instance()`` is read here by the same names.
"""

from __future__ import annotations

from ..analysis.function_graph import build, roots
from ..analysis.function_graph import leaves as find_leaves
from ..analysis.function_graph_records import ENTRY_EVENTS, EXIT_EVENT, Decoder
from ..analysis.merge import merge_records
from ..base.errors import FormatError, UsageError
from ..formats.print_fmt import Env
from ..formats.ring_page import parse, parse_layout
from ..formats.trace_dat import open_trace
from .ftrace_reading import EventTexts, TraceRecord

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ..analysis.function_graph import Call, Step
    from ..formats.event_records import EventColumns
    from ..formats.trace_dat import TraceFile

__all__ = ("Recording", "read")


def read(path: str = "trace.dat", buffer: str = "") -> Recording:
    """A recording to read; a context manager.

    Args:
        path: the file.
        buffer: an instance that was recorded with it (``recording.trace.instances``); "" for the main buffer.

    Raises:
        FormatError: it is no recording.
        OSError: it cannot be opened.
        UsageError: it has no such buffer.
    """
    trace = open_trace(path)
    try:
        return Recording(trace, buffer)
    except BaseException:
        trace.close()
        raise


class Recording:
    """One buffer of a recording.

    ``trace`` is the file (``formats.trace_dat.TraceFile``: its events, clock, machine, options).  As far as was read, ``lost`` counts lost
    records (at least one per gap) and ``unknown`` those of events that the file does not describe, and ``problems`` says what is damaged.

    Raises:
        UsageError: there is no such buffer.
    """

    def __init__(self, trace: TraceFile, buffer: str = "") -> None:
        place = trace.buffer(buffer)
        if place is None:
            known = ", ".join(trace.instances)
            raise UsageError(f"{trace.name} has no buffer {buffer!r}", f"it has {known}" if known else "it has the main buffer only")
        self.trace, self.buffer = trace, buffer
        self.lost = self.unknown = 0
        self.problems: list[str] = list(trace.problems)
        self._cpus = [found.cpu for found in place.cpus]
        self._layout = parse_layout(trace.header_page, trace.order, trace.kernel_long)
        self._texts = EventTexts(Env.of_file(trace, dialect="kernel"))

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_details: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file.  Columns that were read stay."""
        self.trace.close()

    # -- what was recorded

    def records(self) -> Iterator[TraceRecord]:
        """All records in the order of time."""
        self.lost = self.unknown = 0
        for _, _, record in merge_records([self._records(cpu) for cpu in self._cpus]):
            yield record

    def _records(self, cpu: int) -> Iterator[tuple[int, TraceRecord]]:
        events, order = self.trace.events, self._layout.name
        for page, at, start, size in self._places(cpu):
            event = events.get(int.from_bytes(page[start : start + 2], order))  # type: ignore[arg-type]
            if event is None:
                self.unknown += 1
            else:
                yield at, TraceRecord(at, cpu, event, bytes(page[start : start + size]), self.trace.order)

    def _places(self, cpu: int) -> Iterator[tuple[Any, int, int, int]]:
        """(page, time, start, size) of the records of a CPU, up to the first damage."""
        try:
            for page in self.trace.pages(cpu, self.buffer):
                found = parse(page, layout=self._layout)
                if found.lost is not None:
                    self.lost += max(1, found.lost)
                for at, start, size in found.records:
                    yield page, at, start, size
        except FormatError as error:
            self.problems.append(f"{error}: the rest of CPU {cpu} cannot be read")

    def columns(self, load: bool = False) -> dict[str, EventColumns]:
        """Everything as columns, without a Python object per record: "category:name" -> columns of all CPUs in the order of time.

        Args:
            load: makes all columns in the same pass over the recording, for who wants most of them; else each is made when asked for.

        Raises:
            FormatError: the recording is damaged.
        """
        from ..formats.event_records import of_file

        return of_file(self.trace, self.buffer, load)

    def text(self, record: TraceRecord) -> str:
        """The text of a record as the kernel's ``trace`` file has it behind the event's name."""
        return self._texts.text(record.event, record.data)

    # -- calls of functions

    def steps(self, leaves: bool = True) -> Iterator[Step]:
        """Entries and returns of functions (``analysis.function_graph.Step``), and the events between them, in the order of time.

        Args:
            leaves: find calls whose return comes right behind their entry on their CPU.

        Raises:
            UsageError: the recording has no calls.
        """
        trace = self.trace
        found = [event for name in (*ENTRY_EVENTS, EXIT_EVENT) if (event := trace.events.find(f"ftrace:{name}")) is not None]
        if not any(event.name == EXIT_EVENT for event in found):
            raise UsageError(f"{trace.name} has no calls: it was not recorded with the function_graph tracer")
        self.lost = 0
        decoder = Decoder(found, trace.order, trace.kernel_long)
        streams = [self._steps(cpu, decoder) for cpu in self._cpus]
        if leaves:
            streams = [find_leaves(stream) for stream in streams]
        merged = merge_records([((step.time, step) for step in stream) for stream in streams])
        return (step for _, _, step in merged)

    def _steps(self, cpu: int, decoder: Decoder) -> Iterator[Step]:
        make = decoder.step
        for page, at, start, size in self._places(cpu):
            step = make(at, cpu, page, start, size)
            if step is not None:
                yield step

    def calls(self) -> Iterator[Call]:
        """Outermost calls with all below them, each as soon as it is complete."""
        return roots(self.steps(leaves=False))

    def graph(self) -> dict[tuple[int, int], list[Call]]:
        """Task (thread, -1; or 0, CPU) -> its outermost calls."""
        return build(self.steps(leaves=False))

    # -- names

    def symbol(self, address: int) -> str:
        """The kernel function at an address, its module in brackets behind it."""
        found = self.trace.symbols.find(address)
        if found is None:
            return f"0x{address:x}"
        return f"{found[0]} [{found[2]}]" if found[2] else found[0]

    def comm(self, pid: int) -> str:
        """The name of a thread, "<...>" if the recording does not have it."""
        return self.trace.comm(pid)

    def interrupts(self) -> tuple[int, int]:
        """Not known: a recording does not name the section of the functions that begin interrupts."""
        return (0, 0)

    def comment(self, step: Step) -> str | None:
        """The text of an event that stands between calls."""
        return self._texts.comment(self.trace.events.get(step.type), step.data)
