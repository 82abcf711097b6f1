"""Each pass by what it leaves behind, and all of them by results on random programs."""

from __future__ import annotations

import struct

import pytest

from harken.compiler.assemble import assemble, optimise
from harken.compiler.ir import I8, I32, I64, PTR, Builder, Const, Function, Inst, Module, Param, Program, verify
from harken.compiler.passes import fold
from harken.compiler.passes.cfg import clean, dominators, loop_depths, reverse_postorder
from harken.compiler.passes.dead import drop_dead, drop_dead_zeroing
from harken.compiler.passes.inline import clone, count_calls, expand_loops, inline_calls
from harken.compiler.passes.loads import forward_loads
from harken.compiler.passes.mem2reg import mem2reg
from harken.compiler.passes.pointers import rebase_pointers
from harken.compiler.passes.simplify import simplify
from harken.compiler.passes.spaces import infer_spaces
from harken.compiler.passes.stack import colour, place
from harken.compiler.target import EVERYTHING, Target
from harken.testing.interpreter import Interpreter
from harken.testing.interpreter_ir import Evaluator
from harken.testing.interpreter_random import generate


def ops(function: Function) -> list[str]:
    return [inst.op for inst in function.instructions()]


def test_mem2reg_makes_a_phi_where_a_variable_is_live() -> None:
    f = Function("f")
    b = Builder(f)
    x, dead = b.alloca(8, "x"), b.alloca(8, "dead")
    b.store(x, b.const(1))
    b.store(dead, b.const(1))
    then, after = b.block("then"), b.block("after")
    b.condbr(b.icmp("eq", b.arg(0), b.const(0)), then, after)
    b.goto(then)
    b.store(x, b.const(2))
    b.store(dead, b.const(2))
    b.br(after)
    b.goto(after)
    b.ret(b.load(x))
    assert mem2reg(f)
    verify(f)
    assert ops(f).count("phi") == 1 and "alloca" not in ops(f) and "store" not in ops(f)


def test_mem2reg_leaves_what_is_addressed() -> None:
    f = Function("f")
    b = Builder(f)
    x = b.alloca(8, "x")
    b.helper("get_current_comm", x, b.const(8))
    b.ret(b.load(x))
    assert not mem2reg(f)
    assert "alloca" in ops(f)


def test_mem2reg_keeps_the_space_of_a_stored_pointer() -> None:
    f = Function("f")
    b = Builder(f)
    x = b.alloca(8, "p")
    b.store(x, b.arg(0))
    b.ret(b.load(b.load(x, PTR, space="user"), I64))
    mem2reg(f)
    (load,) = [inst for inst in f.instructions() if inst.op == "load"]
    assert load.args[0].space == "user"


@pytest.mark.parametrize(
    ("op", "constant", "result"),
    [
        ("mul", 8, ("shl", 3)),
        ("udiv", 16, ("lshr", 4)),
        ("umod", 8, ("and", 7)),
        ("sub", 5, ("add", -5)),
        ("add", 0, None),
        ("and", -1, None),
    ],
)
def test_strength_reduction(op: str, constant: int, result: tuple[str, int] | None) -> None:
    f = Function("f")
    b = Builder(f)
    b.ret(b.binary(op, b.arg(0), b.const(constant)))
    simplify(f)
    if result is None:
        assert ops(f) == ["arg", "ret"]
    else:
        inst = f.blocks[0].insts[1]
        assert isinstance(inst.args[1], Const) and (inst.op, inst.args[1].signed) == result


def test_common_subexpressions_are_shared_along_the_dominator_tree() -> None:
    f = Function("f")
    b = Builder(f)
    first = b.binary("lshr", b.helper("get_current_pid_tgid"), b.const(32))
    then, after = b.block("then"), b.block("after")
    b.condbr(b.icmp("ugt", first, b.const(5)), then, after)
    b.goto(then)
    b.ret(b.binary("lshr", b.helper("get_current_pid_tgid"), b.const(32)))
    b.goto(after)
    b.ret(b.helper("ktime_get_ns"))
    simplify(f)
    assert ops(f).count("helper") == 2 and then.insts[-1].args[0] is first


def test_times_are_not_shared() -> None:
    f = Function("f")
    b = Builder(f)
    b.ret(b.binary("sub", b.helper("ktime_get_ns"), b.helper("ktime_get_ns")))
    optimise(f)
    assert ops(f).count("helper") == 2


def test_a_checked_pointer_is_not_checked_again() -> None:
    f = Function("f")
    b = Builder(f)
    key = b.alloca(8, "key")
    b.store(key, b.const(0))
    found = b.lookup("m", key)
    inner, then, after = b.block("inner"), b.block("then"), b.block("after")
    b.not_null(found, inner, after)
    b.goto(inner)
    b.not_null(found, then, after)
    b.goto(then)
    b.ret(b.load(found))
    b.goto(after)
    b.ret()
    optimise(f)
    assert ops(f).count("condbr") == 1


