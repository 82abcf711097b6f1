"""Maps, programs and links against a scripted kernel: what is asked, and what becomes of each answer."""

from __future__ import annotations

import errno
from collections.abc import Callable
from struct import pack, pack_into

import pytest

from harken.abi import bpf as abi
from harken.base.errors import KernelError
from harken.formats.spec import MapSpec
from harken.kernel import bpf_info, link
from harken.kernel.bpf import Map, Program, create_map, load_btf, object_name, open_pinned, pin
from harken.kernel.bpf_errors import refusal
from harken.kernel.kernel import Call, Memory
from harken.testing.fake_kernel import FakeKernel, bpf_field


@pytest.fixture
def kernel() -> FakeKernel:
    return FakeKernel(files={"/sys/devices/system/cpu/possible": "0-2\n"})


def a_map(kernel: FakeKernel, type: int = abi.BPF_MAP_TYPE_HASH, key: int = 4, value: int = 8, entries: int = 100) -> Map:
    return Map(kernel, 5, "m", type, key, value, entries)


class Store:
    """A map's kernel side, in the order of insertion: the walk by keys restarts when its key is gone, as a hash map's does."""

    def __init__(self, kernel: FakeKernel, contents: dict[bytes, bytes], batch: bool = False) -> None:
        self.contents = contents
        self.before_next: Callable[[int], None] = lambda step: None
        self.steps = 0
        kernel.on_bpf("BPF_MAP_LOOKUP_ELEM", self.lookup)
        kernel.on_bpf("BPF_MAP_GET_NEXT_KEY", self.next_key)
        kernel.on_bpf("BPF_MAP_DELETE_ELEM", self.delete)
        kernel.on_bpf("BPF_MAP_UPDATE_ELEM", self.update)
        for command in ("BPF_MAP_LOOKUP_BATCH", "BPF_MAP_LOOKUP_AND_DELETE_BATCH"):
            kernel.on_bpf(command, self.batch if batch else -errno.EINVAL)
        kernel.on_bpf("BPF_MAP_UPDATE_BATCH", -errno.EINVAL)

    @staticmethod
    def key(call: Call) -> bytes:
        return bytes(call.args[1].at(abi.MAP_ELEM["key"][0]))

    def lookup(self, call: Call) -> int:
        value = self.contents.get(self.key(call))
        if value is None:
            return -errno.ENOENT
        call.args[1].at(abi.MAP_ELEM["value"][0])[:] = value
        return 0

    def update(self, call: Call) -> int:
        self.contents[self.key(call)] = bytes(call.args[1].at(abi.MAP_ELEM["value"][0]))
        return 0

    def delete(self, call: Call) -> int:
        return -errno.ENOENT if self.contents.pop(self.key(call), None) is None else 0

    def next_key(self, call: Call) -> int:
        self.steps += 1
        self.before_next(self.steps)
        keys = list(self.contents)
        after = call.args[1].at(abi.MAP_ELEM["key"][0])
        position = keys.index(bytes(after)) + 1 if after is not None and bytes(after) in self.contents else 0
        if position >= len(keys):
            return -errno.ENOENT
        call.args[1].at(abi.MAP_ELEM["next_key"][0])[:] = keys[position]
        return 0

    def batch(self, call: Call) -> int:
        attribute: Memory = call.args[1]
        start = attribute.at(abi.MAP_BATCH["in_batch"][0])
        position = int.from_bytes(bytes(start), "little") if start is not None else 0
        room = bpf_field(abi.MAP_BATCH, "count", attribute)
        items = list(self.contents.items())[position : position + room]
        for name, column in (("keys", 0), ("values", 1)):
            joined = b"".join(item[column] for item in items)
            attribute.at(abi.MAP_BATCH[name][0])[: len(joined)] = joined
        attribute.at(abi.MAP_BATCH["out_batch"][0])[:4] = (position + len(items)).to_bytes(4, "little")
        pack_into("=I", attribute.data, abi.MAP_BATCH["count"][0], len(items))
        return -errno.ENOENT if position + len(items) >= len(self.contents) else 0


def contents(count: int) -> dict[bytes, bytes]:
    return {index.to_bytes(4, "little"): (index * index).to_bytes(8, "little") for index in range(count)}


# -- creating


