"""The parts of ``analysis.task_profile``: events that are watched, accounts, tasks, and pairs of events that a user connects."""

from __future__ import annotations

from ..base.errors import FormatError, UsageError
from ..base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..formats.event_format import EventFormat, FormatField

__all__ = ("Hook", "Span", "StackSum", "Sum", "Task", "Watch", "parse_hook")


class Hook(Record):
    """A pair of events that a user connects: the start's ``match`` field equals the end's ``end_match``.

    ``pid`` names the field of the start that tells the task (else it is the one that runs); ``pinned``: start and end are on one CPU;
    ``everyone``: the pair belongs to no task.
    """

    system: str
    event: str
    match: str
    end_system: str
    end_event: str
    end_match: str
    pid: str = ""
    pinned: bool = False
    stack: bool = False
    everyone: bool = False


def parse_hook(text: str) -> Hook:
    """Reads ``[SYSTEM:]EVENT,FIELD[,PID]/[SYSTEM:]EVENT,FIELD[,FLAGS]``; flags are p (one CPU), s (stack) and g (of no task).

    Raises:
        UsageError: it is something else.

    Example:
        >>> hook = parse_hook("irq:softirq_raise,vec/softirq_entry,vec,pg")
        >>> hook.system, hook.event, hook.match, hook.end_event, hook.pinned, hook.everyone
        ('irq', 'softirq_raise', 'vec', 'softirq_entry', True, True)
    """
    start, slash, end = text.partition("/")
    first, last = start.split(","), end.split(",")
    if not slash or len(first) not in (2, 3) or len(last) not in (2, 3) or not all(first) or not all(last):
        raise UsageError(f"{text!r} connects no events", "such as sched_wakeup,pid/sched_switch,next_pid")
    flags = last[2].lower() if len(last) > 2 else ""
    if set(flags) - set("psg"):
        raise UsageError(f"unknown flag in {text!r}", "p, s and g are known")
    system, _, event = first[0].rpartition(":")
    end_system, _, end_event = last[0].rpartition(":")
    pid = first[2] if len(first) > 2 else ""
    return Hook(system, event, first[1], end_system, end_event, last[1], pid, "p" in flags, "s" in flags, "g" in flags)


class Watch:
    """What is known of an event.

    ``kind`` is "switch", "wakeup", "function", "graph", "syscall", "irq", "softirq", "exec", "stack", "pair" or "".  ``mate`` is the event
    that ends what this one starts, ``opener`` the one that starts what this one ends.
    """

    __slots__ = ("end_match", "event", "everyone", "kind", "mate", "migrate", "opener", "pid", "start_match", "value")

    def __init__(self, event: EventFormat, kind: str) -> None:
        self.event, self.kind = event, kind
        self.mate: Watch | None = None
        self.opener: Watch | None = None
        self.pid: FormatField | None = None
        self.end_match: FormatField | None = None
        self.start_match: FormatField | None = None
        self.value: FormatField | None = None
        self.migrate = False
        self.everyone = False

    def field(self, name: str) -> FormatField:
        found = self.event.field(name)
        if found is None:
            raise FormatError(f"event {self.event.name}", f"it has no field {name!r}")
        return found

    def connect(self, end: Watch, match: str, end_match: str, pid: str = "", migrate: bool = False, everyone: bool = False) -> None:
        """Makes ``end`` the end of what this starts."""
        self.mate, end.opener = end, self
        if pid:
            self.pid = self.field(pid)
        self.end_match, end.start_match = self.field(match), end.field(end_match)
        self.migrate = end.migrate = migrate
        self.everyone = end.everyone = everyone


class StackSum:
    """How often a stack was met, and for how long."""

    __slots__ = ("count", "max", "max_at", "min", "min_at", "time")

    def __init__(self) -> None:
        self.count = self.time = self.max = self.max_at = self.min = self.min_at = 0

    def add(self, time: int, at: int) -> None:
        self.count += 1
        self.time += time
        if self.count == 1 or time < self.min:
            self.min, self.min_at = time, at
        if time > self.max:
            self.max, self.max_at = time, at

    def merge(self, other: StackSum | Sum) -> None:
        self.count += other.count
        self.time += other.time
        if self.max < other.max:
            self.max, self.max_at = other.max, other.max_at
        if self.min > other.min:
            self.min, self.min_at = other.min, other.min_at


class Sum(StackSum):
    """The account of an event with one value; ``stacks``: the bytes of a stack -> its account."""

    __slots__ = ("last", "stacks", "value", "watch")

    def __init__(self, watch: Watch, value: int) -> None:
        super().__init__()
        self.watch, self.value = watch, value
        self.last = 0
        self.stacks: dict[bytes, StackSum] = {}

    def add_stack(self, stack: bytes, time: int, at: int) -> None:
        found = self.stacks.get(stack)
        if found is None:
            found = self.stacks[stack] = StackSum()
        found.add(time, at)


class Span:
    """Something that has begun."""

    __slots__ = ("cpu", "dead", "key", "stack", "stack_at", "task", "time", "value", "watch")

    def __init__(self, watch: Watch, task: Task, cpu: int, time: int, key: tuple[int, int], value: int) -> None:
        self.watch, self.task, self.cpu, self.time, self.key, self.value = watch, task, cpu, time, key, value
        self.stack: bytes | None = None
        self.stack_at = 0
        self.dead = False


class Task:
    """A task and its accounts; ``comm`` is the name that its events tell, "" if they do not."""

    __slots__ = ("comm", "last_span", "last_stack", "last_sum", "pid", "proxy", "sleeping", "spans", "sums")

    def __init__(self, pid: int, comm: str = "") -> None:
        self.pid, self.comm = pid, comm
        self.sleeping = False
        self.spans: dict[tuple[int, int], list[Span]] = {}
        self.sums: dict[tuple[int, int, int], Sum] = {}
        self.proxy: Task | None = None
        self.last_span: Span | None = None
        self.last_sum: Sum | None = None
        self.last_stack: tuple[bytes, int] | None = None

    def sum(self, watch: Watch, search: int, value: int) -> Sum:
        key = id(watch), search, value
        found = self.sums.get(key)
        if found is None:
            found = self.sums[key] = Sum(watch, value)
        return found
