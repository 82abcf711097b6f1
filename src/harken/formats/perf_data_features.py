"""The feature sections of a ``perf.data``: the machine, the command line, names of events, build-ids, and what else perf notes.

Each is parsed when it is asked for; a damaged one spoils nothing else.  Texts are a length (u32) and bytes with zeros at the end
(tools/perf/util/header.c, do_write_string).

Example:
    >>> features = Features("<", "perf.data")
    >>> features.add(3, b"\\5\\0\\0\\0host\\0")
    >>> features.names, features.get("hostname")
    (('hostname',), 'host')
"""

from __future__ import annotations

from struct import Struct, error, unpack_from

from ..abi import perf_event as abi
from ..base.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ("BuildId", "Features", "FEATURES", "build_id", "read_attribute")

_MAX_ITEMS = 1 << 16
_ID_SIZE = 1 << 15  # PERF_RECORD_MISC_BUILD_ID_SIZE: the build-id's length is stated

#: Features by the number of their bit (tools/perf/util/header.h).
FEATURES = (
    "", "tracing_data", "build_id", "hostname", "osrelease", "version", "arch", "nrcpus", "cpudesc", "cpuid", "total_mem", "cmdline",
    "event_desc", "cpu_topology", "numa_topology", "branch_stack", "pmu_mappings", "group_desc", "auxtrace", "stat", "cache", "sample_time",
    "mem_topology", "clockid", "dir_format", "bpf_prog_info", "bpf_btf", "compressed", "cpu_pmu_caps", "clock_data", "hybrid_topology",
    "pmu_caps",
)  # fmt: skip
_TEXTS = ("hostname", "osrelease", "version", "arch", "cpudesc", "cpuid")


class BuildId:
    """A file that was sampled, and its build: ``pid`` -1 for the host; ``in_kernel``: the kernel's image or a module."""

    __slots__ = ("path", "build_id", "pid", "in_kernel")

    def __init__(self, path: str, build_id: str, pid: int, in_kernel: bool) -> None:
        self.path, self.build_id, self.pid, self.in_kernel = path, build_id, pid, in_kernel

    def __repr__(self) -> str:
        return f"BuildId({self.path!r}, {self.build_id!r})"


class Features:
    """The feature sections of a recording, parsed when they are asked for.

    ``names`` are those that are there; ``get`` gives a section's value (below), None if it is missing or damaged, with the reason in
    ``problems``.

    ==============================  =====================================================================
    hostname osrelease version      text
    arch cpudesc cpuid
    nrcpus                          (CPUs that may be, CPUs online)
    total_mem                       KiB
    cmdline                         list of words
    event_desc                      list of (fields and flags of the attributes, name, ids)
    build_id                        list of ``BuildId``
    cpu_topology                    (list of packages, list of cores), as lists of CPUs in text
    numa_topology                   list of (node, KiB, KiB free, CPUs in text)
    pmu_mappings                    type number -> name
    group_desc                      list of (name, first event, number of members)
    sample_time                     (first, last) in nanoseconds
    clockid                         resolution in nanoseconds
    clock_data                      (clock, wall clock in ns, that clock in ns)
    compressed                      (version, type, level, ratio, longest expanded record)
    others                          the section's bytes
    ==============================  =====================================================================
    """

    def __init__(self, order: str, what: str) -> None:
        self._order, self._what = order, what
        self._raw: dict[str, Any] = {}
        self._values: dict[str, Any] = {}
        self.problems: list[str] = []

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._raw)

    def add(self, number: int, data: Any) -> None:
        """A section by the number of its feature."""
        name = FEATURES[number] if 0 < number < len(FEATURES) else f"feature_{number}"
        self._raw[name] = data
        self._values.pop(name, None)

    def raw(self, name: str) -> Any:
        """The bytes of a section; None if it is not there."""
        return self._raw.get(name)

    def get(self, name: str) -> Any:
        """What a section says."""
        if name not in self._values:
            data = self._raw.get(name)
            if data is None:
                return None
            try:
                self._values[name] = _PARSERS.get(name, _raw)(_Cursor(data, self._order))
            except (ValueError, IndexError, OverflowError, error, FormatError) as problem:
                self._values[name] = None
                self.problems.append(f"{self._what}: section {name} is damaged ({problem})")
        return self._values[name]


def read_attribute(data: Any, place: int, size: int, order: str) -> tuple[dict[str, int], frozenset[str]]:
    """Fields and flags of a ``struct perf_event_attr`` of ``size`` bytes; what an older perf did not know is 0."""
    raw = bytes(data[place : place + min(size, abi.ATTR_SIZE)])
    raw += bytes(abi.ATTR_SIZE - len(raw))
    fields = {name: int(unpack_from(order + form[1:], raw, at)[0]) for name, (at, form) in abi.ATTR.items()}
    (bits,) = unpack_from(order + "Q", raw, abi.ATTR_FLAGS_OFFSET)
    if order == ">":  # bit fields begin at the other end
        bits = int(f"{bits:064b}"[::-1], 2)
    return fields, frozenset([name for name, number in abi.ATTR_FLAGS.items() if bits >> number & 1])


