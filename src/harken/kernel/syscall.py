"""syscall(2), and the addresses of buffers: the few lines of ctypes behind ``LinuxKernel.call``.

The C part of ctypes (``_ctypes``) is enough for that.  The package around it makes forty classes when it is imported, which costs as much
as everything else that a system call needs; it is used where the C part is not what we know it to be.
"""

from __future__ import annotations

from sys import byteorder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ("address", "connect")


def _from_package() -> tuple[Callable[..., int], Callable[[], int], Any, Any, Any]:
    import ctypes

    function = ctypes.CDLL(None, use_errno=True).syscall
    function.argtypes = [ctypes.c_long] * 7
    function.restype = ctypes.c_long
    return function, ctypes.get_errno, ctypes.c_char, ctypes.c_char_p, ctypes.addressof


def _from_c_part() -> tuple[Callable[..., int], Callable[[], int], Any, Any, Any]:
    import _ctypes

    c: Any = _ctypes
    long = type("long", (c._SimpleCData,), {"_type_": "l"})
    char = type("char", (c._SimpleCData,), {"_type_": "c"})
    pointer = type("pointer", (c._SimpleCData,), {"_type_": "z"})
    body = {"_flags_": c.FUNCFLAG_CDECL | c.FUNCFLAG_USE_ERRNO, "_argtypes_": (long,) * 7, "_restype_": long}
    function = type("function", (c.CFuncPtr,), body)
    return function(c.dlsym(c.dlopen(None, 0), "syscall")), c.get_errno, char, pointer, c.addressof


try:
    _function, _errno, _Char, _CharPointer, _addressof = _from_c_part()
except (AttributeError, ImportError, OSError, TypeError):
    _function, _errno, _Char, _CharPointer, _addressof = _from_package()


def connect() -> tuple[Callable[..., int], Callable[[], int]]:
    """(syscall(2) of the C library, what errno the last one left in this thread).

    The function takes a number and six longs, and returns a long: -1 for a refusal.
    """
    return _function, _errno


def address(buffer: Any, kept: list[Any]) -> int:
    """The address of a buffer's memory; what must stay alive while it is used goes to ``kept``.

    ``bytes`` end with a zero byte, whatever they hold.  Other buffers that are empty have no memory and are at 0; of a view that is
    read-only, a copy is taken.

    Example:
        >>> kept, text = [], bytearray(b"four")
        >>> address(memoryview(text)[1:], kept) - address(text, kept), address(bytearray(), kept)
        (1, 0)
    """
    kind = type(buffer)
    if kind is bytes:
        text = _CharPointer(buffer)
        kept.append(text)
        return int.from_bytes(memoryview(text), byteorder)  # the object's own memory is the pointer
    if not len(buffer):
        return 0
    if kind is not bytearray:
        view = memoryview(buffer)
        if view.readonly:
            return address(bytes(view), kept)
        buffer = view.cast("B")
    first = _Char.from_buffer(buffer)
    kept.append(first)
    return int(_addressof(first))
