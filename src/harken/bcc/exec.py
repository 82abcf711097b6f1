"""Commands that wait to be traced (``bcc.exec``): started, held before their first instruction, let go when the probes are in place."""

from __future__ import annotations

from ..session.command import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("run_cmd", "cmd_ready", "cmd_exited")

_commands: dict[int, Command] = {}


def run_cmd(cmd: Sequence[str]) -> int:
    """Starts a command and holds it before it does anything; returns its PID."""
    from ..kernel.kernel import live

    command = Command(live(), list(cmd))
    _commands[command.pid] = command
    return command.pid


def cmd_ready(pid: int) -> None:
    """Lets a command that ``run_cmd`` started run."""
    _commands[pid].release()


def cmd_exited(pid: int) -> bool:
    """Whether the command has ended."""
    return _commands[pid].poll()
