"""From ``Setup`` to buffers that trace: where each buffer lives, and everything that is set before tracing begins.

Without ``-B`` trace-cmd uses the top buffer.  ``record`` of harken uses a private instance instead, so that nobody else's tracing is
disturbed; the file looks the same.  Only where the kernel offers a tracer in the top buffer alone, or ``--top`` asks for it, the top buffer
is used, and put back afterwards.
"""

from __future__ import annotations

import sys

from ...base.errors import KernelError, ProbeError
from ...kernel.ftrace import Ftrace
from .record_options import BufferSetup, Setup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...kernel.tracefs import Tracefs

__all__ = ("open_tracefs", "Buffers")

_ROOM_KB = 1024


def open_tracefs() -> Tracefs:
    """The machine's tracefs, without what killed owners left in it."""
    from ...kernel.kernel import live
    from ...kernel.tracefs import find
    from ...kernel.tracefs_leftovers import sweep_leftovers

    kernel = live()
    root = find(kernel)
    sweep_leftovers(kernel)
    return root


class Buffers:
    """The buffers of a command line, set up."""

    def __init__(self, root: Tracefs, setup: Setup, private: bool) -> None:
        """
        Args:
            private: whether the buffer without a name may be a private instance (record), or must be the top one (start).
        """
        self.root = root
        self.setup = setup
        self.private = private
        self.traced: list[tuple[BufferSetup, Ftrace]] = []
        self.formats: list[tuple[str, str]] = []

    def open(self, stop: bool = True) -> None:
        """Makes or finds the buffers and stops them.

        Args:
            stop: whether to stop them.

        Raises:
            KernelError, ProbeError: a buffer cannot be had.
        """
        for wanted in self.setup.buffers:
            idle = wanted.empty if self.private else wanted.untouched
            if wanted.delete or (not wanted.name and idle and len(self.setup.buffers) > 1):
                continue
            if wanted.name:
                trace = Ftrace.named(self.root, wanted.name)
            else:
                trace = self._main(wanted)
            self.traced.append((wanted, trace))
            if stop:
                trace.set("tracing_on", "0")

    def _main(self, wanted: BufferSetup) -> Ftrace:
        if wanted.tracer_optional and (wanted.tracer not in self.root.tracers() or not self.root.exists("max_graph_depth")):
            print(f"WARNING: this kernel has no {wanted.tracer}: calls are not watched", file=sys.stderr)
            wanted.tracer, self.setup.depth = "", -1
        if not self.private:
            return Ftrace.top(self.root, durable=False)
        if not self.setup.top and not self.setup.keep and not self.setup.continued:
            trace = Ftrace.private(self.root)
            if not wanted.tracer or wanted.tracer in trace.tracers:
                return trace
            trace.close()
        from ...kernel.ftrace_tracers import refuse_used

        trace = Ftrace.top(self.root)
        refuse_used(trace, wanted.tracer)
        return trace

    def configure(self, fresh: bool = True) -> None:
        """Sets everything but the tasks (``choose_tasks``), events (``enable``), tracers (``arm``) and ``tracing_on``.

        Args:
            fresh: begin with an empty buffer and no tracer.

        Raises:
            HarkenError: something does not exist or is refused.
        """
        for wanted, trace in self.traced:
            if wanted.tracer and wanted.tracer not in trace.tracers:
                trace.set_tracer(wanted.tracer)  # tells why not, before a filter that comes with the tracer fails for a lesser reason
            self._buffer(wanted, trace, fresh)
            self._functions(wanted, trace)
            if wanted.function_stacks and not wanted.functions:
                raise ProbeError("--func-stack needs a choice of functions (-l)", "a stack trace of every function would stop the machine")
        if self.setup.comm_slots:
            self.traced[0][1].set("saved_cmdlines_size", str(self.setup.comm_slots))

    def choose_tasks(self, own: Sequence[int] = (), command: int = 0) -> None:
        """Sets whose events are recorded.

        Args:
            own: tasks of the recorder, which are not traced.
            command: PID of the command for ``-F``.

        Raises:
            HarkenError: it is refused.
        """
        setup = self.setup
        pids = [*setup.pids, *([command] if setup.filter_command and command else [])]
        for wanted, trace in self.traced:
            functions = bool(wanted.tracer) or not (trace.created and self.private)
            if pids:
                trace.pids(pids, setup.children, functions)
            elif own and not setup.no_filter:
                trace.not_pids(own, functions)

    def enable(self) -> None:
        """Switches the events on, with their filters and triggers.

        Raises:
            HarkenError: one does not exist or is refused.
        """
        for wanted, trace in self.traced:
            self._events(wanted, trace)

    def _buffer(self, wanted: BufferSetup, trace: Ftrace, fresh: bool) -> None:
        if fresh and not (trace.created and self.private) and trace.tracer != "nop":
            trace.set("current_tracer", "nop")
        if wanted.subbuf_kb:
            trace.set("buffer_subbuf_size_kb", str(wanted.subbuf_kb))
        if wanted.size_kb:
            trace.set_buffer_kb(wanted.size_kb)
        if wanted.percent >= 0:
            trace.set("buffer_percent", str(wanted.percent))
        if wanted.clock:
            trace.set_clock("x86-tsc" if wanted.clock == "tsc2nsec" else wanted.clock)
        if wanted.cpumask:
            trace.set_cpumask(wanted.cpumask)
        if fresh and not trace.created:
            trace.clear()

    def _functions(self, wanted: BufferSetup, trace: Ftrace) -> None:
        if wanted.functions or wanted.module:
            trace.functions("set_ftrace_filter", wanted.functions, wanted.module)
        if wanted.notrace:
            trace.functions("set_ftrace_notrace", wanted.notrace, "" if wanted.functions else wanted.module)
        if wanted.graph:
            trace.functions("set_graph_function", wanted.graph)
        if self.setup.depth >= 0:
            trace.set("max_graph_depth", str(self.setup.depth))

    def _options(self, wanted: BufferSetup, trace: Ftrace) -> None:
        for option in wanted.options:
            trace.option(option)
        if wanted.stacks:
            trace.option("stacktrace")
        if wanted.function_stacks:
            trace.option("func_stack_trace")
        if trace.name and trace.created and trace.has("options/copy_trace_marker"):
            trace.option("copy_trace_marker")

    def _events(self, wanted: BufferSetup, trace: Ftrace) -> None:
        unwanted = {event for spec in wanted.events if spec.negated for event in trace.event_list.match(spec.pattern)}
        for spec in wanted.events:
            for trigger in spec.triggers or ([""] if not spec.negated else []):
                chosen = trace.enable(spec.pattern, spec.filter, trigger, self.setup.ignore or spec.optional, on=False)
            if spec.negated:
                continue
            self.formats += chosen
            if not unwanted.intersection(chosen):
                trace.enable(spec.pattern, ignore=self.setup.ignore or spec.optional)
                continue
            for system, event in chosen:
                if (system, event) not in unwanted:
                    trace.set(f"events/{system}/{event}/enable", "1")

    def arm(self) -> None:
        """Chooses the tracers, and the options, many of which come with a tracer.

        This is the last step before ``start``: a tracer of functions slows down everything from here on, whether tracing is on or not.
        """
        for wanted, trace in self.traced:
            if self.setup.no_function_trace and trace.has("options/function-trace"):
                trace.option("nofunction-trace")  # first: tracers of latencies look at it when they are chosen
            if wanted.tracer:
                trace.set_tracer(wanted.tracer)
            self._options(wanted, trace)

    @property
    def roomy(self) -> bool:
        """Whether there is time to begin with moving pages when a buffer is half full: they are large, and no tracer watches functions."""
        for wanted, trace in self.traced:
            size = trace.tracefs.read("buffer_size_kb").split()[:1]
            if wanted.tracer or not size or not size[0].isdigit() or int(size[0]) < _ROOM_KB:
                return False
        return True

    def start(self) -> None:
        for _, trace in reversed(self.traced):
            trace.start()

    def stop(self) -> None:
        for _, trace in self.traced:
            trace.stop()

    def keep(self) -> None:
        """Lets everything stand after the end."""
        for _, trace in self.traced:
            trace.keep()

    def close(self) -> None:
        """Undoes everything, and tells what could not be undone."""
        for _, trace in reversed(self.traced):
            try:
                failed = trace.close()
            except KernelError as error:
                failed = [error]
            for refusal in failed:
                print(f"WARNING: could not be put back: {refusal}", file=sys.stderr)
        self.traced = []

    def near(self) -> str:
        """A hint for a graph of which nothing was recorded: functions that look like those that were asked for."""
        words = [(word, trace) for wanted, trace in self.traced for word in wanted.graph]
        return next((hint for word, trace in words if (hint := trace.near_function(word, existing=True))), "")
