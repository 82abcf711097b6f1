"""The loop of a recorder's thread (``record.c``); ``kernel.ftrace_splice`` has the same in Python.

It is called as a module of Python where that was built (``python/mover.c``), else through ctypes, which takes 1.5 ms to load.
"""

from __future__ import annotations

import os

from . import VERSION, library

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("FIELDS", "Moving", "move", "moving")

#: What a thread knows of its stream: descriptors, places in the file, and how far it is (``struct stream``).
FIELDS = "raw ended reader writer target ready interval start page table keep room size gone side".split()
_PLACES = {name: place for place, name in enumerate(FIELDS)}


class Moving:
    """The numbers of ``FIELDS``; ``size`` and ``gone`` grow while ``move`` runs in another thread.

    Example:
        >>> found = Moving()
        >>> found.keep = 4096
        >>> found.keep, found.size
        (4096, 0)
    """

    if TYPE_CHECKING:
        memory: bytearray
        _words: memoryview[int]

    def __init__(self) -> None:
        memory = bytearray(8 * len(FIELDS))
        self.__dict__.update(memory=memory, _words=memoryview(memory).cast("Q"))

    def __getattr__(self, name: str) -> int:
        try:
            return self._words[_PLACES[name]]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, number: int) -> None:
        self._words[_PLACES[name]] = number


_found: list[Any] = []


def _loop() -> Any:
    """What moves pages, given the memory of a ``Moving``; None without the accelerator."""
    if not _found:
        _found.append(_module() or _library())
    return _found[0]


def _module() -> Any:
    if os.environ.get("HARKEN_NATIVE") == "0":
        return None
    try:
        mover: Any = __import__("harken.native.mover", fromlist=["move"])
    except ImportError:  # it was not built, or is not for this Python
        return None
    return mover.move if mover.VERSION == VERSION else None


def _library() -> Any:
    call = getattr(library(), "harken_record", None)
    if call is None:
        return None
    from .foreign import Pointer, place_of_memory

    call.argtypes = (Pointer,)
    return lambda memory: int(call(place_of_memory(memory)))


def moving() -> Moving | None:
    """A ``Moving`` of zeros; None without the accelerator.

    Example:
        >>> found = moving()
        >>> found is None or (found.size, found.raw) == (0, 0)
        True
    """
    return Moving() if _loop() is not None else None


def move(found: Moving) -> int:
    """Moves pages until ``found.ended`` is readable.

    Returns:
        0, or minus the number of an error: of the file if ``found.side`` is 1, else of the buffer.
    """
    return int(_loop()(found.memory))
