"""Lines of ftrace's records (``text.c``): the structures that C and Python share, the table of texts, and the loop around the calls.

``render.ftrace_native`` fills a ``Job``; ``formats.print_fmt_program`` writes the programs of events.
"""

from __future__ import annotations

import ctypes
import struct

from . import library
from .memory import address, room

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

__all__ = ("DEEPEST", "KINDS", "OPS", "Flags", "Graph", "Job", "Stream", "Table", "engine", "event", "op", "run", "span")

#: Calls that a trace is indented by; as in text.h.
DEEPEST = 1000
_KEY_MAX = 256
_DONE, _FULL, _MISS = range(3)

#: Operations by name, numbered as in text.h.
OPS = {
    name: number
    for number, name in enumerate(
        (
            "END TEXT CONST LOAD START STOP SET GET DROP "
            "ADD SUB MUL AND OR XOR SHL SHR DIV MOD NEG NOT EXTEND "
            "EQ NE LT LE LTS LES MIN MINS MAX MAXS JUMP JUMP_ZERO "
            "DEC HEX STRING KEY KEY_INT KEY_MEMORY MEMO FOREIGN FUNCTION REPEATS DYNAMIC"
        ).split()
    )
}
#: Kinds of events.
KINDS = {"none": 0, "text": 1, "entry": 2, "exit": 3}


class Flags:
    """Flags of operations, as in text.h."""

    LEFT, ZERO, PLUS, BLANK, SIGNED, PREFIX, UPPER = 1, 2, 4, 8, 16, 32, 64


op = struct.Struct("=BBHIQ").pack  # code, flags, width, place, value
event = struct.Struct("=IIII").pack  # kind, program, needs, ended
span = struct.Struct("=QQQ").pack  # index, start, size

_TABLE_BYTES, _ENTRIES = 20 << 20, 1 << 16
_OUT_BYTES = 1 << 18  # stays in the cache


def _u64(names: str) -> list[tuple[str, Any]]:
    return [(name, ctypes.c_uint64) for name in names.split()]


class Field(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in "offset size is_signed unused".split()]


class Arguments(ctypes.Structure):
    """``struct arguments``."""

    _fields_ = [(name, ctypes.c_uint32) for name in "templates offset size unused".split()]


class Graph(ctypes.Structure):
    """``struct graph``."""

    _fields_ = (
        [(name, Field) for name in "func depth begin end value back".split()]
        + [(name, ctypes.c_uint32) for name in "needs calls tail backs values show_depth any_cpu".split()]
        + [("arguments", Arguments)]
    )


class Stream(ctypes.Structure):
    """``struct stream``: one CPU's records of a window."""

    _fields_ = _u64(
        "buffer length times starts sizes types count marks mark_count texts text_count stack number at key mark_at text_at"
    )  # fmt: skip


class _Table(ctypes.Structure):
    _fields_ = _u64("slots entries texts known") + [
        (name, ctypes.c_uint32) for name in "mask most used room filled known_mask known_used unused".split()
    ]


class Job(ctypes.Structure):
    """``struct job``."""

    _fields_ = (
        _u64("streams stream_count heap heap_size index events event_count ops op_count literals literal_size foreign foreign_size")
        + _u64("table entry leave scratch scratch_size before before_size after after_size unit second digits")
        + [("function", Field * 2), ("repeats", Field * 5), ("function_arguments", Arguments)]
        + _u64("function_names indent parent out out_size out_used serial miss_stream miss_index miss_memo key_size")
        + [("key", ctypes.c_uint8 * _KEY_MAX)]
    )
    graphs: tuple[Graph, ...] = ()

    def draw(self, graph: Graph, leaves: bool) -> None:
        """Sets how the function graph's entries look, or the returns that end calls."""
        self.graphs += (graph,)
        setattr(self, "leave" if leaves else "entry", ctypes.addressof(graph))


class Table:
    """Texts by key: what was made once is not asked for again until the table is full and is emptied."""

    def __init__(self, native: Any) -> None:
        self._native = native
        self._memory = room(_TABLE_BYTES)
        self._table = _Table()
        native.harken_table_init.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64)
        native.harken_table_clear.argtypes = (ctypes.c_void_p,)
        native.harken_table_put.argtypes = (
            ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_char_p, ctypes.c_uint32, ctypes.c_uint32
        )  # fmt: skip
        if native.harken_table_init(ctypes.addressof(self._table), address(self._memory), _TABLE_BYTES, _ENTRIES) != 0:
            raise AssertionError("the table's size is wrong")

    @property
    def place(self) -> int:
        return ctypes.addressof(self._table)

    def clear(self) -> None:
        self._native.harken_table_clear(self.place)

    def put(self, key: int, key_size: int, text: bytes, number: int) -> None:
        """Puts a text in.

        Args:
            key, key_size: its key's place in memory.
            number: what the text is called; 0 for no name.

        Raises:
            MemoryError: the text is larger than the table.
        """
        put = self._native.harken_table_put
        if put(self.place, key, key_size, text, len(text), number) != 0:
            self.clear()
            if put(self.place, key, key_size, text, len(text), number) != 0:
                raise MemoryError("a text of a record is larger than any can be")


def engine() -> Any:
    """The library, if it writes lines as these structures say; else None."""
    native = library()
    if native is None:
        return None
    native.harken_text_sizes.restype = ctypes.c_uint64
    native.harken_text_begin.argtypes = native.harken_text_run.argtypes = (ctypes.c_void_p,)
    sizes = sum(ctypes.sizeof(kind) << shift for kind, shift in ((Job, 0), (Stream, 16), (_Table, 32), (Graph, 48)))
    return native if native.harken_text_sizes() == sizes else None


class Out:
    """Memory that lines are written into; it grows to what the longest line takes."""

    def __init__(self) -> None:
        self.memory = bytearray(_OUT_BYTES)


def run(native: Any, job: Job, table: Table, out: Out, make: Callable[[int, int, int], tuple[bytes, int]]) -> Iterator[memoryview]:
    """The lines of a job in pieces, each of which lasts until the next one is asked for.

    Args:
        make: (memo, stream, index of the record in it) -> (its text, the number of the text or 0).

    Raises:
        AssertionError: the job contradicts itself.
    """
    where = ctypes.addressof(job)
    key = where + Job.key.offset
    job.table = table.place
    native.harken_text_begin(where)
    job.out, job.out_size, job.out_used = address(out.memory), len(out.memory), 0
    while True:
        result = native.harken_text_run(where)
        if result == _MISS:
            text, number = make(job.miss_memo, job.miss_stream, job.miss_index)
            table.put(key, job.key_size, text, number)
        elif result in (_DONE, _FULL):
            if job.out_used:
                yield memoryview(out.memory)[: job.out_used]
                job.out_used = 0
            elif result == _FULL:
                out.memory = bytearray(2 * len(out.memory))
                job.out, job.out_size = address(out.memory), len(out.memory)
            if result == _DONE:
                return
        else:
            raise AssertionError("a line's program is wrong")
