"""Histogram triggers, synthetic events and SQL on a real kernel, through the library and the commands."""

import os
import time

import pytest

import harken
from harken.base.errors import KernelError, ProbeError, SourceError
from harken.kernel.ftrace_journal import DurableSettings, sweep_journals
from harken.kernel.ftrace_synthetic import create, defined, destroy
from harken.kernel.kernel import live
from harken.kernel.tracefs import find

pytestmark = [pytest.mark.kernel, pytest.mark.needs("tracefs")]

if os.geteuid() != 0:
    pytest.skip("needs root", allow_module_level=True)

LATENCY = (
    "SELECT end.next_comm AS comm, (end.TIMESTAMP_USECS - start.TIMESTAMP_USECS) AS us "
    "FROM sched_waking AS start JOIN sched_switch AS end ON start.pid = end.next_pid"
)


@pytest.fixture(scope="module")
def root():
    return find(live())


@pytest.fixture
def trace(root):
    if not root.exists("events/sched/sched_switch/hist"):
        pytest.skip("this kernel has no histogram triggers (CONFIG_HIST_TRIGGERS)")
    with harken.ftrace.instance() as found:
        yield found


def work():
    for _ in range(20):
        os.getppid()
        time.sleep(0.001)


def test_what_a_histogram_counts(trace):
    counted = trace.histogram("raw_syscalls:sys_enter", "common_pid.execname,id.syscall", filter=f"common_pid == {os.getpid()}")
    work()
    counted.pause()
    columns = counted.read().columns()
    calls = dict(zip(columns["id.syscall"], columns["hitcount"]))
    assert set(columns["common_pid"]) == {os.getpid()}
    assert calls["sys_getppid"] == 20
    assert "sys_getppid" in counted.table() and "@" in counted.plot()
    counted.clear()
    assert sum(counted.read().columns()["hitcount"]) == 0
    counted.resume()
    os.getppid()
    assert counted.read().total > 0


def test_ranges_and_sums(trace):
    sizes = trace.histogram("kmem:kmalloc", "bytes_req.log2", "bytes_alloc", "bytes_req")
    work()
    found = sizes.read()
    assert found.values == ("hitcount", "bytes_alloc")
    assert all(row.keys[0].number <= row.keys[0].last for row in found) and found.total > 0


def test_the_kernel_objects_at_the_users_text(trace):
    with pytest.raises(KernelError) as raised:
        trace.histogram("sched:sched_switch", "prev_pidd")
    span = raised.value.diagnostic.span
    assert span.text == "prev_pidd" and span.source.text == "hist:keys=prev_pidd"
    with pytest.raises(KernelError) as raised:
        trace.enable("sched:sched_switch", "prev_pidd > 3")
    assert raised.value.diagnostic.span.text == "prev_pidd"
    with pytest.raises(KernelError) as raised:
        trace.synthetic("harken_test_bad", "pid_t pid; foo y")
    assert "harken_test_bad pid_t pid; foo y" in raised.value.diagnostic.span.source.text


def test_a_synthetic_event_of_sql(trace, root):
    event = trace.sql(LATENCY, "harken_test_lat")
    assert event.name in [known.name for known in defined(root)]
    by_time = trace.histogram("synthetic:harken_test_lat", "us.log2")
    trace.enable("synthetic:harken_test_lat")
    records = []
    end = time.monotonic() + 30
    while not records and time.monotonic() < end:
        work()
        records = list(trace.records(0.2))
    assert records and records[0].event.name == "harken_test_lat" and records[0]["us"] >= 0 and records[0]["comm"]
    assert by_time.read().total > 0
    trace.close()
    assert event.name not in [known.name for known in defined(root)]


def test_sql_of_one_event(trace):
    counted = trace.sql("SELECT CAST(common_pid AS comm), CAST(id AS syscall) FROM sys_enter WHERE id >= 0")
    work()
    assert counted.read().total > 0
    with pytest.raises(SourceError, match="not part of event"):
        trace.sql("SELECT foo FROM sys_enter")


def test_triggers_and_snapshots(trace):
    trace.trigger("sched:sched_switch", "stacktrace:5")
    assert "stacktrace" in trace.ftrace.read("events/sched/sched_switch/trigger")
    if not trace.ftrace.has("snapshot"):
        pytest.skip("this kernel has no snapshots")
    trace.enable("sched:sched_switch")
    trace.start()
    work()
    trace.take_snapshot()
    assert "sched_switch" in trace.snapshot_text()


def test_what_a_killed_owner_made_is_removed(trace, root, tmp_path):
    """The journal of a process that is dead: its event goes, events of others stay."""
    settings = DurableSettings(root, str(tmp_path))
    pid = os.fork()
    if not pid:
        try:
            theirs = DurableSettings(root, str(tmp_path))
            theirs.command("dynamic_events", "s:harken_test_killed u64 x", "-:synthetic/harken_test_killed")
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    create(root, "harken_test_other", "u64 x")
    try:
        names = [event.name for event in defined(root)]
        assert "harken_test_killed" in names
        assert "dynamic_events" in sweep_journals(live(), str(tmp_path))
        assert [event.name for event in defined(root) if event.name.startswith("harken_test")] == ["harken_test_other"]
    finally:
        destroy(root, "harken_test_other")
        settings.undo()


def test_a_kernel_without_histograms_says_so(root):
    if root.exists("events/sched/sched_switch/hist"):
        pytest.skip("this kernel has histogram triggers")
    with harken.ftrace.instance() as found, pytest.raises(ProbeError, match="no histogram triggers"):
        found.histogram("sched:sched_switch", "prev_pid")
