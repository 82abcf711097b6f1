"""render.ftrace and render.ftrace_report: both layouts, with and without numpy, what was lost, events that depend on one another."""

from __future__ import annotations

import random
import re
import struct

import pytest

from harken import native
from harken.formats.event_format import parse
from harken.formats.print_fmt import Env
from harken.formats.ring_page import Layout
from harken.render.ftrace import Lines
from harken.render.ftrace_batches import windows
from harken.render.ftrace_kernel import KernelLines, kernel_flags, kernel_header
from harken.render.ftrace_report import ReportLines, latency_flags
from harken.testing.ring_builder import pages, record

COMMON = """\
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

"""


def event(name, number, category, print_fmt, *fields):
    body = "".join(f"\tfield:{field}\n" for field in fields)
    return parse(f"name: {name}\nID: {number}\nformat:\n{COMMON}{body}\nprint fmt: {print_fmt}\n", category)


LONG = "unsigned long {};\toffset:{};\tsize:8;\tsigned:0;"
EVENTS = {
    found.id: found
    for found in (
        event(
            "function",
            1,
            "ftrace",
            '" %ps <-- %ps", (void *)REC->ip, (void *)REC->parent_ip',
            LONG.format("ip", 8),
            LONG.format("parent_ip", 16),
        ),
        event(
            "kernel_stack",
            4,
            "ftrace",
            '"x"',
            "int size;\toffset:8;\tsize:4;\tsigned:1;",
            "unsigned long caller[8];\toffset:16;\tsize:64;\tsigned:0;",
        ),
        event(
            "print",
            5,
            "ftrace",
            '"%ps: %s", (void *)REC->ip, REC->buf',
            LONG.format("ip", 8),
            "char buf[];\toffset:16;\tsize:0;\tsigned:0;",
        ),
        event(
            "func_repeats",
            17,
            "ftrace",
            '"x"',
            LONG.format("ip", 8),
            LONG.format("parent_ip", 16),
            "u16 count;\toffset:24;\tsize:2;\tsigned:0;",
            "u16 top_delta_ts;\toffset:26;\tsize:2;\tsigned:0;",
            "u32 bottom_delta_ts;\toffset:28;\tsize:4;\tsigned:0;",
        ),
        event("beat", 300, "test", '"n=%d", REC->n', "int n;\toffset:8;\tsize:4;\tsigned:1;"),
        event(
            "sched_wakeup",
            301,
            "sched",
            '"x"',
            "char comm[16];\toffset:8;\tsize:16;\tsigned:0;",
            "int pid;\toffset:24;\tsize:4;\tsigned:1;",
            "int prio;\toffset:28;\tsize:4;\tsigned:1;",
        ),
        event(
            "sys_exit_read",
            302,
            "syscalls",
            '"0x%lx", REC->ret',
            "int __syscall_nr;\toffset:8;\tsize:4;\tsigned:1;",
            "long ret;\toffset:16;\tsize:8;\tsigned:1;",
        ),
    )
}
COMMS = {0: "<idle>", 7: "bash"}


def symbol(address):
    names = {0x1000: "alpha", 0x2000: "beta", 0x3000: "gamma [mod]"}
    start = address & ~0xFFF
    return (names[start], start, 0) if start in names else None


ENV = Env("<", symbol=symbol, comm=lambda pid: COMMS.get(pid, "<...>"))


def made(number, task=7, flags=0, preempt=0, **values):
    return record(EVENTS[number], {"common_pid": task, "common_flags": flags, "common_preempt_count": preempt} | values)


def text(kind, streams, numpy=True, **options) -> list[str]:
    lines: Lines = kind(EVENTS, options.pop("env", ENV), **options)
    built = [(cpu, [data if isinstance(data, bytes) else pages(data, "<")]) for cpu, data in streams]
    return "".join(lines.text(window) for window in windows(built, 4096, Layout("<"), numpy)).splitlines()


