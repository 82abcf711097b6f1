"""Moves the pages of one CPU's ring buffer into a file, by splice: they never come into this process's memory.

A splice of ``trace_pipe_raw`` takes full pages only, so a file gets them packed as densely as the kernel wrote them; ``flush`` takes the
part-filled one at the end.  The kernel makes ``trace_pipe_raw`` readable when ``buffer_percent`` of the buffer are full.
"""

from __future__ import annotations

import errno
import os

from ..base.errors import KernelError
from .kernel import Call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .ftrace import Ftrace

__all__ = ("PageStream", "favour")

_MOVE, _NONBLOCK = 1, 2  # SPLICE_F_* in include/linux/splice.h
_SETPIPE_SZ = 1031  # F_SETPIPE_SZ in include/uapi/linux/fcntl.h
_PIPE = 1 << 16  # bytes that a pipe holds when it is made: pipe(7)
_NICE = -20


def favour() -> None:
    """Lets the calling thread run before others, if that is permitted: pages that are not moved in time are overwritten."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)  # of this thread alone: setpriority(2), "C library/kernel differences"
    except OSError:
        pass


class PageStream:
    """One CPU's buffer: the raw file, and the region of a file that its pages go to.

    Args:
        trace: the buffer; ``name`` is its name in the recording.
        target: descriptor of the file, ``offset`` where the region begins.
        file: what is read of the CPU ("snapshot_raw" for the snapshot).

    Raises:
        KernelError: the buffer cannot be read.
    """

    def __init__(self, trace: Ftrace, name: str, cpu: int, target: int, offset: int, file: str = "trace_pipe_raw") -> None:
        self.name, self.cpu = name, cpu
        self.kernel = trace.kernel
        self.page = trace.page_size
        file = f"per_cpu/cpu{cpu}/{file}"
        try:
            self.fd = self.kernel.open(trace.tracefs.path(file), os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise trace.tracefs.refused(file, error, "read") from None
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._room = _PIPE
        self._target = target
        self.start = offset
        #: Bytes of the region that are there.
        self.size = 0
        self._kept = 0

    def drain(self) -> bool:
        """Moves all full pages; returns whether there were any.

        Raises:
            KernelError: the buffer cannot be read.
            OSError: the file cannot be written.
        """
        moved = False
        while True:
            try:
                result = os.splice(self.fd, self._writer, self._room, flags=_MOVE | _NONBLOCK)
            except BlockingIOError:
                return moved
            except OSError as error:
                raise KernelError(
                    f"cannot read the buffer of CPU {self.cpu}",
                    call=f"splice(trace_pipe_raw) = {errno.errorcode.get(error.errno or 0)}",
                    errno=error.errno or 0,
                ) from None
            if not result:
                return moved
            moved = True
            left = result
            while left:
                done = os.splice(self._reader, self._target, left, offset_dst=self.start + self.size, flags=_MOVE)
                if not done:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                self.size += done
                left -= done
            if result < self._room // 2:  # there was no more of it; who asks again gets little for another call
                return True
            if self._room == _PIPE:
                self._enlarge()

    def _enlarge(self) -> None:
        """Takes more at a time from a buffer that has much."""
        size = self.kernel.call(Call("fcntl", (self._reader, _SETPIPE_SZ, 1 << 20)))
        self._room = size if size > 0 else _PIPE - 1

    def cut(self, keep: int) -> int:
        """Gives back the room of all but the last ``keep`` bytes; returns how many bytes of the region are gone."""
        gone = (self.size - keep) // self.page * self.page
        if gone - self._kept >= max(keep // 4, 1 << 20):
            # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE; a file system without holes keeps what it has
            self.kernel.call(Call("fallocate", (self._target, 3, self.start + self._kept, gone - self._kept)))
            self._kept = gone
        return self._kept

    def flush(self) -> None:
        """Takes what is left, the part-filled page as well, filled up with zeros.

        Raises:
            OSError: the file cannot be written.
        """
        while self.drain():
            pass
        while True:
            try:
                data = os.read(self.fd, self.page)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.ENODEV:  # the CPU is gone
                    return
                raise
            if not data:
                return
            os.pwrite(self._target, data.ljust(self.page, b"\0"), self.start + self.size)
            self.size += self.page

    def close(self) -> None:
        for fd in (self.fd, self._reader, self._writer):
            os.close(fd)
