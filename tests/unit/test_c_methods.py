"""Methods of maps, BPF helpers and BCC's own functions in C programs, run in the interpreter."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from c_machine import ALL, KPROBE, PLAIN, compiled, signed, spec  # noqa: E402
from language_machine import Catalogue  # noqa: E402

from harken.base.diagnostics import Source  # noqa: E402
from harken.base.errors import SourceError  # noqa: E402
from harken.languages.c.compile import Options, compile, program  # noqa: E402
from harken.testing.fake_kernel import FakeKernel  # noqa: E402
from harken.testing.interpreter import Interpreter  # noqa: E402

pytest.importorskip("clang", reason="libclang is not installed: pip install 'harken[c]'")

SHAPE = "long long f(unsigned long long *ctx, unsigned long long a, unsigned long long b)"


def machine_of(before: str, text: str) -> Interpreter:
    return Interpreter(spec(f"{before}\n{SHAPE} {{ {text} }}"))


def go(machine: Interpreter, *args: int) -> int:
    values = (*args, 0, 0, 0)[:3]
    return signed(machine.run("f", struct.pack("<3Q", *(value & (1 << 64) - 1 for value in values))))


def contents(machine: Interpreter, name: str, form: str = "<Q") -> dict[int, Any]:
    """A map with integer keys."""
    table = machine.maps[name]
    return {
        int.from_bytes(key, "little"): struct.unpack(form, machine.regions[number].data)[0]
        for key, number in table.values.items()
        if any(machine.regions[number].data)
    }


def test_lookup_update_insert_delete() -> None:
    machine = machine_of(
        "BPF_HASH(h, u32, u64, 2);",
        "u32 k = a; u64 v = b, *p = h.lookup(&k); if (!p) { h.update(&k, &v); return h.insert(&k, &v); }\n"
        "if (b) { *p += b; return *p; } return h.delete(&k);",
    )
    assert go(machine, 5, 7) == -17, "insert refuses what is there"
    assert contents(machine, "h") == {5: 7}
    assert go(machine, 5, 3) == 10 and contents(machine, "h") == {5: 10}
    assert go(machine, 5, 0) == 0 and contents(machine, "h") == {}


def test_lookup_or_try_init() -> None:
    machine = machine_of("BPF_HASH(h, u32, u64, 1);", "u32 k = a; u64 v = 40; u64 *p = h.lookup_or_try_init(&k, &v); return p ? ++*p : -1;")
    assert [go(machine, 1), go(machine, 1), go(machine, 2)] == [41, 42, -1]


def test_lookup_or_init_returns_when_the_map_is_full() -> None:
    machine = machine_of("BPF_HASH(h, u32, u64, 1);", "u32 k = a; u64 v = 40; u64 *p = h.lookup_or_init(&k, &v); return ++*p;")
    assert [go(machine, 1), go(machine, 2), go(machine, 1)] == [41, 0, 42]


@pytest.mark.parametrize("method", ["increment", "atomic_increment"])
def test_increments(method: str) -> None:
    machine = machine_of(
        "struct key { u32 a; u32 b; }; BPF_HASH(h, struct key, u32, 4); BPF_HISTOGRAM(d); BPF_ARRAY(n, u64, 3);",
        f"struct key k = {{ a, b }}; h.{method}(k); h.{method}(k, 5); d.{method}(bpf_log2l(a)); n.{method}(a); return 0;",
    )
    go(machine, 2, 1)
    go(machine, 9, 0)  # past the end of the array: nothing happens
    assert contents(machine, "h", "<I") == {1 << 32 | 2: 6, 9: 6}
    assert contents(machine, "d") == {2: 1, 4: 1} and contents(machine, "n") == {2: 1}


def test_increment_takes_integers_only() -> None:
    with pytest.raises(SourceError, match="integers"):
        machine_of("struct v { int a; }; BPF_HASH(h, u32, struct v);", "h.increment(1); return 0;")


@pytest.mark.parametrize(
    ("value", "log2", "log2l"),
    [(0, 0, 1), (1, 0, 1), (2, 1, 2), (3, 1, 2), (255, 7, 8), (256, 8, 9), ((1 << 40) + 1, 0, 41), ((1 << 64) - 1, 31, 64)],
)
def test_logarithms(value: int, log2: int, log2l: int) -> None:
    assert go(machine_of("", "return bpf_log2(a);"), value) == log2
    assert go(machine_of("", "return bpf_log2l(a);"), value) == log2l


def test_byte_order_and_cpus() -> None:
    machine = machine_of("", "return bpf_ntohs(a) + bpf_num_cpus() + (bpf_ntohl(b) << 4) + (bpf_htonll(1) >> 60);")
    assert go(machine, 0x1234, 0x01000000) == 0x3412 + 1 + (1 << 4)


def test_events() -> None:
    machine = machine_of(
        "struct e { u32 a; char n[4]; }; BPF_PERF_OUTPUT(out); BPF_RINGBUF_OUTPUT(ring, 1);",
        'struct e v = { a, "hi" }; out.perf_submit(ctx, &v, sizeof(v)); ring.ringbuf_output(&v, sizeof(v), 0);\n'
        "struct e *r = ring.ringbuf_reserve(sizeof(*r)); if (!r) return 1; r->a = b; __builtin_memset(r->n, 0, 4);\n"
        "if (b) { ring.ringbuf_submit(r, 0); } else { ring.ringbuf_discard(r, 0); } return 0;",
    )
    go(machine, 3, 4)
    go(machine, 5, 0)
    record = b"\3\0\0\0hi\0\0"
    assert machine.maps["out"].records == [record, b"\5\0\0\0hi\0\0"]
    assert machine.maps["ring"].records == [record, b"\4\0\0\0\0\0\0\0", b"\5\0\0\0hi\0\0"]


def test_reserved_sizes_are_constant() -> None:
    with pytest.raises(SourceError, match="constant"):
        machine_of("BPF_RINGBUF_OUTPUT(ring, 1);", "void *r = ring.ringbuf_reserve(a); return r == 0;")


def calls(before: str, text: str, *args: int) -> tuple[int, list[tuple[str, tuple[Any, ...]]]]:
    """The result and the calls of helpers that the interpreter has no fake for."""
    machine = machine_of(before, text)
    names = {table.number << 32: f"&{name}" for name, table in machine.maps.items()}
    found: list[tuple[str, tuple[Any, ...]]] = []

    def note(name: str, count: int) -> Any:
        def helper(_machine: Interpreter, *registers: int) -> int:
            found.append((name, tuple(names.get(value, value) for value in registers)))
            return len(found)

        # the interpreter looks at how many registers a fake takes
        return eval(
            f"lambda machine{''.join(f', r{n}' for n in range(count))}: helper(machine{''.join(f', r{n}' for n in range(count))})",
            {"helper": helper},
        )

    counts = {
        "get_stackid": 3, "map_push_elem": 3, "map_pop_elem": 2, "perf_event_read": 2, "current_task_under_cgroup": 2, "tail_call": 3,
        "redirect_map": 3, "trace_vprintk": 4, "override_return": 2, "ringbuf_query": 2, "perf_event_read_value": 4, "trace_printk": 3,
    }  # fmt: skip
    for name, count in counts.items():
        machine.helpers[name] = note(name, count)
    return go(machine, *args), found


@pytest.mark.parametrize(
    ("before", "text", "name", "registers"),
    [
        ("BPF_STACK_TRACE(s, 8);", "return s.get_stackid(ctx, 256);", "get_stackid", (..., "&s", 256)),
        ("BPF_PERF_ARRAY(p, 2);", "return p.perf_read(a);", "perf_event_read", ("&p", 3)),
        ("BPF_CGROUP_ARRAY(c, 1);", "return c.check_current_task(0);", "current_task_under_cgroup", ("&c", 0)),
        ("BPF_PROG_ARRAY(j, 2);", "j.call(ctx, a); return 9;", "tail_call", (..., "&j", 3)),
        ("BPF_DEVMAP(d, 2);", "return d.redirect_map(a, 0);", "redirect_map", ("&d", 3, 0)),
        ("BPF_RINGBUF_OUTPUT(r, 1);", "return r.ringbuf_query(1);", "ringbuf_query", ("&r", 1)),
        ("BPF_QUEUE(q, u64, 4);", "return q.push(&a, 2);", "map_push_elem", ("&q", ..., 2)),
        ("BPF_STACK(q, u64, 4);", "return q.pop(&a);", "map_pop_elem", ("&q", ...)),
        ("", "bpf_override_return(ctx, -12); return 1;", "override_return", (..., -12)),
    ],
)
def test_methods_become_helpers(before: str, text: str, name: str, registers: tuple[Any, ...]) -> None:
    _result, found = calls(before, text, 3)
    assert [called for called, _ in found] == [name]
    for given, wanted in zip(found[0][1], registers):
        assert wanted is ... or given == (wanted & (1 << 64) - 1 if isinstance(wanted, int) else wanted)


def test_trace_printk_brings_its_format() -> None:
    for text, size in (('bpf_trace_printk("a %d\\n", 5)', 6), ('bpf_trace_printk("a %d\\n", sizeof("a %d\\n"), 5)', 6)):
        _, found = calls("", f"{text}; return 0;")
        assert found[0][0] == "trace_printk" and found[0][1][1:3] == (size, 5)
    _, found = calls("", 'bpf_trace_printk("%d %d %d %d", 1, 2, 3, 4); return 0;')
    assert found[0][0] == "trace_vprintk" and found[0][1][1] == 12 and found[0][1][3] == 32
    with pytest.raises(SourceError, match="literal"):
        calls("", "char *s = 0; bpf_trace_printk(s); return 0;")


def test_map_helpers_by_name() -> None:
    machine = machine_of(
        "BPF_HASH(h, u32, u64);",
        "u32 k = 4; u64 *p; bpf_map_update_elem(&h, &k, &a, 0); p = bpf_map_lookup_elem(&h, &k); return p ? *p : 0;",
    )
    assert go(machine, 77) == 77


def test_explicit_reads() -> None:
    machine = machine_of(
        "",
        "char s[8] = {}; long n = bpf_probe_read_user_str(s, sizeof(s), (void *)a); u32 v = 0;\n"
        "bpf_probe_read_kernel(&v, 4, (void *)b); return n + s[1] + v;",
    )
    machine.memory = {0x5000: b"ab\0", 0xFFFF888000001000: b"\x00\x01\0\0"}
    assert go(machine, 0x5000, 0xFFFF888000001000) == 3 + ord("b") + 256


def usdt(text: str, *places: tuple[int, str]) -> Interpreter:
    kernel = FakeKernel(files={"/sys/devices/system/cpu/possible": "0", "/proc/modules": ""})
    catalogue = Catalogue()
    catalogue.kernel = kernel
    catalogue.modules = list  # type: ignore[attr-defined]
    markers = tuple((address, arguments, "x86_64") for address, arguments in places)
    unit = compile(Source("x.c", text), catalogue, Options(usdt=((("f", markers),),)))  # type: ignore[arg-type]
    return Interpreter(program(unit, "f", KPROBE, ALL))


def registers(**values: int) -> bytes:
    from harken.abi.arch.x86_64 import PT_REGS_SIZE, REGISTERS

    data = bytearray(PT_REGS_SIZE)
    for name, value in values.items():
        struct.pack_into("<Q", data, REGISTERS[name], value)
    return bytes(data)


ARGUMENT = "int f(struct pt_regs *ctx) { int v = 0; bpf_usdt_readarg(2, ctx, &v); return v; }"


def test_usdt_arguments() -> None:
    machine = usdt(ARGUMENT, (0x401000, "8@%rdi -4@%esi"), (0x402000, "8@%rdx -4@%esi"))
    assert signed(machine.run("f", registers(si=0xFFFFFFFE))) == -2
    machine = usdt(ARGUMENT, (0x401010, "8@%rdi -4@%esi"), (0x402020, "8@%rdx -4@4(%rbp)"), (0x403030, "8@%rdx -4@$9"))
    machine.memory = {0x7FFE0000: bytes(4) + struct.pack("<i", 31)}
    values = {"si": 12, "bp": 0x7FFE0000}
    assert [machine.run("f", registers(ip=0x55555000 + low, **values)) for low in (0x010, 0x020, 0x030)] == [12, 31, 9]


def test_usdt_buffers() -> None:
    text = "int f(struct pt_regs *ctx) { char b[4] = {}; bpf_usdt_readarg_p(1, ctx, b, sizeof(b)); return b[2]; }"
    machine = usdt(text, (0x401000, "8@%rdi"))
    machine.memory = {0x6000: b"wxyz"}
    assert machine.run("f", registers(di=0x6000)) == ord("y")


@pytest.mark.parametrize(
    ("text", "places", "words"),
    [
        (ARGUMENT, ((0x1000, "8@%rdi"),), "no argument 2"),
        (ARGUMENT.replace("f(struct", "g(struct"), ((0x1000, "8@%rdi"),), "no USDT marker runs g"),
        (ARGUMENT, ((0x1000, "8@%rdi 8@%xmm1"),), "floating-point"),
        (ARGUMENT.replace("2, ctx", "0, ctx"), ((0x1000, "8@%rdi"),), "first is 1"),
    ],
)
def test_usdt_problems(text: str, places: tuple[tuple[int, str], ...], words: str) -> None:
    with pytest.raises(SourceError, match=words):
        usdt(text, *places)


def test_packets() -> None:
    def load(machine: Interpreter, packet: int, offset: int, to: int, size: int) -> int:
        machine.write(to, b"\x45\x67\x89\xab\xcd\xef\x01\x23\x45"[offset : offset + size])
        return 0

    text = (
        "void *skb = ctx; return load_byte(skb, 0) + (load_half(skb, 1) << 8)\n"
        "+ (bpf_dext_pkt(skb, 0, 0, 4) << 32) + (bpf_dext_pkt(skb, 4, 3, 13) << 40);"
    )
    machine = machine_of("", text)
    machine.helpers["skb_load_bytes"] = load
    assert go(machine) == 0x45 + (0x6789 << 8) + (4 << 32) + ((0xCDEF & 0x1FFF) << 40)


def test_a_program_ends_with_the_packet() -> None:
    def load(machine: Interpreter, packet: int, offset: int, to: int, size: int) -> int:
        if offset + size > 4:
            return -14
        machine.write(to, bytes([9, 8, 7, 6])[offset : offset + size])
        return 0

    text = (
        "static int seen;\n"
        "static int inner(void *skb, int at) { seen++; int x = load_half(skb, at); seen++; return x + 1; }\n"
        "static int outer(void *skb, int at) { int x = inner(skb, at); if (x & 1) seen += 10; return x; }\n"
        "int f(struct __sk_buff *skb) { int x = outer((void *)skb, skb->mark); seen += 100; return x + seen * 0x100000; }\n"
    )
    for at, result in ((1, 0x0808 + 102 * 0x100000), (2, 0x0707 + 112 * 0x100000), (3, 0), (4, 0)):
        machine = Interpreter(spec("struct __sk_buff { unsigned len, pkt_type, mark; };\n" + text))
        machine.helpers["skb_load_bytes"] = load
        assert machine.run("f", bytes(8) + bytes([at]) + bytes(30)) == result


def test_fields_of_packets() -> None:
    def load(machine: Interpreter, packet: int, offset: int, to: int, size: int) -> int:
        machine.write(to, bytes(range(64))[offset : offset + size])
        return 0

    stored = []

    def store(machine: Interpreter, packet: int, offset: int, source: int, size: int, flags: int) -> int:
        stored.append((offset, machine.read(source, size)))
        return 0

    machine = Interpreter(
        spec(
            "#include <bcc/proto.h>\nint f(void *skb) { u8 *cursor = 0;\n"
            "struct ethernet_t *eth = cursor_advance(cursor, sizeof(*eth)); struct ip_t *ip = cursor_advance(cursor, sizeof(*ip));\n"
            "ip->tlen = 0x0102; return eth->type + (ip->hlen << 16) + (ip->nextp << 20); }"
        )
    )
    machine.helpers["skb_load_bytes"], machine.helpers["skb_store_bytes"] = load, store
    assert machine.run("f", bytes(8)) & 0xFFFFFFFF == 0x0C0D + (14 << 16) + (23 << 20)
    assert stored == [(16, b"\1\2")]


def test_unknown_functions() -> None:
    assert compiled("int f(void *ctx) { return 0; }").functions[0].name == "f"
    with pytest.raises(SourceError, match="not defined|undeclared"):
        machine_of("int g(int);", "return g(1);")
    assert PLAIN.context == "syscall"
