"""Sampling and unwinding on a live kernel: this process is its own target."""

from __future__ import annotations

import mmap
import os
import time

import pytest

from harken.kernel.kernel import live
from harken.kernel.perf_event import software
from harken.kernel.sampling import MappingEvent, Sample, Sampler
from harken.symbols.processes import Processes
from harken.symbols.unwind.unwinder import COMPLETE, Unwinder

pytestmark = [pytest.mark.kernel, pytest.mark.needs("perf_software")]


def spin(seconds: float) -> int:
    count = 0
    end = time.process_time() + seconds
    while time.process_time() < end:
        for number in range(1000):
            count += number * number
    return count


def test_this_process_is_sampled_and_unwound_to_its_start() -> None:
    kernel = live()
    attr = software("cpu-clock", freq=499, flags=("exclude_kernel", "exclude_hv"))
    with Sampler(kernel, attr, pid=os.getpid(), registers=True, stack=65528) as sampler, Processes(kernel) as processes:
        sampler.enable()
        spin(0.3)
        sampler.disable()
        samples = [record for record in sampler.read() if type(record) is Sample]
        assert len(samples) >= 10 and sampler.lost == 0
        unwinder = Unwinder(kernel.machine, processes)
        ends: dict[str, int] = {}
        for sample in samples:
            assert sample.pid == os.getpid() and sample.tid == sample.pid and sample.registers is not None
            assert sample.user[0] == sample.ip == sample.registers["ip" if kernel.machine == "x86_64" else "pc"]
            walk = unwinder.walk(sample.pid, sample.registers, sample.stack, 500)
            assert walk.addresses[0] == sample.ip
            if walk.end == COMPLETE:
                assert len(walk.addresses) > 8
            ends[walk.end] = ends.get(walk.end, 0) + 1
    # a test runner's stack may be deeper than the 64 KiB that the kernel copies; but nothing may be lost on the way
    assert set(ends) <= {COMPLETE, "truncated"}, ends
    assert [sample.time for sample in samples] == sorted(sample.time for sample in samples)


def test_new_mappings_are_told() -> None:
    kernel = live()
    with Sampler(kernel, software("dummy"), pid=os.getpid(), callchain=False, pages=8) as sampler:
        sampler.enable()
        with open("/proc/self/exe", "rb") as file:
            size = os.fstat(file.fileno()).st_size
            mapped = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)
            inode = os.fstat(file.fileno()).st_ino
        mapped.close()
        sampler.disable()
        found = [record for record in sampler.read() if type(record) is MappingEvent and record.pid == os.getpid()]
    assert any(event.executable and event.inode == inode and event.end - event.start >= size for event in found)


@pytest.mark.needs("perf_tracepoint", "tracefs")
def test_samples_carry_a_tracepoints_record_and_the_kernels_chain() -> None:
    from harken.abi.perf_event import PERF_SAMPLE_RAW
    from harken.kernel.perf_event import tracepoint
    from harken.kernel.tracefs import find

    kernel = live()
    attr = tracepoint(find(kernel).event_id("sched", "sched_switch"))
    assert attr.sample_type & PERF_SAMPLE_RAW
    with Sampler(kernel, attr, pid=os.getpid(), pages=16) as sampler:
        sampler.enable()
        for _ in range(5):
            time.sleep(0.02)  # longer than what an emulated machine needs to go to sleep
        sampler.disable()
        samples = [record for record in sampler.read() if type(record) is Sample]
    assert len([sample for sample in samples if sample.tid == os.getpid()]) >= 5
    for sample in samples:  # other threads of this process are sampled, too, if there are any
        assert int.from_bytes(sample.raw[4:8], "little", signed=True) == sample.tid  # common_pid
        assert sample.in_kernel and all(address >> 63 for address in sample.kernel) and sample.user


@pytest.mark.skipif(os.geteuid() != 0, reason="/proc/PID/map_files is root's")
def test_a_program_that_runs_from_memory_has_its_call_frame_information() -> None:
    from harken.symbols.unwind.files import Files
    from harken.testing.elf_builder import ElfBuilder

    fd = os.memfd_create("program")
    os.write(fd, ElfBuilder().function("main", 0x401000, 16).build())
    mapped = mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_EXEC)
    with Processes(live()) as processes:
        (mapping,) = [one for one in processes.mappings(os.getpid()) if one.path.startswith("/memfd:program")]
        elf = Files(processes).open(os.getpid(), mapping)
        assert elf is not None and elf.symbol("main") is not None
        assert Files(processes).open(os.getpid(), mapping.replace(start=mapping.start + 4096)) is None
    mapped.close()
    os.close(fd)
