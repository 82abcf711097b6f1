"""What the accelerator needs of ``ctypes``, without most of it: to import it takes 3 ms, which is what 30,000 samples of a recording take.

``_ctypes`` is the part in C of which ``ctypes`` makes its classes; who passes values of either to a function need not care which.

Example:
    >>> memory = bytearray(b"abc")
    >>> Char.from_address(place_of_memory(memory) + 1).value, place_of_bytes(b"abc") > 0
    (b'b', True)
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("Char", "Library", "Pointer", "Structure", "Word", "addressof", "place_of_bytes", "place_of_memory")

try:
    from _ctypes import FUNCFLAG_CDECL, CFuncPtr, Structure, _SimpleCData, addressof, dlopen
except ImportError:  # another implementation of Python
    import ctypes
    from ctypes import Structure, addressof

    Char, Pointer, Word = ctypes.c_char, ctypes.c_void_p, ctypes.c_uint64
    Text: Any = ctypes.c_char_p
    Library: Any = ctypes.CDLL
else:

    class Char(_SimpleCData):  # type: ignore[no-redef, type-arg]
        _type_ = "c"

    class Pointer(_SimpleCData):  # type: ignore[no-redef, type-arg]
        _type_ = "P"

    class Word(_SimpleCData):  # type: ignore[no-redef, type-arg]
        """64 bits without sign."""

        _type_ = "Q"

    class Text(_SimpleCData):  # type: ignore[no-redef, type-arg]
        _type_ = "z"

    class _Int(_SimpleCData):  # type: ignore[type-arg]
        _type_ = "i"

    class _Function(CFuncPtr):
        _flags_ = FUNCFLAG_CDECL
        _restype_ = _Int

    class Library:  # type: ignore[no-redef]
        """A shared library, whose functions are attributes that give an ``int`` if nothing else is said.

        Raises:
            OSError: it cannot be loaded.
        """

        def __init__(self, path: str) -> None:
            self._handle = dlopen(path, 0)

        def __getattr__(self, name: str) -> Any:
            found = _Function((name, self))  # type: ignore[arg-type]  # AttributeError if there is none
            setattr(self, name, found)
            return found


_Nothing = Char * 0


def place_of_memory(buffer: Any) -> int:
    """The address of writable memory."""
    return addressof(_Nothing.from_buffer(buffer))


def place_of_bytes(text: bytes) -> int:
    """The address of ``bytes``."""
    return Pointer.from_buffer(Text(text)).value or 0
