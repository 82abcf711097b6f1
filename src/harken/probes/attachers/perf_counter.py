"""``perf_software`` and ``perf_hardware``: a program at every Nth event of a counter, on every CPU."""

from __future__ import annotations

from ...abi import bpf as abi
from ...abi import perf_event as perf
from .base import Base, Handles, online, per_cpu

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...formats.spec import AttachSpec
    from ...kernel.bpf import Program
    from ...kernel.kernel import Kernel
    from ..model import AttachOptions, Probe

__all__ = ("ATTACHERS",)


class PerfCounter(Base):
    program_type = abi.BPF_PROG_TYPE_PERF_EVENT
    context = "perf_event"

    def __init__(self, name: str, kind: int) -> None:
        self.name, self.kind, self.needs = name, kind, (name,)

    def target(self, probe: Probe, catalogue: Any) -> tuple[Any, ...]:
        """(config, period)."""
        from ...kernel.perf_event_names import find_event

        name, period = probe.name
        event = find_event(name)
        assert event is not None  # the provider accepts only names of the same table
        return (event.config, period)

    def attach(self, kernel: Kernel, program: Program, place: AttachSpec, options: AttachOptions) -> Handles:
        from ...kernel.perf_event import Attr

        config, period = place.target
        return per_cpu(kernel, program, Attr(self.kind, config, period=period), online(kernel))


ATTACHERS = (PerfCounter("perf_software", perf.PERF_TYPE_SOFTWARE), PerfCounter("perf_hardware", perf.PERF_TYPE_HARDWARE))
