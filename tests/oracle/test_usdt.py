"""USDT markers beside readelf and bpftrace: names, addresses, semaphores and argument texts of what is installed here."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from harken.formats.elf import Elf
from harken.kernel.kernel import live
from harken.probes.catalogue import Catalogue
from harken.probes.listing import search

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.oracle

#: Debian 12's programs and libraries with markers of their own.
BINARIES = (
    "/usr/bin/python3.11",
    "/usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0",
    "/usr/lib/x86_64-linux-gnu/libstdc++.so.6",
    "/usr/lib/x86_64-linux-gnu/libc.so.6",
    "/usr/bin/x86_64-linux-gnu-gcc-12",
)
PRESENT = [path for path in BINARIES if os.path.exists(path)]


def readelf(path: str) -> list[tuple[str, str, int, int, str]]:
    """(provider, name, address, semaphore, arguments) of every note."""
    text = subprocess.run(["readelf", "-nW", path], capture_output=True, text=True, check=True).stdout
    pattern = r"Provider: (.*)\n\s+Name: (.*)\n\s+Location: (0x\w+), .*Semaphore: (0x\w+)\n\s+Arguments: ?(.*)"
    rows = re.findall(pattern, text)
    return [
        (provider, name, int(address, 16), int(semaphore, 16), arguments.strip()) for provider, name, address, semaphore, arguments in rows
    ]


@pytest.mark.program("readelf")
@pytest.mark.parametrize("path", PRESENT)
def test_notes_as_readelf_prints_them(path: str) -> None:
    with open(path, "rb") as file:
        markers = Elf(file.read(), path).stapsdt()
    ours = [(m.provider, m.name, m.address, m.semaphore, m.arguments) for m in markers]
    assert sorted(ours) == sorted(readelf(path))
    for marker in markers:
        assert [operand.obstacle for operand in marker.operands] == [""] * len(marker.operands)
        assert len(marker.operands) == len(marker.arguments.split())


@pytest.mark.kernel
@pytest.mark.program("bpftrace")
@pytest.mark.parametrize("path", PRESENT)
def test_the_list_is_that_of_bpftrace(path: str, tmp_path: Path) -> None:
    if "+" in path:  # which bpftrace 0.17 cannot read in a path
        (tmp_path / "library").symlink_to(path)
        path = str(tmp_path / "library")
    done = subprocess.run(["bpftrace", "-l", f"usdt:{path}:*"], capture_output=True, text=True, timeout=60)
    theirs = sorted(set(re.findall(r"^usdt:.*", done.stdout, re.M)))
    ours = sorted(name for _, names in search(Catalogue(live()), f"usdt:{path}:*") for name in names)
    assert ours == theirs


@pytest.mark.kernel
@pytest.mark.program("bpftrace", "python3.11")
def test_the_markers_of_a_process() -> None:
    with subprocess.Popen(
        ["/usr/bin/python3.11", "-c", "print(1, flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None and child.stdin is not None
        child.stdout.readline()
        done = subprocess.run(["bpftrace", "-l", "usdt:*", "-p", str(child.pid)], capture_output=True, text=True, timeout=60)
        ours = {name for _, names in search(Catalogue(live()), "usdt:*", child.pid) for name in names}
        child.stdin.close()
    theirs = {
        line.rpartition("/root")[2] if "/root" in line else line.partition(":")[2] for line in re.findall(r"^usdt:.*", done.stdout, re.M)
    }
    assert {name.partition(":")[2] for name in ours} == theirs
