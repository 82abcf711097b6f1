"""A frame that knows its process: what ``usym`` is for users of the library.

It stands apart so that ``session.stacks`` need not import ``symbols`` before a name is asked for.

Example:
    >>> UserFrame(0x401004, "main", 4, "/usr/bin/x", pid=7).pid
    7
"""

from __future__ import annotations

from ..symbols.model import Frame

__all__ = ("UserFrame",)


class UserFrame(Frame):
    """A ``Frame`` of process ``pid``: two processes may have different things at one address, or the same."""

    pid: int = 0
