"""Domain operations to what this kernel has: reads, records, arguments, counters, loops.

The result speaks of direct loads and stores, helpers, calls and control flow alone; ``rodata`` (offset into the constants' map) and
``funcref`` (a callback) are its two own operations.  Three facts of the kernel it relies on:

* ``bpf_probe_read*`` zero the destination when they fail (kernel/trace/bpf_trace.c), which also makes a read from address 0 the
  cheapest way to zero a large area;
* the verifier wants stack accesses aligned whatever the machine (kernel/bpf/verifier.c, check_ptr_alignment);
* a helper's size argument must be bounded in the very register that is passed.
"""

from __future__ import annotations

from ...abi.arch import for_machine
from ...base.diagnostics import error
from ...base.errors import SourceError
from ..ir import I1, I32, I64, NONE, PTR, Block, Const, Function, Inst, IRError, Program, Value, int_type
from ..target import Target
from ..unit import LOSS
from .cfg import replace_values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...base.diagnostics import Span

__all__ = ("Pool", "legalise", "RODATA", "RECORD", "needs_context")

RODATA = "harken_rodata"
#: the name of allocas that must stand in scratch memory
RECORD = "record"
_DIRECT = frozenset(("stack", "ctx", "map_value", "map_key", "ring", "btf", "packet"))
#: where the arguments (or the result) begin in the records of syscalls:sys_enter_* and sys_exit_*, after the common fields and the number
_SYSCALL_FIELDS = 16
_CONTEXT_OPS = frozenset(("ctx", "arg", "retval", "reg"))
#: copies up to this size are written out
_INLINE_BYTES = 64
_INLINE_ZERO = 96
#: constants up to this size are written as immediates
_INLINE_CONSTANT = 32
BPF_F_CURRENT_CPU = 0xFFFFFFFF


class Pool:
    """What the programs of one module share: constants and loss counters."""

    __slots__ = ("data", "losses", "offsets")

    def __init__(self) -> None:
        self.data = bytearray()
        self.offsets: dict[bytes, int] = {}
        self.losses: dict[tuple[str, str], int] = {}

    def constant(self, data: bytes) -> int:
        """The offset of ``data`` among the constants."""
        at = self.offsets.get(data)
        if at is None:
            align = 8 if len(data) >= 8 else 4 if len(data) >= 4 else 1
            self.data += bytes(-len(self.data) % align)
            at = self.offsets[data] = len(self.data)
            self.data += data
        return at

    def loss(self, kind: str, subject: object) -> int:
        """The slot of a loss counter."""
        return self.losses.setdefault((kind, str(subject)), len(self.losses))


def needs_context(function: Function) -> bool:
    """Whether it reads the program's context."""
    return any(inst.op in _CONTEXT_OPS for block in function.blocks for inst in block.insts)


def legalise(function: Function, program: Program, target: Target, pool: Pool) -> None:
    """Lowers one function for ``program`` on ``target``, in place."""
    _Legaliser(function, program, target, pool).run()


def alignment(pointer: Value, offset: int) -> int:
    """The largest power of two up to 8 that divides the address for sure."""
    while isinstance(pointer, Inst) and pointer.op == "gep":
        distance = pointer.args[1]
        if isinstance(distance, Const):
            offset += distance.signed
        else:
            scale = _scale(distance)
            if scale < 8:
                return min(scale, _power(offset))
        pointer = pointer.args[0]
    return _power(offset)


def _power(offset: int) -> int:
    return 8 if offset % 8 == 0 else 4 if offset % 4 == 0 else 2 if offset % 2 == 0 else 1


def _scale(value: Value) -> int:
    if isinstance(value, Inst) and value.op == "shl" and isinstance(value.args[1], Const):
        return 1 << min(3, value.args[1].value)
    if isinstance(value, Inst) and value.op == "mul" and isinstance(value.args[1], Const):
        return _power(value.args[1].value)
    if isinstance(value, Inst) and value.op == "and" and isinstance(value.args[1], Const):
        return _power(value.args[1].value)
    return 1


