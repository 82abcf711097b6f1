"""Values as text and as JSON: what ``print()``, ``%s`` and map keys show.

A value is what ``Schema`` decodes (int, bool, str, bytes, tuples of them); its ``Field`` says what it means.  Layouts are bpftrace's:

=======================  ==========================  =====================
role                     text                        JSON
=======================  ==========================  =====================
plain integer            ``-5``                      ``-5``
bool                     ``true``                    ``true``
ptr                      ``0x10``                    ``16``
enum                     the name, else the number   the number
tuple                    ``(1, a, (2, 3))``          ``[1,"a",[2,3]]``
struct                   ``{ .a = 1, .b = x }``      ``{"a": 1, "b": "x"}``
array                    ``[1,2,3]``                 ``[1,2,3]``
string                   bare                        quoted
buf                      ``ab\\x01``                  the same, quoted
inet, mac, strerror, ..  their usual notation        the same, quoted
kstack, ksym, ...        see ``stacks``              the same, quoted
=======================  ==========================  =====================

Functions that depend on the field only are made once (``text_of(field)``), so that nothing is decided per value.

Example:
    >>> from harken.base.schema import Field
    >>> text_of(Field("mac", 0, "p", 6, "mac"))(bytes(range(6)))
    '00:01:02:03:04:05'
    >>> json_of(Field("x", 0, "s", 8))('a "b"')
    '"a \\\\"b\\\\""'
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..base.schema import Field, Schema

__all__ = ("text_of", "json_of", "row_text", "row_json", "key_text", "key_json", "quote", "buffer_text", "clean", "timestamp")

_SHORT = {0x22: '\\"', 0x5C: "\\\\", 0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t", 0x08: "\\b", 0x0C: "\\f"}
#: Everything JSON does not allow inside of a string.
_ESCAPES = {code: f"\\u{code:04x}" for code in range(0x20)} | _SHORT
#: Printable ASCII as itself, everything else as ``\xNN``.
_BYTES = tuple([chr(code) if 0x20 <= code < 0x7F else f"\\x{code:02x}" for code in range(256)])


def quote(text: str) -> str:
    """A JSON string; bytes that are not UTF-8 (kept as surrogates in text output) appear as ``\\xNN``.

    >>> quote("a\\n\\x01")
    '"a\\\\n\\\\u0001"'
    """
    return f'"{clean(text).translate(_ESCAPES)}"'


def clean(text: str) -> str:
    """Text without lone surrogates: bytes that were not UTF-8 become ``\\xNN``."""
    if text.isascii():
        return text
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def buffer_text(raw: bytes) -> str:
    """Bytes with everything unprintable as ``\\xNN`` (bpftrace does not escape the backslash itself).

    >>> buffer_text(b"ab\\x01")
    'ab\\\\x01'
    """
    return "".join([_BYTES[byte] for byte in raw])


def text_of(field: Field) -> Callable[[Any], str]:
    """A function from a value of ``field`` to its text."""
    one = _text_one(field)
    if field.count > 1 and field.kind not in "spvw" and field.role not in _WHOLE:
        return lambda value: f"[{','.join([one(item) for item in value])}]"
    return one


def json_of(field: Field) -> Callable[[Any], str]:
    """A function from a value of ``field`` to JSON."""
    one = _json_one(field)
    if field.count > 1 and field.kind not in "spvw" and field.role not in _WHOLE:
        return lambda value: f"[{','.join([one(item) for item in value])}]"
    return one


def row_text(schema: Schema) -> Callable[[tuple[Any, ...]], str]:
    """A decoded record as text: its only field, or all of them as a tuple."""
    if len(schema.fields) == 1:
        one = text_of(schema.fields[0])
        return lambda row: one(row[0])
    return _tuple_text(schema)


def row_json(schema: Schema) -> Callable[[tuple[Any, ...]], str]:
    """A decoded record as JSON: its only field, or all of them as a list."""
    if len(schema.fields) == 1:
        one = json_of(schema.fields[0])
        return lambda row: one(row[0])
    return _tuple_json(schema)


def key_text(schema: Schema) -> Callable[[tuple[Any, ...]], str]:
    """A map's key as it stands between the brackets: components joined by ", "; the parentheses of an only tuple are dropped."""
    return _joined(schema, _key_part, ", ")


def key_json(schema: Schema) -> Callable[[tuple[Any, ...]], str]:
    """A map's key as an object's name: components joined by "," and quoted."""
    joined = _joined(schema, _key_part, ",")
    return lambda row: quote(joined(row))


def _key_part(field: Field) -> Callable[[Any], str]:
    """Stacks are indented less in keys."""
    if field.role in ("kstack", "ustack"):
        from .stacks import text_of_stack

        return text_of_stack(field, 4)
    return text_of(field)


def _joined(schema: Schema, make: Callable[[Field], Callable[[Any], str]], separator: str) -> Callable[[tuple[Any, ...]], str]:
    fields = schema.fields
    if len(fields) == 1 and fields[0].role == "tuple" and fields[0].schema is not None and fields[0].count == 1:
        inner = _joined(fields[0].schema, make, separator)
        return lambda row: inner(row[0])
    parts = [make(field) for field in fields]
    return lambda row: separator.join([part(value) for part, value in zip(parts, row)])


