"""Detaching many probes in the time of one.

The kernel waits for all CPUs at each link that is given up (tracepoint_synchronize_unregister, uprobe_unregister_sync: tens of
milliseconds).  Those who wait at the same time share the wait, so that many links are closed by several threads.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..probes.model import Link

__all__ = ("close_links",)

#: From so many links on they are closed by several threads, and by how many.
_MANY_LINKS, _CLOSERS = 16, 64


def close_links(links: list[tuple[Link, str]], deadline: float | None) -> None:
    """Closes links and takes them off the end of the list.

    Args:
        links: with the probes that they serve.
        deadline: on the clock of ``time.monotonic``; what is not done by then stays in the list.  None: all are closed.

    Raises:
        Exception: the first that closing one raised; the others were closed nevertheless.
    """
    if len(links) < _MANY_LINKS:
        while links and (deadline is None or time.monotonic() < deadline):
            links.pop()[0].close()
        return
    from _thread import allocate_lock, start_new_thread

    def work(done: Any) -> None:
        try:
            while deadline is None or time.monotonic() < deadline:
                try:
                    link, _probe = links.pop()
                except IndexError:
                    return
                link.close()
        except Exception as error:  # a thread has nobody to tell
            failed.append(error)
        finally:
            done.release()

    failed: list[Exception] = []
    locks = []
    for _ in range(_CLOSERS - 1):
        lock = allocate_lock()
        lock.acquire()
        try:
            start_new_thread(work, (lock,))
        except RuntimeError:  # no more threads: those that there are do it
            break
        locks.append(lock)
    mine = allocate_lock()
    mine.acquire()
    work(mine)
    for lock in locks:
        lock.acquire()
    if failed:
        raise failed[0]
