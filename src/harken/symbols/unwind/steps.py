"""From rows of call frame information to steps: what an unwinder does at one program counter.

Nearly every frame of compiled code is found the same way: the CFA is the stack or frame pointer plus a constant, the return address and the
caller's frame pointer lie at constants from the CFA.  ``compile_row`` recognises those rows, and the unwinder then walks with three numbers
instead of a register file.  What does not fit (realigned stacks, signal frames, expressions) keeps its row and is interpreted.

A step is a tuple: (kind, CFA offset, return address's offset from the CFA, saved frame pointer's offset from the CFA or 0, FDE, row).
"""

from __future__ import annotations

from .cfi import OFFSET, SAME, UNDEFINED, Fde, Row
from .expression import evaluate, registers_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...formats.elf import Elf
    from .machines import Machine

    Step = tuple[int, int, int, int, Fde | None, Row | None]

__all__ = (
    "compile_row",
    "undescribed",
    "behind_system_call",
    "by_epilogue",
    "is_trampoline",
    "BY_SP",
    "BY_FP",
    "LEAF",
    "END",
    "GENERAL",
    "NO_CFI",
    "UNMAPPED",
    "SIGNAL",
    "NOWHERE",
    "SIGNAL_FRAME",
    "FP_CHAIN",
)

#: Kinds of steps.  BY_SP, BY_FP: the common case, the CFA from the stack or frame pointer.  LEAF: the same from the stack pointer, with the
#: return address still in its register.  END: the outermost frame.  GENERAL: to be interpreted.  NO_CFI: code that nobody
#: describes.  UNMAPPED: no code at all.  SIGNAL: a signal's frame, known by its code.
BY_SP, BY_FP, LEAF, END, GENERAL, NO_CFI, UNMAPPED, SIGNAL = range(8)
NOWHERE: Step = (UNMAPPED, 0, 0, 0, None, None)
SIGNAL_FRAME: Step = (SIGNAL, 0, 0, 0, None, None)
FP_CHAIN: Step = (NO_CFI, 0, 0, 0, None, None)

#: stack pointers to try expressions with, by the bytes of an address
_TRIALS = {8: (0x10000, 0x7FFF12345678, 0x7FFFFFFFE000), 4: (0x10000, 0x7FFF5678, 0xFFFFD000)}


def compile_row(machine: Machine, fde: Fde, row: Row, pc: int) -> Step:
    """The step for a row.

    Args:
        pc: the address at run time: some expressions ask for it (those of the procedure linkage table).
    """
    rules = row.rules
    ra_kind, ra_value = rules.get(fde.cie.ra, (SAME, 0))
    if ra_kind == UNDEFINED:
        return (END, 0, 0, 0, fde, row)
    general: Step = (GENERAL, 0, 0, 0, fde, row)
    register, offset = row.cfa_register, row.cfa_offset
    if row.cfa_expression:
        folded = _fold(machine, row.cfa_expression, pc)
        if folded is None:
            return general
        register, offset = machine.sp, folded
    unaligned = machine.word - 1
    if fde.signal or offset & unaligned:
        return general
    fp_kind, fp_value = rules.get(machine.fp, (SAME, 0))
    if fp_kind == OFFSET and isinstance(fp_value, int) and fp_value and not fp_value & unaligned:
        # At the end of an epilogue the row still names the slot, though the register was popped from it: the slot lies below
        # the stack pointer then, where no copy of the stack reaches, and the register holds what it held.
        saved_fp = fp_value if register != machine.sp or offset + fp_value >= 0 else 0
    elif fp_kind == SAME:
        saved_fp = 0
    else:
        return general
    if ra_kind == OFFSET and isinstance(ra_value, int) and not ra_value & unaligned:
        if register == machine.sp:
            return (BY_SP, offset, ra_value, saved_fp, fde, row)
        if register == machine.fp:
            return (BY_FP, offset, ra_value, saved_fp, fde, row)
    elif ra_kind == SAME and machine.link == fde.cie.ra and register == machine.sp:
        return (LEAF, offset, 0, saved_fp, fde, row)
    return general


def undescribed(machine: Machine, elf: Elf, address: int) -> Step:
    """The step for an instruction without call frame information, at which a thread was interrupted.

    Stubs of a procedure linkage table, and the first and last instructions of functions in assembly, have nothing on the stack but what
    the call put there; what tells them is the instruction itself.

    Args:
        address: in the file.
    """
    offset = elf.offset_of(address)
    code = bytes(elf.data[offset : offset + 4]) if offset is not None else b""
    if machine.name in _BARE_X86:
        return (BY_SP, machine.word, -machine.word, 0, None, None) if code.startswith(_BARE_X86[machine.name]) else FP_CHAIN
    word = int.from_bytes(code, "little")
    if any(word & mask == value for mask, value in _BARE_AARCH64):
        return (LEAF, 0, 0, 0, None, None)
    return FP_CHAIN


