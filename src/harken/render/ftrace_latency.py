"""The latency layout of the kernel's ``trace`` file: the option latency-format, and what latency tracers print by themselves.

Each line has the task cut to eight letters, the CPU, the five letters of ``kernel_flags``, microseconds since the buffer's start and a
mark of how long it took to the next line (kernel/trace/trace_output.c, ``trace_print_lat_context``)::

    # wakeup latency trace v1.1.5 on 6.12.117
    ...
      bash-32595     0d..2.   42us+: sched_switch: prev_comm=bash ...

``latency_header`` is the text in front of the lines, which tells the longest latency and whose it was (``print_trace_header``).
"""

from __future__ import annotations

import os

from ..base.record import Record
from .ftrace_kernel import KernelLines, kernel_flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .ftrace_batches import Batch

__all__ = ("LatencyLines", "LatencyTask", "latency_header", "mark_of")

#: Marks by nanoseconds that a line must take longer than (``mark`` in kernel/trace/trace_output.c).
_MARKS = ((1000000000, "$"), (100000000, "@"), (10000000, "*"), (1000000, "#"), (100000, "!"), (10000, "+"))
#: Stands around times until all are known.  What is recorded may have any text, but not what nobody knew when it was recorded.
_SIGN = f"\x01{os.urandom(8).hex()}\x01"


def mark_of(nanoseconds: int) -> str:
    """The mark of a duration.

    Example:
        >>> mark_of(10000), mark_of(10001), mark_of(2000000)
        (' ', '+', '#')
    """
    return next((mark for limit, mark in _MARKS if nanoseconds > limit), " ")


class LatencyTask(Record):
    """The task that was held up longest: what the header tells."""

    comm: str = ""
    pid: int = 0
    uid: int = 0
    nice: int = 0
    policy: int = 0
    priority: int = 0


class LatencyLines(KernelLines):
    """Lines of the latency layout.  One call of ``text`` must hold all records, as a line's mark depends on the next one.

    Args of the constructor are those of ``KernelLines``.

    Attributes:
        start: the time that the lines count from, in nanoseconds (``time_start`` of the buffer: 0 but for latency tracers).
    """

    start = 0

    def prefix(self, pid: int, cpu: int, flags: int, preempt: int) -> str:
        comm = self.env.comm(pid) if self.env.comm else "<...>"
        return f"{comm[:8]:>8}-{pid:<7} {cpu:3}{kernel_flags(flags, preempt, self.letters)}"

    def time_format(self) -> str:
        return f"{_SIGN}%s{_SIGN}: "

    def unit(self) -> tuple[int, int]:
        return 1, 0

    def data(self, batches: Sequence[Batch]) -> bytes:
        pieces = super().data(batches).decode("utf-8", "surrogateescape").split(_SIGN)
        times = [int(piece) for piece in pieces[1::2]]
        shown: list[Any] = []
        for time, following in zip(times, [*times[1:], *times[-1:]]):
            if not self.nanoseconds:
                shown.append(f" {time - self.start:4d}")
                continue
            took = (following - time + 500) // 1000
            shown.append(f" {(time - self.start + 500) // 1000:4d}us{mark_of(took * 1000)}")
        pieces[1::2] = shown
        return "".join(pieces).encode("utf-8", "surrogateescape")


def latency_header(
    tracer: str,
    release: str,
    latency: int,
    entries: int,
    written: int,
    cpu: int,
    cpus: int,
    task: LatencyTask,
    preemption: str = "desktop",
    started: str = "",
    ended: str = "",
) -> str:
    """The comment in front of the lines.

    Args:
        latency: microseconds; ``cpu`` where it was measured, ``cpus`` how many are online.
        entries: in the buffer; ``written`` in all.
        preemption: the kernel's way, as the header names it: ``server``, ``desktop``, ``preempt``, ``preempt_rt``, ``PREEMPT(lazy)``, ...
        started, ended: where interrupts or preemption were switched off and on, for the tracers of those.
    """
    rule = "-" * 68
    text = f"# tracer: {tracer}\n#\n# {tracer} latency trace v1.1.5 on {release}\n# {rule}\n"
    text += f"# latency: {latency} us, #{entries}/{written}, CPU#{cpu} | (M:{preemption} VP:0, KP:0, SP:0 HP:0 #P:{cpus})\n"
    text += "#    -----------------\n"
    text += f"#    | task: {task.comm[:16]}-{task.pid} (uid:{task.uid} nice:{task.nice} policy:{task.policy} rt_prio:{task.priority})\n"
    text += "#    -----------------\n"
    if started:
        text += f"#  => started at: {started}\n#  => ended at:   {ended}\n#\n"
    return (
        text
        + "#\n"
        + "#                    _------=> CPU#            \n"
        + "#                   / _-----=> irqs-off/BH-disabled\n"
        + "#                  | / _----=> need-resched    \n"
        + "#                  || / _---=> hardirq/softirq \n"
        + "#                  ||| / _--=> preempt-depth   \n"
        + "#                  |||| / _-=> migrate-disable \n"
        + "#                  ||||| /     delay           \n"
        + "#  cmd     pid     |||||| time  |   caller     \n"
        + "#     \\   /        ||||||  \\    |    /       \n"
    )
