"""Puts the return addresses that return probes have taken from a stack back into its copy (``compiler.builtins.return_probes``).

Example:
    >>> copy = struct.pack("<QQQ", 1, 0x7FFFFFFFF000, 3) + struct.pack("<QQQQ", 0x1008, 0x401136, 0x9000, 7)
    >>> struct.unpack("<QQQ", given_back(copy, 2, 0x1000))
    (1, 4198710, 3)
"""

from __future__ import annotations

import struct

__all__ = ("given_back",)


def given_back(data: bytes | memoryview, count: int, pointer: int, word: int = 8) -> bytearray:
    """The stack as it was without return probes.

    Args:
        data: the copy, and behind it ``count`` pairs: u64 place on the stack, u64 address.
        pointer: where the copy begins.
        word: bytes of an address of the process.
    """
    end = max(0, len(data) - 16 * count)
    stack = bytearray(data[:end])
    for place, address in struct.iter_unpack("=QQ", data[end : end + (len(data) - end) // 16 * 16]):
        offset = place - pointer
        if 0 <= offset <= end - word:
            stack[offset : offset + word] = (address & (1 << 8 * word) - 1).to_bytes(word, "little")
    return stack
