"""formats.x86_length beside objdump: the length of every instruction of some of Debian's programs and libraries."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from harken.formats.elf import Elf
from harken.formats.x86_length import length

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.program("objdump"),
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="instructions of x86-64"),
]

PRESENT = [
    path
    for path in (
        "/bin/bash",
        "/lib/x86_64-linux-gnu/libc.so.6",  # AVX2, AVX-512
        "/lib/x86_64-linux-gnu/libm.so.6",  # x87, FMA
        "/lib64/ld-linux-x86-64.so.2",
        "/usr/bin/gdb",
    )
    if os.path.exists(path)
]


@pytest.mark.parametrize("path", PRESENT)
def test_lengths(path: str) -> None:
    with open(path, "rb") as file:
        elf = Elf(file.read(), path)
    text = elf.section(".text")
    assert text is not None
    stop = text.address + min(text.size, 600_000)
    command = ["objdump", "-d", "-j", ".text", "--insn-width=15", f"--stop-address={stop:#x}", path]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = re.findall(r"^ *([0-9a-f]+):\t((?:[0-9a-f]{2} )+)\s*(.*)$", listing, re.M)
    different = []
    for address, code, name in rows:
        size = len(code.split())
        ours = length(elf.data, text.offset + int(address, 16) - text.address)
        # objdump shows "fwait" and the instruction behind it as one; the last one is cut off by --stop-address
        if ours != size and not (code.startswith("9b ") and ours == 1) and int(address, 16) + 15 < stop and "(bad)" not in name:
            different.append((address, code, name, ours))
    assert len(rows) > 10_000 and not different
