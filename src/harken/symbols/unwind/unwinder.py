"""User stacks without frame pointers, from a sample's registers and a copy of the top of its stack.

``Unwinder.unwind`` gives the addresses of a stack, the innermost first: the program counter, then return addresses as the stack holds them.
Call frame information of the files (.eh_frame, .debug_frame) tells how to get from each frame to its caller; code that nobody describes
(made at run time, or assembly) is crossed by the frame pointer where that leads to code.

What is found out about a program counter is kept per process, so that a sample costs about a microsecond per frame.

A stack ends where the files say so (``_start``, the start of a thread), at the end of the copy, at ``limit``, or where nothing tells the
way: ``Walk.end`` names the reason.

Example::

    unwinder = Unwinder("x86_64", processes)
    for sample in sampler:
        addresses = unwinder.unwind(sample.pid, sample.registers, sample.stack)
"""

from __future__ import annotations

from ...base.errors import FormatError
from ...base.record import Record
from . import cfi
from .code import Code
from .expression import evaluate
from .machines import RA_SIGN_STATE, for_machine, narrow
from .steps import BY_FP, BY_SP, END, LEAF, NO_CFI, SIGNAL, UNMAPPED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping as Dict

    from .code import Mappings, OpenFile, ProcessCode

    Memory = Callable[[int, int], bytes | None]

__all__ = ("Unwinder", "Walk", "COMPLETE", "TRUNCATED", "LIMIT", "LOST")

#: Values of ``Walk.end``: the outermost frame was reached; the copy of the stack ended; ``limit`` frames were found; nothing tells the way.
COMPLETE, TRUNCATED, LIMIT, LOST = "complete", "truncated", "limit", "lost"


#: From the start of arm64's struct rt_sigframe to the registers x0 to x30, sp and pc: siginfo (128 bytes), the head of ucontext (168, and 8
#: for alignment), the fault's address.  DWARF numbers them in the same order.
_ARM64_REGISTERS = 128 + 176 + 8


class Walk(Record):
    """A stack and how it ended.

    Attributes:
        addresses: as ``Unwinder.unwind`` gives them.
        exact: indexes of the addresses that are instructions (the first, and those that a signal interrupted); the others are return
            addresses, whose call lies before them.
        end: "complete", "truncated", "limit" or "lost".
        pointers: the stack pointer in each frame, if that was asked for; a frame's memory reaches up to its caller's.
    """

    addresses: list[int]
    exact: tuple[int, ...] = (0,)
    end: str = COMPLETE
    pointers: tuple[int, ...] = ()


