"""probes.catalogue on a made-up kernel: what it finds, what it refuses aloud, and what it does when sources are missing."""

from __future__ import annotations

import errno

import pytest

from harken.base import cache
from harken.base.errors import FormatError, KernelError, ProbeError
from harken.formats.btf import Btf
from harken.probes.catalogue import Catalogue
from harken.testing.btf_builder import BtfBuilder
from harken.testing.fake_kernel import FakeKernel

TRACING = "/sys/kernel/tracing"
FORMAT = 'name: sched_switch\nID: 7\nformat:\n\tfield:char prev_comm[16];\toffset:8;\tsize:16;\tsigned:0;\n\nprint fmt: ""\n'


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HARKEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HARKEN_BTF", raising=False)
    monkeypatch.delenv("BPFTRACE_BTF", raising=False)


def kernel_btf() -> BtfBuilder:
    b = BtfBuilder()
    i = b.integer("int", 4, signed=True)
    task = b.ptr(b.struct("task_struct", 64, [("pid", i, 0)]))
    data = b.ptr(0)
    for name, event, named in (("sched_switch", True, True), ("bare", True, False)):
        proto = b.proto(0, [("", data), ("", i), ("", task)])
        if event:
            b.typedef(f"btf_trace_{name}", b.ptr(proto))
        if named:
            b.func(f"__bpf_trace_{name}", b.proto(0, [("__data", data), ("preempt", i), ("prev", task)]))
    for name in ("vfs_read", "vfs_write", "twice", "shared", "inlined_away"):
        b.func(name, b.proto(i, [("task", task)]))
    b.struct("bpf_iter__task", 8, [("task", task, 0)])
    b.struct("bpf_iter__task__safe_trusted", 8, [])
    return b


def module_blob() -> bytes:
    base = Btf(kernel_btf().build())
    b = BtfBuilder(base.count, base.strings_length)
    i = base.id_of("int", "int")
    b.func("mod_open", b.proto(i, [("flags", i)]))
    b.func("shared", b.proto(i, []))
    b.typedef("btf_trace_mod_event", b.ptr(b.proto(0, [("", i), ("", i)])))
    return b.build()


KALLSYMS = """\
ffffffff81000000 T vfs_read
ffffffff81000100 T vfs_write
ffffffff81000200 t twice
ffffffff81000300 t twice
ffffffff81000400 T shared
ffffffff81000500 D task_struct
ffffffff81000600 T not_in_btf
ffffffffc0000000 t mod_open\t[mod]
ffffffffc0000100 t shared\t[mod]
ffffffffc1000000 t bpf_prog_1234\t[bpf]
"""
FILES = {
    "/sys/kernel/btf/vmlinux": kernel_btf().build(),
    "/sys/kernel/btf/mod": module_blob(),
    "/sys/kernel/notes": b"build-id",
    "/sys/module/mod/refcnt": b"0",
    "/proc/modules": b"mod 16384 0 - Live 0xffffffffc0000000\n",
    "/proc/kallsyms": KALLSYMS,
    f"{TRACING}/trace": b"",
    f"{TRACING}/available_events": b"sched:sched_switch\nsyscalls:sys_enter_read\nsyscalls:sys_exit_read\nsched:sched_exit\n",
    f"{TRACING}/events/sched/sched_switch/format": FORMAT,
    f"{TRACING}/available_filter_functions": b"vfs_read\nvfs_write\ntwice\ntwice\nshared\nshared [mod]\nmod_open [mod]\n",
}


def catalogue(**changes: object) -> Catalogue:
    files = dict(FILES)
    for path, data in changes.items():
        files[path] = data
        if data is None:
            del files[path]
    return Catalogue(FakeKernel(files))


def without(*paths: str, **changes: object) -> Catalogue:
    return catalogue(**{**dict.fromkeys(paths), **changes})


def test_creating_it_asks_nothing():
    kernel = FakeKernel({})
    Catalogue(kernel)
    assert not kernel.calls


