"""BCC's tables over a map in memory: keys, values, arrays, per-CPU values, batches, histograms, stacks, queues, events."""

from __future__ import annotations

import contextlib
import ctypes as ct
import io
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from harken.abi import bpf as abi
from harken.base.ctype import Array, Enum, Int, Member, Ptr, Struct, Typedef
from harken.base.errors import KernelError
from harken.bcc import polling
from harken.bcc.program import TableInfo
from harken.bcc.table import Table
from harken.bcc.table_buffers import PerfReader, RingReader, _window
from harken.bcc.types import ctypes_class, describe

U8, U16 = Int("unsigned char", 1, False), Int("unsigned short", 2, False)
U32, U64 = Int("unsigned int", 4, False), Int("unsigned long long", 8, False)
CHAR, INT = Int("char", 1, True), Int("int", 4, True)
INT128 = Int("unsigned __int128", 16, False)


class FakeMap:
    """A map in memory, with the interface of ``kernel.bpf.Map``."""

    def __init__(self, kind: int, key_size: int, value_size: int, entries: int, cpus: int = 1) -> None:
        self.type, self.key_size, self.value_size, self.max_entries = kind, key_size, value_size, entries
        self.fd, self.cpus = 7, cpus
        self.per_cpu = cpus > 1
        self.stride = (value_size + 7) & ~7 if self.per_cpu else value_size
        self.data: dict[bytes, bytes] = {}
        self.queue: list[bytes] = []
        if kind in (abi.BPF_MAP_TYPE_ARRAY, abi.BPF_MAP_TYPE_PERCPU_ARRAY):
            self.data = {i.to_bytes(4, "little"): bytes(self.stride * cpus) for i in range(entries)}

    def lookup(self, key: bytes) -> bytes | None:
        if not self.key_size:
            return self.queue[0] if self.queue else None
        return self.data.get(key)

    def update(self, key: bytes, value: bytes, flags: int = 0) -> None:
        if not self.key_size:
            self.queue.append(value)
            return
        if key not in self.data and len(self.data) >= self.max_entries:
            raise KernelError("full", errno=7)
        if self.per_cpu and len(value) == self.value_size:
            value = value.ljust(self.stride, b"\0") * self.cpus
        assert len(value) == self.stride * self.cpus
        self.data[key] = value

    def delete(self, key: bytes) -> bool:
        return self.data.pop(key, None) is not None

    def pop(self, key: bytes = b"") -> bytes | None:
        return self.queue.pop(0) if self.queue else None

    def keys(self) -> list[bytes]:
        return list(self.data)

    def items(self) -> list[tuple[bytes, bytes]]:
        return list(self.data.items())

    def drain(self) -> list[tuple[bytes, bytes]]:
        found = self.items()
        self.data.clear()
        return found

    clear = drain

    def update_batch(self, pairs: list[tuple[bytes, bytes]]) -> None:
        for key, value in pairs:
            self.update(key, value)

    def delete_batch(self, keys: list[bytes]) -> None:
        for key in keys:
            self.delete(key)

    def next_key(self, key: bytes | None) -> bytes | None:
        keys = self.keys()
        place = 0 if key is None else keys.index(key) + 1
        return keys[place] if place < len(keys) else None


def table(kind: int, key: Any, value: Any, entries: int = 16, cpus: int = 1, flags: int = 0, event: Any = None, **more: Any) -> Any:
    made = FakeMap(kind, key.size if key else 0, value.size if value else 0, entries, cpus)
    shown = (describe(key) if key else None, describe(value) if value else None, describe(event, True) if event else None)
    info = TableInfo("t", kind, "hash", *shown, entries, flags, "", "")
    bpf = type("Bpf", (), {"perf_buffers": {}, "_rings": {}})()
    return Table(bpf, info, made, ctypes_class(shown[0] or ("s", 4)), ctypes_class(shown[1] or ("u", 4)), 0, **more)  # type: ignore[arg-type]


def printed(action: Any, *args: Any, **kwargs: Any) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        action(*args, **kwargs)
    return out.getvalue()


# -- types


