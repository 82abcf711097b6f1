"""Sink: where a program's output goes.

A session turns each record of the ring into an *item* and hands items on in batches.  What an item is, the sink decides: a line of
text, a JSON object, a Python value.  For the two actions that may come a million times a second (printf, print of a value) the sink
makes a function from the record's bytes to an item, once per event of the program; the others are calls.

``Collect`` keeps items in a list and serves as the simplest example.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..base.schema import Buffer
    from ..compiler.unit import Event, Table

    Handler = Callable[[Buffer, int], object]
    Bulk = Callable[[memoryview, range], list[object]]

__all__ = ("Sink", "Collect")


class Sink:
    """What a session needs; every method may be overridden.  ``None`` as an item means: nothing to show."""

    def attached(self, count: int) -> None:
        """``count`` probes are attached; events may follow."""

    def printf(self, event: Event) -> Handler:
        """A function from a printf record to an item."""
        return self.value(event)

    def value(self, event: Event) -> Handler:
        """A function from a ``print(value)`` record to an item."""
        decode = event.schema.decoder()
        return lambda buffer, start: (event.action, decode(buffer, start))

    def bulk(self, event: Event) -> Bulk | None:
        """A function from many records of one length (a buffer, their starts) to their items, if that is faster."""
        return None

    def table(self, table: Table, rows: list[Any], top: int, divisor: int) -> object:
        """``print(@map, top, divisor)``: rows are (key, value) pairs."""
        return (table.name, rows)

    def text(self, kind: str, text: str) -> object:
        """Output of ``time``, ``join``, ``cat`` and ``system``."""
        return (kind, text)

    def warning(self, kind: str, message: str, position: str) -> object:
        """The running program met a problem (a division by zero, a file that cannot be read)."""
        return (kind, message)

    def emit(self, items: list[object]) -> None:
        """Takes a batch of items in order."""

    def maps(self, tables: list[tuple[Table, list[Any]]]) -> None:
        """The final maps, after everything else."""

    def flush(self) -> None:
        """Nothing more is to come for now."""


class Collect(Sink):
    """Keeps everything: ``items`` in order, ``final`` maps by name."""

    def __init__(self) -> None:
        self.items: list[object] = []
        self.final: dict[str, list[Any]] = {}
        self.probes = 0

    def attached(self, count: int) -> None:
        self.probes = count

    def emit(self, items: list[object]) -> None:
        self.items += items

    def maps(self, tables: list[tuple[Table, list[Any]]]) -> None:
        self.final = {table.name: rows for table, rows in tables}
