"""The language from text to effect: compiled for a made-up kernel, run in the interpreter, judged by what it prints and keeps."""

from __future__ import annotations

import sys

import pytest

sys.path.insert(0, __file__.rsplit("/", 1)[0])

from language_machine import TASK, problems, run, unit  # noqa: E402

from harken.compiler.unit import RING  # noqa: E402
from harken.languages.bpftrace.ring import QUIET, USUAL  # noqa: E402

SAYS = [
    ('BEGIN { printf("%d %s|%5d|%-5d|%05d %x\\n", 1, "a", 42, 42, 42, 255); }', "1 a|   42|42   |00042 ff\n"),
    ('BEGIN { printf("%s %d\\n", comm, pid); }', "interpreter 4242\n"),
    ('BEGIN { printf("%d %d %d %d\\n", tid, uid, gid, cpu); }', "4243 1000 1000 0\n"),
    # arithmetic
    ('BEGIN { printf("%d %d %d\\n", 7/2, -7/2, -7%3); }', "3 -3 -1\n"),
    ('BEGIN { $a = 10; $b = 3; printf("%d %d %d %d %d\\n", $a/$b, $a%$b, $a<<$b, $a^$b, $a>>1); }', "3 1 80 9 5\n"),
    ('BEGIN { $a = -8; printf("%d %d\\n", $a >> 1, $a / 3); }', "-4 -2\n"),
    ("BEGIN { print(0xffffffffffffffff); print(-5); print(1 << 40); print(~0); }", "18446744073709551615\n-5\n1099511627776\n-1\n"),
    ("BEGIN { $u = (uint64)5; print($u - 6); print($u * 2); }", "-1\n10\n"),
    ("BEGIN { print((uint8)300); print((int8)200); print((uint32)-1); }", "44\n-56\n4294967295\n"),
    ("BEGIN { $a = (uint16)65535; print($a + 1); }", "65536\n"),
    ("BEGIN { print(5 & 3 == 1); print(1 | 2 ^ 3); print(2 + 3 * 4); print((2 + 3) * 4); }", "0\n1\n14\n20\n"),
    ("BEGIN { print(1_000); print(0x1f); print(017); print(1e3); print(2ms); }", "1000\n31\n15\n1000\n2000000\n"),
    # comparisons and logic
    ("BEGIN { print(3 > 2); print(1 && 0); print(0 || 7); print(!5); }", "true\nfalse\ntrue\nfalse\n"),
    ("BEGIN { $x = 3; if ($x > 1 && $x < 5) { print(1); } if (!($x == 3)) { print(2); } }", "1\n"),
    ('BEGIN { $x = -1; if ($x < 1) { print("signed"); } }', "signed\n"),
    ('BEGIN { $s = 1 ? "yes" : "no"; print($s); print(0 ?: 9); }', "yes\n9\n"),
    ("BEGIN { $x = if (1 > 0) { 5 } else { 6 }; print($x); $y = { let $z = 3; $z * 2 }; print($y); }", "5\n6\n"),
    # variables
    ("BEGIN { $x = 5; $y = $x++; $z = ++$x; $x -= 2; print(($x, $y, $z)); }", "(5, 5, 7)\n"),
    ("BEGIN { let $x; if (pid > 0) { $x = 3; } print($x); let $y: uint64 = 9; print($y); }", "3\n9\n"),
    ("BEGIN { $x = 1; $x = 100000; print($x); }", "100000\n"),
    # strings
    ('BEGIN { if ("abc" == "abc") { print("eq"); } if (comm == "interpreter") { print("me"); } if (comm != "x") { print("ne"); } }',
     "eq\nme\nne\n"),
    ('BEGIN { if (comm == "interprete") { print("short"); } if (comm == "interpreters") { print("long"); } print("none"); }', "none\n"),
    ('BEGIN { $c = comm; if ($c == comm) { print("same"); } print(strncmp("abcd", "abcf", 3)); print(strncmp(comm, "intx", 4) != 0); }',
     "same\n0\ntrue\n"),
    ('BEGIN { print(strlen("abc")); print(strlen(comm)); print(strcontains(comm, "pret")); print(strcontains(comm, "pretz")); }',
     "3\n11\ntrue\nfalse\n"),
    ('BEGIN { $s = "hello"; printf("%c%c", $s[0], $s[4]); $i = 1; printf("%c\\n", $s[$i]); }', "hoe\n"),
    ('BEGIN { printf("%r %rx %rh\\n", buf("a\\x01b", 3), buf("ab", 2), buf("ab", 2)); }', "a\\x01b \\x61\\x62 61 62\n"),
    # loops
    ("BEGIN { $i = 0; while ($i < 5) { if ($i == 3) { break; } $i++; if ($i == 2) { continue; } print($i); } }", "1\n3\n"),
    ('BEGIN { for ($i : 2..5) { printf("%d,", $i); } }', "2,3,4,"),
    ('BEGIN { for ($i : -2..1) { printf("%d,", $i); } for ($i : 5..2) { printf("no"); } }', "-2,-1,0,"),
    ("BEGIN { $s = 0; for ($i : 0..10) { if ($i == 7) { break; } $s += $i; } print($s); }", "21\n"),
    ('BEGIN { for ($i : 0..3) { for ($j : 0..2) { printf("%d%d ", $i, $j); } } }', "00 01 10 11 20 21 "),
    ('BEGIN { for ($i : 0..3) { if ($i == 1) { return; } print($i); } print("no"); }', "0\n"),
    ('BEGIN { unroll(3) { printf("x"); } }', "xxx"),
    ("BEGIN { @m[1] = 10; @m[2] = 20; $t = 0; for ($kv : @m) { $t += $kv.0 * $kv.1; } print($t); }", "50\n"),
    ('BEGIN { @m[1,"a"] = 10; for ($kv : @m) { print($kv); print($kv.0.1); } }', "((1, a), 10)\na\n"),
    ('BEGIN { @m["a"] = 1; $last = "none"; for ($kv : @m) { $last = $kv.0; } print($last); }', "a\n"),
    # tuples, arrays, pointers
    ('BEGIN { $t = (1, "abc", (2, 3)); print($t); print($t.2.1); print((a=1, b="x")); }', "(1, abc, (2, 3))\n3\n{ .a = 1, .b = x }\n"),
    ("BEGIN { $a = (uint8[8])12345; print($a[0]); print($a); if ((1,2) == (1,2)) { print(1); } }", "57\n[57,48,0,0,0,0,0,0]\n1\n"),
    ("BEGIN { $p = (int32*)1000; $p++; print($p); print($p - 1); $q = (int8*)16; print($q + 2); }", "0x3ec\n0x3e8\n0x12\n"),
    # maps as values
    ('BEGIN { @x = 5; @x++; @x *= 2; print(@x + 0); @s = "hi"; printf("%s\\n", @s); $y = @s; print($y); }', "12\nhi\nhi\n"),
    ("BEGIN { @a = 5; $q = @a++; $r = ++@a; print((@a, $q, $r)); print(@none[1]); @none[2] = 1; }", "(7, 5, 7)\n0\n"),
    ('BEGIN { @x["a"] = 1; print(has_key(@x, "a")); print(delete(@x, "a")); print(has_key(@x, "a")); print(len(@x)); }',
     "true\ntrue\nfalse\n0\n"),
    ("BEGIN { @c = count(); @c = count(); if (@c > 1) { print(@c + 0); } @a = avg(4); @a = avg(8); print(@a + 0); @m = min(3);"
     " print(@m + 0); }",
     "2\n6\n3\n"),
    # types
    ("BEGIN { print(sizeof(uint32)); print(sizeof(struct task_struct)); print(offsetof(struct task_struct, comm)); }", "4\n48\n16\n"),
    ('BEGIN { print(SLEEPING); $e = SLEEPING; printf("%s %d\\n", $e, $e); print((enum state)0); }', "SLEEPING\nSLEEPING 1\nRUNNING\n"),
    ('BEGIN { print(ntop(0x0100007f)); printf("%s\\n", usym(16)); print(bswap((uint32)0x01020304)); }', "127.0.0.1\n0x10\n67305985\n"),
    ("BEGIN { print(nsecs); print(probe); print(ncpus); }", "5000000000\nBEGIN\n1\n"),
    # filters
    ("BEGIN /pid == 1/ { print(1); } BEGIN /pid == 4242 && 1/ { print(2); } BEGIN /10 / 2 == 5/ { print(3); }", "2\n3\n"),
]  # fmt: skip


