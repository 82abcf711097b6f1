"""Recordings of Linux 6.1 and 6.12, by harken and by trace-cmd 3.4, and what ``trace-cmd report`` prints of them, line for line.

``fixtures/pairs-KERNEL-trace-cmd-3.4.tar.xz`` holds recordings (``NAME-b.dat`` made by trace-cmd 3.4, ``NAME-h.dat`` by harken, in guests
with a short ``/proc/kallsyms``) and the text that 3.4 (libtraceevent 1.9) prints of each.  The installed trace-cmd's own text is compared
too, in the other layout.
"""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from harken.cli.commands.trace_cmd import run
from harken.formats.trace_dat_compress import codec

pytestmark = pytest.mark.oracle
FOLDER = Path(__file__).parent / "fixtures"


def _names():
    for path in sorted(FOLDER.glob("pairs-*-trace-cmd-3.4.tar.xz")):
        with tarfile.open(path) as archive:
            for name in archive.getnames():
                if name.endswith(".dat"):
                    yield f"{path.name.split('-')[1]}/{name.removesuffix('.dat')}"


NAMES = list(_names())


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    for path in FOLDER.glob("pairs-*-trace-cmd-3.4.tar.xz"):
        with tarfile.open(path) as archive:
            archive.extractall(folder / path.name.split("-")[1])  # our own archive
    return folder


def reported(capfd, path, *options):
    assert run(["report", *options, "-i", str(path)]) == 0
    return capfd.readouterr().out.split("\n")


def differing(theirs, ours):
    """Pairs of lines that differ; trace-cmd prints a task as "<...>" up to the event that tells its name, which harken looks up before."""
    assert len(theirs) == len(ours) > 5
    return [pair for pair in zip(theirs, ours) if pair[0] != pair[1] and "<...>-" not in pair[0]]


def readable(name):
    if "zstd" in name and not codec("zstd").writes:
        pytest.skip("no zstd here: pip install 'harken[zstd]'")


def test_there_are_enough_pairs():
    assert len(NAMES) >= 30 and {name.rpartition("-")[2] for name in NAMES} == {"b", "h"}


@pytest.mark.parametrize("name", NAMES)
def test_trace_cmd_3_4_prints_the_same(pairs, capfd, name):
    readable(name)
    theirs = (pairs / f"{name}.txt").read_text(errors="surrogateescape").split("\n")
    assert differing(theirs, reported(capfd, pairs / f"{name}.dat", "--layout", "3.4")) == []


@pytest.mark.parametrize("name", [name for name in NAMES if "zlib" not in name])  # the distribution's trace-cmd has no zlib
@pytest.mark.skipif(shutil.which("trace-cmd") is None, reason="trace-cmd is not installed")
def test_the_installed_trace_cmd_prints_the_same(pairs, capfd, name):
    readable(name)
    path = pairs / f"{name}.dat"
    done = subprocess.run(["trace-cmd", "report", "-i", str(path)], capture_output=True, timeout=60)
    assert differing(done.stdout.decode(errors="surrogateescape").split("\n"), reported(capfd, path)) == []


@pytest.mark.parametrize("cut", [0.999, 0.9])
def test_a_recording_that_was_cut_off(pairs, capfd, tmp_path, cut):
    """trace-cmd refuses these; what is left of the records is printed as it is of the whole file."""
    data = (pairs / "6.12/v6-b.dat").read_bytes()
    path = tmp_path / "cut.dat"
    path.write_bytes(data[: int(len(data) * cut)])
    whole = (pairs / "6.12/v6-b.txt").read_text(errors="surrogateescape").split("\n")
    ours = reported(capfd, path, "--layout", "3.4")
    assert len(whole) / 3 < len(ours) < len(whole) and set(ours) <= set(whole)
