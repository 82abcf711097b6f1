"""Every mechanism attaches a real program, which counts what this very process does; closing the link ends it."""

from __future__ import annotations

import ctypes
import os
import struct
import time
from typing import TYPE_CHECKING, Any

import pytest

from harken.abi import bpf as abi
from harken.abi.arch import for_machine
from harken.formats.elf import Elf
from harken.formats.insn import PSEUDO_MAP_VALUE, R0, R1, R2, R3, alu64, atomic, call, encode, exit_, jmp, ld_imm64, mov64
from harken.formats.spec import MapSpec
from harken.kernel.bpf import Program, create_map, load_with_log
from harken.kernel.kernel import live
from harken.probes.attachers import ATTACHERS
from harken.probes.model import AttachOptions, Probe

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.kernel

ARCH = for_machine(os.uname().machine)
CALL = f"{ARCH.syscall_prefix}getpgid"


class Counter:
    """A program that adds 1 to its map: slot 0 for this process, slot 1 for all."""

    def __init__(self, mechanism: str, btf_id: int = 0) -> None:
        self.kernel = live()
        self.attacher = ATTACHERS[mechanism]
        self.map = create_map(self.kernel, MapSpec("count", abi.BPF_MAP_TYPE_ARRAY, 4, 16, 1))
        own = os.getpid()
        insns = encode(
            (
                call("get_current_pid_tgid"),
                alu64("rsh", R0, imm=32),
                ld_imm64(R1, self.map.fd, PSEUDO_MAP_VALUE),
                mov64(R2, imm=1),
                atomic("add", 8, R1, R2, 8),
                mov64(R3, imm=own),
                jmp("ne", R0, R3, off=1),
                atomic("add", 8, R1, R2, 0),
                mov64(R0, imm=0),
                exit_(),
            )
        )
        kind = self.attacher.program_type
        fd, log = load_with_log(
            self.kernel, kind, insns, name="count", expected_attach_type=self.attacher.attach_type, attach_btf_id=btf_id
        )
        if fd < 0:
            self.map.close()
            pytest.fail(f"{mechanism}: {os.strerror(-fd)}: {log}")
        self.program = Program(self.kernel, fd, "count", kind)

    def attach(self, *probes: Probe, pid: int = -1) -> list[Any]:
        places = self.attacher.places(probes, None)
        return [self.attacher.attach(self.kernel, self.program, place, AttachOptions(pid)) for place in places]

    def counts(self) -> tuple[int, int]:
        value = self.map.lookup(bytes(4))
        assert value is not None
        own, everything = struct.unpack("=QQ", value)
        return own, everything

    def close(self) -> None:
        self.program.close()
        self.map.close()


@pytest.fixture
def counter() -> Iterator[Any]:
    made: list[Counter] = []

    def make(mechanism: str, btf_id: int = 0) -> Counter:
        made.append(Counter(mechanism, btf_id))
        return made[-1]

    yield make
    for item in made:
        item.close()


def count_calls(counting: Counter, *probes: Probe, number: int = 7, pid: int = -1) -> None:
    """``number`` calls of getpgid are ``number`` hits, and none after the end."""
    links = counting.attach(*probes, pid=pid)
    try:
        for _ in range(number):
            os.getpgid(0)
        assert counting.counts()[0] == number
        missed = [link.missed() for link in links]
        assert all(count in (None, 0) for count in missed)
        assert not any(link.skipped for link in links)
    finally:
        for link in links:
            link.close()
    os.getpgid(0)
    assert counting.counts()[0] == number


@pytest.mark.needs("tracepoint_perf", "syscall_tracepoints")
def test_tracepoint(counter: Any) -> None:
    count_calls(counter("tracepoint"), Probe("tracepoint", ("syscalls", "sys_enter_getpgid"), "tracepoint:syscalls:sys_enter_getpgid"))


@pytest.mark.needs("tracepoint_perf", "syscall_tracepoints")
def test_a_syscalls_tracepoint_stands_in_for_its_function(counter: Any) -> None:
    count_calls(counter("tracepoint"), Probe("kprobe", ("", CALL, 0), f"kprobe:{CALL}"))
    count_calls(counter("tracepoint"), Probe("kretprobe", ("", CALL, 0), f"kretprobe:{CALL}"))


@pytest.mark.needs("raw_tracepoint")
def test_raw_tracepoint(counter: Any) -> None:
    counting = counter("raw_tracepoint")
    links = counting.attach(Probe("rawtracepoint", ("sys_enter",), "rt:sys_enter"), Probe("rawtracepoint", ("sys_exit",), "rt:sys_exit"))
    for _ in range(50):
        os.getpgid(0)
    for link in links:
        link.close()
    assert counting.counts()[0] >= 100


def _btf_id(name: str, kind: str) -> int:
    from harken.probes.catalogue import Catalogue

    number = Catalogue(live()).btf.id_of(name, kind)
    assert number
    return int(number)


@pytest.mark.needs("tp_btf")
def test_tp_btf(counter: Any) -> None:
    counting = counter("tp_btf", _btf_id("btf_trace_sys_enter", "typedef"))
    (link,) = counting.attach(Probe("rawtracepoint", ("sys_enter",), "rt:sys_enter"))
    for _ in range(50):
        os.getpgid(0)
    link.close()
    assert counting.counts()[0] >= 50


@pytest.mark.parametrize("mechanism", [pytest.param(name, marks=pytest.mark.needs(name)) for name in ("fentry", "fexit")])
def test_trampolines(counter: Any, mechanism: str) -> None:
    count_calls(counter(mechanism, _btf_id(CALL, "func")), Probe(mechanism, ("", CALL, 0), f"{mechanism}:{CALL}"))


