"""Calls as objects, and their text."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harken.analysis.function_graph import COMMENT, ENTRY, RETURN, Builder, Call, Step, build, leaves, pair
from harken.analysis.function_graph_records import Decoder, steps
from harken.analysis.function_graph_summary import Summary, columns, replay
from harken.base.errors import FormatError
from harken.formats.event_format import parse
from harken.render.function_graph import GraphText, Options, header, mark, options_of
from harken.render.function_graph_report import ReportOptions, ReportText
from harken.render.function_graph_summary import folded_lines, summary_lines

COMMON = """format:
	field:unsigned short common_type;	offset:0;	size:2;	signed:0;
	field:unsigned char common_flags;	offset:2;	size:1;	signed:0;
	field:unsigned char common_preempt_count;	offset:3;	size:1;	signed:0;
	field:int common_pid;	offset:4;	size:4;	signed:1;

	field:unsigned long func;	offset:8;	size:8;	signed:0;
	field:int depth;	offset:16;	size:4;	signed:1;
"""
ENTRY_FORMAT = f'name: funcgraph_entry\nID: 11\n{COMMON}\nprint fmt: ""\n'
ARGS_FORMAT = (
    f'name: funcgraph_entry\nID: 11\n{COMMON}\tfield:unsigned long args[];	offset:24;	size:0;	signed:0;\n\nprint fmt: ""\n'
)
EXIT_FORMAT = f"""name: funcgraph_exit
ID: 10
{COMMON}	field:unsigned int overrun;	offset:20;	size:4;	signed:0;
	field:unsigned long long calltime;	offset:24;	size:8;	signed:0;
	field:unsigned long long rettime;	offset:32;	size:8;	signed:0;

