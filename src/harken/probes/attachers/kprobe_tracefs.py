"""``kprobe_tracefs``: an event made through kprobe_events, then treated as a tracepoint (Linux 4.1).

Its name carries the owner, so that what a killed process leaves behind is found and removed at the next start (``kernel.tracefs_dynamic``).
"""

from __future__ import annotations

from ...abi import bpf as abi
from ...base.errors import KernelError
from .base import Base, Handles
from .dynamic import attach_dynamic
from .kprobe_perf import explained, symbol_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...formats.spec import AttachSpec
    from ...kernel.bpf import Program
    from ...kernel.kernel import Kernel
    from ..model import AttachOptions, Probe

__all__ = ("ATTACHERS",)


class KprobeTracefs(Base):
    name = "kprobe_tracefs"
    program_type = abi.BPF_PROG_TYPE_KPROBE
    context = "pt_regs"
    needs = ("kprobe_tracefs",)

    def refuses(self, probe: Probe, catalogue: Any, uses: frozenset[str]) -> str:
        from .tracing import ambiguous

        return ambiguous(probe, catalogue) if probe.name[1] else ""

    def target(self, probe: Probe, catalogue: Any) -> tuple[Any, ...]:
        """(return probe?, symbol or "", offset or address)."""
        return symbol_of(probe)

    def attach(self, kernel: Kernel, program: Program, place: AttachSpec, options: AttachOptions) -> Handles:
        from ...kernel.tracefs_dynamic import kprobe_line

        returns, symbol, offset = place.target
        where = f"{symbol}+{offset}" if symbol and offset else symbol or f"{offset:#x}"

        def line(group: str, name: str) -> str:
            return kprobe_line(group, name, where, "", returns, options.maxactive)

        try:
            return attach_dynamic(kernel, program, line, counted=True)
        except KernelError as error:
            raise explained(error, place.probe) from None


ATTACHERS = (KprobeTracefs(),)
