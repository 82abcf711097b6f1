"""What ``report`` tells about a recording instead of its records: CPUs, statistics, events, symbols, machine."""

from __future__ import annotations

import sys

from ...base.errors import FormatError
from ...formats import trace_dat_layout as layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...formats.trace_dat import TraceFile
    from .report import Report

__all__ = ("inform",)


def inform(report: Report, traces: list[TraceFile]) -> int | None:
    """Prints what the command line asks for; None if it asks for records."""
    if report.has("T", "filter-test"):
        for item in report.filters:
            print(_filter_text(str(item)))
        return 0
    for trace in traces:
        if report.has("check-events"):
            return _check(trace)
        if report.has("f", "kallsyms"):
            _symbols(trace)
        elif report.has("P"):
            _printk(trace)
        elif report.has("E"):
            for name in trace.events.names:
                print(name)
        elif report.has("events"):
            _formats(trace)
        elif report.has("e"):
            _order(trace)
        elif report.has("cpus", "first-event", "last-event"):
            _cpus(report, trace)
        elif report.has("stat", "uname", "version"):
            print(f"cpus={trace.cpus}")
            if report.has("stat"):
                _statistics(trace)
            if report.has("uname"):
                print(trace.uname)
            if report.has("version"):
                print(trace.written_by)
        else:
            return None
    return 0


def _filter_text(text: str) -> str:
    return f" '{text}'"


def _check(trace: TraceFile) -> int:
    from .check_events import problems_of

    found = problems_of(trace.events)
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


def _symbols(trace: TraceFile) -> None:
    symbols = trace.symbols
    len(symbols)  # parses them
    lines = []
    for start in symbols.starts:
        found = symbols.find(start)
        if found is not None:
            lines.append(f"{start:016x} {found[0]}" + (f" [{found[2]}]" if found[2] else ""))
    sys.stdout.write("\n".join(lines) + "\n")


def _printk(trace: TraceFile) -> None:
    from ...formats.trace_dat_symbols import parse_printk

    for address, text in sorted(parse_printk(trace.printk_formats).items()):
        shown = text.replace("\n", "\\n")
        print(f"{address:016x} {shown}")


def _formats(trace: TraceFile) -> None:
    for number in trace.events.ids:
        event = trace.events.get(number)
        if event is None or event.category == "ftrace":
            continue
        print(f"\nsystem: {event.category}\n{trace.events.text(number)}")


def _order(trace: TraceFile) -> None:
    names = {"<": "little", ">": "big"}
    print(f"file is {names[trace.order]} endian and host is {sys.byteorder} endian")


def _cpus(report: Report, trace: TraceFile) -> None:
    from ...formats.ring_page import parse_layout, walk

    print(f"List of CPUs in {trace.name} with data:")
    page_layout = parse_layout(trace.header_page, trace.order, trace.kernel_long)
    top = trace.buffer("")
    for place in top.cpus if top is not None else ():
        if not place.size:
            continue
        if not report.has("first-event", "last-event"):
            print(f"  {place.cpu}")
            continue
        parts = []
        for option, label, wanted in (("first-event", "First", 0), ("last-event", "Last", -1)):
            if not report.has(option):
                continue
            time = None
            try:
                for run in trace.chunks(place.cpu):
                    records = walk(run, top.page_size, page_layout)  # type: ignore[union-attr]
                    if len(records):
                        time = int(records.times[wanted])
                        if wanted == 0:
                            break
            except FormatError as error:
                print(f"WARNING: {error}", file=sys.stderr)
            if time is not None:
                parts.append(f"\t{label} event: {_seconds(time, report.has('t'))}")
        print(f"  {place.cpu}{''.join(parts)}")


def _seconds(time: int, nanoseconds: bool) -> str:
    if nanoseconds:
        return f"{time // 1000000000:5}.{time % 1000000000:09}"
    time = (time + 500) // 1000
    return f"{time // 1000000:5}.{time % 1000000:06}"


def _statistics(trace: TraceFile) -> None:
    texts = [option.data.split(b"\0", 1)[0].decode("utf-8", "backslashreplace") for option in trace.option_list(layout.CPUSTAT)]
    if not texts:
        return
    print('\nKernel buffer statistics:\n  Note: "entries" are the entries left in the kernel ring buffer and are not')
    print("        recorded in the trace data. They should all be zero.\n")
    for text in texts:
        print(text)
