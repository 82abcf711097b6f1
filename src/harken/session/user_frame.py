"""A frame that knows its process: what ``usym`` is for users of the library.

It stands apart so that ``session.stacks`` need not import ``symbols`` before a name is asked for.

Example:
    >>> UserFrame(0x401004, "main", 4, "/usr/bin/x", pid=7).pid
    7
    >>> UserFrame(1, pid=7) == UserFrame(1, pid=8), UserFrame(1, pid=7).replace(offset=4).pid
    (False, 7)
"""

from __future__ import annotations

from ..symbols.model import Frame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("UserFrame",)


class UserFrame(Frame):
    """A ``Frame`` of process ``pid``: two processes may have different things at one address, or the same."""

    pid: int = 0

    def __init__(self, address: int, *values: Any, pid: int = 0, **more: Any) -> None:
        super().__init__(address, *values, **more)
        object.__setattr__(self, "pid", pid)
