"""SQL statements carried out on tracefs: where events are looked up, and how definitions become real."""

from __future__ import annotations

import os
import time

from ..base.errors import KernelError
from ..languages.sqlhist.build import Built

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..formats.event_format import EventFormat
    from ..kernel.tracefs import Tracefs

__all__ = ("Finder", "execute", "new_trace", "number")


def number() -> int:
    """A number that keeps the variables of one statement apart from those of others."""
    return (os.getpid() * 40503 + time.time_ns() // 1000) % 32768


def new_trace(root: Tracefs) -> bool:
    """Whether triggers know ``.trace(EVENT,...)`` (Linux 5.0); before they use the event's name."""
    try:
        return "trace(<synthetic_event>,param list)" in root.read("README")
    except KernelError:
        return True


class Finder:
    """Looks events up in tracefs: by system and name, or by name alone."""

    def __init__(self, root: Tracefs) -> None:
        self.root = root
        self._names: dict[str, str] = {}

    def __call__(self, system: str, name: str) -> EventFormat | None:
        from ..formats.event_format import parse as parse_format

        if not system:
            if not self._names:
                for category, event in self._events():
                    self._names.setdefault(event, category)
            system = self._names.get(name, "")
        if not system or not self.root.has_event(system, name) or "/" in system + name:
            return None
        return parse_format(self.root.event_format(system, name), system)

    def _events(self) -> list[tuple[str, str]]:
        if self.root.exists("available_events"):
            return self.root.events()
        kernel, path = self.root.kernel, self.root.path("events")
        found = []
        for system in sorted(kernel.listdir(path)):
            try:
                found += [(system, event) for event in sorted(kernel.listdir(f"{path}/{system}"))]
            except OSError:
                continue
        return found


def execute(root: Tracefs, built: Built, buffer: str = "") -> None:
    """Does it; nothing of it stays if a part is refused.

    Raises:
        KernelError: with the kernel's reason.
    """
    from ..kernel.ftrace import Ftrace
    from ..kernel.ftrace_synthetic import create, destroy

    trace = Ftrace.named(root, buffer) if buffer else Ftrace.top(root, durable=False)
    made = False
    try:
        if built.end is not None:
            create(root, built.name, built.fields)
            made = True
        trace.add_trigger(*built.start)
        if built.end is not None:
            trace.add_trigger(*built.end)
    except BaseException:
        trace.close()
        if made:
            destroy(root, built.name)
        raise
    trace.keep()
