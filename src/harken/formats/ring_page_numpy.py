"""Pages of ftrace's ring buffer with numpy: finds the records of all pages in step.

The n-th records of all pages are found at a time, so that the interpreter's work is that of one page.  Measured on one busy core,
1,000,000 records of 64 bytes in 16,000 pages: 70 to 100 ms; one by one (``ring_page.parse``) it is 0.5 s.
"""

from __future__ import annotations

from .ring_page import COMMIT_MASK, EXTEND, MISSED, PADDING, STAMP, STORED, Layout, Records, absolute

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Buffer = bytes | bytearray | memoryview

__all__ = ("walk",)

#: Records that a block of pages walked in step may hold: so many that the interpreter's part is small, so few that memory stays small.
_CELLS = 1 << 20


def walk(pages: Buffer, page_size: int, layout: Layout, np: Any) -> Records:
    """As ``ring_page.walk``."""
    order = layout.order
    length = len(pages)
    whole = length // page_size
    if length - whole * page_size >= layout.data:  # the last page is incomplete: make it whole with zeros, of which nothing is read
        pages = bytes(pages) + bytes(page_size - len(pages) % page_size)
        whole += 1
    words = np.frombuffer(pages, dtype=order + "u4", count=whole * page_size // 4)
    raw = np.frombuffer(pages, dtype=np.uint8, count=whole * page_size).reshape(whole, page_size)

    def column(offset: int, size: int) -> Any:
        return np.ascontiguousarray(raw[:, offset : offset + size]).view(f"{order}u{size}").reshape(-1).astype("u8")

    time = column(layout.time, 8)
    commit = column(layout.commit, layout.commit_size)
    used = (commit & COMMIT_MASK).astype("i8")
    first = np.arange(whole, dtype="i8") * page_size + layout.data
    last = np.minimum(first - layout.data + page_size, length)
    stop = np.minimum(first + used, last)
    missed = np.nonzero(commit & MISSED)[0]

    pieces = []
    counts = np.zeros(whole, dtype="i8")
    pages_in_step = max(1, _CELLS * 8 // page_size)
    for begin in range(0, whole, pages_in_step):
        block = slice(begin, min(begin + pages_in_step, whole))
        pieces.append(_walk_block(words, first[block] // 4, stop[block] // 4, time[block], order == "<", counts[block], np))
    times, starts, sizes = (np.concatenate(part) for part in zip(*pieces))
    before = np.zeros(whole + 1, dtype="i8")
    np.cumsum(counts, out=before[1:])
    short = np.ndarray((max(0, len(words) * 4 - 1),), dtype=f"{order}u2", buffer=pages, strides=(1,))
    types = short[starts]
    if not types.dtype.isnative:
        types = types.astype("u2")
    lost = []
    for page in missed.tolist():
        behind = page * page_size + layout.data + int(used[page])
        number = 0
        if int(commit[page]) & STORED and behind + layout.long_size <= last[page]:
            number = max(0, int.from_bytes(pages[behind : behind + layout.long_size], layout.name, signed=True))  # type: ignore[arg-type]
        lost.append((int(before[page]), number))
    return Records(times, starts, sizes, types, tuple(lost))


def _walk_block(words: Any, at: Any, end: Any, time: Any, little: bool, counts: Any, np: Any) -> tuple[Any, Any, Any]:
    """(times, starts, sizes) of some pages' records in order; ``counts`` gets the number of each page's.

    ``at`` and ``end`` are word positions.  Usual records (1 to 28 words of payload) take the short way, about ten operations for all
    pages; time extends, stamps and
    padding are rare enough to be stepped over one by one.
    """
    width = len(at)
    index = np.nonzero(at < end)[0]  # the pages that still have records
    at, end, time = at[index], end[index], time[index]
    top = len(words) - 1
    rows: list[tuple[Any, Any, Any]] = []  # of each step, all pages: time, start in words, size
    while len(index):
        head = words[at]
        kind, delta = (head & 31, head >> 5) if little else (head >> 27, head & COMMIT_MASK)
        odd = kind - 1 >= 28  # unsigned: 0 becomes large
        if odd.any():
            time = time.copy()  # the last step's is kept in rows
            for i in np.nonzero(kind >= PADDING)[0].tolist():
                at[i], time[i], value = _step_over(words, int(at[i]), int(end[i]), int(time[i]), little)
                kind[i], delta[i] = (value & 31, value >> 5) if little else (value >> 27, value & COMMIT_MASK)
            start = at + 1
            step = start + kind
            size = kind
            long = kind == 0
            if long.any():
                length = words[np.minimum(start, top)].astype("i8") - 4
                start = np.where(long, start + 1, start)
                size = np.where(long, length + 28, kind).astype("u4")  # long records count bytes (and 28), the others words
                fits = np.where(long, (length >= 0) & (start * 4 + length <= end * 4), step <= end)
                step = np.where(long, start + (np.maximum(length, 0) + 3) // 4, step)
            else:
                fits = step <= end
        else:
            start, size = at + 1, kind
            step = start + kind
            fits = step <= end
        time = time + delta
        if len(index) == width:
            rows.append((time, start, size))
        else:
            row = np.empty(width, dtype="u8"), np.empty(width, dtype="i8"), np.empty(width, dtype="u4")
            row[0][index], row[1][index], row[2][index] = time, start, size
            rows.append(row)
        if fits.all():
            counts[index] += 1
        else:
            counts[index[fits]] += 1
            step = np.where(fits, step, end)
        going = step < end
        if going.all():
            at = step
        else:
            index, at, end, time = index[going], step[going], end[going], time[going]
    if not rows:
        return np.empty(0, dtype="u8"), np.empty(0, dtype="i8"), np.empty(0, dtype="i8")
    times, starts, sizes = (np.stack(column, axis=1) for column in zip(*rows))
    # a page's records come one per step until it ends
    there = np.arange(len(rows)) < counts[:, None]
    if there.all():
        times, starts, sizes = times.reshape(-1), starts.reshape(-1), sizes.reshape(-1)
    else:
        times, starts, sizes = times[there], starts[there], sizes[there]
    starts *= 4
    lengths = sizes.astype("i8")
    lengths *= 4
    if (sizes > 28).any():
        lengths = np.where(sizes > 28, sizes.astype("i8") - 28, lengths)
    return times, starts, lengths


def _step_over(words: Any, at: int, end: int, time: int, little: bool) -> tuple[int, int, int]:
    """Goes to the next record that holds data: (its position, the time before it, its head); at the end (end, time, a head that does not
    fit)."""
    nothing = 1 if little else 1 << 27
    while at < end:
        head = int(words[at])
        kind, delta = (head & 31, head >> 5) if little else (head >> 27, head & COMMIT_MASK)
        if kind < PADDING:
            return at, time, head
        if (kind == PADDING and not delta) or at + 1 >= end:
            break
        extra = int(words[at + 1])
        if kind == EXTEND:
            time += (extra << 27) + delta
            at += 2
        elif kind == STAMP:
            time = absolute((extra << 27) + delta, time)
            at += 2
        else:
            time += delta
            at += 1 + max(1, (extra + 3) // 4)
        time &= 0xFFFFFFFFFFFFFFFF
    return end, time, nothing
