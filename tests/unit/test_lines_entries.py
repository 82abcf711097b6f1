"""symbols.lines_entries: which pieces of a line are reached first, in code written by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harken.symbols import lines_entries
from harken.symbols.lines import LineTable
from harken.symbols.lines_entries import reached_first

#: cmp edi, 1; jg 10; A: xor eax, eax; B: xor ecx, ecx; ret; 6 bytes of padding; C (10): xor edx, edx; jmp B
X86 = bytes.fromhex("83ff01 7f0b 31c0 31c9 c3 660f1f440000 31d2 ebf3")
#: cmp w0, 1; b.gt 18; A (8): mov w1, 0; B (c): mov w2, 0; ret; nop; C (18): mov w3, 0; b B
WORDS = (0x7100041F, 0x540000AC, 0x52800001, 0x52800002, 0xD65F03C0, 0xD503201F, 0x52800003, 0x17FFFFFC)
ARM64 = b"".join([word.to_bytes(4, "little") for word in WORDS])


@pytest.mark.parametrize(
    "machine, code, places",
    [("x86_64", X86, (0x5, 0x7, 0x10)), ("aarch64", ARM64, (0x8, 0xC, 0x18))],
)
def test_copies_of_a_line_and_pieces_behind_them(machine: str, code: bytes, places: tuple[int, int, int]) -> None:
    base = 0x401000
    first, behind, copy = (base + place for place in places)

    def found(*wanted: int) -> list[int]:
        return reached_first(machine, [(base, code)], wanted)

    assert found(first, behind, copy) == [first, copy]  # what is behind both is reached through one of them
    assert found(first, behind) == [first, behind]  # the other way leads past the first
    assert found(behind, copy) == [behind, copy] and found(copy) == [copy] and found() == []
    assert found(base, behind, copy) == [base]


def test_tables_of_jumps_and_landing_pads() -> None:
    # jmp *rax; padding; A: nop-free piece; ret; B: the same; ret
    table = bytes.fromhex("3effe0 cccc 31c0 c3 90 31c9 c3")
    assert reached_first("x86_64", [(0, table)], [5, 9]) == [5, 9]
    # ret; a piece that only an exception reaches
    pad = bytes.fromhex("31c0 c3 31c9 c3 31d2 c3")
    assert reached_first("x86_64", [(0, pad)], [0, 3]) == [0]
    assert reached_first("x86_64", [(0, pad)], [3, 6]) == [3, 6]


class Counted(list[int]):
    """Tells how often it was gone through."""

    times = 0

    def __iter__(self) -> Iterator[int]:
        self.times += 1
        return super().__iter__()


def test_code_of_nothing_but_computed_jumps_takes_one_step_for_each() -> None:
    code = b"\xff\xe0" * 100
    jumps, begins = lines_entries._x86_jumps(0, code)
    computed = Counted(begins)
    found = lines_entries._walk([(0, len(code), jumps, begins)], [0], computed, [198])
    assert found == [198] and len(jumps) == 100 and len(computed) == 99 and computed.times == 1


def test_a_part_that_lies_elsewhere() -> None:
    # je cold; A: xor eax, eax; ret; cold: B: xor ecx, ecx; jmp A
    hot = bytes.fromhex("0f84 fa0f0000 31c0 c3")
    cold = bytes.fromhex("31c9 e9 fff0ffff")
    code = [(0x1000, hot), (0x2000, cold)]
    assert reached_first("x86_64", code, [0x1006, 0x2000]) == [0x1006, 0x2000]
    assert reached_first("x86_64", code, [0x1000, 0x2000]) == [0x1000]


def test_code_that_is_not_understood() -> None:
    for machine in ("x86_64", "aarch64"):
        assert reached_first(machine, [(0, b"\x06" * 64)], [4, 8]) == [4]
    assert reached_first("riscv64", [(0, bytes(64))], [4, 8]) == [4]
    assert reached_first("x86_64", [(0, bytes(1 << 20))], [4, 8]) == [4]
    assert reached_first("x86_64", [(0, b""), ((1 << 64) - 4, b"\xeb\x7f\x70\x80")], [4, 8]) == [4]


def test_a_function_of_many_large_parts_is_not_copied() -> None:
    class Untouched:
        def offset_of(self, address: int) -> int:
            raise AssertionError("it was looked for")

    table = object.__new__(LineTable)
    table._program_file = Untouched()  # type: ignore[assignment]
    assert table._reached_first([(0x1000, 0x1000 + lines_entries.LARGEST)] * 2, [0x1000, 0x1004]) == [0x1000]
