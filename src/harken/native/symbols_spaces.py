"""The address spaces of recorded processes (``symbols_spaces.c``): the structures that C and Python share, and room for what is kept.

``symbols.symbolizer_spaces`` has the same in Python.  What is mapped is a ``Kind``: a part of a file, which is known again in every process
that has it mapped, by number.
"""

from __future__ import annotations

import os
from struct import Struct

from .foreign import Pointer, Structure, Word, addressof
from .memory import address, numbers, room

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("Kind", "Spaces")

_DONE, _ROWS, _KINDS, _PATHS, _TABLES, _TOO_MUCH = range(6)
_EXECUTABLE, _HUGE, _OWN = 1, 2, 4
_BUILD_ID = 20
#: base, size, offset, path, its length, hash, pid, flags, build-id.
_KIND = Struct("=6Q2I24s")
#: start, end, base, kind, nothing.
_ROW = Struct("=3Q2I")
_TABLE, _GROUP, _SPACE = 32, 48, 24
_CLASSES = 32
_SPACE_BITS = 15
#: Room at first: rows, kinds, bytes of paths, tables.
_ROOMS = {"rows": 1 << 14, "kinds": 1 << 10, "paths": 1 << 16, "tables": 1 << 10}
_SIZES = {"rows": _ROW.size, "kinds": _KIND.size, "paths": 1, "tables": _TABLE}
#: Most of each: what more there is, no recording has.
_MOST_ROOM = 1 << 28


class _Spaces(Structure):
    """``struct spaces``."""

    _fields_ = [
        (name, Word)
        for name in (
            "words word_count events moments event_count event_at trailer indexes times sample_count pids ends groups group_count "
            "spaces_of others other_count damaged begun rows row_room row_used free_rows spaces space_first space_count most_spaces "
            "space_slots space_bits kinds kind_room kind_count kind_slots kind_bits slotted paths path_room path_used tables table_room "
            "table_count live most_live copied most_copied ended most_ended most_maps multiplier"
        ).split()
    ]


class Kind:
    """What is mapped.

    Attributes:
        pid, base: by whom, and where it began, when it was first mapped; of memory that is no file's, always.
        size, offset: bytes, and the place in the file of the first.
        path: as recorded.
        build_id: in hex, "" if it was not recorded.
        executable, huge: as in ``formats.perf_data_records.MappingEvent``.
        own: whether it may be memory that is no file's.
    """

    __slots__ = ("pid", "base", "size", "offset", "path", "build_id", "executable", "huge", "own")

    def __init__(self, pid: int, base: int, size: int, offset: int, path: str, build_id: str, flags: int) -> None:
        self.pid, self.base, self.size, self.offset, self.path, self.build_id = pid, base, size, offset, path, build_id
        self.executable, self.huge, self.own = bool(flags & _EXECUTABLE), bool(flags & _HUGE), bool(flags & _OWN)


