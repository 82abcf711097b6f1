"""``trace-cmd stream``: trace and print at once, as ``record`` and ``report`` would have it, until the command ends or Ctrl-C.

Records are read from a private buffer (or those of ``-B``) several times a second; those of one look are in the order of time.
"""

from __future__ import annotations

import os
import sys

from ...base.errors import UsageError
from ...formats.print_fmt import Env
from ...formats.ring_page import parse_layout, walk
from ...formats.trace_dat import TraceFile
from ...formats.trace_dat_writer import Parts, write_trace
from ...render.ftrace import Batch
from ...render.trace_cmd import LabelledLines
from .record import Stop, check
from .record_options import Setup, parse_setup
from .setup import Buffers, open_tracefs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...kernel.ftrace import Ftrace
    from ...kernel.tracefs import Tracefs

__all__ = ("run", "head_file")


def run(argv: list[str]) -> int:
    """Runs the command; returns the exit status."""
    setup = parse_setup(argv)
    if setup.help:
        print(
            "usage:\n  harken trace-cmd stream [OPTIONS] [COMMAND ...]\n\nThe options are those of record, without what is about the file."
        )
        return 0
    if setup.output_given or setup.host:
        raise UsageError("stream writes no file", "'harken trace-cmd record -o FILE' does")
    check(setup)
    root = open_tracefs()
    buffers = Buffers(root, setup, private=True)
    command = None
    stop = Stop()
    try:
        if setup.command:
            from ...session.recorder_ftrace_command import RecordedCommand

            command = RecordedCommand(setup.command, setup.user)
        buffers.open()
        buffers.configure((os.getpid(),), command.pid if command else 0)
        stream = _Stream(root, setup, buffers)
        try:
            buffers.start()
            if command is not None:
                command.release()
            while not stop.wanted and not (command is not None and command.poll()):
                stream.wait(250)
                stream.show()
            buffers.stop()
            stream.show()
        finally:
            stream.close()
    finally:
        if command is not None:
            command.close()
        for error in buffers.close():
            print(f"WARNING: could not be put back: {error}", file=sys.stderr)
        stop.restore()
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

    def __init__(self, root: Tracefs, setup: Setup, buffers: Buffers) -> None:
        from ...session.recorder_ftrace_parts import collect

        formats = list(dict.fromkeys(buffers.formats)) or None
        head = head_file(collect(root, formats))
        self.kernel, self.root = root.kernel, root
        self._layout = parse_layout(head.header_page, head.order, head.kernel_long)
        self._comms: dict[int, str] = {0: "<idle>"}
        self._missing: set[int] = set()
        env = Env.of_file(head).replace(comm=self._comm)
        self._lines = LabelledLines(head.events, env, buffers.traced[0][1].clock)
        from .report import Report
        from .report_lines import draw_graph

        draw_graph(self._lines, Report([]), head)
        self._fds: list[tuple[int, int]] = []
        streams: list[tuple[str, int]] = []
        named = [trace for wanted, trace in buffers.traced if wanted.name]
        width = max([len(trace.name) for trace in named], default=0)
        for wanted, trace in buffers.traced:
            label = f"{wanted.name:>{width}}: " if wanted.name else " " * (width + 2) if named else ""
            self._open(trace)
            streams += [(label, cpu) for cpu in trace.cpus]
        self._lines.streams = streams

    def _open(self, trace: Ftrace) -> None:
        for cpu in trace.cpus:
            file = f"per_cpu/cpu{cpu}/trace_pipe_raw"
            try:
                fd = self.kernel.open(trace.tracefs.path(file), os.O_RDONLY | os.O_NONBLOCK)
            except OSError as error:
                raise trace.tracefs.refused(file, error, "read") from None
            self._fds.append((fd, trace.page_size))

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

    def wait(self, timeout_ms: int) -> None:
        self.kernel.poll([fd for fd, _ in self._fds], timeout_ms)

    def show(self) -> None:
        """Prints what there is."""
        self._missing.clear()
        batches = []
        for number, (fd, page) in enumerate(self._fds):
            pages: list[bytes] = []
            while len(pages) < 4096:
                try:
                    data = os.read(fd, page)
                except BlockingIOError:
                    break
                if not data:
                    break
                pages.append(data.ljust(page, b"\0"))
            if pages:
                whole = b"".join(pages)
                batches.append(Batch(number, whole, walk(whole, page, self._layout)))
        if batches:
            sys.stdout.write(self._lines.text(batches))
            sys.stdout.flush()

    def close(self) -> None:
        for fd, _ in self._fds:
            self.kernel.close(fd)