def _tuple_text(schema: Schema) -> Callable[[tuple[Any, ...]], str]:
    parts = [text_of(field) for field in schema.fields]
    if len(parts) == 1:
        return lambda row: f"({parts[0](row[0])},)"
    return lambda row: f"({', '.join([part(value) for part, value in zip(parts, row)])})"


def _tuple_json(schema: Schema) -> Callable[[tuple[Any, ...]], str]:
    parts = [json_of(field) for field in schema.fields]
    return lambda row: f"[{','.join([part(value) for part, value in zip(parts, row)])}]"


def _struct_text(schema: Schema) -> Callable[[tuple[Any, ...]], str]:
    parts = [(field.name, text_of(field)) for field in schema.fields]
    if not parts:
        return lambda row: "{}"
    return lambda row: "{ " + ", ".join([f".{name} = {part(value)}" for (name, part), value in zip(parts, row)]) + " }"


def _struct_json(schema: Schema) -> Callable[[tuple[Any, ...]], str]:
    parts = [(quote(field.name), json_of(field)) for field in schema.fields]
    return lambda row: "{" + ", ".join([f"{name}: {part(value)}" for (name, part), value in zip(parts, row)]) + "}"


def _text_one(field: Field) -> Callable[[Any], str]:
    role, kind = field.role, field.kind
    special = _special(field)
    if special is not None:
        return special
    if kind == "r" and field.schema is not None:
        return _struct_text(field.schema) if role == "struct" else _tuple_text(field.schema)
    if kind in "pw":
        return buffer_text
    if role == "bool" or kind == "?":
        return lambda value: "true" if value else "false"
    if role == "ptr":
        return lambda value: f"0x{value & 0xFFFFFFFFFFFFFFFF:x}"
    if role == "enum":
        names = dict(field.detail) if isinstance(field.detail, (tuple, dict)) else {}
        return lambda value: names.get(value) or str(value)
    return str


def _json_one(field: Field) -> Callable[[Any], str]:
    role, kind = field.role, field.kind
    special = _special(field)
    if special is not None:
        return lambda value: quote(special(value))
    if kind == "r" and field.schema is not None:
        return _struct_json(field.schema) if role == "struct" else _tuple_json(field.schema)
    if kind in "pw":
        return lambda value: quote(buffer_text(value))
    if kind in "sv":
        return quote
    if role == "bool" or kind == "?":
        return lambda value: "true" if value else "false"
    return lambda value: str(int(value))


#: Roles whose value is the whole field although it is an array.
_WHOLE = frozenset(("inet", "mac"))


def _special(field: Field) -> Callable[[Any], str] | None:
    """Roles with a notation of their own."""
    role = field.role
    if role == "mac":
        return lambda value: ":".join([f"{byte:02x}" for byte in value])
    if role == "inet":
        return _inet
    if role in ("kstack", "ustack"):
        from .stacks import text_of_stack

        return text_of_stack(field)
    if role in ("ksym", "usym"):
        from .stacks import text_of_symbol

        return text_of_symbol(field)
    if role == "strerror":
        return _strerror
    if role in ("timestamp", "strftime"):
        detail = field.detail if isinstance(field.detail, str) else "%H:%M:%S"
        return lambda value: timestamp(detail, value)
    return None


def _strerror(number: int) -> str:
    import os

    return os.strerror(abs(number))


def _inet(value: Any) -> str:
    """An address: 4 or 16 bytes, or those after a family (AF_INET 2, AF_INET6 10) as u32 or u64; an int is an IPv4 address as in memory."""
    import socket
    import sys

    if isinstance(value, int):
        raw = (value & 0xFFFFFFFF).to_bytes(4, sys.byteorder)
    elif isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], bytes):
        raw = value[1][:4] if value[0] == socket.AF_INET else value[1][:16]
    else:
        raw = bytes(value)
        if len(raw) not in (4, 16):
            head = 8 if len(raw) in (12, 24) else 4
            family = int.from_bytes(raw[:head], sys.byteorder)
            raw = raw[head : head + (4 if family == socket.AF_INET else 16)]
    try:
        return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)
    except (OSError, ValueError):
        return buffer_text(raw)


_boot_to_wall = 0


def timestamp(layout: str, nanoseconds: int) -> str:
    """Nanoseconds since boot as wall clock time by a strftime layout, to which ``%f`` (microseconds) is added."""
    import time

    global _boot_to_wall
    if not _boot_to_wall:
        _boot_to_wall = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    wall = nanoseconds + _boot_to_wall
    if "%f" in layout:
        layout = layout.replace("%f", f"{wall // 1000 % 1_000_000:06d}")
    try:
        return time.strftime(layout, time.localtime(wall // 1_000_000_000))
    except (OverflowError, ValueError, OSError):
        return str(nanoseconds)
