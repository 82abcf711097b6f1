"""Which events a pattern means, as trace-cmd's ``-e`` has it, and which functions a filter means.

An event pattern is ``SYSTEM:EVENT`` (or with a slash), ``NAME`` (a system or an event), each with shell wildcards, or ``all``.
A function pattern is a glob as the kernel knows it; with other special characters, or with ``^`` before or ``$`` behind it, it is a
regular expression, which is expanded to names.

Example:
    >>> events = [("sched", "sched_switch"), ("sched", "sched_waking"), ("irq", "irq_handler_entry")]
    >>> match_events(events, "sched:*switch"), match_events(events, "irq"), match_events(events, "sched_*")
    ([('sched', 'sched_switch')], [('irq', 'irq_handler_entry')], [('sched', 'sched_switch'), ('sched', 'sched_waking')])
    >>> is_regex("vfs_*"), is_regex("vfs_read$"), is_regex("vfs_(read|write)")
    (False, True, True)
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ..base.errors import ProbeError

__all__ = ("EventList", "match_events", "is_regex", "match_functions", "near_names", "no_histograms", "trigger_hint")

_WILD = frozenset("*?[")
_GLOB = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_*?.[]!:-")


class EventList:
    """The text of ``available_events``: what is asked for by name is looked up in it, without taking it apart.

    Example:
        >>> events = EventList("sched:sched_switch\\nsched:sched_waking\\nirq:irq_handler_entry\\n")
        >>> events.match("sched:sched_waking"), events.match("irq"), events.match("sched_switch"), events.match("*:irq*")
        ([('sched', 'sched_waking')], [('irq', 'irq_handler_entry')], [('sched', 'sched_switch')], [('irq', 'irq_handler_entry')])
        >>> events.whole([("irq", "irq_handler_entry"), ("sched", "sched_switch"), ("sched", "sched_waking")])
        (['sched'], [('irq', 'irq_handler_entry')])
    """

    def __init__(self, text: str) -> None:
        self._text = "\n" + text
        self._pairs: list[tuple[str, str]] | None = None

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(system, event) of all events, in the kernel's order."""
        if self._pairs is None:
            self._pairs = [(line[:at], line[at + 1 :]) for line in self._text.split("\n") if (at := line.find(":")) >= 0]
        return self._pairs

    def match(self, pattern: str) -> list[tuple[str, str]]:
        """As ``match_events``."""
        system, separator, name = pattern.replace("/", ":", 1).partition(":")
        if pattern == "all" or set(pattern) & _WILD or (separator and not (system and name)):
            return match_events(self.pairs, pattern)
        if separator:
            return [(system, name)] if f"\n{system}:{name}\n" in self._text and system != "ftrace" else []
        text, found = self._text, {}
        for word, step in ((f"\n{pattern}:", 1), (f":{pattern}\n", 0)):
            at = text.find(word)
            while at >= 0:
                start = text.rfind("\n", 0, at + step) + 1
                owner, _, event = text[start : text.find("\n", at + 1)].partition(":")
                found[start] = owner, event
                at = text.find(word, at + 1)
        return [found[start] for start in sorted(found) if found[start][0] != "ftrace"]

    def required(self, pattern: str) -> list[tuple[str, str]]:
        """As ``match``.

        Raises:
            ProbeError: there is no such event; the hint has names that look like it.
        """
        found = self.match(pattern)
        if not found:
            from ..base.errors import ProbeError

            near = near_names([event for _, event in self.pairs] + [f"{system}:{event}" for system, event in self.pairs], pattern)
            hint = f"did you mean {' or '.join(near)}?" if near else "'harken trace-cmd list -e' shows all events"
            raise ProbeError(f"no event matches {pattern!r}", hint)
        return found

    def whole(self, chosen: Sequence[tuple[str, str]]) -> tuple[list[str], list[tuple[str, str]]]:
        """Systems all of whose events are chosen, and the chosen events of the other systems: fewer writes enable the same."""
        taken: dict[str, int] = {}
        for system, _ in chosen:
            taken[system] = taken.get(system, 0) + 1
        whole = [system for system, count in taken.items() if count > 1 and count == self._text.count(f"\n{system}:")]
        return whole, [event for event in chosen if event[0] not in whole]


