"""C programs read by libclang: the typed tree, initialisers, the dialect's macros, kernel types, messages."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harken.base.cache import digest
from harken.base.ctype import Array, Int, Ptr, Struct
from harken.base.diagnostics import Source
from harken.base.errors import SourceError
from harken.formats.btf import Btf
from harken.formats.event_format import parse as parse_format
from harken.languages.c import libclang, tree
from harken.languages.c.declarations import Request, write
from harken.languages.c.declarations_layout import event
from harken.languages.c.parse import Preparation
from harken.languages.c.reader_base import unescape
from harken.languages.c.scan import scan
from harken.testing.btf_builder import BtfBuilder
from harken.testing.fake_kernel import FakeKernel

pytest.importorskip("clang.native", reason="libclang is not installed: pip install 'harken[c]'")


def kernel_types() -> Btf:
    """A kernel with a few structs."""
    b = BtfBuilder()
    u32, u16, long, char = b.integer("unsigned int", 4), b.integer("unsigned short", 2), b.integer("long", 8), b.integer("char", 1)
    name = b.array(char, 16)
    mm = b.struct("mm_struct", 16, [("start", long, 0), ("brk", long, 64)])
    common = b.struct("sock_common", 8, [("skc_daddr", u32, 0), ("skc_family", u16, 32), ("skc_state", u16, 48)])
    b.struct("sock", 64, [("__sk_common", common, 0), *[(f"filler{i}", char, 64 + 8 * i) for i in range(56)]])
    fillers = [(f"unused{i}", long, 64 * i) for i in range(60)]
    b.struct("task_struct", 520, [*fillers, ("mm", b.ptr(mm), 3840), ("pid", u32, 3904), ("comm", name, 3936)])
    b.enum("state", 4, {"STATE_A": 1, "STATE_B": 7})
    b.typedef("pair_t", b.struct("", 8, [("a", u32, 0), ("b", u32, 32)]))
    return Btf(b.build())


def catalogue(btf: Btf | None = None) -> Any:
    def tracepoint(category: str, name: str) -> Any:
        text = (
            f"name: {name}\nID: 7\nformat:\n\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\n"
            "\tfield:__data_loc char[] path;\toffset:8;\tsize:4;\tsigned:0;\n"
            '\tfield:int code;\toffset:12;\tsize:4;\tsigned:1;\n\tfield:char comm[16];\toffset:16;\tsize:16;\tsigned:0;\n\nprint fmt: ""\n'
        )
        return parse_format(text, category)

    return SimpleNamespace(kernel=FakeKernel(), btf=btf, tracepoint=tracepoint, modules=list, module_btf=lambda name: None)


def read(text: str, btf: Btf | None = None, *flags: str) -> tree.TranslationUnit:
    return Preparation(Source("x.c", text), cast(Any, catalogue(btf)), flags).run()


def body(text: str, before: str = "", btf: Btf | None = None) -> tuple[tree.Stmt, ...]:
    unit = read(f"{before}\nint f(int x, unsigned char c, long n) {{ {text} }}", btf)
    function = next(function for function in unit.functions if function.name == "f")
    assert function.body is not None
    return function.body.body


def expression(text: str, before: str = "", btf: Btf | None = None) -> Any:
    """The expression of ``return (text);`` without the conversion to the function's result."""
    (statement,) = body(f"(void)({text});", before, btf)
    assert isinstance(statement, tree.ExpressionStatement)
    node = statement.expression
    assert isinstance(node, tree.Cast) and node.kind == "void"
    return node.operand


def first_init(text: str, before: str = "") -> list[tuple[int, int, object]]:
    """(bit offset, bit size, constant or type of node) of the initialiser of the first variable."""
    declared = body(text, before)[0]
    assert isinstance(declared, tree.Declare)
    init = declared.variables[0].init
    assert isinstance(init, tree.InitList)
    return [
        (entry.bit_offset, entry.bit_size, entry.value.value if isinstance(entry.value, tree.Literal) else entry.value)
        for entry in init.entries
    ]


def message(text: str, btf: Btf | None = None) -> SourceError:
    with pytest.raises(SourceError) as caught:
        read(text, btf)
    return caught.value


# -- expressions


