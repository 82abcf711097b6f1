"""Addresses in bulk, as words and as text: what call chains of a recording hold, and how perf prints it."""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left

from ..abi import perf_event as abi
from ..formats.perf_data_records import CONTEXT_MAX

__all__ = ("strangers", "hexadecimal")

_KERNEL = 1 << 63
_USER = abi.PERF_CONTEXT_USER.to_bytes(8, sys.byteorder)


def strangers(keys: list[bytes]) -> set[int]:
    """What looks like addresses of the kernel in a process's part of call chains only: stray values of frame pointers."""
    split = [key.partition(_USER) for key in keys]
    words = array("Q")
    words.frombytes(b"".join([user for _, _, user in split if not len(user) & 7]))
    found = {word for word in set(words) if _KERNEL <= word < CONTEXT_MAX}
    if found:
        words = array("Q")
        words.frombytes(b"".join([kernel for kernel, _, user in split if not len(user) & 7]))
        found.difference_update(words)
    return found


def hexadecimal(addresses: list[int], before: str) -> list[str]:
    """Ascending addresses in hexadecimal, right-justified in 16 columns behind ``before``.

    Example:
        >>> hexadecimal([1, 1 << 44, 1 << 63], " ")
        ['                1', '     100000000000', ' 8000000000000000']
    """
    low, high, top = [bisect_left(addresses, 1 << bits) for bits in (44, 48, 60)]
    return [
        *[f"{before}{address:16x}" for address in addresses[:low]],
        *_digits(addresses[low:high], "0000", f"{before}    "),
        *[f"{before}{address:16x}" for address in addresses[high:top]],
        *_digits(addresses[top:], "", before),
    ]


def _digits(addresses: list[int], zeros: str, before: str) -> list[str]:
    """Addresses that all begin with ``zeros`` when written with 16 digits; formatting them one by one takes four times as long."""
    words = array("Q", addresses)
    if sys.byteorder == "little":
        words.byteswap()
    text = "\n" + words.tobytes().hex("\n", 8)
    return text.replace("\n" + zeros, "\n" + before).split("\n")[1:] if addresses else []
