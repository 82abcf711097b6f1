"""formats.print_fmt: C's expressions, the kernel's conversions, libtraceevent's dialect, and formats that nobody can compile."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harken.base.ctype import Int, Member, Struct
from harken.formats.event_format import parse
from harken.formats.print_fmt import Env, compile_format
from harken.formats.print_fmt_fields import kernel_fields_text
from harken.formats.print_fmt_kernel import binary_printf
from harken.formats.trace_dat_symbols import Symbols
from harken.testing.ring_builder import random_record, record

COMMON = """\
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

"""
FIELDS = (
    "s8 a;\toffset:8;\tsize:1;\tsigned:1;",
    "u8 b;\toffset:9;\tsize:1;\tsigned:0;",
    "s16 c;\toffset:10;\tsize:2;\tsigned:1;",
    "u32 d;\toffset:12;\tsize:4;\tsigned:0;",
    "s64 e;\toffset:16;\tsize:8;\tsigned:1;",
    "void * p;\toffset:24;\tsize:8;\tsigned:0;",
    "char name[8];\toffset:32;\tsize:8;\tsigned:0;",
    "__data_loc char[] s;\toffset:40;\tsize:4;\tsigned:0;",
    "__rel_loc char[] r;\toffset:44;\tsize:4;\tsigned:0;",
    "__data_loc u8[] m;\toffset:48;\tsize:4;\tsigned:0;",
    "u8 ip[16];\toffset:52;\tsize:16;\tsigned:0;",
    "int n[3];\toffset:68;\tsize:12;\tsigned:1;",
)


def event(print_fmt: str, fields=FIELDS, name: str = "x", category: str = "test"):
    body = "".join(f"\tfield:{field}\n" for field in fields)
    return parse(f"name: {name}\nID: 42\nformat:\n{COMMON}{body}\nprint fmt: {print_fmt}\n", category)


def symbol(address: int):
    return ("do_it", 0x1000, 0x100) if 0x1000 <= address < 0x1100 else ("far [ext4]", 0x2000, 0x10) if 0x2000 <= address < 0x2010 else None


def text(print_fmt: str, values=None, order: str = "<", **env) -> str:
    known = event(print_fmt)
    renderer = compile_format(known, Env(order, symbol=symbol, **env))
    assert not renderer.problem, renderer.problem
    payload = record(known, values or {}, order)
    one = renderer(payload)
    assert renderer.lines("<%s>", b"????" + payload, [4], [4 + len(payload)], len(payload), ["h"]) == [f"<h>{one}"]
    return one


VALUES = {
    "a": -2,
    "b": 200,
    "c": -3,
    "d": 0xFFFFFFFF,
    "e": -5,
    "p": 0x1010,
    "name": "nine",
    "s": "text",
    "r": "rel",
    "m": b"\x01\x02\x03\x04",
}
VALUES |= {"ip": bytes(range(16)), "n": b"\x05\0\0\0\xf9\xff\xff\xff\x09\0\0\0"}


@pytest.mark.parametrize(
    ("form", "expression", "expected"),
    [
        ("%d", "REC->a", "-2"),
        ("%u", "REC->a", "4294967294"),
        ("%hhu", "REC->a", "254"),
        ("%x", "REC->c", "fffffffd"),
        ("%hx", "REC->c", "fffd"),
        ("%d", "REC->d", "-1"),
        ("%u", "REC->d + 1", "0"),
        ("%llu", "(u64)REC->d + 1", "4294967296"),
        ("%d", "REC->a < REC->b", "1"),
        ("%d", "REC->a < REC->d", "1"),
        ("%d", "REC->a < 5u", "0"),  # -2 becomes large
        ("%d", "-REC->b", "-200"),
        ("%d", "(s8)REC->b", "-56"),
        ("%u", "(unsigned char)REC->a", "254"),
        ("%d", "~REC->b", "-201"),
        ("%d", "!REC->b", "0"),
        ("%d", "REC->a / 4", "0"),
        ("%d", "REC->c % 2", "-1"),
        ("%d", "REC->b / 0", "0"),
        ("%d", "REC->a >> 1", "-1"),
        ("%u", "REC->d >> 28", "15"),
        ("%llx", "1ULL << 40", "10000000000"),
        ("%d", "1 << 31", "-2147483648"),
        ("%d", "10 - 3 - 2", "5"),
        ("%d", "2 + 3 * 4 & 7 | 16 ^ 1", "23"),
        ("%d", "REC->b & (1 | 8)", "8"),
        ("%d", "REC->b ? 3 : 4", "3"),
        ("%d", "0 ? 1 : 0 ? 2 : 3", "3"),
        ("%d", "REC->a && !REC->b || 1", "1"),
        ("%d", "sizeof(u64) + sizeof(unsigned int) + sizeof(REC->c) + sizeof(struct x *)", "22"),
        ("%d", "__builtin_expect(!!(REC->b), 0)", "1"),
        ("%d", "(REC)->b", "200"),
        ("%d", "REC->n[1]", "-7"),
        ("%d", "REC->n[REC->b - 198]", "9"),
        ("%d", "REC->n[500]", "0"),
        ("%d", "((int *)REC->n)[1]", "-7"),
        ("%d", "__get_dynamic_array_len(m) / sizeof(u16)", "2"),
        ("%u", "((u16 *)__get_dynamic_array(m))[1]", "1027"),
        ("%c%c", "'x', REC->name[0]", "xn"),
        ("%d", "'\\n' + '\\x01' + '\\101'", "76"),
        ("%d", "({ int _x = (REC->b); int _y = (128); ((_x) < (_y) ? (_x) : (_y)); })", "128"),
    ],
)
def test_arithmetic(form, expression, expected):
    assert text(f'"{form}", {expression}', VALUES) == expected


@pytest.mark.parametrize(
    ("print_fmt", "expected"),
    [
        ('"%s|%5s|%-5s|%.2s", REC->name, __get_str(s), __get_rel_str(r), REC->name', "nine| text|rel  |ni"),
        ('"%.*s", 3, __get_str(s)', "tex"),
        ('"%5d|%-5d|%05d|%+d", REC->b, REC->b, REC->b, REC->b', "  200|200  |00200|+200"),
        ('"%#x %#o %o %X %#x", REC->b, REC->b, REC->b, REC->b, 0', "0xc8 0310 310 C8 0x0"),
        ('"100%% of\\t\\"it\\"\\n"', '100% of\t"it"\n'),
        ('"a" "b %d" "c", 1', "ab 1c"),
        ('"%s", REC->b ? "yes" : "no"', "yes"),
        ('"%ps %pS %ps %pS", REC->p, REC->p, (void *)0x2008, (void *)0x2008', "do_it do_it+0x10/0x100 far [ext4] far+0x8/0x10 [ext4]"),
        ('"%pS %p", (void *)7, REC->p', "0x7 0000000000001010"),
        ('"%pI4 %pI4h %pi4", REC->ip, REC->ip, REC->ip', "0.1.2.3 3.2.1.0 000.001.002.003"),
        ('"%pI6 %pi6", REC->ip, REC->ip', "0001:0203:0405:0607:0809:0a0b:0c0d:0e0f 000102030405060708090a0b0c0d0e0f"),
        ('"%pM %pMF %pMR %pm", REC->ip, REC->ip, REC->ip, REC->ip', "00:01:02:03:04:05 00-01-02-03-04-05 05:04:03:02:01:00 000102030405"),
        ('"%pU %pUL", REC->ip, REC->ip', "00010203-0405-0607-0809-0a0b0c0d0e0f 03020100-0504-0706-0809-0A0B0C0D0E0F"),
        ('"%4phC %*phN", REC->ip, 3, REC->ip', "00:01:02:03 000102"),
        ('"%s %s", __print_hex(REC->ip, 3), __print_hex_str(__get_dynamic_array(m), 99)', "00 01 02 01020304"),
        ('"%s", __print_array(__get_dynamic_array(m), __get_dynamic_array_len(m) / sizeof(u16), sizeof(u16))', "{0x201,0x403}"),
        ('"%s", __print_flags(REC->b, "|", { 8, "EIGHT" }, { 0x40, "X" }, { (1UL << 7), "HIGH" })', "EIGHT|X|HIGH"),
        ('"%s", __print_flags(0, "|", { 8, "EIGHT" })', ""),
        ('"%s", __print_flags(9, "", { 8, "EIGHT" })', "EIGHT0x1"),
        ('"%s %s", __print_symbolic(REC->b, { 200, "TWO" }), __print_symbolic(REC->a, { 1, "ONE" })', "TWO 0xfffffffffffffffe"),
        ('"%s", __print_symbolic(REC->a, { -2, "MINUS" })', "MINUS"),
        ('"%s %s", __get_bitmask(m), __get_cpumask(m)', "04030201 04030201"),
        ('"%*pbl", 16, REC->ip', "8"),
        ('"%llu.%06u", __print_ns_to_secs(1500000000), __print_ns_without_secs(1500000000)', "1.500000000"),
        ('"%u", jiffies_to_msecs(REC->b)', "800"),
        ('"%s", REC->p', "(0x1010)"),
        ('"%d-%d", REC->common_pid, REC->common_type', "1-42"),
    ],
)
def test_conversions(print_fmt, expected):
    assert text(print_fmt, VALUES) == expected


def test_addresses_of_sockets():
    fields = ("__u8 sa[28];\toffset:8;\tsize:28;\tsigned:0;",)
    known = event('"%pISpc %pIS", REC->sa, REC->sa', fields)
    four = record(known, {"sa": b"\x02\0\x1f\x90\x7f\0\0\x01"})
    six = record(known, {"sa": b"\x0a\0\x1f\x90\0\0\0\0" + bytes(15) + b"\x01"})
    render = compile_format(known, Env("<"))
    assert render(four) == "127.0.0.1:8080 127.0.0.1"
    assert render(six) == "[::1]:8080 0000:0000:0000:0000:0000:0000:0000:0001"
    assert render(record(known, {"sa": b"\x01"})) == "(einval) (einval)"
    report = compile_format(known, Env("<", dialect="trace-cmd"))
    assert report(record(known, {"sa": b"\x01"})) == " "


def test_the_other_byte_order_and_long():
    for order in "<>":
        assert text('"%d %u %s %d", REC->c, REC->d, __get_str(s), REC->n[1]', VALUES | {"n": (b"\0\0\0\x05" * 3)}, order).startswith(
            "-3 4294967295 text"
        )
    known = event('"%lx %p", REC->e, REC->p')
    assert compile_format(known, Env("<", 4))(record(known, {"e": -1, "p": 0x1234})) == "ffffffff 00001234"


def test_enumerators_and_layouts_of_the_kernel():
    role = Struct(
        "role",
        4,
        (Member("word", Int("u32", 4, False), 0), Member("level", Int("u32", 4, False), 0, 4), Member("up", Int("u32", 4, False), 4, 1)),
        "union",
    )
    print_fmt = (
        '"%s", ({ const char *saved = trace_seq_buffer_ptr(p); static const char *names[] = { "zero", "one" }; union role role; '
        'role.word = REC->d; trace_seq_printf(p, "l%u %s" " %s%c", role.level, names[role.up], REC->b ? "b" : "", 0); saved; })'
    )
    assert text(print_fmt, {"d": 0x15, "b": 1}, struct=lambda name: role if name == "union role" else None) == "l5 one b"
    assert text('"%s", __print_symbolic(REC->b, { MINE, "mine" })', {"b": 9}, constant={"MINE": 9}.get) == "mine"
    assert text('"%s", __print_symbolic(REC->b, { TCP_LISTEN, "listen" })', {"b": 10}) == "listen"


def test_what_only_the_kernel_knows_is_a_question_mark():
    known = event('"%lu %d", (jiffies - REC->e) / 250, REC->b')
    renderer = compile_format(known, Env("<"))
    assert renderer(record(known, {"b": 3})) == "? 3"
    assert renderer.problem == "" and "jiffies" in renderer.unknown[0]
    assert text('"%ps %lx %p %s", REC->n, REC->n, REC->n, REC->n ? "there" : "not"') == "? ? ? there"  # where the record was
    known = event('"%s", __print_flags(REC->b, "|", { NOBODY, "N" }, { 2, "TWO" })')
    assert compile_format(known, Env("<"))(record(known, {"b": 3})) == "TWO|0x1"


@pytest.mark.parametrize(
    "print_fmt", ['"%d"', '"%d" REC->b', "REC->b", '"%d", REC->none', '"%d", (REC->b', '"%d", REC->b @ 1', '"', "", '"%n", 1']
)
def test_formats_that_cannot_be_compiled_print_fields(print_fmt):
    renderer = compile_format(event(print_fmt), Env("<"))
    out = renderer(record(event(print_fmt), VALUES))
    assert (renderer.problem and " b=200 " in out and " name=nine" in out) or (not renderer.problem and out == "?")


def test_short_and_lying_records():
    known = event('"%d %s %s %s", REC->b, __get_str(s), REC->name, __print_hex(__get_dynamic_array(m), 8)')
    renderer = compile_format(known, Env("<"))
    whole = record(known, VALUES)
    assert renderer(whole[:10]) == "200   2a 00 00 00 01 00 00 00"  # where a missing reference leads: the record's start
    for size in range(len(whole)):
        renderer(whole[:size])
    lying = bytearray(whole)
    lying[40:44] = b"\xf0\xff\xff\xff"
    assert renderer(bytes(lying) + b"secret" * 20, 0, len(whole)) == "200  nine 01 02 03 04"
    many = renderer.lines("", whole[:10], [0, 0], [10, 9], 9)
    assert many == [renderer(whole[:10]), renderer(whole[:9])]


@pytest.mark.parametrize(
    ("print_fmt", "kernel", "report"),
    [
        ('"%d", REC->a', "-2", "254"),  # libtraceevent reads without the sign
        ('"%d", 10 - 3 + 2', "9", "5"),  # and groups to the right
        ('"%d", REC->b & (8 | 1)', "8", "9"),  # and forgets the parentheses
        ('"%d", (0 ? 1 : 2) + 3', "5", "5"),
        ('"%p %p", REC->p, (void *)0', "0000000000001010 0000000000000000", "0x1010 (nil)"),
        ('"%#x", REC->b - 200', "0x0", "0"),
        ('"%pS", REC->p', "do_it+0x10/0x100", "do_it+0x10"),
        ('"%s", __print_symbolic(REC->b, { UNKNOWN_NAME, "u" })', "0xc8", "0xc8"),
        ('"%s", __print_flags(0, "|", { UNKNOWN_NAME, "u" })', "", "u"),
        ('"[%-6s]", __print_symbolic(REC->b, { 200, "two" })', "[two   ]", "[two   ]"),
        ('"[%-6s]", __print_symbolic(REC->b, { 1, "one" })', "[0xc8  ]", "[0xc8]"),
        ('"%s", REC->p', "(0x1010)", "1010"),
        ('"%s", __get_cpumask(m)', "04030201", "0,9,16-17,26"),
    ],
)
def test_dialects_differ(print_fmt, kernel, report):
    assert text(print_fmt, VALUES) == kernel
    assert text(print_fmt, VALUES, dialect="trace-cmd") == report


@pytest.mark.parametrize("dialect", ["kernel", "trace-cmd", "trace-cmd-3.1"])
@pytest.mark.parametrize("precision, shown", [("2", "[ab]"), ("99999999999", "[abc]"), ("2147483648", "[abc]"), ("-3", "[]"), ("", "[]")])
def test_precisions_of_texts(precision, shown, dialect):
    """Python takes none beyond an int's, and no negative one."""
    assert text(f'"[%.{precision}s]", REC->name', {"name": b"abc"}, dialect=dialect) == shown


