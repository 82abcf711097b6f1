"""Recordings of perf: every layout, order of time, pipes, compression, damage."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harken.abi import perf_event as abi
from harken.base.errors import FormatError, HarkenError
from harken.formats.perf_data import PerfData, open_perf_data
from harken.formats.perf_data_columns import Walk
from harken.formats.perf_data_layout import SampleLayout
from harken.formats.perf_data_records import CommEvent, LostEvent, MappingEvent, TaskEvent
from harken.testing.perf_data_builder import DEFAULT_TYPE, PerfDataBuilder

CHAINS = DEFAULT_TYPE | abi.PERF_SAMPLE_CALLCHAIN
KERNEL, USER = abi.PERF_CONTEXT_KERNEL, abi.PERF_CONTEXT_USER


def only(data: PerfData, **options):
    (batch,) = data.batches(**options)
    return batch


@pytest.mark.parametrize("order", ["<", ">"])
def test_columns_and_events_in_order_of_time(order) -> None:
    builder = PerfDataBuilder(order).mmap2(7, 0x1000, 0x2000, 0x3000, "/usr/bin/a b", 5)
    builder.sample(ip=0x1004, pid=7, tid=8, time=30, cpu=1).sample(ip=0x1008, pid=7, tid=9, time=10, cpu=2)
    builder.comm(7, "new", 20, exec=True).fork(7, 12, 25).lost(3, 26)
    builder.text_feature(3, "host").text_feature(6, "x86_64").build_id("/usr/bin/a b", "ab" * 20)
    data = PerfData(builder.build())
    batch = only(data)
    assert (batch.column("ip"), batch.times) == ([0x1008, 0x1004], [10, 30])
    assert (batch.column("pid"), batch.column("tid"), batch.column("cpu")) == ([7, 7], [9, 8], [2, 1])
    assert batch.column("period") is None and batch.chains() is None
    places, events = zip(*batch.others)
    assert places == (0, 1, 1, 1)
    mapping, comm, fork, lost = events
    assert isinstance(mapping, MappingEvent) and isinstance(comm, CommEvent) and isinstance(fork, TaskEvent) and isinstance(lost, LostEvent)
    assert (mapping.start, mapping.end, mapping.offset, mapping.path, mapping.inode) == (0x1000, 0x3000, 0x3000, "/usr/bin/a b", 77)
    assert mapping.device == "08:01" and mapping.executable and not mapping.in_kernel
    assert (comm.comm, comm.exec, fork.parent, fork.pid, fork.kind) == ("new", True, 7, 12, "fork")
    assert data.lost == 3 and not data.problems
    assert data.features.get("hostname") == "host" and data.machine == "x86_64" and data.order == order
    assert [(found.path, found.build_id) for found in data.build_ids] == [("/usr/bin/a b", "ab" * 20)]
    assert data.events[0].flags == {"sample_id_all", "mmap2"}
    sample = batch.sample(0)
    assert (sample.ip, sample.pid, sample.tid, sample.time, sample.cpu, sample.in_kernel) == (0x1008, 7, 9, 10, 2, False)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("count", [1, 9, 2000])
def test_long_runs_are_the_same_samples(order, count) -> None:
    builder = PerfDataBuilder(order)
    for number in range(count):
        builder.sample(ip=number, pid=number % 3, tid=1, time=number, misc=1 + number % 2)
        if number % 700 == 650:
            builder.comm(1, f"c{number}", number)
    batch = only(PerfData(builder.build()))
    assert batch.column("ip") == list(range(count)) and batch.column("pid") == [number % 3 for number in range(count)]
    if count == 2000:
        assert [place for place, _ in batch.others] == [650, 1350]


@pytest.mark.parametrize("order", ["<", ">"])
def test_call_chains(order) -> None:
    builder = PerfDataBuilder(order, CHAINS)
    chains = [[KERNEL, 1 << 63, (1 << 63) + 4, USER, 0x1000, 0x2000], [], [USER, 5]]
    for number, chain in enumerate(chains):
        builder.sample(builder.chain(chain), ip=1, pid=1, tid=1, time=number)
    batch = only(PerfData(builder.build()))
    keys = batch.chains()
    assert keys == [struct.pack(f"={len(chain)}Q", *chain) for chain in chains]
    assert batch.sample(0).kernel == (1 << 63, (1 << 63) + 4) and batch.sample(0).user == (0x1000, 0x2000)


def test_a_chain_that_is_too_long_is_refused() -> None:
    builder = PerfDataBuilder("<", CHAINS)
    builder.sample(struct.pack("<QQ", 1 << 61, 5), ip=1, pid=1, tid=1, time=1)
    with pytest.raises(FormatError):
        only(PerfData(builder.build())).chains()


def test_every_field_of_a_sample() -> None:
    kinds = (1 << 24) - 1
    reads = abi.PERF_FORMAT_GROUP | abi.PERF_FORMAT_ID | abi.PERF_FORMAT_TOTAL_TIME_ENABLED | abi.PERF_FORMAT_LOST
    builder = PerfDataBuilder("<", kinds, reads)
    after = struct.pack("<QQ6Q", 2, 100, 1, 2, 3, 4, 5, 6)  # read: nr, enabled, (value, id, lost) twice
    after += builder.chain([USER, 0x99]) + struct.pack("<I", 4) + b"rawd" + struct.pack("<Q3Q", 1, 0xF, 0x70, 9)
    after += struct.pack("<Q2Q", 2, 11, 12) + struct.pack("<Q", 8) + b"stackbyt" + struct.pack("<Q", 5)
    after += struct.pack("<QQQ", 31, 32, 33) + struct.pack("<Q", 0) + struct.pack("<4Q", 41, 42, 43, 44)
    after += struct.pack("<Q", 8) + b"auxauxau"
    builder.sample(after, ip=0x10, pid=1, tid=2, time=3, addr=4, id=1, stream_id=6, cpu=7, period=8, identifier=1)
    sample = only(PerfData(builder.build())).sample(0)
    assert (sample.ip, sample.pid, sample.tid, sample.time, sample.cpu, sample.period) == (0x10, 1, 2, 3, 7, 8)
    assert sample.user == (0x99,) and bytes(sample.raw) == b"rawd" and bytes(sample.stack) == b"stack"
    assert sample.registers == {"r0": 11, "r1": 12}
    assert sample.more is not None and sample.more["read"] == (2, 100, 1, 2, 3, 4, 5, 6)
    assert sample.more["branch_stack"] == [(0xF, 0x70, 9)] and sample.more["weight"] == 31 and sample.more["data_src"] == 32
    assert (sample.more["phys_addr"], sample.more["cgroup"], sample.more["code_page_size"]) == (41, 42, 44)
    assert bytes(sample.more["aux"]) == b"auxauxau" and sample.more["addr"] == 4 and sample.more["transaction"] == 33


def test_events_with_different_fields_are_told_apart_by_identifier() -> None:
    first = abi.PERF_SAMPLE_IDENTIFIER | abi.PERF_SAMPLE_IP | abi.PERF_SAMPLE_TID | abi.PERF_SAMPLE_TIME
    second = first | abi.PERF_SAMPLE_CPU | abi.PERF_SAMPLE_CALLCHAIN
    builder = PerfDataBuilder("<", first).event(second, (2, 3))
    builder.sample(ip=1, pid=1, tid=1, time=1, identifier=1)
    builder.sample(builder.chain([USER, 8]), sample_type=second, ip=2, pid=1, tid=1, time=0, cpu=5, identifier=3)
    batch = only(PerfData(builder.build()))
    assert batch.events() == [1, 0] and batch.column("cpu") == [5, 0] and batch.column("ip") == [2, 1]
    assert batch.chains() == [struct.pack("=2Q", USER, 8), b""]


def test_events_that_cannot_be_told_apart() -> None:
    builder = PerfDataBuilder("<", abi.PERF_SAMPLE_IP).event(abi.PERF_SAMPLE_IP | abi.PERF_SAMPLE_CPU, (2,))
    builder.sample(ip=1)
    with pytest.raises(FormatError, match="nothing tells"):
        list(PerfData(builder.build()).batches())


def scattered(rounds: int, seed: int) -> tuple[PerfDataBuilder, list[int]]:
    """Records as perf writes them: in each round those of one CPU after those of another; a few belong to the next round's time."""
    chance = random.Random(seed)
    builder, times = PerfDataBuilder("<"), []
    for number in range(rounds):
        for _ in range(2):
            part = sorted([number * 1000 + chance.randrange(1400) for _ in range(50)])
            times += part
            for time in part:
                builder.sample(ip=time, pid=1, tid=1, time=time)
        builder.comm(1, f"c{number}", number * 1000 + chance.randrange(1000))
        builder.round()
    return builder, sorted(times)


