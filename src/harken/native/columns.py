"""Records as columns (``columns.c``); ``formats.event_records`` makes them without the accelerator as well."""

from __future__ import annotations

import ctypes

from . import library
from .memory import address, room

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from .text import Table

__all__ = ("gather", "news", "places", "split", "texts")

_NEWS = 512


class _Records(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in "times starts sizes types count".split()]


class _Column(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in "offset width out".split()]


class _Place(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in "offset size width base".split()]


class _Texts(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in "slots slot_count places count".split()]


def _records(columns: Sequence[memoryview]) -> _Records:
    return _Records(*[address(column) for column in columns], len(columns[0]))


def split(columns: Sequence[memoryview], counts: Mapping[int, int]) -> dict[int, tuple[memoryview, memoryview, memoryview]]:
    """Each event's records.

    Args:
        columns: times, starts, sizes and types, as ``ring.walk`` gives them.
        counts: event id -> number of its records, for those that are wanted.

    Returns:
        Event id -> its times, starts and sizes.
    """
    native = library()
    assert native is not None, "columns come from ring.walk"
    total = sum(counts.values())
    places = memoryview(bytearray(b"\xff") * (8 * 65536)).cast("Q")
    at = 0
    for kind, count in counts.items():
        places[kind] = at
        at += count
    made = room(24 * total)
    base = address(made)
    native.harken_split.argtypes = (ctypes.c_void_p,) * 5 + (ctypes.c_uint64,)
    records = _records(columns)
    if native.harken_split(ctypes.addressof(records), address(places), base, base + 8 * total, base + 16 * total, total) != 0:
        raise AssertionError("the counts are those of other records")
    found, at = {}, 0
    for kind, count in counts.items():
        first, second, third = (made[8 * (total * part + at) : 8 * (total * part + at + count)] for part in range(3))
        found[kind] = first.cast("Q"), second.cast("q"), third.cast("q")
        at += count
    return found


def gather(buffer: int, length: int, starts: Any, sizes: Any, fields: Sequence[tuple[int, int]]) -> list[memoryview] | None:
    """Fields of records, each as memory of as many bytes as all of it take; zeros for records that are too short.

    Args:
        buffer, length: the address of what the records are in, and its size.
        starts, sizes: 64-bit numbers, as ``split`` gives them or as numpy arrays.
        fields: (offset, bytes) of each.

    Returns:
        None if a record is not in the buffer.
    """
    native = library()
    assert native is not None, "starts come from ring.walk"
    count = len(starts)
    # in one piece, which large pages serve, and each at the start of a cache line
    places = [0]
    for _, width in fields:
        places.append(places[-1] + (width * count + 63 & ~63))
    whole = room(places[-1])
    made = [whole[at:next] for at, next in zip(places, places[1:])]
    columns = (_Column * len(fields))(*[_Column(offset, width, address(out)) for (offset, width), out in zip(fields, made)])
    native.harken_gather.argtypes = (
        ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64
    )  # fmt: skip
    done = native.harken_gather(buffer, length, address(starts), address(sizes), count, ctypes.addressof(columns), len(fields))
    return [out[: width * count] for (_, width), out in zip(fields, made)] if done == 0 else None


def texts(
    buffer: int, length: int, starts: Any, sizes: Any, offset: int, size: int, width: int, base: int
) -> tuple[memoryview, list[tuple[int, int]]] | None:
    """The texts of a field of records, which end at their first zero byte.

    Args:
        buffer, length: the address of what the records are in, and its size.
        starts, sizes: 64-bit numbers, as ``split`` gives them or as numpy arrays.
        offset, size: the field's place.
        width: bytes of the number there that says where the text is (``__data_loc``); 0 if it is the text.
        base: what that number counts from.

    Returns:
        Each record's text as a number (I), and (start, size) in the buffer of each different one.  None if a record is not in the buffer.
    """
    native = library()
    assert native is not None, "starts come from ring.walk"
    count = len(starts)
    slots = 1 << (2 * count + 1).bit_length()
    table, places, numbers = room(4 * slots), room(16 * count), room(4 * count)
    found = _Texts(address(table), slots, address(places), 0)
    place = _Place(offset, size, width, base)
    native.harken_texts.argtypes = (
        ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64,
        ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p,
    )  # fmt: skip
    done = native.harken_texts(
        buffer, length, address(starts), address(sizes), count, ctypes.addressof(place), ctypes.addressof(found), address(numbers)
    )
    if done != 0:
        return None
    pairs = places[: 16 * found.count].cast("Q").tolist()
    return numbers[: 4 * count].cast("I"), list(zip(pairs[::2], pairs[1::2]))


def places(types: memoryview, kind: int, count: int) -> memoryview:
    """The indexes (Q) of the records of an event, of which there are ``count``."""
    native = library()
    assert native is not None, "types come from ring.walk"
    native.harken_places.argtypes = (ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint16, ctypes.c_void_p, ctypes.c_uint64)
    native.harken_places.restype = ctypes.c_uint64
    found = room(8 * count)
    return found[: 8 * native.harken_places(address(types), len(types), kind, address(found), count)].cast("Q")


def news(table: Table, memo: int, buffer: bytes, columns: Sequence[memoryview], kind: int, offset: int) -> Iterator[int]:
    """Indexes of the records of an event that have a 32-bit number which none before had, also none of earlier calls.

    Args:
        table: remembers them, under ``memo``, until it is emptied.
        kind: the event's id.
        offset: where the number is in a record.
    """
    native = library()
    assert native is not None, "columns come from ring.walk"
    native.harken_news.restype = ctypes.c_uint64
    native.harken_news.argtypes = (
        ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint16, ctypes.c_uint64,
        ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64,
    )  # fmt: skip
    records, at, found = _records(columns), ctypes.c_uint64(0), (ctypes.c_uint64 * _NEWS)()
    places: tuple[Any, ...] = tuple(ctypes.addressof(thing) for thing in (records, at, found))
    while at.value < len(columns[0]):
        before = at.value
        count = native.harken_news(table.place, memo, address(buffer), len(buffer), places[0], kind, offset, places[1], places[2], _NEWS)
        yield from list(found[:count])
        if not count and at.value == before:
            table.clear()