def test_tracepoints():
    c = catalogue()
    assert c.tracepoints() == [
        ("sched", "sched_exit"),
        ("sched", "sched_switch"),
        ("syscalls", "sys_enter_read"),
        ("syscalls", "sys_exit_read"),
    ]
    assert c.tracepoint("sched", "sched_switch").fields[0].name == "prev_comm"
    assert c.tracepoint("sched", "sched_switch") is c.tracepoint("sched", "sched_switch")
    with pytest.raises(ProbeError) as caught:
        c.tracepoint("sched", "sched_swich")
    assert "sched:sched_switch" in caught.value.hint


def test_one_tracepoint_is_found_without_listing_all():
    there = {f"{TRACING}/events/sched/sched_switch/enable": b"0\n"}
    assert without(f"{TRACING}/available_events", **there).has_tracepoint("sched", "sched_switch")
    c = catalogue(**there)
    for _ in range(2):
        assert c.has_tracepoint("sched", "sched_exit")  # listed, though this file is not there
        assert not c.has_tracepoint("sched", "sched_swich") and not c.has_tracepoint("sched", "../sched/sched_switch")
        assert not c.has_tracepoint("..", "sched") and not c.has_tracepoint("sched", "")
        c.tracepoints()


def test_one_raw_tracepoint_is_found_without_listing_all():
    for listed in (False, True):
        c = catalogue()
        if listed:
            c.raw_tracepoints()
        assert c.has_raw_tracepoint("sched_switch") and c.has_raw_tracepoint("mod_event") and not c.has_raw_tracepoint("none")
    assert without("/sys/kernel/btf/vmlinux").has_raw_tracepoint("sys_enter")


def test_raw_tracepoints():
    c = catalogue()
    assert c.raw_tracepoints() == ["bare", "mod_event", "sched_switch"]
    assert str(c.raw_tracepoint("sched_switch")) == "void sched_switch(int preempt, struct task_struct *prev)"
    assert [name for name, _ in c.raw_tracepoint("bare").params] == ["arg0", "arg1"]
    assert [kind.name for _, kind in c.raw_tracepoint("mod_event").params] == ["int"]
    assert c.raw_tracepoint("none") is None


def test_raw_tracepoints_without_btf():
    c = without("/sys/kernel/btf/vmlinux")
    assert c.raw_tracepoints() == ["sched_exit", "sched_switch", "sys_enter", "sys_exit"] and c.raw_tracepoint("sched_switch") is None


def test_functions_from_ftrace():
    c = catalogue()
    assert c.functions() == [
        ("vfs_read", ""), ("vfs_write", ""), ("twice", ""), ("twice", ""), ("shared", ""), ("shared", "mod"), ("mod_open", "mod"),
    ]  # fmt: skip
    assert "available_filter_functions" in c.functions_source


def test_functions_from_symbols_and_btf():
    c = catalogue(**{f"{TRACING}/available_filter_functions": PermissionError(errno.EPERM, "no")})
    names = [("vfs_read", ""), ("vfs_write", ""), ("twice", ""), ("twice", ""), ("shared", ""), ("mod_open", "mod"), ("shared", "mod")]
    assert c.functions() == names and "because" in c.functions_source
    banned = catalogue(
        **{
            f"{TRACING}/available_filter_functions": PermissionError(errno.EPERM, "no"),
            "/sys/kernel/debug/kprobes/blacklist": b"0xffffffff81000000-0xffffffff81000010\tvfs_read\n",
        }
    )
    assert banned.functions() == names[1:]


def test_functions_from_btf_alone():
    c = without("/proc/kallsyms", f"{TRACING}/available_filter_functions")
    assert ("inlined_away", "") in c.functions() and ("vfs_read", "") in c.functions()


def test_no_source_of_functions():
    assert without("/proc/kallsyms", f"{TRACING}/available_filter_functions", "/sys/kernel/btf/vmlinux").functions() == []


def test_signatures():
    c = catalogue()
    assert str(c.function("vfs_read")) == "int vfs_read(struct task_struct *task)" and c.function("vfs_read", "vmlinux") is not None
    assert str(c.function("mod_open", "mod")) == "int mod_open(int flags)" and str(c.function("shared", "mod")) == "int shared(void)"
    assert c.function("vfs_read", "mod") is None and c.function("none") is None and c.function("x", "../../etc") is None
    assert c.module_btf("none") is None


