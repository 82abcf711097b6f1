"""The accounts of ``analysis.task_profile`` as text, in the layout of ``trace-cmd report --profile``.

Stacks become trees: of the stacks of an event those that begin with the same functions share a branch, the longest time first.
"""

from __future__ import annotations

import struct

from ..analysis.task_profile_model import StackSum, Sum, Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ..analysis.task_profile import Profile

__all__ = ("profile_text",)

_SOFTIRQS = "HI TIMER NET_TX NET_RX BLOCK BLOCK_IOPOLL TASKLET SCHED HRTIMER RCU".split()  # include/linux/interrupt.h
_STATES = "RSDTtXZxKWP"
_DEPTH = 200  # forks within forks that are drawn


def profile_text(
    profile: Profile, comm: Callable[[int], str], symbol: Callable[[int], str], long_size: int = 8, order: str = "<", by_comm: bool = False
) -> Iterator[str]:
    """The text in pieces.

    Args:
        comm: names tasks whose events do not.
        symbol: the function at an address, "" if there is none.
        long_size, order: of the recorded machine: how its stacks are stored.
        by_comm: tasks of one name together.
    """
    writer = _Writer(symbol, long_size, order)
    for task in (profile.all_task, *[profile.cpu_tasks[cpu] for cpu in sorted(profile.cpu_tasks)]):
        if task.sums:
            yield task.comm + "\n" + writer.sums(task.sums.values())
    tasks = [profile.tasks[pid] for pid in sorted(profile.tasks)]
    if by_comm:
        groups: dict[str, Task] = {}
        for task in tasks:
            if task.comm:
                _merge(groups.setdefault(task.comm, Task(-1, task.comm)), task)
        for name in sorted(groups):
            yield f"\ngroup: {name}\n" + writer.sums(groups[name].sums.values())
        tasks = [task for task in tasks if not task.comm]
    for task in tasks:
        yield f"\ntask: {task.comm or comm(task.pid)}-{task.pid}\n" + writer.sums(task.sums.values())


def _merge(group: Task, task: Task) -> None:
    """Adds a task's accounts to its group's; wakings count together whoever was woken."""
    for found in task.sums.values():
        value = 0 if found.watch.kind == "wakeup" else found.value
        key = id(found.watch), value, value
        known = group.sums.get(key)
        if known is None:
            known = group.sums[key] = Sum(found.watch, value)
            known.min, known.min_at = found.min, found.min_at
        known.merge(found)
        for stack, account in found.stacks.items():
            place = known.stacks.get(stack)
            if place is None:
                place = known.stacks[stack] = StackSum()
                place.min, place.min_at = account.min, account.min_at
            place.merge(account)


def _order(found: Sum) -> tuple[int, int, int]:
    """Switches first, by state; wakings; then by event, and by time."""
    if found.watch.kind == "switch":
        return 0, found.value, 0
    if found.watch.kind == "wakeup":
        return 1, 0, 0
    return 2, found.watch.event.id, -found.time


def _at(time: int) -> str:
    return f"{time // 1000000000}.{(time % 1000000000 + 500) // 1000:06}"


class _Branch:
    """Stacks that begin with the same functions."""

    __slots__ = ("count", "level", "max", "max_at", "min", "min_at", "percent", "stacks", "time", "value")

    def __init__(self, value: int, stacks: Sequence[tuple[tuple[int, ...], StackSum]], level: int) -> None:
        self.value, self.stacks, self.level = value, stacks, level
        self.count = sum(account.count for _, account in stacks)
        self.time = sum(account.time for _, account in stacks)
        self.percent = 0
        longest, shortest = stacks[0][1], stacks[0][1]
        for _, account in stacks[1:]:
            longest = account if account.max > longest.max else longest
            shortest = account if account.min < shortest.min else shortest
        self.max, self.max_at, self.min, self.min_at = longest.max, longest.max_at, shortest.min, shortest.min_at

    def below(self) -> list[_Branch]:
        return _branches(self.stacks, self.level + 1)


