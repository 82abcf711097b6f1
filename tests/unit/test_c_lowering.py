"""C programs, compiled and run in the interpreter of BPF programs, held against what C says and against the machine's own compiler."""

from __future__ import annotations

import ctypes
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from c_machine import ALL, KPROBE, PLAIN, compiled, run, signed, spec  # noqa: E402

from harken.abi import bpf as abi  # noqa: E402
from harken.base.errors import SourceError  # noqa: E402
from harken.compiler.context import Context  # noqa: E402
from harken.formats.insn import disassemble  # noqa: E402
from harken.languages.c.compile import program  # noqa: E402
from harken.languages.c.probes import kind_of  # noqa: E402
from harken.testing.c_random import PRELUDE  # noqa: E402
from harken.testing.c_random import program as random_program  # noqa: E402
from harken.testing.interpreter import Interpreter  # noqa: E402

SHAPE = "long long f(unsigned long long *ctx, unsigned long long a, unsigned long long b)"


def body(text: str, *args: int) -> int:
    return run(f"{SHAPE} {{ {text} }}", *args)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc to compare with")
@pytest.mark.parametrize("first", range(0, 200, 25))
def test_random_programs_compute_what_gcc_says(first: int, tmp_path: Path) -> None:
    text = PRELUDE + "".join(random_program(seed) for seed in range(first, first + 25))
    (tmp_path / "programs.c").write_text(text)
    library = tmp_path / "programs.so"
    flags = ("-shared", "-fPIC", "-O0", "-fwrapv", "-fno-strict-aliasing", "-w")
    subprocess.run(["gcc", *flags, "-o", str(library), str(tmp_path / "programs.c")], check=True)
    native = ctypes.CDLL(str(library))
    unit = compiled(text)
    for seed in range(first, first + 25):
        function = native[f"f{seed}"]
        function.restype = ctypes.c_longlong
        function.argtypes = [ctypes.c_void_p, ctypes.c_ulonglong, ctypes.c_uint, ctypes.c_int]
        machine = Interpreter(program(unit, f"f{seed}", PLAIN, ALL))
        random = Random(seed)
        for _ in range(4):
            args = [random.choice((0, 1, random.getrandbits(64), random.getrandbits(8), (1 << 64) - 1, 1 << 63)) for _ in range(3)]
            expected = function(None, args[0], args[1] & 0xFFFFFFFF, ctypes.c_int(args[2] & 0xFFFFFFFF).value)
            assert signed(machine.run(f"f{seed}", struct.pack("<3Q", *args))) == expected, (seed, args)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("signed char c = 200; return c;", -56),
        ("unsigned char c = -1; return c + 1;", 256),
        ("unsigned x = -1; return x > 0 && x > -2;", 1),
        ("int x = -7; return x / 2 * 100 + x % 4;", -303),
        ("short s = -1; return (unsigned short)s >> 4;", 4095),
        ("_Bool t = 256; return t + 1;", 2),
        ("return sizeof(struct { char c; long long l; });", 16),
        ("struct { int x:3; unsigned y:3; } s = { 7, 7 }; return s.x * 10 + s.y;", -3),
        ("union { unsigned u; unsigned char c[4]; } v = { .u = 0x01020304 }; return v.c[1];", 3),
        ("int v[4] = { [2] = 5, 6 }, *p = v; p += 2; int x = *p++; return x * 10 + *p - (p - v);", 53),
        ("int i, s = 0; for (i = 0; i < 10; i++) { if (i == 3) continue; if (i == 7) break; s += i; } return s;", 18),
        ("int i = 0; do i += 3; while (i < 10); return i;", 12),
        ("int n = 0; again: if (++n < 5) goto again; return n;", 5),
        ("switch (a) { case 1 ... 3: return 10; case 7: a++; default: return a; }", 8),
        ("return a ?: 4;", 7),
        ("struct { int x; struct { int y; }; } s = { 1, { 2 } }, t = s; t.y += s.x; return t.y;", 3),
        ("int x = 5, *p = &x, **q = &p; **q = 9; return x;", 9),
        ("return ({ int y = a; y * 2; }) + (1, 2);", 16),
        ("typeof(a) x = 3; return x;", 3),
        ("unsigned __int128 w = a; w <<= 100; return (unsigned long long)(w >> 98);", 28),
        ("char s[8] = \"abc\"; return s[0] + s[3] + sizeof(s);", 105),
        ("return __builtin_bswap32(0x11223344) == 0x44332211 && __builtin_bswap16(0x1122) == 0x2211;", 1),
        ("return __builtin_expect(a == 7, 1) + __builtin_constant_p(3);", 2),
        ("int x = 1; int old = __sync_fetch_and_add(&x, 4); return x * 10 + old;", 51),
        ("int x = 1; return __sync_val_compare_and_swap(&x, 1, 6) + x;", 7),
        ("return __builtin_clzll(1ull << 40) * 100 + __builtin_ctz(8) + __builtin_popcount(0xff);", 2311),
        ("static const char text[] = \"hello\"; return text[a & 3];", ord("l")),
        ("return (a >= 0.0) + (a >= 6.5) * 2 + (a > 7.0) * 4 + (7.5 > a) * 8 + (a == 7.0) * 16 + (a == 7.5) * 32 + (a > -1.0) * 64;", 91),
        ("int x = -7; return (x < -6.5) + (x <= -7.5) * 2 + (x >= -7.0) * 4 + (1e6 > x) * 8 + (x != 0.5) * 16;", 29),
        ("int x = 3; asm volatile(\"\" : \"+r\"(x)); return x;", 3),
        ("int x = 3; asm volatile(\"%0 += 4\" : \"=r\"(x) : \"0\"(x)); return x;", 7),
    ],
)  # fmt: skip
def test_what_c_says(text: str, result: int) -> None:
    assert body(text, 7, 0) == result


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("return " + " + ".join(["a"] * 1000) + ";", 7000),
        ("return " + " && ".join([f"a != {100 + i}" for i in range(400)]) + ";", 1),
        ("return " + "".join([f"a == {500 - i} ? {i} : " for i in range(500)]) + "1;", 493),
        ("return " + "(" * 400 + "a" + ")" * 400 + " + " + "~" * 400 + "b;", 7),
    ],
)
def test_long_expressions(text: str, result: int) -> None:
    assert body(text, 7, 0) == result


