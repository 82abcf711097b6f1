"""USDT arguments from note to value: every form of operand on both machines, compiled and run in the interpreter of BPF programs."""

from __future__ import annotations

import struct
import sys
from typing import Any

import pytest

from harken.abi.arch import for_machine
from harken.base.diagnostics import Source
from harken.base.errors import HarkenError
from harken.compiler.target import EVERYTHING
from harken.compiler.unit import Unit
from harken.formats.elf import Elf
from harken.languages.bpftrace.compile import Options, compile
from harken.testing.elf_builder import ElfBuilder
from harken.testing.interpreter import Interpreter

sys.path.insert(0, __file__.rsplit("/", 1)[0])
from language_machine import Catalogue, Ran  # noqa: E402

BASE = 0x401000
HEAP = 0x7F00_0000_0000


class Machine(Catalogue):
    """A catalogue with one program, whose markers are given as (name, address, arguments)."""

    def __init__(self, machine: str, *markers: tuple[str, int, str], kind: int = 2) -> None:
        super().__init__()
        narrow = machine == "i686"  # 32-bit programs on x86-64
        machine = "x86_64" if narrow else machine
        self.kernel.machine = machine
        builder = ElfBuilder(bits=32 if narrow else 64, machine=3 if narrow else for_machine(machine).elf_machine, base=BASE)
        builder.section(".got.plt", bytes(16), address=BASE + 0x700)
        builder.symbol("counter", BASE + 0x800, 8, 0x11, 1).function("f", BASE + 0x10, 16)
        for name, address, arguments in markers:
            builder.marker("prov", name, address, arguments)
        raw = bytearray(builder.build())
        struct.pack_into("<H", raw, 16, kind)  # e_type: 2 always loaded at the same address, 3 anywhere
        self.elf = Elf(bytes(raw), "/bin/app")
        self.features.target = lambda: (machine, EVERYTHING)  # type: ignore[method-assign]

    def binaries(self, name: str, pid: int = -1) -> list[str]:
        return ["/bin/app"] if name == "/bin/app" else []

    def binary(self, path: str) -> Elf:
        return self.elf


def unit(catalogue: Machine, program: str) -> Unit:
    return compile(Source("stdin", program), catalogue, Options())  # type: ignore[arg-type]


def value(machine: str, operand: str, registers: dict[str, int], memory: dict[int, bytes] | None = None, kind: int = 2) -> int:
    """What ``arg0`` is for one operand."""
    arch = for_machine("x86_64" if machine == "i686" else machine)
    context = bytearray(arch.registers_size)
    for name, number in registers.items():
        struct.pack_into("<Q", context, arch.registers[name], number & (1 << 64) - 1)
    made = unit(Machine(machine, ("m", BASE + 0x10, operand), kind=kind), 'usdt:/bin/app:m { printf("%lld\\n", arg0); }')
    interpreter = Interpreter(made.spec)
    interpreter.memory = dict(memory or {})
    (program,) = made.spec.programs
    interpreter.run(program.name, bytes(context))
    return int(Ran(made, interpreter).text)


@pytest.mark.parametrize(
    "operand,expected",
    [
        ("8@%rdi", 0x1122334455667788),
        ("4@%edi", 0x55667788),
        ("-4@%edi", 0x55667788),
        ("-4@%esi", -2),
        ("4@%esi", 0xFFFFFFFE),
        ("-2@%si", -2),
        ("-1@%dil", -0x78),
        ("1@%dil", 0x88),
        ("1@%ah", 0xAB),
        ("-1@%ah", 0xAB - 256),
        ("4@%al", 0xCD),  # the register is narrower than the size that is stated
        ("-4@$-7", -7),
        ("4@$-1", 0xFFFFFFFF),
        ("-1@$255", -1),
        ("8@(%rbx)", 0x0807060504030201),
        ("-2@7(%rbx)", -0x7FF8),
        ("4@-8(%rbx,%rcx,4)", 0x04030201),
        ("1@(,%rcx,2)", 0x33),
        ("8@counter(%rip)", 77),
        ("8@counter", 77),
        ("8@$counter+4", BASE + 0x804),
    ],
)
def test_operands_of_x86(operand: str, expected: int) -> None:
    registers = {"di": 0x1122334455667788, "si": -2, "ax": 0x99AB_00000000ABCD, "bx": HEAP, "cx": 2}
    memory = {HEAP: bytes((1, 2, 3, 4, 5, 6, 7, 8, 0x80, 9)), 4: b"\x33", BASE + 0x800: struct.pack("<Q", 77)}
    assert value("x86_64", operand, registers, memory) == expected


def test_variables_of_programs_that_are_loaded_anywhere() -> None:
    """Only the probed instruction's own address is known then; the marker is at +0x10, the variable at +0x800."""
    memory = {HEAP + 0x800: struct.pack("<q", -5)}
    assert value("x86_64", "-8@counter(%rip)", {"ip": HEAP + 0x10}, memory, kind=3) == -5
    assert value("x86_64", "8@$counter", {"ip": HEAP + 0x10}, kind=3) == HEAP + 0x800


LOW = 0xFFFF_D000