@pytest.mark.parametrize("program, output", SAYS, ids=range(len(SAYS)))
def test_says(program: str, output: str) -> None:
    assert run(program).text == output


def test_positional_parameters() -> None:
    assert run('BEGIN { print($1 + 1); print(str($2)); print($#); unroll($1) { printf("x"); } }', ("3", "abc")).text == "4\nabc\n2\nxxx"
    assert unit("interval:ms:$1 { }", ("5",)).spec.programs[0].attach[0].probe == "interval:ms:5"


def test_tracepoint_fields() -> None:
    ctx = bytes(8) + b"swapper\0".ljust(16, b"\0") + (120).to_bytes(4, "little") + (6 << 16 | 32).to_bytes(4, "little") + b"hello\0\0\0"
    program = (
        'tracepoint:sched:sched_switch { printf("%d %d\\n", args.prev_prio, args.prev_comm == "swapper"); @[args.prev_prio] = count(); }'
    )
    assert run(program, ctx=ctx, memory={}).map("@") == {120: 1}


def test_user_string() -> None:
    ctx = bytes(24) + (0x5000).to_bytes(8, "little")
    program = 'tracepoint:syscalls:sys_enter_openat { printf("%s %d\\n", str(args.filename), args.dfd); @[str(args.filename)] = count(); }'
    ran = run(program, ctx=ctx, memory={0x5000: b"/etc/passwd\0"}, times=2)
    assert ran.text == "/etc/passwd 0\n" * 2
    assert ran.map("@") == {"/etc/passwd": 2}
    unreadable = run(program, ctx=ctx)
    assert unreadable.text == " 0\n"


