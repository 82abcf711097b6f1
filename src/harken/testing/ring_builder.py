"""Ring-buffer pages and records of ftrace, built in code: fixtures for tests of readers and renderers.

Example:
    >>> from harken.formats.event_format import parse
    >>> event = parse("name: x\\nID: 5\\nformat:\\n\\tfield:int a;\\toffset:8;\\tsize:4;\\tsigned:1;\\n\\nprint fmt: \\"\\"")
    >>> from harken.formats.ring_page import parse as parse_page
    >>> page = pages([(1000, record(event, {"a": -1}, "<"))], order="<")
    >>> parse_page(page, "<").records
    [(1000, 20, 12)]
"""

from __future__ import annotations

import struct

from ..base.ctype import Array, Int

TYPE_CHECKING = False
if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Mapping
    from typing import Any

    from ..formats.event_format import EventFormat, FormatField

__all__ = ("record", "random_record", "pages", "page")


def _number(value: int, size: int, order: str) -> bytes:
    return (value & ((1 << 8 * size) - 1)).to_bytes(size, "little" if order == "<" else "big")


def record(event: EventFormat, values: Mapping[str, Any], order: str = "<", pid: int = 1) -> bytes:
    """A payload: integers, ``bytes`` or ``str`` per field; what is not given is zero; fields of changing length follow the fixed part."""
    data = bytearray(event.size)
    tail = bytearray()
    for field in event.fields:
        value = values.get(field.name, 0)
        if field.name == "common_type":
            value = event.id
        elif field.name == "common_pid" and field.name not in values:
            value = pid
        if field.data_loc or field.rel_loc:
            piece = value.encode() + b"\0" if isinstance(value, str) else value or b""
            start = event.size + len(tail) - (field.offset + field.size if field.rel_loc else 0)
            tail += piece + bytes(-len(piece) % 4)
            data[field.offset : field.offset + 4] = _number(len(piece) << 16 | start, 4, order)
        elif isinstance(value, int):
            data[field.offset : field.offset + field.size] = _number(value, field.size, order)
        elif field.size:
            piece = value.encode() if isinstance(value, str) else bytes(value)
            data[field.offset : field.offset + field.size] = piece[: field.size].ljust(field.size, b"\0")
        else:
            tail += value.encode() + b"\0" if isinstance(value, str) else value
    return bytes(data) + bytes(tail)


def _is_text(field: FormatField) -> bool:
    kind = field.ctype
    return isinstance(kind, Array) and isinstance(kind.element, Int) and kind.element.encoding == "char" and kind.element.signed


def random_record(event: EventFormat, rng: random.Random, order: str = "<", lengths: frozenset[str] = frozenset()) -> bytes:
    """A payload of random but possible contents: small and large numbers, texts with their NUL, arrays.

    Args:
        lengths: names of fields that say how long something else is; they stay small.
    """
    values: dict[str, Any] = {}
    for field in event.fields:
        if field.name == "common_pid":
            values[field.name] = rng.randrange(1, 5)
        elif field.common:
            continue
        elif field.data_loc or field.rel_loc:
            text = "".join(rng.choices("abcdefgh/_.", k=rng.randrange(12)))
            values[field.name] = text if _is_text(field) else rng.randbytes(8 * rng.randrange(1, 4))
        elif _is_text(field):
            values[field.name] = "".join(rng.choices("abcdefgh", k=min(max(0, field.size - 1), rng.randrange(15))))
        elif field.name in lengths:
            values[field.name] = rng.randrange(8)
        elif field.size in (1, 2, 4, 8) and rng.random() < 0.5:
            values[field.name] = rng.choice((0, 1, 2, 3, rng.randrange(40), rng.randrange(128)))
        else:
            raw = rng.randbytes(field.size)
            if field.size in (16, 28) and rng.random() < 0.7:  # these may be socket addresses
                raw = _number(rng.choice((2, 10)), 2, order) + raw[2:]
            values[field.name] = raw
    return record(event, values, order)


def pages(
    records: Iterable[tuple[int, bytes]], order: str = "<", long_size: int = 8, page_size: int = 4096, lost: Mapping[int, int] | None = None
) -> bytes:
    """Pages that hold (time, payload) in order, with time extends where a delta needs more than 27 bits.

    Args:
        lost: number of a page -> events lost before it; -1 where the kernel does not say how many.
    """
    room = page_size - 8 - long_size
    done: list[bytes] = []
    body = bytearray()
    first = last = 0
    lost = lost or {}

    def finish() -> None:
        done.append(page(first, bytes(body), order, long_size, page_size, lost.get(len(done))))
        body.clear()

    for time, payload in records:
        item = _event(time - last if body else 0, payload, order)
        if body and len(body) + len(item) > room:
            finish()
            item = _event(0, payload, order)
        if not body:
            first = time
        body += item
        last = time
    if body or not done:
        finish()
    return b"".join(done)


def page(time: int, body: bytes, order: str = "<", long_size: int = 8, page_size: int = 4096, lost: int | None = None) -> bytes:
    """One page around the bytes of its records."""
    commit, stored = len(body), b""
    if lost is not None:
        commit |= 1 << 31
        if lost >= 0 and len(body) + long_size <= page_size - 8 - long_size:
            commit |= 1 << 30
            stored = _number(lost, long_size, order)
    return (_number(time, 8, order) + _number(commit, long_size, order) + body + stored).ljust(page_size, b"\0")


def _event(delta: int, payload: bytes, order: str) -> bytes:
    head = b""
    if delta >> 27:
        head = _head(30, delta & ((1 << 27) - 1), order) + _number(delta >> 27, 4, order)
        delta = 0
    payload += bytes(-len(payload) % 4)
    if 0 < len(payload) <= 112:
        return head + _head(len(payload) // 4, delta, order) + payload
    return head + _head(0, delta, order) + struct.pack(order + "I", len(payload) + 4) + payload


def _head(kind: int, delta: int, order: str) -> bytes:
    return struct.pack(order + "I", delta << 5 | kind if order == "<" else kind << 27 | delta)
