"""``run``: BEGIN and END.  The session runs the program itself (BPF_PROG_TEST_RUN of a raw tracepoint program, Linux 5.10), nothing is
attached."""

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


class Run(Base):
    name = "run"
    program_type = abi.BPF_PROG_TYPE_RAW_TRACEPOINT
    context = "raw_tracepoint"
    needs = ("prog_run",)

    def attach(self, kernel: Kernel, program: Program, place: AttachSpec, options: AttachOptions) -> Handles:
        return Handles(())


ATTACHERS = (Run(),)
