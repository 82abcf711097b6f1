"""Output to a file descriptor: collected in memory, written in large pieces.

Example:
    >>> import os
    >>> reader, writer = os.pipe()
    >>> out = Writer(writer)
    >>> out.write([b"a\\n", b"b\\n"])
    >>> os.read(reader, 10)
    b'a\\nb\\n'
    >>> os.close(reader); os.close(writer)
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ("Writer", "encode", "MODES", "CHUNK")

#: Buffering: "line" and "none" hand on each batch at once, "full" waits for a chunk.
MODES = ("line", "full", "none")
#: Bytes collected before a write in mode "full".
CHUNK = 1 << 16


def encode(text: str) -> bytes:
    """Bytes for output; bytes of the traced system that were not UTF-8 come out as they came in."""
    return text.encode("utf-8", "surrogateescape")


class Writer:
    """Writes to ``fd``, which stays the caller's.

    Args:
        fd: where to write.
        mode: one of ``MODES``.

    A pipe whose reader has gone raises ``BrokenPipeError`` at the write that finds out.
    """

    def __init__(self, fd: int, mode: str = "line") -> None:
        self.fd, self.mode = fd, mode
        self._held: list[bytes] = []
        self._size = 0

    def write(self, parts: Iterable[bytes]) -> None:
        """Adds a batch and passes it on as the mode says."""
        data = b"".join(parts)
        if not data:
            return
        if self.mode == "full":
            self._held.append(data)
            self._size += len(data)
            if self._size < CHUNK:
                return
            self.flush()
        else:
            _write(self.fd, data)

    def flush(self) -> None:
        """Writes everything that is held."""
        if self._held:
            held, self._held, self._size = self._held, [], 0
            _write(self.fd, b"".join(held))


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:  # a non-blocking pipe that is full
            import select

            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()
