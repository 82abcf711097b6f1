"""Equality of strings and memory.

A string against a literal is compared word by word with constants, and only as many bytes as decide it are read.  Two strings are
brought to equal, zero-filled memory first.  Up to 64 bytes are compared without branches, more in a loop.
"""

from __future__ import annotations

from ..ir import I1, I64, Const, Value, int_type
from .code import READABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .code import Code, Val

__all__ = ("strings_equal", "words_equal")


def strings_equal(code: Code, left: Val, right: Val, count: int | None = None) -> Value:
    """I1: whether two strings are equal, over the first ``count`` bytes if given."""
    if left.literal is not None and right.literal is not None:
        a, z = left.literal, right.literal
        return Const(int(a[:count] == z[:count]), I1)
    if left.literal is not None:
        left, right = right, left
    if right.literal is not None:
        return _equals_literal(code, left, right.literal, count)
    size = max(left.type.size, right.type.size) if count is None else count
    size = (size + 7) // 8 * 8
    sides = []
    for side in (left, right):
        slot = code.b.alloca(size + 8, "compared")
        if count is not None and count < side.type.size:
            code.store_string(side, count + 1, slot, 0, False)
            source, slot = slot, code.b.alloca(size + 8, "compared")
            code.b.zero(slot, size + 8)
            code.b.read_str(slot, source, count + 1)
        else:
            code.store_string(side, min(side.type.size, size), slot, 0, True)
            if side.type.size < size:
                code.b.zero(slot, size - side.type.size, side.type.size)
        sides.append(slot)
    return words_equal(code, sides[0], sides[1], size)


def words_equal(code: Code, left: Value, right: Value, size: int) -> Value:
    """I1: equal memory; ``size`` bytes, a multiple of 8 unless short."""
    b = code.b
    if size <= 64:
        difference: Value = Const(0)
        position = 0
        while position < size:
            step = next(s for s in (8, 4, 2, 1) if size - position >= s)
            kind = int_type(step)
            a, z = b.load(left, kind, position), b.load(right, kind, position)
            delta = b.resize(b.binary("xor", a, z), I64, False)
            difference = delta if position == 0 else b.binary("or", difference, delta)
            position += step
        return b.icmp("eq", difference, Const(0))
    step = 8 if not size % 8 else 1
    answer = code.slot("equal", 1)
    index = code.slot("index", 0)
    head, body, differ, onward, done = (b.block(name) for name in ("compare", "word", "differ", "next", "compared"))
    b.br(head)
    b.goto(head)
    i = b.load(index)
    b.condbr(b.icmp("ult", i, Const(size)), body, done)
    b.goto(body)
    kind = int_type(step)
    same = b.icmp("eq", b.load(b.gep(left, i), kind), b.load(b.gep(right, i), kind))
    b.condbr(same, onward, differ)
    b.goto(differ)
    b.store(answer, Const(0))
    b.br(done)
    b.goto(onward)
    b.store(index, b.add(i, Const(step)))
    b.br(head)
    b.goto(done)
    return b.icmp("ne", b.load(answer), Const(0))


def _equals_literal(code: Code, value: Val, text: bytes, count: int | None) -> Value:
    """The string's words against constants; only as many bytes as decide it are read."""
    b = code.b
    if count is not None and count <= len(text):
        wanted, exact = text[:count], False
    else:
        wanted, exact = text + b"\0", True
    if exact and len(wanted) > value.type.size:
        return Const(0, I1)
    if not wanted:
        return Const(1, I1)
    need = len(wanted)
    words = (need + 7) // 8
    where: Value
    if value.ir is not None and value.fill is None and value.limit is None and value.ir.space in READABLE and value.type.size >= words * 8:
        where = value.ir
    else:
        size = max(words * 8, value.type.size if value.fill is not None else 0)
        where = b.alloca((size + 8) // 8 * 8, "compared")
        if value.fill is not None:
            value.fill(where, 0)
        else:
            b.zero(where, words * 8)
            assert value.ir is not None
            code.read_str(where, value.ir, min(need + 1, words * 8 + 8), value.limit)
    difference: Value | None = None
    for word in range(words):
        chunk = wanted[word * 8 : word * 8 + 8]
        got: Value = b.load(where, I64, word * 8)
        if len(chunk) < 8:
            got = b.binary("and", got, Const((1 << (len(chunk) * 8)) - 1))
        got = b.binary("xor", got, Const(int.from_bytes(chunk, "little")))
        difference = got if difference is None else b.binary("or", difference, got)
    assert difference is not None
    return b.icmp("eq", difference, Const(0))
