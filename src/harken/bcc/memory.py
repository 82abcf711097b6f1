"""Addresses of buffers: callbacks of perf and ring buffers get a record's address, as BCC's do.

Example:
    >>> import ctypes
    >>> ctypes.string_at(address_of(b"text"), 4)
    b'text'
"""

from __future__ import annotations

import ctypes as ct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("address_of",)


class _Buffer(ct.Structure):
    """``Py_buffer`` (Include/cpython/object.h); only ``buf`` is looked at."""

    _fields_ = [
        ("buf", ct.c_void_p),
        ("obj", ct.py_object),
        ("len", ct.c_ssize_t),
        ("itemsize", ct.c_ssize_t),
        ("readonly", ct.c_int),
        ("ndim", ct.c_int),
        ("format", ct.c_char_p),
        ("shape", ct.c_void_p),
        ("strides", ct.c_void_p),
        ("suboffsets", ct.c_void_p),
        ("internal", ct.c_void_p),
    ]


_get, _release = ct.pythonapi.PyObject_GetBuffer, ct.pythonapi.PyBuffer_Release
_get.argtypes = [ct.py_object, ct.POINTER(_Buffer), ct.c_int]
_release.argtypes = [ct.POINTER(_Buffer)]
_release.restype = None


def address_of(buffer: Any) -> int:
    """Where the bytes of an object with the buffer protocol lie; valid as long as the object lives and is not resized."""
    found = _Buffer()
    try:  # an interrupt may come at any time; giving back what was not taken does nothing
        _get(buffer, ct.byref(found), 0)
        return found.buf or 0
    finally:
        _release(ct.byref(found))
