"""Room for deep expressions: a sum of a thousand terms is a tree a thousand levels deep, and every pass descends it.

Calls of one Python function by another take no space on the machine's stack, so Python's own limit, which is meant for endless
recursion, can be raised while a tree is walked whose depth is bounded (``DEEPEST``, and ``scan.obstacle`` before that).
"""

from __future__ import annotations

import sys

__all__ = ("DEEPEST", "Room")

#: deepest nesting of expressions
DEEPEST = 3000
#: Python calls for each level, at most
_CALLS = 15


class Room:
    """Inside, Python may nest calls as deep as the deepest expression needs."""

    __slots__ = ("_before",)

    def __enter__(self) -> None:
        self._before = sys.getrecursionlimit()
        sys.setrecursionlimit(max(self._before, _CALLS * DEEPEST))

    def __exit__(self, *_error: object) -> None:
        try:
            sys.setrecursionlimit(self._before)
        except RecursionError:
            # another thread's limit, and we are deeper than it allows: it stays raised
            pass
