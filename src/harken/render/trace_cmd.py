"""What ``trace-cmd report`` puts around the lines of records: labels of buffers and files, differences of times, wakeup latencies.

``LabelledLines`` takes batches whose ``cpu`` is the number of a stream (a CPU of a buffer of a file), so that any number of buffers is
merged in one go.  ``Wakeups`` is the ``-w`` of the report.
"""

from __future__ import annotations

from .ftrace import Lines
from .ftrace_batches import with_numpy
from .ftrace_bulk import BulkSpecial
from .ftrace_kernel import KernelLines
from .ftrace_latency import LatencyLines
from .ftrace_report import ReportLines
from .function_graph_bulk import graph_texts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..analysis.function_graph import Step
    from ..analysis.function_graph_records import Decoder
    from ..formats.event_format import EventFormat
    from .ftrace_batches import Batch, Group, Item
    from .ftrace_bulk import Texts
    from .ftrace_native import Writer
    from .function_graph_report import ReportText

__all__ = ("Labelled", "LabelledLines", "LabelledKernelLines", "LabelledLatencyLines", "GraphTexts", "Wakeups", "TimeDifferences")

_MARK = "\x01"


class Labelled(Lines):
    """Lines of several streams, in any layout.

    ``streams`` holds (label, CPU) for each number that batches carry as their CPU; it is set after construction.  ``differences`` leaves
    a mark behind each time for ``TimeDifferences``.  ``page_sizes`` of the streams let ``pairs`` tell where pages begin (``--boundary``).
    """

    streams: Sequence[tuple[str, int]] = ()
    graph: GraphTexts | None = None
    differences = False
    raw_times = False
    page_sizes: Sequence[int] = ()

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._last_page: dict[int, tuple[int, int] | None] = {}

    def draw(self, graph: GraphTexts) -> None:
        """Prints the function graph's events by ``graph``."""
        self.graph = graph
        for number in graph.decoder.ids:
            self.special[number] = graph

    def _specials(self, waiting: dict[int, list[tuple[int, Item]]], out: Any, time_format: str) -> None:
        graph = self.graph
        if graph is not None:
            mine = [(place, number, item) for number in graph.decoder.ids for place, item in waiting.pop(number, ())]
            if mine:
                mine.sort(key=lambda entry: entry[0])
                for place, number, item, text in graph.lines(mine):
                    if text is None:
                        out[place] = None
                        continue
                    pid = item.pid - (1 << 32) if item.pid >> 31 else item.pid
                    time = time_format % self.time_texts([item.time], None)[0]
                    head = self.prefix(pid, item.cpu, item.flags >> 8, item.flags & 255) + time
                    out[place] = head + self.name_format(self.events[number]) + text
        super()._specials(waiting, out, time_format)

    def bulk_special(self, groups: Sequence[Group], np: Any) -> BulkSpecial | None:
        graph = self.graph
        if graph is None:
            return super().bulk_special(groups, np)
        mine = [group for group in groups if group.kind in graph.decoder.ids]
        found = super().bulk_special([group for group in groups if group.kind not in graph.decoder.ids], np)
        texts = graph.bulk(mine, np) if found is not None and mine else []
        return None if found is None or texts is None else BulkSpecial([*found.texts, *texts], found.commit)

    def drawn(self, maker: Any) -> bool:
        """Whether the accelerator knows what a maker of texts does."""
        return maker is self.graph

    def native_special(self, number: int, writer: Writer) -> tuple[str, int, bytes] | None:
        graph = self.graph
        if graph is None or self.special[number] is not graph:
            return super().native_special(number, writer)
        return graph.native(number, self.events[number], writer)

    def prefix(self, pid: int, cpu: int, flags: int, preempt: int) -> str:
        label, real = self.streams[cpu]
        return label + super().prefix(pid, real, flags, preempt)

    def lost(self, cpu: int, number: int) -> str:
        label, real = self.streams[cpu]
        return label + super().lost(real, number)

    def unit(self) -> tuple[int, int]:
        return (1, 0) if self.raw_times else super().unit()

    def time_format(self) -> str:
        text = "%s: " if self.raw_times else super().time_format()
        return text + _MARK if self.differences else text

    def _boundaries(self, batches: Sequence[Batch], numbers: Any, index: Any) -> list[tuple[int, str]]:
        """Marks for the records that are the first of their page."""
        if not self.page_sizes:
            return []
        first: set[tuple[int, int]] = set()
        for number, batch in enumerate(batches):
            size = self.page_sizes[batch.cpu]
            last = self._last_page.get(batch.cpu)
            for at, start in enumerate(batch.records.starts):
                page = (id(batch.buffer), int(start) // size)
                if page != last:
                    first.add((number, at))
                    last = page
            self._last_page[batch.cpu] = last
        marks = []
        for place, (number, at) in enumerate(zip(numbers, index)):
            if (int(number), int(at)) in first:
                label, cpu = self.streams[batches[number].cpu]
                marks.append((place, f"{label}CPU:{cpu} [SUBBUFFER START]"))
        return marks

    def pairs(self, batches: Sequence[Batch]) -> list[tuple[int, str]]:
        """(time, line) of each record of some batches, in order; a line may contain line breaks."""
        from ..analysis.merge import merge

        total = sum(len(batch.records) for batch in batches)
        if not total:
            return []
        self.prepare(batches)
        batches = with_numpy(batches)
        if all(hasattr(batch.records.times, "dtype") for batch in batches):
            lines, marks = self._with_numpy(batches, total)
        else:
            lines, marks = self._plain(batches)
        numbers, index = merge([batch.records.times for batch in batches])
        times = [int(batches[number].records.times[at]) for number, at in zip(numbers, index)]
        for place, line in marks + self._boundaries(batches, numbers, index):
            lines[place] = line if lines[place] is None else f"{line}\n{lines[place]}"
        return [(time, line) for time, line in zip(times, lines) if line is not None]


class LabelledLines(Labelled, ReportLines):
    """The lines of ``trace-cmd report``."""


class LabelledKernelLines(Labelled, KernelLines):
    """The lines of the kernel's ``trace`` file."""


class LabelledLatencyLines(Labelled, LatencyLines):
    """The lines of the kernel's latency layout."""


class GraphTexts:
    """The texts of funcgraph_entry and funcgraph_exit: a call that returns in the very next record is one line."""

    def __init__(self, decoder: Decoder, text: ReportText) -> None:
        self.decoder = decoder
        self._text = text

    def __call__(self, items: Sequence[Item]) -> list[str | None]:
        return [text for _, _, _, text in self.lines([(place, 0, item) for place, item in enumerate(items)])]

    def bulk(self, groups: Sequence[Group], np: Any) -> list[Texts] | None:
        """The texts as columns (``function_graph_bulk``), None if they have something that is made one by one."""
        name = self._text.plain(self.decoder.has)
        return None if name is None else graph_texts(self.decoder, name, groups, self._text.options.any_cpu, np)

    def native(self, number: int, event: EventFormat, writer: Writer) -> tuple[str, int, bytes] | None:
        """As ``Lines.native_special``."""
        from .function_graph_native import graph_event

        return graph_event(self.decoder, self._text, number, event, writer)

    def lines(self, entries: Sequence[tuple[int, int, Item]]) -> list[tuple[int, int, Item, str | None]]:
        """(place, event id, record, text) of records in the order of time; None for the returns that are part of another line.

        Args:
            entries: (place among all records, event id, record); a gap between places is a record of another kind.
        """
        from ..analysis.function_graph import COMMENT, Step

        steps: list[Step] = []
        places: dict[int, int] = {}
        last = -1
        for at, (place, _, item) in enumerate(entries):
            step = self.decoder.step(item.time, item.cpu, item.payload, 0, len(item.payload))
            if step is None:
                continue
            if steps and place != last + 1:
                steps.append(Step(item.time, item.cpu, item.pid, COMMENT))
            steps.append(step)
            places[id(step)] = at
            last = place
        texts: list[str | None] = [None] * len(entries)
        for step, text in self._text.texts(steps):
            if id(step) in places:
                texts[places[id(step)]] = text
        return [(place, number, item, text) for (place, number, item), text in zip(entries, texts)]


class TimeDifferences:
    """Puts the time since the line before behind each time (``--ts-diff``)."""

    def __init__(self, unit: int, counter: bool = False) -> None:
        self._unit, self._counter = unit, counter  # of a counter trace-cmd tells no differences
        self._last: int | None = None

    def line(self, time: int, line: str) -> str:
        """A line with its mark replaced; a time is compared as it is printed."""
        now = (time + self._unit // 2) // self._unit
        text = "" if self._last is None or self._counter else f"(+{now - self._last})"
        self._last = now
        return line.replace(_MARK, f"{text:8} ", 1)


class _Latencies:
    """Number, sum and extremes of latencies in nanoseconds."""

    def __init__(self) -> None:
        self.count = self.total = self.longest = self.shortest = 0
        self.longest_at = self.shortest_at = 0

    def add(self, latency: int, time: int) -> None:
        if latency > self.longest or not self.count:
            self.longest, self.longest_at = latency, time
        if latency < self.shortest or not self.count:
            self.shortest, self.shortest_at = latency, time
        self.count += 1
        self.total += latency

    def text(self) -> str:
        average = self.total // self.count
        lines = [f"\nAverage wakeup latency: {average // 1000}.{average % 1000:03} usecs"]
        for name, value, at in (("Maximum", self.longest, self.longest_at), ("Minimum", self.shortest, self.shortest_at)):
            micros = (at + 500) // 1000
            lines.append(f"{name} Latency: {value // 1000}.{value % 1000:03} usecs at timestamp: {micros // 1000000}.{micros % 1000000:06}")
        return "\n".join(lines) + "\n\n"


class Wakeups:
    """Latencies from wakeup to switch (``-w``): a ``Special`` for sched_switch and the sched_wakeup events.

    Those of real-time tasks (priority below 100) are summed up once more.

    Args:
        lines: whose renderers give the events' own text.
    """

    def __init__(self, lines: ReportLines) -> None:
        self._lines = lines
        self._woken: dict[int, int] = {}
        self._all, self._real_time = _Latencies(), _Latencies()

    def __call__(self, items: Sequence[Item]) -> list[str | None]:
        texts: list[str | None] = []
        order: Any = "little" if self._lines.env.order == "<" else "big"
        for item in items:
            number = int.from_bytes(item.payload[:2], order)
            event = self._lines.events[number]
            renderer = self._lines.renderer(number)
            text = renderer(item.payload) if renderer is not None else ""
            switch = event.name == "sched_switch"
            pid, priority = (self._number(event, item, name) for name in (("next_pid", "next_prio") if switch else ("pid", "prio")))
            if not switch:
                self._woken[pid] = item.time
            elif pid in self._woken:
                latency = item.time - self._woken.pop(pid)
                text += f" Latency: {latency // 1000}.{latency % 1000:03} usecs"
                self._all.add(latency, item.time)
                if 0 <= priority < 100:
                    self._real_time.add(latency, item.time)
            texts.append(text)
        return texts

    def _number(self, event: EventFormat, item: Item, name: str) -> int:
        field = event.field(name)
        if field is None:
            return -1
        order: Any = "little" if self._lines.env.order == "<" else "big"
        return int.from_bytes(item.payload[field.offset : field.offset + field.size], order, signed=field.signed)

    def summary(self) -> str:
        """The lines at the end, "" if nobody was woken."""
        text = self._all.text() if self._all.count else ""
        return text + (f"RT task timings:\n{self._real_time.text()}" if self._real_time.count else "")
