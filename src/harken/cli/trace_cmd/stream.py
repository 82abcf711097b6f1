"""``trace-cmd stream``: trace and print at once, as ``record`` and ``report`` would have it, until the command ends or Ctrl-C.

Records are read from a private buffer (or those of ``-B``) several times a second; those of one look are in the order of time.
"""

from __future__ import annotations

import os
import sys

from ...formats.print_fmt import Env
from ...formats.ring_page import parse_layout, walk
from ...formats.trace_dat import TraceFile
from ...formats.trace_dat_parts import Parts
from ...formats.trace_dat_writer import write_trace
from ...kernel.ftrace_raw import RawPages
from ...render.ftrace_batches import Batch
from ...render.trace_cmd import LabelledLines
from .record import check
from .record_options import Setup, parse_setup, refuse_file
from .running import Running
from .worst_case import check_worst_case

__all__ = ("run", "head_file", "stream")


def run(argv: list[str]) -> int:
    """Runs the command; returns the exit status."""
    setup = parse_setup(argv)
    if setup.help:
        from .record_usage import usage

        print(usage("stream"), end="")
        return 0
    return stream(setup)


def stream(setup: Setup) -> int:
    """Streams as a ``Setup`` says; returns the exit status."""
    refuse_file(setup, "stream", "'harken record' does")
    check_worst_case(setup, "streaming")
    check(setup)
    with Running(setup) as running:
        shown = _Stream(running)
        try:
            running.start()
            while not running.over:
                shown.raw.wait(250)
                shown.show()
            running.buffers.stop()
            while shown.show():
                pass
        finally:
            shown.raw.close()
    return 0


def head_file(parts: Parts) -> TraceFile:
    """A recording without records: what formats and symbols are looked up in."""
    fd = os.memfd_create("harken-head")
    try:
        write_trace(fd, parts, [], 7, "none")
        return TraceFile(os.pread(fd, os.fstat(fd).st_size, 0), "stream")
    finally:
        os.close(fd)


class _Stream:
    """The raw files of all CPUs, and the lines of what they hold."""

    def __init__(self, running: Running) -> None:
        from ...session.recorder_ftrace_parts import collect

        buffers = running.buffers
        head = head_file(collect(running.root, list(dict.fromkeys(buffers.formats)) or None))
        running.arm()
        self.root = running.root
        self._layout = parse_layout(head.header_page, head.order, head.kernel_long)
        self._comms: dict[int, str] = {0: "<idle>"}
        self._missing: set[int] = set()
        env = Env.of_file(head).replace(comm=self._comm)
        self._lines = LabelledLines(head.events, env, buffers.traced[0][1].clock)
        from .report import Report
        from .report_graph import draw_graph

        draw_graph(self._lines, Report([]), head)
        self.raw = RawPages([trace for _, trace in buffers.traced])
        names = {id(trace): wanted.name for wanted, trace in buffers.traced}
        width = max([len(name) for name in names.values()], default=0)
        blank = " " * (width + 2) if width else ""
        labels = {key: f"{name:>{width}}: " if name else blank for key, name in names.items()}
        self._lines.streams = [(labels[id(trace)], cpu) for trace, cpu, _ in self.raw.streams]

    def _comm(self, pid: int) -> str:
        """The name of a task; the kernel is asked once per look for those that are not known."""
        found = self._comms.get(pid)
        if found is None and pid not in self._missing:
            from ...session.recorder_ftrace_parts import saved_comms

            self._comms.update(saved_comms(self.root))
            found = self._comms.get(pid)
            if found is None:
                self._missing.add(pid)
        return found if found is not None else "<...>"

    def show(self) -> bool:
        """Prints what there is, but not too much at a time; returns whether there was something."""
        self._missing.clear()
        batches = []
        for number, (_, _, page) in enumerate(self.raw.streams):
            whole = b"".join(self.raw.read(number))
            if whole:
                batches.append(Batch(number, whole, walk(whole, page, self._layout)))
        if batches:
            sys.stdout.write(self._lines.text(batches))
            sys.stdout.flush()
        return bool(batches)
