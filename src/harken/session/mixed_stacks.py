"""``ustack(mixed)``: native and Python frames in the order of their calls.

A program sends both kinds apart (``compiler.builtins.copied_stack``): a copy of the native stack, and the interpreter's frames with marks,
addresses on that stack that tell which native frame ran them.  Here the one is put into the other.

A frame is a pair of words: (code object, instruction) of Python's, (0, address) of the others.
"""

from __future__ import annotations

import struct

from ..render.stacks import EXACT
from ..symbols.python_merge import by_place, drop_handlers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..symbols.model import Frame

    Pair = tuple[int, int]

__all__ = ("frames", "merged_words", "python_groups")


def python_groups(data: bytes) -> tuple[list[list[Pair]], list[int]]:
    """Python's frames in a record, one group for each native frame that ran some, and the marks of these.

    Args:
        data: u32 process id, u16 number of pairs, two bytes, pairs: frames, and (0, mark) behind the frames that it closes.

    Example:
        >>> python_groups(struct.pack("=II8Q", 7, 4, 10, 11, 20, 21, 0, 999, 30, 31))
        ([[(10, 11), (20, 21)], [(30, 31)]], [999])
    """
    count = min(int.from_bytes(data[4:6], "little"), (len(data) - 8) // 16)
    words = struct.unpack_from(f"={2 * count}Q", data, 8)
    groups: list[list[Pair]] = []
    marks: list[int] = []
    group: list[Pair] = []
    for pair in zip(words[::2], words[1::2]):
        if pair[0]:
            group.append(pair)
        else:
            groups.append(group)
            marks.append(pair[1])
            group = []
    if group:
        groups.append(group)
    return groups, marks


def merged_words(addresses: Sequence[int], groups: Sequence[Sequence[Pair]], marks: Sequence[int], pointers: Sequence[int]) -> list[Pair]:
    """Puts each group in the place of the native frame that holds its mark.

    Groups that belong to none come last: the native stack ends before their frames.

    Args:
        pointers: the stack pointer in each native frame.

    Example:
        >>> merged_words([1, 2, 3], [[(10, 11)], [(20, 21)]], [0x2508, 0x9508], [0x1000, 0x2000, 0x3000])
        [(0, 1), (10, 11), (0, 3), (20, 21)]
    """
    owners = by_place(len(addresses), len(groups), marks, pointers)
    merged: list[Pair] = []
    for place, address in enumerate(addresses):
        group = groups[owners[place]] if place in owners else ()
        if group:
            merged += group
        else:  # a loop that has just begun, too
            merged.append((0, address))
    for group in groups[max(owners.values(), default=-1) + 1 :]:
        merged += group
    return merged


def frames(
    pairs: Sequence[Pair],
    native: Callable[[Sequence[int], Sequence[int]], list[Frame]],
    python: Callable[[Sequence[Pair]], list[Frame]],
) -> list[Frame]:
    """The frames with their names.

    Args:
        native: (addresses, indexes of those that are instructions and no return addresses) -> frames.
        python: pairs -> frames.
    """
    found: list[Frame] = []
    start = 0
    while start < len(pairs):
        end, is_python = start, pairs[start][0] != 0
        while end < len(pairs) and (pairs[end][0] != 0) == is_python:
            end += 1
        if is_python:
            drop_handlers(found)
            found += python(pairs[start:end])
        else:
            addresses = [address for _, address in pairs[start:end]]
            exact = [place for place, address in enumerate(addresses) if address & EXACT or not start + place]
            found += native([address & ~EXACT for address in addresses], exact)
        start = end
    return found
