"""``uprobe_tracefs``: one event of uprobe_events for any number of places, then treated as a tracepoint (Linux 4.3; many places: 5.4).

The kernel takes several places under one event's name, in any files.  So one descriptor serves all of them, and closing it costs the
one wait for all CPUs (some 100 ms) that every perf event costs: for many places without ``uprobe_multi`` this is the fast way.

The event's name carries the owner, so that what a killed process leaves behind is found and removed at the next start
(``kernel.tracefs_dynamic``).
"""

from __future__ import annotations

import errno

from ...abi import bpf as abi
from ...base.errors import KernelError
from ...formats.spec import AttachSpec
from .base import Base, Handles, batch_name, tracepoint_event
from .dynamic import Removal, fresh_name
from .uprobe_perf import explained, place_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...kernel.bpf import Program
    from ...kernel.kernel import Kernel
    from ...kernel.tracefs import Tracefs
    from ..model import AttachOptions, Probe

    Place = tuple[str, int, int]

__all__ = ("ATTACHERS",)

#: Bytes of definitions per write: the kernel takes a page at a time and would cut a longer line.
_WRITE = 3500


class UprobeTracefs(Base):
    name = "uprobe_tracefs"
    program_type = abi.BPF_PROG_TYPE_KPROBE
    context = "pt_regs"
    multi = True
    needs = ("uprobe_tracefs",)
    filters_pid = True

    def refuses(self, probe: Probe, catalogue: Any, uses: frozenset[str]) -> str:
        if any(char.isspace() for char in place_of(probe)[1]):
            return "tracefs cannot write a path with blanks"
        return ""

    def places(self, probes: tuple[Probe, ...], catalogue: Any) -> tuple[AttachSpec, ...]:
        """One batch per direction: (return probes?, ((path, file offset, file offset of the semaphore or 0), ...))."""
        batches: dict[bool, list[Probe]] = {}
        for probe in probes:
            batches.setdefault(place_of(probe)[0], []).append(probe)
        return tuple(
            AttachSpec(batch_name(tuple(batch)), self.name, (returns, tuple(place_of(probe)[1:] for probe in batch)))
            for returns, batch in batches.items()
        )

    def attach(self, kernel: Kernel, program: Program, place: AttachSpec, options: AttachOptions) -> Handles:
        from ...kernel.tracefs import find

        returns, where = place.target
        tracefs = find(kernel)
        events: list[Any] = []
        removals: list[Removal] = []
        try:
            left = tuple(where)
            while left:
                event, left = _define(tracefs, returns, left)
                removals.append(Removal(tracefs, event))
                events.append(tracepoint_event(kernel, program, event.group, event.name, options.pid))
        except KernelError as error:
            for handle in (*events, *removals):
                handle.close()
            raise explained(error, place.probe) from None
        # an event in use cannot be removed: descriptors first
        return Handles((*events, *removals))


def _define(tracefs: Tracefs, returns: bool, places: tuple[Place, ...]) -> tuple[Any, tuple[Place, ...]]:
    """Defines an event at as many of the places as the kernel takes under one name; returns it and the places that are left."""
    from ...kernel.tracefs_dynamic import DynamicEvent, remove, uprobe_line

    group, name = fresh_name(tracefs.kernel)
    event = DynamicEvent("uprobe_events", group, name)
    lines = [uprobe_line(group, name, path, offset, "", returns, semaphore) + "\n" for path, offset, semaphore in places]
    done = 0
    try:
        while done < len(lines):
            text, taken = lines[done], 1
            while done and done + taken < len(lines) and len(text) + len(lines[done + taken]) <= _WRITE:
                text += lines[done + taken]
                taken += 1
            tracefs.write("uprobe_events", text, append=True)
            done += taken
    except KernelError as error:
        if done == 1 and error.errno == errno.EEXIST:
            return event, places[1:]  # one place per event: a kernel before 5.4
        if done:
            remove(tracefs, event)
        raise
    return event, ()


ATTACHERS = (UprobeTracefs(),)
