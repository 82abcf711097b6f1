"""Damaged and malicious recordings of ftrace: all ways to read them end in bounds, with a result or a clear error, and say the same with
the accelerator and without.

``$HARKEN_MUTANTS`` says how many mutants are read (default: 60); ``tools/mutate.py trace --count 10000`` reads any number of them in
child processes, with limits on time and memory.
"""

from __future__ import annotations

import os
import random
import struct

import pytest

from harken.base.errors import FormatError
from harken.cli.trace_cmd import dump
from harken.formats import trace_dat_writer
from harken.formats.event_format import parse
from harken.formats.print_fmt import Env, compile_format
from harken.formats.print_fmt_helpers import bit_list, bitmask
from harken.formats.print_fmt_kernel import binary_printf
from harken.formats.ring_page import Layout
from harken.formats.ring_page import parse as parse_page
from harken.formats.trace_dat import TraceFile, open_trace
from harken.formats.trace_dat_symbols import Symbols
from harken.testing.ring_builder import page, record
from harken.testing.trace_dat_builder import TICK, payload, recording
from harken.testing.trace_mutants import Good, good_recordings, mutant
from harken.testing.trace_mutants_events import FORMATS
from harken.testing.trace_ways import PRINTED, WAYS, differing, outcome, plain_python

_MUTANTS = int(os.environ.get("HARKEN_MUTANTS", "60"))
_RARE = [f"report {' '.join(words)}" for words in PRINTED]


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A function that puts a recording where ways find it."""
    monkeypatch.setenv("HARKEN_WORKERS", "1")
    monkeypatch.setenv("HARKEN_DEBUG", "1")
    path = tmp_path / "trace.dat"

    def put(data):
        path.write_bytes(data)
        return str(path)

    return put


def same(way, path):
    """What a way gives; it must be the same with and without the accelerator and numpy."""
    found = outcome(way, path)
    for numpy in (True, False):
        with plain_python(numpy):
            assert differing(found, outcome(way, path)) == "", way
    return found


@pytest.mark.parametrize("part", range(4))
def test_mutants(part, file):
    goods = good_recordings(each=2)
    survived = 0
    for number in range(part, _MUTANTS, 4):
        source = random.Random(f"mutant {number}")
        path = file(mutant(goods, source))
        for way in {"columns", "records", *source.sample(sorted(set(WAYS) - set(_RARE)), 4), *source.sample(_RARE, 2)}:
            found = outcome(way, path)
            survived += not isinstance(found, str)
            with plain_python(source.random() < 0.7):
                assert differing(found, outcome(way, path)) == "", (number, way)
    assert survived > _MUTANTS


@pytest.mark.parametrize("way", sorted(WAYS))
def test_good_recordings_are_read_alike(way, file):
    for good in good_recordings(each=1):
        same(way, file(good.file))


def formats(*names):
    return tuple([text.encode() for name, _, text in FORMATS if name in names])


def events(*names):
    return {event.name: event for event in (parse(text, category) for name, category, text in FORMATS if name in names)}


def with_event(text, category="test", payloads=(), **more):
    """A recording of one event."""
    good = Good.of_file(recording({"": {0: [(1, 1, 1)]}}))
    body = b"".join([struct.pack("<II", 0, len(data) + 4) + data + bytes(-len(data) % 4) for data in payloads])
    own = (("ftrace_formats", (text.encode(),)),) if category == "ftrace" else (("event_formats", ((category, (text.encode(),)),)),)
    good.parts = good.parts.replace(**dict(own), **more)
    good.buffers = [("", "local", 4096, {0: page(10**9, body)})]
    return good.write()


@pytest.mark.parametrize(
    "form",
    [
        '"%2000000000d", REC->value',
        '"%-2000000000s", REC->comm',
        '"%.2000000000d", REC->value',
        '"%*d", REC->value << 20, REC->value',
        '"%.*d", REC->value << 20, REC->value',
        '"%*.*d|%*.*d", 2000000000, 2000000000, REC->value, 2000000000, 2000000000, REC->value',
        '"%s", __print_flags(REC->value, "' + "long" * 3000 + '", { 1, "A" }, { 2, "B" }, { 4, "C" })',
        '"%2000000000pS", REC->value',
        '"%s", ({ trace_seq_printf(p, "%9000d%9000d", REC->value, REC->value); })',
        '"' + "x" * 100_000 + '"',
        '"%s", "' + "x" * 100_000 + '"',
        '"%-20s", REC->value > 9 ? "' + "x" * 100_000 + '" : "b"',
        '"%s", __print_flags(REC->value, "|", ' + '{ 1099511627776, "s" }, ' * 64 + '{ 1, "' + "x" * 100_000 + '" })',
        '"%s", __print_flags(REC->value, "|", ' + ", ".join(['{ 0, "' + "x" * 1000 + '" }'] * 70) + ")",
        '"%s", ({ const char *names[] = {"a", "' + "x" * 100_000 + '"}; names[REC->value & 1]; })',
        '"' + "%s" * 60 + '", ' + ", ".join(['({ const char *a = REC->value ? "' + "x" * 100 + '" : "b"; a; })'] * 60),
        '"%d", ({ int a0 = REC->value; ' + " ".join([f"int a{n + 1} = a{n} + a{n};" for n in range(60)]) + " a60; })",
        '"%d", ' + "1 / (" * 60 + "REC->value" + ")" * 60,
    ],
)
def test_no_format_makes_texts_that_no_kernel_makes(form):
    text = TICK.replace('"value=%d", REC->value', form)
    for dialect in ("kernel", "trace-cmd", "trace-cmd-3.1"):
        render = compile_format(parse(text, "test"), Env("<", 8, dialect))
        assert len(render(payload(7, 255, 1))) < 10_000


def test_what_long_tables_do_not_print_does_not_count():
    names = ", ".join([f'{{ {n}, "{n:050}" }}' for n in range(200)])
    many = ", ".join([f'"{n:050}"' for n in range(200)])
    for form in (f"__print_symbolic(REC->value, {names})", f"({{ const char *names[] = {{{many}}}; names[REC->value]; }})"):
        event = parse(TICK.replace('"value=%d", REC->value', f'"%s", {form}'), "test")
        assert compile_format(event, Env("<", 8))(payload(7, 150, 1)) == f"{150:050}"


def test_a_record_is_not_as_long_as_its_format_says(file):
    fields = "\n\tfield:u8 many[60000];\toffset:12;\tsize:60000;\tsigned:0;\n\nprint"
    text = TICK.replace("\n\nprint", fields).replace('"value=%d", REC->value', '"%s", __print_array(REC->many, 60000, 1)')
    path = file(with_event(text, payloads=[payload(7, 1, 1)] * 20))
    for way in ("report", "report 3.4", "report kernel", "report -R"):
        assert len(same(way, path)["out"]) < 20 * 300


def test_widths_that_a_record_brings_are_bounded():
    data = struct.pack("<iiii", 2_000_000_000, 1, -2_000_000_000, 2)
    shown = binary_printf("%*d|%*d|%2000000000d|%.2000000000d", data, Env("<", 8))
    assert len(shown) < 40_000 and "1|2" in shown
    assert binary_printf("[%*d] [%.*s] [%-5s]", struct.pack("<iii", -3, 7, -1) + b"text\0ab\0", Env("<", 8)) == "[7  ] [text] [ab   ]"


def test_large_masks():
    source = random.Random(1)
    for order, long_size in (("<", 8), (">", 8), (">", 4)):
        data = source.randbytes(24)
        longs = [int.from_bytes(data[at : at + long_size], "little" if order == "<" else "big") for at in range(0, 24, long_size)]
        bits = [8 * long_size * at + bit for at, long in enumerate(longs) for bit in range(8 * long_size) if long >> bit & 1]
        shown = [range(int(one.split("-")[0]), int(one.split("-")[-1]) + 1) for one in bit_list(data, order, long_size).split(",")]
        assert [bit for ranges in shown for bit in ranges] == bits
        assert int(bitmask(data, order, long_size).replace(",", ""), 16) == sum(1 << bit for bit in bits)
    assert bit_list(b"U" * (1 << 16), ">", 8).count(",") == (1 << 18) - 1  # it took the square of the time
    assert bit_list(b"", "<", 8) == bit_list(bytes(8), "<", 8) == ""


def test_fields_beyond_any_record(file):
    with pytest.raises(FormatError, match="beyond the end of any record"):
        parse(TICK.replace("value;\toffset:8", "value;\toffset:4294967290"), "test")
    path = file(with_event(TICK.replace("value;\toffset:8", "value;\toffset:65000"), payloads=[payload(7, 1, 1)] * 3))
    assert b"value=0" in same("report", path)["out"] and same("columns", path)["test:tick"][-1] == ("value", [0, 0, 0])
    assert len(same("report -R", path)["out"].splitlines()) == 4


def test_an_array_of_thousands_of_dimensions_is_not_looked_into():
    """Each was multiplied with all before it, which took the square of the time."""
    with pytest.raises(FormatError, match="a declaration of 880009 letters"):
        parse(TICK.replace("int value;", "int value" + "[999999999]" * 80_000 + ";"), "test")


def test_columns_take_memory_in_proportion(file):
    text = TICK.replace("\n\nprint", "\n\tfield:u64 many[8000];\toffset:8;\tsize:64000;\tsigned:0;\n\nprint")
    found = same("columns", file(with_event(text, payloads=[payload(7, 1, 1)] * 100)))
    assert found == "FormatError: event test:tick: its records have no room for what the format says of field many and those before"


def test_thousands_of_fields_in_one_place(file):
    fields = "".join([f"\tfield:u8 {'x' * 90}{at}[12];\toffset:0;\tsize:12;\tsigned:0;\n" for at in range(4000)])
    text = TICK.replace("\n\nprint", "\n" + fields + "\nprint").replace("REC->value", "strange(REC->value)")
    path = file(with_event(text, payloads=[payload(7, 1, 1)] * 20))
    for way in ("report", "report 3.4", "report -R"):
        assert len(same(way, path)["out"]) < 20 * 5000


@pytest.mark.parametrize("field", ["u16 x{}[1000];\toffset:8;\tsize:2000", "__data_loc u8[] x{};\toffset:8;\tsize:4"])
def test_fields_that_all_have_the_same_memory(field, file):
    fields = "".join([f"\tfield:{field.format(at)};\tsigned:0;\n" for at in range(500)])
    text = TICK.replace("\n\nprint", "\n" + fields + "\nprint").replace("REC->value", "strange(REC->value)")
    data = payload(7, 2000 << 16 | 8, 1) + b"\xff" * 2000
    path = file(with_event(text, payloads=[data]))
    for way in ("report", "report 3.4", "report -R"):
        assert len(same(way, path)["out"]) < 10 * len(data) + 5000
    assert "no room for what the format says" in same("json", path)


def test_columns_of_many_events_take_memory_in_proportion(file):
    """Each takes a little, and there are as many of them as a file likes."""
    fields = "".join([f"\tfield:u64 x{at};\toffset:4;\tsize:8;\tsigned:0;\n" for at in range(300)])
    text = TICK.replace("\n\nprint", "\n" + fields + "\nprint")
    good = Good.of_file(recording({"": {0: [(1, 1, 1)]}}))
    good.parts = good.parts.replace(
        event_formats=(("test", tuple([text.replace("tick", f"tick{n}").replace("ID: 7", f"ID: {n}").encode() for n in range(7, 27)])),)
    )
    body = b"".join([struct.pack("<I", 3) + payload(number, 1, 1) for number in range(7, 27) for _ in range(10)])
    good.buffers = [("", "local", 4096, {cpu: b"".join([page(10**9 + at, body) for at in range(60)]) for cpu in (0, 1)})]
    for way in ("columns", "columns one by one"):
        assert "FormatError: event test:tick7: its records have no room" in same(way, file(good.write()))


def test_as_many_symbols_as_a_format_names(file):
    """Each was looked for among all of the kernel's."""
    named = " + ".join([f"nothing{at}" for at in range(90)])
    text = TICK.replace('"value=%d", REC->value', '"' + "%d " * 40 + '", ' + ", ".join([named] * 40))
    symbols = Symbols(b"".join([b"%x T s%d\n" % (0x1000 + at, at) for at in range(1000)]) + b"50 t own\t[mod]\n60 T own\n70 T own\n")

    class Lines(list):
        times = 0

        def __iter__(self):
            Lines.times += 1
            return super().__iter__()

    assert symbols.find(0x1001) and symbols.address("own") == 0x60
    symbols._lines, symbols._named = Lines(symbols._lines), {}
    for at in range(100):
        assert symbols.address(f"s{at}") == 0x1000 + at and symbols.address(f"nothing{at}") is None
    assert Lines.times <= 2
    assert same("report", file(with_event(text, payloads=[payload(7, 1, 1)], kallsyms=b"1000 T a\n")))["out"].count(b"0 0 0") > 5


