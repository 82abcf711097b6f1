"""Ring readers against rings that the test writes itself, as the kernel would: wraps, busy and discarded records, losses."""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Iterator
from mmap import PAGESIZE
from struct import pack, pack_into

import pytest

from harken.abi import bpf as abi
from harken.abi import perf_event as perf
from harken.base.errors import KernelError
from harken.bcc import memory
from harken.kernel.bpf import Map
from harken.kernel.ring import PerfBuffer, RingBuffer, barrier_of
from harken.testing.fake_kernel import FakeKernel

SIZE = 4096


class Producer:
    """The kernel's side of a BPF ring buffer.  What lies behind the end is written at both places, as the double mapping would show it."""

    def __init__(self, kernel: FakeKernel, fd: int, size: int = SIZE) -> None:
        self.kernel, self.fd, self.size, self.position = kernel, fd, size, 0

    @property
    def memory(self):  # type: ignore[no-untyped-def]
        return self.kernel.mappings[self.fd, PAGESIZE]

    @property
    def consumed(self) -> int:
        return int.from_bytes(self.kernel.mappings[self.fd, 0][:8], "little")

    def put(self, data: bytes, flags: int = 0) -> int:
        record = pack("=II", len(data) | flags, 0) + data
        record += bytes(-len(record) % 8)
        assert self.position + len(record) - self.consumed <= self.size, "the test overfills its ring"
        for index, byte in enumerate(record):
            offset = (self.position + index) % self.size
            self.memory[PAGESIZE + offset] = self.memory[PAGESIZE + self.size + offset] = byte
        start = self.position
        self.position += len(record)
        self.memory[:8] = self.position.to_bytes(8, "little")
        return start

    def flag(self, start: int, word: int) -> None:
        for copy in (0, self.size):
            pack_into("=I", self.memory, PAGESIZE + copy + start % self.size, word)


@pytest.fixture
def kernel() -> FakeKernel:
    return FakeKernel(files={"/sys/devices/system/cpu/online": "0-1\n", "/sys/devices/system/cpu/possible": "0-1\n"})


@pytest.fixture
def ring(kernel: FakeKernel) -> Iterator[tuple[RingBuffer, Producer]]:
    reader = RingBuffer(kernel, Map(kernel, 5, "ring", abi.BPF_MAP_TYPE_RINGBUF, 0, 0, SIZE))
    yield reader, Producer(kernel, 5)
    reader.close()


def records(reader: RingBuffer | PerfBuffer, limit: int = 1 << 30) -> list[bytes]:
    found: list[bytes] = []
    count = reader.consume(lambda record: found.append(bytes(record)), limit)
    assert count == len(found)
    return found


def test_records_come_in_order_and_their_space_is_given_back(ring: tuple[RingBuffer, Producer]) -> None:
    reader, producer = ring
    assert records(reader) == [] and reader.fds == (5,) and reader.lost == 0
    producer.put(b"first")
    producer.put(b"second record")
    producer.put(b"")
    assert reader.available == 16 + 24 + 8
    assert records(reader) == [b"first", b"second record", b""]
    assert producer.consumed == producer.position and reader.available == 0 and records(reader) == []


def test_a_record_that_wraps_is_whole(ring: tuple[RingBuffer, Producer]) -> None:
    reader, producer = ring
    sent, got = [], []
    for round in range(500):
        data = bytes([round & 0xFF]) * (round % 61 * 7)
        sent.append(data)
        producer.put(data)
        got += records(reader)
    assert got == sent and producer.position > 20 * SIZE


def test_nothing_behind_a_busy_record_is_read(ring: tuple[RingBuffer, Producer]) -> None:
    reader, producer = ring
    producer.put(b"one")
    start = producer.put(b"reserved", abi.BPF_RINGBUF_BUSY_BIT)
    producer.put(b"three")
    assert records(reader) == [b"one"] and records(reader) == []
    assert producer.consumed == start
    producer.flag(start, 8)
    assert records(reader) == [b"reserved", b"three"]