def test_masks_go_only_where_the_verifier_knows_the_bound() -> None:
    f = Function("f")
    b = Builder(f)
    known = b.binary("and", b.binary("lshr", b.helper("get_current_pid_tgid"), b.const(32)), b.const(0xFFFFFFFF))
    quotient = b.binary("udiv", b.resize(b.arg(0), I32, False), b.resize(b.arg(1), I32, False))
    unknown = b.binary("and", b.resize(b.binary("lshr", quotient, b.const(31, I32)), I64, False), b.const(7))
    b.ret(b.add(known, unknown))
    simplify(f)
    assert [inst.args[1].value for inst in f.instructions() if inst.op == "and" and isinstance(inst.args[1], Const)] == [7]


def test_branches_on_constants_disappear() -> None:
    f = Function("f")
    b = Builder(f)
    then, other = b.block("then"), b.block("else")
    b.condbr(b.icmp("ult", b.const(3), b.const(2)), then, other)
    b.goto(then)
    b.ret(b.helper("ktime_get_ns"))
    b.goto(other)
    b.ret(b.const(7))
    optimise(f)
    assert ops(f) == ["ret"]


def test_dead_stores_go_and_live_ones_stay() -> None:
    f = Function("f")
    b = Builder(f)
    unread, read = b.alloca(16, "unread"), b.alloca(16, "read")
    b.store(unread, b.arg(0), 8)
    b.store(read, b.arg(1), 8)
    b.helper("trace_printk", read, b.const(16))
    b.ret()
    drop_dead(f)
    stores = [inst for inst in f.instructions() if inst.op == "store"]
    assert [s.args[0] for s in stores] == [read]


def test_zeroing_shrinks_to_what_is_not_written_anyway() -> None:
    f = Function("f")
    b = Builder(f)
    key = b.alloca(24, "key")
    b.zero(key, 24)
    b.store(key, b.arg(0), 0)
    b.store(key, b.resize(b.arg(1), I32, False), 16)
    b.helper("trace_printk", key, b.const(24))
    b.ret()
    drop_dead_zeroing(f)
    (zero,) = [inst for inst in f.instructions() if inst.op == "zero"]
    assert zero.attr == (8, 16)


def test_inlining_and_loops_without_bpf_loop() -> None:
    module = Module()
    body = module.add(Function("body", [Param(0, "i"), Param(1, "context", PTR, "stack")], kind="callback"))
    b = Builder(body)
    b.store(body.params[1], b.add(b.load(body.params[1]), body.params[0]))
    b.ret(b.resize(b.icmp("eq", body.params[0], b.const(6)), I64, False))
    main = module.add(Function("main"))
    b = Builder(main)
    context = b.alloca(8, "context")
    b.store(context, b.const(0))
    rounds = b.insert("loop", (b.const(100), context), I64, "body")
    b.ret(b.add(b.binary("mul", b.load(context), b.const(100)), rounds))
    expected = Evaluator(module).call("main")
    assert expected == 2107
    for back_edges in (True, False):
        copy = clone(main)
        expand_loops(copy, back_edges)
        inline_calls(copy, {"body": body}, count_calls(module))
        verify(copy)
        optimise(copy)
        verify(copy)
        assert "call" not in ops(copy) and "alloca" not in ops(copy)
        one = Module()
        one.add(copy)
        assert Evaluator(one).call("main") == expected


def test_clean_merges_chains_and_drops_what_is_not_reached() -> None:
    f = Function("f")
    b = Builder(f)
    one, two, lost = b.block("one"), b.block("two"), b.block("lost")
    b.br(one)
    b.goto(one)
    b.br(two)
    b.goto(two)
    b.ret()
    b.goto(lost)
    b.br(two)
    clean(f)
    assert len(f.blocks) == 1


def test_dominators_and_loop_depths() -> None:
    f = Function("f")
    b = Builder(f)
    head, body, after = b.block("head"), b.block("body"), b.block("after")
    b.br(head)
    b.goto(head)
    b.condbr(b.icmp("eq", b.arg(0), b.const(0)), body, after)
    b.goto(body)
    b.br(head)
    b.goto(after)
    b.ret()
    order, before = reverse_postorder(f), f.predecessors()
    idom = dominators(order, before)
    assert idom[body] is head and idom[after] is head and idom[head] is f.blocks[0]
    depths = loop_depths(order, before, idom)
    assert [depths[block] for block in (f.blocks[0], head, body, after)] == [0, 1, 1, 0]


