"""Algebra: what an instruction is equal to, judged by its operands alone."""

from __future__ import annotations

from ..ir import I1, I64, Const, Inst, Value
from . import fold

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("RULES", "width")

#: helpers that return a u32
_NARROW_HELPERS = frozenset(("get_smp_processor_id", "get_prandom_u32", "get_numa_node_id"))

_COMMUTATIVE = frozenset(("add", "mul", "and", "or", "xor"))
_BINARY = frozenset("add sub mul udiv sdiv umod smod and or xor shl lshr ashr".split())
_NEVER_NULL = frozenset(("alloca", "ctx", "bytes", "data", "map"))
_DIRECT = frozenset(("stack", "ctx", "map_value", "ring", "map_key"))


def width(value: Value, depth: int = 4) -> int:
    """How many low bits of ``value`` may be set, as far as the verifier sees it too.

    A mask may only be dropped if the verifier knows the bound without it.  It does not know that of a quotient, for example.
    """
    if type(value) is Const:
        return value.value.bit_length()
    if not isinstance(value, Inst) or not depth:
        return 64
    op, args = value.op, value.args
    if op == "and":
        return min(width(args[0], depth - 1), width(args[1], depth - 1))
    if op == "zext":
        return width(args[0], depth - 1)
    if op == "trunc":
        return min(value.type.bits, width(args[0], depth - 1))
    if op in ("load", "icmp"):
        return value.type.bits
    if op == "lshr" and type(args[1]) is Const:
        return max(0, width(args[0], depth - 1) - (args[1].value & (63 if value.type.bits == 64 else 31)))
    if op in ("or", "xor"):
        return max(width(args[0], depth - 1), width(args[1], depth - 1))
    if op == "select":
        return max(width(args[1], depth - 1), width(args[2], depth - 1))
    if op == "helper" and value.attr in _NARROW_HELPERS:
        return 32
    return 64


def _simple_binary(inst: Inst) -> Value | None:
    op = inst.op
    a, b = inst.args
    bits = inst.type.bits
    changed: Value | None = None
    if type(a) is Const:
        if type(b) is Const:
            return Const(fold.binary(op, a.value, b.value, bits), inst.type)
        if op in _COMMUTATIVE:
            inst.args[0], inst.args[1] = a, b = b, a
            changed = inst
    if type(b) is not Const:
        if a is b:
            if op in ("sub", "xor"):
                return Const(0, inst.type)
            if op in ("and", "or"):
                return a
        return changed
    n = b.value
    ones = (1 << bits) - 1
    if n == 0:
        if op in ("add", "sub", "or", "xor", "shl", "lshr", "ashr", "umod", "smod"):
            return a
        return b  # mul, and, udiv, sdiv
    if op == "sub":
        inst.op, inst.args[1] = op, b = "add", Const(-n, b.type)
        n = b.value
        changed = inst
    if op == "and" and n == ones:
        return a
    if op == "or" and n == ones:
        return b
    if op in ("mul", "udiv", "sdiv") and n == 1:
        return a
    if op in ("umod", "smod") and n == 1:
        return Const(0, inst.type)
    if op in ("mul", "udiv", "umod") and n & (n - 1) == 0:
        inst.op = {"mul": "shl", "udiv": "lshr", "umod": "and"}[op]
        inst.args[1] = Const(n - 1 if op == "umod" else n.bit_length() - 1, b.type)
        return inst
    # not for additions: a bound that was proved of the inner sum would be lost for the outer one
    if op in ("and", "or", "xor", "mul") and isinstance(a, Inst) and a.op == op and type(a.args[1]) is Const:
        inst.args[0] = a.args[0]
        inst.args[1] = Const(fold.binary(op, a.args[1].value, n, bits), b.type)
        return inst
    if op == "and":
        low = (1 << width(a)) - 1
        if n & low == low:
            return a
    if op == "xor" and bits == 1:
        inst.op, inst.args = "not", [a]
        return inst
    return changed