class Unwinder:
    """Unwinds stacks of any number of processes.

    Args:
        machine: "x86_64" or "aarch64": where the stacks were recorded.  32-bit processes of x86-64 are told by their registers.
        processes: ``symbols.processes.Processes``, live or with what a recording tells.
        open_file: (pid, mapping) -> Elf or None; without it files are opened as ``unwind.files`` says.
        memory: (address, size) -> bytes or None for memory of the process beyond the copied stack, if it can still be read.
    """

    def __init__(self, machine: str, processes: Mappings, open_file: OpenFile | None = None, memory: Memory | None = None) -> None:
        self.machine = for_machine(machine)
        if open_file is None:
            from .files import Files

            open_file = Files(processes).open
        self._code = Code(self.machine, processes, open_file)
        self._memory = memory
        self._narrow: Unwinder | None = None
        self._sources = (processes, open_file, memory)

    def forget(self, pid: int) -> None:
        """Its mappings have changed (a library was unloaded, another program started)."""
        self._code.forget(pid)
        if self._narrow is not None:
            self._narrow.forget(pid)

    def unwind(self, pid: int, registers: Dict[str, int], stack: bytes | memoryview, limit: int = 127) -> list[int]:
        """The addresses of a stack, the innermost first.

        Args:
            registers: name ("ip", "sp", "bp", "r12", ...; arm64: "pc", "sp", "lr", "x29", ...) -> value.  x86-64: a "cs" of 0x23, or
                "bits" of 32, means a 32-bit process.
            stack: the memory from the stack pointer upwards.
            limit: most addresses.

        Returns:
            The program counter and return addresses; empty if there is no program counter.
        """
        return self.walk(pid, registers, stack, limit).addresses

    def walk(self, pid: int, registers: Dict[str, int], stack: bytes | memoryview, limit: int = 127, pointers: bool = False) -> Walk:
        """Like ``unwind``, with how the stack ended, and where its frames lie (``pointers``; that takes longer)."""
        machine = self.machine
        other = narrow(machine, registers)
        if other:
            if self._narrow is None:
                self._narrow = Unwinder(other, *self._sources)
            return self._narrow.walk(pid, {name: value & 0xFFFFFFFF for name, value in registers.items()}, stack, limit, pointers)
        pc = _get(registers, machine.names[machine.pc])
        sp = _get(registers, "sp")
        if pc is None or sp is None or limit < 1:
            return Walk([], (), LOST)
        process = self._code.process(pid)
        if not pointers:
            addresses, end, general = self._quick(pid, process, pc, sp, registers, stack, limit)
            if not general:
                return Walk(addresses, (0,), end)
        walk, places = self._slow(pid, process, registers, stack, limit)
        return walk.replace(pointers=tuple(places)) if pointers else walk

    # -- the common case: three numbers instead of a register file

    def _quick(
        self, pid: int, process: ProcessCode, pc: int, sp: int, registers: Dict[str, int], stack: bytes | memoryview, limit: int
    ) -> tuple[list[int], str, bool]:
        """(addresses, end, whether the stack has to be interpreted instead)."""
        machine = self.machine
        addresses = [pc]
        unaligned, shift = (7, 3) if machine.word == 8 else (3, 2)
        if sp & unaligned:
            return addresses, LOST, True
        fp = _get(registers, machine.names[machine.fp]) or 0
        link = (_get(registers, machine.names[machine.link]) or 0) if machine.link >= 0 else 0
        strip = machine.address_bits < 64
        words = memoryview(stack)[: len(stack) & ~unaligned].cast("B").cast("Q" if shift == 3 else "I")
        base, count = sp, len(words)
        calls, add = process.calls, addresses.append
        step = process.exact.get(pc) or self._code.step(pid, process, pc, True)
        while True:
            kind, offset, ra, saved_fp, _, _ = step
            if kind == BY_SP:
                cfa = sp + offset
            elif kind == BY_FP:
                cfa = fp + offset
                if (cfa - base) & unaligned:
                    return addresses, LOST, False
            elif kind == LEAF and link:
                cfa = sp + offset
            elif kind == END:
                return addresses, COMPLETE, False
            else:
                return addresses, LOST, True
            if cfa < sp or (cfa == sp and kind != LEAF):
                return addresses, LOST, False  # a stack does not grow downwards
            place = (cfa - base) >> shift
            if kind == LEAF:
                pc, link = link, 0
            else:
                index = place + (ra >> shift)
                if not 0 <= index < count:
                    return addresses, TRUNCATED, self._memory is not None
                pc = words[index]
                link = 0
            if saved_fp:
                index = place + (saved_fp >> shift)
                if not 0 <= index < count:
                    return addresses, TRUNCATED, self._memory is not None
                fp = words[index]
            sp = cfa
            if strip:
                pc = machine.strip(pc, process.bits)
            if not pc:
                return addresses, COMPLETE, False
            found = calls.get(pc)
            if found is None:
                found = self._code.step(pid, process, pc, False)
            step = found
            if step[0] == UNMAPPED:
                return addresses, LOST, False
            if len(addresses) >= limit:
                return addresses, LIMIT, False
            add(pc)

    # -- everything else: all registers

    def _slow(
        self, pid: int, process: ProcessCode, registers: Dict[str, int], stack: bytes | memoryview, limit: int
    ) -> tuple[Walk, list[int]]:
        """The walk, and the stack pointers of its frames."""
        machine = self.machine
        values = {machine.numbers[name]: value for name, value in registers.items() if name in machine.numbers}
        memory = self._reader(values[machine.sp], bytes(stack))
        pc = values[machine.pc]
        addresses, pointers = [pc], [values[machine.sp]]
        exact, exact_here = [0], True
        end = LIMIT
        while True:
            steps = process.exact if exact_here else process.calls
            kind, offset, _, saved_fp, fde, row = steps.get(pc) or self._code.step(pid, process, pc, exact_here)
            if kind == UNMAPPED and len(addresses) > 1:
                del addresses[-1], pointers[-1]
                if exact[-1] == len(addresses):
                    exact.pop()
                end = LOST
                break
            if kind == END:
                end = COMPLETE
                break
            before = values[machine.sp]
            try:
                if kind == SIGNAL:
                    following = self._by_context(values, memory)
                elif kind == BY_SP and fde is None and not exact_here:  # code that is known by its end (``steps.by_epilogue``)
                    cfa = before + offset
                    following = values | {machine.sp: cfa, machine.pc: memory(cfa - machine.word, machine.word)}
                    if saved_fp:
                        following[machine.fp] = memory(cfa + saved_fp, machine.word)
                elif fde is None or row is None:
                    following = self._by_frame_pointer(process, values, memory, exact_here and kind != NO_CFI)
                else:
                    following = self._apply(fde, row, values, memory)
            except _Outside:
                end = TRUNCATED
                break
            except (LookupError, ValueError, FormatError):
                end = LOST
                break
            exact_here = kind == SIGNAL or fde is not None and fde.signal
            target = machine.strip(following.get(machine.pc, 0), process.bits)
            following[machine.pc] = target
            if not target:
                end = COMPLETE
                break
            after = following[machine.sp]
            if after < before and not exact_here or after == before and target == pc:
                end = LOST  # only a signal changes to another stack, and a frame is not its own caller
                break
            if len(addresses) >= limit:
                break
            if exact_here:
                exact.append(len(addresses))
            values, pc = following, target
            addresses.append(pc)
            pointers.append(after)
        return Walk(addresses, tuple(exact), end), pointers

    def _reader(self, base: int, data: bytes) -> Callable[[int, int], int]:
        """Reads the copy of the stack, and what else of the process's memory can be read; raises _Outside."""

        def memory(address: int, size: int) -> int:
            offset = address - base
            if 0 <= offset <= len(data) - size:
                return int.from_bytes(data[offset : offset + size], "little")
            more = self._memory(address, size) if self._memory is not None else None
            if more is None or len(more) != size:
                raise _Outside
            return int.from_bytes(more, "little")

        return memory

    def _apply(self, fde: cfi.Fde, row: cfi.Row, values: dict[int, int], memory: Callable[[int, int], int]) -> dict[int, int]:
        """The caller's registers."""
        machine = self.machine
        word = machine.word
        if row.cfa_expression:
            cfa = evaluate(row.cfa_expression, values.__getitem__, memory, word=word)
        else:
            cfa = (values[row.cfa_register] + row.cfa_offset) & machine.mask
        following = dict(values)
        following[machine.sp] = cfa
        ra = fde.cie.ra
        if machine.link < 0:
            following.pop(ra, None)
        for number, (kind, value) in row.rules.items():
            if number == RA_SIGN_STATE and machine.link >= 0:
                continue
            if isinstance(value, bytes):
                place = evaluate(value, values.__getitem__, memory, cfa, word=word)
                following[number] = memory(place, word) if kind == cfi.EXPRESSION else place
            elif kind == cfi.OFFSET:
                place = (cfa + value) & machine.mask
                # below the stack pointer, at the end of an epilogue: popped from there already, and what lies there now is later
                if place >= values[machine.sp] or number == ra:
                    following[number] = memory(place, word)
            elif kind == cfi.VALUE_OFFSET:
                following[number] = (cfa + value) & machine.mask
            elif kind == cfi.REGISTER:
                following[number] = values[value]
            elif kind == cfi.UNDEFINED:
                following.pop(number, None)
        following[machine.pc] = following[ra]
        if ra == machine.link and not fde.signal and row.rules.get(ra, (cfi.SAME, 0))[0] == cfi.SAME:
            # a second frame that still has its return address in the register would be the same frame again
            following.pop(ra, None)
        return following

    def _by_context(self, values: dict[int, int], memory: Callable[[int, int], int]) -> dict[int, int]:
        """The registers that a signal interrupted: arm64's struct rt_sigframe lies at the stack pointer (arch/arm64/kernel/signal.c)."""
        start = values[self.machine.sp] + _ARM64_REGISTERS
        return {number: memory(start + 8 * number, 8) for number in range(self.machine.pc + 1)}

    def _by_frame_pointer(
        self, process: ProcessCode, values: dict[int, int], memory: Callable[[int, int], int], jumped: bool
    ) -> dict[int, int]:
        """The caller's registers by the convention that the frame pointer points to the saved frame pointer and the return address.

        Args:
            jumped: the function has only been called and has done nothing yet (also where a call through a bad pointer led nowhere).
        """
        machine = self.machine
        word = machine.word
        following = dict(values)
        if jumped:
            if machine.link >= 0:
                following[machine.pc] = following.pop(machine.link)
            else:
                following[machine.pc] = memory(values[machine.sp], word)
                following[machine.sp] = values[machine.sp] + word
            return following
        fp = values[machine.fp]
        if fp < values[machine.sp] or fp & (word - 1):
            raise ValueError("not a frame pointer")
        target = machine.strip(memory(fp + word, word), process.bits)
        if process.at(target) is None:
            raise ValueError("the frame pointer does not lead to code")
        return {machine.fp: memory(fp, word), machine.sp: fp + 2 * word, machine.pc: target}


class _Outside(Exception):
    """A frame lies beyond the copy of the stack."""


def _get(registers: Dict[str, int], name: str) -> int | None:
    value = registers.get(name)
    return registers.get(_ALIASES.get(name, "")) if value is None else value


_ALIASES = {"lr": "x30", "ip": "rip", "sp": "rsp", "bp": "rbp"}
