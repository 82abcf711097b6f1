"""Maps, programs and links on a real kernel."""

from __future__ import annotations

import errno
import os
from struct import pack, unpack

import pytest

from harken.abi import bpf as abi
from harken.base.errors import KernelError
from harken.formats.insn import R0, R1, R2, R10, alu64, call, encode, exit_, jmp, ld_imm64, ldx, mov64, st
from harken.formats.spec import MapSpec
from harken.kernel import bpf_info
from harken.kernel.bpf import Map, Program, create_map, load_program, try_create_map, try_load_program
from harken.kernel.kernel import Call, live
from harken.kernel.link import BpfLink, raw_tracepoint_open
from harken.kernel.procfs import cpus_possible

pytestmark = pytest.mark.kernel

KERNEL = live()
CPUS = len(cpus_possible(KERNEL))

HASHES = {
    "hash": (abi.BPF_MAP_TYPE_HASH, 0),
    "hash, no preallocation": (abi.BPF_MAP_TYPE_HASH, abi.BPF_F_NO_PREALLOC),
    "percpu_hash": (abi.BPF_MAP_TYPE_PERCPU_HASH, 0),
    "lru_hash": (abi.BPF_MAP_TYPE_LRU_HASH, 0),
    "lru_percpu_hash": (abi.BPF_MAP_TYPE_LRU_PERCPU_HASH, 0),
}


def make(type: int, key: int = 4, value: int = 8, entries: int = 1000, flags: int = 0) -> Map:
    return create_map(KERNEL, MapSpec("test", type, key, value, entries, flags))


def key(number: int) -> bytes:
    return number.to_bytes(4, "little")


@pytest.mark.parametrize("name", HASHES)
@pytest.mark.parametrize("batch", [True, False], ids=["batch", "single"])
def test_hashes(name: str, batch: bool) -> None:
    type, flags = HASHES[name]
    with make(type, value=12, flags=flags, entries=4000) as map:
        map.batches = batch
        value = b"abcdefghijkl"
        full = (value + bytes(map.stride - 12)) * map.cpus
        count = 500
        map.update_batch([(key(number), full) for number in range(count)])
        map.update(key(count), value)
        with pytest.raises(KernelError) as caught:
            map.update(key(3), value, abi.BPF_NOEXIST)
        assert caught.value.errno == errno.EEXIST
        assert map.lookup(key(7)) == full and map.lookup(key(count)) == full and map.lookup(key(99999)) is None
        assert map.delete(key(7)) and not map.delete(key(7))
        items = map.items()
        assert {item[0] for item in items} == {key(number) for number in range(count + 1) if number != 7}
        assert all(item[1] == full for item in items)
        assert map.cpus == (CPUS if map.per_cpu else 1)
        assert len(map.drain()) == count and map.items() == []
        map.update(key(1), value)
        map.clear()
        assert map.keys() == []


@pytest.mark.parametrize("type", [abi.BPF_MAP_TYPE_ARRAY, abi.BPF_MAP_TYPE_PERCPU_ARRAY])
def test_arrays(type: int) -> None:
    with make(type, entries=70) as map:
        assert len(map.items()) == 70 and not any(map.snapshot()[1])
        map.update(key(69), pack("=Q", 5))
        assert map.items()[69] == (key(69), pack("=Q", 5) * map.cpus)
        with pytest.raises(KernelError) as caught:
            map.update(key(70), bytes(8))
        assert "is full" in caught.value.message
        map.clear()
        assert not any(map.snapshot()[1])


def test_a_large_map_needs_several_batches() -> None:
    with make(abi.BPF_MAP_TYPE_HASH, value=128, entries=20_000) as map:
        map.update_batch([(key(number), key(number) * 32) for number in range(15_000)])
        keys, values, count = map.snapshot()
        assert count == 15_000 and len(values) > 1 << 20
        assert sorted(unpack(f"={count}I", keys)) == list(range(15_000))
        assert unpack(f"={count}I", keys) == unpack(f"={32 * count}I", values)[::32]


def test_a_full_map() -> None:
    with make(abi.BPF_MAP_TYPE_HASH, entries=2) as map:
        map.update(key(1), bytes(8))
        map.update(key(2), bytes(8))
        with pytest.raises(KernelError, match=r"is full \(2 entries\)"):
            map.update(key(3), bytes(8))


def test_maps_without_keys() -> None:
    for type, order in ((abi.BPF_MAP_TYPE_QUEUE, [b"1" * 8, b"2" * 8]), (abi.BPF_MAP_TYPE_STACK, [b"2" * 8, b"1" * 8])):
        with make(type, key=0) as map:
            map.update(b"", b"1" * 8)
            map.update(b"", b"2" * 8)
            assert map.lookup(b"") == order[0] and [map.pop(), map.pop(), map.pop()] == [*order, None]


