"""Call graphs: pages of real kernels, rendered, against those kernels' own ``trace`` text and against ``trace-cmd report``.

``fixtures/function_graph-V.json.xz`` holds for kernel V the format files, the symbols that occur, and per scenario the pages of each CPU,
``saved_cmdlines`` and the ``trace`` file under many option sets.  ``function_graph-V-trace-cmd-3.1.6.dat`` was recorded by trace-cmd
3.1.6 in the same guest; symbols that do not occur were taken out afterwards.
"""

from __future__ import annotations

import base64
import json
import lzma
import os
import shutil
import subprocess
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harken.analysis.function_graph import COMMENT, ENTRY, Step, leaves
from harken.analysis.function_graph_records import Decoder, steps
from harken.analysis.merge import merge_records
from harken.formats.event_format import EventFormat, parse
from harken.formats.print_fmt import Env, compile_format
from harken.formats.trace_dat import TraceFile, open_trace
from harken.formats.trace_dat_parts import BufferSource, CpuSource, Parts
from harken.formats.trace_dat_writer import write_trace
from harken.render.function_graph import GraphText, header, options_of
from harken.render.function_graph_report import ReportOptions, ReportText

pytestmark = pytest.mark.oracle
FOLDER = Path(__file__).parent / "fixtures"
RELEASES = sorted(path.name.split("-", 1)[1].removesuffix(".json.xz") for path in FOLDER.glob("function_graph-*.json.xz"))
CASES = [(release, scenario) for release in RELEASES for scenario in ("mixed", "depth", "funcgraph-args")]
needs_trace_cmd = pytest.mark.skipif(shutil.which("trace-cmd") is None, reason="trace-cmd is not installed")


class Recorded:
    """One kernel's fixture."""

    def __init__(self, release: str) -> None:
        document = json.loads(lzma.decompress((FOLDER / f"function_graph-{release}.json.xz").read_bytes()))
        self.document: dict[str, Any] = document
        self.scenarios: dict[str, Any] = document["scenarios"]
        self.events: dict[int, EventFormat] = {}
        for name, text in document["formats"].items():
            event = parse(text, name.partition(":")[0])
            self.events[event.id] = event
        self.decoder = Decoder(self.events.values())
        self.names: dict[int, str] = {}
        self.interrupts = [0, 0]
        for line in document["kallsyms"].splitlines():
            address, _kind, name, *module = line.split()
            self.names.setdefault(int(address, 16), " ".join([name, *module]))
            if name.startswith("__irqentry_text_"):
                self.interrupts[name.endswith("end")] = int(address, 16)
        self._starts = sorted(self.names)

    def symbol(self, address: int) -> str:
        """The first symbol at the last address that is not above this one."""
        return self.names[self._starts[bisect_right(self._starts, address) - 1]]

    def pages(self, scenario: str) -> dict[int, bytes]:
        return {int(cpu): base64.b64decode(data) for cpu, data in self.scenarios[scenario]["raw"].items()}

    def comms(self, scenario: str) -> dict[int, str]:
        found = {0: "<idle>"}
        for line in self.scenarios[scenario]["comms"].splitlines():
            pid, _, comm = line.partition(" ")
            found[int(pid)] = comm
        return found


def kernel_text(recorded: Recorded, scenario: str, words: tuple[str, ...]) -> str:
    comms = recorded.comms(scenario)
    env = Env(symbol=lambda address: (recorded.symbol(address), address, 0))
    renderers = {number: compile_format(event, env) for number, event in recorded.events.items()}

    def comment(step: Step) -> str:
        text = renderers[step.type](step.data)
        name = recorded.events[step.type].name
        return text.partition(": ")[2] if name == "print" else f"{name}: {text}"

    streams = [
        ((step.time, step) for step in leaves(steps(recorded.decoder, pages, cpu, 4096)))
        for cpu, pages in sorted(recorded.pages(scenario).items())
    ]
    options = options_of(words, cpus=len(streams))
    first, last = recorded.interrupts
    text = GraphText(recorded.symbol, lambda pid: comms.get(pid, "<...>"), options, comment, interrupts=(first, last))
    return header(options) + "".join(text.lines(step for _, _, step in merge_records(streams)))