@pytest.mark.parametrize("name", ["func", "depth"])
@pytest.mark.parametrize("event", ["funcgraph_entry", "funcgraph_exit"])
def test_of_two_fields_of_a_call_the_first_one_counts(event, name, file):
    text = next(text for found, _, text in FORMATS if found == event)
    line = next(line for line in text.splitlines() if f" {name};" in line)
    other = line.replace("offset:8", "offset:4").replace("offset:16", "offset:20")
    data = record(parse(text, "ftrace"), {"func": 0x81000040, "depth": 1, "calltime": 5, "rettime": 700000}, pid=5)
    path = file(with_event(text.replace(line, f"{line}\n{other}"), "ftrace", [data], kallsyms=b"81000000 T do_it\n81000100 T next\n"))
    for way in ("report", "report 3.4", "calls", "columns"):
        found = repr(same(way, path))
        assert way != "report" or event != "funcgraph_entry" or "|    do_it() {" in found


def test_a_name_that_memory_and_a_number_share(file):
    fields = "\n\tfield:__data_loc u8[] twice;\toffset:8;\tsize:4;\tsigned:0;\n\tfield:int twice;\toffset:8;\tsize:4;\tsigned:1;\n"
    path = file(with_event(TICK.replace("\n\nprint", f"{fields}\nprint"), payloads=[payload(7, 2 << 16 | 4, 0x0201)]))
    for way in ("columns", "columns one by one", "json"):
        same(way, path)
    assert ("twice", [b"\x01\x02"]) in same("columns", path)["test:tick"]


