"""How the handlers of libtraceevent's plugins read records (``print_fmt_plugins``)."""

from __future__ import annotations

from .print_fmt_helpers import Texts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .event_format import EventFormat
    from .print_fmt import Env

    Text = Callable[[bytes], str]
    Number = Callable[[bytes], "int | None"]

__all__ = ("Fields", "c_int")


class Fields:
    """Reads a record's fields; one that the event has not gives None.

    Args:
        event: the event's format.
        env: byte order, symbols and the other facts of the recording.
    """

    def __init__(self, event: EventFormat, env: Env) -> None:
        self.event, self.env = event, env
        self.texts = Texts()

    def number(self, name: str) -> Number:
        """The function from a record to a field as libtraceevent reads it, without its sign; a missing field reads as None."""
        field = self.event.field(name)
        if field is None or field.size not in (1, 2, 4, 8):
            return lambda record: None
        start, end, order = field.offset, field.offset + field.size, "little" if self.env.order == "<" else "big"
        return lambda record: int.from_bytes(record[start:end], order)  # type: ignore[arg-type]

    def text(self, name: str) -> Text | None:
        """The same for a string in the record itself."""
        field = self.event.field(name)
        if field is None:
            return None
        start, end, texts = field.offset, field.offset + field.size, self.texts
        return lambda record: texts[record[start:end]]

    def symbol(self, address: int) -> tuple[str, int] | None:
        """(name without its module, start) of the function at an address."""
        found = self.env.symbol(address) if self.env.symbol else None
        return None if found is None else (found[0].partition(" [")[0], found[1])


def c_int(value: int) -> int:
    """C's cast to ``int``."""
    return ((value + 0x80000000) & 0xFFFFFFFF) - 0x80000000
