"""Debian's BCC tools that need kprobes print under harken what they print under the real BCC, for a workload that is always the same.

The real one's outputs were recorded in a guest (``python -m tools.bcc_matrix.kernel_peer``), with what its compiler made of the headers of
the guest's kernel; harken runs in guests without any.  Three tools run at a time, over one run of the workload.  By default those are
compared that take seconds in an emulated machine; with ``HARKEN_BCC_PAIRS=all`` in the environment of a machine that has kprobes, all.
Tools that watch block devices, which test guests lack, are compared by ``python -m tools.bcc_matrix.kernel_peer FIXTURE --ours``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIXTURE = Path(__file__).parent / "fixtures" / "bcc-0.26.0-linux-6.1.json"

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.kernel,
    pytest.mark.needs("kprobe_perf"),
    pytest.mark.skipif(not os.path.exists("/usr/sbin/syscount-bpfcc"), reason="needs the scripts of Debian's bpfcc-tools"),
    pytest.mark.skipif(importlib.util.find_spec("clang") is None, reason="C needs libclang (pip install harken[c])"),
    pytest.mark.keeps_fds,
]

if not (ROOT / "tools" / "bcc_matrix").is_dir():
    pytest.skip("the harness of the tools is not here", allow_module_level=True)
sys.path.insert(0, str(ROOT))
from tools.bcc_matrix import kernel_pairs  # noqa: E402

RECORDED = json.loads(FIXTURE.read_text())
#: those that start slowly in an emulated machine, or whose output has little that is always the same
SLOW = (
    "bindsnoop", "filelife", "mountsnoop", "runqlat", "shmsnoop", "solisten", "tcpaccept", "tcpstates", "vfscount", "vfsstat",
)  # fmt: skip
PAIRS = tuple(
    pair
    for pair in kernel_pairs.PAIRS
    if pair.name in RECORDED["outputs"] and not pair.disk and (pair.words[0] not in SLOW or os.environ.get("HARKEN_BCC_PAIRS") == "all")
)
AT_ONCE = 3


class Outputs:
    """harken's outputs, made as they are asked for."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, object]] = {}

    def of(self, pair: kernel_pairs.Pair):
        if pair.name not in self.found:
            first = PAIRS.index(pair) // AT_ONCE * AT_ONCE
            ran = kernel_pairs.run(PAIRS[first : first + AT_ONCE])
            self.found.update({name: {"pid": ran["pid"], **output} for name, output in ran["outputs"].items()})
        return self.found[pair.name]


def test_a_program_is_compiled_and_attached():
    """Beside that, the processes of the tools, which are forks of this one, then find types and features known."""
    from tools.bcc_matrix.runner import _first_program

    _first_program()


@pytest.fixture(scope="module")
def ours():
    return Outputs()


@pytest.mark.parametrize("pair", PAIRS, ids=[pair.words[0] for pair in PAIRS])
def test_the_same_is_printed(pair, ours):
    if pair.same_kernel and os.uname().release != RECORDED["kernel"]:
        pytest.skip(f"what this tool prints depends on the kernel; recorded with {RECORDED['kernel']}")
    recorded = RECORDED["outputs"][pair.name]
    theirs = kernel_pairs.essence(pair.name, recorded["stdout"], recorded["pid"])
    assert len(json.dumps(theirs)) > 40
    result = ours.of(pair)
    assert "Traceback" not in result["stderr"] or "KeyboardInterrupt" in result["stderr"], result["stderr"]
    assert kernel_pairs.essence(pair.name, result["stdout"], result["pid"]) == theirs, result["stdout"][:2000] + result["stderr"][:500]
