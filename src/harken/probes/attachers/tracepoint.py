"""``tracepoint``: a perf event of the tracepoint, with the program set on it.

A program that is set on a tracepoint's perf event runs for every hit on every CPU, whichever CPU the event was opened for (kernel:
perf_trace_run_bpf_submit), so that one descriptor per tracepoint is enough.

It is also the last resort of a kprobe on the implementation of a system call, when the program uses nothing that differs.
"""

from __future__ import annotations

from ...abi import bpf as abi
from .base import Base, Handles, tracepoint_event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...formats.spec import AttachSpec
    from ...kernel.bpf import Program
    from ...kernel.kernel import Kernel
    from ..model import AttachOptions, Probe

__all__ = ("ATTACHERS",)

#: What a system call's tracepoint cannot give to a program written for its implementation; the result it has.
_DIFFERS = frozenset(("arg", "args", "retval", "reg", "ctx", "func", "kstack"))

#: System calls that are called once and come back in two processes: their function returns in one of them only.
_TWICE = frozenset(("clone", "clone3", "fork", "vfork"))


class Tracepoint(Base):
    name = "tracepoint"
    program_type = abi.BPF_PROG_TYPE_TRACEPOINT
    context = "tracepoint"
    needs = ("tracepoint_perf",)

    def refuses(self, probe: Probe, catalogue: Any, uses: frozenset[str]) -> str:
        if probe.kind == "tracepoint":
            return ""
        event = self._syscall_event(probe)
        if not event or probe.name[2] or not catalogue.has_tracepoint("syscalls", event):
            return "not the entry of a system call"
        if probe.kind == "kretprobe" and event.removeprefix("sys_exit_") in _TWICE:
            return f"syscalls:{event} happens in the new process too"
        differs = sorted((_DIFFERS if probe.kind == "kprobe" else _DIFFERS - {"retval"}) & uses)
        if differs:
            return f"{' and '.join(differs)} would not mean the same in syscalls:{event}"
        return ""

    def _syscall_event(self, probe: Probe) -> str:
        from ..suggest import syscall_of

        name = syscall_of(probe.name[1], entry=True)
        return f"sys_{'exit' if probe.kind == 'kretprobe' else 'enter'}_{name}" if name else ""

    def target(self, probe: Probe, catalogue: Any) -> tuple[Any, ...]:
        """(category, event)."""
        return probe.name if probe.kind == "tracepoint" else ("syscalls", self._syscall_event(probe))

    def attach(self, kernel: Kernel, program: Program, place: AttachSpec, options: AttachOptions) -> Handles:
        category, event = place.target
        return Handles((tracepoint_event(kernel, program, category, event),))


ATTACHERS = (Tracepoint(),)
