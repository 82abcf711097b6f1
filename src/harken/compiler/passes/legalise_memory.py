"""Memory: loads and copies through every kind of pointer, zeroing, atomics, constants."""

from __future__ import annotations

from ..ir import I1, NONE, Const, Inst, Value, int_type
from .legalise_base import DIRECT, alignment
from .legalise_context import ContextRules

__all__ = ("MemoryRules",)

#: copies up to this size are written out
_INLINE_BYTES = 64
_INLINE_ZERO = 96
#: constants up to this size are written as immediates
_INLINE_CONSTANT = 32


class MemoryRules(ContextRules):
    """Rules for memory."""

    def load(self, inst: Inst) -> Value:
        pointer = inst.args[0]
        space = pointer.space
        if space in DIRECT:
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

    def store(self, inst: Inst) -> Value | None:
        self.writable(inst.args[0])
        self.out.append(inst)
        return None

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
        if source.space not in DIRECT or size > _INLINE_BYTES:
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