def test_the_old_libtraceevent_does_not_know_characters():
    assert text("\"<%c%c>\", REC->b ? 'F' : 'x', REC->b ? 'S' : 'y'", VALUES, dialect="trace-cmd") == "<FS>"
    assert text("\"<%c%c>\", REC->b ? 'F' : 'x', REC->b ? 'S' : 'y'", VALUES, dialect="trace-cmd-3.1") == "<>c<>c<>"


def test_events_with_texts_of_their_own():
    fields = (
        "int __syscall_nr;\toffset:8;\tsize:4;\tsigned:1;",
        "int fd;\toffset:16;\tsize:8;\tsigned:0;",
        "char * buf;\toffset:24;\tsize:8;\tsigned:0;",
    )
    enter = event('"fd: 0x%08lx", ((unsigned long)(REC->fd))', fields, "sys_enter_read", "syscalls")
    payload = record(enter, {"fd": 3, "buf": 0x7FF0})
    assert compile_format(enter, Env("<"))(payload) == "sys_read(fd: 3, buf: 0x7ff0)"
    assert compile_format(enter, Env("<", bare_syscalls=True))(payload) == "sys_read(fd: 3, buf: 7ff0)"
    assert compile_format(enter, Env("<", dialect="trace-cmd"))(payload) == "fd: 0x00000003"
    switch = event(
        '"x"',
        (
            "char prev_comm[16];\toffset:8;\tsize:16;\tsigned:0;",
            *[
                f"int {n};\toffset:{24 + 4 * i};\tsize:4;\tsigned:1;"
                for i, n in enumerate(("prev_pid", "prev_prio", "prev_state", "next_pid", "next_prio"))
            ],
            "char next_comm[16];\toffset:44;\tsize:16;\tsigned:0;",
        ),
        "sched_switch",
        "sched",
    )
    values = {"prev_comm": "bash", "prev_pid": 7, "prev_prio": 120, "prev_state": 3, "next_comm": "ls", "next_pid": 9, "next_prio": 98}
    assert compile_format(switch, Env("<", dialect="trace-cmd"))(record(switch, values)) == "bash:7 [120] S|D ==> ls:9 [98]"
    function = event(
        '""',
        ("unsigned long ip;\toffset:8;\tsize:8;\tsigned:0;", "unsigned long parent_ip;\toffset:16;\tsize:8;\tsigned:0;"),
        "function",
        "ftrace",
    )
    assert compile_format(function, Env("<", symbol=symbol))(record(function, {"ip": 0x1004, "parent_ip": 0x2000})) == "do_it <-far"