def test_kernel_structs() -> None:
    task = (77).to_bytes(4, "little") + bytes(4) + (0xFFFF_8000_0000_2000).to_bytes(8, "little") + b"kworker".ljust(16, b"\0")
    task += bytes([0b10101_101]) + bytes(3) + (1).to_bytes(2, "little") + (2).to_bytes(2, "little") + (3).to_bytes(2, "little") + bytes(6)
    mm = (9).to_bytes(4, "little") + bytes(4) + TASK.to_bytes(8, "little")
    memory = {TASK: task, 0xFFFF_8000_0000_2000: mm}
    program = (
        "BEGIN { $t = curtask; print($t->pid); print($t->comm); print(curtask->mm->users); print(curtask->mm->owner->pid); "
        "print(curtask.pid); "
        "print($t->flags); print($t->rest); print($t->ports[2]); $i = 1; print($t->ports[$i]); print($t->ports);"
        '@[curtask->comm] = count(); if (curtask->comm == "kworker") { print("kw"); } print(((struct task_struct *)curtask)->pid); }'
    )
    ran = run(program, memory=memory)
    assert ran.text == "77\nkworker\n9\n77\n77\n5\n21\n3\n2\n[1,2,3,0]\nkw\n77\n"
    assert ran.map("@") == {"kworker": 1}
    fields = {name for program in unit(program).spec.programs for name in (program.name,)}
    assert fields == {"begin_0"}


def test_aggregations() -> None:
    ran = run(
        "BEGIN { @c = count(); @s = sum(-5); @lo = min(3); @lo = min(-2); @hi = max(9); @hi = max(4); "
        "@a = avg(4); @a = avg(9); @t[1] = stats(7); }"
    )
    assert ran.map("@c") == {(): 1} or ran.map("@c")[()] == 1
    assert [ran.map(name)[()] for name in ("@s", "@lo", "@hi", "@a")] == [-5, (-2, 1), (9, 1), (13, 2)]
    assert ran.map("@t") == {1: (7, 1)}


