"""Copies of functions, inlining of static ones, and loops written out for kernels without ``bpf_loop``."""

from __future__ import annotations

from ..ir import I1, I64, Block, Const, Function, Inst, IRError, Module, Param, Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("clone", "callees", "call_order", "expand_loops", "inline_calls")

_SMALL = 40
#: rounds of a loop that are written out at most
_UNROLLED = 128


def _copy_blocks(source: Function, target: Function, values: dict[Value, Value], prefix: str = "") -> dict[Block, Block]:
    """Appends copies of all blocks of ``source`` to ``target``; ``values`` maps parameters beforehand and every value afterwards."""
    blocks = {block: Block(f"{prefix}{block.name}") for block in source.blocks}
    pairs: list[tuple[Inst, Inst]] = []
    for block, copy in blocks.items():
        out = copy.insts
        for inst in block.insts:
            new = Inst(inst.op, (), inst.type, inst.attr, inst.span, inst.space, inst.nullable, inst.ctype)
            values[inst] = new
            pairs.append((inst, new))
            out.append(new)
    for inst, new in pairs:
        new.args = [values.get(arg, arg) for arg in inst.args]
        op = inst.op
        if op == "br":
            new.attr = blocks[inst.attr]
        elif op == "condbr":
            new.attr = tuple([blocks[b] for b in inst.attr])
        elif op == "phi":
            new.attr = [blocks[b] for b in inst.attr]
        elif op == "switch":
            default, cases = inst.attr
            new.attr = (blocks[default], tuple((v, blocks[b]) for v, b in cases))
    target.blocks.extend(blocks.values())
    return blocks


def clone(function: Function) -> Function:
    """A deep copy (constants and types are shared)."""
    params = [Param(p.index, p.name, p.type, p.space, p.ctype) for p in function.params]
    new = Function(function.name, params, function.result, function.kind, function.span)
    new.blocks.clear()
    values: dict[Value, Value] = dict(zip(function.params, params))
    _copy_blocks(function, new, values)
    return new


def callees(function: Function) -> list[str]:
    """Names of the functions that it calls or hands out as callbacks, in order, without repetition."""
    names: dict[str, None] = {}
    for block in function.blocks:
        for inst in block.insts:
            if inst.op in ("call", "loop", "for_each", "funcref"):
                names[inst.attr] = None
    return list(names)


def call_order(functions: dict[str, Function], entry: str) -> list[Function]:
    """The functions reachable from ``entry``, callees first.

    Raises:
        IRError: a function calls itself, directly or through others (front ends refuse that with a position).
    """
    order: list[Function] = []
    state: dict[str, int] = {}

    def visit(name: str) -> None:
        if name not in functions:
            raise IRError(f"call of {name}, which is not defined")
        if state.get(name) == 1:
            raise IRError(f"function {name} calls itself")
        if name in state:
            return
        state[name] = 1
        for other in callees(functions[name]):
            visit(other)
        state[name] = 2
        order.append(functions[name])

    visit(entry)
    return order


def expand_loops(function: Function, back_edges: bool = True) -> None:
    """Turns each ``loop`` into blocks that call the callback (which ``inline_calls`` then puts in place).

    With ``back_edges`` they form a loop; without, a constant number of rounds is written out.  An atomic addition of zero, by which front
    ends hide a start value from a verifier that should not follow each round of ``bpf_loop``, goes: here it must follow them.
    """
    for block in function.blocks:
        block.insts = [inst for inst in block.insts if not _hides(inst)]
    position = 0
    while position < len(function.blocks):
        block = function.blocks[position]
        for i, inst in enumerate(block.insts):
            if inst.op == "loop":
                count = inst.args[0]
                if not back_edges and isinstance(count, Const) and count.value <= _UNROLLED:
                    _unroll(function, position, i, count.value)
                else:
                    _expand(function, position, i)
                break
        position += 1


def _expand(function: Function, position: int, index: int) -> None:
    block = function.blocks[position]
    inst = block.insts[index]
    count, context = inst.args
    head, body, rest = Block(f"{block.name}.loop"), Block(f"{block.name}.body"), Block(f"{block.name}.after")
    rest.insts = block.insts[index + 1 :]
    _move_phis(rest, block)
    span = inst.span
    block.insts[index:] = [Inst("br", (), attr=head, span=span)]
    counter = Inst("phi", (), I64, [block, body], span)
    inside = Inst("icmp", (counter, count), I1, "ult", span)
    head.insts = [counter, inside, Inst("condbr", (inside,), attr=(body, rest), span=span)]
    again = Inst("call", (counter, context), I64, inst.attr, span)
    following = Inst("add", (counter, Const(1)), I64, None, span)
    goes_on = Inst("icmp", (again, Const(0)), I1, "eq", span)
    body.insts = [again, following, goes_on, Inst("condbr", (goes_on,), attr=(head, rest), span=span)]
    counter.args = [Const(0), following]
    # the result: rounds that ran
    inst.op, inst.args, inst.attr = "phi", [counter, following], [head, body]
    rest.insts.insert(0, inst)
    function.blocks[position + 1 : position + 1] = [head, body, rest]


