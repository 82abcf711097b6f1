"""Call graphs out of recordings: ``trace.dat`` files with function_graph records, by whichever tool they were recorded."""

from __future__ import annotations

from ..analysis.function_graph import leaves as find_leaves
from ..analysis.function_graph_records import ENTRY_EVENTS, EXIT_EVENT, Decoder, steps
from ..analysis.merge import merge_records
from ..base.errors import UsageError
from ..formats.print_fmt import Env, compile_format
from ..formats.ring_page import parse_layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ..analysis.function_graph import Step
    from ..formats.trace_dat import TraceFile

__all__ = ("RecordedGraph",)


class RecordedGraph:
    """The calls of one buffer of a recording; ``lost`` counts lost records as far as was read (at least one per gap).

    Raises:
        UsageError: the recording has no function_graph records.
    """

    def __init__(self, trace: TraceFile, buffer: str = "") -> None:
        self.trace, self.buffer = trace, buffer
        self.lost = 0
        found = [event for name in (*ENTRY_EVENTS, EXIT_EVENT) if (event := trace.events.find(f"ftrace:{name}")) is not None]
        place = trace.buffer(buffer)
        if not any(event.name == EXIT_EVENT for event in found) or place is None:
            raise UsageError(f"{trace.name} has no calls: it was not recorded with the function_graph tracer")
        self._page_size = place.page_size
        self._decoder = Decoder(found, trace.order, trace.kernel_long)
        self._env = Env.of_file(trace, dialect="kernel")
        self._renderers: dict[int, Any] = {}

    def steps(self, leaves: bool = True) -> Iterator[Step]:
        """All steps in the order of time; with ``leaves`` those of each CPU have their leaves found."""
        for _, _, step in merge_records([self._stream(cpu, leaves) for cpu in range(self.trace.cpus)]):
            yield step

    def _stream(self, cpu: int, leaves: bool) -> Iterator[tuple[int, Step]]:
        found = self._steps(cpu)
        for step in find_leaves(found) if leaves else found:
            yield step.time, step

    def _steps(self, cpu: int) -> Iterator[Step]:
        layout = parse_layout(self.trace.header_page, self.trace.order, self.trace.kernel_long)
        for page in self.trace.pages(cpu, self.buffer):
            yield from steps(self._decoder, page, cpu, max(len(page), self._page_size), self._lost, layout)

    def _lost(self, _time: int, number: int) -> None:
        self.lost += max(1, number)

    def symbol(self, address: int) -> str:
        """The function at an address, its module in brackets behind it."""
        found = self.trace.symbols.find(address)
        if found is None:
            return f"0x{address:x}"
        return f"{found[0]} [{found[2]}]" if found[2] else found[0]

    def comm(self, pid: int) -> str:
        """The name of a thread."""
        return self.trace.comm(pid)

    def interrupts(self) -> tuple[int, int]:
        """Not known: a recording does not name the section of the functions that begin interrupts."""
        return (0, 0)

    def comment(self, step: Step) -> str | None:
        """The text of an event that stands between calls."""
        event = self.trace.events.get(step.type)
        if event is None or event.name in ("function", "kernel_stack", "user_stack"):
            return None
        render = self._renderers.get(step.type)
        if render is None:
            render = self._renderers[step.type] = compile_format(event, self._env)
        text = str(render(step.data))
        return text.partition(": ")[2] if event.name in ("print", "bprint", "bputs") else f"{event.name}: {text}"
