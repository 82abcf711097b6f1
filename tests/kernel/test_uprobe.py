"""Uprobes on the real kernel: source lines, C++ names, regular expressions, paths of processes, hundreds at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from harken.base.errors import HarkenError
from harken.probes.providers import parse, resolve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

sys.path.insert(0, __file__.rsplit("/", 1)[0])

if os.geteuid() != 0:
    pytest.skip("loading BPF programs needs root", allow_module_level=True)

from language import _catalogue, run  # noqa: E402

pytestmark = [pytest.mark.kernel, pytest.mark.needs("uprobe_perf")]

SOURCE = """\
#include <cstdio>
namespace house {
struct Room {
    int size = 1;
    __attribute__((noinline)) int grow(int by);
    __attribute__((noinline)) int grow(double by);
};
int Room::grow(int by) { return size += by; }
int Room::grow(double by) { return size += int(by * 2); }
}
static inline __attribute__((always_inline)) int twice(int x) {
    int y = x * 2;
    std::printf("%d\\n", y);
    return y;
}
extern "C" __attribute__((noinline)) int first(int x) {
    return twice(x) + 1;
}
extern "C" __attribute__((noinline)) int second(int x) {
    return twice(x + 1) + 2;
}
int main() {
    std::setvbuf(stdout, nullptr, _IONBF, 0);
    house::Room room;
    for (int c; (c = std::getchar()) != EOF;)
        if (c != '\\n') {
            int total = first(3) + second(4) + room.grow(5) + room.grow(1.5);
            std::printf("done %d\\n", total);
        }
}
"""


class Program:
    """The program; each ``once`` lets it go round once."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid

    def once(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("x")
        self.process.stdin.flush()
        while not self.process.stdout.readline().startswith("done"):
            assert self.process.poll() is None


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    folder: Path = tmp_path_factory.mktemp("program")
    (folder / "program.cc").write_text(SOURCE)
    subprocess.run(["g++", "-g", "-O2", "-o", "program", "program.cc"], cwd=folder, check=True)
    return str(folder / "program")


@pytest.fixture
def program(path: str) -> Iterator[Program]:
    made = Program(path)
    yield made
    made.process.communicate()


def lines(program: Program, text: str, **options: Any) -> list[str]:
    output, session = run(text.replace("BIN", program.path), work=program.once, **options)
    assert not session.losses
    return output.split("\n")


@pytest.mark.parametrize("form", ["uprobe:BIN@program.cc:12", "u:BIN:program.cc:12", "u:BIN@program.cc:12:9"])
def test_a_source_line_is_probed_in_every_inlined_copy(program: Program, form: str) -> None:
    found = lines(program, form + ' { printf("%s\\n", func); }')
    assert sorted(name for name in found if name) == ["first", "second"]


def test_the_line_of_a_function_is_its_entry(program: Program) -> None:
    assert "by 5" in lines(program, 'u:BIN@program.cc:8 { printf("by %d\\n", arg1); }')


@pytest.mark.parametrize(
    "name,count", [("house::Room::grow", 2), ("house::Room::grow(double)", 1), ("house::*::grow", 2), ("/Room::grow\\(int\\)$/", 1)]
)
def test_cpp_functions_by_their_names(program: Program, name: str, count: int) -> None:
    pytest.importorskip("demangle")
    assert f"@: {count}" in lines(program, f'u:BIN:cpp:"{name}" {{ @ = count(); }}')


def test_regular_expressions(program: Program) -> None:
    found = lines(program, 'u:BIN:/^(first|second)$/ { printf("%s %d\\n", func, arg0); }')
    assert [line for line in found if line] == ["first 3", "second 4"]
    assert "@: 2" in lines(program, 'u:BIN:"/^(first|sec.{3})$/" /pid > 0/ { @ = count(); }')


def test_offsets_and_addresses(program: Program) -> None:
    """At a function's second instruction its argument is still in its register; the same place by address."""
    symbol = _catalogue.binary(program.path).symbol("_ZN5house4Room4growEi")
    assert symbol is not None
    from harken.formats.x86_length import length

    if os.uname().machine != "x86_64":
        pytest.skip("offsets of x86-64")
    elf = _catalogue.binary(program.path)
    step = length(elf.data, elf.offset_of(symbol.value))
    for place in (f"{symbol.name}+{step}", f"{symbol.value + step:#x}"):
        assert "@: 1" in lines(program, f"u:BIN:{place} {{ @ = count(); }}"), place
    if step > 1:
        with pytest.raises(HarkenError, match="middle of instruction"):
            resolve(parse(f"u:{program.path}:{symbol.name}+1"), _catalogue)
    with pytest.raises(HarkenError, match="outside the function bounds"):
        resolve(parse(f"u:{program.path}:{symbol.name}+{symbol.size}"), _catalogue)


def test_the_file_of_a_process_in_its_root(program: Program) -> None:
    text = f'uprobe:/proc/{program.pid}/root{program.path}:first {{ printf("%d\\n", arg0); }}'
    assert "3" in lines(program, text)
    for binary in ("*", "program"):
        assert "@: 1" in lines(program, f"uprobe:{binary}:first {{ @ = count(); }}", pid=program.pid), binary


def test_the_file_of_a_process_that_was_replaced(path: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copy(path, copy)
    program = Program(str(copy))
    try:
        program.once()  # it has begun: the copy is mapped
        copy.unlink()
        shutil.copy("/bin/true", copy)
        for binary in (str(copy), "*", ""):
            assert "by 5" in lines(program, f'u:{binary}:cpp:"house::Room::grow(int)" {{ printf("by %d\\n", arg1); }}', pid=program.pid)
    finally:
        program.process.communicate()


def test_returns(program: Program) -> None:
    assert "7" in lines(program, 'uretprobe:BIN:first { printf("%d\\n", retval); }')


@pytest.mark.parametrize("mechanism", [pytest.param(name, marks=pytest.mark.needs(name)) for name in ("uprobe_multi", "uprobe_tracefs")])
@pytest.mark.parametrize("filtered", [False, True])
def test_hundreds_at_once(mechanism: str, filtered: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than five hundred functions of libc are one program and one link; what this process calls is counted."""
    from harken.probes.providers.uprobe import Uprobe

    monkeypatch.setattr(Uprobe, "attachers", (mechanism,))
    library = next(path for path in _catalogue.process_binaries(os.getpid()) if path.rpartition("/")[2].startswith(("libc.so", "libc-")))
    pid = os.getpid() if filtered else -1

    def work() -> None:
        for _ in range(10):
            os.getppid()
            os.getpgid(0)

    text = f"uprobe:{library}:/^[a-km-oq-tw-z]/ /pid == {os.getpid()}/ {{ @ = count(); }}"
    _, session = run(text, work=work, pid=pid, max_probes=10000)
    (spec,) = session.unit.spec.programs
    (place,) = spec.attach
    assert place.mechanism == mechanism and session.attached >= 500
    assert session.kept["@"][0][1] >= 20 and not session.losses  # type: ignore[attr-defined]


@pytest.mark.needs("uprobe_multi")
def test_one_program_knows_which_place_was_hit() -> None:
    libraries = _catalogue.libraries("libc")
    if not libraries:
        pytest.skip("no libc found")
    libc = libraries[0]
    program = (
        f"uprobe:{libc}:getpgid,uprobe:{libc}:getsid,uretprobe:{libc}:getsid,uprobe:{libc}:getppid /pid == {os.getpid()}/ "
        "{ @[func] = count(); @p[probe] = count(); for ($i : 0..1) { @l[func, $i] = count(); } if (func == str($1)) { @same++ } }"
    )

    def work() -> None:
        for call in (os.getpgid, os.getsid, os.getsid):
            call(0)
        os.getppid()

    text, session = run(program, ("getsid",), work=work)
    assert len(session.unit.spec.programs) == 2  # of two kinds
    rows = {line.strip() for line in text.split("\n") if line}
    assert {"@[getpgid]: 1", "@[getppid]: 1", "@[getsid]: 4", "@same: 4", "@l[getsid, 0]: 4"} <= rows
    assert {f"@p[uprobe:{libc}:getsid]: 2", f"@p[uretprobe:{libc}:getsid]: 2", f"@p[uprobe:{libc}:getppid]: 1"} <= rows
