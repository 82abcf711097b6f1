"""tracefs: finding it, its lists, the journal of settings, and whose dynamic events may be removed."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harken.base.errors import KernelError, UsageError
from harken.kernel import tracefs, tracefs_dynamic, tracefs_instances, tracefs_owner
from harken.kernel.tracefs_leftovers import sweep_leftovers
from harken.testing.fake_kernel import FakeKernel

ROOT = "/sys/kernel/tracing"
HERE = 4026531836


def pid_namespace(call):
    target = f"pid:[{HERE}]".encode()
    call.args[2][: len(target)] = target
    return len(target)


def stat(start: int) -> str:
    return f"1 (x) S {' '.join(['0'] * 18)} {start} 0"


def test_the_usual_place_needs_no_list_of_mounts():
    found = tracefs.find(FakeKernel({f"{ROOT}/trace": ""}))
    assert (found.root, found.note) == (ROOT, "")


def test_another_mount_point_is_found():
    kernel = FakeKernel({"/proc/self/mounts": "n /mnt/t tracefs rw 0 0\nn /dbg debugfs rw 0 0\n", "/dbg/tracing/trace": ""})
    assert tracefs.found_mounts(kernel) == ["/mnt/t", "/dbg/tracing"]
    assert tracefs.find(kernel).root == "/dbg/tracing"


def test_a_closed_tracefs_names_the_remedy():
    kernel = FakeKernel({"/proc/self/mounts": f"n {ROOT} tracefs rw 0 0\n"})
    kernel.listdir = lambda path: (_ for _ in ()).throw(PermissionError(13, "Permission denied", path))  # type: ignore[method-assign]
    with pytest.raises(KernelError) as caught:
        tracefs.find(kernel)
    assert caught.value.errno == 13 and "root" in caught.value.hint and "gid=" in caught.value.hint


def test_a_missing_tracefs_is_mounted_and_told():
    kernel = FakeKernel({"/proc/self/mounts": ""})

    def mount(call):
        assert call.args[1].rstrip(b"\0").decode() == ROOT and call.args[2] == b"tracefs\0"
        kernel.files[f"{ROOT}/trace"] = b""
        return 0

    kernel.on("mount", mount)
    assert "mounted tracefs at" in tracefs.find(kernel).note


def test_debugfs_serves_where_there_is_no_tracefs():
    kernel = FakeKernel({"/proc/self/mounts": ""})

    def mount(call):
        if call.args[2] == b"tracefs\0":
            return -19
        kernel.files["/sys/kernel/debug/tracing/trace"] = b""
        return 0

    kernel.on("mount", mount)
    assert tracefs.find(kernel).root == "/sys/kernel/debug/tracing"


def test_a_hidden_sysfs_leads_to_a_private_mount(monkeypatch):
    monkeypatch.setattr(tracefs, "_kept", [])
    kernel = FakeKernel({"/proc/self/mounts": "", "/proc/self/fd/9/trace": ""})
    kernel.open_fds |= {8, 9}
    kernel.on("mount", -2)
    kernel.on("fsopen", 8)
    kernel.on("fsconfig", 0)
    kernel.on("fsmount", 9)
    found = tracefs.find(kernel)
    assert found.root == "/proc/self/fd/9" and "private mount" in found.note and kernel.open_fds == {9}
    assert tracefs.find(kernel).root == found.root and sum(call.name == "fsmount" for call in kernel.calls) == 1


def test_refusals_to_mount():
    kernel = FakeKernel({"/proc/self/mounts": ""})
    kernel.on("mount", -1)
    with pytest.raises(KernelError) as caught:
        tracefs.find(kernel)
    assert caught.value.errno == 1 and "mount -t tracefs" in caught.value.hint
    with pytest.raises(KernelError) as caught:
        tracefs.find(kernel, mount=False)
    assert caught.value.errno == 2 and not [call for call in kernel.calls[2:] if call.name == "mount" and "x" in call.args]


def test_lists():
    kernel = FakeKernel(
        {
            f"{ROOT}/trace": "",
            f"{ROOT}/available_events": "sched:sched_switch\nsyscalls:sys_enter_openat\n",
            f"{ROOT}/available_tracers": "function_graph function nop\n",
            f"{ROOT}/trace_options": "print-parent\nnosym-offset\n",
            f"{ROOT}/trace_clock": "local [mono] boot\n",
            f"{ROOT}/events/sched/sched_switch/id": "314\n",
            f"{ROOT}/events/sched/sched_switch/filter": "none\n",
        }
    )
    found = tracefs.find(kernel)
    assert found.events() == [("sched", "sched_switch"), ("syscalls", "sys_enter_openat")]
    assert found.tracers() == ("function_graph", "function", "nop")
    assert found.options() == {"print-parent": True, "sym-offset": False}
    assert found.clocks() == (("local", "mono", "boot"), "mono")
    assert found.event_id("sched", "sched_switch") == 314 and found.event_filter("sched", "sched_switch") == ""
    with pytest.raises(KernelError, match="no event sched:nothing"):
        found.event_id("sched", "nothing")
    with pytest.raises(KernelError, match="no event can be called"):
        found.event_format("..", "../etc/passwd")


def test_a_locked_function_list_is_explained():
    kernel = FakeKernel(
        {
            f"{ROOT}/trace": "",
            f"{ROOT}/available_filter_functions": PermissionError(1, "Operation not permitted"),
            "/proc/self/mounts": "n /s securityfs rw 0 0",
            "/s/lockdown": "none integrity [confidentiality]",
        }
    )
    with pytest.raises(KernelError) as caught:
        tracefs.find(kernel).filter_functions()
    assert "confidentiality" in caught.value.hint and "EPERM" in caught.value.call


def test_the_kernels_reason_for_a_refused_command_is_shown():
    log = "[ 1.0] trace_uprobe: error: Bad offset\n  Command: p:g/e /bin/ls:zz\n" + " " * 25 + "^\n"
    kernel = FakeKernel({f"{ROOT}/trace": "", f"{ROOT}/error_log": log, f"{ROOT}/uprobe_events": OSError(22, "Invalid argument")})
    with pytest.raises(KernelError, match="bad offset at 'zz'"):
        tracefs.find(kernel).write("uprobe_events", "p:g/e /bin/ls:zz", append=True)
    with pytest.raises(KernelError, match="Invalid argument"):
        tracefs.find(kernel).write("uprobe_events", "p:g/other /bin/ls:0x1", append=True)


def test_an_older_error_is_not_the_reason_for_another_refusal():
    log = "[ 1.0] event filter parse error: error: Field not found\n  Command: bogus == 1\n" + " " * 17 + "^\n"
    refused = OSError(22, "Invalid argument")
    trigger = "events/sched/sched_switch/trigger"
    files = {f"{ROOT}/trace": "", f"{ROOT}/error_log": log, f"{ROOT}/snapshot": refused, f"{ROOT}/{trigger}": refused}
    for file, text in (("snapshot", "1"), (trigger, "bogus")):
        with pytest.raises(KernelError, match="Invalid argument") as caught:
            tracefs.find(FakeKernel(files)).write(file, text)
        assert caught.value.diagnostic is None
    with pytest.raises(KernelError, match="field not found"):
        tracefs.find(FakeKernel(files)).write(trigger, "stacktrace if bogus == 1")


def test_a_filter_that_the_kernel_calls_not_permitted_is_a_wrong_one():
    file = f"{ROOT}/events/sched/sched_switch/filter"
    log = "[ 1.0] event filter parse error: error: Error\n  Command: 'prev_pid == 1'\n" + " " * 11 + "^\n"
    kernel = FakeKernel({f"{ROOT}/trace": "", f"{ROOT}/error_log": log, file: PermissionError(1, "Operation not permitted")})
    with pytest.raises(KernelError) as caught:
        tracefs.find(kernel).write("events/sched/sched_switch/filter", "'prev_pid == 1'")
    assert caught.value.diagnostic is not None and not caught.value.hint
    kernel = FakeKernel({f"{ROOT}/trace": "", f"{ROOT}/error_log": "", file: OSError(22, "Invalid argument")})
    with pytest.raises(KernelError) as caught:
        tracefs.find(kernel).write("events/sched/sched_switch/filter", " || ".join(["prev_pid == 12345"] * 300))
    assert "the kernel takes 4095" in caught.value.hint and len(str(caught.value)) < 300


@pytest.mark.parametrize("file, number, hint", [
    ("buffer_size_kb", errno.ENOMEM, "ask for less"), ("set_ftrace_filter", errno.ENOMEM, ""),
    ("tracing_cpumask", errno.EOVERFLOW, "fewer CPUs"), ("set_event_pid", errno.EOVERFLOW, ""), ("current_tracer", errno.EBUSY, "somebody"),
])  # fmt: skip
def test_what_an_error_means_depends_on_the_file(file, number, hint):
    kernel = FakeKernel({f"{ROOT}/trace": "", f"{ROOT}/{file}": OSError(number, "refused")})
    with pytest.raises(KernelError) as caught:
        tracefs.find(kernel).write(file, "1")
    assert hint in caught.value.hint and bool(hint) == bool(caught.value.hint)


def test_settings_are_undone_in_reverse_order():
    kernel = FakeKernel(
        {
            f"{ROOT}/trace": "",
            f"{ROOT}/current_tracer": "nop\n",
            f"{ROOT}/trace_clock": "[local] mono\n",
            f"{ROOT}/set_event_pid": "12\n34\n",
            f"{ROOT}/events/sched/enable": "X\n",
        }
    )
    settings = tracefs_instances.Settings(tracefs.find(kernel))
    settings.set("current_tracer", "function")
    settings.set("trace_clock", "mono")
    settings.set("set_event_pid", "1")
    settings.set("events/sched/enable", "1")
    with pytest.raises(KernelError):
        settings.set("no_such_file", "1")
    assert len(settings.journal) == 4
    kernel.writes.clear()
    assert settings.undo() == []
    assert [(path.removeprefix(ROOT + "/"), data.decode()) for path, data in kernel.writes] == [
        ("events/sched/enable", "0"),
        ("set_event_pid", "12\n34\n"),
        ("trace_clock", "local"),
        ("current_tracer", "nop"),
    ]


def test_only_events_of_dead_owners_in_this_namespace_are_swept():
    here = f"{HERE:x}"
    events = (
        f"p:harken_10_500_{here}/dead /bin/a:0x1\n"
        f"p:harken_11_600_{here}/alive /bin/a:0x2\n"
        f"p:harken_12_700_{here}/recycled /bin/a:0x3\n"
        "p:harken_10_500_abc/elsewhere /bin/a:0x4\n"
        "p:probes/of_perf /bin/a:0x5\n"
        "p:harken_nonsense/x /bin/a:0x6\n"
    )
    kernel = FakeKernel({f"{ROOT}/trace": "", f"{ROOT}/uprobe_events": events, "/proc/11/stat": stat(600), "/proc/12/stat": stat(999)})
    kernel.on("readlinkat", pid_namespace)
    removed = tracefs_dynamic.sweep(tracefs.find(kernel))
    assert [event.name for event in removed] == ["dead", "recycled"]
    assert [data for _, data in kernel.writes] == [
        f"-:harken_10_500_{here}/dead\n".encode(),
        f"-:harken_12_700_{here}/recycled\n".encode(),
    ]
    assert kernel.files[f"{ROOT}/uprobe_events"].decode().startswith(events)  # appended to, never truncated


def test_a_pid_namespace_that_cannot_be_read_protects_all():
    kernel = FakeKernel({})
    kernel.on("readlinkat", -13)
    assert tracefs_owner.owner_state(kernel, tracefs_owner.Owner(1, 2, HERE)) == "elsewhere"


def test_instances_of_dead_owners_are_swept():
    here = f"{HERE:x}"
    names = [f"harken_10_500_{here}", f"harken_11_600_{here}_x", "trace-cmd"]
    kernel = FakeKernel({f"{ROOT}/trace": "", "/proc/11/stat": stat(600), **{f"{ROOT}/instances/{name}/trace": "" for name in names}})
    kernel.on("readlinkat", pid_namespace)
    kernel.on("unlinkat", 0)
    assert tracefs_instances.sweep_instances(tracefs.find(kernel)) == [names[0]]


def test_a_start_without_leftovers_reads_little_and_mounts_nothing():
    assert sweep_leftovers(FakeKernel({})) == []
    kernel = FakeKernel({f"{ROOT}/trace": "", f"{ROOT}/uprobe_events": "p:probe_ls/main /bin/ls:0x1\n"})
    assert sweep_leftovers(kernel) == [] and kernel.calls == [] and kernel.writes == []


def test_a_start_removes_the_leftovers_of_the_dead():
    here = f"{HERE:x}"
    kernel = FakeKernel({f"{ROOT}/trace": "", f"{ROOT}/uprobe_events": f"p:harken_10_500_{here}/e /bin/a:0x1\n"})
    kernel.files[f"{ROOT}/instances/harken_10_500_{here}/trace"] = b""
    kernel.on("readlinkat", pid_namespace)
    kernel.on("unlinkat", 0)
    assert sweep_leftovers(kernel) == [f"harken_10_500_{here}/e", f"harken_10_500_{here}"]


@given(st.text(alphabet="ab/ :\n\t\0.+0x", min_size=1, max_size=20))
def test_no_path_can_smuggle_in_a_second_command(path):
    try:
        line = tracefs_dynamic.uprobe_line("g", "e", path, 1)
    except UsageError:
        return
    assert len(line.split()) == 2 and "\n" not in line


@pytest.mark.parametrize("name", ["", "a b", "1a", "a/b", "é", "x" * 64])
def test_names_of_events_are_checked(name):
    with pytest.raises(UsageError):
        tracefs_dynamic.kprobe_line("g", name, "vfs_read")


def test_adding_and_removing():
    kernel = FakeKernel({f"{ROOT}/trace": "", f"{ROOT}/kprobe_events": "", f"{ROOT}/uprobe_events": ""})
    place = tracefs.find(kernel)
    event = tracefs_dynamic.add(place, tracefs_dynamic.kprobe_line("g", "e", "mod:func+4", "a=%di"))
    assert event.file == "kprobe_events" and kernel.writes[-1] == (f"{ROOT}/kprobe_events", b"p:g/e mod:func+4 a=%di\n")
    assert tracefs_dynamic.add(place, tracefs_dynamic.uprobe_line("g", "u", "/bin/x", 16)).file == "uprobe_events"
    assert tracefs_dynamic.remove(place, event)
    kernel.files[f"{ROOT}/kprobe_events"] = OSError(16, "busy")
    assert not tracefs_dynamic.remove(place, event)
    with pytest.raises(UsageError):
        tracefs_dynamic.add(place, "p:g/e vfs_read\np:g/f vfs_write")


def test_profiles():
    text = "  /tmp/a b/1 2 myevent           12\n  /bin/x other  7  9\n"
    assert tracefs_dynamic.parse_profile(text, uprobes=True)["myevent"] == (12, None)
    assert tracefs_dynamic.parse_profile("  e 5 2\n  f 6\n") == {"e": (5, 2), "f": (6, None)}


def test_the_place_that_the_kernel_objects_to():
    """Logs of Linux 6.12: of a filter, whose field it points behind, and of a histogram."""
    from harken.kernel.tracefs import LoggedError, _placed, parse_error_log

    text = "[   28.452135] event filter parse error: error: Field not found\n  Command: prev_pidd > 3\n                     ^\n"
    logged = parse_error_log(text)[0]
    assert logged == LoggedError("event filter parse error", "Field not found", "prev_pidd > 3", 10)
    place = _placed("events/sched/sched_switch/filter", logged, "prev_pidd > 3", "")
    assert place.span.text == "prev_pidd" and place.position == "filter of sched:sched_switch:1:1-10"
    text = "[ 28.1] hist:sched:sched_switch: error: Couldn't find field\n  Command: hist:keys=foo\n                     ^\n"
    place = _placed("events/sched/sched_switch/trigger", parse_error_log(text)[0], "hist:keys=foo", "")
    assert place.span.text == "foo" and place.message == "Couldn't find field"
    assert _placed("x", LoggedError("a", "b", "other", 1), "mine", "") is None
