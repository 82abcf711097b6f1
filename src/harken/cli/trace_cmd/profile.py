"""``trace-cmd profile``, ``record --profile`` and ``report --profile``: what each task did, and how long it took.

    profile [OPTIONS] [COMMAND ...]       watch and account at once; nothing is written
    record --profile ...; report --profile

Unless ``-S`` says otherwise these are watched: switches and wakings with their stacks, interrupts, page faults, system calls, and, with
function_graph at depth 1 (if no tracer is chosen), what the kernel was entered for.  ``analysis.task_profile`` does the accounts.
"""

from __future__ import annotations

import os
import sys

from ...analysis.merge import merge
from ...analysis.task_profile import Profile
from ...analysis.task_profile_model import parse_hook
from ...base.errors import KernelError, UsageError
from ...formats import trace_dat_layout as layout
from ...formats.ring_page import parse_layout, walk
from ...kernel.ftrace_raw import RawPages
from ...render.task_profile import profile_text
from .record import check
from .record_options import EventSetup, Setup, parse_setup
from .running import Running
from .walking import numbers_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...formats.trace_dat import TraceFile
    from ...render.ftrace_batches import Batch
    from .report import Report

__all__ = ("report_profile", "run", "watch_hooks", "watch_tasks")

USAGE = """\
usage:
  harken trace-cmd profile [OPTIONS] [COMMAND ...]

   -p TRACER   this tracer instead of function_graph with depth 1; nop: none
   -S          only what the command line names
   -G          interrupts belong to their CPU, not to the task they interrupt
   -H [SYSTEM:]EVENT,FIELD[,PID]/[SYSTEM:]EVENT,FIELD[,FLAGS]   connect two events; flags: p same CPU, s stack, g of no task
   --by-comm   tasks of one name together
   -o FILE     write the accounts there       --stderr   print them on standard error
   The others are those of record, without what is about its file.
"""

_WITH_STACKS = ("sched:sched_switch", "sched:sched_wakeup")
_WITHOUT = (
    "exceptions:page_fault_user", "irq:irq_handler_entry", "irq:irq_handler_exit", "irq:softirq_entry", "irq:softirq_exit",
    "irq:softirq_raise", "sched:sched_process_exec", "raw_syscalls",
)  # fmt: skip


def watch_tasks(setup: Setup) -> None:
    """Adds what a profile watches to a command line."""
    buffer = setup.buffers[0]
    if not setup.profile_only:
        if not buffer.tracer:
            buffer.tracer, buffer.tracer_optional = "function_graph", True
            if setup.depth < 0:
                setup.depth = 1
        for pattern in (*_WITH_STACKS, *_WITHOUT):
            _watch(setup, pattern, pattern in _WITH_STACKS)
    watch_hooks(setup)


def watch_hooks(setup: Setup) -> None:
    """Adds the events that ``-H`` connects."""
    for text in setup.hooks:
        hook = parse_hook(text)
        _watch(setup, f"{hook.system}:{hook.event}" if hook.system else hook.event, hook.stack)
        _watch(setup, f"{hook.end_system}:{hook.end_event}" if hook.end_system else hook.end_event, False)


def _watch(setup: Setup, pattern: str, stack: bool) -> None:
    event = EventSetup(pattern)
    event.optional = True
    if stack:
        event.triggers.append("stacktrace")
    setup.buffers[0].events.append(event)


def report_profile(report: Report, traces: Sequence[TraceFile]) -> int:
    """Prints the accounts of recordings; returns the exit status."""
    from .report_lines import Output

    texts: list[list[str]] = []
    output = Output(report, traces)
    for file in output.files:
        trace = file.trace
        print(f"cpus={trace.cpus}")
        hooks = [*report.hooks, *[option.data.split(b"\0")[0].decode("utf-8", "replace") for option in trace.option_list(layout.HOOK)]]
        events = [event for number in trace.events.ids if (event := trace.events.get(number)) is not None]
        profiles: dict[str, Profile] = {}
        places = {number: place for place, number in file.number_of.items()}
        for window in file.windows(output.problems):
            for name in dict.fromkeys(places[batch.cpu][0] for batch in window):
                profile = profiles.get(name)
                if profile is None:
                    profile = profiles[name] = Profile(events, trace.order, map(parse_hook, hooks), report.has("G"))
                mine = [batch for batch in window if places[batch.cpu][0] == name]
                _feed(profile, mine, [places[batch.cpu][1] for batch in mine])
        for profile in profiles.values():
            output.problems += profile.warnings
            pieces = profile_text(profile, trace.comm, trace.symbols.name, trace.kernel_long, trace.order, report.has("by-comm"))
            texts.append(list(pieces))
    for pieces_of_one in reversed(texts):  # as trace-cmd does: the last file first
        sys.stdout.writelines(pieces_of_one)
    for problem in output.problems:
        print(f"WARNING: {problem}", file=sys.stderr)
    return 0