def test_create_map_asks_for_what_the_spec_says(kernel: FakeKernel) -> None:
    kernel.on_bpf("BPF_MAP_CREATE", lambda call: kernel.new_fd())
    with create_map(kernel, MapSpec("@reads[comm]", abi.BPF_MAP_TYPE_HASH, 16, 8, 10, abi.BPF_F_NO_PREALLOC)) as map:
        assert map.name == "@reads[comm]" and map.fd in kernel.open_fds
    assert kernel.open_fds == set()
    [attribute] = kernel.bpf_calls("BPF_MAP_CREATE")
    asked = {
        name: bpf_field(abi.MAP_CREATE, name, attribute) for name in ("map_type", "key_size", "value_size", "max_entries", "map_flags")
    }
    assert asked == {"map_type": 1, "key_size": 16, "value_size": 8, "max_entries": 10, "map_flags": 1}
    assert bpf_field(abi.MAP_CREATE, "map_name", attribute).rstrip(b"\0") == b"_reads_comm_"


def test_names_are_made_fit_for_the_kernel() -> None:
    assert object_name("ä@b.c_d:e") == b"__b.c_d_e"
    assert object_name("x" * 40) == b"x" * 15


def test_a_perf_event_array_has_one_entry_per_possible_cpu(kernel: FakeKernel) -> None:
    kernel.on_bpf("BPF_MAP_CREATE", 9)
    assert create_map(kernel, MapSpec("ring", abi.BPF_MAP_TYPE_PERF_EVENT_ARRAY, 4, 4, 0)).max_entries == 3


def test_a_map_in_map_gets_a_template_that_is_closed_again(kernel: FakeKernel) -> None:
    kernel.on_bpf("BPF_MAP_CREATE", lambda call: kernel.new_fd())
    inner = MapSpec("inner", abi.BPF_MAP_TYPE_ARRAY, 4, 8, 1)
    map = create_map(kernel, MapSpec("outer", abi.BPF_MAP_TYPE_HASH_OF_MAPS, 4, 4, 5, inner=inner))
    template, outer = kernel.bpf_calls("BPF_MAP_CREATE")
    assert bpf_field(abi.MAP_CREATE, "inner_map_fd", outer) == 1001 and bpf_field(abi.MAP_CREATE, "map_type", template) == 2
    assert kernel.open_fds == {map.fd}


def test_memlock_is_raised_only_when_the_kernel_refuses_and_the_limit_is_finite(kernel: FakeKernel) -> None:
    def limits(call: Call) -> int:
        if call.args[3] is not None:
            call.args[3][:] = pack("=QQ", 65536, 65536)
        return 0

    kernel.on_bpf("BPF_MAP_CREATE", -errno.EPERM, 7)
    kernel.on("prlimit64", limits)
    assert create_map(kernel, MapSpec("m", 1, 4, 8, 10)).fd == 7
    assert [call.name for call in kernel.calls] == ["bpf", "prlimit64", "prlimit64", "bpf"]
    assert kernel.calls[2].args[2] == b"\xff" * 16


def test_memlock_is_put_back_when_it_was_not_the_reason(kernel: FakeKernel) -> None:
    def limits(call: Call) -> int:
        if call.args[3] is not None:
            call.args[3][:] = pack("=QQ", 65536, 65536)
        return 0

    kernel.on_bpf("BPF_MAP_CREATE", -errno.EPERM)
    kernel.on("prlimit64", limits)
    with pytest.raises(KernelError) as caught:
        create_map(kernel, MapSpec("m", 1, 4, 8, 10))
    assert caught.value.errno == errno.EPERM and "CAP_BPF" in caught.value.hint and "ulimit -l" in caught.value.hint
    assert kernel.calls[-1].args[2] == pack("=QQ", 65536, 65536)


def test_memlock_is_left_alone_when_unlimited(kernel: FakeKernel) -> None:
    def unlimited(call: Call) -> int:
        call.args[3][:] = b"\xff" * 16
        return 0

    kernel.on_bpf("BPF_MAP_CREATE", -errno.EPERM)
    kernel.on("prlimit64", unlimited)
    with pytest.raises(KernelError):
        create_map(kernel, MapSpec("m", 1, 4, 8, 10))
    assert [call.name for call in kernel.calls] == ["bpf", "prlimit64"]


# -- elements


def test_one_element(kernel: FakeKernel) -> None:
    Store(kernel, {})
    map = a_map(kernel)
    assert map.lookup(b"aaaa") is None
    map.update(b"aaaa", b"12345678")
    assert map.lookup(b"aaaa") == b"12345678" and map.delete(b"aaaa") and not map.delete(b"aaaa")


def test_sizes_are_checked_before_the_kernel_reads_memory(kernel: FakeKernel) -> None:
    map = a_map(kernel)
    for action in (lambda: map.lookup(b"x"), lambda: map.update(b"aaaa", b"short"), lambda: map.delete(b""), lambda: map.next_key(b"xx")):
        with pytest.raises(KernelError, match="bytes, got"):
            action()
    assert kernel.calls == []


