"""Ring readers against the kernel: hundreds of thousands of records, all there or counted as lost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from struct import Struct, pack

import pytest

from harken.abi import bpf as abi
from harken.formats.insn import (
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
    alu64,
    call,
    encode,
    exit_,
    jmp,
    ld_imm64,
    ldx,
    mov64,
    stx,
)  # fmt: skip
from harken.formats.spec import MapSpec
from harken.kernel.bpf import Map, Program, create_map, load_program
from harken.kernel.kernel import live
from harken.kernel.ring import PerfBuffer, RingBuffer

pytestmark = pytest.mark.kernel

KERNEL = live()
PAIR = Struct("=QQ")
MOST = 20_000
#: emulated guests are 20 times slower
LEAN = "HARKEN_GUEST" in os.environ


def producer(map: Map, perf: bool) -> Program:
    """A raw tracepoint program, run by hand: sends (index, total) ``total`` times, total being the context's first word, and returns the
    (negative) sum of what the helper returned."""
    output = [
        *([mov64(R1, R9), ld_imm64(R2, map.fd, abi.BPF_PSEUDO_MAP_FD), ld_imm64(R3, 0xFFFFFFFF)] if perf else [ld_imm64(R1, map.fd, 1)]),
        mov64(R4 if perf else R2, R10),
        alu64("add", R4 if perf else R2, imm=-16),
        mov64(R5 if perf else R3, imm=16),
        *([] if perf else [mov64(R4, imm=0)]),
        call("perf_event_output" if perf else "ringbuf_output"),
    ]
    slots = sum(2 if insn[0] == 0x18 else 1 for insn in output)
    insns = [
        mov64(R9, R1),
        ldx(8, R6, R1, 0),
        mov64(R7, imm=0),
        mov64(R8, imm=0),
        stx(8, R10, R7, -16),
        stx(8, R10, R6, -8),
        *output,
        alu64("add", R8, R0),
        alu64("add", R7, imm=1),
        jmp("ge", R7, imm=MOST, off=1),
        jmp("gt", R6, R7, off=-(slots + 6)),
        mov64(R0, R8),
        exit_(),
    ]
    return load_program(KERNEL, abi.BPF_PROG_TYPE_RAW_TRACEPOINT, encode(insns), name="producer")


@pytest.fixture
def ring() -> Iterator[tuple[RingBuffer, Program]]:
    with create_map(KERNEL, MapSpec("ring", abi.BPF_MAP_TYPE_RINGBUF, 0, 0, 1 << 20)) as map, producer(map, False) as program:  # noqa: SIM117
        with RingBuffer(KERNEL, map) as reader:
            yield reader, program


def test_four_hundred_thousand_records_in_order(ring: tuple[RingBuffer, Program]) -> None:
    reader, program = ring
    unpack = PAIR.unpack_from
    for _ in range(2 if LEAN else 20):
        assert program.run(pack("=Q", MOST)) == 0
        # offsets only: nothing is copied and nothing made per record
        seen = [unpack(data, start)[0] for data, starts in reader.batches() for start in starts]
        assert seen == list(range(MOST))
    assert reader.available == 0


def test_a_full_ring_refuses_and_loses_nothing_of_what_it_took(ring: tuple[RingBuffer, Program]) -> None:
    reader, program = ring
    refused = [program.run(pack("=Q", MOST)) for _ in range(4)]
    assert refused[0] == 0 and refused[3] != 0, "the ring holds 43,690 records of 24 bytes"
    seen: list[int] = []
    count = reader.consume(lambda record: seen.append(PAIR.unpack(record)[0]))
    assert count == len(seen) == (1 << 20) // 24
    assert seen == [*range(MOST), *range(MOST), *range(count - 2 * MOST)]


def test_a_ring_is_readable_when_there_is_something(ring: tuple[RingBuffer, Program]) -> None:
    reader, program = ring
    assert KERNEL.poll(reader.fds, 0) == []
    program.run(pack("=Q", 1))
    assert KERNEL.poll(reader.fds, 0) == [reader.fd]
    assert reader.consume(lambda record: None, limit=5) == 1
    assert KERNEL.poll(reader.fds, 0) == []


def test_discarded_records_and_variable_sizes() -> None:
    """Reserves two records, discards the first, submits the second."""

    def reserve(size: int, end: str, value: int) -> list[tuple[int, int, int, int, int]]:
        return [
            ld_imm64(R1, map.fd, 1),
            mov64(R2, imm=size),
            mov64(R3, imm=0),
            call("ringbuf_reserve"),
            jmp("ne", R0, imm=0, off=2),
            mov64(R0, imm=1),
            exit_(),
            mov64(R1, imm=value),
            stx(8, R0, R1, 0),
            mov64(R1, R0),
            mov64(R2, imm=0),
            call(end),
        ]

    with create_map(KERNEL, MapSpec("ring", abi.BPF_MAP_TYPE_RINGBUF, 0, 0, 4096)) as map, RingBuffer(KERNEL, map) as reader:
        insns = [*reserve(64, "ringbuf_discard", 1), *reserve(13, "ringbuf_submit", 2), mov64(R0, imm=0), exit_()]
        with load_program(KERNEL, abi.BPF_PROG_TYPE_RAW_TRACEPOINT, encode(insns), name="reserve") as program:
            for _ in range(200):
                assert program.run(bytes(8)) == 0
                sizes: list[tuple[int, int]] = []
                assert reader.consume(lambda record, sizes=sizes: sizes.append((len(record), record[0]))) == 1
                assert sizes == [(13, 2)]


@pytest.fixture
def buffer() -> Iterator[tuple[PerfBuffer, Program]]:
    with create_map(KERNEL, MapSpec("perf", abi.BPF_MAP_TYPE_PERF_EVENT_ARRAY, 4, 4, 0)) as map, producer(map, True) as program:  # noqa: SIM117
        with PerfBuffer(KERNEL, map, 64) as reader:
            yield reader, program


def test_two_hundred_thousand_perf_records(buffer: tuple[PerfBuffer, Program]) -> None:
    reader, program = buffer
    for _ in range(3 if LEAN else 50):
        assert program.run(pack("=Q", 4000)) == 0
        seen: list[int] = []
        assert reader.consume(lambda record, seen=seen: seen.append(PAIR.unpack_from(record)[0])) == 4000
        assert seen == list(range(4000))
    assert reader.lost == 0


def test_what_a_perf_buffer_loses_is_counted(buffer: tuple[PerfBuffer, Program]) -> None:
    reader, program = buffer
    program.test_run(pack("=Q", MOST), cpu=0)
    kept = reader.consume(lambda record: None)
    assert 0 < kept < MOST
    # the kernel tells with the next record that fits
    program.test_run(pack("=Q", 1), cpu=0)
    assert reader.consume(lambda record: None) == 1
    assert kept + reader.lost == MOST and reader.lost_by_cpu == {0: reader.lost}


def test_a_perf_buffer_is_readable_when_there_is_something(buffer: tuple[PerfBuffer, Program]) -> None:
    reader, program = buffer
    assert KERNEL.poll(reader.fds, 0) == []
    program.test_run(pack("=Q", 3), cpu=0)
    assert len(KERNEL.poll(reader.fds, 0)) == 1
    assert reader.consume(lambda record: None, limit=2) == 2 and reader.consume(lambda record: None) == 1


def test_a_hushed_perf_buffer_wakes_when_half_of_it_is_full(buffer: tuple[PerfBuffer, Program]) -> None:
    reader, program = buffer
    program.test_run(pack("=Q", 1), cpu=0)
    assert len(KERNEL.poll(reader.fds, 0)) == 1 and reader.consume(lambda record: None) == 1
    reader.hush(0)
    assert reader.hushed
    program.test_run(pack("=Q", 500), cpu=0)
    assert KERNEL.poll(reader.fds, 0) == [] and reader.consume(lambda record: None) == 500
    program.test_run(pack("=Q", MOST), cpu=0)
    assert len(KERNEL.poll(reader.fds, 0)) == 1
    kept = reader.consume(lambda record: None)
    reader.rouse()
    program.test_run(pack("=Q", 1), cpu=0)
    assert len(KERNEL.poll(reader.fds, 0)) == 1 and reader.consume(lambda record: None) == 1
    # losses of both events are counted
    assert reader.count_lost() == reader.lost == MOST - kept > 0
