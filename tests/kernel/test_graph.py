"""Call graphs on a live kernel: function_graph where it is there, uprobes, and the library's ftrace."""

from __future__ import annotations

import ctypes
import os
import time

import pytest

from harken.analysis.function_graph import build
from harken.base.errors import KernelError, ProbeError
from harken.cli.commands import graph
from harken.kernel.kernel import live
from harken.session import ftrace_api, function_graph_probes

pytestmark = [pytest.mark.kernel, pytest.mark.needs("tracefs")]


@pytest.fixture
def trace():
    with ftrace_api.instance() as made:
        yield made


def open_something() -> None:
    os.close(os.open("/proc/self/comm", os.O_RDONLY))


def test_records_of_an_event(trace):
    trace.enable("sched:sched_switch")
    trace.start()
    for _ in range(5):
        os.sched_yield()
    found = list(trace.records(0.2))
    assert found and all(record.event.name == "sched_switch" for record in found)
    assert [record.time for record in found] == sorted(record.time for record in found)
    assert isinstance(found[0]["next_comm"], str) and found[0]["next_pid"] >= 0


def test_columns_of_an_event(trace):
    trace.enable("sched:sched_switch")
    columns = trace.columns(0.2)
    assert len(columns["sched:sched_switch"]) == len(columns["sched:sched_switch"]["next_pid"]) > 0


def test_a_buffer_is_read_again_and_again(trace):
    trace.enable("sched:sched_switch")
    for _ in range(2):
        assert trace.columns(0.1) and list(trace.records(0.1))
    trace.start()
    time.sleep(0.05)  # switches away from this task, and back
    trace.stop()
    found = list(trace.records())  # ends by itself with what was traced up to the stop
    assert found and dict(found[0])["common_pid"] >= 0
    for record in trace.records():
        assert record.event.name == "sched_switch"
        break
    assert list(trace.records(0.1))  # goes on


def test_the_instance_is_gone_afterwards():
    with ftrace_api.instance() as made:
        name = made.ftrace.name
        assert name in os.listdir(made.ftrace.root.path("instances"))
    assert name not in os.listdir(made.ftrace.root.path("instances"))


def test_the_threshold_is_put_back():
    with ftrace_api.instance() as made:
        root = made.ftrace.root
        if not root.exists("tracing_thresh"):
            pytest.skip("no tracing_thresh")
        before = root.read("tracing_thresh")
        for wanted, shown in ((2_000_000, "2000000"), (0.4, "1"), (12.6, "13")):
            made.threshold(wanted)
            assert root.read("tracing_thresh").strip() == shown
    assert root.read("tracing_thresh") == before


def test_function_graph(trace):
    if not trace.has_function_graph:
        with pytest.raises(ProbeError):
            trace.function_graph("do_sys_openat2")
        pytest.skip("this kernel has no function_graph tracer")
    root = trace.ftrace.root
    before = root.read("set_graph_function"), root.read("current_tracer"), root.read("max_graph_depth")
    trace.function_graph("do_sys_openat2", depth=3, pids=[os.getpid()])
    trace.start()
    open_something()
    trees = trace.graph(0.2)
    calls = [call for call in trees[os.getpid(), -1] if trace.symbol(call.func).startswith("do_sys_openat2")]
    assert calls and calls[0].duration > 0 and 0 <= calls[0].self_time <= calls[0].duration
    assert max(call.depth for call in calls[0].walk()) == 2
    assert sum(call.duration for call in calls[0].children) <= calls[0].duration
    trace.close()
    assert (root.read("set_graph_function"), root.read("current_tracer"), root.read("max_graph_depth")) == before


def test_one_level_watches_only_what_is_asked_for(trace):
    """A live graph of one function, as text and folded, with and without a threshold."""
    if not trace.has_function_graph:
        pytest.skip("this kernel has no function_graph tracer")
    root = trace.ftrace.root
    before = root.read("current_tracer"), root.read("tracing_thresh"), root.read("set_ftrace_filter")
    trace.function_graph("ksys_read", depth=1, pids=[os.getpid()])
    assert trace.ftrace.read("set_ftrace_filter").split() == ["ksys_read"]
    trace.start()
    fd = os.open("/proc/self/comm", os.O_RDONLY)
    for _ in range(5):
        os.read(fd, 1)
    calls = list(trace.calls(0.2))
    names = {trace.symbol(call.func) for call in calls}
    assert len(calls) >= 5 and names == {"ksys_read"} and all(call.returned and not call.children for call in calls)
    longest = max(call.duration for call in calls)
    trace.threshold(longest / 1000 + 10_000_000)  # now nothing is long enough
    for _ in range(5):
        os.read(fd, 1)
    os.close(fd)
    assert list(trace.calls(0.2)) == []
    trace.close()
    assert (root.read("current_tracer"), root.read("tracing_thresh"), root.read("set_ftrace_filter")) == before


def test_a_live_graph_in_three_forms(capfd):
    with ftrace_api.instance() as made:
        if not made.has_function_graph:
            pytest.skip("this kernel has no function_graph tracer")
    words = ["-F", "ksys_read", "--depth", "1"]
    command = ["--", "cat", "/proc/self/comm"]
    assert graph.run([*words, "--folded", *command]) == 0
    lines = [line for line in capfd.readouterr().out.splitlines() if ";ksys_read " in line]
    assert len(lines) == 1 and int(lines[0].rpartition(" ")[2]) > 0, lines
    assert graph.run([*words, "--threshold", "1ns", *command]) == 0
    assert "|  ksys_read();" in capfd.readouterr().out
    assert graph.run([*words, "--threshold", "100s", *command]) == 0
    assert "ksys_read" not in capfd.readouterr().out


def test_user_functions():
    with open("/proc/self/maps") as maps:
        library = next((line.split()[-1] for line in maps if "/libc.so" in line or "/libc-" in line), "")
    if not library:
        pytest.skip("no libc")
    try:
        probes = function_graph_probes.user_graph(library, ["getppid"], pid=os.getpid(), duration=0.5)
        probes.__enter__()
    except KernelError as error:
        pytest.skip(f"no uprobes: {error}")
    with probes:
        libc = ctypes.CDLL(None)
        for _ in range(3):
            libc.getppid()
        roots = build(probes.steps())
    calls = [call for trees in roots.values() for call in trees]
    assert [(call.func, call.returned) for call in calls] == [("getppid", True)] * 3
    assert calls[0].duration > 0 and calls[0].retval == os.getppid() and probes.lost == 0


def test_kernel_functions_by_probes_or_why_not():
    try:
        probes = function_graph_probes.kernel_graph(live(), ["do_sys_openat2"], pid=os.getpid(), duration=0.5)
    except ProbeError as error:
        assert "harken graph -x" in error.hint
        pytest.skip(str(error))
    with probes:
        open_something()
        roots = build(probes.steps())
    assert any(call.func == "do_sys_openat2" and call.returned for trees in roots.values() for call in trees)