class _Legaliser:
    """One run over one function.  ``out`` is the instruction list of the block being written, ``new`` maps replaced values."""

    def __init__(self, function: Function, program: Program, target: Target, pool: Pool) -> None:
        self.function, self.program, self.target, self.pool = function, program, target, pool
        self.block = self.source = function.blocks[0]
        self.out: list[Inst] = []
        self.new: dict[Value, Value] = {}
        self.allocas: list[Inst] = []
        self.span: Span | None = None
        self.blocks: list[Block] = []
        self.cold: list[Block] = []
        #: record -> event, as its emit says
        self.events: dict[Value, int] = {}
        #: records in memory of ours -> (ring, fixed size, tail)
        self.records: dict[Value, tuple[str, int, int]] = {}
        #: branch on a reserved record -> (index of the null successor, event)
        self.refusals: dict[Inst, tuple[int, object]] = {}

    # -- building
    def add(self, op: str, args: tuple[Value, ...] = (), type: Any = NONE, attr: Any = None, space: str = "") -> Inst:
        inst = Inst(op, args, type, attr, self.span, space)
        self.out.append(inst)
        return inst

    def helper(self, name: str, *args: Value, type: Any = I64) -> Inst:
        return self.add("helper", args, type, name)

    def alloca(self, size: int, name: str) -> Inst:
        inst = Inst("alloca", (), PTR, (size, 8, name), self.span, "stack")
        self.allocas.append(inst)
        return inst

    def at(self, pointer: Value, offset: int) -> Value:
        return self.add("gep", (pointer, Const(offset)), PTR, space=pointer.space) if offset else pointer

    def go(self, block: Block) -> None:
        self.block, self.out = block, block.insts

    def when(self, condition: Value, kind: str, subject: object) -> None:
        """Counts a loss if the condition holds, out of the way of the straight path."""
        cold, rest = Block(f"{self.block.name}.lost"), Block(f"{self.block.name}.on")
        self.add("condbr", (condition,), attr=(cold, rest))
        self.go(cold)
        self.cold.append(cold)
        self.loss(kind, subject, rest, self.cold)
        self.blocks.append(rest)
        self.go(rest)

    def loss(self, kind: str, subject: object, rest: Block, blocks: list[Block]) -> Block:
        """Adds one to a loss counter and goes on to ``rest``; returns the last block, whose only successor is ``rest``."""
        key = self.alloca(4, "slot")
        self.add("store", (key, Const(self.pool.loss(kind, subject), I32)), attr=0)
        table = self.add("map", (), PTR, LOSS, space="map")
        slot = self.helper("map_lookup_elem", table, key, type=PTR)
        slot.space, slot.nullable = "map_value", True
        count, done = Block(f"{self.block.name}.count"), Block(f"{self.block.name}.done")
        self.add("condbr", (self.add("icmp", (slot, Const(0)), I1, "eq"),), attr=(done, count))
        blocks += [count, done]
        self.go(count)
        self.add("atomic", (slot, Const(1)), attr=("add", 0, False))
        self.add("br", attr=done)
        self.go(done)
        self.add("br", attr=rest)
        return done

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

    # -- memory
    def load(self, inst: Inst) -> Value:
        pointer = inst.args[0]
        space = pointer.space
        if space in _DIRECT:
            if space == "ctx" and self.program.view == "pt_regs" and self.program.context in ("tracing", "tracepoint"):
                return self.register(inst)
            self.out.append(inst)
            return inst
        size = inst.type.size
        temporary = self.alloca(size, "read")
        self.read(temporary, pointer, size, inst.attr, space)
        inst.args, inst.attr = [temporary], 0
        self.out.append(inst)
        return inst

    def read(self, to: Value, pointer: Value, size: int, offset: int, space: str, text: Value | None = None) -> Inst:
        if space not in ("kernel", "user", "any") and space not in _DIRECT:
            raise IRError(f"{self.function.name}: read through a pointer to {space or 'nowhere'}")
        where = "user" if space == "user" else "kernel"
        suffix = "" if text is None else "_str"
        plain = space == "any" or not self.target.has("probe_read_space")
        name = f"probe_read{suffix}" if plain else f"probe_read_{where}{suffix}"
        return self.helper(name, to, text or Const(size), self.at(pointer, offset))

    def store(self, inst: Inst) -> Value | None:
        self.writable(inst.args[0])
        self.out.append(inst)
        return None

    def writable(self, pointer: Value) -> None:
        """Refuses to write where programs cannot."""
        space = pointer.space
        if space in ("kernel", "user", "any"):
            hint = "bpf_probe_write_user() writes to a process's memory" if space != "kernel" else ""
            whose = {"kernel": "the kernel's memory", "user": "a process's memory"}.get(space, "memory that is not the program's own")
            raise SourceError((error(f"a probe cannot write to {whose}", self.span, hint),))
        if space not in _DIRECT:
            raise IRError(f"{self.function.name}: store through a pointer to {space or 'nowhere'}")

    def copy(self, inst: Inst) -> Value:
        to, source = inst.args
        to_offset, source_offset, size = inst.attr
        if size <= 0:
            return Const(0)
        self.writable(to)
        if isinstance(source, Inst) and source.op == "rodata" and size <= _INLINE_CONSTANT:
            at = source.attr + source_offset
            self.constant_bytes(to, to_offset, bytes(self.pool.data[at : at + size]))
            return Const(0)
        if source.space not in _DIRECT or size > _INLINE_BYTES:
            return self.read(self.at(to, to_offset), source, size, source_offset, source.space)
        step = min(
            alignment(to, to_offset) if to.space in ("stack", "ctx") else 8,
            alignment(source, source_offset) if source.space in ("stack", "ctx") else 8,
        )
        if step < 8 and size > 8 * step:
            return self.read(self.at(to, to_offset), source, size, source_offset, source.space)
        done = 0
        while done < size:
            chunk = min(step, 8)
            while chunk > size - done:
                chunk //= 2
            word = self.add("load", (source,), int_type(chunk), source_offset + done)
            self.add("store", (to, word), NONE, to_offset + done)
            done += chunk
        return Const(0)

    def constant_bytes(self, to: Value, offset: int, data: bytes) -> None:
        """Writes known bytes as immediates."""
        step = alignment(to, offset) if to.space in ("stack", "ctx") else 8
        done = 0
        while done < len(data):
            chunk = step
            while chunk > len(data) - done:
                chunk //= 2
            number = int.from_bytes(data[done : done + chunk], "little")
            self.add("store", (to, Const(number, int_type(chunk))), NONE, offset + done)
            done += chunk

    def zero(self, inst: Inst) -> None:
        (to,) = inst.args
        offset, size = inst.attr
        if size <= 0:
            return
        self.writable(to)
        step = alignment(to, offset) if to.space in ("stack", "ctx") else 8
        if size > _INLINE_ZERO or (step < 8 and size > 12 * step):
            kernel = "probe_read_kernel" if self.target.has("probe_read_space") else "probe_read"
            self.helper(kernel, self.at(to, offset), Const(size), Const(0))
            return
        done = 0
        while done < size:
            chunk = step
            while chunk > size - done:
                chunk //= 2
            self.add("store", (to, Const(0, int_type(chunk))), NONE, offset + done)
            done += chunk

    def read_str(self, inst: Inst) -> Value:
        to, source, size = inst.args
        bound = self.bounded(size, inst.attr)
        return self.read(to, source, 0, 0, source.space, bound)

    def bounded(self, value: Value, limit: int) -> Value:
        """``value``, at most ``limit``."""
        if isinstance(value, Const):
            return Const(min(value.value, limit))
        over = self.add("icmp", (value, Const(limit)), I1, "ule")
        return self.add("select", (over, value, Const(limit)), I64)

    def atomic(self, inst: Inst) -> Value | None:
        op, offset, fetch = inst.attr
        size = inst.args[1].type.size
        pointer, value = inst.args[0], inst.args[1]
        self.writable(pointer)
        full = self.target.has("atomic_fetch")
        if size >= 4 and (full or (op == "add" and not fetch)):
            self.out.append(inst)
            return inst
        old = self.add("load", (pointer,), value.type, offset)
        if op == "xchg":
            new: Value = value
        elif op == "cmpxchg":
            same = self.add("icmp", (old, inst.args[2]), I1, "eq")
            new = self.add("select", (same, value, old), value.type)
        else:
            new = self.add(op, (old, value), value.type)
        self.add("store", (pointer, new), NONE, offset)
        return old

    def field(self, inst: Inst) -> Value:
        return self.at(inst.args[0], inst.attr.offset)

    def bytes(self, inst: Inst) -> Value:
        inst.op, inst.attr = "rodata", self.pool.constant(inst.attr)
        self.out.append(inst)
        return inst

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

    # -- context
    def ctx(self) -> Inst:
        return self.add("ctx", (), PTR, space="ctx")

    def arg(self, inst: Inst) -> Value:
        n, context = inst.attr, self.program.context
        if context in ("tracing", "raw_tracepoint", "syscall"):
            return self.add("load", (self.ctx(),), I64, 8 * n)
        if context == "tracepoint" and self._of_syscall():
            return self.add("load", (self.ctx(),), I64, _SYSCALL_FIELDS + 8 * n)
        if context not in ("pt_regs", "perf_event"):
            raise IRError(f"a program whose context is {context!r} has no argument {n}")
        arch = for_machine(self.target.machine)
        if n < len(arch.arguments):
            return self.add("load", (self.ctx(),), I64, arch.registers[arch.arguments[n]])
        stack = self.add("load", (self.ctx(),), I64, arch.registers[arch.sp])
        user = any("uprobe" in place.mechanism or "usdt" in place.mechanism for place in self.program.attach)
        space = "user" if user else "kernel"
        pointer = self.add("inttoptr", (stack,), PTR, space=space)
        temporary = self.alloca(8, "arg")
        self.read(temporary, pointer, 8, arch.stack_arguments + 8 * (n - len(arch.arguments)), space)
        return self.add("load", (temporary,), I64, 0)

    def retval(self, inst: Inst) -> Value:
        context = self.program.context
        if context == "tracing":
            if self.program.arity >= 0:
                return self.add("load", (self.ctx(),), I64, 8 * self.program.arity)
            place = self.alloca(8, "retval")
            self.add("store", (place, Const(0)), attr=0)
            self.helper("get_func_ret", self.ctx(), place)
            return self.add("load", (place,), I64, 0)
        if context == "tracepoint" and self._of_syscall():
            return self.add("load", (self.ctx(),), I64, _SYSCALL_FIELDS)
        if context not in ("pt_regs", "perf_event"):
            raise IRError(f"a program whose context is {context!r} has no return value")
        arch = for_machine(self.target.machine)
        return self.add("load", (self.ctx(),), I64, arch.registers[arch.result])

    def _of_syscall(self) -> bool:
        """Whether the program stands in for a probe of a system call's function at that system call's tracepoints."""
        places = self.program.attach
        return bool(places) and all([place.target[:1] == ("syscalls",) for place in places])

    def reg(self, inst: Inst) -> Value:
        arch = for_machine(self.target.machine)
        if self.program.context not in ("pt_regs", "perf_event") or inst.attr not in arch.registers:
            raise SourceError(
                (error(f"there is no register {inst.attr!r} here", inst.span, f"{arch.name} has " + ", ".join(sorted(arch.registers))),)
            )
        return self.add("load", (self.ctx(),), I64, arch.registers[inst.attr])

    def register(self, load: Inst) -> Value:
        """A register that the source reads from ``struct pt_regs``, in a program that has none: the argument or result that was in it."""
        offset, pointer = load.attr, load.args[0]
        while isinstance(pointer, Inst) and pointer.op == "gep" and type(pointer.args[1]) is Const:
            offset += pointer.args[1].signed
            pointer = pointer.args[0]
        arch = for_machine(self.target.machine)
        names = [name for name, at in arch.registers.items() if at == offset & ~7] if pointer.op == "ctx" else []  # type: ignore[attr-defined]
        value: Value | None = None
        if self.program.returns and arch.result in names:
            value = self.retval(load)
        else:
            for name in names:
                if name in arch.arguments:
                    value = self.arg(Inst("arg", (), I64, arch.arguments.index(name)))
        if value is None:
            what = f"the register {names[0]}" if names else "the registers"
            raise SourceError(
                (error(f"this probe has arguments and results, but not {what}", load.span, "it takes a kprobe, which this kernel lacks"),)
            )
        if offset & 7:
            value = self.add("lshr", (value, Const(8 * (offset & 7))), I64)
        if load.type.pointer:
            return self.add("inttoptr", (value,), PTR, space=load.space)
        return value if load.type.bits == 64 else self.add("trunc", (value,), load.type)

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