def test_globals_keep_their_values() -> None:
    text = f"static int count = 5; long long total; {SHAPE} {{ count++; total += count; return total; }}"
    machine = Interpreter(spec(text))
    assert [machine.run("f", bytes(16)) for _ in range(3)] == [6, 13, 21]


def test_struct_by_value_goes_in_and_comes_out() -> None:
    text = "struct p { long long x, y; }; static struct p turn(struct p v) { struct p r = { v.y, v.x }; v.x = 99; return r; }"
    assert run(f"{text} {SHAPE} {{ struct p v = {{ a, b }}; return turn(v).x * 10 + v.x; }}", 4, 6) == 64


def test_a_function_is_right_for_own_and_for_kernel_memory() -> None:
    text = "struct node { struct node *next; int value; }; static int get(struct node *n) { return n->value; }"
    text += f"{SHAPE} {{ struct node own = {{ 0, 5 }}; return get(&own) * 1000 + get(((struct node *)a)->next); }}"
    machine = Interpreter(spec(text))
    machine.memory[0xFFFF_8000_0000_0000] = struct.pack("<QI4x", 0xFFFF_8000_0000_1000, 1)
    machine.memory[0xFFFF_8000_0000_1000] = struct.pack("<QI4x", 0, 77)
    assert machine.run("f", struct.pack("<2Q", 0xFFFF_8000_0000_0000, 0)) == 5077
    assert machine.run("f", struct.pack("<2Q", 0, 0)) == 5000


def test_addresses_are_not_read() -> None:
    text = f"struct s {{ long long pad; int v[4]; }}; {SHAPE} {{ return (long long)&((struct s *)a)->v[2]; }}"
    assert not any("call" in line for line in disassemble(spec(text).programs[0].insns))
    assert run(text, 0x1000) == 0x1010


