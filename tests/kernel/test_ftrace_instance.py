"""Buffers of ftrace on a live kernel: every change is undone, by the owner or by the next start after its death."""

from __future__ import annotations

import os
import signal

import pytest

from harken.base.errors import KernelError, ProbeError, UsageError
from harken.kernel import ftrace_journal, tracefs
from harken.kernel.ftrace import Ftrace
from harken.kernel.kernel import live
from harken.kernel.tracefs_instances import instance_names
from harken.session import recorder_ftrace
from harken.session.recorder_ftrace import Recorder
from harken.session.recorder_ftrace_parts import collect
from harken.testing.recordings import events_of

pytestmark = [pytest.mark.kernel, pytest.mark.needs("tracefs")]


@pytest.fixture
def root():
    return tracefs.find(live())


def test_a_private_buffer_takes_all_settings_and_vanishes(root):
    with Ftrace.private(root, "settings") as trace:
        name = trace.name
        assert len(trace.enable("sched")) > 10
        assert trace.enable("sched_switch", filter="prev_pid > 0") == [("sched", "sched_switch")]
        trace.disable("sched:*stat*")
        trace.add_trigger("sched", "sched_switch", "traceoff:1 if prev_pid == 0xfffffff")
        trace.pids([os.getpid()], children=True)
        trace.not_pids([1])
        trace.set_cpumask("1")
        trace.set_clock("mono")
        trace.set_buffer_kb(128)
        trace.option("nomarkers")
        assert trace.read("events/sched/sched_switch/enable").startswith("1")
        assert trace.read("events/sched/sched_stat_runtime/enable").startswith("0")
        assert trace.read("events/sched/sched_switch/filter").strip() == "prev_pid > 0"
        assert "traceoff" in trace.read("events/sched/sched_switch/trigger")
        assert trace.clock == "mono" and trace.read("set_event_pid").strip() == str(os.getpid())
        assert int(trace.read("tracing_cpumask").replace(",", ""), 16) == 1
        assert trace.settings.undo() == []
        assert trace.clock == "local" and trace.read("set_event_pid").strip() == ""
        assert trace.read("events/sched/sched_switch/trigger").startswith("#")
        assert trace.read("options/markers").strip() == "1"
    assert name not in instance_names(root)


def test_what_does_not_exist_is_told_with_what_does(root):
    with Ftrace.private(root, "errors") as trace:
        with pytest.raises(ProbeError, match="sched_swich") as caught:
            trace.enable("sched_swich")
        assert "sched_switch" in caught.value.hint
        assert trace.enable("sched_swich", ignore=True) == []
        trace.enable("sched:sched_switch", filter="prev_pid > 1", on=False)
        with pytest.raises(KernelError, match="nofield"):
            trace.enable("sched:sched_switch", filter="nofield == 1")
        assert trace.read("events/sched/sched_switch/filter").strip() == "prev_pid > 1"
        with pytest.raises(ProbeError, match="no_such_tracer") as caught:
            trace.set_tracer("no_such_tracer")
        assert "nop" in caught.value.hint
        with pytest.raises(ProbeError, match="no clock"):
            trace.set_clock("sundial")
        with pytest.raises(ProbeError, match="markerz") as caught:
            trace.option("nomarkerz")
        assert "markers" in caught.value.hint
        with pytest.raises(UsageError, match="mask"):
            trace.set_cpumask("x")
    with pytest.raises(KernelError, match="no buffer called"):
        Ftrace.named(root, "harken_no_such", create=False)


def test_events_are_in_the_buffer(root):
    with Ftrace.private(root, "events") as trace:
        trace.set("tracing_on", "0")
        trace.enable("syscalls:sys_enter_getpid" if root.has_event("syscalls", "sys_enter_getpid") else "raw_syscalls:sys_enter")
        trace.pids([os.getpid()])
        trace.start()
        for _ in range(20):
            os.getppid(), os.getpid()
        trace.stop()
        assert not trace.running
        entries = [line for cpu in trace.cpus for line in trace.stats(cpu).split("\n") if line.startswith("entries")]
        assert len(entries) == len(trace.cpus)
        trace.clear()
        assert all(line.startswith("#") for line in trace.read("trace").split("\n") if line)


