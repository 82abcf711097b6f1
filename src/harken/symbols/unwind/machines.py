"""Registers as DWARF numbers them, for the machines whose stacks can be unwound.

A perf sample names registers as the kernel does ("bx", "x19"), call frame information numbers them as the machine's ABI supplement does.
32-bit processes of an x86-64 kernel are a machine of their own, "i686", whose registers are named alike.

References: System V ABI, AMD64 supplement, figure 3.36, Intel386 supplement, figure 2.14; DWARF for the Arm 64-bit Architecture
(aadwarf64), section 4.1.

Example:
    >>> machine = for_machine("x86_64")
    >>> machine.numbers["bp"], machine.sp, machine.ra, machine.names[12]
    (6, 7, 16, 'r12')
    >>> narrow = for_machine("i686")
    >>> narrow.numbers["bp"], narrow.sp, narrow.ra, narrow.word
    (5, 4, 8, 4)
    >>> for_machine("arm64").strip(0x002F_AAAA_BBBB_CCCC) == 0xAAAA_BBBB_CCCC
    True
"""

from __future__ import annotations

from ...abi.arch import for_machine as _arch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("Machine", "for_machine", "narrow", "RA_SIGN_STATE")

#: arm64's pseudo register that tells whether the return address is signed (aadwarf64, DWARF number 34)
RA_SIGN_STATE = 34

_NAMES = {
    "x86_64": ("ax", "dx", "cx", "bx", "si", "di", "bp", "sp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "ip"),
    "aarch64": (*(f"x{number}" for number in range(30)), "lr", "sp", "pc"),
    "i686": ("ax", "cx", "dx", "bx", "sp", "bp", "si", "di", "ip"),
}
_MORE_NAMES = {
    "x86_64": {f"r{name}": name for name in ("ax", "dx", "cx", "bx", "si", "di", "bp", "sp", "ip")},
    "aarch64": {"x30": "lr"},
    "i686": {f"e{name}": name for name in ("ax", "dx", "cx", "bx", "si", "di", "bp", "sp", "ip")},
}
#: 32-bit processes -> whose kernel they run on
_HOSTS = {"i686": "x86_64"}
#: x86: the code segment of 32-bit processes (arch/x86/include/asm/segment.h, __USER32_CS)
_USER32_CS = 0x23


class Machine:
    """One machine.

    Attributes:
        name: as uname(2) says.
        word: bytes of an address; ``mask`` has the bits of one.
        names: DWARF number -> name of the register in a perf sample.
        numbers: name (or alias) -> DWARF number.
        pc, sp, fp: DWARF numbers of the program counter, stack and frame pointer.
        ra: the column in which call frame information states the return address.
        link: number of the register that holds a leaf function's return address; -1 if the call pushes it.
        perf_mask: ``sample_regs_user`` that takes all of these registers.
        perf_order: names of the registers in the order in which a sample carries them.
        address_bits: user addresses have no bits above (they would be a pointer authentication code).
    """

    def __init__(self, name: str) -> None:
        arch = _arch(_HOSTS.get(name, name))
        self.name = name if name in _HOSTS else arch.name
        self.word = 4 if name in _HOSTS else 8
        self.mask = (1 << 8 * self.word) - 1
        self.names = _NAMES[self.name]
        self.numbers = {register: number for number, register in enumerate(self.names)}
        self.numbers.update({alias: self.numbers[register] for alias, register in _MORE_NAMES[self.name].items()})
        self.pc = len(self.names) - 1
        self.sp = self.numbers["sp"]
        self.fp = self.numbers[arch.fp]
        self.link = self.numbers[arch.link] if arch.link else -1
        self.ra = self.link if self.link >= 0 else self.pc
        bits = arch.perf_registers
        self.perf_order = tuple(sorted(self.names, key=bits.__getitem__))
        self.perf_mask = sum(1 << bits[register] for register in self.names)
        self.address_bits = 48 if arch.name == "aarch64" else 64

    def strip(self, address: int, bits: int = 0) -> int:
        """An address without its pointer authentication code; ``bits`` where the process uses more than 48."""
        return address & ((1 << max(self.address_bits, bits)) - 1)


def narrow(machine: Machine, registers: Mapping[str, int]) -> str:
    """The 32-bit machine whose registers a sample of a 64-bit kernel holds, "" if they are its own.

    Args:
        registers: with ``cs``, or with ``bits`` (32) where a recording says so.
    """
    if machine.name == "x86_64" and (registers.get("bits") == 32 or registers.get("cs") == _USER32_CS):
        return "i686"
    return ""


def for_machine(name: str) -> Machine:
    """The machine called ``name`` (uname's name or an alias); raises UsageError if there is no table for it."""
    return Machine(name)
