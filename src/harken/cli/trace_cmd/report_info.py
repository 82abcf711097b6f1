"""What ``report`` tells about a recording instead of its records: CPUs, statistics, events, symbols, machine."""

from __future__ import annotations

import sys

from ...base.errors import FormatError
from ...formats import trace_dat_layout as layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...formats.trace_dat import TraceFile
    from .report import Report, Source

__all__ = ("inform",)


def inform(report: Report, traces: list[TraceFile]) -> int | None:
    """Prints what the command line asks for; None if it asks for records."""
    if report.has("T", "filter-test") and report.filters:
        from .filter_check import lines

        for trace in traces:
            for line in lines(report.filters, trace):
                print(line)
        return 0
    if report.has("check-events"):
        return max([_check(trace) for trace in traces])
    for source, trace in zip(report.sources, traces):
        if report.has("f"):
            _symbols(trace)
        elif report.has("P"):
            _printk(trace)
        elif report.has("E"):
            for name in sorted(trace.events.names, key=lambda name: name.split(":", 1)):
                print(name)
        elif report.has("events", "event"):
            _formats(trace, report.listed)
        elif report.has("e"):
            _order(trace)
        elif report.has("cpus", "first-event", "last-event"):
            _cpus(report, source, trace)
        elif report.has("stat", "uname", "version"):
            print(f"cpus={trace.cpus}")
            if report.has("stat"):
                _statistics(trace)
            if report.has("uname"):
                print(trace.uname)
            if report.has("version", "uname"):  # trace-cmd prints both for --uname
                print(trace.written_by)
        else:
            return None
    return 0


def _check(trace: TraceFile) -> int:
    from .check_events import problems_of

    found = problems_of(trace.events)
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


def _symbols(trace: TraceFile) -> None:
    symbols = trace.symbols
    lines = []
    for start, name, module in symbols.all():
        lines.append(f"{start:016x} {name}" + (f" [{module}]" if module else ""))
    sys.stdout.write("\n".join(lines) + "\n")


def _printk(trace: TraceFile) -> None:
    from ...formats.trace_dat_symbols import printk_lines

    # of several texts at one address the last one comes first, as trace-cmd sorts them
    for address, text in sorted(reversed(printk_lines(trace.printk_formats)), key=lambda pair: pair[0]):
        print(f"{address:016x} {text}")


def _formats(trace: TraceFile, pattern: str) -> None:
    """The format files of all events, or of those that ``[SYSTEM:]EVENT`` finds."""
    from .list import finder

    wanted = finder(pattern)
    for system, texts in trace.event_formats:
        found = [text for text in (bytes(part).decode("utf-8", "backslashreplace") for part in texts) if wanted(system, _name(text))]
        if found:
            print(f"\nsystem: {system}")
        for text in found:
            print(text)


def _name(text: str) -> str:
    """The name in a format file."""
    return text.partition("name:")[2].partition("\n")[0].strip()


def _order(trace: TraceFile) -> None:
    names = {"<": "little", ">": "big"}
    print(f"file is {names[trace.order]} endian and host is {sys.byteorder} endian")


def _cpus(report: Report, source: Source, trace: TraceFile) -> None:
    from ...formats.ring_page import parse_layout, walk
    from .report_lines import correction

    print(f"List of CPUs in {trace.name} with data:")
    page_layout = parse_layout(trace.header_page, trace.order, trace.kernel_long)
    top = trace.buffer("")
    correct = correction(report, source, trace) or int
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
                parts.append(f"\t{label} event:{time if report.has('raw-ts') else _seconds(correct(time), report.has('t'))}")
        print(f"  {place.cpu}{''.join(parts)}")


def _seconds(time: int, nanoseconds: bool) -> str:
    if nanoseconds:
        return f"{time // 1000000000:5}.{time % 1000000000:09}"
    time = (time + 500) // 1000
    return f"{time // 1000000:5}.{time % 1000000:06}"


def _statistics(trace: TraceFile) -> None:
    texts = [option.data.split(b"\0", 1)[0].decode("utf-8", "backslashreplace") for option in trace.option_list(layout.CPUSTAT)]
    print('\nKernel buffer statistics:\n  Note: "entries" are the entries left in the kernel ring buffer and are not')
    print("        recorded in the trace data. They should all be zero.\n")
    for text in texts:
        print(text)
    print("" if texts else " No stats in this file")
    top = trace.buffer("")
    at = trace.page_size  # trace-cmd tells the places in its temporary file if the records are compressed
    for place in top.cpus if top is not None else ():
        size = trace.size(place.cpu)
        print(f"CPU{place.cpu} data recorded at offset=0x{at if top.compressed else place.offset:x}\n    {size} bytes in size")  # type: ignore[union-attr]
        at += -(-size // trace.page_size) * trace.page_size
