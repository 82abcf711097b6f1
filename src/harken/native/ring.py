"""The records in pages of ftrace's ring buffer (``ring.c``); ``formats.ring_page`` has the same in Python and says what it means."""

from __future__ import annotations

import ctypes
import sys

from . import library
from .memory import address, room

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    Columns = tuple[memoryview, memoryview, memoryview, memoryview, tuple[tuple[int, int], ...]]

__all__ = ("counts", "latest", "until", "walk")


_ROOMS = 8
getrefcount: Any = getattr(sys, "getrefcount", None)  # not every implementation of Python has it


class _Layout(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in "page_size time commit commit_size data long_size".split()]


class _Found(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in "times starts sizes types count lost lost_count".split()]


def walk(
    pages: Any, page_size: int, time: int, commit: int, commit_size: int, data: int, long_size: int, rooms: list[Any] | None = None
) -> Columns | None:
    """All records of little-endian pages that stand back to back.

    Args:
        pages: ``bytes``, or other memory, which is copied if it is read-only.
        page_size: bytes of a page.
        time, commit, commit_size, data, long_size: offsets and sizes, as in ``ring_page.Layout``.
        rooms: the memory of earlier calls, which is used again once nobody has a part of it any more; it gets that of this call.

    Returns:
        Times (Q), starts and sizes of payloads (q), event ids (H) as memory of equal length; (index, number) of what was lost.
        None where there is no accelerator, or the layout is none that it knows.
    """
    native = library()
    if native is None:
        return None
    length = len(pages)
    try:
        place = address(pages)
    except TypeError:
        pages = bytes(pages)
        place = address(pages)
    most = length // 8 + 1
    gaps = length // page_size + 1
    columns = _again(rooms, 26 * most + 7 & ~7)
    lost = room(16 * gaps)
    base = address(columns)
    layout = _Layout(page_size, time, commit, commit_size, data, long_size)
    found = _Found(base, base + 8 * most, base + 16 * most, base + 24 * most, 0, address(lost), 0)
    native.harken_walk.argtypes = (ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_void_p)
    if native.harken_walk(place, length, ctypes.addressof(layout), ctypes.addressof(found)) != 0:
        return None
    count = found.count
    parts = [columns[at * most : at * most + 8 * count].cast("Q" if not at else "q") for at in (0, 8, 16)]
    types = columns[24 * most : 24 * most + 2 * count].cast("H")
    pairs = lost[: 16 * found.lost_count].cast("Q").tolist()
    return parts[0], parts[1], parts[2], types, tuple(zip(pairs[::2], pairs[1::2]))


def _again(rooms: list[Any] | None, size: int) -> memoryview:
    """Memory, of which large pages need not be got and filled with zeros again if there is some that nobody refers to."""
    if rooms is not None and getrefcount is not None:
        for at in range(len(rooms)):
            if getrefcount(rooms[at]) == 2 and len(rooms[at]) >= size:  # the list and this call's argument
                return memoryview(rooms[at])[:size]
    found = room(size)
    if rooms is not None and getrefcount is not None and len(rooms) < _ROOMS:
        rooms.append(found.obj)
    return found


def until(times: memoryview, horizon: int) -> int:
    """How many times there are up to the first that is later than ``horizon``."""
    native = library()
    assert native is not None, "times come from walk"
    native.harken_until.argtypes = (ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64)
    native.harken_until.restype = ctypes.c_uint64
    return native.harken_until(address(times), len(times), horizon)  # type: ignore[no-any-return]


def latest(times: memoryview) -> int:
    """The latest time; 0 if there is none."""
    native = library()
    assert native is not None, "times come from walk"
    native.harken_latest.argtypes = (ctypes.c_void_p, ctypes.c_uint64)
    native.harken_latest.restype = ctypes.c_uint64
    return native.harken_latest(address(times), len(times))  # type: ignore[no-any-return]


def counts(columns: Iterable[memoryview]) -> dict[int, int]:
    """Event id -> number of records, in the order of the ids.

    Args:
        columns: the records' types.
    """
    native = library()
    assert native is not None, "types come from walk"
    native.harken_count.argtypes = (ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64)
    native.harken_count.restype = ctypes.c_uint64
    number, present, known = room(8 * 65536), room(2 * 65536), 0
    for types in columns:
        known = native.harken_count(address(types), len(types), address(number), address(present), known)
    numbers = number.cast("Q")
    return {kind: numbers[kind] for kind in sorted(present[: 2 * known].cast("H"))}
