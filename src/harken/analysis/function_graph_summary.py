"""What call trees come to: time per function, who calls whom, folded stacks, and trees without their short calls.

Example:
    >>> from harken.analysis.function_graph import build, pair
    >>> points = [(0, 0, 7, True, "f"), (10, 0, 7, True, "g"), (30, 0, 7, False, "g"), (50, 0, 7, False, "f")]
    >>> roots = build(pair(points))[7, -1]
    >>> summary = Summary()
    >>> summary.add(roots[0])
    >>> [(row.func, row.calls, row.total, row.self_time) for row in summary.rows()]
    [('f', 1, 50, 30), ('g', 1, 20, 20)]
    >>> summary.folded
    {'f': 30, 'f;g': 20}
    >>> [step.leaf is None for step in replay(roots[0], 30)]
    [False]
"""

from __future__ import annotations

from .function_graph import ENTRY, RETURN, Call, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

__all__ = ("FunctionTotals", "Summary", "columns", "replay")


class FunctionTotals:
    """One function's sums over its calls: ``calls`` that returned, ``total`` ns with all they called (a recursion counted once),
    ``self_time`` ns without it, ``shortest`` and ``longest`` call (ns), ``unfinished`` calls that were not seen to return."""

    __slots__ = ("calls", "func", "longest", "self_time", "shortest", "total", "unfinished")

    def __init__(self, func: Any) -> None:
        self.func = func
        self.calls = self.total = self.self_time = self.longest = self.unfinished = 0
        self.shortest = -1

    @property
    def average(self) -> float:
        """Mean duration of a call in ns."""
        return self.total / self.calls if self.calls else 0.0


class Summary:
    """Sums over trees, added one by one; memory grows with the number of functions and of different stacks, not of calls.

    Args:
        name: function -> text, for folded stacks.
        stacks: at most this many different stacks are kept apart; the time of further ones goes to ``other_stacks``.

    Attributes:
        functions: function -> ``FunctionTotals``.
        edges: (caller, called function) -> [calls, total ns].
        folded: stack as "outermost;...;innermost" -> self time in ns.
    """

    def __init__(self, name: Callable[[Any], str] = str, stacks: int = 200_000) -> None:
        self.functions: dict[Any, FunctionTotals] = {}
        self.edges: dict[tuple[Any, Any], list[int]] = {}
        self.folded: dict[str, int] = {}
        self.other_stacks = 0
        self._name, self._limit = name, stacks
        self._names: dict[Any, str] = {}

    def add(self, root: Call, prefix: str = "") -> None:
        """Adds a tree; ``prefix`` is put before its stacks (a command's name)."""
        running: dict[Any, int] = {}
        waiting: list[tuple[Call | None, str, Any]] = [(root, prefix, None)]
        while waiting:
            call, above, func = waiting.pop()
            if call is None:  # the calls below are done
                running[func] -= 1
                continue
            func = call.func
            totals = self.functions.get(func)
            if totals is None:
                totals = self.functions[func] = FunctionTotals(func)
            name = self._names.get(func)
            if name is None:
                name = self._names[func] = self._name(func).replace(";", ":")
            stack = f"{above};{name}" if above else name
            depth = running.get(func, 0)
            if call.returned:
                duration, own = call.duration, call.self_time
                totals.calls += 1
                totals.self_time += own
                if not depth:
                    totals.total += duration
                if duration > totals.longest:
                    totals.longest = duration
                if totals.shortest < 0 or duration < totals.shortest:
                    totals.shortest = duration
                if stack in self.folded:
                    self.folded[stack] += own
                elif len(self.folded) < self._limit:
                    self.folded[stack] = own
                else:
                    self.other_stacks += own
                if call.parent is not None:
                    edge = self.edges.setdefault((call.parent.func, func), [0, 0])
                    edge[0] += 1
                    edge[1] += duration
            else:
                totals.unfinished += 1
            if call.children:
                running[func] = depth + 1
                waiting.append((None, "", func))
                waiting += [(child, stack, None) for child in reversed(call.children)]

    def rows(self, by: str = "total") -> list[FunctionTotals]:
        """Functions with the largest ``by`` ("total", "self_time", "calls", "longest") first; equal ones as they came."""
        return sorted(self.functions.values(), key=lambda totals: -getattr(totals, by))

    def callees(self, func: Any) -> list[tuple[Any, int, int]]:
        """(function, calls, total ns) of what a function called itself, the most time first."""
        found = [(called, calls, total) for (caller, called), (calls, total) in self.edges.items() if caller == func]
        return sorted(found, key=lambda row: -row[2])

    def callers(self, func: Any) -> list[tuple[Any, int, int]]:
        """(function, calls, total ns) of those that called a function, the most time first."""
        found = [(caller, calls, total) for (caller, called), (calls, total) in self.edges.items() if called == func]
        return sorted(found, key=lambda row: -row[2])


def replay(root: Call, least: int = 0, depth: int = -1) -> Iterator[Step]:
    """The steps of a tree again, with leaves found, for rendering.

    Args:
        least: leave out calls that are shorter (ns); those whose duration is not known stay.
        depth: leave out calls at this depth below the root and deeper; -1: none.
    """
    waiting: list[tuple[Call, bool]] = [(root, False)]
    top = root.depth
    while waiting:
        call, leaving = waiting.pop()
        end = Step(call.end, call.cpu, call.pid, RETURN, call.func, call.depth, call.start, call.end, call.overrun, call.retval)
        if leaving:
            yield end
            continue
        shown = call.children if depth < 0 or call.depth - top + 1 < depth else []
        if least:
            shown = [child for child in shown if not child.returned or child.duration >= least]
        if call.entered or call.returned:
            start = Step(call.start, call.cpu, call.pid, ENTRY, call.func, call.depth, retaddr=call.retaddr, args=call.args)
            if call.returned and not shown:
                start.leaf = end
                yield start
                continue
            yield start
        if call.returned:
            waiting.append((call, True))
        waiting += [(child, False) for child in reversed(shown)]


def columns(roots: dict[tuple[int, int], list[Call]]) -> dict[str, list[Any]]:
    """All calls as columns, callers before what they called: func, pid, cpu, depth, start, duration, self_time, parent (a row or -1)."""
    names = ("func", "pid", "cpu", "depth", "start", "duration", "self_time", "parent")
    found: dict[str, list[Any]] = {name: [] for name in names}
    rows: dict[int, int] = {}
    for trees in roots.values():
        for root in trees:
            for call in root.walk():
                rows[id(call)] = len(found["func"])
                parent = -1 if call.parent is None else rows[id(call.parent)]
                for name, value in zip(
                    names, (call.func, call.pid, call.cpu, call.depth, call.start, call.duration, call.self_time, parent)
                ):
                    found[name].append(value)
    return found
