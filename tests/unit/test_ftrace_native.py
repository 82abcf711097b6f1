"""The accelerator's pages, lines and columns are those of Python, byte for byte: on records of every kind, random and damaged."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from harken import native
from harken.analysis.function_graph_records import Decoder
from harken.base.ctype import Func, Int, Ptr, Struct
from harken.formats.event_format import parse
from harken.formats.event_records import split
from harken.formats.function_arguments import Arguments
from harken.formats.print_fmt import Env, compile_format
from harken.formats.print_fmt_program import OPS, NotProgram, Program
from harken.formats.print_fmt_shorter import shorter
from harken.formats.ring_page import Layout, walk
from harken.formats.ring_page_numpy import walk as numpy_walk
from harken.native.columns import gather
from harken.native.memory import address
from harken.render.ftrace_batches import windows
from harken.render.ftrace_kernel import KernelLines
from harken.render.function_graph_report import ReportOptions, ReportText
from harken.render.trace_cmd import GraphTexts, LabelledLines
from harken.testing.ring_builder import pages, random_record, record

EVENTS_FOLDER = Path("/sys/kernel/tracing/events")
LAYOUT = Layout("<", 8, 0, 8, 8, 16)

pytestmark = pytest.mark.skipif(native.library() is None, reason="the accelerator is not built")

COMMON = """\
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

