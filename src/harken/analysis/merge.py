"""Streams of several CPUs in the order of time.

Each stream is in order by itself (nearly: a record that an interrupt wrote may carry an earlier time; it then stays behind its
predecessor, as in the kernel's ``trace`` file).  Of records at the same time that of the lower stream comes first, which is what both the
kernel (``__find_next_entry``) and trace-cmd (``tracecmd_read_next_data``) do.

Example:
    >>> merge([[1, 5, 5], [2, 5]], numpy=False)
    ([0, 1, 0, 0, 1], [0, 0, 1, 2, 1])
"""

from __future__ import annotations

from heapq import merge as heap_merge

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

__all__ = ("merge", "merge_records")


def merge(streams: Sequence[Any], numpy: Any = None) -> tuple[Any, Any]:
    """(stream, index in it) of all elements in order, as arrays if the streams are numpy arrays, else as lists.

    Args:
        streams: the times of each stream.
        numpy: False to do without.
    """
    np: Any = None
    if numpy is not False and all(hasattr(stream, "dtype") for stream in streams):
        import numpy as np
    if np is None:
        keyed = (_keys(number, stream) for number, stream in enumerate(streams))
        pairs = [(number, index) for _, number, index in heap_merge(*keyed)]
        return [number for number, _ in pairs], [index for _, index in pairs]
    if not streams:
        return np.empty(0, dtype="i4"), np.empty(0, dtype="i8")
    keys = [np.maximum.accumulate(stream) if len(stream) else stream for stream in streams]
    numbers = np.repeat(np.arange(len(streams), dtype="i4"), [len(stream) for stream in streams])
    index = np.concatenate([np.arange(len(stream), dtype="i8") for stream in streams])
    if len(streams) == 1:
        return numbers, index
    order = np.argsort(np.concatenate(keys), kind="stable")
    return numbers[order], index[order]


def _keys(number: int, stream: Iterable[int]) -> Iterator[tuple[int, int, int]]:
    latest = 0
    for index, time in enumerate(stream):
        latest = max(latest, time)
        yield latest, number, index


def merge_records(streams: Sequence[Iterable[tuple[int, Any]]]) -> Iterator[tuple[int, int, Any]]:
    """(time, number of the stream, thing) of streams of (time, thing), lazily: for streams that do not fit into memory, or do not end."""

    def keyed(number: int, stream: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, int, int, int, Any]]:
        latest = 0
        for index, (time, thing) in enumerate(stream):
            latest = max(latest, time)
            yield latest, number, index, time, thing

    for _, number, _, time, thing in heap_merge(*[keyed(n, stream) for n, stream in enumerate(streams)]):
        yield time, number, thing
