"""The columns of one event's records, made when they are asked for (``event_records`` finds the records)."""

from __future__ import annotations

import struct

from ..base.ctype import Array, Int
from ..base.errors import FormatError
from ..native import library
from .event_texts import MemoryColumn, TextColumn
from .print_fmt_helpers import Texts
from .print_fmt_values import CODES
from .ring_page import Layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from .event_format import EventFormat, FormatField

__all__ = ("EventColumns", "JoinedColumns", "is_text", "numbers_of", "text_place", "width_of")


#: Bytes of all columns of an event per byte of its records, and beside them: no record that a kernel writes is smaller than its fields.
_MOST, _MORE = 8, 1 << 12


def is_text(field: FormatField) -> bool:
    kind = field.ctype
    return isinstance(kind, Array) and isinstance(kind.element, Int) and kind.element.encoding == "char" and kind.element.size == 1


def numbers_of(field: FormatField | None) -> tuple[int, int] | None:
    """(bytes, how many) of the numbers that a field holds; None if it holds something else, or there is no field."""
    if field is None or field.data_loc or field.rel_loc or is_text(field):
        return None
    width, count = field.size, 1
    if field.array and width % field.array == 0 and width // field.array in (1, 2, 4, 8):
        width, count = width // field.array, field.array
    return (width, count) if width in (1, 2, 4, 8) else None


def text_place(field: FormatField) -> tuple[int, int, int, int]:
    """Where a field of text is in a record: (offset, size, bytes of the number that says where, what that counts from), as
    ``native.columns.texts`` takes it."""
    if not (field.data_loc or field.rel_loc):
        return field.offset, field.size or 1 << 16, 0, 0
    return field.offset, 0, field.size if field.size in (2, 4) else 4, field.offset + field.size if field.rel_loc else 0


def width_of(event: EventFormat) -> int:
    """Bytes per record of all columns of an event, without what texts and other memory of varying length have."""
    shapes = [(field, numbers_of(field)) for field in event.named]
    return sum([shape[0] * shape[1] if shape else _width(field) for field, shape in shapes])


def _width(field: FormatField) -> int:
    """Bytes per record of the column of what is no number: the number of a text, or where memory begins and ends."""
    return 4 if is_text(field) else 16


