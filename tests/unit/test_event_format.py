"""formats.event_format: fields of every shape that kernels print, and texts that are no format files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harken.base.ctype import Array, Enum, Int, Ptr, Struct, Typedef
from harken.base.errors import FormatError
from harken.formats.event_format import parse

COMMON = """\
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

"""


def event(*fields: str, name: str = "x", **options):
    body = "".join(f"\tfield:{field}\n" for field in fields)
    return parse(f'name: {name}\nID: 42\nformat:\n{COMMON}{body}\nprint fmt: "a=%d\\n", REC->a', **options)


def one(declaration: str, offset: int, size: int, signed: int = 0, **options):
    return event(f"{declaration};\toffset:{offset};\tsize:{size};\tsigned:{signed};", **options).own[0]


def test_the_whole():
    found = event("pid_t pid;\toffset:8;\tsize:4;\tsigned:1;", "char comm[16];\toffset:12;\tsize:16;\tsigned:0;", category="sched")
    assert (found.category, found.name, found.id, found.size) == ("sched", "x", 42, 28)
    assert found.print_fmt == '"a=%d\\n", REC->a'
    assert [f.name for f in found.fields] == ["common_type", "common_pid", "pid", "comm"] and [f.name for f in found.own] == ["pid", "comm"]
    assert found.field("comm").offset == 12 and found.field("none") is None


@pytest.mark.parametrize(
    ("declaration", "size", "signed", "type_text", "kind", "spelled"),
    [
        ("int a", 4, 1, "int", Int, "int"),
        ("unsigned long a", 8, 0, "unsigned long", Int, "unsigned long"),
        ("long unsigned int a", 8, 0, "long unsigned int", Int, "unsigned long"),
        ("long a", 4, 1, "long", Int, "long"),
        ("unsigned a", 4, 0, "unsigned", Int, "unsigned int"),
        ("bool a", 1, 0, "bool", Int, "bool"),
        ("__u8 a", 1, 0, "__u8", Int, "u8"),
        ("gfp_t a", 4, 0, "gfp_t", Typedef, "gfp_t"),
        ("const char * a", 8, 0, "const char *", Ptr, "char *"),
        ("const char *const * a", 8, 0, "const char * const *", Ptr, "char **"),
        ("struct sk_buff *skb", 8, 0, "struct sk_buff *", Ptr, "struct sk_buff *"),
        ("void __user *p", 8, 0, "void __user *", Ptr, "void *"),
        ("char a[16]", 16, 0, "char[16]", Array, "char [16]"),
        ("char[16] a", 16, 0, "char[16]", Array, "char [16]"),
        ("u8 a[2][6]", 12, 0, "u8[12]", Array, "u8 [12]"),
        ("unsigned long args[(6)]", 48, 0, "unsigned long[6]", Array, "unsigned long [6]"),
        ("char comm[TASK_COMM_LEN]", 16, 0, "char[16]", Array, "char [16]"),
        ("strange_t a[3]", 24, 0, "strange_t[3]", Array, "strange_t [3]"),
        ("char buf[]", 0, 0, "char[]", Array, "char []"),
        ("enum hrtimer_mode mode", 4, 0, "enum hrtimer_mode", Enum, "enum hrtimer_mode"),
        ("struct timespec64 t", 16, 0, "struct timespec64", Struct, "struct timespec64"),
        ("int dfd", 8, 0, "int", Typedef, "int"),
        ("cpumask_t mask", 24, 0, "cpumask_t", Struct, "struct cpumask_t"),
    ],
)
def test_types(declaration, size, signed, type_text, kind, spelled):
    field = one(declaration, 8, size, signed)
    assert field.type == type_text and type(field.ctype) is kind and field.ctype.declare() == spelled
    assert field.ctype.size == size and field.declaration == declaration and not field.data_loc


def test_signs():
    assert one("int dfd", 8, 8, 0).ctype.strip().signed  # a system call's int in 8 bytes is still an int
    assert not one("unsigned int dfd", 8, 8, 0).ctype.strip().signed
    assert one("pid_t a", 8, 4, 1).ctype.strip().signed and not one("uid_t a", 8, 4, 0).ctype.strip().signed
    assert one("char a", 8, 1, 1).ctype.encoding == "char"


def test_references_to_arrays():
    field = one("__data_loc char[] name", 8, 4, 1)
    assert field.data_loc and not field.rel_loc and field.name == "name" and field.type == "char[]"
    assert isinstance(field.ctype, Array) and field.ctype.element.encoding == "char" and field.size == 4
    field = one("__rel_loc u32[] words", 8, 4, 0)
    assert field.rel_loc and not field.data_loc and field.ctype.element.size == 4
    assert one("__data_loc cpumask_t[] m", 8, 4).ctype.element.name == "cpumask_t"


def test_user_pointers_of_system_calls():
    text = "const char * filename"
    assert one(text, 16, 8, name="sys_enter_openat", category="syscalls").ctype.space == "user"
    assert one(text, 16, 8, name="sched_x", category="sched").ctype.space == ""
    assert one("const char __user * filename", 16, 8).ctype.space == "user"


def test_types_are_resolved():
    known = {
        "gfp_t": Typedef("gfp_t", Int("unsigned int", 4, False)),
        "struct sock": Struct("sock", 760, ()),
        "enum e": Enum("e", 4, {"A": 1}),
    }
    assert one("struct sock *sk", 8, 8, resolve=known.get).ctype.target is known["struct sock"]
    assert one("enum e mode", 8, 4, resolve=known.get).ctype is known["enum e"]
    assert one("enum e mode", 8, 8, resolve=known.get).ctype.size == 8  # the file's size wins
    assert one("__data_loc gfp_t[] a", 8, 4, resolve=known.get).ctype.element is known["gfp_t"]
    assert one("struct sock inline_sk", 8, 16, resolve=known.get).ctype.size == 16


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "name: x\n",
        "ID: 4\n",
        "name: x\nID: four\n",
        "name: x\nID: 99999999999\n",
        "name: x\nID: 4\nformat:\n\tfield:int a;\n",
        "name: x\nID: 4\nformat:\n\tfield:int a;\toffset:8;\tsize:-4;\tsigned:1;\n",
        "name: x\nID: 4\nformat:\n\tfield:int *;\toffset:8;\tsize:4;\tsigned:1;\n",
        "name: x\nID: 4\nformat:\n\tfield:;\toffset:8;\tsize:4;\tsigned:1;\n",
        "name: x\nID: 4\nformat:\n" + "\tfield:int a;\toffset:8;\tsize:4;\tsigned:1;\n" * 5000,
        "name: x\nID: 4\nformat:\n" + "x" * (1 << 20),
    ],
)
def test_refused(text):
    with pytest.raises(FormatError):
        parse(text)


@given(st.text(alphabet="naetmfield:;ofsz\t\n 0129[]*_cONU", max_size=200))
def test_any_text(text):
    for start in ("", "name: x\nID: 4\nformat:\n\tfield:"):
        try:
            for field in parse(start + text).fields:
                str(field.ctype)
        except FormatError:
            pass


def test_bytes_and_odd_characters():
    assert parse(b"name: x\nID: 4\nformat:\n" + COMMON.encode() + b'\nprint fmt: "\xff"\n').print_fmt == '"\\xff"'