class _Cursor:
    """Reads a section from front to back."""

    def __init__(self, data: Any, order: str) -> None:
        self.data, self.place, self.order = memoryview(data), 0, order
        self._u32, self._u64 = Struct(order + "I"), Struct(order + "Q")

    def u32(self) -> int:
        (value,) = self._u32.unpack_from(self.data, self.place)
        self.place += 4
        return int(value)

    def u64(self) -> int:
        (value,) = self._u64.unpack_from(self.data, self.place)
        self.place += 8
        return int(value)

    def text(self) -> str:
        size = self.u32()
        if size > len(self.data) - self.place:
            raise ValueError("a text is longer than its section")
        raw = bytes(self.data[self.place : self.place + size])
        self.place += size
        return raw.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")

    def count(self) -> int:
        """A number of items, each at least four bytes long."""
        number = self.u32()
        if number > _MAX_ITEMS or number * 4 > len(self.data) - self.place:
            raise ValueError(f"{number} items")
        return number


def _raw(cursor: _Cursor) -> bytes:
    return bytes(cursor.data)


def _text(cursor: _Cursor) -> str:
    return cursor.text()


def _nrcpus(cursor: _Cursor) -> tuple[int, int]:
    return cursor.u32(), cursor.u32()


def _texts(cursor: _Cursor) -> list[str]:
    return [cursor.text() for _ in range(cursor.count())]


def _event_desc(cursor: _Cursor) -> list[tuple[dict[str, int], frozenset[str], str, tuple[int, ...]]]:
    events, size = cursor.count(), cursor.u32()
    if not 64 <= size <= 4096:
        raise ValueError(f"attributes of {size} bytes")
    found = []
    for _ in range(events):
        fields, flags = read_attribute(cursor.data, cursor.place, size, cursor.order)
        cursor.place += size
        number, name = cursor.u32(), cursor.text()
        if number * 8 > len(cursor.data) - cursor.place:
            raise ValueError(f"{number} identifiers")
        ids = unpack_from(f"{cursor.order}{number}Q", cursor.data, cursor.place)
        cursor.place += 8 * number
        found.append((fields, flags, name, ids))
    return found


def _build_ids(cursor: _Cursor) -> list[BuildId]:
    found = []
    data, place = cursor.data, 0
    while place + 36 <= len(data):
        _, misc, size = unpack_from(cursor.order + "IHH", data, place)
        if size < 36 or place + size > len(data):
            raise ValueError(f"an entry of {size} bytes")
        found.append(build_id(data, place, size, misc, cursor.order))
        place += size
    return found


def build_id(data: Any, place: int, size: int, misc: int, order: str) -> BuildId:
    """A build-id record (PERF_RECORD_HEADER_BUILD_ID)."""
    (pid,) = unpack_from(order + "i", data, place + 8)
    length = min(data[place + 32], 20) if misc & _ID_SIZE else 20
    path = bytes(data[place + 36 : place + size]).split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
    in_kernel = misc & abi.PERF_RECORD_MISC_CPUMODE_MASK == abi.PERF_RECORD_MISC_KERNEL
    return BuildId(path, bytes(data[place + 12 : place + 12 + length]).hex(), pid, in_kernel)


def _cpu_topology(cursor: _Cursor) -> tuple[list[str], list[str]]:
    return _texts(cursor), _texts(cursor)


def _numa(cursor: _Cursor) -> list[tuple[int, int, int, str]]:
    return [(cursor.u32(), cursor.u64(), cursor.u64(), cursor.text()) for _ in range(cursor.count())]


def _pmus(cursor: _Cursor) -> dict[int, str]:
    return {cursor.u32(): cursor.text() for _ in range(cursor.count())}


def _groups(cursor: _Cursor) -> list[tuple[str, int, int]]:
    return [(cursor.text(), cursor.u32(), cursor.u32()) for _ in range(cursor.count())]


def _clock_data(cursor: _Cursor) -> tuple[int, int, int]:
    if cursor.u32() != 1:
        raise ValueError("an unknown version")
    return cursor.u32(), cursor.u64(), cursor.u64()


def _compressed(cursor: _Cursor) -> tuple[int, int, int, int, int]:
    return cursor.u32(), cursor.u32(), cursor.u32(), cursor.u32(), cursor.u32()


_PARSERS: dict[str, Callable[[_Cursor], Any]] = {
    **dict.fromkeys(_TEXTS, _text),
    "nrcpus": _nrcpus,
    "total_mem": _Cursor.u64,
    "cmdline": _texts,
    "event_desc": _event_desc,
    "build_id": _build_ids,
    "cpu_topology": _cpu_topology,
    "numa_topology": _numa,
    "pmu_mappings": _pmus,
    "group_desc": _groups,
    "sample_time": lambda cursor: (cursor.u64(), cursor.u64()),
    "clockid": _Cursor.u64,
    "clock_data": _clock_data,
    "compressed": _compressed,
}
