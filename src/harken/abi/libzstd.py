"""The four functions of ``libzstd.so.1`` that harken calls when neither Python nor a package brings zstd.

The declarations are those of zstd.h 1.0 and later, which are stable.  Written by hand: there is nothing to generate from where only
the library is installed.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("Libzstd", "load")


class Libzstd:
    """The loaded library."""

    def __init__(self, library: Any) -> None:
        import ctypes

        size, pointer = ctypes.c_size_t, ctypes.c_char_p
        self._bound = _declare(library.ZSTD_compressBound, size, [size])
        self._compress = _declare(library.ZSTD_compress, size, [ctypes.c_void_p, size, pointer, size, ctypes.c_int])
        self._decompress = _declare(library.ZSTD_decompress, size, [ctypes.c_void_p, size, pointer, size])
        self._failed = _declare(library.ZSTD_isError, ctypes.c_uint, [size])
        self._reason = _declare(library.ZSTD_getErrorName, pointer, [size])
        self.version = _declare(library.ZSTD_versionString, pointer, [])().decode()

    def _checked(self, result: int) -> int:
        if self._failed(result):
            raise ValueError(self._reason(result).decode())
        return result

    def compress(self, data: bytes, level: int = 3) -> bytes:
        import ctypes

        room = self._bound(len(data))
        target = ctypes.create_string_buffer(room)
        length = self._checked(self._compress(target, room, data, len(data), level))
        return target.raw[:length]

    def expand(self, data: Any, size: int) -> bytes:
        """Raises ValueError: not valid, or more than ``size`` bytes."""
        import ctypes

        source = bytes(data)
        target = ctypes.create_string_buffer(max(size, 1))
        length = self._checked(self._decompress(target, size, source, len(source)))
        return target.raw[:length]


def _declare(function: Any, result: Any, arguments: list[Any]) -> Any:
    function.restype, function.argtypes = result, arguments
    return function


def load() -> Libzstd | None:
    """The library; None where it is not installed."""
    import ctypes

    try:
        return Libzstd(ctypes.CDLL("libzstd.so.1"))
    except (OSError, AttributeError):
        return None
