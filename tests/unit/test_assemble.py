"""Whole programs: what becomes of records, losses, arguments, constants, callbacks and large variables."""

from __future__ import annotations

import struct

import pytest

from harken.base.diagnostics import Source
from harken.base.errors import LimitError, SourceError
from harken.compiler.assemble import Assembled, StackError, assemble
from harken.compiler.ir import I32, I64, PTR, Builder, Function, IRError, Module, Param, Program, Value
from harken.compiler.passes.legalise import RODATA
from harken.compiler.passes.scratch import SCRATCH, SCRATCH_SLOTS
from harken.compiler.target import EVERYTHING, Target
from harken.compiler.unit import LOSS, RING
from harken.formats.insn import disassemble
from harken.formats.spec import AttachSpec, MapSpec, Spec
from harken.testing.interpreter import Interpreter

ALL = Target("x86_64", EVERYTHING)


def start(context: str = "syscall", **program: object) -> tuple[Module, Builder]:
    module = Module()
    module.maps[RING] = MapSpec(RING, 27, 0, 0, 4096)
    module.programs.append(Program("probe", "probe", 31, context, **program))  # type: ignore[arg-type]
    return module, Builder(module.add(Function("probe")))


def lines(spec: Spec) -> list[str]:
    return [line.split(") ", 1)[1] for line in disassemble(spec.programs[0].insns)]


def losses(machine: Interpreter, made: Assembled) -> dict[tuple[str, str], int]:
    table = machine.maps[LOSS]
    return {
        name: int.from_bytes(machine.regions[table.values[slot.to_bytes(4, "little")]].data, "little")
        for slot, name in enumerate(made.losses)
    }


def event(b: Builder, tail: int = 0) -> Value:
    """Emits event 9 with a number and, if there is a tail, a string from user memory."""
    record = b.record(RING, 24, tail)
    then, after = b.block("then"), b.block("after")
    b.not_null(record, then, after)
    b.goto(then)
    b.store(record, b.arg(1), 8)
    b.store(record, b.const(0), 16)
    if tail:
        length = b.read_str(b.gep(record, b.const(24)), b.insert("inttoptr", (b.arg(0),), PTR, space="user"), tail)
        b.store(record, length, 16)
        b.emit(record, 9, length)
    else:
        b.emit(record, 9)
    b.br(after)
    b.goto(after)
    b.ret()
    return record


def test_a_fixed_record_is_reserved_and_submitted() -> None:
    module, b = start()
    event(b)
    made = assemble(module, ALL)
    text = lines(made.spec)
    assert "call bpf_ringbuf_reserve#131" in text and "call bpf_ringbuf_submit#132" in text and made.losses == (("ring", "9"),)
    machine = Interpreter(made.spec)
    machine.run("probe", struct.pack("<2Q", 0, 77))
    assert machine.maps[RING].records == [struct.pack("<3Q", 9, 77, 0)]
    machine.maps[RING].capacity = 1
    machine.run("probe", struct.pack("<2Q", 0, 78))
    assert len(machine.maps[RING].records) == 1 and losses(machine, made) == {("ring", "9"): 1}


def test_a_record_with_a_tail_sends_only_what_was_written() -> None:
    module, b = start()
    event(b, 1024)
    made = assemble(module, ALL)
    assert set(made.losses) == {("ring", "9"), ("scratch", "")}
    assert made.spec.map(SCRATCH).max_entries == SCRATCH_SLOTS
    machine = Interpreter(made.spec)
    machine.memory[0x5000] = b"/bin/ls\0"
    for _ in range(2):
        machine.run("probe", struct.pack("<2Q", 0x5000, 77))
    assert machine.maps[RING].records == [struct.pack("<3Q", 9, 77, 8) + b"/bin/ls\0"] * 2
    machine.maps[RING].capacity = 2
    machine.run("probe", struct.pack("<2Q", 0x5000, 77))
    assert losses(machine, made)["ring", "9"] == 1


@pytest.mark.parametrize("features", [EVERYTHING, EVERYTHING - {"atomic_fetch"}])
def test_scratch_slots_are_claimed_released_and_counted(features: frozenset[str]) -> None:
    module, b = start()
    event(b, 1024)
    made = assemble(module, Target("x86_64", features))
    machine = Interpreter(made.spec)
    machine.memory[0x5000] = b"x\0"
    slots = [machine.regions[number] for number in machine.maps[SCRATCH].values.values()]
    for busy in range(SCRATCH_SLOTS + 1):
        for i, slot in enumerate(slots):
            slot.data[:8] = (i < busy).to_bytes(8, "little")
        machine.run("probe", struct.pack("<2Q", 0x5000, 77))
        # its own slot is free again, those of the interrupted are untouched
        assert [slot.data[0] for slot in slots] == [int(i < busy) for i in range(SCRATCH_SLOTS)]
    assert len(machine.maps[RING].records) == SCRATCH_SLOTS and losses(machine, made)["scratch", ""] == 1


