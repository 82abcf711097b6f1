"""Debian's BCC tools under harken print what they print under the real BCC, for the same workload.

The real one's outputs were recorded (``python -m tools.bcc_matrix.compare --record``) with kernel headers in place; harken needs none.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIXTURE = Path(__file__).parent / "fixtures" / "bcc-0.26.0-6.18.json"

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.kernel,
    pytest.mark.needs("uprobe_perf", "tracepoint_perf"),
    pytest.mark.skipif(not os.path.exists("/usr/sbin/syscount-bpfcc"), reason="needs the scripts of Debian's bpfcc-tools"),
    pytest.mark.skipif(importlib.util.find_spec("clang") is None, reason="C needs libclang (pip install harken[c])"),
    pytest.mark.keeps_fds,
]

if "HARKEN_GUEST" in os.environ:
    pytest.skip("these outputs were recorded on one machine, natively; test_bcc_kernel_peer is for guests", allow_module_level=True)
sys.path.insert(0, str(ROOT))
from tools.bcc_matrix.compare import PAIRS  # noqa: E402

RECORDED = json.loads(FIXTURE.read_text())["outputs"]


def _run(*options: str) -> dict:
    """harken's outputs: run in a process of its own, which forks for each tool."""
    words = [sys.executable, "-m", "tools.bcc_matrix.compare", "--json", *options]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def ours():
    """The outputs of all tools; whoever has taken one takes it once, so that a second try of a test is one of its tool."""
    return _run()


@pytest.mark.parametrize("pair", PAIRS, ids=[pair.case.name for pair in PAIRS])
def test_the_same_is_printed(pair, ours):
    name = pair.case.name
    result, theirs = ours.pop(name, None) or _run("--only", name)[name], pair.essence(RECORDED[pair.case.name]["stdout"])
    assert len(json.dumps(theirs)) > 10
    assert "Traceback" not in result["stderr"] or "KeyboardInterrupt" in result["stderr"], result["stderr"]
    assert json.loads(json.dumps(pair.essence(result["stdout"]))) == json.loads(json.dumps(theirs)), result["stdout"][:2000]
