"""Local variables to SSA values: phis only where the variable is live (pruned), nothing that is addressed."""

from __future__ import annotations

from ..ir import I64, Block, Const, Function, Inst, Value, int_type
from .cfg import dominator_tree, dominators, replace_values, reverse_postorder

__all__ = ("mem2reg",)


def _promotable(function: Function) -> dict[Inst, int]:
    """Allocas that are only loaded and stored as one whole, with their access size in bytes."""
    sizes: dict[Inst, int] = {}
    entry = function.blocks[0]
    for inst in entry.insts:
        if inst.op == "alloca" and inst.attr[0] <= 8:
            sizes[inst] = 0
    if not sizes:
        return sizes
    bad: set[Value] = set()
    for block in function.blocks:
        for inst in block.insts:
            op = inst.op
            for i, arg in enumerate(inst.args):
                if arg not in sizes:
                    continue
                if op == "load" and inst.attr == 0:
                    size = inst.type.size
                elif op == "store" and i == 0 and inst.attr == 0:
                    size = inst.args[1].type.size
                elif op == "zero" and inst.attr[0] == 0:
                    size = inst.attr[1]
                    if size not in (1, 2, 4, 8):
                        size = -1
                else:
                    size = -1
                before = sizes[arg]
                if size < 0 or (before and before != size):
                    bad.add(arg)
                sizes[arg] = size
    return {inst: size for inst, size in sizes.items() if inst not in bad}


def mem2reg(function: Function) -> bool:
    """Promotes allocas to values; true if there was one."""
    sizes = _promotable(function)
    if not sizes:
        return False
    types = {}
    spaces: dict[Value, Inst] = {}
    for block in function.blocks:
        for inst in block.insts:
            if inst.op == "load" and inst.args[0] in sizes:
                where = inst.args[0]
                if where not in types or inst.type.pointer:
                    types[where] = inst.type
                    spaces[where] = inst
            elif inst.op == "store" and inst.args[0] in sizes:
                types.setdefault(inst.args[0], inst.args[1].type)
    order = reverse_postorder(function)
    before = function.predecessors()
    blocks_of: dict[Value, set[Block]] = {v: set() for v in sizes}
    defs: dict[Value, set[Block]] = {v: set() for v in sizes}
    exposed: dict[Value, set[Block]] = {v: set() for v in sizes}
    for block in order:
        for inst in block.insts:
            if inst.op == "load":
                v = inst.args[0]
                if v in sizes:
                    blocks_of[v].add(block)
                    if block not in defs[v]:
                        exposed[v].add(block)
            elif inst.op in ("store", "zero"):
                v = inst.args[0]
                if v in sizes:
                    blocks_of[v].add(block)
                    defs[v].add(block)
    multi = [v for v in sizes if exposed[v]]
    phis: dict[Block, list[tuple[Value, Inst]]] = {}
    idom = dominators(order, before)
    if multi:
        number = {b: i for i, b in enumerate(order)}
        frontier: dict[Block, set[Block]] = {b: set() for b in order}
        for b in order:
            preds = [p for p in before[b] if p in number]
            if len(preds) > 1:
                for p in preds:
                    while p is not idom[b]:
                        frontier[p].add(b)
                        p = idom[p]
        for v in multi:
            live = set(exposed[v])
            work = list(live)
            while work:
                for p in before[work.pop()]:
                    if p in number and p not in live and p not in defs[v]:
                        live.add(p)
                        work.append(p)
            # blocks at whose start the variable is live: exposed there, or live through
            placed: set[Block] = set()
            work = list(defs[v])
            if order[0] not in defs[v]:
                work.append(order[0])
            while work:
                for b in frontier[work.pop()]:
                    if b not in placed:
                        placed.add(b)
                        if b in live:
                            model = spaces.get(v)
                            phi = Inst("phi", [], types[v], [], None, model.space if model else "", False, model.ctype if model else None)
                            phis.setdefault(b, []).append((v, phi))
                        work.append(b)
    new: dict[Value, Value] = {}
    children = dominator_tree(order, idom)
    zero: dict[Value, Value] = {v: Const(0, types[v] if v in types and not types[v].pointer else I64) for v in sizes}
    stack: list[tuple[Block, dict[Value, Value]]] = [(order[0], dict(zero))]
    while stack:
        block, current = stack.pop()
        for v, phi in phis.get(block, ()):
            current[v] = phi
        keep: list[Inst] = []
        for inst in block.insts:
            op = inst.op
            if op == "load" and inst.args[0] in sizes:
                value = current[inst.args[0]]
                value = new.get(value, value)
                if inst.type.pointer:
                    if not value.type.pointer or (value.space != inst.space and inst.space):
                        inst.op, inst.args, inst.attr = "inttoptr", [value], None
                        keep.append(inst)
                        continue
                elif value.type.pointer:
                    inst.op, inst.args, inst.attr = "ptrtoint", [value], None
                    keep.append(inst)
                    continue
                elif value.type.bits != inst.type.bits:  # i1 stored, i8 loaded or the other way round
                    inst.op = "zext" if inst.type.bits > value.type.bits else "trunc"
                    inst.args, inst.attr = [value], None
                    keep.append(inst)
                    continue
                new[inst] = value
                continue
            if op == "store" and inst.args[0] in sizes:
                current[inst.args[0]] = new.get(inst.args[1], inst.args[1])
                continue
            if op == "zero" and inst.args[0] in sizes:
                current[inst.args[0]] = Const(0, int_type(inst.attr[1]))
                continue
            if op == "alloca" and inst in sizes:
                continue
            keep.append(inst)
        block.insts = keep
        for after in set(block.successors()):
            for v, phi in phis.get(after, ()):
                phi.args.append(current[v])
                phi.attr.append(block)
        for child in children[block]:
            stack.append((child, dict(current)))
    for block, added in phis.items():
        block.insts[:0] = [phi for _, phi in added]
    replace_values(function, new)
    return True