def test_changes_of_the_shared_buffer_outlive_no_owner(root, tmp_path):
    file = "buffer_percent" if root.exists("buffer_percent") else "saved_cmdlines_size"
    before = root.read(file).strip()
    wanted = str(int(before) + 1) if int(before) < 99 else "50"
    child = os.fork()
    if not child:
        try:
            ftrace_journal.DurableSettings(root, str(tmp_path)).set(file, wanted)
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    os.waitpid(child, 0)
    try:
        assert root.read(file).strip() == wanted and len(os.listdir(tmp_path)) == 1
        assert ftrace_journal.sweep_journals(root.kernel, str(tmp_path)) == [file]
        assert root.read(file).strip() == before and os.listdir(tmp_path) == []
    finally:
        root.write(file, before)


@pytest.mark.parametrize("way", ["killed", "taken over", "kept"])
def test_an_instance_with_a_name_goes_with_its_owner(root, tmp_path, monkeypatch, way):
    """One that was killed in the middle of a recording; unless somebody made another one of that name, or it was to stay."""
    monkeypatch.setattr(ftrace_journal, "DIRECTORY", str(tmp_path))
    name = f"named_{os.getpid()}"
    place = root.path(f"instances/{name}")
    child = os.fork()
    if not child:
        try:
            trace = Ftrace.named(root, name)
            trace.set("tracing_on", "0")
            if way == "kept":
                trace.keep()
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    os.waitpid(child, 0)
    try:
        assert os.path.isdir(place) and len(os.listdir(tmp_path)) == (way != "kept")
        if way == "taken over":
            os.rmdir(place)
            os.mkdir(place)
        assert ftrace_journal.sweep_journals(root.kernel) == ([f"instances/{name}"] if way == "killed" else [])
        assert os.path.isdir(place) == (way != "killed") and os.listdir(tmp_path) == []
    finally:
        if os.path.isdir(place):
            os.rmdir(place)
    with Ftrace.named(root, name) as trace:
        assert trace.created and len(os.listdir(tmp_path)) == 1
    assert not os.path.isdir(place) and os.listdir(tmp_path) == []


def test_an_instance_that_somebody_else_makes_meanwhile_is_theirs(root, tmp_path, monkeypatch):
    monkeypatch.setattr(ftrace_journal, "DIRECTORY", str(tmp_path))
    name = f"theirs_{os.getpid()}"
    place = root.path(f"instances/{name}")
    os.mkdir(place)
    try:
        monkeypatch.setattr(root, "exists", lambda file: file != f"instances/{name}/trace" and tracefs.Tracefs.exists(root, file))
        with Ftrace.named(root, name) as trace:
            assert not trace.created and os.listdir(tmp_path) == []
        assert os.path.isdir(place)
    finally:
        os.rmdir(place)


def test_an_instance_that_somebody_uses_at_the_end_is_told(root, tmp_path, monkeypatch):
    monkeypatch.setattr(ftrace_journal, "DIRECTORY", str(tmp_path))
    name = f"used_{os.getpid()}"
    trace = Ftrace.named(root, name)
    used = os.open(root.path(f"instances/{name}/trace_pipe"), os.O_RDONLY | os.O_NONBLOCK)
    try:
        (error,) = trace.close()
        assert name in error.message and name in instance_names(root)
    finally:
        os.close(used)
        os.rmdir(root.path(f"instances/{name}"))


def test_what_others_changed_since_is_theirs(root, tmp_path):
    file = "buffer_percent"
    if not root.exists(file):
        pytest.skip("no buffer_percent")
    before = root.read(file).strip()
    child = os.fork()
    if not child:
        try:
            ftrace_journal.DurableSettings(root, str(tmp_path)).set(file, "33")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    try:
        root.write(file, "44")
        assert ftrace_journal.sweep_journals(root.kernel, str(tmp_path)) == []
        assert root.read(file).strip() == "44"
    finally:
        root.write(file, before)


