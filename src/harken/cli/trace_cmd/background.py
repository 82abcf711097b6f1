"""Going on without the terminal: ``record --daemonize`` and ``listen -D``."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("in_background", "PID_FILE")

#: where trace-cmd's ``record --daemonize`` has its PID, too
PID_FILE = "/var/run/trace-cmd-record.pid"


def in_background(work: Callable[[Callable[[], None]], int], pid_file: str = "") -> int:
    """Runs something in a child of its own session, which loses the terminal as soon as it says that it is ready.

    Args:
        work: is called in the child with what it has to call when all is set up; returns the exit status.
        pid_file: gets the child's PID from then on until its end, if it can be written.

    Returns:
        In the parent: 0 as soon as the child is ready, its exit status if it ends before that.  In the child what ``work`` returns.
    """
    end, told = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child:
        os.close(told)
        try:
            if os.read(end, 1):
                return 0
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF
        finally:
            os.close(end)
    os.close(end)
    os.setsid()
    written = False

    def ready() -> None:
        nonlocal written
        if pid_file:
            written = _write(pid_file)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.close(null)
        os.write(told, b"1")
        os.close(told)

    try:
        return work(ready)
    finally:
        if written:
            _remove(pid_file)


def _write(path: str) -> bool:
    try:
        with open(path, "w") as stream:
            stream.write(f"{os.getpid()}\n")
    except OSError:  # whoever wants to end it has to look for it
        return False
    return True


def _remove(path: str) -> None:
    """Removes the file if it still tells this process."""
    try:
        with open(path) as stream:
            if stream.read(32).strip() == str(os.getpid()):
                os.unlink(path)
    except OSError:
        pass