def match_events(events: Sequence[tuple[str, str]], pattern: str) -> list[tuple[str, str]]:
    """The (system, event) pairs that a pattern selects, in their order.  "ftrace" events cannot be enabled and never match wildcards."""
    if pattern in ("all", "*", "*:*"):
        return [event for event in events if event[0] != "ftrace"]
    system, separator, name = pattern.replace("/", ":", 1).partition(":")
    if not separator:
        either = _matcher(pattern)
        return [event for event in events if event[0] != "ftrace" and (either(event[0]) or either(event[1]))]
    systems, names = _matcher(system or "*"), _matcher(name or "*")
    return [event for event in events if systems(event[0]) and event[0] != "ftrace" and names(event[1])]


def _matcher(pattern: str) -> Callable[[str], object]:
    """Whether a text fits a shell pattern."""
    if not set(pattern) & _WILD:  # most patterns are names, and the module takes 10 ms to import
        return pattern.__eq__
    import re
    from fnmatch import translate

    return re.compile(translate(pattern)).match


def is_regex(pattern: str) -> bool:
    """Whether a function pattern is a regular expression rather than a glob."""
    return pattern.startswith("^") or pattern.endswith("$") or not set(pattern) <= _GLOB


def match_functions(functions: Iterable[tuple[str, str]], pattern: str, module: str = "") -> list[str]:
    """The names of functions that a regular expression finds, as regexec(3) would: anywhere in the name.

    Raises:
        UsageError: it is not one.
    """
    import re

    from ..base.errors import UsageError

    try:
        found = re.compile(pattern).search
    except re.error as error:
        raise UsageError(f"{pattern!r} is not a regular expression: {error}") from None
    return list(dict.fromkeys(name for name, owner in functions if (not module or owner == module) and found(name)))


def near_names(names: Iterable[str], wanted: str, limit: int = 3) -> list[str]:
    """Names that look like ``wanted``: those that contain it, or that it contains, or that differ in little; the nearest first.

    Example:
        >>> near_names(["do_sys_openat2", "do_sys_poll", "vfs_read"], "do_sys_open")
        ['do_sys_openat2', 'do_sys_poll']
    """
    from difflib import SequenceMatcher

    scored = []
    matcher = SequenceMatcher(b=wanted)
    # there are 100,000 functions: only those that share some letters in a row are compared
    grams = [wanted[at : at + 3] for at in range(len(wanted) - 2)] if len(wanted) > 5 else [""]
    least, most = len(wanted) * 0.53, len(wanted) * 1.87  # a ratio of 0.7 needs this
    for name in names:
        if name == wanted or not any(gram in name for gram in grams):
            continue
        if wanted in name:
            scored.append((2.0 - (len(name) - len(wanted)) / 100, name))
            continue
        if not least < len(name) < most:
            continue
        matcher.set_seq1(name)
        if matcher.real_quick_ratio() > 0.7 and matcher.quick_ratio() > 0.7:
            ratio = matcher.ratio()
            if ratio > 0.7:
                scored.append((ratio, name))
    scored.sort(key=lambda pair: (-pair[0], pair[1]))
    return [name for _, name in scored[:limit]]


TRIGGERS = "traceon traceoff snapshot stacktrace enable_event disable_event enable_hist disable_hist hist".split()


def trigger_hint(trigger: str) -> str:
    """What to say about a trigger that the kernel refuses without a reason; "" if its name is right.

    Example:
        >>> trigger_hint("stacktrase:5 if pid > 1")
        "there is no trigger 'stacktrase'; did you mean stacktrace?"
    """
    name = trigger.removeprefix("!").partition(":")[0].partition(" ")[0]
    if name in TRIGGERS:
        return ""
    near = near_names(TRIGGERS, name)
    return f"there is no trigger {name!r}; " + (f"did you mean {' or '.join(near)}?" if near else f"there are {' '.join(TRIGGERS)}")


def no_histograms() -> ProbeError:
    """The error of a kernel without histogram triggers."""
    from ..base.errors import ProbeError

    return ProbeError(
        "this kernel has no histogram triggers",
        "they come with CONFIG_HIST_TRIGGERS; a program counts the same: harken -e 'tracepoint:SYSTEM:EVENT { @[args.FIELD] = count() }'",
    )