class Spaces:
    """Follows the mappings of processes from batch to batch.

    Args:
        native: the library.
        most_spaces, most_rows, most_copied, most_ended, most_maps: processes and mappings that are kept, mappings that are copied in a
            batch, those that are kept for samples of before they changed, mappings of a process.

    Attributes:
        spaces_of: the number of the table of every sample of the batch.
        damaged: records of the batch that are too short.
    """

    def __init__(self, native: Any, most_spaces: int, most_rows: int, most_copied: int, most_ended: int, most_maps: int) -> None:
        self._native = native
        native.harken_symbols_spaces.argtypes = (Pointer,)
        native.harken_symbols_spaces_pids.argtypes = (Pointer, Pointer)
        native.harken_symbols_spaces_find.argtypes = (Pointer, Word, Pointer)
        self._job = job = _Spaces()
        self._slots: Any = None
        self._memory: dict[str, memoryview] = {}
        for name, count in _ROOMS.items():
            self._give(name, count)
        self._fixed = room(8 * _CLASSES), room(_SPACE * (most_spaces + 1)), room(4 << _SPACE_BITS)
        job.free_rows, job.spaces, job.space_slots = map(address, self._fixed)
        job.space_bits = _SPACE_BITS
        job.most_spaces, job.most_live, job.most_copied, job.most_ended, job.most_maps = (
            most_spaces, most_rows, most_copied, most_ended, most_maps,
        )  # fmt: skip
        # nobody can write a recording whose files all meet in one slot
        job.multiplier = int.from_bytes(os.urandom(8), "little") | 1
        self._held: tuple[Any, ...] = ()
        self.spaces_of: Any = None
        self.damaged = 0

    @classmethod
    def fits(cls, native: Any) -> bool:
        """Whether the library has the structures that this module knows."""
        native.harken_symbols_spaces_sizes.restype = Word
        sizes = 8 * len(_Spaces._fields_) | _KIND.size << 16 | _ROW.size << 32 | _SPACE << 48
        return bool(native.harken_symbols_spaces_sizes() == sizes)

    def apply(self, data: Any, events: Any, moments: Any, trailer: int, indexes: Any, times: Any, pids: Any, ends: Any) -> list[int] | None:
        """Applies the records of a batch.

        Args:
            data: the records.
            events, moments: places (in words) and moments of records that are no samples, in order.
            trailer: bytes at the end of each of them.
            indexes: samples by process and moment.
            times: of samples as they are recorded; None: they have none, and moments are their numbers.
            pids: processes of samples as they are recorded; None: they are not known.
            ends: where the samples of a process end in ``indexes``.

        Returns:
            Indexes of those events that are none of mappings and forks; None: there are too many mappings.

        Raises:
            AssertionError: the arguments contradict themselves.
        """
        job, count = self._job, len(events)
        others, groups = numbers("I", [0] * count), memoryview(bytearray(_GROUP * len(ends)))
        self.spaces_of = room(4 * len(indexes))[: 4 * len(indexes)].cast("I")
        self._held = data, events, moments, indexes, times, pids, ends, others, groups
        job.words, job.word_count = address(data), len(data) // 8
        job.events, job.moments, job.event_count, job.event_at = _place(events), _place(moments), count, 0
        job.trailer, job.sample_count, job.begun = trailer, len(indexes), 0
        job.indexes, job.times, job.pids, job.ends = map(_place, (indexes, times, pids, ends))
        job.groups, job.group_count, job.spaces_of, job.others = _place(groups), len(ends), _place(self.spaces_of), _place(others)
        while (outcome := self._native.harken_symbols_spaces(addressof(job))) != _DONE:
            if not _DONE < outcome < _TOO_MUCH:
                assert outcome == _TOO_MUCH
                return None
            name = ("rows", "kinds", "paths", "tables")[outcome - _ROWS]
            have = len(self._memory[name]) // _SIZES[name]
            if have >= _MOST_ROOM:
                return None
            self._give(name, max(2 * have, len(ends) if name == "tables" else 0))
        self.damaged = job.damaged
        return others[: job.other_count].tolist()

    @property
    def tables(self) -> tuple[int, int]:
        """Where the tables are, and how many: those of the batch."""
        return self._job.tables, self._job.table_count

    @property
    def rows(self) -> tuple[int, int]:
        """Where the rows are, and how many."""
        return self._job.rows, self._job.row_used

    @property
    def kinds(self) -> int:
        """How many different ones were mapped so far."""
        return int(self._job.kind_count)

    def kind(self, number: int) -> Kind:
        """What is mapped, by its number."""
        base, size, offset, path, length, _, pid, flags, build = _KIND.unpack_from(self._memory["kinds"], number * _KIND.size)
        text = bytes(self._memory["paths"][path : path + length]).decode("utf-8", "surrogateescape")
        return Kind(pid, base, size, offset, text, build[: build[_BUILD_ID]].hex(), flags)

    def pids(self) -> list[int]:
        """All processes, first those that came first."""
        found = numbers("I", [0] * self._job.space_count)
        if found:
            self._native.harken_symbols_spaces_pids(addressof(self._job), address(found))
        return found.tolist()

    def rows_of(self, pid: int) -> list[tuple[int, int, int, int]]:
        """The mappings of a process: start, end, where the whole one began, number of its kind."""
        words = numbers("Q", [0, 0])
        self._native.harken_symbols_spaces_find(addressof(self._job), pid, address(words))
        row, count = words
        part = self._memory["rows"][row * _ROW.size : (row + count) * _ROW.size]
        return [(start, end, base, kind) for start, end, base, kind, _ in _ROW.iter_unpack(part)]

    # -- private

    def _give(self, name: str, count: int) -> None:
        """Room for so many; what there was is kept."""
        job, old = self._job, self._memory.get(name)
        memory = self._memory[name] = room(_SIZES[name] * count)
        if old is not None:
            memory[: len(old)] = old
        setattr(job, name, address(memory))
        setattr(job, f"{name[:-1]}_room", count)
        if name == "kinds":
            job.kind_bits, job.slotted = (2 * count - 1).bit_length(), 0
            self._slots = room(4 << job.kind_bits)
            job.kind_slots = address(self._slots)


def _place(memory: Any) -> int:
    return address(memory) if memory is not None and len(memory) else 0