def test_memory_is_shared_by_what_is_not_alive_together() -> None:
    f = Function("f")
    b = Builder(f)
    for name in ("one", "two"):
        place_ = b.alloca(64, name)
        b.helper("get_current_comm", place_, b.const(64))
        b.helper("trace_printk", place_, b.const(64))
    b.ret()
    frame, moved, _ = place(f, 512)
    assert frame.size == 64 and not moved


def test_memory_alive_around_a_loop_is_not_shared() -> None:
    f = Function("f")
    b = Builder(f)
    outer = b.alloca(8, "outer")
    b.helper("get_current_comm", outer, b.const(8))
    head, after = b.block("head"), b.block("after")
    b.br(head)
    b.goto(head)
    b.helper("trace_printk", outer, b.const(8))
    inner = b.alloca(8, "inner")
    b.helper("get_current_comm", inner, b.const(8))
    b.condbr(b.icmp("eq", b.load(inner), b.const(0)), head, after)
    b.goto(after)
    b.ret()
    frame, _, _ = place(f, 512)
    assert frame.size == 16


@pytest.mark.parametrize("budget", [4000, 920, 512, 350, 50, 30, 8])
def test_just_enough_of_the_largest_values_leave_the_frame(budget: int) -> None:
    f = Function("f")
    b = Builder(f)
    values = [b.alloca(8 + 8 * number // 3, str(number)) for number in range(23)]
    for value in values:
        b.zero(value, value.attr[0])
    for value in values:
        b.helper("trace_printk", value, b.const(8))
    b.ret()
    frame, moved, _ = place(f, budget)
    assert moved == sorted(moved, key=lambda value: -value.attr[0])
    assert set(frame.offsets) == set(values) - set(moved)
    assert frame.size <= budget
    assert not moved or frame.size + moved[-1].attr[0] > budget


def test_colouring_never_overlaps_live_ranges() -> None:
    allocas = [Inst("alloca", (), PTR, (8 * (1 + i % 3), 8, f"a{i}")) for i in range(40)]
    ranges = [(i * 7 % 50, i * 7 % 50 + i % 11) for i in range(40)]
    offsets = colour(allocas, ranges).offsets
    for i, one in enumerate(allocas):
        for j, two in enumerate(allocas[:i]):
            if ranges[i][0] <= ranges[j][1] and ranges[j][0] <= ranges[i][1]:
                assert offsets[one] + one.attr[0] <= offsets[two] or offsets[two] + two.attr[0] <= offsets[one]


def test_folding_agrees_with_the_interpreter() -> None:
    """Every operation on constants means the same when it is computed at run time."""
    module = Module()
    from harken.formats.spec import MapSpec

    values = (0, 1, 7, 63, 64, 127, 128, 255, (1 << 31), (1 << 63), (1 << 64) - 1)
    operations = "add sub mul udiv sdiv umod smod and or xor shl lshr ashr".split()
    module.maps["out"] = MapSpec("out", 2, 4, 8, 1)
    for type in (I8, I32, I64):
        for op in operations:
            f = module.add(Function(f"{op}{type.bits}"))
            b = Builder(f)
            b.ret(b.resize(b.binary(op, b.resize(b.arg(0), type, False), b.resize(b.arg(1), type, False)), I64, False))
            module.programs.append(Program(f.name, f.name, 31, "syscall"))
    for features in (EVERYTHING, EVERYTHING - {"cpu_v4", "jmp32"}):
        machine = Interpreter(assemble(module, Target("x86_64", features)).spec)
        for type in (I8, I32, I64):
            mask = (1 << type.bits) - 1
            for op in operations:
                for a in values:
                    for c in values:
                        got = machine.run(f"{op}{type.bits}", struct.pack("<8Q", a, c, 0, 0, 0, 0, 0, 0))
                        assert got == fold.binary(op, a & mask, c & mask, type.bits), (op, type.bits, a, c)


TARGETS = (EVERYTHING, EVERYTHING - {"cpu_v4", "jmp32", "atomic_fetch"}, EVERYTHING - {"bpf_loop", "cpu_v4"}, frozenset(("bounded_loops",)))


@pytest.mark.parametrize("seed", range(24))
def test_random_programs_keep_their_meaning(seed: int) -> None:
    module = generate(seed, large=seed % 4 == 3)
    for function in module.functions.values():
        verify(function)
    ctx = struct.pack("<8Q", *[(seed * 0x9E3779B97F4A7C15 * (i + 1) >> i * 5) & (1 << 64) - 1 for i in range(8)])
    evaluator = Evaluator(module, ctx)
    result = evaluator.call("main")
    out = bytes(evaluator.maps["out"][bytes(4)].memory)
    table = {key: bytes(pointer.memory) for key, pointer in evaluator.maps["table"].items()}
    for features in TARGETS[seed % 2 :: 2]:
        for optimising in (True, False):
            machine = Interpreter(assemble(module, Target("x86_64", features), optimising).spec)
            assert machine.run("main", ctx) & 0xFFFFFFFF == result & 0xFFFFFFFF
            assert bytes(machine.regions[machine.maps["out"].values[bytes(4)]].data) == out
            assert {key: bytes(machine.regions[number].data) for key, number in machine.maps["table"].values.items()} == table


def test_written_out_loops_do_not_hide_start_values() -> None:
    f = Function("f")
    b = Builder(f)
    place_ = b.alloca(8, "i")
    b.store(place_, b.const(0))
    b.atomic("add", place_, b.const(0))
    b.atomic("add", place_, b.const(2))
    b.ret(b.load(place_))
    expand_loops(f)
    assert ops(f).count("atomic") == 1


def test_what_was_stored_or_loaded_is_not_loaded_again() -> None:
    f = Function("f")
    b = Builder(f)
    own, other = b.alloca(16, "own"), b.alloca(8, "other")
    value = b.insert("data", (), PTR, ("m", 0), space="map_value")
    b.zero(own, 16)
    b.store(own, b.arg(0))
    first = b.load(value)
    b.store(other, first)
    kept = [b.load(own), b.load(own, I64, 8), b.load(value), b.load(other)]
    b.helper("map_delete_elem", b.map("m"), other)
    again = [b.load(value), b.load(other), b.load(own)]
    total = b.const(0)
    for one in (*kept, *again):
        total = b.add(total, one)
    b.ret(total)
    assert forward_loads(f)
    loads = [inst for inst in f.instructions() if inst.op == "load"]
    assert loads == [first, again[0], again[1]]


def test_a_store_through_an_unknown_pointer_may_change_everything() -> None:
    f = Function("f")
    b = Builder(f)
    own = b.alloca(8, "own")
    b.store(own, b.const(1))
    b.store(b.select(b.icmp("eq", b.arg(0), b.const(0)), own, b.alloca(8, "x")), b.const(2))
    b.ret(b.load(own))
    assert not forward_loads(f)


def test_spaces_follow_from_where_pointers_came() -> None:
    f = Function("f", [Param(0, "given", PTR)])
    b = Builder(f)
    own, holder = b.alloca(8, "own"), b.alloca(16, "holder")
    found = b.insert("lookup", (b.map("m"), own), PTR, space="map_value", nullable=True)
    test = b.icmp("eq", b.arg(0), b.const(0))

    def choose(a: object, c: object) -> Inst:
        return b.insert("select", (test, a, c), PTR)  # type: ignore[arg-type]

    numbers = b.to_pointer(b.add(b.to_int(own), b.const(8)), "")
    b.store(holder, found, 8)
    pointers = {
        choose(own, found): "stack",
        choose(found, Const(0)): "map_value",
        choose(own, f.params[0]): "any",
        b.gep(choose(found, found), b.arg(1)): "map_value",
        numbers: "stack",
        b.to_pointer(b.arg(2), ""): "any",
        b.load(holder, PTR, 8): "map_value",
        b.load(found, PTR): "any",
    }
    b.ret()
    infer_spaces(f)
    assert {inst: inst.space for inst in pointers} == pointers


def test_a_pointer_that_walks_through_an_object_is_compared_as_a_number() -> None:
    module = Module()
    b = Builder(module.add(Function("probe")))
    place = b.alloca(64, "array")
    b.zero(place, 64)
    head, body, done = b.block("head"), b.block("body"), b.block("done")
    start = b.at
    b.br(head)
    b.goto(head)
    p = b.phi(PTR, ((start, place),), space="")
    b.condbr(b.icmp("ult", b.to_int(p), b.to_int(b.gep(place, b.const(64)))), body, done)
    b.goto(body)
    b.store(p, b.arg(0))
    step = b.gep(p, b.const(8))
    p.args.append(step)
    p.attr.append(body)
    b.br(head)
    b.goto(done)
    b.ret(b.binary("xor", b.load(place, I64, 56), b.load(place)))
    function = module.functions["probe"]
    infer_spaces(function)
    assert rebase_pointers(function)
    simplify(function)
    verify(function)
    compared = next(inst for inst in function.instructions() if inst.op == "icmp")
    assert compared.attr == "slt" and not any(arg.type.pointer for arg in compared.args)
    module.programs.append(Program("probe", "probe", 31, "syscall"))
    assert Interpreter(assemble(module, Target("x86_64", EVERYTHING)).spec).run("probe", struct.pack("<Q", 5)) == 0