def test_scratch_is_claimed_only_where_it_is_needed() -> None:
    module, b = start()
    wanted, skip = b.block("wanted"), b.block("skip")
    b.condbr(b.icmp("eq", b.arg(1), b.const(5)), wanted, skip)
    b.goto(skip)
    b.ret()
    b.goto(wanted)
    event(b, 1024)
    machine = Interpreter(assemble(module, ALL).spec)
    machine.run("probe", struct.pack("<2Q", 0, 4))
    assert machine.steps < 8


def test_without_a_ring_buffer_the_perf_buffer_takes_its_place() -> None:
    for tail in (0, 1024):
        module, b = start()
        event(b, tail)
        made = assemble(module, Target("x86_64", EVERYTHING - {"ringbuf"}))
        assert made.spec.map(RING).type == 4 and "call bpf_perf_event_output#25" in lines(made.spec)
        machine = Interpreter(made.spec)
        machine.memory[0x5000] = b"ls\0"
        machine.run("probe", struct.pack("<2Q", 0x5000, 77))
        assert machine.maps[RING].records == [struct.pack("<3Q", 9, 77, 3 if tail else 0) + (b"ls\0" if tail else b"")]


def test_an_overlong_length_is_bounded() -> None:
    module, b = start()
    record = b.record(RING, 8, 16)
    b.zero(record, 24)
    b.emit(record, 1, b.arg(0))
    b.ret()
    machine = Interpreter(assemble(module, ALL).spec)
    for length, size in ((0, 8), (5, 13), (16, 24), (17, 24), ((1 << 64) - 14, 24)):
        machine.run("probe", struct.pack("<Q", length))
        assert len(machine.maps[RING].records[-1]) == size


def test_constants_are_pooled_once() -> None:
    module, b = start()
    for _ in range(2):
        b.helper("trace_printk", b.bytes(b"hello\0"), b.const(6))
    b.ret()
    made = assemble(module, ALL)
    rodata = made.spec.map(RODATA)
    assert rodata.contents == ((bytes(4), b"hello\0"),) and rodata.frozen
    assert {reloc.addend for reloc in made.spec.programs[0].relocs if reloc.kind == "map_value"} == {0}


@pytest.mark.parametrize(
    ("machine", "context", "text"),
    [
        ("x86_64", "pt_regs", "r0 = *(u64 *)(r1 +104)"),
        ("aarch64", "pt_regs", "r0 = *(u64 *)(r1 +8)"),
        ("x86_64", "tracing", "r0 = *(u64 *)(r1 +8)"),
        ("x86_64", "raw_tracepoint", "r0 = *(u64 *)(r1 +8)"),
    ],
)
def test_arguments(machine: str, context: str, text: str) -> None:
    module, b = start(context)
    b.ret(b.arg(1))
    assert lines(assemble(module, Target(machine, EVERYTHING)).spec)[0] == text


def test_stack_arguments_are_read_from_where_the_probe_is() -> None:
    for mechanism, helper in (("kprobe_perf", "kernel"), ("uprobe_perf", "user")):
        module, b = start("pt_regs", attach=(AttachSpec("probe", mechanism),))
        b.ret(b.arg(6))
        assert any(f"probe_read_{helper}#" in line for line in lines(assemble(module, ALL).spec))


def test_return_values() -> None:
    module, b = start("tracing", arity=3)
    b.ret(b.retval())
    assert lines(assemble(module, ALL).spec)[0] == "r0 = *(u64 *)(r1 +24)"
    module, b = start("pt_regs")
    b.ret(b.retval())
    assert lines(assemble(module, ALL).spec)[0] == "r0 = *(u64 *)(r1 +80)"
    module, b = start("tracepoint")
    b.ret(b.retval())
    with pytest.raises(IRError):
        assemble(module, ALL)


def test_an_unknown_register_is_the_users_error() -> None:
    module, b = start("pt_regs")
    b.span = Source("stdin", 'reg("zz")').span(0, 9)
    b.ret(b.reg("zz"))
    with pytest.raises(SourceError, match="zz") as caught:
        assemble(module, ALL)
    assert caught.value.diagnostics[0].position == "stdin:1:1-10"


def test_old_kernels_read_with_the_old_helper() -> None:
    module, b = start()
    b.ret(b.load(b.insert("inttoptr", (b.arg(0),), PTR, space="user"), I32))
    text = lines(assemble(module, Target("x86_64", EVERYTHING - {"probe_read_space"})).spec)
    assert "call bpf_probe_read#4" in text


def test_for_each_needs_the_helper() -> None:
    module, b = start()
    module.maps["m"] = MapSpec("m", 1, 4, 8, 4)
    module.add(
        Function("each", [Param(i, n, t) for i, (n, t) in enumerate((("m", PTR), ("k", PTR), ("v", PTR), ("c", PTR)))], kind="callback")
    )
    body = Builder(module.functions["each"])
    body.ret()
    context = b.alloca(8, "c")
    b.store(context, b.const(0))
    b.span = Source("stdin", "for ($kv : @m) { }").span(0, 5)
    b.ret(b.insert("for_each", (b.map("m"), context), I64, "each"))
    assemble(module, ALL)
    with pytest.raises(SourceError) as caught:
        assemble(module, Target("x86_64", EVERYTHING - {"for_each"}))
    assert caught.value.diagnostics[0].position == "stdin:1:1-6"