@pytest.mark.parametrize(
    "value, bucket",
    [(-3, 0), (0, 1), (1, 2), (2, 3), (3, 3), (4, 4), (7, 4), (8, 5), (1 << 20, 22), ((1 << 62) + 1, 64), ((1 << 63) - 1, 64)],
)
def test_hist_buckets(value: int, bucket: int) -> None:
    counts = run(f"BEGIN {{ $v = {value}; @ = hist($v); }}").map("@")[()]
    assert [i for i, count in enumerate(counts) if count] == [bucket]


def test_hist_with_bits() -> None:
    found = [list(run(f"BEGIN {{ $v = {value}; @ = hist($v, 2); }}").map("@")[()]) for value in (0, 3, 4, 5, 8, 9, 10)]
    assert [counts.index(1) for counts in found] == [1, 4, 5, 6, 9, 9, 10]


def test_lhist_buckets() -> None:
    counts = run("BEGIN { @ = lhist(-1, 0, 10, 2); @ = lhist(0, 0, 10, 2); @ = lhist(9, 0, 10, 2); @ = lhist(10, 0, 10, 2); }").map("@")[()]
    assert counts == (1, 1, 0, 0, 0, 1, 1)


def test_keys_are_canonical() -> None:
    """Strings of different origin and padding between parts do not make two keys of one."""
    ran = run('BEGIN { @[(uint8)1, (uint64)2, comm] = count(); @[1, 2, "interpreter"] = count(); $c = comm; @[1, 2, $c] = count(); }')
    assert ran.map("@") == {(1, 2, "interpreter"): 3}


def test_full_map_is_counted() -> None:
    ran = run("let @x = hash(1); BEGIN { @x[1] = 1; @x[2] = 1; @x[3]++; }")
    slot = ran.unit.losses.index(("map", "@x"))
    lost = ran.machine.maps["harken_loss"].values[slot.to_bytes(4, "little")]
    assert int.from_bytes(ran.machine.regions[lost].data, "little") == 2


def test_actions_and_their_order() -> None:
    program = (
        'BEGIN { @x[1] = 1; print(@x, 5, 2); clear(@x); zero(@x); time("%H\\n"); cat("/a%d", 1); warnf("w %d", 2); exit(3); print("no"); }'
    )
    assert run(program).actions == [
        ("print_map", "@x", 5, 2),
        ("clear", "@x"),
        ("zero", "@x"),
        ("time", "%H\n"),
        ("cat", "/a%d", 1),
        ("warnf", "w %d", 2),
        ("exit", 3),
    ]
    assert run("BEGIN { exit(pid % 10); }").actions == [("exit", -1, 2)]


def test_division_by_zero_warns() -> None:
    program = "BEGIN { $z = 0; if (pid) { $z = pid - 4242; } print(5 / $z); print(5 % $z); }"
    ran = run(program)
    column = program.index("5 / $z") + 1
    assert [a[0] for a in ran.actions] == ["error", "print_value", "error", "print_value"]
    assert ran.text == "1\n1\n"
    assert ran.actions[0][1:] == ("div_zero", f"stdin:1:{column}-{column + 6}")


def test_endless_loop_is_stopped() -> None:
    ran = unit("BEGIN { while (1) { @++; } }")
    assert any(event.action == "error" and event.args[0] == "loop_limit" for event in ran.events)


def test_pid_filter() -> None:
    assert run('profile:s:1 { print("x"); }', pid=4242).text == "x\n"
    assert run('profile:s:1 { print("x"); }', pid=1).text == ""
    # an interval belongs to nobody: it runs whatever process the timer interrupts
    assert run('interval:s:1 { print("x"); }', pid=1).text == "x\n"
    assert run('BEGIN { print("x"); }', pid=1).text == "x\n"