def test_conversions_are_nodes() -> None:
    node = expression("c + n")
    assert isinstance(node, tree.Binary) and node.op == "+" and str(node.type) == "long"
    assert isinstance(node.left, tree.Cast) and node.left.kind == "integral"
    inner = node.left.operand
    assert isinstance(inner, tree.Cast) and inner.kind == "load" and str(inner.type) == "unsigned char"
    assert isinstance(inner.operand, tree.Name) and isinstance(inner.operand.declaration, tree.Parameter)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("sizeof(long) + 1", 9), ("'a'", 97), ("-5", -5), ("~0u", 0xFFFFFFFF), ("0xffffffffffffffffUL", (1 << 64) - 1),
        ("__builtin_offsetof(struct s, b)", 4), ("E_TWO", 2), ("1 ? 2 : 3", None), ("__builtin_constant_p(x)", 0),
        ("sizeof(struct s)", 8), ("__builtin_types_compatible_p(int, long)", 0), ("__builtin_clz(16)", 27),
    ],
)  # fmt: skip
def test_constants(text: str, value: int | None) -> None:
    node = expression(text, "struct s { int a; int b; }; enum e { E_ONE = 1, E_TWO };")
    if value is None or text == "sizeof(long) + 1":
        return
    assert isinstance(node, tree.Literal) and node.value == value


def test_members_fold_anonymous_parts() -> None:
    before = "struct s { int a; union { long u; struct { short v; short w : 3, y : 5; }; }; }; struct s g;"
    node = expression("g.y", before)
    assert isinstance(node, tree.Cast) and node.kind == "load"
    member = node.operand
    assert isinstance(member, tree.Member) and not member.arrow
    assert (member.field, member.bit_offset, member.bit_size, member.struct.name) == ("y", 64 + 16 + 3, 5, "s")


def test_assignments_know_where_they_compute() -> None:
    statements = body("c += n; c <<= 2; x = c ?: 7; char *p = 0; p += 2;")
    adds, shifts = (cast(Any, statement).expression for statement in statements[:2])
    assert isinstance(adds, tree.Assign) and adds.op == "+" and str(adds.computation) == "long" and str(adds.type) == "unsigned char"
    assert shifts.op == "<<" and str(shifts.computation) == "int"
    elvis = cast(Any, statements[2]).expression.value
    assert isinstance(elvis, tree.Conditional) and elvis.then is None
    steps = cast(Any, statements[4]).expression
    assert isinstance(steps.computation, Ptr)


def test_array_parameters_are_pointers() -> None:
    unit = read("static int g(int a[4]) { return a[1]; } int f(void) { int b[4] = {}; return g(b); }")
    function = next(function for function in unit.functions if function.name == "g")
    assert isinstance(function.params[0].type, Ptr)
    returned = cast(Any, function.body).body[0]
    index = returned.value.operand
    assert isinstance(index, tree.Index) and isinstance(index.base, tree.Cast) and index.base.kind == "load"


def test_statement_expressions_and_builtins() -> None:
    node = expression("({ int q = 3; q + x; })")
    assert isinstance(node, tree.StatementExpression) and len(node.body.body) == 2
    call = expression("__sync_fetch_and_add(&n, 1)")
    assert isinstance(call, tree.Call) and (call.function.kind, call.function.name) == ("builtin", "__sync_fetch_and_add")
    atomic = expression("__atomic_fetch_add(&n, 1, 0)")
    assert isinstance(atomic, tree.Call) and len(atomic.args) == 2


def test_strings() -> None:
    node = expression(r'"a\n\0\xff\"z"')
    assert isinstance(node, tree.Cast) and node.kind == "decay"
    assert cast(Any, node.operand).data == b'a\n\x00\xff"z\x00'
    assert unescape(r'"\377\\x"') == b"\xff\\x"


@pytest.mark.parametrize(
    "text", ["+".join(["x"] * 4000), "!" * 4000 + "x", "(int)-" * 4000 + "x", "(" * 600 + "x" + ")" * 600, "f(" * 1000 + "x" + ")" * 1000]
)
def test_too_deep_expressions_end_in_a_message(text: str) -> None:
    problem = message("int f(int x) { return " + text + "; }")
    assert "operators" in problem.message or "bracket nesting" in problem.message
    assert sys.getrecursionlimit() < 10000