def _branches(stacks: Sequence[tuple[tuple[int, ...], StackSum]], level: int) -> list[_Branch]:
    found: dict[int, list[tuple[tuple[int, ...], StackSum]]] = {}
    for stack in stacks:
        if len(stack[0]) > level:
            found.setdefault(stack[0][level], []).append(stack)
    branches = [_Branch(value, group, level) for value, group in found.items()]
    branches.sort(key=lambda branch: (-branch.time, -branch.count))
    total, count = sum(branch.time for branch in branches), sum(branch.count for branch in branches)
    for branch in branches:
        branch.percent = (branch.time * 100 + total // 2) // total if total else (branch.count * 100 + count // 2) // count
    return branches


class _Writer:
    """Makes lines of accounts."""

    def __init__(self, symbol: Callable[[int], str], long_size: int, order: str) -> None:
        self.symbol, self.long_size, self.order = symbol, long_size, order
        self._end = (1 << 8 * long_size) - 1
        self._out: list[str] = []
        self._mask = 0

    def sums(self, sums: Iterable[Sum]) -> str:
        self._out = []
        for found in sorted(sums, key=_order):
            line = f"  Event: {self._name(found)} ({found.count})"
            if found.time:
                line += f" Total: {found.time} Avg: {found.time // found.count} Max: {found.max}(ts:{_at(found.max_at)})"
                line += f" Min:{found.min}(ts:{_at(found.min_at)})"
            self._out.append(line + "\n")
            if found.stacks:
                self._mask = 0
                self._branches(_branches(self._stacks(found), 0), 0)
        return "".join(self._out)

    def _name(self, found: Sum) -> str:
        kind, name, value = found.watch.kind, found.watch.event.name, found.value
        if kind == "switch":
            letters = "".join([letter for bit, letter in enumerate(_STATES[1:]) if value >> bit & 1])
            return f"{name}:{letters if value else 'R'}"
        if kind == "function" or (kind == "graph" and found.watch.mate is not None):
            function = self.symbol(value)
            return f"func: {function}()" if function else f"func: 0x{value:x}"
        if kind == "softirq":
            return f"{name}:{_SOFTIRQS[value] if value < len(_SOFTIRQS) else value}"
        if kind == "syscall":
            number = value & 0xFFFFFFFF
            return f"{name}:{number - (1 << 32) if number >> 31 else number}"
        return f"{name}:0x{value:x}"

    def _stacks(self, found: Sum) -> list[tuple[tuple[int, ...], StackSum]]:
        """Stacks as addresses, in an order in which equal beginnings are together."""
        letter = "Q" if self.long_size == 8 else "I"
        stacks = []
        for data, account in found.stacks.items():
            count = len(data) // self.long_size
            addresses = struct.unpack_from(f"{self.order}{count}{letter}", data)
            if self._end in addresses:
                addresses = addresses[: addresses.index(self._end)]
            words = struct.unpack_from(f"<{len(data) // 4}I", data)
            stacks.append((words, addresses, account))
        stacks.sort(key=lambda stack: stack[0])
        return [(addresses, account) for _, addresses, account in stacks]

    def _function(self, address: int) -> str:
        name = self.symbol(address)
        return f"{name} (0x{address:x})\n" if name else f"0x{address:x}\n"

    def _indent(self, level: int) -> str:
        return "".join(["    | " if self._mask >> place & 1 else "      " for place in range(level + 1)])

    def _branches(self, branches: list[_Branch], level: int) -> None:
        if not branches or level > _DEPTH:
            return
        put = self._out.append
        bit = 1 << level + 1
        self._mask |= bit
        put(self._indent(level + 1) + "\n")
        line = "    | "
        for place, branch in enumerate(branches):
            put(self._indent(level) + "    + ")
            if place == len(branches) - 1:
                self._mask &= ~bit
                line = "      "
            put(self._function(branch.value))
            put(f"{self._indent(level)}{line}  {branch.percent}% ({branch.count})")
            if branch.time:
                put(f" time:{branch.time} max:{branch.max}(ts:{_at(branch.max_at)}) min:{branch.min}(ts:{_at(branch.min_at)})")
                put(f" avg:{branch.time // branch.count}")
            put("\n")
            below = branch.below()
            while len(below) == 1:
                put(f"{self._indent(level)}{line}   {self._function(below[0].value)}")
                below = below[0].below()
            self._branches(below, level + 1)
            put(self._indent(level + 1) + "\n")
        self._mask &= ~bit
        put(self._indent(level) + "\n")
