"""Lines of very many records of one event at once: head, time and text side by side as matrices of bytes (``formats.print_fmt_bulk``).

Used where numpy is there, the records are many, and the event's format allows it; else ``render.ftrace`` makes the same lines one by one.
"""

from __future__ import annotations

from ..base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from .ftrace import Lines
    from .ftrace_batches import Batch, Group

    #: Records of one event, and what makes the texts of some of them: (first, behind the last) -> matrices from left to right.
    Texts = tuple[Group, Callable[[int, int], list[Any]]]

__all__ = ("BULK", "BulkSpecial", "bulk_lines", "bulk_matrix", "bulk_text", "rounded", "time_matrix")

#: Fewer records than this are printed one by one: the dozens of steps of the other way cost as much.
BULK = 200
#: Records whose rows are made together: so many that the steps cost little, so few that their rows stay in the processor's cache.
_CHUNK = 4096
_WIDEST = 2048


class BulkSpecial(Record):
    """Texts that depend on other records; ``commit`` keeps what later windows need to know, once the texts are used."""

    texts: list[Texts]
    commit: Callable[[], None]


def rounded(times: Any, unit: int, np: Any) -> Any:
    """Times in another unit, in which a half is one; also of times so late that a sum would not fit into 64 bits."""
    if unit <= 1:
        return times
    return times // np.uint64(unit) + (times % np.uint64(unit) >= np.uint64(unit - unit // 2))


def time_matrix(values: Any, second: int, np: Any) -> Any:
    """Rows of seconds and fraction (``"%5d.%06d"``), shorter ones behind zero bytes; None if the times are too far apart for a table.

    Args:
        values: times (u8) in the unit of which there are ``second`` in a second.
    """
    digits = len(str(second)) - 1
    seconds = values // np.uint64(second)
    rest = (values - seconds * np.uint64(second)).astype("u4")
    low = int(seconds.min()) if len(values) else 0
    span = int(seconds.max()) - low if len(values) else 0
    if span > 10000:  # a damaged file: no table of that size
        return None
    heads = [f"{second:5d}." for second in range(low, low + span + 1)]
    width = len(heads[-1])
    table = np.array([head.rjust(width, "\0") for head in heads], dtype=f"S{width}").view("u1").reshape(-1, width)
    letters = np.empty((len(values), width + digits), dtype="u1")
    letters[:, :width] = table[(seconds - np.uint64(low)).astype("i8")]
    for column in range(width + digits - 1, width - 1, -1):
        tens = rest // np.uint32(10)
        letters[:, column] = rest - tens * np.uint32(10) + np.uint32(48)
        rest = tens
    return letters


def _head_rows(keys: Any, make: Callable[[int], str], np: Any) -> Any:
    """Rows of the heads; there are few different ones, in which tasks and flags are put together."""
    from ..formats.print_fmt_rows import rows

    tasks, flags = keys >> np.uint64(32), (keys & np.uint64(0xFFFFFF)).astype("i8")
    if max(int(tasks.max()), int(flags.max())) >= 1 << 22:  # tables of all numbers would be large
        present, index = np.unique(keys, return_inverse=True)
    else:
        task_code, task_count = _codes(tasks.astype("i8"), np)
        flag_code, flag_count = _codes(flags, np)
        mixed = task_code * flag_count + flag_code
        first = np.full(task_count * flag_count, -1, dtype="i8")
        first[mixed] = np.arange(len(mixed))  # some record that has this head
        used = np.nonzero(first >= 0)[0]
        present = keys[first[used]]
        place = np.zeros(len(first), dtype="i8")
        place[used] = np.arange(len(used))
        index = place[mixed]
    return rows([make(key).encode("utf-8", "surrogateescape") for key in present.tolist()], np)[index]


def _codes(values: Any, np: Any) -> tuple[Any, int]:
    """Small numbers as numbers without gaps, and how many different ones there are."""
    low = int(values.min())
    values = values - low
    table = np.zeros(int(values.max()) + 1, dtype="i8")
    table[values] = 1
    np.cumsum(table, out=table)
    return table[values] - 1, int(table[-1])


