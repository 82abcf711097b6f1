"""User stacks, unwound from perf's registers and stack copies, held against gdb frame by frame.

Each sample is made into a core file (the registers and stack of the sample, the rest of the process's memory as it is), of which gdb shows
its backtrace.  The programs are built without frame pointers and without debug information.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import time
from pathlib import Path

import pytest

from harken.kernel.kernel import live
from harken.kernel.perf_event import software
from harken.kernel.sampling import Sample, Sampler
from harken.symbols.demangle import available
from harken.symbols.processes import Processes
from harken.symbols.symbolizer import Symbolizer
from harken.symbols.unwind.unwinder import COMPLETE, LOST, Unwinder

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.kernel,
    pytest.mark.program("gdb"),
    pytest.mark.needs("perf_software"),
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="the core files made here are those of x86-64"),
]

SAMPLES = 200

C = r"""
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
static volatile unsigned long sink;
#define SEPARATE __attribute__((noinline, noclone))
SEPARATE int compare(const void *a, const void *b) { for (int i = 0; i < 50; i++) sink += i; return *(const int *)a - *(const int *)b; }
SEPARATE unsigned long leaf(unsigned long n) { for (unsigned long i = 0; i < n; i++) sink += i * i; return sink; }
SEPARATE unsigned long sized(unsigned n) { char b[n + 16]; memset(b, n, n + 16); sink += b[n / 2]; return leaf(n) + b[3]; }
SEPARATE unsigned long aligned(unsigned n) { _Alignas(64) char b[256]; memset(b, n, 256); leaf(n); return sink + b[n & 255] + sized(n); }
SEPARATE unsigned long sorted(unsigned n) {
    int a[64];
    for (int i = 0; i < 64; i++) a[i] = (i * 7919) % 64;
    qsort(a, 64, sizeof a[0], compare);
    return a[3] + n;
}
static void handler(int number) { sink += leaf(3000) + number; }
SEPARATE unsigned long odd(unsigned n);
SEPARATE unsigned long even(unsigned n) { unsigned long r = n ? odd(n - 1) : leaf(2000); return r * 3 + n + sorted(n); }
SEPARATE unsigned long odd(unsigned n) {
    unsigned long x = aligned(n & 63), r = n ? even(n - 1) : leaf(2000);
    if (n == 5) raise(SIGUSR1);
    return r ^ x;
}
int main(int argc, char **argv) {
    signal(SIGUSR1, handler);
    for (;;) {
        struct timespec now;
        sink += even(20);
        // the 32-bit vdso describes its entry points and nothing else, where gdb guesses
        if (sizeof(long) == 8) for (int i = 0; i < 100; i++) clock_gettime(CLOCK_MONOTONIC, &now), sink += now.tv_nsec;
    }
}
"""

CXX = r"""
#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>
namespace work {
static volatile unsigned long sink;
[[gnu::noinline]] unsigned long leaf(unsigned long n) { for (unsigned long i = 0; i < n; i++) sink = sink + i * i; return sink; }
struct Shape { virtual ~Shape() = default; virtual unsigned long area(unsigned depth) const = 0; };
template <typename T> struct Box : Shape {
    std::vector<std::unique_ptr<Shape>> inner;
    [[gnu::noinline]] unsigned long area(unsigned depth) const override {
        unsigned long sum = leaf(100 * sizeof(T));
        for (auto &shape : inner) sum += shape->area(depth + 1);
        return sum;
    }
};
[[gnu::noinline]] void thrower(unsigned n) { if (n) thrower(n - 1); else { leaf(500); throw std::runtime_error("deep"); } sink = sink + 1; }
[[gnu::noinline]] unsigned long caught(unsigned n) {
    try { thrower(n); } catch (const std::exception &error) { return error.what()[0]; }
    return 0;
}
[[gnu::noinline]] unsigned long called(const std::function<unsigned long(unsigned)> &function) { return function(7) + 1; }
}
int main() {
    work::Box<int> root;
    for (int i = 0; i < 3; i++) {
        auto box = std::make_unique<work::Box<double>>();
        box->inner.push_back(std::make_unique<work::Box<std::string>>());
        root.inner.push_back(std::move(box));
    }
    for (;;) {
        work::sink = work::sink + root.area(0) + work::caught(10);
        work::sink = work::sink + work::called([&](unsigned n) { return root.area(n) + work::leaf(1000); });
        std::vector<std::string> words{"pear", "fig", "apple", "plum"};
        std::sort(words.begin(), words.end(), [](const std::string &a, const std::string &b) { work::leaf(200); return a < b; });
    }
}
"""

RUST = r"""
use std::collections::HashMap;
use std::hint::black_box;
trait Shape { fn area(&self, depth: u64) -> u64; }
struct Square(u64);
struct Group<T: Shape>(Vec<T>);
#[inline(never)] fn leaf(n: u64) -> u64 { let mut sum = 0u64; for i in 0..n { sum = black_box(sum.wrapping_add(i * i)); } sum }
impl Shape for Square { #[inline(never)] fn area(&self, depth: u64) -> u64 { leaf(self.0 * 100) + depth } }
impl<T: Shape> Shape for Group<T> {
    #[inline(never)] fn area(&self, depth: u64) -> u64 { self.0.iter().map(|shape| shape.area(depth + 1)).sum::<u64>() + leaf(300) }
}
#[inline(never)] fn recurse(n: u64, f: &dyn Fn(u64) -> u64) -> u64 { if n == 0 { f(3) } else { recurse(n - 1, f).wrapping_add(leaf(50)) } }
fn main() {
    let shapes: Vec<Box<dyn Shape>> = vec![Box::new(Group(vec![Square(3), Square(4)])), Box::new(Square(9))];
    let mut map = HashMap::new();
    let worker = std::thread::spawn(|| loop { black_box(recurse(8, &|n| leaf(n * 500))); });
    loop {
        for shape in &shapes { *map.entry(black_box(1)).or_insert(0u64) += shape.area(0) & 1; }
        black_box(recurse(12, &|n| leaf(n * 200)));
        let mut words = vec!["pear", "fig", "apple", "plum"];
        words.sort_by(|a, b| { leaf(100); a.len().cmp(&b.len()) });
        if map.len() > 5 { break; }
    }
    worker.join().unwrap();
}
"""

PROGRAMS = {
    "c": (C, "gcc", ["-O2", "-fomit-frame-pointer", "-w"], ".c"),
    "c-static-no-pie": (C, "gcc", ["-O3", "-fomit-frame-pointer", "-static", "-no-pie", "-w"], ".c"),
    "cxx": (CXX, "g++", ["-O2", "-std=c++17", "-fomit-frame-pointer"], ".cc"),
    # 32-bit programs, which have the same registers under other numbers and words of 4 bytes
    "c-32": (C, "gcc", ["-m32", "-O2", "-fomit-frame-pointer", "-w"], ".c"),
    "c-32-static-no-pie": (C, "gcc", ["-m32", "-O3", "-fomit-frame-pointer", "-static", "-no-pie", "-w"], ".c"),
    "cxx-32": (CXX, "g++", ["-m32", "-idirafter/usr/include/x86_64-linux-gnu", "-O2", "-std=c++17", "-fomit-frame-pointer"], ".cc"),
    "rust": (RUST, "rustc", ["-O", "-Cforce-frame-pointers=no", "-Cstrip=debuginfo"], ".rs"),
}

#: run by gdb's own Python: for each core file the program counters and names of all frames
GDB = """
import gdb, json
for command in (
    "confirm off", "pagination off", "auto-load no", "backtrace past-main on", "debuginfod enabled off", "debug-file-directory /none",
    "stack-cache off", "code-cache off",  # they outlive a change of the core file
):
    try:
        gdb.execute("set " + command)
    except gdb.error:
        pass
gdb.execute("file " + PROGRAM)
for core in CORES:
    gdb.execute("core-file " + core, to_string=True)
    frame, found = gdb.newest_frame(), []
    while frame is not None and len(found) < 200:
        if frame.type() != gdb.INLINE_FRAME:
            found.append((frame.pc(), frame.name() or ""))
        frame = frame.older()
    print("STACK " + json.dumps(found))
"""


def build(folder: Path, kind: str) -> str:
    source, compiler, flags, suffix = PROGRAMS[kind]
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler} here")
    (folder / f"program{suffix}").write_text(source)
    done = subprocess.run(
        [compiler, *flags, f"program{suffix}", "-o", "program"], cwd=folder, capture_output=True, text=True, timeout=240, check=False
    )
    if "-m32" in flags and ("skipping incompatible" in done.stderr or "No such file" in done.stderr):
        pytest.skip(f"{compiler} makes no 32-bit programs here (apt-get install g++-12-multilib)")
    assert done.returncode == 0, done.stderr
    return str(folder / "program")


def take_samples(pid: int) -> list[Sample]:
    attr = software("cpu-clock", freq=997, flags=("exclude_kernel", "exclude_hv"))
    found: list[Sample] = []
    with Sampler(live(), attr, pid=pid, registers=True, stack=24576, callchain=False) as sampler:
        sampler.enable()
        deadline = time.monotonic() + 60
        while len(found) < 3 * SAMPLES and time.monotonic() < deadline:
            found += [record for record in sampler.records(duration_ms=200) if type(record) is Sample]
    return found


class Cores:
    """Writes core files of a process that does not run."""

    #: struct user_regs_struct, in words (arch/x86/include/asm/user_64.h); the same of 32-bit processes (user_32.h)
    ORDER = "r15 r14 r13 r12 bp bx r11 r10 r9 r8 ax cx dx si di orig_ax ip cs flags sp ss".split()
    ORDER_32 = "bx cx dx si di bp ax ds es fs gs orig_ax ip cs flags sp ss".split()

    def __init__(self, pid: int, bits: int) -> None:
        self.pid, self.bits = pid, bits
        with open(f"/proc/{pid}/auxv", "rb") as file:
            self.auxv = file.read()
        self.areas: list[tuple[int, int, int, bytearray]] = []
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            for mapping in Processes(live()).mappings(pid):
                permissions = self._permissions(mapping.start)
                # what gdb cannot read from files: written memory, the vdso, and pages that were made read-only after relocation
                private = "w" in permissions or mapping.path == "[vdso]" or mapping.end - mapping.start <= 1 << 16
                if not private or "r" not in permissions or mapping.path.startswith("[vvar"):
                    continue
                memory.seek(mapping.start)
                data = bytearray(memory.read(mapping.end - mapping.start))
                self.areas.append((mapping.start, mapping.end, 5 if mapping.executable else 6, data))

    def _permissions(self, start: int) -> str:
        with open(f"/proc/{self.pid}/maps") as file:
            return next(line.split()[1] for line in file if int(line.split("-")[0], 16) == start)

    def write(self, path: Path, sample: Sample) -> None:
        assert sample.registers is not None
        registers = dict(sample.registers, cs=0x33, ss=0x2B, flags=0x202, orig_ax=(1 << self.bits) - 1)
        wide = self.bits == 64
        if wide:
            words = [registers[name] for name in self.ORDER] + [0] * 6
            status = struct.pack("<iiih2xQQiiii8Q", 0, 0, 0, 0, 0, 0, sample.tid, 1, 1, 1, *[0] * 8) + struct.pack("<27Qi4x", *words, 0)
        else:
            registers |= dict(cs=0x23, ds=0x2B, es=0x2B, fs=0, gs=0x63)
            words = [registers[name] for name in self.ORDER_32]
            status = struct.pack("<iiih2xIIiiii8I", 0, 0, 0, 0, 0, 0, sample.tid, 1, 1, 1, *[0] * 8) + struct.pack("<17Ii", *words, 0)
        assert len(status) == (336 if wide else 144)
        notes = b"".join(
            struct.pack("<III", 5, len(data), kind) + b"CORE\0\0\0\0" + data + bytes(-len(data) % 4)
            for kind, data in ((1, status), (6, self.auxv))
        )
        sp = registers["sp"]
        count = len(self.areas) + 1
        offset = 64 + 56 * count if wide else 52 + 32 * count

        def header(kind: int, flags: int, address: int, size: int) -> bytes:
            start = offset + len(body)
            if wide:
                return struct.pack("<IIQQQQQQ", kind, flags, start, address, 0, size, size, 1)
            return struct.pack("<IIIIIIII", kind, start, address, 0, size, size, flags, 1)

        body = b""
        headers = [header(4, 0, 0, len(notes))]
        body = notes
        for start, end, flags, data in self.areas:
            content = data
            if start <= sp < end:
                content = bytearray(data)
                # At the end of an epilogue registers are described as saved below the stack pointer.  They have just been popped from
                # there, and the process's memory is of a later time; of these only the frame pointer leads on.
                below = registers["bp"].to_bytes(self.bits // 8, "little") * 6
                content[sp - start - len(below) : sp - start + len(sample.stack)] = below + sample.stack
            headers.append(header(1, flags, start, len(content)))
            body += content
        ident = b"\x7fELF" + bytes((2 if wide else 1, 1, 1)) + bytes(9)
        layout = "<HHIQQQIHHHHHH" if wide else "<HHIIIIIHHHHHH"
        sizes = (64, 56) if wide else (52, 32)
        start = struct.pack(layout, 4, 62 if wide else 3, 1, 0, sizes[0], 0, 0, *sizes, count, 0, 0, 0)
        path.write_bytes(ident + start + b"".join(headers) + body)


def gdb_stacks(folder: Path, program: str, cores: list[Path]) -> list[list[tuple[int, str]]]:
    script = folder / "stacks.py"
    script.write_text(f"PROGRAM, CORES = {program!r}, {[str(core) for core in cores]!r}\n{GDB}")
    done = subprocess.run(
        ["gdb", "-nx", "-batch", "-x", str(script)], capture_output=True, text=True, timeout=280, stdin=subprocess.DEVNULL, check=False
    )
    found = [json.loads(line[6:]) for line in done.stdout.splitlines() if line.startswith("STACK ")]
    assert len(found) == len(cores), done.stdout[-2000:] + done.stderr[-2000:]
    return [[(pc, name) for pc, name in stack] for stack in found]


def same_name(ours: str, theirs: str) -> bool:
    """gdb keeps the hashes of Rust's names, and demanglers of C++ disagree on how to write lambdas, clones and spaces."""
    if not ours or not theirs or "lambda" in ours:
        return True
    theirs = re.sub(r"::h[0-9a-f]{16}$|\[[0-9a-f]{16}\]", "", theirs)
    theirs = re.sub(r"\[clone ([^]]*)\]", r"(\1)", theirs)
    return ours.replace(" ", "") == theirs.replace(" ", "")


def _is_thunk(cores: Cores, pc: int) -> bool:
    """Whether code copies its return address to a register and returns."""
    with open(f"/proc/{cores.pid}/mem", "rb", buffering=0) as memory:
        memory.seek(pc - 3)
        code = memory.read(7)
    return any(code[at] == 0x8B and code[at + 2 : at + 4] == b"\x24\xc3" for at in (0, 3))


@pytest.mark.parametrize("kind", PROGRAMS)
def test_stacks_are_those_that_gdb_shows(tmp_path: Path, kind: str) -> None:
    program = build(tmp_path, kind)
    process = subprocess.Popen([program], stdout=subprocess.DEVNULL)
    kernel = live()
    try:
        time.sleep(0.3)
        samples = take_samples(process.pid)
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        assert len(samples) >= SAMPLES
        samples = random.Random(7).sample(samples, SAMPLES)
        assert all((s.registers or {}).get("bits", 64) == (32 if "-32" in kind else 64) for s in samples)
        symbolizer = Symbolizer(kernel)
        unwinder = Unwinder(kernel.machine, symbolizer.processes)
        walks = [unwinder.walk(s.pid, s.registers or {}, s.stack, 200) for s in samples]
        names = [[frame.name for frame in symbolizer.stack(process.pid, walk.addresses)] for walk in walks]
        mappings = symbolizer.processes.mappings(process.pid)
        writer = Cores(process.pid, 32 if "-32" in kind else 64)
        cores = [tmp_path / f"core.{number}" for number in range(len(samples))]
        for core, sample in zip(cores, samples):
            writer.write(core, sample)
        theirs = gdb_stacks(tmp_path, program, cores)
        symbolizer.close()
        # functions like __x86.get_pc_thunk.bx are described in few files; gdb guesses from what comes before them
        thunks = [walk.end == COMPLETE and _is_thunk(writer, walk.addresses[0]) for walk in walks]
    finally:
        process.kill()
        process.wait()
    kept = list(zip(walks, theirs, names))
    if "-32" in kind:
        code = [(m.start, m.end) for m in mappings if m.executable]
        # memcpy of the 32-bit C library (sysdeps/i386/i586/memcpy.S) pushes a register that its frame information does not know of:
        # nobody finds the return address there; gdb shows the register as a frame and guesses on
        strange = [len(stack) > 1 and not any(start <= stack[1][0] < end for start, end in code) for stack in theirs]
        assert all(
            (walk.addresses, walk.end) == ([stack[0][0]], LOST) for one, (walk, stack, _) in zip(strange, kept) if one and walk.end == LOST
        )
        kept = [taken for taken, one, other in zip(kept, strange, thunks) if not one and not other]
        assert len(kept) > SAMPLES * 7 // 8
    different = [
        (number, [hex(pc) for pc in walk.addresses], [hex(pc) for pc, _ in stack])
        for number, (walk, stack, _) in enumerate(kept)
        if walk.addresses != [pc for pc, _ in stack]
    ]
    assert not different, f"{len(different)} of {len(samples)} differ, the first: {different[0]}"
    # gdb's stacks end there as well: the last instructions of a throw, before its landing pad, are described by nobody
    assert len([walk for walk, _, _ in kept if walk.end != COMPLETE]) <= 2
    assert max(len(walk.addresses) for walk in walks) > 8
    # elsewhere gdb takes the nearest symbol, whatever its size
    own = [(m.start, m.end) for m in mappings if m.path == program]
    pairs = {
        (ours, name) for _, stack, mine in kept for ours, (pc, name) in zip(mine, stack) if any(start <= pc < end for start, end in own)
    }
    assert len(pairs) > 5
    if "static" not in kind:  # a static libc has several names for many functions
        assert not {pair for pair in pairs if not same_name(*pair)}
    assert not any(ours.startswith(("_Z", "_R")) for ours, _ in pairs) or not available()
