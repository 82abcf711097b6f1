"""probes.listing and render.listing on the made-up kernel of test_catalogue: patterns, words, kinds, details."""

from __future__ import annotations

import pytest

from harken.base.errors import UsageError
from harken.formats.elf import Elf
from harken.probes.catalogue import Catalogue
from harken.probes.description import describe
from harken.probes.listing import near, search
from harken.render.listing import text
from harken.testing.btf_builder import BtfBuilder
from harken.testing.elf_builder import ElfBuilder
from harken.testing.fake_kernel import FakeKernel

TRACING = "/sys/kernel/tracing"


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    monkeypatch.setenv("HARKEN_CACHE", "off")
    monkeypatch.delenv("HARKEN_BTF", raising=False)
    monkeypatch.delenv("BPFTRACE_BTF", raising=False)


class Listed(Catalogue):
    """A catalogue whose binaries are built in code."""

    def binaries(self, name, pid=-1):
        return {"/bin/app": ["/bin/app"], "app": ["/bin/app"], "/bin/*": ["/bin/app", "/bin/script"]}.get(name, [])

    def process_binaries(self, pid):
        return ["/bin/app"]

    def binary(self, path):
        if path != "/bin/app":
            return Elf(b"#!/bin/sh")
        built = ElfBuilder().function("main", 0x401000, 8).function("read_all", 0x401008, 8)
        return Elf(built.marker("prov", "start", 0x401000, "-4@%edi 8@%rsi").marker("prov", "stop", 0x401001).build())


@pytest.fixture
def catalogue() -> Catalogue:
    b = BtfBuilder()
    i = b.integer("int", 4, signed=True)
    task = b.ptr(b.struct("task_struct", 64, [("pid", i, 0)]))
    b.enum("color", 4, {"RED": 1})
    b.union("either", 4, [("a", i, 0)])
    b.func("vfs_read", b.proto(i, [("task", task), ("count", i)]))
    b.typedef("btf_trace_sched_switch", b.ptr(b.proto(0, [("", b.ptr(0)), ("", task)])))
    b.struct("bpf_iter__task", 8, [("task", task, 0)])
    fields = "\tfield:const char * filename;\toffset:8;\tsize:8;\tsigned:0;\n"
    files = {
        "/sys/kernel/btf/vmlinux": b.build(),
        "/sys/bus/event_source/devices/msr/type": "10",
        "/sys/bus/event_source/devices/msr/format/event": "config:0-63",
        "/sys/bus/event_source/devices/msr/events/tsc": "event=0x00",
        f"{TRACING}/trace": "",
        f"{TRACING}/available_events": "sched:sched_switch\nsyscalls:sys_enter_openat\nvfs:readpage\n",
        f"{TRACING}/available_tracers": "function nop\n",
        f"{TRACING}/trace_options": "print-parent\nnostacktrace\n",
        f"{TRACING}/options/blk_classic": "0",
        f"{TRACING}/events/ftrace/print/format": "name: print\nID: 5\nformat:\n\tfield:char buf[];\toffset:8;\tsize:0;\tsigned:0;\n",
        f"{TRACING}/trace_clock": "[local] global\n",
        f"{TRACING}/available_filter_functions": "vfs_read\nvfs_write\nmod_read [mod]\n",
        f"{TRACING}/events/syscalls/sys_enter_openat/format": f'name: sys_enter_openat\nID: 7\nformat:\n{fields}\nprint fmt: ""\n',
    }
    return Listed(FakeKernel(files))


def found(catalogue, pattern="", pid=-1) -> list[str]:
    return [name for _, names in search(catalogue, pattern, pid) for name in names]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("tracepoint:sched:*", ["tracepoint:sched:sched_switch"]),
        ("t:*:*openat", ["tracepoint:syscalls:sys_enter_openat"]),
        ("tracepoint:*switch", ["tracepoint:sched:sched_switch"]),
        ("tracepoint", ["tracepoint:sched:sched_switch", "tracepoint:syscalls:sys_enter_openat", "tracepoint:vfs:readpage"]),
        ("kprobe:vfs_*", ["kprobe:vfs_read", "kprobe:vfs_write"]),
        ("k:*read", ["kprobe:vfs_read", "kprobe:mod:mod_read"]),
        ("kprobe:mod:*", ["kprobe:mod:mod_read"]),
        ("kprobe:vmlinux:*read", ["kprobe:vfs_read"]),
        ("kretprobe:vfs_read", ["kretprobe:vfs_read"]),
        ("kfunc:*", ["fentry:vfs_read"]),
        ("fexit:vfs*", ["fexit:vfs_read"]),
        ("rawtracepoint:*", ["rawtracepoint:sched_switch"]),
        ("rt:vmlinux:sched*", ["rawtracepoint:sched_switch"]),
        ("software:cpu*", ["software:cpu-clock:", "software:cpu:", "software:cpu-migrations:"]),
        ("software:faults", ["software:faults:"]),
        ("software:faults:", ["software:faults:"]),
        ("hardware:cycles", ["hardware:cycles:"]),
        ("cache:LLC-load*", ["cache:LLC-loads:", "cache:LLC-load-misses:"]),
        ("pmu", ["pmu:msr/tsc/"]),
        ("iter:*", ["iter:task"]),
        ("interval:m*", ["interval:ms:"]),
        ("tracer", ["tracer:function", "tracer:nop"]),
        ("option:*stack*", ["option:stacktrace"]),
        ("ftrace:p*", ["ftrace:print"]),
        ("option:blk*", ["option:blk_classic"]),
        ("clock:*", ["clock:local", "clock:global"]),
        ("*openat", ["tracepoint:syscalls:sys_enter_openat"]),
        ("*sched_sw*", ["tracepoint:sched:sched_switch", "rawtracepoint:sched_switch"]),
        ("sched_switch", ["tracepoint:sched:sched_switch", "rawtracepoint:sched_switch"]),
        ("vfs", ["tracepoint:vfs:readpage"]),
        ("_enter_", ["tracepoint:syscalls:sys_enter_openat"]),
        ("tsc", ["pmu:msr/tsc/"]),
        ("k*:vfs_read", ["kprobe:vfs_read"]),
        ("struct task_struct", ["struct task_struct"]),
        ("struct task*", ["struct task_struct"]),
        ("enum *", ["enum color"]),
        ("union either", ["union either"]),
        ("struct none", []),
        ("kprobe:none", []),
        ("no_such_thing", []),
        ("uprobe:/bin/app:*", ["uprobe:/bin/app:main", "uprobe:/bin/app:read_all"]),
        ("u:app:read*", ["uprobe:/bin/app:read_all"]),
        ("uretprobe:/bin/app:main", ["uretprobe:/bin/app:main"]),
        ("uprobe:/bin/*:main", ["uprobe:/bin/app:main"]),
        ("usdt:/bin/app:*", ["usdt:/bin/app:prov:start", "usdt:/bin/app:prov:stop"]),
        ("usdt:/bin/app:prov:st*p", ["usdt:/bin/app:prov:stop"]),
        ("usdt:/bin/app:other:*", []),
        ('usdt:"/bin/app":start', ["usdt:/bin/app:prov:start"]),
    ],
)
def test_patterns(catalogue, pattern, expected):
    assert found(catalogue, pattern) == expected