class EventColumns:
    """The records of one event: ``times``, ``cpus`` and, by name, the fields.

    ``columns["prev_pid"]`` is a numpy array (a list without numpy); texts are a ``TextColumn`` (a list of ``str``), other memory of varying
    length is a ``MemoryColumn`` (a list of ``bytes``); arrays have two dimensions.  A record that is too short for a field reads as zero
    there.  ``starts`` and ``sizes`` say where the records are in ``buffer``; they are None if nothing needs to know any more.
    All columns together may take some times what the records have, unless ``bounded`` is False, which says that whoever made them has
    seen to that; then it is a FormatError to ask for more.
    """

    def __init__(
        self, event: EventFormat, buffer: Any, times: Any, cpus: Any, starts: Any, sizes: Any, order: str, numpy: Any, bounded: bool = True
    ) -> None:
        self.event, self.buffer, self.order, self.numpy = event, buffer, order, numpy
        self.times, self.cpus, self.starts, self.sizes = times, cpus, starts, sizes
        self._made: dict[str, Any] = {}
        self._bytes: Any = None
        #: bytes that columns may still take, one number for all parts of what is joined; empty if they are not counted
        self._room = [_MORE + _MOST * int(sum(sizes) if numpy is None else sizes.sum())] if bounded else []

    def __len__(self) -> int:
        return len(self.times)

    def load(self) -> None:
        """Makes all columns of numbers in one go, which takes a fraction of the time that one by one takes, and those of texts."""
        fields = [field for field in self.event.named if field.name not in self._made]
        numbers = [(field, shape) for field in fields if (shape := numbers_of(field)) is not None]
        if self._native() is not None and numbers and not self._room:
            found = self._gather([(field.offset, width * count) for field, (width, count) in numbers])
            for (field, (width, count)), column in zip(numbers, found or ()):
                self._made[field.name] = self._shaped(column, width, count, field.signed)
        for field in fields:
            self[field.name]

    def fill(self, numbers: Sequence[memoryview], texts: Sequence[tuple[memoryview, Sequence[tuple[int, int]]]]) -> None:
        """Takes columns that were made elsewhere: the bytes of all fields of numbers, and what ``decoded`` takes of all texts."""
        columns, codes = iter(numbers), iter(texts)
        for field in self.event.named:
            shape = numbers_of(field)
            if shape is not None:
                self._made[field.name] = self._shaped(next(columns), *shape, field.signed)
            elif is_text(field):
                self._made[field.name] = self.decoded(*next(codes))

    def _take(self, field: FormatField, size: int) -> None:
        """Counts the bytes of a column."""
        if self._room:
            self._room[0] -= size
            if self._room[0] < 0:
                problem = f"its records have no room for what the format says of field {field.name} and those before"
                raise FormatError(f"event {self.event.category}:{self.event.name}", problem)

    def shared(self, room: list[int] | None = None) -> list[int]:
        """The bytes that columns may still take, which are counted together with those of others if ``room`` is given."""
        if room is not None:
            self._room = room
        return self._room

    def _native(self) -> Any:
        """All of the buffer, if the accelerator can read it; else None."""
        if self._bytes is None:
            native = library() if self.numpy is not None and self.order == "<" == Layout().order else None
            self._bytes = False if native is None else self.numpy.frombuffer(self.buffer, dtype="u1")
        return self._bytes if self._bytes is not False else None

    def _gather(self, places: list[tuple[int, int]]) -> list[memoryview] | None:
        from ..native.columns import gather
        from ..native.memory import address

        whole = self._native()
        starts, sizes = (self.numpy.ascontiguousarray(column, dtype="i8") for column in (self.starts, self.sizes))
        return gather(address(whole), len(whole), starts, sizes, places)

    def _shaped(self, column: memoryview, width: int, count: int, signed: bool) -> Any:
        found = self.numpy.frombuffer(column, dtype=f"<{'i' if signed else 'u'}{width}")
        return found.reshape(-1, count) if count > 1 else found

    @property
    def names(self) -> tuple[str, ...]:
        """All fields, the common ones first."""
        return tuple(field.name for field in self.event.named)

    def __getitem__(self, name: str) -> Any:
        found = self._made.get(name)
        if found is None:
            field = self.event.field(name)
            if field is None:
                raise KeyError(name)
            found = self._made[name] = self._column(field)
        return found

    def _column(self, field: FormatField) -> Any:
        if field.data_loc or field.rel_loc:
            return self._dynamic(field)
        if is_text(field):
            return self._fixed_texts(field)
        shape = numbers_of(field)
        if shape is None:
            return self._counted(field, self._pieces(field.offset, field.size or 1 << 16))
        width, count = shape
        self._take(field, len(self) * width * count)
        if self._native() is not None and len(self):
            found = self._gather([(field.offset, width * count)])
            if found is not None:
                return self._shaped(found[0], width, count, field.signed)
        if self.numpy is None:
            return self._integers_plain(field.offset, width, count, field.signed)
        return self._integers(field.offset, width, count, field.signed)

    def _integers(self, offset: int, width: int, count: int, signed: bool) -> Any:
        """One gather from an array that has an element at every byte."""
        np = self.numpy
        kind = np.dtype(f"{self.order}{'i' if signed else 'u'}{width}")
        need = offset + width * count
        short = self.sizes < need
        starts = self.starts
        if short.any():
            starts = np.where(short, 0, starts)
        room = len(self.buffer) - need + 1
        if room <= 0 or not len(starts):
            return np.zeros((len(starts), count) if count > 1 else len(starts), dtype=kind.newbyteorder("="))
        if count == 1:
            value = np.ndarray((room,), dtype=kind, buffer=self.buffer, offset=offset, strides=(1,))[starts]
        else:
            raw = np.ndarray((room,), dtype=f"V{width * count}", buffer=self.buffer, offset=offset, strides=(1,))[starts]
            value = raw.view(kind).reshape(-1, count)
        if short.any():
            value[short] = 0
        return value if kind.isnative else value.astype(kind.newbyteorder("="))

    def _integers_plain(self, offset: int, width: int, count: int, signed: bool) -> Any:
        unpack = struct.Struct(f"{self.order}{count}{CODES[width, signed]}").unpack_from
        need, buffer = offset + width * count, self.buffer
        zero = (0,) * count
        rows = [unpack(buffer, start + offset) if size >= need else zero for start, size in zip(self.starts, self.sizes)]
        return [row[0] for row in rows] if count == 1 else rows

    def _pieces(self, offset: int, size: int) -> Any:
        if self.numpy is not None:
            return MemoryColumn(self.buffer, self.starts + offset, self.starts + self.numpy.minimum(self.sizes, offset + size))
        buffer = self.buffer
        return [bytes(buffer[start + offset : start + min(offset + size, length)]) for start, length in zip(self.starts, self.sizes)]

    def _texts(self, pieces: Iterable[bytes]) -> Any:
        texts = Texts()
        found = [texts[piece] for piece in pieces]
        return found if self.numpy is None else TextColumn.of(found, self.numpy)

    def _counted(self, field: FormatField, column: Any) -> Any:
        """A column of texts or other memory, whose size is known when it is made."""
        if self._room:
            self._take(
                field, _width(field) * len(self) + (sum(map(len, column)) if isinstance(column, list) else column.nbytes(self.numpy))
            )
        return column

    def _coded(self, field: FormatField) -> TextColumn | None:
        """Texts by the accelerator; None without it."""
        whole = self._native()
        if whole is None or not len(self):
            return None
        from ..native.columns import texts
        from ..native.memory import address

        starts, sizes = (self.numpy.ascontiguousarray(column, dtype="i8") for column in (self.starts, self.sizes))
        found = texts(address(whole), len(whole), starts, sizes, *text_place(field))
        return None if found is None else self.decoded(*found)

    def decoded(self, codes: memoryview, places: Sequence[tuple[int, int]]) -> TextColumn:
        """A column of texts from what ``native.columns.texts`` has found."""
        values = [bytes(self.buffer[start : start + length]).decode("utf-8", "surrogateescape") for start, length in places]
        return TextColumn(self.numpy.frombuffer(codes, dtype="u4"), values)

    def _fixed_texts(self, field: FormatField) -> Any:
        found = self._coded(field)
        return self._counted(field, self._texts(self._pieces(*text_place(field)[:2])) if found is None else found)

    def _dynamic(self, field: FormatField) -> Any:
        coded = self._coded(field) if is_text(field) else None
        if coded is not None:
            return self._counted(field, coded)
        pieces = self._dynamic_pieces(field)
        return self._counted(field, self._texts(pieces) if is_text(field) else pieces)

    def _dynamic_pieces(self, field: FormatField) -> Any:
        """What a number in the record says: its place in the lower half, its size in the upper one."""
        _, _, width, base = text_place(field)
        if self.numpy is not None:
            where = self._integers(field.offset, width, 1, False).astype("i8")
            begin = base + (where & 0xFFFF)
            return MemoryColumn(self.buffer, self.starts + begin, self.starts + self.numpy.minimum(begin + (where >> 16), self.sizes))
        buffer = self.buffer
        pieces = []
        for place, start, size in zip(self._integers_plain(field.offset, width, 1, False), self.starts, self.sizes):
            begin = base + (place & 0xFFFF)
            pieces.append(bytes(buffer[start + begin : start + min(begin + (place >> 16), size)]) if begin < size else b"")
        return pieces

    def rows(self, names: Sequence[str] | None = None) -> Iterator[tuple[Any, ...]]:
        """(time, cpu, value, ...) per record; all own fields unless ``names`` says which."""
        wanted = [self[name] for name in (names if names is not None else [field.name for field in self.event.own])]
        columns = [self.times, self.cpus, *wanted]
        return zip(*[column.tolist() if hasattr(column, "tolist") else column for column in columns])

    def to_dict(self) -> dict[str, Any]:
        """All columns by name, ``time`` and ``cpu`` among them: what ``pandas.DataFrame`` and ``pyarrow.table`` take (arrays of two
        dimensions as lists)."""
        found: dict[str, Any] = {"time": self.times, "cpu": self.cpus}
        for field in self.event.own:
            column = self[field.name]
            if isinstance(column, TextColumn):
                column = column.objects(self.numpy)
            elif isinstance(column, MemoryColumn):
                column = column.tolist()
            found[field.name] = list(column) if getattr(column, "ndim", 1) > 1 else column
        return found

    def frame(self) -> Any:
        """A ``pandas.DataFrame`` of ``to_dict``."""
        import pandas  # type: ignore[import-not-found, import-untyped, unused-ignore]

        return pandas.DataFrame(self.to_dict())

    def to_arrow(self) -> Any:
        """A ``pyarrow.Table``; texts are dictionary arrays."""
        import pyarrow  # type: ignore[import-not-found, unused-ignore]

        found: dict[str, Any] = {"time": self.times, "cpu": self.cpus}
        for field in self.event.own:
            column = self[field.name]
            if isinstance(column, TextColumn):
                column = column.to_arrow()
            elif isinstance(column, MemoryColumn):
                column = pyarrow.array(column.tolist(), type=pyarrow.binary())
            elif getattr(column, "ndim", 1) > 1:
                flat = pyarrow.array(column.reshape(-1))
                column = pyarrow.FixedSizeListArray.from_arrays(flat, column.shape[1])
            found[field.name] = column
        return pyarrow.table(found)


