"""arm64 stacks, with signed return addresses and without, held against gdb.

The programs run under QEMU's user emulation; gdb steps them to random instructions through QEMU's stub and tells the registers, the top of
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
from harken.symbols.processes import Processes, parse_maps
from harken.symbols.unwind.unwinder import COMPLETE, Unwinder
from harken.testing.elf_builder import ElfBuilder

QEMU = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
pytestmark = [
    pytest.mark.oracle,
    pytest.mark.program("aarch64-linux-gnu-gcc", "gdb-multiarch"),
    pytest.mark.skipif(QEMU is None, reason="qemu-aarch64 is not installed"),
]

SOURCE = r"""
#include <signal.h>
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
static void handler(int number) { sink += sized(number); }
int main(void) {
    struct sigaction action = {.sa_handler = handler};
    sigaction(SIGUSR1, &action, 0);
    for (;;) {
        sink += even(8);
        if (SIGNALS) for (int i = 0; i < 100; i++) raise(SIGUSR1);
    }
}
"""

#: a dynamic program: its stubs of the procedure linkage table and those of the libraries, exceptions, virtual calls
CXX = r"""
#include <algorithm>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>
namespace work {
static volatile unsigned long sink;
[[gnu::noinline]] unsigned long leaf(unsigned long n) { for (unsigned long i = 0; i < n; i++) sink = sink + i * i; return sink; }
struct Shape { virtual ~Shape() = default; virtual unsigned long area(unsigned depth) const = 0; };
template <typename T> struct Box : Shape {
    std::vector<Shape *> inner;
    [[gnu::noinline]] unsigned long area(unsigned depth) const override {
        unsigned long sum = leaf(sizeof(T) & 3);
        for (auto shape : inner) sum += shape->area(depth + 1);
        return sum + std::to_string(depth).size();
    }
};
[[gnu::noinline]] void thrower(unsigned n) { if (n) thrower(n - 1); else { leaf(2); throw std::runtime_error("deep"); } sink = sink + 1; }
[[gnu::noinline]] unsigned long caught(unsigned n) { try { thrower(n); } catch (const std::exception &e) { return e.what()[0]; } return 0; }
[[gnu::noinline]] unsigned long called(const std::function<unsigned long(unsigned)> &function) { return function(7) + 1; }
}
int main() {
    work::Box<int> root;
    work::Box<double> inner;
    root.inner = {&inner, &inner};
    for (;;) {
        work::sink = work::sink + root.area(0) + work::called([&](unsigned n) { return root.area(n) + work::leaf(2); });
        std::vector<std::string> words{"pear", "fig", "apple", "plum"};
        std::sort(words.begin(), words.end(), [](const std::string &a, const std::string &b) { work::leaf(1); return a < b; });
        if (!(work::sink & 7)) work::sink = work::sink + work::caught(3);
    }
}
"""
ROOT = "/usr/aarch64-linux-gnu"
#: gdb 13 does not understand what QEMU tells it of SVE in signal frames
CPU = "max,sve=off,sme=off"
NO_PAUTH = CPU + ",pauth=off"

GDB = """
import gdb, json, random
for command in ("confirm off", "pagination off", "auto-load no", "backtrace past-main on", "debuginfod enabled off", "stack-cache off"):
    try:
        gdb.execute("set " + command)
    except gdb.error:
        pass
gdb.execute("set sysroot " + ROOT)
gdb.execute("file " + PROGRAM)
gdb.execute("target remote localhost:%d" % PORT, to_string=True)
gdb.execute("tbreak main", to_string=True)
gdb.execute("continue", to_string=True)
gdb.execute("handle SIGUSR1 pass nostop noprint", to_string=True)
source = random.Random(5)
if BREAK:  # where a handler runs
    gdb.execute("break " + BREAK, to_string=True)
for number in range(COUNT):
    if BREAK:
        gdb.execute("continue", to_string=True)
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
gdb.execute("detach")
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


Stacks = list[tuple[dict[str, int], str, list[int]]]


def sampled(
    folder: Path, flags: list[str], cpu: str, count: int = 200, source: str = SOURCE, break_at: str = ""
) -> tuple[Stacks, list[Mapping]]:
    """(registers, stack, gdb's backtrace) at random places, the same ones each time; what the process has mapped."""
    suffix, compiler = ("cc", "g++") if source is CXX else ("c", "gcc")
    if shutil.which(f"aarch64-linux-gnu-{compiler}") is None:
        pytest.skip(f"aarch64-linux-gnu-{compiler} is not installed")
    (folder / f"program.{suffix}").write_text(source)
    program, port = str(folder / "program"), free_port()
    flags = ["-O2", "-fomit-frame-pointer", f"-DSIGNALS={int(bool(break_at))}", *flags, f"program.{suffix}", "-o", "program"]
    subprocess.run([f"aarch64-linux-gnu-{compiler}", *flags], cwd=folder, check=True, timeout=120)
    settings = (program, port, count, ROOT, break_at)
    (folder / "stacks.py").write_text(f"PROGRAM, PORT, COUNT, ROOT, BREAK = {settings!r}\n{GDB}")
    assert QEMU is not None
    # the resolver of glibc's loader describes its frame wrongly (the caller's is 16 bytes higher than it says): neither gets beyond it
    command = [QEMU, "-L", ROOT, "-E", "LD_BIND_NOW=1", "-cpu", cpu, "-g", str(port), program]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        gdb = ["gdb-multiarch", "-nx", "-batch", "-x", str(folder / "stacks.py")]
        done = subprocess.run(gdb, capture_output=True, text=True, timeout=250, stdin=subprocess.DEVNULL, check=False)
        # the emulated process's own pages lie at their addresses in QEMU's
        with open(f"/proc/{process.pid}/maps", "rb") as file:
            maps = [mapping for mapping in parse_maps(file.read()) if mapping.path == program or mapping.path.startswith(ROOT)]
    finally:
        process.kill()
        process.wait()
    stacks = [json.loads(line[6:]) for line in done.stdout.splitlines() if line.startswith("STACK ")]
    assert len(stacks) == count, done.stdout[-1000:] + done.stderr[-1000:]
    return stacks, maps


