"""Every event of this kernel with random contents, against ``trace-cmd report`` (3.1.6): docs/print_fmt.md lists what differs and why.

``HARKEN_TRACE_CMD=PROGRAM`` tries another trace-cmd, such as 3.4.
"""

from __future__ import annotations

import os
import random
import re
import subprocess

import pytest

from harken.formats.event_format import parse
from harken.formats.print_fmt import Env, compile_format
from harken.formats.ring_page import Layout, walk
from harken.formats.trace_dat import open_trace
from harken.formats.trace_dat_parts import BufferSource, CpuSource, Parts
from harken.formats.trace_dat_writer import write_trace
from harken.render.ftrace_batches import windows
from harken.render.ftrace_report import ReportLines
from harken.testing.ring_builder import pages, random_record

pytestmark = [pytest.mark.oracle, pytest.mark.needs("tracefs"), pytest.mark.program("trace-cmd")]

#: Fields that say how many bytes or elements something else has.
LENGTHS = frozenset("len namelen insn_len lladdr_len pei_len ctx_len oem_len count nents target_namelen src_namelen".split())
PER_EVENT = 5
PROGRAM = os.environ.get("HARKEN_TRACE_CMD", "trace-cmd")


@pytest.fixture(scope="module")
def generation():
    """Which lines the program prints: "3.1", or "3.4" for later ones."""
    done = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, timeout=20)
    found = re.search(r"version (\d+)\.(\d+)", done.stdout + done.stderr)
    return "3.1" if found and (int(found[1]), int(found[2])) < (3, 2) else "3.4"


@pytest.fixture(scope="module")
def formats():
    from harken.kernel.kernel import live
    from harken.kernel.tracefs import find

    place = find(live())
    found = []
    for category in sorted(live().listdir(place.path("events"))):
        folder = place.path(f"events/{category}")
        if not os.path.isdir(folder):
            continue
        for name in sorted(os.listdir(folder)):
            if os.path.exists(f"{folder}/{name}/format"):
                found.append((category, place.read(f"events/{category}/{name}/format")))
    header = place.read("events/header_page"), place.read("events/header_event")
    return found, header


def build(path, formats, streams, kallsyms=b""):
    texts, (page, event) = formats
    groups: dict[str, list[bytes]] = {}
    for category, text in texts:
        groups.setdefault(category, []).append(text.encode())
    own = tuple(groups.pop("ftrace", ()))
    parts = Parts(
        page.encode(),
        event.encode(),
        own,
        tuple((c, tuple(g)) for c, g in groups.items()),
        kallsyms,
        b"",
        b"1 one\n2 two\n3 three\n4 four\n",
        (),
        len(streams),
    )
    sources = tuple(CpuSource(cpu, len(data), lambda data=data: iter([data])) for cpu, data in enumerate(streams))
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        write_trace(fd, parts, (BufferSource("", "local", 4096, sources),), 6)
    finally:
        os.close(fd)


def report(path) -> list[str]:
    done = subprocess.run([PROGRAM, "report", "-i", path], capture_output=True, check=True, timeout=250)
    lines = done.stdout.decode("utf-8", "surrogateescape").split("\n")
    while lines and not lines[0].startswith("cpus="):
        lines.pop(0)
    return lines[1:]


KALLSYMS = b"ffffffff81000000 T _stext\nffffffff81000100 T do_it\nffffffff81000200 t helper\t[mod]\n"