def test_exits_of_virtual_machines_have_names():
    fields = (
        "unsigned int exit_reason;\toffset:8;\tsize:4;\tsigned:0;",
        "unsigned int isa;\toffset:12;\tsize:4;\tsigned:0;",
        "unsigned long guest_rip;\toffset:16;\tsize:8;\tsigned:0;",
        "u64 info1;\toffset:24;\tsize:8;\tsigned:0;",
        "u64 info2;\toffset:32;\tsize:8;\tsigned:0;",
    )
    leave = event('"x"', fields, "kvm_exit", "kvm")
    text = compile_format(leave, Env("<", dialect="trace-cmd"))
    rest = "rip 0xf0 info 1 2"
    for reason, isa, shown in (
        (12, 1, "HLT"),
        (0x78, 2, "EXIT_HLT"),
        (0xFFFFFFFF, 2, "EXIT_ERR"),
        (99, 1, "UNKNOWN (99)"),
        (0, 3, "UNKNOWN-ISA"),
    ):
        values = {"exit_reason": reason, "isa": isa, "guest_rip": 0xF0, "info1": 1, "info2": 2}
        assert text(record(leave, values)) == f"reason {shown} {rest}"
    enter = event('"x"', ("u32 vcpu_id;\toffset:8;\tsize:4;\tsigned:0;",), "kvm_entry", "kvm")
    assert compile_format(enter, Env("<", dialect="trace-cmd"))(record(enter, {"vcpu_id": 3})) == " vcpu 3 rip 0x0"