@pytest.mark.parametrize("numpy", (True, False))
def test_real_time_kernels_with_two_letters_more(numpy):
    """Those up to Linux 6.6 count how often giving way lazily was forbidden, in a byte behind the PID."""
    fields = COMMON.replace("\n\n", "\n\tfield:unsigned char common_preempt_lazy_count;\toffset:8;\tsize:1;\tsigned:0;\n\n")
    assert fields != COMMON
    number = "\tfield:int n;\toffset:12;\tsize:4;\tsigned:1;\n"
    events = {
        at: parse(f'name: {name}\nID: {at}\nformat:\n{fields}{number}\nprint fmt: "n=%d", REC->n\n', category)
        for at, name, category in ((1, "wakeup", "ftrace"), (300, "beat", "test"))
    }

    def beat(n, flags, preempt, lazy):
        return struct.pack("<HBBiB3xi", 300, flags, preempt, 7, lazy, n)

    few = [(0, beat(0, 0x0D, 0x21, 3)), (1000, beat(1, 0x20, 0, 0))]
    rest = [(2000 + 1000 * n, beat(2 + n, 0x24, 0, n % 3)) for n in range(2000)]  # in bulk
    built = [(0, [pages(few + rest, "<")])]
    lines = KernelLines(events, ENV)
    out = "".join(lines.text(window) for window in windows(built, 4096, Layout("<"), numpy)).splitlines()
    assert [line.split("] ")[1] for line in out[:5]] == [
        "dn.h132     0.000000: beat: n=0",
        "..L....     0.000001: beat: n=1",
        ".nL....     0.000002: beat: n=2",
        ".nL..1.     0.000003: beat: n=3",
        ".nL..2.     0.000004: beat: n=4",
    ]
    assert len(out) == 2002 and out[-1].endswith(".nL..1.     0.002001: beat: n=2001")


def many(number_of_pages: int, start: int = 0):
    """A stream long enough for the walk with numpy."""
    return [(start + i * 1000, made(300, n=i)) for i in range(number_of_pages * 260)]


MIXED = [
    (0, [(1000, made(300, n=1)), (5000, made(302, 0, 0x09, 1, ret=-1)), (1_500_000_499, made(5, ip=0x1000, buf="hello\n"))]),
    (1, [(3000, made(300, 9, 0x04, 0x21, n=2)), (5000, made(4, size=1, caller=(0x2004).to_bytes(8, "little") + b"\xff" * 56))]),
]


@pytest.mark.parametrize("numpy", (True, False))
def test_the_kernels_layout(numpy):
    assert text(KernelLines, MIXED, numpy) == [
        "            bash-7       [000] .....     0.000001: beat: n=1",
        "           <...>-9       [001] .n.12     0.000003: beat: n=2",
        "          <idle>-0       [000] d.h1.     0.000005: sys_read -> 0xffffffffffffffff",
        "            bash-7       [001] .....     0.000005: <stack trace>",
        " => beta",
        "            bash-7       [000] .....     1.500000: alpha: hello",
    ]
    assert (
        text(KernelLines, MIXED[:1], numpy, irq_info=False, tgid={7: 6}.get, clock="counter")[0]
        == "            bash-7       (      6) [000]          1000: beat: n=1"
    )


@pytest.mark.parametrize("numpy", (True, False))
def test_trace_cmds_layouts(numpy):
    old = text(ReportLines, MIXED, numpy)
    assert old == [
        "            bash-7     [000]     0.000001: beat:                 n=1",
        "           <...>-9     [001]     0.000003: beat:                 n=2",
        "          <idle>-0     [000]     0.000005: sys_exit_read:        0xffffffffffffffff",
        "            bash-7     [001]     0.000005: kernel_stack:         <stack trace >",
        "=> beta (2004)",
        "            bash-7     [000]     1.500000: print:                alpha: hello",
    ]
    new = text(ReportLines, MIXED, numpy, generation="3.4")
    assert new[1] == "           <...>-9     [001] .N.12     0.000003: beat:                 n=2"
    assert text(ReportLines, MIXED, numpy, nanosecond=True)[-1].startswith("            bash-7     [000]     1.500000499: print:")
    assert text(ReportLines, MIXED, numpy, raw=True)[0].endswith("beat:                  n=1")
    assert text(ReportLines, MIXED, numpy, raw=frozenset(("test:beat",)))[0].endswith("beat:                  n=1")
    assert text(ReportLines, MIXED, numpy, latency=True)[2].startswith("  <idle>-0       0d.h1.     0.000005: sys_exit_read:")
    assert text(ReportLines, MIXED, numpy, clock="counter")[0] == "            bash-7     [000]        1000: beat:                 n=1"


