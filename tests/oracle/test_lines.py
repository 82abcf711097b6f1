"""symbols.lines beside addr2line: programs compiled here in all ways that DWARF is stored, and Debian's libc with its debug package."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from harken.formats.elf import Elf
from harken.symbols.lines import LineTable

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.oracle, pytest.mark.program("gcc", "addr2line")]

SOURCE = """\
#include <stdio.h>
static inline __attribute__((always_inline)) int twice(int x) {
    int y = x * 2;
    printf("%d\\n", y);
    return y;
}
static inline __attribute__((always_inline)) int more(int x) {
    return twice(x) + twice(x + 1);
}
int __attribute__((noinline)) outer(int a) {
    int r = more(a);
    if (r > 10)
        puts("big");
    return r;
}
int main(int argc, char **argv) {
    int s = 0;
    for (int i = 0; i < argc; i++)
        s += outer(i);
    return twice(s);
}
"""

CPP = """\
#include <string>
#include <vector>
namespace house {
struct Room {
    std::vector<int> sizes;
    template <class T> __attribute__((noinline)) int put(T value) { sizes.push_back(int(value)); return int(sizes.size()); }
    std::string name() const { return std::to_string(sizes.size()) + "!"; }
};
}
int main(int argc, char **argv) {
    house::Room room;
    auto f = [&](int x) { return room.put(x) + room.put(x * 1.5); };
    return f(argc) + int(room.name().size());
}
"""


def addr2line(path: str, addresses: list[int]) -> list[list[tuple[str, str, int]]]:
    """The same as ``LineTable.lookup`` gives, by the other program."""
    text = "".join(f"{address:#x}\n" for address in addresses)
    lines = subprocess.run(["addr2line", "-aife", path], input=text, capture_output=True, text=True, check=True).stdout.splitlines()
    found: list[list[tuple[str, str, int]]] = []
    while lines:
        head = lines.pop(0)
        if head.startswith("0x"):
            found.append([])
            continue
        file, _, line = lines.pop(0).partition(" (discriminator")[0].rpartition(":")
        found[-1].append(("" if head == "??" else head, "" if file == "??" else file, int(line) if line.isdigit() else 0))
    return found


def llvm_symbolizer(path: str, addresses: list[int]) -> dict[int, list[tuple[str, str, int]]]:
    """The same by a third program, where that is installed."""
    if shutil.which("llvm-symbolizer") is None:
        return {}
    command = ["llvm-symbolizer", f"--obj={path}", "-a", "--output-style=GNU", "--functions=linkage", "--no-demangle"]
    text = "".join(f"{address:#x}\n" for address in addresses)
    lines = subprocess.run(command, input=text, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    found: dict[int, list[tuple[str, str, int]]] = {}
    chain: list[tuple[str, str, int]] = []
    while lines:
        head = lines.pop(0)
        if head.startswith("0x"):
            chain = found[int(head, 16)] = []
            continue
        file, _, line = lines.pop(0).partition(" (discriminator")[0].rpartition(":")
        chain.append((head, file, int(line)))
    return found


def code(path: str, step: int = 1) -> list[int]:
    with open(path, "rb") as file:
        text = Elf(file.read()).section(".text")
    assert text is not None
    return list(range(text.address, text.address + text.size, step))


def build(folder: Path, name: str, source: str, *flags: str) -> str:
    compiler = "g++" if name.endswith(".cc") else "gcc"
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    (folder / name).write_text(source)
    result = subprocess.run([compiler, "-O2", "-o", "program", name, *flags], cwd=folder, capture_output=True, text=True)
    if result.returncode:
        pytest.skip(f"{compiler} {' '.join(flags)}: {result.stderr.strip()[:200]}")
    return str(folder / "program")


def differences(path: str, step: int = 1) -> tuple[int, list[object]]:
    """(addresses with lines, what differs).

    addr2line of binutils 2.40 gets some wrong (the unit's file where all of a function stands in an included one; the outer of two
    functions with the same range; in the padding behind a function that function): then LLVM's symbolizer is asked.
    """
    table = LineTable.of(path)
    assert table is not None
    addresses = code(path, step)
    found, different = 0, []
    for address, theirs in zip(addresses, addr2line(path, addresses)):
        ours = [(function, file, line) for function, file, line, _ in table.lookup(address)]
        if not ours and not theirs[0][2]:
            continue  # code without DWARF, where addr2line falls back to symbols
        found += 1
        if ours != theirs:
            different.append((address, ours, theirs))
    assert not table.problem
    third = llvm_symbolizer(path, [address for address, _, _ in different]) if different else {}
    if third:
        different = [
            one
            for one in different
            if [(n, os.path.normpath(f), i) for n, f, i in one[1]] != [(n, os.path.normpath(f), i) for n, f, i in third[one[0]]]
        ]
    return found, different


@pytest.mark.parametrize(
    "flags",
    [("-g",), ("-gdwarf-4",), ("-gdwarf-3",), ("-g", "-gz"), ("-g1",), ("-g", "-gdwarf64"), ("-g", "-fPIE", "-pie", "-O1")],
    ids=" ".join,
)
def test_lines_and_inlined_functions_of_a_c_program(tmp_path: Path, flags: tuple[str, ...]) -> None:
    found, different = differences(build(tmp_path, "a.c", SOURCE, *flags))
    assert not different and found > 100


@pytest.mark.parametrize("flags", [("-g",), ("-gdwarf-4", "-fdebug-types-section")], ids=" ".join)
def test_cpp_templates_lambdas_and_sections_thrown_away(tmp_path: Path, flags: tuple[str, ...]) -> None:
    found, different = differences(build(tmp_path, "b.cc", CPP, *flags))
    assert found > 300
    assert not different or shutil.which("llvm-symbolizer") is None and len(different) < found // 20


@pytest.mark.parametrize("version", [4, 5])
def test_split_units_are_the_same_as_whole_ones(tmp_path: Path, version: int) -> None:
    """addr2line reads no .dwo files, so the same program without them is what to compare with."""
    (tmp_path / "whole").mkdir()
    (tmp_path / "split").mkdir()
    whole = build(tmp_path / "whole", "a.c", SOURCE, f"-gdwarf-{version}")
    split = build(tmp_path / "split", "a.c", SOURCE, f"-gdwarf-{version}", "-gsplit-dwarf")
    assert [name for name in os.listdir(tmp_path / "split") if name.endswith(".dwo")]
    first, second = LineTable.of(whole), LineTable.of(split)
    assert first is not None and second is not None
    addresses = code(whole)
    assert addresses == code(split)
    chains = [[(function, line, inlined) for function, _, line, inlined in first.lookup(address)] for address in addresses]
    assert max(map(len, chains)) == 3
    assert [[(function, line, inlined) for function, _, line, inlined in second.lookup(address)] for address in addresses] == chains
    assert first.addresses("a.c", 4) == second.addresses("a.c", 4) != []
    assert not second.problem


@pytest.mark.program("dwp")
def test_a_package_of_split_units(tmp_path: Path) -> None:
    """Version 4: Debian 12's dwp dies of version 5."""
    path = build(tmp_path, "a.c", SOURCE, "-gdwarf-4", "-gsplit-dwarf")
    table = LineTable.of(path)
    assert table is not None
    before = [table.lookup(address) for address in code(path)]
    done = subprocess.run(["dwp", "-e", "program"], cwd=tmp_path, capture_output=True, text=True, timeout=30)
    if done.returncode or not (tmp_path / "program.dwp").exists():
        pytest.skip(f"dwp: {done.stderr.strip()[:200]}")
    for name in os.listdir(tmp_path):
        if name.endswith(".dwo"):
            os.unlink(tmp_path / name)
    table = LineTable.of(path)
    assert table is not None
    assert [table.lookup(address) for address in code(path)] == before and not table.problem
    os.unlink(tmp_path / "program.dwp")
    table = LineTable.of(path)
    assert table is not None
    lost = [table.lookup(address) for address in code(path)]
    assert [chain and chain[0][1:3] for chain in lost] == [chain and chain[0][1:3] for chain in before]
    assert "is missing" in table.problem


