"""Providers and the planner, against a small made-up machine."""

from __future__ import annotations

import types
from typing import Any

import pytest

from harken.base.ctype import VOID, Func, Int, Ptr, Struct
from harken.base.diagnostics import Source
from harken.base.errors import HarkenError, LimitError, SourceError
from harken.formats import event_format
from harken.kernel.features import Answer
from harken.probes import planner, providers
from harken.probes.attachers import ATTACHERS
from harken.probes.model import Plan, Probe
from harken.probes.providers.base import near_names
from harken.probes.providers.uprobe import mangled
from harken.probes.suggest import instead
from harken.testing.fake_kernel import FakeKernel

INT, LONG, CHAR = Int("int", 4, True), Int("long", 8, True), Int("char", 1, True, "char")
FILE = Ptr(Struct("file", 200, ()))

FUNCTIONS = {
    "vfs_read": Func("vfs_read", LONG, (("file", FILE), ("buf", Ptr(CHAR, space="user")), ("count", LONG), ("pos", Ptr(LONG)))),
    "vfs_write": Func("vfs_write", LONG, (("file", FILE), ("buf", Ptr(CHAR, space="user")), ("count", LONG), ("pos", Ptr(LONG)))),
    "vfs_open": Func("vfs_open", INT, (("path", FILE), ("file", FILE))),
    "do_exit": Func("do_exit", VOID, (("code", LONG),)),
    "by_value": Func("by_value", INT, (("s", Struct("pair", 16, ())), ("n", INT))),
    "seven": Func("seven", INT, tuple((f"a{n}", INT) for n in range(7))),
    "printk": Func("printk", INT, (("fmt", Ptr(CHAR)),), variadic=True),
    "__x64_sys_clone": Func("__x64_sys_clone", LONG, (("regs", FILE),)),
    "__x64_sys_openat": Func("__x64_sys_openat", LONG, (("regs", FILE),)),
    "do_sys_openat2": Func("do_sys_openat2", LONG, (("dfd", INT), ("filename", Ptr(CHAR, space="user")))),
    "_raw_spin_lock": Func("_raw_spin_lock", VOID, (("lock", FILE),)),
}
EVENTS = {
    ("syscalls", "sys_enter_openat"): (
        "name: sys_enter_openat\nID: 700\nformat:\n\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n"
        "\tfield:int __syscall_nr;\toffset:8;\tsize:4;\tsigned:1;\n\tfield:int dfd;\toffset:16;\tsize:8;\tsigned:0;\n"
        '\tfield:const char * filename;\toffset:24;\tsize:8;\tsigned:0;\n\nprint fmt: "%x", REC->dfd\n'
    ),
    ("syscalls", "sys_enter_openat2"): 'name: sys_enter_openat2\nID: 701\nformat:\n\nprint fmt: ""\n',
    ("syscalls", "sys_exit_openat"): 'name: sys_exit_openat\nID: 702\nformat:\n\nprint fmt: ""\n',
    ("syscalls", "sys_exit_clone"): 'name: sys_exit_clone\nID: 703\nformat:\n\nprint fmt: ""\n',
    ("sched", "sched_switch"): (
        "name: sched_switch\nID: 300\nformat:\n\tfield:char prev_comm[16];\toffset:8;\tsize:16;\tsigned:0;\n"
        '\tfield:__data_loc char[] note;\toffset:24;\tsize:4;\tsigned:0;\n\nprint fmt: ""\n'
    ),
    ("sched", "sched_process_exit"): 'name: sched_process_exit\nID: 301\nformat:\n\nprint fmt: ""\n',
}


class Features:
    """Everything works, but for what is named."""

    def __init__(self, **no: Answer | str) -> None:
        self.no = {name: answer if isinstance(answer, Answer) else Answer("no", answer) for name, answer in no.items()}
        self.asked: list[str] = []

    def answer(self, name: str) -> Answer:
        self.asked.append(name)
        return self.no.get(name, Answer("yes"))


class Segment:
    type, flags, address, offset, file_size = 1, 5, 0x1000, 0x800, 0x1000


class Symbol:
    def __init__(self, name: str, value: int, size: int, binding: str = "global") -> None:
        self.name, self.value, self.size, self.binding, self.kind = name, value, size, binding, "func"


