"""``tp_btf``, ``fentry`` and ``fexit``: programs that the kernel binds to a typed target when it loads them (Linux 5.5).

ctx is an array of the arguments, 64 bits each; fexit has the return value after them.  A program has one target, so every probe needs
its own. An fentry or fexit program can stand in for a kprobe: the arguments are the same values.  What it has not is the register file
(``reg``, ``ctx``), and a kernel stack would begin with the trampoline (``kstack``).
"""

from __future__ import annotations

from ...abi import bpf as abi
from ...base.ctype import VOID, Struct
from .base import NOTHING, Base, Handles

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...formats.spec import AttachSpec
    from ...kernel.bpf import Program
    from ...kernel.kernel import Kernel
    from ..model import AttachOptions, Probe

__all__ = ("ATTACHERS", "ambiguous", "untraceable")

#: Arguments that a trampoline saves on every kernel that has trampolines (x86-64 passes six in registers; more came later).
_MOST = 6


class Tracing(Base):
    program_type = abi.BPF_PROG_TYPE_TRACING
    context = "tracing"
    shares = False

    def __init__(self, name: str, attach_type: int, lacks: frozenset[str] = NOTHING) -> None:
        self.name, self.attach_type, self.needs, self.lacks = name, attach_type, (name,), lacks

    def function(self, probe: Probe) -> str:
        if self.name == "tp_btf":
            return str(probe.name[0])
        module, function, _ = probe.name
        return f"{module}:{function}" if module else str(function)

    def target(self, probe: Probe, catalogue: Any) -> tuple[Any, ...]:
        return ()

    def refuses(self, probe: Probe, catalogue: Any, uses: frozenset[str]) -> str:
        if self.name == "tp_btf":
            event = probe.name[0]
            return "" if catalogue.raw_tracepoint(event) is not None else f"BTF does not describe the tracepoint {event}"
        return self._no_trampoline(probe, catalogue, uses)

    def _no_trampoline(self, probe: Probe, catalogue: Any, uses: frozenset[str]) -> str:
        module, function, offset = probe.name
        if not function:
            return "it traces functions, not addresses"
        if offset:
            return "it traces whole functions, not the instruction at an offset"
        known = catalogue.function(function, module)
        if known is None:
            return f"BTF does not describe {function}"
        if len(known.params) > _MOST:
            return f"{function} has more than {_MOST} parameters"
        if known.variadic:
            return f"{function} takes a variable number of arguments"
        if any(isinstance(kind.strip(), Struct) for _, kind in known.params):
            return f"{function} takes a struct by value"
        if isinstance(known.returns.strip(), Struct) and self.name == "fexit":
            return f"{function} returns a struct by value"
        if probe.kind in ("kprobe", "kretprobe"):
            beyond = sorted(name for name in uses if name[:3] == "arg" and name[3:].isdigit() and int(name[3:]) >= len(known.params))
            if beyond:
                return f"{function} has {len(known.params)} parameters, and {beyond[0]} is not among them"
            if self.name == "fexit" and "retval" in uses and known.returns.strip() is VOID:
                return f"{function} returns nothing"
            return untraceable(probe, catalogue)
        return ""

    def attach(self, kernel: Kernel, program: Program, place: AttachSpec, options: AttachOptions) -> Handles:
        from ...kernel.link import tracing_link

        return Handles((tracing_link(kernel, program, self.attach_type, what=place.probe),))


def untraceable(probe: Probe, catalogue: Any) -> str:
    """Why ftrace cannot take the function of a kprobe, "" if it can or the kernel does not tell which it can."""
    module, function, _ = probe.name
    listed = catalogue.functions()
    if not listed:
        return ""
    times = _times(listed)
    if (function, module) not in times:
        return f"{function} is not traceable by ftrace (inlined or notrace)"
    return ambiguous(probe, catalogue)


def ambiguous(probe: Probe, catalogue: Any) -> str:
    """Why the name of a kprobe's function is not enough, "" if it is."""
    module, function, _ = probe.name
    number = _times(catalogue.functions()).get((function, module), 0)
    return f"{number} functions are called {function}" if number > 1 else ""


_last: tuple[Any, dict[tuple[str, str], int]] = (None, {})


def _times(listed: list[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """How often each function is in the list, counted once per list."""
    global _last
    if _last[0] is not listed:
        times: dict[tuple[str, str], int] = {}
        for pair in listed:
            times[pair] = times.get(pair, 0) + 1
        _last = (listed, times)
    return _last[1]


_REGISTERS = frozenset(("reg", "ctx", "kstack"))

ATTACHERS = (
    Tracing("tp_btf", abi.BPF_TRACE_RAW_TP),
    Tracing("fentry", abi.BPF_TRACE_FENTRY, _REGISTERS),
    Tracing("fexit", abi.BPF_TRACE_FEXIT, _REGISTERS),
)
