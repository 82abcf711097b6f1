"""A mechanism that is refused when it is used: the next one is taken, and the user is told."""

from __future__ import annotations

import ctypes

import pytest

from harken.base.errors import KernelError
from harken.probes.attachers import ATTACHERS
from harken.session.api import trace

pytestmark = [pytest.mark.kernel, pytest.mark.needs("uprobe_multi", "uprobe_perf")]

PROGRAM = "uprobe:libc:getppid { @n++; }"


def refuse(*_args):
    raise KernelError("not here", errno=1)


def test_the_next_mechanism_is_taken(monkeypatch):
    monkeypatch.setattr(type(ATTACHERS["uprobe_multi"]), "attach", refuse)
    with trace(PROGRAM, cached=False, duration=10) as session:
        ctypes.CDLL(None).getppid()
        session.run(0.2)
        assert session.maps["@n"] >= 1
    assert {row[1] for row in session.unit.plan} <= {"uprobe_perf", "uprobe_tracefs"}
    assert "uprobe_multi was refused" in session.explain() or any("refused" in why for row in session.unit.plan for _, why in row[3])


def test_begin_has_run_so_nothing_is_tried_again(monkeypatch):
    monkeypatch.setattr(type(ATTACHERS["uprobe_multi"]), "attach", refuse)
    with pytest.raises(KernelError, match="not here"), trace("BEGIN { @b = 1; } " + PROGRAM, cached=False):
        pass


def test_when_nothing_is_left_the_first_reason_is_told(monkeypatch):
    for name in ("uprobe_multi", "uprobe_perf", "uprobe_tracefs"):
        monkeypatch.setattr(type(ATTACHERS[name]), "attach", refuse)
    with pytest.raises(Exception, match="refused when it was tried|not here"), trace(PROGRAM, cached=False):
        pass
