"""Attachers against a scripted kernel: what they ask for, what they undo, what they say when refused."""

from __future__ import annotations

import errno
import struct
from typing import Any

import pytest

from harken.abi import bpf as abi
from harken.abi import perf_event as perf
from harken.base.errors import KernelError
from harken.formats.spec import AttachSpec
from harken.kernel.bpf import Program
from harken.probes.attachers import ATTACHERS
from harken.probes.model import AttachOptions, Probe
from harken.testing.fake_kernel import FakeKernel, bpf_field

FILES = {
    "/sys/devices/system/cpu/online": "0-3\n",
    "/sys/kernel/tracing/events/sched/sched_switch/id": "316\n",
    "/sys/bus/event_source/devices/kprobe/type": "8\n",
    "/sys/bus/event_source/devices/kprobe/format/retprobe": "config:0\n",
    "/sys/bus/event_source/devices/uprobe/type": "9\n",
    "/sys/bus/event_source/devices/uprobe/format/retprobe": "config:0\n",
    "/sys/bus/event_source/devices/uprobe/format/ref_ctr_offset": "config:32-63\n",
}


@pytest.fixture
def kernel() -> FakeKernel:
    made = FakeKernel(files=FILES)
    made.on("perf_event_open", lambda call: made.new_fd())
    made.on("ioctl", 0)
    made.on_bpf("BPF_LINK_CREATE", lambda call: made.new_fd())
    made.on_bpf("BPF_RAW_TRACEPOINT_OPEN", lambda call: made.new_fd())
    return made


def attach(kernel: FakeKernel, name: str, target: tuple[Any, ...], pid: int = -1) -> Any:
    program = Program(kernel, 77, "p", ATTACHERS[name].program_type)
    return ATTACHERS[name].attach(kernel, program, AttachSpec("probe", name, target), AttachOptions(pid))


def opened(kernel: FakeKernel) -> list[tuple[int, int, int, int, int]]:
    """(type, config, period or frequency, pid, cpu) of every event that was asked for."""
    found = []
    for call in kernel.calls:
        if call.name == "perf_event_open":
            raw = bytes(getattr(call.args[0], "data", call.args[0]))
            numbers = [int.from_bytes(raw[at : at + size], "little") for at, size in ((0, 4), (8, 8), (16, 8))]
            found.append((numbers[0], numbers[1], numbers[2], call.args[1], call.args[2]))
    return found


def requests(kernel: FakeKernel) -> list[int]:
    return [call.args[1] for call in kernel.calls if call.name == "ioctl"]


def test_a_tracepoint_is_one_descriptor(kernel: FakeKernel) -> None:
    link = attach(kernel, "tracepoint", ("sched", "sched_switch"))
    assert opened(kernel) == [(perf.PERF_TYPE_TRACEPOINT, 316, 1, -1, 0)]
    assert requests(kernel) == [perf.PERF_EVENT_IOC_SET_BPF, perf.PERF_EVENT_IOC_ENABLE]
    assert len(kernel.open_fds) == 1 and link.missed() is None
    link.close()
    link.close()
    assert not kernel.open_fds


def test_profile_is_on_every_cpu_and_interval_on_one(kernel: FakeKernel) -> None:
    attach(kernel, "perf_timer", ("profile", 99, 0)).close()
    assert [(period, cpu) for _, _, period, _, cpu in opened(kernel)] == [(99, cpu) for cpu in range(4)]
    kernel.calls.clear()
    attach(kernel, "perf_timer", ("interval", 0, 10**9)).close()
    assert [(period, cpu) for _, _, period, _, cpu in opened(kernel)] == [(10**9, 0)]


def test_a_cpu_that_went_offline_is_left_out(kernel: FakeKernel) -> None:
    kernel.on("perf_event_open", lambda call: -errno.ENODEV if call.args[2] == 2 else kernel.new_fd())
    link = attach(kernel, "perf_software", (2, 100))
    assert len(kernel.open_fds) == 3
    link.close()
    assert not kernel.open_fds


@pytest.mark.parametrize(
    "name,target",
    [
        ("tracepoint", ("sched", "sched_switch")),
        ("perf_timer", ("profile", 99, 0)),
        ("perf_software", (2, 1)),
        ("uprobe_perf", (False, "/bin/sh", 16, 0)),
        ("kprobe_perf", (False, "vfs_read", 0)),
    ],
)
def test_a_refusal_leaves_nothing_open(kernel: FakeKernel, name: str, target: tuple[Any, ...]) -> None:
    kernel.on("ioctl", -errno.EINVAL)
    kernel.on_bpf("BPF_LINK_CREATE", -errno.EINVAL)
    with pytest.raises(KernelError):
        attach(kernel, name, target)
    assert not kernel.open_fds


