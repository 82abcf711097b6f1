"""Call chains of a recording: which functions and events came about how often, and through which callers.

``Collector`` reads the records of one CPU after the other, as ``trace-cmd hist`` does, and puts chains together from what there is: the
function tracer's (function, parent) pairs, the function graph's depths, and stack traces behind events.  Each chain is counted in a
tree that begins with its innermost function; ``Chain.callers`` lead outwards.

Example:
    >>> tree = Tree()
    >>> for calls in (["main", "read"], ["main", "read"], ["init", "read"]):
    ...     tree.add(7, [(name, name) for name in calls], event=False)
    >>> [(chain.name, chain.count, [(c.name, c.count) for c in chain.callers]) for chain in tree.sorted()]
    [('read', 3, [('main', 2), ('init', 1)])]
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    #: (what tells it apart, its name): functions of one name may be several.
    Frame = tuple[object, str]

__all__ = ("Chain", "Collector", "Tree", "DEPTH")

#: Frames of a chain that are kept.  The kernel's stacks are shorter; in a damaged file a depth may say anything.
DEPTH = 400


class Chain:
    """A function or event, how often it was met below those inside of it, and its callers."""

    __slots__ = ("callers", "count", "event", "frame", "pid", "_by_frame")

    def __init__(self, frame: Frame, pid: int, event: bool) -> None:
        self.frame, self.pid, self.event = frame, pid, event
        self.count = 0
        self.callers: list[Chain] = []
        self._by_frame: dict[object, Chain] = {}

    @property
    def name(self) -> str:
        return self.frame[1]

    def caller(self, frame: Frame) -> Chain:
        found = self._by_frame.get(frame[0])
        if found is None:
            found = self._by_frame[frame[0]] = Chain(frame, self.pid, False)
            self.callers.append(found)
        return found

    @property
    def single(self) -> bool:
        """Whether there is one way outwards only."""
        chain = self
        while len(chain.callers) == 1:
            chain = chain.callers[0]
        return not chain.callers


class Tree:
    """All chains; ``total`` counts them.

    Args:
        together: do not tell tasks apart.
    """

    def __init__(self, together: bool = False) -> None:
        self.together = together
        self.total = 0
        self._chains: dict[tuple[int, object], Chain] = {}

    def add(self, pid: int, frames: Sequence[Frame], event: bool) -> None:
        """Counts a chain, outermost caller first."""
        self.total += 1
        if not frames:
            return
        owner = 0 if self.together else pid
        chain = self._chains.get((owner, frames[-1][0]))
        if chain is None:
            chain = self._chains[owner, frames[-1][0]] = Chain(frames[-1], owner, event)
        chain.count += 1
        for frame in frames[-2::-1]:
            chain = chain.caller(frame)
            chain.count += 1

    def sorted(self) -> list[Chain]:
        """Chains by count, the largest first, their callers too; of equals the newest first."""
        chains = _by_count(self._chains.values())
        waiting = list(chains)
        while waiting:
            chain = waiting.pop()
            chain.callers = _by_count(chain.callers)
            waiting += chain.callers
        return chains


def _by_count(chains: Iterable[Chain]) -> list[Chain]:
    return sorted(reversed(list(chains)), key=lambda chain: -chain.count)


class Collector:
    """Turns records into chains of ``tree``.

    ``function``, ``entry``, ``exit``, ``stack`` and ``event`` take one record each, in the order of one CPU after the other; ``flush``
    is told that records were lost, ``finish`` that there are no more.

    Args:
        symbol: address -> frame; None for an address that is in no function.
    """

    def __init__(self, tree: Tree, symbol: Callable[[int], Frame | None]) -> None:
        self.tree, self.symbol = tree, symbol
        self._pid = -1
        self._frames: list[Frame] = []
        self._saved: dict[int, list[Frame]] = {}  # of tasks that do not run
        self._pending_pid = -1
        self._pending: list[Frame] = []

    def function(self, pid: int, address: int, parent_address: int) -> None:
        """A call that the function tracer has seen."""
        function, parent = self._frame(address), self._frame(parent_address)
        self._switch(pid)
        frames = self._frames
        if frames and frames[-1][0] != parent[0]:
            self.tree.add(pid, frames, False)
            while frames and frames[-1][0] != parent[0]:
                frames.pop()
        if not frames:
            self._push(parent)
        self._push(function)

    def entry(self, pid: int, address: int, depth: int) -> None:
        """A call of the function graph."""
        self._switch(pid)
        self._unwind(pid, depth)
        self._push(self._frame(address))

    def exit(self, pid: int, depth: int) -> None:
        """A return of the function graph."""
        self._switch(pid)
        self._unwind(pid, depth)

    def event(self, pid: int, name: str) -> None:
        """An event; a stack trace behind it says where it came from, else it hangs on the function that is being traced."""
        if self._pending_pid >= 0:
            self.tree.add(self._pending_pid, self._pending, True)
        self._pending_pid, self._pending = pid, [*self._frames, (name, name)]

    def stack(self, pid: int, addresses: Iterable[int]) -> None:
        """A stack trace, innermost function first."""
        if self._pending_pid >= 0 and pid != self._pending_pid:
            self._pending_pid = -1
            return
        back = False
        if self._pending_pid >= 0:
            if self._pid >= 0:
                self._save()
                back = True
        elif self._pid >= 0:  # the stack of a function
            self._pending_pid, self._pending = self._pid, self._frames
            self._reset()
        self._pid = pid
        found = [frame for address in addresses if (frame := self.symbol(address)) is not None]
        for frame in reversed(found):
            self._push(frame)
        if self._pending_pid >= 0:
            if self._pending:
                self._push(self._pending[-1])
            self._pending_pid = -1
        self.tree.add(pid, self._frames, True)
        if back:
            self._restore(pid)

    def flush(self) -> None:
        """Records were lost: what is being followed ends here."""
        if self._pid >= 0:
            self.tree.add(self._pid, self._frames, False)
            self._reset()

    def finish(self) -> None:
        if self._pid >= 0:
            self.tree.add(self._pid, self._frames, False)
        if self._pending_pid >= 0:
            self.tree.add(self._pending_pid, self._pending, True)
        for pid in reversed(list(self._saved)):
            self.tree.add(pid, self._saved[pid], False)
        self._saved.clear()

    def _frame(self, address: int) -> Frame:
        return self.symbol(address) or (None, "(null)")

    def _push(self, frame: Frame) -> None:
        if len(self._frames) < DEPTH:
            self._frames.append(frame)

    def _unwind(self, pid: int, depth: int) -> None:
        if depth != len(self._frames):
            self.tree.add(pid, self._frames, False)
            del self._frames[max(depth, 0) :]

    def _switch(self, pid: int) -> None:
        if self._pid >= 0 and pid != self._pid:
            self._save()
            self._restore(pid)
        self._pid = pid

    def _reset(self) -> None:
        self._pid, self._frames = -1, []

    def _save(self) -> None:
        self._saved.pop(self._pid, None)
        self._saved[self._pid] = self._frames
        self._reset()

    def _restore(self, pid: int) -> None:
        frames = self._saved.pop(pid, None)
        if frames is not None:
            self._pid, self._frames = pid, frames
