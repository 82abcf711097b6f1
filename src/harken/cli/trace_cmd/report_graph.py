"""How a report draws the function graph: as trace-cmd does, or as the kernel's ``trace`` file."""

from __future__ import annotations

from ...base.errors import FormatError, HarkenError
from ...formats.function_arguments import Arguments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import Any

    from ...analysis.function_graph_records import Decoder
    from ...formats.trace_dat import TraceFile
    from ...kernel.kernel import Kernel
    from ...render.function_graph_kernel import KernelGraph
    from ...render.trace_cmd import LabelledKernelLines, LabelledLines
    from .report import Report

__all__ = ("draw_graph", "has_records", "kernel_graph", "live_arguments", "recorded_arguments", "recorded_names")


def _decoder(trace: TraceFile) -> Decoder | None:
    """What reads the graph's records, None if the recording has no such events."""
    if not any(name.startswith(("ftrace:funcgraph_", "ftrace:fgraph_")) for name in trace.events.names):
        return None
    from ...analysis.function_graph_records import ENTRY_EVENTS, EXIT_EVENT, Decoder

    found = [event for name in (*ENTRY_EVENTS, EXIT_EVENT) if (event := trace.events.find(f"ftrace:{name}")) is not None]
    return Decoder(found, trace.order, trace.kernel_long)


def draw_graph(lines: LabelledLines, report: Report, trace: TraceFile) -> frozenset[int]:
    """Lets the function graph's events have texts of their own; returns the ids of those that begin a call."""
    decoder = None if report.has("R", "N") else _decoder(trace)
    if decoder is None:
        return frozenset()
    from ...analysis.function_graph_records import ENTRY_EVENTS
    from ...render.function_graph_report import ReportOptions, ReportText
    from ...render.trace_cmd import GraphTexts

    options = report.plugin_options
    old = report.layout == "3.1"
    values = "" if old else "dec" if options.get("retval-dec", "0") != "0" else "hex" if options.get("retval-hex", "0") != "0" else "auto"
    settings = ReportOptions(
        options.get("tailprint", "0") != "0",
        options.get("depth", "0") != "0",
        "" if options.get("retval-skip", "0") != "0" else values,
        old,
    )

    def caller(address: int) -> str:
        place = trace.symbols.find(address)
        return f"{place[0]}+0x{address - place[1]:x}" if place else ""

    arguments = None if old or not decoder.has("args") else recorded_arguments(trace, trace_cmd=True)
    lines.draw(GraphTexts(decoder, ReportText(trace.symbol, settings, arguments=arguments, retaddr=None if old else caller)))
    return frozenset(event.id for name in ENTRY_EVENTS if (event := trace.events.find(f"ftrace:{name}")) is not None)


def kernel_graph(lines: LabelledKernelLines, report: Report, trace: TraceFile, labels: Mapping[str, str]) -> KernelGraph | None:
    """What prints a recording as the kernel does under the tracer function_graph; None if it has no such events.

    Args:
        labels: in front of the lines of a buffer -> its name.

    ``-O`` takes the tracer's options (``funcgraph-proc``, ``nofuncgraph-irqs``, ...): what a ``trace`` file looks like is not recorded.
    """
    decoder = _decoder(trace)
    if decoder is None:
        return None
    from ...render.function_graph import options_of
    from ...render.function_graph_kernel import KernelGraph

    words = [word if value != "0" else f"no{word}" for word, value in report.plugin_options.items()]
    # a return value's name changed when the option for return addresses came (Linux 6.13)
    named: dict[str, Any] = {"retval_name": "ret=" if decoder.has("retaddr") or decoder.has("args") else "= "}
    interrupts = [0, 0]
    ends = {"__irqentry_text_start": 0, "__irqentry_text_end": 1}
    for address, name, _ in trace.symbols.all():
        if name in ends:
            interrupts[ends[name]] = address
    arguments = recorded_arguments(trace) if decoder.has("args") else None
    shown = options_of(words, cpus=trace.cpus, letters=lines.env.letters, **named)
    return KernelGraph(
        lines, decoder, shown, (interrupts[0], interrupts[1]), arguments, lambda label: has_records(trace, labels[label], decoder.ids)
    )


def has_records(trace: TraceFile, name: str, kinds: Collection[int]) -> bool:
    """Whether a buffer has records of these events, as far as it can be read."""
    from ...formats.ring_page import parse_layout, walk

    buffer = trace.buffer(name)
    layout = parse_layout(trace.header_page, trace.order, trace.kernel_long)
    for place in buffer.cpus if buffer is not None else ():
        try:
            for chunk in trace.chunks(place.cpu, name):
                found = walk(chunk, buffer.page_size if buffer is not None else 0, layout).types
                if not set(found.tolist() if hasattr(found, "tolist") else found).isdisjoint(kinds):
                    return True
        except FormatError:  # reported when it is printed
            pass
    return False


def recorded_arguments(trace: TraceFile, trace_cmd: bool = False) -> Arguments:
    """The arguments of a recording's functions, by the BTF in the file, or this kernel's own if it is the one that was recorded.

    Args:
        trace_cmd: as of ``Arguments``.
    """
    types: list[Any] = []

    def function(name: str) -> Any:
        if not types:
            types.append(_types(trace))
        try:
            return types[0].function(name) if types[0] is not None else None
        except HarkenError:
            return None

    return Arguments(function, trace.kernel_long, trace_cmd)


def recorded_names(trace: TraceFile) -> dict[str, Callable[[str], Any]]:
    """What formats name and do not resolve, as ``Env`` takes it (``constant``, ``struct``); from the same BTF as arguments."""
    types: list[Any] = []

    def ask(kind: str) -> Callable[[str], Any]:
        def find(name: str) -> Any:
            if not types:
                types.append(_types(trace))
            try:
                return getattr(types[0], kind)(name) if types[0] is not None else None
            except HarkenError:
                return None

        return find

    return {"constant": ask("enum_value"), "struct": ask("find")}


def live_arguments(kernel: Kernel) -> Arguments:
    """The arguments of this kernel's functions."""
    from ...kernel.btf import KernelTypes

    types = KernelTypes(kernel)

    def function(name: str) -> Any:
        try:
            return types.vmlinux.function(name)
        except HarkenError:
            return None

    return Arguments(function)


def _types(trace: TraceFile) -> Any:
    from ...formats.btf import Btf
    from ...formats.trace_dat_layout import UNAME

    try:
        data = trace.btf
        if data:
            return Btf(data)
        from ...kernel.btf import vmlinux_types
        from ...kernel.kernel import live
        from ...kernel.tracefs import find
        from ...session.recorder_ftrace_parts import common_options

        kernel = live()
        here = next(text for number, text in common_options(find(kernel)) if number == UNAME)
        return vmlinux_types(kernel) if here == trace.option(UNAME) else None
    except (HarkenError, OSError):
        return None
