"""Probes that are defined in tracefs: kprobe_events and uprobe_events.

A dynamic event outlives the process that defined it.  So its group's name carries the owner: PID, start time and PID namespace
(``harken_4711_182637_effffffc``).  ``sweep`` finds events whose owner is gone and removes them; events of living owners, of owners in
other PID namespaces (whose life cannot be judged from here) and of other tools are never touched.

The definition's syntax is the kernel's (Documentation/trace/kprobetrace.rst, uprobetracer.rst); ``kprobe_line`` and ``uprobe_line``
write it.
"""

from __future__ import annotations

import errno

from ..base.errors import KernelError, UsageError
from ..base.record import Record
from .tracefs_owner import Owner, owner_of, owner_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .tracefs import Tracefs

__all__ = (
    "DynamicEvent",
    "write_removal",
    "kprobe_line",
    "uprobe_line",
    "parse_events",
    "defined",
    "add",
    "remove",
    "sweep",
    "parse_profile",
    "profile",
)

_LIMIT = 16 << 20
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")


class DynamicEvent(Record):
    """An event defined in ``file`` ("kprobe_events" or "uprobe_events"); ``definition`` is the whole line as the kernel shows it."""

    file: str
    group: str
    name: str
    definition: str = ""


def _checked(name: str) -> str:
    if not name or not set(name) <= _NAME or name[0].isdigit() or len(name) > 63:
        raise UsageError(f"{name!r} cannot be the name of an event", "letters, digits and _ only, at most 63 of them")
    return name


def kprobe_line(group: str, name: str, place: str, args: str = "", returns: bool = False, maxactive: int = 0) -> str:
    """The definition of a kprobe event.

    Args:
        place: [MODULE:]FUNCTION[+OFFSET] or an address.
        args: fetch arguments in the kernel's syntax.
        maxactive: concurrent calls a return probe can follow; 0 for the kernel's choice.

    Example:
        >>> kprobe_line("g", "e", "vfs_read", "fd=%di:u64", returns=True)
        'r:g/e vfs_read fd=%di:u64'
    """
    kind = f"r{maxactive or ''}" if returns else "p"
    return f"{kind}:{_checked(group)}/{_checked(name)} {_place(place)} {args}".rstrip()


def uprobe_line(group: str, name: str, path: str, offset: int, args: str = "", returns: bool = False, ref_ctr_offset: int = 0) -> str:
    """The definition of a uprobe event: the instruction at a file offset, or the return of the function there.

    Example:
        >>> uprobe_line("g", "e", "/bin/ls", 0x4010, ref_ctr_offset=0x20)
        'p:g/e /bin/ls:0x4010(0x20)'
    """
    counter = f"({ref_ctr_offset:#x})" if ref_ctr_offset else ""
    return f"{'r' if returns else 'p'}:{_checked(group)}/{_checked(name)} {_place(path)}:{offset:#x}{counter} {args}".rstrip()


def _place(text: str) -> str:
    # A blank or newline would start an argument or another command (and the command file is written by root).
    if not text or any(letter.isspace() or letter == "\0" for letter in text):
        raise UsageError(
            f"tracefs cannot probe {text!r}: its commands have no way to write blanks", "use a link without blanks to the file"
        )
    return text


def parse_events(text: str, file: str) -> list[DynamicEvent]:
    """The events of a ``kprobe_events`` or ``uprobe_events`` text.

    Example:
        >>> parse_events("p:g/e vfs_read a=1\\nr4:g/f vfs_write\\n", "kprobe_events")[1].name
        'f'
    """
    found = []
    for line in text.split("\n"):
        head = line.partition(" ")[0]
        kind, colon, full = head.partition(":")
        group, slash, name = full.partition("/")
        if colon and slash and kind[:1] in ("p", "r"):
            found.append(DynamicEvent(file, group, name, line))
    return found


def defined(tracefs: Tracefs) -> list[DynamicEvent]:
    """All kprobe and uprobe events, whoever defined them; empty where the kernel has none."""
    found = []
    for file in ("kprobe_events", "uprobe_events"):
        try:
            found += parse_events(tracefs.kernel.read(tracefs.path(file), _LIMIT).decode("utf-8", "surrogateescape"), file)
        except OSError:
            continue
    return found


def add(tracefs: Tracefs, line: str) -> DynamicEvent:
    """Defines an event from the text of ``kprobe_line`` or ``uprobe_line``.

    Raises:
        KernelError: with the kernel's reason and the place in the definition.
    """
    place = line.split(" ")[1] if " " in line else ""
    file = "uprobe_events" if ":0x" in place and "/" in place else "kprobe_events"
    events = parse_events(line, file)
    if len(events) != 1:
        raise UsageError(f"not the definition of one event: {line!r}")
    # Without append the kernel would first remove every probe there is.
    tracefs.write(file, line + "\n", append=True)
    return events[0]


def remove(tracefs: Tracefs, event: DynamicEvent) -> bool:
    """Removes an event; False if it is in use (EBUSY).  An event that is gone already counts as removed.

    Raises:
        KernelError: any other refusal.
    """
    return write_removal(tracefs, event.file, f"-:{event.group}/{event.name}\n")


def write_removal(tracefs: Tracefs, file: str, line: str) -> bool:
    """Writes the line that removes something; False if that is in use (EBUSY).  What is gone already counts as removed.

    Raises:
        KernelError: any other refusal.
    """
    try:
        tracefs.write(file, line, append=True)
    except KernelError as error:
        if error.errno == errno.EBUSY:
            return False
        if error.errno != errno.ENOENT:
            raise
    return True


def sweep(tracefs: Tracefs) -> list[DynamicEvent]:
    """Removes the events whose harken owner is dead; returns them.  An event that is still in use is left for the next time."""
    removed = []
    states: dict[Owner, str] = {}
    for event in defined(tracefs):
        owner = owner_of(event.group)
        if owner is None:
            continue
        if owner not in states:
            states[owner] = owner_state(tracefs.kernel, owner)
        if states[owner] == "dead":
            try:
                if remove(tracefs, event):
                    removed.append(event)
            except KernelError:
                continue
    return removed


def parse_profile(text: str, uprobes: bool = False) -> dict[str, tuple[int, int | None]]:
    """Events of a ``kprobe_profile`` or ``uprobe_profile`` text: name -> (hits, missed or None where the kernel does not count them).

    uprobe_profile has the path in front; numbers are taken from the end because a path may hold anything.

    Example:
        >>> parse_profile("  myevent      12      3\\n")
        {'myevent': (12, 3)}
        >>> parse_profile("  /bin/a b myevent      12\\n", uprobes=True)
        {'myevent': (12, None)}
    """
    found: dict[str, tuple[int, int | None]] = {}
    for line in text.split("\n"):
        words = line.split()
        numbers: list[int] = []
        while words and words[-1].isdigit() and len(numbers) < (1 if uprobes else 2):
            numbers.insert(0, int(words.pop()))
        if words and numbers:
            found[words[-1]] = (numbers[0], numbers[1] if len(numbers) > 1 else None)
    return found


def profile(tracefs: Tracefs) -> dict[str, tuple[int, int | None]]:
    """Hits and missed hits of all dynamic events by name."""
    found: dict[str, tuple[int, int | None]] = {}
    for file, uprobes in (("kprobe_profile", False), ("uprobe_profile", True)):
        try:
            found.update(parse_profile(tracefs.kernel.read(tracefs.path(file), _LIMIT).decode("utf-8", "surrogateescape"), uprobes))
        except OSError:
            continue
    return found
