"""Writes ring-buffer pages: the inverse of ``formats.ring_page``, for parts of recordings and for tests.

A page has the time of its first record, the number of bytes in use, and records with their distances in time (``ring_page`` has the
layout).  Distances that do not fit into 27 bits get a time extend.

Example:
    >>> from harken.formats.ring_page import parse
    >>> builder = PageBuilder(4096)
    >>> builder.add(1000, b"\\x05\\0\\0\\0abcd")
    >>> builder.add(1 << 40, b"x" * 200)
    >>> page, = builder.finish()
    >>> [(time, size) for time, _, size in parse(page).records]
    [(1000, 8), (1099511627776, 200)]
"""

from __future__ import annotations

import struct

from ..base.errors import FormatError

__all__ = ("PageBuilder",)

_DELTA = 1 << 27
_EXTEND = 30
_MOST = 28 * 4  # bytes of a record whose size is in its type


class PageBuilder:
    """Packs records of one CPU, in the order of time, into pages.

    Args:
        page_size: bytes of a page.
        order: "<" or ">".
        long_size: bytes of a long of the recorded kernel: 8 or 4.
    """

    def __init__(self, page_size: int, order: str = "<", long_size: int = 8) -> None:
        self.page_size, self.order, self.long_size = page_size, order, long_size
        self.pages: list[bytes] = []
        self._head = 8 + long_size
        self._room = page_size - self._head
        self._data: list[bytes] = []
        self._used = 0
        self._start = self._last = 0

    def _word(self, kind: int, delta: int) -> bytes:
        # the bit fields type_len:5, time_delta:27 start at the low end on little-endian machines, at the high end on the others
        value = delta << 5 | kind if self.order == "<" else kind << 27 | delta
        return struct.pack(self.order + "I", value)

    def _measured(self, time: int, payload: bytes) -> tuple[int, int, int, int]:
        """Bytes of the payload and of the head before it, the distance to the record before, bytes of a time extend."""
        size = -(-len(payload) // 4) * 4
        delta = max(time - self._last, 0) if self._data else 0
        return size, 4 if 0 < size <= _MOST else 8, delta, 8 if delta >= _DELTA else 0

    def begins_page(self, time: int, payload: bytes) -> bool:
        """Whether this record, if it is added, is the first of a page."""
        size, head, _, extend = self._measured(time, payload)
        return not self._data or self._used + extend + head + size > self._room

    def add(self, time: int, payload: bytes) -> None:
        """Adds a record.

        Raises:
            FormatError: it does not fit into a page.
        """
        size, head, delta, extend = self._measured(time, payload)
        if size + head > self._room:
            raise FormatError("record", f"{len(payload)} bytes do not fit into a page of {self.page_size}")
        if self._used + extend + head + size > self._room:
            self._close()
            delta = extend = 0
        if not self._data:
            self._start = time
        if extend:
            self._data.append(self._word(_EXTEND, delta & (_DELTA - 1)) + struct.pack(self.order + "I", delta >> 27 & 0xFFFFFFFF))
            delta = 0
        if head == 4:
            self._data.append(self._word(size // 4, delta))
        else:
            self._data.append(self._word(0, delta) + struct.pack(self.order + "I", size + 4))
        self._data.append(payload.ljust(size, b"\0"))
        self._used += extend + head + size
        self._last = max(time, self._last) if len(self._data) > 2 else time

    def _close(self) -> None:
        if self._data:
            commit = struct.pack(self.order + ("Q" if self.long_size == 8 else "I"), self._used)
            page = struct.pack(self.order + "Q", self._start) + commit + b"".join(self._data)
            self.pages.append(page.ljust(self.page_size, b"\0"))
        self._data, self._used = [], 0

    @property
    def count(self) -> int:
        """Pages that have something in them."""
        return len(self.pages) + bool(self._data)

    def finish(self) -> list[bytes]:
        """All pages."""
        self._close()
        return self.pages
