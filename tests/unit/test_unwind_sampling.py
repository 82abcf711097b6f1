"""Samples out of perf rings: every field, records that wrap, losses, order, threads that come and go."""

from __future__ import annotations

import errno
import struct
from mmap import PAGESIZE

import pytest

from harken.abi import perf_event as abi
from harken.base.errors import FormatError, KernelError, UsageError
from harken.formats.perf_data_layout import ALWAYS
from harken.kernel.perf_event import software
from harken.kernel.sampling import CommEvent, MappingEvent, Sample, SampleLayout, Sampler, TaskEvent, sampling_attr
from harken.testing.fake_kernel import FakeKernel

REGISTERS = ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp", "ip", *(f"r{number}" for number in range(8, 16)))
USER, KERNEL = 2, 1


def record(kind: int, misc: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 8)
    return struct.pack("<IHH", kind, misc, 8 + len(body)) + body


def trailer(time: int, pid: int = 7, tid: int = 8) -> bytes:
    return struct.pack("<IIQII", pid, tid, time, 0, 0)


def sample(time: int, ip: int = 0x401000, chain: tuple[int, ...] = (), stack: bytes = b"", room: int = 64, mode: int = 2) -> bytes:
    body = struct.pack("<QIIQIIQ", ip, 7, 8, time, 1, 0, 1000)
    body += struct.pack(f"<Q{len(chain)}Q", len(chain), *chain)
    body += struct.pack("<Q", mode) + (struct.pack("<17Q", *range(100, 117)) if mode else b"")
    if mode:
        body += struct.pack("<Q", room) + stack + bytes(room - len(stack)) + struct.pack("<Q", len(stack))
    else:
        body += struct.pack("<Q", 0)
    return record(abi.PERF_RECORD_SAMPLE, KERNEL if ip >> 63 else USER, body)


class Producer:
    """The kernel's side of one ring."""

    def __init__(self, mapping, size: int) -> None:
        self.mapping, self.size, self.head = mapping, size, 0

    def put(self, data: bytes) -> None:
        for byte in data:
            self.mapping[PAGESIZE + self.head % self.size] = byte
            self.head += 1
        self.publish(self.head)

    def publish(self, head: int) -> None:
        struct.pack_into("<Q", self.mapping, 1024, head)

    @property
    def tail(self) -> int:
        return struct.unpack_from("<Q", self.mapping, 1032)[0]


@pytest.fixture
def kernel() -> FakeKernel:
    files = {"/sys/devices/system/cpu/online": "0-1\n", "/proc/7/task/7/comm": "a", "/proc/7/task/8/comm": "b"}
    fake = FakeKernel(files)
    fake.on("perf_event_open", lambda call: fake.new_fd())
    fake.on("ioctl", 0)
    return fake


@pytest.fixture
def rings(kernel: FakeKernel):
    with Sampler(kernel, software("cpu-clock", freq=99), pid=7, registers=True, stack=64, pages=1) as sampler:
        yield sampler, [Producer(kernel.mappings[fd, 0], PAGESIZE) for fd in sampler.fds]
    assert kernel.open_fds == set()


def test_what_is_asked_of_the_kernel() -> None:
    attr = sampling_attr(software("cpu-clock", freq=99, flags=("exclude_kernel",)), "x86_64", True, 100)
    assert attr.sample_stack_user == 104 and attr.sample_regs_user == 0xFF01FF
    assert {"inherit", "disabled", "sample_id_all", "mmap2", "comm_exec", "exclude_kernel", "use_clockid"} <= set(attr.flags)
    assert attr.sample_type & abi.PERF_SAMPLE_CALLCHAIN and attr.freq == 99
    assert not sampling_attr(software("cpu-clock"), "x86_64", callchain=False).sample_type & abi.PERF_SAMPLE_CALLCHAIN
    assert sampling_attr(software("cpu-clock"), "aarch64", True).sample_regs_user == (1 << 33) - 1
    for size in (-8, 65536):
        with pytest.raises(UsageError):
            sampling_attr(software("cpu-clock"), "x86_64", stack=size)