class Marker:
    provider, name, arguments, machine = "python", "gc__start", "-4@%edi 8@8(%rsp)", "x86_64"

    def __init__(self, offset: int, semaphore: int) -> None:
        self.offset, self.semaphore_offset = offset, semaphore


class Binary:
    """A program with two names for one function, two static functions of one name, and a marker in two places."""

    segments = (Segment,)
    machine_name = "x86_64"
    #: "add %al,(%rax)" over and over, two bytes each
    data = bytes(0x2000)
    found = (
        Symbol("readline", 0x1100, 0x40),
        Symbol("rl_alias", 0x1100, 0x40),
        Symbol("helper", 0x1200, 0x10, "local"),
        Symbol("helper", 0x1300, 0x10, "local"),
        Symbol("_ZN3foo3barEi", 0x1400, 0x10),
        Symbol("_ZN3foo3barEd", 0x1420, 0x10),
        Symbol("data", 0x9000, 8),
    )

    def functions(self) -> list[tuple[str, int, int]]:
        return sorted((s.name, s.value, s.size) for s in self.found)

    def symbols(self, table: str = "") -> list[Symbol]:
        return []

    def symbols_named(self, name: str) -> list[Symbol]:
        return [s for s in self.found if s.name == name]

    def symbol(self, name: str) -> Symbol | None:
        return next((s for s in self.found if s.name == name), None)

    def symbol_at(self, address: int) -> tuple[str, int] | None:
        return next(((s.name, address - s.value) for s in self.found if s.value <= address < s.value + s.size), None)

    def stapsdt(self) -> tuple[Marker, ...]:
        return Marker(0x900, 0x20), Marker(0xA00, 0x20)


class Catalogue:
    btf = None

    def __init__(self, **no: Answer | str) -> None:
        self.kernel = FakeKernel(files={"/bin/bash": b"", "/bin/cat": b""})
        self.features = Features(**no)

    def tracepoints(self) -> list[tuple[str, str]]:
        return list(EVENTS)

    def has_tracepoint(self, category: str, name: str) -> bool:
        return (category, name) in EVENTS

    def tracepoint(self, category: str, name: str) -> Any:
        return event_format.parse(EVENTS[category, name], category)

    def functions(self) -> list[tuple[str, str]]:
        return [*((name, "") for name in FUNCTIONS), ("no_btf_here", ""), ("ext4_sync_fs", "ext4"), ("twins", ""), ("twins", "")]

    def function(self, name: str, module: str = "") -> Func | None:
        return FUNCTIONS.get(name) if not module else None

    def described(self, module: str = "") -> frozenset[str]:
        return frozenset(() if module else FUNCTIONS)

    def modules(self) -> list[str]:
        return ["ext4"]

    def raw_tracepoints(self) -> list[str]:
        return ["sched_switch", "sys_enter"]

    def has_raw_tracepoint(self, name: str) -> bool:
        return name in self.raw_tracepoints()

    def raw_tracepoint(self, name: str) -> Func | None:
        return Func(name, VOID, (("preempt", INT), ("prev", FILE))) if name == "sched_switch" else None

    def binaries(self, name: str, pid: int = -1) -> list[str]:
        return {"/bin/bash": ["/bin/bash"], "bash": ["/bin/bash"], "/bin/*": ["/bin/bash", "/bin/cat"]}.get(name, [])

    def binary(self, path: str) -> Binary:
        if path == "/bin/cat":
            raise HarkenError("not an ELF file")
        return Binary()


NO_KPROBES = {
    "fentry": Answer("no", "refused by policy: bpf(BPF_PROG_LOAD) = EPERM", 1, "", "policy"),
    "fexit": Answer("no", "refused by policy: bpf(BPF_PROG_LOAD) = EPERM", 1, "", "policy"),
    "kprobe_multi": "CONFIG_KPROBES is not set in this kernel (link = ENOTSUP)",
    "kprobe_perf": "CONFIG_KPROBES is not set in this kernel (open = ENOENT)",
    "kprobe_tracefs": "CONFIG_KPROBES is not set in this kernel (open = ENOENT)",
}