def test_macros_that_unfold_for_ever_are_refused() -> None:
    text = "".join(f"#define A{n + 1} A{n} A{n}\n" for n in range(60)) + "int f(void) { return A60; }"
    assert "unfolds" in message(text).message


# -- initialisers


STRUCTS = "struct in { short a, b; }; struct s { int x; struct in i[2]; union { int u; long l; }; char name[8]; };"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("int a[4] = { 1, [2] = 7, 8 };", [(0, 0, 1), (64, 0, 7), (96, 0, 8)]),
        ("int a[5] = { [1 ... 3] = 9, 4 };", [(32, 0, 9), (64, 0, 9), (96, 0, 9), (128, 0, 4)]),
        ("struct s v = { 1, { { 2, 3 }, { 4 } }, { 5 } };", [(0, 0, 1), (32, 0, 2), (48, 0, 3), (64, 0, 4), (128, 0, 5)]),
        ("struct s v = { 1, 2, 3, 4, 5, 6 };", [(0, 0, 1), (32, 0, 2), (48, 0, 3), (64, 0, 4), (80, 0, 5), (128, 0, 6)]),
        ("struct s v = { .l = 3, .i[1].b = 2 };", [(128, 0, 3), (80, 0, 2)]),
        ("struct s v = { .i = { [1] = { .a = 2 } }, 6 };", [(64, 0, 2), (128, 0, 6)]),
        ("struct s v = {};", []),
    ],
)
def test_initialisers(text: str, expected: list[tuple[int, int, object]]) -> None:
    assert first_init(text, STRUCTS) == expected


def test_strings_fill_arrays() -> None:
    ((offset, _bits, literal),) = first_init('struct s v = { .name = "hi" };', STRUCTS)
    assert offset == 192 and cast(Any, literal).data == b"hi" + bytes(6)


def test_bitfields_in_initialisers() -> None:
    assert first_init("struct b v = { 1, .z = 3 };", "struct b { int x : 3; int y : 4; int z : 20; };") == [(0, 3, 1), (7, 20, 3)]


# -- statements


@pytest.mark.parametrize(
    ("head", "parts"),
    [
        ("int i = 0; i < 3; i++", "ics"),
        ("; x < 3;", "c"),
        (";;", ""),
        ("x = 1;;", "i"),
        (";; x++", "s"),
        ("; x; x--", "cs"),
        ("x = 0;; x++", "is"),
    ],
)
@pytest.mark.parametrize("macro", [False, True])
def test_parts_of_for(head: str, parts: str, macro: bool) -> None:
    if macro and head == "x = 1;;":
        return  # inside a macro an assignment alone may as well be the step
    before, text = ("#define LOOP for (" + head + ") { break; }", "LOOP") if macro else ("", f"for ({head}) {{ break; }}")
    loop = body(text, before)[0]
    assert isinstance(loop, tree.For)
    found = "".join(letter for letter, part in zip("ics", (loop.init, loop.condition, loop.step)) if part is not None)
    assert found == parts


def test_switch_goto_unroll() -> None:
    statements = body(
        "switch (x) { case 1: case 4 ... 6: x = 2; break; default: goto out; }\n#pragma unroll\nfor (int i = 0; i < 4; i++) x += i;\n"
        "out: return x;"
    )
    cases = [node for node in tree.walk(statements[0]) if isinstance(node, tree.Case)]
    assert [(case.low, case.high) for case in cases] == [(1, 1), (4, 6)]
    assert isinstance(statements[1], tree.For) and statements[1].unroll == -1
    assert isinstance(statements[2], tree.Label) and isinstance(statements[2].body, tree.Return)


@pytest.mark.skipif(not hasattr(libclang.library(), "clang_Cursor_getGCCAssemblyTemplate"), reason="libclang before LLVM 21 hides asm")
def test_inline_assembly() -> None:
    (statement,) = body('asm volatile("" : "=r"(x) : "0"(x) : "memory");')
    assert isinstance(statement, tree.Asm) and statement.volatile and statement.clobbers == ("memory",)
    assert [operand.constraint for operand in (*statement.outputs, *statement.inputs)] == ["=r", "0"]


def test_static_locals_are_globals() -> None:
    unit = read("int f(void) { static int n = 4; return n++; } static const int unused = 3;")
    assert {(variable.name, variable.storage) for variable in unit.globals} == {("n", "static"), ("unused", "static")}


# -- the dialect


