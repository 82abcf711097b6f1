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
from harken.kernel import tracefs
from harken.kernel.ftrace_journal import sweep_journals
from harken.kernel.kernel import live
from harken.kernel.tracefs_instances import Instance, instance_names
from harken.kernel.tracefs_leftovers import sweep_leftovers
from harken.session.recorder_ftrace import parse_stats
from harken.testing.recordings import events_of

pytestmark = [pytest.mark.kernel, pytest.mark.needs("tracefs")]
EXEC = "sched:sched_process_exec"


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
    deadline = time.monotonic() + 150  # emulated machines may be slow
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


def instances_of(root, pids):
    """The instances of some processes; others may have theirs."""
    return [name for name in instance_names(root) for pid in pids if name.startswith(f"harken_{pid}_")]


def taken(root):
    """How many records the top buffer holds or has given to its readers."""
    stats = [parse_stats(root.read(f"per_cpu/{name}/stats")) for name in os.listdir(root.path("per_cpu"))]
    return sum(found["entries"] + found["read events"] for found in stats)


def why_no_trace_cmd(root):
    """Why the real trace-cmd cannot record here, "" if it can try."""
    if not shutil.which("trace-cmd"):
        return "trace-cmd is not installed"
    if "function" not in root.tracers() or not os.access("/proc/sys/kernel/ftrace_enabled", os.W_OK):
        return "trace-cmd insists on ftrace_enabled"
    try:
        with open("/proc/sys/kernel/ftrace_enabled", "r+") as file:
            file.write(file.read())
    except OSError as error:
        return f"trace-cmd insists on ftrace_enabled, which this kernel refuses: {error.strerror}"
    return ""


@pytest.mark.parametrize("peer", ["trace-cmd", ""])
def test_all_at_once(tmp_path, peer):
    """Two recorders of harken, one of which is killed, beside a trace-cmd and somebody's own tracing."""
    root = tracefs.find(live())
    why_not = why_no_trace_cmd(root)
    if peer and why_not:
        pytest.skip(why_not)
    if not peer and not why_not:
        pytest.skip("this is part of the test with trace-cmd")
    top = {name: root.read(name) for name in ("current_tracer", "tracing_on", "trace_clock", "events/enable", "set_event_pid")}
    with Instance(root, "somebody") as somebody:
        somebody.write("events/sched/sched_process_fork/enable", "1")
        pids = [
            started(["record", "-q", "-o", str(tmp_path / "one.dat"), "--compression", "none", "-e", "sched:sched_switch"]),
            started(["record", "-q", "-o", str(tmp_path / "two.dat"), "-b", "64", "-e", "raw_syscalls:sys_enter", "-C", "mono"]),
        ]
        killed, everyone = pids[1], tuple(pids)
        theirs = None
        try:
            if peer:
                events = ["-e", "sched:sched_process_exit", "-e", EXEC]
                words = ["trace-cmd", "record", "--compression", "none", "-o", str(tmp_path / "three.dat"), *events]
                theirs = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

            def recording():
                ours = instances_of(root, everyone)
                try:
                    return len(ours) == 2 and all(root.read(f"instances/{name}/tracing_on").strip() == "1" for name in ours)
                except KernelError:  # an instance that a recorder made to try something, and removed
                    return False

            wait_for(recording)
            begun = os.stat(tmp_path / "two.dat").st_blocks
            wait_for(lambda: os.stat(tmp_path / "two.dat").st_blocks >= begun + 32)  # some pages are in the file that will be left behind
            if theirs is not None:

                def both() -> bool:
                    return all(
                        root.read(f"events/sched/{name}/enable").strip() == "1" for name in ("sched_process_exit", "sched_process_exec")
                    )

                wait_for(lambda: theirs.poll() is not None or both())

                def counted() -> bool:
                    """It has switched tracing on at last, and its recorders take what comes."""
                    subprocess.run([sys.executable, "-S", "-c", ""], check=True)
                    return taken(root) > 0

                wait_for(lambda: theirs.poll() is not None or counted())
                assert theirs.poll() is None
            subprocess.run([sys.executable, "-S", "-c", ""], check=True)
            os.kill(pids.pop(), signal.SIGKILL)  # in the middle of its recording
            os.waitpid(killed, 0)
            subprocess.run([sys.executable, "-S", "-c", ""], check=True)  # the others do not mind
            subprocess.run([sys.executable, "-S", "-c", ""], check=True)
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
    one, two = events_of(tmp_path / "one.dat"), events_of(tmp_path / "two.dat", killed=True)
    assert set(one) == {"sched_switch"} and one["sched_switch"] > 0
    assert set(two) == {"sys_enter"} and two["sys_enter"] > 100  # up to the last pages that were moved
    assert text.count("sched_process_fork: ") >= 3 and "sched_switch" not in text
    if theirs is not None:
        # nothing of the others; what 3.1.6 itself writes of the last moment before an interrupt is not always all of it on a busy machine
        assert set(events_of(tmp_path / "three.dat")) <= {"sched_process_exit", "sched_process_exec"}
    assert not instances_of(root, set(everyone) - {killed})
    sweep_journals(root.kernel)  # as the next start of harken does
    sweep_leftovers(root.kernel)
    assert not instances_of(root, everyone) and not instances_of(root, [os.getpid()])
    assert {name: root.read(name) for name in top} == top
