"""tracefs on a live kernel: what is made is removed, also after its owner was killed."""

from __future__ import annotations

import os
import signal

import pytest

from harken.base.errors import KernelError
from harken.kernel import procfs_process, tracefs, tracefs_dynamic, tracefs_instances, tracefs_owner
from harken.kernel.kernel import live
from harken.kernel.tracefs_leftovers import sweep_leftovers

#: A file that exists under every kernel; its events are never enabled.
PROGRAM = os.path.realpath("/proc/self/exe")

pytestmark = [pytest.mark.kernel, pytest.mark.needs("tracefs")]


@pytest.fixture
def place():
    return tracefs.find(live())


def test_lists_and_formats(place):
    events = place.events()
    assert ("sched", "sched_switch") in events and len(events) > 500
    assert place.event_id("sched", "sched_switch") > 0
    assert "field:pid_t prev_pid" in place.event_format("sched", "sched_switch")
    assert "nop" in place.tracers()
    assert place.clocks()[1]
    with pytest.raises(KernelError, match="no event sched:nosuch"):
        place.event_format("sched", "nosuch")


def test_the_kernels_reason_is_told(place):
    line = tracefs_dynamic.uprobe_line(tracefs_owner.owner_name(live()), "e", "/no/such/file", 16)
    if not place.exists("uprobe_events"):
        pytest.skip("no uprobe_events")
    with pytest.raises(KernelError) as caught:
        tracefs_dynamic.add(place, line)
    assert caught.value.errno in (2, 22) and "/no/such/file" in str(caught.value)


def test_an_instance_is_private_and_removed(place):
    event = "events/oom/mark_victim"  # which nobody traces
    mine = f"harken_{os.getpid()}_"
    with tracefs_instances.Instance(place, "test") as private:
        private.settings.set(f"{event}/enable", "1")
        private.settings.set(f"{event}/filter", "pid == 1")
        private.settings.set("trace_clock", "mono")
        private.settings.set("buffer_size_kb", "16")
        assert private.read(f"{event}/enable").strip() == "1"
        assert private.event_filter("oom", "mark_victim") == "pid == 1"
        assert place.read(f"{event}/enable").strip() in ("0", "0*")
        with pytest.raises(KernelError):
            private.settings.set("current_tracer", "no_such_tracer")
        assert private.settings.undo() == []
        assert private.read(f"{event}/enable").strip() == "0"
        assert private.event_filter("oom", "mark_victim") == ""
        assert private.clocks()[1] == "local"
    assert not [name for name in tracefs_instances.instance_names(place) if name.startswith(mine)]


@pytest.mark.needs("uprobe_tracefs")
def test_leftovers_of_a_killed_owner_are_swept_and_others_are_not(place):
    kernel = live()
    mine = tracefs_dynamic.add(place, tracefs_dynamic.uprobe_line(tracefs_owner.owner_name(kernel), "mine", PROGRAM, 0x40))
    foreign = tracefs_dynamic.add(place, tracefs_dynamic.uprobe_line("harken_test_foreign", "other", PROGRAM, 0x40))
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            tracefs_dynamic.add(place, tracefs_dynamic.uprobe_line(tracefs_owner.owner_name(kernel), "left", PROGRAM, 0x40))
            tracefs_instances.Instance(place, "left")
            os.write(writing, b"1")
            signal.pause()
        finally:
            os._exit(1)
    try:
        assert os.read(reading, 1) == b"1"
        group = f"harken_{child}_{procfs_process.start_time(kernel, child)}"
        assert [event.name for event in tracefs_dynamic.defined(place) if event.group.startswith(group)] == ["left"]
        assert not [name for name in sweep_leftovers(kernel) if name.startswith(group)]  # its owner lives
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        removed = [name for name in sweep_leftovers(kernel) if name.startswith(group)]
        assert len(removed) == 2 and removed[0].endswith("/left") and removed[1].endswith("_left")
        assert {event.name for event in tracefs_dynamic.defined(place)} >= {"mine", "other"}
        assert tracefs_dynamic.profile(place)["mine"][0] == 0
    finally:
        os.close(reading)
        os.close(writing)
        assert tracefs_dynamic.remove(place, mine) and tracefs_dynamic.remove(place, foreign)
    assert not [event for event in tracefs_dynamic.defined(place) if event.name in ("mine", "other", "left")]


@pytest.mark.needs("kprobe_tracefs")
def test_kprobe_events(place):
    kernel = live()
    line = tracefs_dynamic.kprobe_line(tracefs_owner.owner_name(kernel), "entry", "vfs_read", "count=$stack:u64")
    event = tracefs_dynamic.add(place, line)
    try:
        assert place.has_event(event.group, "entry")
        assert "field:u64 count" in place.event_format(event.group, "entry")
        assert tracefs_dynamic.profile(place)["entry"] == (0, 0)
    finally:
        assert tracefs_dynamic.remove(place, event)
    assert not place.has_event(event.group, "entry")


@pytest.mark.needs("filter_functions")
def test_functions(place):
    names = {name for name, _ in place.filter_functions()}
    assert len(names) > 10000 and "vfs_read" in names