print fmt: ""
"""
EXIT_WITH_VALUE = EXIT_FORMAT.replace(
    "\tfield:unsigned int overrun;	offset:20;	size:4;	signed:0;\n",
    "\tfield:unsigned long retval;	offset:40;	size:8;	signed:0;\n\tfield:unsigned int overrun;	offset:20;	size:4;	signed:0;\n",
)


def entry(time: int, func: Any, depth: int, cpu: int = 0, pid: int = 7, **more: Any) -> Step:
    return Step(time, cpu, pid, ENTRY, func, depth, **more)


def returned(end: int, func: Any, depth: int, start: int, cpu: int = 0, pid: int = 7, **more: Any) -> Step:
    return Step(end, cpu, pid, RETURN, func, depth, start, end, **more)


def text(found: list[Step], options: Options | None = None, **more: Any) -> str:
    made = GraphText(str, lambda pid: f"task{pid}", options, **more)
    return "".join(made.lines(leaves(found)))


# -- trees


def test_a_tree_with_own_times() -> None:
    roots = build(
        [
            entry(0, "a", 0),
            entry(10, "b", 1),
            returned(30, "b", 1, 10),
            entry(40, "b", 1),
            returned(45, "b", 1, 40),
            returned(100, "a", 0, 0),
        ]
    )
    (root,) = roots[7, -1]
    assert (root.duration, root.self_time) == (100, 75)
    assert [(call.func, call.duration, call.stack) for call in root.children] == [("b", 20, ("a", "b")), ("b", 5, ("a", "b"))]


def test_a_lost_entry_takes_in_what_it_called() -> None:
    builder = Builder()
    for step in (entry(10, "b", 1), returned(20, "b", 1, 10), entry(22, "c", 1), returned(24, "c", 1, 22), returned(30, "a", 0, 5)):
        builder.feed(step)
    (root,) = builder.close()[7, -1]
    assert (root.func, root.entered, root.returned, root.duration) == ("a", False, True, 25)
    assert [call.func for call in root.children] == ["b", "c"] and root.self_time == 13
    assert builder.unentered == 1


def test_a_lost_return_ends_with_its_caller() -> None:
    builder = Builder()
    for step in (entry(0, "a", 0), entry(1, "b", 1), entry(2, "c", 2), returned(9, "a", 0, 0)):
        builder.feed(step)
    (root,) = builder.close()[7, -1]
    assert root.duration == 9 and [(call.func, call.duration, call.self_time) for call in root.walk()][1:] == [("b", -1, -1), ("c", -1, -1)]
    assert builder.unreturned == 2


def test_a_return_of_another_function_at_the_same_depth() -> None:
    builder = Builder()
    for step in (entry(0, "a", 0), entry(1, "b", 1), returned(5, "x", 1, 3), returned(9, "a", 0, 0)):
        builder.feed(step)
    (root,) = builder.close()[7, -1]
    assert [(call.func, call.entered, call.returned) for call in root.children] == [("b", True, False), ("x", False, True)]


def test_idle_tasks_are_told_apart_by_cpu() -> None:
    roots = build([entry(0, "a", 0, 0, 0), entry(1, "b", 0, 1, 0), returned(2, "a", 0, 0, 0, 0), returned(3, "b", 0, 1, 1, 0)])
    assert {task: [call.func for call in calls] for task, calls in roots.items()} == {(0, 0): ["a"], (0, 1): ["b"]}


def test_roots_are_handed_on_when_complete() -> None:
    done: list[Call] = []
    builder = Builder(done.append)
    builder.feed(entry(0, "a", 0))
    assert not done
    builder.feed(returned(5, "a", 0, 0))
    assert [call.func for call in done] == ["a"] and not builder.roots
    builder.feed(entry(6, "b", 0))
    builder.close()
    assert [call.func for call in done] == ["a", "b"] and not done[1].returned


def test_a_million_deep_stack_is_no_recursion() -> None:
    depth = 20_000
    roots = build([entry(i, i, i) for i in range(depth)])
    assert sum(1 for _ in roots[7, -1][0].walk()) == depth
    summary = Summary()
    summary.add(roots[7, -1][0])
    assert len(summary.functions) == depth


@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 2), st.sampled_from([ENTRY, RETURN]), st.integers(0, 3), st.integers(-2, 5)),
        max_size=60,
    )
)
def test_any_stream_gives_each_call_once(points: list[tuple[int, int, int, int, int]]) -> None:
    stream = [Step(time, cpu, pid, kind, func, depth, time, time) for time, (cpu, pid, kind, func, depth) in enumerate(points)]
    builder = Builder()
    ended = sum(builder.feed(step) is not None for step in stream)
    roots = builder.close()
    calls = [call for trees in roots.values() for root in trees for call in root.walk()]
    assert len(calls) == len({id(call) for call in calls})
    assert sum(call.returned for call in calls) == ended == sum(step.kind == RETURN for step in stream)
    assert sum(call.entered for call in calls) == sum(step.kind == ENTRY for step in stream)
    made = GraphText(str, str)
    assert all(line.endswith("\n") for line in made.lines(leaves(stream)))


# -- probes at both ends


def test_pairs_get_depths() -> None:
    made = list(pair([(0, 0, 7, True, "a"), (1, 0, 7, True, "a"), (2, 0, 7, False, "a", 5), (3, 0, 7, False, "a", 6)]))
    assert [(step.kind, step.depth, step.start, step.end, step.retval) for step in made] == [
        (ENTRY, 0, 0, 0, None),
        (ENTRY, 1, 0, 0, None),
        (RETURN, 1, 1, 2, 5),
        (RETURN, 0, 0, 3, 6),
    ]


def test_pairs_with_what_never_returns() -> None:
    roots = build(pair([(0, 0, 7, True, "a"), (1, 0, 7, True, "jumps"), (5, 0, 7, False, "a"), (6, 0, 7, False, "early")]))
    assert [(call.func, call.entered, call.returned) for root in roots[7, -1] for call in root.walk()] == [
        ("a", True, True),
        ("jumps", True, False),
        ("early", False, True),
    ]


# -- sums


def recursion() -> Call:
    points = [
        (0, 0, 7, True, "f"),
        (10, 0, 7, True, "f"),
        (20, 0, 7, True, "g"),
        (25, 0, 7, False, "g"),
        (30, 0, 7, False, "f"),
        (50, 0, 7, False, "f"),
    ]
    return build(pair(points))[7, -1][0]


def test_recursion_is_counted_once() -> None:
    summary = Summary()
    summary.add(recursion(), "cat")
    row = summary.functions["f"]
    assert (row.calls, row.total, row.self_time, row.shortest, row.longest) == (2, 50, 45, 20, 50)
    assert summary.folded == {"cat;f": 30, "cat;f;f": 15, "cat;f;f;g": 5}
    assert sum(summary.folded.values()) == 50
    assert summary.callees("f") == [("f", 1, 20), ("g", 1, 5)] and summary.callers("g") == [("f", 1, 5)]


def test_stacks_beyond_the_limit_are_added_up() -> None:
    summary = Summary(stacks=1)
    summary.add(recursion())
    assert summary.folded == {"f": 30} and summary.other_stacks == 20
    assert list(folded_lines(summary)) == ["f 30\n", "[other stacks] 20\n"]


def test_the_table() -> None:
    summary = Summary()
    summary.add(recursion())
    lines = list(summary_lines(summary, str, "self_time", top=1))
    assert lines[1].split() == ["2", "50", "ns", "45", "ns", "25", "ns", "50", "ns", "f"] and lines[-1] == "... and 1 more functions\n"


def test_replay_without_short_calls() -> None:
    assert text_of(recursion(), 20) == " 0)   0.050 us    |  f() {\n 0)   0.020 us    |    f();\n 0)   0.050 us    |  }\n".replace(
        "0.050 us    |  f", "            |  f"
    )
    assert text_of(recursion(), 0, 1) == " 0)   0.050 us    |  f();\n"


def text_of(root: Call, least: int = 0, depth: int = -1) -> str:
    return "".join(GraphText(str, str).lines(replay(root, least, depth)))


def test_columns() -> None:
    found = columns({(7, -1): [recursion()]})
    assert found["func"] == ["f", "f", "g"] and found["parent"] == [-1, 0, 1] and found["self_time"] == [30, 15, 5]


# -- records


def record(kind: int, pid: int, func: int, depth: int, *more: int, flags: int = 0, preempt: int = 0) -> bytes:
    body = struct.pack("<HBBiQi", kind, flags, preempt, pid, func, depth)
    return body + (struct.pack("<IQQ", *more) if kind == 10 else bytes(4) + struct.pack(f"<{len(more)}Q", *more))


def test_records() -> None:
    decoder = Decoder([parse(ENTRY_FORMAT, "ftrace"), parse(EXIT_FORMAT, "ftrace")], "<")
    assert decoder.ids == {10, 11}
    data = record(10, 9, 0xFFFFFFFF81000000, 3, 2, 100, 250, flags=1, preempt=2)
    step = decoder.step(300, 1, data, 0, len(data))
    assert step is not None
    assert (step.kind, step.pid, step.func, step.depth, step.start, step.end, step.overrun, step.duration) == (
        RETURN, 9, 0xFFFFFFFF81000000, 3, 100, 250, 2, 150,
    )  # fmt: skip
    assert (step.flags, step.preempt, step.retval) == (1, 2, None)
    assert decoder.step(0, 0, data, 0, 39) is None and decoder.step(0, 0, data, 0, 4) is None
    other = decoder.step(5, 0, b"\x05\0\0\0\x07\0\0\0text", 0, 12)
    assert other is not None and (other.kind, other.type, other.pid, other.data) == (COMMENT, 5, 7, b"\x05\0\0\0\x07\0\0\0text")


def test_values_and_arguments() -> None:
    decoder = Decoder([parse(ARGS_FORMAT, "ftrace"), parse(EXIT_WITH_VALUE, "ftrace")], "<")
    data = record(11, 7, 5, 0, 10, 20)
    step = decoder.step(0, 0, data, 0, len(data))
    assert step is not None and step.args == (10, 20)
    data = record(10, 7, 5, 0, 0, 1, 2) + struct.pack("<Q", 0xFFFFFFFE)
    step = decoder.step(0, 0, data, 0, len(data))
    assert step is not None and step.retval == 0xFFFFFFFE


def test_big_endian() -> None:
    decoder = Decoder([parse(ENTRY_FORMAT, "ftrace"), parse(EXIT_FORMAT, "ftrace")], ">")
    data = struct.pack(">HBBiQiIQQ", 10, 0, 0, 7, 99, 1, 0, 5, 8)
    step = decoder.step(0, 0, data, 0, len(data))
    assert step is not None and (step.func, step.depth, step.duration) == (99, 1, 3)


def test_a_format_without_its_fields_is_refused() -> None:
    with pytest.raises(FormatError):
        Decoder([parse(ENTRY_FORMAT.replace("depth", "other"), "ftrace")])


def test_pages() -> None:
    decoder = Decoder([parse(ENTRY_FORMAT, "ftrace"), parse(EXIT_FORMAT, "ftrace")], "<")
    payload = record(11, 7, 5, 0)[:20]
    page = (struct.pack("<QQ", 1000, 24 | 1 << 31) + struct.pack("<I", 5 << 5 | 5) + payload).ljust(64, b"\0")
    lost: list[tuple[int, int]] = []
    found = list(steps(decoder, page, 2, 64, lambda time, count: lost.append((time, count))))
    assert [(step.time, step.cpu, step.func) for step in found] == [(1005, 2, 5)] and lost == [(1005, 0)]


# -- the kernel's text


def test_durations_lose_digits_behind_the_point() -> None:
    durations = (5, 999, 1_234, 12_345, 123_456, 1_234_567, 12_345_678, 123_456_789, 1_234_567_890, 12_345_678_901)
    lines = [text([entry(0, "f", 0), returned(ns, "f", 0, 0)]).splitlines()[0] for ns in durations]
    assert [line[3:20] for line in lines] == [
        "   0.005 us    | ",
        "   0.999 us    | ",
        "   1.234 us    | ",
        " + 12.345 us   | ",
        " ! 123.456 us  | ",
        " # 1234.567 us | ",
        " * 12345.67 us | ",
        " @ 123456.7 us | ",
        " $ 1234567 us  | ",
        " $ 12345678 us | ",
    ]


def test_a_return_without_its_entry_has_its_name() -> None:
    assert text([returned(9, "f", 0, 0)]) == " 0)   0.009 us    |  } /* f */\n"
    assert text([entry(0, "f", 0), entry(1, "g", 1), returned(2, "g", 1, 1), returned(9, "f", 0, 0)], Options(tail=True)).endswith(
        "  } /* f */\n"
    )


def test_another_thread_on_the_same_cpu() -> None:
    lines = text([returned(1, "a", 0, 0), returned(2, "b", 0, 0, pid=12345678)])
    assert lines.splitlines()[1:5] == [
        " ------------------------------------------",
        " 0)    task7-7     => task123-12345678",
        " ------------------------------------------",
        "",
    ]


def test_interrupts() -> None:
    stream = [entry(0, 1, 0), entry(1, 100, 1), entry(2, 2, 2), returned(3, 2, 2, 2), returned(4, 100, 1, 1), returned(5, 1, 0, 0)]
    shown = text(stream, interrupts=(100, 200))
    assert shown.splitlines()[1:3] == [" 0)   ==========> |", " 0)               |    100() {"]
    assert shown.splitlines()[5] == " 0)   <========== |"
    hidden = text(stream, Options(irqs=False), interrupts=(100, 200))
    assert hidden.splitlines() == [" 0)               |  1() {", " 0)   0.005 us    |  }"]
    leaf = text([entry(1, 100, 0), returned(2, 100, 0, 1), entry(3, 5, 0)], Options(irqs=False), interrupts=(100, 200))
    assert leaf == " 0)               |  5() {\n"


def test_return_values() -> None:
    def value(number: int, **more: Any) -> str:
        return text([entry(0, "f", 0), returned(1, "f", 0, 0, retval=number)], Options(retval=True, **more)).split("|  ")[1]

    assert value(0) == "f(); /* ret=0x0 */\n"
    assert value(0xFFFFFFFFFFFFFFFE) == "f(); /* ret=-2 */\n"
    assert value(0xFFFFFFFE) == "f(); /* ret=-2 */\n"
    assert value(0xFFFFFFFE, retval_hex=True) == "f(); /* ret=0xfffffffe */\n"
    assert value(0xFFFF888000000000) == "f(); /* ret=0xffff888000000000 */\n"
    assert value(3, retval_name="= ") == "f(); /* = 0x3 */\n"
    nested = [entry(0, "f", 0), entry(1, "g", 1), returned(2, "g", 1, 1), returned(3, "f", 0, 0, retval=1)]
    assert text(nested, Options(retval=True)).endswith("} /* f ret=0x1 */\n")


def test_arguments_and_return_addresses() -> None:
    options = Options(retaddr=True)
    stream = [entry(0, 1, 0, args=(5, 6), retaddr=64), entry(1, 2, 1, retaddr=65), returned(2, 2, 1, 1), returned(3, 1, 0, 0)]
    shown = text(stream, options, arguments=lambda func, args: f"a={args[0]}", retaddr=lambda address: f"up+0x{address:x}")
    assert [line.split("|  ")[1] for line in shown.splitlines()] == ["1(a=5) { /* <-up+0x40 */", "  2(); /* <-up+0x41 */", "}"]


def test_comments_and_whole_lines() -> None:
    note = Step(5, 0, 7, COMMENT, type=5)
    stream = [entry(0, "f", 0), entry(1, "g", 1), note, returned(9, "g", 1, 1)]
    assert text(stream, comment=lambda step: "hello\n").splitlines()[2] == " 0)               |      /* hello */"
    assert text(stream, comment=lambda step: None).count("\n") == 3
    assert text(stream, line=lambda step: "a stack\n").splitlines()[2] == "a stack"


def test_options_in_words() -> None:
    options = options_of(["funcgraph-proc", "nofuncgraph-cpu", "funcgraph-retval-hex", "nocontext-info", "unheard-of"], cpus=300)
    assert (options.proc, options.cpu, options.retval_hex, options.context, options.cpus) == (True, False, True, False, 300)
    assert header(options) == "# tracer: function_graph\n#\n"
    wide = text([returned(1, "f", 0, 0, cpu=7)], Options(cpus=300))
    assert wide.startswith("   7) ")


def test_marks() -> None:
    assert [mark(ns) for ns in (0, 10_001, 100_001, 1_000_001, 10_000_001, 100_000_001, 1_000_000_001)] == list(" +!#*@$")


# -- trace-cmd's text


def test_report_finds_leaves_across_cpus_as_asked() -> None:
    stream = [entry(0, 5, 1), returned(1234, 5, 1, 0, cpu=1)]
    old = [made for _, made in ReportText(lambda address: "f").texts(stream)]
    assert old == ["  1.234 us   |    f();"]
    new = [made for _, made in ReportText(lambda address: "f", ReportOptions(any_cpu=False, values="auto")).texts(stream)]
    assert new == ["             |    f() {", "  1.234 us   |    }"]


def test_report_of_unknown_functions_and_values() -> None:
    made = ReportText(lambda address: "", ReportOptions(True, True, "auto"))
    stream = [entry(0, 0xABC, 0), entry(1, 0xDEF, 1), returned(2, 0xDEF, 1, 1, retval=(1 << 64) - 2), returned(3, 0xABC, 0, 0, retval=5)]
    assert [line for _, line in made.texts(stream)] == [
        "             |  abc() { (0)",
        "  0.001 us   |    def(); (1) (ret=-2)",
        "  0.003 us   |  }",
    ]
    comment = Step(0, 0, 7, COMMENT)
    assert [line for _, line in made.texts([comment])] == [None]
