"""``kprobe_tracefs``: an event made through kprobe_events, then treated as a tracepoint (Linux 4.1).

Its name carries the owner, so that what a killed process leaves behind is found and removed at the next start (``kernel.tracefs_dynamic``).
"""

from __future__ import annotations

from ...base.errors import KernelError
from .base import Handles
from .dynamic import attach_dynamic
from .kprobe_perf import Kprobe, explained

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...formats.spec import AttachSpec
    from ...kernel.bpf import Program
    from ...kernel.kernel import Kernel
    from ..model import AttachOptions

__all__ = ("ATTACHERS",)


class KprobeTracefs(Kprobe):
    name = "kprobe_tracefs"
    needs = ("kprobe_tracefs",)

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
