"""A command to trace from its beginning (``bcc.exec``): started and held before its first instruction, let go when the probes are in place.

::

    pid = run_cmd(["make", "-j4"])
    ... attach, filtering by pid ...
    cmd_ready()
    while not cmd_exited():
        b.perf_buffer_poll(100)
"""

from __future__ import annotations

from ..session.command import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("run_cmd", "cmd_ready", "cmd_exited")

_started: list[Command] = []


def run_cmd(args: Sequence[str]) -> int:
    """Starts a command and holds it before it does anything; returns its PID.

    Raises:
        HarkenError: it cannot be executed.
    """
    from .names import kernel

    _started.append(Command(kernel(), list(args)))
    return _started[-1].pid


def cmd_ready() -> None:
    """Lets what ``run_cmd`` started run."""
    for command in _started:
        command.release()


def cmd_exited() -> int:
    """1 if everything that ``run_cmd`` started has ended, else 0."""
    return int(all([command.poll() for command in _started]))
