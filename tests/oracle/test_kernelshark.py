"""Recordings of harken read by KernelShark 2.2.1's own library (Debian's libkshark2): the same records, all of them, in the same order."""

from __future__ import annotations

import ctypes.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.oracle, pytest.mark.needs("tracefs")]

if os.geteuid() != 0 or ctypes.util.find_library("kshark") is None:
    pytest.skip("needs root and libkshark2", allow_module_level=True)

HARKEN = [sys.executable, "-m", "harken", "trace-cmd"]
DUMP = [sys.executable, str(Path(__file__).with_name("kernelshark_dump.py"))]
WORK = ["sh", "-c", "ls / > /dev/null; cat /proc/self/stat > /dev/null; ls /proc > /dev/null"]
EVENTS = ["-e", "sched:sched_switch", "-e", "raw_syscalls", "-e", "irq"]
RECORDINGS = {
    "v6": ["--file-version", "6", *EVENTS],
    "v7": ["--compression", "none", *EVENTS],
    "mono": ["--compression", "none", "-C", "mono", *EVENTS],
    "buffer": ["--compression", "none", *EVENTS, "-B", f"harken_test_{os.getpid()}", "-e", "sched:sched_wakeup", "-e", "timer"],
}
#: stream; nanoseconds; task-PID; CPU; flags; event; text; mask of what is shown
THEIRS = re.compile(r"(\d+); (\d+); (.*)-(\d+); CPU (\d+); (.{5}); [\w-]+/([\w-]+); (.*); 0x[0-9a-f]+")
#: buffer: task-PID CPU flags time: event: text; the task's name is cut to eight characters
OURS = re.compile(r"(?:(harken_test_\d+):)? *(.{1,8})-(\d+) +(\d+)(.{5}) +(\d+)\.(\d{9}): ([\w-]+): +(.*)")


def _output(*words: str) -> list[str]:
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", RECORDINGS)
def test_kernelshark_reads_what_harken_records(name: str, tmp_path: Path) -> None:
    path = str(tmp_path / "trace.dat")
    _output(*HARKEN, "record", "-q", "-o", path, *RECORDINGS[name], *WORK)
    theirs = []
    for line in _output(*DUMP, path):
        found = THEIRS.fullmatch(line)
        assert found, line
        stream, time, comm, pid, cpu, flags, event, text = found.groups()
        theirs.append((stream != "0", int(time), comm[:8], pid, int(cpu), flags, event, text.strip()))
    ours = []
    for line in _output(*HARKEN, "report", "-l", "-t", "-N", "-i", path)[1:]:
        found = OURS.fullmatch(line)
        assert found, line
        buffer, comm, pid, cpu, flags, seconds, rest, event, text = found.groups()
        ours.append((buffer is not None, int(seconds + rest), comm, pid, int(cpu), flags, event, text.strip()))
    assert len(ours) > 50
    assert [pair for pair in zip(ours, theirs) if pair[0] != pair[1]] == []
    assert len(ours) == len(theirs) and {row[0] for row in theirs} == ({False, True} if name == "buffer" else {False})
