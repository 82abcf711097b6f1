"""What ``report -F`` makes of filters: whether they can mean anything in a recording, and their text for each event (``-T``).

Example:
    >>> from harken.formats.event_format import parse
    >>> event = parse('name: x\\nID: 7\\nformat:\\n\\tfield:int a;\\toffset:8;\\tsize:4;\\tsigned:1;\\n\\nprint fmt: ""', "sys")
    >>> from .filters import Filter
    >>> shown(Filter("x: a > 3 && !(b == 1)").tree, event), shown(Filter("x: b == 3 || a == 1").tree, event)
    ('a > 3', 'a == 1')
    >>> shown(Filter("x: b == 3").tree, event), shown(None, event)
    ('FALSE', 'TRUE')
"""

from __future__ import annotations

import sys

from ...base.errors import UsageError
from .filters import ALWAYS, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ...formats.event_format import EventFormat
    from ...formats.trace_dat import TraceFile
    from .filters import Filter

__all__ = ("check", "lines", "shown")

_COMPARISONS = frozenset("== != < <= > >=".split())


def check(filters: list[Filter], traces: list[TraceFile]) -> None:
    """Looks whether each filter names events that a recording describes, and fields that they have; warns of unknown fields.

    Raises:
        UsageError: an event that is in none of the recordings, or a text without quotes.
    """
    for item in filters:
        about: list[EventFormat] = []
        for name in item.names:
            found = [
                event for trace in traces for number in trace.events.ids if (event := trace.events.get(number)) and name.matches(event)
            ]
            if not found:
                raise UsageError(f"no event of the recording is called {name.text!r}", _near(name.text, traces))
            about += found
        fields = ALWAYS | {field.name for event in about for field in event.fields}
        for word, compared in _names(item.tree):
            if word in fields:
                continue
            if compared:
                raise UsageError(f"{word!r} in the filter {item.text!r} is no field of its events", f'a text stands in quotes: "{word}"')
            print(
                f"WARNING: none of the events of the filter {item.text!r} has a field {word!r}: what is said of it is false",
                file=sys.stderr,
            )


def _near(word: str, traces: list[TraceFile]) -> str:
    from ...kernel.ftrace_events import near_names

    known = [part for trace in traces for name in trace.events.names for part in name.split(":")]
    near = near_names(list(dict.fromkeys(known)), word.rpartition("/")[2])
    return f"did you mean {near[0]}?" if near else "'report -E' lists the events that it describes; names are regular expressions"


def _names(tree: Any) -> Iterator[tuple[str, bool]]:
    """The fields of a filter, and whether each stands on the right side of a comparison."""
    if tree is None or tree[0] in ("num", "str"):
        return
    if tree[0] == "name":
        yield tree[1], False
        return
    for place, side in enumerate(tree[1:]):
        for name, compared in _names(side):
            yield name, compared or (place == 1 and side[0] == "name" and tree[0] in _COMPARISONS)


def lines(filters: list[Filter], trace: TraceFile) -> Iterator[str]:
    """What each filter is for each event that it is about, as ``-T`` prints it."""
    for number in reversed(trace.events.ids):
        event = trace.events.get(number)
        about = [item for item in filters if event is not None and item.matches(event)]
        if event is not None and about:
            yield f" '{event.name}: {shown(about[-1].tree, event)}'"


def shown(tree: Any, event: EventFormat) -> str:
    """An expression as it is for one event: what compares fields that it lacks is FALSE."""
    found = _for(tree, {field.name for field in event.fields} | ALWAYS) if tree is not None else True
    return ("TRUE" if found else "FALSE") if isinstance(found, bool) else show(found, False)


def _for(tree: Any, fields: set[str] | frozenset[str]) -> Any:
    """The tree without what is known: True, False, or what is left."""
    kind = tree[0]
    if kind == "!":
        inner = _for(tree[1], fields)
        return not inner if isinstance(inner, bool) else (kind, inner)
    if kind not in ("&&", "||"):
        return tree if all(word in fields for word, _ in _names(tree)) else False
    left, right = (_for(side, fields) for side in tree[1:])
    decides = kind == "||"
    if left is decides or right is decides:
        return decides
    return right if isinstance(left, bool) else left if isinstance(right, bool) else (kind, left, right)
