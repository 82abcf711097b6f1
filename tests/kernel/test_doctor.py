"""The doctor on a live kernel."""

from __future__ import annotations

import pytest

from harken.kernel.kernel import live
from harken.probes.doctor import examine
from harken.render.doctor import text

pytestmark = pytest.mark.kernel


def test_every_no_has_a_reason_and_a_remedy():
    report = examine(live())
    for section in report.sections:
        for finding in section.findings:
            if finding.state == "no":
                assert finding.reason and finding.fix, finding
    assert report.finding("bpf").state == "yes"
    lines = list(text(report, width=100))
    assert len(lines) > 60 and max(len(line) for line in lines) <= 100