def probes(text: str, catalogue: Any = None, limit: int = 1024) -> tuple[Probe, ...]:
    source = Source("stdin", text)
    return providers.resolve(providers.parse(text, source.span(0, len(text))), catalogue or Catalogue(), limit)


def texts(text: str) -> list[str]:
    return [probe.text for probe in probes(text)]


def problem(text: str) -> SourceError:
    with pytest.raises(SourceError) as caught:
        probes(text)
    assert caught.value.diagnostics[0].span is not None
    return caught.value


def plans(text: str, *uses: str, pid: int = -1, **no: Answer | str) -> tuple[Plan, ...]:
    catalogue = Catalogue(**no)
    return planner.plan(probes(text, catalogue), catalogue, frozenset(uses), pid=pid)


# -- providers


@pytest.mark.parametrize(
    "text,kind,name",
    [
        ("t:sched:sched_switch", "tracepoint", ("sched", "sched_switch")),
        ("TRACEPOINT:sched:sched_switch", "tracepoint", ("sched", "sched_switch")),
        ("rt:sys_enter", "rawtracepoint", ("sys_enter",)),
        ("rawtracepoint:vmlinux:sys_enter", "rawtracepoint", ("sys_enter",)),
        ("k:vfs_read", "kprobe", ("", "vfs_read", 0)),
        ("kprobe:vfs_read+0x10", "kprobe", ("", "vfs_read", 16)),
        ("kprobe:ext4:ext4_sync_fs", "kprobe", ("ext4", "ext4_sync_fs", 0)),
        ("kprobe:vmlinux:vfs_read", "kprobe", ("", "vfs_read", 0)),
        ("kprobe:0xffffffff81000000", "kprobe", ("", "", 0xFFFFFFFF81000000)),
        ("kr:vfs_read", "kretprobe", ("", "vfs_read", 0)),
        ("kfunc:vfs_read", "fentry", ("", "vfs_read", 0)),
        ("fr:vmlinux:vfs_read", "fexit", ("", "vfs_read", 0)),
        ("u:/bin/bash:readline", "uprobe", ("/bin/bash", "readline", 0, 0x900)),
        ("u:bash:readline+4", "uprobe", ("/bin/bash", "readline", 4, 0x904)),
        ('uprobe:"/bin/bash":0x1234', "uprobe", ("/bin/bash", "", 0, 0xA34)),
        ("ur:/bin/bash:readline", "uretprobe", ("/bin/bash", "readline", 0, 0x900)),
        ("profile:hz:99", "profile", ("hz", 99)),
        ("p:us:1e3", "profile", ("us", 1000)),
        ("interval:s:1", "interval", ("s", 1)),
        ("interval:100ms", "interval", ("ms", 100)),
        ("i:100000000", "interval", ("ns", 100000000)),
        ("i:2h", "interval", ("h", 2)),
        ("software:page-faults:7", "software", ("page-faults", 7)),
        ("s:cs", "software", ("context-switches", 1000)),
        ("h:cycles", "hardware", ("cpu-cycles", 1_000_000)),
        ("BEGIN", "BEGIN", ()),
        ("end", "END", ()),
    ],
)
def test_forms(text: str, kind: str, name: tuple[Any, ...]) -> None:
    (probe,) = probes(text)
    assert (probe.kind, probe.name) == (kind, name)


def test_wildcards_in_every_part() -> None:
    assert texts("t:s*:*enter_openat*") == ["tracepoint:syscalls:sys_enter_openat", "tracepoint:syscalls:sys_enter_openat2"]
    assert texts("t:sched*") == ["tracepoint:sched:sched_switch", "tracepoint:sched:sched_process_exit"]
    assert texts("k:vfs_*") == ["kprobe:vfs_read", "kprobe:vfs_write", "kprobe:vfs_open"]
    assert texts("k:*:ext4_*") == ["kprobe:ext4:ext4_sync_fs"]
    assert texts("f:vfs_*e") == ["fentry:vmlinux:vfs_write"]
    assert texts("s:*faults") == [f"software:{kind}-faults" for kind in ("page", "minor", "major", "alignment", "emulation")]
    assert texts("u:/bin/*:read*") == ["uprobe:/bin/bash:readline"]


