"""Live counters on the terminal: time, events, bytes, losses.  Standard error only, and only if it is a terminal."""

from __future__ import annotations

import sys
import time

from ...base.errors import KernelError
from ...session.recorder_ftrace import parse_stats

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...kernel.ftrace import Ftrace

__all__ = ("Counter", "Progress", "amount")

_EVERY = 0.5  # seconds between two lines
_FIRST = 1.0  # short recordings stay silent


def amount(count: float, unit: str = "") -> str:
    """A count in three digits.

    Example:
        >>> amount(950), amount(1234567), amount(10 << 20, "B")
        ('950', '1.23 M', '10.5 MB')
    """
    for prefix in ("", "k", "M", "G"):
        if count < 1000 or prefix == "G":
            break
        count /= 1000
    text = f"{count:.0f}" if not prefix or count >= 100 else f"{count:.1f}" if count >= 10 else f"{count:.2f}"
    return f"{text} {prefix}{unit}".strip()


class Counter:
    """A line that is written over again and again.

    Args:
        describe: seconds since the last line -> what to show behind the time.
        terminal: None: whether standard error is one.
    """

    def __init__(self, describe: Callable[[float], str], terminal: bool | None = None) -> None:
        self._describe = describe
        self.shown = sys.stderr.isatty() if terminal is None else terminal
        self._start = self._before = time.monotonic()
        self._next = self._start + _FIRST
        self._width = 0

    def tick(self) -> None:
        """Shows the counters if it is time to."""
        now = time.monotonic()
        if not self.shown or now < self._next:
            return
        self._next = now + _EVERY
        text = self._describe(max(now - self._before, 1e-3))
        self._before = now
        self.say(f"{now - self._start:6.1f} s  {text}")

    def say(self, text: str) -> None:
        """Shows a text in place of the counters."""
        if self.shown:
            sys.stderr.write("\r" + text.ljust(self._width))
            sys.stderr.flush()
            self._width = len(text)

    def end(self) -> None:
        """Wipes the line."""
        if self.shown and self._width:
            sys.stderr.write("\r" + " " * self._width + "\r")
            sys.stderr.flush()
            self._width = 0


class Progress(Counter):
    """The counters of a recording.

    Args:
        traces: the buffers whose statistics are read.
        size: bytes recorded so far.
    """

    def __init__(self, traces: Sequence[Ftrace], size: Callable[[], int], terminal: bool | None = None) -> None:
        super().__init__(self._text, terminal)
        self._traces, self._size = traces, size
        self._counted = 0

    def _text(self, seconds: float) -> str:
        events, lost = self.counts()
        rate = max(events - self._counted, 0) / seconds
        self._counted = events
        text = f"{amount(events)} events ({amount(rate)}/s)  {amount(self._size(), 'B')}"
        return text + (f"  {amount(lost)} LOST" if lost else "")

    def counts(self) -> tuple[int, int]:
        """(events, lost events) so far."""
        events = lost = 0
        for trace in self._traces:
            for cpu in trace.cpus:
                try:
                    numbers = parse_stats(trace.stats(cpu))
                except KernelError:
                    continue
                events += numbers.get("entries", 0) + numbers.get("read events", 0)
                lost += numbers.get("overrun", 0) + numbers.get("dropped events", 0)
        return events, lost