def test_one_function_is_a_kprobe_and_an_fentry_program() -> None:
    text = "struct pt_regs { unsigned long long r[10], ax, cx, dx, si, di; };"
    text += "int f(struct pt_regs *ctx, long long first) { return first + ctx->si; }"
    text += "int g(struct pt_regs *ctx) { return ctx->ax; } int h(struct pt_regs *ctx) { return ctx->r[0]; }"
    unit = compiled(text)
    assert unit.function("f").uses == {"arg0", "arg1"} and "retval" in unit.function("g").uses  # type: ignore[union-attr]
    registers = bytearray(168)
    registers[112:120], registers[104:112] = struct.pack("<Q", 40), struct.pack("<Q", 2)
    assert Interpreter(program(unit, "f", KPROBE, ALL)).run("f", bytes(registers)) == 42
    tracing = Context(abi.BPF_PROG_TYPE_TRACING, "tracing", expected_attach_type=abi.BPF_MODIFY_RETURN, arity=2)
    assert Interpreter(program(unit, "f", tracing, ALL)).run("f", struct.pack("<3Q", 40, 2, 7)) == 42
    assert Interpreter(program(unit, "g", tracing.replace(returns=True), ALL)).run("g", struct.pack("<3Q", 40, 2, 7)) == 7
    with pytest.raises(SourceError, match="not the register r15"):
        program(unit, "h", tracing, ALL)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("float x = 1;", "floating point"),
        ("int f2(int x);", "declared but not defined"),
        ("static int r(int x) { return x ? r(x - 1) : 0; }", "recursion: r -> r"),
        ("", "cannot write to memory that is not the program's own"),
    ],
)
def test_what_bpf_cannot_do_is_said_at_the_line(text: str, message: str) -> None:
    use = {"float": "return (long long)(x * 2);", "int f": "return f2(1);", "stati": "return r(3);"}.get(
        text[:5], "*(int *)a = 1; return 0;"
    )
    with pytest.raises(SourceError, match=message) as problem:
        spec(f"{text}\n{SHAPE} {{\n{use}\n}}")
    assert problem.value.diagnostics[0].position.startswith("program.c:")


def test_names_say_what_functions_are_for() -> None:
    assert kind_of("kretprobe__vfs_read") == ("kretprobe", "vfs_read")
    assert kind_of("syscall__execve") == ("syscall", "execve")
    assert kind_of("kfunc____x64_sys_openat") == ("kfunc", "__x64_sys_openat")


def test_a_syscall_function_reads_the_callers_registers() -> None:
    text = "struct pt_regs { unsigned long long r[21]; };"
    text += "int syscall__openat(struct pt_regs *ctx, int dfd, char *name, int flags, int mode)"
    machine = Interpreter(spec(text + " { return dfd + flags * 10 + mode * 100; }", "syscall__openat", KPROBE))
    inner = bytearray(168)
    for at, value in ((112, 1), (104, 2), (96, 3), (56, 4)):
        inner[at : at + 8] = struct.pack("<Q", value)
    machine.memory[0xFFFF_8000_0000_0000] = bytes(inner)
    outer = bytearray(168)
    outer[112:120] = struct.pack("<Q", 0xFFFF_8000_0000_0000)
    assert machine.run("syscall__openat", bytes(outer)) == 431


def test_a_packet_is_read_directly() -> None:
    text = "struct xdp_md { unsigned data, data_end; }; int f(struct xdp_md *ctx) { void *p = (void *)(long)ctx->data;"
    text += "if (p + 14 > (void *)(long)ctx->data_end) return 1; return *(unsigned short *)(p + 12); }"
    code = disassemble(spec(text, context=Context(abi.BPF_PROG_TYPE_XDP, "xdp")).programs[0].insns)
    assert not any("call" in line for line in code) and any("*(u16 *)(r" in line and "+12)" in line for line in code)


def test_the_kernel_calls_back() -> None:
    text = "struct sum { long long total; int limit; }; static long add(unsigned i, void *p) { struct sum *s = p; s->total += i;"
    text += f" return i == s->limit; }} {SHAPE} {{ struct sum s = {{ 0, b }}; int n = bpf_loop(a, add, &s, 0); return s.total * 100 + n; }}"
    assert run(text, 10, 50) == 4510
    assert run(text, 10, 3) == 604


def test_a_walk_through_a_map() -> None:
    text = "BPF_HASH(table, u32, u64); static long each(void *map, u32 *key, u64 *value, u64 *sum) { *sum += *key * *value; return 0; }"
    text += f"{SHAPE} {{ u32 k = 3; u64 v = 5, sum = 1; table.update(&k, &v); k = 10; table.update(&k, &v);"
    text += " bpf_for_each_map_elem(&table, each, &sum, 0); return sum; }"
    assert run(text, 0, 0) == 66
