"""What stacks and symbols in records are to those who use harken as a library: frames; and what equal keys and unwound stacks are.

Values for library users (``value_of``):

===========  ==========================================================================
role         value
===========  ==========================================================================
kstack       ``Stack``: a tuple of ``symbols.model.Frame``, innermost first
ustack       ``Stack`` with ``pid``
ksym         ``Frame``
usym         ``UserFrame``: a ``Frame`` with ``pid``
===========  ==========================================================================
"""

from __future__ import annotations

from ..render.stacks import COPIED, UNWOUND, Bound, build_ids, frames_of_unwound, needs_names, split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ..base.schema import Field, Schema
    from ..render.stacks import Names
    from ..symbols.model import Frame

__all__ = ("Stack", "has_user", "merging", "noting", "processes_of", "unwinding", "value_of")


class Stack(tuple["Frame", ...]):
    """The frames of a stack, innermost first.  ``pid`` is the process, -1 for a kernel stack; equal stacks of two processes differ."""

    pid: int

    def __new__(cls, frames: Sequence[Frame], pid: int = -1) -> Stack:
        made = super().__new__(cls, frames)
        made.pid = pid
        return made

    def __eq__(self, other: object) -> bool:
        return tuple.__eq__(self, other) is True and getattr(other, "pid", self.pid) == self.pid

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return tuple.__hash__(self)

    def __repr__(self) -> str:
        inner = ", ".join([frame.label for frame in self])
        return f"<Stack [{inner}]>" if self.pid < 0 else f"<Stack of {self.pid} [{inner}]>"


def has_user(schema: Schema) -> bool:
    return any([field.role in ("ustack", "usym") or (field.schema is not None and has_user(field.schema)) for field in schema.fields])


def processes_of(schema: Schema, row: tuple[Any, ...]) -> list[int]:
    found = []
    for field, value in zip(schema.fields, row):
        if field.role == "ustack":
            found.append(int.from_bytes(value[:4], "little"))
        elif field.role == "usym":
            found.append(value[1])
        elif field.schema is not None and has_user(field.schema):
            for part in value if field.count > 1 else (value,):
                found += processes_of(field.schema, part)
    return found


def noting(schema: Schema) -> Callable[[tuple[Any, ...]], None] | None:
    """A function that notes what the processes in a decoded record have mapped now; None if it mentions none.

    For records whose names are asked for later, if ever.
    """
    names = _names_of(schema)
    if names is None or not has_user(schema):
        return None
    seen = names.seen

    def note(row: tuple[Any, ...]) -> None:
        for pid in processes_of(schema, row):
            seen(pid)

    return note


def _names_of(schema: Schema) -> Names | None:
    """Who knows the names of a bound record."""
    for field in schema.fields:
        if isinstance(field.detail, Bound):
            return field.detail.names
        inner = _names_of(field.schema) if field.schema is not None else None
        if inner is not None:
            return inner
    return None


def value_of(schema: Schema) -> Callable[[tuple[Any, ...]], tuple[Any, ...]] | None:
    """A function from a decoded record to the values that library users see; None if those are the decoded ones."""
    if not needs_names(schema):
        return None
    parts = [_value(field) for field in schema.fields]
    return lambda row: tuple([value if part is None else part(value) for part, value in zip(parts, row)])


def _value(field: Field) -> Callable[[Any], Any] | None:
    if field.schema is not None and field.role != "usym":
        inner = value_of(field.schema)
        return inner if inner is None or field.count == 1 else lambda rows: tuple([inner(row) for row in rows])
    detail = field.detail
    if not isinstance(detail, Bound):
        return None
    names = detail.names
    if field.role == "ksym":
        return names.kernel
    if field.role == "usym":
        return lambda value: _user_frame(names.user(value[1], value[0]), value[1])
    if detail.detail[0] == "build_id":
        return _of_build_ids
    if detail.detail[0] == "python":
        return lambda raw: Stack(names.python_stack(raw), int.from_bytes(raw[:4], "little"))  # type: ignore[arg-type]
    if detail.detail[0] in UNWOUND:
        return _of_unwound(field, detail)
    if field.role == "kstack":
        return lambda raw: Stack(names.kernel_stack(split(field, raw)[1]))  # type: ignore[arg-type]

    def user(raw: Any) -> Stack:
        pid, addresses = split(field, raw)
        return Stack(names.user_stack(pid, addresses), pid)  # type: ignore[arg-type]

    return user


def _of_unwound(field: Field, detail: Bound) -> Callable[[Any], Any]:
    finish, shown = _unwound(field), frames_of_unwound(detail)

    def value(raw: Any) -> Stack:
        data = raw if finish is None else finish(raw)
        return Stack(shown(data), int.from_bytes(data[:4], "little"))  # type: ignore[arg-type]

    return value


def _unwound(field: Field) -> Callable[[Any], bytes] | None:
    """A function that unwinds the copied stack in a field; None if there is none."""
    detail = field.detail
    if field.role != "ustack" or not isinstance(detail, Bound) or detail.detail[0] not in COPIED:
        return None
    unwind, (_, *how) = detail.names.unwind, detail.detail
    return lambda raw: unwind(raw, *how)


def merging(schema: Schema) -> Callable[[tuple[Any, ...]], tuple[Any, ...]] | None:
    """A function from keys to what is the same for all keys that mean the same to a reader; None if they are all different anyway."""
    parts = []
    for field in schema.fields:
        detail = field.detail
        bound_here = field.role == "ustack" and isinstance(detail, Bound)
        parts.append(detail.names.merged_python if bound_here and detail.detail[0] == "python" else None)  # type: ignore[attr-defined]
    if not any(parts):
        return None
    return lambda row: tuple([value if part is None else part(value) for part, value in zip(parts, row)])


def unwinding(schema: Schema) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    """A function that unwinds the copied stacks among a record's values."""
    parts = [_unwound(field) for field in schema.fields]
    return lambda row: tuple([value if part is None else part(value) for part, value in zip(parts, row)])


def _user_frame(frame: Any, pid: int) -> Frame:
    from .user_frame import UserFrame

    return UserFrame(**{name: getattr(frame, name) for name in type(frame)._fields}, pid=pid)


def _of_build_ids(raw: Any) -> Stack:
    from ..symbols.model import Frame

    frames = [Frame(offset, build_id=build_id) for build_id, offset in build_ids(raw)]
    return Stack(frames, int.from_bytes(bytes(raw[:4]), "little"))
