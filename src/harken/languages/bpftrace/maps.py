"""The maps of a program: specifications, tables and layouts of values."""

from __future__ import annotations

from ...base.schema import Field, Schema
from ...compiler.builtins import types as T
from ...compiler.builtins.type_fields import field, fields
from ...compiler.unit import Table
from ...formats.spec import MapSpec
from .model import MapInfo, Options

__all__ = ("Maps", "buckets", "value_bytes", "value_schema")

_HASH, _ARRAY, _PERCPU_HASH, _PERCPU_ARRAY, _LRU_HASH, _LRU_PERCPU_HASH = 1, 2, 5, 6, 9, 10
_NO_PREALLOC, _NOEXIST = 1, 1
#: Preallocated memory of one map above which its elements are allocated on demand.
_PREALLOC_LIMIT = 16 << 20
_DECLARED = {"hash": _HASH, "lruhash": _LRU_HASH, "percpuhash": _PERCPU_HASH, "percpulruhash": _LRU_PERCPU_HASH}


class Maps:
    """The maps of a program as specifications, tables and layouts."""

    def __init__(self, infos: dict[str, MapInfo], options: Options, cpus: int) -> None:
        self.infos = infos
        self.specs: dict[str, MapSpec] = {}
        self.tables: list[Table] = []
        #: of maps that lie in harken
        self.most_keys: dict[str, int] = {}
        self._names: dict[str, str] = {}
        taken: set[str] = set()
        for info in infos.values():
            if info.value is None and info.decl is None:
                continue
            if info.value is None:
                continue
            if info.here:
                self._add_here(info, options)
                continue
            name = ("AT_" + info.name[1:])[:15]
            number = 1
            while name in taken:
                number += 1
                name = ("AT_" + info.name[1:])[: 14 - len(str(number))] + f"_{number}"
            taken.add(name)
            self._names[info.name] = name
            self._add(info, name, options, cpus)

    def name(self, info: MapInfo) -> str:
        """The MapSpec's name."""
        return self._names[info.name]

    def _add(self, info: MapInfo, name: str, options: Options, cpus: int) -> None:
        key = info.key or ()
        key_size = T.layout(key)[1] if key else 4
        value_size = value_bytes(info)
        per_cpu = info.kind != "value"
        kind = (_PERCPU_HASH if per_cpu else _HASH) if key else (_PERCPU_ARRAY if per_cpu else _ARRAY)
        entries = options.max_map_keys if key else 1
        if info.decl is not None and key:
            entries = info.decl.entries
            kind = _DECLARED[info.decl.type]
            per_cpu = kind in (_PERCPU_HASH, _LRU_PERCPU_HASH)
        flags = 0
        if kind in (_HASH, _PERCPU_HASH) and (value_size * (cpus if per_cpu else 1) + key_size) * entries > _PREALLOC_LIMIT:
            flags = _NO_PREALLOC
        self.specs[name] = MapSpec(name, kind, key_size, value_size, entries, flags)
        names = tuple(f"key{i}" for i in range(len(key))) if len(key) != 1 else ("key",)
        schema = Schema("key", key_size if key else 0, fields(key, names) if key else ())
        self.tables.append(Table(info.name, name, info.kind, schema, value_schema(info), per_cpu, info.params))

    def _add_here(self, info: MapInfo, options: Options) -> None:
        """A map that lies in harken: its stacks are addresses there."""
        key = info.key or ()
        parts = tuple(T.unwound(part) if T.is_copied(part) else part for part in key)
        names = tuple(f"key{i}" for i in range(len(key))) if len(key) != 1 else ("key",)
        schema = Schema("key", T.layout(key)[1], fields(parts, names))
        self.tables.append(Table(info.name, "", info.kind, schema, value_schema(info), False, info.params))
        self.most_keys[info.name] = options.max_map_keys

    def per_cpu(self, info: MapInfo) -> bool:
        return self.specs[self.name(info)].type in (_PERCPU_HASH, _PERCPU_ARRAY, _LRU_PERCPU_HASH)


def buckets(info: MapInfo) -> int:
    """Number of buckets of a histogram."""
    if info.kind == "lhist":
        low, high, step = info.params
        return (high - low) // step + 2
    bits = info.params[0] if info.params else 0
    return ((65 - bits) << bits) + 1


def value_bytes(info: MapInfo) -> int:
    if info.kind == "value":
        assert info.value is not None
        return max(1, info.value.size)
    return {"count": 8, "sum": 8, "min": 16, "max": 16, "avg": 16, "stats": 16}.get(info.kind) or buckets(info) * 8


def value_schema(info: MapInfo) -> Schema:
    assert info.value is not None
    size, kind = value_bytes(info), info.kind
    code = "q" if info.value.signed else "Q"
    if kind == "value":
        parts: tuple[Field, ...] = (field("value", info.value, 0),)
    elif kind == "count":
        parts = (Field("count", 0, "Q"),)
    elif kind == "sum":
        parts = (Field("sum", 0, code),)
    elif kind in ("min", "max"):
        parts = (Field(kind, 0, code), Field("set", 8, "Q"))
    elif kind in ("avg", "stats"):
        parts = (Field("total", 0, code), Field("count", 8, "Q"))
    else:
        parts = (Field("buckets", 0, "Q", buckets(info)),)
    return Schema(kind, size, parts)
