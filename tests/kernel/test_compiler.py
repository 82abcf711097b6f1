"""Compiled programs in the real kernel: accepted by its verifier, and with the results that the IR means."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import pytest

from harken.abi import bpf as abi
from harken.base.diagnostics import Source
from harken.base.errors import KernelError, VerifierError
from harken.compiler.assemble import Assembled, assemble
from harken.compiler.ir import PTR, Builder, Function, Module, Param, Program
from harken.compiler.target import Target
from harken.compiler.unit import LOSS, RING
from harken.formats.spec import MapSpec
from harken.kernel.features import Features
from harken.kernel.kernel import live
from harken.kernel.loader import load
from harken.kernel.ring import RingBuffer
from harken.testing.interpreter_ir import Evaluator
from harken.testing.interpreter_random import generate

if TYPE_CHECKING:
    from harken.base.diagnostics import Span

pytestmark = pytest.mark.kernel

GUEST = "HARKEN_GUEST" in os.environ
_target: list[Target] = []


def target() -> Target:
    if not _target:
        machine, names = Features(live()).target()
        _target.append(Target(machine, names))
    return _target[0]


def older() -> Target:
    """This kernel, used as one that lacks what has a substitute."""
    return Target(target().machine, frozenset(target().features) - {"cpu_v4", "jmp32", "bpf_loop", "atomic_fetch"})


def runnable() -> tuple[int, str, int]:
    """Type, context and flags of a program that BPF_PROG_TEST_RUN takes."""
    return abi.BPF_PROG_TYPE_SYSCALL, "syscall", abi.BPF_F_SLEEPABLE


@pytest.mark.parametrize("seed", range(4 if GUEST else 20))
def test_random_programs_give_the_same_results(seed: int) -> None:
    module = generate(seed, large=seed % 4 == 3)
    ctx = struct.pack("<8Q", *[(seed * 0x9E3779B97F4A7C15 * (i + 1) >> i * 5) & (1 << 64) - 1 for i in range(8)])
    evaluator = Evaluator(module, ctx)
    result = evaluator.call("main") & 0xFFFFFFFF
    out = bytes(evaluator.maps["out"][bytes(4)].memory)
    for kernel_like in (target(), older()):
        with load(live(), assemble(module, kernel_like).spec) as loaded:
            assert loaded.programs["main"].run(ctx) & 0xFFFFFFFF == result
            assert loaded.maps["out"].lookup(bytes(4)) == out


def events(tail: int, kind: int, context: str, flags: int) -> Module:
    """Sends event 5 with the process id and what str() of the first context word gives."""
    module = Module()
    module.maps[RING] = MapSpec(RING, abi.BPF_MAP_TYPE_RINGBUF, 0, 0, 4096)
    b = Builder(module.add(Function("probe")))
    record = b.record(RING, 32, tail)
    then, after = b.block("then"), b.block("after")
    b.not_null(record, then, after)
    b.goto(then)
    b.zero(record, 32)
    b.store(record, b.binary("lshr", b.helper("get_current_pid_tgid"), b.const(32)), 8)
    if tail:
        length = b.read_str(b.gep(record, b.const(32)), b.insert("inttoptr", (b.arg(0),), PTR, space="user"), tail)
        length = b.select(b.icmp("sgt", length, b.const(0)), length, b.const(0))
        b.store(record, length, 16)
        b.emit(record, 5, length)
    else:
        b.emit(record, 5)
    b.br(after)
    b.goto(after)
    b.ret()
    module.programs.append(Program("probe", "probe", kind, context, flags=flags))
    return module


def sent(made: Assembled, ctx: bytes, runs: int = 1) -> tuple[list[bytes], list[int]]:
    """The records that arrive, and the loss counters."""
    records: list[bytes] = []
    with load(live(), made.spec) as loaded:
        program = loaded.programs["probe"]
        for _ in range(runs):
            program.run(ctx)
        with RingBuffer(live(), loaded.maps[RING]) as ring:
            ring.consume(lambda view: records.append(bytes(view)))
        slots = []
        for slot in range(len(made.losses)):
            value = loaded.maps[LOSS].lookup(slot.to_bytes(4, "little")) or b""
            slots.append(sum(struct.unpack(f"<{len(value) // 8}Q", value)))
    return records, slots


def address(text: bytes) -> tuple[object, int]:
    import ctypes

    memory = ctypes.create_string_buffer(text)
    return memory, ctypes.addressof(memory)


@pytest.mark.needs("ringbuf")
def test_records_arrive_and_refusals_are_counted() -> None:
    made = assemble(events(0, *runnable()), target())
    records, lost = sent(made, bytes(64), 200)
    assert records and records[0] == struct.pack("<4Q", 5, os.getpid(), 0, 0)
    assert len(records) + lost[0] == 200 and lost[0] > 0


@pytest.mark.needs("ringbuf")
def test_strings_go_through_scratch_memory() -> None:
    memory, at = address(b"/etc/hostname")
    for kernel_like in (target(), older()):
        made = assemble(events(1024, *runnable()), kernel_like)
        records, lost = sent(made, struct.pack("<8Q", at, *[0] * 7), 3)
        assert records == [struct.pack("<4Q", 5, os.getpid(), 14, 0) + b"/etc/hostname\0"] * 3 and not any(lost)
    del memory


def test_the_perf_buffer_variant_loads() -> None:
    for tail in (0, 300):
        made = assemble(
            events(tail, abi.BPF_PROG_TYPE_RAW_TRACEPOINT, "raw_tracepoint", 0),
            Target(target().machine, frozenset(target().features) - {"ringbuf"}),
        )
        load(live(), made.spec).close()


def walk() -> Module:
    """Adds up all values of a map, in a callback that has memory of its own."""
    module = Module()
    module.maps["m"] = MapSpec(
        "m", abi.BPF_MAP_TYPE_HASH, 8, 8, 16, contents=tuple((bytes([i]) * 8, bytes([i]) + bytes(7)) for i in range(9))
    )
    params = [
        Param(i, name, PTR, space) for i, (name, space) in enumerate((("m", "map"), ("k", "map_key"), ("v", "map_value"), ("c", "stack")))
    ]
    each = module.add(Function("each", params, kind="callback"))
    b = Builder(each)
    big = b.alloca(300, "big")
    b.zero(big, 300)
    b.store(big, b.load(params[2]), 288)
    b.store(params[3], b.add(b.load(params[3]), b.load(big, offset=288)))
    b.ret()
    b = Builder(module.add(Function("probe")))
    context = b.alloca(8, "context")
    b.store(context, b.const(0))
    b.insert("for_each", (b.map("m"), context), b.const(0).type, "each")
    b.ret(b.load(context))
    kind, ctx, flags = runnable()
    module.programs.append(Program("probe", "probe", kind, ctx, flags=flags))
    return module


@pytest.mark.needs("for_each")
def test_callbacks_with_scratch_memory() -> None:
    with load(live(), assemble(walk(), target()).spec) as loaded:
        assert loaded.programs["probe"].run(bytes(64)) == sum(range(9))


def test_the_verifiers_log_names_the_users_line() -> None:
    source = Source("bad.bt", "BEGIN {\n  $x = @a[1];\n  print($x);\n}")

    def at(text: str) -> Span:
        start = source.text.index(text)
        return source.span(start, start + len(text))

    module = Module()
    module.maps["a"] = MapSpec("a", abi.BPF_MAP_TYPE_HASH, 8, 8, 16)
    b = Builder(module.add(Function("probe", span=at("BEGIN"))))
    b.span = at("$x = @a[1]")
    key = b.alloca(8, "key")
    b.store(key, b.const(1))
    found = b.lookup("a", key)
    b.span = at("print")
    b.ret(b.load(found))
    module.programs.append(Program("probe", "probe", abi.BPF_PROG_TYPE_RAW_TRACEPOINT, "raw_tracepoint"))
    with pytest.raises(VerifierError) as caught:
        load(live(), assemble(module, target()).spec)
    assert "; print($x);" in caught.value.log


def test_kernel_memory_is_read_and_faults_give_zero() -> None:
    module = Module()
    b = Builder(module.add(Function("probe")))
    nowhere = b.insert("inttoptr", (b.const(0x10),), PTR, space="kernel")
    task = b.helper("get_current_task", type=PTR, space="kernel")
    big = b.alloca(200, "big")
    b.zero(big, 200)
    status = b.copy(big, task, 128)
    b.store(big, b.load(nowhere), 192)
    good = b.icmp("eq", b.binary("or", status, b.load(big, offset=192)), b.const(0))
    b.ret(b.select(good, b.const(1), b.const(0)))
    kind, ctx, flags = runnable()
    module.programs.append(Program("probe", "probe", kind, ctx, flags=flags))
    try:
        with load(live(), assemble(module, target()).spec) as loaded:
            assert loaded.programs["probe"].run(bytes(64)) == 1
    except VerifierError as error:
        if "unknown func" in error.log or "program of this type cannot use" in error.log:
            pytest.skip("this kernel keeps probe_read_kernel from programs of this type")
        raise
    except KernelError:
        raise
