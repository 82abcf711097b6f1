"""``ustack(dwarf)`` beside gdb's backtraces, and ``ustack(python)`` of every CPython that is installed here."""

from __future__ import annotations

import glob
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from harken.session.api import trace

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.oracle, pytest.mark.kernel, pytest.mark.needs("uprobe_perf", "tracepoint_perf")]

if os.geteuid() != 0:
    pytest.skip("loading BPF programs needs root", allow_module_level=True)

PROGRAM = """
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/syscall.h>
#define OWN __attribute__((noinline, noclone))
volatile int sink;
OWN void leaf(int n) { volatile char b[64]; memset((void *)b, n, 64); syscall(SYS_getpgid, 0); sink += b[3]; }
OWN void one(int n) { leaf(n); sink++; }
OWN void two(int n) { volatile char b[200]; b[0] = n; one(n + b[0]); sink += b[0]; }
OWN void deep(int n) { if (n) deep(n - 1); else two(n); sink++; }
OWN int compare(const void *a, const void *b) { deep(3); return *(int *)a - *(int *)b; }
OWN void sorts(void) { int v[2] = {2, 1}; qsort(v, 2, 4, compare); sink += v[0]; }
OWN void handler(int s) { one(s); sink++; }
OWN void raiser(void) { kill(getpid(), SIGUSR1); sink++; }
int main(void) { signal(SIGUSR1, handler); sorts(); raiser(); deep(40); return 0; }
"""
KNOWN = (
    ["leaf", "one", "two", *["deep"] * 4, "compare", "sorts", "main"],
    ["leaf", "one", "handler", "raiser", "main"],
    ["leaf", "one", "two", *["deep"] * 41, "main"],
)
OURS = {name for one in KNOWN for name in one}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    folder: Path = tmp_path_factory.mktemp("deep")
    (folder / "deep.c").write_text(PROGRAM)
    subprocess.run(
        ["gcc", "-O2", "-fomit-frame-pointer", "-fno-optimize-sibling-calls", "-o", folder / "deep", folder / "deep.c"], check=True
    )
    return str(folder / "deep")


def stacks(program: str, where: str) -> list[list[str]]:
    with trace(f"{where} {{ print(ustack(dwarf)); }}", command=[program], cached=False) as running:
        found = [[frame.name for frame in event.values[0]] for event in running]
    assert not running.losses
    return found


@pytest.mark.parametrize("where", ["uprobe:PROGRAM:leaf", "tracepoint:syscalls:sys_enter_getpgid"])
def test_the_known_chain_of_calls(program: str, where: str) -> None:
    found = stacks(program, where.replace("PROGRAM", program))
    assert [[name for name in one if name in OURS] for one in found] == list(KNOWN)
    assert all(one[-1] == "_start" for one in found)


def test_gdb_shows_the_same_frames(program: str) -> None:
    if shutil.which("gdb") is None:
        pytest.skip("gdb is not installed")
    steps = [
        word for step in ("handle SIGUSR1 nostop noprint pass", "break leaf", "run", "bt", "c", "bt", "c", "bt") for word in ("-ex", step)
    ]
    done = subprocess.run(["gdb", "-q", "-batch", *steps, program], capture_output=True, text=True, timeout=120)
    theirs: list[list[str]] = []
    for line in done.stdout.split("\n"):
        match = re.match(r"#(\d+) +(?:0x[0-9a-f]+ in )?(\S+)", line)
        if match and match[1] == "0":
            theirs.append([])
        if match:
            theirs[-1].append(match[2].partition("@")[0])
    if len(theirs) != 3:
        pytest.skip(f"gdb cannot run programs here: {done.stderr[-200:]}")
    for ours, gdb in zip(stacks(program, f"uprobe:{program}:leaf"), theirs, strict=True):
        # libc's own: gdb names inlined functions where its debug package is installed
        assert [name for name in ours if name in OURS] == [name for name in gdb if name in OURS]


