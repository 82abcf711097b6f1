"""Buffered writing with patches: what a writer of files with tables of places needs.

Writes go to a descriptor in large pieces; ``patch`` changes what was written before; ``align`` leaves a hole.
"""

from __future__ import annotations

import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("Output",)

_PIECE = 1 << 20


class Output:
    """Appends to a descriptor from its start; ``at`` is where the next byte goes."""

    def __init__(self, fd: int, order: str) -> None:
        self.fd = fd
        self.order = order
        self.at = 0
        self._pending: list[Any] = []
        self._size = 0

    def write(self, data: Any) -> None:
        size = len(data)
        self._pending.append(data)
        self.at += size
        self._size += size
        if self._size >= _PIECE:
            self.flush()

    def u16(self, value: int) -> None:
        self.write(struct.pack(self.order + "H", value))

    def u32(self, value: int) -> None:
        self.write(struct.pack(self.order + "I", value))

    def u64(self, value: int) -> None:
        self.write(struct.pack(self.order + "Q", value))

    def option(self, number: int, data: bytes) -> None:
        self.write(struct.pack(self.order + "HI", number, len(data)) + data)

    def align(self, size: int) -> None:
        """Moves to the next multiple of ``size``; what lies between reads as zeros."""
        rest = -self.at % size
        if rest:
            self.write(bytes(rest))

    def skip(self, size: int) -> None:
        """Leaves a hole, which reads as zeros."""
        self.flush()
        self.at += size

    def patch(self, at: int, data: bytes) -> None:
        """Replaces what was written, or fills a hole further on."""
        self.flush()
        view = memoryview(data)
        while view:
            done = os.pwrite(self.fd, view, at)
            view = view[done:]
            at += done

    def flush(self) -> None:
        start = self.at - self._size
        for data in self._pending:
            view = memoryview(data).cast("B")
            while view:
                done = os.pwrite(self.fd, view, start)
                view = view[done:]
                start += done
        self._pending = []
        self._size = 0

    def close(self) -> None:
        """Writes what is pending (the descriptor stays open)."""
        self.flush()
