"""The layout of the kernel's ``trace`` file (kernel/trace/trace_output.c, ``trace_print_context``)::

# tracer: nop
#
# entries-in-buffer/entries-written: 2/2   #P:2
#
#                                _-----=> irqs-off/BH-disabled
...
            bash-32595   [000] d..1.  4932.494985: sys_exit: NR 61 = 437
"""

from __future__ import annotations

from ..formats.print_fmt_kernel import NAMELESS
from .ftrace import Lines
from .ftrace_mmiotrace import MMIO_EVENTS, mmio_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from ..formats.event_format import EventFormat
    from ..formats.print_fmt import Env
    from .ftrace import Special
    from .ftrace_batches import Batch, Item
    from .ftrace_native import Writer

__all__ = ("KernelLines", "kernel_flags", "kernel_header")


def kernel_flags(flags: int, preempt: int, letters: int = 5) -> str:
    """The five letters of ``irq-info`` (``trace_print_lat_fmt``): interrupts, need-resched, context, preempt depth, migrate disable.

    Args:
        letters: 4 as before Linux 5.15: the preempt count is the whole byte.  7 as real-time kernels up to Linux 6.6 have them: whether a
            task gives way lazily is a letter of its own behind need-resched, and how often that was forbidden (``preempt`` >> 8) is
            behind the preempt depth.

    Example:
        >>> kernel_flags(0x01 | 0x08, 1), kernel_flags(0x04 | 0x20, 0x12), kernel_flags(0x01, 0x12, 4), kernel_flags(0x29, 0x312, 7)
        ('d.h1.', '.N.21', 'd..12', 'd.Lh231')
    """
    off, bh = flags & 0x01, flags & 0x80
    irqs = "D" if off and bh else "d" if off else "b" if bh else "."
    resched = {0x26: "B", 0x24: "N", 0x22: "L", 0x06: "b", 0x04: "n", 0x02: "l", 0x20: "p"}.get(flags & 0x26, ".")
    nmi, hard, soft = flags & 0x40, flags & 0x08, flags & 0x10
    context = "Z" if nmi and hard else "z" if nmi else "H" if hard and soft else "h" if hard else "s" if soft else "."
    if letters < 5:
        return f"{irqs}{resched}{context}{f'{preempt:x}' if preempt else '.'}"
    low, high, lazy = preempt & 15, preempt >> 4 & 15, ""
    if letters > 5:
        resched = ("n" if flags & 0x04 else ".") + ("L" if flags & 0x20 else ".")  # CONFIG_PREEMPT_LAZY has no PREEMPT_RESCHED
        lazy = f"{preempt >> 8:x}" if preempt >> 8 else "."
    return f"{irqs}{resched}{context}{f'{low:x}' if low else '.'}{lazy}{f'{high:x}' if high else '.'}"


