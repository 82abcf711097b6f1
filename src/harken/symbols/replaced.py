"""Whether a file is still the one that a process had mapped.

While a process lives, its mapping itself leads to the file.  Afterwards there is only the path, and an upgrade or a build may have put
another file there: its symbols would be wrong names, which is worse than none.  A build id settles it; where there is none, the inode does.
But a different inode alone proves nothing: maps shows the inode of the lower file on some kernels where stat shows overlayfs' own.  So the
file must have changed since tracing began as well.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel.kernel import Kernel

__all__ = ("replaced",)

_began: list[float] = []


def replaced(kernel: Kernel, path: str, inode: int) -> bool:
    """Whether the file at ``path`` is another one than that with ``inode``, and was put there while this process ran."""
    if not inode:
        return False
    try:
        state = os.stat(path)
    except OSError:
        return False
    return state.st_ino != inode and state.st_ctime >= _start(kernel)


def _start(kernel: Kernel) -> float:
    """When this process began, as file systems tell time."""
    if not _began:
        from ..kernel.procfs_process import start_time

        ticks = start_time(kernel, os.getpid())
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK") if ticks is not None else 0.0
        _began.append(time.time() - age - 0.02)  # a tick of ctime and one of the start
    return _began[0]
