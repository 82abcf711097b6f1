"""Leftovers of killed owners in tracefs: the check that every start of a trace makes.

What lives in tracefs outlives ``kill -9``.  ``sweep_leftovers`` looks for harken's names there and removes what belongs to owners that are
dead; it also takes back what they changed of settings that everybody shares.  When there is nothing of harken's, which is the rule, it
costs three reads and imports nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .kernel import Kernel

__all__ = ("sweep_leftovers",)

_ROOTS = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
_JOURNALS = "/run/harken"  # ftrace_journal.DIRECTORY: made when the first shared setting is changed
_LIMIT = 16 << 20


def sweep_leftovers(kernel: Kernel) -> list[str]:
    """Removes dynamic events and instances of dead owners where tracefs is mounted; returns their names.

    Never raises and never mounts: what cannot be looked at now is found by a later start.
    """
    if _names(kernel, _JOURNALS):
        from .ftrace_journal import sweep_journals

        sweep_journals(kernel)
    for root in _ROOTS:
        if not kernel.exists(f"{root}/trace"):
            continue
        found = False
        for file in ("kprobe_events", "uprobe_events"):
            try:
                found = found or b":harken_" in kernel.read(f"{root}/{file}", _LIMIT)
            except OSError:
                continue
        found = found or any([name.startswith("harken_") for name in _names(kernel, f"{root}/instances")])
        return _sweep(kernel, root) if found else []
    return []


def _names(kernel: Kernel, folder: str) -> list[str]:
    try:
        return kernel.listdir(folder)
    except OSError:
        return []


def _sweep(kernel: Kernel, root: str) -> list[str]:
    from .tracefs import Tracefs
    from .tracefs_dynamic import sweep
    from .tracefs_instances import sweep_instances

    tracefs = Tracefs(kernel, root)
    return [f"{event.group}/{event.name}" for event in sweep(tracefs)] + sweep_instances(tracefs)
