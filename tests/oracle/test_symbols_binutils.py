"""Symbols of installed programs and libraries, held against readelf, addr2line and objdump."""

from __future__ import annotations

import glob
import os
import random
import subprocess

import pytest

from harken.kernel.kernel import live
from harken.symbols import debug_files
from harken.symbols.binaries import open_elf
from harken.symbols.symbol_table import SymbolTable

PATTERNS = (
    "/usr/lib/*/libc.so.6", "/usr/lib/*/ld-linux*.so.*", "/usr/lib/*/libstdc++.so.6", "/usr/lib/*/libm.so.6", "/usr/lib/*/libcrypto.so.*",
    "/usr/lib/*/libz.so.1", "/usr/lib/*/libelf.so.1", "/usr/lib/*/libgcc_s.so.1", "/usr/lib/*/libsqlite3.so.0",
    "/usr/lib/*/libexpat.so.1", "/usr/lib/*/libLLVM-*.so.1", "/usr/bin/bash", "/usr/bin/ls", "/usr/bin/python3.*", "/usr/bin/perl",
    "/usr/bin/git", "/usr/bin/perf", "/usr/bin/gdb", "/usr/bin/bpftrace", "/usr/bin/find", "/usr/bin/sed", "/usr/bin/grep", "/usr/bin/tar",
)  # fmt: skip
FILES = [path for pattern in PATTERNS for path in sorted(glob.glob(pattern))[:1] if os.path.getsize(path) < 80 << 20][:22]
pytestmark = [pytest.mark.oracle]


def run(*argv: str, stdin: str = "") -> str:
    return subprocess.run(
        argv, input=stdin, capture_output=True, text=True, errors="replace", check=True, timeout=120, env={**os.environ, "LC_ALL": "C"}
    ).stdout


def readelf_functions(path: str) -> dict[int, list[tuple[str, int]]]:
    """Address -> (name, size) of every defined function in both tables."""
    found: dict[int, list[tuple[str, int]]] = {}
    for line in run("readelf", "-sW", path).splitlines():
        words = line.split()
        if len(words) >= 8 and words[0].rstrip(":").isdigit() and words[3] in ("FUNC", "IFUNC") and words[6].isdigit():
            size = int(words[2], 16 if words[2].startswith("0x") else 10)
            found.setdefault(int(words[1], 16), []).append((words[7].partition("@")[0], size))
    return found


@pytest.mark.program("readelf")
@pytest.mark.parametrize("path", FILES)
def test_every_function_of_readelf(path):
    symbols = SymbolTable(open_elf(live(), path, debug=False))
    functions = readelf_functions(path)
    assert not symbols.problem
    assert functions or path.startswith("/usr/bin/"), "only programs may have no function symbol at all"
    for address, aliases in functions.items():
        found = symbols.lookup(address)
        assert found is not None, (hex(address), aliases)
        if found[2] == address:
            names = {name for name, _ in aliases}
            assert found[0] in names or found[0] not in {n for other in functions.values() for n, _ in other}, (
                hex(address),
                found,
                aliases,
            )
        size = max(size for _, size in aliases)
        if size > 1:
            last = symbols.lookup(address + size - 1)
            # something else may begin inside of it
            assert last is not None and last[2] >= address, (hex(address), last, aliases)
        for name, _ in aliases:
            start = symbols.find(name)
            assert start is not None and name in {n for n, _ in functions[start[0]]}, (name, start)


@pytest.mark.program("addr2line")
@pytest.mark.parametrize("path", FILES)
def test_names_of_addr2line(path):
    kernel = live()
    elf = open_elf(kernel, path, debug=False)
    debug = debug_files.find(kernel, path, elf)
    if debug is None and not any(section.name == ".symtab" for section in elf.sections):
        pytest.skip("no symbols beside the dynamic ones, which addr2line does not read")
    symbols = SymbolTable(elf, debug)
    random.seed(1)
    code = [(start, start + size) for _, start, size, executable in symbols.segments if executable]
    places = [
        (start, size)
        for name, start, size in symbols.symbols()
        if size > 1 and not name.endswith("@plt") and any(low <= start < high for low, high in code)
    ]
    addresses = [start + random.randrange(size) for start, size in random.sample(places, min(300, len(places)))]
    # -i: the last function of an address is the one that the others were inlined into
    answers = run("addr2line", "-fiae", path, stdin="".join(f"{address:x}\n" for address in addresses)).split("0x")[1:]
    aliases: dict[int, set[str]] = {}
    tables = [run("readelf", "-sW", file) for file in (path, debug.what if debug is not None else "") if file]
    for line in "\n".join(tables).splitlines():
        words = line.split()
        if len(words) >= 8 and words[0].rstrip(":").isdigit() and words[6].isdigit():
            aliases.setdefault(int(words[1], 16), set()).add(words[7].partition("@")[0])
    differing = []
    for address, answer in zip(addresses, answers):
        theirs = answer.split("\n")[1:][:-1]
        found = symbols.lookup(address)
        assert found is not None
        name = theirs[-2] if len(theirs) > 1 else "??"
        # what DWARF says: the function's name in the source, without the compiler's suffixes
        if name != "??" and name not in {alias.partition(".")[0] for alias in aliases[found[2]]} | aliases[found[2]] | {found[0]}:
            differing.append((hex(address), name, found))
    assert len(differing) <= 0.1 * len(addresses), differing[:5]


@pytest.mark.program("objdump")
@pytest.mark.parametrize("path", [path for path in FILES if "LLVM" not in path][:12])
def test_stubs_of_objdump(path):
    """objdump names the stubs of the linkage table: "<malloc@plt>:"."""
    symbols = SymbolTable(open_elf(live(), path, debug=False))
    checked = 0
    elf = open_elf(live(), path, debug=False)
    for section in (".plt", ".plt.sec", ".plt.got"):
        if elf.section(section) is None:
            continue
        for line in run("objdump", "-d", "-j", section, path).splitlines():
            address, _, name = line.partition(" <")
            if not name.endswith("@plt>:") or name.startswith("*ABS*"):
                continue
            name = name[:-6].partition("@")[0]
            found = symbols.lookup(int(address, 16))
            if found is None and section == ".plt" and elf.section(".plt.sec") is not None:
                continue  # the lazy part, which only the dynamic linker enters
            assert found is not None and found[0] == f"{name}@plt", (line, found)
            checked += 1