@pytest.mark.parametrize("way", ["undone", "killed"])
def test_a_filter_of_a_system_leaves_the_filters_of_its_events_to_others(root, tmp_path, way):
    """One write filters all events of a system, and the kernel forgets what each of them had."""
    file, other = "events/oom/oom_score_adj_update/filter", "events/oom/mark_victim/filter"
    if not root.exists(file):
        pytest.skip("no events of the OOM killer")
    before, events = root.read(file), [event for system, event in root.events() if system == "oom"]
    root.write(file, "pid == 4711")
    child = os.fork()
    if not child:
        try:
            settings = ftrace_journal.DurableSettings(root, str(tmp_path))
            settings.filter_system("oom", events, "pid == 4712", True)
            changed = {root.read(name).strip() for name in (file, other)} == {"pid == 4712"}
            if way == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            os._exit(0 if changed and settings.undo() == [] else 2)
        finally:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        assert status == (-signal.SIGKILL if way == "killed" else 0)
        ftrace_journal.sweep_journals(root.kernel, str(tmp_path))
        assert (root.read(file).strip(), root.read(other).strip(), os.listdir(tmp_path)) == ("pid == 4711", "none", [])
    finally:
        root.write(file, "0" if before.startswith("none") else before)


def test_events_with_triggers_in_a_buffer_of_somebody_else_are_off_again(root):
    """While they have triggers their system reads as if all of them were on."""
    name = f"shared_{os.getpid()}"
    files = [f"events/oom/{event}/{file}" for system, event in root.events() if system == "oom" for file in ("enable", "trigger", "filter")]
    if not files:
        pytest.skip("no events of the OOM killer")
    with Ftrace.named(root, name) as theirs:
        theirs.enable("oom:mark_victim", filter="pid == 4711")
        before = [theirs.read(file) for file in files]
        with Ftrace.named(root, name) as ours:
            ours.enable("oom", trigger="traceoff if common_pid == 999999", filter="pid != 1")
            assert [theirs.read(file) for file in files] != before
        assert [theirs.read(file) for file in files] == before


def test_settings_of_a_buffer_of_somebody_else_outlive_no_owner(root, tmp_path, monkeypatch):
    """Beside those of the top buffer, each in a journal of its own."""
    monkeypatch.setattr(ftrace_journal, "DIRECTORY", str(tmp_path))
    name = f"lent_{os.getpid()}"
    files = [f"events/sched/sched_switch/{file}" for file in ("enable", "filter", "trigger")] + ["trace_clock", "set_event_pid"]
    with Ftrace.named(root, name) as theirs:
        theirs.enable("sched:sched_switch", filter="prev_pid == 4711")
        before, thresh = [theirs.read(file) for file in files], root.read("tracing_thresh") if root.exists("tracing_thresh") else ""
        child = os.fork()
        if not child:
            try:
                ours = Ftrace.named(root, name)
                ours.enable("sched", filter="common_pid != 1", trigger="traceoff if common_pid == 999999")
                ours.set_clock("mono")
                ours.pids([os.getpid()], children=True, functions=False)
                if thresh:
                    Ftrace.top(root).set("tracing_thresh", "5")
                os.kill(os.getpid(), signal.SIGKILL)
            finally:
                os._exit(1)
        os.waitpid(child, 0)
        assert len(os.listdir(tmp_path)) == 2 + bool(thresh) and [theirs.read(file) for file in files] != before
        assert ftrace_journal.sweep_journals(root.kernel)
        assert [theirs.read(file) for file in files] == before and len(os.listdir(tmp_path)) == 1
        assert not thresh or root.read("tracing_thresh") == thresh