def test_trace_printk():
    env = Env("<", symbol=symbol)
    data = b"\x05\0\0\0" + b"ab\0" + b"\0" + b"\xff\0\0\0\0\0\0\0" + b"\x00\x10\0\0\0\0\0\0"
    assert binary_printf("n=%d s=%s x=%lx f=%ps 100%%", data, env) == "n=5 s=ab x=ff f=do_it 100%"
    assert binary_printf("%d %d %s", b"", env) == "0 0 "


def test_fields_as_the_kernel_lists_them():
    known = event('""')
    out = kernel_fields_text(known, Env("<"))(record(known, VALUES))
    assert out.startswith(" n=<INVALID-SIZE> ip=<INVALID-SIZE> m=01,02,03,04 r=rel s=text name=nine p=0x1010 (4112)")
    assert out.endswith(" b=(200) a=(254)")


@settings(max_examples=200, deadline=None)
@given(st.text('"%dspxREC->abmns()[]{},+-*/&|?:<=!~1 0x_', max_size=80), st.randoms(use_true_random=False))
def test_hostile_formats_give_a_renderer(body, rng):
    """Whatever a format file holds compiles or is refused, for both dialects, and renders any record."""
    known = event(f'"%d %s %p", {body}'.replace("\n", " "))
    for dialect in ("kernel", "trace-cmd"):
        renderer = compile_format(known, Env("<", dialect=dialect))
        renderer(random_record(known, random.Random(rng.random())))


