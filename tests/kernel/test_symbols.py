"""The symbols of a real kernel and of this process."""

from __future__ import annotations

import os

import pytest

from harken.abi import bpf as abi
from harken.formats.insn import R0, encode, exit_, mov64
from harken.kernel.bpf import load_program
from harken.kernel.kernel import live
from harken.kernel.procfs import kallsyms, sysctl
from harken.symbols.kernel_symbols import KernelSymbols
from harken.symbols.symbolizer import Symbolizer

pytestmark = pytest.mark.kernel

KERNEL = live()


@pytest.fixture(scope="module")
def symbols() -> KernelSymbols:
    found = KernelSymbols(KERNEL)
    if found.hidden:
        pytest.skip("kptr_restrict hides the kernel's addresses")
    return found


def test_the_index_agrees_with_kallsyms(symbols):
    lines = [line for line in kallsyms(KERNEL).split(b"\n") if line and b"\t" not in line and line[17] in b"Tt"]
    named: dict[int, set[str]] = {}
    for line in lines:
        named.setdefault(int(line[:16], 16), set()).add(line[19:].decode())
    for number, address in enumerate(list(named)[:: max(1, len(named) // 1000)]):
        frame = symbols.resolve(address)
        assert frame.name in named[address] and frame.offset == 0 and frame.start == address
        assert number % 20 or address in symbols.addresses(frame.name)


def test_the_next_start_says_the_same(symbols):
    again = KernelSymbols(KERNEL)
    start = symbols.address("vfs_read")
    assert again.address("vfs_read") == start and again.resolve(start + 5) == symbols.resolve(start + 5)


def test_a_program_that_was_loaded_later(symbols):
    if sysctl(KERNEL, "net.core.bpf_jit_kallsyms") != "1" or sysctl(KERNEL, "net.core.bpf_jit_enable") == "0":
        pytest.skip("net.core.bpf_jit_kallsyms is off: programs have no symbols")
    program = load_program(KERNEL, abi.BPF_PROG_TYPE_SOCKET_FILTER, encode([mov64(R0, imm=0), exit_()]), name="symbols_test")
    try:
        fresh = KernelSymbols(KERNEL)
        names = [line.split()[2].decode() for line in kallsyms(KERNEL).split(b"\n") if b"_symbols_test\t[bpf]" in line]
        assert names
        address = fresh.address(names[0])
        frame = fresh.resolve(address + 1)
        assert frame.name == names[0] and frame.module == "[bpf]" and frame.kind == "kernel"
    finally:
        program.close()


def test_this_process_and_its_vdso():
    with Symbolizer(KERNEL) as symbolizer:
        pid = os.getpid()
        code = [place for place in symbolizer.processes.mappings(pid) if place.executable]
        spans = symbolizer.spans(pid, sorted(place.start + 64 * step for place in code for step in range(200) if place.start < 1 << 63))
        assert any(span.name for span in spans)
        for place in code:
            if place.path == "[vdso]":
                assert symbolizer.addresses("__vdso_gettimeofday", pid=pid) or symbolizer.addresses("__kernel_gettimeofday", pid=pid)


def test_a_process_of_another_mount_namespace_that_has_exited(tmp_path):
    import shutil
    import signal
    import subprocess

    if shutil.which("unshare") is None or "HARKEN_GUEST" in os.environ:
        pytest.skip("needs unshare, and a file system to copy programs on")
    program = shutil.which("sleep")
    script = f"mount -t tmpfs none {tmp_path} && cp {program} {tmp_path}/only_here && echo up && exec {tmp_path}/only_here 60"
    child = subprocess.Popen(["unshare", "-m", "sh", "-c", script], stdout=subprocess.PIPE)
    with child, Symbolizer(KERNEL) as symbolizer:
        assert child.stdout is not None
        if child.stdout.readline() != b"up\n":
            pytest.skip("mounts are not allowed here")
        for _ in range(500):
            symbolizer.processes.refresh(child.pid)
            paths = {place.path for place in symbolizer.processes.mappings(child.pid)}
            if f"{tmp_path}/only_here" in paths and any("libc" in path for path in paths):
                break
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert not symbolizer.processes.refresh(child.pid)
        assert not os.path.exists(f"{tmp_path}/only_here") and symbolizer.processes.root(child.pid).startswith("/proc/self/fd/")
        stub = symbolizer.addresses("nanosleep@plt", pid=child.pid) or symbolizer.addresses("exit@plt", pid=child.pid)
        assert stub and symbolizer.user(child.pid, stub[0] + 1)[0].module == f"{tmp_path}/only_here"
