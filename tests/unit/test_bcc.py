"""BCC's small modules: markers, filters, names of system calls, the runner of unchanged scripts, the cache of compiled programs."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import harken.bcc
from harken.base import cache
from harken.base.code_image import CodeImage
from harken.base.diagnostics import Source, error
from harken.base.errors import KernelError, ProbeError, SourceError, VerifierError
from harken.bcc import attach_kernel, constants, errors, facts, names, program
from harken.bcc.attach_kernel import _names_in, event_name
from harken.bcc.containers import filter_by_containers
from harken.bcc.perf import Perf
from harken.bcc.program import Context, Program, TableInfo
from harken.bcc.trace_pipe import parse_line
from harken.bcc.usdt import USDTProbeArgument
from harken.bcc.utils import ArgString, StrcmpRewrite, as_bytes, printb
from harken.formats.spec import AttachSpec
from harken.formats.stapsdt import arguments
from harken.probes.model import Probe

SOURCE = Path(harken.bcc.__file__).parents[2]


def run(script: Path, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harken.bcc", str(script), *args],
        env={**os.environ, "PYTHONPATH": str(SOURCE), **environment}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


# -- scripts


def test_tracebacks_show_the_script_only(tmp_path: Path) -> None:
    script = tmp_path / "tool.py"
    script.write_text(
        "import sys\nfrom bcc import BPF\nfrom bcc.utils import as_bytes\n"
        "def start():\n    return BPF(src_file='missing.c')\n"
        "def wrong():\n    return BPF(cflags=5, text='int f(void *ctx) { return 0; }')\n"
        "globals()[sys.argv[1]]()\n"
    )
    for word, last, note in (("start", "Exception: Could not find file", False), ("wrong", "TypeError: ", True)):
        done = run(script, word)
        lines = done.stderr.splitlines()
        files = [line for line in lines if line.startswith("  File ")]
        assert files and all(str(script) in line for line in files), done.stderr
        assert any(line.startswith(last) for line in lines) and lines[-1].startswith("NOTE: HARKEN_DEBUG=1") == note, done.stderr
    assert "harken/bcc/bpf.py" in run(script, "start", HARKEN_DEBUG="1").stderr


def test_modules_come_from_the_code_image(tmp_path: Path) -> None:
    script, kept = tmp_path / "tool.py", tmp_path / "cache"
    script.write_text("from bcc import BPF\nfrom harken.bcc import bpf\nprint(type(bpf.__loader__).__name__, BPF.__module__)\n")
    found = [run(script, HARKEN_CACHE=str(kept), PYTHONDONTWRITEBYTECODE="") for _ in range(2)]
    assert found[1].stdout == "ImageLoader harken.bcc.bpf\n"  # at first Python may have had to compile them
    (file,) = kept.glob("code.*")
    root = str(SOURCE / "harken")
    data = file.read_bytes()
    index = CodeImage(root, data[data.index(MAGIC_NUMBER) :]).index
    assert "harken.bcc.maps" in index and "harken.bcc" in index


def test_a_script_sees_itself_and_bcc(tmp_path: Path) -> None:
    script = tmp_path / "tool.py"
    (tmp_path / "beside.py").write_text("value = 5\n")
    script.write_text(
        "import sys, bcc, beside\n"
        "from bcc import BPF, USDT, PerfType, PerfSWConfig, utils, tcp\n"
        "import bcc.utils as again\n"
        "from bcc.syscall import syscall_name, syscalls\n"
        "from bcc.containers import filter_by_containers\n"
        "from bcc.table import HashTable, BPF_MAP_TYPE_HASH\n"
        "from bcc.exec import run_cmd\n"
        "assert utils is again and bcc.utils is utils and BPF_MAP_TYPE_HASH == 1\n"
        "def inner():\n"
        "    return __name__\n"
        "print(sys.argv[1:], __file__ == sys.argv[0], inner(), beside.value, syscall_name(0), BPF.KPROBE, PerfSWConfig.CPU_CLOCK)\n"
        "try:\n"
        "    import bcc.nothing\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    done = run(script, "-x", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["['-x', '1'] True __main__ 5 b'read' 2 0", "No module named 'bcc.nothing'"]


def test_errors_of_a_script_are_its_own(tmp_path: Path) -> None:
    script = tmp_path / "tool.py"
    script.write_text("import sys\ndef f():\n    1 / 0\nif len(sys.argv) > 1:\n    sys.exit(int(sys.argv[1]))\nf()\n")
    done = run(script)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr and "harken" not in done.stderr and "runpy" not in done.stderr
    assert run(script, "7").returncode == 7
    script.write_text("from harken.bcc.errors import BPFError\nraise BPFError('Failed to attach: so and so')\n")
    done = run(script)
    assert (done.returncode, done.stderr) == (1, "ERROR: Failed to attach: so and so\n")
    done = run(tmp_path / "missing.py")
    assert done.returncode == 2 and "there is no script" in done.stderr


def test_importing_costs_little() -> None:
    code = "import sys; from harken.bcc import BPF; print(' '.join(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-S", "-c", code], env={**os.environ, "PYTHONPATH": str(SOURCE)}, capture_output=True, text=True, check=True
    ).stdout.split()
    heavy = {"re", "argparse", "json", "dataclasses", "typing", "inspect", "clang", "numpy", "harken.probes.planner", "harken.languages.c"}
    assert not heavy & set(loaded)


# -- text


def test_names_are_bytes() -> None:
    assert as_bytes("é") == "é".encode() and as_bytes(None) is None and as_bytes(ArgString("x")) == b"x"
    assert event_name(b"p", b"/usr/lib/x-1.so", 0x10, 5) == b"p__usr_lib_x_1_so_0x10_5"


def test_printb_keeps_the_order(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    print("one")
    printb(b"two\xff")
    printb(b"three", nl=0)
    assert capfdbinary.readouterr().out == b"one\ntwo\xff\nthree"


def test_lines_of_the_trace_pipe() -> None:
    line = b"           <...>-123   [002] d...1  12.5: bpf_trace_printk: a: b"
    assert parse_line(line) == (b"<...>", 123, 2, b"d...1", 12.5, b"a: b")
    assert parse_line(b"CPU:2 [LOST 3 EVENTS]") is None
    assert parse_line(b"") is None


def test_comparisons_of_strings_become_functions() -> None:
    done = StrcmpRewrite.rewrite_expr('STRCMP("a", arg1) && STRCMP("b", arg2)', False, False, ["arg2"], "", 3)
    assert done["expr"] == 'streq_3("a", arg1) && streq_4("b", arg2)' and done["probeid"] == 5
    first, second = done["streq_functions"].split("streq_4")
    assert "bpf_probe_read(" in first and "bpf_probe_read_user(" in second


def test_filters_by_container() -> None:
    text = filter_by_containers(argparse.Namespace(cgroupmap="/sys/fs/bpf/cg", mntnsmap=None))
    assert '"/sys/fs/bpf/cg"' in text and "cgroupset.lookup" in text and "_mntns_filter() { return 0; }" in text
    text = filter_by_containers(argparse.Namespace(cgroupmap=None, mntnsmap="/sys/fs/bpf/ns"))
    assert "mount_ns_set" in text and "container_should_be_filtered()" in text


def test_arguments_of_markers_read_as_bccs() -> None:
    shown = [str(USDTProbeArgument(one)) for one in arguments("-4@%edi 8@-24(%rbp,%rcx,8) 4@$7 8@counter+8(%rip) 8@%r9", "x86_64")]
    assert shown == [
        "4 signed   bytes @ di",
        "8 unsigned bytes @ *(bp - 24 + cx * 8)",
        "4 unsigned bytes @ 7",
        "8 unsigned bytes @ *(&counter + 8)",
        "8 unsigned bytes @ r9",
    ]


def test_attributes_of_perf_events() -> None:
    attr = Perf.perf_event_attr()
    attr.type, attr.config, attr.sample_freq, attr.freq, attr.precise_ip, attr.mmap_data = 1, 9, 99, 1, 2, 1
    raw = bytes(attr)
    assert len(raw) == attr.size >= 128
    bits = int.from_bytes(raw[40:48], "little")
    assert (raw[16], bits >> 10 & 1, bits >> 15 & 3, bits >> 17 & 1) == (99, 1, 2, 1)


def test_constants() -> None:
    types, places = vars(constants.BPFProgType), vars(constants.BPFAttachType)
    assert (types["LSM"], types["TRACING"], places["XDP"], places["SK_LOOKUP"]) == (29, 26, 37, 36)
    assert harken.bcc.PerfType.BREAKPOINT == 5 and harken.bcc.XDPFlags.REPLACE == 16  # type: ignore[attr-defined]
    for name in harken.bcc.__all__:
        assert getattr(harken.bcc, name) is not None


# -- errors


def test_errors_have_bccs_words_and_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    source = Source("<text>", "int f() { return x; }")
    failed = errors.compile_error(SourceError((error("use of undeclared identifier 'x'", source.span(17, 18)),)), "<text>")
    assert str(failed) == "Failed to compile BPF module <text>"
    assert "<text>:1:18-19: ERROR: use of undeclared identifier 'x'\nint f() { return x; }\n" in capsys.readouterr().err
    assert str(errors.compile_error(IndexError("list"), "x.c")) == "Failed to compile BPF module x.c"
    assert "internal error: IndexError: list\nHINT: this is a fault of harken" in capsys.readouterr().err
    refused = VerifierError("no", log="R1 invalid", errno=13, diagnostic=error("a pointer that may be null is read", source.span(0, 3)))
    assert str(errors.load_error(refused, "f")) == "Failed to load BPF program b'f': Permission denied"
    assert "may be null" in capsys.readouterr().err
    gone = errors.attach_error("Failed to attach", KernelError("no such function", errno=2, hint="did you mean g?"))
    assert str(gone) == "Failed to attach: no such function (did you mean g?)"


def test_which_functions_a_link_serves() -> None:
    batch = AttachSpec("kprobe:a and 1 more", "kprobe_multi", (False, ("a", "b")))
    assert _names_in((batch,), ["a", "b", "c"]) == ["a", "b"]
    assert _names_in((AttachSpec("kprobe:m:c", "fentry", ()),), ["a", "c"]) == ["c"]


# -- facts


def test_a_kernel_without_function_probes_has_no_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    class Features:
        def __init__(self, *known: str) -> None:
            self.known = known

        def has(self, name: str) -> bool:
            return name in self.known

    class Catalogue:
        features = Features()

        @staticmethod
        def functions() -> list[tuple[str, str]]:
            return [("vfs_read", ""), ("vfs_read.cold", ""), ("perf_vfs_x", ""), ("ext4_read", "ext4")]

    monkeypatch.setitem(names._state, "catalogue", Catalogue)
    assert facts.Facts.get_kprobe_functions(b"vfs_.*") == set()
    Catalogue.features = Features("kprobe_perf")
    assert facts.Facts.get_kprobe_functions(b"vfs_.*") == {b"vfs_read"}
    assert facts.Facts.get_kprobe_functions(".*read") == {b"vfs_read", b"ext4_read"}


def test_programs_are_not_offloaded() -> None:
    with pytest.raises(errors.BPFError, match="Failed to compile BPF module <text>: harken does not offload"):
        harken.bcc.BPF(text="int f(void *ctx) { return 0; }", device="lo")
    with pytest.raises(errors.BPFError, match="BPF module b'x.c': there is no network device 'nowhere0'"):
        harken.bcc.BPF(src_file="x.c", device=b"nowhere0")


# -- the cache


def test_a_second_start_compiles_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HARKEN_CACHE", str(tmp_path / "cache"))
    compiled: list[str] = []
    row = ("t", 1, "hash", ("u", 4), ("u", 8), None, 10, 0, "", "")

    def compile_once(self: Program) -> tuple[Any, ...]:
        compiled.append(self.source.text)
        header = tmp_path / "mine.h"
        read = cache.digest(header.read_bytes()) if header.exists() else ""
        depends = (("content", str(header), read),) if "mine.h" in self.source.text else ()
        return (row,), (("f", "kprobe", "vfs_read", ("arg0",)),), (), b"", (), depends

    monkeypatch.setattr(Program, "_compile", compile_once)
    from harken.kernel.kernel import live

    def make(text: str, *flags: str) -> Program:
        return Program(Source("<text>", text), flags, (), live(), lambda: None)

    first, second = make("a"), make("a")
    assert compiled == ["a"]
    assert second.tables == first.tables == {"t": TableInfo(*row)} and second.functions["f"].target == "vfs_read"
    make("b"), make("a", "-DX")
    assert compiled == ["a", "b", "a"]
    text = '# include "mine.h"'
    make(text), make(text)
    assert len(compiled) == 4
    (tmp_path / "mine.h").write_text("one")
    first = make(text)
    assert len(compiled) == 5, "the file that was not there is there now"
    first._store(("plan",), "plan")
    assert make(text)._load("plan") == ("plan",) and len(compiled) == 5
    (tmp_path / "mine.h").write_text("two")
    second = make(text)
    assert len(compiled) == 6 and second._load("plan") is None, "what was made with the old file does not count either"
    monkeypatch.chdir(tmp_path)
    make(text)
    assert len(compiled) == 7, "from another folder it is another file"


def test_contexts_survive_the_cache() -> None:
    context = Context(2, "pt_regs", (AttachSpec("uprobe:x", "uprobe_multi", (True, "/bin/x", (1, 2), ())),), 48, "", -1, 0, True)
    assert Context.from_plain(context.to_plain()) == context
    assert context.code != context.replace(attach=()).code, "programs of user space are compiled otherwise"


def test_programs_that_depend_on_the_folder() -> None:
    assert program._reads_files('#  include\t"x.h"', ()) and program._reads_files("", ("-I/x",))
    assert not program._reads_files("#include <linux/sched.h>", ("-DX=1",))


def test_shell_scripts_that_start_a_tool(tmp_path: Path) -> None:
    wrapper = tmp_path / "javagc"
    wrapper.write_text('#!/bin/bash\nlib=$(dirname $0)/lib\n$lib/ugc.py -l java "$@"\n')
    done = run(wrapper, "1")
    assert done.returncode == 2 and "is not a Python script: it begins with #!/bin/bash" in done.stderr
    (tmp_path / "ugc-bpfcc").write_text("#!/usr/bin/python3\nimport sys\nprint(sys.argv[1:])\n")
    assert run(wrapper, "1").stdout == "['-l', 'java', '1']\n"


# -- attaching


class _Link:
    def __init__(self, mechanism: str) -> None:
        self.mechanism, self.closed, self.skipped = mechanism, 0, ()

    def close(self) -> None:
        self.closed += 1


class _Attaching(attach_kernel.KernelProbes):
    """An object that attaches by what ``refusals`` leaves: mechanisms that fail at load or as they are used."""

    def __init__(self, order: tuple[str, ...], at_load: tuple[str, ...] = (), at_use: tuple[str, ...] = ()) -> None:
        self.order, self.at_load, self.at_use = order, at_load, at_use
        self.links: list[_Link] = []
        self.kprobe_fds = {}
        self._program = self  # type: ignore[assignment]
        self.functions = {"f": None}

    def contexts(self, function: str, key: Any, probes: Any, pid: int, avoid: tuple[str, ...]) -> list[Context]:
        left = [name for name in self.order if name not in avoid]
        if not left:
            raise ProbeError("nothing is left")
        names = tuple(probe.name[1] for probe in probes())
        return [Context(2, "pt_regs", (AttachSpec(f"kprobe:{names[0]}", left[0], (False, names)),))]

    def _load(self, function: str, context: Context) -> Any:
        if context.attach[0].mechanism in self.at_load:
            raise KernelError("not to this function", errno=22)

    def _refused(self, error: Any, function: str) -> errors.BPFError:
        return errors.load_error(error, function)

    def __getitem__(self, mechanism: str) -> Any:
        return self

    def attach(self, kernel: Any, program: Any, place: AttachSpec, options: Any) -> _Link:
        if place.mechanism in self.at_use:
            raise KernelError("not here", errno=22)
        self.links.append(_Link(place.mechanism))
        self.options = options
        return self.links[-1]


@pytest.fixture
def attaching(monkeypatch: pytest.MonkeyPatch) -> Any:
    import harken.probes.attachers as attachers

    def probe(kind: str, module: str, name: str, offset: int, listed: bool = False) -> Probe:
        return Probe(kind, (module, name, offset), f"{kind}:{name}")

    monkeypatch.setattr(attach_kernel, "function_probe", probe)

    def make(*order: str, **refusals: tuple[str, ...]) -> _Attaching:
        made = _Attaching(order, **refusals)
        monkeypatch.setattr(attachers, "ATTACHERS", made)
        return made

    return make


def test_the_next_mechanism_is_tried(attaching: Any) -> None:
    b = attaching("fentry", "kprobe_multi", "kprobe_perf", at_load=("fentry",), at_use=("kprobe_multi",))
    b.attach_kprobe(event="vfs_read", fn_name="f")
    assert [link.mechanism for link in b.links] == ["kprobe_perf"]
    assert list(b.kprobe_fds) == [b"p_vfs_read"]
    before = attach_kernel.open_probes()
    b.detach_kprobe("vfs_read")
    assert b.links[0].closed == 1 and not b.kprobe_fds and attach_kernel.open_probes() == before - 1


def test_functions_that_allocate_are_found_by_their_old_names(monkeypatch: pytest.MonkeyPatch) -> None:
    class Functions:
        functions = staticmethod(lambda: [("kmem_cache_alloc_noprof", ""), ("vfs_read", "")])
        kernel_symbols = SimpleNamespace(addresses=lambda name, owner: [])

        @staticmethod
        def function(name: str, module: str) -> object:
            return object() if (name, module) in Functions.functions() else None

    monkeypatch.setattr(attach_kernel, "catalogue", Functions)
    found = attach_kernel.function_probe("kprobe", "", "kmem_cache_alloc", 0)
    assert (found.name, found.text) == (("", "kmem_cache_alloc_noprof", 0), "kprobe:kmem_cache_alloc_noprof")
    assert attach_kernel.function_probe("kprobe", "", "vfs_read", 0).name == ("", "vfs_read", 0)
    for name, module in (("vfs_reed", ""), ("kmem_cache_alloc", "ext4")):
        with pytest.raises(ProbeError, match="no function"):
            attach_kernel.function_probe("kprobe", module, name, 0)
    with pytest.raises(ProbeError) as missing:  # not a name that was mistyped
        attach_kernel.function_probe("kprobe", "", "should_failslab", 0)
    assert "CONFIG_FAILSLAB" in missing.value.hint


def test_when_nothing_is_left_the_first_refusal_is_told(attaching: Any) -> None:
    b = attaching("fentry", "kprobe_perf", at_load=("fentry",), at_use=("kprobe_perf",))
    with pytest.raises(errors.BPFError, match="kprobe b'vfs_read', it's not traceable .*: not to this function"):
        b.attach_kprobe(event="vfs_read", fn_name="f")
    assert not b.kprobe_fds


def test_maxactive_needs_an_event_of_tracefs_or_no_limit(attaching: Any, capsys: pytest.CaptureFixture[str]) -> None:
    b = attaching("fexit", "kprobe_multi", "kprobe_perf", "kprobe_tracefs", at_load=("fexit",))
    b.attach_kretprobe(event="vfs_read", fn_name="f", maxactive=64)
    assert [link.mechanism for link in b.links] == ["kprobe_tracefs"] and b.options.maxactive == 64
    b = attaching("fexit", "kprobe_multi", "kprobe_tracefs")
    b.attach_kretprobe(event_re="", event="vfs_read", fn_name="f", maxactive=64)
    assert [link.mechanism for link in b.links] == ["fexit"] and capsys.readouterr().err == ""
    b = attaching("kprobe_multi", "kprobe_perf", at_use=("kprobe_multi",))
    b.attach_kretprobe(event="vfs_read", fn_name="f", maxactive=64)
    assert [link.mechanism for link in b.links] == ["kprobe_perf"] and "maxactive is ignored" in capsys.readouterr().err
    b = attaching("kprobe_multi", at_use=("kprobe_multi",))
    with pytest.raises(errors.BPFError, match="not here"):
        b.attach_kretprobe(event="vfs_read", fn_name="f", maxactive=64)


def test_a_link_of_many_functions_ends_with_the_last(attaching: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    b = attaching("kprobe_multi")
    monkeypatch.setattr(_Attaching, "get_kprobe_functions", staticmethod(lambda pattern: {b"a", b"b.isra.0", b"c"}), raising=False)
    b.attach_kprobe(event_re="x", fn_name="f")
    assert set(b.kprobe_fds) == {b"p_a", b"p_b_isra_0", b"p_c"} and len(b.links) == 1
    b.detach_kprobe("a")
    b.detach_kprobe("b.isra.0", "f")
    assert not b.links[0].closed
    b.detach_kprobe("c")
    assert b.links[0].closed == 1
    with pytest.raises(errors.BPFError, match="is not attached"):
        b.detach_kprobe("c")
    monkeypatch.setenv("BCC_PROBE_LIMIT", str(attach_kernel.open_probes() + 2))
    with pytest.raises(errors.BPFError, match="exceed global quota"):
        b.attach_kprobe(event_re="x", fn_name="f")


@pytest.mark.parametrize("described", [True, False])
def test_a_kfunc_without_a_description_becomes_a_kprobe(monkeypatch: pytest.MonkeyPatch, described: bool) -> None:
    from harken.bcc import attach_events

    class Bound(attach_events.KernelEvents):
        def __init__(self) -> None:
            self._program = SimpleNamespace(functions={"kfunc__vmlinux__f": SimpleNamespace(target="f")})  # type: ignore[assignment]
            self.kfunc_entry_fds = {}

        def _attach(self, function: str, key: Any, probes: Any, pid: int = -1) -> Any:
            (probe,) = probes()
            if probe.kind == "fentry":
                raise ProbeError("BTF does not describe f")
            return [(f"link of {probe}", ())]

    found = SimpleNamespace(function=lambda name, module: object() if described else None)
    monkeypatch.setattr(attach_events, "catalogue", lambda: found)
    monkeypatch.setattr(attach_events, "function_probe", lambda kind, module, name, at: Probe(kind, (module, name, at), f"{kind}:{name}"))
    b = Bound()
    if described:  # then that is not why fentry was refused
        with pytest.raises(errors.BPFError, match="BTF does not describe f"):
            b.attach_kfunc("kfunc__vmlinux__f")
        assert not b.kfunc_entry_fds
    else:
        b.attach_kfunc("kfunc__vmlinux__f")
        assert b.kfunc_entry_fds == {b"kfunc__vmlinux__f": "link of kprobe:f"}


def test_a_path_of_a_library_is_its_own(tmp_path: Path) -> None:
    from harken.bcc.names import Names

    assert Names.find_library("/no/such.so") == b"/no/such.so" and Names.find_library(b"./x") == b"./x"
    assert Names.find_exe(str(tmp_path / "missing")) is None


# -- commands


def test_a_command_waits_until_it_may_run(tmp_path: Path) -> None:
    from harken.bcc.exec import cmd_exited, cmd_ready, run_cmd

    made = tmp_path / "made"
    pid = run_cmd(["touch", str(made)])
    assert pid > 0 and not cmd_exited() and not made.exists()
    cmd_ready()
    end = time.monotonic() + 20
    while not cmd_exited() and time.monotonic() < end:
        time.sleep(0.01)
    assert cmd_exited() and made.exists()


def test_text_that_a_script_takes_for_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """funccount decodes the names of tracepoints, which BCC gives as text, and passes str() of bytes as a path."""
    from harken.bcc import usdt

    monkeypatch.setattr(facts, "catalogue", lambda: SimpleNamespace(tracepoints=lambda: [("sched", "sched_switch"), ("net", "x")]))
    (name,) = facts.Facts.get_tracepoints(b"^sched:.*$")
    assert name == "sched:sched_switch" and name.decode("utf-8", "replace") == "sched:sched_switch"
    assert usdt.USDT(path=str(os.fsencode(sys.executable))).path == sys.executable
