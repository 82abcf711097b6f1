"""Maps as text and as JSON, in bpftrace's order and layout.

Order: numbers ascending by value, averages by average, histograms by total count, everything else by key (first component most
significant); equal ones by key.  ``top`` keeps the last rows of that order, ``divisor`` divides what is shown.

Example:
    >>> from harken.base.schema import Field, Schema
    >>> layout = Layout("@", "count", Schema("key", 16, (Field("a", 0, "s", 16),)), Schema("value", 8, (Field("v", 0, "Q"),)))
    >>> print(layout.text([(("ls",), 7), (("cat",), 2)]), end="")
    @[cat]: 2
    @[ls]: 7
    >>> layout.json([(("ls",), 7), (("cat",), 2)])
    '{"type": "map", "data": {"@": {"cat": 2, "ls": 7}}}'
"""

from __future__ import annotations

from ..analysis.aggregate import divide, rank
from .values import key_json, key_text, quote, row_json, row_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..base.schema import Schema

    Row = tuple[tuple[Any, ...], Any]

__all__ = ("Layout", "ordered")


def ordered(rows: list[Row], by_value: bool) -> list[Row]:
    """Rows in the order in which maps are printed.

    Args:
        rows: (key, value) pairs.
        by_value: whether the values have an order that matters to the reader.
    """
    if by_value:
        return sorted(rows, key=lambda row: (rank(row[1]), _comparable(row[0])))
    return sorted(rows, key=lambda row: _comparable(row[0]))


def _comparable(value: Any) -> Any:
    """Keys of one map have one layout, so they compare as they are."""
    return value


class Layout:
    """How one map is shown: made once, used for every print.

    Args:
        name: what the user calls the map ("@reads").
        kind: the aggregation ("value", "count", "hist", ...).
        key, value: layouts of key and value; a scalar map's key has no fields.
    """

    def __init__(self, name: str, kind: str, key: Schema, value: Schema) -> None:
        self.name, self.kind, self.scalar = name, kind, not key.fields
        self._key_text, self._key_json = key_text(key), key_json(key)
        field = value.fields[0] if len(value.fields) == 1 else None
        plain = field is not None and field.count == 1 and field.kind in "bBhHiIqQ" and field.role in ("", "enum")
        self._by_value = kind != "value" or plain
        if kind == "value":
            self._text: Callable[[Any], str] = row_text(value)
            self._json: Callable[[Any], str] = row_json(value)
        else:
            self._text, self._json = _SHOW.get(kind, (str, str))

    def rows(self, rows: list[Row], top: int = 0, divisor: int = 0) -> list[Row]:
        """Rows as they are printed: ordered, the last ``top`` of them (0: all), divided."""
        rows = ordered(rows, self._by_value)
        if top > 0:
            rows = rows[-top:]
        if divisor > 1 and self.kind == "value":
            return [(key, tuple([divide(item, divisor) for item in value])) for key, value in rows]
        return [(key, divide(value, divisor)) for key, value in rows] if divisor > 1 else rows

    def text(self, rows: list[Row], top: int = 0, divisor: int = 0) -> str:
        """All lines; "" for an empty map."""
        parts = []
        histogram = self.kind in ("hist", "lhist")
        for key, value in self.rows(rows, top, divisor):
            head = self.name if self.scalar else f"{self.name}[{self._key_text(key)}]"
            if histogram:
                parts.append(f"{head}:\n{self._text(value)}\n")
            else:
                parts.append(f"{head}: {self._text(value)}\n")
        return "".join(parts)

    def json(self, rows: list[Row], top: int = 0, divisor: int = 0) -> str:
        """One object without a line end; "" for an empty map."""
        rows = self.rows(rows, top, divisor)
        if not rows:
            return ""
        if self.scalar:
            data = self._json(rows[0][1])
        else:
            data = "{" + ", ".join([f"{self._key_json(key)}: {self._json(value)}" for key, value in rows]) + "}"
        kind = {"hist": "hist", "lhist": "hist", "avg": "stats", "stats": "stats"}.get(self.kind, "map")
        return f'{{"type": "{kind}", "data": {{{quote(self.name)}: {data}}}}}'


def _stats_text(value: Any) -> str:
    return f"{{ .count = {value.count}, .average = {value.average}, .total = {value.total} }}"


def _stats_json(value: Any) -> str:
    return f'{{"count": {value.count}, "average": {value.average}, "total": {value.total}}}'


def _average(value: Any) -> str:
    return str(value.average)


def _histogram_text(value: Any) -> str:
    from .histogram import histogram_lines

    return "".join([line + "\n" for line in histogram_lines(value)])


def _histogram_json(value: Any) -> str:
    from .histogram import histogram_json

    return histogram_json(value)


_SHOW: dict[str, tuple[Callable[[Any], str], Callable[[Any], str]]] = {
    "avg": (_average, _average),
    "stats": (_stats_text, _stats_json),
    "hist": (_histogram_text, _histogram_json),
    "lhist": (_histogram_text, _histogram_json),
}
