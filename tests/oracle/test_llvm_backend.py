"""Our back end against LLVM on the same IR: the same results, in the interpreter and in the kernel, and comparable code."""

from __future__ import annotations

import os
import struct

import pytest

from harken.abi import bpf as abi
from harken.compiler.assemble import assemble
from harken.compiler.ir import PTR, Builder, Function, Module, Program
from harken.compiler.target import EVERYTHING, Target
from harken.compiler.unit import LOSS, RING
from harken.formats.spec import MapSpec
from harken.testing.interpreter import Interpreter
from harken.testing.interpreter_ir import Evaluator
from harken.testing.interpreter_random import generate

pytest.importorskip("llvmlite", reason="the LLVM back end is not installed (pip install harken[llvm])")

pytestmark = pytest.mark.oracle

ALL = Target("x86_64", EVERYTHING)


def inputs(seed: int) -> bytes:
    return struct.pack("<8Q", *[(seed * 0x9E3779B97F4A7C15 * (i + 1) >> i * 5) & (1 << 64) - 1 for i in range(8)])


@pytest.mark.parametrize("seed", range(30, 46))
def test_random_programs_agree(seed: int) -> None:
    module, ctx = generate(seed, large=seed % 4 == 3), inputs(seed)
    evaluator = Evaluator(module, ctx)
    result = evaluator.call("main") & 0xFFFFFFFF
    out = bytes(evaluator.maps["out"][bytes(4)].memory)
    for backend in ("bpf", "llvm"):
        machine = Interpreter(assemble(module, ALL, backend=backend).spec)
        assert machine.run("main", ctx) & 0xFFFFFFFF == result, backend
        assert bytes(machine.regions[machine.maps["out"].values[bytes(4)]].data) == out, backend


@pytest.mark.kernel
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_kernel_runs_both() -> None:
    from harken.kernel.kernel import live
    from harken.kernel.loader import load

    for seed in (1, 2, 4, 6, 8):
        module, ctx = generate(seed, loops=False), inputs(seed)
        results = []
        for backend in ("bpf", "llvm"):
            with load(live(), assemble(module, ALL, backend=backend).spec) as loaded:
                results.append((loaded.programs["main"].run(ctx) & 0xFFFFFFFF, loaded.maps["out"].lookup(bytes(4))))
        assert results[0] == results[1]


def opensnoop() -> Module:
    """What a printf of comm, pid and a string lowers to."""
    module = Module()
    module.maps[RING] = MapSpec(RING, abi.BPF_MAP_TYPE_RINGBUF, 0, 0, 4096)
    b = Builder(module.add(Function("probe")))
    record = b.record(RING, 32, 256)
    then, after = b.block("then"), b.block("after")
    b.not_null(record, then, after)
    b.goto(then)
    b.helper("get_current_comm", b.gep(record, b.const(8)), b.const(16))
    b.store(record, b.binary("lshr", b.helper("get_current_pid_tgid"), b.const(32)), 24)
    length = b.read_str(b.gep(record, b.const(32)), b.insert("inttoptr", (b.arg(0),), PTR, space="user"), 256)
    b.emit(record, 1, b.select(b.icmp("sgt", length, b.const(0)), length, b.const(0)))
    b.br(after)
    b.goto(after)
    b.ret()
    module.programs.append(Program("probe", "probe", abi.BPF_PROG_TYPE_SYSCALL, "syscall", flags=abi.BPF_F_SLEEPABLE))
    return module


def test_domain_programs_agree_and_ours_is_as_short() -> None:
    made = {backend: assemble(opensnoop(), ALL, backend=backend) for backend in ("bpf", "llvm")}
    seen = {}
    for backend, one in made.items():
        machine = Interpreter(one.spec)
        machine.memory[0x1000] = b"/etc/passwd\0"
        machine.run("probe", struct.pack("<Q", 0x1000))
        machine.maps[RING].capacity = 0
        machine.run("probe", struct.pack("<Q", 0x1000))
        losses = [bytes(machine.regions[number].data) for number in machine.maps[LOSS].values.values()]
        seen[backend] = (machine.maps[RING].records, losses)
    assert seen["bpf"] == seen["llvm"] and len(seen["bpf"][0]) == 1
    ours, theirs = (len(made[backend].spec.programs[0].insns) // 8 for backend in ("bpf", "llvm"))
    assert ours <= theirs * 1.15, f"instructions: ours {ours}, LLVM {theirs}"


def counters() -> Module:
    """Values of an array that are reached without a lookup (the gate of ``exit()`` is one), also by a pointer that may be either."""
    module = Module()
    module.maps["values"] = MapSpec("values", abi.BPF_MAP_TYPE_ARRAY, 4, 32, 1)
    b = Builder(module.add(Function("main")))
    first, third = [b.insert("data", (), PTR, ("values", offset), space="map_value") for offset in (0, 16)]
    b.store(first, b.add(b.load(first), b.const(5)))
    b.store(first, b.const(7), 8)
    number = b.arg(0)
    even, odd, after = b.block("even"), b.block("odd"), b.block("after")
    b.condbr(b.icmp("eq", b.binary("and", number, b.const(1)), b.const(0)), even, odd)
    b.goto(even)
    b.br(after)
    b.goto(odd)
    b.br(after)
    b.goto(after)
    either = b.phi(PTR, ((even, first), (odd, third)))
    b.store(either, b.add(b.load(either), number))
    b.ret(b.load(third))
    module.programs.append(Program("main", "main", abi.BPF_PROG_TYPE_SYSCALL, "syscall", flags=abi.BPF_F_SLEEPABLE))
    return module


@pytest.mark.parametrize("numbers", [(4,), (9,), (2, 3, 1 << 40 | 1)])
def test_values_of_arrays_agree(numbers: tuple[int, ...]) -> None:
    seen = {}
    for backend in ("bpf", "llvm"):
        machine = Interpreter(assemble(counters(), ALL, backend=backend).spec)
        results = [machine.run("main", struct.pack("<Q", number)) for number in numbers]
        seen[backend] = (results, bytes(machine.regions[machine.maps["values"].values[bytes(4)]].data))
    assert seen["bpf"] == seen["llvm"]
    assert struct.unpack_from("<QQ", seen["bpf"][1], 0)[1] == 7 and seen["bpf"][1][:8] != bytes(8)
