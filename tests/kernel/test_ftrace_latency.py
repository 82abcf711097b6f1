"""The latency layout, made again from the raw pages of the same buffer; header and lines."""

from __future__ import annotations

import os
import re
import time

import pytest

from harken.formats.event_format import parse
from harken.formats.print_fmt import Env
from harken.formats.ring_page import parse_layout
from harken.kernel import tracefs, tracefs_instances
from harken.kernel.kernel import live
from harken.render.ftrace_batches import windows
from harken.render.ftrace_latency import LatencyLines, LatencyTask, latency_header
from harken.testing.trace_pages import raw_pages

pytestmark = [pytest.mark.kernel, pytest.mark.needs("tracefs")]
EVENTS = ("sched/sched_switch", "sched/sched_wakeup", "raw_syscalls/sys_enter", "irq/softirq_entry")


@pytest.mark.parametrize("clock", ["local", "counter"])
def test_the_latency_layout(clock):
    place = tracefs.find(live())
    with tracefs_instances.Instance(place, "latency") as private:
        private.settings.set("buffer_size_kb", "1024")
        if clock != "local":
            private.write("trace_clock", clock)  # this also lets the buffer's time start here
        private.write("options/latency-format", "1")
        for event in EVENTS:
            private.write(f"events/{event}/enable", "1")
        for _ in range(5):
            time.sleep(0.003)
            os.stat("/")
        private.write("tracing_on", "0")
        text = private.read("trace", 16 << 20)
        cpus = sorted(int(name[3:]) for name in live().listdir(private.path("per_cpu")))
        pages = [(cpu, [raw_pages(private, cpu)]) for cpu in cpus]
        names = dict(line.split(" ", 1) for line in place.read("saved_cmdlines", 1 << 20).splitlines() if " " in line)
    events = {event.id: event for path in EVENTS for event in [parse(place.read(f"events/{path}/format"), path.split("/")[0])]}
    env = Env(comm=lambda pid: "<idle>" if not pid else names.get(str(pid), "<...>"))
    batches = [batch for window in windows(pages, 4096, parse_layout(place.read("events/header_page"))) for batch in window]
    wanted = text.splitlines()
    layout = LatencyLines(events, env, clock)
    if clock != "local":
        first = min(int(batch.records.times[0]) for batch in batches)
        layout.start = first - int(next(line for line in wanted if line[0] != "#").split(": ")[0].split()[-1])
    lines = layout.text(batches).splitlines()
    bare = re.compile(r"NR -?\d+ \(.*\)")  # generations of the kernel print arguments differently
    theirs = [line for line in wanted if not line.startswith("#")]
    assert len(theirs) == len(lines) > 10
    assert [pair for pair in zip(theirs, lines) if bare.sub("", pair[0]) != bare.sub("", pair[1])] == []
    found = re.search(r"latency: (\d+) us, #(\d+)/(\d+), CPU#(\d+) \| \(M:(\S.*?) VP:.*#P:(\d+)\)", text)
    assert found is not None
    head = latency_header(
        "nop", os.uname().release, int(found[1]), int(found[2]), int(found[3]), int(found[4]), int(found[6]), LatencyTask(), found[5]
    )
    assert head.splitlines() == wanted[: len(head.splitlines())]