def test_a_name_may_hold_anything():
    assert compile_format(event('"%d", REC->a', name="a\0'b"), Env("<"))(bytes(80)) == "0"


def test_deep_nesting_is_refused():
    for body in ("(" * 5000 + "1" + ")" * 5000, "!" * 5000 + "1", "1 ? " * 3000 + "1", "-" * 3000 + "1", "1" + " + 1" * 3000):
        for dialect in ("kernel", "trace-cmd"):
            renderer = compile_format(event(f'"%d", {body}'), Env("<", dialect=dialect))
            assert renderer(bytes(80))


@pytest.mark.parametrize("entries", [0, 5, 8, 9])
@pytest.mark.parametrize("dialect", ["kernel", "trace-cmd"])
def test_a_stack_is_as_long_as_its_record(entries, dialect):
    """Formats since Linux 5.12 say that there are 8 addresses; records have fewer or more."""
    fields = ("int size;\toffset:8;\tsize:4;\tsigned:1;", "unsigned long caller[8];\toffset:16;\tsize:64;\tsigned:0;")
    stack = compile_format(event('"x"', fields, "kernel_stack", "ftrace"), Env("<", dialect=dialect, symbol=symbol))
    data = struct.pack(f"<HBBiiI{entries}Q", 42, 0, 0, 7, entries, 0, *[0x1010] * entries)
    for text in (stack(data), stack.lines("", data, [0], [len(data)], len(data))[0]):
        assert text.count("=> do_it") == text.count("=>") == entries
    filled = stack(data + bytes(16))  # Linux 6.1's timerlat leaves room behind a stack, which both print
    assert filled.count("=> 0\n") == 2 and filled.count("=> ") == entries + 2
    marked = struct.pack("<HBBiiI2Q", 42, 0, 0, 7, 2, 0, 0x7FFFFFFF, 0x1010)  # in place of the function tracer's own code
    assert stack(marked).startswith(
        "<stack trace>\n => [FTRACE TRAMPOLINE]\n => do_it" if dialect == "kernel" else "<stack trace >\n=> 7fffffff\n"
    )


