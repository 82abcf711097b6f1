"""harken record, report, stream and hist: the verbs of trace-cmd with harken's defaults, on a real kernel."""

import json
import os
import threading
import time

import pytest

from harken.base.errors import ProbeError
from harken.cli.commands import hist, record, report, stream
from harken.cli.trace_cmd.running import Running
from harken.formats.trace_dat import open_trace
from harken.kernel.kernel import live
from harken.kernel.tracefs import find

pytestmark = [pytest.mark.kernel, pytest.mark.needs("tracefs")]

if os.geteuid() != 0:
    pytest.skip("needs root", allow_module_level=True)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("record") / "own.dat")
    assert record.run(["-o", path, "sh", "-c", "exit 3"]) == 0
    return path


def test_a_command_is_recorded_by_default(recording, capfd):
    with open_trace(recording) as trace:
        assert trace.events.find("sched:sched_switch") is not None and trace.events.find("raw_syscalls:sys_enter") is not None
    assert report.run(["-i", recording]) == 0
    lines = capfd.readouterr().out.split("\n")
    assert lines[0].startswith("cpus=") and any("sched_process_exec" in line for line in lines)


def test_records_as_json(recording, capfd):
    assert report.run(["--json", "-i", recording]) == 0
    rows = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)
    names = {row["event"] for row in rows}
    assert {"raw_syscalls:sys_enter", "sched:sched_process_exec"} <= names
    found = next(row for row in rows if row["event"] == "raw_syscalls:sys_enter")
    assert found["fields"]["id"] >= 0 and len(found["fields"]["args"]) == 6 and found["pid"] > 0 and found["comm"]


def test_a_recording_ends_after_its_time(tmp_path, capfd):
    start = time.monotonic()
    assert record.run(["-d", "0.2", "-e", "sched:sched_switch", "-o", str(tmp_path / "timed.dat")]) == 0
    assert time.monotonic() - start < 30
    assert "events" in capfd.readouterr().err


def test_a_stream(capfd):
    assert stream.run(["true"]) == 0
    assert "sched_process_exec" in capfd.readouterr().out


def test_a_stream_shows_all_that_was_traced_also_when_it_cannot_keep_up(capfd, monkeypatch):
    monkeypatch.setattr("harken.kernel.ftrace_raw._TURN", 1)  # pages at a time
    assert stream.run(["-e", "raw_syscalls:sys_enter", "-F", "dd", "if=/dev/zero", "of=/dev/null", "bs=1", "count=2000"]) == 0
    assert sum(line.lstrip().startswith("dd-") for line in capfd.readouterr().out.splitlines()) >= 4000


def test_a_stream_of_tasks_ends_with_them(capfd, monkeypatch):
    gate, opened = os.pipe()
    child = os.fork()
    if not child:
        os.read(gate, 1)
        os._exit(0)
    start = Running.start
    monkeypatch.setattr(Running, "start", lambda running: (start(running), os.write(opened, b"x")))
    reaper = threading.Thread(target=os.waitpid, args=(child, 0))
    reaper.start()
    assert stream.run(["-e", "sched:sched_process_exit", "-P", str(child)]) == 0
    reaper.join()
    os.close(gate)
    os.close(opened)
    assert f"pid={child} " in capfd.readouterr().out


def test_hist_counts_or_says_why_not(capfd):
    words = ["sched:sched_switch", "-k", "prev_comm", "-d", "0.3"]
    if not find(live()).exists("events/sched/sched_switch/hist"):
        with pytest.raises(ProbeError, match="no histogram triggers"):
            hist.run(words)
        return
    assert hist.run(words) == 0
    assert capfd.readouterr().out.startswith("PREV_COMM")
    assert hist.run(["kmem:kmalloc", "-k", "bytes_req.log2", "--json", "-d", "0.3"]) == 0
    row = json.loads(capfd.readouterr().out.splitlines()[0])
    assert row["hitcount"] > 0 and row["bytes_req"] <= row["bytes_req.last"]