@pytest.mark.parametrize("window", [2000, 10_000, 1 << 20])
@pytest.mark.parametrize("piped", [False, True])
def test_windows_and_rounds_keep_the_order(window, piped) -> None:
    builder, times = scattered(20, window)
    if piped:
        raw = builder.pipe()
        position = 16

        def more(size: int) -> bytes:
            nonlocal position
            part = raw[position : position + min(size, 777)]
            position += len(part)
            return part

        data = PerfData(raw[:16], "pipe", more)
    else:
        data = PerfData(builder.build())
    found, comms = [], []
    batches = 0
    for batch in data.batches(window):
        batches += 1
        assert batch.times == batch.column("time") == batch.column("ip")
        found += batch.times
        for place, event in batch.others:
            comms.append(event.comm)
            assert not place or batch.times[place - 1] < event.time
            assert place == len(batch) or batch.times[place] >= event.time
    assert found == times and comms == [f"c{number}" for number in range(20)] and not data.problems
    assert batches > 3 if window < 1 << 20 else batches == 1


@pytest.mark.parametrize("version", [1, 2])
def test_compressed_records(version) -> None:
    zstandard = pytest.importorskip("zstandard")
    stream = zstandard.ZstdCompressor().compressobj()
    builder = PerfDataBuilder("<")
    for number in range(300):
        builder.sample(ip=number, pid=1, tid=1, time=number)
    plain = b"".join(builder.records)
    builder.records = []
    for place in range(0, len(plain), 1001):  # records begin in one and end in the next
        packed = stream.compress(plain[place : place + 1001]) + stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        if version == 1:
            builder.records.append(struct.pack("<IHH", 81, 0, 8 + len(packed)) + packed)
        else:
            size = 16 + len(packed) + -len(packed) % 8
            builder.records.append((struct.pack("<IHHQ", 83, 0, size, len(packed)) + packed).ljust(size, b"\0"))
    builder.features[27] = struct.pack("<5I", 1, 1, 3, 2, 1 << 20)
    builder.round()
    data = PerfData(builder.build())
    assert only(data).column("ip") == list(range(300)) and not data.problems


