"""render.ftrace_native, function_graph_bulk and ftrace_functions: the lines of many records at once are those that are made one by one."""

from __future__ import annotations

import random

import pytest

from harken import native
from harken.analysis.function_graph_records import Decoder
from harken.formats.event_format import parse
from harken.formats.print_fmt import Env
from harken.formats.ring_page import Layout
from harken.render import ftrace
from harken.render.ftrace_batches import windows
from harken.render.ftrace_bulk import bulk_text
from harken.render.function_graph_report import ReportOptions, ReportText
from harken.render.trace_cmd import GraphTexts, LabelledLines
from harken.testing.ring_builder import pages, record

pytest.importorskip("numpy")

COMMON = """\
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

"""


def event(name, number, *fields, print_fmt='"x"'):
    body = "".join(f"\tfield:{text};\toffset:{offset};\tsize:{size};\tsigned:{signed};\n" for text, offset, size, signed in fields)
    return parse(f"name: {name}\nID: {number}\nformat:\n{COMMON}{body}\nprint fmt: {print_fmt}\n", "ftrace")


FUNCTION = event("function", 1, ("unsigned long ip", 8, 8, 0), ("unsigned long parent_ip", 16, 8, 0))
ENTRY = event("funcgraph_entry", 11, ("unsigned long func", 8, 8, 0), ("int depth", 16, 4, 1))
EXIT = event(
    "funcgraph_exit",
    10,
    ("unsigned long func", 8, 8, 0),
    ("int depth", 16, 4, 1),
    ("unsigned long long calltime", 24, 8, 0),
    ("unsigned long long rettime", 32, 8, 0),
    ("unsigned long retval", 40, 8, 0),
)
MARK = event("tick", 6, ("int number", 8, 4, 1), print_fmt='"%d", REC->number')
EVENTS = {found.id: found for found in (FUNCTION, ENTRY, EXIT, MARK)}
NAMES = {0x1000 * n: f"function_{n}" * (1 + n % 3) for n in range(1, 9)}


def symbol(address):
    start = address & ~0xFFF
    return (NAMES[start], start, 0) if start in NAMES else None


def name(address):
    found = symbol(address)
    return found[0] if found else ""


ENV = Env("<", 8, symbol=symbol, comm=lambda pid: {1: "one", 2: "two"}.get(pid, "<...>"))


def recording(order, rng, kinds):
    """Pages of two CPUs."""
    found = []
    for cpu in range(2):
        moment, records, depth = 10**9 + cpu, [], 0
        for _ in range(1500):
            moment += rng.choice((100, 1500, 20_000, 40_000_000))
            kind, pid, address = rng.choice(kinds), rng.choice((1, 1, 1, 2, 77)), 0x1000 * rng.randrange(0, 10) + rng.choice((0, 0, 8))
            values = {"common_flags": rng.choice((0, 1)), "common_preempt_count": rng.choice((0, 1, 0x10))}
            if kind == "function":
                records.append(
                    (moment, record(FUNCTION, {**values, "ip": address, "parent_ip": 0x1000 * rng.randrange(0, 10) + 4}, order, pid))
                )
            elif kind == "mark":
                records.append((moment, record(MARK, {**values, "number": rng.randrange(100)}, order, pid)))
            else:
                depth = max(0, min(depth + rng.choice((-1, 0, 1)), 30))
                begin, long = moment, rng.choice((5, 999, 1000, 99_999, 123_456, 10_000_001, 999_999_999, 1_000_000_000_123, -1))
                graph = {
                    **values,
                    "func": address,
                    "depth": depth,
                    "calltime": begin,
                    "rettime": begin + long,
                    "retval": rng.choice((0, -1, 9)),
                }
                entry, leave = record(ENTRY, graph, order, pid), record(EXIT, graph, order, pid)
                chosen = rng.choice((("both",) * 3, ("entry",), ("exit",)))[0]
                records += [(moment, entry)] if chosen != "exit" else []
                records += [(moment + 1, leave)] if chosen != "entry" else []
        found.append(pages(records, order))
    return found


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("generation", ["3.1", "3.4"])
@pytest.mark.parametrize("kinds", [["function"], ["function", "mark"], ["graph"], ["graph", "graph", "mark"], ["graph", "function"]])
@pytest.mark.parametrize("options", [{}, {"parent": True, "offset": True}, {"indent": False}])
def test_lines_are_those_that_are_made_singly(order, generation, kinds, options, monkeypatch):
    rng = random.Random(str((order, generation, kinds, options)))
    whole = recording(order, rng, kinds)
    used = []
    monkeypatch.setattr(ftrace, "bulk_text", lambda *arguments: used.append(bulk_text(*arguments)) or used[-1])
    texts = []
    for way in ("accelerator", "numpy", "plain"):
        if way != "accelerator":
            monkeypatch.setattr(native, "_found", [None])
        lines = LabelledLines(EVENTS, ENV.replace(order=order), generation=generation, **options)
        lines.streams = [("", 0), ("label: ", 1)]
        settings = ReportOptions(
            tailprint=bool(options) and generation == "3.4", values="" if options else "auto", any_cpu=generation == "3.1"
        )
        lines.draw(GraphTexts(Decoder(EVENTS.values(), order), ReportText(name, settings)))
        layout = Layout(order, 8, 0, 8, 8, 16)
        # chunks of a page and more, so that what windows hand on is used
        streams = [(cpu, [data[: 8 * 4096], data[8 * 4096 :]]) for cpu, data in enumerate(whole)]
        texts.append("".join(lines.text(window) for window in windows(streams, 4096, layout, way != "plain")))
        assert (lines.writer() is not None) == (way == "accelerator" and order == "<" and native.library() is not None)
    assert texts[0] == texts[1] == texts[2] and texts[0].count("\n") > 1000
    singly = "graph" in kinds and (not options or generation == "3.4")  # what is behind braces is made one by one
    assert any(data is not None for data in used) != singly


@pytest.mark.parametrize("way", ["accelerator", "numpy"])
def test_a_very_deep_stack_is_printed(way, monkeypatch):
    if way == "numpy":
        monkeypatch.setattr(native, "_found", [None])
    lines = LabelledLines(EVENTS, Env("<", 8, symbol=lambda address: (f"f{address}", address, 0)))
    lines.streams = [("", 0)]
    data = pages([(1000 + n, record(FUNCTION, {"ip": n + 1, "parent_ip": n})) for n in range(1100)])
    text = "".join(lines.text(window) for window in windows([(0, [data])], 4096))
    assert text.splitlines()[599].endswith(f"function:             {' ' * 3 * 599}f600")
    assert text.splitlines()[999].endswith(f"function:             {' ' * 3 * 999}f1000")
    assert text.splitlines()[1000].endswith("function:             f1001")  # deeper stacks begin anew
