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