def test_fields_of_no_bytes(file):
    text = TICK.replace("\n\nprint", "\n\tfield:int none;\toffset:12;\tsize:0;\tsigned:1;\n\nprint").replace(", REC->value", "")
    path = file(with_event(text, payloads=[payload(7, 3, 1)]))
    for way in ("report", "report kernel", "records"):
        assert "none=0" in str(same(way, path))


def test_of_two_fields_of_a_name_the_first_one_counts(file):
    text = TICK.replace("\n\nprint", "\n\tfield:u8 value;\toffset:8;\tsize:1;\tsigned:0;\n\nprint")
    found = same("columns", file(with_event(text, payloads=[payload(7, 259, 1)])))
    assert [column for column in found["test:tick"] if column[0] == "value"] == [("value", [259])]


def test_an_event_without_a_pid(file):
    text = TICK.replace("common_pid", "other_pid")
    assert b'"pid": 0, "comm": "<idle>"' in same("json", file(with_event(text, payloads=[payload(7, 1, 1)])))["out"]


@pytest.mark.parametrize(
    ("old", "new"), [("pid_t prev_pid", "char prev_pid[4]"), ("char prev_comm[16]", "u64 prev_comm[2]"), ("prev_pid", "gone")]
)
def test_names_of_tasks_are_learnt_of_fields_that_have_them(old, new, file):
    ((text),) = [text for name, _, text in FORMATS if name == "sched_switch"]
    event = parse(text, "sched")
    data = record(event, {"prev_comm": "cat", "prev_pid": 5, "next_comm": "dog", "next_pid": 6}, pid=6)
    path = file(with_event(text.replace(old, new, 1), "sched", [data]))
    for way in ("report", "report 3.4"):
        assert b"dog" in same(way, path)["out"].split(b"[000]")[0]