def test_a_bomb_is_noticed() -> None:
    zstandard = pytest.importorskip("zstandard")
    packed = zstandard.ZstdCompressor().compress(bytes(100 << 20))
    builder = PerfDataBuilder("<")
    builder.records.append(struct.pack("<IHH", 81, 0, 8 + len(packed) + -len(packed) % 8) + packed + bytes(-len(packed) % 8))
    builder.features[27] = struct.pack("<5I", 1, 1, 3, 2, 1 << 20)
    with pytest.raises(FormatError, match="64 MiB"):
        list(PerfData(builder.build()).batches())


def test_a_recording_that_was_killed_is_read_as_far_as_it_goes() -> None:
    builder = PerfDataBuilder("<")
    for number in range(100):
        builder.sample(ip=number, pid=1, tid=1, time=number)
    raw = bytearray(builder.build()[:-20])
    struct.pack_into("<Q", raw, 48, 0)  # the length is written at the end
    data = PerfData(bytes(raw))
    assert only(data).column("ip") == list(range(99))
    assert "not ended" in data.problems[0] and "within a record" in data.problems[1]


def test_a_damaged_record_ends_the_recording() -> None:
    builder = PerfDataBuilder("<").sample(ip=1, pid=1, tid=1, time=1)
    builder.records.append(struct.pack("<IHH", 9, 0, 3) + bytes(5))
    data = PerfData(builder.sample(ip=2, pid=1, tid=1, time=2).build())
    assert only(data).column("ip") == [1] and "3 bytes" in data.problems[0]


