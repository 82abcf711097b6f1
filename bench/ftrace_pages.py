"""A large ftrace recording as columns and as text, beside ``trace-cmd report``.

    python bench/ftrace_pages.py [events] [--rounds N] [--file TRACE.DAT]

Makes a trace.dat of raw_syscalls events (their formats come from this kernel, their contents are random), or takes one that is there, and
runs in turns:
``trace-cmd report`` to a file, harken's report to a file (a process of its own), and harken's decoding into columns in this process
(all own fields, PID, time and CPU of every event).  CPU seconds (user and system) are compared, as wall time says little on a busy
machine; the fastest of the rounds counts for each.  The text of both must be equal.

Needs trace-cmd and a readable tracefs (mount -t tracefs nodev /sys/kernel/tracing).
"""

from __future__ import annotations

import argparse
import filecmp
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TRACEFS = Path("/sys/kernel/tracing")

REPORT = """
import sys
from harken.formats.print_fmt import Env
from harken.formats.ring_page import parse_layout
from harken.formats.trace_dat import open_trace
from harken.render.ftrace_batches import windows
from harken.render.function_graph_report import ReportOptions, ReportText
from harken.analysis.function_graph_records import Decoder
from harken.render.trace_cmd import GraphTexts, LabelledLines
with open_trace(sys.argv[1]) as trace, open(sys.argv[2], "w", encoding="utf-8", errors="surrogateescape") as out:
    out.write(f"cpus={trace.cpus}\\n")
    lines = LabelledLines(trace.events, Env.of_file(trace), trace.clock)
    lines.streams = [("", cpu) for cpu in range(trace.cpus)]
    graph = [event for name in ("funcgraph_entry", "funcgraph_exit") if (event := trace.events.find("ftrace:" + name)) is not None]
    if graph:
        lines.draw(GraphTexts(Decoder(graph, trace.order, trace.long_size), ReportText(trace.symbol)))
    layout = parse_layout(trace.header_page, trace.order, trace.long_size)
    for window in windows([(cpu, trace.chunks(cpu)) for cpu in range(trace.cpus)], trace.page_size, layout):
        out.write(lines.text(window))
"""


def make(path: str, count: int) -> None:
    from harken.formats.event_format import parse
    from harken.formats.trace_dat_parts import BufferSource, CpuSource, Parts
    from harken.formats.trace_dat_writer import write_trace
    from harken.testing.ring_builder import pages, record

    texts = [(TRACEFS / "events" / "raw_syscalls" / name / "format").read_bytes() for name in ("sys_enter", "sys_exit")]
    enter, leave = (parse(text, "raw_syscalls") for text in texts)
    rng = random.Random(1)
    streams = []
    for cpu in range(2):
        moment, records = 10**12 + cpu, []
        for _ in range(count // 4):
            moment += rng.randrange(200, 2000)
            arguments = b"".join(
                [rng.choice((3, 0x1000, 0x7FFED0000000 + rng.randrange(1 << 28))).to_bytes(8, sys.byteorder) for _ in range(6)]
            )
            task = rng.randrange(1, 20)
            number = rng.randrange(330)
            records.append((moment, record(enter, {"common_pid": task, "id": number, "args": arguments})))
            moment += rng.randrange(100, 3000)
            records.append((moment, record(leave, {"common_pid": task, "id": number, "ret": rng.choice((0, -11, rng.randrange(4096)))})))
        streams.append(pages(records))
    parts = Parts(
        (TRACEFS / "events/header_page").read_bytes(),
        (TRACEFS / "events/header_event").read_bytes(),
        (),
        (("raw_syscalls", tuple(texts)),),
        b"ffffffff81000000 T _stext\n",
        b"",
        "".join(f"{pid} task-{pid}\n" for pid in range(1, 20)).encode(),
        (),
        len(streams),
    )
    sources = tuple(CpuSource(cpu, len(data), lambda data=data: iter([data])) for cpu, data in enumerate(streams))
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    write_trace(fd, parts, (BufferSource("", "local", 4096, sources),), 6)
    os.close(fd)


def child(argv: list[str], out: str | None = None) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with open(out or os.devnull, "wb") as file:
        subprocess.run(argv, stdout=file, stderr=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def decode(path: str) -> tuple[float, int]:
    from harken.formats.event_records import split
    from harken.formats.ring_page import parse_layout, walk
    from harken.formats.trace_dat import open_trace

    with open_trace(path) as trace:
        events = {number: trace.events[number] for number in trace.events.ids}
        layout = parse_layout(trace.header_page, trace.order, trace.long_size)
        total = 0
        start = time.process_time()
        for cpu in range(trace.cpus):
            for chunk in trace.chunks(cpu):
                records = walk(chunk, trace.page_size, layout)
                for columns in split(chunk, records, events, trace.order, cpu).values():
                    for field in columns.event.own:
                        columns[field.name]
                    total += len(columns["common_pid"])
        taken = time.process_time() - start
        del columns, chunk, records
    return taken, total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("events", nargs="?", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--file", help="a recording to read in place of one made here")
    options = parser.parse_args()
    import numpy  # noqa: F401  its import is not what is measured

    with tempfile.TemporaryDirectory() as folder:
        path, theirs, ours = (os.path.join(folder, name) for name in ("trace.dat", "theirs", "ours"))
        if options.file:
            path = options.file
        else:
            make(path, options.events)
        best = [1e9] * 3
        for _ in range(options.rounds):
            best[0] = min(best[0], child([os.environ.get("HARKEN_TRACE_CMD", "trace-cmd"), "report", "-i", path], theirs))
            best[1] = min(best[1], child([sys.executable, "-c", REPORT, path, ours]))
            taken, total = decode(path)
            best[2] = min(best[2], taken)
        equal = "equal" if filecmp.cmp(theirs, ours, False) else "NOT EQUAL"
        print(f"{total} events, {os.path.getsize(path) / 1e6:.0f} MB; texts are {equal}")
        for name, seconds in zip(("trace-cmd report", "harken, text", "harken, columns"), best):
            print(f"{name:18} {seconds:7.3f} s  {total / seconds / 1e6:7.2f} M events/s  {best[0] / seconds:6.1f} x")


if __name__ == "__main__":
    main()
