"""Samples of one process or of the whole system through perf_event_open(2): where it was, its call chain, and what is needed to unwind it.

``Sampler`` opens an event on every CPU (for a process: for each of its threads, inherited by new ones), and reads the rings in bulk: what
is waiting in a ring is copied out with one or two slices, so that a record never wraps and its space is free at once.  ``read`` gives
``Sample`` and the records that keep a picture of the processes up to date (``MappingEvent``, ``CommEvent``, ``TaskEvent``), of all CPUs, in
order of time.

Nothing is lost in silence: ``lost`` counts what did not fit into the rings (PERF_RECORD_LOST, PERF_RECORD_LOST_SAMPLES), ``throttled`` how
often the kernel paused the events.

Layouts: ``include/uapi/linux/perf_event.h`` (enum perf_event_type); registers in ``arch/*/include/uapi/asm/perf_regs.h``.

Example::

    kernel = live()
    with Sampler(kernel, software("cpu-clock", freq=999), pid=42, registers=True, stack=16384) as sampler:
        sampler.enable()
        for record in sampler.records(duration_ms=5000):
            if type(record) is Sample:
                unwinder.unwind(record.pid, record.registers, record.stack)
"""

from __future__ import annotations

import errno
import time as clock
from mmap import PAGESIZE

from ..abi import perf_event as abi
from ..abi.arch import for_machine
from ..base.errors import KernelError, UsageError
from ..formats.perf_data_layout import ALWAYS, SampleLayout
from ..formats.perf_data_records import CommEvent, MappingEvent, Sample, TaskEvent
from .perf_event import Attr, open_event
from .ring import barrier_of, close_maps, not_mapped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any, Self

    from ..formats.perf_data_records import Event
    from .kernel import Kernel
    from .perf_event import PerfEvent

__all__ = ("Sampler", "Sample", "MappingEvent", "CommEvent", "TaskEvent", "SampleLayout", "sampling_attr", "USER_REGISTERS")

_CLOCK_MONOTONIC = 1
_MAX_STACK = 65528  # the kernel wants less than 64 KiB, a multiple of 8 (perf_reg_validate, perf_copy_attr)
_MAX_ROUNDS = 4

#: Registers that call frame information speaks of, and the program counter, by machine.
USER_REGISTERS = {
    "x86_64": ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp", "ip", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"),
    "aarch64": (*(f"x{number}" for number in range(30)), "lr", "sp", "pc"),
}