def test_wildcards_leave_out_what_tracing_needs() -> None:
    assert "kprobe:_raw_spin_lock" not in texts("k:*")
    assert texts("k:_raw_spin_lock") == ["kprobe:_raw_spin_lock"]
    assert "fentry:vmlinux:no_btf_here" not in texts("f:*")


def test_a_place_with_two_names_is_one_probe() -> None:
    assert texts("u:/bin/bash:r*l*") == ["uprobe:/bin/bash:readline"]


def test_static_functions_of_one_name_are_all_probed() -> None:
    assert [probe.name[3] for probe in probes("u:/bin/bash:helper")] == [0xA00, 0xB00]


def test_cpp_names() -> None:
    assert [probe.name[1] for probe in probes('u:/bin/bash:cpp:"foo::bar"')] == ["_ZN3foo3barEd", "_ZN3foo3barEi"]
    assert mangled("_ZN4core3fmt5write17h0123456789abcdefE", "core::fmt::write")
    assert mangled("_ZNK3foo3barEv", "foo::b*")
    assert not mangled("_ZN99999999999999999999", "a") and not mangled("_Z", "") and not mangled("main", "main")


def test_usdt_places_are_probes_of_their_own() -> None:
    first, second = probes("usdt:/bin/bash:gc__*")
    assert first.text == second.text == "usdt:/bin/bash:python:gc__start"
    assert (first.name[3:5], second.name[3:5]) == ((0x900, 0x20), (0xA00, 0x20))
    seen = providers.view(first, Catalogue())
    assert [(o.kind, o.size, o.signed, o.register) for o in seen.operands] == [
        ("register", 4, True, "rdi"),
        ("memory", 8, False, "rsp"),
    ]


@pytest.mark.parametrize(
    "text,message,hint",
    [
        ("foo:bar", "Invalid probe type: foo", "the probe types are"),
        ("kporbe:vfs_read", "Invalid probe type: kporbe", "kprobe"),
        ("tracepoint:sched_switch", "tracepoint probe type requires 2 arguments, found 1", "tracepoint:sched:sched_switch"),
        ("kprobe:a:b:c", "kprobe probe type requires 1 or 2 arguments, found 3", "kprobe:vfs_read"),
        ("kprobe:", "kprobe probe has an empty part", "kprobe:vfs_read"),
        ("kretprobe:vfs_read+4", "Offset not allowed", "kretprobe:vfs_read"),
        ("kprobe:vfs_*+4", "Offset not allowed with a wildcard", "name the function"),
        ("kprobe:vfs_read+x", "the offset must be a number, not 'x'", "kprobe:vfs_read+4"),
        ("kprobe:nonsense:f", "specified module nonsense in probe kprobe:nonsense:f is not loaded.", "lsmod"),
        ("kprobe:bad", "No matches for kprobe bad.", "harken list"),
        ("kprobe:vfs_raed", "No matches for kprobe vfs_raed.", "kprobe:vfs_read"),
        ("tracepoint:sched:sched_swich", "No matches for tracepoint sched:sched_swich.", "tracepoint:sched:sched_switch"),
        ("tracepoint:task:sched_switch", "No matches for tracepoint task:sched_switch.", "tracepoint:sched:sched_switch"),
        ("rt:sys_enter_openat", "No matches for rawtracepoint sys_enter_openat.", "tracepoint:syscalls:sys_enter_openat"),
        ("interval:bogus:1", "bogus is not an accepted unit of time", "interval:s:1"),
        ("interval:s", "interval probe type requires 2 arguments, found 1", "interval:s:1"),
        ("interval:s:0", "the time of interval must be greater than 0", "interval:s:1"),
        ("interval:3x", "x is not an accepted unit of time", "100ms"),
        ("profile:hz:x", "the frequency of profile must be a number, not 'x'", "profile:hz:99"),
        ("profile:s:99999999999999", "99999999999999 s is out of range", "profile:hz:99"),
        ("software:fautls", "fautls is not a software probe", "faults"),
        ("software:faults:", "the count of software must be a number, not ''", "software:page-faults:100"),
        ("hardware:a:b:c", "hardware probe type requires 1 or 2 arguments, found 3", "hardware:"),
        ("BEGIN:x", "BEGIN probe type requires 0 arguments, found 1", "BEGIN"),
        ("uprobe:/bin/bash", "uprobe probe type requires 2 arguments, found 1", "uprobe:/bin/bash:readline"),
        ("uprobe:/opt/a:b:f", "uprobe probe type requires 2 arguments, found 3", 'uprobe:"/opt/a:b":f'),
        ("uprobe:/bin/bsah:f", "uprobe target file '/bin/bsah' does not exist or is not executable", "/bin/bash"),
        ("uprobe:/bin/bash:raedline", "No matches for uprobe /bin/bash:raedline.", "uprobe:/bin/bash:readline"),
        ("uprobe:/bin/bash:readline+0x40", "Offset outside the function bounds ('readline' size is 0x40)", "0x3f"),
        ("uprobe:/bin/bash:readline+3", "Could not add uprobe into middle of instruction: readline+0x3", "readline+0x2 and readline+0x4"),
        ("uprobe:/bin/bash:0x1103", "Could not add uprobe into middle of instruction: readline+0x3", "readline+0x2"),
        ("uprobe:/bin/bash:foo::bar", "uprobe probe type requires 2 arguments, found 4", 'uprobe:/bin/bash:cpp:"foo::bar"'),
        ("uprobe:/bin/bash:/(/", "the regular expression /(/ is wrong: missing ), unterminated subpattern at position 0", "Python"),
        ("uretprobe:/bin/bash@a.c:7", "a return has no source line", "uretprobe:/bin/bash:FUNCTION"),
        ("uprobe:/bin/bash:0xa", "Could not resolve address: /bin/bash:0xa", "code"),
        ("uprobe:*:f", "uprobe needs a target file", "-p PID"),
        ("uretprobe:/bin/bash:readline+1", "Offset not allowed", "uretprobe:/bin/bash:readline"),
        ("usdt:/bin/bash", "usdt probe type requires 2 or 3 arguments, found 1", "usdt:"),
        ("usdt:/bin/bash:gc__stat", "No matches for usdt /bin/bash:gc__stat.", "usdt:/bin/bash:python:gc__start"),
        ("fentry:vfs_read+1", "Offset not allowed", "kprobe:vfs_read+1"),
    ],
)
def test_errors_say_what_to_write(text: str, message: str, hint: str) -> None:
    error = problem(text)
    assert error.message == message
    assert hint in error.hint