def test_discarded_records_are_passed_over(ring: tuple[RingBuffer, Producer]) -> None:
    reader, producer = ring
    producer.put(b"junk", abi.BPF_RINGBUF_DISCARD_BIT)
    assert records(reader) == [] and producer.consumed == producer.position
    producer.put(b"junk", abi.BPF_RINGBUF_DISCARD_BIT)
    producer.put(b"good")
    start = producer.put(b"dropped later", abi.BPF_RINGBUF_BUSY_BIT)
    assert records(reader) == [b"good"]
    producer.flag(start, 13 | abi.BPF_RINGBUF_DISCARD_BIT)
    assert records(reader) == [] and producer.consumed == producer.position


def test_limits(ring: tuple[RingBuffer, Producer]) -> None:
    reader, producer = ring
    for index in range(10):
        producer.put(bytes([index]))
    assert records(reader, 3) == [b"\0", b"\1", b"\2"] and producer.consumed == 3 * 16
    assert records(reader, 0) == []
    assert len(records(reader)) == 7


def test_a_full_ring(ring: tuple[RingBuffer, Producer]) -> None:
    reader, producer = ring
    for _ in range(3):
        for index in range(SIZE // 16):
            producer.put(index.to_bytes(8, "little"))
        assert [int.from_bytes(record, "little") for record in records(reader)] == list(range(SIZE // 16))


def test_a_handler_that_raises_loses_nothing(ring: tuple[RingBuffer, Producer]) -> None:
    reader, producer = ring
    for index in range(SIZE // 16):
        producer.put(bytes([index]))
    seen = []

    def handle(record: memoryview) -> None:
        seen.append(record[0])
        if len(seen) in (1, 100, 256):
            raise ZeroDivisionError

    for count in (1, 100, 256):
        with pytest.raises(ZeroDivisionError):
            reader.consume(handle)
        assert len(seen) == count
    assert seen == list(range(256)) and producer.consumed == producer.position


def test_batches_share_memory_and_hold_their_space_until_the_next_one(ring: tuple[RingBuffer, Producer]) -> None:
    reader, producer = ring
    for index in range(5):
        producer.put(bytes([index]) * (index + 1))
    batches = reader.batches()
    data, starts = next(batches)
    assert [bytes(data[start : start + reader.length(start)]) for start in starts] == [bytes([i]) * (i + 1) for i in range(5)]
    assert producer.consumed == 0
    producer.memory[PAGESIZE + starts[0]] = 99
    assert data[starts[0]] == 99, "no copy"
    batches.close()
    assert producer.consumed == producer.position


def test_the_space_is_given_back_in_pieces(kernel: FakeKernel) -> None:
    with RingBuffer(kernel, Map(kernel, 6, "ring", abi.BPF_MAP_TYPE_RINGBUF, 0, 0, 1 << 16)) as reader:
        producer = Producer(kernel, 6, 1 << 16)
        for _ in range(4096):
            producer.put(b"12345678")
        sizes = []
        for _, starts in reader.batches():
            sizes.append((len(starts), producer.consumed))
        assert sizes == [(1024, 0), (1024, 16384), (1024, 32768), (1024, 49152)]


def test_a_kept_view_does_not_prevent_closing(kernel: FakeKernel) -> None:
    reader = RingBuffer(kernel, Map(kernel, 5, "ring", abi.BPF_MAP_TYPE_RINGBUF, 0, 0, SIZE))
    Producer(kernel, 5).put(b"kept")
    kept: list[memoryview] = []
    reader.consume(kept.append)
    reader.close()
    reader.close()
    assert bytes(kept[0]) == b"kept"


def test_a_buffer_that_an_interrupt_left_exported_does_not_prevent_closing(kernel: FakeKernel) -> None:
    reader = RingBuffer(kernel, Map(kernel, 5, "ring", abi.BPF_MAP_TYPE_RINGBUF, 0, 0, SIZE))
    held = memory._Buffer()
    memory._get(reader._data, ctypes.byref(held), 0)
    try:
        reader.close()
        reader.close()
    finally:
        memory._release(ctypes.byref(held))


def test_a_map_that_cannot_be_mapped(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, length: int, writable: bool = False, offset: int = 0) -> object:
        if offset:
            raise OSError(errno.EPERM, "no")
        return FakeKernel.mmap(kernel, fd, length, writable, offset)

    monkeypatch.setattr(kernel, "mmap", refuse)
    with pytest.raises(KernelError) as caught:
        RingBuffer(kernel, Map(kernel, 5, "ring", abi.BPF_MAP_TYPE_RINGBUF, 0, 0, SIZE))
    assert caught.value.errno == errno.EPERM and "fewer pages" in caught.value.hint


def test_machines_that_reorder_loads_get_a_barrier() -> None:
    assert barrier_of("x86_64") is not barrier_of("aarch64")
    barrier_of("aarch64")()
    barrier_of("x86_64")()


# -- perf buffer


class PerfProducer:
    """The kernel's side of one CPU's perf ring."""

    def __init__(self, kernel: FakeKernel, fd: int, size: int) -> None:
        self.memory, self.size, self.head = kernel.mappings[fd, 0], size, 0

    @property
    def tail(self) -> int:
        return int.from_bytes(self.memory[perf.MMAP_PAGE["data_tail"][0] :][:8], "little")

    def _put(self, kind: int, body: bytes) -> None:
        record = pack("=IHH", kind, 0, 8 + len(body)) + body
        assert len(record) % 8 == 0 and self.head + len(record) - self.tail <= self.size
        for index, byte in enumerate(record):
            self.memory[PAGESIZE + (self.head + index) % self.size] = byte
        self.head += len(record)
        start = perf.MMAP_PAGE["data_head"][0]
        self.memory[start : start + 8] = self.head.to_bytes(8, "little")

    def sample(self, data: bytes) -> None:
        data += bytes((-len(data) - 4) % 8)
        self._put(perf.PERF_RECORD_SAMPLE, pack("=I", len(data)) + data)

    def lost(self, count: int) -> None:
        self._put(perf.PERF_RECORD_LOST, pack("=QQ", 1, count))


@pytest.fixture
def buffer(kernel: FakeKernel) -> Iterator[tuple[PerfBuffer, list[PerfProducer]]]:
    kernel.on("perf_event_open", lambda call: kernel.new_fd())
    kernel.on("ioctl", 0)
    kernel.on_bpf("BPF_MAP_UPDATE_ELEM", 0)
    kernel.on_bpf("BPF_MAP_DELETE_ELEM", 0)
    reader = PerfBuffer(kernel, Map(kernel, 5, "ring", abi.BPF_MAP_TYPE_PERF_EVENT_ARRAY, 4, 4, 2), 1)
    yield reader, [PerfProducer(kernel, fd, PAGESIZE) for fd in reader.fds]
    reader.close()
    assert kernel.open_fds == set()


def test_every_online_cpu_has_a_ring(kernel: FakeKernel, buffer: tuple[PerfBuffer, list[PerfProducer]]) -> None:
    reader, _ = buffer
    assert len(reader.fds) == 2
    opened = [call.args[1:3] for call in kernel.calls if call.name == "perf_event_open"]
    assert opened == [(-1, 0), (-1, 1)]
    stored = [bytes(call.at(abi.MAP_ELEM["value"][0])) for call in kernel.bpf_calls("BPF_MAP_UPDATE_ELEM")]  # type: ignore[arg-type]
    assert stored == [fd.to_bytes(4, "little") for fd in reader.fds]


def test_perf_records_of_all_cpus(buffer: tuple[PerfBuffer, list[PerfProducer]]) -> None:
    reader, producers = buffer
    producers[0].sample(b"zero, first.")
    producers[1].sample(b"one, only...")
    producers[0].sample(b"zero, second")
    assert sorted(records(reader)) == [b"one, only...", b"zero, first.", b"zero, second"]
    assert all(producer.tail == producer.head for producer in producers) and records(reader) == []


def test_perf_records_that_wrap(buffer: tuple[PerfBuffer, list[PerfProducer]]) -> None:
    reader, producers = buffer
    sent, got = [], []
    for round in range(300):
        data = bytes([round & 0xFF]) * (4 + round % 50 * 8)
        sent.append(data)
        producers[0].sample(data)
        if round % 3 == 0:
            got += records(reader)
    assert got + records(reader) == sent and producers[0].head > 10 * PAGESIZE


def test_lost_records_are_counted_per_cpu(buffer: tuple[PerfBuffer, list[PerfProducer]]) -> None:
    reader, producers = buffer
    producers[0].sample(b"1234")
    producers[0].lost(7)
    producers[0].sample(b"5678")
    producers[1].lost(5)
    assert records(reader) == [b"1234", b"5678"] and reader.lost == 12 and reader.lost_by_cpu == {0: 7, 1: 5}


def test_a_perf_handler_that_raises_loses_nothing_and_counts_nothing_twice(buffer: tuple[PerfBuffer, list[PerfProducer]]) -> None:
    reader, producers = buffer
    for index in range(6):
        producers[0].sample(bytes([index]) * 4)
        producers[0].lost(1)
    seen = []

    def handle(record: memoryview) -> None:
        seen.append(record[0])
        if len(seen) < 6:
            raise ZeroDivisionError

    for _ in range(5):
        with pytest.raises(ZeroDivisionError):
            reader.consume(handle)
    reader.consume(handle)
    assert seen == list(range(6)) and reader.lost == 6 and producers[0].tail == producers[0].head


def test_perf_limits(buffer: tuple[PerfBuffer, list[PerfProducer]]) -> None:
    reader, producers = buffer
    for producer in producers:
        for _ in range(5):
            producer.sample(b"1234")
    assert [len(records(reader, limit)) for limit in (3, 4, 100)] == [3, 4, 3]


def test_perf_records_of_one_length_come_as_a_column(buffer: tuple[PerfBuffer, list[PerfProducer]]) -> None:
    reader, producers = buffer
    for index in range(40):
        producers[1].sample(bytes([index]) * 12)
    producers[1].lost(2)
    for length in (4, 12, 20):
        producers[1].sample(bytes([length]) * length)
    found = [(starts, [data[start] for start in starts]) for _, data, starts in reader.by_cpu()]
    assert [type(starts) for starts, _ in found] == [range, list] and found[0][0] == range(12, 40 * 24 + 12, 24)
    assert [first for _, firsts in found for first in firsts] == [*range(40), 4, 12, 20] and reader.lost == 2
    # and again across the end of the ring, in which the records do not fit evenly
    sent = 0
    for _ in range(20):
        for _ in range(50):
            producers[1].sample(bytes([sent % 251]) * 20)
            sent += 1
        assert [record[0] for record in records(reader)] == [index % 251 for index in range(sent - 50, sent)]


def test_a_handler_that_raises_within_a_column(buffer: tuple[PerfBuffer, list[PerfProducer]]) -> None:
    reader, producers = buffer
    for index in range(30):
        producers[0].sample(bytes([index]) * 4)
    seen = []

    def handle(record: memoryview) -> None:
        seen.append(record[0])
        if len(seen) == 21:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        reader.consume(handle)
    reader.consume(handle)
    assert seen == list(range(30))


def test_a_batch_can_be_taken_back_in_part(buffer: tuple[PerfBuffer, list[PerfProducer]]) -> None:
    reader, producers = buffer
    for index in range(200):  # around the end of the ring
        producers[1].sample(bytes([index]) * 4)
        if index == 149:
            assert len(records(reader)) == 150
    batches = reader.by_cpu()
    cpu, data, starts = next(batches)
    first = data[starts[0]]
    reader.rewind(cpu, starts[3])
    batches.close()
    assert cpu == 1 and [record[0] for record in records(reader)] == list(range(first + 3, 200))


def test_a_busy_ring_has_a_second_event_that_does_not_wake(kernel: FakeKernel, buffer: tuple[PerfBuffer, list[PerfProducer]]) -> None:
    reader, producers = buffer

    def stored() -> list[tuple[int, int]]:
        """(CPU, descriptor) of each update of the map; an ``ioctl`` among others joins the second event to the first one's ring."""
        calls = kernel.bpf_calls("BPF_MAP_UPDATE_ELEM")
        both = [[int.from_bytes(call.at(abi.MAP_ELEM[part][0]), "little") for part in ("key", "value")] for call in calls]  # type: ignore[arg-type]
        return [(cpu, fd) for cpu, fd in both]

    reader.hush(1)
    reader.hush(1)
    assert reader.hushed
    _, (cpu, fd) = stored()[1:]
    assert cpu == 1 and fd not in reader.fds
    assert [call.args[2] for call in kernel.calls if call.name == "ioctl" and call.args[:2] == (fd, perf.PERF_EVENT_IOC_SET_OUTPUT)] == [
        reader.fds[1]
    ]
    producers[1].sample(b"1234")
    assert records(reader) == [b"1234"]
    reader.rouse()
    reader.rouse()
    assert not reader.hushed and stored()[3:] == [(1, reader.fds[1])]
    # the second time it is there already
    opened = len([call for call in kernel.calls if call.name == "perf_event_open"])
    reader.hush(1)
    assert stored()[4:] == [(1, fd)] and len([call for call in kernel.calls if call.name == "perf_event_open"]) == opened == 3


def test_a_ring_that_cannot_be_hushed_stays_as_it_was(kernel: FakeKernel, buffer: tuple[PerfBuffer, list[PerfProducer]]) -> None:
    reader, _ = buffer
    kernel.on("perf_event_open", -errno.EMFILE)
    reader.hush(0)
    reader.hush(0)
    reader.rouse()
    assert not reader.hushed and len(kernel.bpf_calls("BPF_MAP_UPDATE_ELEM")) == 2
    assert len([call for call in kernel.calls if call.name == "perf_event_open"]) == 3, "it is tried once"


def test_a_damaged_perf_ring_is_an_error_not_an_endless_loop(buffer: tuple[PerfBuffer, list[PerfProducer]]) -> None:
    reader, producers = buffer
    producers[0].sample(b"1234")
    pack_into("=H", producers[0].memory, PAGESIZE + 6, 0)
    with pytest.raises(KernelError, match="damaged"):
        records(reader)


def test_perf_buffers_clean_up_when_the_kernel_refuses_half_way(kernel: FakeKernel) -> None:
    kernel.on("perf_event_open", lambda call: kernel.new_fd(), -errno.EMFILE)
    kernel.on("ioctl", 0)
    kernel.on_bpf("BPF_MAP_UPDATE_ELEM", 0)
    kernel.on_bpf("BPF_MAP_DELETE_ELEM", -errno.EINVAL)
    with pytest.raises(KernelError):
        PerfBuffer(kernel, Map(kernel, 5, "ring", abi.BPF_MAP_TYPE_PERF_EVENT_ARRAY, 4, 4, 2), 1)
    assert kernel.open_fds == set()


def test_the_number_of_pages_is_checked(kernel: FakeKernel) -> None:
    for pages in (0, 3):
        with pytest.raises(KernelError, match="power of two"):
            PerfBuffer(kernel, Map(kernel, 5, "ring", abi.BPF_MAP_TYPE_PERF_EVENT_ARRAY, 4, 4, 2), pages)