def sampling_attr(attr: Attr, machine: str, registers: bool = False, stack: int = 0, callchain: bool = True, max_stack: int = 0) -> Attr:
    """An event (``perf_event.software("cpu-clock", freq=99)``) that writes samples.

    Args:
        registers: the process's registers; ``stack``: bytes of its stack (rounded up to 8, at most 65,528); both are needed to unwind.
        callchain: call chains of the kernel and, by frame pointers, of the process.
        max_stack: most addresses of a call chain; 0: as many as sysctl kernel.perf_event_max_stack says.

    Raises:
        UsageError: a stack of impossible size.
    """
    if not 0 <= stack <= _MAX_STACK:
        raise UsageError(f"a sample takes 0 to {_MAX_STACK} bytes of stack, not {stack}")
    kind, mask = attr.sample_type | ALWAYS, 0
    if callchain:
        kind |= abi.PERF_SAMPLE_CALLCHAIN
    if registers:
        kind |= abi.PERF_SAMPLE_REGS_USER
        bits = for_machine(machine).perf_registers
        for name in USER_REGISTERS[for_machine(machine).name]:
            mask |= 1 << bits[name]
    if stack:
        kind |= abi.PERF_SAMPLE_STACK_USER
    flags = tuple(
        dict.fromkeys((*attr.flags, "disabled", "inherit", "sample_id_all", "use_clockid", "mmap2", "mmap", "comm", "comm_exec", "task"))
    )
    return attr.replace(
        sample_type=kind,
        sample_regs_user=mask,
        sample_stack_user=-(-stack // 8) * 8,
        sample_max_stack=max_stack,
        clockid=_CLOCK_MONOTONIC,
        flags=flags,
    )


class _Ring:
    """The ring of one CPU: the control page, then ``size`` bytes."""

    __slots__ = ("map", "head", "tail", "data", "size")

    def __init__(self, map: Any, size: int) -> None:
        self.map, self.size = map, size
        view = memoryview(map)
        self.head = view[abi.MMAP_PAGE["data_head"][0] :][:8].cast("Q")
        self.tail = view[abi.MMAP_PAGE["data_tail"][0] :][:8].cast("Q")
        self.data = view[PAGESIZE : PAGESIZE + size]

    def take(self, head: int) -> bytes:
        """Everything up to ``head``, which is then the kernel's again."""
        tail, size = self.tail[0], self.size
        if not tail < head:
            return b""
        if head - tail > size:
            raise KernelError("a perf ring is damaged", errno=errno.EIO)
        first, last = tail & (size - 1), head & (size - 1)
        taken = bytes(self.data[first:last]) if first < last else b"".join((self.data[first:], self.data[:last]))
        self.tail[0] = head
        return taken

    def close(self) -> None:
        close_maps([self.map], (self.head, self.tail, self.data))


class Sampler:
    """Samples of a process (and what it starts), or of the whole system.

    Args:
        attr: the event, as ``perf_event.software("cpu-clock", freq=999)`` makes it.
        pid: a process; -1 for all.
        cpus: which CPUs; None for all that are online.
        registers, stack, callchain, max_stack: see ``sampling_attr``.
        pages: size of each CPU's ring, a power of two; 0: enough for 64 samples, at least 64.
        wakeup: bytes in a ring that make its descriptor readable; 0: half of the ring.

    Raises:
        KernelError: the kernel gives no event or no memory.
        UsageError: impossible sizes.

    Attributes:
        fds: one per CPU, readable when half of its ring is full or as ``wakeup`` says (``records`` need not wait for that).
        lost: records that did not fit, as far as the kernel has told.
        throttled: how often the kernel paused an event because it fired too often.
    """

    def __init__(
        self,
        kernel: Kernel,
        attr: Attr,
        pid: int = -1,
        cpus: Sequence[int] | None = None,
        registers: bool = False,
        stack: int = 0,
        callchain: bool = True,
        max_stack: int = 0,
        pages: int = 0,
        wakeup: int = 0,
    ) -> None:
        from .procfs import cpus_online

        full = sampling_attr(attr, kernel.machine, registers, stack, callchain, max_stack)
        if not pages:
            pages = 64
            while pages * PAGESIZE < 64 * (full.sample_stack_user + 1024):
                pages *= 2
        if pages < 1 or pages & (pages - 1):
            raise UsageError(f"a ring has a power of two of pages, not {pages}")
        size = pages * PAGESIZE
        full = full.replace(flags=(*full.flags, "watermark"), wakeup=wakeup or size // 2)
        names: tuple[str, ...] = ()
        if registers:
            bits = for_machine(kernel.machine).perf_registers
            names = tuple(sorted(USER_REGISTERS[for_machine(kernel.machine).name], key=bits.__getitem__))
        self.layout = SampleLayout(full.sample_type, names)
        self.lost = self.throttled = 0
        self._kernel, self._attr = kernel, full
        self._barrier = barrier_of(kernel.machine)
        self._cpus = list(cpus_online(kernel)) if cpus is None else list(cpus)
        self._events: list[PerfEvent] = []
        self._rings: dict[int, _Ring] = {}
        self._first: dict[int, PerfEvent] = {}
        try:
            for tid in self._threads(pid):
                self._open(tid, size)
            if not self._rings:
                raise KernelError(f"process {pid} is gone", call="perf_event_open()", errno=errno.ESRCH)
        except BaseException:
            self.close()
            raise
        self.fds = tuple([event.fd for event in self._first.values()])

    def _threads(self, pid: int) -> Iterator[int]:
        """The threads of a process, also those that start while events are opened for the others."""
        if pid < 0:
            yield -1
            return
        done: set[int] = set()
        for _ in range(_MAX_ROUNDS):
            try:
                found = {int(name) for name in self._kernel.listdir(f"/proc/{pid}/task")} - done
            except (OSError, ValueError):
                return
            if not found:
                return
            yield from sorted(found)
            done |= found

    def _open(self, tid: int, size: int) -> None:
        for cpu in self._cpus:
            try:
                event = open_event(self._kernel, self._attr, pid=tid, cpu=cpu)
            except KernelError as problem:
                if problem.errno == errno.ESRCH and tid >= 0:
                    return  # the thread has ended
                raise
            self._events.append(event)
            if cpu in self._first:
                event.set_output(self._first[cpu])
                continue
            try:
                memory = self._kernel.mmap(event.fd, PAGESIZE + size, writable=True)
            except OSError as problem:
                raise not_mapped(f"samples of CPU {cpu}", problem) from None
            self._first[cpu] = event
            self._rings[cpu] = _Ring(memory, size)

    def enable(self) -> None:
        """Starts sampling."""
        for event in self._events:
            event.enable()

    def disable(self) -> None:
        """Stops sampling; what is in the rings stays."""
        for event in self._events:
            event.disable()

    def read(self) -> list[Event]:
        """Everything that is waiting, in order of time.

        What is written while the rings are read comes with the next call, so that a record of one call may be some microseconds older
        than the last one of the call before.
        """
        heads = {cpu: ring.head[0] for cpu, ring in self._rings.items()}
        self._barrier()
        found: list[Event] = []
        for cpu, ring in self._rings.items():
            taken = ring.take(heads[cpu])
            self._barrier()
            if taken:
                self._decode(memoryview(taken), found)
        found.sort(key=_time)
        return found

    def _decode(self, data: memoryview, found: list[Event]) -> None:
        heads = data.cast("Q")
        position, end = 0, len(data)
        decode, add = self.layout.decode, found.append
        while position < end:
            head = heads[position >> 3]  # u32 type, u16 misc, u16 size
            kind, size = head & 0xFFFFFFFF, head >> 48
            if size < 8 or position + size > end:
                raise KernelError("a perf ring is damaged", errno=errno.EIO)
            if kind == abi.PERF_RECORD_LOST:
                self.lost += heads[(position + 16) >> 3]
            elif kind == abi.PERF_RECORD_LOST_SAMPLES:
                self.lost += heads[(position + 8) >> 3]
            elif kind == abi.PERF_RECORD_THROTTLE:
                self.throttled += 1
            else:
                record = decode(data, position, size)
                if record is not None:
                    add(record)
            position += size

    def records(self, duration_ms: int = -1, interval_ms: int = 100) -> Iterator[Event]:
        """Records as they come, for ``duration_ms`` (-1: for ever); the rings are read at least every ``interval_ms``."""
        end = clock.monotonic() + duration_ms / 1000 if duration_ms >= 0 else None
        while True:
            wait = interval_ms
            if end is not None:
                left = int((end - clock.monotonic()) * 1000)
                wait = max(min(wait, left), 0)
            self._kernel.poll(self.fds, wait)
            yield from self.read()
            if end is not None and clock.monotonic() >= end:
                return

    def close(self) -> None:
        """Ends sampling and gives everything back; more than once does no harm."""
        rings, self._rings = self._rings, {}
        for ring in rings.values():
            ring.close()
        events, self._events = self._events, []
        for event in events:
            event.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def _time(record: Event) -> int:
    return record.time
