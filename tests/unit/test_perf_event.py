"""perf events: the attribute's bytes, names and aliases, PMU terms, and what a refusal says."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harken.base.errors import FormatError, KernelError, ProbeError, UsageError
from harken.kernel import perf_event, perf_event_names, perf_event_pmu
from harken.kernel.perf_event import Attr
from harken.testing.fake_kernel import FakeKernel

PMUS = "/sys/bus/event_source/devices"


def test_bytes_of_the_attribute():
    raw = Attr(4, 0x1C2, 3, 4, period=100, sample_type=7, read_format=8, precise=2, wakeup=5, bp_type=6, flags=("inherit",)).encode()
    assert struct.unpack_from("=II5Q", raw) == (4, 144, 0x1C2, 100, 7, 8, 1 << 1 | 2 << 15)
    assert struct.unpack_from("=IIQQ", raw, 48) == (5, 6, 3, 4)
    assert struct.unpack_from("=Q", Attr(1, freq=99, flags=()).encode(), 40)[0] == 1 << 10
    assert struct.unpack_from("=Q", Attr(1, freq=99).encode(), 16)[0] == 99


def test_every_alias_finds_its_event():
    for event in (*perf_event_names.SOFTWARE, *perf_event_names.HARDWARE, *perf_event_names.cache_events()):
        for name in (event.name, *event.aliases):
            found = perf_event_names.find_event(name)
            assert found is not None and (found.type, found.config) == (event.type, event.config), name


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("L1-dcache", 0),
        ("LLC-store-misses", 0x10102),
        ("l1-d-misses-store", 0x10100),
        ("L2-read", 2),
        ("branch-load-misses", 0x10005),
        ("dTLB-prefetches", 0x203),
        ("node-speculative-read-miss", 0x10206),
    ],
)
def test_spellings_of_cache_events(name, config):
    found = perf_event_names.find_cache(name)
    assert found is not None and found.config == config


@pytest.mark.parametrize("name", ["L1-icache-stores", "iTLB-prefetches", "L3-loads", "LLC-loads-loads", "LLC-x", ""])
def test_cache_events_that_do_not_exist(name):
    assert perf_event_names.find_cache(name) is None


def test_cache_names_are_unique():
    names = [event.name for event in perf_event_names.cache_events()]
    assert len(names) == len(set(names)) == 32


CPU = perf_event_pmu.Pmu(
    "cpu",
    4,
    (),
    (("edge", "config:18"), ("event", "config:0-7,32-35"), ("ldlat", "config1:0-15"), ("umask", "config:8-15")),
    (("mem", "event=0xcd,umask=0x1,ldlat=3"), ("cycles-ct", "event=0x3c,edge")),
)


@given(st.integers(0, 0xFFF), st.integers(0, 255))
def test_terms_go_to_their_bits(event, umask):
    words = perf_event_pmu.encode_terms(CPU, f"event={event:#x},umask={umask}")
    assert words["config"] & 0xFF | words["config"] >> 32 << 8 == event
    assert words["config"] >> 8 & 0xFF == umask


def test_named_events_and_flags():
    assert perf_event_pmu.encode_terms(CPU, "mem") == {"config": 0x1CD, "config1": 3}
    assert perf_event_pmu.encode_terms(CPU, "cycles-ct") == {"config": 0x3C | 1 << 18}
    assert perf_event_pmu.encode_terms(CPU, "mem,ldlat=0x20,name=x,period=7") == {"config": 0x1CD, "config1": 0x20, "period": 7}


@pytest.mark.parametrize("terms", ["nothing", "umask=0x100", "event=-1", "event=x", "umask=1e3"])
def test_terms_that_do_not_exist_or_fit(terms):
    with pytest.raises(ProbeError):
        perf_event_pmu.encode_terms(CPU, terms)


def test_events_that_name_each_other_end():
    loop = perf_event_pmu.Pmu("p", 9, (), (), (("a", "b"), ("b", "a")))
    with pytest.raises(ProbeError):
        perf_event_pmu.encode_terms(loop, "a")


@pytest.mark.parametrize("text", ["", "config", "config:", "config9:0", "config:9-1", "config:0-64", "config:a"])
def test_formats_that_are_none(text):
    with pytest.raises(FormatError):
        perf_event_pmu.parse_format(text)


def machine() -> FakeKernel:
    return FakeKernel(
        {
            f"{PMUS}/msr/type": "10\n",
            f"{PMUS}/msr/format/event": "config:0-63\n",
            f"{PMUS}/msr/events/tsc": "event=0x00\n",
            f"{PMUS}/msr/events/smi": "event=0x04\n",
            f"{PMUS}/power/type": "9\n",
            f"{PMUS}/power/cpumask": "0\n",
            f"{PMUS}/power/format/event": "config:0-7\n",
            f"{PMUS}/power/events/energy": "event=0x02\n",
            f"{PMUS}/power/events/energy.unit": "Joules\n",
            f"{PMUS}/power/events/energy.scale": "2.5e-1\n",
            f"{PMUS}/uprobe/type": "8\n",
            f"{PMUS}/uprobe/format/retprobe": "config:0\n",
            f"{PMUS}/uprobe/format/ref_ctr_offset": "config:32-63\n",
            f"{PMUS}/broken/type": "x\n",
        }
    )


def test_pmus_of_a_machine():
    kernel = machine()
    assert [unit.name for unit in perf_event_pmu.pmus(kernel)] == ["msr", "power", "uprobe"]
    power = perf_event_pmu.pmu(kernel, "power")
    assert power is not None and power.cpus == (0,) and power.events == (("energy", "event=0x02"),)
    assert perf_event_pmu.event_scale(kernel, "power", "energy") == (0.25, "Joules")
    assert perf_event_pmu.pmu(kernel, "../msr") is None


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("cycles", (0, 0, 0, 0)),
        ("faults", (1, 2, 0, 0)),
        ("LLC-load-misses", (3, 0x10002, 0, 0)),
        ("msr/smi/", (10, 4, 0, 0)),
        ("power/event=3/", (9, 3, 0, 0)),
        ("msr/config=0x12,config1=5/", (10, 0x12, 5, 0)),
        ("r1c2", (4, 0x1C2, 0, 0)),
        ("mem:0x1000", (5, 0, 0x1000, 4)),
        ("mem:0x1000/8:w", (5, 0, 0x1000, 8)),
    ],
)
def test_perfs_notation(text, wanted):
    found = perf_event_pmu.parse_event(machine(), text)
    assert (found.type, found.config, found.config1, found.config2) == wanted


def test_modifiers():
    kernel = machine()
    assert set(perf_event_pmu.parse_event(kernel, "cycles:u").flags) == {"disabled", "exclude_kernel", "exclude_hv"}
    assert set(perf_event_pmu.parse_event(kernel, "cycles:k").flags) == {"disabled", "exclude_user", "exclude_hv"}
    assert perf_event_pmu.parse_event(kernel, "cycles:ppp").precise == 3
    assert set(perf_event_pmu.parse_event(kernel, "msr/tsc/u").flags) == {"disabled", "exclude_kernel", "exclude_hv"}
    assert perf_event_pmu.parse_event(kernel, "mem:0x10/4:rw:u").bp_type == 3
    with pytest.raises(ProbeError):
        perf_event_pmu.parse_event(kernel, "cycles:pppp")


@pytest.mark.parametrize("text", ["nosuch", "msr/nosuch/", "gpu/x/", "rxyz", "mem:x", "mem:0x10:q", ""])
def test_events_that_do_not_exist(text):
    with pytest.raises((ProbeError, UsageError)):
        perf_event_pmu.parse_event(machine(), text)


def test_probes_go_through_the_pmus_of_their_kind():
    kernel = machine()
    attr = perf_event.uprobe(kernel, "/bin/ls", 0x4010, returns=True, ref_ctr_offset=0x20)
    assert (attr.type, attr.config, attr.config2, attr.probe) == (8, 1 | 0x20 << 32, 0x4010, "/bin/ls")
    kernel.on("perf_event_open", 5)
    with perf_event.open_event(kernel, attr, cpu=1) as event:
        memory = kernel.calls[-1].args[0]
        assert memory.at(56) == b"/bin/ls\0" and kernel.calls[-1].args[1:] == (-1, 1, -1, 8)
        assert event.fd == 5
    assert kernel.open_fds == set()
    with pytest.raises(KernelError, match="no kprobe PMU") as caught:
        perf_event.kprobe(kernel, "vfs_read")
    assert "CONFIG_KPROBE_EVENTS" in caught.value.hint
    with pytest.raises(KernelError, match="semaphore"):
        perf_event.uprobe(kernel, "/bin/ls", 0, ref_ctr_offset=1 << 32)


def test_refusals_tell_what_to_do():
    kernel = FakeKernel({"/proc/sys/kernel/perf_event_paranoid": "2\n"})
    kernel.on("perf_event_open", -13)
    with pytest.raises(KernelError) as caught:
        perf_event.open_event(kernel, Attr(1, 0), -1, 0)
    assert caught.value.errno == 13 and "perf_event_paranoid is 2" in caught.value.hint
    kernel.on("perf_event_open", -2)
    with pytest.raises(KernelError) as caught:
        perf_event.open_event(kernel, Attr(0, 0), -1, 0)
    assert "PMU" in caught.value.hint


@pytest.mark.parametrize(("length", "mode"), [(3, "w"), (4, ""), (4, "rx"), (4, "z"), (0, "rw")])
def test_breakpoints_that_no_machine_has(length, mode):
    with pytest.raises(UsageError):
        perf_event.breakpoint_at(0x1000, length, mode)


def test_an_error_state_is_not_read_as_a_count():
    kernel = FakeKernel({})
    kernel.on("read", 0)
    with pytest.raises(KernelError):
        perf_event.PerfEvent(kernel, 3).read()