@pytest.mark.parametrize("way", ("accelerator", "numpy", "plain"))
def test_a_line_break_at_the_end_of_a_text(way, monkeypatch):
    """Formats hold it as it is (``vm_unmapped_area``, ``exit_mmap``, ``aer_event``); trace-cmd drops one, the kernel's file shows it."""
    if way != "accelerator":
        monkeypatch.setattr(native, "_found", [None])
    name = "char name[8];\toffset:8;\tsize:8;\tsigned:0;"
    formats = ('"a %s\n", REC->name', '"b %s\n\n", REC->name', '"c\n%s", REC->name', '"d\\n", REC->name')
    events = {300 + n: event(f"e{n}", 300 + n, "test", fmt, name) for n, fmt in enumerate(formats)}
    expected = {"a": "a {}", "b": "b {}\n", "c": "c\n{}", "d": "d"}
    rng = random.Random(3)
    records, printed, kept = [], [], []
    for n in range(4000):
        kind, value = rng.randrange(4), rng.choice(("x", "y", "z\n"))
        records.append((1000 * n, record(events[300 + kind], {"name": value, "common_pid": 7})))
        letter = "abcd"[kind]
        text = expected[letter].format(value)
        printed.append(text.removesuffix("\n") if letter == "c" else text)
        kept.append(text + ("\n" if letter in "abd" else ""))
    for kind, wanted in ((ReportLines, printed), (KernelLines, kept)):
        lines = kind(events, ENV)
        got = "".join(lines.text(window) for window in windows([(0, [pages(records, "<")])], 4096, Layout("<"), way != "plain"))
        assert "".join(text + "\n" for text in wanted) == re.sub(r"(?m)^ +bash-7 .*?: e\d: +", "", got)


def test_both_ways_agree_on_many_records():
    rng = random.Random(5)
    streams = []
    for cpu in range(3):
        time, records = cpu, []
        for i in range(9000):
            time += rng.randrange(3000)
            kind = rng.choice((300, 300, 301, 302, 5))
            records.append(
                (
                    time,
                    made(
                        kind, rng.randrange(12), rng.randrange(256), rng.randrange(256), n=i, comm="cat", pid=4, buf="x", ip=0x1000, ret=i
                    ),
                )
            )
        streams.append((cpu, pages(records, "<", lost={2: 5, 4: -1})))
    for kind in (KernelLines, ReportLines):
        assert text(kind, streams) == text(kind, streams, False)
    out = text(ReportLines, streams)
    assert sum("[5 EVENTS DROPPED]" in line for line in out) == 3 and sum(line.endswith("[EVENTS DROPPED]") for line in out) == 3
    assert sum("[LOST 5 EVENTS]" in line for line in text(KernelLines, streams)) == 3


def test_windows_are_in_order_and_lose_nothing():
    streams = [(cpu, [pages(many(10, start), "<") for start in (cpu, 2_600_000 + cpu, 5_200_000 + cpu)]) for cpu in range(3)]
    seen, latest = 0, 0
    for window in windows(streams, 4096, Layout("<")):
        times = [int(time) for batch in window for time in batch.records.times]
        assert min(times) >= latest
        latest, seen = max(times), seen + len(times)
    assert seen == 3 * 3 * 2600


