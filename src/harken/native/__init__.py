"""The accelerator: a few loops over bytes in C, for what plain Python cannot do at the speed of the peers.

It is built into the wheel where a C compiler is at hand (``hatch_build.py``), knows nothing of Python (buffers in, buffers out, through
ctypes or, where that would take too long to import, its C part: ``foreign``), and is never needed: whoever calls it has a way in plain
Python that gives the same bytes, and the tests hold the two together.  ``HARKEN_NATIVE=0`` in the environment does without it.

The rules of the C code: no allocation of its own, no pointer kept after a call but in structures that the caller owns, every read and
write checked against the length that came with the buffer, no signals, no threads of its own (``record.c`` runs in one of Python's), and
no global state but the key of its hash tables, which is drawn once.

Example::

    native = library()
    if native is None:
        ...  # plain Python
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("VERSION", "library")

#: What harken_native_version() of a library must give that fits these Python sources: raised with each change of a C function's meaning.
VERSION = 24

_found: list[Any] = []


def library() -> Any:
    """The accelerator's library, or None where it was not built, does not fit or is not wanted.

    >>> native = library()
    >>> native is None or native.harken_native_version() == VERSION
    True
    """
    if not _found:
        _found.append(None if os.environ.get("HARKEN_NATIVE") == "0" else _load())
    return _found[0]


def _load() -> Any:
    from .foreign import Library

    try:
        found = Library(os.path.join(os.path.dirname(__file__), "native.so"))
        return found if found.harken_native_version() == VERSION else None
    except (OSError, AttributeError):
        return None
