"""Builds small ``perf.data`` recordings for tests: of either byte order, as files or as pipes, compressed or not.

Example:
    >>> builder = PerfDataBuilder()
    >>> _ = builder.sample(ip=0x401000, pid=7, tid=7, time=5)
    >>> builder.build()[:8]
    b'PERFILE2'
"""

from __future__ import annotations

import struct

from ..abi import perf_event as abi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("PerfDataBuilder", "DEFAULT_TYPE")

#: ip, tid, time, id, cpu: what ``perf record -a`` samples.
DEFAULT_TYPE = (
    abi.PERF_SAMPLE_IP | abi.PERF_SAMPLE_TID | abi.PERF_SAMPLE_TIME | abi.PERF_SAMPLE_ID | abi.PERF_SAMPLE_CPU
)  # fmt: skip
_FINISHED_ROUND, _ATTR, _FEATURE = 68, 64, 80
_FIXED = (
    (abi.PERF_SAMPLE_IDENTIFIER, "Q", ("identifier",)), (abi.PERF_SAMPLE_IP, "Q", ("ip",)), (abi.PERF_SAMPLE_TID, "II", ("pid", "tid")),
    (abi.PERF_SAMPLE_TIME, "Q", ("time",)), (abi.PERF_SAMPLE_ADDR, "Q", ("addr",)), (abi.PERF_SAMPLE_ID, "Q", ("id",)),
    (abi.PERF_SAMPLE_STREAM_ID, "Q", ("stream_id",)), (abi.PERF_SAMPLE_CPU, "II", ("cpu", "reserved")),
    (abi.PERF_SAMPLE_PERIOD, "Q", ("period",)),
)  # fmt: skip
_TRAILER = (
    (abi.PERF_SAMPLE_TID, "II", ("pid", "tid")), (abi.PERF_SAMPLE_TIME, "Q", ("time",)), (abi.PERF_SAMPLE_ID, "Q", ("id",)),
    (abi.PERF_SAMPLE_STREAM_ID, "Q", ("stream_id",)), (abi.PERF_SAMPLE_CPU, "II", ("cpu", "reserved")),
    (abi.PERF_SAMPLE_IDENTIFIER, "Q", ("identifier",)),
)  # fmt: skip


