"""Who made something in tracefs: what lives there outlives its owner, so its name tells PID, start time and PID namespace."""

from __future__ import annotations

import os

from ..base.record import Record
from .identity import namespace_number, start_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .kernel import Kernel

__all__ = ("Owner", "owner_name", "owner_of", "owner_state")

_PREFIX = "harken"


class Owner(Record):
    """Who made something: PID and start time (ticks after boot) as seen in PID namespace number ``namespace``."""

    pid: int
    start: int
    namespace: int


_own: tuple[int, str] = (0, "")


def owner_name(kernel: Kernel) -> str:
    """The name under which this process owns things in tracefs.

    The same for the whole life of the process, different after a fork.
    """
    global _own
    pid = os.getpid()
    if _own[0] != pid:
        start = start_time(kernel) or 0
        _own = (pid, f"{_PREFIX}_{pid}_{start}_{namespace_number(kernel, 'pid'):x}")
    return _own[1]


def owner_of(name: str) -> Owner | None:
    """The owner that a group's or instance's name tells; None if it is not one of harken's.

    Example:
        >>> owner_of("harken_4711_182637_effffffc_probe")
        Owner(pid=4711, start=182637, namespace=4026531836)
        >>> owner_of("harken_is_great") is None, owner_of("sched") is None
        (True, True)
    """
    words = name.split("_")
    if len(words) < 4 or words[0] != _PREFIX or not (words[1].isdigit() and words[2].isdigit()) or len(name) > 200:
        return None
    try:
        return Owner(int(words[1]), int(words[2]), int(words[3], 16))
    except ValueError:
        return None


def owner_state(kernel: Kernel, owner: Owner) -> str:
    """ "alive", "dead", or "elsewhere" (another PID namespace, or one that cannot be told)."""
    here = namespace_number(kernel, "pid")
    if not here or here != owner.namespace:
        return "elsewhere"
    return "alive" if start_time(kernel, owner.pid) == owner.start else "dead"