def test_everything(catalogue):
    kinds = [kind for kind, _ in search(catalogue)]
    assert len(kinds) == len(set(kinds)) and {"tracepoint", "kprobe", "fentry", "software", "tracer", "iter", "profile"} <= set(kinds)
    assert found(catalogue, "*") == found(catalogue) and "kretprobe:vfs_read" not in found(catalogue)


def test_processes(catalogue):
    assert "uprobe:/bin/app:main" in found(catalogue, "", 7) and "usdt:/bin/app:prov:start" in found(catalogue, "", 7)
    assert found(catalogue, "uprobe:*:main", 7) == ["uprobe:/bin/app:main"] == found(catalogue, "main", 7)
    assert found(catalogue, "usdt", 7) == ["usdt:/bin/app:prov:start", "usdt:/bin/app:prov:stop"]


@pytest.mark.parametrize("pattern", ["nokind:x", "uprobe:*:x", "usdt", "uprobe:/no/such:x"])
def test_wrong_patterns(catalogue, pattern):
    with pytest.raises(UsageError):
        found(catalogue, pattern)


def test_a_missing_source_is_left_out_or_named(catalogue):
    poor = Catalogue(FakeKernel({"/proc/self/mounts": ""}))
    assert "software:cpu:" in found(poor)
    with pytest.raises(Exception, match="tracefs"):
        found(poor, "tracepoint:*")
    with pytest.raises(UsageError, match="BTF"):
        found(poor, "struct x")


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("tracepoint:syscalls:sys_enter_openat", ["const char * filename"]),
        ("kprobe:vfs_read", ["struct task_struct * task", "int count"]),
        ("fexit:vfs_read", ["struct task_struct * task", "int count", "int retval"]),
        ("kprobe:vfs_write", []),
        ("rawtracepoint:sched_switch", ["struct task_struct * arg0"]),
        ("iter:task", ["struct task_struct * task"]),
        ("usdt:/bin/app:prov:start", ["int32 arg0  (rdi)", "uint64 arg1  (rsi)"]),
        ("usdt:/bin/app:prov:stop", []),
        ("pmu:msr/tsc/", ["event=0x00", "event: config:0-63"]),
        ("hardware:cycles:", ["(not available: this machine shows no CPU PMU)"]),
        ("software:cpu:", []),
        ("struct task_struct", ["struct task_struct {", "    int pid; /* 0 4 */", "};"]),
        ("enum color", ["enum color {", "    RED = 1,", "};"]),
        ("ftrace:print", ["char buf[]"]),
        ("tracepoint:no:such", []),
    ],
)
def test_details(catalogue, name, lines):
    assert describe(catalogue, name) == lines


def test_near(catalogue):
    assert near(catalogue, "kprobe:vfs_raed")[0] == "kprobe:vfs_read"
    assert "tracepoint:sched:sched_switch" in near(catalogue, "t:sched:sched_swich")
    assert near(catalogue, "nokind:x") == []
    assert near(catalogue, "struct task_strct") == ["struct task_struct"]


def test_text(catalogue):
    def lines(pattern, verbose):
        return "".join(text(search(catalogue, pattern), (lambda name: describe(catalogue, name)) if verbose else None))

    assert lines("kprobe:vfs*", False) == "kprobe:vfs_read\nkprobe:vfs_write\n"
    assert lines("kprobe:vfs*", True) == "kprobe:vfs_read\n    struct task_struct * task\n    int count\nkprobe:vfs_write\n"
    assert lines("struct task_struct", False) == "struct task_struct\n"
    assert lines("enum color", True) == "vmlinux: enum color {\n    RED = 1,\n};\n\n"
    assert lines("kprobe:none", True) == ""
