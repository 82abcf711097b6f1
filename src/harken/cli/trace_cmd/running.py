"""A command line while it traces: buffers set up, the command held back until all is ready, and everything put back at the end."""

from __future__ import annotations

import os
import sys
import time

from ...session.recorder_ftrace_command import RecordedCommand
from .setup import Buffers, open_tracefs

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence

    from .record_options import Setup
else:
    import _signal as signal  # the public module wraps it in enums, which take 4 ms to import

__all__ = ("Running", "Stop")


class Stop:
    """Ctrl-C, SIGTERM and a terminal that goes away end the recording, not the program.

    ``fd`` becomes readable then, so that nobody has to ask now and then.
    """

    def __init__(self) -> None:
        self.wanted = False
        self.fd, self._told = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._fd_before = signal.set_wakeup_fd(self._told, warn_on_full_buffer=False)
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # nohup ignores it
            numbers.append(signal.SIGHUP)
        self._before = {number: signal.signal(number, self._handle) for number in numbers}

    def _handle(self, _number: int, _frame: object) -> None:
        self.wanted = True

    def restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._told >= 0:
            signal.set_wakeup_fd(self._fd_before)
            os.close(self.fd)
            os.close(self._told)
            self.fd = self._told = -1


class Running:
    """``root``, ``buffers``, ``command`` (None without one) of a setup, as a context.

    Args:
        late: the command is made by ``launch``, when all else is ready: until it executes, each page that harken writes to is copied.

    Raises:
        HarkenError: something that is asked for does not exist or is refused.
    """

    def __init__(self, setup: Setup, late: bool = False) -> None:
        self.setup = setup
        self._late = late and not setup.user  # who is not known should be told before anything is done
        self.root = open_tracefs()
        self.buffers = Buffers(self.root, setup, private=True)
        self.command: RecordedCommand | None = None
        self.stop = Stop()
        self._started = 0.0
        self._armed = False

    def __enter__(self) -> Running:
        try:
            if not self._late:
                self._make_command()
            self.buffers.open()
            self.buffers.configure(fresh=not self.setup.continued)
            if not self._late:
                self.buffers.choose_tasks((os.getpid(),), self.command.pid if self.command else 0)
            self.buffers.enable()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_details: object) -> None:
        self._end()

    def _end(self) -> None:
        if self.command is not None:
            self.command.close()
        self.buffers.close()
        self.stop.restore()

    def _make_command(self, closed: Sequence[int] = ()) -> None:
        if self.setup.command:
            self.command = RecordedCommand(self.setup.command, self.setup.user, closed=closed)

    def launch(self, closed: Sequence[int] = ()) -> None:
        """Makes the command, which waits for ``start``, and chooses the tasks that are traced, if that was left for later.

        Args:
            closed: descriptors that the command must not have.

        Raises:
            HarkenError: as for the context.
        """
        if self._late:
            self._late = False
            self._make_command(closed)
            self.buffers.choose_tasks((os.getpid(),), self.command.pid if self.command else 0)

    def arm(self) -> None:
        """Chooses the tracers: after all slow work, and before the buffers' raw files are opened, which forbids it (EBUSY).

        Raises:
            HarkenError: a tracer or one of its options is refused.
        """
        if not self._armed:
            self._armed = True
            self.buffers.arm()

    def start(self) -> None:
        """Starts tracing, then the command.

        Raises:
            HarkenError: a tracer or one of its options is refused.
        """
        self.arm()
        self.launch()
        self.buffers.start()
        self._started = time.monotonic()
        if self.command is not None:
            self.command.release()
        elif self.setup.ready is not None:
            self.setup.ready()
        elif not self.setup.quiet and self.setup.duration is None:
            print("Hit Ctrl^C to stop recording", file=sys.stderr, flush=True)

    @property
    def over(self) -> bool:
        """Whether to end: the user wants it, the time is over, the command has ended, or without one all tasks that are traced (``-P``)."""
        if self.setup.duration is not None and time.monotonic() - self._started >= self.setup.duration:
            return True
        ended = _gone(self.setup.pids) if self.command is None else self.command.poll()
        return self.stop.wanted or ended

    @property
    def watched(self) -> tuple[int, ...]:
        """Descriptors that become readable when it may be over."""
        command = self.command
        return (self.stop.fd, command.pidfd) if command is not None and command.pidfd >= 0 else (self.stop.fd,)

    @property
    def patience_ms(self) -> int:
        """How long to wait for ``watched`` until ``over`` is asked again: some things tell nobody when they end."""
        told = self.setup.duration is None and (self.command is None or self.command.pidfd >= 0) and not self.setup.pids
        return 1000 if told else 100

    def announce(self) -> None:
        """Says which tracers are used, as trace-cmd does."""
        for buffer in self.setup.buffers:
            if buffer.tracer and not self.setup.quiet:
                print(f"  plugin '{buffer.tracer}'", file=sys.stderr)


def _gone(pids: Sequence[int]) -> bool:
    """Whether tasks were named and all of them have ended."""
    return bool(pids) and not any([os.path.exists(f"/proc/{pid}") for pid in pids])
