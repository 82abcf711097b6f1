"""Listing a real kernel's events and functions, and this very process."""

from __future__ import annotations

import os

import pytest

from harken.base.errors import HarkenError
from harken.kernel.kernel import live
from harken.probes.catalogue import Catalogue
from harken.probes.description import describe
from harken.probes.listing import search

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def catalogue():
    found = Catalogue(live())
    try:
        found.tracepoints()
        found.btf  # noqa: B018 - the mapped index stays open as long as the catalogue does
    except HarkenError as error:
        pytest.skip(f"no tracefs: {error}")
    return found


def test_everything(catalogue):
    groups = dict(search(catalogue))
    assert "tracepoint:sched:sched_switch" in groups["tracepoint"] and "tracer:nop" in groups["tracer"]
    assert "software:page-faults:" in groups["software"] and len(groups["kprobe"]) > 20_000
    assert len(groups["tracepoint"]) == len(catalogue.tracepoints())


def test_words_and_details(catalogue):
    assert "tracepoint:sched:sched_switch" in [name for _, names in search(catalogue, "sched_switch") for name in names]
    assert "char prev_comm[16]" in " ".join(describe(catalogue, "tracepoint:sched:sched_switch"))
    if catalogue.btf is not None:
        assert describe(catalogue, "fexit:vfs_read")[0] == "struct file * file"
        assert describe(catalogue, "struct list_head")[0] == "struct list_head {"


def test_this_process():
    catalogue = Catalogue(live())  # of its own: it keeps the binaries mapped
    found = [name for _, names in search(catalogue, "uprobe:*:malloc", os.getpid()) for name in names]
    if not any("libc" in path for path in catalogue.process_binaries(os.getpid())):
        pytest.skip("this Python is linked statically")
    assert any("libc" in name for name in found)
