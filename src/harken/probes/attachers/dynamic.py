"""Dynamic events of tracefs with a program on them: define, open as a tracepoint, remove at the end."""

from __future__ import annotations

from ...base.errors import KernelError
from .base import Handles, tracepoint_event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ...kernel.kernel import Kernel
    from ...kernel.tracefs import Tracefs
    from ...kernel.tracefs_dynamic import DynamicEvent

__all__ = ("Removal", "attach_dynamic", "fresh_name")

_made = 0


class Removal:
    """Removes the event; it comes after the perf event in the link, because an event in use cannot be removed."""

    def __init__(self, tracefs: Tracefs, event: DynamicEvent) -> None:
        self._tracefs, self._event = tracefs, event

    def close(self) -> None:
        from ...kernel.tracefs_dynamic import remove

        remove(self._tracefs, self._event)


def fresh_name(kernel: Kernel) -> tuple[str, str]:
    """(group, name) for a new event; kprobe_profile shows names without groups, so the name is unique too."""
    global _made
    from ...kernel.tracefs_owner import owner_name

    _made += 1
    group = owner_name(kernel)
    return group, f"{group}_{_made}"


def attach_dynamic(kernel: Kernel, program: Any, line: Callable[[str, str], str], counted: bool) -> Handles:
    """Defines an event and sets the program on it.

    Args:
        line: the definition's text for a group and a name.
        counted: the kernel counts missed hits of this kind of event.

    Raises:
        KernelError: the kernel refused; nothing stays behind.
    """
    from ...kernel.tracefs import find
    from ...kernel.tracefs_dynamic import add, profile, remove

    tracefs = find(kernel)
    group, name = fresh_name(kernel)
    event = add(tracefs, line(group, name))
    try:
        opened = tracepoint_event(kernel, program, event.group, event.name)
    except KernelError:
        remove(tracefs, event)
        raise

    def missed() -> int | None:
        return profile(tracefs).get(name, (0, None))[1]

    return Handles((opened, Removal(tracefs, event)), missed if counted else None)
