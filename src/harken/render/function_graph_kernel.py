"""Recordings of the function graph as the kernel's ``trace`` file shows them, other events among the calls included.

``KernelGraph`` stands between the records and ``function_graph.GraphText``: it finds leaves, which the next record of the same CPU tells,
and gives other events the texts that the kernel puts into comments.  Records of the function tracer and stacks have lines of their own
there.  Buffers without calls are printed as always.
"""

from __future__ import annotations

from ..analysis.function_graph import COMMENT, ENTRY, RETURN, leaves
from ..formats.function_arguments import Arguments
from ..formats.print_fmt_kernel import symbol_text
from .function_graph import GraphText, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

    from ..analysis.function_graph import Step
    from ..analysis.function_graph_records import Decoder
    from .ftrace_batches import Batch
    from .trace_cmd import LabelledKernelLines

__all__ = ("KernelGraph",)

_OWN_LINES = frozenset(("function", "kernel_stack"))
_MESSAGES = frozenset(("print", "bprint", "bputs"))


class KernelGraph:
    """Makes the text of windows of records.

    Args:
        lines: the kernel's layout for what is not of the graph.
        decoder: of the graph's records.
        options: how calls are shown.
        interrupts: as of ``GraphText``.
        arguments: of functions, None if their types are not known.
        has_calls: whether the buffer with a label has calls, wherever in it: the events before the first one are comments, too.
    """

    def __init__(
        self,
        lines: LabelledKernelLines,
        decoder: Decoder,
        options: Options,
        interrupts: tuple[int, int],
        arguments: Arguments | None,
        has_calls: Callable[[str], bool],
    ) -> None:
        self.lines, self.decoder, self.options, self.interrupts = lines, decoder, options, interrupts
        self.arguments, self.has_calls = arguments, has_calls
        self._texts: dict[str, GraphText | None] = {}  # by label; None: a buffer without calls
        self._taken: dict[int, int] = {}  # stream -> records that belong to the window before
        self._marks: dict[int, str] = {}  # stream -> what was lost before such a record

    def pieces(self, windows: Iterable[list[Batch]]) -> Iterator[bytes]:
        """The text, window by window; a window is printed when the next one is there."""
        before: list[Batch] | None = None
        for window in windows:
            if before is not None:
                yield from self._window(before, window)
            before = window
        if before is not None:
            yield from self._window(before, [])

    def _window(self, window: list[Batch], following: list[Batch]) -> Iterator[bytes]:
        drawn = [batch for batch in window if self._text_of(batch) is not None]
        others = [batch for batch in window if self._text_of(batch) is None]
        if not drawn:
            yield from (bytes(piece) for piece in self.lines.pieces(others))
            return
        from heapq import merge

        rows = [self._rows(batch, following) for batch in drawn]
        rows += [[(time, text + "\n") for time, text in self.lines.pairs(others)]] if others else []
        out = []
        for _, row in merge(*rows, key=lambda row: row[0]):
            out.append(row if isinstance(row, str) else self._line(*row))
        yield "".join(out).encode("utf-8", "surrogateescape")

    def _text_of(self, batch: Batch) -> GraphText | None:
        label = self.lines.streams[batch.cpu][0]
        if label not in self._texts:
            self._texts[label] = self._graph() if self.has_calls(label) else None
        return self._texts[label]

    def _graph(self) -> GraphText:
        env, own = self.lines.env, self.lines

        def symbol(address: Any) -> str:
            found = env.symbol(address) if env.symbol else None
            return found[0] if found is not None else f"0x{address:x}"

        def comm(pid: int) -> str:
            return env.comm(pid) if env.comm else "<...>"

        places = symbol_text(env, offset=True)

        def comment(step: Step) -> str | None:
            event = own.events.get(step.type)
            renderer = own.renderer(step.type)
            if event is None or renderer is None:
                return None
            text = renderer(step.data)
            return text.partition(": ")[2] if event.name in _MESSAGES else own.name_format(event) + text

        return GraphText(symbol, comm, self.options, comment, None, self.interrupts, self.arguments, places.__getitem__)

    def _rows(self, batch: Batch, following: Sequence[Batch]) -> list[tuple[int, Any]]:
        """(time, marks and step) of a batch's records, leaves found."""
        records, stream = batch.records, batch.cpu
        label, cpu = self.lines.streams[stream]
        first, lost = self._taken.pop(stream, 0), dict(records.lost)
        steps: list[Step] = []
        marks: dict[int, str] = {}
        for at in range(first, len(records)):
            self._add(steps, marks, batch, at, lost.get(at))
        if steps and steps[-1].kind == ENTRY:
            after = next((other for other in following if other.cpu == stream), None)
            step = self._step(after, 0, cpu) if after is not None else None
            if after is not None and step is not None and step.kind == RETURN and (step.func, step.pid) == (steps[-1].func, steps[-1].pid):
                self._add(steps, marks, after, 0, dict(after.records.lost).get(0))
                self._taken[stream] = 1
        rows = []
        before = self._marks.pop(stream, "")
        for step in leaves(steps):
            rows.append((step.time, (label, stream, before + marks.get(id(step), ""), step)))
            # the kernel takes a leaf's return together with its entry, and tells of losses in front of what it takes next
            before = marks.get(id(step.leaf), "")
        self._marks[stream] = before
        return rows

    def _add(self, steps: list[Step], marks: dict[int, str], batch: Batch, at: int, lost: int | None) -> None:
        """Adds the step of a record, and how many were lost before it, by the step's ``id``."""
        step = self._step(batch, at, self.lines.streams[batch.cpu][1])
        if step is None:
            return
        steps.append(step)
        if lost is not None:
            marks[id(step)] = self.lines.lost(batch.cpu, lost) + "\n"

    def _step(self, batch: Batch, at: int, cpu: int) -> Step | None:
        records = batch.records
        return self.decoder.step(int(records.times[at]), cpu, batch.buffer, int(records.starts[at]), int(records.sizes[at]))

    def _line(self, label: str, stream: int, mark: str, step: Step) -> str:
        if step.kind == COMMENT and self._has_own_line(step):
            own = self.lines
            head, time = own.prefix(step.pid, stream, step.flags, step.preempt), own.time_texts([step.time], None)[0]
            event, renderer = own.events.get(step.type), own.renderer(step.type)
            name, text = "", own.unknown(step.type)
            if event is not None and renderer is not None:
                name, text = own.name_format(event), renderer(step.data)
            return f"{mark}{head}{own.time_format() % time}{name}{text.removesuffix(chr(10))}\n"
        graph = self._texts[label]
        text = graph.step(step) if graph is not None else ""
        return mark + ("".join([label + line for line in text.splitlines(True)]) if label else text)

    def _has_own_line(self, step: Step) -> bool:
        event = self.lines.events.get(step.type)
        return event is None or (event.category == "ftrace" and event.name in _OWN_LINES)
