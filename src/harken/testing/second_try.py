"""pytest plugin: a test of a live kernel that fails is run once more, and both results are told.

What other processes do at the same moment, an emulated processor or a ring buffer that another tracer fills can fail such a test once in
hundreds of runs; a fault of the code fails it again.  Only tests that are marked ``kernel`` or ``oracle`` get a second try, only for a
failure of the test itself (what is left behind is found when it ends, and may be left once), and none is hidden: the summary lists every
test that passed at its second try with what failed at the first.
A test that fails twice is reported with its second failure, and the first below it.

`harken.testing.pytest_plugin` loads it here, and in guests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from _pytest.runner import runtestprotocol

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("FIRST_TRY",)

#: property of a report: what the first try of the test failed with
FIRST_TRY = "first try"
_MARKERS = ("kernel", "oracle")


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    if not any(item.get_closest_marker(marker) for marker in _MARKERS):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, log=False, nextitem=nextitem)
    failure = _failure(reports)
    if failure:
        item._initrequest()  # type: ignore[attr-defined]
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        passed = not any(report.failed for report in reports)
        for report in reports:
            if report.when == "call" and passed:
                report.user_properties.append((FIRST_TRY, failure))
            elif report.failed:
                report.sections.append(("first try", failure))
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def _failure(reports: Iterable[pytest.TestReport]) -> str:
    """What failed, if it was the test itself and nothing else."""
    failed = [report for report in reports if report.failed]
    return failed[0].longreprtext if len(failed) == 1 and failed[0].when == "call" else ""


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for report in terminalreporter.stats.get("passed", ()):
        for name, text in report.user_properties:
            if name == FIRST_TRY:
                lines = str(text).splitlines()
                causes = [line[1:].strip() for line in lines if line.startswith("E ")] or lines[-1:]
                terminalreporter.write_line(f"passed at the second try: {report.nodeid}: {causes[0] if causes else ''}")
