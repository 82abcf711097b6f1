"""``hist`` and ``report --profile`` against trace-cmd 3.1.6, on a recording that it made with ``--profile`` under Linux 6.12 (without the
symbols that do not occur in it), on those of the function graph, and on what this kernel can record."""

import lzma
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.oracle
FOLDER = Path(__file__).parent / "fixtures"
HARKEN = [sys.executable, "-m", "harken", "trace-cmd"]

if shutil.which("trace-cmd") is None:
    pytest.skip("trace-cmd is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("profile")
    (folder / "profile.dat").write_bytes(lzma.decompress((FOLDER / "profile-6.12-trace-cmd-3.1.6.dat.xz").read_bytes()))
    for release in ("6.1", "6.12"):
        shutil.copy(FOLDER / f"function_graph-{release}-trace-cmd-3.1.6.dat", folder / f"graph-{release}.dat")
    return folder


def run(*words):
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("options", [[], ["-P"]])
@pytest.mark.parametrize("name", ["profile", "graph-6.1", "graph-6.12"])
def test_chains_are_equal(recordings, name, options):
    path = str(recordings / f"{name}.dat")
    theirs, ours = (run(*words, "hist", *options, "-i", path) for words in (["trace-cmd"], HARKEN))
    assert ours.split("\n") == theirs.split("\n")
    assert len(ours) > 500


def accounts(text):
    """(task, its events); events that trace-cmd's order leaves open are in no order: it sorts addresses of its own memory."""
    text = re.sub(r"(?m)^start .* end .*\n", "", text)  # trace-cmd prints how it understood each hook
    tasks = re.split(r"(?m)^(?=task: |group: |Global )", text)
    return [(task.partition("\n")[0], sorted(re.split(r"(?m)^(?=  Event: )", task.partition("\n")[2].rstrip()))) for task in tasks]


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["-G"],
        ["--by-comm"],
        ["--cpu", "1"],
        ["-H", "softirq_raise,vec/softirq_exit,vec,p"],
        ["-H", "sched_switch,prev_pid,next_pid/sched_wakeup,pid,g"],
    ],
)
def test_accounts_are_equal(recordings, options):
    path = str(recordings / "profile.dat")
    theirs, ours = (accounts(run(*words, "report", "--profile", *options, "-i", path)) for words in (["trace-cmd"], HARKEN))
    if "--by-comm" in options:
        theirs, ours = sorted(theirs), sorted(ours)
    for (name, events), (other, theirs_events) in zip(ours, theirs):
        assert name == other
        assert [event.rstrip() for event in events] == [event.rstrip() for event in theirs_events], name
    assert len(ours) == len(theirs) > 3


@pytest.mark.needs("tracefs")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_our_recording_of_this_kernel(tmp_path):
    path = str(tmp_path / "own.dat")
    run(*HARKEN, "record", "--profile", "-q", "--compression", "none", "-o", path, "sh", "-c", "ls / > /dev/null; sleep 0.05")
    theirs, ours = (run(*words, "hist", "-P", "-i", path) for words in (["trace-cmd"], HARKEN))
    assert ours.split("\n") == theirs.split("\n")
    theirs, ours = (accounts(run(*words, "report", "--profile", "-i", path)) for words in (["trace-cmd"], HARKEN))
    for (_, events), (name, theirs_events) in zip(ours, theirs):
        assert [event.rstrip() for event in events] == [event.rstrip() for event in theirs_events], name
    assert any("sched_switch:S" in event for _, events in ours for event in events)
