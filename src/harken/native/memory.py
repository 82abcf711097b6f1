"""Where buffers are, and memory for what the accelerator finds.

A buffer must outlive the call that gets its address; whoever calls holds on to it.
"""

from __future__ import annotations

import mmap
from struct import pack

from .foreign import place_of_bytes, place_of_memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("address", "numbers", "room")

_LARGE, _SMALL, _CHUNK = 1 << 21, 1 << 16, 1 << 22
#: What is left of a chunk of large pages, out of which rooms are cut that would fill none; of several, if threads met here.
_rest: list[memoryview] = []


def address(buffer: Any) -> int:
    """The address of the first byte of ``bytes``, of a numpy array or of writable memory.

    Raises:
        TypeError: another kind of read-only memory.

    >>> address(b"abc") > 0, address(memoryview(bytearray(8))[3:]) - address(memoryview(bytearray(8))) != 0
    (True, True)
    """
    if isinstance(buffer, bytes):
        return place_of_bytes(buffer)
    interface = getattr(buffer, "__array_interface__", None)
    if interface is not None:
        return int(interface["data"][0])
    return place_of_memory(buffer)


def numbers(letter: Any, values: Any) -> memoryview:
    """Memory that holds numbers of a type as ``struct`` calls it (the module ``array`` takes 4 ms to import).

    >>> numbers("I", [1, 2]).tolist()
    [1, 2]
    """
    return memoryview(bytearray(pack(f"={len(values)}{letter}", *values))).cast(letter)


def room(size: int) -> memoryview:
    """Zeros, of which only what is touched takes memory.

    Raises:
        MemoryError: there is not so much.
    """
    if size >= _LARGE:
        return memoryview(_map(size + -size % _LARGE))[:size]  # such begin with a large page
    if size < _SMALL:
        return memoryview(_map(size))
    try:
        rest = _rest.pop()
    except IndexError:  # it is the first one, or another thread has it just now
        rest = memoryview(b"")
    if len(rest) < size:
        rest = memoryview(_map(_CHUNK))
    _rest.append(rest[size + -size % 64 :])
    return rest[:size]


def _map(size: int) -> mmap.mmap:
    try:
        found = mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError:
        raise MemoryError(f"no memory for {size} bytes") from None
    if size >= _LARGE:
        try:
            found.madvise(mmap.MADV_HUGEPAGE)  # else a third of the time goes into getting memory page by page
        except (OSError, AttributeError):
            pass
    return found
