"""Reading the maps of a running program as Python values."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..base.schema import Schema
    from ..compiler.unit import Table
    from ..kernel.bpf import Map

__all__ = ("TableReader", "plain_rows", "plain_key", "plain_value", "has_names")

#: BPF_MAP_TYPE_ARRAY and _PERCPU_ARRAY: their entries cannot be deleted.
_ARRAYS = (2, 6)


class TableReader:
    """One table and the live map behind it."""

    def __init__(self, table: Table, map: Map) -> None:
        self.table, self.map = table, map
        self._key = table.key.decoder()
        self._value: Callable[[bytes], Any] | None = None
        self._merge: Callable[[tuple[Any, ...]], tuple[Any, ...]] | None = None
        if table.kind != "value" and has_names(table.key):
            from .stacks import merging

            self._merge = merging(table.key)

    def rows(self) -> list[tuple[tuple[Any, ...], Any]]:
        """(key, value) pairs in no order: a key is a tuple, a value what ``analysis.aggregate`` makes of it; for plain maps a tuple."""
        items = self.map.items()
        if not items:
            return []
        value = self._value
        if value is None:
            value = self._value = self._reader(len(items[0][1]))
        if not self.table.key.fields:
            return [((), value(raw)) for _key, raw in items]
        key = self._key
        if self._merge is not None:
            groups: dict[tuple[Any, ...], list[bytes]] = {}
            for raw_key, raw in items:
                groups.setdefault(self._merge(key(raw_key, 0)), []).append(raw)
            # equal keys' values are added as those of one key's CPUs are
            return [
                (one, value(raws[0]) if len(raws) == 1 else self._reader(sum(map(len, raws)))(b"".join(raws)))
                for one, raws in groups.items()
            ]
        return [(key(raw_key, 0), value(raw)) for raw_key, raw in items]

    def clear(self) -> None:
        """Removes all keys."""
        if self.map.type in _ARRAYS:
            self.zero()
        else:
            self.map.clear()

    def zero(self) -> None:
        """Sets all values to zero and keeps the keys."""
        for key, raw in self.map.items():
            self.map.update(key, bytes(len(raw)))

    def _reader(self, length: int) -> Callable[[bytes], Any]:
        table = self.table
        stride = (self.map.value_size + 7) & ~7
        cpus = max(1, length // stride) if table.per_cpu or table.kind != "value" else 1
        field = table.value.fields[0] if table.value.fields else None
        if table.kind != "value":
            from ..analysis.aggregate import reducer

            return reducer(table.kind, field is not None and field.kind in "bhiq", cpus, table.params)
        decode = table.value.decoder()
        if cpus == 1:
            return lambda raw: decode(raw, 0)
        if field is not None and len(table.value.fields) == 1 and field.kind in "bBhHiIqQ" and field.count == 1:
            return lambda raw: (sum([decode(raw, start)[0] for start in range(0, cpus * stride, stride)]),)
        zero = bytes(stride)

        def first(raw: bytes) -> Any:
            """The copy of the first CPU that wrote one."""
            for start in range(0, cpus * stride, stride):
                if raw[start : start + stride] != zero:
                    return decode(raw, start)
            return decode(raw, 0)

        return first


def plain_rows(table: Table, rows: list[tuple[tuple[Any, ...], Any]]) -> list[tuple[Any, Any]]:
    """Keys and values as users of the library see them: single components bare, stacks and symbols as frames."""
    if has_names(table.key) or has_names(table.value):
        from .stacks import value_of

        key_of, row_of = value_of(table.key), value_of(table.value) if table.kind == "value" else None
        rows = [(key if key_of is None else key_of(key), value if row_of is None else row_of(value)) for key, value in rows]
    return [(plain_key(key), plain_value(table, value)) for key, value in rows]


def has_names(schema: Schema) -> bool:
    """Whether a record holds stacks or symbols (``render.stacks.ROLES``, without importing what shows them)."""
    return any([field.role[1:] in ("stack", "sym") or (field.schema is not None and has_names(field.schema)) for field in schema.fields])


def plain_key(key: tuple[Any, ...]) -> Any:
    """A key as users of the library see it: its only component, or a tuple."""
    return key[0] if len(key) == 1 else key


def plain_value(table: Table, value: Any) -> Any:
    """A value as users of the library see it."""
    if table.kind == "value" and isinstance(value, tuple) and len(value) == 1:
        return value[0]
    return value.average if table.kind == "avg" else value
