"""Schema: the layout of one record, whoever wrote it (a BPF program, the ring buffer, a file).

A schema decodes records as rows (``struct``), as columns (``numpy``, imported on first use), and offers a ``ctypes`` class.
Strings and byte buffers of changing length follow the kernel's ``__data_loc`` convention: a u32 in the fixed part,
``length << 16 | offset``, offset counted from the start of the record (include/trace/stages/stage1_struct_define.h).

Field kinds:

=========  ==========================================================================================
``b B h H i I q Q ?``  integer or bool, as in the ``struct`` module, native byte order, no padding
``s``      ``count`` bytes holding a NUL-terminated string
``p``      ``count`` raw bytes
``v``      ``__data_loc`` string (u32), NUL-terminated or not
``w``      ``__data_loc`` raw bytes (u32)
``r``      a nested record: ``schema``; ``count`` > 1 is an array of them
=========  ==========================================================================================

An integer kind with ``count`` > 1 is an array.

Example:
    >>> schema = Schema("open", 16, (Field("pid", 0, "I"), Field("ret", 4, "i"), Field("file", 8, "v")))
    >>> record = struct.pack("<IiI", 7, -2, 5 << 16 | 16) + bytes(4) + b"/etc" + bytes(1)
    >>> schema.row(record)
    (7, -2, '/etc')
"""

from __future__ import annotations

import struct

from .record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Buffer = bytes | bytearray | memoryview

__all__ = ("Field", "Schema", "cstring")

INTEGERS = "bBhHiIqQ?"
SIZES = {"b": 1, "B": 1, "h": 2, "H": 2, "i": 4, "I": 4, "q": 8, "Q": 8, "?": 1, "v": 4, "w": 4}


def cstring(raw: Buffer) -> str:
    """Text up to the first NUL; bytes that are not UTF-8 are kept as ``\\xNN``."""
    data = bytes(raw)
    end = data.find(b"\0")
    return (data if end < 0 else data[:end]).decode("utf-8", "backslashreplace")


class Field(Record):
    """One field.

    ``role`` says what the value means to a reader and so how it is rendered ("" for a plain value; "ptr", "ksym", "usym",
    "kstack", "ustack", "enum", "inet", "mac", "bool", ...); ``detail`` is the role's data (an enum's names, for example).
    """

    name: str
    offset: int
    kind: str
    count: int = 1
    role: str = ""
    schema: Schema | None = None
    detail: object = None

    @property
    def size(self) -> int:
        if self.kind in "sp":
            return self.count
        if self.kind == "r":
            assert self.schema is not None
            return self.schema.size * self.count
        return SIZES[self.kind] * self.count


class Schema(Record):
    """The layout of a record: ``size`` is that of the fixed part in bytes."""

    name: str
    size: int
    fields: tuple[Field, ...]

    def decoder(self) -> Callable[[Buffer, int], tuple[Any, ...]]:
        """A function (buffer, start) -> tuple of values, one per field.

        Offsets of ``__data_loc`` fields are checked against the buffer: a lying record raises ``struct.error`` or gives a short
        string, never memory outside of it.
        """
        parts: list[Callable[[Buffer, int], Any]] = [_field_decoder(field) for field in self.fields]
        if all(field.kind in INTEGERS and field.count == 1 for field in self.fields):
            packed = struct.Struct("=" + _format(self.fields))
            return packed.unpack_from

        def decode(buffer: Buffer, start: int = 0) -> tuple[Any, ...]:
            return tuple([part(buffer, start) for part in parts])

        return decode

    def row(self, buffer: Buffer, start: int = 0) -> tuple[Any, ...]:
        """The values of the record at ``start``."""
        return self.decoder()(buffer, start)

    def names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields)

    def to_plain(self) -> tuple[Any, ...]:
        """Nested tuples of str and int: what is kept in the cache of compiled programs."""
        return (
            self.name,
            self.size,
            tuple(
                (f.name, f.offset, f.kind, f.count, f.role, None if f.schema is None else f.schema.to_plain(), f.detail)
                for f in self.fields
            ),
        )

    @staticmethod
    def from_plain(plain: tuple[Any, ...]) -> Schema:
        name, size, fields = plain
        return Schema(
            name,
            size,
            tuple(
                Field(n, offset, kind, count, role, None if inner is None else Schema.from_plain(inner), detail)
                for n, offset, kind, count, role, inner, detail in fields
            ),
        )

    def dtype(self) -> Any:
        """The fixed part as a ``numpy.dtype`` (``s`` is an S field, ``v``/``w`` are their u32)."""
        import numpy

        names, formats, offsets = [], [], []
        for field in self.fields:
            names.append(field.name)
            offsets.append(field.offset)
            formats.append(_numpy_format(field))
        return numpy.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": self.size})

    def columns(self, records: Buffer) -> Any:
        """Back-to-back fixed-size records as a numpy structured array (no copy): ``columns(...)["pid"]``, shape (n,)."""
        import numpy

        return numpy.frombuffer(records, dtype=self.dtype())

    def ctypes_class(self) -> Any:
        """A ``ctypes.Structure`` with this layout (for callbacks written against BCC)."""
        import ctypes

        members: list[tuple[str, Any]] = []
        position = 0
        codes = {code: getattr(ctypes, name) for code, name in _CTYPES.items()}
        for field in self.fields:
            if field.offset > position:
                members.append((f"_pad{position}", ctypes.c_char * (field.offset - position)))
            if field.kind in "sp":
                kind: Any = (ctypes.c_char if field.kind == "s" else ctypes.c_ubyte) * field.count
            elif field.kind == "r":
                assert field.schema is not None
                kind = field.schema.ctypes_class()
                kind = kind * field.count if field.count > 1 else kind
            else:
                kind = codes[field.kind] * field.count if field.count > 1 else codes[field.kind]
            members.append((field.name, kind))
            position = field.offset + field.size
        if self.size > position:
            members.append((f"_pad{position}", ctypes.c_char * (self.size - position)))
        return type(self.name, (ctypes.Structure,), {"_pack_": 1, "_fields_": members})


