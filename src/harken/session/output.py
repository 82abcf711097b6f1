"""The sink for people: text, as bpftrace prints it.  (``output_json`` has the one for programs.)

Messages about the tracing itself (attached probes, warnings) are not output of the program: ``TextSink`` hands them to ``notice``, a
function of one line of text.
"""

from __future__ import annotations

from ..render.text import encode
from .sink import Sink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..compiler.unit import Event, Table
    from ..render.tables import Layout
    from ..render.text import Writer
    from .sink import Bulk, Handler

__all__ = ("Output", "TextSink")


def _ignore(_text: str) -> None:
    pass


class Output(Sink):
    """What sinks that write have in common: one ``render.text.Writer``, and how each table is laid out."""

    def __init__(self, writer: Writer, notice: Callable[[str], None] = _ignore) -> None:
        self.writer, self.notice = writer, notice
        self._layouts: dict[str, Layout] = {}
        self._warned: dict[tuple[str, str], int] = {}

    def emit(self, items: list[Any]) -> None:
        self.writer.write(items)

    def flush(self) -> None:
        self.writer.flush()

    def layout(self, table: Table) -> Layout:
        found = self._layouts.get(table.name)
        if found is None:
            from ..render.tables import Layout

            found = self._layouts[table.name] = Layout(table.name, table.kind, table.key, table.value)
        return found


class TextSink(Output):
    """bpftrace's text output."""

    def attached(self, count: int) -> None:
        self.notice(f"Attached {count} probe{'' if count == 1 else 's'}")

    def printf(self, event: Event) -> Handler:
        from ..render.printf import encoder

        return encoder(event.args[0], event.schema)

    def value(self, event: Event) -> Handler:
        from ..render.printf import encoder

        return encoder("%s\n", event.schema)

    def bulk(self, event: Event) -> Bulk | None:
        from ..render.printf import bulk_encoder

        return bulk_encoder(event.args[0] if event.action == "printf" else "%s\n", event.schema)  # type: ignore[return-value]

    def table(self, table: Table, rows: list[Any], top: int, divisor: int) -> object:
        return encode(self.layout(table).text(rows, top, divisor))

    def text(self, kind: str, text: str) -> object:
        return encode(text)

    def warning(self, kind: str, message: str, position: str) -> object:
        """Told once per place; how often it happened is told at the end."""
        seen = self._warned.get((position, message), 0)
        self._warned[position, message] = seen + 1
        if not seen:
            self.flush()
            self.notice(f"{position}: WARNING: {message}" if position else f"WARNING: {message}")
        return None

    def maps(self, tables: list[tuple[Table, list[Any]]]) -> None:
        self.writer.write([b"\n\n", *[encode(self.layout(table).text(rows)) for table, rows in tables]])
        self.writer.flush()
        for (position, message), count in self._warned.items():
            if count > 1:
                self.notice(f"{position}: WARNING: {count} times: {message}" if position else f"WARNING: {count} times: {message}")
