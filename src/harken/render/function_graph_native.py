"""The function graph's lines by the accelerator; ``function_graph_report`` makes them in Python."""

from __future__ import annotations

from ..analysis.function_graph_records import EXIT_EVENT
from ..native.text import OPS as _OPS
from ..native.text import Graph, op
from .ftrace_native import field_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..analysis.function_graph_records import Decoder
    from ..formats.event_format import EventFormat
    from .ftrace_batches import Batch
    from .ftrace_native import Writer
    from .function_graph_report import ReportText

__all__ = ("graph_event",)

_VALUES = {"": 0, "auto": 1, "dec": 2, "hex": 3}
_NAMES = {"func": "func", "depth": "depth", "begin": "calltime", "end": "rettime", "value": "retval", "back": "retaddr"}
_END = op(_OPS["END"], 0, 0, 0, 0)


def graph_event(decoder: Decoder, text: ReportText, number: int, event: EventFormat, writer: Writer) -> tuple[str, int, bytes] | None:
    """An event of the graph as ``Lines.native_special`` gives it."""
    pid = event.field("common_pid")
    leaves = event.name == EXIT_EVENT
    job, options = writer.job, text.options
    if pid is None or (pid.offset, pid.size) != (4, 4) or (job.leave if leaves else job.entry):
        return None
    graph = Graph()
    for target, name in _NAMES.items():
        field_of(getattr(graph, target), event, name)
    graph.func.is_signed = graph.back.is_signed = 0
    graph.needs = max(decoder.needs(number), 8)
    graph.values, graph.show_depth, graph.any_cpu = _VALUES[options.values], int(options.depth), int(options.any_cpu)

    def call(_batch: Batch, _index: int, _stream: int) -> tuple[str, int]:
        func = writer.number_of_key()
        return text.call(func), int(bool(text.name(func)))  # whether it has a name, without which arguments are not shown

    def tail(_batch: Batch, _index: int, _stream: int) -> tuple[str, int]:
        return text.tail(writer.number_of_key()), 0

    def back(_batch: Batch, _index: int, _stream: int) -> tuple[str, int]:
        return text.back(writer.number_of_key()), 0

    if leaves:
        graph.back.size = 0
        graph.tail = writer.memo(tail) if options.tailprint else 0
    else:
        graph.begin.size = graph.end.size = graph.value.size = 0
        graph.calls = writer.memo(call)
        graph.backs = writer.memo(back)
        at = decoder.arguments_at(number)
        if at and text.prints_arguments:
            writer.arguments(graph.arguments, at, decoder.long_size, text.template)
    job.draw(graph, leaves)
    return "exit" if leaves else "entry", 0, _END
