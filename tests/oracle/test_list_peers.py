"""``harken list`` prints everything that bpftrace -l, perf list and trace-cmd list print (in its own spelling)."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from harken.base.errors import HarkenError
from harken.kernel.kernel import live
from harken.probes.catalogue import Catalogue
from harken.probes.description import describe
from harken.probes.listing import search

pytestmark = pytest.mark.oracle


def run(*command: str) -> str:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode and not done.stdout:
        pytest.skip(f"{' '.join(command)} fails here: {done.stderr.strip()[:200]}")
    return done.stdout


@pytest.fixture(scope="module")
def catalogue():
    found = Catalogue(live())
    try:
        found.tracepoints()
        found.btf  # noqa: B018 - the mapped index stays open as long as the catalogue does
    except HarkenError as error:
        pytest.skip(str(error))
    return found


@pytest.fixture(scope="module")
def everything(catalogue):
    return {name for _, names in search(catalogue) for name in names}


def test_bpftrace(everything):
    lines = [line for line in run("bpftrace", "-l").splitlines() if line and "*" not in line]  # 0.17 prints "hardware:*:" for its pattern
    assert len(lines) > 1000
    missing = []
    for line in lines:
        kind, _, rest = line.partition(":")
        wanted = {"kfunc": "fentry", "kretfunc": "fexit"}.get(kind, kind) + ":" + rest
        choices = {wanted, wanted.replace("fentry:vmlinux:", "fentry:"), wanted.replace("rawtracepoint:vmlinux:", "rawtracepoint:")}
        if not choices & everything:
            missing.append(line)
    assert not missing


@pytest.mark.parametrize(
    "pattern", ["tracepoint:sched:*", "tracepoint:*:*open*", "uprobe:/bin/bash:*read*", "uprobe:libc:mallo*", "uprobe:bash:xmalloc"]
)
def test_bpftrace_patterns(pattern):
    catalogue = Catalogue(live())  # of its own: it keeps the binaries mapped
    theirs = [line for line in run("bpftrace", "-l", pattern).splitlines() if line]
    mine = [name for _, names in search(catalogue, pattern) for name in names]
    assert theirs and set(theirs) <= {name for text in mine for name in (text, text.replace(":/usr/bin/", ":/bin/"))} | set(mine)
    if not pattern.startswith("u"):
        assert sorted(theirs) == sorted(mine)


def test_bpftrace_fields(catalogue):
    for event in ("tracepoint:syscalls:sys_enter_openat", "tracepoint:sched:sched_switch", "tracepoint:irq:irq_handler_entry"):
        lines = [line.strip() for line in run("bpftrace", "-lv", event).splitlines()]
        assert lines[1:] == describe(catalogue, event)


def test_perf(everything):
    missing = []
    for word in run("perf", "list", "--raw-dump", "hw", "sw", "cache", "tracepoint", "pmu").split():
        if ":" in word:
            found = f"tracepoint:{word}" in everything or word in everything
        elif "/" in word:
            found = f"pmu:{word}" in everything
        else:
            found = any(f"{kind}:{word}{end}" in everything for kind in ("software", "hardware", "cache", "tool") for end in ("", ":"))
        if not found:
            missing.append(word)
    assert not missing


def test_perf_aliases(everything):
    for line in run("perf", "list", "hw", "sw", "cache", "pmu").splitlines():
        names, bracket, kind = line.partition("[")
        kind = kind.split("]")[0]
        if kind in ("Software event", "Hardware event", "Hardware cache event", "Tool event", "Kernel PMU event") and bracket:
            for name in names.strip().split(" OR "):
                assert any(
                    f"{group}:{name.strip()}{end}" in everything
                    for group in ("software", "hardware", "cache", "tool", "pmu")
                    for end in ("", ":")
                )


def test_trace_cmd(everything):
    events = run("trace-cmd", "list", "-e").split()
    assert len(events) > 1000 and not [name for name in events if f"tracepoint:{name}" not in everything]
    for tracer in run("trace-cmd", "list", "-t").split():
        assert f"tracer:{tracer}" in everything
    for option in run("trace-cmd", "list", "-o").split():
        assert f"option:{option.removeprefix('no')}" in everything or f"option:{option}" in everything
    for clock in run("trace-cmd", "list", "-C").split():
        assert f"clock:{clock.strip('[]')}" in everything
