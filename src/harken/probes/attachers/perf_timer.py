"""``perf_timer``: profile on every CPU, interval on one, by the CPU clock's perf events.

``hz`` is the kernel's sampling frequency (at most kernel.perf_event_max_sample_rate), other units are a period in nanoseconds; the
kernel's shortest is 10 us (kernel: perf_swevent_start_hrtimer).
"""

from __future__ import annotations

from ...abi import bpf as abi
from ...abi import perf_event as perf
from ...base.errors import KernelError
from .base import Base, Handles, online, per_cpu

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...formats.spec import AttachSpec
    from ...kernel.bpf import Program
    from ...kernel.kernel import Kernel
    from ..model import AttachOptions, Probe

__all__ = ("ATTACHERS",)

_NANOSECONDS = {"ns": 1, "us": 1000, "ms": 1000_000, "s": 1000_000_000, "m": 60 * 1000_000_000, "h": 3600 * 1000_000_000}


class PerfTimer(Base):
    name = "perf_timer"
    program_type = abi.BPF_PROG_TYPE_PERF_EVENT
    context = "perf_event"
    needs = ("perf_software",)

    def target(self, probe: Probe, catalogue: Any) -> tuple[Any, ...]:
        """(kind, frequency or 0, period in nanoseconds or 0)."""
        unit, number = probe.name
        return (probe.kind, number, 0) if unit == "hz" else (probe.kind, 0, number * _NANOSECONDS[unit])

    def attach(self, kernel: Kernel, program: Program, place: AttachSpec, options: AttachOptions) -> Handles:
        from ...kernel.perf_event import Attr

        kind, freq, period = place.target
        attr = Attr(perf.PERF_TYPE_SOFTWARE, perf.PERF_COUNT_SW_CPU_CLOCK, period=period, freq=freq)
        cpus = online(kernel)
        try:
            return per_cpu(kernel, program, attr, cpus if kind == "profile" else cpus[:1])
        except KernelError as error:
            if freq and error.errno == 22:  # EINVAL
                other = f"{kind}:us:{max(10, 1_000_000 // freq)}"
                error.hint = f"{freq} Hz may be more than kernel.perf_event_max_sample_rate; {other} has no such limit"
            raise


ATTACHERS = (PerfTimer(),)
