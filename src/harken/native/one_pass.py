"""All of a recording as columns in one pass over its pages (``one_pass.c``).

``Recording`` counts the records of each event; ``take`` then gives the columns that are asked for, out of memory that is got for all of
them in one piece.
"""

from __future__ import annotations

import ctypes

from . import library
from .memory import address, room

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

__all__ = ("Recording", "Taken", "Wanted")

_BLOCK, _SEEN = 64, 256  # as in columns.h and one_pass.c
_DONE, _GROW = range(2)
_LEAST_TEXTS, _TEXTS = 16, 1024  # that a field has room for at first


def _u64(names: str) -> list[tuple[str, Any]]:
    return [(name, ctypes.c_uint64) for name in names.split()]


class _Column(ctypes.Structure):
    _fields_ = _u64("offset width out")


class _Text(ctypes.Structure):
    """``struct text``, with its ``struct place`` and ``struct texts``."""

    _fields_ = _u64("offset size width base slots slot_count places count room numbers seen")


class _Kind(ctypes.Structure):
    _fields_ = (
        _u64("times cpus starts sizes columns column_count texts text_count count needs done waiting least")
        + [(name, ctypes.c_int64 * _BLOCK) for name in ("waiting_starts", "waiting_sizes")]
    )  # fmt: skip


class _Source(ctypes.Structure):
    _fields_ = _u64("next stop cpu times starts sizes types count at")


class _Recording(ctypes.Structure):
    _fields_ = (
        _u64("data length")
        + [(name, ctypes.c_uint32) for name in "page_size time commit commit_size data_offset long_size".split()]
        + _u64("sources source_count heap heap_size index kinds kind_count full")
    )  # fmt: skip


class Wanted:
    """The columns of an event that are wanted.

    Args:
        places: whether where the records are is wanted, too.
        numbers: (offset, bytes) of fields.
        texts: (offset, size, width, base) of fields of texts, as ``columns.texts`` takes them.
    """

    __slots__ = ("numbers", "places", "texts")

    def __init__(self, places: bool, numbers: Sequence[tuple[int, int]] = (), texts: Sequence[tuple[int, int, int, int]] = ()) -> None:
        self.places, self.numbers, self.texts = places, numbers, texts

    def widths(self) -> list[int]:
        """Bytes per record of all columns: times, CPUs, starts, sizes, numbers, numbers of texts."""
        return [8, 2, *((8, 8) if self.places else (0, 0)), *[width for _, width in self.numbers], *([4] * len(self.texts))]


class Taken:
    """The columns of an event, as memory.

    ``times`` (Q), ``cpus`` (H), ``starts`` and ``sizes`` (q; None if they were not wanted), the bytes of the ``numbers``, and of each of
    the ``texts`` the numbers (I) and (start, size) of each different one.
    """

    __slots__ = ("cpus", "numbers", "sizes", "starts", "texts", "times")

    def __init__(self, columns: Sequence[memoryview], wanted: Wanted, texts: Sequence[_Text]) -> None:
        self.times, self.cpus = columns[0].cast("Q"), columns[1].cast("H")
        self.starts = columns[2].cast("q") if wanted.places else None
        self.sizes = columns[3].cast("q") if wanted.places else None
        self.numbers = columns[4 : 4 + len(wanted.numbers)]
        self.texts: list[tuple[memoryview, list[tuple[int, int]]]] = []
        for column, text in zip(columns[4 + len(wanted.numbers) :], texts):
            pairs = (ctypes.c_uint64 * (2 * text.count)).from_address(text.places)[:] if text.count else []
            self.texts.append((column.cast("I"), list(zip(pairs[::2], pairs[1::2]))))


