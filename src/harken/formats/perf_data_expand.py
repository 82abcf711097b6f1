"""What has to be put right before records can be walked by words: compressed ones, and those of pipes that are no whole words.

``perf record -z`` writes one zstd stream, cut into records anywhere.  perf flushes the stream at the end of each record, but does not end
it, and a record of the ring may begin in one and end in the next (tools/perf/util/zstd.c).  zstd is Python's ``compression.zstd`` (3.14),
else the ``zstandard`` package (``pip install harken[zstd]``).

Eight bytes can expand to 128 KiB: what is expanded is bounded, and fed in small pieces so that the bound is noticed in time.
"""

from __future__ import annotations

from struct import Struct

from ..base.errors import FormatError
from .perf_data_columns import Walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("Expander", "flatten")

#: perf expands a record into a buffer of the ring's size, 64 MiB at most.
_LIMIT = 64 << 20
_PIECE = 1024


# records of perf (tools/perf/lib/include/perf/event.h, enum perf_user_event_type)
_TRACING_DATA, _AUXTRACE, _COMPRESSED, _COMPRESSED2 = 66, 71, 81, 83


def flatten(data: bytes, order: str, expander: Expander) -> tuple[bytes, int, str]:
    """Records as whole words, without compressed ones.

    Args:
        data: records one behind the other, at any byte; the last one may be cut off.
        order: their byte order.
        expander: of the recording.

    Returns:
        (the records, how many bytes of ``data`` they were, why not more can be read or "").

    Raises:
        FormatError: compressed records are damaged.

    Example:
        >>> import struct
        >>> flatten(struct.pack("<IHHI", 80, 0, 12, 5) + b"abc", "<", Expander("perf.data"))[1:]
        (12, '')
    """
    head = Struct(order + "IHH")
    parts: list[bytes] = []
    place = start = 0
    end, problem = len(data), ""
    while place + 8 <= end:
        kind, misc, size = head.unpack_from(data, place)
        if size < 8:
            problem = f"a record of {size} bytes"
            break
        after = place + size
        if kind == _TRACING_DATA and place + 12 <= end:
            after += Struct(order + "I").unpack_from(data, place + 8)[0] + 7 & ~7
        elif kind == _AUXTRACE and place + 16 <= end:
            after += Struct(order + "Q").unpack_from(data, place + 8)[0] + 7 & ~7
        if after > end:
            break
        if kind in (_COMPRESSED, _COMPRESSED2):
            parts.append(data[start:place])
            body, stop = place + 8, after
            if kind == _COMPRESSED2 and size >= 16:
                body, stop = place + 16, min(place + 16 + Struct(order + "Q").unpack_from(data, place + 8)[0], after)
            parts.append(expander.feed(data[body:stop], order))
            start = after
        elif size & 7:
            parts.append(data[start:place])
            if size < 0xFFF8:  # longer ones are none of the kernel's
                parts.append(head.pack(kind, misc, size + 7 & ~7) + data[place + 8 : after] + bytes(-size & 7))
            start = after
        place = after
    parts.append(data[start:place])
    return b"".join(parts), place, problem


class Expander:
    """Expands one recording's stream.

    Args:
        what: what the recording is called.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._rest = b""
        self._stream: Any = None

    def feed(self, data: bytes, order: str) -> bytes:
        """The whole records that are known with one more compressed record; what is left over waits for the next.

        Raises:
            FormatError: no valid zstd, or more than 64 MiB.
        """
        if self._stream is None:
            self._stream = _stream(self._what)
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
