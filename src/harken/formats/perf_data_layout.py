"""Where the fields of a sample lie: ``PERF_SAMPLE_*``, one sample at a time or as columns.

All of them, in the kernel's order (kernel/events/core.c, perf_output_sample)::

    identifier ip tid time addr id stream_id cpu period read callchain raw branch_stack regs_user stack_user weight data_src transaction
    regs_intr phys_addr cgroup data_page_size code_page_size aux

Up to "read" the places are fixed, so that a column is one pass over the samples without an object for each.  What follows a field of
variable length is found sample by sample (``SampleLayout.sections``).

Everything is checked against the size of the record before it is used.
"""

from __future__ import annotations

from struct import Struct, error

from ..abi import perf_event as abi
from ..base.errors import FormatError
from .perf_data_records import LostEvent, RecordReader, Sample, SymbolEvent, split_chain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .perf_data_records import Event

__all__ = ("SampleLayout", "ALWAYS")

#: What live samples have always.
ALWAYS = abi.PERF_SAMPLE_IP | abi.PERF_SAMPLE_TID | abi.PERF_SAMPLE_TIME | abi.PERF_SAMPLE_CPU | abi.PERF_SAMPLE_PERIOD
_ABI_NONE, _ABI_32, _ABI_64 = 0, 1, 2  # PERF_SAMPLE_REGS_ABI_*
_WEIGHT = abi.PERF_SAMPLE_WEIGHT | abi.PERF_SAMPLE_WEIGHT_STRUCT
#: (bit, name) of the fields with a fixed place, in order; each is one word of eight bytes.
_FIXED = (
    (abi.PERF_SAMPLE_IDENTIFIER, "identifier"), (abi.PERF_SAMPLE_IP, "ip"), (abi.PERF_SAMPLE_TID, "tid"), (abi.PERF_SAMPLE_TIME, "time"),
    (abi.PERF_SAMPLE_ADDR, "addr"), (abi.PERF_SAMPLE_ID, "id"), (abi.PERF_SAMPLE_STREAM_ID, "stream_id"), (abi.PERF_SAMPLE_CPU, "cpu"),
    (abi.PERF_SAMPLE_PERIOD, "period"),
)  # fmt: skip
#: The same behind what has no fixed place.
_WORDS_1 = ((abi.PERF_SAMPLE_DATA_SRC, "data_src"), (abi.PERF_SAMPLE_TRANSACTION, "transaction"))
_WORDS_2 = (
    (abi.PERF_SAMPLE_PHYS_ADDR, "phys_addr"), (abi.PERF_SAMPLE_CGROUP, "cgroup"), (abi.PERF_SAMPLE_DATA_PAGE_SIZE, "data_page_size"),
    (abi.PERF_SAMPLE_CODE_PAGE_SIZE, "code_page_size"),
)  # fmt: skip
#: Fields at the end of records that are no samples (perf_event__output_id_sample).
_TRAILER = (
    (abi.PERF_SAMPLE_TID, "tid"), (abi.PERF_SAMPLE_TIME, "time"), (abi.PERF_SAMPLE_ID, "id"), (abi.PERF_SAMPLE_STREAM_ID, "stream_id"),
    (abi.PERF_SAMPLE_CPU, "cpu"), (abi.PERF_SAMPLE_IDENTIFIER, "identifier"),
)  # fmt: skip
_KNOWN = (1 << 25) - 1  # up to PERF_SAMPLE_WEIGHT_STRUCT
_FORMAT_KNOWN = 31


