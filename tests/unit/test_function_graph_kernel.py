"""Recordings of the function graph in the kernel's layout: however they are cut into windows, and what stands between calls."""

from __future__ import annotations

import random
import struct

import pytest

from harken.analysis.function_graph_records import Decoder
from harken.base.ctype import Enum, Func, Int, Ptr, Struct
from harken.formats.event_format import parse
from harken.formats.function_arguments import Arguments, template
from harken.formats.print_fmt import Env
from harken.formats.ring_page import Records
from harken.render.ftrace_batches import Batch, part
from harken.render.function_graph import Options
from harken.render.function_graph_kernel import KernelGraph
from harken.render.trace_cmd import LabelledKernelLines

_COMMON = "unsigned short common_type 0 2 0,unsigned char common_flags 2 1 0,unsigned char common_preempt_count 3 1 0,int common_pid 4 4 1"


def _event(name, number, fields, fmt, category="ftrace"):
    rows = [row.rsplit(" ", 3) for row in f"{_COMMON},{fields}".split(",")]
    text = "".join(f"\tfield:{what};\toffset:{at};\tsize:{size};\tsigned:{sign};\n" for what, at, size, sign in rows)
    return parse(f"name: {name}\nID: {number}\nformat:\n{text}\nprint fmt: {fmt}\n", category)


ENTRY, EXIT, STACK, SWITCH, PRINT = 11, 10, 4, 300, 5
EVENTS = {
    event.id: event
    for event in (
        _event("funcgraph_entry", ENTRY, "unsigned long func 8 8 0,int depth 16 4 1,unsigned long args[] 24 0 0", '"x"'),
        _event("funcgraph_exit", EXIT, "unsigned long func 8 8 0,int depth 16 4 1,u64 calltime 24 8 0,u64 rettime 32 8 0", '"x"'),
        _event("kernel_stack", STACK, "int size 8 4 1,unsigned long caller[8] 16 64 0", '"x"'),
        _event("print", PRINT, "unsigned long ip 8 8 0,char buf[] 16 0 0", '"x"'),
        _event("sched_switch", SWITCH, "int next 8 4 1", '"next=%d", REC->next', "sched"),
    )
}
ENV = Env("<", 8, symbol=lambda address: (f"f{address}", address, 0), comm=lambda pid: f"task{pid}")


def _entry(pid, func, depth, *args):
    return ENTRY, struct.pack("<HBBiQi4x", ENTRY, 0, 0, pid, func, depth) + struct.pack(f"<{len(args)}Q", *args)


def _exit(pid, func, depth, begin, end):
    return EXIT, struct.pack("<HBBiQi4xQQ", EXIT, 0, 0, pid, func, depth, begin, end)


def _switch(pid, after):
    return SWITCH, struct.pack("<HBBii", SWITCH, 0, 0, pid, after)


def _batch(stream, rows, lost=()):
    buffer, starts = b"", []
    for _, (_, data) in rows:
        starts.append(len(buffer))
        buffer += data
    times = [time for time, _ in rows]
    return Batch(stream, buffer, Records(times, starts, [len(data) for _, (_, data) in rows], [kind for _, (kind, _) in rows], tuple(lost)))


def _graph(streams, arguments=None, calls=("",), **options):
    lines = LabelledKernelLines(EVENTS, ENV)
    lines.streams = streams
    return KernelGraph(lines, Decoder(EVENTS.values(), "<", 8), Options(cpus=2, **options), (0, 0), arguments, calls.__contains__)


def _text(windows, streams=(("", 0), ("", 1)), **more):
    return b"".join(_graph(streams, **more).pieces(windows)).decode()


STREAM = _batch(
    0,
    [
        (1000, _entry(7, 1, 0)),
        (2000, _entry(7, 2, 1)),
        (9000, _exit(7, 2, 1, 2000, 9000)),
        (9500, _switch(7, 8)),
        (9600, (PRINT, struct.pack("<HBBiQ", PRINT, 0, 0, 7, 3) + b"hello\n\0")),
        (9700, (STACK, struct.pack("<HBBii4xQQ", STACK, 0, 0, 7, 2, 1, (1 << 64) - 1))),
        (20000, _exit(7, 1, 0, 1000, 20000)),
    ],
    [(3, 5)],
)


def test_what_stands_between_calls():
    assert _text([[STREAM]]) == (
        " 0)               |  f1() {\n"
        " 0)   7.000 us    |    f2();\n"
        "CPU:0 [LOST 5 EVENTS]\n"
        " 0)               |  /* sched_switch: next=8 */\n"
        " 0)               |  /* hello */\n"
        "           task7-7       [000] .....     0.000010: <stack trace>\n => f1\n"
        " 0) + 19.000 us   |  }\n"
    )


def test_windows_cut_anywhere_give_the_same_text():
    noise = random.Random(7)
    rows: dict[int, list] = {0: [], 1: []}
    stack: list[tuple[int, int]] = []
    for at in range(300):
        cpu, time = at & 1, 1000 * at
        if cpu and noise.random() < 0.3:
            rows[cpu].append((time, _switch(9, at)))
        elif stack and noise.random() < 0.5 and not cpu:
            func, begin = stack.pop()
            rows[cpu].append((time, _exit(7, func, len(stack), begin, time)))
        elif not cpu:
            stack.append((at, time))
            rows[cpu].append((time, _entry(7, at, len(stack) - 1)))
    batches = [_batch(cpu, found) for cpu, found in rows.items()]
    whole = _text([batches])
    assert whole.count("\n") > 100 and "();" in whole and "/* sched_switch" in whole
    for size in (1, 2, 3, 7):
        windows, step = [], 1000 * size
        for begin in range(0, 300_000, step):
            window = []
            for batch in batches:
                chosen = [at for at, time in enumerate(batch.records.times) if begin <= time < begin + step]
                if chosen:
                    window.append(Batch(batch.cpu, batch.buffer, part(batch.records, chosen[0], chosen[-1] + 1)))
            if window:
                windows.append(window)
        cut = _text(windows)
        # a call whose return is not in the next window is not known to be a leaf
        assert size == 1 or cut == whole