"""
FIELDS = """\
\tfield:int a;\toffset:8;\tsize:4;\tsigned:1;
\tfield:u64 b;\toffset:16;\tsize:8;\tsigned:0;
\tfield:s16 c;\toffset:24;\tsize:2;\tsigned:1;
\tfield:u8 d;\toffset:26;\tsize:1;\tsigned:0;
\tfield:char comm[16];\toffset:32;\tsize:16;\tsigned:0;
\tfield:__data_loc char[] path;\toffset:48;\tsize:4;\tsigned:0;
\tfield:__data_loc u8[] raw;\toffset:52;\tsize:4;\tsigned:0;
\tfield:unsigned long args[3];\toffset:56;\tsize:24;\tsigned:0;
"""
FORMATS = (
    '"plain %d %u %x %X %#x %lld", REC->a, REC->a, REC->a, REC->d, REC->b, REC->b',
    '"padded [%5d] [%-5d] [%05d] [%+d] [% d] [%.3d] [%8.3x] [%016llx]", REC->a, REC->d, REC->c, REC->c, REC->a, REC->d, REC->d, REC->b',
    '"texts %s [%20s] [%-20s] [%.3s] %s", REC->comm, REC->comm, REC->comm, REC->comm, __get_str(path)',
    '"choice %s %s %d", REC->a < 0 ? "neg" : "pos", REC->b > 5 && REC->d != 3 || !REC->c ? "yes" : REC->comm, REC->a ? REC->c : REC->d',
    '"flags %s %s", __print_flags(REC->d, "|", { 1, "ONE" }, { 2, "TWO" }, { 64, "SIX" }), '
    '__print_symbolic(REC->c, { 0, "zero" }, { 7, "seven" })',
    '"sums %lu %ld %d %u", REC->b + REC->a, REC->b - REC->d, REC->a * 3, REC->b >> 4 & 0xff',
    '"more %llu %llu %d", REC->b / 1000, REC->b % 1000, (short)(REC->b << 3) | 1',
    '"address %ps %pS %p", (void *)REC->b, (void *)REC->b, (void *)REC->b',
    '"memory %s %s %pM %pI4", __print_hex(REC->args, 8), '
    "__print_hex_str(__get_dynamic_array(raw), __get_dynamic_array_len(raw)), REC->comm, REC->args",
    '"args %lx %lx %s", REC->args[0], REC->args[2], __print_array(__get_dynamic_array(raw), 2, 1)',
    '"a line\\n"',
    '"no arguments 100%%"',
    '"cannot be %s", some_function(REC->a)',
)
EVENTS = {
    300 + n: parse(f"name: event_{n}\nID: {300 + n}\nformat:\n{COMMON}{FIELDS}\nprint fmt: {text}\n", "test")
    for n, text in enumerate(FORMATS)
}
TRACERS = {
    name: parse(
        f"name: {name}\nID: {number}\nformat:\n{COMMON}"
        + "".join(f"\tfield:{kind} {field};\toffset:{at};\tsize:{size};\tsigned:{signed};\n" for kind, field, at, size, signed in fields)
        + '\nprint fmt: "x"\n',
        "ftrace",
    )
    for name, number, fields in (
        (
            "function",
            1,
            (("unsigned long", "ip", 8, 8, 0), ("unsigned long", "parent_ip", 16, 8, 0), ("unsigned long", "args[]", 24, 0, 0)),
        ),
        (
            "func_repeats",
            17,
            (
                ("unsigned long", "ip", 8, 8, 0),
                ("unsigned long", "parent_ip", 16, 8, 0),
                ("u16", "count", 24, 2, 0),
                ("u16", "top_delta_ts", 26, 2, 0),
                ("u32", "bottom_delta_ts", 28, 4, 0),
            ),
        ),
        (
            "funcgraph_entry",
            11,
            (
                ("unsigned long", "func", 8, 8, 0),
                ("int", "depth", 16, 4, 1),
                ("unsigned long", "retaddr", 24, 8, 0),
                ("unsigned long", "args[]", 32, 0, 0),
            ),
        ),
        (
            "funcgraph_exit",
            10,
            (
                ("unsigned long", "func", 8, 8, 0),
                ("unsigned int", "depth", 16, 4, 0),
                ("u64", "calltime", 24, 8, 0),
                ("u64", "rettime", 32, 8, 0),
                ("unsigned long", "retval", 40, 8, 0),
            ),
        ),
    )
}
ALL = EVENTS | {event.id: event for event in TRACERS.values()}


def symbol(address):
    start = address & ~0xFF
    return (f"function_{start:x}" + " [mod]" * (start % 3 == 0), start, 0) if 0 < start < 1 << 20 else None


ENV = Env("<", 8, symbol=symbol, comm=lambda pid: {1: "one", 2: "zwölf", -1: "\udcff"}.get(pid, "<...>"))


def without(monkeypatch):
    monkeypatch.setattr(native, "_found", [None])


def payload(rng, event):
    """A record's payload: sensible, of any bytes, or too short."""
    way = rng.randrange(12)
    if way == 0:
        return event.id.to_bytes(2, "little") + rng.randbytes(rng.randrange(0, 30) * 4 + 2)
    if way == 1:
        return random_record(event, rng)[: 4 * rng.randrange(1, 8)]
    if event.category == "ftrace":
        small = rng.choice((0, 0x100, 0x200, 0x308, 0x3104, 1 << 40))
        depth, long = rng.choice((-1, 0, 1, 7, 5000)), rng.choice((0, 9, 99_999, 1_234_567, 10**10, -5))
        values = {
            "ip": small,
            "parent_ip": rng.randrange(0, 0x600),
            "count": 3,
            "bottom_delta_ts": rng.randrange(1 << 32),
            "func": small & ~7,
        }
        values |= {"depth": depth, "calltime": 10**9, "rettime": 10**9 + long, "retval": rng.choice((0, -2, -5000, 77)), "retaddr": small}
        more = rng.randbytes(rng.choice((0, 0, 4, 8, 24, 48, 52, 200))) if event.name in ("function", "funcgraph_entry") else b""
        return record(event, values, "<", rng.choice((1, 1, 2))) + more
    text = rng.choice(("bash", "", "größer als neun", "a b", "sechzehn Zeichen.", "x" * 40))
    data = bytearray(
        record(event, {"comm": text, "path": text, "raw": rng.randbytes(rng.choice((0, 3, 20, 300))), "a": rng.choice((0, -1, 5, 1 << 31))})
    )
    for _ in range(rng.randrange(4)):
        place = rng.randrange(2, len(data))
        data[place] = rng.choice((0, 1, 7, 0x7F, 0x80, 0xC3, 0xFF))
    return bytes(data)