def test_layouts_are_the_compilers() -> None:
    plain = Struct("e", 48, (Member("ts", U64, 0), Member("pid", U32, 64), Member("to", INT128, 128), Member("port", U16, 256)))
    for event in (False, True):
        made = ctypes_class(describe(plain, event))
        assert (made.pid.offset, made.to.offset, made.port.offset, ct.sizeof(made)) == (8, 16, 32, 48)
    packed = Struct("p", 9, (Member("a", U8, 0), Member("b", U64, 8)), align=1)
    assert ctypes_class(describe(packed)).b.offset == 1
    flat = Struct("f", 16, (Member("", Struct("", 8, (Member("x", U32, 0), Member("y", U64, 0)), "union"), 0), Member("z", U64, 64)))
    one = ctypes_class(describe(flat))()
    one.y = 1 << 32 | 5
    assert (one.x, one.z) == (5, 0)


def test_bitfields_lie_where_the_compiler_put_them() -> None:
    mixed = Struct("b", 8, (Member("x", U32, 0, 3), Member("y", INT, 3, 5), Member("z", U8, 8), Member("w", U32, 32)))
    one = ctypes_class(describe(mixed))()
    one.x, one.y, one.z, one.w = 5, -3, 9, 1
    assert bytes(one) == bytes([5 | (-3 & 31) << 3, 9, 0, 0, 1, 0, 0, 0])
    assert (one.x, one.y) == (5, -3)


def test_what_scripts_see_of_types() -> None:
    assert ctypes_class(describe(Array(CHAR, 4)))(*b"ab\0c").value == b"ab"
    assert ctypes_class(describe(Ptr(U8))) is ct.c_ulonglong
    assert ctypes_class(describe(Ptr(U8), True)) is ct.c_void_p
    assert ctypes_class(describe(Enum("e", 4, {"A": 1}), True)) is ct.c_int
    assert ctypes_class(describe(Typedef("s8", Int("signed char", 1, True)), True)) is ct.c_char
    nested = Struct("o", 24, (Member("k", Struct("i", 8, (Member("a", U32, 0), Member("b", U32, 32))), 0), Member("n", Array(U64, 2), 64)))
    one = ctypes_class(describe(nested, True)).from_buffer_copy(bytes(range(24)))
    assert one.k.b == 0x07060504 and one.n[1] == 0x1716151413121110


# -- tables


def test_a_hash_is_a_mapping() -> None:
    counts = table(abi.BPF_MAP_TYPE_HASH, U32, U64)
    counts[ct.c_uint(3)] = ct.c_ulonglong(9)
    counts[4] = 10
    assert [(key.value, value.value) for key, value in counts.items()] == [(3, 9), (4, 10)]
    assert len(counts) == 2 and ct.c_uint(3) in counts and 5 not in counts
    assert counts.next(None).value == 3 and counts.next(ct.c_uint(3)).value == 4
    with pytest.raises(StopIteration):
        counts.next(ct.c_uint(4))
    with pytest.raises(KeyError):
        counts[5]
    del counts[3]
    with pytest.raises(KeyError):
        del counts[3]
    counts.zero()
    assert counts[4].value == 0
    counts.clear()
    assert not list(counts)


def test_a_full_table_says_so() -> None:
    counts = table(abi.BPF_MAP_TYPE_HASH, U32, U64, entries=1)
    counts[1] = 1
    with pytest.raises(Exception, match="Could not update table"):
        counts[2] = 1


def test_batches_give_ctypes_objects() -> None:
    counts = table(abi.BPF_MAP_TYPE_HASH, U32, U64)
    counts.items_update_batch((ct.c_uint * 2)(7, 8), (ct.c_ulonglong * 2)(70, 80))
    assert [(key.value, value.value) for key, value in counts.items_lookup_batch()] == [(7, 70), (8, 80)]
    counts.items_delete_batch((ct.c_uint * 1)(7))
    assert [key.value for key, _ in counts.items_lookup_and_delete_batch()] == [8]
    assert len(counts) == 0
    with pytest.raises(ValueError):
        counts.items_update_batch((ct.c_uint * 2)(), (ct.c_ulonglong * 1)())
    with pytest.raises(TypeError):
        counts.items_delete_batch([1])


def test_arrays_are_indexed_by_numbers() -> None:
    numbers = table(abi.BPF_MAP_TYPE_ARRAY, INT, U64, entries=4)
    numbers[1] = 5
    assert numbers[1].value == numbers[-3].value == 5
    assert len(numbers) == 4 and [key.value for key in numbers] == [0, 1, 2, 3]
    for bad in (4, -5, "x"):
        with pytest.raises(IndexError):
            numbers[bad]
    del numbers[1]
    assert numbers[1].value == 0


