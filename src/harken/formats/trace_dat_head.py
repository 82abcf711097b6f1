"""The first bytes of a ``trace.dat``: which version it is, and of which machine; then the version's own reader finds the parts."""

from __future__ import annotations

from ..base.errors import FormatError
from .trace_dat_layout import MAGIC, Cursor, Layout
from .trace_dat_v6 import read_v6
from .trace_dat_v7 import read_v7

__all__ = ("read_layout",)


def read_layout(data: memoryview, what: str = "trace.dat") -> Layout:
    """Finds the parts of a file.

    Raises:
        FormatError: it is no trace.dat, or one that ends before its records have a meaning.
    """
    cursor = Cursor(data, "<", what=what)
    if bytes(data[: len(MAGIC)]) != MAGIC:
        raise FormatError(what, "not a trace.dat file", 0, hint="it does not begin with trace-cmd's magic bytes")
    cursor.at = len(MAGIC)
    text = cursor.string(16)
    if text not in ("6", "7"):
        raise FormatError(what, f"version {text!r} of the file format is unknown", len(MAGIC), hint="harken reads versions 6 and 7")
    flags = cursor.take(2)
    if flags[0] > 1 or flags[1] not in (4, 8):
        raise FormatError(what, f"byte order {flags[0]}, size of a long {flags[1]}", cursor.at - 2)
    cursor.order = "<>"[flags[0]]
    page_size = cursor.u32()
    if page_size < 512 or page_size > 1 << 24 or page_size & (page_size - 1):
        raise FormatError(what, f"{page_size} is not the size of a page", cursor.at - 4)
    read = read_v6 if text == "6" else read_v7
    return read(cursor, flags[1], page_size)
