"""``record -N HOST:PORT``: the recording goes to ``trace-cmd listen`` on another machine; nothing is written here."""

from __future__ import annotations

import errno
import sys
from _socket import MSG_PEEK

from ...base.errors import KernelError, UsageError
from ...kernel.ftrace_raw import RawPages
from .record import check, extra_options, in_background_if_wanted
from .record_options import Setup
from .running import Running

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from ...formats.trace_dat_parts import Parts
    from ...kernel.kernel import Kernel
    from ...session.recorder_ftrace_network import Sender

__all__ = ("send",)


def send(setup: Setup) -> int:
    """Records to another machine; returns the exit status."""
    from ...session.recorder_ftrace_network import address

    if setup.output_given:
        raise UsageError("-o and -N exclude each other", "the listener chooses the file")
    if any(buffer.name for buffer in setup.buffers):
        raise UsageError("the network protocol carries one buffer", "leave -B out")
    if setup.date or setup.proc_map or setup.max_kb:
        raise UsageError("--date, --proc-map and -m cannot be sent over the network", "they are known at the end only")
    from .worst_case import check_worst_case

    check_worst_case(setup, "recording over the network")
    address(setup.host)
    check(setup)
    return in_background_if_wanted(setup, _sent)


def _sent(setup: Setup) -> int:
    from ...session.recorder_ftrace_network import Sender, address, head_of
    from ...session.recorder_ftrace_parts import collect

    host, port = address(setup.host)
    sender = None
    try:
        with Running(setup) as running:
            buffers, command = running.buffers, running.command
            trace = buffers.traced[0][1]
            formats = None if setup.all_formats or not buffers.formats else list(dict.fromkeys(buffers.formats))
            parts = collect(running.root, formats, extra_options(setup), trace.tracefs)
            parts = _named(parts, running.root.kernel, command.pid if command else 0, setup)
            running.arm()
            sender = Sender(host, port, parts.cpus, trace.page_size, setup.tcp)
            sender.head(head_of(parts))
            raw = RawPages([trace])
            try:
                running.start()
                size = 0
                while not running.over:
                    raw.wait(100)
                    size += _send(raw, sender)
                    if _gone(running.root.kernel, sender.control):
                        raise ConnectionResetError(errno.ECONNRESET, "the listener has ended it")
                buffers.stop()
                while more := _send(raw, sender):
                    size += more
            finally:
                raw.close()
            sender.finish()
        if not setup.quiet:
            print(f"{size} bytes sent to {host}:{port}", file=sys.stderr)
    except OSError as error:
        raise KernelError(f"the connection to {setup.host} broke: {error.strerror or error}", errno=error.errno or 0) from None
    finally:
        if sender is not None:
            sender.close()
    return 0


def _gone(kernel: Kernel, control: socket.socket) -> bool:
    """Whether the other side has ended a connection, on which it says nothing; pages sent as datagrams would go to nobody."""
    return bool(kernel.poll((control.fileno(),), 0)) and not control.recv(1, MSG_PEEK)


def _send(raw: RawPages, sender: Sender) -> int:
    """Sends what there is, but not too much at a time; returns its size."""
    size = 0
    for number, (_, cpu, page_size) in enumerate(raw.streams):
        for page in raw.read(number):
            sender.page(cpu, page)
            size += page_size
    return size


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
