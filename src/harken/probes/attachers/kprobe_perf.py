"""``kprobe_perf``: a perf event of the kprobe PMU per function (Linux 4.17); entry, any instruction, or return."""

from __future__ import annotations

from ...abi import bpf as abi
from ...base.errors import KernelError
from .base import Base, Handles, online

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...formats.spec import AttachSpec
    from ...kernel.bpf import Program
    from ...kernel.kernel import Kernel
    from ..model import AttachOptions, Probe

__all__ = ("ATTACHERS", "Kprobe", "explained", "symbol_of")


def symbol_of(probe: Probe) -> tuple[bool, str, int]:
    """(return probe?, "module:function", "function" or "", offset or address) of a kprobe or kretprobe."""
    module, function, offset = probe.name
    return probe.kind == "kretprobe", f"{module}:{function}" if module else function, offset


#: errno of a refused kprobe -> (why, what to do); kernel: kernel/kprobes.c check_kprobe_address_safe, trace_kprobe.c
_REFUSALS = {
    84: ("the offset is in the middle of an instruction", "take the offset of an instruction from a disassembly of the function"),
    22: ("the kernel forbids probes there (notrace, or part of tracing itself)", "probe a function that calls it or is called by it"),
    2: ("there is no such function any more", "its module may have been unloaded: start again"),
    99: ("several functions have this name", "probe one by its address, as /proc/kallsyms tells it"),
}


def explained(error: KernelError, probe: str) -> KernelError:
    """The kernel's refusal of a kprobe in the user's terms."""
    if error.errno not in _REFUSALS:
        return error
    why, hint = _REFUSALS[error.errno]
    return KernelError(f"cannot attach {probe}: {why}", call=error.call, errno=error.errno, hint=hint)


class Kprobe(Base):
    """What mechanisms for a single kprobe share."""

    program_type = abi.BPF_PROG_TYPE_KPROBE
    context = "pt_regs"

    def refuses(self, probe: Probe, catalogue: Any, uses: frozenset[str]) -> str:
        from .tracing import ambiguous

        return ambiguous(probe, catalogue) if probe.name[1] else ""

    def target(self, probe: Probe, catalogue: Any) -> tuple[Any, ...]:
        """(return probe?, symbol or "", offset or address)."""
        return symbol_of(probe)


class KprobePerf(Kprobe):
    name = "kprobe_perf"
    needs = ("kprobe_perf",)

    def attach(self, kernel: Kernel, program: Program, place: AttachSpec, options: AttachOptions) -> Handles:
        from ...kernel.link import perf_event_link
        from ...kernel.perf_event import kprobe, open_event

        returns, symbol, offset = place.target
        attr = kprobe(kernel, symbol, offset, returns)
        try:
            event = open_event(kernel, attr, -1, online(kernel)[0])
        except KernelError as error:
            raise explained(error, place.probe) from None
        try:
            try:
                # the link (Linux 5.15) tells how many hits were missed (6.7)
                link = perf_event_link(kernel, program, event.fd, what=place.probe)
            except KernelError as error:
                if error.errno != 22:  # EINVAL: no such links here
                    raise
                event.set_bpf(program)
                event.enable()
                return Handles((event,))
            event.enable()
        except KernelError:
            event.close()
            raise
        return Handles((link, event), link.missed)


ATTACHERS = (KprobePerf(),)
