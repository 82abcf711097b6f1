"""The command that a recording runs: forked early, so that its PID can be filtered on, and let go when tracing has begun.

Unlike ``session.command`` its execve is part of what is recorded, as trace-cmd records it.
"""

from __future__ import annotations

import os

from ..base.errors import KernelError, UsageError
from .child import Child

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Sequence
else:
    import _signal as signal  # the public module wraps it in enums, which take 4 ms to import

__all__ = ("RecordedCommand",)


class RecordedCommand(Child):
    """A child that waits for ``release``.

    Args:
        words: program (searched in PATH) and arguments.
        user: who it shall run as; "" for the caller.
        before: called in the child before it executes.
        closed: descriptors that the child must not have, not even until it executes.

    Raises:
        UsageError: there is no such user.
    """

    def __init__(self, words: Sequence[str], user: str = "", before: Callable[[], None] | None = None, closed: Sequence[int] = ()) -> None:
        self.words = tuple(words)
        self.status = None
        self.failed = 0
        account = _account(user) if user else None
        gate, self._gate = os.pipe2(os.O_CLOEXEC)
        self._report, report = os.pipe2(os.O_CLOEXEC)
        self.pid = os.fork()
        if not self.pid:
            try:
                os.close(self._gate)
                for fd in closed:
                    os.close(fd)
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
                    signal.signal(number, signal.SIG_DFL)
                if not os.read(gate, 1):
                    os._exit(127)  # the recorder is gone
                if account is not None:
                    _become(account)
                if before is not None:
                    before()
                os.execvp(self.words[0], self.words)
            except OSError as error:
                os.write(report, str(error.errno or 0).encode())
            finally:
                os._exit(127)
        os.close(gate)
        os.close(report)
        try:
            self.pidfd = os.pidfd_open(self.pid)
        except (OSError, AttributeError):  # before Linux 5.3
            self.pidfd = -1

    def release(self) -> None:
        """Lets the child execute.

        Raises:
            KernelError: it could not be executed.
        """
        if self._gate >= 0:
            os.write(self._gate, b"x")
            os.close(self._gate)
            self._gate = -1
            number = int(os.read(self._report, 16) or b"0")
            if number:
                self.wait()
                raise KernelError(f"cannot run '{self.words[0]}': {os.strerror(number)}", errno=number)

    def wait(self) -> None:
        while self.status is None:
            try:
                self.status = os.waitpid(self.pid, 0)[1]
            except ChildProcessError:
                self.status = 0

    def close(self) -> None:
        """Lets go of a child that was never released, which then ends; one that runs goes on."""
        if self._gate >= 0:
            os.close(self._gate)
            self._gate = -1
            self.wait()
        for fd in (self._report, self.pidfd):
            if fd >= 0:
                os.close(fd)
        self._report = self.pidfd = -1


def _account(user: str) -> tuple[str, int, int, str]:
    import pwd

    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise UsageError(f"there is no user called {user!r}") from None
    return entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir


def _become(account: tuple[str, int, int, str]) -> None:
    name, uid, gid, home = account
    os.initgroups(name, gid)
    os.setgid(gid)
    os.setuid(uid)
    os.environ.update(HOME=home, USER=name, LOGNAME=name)
