"""``raw_tracepoint``: BPF_RAW_TRACEPOINT_OPEN (Linux 4.17).  ctx is an array of the arguments, each widened to 64 bits."""

from __future__ import annotations

from ...abi import bpf as abi
from .base import Base, Handles

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...formats.spec import AttachSpec
    from ...kernel.bpf import Program
    from ...kernel.kernel import Kernel
    from ..model import AttachOptions

__all__ = ("ATTACHERS",)


class RawTracepoint(Base):
    name = "raw_tracepoint"
    program_type = abi.BPF_PROG_TYPE_RAW_TRACEPOINT
    context = "raw_tracepoint"
    needs = ("raw_tracepoint",)

    def attach(self, kernel: Kernel, program: Program, place: AttachSpec, options: AttachOptions) -> Handles:
        from ...kernel.link import raw_tracepoint_open

        return Handles((raw_tracepoint_open(kernel, program, place.target[0]),))


ATTACHERS = (RawTracepoint(),)