def recording(seed, events, count=1200, damage=0):
    """Pages of two CPUs; what is damaged is damaged anywhere."""
    found = []
    for cpu in range(2):
        rng = random.Random(f"{seed}:{cpu}")
        moment, records = 10**9 + cpu, []
        for _ in range(count):
            moment += rng.choice((0, 1, 500, 1500, 20_000, 1 << 28))
            records.append((moment, payload(rng, rng.choice(events))))
        data = bytearray(pages(records, "<", lost={1: 5, 3: -1}))
        for _ in range(damage):
            place = rng.randrange(len(data))
            size = rng.choice((1, 1, 4, 8, 64))
            data[place : place + size] = rng.choice((rng.randbytes(size), bytes(size), b"\xff" * size))[: len(data) - place]
        found.append(bytes(data))
    return found


SIGNED_INT, ANY = Int("int", 4, True), Int("unsigned int", 4, False)
FUNCTIONS = {
    "function_100": Func("f", SIGNED_INT, (("a", ANY), ("b\x01\x0ec", SIGNED_INT), ("", Ptr(ANY)))),
    "function_200": Func("g", SIGNED_INT, (("pair", Struct("p", 16, ())), ("last", SIGNED_INT))),
    "function_300 [mod]": Func("h", SIGNED_INT, ()),
}


def printed(kind, streams, numpy=True, graph=None, **options):
    lines = kind(ALL, options.pop("env", ENV), **options)
    if isinstance(lines, LabelledLines):
        lines.streams = [("", 0), ("two: ", 1)]
        if graph is not None:
            retaddr = (lambda address: symbol(address)[0] if symbol(address) else "") if graph.values else None
            name = lambda address: symbol(address)[0] if symbol(address) else ""  # noqa: E731
            arguments = Arguments(FUNCTIONS.get, trace_cmd=graph.depth) if graph.values or graph.depth else None
            lines.draw(GraphTexts(Decoder(ALL.values(), "<"), ReportText(name, graph, arguments, retaddr)))
    chunks = [(cpu, [data[: 4 * 4096], data[4 * 4096 :]]) for cpu, data in enumerate(streams)]
    return b"".join([lines.data(window) for window in windows(chunks, 4096, LAYOUT, numpy)])


def plain(column):
    return [list(row) if hasattr(row, "__len__") and not isinstance(row, (str, bytes)) else row for row in column]


@pytest.mark.parametrize("damage", [0, 1, 30, 3000])
def test_pages(damage, monkeypatch):
    numpy = pytest.importorskip("numpy")
    for seed in range(6):
        (data, other) = recording(seed, list(EVENTS.values()), 400, damage)
        data += other[: -1017 * seed or None]  # a last page that is cut off
        fast = walk(data, 4096, LAYOUT, None)
        assert isinstance(fast.times, memoryview)
        slow = walk(data, 4096, LAYOUT, False)
        for way in (slow, numpy_walk(data, 4096, LAYOUT, numpy)):
            for name in ("times", "starts", "sizes", "types"):
                assert list(getattr(fast, name)) == list(getattr(way, name)), name
            assert fast.lost == way.lost and len(fast)


@pytest.mark.parametrize("damage", [0, 40])
@pytest.mark.parametrize(
    "options", [{}, {"nanosecond": True}, {"generation": "3.4", "latency": True}, {"clock": "counter"}, {"plugins": False}]
)
def test_lines_of_events(options, damage, monkeypatch):
    streams = recording(str(options), list(EVENTS.values()), damage=damage)
    fast = [printed(LabelledLines, streams, **options), printed(KernelLines, streams)]
    without(monkeypatch)
    for numpy in (True, False):
        assert printed(LabelledLines, streams, numpy, **options) == fast[0]
    assert printed(KernelLines, streams, False) == fast[1] and fast[0].count(b"\n") > 1000


