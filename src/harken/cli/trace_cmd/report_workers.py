"""A long report on several processors: each process reads the whole recording and prints every n-th window of it.

Finding the records is a tenth of the work and is done by all; what a window's lines need from the windows before (names of tasks that
sched events tell) is learnt by all as well, so the text does not depend on how many there are.  Windows come back through pipes in their
order.  ``HARKEN_WORKERS=1`` does without.
"""

from __future__ import annotations

import marshal
import os
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from ...render.ftrace import Lines
    from ...render.ftrace_batches import Batch

__all__ = ("parallel", "workers")

_MOST = 8
#: Bytes of records from which on a second process pays: it starts in 10 ms and each finds all records.
_LARGE = 8 << 20
_HEAD = struct.Struct("=q")
_F_SETPIPE_SZ = 1031


def workers(size: int) -> int:
    """How many processes print a recording with so many bytes of records."""
    wish = os.environ.get("HARKEN_WORKERS", "")
    if wish.isdecimal():
        return max(1, min(int(wish), 64))
    return 1 if size < _LARGE else min(_MOST, len(os.sched_getaffinity(0)))


def parallel(count: int, lines: Lines, windows: Callable[[list[str]], Iterator[list[Batch]]], problems: list[str]) -> Iterator[bytes]:
    """The lines of all windows in order.

    Args:
        count: number of processes.
        windows: gives the windows; its argument gets what is wrong with the recording.
        problems: gets the same.
    """
    sys.stdout.flush()
    children: list[tuple[int, Any]] = []
    try:
        for number in range(count):
            source, sink = os.pipe()
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    os.close(source)
                    for _, other in children:
                        other.close()
                    _work(number, count, sink, lines, windows)
                    status = 0
                finally:
                    os._exit(status)
            os.close(sink)
            children.append((pid, os.fdopen(source, "rb", buffering=0)))
        turn = 0
        while True:
            source = children[turn % count][1]
            (size,) = _HEAD.unpack(_exactly(source, _HEAD.size))
            if size < 0:
                problems += marshal.loads(_exactly(source, -size))  # noqa: S302  from our own process
                return
            while size:
                piece = source.read(min(size, 1 << 20))
                if not piece:
                    raise RuntimeError("a process that prints a part of the report has ended early")
                size -= len(piece)
                yield piece
            turn += 1
    finally:
        for _, source in children:
            source.close()
        for pid, _ in children:
            os.waitpid(pid, 0)


def _exactly(source: Any, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = source.read(size - len(data))
        if not piece:
            raise RuntimeError("a process that prints a part of the report has ended early")
        data += piece
    return data


def _work(number: int, count: int, sink: int, lines: Lines, windows: Callable[[list[str]], Iterator[list[Batch]]]) -> None:
    import fcntl
    import signal

    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # whoever reads has had enough
    try:
        fcntl.fcntl(sink, _F_SETPIPE_SZ, 1 << 20)
    except OSError:
        pass  # pipes may be limited; it goes in smaller steps then
    problems: list[str] = []
    turn = 0
    for window in windows(problems):
        if turn % count == number:
            data = lines.data(window)
            _write(sink, _HEAD.pack(len(data)))
            _write(sink, data)
        else:
            lines.prepare(window)
        turn += 1
    if turn % count == number:
        data = marshal.dumps(problems)
        _write(sink, _HEAD.pack(-len(data)))
        _write(sink, data)


def _write(sink: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(sink, view) :]