def test_values_per_cpu() -> None:
    counts = table(abi.BPF_MAP_TYPE_PERCPU_HASH, U32, U32, cpus=3)
    assert counts.Leaf is ct.c_uint64 * 3, "32-bit values are widened, as the kernel pads them"
    leaf = counts.Leaf(1, 2, 6)
    counts[9] = leaf
    assert counts[9][:] == [1, 2, 6]
    assert counts.sum(9).value == 9 and counts.max(9).value == 6 and counts.average(9) == 3.0
    reduced = table(abi.BPF_MAP_TYPE_PERCPU_ARRAY, INT, U64, entries=2, cpus=2, reducer=lambda x, y: x + y)
    reduced[1] = (ct.c_ulonglong * 2)(4, 5)
    assert reduced[1] == 9 and [value for _, value in reduced.items()] == [0, 9]


def test_queues() -> None:
    queue = table(abi.BPF_MAP_TYPE_QUEUE, None, U64)
    for number in (1, 2, 3):
        queue.push(ct.c_ulonglong(number))
    assert queue.peek().value == 1 and queue.pop().value == 1
    assert [value.value for value in queue.values()] == [2, 3]
    for action in (queue.pop, queue.peek):
        with pytest.raises(KeyError):
            action()


def test_stacks_end_at_zero() -> None:
    stack = Struct("s", 127 * 8, (Member("ip", Array(U64, 127), 0),))
    stacks = table(abi.BPF_MAP_TYPE_STACK_TRACE, U32, stack)
    stacks.map.data[(5).to_bytes(4, "little")] = b"".join(n.to_bytes(8, "little") for n in (11, 22)) + bytes(125 * 8)
    assert list(stacks.walk(5)) == [11, 22]
    assert list(stacks.walk(ct.c_int(5), hex)) == ["0xb", "0x16"]
    with pytest.raises(KeyError):
        stacks.walk(-17)


def test_keys_and_values_as_text() -> None:
    key = Struct("k", 16, (Member("pid", U32, 0), Member("name", Array(CHAR, 8), 64)))
    found = table(abi.BPF_MAP_TYPE_HASH, key, U64)
    text = found.key_sprintf(found.Key(26, b"", b"ab"))
    assert text == b'{ 0x1a "ab" }'
    back = found.key_scanf(text)
    assert (back.pid, back.name) == (26, b"ab")
    assert found.leaf_scanf(b"0x10").value == 16
    for bad in (b"{ 0x1", b"", b"x"):
        with pytest.raises(Exception, match="Could not scanf"):
            found.key_scanf(bad)


# -- histograms


def test_histograms_of_sections() -> None:
    key = Struct("k", 16, (Member("disk", U32, 0), Member("slot", U64, 64)))
    found = table(abi.BPF_MAP_TYPE_HASH, key, U64)
    for disk, slot, count in ((2, 1, 4), (1, 3, 1)):
        found[found.Key(disk, b"", slot)] = count
    text = printed(
        found.print_log2_hist, "usecs", "disk", section_print_fn=lambda disk: f"sd{disk}", bucket_sort_fn=lambda names: sorted(names)
    )
    assert text.startswith("\ndisk = sd1\n     usecs ") and text.index("sd1") < text.index("sd2")
    assert "         4 -> 7          : 1        |****************************************|" in text
    text = printed(found.print_linear_hist, "n", "disk", bucket_fn=lambda disk: disk * 10)
    assert "\ndisk = 20\n" in text and "        1          : 4        |****" in text
    assert "'disk': 2" in printed(found.print_json_hist, "n", "disk")


def test_a_linear_histogram_has_an_end() -> None:
    found = table(abi.BPF_MAP_TYPE_HASH, U32, U64)
    found[1025] = 1
    with pytest.raises(IndexError, match="1025"):
        found.print_linear_hist()


# -- events


class FakePerf:
    """Records of two CPUs, as ``kernel.perf_buffer`` hands them out: the size stands before each."""

    fds = (1,)

    def __init__(self, records: list[tuple[int, bytes]]) -> None:
        self.records, self.lost_by_cpu = records, {}  # type: ignore[var-annotated]
        self.hushed: list[int] = []

    def hush(self, cpu: int) -> None:
        self.hushed.append(cpu)

    def by_cpu(self, limit: int) -> Iterator[tuple[int, memoryview, list[int]]]:
        for cpu, record in self.records:
            memory = bytearray(8) + len(record).to_bytes(4, "little") + record
            yield cpu, memoryview(memory + bytes(-len(memory) % 4)), [12]
            self.lost_by_cpu = {cpu: self.lost_by_cpu.get(cpu, 0) + 2}
        self.records = []

    def count_lost(self) -> int:
        return 0

    def close(self) -> None:
        pass


