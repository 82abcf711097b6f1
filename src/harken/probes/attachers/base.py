"""What the attachers share: defaults, and the links that they return."""

from __future__ import annotations

from ...base.errors import KernelError
from ...formats.spec import AttachSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Protocol

    from ...kernel.kernel import Kernel
    from ..model import Probe

    class Closeable(Protocol):
        def close(self) -> None: ...


__all__ = ("Base", "Handles", "batch_name", "online", "per_cpu", "tracepoint_event", "event_id", "NOTHING")

NOTHING: frozenset[str] = frozenset()


class Base:
    """Defaults of an attacher; see ``probes.model.Attacher`` for what each means."""

    name = ""
    program_type = 0
    attach_type = 0
    context = ""
    multi = False
    shares = True
    cookies = False
    needs: tuple[str, ...] = ()
    lacks = NOTHING
    filters_pid = False

    def refuses(self, probe: Probe, catalogue: Any, uses: frozenset[str]) -> str:
        return ""

    def target(self, probe: Probe, catalogue: Any) -> tuple[Any, ...]:
        """``AttachSpec.target`` of one probe."""
        return probe.name

    def places(self, probes: tuple[Probe, ...], catalogue: Any) -> tuple[AttachSpec, ...]:
        return tuple(AttachSpec(probe.text, self.name, self.target(probe, catalogue)) for probe in probes)

    def function(self, probe: Probe) -> str:
        return ""


class Handles:
    """A link made of descriptors: closing them detaches.

    Args:
        handles: closed in this order.
        missed: asks the kernel how many events were missed.
        skipped: what the kernel refused.
    """

    def __init__(
        self,
        handles: Sequence[Closeable],
        missed: Callable[[], int | None] | None = None,
        skipped: tuple[str, ...] = (),
    ) -> None:
        self._handles = list(handles)
        self._missed = missed
        self.skipped = skipped

    def missed(self) -> int | None:
        if self._missed is None or not self._handles:
            return None
        try:
            return self._missed()
        except (KernelError, OSError):
            return None

    def close(self) -> None:
        handles, self._handles = self._handles, []
        for handle in handles:
            handle.close()


def batch_name(probes: tuple[Probe, ...]) -> str:
    """How an attachment of many probes is called."""
    return probes[0].text if len(probes) == 1 else f"{probes[0].text} and {len(probes) - 1} more"


def online(kernel: Kernel) -> tuple[int, ...]:
    """The CPUs that are online."""
    from ...kernel.cpus import cpus_online

    return cpus_online(kernel) or (0,)


def per_cpu(kernel: Kernel, program: Any, attr: Any, cpus: tuple[int, ...]) -> Handles:
    """One perf event per CPU, each with the program; a CPU that went offline meanwhile is left out.

    Raises:
        KernelError: what the kernel refused; nothing stays attached.
    """
    from ...kernel.perf_event import open_event

    events: list[Any] = []
    try:
        for cpu in cpus:
            try:
                event = open_event(kernel, attr, -1, cpu)
            except KernelError as error:
                if error.errno == 19 and len(cpus) > 1:  # ENODEV: the CPU is offline now
                    continue
                raise
            events.append(event)
            event.set_bpf(program)
        for event in events:
            event.enable()
    except KernelError:
        for event in events:
            event.close()
        raise
    return Handles(events)


def event_id(kernel: Kernel, category: str, event: str) -> int:
    """A tracepoint's number; raises KernelError."""
    try:
        return int(kernel.read(f"/sys/kernel/tracing/events/{category}/{event}/id", 64))
    except (OSError, ValueError):
        # not mounted there, not mounted at all, or no such event: this finds out
        from ...kernel.tracefs import find

        return find(kernel).event_id(category, event)


def tracepoint_event(kernel: Kernel, program: Any, category: str, event: str, pid: int = -1) -> Any:
    """The perf event of a tracepoint with a program on it, enabled; raises KernelError.

    ``pid`` has an effect on uprobe events only: there the kernel puts breakpoints into that process alone.
    """
    from ...kernel.perf_event import open_event, tracepoint

    opened = open_event(kernel, tracepoint(event_id(kernel, category, event)), pid, -1 if pid >= 0 else online(kernel)[0])
    try:
        opened.set_bpf(program)
        opened.enable()
    except KernelError:
        opened.close()
        raise
    return opened
