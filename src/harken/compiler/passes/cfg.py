"""Control-flow facts and clean-up: orders, dominators, unreachable blocks, merging, branch folding."""

from __future__ import annotations

from ..ir import Block, Const, Function, Inst, Value

__all__ = ("reverse_postorder", "dominators", "dominator_tree", "replace_values", "clean", "loop_depths")


def reverse_postorder(function: Function) -> list[Block]:
    """The reachable blocks, each before its successors except along back edges."""
    first = function.blocks[0]
    if len(function.blocks) == 1:
        return [first]
    seen = {first}
    order: list[Block] = []
    stack = [(first, iter(first.successors()))]
    while stack:
        block, rest = stack[-1]
        for after in rest:
            if after not in seen:
                seen.add(after)
                stack.append((after, iter(after.successors())))
                break
        else:
            order.append(block)
            stack.pop()
    order.reverse()
    return order


def dominators(order: list[Block], before: dict[Block, list[Block]]) -> dict[Block, Block]:
    """Immediate dominators (the entry's is itself) of the blocks in reverse postorder: Cooper, Harvey and Kennedy's iteration."""
    number = {block: i for i, block in enumerate(order)}
    idom: list[int] = [-1] * len(order)
    idom[0] = 0
    changed = True
    while changed:
        changed = False
        for i in range(1, len(order)):
            new = -1
            for pred in before[order[i]]:
                p = number.get(pred, -1)
                if p < 0 or idom[p] < 0:
                    continue
                if new < 0:
                    new = p
                    continue
                a, b = p, new
                while a != b:
                    while a > b:
                        a = idom[a]
                    while b > a:
                        b = idom[b]
                new = a
            if idom[i] != new:
                idom[i] = new
                changed = True
    return {block: order[idom[i]] for i, block in enumerate(order)}


def dominator_tree(order: list[Block], idom: dict[Block, Block]) -> dict[Block, list[Block]]:
    """Children in the dominator tree, in reverse postorder."""
    children: dict[Block, list[Block]] = {block: [] for block in order}
    for block in order[1:]:
        children[idom[block]].append(block)
    return children


def loop_depths(order: list[Block], before: dict[Block, list[Block]], idom: dict[Block, Block]) -> dict[Block, int]:
    """How many natural loops each block is in."""
    depth = dict.fromkeys(order, 0)
    number = {block: i for i, block in enumerate(order)}
    for head in order:
        body: set[Block] = set()
        for tail in before[head]:
            if tail not in number or number[tail] < number[head]:
                continue
            at = tail
            while at is not head and number[at] > number[head]:
                at = idom[at]
            if at is head:
                work = [tail]
                body.add(head)
                while work:
                    block = work.pop()
                    if block not in body:
                        body.add(block)
                        work += [b for b in before[block] if b in number]
        for block in body:
            depth[block] += 1
    return depth


def replace_values(function: Function, new: dict[Value, Value]) -> None:
    """Replaces uses; chains in ``new`` are followed."""
    if not new:
        return
    for key in list(new):
        value = new[key]
        while value in new:
            value = new[value]
        new[key] = value
    for block in function.blocks:
        for inst in block.insts:
            args = inst.args
            for i, arg in enumerate(args):
                if arg in new:
                    args[i] = new[arg]


def _remove_edge(block: Block, pred: Block) -> None:
    """Takes ``pred`` out of the phis of ``block``."""
    for inst in block.insts:
        if inst.op != "phi":
            break
        if pred in inst.attr:
            i = inst.attr.index(pred)
            blocks = list(inst.attr)
            del blocks[i], inst.args[i]
            inst.attr = blocks


def _retarget(block: Block, old: Block, new: Block) -> None:
    end = block.insts[-1]
    if end.op == "br":
        end.attr = new
    elif end.op == "condbr":
        end.attr = tuple(new if b is old else b for b in end.attr)
    else:
        default, cases = end.attr
        end.attr = (new if default is old else default, tuple((v, new if b is old else b) for v, b in cases))


def clean(function: Function) -> bool:
    """Folds branches on constants, drops unreachable blocks, removes empty ones, merges chains.  True if anything changed."""
    changed = False
    for block in function.blocks:
        end = block.insts[-1]
        if end.op == "condbr":
            then, other = end.attr
            condition = end.args[0]
            if then is other or isinstance(condition, Const):
                taken = then if then is other or condition.value else other  # type: ignore[attr-defined]
                if then is not other:
                    _remove_edge(other if taken is then else then, block)
                end.op, end.args, end.attr = "br", [], taken
                changed = True
        elif end.op == "switch" and isinstance(end.args[0], Const):
            default, cases = end.attr
            number = end.args[0].value
            mask = (1 << end.args[0].type.bits) - 1
            taken = next((b for v, b in cases if v & mask == number), default)
            for other in set(block.successors()):
                if other is not taken:
                    _remove_edge(other, block)
            end.op, end.args, end.attr = "br", [], taken
            changed = True
    alive = {function.blocks[0]}
    work = [function.blocks[0]]
    while work:
        for after in work.pop().successors():
            if after not in alive:
                alive.add(after)
                work.append(after)
    if len(alive) != len(function.blocks):
        for block in function.blocks:
            if block not in alive:
                for after in block.successors():
                    if after in alive:
                        _remove_edge(after, block)
        function.blocks = [b for b in function.blocks if b in alive]
        changed = True
    new: dict[Value, Value] = {}
    for block in function.blocks:
        if block.insts[0].op == "phi":
            keep = []
            for inst in block.insts:
                if inst.op == "phi":
                    same: Value | None = None
                    for arg in inst.args:
                        if arg is inst or arg is same:
                            continue
                        if same is not None and not (isinstance(arg, Const) and isinstance(same, Const) and arg.value == same.value):
                            break
                        same = arg
                    else:
                        if same is not None:
                            new[inst] = same
                            changed = True
                            continue
                keep.append(inst)
            block.insts = keep
    replace_values(function, new)
    return _merge(function) or changed


def _merge(function: Function) -> bool:
    before = function.predecessors()
    gone: set[Block] = set()
    for block in function.blocks:
        if block in gone:
            continue
        while True:
            end = block.insts[-1]
            if end.op != "br":
                break
            after = end.attr
            if after is block or after is function.blocks[0] or len(before[after]) != 1:
                break
            # its phis have one operand each and were removed by the caller
            if after.insts[0].op == "phi":
                break
            block.insts[-1:] = after.insts
            for later in after.successors():
                before[later] = [block if b is after else b for b in before[later]]
                for inst in later.insts:
                    if inst.op != "phi":
                        break
                    inst.attr = [block if b is after else b for b in inst.attr]
            gone.add(after)
    for block in function.blocks[1:]:
        if block in gone or len(block.insts) != 1 or block.insts[0].op != "br":
            continue
        after = block.insts[0].attr
        if after is block:
            continue
        has_phi = after.insts[0].op == "phi"
        for pred in list(before[block]):
            if has_phi and pred in before[after]:
                continue
            _retarget(pred, block, after)
            before[block].remove(pred)
            if pred not in before[after]:
                before[after].append(pred)
            for inst in after.insts:
                if inst.op != "phi":
                    break
                inst.args.append(inst.args[inst.attr.index(block)])
                inst.attr = [*inst.attr, pred]
        if not before[block]:
            _remove_edge(after, block)
            before[after].remove(block)
            gone.add(block)
    if gone:
        function.blocks = [b for b in function.blocks if b not in gone]
    return bool(gone)


def insert_before_end(block: Block, inst: Inst) -> None:
    block.insts.insert(len(block.insts) - 1, inst)