def test_the_command_is_known_to_the_program() -> None:
    program = "BEGIN { print(cpid); print(has_cpid); @[cpid] = sum(cpid); } profile:s:1 /pid == cpid/ { print(2); }"
    assert run(program, cpid=4242).text == "4242\ntrue\n2\n"
    assert run('BEGIN { print(has_cpid); if (has_cpid) { print("x"); } }').text == "false\n"


def test_elapsed_begins_with_a_program_of_its_own() -> None:
    made = unit("BEGIN { print(elapsed); }")
    assert made.runs == (("begin", "start"), ("begin", "begin_0"))
    assert run("BEGIN { print(elapsed); }").text == "0\n"


def test_tables_and_runs() -> None:
    made = unit('BEGIN { @[comm, pid] = count(); @s = "x"; } END { @t = 1; }')
    assert made.runs == (("begin", "begin_0"), ("end", "end_1"))
    first = next(table for table in made.tables if table.name == "@")
    assert (first.map, first.kind, first.per_cpu, first.key.size) == ("AT_", "count", True, 20)
    assert [(f.offset, f.kind, f.count) for f in first.key.fields] == [(0, "s", 16), (16, "I", 1)]
    assert {spec.name: spec.type for spec in made.spec.maps if spec.name.startswith("AT")} == {"AT_": 5, "AT_s": 2, "AT_t": 2}


def test_same_text_same_unit() -> None:
    program = 'BEGIN { @[comm] = hist(pid); for ($kv : @x) { print($kv.0); } @x[1] = 2; printf("%s", comm); }'
    assert unit(program).to_plain() == unit(program).to_plain()


def test_names_fit_the_kernel() -> None:
    made = unit("BEGIN { @a_very_long_map_name_1 = 1; @a_very_long_map_name_2 = 2; } tracepoint:sched:sched_switch { @++; }")
    assert all(len(program.name) <= 15 for program in made.spec.programs)
    names = [spec.name for spec in made.spec.maps]
    assert len(set(names)) == len(names) and all(len(name) <= 15 for name in names if name.startswith("AT_"))


def test_config() -> None:
    made = unit("config = { max_strlen = 32; max_map_keys = 7; print_maps_on_exit = false } BEGIN { @[str(0)] = 1; }")
    assert dict(made.config)["print_maps_on_exit"] is False
    assert (made.spec.map("AT_").key_size, made.spec.map("AT_").max_entries) == (32, 7)


@pytest.mark.parametrize(
    "setting, wanted",
    [
        ("max_map_keys = 4294967296", "a number from 1 to 4294967295"),
        ("max_strlen = 1", "a number from 2 to 16384"),
        ("max_strlen = true", "a number from 2 to 16384"),
        ("max_probes = 0", "a positive number"),
        ("missing_probes = perhaps", "error, warn or ignore"),
        ("license = 1", "a word"),
        ("cpp_demangle = 2", "true or false"),
    ],
)
def test_config_takes_what_makes_sense(setting: str, wanted: str) -> None:
    assert f"expecting {wanted}, got" in problems(f"config = {{ {setting} }} BEGIN {{ }}")[0].message


def test_warnings_travel_with_the_unit() -> None:
    made = unit('BEGIN { strlen("a"); if (comm == "a name that is too long") { } }')
    assert [message.split(".")[0] for _, message, _ in made.warnings] == [
        "Return value discarded",
        "The literal is longer than the variable string (size=16)",
    ]


