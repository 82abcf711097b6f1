"""Domain operations to what this kernel has: reads, records, arguments, counters, loops.

The result speaks of direct loads and stores, helpers, calls and control flow alone; ``rodata`` (offset into the constants' map) and
``funcref`` (a callback) are its two own operations.  Three facts of the kernel it relies on:

* ``bpf_probe_read*`` zero the destination when they fail (kernel/trace/bpf_trace.c), which also makes a read from address 0 the
  cheapest way to zero a large area;
* the verifier wants stack accesses aligned whatever the machine (kernel/bpf/verifier.c, check_ptr_alignment);
* a helper's size argument must be bounded in the very register that is passed.
"""

from __future__ import annotations

from ...base.diagnostics import error
from ...base.errors import SourceError
from ..ir import I1, I32, I64, NONE, PTR, Block, Const, Function, Inst, Program, Value
from ..target import Target
from .cfg import replace_values
from .legalise_base import RECORD, RODATA, Pool
from .legalise_memory import MemoryRules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("Pool", "legalise", "RODATA", "RECORD", "needs_context")

_CONTEXT_OPS = frozenset(("ctx", "arg", "retval", "reg"))
BPF_F_CURRENT_CPU = 0xFFFFFFFF


def needs_context(function: Function) -> bool:
    """Whether it reads the program's context."""
    return any(inst.op in _CONTEXT_OPS for block in function.blocks for inst in block.insts)


def legalise(function: Function, program: Program, target: Target, pool: Pool) -> None:
    """Lowers one function for ``program`` on ``target``, in place."""
    _Legaliser(function, program, target, pool).run()