def test_a_depth_that_no_kernel_has():
    stream = _batch(0, [(1000, _entry(7, 1, 0x7FFFFFFF)), (1500, _switch(7, 8)), (2000, _exit(7, 1, 0x7FFFFFFF, 1000, 2000))])
    assert 2000 < len(_text([[stream]])) < 10_000


def test_buffers_without_calls_keep_their_lines():
    other = _batch(1, [(1500, _switch(9, 4))])
    text = _text([[STREAM, other]], (("", 0), ("other: ", 1)))
    assert (
        "other:            task9-9       [001] .....     0.000002: sched_switch: next=4\n" in text
        and " 0)   7.000 us    |    f2();\n" in text
    )
    assert _text([[other]], (("", 0), ("", 1)), calls=()) == "           task9-9       [001] .....     0.000002: sched_switch: next=4\n"


def test_events_before_the_first_call_are_comments_too():
    early = _batch(0, [(500, _switch(7, 6))])
    assert _text([[early], [STREAM]]).startswith(" 0)               |  /* sched_switch: next=6 */\n 0)               |  f1() {\n")


INT, LONG = Int("int", 4, True), Int("unsigned long", 8, False)
FUNCTIONS = {
    "f1": Func("f1", INT, (("a", Ptr(INT)), ("b", INT), ("c", Enum("e", 4, {})), ("", LONG))),
    "f4": Func(
        "f4",
        INT,
        (("c", Int("char", 1, False)), ("s", Int("short", 2, True)), ("t", Int("long", 8, True)), ("u", Int("u16", 2, False))),
        True,
    ),
    "f2": Func("f2", INT, (("x", Struct("pair", 16, ())), ("y", Struct("u", 8, (), "union")))),
}


@pytest.mark.parametrize(
    ("name", "values", "text"),
    [
        ("f1", (16, (1 << 64) - 5, 3, 255), "a=0x10, b=-5, c=3, =0xff"),
        ("f4", (1, 2, 3, 4, 5), "c=0x1, s=2, t=3, u=0x4, =?0x5"),
        ("f1", (16, 2), "a=0x10, b=2, ..."),
        ("f2", (1, 2, 3), "x=(STRUCT)[0x1:0x2], y=(UNION)[0x3]"),
        ("f2", (1,), "x=(STRUCT)[0x1:...]"),
        ("f3", (1, 2), ""),
    ],
)
def test_arguments(name, values, text):
    assert Arguments(FUNCTIONS.get)(name, values) == text


MINUS = (1 << 64) - 100


@pytest.mark.parametrize(
    ("name", "values", "text"),
    [
        ("f1", (16, MINUS, MINUS, MINUS), "a=0x10, b=4294967196, c=-100, =0xffffffffffffff9c"),
        ("f2", (1, 2, 3), "x=(STRUCT)[0x1:0x2], y=(UNION)[0x3]"),
        ("f4", (MINUS, MINUS, MINUS, MINUS, 5, 6), "c=0x9c, s=65436, t=-100, u=0xff9c, ="),
        ("f4", (MINUS, MINUS, MINUS, MINUS), "c=0x9c, s=65436, t=-100, u=0xff9c, ..."),
        ("f3", (MINUS, 2), "ffffffffffffff9c, 2"),
    ],
)
def test_arguments_as_trace_cmd_has_them(name, values, text):
    assert Arguments(FUNCTIONS.get, trace_cmd=True)(name, values) == text
    assert "%" not in template(FUNCTIONS["f1"], 6)


def test_arguments_in_the_graph():
    stream = _batch(0, [(1000, _entry(7, 1, 0, 16, 5, 1, 9, 0, 0)), (2000, _exit(7, 1, 0, 1000, 2000)), (3000, _entry(7, 2, 0))])
    text = _text([[stream]], arguments=Arguments(FUNCTIONS.get))
    assert text == " 0)   1.000 us    |  f1(a=0x10, b=5, c=1, =0x9);\n 0)               |  f2() {\n"


def _parts(batch, start, stop):
    return [Batch(batch.cpu, batch.buffer, part(batch.records, start, stop))]


@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_what_was_lost_before_a_leafs_return_is_told_behind_it(cut):
    """As the kernel does, however the records are cut into windows."""
    calls = [(func, start, start + 1000) for func, start in ((1, 1000), (2, 10_000))]
    rows = [row for func, start, end in calls for row in ((start, _entry(7, func, 0)), (end, _exit(7, func, 0, start, end)))]
    whole = _batch(0, rows, [(1, 5), (2, 6)])
    text = _text([_parts(whole, 0, cut), _parts(whole, cut, 4)] if cut else [[whole]])
    lines = [line.partition("|  ")[2] or line for line in text.splitlines()]
    assert [line for line in lines if "f" in line or "LOST" in line] == ["f1();", "CPU:0 [LOST 5 EVENTS]", "CPU:0 [LOST 6 EVENTS]", "f2();"]
