"""arm64 stacks, with signed return addresses and without, held against gdb.

The program runs under QEMU's user emulation; gdb steps it to random instructions through QEMU's stub and tells the registers, the top of
the stack and its own backtrace.  Needs a cross compiler, qemu-user and gdb-multiarch; any machine will do.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from harken.formats.elf import Elf
from harken.symbols.model import Mapping
from harken.symbols.processes import Processes
from harken.symbols.unwind.unwinder import COMPLETE, Unwinder

QEMU = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
pytestmark = [
    pytest.mark.oracle,
    pytest.mark.program("aarch64-linux-gnu-gcc", "gdb-multiarch"),
    pytest.mark.skipif(QEMU is None, reason="qemu-aarch64 is not installed"),
]

SOURCE = r"""
#include <stdlib.h>
#include <string.h>
static volatile unsigned long sink;
#define SEPARATE __attribute__((noinline, noclone))
SEPARATE int compare(const void *a, const void *b) { sink += 1; return *(const int *)a - *(const int *)b; }
SEPARATE unsigned long leaf(unsigned long n) { for (unsigned long i = 0; i < n; i++) sink += i * i; return sink; }
SEPARATE unsigned long sized(unsigned n) { char b[n + 16]; memset(b, n, n + 16); sink += b[n / 2]; return leaf(n & 7) + b[3]; }
SEPARATE unsigned long large(unsigned n) { char b[9000]; memset(b, n, 64); sink += b[n & 63]; return leaf(2) + b[n & 63]; }
SEPARATE unsigned long sorted(unsigned n) {
    int a[8];
    for (int i = 0; i < 8; i++) a[i] = (i * 7919) % 8;
    qsort(a, 8, sizeof a[0], compare);
    return a[3] + n;
}
SEPARATE unsigned long odd(unsigned n);
SEPARATE unsigned long even(unsigned n) { unsigned long r = n ? odd(n - 1) : leaf(5); return r * 3 + n + sorted(n) + large(n); }
SEPARATE unsigned long odd(unsigned n) { unsigned long x = sized(n & 63), r = n ? even(n - 1) : leaf(4); return r ^ x; }
int main(void) { for (;;) sink += even(8); }
"""

GDB = """
import gdb, json, random
for command in ("confirm off", "pagination off", "auto-load no", "backtrace past-main on", "debuginfod enabled off", "stack-cache off"):
    try:
        gdb.execute("set " + command)
    except gdb.error:
        pass
gdb.execute("file " + PROGRAM)
gdb.execute("target remote localhost:%d" % PORT, to_string=True)
gdb.execute("tbreak main", to_string=True)
gdb.execute("continue", to_string=True)
source = random.Random(5)
for _ in range(COUNT):
    gdb.execute("stepi %d" % source.randrange(1, 60), to_string=True)
    frame, found = gdb.newest_frame(), []
    read = lambda name: int(gdb.parse_and_eval("(unsigned long)$" + name)) & (1 << 64) - 1
    registers = {name: read(name) for name in ["x%d" % n for n in range(30)] + ["sp", "pc"]}
    registers["lr"] = read("x30")
    top = b""
    while len(top) < 32768:
        try:
            top += bytes(gdb.selected_inferior().read_memory(registers["sp"] + len(top), 256))
        except gdb.MemoryError:
            break  # the start of the stack
    while frame is not None and len(found) < 200:
        if frame.type() != gdb.INLINE_FRAME:
            found.append(frame.pc())
        frame = frame.older()
    print("STACK " + json.dumps([registers, top.hex(), found]))
gdb.execute("kill")
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def sampled(folder: Path, flags: list[str], cpu: str, count: int = 200) -> list[tuple[dict[str, int], str, list[int]]]:
    """(registers, stack, gdb's backtrace) at random places, the same ones each time."""
    (folder / "program.c").write_text(SOURCE)
    program, port = str(folder / "program"), free_port()
    command = ["aarch64-linux-gnu-gcc", "-static", "-O2", "-fomit-frame-pointer", *flags, "program.c", "-o", "program"]
    subprocess.run(command, cwd=folder, check=True, timeout=120)
    (folder / "stacks.py").write_text(f"PROGRAM, PORT, COUNT = {program!r}, {port}, {count}\n{GDB}")
    assert QEMU is not None
    process = subprocess.Popen([QEMU, "-cpu", cpu, "-g", str(port), program], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        gdb = ["gdb-multiarch", "-nx", "-batch", "-x", str(folder / "stacks.py")]
        done = subprocess.run(gdb, capture_output=True, text=True, timeout=250, stdin=subprocess.DEVNULL, check=False)
    finally:
        process.kill()
        process.wait()
    stacks = [json.loads(line[6:]) for line in done.stdout.splitlines() if line.startswith("STACK ")]
    assert len(stacks) == count, done.stdout[-1000:] + done.stderr[-1000:]
    return stacks


def unwinder_of(folder: Path) -> Unwinder:
    program = str(folder / "program")
    elf = Elf((folder / "program").read_bytes(), program)
    processes = Processes(None)
    for segment in elf.segments:
        if segment.type == 1 and segment.flags & 1:
            end = segment.address + segment.memory_size
            processes.add(1, Mapping(segment.address & -4096, end, segment.offset & -4096, program))
    return Unwinder("aarch64", processes, lambda _pid, _mapping: elf)


def unwound(unwinder: Unwinder, registers: dict[str, int], stack: str, pointers: bool = False) -> list[str]:
    walk = unwinder.walk(1, registers, bytes.fromhex(stack), 200, pointers=pointers)
    assert walk.end == COMPLETE, ([hex(pc) for pc in walk.addresses], walk.end)
    return [hex(pc) for pc in walk.addresses]


def test_stacks_are_those_that_gdb_shows(tmp_path: Path) -> None:
    stacks = sampled(tmp_path, [], "max")
    unwinder = unwinder_of(tmp_path)
    for registers, stack, theirs in stacks:
        assert unwound(unwinder, registers, stack) == [hex(pc) for pc in theirs]
        assert unwound(unwinder, registers, stack, True) == [hex(pc) for pc in theirs]


@pytest.mark.parametrize("protection", ["pac-ret+leaf", "standard"])
def test_signed_return_addresses(tmp_path: Path, protection: str) -> None:
    """QEMU's stub does not tell gdb how addresses are signed; so its backtraces come from a processor that cannot sign them."""
    flags = [f"-mbranch-protection={protection}"]
    plain = sampled(tmp_path, flags, "max,pauth=off", 100)
    signed = sampled(tmp_path, flags, "max", 100)
    assert any(registers["lr"] >> 48 for registers, _, _ in signed) and not any(registers["lr"] >> 48 for registers, _, _ in plain)
    unwinder = unwinder_of(tmp_path)
    for (registers, stack, theirs), (other, other_stack, _) in zip(plain, signed):
        assert registers["pc"] == other["pc"]
        assert unwound(unwinder, registers, stack) == [hex(pc) for pc in theirs]
        assert unwound(unwinder, other, other_stack) == [hex(pc) for pc in theirs]
        assert unwound(unwinder, other, other_stack, True) == [hex(pc) for pc in theirs]
