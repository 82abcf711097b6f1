"""Call chains as trees of text, in the layout of ``trace-cmd hist``.

Example:
    >>> from harken.analysis.call_chains import Tree
    >>> tree = Tree()
    >>> for calls in (["main", "read"], ["main", "read"], ["init", "read"]):
    ...     tree.add(7, [(name, name) for name in calls], event=False)
    >>> print(chains_text(tree, lambda pid: "cat"), end="")
      %100.00  (7) cat                           read #3
             |
             --- read
                |
                |--%66.67-- main  # 2
                |
                |--%33.33-- init  # 1
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..analysis.call_chains import Chain, Tree

__all__ = ("chains_text",)

_BLANK, _LINE, _INDENT = " " * 10, " " * 12 + "|", " " * 13


def chains_text(tree: Tree, comm: Callable[[int], str]) -> str:
    """The chains of a tree, the most frequent first; ``comm`` names tasks."""
    blocks = []
    for chain in tree.sorted():
        percent = f"%{chain.count / tree.total * 100:3.2f}"
        who = "<all pids>" if tree.together else f" ({chain.pid}) {comm(chain.pid)}"
        name = f"*{chain.name}*" if chain.event else chain.name
        lines = [f"  {percent} {who} {chain.name:>30} #{chain.count}", "         |", f"         --- {name}"]
        _Parents(lines).add(chain, 0)
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


class _Parents:
    """The lines of a chain's callers; ``open`` are the columns in which a line goes on downwards."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.open: set[int] = set()

    def _indent(self, count: int) -> str:
        return "".join([_LINE if column in self.open else _INDENT for column in range(count)])

    def _straight(self, chain: Chain, indent: int) -> None:
        """Callers without branches."""
        space = self._indent(indent) + _BLANK
        while chain.callers:
            chain = chain.callers[0]
            self.lines.append(space + chain.name)

    def add(self, chain: Chain, indent: int) -> None:
        if chain.single:
            self._straight(chain, indent)
            return
        self.open.add(indent)
        for place, caller in enumerate(chain.callers):
            space = self._indent(indent + 1)
            self.lines.append(space)
            self.lines.append(f"{space}--%{caller.count / chain.count * 100:.2f}-- {caller.name}  # {caller.count}")
            if place == len(chain.callers) - 1:
                self.open = {column for column in self.open if column < indent}
            if caller.single:
                self._straight(caller, indent + 1)
                continue
            while len(caller.callers) == 1 and caller.callers[0].count == caller.count:
                caller = caller.callers[0]
                self.lines.append(self._indent(indent + 1) + _BLANK + caller.name)
            self.add(caller, indent + 1)
