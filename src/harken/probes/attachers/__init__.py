"""Ways to get a program run at a probe: one file per mechanism, imported when it is used.

``ATTACHERS[name]`` is the attacher; ``attach(kernel, program, place, options)`` is all that a session needs.  What an attachment needs
to know is complete in ``AttachSpec.target``, so that starting from the cache of compiled programs needs no catalogue.

==================  =====================================================================================  =================
mechanism           how                                                                                    ctx
==================  =====================================================================================  =================
``tracepoint``      perf event of the tracepoint with a program set on it (Linux 4.7)                       tracepoint
``raw_tracepoint``  BPF_RAW_TRACEPOINT_OPEN (4.17)                                                          raw_tracepoint
``tp_btf``          the same with a program bound to the tracepoint at load, typed arguments (5.5)          tracing
``fentry``          BPF trampoline at a function's entry (5.5)                                              tracing
``fexit``           BPF trampoline at its return (5.5)                                                      tracing
``kprobe_multi``    one link for many functions (5.18)                                                      pt_regs
``kprobe_perf``     perf event of the kprobe PMU, one per function (4.17)                                   pt_regs
``kprobe_tracefs``  event made through kprobe_events, then as a tracepoint (4.1)                            pt_regs
``uprobe_multi``    one link for many places of one file (6.6)                                              pt_regs
``uprobe_perf``     perf event of the uprobe PMU, one per place (4.17)                                      pt_regs
``uprobe_tracefs``  event made through uprobe_events, then as a tracepoint (4.3)                            pt_regs
``perf_timer``      CPU clock events: on every CPU (profile) or one (interval)                              perf_event
``perf_software``   the kernel's software counters, on every CPU                                            perf_event
``perf_hardware``   the CPU's counters, on every CPU                                                        perf_event
``run``             the session runs the program itself (BEGIN, END)                                        raw_tracepoint
==================  =====================================================================================  =================
"""

from __future__ import annotations

from ...base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..model import Attacher

__all__ = ("ATTACHERS", "AttachOptions")

#: mechanism -> module
_TABLE = {
    "tracepoint": "tracepoint",
    "raw_tracepoint": "raw_tracepoint",
    "tp_btf": "tracing",
    "fentry": "tracing",
    "fexit": "tracing",
    "kprobe_multi": "kprobe_multi",
    "kprobe_perf": "kprobe_perf",
    "kprobe_tracefs": "kprobe_tracefs",
    "uprobe_multi": "uprobe_multi",
    "uprobe_perf": "uprobe_perf",
    "uprobe_tracefs": "uprobe_tracefs",
    "perf_timer": "perf_timer",
    "perf_software": "perf_counter",
    "perf_hardware": "perf_counter",
    "run": "run",
}


class AttachOptions(Record):
    """Choices of the session for all attachments.

    ``pid`` filters where the mechanism itself can (uprobes, perf events), -1 for all.  ``maxactive``: how many calls a return probe
    follows at once, where the mechanism has such a limit and lets it be set; 0 for the kernel's choice.
    """

    pid: int = -1
    maxactive: int = 0


class _Attachers:
    """A read-only mapping that imports an attacher when it is asked for."""

    def __init__(self) -> None:
        self._loaded: dict[str, Attacher] = {}

    def __getitem__(self, name: str) -> Attacher:
        found = self._loaded.get(name)
        if found is None:
            module = __import__(f"{__name__}.{_TABLE[name]}", fromlist=("ATTACHERS",))
            for attacher in module.ATTACHERS:
                self._loaded[attacher.name] = attacher
            found = self._loaded[name]
        return found

    def __contains__(self, name: object) -> bool:
        return name in _TABLE

    def __iter__(self) -> Iterator[str]:
        return iter(_TABLE)

    def __len__(self) -> int:
        return len(_TABLE)

    def keys(self) -> Iterator[str]:
        return iter(_TABLE)


ATTACHERS = _Attachers()