def unwinder_of(maps: list[Mapping], trampoline: int = 0) -> Unwinder:
    """An unwinder for what was mapped; QEMU's own page that signal handlers return to stands for the kernel's [vdso]."""
    processes, files = Processes(None), {}
    for mapping in maps:
        files[mapping.path] = elf = files.get(mapping.path) or Elf(Path(mapping.path).read_bytes(), mapping.path)
        code = [s for s in elf.segments if s.type == 1 and s.flags & 1 and s.offset & -4096 <= mapping.offset < s.offset + s.file_size]
        if code:  # QEMU maps code to read it
            processes.add(1, mapping.replace(executable=True))
    if trampoline:
        base = (trampoline & -4096) - 4096  # what lies before it is looked at as well
        page = bytearray(ElfBuilder(machine=183, base=base, text_size=8192).build())
        place = 4096 + trampoline - base
        page[place : place + 8] = bytes.fromhex("681180d2010000d4")
        files["[vdso]"] = Elf(bytes(page), "[vdso]")
        processes.add(1, Mapping(base, base + 8192, 4096, "[vdso]"))
    return Unwinder("aarch64", processes, lambda _pid, mapping: files[mapping.path])


def trampoline_of(stacks: Stacks, maps: list[Mapping]) -> int:
    """The one address in gdb's backtraces that is in no file."""
    (found,) = {pc for _, _, stack in stacks for pc in stack if not any(mapping.start <= pc < mapping.end for mapping in maps)}
    return found


def unwound(unwinder: Unwinder, registers: dict[str, int], stack: str, pointers: bool = False) -> list[str]:
    walk = unwinder.walk(1, registers, bytes.fromhex(stack), 200, pointers=pointers)
    assert walk.end == COMPLETE, ([hex(pc) for pc in walk.addresses], walk.end)
    return [hex(pc) for pc in walk.addresses]


def test_stacks_are_those_that_gdb_shows(tmp_path: Path) -> None:
    stacks, maps = sampled(tmp_path, ["-static"], CPU)
    unwinder = unwinder_of(maps)
    for registers, stack, theirs in stacks:
        assert unwound(unwinder, registers, stack) == [hex(pc) for pc in theirs]
        assert unwound(unwinder, registers, stack, True) == [hex(pc) for pc in theirs]


@pytest.mark.parametrize("protection", ["pac-ret+leaf", "standard"])
def test_signed_return_addresses(tmp_path: Path, protection: str) -> None:
    """QEMU's stub does not tell gdb how addresses are signed; so its backtraces come from a processor that cannot sign them."""
    flags = ["-static", f"-mbranch-protection={protection}"]
    plain, maps = sampled(tmp_path, flags, NO_PAUTH, 100)
    signed, _ = sampled(tmp_path, flags, CPU, 100)
    assert any(registers["lr"] >> 48 for registers, _, _ in signed) and not any(registers["lr"] >> 48 for registers, _, _ in plain)
    unwinder = unwinder_of(maps)
    for (registers, stack, theirs), (other, other_stack, _) in zip(plain, signed):
        assert registers["pc"] == other["pc"]
        assert unwound(unwinder, registers, stack) == [hex(pc) for pc in theirs]
        assert unwound(unwinder, other, other_stack) == [hex(pc) for pc in theirs]
        assert unwound(unwinder, other, other_stack, True) == [hex(pc) for pc in theirs]


def test_libraries_stubs_and_exceptions(tmp_path: Path) -> None:
    """A dynamic C++ program, whose calls go through stubs that nothing describes but their instructions."""
    stacks, maps = sampled(tmp_path, ["-std=c++17"], CPU, source=CXX)
    assert len({mapping.path for mapping in maps}) >= 4  # the program, the loader, libstdc++, libc
    unwinder = unwinder_of(maps)
    for registers, stack, theirs in stacks:
        assert unwound(unwinder, registers, stack) == [hex(pc) for pc in theirs]


@pytest.mark.parametrize("flags", [["-static"], ["-static", "-mbranch-protection=standard"]])
def test_signal_frames(tmp_path: Path, flags: list[str]) -> None:
    """What a handler returns to has no frame information: gdb too knows it by its two instructions."""
    stacks, maps = sampled(tmp_path, flags, NO_PAUTH if len(flags) > 1 else CPU, 100, break_at="handler")
    unwinder = unwinder_of(maps, trampoline_of(stacks, maps))
    for registers, stack, theirs in stacks:
        assert unwound(unwinder, registers, stack) == [hex(pc) for pc in theirs]
