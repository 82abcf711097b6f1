"""Calls of functions as objects: who called whom, for how long, and how much of it was their own time.

The input is a stream of ``Step`` objects in the order of time: entries and returns of functions.  They come from ``funcgraph_entry`` and
``funcgraph_exit`` records (``analysis.function_graph_records``), or from pairs of probes at the start and the end of functions
(``pair``).  ``Builder`` makes ``Call`` trees of them, one list of roots per task, as the stream goes; ``build`` does so for a whole
stream.

What cannot be known is said, not guessed: a call whose entry was lost (or that was running before the trace began) has ``entered`` False,
one that had not returned when the trace ended has ``returned`` False and an unknown duration (-1).

Example:
    >>> steps = pair([(0, 0, 7, True, 1), (10, 0, 7, True, 2), (30, 0, 7, False, 2), (50, 0, 7, False, 1)])
    >>> root = build(steps)[7, -1][0]
    >>> root.duration, root.self_time, [(call.func, call.depth, call.duration) for call in root.walk()]
    (50, 30, [(1, 0, 50), (2, 1, 20)])
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

__all__ = ("COMMENT", "ENTRY", "RETURN", "Builder", "Call", "Leaves", "Step", "build", "leaves", "pair", "roots", "task_of")

ENTRY, RETURN, COMMENT = 0, 1, 2
_WAITING = 1000


class Step:
    """An entry into a function, a return from one, or another event between them.

    ``time`` when it was recorded, in the clock's unit (ns); ``cpu``, ``pid`` of the thread; ``kind`` ENTRY, RETURN or COMMENT; ``func``
    the function's address, or whatever else names it; ``depth`` of the call, 0 for the outermost.  Of returns: ``start`` and ``end`` of
    the call (ns), ``overrun`` calls that were too deep to be recorded, ``retval``. Of entries: ``retaddr``, ``args`` (the argument
    registers) where they were recorded.  ``flags`` and ``preempt`` are the record's ``common_flags`` and ``common_preempt_count``.
    ``type`` and ``data`` are the event id and the payload of a COMMENT.  ``leaf`` of an entry is its return, if that came right behind it
    (``leaves``).
    """

    __slots__ = (
        "args",
        "cpu",
        "data",
        "depth",
        "end",
        "flags",
        "func",
        "kind",
        "leaf",
        "overrun",
        "pid",
        "preempt",
        "retaddr",
        "retval",
        "start",
        "time",
        "type",
    )

    def __init__(
        self,
        time: int,
        cpu: int,
        pid: int,
        kind: int,
        func: Any = 0,
        depth: int = 0,
        start: int = 0,
        end: int = 0,
        overrun: int = 0,
        retval: int | None = None,
        retaddr: int | None = None,
        args: tuple[int, ...] = (),
        flags: int = 0,
        preempt: int = 0,
        type: int = 0,
        data: bytes = b"",
    ) -> None:
        self.time, self.cpu, self.pid, self.kind, self.func, self.depth = time, cpu, pid, kind, func, depth
        self.start, self.end, self.overrun, self.retval, self.retaddr, self.args = start, end, overrun, retval, retaddr, args
        self.flags, self.preempt, self.type, self.data = flags, preempt, type, data
        self.leaf: Step | None = None

    @property
    def duration(self) -> int:
        return self.end - self.start

    def __repr__(self) -> str:
        name = ("ENTRY", "RETURN", "COMMENT")[self.kind]
        return f"<{name} {self.func!r} depth {self.depth} pid {self.pid} cpu {self.cpu} at {self.time}>"


class Call:
    """One call of a function.

    ``start``, ``end`` in ns (-1: not known), ``cpu`` where it was entered (or, if that is not known, left), ``depth`` as recorded,
    ``children`` the calls made by it, in order.
    """

    __slots__ = (
        "args",
        "children",
        "cpu",
        "depth",
        "end",
        "entered",
        "func",
        "overrun",
        "parent",
        "pid",
        "retaddr",
        "returned",
        "retval",
        "start",
    )

    def __init__(self, func: Any, pid: int, cpu: int, depth: int, start: int) -> None:
        self.func, self.pid, self.cpu, self.depth, self.start = func, pid, cpu, depth, start
        self.end = -1
        self.entered, self.returned = True, False
        self.overrun = 0
        self.retval: int | None = None
        self.retaddr: int | None = None
        self.args: tuple[int, ...] = ()
        self.children: list[Call] = []
        self.parent: Call | None = None

    @property
    def duration(self) -> int:
        """ns from entry to return, all that it called included; -1 if it was not seen to return."""
        return self.end - self.start if self.returned else -1

    @property
    def self_time(self) -> int:
        """ns that were spent in the function itself; -1 if it was not seen to return.

        Time of calls that were recorded is not its own; those that were not (filtered out, too deep) cannot be told from it.
        """
        if not self.returned:
            return -1
        return max(0, self.end - self.start - sum([call.end - call.start for call in self.children if call.returned]))

    def walk(self) -> Iterator[Call]:
        """This call and all below it, callers first; never recursive, so that no depth is too deep."""
        waiting = [self]
        while waiting:
            call = waiting.pop()
            yield call
            waiting += reversed(call.children)

    @property
    def stack(self) -> tuple[Any, ...]:
        """The functions from the outermost caller to this one."""
        found = []
        call: Call | None = self
        while call is not None:
            found.append(call.func)
            call = call.parent
        return tuple(reversed(found))

    def __repr__(self) -> str:
        time = f"{self.duration} ns" if self.returned else "not returned"
        return f"<Call {self.func!r} pid {self.pid} depth {self.depth}: {time}, {len(self.children)} calls>"


def task_of(pid: int, cpu: int) -> tuple[int, int]:
    """What a stack of calls belongs to: (thread, -1), or (0, CPU), for the idle tasks of all CPUs share the number 0."""
    return (0, cpu) if pid == 0 else (pid, -1)


class Builder:
    """Makes call trees from steps, as they come.

    ``roots`` maps a task (``task_of``) to its outermost calls, finished or not.  ``done`` is called with each root when it is complete;
    then it is not kept in ``roots``.
    """

    def __init__(self, done: Callable[[Call], None] | None = None) -> None:
        self.roots: dict[tuple[int, int], list[Call]] = {}
        self.unreturned = 0
        self.unentered = 0
        self._open: dict[tuple[int, int], list[Call]] = {}
        self._done = done

    def feed(self, step: Step) -> Call | None:
        """Takes a step; returns the call that it ended, if it did."""
        if step.kind == COMMENT:
            return None
        task = (0, step.cpu) if step.pid == 0 else (step.pid, -1)
        stack = self._open.get(task)
        if stack is None:
            stack = self._open[task] = []
        depth = step.depth
        if step.kind == ENTRY:
            if stack and stack[-1].depth >= depth:
                self._cut(task, stack, depth)
            call = Call(step.func, step.pid, step.cpu, depth, step.time)
            call.args, call.retaddr = step.args, step.retaddr
            if stack:
                call.parent = stack[-1]
                stack[-1].children.append(call)
            else:
                self._root(task, call)
            stack.append(call)
            return None
        if stack and stack[-1].depth > depth:
            self._cut(task, stack, depth + 1)
        if stack and stack[-1].depth == depth and stack[-1].func == step.func:
            call = stack.pop()
        else:
            if stack and stack[-1].depth >= depth:  # another function: its return was lost as well as this one's entry
                self._cut(task, stack, depth)
            call = self._without_entry(task, stack, step)
        call.start, call.end, call.returned = step.start, step.end, True
        call.retval, call.overrun = step.retval, step.overrun
        if not stack:
            self._finish(task, call)
        return call

    def close(self) -> dict[tuple[int, int], list[Call]]:
        """The stream has ended: calls that are still open stay without an end.  Returns the roots."""
        for task, stack in self._open.items():
            self._cut(task, stack, -1)
        if self._done is not None:
            for task in list(self.roots):
                for root in self.roots.pop(task):
                    self._done(root)
        return self.roots

    def _root(self, task: tuple[int, int], call: Call) -> None:
        self.roots.setdefault(task, []).append(call)

    def _cut(self, task: tuple[int, int], stack: list[Call], depth: int) -> None:
        """Gives up calls of at least this depth: their returns were lost."""
        while stack and stack[-1].depth >= depth:
            call = stack.pop()
            self.unreturned += 1
            if not stack:
                self._finish(task, call)

    def _without_entry(self, task: tuple[int, int], stack: list[Call], step: Step) -> Call:
        """A call of which only the return was seen; what it called is already here, next to it."""
        self.unentered += 1
        call = Call(step.func, step.pid, step.cpu, step.depth, step.start)
        call.entered = False
        siblings = stack[-1].children if stack else self.roots.setdefault(task, [])
        first = len(siblings)
        while (
            first
            and siblings[first - 1].depth > step.depth
            and (not siblings[first - 1].returned or siblings[first - 1].start >= step.start)
        ):
            first -= 1
        call.children = siblings[first:]
        del siblings[first:]
        for child in call.children:
            child.parent = call
        if stack:
            call.parent = stack[-1]
        siblings.append(call)
        return call

    def _finish(self, task: tuple[int, int], call: Call) -> None:
        """A root is complete.  One that was not at depth 0 waits: the return of its caller may still come and take it in."""
        if self._done is not None and (call.depth == 0 or len(self.roots.get(task, ())) > _WAITING):
            for root in self.roots.pop(task, []):
                self._done(root)


def build(steps: Iterable[Step]) -> dict[tuple[int, int], list[Call]]:
    """The call trees of a whole stream: task (``task_of``) -> its outermost calls in order."""
    builder = Builder()
    feed = builder.feed
    for step in steps:
        feed(step)
    return builder.close()


def roots(steps: Iterable[Step]) -> Iterator[Call]:
    """Outermost calls with all below them, each as soon as it is complete; of a stream that need not end."""
    ready: list[Call] = []
    builder = Builder(ready.append)
    for step in steps:
        builder.feed(step)
        if ready:
            yield from ready
            ready.clear()
    builder.close()
    yield from ready


class Leaves:
    """Finds calls that called nothing: an entry whose return is the next record of its CPU gets it as ``leaf`` and is left out."""

    __slots__ = ("held",)

    def __init__(self) -> None:
        #: the entry that waits for what comes next
        self.held: Step | None = None

    def feed(self, step: Step) -> Iterator[Step]:
        """Takes the next step of this CPU; yields those that are complete."""
        held = self.held
        if held is not None:
            self.held = None
            if step.kind == RETURN and step.func == held.func and step.pid == held.pid:
                held.leaf = step
                yield held
                return
            yield held
        if step.kind == ENTRY:
            self.held = step
        else:
            yield step

    def flush(self) -> Iterator[Step]:
        """The entry that still waits for what comes next, if there is one."""
        if self.held is not None:
            held, self.held = self.held, None
            yield held


def leaves(steps: Iterable[Step]) -> Iterator[Step]:
    """The steps of one CPU, with the returns of leaves taken into their entries.

    Example:
        >>> points = [(0, 0, 7, True, 1), (9, 0, 7, True, 2), (10, 0, 7, False, 2), (12, 0, 7, False, 1)]
        >>> [step.leaf is not None for step in leaves(pair(points))]
        [False, True, False]
    """
    state = Leaves()
    for step in steps:
        yield from state.feed(step)
    yield from state.flush()


def pair(points: Iterable[tuple[Any, ...]]) -> Iterator[Step]:
    """Steps from probes at the start and at the end of functions.

    Args:
        points: (time, CPU, thread, is an entry, function[, return value[, arguments]]) in the order of time.

    A return ends the last open call of the same function in the same thread; those that it made and that never returned (a tail call, a
    ``longjmp``, an exception, a lost event) end with it, unseen.  A return without an entry is of a call that began before the trace: its
    start is not known and it gets the time of the first event of its thread.
    """
    open_calls: dict[tuple[int, int], list[tuple[Any, int]]] = {}
    first: dict[tuple[int, int], int] = {}
    for time, cpu, pid, entry, func, *more in points:
        task = (0, cpu) if pid == 0 else (pid, -1)
        stack = open_calls.get(task)
        if stack is None:
            stack = open_calls[task] = []
            first[task] = time
        if entry:
            yield Step(time, cpu, pid, ENTRY, func, len(stack), args=more[1] if len(more) > 1 else ())
            stack.append((func, time))
            continue
        at = len(stack) - 1
        while at >= 0 and stack[at][0] != func:
            at -= 1
        start = stack[at][1] if at >= 0 else first[task]
        depth = at if at >= 0 else 0
        if at >= 0:
            del stack[at:]
        else:
            stack.clear()
        yield Step(time, cpu, pid, RETURN, func, depth, start, time, retval=more[0] if more else None)
