"""``record -N HOST:PORT``: the recording goes to ``trace-cmd listen`` on another machine; nothing is written here."""

from __future__ import annotations

import os
import sys

from ...base.errors import HarkenError, UsageError
from .record import Stop, check, extra_options
from .record_options import Setup
from .setup import Buffers, open_tracefs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...formats.trace_dat_writer import Parts
    from ...kernel.ftrace import Ftrace
    from ...kernel.kernel import Kernel
    from ...session.recorder_ftrace_network import Sender

__all__ = ("send",)


def send(setup: Setup) -> int:
    """Records to another machine; returns the exit status."""
    from ...session.recorder_ftrace_network import Sender, address, head_of
    from ...session.recorder_ftrace_parts import collect

    if setup.output_given:
        raise UsageError("-o and -N exclude each other", "the listener chooses the file")
    if any(buffer.name for buffer in setup.buffers):
        raise UsageError("the network protocol carries one buffer", "leave -B out")
    if setup.date or setup.proc_map or setup.max_kb:
        raise UsageError("--date, --proc-map and -m cannot be sent over the network", "they are known at the end only")
    host, port = address(setup.host)
    check(setup)
    root = open_tracefs()
    buffers = Buffers(root, setup, private=True)
    command = None
    stop = Stop()
    sender = None
    try:
        if setup.command:
            from ...session.recorder_ftrace_command import RecordedCommand

            command = RecordedCommand(setup.command, setup.user)
        buffers.open()
        buffers.configure((os.getpid(),), command.pid if command else 0)
        trace = buffers.traced[0][1]
        formats = None if setup.all_formats or not buffers.formats else list(dict.fromkeys(buffers.formats))
        parts = collect(root, formats, extra_options(setup))
        parts = _named(parts, root.kernel, command.pid if command else 0, setup)
        sender = Sender(host, port, parts.cpus, trace.page_size, setup.tcp)
        sender.head(head_of(parts))
        reader = _Reader(trace, sender)
        try:
            buffers.start()
            if command is not None:
                command.release()
            elif not setup.quiet:
                print("Hit Ctrl^C to stop recording", file=sys.stderr, flush=True)
            while not stop.wanted and not (command is not None and command.poll()):
                reader.wait(100)
                reader.send()
            buffers.stop()
            reader.send()
        finally:
            reader.close()
        sender.finish()
        if not setup.quiet:
            print(f"{reader.size} bytes sent to {host}:{port}", file=sys.stderr)
    except OSError as error:
        raise HarkenError(f"the connection to {setup.host} broke: {error.strerror or error}") from None
    finally:
        if sender is not None:
            sender.close()
        if command is not None:
            command.close()
        for failed in buffers.close():
            print(f"WARNING: could not be put back: {failed}", file=sys.stderr)
        stop.restore()
    return 0


def _named(parts: Parts, kernel: Kernel, command: int, setup: Setup) -> Parts:
    """The protocol wants names of tasks at the beginning: those of all that run, and of the command."""
    from ...kernel.procfs_process import processes
    from ...session.recorder_ftrace_parts import comm_text, task_comms

    comms = task_comms(kernel, processes(kernel))
    for line in parts.cmdlines.decode("utf-8", "surrogateescape").split("\n"):
        pid, space, name = line.partition(" ")
        if space and pid.isdigit():
            comms.setdefault(int(pid), name)
    if command:
        comms[command] = setup.command[0].rpartition("/")[2][:15]
    return parts.replace(cmdlines=comm_text(comms))


class _Reader:
    """Reads pages of all CPUs and sends them."""

    def __init__(self, trace: Ftrace, sender: Sender) -> None:
        self._sender, self._kernel, self._page = sender, trace.kernel, trace.page_size
        self.size = 0
        self._fds: list[tuple[int, int]] = []
        for cpu in trace.cpus:
            file = f"per_cpu/cpu{cpu}/trace_pipe_raw"
            try:
                self._fds.append((cpu, self._kernel.open(trace.tracefs.path(file), os.O_RDONLY | os.O_NONBLOCK)))
            except OSError as error:
                raise trace.tracefs.refused(file, error, "read") from None

    def wait(self, timeout_ms: int) -> None:
        self._kernel.poll([fd for _, fd in self._fds], timeout_ms)

    def send(self) -> None:
        for cpu, fd in self._fds:
            for _ in range(4096):
                try:
                    data = os.read(fd, self._page)
                except BlockingIOError:
                    break
                if not data:
                    break
                self._sender.page(cpu, data.ljust(self._page, b"\0"))
                self.size += self._page

    def close(self) -> None:
        for _, fd in self._fds:
            self._kernel.close(fd)
