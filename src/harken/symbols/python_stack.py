"""Stacks of running CPython processes: functions, files and lines, read from outside without stopping or changing them.

``PythonStacks.stack(pid, tid)`` is what a traceback of the thread would show, the innermost frame first.  ``mixed`` puts these frames into
a native stack (``python_merge``).

The interpreter marks where a native frame of its loop begins: in 3.11 by ``is_entry`` in the first Python frame, later by a frame of its
own on the C stack, which is shown to nobody.

A process that runs on while it is read may be caught between two states; what makes no sense ends the stack.  Whatever is read is
bounded: it is the other process's memory, and it may hold anything.

Example::

    stacks = PythonStacks(kernel, Processes(kernel))
    for frame in stacks.stack(pid, tid):
        (frame.name, frame.file, frame.line)
"""

from __future__ import annotations

import struct

from ..base.record import Record
from ..kernel import procfs_process
from .model import PYTHON, Frame
from .python_lines import decode, line_at
from .python_memory import MemoryView, Unreadable
from .python_merge import merge
from .python_runtime import find_runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..kernel.kernel import Kernel
    from .model import Mapping
    from .processes import Processes
    from .python_runtime import Runtime

__all__ = ("PythonStacks", "PythonProcess", "PythonThread", "PythonCode", "frame_of")

#: Frames with this owner or a higher one stand for a native frame (FRAME_OWNED_BY_CSTACK in 3.12 and 3.13, since then
#: FRAME_OWNED_BY_INTERPRETER).
_OWNED_BY_C = 3
_MAX_INTERPRETERS, _MAX_THREADS = 1 << 10, 1 << 16
_MAX_NAME, _MAX_PATH, _MAX_TABLE = 1024, 4096, 1 << 20
_MAX_CODES = 1 << 16
#: Copies of a code object's code, one per thread (without the global lock).
_MAX_COPIES = 1 << 12
_MAX_FRAMES = 1 << 14


class PythonThread(Record):
    """A thread that has a Python state.

    Attributes:
        tid: its number in its own PID namespace; 0 if it has not started.
        interpreter: number of its interpreter; the main one is 0.
        groups: its frames, innermost first, one tuple for each native frame of the interpreter's loop; a group may be empty (the
            loop has just been entered).
        whole: whether the bottom of the stack was reached.
        marks: for each group, an address on the C stack inside of the native frame that runs it.
    """

    tid: int
    interpreter: int
    groups: tuple[tuple[Frame, ...], ...]
    whole: bool = True
    marks: tuple[int, ...] = ()

    @property
    def frames(self) -> list[Frame]:
        """All frames, innermost first."""
        return [frame for group in self.groups for frame in group]


class PythonCode:
    """What is kept of a code object; ``key`` tells whether another one lies at its address by now."""

    __slots__ = ("key", "name", "file", "first", "starts", "lines")

    def __init__(self, key: tuple[int, ...], name: str, file: str, first: int, table: bytes) -> None:
        self.key, self.name, self.file, self.first = key, name, file, first
        self.starts, self.lines = decode(table, first)


