"""USDT markers beside readelf and bpftrace: names, addresses, semaphores and argument texts of what is installed here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from harken.formats.elf import Elf
from harken.kernel.kernel import live
from harken.probes.catalogue import Catalogue
from harken.probes.listing import search

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.oracle

#: Debian 12's programs and libraries with markers of their own.
BINARIES = (
    "/usr/bin/python3.11",
    "/usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0",
    "/usr/lib/x86_64-linux-gnu/libstdc++.so.6",
    "/usr/lib/x86_64-linux-gnu/libc.so.6",
    "/usr/bin/x86_64-linux-gnu-gcc-12",
)
PRESENT = [path for path in BINARIES if os.path.exists(path)]


def readelf(path: str) -> list[tuple[str, str, int, int, str]]:
    """(provider, name, address, semaphore, arguments) of every note."""
    text = subprocess.run(["readelf", "-nW", path], capture_output=True, text=True, check=True).stdout
    pattern = r"Provider: (.*)\n\s+Name: (.*)\n\s+Location: (0x\w+), .*Semaphore: (0x\w+)\n\s+Arguments: ?(.*)"
    rows = re.findall(pattern, text)
    return [
        (provider, name, int(address, 16), int(semaphore, 16), arguments.strip()) for provider, name, address, semaphore, arguments in rows
    ]


@pytest.mark.program("readelf")
@pytest.mark.parametrize("path", PRESENT)
def test_notes_as_readelf_prints_them(path: str) -> None:
    with open(path, "rb") as file:
        markers = Elf(file.read(), path).stapsdt()
    ours = [(m.provider, m.name, m.address, m.semaphore, m.arguments) for m in markers]
    assert sorted(ours) == sorted(readelf(path))
    for marker in markers:
        assert [operand.obstacle for operand in marker.operands] == [""] * len(marker.operands)
        assert len(marker.operands) == len(marker.arguments.split())


@pytest.mark.kernel
@pytest.mark.program("bpftrace")
@pytest.mark.parametrize("path", PRESENT)
def test_the_list_is_that_of_bpftrace(path: str, tmp_path: Path) -> None:
    if "+" in path:  # which bpftrace 0.17 cannot read in a path
        (tmp_path / "library").symlink_to(path)
        path = str(tmp_path / "library")
    done = subprocess.run(["bpftrace", "-l", f"usdt:{path}:*"], capture_output=True, text=True, timeout=60)
    theirs = sorted(set(re.findall(r"^usdt:.*", done.stdout, re.M)))
    ours = sorted(name for _, names in search(Catalogue(live()), f"usdt:{path}:*") for name in names)
    assert ours == theirs


@pytest.mark.kernel
@pytest.mark.program("bpftrace", "python3.11")
def test_the_markers_of_a_process() -> None:
    with subprocess.Popen(
        ["/usr/bin/python3.11", "-c", "print(1, flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None and child.stdin is not None
        child.stdout.readline()
        done = subprocess.run(["bpftrace", "-l", "usdt:*", "-p", str(child.pid)], capture_output=True, text=True, timeout=60)
        ours = {name for _, names in search(Catalogue(live()), "usdt:*", child.pid) for name in names}
        child.stdin.close()
    theirs = {
        line.rpartition("/root")[2] if "/root" in line else line.partition(":")[2] for line in re.findall(r"^usdt:.*", done.stdout, re.M)
    }
    assert {name.partition(":")[2] for name in ours} == theirs


I386 = r"""
#include <sys/sdt.h>
#include <stdio.h>
#include <string.h>
static volatile long sink;
static int counter = 41;
static struct { int a, b; long long c; } table[8];
#define SEPARATE __attribute__((noinline, noclone))
SEPARATE long leaf(int n, const char *text) {
    short s = -3 - n;
    char padding[n + 40];
    memset(padding, n, n + 40);
    counter++;
    table[n & 7].c = -(1ll << 40) - n;
    DTRACE_PROBE6(harken, values, n, text, s, counter, padding[3], (long)table[n & 7].a);
    DTRACE_PROBE2(harken, places, table[n & 7].c, table[(n + 1) & 7].b);
    sink += s + padding[n];
    return n - 100;
}
static const char *volatile hello = "hello";
SEPARATE long middle(int n) { return leaf(n, hello) * 2; }
int main(void) {
    for (int i = 0; i < 8; i++) table[i].a = i * 7, table[i].b = -i;
    sink += strlen(hello);  // so that its page is there when the first probe reads it
    for (int n = 0; n < 20; n++) {
        long r = middle(n);
        sink += r;
    }
    return 0;
}
"""


@pytest.mark.kernel
@pytest.mark.program("gcc")
@pytest.mark.needs("usdt_refcount", "uprobe_perf")
@pytest.mark.parametrize(
    "flags", ["-O2 -fomit-frame-pointer -fPIE -pie", "-O2 -fno-PIE -no-pie", "-O0 -fno-PIE -no-pie", "-O1 -fno-omit-frame-pointer"]
)
def test_arguments_of_32_bit_programs(tmp_path: Path, flags: str) -> None:
    """The program's own values are the truth; its functions' arguments lie on the stack."""
    (tmp_path / "narrow.c").write_text(I386)
    command = ["gcc", "-m32", *flags.split(), "-w", "-idirafter/usr/include/x86_64-linux-gnu", "narrow.c", "-o", "narrow"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    if "skipping incompatible" in done.stderr or "No such file" in done.stderr:
        pytest.skip(f"gcc makes no 32-bit programs here, or there is no sys/sdt.h: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    path = str(tmp_path / "narrow")
    with open(path, "rb") as file:
        markers = Elf(file.read(), path).stapsdt()
    assert sorted((m.provider, m.name, m.address, m.semaphore, m.arguments) for m in markers) == sorted(readelf(path))
    program = (
        f'usdt:{path}:harken:values {{ printf("v %d %s %d %d %d %d\\n", arg0, str(arg1), arg2, arg3, arg4, arg5); }} '
        f'usdt:{path}:harken:places {{ printf("p %ld %d\\n", arg0, arg1); }} '
        f'uprobe:{path}:leaf {{ printf("c %d %s\\n", arg0, str(arg1)); }} uretprobe:{path}:leaf {{ printf("r %d\\n", (int32)retval); }}'
    )
    done = subprocess.run([sys.executable, "-m", "harken", "-e", program, "-c", path], capture_output=True, text=True, timeout=60)
    lines = [line for line in done.stdout.splitlines() if line[:2] in ("v ", "p ", "c ", "r ")]
    expected = []
    for n in range(20):
        expected.append(f"c {n} hello")
        expected.append(f"v {n} hello {-3 - n} {42 + n} {n} {(n & 7) * 7}")
        expected.append(f"p {-(1 << 40) - n} {-((n + 1) & 7)}")
        expected.append(f"r {n - 100}")
    assert lines == expected, done.stderr