class SampleLayout:
    """The layout of one event's samples.

    Args:
        sample_type: PERF_SAMPLE_* bits.
        registers: names of the process's registers, in the order of their bits in ``sample_regs_user``.
        read_format: PERF_FORMAT_* bits.
        interrupted: names of the registers of ``sample_regs_intr``.
        branch_type: ``branch_sample_type``.
        order: byte order of the records, "<", ">" or "=".
        id_all: whether records that are no samples end with the fields that identify one.

    Attributes:
        fixed: name -> place in the record, in words of 8 bytes from its start.  The word of "tid" holds the process (first half) and the
            thread, that of "cpu" the CPU (first half).
        size: least size of a record, in words, for these to be there.
        chain: the word that holds the length of the call chain, if it has a fixed place; else -1.
        id_place: the word that tells which event a sample belongs to; -1: none.
        records: decodes what is no sample.

    Raises:
        UsageError: bits that are not known: what follows them cannot be found.

    Example:
        >>> import struct
        >>> layout = SampleLayout(ALWAYS)
        >>> record = struct.pack("=IHHQIIQIIQ", 9, 2, 48, 0x401000, 7, 8, 1000, 1, 0, 5)
        >>> layout.decode(memoryview(record), 0, 48)
        Sample(pid=7, tid=8, time=1000, cpu=1, ip=0x401000, stack of 0 bytes)
        >>> layout.fixed
        {'ip': 1, 'tid': 2, 'time': 3, 'cpu': 4, 'period': 5}
    """

    def __init__(
        self,
        sample_type: int,
        registers: Sequence[str] = (),
        *,
        read_format: int = 0,
        interrupted: Sequence[str] = (),
        branch_type: int = 0,
        order: str = "=",
        id_all: bool = True,
    ) -> None:
        if sample_type & ~_KNOWN or read_format & ~_FORMAT_KNOWN:
            from ..base.errors import UsageError

            raise UsageError(f"samples of the type {sample_type:#x} (read format {read_format:#x}) are not decoded here")
        self.sample_type, self.read_format, self.branch_type, self.order = sample_type, read_format, branch_type, order
        names = [name for bit, name in _FIXED if sample_type & bit]
        self.fixed = {name: place for place, name in enumerate(names, 1)}
        self.size = 1 + len(names)
        self.registers, self.interrupted = tuple(registers), tuple(interrupted)
        self._group = bool(sample_type & abi.PERF_SAMPLE_READ and read_format & abi.PERF_FORMAT_GROUP)
        times = [bit for bit in (abi.PERF_FORMAT_TOTAL_TIME_ENABLED, abi.PERF_FORMAT_TOTAL_TIME_RUNNING) if read_format & bit]
        self._read_head = len(times)
        self._read_value = 1 + len([bit for bit in (abi.PERF_FORMAT_ID, abi.PERF_FORMAT_LOST) if read_format & bit])
        after = self.size + (self._read_head + self._read_value if sample_type & abi.PERF_SAMPLE_READ else 0)
        self.chain = after if sample_type & abi.PERF_SAMPLE_CALLCHAIN and not self._group else -1
        self.id_place = self.fixed.get("identifier", self.fixed.get("id", -1))
        self._fields = Struct((order if order != "@" else "=") + "".join(["II" if name in ("tid", "cpu") else "Q" for name in names]))
        flat: list[str] = []
        for name in names:
            flat += ["pid", "tid"] if name == "tid" else ["cpu", "reserved"] if name == "cpu" else [name]
        last = len(flat)  # stands for what is not sampled
        self._places = tuple([flat.index(name) if name in flat else last for name in ("pid", "tid", "time", "cpu", "ip", "period")])
        self._rare = [(name, flat.index(name)) for name in ("identifier", "addr", "id", "stream_id") if name in flat]
        trailer = [name for bit, name in _TRAILER if sample_type & bit] if id_all else []
        time = 8 * trailer.index("time") if "time" in trailer else -1
        self.trailer = {name: place - len(trailer) for place, name in enumerate(trailer)}
        self.records = RecordReader(order, 8 * len(trailer), time)
        self._word, self._half = Struct(order + "Q"), Struct(order + "I")

    def decode(self, data: memoryview, start: int, size: int) -> Event | None:
        """The record that starts at ``data[start]``; None if it is of no interest.

        Raises:
            FormatError: it does not hold what it should.
        """
        kind, misc, _ = self.records._head.unpack_from(data, start)
        if kind != abi.PERF_RECORD_SAMPLE:
            found = self.records.decode(data, start, size)
            return None if isinstance(found, (LostEvent, SymbolEvent)) else found
        try:
            return self.sample(data, start, size, misc)
        except (IndexError, ValueError, OverflowError, error) as problem:
            raise FormatError("perf record", f"a record of type {kind} is damaged ({problem})", start) from None

    def sample(self, data: memoryview, start: int, size: int, misc: int) -> Sample:
        """One sample as an object.

        Raises:
            ValueError, struct.error: it is not whole.
        """
        if size < 8 * self.size:
            raise ValueError("too short")
        values = (*self._fields.unpack_from(data, start + 8), 0)
        pid, tid, time, cpu, ip, period = [values[place] for place in self._places]
        cpumode = misc & abi.PERF_RECORD_MISC_CPUMODE_MASK
        found = Sample(pid, tid, time, cpu, ip, period, cpumode == abi.PERF_RECORD_MISC_KERNEL)
        kinds = self.sample_type
        more: dict[str, Any] = {name: values[place] for name, place in self._rare}
        for name, (place, length) in self.sections(data, start, size).items():
            if name == "callchain":
                found.kernel, found.user = split_chain(self._words(data, place, length))
            elif name == "raw":
                found.raw = memoryview(data)[place : place + length]
            elif name == "stack_user":
                found.stack = memoryview(data)[place : place + length]
            elif name in ("regs_user", "regs_intr"):
                names = self.registers if name == "regs_user" else self.interrupted
                mode, *registers = self._words(data, place, length)
                if mode in (_ABI_64, _ABI_32):
                    by_name = dict(zip(names, registers))
                    if mode == _ABI_32:
                        by_name["bits"] = 32
                    if name == "regs_user":
                        found.registers = by_name
                    else:
                        more["interrupted"] = by_name
            elif name == "branch_stack":
                more[name] = self._branches(self._words(data, place, length))
            elif name == "read":
                more[name] = self._words(data, place, length)
            elif name == "aux":
                more[name] = memoryview(data)[place : place + length]
            else:
                more[name] = self._words(data, place, length)[0]
        if kinds & ~ALWAYS and more:
            found.more = more
        return found

    def sections(self, data: Any, start: int, size: int) -> dict[str, tuple[int, int]]:
        """What follows the fixed fields of a sample: name -> (place in ``data``, length), in bytes and without lengths stored before.

        Raises:
            ValueError, struct.error: they do not fit into the record.
        """
        kinds = self.sample_type
        found: dict[str, tuple[int, int]] = {}
        place, end = start + 8 * self.size, start + size
        word = self._word.unpack_from

        def take(name: str, length: int) -> None:
            nonlocal place
            if length > end - place:
                raise ValueError(name)
            found[name] = place, length
            place += length

        def count(name: str, width: int, extra: int = 0) -> None:
            nonlocal place
            if end - place < 8:
                raise ValueError(name)
            (number,) = word(data, place)
            place += 8
            take(name, number * width + extra)

        if kinds & abi.PERF_SAMPLE_READ:
            if self._group:
                (values,) = word(data, place)
                take("read", 8 * (1 + self._read_head + values * self._read_value))
            else:
                take("read", 8 * (self._read_head + self._read_value))
        if kinds & abi.PERF_SAMPLE_CALLCHAIN:
            count("callchain", 8)
        if kinds & abi.PERF_SAMPLE_RAW:
            (length,) = self._half.unpack_from(data, place)
            place += 4
            take("raw", length)
        if kinds & abi.PERF_SAMPLE_BRANCH_STACK:
            index = 8 if self.branch_type & abi.PERF_SAMPLE_BRANCH_HW_INDEX else 0
            count("branch_stack", 24 + (8 if self.branch_type & abi.PERF_SAMPLE_BRANCH_COUNTERS else 0), index)
        if kinds & abi.PERF_SAMPLE_REGS_USER:
            (mode,) = word(data, place)
            take("regs_user", 8 + (8 * len(self.registers) if mode != _ABI_NONE else 0))
        if kinds & abi.PERF_SAMPLE_STACK_USER:
            count("stack_user", 1)
            start, length = found["stack_user"]
            if length:
                (filled,) = word(data, place)
                place += 8
                found["stack_user"] = start, min(length, filled)
        if kinds & _WEIGHT:
            take("weight", 8)
        for bit, name in _WORDS_1:
            if kinds & bit:
                take(name, 8)
        if kinds & abi.PERF_SAMPLE_REGS_INTR:
            (mode,) = word(data, place)
            take("regs_intr", 8 + (8 * len(self.interrupted) if mode != _ABI_NONE else 0))
        for bit, name in _WORDS_2:
            if kinds & bit:
                take(name, 8)
        if kinds & abi.PERF_SAMPLE_AUX:
            count("aux", 1)
        if place > end:
            raise ValueError("longer than its record")
        return found

    def _words(self, data: Any, place: int, length: int) -> tuple[int, ...]:
        return Struct(f"{self.order}{length // 8}Q").unpack_from(data, place)

    def _branches(self, words: tuple[int, ...]) -> list[tuple[int, int, int]]:
        """(from, to, flags) of every branch, the latest first."""
        start = 1 if self.branch_type & abi.PERF_SAMPLE_BRANCH_HW_INDEX else 0
        width = 4 if self.branch_type & abi.PERF_SAMPLE_BRANCH_COUNTERS else 3
        count = (len(words) - start) // width  # what BRANCH_COUNTERS adds stands behind all branches
        return [(words[place], words[place + 1], words[place + 2]) for place in range(start, start + 3 * count, 3)]
