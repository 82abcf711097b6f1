"""Symbols, lines and inlined functions of files that have a debug package here, held against readelf, addr2line and gdb.

Debian's packages put the debug file of a build below /usr/lib/debug/.build-id; libc6-dbg is among the development packages, others
(binutils-x86-64-linux-gnu-dbg, libstdc++6-12-dbg, valgrind-dbg) are compared too where they are installed.

Where addr2line and harken differ, LLVM's symbolizer usually has harken's answer (``tests/oracle/test_lines.py``).
"""

from __future__ import annotations

import glob
import os
import random
import re
import shutil
import subprocess
import zlib

import pytest

from harken.base.errors import HarkenError
from harken.kernel.kernel import live
from harken.symbols import debug_files
from harken.symbols.binaries import open_elf
from harken.symbols.lines import LineTable
from harken.symbols.symbol_table import SymbolTable
from harken.symbols.symbolizer import Symbolizer

PATTERNS = (
    "/usr/lib/*/libc.so.6", "/usr/lib/*/ld-linux*.so.*", "/usr/lib/*/libm.so.6", "/usr/lib/*/libresolv.so.2",
    "/usr/lib/*/libthread_db.so.1",
    "/usr/lib/*/libnss_compat.so.2", "/usr/lib/*/libmvec.so.1", "/usr/bin/*-linux-gnu-objdump", "/usr/bin/*-linux-gnu-as",
    "/usr/bin/*-linux-gnu-ld.bfd", "/usr/bin/*-linux-gnu-readelf", "/usr/bin/*-linux-gnu-gprof", "/usr/lib/*/libbfd-*.so",
    "/usr/lib/*/libopcodes-*.so", "/usr/lib/*/libctf.so.0", "/usr/lib/*/libstdc++.so.6", "/usr/libexec/valgrind/memcheck-amd64-linux",
    "/usr/libexec/valgrind/vgpreload_memcheck-amd64-linux.so",
)  # fmt: skip
pytestmark = [pytest.mark.oracle]


def with_debug_file() -> list[str]:
    """Files whose debug file is installed."""
    kernel, found = live(), []
    for path in [path for pattern in PATTERNS for path in sorted(glob.glob(pattern))[:1]]:
        try:
            elf = open_elf(kernel, path, debug=False)
            if debug_files.find(kernel, path, elf) is not None:
                found.append(path)
        except HarkenError:
            continue
    return found


FILES = with_debug_file()
needs_package = pytest.mark.skipif(not FILES, reason="no debug package is installed (apt-get install libc6-dbg)")


def run(*argv: str, stdin: str = "") -> str:
    return subprocess.run(
        argv, input=stdin, capture_output=True, text=True, errors="replace", check=True, timeout=200, env={**os.environ, "LC_ALL": "C"}
    ).stdout


def code(path: str, count: int) -> list[int]:
    """Random addresses of a file's code."""
    text = open_elf(live(), path, debug=False).section(".text")
    assert text is not None
    return sorted(random.Random(path).sample(range(text.address, text.address + text.size), min(count, text.size)))


def debug_path(path: str) -> str:
    elf = open_elf(live(), path, debug=False)
    return next(choice for choice in debug_files.candidates(path, elf) if os.path.exists(choice))


@needs_package
@pytest.mark.program("readelf")
@pytest.mark.parametrize("path", FILES)
def test_every_function_of_the_debug_file(path: str) -> None:
    elf = open_elf(live(), path, debug=False)
    table = SymbolTable(elf, debug_files.find(live(), path, elf))
    assert not table.stripped and not table.problem
    functions: dict[int, set[str]] = {}
    for file in (debug_path(path), path):
        for line in run("readelf", "-sW", file).splitlines():
            words = line.split()
            if len(words) >= 8 and words[0].rstrip(":").isdigit() and words[3] in ("FUNC", "IFUNC") and words[6].isdigit():
                functions.setdefault(int(words[1], 16), set()).add(words[7].partition("@")[0])
    assert len(functions) > 20
    for address, names in functions.items():
        found = table.lookup(address)
        assert found is not None, (hex(address), names)
        # an object or label at the same address may be the better name
        assert found[2] == address and (found[0] in names or not any(found[0] in others for others in functions.values())), (found, names)


def addr2line(path: str, addresses: list[int]) -> list[list[tuple[str, int]]]:
    """(function, line) of all inlined functions, innermost first."""
    found: list[list[tuple[str, int]]] = []
    lines = iter(run("addr2line", "-aife", path, stdin="".join([f"{address:#x}\n" for address in addresses])).splitlines())
    for head in lines:
        if head.startswith("0x"):
            found.append([])
            continue
        line = next(lines).partition(" (discriminator")[0].rpartition(":")[2]
        found[-1].append(("" if head == "??" else head, int(line) if line.isdigit() else 0))
    return found


def llvm_symbolizer(path: str, addresses: list[int]) -> list[list[tuple[str, int]] | None]:
    """The same by a third program, "??" for names it does not find; None for all if it is not installed."""
    if shutil.which("llvm-symbolizer") is None:
        return [None] * len(addresses)
    argv = ["llvm-symbolizer", f"--obj={path}", "-a", "--output-style=GNU", "--functions=linkage", "--no-demangle"]
    found: list[list[tuple[str, int]] | None] = []
    lines = iter(run(*argv, stdin="".join([f"{address:#x}\n" for address in addresses])).splitlines())
    chain: list[tuple[str, int]] = []
    for head in lines:
        if head.startswith("0x"):
            chain = []
            found.append(chain)
        else:
            chain.append((head, int(next(lines).partition(" (discriminator")[0].rpartition(":")[2])))
    return found