def _feed(profile: Profile, batches: Sequence[Batch], cpus: Sequence[int]) -> None:
    """Gives the records of batches to a profile, in the order of time."""
    columns = []
    for batch in batches:
        times = batch.records.times
        columns.append((times.tolist() if hasattr(times, "tolist") else list(times), *numbers_of(batch.records)))
    losses = [{at for at, _ in batch.records.lost} for batch in batches]
    streams, index = merge([batch.records.times for batch in batches])
    for number, at in zip(_plain(streams), _plain(index)):
        times, kinds, starts, sizes = columns[number]
        if losses[number] and at in losses[number]:
            profile.lost(cpus[number])
        start = starts[at]
        profile.feed(cpus[number], times[at], kinds[at], batches[number].buffer[start : start + sizes[at]])


def _plain(column: object) -> list[int]:
    return column.tolist() if hasattr(column, "tolist") else list(column)  # type: ignore[no-any-return, call-overload]


def run(argv: list[str]) -> int:
    """Runs ``profile``; returns the exit status."""
    setup = parse_setup(argv)
    if setup.help:
        print(USAGE, end="")
        return 0
    if setup.host:
        raise UsageError("profile writes no recording that could be sent", "'record --profile -N HOST:PORT' sends one")
    if setup.daemonize:
        raise UsageError("profile prints what it has found, and cannot go on in the background (--daemonize)")
    watch_tasks(setup)
    check(setup)
    with Running(setup) as running:
        running.announce()
        live = _Live(running)
        try:
            running.start()
            while not running.over:
                live.raw.wait(100)
                live.look()
            running.buffers.stop()
            live.look(last=True)
        finally:
            live.raw.close()
    _write(setup, list(live.text(setup.by_comm)))
    return 0


def _write(setup: Setup, pieces: list[str]) -> None:
    if not setup.output_given:
        (sys.stderr if setup.stderr else sys.stdout).writelines(pieces)
        return
    try:
        with open(setup.output, "w", encoding="utf-8") as file:
            file.writelines(pieces)
    except OSError as error:
        raise KernelError(f"cannot write {setup.output}: {os.strerror(error.errno or 5)}", errno=error.errno or 5) from None


class _Live:
    """Accounts for what comes.

    What a CPU recorded before a look is read in that look, so everything older than the newest record of the look before can be put into
    order.
    """

    def __init__(self, running: Running) -> None:
        from ...session.recorder_ftrace_parts import collect
        from .stream import head_file

        buffers, setup = running.buffers, running.setup
        self.head = head_file(collect(running.root, list(dict.fromkeys(buffers.formats)) or None))
        self.root = running.root
        self._layout = parse_layout(self.head.header_page, self.head.order, self.head.kernel_long)
        events = [event for number in self.head.events.ids if (event := self.head.events.get(number)) is not None]
        running.arm()
        self.raw = RawPages([trace for _, trace in buffers.traced])
        self.profiles = {
            id(trace): Profile(events, self.head.order, map(parse_hook, setup.hooks), setup.global_irqs) for _, trace in buffers.traced
        }
        self._waiting: list[tuple[int, int, int, int, bytes]] = []
        self._lost: dict[tuple[int, int], bool] = {}
        self._newest = 0
        self._count = 0

    def look(self, last: bool = False) -> None:
        """Reads what there is, and accounts for what is in order."""
        ready = self._newest if not last else 1 << 64
        more = True
        while more:
            more = False
            for number, (_, _, size) in enumerate(self.raw.streams):
                data = b"".join(self.raw.read(number))
                if not data:
                    continue
                more = last
                records = walk(data, size, self._layout)
                losses = {at for at, _ in records.lost}
                times = records.times.tolist() if hasattr(records.times, "tolist") else list(records.times)
                for at, (time, kind, start, length) in enumerate(zip(times, *numbers_of(records))):
                    self._count += 1
                    if at in losses:
                        self._lost[time, self._count] = True
                    self._waiting.append((time, self._count, number, kind, data[start : start + length]))
                    self._newest = max(self._newest, time)
        self._waiting.sort()
        done = 0
        for time, count, number, kind, record in self._waiting:
            if time > ready:
                break
            done += 1
            trace, cpu, _ = self.raw.streams[number]
            if self._lost.pop((time, count), False):
                self.profiles[id(trace)].lost(cpu)
            self.profiles[id(trace)].feed(cpu, time, kind, record)
        del self._waiting[:done]

    def text(self, by_comm: bool) -> list[str]:
        """The accounts as text."""
        from ...session.recorder_ftrace_parts import saved_comms

        comms = {0: "<idle>", **saved_comms(self.root)}
        comm: Callable[[int], str] = lambda pid: comms.get(pid, "<...>")  # noqa: E731
        pieces: list[str] = []
        for profile in self.profiles.values():
            for warning in profile.warnings:
                print(f"WARNING: {warning}", file=sys.stderr)
            pieces += profile_text(profile, comm, self.head.symbols.name, self.head.kernel_long, self.head.order, by_comm)
        return pieces