class PythonProcess:
    """One CPython process."""

    def __init__(self, kernel: Kernel, pid: int, runtime: Runtime) -> None:
        self._kernel, self.pid, self.runtime = kernel, pid, runtime
        self._codes: dict[int, PythonCode] = {}
        self._states: dict[int, int] = {}
        offsets = runtime.offsets
        self._offsets = offsets
        self._is_entry = offsets.get("is_entry", -1)
        self._cframe = offsets.get("cframe_frame", -1)
        self._tlbc = offsets.get("tlbc_index", 0) if runtime.free_threaded else 0
        # struct.unpack is not used on whole structs: their fields' places differ from version to version
        self._state_shift = 8 if runtime.free_threaded and runtime.version >= (3, 14) else 2

    def threads(self, limit: int = 1024) -> list[PythonThread]:
        """All threads with a Python state, with at most ``limit`` frames each; empty if the process is gone or makes no sense."""
        memory = MemoryView(self._kernel, self.pid)
        found = []
        self._states.clear()
        try:
            for interpreter, state in self._thread_states(memory):
                try:
                    thread = self._thread(memory, state, interpreter, limit)
                except Unreadable:
                    continue
                self._states[thread.tid] = state
                found.append(thread)
        except Unreadable:
            pass
        return found

    def thread(self, tid: int, limit: int = 1024) -> PythonThread | None:
        """The thread with this number (in its own PID namespace); None if it has no Python state."""
        memory = MemoryView(self._kernel, self.pid)
        state = self._states.get(tid)
        try:
            if state is not None and memory.word(state + self._offsets["native_thread_id"]) == tid:
                return self._thread(memory, state, -1, limit)
        except Unreadable:
            pass
        self._states.clear()
        only: tuple[int, int] | None = None
        try:
            for count, (interpreter, state) in enumerate(self._thread_states(memory)):
                number = memory.word(state + self._offsets["native_thread_id"])
                self._states[number] = state
                if number == tid:
                    return self._thread(memory, state, interpreter, limit)
                only = (interpreter, state) if count == 0 else None
            # a child of fork() that has not noted its new number
            return self._thread(memory, only[1], only[0], limit) if only is not None and tid == self.pid else None
        except Unreadable:
            return None

    def _thread_states(self, memory: MemoryView) -> Iterator[tuple[int, int]]:
        """(number of the interpreter, address of the thread state)."""
        offsets = self._offsets
        interpreter = memory.word(self.runtime.address + offsets["interpreters_head"])
        left = _MAX_THREADS
        for _ in range(_MAX_INTERPRETERS):
            if not interpreter:
                return
            number = int.from_bytes(memory.read(interpreter + offsets["interpreter_id"], 8), "little", signed=True)
            state = memory.word(interpreter + offsets["threads_head"])
            while state and left:
                left -= 1
                yield number, state
                state = memory.word(state + offsets["thread_next"])
            interpreter = memory.word(interpreter + offsets["interpreter_next"])

    def _thread(self, memory: MemoryView, state: int, interpreter: int, limit: int) -> PythonThread:
        offsets = self._offsets
        tid = memory.word(state + offsets["native_thread_id"])
        frame = memory.word(state + offsets["current_frame"])
        # 3.11 and 3.12: the state points to a struct on the C stack, and that to the frame
        control = 0
        if self._cframe >= 0 and frame:
            control = frame
            frame = memory.word(control + self._cframe)
        groups: list[tuple[Frame, ...]] = []
        marks: list[int] = []
        group: list[Frame] = []
        left = min(limit, _MAX_FRAMES)
        steps = _MAX_FRAMES
        whole = True
        size = offsets["frame_size"]
        previous_at, code_at, instr_at, owner_at = offsets["previous"], offsets["executable"], offsets["instr_ptr"], offsets["owner"]
        while frame:
            steps -= 1
            try:
                raw = memory.read(frame, size)
                if steps < 0 or not left:
                    raise Unreadable
                if self._is_entry < 0 and raw[owner_at] >= _OWNED_BY_C:
                    groups.append(tuple(group))
                    marks.append(frame)
                    group = []
                else:
                    group.append(self._frame(memory, raw, code_at, instr_at))
                    left -= 1
                    if self._is_entry >= 0 and raw[self._is_entry]:
                        groups.append(tuple(group))
                        marks.append(control)
                        group = []
                        # _PyCFrame.previous follows current_frame
                        control = memory.word(control + self._cframe + 8)
            except Unreadable:
                whole = False
                break
            (frame,) = struct.unpack_from("<Q", raw, previous_at)
        if group:
            groups.append(tuple(group))
        elif whole and len(groups) > 1 and not groups[-1]:
            groups.pop()  # since 3.15 every stack ends with a frame that is no loop's
        return PythonThread(tid, interpreter, tuple(groups), whole, tuple(marks[: len(groups)]))

    def _frame(self, memory: MemoryView, raw: bytes, code_at: int, instr_at: int) -> Frame:
        (executable,) = struct.unpack_from("<Q", raw, code_at)
        (instruction,) = struct.unpack_from("<Q", raw, instr_at)
        # since 3.14 the lowest bits tell how the reference is counted
        address = executable & ~7
        code = self.code(memory, address)
        base = address + self._offsets["co_code_adaptive"]
        if self._tlbc:
            # every thread runs its own copy of the code: co_tlbc -> {size, copies[]}
            (index,) = struct.unpack_from("<i", raw, self._tlbc)
            array = memory.word(address + self._offsets["co_tlbc"])
            if array and 0 <= index < memory.word(array):
                base = memory.word(array + 8 + 8 * index)
        return frame_of(code, instruction, base)

    def base(self, memory: MemoryView, address: int, instruction: int) -> int:
        """Where the code begins that an instruction of a code object belongs to; raises Unreadable."""
        base = address + self._offsets["co_code_adaptive"]
        if self._tlbc:
            # one of the copies, if the instruction is in none of the object itself
            array = memory.word(address + self._offsets["co_tlbc"])
            size = min(memory.word(array), _MAX_COPIES) if array else 0
            copies = [memory.word(array + 8 + 8 * index) for index in range(size)]
            base = max([copy for copy in (base, *copies) if copy <= instruction], default=base)
        return base

    def code(self, memory: MemoryView, address: int) -> PythonCode:
        """The code object at an address; raises Unreadable if there is none."""
        offsets = self._offsets
        raw = memory.read(address, offsets["code_size"])
        unpack = struct.unpack_from
        name, file, table = (unpack("<Q", raw, offsets[field])[0] for field in ("qualname", "filename", "linetable"))
        (first,) = unpack("<i", raw, offsets["firstlineno"])
        key = (name, file, table, first)
        known = self._codes.get(address)
        if known is not None and known.key == key:
            return known
        size = memory.word(table + offsets["bytes_length"])
        lines = memory.read(table + offsets["bytes_data"], size) if size <= _MAX_TABLE else b""
        code = PythonCode(key, self._string(memory, name, _MAX_NAME), self._string(memory, file, _MAX_PATH), first, lines)
        if len(self._codes) >= _MAX_CODES:
            self._codes.clear()
        self._codes[address] = code
        return code

    def is_ascii(self, state: int) -> bool:
        """Whether the bit field ``state`` of a str object tells of ASCII characters behind the object's head."""
        state = (state & 0xFFFFFFFF) >> self._state_shift
        return state & 7 == 1 and bool(state >> 3 & 1) and bool(state >> 4 & 1)

    def _string(self, memory: MemoryView, address: int, limit: int) -> str:
        """A str object; raises Unreadable if it is none."""
        offsets = self._offsets
        (state,) = struct.unpack_from("<I", memory.read(address + offsets["string_state"], 4))
        state >>= self._state_shift  # past the bits of interning
        kind, compact, ascii_only = state & 7, state >> 3 & 1, state >> 4 & 1
        length = memory.word(address + offsets["string_length"])
        if kind not in (1, 2, 4) or not compact or length > 1 << 32:
            raise Unreadable
        start = address + (offsets["string_ascii_size"] if ascii_only else offsets["string_compact_size"])
        data = memory.read(start, min(length, limit) * kind)
        return data.decode({1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}[kind], "replace")