@pytest.mark.parametrize("damage", [0, 40])
@pytest.mark.parametrize(
    "settings", [{}, {"tailprint": True, "depth": True}, {"values": "auto", "any_cpu": False}, {"values": "dec"}, {"values": "hex"}]
)
@pytest.mark.parametrize("mixed", [False, True])
def test_lines_of_tracers(settings, mixed, damage, monkeypatch):
    events = list(TRACERS.values()) + [EVENTS[300]] * mixed
    streams = recording(f"{settings}{mixed}", events, damage=damage)
    options = {"parent": bool(settings), "offset": mixed, "graph": ReportOptions(**settings)}
    if settings:
        options["env"] = ENV.replace(arguments=Arguments(FUNCTIONS.get, trace_cmd=mixed))
    fast = printed(LabelledLines, streams, **options)
    without(monkeypatch)
    for numpy in (True, False):
        assert printed(LabelledLines, streams, numpy, **dict(options)) == fast


def test_a_long_line_and_a_full_table(monkeypatch):
    from harken.native import text

    monkeypatch.setattr(text, "_OUT_BYTES", 64)
    monkeypatch.setattr(text, "_ENTRIES", 16)
    streams = recording("small", list(EVENTS.values()), 300)
    fast = printed(LabelledLines, streams)
    without(monkeypatch)
    assert printed(LabelledLines, streams) == fast


@pytest.mark.parametrize("damage", [0, 40])
def test_columns(damage, monkeypatch):
    pytest.importorskip("numpy")
    data = recording("columns", list(EVENTS.values()), 1500, damage)[0]
    fast = split(data, walk(data, 4096, LAYOUT, None), ALL, "<", 1)
    for columns in fast.values():
        columns.load()
    without(monkeypatch)
    for numpy in (True, False):
        slow = split(data, walk(data, 4096, LAYOUT, numpy), ALL, "<", 1)
        assert list(slow) == list(fast)
        for number, columns in slow.items():
            assert list(columns.times) == list(fast[number].times) and list(columns.cpus) == list(fast[number].cpus)
            for field in columns.event.fields:
                assert plain(columns[field.name]) == plain(fast[number][field.name]), (number, field.name)


@pytest.mark.skipif(not EVENTS_FOLDER.is_dir(), reason="no tracefs that can be read")
@pytest.mark.parametrize("dialect", ["kernel", "trace-cmd", "trace-cmd-3.1"])
def test_events_of_this_kernel(dialect, monkeypatch):
    rng = random.Random(dialect)
    files = sorted(EVENTS_FOLDER.glob("*/*/format"))
    events = {}
    for path in rng.sample(files, min(len(files), 120)):
        event = parse(path.read_bytes(), path.parts[-3])
        events[event.id] = event
    monkeypatch.setitem(globals(), "ALL", events)
    streams = []
    for cpu in range(2):
        kinds = [event for event in events.values() for _ in range(6)]
        streams.append(pages([(10**9 + 1000 * at + cpu, random_record(event, rng)) for at, event in enumerate(kinds)], "<"))
    kind, options = (KernelLines, {}) if dialect == "kernel" else (LabelledLines, {"generation": "3.1" if "3" in dialect else "3.4"})
    fast = printed(kind, streams, **options)
    without(monkeypatch)
    assert printed(kind, streams, False, **options) == fast


def test_nearly_all_events_of_this_kernel_are_programs():
    files = sorted(EVENTS_FOLDER.glob("*/*/format"))
    if not files:
        pytest.skip("no tracefs that can be read")
    made = left = 0
    for path in files[::20]:
        renderer = compile_format(parse(path.read_bytes(), path.parts[-3]), ENV.replace(dialect="trace-cmd"))
        try:
            if not renderer.parts:
                raise NotProgram
            Program(*renderer.parts[:4], bytearray(), [])
            made += 1
        except NotProgram:
            left += 1
    assert left <= made // 20


