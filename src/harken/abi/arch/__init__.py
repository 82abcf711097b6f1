"""Machine facts: registers, argument order, system call numbers.

Example:
    >>> x86 = for_machine("x86_64")
    >>> x86.arguments[:3], x86.registers["di"], x86.syscalls["bpf"]
    (('di', 'si', 'dx'), 112, 321)
    >>> for_machine("arm64").name
    'aarch64'
"""

from __future__ import annotations

from ...base.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

__all__ = ("Arch", "MACHINES", "for_machine")

#: machines with tables here, by the name that uname(2) gives
MACHINES = ("x86_64", "aarch64")
_ALIASES = {"amd64": "x86_64", "x86-64": "x86_64", "arm64": "aarch64"}


class Arch:
    """One machine's facts.

    Attributes:
        name: as uname(2) says ("x86_64").
        elf_machine: EM_* number.
        registers: register name -> byte offset in ``struct pt_regs``.
        registers_size: bytes of that struct.
        perf_registers: register name -> bit of perf_event_attr.sample_regs_user.
        arguments: registers of a C function's integer arguments in order.
        syscall_arguments: registers of a system call's arguments in order.
        syscall_number: register of the system call's number.
        result, ip, sp, fp: registers of the return value, program counter, stack and frame pointer.
        link: register of the return address, or "" where it is on the stack.
        stack_arguments: bytes between the stack pointer at a function's entry and its first stack argument.
        syscall_prefix: prefix of the kernel functions behind system calls.
    """

    def __init__(self, facts: ModuleType) -> None:
        self.name: str = facts.NAME
        self.elf_machine: int = facts.ELF_MACHINE
        self.registers: dict[str, int] = facts.REGISTERS
        self.registers_size: int = facts.PT_REGS_SIZE
        self.perf_registers: dict[str, int] = facts.PERF_REGISTERS
        self.arguments: tuple[str, ...] = facts.ARGUMENTS
        self.syscall_arguments: tuple[str, ...] = facts.SYSCALL_ARGUMENTS
        self.syscall_number: str = facts.SYSCALL_NUMBER
        self.result: str = facts.RESULT
        self.ip: str = facts.IP
        self.sp: str = facts.SP
        self.fp: str = facts.FP
        self.link: str = facts.LINK
        self.stack_arguments: int = facts.STACK_ARGUMENTS
        self.syscall_prefix: str = facts.SYSCALL_PREFIX

        self._common: dict[str, int] = facts.COMMON_SYSCALLS

    def syscall(self, name: str) -> int:
        """The number of a system call; raises UsageError if the machine has none of that name."""
        number = self._common.get(name)
        if number is None:
            number = self.syscalls.get(name)
        if number is None:
            raise UsageError(f"{self.name} has no system call {name!r}")
        return number

    @property
    def syscalls(self) -> dict[str, int]:
        """System call name -> number (its module is imported on first use)."""
        if self.name == "x86_64":
            from .x86_64_syscalls import SYSCALLS
        else:
            from .aarch64_syscalls import SYSCALLS
        return SYSCALLS

    def __repr__(self) -> str:
        return f"<Arch {self.name}>"


_cache: dict[str, Arch] = {}


def for_machine(name: str) -> Arch:
    """The facts of a machine.

    Args:
        name: what uname(2) calls it; "amd64" and "arm64" are understood too.

    Raises:
        UsageError: for a machine that harken has no tables for.
    """
    name = _ALIASES.get(name, name)
    if name not in _cache:
        if name == "x86_64":
            from . import x86_64 as facts
        elif name == "aarch64":
            from . import aarch64 as facts  # type: ignore[no-redef]
        else:
            raise UsageError(f"no register and system call tables for machine {name!r}", f"harken knows {' and '.join(MACHINES)}")
        _cache[name] = Arch(facts)
    return _cache[name]