@pytest.mark.program("objcopy", "strip")
def test_a_separate_debug_file(tmp_path: Path) -> None:
    path = build(tmp_path, "a.c", SOURCE, "-g")
    table = LineTable.of(path)
    assert table is not None
    before = [table.lookup(address) for address in code(path)]
    for command in (
        ["objcopy", "--only-keep-debug", "program", "program.debug"],
        ["strip", "program"],
        ["objcopy", "--add-gnu-debuglink=program.debug", "program"],
    ):
        subprocess.run(command, cwd=tmp_path, check=True)
    table = LineTable.of(path)
    assert table is not None
    assert [table.lookup(address) for address in code(path)] == before
    os.unlink(tmp_path / "program.debug")
    assert LineTable.of(path) is None


#: A line that was copied into both ways through a function: in one of them its instruction begins no statement, but an empty row does
#: (so GCC writes it); and a line without instructions.
COPIES = """\
.file 1 "copies.c"
.text
.globl main
.type main, @function
main:
    .loc 1 1 1 is_stmt 1
    cmp $1, %edi
    jg .Lmany
    .loc 1 2 1
    mov $1, %eax
    .loc 1 4 1
.Lend:
    .loc 1 2 1 is_stmt 0
    mov $2, %ecx
    .loc 1 5 1 is_stmt 1
    ret
.Lmany:
    .loc 1 2 1 is_stmt 0
    mov $3, %edx
    .loc 1 2 1 is_stmt 1
    .loc 1 3 1
copy:
    mov $4, %eax
    .loc 1 6 1
    .loc 1 7 1
nothing:
    jmp .Lend
.size main, . - main
"""