def test_one_ring_per_cpu_and_one_event_per_thread(kernel: FakeKernel) -> None:
    with Sampler(kernel, software("cpu-clock", freq=99), pid=7, pages=2) as sampler:
        opened = [(call.args[1], call.args[2]) for call in kernel.calls if call.name == "perf_event_open"]
        assert sorted(opened) == [(7, 0), (7, 1), (8, 0), (8, 1)]
        assert len(sampler.fds) == len(kernel.mappings) == 2
        outputs = [call for call in kernel.calls if call.name == "ioctl" and call.args[1] == abi.PERF_EVENT_IOC_SET_OUTPUT]
        assert len(outputs) == 2 and {call.args[2] for call in outputs} == set(sampler.fds)
    assert kernel.open_fds == set()


def test_the_whole_system_needs_no_threads(kernel: FakeKernel) -> None:
    with Sampler(kernel, software("cpu-clock", freq=99), pages=1):
        opened = [(call.args[1], call.args[2]) for call in kernel.calls if call.name == "perf_event_open"]
        assert opened == [(-1, 0), (-1, 1)]


def test_rings_are_large_enough_for_their_samples(kernel: FakeKernel) -> None:
    with Sampler(kernel, software("cpu-clock", freq=99), registers=True, stack=32768) as sampler:
        (size,) = {len(mapping) for mapping in kernel.mappings.values()}
        assert size - PAGESIZE >= 64 * 32768 and (size - PAGESIZE) & (size - PAGESIZE - 1) == 0
        assert sampler.fds
    with pytest.raises(UsageError):
        Sampler(kernel, software("cpu-clock", freq=99), pages=3)
    assert kernel.open_fds == set()


def test_every_field_of_a_sample(rings) -> None:
    sampler, producers = rings
    context_kernel, context_user = (1 << 64) - 128, (1 << 64) - 512
    chain = (context_kernel, 0xFFFF800000000001, 0xFFFF800000000002, context_user, 0x401000, 0x402000)
    producers[0].put(sample(5, 0xFFFF800000000001, chain, b"stack..."))
    producers[0].put(sample(6, mode=0))
    producers[0].put(sample(7, mode=1))
    first, second, third = sampler.read()
    assert (first.pid, first.tid, first.time, first.cpu, first.ip, first.period) == (7, 8, 5, 1, 0xFFFF800000000001, 1000)
    assert first.in_kernel and not second.in_kernel
    assert first.kernel == chain[1:3] and first.user == chain[4:]
    assert first.registers == dict(zip(REGISTERS, range(100, 117)))
    assert bytes(first.stack) == b"stack..."
    assert second.registers is None and len(second.stack) == 0  # a kernel thread
    assert third.registers == dict(zip(REGISTERS, range(100, 117)), bits=32)


def test_records_come_in_order_of_time(rings) -> None:
    sampler, producers = rings
    for time in (1, 4, 5):
        producers[0].put(sample(time))
    producers[1].put(sample(2))
    producers[1].put(record(abi.PERF_RECORD_COMM, 0x2000, struct.pack("<II", 7, 8) + b"newname\0" + trailer(3)))
    found = sampler.read()
    assert [event.time for event in found] == [1, 2, 3, 4, 5]
    comm = found[2]
    assert type(comm) is CommEvent and (comm.pid, comm.tid, comm.comm, comm.exec) == (7, 8, "newname", True)
    assert sampler.read() == []


def test_records_that_wrap_are_whole_and_space_is_given_back(rings) -> None:
    sampler, producers = rings
    sent, got = [], []
    for round in range(200):
        data = bytes([round]) * (round % 9 * 8)
        sent.append((round, data))
        producers[round % 2].put(sample(round, stack=data, room=72))
        if round % 3 == 0:
            got += [(event.time, bytes(event.stack)) for event in sampler.read()]
            assert [producer.tail for producer in producers] == [producer.head for producer in producers]
    got += [(event.time, bytes(event.stack)) for event in sampler.read()]
    assert sorted(got) == sent
    assert producers[0].head > 5 * PAGESIZE


def test_a_sample_outlives_its_place_in_the_ring(rings) -> None:
    sampler, producers = rings
    producers[0].put(sample(1, stack=b"A" * 64))
    (kept,) = sampler.read()
    for time in range(2, 40):
        producers[0].put(sample(time, stack=b"B" * 64))
        sampler.read()
    assert bytes(kept.stack) == b"A" * 64