def test_a_per_cpu_value_is_given_once_or_for_every_cpu(kernel: FakeKernel) -> None:
    store = Store(kernel, {})
    map = a_map(kernel, abi.BPF_MAP_TYPE_PERCPU_HASH, value=12)
    assert (map.per_cpu, map.stride, map.cpus, map.lookup_size) == (True, 16, 3, 48)
    map.update(b"aaaa", b"x" * 12)
    assert store.contents[b"aaaa"] == (b"x" * 12 + bytes(4)) * 3
    map.update(b"aaaa", b"y" * 48)
    assert map.lookup(b"aaaa") == b"y" * 48


def test_a_full_map_says_so(kernel: FakeKernel) -> None:
    kernel.on_bpf("BPF_MAP_UPDATE_ELEM", -errno.E2BIG)
    with pytest.raises(KernelError, match=r"map 'm' is full \(100 entries\)"):
        a_map(kernel).update(b"aaaa", bytes(8))


# -- all elements


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("count", [0, 1, 100])
def test_items_with_and_without_batches(kernel: FakeKernel, batch: bool, count: int) -> None:
    store = Store(kernel, contents(count), batch)
    assert dict(a_map(kernel).items()) == store.contents
    if not batch:
        # a second read does not try the batch again
        map = a_map(kernel)
        map.items(), map.items()
        assert len(kernel.bpf_calls("BPF_MAP_LOOKUP_BATCH")) == 2