def by_epilogue(code: bytes) -> Step:
    """The step at a return address in code of x86-64 that nothing describes but its own end, if that follows.

    Trampolines and stubs that are made at run time (CPython's of ``-X perf``) do little more than call; where the next instructions take
    the frame from the stack and return, they tell where it lies.

    Args:
        code: what is there.

    Example:
        >>> by_epilogue(bytes.fromhex("4883c408c3"))[:4]  # add $8, %rsp; ret
        (0, 16, -8, 0)
        >>> by_epilogue(bytes.fromhex("5b5dc3"))[:4]  # pop %rbx; pop %rbp; ret
        (0, 24, -8, -16)
        >>> by_epilogue(bytes.fromhex("ffd0c3")) is FP_CHAIN
        True
    """
    place, size, saved_fp = 0, 0, -1
    while place < len(code) and size < 1 << 16:
        byte, rest = code[place], code[place : place + 3]
        if byte == 0xC3 or rest[:2] == b"\xf3\xc3":
            return (BY_SP, size + 8, -8, saved_fp - size - 8 if saved_fp >= 0 else 0, None, None)
        if rest == b"\x48\x83\xc4" and place + 4 <= len(code) and code[place + 3] < 128 and not code[place + 3] & 7:
            size, place = size + code[place + 3], place + 4
        elif rest == b"\x48\x81\xc4" and place + 7 <= len(code) and not code[place + 3] & 7:
            size, place = size + int.from_bytes(code[place + 3 : place + 7], "little"), place + 7
        elif 0x58 <= byte <= 0x5F and byte != 0x5C:
            saved_fp = size if byte == 0x5D else saved_fp
            size, place = size + 8, place + 1
        elif byte == 0x41 and len(rest) > 1 and 0x58 <= rest[1] <= 0x5F:
            size, place = size + 8, place + 2
        elif rest == b"\xc5\xf8\x77":  # vzeroupper
            place += 3
        else:
            break
    return FP_CHAIN


def behind_system_call(machine: Machine, elf: Elf, address: int) -> bool:
    """Whether the instruction before an address of the file is a system call."""
    for code in _SYSTEM_CALLS[machine.name]:
        offset = elf.offset_of(address - len(code))
        if offset is not None and bytes(elf.data[offset : offset + len(code)]) == code:
            return True
    return False


def is_trampoline(machine: Machine, elf: Elf, address: int) -> bool:
    """Whether code at an address of the file returns from a signal, and nothing but its two instructions tells it.

    arm64's [vdso] has described its trampoline wrongly, and no longer at all since Linux 5.8 (commit 87676cfca141).
    """
    if machine.name != "aarch64":
        return False
    offset = elf.offset_of(address & ~3)
    return offset is not None and any(bytes(elf.data[start : start + 8]) == _TRAMPOLINE for start in (offset, offset - 4))


#: mov x8, #139 (rt_sigreturn); svc #0
_TRAMPOLINE = b"\x68\x11\x80\xd2\x01\x00\x00\xd4"

#: syscall; svc #0; int $0x80, sysenter
_SYSTEM_CALLS = {"x86_64": (b"\x0f\x05",), "aarch64": (b"\x01\x00\x00\xd4",), "i686": (b"\xcd\x80", b"\x0f\x34", b"\x0f\x05")}

#: endbr64 or endbr32, a jump through memory (bnd or not; of position-independent 32-bit code by %ebx), push %rbp, ret; i386: mov (%esp) to
#: any register, by which such code learns where it is (__x86.get_pc_thunk.bx: that, and a return)
_BARE_X86 = {
    "x86_64": (b"\xf3\x0f\x1e\xfa", b"\xff\x25", b"\xf2\xff\x25", b"\x55", b"\xc3"),
    "i686": (b"\xf3\x0f\x1e\xfb", b"\xff\x25", b"\xff\xa3", b"\x55", b"\xc3", *(bytes((0x8B, 8 * n + 4, 0x24)) for n in range(8))),
}
#: adrp x16; ldr x17, [x16, N]; add x16, x16, N; autia1716; br x17; bti c; paciasp; ret
_BARE_AARCH64 = (
    (0x9F00001F, 0x90000010),
    (0xFFC003FF, 0xF9400211),
    (0xFF8003FF, 0x91000210),
    (0xFFFFFFFF, 0xD503219F),
    (0xFFFFFFFF, 0xD61F0220),
    (0xFFFFFFFF, 0xD503245F),
    (0xFFFFFFFF, 0xD503233F),
    (0xFFFFFFFF, 0xD65F03C0),
)


def _fold(machine: Machine, code: bytes, pc: int) -> int | None:
    """N, if an expression is the stack pointer + N at this program counter; else None."""
    if not registers_of(code) <= {machine.sp, machine.pc}:
        return None
    try:
        found = {evaluate(code, {machine.sp: sp, machine.pc: pc}.__getitem__, None, word=machine.word) - sp for sp in _TRIALS[machine.word]}
    except (LookupError, ValueError):
        return None
    return found.pop() if len(found) == 1 else None