class _Legaliser(MemoryRules):
    """The walk over a function, and the rules for maps, events and calls."""

    # -- the walk
    def run(self) -> None:
        function = self.function
        for inst in function.instructions():
            if inst.op == "emit":
                self.events.setdefault(inst.args[0], inst.attr)
        tails: dict[Block, Block] = {}
        new = self.new
        for block in list(function.blocks):
            insts, block.insts = block.insts, []
            self.source = block
            self.blocks.append(block)
            self.go(block)
            for inst in insts:
                args = inst.args
                for i, arg in enumerate(args):
                    if arg in new:
                        args[i] = new[arg]
                rule = _RULES.get(inst.op)
                if rule is None:
                    self.out.append(inst)
                    continue
                self.span = inst.span
                if inst.op == "record":
                    value: Value | None = self.record(inst, insts)
                else:
                    value = rule(self, inst)
                if value is not None and value is not inst:
                    new[inst] = value
            if self.block is not block:
                tails[block] = self.block
        function.blocks = self.blocks + self.cold
        function.blocks[0].insts[:0] = self.allocas
        replace_values(function, new)
        if tails:
            for block in function.blocks:
                for inst in block.insts:
                    if inst.op != "phi":
                        break
                    inst.attr = [tails.get(b, b) for b in inst.attr]

    # -- maps
    def lookup(self, inst: Inst) -> Value:
        inst.op, inst.attr = "helper", "map_lookup_elem"
        self.out.append(inst)
        return inst

    def update(self, inst: Inst) -> Value:
        inst.op, inst.args, inst.attr = "helper", [*inst.args, Const(inst.attr or 0)], "map_update_elem"
        self.out.append(inst)
        return inst

    def delete(self, inst: Inst) -> Value:
        inst.op, inst.attr = "helper", "map_delete_elem"
        self.out.append(inst)
        return inst

    def iterate(self, inst: Inst) -> Value:
        callback = self.add("funcref", (), PTR, inst.attr, space="map")
        if inst.op == "loop":
            count, context = inst.args
            name, args = "loop", [self.add("trunc", (count,), I32), callback, context, Const(0)]
        else:
            if not self.target.has("for_each"):
                raise SourceError(
                    (
                        error(
                            "this kernel cannot walk through a map from within a program",
                            inst.span,
                            "it takes bpf_for_each_map_elem (Linux 5.13)",
                        ),
                    )
                )
            table, context = inst.args
            name, args = "for_each_map_elem", [table, callback, context, Const(0)]
        inst.op, inst.attr, inst.args = "helper", name, args
        self.out.append(inst)
        return inst

    # -- events
    def record(self, inst: Inst, insts: list[Inst]) -> Value:
        ring, size, tail = inst.attr
        if tail or not self.target.has("ringbuf"):
            # a tail is written piece by piece at offsets that vary: older verifiers (before 6.3) cannot follow that through the stack
            place = self.alloca(size + tail, RECORD if tail else "event")
            if not tail:
                self.zero(Inst("zero", (place,), NONE, (0, size), inst.span))
            self.records[place] = (ring, size, tail)
            if inst in self.events:
                self.events[place] = self.events[inst]
            return place
        table = self.add("map", (), PTR, ring, space="map")
        event = self.events.get(inst, "")
        inst.op, inst.args, inst.attr = "helper", [table, Const(size), Const(0)], "ringbuf_reserve"
        self.out.append(inst)
        end = insts[-1]
        if end.op == "condbr" and isinstance(end.args[0], Inst):
            check = end.args[0]
            if check.op == "icmp" and check.args[0] is inst and check.attr in ("eq", "ne") and isinstance(check.args[1], Const):
                self.refusals[end] = (0 if check.attr == "eq" else 1, event)
                return inst
        self.when(self.add("icmp", (inst, Const(0)), I1, "eq"), "ring", event)
        return inst

    def condbr(self, inst: Inst) -> None:
        self.out.append(inst)
        refusal = self.refusals.get(inst)
        if refusal is None:
            return
        index, event = refusal
        origin, after = self.block, inst.attr[index]
        cold = Block(f"{origin.name}.lost")
        self.cold.append(cold)
        self.go(cold)
        last = self.loss("ring", event, after, self.cold)
        for phi in after.insts:
            if phi.op != "phi":
                break
            phi.attr = [last if b is self.source else b for b in phi.attr]
        inst.attr = (cold, inst.attr[1]) if index == 0 else (inst.attr[0], cold)
        self.go(origin)

    def emit(self, inst: Inst) -> None:
        record, event = inst.args[0], inst.attr
        self.add("store", (record, Const(event)), attr=0)
        place = self.records.get(record)
        if place is None:
            self.helper("ringbuf_submit", record, Const(0), type=NONE)
            return
        ring, size, tail = place
        table = self.add("map", (), PTR, ring, space="map")
        total: Value = Const(size)
        if tail and len(inst.args) > 1:
            total = self.add("add", (self.bounded(inst.args[1], tail), total), I64)
        if self.target.has("ringbuf"):
            status = self.helper("ringbuf_output", table, record, total, Const(0))
        else:
            status = self.helper("perf_event_output", self.ctx(), table, Const(BPF_F_CURRENT_CPU), record, total)
        self.when(self.add("icmp", (status, Const(0)), I1, "ne"), "ring", event)

    def discard(self, inst: Inst) -> None:
        if inst.args[0] not in self.records:
            self.helper("ringbuf_discard", inst.args[0], Const(0), type=NONE)

    def count_loss(self, inst: Inst) -> None:
        rest = Block(f"{self.block.name}.on")
        kind, subject = inst.attr
        self.loss(kind, subject, rest, self.blocks)
        self.blocks.append(rest)
        self.go(rest)

    # -- calls
    def call_helper(self, inst: Inst) -> Value:
        if inst.attr == "ktime_get_boot_ns" and not self.target.has("ktime_boot"):
            inst.attr = "ktime_get_ns"
        elif inst.attr.startswith("probe_read_") and not self.target.has("probe_read_space"):
            inst.attr = "probe_read_str" if inst.attr.endswith("_str") else "probe_read"
        self.out.append(inst)
        return inst

    def tail_call(self, inst: Inst) -> Value:
        inst.op, inst.attr = "helper", "tail_call"
        self.out.append(inst)
        return inst


_RULES: dict[str, Any] = {
    "load": _Legaliser.load,
    "store": _Legaliser.store,
    "copy": _Legaliser.copy,
    "zero": _Legaliser.zero,
    "read_str": _Legaliser.read_str,
    "atomic": _Legaliser.atomic,
    "field": _Legaliser.field,
    "bytes": _Legaliser.bytes,
    "lookup": _Legaliser.lookup,
    "update": _Legaliser.update,
    "delete": _Legaliser.delete,
    "loop": _Legaliser.iterate,
    "for_each": _Legaliser.iterate,
    "record": _Legaliser.record,
    "condbr": _Legaliser.condbr,
    "emit": _Legaliser.emit,
    "discard": _Legaliser.discard,
    "count_loss": _Legaliser.count_loss,
    "arg": _Legaliser.arg,
    "retval": _Legaliser.retval,
    "reg": _Legaliser.reg,
    "helper": _Legaliser.call_helper,
    "tail_call": _Legaliser.tail_call,
}
