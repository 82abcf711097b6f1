"""``trace-cmd start`` and ``set``: trace without recording: into the top buffer, or those that ``-B`` names; everything stays when it ends.

``start`` takes the options of ``record``; with a command it waits for its end unless ``--fork`` is given.  ``set`` changes only what it is
told and neither starts nor stops tracing.
"""

from __future__ import annotations

import os
import sys

from ...base.errors import UsageError
from .record_options import Setup, parse_setup, refuse_file
from .setup import Buffers, open_tracefs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...kernel.tracefs import Tracefs

__all__ = ("run",)


def run(argv: list[str]) -> int:
    """Runs the command named by the first word; returns the exit status."""
    name, *words = argv
    setup = parse_setup(words)
    if setup.help:
        from .record_usage import usage

        print(usage(name), end="")
        return 0
    refuse_file(setup, name, "'harken trace-cmd extract' makes one of what was traced")
    empty = name == "start" and all(buffer.empty for buffer in setup.buffers)
    if empty and (setup.command or not any(buffer.delete for buffer in setup.buffers)):
        raise UsageError(
            "nothing to trace: no event (-e) and no tracer (-p)", "'harken trace-cmd list -e' and 'list -t' show what there is"
        )
    root = open_tracefs()
    if empty:
        _delete(root, setup)
        return 0
    command = None
    if setup.command:
        from ...session.recorder_ftrace_command import RecordedCommand

        command = RecordedCommand(setup.command, setup.user)
    buffers = Buffers(root, setup, private=False)
    try:
        _delete(root, setup)
        buffers.open(stop=name == "start")
        buffers.configure(fresh=name == "start" and not setup.continued)
        buffers.choose_tasks((), command.pid if command else 0)
        buffers.enable()
        for wanted, _ in buffers.traced:
            if wanted.tracer and not setup.quiet:
                print(f"  plugin '{wanted.tracer}'", file=sys.stderr)
        buffers.arm()
        if name == "start":
            buffers.start()
    except BaseException:
        buffers.close()
        raise
    buffers.keep()
    if command is not None:
        command.release()
        if not setup.fork:
            command.wait()
        else:
            os.close(command.pidfd) if command.pidfd >= 0 else None
            return 0
        command.close()
    return 0


def _delete(root: Tracefs, setup: Setup) -> None:
    """``-v -B NAME`` deletes a buffer."""
    from ...base.errors import KernelError
    from .buffers import existing

    for wanted in setup.buffers:
        if wanted.delete:
            if not wanted.empty:
                raise UsageError(f"buffer {wanted.name!r} is to be deleted (-v) and to be traced into")
            if not existing(root, wanted.name).remove():
                raise KernelError(f"the buffer {wanted.name!r} is in use", errno=16)
