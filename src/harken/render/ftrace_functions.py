"""The function trace's indentation in ``trace-cmd report``: how deep a function stands depends on those before it on its CPU.

libtraceevent keeps a stack of names per CPU; a caller's place on it is the depth of what it calls.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ("DEEPEST", "FunctionTexts", "place")

#: Calls that a trace is indented by; as in native/text.h.
DEEPEST = 1000
_MOST = 100_000  # names and texts that are kept


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


class FunctionTexts:
    """The texts of many records, each different one once.

    Args:
        name: address -> the function's name, None if it has none.
        text: (depth, address, caller) -> the text of a record.
        indent: False if all have the depth 0.
        parent: whether texts tell the caller.
    """

    def __init__(
        self, name: Callable[[int], str | None], text: Callable[[int, int, int], str], indent: bool = True, parent: bool = False
    ) -> None:
        self._name, self._text, self._indent, self._parent = name, text, indent, parent
        self._names: dict[int, str | None] = {}
        self._numbers: dict[tuple[int, int, int], int] = {}
        self.texts: list[bytes] = []

    def _known(self, address: int) -> str | None:
        if len(self._names) >= _MOST:
            self._names.clear()
        found = self._names[address] = self._name(address)
        return found

    def numbers(self, pairs: Iterable[tuple[int, int]], stack: list[str]) -> list[int]:
        """The number of the text of each record.

        Args:
            pairs: (function, caller) of each.
            stack: the names of the CPU, which is changed.
        """
        if len(self.texts) >= _MOST:
            self.texts, self._numbers = [], {}
        names, numbers, known, indent, parents = self._names, self._numbers, self._known, self._indent, self._parent
        found = []
        for address, caller in pairs:
            depth = 0
            if indent:
                parent = names[caller] if caller in names else known(caller)
                if parent:
                    depth = place(stack, parent, names[address] if address in names else known(address))
            key = (depth, address, caller if parents else 0)
            number = numbers.get(key)
            if number is None:
                number = numbers[key] = len(self.texts)
                self.texts.append(self._text(depth, address, caller).encode("utf-8", "surrogateescape"))
            found.append(number)
        return found
