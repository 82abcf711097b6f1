"""Symbols of ELF files by address (``symbol_table.c``); ``symbols.symbol_table_read`` has the same in Python."""

from __future__ import annotations

import ctypes
from array import array

from . import library
from .perf import order

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("CODE", "LOADED", "add", "arrange", "rows")

#: What a section holds.
LOADED, CODE = 1, 2


def _u64(names: str) -> list[tuple[str, Any]]:
    return [(name, ctypes.c_uint64) for name in names.split()]


class _Filter(ctypes.Structure):
    _fields_ = _u64("entries count strings string_size sections base known known_order known_count no_dollars")


class _Symbols(ctypes.Structure):
    _fields_ = _u64(
        "values sizes names infos count strings string_count chosen others chosen_count other_count block_size "
        "starts ends lengths alias_starts alias_lengths offsets block bounds inner stack bound_count"
    )


def add(
    columns: tuple[array[int], array[int], array[int], array[int]],
    data: bytes,
    strings: bytes,
    sections: bytes,
    base: int,
    known: array[int],
    no_dollars: bool,
) -> bool:
    """Adds the entries of a table of a 64-bit file of this machine's byte order that count as symbols; False without the accelerator.

    Args:
        columns: values, sizes, infos (B) and names of the symbols so far.
        sections: ``LOADED`` and ``CODE`` for each of 65,536 sections.
        base: what is added to the places of names.
        known: addresses whose symbols are not wanted.
        no_dollars: leave out names that begin with $.
    """
    native = library()
    count = len(data) // 24
    if native is None or not count:
        return native is not None
    values, sizes, infos, names = columns
    have, places = len(values), order(memoryview(known)) if len(known) else memoryview(b"")
    for column in columns:
        column.frombytes(bytes(column.itemsize * count))
    symbols = _Symbols(_at(values), _at(sizes), _at(names), _at(infos), have)
    wanted = _Filter(_at(data), count, _at(strings), len(strings), _at(sections), base, _at(known), _at(places), len(known), no_dollars)
    native.harken_table_filter.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
    native.harken_table_filter(ctypes.addressof(wanted), ctypes.addressof(symbols))
    for column in columns:
        del column[symbols.count :]
    return True


def arrange(
    columns: tuple[array[int], array[int], array[int], array[int]], strings: list[bytes], most: int
) -> tuple[array[int], array[int], array[int], array[int], array[int], array[int], array[int], array[int], bytearray] | None:
    """Symbols by address: what ``symbol_table_read.Arrays.columns`` says.

    Args:
        columns, strings: as ``add`` has filled them; tables of names.
        most: bytes of names that are made.

    Returns:
        None without the accelerator, or if names take more.
    """
    native = library()
    if native is None:
        return None
    values, sizes, infos, names = columns
    count = len(values)
    tables = array("Q", [word for table in strings for word in (_at(table), len(table))])
    chosen, others, spare, more = [_zeros("I", count) for _ in range(4)]
    symbols = _Symbols(_at(values), _at(sizes), _at(names), _at(infos), count, _at(tables), len(strings), _at(chosen), _at(others))
    place = ctypes.addressof(symbols)
    native.harken_table_choose.argtypes = (ctypes.c_void_p,) * 3
    native.harken_table_fill.argtypes = native.harken_table_nest.argtypes = (ctypes.c_void_p,)
    native.harken_table_choose(place, _at(spare), _at(more))
    if symbols.block_size > most:
        return None
    found, aliases = symbols.chosen_count, symbols.other_count
    starts, ends, lengths = [_zeros("Q", found) for _ in range(3)]
    alias_starts, alias_lengths = _zeros("Q", aliases), _zeros("Q", aliases)
    offsets, block = _zeros("I", found + aliases + 1), bytearray(symbols.block_size)
    symbols.starts, symbols.ends, symbols.lengths = _at(starts), _at(ends), _at(lengths)
    symbols.alias_starts, symbols.alias_lengths, symbols.offsets, symbols.block = map(_at, (alias_starts, alias_lengths, offsets, block))
    bounds, inner = array("Q"), array("q")
    if native.harken_table_fill(place):
        bounds, inner = _zeros("Q", 2 * found), _zeros("q", 2 * found)
        symbols.bounds, symbols.inner, symbols.stack = _at(bounds), _at(inner), _at(spare)
        native.harken_table_nest(place)
        del bounds[symbols.bound_count :], inner[symbols.bound_count :]
    return starts, ends, lengths, bounds, inner, alias_starts, alias_lengths, offsets, block


def rows(words: array[int], width: int, wanted: frozenset[int]) -> list[int] | None:
    """The numbers of the rows of so many 64-bit numbers whose first one is wanted; None without the accelerator.

    >>> rows(array("Q", [7, 0, 5, 0, 7, 0, 6]), 2, frozenset((7, 5))) if library() else [0, 1, 2]
    [0, 1, 2]
    """
    native = library()
    count = len(words) // width
    if native is None or words.itemsize != 8 or count >= 1 << 32:
        return None
    places, found = array("Q", sorted([place for place in wanted if not place >> 64])), _zeros("I", count)
    native.harken_table_rows.argtypes = (
        ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p,
    )  # fmt: skip
    native.harken_table_rows.restype = ctypes.c_uint64
    return found[: native.harken_table_rows(_at(words), count, width, _at(places), len(places), _at(found))].tolist()


def _at(memory: Any) -> int:
    """Where memory is."""
    if type(memory) is array:
        return memory.buffer_info()[0]
    from .memory import address

    return address(memory) if len(memory) else 0


def _zeros(letter: Any, count: int) -> array[int]:
    return array(letter, bytes(array(letter).itemsize * count))