def bulk_matrix(
    lines: Lines, group: Group, low: int = 0, high: int | None = None, texts: Callable[[int, int], list[Any]] | None = None
) -> Any:
    """The lines of records of one event as rows of bytes; zero bytes stand for nothing.  None if they must be made one by one.

    Args:
        low, high: which records of the group.
        texts: makes their texts; default: the event's format does.
    """
    import numpy as np

    from ..formats.print_fmt_rows import NotBulk, table_rows

    event = lines.events.get(group.kind)
    if event is None or group.shortest < max(8, lines.lazy + 1):
        return None
    if texts is None:
        renderer = lines.renderer(group.kind)
        text = renderer.bulk() if renderer is not None else None
        if renderer is None or text is None or group.shortest < renderer.needs:
            return None
    starts, times, buffer = group.starts[low:high], group.times[low:high], group.batch.buffer
    unit, second = lines.unit()
    try:
        head = _head_rows(lines.keys(buffer, starts, np), lines.head_memo(group.batch.cpu).__getitem__, np)
        if second:
            moment = time_matrix(rounded(times, unit, np), second, np)
            if moment is None:
                return None
        else:
            moment = table_rows(times, "%12d".__mod__, np)
        before, after = (lines.time_format() % "\0").encode("utf-8", "surrogateescape").split(b"\0")
        after += lines.name_format(event).encode("utf-8", "surrogateescape")
        if texts is not None:
            made = texts(low, len(group.where) if high is None else high)
        else:
            assert text is not None
            made = text.matrices(buffer, starts, starts + group.sizes[low:high], np)
            if lines.ended(event) and any(_has_line_break(piece) for piece in made):
                return None  # whether it is at the end of a text, each must tell
        pieces = [head, before, moment, after, *made, b"\n"]
    except NotBulk:
        return None
    width = sum(len(piece) if isinstance(piece, bytes) else piece.shape[1] for piece in pieces)
    if width > _WIDEST:
        return None
    out = np.empty((len(starts), width), dtype="u1")
    at = 0
    for piece in pieces:
        if isinstance(piece, bytes):
            out[:, at : at + len(piece)] = np.frombuffer(piece, dtype="u1")
            at += len(piece)
        else:
            out[:, at : at + piece.shape[1]] = piece
            at += piece.shape[1]
    return out


def _has_line_break(piece: Any) -> bool:
    return b"\n" in piece if isinstance(piece, bytes) else bool((piece == 10).any())


def bulk_lines(lines: Lines, group: Group) -> list[str] | None:
    """As ``bulk_matrix``, but as texts without their ends."""
    found: list[str] = []
    for low in range(0, len(group.where), _CHUNK):
        matrix = bulk_matrix(lines, group, low, low + _CHUNK)
        if matrix is None:
            return None
        part = b"".join(_bytes(matrix)).decode("utf-8", "surrogateescape").split("\n")[:-1]
        if len(part) != len(matrix):  # a text with a line break in it
            return None
        found += part
    return found


def bulk_text(lines: Lines, batches: Sequence[Batch], total: int) -> bytes | None:
    """The lines of some batches in their order, or None if they must be made one by one.

    All rows get the width of the longest, so that a line goes to its place by one copy.
    """
    import numpy as np

    from ..formats.print_fmt_rows import NotBulk, rows

    groups, marks = lines.groups(batches, total, np)
    special = [group for group in groups if group.kind in lines.special]
    found = lines.bulk_special(special, np) if special else None
    if special and found is None:
        return None
    work: list[tuple[Group, Any]] = [(group, None) for group in groups if group.kind not in lines.special]
    work += found.texts if found is not None else []
    whole = _room(lines, total, 0, np)
    for group, texts in work:
        for low in range(0, len(group.where), _CHUNK):
            bulk = texts is not None or len(group.where) >= BULK
            matrix = bulk_matrix(lines, group, low, low + _CHUNK, texts) if bulk else None
            if matrix is None:
                if texts is not None:
                    return None
                if len(group.where) > total // 8:
                    return None
                part = group.replace(
                    where=group.where[low : low + _CHUNK],
                    starts=group.starts[low : low + _CHUNK],
                    sizes=group.sizes[low : low + _CHUNK],
                    times=group.times[low : low + _CHUNK],
                )
                try:
                    matrix = rows([(line + "\n").encode("utf-8", "surrogateescape") for line in lines.slow_lines(part, np)], np)
                except NotBulk:
                    return None
            width = matrix.shape[1]
            if width > whole.shape[1]:
                whole = _room(lines, total, width + 8, np, whole)
            whole[group.where[low : low + _CHUNK], :width] = matrix
    if found is not None:
        found.commit()
    pieces, done = [], 0
    for place, mark in sorted(marks, key=lambda pair: pair[0]):
        pieces += [*_bytes(whole[done:place]), mark.encode("utf-8", "surrogateescape"), b"\n"]
        done = place
    return b"".join([*pieces, *_bytes(whole[done:])])


def _room(lines: Lines, total: int, width: int, np: Any, before: Any = None) -> Any:
    """Rows of zeros in memory that is used again and again: fresh pages cost as much as what is written to them."""
    width = max(width, lines.widest)
    if before is None and len(lines.arena) < total * width:
        lines.arena = bytearray(total * width)
    elif before is not None:
        lines.widest = width
        lines.arena = bytearray(total * width)
    rows = np.frombuffer(lines.arena, dtype="u1", count=total * width).reshape(total, width)
    rows[:] = 0
    if before is not None:
        rows[:, : before.shape[1]] = before
    return rows


def _bytes(matrix: Any) -> list[bytes]:
    """The rows without their zero bytes, in pieces that stay in the cache."""
    return [matrix[low : low + _CHUNK].tobytes().translate(None, b"\0") for low in range(0, len(matrix), _CHUNK)]
