"""``uprobe_multi``: one link for any number of places of one file (Linux 6.6), with a PID filter and USDT semaphores."""

from __future__ import annotations

from ...abi import bpf as abi
from ...formats.spec import AttachSpec
from .base import Base, Handles, batch_name
from .uprobe_perf import place_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...kernel.bpf import Program
    from ...kernel.kernel import Kernel
    from ..model import AttachOptions, Probe

__all__ = ("ATTACHERS",)


class UprobeMulti(Base):
    name = "uprobe_multi"
    program_type = abi.BPF_PROG_TYPE_KPROBE
    attach_type = abi.BPF_TRACE_UPROBE_MULTI
    context = "pt_regs"
    multi = True
    needs = ("uprobe_multi",)
    filters_pid = True

    def places(self, probes: tuple[Probe, ...], catalogue: Any) -> tuple[AttachSpec, ...]:
        """One batch per file and direction: (return probes?, path, file offsets, file offsets of semaphores or ())."""
        batches: dict[tuple[bool, str], list[Probe]] = {}
        for probe in probes:
            batches.setdefault(place_of(probe)[:2], []).append(probe)
        made = []
        for (returns, path), batch in batches.items():
            found = [place_of(probe) for probe in batch]
            semaphores = tuple(semaphore for _, _, _, semaphore in found)
            target = (returns, path, tuple(offset for _, _, offset, _ in found), semaphores if any(semaphores) else ())
            made.append(AttachSpec(batch_name(tuple(batch)), self.name, target))
        return tuple(made)

    def attach(self, kernel: Kernel, program: Program, place: AttachSpec, options: AttachOptions) -> Handles:
        from ...kernel.link import uprobe_multi_link

        returns, path, offsets, semaphores = place.target
        return Handles((uprobe_multi_link(kernel, program, path, offsets, semaphores, pid=max(options.pid, 0), retprobe=returns),))


ATTACHERS = (UprobeMulti(),)