def test_too_fast_a_clock_says_what_to_write(kernel: FakeKernel) -> None:
    kernel.on("perf_event_open", -errno.EINVAL)
    with pytest.raises(KernelError) as caught:
        attach(kernel, "perf_timer", ("profile", 200_000, 0))
    assert "perf_event_max_sample_rate" in caught.value.hint and "profile:us:10" in caught.value.hint


def test_uprobes_of_a_process_and_of_all(kernel: FakeKernel) -> None:
    attach(kernel, "uprobe_perf", (True, "/bin/sh", 16, 0x20), pid=5).close()
    attach(kernel, "uprobe_perf", (False, "/bin/sh", 16, 0)).close()
    attach(kernel, "uprobe_perf", (False, "/bin/cat", 32, 0)).close()
    assert opened(kernel) == [(9, 1 | 0x20 << 32, 1, 5, -1), (9, 0, 1, -1, 0), (9, 0, 1, -1, 0)]
    last = [call.args[0] for call in kernel.calls if call.name == "perf_event_open"][-1]
    assert last.at(perf.ATTR["config1"][0]) == b"/bin/cat\0"


def test_uprobe_multi_batches_by_file_and_direction(kernel: FakeKernel) -> None:
    attacher = ATTACHERS["uprobe_multi"]
    probes = [
        Probe("uprobe", ("/a", "f", 0, 1), "u:/a:f"),
        Probe("uretprobe", ("/a", "f", 0, 1), "ur:/a:f"),
        Probe("uprobe", ("/a", "g", 0, 2), "u:/a:g"),
        Probe("usdt", ("/b", "p", "m", 3, 9, ""), "U:/b:p:m"),
    ]
    places = attacher.places(tuple(probes), None)
    assert [place.target for place in places] == [
        (False, "/a", (1, 2), (), (0, 2)),
        (True, "/a", (1,), (), (1,)),
        (False, "/b", (3,), (9,), (3,)),
    ]
    attach(kernel, "uprobe_multi", places[0].target, pid=7).close()
    (attribute,) = kernel.bpf_calls("BPF_LINK_CREATE")
    assert bpf_field(abi.LINK_CREATE, "uprobe_multi_cnt", attribute) == 2
    assert bpf_field(abi.LINK_CREATE, "uprobe_multi_pid", attribute) == 7


def test_uprobe_multi_finds_the_place_that_is_refused(kernel: FakeKernel) -> None:
    """An instruction that cannot be probed (ENOTSUPP, 524) must not keep the program from the others."""

    def link(call: Any) -> int:
        offsets = bytes(call.args[1].at(abi.LINK_CREATE["uprobe_multi_offsets"][0]))
        bad = 77 in struct.unpack(f"={len(offsets) // 8}Q", offsets)
        return -524 if bad else kernel.new_fd()

    kernel.on_bpf("BPF_LINK_CREATE", link)
    made = attach(kernel, "uprobe_multi", (False, "/a", tuple(range(40, 120)), ()))
    assert made.skipped == ("/a:0x4d",)
    made.close()
    assert not kernel.open_fds
    with pytest.raises(KernelError, match="the instruction there cannot be probed"):
        attach(kernel, "uprobe_multi", (False, "/a", (77,), ()))
    assert not kernel.open_fds


def _with_events(kernel: FakeKernel, refuse: Any = None) -> None:
    """A tracefs in which writing a definition makes an event."""
    root = "/sys/kernel/tracing"
    kernel.files |= {f"{root}/trace": b"", f"{root}/uprobe_events": b""}
    original = kernel.write

    def write(path: str, data: bytes, append: bool = False) -> None:
        number = refuse(data) if refuse is not None else 0
        if number:
            raise OSError(number, "refused")
        original(path, data, append)
        if data[:1] in b"pr":
            kernel.files[f"{root}/events/{data.split()[0][2:].decode()}/id"] = b"900\n"

    kernel.write = write  # type: ignore[method-assign]


def test_uprobe_tracefs_takes_all_places_with_one_descriptor(kernel: FakeKernel) -> None:
    _with_events(kernel)
    places = tuple(("/usr/bin/program", 64 + n, 0) for n in range(300))
    link = attach(kernel, "uprobe_tracefs", (False, places), pid=7)
    assert opened(kernel) == [(perf.PERF_TYPE_TRACEPOINT, 900, 1, 7, -1)]
    lines = b"".join(data for _, data in kernel.writes).decode().splitlines()
    assert len(lines) == 300 and len({line.split()[0] for line in lines}) == 1 and lines[-1].endswith("/usr/bin/program:0x16b")
    assert max(len(data) for _, data in kernel.writes) < 4096
    link.close()
    assert kernel.writes[-1][1].decode().strip() == "-:" + lines[0].split()[0][2:]
    assert not kernel.open_fds


