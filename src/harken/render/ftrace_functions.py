"""The function trace's indentation in ``trace-cmd report``: how deep a function stands depends on those before it on its CPU.

libtraceevent keeps a stack of names per CPU; a caller's place on it is the depth of what it calls.  Few different stacks come up again and
again, so ``FunctionPaths`` keeps each with what follows from it: a record is one look into a table.
"""

from __future__ import annotations

from ..formats.print_fmt_bulk import NotBulk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Pair = tuple[int, int]

__all__ = ("DEEPEST", "FunctionPaths", "place")

#: Calls that a trace is indented by; as in native/text.h.
DEEPEST = 1000
_DEEPEST = 200  # stacks are copied at each new step


def place(stack: list[str], parent: str, child: str | None) -> int:
    """The place of the caller on a stack of names, which is changed; a caller that is not on it starts anew.

    Example:
        >>> stack = []
        >>> [place(stack, *names) for names in (("a", "b"), ("b", "c"), ("a", "d"))], stack
        ([0, 1, 0], ['a', 'd', 'c'])
    """
    try:
        depth = stack.index(parent)
    except ValueError:
        depth = 0
        stack[:1] = [parent]
    if child and depth + 1 < DEEPEST:
        stack[depth + 1 : depth + 2] = [child]
    return depth


class _State(dict["Pair", "tuple[int, _State]"]):
    """A stack: (function, caller) -> (number of the text, the stack after it)."""

    __slots__ = ("paths", "stack")

    def __init__(self, paths: FunctionPaths, stack: tuple[str, ...]) -> None:
        super().__init__()
        self.paths, self.stack = paths, stack

    def __missing__(self, pair: Pair) -> tuple[int, _State]:
        found = self[pair] = self.paths.step(self.stack, *pair)
        return found


class FunctionPaths:
    """Stacks and texts that came up so far.

    Args:
        name: address -> the function's name, None if it has none.
        text: (depth, address, caller) -> the text of a record.
        indent: False if all have the depth 0.
    """

    def __init__(self, name: Callable[[int], str | None], text: Callable[[int, int, int], str], indent: bool = True) -> None:
        self._name, self._text, self._indent = name, text, indent
        self._states: dict[tuple[str, ...], _State] = {}
        self._numbers: dict[bytes, int] = {}
        self.texts: list[bytes] = []
        #: How many steps are kept.
        self.steps = 0

    def state(self, stack: tuple[str, ...]) -> _State:
        found = self._states.get(stack)
        if found is None:
            found = self._states[stack] = _State(self, stack)
        return found

    def step(self, before: tuple[str, ...], address: int, caller: int) -> tuple[int, _State]:
        """(number of the text, stack) behind a record.

        Raises:
            NotBulk: the stack is very deep.
        """
        stack, depth = list(before), 0
        self.steps += 1
        parent = self._name(caller)
        if parent and self._indent:
            depth = place(stack, parent, self._name(address))
            if len(stack) > _DEEPEST:
                raise NotBulk
        text = self._text(depth, address, caller).encode("utf-8", "surrogateescape")
        number = self._numbers.get(text)
        if number is None:
            number = self._numbers[text] = len(self.texts)
            self.texts.append(text)
        return number, self.state(tuple(stack))