def test_all_events_with_random_contents(formats, tmp_path, generation):
    rng = random.Random(20261128)
    events = [event for category, text in formats[0] if category != "ftrace" for event in [parse(text, category)]]
    assert len(events) > 1000
    records, owners = [], []
    for event in events:
        for _ in range(PER_EVENT):
            owners.append(event)
            records.append((1_000_000_000 + 1000 * len(owners), random_record(event, rng, "<", LENGTHS)))
    data = pages(records, "<")
    path = str(tmp_path / "generated.dat")
    build(path, formats, [data], KALLSYMS)
    texts: dict[int, str] = {}
    place = -1
    for line in report(path):
        match = re.match(r" *(?:one|two|three|four)-\d +\[000\](?: [^ ]{5,7})? +(\d+)\.(\d+): ", line)
        if match:
            place = int(match[1]) * 1000000 + int(match[2])
            texts[place] = line[match.end() :]
        elif place >= 0:
            texts[place] += "\n" + line
    with open_trace(path) as trace:
        env = Env.of_file(trace, "trace-cmd-3.1" if generation == "3.1" else "trace-cmd")
        renderers = {event.id: compile_format(event, env) for event in events}
        found = walk(data, 4096, Layout("<"))
        differ, unparsed = {}, set()
        for owner, start, size, time in zip(owners, found.starts.tolist(), found.sizes.tolist(), found.times.tolist()):
            wanted = texts[time // 1000].rstrip("\n")
            got = (f"{owner.name}: ".ljust(22) + renderers[owner.id](data, start, size)).rstrip("\n").split("\0")[0]
            name = f"{owner.category}:{owner.name}"
            if "[FAILED TO PARSE]" in wanted:
                unparsed.add(name)
            elif got != wanted:
                differ.setdefault(name, (wanted, got))
    assert not [renderer.event.name for renderer in renderers.values() if renderer.problem]
    assert len(unparsed) < 0.01 * len(events)  # harken prints these; trace-cmd cannot
    assert len(differ) < 0.002 * len(events), list(differ.items())[:5]


def test_a_report_equals_line_for_line(formats, tmp_path, generation):
    """Several CPUs, losses, time extends: the whole output, not event by event."""
    rng = random.Random(11)
    chosen = [
        event
        for category, text in formats[0]
        if category in ("sched", "raw_syscalls", "irq", "timer", "kmem")
        for event in [parse(text, category)]
    ]
    streams = []
    for cpu in range(3):
        time, records = 10**9 + cpu, []
        for _ in range(4000):
            time += rng.choice((3, 700, 12345, 1 << 28))
            records.append((time, random_record(rng.choice(chosen), rng, "<", LENGTHS)))
        streams.append(pages(records, "<", lost={cpu + 1: 7, 6: -1}))
    path = str(tmp_path / "several.dat")
    build(path, formats, streams, KALLSYMS)
    wanted = report(path)
    with open_trace(path) as trace:
        lines = ReportLines(trace.events, Env.of_file(trace), trace.clock, generation=generation)
        got = "".join(lines.text(window) for window in windows([(cpu, trace.chunks(cpu)) for cpu in range(3)], 4096, Layout("<"))).split(
            "\n"
        )
    assert sum("EVENTS DROPPED" in line for line in wanted) == 6
    assert len(got) == len(wanted)
    assert [pair for pair in zip(wanted, got) if pair[0] != pair[1]][:3] == []


@pytest.mark.parametrize("dialect", ["kernel", "trace-cmd"])
def test_all_events_in_bulk_as_one_by_one(formats, dialect):
    """Records at once (``print_fmt_bulk``) have the texts that they have one by one."""
    np = pytest.importorskip("numpy")
    from harken.formats.print_fmt_rows import NotBulk

    rng = random.Random(7)
    in_bulk, slow = 0, 0
    for category, text in formats[0]:
        event = parse(text, category)
        renderer = compile_format(event, Env("<", dialect=dialect))
        bulk = renderer.bulk()
        bodies = [random_record(event, rng, "<", LENGTHS) for _ in range(6)]
        if bulk is None or min(map(len, bodies)) < renderer.needs:
            slow += 1
            continue
        ends = np.cumsum([len(body) for body in bodies])
        starts = ends - [len(body) for body in bodies]
        data = b"".join(bodies)
        wanted = [renderer(data, int(start), int(end - start)) for start, end in zip(starts, ends)]
        try:
            pieces = bulk.matrices(data, starts, ends, np)
        except NotBulk:
            slow += 1
            continue
        got = [b"".join([piece if isinstance(piece, bytes) else piece[at].tobytes() for piece in pieces]) for at in range(len(bodies))]
        assert [line.replace(b"\0", b"").decode("utf-8", "surrogateescape") for line in got] == wanted, event.name
        in_bulk += 1
    assert in_bulk > slow  # system calls of the kernel's dialect and events with handlers have a way of their own
