"""Accounts of what tasks did, from records made by hand."""

import struct

import pytest

from harken.analysis.task_profile import Profile
from harken.analysis.task_profile_model import parse_hook
from harken.base.errors import FormatError, UsageError
from harken.formats.event_format import parse
from harken.render.task_profile import profile_text

COMMON = "\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n"


def event(number, category, name, *fields):
    lines = "".join(f"\tfield:{what};\toffset:{at};\tsize:{size};\tsigned:{signed};\n" for what, at, size, signed in fields)
    return parse(f'name: {name}\nID: {number}\nformat:\n{COMMON}{lines}\nprint fmt: ""\n', category)


SWITCH = event(
    1, "sched", "sched_switch", ("char prev_comm[16]", 8, 16, 0), ("pid_t prev_pid", 24, 4, 1), ("long prev_state", 32, 8, 1),
    ("char next_comm[16]", 40, 16, 0), ("pid_t next_pid", 56, 4, 1),
)  # fmt: skip
WAKEUP = event(2, "sched", "sched_wakeup", ("char comm[16]", 8, 16, 0), ("pid_t pid", 24, 4, 1))
STACK = event(3, "ftrace", "kernel_stack", ("int size", 8, 4, 1), ("unsigned long caller[0]", 16, 0, 0))
ENTER = event(4, "raw_syscalls", "sys_enter", ("long id", 8, 8, 1))
EXIT = event(5, "raw_syscalls", "sys_exit", ("long id", 8, 8, 1))
RAISE = event(6, "irq", "softirq_raise", ("unsigned int vec", 8, 4, 0))
ENTRY = event(7, "irq", "softirq_entry", ("unsigned int vec", 8, 4, 0))
GRAPH = event(8, "ftrace", "funcgraph_entry", ("unsigned long func", 8, 8, 0), ("int depth", 16, 4, 1))
RETURN = event(9, "ftrace", "funcgraph_exit", ("unsigned long func", 8, 8, 0))
OTHER = event(10, "test", "tick", ("int n", 8, 4, 1))
EVENTS = (SWITCH, WAKEUP, STACK, ENTER, EXIT, RAISE, ENTRY, GRAPH, RETURN, OTHER)
NAMES = {0x10: "schedule", 0x20: "main", 0x30: "read"}


def head(found, pid):
    return struct.pack("<HBBi", found.id, 0, 0, pid)


def switch(prev, state, following):
    names = struct.pack("<16siiq", f"task{prev}".encode(), prev, 0, state)
    return head(SWITCH, prev) + names + struct.pack("<16sii", f"task{following}".encode(), following, 0)


def wakeup(waker, pid):
    return head(WAKEUP, waker) + struct.pack("<16si", f"task{pid}".encode(), pid)


def stack(pid, *addresses):
    return head(STACK, pid) + struct.pack(f"<ii{len(addresses)}Q", len(addresses), 0, *addresses)


def long(found, pid, value):
    return head(found, pid) + struct.pack("<q", value)


def small(found, pid, value):
    return head(found, pid) + struct.pack("<i", value)


def text(profile, **more):
    return "".join(profile_text(profile, lambda pid: f"comm{pid}", lambda address: NAMES.get(address, ""), **more))


def fed(*records, **more):
    profile = Profile(EVENTS, **more)
    for time, data in enumerate(records):
        profile.feed(0, 1000000000 + time * 1000, int.from_bytes(data[:2], "little"), data)
    return profile


def test_a_task_that_sleeps_and_is_woken():
    shown = text(fed(switch(1, 1, 2), stack(1, 0x10, 0x20), wakeup(2, 1), stack(2, 0x30), switch(2, 0, 1)))
    assert "\ntask: task1-1\n  Event: sched_switch:S (1) Total: 2000 Avg: 2000 Max: 2000(ts:1.000002) Min:2000(ts:1.000002)\n" in shown
    assert "          + schedule (0x10)\n              100% (1) time:2000" in shown
    assert "  Event: sched_wakeup:0x1 (1) Total: 2000 " in shown
    assert "          + read (0x30)\n" in shown  # the waker's stack, in the account of the woken


