"""Names for the stacks and symbols of a program while it is traced.

Records and maps hold addresses.  ``SessionSymbols`` is what ``render.stacks`` asks for names and what library users get their frames from:
it keeps one ``Symbolizer``, and where the program takes addresses of processes, a ``Follower`` of their mappings.  A session makes one
only if its program has stacks or symbols; nothing of ``symbols`` is imported before the first name is asked for.
"""

from __future__ import annotations

import struct

from ..render.stacks import EXACT, bound, mixed_words, needs_names, python_words, unwound
from .stack_values import Stack, has_user, merging, noting, processes_of, unwinding, value_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ..base.schema import Buffer
    from ..compiler.unit import Event, Table, Unit
    from ..kernel.bpf import Map
    from ..kernel.kernel import Kernel
    from ..symbols.model import Frame
    from ..symbols.symbolizer import Symbolizer
    from ..symbols.unwind.unwinder import Unwinder, Walk
    from .ledger import Loss
    from .local_tables import LocalTable
    from .mappings import Follower
    from .python_names import PythonNames
    from .tables import TableReader

__all__ = ("SessionSymbols", "Stack", "symbols_for", "value_of", "noting", "unwinding", "merging")

#: Seconds for which running processes are looked at for CPython before tracing begins.
_LOOK_FOR_PYTHON = 1.0
#: Seconds between two looks at processes that were there before tracing began.
_PAUSE = 0.02
#: Frames of a stack that names no limit (compiler.builtins.stacks), and of any unless kernel.perf_event_max_stack was raised.
_DEFAULT_LIMIT = 127


def symbols_for(unit: Unit, kernel: Kernel, settings: dict[str, Any]) -> SessionSymbols | None:
    """Symbols for a program, None if it shows none."""
    schemas = [event.schema for event in unit.events] + [part for table in unit.tables for part in (table.key, table.value)]
    if not any([needs_names(schema) for schema in schemas]):
        return None
    return SessionSymbols(kernel, settings, any([has_user(schema) for schema in schemas]))