#: 200 calls of ``leaf``, each by another way that chance has chosen: frames of all sizes, libc's callbacks, signal handlers.
CHANCE = """
#include <alloca.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#define OWN __attribute__((noinline, noclone))
volatile int sink; static unsigned state = 12345; static int left;
static unsigned chance(unsigned n) { state = state * 1103515245u + 12345u; return (state >> 16) % n; }
OWN void leaf(void) { volatile char b[40]; b[0] = 1; sink += b[0]; }
OWN void go(void);
OWN void plain(void) { go(); sink++; }
OWN void large(void) { volatile char b[1000]; memset((void *)b, 1, sizeof b); go(); sink += b[9]; }
OWN void variable(unsigned n) { volatile char *b = alloca(n); b[n - 1] = 1; go(); sink += b[0]; }
OWN long many(long a, long b, long c, long d, long e, long f, long g, long h) { go(); sink++; return a ^ b ^ c ^ d ^ e ^ f ^ g ^ h; }
OWN void aligned(void) { volatile char b[64] __attribute__((aligned(64))); b[5] = 1; go(); sink += b[5]; }
static int entered;
OWN int compare(const void *a, const void *b) { if (!entered++) go(); return *(int *)a - *(int *)b; }
OWN void sorts(void) { int v[3] = {3, 2, 1}, before = entered; entered = 0; qsort(v, 3, 4, compare); entered = before; sink += v[0]; }
OWN void finds(void) { int v[1] = {1}, before = entered; entered = 0; bsearch(v, v, 1, 4, compare); entered = before; sink += v[0]; }
OWN void handler(int s) { go(); sink += s; }
OWN void raises(void) { raise(SIGUSR1); sink++; }
OWN void go(void) {
    if (left-- <= 0) { leaf(); sink++; return; }
    switch (chance(8)) {
    case 0: plain(); break;
    case 1: large(); break;
    case 2: variable(16 + chance(900)); break;
    case 3: sink += many(1, 2, 3, 4, 5, 6, sink, 8); break;
    case 4: aligned(); break;
    case 5: sorts(); break;
    case 6: finds(); break;
    case 7: raises(); break;
    }
    sink++;
}
int main(void) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_NODEFER};
    sigaction(SIGUSR1, &action, 0);
    for (int i = 0; i < 200; i++) { left = chance(9); go(); }
    return 0;
}
"""


def test_two_hundred_stacks_of_chance_are_those_of_gdb(tmp_path: Path) -> None:
    for name in ("gcc", "gdb", "setarch"):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")
    (tmp_path / "chance.c").write_text(CHANCE)
    program = str(tmp_path / "chance")
    subprocess.run(["gcc", "-O2", "-fomit-frame-pointer", "-fno-optimize-sibling-calls", "-o", program, tmp_path / "chance.c"], check=True)
    (tmp_path / "commands").write_text(
        # with debug information of libc, gdb adds inlined functions and tail calls
        "set pagination off\nset debug-file-directory /nonexistent\nset backtrace past-main on\n"
        "set backtrace past-entry on\nhandle SIGUSR1 nostop noprint pass\n"
        "break leaf\ncommands\nsilent\nbt\ncontinue\nend\nrun\n"
    )
    done = subprocess.run(["gdb", "-q", "-nx", "-batch", "-x", tmp_path / "commands", program], capture_output=True, text=True, timeout=120)
    theirs: list[list[int]] = []
    for line in done.stdout.split("\n"):
        match = re.match(r"#(\d+) +(?:0x([0-9a-f]+) in )?", line)
        if match and match[1] == "0":
            theirs.append([])
        elif match and match[2]:  # without: the mark of a signal handler
            theirs[-1].append(int(match[2], 16))
    if not theirs:
        pytest.skip(f"gdb cannot run programs here: {done.stderr[-200:]}")
    # gdb runs programs where their addresses are always the same
    text = f"config = {{ user_stack_bytes = 28672 }} uprobe:{program}:leaf {{ print(ustack(dwarf, 127)); }}"
    with trace(text, command=["setarch", "-R", program], cached=False) as running:
        found = [event.values[0] for event in running]
    assert not running.losses
    ours = [[frame.address for frame in stack[1:] if "restore_rt" not in frame.name] for stack in found]
    assert all(stack[0].name == "leaf" for stack in found) and len({tuple(stack) for stack in ours}) > 100
    assert ours == theirs and len(ours) == 200


def _interpreters() -> list[str]:
    found = {"/usr/bin/python3", *glob.glob(os.path.expanduser("~/.pyenv/versions/3.1[1-9]*/bin/python3"))}
    return sorted(path for path in found if os.path.exists(path))


@pytest.mark.parametrize("interpreter", _interpreters())
def test_python_by_version(interpreter: str, tmp_path: Path) -> None:
    version = subprocess.run(
        [interpreter, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True, check=True
    ).stdout.split()
    if not (3, 11) <= (int(version[0]), int(version[1])) < (3, 16):
        pytest.skip("no layout for this interpreter")
    script = tmp_path / "script.py"
    # it waits: whether a process is known before it has run for some milliseconds is a race, and told when it is lost
    script.write_text(
        "import os, time; time.sleep(0.3)\n"
        "def leaf():\n    os.getpgid(0)\n"
        "def again(n):\n    again(n - 1) if n else leaf()\n"
        "def generator():\n    again(2)\n    yield\n"
        "class Thing:\n    def method(self):\n        sorted([1], key=lambda x: next(generator()))\n"
        "for _ in range(50):\n    Thing().method()\n"
    )
    with trace(
        "tracepoint:syscalls:sys_enter_getpgid { @[ustack(python)] = count(); }", command=[interpreter, str(script)], cached=False
    ) as running:
        running.run(60)
    ((stack, count),) = running.maps["@"].items()
    assert count == 50 and not running.losses
    assert [(frame.name.rpartition(".")[2], frame.line) for frame in stack] == [
        ("leaf", 3), ("again", 5), ("again", 5), ("again", 5), ("generator", 7), ("<lambda>", 11), ("method", 11), ("<module>", 13),
    ]  # fmt: skip
    assert {frame.file for frame in stack} == {str(script)}
