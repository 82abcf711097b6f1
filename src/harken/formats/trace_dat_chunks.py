"""The chunks that a compressed ``trace.dat`` keeps a CPU's pages in: u32 count, then per chunk u32 stored size, u32 expanded size, data."""

from __future__ import annotations

from array import array

from ..base.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .trace_dat_compress import Codec
    from .trace_dat_layout import Cursor

__all__ = ("Chunks", "check_expanded")

_MAX_CHUNK, _MAX_PAGES = 4 << 20, 10  # trace-cmd's chunks, and harken's, are 10 pages

#: Pages may have that many bytes in all when they are expanded, and so many times those of the file (nearly empty ones: a hundred times).
_MAX_EXPANDED, _MAX_RATIO = 256 << 20, 1000


def check_expanded(what: str, stored: int, size: int) -> None:
    """Whether a file of ``stored`` bytes may have ``size`` bytes of pages.

    Raises:
        FormatError: nothing that a kernel records shrinks that much.
    """
    if size > _MAX_EXPANDED + _MAX_RATIO * stored:
        raise FormatError(what, f"{stored} bytes that claim to be {size} when they are expanded")


class Chunks:
    """Where the chunks are.

    Args:
        cursor: stands at their number.
        page_size: bytes of a page.

    Attributes:
        size: bytes of all of them, expanded.
        problem: what is wrong with those that are not listed; "" if nothing is.
    """

    def __init__(self, cursor: Cursor, page_size: int) -> None:
        self.problem = ""
        self._data, self._what = cursor.data, cursor.what
        self._places, self._stored, self._sizes = array("Q"), array("Q"), array("Q")
        try:
            for _ in range(cursor.u32()):
                stored, size = cursor.u32(), cursor.u32()
                if size > max(_MAX_CHUNK, _MAX_PAGES * page_size):
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
