"""The sink for programs: NDJSON, one object per line, with messages about the tracing itself among them."""

from __future__ import annotations

from .output import Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..compiler.unit import Event, Table
    from ..render.text import Writer
    from .sink import Handler

__all__ = ("JsonSink",)


class JsonSink(Output):
    """bpftrace's JSON output: one object per line; ``quiet`` leaves out how many probes were attached."""

    def __init__(self, writer: Writer, quiet: bool = False) -> None:
        super().__init__(writer)
        self._quiet = quiet

    def attached(self, count: int) -> None:
        if self._quiet:
            return
        from ..render.json import attached

        self.writer.write([_line(attached(count))])
        self.writer.flush()

    def printf(self, event: Event) -> Handler:
        from ..render.json import message
        from ..render.printf import formatter
        from ..render.values import quote

        show = formatter(event.args[0], event.schema, "backslashreplace")
        head, tail = message("printf", "@").split("@")
        return lambda buffer, start: _line(f"{head}{quote(show(buffer, start))}{tail}")

    def value(self, event: Event) -> Handler:
        from ..render.json import message
        from ..render.values import row_json

        decode, show = event.schema.decoder(), row_json(event.schema)
        return lambda buffer, start: _line(message("value", show(decode(buffer, start))))

    def table(self, table: Table, rows: list[Any], top: int, divisor: int) -> object:
        text = self.layout(table).json(rows, top, divisor)
        return _line(text) if text else None

    def text(self, kind: str, text: str) -> object:
        from ..render.json import message
        from ..render.values import quote

        return _line(message(kind, quote(text)))

    def warning(self, kind: str, message: str, position: str) -> object:
        from ..render.json import warning

        return _line(warning("runtime_error", message, position))

    def maps(self, tables: list[tuple[Table, list[Any]]]) -> None:
        texts = [self.layout(table).json(rows) for table, rows in tables]
        self.writer.write([_line(text) for text in texts if text])
        self.writer.flush()


def _line(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace") + b"\n"
