"""The loop of a recorder's thread (``record.c``); ``kernel.ftrace_splice`` has the same in Python."""

from __future__ import annotations

from . import library
from .foreign import Pointer, Structure, Word, addressof

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("FIELDS", "Moving", "move", "moving")

#: What a thread knows of its stream: descriptors, places in the file, and how far it is (``struct stream``).
FIELDS = "raw ended reader writer target ready interval start page table keep room size gone side".split()


class Moving(Structure):
    """The numbers of ``FIELDS``; ``size`` and ``gone`` grow while ``move`` runs in another thread."""

    _fields_ = [(name, Word) for name in FIELDS]


def moving() -> Any:
    """A ``Moving`` of zeros; None without the accelerator.

    Example:
        >>> found = moving()
        >>> found is None or (found.size, found.raw) == (0, 0)
        True
    """
    return Moving() if hasattr(library(), "harken_record") else None


def move(found: Any) -> int:
    """Moves pages until ``found.ended`` is readable.

    Returns:
        0, or minus the number of an error: of the file if ``found.side`` is 1, else of the buffer.
    """
    call: Any = library().harken_record
    call.argtypes = (Pointer,)
    return int(call(addressof(found)))
