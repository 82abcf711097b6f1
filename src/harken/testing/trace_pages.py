"""The pages that are in an ftrace buffer now, as bytes: what tests hold against the kernel's own ``trace`` file."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel.tracefs import Tracefs

__all__ = ("raw_pages",)

_PAGE = 4096


def raw_pages(place: Tracefs, cpu: int) -> bytes:
    """Takes a CPU's pages out of the buffer, each filled up to a whole page.

    Args:
        place: tracefs or an instance of it.
    """
    pages = []
    fd = os.open(place.path(f"per_cpu/cpu{cpu}/trace_pipe_raw"), os.O_RDONLY | os.O_NONBLOCK)
    try:
        while True:
            try:
                page = os.read(fd, _PAGE)
            except BlockingIOError:
                break
            if not page:
                break
            pages.append(page.ljust(_PAGE, b"\0"))
    finally:
        os.close(fd)
    return b"".join(pages)
