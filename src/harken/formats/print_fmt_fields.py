"""Events as ``name=value`` lists: what is printed where a ``print fmt`` cannot or shall not be used.

``fields_text`` is trace-cmd's form behind "[FAILED TO PARSE]" (``report -R`` is ``print_fmt_raw``); ``kernel_fields_text`` that of the
kernel's option ``fields`` (since Linux 6.4, ``print_event_fields``).

Example:
    >>> from harken.formats.event_format import parse
    >>> from harken.formats.print_fmt import Env
    >>> event = parse('name: x\\nID: 7\\nformat:\\n\\tfield:u8 a;\\toffset:8;\\tsize:1;\\tsigned:0;\\n\\nprint fmt: ""')
    >>> fields_text(event, Env())(bytes(8) + b"A"), kernel_fields_text(event, Env())(bytes(8) + b"A")
    (' a=65', " a='A'(65)")
"""

from __future__ import annotations

from ..base.ctype import Array, Int, Ptr
from .print_fmt_helpers import Texts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .event_format import EventFormat, FormatField
    from .print_fmt import Env

    Text = Callable[[bytes], str]

#: Letters of a text beside those that its record has: names of fields.
_LONGEST = 1 << 12

__all__ = ("fields_text", "kernel_fields_text", "dynamic", "field_text", "is_array", "is_string", "is_long")


def dynamic(field: FormatField, record: bytes, order: str) -> bytes:
    """The bytes that a ``__data_loc`` or ``__rel_loc`` field points to; none if they are not inside the record."""
    where = int.from_bytes(record[field.offset : field.offset + field.size], "little" if order == "<" else "big")
    start = where & 0xFFFF
    size = where >> 16 & 0xFFFF if field.size > 2 else len(record)
    if field.rel_loc:
        start += field.offset + field.size
    return record[start : start + size] if start + size <= len(record) else b""


def is_string(field: FormatField) -> bool:
    """Whether libtraceevent takes the field for text: arrays of ``char`` (``field_is_string``), also ``unsigned char``."""
    if not (field.array or field.data_loc or field.rel_loc or isinstance(field.ctype, Array)):
        return False
    return any(word in field.type for word in ("char", "u8", "s8"))


def is_long(field: FormatField) -> bool:
    """Whether libtraceevent prints the field in hex (``field_is_long``: the type's text has "long")."""
    return "long" in field.type


def is_array(field: FormatField) -> bool:
    """Whether libtraceevent takes the field for an array."""
    return bool(field.array) or field.data_loc or field.rel_loc or isinstance(field.ctype, Array) or "[" in field.declaration


def _printable(data: bytes) -> bool:
    end = data.find(0)
    return all(32 <= byte < 127 or 9 <= byte <= 13 for byte in (data if end < 0 else data[:end]))


def field_text(field: FormatField, env: Env) -> Text:
    """A function from a record to one field's value as libtraceevent writes it by the field's type (``print_field_raw``)."""
    order = "little" if env.order == "<" else "big"
    texts = Texts()

    def one(record: bytes) -> str:
        raw = record[field.offset : field.offset + field.size] if field.size else record[field.offset :]
        if is_array(field):
            data = dynamic(field, record, env.order) if field.data_loc or field.rel_loc else raw
            if is_string(field) and _printable(data):
                return texts[data]
            return "ARRAY[" + ", ".join([f"{byte:02x}" for byte in data]) + "]"
        value = int.from_bytes(raw, order) if field.size in (1, 2, 4, 8) else 0  # type: ignore[arg-type]
        if isinstance(field.ctype, Ptr):
            return f"0x{value:x}"
        if field.signed and field.size:
            signed = value - (1 << 8 * field.size) if value >> (8 * field.size - 1) else value
            if field.size == 4 and is_long(field):
                return f"0x{value:x}"
            return f"{signed:2d}" if field.size == 2 else str(signed)
        return f"0x{value:x}" if is_long(field) else str(value)

    return one


def fields_text(event: EventFormat, env: Env) -> Text:
    """A function from a record to `` a=1 b=0x2 ...``, every field by its type."""
    return _listed([(field.name, field_text(field, env)) for field in event.own])


def _listed(makers: Sequence[tuple[str, Text]]) -> Text:
    """A function from a record to its fields, as many as there is room for: a file could have thousands of them in one place."""

    def text(record: bytes) -> str:
        room = _LONGEST + 8 * len(record)
        parts = []
        for name, one in makers:
            parts.append(f" {name}={one(record)}")
            room -= len(parts[-1])
            if room < 0:
                break
        found = "".join(parts)
        return found[:room] if room < 0 else found

    return text


def kernel_fields_text(event: EventFormat, env: Env) -> Text:
    """A function from a record to the text of the option ``fields``: numbers in hex and decimal, the last field first as the kernel lists
    them."""
    order = "little" if env.order == "<" else "big"
    texts = Texts()

    def maker(field: FormatField) -> Text:
        return lambda record: one(field, record)

    def one(field: FormatField, record: bytes) -> str:
        if field.offset + field.size > len(record):
            return "<OVERFLOW>"
        raw = record[field.offset : field.offset + field.size]
        text = isinstance(field.ctype, Array) and isinstance(field.ctype.element, Int) and field.ctype.element.encoding == "char"
        if field.data_loc or field.rel_loc:
            data = dynamic(field, record, env.order)
            return texts[data] if text else ",".join([f"{byte:02x}" for byte in data])
        if text:
            return texts[raw]
        value = int.from_bytes(raw, order)  # type: ignore[arg-type]
        if isinstance(field.ctype, Ptr) and field.type.replace("const", "").replace(" ", "") == "char*":
            found = env.string(value) if env.string else None
            return f"(0x{value:016x})" if found is None else f"(0x{value:016x}:{found})"
        if field.size == 1:
            return (f"'{chr(value)}'" if 32 <= value < 127 else "") + f"({value})"
        if field.size not in (2, 4, 8):
            return "<INVALID-SIZE>"
        signed = value - (1 << 8 * field.size) if value >> (8 * field.size - 1) and field.size > 2 else value
        return f"0x{value:x} ({signed})"

    return _listed([(field.name, maker(field)) for field in event.own[::-1]])
