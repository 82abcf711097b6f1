"""The memory of another process, page by page.

A ``MemoryView`` is one look at a process: every page is read once, with process_vm_readv(2) (where the kernel has it, else from
/proc/PID/mem), and everything read from it comes from that copy.  How many pages one look may read is bounded, since the pointers that
are followed are the process's own.
"""

from __future__ import annotations

import errno
import struct

from ..kernel.kernel import Call, Memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel.kernel import Kernel

__all__ = ("MemoryView", "Unreadable")

_PAGE = 4096
_MAX_PAGES = 1 << 14
_HIGHEST = 1 << 56


class Unreadable(Exception):
    """An address that is not mapped, or one page too many; never leaves this package."""


class MemoryView:
    """One look at a process's memory.

    Args:
        pid: the process; it need not be stopped, but then a look may see what never was at one time.
    """

    __slots__ = ("_kernel", "_pid", "_pages", "_direct")

    def __init__(self, kernel: Kernel, pid: int) -> None:
        self._kernel, self._pid = kernel, pid
        self._pages: dict[int, bytes] = {}
        self._direct = True

    def read(self, address: int, size: int) -> bytes:
        """``size`` bytes; raises Unreadable."""
        offset = address % _PAGE
        page = self._page(address - offset)
        if offset + size <= _PAGE:
            return page[offset : offset + size]
        parts = [page[offset:]]
        left = size - len(parts[0])
        address += len(parts[0])
        while left > 0:
            part = self._page(address)[:left]
            parts.append(part)
            left -= len(part)
            address += len(part)
        return b"".join(parts)

    def word(self, address: int) -> int:
        """The 64-bit word at an address; raises Unreadable."""
        return int.from_bytes(self.read(address, 8), "little")

    def _page(self, address: int) -> bytes:
        page = self._pages.get(address)
        if page is None:
            if not _PAGE <= address < _HIGHEST or len(self._pages) >= _MAX_PAGES:
                raise Unreadable
            page = self._pages[address] = self._fetch(address)
        return page

    def _fetch(self, address: int) -> bytes:
        buffer = bytearray(_PAGE)
        if self._direct:
            local = Memory(bytearray(struct.pack("=QQ", 0, _PAGE)), [(0, buffer)])
            size = self._kernel.call(Call("process_vm_readv", (self._pid, local, 1, struct.pack("=QQ", address, _PAGE), 1, 0)))
            if size == _PAGE:
                return bytes(buffer)
            if size != -errno.ENOSYS:
                raise Unreadable
            self._direct = False
        try:
            fd = self._kernel.open(f"/proc/{self._pid}/mem")
        except OSError:
            raise Unreadable from None
        try:
            size = self._kernel.call(Call("pread64", (fd, buffer, _PAGE, address)))
        finally:
            self._kernel.close(fd)
        if size != _PAGE:
            raise Unreadable
        return bytes(buffer)