def test_items_in_several_batches(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harken.kernel.bpf_map_bulk._BATCH_BYTES", 12 * 7)
    store = Store(kernel, contents(50), batch=True)
    keys, values, count = a_map(kernel).snapshot()
    assert count == 50 and keys == b"".join(store.contents) and values == b"".join(store.contents.values())
    assert len(kernel.bpf_calls("BPF_MAP_LOOKUP_BATCH")) == 8


def test_a_bucket_larger_than_the_batch_gets_more_room(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harken.kernel.bpf_map_bulk._BATCH_BYTES", 12)
    store = Store(kernel, contents(3), batch=True)
    kernel.on_bpf("BPF_MAP_LOOKUP_BATCH", -errno.ENOSPC, -errno.ENOSPC, store.batch)
    assert len(a_map(kernel).items()) == 3
    rooms = [call.at(abi.MAP_BATCH["keys"][0]) for call in kernel.bpf_calls("BPF_MAP_LOOKUP_BATCH")]
    assert [len(room or b"") for room in rooms] == [4, 8, 16]


def test_a_lying_count_is_not_believed(kernel: FakeKernel) -> None:
    def liar(call: Call) -> int:
        pack_into("=I", call.args[1].data, abi.MAP_BATCH["count"][0], 1 << 30)
        return 0

    kernel.on_bpf("BPF_MAP_LOOKUP_BATCH", liar)
    with pytest.raises(KernelError):
        a_map(kernel).items()


def test_walk_survives_deletion_of_the_current_key(kernel: FakeKernel) -> None:
    store = Store(kernel, contents(20))

    def vanish(step: int) -> None:
        if step == 8:
            # the key that the walk stands on is gone: the kernel starts from the beginning
            del store.contents[(6).to_bytes(4, "little")]

    store.before_next = vanish
    keys = a_map(kernel).keys()
    assert len(keys) == len(set(keys)) == 20


def test_walk_ends_although_the_map_changes_for_ever(kernel: FakeKernel) -> None:
    store = Store(kernel, contents(3))

    def churn(step: int) -> None:
        store.contents.clear()
        store.contents[step.to_bytes(4, "little")] = bytes(8)

    store.before_next = churn
    assert len(a_map(kernel, entries=10).keys()) <= 4 * 10 + 65


@pytest.mark.parametrize("batch", [True, False])
def test_drain_and_clear(kernel: FakeKernel, batch: bool) -> None:
    store = Store(kernel, contents(5), batch)
    command = "BPF_MAP_LOOKUP_AND_DELETE_BATCH" if batch else "BPF_MAP_DELETE_ELEM"
    assert len(a_map(kernel).drain()) == 5
    assert kernel.bpf_calls(command)
    if not batch:
        assert not store.contents
    a_map(kernel).clear()


def test_clearing_an_array_writes_zeros(kernel: FakeKernel) -> None:
    store = Store(kernel, contents(4))
    a_map(kernel, abi.BPF_MAP_TYPE_ARRAY, entries=4).clear()
    assert set(store.contents.values()) == {bytes(8)} and len(store.contents) == 4


def test_update_batch_falls_back(kernel: FakeKernel) -> None:
    store = Store(kernel, {})
    a_map(kernel).update_batch(list(contents(5).items()))
    assert store.contents == contents(5)


# -- programs, info, links


def test_run_reads_the_return_value(kernel: FakeKernel) -> None:
    def run(call: Call) -> int:
        call.args[1].at(abi.PROG_TEST_RUN["ctx_in"][0])[0:1] = b"!"
        pack_into("=I", call.args[1].data, abi.PROG_TEST_RUN["retval"][0], 42)
        return 0

    kernel.on_bpf("BPF_PROG_TEST_RUN", run)
    program = Program(kernel, 6, "begin", abi.BPF_PROG_TYPE_SYSCALL)
    assert program.run(b"context") == 42 and program.test_run(b"context").ctx == b"!ontext"
    kernel.on_bpf("BPF_PROG_TEST_RUN", -524)
    with pytest.raises(KernelError, match=r"cannot run program 'begin'.*ENOTSUPP"):
        program.run()


def test_program_info(kernel: FakeKernel) -> None:
    def info(call: Call) -> int:
        inner = call.args[1].at(abi.OBJ_GET_INFO["info"][0])
        for name, value in (("type", 5), ("id", 77), ("run_cnt", 3), ("run_time_ns", 900), ("recursion_misses", 2), ("nr_map_ids", 2)):
            offset, form = abi.PROG_INFO[name]
            pack_into(form, inner.data, offset, value)
        inner.data[64:68] = b"name"
        ids = inner.at(abi.PROG_INFO["map_ids"][0])
        if ids is not None:
            ids[:8] = pack("=II", 11, 12)
        return 0

    kernel.on_bpf("BPF_OBJ_GET_INFO_BY_FD", info)
    found = bpf_info.program_info(kernel, 3, map_ids=True)
    assert (found.name, found.type, found.id, found.map_ids) == ("name", 5, 77, (11, 12))
    program = Program(kernel, 3, "", 5)
    assert (program.id, program.info().run_cnt, program.info().run_time_ns, program.info().recursion_misses) == (77, 3, 900, 2)


def test_from_fd_closes_what_it_cannot_describe(kernel: FakeKernel) -> None:
    for kind in (Map, Program):
        fd = kernel.new_fd()
        kernel.on_bpf("BPF_OBJ_GET_INFO_BY_FD", -errno.EINVAL)
        with pytest.raises(KernelError):
            kind.from_fd(kernel, fd)
    assert kernel.open_fds == set()


def test_ids(kernel: FakeKernel) -> None:
    known = [3, 8, 20]

    def after(call: Call) -> int:
        start = bpf_field(abi.GET_ID, "start_id", call.args[1])
        later = [number for number in known if number > start]
        if not later:
            return -errno.ENOENT
        pack_into("=I", call.args[1].data, abi.GET_ID["next_id"][0], later[0])
        return 0

    kernel.on_bpf("BPF_PROG_GET_NEXT_ID", after)
    kernel.on_bpf("BPF_PROG_GET_FD_BY_ID", 50, -errno.ENOENT)
    assert bpf_info.ids(kernel, "program") == known
    assert bpf_info.fd_by_id(kernel, "program", 3) == 50 and bpf_info.fd_by_id(kernel, "program", 8) is None


def test_links_carry_their_cookies(kernel: FakeKernel) -> None:
    program = Program(kernel, 6, "p", abi.BPF_PROG_TYPE_KPROBE)
    kernel.on_bpf("BPF_LINK_CREATE", lambda call: kernel.new_fd())
    with link.perf_event_link(kernel, program, 33, cookie=1 << 40):
        [attribute] = kernel.bpf_calls("BPF_LINK_CREATE")
        names = ("prog_fd", "target_fd", "attach_type", "perf_event_bpf_cookie")
        assert [bpf_field(abi.LINK_CREATE, name, attribute) for name in names] == [6, 33, abi.BPF_PERF_EVENT, 1 << 40]
    with link.kprobe_multi_link(kernel, program, ("vfs_read", "vfs_write"), cookies=(1, 2), retprobe=True):
        attribute = kernel.bpf_calls("BPF_LINK_CREATE")[-1]
        symbols = bpf_field(abi.LINK_CREATE, "kprobe_multi_syms", attribute)
        assert [symbols.at(0), symbols.at(8)] == [b"vfs_read\0", b"vfs_write\0"]
        assert bpf_field(abi.LINK_CREATE, "kprobe_multi_cnt", attribute) == 2
        assert bpf_field(abi.LINK_CREATE, "kprobe_multi_flags", attribute) == abi.BPF_F_KPROBE_MULTI_RETURN
        assert bpf_field(abi.LINK_CREATE, "kprobe_multi_cookies", attribute) == pack("=QQ", 1, 2)
    with link.uprobe_multi_link(kernel, program, "/bin/sh", (0x1000,), pid=4):
        attribute = kernel.bpf_calls("BPF_LINK_CREATE")[-1]
        assert bpf_field(abi.LINK_CREATE, "uprobe_multi_path", attribute) == b"/bin/sh\0"
        assert bpf_field(abi.LINK_CREATE, "uprobe_multi_offsets", attribute) == pack("=Q", 0x1000)
        assert bpf_field(abi.LINK_CREATE, "uprobe_multi_pid", attribute) == 4
    assert kernel.open_fds == set()


def test_tracing_links_use_the_oldest_way_that_serves(kernel: FakeKernel) -> None:
    program = Program(kernel, 6, "p", abi.BPF_PROG_TYPE_TRACING)
    kernel.on_bpf("BPF_RAW_TRACEPOINT_OPEN", 21)
    kernel.on_bpf("BPF_LINK_CREATE", 22)
    assert link.tracing_link(kernel, program, abi.BPF_TRACE_FENTRY).fd == 21
    assert link.tracing_link(kernel, program, abi.BPF_TRACE_FENTRY, cookie=5).fd == 22
    assert link.raw_tracepoint_open(kernel, program, "sched_switch").fd == 21
    assert bpf_field(abi.RAW_TRACEPOINT, "name", kernel.bpf_calls("BPF_RAW_TRACEPOINT_OPEN")[-1]) == b"sched_switch\0"


def test_a_refused_link_names_program_and_place(kernel: FakeKernel) -> None:
    program = Program(kernel, 6, "p", abi.BPF_PROG_TYPE_RAW_TRACEPOINT)
    kernel.on_bpf("BPF_RAW_TRACEPOINT_OPEN", -errno.ENOENT)
    with pytest.raises(KernelError, match="cannot attach program 'p' to raw tracepoint nope: there is no such tracepoint"):
        link.raw_tracepoint_open(kernel, program, "nope")


def test_pin_and_open(kernel: FakeKernel) -> None:
    kernel.on_bpf("BPF_OBJ_PIN", 0)
    kernel.on_bpf("BPF_OBJ_GET", 31, -errno.ENOENT)
    pin(kernel, 5, "/sys/fs/bpf/x")
    assert bpf_field(abi.OBJ, "pathname", kernel.bpf_calls("BPF_OBJ_PIN")[0]) == b"/sys/fs/bpf/x\0"
    assert open_pinned(kernel, "/sys/fs/bpf/x") == 31
    with pytest.raises(KernelError, match="/sys/fs/bpf/y"):
        open_pinned(kernel, "/sys/fs/bpf/y")


def test_btf_that_is_refused_shows_the_kernels_last_word(kernel: FakeKernel) -> None:
    def refuse(call: Call) -> int:
        log = call.args[1].at(abi.BTF_LOAD["btf_log_buf"][0])
        if log is not None:
            text = b"magic: 0xeb9f\nInvalid name\n"
            log[: len(text)] = text
        return -errno.EINVAL

    kernel.on_bpf("BPF_BTF_LOAD", refuse)
    with pytest.raises(KernelError, match="Invalid name"):
        load_btf(kernel, b"junk")


@pytest.mark.parametrize(
    "command",
    ["map_create", "prog_load", "btf_load", "link_create", "raw_tracepoint_open", "map_elem", "info", "obj_pin", "prog_get_next_id"],
)
def test_every_errno_becomes_a_sentence(command: str) -> None:
    for number in (*errno.errorcode, 524, 4095):
        error = refusal(command, number, "a thing")
        assert error.errno == number and error.message.startswith("cannot ") and "a thing" in error.message
        assert command not in error.message
        assert error.call == f"bpf(BPF_{command.upper()})" and not error.message.endswith(".")


def test_closing_twice_and_giving_up(kernel: FakeKernel) -> None:
    map = Map(kernel, kernel.new_fd(), "m", 1, 4, 8, 1)
    map.close()
    map.close()
    other = Map(kernel, kernel.new_fd(), "m", 1, 4, 8, 1)
    fd = other.detach()
    other.close()
    assert kernel.open_fds == {fd}