def test_locate():
    c = catalogue()
    assert c.locate("vfs_read") == ("vfs_read", "") and c.locate("mod_open") == ("mod_open", "mod")
    assert c.locate("shared", "mod") == ("shared", "mod") and c.locate("shared", "vmlinux") == ("shared", "")
    with pytest.raises(ProbeError, match="2 modules") as caught:
        c.locate("shared")
    assert "vmlinux:shared" in caught.value.hint and "mod:shared" in caught.value.hint
    with pytest.raises(ProbeError, match="2 functions of the kernel are called twice"):
        c.locate("twice")
    with pytest.raises(ProbeError) as caught:
        c.locate("vfs_reed")
    assert "vfs_read" in caught.value.hint
    with pytest.raises(ProbeError, match="in module mod"):
        c.locate("vfs_read", "mod")


def test_iterators():
    c = catalogue()
    assert c.iterators() == ["task"] and [m.name for m in c.iterator("task").members] == ["task"] and c.iterator("none") is None
    assert without("/sys/kernel/btf/vmlinux").iterators() == []


def test_symbols_and_modules():
    c = catalogue()
    assert c.kallsyms.address("vfs_read") == 0xFFFFFFFF81000000 and c.modules() == ["mod"]


def test_no_btf_says_why():
    c = without("/sys/kernel/btf/vmlinux")
    assert c.btf is None and "CONFIG_DEBUG_INFO_BTF" in c.btf_reason and c.function("vfs_read") is None and c.module_btf("mod") is None
    c = catalogue(**{"/sys/kernel/btf/vmlinux": PermissionError(errno.EACCES, "no")})
    assert c.btf is None and "may not be read" in c.btf_reason


def test_damaged_btf_is_an_error():
    with pytest.raises(FormatError):
        catalogue(**{"/sys/kernel/btf/vmlinux": FILES["/sys/kernel/btf/vmlinux"][:-9]}).btf  # noqa: B018


def test_no_tracefs_is_an_error():
    c = Catalogue(FakeKernel({"/proc/self/mounts": b""}))
    with pytest.raises(KernelError):
        c.tracepoints()
    with pytest.raises(KernelError):
        c.has_tracepoint("sched", "sched_switch")


def test_other_btf_by_environment(tmp_path, monkeypatch):
    b = BtfBuilder()
    b.struct("only_here", 4, [])
    monkeypatch.setenv("HARKEN_BTF", "/other.btf")
    c = catalogue(**{"/other.btf": b.build()})
    assert c.btf.struct("only_here").size == 4 and c.btf.struct("task_struct") is None
    monkeypatch.setenv("HARKEN_BTF", "/absent.btf")
    with pytest.raises(FormatError, match="/absent.btf: cannot be read: No such file") as caught:
        catalogue().btf  # noqa: B018
    assert "HARKEN_BTF" in caught.value.hint


# -- the cache


def test_the_second_start_walks_nothing(monkeypatch):
    first = catalogue()
    assert first.btf.struct("task_struct").size == 64 and first.function("mod_open", "mod") is not None

    def walked(*args, **kwargs):
        raise AssertionError("the index was built again")

    monkeypatch.setattr("harken.formats.btf_index.build", walked)
    second = catalogue()
    assert second.btf.struct("task_struct").size == 64 and str(second.function("mod_open", "mod")) == "int mod_open(int flags)"
    with pytest.raises(AssertionError):
        catalogue(**{"/sys/kernel/notes": b"another build"}).btf  # noqa: B018


def test_a_damaged_index_is_replaced(tmp_path):
    assert catalogue().btf is not None
    (file,) = (tmp_path / "cache").glob("btf.*")
    data = bytearray(file.read_bytes())
    data[150] ^= 0xFF
    start = bytes(data).index(b"harkenBI")
    data[start] ^= 0xFF
    file.write_bytes(data)
    assert catalogue().btf.struct("task_struct").size == 64
    assert b"harkenBI" in file.read_bytes()


def test_without_a_cache(monkeypatch):
    monkeypatch.setenv("HARKEN_CACHE", "off")
    assert cache.cache_dir() is None and catalogue().btf.struct("task_struct").size == 64