def same(ours: tuple[str, int], third: tuple[str, int]) -> bool:
    """Whether two programs say the same of one function; LLVM's does not follow dwz to names."""
    return ours[1] == third[1] and (ours[0] == third[0] or third[0] == "??")


@needs_package
@pytest.mark.program("addr2line")
@pytest.mark.parametrize("path", FILES)
def test_lines_and_inlined_functions_of_addr2line(path: str) -> None:
    table = LineTable.of(path)
    assert table is not None
    addresses = code(path, 400)
    different, compared = [], 0
    for address, theirs, third in zip(addresses, addr2line(path, addresses), llvm_symbolizer(path, addresses)):
        ours = [(function, line) for function, _, line, _ in table.lookup(address)]
        if not theirs[0][1] and (not ours or third is None):
            continue  # assembly and padding without DWARF, or what addr2line does not read of dwz and LTO: it has symbols only
        compared += 1
        if ours != theirs and not (third and len(third) == len(ours) and all(map(same, ours, third))):
            different.append((hex(address), ours, theirs, third))
    assert not table.problem
    if "mvec" in path:  # tools give one another's aliases of its ifuncs
        return
    assert compared > len(addresses) // 4 or not shutil.which("llvm-symbolizer")
    assert len(different) <= compared // 25, (len(different), compared, different[:5])


@needs_package
@pytest.mark.program("gdb")
@pytest.mark.parametrize("path", FILES[:6] + [file for file in FILES[6:] if os.path.getsize(file) < 3 << 20])
def test_symbols_and_lines_of_gdb(path: str) -> None:
    addresses = code(path, 100)
    argv = ["gdb", "-q", "-batch", "-nx", "-iex", "set debuginfod enabled off", "-iex", "set print asm-demangle off", path]
    for address in addresses:
        for command in (f"echo @{address:#x}\\n", f"info symbol {address:#x}", f"info line *{address:#x}"):
            argv += ["-ex", command]  # an error ends a script, but not these
    text = run(*argv)
    answers = dict(zip(addresses, re.split(r"^@0x[0-9a-f]+$", text, flags=re.M)[1:]))
    assert len(answers) == len(addresses)
    lines, other_lines = 0, []
    with Symbolizer(live(), demangle=False, lines=True) as symbolizer:
        for address in addresses:
            frame = symbolizer.file(path, address)[-1]
            symbol = re.search(r"^(\S+)(?: \+ (\d+))? in section", answers[address], re.M)
            if symbol is not None:
                # two names of one address are aliases, of which each has its own preference
                assert frame.name == symbol[1].partition("@")[0] or frame.offset == int(symbol[2] or 0), (hex(address), frame, symbol[0])
            else:
                assert not frame.name or "No symbol matches" in answers[address], (hex(address), frame, answers[address])
            line = re.search(r'^Line (\d+) of "[^"]*" (?:starts|is) at address (0x[0-9a-f]+)', answers[address], re.M)
            if line is not None:
                lines += 1
                if int(line[1]) != symbolizer.file(path, int(line[2], 16))[-1].line:
                    other_lines.append((hex(address), frame, answers[address].strip()))
    # gdb passes over rows that are no statements; where several rows have one address, it takes another than addr2line and harken
    assert len(other_lines) <= lines // 6, (len(other_lines), lines, other_lines[:5])


@needs_package
def test_by_the_name_in_debuglink(tmp_path, monkeypatch) -> None:
    """Without a build-id folder, .gnu_debuglink finds the file beside the program, in .debug, or below /usr/lib/debug."""
    kernel, path = live(), min(FILES, key=os.path.getsize)
    whole = SymbolTable(open_elf(kernel, path, debug=False), debug_files.find(kernel, path, open_elf(kernel, path, debug=False)))
    debug = debug_path(path)
    monkeypatch.setattr(debug_files, "DEBUG", str(tmp_path / "lib"))
    copy = str(tmp_path / os.path.basename(path))
    shutil.copy(path, copy)
    elf = open_elf(kernel, copy, debug=False)
    link = elf.debug_link()
    assert link is not None and debug_files.find(kernel, copy, elf) is None
    for folder in (tmp_path / ".debug", tmp_path, tmp_path / "lib" / str(tmp_path).lstrip("/")):
        folder.mkdir(parents=True, exist_ok=True)
        place = folder / link[0]
        shutil.copy(debug, place)
        found = debug_files.find(kernel, copy, elf)
        assert found is not None and found.what == str(place)
        assert list(SymbolTable(elf, found).symbols()) == list(whole.symbols())
        # the file of another build does not count
        other = bytearray(place.read_bytes())
        other = other.replace(bytes.fromhex(elf.build_id), bytes(len(elf.build_id) // 2))
        place.write_bytes(other)
        assert zlib.crc32(other) != link[1] and debug_files.find(kernel, copy, elf) is None
        place.unlink()
