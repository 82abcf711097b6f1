"""What tasks did and how long it took: accounts of events and of pairs of events, per task, with the stacks that led to them.

``Profile`` is fed records in the order of time.  Pairs are known for what the kernel always has: leaving and entering the CPU
(sched_switch), waking and running (sched_wakeup), interrupts, system calls, functions (function graph); ``Hook`` adds others.  All other
events are counted by the value of their first field.  The accounting is that of ``trace-cmd report --profile``, so that both agree:

- a task that is switched out is timed until it is switched in (if it was preempted) or woken, by the state in which it left;
- a woken task is timed until it runs;
- a stack trace belongs to the event before it, or, with the function graph, to the call behind it; of a pair it is kept until the end;
- lost records end every pair that may have been torn by the loss.
"""

from __future__ import annotations

from .task_profile_model import Hook, Span, Sum, Task, Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..formats.event_format import EventFormat, FormatField

__all__ = ("Profile",)

_STATES = 1024 - 1  # the real states of a task; above are TASK_STATE_MAX and flags, include/linux/sched.h


class Profile:
    """The accounts of a recording.

    Args:
        events: all formats.
        order: of the recorded machine, "<" or ">".
        hooks: pairs of events besides those that are known.
        everyone: interrupts belong to the CPU, not to the task that they interrupt.
    """

    def __init__(self, events: Iterable[EventFormat], order: str = "<", hooks: Iterable[Hook] = (), everyone: bool = False) -> None:
        self._little = order == "<"
        self._formats = {f"{event.category}:{event.name}": event for event in events}
        self.watches: dict[int, Watch] = {}
        self.tasks: dict[int, Task] = {}
        self.all_task = Task(-1, "Global Events")
        self.cpu_tasks: dict[int, Task] = {}
        self.warnings: list[str] = []
        self._open: dict[int, set[Span]] = {}  # by CPU; -1: what may migrate
        self._know(everyone)
        for hook in hooks:
            self._hook(hook)
        for event in self._formats.values():
            if event.id not in self.watches:
                watch = self._watch(event, "")
                watch.value = event.own[0] if event.own else None
        self._handlers = {"switch": self._switch, "wakeup": self._wakeup, "stack": self._stack, "graph": self._graph, "exec": self._exec}

    # -- what is known

    def _watch(self, event: EventFormat, kind: str) -> Watch:
        watch = self.watches[event.id] = Watch(event, kind)
        return watch

    def _find(self, name: str, kind: str) -> Watch | None:
        event = self._formats.get(name)
        return None if event is None else self._watch(event, kind)

    def _pair(self, first: Watch | None, last: Watch | None, field: str, migrate: bool, everyone: bool = False) -> None:
        if first is not None and last is not None:
            first.connect(last, field, field, migrate=migrate, everyone=everyone)

    def _know(self, everyone: bool) -> None:
        find = self._find
        self._pair(find("irq:irq_handler_entry", "irq"), find("irq:irq_handler_exit", "irq"), "irq", False, everyone)
        entry, leave, raised = (find(f"irq:softirq_{word}", "softirq") for word in ("entry", "exit", "raise"))
        self._pair(entry, leave, "vec", False, everyone)
        self._pair(raised, entry, "vec", False, everyone)
        self._pair(find("ftrace:funcgraph_entry", "graph"), find("ftrace:funcgraph_exit", "graph"), "func", True)
        self._pair(find("raw_syscalls:sys_enter", "syscall"), find("raw_syscalls:sys_exit", "syscall"), "id", True)
        switch, wakeup = find("sched:sched_switch", "switch"), find("sched:sched_wakeup", "wakeup")
        if switch is not None:
            switch.pid, switch.end_match = switch.field("prev_pid"), switch.field("next_pid")
            switch.value, switch.migrate = switch.field("prev_state"), True
        if wakeup is not None:
            wakeup.pid, wakeup.migrate, wakeup.value = wakeup.field("pid"), True, wakeup.event.field("success")
        if switch is not None and wakeup is not None:
            switch.mate = switch.opener = wakeup
            wakeup.mate = wakeup.opener = switch
        execute, stack = find("sched:sched_process_exec", "exec"), find("ftrace:kernel_stack", "stack")
        if execute is not None:
            execute.value = execute.event.field("old_pid")
        if stack is not None:
            stack.value = stack.field("caller")
        function = find("ftrace:function", "function")
        if function is not None:
            function.value = function.event.field("ip")

    def _hook(self, hook: Hook) -> None:
        found = []
        for system, name in ((hook.system, hook.event), (hook.end_system, hook.end_event)):
            events = [event for event in self._formats.values() if event.name == name and system in ("", event.category)]
            if not events:
                self.warnings.append(f"event {name} not found")
                return
            found.append(self._watch(events[0], "pair"))
        found[0].connect(found[1], hook.match, hook.end_match, hook.pid, not hook.pinned, hook.everyone)

    # -- records

    def feed(self, cpu: int, time: int, kind: int, data: bytes) -> None:
        """One record: the CPU, when, the event's id, and its payload."""
        watch = self.watches.get(kind)
        if watch is None or len(data) < 8:
            return
        pid = int.from_bytes(data[4:8], "little" if self._little else "big", signed=True)
        task = self.task(pid)
        before = task.last_stack
        handler = self._handlers.get(watch.kind)
        if handler is not None:
            handler(watch, task, cpu, time, data)
        else:
            self._other(watch, task, cpu, time, data)
        if before is not None and task.last_stack is before:
            task.last_stack = None

    def lost(self, cpu: int) -> None:
        """Records of a CPU were lost: what began before the loss may have ended in it."""
        for number in (cpu, -1):
            for span in self._open.pop(number, ()):
                span.dead = True
                if span.task.last_span is span:
                    span.task.last_span = None

    def task(self, pid: int) -> Task:
        found = self.tasks.get(pid)
        if found is None:
            found = self.tasks[pid] = Task(pid)
        return found

    def _number(self, field: FormatField | None, data: bytes) -> int:
        if field is None or field.size not in (1, 2, 4, 8):
            return 0
        return int.from_bytes(data[field.offset : field.offset + field.size], "little" if self._little else "big")

    def _begin(self, task: Task, watch: Watch, cpu: int, time: int, search: int, value: int) -> Span:
        span = Span(watch, task, cpu, time, (id(watch), search), value)
        task.spans.setdefault(span.key, []).append(span)
        self._open.setdefault(-1 if watch.migrate else cpu, set()).add(span)
        return span

    def _end(self, task: Task, watch: Watch | None, time: int, search: int) -> Sum | None:
        """Ends what ``watch`` began, if it did; returns the account."""
        spans = task.spans.get((id(watch), search)) if watch is not None else None
        while spans and spans[-1].dead:
            spans.pop()
        if not spans:
            return None
        span = spans.pop()
        if task.last_span is span:
            task.last_span = None
        self._open[-1 if span.watch.migrate else span.cpu].discard(span)
        delta = max(0, time - span.time)  # clocks of CPUs may differ
        found = task.sum(span.watch, search, span.value)
        found.add(delta, time)
        found.last = delta
        if span.stack is not None:
            found.add_stack(span.stack, delta, span.stack_at)
        return found

    def _owner(self, watch: Watch, task: Task, cpu: int, data: bytes) -> Task:
        if watch.everyone:
            if watch.migrate:
                return self.all_task
            found = self.cpu_tasks.get(cpu)
            if found is None:
                found = self.cpu_tasks[cpu] = Task(-1 - cpu, f"Global CPU[{cpu}] Events")
            return found
        return self.task(self._signed(watch.pid, data)) if watch.pid is not None else task

    def _signed(self, field: FormatField | None, data: bytes) -> int:
        value = self._number(field, data) & 0xFFFFFFFF
        return value - (1 << 32) if value >> 31 else value

    def _other(self, watch: Watch, task: Task, cpu: int, time: int, data: bytes) -> None:
        owner = None
        if watch.opener is not None:
            owner = self._owner(watch, task, cpu, data)
            owner.last_sum = self._end(owner, watch.opener, time, self._number(watch.start_match, data))
            owner.last_span = None
        if watch.mate is not None:
            owner = self._start(watch, task, cpu, time, data)
        if owner is None:
            task.proxy = task.last_span = None
            value = self._number(watch.value, data)
            task.last_sum = task.sum(watch, value, value)
            task.last_sum.count += 1

    def _start(self, watch: Watch, task: Task, cpu: int, time: int, data: bytes) -> Task:
        owner = self._owner(watch, task, cpu, data)
        value = self._number(watch.end_match, data)
        owner.last_span, owner.last_sum = self._begin(owner, watch, cpu, time, value, value), None
        return owner

    def _switch(self, watch: Watch, _task: Task, cpu: int, time: int, data: bytes) -> None:
        previous, following = self._signed(watch.pid, data), self._signed(watch.end_match, data)
        state = self._number(watch.value, data) & _STATES
        task = self.task(previous)
        task.comm = task.comm or self._text(watch, "prev_comm", data)
        task.sleeping = bool(state)
        task.last_span, task.last_sum = self._begin(task, watch, cpu, time, previous, state), None
        task = self.task(following)
        task.comm = task.comm or self._text(watch, "next_comm", data)
        self._end(task, watch.opener, time, following)  # it was woken,
        self._end(task, watch, time, following)  # or preempted

    def _wakeup(self, watch: Watch, waker: Task, cpu: int, time: int, data: bytes) -> None:
        if watch.value is not None and not self._number(watch.value, data):
            return
        pid = self._signed(watch.pid, data)
        task = self.task(pid)
        task.comm = task.comm or self._text(watch, "comm", data)
        if not task.sleeping:
            waker.proxy = waker.last_span = waker.last_sum = None
            return
        task.sleeping = False
        waker.proxy = task  # the stack behind this event is the waker's, but tells about the woken
        self._end(task, watch.opener, time, pid)
        task.last_span, task.last_sum = self._begin(task, watch, cpu, time, pid, pid), None

    def _text(self, watch: Watch, name: str, data: bytes) -> str:
        field = watch.event.field(name)
        if field is None:
            return ""
        return data[field.offset : field.offset + field.size].partition(b"\0")[0].decode("utf-8", "backslashreplace")

    def _exec(self, watch: Watch, task: Task, _cpu: int, _time: int, data: bytes) -> None:
        """The task has another name from now on."""
        (self.task(self._signed(watch.value, data)) if watch.value is not None else task).comm = ""

    def _stack(self, watch: Watch, task: Task, _cpu: int, time: int, data: bytes) -> None:
        assert watch.value is not None
        stack = data[watch.value.offset :]
        task.last_stack = None
        owner, task.proxy = task.proxy or task, None
        if owner.last_span is not None:
            owner.last_span.stack, owner.last_span.stack_at = stack, time
        elif owner.last_sum is not None:
            owner.last_sum.add_stack(stack, owner.last_sum.last, time)
        else:  # the function graph's stacks come before the calls
            task.last_stack = stack, time
            return
        owner.last_span = owner.last_sum = None

    def _graph(self, watch: Watch, task: Task, cpu: int, time: int, data: bytes) -> None:
        if watch.mate is not None:
            self._start(watch, task, cpu, time, data)
            if task.last_stack is not None and task.last_span is not None:
                task.last_span.stack, task.last_span.stack_at = task.last_stack
                task.last_stack = None
        elif watch.opener is not None:
            self._end(task, watch.opener, time, self._number(watch.start_match, data))
        task.last_span = task.last_sum = None