@pytest.mark.parametrize("numpy", (True, False))
def test_times_that_go_back_do_not_stop_the_reader(numpy):
    streams = [(0, [pages(many(30, start), "<") for start in (9_000_000, 0, 1 << 40, 5)]), (1, [pages(many(2), "<")])]
    assert sum(len(batch.records) for window in windows(streams, 4096, Layout("<"), numpy) for batch in window) == 4 * 30 * 260 + 520


def test_unknown_events_and_empty_recordings():
    strange = (77).to_bytes(2, "little") + bytes(6)
    assert text(ReportLines, [(0, [(1, strange)])])[0].endswith("[UNKNOWN EVENT]")
    assert text(KernelLines, [(0, [(1, strange)])])[0].endswith("Unknown type 77")
    assert text(ReportLines, []) == [] and text(ReportLines, [(0, b"")]) == []


def test_the_function_trace_is_indented_by_callers():
    calls = [(0x2000, 0x1000), (0x3000, 0x2004), (0x2000, 0x3008), (0x3000, 0x1000), (0x9000, 0x2000)]
    stream = [(i, made(1, ip=ip, parent_ip=parent)) for i, (ip, parent) in enumerate(calls)]
    out = [line.partition("function:             ")[2] for line in text(ReportLines, [(0, stream)])]
    assert out == ["beta", "   gamma", "      beta", "gamma", "         0x9000"]  # the plugin never shortens its stack
    shown = text(ReportLines, [(0, stream)], parent=True, indent=False, offset=False)
    assert shown[1].endswith("gamma <-- beta")
    assert text(KernelLines, [(0, stream)])[1].endswith(": gamma <-beta")
    repeat = [(2_000_000, made(17, ip=0x2000, parent_ip=0x1000, count=3, bottom_delta_ts=1_000_000))]
    assert text(KernelLines, [(0, repeat)])[0].endswith("beta <-alpha (repeats: 3, last_ts:     0.001000)")
    assert text(ReportLines, [(0, repeat)])[0].endswith("beta (count: 3  last_ts:     0.001000)")


def test_wakeups_teach_names():
    stream = [(1000, made(301, 7, comm="sleep", pid=55, prio=120)), (2000, made(300, 55, n=1))]
    out = text(ReportLines, [(0, stream)])
    assert out == [
        "            bash-7     [000]     0.000001: sched_wakeup:         sleep:55 [120]",
        "           sleep-55    [000]     0.000002: beat:                 n=1",
    ]
    assert "<...>-55" in text(ReportLines, [(0, stream)], plugins=False)[1]


def test_texts_that_need_their_neighbours():
    def pairs(items):
        return [f"first of {len(items)} at {items[0].time}" if i == 0 else None for i in range(len(items))]

    for numpy in (True, False):
        out = text(
            KernelLines, [(0, [(1, made(300, n=1)), (3000, made(302, ret=1))]), (1, [(2, made(300, n=2))])], numpy, special={300: pairs}
        )
        assert [line.partition(": ")[2] for line in out] == ["beat: first of 2 at 1", "sys_read -> 0x1"]


def test_flags():
    assert kernel_flags(0x81, 0) == "D...." and kernel_flags(0x80 | 0x26 | 0x48, 0) == "bBZ.." and kernel_flags(0x18, 0xF) == "..Hf."
    assert kernel_flags(0x01, 0, 4) == "d..." and kernel_flags(0x01, 0x2, 4) == "d..2"
    assert latency_flags(0x1F, 0x10) == "dNH.1" and latency_flags(0x02, 0, lock_depth=-1) == "X....."
    assert [latency_flags(flags, 0, lazy=True) for flags in (0x02, 0x03, 0x06, 0x12)] == [".L...", "dL...", ".N...", ".Ls.."]


def test_header():
    assert kernel_header("nop", 3, 5, 2).splitlines()[:3] == ["# tracer: nop", "#", "# entries-in-buffer/entries-written: 3/5   #P:2"]
    assert kernel_header("nop", 3, 5, 2).splitlines()[-1] == "#              | |         |   |||||     |         |"