def test_too_many_probes() -> None:
    with pytest.raises(SourceError, match="Can't attach to 3 probes because it exceeds the current limit of 2 probes"):
        probes("kprobe:vfs_*", limit=2)


def test_near_names_among_many() -> None:
    names = [f"subsystem{n % 97}_do_operation_{n}" for n in range(100_000)] + ["tcp_retransmit_skb"]
    assert near_names("tcp_retransmit_sbk", names)[0] == "tcp_retransmit_skb"
    assert near_names("subsystem1_do_operation_" * 40, names) == []


def test_views() -> None:
    catalogue = Catalogue()

    def view(text: str) -> Any:
        return providers.view(probes(text)[0], catalogue)

    opened = view("t:syscalls:sys_enter_openat")
    assert [(arg.name, str(arg.type), arg.offset) for arg in opened.args] == [
        ("__syscall_nr", "int", 8),
        ("dfd", "int", 16),
        ("filename", "char *", 24),
    ]
    assert opened.space == "user" and opened.args[2].type.space == "user" and opened.positional == 0
    switch = view("t:sched:sched_switch")
    assert switch.space == "kernel" and [arg.data_loc for arg in switch.args] == [False, True]
    read = view("k:vfs_read")
    assert [(arg.name, arg.offset) for arg in read.args] == [("file", 0), ("buf", 1), ("count", 2), ("pos", 3)]
    assert (read.positional, read.returns, read.function, read.arity) == (6, None, "vfs_read", 4)
    assert view("k:vfs_read+4").args == () and view("k:no_btf_here").arity == -1
    assert view("k:by_value").args == ()  # positions after a struct by value are unknown
    assert str(view("kr:vfs_open").returns) == "int" and view("kr:do_exit").returns.size == 8
    assert view("f:do_exit").positional == 1 and view("fr:do_exit").returns is None
    assert str(view("fr:vfs_read").returns) == "long" and len(view("fr:vfs_read").args) == 4
    assert [arg.name for arg in view("rt:sched_switch").args] == ["preempt", "prev"] and view("rt:sys_enter").positional == 12
    assert view("u:/bin/bash:readline").space == "user" and view("ur:/bin/bash:readline").returns.size == 8


