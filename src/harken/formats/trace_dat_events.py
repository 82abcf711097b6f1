"""The event formats of a ``trace.dat``, parsed when they are asked for."""

from __future__ import annotations

from ..base.errors import FormatError
from .event_format import EventFormat, parse
from .print_fmt_blktrace import blktrace_format

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ("Events",)


class Events(dict[int, EventFormat]):
    """Event formats by id, each parsed when it is first asked for (2,300 of them take 0.3 s)."""

    def __init__(self, texts: Iterable[tuple[str, memoryview | bytes]]) -> None:
        super().__init__()
        self._texts: dict[int, tuple[str, memoryview | bytes]] = {}
        self._names: dict[str, int] = {}
        for category, text in texts:
            head = bytes(text[:300])
            place = head.find(b"\nID:")
            name = head[5 : head.find(b"\n")].strip().decode("utf-8", "backslashreplace") if head.startswith(b"name:") else ""
            digits = head[place + 4 : head.find(b"\n", place + 1)].strip()
            if place < 0 or not name or not digits.isdigit() or len(digits) > 9:
                continue
            number = int(digits)
            # The kernel never has two events of one id; a file that does has the first one meant.
            self._texts.setdefault(number, (category, text))
            self._names.setdefault(f"{category}:{name}", number)
        #: what has no format file: names -> ids
        self._unlisted: dict[str, int] = {}
        before = self._names.get("ftrace:user_stack")
        if before is not None and before + 1 not in self._texts:  # records of the tracer blk are of the event behind user_stack
            self._unlisted["ftrace:blktrace"] = before + 1

    def __missing__(self, number: int) -> EventFormat:
        category, text = self._texts[number] if number in self._texts else self._of_tracer(number)
        event = self[number] = parse(bytes(text), category)
        return event

    def _of_tracer(self, number: int) -> tuple[str, bytes]:
        if number not in self._unlisted.values():
            raise KeyError(number)
        return "ftrace", blktrace_format(number)

    def get(self, number: int, default: Any = None) -> Any:
        """The format of an event; ``default`` if the file has none, or one that cannot be parsed."""
        try:
            return self[number]
        except (KeyError, FormatError):
            return default

    @property
    def ids(self) -> tuple[int, ...]:
        """All ids, ascending."""
        return tuple(sorted(self._texts))

    @property
    def names(self) -> dict[str, int]:
        """ "category:name" -> id, in the file's order."""
        return dict(self._names)

    def text(self, number: int) -> str:
        """The format file of an event."""
        return bytes(self._texts[number][1]).decode("utf-8", "backslashreplace")

    def find(self, name: str) -> EventFormat | None:
        """An event by "category:name", or by its name alone."""
        number = self._names.get(name, self._unlisted.get(name))
        if number is None and ":" not in name:
            known = (*self._names.items(), *self._unlisted.items())
            number = next((value for key, value in known if key.partition(":")[2] == name), None)
        return None if number is None else self.get(number)
