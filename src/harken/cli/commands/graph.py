"""``harken graph``: who calls whom, and how long it takes.

::

    harken graph -F do_sys_openat2 ls                  # a kernel function and all it calls, while ls runs
    harken graph -F 'vfs_*' --summary -d 5             # time per function, 5 seconds
    harken graph -F vfs_read --folded -d 5 > folded    # for flame graphs
    harken graph -x ./program -F main -F 'parse_*' -- ./program input
    harken graph -F vfs_read --threshold 1ms           # long calls only
    harken graph -i trace.dat --summary                # calls that were recorded

Kernel functions are traced by the function_graph tracer in a private instance (before Linux 6.11 in the top buffer, whose settings are
put back).  A kernel without it is told so, and probes at both ends of the chosen functions stand in: fentry/fexit, else kprobe/kretprobe.
Functions of programs and libraries (``-x``) have uprobes.
"""

from __future__ import annotations

import os
import sys

from ...base.errors import ProbeError, UsageError
from .graph_options import HELP, NAME, Options, options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from ...analysis.function_graph import Call, Step
    from ...formats.function_arguments import Arguments
    from ...render.function_graph import GraphText

__all__ = ("NAME", "HELP", "Options", "options", "run")


def run(argv: list[str]) -> int:
    """Runs the command; the exit status is 0, or the traced command's own."""
    chosen = options(argv)
    if chosen.input:
        return _recording(chosen)
    from ...kernel.kernel import live

    kernel = live()
    if chosen.binary:
        from ...session.function_graph_probes import user_graph

        return _probes(chosen, user_graph(chosen.binary, chosen.functions, **_limits(chosen)))
    if chosen.using in ("", "function_graph"):
        from ...session.ftrace_api import instance

        trace = instance(kernel=kernel)
        try:
            if trace.has_function_graph:
                return _function_graph(chosen, trace)
        finally:
            for error in trace.close():
                print(f"WARNING: could not be put back: {error}", file=sys.stderr)
        message = "this kernel has no function_graph tracer"
        if chosen.using or not chosen.functions:
            raise ProbeError(message, "with -F FUNC, probes at both ends of the chosen functions stand in for it")
        print(f"{message}; probes at both ends of the chosen functions stand in for it", file=sys.stderr)
    if not chosen.functions:
        raise UsageError("which functions? say -F FUNC")
    from ...session.function_graph_probes import kernel_graph

    return _probes(chosen, kernel_graph(kernel, chosen.functions, using=chosen.using, **_limits(chosen)))


def _recording(chosen: Options) -> int:
    from ...base.glob import compiled
    from ...session.ftrace_recording import read

    graph = read(chosen.input)
    tests = [compiled(pattern) for pattern in chosen.functions]
    names: dict[int, bool] = {}

    def wanted(func: int) -> bool:
        found = names.get(func)
        if found is None:
            name = graph.symbol(func).partition(" ")[0]
            found = names[func] = any(test(name) for test in tests)
        return found

    from ..trace_cmd.report_graph import recorded_arguments

    calls: list[Step] = []
    filtered, arguments = wanted if tests else None, recorded_arguments(graph.trace)
    output = _Output(chosen, graph.symbol, graph.comm, graph.comment, graph.interrupts, wanted=filtered, arguments=arguments)
    steps = graph.steps(leaves=output.live)
    if chosen.pid:
        steps = (step for step in steps if step.pid == chosen.pid)
    output.take(_noticed(steps, calls))
    output.finish(graph.lost)
    if not calls and chosen.pid:
        print(f"HINT: this recording has no calls of task {chosen.pid}", file=sys.stderr)
    elif not calls:
        print("HINT: this recording has no calls: 'harken record -p function_graph' records them", file=sys.stderr)
    elif tests and not any(names.values()):
        from ...kernel.ftrace_events import near_names

        near = near_names([graph.symbol(func).partition(" ")[0] for func in names], chosen.functions[0])
        text = f"; did you mean {' or '.join(near)}?" if near else ""
        print(f"HINT: no call of {' or '.join(chosen.functions)} in this recording{text}", file=sys.stderr)
    return 0


def _noticed(steps: Iterator[Step], calls: list[Step]) -> Iterator[Step]:
    """All steps; ``calls`` gets the first one of a call."""
    from ...analysis.function_graph import COMMENT

    for step in steps:
        if step.kind != COMMENT:
            calls.append(step)
            yield step
            break
        yield step
    yield from steps


def _limits(chosen: Options) -> dict[str, Any]:
    return {"pid": chosen.pid or None, "command": chosen.command or None, "duration": chosen.duration}


def _interruptible(stop: Callable[[], None]) -> None:
    """Ctrl-C ends the trace, as SIGTERM and a terminal that goes away do, and what was collected is shown."""
    import signal

    def handle(_number: int, _frame: object) -> None:
        stop()

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        signal.signal(signal.SIGHUP, handle)


def _function_graph(chosen: Options, trace: Any) -> int:
    from ...session.command import Command
    from ..trace_cmd.report_graph import live_arguments

    command = Command(trace.kernel, chosen.command) if chosen.command else None
    try:
        pids = [command.pid] if command is not None else _threads(chosen.pid) if chosen.pid else []
        recorded = ("sleep-time", "graph-time", "irqs", "retval", "retaddr", "args")
        words = [word for word in chosen.words if word.endswith(recorded)]
        trace.function_graph(
            *chosen.functions, only=chosen.only, depth=chosen.depth, options=words, pids=pids, children=command is not None
        )
        output = _Output(chosen, trace.symbol, trace.comm, trace.comment, trace.interrupts, arguments=live_arguments(trace.kernel))
        trace.start()
        if command is not None:
            command.release()
        _interruptible(trace.stop)
        done = command.poll if command is not None else None
        if chosen.pid:
            done = lambda: not os.path.exists(f"/proc/{chosen.pid}")  # noqa: E731
        output.take(trace.steps(chosen.duration, done, leaves=output.live))
        output.finish(sum(trace.lost.values()))
        return _status(command)
    finally:
        if command is not None:
            command.close()


