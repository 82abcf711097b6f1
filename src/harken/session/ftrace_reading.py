"""The records of a buffer as they come, in the order of time: what ``session.ftrace_api`` reads with."""

from __future__ import annotations

import os
import time

from ..analysis.function_graph import Leaves
from ..analysis.function_graph_records import Decoder
from ..base.errors import KernelError
from ..formats.event_format import EventFormat, parse
from ..formats.print_fmt import Env, compile_format
from ..formats.ring_page import Layout, Records, parse_layout
from ..formats.ring_page import parse as parse_page

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from ..formats.event_records import EventColumns
    from ..formats.print_fmt import Renderer
    from ..kernel.ftrace import Ftrace
    from ..kernel.kernel import Kernel

__all__ = ("EventTexts", "Reader", "RecordStage", "StepStage", "TraceRecord")

#: Pages that are read from one CPU before the next one has its turn.
_TURN = 256
_PAUSE = 0.05
_BUILT_IN = ("print", "bprint", "bputs", "function", "kernel_stack", "user_stack")


class TraceRecord:
    """One record: ``time`` in the clock's unit, ``cpu``, ``event`` (its format), ``data`` (payload); fields by name: ``record["pid"]``."""

    __slots__ = ("_columns", "_order", "cpu", "data", "event", "time")

    def __init__(self, time: int, cpu: int, event: EventFormat, data: bytes, order: str = Layout().order) -> None:
        self.time, self.cpu, self.event, self.data, self._order = time, cpu, event, data, order
        self._columns: EventColumns | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the fields."""
        return tuple(field.name for field in self.event.fields)

    def keys(self) -> tuple[str, ...]:
        """The same as ``fields``, so that ``dict(record)`` has all of them."""
        return self.fields

    def __getitem__(self, name: str) -> Any:
        if self._columns is None:
            from array import array

            from ..formats.event_records import columns

            records = Records(array("Q", (self.time,)), array("Q", (0,)), array("I", (len(self.data),)), [self.event.id], ())
            self._columns = columns(self.event, self.data, records, self._order, self.cpu)
        return self._columns[name][0]

    def __repr__(self) -> str:
        return f"<TraceRecord {self.event.name} cpu {self.cpu} at {self.time}>"


class EventTexts:
    """The texts of events as the kernel prints them."""

    def __init__(self, env: Env) -> None:
        self._env = env
        self._renderers: dict[int, Renderer] = {}

    def text(self, event: EventFormat, data: Any) -> str:
        """The text of a record with this payload."""
        render = self._renderers.get(event.id)
        if render is None:
            render = self._renderers[event.id] = compile_format(event, self._env)
        return str(render(data))

    def comment(self, event: EventFormat | None, data: Any) -> str | None:
        """How a call graph shows an event between calls; None if it does not."""
        if event is None or event.name in ("function", "kernel_stack", "user_stack"):
            return None
        text = self.text(event, data)
        return text.partition(": ")[2] if event.name in ("print", "bprint", "bputs") else f"{event.name}: {text}"


class Reader:
    """Reads the pages of a buffer; ``lost`` counts lost records per CPU."""

    def __init__(self, ftrace: Ftrace) -> None:
        self.ftrace = ftrace
        self.kernel: Kernel = ftrace.kernel
        self.lost: dict[int, int] = {}
        self._fds: dict[int, int] = {}
        self._formats: dict[int, EventFormat] = {}
        self._decoder: Decoder | None = None
        self._layout: Layout | None = None
        self._begun = False  # until everything that was traced since the start has been read
        self._stopped = False

    def start(self) -> None:
        """Starts tracing from an empty buffer."""
        self._open()
        self._begun, self._stopped = True, False
        self.ftrace.clear()
        self.ftrace.start()

    def stop(self) -> None:
        """Stops tracing and lets iterators end when they have read what there is; may be called from another thread or a signal handler."""
        self._stopped = True
        self.ftrace.stop()

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

    def _close(self) -> None:
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()

    def _rounds(self, duration: float | None, done: Callable[[], bool] | None) -> Iterator[tuple[dict[int, list[bytes]], bool]]:
        """(CPU -> pages, whether that is all there was) again and again; the last round comes after tracing has stopped.

        Tracing starts if it has not, or if all that was traced before has been read.  What was stopped before is read to its end.
        """
        if not self._begun:
            self.start()
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
                self._begun = False
                self._close()  # while the pages are open no other tracer can be chosen
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
        stage: RecordStage | StepStage,
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

        batch: dict[int, list[bytes]] = {}
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
        for cpu in batch:  # what waits for the next record of its CPU: no more comes
            put(cpu, stage.flush(cpu))
        waiting.sort()
        for entry in waiting:
            yield entry[3]


class RecordStage:
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


class StepStage:
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