def test_maps_of_descriptors() -> None:
    program = load_program(KERNEL, abi.BPF_PROG_TYPE_SOCKET_FILTER, encode([mov64(R0, imm=0), exit_()]), name="callee")
    with program, make(abi.BPF_MAP_TYPE_PROG_ARRAY, value=4, entries=3) as map:
        map.update(key(1), key(program.fd))
        assert map.items() == [(key(1), key(program.id))]
        assert map.delete(key(1)) and map.items() == []
    inner = MapSpec("inner", abi.BPF_MAP_TYPE_ARRAY, 4, 8, 1)
    outer = create_map(KERNEL, MapSpec("outer", abi.BPF_MAP_TYPE_HASH_OF_MAPS, 4, 4, 2, inner=inner))
    with outer, create_map(KERNEL, inner) as one:
        outer.update(key(5), key(one.fd))
        assert outer.items() == [(key(5), key(one.info().id))]


def test_other_types_can_be_made() -> None:
    for type, sizes in (
        (abi.BPF_MAP_TYPE_RINGBUF, (0, 0, 4096)),
        (abi.BPF_MAP_TYPE_PERF_EVENT_ARRAY, (4, 4, 0)),
        (abi.BPF_MAP_TYPE_STACK_TRACE, (4, 127 * 8, 16)),
        (abi.BPF_MAP_TYPE_BLOOM_FILTER, (0, 8, 16)),
        (abi.BPF_MAP_TYPE_CGROUP_ARRAY, (4, 4, 1)),
    ):
        with make(type, *sizes) as map:
            info = map.info()
            assert (info.type, info.name, info.max_entries) == (type, "test", map.max_entries)
    with create_map(KERNEL, MapSpec("lpm", abi.BPF_MAP_TYPE_LPM_TRIE, 8, 4, 16, abi.BPF_F_NO_PREALLOC)) as map:
        map.update(pack("=I4s", 24, bytes((10, 0, 0, 0))), b"rule")
        assert map.lookup(pack("=I4s", 32, bytes((10, 0, 0, 77)))) == b"rule" and len(map.items()) == 1


def test_refusals_are_sentences() -> None:
    with pytest.raises(KernelError, match="does not know this type, or a size or flag is out of its range") as caught:
        make(999)
    assert caught.value.errno == errno.EINVAL
    assert try_create_map(KERNEL, MapSpec("x", abi.BPF_MAP_TYPE_RINGBUF, 0, 0, 100)) == -errno.EINVAL


def test_a_frozen_map() -> None:
    with make(abi.BPF_MAP_TYPE_ARRAY, entries=1) as map:
        map.update(key(0), b"constant")
        map.freeze()
        with pytest.raises(KernelError) as caught:
            map.update(key(0), bytes(8))
        assert caught.value.errno == errno.EPERM and map.lookup(key(0)) == b"constant"


def test_a_mapped_array() -> None:
    with make(abi.BPF_MAP_TYPE_ARRAY, entries=4, flags=abi.BPF_F_MMAPABLE) as map:
        memory = map.mmap(writable=True)
        memory[16:24] = b"12345678"
        assert map.lookup(key(2)) == b"12345678"
        memory.close()


def test_objects_by_id_and_descriptor() -> None:
    with make(abi.BPF_MAP_TYPE_HASH) as map:
        number = map.info().id
        assert number in bpf_info.ids(KERNEL, "map")
        fd = bpf_info.fd_by_id(KERNEL, "map", number)
        assert fd is not None
        with Map.from_fd(KERNEL, fd) as same:
            assert (same.name, same.key_size, same.value_size, same.max_entries) == ("test", 4, 8, 1000)
            same.update(key(1), bytes(8))
        assert map.lookup(key(1)) == bytes(8)
    assert bpf_info.fd_by_id(KERNEL, "map", 0xFFFFFFF0) is None


def syscall_program() -> Program:
    """Returns the u32 that the context begins with, plus one, and stores it behind."""
    insns = [ldx(4, R0, R1, 0), alu64("add", R0, imm=1), (0x63, R1, R0, 4, 0), exit_()]
    return load_program(KERNEL, abi.BPF_PROG_TYPE_SYSCALL, encode(insns), name="syscall", flags=abi.BPF_F_SLEEPABLE)


def test_programs_that_the_caller_runs() -> None:
    with syscall_program() as program:
        assert program.run(pack("=II", 41, 0)) == 42
        assert program.test_run(pack("=II", 7, 0)).ctx == pack("=II", 7, 8)
        info = program.info()
        assert (info.type, info.name, info.gpl_compatible) == (abi.BPF_PROG_TYPE_SYSCALL, "syscall", True)
        assert info.id in bpf_info.ids(KERNEL, "program")
    packet = load_program(KERNEL, abi.BPF_PROG_TYPE_SOCKET_FILTER, encode([mov64(R0, imm=3), exit_()]), name="filter")
    with packet:
        result = packet.test_run(data=bytes(range(64)), repeat=10)
        assert result.retval == 3 and result.data[14:] == bytes(range(14, 64))
    raw = load_program(KERNEL, abi.BPF_PROG_TYPE_RAW_TRACEPOINT, encode([ldx(8, R0, R1, 8), exit_()]), name="raw")
    with raw:
        assert raw.run(pack("=QQ", 1, 99)) == 99 and raw.test_run(pack("=QQ", 1, 98), cpu=0).retval == 98


