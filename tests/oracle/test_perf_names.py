"""Names of events, held against perf: the same name must ask the kernel for the same event."""

from __future__ import annotations

import re
import subprocess

import pytest

from harken.kernel import perf_event_pmu
from harken.kernel.kernel import live
from harken.kernel.perf_event_names import CACHE_OPS, CACHE_RESULTS, CACHE_TYPES, HARDWARE, SOFTWARE, cache_events, find_event

pytestmark = [pytest.mark.oracle, pytest.mark.program("perf")]


def asked_by_perf(names: list[str]) -> dict[str, tuple[int, int]]:
    """name -> (type, config) of the attribute that perf opens for it (perf leaves out fields that are 0)."""
    found = {}
    for name in names:
        done = subprocess.run(["perf", "stat", "-vv", "-e", name, "true"], capture_output=True, text=True, check=False)
        block = re.search(r"perf_event_attr:\n(.*?)\n---", done.stderr, re.DOTALL)
        if block is None:
            continue
        fields = dict(re.findall(r"^ +(type|config) +(\S+)", block[1], re.MULTILINE))
        found[name] = (int(fields.get("type", "0"), 0), int(fields.get("config", "0"), 0))
    return found


def test_software_hardware_and_cache_events():
    perfs_own = [
        name for event in (*SOFTWARE, *HARDWARE) for name in (event.name, *event.aliases) if "-stalls" not in name and name != "cpu"
    ]
    names = [*perfs_own, *(event.name for event in cache_events())]
    names += [f"{types[-1]}-{CACHE_OPS[0][2]}-{CACHE_RESULTS[1][1]}" for types in CACHE_TYPES]
    asked = asked_by_perf(names)
    assert len(asked) > len(names) * 0.9  # an older perf lacks a name or two
    for name, wanted in asked.items():
        event = find_event(name)
        assert event is not None and (event.type, event.config) == wanted, name


def test_pmu_events_and_raw_numbers():
    kernel = live()
    names = ["r1c2", "cpu-clock:u"]
    names += [f"{unit.name}/{name}/" for unit in perf_event_pmu.pmus(kernel) for name, _ in unit.events[:3]]
    for name, wanted in asked_by_perf(names).items():
        attr = perf_event_pmu.parse_event(kernel, name)
        assert (attr.type, attr.config) == wanted, name


def test_everything_perf_lists_is_known():
    done = subprocess.run(["perf", "list", "--no-desc"], capture_output=True, text=True, check=True)
    kernel = live()
    seen = 0
    for line in done.stdout.splitlines():
        match = re.match(r"^  (\S+)(?: OR (\S+))? +\[(Software|Hardware|Hardware cache|Kernel PMU) event\]", line)
        if match:
            for name in filter(None, match.groups()[:2]):
                seen += 1
                perf_event_pmu.parse_event(kernel, name)
    assert seen >= 12
