"""What the IR's own checks catch, and its text."""

from __future__ import annotations

import pytest

from harken.compiler.ir import I8, I32, I64, PTR, Builder, Const, Function, Inst, IRError, Module, verify


def test_constants_are_cut_to_their_width() -> None:
    assert Const(-1, I8).value == 255 and Const(255, I8).signed == -1 and Const(1 << 70).value == 0


def test_types_must_agree() -> None:
    b = Builder(Function("f"))
    with pytest.raises(IRError, match="add of i64 and i32"):
        b.add(b.const(1), b.const(1, I32))
    with pytest.raises(IRError, match="icmp"):
        b.icmp("eq", b.const(1), b.const(1, I32))


def test_nothing_follows_a_terminator() -> None:
    b = Builder(Function("f"))
    b.ret()
    with pytest.raises(IRError, match="already ends in ret"):
        b.arg(0)


def test_verify_finds_wrong_form() -> None:
    f = Function("f")
    b = Builder(f)
    with pytest.raises(IRError, match="no terminator"):
        verify(f)
    other = Builder(Function("g")).arg(0)
    b.ret(b.add(other, b.const(1)))
    with pytest.raises(IRError, match="another function"):
        verify(f)


def test_verify_checks_phis() -> None:
    f = Function("f")
    b = Builder(f)
    then, after = b.block("then"), b.block("after")
    b.condbr(b.icmp("eq", b.arg(0), b.const(0)), then, after)
    b.goto(then)
    b.br(after)
    b.goto(after)
    phi = b.phi(I64, [(f.blocks[0], b.const(1))])
    b.ret(phi)
    with pytest.raises(IRError, match="predecessors"):
        verify(f)
    phi.args.append(Const(2))
    phi.attr.append(then)
    verify(f)


def test_resize_folds_constants() -> None:
    b = Builder(Function("f"))
    value = b.resize(b.const(255, I8), I64, True)
    assert isinstance(value, Const) and value.signed == -1
    assert b.resize(value, I64, False) is value


def test_text_names_blocks_and_spaces() -> None:
    f = Function("f")
    b = Builder(f)
    place = b.alloca(8, "x")
    b.store(place, b.const(3))
    b.ret(b.load(b.insert("inttoptr", (b.load(place),), PTR, space="user")))
    assert str(f).splitlines()[1:] == [
        "entry:",
        "  %0 = alloca (8, 8, x) : ptr stack",
        "  store %0, 3",
        "  %1 = load %0 : i64",
        "  %2 = inttoptr %1 : ptr user",
        "  %3 = load %2 : i64",
        "  ret %3",
    ]


def test_a_function_has_one_definition() -> None:
    module = Module()
    module.add(Function("f"))
    with pytest.raises(IRError, match="twice"):
        module.add(Function("f"))
    assert isinstance(Inst("ctx", (), PTR), Inst)