def test_auxiliary_data_is_skipped() -> None:
    builder = PerfDataBuilder("<").sample(ip=1, pid=1, tid=1, time=1)
    builder.records.append(struct.pack("<IHH5Q", 71, 0, 48, 4096, 0, 0, 0, 0) + bytes(range(256)) * 16)
    data = PerfData(builder.sample(ip=2, pid=1, tid=1, time=2).build())
    assert only(data, window=200).column("ip") == [1, 2] and not data.problems


@pytest.mark.parametrize("raw", [b"", b"PERFILE2", b"PERFFILE" + bytes(200), bytes(200), b"PERFILE2" + b"\xff" * 200])
def test_what_is_no_recording(raw) -> None:
    with pytest.raises(FormatError):
        PerfData(raw)


def test_a_folder_and_a_missing_file(tmp_path) -> None:
    with pytest.raises(FormatError, match="directory"):
        open_perf_data(str(tmp_path))
    with pytest.raises(OSError):
        open_perf_data(str(tmp_path / "none"))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_is_told_and_nothing_else(data) -> None:
    builder, _ = scattered(2, 1)
    builder.types[0] = (CHAINS, 0, (1,))
    builder.text_feature(3, "host").build_id("/a", "cd" * 20).mmap2(1, 1, 2, 3, "/x", 5)
    raw = bytearray(builder.build())
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place] = data.draw(st.integers(0, 255))
    try:
        found = PerfData(bytes(raw[: data.draw(st.integers(0, len(raw)))]))
        found.features.get("hostname")
        for batch in found.batches(4000):
            batch.column("ip"), batch.chains(), batch.events()
    except HarkenError:
        pass


def test_layouts_find_what_they_can() -> None:
    layout = SampleLayout(CHAINS)
    assert layout.chain == 6 and layout.size == 6 and layout.id_place == 4
    assert SampleLayout(CHAINS | abi.PERF_SAMPLE_READ, read_format=abi.PERF_FORMAT_GROUP).chain == -1
    assert SampleLayout(CHAINS | abi.PERF_SAMPLE_READ, read_format=abi.PERF_FORMAT_ID).chain == 8


def test_walk_stops_at_rubbish() -> None:
    walk = Walk(struct.pack("<IHHQ", 9, 0, 16, 1) * 20 + b"\xff" * 64, "<")
    assert walk.problem and walk.end == 320 and len(walk.samples) == 20


def test_columns_that_samples_are_too_short_for_are_not_taken_ahead() -> None:
    walk = Walk(struct.pack("<IHHQ", 9, 0, 16, 1) * 20, "<")
    if not walk.native:
        pytest.skip("the accelerator is not built")
    walk.prepare(1, 1, -1)
    assert walk.halves(1, False).tolist() == walk.array(1).tolist() == [1] * 20
    for words in ((2, -1, -1), (-1, 2, -1), (1, 1, 1 << 40)):
        with pytest.raises(FormatError):
            walk.prepare(*words)