_CTYPES = {
    "b": "c_int8",
    "B": "c_uint8",
    "h": "c_int16",
    "H": "c_uint16",
    "i": "c_int32",
    "I": "c_uint32",
    "q": "c_int64",
    "Q": "c_uint64",
    "?": "c_bool",
    "v": "c_uint32",
    "w": "c_uint32",
}


def _format(fields: tuple[Field, ...]) -> str:
    """A ``struct`` format for integer fields in order, with explicit padding."""
    text, position = "", 0
    for field in fields:
        if field.offset < position:
            raise ValueError(f"field {field.name} overlaps its predecessor")
        if field.offset > position:
            text += f"{field.offset - position}x"
        text += field.kind
        position = field.offset + SIZES[field.kind]
    return text


def _field_decoder(field: Field) -> Callable[[Buffer, int], Any]:
    offset, kind, count = field.offset, field.kind, field.count
    if kind == "s":
        return lambda buffer, start: cstring(buffer[start + offset : start + offset + count])
    if kind == "p":
        return lambda buffer, start: bytes(buffer[start + offset : start + offset + count])
    if kind in "vw":
        word = struct.Struct("=I")
        finish: Callable[[Buffer], Any] = cstring if kind == "v" else bytes

        def data_loc(buffer: Buffer, start: int) -> Any:
            (where,) = word.unpack_from(buffer, start + offset)
            begin = start + (where & 0xFFFF)
            return finish(buffer[begin : begin + (where >> 16)])

        return data_loc
    if kind == "r":
        assert field.schema is not None
        inner, size = field.schema.decoder(), field.schema.size
        if count == 1:
            return lambda buffer, start: inner(buffer, start + offset)
        return lambda buffer, start: tuple([inner(buffer, start + offset + i * size) for i in range(count)])
    if kind not in INTEGERS:
        raise ValueError(f"unknown field kind {kind!r}")
    packed = struct.Struct(f"={count}{kind}" if count > 1 else f"={kind}")
    if count > 1:
        return lambda buffer, start: packed.unpack_from(buffer, start + offset)
    return lambda buffer, start: packed.unpack_from(buffer, start + offset)[0]


def _numpy_format(field: Field) -> Any:
    if field.kind == "s":
        return f"S{field.count}"
    if field.kind == "p":
        return f"V{field.count}"
    if field.kind == "r":
        assert field.schema is not None
        inner = field.schema.dtype()
        return (inner, (field.count,)) if field.count > 1 else inner
    code = {"?": "?", "v": "u4", "w": "u4"}.get(field.kind) or f"{'iu'[field.kind.isupper()]}{SIZES[field.kind]}"
    return (code, (field.count,)) if field.count > 1 else code