@pytest.mark.parametrize("old", ["unsigned long retval", "unsigned long long rettime"])
def test_what_is_no_number_has_no_value(old, file):
    text = next(text for name, _, text in FORMATS if name == "funcgraph_exit" and "retval" in text)
    data = record(parse(text, "ftrace"), {"func": 0x1000, "retval": 0xFFFFFFFFFFFFFFFE, "calltime": 5, "rettime": 7}, pid=5)
    assert b"(ret=-2)" in same("report 3.4", file(with_event(text, "ftrace", [data])))["out"]
    damaged = same("report 3.4", file(with_event(text.replace(f"{old};", f"__data_loc {old}[];"), "ftrace", [data])))
    assert b"(ret=" not in (damaged["out"] if isinstance(damaged, dict) else b"")


def test_a_system_call_without_the_field_that_it_is_printed_of(file):
    text = TICK.replace("name: tick", "name: sys_exit_read")
    for way in ("report kernel", "records"):
        assert same(way, file(with_event(text, "syscalls", [payload(7, 259, 1)])))


def test_addresses_of_functions_have_no_sign(file):
    text = next(text for name, _, text in FORMATS if name == "funcgraph_entry")
    func = next(line for line in text.splitlines() if " func;" in line)
    data = record(parse(text, "ftrace"), {"func": 0x81000040}, pid=5)
    changed = text.replace(func, func.replace("size:8", "size:4").replace("signed:0", "signed:1"))
    path = file(with_event(changed, "ftrace", [data], kallsyms=b"ffffffff81000000 T do_it\nffffffff81000100 T next\n"))
    for way in ("report", "report 3.4", "calls"):
        assert b"-7efffff" not in repr(same(way, path)).encode()