def test_losses_are_counted(rings) -> None:
    sampler, producers = rings
    producers[0].put(record(abi.PERF_RECORD_LOST, 0, struct.pack("<QQ", 1, 5) + trailer(1)))
    producers[0].put(sample(2))
    producers[1].put(record(abi.PERF_RECORD_LOST_SAMPLES, 0, struct.pack("<Q", 3) + trailer(1)))
    producers[1].put(record(abi.PERF_RECORD_THROTTLE, 0, struct.pack("<QQQ", 1, 1, 1) + trailer(1)))
    producers[1].put(record(abi.PERF_RECORD_UNTHROTTLE, 0, struct.pack("<QQQ", 1, 1, 1) + trailer(1)))
    assert [type(event) for event in sampler.read()] == [Sample]
    assert (sampler.lost, sampler.throttled) == (8, 1)


def test_mappings_and_tasks(rings) -> None:
    sampler, producers = rings
    head = struct.pack("<IIQQQ", 7, 8, 0x400000, 0x2000, 0x1000)
    inode = struct.pack("<IIQQII", 8, 1, 77, 0, 5, 2)
    producers[0].put(record(abi.PERF_RECORD_MMAP2, 0, head + inode + b"/bin/a b\0\0\0\0\0\0\0\0" + trailer(1)))
    build_id = bytes((20, 0, 0, 0)) + bytes(range(20)) + struct.pack("<II", 1, 2)
    producers[0].put(record(abi.PERF_RECORD_MMAP2, 0x4000, head + build_id + b"/lib/x\0\0" + trailer(2)))
    producers[0].put(record(abi.PERF_RECORD_FORK, 0, struct.pack("<IIIIQ", 9, 7, 9, 8, 3) + trailer(3)))
    producers[0].put(record(abi.PERF_RECORD_EXIT, 0, struct.pack("<IIIIQ", 9, 7, 9, 7, 4) + trailer(4)))
    first, second, third, fourth = sampler.read()
    assert type(first) is MappingEvent and type(third) is TaskEvent
    assert (first.start, first.end, first.offset, first.path, first.inode, first.device, first.executable) == (
        0x400000, 0x402000, 0x1000, "/bin/a b", 77, "08:01", True,
    )  # fmt: skip
    assert second.build_id == bytes(range(20)).hex() and not second.executable and second.path == "/lib/x"
    assert (third.kind, third.pid, third.parent, third.parent_tid) == ("fork", 9, 7, 8)
    assert fourth.kind == "exit"


def test_damaged_records_are_refused(rings) -> None:
    sampler, producers = rings
    good = sample(1, chain=(1, 2), stack=b"abcdefgh")
    for place, value in ((48, 1 << 40), (48 + 24 + 8 + 17 * 8, 1 << 30)):
        bad = bytearray(good)
        struct.pack_into("<Q", bad, place, value)
        producers[0].put(bytes(bad))
        with pytest.raises(FormatError):
            sampler.read()
    producers[0].put(good[:40].replace(struct.pack("<H", len(good)), struct.pack("<H", 40), 1))
    with pytest.raises(FormatError):
        sampler.read()
    producers[1].put(struct.pack("<IHH", 9, 0, 0))
    with pytest.raises(KernelError):
        sampler.read()
    producers[0].publish(producers[0].head + 10 * PAGESIZE)
    with pytest.raises(KernelError):
        sampler.read()


def test_a_process_that_is_gone(kernel: FakeKernel) -> None:
    with pytest.raises(KernelError) as caught:
        Sampler(kernel, software("cpu-clock", freq=99), pid=9)
    assert caught.value.errno == errno.ESRCH
    kernel.on("perf_event_open", -errno.ESRCH)
    with pytest.raises(KernelError):
        Sampler(kernel, software("cpu-clock", freq=99), pid=7)
    assert kernel.open_fds == set()


def test_a_refusal_leaves_nothing_open(kernel: FakeKernel) -> None:
    kernel.on("perf_event_open", lambda call: kernel.new_fd(), lambda call: kernel.new_fd(), -errno.EMFILE)
    with pytest.raises(KernelError):
        Sampler(kernel, software("cpu-clock", freq=99), pid=7)
    assert kernel.open_fds == set()


def test_other_sample_types_are_not_guessed_at() -> None:
    with pytest.raises(UsageError):
        SampleLayout(ALWAYS | 1 << 25)
    with pytest.raises(UsageError):
        SampleLayout(ALWAYS | abi.PERF_SAMPLE_READ, read_format=1 << 5)