def test_the_files_of_a_process() -> None:
    class Traced(Catalogue):
        def process_binaries(self, pid: int) -> list[str]:
            return ["/bin/cat", "/bin/bash"] if pid == 42 else []

    source = Source("stdin", "uprobe:*:readline")
    pattern = providers.parse(source.text, source.span(0, 17))
    assert [probe.name[0] for probe in providers.resolve(pattern, Traced(), pid=42)] == ["/bin/bash"]


# -- planner


def test_a_kprobe_is_an_fentry_where_that_means_the_same() -> None:
    (one,) = plans("kprobe:vfs_read", "arg0", "args", "comm")
    assert one.attacher == "fentry" and one.reason
    assert [name for name, _ in one.rejected] == ["kprobe_multi", "kprobe_perf", "kprobe_tracefs"]
    (place,) = planner.places(one, Catalogue())
    assert (place.probe, place.mechanism) == ("kprobe:vfs_read", "fentry")
    assert ATTACHERS["fentry"].function(one.probes[0]) == "vfs_read"
    assert plans("kretprobe:vfs_read", "retval")[0].attacher == "fexit"


@pytest.mark.parametrize("uses", ["reg", "ctx", "kstack"])
def test_what_a_trampoline_lacks(uses: str) -> None:
    (one,) = plans("kprobe:vfs_read", uses)
    assert one.attacher == "kprobe_multi"
    assert dict(one.rejected)["fentry"] == f"{uses} would not mean the same there"
    assert plans("fentry:vfs_read", uses)[0].attacher == "fentry"


@pytest.mark.parametrize(
    "text,why",
    [
        ("kprobe:vfs_read+4", "not the instruction at an offset"),
        ("kprobe:no_btf_here", "BTF does not describe no_btf_here"),
        ("kprobe:by_value", "a struct by value"),
        ("kprobe:seven", "more than 6 parameters"),
        ("kprobe:printk", "a variable number of arguments"),
        ("kprobe:0xffffffff81000000", "not addresses"),
    ],
)
def test_functions_that_fentry_refuses(text: str, why: str) -> None:
    (one,) = plans(text)
    assert one.attacher in ("kprobe_multi", "kprobe_perf")
    assert why in dict(one.rejected)["fentry"]


def test_registers_beyond_the_parameters_need_a_kprobe() -> None:
    assert plans("kprobe:vfs_read", "arg3")[0].attacher == "fentry"
    (one,) = plans("kprobe:vfs_read", "arg0", "arg4")
    assert one.attacher == "kprobe_multi" and "arg4 is not among them" in dict(one.rejected)["fentry"]


def test_fexit_cannot_give_what_a_void_function_leaves_in_the_register() -> None:
    assert plans("kretprobe:do_exit")[0].attacher == "fexit"
    assert plans("kretprobe:do_exit", "retval")[0].attacher == "kprobe_multi"


def test_the_order_follows_the_kernel() -> None:
    assert plans("k:vfs_read", fentry="x")[0].attacher == "kprobe_multi"
    assert plans("k:vfs_read", fentry="x", kprobe_multi="y")[0].attacher == "kprobe_perf"
    assert plans("k:vfs_read", fentry="x", kprobe_multi="y", kprobe_perf="z")[0].attacher == "kprobe_tracefs"


def test_what_could_not_be_told_is_the_last_resort() -> None:
    doubt = Answer("unknown", "out of memory")
    assert plans("k:vfs_read", fentry=doubt)[0].attacher == "kprobe_multi"
    (one,) = plans("k:vfs_read", **{**NO_KPROBES, "kprobe_perf": doubt})
    assert one.attacher == "kprobe_perf" and "out of memory" in one.reason


