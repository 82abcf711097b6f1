"""The code of processes: what an unwinder does at a program counter, found out once per address.

``Code.process(pid)`` is what is known of one process; ``Code.step(...)`` finds the file behind an address, its call frame information,
and the step (``unwind.steps``).  What is known is dropped when the mappings of the process change.
"""

from __future__ import annotations

from bisect import bisect_right

from ...base.errors import HarkenError
from .frame_table import FrameTable
from .steps import FP_CHAIN, NOWHERE, SIGNAL_FRAME, behind_system_call, by_epilogue, compile_row, is_trampoline, undescribed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from ...formats.elf import Elf
    from ...kernel.kernel import Kernel
    from ..model import Mapping
    from .machines import Machine
    from .steps import Step

    class Mappings(Protocol):
        """What is asked of ``symbols.processes.Processes``."""

        kernel: Kernel | None

        def mappings(self, pid: int) -> Sequence[Mapping]: ...
        def find(self, pid: int, address: int) -> Mapping | None: ...
        def changes(self, pid: int) -> int: ...
        def root(self, pid: int) -> str: ...

    OpenFile = Callable[[int, Mapping], Elf | None]


__all__ = ("Code", "ProcessCode")

_MAX_CACHE = 1 << 18
_MAX_FILES = 4096
#: Bytes of code in which a function that was made at run time has to return.
_EPILOGUE = 32


class ProcessCode:
    """What is known of one process: its code, and the steps at addresses seen so far (``exact``: instructions, ``calls``: return
    addresses)."""

    __slots__ = ("maps", "starts", "exact", "calls", "bits", "changes")

    def __init__(self, maps: Sequence[Mapping], changes: int) -> None:
        self.exact: dict[int, Step] = {}
        self.calls: dict[int, Step] = {}
        self.look(maps, changes)

    def look(self, maps: Sequence[Mapping], changes: int) -> None:
        self.changes = changes
        self.exact.clear()
        self.calls.clear()
        self.maps = sorted((m for m in maps if m.executable), key=lambda m: m.start)
        self.starts = [m.start for m in self.maps]
        self.bits = max((m.end - 1).bit_length() for m in self.maps) if self.maps else 0

    def at(self, address: int) -> Mapping | None:
        place = bisect_right(self.starts, address) - 1
        return self.maps[place] if place >= 0 and address < self.maps[place].end else None


class Code:
    """The code of any number of processes; see ``Unwinder`` for the arguments."""

    def __init__(self, machine: Machine, processes: Mappings, open_file: OpenFile) -> None:
        self._machine, self._processes, self._open_file = machine, processes, open_file
        self._known: dict[int, ProcessCode] = {}
        self._tables: dict[tuple[str, int, str, str], tuple[Elf, FrameTable] | None] = {}

    def forget(self, pid: int) -> None:
        """Drops what is known of a process."""
        self._known.pop(pid, None)

    def process(self, pid: int) -> ProcessCode:
        """What is known of a process; anew if its mappings have changed."""
        process = self._known.get(pid)
        if process is None or process.changes != self._processes.changes(pid):
            if len(self._known) >= _MAX_FILES:
                self._known.clear()
            maps = self._processes.mappings(pid)
            process = self._known[pid] = ProcessCode(maps, self._processes.changes(pid))
        return process

    def step(self, pid: int, process: ProcessCode, pc: int, exact: bool) -> Step:
        """The step at an address that was not seen before."""
        steps = process.exact if exact else process.calls
        if len(steps) >= _MAX_CACHE:
            steps.clear()
        # a return address may be the first one behind a function that does not return
        lookup = pc if exact else pc - 1
        mapping = process.at(lookup)
        if mapping is None:
            # code may have been mapped since
            mapping = self._processes.find(pid, lookup)
            if mapping is not None and not mapping.executable:
                mapping = None
            if process.changes != self._processes.changes(pid):
                process.look(self._processes.mappings(pid), self._processes.changes(pid))
        if mapping is None:
            return NOWHERE
        step = steps[pc] = self._compile(pid, mapping, lookup, pc, exact)
        return step

    def _compile(self, pid: int, mapping: Mapping, lookup: int, pc: int, exact: bool) -> Step:
        opened = self._table(pid, mapping)
        if opened is None:
            return FP_CHAIN if exact else self._generated(pid, mapping, pc)
        elf, table = opened
        try:
            address = elf.address_of(mapping.file_offset(lookup))
            if address is None:
                return FP_CHAIN
            # a signal handler returns to the first instruction of code that was never called
            if is_trampoline(self._machine, elf, address if exact else address + 1):
                return SIGNAL_FRAME
            fde = table.find(address)
            if fde is None and not exact:
                fde = table.find(address + 1)
                if fde is None or not fde.signal:
                    return FP_CHAIN
                address += 1
            if fde is None and exact and behind_system_call(self._machine, elf, address):
                # one that does not return (rt_sigreturn, exit): the registers are those of the call
                address -= 1
                fde = table.find(address)
            if fde is None:
                return undescribed(self._machine, elf, address) if exact else FP_CHAIN
            return compile_row(self._machine, fde, fde.row(address), pc)
        except HarkenError:
            return FP_CHAIN

    def _generated(self, pid: int, mapping: Mapping, pc: int) -> Step:
        """The step at a return address in code that was made at run time."""
        kernel, path = self._processes.kernel, mapping.path
        made = not path.startswith("/") or path.startswith(("//", "/memfd:", "/dev/zero", "/SYSV")) or path.endswith(".dump")
        if kernel is None or self._machine.name != "x86_64" or not made:
            return FP_CHAIN
        from ..python_memory import MemoryView, Unreadable

        try:
            return by_epilogue(MemoryView(kernel, pid).read(pc, _EPILOGUE))
        except Unreadable:
            return FP_CHAIN

    def _table(self, pid: int, mapping: Mapping) -> tuple[Elf, FrameTable] | None:
        private = not mapping.path.startswith("/")
        key = (mapping.path, mapping.inode or (pid if private else 0), mapping.device, mapping.build_id)
        if key not in self._tables:
            if len(self._tables) >= _MAX_FILES:
                self._tables.clear()
            try:
                elf = self._open_file(pid, mapping)
            except HarkenError:
                elf = None
            self._tables[key] = None if elf is None or elf.machine_name != self._machine.name else (elf, FrameTable(elf))
        return self._tables[key]