class PerfDataBuilder:
    """Collects records.

    Args:
        order: "<" or ">".
        sample_type: of the first event; more by ``event``.
    """

    def __init__(self, order: str = "<", sample_type: int = DEFAULT_TYPE, read_format: int = 0) -> None:
        self.order = order
        self.types: list[tuple[int, int, tuple[int, ...]]] = [(sample_type, read_format, (1,))]
        self.records: list[bytes] = []
        self.features: dict[int, bytes] = {}

    def event(self, sample_type: int, ids: tuple[int, ...], read_format: int = 0) -> PerfDataBuilder:
        """One more event."""
        self.types.append((sample_type, read_format, ids))
        return self

    def record(self, kind: int, misc: int, body: bytes) -> PerfDataBuilder:
        """Any record; its body is filled up to whole words."""
        body += bytes(-len(body) % 8)
        self.records.append(struct.pack(self.order + "IHH", kind, misc, 8 + len(body)) + body)
        return self

    def sample(self, after: bytes = b"", misc: int = 2, sample_type: int | None = None, **fields: int) -> PerfDataBuilder:
        """A sample: fields by name, and the bytes of what has no fixed place."""
        kinds = self.types[0][0] if sample_type is None else sample_type
        return self.record(abi.PERF_RECORD_SAMPLE, misc, self._fields(_FIXED, kinds, fields) + after)

    def chain(self, addresses: Sequence[int]) -> bytes:
        """A call chain, for ``after``."""
        return struct.pack(f"{self.order}{len(addresses) + 1}Q", len(addresses), *addresses)

    def mmap2(self, pid: int, start: int, size: int, offset: int, path: str, time: int, misc: int = 2, prot: int = 5) -> PerfDataBuilder:
        body = struct.pack(self.order + "IIQQQIIQQII", pid, pid, start, size, offset, 8, 1, 77, 0, prot, 2)
        return self._timed(abi.PERF_RECORD_MMAP2, misc, body + self._text(path), pid, time)

    def mmap(self, pid: int, start: int, size: int, offset: int, path: str, time: int, misc: int = 1) -> PerfDataBuilder:
        body = struct.pack(self.order + "iIQQQ", pid, 0, start, size, offset)
        return self._timed(abi.PERF_RECORD_MMAP, misc, body + self._text(path), pid & 0xFFFFFFFF, time)

    def comm(self, pid: int, name: str, time: int, exec: bool = False) -> PerfDataBuilder:
        body = struct.pack(self.order + "II", pid, pid) + self._text(name)
        return self._timed(abi.PERF_RECORD_COMM, abi.PERF_RECORD_MISC_COMM_EXEC if exec else 0, body, pid, time)

    def fork(self, parent: int, child: int, time: int) -> PerfDataBuilder:
        return self._timed(abi.PERF_RECORD_FORK, 0, struct.pack(self.order + "IIIIQ", child, parent, child, parent, time), child, time)

    def lost(self, count: int, time: int) -> PerfDataBuilder:
        return self._timed(abi.PERF_RECORD_LOST, 0, struct.pack(self.order + "QQ", 1, count), 0, time)

    def round(self) -> PerfDataBuilder:
        """All rings were read once."""
        return self.record(_FINISHED_ROUND, 0, b"")

    def text_feature(self, number: int, text: str) -> PerfDataBuilder:
        """A feature section that is a text (3: hostname, 6: arch)."""
        raw = text.encode() + b"\0"
        raw += bytes(-len(raw) % 4)
        self.features[number] = struct.pack(self.order + "I", len(raw)) + raw
        return self

    def build_id(self, path: str, build_id: str, pid: int = -1, misc: int = 2) -> PerfDataBuilder:
        """An entry of the table of build-ids."""
        name = path.encode() + b"\0"
        name += bytes(-len(name) % 64)
        body = struct.pack(self.order + "i", pid) + bytes.fromhex(build_id).ljust(24, b"\0") + name
        entry = struct.pack(self.order + "IHH", 0, misc, 8 + len(body)) + body
        self.features[2] = self.features.get(2, b"") + entry
        return self

    def build(self) -> bytes:
        """The file."""
        order = self.order
        magic = b"PERFILE2" if order == "<" else b"2ELIFREP"
        attr_size = abi.ATTR_SIZE + 16
        ids_at = 104
        attrs, ids = b"", b""
        for kinds, reads, identifiers in self.types:
            attrs += self._attr(kinds, reads) + struct.pack(order + "QQ", ids_at + len(ids), 8 * len(identifiers))
            ids += struct.pack(f"{order}{len(identifiers)}Q", *identifiers)
        attrs_at = ids_at + len(ids)
        start = attrs_at + len(attrs)
        data = b"".join(self.records)
        bits = sum([1 << number for number in self.features])
        words = struct.pack(order + "4Q", *[bits >> 64 * place & (1 << 64) - 1 for place in range(4)])
        head = struct.pack(order + "QQ4QQQ", 104, attr_size, attrs_at, len(attrs), start, len(data), 0, 0)
        table, bodies = b"", b""
        place = start + len(data) + 16 * len(self.features)
        for number in sorted(self.features):
            body = self.features[number]
            table += struct.pack(order + "QQ", place + len(bodies), len(body))
            bodies += body
        return magic + head + words + ids + attrs + data + table + bodies

    def pipe(self) -> bytes:
        """The same as ``perf record -o -`` writes it."""
        order = self.order
        parts = [b"PERFILE2" if order == "<" else b"2ELIFREP", struct.pack(order + "Q", 16)]
        for kinds, reads, identifiers in self.types:
            body = self._attr(kinds, reads) + struct.pack(f"{order}{len(identifiers)}Q", *identifiers)
            parts.append(struct.pack(order + "IHH", _ATTR, 0, 8 + len(body)) + body)
        for number, body in self.features.items():
            parts.append(struct.pack(order + "IHHQ", _FEATURE, 0, 16 + len(body), number) + body)
        return b"".join(parts + self.records)

    def _attr(self, kinds: int, reads: int) -> bytes:
        raw = bytearray(abi.ATTR_SIZE)
        for name, value in (("type", 1), ("size", abi.ATTR_SIZE), ("sample_type", kinds), ("read_format", reads), ("sample_regs_user", 3)):
            offset, form = abi.ATTR[name]
            struct.pack_into(self.order + form[1:], raw, offset, value)
        flags = 1 << abi.ATTR_FLAGS["sample_id_all"] | 1 << abi.ATTR_FLAGS["mmap2"]
        if self.order == ">":
            flags = int(f"{flags:064b}"[::-1], 2)
        struct.pack_into(self.order + "Q", raw, abi.ATTR_FLAGS_OFFSET, flags)
        return bytes(raw)

    def _fields(self, table: Sequence[tuple[int, str, tuple[str, ...]]], kinds: int, fields: dict[str, int]) -> bytes:
        values = {"identifier": 1, "id": 1, **fields}
        parts = [struct.pack(self.order + form, *[values.get(name, 0) for name in names]) for bit, form, names in table if kinds & bit]
        return b"".join(parts)

    def _timed(self, kind: int, misc: int, body: bytes, pid: int, time: int) -> PerfDataBuilder:
        return self.record(kind, misc, body + self._fields(_TRAILER, self.types[0][0], {"pid": pid, "tid": pid, "time": time}))

    def _text(self, text: str) -> bytes:
        raw = text.encode() + b"\0"
        return raw + bytes(-len(raw) % 8)
