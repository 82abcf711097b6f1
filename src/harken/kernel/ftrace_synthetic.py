"""Synthetic events: events that histogram triggers make of others (Documentation/trace/histogram.rst).

They exist once for all instances and outlive whoever made them.  ``create`` defines one that stays; ``Ftrace.synthetic`` notes it in the
journal, so that it goes with the buffer, or at the next start of harken if that is killed.
"""

from __future__ import annotations

import errno

from ..base.errors import KernelError, UsageError
from ..base.record import Record
from .tracefs_dynamic import write_removal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .tracefs import Tracefs

__all__ = ("SyntheticEvent", "check", "create", "defined", "definition", "destroy", "parse_synthetic")

_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")


class SyntheticEvent(Record):
    """An event ``synthetic:NAME``; ``fields`` as they are defined: "pid_t pid; u64 lat;"."""

    name: str
    fields: str


def parse_synthetic(text: str) -> list[SyntheticEvent]:
    """The events of a ``synthetic_events`` text.

    Example:
        >>> parse_synthetic("lat\\tpid_t pid; u64 lat\\nother u32 x\\n")
        [SyntheticEvent(name='lat', fields='pid_t pid; u64 lat'), SyntheticEvent(name='other', fields='u32 x')]
    """
    found = []
    for line in text.split("\n"):
        words = line.split(None, 1)
        if words and not line.startswith("#"):
            found.append(SyntheticEvent(words[0], words[1].strip() if len(words) > 1 else ""))
    return found


def defined(root: Tracefs) -> list[SyntheticEvent]:
    """All synthetic events, whoever made them; empty where the kernel has none."""
    try:
        return parse_synthetic(root.read("synthetic_events"))
    except KernelError:
        return []


def definition(root: Tracefs, name: str, fields: str) -> tuple[str, str, str]:
    """(file, line that defines an event, line that removes it): ``dynamic_events`` since Linux 5.0, ``synthetic_events`` before.

    Raises:
        UsageError: the name or the fields cannot be written.
    """
    if not name or not set(name) <= _NAME or name[0].isdigit():
        raise UsageError(f"{name!r} cannot be the name of an event", "letters, digits and _ only")
    text = " ".join(fields.split())
    if not text:
        raise UsageError(f"the synthetic event {name} has no fields", "such as 'pid_t pid; u64 lat'")
    if root.exists("dynamic_events"):
        return "dynamic_events", f"s:{name} {text}", f"-:synthetic/{name}"
    return "synthetic_events", f"{name} {text}", f"!{name}"


def check(root: Tracefs, name: str) -> None:
    """Raises what stands against an event of this name.

    Raises:
        KernelError: the kernel has no synthetic events, or one of this name.
    """
    if not root.exists("synthetic_events"):
        raise KernelError(
            "this kernel has no synthetic events", errno=errno.ENOENT, hint="they come with CONFIG_SYNTH_EVENTS; 'harken doctor' tells more"
        )
    if any(event.name == name for event in defined(root)):
        raise KernelError(f"there is a synthetic event {name} already", errno=errno.EEXIST, hint="choose another name")


def create(root: Tracefs, name: str, fields: str) -> SyntheticEvent:
    """Defines an event that stays.

    Raises:
        KernelError: with the kernel's reason and the place in the definition.
        UsageError: it cannot be written.
    """
    file, line, _ = definition(root, name, fields)
    check(root, name)
    root.write(file, line, append=True)
    return SyntheticEvent(name, fields)


def destroy(root: Tracefs, name: str) -> bool:
    """Removes an event; False if it is in use.  One that is gone already counts as removed.

    Raises:
        KernelError: any other refusal.
    """
    file, line = ("dynamic_events", f"-:synthetic/{name}") if root.exists("dynamic_events") else ("synthetic_events", f"!{name}")
    return write_removal(root, file, line)