def test_callbacks_reach_the_callers_scratch_memory_and_context() -> None:
    module, b = start()
    each = module.add(Function("each", [Param(0, "i"), Param(1, "context", PTR, "stack")], kind="callback"))
    c = Builder(each)
    big = c.alloca(400, "big")
    c.zero(big, 400)
    c.store(big, c.add(c.arg(0), each.params[0]), 392)
    c.atomic("add", big, c.const(0), 392)  # nobody but the machine knows what is there now
    total = c.load(each.params[1])
    c.store(each.params[1], c.add(total, c.load(big, I64, 392)))
    c.ret()
    context = b.alloca(8, "context")
    b.store(context, b.const(0))
    b.insert("loop", (b.const(4), context), I64, "each")
    b.ret(b.load(context))
    for features in (EVERYTHING, EVERYTHING - {"bpf_loop"}):
        made = assemble(module, Target("x86_64", features))
        machine = Interpreter(made.spec)
        assert machine.run("probe", struct.pack("<Q", 100)) == 4 * 100 + 6
        if "bpf_loop" in features:
            assert made.losses == (("scratch", ""),)


def test_large_variables_move_to_scratch_memory() -> None:
    module, b = start()
    for i in range(3):
        big = b.alloca(300, f"v{i}")
        b.helper("get_current_comm", big, b.const(16))
        b.helper("get_current_comm", b.gep(b.alloca(300, f"w{i}"), b.const(0)), b.const(300))
        b.helper("trace_printk", big, b.const(16))
    b.ret()
    made = assemble(module, ALL)
    assert made.spec.map(SCRATCH).value_size >= 300


def test_too_much_memory_is_told_with_the_variable_and_its_place() -> None:
    module, b = start()
    source = Source("big.bt", "$x = struct")
    b.span = source.span(0, 2)
    b.helper("get_current_comm", b.alloca(40000, "$x"), b.const(40000))
    b.ret()
    with pytest.raises(StackError) as caught:
        assemble(module, ALL)
    assert isinstance(caught.value, LimitError) and caught.value.hint


def test_loops_on_kernels_without_them() -> None:
    old = Target("x86_64", EVERYTHING - {"bounded_loops", "bpf_loop"})
    module, b = start()
    head, after = b.block("head"), b.block("after")
    b.br(head)
    b.goto(head)
    b.span = Source("stdin", "while (1) { }").span(0, 9)
    b.condbr(b.icmp("ne", b.helper("ktime_get_ns"), b.const(0)), head, after)
    b.goto(after)
    b.ret()
    with pytest.raises(SourceError, match="loops"):
        assemble(module, old)


def test_too_many_instructions() -> None:
    module, b = start()
    for _ in range(3000):
        b.helper("trace_printk", b.const(0), b.const(0))
    b.ret()
    assemble(module, ALL)
    with pytest.raises(LimitError, match="4096"):
        assemble(module, Target("x86_64", EVERYTHING - {"insns_1m"}))


def test_far_jumps() -> None:
    module, b = start()
    then, after = b.block("then"), b.block("after")
    b.condbr(b.icmp("eq", b.arg(0), b.const(1)), after, then)
    b.goto(then)
    for _ in range(12000):
        b.helper("get_current_comm", b.alloca(16, "c") if not _ else b.function.blocks[0].insts[0], b.const(16))
    b.br(after)
    b.goto(after)
    b.ret(b.add(b.arg(0), b.const(1)))
    made = assemble(module, ALL)
    machine = Interpreter(made.spec)
    assert machine.run("probe", struct.pack("<Q", 1)) == 2 and machine.steps < 20
    assert machine.run("probe", struct.pack("<Q", 2)) == 3 and machine.steps > 12000
    with pytest.raises(LimitError, match="jump"):
        assemble(module, Target("x86_64", EVERYTHING - {"cpu_v4"}))


def test_the_module_is_not_changed_and_the_result_repeats() -> None:
    module, b = start()
    event(b, 256)
    before = str(module)
    first = assemble(module, ALL)
    assert str(module) == before
    assert assemble(module, ALL).spec.to_plain() == first.spec.to_plain()


def test_programs_that_share_a_function_share_code() -> None:
    module, b = start()
    b.ret(b.arg(0))
    module.programs.append(module.programs[0].replace(name="other"))
    one, two = assemble(module, ALL).spec.programs
    assert one.insns == two.insns and (one.name, two.name) == ("probe", "other")


def test_an_empty_program_is_a_program() -> None:
    module, b = start()
    b.ret()
    assert lines(assemble(module, ALL).spec) == ["r0 = 0", "exit"]


def test_a_function_that_calls_itself_is_refused() -> None:
    module, b = start()
    b.ret(b.call(module.functions["probe"]))
    with pytest.raises(IRError, match="calls itself"):
        assemble(module, ALL)