def _simple_icmp(inst: Inst) -> Value | None:
    a, b = inst.args
    predicate = inst.attr
    changed: Value | None = None
    if type(a) is Const:
        if type(b) is Const:
            return Const(fold.compare(predicate, a.value, b.value, a.type.bits), I1)
        inst.args[0], inst.args[1] = a, b = b, a
        inst.attr = predicate = fold.SWAPPED[predicate]
        changed = inst
    if a is b:
        return Const(predicate in ("eq", "ule", "uge", "sle", "sge"), I1)
    if type(b) is not Const:
        return _same_object(inst, a, b) or changed
    n = b.value
    if n == 0:
        if predicate == "ult":
            return Const(0, I1)
        if predicate == "uge":
            return Const(1, I1)
        if predicate in ("eq", "ne") and a.type.pointer and isinstance(a, Inst):
            sure = a.op in _NEVER_NULL or (a.op in ("gep", "field") and a.space in _DIRECT) or (a.op == "record" and not a.nullable)
            if sure:
                return Const(predicate == "ne", I1)
    # x < 1 is left alone, and so is x > 0: verifiers before 6.8 learn nothing from x != 0
    if predicate not in ("eq", "ne") or not isinstance(a, Inst):
        return changed
    if a.type.bits == 1 and n in (0, 1):
        if (predicate == "ne") == (n == 0):
            return a
        if a.op == "icmp":
            inst.attr, inst.args = fold.INVERSE[a.attr], list(a.args)
            return inst
    elif a.op == "zext" and n >> a.args[0].type.bits == 0:
        inst.args[0], inst.args[1] = a.args[0], Const(n, a.args[0].type)
        return inst
    return changed


def _same_object(inst: Inst, a: Value, b: Value) -> Value | None:
    """A comparison of addresses in one object compares the distances from its start."""
    if isinstance(a, Inst) and isinstance(b, Inst) and a.op == b.op == "ptrtoint":
        a, b = a.args[0], b.args[0]
    if not a.type.pointer or not b.type.pointer:
        return None
    base, number, more = _split(a)
    other, second, extra = _split(b)
    if base is not other or base.space not in _DIRECT:
        return None
    if second is None and number is not None:
        inst.args = [number, Const(extra - more)]
    elif number is None and second is not None:
        inst.args = [Const(more - extra), second]
    elif more == extra and number is not None and second is not None:
        inst.args = [number, second]
    elif number is None and second is None:
        inst.args = [Const(more), Const(extra)]
    else:
        return None
    if inst.attr[0] == "u":
        inst.attr = "s" + inst.attr[1:]
    return inst


def _split(pointer: Value) -> tuple[Value, Value | None, int]:
    """(base, variable distance or None, constant distance) of a pointer."""
    more = 0
    number: Value | None = None
    while isinstance(pointer, Inst) and pointer.op == "gep":
        distance = pointer.args[1]
        if type(distance) is Const:
            more += distance.signed
        elif number is None:
            number = distance
        else:
            break
        pointer = pointer.args[0]
    return pointer, number, more


def _simple_unary(inst: Inst) -> Value | None:
    a = inst.args[0]
    if type(a) is Const:
        return Const(fold.unary(inst.op, a.value, inst.type.bits), inst.type)
    if isinstance(a, Inst) and a.op == inst.op:
        return a.args[0]
    if inst.op == "not" and inst.type.bits == 1 and isinstance(a, Inst) and a.op == "icmp":
        inst.op, inst.attr, inst.args = "icmp", fold.INVERSE[a.attr], list(a.args)
        return inst
    return None


def _simple_resize(inst: Inst) -> Value | None:
    a = inst.args[0]
    op = inst.op
    if type(a) is Const:
        return Const(a.signed if op == "sext" and a.type.bits > 1 else (-a.value if op == "sext" else a.value), inst.type)
    if a.type.bits == inst.type.bits and not a.type.pointer:
        return a
    if not isinstance(a, Inst):
        return None
    if a.op == op:
        inst.args[0] = a.args[0]
        return inst
    if op == "trunc" and a.op in ("zext", "sext"):
        inner = a.args[0]
        if inner.type.bits == inst.type.bits:
            return inner
        if inner.type.bits > inst.type.bits:
            inst.args[0] = inner
        else:
            inst.op, inst.args[0] = a.op, inner
        return inst
    if op == "sext" and width(a) < a.type.bits:
        inst.op = "zext"
        return inst
    if op == "sext" and a.op == "zext":
        inst.op, inst.args[0] = "zext", a.args[0]
        return inst
    if op == "zext" and a.op == "trunc" and a.args[0].type.bits == inst.type.bits and width(a.args[0]) <= a.type.bits:
        return None if a.args[0].type.pointer else a.args[0]
    return None


def _simple_condbr(inst: Inst) -> Value | None:
    condition = inst.args[0]
    if isinstance(condition, Inst) and condition.op == "not":
        inst.args[0] = condition.args[0]
        inst.attr = (inst.attr[1], inst.attr[0])
        return inst
    return None


