"""What is said when a uprobe names a function or a file that is not there."""

from __future__ import annotations

from typing import Any

import pytest

from harken.base.errors import FormatError, SourceError
from harken.formats.elf import Elf
from harken.probes import providers
from harken.symbols import demangle
from harken.testing.elf_builder import ElfBuilder
from harken.testing.fake_kernel import FakeKernel


def _program() -> ElfBuilder:
    made = ElfBuilder()
    names = ("main", "fn_01", "_ZN2ns3BoxIiLi4EEltERKS1_", "_ZN2ns12_GLOBAL__N_16hiddenEi", "_ZN2ns4overEi", "_ZN2ns3BoxIiLi4EE3getERKii")
    for number, name in enumerate(names):
        made.function(name, 0x401000 + 32 * number, 16)
    return made.symbol("usleep", 0, 0, 0x12, 0, dynamic=True)


FILES = {
    "/bin/program": _program().build(),
    "/bin/bare": ElfBuilder().function("_init", 0x401000, 8, dynamic=True).build(),
    "/lib/libc.so.6": ElfBuilder().function("usleep", 0x401000, 8, dynamic=True).build(),
    "/bin/script": b"#!/usr/bin/env python3 -x\nprint()\n",
    "/lib/libc.so": b"/* GNU ld script */\nGROUP ( /lib/libc.so.6 )\n",
    "/lib/libx.a": b"!<arch>\n",
    "/bin/text": b"hello",
}


class Catalogue:
    def __init__(self) -> None:
        self.kernel = FakeKernel(files=dict(FILES))

    def binary(self, path: str) -> Elf:
        return Elf(FILES[path], path)

    def binaries(self, name: str, pid: int = -1) -> list[str]:
        return [path for path in FILES if path == name]

    def libraries(self, name: str) -> list[str]:
        return [path for path in FILES if path.rpartition("/")[2] == name]


def said(text: str) -> tuple[str, str]:
    catalogue: Any = Catalogue()
    with pytest.raises(SourceError) as caught:
        providers.resolve(providers.parse(text), catalogue)
    return caught.value.diagnostics[0].message, caught.value.diagnostics[0].hint


READABLE = pytest.mark.skipif(not demangle.available(), reason="the library demangle is not installed")


@pytest.mark.parametrize(
    "target, hint",
    [
        ("fn_02", "did you mean uprobe:/bin/program:fn_01?"),
        ("fn_0[12]*", "uprobe:/bin/program:/^fn_0[12].*$/"),
        ('"ns::over(int)"', 'uprobe:/bin/program:cpp:"ns::over(int)"'),
        ("usleep", "uprobe:libc.so.6:usleep"),
        pytest.param('cpp:"operator<"', 'uprobe:/bin/program:cpp:"ns::Box<int, 4>::operator<"', marks=READABLE),
        pytest.param('cpp:"hidden"', 'uprobe:/bin/program:cpp:"ns::(anonymous namespace)::hidden"', marks=READABLE),
        pytest.param('cpp:"Box::get(int)"', 'uprobe:/bin/program:cpp:"ns::Box<int, 4>::get"', marks=READABLE),
        pytest.param('cpp:"ns::ovr"', 'uprobe:/bin/program:cpp:"ns::over"', marks=READABLE),
        ("/nothing/", "harken list"),
    ],
)
def test_functions_that_are_not_there(monkeypatch: pytest.MonkeyPatch, target: str, hint: str) -> None:
    monkeypatch.setattr("harken.formats.elf_dynamic.needed", lambda elf: ("libmissing.so.1", "libc.so.6"))
    message, found = said(f"uprobe:/bin/program:{target}")
    assert message.startswith("No matches for uprobe /bin/program:") and hint in found


def test_a_stripped_file() -> None:
    assert "stripped" in said("uprobe:/bin/bare:cfun")[1] and "_init" in said("uprobe:/bin/bare:_inti")[1]


def test_a_damaged_table_of_libraries_is_no_error_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(elf: Elf) -> tuple[str, ...]:
        raise FormatError(elf.what, "damaged", 0)

    monkeypatch.setattr("harken.formats.elf_dynamic.needed", damaged)
    assert "harken list" in said("uprobe:/bin/program:usleep")[1]


@pytest.mark.parametrize(
    "path, hint", [("/bin/script", "python3"), ("/lib/libc.so", "linker"), ("/lib/libx.a", "archive"), ("/bin/text", "")]
)
def test_files_that_are_no_programs(path: str, hint: str) -> None:
    message, found = said(f"uprobe:{path}:f")
    assert message == f"uprobe target file '{path}' cannot be read: not an ELF file at byte 0x0"
    assert hint in found and bool(hint) == bool(found)


@READABLE
@pytest.mark.parametrize(
    "target, count", [("ns::Box::operator<", 1), ("ns::Box<int,4>::operator<", 1), ("ns::over( int )", 1), ("ns::Box<int, 4>::get", 1)]
)
def test_operators_and_blanks(target: str, count: int) -> None:
    catalogue: Any = Catalogue()
    assert len(providers.resolve(providers.parse(f'uprobe:/bin/program:cpp:"{target}"'), catalogue)) == count


def test_markers_of_a_file_that_has_none() -> None:
    message, hint = said("usdt:/bin/program:libc:setjmp")
    assert message == "No matches for usdt /bin/program:libc:setjmp." and "/bin/program has no markers at all" in hint
