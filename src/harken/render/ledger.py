"""The loss ledger as text: what was lost, where, and which knob to turn.

Example:
    >>> print("\\n".join(ledger_lines([("ring", "printf at stdin:1:9-20", 3)])))
    WARNING: lost 3 events of printf at stdin:1:9-20: the buffer was full
    HINT: events come faster than they can be shown: filter or aggregate them in the program, or enlarge the buffer (config perf_rb_pages)
"""

from __future__ import annotations

__all__ = ("ledger_lines", "KINDS")

#: kind: (what happened, the knob)
KINDS: dict[str, tuple[str, str]] = {
    "ring": (
        "lost {count} event{s} of {subject}: the buffer was full",
        "events come faster than they can be shown: filter or aggregate them in the program, or enlarge the buffer (config perf_rb_pages)",
    ),
    "perfbuf": (
        "lost {count} event{s} on {subject}: the per-CPU buffer was full",
        "events come faster than they can be shown: filter or aggregate them in the program, or enlarge the buffer (config perf_rb_pages)",
    ),
    "map": (
        "{count} update{s} of map {subject} did not fit: it is full",
        "allow more keys (config max_map_keys), delete keys that are no longer needed, or use fewer different keys",
    ),
    "scratch": (
        "{count} event{s} skipped because no scratch memory was free (nested probes)",
        "probe fewer places that interrupt one another, or use shorter strings (config max_strlen)",
    ),
    "stack": (
        "{count} {subject}{s} could not be taken: all of the kernel's memory for walking stacks was in use",
        "probe fewer places that interrupt one another, or take stacks in fewer of them",
    ),
    "cut": (
        "{count} {subject}{s} shown are deeper than what the kernel gives: the outermost frames are missing",
        "raise sysctl kernel.perf_event_max_stack while nothing is traced, then name a limit: kstack(512)",
    ),
    "truncated": (
        "{count} stack{s} of {subject} go on beyond the copied part: the outermost frames are missing",
        "copy more of the stack: config user_stack_bytes (28672 at most)",
    ),
    "lost": (
        "{count} stack{s} of {subject} could not be followed to the end: nothing describes the code there",
        "code that is made at run time, or a file without call frame information (.eh_frame); ustack follows frame pointers instead",
    ),
    "late": (
        "{count} process{es} had no Python frames at first: they were met before it was known that they run CPython",
        "stacks of their first moments are empty; nothing is to be done",
    ),
    "threads": (
        "{count} {subject}{s} could not be taken: the process has more than 256 threads",
        "nothing is to be done",
    ),
    "reused": (
        "{count} code object{s} of {subject} gave way to others at the same place: names of stacks counted before may be the new ones'",
        "print such stacks as they come instead of keeping them in maps",
    ),
    "mappings": (
        "{count} mapping record{s} lost ({subject}): stacks of processes that have ended may show addresses instead of names",
        "too many processes started at once: trace one process (-p, -c), or print stacks as they come instead of keeping them in maps",
    ),
    "missed": (
        "{count} hit{s} of {subject} missed by the kernel",
        "the kernel had no free instance for the probe or met it inside another one: probe fewer or less busy functions",
    ),
    "recursion": (
        "{count} run{s} of {subject} skipped: a program was already running on that CPU",
        "the kernel does not nest such programs: events that happen inside of another probe are not seen",
    ),
    "waiting": (
        "{count} event{s} dropped because nobody took them from {subject}",
        "iterate while the trace runs, or let more of them wait (keep=...)",
    ),
    "unread": (
        "{count} record{s} could not be understood ({subject})",
        "this is a fault of harken: please report it",
    ),
}


def ledger_lines(losses: list[tuple[str, str, int]]) -> list[str]:
    """Lines for the end of a session; none if nothing was lost.

    Args:
        losses: (kind, subject, count) in the order in which they are told.
    """
    lines: list[str] = []
    hint = ""
    for kind, subject, count in losses:
        if not count:
            continue
        text, knob = KINDS.get(kind, ("{count} {kind} lost ({subject})", ""))
        if hint and knob != hint:
            lines.append(f"HINT: {hint}")
        hint = knob
        lines.append(
            "WARNING: " + text.format(count=count, s="" if count == 1 else "s", es="" if count == 1 else "es", subject=subject, kind=kind)
        )
    if hint:
        lines.append(f"HINT: {hint}")
    return lines