class KernelLines(Lines):
    """The layout of the kernel's ``trace`` and ``trace_pipe``.

    Args:
        irq_info: the option irq-info, on by default: the letters of ``kernel_flags``.
        tgid: names the thread group of a task (option record-tgid), or None for no column.
    """

    def __init__(
        self,
        events: Mapping[int, EventFormat],
        env: Env,
        clock: str = "local",
        special: Mapping[int, Special] | None = None,
        irq_info: bool = True,
        tgid: Callable[[int], int] | None = None,
    ) -> None:
        super().__init__(events, env, clock, special)
        self.irq_info, self.tgid, self.letters = irq_info, tgid, env.letters
        self._mmio: dict[int, Callable[[int, bytes], str]] = {}
        #: Tells whether the tracer was mmiotrace, which prints what users write in its own way; asked when there is something of theirs.
        self.by_mmiotrace: Callable[[frozenset[int]], bool] | None = None
        for number in range(1, 32):
            event = self.events.get(number)
            if event is not None and event.name == "func_repeats":  # prints the time of the last call
                self.special[number] = self._func_repeats
            elif event is not None and event.category == "ftrace" and event.name in MMIO_EVENTS:
                self.special[number] = self._nothing
                self._mmio[number] = mmio_line(event, env)
            lazy = event.field("common_preempt_lazy_count") if event is not None else None
            if lazy is not None and lazy.size == 1:
                self.lazy, self.letters = lazy.offset, 7

    def writer(self) -> Writer | None:
        return None if self.lazy else super().writer()  # the accelerator makes heads of the first eight bytes

    def prepare(self, batches: Sequence[Batch]) -> None:
        super().prepare(batches)
        if self.by_mmiotrace is None or not self._mmio:
            return
        event = next((event for number in range(1, 32) if (event := self.events.get(number)) is not None and event.name == "print"), None)
        if event is not None and any(event.id in batch.records.types for batch in batches):
            if self.by_mmiotrace(frozenset(self._mmio)):
                self.special[event.id] = self._nothing
                self._mmio[event.id] = mmio_line(event, self.env)
            self.by_mmiotrace = None

    def _nothing(self, items: Sequence[Item]) -> list[str | None]:
        return [None] * len(items)

    def _specials(self, waiting: dict[int, list[tuple[int, Item]]], out: Any, time_format: str) -> None:
        for number, line in self._mmio.items():
            for place, item in waiting.pop(number, ()):
                out[place] = line(item.time, item.payload)
        super()._specials(waiting, out, time_format)

    def _func_repeats(self, items: Sequence[Item]) -> list[str | None]:
        texts: list[str | None] = []
        for item in items:
            number = int.from_bytes(item.payload[:2], "little" if self.env.order == "<" else "big")
            renderer = self.renderer(number)
            event = self.events[number]
            if renderer is None:
                continue
            delta = 0
            for name, shift in (("bottom_delta_ts", 0), ("top_delta_ts", 32)):
                field = event.field(name)
                if field is not None:
                    raw = item.payload[field.offset : field.offset + field.size]
                    delta |= int.from_bytes(raw, "little" if self.env.order == "<" else "big") << shift
            texts.append(f"{renderer(item.payload)} {self.time_texts([max(0, item.time - delta)], None)[0]})")
        return texts

    def prefix(self, pid: int, cpu: int, flags: int, preempt: int) -> str:
        comm = self.env.comm(pid) if self.env.comm else "<...>"
        text = f"{comm:>16}-{pid:<7} "
        if self.tgid is not None:
            group = self.tgid(pid)
            text += f"({group:7}) " if group else "(-------) "
        return f"{text}[{cpu:03}] {kernel_flags(flags, preempt, self.letters) if self.irq_info else ''} "

    def time_format(self) -> str:
        return "%s: "

    def name_format(self, event: EventFormat) -> str:
        if event.category == "syscalls" or (event.category == "ftrace" and event.name in NAMELESS):
            return ""
        return f"{event.name}: "

    def lost(self, cpu: int, number: int) -> str:
        return f"CPU:{cpu} [LOST {number} EVENTS]" if number else f"CPU:{cpu} [LOST EVENTS]"

    def unknown(self, number: int) -> str:
        return f"Unknown type {number}"

    def ended(self, event: EventFormat) -> bool:
        return event.category == "ftrace"  # after others (exit_mmap of Linux 6.1) the kernel has an empty line


def kernel_header(tracer: str, entries: int, written: int, cpus: int, irq_info: bool = True, tgid: bool = False) -> str:
    """The comment in front of the ``trace`` file's lines (``print_func_help_header_irq``).

    Args:
        entries: in the buffers; ``written`` in all, ``cpus`` online.
    """
    pad = "               " if tgid else "  "
    head = f"# tracer: {tracer}\n#\n# entries-in-buffer/entries-written: {entries}/{written}   #P:{cpus}\n#\n"
    if not irq_info:
        gap = "    TGID   " if tgid else ""
        bar = "      |    " if tgid else ""
        return f"{head}#           TASK-PID    {gap} CPU#     TIMESTAMP  FUNCTION\n#              | |      {bar}   |         |         |\n"
    pad = "            " if tgid else "  "
    lines = (
        f"#                            {pad}  _-----=> irqs-off/BH-disabled\n"
        f"#                            {pad} / _----=> need-resched\n"
        f"#                            {pad}| / _---=> hardirq/softirq\n"
        f"#                            {pad}|| / _--=> preempt-depth\n"
        f"#                            {pad}||| / _-=> migrate-disable\n"
        f"#                            {pad}|||| /     delay\n"
        f"#           TASK-PID  {'    TGID   ' if tgid else ' '}  CPU#  |||||  TIMESTAMP  FUNCTION\n"
        f"#              | |    {'      |    ' if tgid else ' '}    |   |||||     |         |\n"
    )
    return head + lines