def frame_of(code: PythonCode, instruction: int, base: int) -> Frame:
    """The frame at an instruction of a code object whose code begins at ``base``."""
    line = line_at(code.starts, code.lines, instruction - base)
    return Frame(instruction, code.name, 0, code.file, code.file, line or code.first, False, PYTHON)


class _Known:
    """What was found out about a process, and when that has to be done again."""

    __slots__ = ("started", "changes", "place", "process")

    def __init__(self, started: int | None, changes: int, place: Mapping | None, process: PythonProcess | None) -> None:
        self.started, self.changes, self.place, self.process = started, changes, place, process


class PythonStacks:
    """Python stacks of any number of processes.

    Args:
        processes: their mappings.
    """

    def __init__(self, kernel: Kernel, processes: Processes) -> None:
        self._kernel, self._processes = kernel, processes
        self._known: dict[int, _Known] = {}

    def process(self, pid: int) -> PythonProcess | None:
        """A process's CPython; None if it runs none that is known here."""
        known = self._known.get(pid)
        processes = self._processes
        if known is not None and known.changes == processes.changes(pid) and known.started == procfs_process.start_time(self._kernel, pid):
            return known.process
        started = procfs_process.start_time(self._kernel, pid)
        if known is not None and known.process is not None and known.started == started:
            # more code was mapped; another program was started only if the runtime's file lies there no more
            place = processes.find(pid, known.process.runtime.address)
            if place is not None and place == known.place:
                known.changes = processes.changes(pid)
                return known.process
        runtime = find_runtime(self._kernel, pid, processes) if started is not None else None
        found = PythonProcess(self._kernel, pid, runtime) if runtime is not None else None
        place = processes.find(pid, runtime.address) if runtime is not None else None
        self._known[pid] = _Known(started, processes.changes(pid), place, found)
        return found

    def thread(self, pid: int, tid: int, limit: int = 1024) -> PythonThread | None:
        """The Python state of a thread, by the number that it has here; None if it has none."""
        process = self.process(pid)
        if process is None:
            return None
        if self._processes.namespace_pid(pid) != pid:
            tid = procfs_process.namespace_pid(self._kernel, tid) or tid
        return process.thread(tid, limit)

    def stack(self, pid: int, tid: int, limit: int = 1024) -> list[Frame]:
        """The Python frames of a thread, innermost first; empty if it runs no Python."""
        thread = self.thread(pid, tid, limit)
        return thread.frames if thread is not None else []

    def mixed(self, pid: int, tid: int, native: Sequence[Frame], whole: bool = True, pointers: Sequence[int] = ()) -> list[Frame]:
        """A native stack with Python's frames in the place of the interpreter's; see ``merge``."""
        process = self.process(pid)
        thread = self.thread(pid, tid)
        if process is None or thread is None:
            return list(native)
        return merge(native, thread, whole, pointers, process.runtime.eval_ranges)
