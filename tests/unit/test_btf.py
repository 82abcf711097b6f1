"""formats.btf: every kind, both byte orders, split BTF, and whatever hostile bytes may do."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harken.base.ctype import VOID, Array, Enum, Float, Func, Fwd, Ptr, Struct, Typedef
from harken.base.errors import FormatError
from harken.formats import btf_layout
from harken.formats.btf import Btf, from_file
from harken.formats.btf_index import Index, build
from harken.formats.btf_scan import Scan
from harken.kernel import btf as kernel_btf
from harken.kernel.btf import _whole
from harken.testing.btf_builder import BtfBuilder
from harken.testing.elf_builder import ElfBuilder
from harken.testing.fake_kernel import FakeKernel

VMLINUX = "/sys/kernel/btf/vmlinux"


def every_kind() -> BtfBuilder:
    b = BtfBuilder()
    i = b.integer("int", 4, signed=True)
    u64 = b.integer("long unsigned int", 8)
    char = b.integer("char", 1)
    boolean = b.integer("_Bool", 1, bool=True)
    pid_t = b.typedef("pid_t", i)
    node = b.next_id
    b.struct("node", 24, [("next", node + 1, 0), ("pid", pid_t, 64), ("name", node + 2, 96)])
    b.ptr(node)
    b.array(char, 8, i)
    inner = b.union("", 8, [("raw", u64, 0), ("flag", boolean, 0)])
    b.struct("outer", 16, [("", inner, 0), ("node", node + 1, 64)])
    b.bitfields("bits", 4, [("a", i, 0, 3), ("b", i, 3, 5), ("whole", i, 0, 0)])
    b.enum("color", 4, {"RED": 0, "MINUS": -1}, signed=True)
    b.enum("mask", 4, {"HIGH": 0x80000000})
    b.enum64("wide", {"BIG": 1 << 40, "NEG": -5}, signed=True)
    b.fwd("later")
    b.fwd("either", union=True)
    const_char = b.const(b.volatile(char))
    b.ptr(b.type_tag("user", const_char))
    proto = b.proto(u64, [("file", node + 1), ("buf", b.next_id - 1)], variadic=True)
    b.func("do_read", proto)
    counter = b.var("counter", u64)
    b.datasec(".data..percpu", 8, [(counter, 0, 8)])
    b.floating("double", 8)
    b.decl_tag("bpf_kfunc", b.func("kfunc", b.proto(0, [])))
    return b


@pytest.fixture(params=["<", ">"])
def btf(request):
    return Btf(every_kind().build(request.param))


def test_struct_is_lazy_and_cyclic(btf):
    node = btf.struct("node")
    assert node.size == 24 and [m.name for m in node.members] == ["next", "pid", "name"]
    assert node.member("next").type.target is node
    assert isinstance(node.member("pid").type, Typedef) and node.member("pid").type.size == 4
    name = node.member("name").type
    assert isinstance(name, Array) and (name.count, name.size) == (8, 8) and name.element.encoding == "char"


def test_anonymous_members_and_bitfields(btf):
    outer = btf.struct("outer")
    assert outer.member("flag").type.encoding == "bool" and outer.member("flag").bit_offset == 0
    assert [(m.name, m.bit_offset, m.bit_size) for m in btf.struct("bits").members] == [("a", 0, 3), ("b", 3, 5), ("whole", 0, 0)]


def test_enums(btf):
    assert btf.enum("color").values == {"RED": 0, "MINUS": -1} and btf.enum("color").signed
    assert btf.enum("mask").values == {"HIGH": 0x80000000}
    assert btf.enum("wide").values == {"BIG": 1 << 40, "NEG": -5} and btf.enum("wide").size == 8
    assert btf.enum_value("BIG") == 1 << 40
    kind, value = btf.enumerator("HIGH")
    assert kind.name == "mask" and value == 0x80000000
    assert btf.enum_value("NONE") is None and btf.enum_value("") is None


def test_functions_variables_and_the_rest(btf):
    function = btf.function("do_read")
    assert isinstance(function, Func) and function.name == "do_read" and function.variadic
    assert [name for name, _ in function.params] == ["file", "buf"]
    buffer = function.params[1][1]
    assert isinstance(buffer, Ptr) and buffer.space == "user" and buffer.target.name == "char"
    assert function.params[0][1].space == ""
    assert btf.function("kfunc").returns is VOID and btf.function("kfunc").params == ()
    assert isinstance(btf.type(btf.id_of("later", "fwd")), Fwd)
    assert btf.type(btf.id_of("either", "fwd")).kind == "union"
    assert btf.variable("counter").name == "long unsigned int"
    assert [m.name for m in btf.datasec(".data..percpu").members] == ["counter"]
    assert isinstance(btf.find("double"), Float)
    assert [btf.name(number) for number, _ in btf.decl_tags("bpf_kfunc")] == ["kfunc"]
    assert btf.decl_tags("other") == []


def test_lookups(btf):
    assert btf.struct("color") is None and btf.enum("node") is None and btf.struct("") is None
    assert btf.names("func") == ["do_read", "kfunc"]
    assert btf.names("struct") == ["node", "outer", "bits"]
    assert [btf.kind(n) for n in btf.ids("enum", "enum64")] == ["enum", "enum", "enum64"]
    assert isinstance(btf.find("struct node"), Struct) and isinstance(btf.find("enum color"), Enum)
    assert btf.find("pid_t").name == "pid_t" and btf.find("void") is VOID
    for spelling in ("unsigned long", "long unsigned int", "unsigned long int", "long int unsigned"):
        assert btf.find(spelling).name == "long unsigned int"
    assert btf.find("int").signed and btf.find("signed int") is btf.find("int") and btf.find("bool").encoding == "bool"
    assert btf.find("unsigned short") is None and btf.find("no such thing") is None and btf.find("") is None
    assert btf.info(1) == ("int", "int", 0, 4, False) and btf.kind(0) == "void" and btf.name(0) == ""


def test_numbers_out_of_range(btf):
    for wrong in (btf.count, 1 << 31):
        for ask in (btf.type, btf.kind, btf.name, btf.info, btf.items):
            with pytest.raises(FormatError):
                ask(wrong)


@pytest.mark.parametrize("size", [4, 8])
def test_pointer_size_is_that_of_long(size):
    b = BtfBuilder()
    b.integer("long int", size, signed=True)
    pointer = b.ptr(0)
    assert Btf(b.build()).type(pointer).size == size


def test_bitfields_before_kind_flag():
    b = BtfBuilder()
    narrow = b.integer("unsigned int", 4, bits=3, offset=2)
    b.struct("old", 4, [("three", b.typedef("three_bits", narrow), 8)])
    (member,) = Btf(b.build()).struct("old").members
    assert (member.bit_offset, member.bit_size) == (10, 3)


@pytest.mark.parametrize("tag", ["user", "percpu", "rcu", "other"])
def test_type_tags(tag):
    b = BtfBuilder()
    pointer = b.ptr(b.const(b.type_tag(tag, b.integer("int", 4))))
    found = Btf(b.build()).type(pointer)
    assert found.space == (tag if tag != "other" else "") and found.target.name == "int"


def test_first_of_several_definitions():
    b = BtfBuilder()
    b.struct("twice", 4, [])
    b.struct("twice", 8, [])
    btf = Btf(b.build())
    assert btf.struct("twice").size == 4 and len(btf.ids_of("twice", "struct")) == 2


def test_split_btf():
    base = Btf(every_kind().build())
    b = BtfBuilder(base.count, base.strings_length)
    b.struct("mine", 8, [("node", base.id_of("node", "struct") + 1, 0)])
    b.func("module_init", b.proto(base.id_of("int", "int"), []))
    b.enum("own", 4, {"OWN": 3})
    module = Btf(b.build(), "module", base)
    assert module.struct("mine").members[0].type.target is base.struct("node")
    assert module.function("module_init").returns.name == "int"
    assert module.struct("node") is base.struct("node") and module.enum_value("RED") == 0 and module.enum_value("OWN") == 3
    assert module.names("func") == ["module_init"] and module.pointer_size == 8
    assert module.count == base.count + 4 and base.function("module_init") is None


def test_from_an_elf_file():
    blob = every_kind().build()
    assert from_file(ElfBuilder().section(".BTF", blob).build()).struct("node").size == 24
    assert from_file(blob).struct("node").size == 24
    with pytest.raises(FormatError, match="no .BTF section"):
        from_file(ElfBuilder().build())


def test_index_round_trip():
    blob = every_kind().build()
    raw = build(blob, copy=True)
    index = Index(raw)
    assert bytes(index.copy) == blob and Index(build(blob)).copy is None
    btf = Btf(index.copy, index=index)
    assert btf.function("do_read").name == "do_read" and btf.enum_value("RED") == 0
    for damaged in (raw[:20], b"X" + raw[1:], raw[: len(raw) // 3], b""):
        with pytest.raises(FormatError):
            Index(damaged)


# -- hostile bytes


def hostile(make) -> Btf:
    b = BtfBuilder()
    make(b)
    return Btf(b.build(), "hostile")


def explore(btf: Btf) -> None:
    """Looks at everything the way users of the module do."""
    for number in range(btf.count):
        kind = btf.kind(number)
        if kind == "decl_tag":
            continue
        found = btf.type(number)
        str(found)
        found.strip()
        assert found.size >= 0
        if isinstance(found, Struct):
            list(found.names())
            found.member("no such member")
            found.declaration()
            assert found.align >= 1
        if isinstance(found, Ptr):
            str(found.target)


@pytest.mark.parametrize(
    "make",
    [
        lambda b: b.typedef("a", b.next_id),
        lambda b: (b.typedef("a", b.next_id + 1), b.typedef("b", b.next_id - 1)),
        lambda b: b.array(b.next_id, 2),
        lambda b: (b.array(2, 2), b.typedef("x", 1)),
        lambda b: b.const(b.next_id),
        lambda b: b.struct("s", 8, [("s", b.next_id, 0)]),
        lambda b: (b.struct("", 8, [("", 2, 0)]), b.union("", 8, [("", 1, 0)])),
        lambda b: (b.struct("", 8, [("", 2, 0)]), b.array(1, 1)),
        lambda b: b.ptr(b.next_id),
        lambda b: (b.ptr(2), b.proto(0, [("again", 1)])),
        lambda b: (b.ptr(2), b.struct("", 8, [("again", 1, 0)])),
        lambda b: b.proto(b.next_id, []),
        lambda b: b.proto(0, [("x", b.next_id)]),
        lambda b: b.func("f", b.next_id),
        lambda b: b.func("f", 0),
        lambda b: b.typedef("t", 77),
        lambda b: b.ptr(77),
        lambda b: b.struct("s", 8, [("x", 77, 0)]),
        lambda b: b.var("v", b.next_id),
        lambda b: b.datasec("d", 8, [(b.integer("int", 4), 0, 4)]),
        lambda b: b.record(1, "int", 99, (0,)),
        lambda b: b.record(6, "enum", 3, (0, 1), vlen=1),
        lambda b: b.typedef("t", b.func("f", b.proto(0, []))),
        lambda b: b.struct("s", 8, [("x", b.func("f", b.proto(0, [])), 0)]),
    ],
)
def test_cycles_and_wrong_ids_are_refused(make):
    with pytest.raises(FormatError) as caught:
        explore(hostile(make))
    assert "hostile" in str(caught.value)


def test_pointers_may_be_cyclic_through_a_name():
    btf = hostile(lambda b: (b.ptr(2), b.typedef("self", 1)))
    assert btf.type(1).target.name == "self"


def test_deep_nesting_is_refused_at_once():
    b = BtfBuilder()
    inner = b.integer("int", 4)
    for depth in range(5000):
        inner = b.struct("", 4 + depth, [("", inner, 0)])
    btf = Btf(b.build())
    with pytest.raises(FormatError, match="nested"):
        _ = btf.type(inner).members
    assert btf.type(5).members  # a shallow one of the same chain is fine


def test_diamonds_are_not_walked_twice():
    b = BtfBuilder()
    inner = b.integer("int", 4)
    for depth in range(50):  # 2**50 paths
        inner = b.struct(f"s{depth}", 4, [("a", inner, 0), ("b", inner, 0)])
    assert len(Btf(b.build()).type(inner).members) == 2


@pytest.mark.parametrize("order", ["<", ">"])
def test_every_truncation_of_a_small_blob(order):
    blob = every_kind().build(order)
    for size in range(len(blob)):
        with pytest.raises(FormatError):
            explore(Btf(blob[:size]))


def test_wrong_headers():
    blob = every_kind().build()
    for offset, value in (
        (0, b"\0\0"),
        (2, b"\2"),
        (4, b"\xff\xff\xff\xff"),
        (4, b"\0"),
        (8, b"\xff"),
        (12, b"\x01"),
        (16, b"\xff\xff"),
        (20, b"\xff\xff"),
    ):
        with pytest.raises(FormatError):
            explore(Btf(blob[:offset] + value + blob[offset + len(value) :]))
    with pytest.raises(FormatError, match="not BTF"):
        Btf(bytes(100))


def test_too_long_names_and_name_offsets():
    b = BtfBuilder()
    b.struct("n" * (btf_layout.MAX_NAME + 1), 0, [])
    with pytest.raises(FormatError):
        Btf(b.build()).names("struct")
        _ = Btf(b.build()).index
    b = BtfBuilder()
    b.struct("s", 0, [])
    blob = bytearray(b.build())
    struct.pack_into("<I", blob, 24, 1 << 30)
    with pytest.raises(FormatError, match="name"):
        _ = Btf(bytes(blob)).index


SMALL = every_kind().build()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_mutants_raise_format_error_or_nothing(changes):
    blob = bytearray(SMALL)
    for offset, value in changes:
        blob[offset] = value
    try:
        explore(Btf(bytes(blob)))
    except FormatError:
        pass


@pytest.mark.skipif(not os.access(VMLINUX, os.R_OK), reason=f"{VMLINUX} cannot be read")
def test_truncations_of_the_kernels_own():
    with open(VMLINUX, "rb") as file:
        blob = file.read()
    for size in (0, 10, 23, 24, 1000, len(blob) // 3, len(blob) // 2, len(blob) - 1):
        with pytest.raises(FormatError):
            Btf(blob[:size])
    header = bytearray(blob[:24])
    struct.pack_into("<I", header, 12, len(blob) // 2 // 4 * 4)  # a type section that claims to be shorter cuts a record in two
    with pytest.raises(FormatError):
        _ = Btf(bytes(header) + blob[24 : 24 + len(blob) // 2 // 4 * 4 + 2]).index


def test_the_kernels_types_are_mapped_where_it_allows_that() -> None:
    builder = every_kind()
    for number in range(400):
        builder.struct(f"filler_{number}", 4, [("member", 1, 0)])
    blob = builder.build()
    assert len(blob) > 8192
    kernel = FakeKernel(files={"/sys/kernel/btf/vmlinux": blob})
    head = blob[:4096]
    # a mapping that holds something else is not taken
    assert _whole(kernel, "/sys/kernel/btf/vmlinux", head) == blob
    (fd,) = {fd for fd, _ in kernel.mappings}
    assert not kernel.open_fds
    kernel.memory[fd + 1, 0] = blob
    kernel.files["/sys/kernel/btf/vmlinux"] = head
    assert _whole(kernel, "/sys/kernel/btf/vmlinux", head) == blob
    # a small one has been read already
    small = every_kind().build()
    kernel.files["/small"] = small
    assert len(small) < 4096 and _whole(kernel, "/small", small) == small


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("together", [False, True])
def test_a_scan_finds_what_an_index_finds(order: str, together: bool) -> None:
    b = every_kind()
    b.struct("twice", 0, [])
    b.typedef("twice", b.enum("RED", 4, {"RED": 7, "twice": 1}))
    blob = b.build(order)
    index, scan = Index(build(blob)), Scan(blob)
    assert (list(scan.positions), bytes(scan.kinds), scan.decl_tags) == (list(index.positions), bytes(index.kinds), list(index.decl_tags))
    names = {part for part in Btf(blob).all_strings().split(b"\0")} | {b"not_there", b"wice", b"nod"}
    if together:
        scan.expect([])
        scan.expect([name for name in names if name != b"node"])
        scan.expect(names)
    for name in names:
        assert list(scan.named(name)) == list(index.named(name)), name
        assert list(scan.enumerators(name)) == list(index.enumerators(name)), name
    assert len(list(scan.named(b"twice"))) == 2 and len(list(scan.enumerators(b"RED"))) == 2
    both = [Btf(blob, index=found) for found in (index, scan)]
    assert both[0].names("struct", "enum") == both[1].names("struct", "enum") and str(both[1].struct("node")) == str(both[0].struct("node"))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_scan_of_mutants_raises_format_error_or_nothing(changes: list[tuple[int, int]]) -> None:
    blob = bytearray(SMALL)
    for offset, value in changes:
        blob[offset] = value
    try:
        scan = Scan(bytes(blob))
        explore(Btf(bytes(blob), index=scan))
        scan.expect([b"node", b"RED"])
        assert all(0 < number <= len(scan.kinds) for name in (b"node", b"RED") for number in [*scan.named(name), *scan.enumerators(name)])
    except FormatError:
        pass


def test_the_index_is_stored_when_the_process_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    blob = every_kind().build()
    kernel = FakeKernel(files={"/sys/kernel/btf/vmlinux": blob, "/proc/version": b"Linux"})
    at_exit: list[object] = []
    monkeypatch.setenv("HARKEN_CACHE", str(tmp_path))
    monkeypatch.setattr(kernel_btf, "_scanned", {})
    monkeypatch.setattr(kernel_btf, "_LARGE", range(1 << 20))
    monkeypatch.setattr(kernel_btf.atexit, "register", at_exit.append)
    first, again = kernel_btf.vmlinux_types(kernel), kernel_btf.vmlinux_types(kernel)
    assert isinstance(first.index, Scan) and again.index is first.index and not list(tmp_path.iterdir())
    assert at_exit == [kernel_btf.keep]
    kernel_btf.keep()
    later = kernel_btf.vmlinux_types(kernel)
    assert isinstance(later.index, Index) and str(later.struct("node")) == str(first.struct("node"))
    kernel_btf.keep()
    assert len(list(tmp_path.iterdir())) == 1
    # where nothing can be kept, nothing is put off
    monkeypatch.setenv("HARKEN_CACHE", "off")
    assert isinstance(kernel_btf.vmlinux_types(kernel).index, Index)
