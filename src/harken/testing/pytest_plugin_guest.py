"""pytest inside a guest: runs the tests of a job in this process and sends each report to the host.

Not imported on the host; `harken.testing.vm_guest` calls `run`.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from . import second_try

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from .vm_guest import Channel

__all__ = ("run",)


class TookTooLong(BaseException):
    """A test's time is up.  No code that is tested may take this for an error of the kernel or of its own."""


class _Reporter:
    """Selects the wanted tests, ends those that hang, and forwards reports."""

    def __init__(self, channel: Channel, wanted: list[str], patience: float) -> None:
        self._channel = channel
        self._order = {name: place for place, name in enumerate(wanted)}
        self._patience = patience

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        chosen = [item for item in items if item.nodeid in self._order]
        chosen.sort(key=lambda item: self._order[item.nodeid])
        items[:] = chosen
        self._channel.send("collected", count=len(chosen))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._channel.send("collect_failed", file=report.nodeid, text=str(report.longrepr))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._channel.send("start", test=nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Iterator[None]:
        def expire(_number: int, _frame: FrameType | None) -> None:
            raise TookTooLong(f"the test took longer than {self._patience:.0f} seconds in the guest")

        previous = signal.signal(signal.SIGALRM, expire)
        signal.setitimer(signal.ITIMER_REAL, self._patience)
        try:
            return (yield)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._channel.send("report", data=report._to_json())  # what pytest_report_to_serializable does, as pytest-xdist uses it


def run(channel: Channel, job: dict[str, Any]) -> int:
    """Runs the tests of ``job["tests"]`` (node ids below ``/harken``); returns pytest's exit status."""
    os.chdir("/harken")
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    files = list(dict.fromkeys(name.split("::", 1)[0] for name in job["tests"]))
    options = [
        "-c", "/harken/pytest.ini", "--rootdir=/harken", "--import-mode=importlib", "-p", "no:cacheprovider", "-p", "no:pastebin",
        "-p", "no:junitxml", "-p", "no:doctest", "-p", "no:debugging", "-q", "--color=no", "--no-summary", *job["options"],
    ]  # fmt: skip
    return int(pytest.main([*options, *files], plugins=[_Reporter(channel, job["tests"], job["patience"]), second_try]))
