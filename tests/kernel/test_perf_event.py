"""perf events on a live kernel: they count, and refusals carry the kernel's errno."""

from __future__ import annotations

import os

import pytest

from harken.base.errors import KernelError
from harken.kernel import perf_event, perf_event_pmu
from harken.kernel.kernel import live
from harken.kernel.perf_event import Attr

pytestmark = pytest.mark.kernel


@pytest.mark.needs("perf_software")
def test_page_faults_of_this_process_are_counted():
    import mmap

    kernel = live()
    with perf_event.open_event(kernel, perf_event.software("page-faults"), 0, -1) as event:
        event.enable()
        pages = mmap.mmap(-1, 64 * 4096)
        for page in range(64):
            pages[page * 4096] = 1
        event.disable()
        pages.close()
        (count,) = event.read()
        assert count >= 60
        event.reset()
        assert event.read() == (0,)
        assert event.id() > 0


@pytest.mark.needs("perf_tracepoint", "tracefs")
def test_a_tracepoint_is_counted_and_filtered():
    from harken.kernel.tracefs import find

    kernel = live()
    number = find(kernel).event_id("syscalls", "sys_enter_getpid")
    with perf_event.open_event(kernel, perf_event.tracepoint(number), 0, -1) as event:
        event.enable()
        for _ in range(5):
            os.getpid()
        event.disable()
        assert event.read() == (5,)
        assert event.programs() == ()
        with pytest.raises(KernelError) as caught:
            event.set_filter("no_such_field == 1")
        assert caught.value.errno == 22 and "field" in caught.value.hint


@pytest.mark.needs("breakpoint")
def test_a_watchpoint_counts_writes():
    import ctypes

    target = ctypes.c_long(0)
    attr = perf_event.breakpoint_at(ctypes.addressof(target), 8, "w", flags=("disabled", "exclude_kernel", "exclude_hv"))
    with perf_event.open_event(live(), attr, 0, -1) as event:
        event.enable()
        for value in range(7):
            target.value = value
        event.disable()
        (count,) = event.read()
    assert count == 7


@pytest.mark.needs("perf_software")
def test_events_of_pmus_can_be_opened():
    kernel = live()
    for unit in perf_event_pmu.pmus(kernel):
        for name, _ in unit.events[:2]:
            attr = perf_event_pmu.parse_event(kernel, f"{unit.name}/{name}/")
            assert attr.type == unit.type
            fd = perf_event.attempt(kernel, attr, -1, unit.cpus[0] if unit.cpus else 0)
            assert fd >= 0 or fd in (-22, -2, -95, -19), (unit.name, name, fd)  # some need terms that the machine lacks
            if fd >= 0:
                os.close(fd)


def test_an_event_that_no_machine_has():
    with pytest.raises(KernelError) as caught:
        perf_event.open_event(live(), Attr(1, 999), 0, -1)
    assert caught.value.errno in (2, 22)
