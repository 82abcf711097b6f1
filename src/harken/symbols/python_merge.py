"""Native and Python frames of one thread in the order of their calls.

Each group of Python frames comes in the place of the interpreter's frame that ran it: a call from Python to Python makes no native frame
(since 3.11), a call through C (``sorted(key=...)``, ``__add__``, a callback) does.
"""

from __future__ import annotations

from bisect import bisect_right

from .model import Frame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .python_stack import PythonThread

__all__ = ("merge", "by_place", "drop_handlers", "is_eval_frame")

_EVAL = "_PyEval_EvalFrameDefault"
#: the handlers of an interpreter that is built from tail calls (3.14)
_TAIL_CALL = "_TAIL_CALL_"


def is_eval_frame(frame: Frame, ranges: Sequence[tuple[int, int]] = ()) -> bool:
    """Whether a native frame is one of the interpreter's loop."""
    return frame.name.startswith(_EVAL) or (not frame.name and any(start <= frame.address < end for start, end in ranges))


def merge(
    native: Sequence[Frame],
    thread: PythonThread,
    whole: bool = True,
    pointers: Sequence[int] = (),
    ranges: Sequence[tuple[int, int]] = (),
) -> list[Frame]:
    """Puts groups of Python frames in the place of the native frames that ran them.

    The interpreter's marks lie on the C stack.  If it is known where the native frames lie, a group belongs to the frame that holds its
    mark, whatever that is called (a stripped or inlined loop has no name).

    Else the frames of the loop are counted from the outermost one, so that a difference (the two stacks were not read at the same instant)
    shows at the innermost end: a native frame that is left over stays as it is, groups that are left over are left out.  If one of the
    stacks is cut off, they are counted from the innermost one; if it is the native one (``whole`` is False), groups that are left over
    come last.

    Args:
        native: innermost first; frames that were inlined into the following one count as part of it.
        pointers: the stack pointer in each native frame (``Walk.pointers``), if known.
        ranges: addresses of the loop, for files without symbols.

    Example:
        >>> from harken.symbols.python_stack import PythonThread
        >>> loop = "_PyEval_EvalFrameDefault"
        >>> native = [Frame(1, "do_sort"), Frame(2, loop), Frame(3, "list_sort"), Frame(4, loop), Frame(5, "main")]
        >>> groups = ((Frame(9, "key", kind="python"),), (Frame(8, "work", kind="python"), Frame(7, "<module>", kind="python")))
        >>> [frame.name for frame in merge(native, PythonThread(1, 0, groups))]
        ['do_sort', 'key', 'list_sort', 'work', '<module>', 'main']
    """
    bodies: list[list[Frame]] = [[]]
    for frame in native:
        bodies[-1].append(frame)
        if not frame.inlined:
            bodies.append([])
    if not bodies[-1]:
        bodies.pop()
    groups = thread.groups
    owners = by_place(len(bodies), len(groups), thread.marks, pointers)
    left: Sequence[Sequence[Frame]] = ()
    if not owners:
        places = [place for place, body in enumerate(bodies) if is_eval_frame(body[-1], ranges)]
        shift = len(groups) - len(places) if whole and thread.whole else 0
        owners = {place: number + shift for number, place in enumerate(places) if 0 <= number + shift < len(groups)}
    if not whole and owners:
        left = groups[max(owners.values()) + 1 :]
    merged: list[Frame] = []
    for place, body in enumerate(bodies):
        group = groups[owners[place]] if place in owners else ()
        if group:
            drop_handlers(merged)
            merged += group
        else:
            merged += body
    for rest in left:
        merged += rest
    return merged


def drop_handlers(frames: list[Frame]) -> None:
    """Takes the interpreter's handlers off the end of a stack that Python's frames are going to follow: they are part of its loop."""
    while frames and frames[-1].name.startswith(_TAIL_CALL):
        frames.pop()


def by_place(count: int, groups: int, marks: Sequence[int], pointers: Sequence[int]) -> dict[int, int]:
    """Index of the native frame -> index of the group whose mark lies in it; empty if no mark lies on this stack.

    Args:
        count: native frames.
        groups: how many there are.
        marks: of the groups, as ``PythonThread`` has them.
        pointers: the stack pointer in each native frame.

    Example:
        >>> by_place(4, 2, (0x1508, 0x3508), (0x1000, 0x2000, 0x3000, 0x4000))
        {0: 0, 2: 1}
    """
    owners: dict[int, int] = {}
    if len(pointers) != count:
        return owners
    for number, mark in enumerate(marks):
        place = bisect_right(pointers, mark) - 1
        if 0 <= place < count - 1 and number < groups:
            owners[place] = number
    return owners
