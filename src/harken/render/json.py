"""Output as NDJSON: one object per line, in bpftrace's form (``-f json``).

Example:
    >>> message("printf", '"hi"')
    '{"type": "printf", "data": "hi"}'
    >>> attached(2)
    '{"type": "attached_probes", "count": 2, "data": {"probes": 2}}'
"""

from __future__ import annotations

from .values import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ("message", "attached", "lost", "warning", "dump")


def message(kind: str, data: str) -> str:
    """One object; ``data`` is JSON already."""
    return f'{{"type": {quote(kind)}, "data": {data}}}'


def attached(count: int) -> str:
    """How many probes are attached."""
    return f'{{"type": "attached_probes", "count": {count}, "data": {{"probes": {count}}}}}'


def lost(count: int, rows: list[tuple[str, str, int]]) -> str:
    """What was lost: the sum, then (kind, subject, count) of each part."""
    parts = [f'{{"kind": {quote(kind)}, "subject": {quote(subject)}, "count": {number}}}' for kind, subject, number in rows]
    return f'{{"type": "lost_events", "data": {{"events": {count}, "losses": [{", ".join(parts)}]}}}}'


def warning(kind: str, text: str, position: str) -> str:
    """A message of the running program about itself (division by zero, ...)."""
    name, line, column = _place(position)
    return (
        f'{{"type": {quote(kind)}, "msg": {quote(text)}, "filename": {quote(name)}, "line": {line}, "col": {column}, '
        f'"data": {quote(text)}}}'
    )


def _place(position: str) -> tuple[str, int, int]:
    """("stdin", 1, 9) of "stdin:1:9-12"; a file's name may contain colons."""
    parts = position.rsplit(":", 2)
    if len(parts) == 3:
        line, column = parts[1], parts[2].split("-")[0]
        if line.isdigit() and column.isdigit():
            return parts[0], int(line), int(column)
    return position, 0, 0


def dump(value: Any) -> str:
    """Plain Python data (dict, list, tuple, str, int, float, bool, None) as JSON.

    >>> dump({"a": [1, "x", None, True]})
    '{"a": [1, "x", null, true]}'
    """
    for kinds, show in _DUMP:
        if isinstance(value, kinds):
            return show(value)
    return quote(str(value))


_DUMP: tuple[tuple[Any, Callable[[Any], str]], ...] = (
    (bool, lambda value: "true" if value else "false"),
    (type(None), lambda _value: "null"),
    ((int, float), repr),
    (str, quote),
    (dict, lambda value: "{" + ", ".join([f"{quote(str(key))}: {dump(item)}" for key, item in value.items()]) + "}"),
    ((list, tuple), lambda value: "[" + ", ".join([dump(item) for item in value]) + "]"),
)