def test_code_that_kallsyms_only_lists_has_no_name_in_the_kernels_layout():
    class File:
        order, long_size, printk, comm, uname = "<", 8, None, None, ""
        symbols = Symbols(
            b"ffffffff81000000 T _stext\nffffffff81002000 T _end\nffffffffc0205000 t ftrace_trampoline\t[__builtin__ftrace]\n"
            b"ffffffffc0206000 t kprobe_insn_page\t[__builtin__kprobes]\nffffffffc0207000 t bpf_prog_1\t[bpf]\n"
            b"ffffffffc0208000 t last\t[ext4]\n"
        )

    def named(dialect):
        symbol = Env.of_file(File, dialect).symbol
        return [found and found[0] for found in map(symbol, (0xFFFFFFFFC0205083, 0xFFFFFFFFC0206001, 0xFFFFFFFFC0207002))]

    assert named("kernel") == [None, None, "bpf_prog_1 [bpf]"]
    assert named("trace-cmd") == ["ftrace_trampoline [__builtin__ftrace]", "kprobe_insn_page [__builtin__kprobes]", "bpf_prog_1 [bpf]"]


def test_how_a_recorded_kernel_prints_is_told_by_its_release():
    def of(uname):
        class File:
            order, long_size, symbols, printk, comm = "<", 8, Symbols(b""), None, None

        File.uname = uname
        return [(env.bare_syscalls, env.letters) for env in (Env.of_file(File, "kernel"), Env.of_file(File))]

    for release, wanted in (
        ("5.10.0-32-amd64", (True, 4)),
        ("5.15.1", (True, 5)),
        ("6.17.9", (True, 5)),
        ("6.18", (False, 5)),
        ("7.0-rc1", (False, 5)),
    ):
        assert of(f"Linux host {release} x86_64") == [wanted, (False, 5)]
    for uname in (
        "",
        "Linux host",
        "Linux host what x86_64",
        "Linux host 6 x86_64",
        "Linux host 6.x x86_64",
        "Linux host " + "9" * 9000 + ".1",
    ):
        assert of(uname) == [(False, 5)] * 2