@pytest.mark.parametrize(
    "operand,expected",
    [
        ("-4@%esi", -2),
        ("4@%esi", 0xFFFFFFFE),
        ("-8@%ecx", 0x00401700_FFFFFFFE),  # the upper half in %ebx
        ("-8@%esi", -0x3_0000_0002),
        ("4@4(%esp)", 0x08070605),
        ("-1@9(%esp)", 9),
        ("8@(%esp)", 0x0807060504030201),
        ("4@12(%esp,%ecx,4)", 0x08070605),  # the sum wraps at 32 bits, whatever lies in the upper halves
        ("-4@counter@GOTOFF(%ebx)", -7),  # position-independent: from the global offset table
        ("-4@4+counter@GOTOFF(%ebx,%edi)", -7),
        ("-4@counter", -7),
        ("4@$counter", BASE + 0x800),
    ],
)
def test_operands_of_i386(operand: str, expected: int) -> None:
    garbage = 0xABC << 32
    registers = {"si": 0xFFFFFFFE, "sp": LOW, "cx": 0xFFFFFFFE | garbage, "bx": BASE + 0x700 | garbage, "di": 0xFFFFFFFC}
    memory = {LOW: bytes((1, 2, 3, 4, 5, 6, 7, 8, 0x80, 9)), BASE + 0x800: struct.pack("<i", -7)}
    assert value("i686", operand, registers, memory) == expected


def test_arguments_of_32_bit_functions_lie_on_the_stack() -> None:
    catalogue = Machine("i686")
    arch = for_machine("x86_64")
    context = bytearray(arch.registers_size)
    struct.pack_into("<Q", context, arch.registers["sp"], LOW)
    struct.pack_into("<Q", context, arch.registers["di"], 99)
    made = unit(catalogue, 'uprobe:/bin/app:f { printf("%d %d\\n", arg0, arg1); }')
    interpreter = Interpreter(made.spec)
    interpreter.memory = {LOW: struct.pack("<4i", BASE, -5, 77, 0)}
    interpreter.run(made.spec.programs[0].name, bytes(context))
    assert Ran(made, interpreter).text == "-5 77\n"


@pytest.mark.parametrize(
    "operand,expected",
    [
        ("8@x0", 0x1122334455667788),
        ("-4@w1", -2),
        ("4@w1", 0xFFFFFFFE),
        ("1@x0", 0x88),
        ("-4@5", 5),
        ("-4@-5", -5),
        ("4@wzr", 0),
        ("8@[x2]", 0x0807060504030201),
        ("-2@[x2, 7]", -0x7FF8),
        ("4@[sp, 16]", 0x04030201),
        ("1@[x2, x3]", 3),
        ("1@[x2, x3, lsl 1]", 5),
        ("1@[x4, w1, sxtw 1]", 1),
        ("1@[x2, w5, uxtw]", 3),
    ],
)
def test_operands_of_arm64(operand: str, expected: int) -> None:
    registers = {"x0": 0x1122334455667788, "x1": -2, "x2": HEAP, "x3": 2, "x4": HEAP + 4, "x5": 0xFFFFFFFF_00000002, "sp": HEAP - 16}
    assert value("aarch64", operand, registers, {HEAP: bytes((1, 2, 3, 4, 5, 6, 7, 8, 0x80, 9))}) == expected


def test_places_with_other_operands_get_programs_of_their_own() -> None:
    catalogue = Machine(
        "x86_64", ("m", BASE + 0x10, "8@%rdi"), ("m", BASE + 0x20, "8@%rsi"), ("m", BASE + 0x30, "8@%rdi"), ("n", BASE + 0x40, "8@%rdi")
    )
    made = unit(catalogue, "usdt:/bin/app:m { @[arg0] = count(); }")
    places = sorted(tuple(offset - 4096 for offset in place.target[2]) for program in made.spec.programs for place in program.attach)
    assert places == [(0x10, 0x30), (0x20,)]
    assert len(unit(catalogue, "usdt:/bin/app:m { @ = count(); }").spec.programs) == 1
    assert len(unit(catalogue, "usdt:/bin/app:* { @[arg0] = count(); }").spec.programs) == 2


@pytest.mark.parametrize(
    "operand,why",
    [("8f@%xmm0", "floating-point register xmm0"), ("8@%fs:8", "is not understood"), ("8@nowhere(%rip)", "nowhere cannot be found")],
)
def test_what_cannot_be_read_is_an_error_only_if_it_is_used(operand: str, why: str) -> None:
    catalogue = Machine("x86_64", ("m", BASE + 0x10, f"{operand} 8@%rdi"))
    assert unit(catalogue, "usdt:/bin/app:m { @ = arg1; }").spec.programs
    with pytest.raises(HarkenError, match=f"arg0 cannot be read: .*{why}"):
        unit(catalogue, "usdt:/bin/app:m { @ = arg0; }")
    with pytest.raises(HarkenError, match="arg2 is out of range: there are 2"):
        unit(catalogue, "usdt:/bin/app:m { @ = arg2; }")


def test_attributes_of_markers_without_arguments() -> None:
    catalogue: Any = Machine("x86_64", ("m", BASE + 0x10, ""))
    assert unit(catalogue, "usdt:/bin/app:prov:m { @[probe] = count(); }").spec.programs
    with pytest.raises(HarkenError, match="arg0"):
        unit(catalogue, "usdt:/bin/app:m { @ = arg0; }")