def test_a_filter_that_no_event_of_a_system_can_have_is_refused(root):
    """The kernel takes it, and filters nothing."""
    with Ftrace.private(root, "system") as trace:
        assert len(trace.enable("sched", filter="prev_pid > 1", on=False)) > 10  # one event has that field
        assert trace.read("events/sched/sched_switch/filter").strip() == "prev_pid > 1"
        with pytest.raises(KernelError, match="nofield"):
            trace.enable("sched", filter="nofield == 1")


def test_a_list_of_tasks_that_have_ended_is_taken_back(root, tmp_path):
    """With the option that adds children the kernel takes away who ends, and what is left, an empty list, lets nobody through."""
    before = root.read("set_event_pid"), root.read("options/event-fork")
    child = os.fork()
    if not child:
        try:
            settings = ftrace_journal.DurableSettings(root, str(tmp_path))
            settings.set("set_event_pid", str(os.getpid()))
            settings.set("options/event-fork", "1")
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    os.waitpid(child, 0)
    assert sorted(ftrace_journal.sweep_journals(root.kernel, str(tmp_path))) == ["options/event-fork", "set_event_pid"]
    assert (root.read("set_event_pid"), root.read("options/event-fork")) == before and os.listdir(tmp_path) == []


def test_a_living_owners_journal_stays(root, tmp_path):
    file = "buffer_percent"
    if not root.exists(file):
        pytest.skip("no buffer_percent")
    before = root.read(file).strip()
    settings = ftrace_journal.DurableSettings(root, str(tmp_path))
    settings.set(file, "34")
    assert ftrace_journal.sweep_journals(root.kernel, str(tmp_path)) == [] and root.read(file).strip() == "34"
    assert settings.undo() == []
    assert root.read(file).strip() == before and os.listdir(tmp_path) == []


def test_lists_of_functions_are_put_back_whole(root):
    with Ftrace.private(root, "functions") as trace:
        if not trace.has("set_ftrace_filter"):
            pytest.skip("no function tracer in instances")
        try:
            trace.functions("set_ftrace_filter", ["vfs_read", "vfs_write"])
        except KernelError as error:
            pytest.skip(str(error))
        assert trace.read("set_ftrace_filter").split() == ["vfs_read", "vfs_write"] or set(trace.read("set_ftrace_filter").split()) == {
            "vfs_read",
            "vfs_write",
        }
        trace.functions("set_ftrace_filter", ["^vfs_(read|write)v$"])
        assert set(trace.read("set_ftrace_filter").split()) == {"vfs_readv", "vfs_writev"}
        with pytest.raises(ProbeError) as caught:
            trace.functions("set_ftrace_filter", ["vfs_raed"])
        assert "vfs_read" in caught.value.hint
        assert trace.settings.undo() == []
        assert trace.read("set_ftrace_filter").startswith("####")


@pytest.mark.parametrize("calls", [2, 2000])
def test_threads_that_move_pages_begin_when_a_buffer_is_half_full(root, tmp_path, monkeypatch, calls):
    """Whatever was recorded is in the file, with them and without."""
    monkeypatch.setattr(recorder_ftrace, "_SHORT", 60)  # else they begin after half a second, too
    event = ("raw_syscalls", "sys_enter")
    with Ftrace.private(root, "late") as trace:
        trace.set("tracing_on", "0")
        trace.set_buffer_kb(64)
        trace.pids([os.getpid()], functions=False)
        trace.enable(":".join(event))
        with Recorder(str(tmp_path / "trace.dat"), collect(root, [event], buffer=trace.tracefs, symbols=False), [("", trace)]) as recorder:
            recorder.begin(10, late=True)
            trace.start()
            begun = []

            def done():
                for _ in range(calls):
                    os.getppid()
                begun.append(bool(recorder._threads))
                return len(begun) > 200 or (recorder.size > 0 if calls > 1000 else len(begun) > 1)

            recorder.run(done, 10)
            trace.stop()
            outcome = recorder.finish()
    assert not begun[0] and begun[-1] == (calls > 1000)
    assert events_of(outcome.path)["sys_enter"] >= calls // 4