def test_many_functions_share_a_program() -> None:
    (one,) = plans("k:vfs_*")
    assert one.attacher == "kprobe_multi" and len(one.probes) == 3
    (place,) = planner.places(one, Catalogue())
    assert place.target == (False, ("vfs_read", "vfs_write", "vfs_open"), (0, 1, 2)) and place.probe == "kprobe:vfs_read and 2 more"
    # cookies tell which one was hit; what depends on the place itself needs a program for each
    assert len(plans("k:vfs_*", "probe")) == len(plans("k:vfs_*", "func")) == 1
    assert len(plans("k:vfs_*", "place")) == 3
    assert len(plans("k:vfs_*", "probe", kprobe_multi="x")) == 3
    (perf,) = plans("k:vfs_*", kprobe_multi="x")
    assert perf.attacher == "kprobe_perf" and len(planner.places(perf, Catalogue())) == 3


def test_programs_are_shared_only_where_arguments_are_alike() -> None:
    groups = plans("k:vfs_*", "args")
    assert [[str(probe) for probe in group.probes] for group in groups] == [["kprobe:vfs_read", "kprobe:vfs_write"], ["kprobe:vfs_open"]]
    assert len(plans("k:vfs_*", "arg0")) == 1
    assert len(plans("kr:vfs_*", "retval", kprobe_multi="x")) == 2


def test_a_name_of_several_functions_is_refused() -> None:
    (failed,) = plans("kprobe:twins")
    assert failed.attacher == "" and "2 functions are called twins" in failed.reason and "/proc/kallsyms" in failed.hint
    assert "kprobe:twins" not in texts("kprobe:*")


def test_the_same_place_twice_needs_two_programs() -> None:
    catalogue = Catalogue()
    twice = probes("t:sched:sched_switch", catalogue) * 2
    assert [len(one.probes) for one in planner.plan(twice, catalogue)] == [1, 1]


def test_too_many_programs() -> None:
    catalogue = Catalogue()
    with pytest.raises(LimitError, match="generate more than 2 BPF programs, which exceeds the current limit of 2"):
        planner.plan(probes("k:vfs_*", catalogue), catalogue, frozenset(("place",)), max_programs=2)


def test_raw_tracepoints_are_typed_only_if_that_pays() -> None:
    assert plans("rt:sched_switch")[0].attacher == "raw_tracepoint"
    assert plans("rt:sched_switch", "args")[0].attacher == "tp_btf"
    (one,) = plans("rt:sys_enter", "args")
    assert one.attacher == "raw_tracepoint" and "BTF does not describe" in dict(one.rejected)["tp_btf"]


def test_uprobes_batch_and_filter() -> None:
    (one,) = plans("usdt:/bin/bash:gc__start", "arg0")
    (place,) = planner.places(one, Catalogue())
    assert place.target == (False, "/bin/bash", (0x900, 0xA00), (0x20, 0x20), (0, 1))
    assert plans("u:/bin/bash:readline", pid=1)[0].attacher == "uprobe_multi"
    # a filter that lets a single thread through is none
    assert plans("u:/bin/bash:readline", pid=1, uprobe_multi_pid="x")[0].attacher == "uprobe_perf"
    assert plans("u:/bin/bash:readline", uprobe_multi_pid="x")[0].attacher == "uprobe_multi"
    assert plans("u:/bin/bash:readline", uprobe_multi="x")[0].attacher == "uprobe_perf"


def test_many_uprobes_are_one_event_where_there_is_no_uprobe_multi() -> None:
    """Every perf event costs a wait for all CPUs when it is closed, an event of tracefs takes any number of places."""
    (one,) = plans("u:/bin/bash:*", uprobe_multi="x")
    assert len(one.probes) > 4 and one.attacher == "uprobe_tracefs"
    (place,) = planner.places(one, Catalogue())
    returns, where = place.target
    assert not returns and where[0] == ("/bin/bash", 0xC20, 0) and len(where) == len(one.probes)
    (one,) = plans("u:/bin/bash:*", uprobe_multi="x", uprobe_tracefs="y")
    assert one.attacher == "uprobe_perf"