def _hides(inst: Inst) -> bool:
    if inst.op != "atomic" or inst.attr[0] != "add" or inst.attr[2]:
        return False
    value = inst.args[1]
    return isinstance(value, Const) and not value.value


def _unroll(function: Function, position: int, index: int, count: int) -> None:
    block = function.blocks[position]
    inst = block.insts[index]
    context, span = inst.args[1], inst.span
    rest = Block(f"{block.name}.after")
    rest.insts = block.insts[index + 1 :]
    _move_phis(rest, block)
    del block.insts[index:]
    added: list[Block] = []
    stops: list[tuple[Block, Value]] = []
    at = block
    for number in range(count):
        again = Inst("call", (Const(number), context), I64, inst.attr, span)
        goes_on = Inst("icmp", (again, Const(0)), I1, "eq", span)
        following = Block(f"{block.name}.round")
        at.insts += [again, goes_on, Inst("condbr", (goes_on,), attr=(following, rest), span=span)]
        stops.append((at, Const(number + 1)))
        added.append(following)
        at = following
    at.insts.append(Inst("br", (), attr=rest, span=span))
    stops.append((at, Const(count)))
    inst.op, inst.args, inst.attr = "phi", [value for _, value in stops], [origin for origin, _ in stops]
    rest.insts.insert(0, inst)
    function.blocks[position + 1 : position + 1] = [*added, rest]


def _move_phis(new: Block, old: Block) -> None:
    """The successors of ``new`` (a tail split off ``old``) have it as predecessor from now on."""
    for after in new.successors():
        for inst in after.insts:
            if inst.op != "phi":
                break
            inst.attr = [new if b is old else b for b in inst.attr]


def inline_calls(function: Function, functions: dict[str, Function], counts: dict[str, int], always: Iterable[str] = ()) -> None:
    """Replaces calls of small functions, of functions called once and of those in ``always`` by their bodies.

    ``functions`` must hold bodies in which this was done already (``call_order`` gives the order).
    """
    forced = set(always)
    position = 0
    while position < len(function.blocks):
        block = function.blocks[position]
        for i, inst in enumerate(block.insts):
            if inst.op == "call":
                callee = functions[inst.attr]
                if (
                    inst.attr in forced
                    or callee.kind == "inline"
                    or counts.get(inst.attr, 0) <= 1
                    or sum(len(b.insts) for b in callee.blocks) <= _SMALL
                    or len(callee.params) > 5
                ):
                    _inline(function, position, i, callee)
                    break
        position += 1


def _inline(function: Function, position: int, index: int, callee: Function) -> None:
    block = function.blocks[position]
    inst = block.insts[index]
    rest = Block(f"{block.name}.after")
    rest.insts = block.insts[index + 1 :]
    _move_phis(rest, block)
    values: dict[Value, Value] = dict(zip(callee.params, inst.args))
    holder = Function(callee.name)
    holder.blocks.clear()
    blocks = _copy_blocks(callee, holder, values, f"{callee.name}.")
    entry = function.blocks[0].insts
    results: list[tuple[Block, Value]] = []
    for copy in holder.blocks:
        keep = []
        for new in copy.insts:
            if new.op == "alloca":
                entry.insert(0, new)
                continue
            if new.op == "ret" and new.attr != "exit":
                results.append((copy, new.args[0] if new.args else Const(0)))
                new = Inst("br", (), attr=rest, span=new.span)
            if new.span is None:
                new.span = inst.span
            keep.append(new)
        copy.insts = keep
    # allocas were put in front of the entry block, which may be this very block
    index = block.insts.index(inst)
    block.insts[index:] = [Inst("br", (), attr=blocks[callee.blocks[0]], span=inst.span)]
    if inst.type.bits and results:
        inst.op, inst.args, inst.attr = "phi", [v for _, v in results], [b for b, _ in results]
        rest.insts.insert(0, inst)
    elif not results:
        # the callee never returns: what follows is unreachable, but uses of the result must stay well-formed
        inst.op, inst.args, inst.attr = "zext", [Const(0)], None
        rest.insts.insert(0, inst)
    function.blocks[position + 1 : position + 1] = [*holder.blocks, rest]


def count_calls(module: Module) -> dict[str, int]:
    """How often each function is called in the module."""
    counts: dict[str, int] = {}
    for function in module.functions.values():
        for block in function.blocks:
            for inst in block.insts:
                if inst.op == "call":
                    counts[inst.attr] = counts.get(inst.attr, 0) + 1
    return counts
