"""How large a program's ring buffer is, unless its config says so (``perf_rb_pages``).

The kernel gets and zeroes all of a ring when it is made: 4 MiB take a millisecond, 256 KiB a seventh of that.  What a program that counts
sends is little: that it ends, what went wrong, and what timers print; its ring is small.
"""

from __future__ import annotations

from ...compiler.builtins.type_fields import holds_copied
from . import ast as A

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ...compiler.unit import Event
    from .model import Group

__all__ = ("QUIET", "STACKS", "USUAL", "ring_bytes")

#: Bytes where records may come in great numbers; where they hold copies of stacks, some 16 KiB each; where neither is so.
USUAL, STACKS, QUIET = 4 << 20, 16 << 20, 256 << 10
_MOST = 1 << 30
_PAGE = 4096
#: Probes that are not hit often, and actions of which one in a great number matters (the others are counted as lost).
_TIMED = ("BEGIN", "END", "interval")
_SINGLE = ("exit", "error")
_LOOPS = (A.While, A.Unroll, A.ForMap, A.ForRange)


def ring_bytes(pages: int, sent: Iterable[tuple[Group, Sequence[Event]]]) -> int:
    """Bytes of the ring buffer.

    Args:
        pages: of 4 KiB, as the config says; 0 if it does not.
        sent: the events of each group of probes.
    """
    if pages:
        return min(_MOST, 1 << (pages * _PAGE - 1).bit_length())
    found = QUIET
    for group, events in sent:
        if any([holds_copied(event.schema) for event in events]):
            return STACKS
        seldom = group.kind in _TIMED and not any(isinstance(node, _LOOPS) for node in A.walk(group.probe.body))
        if not seldom and any([event.action not in _SINGLE for event in events]):
            found = USUAL
    return found
