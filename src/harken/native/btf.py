"""The walk through the types of a kernel (``btf.c``); ``formats.btf_layout`` has the same in Python."""

from __future__ import annotations

from . import library
from .foreign import Pointer, Word
from .memory import address, room

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("walk", "words_at")


def walk(data: Any, start: int, count: int, fixed: bytes, items: bytes, limit: int) -> tuple[memoryview, bytes] | None:
    """Where each record of a type section starts, as an index of words, and of what kind it is.

    Args:
        data: BTF in this machine's byte order.
        start: byte at which the type section begins.
        count: its words, 4 bytes each.
        fixed, items: by kind, the words behind the first three and those of each item.
        limit: records there may be.

    Returns:
        None without the accelerator, for ``data`` that are not ``bytes``, and for sections that are not well formed.

    Example:
        >>> fixed, items = bytes([0, 1] + 18 * [0]), bytes(20)
        >>> found = walk(bytes(4) + b"\\0\\0\\0\\1" + bytes(8), 0, 4, fixed, items, 9)
        >>> found is None or (found[0].tolist(), found[1]) == ([0], b"\\1")
        True
    """
    native = library()
    if native is None or type(data) is not bytes or count < 3 or not 0 <= start <= start + 4 * count <= len(data) or start & 3:
        return None
    most = min(count // 3, limit)
    positions, kinds = room(4 * most), room(most)
    call: Any = native.harken_btf_walk
    call.argtypes = (Pointer, Word, Pointer, Pointer, Pointer, Pointer, Word)
    found = call(address(data) + start, count, address(fixed), address(items), address(positions), address(kinds), most)
    return (positions[: 4 * found].cast("I"), bytes(kinds[:found])) if found > 0 else None


def words_at(data: Any, start: int, count: int, positions: Any) -> memoryview | None:
    """The words of a type section at some positions (see ``walk``); None without the accelerator, and if one lies outside."""
    native = library()
    if native is None or type(data) is not bytes or not 0 <= start <= start + 4 * count <= len(data) or start & 3 or not len(positions):
        return None
    values = room(4 * len(positions))
    call: Any = native.harken_btf_words
    call.argtypes = (Pointer, Word, Pointer, Word, Pointer)
    return values.cast("I") if call(address(data) + start, count, address(positions), len(positions), address(values)) else None
