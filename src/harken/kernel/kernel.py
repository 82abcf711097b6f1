"""The one choke point between harken and the kernel.

Everything in ``harken.kernel`` (and whoever stands above it) reaches the kernel through a ``Kernel`` object: system calls are data
(``Call``), files are read and written by path.  ``testing.fake_kernel`` puts a scripted kernel behind the same methods.
"""

from __future__ import annotations

import os

from ..base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ("Call", "Kernel", "LinuxKernel", "live")


class Call(Record):
    """One system call: ``name`` as in the man page; ``args`` are int (values), bytes or bytearray (a pointer to them; a bytearray may be
    written by the kernel) or None (a null pointer)."""

    name: str
    args: tuple[Any, ...] = ()


class Kernel:
    """What a kernel can be asked.  Paths and file descriptors are the kernel's own; nothing here interprets contents."""

    machine: str = "x86_64"

    def call(self, call: Call) -> int:
        """Runs a system call; returns its result, or ``-errno`` (never raises for a refusal)."""
        raise NotImplementedError

    def read(self, path: str, limit: int = 1 << 26) -> bytes:
        """A whole (pseudo) file, at most ``limit`` bytes; raises OSError."""
        raise NotImplementedError

    def write(self, path: str, data: bytes, append: bool = False) -> None:
        """One write(2) to an existing file (tracefs commands must not be split); raises OSError."""
        raise NotImplementedError

    def exists(self, path: str) -> bool:
        raise NotImplementedError

    def listdir(self, path: str) -> list[str]:
        raise NotImplementedError

    def open(self, path: str, flags: int = os.O_RDONLY) -> int:
        """A file descriptor (close-on-exec); raises OSError."""
        raise NotImplementedError

    def close(self, fd: int) -> None:
        raise NotImplementedError

    def mmap(self, fd: int, length: int, writable: bool = False, offset: int = 0) -> Any:
        """A shared mapping as an object with the buffer protocol and ``close()``."""
        raise NotImplementedError

    def poll(self, fds: Sequence[int], timeout_ms: int) -> list[int]:
        """Those of ``fds`` that are readable, after at most ``timeout_ms`` (-1: for ever)."""
        raise NotImplementedError


class LinuxKernel(Kernel):
    """The kernel that this process runs on."""


def live() -> Kernel:
    """The running kernel."""
    return LinuxKernel()
