"""The planner on a real kernel: what it chooses works, whatever this kernel offers, and what it refuses it explains."""

from __future__ import annotations

import gc
import os
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from harken.abi import bpf as abi
from harken.abi.arch import for_machine
from harken.formats.insn import PSEUDO_MAP_VALUE, R0, R1, R2, R3, alu64, atomic, call, encode, exit_, jmp, ld_imm64, mov64
from harken.formats.spec import MapSpec
from harken.kernel.bpf import Map, Program, create_map, load_with_log
from harken.kernel.kernel import live
from harken.probes import planner, providers
from harken.probes.attachers import ATTACHERS
from harken.probes.catalogue import Catalogue
from harken.probes.model import AttachOptions, Plan

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.kernel

FUNCTION = f"{for_machine(os.uname().machine).syscall_prefix}getpgid"


@pytest.fixture(scope="module")
def catalogue() -> Iterator[Any]:
    made = Catalogue(live())
    made.btf  # noqa: B018  (it stays mapped: before the first test, so that no test seems to leak it)
    yield made


@pytest.fixture
def counts() -> Iterator[Map]:
    made = create_map(live(), MapSpec("count", abi.BPF_MAP_TYPE_ARRAY, 4, 8, 1))
    yield made
    made.close()


def plans(catalogue: Any, text: str, *uses: str) -> tuple[Plan, ...]:
    return planner.plan(providers.resolve(providers.parse(text), catalogue), catalogue, frozenset(uses))


def run(catalogue: Any, counts: Map, chosen: Plan, pid: int, action: Any) -> int:
    """Attaches a program that counts what process ``pid`` does, acts, and tells the count."""
    attacher, kernel = ATTACHERS[chosen.attacher], live()
    insns = encode(
        (
            call("get_current_pid_tgid"),
            alu64("rsh", R0, imm=32),
            ld_imm64(R1, counts.fd, PSEUDO_MAP_VALUE),
            mov64(R2, imm=1),
            mov64(R3, imm=pid),
            jmp("eq", R3, imm=0, off=1),
            jmp("ne", R0, R3, off=1),
            atomic("add", 8, R1, R2, 0),
            mov64(R0, imm=0),
            exit_(),
        )
    )
    function = attacher.function(chosen.probes[0])
    number = 0
    if function:
        typed = chosen.attacher == "tp_btf"
        number = catalogue.btf.id_of(f"btf_trace_{function}" if typed else function, "typedef" if typed else "func")
        assert number
    fd, log = load_with_log(
        kernel, attacher.program_type, insns, name="count", expected_attach_type=attacher.attach_type, attach_btf_id=number
    )
    assert fd >= 0, log
    with Program(kernel, fd, "count", attacher.program_type) as program:
        links = [attacher.attach(kernel, program, place, AttachOptions()) for place in planner.places(chosen, catalogue)]
        try:
            action()
        finally:
            for link in links:
                link.close()
    value = counts.lookup(bytes(4))
    assert value is not None
    return int(struct.unpack("=Q", value)[0])


@pytest.mark.parametrize("kind", ["kprobe", "kretprobe"])
@pytest.mark.parametrize("uses", [(), ("arg0",), ("reg",), ("kstack",)])
def test_a_kprobe_works_by_whatever_there_is(catalogue: Any, counts: Map, kind: str, uses: tuple[str, ...]) -> None:
    (chosen,) = plans(catalogue, f"{kind}:{FUNCTION}", *uses)
    mechanisms = ["fentry" if kind == "kprobe" else "fexit", "kprobe_multi", "kprobe_perf", "kprobe_tracefs"]
    told = [name for name, why in chosen.rejected if why]
    assert set(mechanisms) <= {chosen.attacher, *told}
    if not chosen.attacher:
        # nothing here: the tracepoint means the same only to a program that uses nothing
        assert uses and not any(catalogue.features.has(name) for name in mechanisms)
        assert f"tracepoint:syscalls:sys_{'enter' if kind == 'kprobe' else 'exit'}_getpgid" in chosen.hint
        return
    if uses in (("reg",), ("kstack",)):
        assert chosen.attacher not in ("fentry", "fexit", "tracepoint")
    assert run(catalogue, counts, chosen, os.getpid(), lambda: [os.getpgid(0) for _ in range(5)]) == 5


def test_an_internal_function(catalogue: Any, counts: Map) -> None:
    (chosen,) = plans(catalogue, "kprobe:do_sys_openat2")
    if chosen.attacher:
        assert run(catalogue, counts, chosen, os.getpid(), lambda: os.close(os.open("/dev/null", os.O_RDONLY))) == 1
        return
    assert all(name in chosen.reason for name in ("fentry", "kprobe_multi", "kprobe_perf", "kprobe_tracefs"))
    assert len(chosen.reason) < 400 and "\n" not in chosen.reason
    assert chosen.hint == "trace tracepoint:syscalls:sys_enter_openat and tracepoint:syscalls:sys_enter_openat2 instead"


def test_many_functions(catalogue: Any, counts: Map) -> None:
    (chosen, *_) = plans(catalogue, "kprobe:vfs_re*")
    if not chosen.attacher:
        pytest.skip(chosen.reason)
    assert len(chosen.probes) > 3
    with open("/proc/self/comm", "rb", buffering=0) as file:
        assert run(catalogue, counts, chosen, os.getpid(), lambda: [file.read(1) for _ in range(4)]) >= 4


@pytest.mark.needs("raw_tracepoint", "tp_btf")
def test_raw_tracepoints(catalogue: Any, counts: Map) -> None:
    total = 0
    for uses, mechanism in (((), "raw_tracepoint"), (("args",), "tp_btf")):
        (chosen,) = plans(catalogue, "rawtracepoint:sys_enter", *uses)
        assert chosen.attacher == mechanism
        before, total = total, run(catalogue, counts, chosen, os.getpid(), lambda: [os.getpgid(0) for _ in range(9)])
        assert total - before >= 9


@pytest.mark.needs("tracepoint_perf")
def test_tracepoints_share_a_program(catalogue: Any, counts: Map) -> None:
    (chosen,) = plans(catalogue, "tracepoint:syscalls:sys_*_getpgid")
    assert len(chosen.probes) == 2
    assert run(catalogue, counts, chosen, os.getpid(), lambda: [os.getpgid(0) for _ in range(6)]) == 12


def _python_with_markers(catalogue: Any) -> str:
    for path in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        if os.path.exists(path) and any(marker.name == "gc__start" for marker in catalogue.binary(path).stapsdt()):
            return path
    pytest.skip("no Python with USDT markers here")


@pytest.mark.needs("uprobe_perf", "usdt_refcount")
@pytest.mark.parametrize("without", ["", "uprobe_multi"])
def test_usdt_with_semaphores(counts: Map, without: str) -> None:
    catalogue = Catalogue(live())  # one of its own, because it keeps binaries mapped
    path = _python_with_markers(catalogue)
    (chosen,) = plans(catalogue, f"usdt:{path}:python:gc__start")
    if without:
        chosen = chosen.replace(attacher="uprobe_perf")
    assert all(probe.name[4] for probe in chosen.probes), "the marker has a semaphore"

    def collect() -> None:
        if path == os.path.realpath(sys.executable):
            gc.collect()
        else:
            # without the semaphore raised this interpreter would never run the marker
            subprocess.run([path, "-IS", "-c", "import gc; gc.collect()"], check=True, timeout=60)

    assert run(catalogue, counts, chosen, 0, collect) >= 1
