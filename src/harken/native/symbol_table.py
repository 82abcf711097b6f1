"""Symbols of ELF files by address (``symbol_table.c``); ``symbols.symbol_table_read`` has the same in Python."""

from __future__ import annotations

from array import array

from . import library
from .foreign import Pointer, Structure, Word, addressof
from .perf import order

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ("CODE", "LOADED", "add", "arrange", "stubs")

#: What a section holds.
LOADED, CODE = 1, 2


def _u64(names: str) -> list[tuple[str, Any]]:
    return [(name, Word) for name in names.split()]


class _Filter(Structure):
    _fields_ = _u64("entries count strings string_size sections base known known_order known_count no_dollars")


class _Symbols(Structure):
    _fields_ = _u64(
        "values sizes names infos count strings string_count chosen others chosen_count other_count block_size "
        "starts ends lengths alias_starts alias_lengths offsets block bounds inner stack bound_count"
    )


class _Stubs(Structure):
    _fields_ = _u64(
        "starts slots sizes count room nowhere places of_stub place_count names sizes_of_names resolved named_count resolved_count"
    )


class _Dynamic(Structure):
    _fields_ = _u64("symbols size strings string_size relative")


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
    native.harken_table_filter.argtypes = (Pointer, Pointer)
    native.harken_table_filter(addressof(wanted), addressof(symbols))
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
    place = addressof(symbols)
    native.harken_table_choose.argtypes = (Pointer,) * 3
    native.harken_table_fill.argtypes = native.harken_table_nest.argtypes = (Pointer,)
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


def stubs(
    columns: tuple[array[int], array[int], array[int], array[int]],
    plts: list[tuple[bytes, int]],
    most: int,
    relocations: Iterable[tuple[bytes, int]],
    relative: int,
    table: bytes,
    strings: bytes,
    base: int,
) -> bytes | None:
    """Adds symbols for the stubs of a 64-bit x86 file of this machine's byte order.

    Args:
        columns: as for ``add``.
        plts: contents and address of the sections with stubs.
        most: stubs that are looked at.
        relocations: rows of 64-bit numbers, and how many each row has; taken until all places are found.
        relative: the type of relocations whose place the file's own code fills.
        table, strings: .dynsym and its names.
        base: what is added to the places of names.

    Returns:
        The names; None without the accelerator, or if the file's own code fills a place.
    """
    native = library()
    if native is None:
        return None
    room = min(most, sum([len(code) // 8 + 1 for code, _ in plts]))
    starts, slots, places = [_zeros("Q", room) for _ in range(3)]
    of_stub, starts_of, sizes_of, order, spare = [_zeros("I", room) for _ in range(5)]
    sizes, resolved = bytearray(room), bytearray(room)
    found = _Stubs(
        _at(starts), _at(slots), _at(sizes), 0, room, 0, _at(places), _at(of_stub), 0, _at(starts_of), _at(sizes_of), _at(resolved), 0, 0
    )
    dynamic = _Dynamic(_at(table), len(table), _at(strings), len(strings), relative)
    place = addressof(found)
    for code, address in plts:
        _call(native.harken_stubs_jumps, place, _at(code), len(code), address)
    _call(native.harken_stubs_places, place, _at(order), _at(spare))
    for rows, width in relocations:
        _call(native.harken_stubs_relocate, place, addressof(dynamic), _at(rows), len(rows) // (8 * width), width)
        if not found.nowhere and found.named_count + found.resolved_count == found.place_count:
            break
    if found.resolved_count:
        return None
    text = bytearray(_call(native.harken_stubs_size, place))
    have = len(columns[0])
    for column in columns:
        column.frombytes(bytes(column.itemsize * found.count))
    values, lengths, infos, names = [_at(column) + column.itemsize * have for column in columns]
    count = _call(native.harken_stubs_add, place, _at(strings), base, values, lengths, infos, names, _at(text))
    for column in columns:
        del column[have + count :]
    return bytes(text)


def _call(function: Any, *arguments: int) -> int:
    """What a function of the library gives for places and numbers."""
    function.argtypes, function.restype = (Word,) * len(arguments), Word
    return int(function(*arguments))


def _at(memory: Any) -> int:
    """Where memory is."""
    if type(memory) is array:
        return memory.buffer_info()[0]
    from .memory import address

    return address(memory) if len(memory) else 0


def _zeros(letter: Any, count: int) -> array[int]:
    return array(letter, bytes(array(letter).itemsize * count))
