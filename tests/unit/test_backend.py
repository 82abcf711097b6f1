"""The code that comes out for typical patterns, and register pressure."""

from __future__ import annotations

import struct

import pytest

from harken.compiler.assemble import assemble
from harken.compiler.backends.bpf.allocate import references
from harken.compiler.ir import I8, I16, I32, I64, PTR, Builder, Function, Module, Program, Type, Value
from harken.compiler.target import EVERYTHING, Target
from harken.formats.insn import disassemble
from harken.formats.spec import MapSpec
from harken.testing.interpreter import Interpreter

ALL = Target("x86_64", EVERYTHING)


def code(build: object, features: frozenset[str] = EVERYTHING) -> list[str]:
    module = Module()
    b = Builder(module.add(Function("probe")))
    build(b)  # type: ignore[operator]
    module.programs.append(Program("probe", "probe", 31, "syscall"))
    spec = assemble(module, Target("x86_64", features)).spec
    return [line.split(") ", 1)[1] for line in disassemble(spec.programs[0].insns)]


def test_immediates_and_folded_offsets() -> None:
    def build(b: Builder) -> None:
        pointer = b.gep(b.ctx(), b.const(16))
        b.ret(b.binary("and", b.load(b.gep(pointer, b.const(8)), I32), b.const(15, I32)))

    assert code(build) == ["r0 = *(u32 *)(r1 +24)", "w0 &= 15", "exit"]


def test_a_comparison_and_its_branch_are_one_instruction() -> None:
    def build(b: Builder) -> None:
        then, after = b.block("then"), b.block("after")
        b.condbr(b.icmp("sgt", b.arg(0), b.const(-5)), then, after)
        b.goto(then)
        b.ret(b.const(1))
        b.goto(after)
        b.ret(b.const(2))

    text = code(build)
    assert len(text) == 6 and text[0] == "r1 = *(u64 *)(r1 +0)" and text[1].startswith("if r1 s")


def test_a_constant_is_stored_directly_and_a_store_truncates_by_itself() -> None:
    def build(b: Builder) -> None:
        place = b.alloca(8, "x")
        b.store(place, b.const(7, I32))
        b.store(place, b.resize(b.arg(0), I32, False), 4)
        b.helper("trace_printk", place, b.const(8))
        b.ret()

    assert code(build)[:3] == ["*(u32 *)(r10 -8) = 7", "r1 = *(u64 *)(r1 +0)", "*(u32 *)(r10 -4) = r1"]


def test_wide_constants() -> None:
    assert code(lambda b: b.ret(b.const(0xFFFFFFFF)))[0] == "w0 = -1"
    assert code(lambda b: b.ret(b.const(1 << 40)))[0] == "r0 = 0x10000000000"
    assert code(lambda b: b.ret(b.const(-1)))[0] == "r0 = -1"


def test_a_pointer_survives_a_call_in_a_saved_register() -> None:
    def build(b: Builder) -> None:
        first = b.arg(0)
        b.ret(b.add(first, b.helper("ktime_get_ns")))

    text = code(build)
    assert "r6 = *(u64 *)(r1 +0)" in text and not any("r10" in line for line in text)


def many(count: int, type: Type = I64) -> tuple[Module, list[int]]:
    """A program that keeps ``count`` values alive over a call and mixes them afterwards."""
    module = Module()
    module.maps["m"] = MapSpec("m", 2, 4, 8, 1)
    b = Builder(module.add(Function("probe")))
    values: list[Value] = [b.resize(b.binary("mul", b.arg(0), b.const(i + 3)), type, False) for i in range(count)]
    b.helper("ktime_get_ns")
    b.helper("trace_printk", b.const(0), b.const(0))
    total: Value = b.const(0)
    for value in values:
        total = b.binary("xor", b.binary("mul", total, b.const(31)), b.resize(value, I64, False))
    for value in reversed(values):
        total = b.add(total, b.resize(value, I64, True))
    b.ret(total)
    module.programs.append(Program("probe", "probe", 31, "syscall"))
    return module, [3 + i for i in range(count)]


@pytest.mark.parametrize("type", [I8, I16, I32, I64])
@pytest.mark.parametrize("count", [3, 5, 12, 40])
def test_register_pressure(count: int, type: Type) -> None:
    module, factors = many(count, type)
    machine = Interpreter(assemble(module, ALL).spec)
    machine.helpers["trace_printk"] = lambda m, a, b: 0
    start, mask = 0x1234567812345678, (1 << type.bits) - 1
    values = [start * factor & mask for factor in factors]
    total = 0
    for value in values:
        total = (total * 31 ^ value) & (1 << 64) - 1
    for value in reversed(values):
        total += value - (mask + 1 if value >> (type.bits - 1) else 0)
    assert machine.run("probe", struct.pack("<Q", start)) == total & (1 << 64) - 1


