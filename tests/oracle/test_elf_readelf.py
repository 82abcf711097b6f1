"""Symbols, versions, segments, build-ids and USDT markers of installed programs, held against readelf and pyelftools."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess

import pytest

from harken.formats.elf import Elf

FILES = [
    path
    for pattern in (
        "/bin/bash",
        "/bin/ls",
        "/lib*/*/libc.so.6",
        "/lib*/ld-linux*.so.*",
        "/usr/lib/*/libstdc++.so.6",
        "/usr/lib/*/libpython3*.so.1.0",
    )
    for path in sorted(glob.glob(pattern))[:1]
]
pytestmark = [pytest.mark.oracle, pytest.mark.skipif(shutil.which("readelf") is None, reason="readelf is not installed")]


def readelf(*arguments: str) -> str:
    return subprocess.run(
        ["readelf", *arguments], capture_output=True, text=True, check=True, timeout=60, env={**os.environ, "LC_ALL": "C"}
    ).stdout


@pytest.fixture(params=FILES, scope="module")
def pair(request):
    with open(request.param, "rb") as file:
        return request.param, Elf(file.read(), request.param)


def test_dynamic_symbols_with_versions(pair):
    path, elf = pair
    theirs = []
    for line in readelf("-W", "--dyn-syms", path).splitlines():
        words = line.split()
        if len(words) >= 7 and words[0].rstrip(":").isdigit():
            name = words[7] if len(words) > 7 else ""
            size = int(words[2], 16 if words[2].startswith("0x") else 10)
            theirs.append((int(words[1], 16), size, words[3].lower(), words[4].lower(), name))
    mine = []
    for symbol in elf.symbols(".dynsym"):
        version = symbol.version and ("@" if not symbol.default or not symbol.section else "@@") + symbol.version
        mine.append((symbol.value, symbol.size, symbol.kind, symbol.binding, symbol.name + version))
    assert len(mine) == len(theirs)
    for ours, expected in zip(mine, theirs):
        # readelf omits "@@VERSION" of the symbols that name the versions themselves
        assert ours[:4] == expected[:4] and (ours[4] == expected[4] or ours[4].split("@")[0] == expected[4])


def test_symbols_are_found_by_name_and_address(pair):
    _, elf = pair
    for name, value, size in elf.functions()[::7]:
        named = elf.symbols_named(name) or elf.debug.symbols_named(name)
        assert value in [symbol.value for symbol in named]
        if size:
            found = elf.symbol_at(value)
            assert found is not None and found[1] == 0


def test_against_pyelftools(pair):
    elffile = pytest.importorskip("elftools.elf.elffile")
    path, elf = pair
    with open(path, "rb") as file:
        other = elffile.ELFFile(file)
        assert [s.name for s in elf.sections] == [s.name for s in other.iter_sections()]
        assert [(s.address, s.offset, s.size) for s in elf.sections] == [
            (s["sh_addr"], s["sh_offset"], s["sh_size"]) for s in other.iter_sections()
        ]
        assert [(s.address, s.offset, s.file_size, s.memory_size, s.flags) for s in elf.segments] == [
            (s["p_vaddr"], s["p_offset"], s["p_filesz"], s["p_memsz"], s["p_flags"]) for s in other.iter_segments()
        ]
        wanted = set()
        for table in other.iter_sections():
            if table["sh_type"] in ("SHT_DYNSYM", "SHT_SYMTAB"):
                for s in table.iter_symbols():
                    if s["st_info"]["type"] in ("STT_FUNC", "STT_LOOS") and s["st_shndx"] != "SHN_UNDEF" and s.name:
                        wanted.add((s.name.split("@")[0], s["st_value"], s["st_size"]))
        assert sorted(wanted) == [f for f in elf.functions()]
        for name, value, _ in list(wanted)[:50]:
            assert list(other.address_offsets(value)) == [elf.offset_of(value)], name


def test_notes(pair):
    path, elf = pair
    text = readelf("-n", "-W", path)
    assert (f"Build ID: {elf.build_id}" in text) == bool(elf.build_id)
    theirs, current = [], {}
    for line in text.splitlines():
        for key in ("Provider", "Name", "Arguments"):
            if f" {key}: " in line or line.strip() == f"{key}:":
                current[key] = line.partition(f"{key}: ")[2].strip()
        if " Location: " in line:
            words = line.replace(",", "").split()
            current["Location"], current["Semaphore"] = int(words[1], 16), int(words[-1], 16)
        if "Arguments" in current:
            theirs.append(tuple(current[key] for key in ("Provider", "Name", "Location", "Semaphore", "Arguments")))
            current = {}
    mine = [(m.provider, m.name, m.address, m.semaphore, m.arguments) for m in elf.stapsdt()]
    assert mine == theirs
    for marker in elf.stapsdt():
        assert len(marker.operands) == len(marker.arguments.split())
