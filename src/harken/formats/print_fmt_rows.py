"""Rows of bytes: many short texts as a matrix, a row per text, in which zero bytes stand for nothing.

Digits come from tables of 10,000 and of 65,536 entries, four at a time.

Example:
    >>> import numpy
    >>> [bytes(row).translate(None, b"\\0") for row in decimal(numpy.array([7, 1234567], dtype="u8"), numpy)]
    [b'7', b'1234567']
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ("WIDEST", "NotBulk", "decimal", "ended", "hexadecimal", "rows", "table_rows")

#: Longer texts are made one by one.
WIDEST = 512
_tables: dict[str, Any] = {}


class NotBulk(Exception):
    """These records cannot be printed in bulk."""


def _digits(base: int, np: Any) -> Any:
    """Four digits of each number as u4; the second half without leading zeros, its first entry empty."""
    name = f"{base}"
    found = _tables.get(name)
    if found is None:
        count = base**4
        numbers = np.arange(count, dtype="u4")
        letters = np.zeros((2, count, 4), dtype="u1")
        for place in range(4):
            digit = numbers // base ** (3 - place) % base
            letters[0, :, place] = np.where(digit < 10, digit + 48, digit + 87)
            letters[1, :, place] = np.where(numbers >= base ** (3 - place), letters[0, :, place], 0)
        found = _tables[name] = letters.reshape(-1, 4).view("u4").ravel()
    return found


def _places(values: Any, base: int, np: Any) -> Any:
    """Rows of digits, most significant first, without leading zeros; ``values`` are u8."""
    table, count = _digits(base, np), base**4
    groups = []
    rest, largest = values, int(values.max()) if len(values) else 0
    while True:
        if largest < count:
            groups.append(rest)
            break
        if base == 16:
            above, group = rest >> np.uint64(16), rest & np.uint64(0xFFFF)
        else:
            above = rest // np.uint64(count)
            group = rest - above * np.uint64(count)
        groups.append(group)
        rest, largest = above, largest // count
    out = np.empty((len(values), len(groups)), dtype="u4")
    above_is_zero = None
    for column, group in enumerate(reversed(groups)):
        index = group.astype("i8")
        if above_is_zero is None:
            index += count
            above_is_zero = group == 0
        else:
            index += np.where(above_is_zero, count, 0)
            above_is_zero = above_is_zero & (group == 0)
        out[:, column] = table[index]
    found = out.view("u1")
    found[values == 0, -1] = 48
    used = _length(int(values.max()) if len(values) else 0, base)
    return found[:, found.shape[1] - used :]


def _length(number: int, base: int) -> int:
    """How many digits a number has."""
    return max(1, (number.bit_length() + 3) // 4 if base == 16 else len(str(number)))


def decimal(values: Any, np: Any) -> Any:
    """Rows of decimal numbers; ``values`` are u8 or i8."""
    if values.dtype.kind == "u" or not len(values) or int(values.min()) >= 0:
        return _places(values.view("u8"), 10, np)
    negative = values < 0
    size = np.where(negative, -values, values).view("u8")  # -2**63 stays what it is, which is right as u8
    digits = _places(size, 10, np)
    return np.concatenate([np.where(negative, 45, 0).astype("u1")[:, None], digits], axis=1)


def hexadecimal(values: Any, np: Any) -> Any:
    """Rows of numbers (u8) in hex."""
    return _places(values, 16, np)


def rows(texts: list[bytes], np: Any) -> Any:
    """A matrix of some texts.

    Raises:
        NotBulk: a zero byte in one of them, or a very long one.
    """
    width = max(map(len, texts), default=0)
    if width > WIDEST or any(0 in text for text in texts):
        raise NotBulk
    if not width:
        return np.zeros((len(texts), 0), dtype="u1")
    return np.array(texts, dtype=f"S{width}").view("u1").reshape(len(texts), width)


def table_rows(values: Any, make: Callable[[int], str], np: Any) -> Any:
    """The rows of ``make`` of each number, which is called once for each distinct one."""
    if not len(values):
        return np.zeros((0, 0), dtype="u1")
    low, high = int(values.min()), int(values.max())
    if low >= 0 and high < 1 << 16:
        present = np.bincount(values.astype("i8"), minlength=high + 1).nonzero()[0]
        place = np.zeros(high + 1, dtype="i8")
        place[present] = np.arange(len(present))
        index = place[values.astype("i8")]
    else:
        present, index = np.unique(values, return_inverse=True)
    return rows([make(number).encode("utf-8", "surrogateescape") for number in present.tolist()], np)[index]


def ended(matrix: Any, np: Any) -> Any:
    """Texts end at their first zero byte."""
    if matrix.shape[1] > 1 and ((matrix[:, 1:] != 0) & (matrix[:, :-1] == 0)).any():
        return matrix * np.logical_and.accumulate(matrix != 0, axis=1)
    return matrix
