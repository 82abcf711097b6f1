"""Compressed records of a ``perf.data`` (``perf record -z``): one zstd stream, cut into records anywhere.

perf flushes the stream at the end of each record, but does not end it, and a record of the ring may begin in one and end in the next
(tools/perf/util/zstd.c).  zstd is Python's ``compression.zstd`` (3.14), else the ``zstandard`` package (``pip install harken[zstd]``).

Eight bytes can expand to 128 KiB: what is expanded is bounded, and fed in small pieces so that the bound is noticed in time.
"""

from __future__ import annotations

from ..base.errors import FormatError
from .perf_data_columns import Walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("Expander",)

#: perf expands a record into a buffer of the ring's size, 64 MiB at most.
_LIMIT = 64 << 20
_PIECE = 1024


class Expander:
    """Expands one recording's stream.

    Args:
        what: what the recording is called.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._rest = b""
        self._stream = _stream(what)

    def feed(self, data: bytes, order: str) -> bytes:
        """The whole records that are known with one more compressed record; what is left over waits for the next.

        Raises:
            FormatError: no valid zstd, or more than 64 MiB.
        """
        parts, size = [self._rest], len(self._rest)
        for place in range(0, len(data), _PIECE):
            try:
                part = self._stream.decompress(data[place : place + _PIECE])
            except Exception as error:  # every library has its own class
                raise FormatError(self._what, f"a compressed record is damaged ({error})") from None
            size += len(part)
            if size > _LIMIT:
                raise FormatError(self._what, f"a compressed record of more than {_LIMIT >> 20} MiB")
            parts.append(part)
        whole = b"".join(parts)
        walk = Walk(whole, order)
        if walk.problem:
            raise FormatError(self._what, f"compressed records are damaged ({walk.problem})")
        self._rest = whole[walk.end :]
        return whole[: walk.end]


def _stream(what: str) -> Any:
    try:
        from compression import zstd

        return zstd.ZstdDecompressor()
    except ImportError:
        pass
    try:
        import zstandard
    except ImportError:
        raise FormatError(what, "it is compressed with zstd, which is not installed", hint="pip install 'harken[zstd]'") from None
    return zstandard.ZstdDecompressor().decompressobj()
