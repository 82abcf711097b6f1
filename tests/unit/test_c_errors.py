"""What a user reads whose C program is wrong: clang's text at the line, once, with a hint; what surely is not meant; limits of tables."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harken.base.diagnostics import Diagnostic
from harken.base.errors import SourceError, VerifierError
from harken.bcc import errors
from harken.bcc.errors import NoTableError
from harken.kernel.verifier import explain
from harken.languages.c.unit import CUnit
from harken.testing.btf_builder import BtfBuilder

pytest.importorskip("clang.native", reason="libclang is not installed: pip install 'harken[c]'")
sys.path.insert(0, str(Path(__file__).parent))
from c_machine import compiled  # noqa: E402


def problems(text: str) -> tuple[Diagnostic, ...]:
    with pytest.raises(SourceError) as caught:
        compiled(text)
    return caught.value.diagnostics


def told(text: str) -> list[tuple[str, str, str]]:
    unit: CUnit = compiled(text)
    return list(unit.warnings)


# -- hints


@pytest.mark.parametrize(
    ("text", "words", "hint"),
    [
        ("int f(void *ctx) { printf(\"x\"); return 0; }", "undeclared function 'printf'", "no C library: bpf_trace_printk()"),
        ("int f(void *ctx) { char a[4]; return strcmp(a, a); }", "'strcmp'", "in a loop"),
        ("int f(void *ctx) { return bpf_get_time_ns(); }", "'bpf_get_time_ns'", "bpf_ktime_get_ns"),
        ("int f(struct pt_regs *ctx) { return PT_REGS_PARM9(ctx); }", "'PT_REGS_PARM9'", "PT_REGS_PARM6"),
        ("static int twice(int x) { return 2 * x; } int f(void *ctx) { return twize(2); }", "'twize'", "did you mean twice"),
        ("int f(void *ctx) { int pid = 1; return pdi; }", "'pdi'", "did you mean pid"),
        ("int f(void *ctx) { uint32 x = 0; return x; }", "'uint32'", "uint32_t"),
        ("int f(void *ctx) { int pid = 0;\n FILTER\n return 0; }", "'FILTER'", "what the script puts in"),
        ("int f(void *ctx) { int pid = 0; if (pid != %d) return 1; return 0; }", "expected expression", "did not fill in"),
        ("int f(void *ctx) { u32 k = 1; start.delete(&k); return 0; }", "'start'", "BPF_HASH(start, ...)"),
        ("BPF_HASH(started, u32); int f(void *ctx) { u32 k = 1; start.delete(&k); return 0; }", "'start'", "did you mean started"),
        ("BPF_HASH(t, u32); int f(void *ctx) { u32 k = 1; t.remove(&k); return 0; }", "no member named 'remove'", "delete()"),
        ("BPF_HASH(t, u32); int f(void *ctx) { u32 k = 1; t.lokup(&k); return 0; }", "no member named 'lokup'", "lookup()"),
        ("BPF_HASH(t, u32); int f(void *ctx) { t.zzz(); return 0; }", "no member named 'zzz'", "lookup_or_try_init()"),
        ("struct d { int pid; char comm[16]; }; int f(void *ctx) { struct d d = {}; return d.pidd; }", "'pidd'", "did you mean pid"),
        ("BPF_HASH(t, u32, u64, 10, 5); int f(void *ctx) { return 0; }", "expected", "BPF_HASH(name, type of keys = u64"),
        ("BPF_HASH(); int f(void *ctx) { return 0; }", "expected", "BPF_HASH(name"),
        ("BPF_HISTOGRAM(h, 64); int f(void *ctx) { return 0; }", "", "BPF_HISTOGRAM(name, type of keys = int, slots = 64)"),
        ("int f(void *ctx, int n) { char b[n]; b[0] = 1; return b[0]; }", "char[n]", "constant size"),
    ],
)  # fmt: skip
def test_hints(text: str, words: str, hint: str) -> None:
    first = problems(text)[0]
    assert words in first.message and hint in first.hint
    assert first.span is not None and first.span.source.name == "program.c" and first.position


def test_what_clang_suggests_itself_gets_no_second_hint() -> None:
    (first,) = problems("int f(void *ctx) { int counter = 0; return conter; }")
    assert "did you mean 'counter'" in first.message and not first.hint


def test_one_message_for_each_place() -> None:
    """clang complains about a missing type in each of the dozen methods that the macro declares."""
    assert len(problems("BPF_HISTOGRAM(h, 64); int f(void *ctx) { return 0; }")) == 1
    first, second = problems("int f(void *ctx) {\n  return nope1;\n}\nint g(void *ctx) {\n  return nope2;\n}")
    assert (first.position, second.position) == ("program.c:2:10-15", "program.c:5:10-15")


def test_a_table_twice_is_named_by_its_own_name() -> None:
    (only,) = problems("BPF_HASH(a, u32, u64);\nBPF_HASH(a, u64, u64);\nint f(void *ctx) { return 0; }")
    assert only.message == "redefinition of 'a'" and [span.line for span, _ in only.related] == [1]


def test_the_cause_is_beside_the_error() -> None:
    first = problems('int f(void *ctx) {\n  bpf_trace_printk("hello\\n);\n  return 0;\n}')[0]
    assert any("missing terminating" in note for _, note in first.related)


def test_headers_that_were_not_found_are_named() -> None:
    text = '#include <linux/sched.h>\n#include "mytool.h"\nint f(void *ctx) { struct mytool_event e = {}; return 0; }'
    first = problems(text)[0]
    assert [(span.line, note[:25]) for span, note in first.related if "mytool.h" in note] == [(2, "mytool.h was found neithe")]
    assert not any("mytool.h" in note for _, note in problems(text.replace("struct mytool_event e = {}", "1 +"))[0].related)


def test_wrong_flags_have_no_place_in_the_program() -> None:
    from typing import Any, cast

    from harken.base.diagnostics import Source
    from harken.languages.c.parse import Preparation
    from harken.testing.fake_kernel import FakeKernel

    catalogue = cast(Any, type("Empty", (), {"kernel": FakeKernel(), "btf": None, "modules": list, "module_btf": None})())
    with pytest.raises(SourceError) as caught:
        Preparation(Source("x.c", "int f(void *ctx) { return 0; }"), catalogue, ("--nope",)).run()
    (only,) = caught.value.diagnostics
    assert "--nope" in only.message and only.span is None and "flags" in only.hint


def test_kernel_functions_are_not_called() -> None:
    from types import SimpleNamespace
    from typing import Any, cast

    from harken.base.diagnostics import Source
    from harken.formats.btf import Btf
    from harken.languages.c.parse import Preparation
    from harken.testing.fake_kernel import FakeKernel

    b = BtfBuilder()
    b.func("task_nice", b.proto(b.integer("int", 4), []))
    catalogue = SimpleNamespace(kernel=FakeKernel(), btf=Btf(b.build()), modules=list, module_btf=lambda name: None)
    with pytest.raises(SourceError) as caught:
        Preparation(Source("x.c", "int f(void *ctx) { return task_nice(ctx); }"), cast(Any, catalogue)).run()
    assert "function of the kernel's" in caught.value.diagnostics[0].hint


# -- what compiles, and is not meant


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("u32 k = 1; u64 one = 1; t.update(&k, 1);", "integer to pointer conversion"),
        ("struct other o = {}; u64 v = 1; t.update(&o, &v);", "incompatible pointer types"),
        ("u64 *v; return *v;", "uninitialized"),
        ('char n[4] = "too long";', "too long"),
        ("char n[4] = {}; n[9] = 1;", "past the end"),
        ("struct e d = {}; o.perf_submit(ctx, &d, sizeof(d) + 8);", "perf_submit() is told of 24 bytes, but d has 16 bytes"),
        ("struct e d = {}; o.perf_submit(ctx, &d.b, sizeof(d));", "d has 8 bytes from there on"),
        ("struct e d = {}; r.ringbuf_output(&d, 100, 0);", "ringbuf_output() is told of 100 bytes"),
        ("char c[8]; bpf_get_current_comm(c, 16);", "bpf_get_current_comm() is told of 16 bytes, but c has 8"),
        ("char c[8]; bpf_get_current_comm(&c[2], 8);", "c has 6 bytes"),
        ("int x; bpf_probe_read_kernel(&x, 8, ctx);", "x has 4 bytes"),
        ('bpf_trace_printk("%y", 1);', "'%y'"),
        ('bpf_trace_printk("%5.2f", 1);', "'%5.2f'"),
        ('bpf_trace_printk("100%");', "'%'"),
        ('bpf_trace_printk("%d %s", 1);', "wants 2 values, 1 is given"),
    ],
)
def test_warnings(body: str, words: str) -> None:
    found = told(
        "BPF_HASH(t, u32, u64); BPF_PERF_OUTPUT(o); BPF_RINGBUF_OUTPUT(r, 4); struct e { u64 a, b; }; struct other { u64 x[3]; };\n"
        f"int f(void *ctx) {{ {body} return 0; }}"
    )
    assert any(words in text for _, text, _ in found), found
    assert all(position.startswith("program.c:2:") for position, _, _ in found)


def test_programs_that_are_right_are_not_warned_of() -> None:
    assert not told(
        "struct e { u64 a, b; char comm[16]; }; BPF_HASH(t, u32, struct e); BPF_PERF_OUTPUT(o);\n"
        "int f(struct pt_regs *ctx, char *from, u32 n) {\n"
        "  struct e d = {}; u32 k = 1; struct e *found = t.lookup(&k); char *p = (char *)&d;\n"
        "  bpf_get_current_comm(&d.comm, sizeof(d.comm)); bpf_probe_read_kernel(&d.b, sizeof(d.b), from);\n"
        "  bpf_probe_read_user(p, 8, from);\n"
        "  bpf_probe_read_kernel(&d, n & 15, from); if (found) bpf_probe_read_kernel(&found->comm, 100, from);\n"
        "  o.perf_submit(ctx, &d, sizeof(d)); t.update(&k, &d);\n"
        '  bpf_trace_printk("%% %d %5u %llx", k, k, d.a); bpf_trace_printk("%s %c %pI4", from, 65, from); return 0; }'
    )


USER = "this points to the process's memory"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("int syscall__open(struct pt_regs *ctx, const char *name) { return name[0]; }", 1),
        ("int syscall__open(struct pt_regs *ctx, const char *name) { const char *p = name + 1; return *p + p[1]; }", 2),
        ("struct s { int a; }; int syscall__x(struct pt_regs *ctx, struct s *s) { return s->a; }", 1),
        ("int syscall__x(struct pt_regs *ctx, char **list) { char *p; bpf_probe_read_user(&p, 8, &list[1]); return 0; }", 0),
        ("struct s { int a; }; int syscall__x(struct pt_regs *ctx, struct s *s) { struct s c; s = &c; return s->a; }", 0),
        ("int f(struct pt_regs *ctx, const char *name) { return name[0]; }", 0),
        ("int syscall__open(struct pt_regs *ctx, int dfd, int flags) { return dfd; }", 0),
    ],
)
def test_a_process_s_memory_is_not_the_kernel_s(text: str, count: int) -> None:
    found = [hint for _, message, hint in told(text) if message.startswith(USER)]
    assert len(found) == count and all("bpf_probe_read_user" in hint for hint in found)


# -- what no kernel makes


@pytest.mark.parametrize(
    ("text", "words", "hint"),
    [
        ("BPF_RINGBUF_OUTPUT(r, 3);", "power of two, not 3", "take 2 or 4"),
        ("BPF_RINGBUF_OUTPUT(r, 0);", "room for nothing", ""),
        ("BPF_HASH(h, u32, u64, 0);", "room for nothing", ""),
        ("int g(struct pt_regs regs) { return 0; }", "g() takes its context by value", "struct pt_regs *regs"),
    ],
)
def test_refused(text: str, words: str, hint: str) -> None:
    (only,) = problems(text + " int f(void *ctx) { return 0; }")
    assert words in only.message and hint in only.hint and only.position.startswith("program.c:1:")


# -- what scripts see


def test_a_missing_table_is_a_key_error_with_names() -> None:
    problem = NoTableError("count", ("counts", "start"))
    assert isinstance(problem, KeyError) and isinstance(problem, errors.BPFError)
    assert str(problem) == "the program has no table 'count' (did you mean counts?)"
    assert str(NoTableError("zzz", ("counts",))).endswith("(it has counts)") and str(NoTableError("z", ())).endswith("(it has none)")


def test_verifier_hints_are_in_terms_of_c(capsys: pytest.CaptureFixture[str]) -> None:
    log = "0: (79) r1 = *(u64 *)(r6 +0)\nR1 invalid mem access 'scalar'\nprocessed 2 insns"
    found = explain(log)
    errors.load_error(VerifierError("no", log=log, errno=13, hint=found.hint, diagnostic=found.diagnostic, key=found.key), "f")
    assert "bpf_probe_read_kernel()" in capsys.readouterr().err
    assert "kptr()" in found.hint


@pytest.mark.parametrize(
    ("line", "key", "words"),
    [
        ("R3 type=scalar expected=fp, pkt, map_key, map_value, mem", "argument_type", "3 of a function call is a number, but must be the"),
        ("R1 type=scalar expected=ctx", "argument_type", "must be a pointer to the context"),
        ("R2 type=fp expected=scalar", "argument_type", "is a pointer to the stack, but must be a number"),
        ("tracing progs cannot use bpf_spin_lock yet", "lock_place", "may not use bpf_spin_lock"),
        ("tracing progs cannot use bpf_timer yet", "lock_place", "may not use bpf_timer"),
    ],
)  # fmt: skip
def test_verifier_messages(line: str, key: str, words: str) -> None:
    found = explain(f"0: (85) call bpf_map_update_elem#2\n{line}\nprocessed 1 insns")
    assert found.key == key and words in found.message


@pytest.mark.parametrize(
    ("kind", "target", "words", "hint"),
    [
        ("tracepoint", "sched:sched_swich", "no event", "sched_switch"),
        ("tracepoint", "sched:sched_switch", "", ""),
        ("kfunc", "vfs_reed", "no function vfs_reed", "did you mean vfs_read"),
        ("kprobe", "vfs_read", "", ""),
        ("kprobe", "only_a_symbol", "", ""),
        ("syscall", "anything", "", ""),
    ],
)
def test_objects_for_probes_that_are_not_here(kind: str, target: str, words: str, hint: str) -> None:
    from types import SimpleNamespace
    from typing import Any, cast

    from harken.base.errors import ProbeError
    from harken.languages.c.build import _absent
    from harken.languages.c.unit import CFunction

    def tracepoint(category: str, name: str) -> object:
        if name != "sched_switch":
            raise ProbeError(f"there is no event {category}:{name}", "did you mean sched:sched_switch?")
        return object()

    catalogue = SimpleNamespace(
        tracepoint=tracepoint,
        function=lambda name, module: object() if name == "vfs_read" else None,
        functions=lambda: [("vfs_read", "")],
        kernel_symbols=SimpleNamespace(addresses=lambda name, module: [1] if name == "only_a_symbol" else []),
    )
    text, advice = _absent(CFunction("f", kind, target, frozenset(), None), cast(Any, catalogue))
    assert words in text and hint in advice and bool(text) == bool(words)
