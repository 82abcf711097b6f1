"""``uprobe_tracefs``: an event made through uprobe_events, then treated as a tracepoint (Linux 4.3).

Its name carries the owner, so that what a killed process leaves behind is found and removed at the next start (``kernel.tracefs_dynamic``).
"""

from __future__ import annotations

from ...abi import bpf as abi
from .base import Base, Handles
from .dynamic import attach_dynamic
from .uprobe_perf import place_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...formats.spec import AttachSpec
    from ...kernel.bpf import Program
    from ...kernel.kernel import Kernel
    from ..model import AttachOptions, Probe

__all__ = ("ATTACHERS",)


class UprobeTracefs(Base):
    name = "uprobe_tracefs"
    program_type = abi.BPF_PROG_TYPE_KPROBE
    context = "pt_regs"
    needs = ("uprobe_tracefs",)

    def refuses(self, probe: Probe, catalogue: Any, uses: frozenset[str]) -> str:
        if any(char.isspace() for char in place_of(probe)[1]):
            return "tracefs cannot write a path with blanks"
        return ""

    def target(self, probe: Probe, catalogue: Any) -> tuple[Any, ...]:
        return place_of(probe)

    def attach(self, kernel: Kernel, program: Program, place: AttachSpec, options: AttachOptions) -> Handles:
        from ...kernel.tracefs_dynamic import uprobe_line

        returns, path, offset, semaphore = place.target
        return attach_dynamic(
            kernel, program, lambda group, name: uprobe_line(group, name, path, offset, "", returns, semaphore), counted=False
        )


ATTACHERS = (UprobeTracefs(),)
