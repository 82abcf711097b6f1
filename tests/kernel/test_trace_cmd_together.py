"""Two recordings of harken, one of trace-cmd (where it is installed and this kernel lets it) and somebody's own tracing, all at once."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from harken.base.errors import KernelError
from harken.formats.ring_page import parse_layout, walk
from harken.formats.trace_dat import open_trace
from harken.kernel import tracefs
from harken.kernel.kernel import live
from harken.kernel.tracefs_instances import Instance, instance_names

pytestmark = [pytest.mark.kernel, pytest.mark.needs("tracefs")]
EXEC = "sched:sched_process_exec"


def events_of(path):
    counts = {}
    with open_trace(str(path)) as trace:
        layout = parse_layout(trace.header_page, trace.order, trace.kernel_long)
        for place in trace.buffer("").cpus:
            for chunk in trace.chunks(place.cpu):
                for kind in walk(bytes(chunk), trace.page_size, layout).types:
                    event = trace.events.get(int(kind))
                    name = event.name if event is not None else str(kind)
                    counts[name] = counts.get(name, 0) + 1
    return counts


def started(words):
    """A recorder, when it records: it says so."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        from harken.cli.commands.trace_cmd import run

        status = run(words)
    finally:
        os._exit(status)


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def end(pids):
    """Ctrl-C for the first recorder."""
    pid = pids.pop(0)
    os.kill(pid, signal.SIGINT)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            assert os.waitstatus_to_exitcode(status) == 0
            return
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError("a recorder does not end")


def test_all_at_once(tmp_path):
    root = tracefs.find(live())
    before = set(instance_names(root))
    top = {name: root.read(name) for name in ("current_tracer", "tracing_on", "trace_clock")}
    with Instance(root, "somebody") as somebody:
        somebody.write("events/sched/sched_process_fork/enable", "1")
        mine = set(instance_names(root)) - before
        pids = [
            started(["record", "-q", "-o", str(tmp_path / "one.dat"), "--compression", "none", "-e", "sched:sched_switch"]),
            started(["record", "-q", "-o", str(tmp_path / "two.dat"), "--compression", "none", "-e", EXEC, "-C", "mono"]),
        ]
        theirs = None
        try:
            if shutil.which("trace-cmd") and "function" in root.read("available_tracers").split():
                words = [
                    "trace-cmd",
                    "record",
                    "-o",
                    str(tmp_path / "three.dat"),
                    "-e",
                    "sched:sched_process_exit",
                    "-e",
                    EXEC,
                ]
                theirs = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            ours = []

            def recording():
                ours[:] = [name for name in set(instance_names(root)) - before - mine if name.startswith("harken_")]
                try:
                    return len(ours) == 2 and all(root.read(f"instances/{name}/tracing_on").strip() == "1" for name in ours)
                except KernelError:  # an instance that a recorder made to try something, and removed
                    return False

            wait_for(recording)
            if theirs is not None:
                wait_for(lambda: theirs.poll() is not None or root.read("events/sched/sched_process_exit/enable").strip() == "1")
                if theirs.poll() is not None:  # this kernel does not let it
                    theirs = None
            time.sleep(1)  # the recorder's switch and its command's are not the same moment
            for _ in range(3):
                subprocess.run([sys.executable, "-S", "-c", ""], check=True)
            end(pids)
            subprocess.run([sys.executable, "-S", "-c", ""], check=True)  # the others still record
            if theirs is not None:
                theirs.send_signal(signal.SIGINT)
                assert theirs.wait(90) == 0
            end(pids)
            text = somebody.read("trace", 8 << 20)
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            if theirs is not None and theirs.poll() is None:
                theirs.kill()
                theirs.wait()
    one, two = events_of(tmp_path / "one.dat"), events_of(tmp_path / "two.dat")
    assert set(one) == {"sched_switch"} and one["sched_switch"] > 0
    assert set(two) == {"sched_process_exec"} and two["sched_process_exec"] >= 4
    assert text.count("sched_process_fork: ") >= 4 and "sched_switch" not in text
    if theirs is not None:
        three = events_of(tmp_path / "three.dat")
        assert set(three) == {"sched_process_exit", "sched_process_exec"} and three["sched_process_exec"] >= 4
    assert not set(instance_names(root)) - before
    assert {name: root.read(name) for name in top} == top
