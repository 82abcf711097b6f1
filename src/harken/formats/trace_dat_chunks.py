"""The chunks that a compressed ``trace.dat`` keeps a CPU's pages in: u32 count, then per chunk u32 stored size, u32 expanded size, data."""

from __future__ import annotations

from array import array

from ..base.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .trace_dat_compress import Codec
    from .trace_dat_layout import Cursor

__all__ = ("Chunks",)

_MAX_CHUNK = 64 << 20  # trace-cmd's chunks are 10 pages


class Chunks:
    """Where the chunks are.

    Args:
        cursor: stands at their number.

    Attributes:
        size: bytes of all of them, expanded.
        problem: what is wrong with those that are not listed; "" if nothing is.
    """

    def __init__(self, cursor: Cursor) -> None:
        self.problem = ""
        self._data, self._what = cursor.data, cursor.what
        self._places, self._stored, self._sizes = array("Q"), array("Q"), array("Q")
        try:
            for _ in range(cursor.u32()):
                stored, size = cursor.u32(), cursor.u32()
                if size > _MAX_CHUNK:
                    raise FormatError(cursor.what, f"a chunk of {size} bytes", cursor.at - 4)
                place = cursor.at
                cursor.take(stored)
                self._places.append(place)
                self._stored.append(stored)
                self._sizes.append(size)
        except FormatError as error:
            self.problem = str(error)

    @property
    def size(self) -> int:
        return sum(self._sizes)

    def expanded(self, codec: Codec, skip: int = 0) -> Iterator[memoryview]:
        """The chunks' contents, without the first ``skip`` bytes of all.

        Raises:
            FormatError: one is damaged.
        """
        for place, stored, size in zip(self._places, self._stored, self._sizes):
            if skip >= size:
                skip -= size
                continue
            chunk = memoryview(codec.expand(self._data[place : place + stored], size, self._what, place))
            yield chunk[skip:] if skip else chunk
            skip = 0