KPROBES = [pytest.param(name, marks=pytest.mark.needs(name)) for name in ("kprobe_multi", "kprobe_perf", "kprobe_tracefs")]


@pytest.mark.parametrize("kind", ["kprobe", "kretprobe"])
@pytest.mark.parametrize("mechanism", KPROBES)
def test_kprobes(counter: Any, mechanism: str, kind: str) -> None:
    count_calls(counter(mechanism), Probe(kind, ("", CALL, 0), f"{kind}:{CALL}"))


@pytest.mark.needs("kprobe_multi")
def test_kprobe_multi_names_what_it_skips(counter: Any) -> None:
    counting = counter("kprobe_multi")
    names = (CALL, "no_such_function_of_any_kernel")
    (link,) = counting.attach(*(Probe("kprobe", ("", name, 0), f"kprobe:{name}") for name in names))
    os.getpgid(0)
    link.close()
    assert link.skipped == ("no_such_function_of_any_kernel",)
    assert counting.counts()[0] == 1


def _libc() -> tuple[str, Any, int]:
    """Path, handle and file offset of getpgid in the C library of this process."""
    library = ctypes.CDLL(None)
    address = ctypes.cast(library.getpgid, ctypes.c_void_p).value or 0
    with open("/proc/self/maps") as maps:
        for line in maps:
            words = line.split()
            start, end = (int(word, 16) for word in words[0].split("-"))
            if start <= address < end:
                return words[5], library, address - start + int(words[2], 16)
    raise AssertionError("getpgid is not mapped")


UPROBES = [pytest.param(name, marks=pytest.mark.needs(name)) for name in ("uprobe_multi", "uprobe_perf", "uprobe_tracefs")]


@pytest.mark.parametrize("kind", ["uprobe", "uretprobe"])
@pytest.mark.parametrize("mechanism", UPROBES)
def test_uprobes(counter: Any, mechanism: str, kind: str) -> None:
    path, _, offset = _libc()
    count_calls(counter(mechanism), Probe(kind, (path, "getpgid", 0, offset), f"{kind}:{path}:getpgid"))


@pytest.mark.parametrize("mechanism", UPROBES[:2])
def test_uprobes_filter_by_process(counter: Any, mechanism: str) -> None:
    path, _, offset = _libc()
    probe = Probe("uprobe", (path, "getpgid", 0, offset), "uprobe:libc:getpgid")
    count_calls(counter(mechanism), probe, pid=os.getpid())
    other = counter(mechanism)
    (link,) = other.attach(probe, pid=1)
    os.getpgid(0)
    link.close()
    assert other.counts() == (0, 0)


@pytest.mark.needs("uprobe_multi")
def test_many_uprobes_are_one_link(counter: Any) -> None:
    path, _, offset = _libc()
    with open(path, "rb") as file:
        elf = Elf(file.read(), path)
    text = next(s for s in elf.segments if s.type == 1 and s.flags & 1)
    places = {offset} | {
        address - text.address + text.offset
        for name, address, size in elf.functions()
        if size and text.address <= address < text.address + text.file_size and name.startswith(("str", "wcs"))
    }
    counting = counter("uprobe_multi")
    # a process that never runs these: attaching must not slow the whole machine
    links = counting.attach(*(Probe("uprobe", (path, "", 0, place), f"uprobe:{place}") for place in sorted(places)), pid=os.getpid())
    assert len(links) == 1
    os.getpgid(0)
    links[0].close()
    assert counting.counts()[0] >= 1


def _wait(counting: Counter, number: int, slot: int = 1) -> None:
    end = time.monotonic() + 20
    while counting.counts()[slot] < number:
        assert time.monotonic() < end, f"{counting.counts()} after 20 s"
        time.sleep(0.01)


@pytest.mark.needs("perf_software")
@pytest.mark.parametrize("kind,name", [("profile", ("hz", 99)), ("profile", ("ms", 5)), ("interval", ("ms", 10)), ("interval", ("hz", 50))])
def test_timers(counter: Any, kind: str, name: tuple[str, int]) -> None:
    counting = counter("perf_timer")
    (link,) = counting.attach(Probe(kind, name, kind))
    _wait(counting, 3)
    link.close()
    after = counting.counts()
    time.sleep(0.05)
    assert counting.counts() == after


@pytest.mark.needs("perf_software")
def test_software(counter: Any) -> None:
    import mmap

    counting = counter("perf_software")
    (link,) = counting.attach(Probe("software", ("page-faults", 1), "software:page-faults:1"))
    pages = 20
    with mmap.mmap(-1, pages * mmap.PAGESIZE) as memory:
        if hasattr(mmap, "MADV_NOHUGEPAGE"):
            memory.madvise(mmap.MADV_NOHUGEPAGE)
        for page in range(pages):
            memory[page * mmap.PAGESIZE] = 1
    link.close()
    assert counting.counts()[0] >= pages


@pytest.mark.needs("perf_hardware")
def test_hardware(counter: Any) -> None:
    counting = counter("perf_hardware")
    # emulated arm64 processors count cycles only
    event = "instructions" if live().machine == "x86_64" else "cycles"
    (link,) = counting.attach(Probe("hardware", (event, 100_000), f"hardware:{event}:100000"))
    _wait(counting, 3)
    link.close()


def test_nothing_stays_in_tracefs() -> None:
    from harken.kernel.tracefs import find
    from harken.kernel.tracefs_dynamic import defined
    from harken.kernel.tracefs_owner import owner_name

    kernel = live()
    assert [event for event in defined(find(kernel)) if event.group == owner_name(kernel)] == []
