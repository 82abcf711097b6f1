"""Record: small immutable value classes that cost nothing to import.

``dataclasses`` and ``typing.NamedTuple`` are the obvious tools, but importing either costs 10 to 25 ms (``inspect``, ``re``,
``collections``), which is a tenth to a quarter of harken's whole start-up budget.  This module gives the part that is used here
(fields in order, defaults, equality, hashing, a readable ``repr``, ``replace``) without an import.  Type checkers understand
it through ``dataclass_transform``.

Example:
    >>> class Point(Record):
    ...     x: int
    ...     y: int = 0
    >>> Point(3)
    Point(x=3, y=0)
    >>> Point(3).replace(y=4) == Point(3, 4)
    True
    >>> Point(1).x = 2
    Traceback (most recent call last):
    ...
    AttributeError: Point is immutable: cannot set 'x'
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self, dataclass_transform
else:

    def dataclass_transform(**_options):
        return lambda cls: cls


__all__ = ("Record",)

_set = object.__setattr__


@dataclass_transform(frozen_default=True, eq_default=True)
class _RecordMeta(type):
    """Turns the annotations of a class body into slots; annotations of base classes come first."""

    _fields: tuple[str, ...]
    _defaults: dict[str, Any]

    def __new__(mcls, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> _RecordMeta:
        own = [
            field
            for field, hint in body.get("__annotations__", {}).items()
            if not (isinstance(hint, str) and hint.startswith(("ClassVar", "typing.ClassVar")))
        ]
        defaults: dict[str, Any] = {}
        inherited: list[str] = []
        for base in bases:
            inherited += [field for field in getattr(base, "_fields", ()) if field not in inherited]
            defaults.update(getattr(base, "_defaults", {}))
        for field in own:
            if field in body:
                defaults[field] = body.pop(field)
        own = [field for field in own if field not in inherited]
        body.setdefault("__slots__", tuple(own))
        body["_fields"] = (*inherited, *own)
        body["_defaults"] = defaults
        return super().__new__(mcls, name, bases, body)


class Record(metaclass=_RecordMeta):
    """Base of immutable values; subclasses only annotate their fields."""

    __slots__ = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        cls = type(self)
        fields = cls._fields
        if len(args) > len(fields):
            raise TypeError(f"{cls.__name__} takes {len(fields)} values, got {len(args)}")
        for field, value in zip(fields, args):
            _set(self, field, value)
        for field in fields[len(args) :]:
            if field in kwargs:
                _set(self, field, kwargs.pop(field))
            elif field in cls._defaults:
                _set(self, field, cls._defaults[field])
            else:
                raise TypeError(f"{cls.__name__} needs a value for {field!r}")
        if kwargs:
            raise TypeError(f"{cls.__name__} has no field {next(iter(kwargs))!r}, or it was given twice")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable: cannot set {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable: cannot delete {name!r}")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, field) == getattr(other, field) for field in type(self)._fields)

    def __hash__(self) -> int:
        return hash((type(self).__name__, *(getattr(self, field) for field in type(self)._fields)))

    def __repr__(self) -> str:
        inner = ", ".join(f"{field}={getattr(self, field)!r}" for field in type(self)._fields)
        return f"{type(self).__name__}({inner})"

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed."""
        values = {field: getattr(self, field) for field in type(self)._fields}
        values.update(changes)
        return type(self)(**values)

    def __getstate__(self) -> tuple[Any, ...]:
        return tuple(getattr(self, field) for field in type(self)._fields)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        for field, value in zip(type(self)._fields, state):
            _set(self, field, value)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self