def test_tables() -> None:
    unit = read(
        "struct key { u32 a; };\nBPF_HASH(h);\nBPF_HASH(hk, struct key);\nBPF_HASH(hkv, u32, struct key, 1 << 4);\nBPF_ARRAY(a, u32, 3);\n"
        "BPF_PERCPU_ARRAY(pa);\nBPF_HISTOGRAM(d, struct key);\nBPF_STACK_TRACE(s, 1000);\nBPF_PERF_OUTPUT(e);\nBPF_RINGBUF_OUTPUT(r, 8);\n"
        'BPF_TABLE_PINNED("hash", u64, u32, p, 64, "/sys/fs/bpf/x");\nBPF_QUEUE(q, struct key, 9);\nBPF_LPM_TRIE(t, struct key);\n'
        'BPF_F_TABLE("lru_hash", u32, u64, l, 5, BPF_F_NO_COMMON_LRU);\nBPF_TABLE_PUBLIC("hash", u32, u32, pub, 7);\n'
        'BPF_ARRAY_OF_MAPS(m, "a", 10);\nBPF_PROG_ARRAY(j, 4);\nBPF_CGROUP_ARRAY(c, 1);\nBPF_PERF_ARRAY(counters, 2);\n'
        "int f(void *ctx) { struct key k = {}; e.perf_submit(ctx, &k, sizeof(k)); return 0; }"
    )
    tables = {table.name: table for table in unit.tables}
    assert {
        name: (t.kind, str(t.key), str(t.value), t.max_entries) for name, t in tables.items() if name in ("h", "hk", "hkv", "a", "pa")
    } == {
        "h": ("hash", "u64", "u64", 10240),
        "hk": ("hash", "struct key", "u64", 10240),
        "hkv": ("hash", "u32", "struct key", 16),
        "a": ("array", "int", "u32", 3),
        "pa": ("percpu_array", "int", "u64", 10240),
    }
    assert (tables["s"].kind, tables["s"].max_entries, cast(Any, tables["s"].value).size) == ("stacktrace", 1024, 127 * 8)
    assert (tables["r"].kind, tables["r"].max_entries, tables["r"].key) == ("ringbuf", 8 * 4096, None)
    assert (tables["p"].kind, tables["p"].pinned) == ("hash", "/sys/fs/bpf/x")
    assert (tables["q"].key, str(tables["q"].value), tables["q"].max_entries) == (None, "struct key", 9)
    assert (tables["t"].flags, tables["l"].flags, tables["pub"].scope, tables["m"].inner) == (1, 2, "public", "a")
    assert str(tables["e"].event) == "struct key"


def test_methods_are_not_calls() -> None:
    unit = read("BPF_HASH(h, u32); int f(void) { u32 k = 1; u64 *v = h.lookup(&k); return v ? *v : 0; }")
    (method,) = [node for node in tree.walk(unit.functions[0]) if isinstance(node, tree.Method)]
    assert (method.table.name, method.name, len(method.args), str(method.type)) == ("h", "lookup", 1, "u64 *")


def test_methods_inside_macros() -> None:
    unit = read("BPF_HASH(h, u32);\n#define GET(k) ({ u64 *p = h.lookup(k); p ? *p : 0; })\nint f(void) { u32 k = 1; return GET(&k); }")
    assert any(isinstance(node, tree.Method) for node in tree.walk(unit.functions[0]))


def test_probe_macros() -> None:
    unit = read(
        "TRACEPOINT_PROBE(fs, opened) { char b[8]; TP_DATA_LOC_READ_CONST(b, path, 8); return args->code + args->comm[0]; }\n"
        "RAW_TRACEPOINT_PROBE(x) { return ctx->args[1]; }\nKFUNC_PROBE(vfs_read, void *file) { return file != 0; }\n"
        "KRETFUNC_PROBE(vfs_read, void *file, int ret) { return ret; }\nMODULE_KFUNC_PROBE(xfs, go) { return 0; }\n"
        "int syscall__execve(struct pt_regs *ctx, const char __user *name) { return name != NULL; }"
    )
    assert [function.name for function in unit.functions] == [
        "tracepoint__fs__opened", "raw_tracepoint__x", "kfunc__vmlinux__vfs_read", "kretfunc__vmlinux__vfs_read", "kfunc__xfs__go",
        "syscall__execve",
    ]  # fmt: skip
    struct = cast(Any, unit.functions[0].params[0].type).target
    assert isinstance(struct, Struct)
    assert [(m.name, m.bit_offset) for m in struct.members] == [
        ("__do_not_use__", 0), ("data_loc_path", 64), ("code", 96), ("comm", 128),
    ]  # fmt: skip


