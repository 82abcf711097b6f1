"""Lines of samples (``symbols.c``): the structures that C and Python share, as rows of 64-bit numbers, and the loop around the calls.

``symbols.symbolizer_native`` lays out processes and files.
"""

from __future__ import annotations

import os
from struct import Struct

from . import library
from .foreign import Pointer, Structure, Word, addressof
from .memory import address, room
from .symbols_spaces import Spaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

__all__ = ("ASK_ALWAYS", "MANGLED", "NEED_PLACE", "NEED_TEXT", "SPECIAL", "Job", "Rows", "engine", "run")

#: What is asked for: the place of what is mapped, the text of a symbol; and else the kernel's symbols.
NEED_PLACE, NEED_TEXT = 0, 1
#: Flags of names: mangled ones are asked for, all are.
MANGLED, ASK_ALWAYS = 1, 2
#: The state of a symbol is this and the number of its special text.
SPECIAL = 2

_DONE, _FULL, _ASK, _BROKEN, _CROWDED = range(5)
_OUT, _MOST, _NEEDS, _TEXTS = 1 << 18, 1 << 14, 1 << 14, 1 << 24
#: Samples whose addresses are looked for at once; how many different ones there can be, and how many in all.  A sample has 8,191 at most.
_STEP, _KEYS, _IDS = 1 << 17, 3 << 15, 1 << 20
_SLOT_BITS = 17
#: Words of the structures: place, piece, names, special; and of a table of mappings.
_ROWS = {"places": 6, "pieces": 4, "names": 14, "specials": 4}
_TABLE = 4
_PACK = {name: Struct(f"={width}Q").pack for name, width in _ROWS.items()}


class Job(Structure):
    """``struct job``."""

    _fields_ = [
        (name, Word)
        for name in (
            "words word_count starts lengths addresses spaces_of order count spaces space_count rows row_count kind_places "
            "kind_count places place_count pieces piece_count "
            "names names_count specials special_count blob blob_size nowhere_start nowhere_size added static changing kernel_known "
            "kernel_shift with_symbol with_offset before out out_size out_used ends needs need_room need_count keys key_texts "
            "key_room key_count slots slot_bits multiplier multiplier_of_space pending spare pending_count first_key texts text_room "
            "text_used ids id_room id_count id_at at stop step most"
        ).split()
    ]


class Rows:
    """What has been laid out so far; it only grows, and ``texts`` are bytes that rows point into.

    Attributes:
        places, pieces, names, specials: rows of 64-bit numbers.
        held: memory that rows point to.
    """

    def __init__(self) -> None:
        self.places, self.pieces, self.names, self.specials = [bytearray() for _ in _ROWS]
        self.blob = bytearray()
        self.held: list[Any] = []
        self._known: dict[bytes, tuple[int, int]] = {}

    def count(self, name: str) -> int:
        """How many rows of a kind there are."""
        return len(getattr(self, name)) // (8 * _ROWS[name])

    def add(self, name: str, *words: int) -> None:
        """Another row of a kind."""
        rows: bytearray = getattr(self, name)
        rows += _PACK[name](*words)

    def text(self, text: bytes) -> tuple[int, int]:
        """A text as (start, size) in the blob; equal ones stand there once."""
        found = self._known.get(text)
        if found is None:
            found = self._known[text] = len(self.blob), len(text)
            self.blob += text
        return found

    def place_of(self, memory: Any) -> int:
        """The address of memory, which is held from now on; 0 if it is empty."""
        if not len(memory):
            return 0
        self.held.append(memory)
        return address(memory)

    def into(self, job: Job) -> None:
        """Tells a job where everything is now."""
        for name, width in _ROWS.items():
            rows = getattr(self, name)
            setattr(job, name, address(rows))
            setattr(job, "names_count" if name == "names" else name[:-1] + "_count", len(rows) // (8 * width))
        job.blob, job.blob_size = address(self.blob), len(self.blob)


def engine() -> Any:
    """The library, if it writes lines as these structures say; else None."""
    native = library()
    if native is None:
        return None
    native.harken_symbols_sizes.restype = Word
    native.harken_symbols_lines.argtypes = (Pointer,)
    sizes = 8 * len(Job._fields_) | 8 * (_ROWS["names"] << 16 | _ROWS["places"] << 32 | _TABLE << 48)
    return native if native.harken_symbols_sizes() == sizes and Spaces.fits(native) else None


def run(native: Any, job: Job, rows: Rows, meet: Callable[[list[int]], None]) -> Iterator[tuple[memoryview, memoryview]]:
    """The texts of all samples of a job.

    Args:
        meet: gets what is needed, as (kind, number, number) one after the other, and puts it into the rows.

    Yields:
        Texts of some samples, and where each of them ends; valid until the next ones.

    Raises:
        AssertionError: the rows contradict themselves.
    """
    ids = _IDS if job.starts else min(_IDS, 2 * job.count)  # an address takes two
    rooms = _Rooms(16 * _KEYS, 4 << _SLOT_BITS, 8 * _KEYS, 16 * _KEYS, 16 * _KEYS, 24 * _NEEDS, 4 * _MOST, 4 * ids, _TEXTS)
    job.keys, job.slots, job.key_texts, job.pending, job.spare, job.needs, job.ends, job.ids, job.texts = rooms.places
    job.key_room, job.slot_bits, job.need_room, job.id_room, job.text_room = _KEYS, _SLOT_BITS, _NEEDS, ids, _TEXTS
    # nobody can write a recording whose addresses all meet in one slot
    job.multiplier, job.multiplier_of_space = [word | 1 for word in memoryview(os.urandom(16)).cast("Q")]
    job.step, job.most = _STEP, _MOST
    out, needs, ends = bytearray(_OUT), rooms[5].cast("Q"), rooms[6].cast("I")
    while job.at < job.count:
        rows.into(job)
        job.out, job.out_size = address(out), len(out)
        first = job.at
        outcome = native.harken_symbols_lines(addressof(job))
        if job.at > first:
            yield memoryview(out)[: job.out_used], ends[: job.at - first]
        elif outcome == _FULL:
            out = bytearray(2 * len(out))
        elif outcome == _CROWDED:
            texts = room(2 * job.text_room)
            job.texts, job.text_room = address(texts), len(texts)
        elif outcome != _ASK:
            raise AssertionError("a table of symbols contradicts itself")
        if job.need_count:  # some may be found before there is no room
            meet(needs[: 3 * job.need_count].tolist())


class _Rooms:
    """Memory for several purposes, one behind the other in large pages.

    Attributes:
        places: their addresses.
    """

    def __init__(self, *sizes: int) -> None:
        self._memory = room(sum(sizes) + 8 * len(sizes))
        start, self._ends, self.places = address(self._memory), [0], []
        for size in sizes:
            self.places.append(start + self._ends[-1])
            self._ends.append(self._ends[-1] + size + -size % 8)

    def __getitem__(self, number: int) -> memoryview:
        return self._memory[self._ends[number] : self._ends[number + 1]]