EVENT = Struct("e", 16, (Member("pid", U32, 0), Member("ts", U64, 64)))


def test_events_reach_the_callback_with_their_cpu() -> None:
    events = table(abi.BPF_MAP_TYPE_PERF_EVENT_ARRAY, INT, U32, event=EVENT)
    seen: list[Any] = []
    lost: list[int] = []

    def callback(cpu: int, data: int, size: int) -> None:
        event = events.event(data)
        seen.append((cpu, size, event.pid, event.ts, ct.cast(data, ct.POINTER(ct.c_uint)).contents.value))

    raw = (77).to_bytes(8, "little") + (5).to_bytes(8, "little")
    buffer = FakePerf([(0, raw), (3, raw + bytes(4))])
    reader = PerfReader(buffer, callback, lost.append)  # type: ignore[arg-type]
    assert reader.read() == 2 and not buffer.hushed
    assert seen == [(0, 16, 77, 5, 77), (3, 20, 77, 5, 77)]
    assert lost == [2, 2]
    assert _window.data is None, "no memory of a ring is kept"


def test_a_failing_callback_does_not_end_the_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    seen: list[int] = []

    def callback(cpu: int, data: int, size: int) -> None:
        seen.append(cpu)
        if cpu == 1:
            raise ValueError("mine")

    PerfReader(FakePerf([(1, bytes(8)), (2, bytes(8))]), callback, None).read()  # type: ignore[arg-type]
    assert seen == [1, 2] and [one.exc_type for one in told] == [ValueError]

    def closed(cpu: int, data: int, size: int) -> None:
        raise BrokenPipeError(32, "gone")

    with pytest.raises(SystemExit):
        PerfReader(FakePerf([(1, bytes(8))]), closed, None).read()  # type: ignore[arg-type]

    def stopped(cpu: int, data: int, size: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        PerfReader(FakePerf([(1, bytes(8))]), stopped, None).read()  # type: ignore[arg-type]


def test_records_of_one_size_reach_the_callback_in_bulk(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    events = table(abi.BPF_MAP_TYPE_PERF_EVENT_ARRAY, INT, U32, event=EVENT)
    seen: list[Any] = []

    class Column(FakePerf):
        def by_cpu(self, limit: int) -> Iterator[tuple[int, memoryview, range]]:  # type: ignore[override]
            one = [bytes(8) + (20).to_bytes(4, "little") + bytes([index]) + bytes(19) for index in range(30)]
            yield 5, memoryview(b"".join(one)), range(12, 30 * 32 + 12, 32)

    def callback(cpu: int, data: int, size: int) -> None:
        seen.append((cpu, events.event(data).pid, size))
        if len(seen) == 7:
            raise ValueError("mine")

    buffer = Column([])
    assert PerfReader(buffer, callback, None).read() == 30  # type: ignore[arg-type]
    assert buffer.hushed == [5], "a ring in which much has come is hushed"
    assert seen == [(5, index, 20) for index in range(30)] and len(told) == 1


def test_what_an_interrupt_leaves_is_delivered_by_the_next_poll() -> None:
    seen: list[int] = []
    left: list[tuple[int, int]] = []

    class Column(FakePerf):
        def by_cpu(self, limit: int) -> Iterator[tuple[int, memoryview, range]]:  # type: ignore[override]
            one = [bytes(8) + (4).to_bytes(4, "little") + bytes([index, 0, 0, 0]) for index in range(20)]
            yield 5, memoryview(b"".join(one)), range(12, 20 * 16 + 12, 16)

        def rewind(self, cpu: int, start: int) -> None:
            left.append((cpu, start))

    def callback(cpu: int, data: int, size: int) -> None:
        seen.append(cpu)
        if len(seen) == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        PerfReader(Column([]), callback, None).read()  # type: ignore[arg-type]
    assert len(seen) == 7 and left == [(5, 12 + 7 * 16)]

    ring = FakeRing([bytes(16)] * 4)

    def stops(ctx: object, data: int, size: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        RingReader(ring, stops, None).read()  # type: ignore[arg-type]
    assert ring.back == 16


class FakeReader:
    """A reader that finds so many records each time it looks; five and more hush its ring."""

    def __init__(self, counts: list[int], size: int) -> None:
        self.counts, self.buffer, self.fds = counts, self, (9,)
        self.size = size
        self.unsettled = self.hushed = False
        self.done: list[str] = []

    def read(self, ask: bool = False) -> int:
        count = self.counts.pop(0)
        self.unsettled = (self.unsettled or count > 0) and not ask
        self.hushed = self.hushed or count >= 5
        if ask:
            self.done.append("ask")
        return count

    def rouse(self) -> None:
        self.hushed = False
        self.done.append("rouse")


@pytest.mark.parametrize(
    ("counts", "size", "rounds", "ready", "expected"),
    [
        # as long as records are fresh, there is no wait to be woken
        ([3, 0, 3, 0, 0, 0, 1], 1 << 20, 3, True, ["nap", "nap", "rouse", "poll 100"]),
        ([3, 0, 0, 1], 4096 * 8, 2, True, ["rouse", "poll 100"]),  # a small ring could be full after a sleep
        ([5, 0, 5, 0, 2], 4096 * 8, 3, True, ["poll 1", "poll 1"]),  # but not before a hushed one wakes
        ([0, 1], 1 << 20, 1, True, ["poll 1000"]),  # nothing came lately
        # losses are told before a long wait, and what came while the ring was roused is found
        ([5, 0, 0, 0, 0], 1 << 20, 2, False, ["poll 1", "rouse", "poll 100", "ask", "poll 900"]),
        ([5, 0, 0, 1], 1 << 20, 2, False, ["poll 1", "rouse"]),
        ([5, 0, 0, 0, 1, 0, 0], 1 << 20, 3, False, ["poll 1", "rouse", "poll 100", "ask", "nap", "poll 1000"]),
    ],
)  # fmt: skip
def test_a_poll_is_not_woken_by_each_of_many_records(
    monkeypatch: pytest.MonkeyPatch, counts: list[int], size: int, rounds: int, ready: bool, expected: list[str]
) -> None:
    reader = FakeReader(counts, size)
    done = reader.done
    clock = [0.0]

    class Kernel:
        def poll(self, fds: list[int], timeout: int) -> list[int]:
            done.append(f"poll {timeout}")
            clock[0] += timeout / 1000 if not ready else 0
            return fds if ready else []

    monkeypatch.setattr(polling, "kernel", Kernel)
    monkeypatch.setattr(polling, "monotonic", lambda: clock[0])
    monkeypatch.setattr(polling, "sleep", lambda seconds: done.append("nap") if 0 < seconds < 0.001 else done.append("long"))
    bpf = polling.Polling()
    bpf.perf_buffers = {0: reader}
    clock[0] = 100.0
    for _ in range(rounds):
        bpf.perf_buffer_poll(1000)
    assert done == expected and not counts


class FakeRing:
    fds = (1,)

    def __init__(self, records: list[bytes]) -> None:
        self.data = b"".join([record.ljust(16, b"\0") for record in records])
        self.sizes = [len(record) for record in records]
        self.back = -1

    def batches(self, limit: int) -> Iterator[tuple[memoryview, list[int]]]:
        yield memoryview(self.data), [16 * i for i in range(len(self.sizes))]

    def length(self, start: int) -> int:
        return self.sizes[start // 16]

    def rewind(self, start: int) -> None:
        self.back = start


def test_a_ring_buffers_callback_can_stop() -> None:
    events = table(abi.BPF_MAP_TYPE_RINGBUF, None, None, event=EVENT)
    ring = FakeRing([bytes([1]) + bytes(15), bytes([2]) + bytes(7), bytes([3])])
    seen: list[Any] = []

    def callback(ctx: str, data: int, size: int) -> int:
        seen.append((ctx, size, events.event(data).pid))
        return -1 if len(seen) == 2 else 0

    RingReader(ring, callback, "mine").read()  # type: ignore[arg-type]
    assert seen == [("mine", 16, 1), ("mine", 8, 2)]
    assert ring.back == 32, "the third record is left for the next poll"


def test_the_last_record_may_be_shorter_than_the_struct() -> None:
    events = table(abi.BPF_MAP_TYPE_RINGBUF, None, None, event=EVENT)
    seen: list[int] = []
    ring = FakeRing([bytes(16)])
    ring.data = bytes([9]) + bytes(3)
    RingReader(ring, lambda ctx, data, size: seen.append(events.event(data).pid), None).read()  # type: ignore[arg-type]
    assert seen == [9]


def test_events_without_a_known_type() -> None:
    with pytest.raises(Exception, match="define the data with ctypes"):
        table(abi.BPF_MAP_TYPE_RINGBUF, None, None).event(0)
