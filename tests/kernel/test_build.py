"""``harken build``: C and bpftrace's language to object files that can be read and loaded again."""

from __future__ import annotations

import pytest

from harken.base.errors import SourceError, UsageError
from harken.cli.commands import build
from harken.formats.bpf_object import read
from harken.kernel.kernel import live
from harken.kernel.loader import load

pytestmark = pytest.mark.kernel

PROGRAM = """
struct key_t { u32 pid; char comm[16]; };
BPF_HASH(counts, struct key_t, u64);
BPF_PERF_OUTPUT(events);
TRACEPOINT_PROBE(syscalls, sys_enter_getppid) {
    struct key_t key = {};
    key.pid = bpf_get_current_pid_tgid() >> 32;
    bpf_get_current_comm(&key.comm, sizeof(key.comm));
    counts.increment(key);
    events.perf_submit(args, &key, sizeof(key));
    return 0;
}
RAW_TRACEPOINT_PROBE(sched_switch) { return 0; }
int nothing_said(struct pt_regs *ctx) { return 0; }
"""


@pytest.fixture
def source(tmp_path):
    pytest.importorskip("clang", reason="C needs libclang (pip install harken[c])")
    path = tmp_path / "x.c"
    path.write_text(PROGRAM)
    return path


def test_c(source, tmp_path, capsys):
    output = tmp_path / "x.bpf.o"
    assert build.run([str(source), "-o", str(output), "-d", "spec,asm"]) == 0
    shown = capsys.readouterr().out
    assert "map counts" in shown and "call bpf_get_current_comm" in shown
    spec = read(output.read_bytes())
    assert [program.attach[0].probe if program.attach else "" for program in spec.programs] == [
        "tracepoint:syscalls:sys_enter_getppid", "rawtracepoint:sched_switch", "",
    ]  # fmt: skip
    assert spec.map("counts").key_size == 20 and spec.map("counts").key_type
    without_kprobes = spec.replace(programs=spec.programs[:2])
    with load(live(), without_kprobes) as loaded:
        assert loaded.maps["counts"].info().btf_value_type_id


def test_the_language(tmp_path):
    path = tmp_path / "y.bt"
    path.write_text("tracepoint:syscalls:sys_enter_getppid { @[comm] = count(); }")
    assert build.run([str(path)]) == 0
    assert read((tmp_path / "y.bpf.o").read_bytes()).programs


def test_wrong_programs_are_told_where(source, tmp_path):
    source.write_text("int f(struct pt_regs *ctx) { return nothing; }")
    with pytest.raises(SourceError) as caught:
        build.run([str(source), "-o", str(tmp_path / "z")])
    assert ":1:" in caught.value.diagnostics[0].position and "nothing" in caught.value.diagnostics[0].message
    assert not (tmp_path / "z").exists()
    with pytest.raises(UsageError, match="No such file"):
        build.run([str(tmp_path / "a.txt")])
    (tmp_path / "a.txt").touch()
    with pytest.raises(UsageError, match="in which language"):
        build.run([str(tmp_path / "a.txt")])