WRONG = [
    ('BEGIN { printf("%d\\n"); }', "not enough arguments for format string (0 supplied, 1 expected)"),
    ('BEGIN { printf("x", 1); }', "too many arguments for format string (1 supplied, 0 expected)"),
    ('BEGIN { printf("%d", "a"); }', "unsupported format specifier for type 'string[2]': d"),
    ('BEGIN { printf("%y", 1); }', "unknown format specifier: %y"),
    ("BEGIN { print($x); }", "Undefined or undeclared variable: $x"),
    ("BEGIN { if (1) { $x = 1; } print($x); }", "Undefined or undeclared variable: $x"),
    ("BEGIN { print(@nope); }", "Undefined map: @nope"),
    ('BEGIN { @x = 1; @x = "a"; }', "Type mismatch for @x: trying to assign value of type 'string[2]' when map already has a type 'int8'"),
    ('BEGIN { @g[1,2] = 1; @g[1,"ab"] = 2; }',
     "Argument mismatch for @g: trying to access with arguments: '(int8,string[3])' when map expects arguments: '(int8,int8)'"),
    ("BEGIN { let $q: uint8 = 300; }",
     "Type mismatch for $q: trying to assign value of type 'int16' when variable already has a type 'uint8'"),
    ('BEGIN { system("ls"); }', "system() is an unsafe function being used in safe mode"),
    ("BEGIN { signal(9); }", "signal() is an unsafe function being used in safe mode"),
    ("foo:bar { }", "Invalid probe type: foo"),
    ("interval:foo:1 { }", "foo is not an accepted unit of time"),
    ("BEGIN { unroll(101) { } }", "unroll maximum value is 100"),
    ("BEGIN { @x = 1; has_key(@x, 1); }", "call to has_key() expects a map with explicit keys (non-scalar map)"),
    ("BEGIN { print(curtask->comn); }", "Struct/union of type 'struct task_struct' does not contain a field named 'comn'"),
    ("BEGIN { printf(\"a\" }", "syntax: expected ')', found '}'"),
    ("BEGIN { count(); }", "count() must be assigned directly to a map"),
    ("BEGIN { @ = lhist(1, 0, 100000, 1); }", "lhist() too many buckets, must be <= 1000 (would need 100000)"),
    ("BEGIN { @ = hist(1, 7); }", "hist: bits 7 must be 0..5"),
    ("BEGIN { cpid; }", "cpid cannot be used without child command"),
    ("BEGIN { break; }", "break statement must be inside a loop"),
    ("BEGIN { print(5 / 0); }", "Division by zero"),
    ('BEGIN { print("a" < "b"); }', "The < operator can not be used on strings"),
    ("BEGIN { print(arg0); }", "The arg0 builtin can not be used with 'BEGIN' probes"),
    ("config = { foo = 1 } BEGIN { }", "foo: not a known configuration option"),
    ("#if 1\nBEGIN { }", "C preprocessor line #if is not yet supported"),
    ("macro m($x) { $x } BEGIN { }", "macro m is not yet supported"),
    ('import "x.bt"; BEGIN { }', "import is not yet supported"),
    ("struct foo { int (*f)(int); }; BEGIN { }", "definition of C types (struct) is not yet supported"),
    ("", "syntax: the program has no probes"),
    ("BEGIN", "syntax: expected '{', found end of file"),
    ("BEGIN { $x = 1", "syntax: expected ';' or '}', found end of file"),
    ("BEGIN { print($1); }", "$1 used numerically but given \"abc\""),
]  # fmt: skip


@pytest.mark.parametrize("program, message", WRONG, ids=range(len(WRONG)))
def test_wrong(program: str, message: str) -> None:
    found = problems(program, ("abc",))
    assert message in [one.message for one in found]
    assert all(one.span is not None and one.span.start <= one.span.end for one in found)


NEAR = [
    ("BEGIN { prinf(1); }", "printf"),
    ("BEGIN { print(pidd); }", "pid"),
    ("BEGIN { $count = 1; print($coutn); }", "$count"),
    ("BEGIN { @reads = 1; print(@read + 1); }", "@reads"),
    ("tracepoint:syscalls:sys_enter_openat { print(args.filenam); }", "filename"),
    ("tracepoint:syscalls:sys_enter_opnat { }", "sys_enter_openat"),
    ("BEGIN { print(curtask->com); }", "comm"),
    ("config = { max_strln = 1 } BEGIN { }", "max_strlen"),
    ("BEGIN { $x = (struct task_strct *)0; }", "task_struct"),
]


@pytest.mark.parametrize("program, hint", NEAR)
def test_near_names(program: str, hint: str) -> None:
    assert hint in problems(program)[0].hint