class SessionSymbols:
    """One session's symbols.

    Args:
        kernel: the running kernel.
        settings: the program's config: ``cpp_demangle`` (on), ``show_debug_info`` (lines and inlined functions, off: reading debug
            information takes time).
        user: whether the program takes addresses of processes.
    """

    def __init__(self, kernel: Kernel, settings: dict[str, Any], user: bool) -> None:
        self._kernel, self._settings, self._user = kernel, settings, user
        self._symbolizer: Symbolizer | None = None
        self.follower: Follower | None = None
        self._readers: list[TableReader | LocalTable] = []
        self._seen: set[int] = set()
        self._cut: dict[str, int] = {}
        #: who knows CPython processes, if the program asks for their frames
        self.python: PythonNames | None = None
        self._unwinder: Unwinder | None = None
        self._registers: list[tuple[str, int]] = []
        self._registers_size = 0
        #: stacks that were not unwound to their end, by reason
        self._ended: dict[str, int] = {}
        self._longest = -1

    # -- life
    def events(self, events: Sequence[Event]) -> tuple[Event, ...]:
        """The program's events, whose stacks and symbols have names."""
        return tuple([event.replace(schema=bound(event.schema, self)) for event in events])

    def table(self, table: Table) -> Table:
        """The same for a map."""
        return table.replace(key=bound(table.key, self), value=bound(table.value, self))

    def follow(self, pid: int, readers: Sequence[TableReader | LocalTable]) -> None:
        """Begins to note the mappings of processes.

        Args:
            pid: the only process that is traced, or -1.
            readers: the program's maps.
        """
        self._readers = [reader for reader in readers if has_user(reader.table.key) or has_user(reader.table.value)]
        if self._user:
            from .mappings import Follower

            self.follower = Follower(self._kernel, pid, self._wanted)

    def follow_python(self, table: Map) -> None:
        """Begins to tell the program of CPython processes; ``table`` is the map it looks into."""
        from .python_names import PythonNames

        self.python = PythonNames(self._kernel, self.symbolizer.processes, table)
        if self.follower is not None:
            self.follower.look(_LOOK_FOR_PYTHON)  # before the first stack is taken
        self._look_for_python()

    def _look_for_python(self) -> None:
        assert self.python is not None
        self.python.look_again()
        if self.follower is not None:
            for pid in self.follower.take_python():
                self.python.noticed(pid)

    def drain(self, idle: bool = False) -> None:
        """Takes what the kernel has told of processes; if there is nothing else to do, looks at some that were there before."""
        if self.follower is not None:
            self.follower.drain()
            if idle:
                self.follower.look()
        if self.python is not None:
            self._look_for_python()

    @property
    def fds(self) -> tuple[int, ...]:
        """Readable when there is something to ``drain``."""
        return self.follower.fds if self.follower is not None else ()

    @property
    def resting(self) -> float:
        """Seconds for which ``fds`` should not be waited for."""
        return self.follower.resting if self.follower is not None else 0.0

    @property
    def pause(self) -> float:
        """Seconds after which ``drain`` has more to do although ``fds`` tell nothing; 0: it has not."""
        pause = self.python.pause if self.python is not None else 0.0
        return pause or (_PAUSE if self.follower is not None and self.follower.unfinished else 0.0)

    def losses(self) -> list[Loss]:
        """What is not known of processes that may have been asked for, and which stacks go on where they end."""
        from .ledger import Loss

        follower = self.follower
        cut = [Loss("cut", role, count) for role, count in self._cut.items()]
        cut += [Loss(reason, "ustack(dwarf)", count) for reason, count in self._ended.items()]
        if self.python is not None:
            cut += [Loss("late", "ustack(python)", self.python.late)] if self.python.late else []
            cut += [Loss("reused", "ustack(python)", self.python.reused)] if self.python.reused else []
        if follower is None:
            return cut
        lost = cut + ([Loss("mappings", "the kernel's buffer", follower.lost)] if follower.lost else [])
        return lost + ([Loss("mappings", "processes that have ended", follower.dropped)] if follower.dropped else [])

    def close(self) -> None:
        """Ends following and gives back what is held of containers; names can be asked for all the same."""
        if self.follower is not None:
            self.follower.close()
            self.follower.release()
        if self._symbolizer is not None:
            self._symbolizer.close()

    def _wanted(self) -> set[int]:
        """The processes that the program's maps mention."""
        found: set[int] = set()
        for reader in self._readers:
            for key, value in reader.rows():
                found.update(processes_of(reader.table.key, key))
                if reader.table.kind == "value":
                    found.update(processes_of(reader.table.value, value))
        return found

    # -- names (render.stacks.Names)
    @property
    def symbolizer(self) -> Symbolizer:
        """Made when it is first asked for."""
        if self._symbolizer is None:
            from ..symbols.symbolizer import Symbolizer

            debug = bool(self._settings.get("show_debug_info", False))
            self._symbolizer = Symbolizer(self._kernel, demangle=bool(self._settings.get("cpp_demangle", True)), lines=debug, inlines=debug)
        return self._symbolizer

    def kernel(self, address: int) -> Frame:
        return self.symbolizer.kernel(address)

    def kernel_stack(self, addresses: Sequence[int]) -> list[Frame]:
        if len(addresses) >= _DEFAULT_LIMIT:
            self._count_cut("kstack", len(addresses))
        return self.symbolizer.stack(-1, addresses, user=False)

    def user(self, pid: int, address: int) -> Frame:
        self.seen(pid)
        symbolizer = self.symbolizer
        frame = symbolizer.user(pid, address)[-1]
        if not frame.name and self._news(pid):
            frame = symbolizer.user(pid, address)[-1]
        return frame

    def user_stack(self, pid: int, addresses: Sequence[int]) -> list[Frame]:
        self.seen(pid)
        if len(addresses) >= _DEFAULT_LIMIT:
            self._count_cut("ustack", len(addresses))
        symbolizer = self.symbolizer
        frames = symbolizer.stack(pid, addresses)
        if any([not frame.module for frame in frames]) and self._news(pid):
            frames = symbolizer.stack(pid, addresses)
        return frames

    def merged_python(self, raw: bytes) -> bytes:
        """A Python stack whose frames point to the first instruction of their lines."""
        if self.python is None:
            return raw
        pid, words = python_words(raw)
        new = b"".join([struct.pack("=QQ", *pair) for pair in self.python.merged(pid, words)])
        return raw[:8] + new + bytes(len(raw) - 8 - len(new))

    def python_stack(self, raw: Buffer) -> list[Frame]:
        """The frames of a Python stack as programs send it."""
        return self._python_frames(*python_words(raw))

    def _python_frames(self, pid: int, pairs: Sequence[tuple[int, int]]) -> list[Frame]:
        if self.python is None:
            from ..symbols.model import PYTHON, Frame

            return [Frame(instruction, kind=PYTHON) for _, instruction in pairs]
        return self.python.frames(pid, pairs)

    def unwound_stack(self, raw: Buffer) -> list[Frame]:
        """The frames of a stack that was unwound."""
        pid, addresses, exact = unwound(raw)
        self.seen(pid)
        return self._native_frames(pid)(addresses, exact)

    def _native_frames(self, pid: int) -> Callable[[Sequence[int], Sequence[int]], list[Frame]]:
        def found(addresses: Sequence[int], exact: Sequence[int]) -> list[Frame]:
            frames = self.symbolizer.stack(pid, addresses, exact=exact)
            if any([not frame.module for frame in frames]) and self._news(pid):
                frames = self.symbolizer.stack(pid, addresses, exact=exact)
            return frames

        return found

    def unwind(self, raw: Buffer, limit: int, machine: str, pairs: int) -> bytes:
        """Finds the frames of a copied stack (``compiler.builtins.copied_stack``).

        Args:
            limit: frames, at most.
            machine: where it was copied.
            pairs: the place for Python's frames in it; 0: it has none.

        Returns:
            u64 process id, then the frames.  Without Python's: u64 addresses; those that are instructions and no return addresses, but
            for the first, have ``EXACT`` set.  With them: u64 code object and u64 instruction of Python's, 0 and such an address of
            the others.
        """
        data, head = bytes(raw), 8 + 16 * pairs
        pid = int.from_bytes(data[:4], "little")
        # else: a kernel thread, or a process whose stack is not in memory
        walk = self._walk(pid, data, head, limit, machine, bool(pairs)) if len(data) > head else None
        addresses = walk.addresses if walk is not None else []
        for place in walk.exact if walk is not None else ():
            if place:
                addresses[place] |= EXACT
        start = data[:4] + bytes(4)
        if not pairs:
            return start + struct.pack(f"={len(addresses)}Q", *addresses)
        from .mixed_stacks import merged_words, python_groups

        groups, marks = python_groups(data)
        if self.python is not None:
            groups = [self.python.merged(pid, group) for group in groups]
        merged = merged_words(addresses, groups, marks, walk.pointers if walk is not None else ())[:limit]
        return start + b"".join([struct.pack("=QQ", *pair) for pair in merged])

    def _walk(self, pid: int, data: bytes, head: int, limit: int, machine: str, pointers: bool) -> Walk:
        """Unwinds; ``data`` holds the registers and the stack behind ``head`` bytes."""
        unwinder = self._unwinder
        if unwinder is None:
            from ..abi.arch import for_machine
            from ..symbols.unwind.unwinder import Unwinder

            unwinder = self._unwinder = Unwinder(machine, self.symbolizer.processes)
            arch = for_machine(machine)
            self._registers = [(name, arch.registers[name]) for name in unwinder.machine.numbers if name in arch.registers]
            if "lr" in unwinder.machine.numbers:
                self._registers.append(("lr", arch.registers["x30"]))
            if "cs" in arch.registers:  # tells 32-bit processes
                self._registers.append(("cs", arch.registers["cs"]))
            self._registers_size = arch.registers_size
        self.seen(pid)
        registers = {name: int.from_bytes(data[head + place : head + place + 8], "little") for name, place in self._registers}
        stack = memoryview(data)[head + self._registers_size :]
        taken = int.from_bytes(data[6:8], "little")
        if taken:
            from ..symbols.unwind.machines import narrow
            from ..symbols.unwind.return_probes import given_back

            stack = memoryview(given_back(stack, taken, registers["sp"], 4 if narrow(unwinder.machine, registers) else 8))
        walk = unwinder.walk(pid, registers, stack, limit, pointers)
        if walk.end == "lost" and self._news(pid):
            walk = unwinder.walk(pid, registers, stack, limit, pointers)
        if walk.end in ("truncated", "lost"):
            self._ended[walk.end] = self._ended.get(walk.end, 0) + 1
        return walk

    def merged_stack(self, raw: Buffer) -> list[Frame]:
        """The frames of a stack that was unwound and has Python's frames."""
        from .mixed_stacks import frames

        pid = int.from_bytes(raw[:4], "little")
        self.seen(pid)
        return frames(mixed_words(raw), self._native_frames(pid), lambda pairs: self._python_frames(pid, pairs))

    def _count_cut(self, role: str, length: int) -> None:
        """Counts a stack that is as long as the kernel allows, or as a program that names no limit gets it."""
        if self._longest < 0:
            from ..kernel.procfs import sysctl

            self._longest = int(sysctl(self._kernel, "kernel.perf_event_max_stack") or _DEFAULT_LIMIT)
        if length in (_DEFAULT_LIMIT, self._longest):
            self._cut[role] = self._cut.get(role, 0) + 1

    def seen(self, pid: int) -> None:
        """A process is in an event: notes what it has mapped while it is there."""
        if pid in self._seen or pid <= 0:
            return
        self._seen.add(pid)
        if self.follower is None or not self.follower.tell(pid, self.symbolizer.processes):
            self.symbolizer.processes.refresh(pid)

    def _news(self, pid: int) -> bool:
        """Whether the process has mapped more than was known."""
        if self.follower is None:
            return False
        processes = self.symbolizer.processes
        before = processes.changes(pid)
        self.follower.drain()  # hands on what belongs to processes that were asked for
        return processes.changes(pid) != before