def test_a_short_record_of_a_function_has_no_arguments(file):
    text = next(text for name, _, text in FORMATS if name == "function" and " args[]" in text)
    caller = next(line for line in text.splitlines() if " parent_ip;" in line)
    far = caller.replace("offset:16", "offset:64")
    assert far != caller
    data = record(parse(text, "ftrace"), {"ip": 0x81000040}, pid=5)[:24]
    path = file(with_event(text.replace(caller, far), "ftrace", [data], kallsyms=b"81000000 T do_it\n81000100 T next\n"))
    assert b"do_it\n" in same("report 3.4", path)["out"]


@pytest.mark.parametrize("new", ["void * other;", "char ptr[8];"])
def test_an_address_of_memory_that_is_no_number(new, file):
    text = TICK.replace("name: tick", "name: kfree").replace("print fmt", "\tfield:void * ptr;\toffset:8;\tsize:8;\tsigned:0;\n\nprint fmt")
    assert "no number ptr" not in repr(same("mem", file(with_event(text, "kmem", [payload(7, 1, 1)]))))
    damaged = file(with_event(text.replace("void * ptr;", new), "kmem", [payload(7, 1, 1)]))
    assert "no number ptr" in repr(same("mem", damaged))


def test_numbers_of_thousands_of_digits(file):
    text = next(text for name, _, text in FORMATS if name == "osnoise")
    noise = next(line for line in text.splitlines() if " noise;" in line)
    wide = noise.replace("size:8", "size:3000")
    assert wide != noise
    data = record(parse(text, "ftrace"), {}, pid=5)
    path = file(with_event(text.replace(noise, wide), "ftrace", [data[:8] + b"\xff" * 3100]))
    for way in ("report kernel", "records", "report"):
        assert same(way, path)


