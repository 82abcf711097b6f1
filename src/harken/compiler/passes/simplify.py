"""One walk down the dominator tree that folds constants, simplifies algebra, shares common subexpressions and uses known conditions.

A condition that was branched on is known in the blocks that its edge dominates: that is how a second null check of a map value, or
of a record whose space cannot be refused, disappears.
"""

from __future__ import annotations

from ..ir import I1, PURE, Block, Const, Function, Inst, Value
from . import fold
from .algebra import RULES
from .cfg import dominator_tree, dominators, replace_values, reverse_postorder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("simplify", "PURE_HELPERS", "IDLE_HELPERS")

#: helpers whose result does not change during one run of a program
PURE_HELPERS = frozenset(
    "get_current_pid_tgid get_current_uid_gid get_smp_processor_id get_current_task get_current_task_btf get_current_cgroup_id "
    "get_func_ip get_attach_cookie get_numa_node_id".split()
)
#: helpers without effects: dropped when nobody uses the result
IDLE_HELPERS = PURE_HELPERS | frozenset(
    "ktime_get_ns ktime_get_boot_ns ktime_get_coarse_ns ktime_get_tai_ns jiffies64 get_prandom_u32 map_lookup_elem".split()
)


def simplify(function: Function) -> bool:
    """Simplifies in place; true if something changed (run ``cfg.clean`` and again then)."""
    order = reverse_postorder(function)
    before = function.predecessors()
    if len(order) == 1:
        children: dict[Block, list[Block]] = {order[0]: []}
    else:
        children = dominator_tree(order, dominators(order, before))
    new: dict[Value, Value] = {}
    table: dict[Any, Value] = {}
    known: dict[Value, Const] = {}
    changed = False
    # (block, None) enters; (None, undo log) leaves
    stack: list[tuple[Block | None, list[tuple[dict[Any, Any], Any, Any]]]] = [(order[0], [])]
    while stack:
        block, log = stack.pop()
        if block is None:
            for mapping, key, old in reversed(log):
                if old is None:
                    del mapping[key]
                else:
                    mapping[key] = old
            continue
        log = []
        stack.append((None, log))
        preds = before[block]
        if len(preds) == 1:
            _learn(preds[0].insts[-1], block, known, table, log)
        insts = block.insts
        removed = False
        for position, inst in enumerate(insts):
            op = inst.op
            args = inst.args
            if op == "phi":
                for i, arg in enumerate(args):
                    if arg in new:
                        args[i] = new[arg]
                continue
            if new or known:
                for i, arg in enumerate(args):
                    if arg in new:
                        args[i] = arg = new[arg]
                    if arg in known:
                        args[i] = known[arg]
                        changed = True
            rule = RULES.get(op)
            value = rule(inst) if rule is not None else None
            if value is not None:
                if value is not inst:
                    value = new.get(value, value)
                    new[inst] = known.get(value, value)
                    insts[position] = None  # type: ignore[call-overload]
                    removed = True
                    continue
                changed = True
                op, args = inst.op, inst.args
            if op in PURE or (op == "helper" and inst.attr in PURE_HELPERS):
                key = (op, inst.attr, inst.type.bits, inst.space, *[(a.value, a.type.bits) if type(a) is Const else a for a in args])
                found = table.get(key)
                if found is not None:
                    new[inst] = found
                    insts[position] = None  # type: ignore[call-overload]
                    removed = True
                else:
                    table[key] = inst
                    log.append((table, key, None))
        if removed:
            changed = True
            block.insts = [inst for inst in insts if inst is not None]
        for child in reversed(children[block]):
            stack.append((child, []))
    replace_values(function, new)
    return changed


def _learn(end: Inst, block: Block, known: dict[Value, Const], table: dict[Any, Value], log: list[tuple[dict[Any, Any], Any, Any]]) -> None:
    """What entering ``block`` tells about the condition that its only predecessor branched on."""
    if end.op != "condbr" or end.attr[0] is end.attr[1]:
        return
    condition = end.args[0]
    if type(condition) is Const:
        return
    truth = block is end.attr[0]
    log.append((known, condition, known.get(condition)))
    known[condition] = Const(truth, I1)
    if isinstance(condition, Inst) and condition.op == "icmp":
        operands = [(a.value, a.type.bits) if type(a) is Const else a for a in condition.args]
        key = ("icmp", fold.INVERSE[condition.attr], 1, "", *operands)
        log.append((table, key, table.get(key)))
        table[key] = Const(not truth, I1)