def test_operations_that_are_one():
    def rows(text):
        return [[OPS[name], int(flags), 0, int(place), int(value)] for name, flags, place, value in map(str.split, text.split(","))]

    ends = "START 0 0 0,LOAD 4 8 0,CONST 0 0 65535,AND 0 0 0,ADD 0 0 0,START 0 0 0,LOAD 4 8 0,CONST 0 0 65535,AND 0 0 0,ADD 0 0 0"
    ends += ",LOAD 4 8 0,CONST 0 0 16,SHR 0 0 0,ADD 0 0 0,STOP 0 0 0,MIN 0 0 0"
    assert shorter(rows(ends + ",END 0 0 0")) == rows("DYNAMIC 4 8 0,END 0 0 0")
    most = (1 << 64) - 1
    assert shorter(rows(f"START 0 0 0,CONST 0 0 {most},ADD 0 0 0,CONST 0 0 3,ADD 0 0 0")) == rows("START 0 0 2"), "as C adds"
    assert len(shorter(rows(ends.replace("LOAD 4 8 0,CONST 0 0 16", "LOAD 4 12 0,CONST 0 0 16")))) == 16, "of two different numbers"
    assert shorter(rows("LOAD 20 8 0,CONST 0 0 4294967295,AND 0 0 0,EXTEND 8 0 0")) == rows("LOAD 4 8 0")
    assert shorter(rows("LOAD 2 8 0,EXTEND 4 0 0,LOAD 4 8 0,EXTEND 2 0 0")) == rows("LOAD 2 8 0,LOAD 4 8 0,EXTEND 2 0 0")
    assert shorter(rows("LOAD 4 8 0,CONST 0 0 255,AND 0 0 0")) == rows("LOAD 4 8 0,CONST 0 0 255,AND 0 0 0")
    # what a jump leads to stays, and jumps lead to where it has gone
    jumps = "LOAD 4 8 0,JUMP_ZERO 0 4 0,START 0 0 0,CONST 0 0 5,ADD 0 0 0,LOAD 4 8 0,EXTEND 4 0 0,JUMP 0 8 0,END 0 0 0"
    assert shorter(rows(jumps)) == rows("LOAD 4 8 0,JUMP_ZERO 0 4 0,START 0 0 0,CONST 0 0 5,ADD 0 0 0,LOAD 20 8 0,JUMP 0 7 0,END 0 0 0")
    assert shorter(rows(jumps.replace("JUMP_ZERO 0 4", "JUMP_ZERO 0 5")))[1][3] == 3


def test_memory_of_records_is_used_again_when_nobody_has_them():
    rooms = []
    data = [page * 600 for page in (recording("a", [EVENTS[300]], 60)[0][:4096], recording("b", [EVENTS[301]], 60)[0][:4096])]
    first, second = (walk(part, 4096, LAYOUT, None, rooms) for part in data)
    times, types = list(first.times), set(second.types)
    assert len(rooms) == 2 and list(walk(data[0], 4096, LAYOUT, None).times) == times
    kept = second.times[5:]
    del first, second
    again = walk(data[0], 4096, LAYOUT, None, rooms)
    other = walk(data[1], 4096, LAYOUT, None, rooms)
    assert list(again.times) == times and set(other.types) == types and len(rooms) == 3
    assert list(kept) == list(other.times[5:])


def test_what_a_program_is_made_of():
    codes = Program("%d %s", ["f0", "k1[f0]"], {(8, "i"): "f0"}, {"k1": {0: "zero"}}, bytearray(), []).codes()
    names = {number: name for name, number in OPS.items()}
    assert [names[code] for code in codes] == ["LOAD", "DEC", "TEXT", "KEY", "LOAD", "KEY_INT", "MEMO", "END"]
    with pytest.raises(NotProgram):
        Program("%e", ["f0"], {(8, "i"): "f0"}, {}, bytearray(), [])
    # more than 64 bits hold: the text is Python's
    wide = Program("%d", ["f0 * f0 * f0"], {(8, "Q"): "f0"}, {}, bytearray(), made := []).codes()
    assert OPS["MEMO"] in wide and made[0](b"\xff" * 16, 0, 16) == str((2**64 - 1) ** 3)