@pytest.mark.program("nm")
@pytest.mark.parametrize("stripped", [False, True])
def test_copies_of_a_line_and_lines_without_code(tmp_path: Path, stripped: bool) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("the code is that of x86-64")
    path = build(tmp_path, "copies.s", COPIES, "-g", "-no-pie")
    names = dict(
        reversed(line.split()[::2]) for line in subprocess.check_output(["nm", path], text=True).splitlines() if " t " in line.lower()
    )
    main, copy, nothing = (int(names[name], 16) for name in ("main", "copy", "nothing"))
    if stripped:  # the code is in another file than the lines then
        for command in (
            ["objcopy", "--only-keep-debug", path, path + ".debug"],
            ["strip", path],
            ["objcopy", f"--add-gnu-debuglink={path}.debug", path],
        ):
            subprocess.run(command, cwd=tmp_path, check=True)
    table = LineTable.of(path)
    assert table is not None
    assert table.addresses("copies.c", 1) == [main]
    assert table.addresses("copies.c", 2) == [main + 5, copy]
    assert table.addresses("copies.c", 6) == [nothing] and table.addresses("copies.c", 8) == []
    for line in table.lines_with_code("copies.c", 1, 100):
        assert table.addresses("copies.c", line)


@pytest.mark.program("dwz")
def test_common_entries_in_a_supplementary_file(tmp_path: Path) -> None:
    first = build(tmp_path, "b.cc", CPP, "-g")
    os.rename(first, tmp_path / "first")
    second = build(tmp_path, "b.cc", CPP, "-g")
    table = LineTable.of(second)
    assert table is not None
    before = [table.lookup(address) for address in code(second)]
    done = subprocess.run(
        ["dwz", "-m", "common.debug", "-M", str(tmp_path / "common.debug"), "first", "program"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.skip(f"dwz: {done.stderr.strip()[:200]}")
    table = LineTable.of(second)
    assert table is not None
    assert [table.lookup(address) for address in code(second)] == before and not table.problem


def test_libc_with_its_debug_package() -> None:
    path = "/lib/x86_64-linux-gnu/libc.so.6"
    if not os.path.exists(path) or LineTable.of(path) is None:
        pytest.skip("libc6-dbg is not installed")
    found, different = differences(path, 149)
    assert found > 5000
    real = [
        one
        for one in different
        # these two differ between tools, see ``differences``
        if [(name, line) for name, _, line in one[1]] != [(name, line) for name, _, line in one[2]] and one[1] and one[1][0][0]  # type: ignore[index]
    ]
    assert not real and len(different) < found // 15