def test_helpers_and_unused_functions() -> None:
    unit = read("static int unused(void) { return 1; }\nint f(void) { return bpf_get_current_pid_tgid() + bpf_log2l(3) + bpf_ntohs(1); }")
    assert [function.name for function in unit.functions] == ["f"]
    calls = {node.function.name: node.function.kind for node in tree.walk(unit.functions[0]) if isinstance(node, tree.Call)}
    assert calls["get_current_pid_tgid"] == "helper" and calls["bpf_log2l"] == "dialect"


def test_constants_of_headers() -> None:
    unit = read(
        "#include <linux/sched.h>\n#include <net/sock.h>\n#define LOCAL AF_INET6\nstruct data_t { char comm[TASK_COMM_LEN]; };\n"
        "int f(void) { return min(PAGE_SIZE, 5UL) + LOCAL + EAGAIN + sizeof(struct data_t); }"
    )
    assert unit.functions[0].name == "f"


def test_own_functions_named_like_macros() -> None:
    unit = read("static int min(int a, int b) { return a < b ? a : b; } int f(int x) { return min(x, 3); }")
    assert {function.name for function in unit.functions} == {"min", "f"}


def test_cflags_and_own_headers(tmp_path: Path) -> None:
    (tmp_path / "own.h").write_text("#include <linux/fs.h>\nstruct own { int a; };\n#define FIVE 5\n")
    text = '#include "own.h"\nint f(void) { struct own o = { FIVE }; return o.a + SEVEN; }'
    source = Source(str(tmp_path / "main.c"), text)
    (tmp_path / "first.h").write_text('#include "second.h"\n')
    (tmp_path / "second.h").write_text("#define EIGHT 8\n")
    flags = ("-DSEVEN=7", f"-I{tmp_path}/none", "-include", str(tmp_path / "first.h"))
    unit = Preparation(source, cast(Any, catalogue()), flags).run()
    assert unit.functions[0].name == "f"
    assert unit.license == "GPL"
    found = {path: digest for _, path, digest in unit.depends}
    assert set(found) == {str(tmp_path / name) for name in ("own.h", "first.h", "second.h", "none/linux/fs.h")}
    assert found[str(tmp_path / "none/linux/fs.h")] == "" and found[str(tmp_path / "own.h")] == digest((tmp_path / "own.h").read_bytes())


# -- kernel types


def test_only_mentioned_members_are_written() -> None:
    written = write(Request(frozenset(("task_struct", "pid", "mm", "brk")), frozenset(("task_struct",))), (kernel_types(),))
    assert "int pid" in written.text and "unused3" not in written.text and "struct mm_struct {" in written.text
    assert written.tags >= {"task_struct", "mm_struct"}


def test_kernel_structs_keep_their_offsets() -> None:
    btf = kernel_types()
    text = (
        '_Static_assert(sizeof(struct task_struct) == 520, "");\n'
        "int f(struct task_struct *t, struct sock *s) { return t->mm->brk + t->comm[2] + s->sk_family + s->__sk_common.skc_state; }"
    )
    unit = read(text, btf)
    members = {node.field: (node.bit_offset, node.struct.name) for node in tree.walk(unit.functions[0]) if isinstance(node, tree.Member)}
    assert members == {
        "mm": (3840, "task_struct"), "brk": (64, "mm_struct"), "comm": (3936, "task_struct"),
        "__sk_common.skc_family": (32, "sock"), "__sk_common": (0, "sock"), "skc_state": (48, "sock_common"),
    }  # fmt: skip
    assert unit.kernel_types >= {"task_struct", "mm_struct", "sock"}
    task = cast(Any, unit.functions[0].params[0].type).target
    assert task is btf.struct("task_struct"), "all members, not only those written for the parser"