@pytest.mark.parametrize(("release", "scenario"), CASES)
def test_the_kernels_trace_file(release: str, scenario: str) -> None:
    recorded = Recorded(release)
    if scenario not in recorded.scenarios:
        pytest.skip(f"the fixture of {release} has no {scenario}")
    for words, text in recorded.scenarios[scenario]["text"]:
        if "latency-format" in words:  # what it says about the latency that was measured is in no record
            start, end = text.index("# function_graph latency"), text.index("#    -----------------\n#\n") + 25
            text = text[:start] + text[end:]
        assert kernel_text(recorded, scenario, tuple(words)).splitlines() == text.splitlines(), words


def report_lines(trace: TraceFile, options: ReportOptions) -> Iterator[str]:
    """The graph's lines of ``trace-cmd report``; of other events only that they are there."""
    decoder = Decoder([trace.events[number] for number in trace.events.ids], trace.order, trace.long_size)

    def stream(cpu: int) -> Iterator[tuple[int, Step]]:
        for page in trace.pages(cpu):
            for step in steps(decoder, page, cpu, trace.page_size):
                yield step.time, step

    merged = (step for _, _, step in merge_records([stream(cpu) for cpu in range(trace.cpus)]))
    for step, text in ReportText(lambda address: trace.symbols.name(address), options).texts(merged):
        micros = (step.time + 500) // 1000
        start = f"{trace.comm(step.pid):>16}-{step.pid:<5} [{step.cpu:03d}] {micros // 1_000_000:5d}.{micros % 1_000_000:06d}: "
        if step.kind == COMMENT:
            yield start
        else:
            yield start + f"{'funcgraph_entry:' if step.kind == ENTRY else 'funcgraph_exit:':<22}{text}"


def peer_lines(path: Path, *words: str) -> list[str]:
    result = subprocess.run(["trace-cmd", "report", "-i", str(path), *words], capture_output=True, text=True, check=True)
    return [line for line in result.stdout.splitlines()[1:] if not line.endswith("EVENTS DROPPED]")]  # after cpus=


def same(path: Path, options: ReportOptions, *words: str) -> int:
    ours, theirs = list(report_lines(open_trace(str(path)), options)), peer_lines(path, *words)
    assert len(ours) == len(theirs)
    for our, their in zip(ours, theirs):
        if our.endswith(": "):
            assert squeeze(their).startswith(squeeze(our))
        else:
            assert squeeze(their) == squeeze(our)
    return len(ours)


def squeeze(line: str) -> str:
    """The columns before the event's name are those of ``render.ftrace``; here they are only compared word by word."""
    head, mark, text = line.partition("funcgraph_")
    return " ".join(head.split()) + " " + mark + text


@needs_trace_cmd
@pytest.mark.parametrize("path", sorted(FOLDER.glob("function_graph-*-trace-cmd-3.1.6.dat")), ids=lambda path: path.name)
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (ReportOptions(), ()),
        (ReportOptions(tailprint=True), ("-O", "fgraph:tailprint")),
        (ReportOptions(tailprint=True, depth=True), ("-O", "fgraph:tailprint", "-O", "fgraph:depth")),
    ],
    ids=["plain", "tailprint", "depth"],
)
def test_what_trace_cmd_recorded(path: Path, options: ReportOptions, words: tuple[str, ...]) -> None:
    assert same(path, options, *words) > 90


@needs_trace_cmd
@pytest.mark.parametrize(
    "release", [release for release in RELEASES if (FOLDER / f"function_graph-{release}-trace-cmd-3.1.6.dat").exists()]
)
def test_report_of_two_busy_cpus(release: str, tmp_path: Path) -> None:
    recorded = Recorded(release)
    scenario = "mixed" if "mixed" in recorded.scenarios else "funcgraph-args"
    document: dict[str, Any] = recorded.document
    graph, other = [], []
    for name, text in document["formats"].items():
        (graph if name.startswith("ftrace:") else other).append(text.encode())
    parts = Parts(
        document["header_page"].encode(),
        document["header_event"].encode(),
        tuple(graph),
        (("sched", tuple(other)),),
        document["kallsyms"].encode(),
        cmdlines=recorded.scenarios[scenario]["comms"].encode(),
        cpus=2,
    )
    pages = recorded.pages(scenario)
    path = tmp_path / "trace.dat"
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    sources = tuple(CpuSource(cpu, len(data), lambda data=data: [data]) for cpu, data in sorted(pages.items()))  # type: ignore[misc]
    write_trace(fd, parts, [BufferSource("", "local", 4096, sources)])
    os.close(fd)
    assert same(path, ReportOptions()) > 90