def test_texts_that_look_like_the_marks_around_times(file):
    ((text),) = [text for name, _, text in FORMATS if name == "print"]
    data = record(parse(text, "ftrace"), {"buf": "one\x01two\x01: three\x02"}, pid=5)
    for way in ("report -l --layout kernel", "report -t --ts-diff"):
        assert b"three" in same(way, file(with_event(text, "ftrace", [data] * 3, cmdlines=b"5 a\x01b\x01\n")))["out"]


def test_function_traces_that_only_in_parts_are_for_the_accelerator(file):
    """The window up to the end of CPU 1 has two kinds of entries, which Python prints; then the accelerator knows the callers."""
    good = Good.of_file(recording({"": {0: [(1, 1, 1)]}}))
    kinds = "function", "funcgraph_entry", "funcgraph_retaddr_entry"
    known = events(*kinds)
    names = {name: 0x1000 * (at + 1) for at, name in enumerate("abcdef")}
    good.parts = good.parts.replace(
        ftrace_formats=formats(*kinds),
        kallsyms=b"".join([b"%x T %s\n" % (names[name], name.encode()) for name in names]),
    )
    calls = [record(known["function"], {"ip": names[child], "parent_ip": names[caller]}) for caller, child in ("ab", "bc", "cd", "de")]
    data = page(10**9, b"".join([struct.pack("<I", 1000 << 5 | len(row) // 4) + row for row in calls]))
    others = [record(known[name], {}) for name in reversed(kinds)]
    early = page(10**9 + 2500, b"".join([struct.pack("<I", len(row) // 4) + row for row in others]))
    good.buffers = [("", "local", 4096, {0: data, 1: early})]
    text = same("report", file(good.write()))["out"]
    assert [line.rpartition(b"function:")[2].rstrip() for line in text.splitlines() if b"[000]" in line] == [
        b" " * (13 + 3 * at) + letter for at, letter in enumerate((b"b", b"c", b"d", b"e"))
    ]


def test_times_past_the_last_moment():
    body = b"".join([struct.pack("<II", 1 | (1 << 27) - 1 << 5, 7)] * 3)
    assert [time for time, _, _ in parse_page(page((1 << 64) - 5, body)).records] == [(1 << 27) * at - 5 - at for at in (1, 2, 3)]
    stamp = struct.pack("<II", 31 | 5 << 5, 1)
    times = [
        time for time, _, _ in parse_page(page((1 << 64) - 5, body[:8] + stamp + body[:8]), layout=Layout("<", 8, 0, 8, 8, 16)).records
    ]
    assert max(times) < 1 << 64


def test_addresses_and_pids_that_are_none():
    symbols = Symbols("-5 T minus\n1000 T one\n2000 T two\nffffffffffffffffff T long\n10_00 T x\n\u00b2 T y\n".encode())
    assert symbols.find(0x1800) == ("one", 0x1000, "")
    good = Good.of_file(recording({"": {0: [(1, 1, 1)]}}))
    good.parts = good.parts.replace(cmdlines="\u00b2 two\n7 seven\n-1 minus\n99999999999999 long\n".encode())
    trace = TraceFile(good.write())
    assert trace.comm(7) == "seven" and trace.comm(2) == "<...>"


def test_pids_of_histograms(file):
    good = next(good for good in good_recordings(each=1) if any(b"kernel_stack" in text for text in good.parts.ftrace_formats))
    good.parts = good.parts.replace(cmdlines="\u00b2 two\n7 seven\n".encode())
    assert not isinstance(same("hist", file(good.write())), str)


def test_pages_are_those_of_one_cpu():
    """Thousands of CPUs that all have the same megabyte would make a small file a large one."""
    data = bytearray(recording({"": {0: [(1, 1, 1)], 1: [(2, 2, 1)], 2: [(3, 3, 1)]}}, 6))
    places = [TraceFile(bytes(data)).place(cpu) for cpu in range(3)]
    table = data.find(struct.pack("<QQ", places[0].offset, places[0].size))
    struct.pack_into("<QQ", data, table + 16, places[0].offset, places[0].size)
    with TraceFile(bytes(data)) as trace:
        assert [trace.size(cpu) for cpu in range(3)] == [places[0].size, 0, places[2].size]
        assert any("lie within those of others" in problem for problem in trace.problems)


@pytest.mark.parametrize("of", ["CPU", "buffer"])
def test_pages_are_there_once(of, file, monkeypatch):
    """They are asked for by CPU and name, so that each of the same would have those of the first."""
    good = Good.of_file(recording({"": {0: [(at, at, 1) for at in range(1, 500)]}}))
    whole = same("report", file(good.file))["out"]
    if of == "CPU":
        own = trace_dat_writer.buffer_option
        monkeypatch.setattr(trace_dat_writer, "buffer_option", lambda *parts: own(*parts[:3], list(parts[3]) * 300))
    else:
        good.buffers *= 300
    path = file(good.write())
    with open_trace(path) as trace:
        assert [[cpu.cpu for cpu in buffer.cpus] for buffer in trace.buffers] == [[0]] and any(
            "left out" in text for text in trace.problems
        )
    assert same("report", path)["out"] == whole and len(same("records", path)[0]) > 900


def test_a_dump_goes_through_a_file_once(file, monkeypatch):
    """It went from section to section for the name of each of them, and showed a buffer as often as it is named."""
    good = Good.of_file(recording({"": {0: [(1, 1, 1)]}}))
    good.buffers += [(f"b{at}", "local", 4096, {0: good.buffers[0][3][0]}) for at in range(50)]
    good.buffers += [good.buffers[0]] * 50
    walks = []
    own = dump._walk
    monkeypatch.setattr(dump, "_walk", lambda trace: walks.append(trace) or own(trace))
    out = outcome("dump", file(good.write()))["out"]
    assert len(walks) == 1 and out.count(b'"" [name]') == out.count(b'"b7" [name]') == 1 and out.count(b'"buffer flyrecord b7"') >= 1


def test_too_many_buffers():
    good = Good.of_file(recording({"": {0: [(1, 1, 1)]}}, 6))
    good.version = 6
    place = struct.pack("<Q", good.file.find(b"flyrecord") + 1)
    good.parts = good.parts.replace(options=tuple([(3, place + b"again%d\0" % at) for at in range(20_000)]), cpus=4000)
    with TraceFile(good.write()) as trace:
        assert 20 < len(trace.buffers) < 5000 and any("more than" in problem for problem in trace.problems)


def test_what_is_expanded_is_in_proportion():
    """Each chunk is small, but there are many of them."""
    good = Good.of_file(recording({"": {0: [(1, 1, 1)]}}, 7, "zlib"))
    whole = TraceFile(good.file)
    place = whole.place(0)
    chunk = struct.pack("<II", 0, 4 << 20)
    end = place.offset + 4 + place.size
    data = bytearray(good.file[: place.offset] + struct.pack("<I", 5000) + chunk * 5000 + good.file[end:])
    size = struct.pack("<IQQ", 0, place.offset, place.size)
    at = data.rfind(size)
    assert at >= 0
    struct.pack_into("<IQQ", data, at, 0, place.offset, 4 + len(chunk) * 5000)
    # options that stood behind the pages moved
    moved = len(data) - len(good.file)
    for section in whole.layout.option_sections[1:]:
        before = data.find(struct.pack("<Q", section.offset - 16))
        struct.pack_into("<Q", data, before, section.offset - 16 + moved)
    with TraceFile(bytes(data)) as trace, pytest.raises(FormatError, match="claim to be"):
        list(trace.chunks(0))