@pytest.mark.parametrize("short", [None, 0, 63, 64, 130, 199])
def test_fields_are_gathered_in_blocks_of_records(short):
    """Records that lack a field's bytes have zeros there, wherever in a block they are; one outside the buffer ends it."""
    numpy = pytest.importorskip("numpy")
    data = random.Random(3).randbytes(200 * 40)
    starts = numpy.arange(0, 200 * 40, 40, dtype="i8")
    sizes = numpy.full(200, 40, dtype="i8")
    if short is not None:
        sizes[short] = 11
    fields = [(0, 1), (2, 2), (4, 4), (8, 8), (10, 24), (39, 1), (3, 5)]
    found = gather(address(data), len(data), starts, sizes, fields)
    assert found is not None
    for (offset, width), column in zip(fields, found):
        rows = [
            data[start + offset : start + offset + width] if offset + width <= size else bytes(width) for start, size in zip(starts, sizes)
        ]
        assert bytes(column) == b"".join(rows)
    sizes[short or 0] = len(data) + 1
    assert gather(address(data), len(data), starts, sizes, fields) is None


def test_names_of_many_functions(monkeypatch):
    """More than are known at first, so that what is known moves while a line is written; some have the same place in it."""
    rng = random.Random(1)
    addresses = [rng.randrange(1, 1 << 12) << 8 for _ in range(9000)] + [1 << 40 | n << 8 for n in range(9000)]
    rng.shuffle(addresses)
    event = TRACERS["function"]
    calls = zip(addresses, addresses[1:] + addresses[:1])
    records = [(10**9 + at, record(event, {"ip": ip, "parent_ip": parent}, "<", 1)) for at, (ip, parent) in enumerate(calls)]
    streams = [pages(records[::2], "<"), pages(records[1::2], "<")]
    fast = printed(LabelledLines, streams, parent=True)
    without(monkeypatch)
    assert printed(LabelledLines, streams, False, parent=True) == fast and fast.count(b"\n") == len(records)


def test_the_last_moment_there_is(monkeypatch):
    """Damaged files have it; rounding must not lead beyond it."""
    records = [((1 << 64) - 900 + at // 10, record(EVENTS[310], {})) for at in range(5000)]
    fast = printed(LabelledLines, [pages(records, "<")])
    assert b" 18446744073.709551: " in fast.splitlines()[0]
    without(monkeypatch)
    for numpy in (True, False):
        assert printed(LabelledLines, [pages(records, "<")], numpy) == fast


def test_two_losses_before_one_record_stand_in_their_order(monkeypatch):
    event = EVENTS[310]
    first, last = (pages([(10**9 + at, record(event, {}))], "<", lost={0: 5 + at}) for at in range(2))
    nothing = (
        first[:8] + (int.from_bytes(first[8:16], "little") & ~0xFFFFFFF).to_bytes(8, "little") + (5).to_bytes(8, "little") + first[24:]
    )
    streams = [nothing + last]
    for _ in ("by the accelerator", "without it"):
        for numpy in (True, False):
            assert printed(LabelledLines, streams, numpy).splitlines()[:2] == [b"CPU:0 [5 EVENTS DROPPED]", b"CPU:0 [6 EVENTS DROPPED]"]
        without(monkeypatch)


def test_a_line_break_in_the_format_is_an_empty_line_of_the_kernel_only(monkeypatch):
    event = next(event for event in EVENTS.values() if event.print_fmt == '"a line\\n"')
    streams = [pages([(10**9, record(event, {}))], "<")]
    for _ in ("by the accelerator", "without it"):
        assert printed(KernelLines, streams).endswith(b" a line\n\n")
        assert printed(LabelledLines, streams).endswith(b" a line\n") and b"\n\n" not in printed(LabelledLines, streams)
        without(monkeypatch)