def test_run_statistics() -> None:
    with syscall_program() as program, bpf_info.enable_stats(KERNEL):
        before = program.info()
        for _ in range(10):
            program.run(bytes(8))
        after = program.info()
    assert after.run_cnt - before.run_cnt == 10 and after.run_time_ns > before.run_time_ns


def test_a_program_that_uses_a_map() -> None:
    """A raw tracepoint that counts system calls, attached for real."""
    with make(abi.BPF_MAP_TYPE_ARRAY, entries=1) as map:
        insns = encode(
            [
                st(4, R10, 0, -4),
                mov64(R2, R10),
                alu64("add", R2, imm=-4),
                ld_imm64(R1, map.fd, abi.BPF_PSEUDO_MAP_FD),
                call("map_lookup_elem"),
                jmp("eq", R0, imm=0, off=2),
                mov64(R1, imm=1),
                (0xDB, R0, R1, 0, 0),
                mov64(R0, imm=0),
                exit_(),
            ]
        )
        with load_program(KERNEL, abi.BPF_PROG_TYPE_RAW_TRACEPOINT, insns, name="count") as program:
            assert program.info().id and bpf_info.program_info(KERNEL, program.fd, map_ids=True).map_ids == (map.info().id,)
            with raw_tracepoint_open(KERNEL, program, "sys_enter") as link:
                for _ in range(100):
                    os.getppid()
                info = link.info()
                assert (info.type, info.prog_id) == (abi.BPF_LINK_TYPE_RAW_TRACEPOINT, program.id) and info.fields["tp_name_len"] > 0
                assert link.missed() is None and info.id in bpf_info.ids(KERNEL, "link")
            counted = map.lookup(key(0))
            assert counted is not None and unpack("=Q", counted)[0] >= 100
            for _ in range(100):
                os.getppid()
            assert map.lookup(key(0)) == counted, "closing the link detaches"
            with pytest.raises(KernelError, match="raw tracepoint no_such_tracepoint"):
                raw_tracepoint_open(KERNEL, program, "no_such_tracepoint")


def test_pinning() -> None:
    if not os.path.ismount("/sys/fs/bpf"):
        pytest.skip("no bpf file system is mounted at /sys/fs/bpf")
    path = f"/sys/fs/bpf/harken_test_{os.getpid()}"
    from harken.kernel.bpf import open_pinned

    with make(abi.BPF_MAP_TYPE_HASH) as map:
        map.update(key(1), b"pinned!!")
        map.pin(path)
    try:
        with Map.from_fd(KERNEL, open_pinned(KERNEL, path)) as again:
            assert again.lookup(key(1)) == b"pinned!!"
    finally:
        os.unlink(path)


def test_a_refused_load_closes_nothing_and_opens_nothing() -> None:
    before = set(os.listdir("/proc/self/fd"))
    assert try_load_program(KERNEL, 9999, encode([mov64(R0, imm=0), exit_()])) == -errno.EINVAL
    with pytest.raises(KernelError):
        load_program(KERNEL, abi.BPF_PROG_TYPE_TRACEPOINT, encode([ldx(8, R0, R0, 0), exit_()]), name="bad")
    assert set(os.listdir("/proc/self/fd")) == before


def test_our_numbers_are_this_kernels() -> None:
    """Enumerators in the running kernel's BTF have the values that ``abi`` says."""
    from harken.kernel.btf import vmlinux_types

    if not os.path.exists("/sys/kernel/btf/vmlinux"):
        pytest.skip("the kernel has no BTF")
    types = vmlinux_types(KERNEL)
    checked = 0
    for name in ("bpf_cmd", "bpf_map_type", "bpf_prog_type", "bpf_attach_type", "bpf_link_type"):
        found = types.enum(name)
        assert found is not None
        for enumerator, value in found.values.items():
            if not enumerator.startswith("__"):
                assert getattr(abi, enumerator, value) == value, enumerator
                checked += 1
    assert checked > 100
    attribute = types.union("bpf_attr")
    assert attribute is not None
    sizes = {member.name: member.bit_offset for member in attribute.members}
    assert sizes["link_create"] == 0


def test_links_are_objects() -> None:
    assert KERNEL.call(Call("bpf", (abi.BPF_LINK_GET_NEXT_ID, bytearray(16), 16))) in (0, -errno.ENOENT)
    assert BpfLink(KERNEL, -1).missed() is None