def _threads(pid: int) -> list[int]:
    try:
        return sorted(int(name) for name in os.listdir(f"/proc/{pid}/task"))
    except OSError:
        raise UsageError(f"there is no process {pid}") from None


def _status(command: Any) -> int:
    if command is None or command.status is None:
        return 0
    return os.waitstatus_to_exitcode(command.status) if not os.WIFSIGNALED(command.status) else 128 + os.WTERMSIG(command.status)


def _probes(chosen: Options, graph: Any) -> int:
    output = _Output(chosen, str, graph.comm, None, None, graph.mechanism)
    with graph:
        _interruptible(graph.stop)
        steps = graph.steps()
        if chosen.depth:
            steps = (step for step in steps if step.depth < chosen.depth)
        output.take(_by_cpu(steps) if output.live else steps)
        output.finish(0)
    if graph.lost:
        print(f"{graph.lost} events were lost", file=sys.stderr)
    return 0


def _by_cpu(steps: Iterable[Step]) -> Iterator[Step]:
    """Finds leaves among the steps of all CPUs; an entry waits for the next step of its CPU, but for no more than a few of others."""
    from ...analysis.function_graph import Leaves

    states: dict[int, Leaves] = {}
    for step in steps:
        state = states.get(step.cpu)
        if state is None:
            state = states[step.cpu] = Leaves()
        for cpu, other in states.items():
            if cpu != step.cpu:
                yield from other.flush()
        yield from state.feed(step)
    for state in states.values():
        yield from state.flush()


class _Output:
    """Text as it comes, or sums at the end."""

    def __init__(
        self,
        chosen: Options,
        symbol: Callable[[Any], str],
        comm: Callable[[int], str],
        comment: Callable[[Step], str | None] | None,
        interrupts: Callable[[], tuple[int, int]] | None,
        tracer: str = "function_graph",
        wanted: Callable[[Any], bool] | None = None,
        arguments: Arguments | None = None,
    ) -> None:
        from ...render.function_graph import GraphText, header, options_of

        self.chosen, self.symbol, self.comm, self.wanted = chosen, symbol, comm, wanted
        self.summary: Any = None
        self.text: GraphText | None = None
        self.write = sys.stdout.write
        if chosen.summary or chosen.folded:
            from ...analysis.function_graph_summary import Summary

            self.summary = Summary(symbol)
        else:
            shown = options_of(chosen.words, cpus=os.cpu_count() or 1)
            ends = interrupts() if interrupts is not None else (0, 0)
            self.text = GraphText(symbol, comm, shown, comment, interrupts=ends, arguments=arguments)
            self.write(header(shown, tracer=tracer))
        #: steps are printed as they come
        self.live = self.text is not None and not chosen.threshold and wanted is None and not (chosen.input and chosen.depth)

    def take(self, steps: Iterable[Step]) -> None:
        """Shows or adds up all steps."""
        if self.live:
            assert self.text is not None
            write, make, flush = self.write, self.text.step, sys.stdout.flush
            direct = sys.stdout.isatty()
            for step in steps:
                text = make(step)
                if text:
                    write(text)
                    if direct:
                        flush()
            return
        from ...analysis.function_graph import Builder

        builder = Builder(self._root)
        for step in self._counted(steps) if self.summary is not None else steps:
            builder.feed(step)
        builder.close()

    def _counted(self, steps: Iterable[Step]) -> Iterator[Step]:
        """Shows on a terminal how many calls there have been, as long as nothing else is shown."""
        from ..trace_cmd.progress import Counter, amount

        number = 0
        counter = Counter(lambda _seconds: f"{amount(number // 2)} calls")
        for step in steps:
            number += 1
            if not number & 255:
                counter.tick()
            yield step
        counter.end()

    def _root(self, root: Call) -> None:
        if self.wanted is None:
            self._tree(root)
            return
        waiting = [root]
        while waiting:
            call = waiting.pop()
            if self.wanted(call.func):
                call.parent = None
                self._tree(call)
            else:
                waiting += reversed(call.children)

    def _tree(self, root: Call) -> None:
        least = self.chosen.threshold
        if least and (not root.returned or root.duration < least):
            return
        if self.summary is not None:
            self.summary.add(root, self.comm(root.pid).replace(";", ":") if self.chosen.folded else "")
            return
        from ...analysis.function_graph_summary import replay

        assert self.text is not None
        for step in replay(root, least, self.chosen.depth if self.chosen.input and self.chosen.depth else -1):
            self.write(self.text.step(step))
        sys.stdout.flush()

    def finish(self, lost: int) -> None:
        """Writes the sums; ``lost`` records were lost."""
        if self.summary is not None:
            from ...render.function_graph_summary import folded_lines, summary_lines

            if self.chosen.folded:
                lines = folded_lines(self.summary)
            else:
                lines = summary_lines(self.summary, self.symbol, self.chosen.sort, self.chosen.top)
            for line in lines:
                self.write(line)
        sys.stdout.flush()
        if lost:
            print(f"at least {lost} records were lost: the buffer was full", file=sys.stderr)
