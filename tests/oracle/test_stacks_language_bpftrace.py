"""Stacks and symbols through harken and the installed bpftrace (0.17), of the same process without address randomisation."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "kernel"))

pytestmark = pytest.mark.oracle

if os.geteuid() != 0 or shutil.which("bpftrace") is None or shutil.which("gcc") is None or shutil.which("setarch") is None:
    pytest.skip("needs root, bpftrace, gcc and setarch", allow_module_level=True)

import language  # noqa: E402

from harken.session.output_json import JsonSink  # noqa: E402
from harken.session.session import TraceSession  # noqa: E402

SOURCE = """
#include <sys/syscall.h>
#include <unistd.h>
__attribute__((noinline)) long innermost(long n) { return syscall(SYS_getpgid, n) + n; }
__attribute__((noinline)) static long middle(long n) { return innermost(n) + 1; }
__attribute__((noinline)) long outer(long n) { return middle(n) + 2; }
int main(void) { for (;;) { outer(0); usleep(2000); } }
"""


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """A process built with frame pointers that does one kind of system call all the time, at the same addresses in every run."""
    folder = tmp_path_factory.mktemp("stacks")
    (folder / "stacky.c").write_text(SOURCE)
    binary = folder / "stacky"
    flags = ["-O1", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls"]
    subprocess.run(["gcc", *flags, "-o", binary, folder / "stacky.c"], check=True)
    process = subprocess.Popen(["setarch", "-R", str(binary)])
    try:
        yield binary, process.pid
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def theirs(program: str, *options: str) -> str:
    done = subprocess.run(["bpftrace", *options, "-e", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def keys(text: str) -> set[str]:
    """The keys of all maps, without the numbers behind them."""
    return {part.rsplit("\n@", 1)[-1] for part in ("\n" + text).split("]: ")[:-1]}


PROGRAMS = [
    "@[ustack] = count();",
    "@[ustack(3), comm] = count();",
    "@[ustack(perf)] = count();",
    "@[pid, ustack(perf, 2), comm] = count();",
    "@[kstack] = count();",
    "@[kstack(perf, 4), comm] = count();",
]


@pytest.mark.parametrize("body", PROGRAMS, ids=range(len(PROGRAMS)))
def test_same_keys(target: tuple[Path, int], body: str) -> None:
    _, pid = target
    program = f"tracepoint:syscalls:sys_enter_getpgid /pid == {pid}/ {{ {body} }} interval:ms:300 {{ exit(); }}"
    expected = keys(theirs(program))
    ours, session = language.run(program, seconds=5)
    assert expected and keys(ours) == expected and not session.losses


@pytest.mark.parametrize("what", ["ustack", "ustack(perf, 3)", "kstack(perf)", "kstack(2)"])
def test_same_values(target: tuple[Path, int], what: str) -> None:
    _, pid = target
    actions = f'print({what}); printf("<%s>\\n", {what}); @ = {what}; print(@); exit();'
    program = f"tracepoint:syscalls:sys_enter_getpgid /pid == {pid}/ {{ {actions} }}"

    def first(text: str) -> list[str]:
        parts = text.split("\n@")
        return [
            parts[0][parts[0].index("\n") :].strip() if parts[0].startswith("Attach") else parts[0].strip(),
            parts[1].replace(": \n", ":\n"),
        ]

    for _ in range(3):  # another tracer of system calls, coming or going meanwhile, changes the kernel's stack
        ours, expected = first(language.run(program, seconds=5)[0]), first(theirs(program))
        if ours == expected:
            break
    assert ours == expected


def test_same_symbols_at_uprobes(target: tuple[Path, int]) -> None:
    binary, pid = target
    program = (
        f"uprobe:{binary}:innermost /pid == {pid}/ "
        '{ @[usym(reg("ip")), usym(reg("ip") + 4), ksym(kaddr("vfs_read")), ksym(5), ustack(perf)] = count(); } interval:ms:300 { exit(); }'
    )
    expected = keys(theirs(program))
    assert expected and keys(language.run(program, seconds=5)[0]) == expected


def test_same_json(target: tuple[Path, int]) -> None:
    _, pid = target
    program = (
        f"tracepoint:syscalls:sys_enter_getpgid /pid == {pid}/ {{ "
        'print((1, ustack(2))); printf("%s", ustack(perf, 1)); @ = ustack(3); @k[ustack(2), 5] = 1; @s = ksym(kaddr("vfs_read")); exit(); }'
    )
    text = language.Text()
    with TraceSession(language.unit(program), language._kernel, JsonSink(text)) as session:  # type: ignore[arg-type]
        session.start()
        session.run()

    def lines(output: str) -> list[str]:
        wanted = [line for line in output.splitlines() if line.startswith("{") and '"attached_probes"' not in line]
        return sorted(json.dumps(json.loads(line)) for line in wanted)

    # events that came before exit() took effect may repeat
    assert sorted(set(lines(text.text()))) == sorted(set(lines(theirs(program, "-f", "json"))))
