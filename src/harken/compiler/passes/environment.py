"""How functions that are not inlined reach the caller's context and scratch memory.

They take an *environment* on the caller's stack: u64 context, u64 scratch memory, u64 the callback's own context pointer.  The
verifier follows pointers through the stack, so that what is loaded from there is as good as the caller's.
"""

from __future__ import annotations

from ..ir import PTR, Const, Function, Inst, Param, Value
from .cfg import replace_values

__all__ = ("give_environment", "pass_environment")


def give_environment(function: Function, scratch: Inst | None) -> bool:
    """Makes a function that is not an entry take its context and scratch memory from an environment; false if it needs neither."""
    entry = function.blocks[0]
    contexts = [inst for inst in function.instructions() if inst.op == "ctx"]
    if not contexts and scratch is None:
        return False
    if function.kind == "callback":
        old = function.params[-1]
        environment = Param(old.index, "environment", PTR, "stack")
        own = Inst("load", (environment,), PTR, 16, None, old.space or "stack", False, old.ctype)
        replace_values(function, {old: own})
        function.params = (*function.params[:-1], environment)
        added = [own]
    else:
        environment = Param(len(function.params), "environment", PTR, "stack")
        function.params = (*function.params, environment)
        added = []
    new: dict[Value, Value] = {}
    if contexts:
        context = Inst("load", (environment,), PTR, 0, None, "ctx")
        added.append(context)
        gone = set(contexts)
        for inst in contexts:
            new[inst] = context
        for block in function.blocks:
            block.insts = [inst for inst in block.insts if inst not in gone]
    if scratch is not None:
        memory = Inst("load", (environment,), PTR, 8, None, "map_value")
        added.append(memory)
        new[scratch] = memory
    replace_values(function, new)
    at = next((i for i, inst in enumerate(entry.insts) if inst.op != "alloca"), 0)
    entry.insts[at:at] = added
    return True


def pass_environment(function: Function, needs: dict[str, tuple[bool, bool]]) -> Inst | None:
    """Builds an environment at each call of a function that takes one.

    Args:
        needs: function name -> (takes an environment, uses scratch memory).

    Returns:
        a detached ``scratch`` instruction if a callee uses scratch memory.
    """
    scratch: Inst | None = None
    environments: list[Inst] = []
    for block in function.blocks:
        out: list[Inst] = []
        callback = ""
        for inst in block.insts:
            name = ""
            if inst.op == "call":
                name = inst.attr
            elif inst.op == "helper" and inst.attr in ("loop", "for_each_map_elem"):
                reference = inst.args[1]
                callback = reference.attr if isinstance(reference, Inst) else ""
                name = callback
            takes, memory = needs.get(name, (False, False))
            if takes:
                span = inst.span
                place_ = Inst("alloca", (), PTR, (24, 8, "environment"), span, "stack")
                environments.append(place_)
                context = Inst("ctx", (), PTR, None, span, "ctx")
                out += [context, Inst("store", (place_, context), attr=0, span=span)]
                if memory:
                    scratch = scratch or Inst("scratch", (), PTR, None, span, "map_value")
                    out.append(Inst("store", (place_, scratch), attr=8, span=span))
                if inst.op == "call":
                    inst.args.append(place_)
                else:
                    own = inst.args[2]
                    if own.type.pointer:
                        out.append(Inst("store", (place_, own), attr=16, span=span))
                    else:
                        out.append(Inst("store", (place_, Const(0)), attr=16, span=span))
                    inst.args[2] = place_
            out.append(inst)
        block.insts = out
    function.blocks[0].insts[:0] = environments
    return scratch
