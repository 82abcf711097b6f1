"""The context: arguments, return values and registers, wherever a mechanism keeps them."""

from __future__ import annotations

from ...abi.arch import for_machine
from ...base.diagnostics import error
from ...base.errors import SourceError
from ..ir import I64, PTR, Const, Inst, IRError, Value
from .legalise_base import Rules

__all__ = ("ContextRules",)

#: where the arguments (or the result) begin in the records of syscalls:sys_enter_* and sys_exit_*, after the common fields and the number
_SYSCALL_FIELDS = 16


class ContextRules(Rules):
    """Rules for what a program reads of its context."""

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