def test_own_definitions_win() -> None:
    unit = read(
        "struct mm_struct { char first[8]; int brk; };\ntypedef int pair_t;\nenum { STATE_A = 40 };\nstruct mine { u16 sk_family; };\n"
        "int f(struct task_struct *t, struct mine *m) { pair_t p = STATE_A; return t->mm->brk + p + m->sk_family; }",
        kernel_types(),
    )
    members = {node.field: node.bit_offset for node in tree.walk(unit.functions[0]) if isinstance(node, tree.Member)}
    assert members["brk"] == 64 and members["sk_family"] == 0 and "mm_struct" not in unit.kernel_types
    assert any(isinstance(node, tree.Literal) and node.value == 40 for node in tree.walk(unit.functions[0]))


def test_member_names_made_by_macros() -> None:
    unit = read("#define GET(t, x) ((t)->p##x)\nint f(struct task_struct *t) { return GET(t, id); }", kernel_types())
    assert any(isinstance(node, tree.Member) and node.field == "pid" for node in tree.walk(unit.functions[0]))


def test_enumerators_and_typedefs() -> None:
    unit = read("int f(void) { pair_t p = { .b = STATE_B }; return p.b; }", kernel_types())
    declared = cast(Any, unit.functions[0].body).body[0]
    assert declared.variables[0].type.strip().size == 8 and declared.variables[0].init.entries[0].value.value == 7


def test_event_struct_leaves_out_the_common_part() -> None:
    assert "common_type" not in event("tracepoint__a__b", catalogue().tracepoint("a", "b"))


# -- types


def test_types_of_own_structs() -> None:
    unit = read(
        "struct e { unsigned __int128 a; char n[16]; union { int i; long l; }; u8 b : 3, c : 5; struct { short d; } in[2]; } "
        "__attribute__((packed));\nBPF_PERF_OUTPUT(o); int f(void *ctx) { struct e v = {}; o.perf_submit(ctx, &v, sizeof v); return 0; }"
    )
    struct = cast(Any, unit.tables[0].event).strip()
    shape = [(m.name, m.bit_offset, m.bit_size) for m in struct.members]
    assert shape == [("a", 0, 0), ("n", 128, 0), ("", 256, 0), ("b", 320, 3), ("c", 323, 5), ("in", 328, 0)]
    assert struct.size == 45 and isinstance(struct.members[0].type, Int) and struct.members[0].type.size == 16
    assert isinstance(struct.members[5].type, Array) and struct.align == 1


# -- messages


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("int f(void) { return nope; }", "x.c:1:22-26", "undeclared identifier 'nope'"),
        ("int f(void) {\n  return 1 +;\n}", "x.c:2:13-14", "expected expression"),
        ("int f(struct s *p) {\n  return p->a;\n}", "x.c:2:11-12", "incomplete definition of type 'struct s'"),
        ("int f(int x) { return x * 1.5; }", "x.c:1:23-30", "no floating point"),
        ("int f(int x) { int (*g)(int) = 0; return g(x); }", "x.c:1:42-46", "pointers"),
        ("int f(void) { return g(); }", "x.c:1:22-23", "undeclared function 'g'"),
        ("/* é */ int f(void) { return nope; }", "x.c:1:30-34", "nope"),
        ("int f(struct task_struct *t) { return t->pidd; }", "x.c:1:42-46", "no member named 'pidd'"),
        ("TRACEPOINT_PROBE(a, b) { return args->nope; }", "", "no member named 'nope'"),
    ],
)
def test_messages(text: str, position: str, words: str) -> None:
    problem = message(text, kernel_types())
    first = problem.diagnostics[0]
    assert words in first.message
    if position:
        assert first.position == position


def test_typing_errors_get_suggestions() -> None:
    problem = message("int f(struct task_struct *t) { int counter = 0; return t->unused13x; }", kernel_types())
    assert "did you mean unused13 or" in problem.hint
    assert "code" in message("TRACEPOINT_PROBE(a, b) { return args->coode; }").hint
    assert "did you mean 'counter'" in message("int f(void) { int counter = 0; return conter; }").message


def test_long_texts_are_refused() -> None:
    assert "longer" in message("/*" + "x" * (5 << 20) + "*/").message


def test_scan_is_not_fooled_by_comments() -> None:
    found = scan('/* struct a { */ "struct b {" // typedef int c;\nstruct d; typedef struct { int x; } e_t; typedef void (*f_t)(int);')
    assert found.owned == {"typedef e_t", "typedef f_t"} and found.tags == {"d"}