def test_uprobe_tracefs_where_an_event_has_one_place(kernel: FakeKernel) -> None:
    """Before Linux 5.4 a second place under the same name is refused with EEXIST."""
    seen: set[bytes] = set()

    def refuse(data: bytes) -> int:
        name = data.split()[0]
        if name in seen and data[:1] == b"p":
            return errno.EEXIST
        seen.add(name)
        return 0

    _with_events(kernel, refuse)
    link = attach(kernel, "uprobe_tracefs", (False, (("/a", 1, 0), ("/a", 2, 0), ("/b", 3, 16))))
    assert len(opened(kernel)) == 3
    link.close()
    written = [data.decode() for _, data in kernel.writes]
    assert [line.split()[1] for line in written[:3]] == ["/a:0x1", "/a:0x2", "/b:0x3(0x10)"]
    assert sorted(line[2:].strip() for line in written[3:]) == sorted(line.split()[0][2:] for line in written[:3])
    assert not kernel.open_fds


def test_a_refused_uprobe_event_leaves_nothing_behind(kernel: FakeKernel) -> None:
    _with_events(kernel, lambda data: errno.EINVAL if b"/b:" in data else 0)
    with pytest.raises(KernelError):
        attach(kernel, "uprobe_tracefs", (False, (("/a", 1, 0), ("/b", 2, 0))))
    assert [data[:2] for _, data in kernel.writes] == [b"p:", b"-:"] and not kernel.open_fds


def test_kprobe_multi_finds_the_one_that_is_refused(kernel: FakeKernel) -> None:
    def link(call: Any) -> int:
        names = call.args[1].at(abi.LINK_CREATE["kprobe_multi_syms"][0])
        bad = any(b"bad" in bytes(name) for _, name in names.pointers)
        return -errno.ESRCH if bad else kernel.new_fd()

    kernel.on_bpf("BPF_LINK_CREATE", link)
    names = tuple(f"good{n}" for n in range(30)) + ("bad", *(f"fine{n}" for n in range(30)))
    made = attach(kernel, "kprobe_multi", (False, names))
    assert made.skipped == ("bad",)
    assert len(kernel.bpf_calls("BPF_LINK_CREATE")) < 20
    made.close()
    assert not kernel.open_fds
    for alone in (("bad",), ("bad1", "bad2")):
        with pytest.raises(KernelError):
            attach(kernel, "kprobe_multi", (False, alone))


@pytest.mark.parametrize(
    "number,words",
    [(84, "middle of an instruction"), (22, "forbids probes there"), (2, "no such function"), (99, "several functions")],
)
def test_a_refused_kprobe_is_explained(kernel: FakeKernel, number: int, words: str) -> None:
    kernel.on("perf_event_open", -number)
    with pytest.raises(KernelError, match=words) as caught:
        attach(kernel, "kprobe_perf", (False, "vfs_read", 4))
    assert caught.value.hint and caught.value.errno == number


def test_a_dynamic_event_is_removed_after_use(kernel: FakeKernel) -> None:
    kernel.files["/sys/kernel/tracing/trace"] = b""
    kernel.files["/sys/kernel/tracing/kprobe_events"] = b""
    original = kernel.write

    def write(path: str, data: bytes, append: bool = False) -> None:
        original(path, data, append)
        if data[:1] in (b"p", b"r"):
            event = data.split()[0].partition(b":")[2].decode()
            kernel.files[f"/sys/kernel/tracing/events/{event}/id"] = b"900\n"

    kernel.write = write  # type: ignore[method-assign]
    link = attach(kernel, "kprobe_tracefs", (False, "ext4:ext4_sync_fs", 8))
    assert opened(kernel)[0][:2] == (perf.PERF_TYPE_TRACEPOINT, 900)
    link.close()
    lines = [data.decode().strip() for _, data in kernel.writes]
    assert lines[0].endswith(" ext4:ext4_sync_fs+8") and lines[1] == "-:" + lines[0].split()[0][2:]
    assert not kernel.open_fds
    kernel.writes.clear()
    program = Program(kernel, 77, "p", ATTACHERS["kprobe_tracefs"].program_type)
    place = AttachSpec("kretprobe:vfs_read", "kprobe_tracefs", (True, "vfs_read", 0))
    ATTACHERS["kprobe_tracefs"].attach(kernel, program, place, AttachOptions(maxactive=300)).close()
    assert kernel.writes[0][1].startswith(b"r300:") and b" vfs_read" in kernel.writes[0][1]
