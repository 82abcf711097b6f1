"""Events as Python objects, for users of the library."""

from __future__ import annotations

import struct

from ..render.printf import formatter
from .ledger import Loss
from .sink import Sink
from .tables import has_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from ..base.schema import Buffer
    from ..compiler.unit import Event, Table
    from .sink import Handler

__all__ = ("TraceEvent", "EventSink")

word = struct.Struct("=I").unpack_from


class TraceEvent:
    """One thing that the program put out.

    Attributes:
        action: the verb: "printf", "print_value", "print_map", "time", "join", "cat", "system", "warning".
        values: the arguments as Python values (ints, strings, bytes, tuples).
        text: what the command line would show, with its line end.
        position: where in the source it comes from.

    Arguments are attributes as well: ``event.arg0``, or the name that the compiler gave them.
    """

    __slots__ = ("action", "position", "_decode", "_format", "_names", "_raw", "_text", "_values")

    def __init__(
        self,
        action: str,
        position: str = "",
        *,
        raw: bytes = b"",
        names: tuple[str, ...] = (),
        decode: Callable[[Buffer, int], tuple[Any, ...]] | None = None,
        format: Callable[[Buffer, int], str] | None = None,
        values: tuple[Any, ...] | None = None,
        text: str | None = None,
    ) -> None:
        self.action, self.position = action, position
        self._raw, self._names, self._decode, self._format = raw, names, decode, format
        self._values, self._text = values, text

    @property
    def values(self) -> tuple[Any, ...]:
        if self._values is None:
            self._values = self._decode(self._raw, 0) if self._decode is not None else ()
        return self._values

    @property
    def text(self) -> str:
        if self._text is None:
            self._text = self._format(self._raw, 0) if self._format is not None else ""
        return self._text

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and name in self._names:
            return self.values[self._names.index(name)]
        raise AttributeError(f"the event has no argument {name!r}; it has {', '.join(self._names) or 'none'}")

    def __repr__(self) -> str:
        return f"<TraceEvent {self.action} {self.values!r}>"


class EventSink(Sink):
    """Makes ``TraceEvent`` objects and keeps them until they are taken; those beyond ``limit`` are counted as lost."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: list[Any] = []
        self._dropped = 0

    def take(self) -> Iterator[TraceEvent]:
        """The waiting events; they are forgotten here."""
        waiting, self._waiting = self._waiting, []
        return iter(waiting)

    def losses(self) -> tuple[Loss, ...]:
        return (Loss("waiting", "the iterator of events", self._dropped),) if self._dropped else ()

    def emit(self, items: list[object]) -> None:
        room = self._limit - len(self._waiting)
        if len(items) > room:
            self._dropped += len(items) - room
            items = items[:room]
        self._waiting += items

    def printf(self, event: Event) -> Handler:
        return self._lazy(event, formatter(event.args[0], event.schema, "backslashreplace"))

    def value(self, event: Event) -> Handler:
        return self._lazy(event, formatter("%s\n", event.schema, "backslashreplace"))

    def _lazy(self, event: Event, show: Callable[[Buffer, int], str]) -> Handler:
        action, position, names = event.action, event.position, event.schema.names()
        plain = event.schema.decoder()
        decode, note = plain, None
        if has_names(event.schema):
            from .stacks import noting, value_of

            values, note = value_of(event.schema), noting(event.schema)
            if values is not None:
                decode = _composed(plain, values)

        size = event.schema.size
        tails = tuple([field.offset for field in event.schema.fields if field.kind in "vw"])

        def make(buffer: Buffer, start: int) -> object:
            end = size
            for offset in tails:
                (where,) = word(buffer, start + offset)
                end = max(end, (where & 0xFFFF) + (where >> 16))
            if note is not None:
                note(plain(buffer, start))
            return TraceEvent(action, position, raw=bytes(buffer[start : start + end]), names=names, decode=decode, format=show)

        return make

    def table(self, table: Table, rows: list[Any], top: int, divisor: int) -> object:
        from ..render.tables import Layout
        from .tables import plain_rows

        layout = Layout(table.name, table.kind, table.key, table.value)
        shown = plain_rows(table, layout.rows(rows, top, divisor))
        return TraceEvent(
            "print_map", values=(table.name, dict(shown)), names=("name", "rows"), text=clean_text(layout.text(rows, top, divisor))
        )

    def text(self, kind: str, text: str) -> object:
        return TraceEvent(kind, values=(text,), names=("data",), text=text)

    def warning(self, kind: str, message: str, position: str) -> object:
        return TraceEvent("warning", position, values=(kind, message), names=("kind", "message"), text=message)


def _composed(decode: Callable[[Buffer, int], tuple[Any, ...]], values: Callable[[tuple[Any, ...]], tuple[Any, ...]]) -> Any:
    return lambda buffer, start: values(decode(buffer, start))


def clean_text(text: str) -> str:
    """Text that can be encoded."""
    from ..render.values import clean

    return clean(text)
