"""What programs print by ``bpf_trace_printk``: lines of tracefs' ``trace_pipe``.

There is one such pipe for the whole machine: whoever reads a line takes it from all others.
"""

from __future__ import annotations

import os
import sys

from ..base.errors import HarkenError
from .errors import attach_error
from .names import catalogue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("TracePipe", "parse_line")


def parse_line(line: bytes) -> tuple[bytes, int, int, bytes, float, bytes] | None:
    """(task, PID, CPU, flags, seconds, message) of a line; None if it is of another form.

    >>> parse_line(b"            bash-4242    [001] d..31  1234.567890: bpf_trace_printk: Hello, World!")
    (b'bash', 4242, 1, b'd..31', 1234.56789, b'Hello, World!')
    """
    task, rest = line[:16].lstrip(), line[17:]
    end = rest.find(b":")
    words = rest[:end].split()
    if end < 0 or len(words) != 4:
        return None
    try:
        pid, cpu, flags, seconds = int(words[0]), int(words[1][1:-1]), words[2], float(words[3])
    except ValueError:
        return None
    message = rest[end + 1 :]
    return task, pid, cpu, flags, seconds, message[message.find(b":") + 2 :]


class TracePipe:
    """The part of ``BPF`` that reads the pipe."""

    tracefile: Any = None

    def trace_open(self, nonblocking: bool = False) -> Any:
        """The pipe, opened once.

        Args:
            nonblocking: reads return at once if there is nothing.
        """
        if self.tracefile is None:
            try:
                path = catalogue().tracefs.path("trace_pipe")
            except HarkenError as error:
                raise attach_error("cannot read trace_pipe", error) from None
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | (os.O_NONBLOCK if nonblocking else 0))
            self.tracefile = os.fdopen(fd, "rb")
        return self.tracefile

    def trace_readline(self, nonblocking: bool = False) -> bytes | None:
        """One line without its end; None or ``b""`` if there is none (``nonblocking``)."""
        try:
            line: bytes = self.trace_open(nonblocking).readline(1024)
        except OSError:
            return None
        return line.rstrip() if line else line

    def trace_fields(self, nonblocking: bool = False) -> tuple[Any, ...]:
        """The next line's (task, pid, cpu, flags, timestamp, message); six times None if there is none (``nonblocking``)."""
        while True:
            line = self.trace_readline(nonblocking)
            if not line:
                if nonblocking:
                    return (None,) * 6
                continue
            if line.startswith(b"CPU:"):
                continue  # tells of lost lines
            fields = parse_line(line)
            if fields is not None:
                return fields

    def trace_print(self, fmt: str | None = None) -> None:
        """Prints lines for ever.

        Args:
            fmt: a format for ``str.format`` with the members of ``trace_fields``: ``"pid {1}, msg = {5}"``.
        """
        while True:
            text = fmt.format(*self.trace_fields()) if fmt else str(self.trace_readline())
            sys.stdout.write(text + "\n")
            sys.stdout.flush()