def test_clamps_compare_the_register_that_is_used() -> None:
    """The verifier must see the bound in the register that indexes, even under pressure."""

    def build(b: Builder) -> None:
        kept = [b.arg(i) for i in range(1, 8)]
        index = b.arg(0)
        clamped = b.select(b.icmp("ult", index, b.const(7)), index, b.const(7))
        place = b.alloca(8, "x")
        b.store(place, clamped)
        b.helper("trace_printk", place, b.const(8))
        total: Value = clamped
        for value in kept:
            total = b.add(total, value)
        b.ret(total)

    text = code(build)
    at = next(i for i, line in enumerate(text) if line.startswith("if "))
    register = text[at].split()[1]
    assert text[at + 1].startswith(f"{register} = 7")


def test_what_instructions_read_and_write() -> None:
    assert references([0x85, 0, 0, 0, 1, (2, None), None]) == ((1, 2), (0, 1, 2, 3, 4, 5))
    assert references([0xDB, 20, 21, 0, 0xF1, None, None]) == ((20, 21, 0), (0,))
    assert references([0xDB, 20, 21, 0, 0x01, None, None]) == ((20, 21), (21,))
    assert references([0xDC, 20, 0, 0, 16, None, None]) == ((20,), (20,))


def test_a_switch_finds_its_case() -> None:
    module = Module()
    b = Builder(module.add(Function("probe")))
    cases = {0: 10, 7: 11, 1 << 31: 12, 0xFFFFFFFF: 13}
    blocks = [(value, b.block("case")) for value in cases]
    default = b.block("default")
    b.insert("switch", (b.resize(b.arg(0), I32, False),), attr=(default, tuple(blocks)))
    for value, block in blocks:
        b.goto(block)
        b.ret(b.const(cases[value]))
    b.goto(default)
    b.ret(b.const(99))
    module.programs.append(Program("probe", "probe", 31, "syscall"))
    machine = Interpreter(assemble(module, ALL).spec)
    for value, result in (*cases.items(), (8, 99)):
        assert machine.run("probe", struct.pack("<Q", value)) == result


@pytest.mark.parametrize("type", [I8, I32, I64])
def test_a_long_switch_is_searched_by_halves(type: Type) -> None:
    module = Module()
    b = Builder(module.add(Function("probe")))
    mask = (1 << type.bits) - 1
    cases = {number & mask: number // 7 for number in (*range(30), *range(60, 90, 3), 100, -100, -1, -2, 127, -(1 << type.bits - 1))}
    blocks = {result: b.block("case") for result in set(cases.values())}
    default = b.block("default")
    b.insert("switch", (b.resize(b.arg(0), type, False),), attr=(default, tuple((n, blocks[r]) for n, r in cases.items())))
    for result, block in blocks.items():
        b.goto(block)
        b.ret(b.const(result))
    b.goto(default)
    b.ret(b.const(99))
    module.programs.append(Program("probe", "probe", 31, "syscall"))
    machine = Interpreter(assemble(module, ALL).spec)
    for value in sorted({*cases, *(value + step & mask for value in cases for step in (-1, 1))}):
        expected = cases.get(value, 99) & (1 << 64) - 1
        assert machine.run("probe", struct.pack("<Q", value)) == expected
        assert machine.steps < 25


@pytest.mark.parametrize("features", [EVERYTHING, EVERYTHING - {"atomic_fetch"}])
@pytest.mark.parametrize("type", [I8, I32, I64])
def test_atomics_and_their_substitutes(features: frozenset[str], type: Type) -> None:
    module = Module()
    b = Builder(module.add(Function("probe")))
    place = b.alloca(8, "x")
    b.store(place, b.const(5, type))
    old = b.insert("atomic", (place, b.const(9, type), b.const(5, type)), type, ("cmpxchg", 0, True))
    kept = b.insert("atomic", (place, b.const(1, type), b.const(5, type)), type, ("cmpxchg", 0, True))
    swapped = b.atomic("xchg", place, b.const(12, type), fetch=True)
    b.atomic("or", place, b.const(3, type))
    b.atomic("add", place, b.const(1, type))
    last = b.load(place, type)
    total: Value = b.const(0)
    for value in (old, kept, swapped, last):
        total = b.add(b.binary("mul", total, b.const(100)), b.resize(value, I64, False))
    b.ret(total)
    module.programs.append(Program("probe", "probe", 31, "syscall"))
    assert Interpreter(assemble(module, Target("x86_64", features)).spec).run("probe", bytes(8)) == 5_09_09_16


def test_references_to_the_kernel_are_left_to_the_loader() -> None:
    module = Module()
    module.maps["progs"] = MapSpec("progs", 3, 4, 4, 4)
    b = Builder(module.add(Function("probe")))
    b.insert("kfunc", (b.ctx(),), I64, "bpf_rcu_read_lock")
    symbol = b.insert("ksym", (), PTR, "runqueues", space="kernel")
    b.insert("tail_call", (b.ctx(), b.map("progs"), b.const(1, I32)))
    b.ret(b.to_int(symbol))
    module.programs.append(Program("probe", "probe", 5, "tracepoint"))
    program = assemble(module, ALL).spec.programs[0]
    assert {(reloc.kind, reloc.symbol) for reloc in program.relocs} == {
        ("kfunc", "bpf_rcu_read_lock"),
        ("map", "progs"),
        ("ksym", "runqueues"),
    }
    for reloc in program.relocs:
        assert program.insns[8 * reloc.insn] == (0x85 if reloc.kind == "kfunc" else 0x18)