def _simple_select(inst: Inst) -> Value | None:
    c, a, b = inst.args
    if type(c) is Const:
        return a if c.value else b
    if a is b:
        return a
    if isinstance(c, Inst) and c.op == "not":
        inst.args = [c.args[0], b, a]
        return inst
    if type(a) is Const and type(b) is Const:
        if a.value == b.value:
            return a
        if inst.type.bits == 1:
            if a.value:
                return c
            inst.op, inst.args = "not", [c]
            return inst
        if a.value == 1 and b.value == 0:
            inst.op, inst.args = "zext", [c]
            return inst
    return None


def _simple_gep(inst: Inst) -> Value | None:
    p, offset = inst.args
    if type(offset) is Const:
        if offset.value == 0:
            return p
        if isinstance(p, Inst) and p.op == "gep" and type(p.args[1]) is Const:
            inst.args[0] = p.args[0]
            inst.args[1] = Const(p.args[1].value + offset.value)
            return inst
    return None


def _simple_ptrtoint(inst: Inst) -> Value | None:
    a = inst.args[0]
    if type(a) is Const:
        return Const(a.value, I64)
    if isinstance(a, Inst) and a.op == "inttoptr":
        return a.args[0]
    return None if a.type.pointer else a


def _simple_inttoptr(inst: Inst) -> Value | None:
    a = inst.args[0]
    if isinstance(a, Inst) and a.op == "ptrtoint" and a.args[0].space == inst.space:
        return a.args[0]
    if isinstance(a, Inst) and a.op == "inttoptr":
        inst.args[0] = a.args[0]
        return inst
    return None


def _step(p: Value) -> tuple[Value, int] | None:
    """The pointer and distance behind a constant gep."""
    if isinstance(p, Inst) and p.op == "gep" and type(p.args[1]) is Const:
        distance = p.args[1].signed
        if -16384 <= distance <= 16384:
            return p.args[0], distance
    return None


def _simple_access(inst: Inst) -> Value | None:
    step = _step(inst.args[0])
    if step is not None and abs(inst.attr + step[1]) <= 30000:
        inst.args[0] = step[0]
        inst.attr += step[1]
        return inst
    if inst.op == "load":
        p = inst.args[0]
        if isinstance(p, Inst) and p.op == "bytes" and not inst.type.pointer:
            data = p.attr[inst.attr : inst.attr + inst.type.size]
            if len(data) == inst.type.size and inst.attr >= 0:
                return Const(int.from_bytes(data, "little"), inst.type)
    return None


def _simple_block(inst: Inst) -> Value | None:
    changed = None
    if inst.op == "zero":
        step = _step(inst.args[0])
        if step is not None:
            inst.args[0] = step[0]
            inst.attr = (inst.attr[0] + step[1], inst.attr[1])
            changed = inst
    elif inst.op == "copy":
        for i in (0, 1):
            step = _step(inst.args[i])
            if step is not None:
                inst.args[i] = step[0]
                offsets = list(inst.attr)
                offsets[i] += step[1]
                inst.attr = tuple(offsets)
                changed = inst
        text = inst.args[1]
        if isinstance(text, Inst) and text.op == "bytes" and sum(inst.attr[1:]) > len(text.attr):
            # more is copied than there is, as C programs do with string literals: the rest is zero
            text.attr += bytes(sum(inst.attr[1:]) - len(text.attr))
    else:
        step = _step(inst.args[0])
        if step is not None and abs(inst.attr[1] + step[1]) <= 30000:
            inst.args[0] = step[0]
            inst.attr = (inst.attr[0], inst.attr[1] + step[1], *inst.attr[2:])
            changed = inst
    return changed


def _simple_loop(inst: Inst) -> Value | None:
    """A loop that never runs (kernels cannot even load a callback that the verifier never reaches)."""
    count = inst.args[0]
    return Const(0) if type(count) is Const and not count.value else None


#: Operation -> what finds a simpler value: ``inst`` itself if it was changed, or None.
RULES: dict[str, Callable[[Inst], Value | None]] = {
    **dict.fromkeys(_BINARY, _simple_binary),
    "loop": _simple_loop,
    "condbr": _simple_condbr,
    "icmp": _simple_icmp,
    "neg": _simple_unary,
    "not": _simple_unary,
    "bswap": _simple_unary,
    "zext": _simple_resize,
    "sext": _simple_resize,
    "trunc": _simple_resize,
    "select": _simple_select,
    "gep": _simple_gep,
    "ptrtoint": _simple_ptrtoint,
    "inttoptr": _simple_inttoptr,
    "load": _simple_access,
    "store": _simple_access,
    "zero": _simple_block,
    "copy": _simple_block,
    "atomic": _simple_block,
}