def test_several_errors_at_once() -> None:
    found = problems('BEGIN { foo(1); print($x); @y = "a" + 1; }\nBEGIN { break; }')
    assert len(found) == 4
    assert [one.position for one in found] == ["stdin:1:9-15", "stdin:1:23-25", "stdin:1:33-40", "stdin:2:9-14"]


def test_unsafe_is_allowed_on_request() -> None:
    assert run('BEGIN { system("ls %d", pid); }', unsafe=True).actions == [("system", "ls %d", 4242)]


def test_hostile_nesting() -> None:
    for text in ("(" * 5000, "-" * 5000, "!" * 100000, "{" * 3000, "if (1) {" * 3000, "1+" * 5000, "@x[" * 3000):
        assert problems("BEGIN { $x = " + text + " }")


def test_own_c_types() -> None:
    program = """
struct inner { char c; int n; };
struct foo { char name[8]; unsigned int a : 3; unsigned int b : 5; struct inner in; struct inner *next; struct unknown *u; char *s;
             unsigned short v[2]; };
union u { int i; char c; }
struct pk { char c; int n; } __attribute__((packed));
enum color { RED, GREEN = 5, BLUE };
BEGIN { $f = (struct foo *)0x5000; print(str($f->name)); print($f->a); print($f->b); print($f->in.n); print($f->v[1]); print($f->name);
        print(str($f->s)); print($f->next->n); print(BLUE); print((enum color)0); print(sizeof(struct foo)); print(sizeof(struct pk));
        print(sizeof(union u)); print(offsetof(struct foo, next)); }"""
    memory = (
        b"hello\0\0\0" + bytes([0b10101_101, 0, 0, 0, 1, 0, 0, 0]) + (42).to_bytes(8, "little") + (0x6000).to_bytes(8, "little") + bytes(8)
    )
    memory += (0x7000).to_bytes(8, "little") + (1).to_bytes(2, "little") + (9).to_bytes(6, "little")
    ran = run(program, memory={0x5000: memory, 0x6000: bytes(4) + (77).to_bytes(4, "little"), 0x7000: b"str\0"})
    assert ran.text == "hello\n5\n21\n42\n9\nhello\nstr\n77\nBLUE\nRED\n56\n5\n4\n24\n"


def test_maps_that_only_say_what_they_are_of_themselves() -> None:
    assert run("BEGIN { @a = @a + 1; @a = @a + 1; print(@a + 0); @m = max(@a); }").text == "2\n"
    assert run("BEGIN { $v = @n; @n = $v + 2; print(@n + 0); }").text == "2\n"
    assert run("BEGIN { @x[1] = @y[2]; @y[2] = @x[1] + 3; print(@y[2] + 0); }").text == "3\n"
    assert len(problems("BEGIN { @a = foo(1); print(strlen(@a)); }")) == 1


@pytest.mark.parametrize(
    "program, wanted",
    [
        ("tracepoint:sched:sched_switch { @[comm] = count(); exit(); }", QUIET),
        ("tracepoint:sched:sched_switch { @[comm] = count(); } interval:s:1 { print(@); clear(@); }", QUIET),
        ('tracepoint:sched:sched_switch { printf("%d", pid); }', USUAL),
        ('interval:s:1 { for ($kv : @) { printf("%d", $kv.1); } } tracepoint:sched:sched_switch { @[comm] = 1; }', USUAL),
        ('END { unroll(9) { printf("%d", 1); } } BEGIN { exit(); }', USUAL),
        # of several probes with one body each is looked at
        ('interval:s:1, tracepoint:sched:sched_switch { printf("%d", pid); }', USUAL),
        ('config = { perf_rb_pages = 3 } tracepoint:sched:sched_switch { printf("%d", pid); }', 16384),
        ("config = { perf_rb_pages = 1024 } tracepoint:sched:sched_switch { @ = 1; exit(); }", 4 << 20),
    ],
)
def test_a_program_that_sends_little_has_a_small_ring(program: str, wanted: int) -> None:
    assert unit(program).spec.map(RING).max_entries == wanted
