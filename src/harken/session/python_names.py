"""Names for the Python frames that programs send: which process runs which CPython, and what its code objects are called.

A program of ``ustack(python)`` follows frames by itself once it knows where a process keeps them (``compiler.builtins.python_frames``).
``PythonNames`` tells it that of every CPython process that it hears of, and keeps name, file and lines of the code objects that the program
sends when it meets them first; what was too long to be sent, or is no ASCII text, is read from the process.

A code object may be freed and another one take its place.  Of running processes that is looked for again when a name is asked for: then the
new one counts from now on, and that stacks that were counted before may have been the old one's is told as a loss.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from time import monotonic

from ..base.errors import KernelError
from ..compiler.builtins.python_frames import FIELDS
from ..kernel import procfs_process
from ..symbols.model import PYTHON, Frame
from ..symbols.python_lines import line_at
from ..symbols.python_memory import MemoryView, Unreadable
from ..symbols.python_runtime import find_runtime
from ..symbols.python_stack import PythonCode, PythonProcess, frame_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..kernel.bpf import Map
    from ..kernel.kernel import Kernel
    from ..symbols.processes import Processes

__all__ = ("PythonNames",)

#: The PID namespace that numbers of threads in the kernel belong to (PROC_PID_INIT_INO, include/linux/proc_ns.h).
_FIRST_NAMESPACE = 0xEFFFFFFC
#: Code objects that are kept, and seconds for which one is believed to be still there.
_MOST_CODES, _BELIEVED = 1 << 18, 0.5
#: Seconds for which a process is looked at again that has just mapped an interpreter's file but shows no runtime yet.  Its loader needs
#: well below a millisecond to map the rest, and a short script not many to run: look soon, then ever less often.
_SOONEST, _LATEST = 0.001, 0.4
#: Seconds between two searches for ended processes when the program's map is full.
_SWEEP = 1.0


class _Kept:
    """A code object and when it was seen there last."""

    __slots__ = ("code", "seen_at")

    def __init__(self, code: PythonCode, seen_at: float) -> None:
        self.code, self.seen_at = code, seen_at


class PythonNames:
    """CPython processes and their code objects.

    Args:
        processes: the mappings of processes.
        table: the programs' map ``PROCESSES``.

    Attributes:
        late: processes whose first stacks are missing: the program met them before they were known, or too many run at once.
        reused: code objects in whose place another one was found.
    """

    def __init__(self, kernel: Kernel, processes: Processes, table: Map) -> None:
        self._kernel, self._processes, self._table = kernel, processes, table
        self._known: dict[int, PythonProcess] = {}
        self._codes: dict[tuple[int, int], _Kept] = {}
        #: process -> when it was noticed, and when to look at it next
        self._again: dict[int, tuple[float, float]] = {}
        self.late = self.reused = 0
        self._sweep_at = 0.0

    # -- processes

    def noticed(self, pid: int) -> None:
        """A process that may run CPython: it has mapped a file of that name, or it is a child of one that does."""
        if not self.look(pid):
            now = monotonic()
            self._again[pid] = now, now + _SOONEST

    def asked(self, pid: int) -> None:
        """The program has met a process that it does not know."""
        if pid not in self._known:
            self.late += self.look(pid)

    def look(self, pid: int) -> bool:
        """Looks for CPython in a process and tells the program; false if there is none."""
        self._processes.refresh(pid)
        runtime = find_runtime(self._kernel, pid, self._processes, loop=False)
        if runtime is None:
            return False
        before = self._known.get(pid)
        if before is None or before.runtime != runtime:
            self._known[pid] = PythonProcess(self._kernel, pid, runtime)
            if before is not None:  # another program now, or another process of that number
                for key in [key for key in self._codes if key[0] == pid]:
                    del self._codes[key]
        device = inode = 0
        try:
            state = os.stat(f"/proc/{pid}/ns/pid")
        except OSError:
            return True
        if state.st_ino != _FIRST_NAMESPACE:
            device, inode = state.st_dev, state.st_ino
        found = {
            **runtime.offsets,
            "runtime": runtime.address,
            "indirect": "cframe_frame" in runtime.offsets,
            "device": device,
            "inode": inode,
        }
        self._tell(pid, struct.pack(f"={len(FIELDS)}Q", *[found.get(name, 0) for name in FIELDS]))
        self._again.pop(pid, None)
        return True

    def _tell(self, pid: int, value: bytes) -> None:
        """Puts a process into the program's map; where that is full, those that have ended make room."""
        key = struct.pack("=I", pid)
        if self._put(key, value):
            return
        now = monotonic()
        if now >= self._sweep_at:
            self._sweep_at = now + _SWEEP
            for other, _ in self._table.items():
                if procfs_process.start_time(self._kernel, int.from_bytes(other, sys.byteorder)) is None:
                    self._table.delete(other)
            if self._put(key, value):
                return
        self.late += 1

    def _put(self, key: bytes, value: bytes) -> bool:
        """False if the map is full."""
        try:
            self._table.update(key, value)
        except KernelError as error:
            if error.errno != errno.E2BIG:
                raise
            return False
        return True

    def look_again(self) -> None:
        """Looks at processes that had only begun."""
        for pid, (noticed, due) in list(self._again.items()):
            now = monotonic()
            if now >= due and not self.look(pid):
                self._again[pid] = noticed, now + max(_SOONEST, (now - noticed) / 2)
                if now > noticed + _LATEST:
                    del self._again[pid]

    @property
    def pause(self) -> float:
        """Seconds after which to ``look_again``; 0: there is no need."""
        if not self._again:
            return 0.0
        return max(_SOONEST, min([due for _, due in self._again.values()]) - monotonic())

    # -- code objects

    def met(
        self, pid: int, address: int, name: int, path: int, table: int, length: int, first: int, name_state: int, path_state: int,
        name_text: str, path_text: str, lines: bytes,
    ) -> None:  # fmt: skip
        """The program has met a code object for the first time; the arguments are the fields of ``python_code``."""
        process = self._known.get(pid)
        if process is None:
            return
        kept = self._codes.pop((pid, address), None)
        if kept is not None:  # the program has forgotten that it told
            self.reused += kept.code.key != (name, path, table, _signed(first))
        if process.is_ascii(name_state) and process.is_ascii(path_state) and len(lines) == length:
            first = _signed(first)
            self._keep(pid, address, PythonCode((name, path, table, first), name_text, path_text, first, bytes(lines)), monotonic())
        else:
            self._code(MemoryView(self._kernel, pid), pid, address)

    def _keep(self, pid: int, address: int, code: PythonCode, now: float) -> None:
        if len(self._codes) >= _MOST_CODES:
            self._codes.clear()
        self._codes[pid, address] = _Kept(code, now)

    def _code(self, memory: MemoryView, pid: int, address: int) -> PythonCode | None:
        kept, now = self._codes.get((pid, address)), monotonic()
        if kept is not None and now - kept.seen_at < _BELIEVED:
            return kept.code
        try:
            code = self._known[pid].code(memory, address)
        except (Unreadable, struct.error):
            return kept.code if kept is not None else None  # the process is gone
        if kept is not None:
            self.reused += kept.code.key != code.key
            kept.code, kept.seen_at = code, now
            return code
        self._keep(pid, address, code, now)
        return code

    def merged(self, pid: int, pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """The pairs with the first instruction of each line: those of one line are the same to a reader.

        CPython replaces instructions by faster ones while they run, which changes what a frame points to.
        """
        process = self._known.get(pid)
        if process is None:
            return list(pairs)
        memory = MemoryView(self._kernel, pid)
        found = []
        for executable, instruction in pairs:
            address = executable & ~7
            code = self._code(memory, pid, address)
            if code is not None:
                base = self._base(process, memory, address, instruction)
                line = line_at(code.starts, code.lines, instruction - base)
                if line in code.lines:
                    instruction = base + code.starts[code.lines.index(line)]
            found.append((address, instruction))
        return found

    def frames(self, pid: int, pairs: Sequence[tuple[int, int]]) -> list[Frame]:
        """The frames for (code object, instruction) pairs; what is not known keeps its address and has no name."""
        process = self._known.get(pid)
        if process is None:
            return [Frame(instruction, kind=PYTHON) for _, instruction in pairs]
        memory = MemoryView(self._kernel, pid)
        found = []
        for executable, instruction in pairs:
            address = executable & ~7
            code = self._code(memory, pid, address)
            if code is None:
                found.append(Frame(instruction, kind=PYTHON))
                continue
            found.append(frame_of(code, instruction, self._base(process, memory, address, instruction)))
        return found

    @staticmethod
    def _base(process: PythonProcess, memory: MemoryView, address: int, instruction: int) -> int:
        try:
            return process.base(memory, address, instruction)
        except Unreadable:
            return instruction


def _signed(word: int) -> int:
    """The int in the lower half of a word."""
    return (word & 0xFFFFFFFF ^ 0x80000000) - 0x80000000