def test_a_preempted_task_is_timed_until_it_runs_again():
    assert "task: task1-1\n  Event: sched_switch:R (1) Total: 1000 " in text(fed(switch(1, 0, 2), switch(2, 1, 1)))


def test_system_calls_functions_and_softirqs_are_pairs():
    shown = text(fed(long(ENTER, 1, 3), long(GRAPH, 1, 0x20) + bytes(4), long(RETURN, 1, 0x20), long(EXIT, 1, 3)))
    assert "Event: sys_enter:3 (1) Total: 3000 " in shown and "Event: func: main() (1) Total: 1000 " in shown
    assert "Event: softirq_raise:TIMER (1) Total: 1000 " in text(fed(small(RAISE, 1, 1), small(ENTRY, 1, 1)))


def test_a_stack_before_a_call_belongs_to_it():
    shown = text(fed(stack(1, 0x30, 0x20), long(GRAPH, 1, 0x20) + bytes(4), long(RETURN, 1, 0x20)))
    assert "Event: func: main() (1)" in shown and "+ read (0x30)\n" in shown


def test_interrupts_of_nobody():
    shown = text(fed(small(RAISE, 1, 1), small(ENTRY, 1, 1), everyone=True))
    assert shown.startswith("Global CPU[0] Events\n  Event: softirq_raise:TIMER (1)") or "task" in shown.split("\n")[0]


def test_other_events_are_counted_by_their_first_field():
    shown = text(fed(small(OTHER, 1, 5), small(OTHER, 1, 5), small(OTHER, 1, 6)))
    assert "task: comm1-1\n  Event: tick:0x5 (2)\n  Event: tick:0x6 (1)\n" in shown


def test_loss_ends_what_may_have_ended():
    profile = fed(long(ENTER, 1, 3))
    profile.lost(0)
    profile.feed(0, 2000000000, EXIT.id, long(EXIT, 1, 3))
    assert "sys_enter" not in text(profile)


def test_tasks_of_one_name_together():
    shown = text(fed(long(ENTER, 1, 3), long(EXIT, 1, 3), switch(1, 0, 2), switch(2, 0, 1), switch(1, 0, 2)), by_comm=True)
    assert "group: task1\n" in shown and "task: " not in shown


def test_hooks_connect_events():
    hook = parse_hook("test:tick,n/sys_enter,id")
    shown = text(fed(small(OTHER, 1, 5), long(ENTER, 1, 5), hooks=[hook]))
    assert "Event: tick:0x5 (1) Total: 1000 " in shown
    assert Profile(EVENTS, hooks=[parse_hook("nothing,n/tick,n")]).warnings == ["event nothing not found"]
    with pytest.raises(FormatError, match="no field 'm'"):
        Profile(EVENTS, hooks=[parse_hook("tick,m/tick,n")])
    for wrong in ("tick,n", "tick/tick", "tick,n/tick,n,x", ",/,"):
        with pytest.raises(UsageError):
            parse_hook(wrong)


def test_stacks_that_share_a_beginning_share_a_branch():
    shown = text(
        fed(small(OTHER, 1, 5), stack(1, 0x10, 0x20), small(OTHER, 1, 5), stack(1, 0x10, 0x30), small(OTHER, 1, 5), stack(1, 0x10, 0x30))
    )
    assert "+ schedule (0x10)\n              100% (3)\n" in shown
    assert shown.index("67% (2)") < shown.index("33% (1)")


def test_short_records_and_deep_stacks_do_no_harm():
    profile = fed(b"\1\0\0\0\1\0\0\0", b"\1\0", small(OTHER, 1, 5), stack(1, *range(1, 5000)))
    assert "tick" in text(profile)
