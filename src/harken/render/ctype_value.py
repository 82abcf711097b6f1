"""Bytes of a C type as plain values (numbers, texts, lists, dicts) and back: what map keys and values are shown as and typed in as.

Shapes are bpftool's: a struct is a dict by member's name, an array a list, an array of char a text, an enum its enumerator's name (or the
number), a pointer a text "0x...".

Example:
    >>> from harken.base.ctype import Array, Int, Member, Struct
    >>> u32, char = Int("unsigned int", 4, False), Int("char", 1, True, "char")
    >>> event = Struct("event", 12, (Member("pid", u32, 0), Member("comm", Array(char, 8), 32)))
    >>> decode(event, bytes([7, 0, 0, 0]) + b"bash" + bytes(4))
    {'pid': 7, 'comm': 'bash'}
    >>> encode(event, {"pid": 7, "comm": "bash"}).hex(" ")
    '07 00 00 00 62 61 73 68 00 00 00 00'
"""

from __future__ import annotations

import struct
import sys

from ..base.ctype import NESTING, Array, Enum, Float, Int, Ptr, Struct
from ..base.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..base.ctype import CType, Member

__all__ = ("decode", "encode")


def decode(type: CType, data: bytes, depth: int = 0) -> Any:
    """A plain value; bytes of types that have no values of their own (functions, forward declarations) as a text of hex digits."""
    bare = type.strip()
    if isinstance(bare, Int):
        number = int.from_bytes(data[: bare.size], sys.byteorder, signed=bare.signed)
        return bool(number) if bare.encoding == "bool" else hex(number) if bare.size > 8 else number
    if isinstance(bare, Ptr):
        return hex(int.from_bytes(data[: bare.size], sys.byteorder))
    if isinstance(bare, Enum):
        number = int.from_bytes(data[: bare.size], sys.byteorder, signed=bare.signed or any(v < 0 for v in bare.values.values()))
        return next((name for name, value in bare.values.items() if value == number), number)
    if isinstance(bare, Float):
        return struct.unpack("=f" if bare.size == 4 else "=d", data[: bare.size])[0] if bare.size in (4, 8) else data.hex(" ")
    if depth > NESTING:
        return data.hex(" ")
    if isinstance(bare, Array):
        return _array(bare, data, depth)
    if isinstance(bare, Struct):
        return {member.name: _member(member, data, depth) for member in bare.members}
    return data.hex(" ")


def _array(type: Array, data: bytes, depth: int) -> Any:
    size = type.element.size
    if _is_char(type.element):
        text, _, rest = data[: type.size].partition(b"\0")
        if not rest.strip(b"\0"):
            try:
                return text.decode()
            except UnicodeDecodeError:
                pass
    if not size:
        return []
    return [decode(type.element, data[i : i + size], depth + 1) for i in range(0, min(type.size, len(data)), size)]


def _is_char(type: CType) -> bool:
    bare = type.strip()
    return isinstance(bare, Int) and bare.size == 1 and (bare.encoding == "char" or bare.name in ("char", "signed char"))


def _member(member: Member, data: bytes, depth: int) -> Any:
    if not member.bit_size:
        start = member.bit_offset // 8
        return decode(member.type, data[start : start + member.type.size], depth + 1)
    first, last = member.bit_offset // 8, (member.bit_offset + member.bit_size + 7) // 8
    raw = int.from_bytes(data[first:last], "little") >> (member.bit_offset - 8 * first)
    number = raw & (1 << member.bit_size) - 1
    bare = member.type.strip()
    if isinstance(bare, Int) and bare.signed and number >> (member.bit_size - 1):
        number -= 1 << member.bit_size
    if isinstance(bare, Enum):
        return next((name for name, value in bare.values.items() if value == number), number)
    return bool(number) if isinstance(bare, Int) and bare.encoding == "bool" else number


def encode(type: CType, value: Any, what: str = "value") -> bytes:
    """The bytes of a plain value; what a dict leaves out is zero.

    Raises:
        UsageError: the value does not fit the type.
    """
    bare = type.strip()
    if isinstance(bare, Struct):
        if not isinstance(value, dict):
            raise UsageError(f"{what}: {bare.declare()} is given as {{member: value, ...}}")
        data = bytearray(bare.size)
        for name, inner in value.items():
            member = bare.member(name)
            if member is None:
                raise UsageError(f"{what}: {bare.declare()} has no member {name!r}", f"it has: {', '.join(list(bare.names())[:20])}")
            _place(data, member, inner, f"{what}.{name}")
        return bytes(data)
    if isinstance(bare, Array):
        if isinstance(value, str) and bare.element.size == 1:
            raw = value.encode("utf-8", "surrogateescape")
            if len(raw) > bare.size:
                raise UsageError(f"{what}: the text has {len(raw)} bytes, there is room for {bare.size}")
            return raw + bytes(bare.size - len(raw))
        if not isinstance(value, list) or len(value) > bare.count:
            raise UsageError(f"{what}: needs a list of at most {bare.count} values")
        joined = b"".join([encode(bare.element, inner, f"{what}[{i}]") for i, inner in enumerate(value)])
        return joined + bytes(bare.size - len(joined))
    if isinstance(bare, Float) and bare.size in (4, 8) and isinstance(value, (int, float)):
        return struct.pack("=f" if bare.size == 4 else "=d", value)
    if isinstance(bare, Enum) and isinstance(value, str) and value in bare.values:
        value = bare.values[value]
    if isinstance(value, str):
        try:
            value = int(value, 0)
        except ValueError:
            raise UsageError(f"{what}: {value!r} is not a number") from None
    if not isinstance(value, int) or not isinstance(bare, (Int, Enum, Ptr)):
        raise UsageError(f"{what}: {value!r} does not fit the type {type.declare()}")
    bits = 8 * bare.size
    if not -(1 << (bits - 1)) <= value < 1 << bits:
        raise UsageError(f"{what}: {value} does not fit into {bare.size} bytes")
    return (value & (1 << bits) - 1).to_bytes(bare.size, sys.byteorder)


def _place(data: bytearray, member: Member, value: Any, what: str) -> None:
    if not member.bit_size:
        start = member.bit_offset // 8
        inner = encode(member.type, value, what)
        data[start : start + len(inner)] = inner
        return
    if not isinstance(value, int) or not -(1 << member.bit_size) < value < 1 << member.bit_size:
        raise UsageError(f"{what}: {value!r} does not fit into {member.bit_size} bits")
    mask = (1 << member.bit_size) - 1
    number = int.from_bytes(data, "little") & ~(mask << member.bit_offset) | (value & mask) << member.bit_offset
    data[:] = number.to_bytes(len(data), "little")
