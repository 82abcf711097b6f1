"""A command that runs under observation (``-c``): held before its first instruction until all probes are attached.

The child asks to be traced (``PTRACE_TRACEME``, ptrace(2)) and executes: the kernel stops it right after the successful execve, when
its own code has not run yet and its memory is laid out, so that nothing of harken's preparation is seen by the probes.  Where ptrace
is refused, it stops itself before the execve.  A held child dies with harken (``PTRACE_O_EXITKILL``): it never runs unobserved.
"""

from __future__ import annotations

import os

from ..base.errors import HarkenError, KernelError
from ..kernel.kernel import Call
from .child import Child

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence

    from ..kernel.kernel import Kernel
else:
    import _signal as signal  # the public module wraps it in enums, which take 4 ms to import

__all__ = ("Command", "watch")

_TRACEME, _DETACH, _SETOPTIONS = 0, 17, 0x4200
_EXITKILL = 1 << 20


class Command(Child):
    """A started and held child process.

    Args:
        kernel: the running kernel.
        words: program (searched in PATH) and arguments.

    Raises:
        HarkenError: it cannot be executed.
    """

    def __init__(self, kernel: Kernel, words: Sequence[str]) -> None:
        if not words:
            raise HarkenError("the command is empty")
        self._kernel = kernel
        self.words = tuple(words)
        self.status = None
        self._traced = False
        self._held = True
        reader, writer = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            _become(kernel, self.words, reader, writer)
        os.close(writer)
        try:
            self._wait_until_held(reader)
        finally:
            os.close(reader)

    def _wait_until_held(self, reader: int) -> None:
        _pid, status = os.waitpid(self.pid, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            self._traced = os.WSTOPSIG(status) == signal.SIGTRAP
            if self._traced:  # without it, the kernel lets the child run when harken is killed meanwhile
                self._kernel.call(Call("ptrace", (_SETOPTIONS, self.pid, 0, _EXITKILL)))
            return
        self._held, self.status = False, status
        failed = os.read(reader, 16)
        number = int(failed or b"0")
        reason = os.strerror(number) if number else "it ended before it started"
        raise HarkenError(f"cannot run '{self.words[0]}': {reason}")

    def release(self) -> None:
        """Lets the child run."""
        if not self._held:
            return
        self._held = False
        if self._traced:
            result = self._kernel.call(Call("ptrace", (_DETACH, self.pid, 0, 0)))
            if result < 0:
                raise KernelError(f"cannot let process {self.pid} run", call=f"ptrace(PTRACE_DETACH, {self.pid})", errno=-result)
        else:
            os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """Ends a child that is still held or still runs, and reaps it."""
        if self.poll():
            return
        try:
            os.kill(self.pid, signal.SIGKILL if self._held else signal.SIGTERM)
        except ProcessLookupError:
            pass
        if self._held:
            os.waitpid(self.pid, 0)
            self.status = 0
            self._held = False


def _become(kernel: Kernel, words: tuple[str, ...], reader: int, writer: int) -> None:
    """The child's side: never returns."""
    try:
        os.close(reader)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        if kernel.call(Call("ptrace", (_TRACEME, 0, 0, 0))) < 0:
            os.kill(os.getpid(), signal.SIGSTOP)
        os.execvp(words[0], words)
    except OSError as error:
        os.write(writer, str(error.errno or 0).encode())
    finally:
        os._exit(127)


def watch(pid: int) -> int:
    """A descriptor that becomes readable when process ``pid`` ends (pidfd_open(2), Linux 5.3).

    Raises:
        HarkenError: there is no such process.
    """
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno == 3:  # ESRCH
            raise HarkenError(f"there is no process with PID {pid}") from None
        raise KernelError(
            f"cannot watch process {pid}: {os.strerror(error.errno or 0)}", call=f"pidfd_open({pid}, 0)", errno=error.errno or 0
        ) from None