class JoinedColumns(EventColumns):
    """Columns of one event from several buffers, one behind the other or in a given order."""

    def __init__(self, parts: Sequence[EventColumns], index: Any = None) -> None:
        first = parts[0]
        self.event, self.order, self.numpy = first.event, first.order, first.numpy
        self.parts, self.index = parts, index
        self._bytes = False
        self._made = {}
        self._room = []
        rooms = [part.shared() for part in parts]
        self.shared([sum([one[0] for one in rooms]) - _MORE * (len(rooms) - 1)] if all(rooms) else [])
        self.times, self.cpus = self._join([part.times for part in parts]), self._join([part.cpus for part in parts])

    def shared(self, room: list[int] | None = None) -> list[int]:
        for part in self.parts:
            found = part.shared(room)
        return found

    def load(self) -> None:
        for part in self.parts:
            part.load()

    def _join(self, pieces: list[Any]) -> Any:
        if all(isinstance(piece, TextColumn) for piece in pieces):
            texts = TextColumn.joined(pieces, self.numpy)
            return texts if self.index is None else texts[self.index]
        if all(hasattr(piece, "dtype") for piece in pieces):
            whole = pieces[0] if len(pieces) == 1 else self.numpy.concatenate(pieces)
            return whole if self.index is None else whole[self.index]
        flat = [value for piece in pieces for value in piece]
        if self.index is None:
            return flat
        return [flat[i] for i in (self.index.tolist() if hasattr(self.index, "tolist") else self.index)]

    def _column(self, field: FormatField) -> Any:
        return self._join([part[field.name] for part in self.parts])