class Recording:
    """Pages of several CPUs in one memory.

    Args:
        data: the address of the memory, and its size.
        sources: (CPU, start, size) of the pages of each CPU, in the order in which records of the same time come.
        layout: page_size, time, commit, commit_size, data, long_size, as in ``ring.walk``.
    """

    def __init__(self, data: tuple[int, int], sources: Sequence[tuple[int, int, int]], layout: Sequence[int]) -> None:
        native = library()
        assert native is not None, "without the accelerator columns are made event by event"
        self._native = native
        self._sources = (_Source * len(sources))()
        self._rooms: list[memoryview] = []
        for source, (cpu, start, size) in zip(self._sources, sources):
            most = min(size, layout[0]) // 8 + 1
            base = address(self._room(26 * most))
            source.next, source.stop, source.cpu = start, start + size, cpu
            source.times, source.starts, source.sizes, source.types = base, base + 8 * most, base + 16 * most, base + 24 * most
        heap = self._room(4 * len(sources))
        self._whole = _Recording(*data, *layout, ctypes.addressof(self._sources), len(sources), address(heap))
        for name in ("begin", "run"):
            getattr(native, f"harken_recording_{name}").argtypes = (ctypes.c_void_p,)
        native.harken_recording_count.argtypes = (ctypes.c_void_p,) * 4
        native.harken_recording_grow.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64)

    def _room(self, size: int) -> memoryview:
        found = room(size)
        self._rooms.append(found)
        return found

    def counts(self) -> dict[int, int] | None:
        """Event id -> number of records, in the order of the ids; None if a CPU's records are not in the order of time."""
        numbers, present, known = room(8 * 65536).cast("Q"), room(2 * 65536).cast("H"), ctypes.c_uint64(0)
        done = self._native.harken_recording_count(
            ctypes.addressof(self._whole), address(numbers), address(present), ctypes.addressof(known)
        )
        return {kind: numbers[kind] for kind in sorted(present[: known.value])} if done == _DONE else None

    def take(self, wanted: Mapping[int, tuple[int, Wanted]]) -> dict[int, Taken] | None:
        """The columns of some events, in the order of time; may be called once.

        Args:
            wanted: event id -> number of its records, as ``counts`` gives it, and what is wanted of it.

        Returns:
            Event id -> its columns; None if the recording has changed since its records were counted.

        Raises:
            MemoryError: there is not so much.
        """
        index = self._room(2 * 65536).cast("H")
        kinds = (_Kind * len(wanted))()
        total, places = 0, []
        for count, want in wanted.values():
            for width in want.widths():
                places.append((total, count * width))
                total += count * width + 63 & ~63
        memory = room(total)
        columns = [memory[start : start + size] for start, size in places]
        made, held, at = {}, [], 0
        for number, (kind, (id, (count, want))) in enumerate(zip(kinds, wanted.items())):
            index[id] = number + 1
            own = columns[at : at + 4 + len(want.numbers) + len(want.texts)]
            at += len(own)
            texts = self._texts(want, own[4 + len(want.numbers) :], count)
            fields = (_Column * len(want.numbers))(
                *[_Column(offset, width, address(out)) for (offset, width), out in zip(want.numbers, own[4:])]
            )
            kind.times, kind.cpus, kind.starts, kind.sizes = (address(column) if len(column) else 0 for column in own[:4])
            kind.columns, kind.column_count, kind.texts, kind.text_count = (
                ctypes.addressof(fields), len(fields), ctypes.addressof(texts), len(texts)
            )  # fmt: skip
            kind.count, kind.needs = count, max([offset + width for offset, width in want.numbers], default=0)
            held.append(fields)
            made[id] = own, want, texts
        whole = self._whole
        whole.index, whole.kinds, whole.kind_count = address(index), ctypes.addressof(kinds), len(kinds)
        if not self._run() or any(kind.done != kind.count for kind in kinds):
            return None
        return {id: Taken(*parts) for id, parts in made.items()}

    def _texts(self, want: Wanted, numbers: Sequence[memoryview], count: int) -> Any:
        """The ``struct text`` of each field of an event with so many records."""
        found = (_Text * len(want.texts))()
        most = min(_TEXTS, max(_LEAST_TEXTS, 1 << count.bit_length()))
        each = (16 + 16) * most + 24 * _SEEN
        base = address(self._room(each * len(found))) if len(found) else 0
        for text, place, column in zip(found, want.texts, numbers):
            text.offset, text.size, text.width, text.base = place
            text.slots, text.slot_count, text.places, text.room = base, 4 * most, base + 16 * most, most
            text.numbers, text.seen = address(column) if len(column) else 0, base + 32 * most
            base += each
        return found

    def _run(self) -> bool:
        where = ctypes.addressof(self._whole)
        result = self._native.harken_recording_begin(where)
        while result == _DONE:
            result = self._native.harken_recording_run(where)
            if result == _DONE:
                return True
            if result == _GROW:
                most = 8 * _Text.from_address(self._whole.full).room
                slots, places = self._room(4 * 4 * most), self._room(16 * most)
                self._native.harken_recording_grow(where, address(slots), 4 * most, address(places), most)
                result = _DONE
        return False