def test_a_syscalls_function_falls_back_to_its_tracepoint_if_nothing_differs() -> None:
    (one,) = plans("kprobe:__x64_sys_openat", "comm", **NO_KPROBES)
    assert one.attacher == "tracepoint"
    (place,) = planner.places(one, Catalogue())
    assert place.target == ("syscalls", "sys_enter_openat") and place.probe == "kprobe:__x64_sys_openat"
    assert plans("kretprobe:__x64_sys_openat", **NO_KPROBES)[0].attacher == "tracepoint"
    for uses in ("arg0", "args", "reg", "kstack", "func"):
        (failed,) = plans("kprobe:__x64_sys_openat", uses, **NO_KPROBES)
        assert failed.attacher == "" and "would not mean the same in syscalls:sys_enter_openat" in failed.reason
        assert "tracepoint:syscalls:sys_enter_openat" in failed.hint
    assert plans("kretprobe:__x64_sys_openat", "retval", **NO_KPROBES)[0].attacher == "tracepoint"
    assert plans("kprobe:__x64_sys_openat", "syscall", **NO_KPROBES)[0].attacher == "tracepoint"  # BCC's syscall__ functions
    assert plans("kprobe:__x64_sys_openat+1", **NO_KPROBES)[0].attacher == ""
    assert plans("kretprobe:__x64_sys_clone", **NO_KPROBES)[0].attacher == ""  # returns once, but sys_exit happens twice


def test_a_function_that_cannot_be_had_names_what_can() -> None:
    (failed,) = plans("kprobe:do_sys_openat2", **NO_KPROBES)
    error = planner.refusal(failed)
    assert error.message == (
        "kprobe:do_sys_openat2 cannot be attached on this kernel: fentry (refused by policy, EPERM); "
        "kprobe_multi, kprobe_perf and kprobe_tracefs (CONFIG_KPROBES is not set)"
    )
    assert error.hint == "trace tracepoint:syscalls:sys_enter_openat and tracepoint:syscalls:sys_enter_openat2 instead"
    with pytest.raises(HarkenError):
        planner.places(failed, Catalogue())
    assert "tracepoint:sched:sched_process_exit" in plans("kprobe:do_exit", **NO_KPROBES)[0].hint
    assert "harken doctor" in plans("kprobe:vfs_write", **NO_KPROBES)[0].hint
    (many,) = plans("kprobe:vfs_*", **NO_KPROBES)
    assert many.reason.startswith("kprobe:vfs_read (and 2 more) cannot be attached")


def test_a_refused_fentry_names_the_kprobe() -> None:
    (failed,) = plans("fentry:vfs_write", fentry=NO_KPROBES["fentry"])
    assert failed.attacher == "" and "kprobe:vfs_write works" in failed.hint


def test_a_refused_fentry_of_a_function_that_is_not_there_names_nothing_else() -> None:
    catalogue = Catalogue()
    catalogue.kernel_symbols = types.SimpleNamespace(addresses=lambda name, module: [1] if name == "hidden" else [])  # type: ignore[attr-defined]
    for name, hint in (
        ("inlined_away", "no function inlined_away of its own"),
        ("hidden", "kprobe:hidden works"),
        ("no_btf_here", "kprobe:"),
    ):
        (failed,) = planner.plan((Probe("fentry", ("", name, 0), f"fentry:{name}"),), catalogue)
        assert "BTF does not describe" in failed.reason and hint in failed.hint


def test_suggestions_exist_here() -> None:
    for function in ("do_sys_openat2", "sys_openat", "__x64_sys_openat", "__do_sys_openat", "sched_process_exit", "nothing_like_it"):
        found = instead(Probe("kprobe", ("", function, 0), function), Catalogue())
        assert all(tuple(text.split(":")[1:]) in EVENTS for text in found)
        assert bool(found) == (function != "nothing_like_it")


def test_every_attacher_is_complete() -> None:
    for name in ATTACHERS:
        attacher = ATTACHERS[name]
        assert attacher.name == name and attacher.program_type and attacher.needs and attacher.context
    for kind in providers.KINDS:
        assert all(name in ATTACHERS for name in providers.PROVIDERS[kind].attachers)
        assert providers.PROVIDERS[kind.upper()].kind == kind
    assert providers.PROVIDERS["U"].kind == "usdt" and providers.PROVIDERS["u"].kind == "uprobe"