def test_symbols_of_a_recording():
    """The kernel tells a function's size and takes the first of several names; libtraceevent takes any name in a format for a symbol's."""

    class File:
        order, long_size, printk, comm, uname = "<", 8, None, None, ""
        symbols = Symbols(
            b"0000000000000010 A per_cpu\n0000000000001000 T _stext\n0000000000001010 T first\n0000000000001010 T alias\n"
            b"0000000000001100 D base\n0000000000002000 T _end\n0000000000009000 t init\t[mod]\n0000000000009010 t exit\t[mod]\n"
        )

    kernel, report = Env.of_file(File, "kernel"), Env.of_file(File)
    assert kernel.symbol(0x1012) == ("first", 0x1010, 0xF0) and kernel.symbol(0x9001) == ("init [mod]", 0x9000, 0x10)
    assert kernel.symbol(0x9010) == ("exit [mod]", 0x9010, 0) and kernel.symbol(0x9011) is None and kernel.symbol(0x10) is None
    assert report.symbol(0x1012)[1:] == (0x1010, 0)
    assert [report.address(name) for name in ("base", "init", "nothing", "per_cpu")] == [0x1100, 0x9000, None, None]
    page = event('"%pS page=%p", REC->p, (((struct page *)base) + REC->b)')
    values = VALUES | {"p": 0x1012}
    assert compile_format(page, report)(record(page, values)) == f"first+0x2 page=0x{0x1100 + VALUES['b']:x}"
    sized = event('"%pS", REC->p')
    assert compile_format(sized, kernel)(record(sized, values)) == "first+0x2/0xf0"
