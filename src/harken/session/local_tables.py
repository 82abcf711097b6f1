"""Maps that lie in harken: those whose keys are known only when they have arrived.

A stack that has to be unwound (``ustack(dwarf)``) is a copy of memory in the program, and never twice the same; what equal stacks have in
common are their addresses, which only harken finds.  So such a map's updates come as events, and are counted here.  To everybody else a
``LocalTable`` is what a ``TableReader`` is.

Example:
    >>> from harken.base.schema import Field, Schema
    >>> key = Schema("key", 4, (Field("key", 0, "I"),))
    >>> table = LocalTable(Table("@", "", "max", key, Schema("max", 16, (Field("max", 0, "q"), Field("set", 8, "Q")))))
    >>> [table.add((7,), value, 100) for value in (-5, -9)], table.rows()
    ([True, True], [((7,), -5)])
"""

from __future__ import annotations

import struct

from ..compiler.unit import Table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ("LocalTable", "bucket_of")

_WORD = (1 << 64) - 1


class LocalTable:
    """One table and what was counted for it; its values are kept as a map of the kernel would."""

    def __init__(self, table: Table) -> None:
        from ..analysis.aggregate import reducer

        self.table = table
        field = table.value.fields[0]
        self._signed = field.kind in "bhiq"
        self._rows: dict[tuple[Any, ...], list[int]] = {}
        self._zero = [0] * max(1, table.value.size // 8)
        self._put = _PUT.get(table.kind)
        self._reduce: Callable[[bytes], Any] | None = None
        if table.kind != "value":
            self._reduce = reducer(table.kind, self._signed, 1, table.params)

    def add(self, key: tuple[Any, ...], value: int, most: int) -> bool:
        """One update; false if the key is new and there are ``most`` already."""
        row = self._rows.get(key)
        if row is None:
            if len(self._rows) >= most:
                return False
            row = self._rows[key] = self._zero.copy()
        kind = self.table.kind
        if kind in ("hist", "lhist"):
            row[bucket_of(kind, self.table.params, value, len(row))] += 1
        elif self._put is not None:
            self._put(row, value)
        else:
            row[0] += value
        return True

    def rows(self) -> list[tuple[tuple[Any, ...], Any]]:
        """(key, value) pairs in no order."""
        reduce = self._reduce
        if reduce is None:
            bits = self.table.value.size * 8
            return [(key, (_wrapped(row[0], bits, self._signed),)) for key, row in self._rows.items()]
        return [(key, reduce(struct.pack(f"={len(row)}Q", *[word & _WORD for word in row]))) for key, row in self._rows.items()]

    def clear(self) -> None:
        """Removes all keys."""
        self._rows.clear()

    def zero(self) -> None:
        """Sets all values to zero and keeps the keys."""
        for key in self._rows:
            self._rows[key] = self._zero.copy()


def _wrapped(number: int, bits: int, signed: bool) -> int:
    number &= (1 << bits) - 1
    return number - (1 << bits) if signed and number >> bits - 1 else number


def _mean(row: list[int], value: int) -> None:
    row[0] += value
    row[1] += 1


def _least(row: list[int], value: int) -> None:
    if not row[1] or value < row[0]:
        row[0], row[1] = value, 1


def _most(row: list[int], value: int) -> None:
    if not row[1] or value > row[0]:
        row[0], row[1] = value, 1


_PUT: dict[str, Callable[[list[int], int], None]] = {"avg": _mean, "stats": _mean, "min": _least, "max": _most}


def bucket_of(kind: str, params: tuple[int, ...], value: int, count: int) -> int:
    """The number of a value's bucket, as the programs compute it (``languages.bpftrace.lower_maps``).

    Example:
        >>> [bucket_of("hist", (), value, 66) for value in (-1, 0, 1, 2, 3, 4)]
        [0, 1, 2, 3, 3, 4]
        >>> [bucket_of("lhist", (0, 100, 10), value, 12) for value in (-1, 0, 99, 100)]
        [0, 1, 10, 11]
    """
    if kind == "lhist":
        low, high, step = params[:3]
        return 0 if value < low else count - 1 if value >= high else (value - low) // step + 1
    bits = params[0] if params else 0
    if value < 0:
        return 0
    if value < 1 << bits:
        return value + 1
    power = value.bit_length() - 1 - bits
    if not bits:
        return min(power + 2, count - 1)
    return min((power + 1 << bits) + (value >> power & (1 << bits) - 1) + 1, count - 1)
