"""Moves the pages of one CPU's ring buffer into a file, by splice: they never come into this process's memory.

A splice of ``trace_pipe_raw`` takes full pages only, so a file gets them packed as densely as the kernel wrote them; ``flush`` takes the
part-filled one at the end.  The kernel makes ``trace_pipe_raw`` readable when ``buffer_percent`` of the buffer are full.  ``serve`` is the
loop of a thread; where there is the accelerator (``native.record``), no Python runs between the kernel's wakeup and the pages in the file.
"""

from __future__ import annotations

import errno
import os
from struct import pack
from time import monotonic

from ..base.errors import KernelError
from .kernel import Call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .ftrace import Ftrace

__all__ = ("PageStream", "favour")

_MOVE, _NONBLOCK = 1, 2  # SPLICE_F_* in include/linux/splice.h
_SETPIPE_SZ = 1031  # F_SETPIPE_SZ in include/uapi/linux/fcntl.h
_PIPE = 1 << 16  # bytes that a pipe holds when it is made: pipe(7)
_UPDATE = 0.02  # seconds between two looks at the file's table of sizes: what came later is lost when the recorder is killed
_OFTEN = 1 << 20  # so many bytes of a CPU that is never done are told of at the latest
_NICE = -20


def favour() -> None:
    """Lets the calling thread run before others, if that is permitted: pages that are not moved in time are overwritten."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)  # of this thread alone: setpriority(2), "C library/kernel differences"
    except OSError:
        pass


class _Moving:
    """The numbers of a stream, named as the accelerator's (``native.record``)."""

    def __init__(self) -> None:
        self.raw = self.ended = self.reader = self.writer = self.target = self.ready = self.interval = 0
        self.start = self.page = self.table = self.keep = self.room = self.size = self.gone = self.side = 0


class PageStream:
    """One CPU's buffer: the raw file, and the region of a file that its pages go to.

    Args:
        trace: the buffer; ``name`` is its name in the recording.
        target: descriptor of the file, ``offset`` where the region begins.
        file: what is read of the CPU ("snapshot_raw" for the snapshot).
        table: where the file says where the region's data begin and how many bytes there are: two words of 64 bits.
        keep: bytes that are kept, the last ones (about as many more may be); 0 for all.

    Raises:
        KernelError: the buffer cannot be read.
    """

    def __init__(
        self, trace: Ftrace, name: str, cpu: int, target: int, offset: int, file: str = "trace_pipe_raw", table: int = 0, keep: int = 0
    ) -> None:
        self.name, self.cpu = name, cpu
        self.kernel = trace.kernel
        self.page = trace.page_size
        file = f"per_cpu/cpu{cpu}/{file}"
        try:
            self.fd = self.kernel.open(trace.tracefs.path(file), os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise trace.tracefs.refused(file, error, "read") from None
        self._state: Any = _Moving()
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._target = target
        self.start = offset
        # a splice takes whole pages only, and no more than the pipe has room for
        room = _PIPE if self.page <= _PIPE else self._enlarged()
        self._settings = {
            "raw": self.fd, "reader": self._reader, "writer": self._writer, "target": target,
            "start": offset, "page": self.page, "table": table, "keep": keep, "room": room,
        }  # fmt: skip
        self._set(self._settings)

    def _set(self, numbers: dict[str, int]) -> None:
        for name, number in numbers.items():
            setattr(self._state, name, number)

    @property
    def size(self) -> int:
        """Bytes of the region that are there."""
        return int(self._state.size)

    def serve(self, interval_ms: int, ended: int, ready: int) -> None:
        """Moves pages as they come, and says in the file's table what is there, until ``ended`` is readable.

        Args:
            interval_ms: how often to look at a buffer that is less than half full, for which the kernel wakes nobody.
            ready: descriptor that gets a byte when all that takes time the first time has been done.

        Raises:
            KernelError: the buffer cannot be read.
            OSError: the file cannot be written.
        """
        self._state.ready = ready
        try:
            from ..native.record import move, moving

            native = moving()
            if native is not None:
                self._state = native
                self._set(self._settings)
            self._set({"ended": ended, "ready": ready, "interval": interval_ms})
            failed = move(native) if native is not None else self._serve()
        finally:
            if self._state.ready == ready:  # what failed before it was ready must not be waited for
                os.write(ready, b"x")
        if failed < 0:
            if self._state.side:
                raise OSError(-failed, os.strerror(-failed))
            raise self._refused(-failed)

    def _serve(self) -> int:
        """What ``native.record.move`` does."""
        state, poll = self._state, self.kernel.poll
        import fcntl  # noqa: F401  # when a buffer is full there is no time for it

        updated, fds = 0.0, (state.raw, state.ended)
        self.drain()
        poll(fds, 0)
        os.write(state.ready, b"x")
        state.ready = 0
        while True:
            busy = poll(fds, state.interval)
            moved = self.drain()
            now = monotonic()
            if (moved and now - updated > _UPDATE) or not busy:
                self.tell()
                updated = now
            if state.ended in busy:
                return 0

    def drain(self) -> bool:
        """Moves all full pages; returns whether there were any.

        Raises:
            KernelError: the buffer cannot be read.
            OSError: the file cannot be written.
        """
        state, moved, told = self._state, False, self._state.size
        while True:
            try:
                result = os.splice(self.fd, self._writer, state.room, flags=_MOVE | _NONBLOCK)
            except BlockingIOError:
                return moved
            except OSError as error:
                raise self._refused(error.errno or 0) from None
            if not result:
                return moved
            moved = True
            left = result
            while left:
                done = os.splice(self._reader, self._target, left, offset_dst=state.start + state.size, flags=_MOVE)
                if not done:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                state.size += done
                left -= done
            if state.size - told >= _OFTEN:  # whoever kills harken now finds it in the file
                self.tell()
                told = state.size
            if result + self.page <= state.room:  # there was no more of it; who asks again gets little for another call
                return True
            if state.room == _PIPE:  # it has much: more is taken at a time
                state.room = self._enlarged()

    def _refused(self, number: int) -> KernelError:
        return KernelError(
            f"cannot read the buffer of CPU {self.cpu}", call=f"splice(trace_pipe_raw) = {errno.errorcode.get(number)}", errno=number
        )

    def _enlarged(self) -> int:
        """Makes the pipe larger; the bytes that it holds then, or if it may not be, such a number that this is not asked for again."""
        size = self.kernel.call(Call("fcntl", (self._reader, _SETPIPE_SZ, 1 << 20)))
        return size if size > 0 else _PIPE - 1

    def tell(self) -> None:
        """Says in the file's table what is there, and gives back the room of what is not to be kept.

        Raises:
            OSError: the file cannot be written.
        """
        state = self._state
        if state.keep and state.size > state.keep:
            gone = (state.size - state.keep) // self.page * self.page
            if gone - state.gone >= max(state.keep // 4, 1 << 20):
                # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE; a file system without holes keeps what it has
                self.kernel.call(Call("fallocate", (self._target, 3, state.start + state.gone, gone - state.gone)))
                state.gone = gone
        os.pwrite(self._target, pack("=QQ", state.start + state.gone, state.size - state.gone), state.table)

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
            self._state.size += self.page

    def close(self) -> None:
        for fd in (self.fd, self._reader, self._writer):
            os.close(fd)
