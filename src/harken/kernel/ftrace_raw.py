"""Raw pages of the ring buffers of several CPUs and buffers, as they come (``trace_pipe_raw``)."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .ftrace import Ftrace

__all__ = ("RawPages",)

_TURN = 4096


class RawPages:
    """Reads without waiting; ``streams`` are (buffer, CPU, page size), in the order of the buffers.

    Raises:
        KernelError: a file cannot be opened.
    """

    def __init__(self, traces: Sequence[Ftrace]) -> None:
        self.kernel = traces[0].kernel
        self.streams: list[tuple[Ftrace, int, int]] = []
        self._fds: list[int] = []
        try:
            for trace in traces:
                for cpu in trace.cpus:
                    file = f"per_cpu/cpu{cpu}/trace_pipe_raw"
                    try:
                        self._fds.append(self.kernel.open(trace.tracefs.path(file), os.O_RDONLY | os.O_NONBLOCK))
                    except OSError as error:
                        raise trace.tracefs.refused(file, error, "read") from None
                    self.streams.append((trace, cpu, trace.page_size))
        except BaseException:
            self.close()
            raise

    def wait(self, timeout_ms: int) -> None:
        """Waits until there is something to read."""
        self.kernel.poll(self._fds, timeout_ms)

    def read(self, number: int) -> list[bytes]:
        """Whole pages of a stream; at most some thousand at a time, none if there is nothing new."""
        size = self.streams[number][2]
        pages: list[bytes] = []
        while len(pages) < _TURN:
            try:
                data = os.read(self._fds[number], size)
            except BlockingIOError:
                break
            if not data:
                break
            pages.append(data.ljust(size, b"\0"))
        return pages

    def close(self) -> None:
        for fd in self._fds:
            self.kernel.close(fd)
        self._fds = []
