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

__all__ = ("ATTACHERS", "symbol_of")


def symbol_of(probe: Probe) -> tuple[bool, str, int]:
    """(return probe?, "module:function", "function" or "", offset or address) of a kprobe or kretprobe."""
    module, function, offset = probe.name
    return probe.kind == "kretprobe", f"{module}:{function}" if module else function, offset


class KprobePerf(Base):
    name = "kprobe_perf"
    program_type = abi.BPF_PROG_TYPE_KPROBE
    context = "pt_regs"
    needs = ("kprobe_perf",)

    def refuses(self, probe: Probe, catalogue: Any, uses: frozenset[str]) -> str:
        from .tracing import ambiguous

        return ambiguous(probe, catalogue) if probe.name[1] else ""

    def target(self, probe: Probe, catalogue: Any) -> tuple[Any, ...]:
        return symbol_of(probe)

    def attach(self, kernel: Kernel, program: Program, place: AttachSpec, options: AttachOptions) -> Handles:
        from ...kernel.link import perf_event_link
        from ...kernel.perf_event import kprobe, open_event

        returns, symbol, offset = place.target
        event = open_event(kernel, kprobe(kernel, symbol, offset, returns), -1, online(kernel)[0])
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
