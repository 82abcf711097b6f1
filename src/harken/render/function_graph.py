"""Text of call graphs as the kernel's ``trace`` file has it under the function_graph tracer.

::

     1)               |  do_sys_openat2() {
     1)               |    getname() {
     1)   1.776 us    |      __cond_resched();
     1) + 43.942 us   |    }

``Options`` are the tracer's ``funcgraph-*`` options under their own names, plus those of ``trace_options`` that change these lines.
``GraphText`` keeps what the lines depend
on: the thread last seen on each CPU, open calls whose returns are compared with them, interrupts that are hidden
(kernel/trace/trace_functions_graph.c).

``trace-cmd report`` prints the same calls in another way: ``render.function_graph_report``.
"""

from __future__ import annotations

from ..analysis.function_graph import COMMENT, ENTRY
from ..base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from ..analysis.function_graph import Step

__all__ = ("GraphText", "Options", "header", "mark", "options_of")

#: Returns deeper than this are not compared with entries (FTRACE_RETFUNC_DEPTH).
_DEPTH = 50
#: Depths that are drawn: no kernel's stack of calls is deeper, a damaged file says what it likes.
_DEEPEST = 1000
_RULE = " ------------------------------------------\n"
_BLANK = "              |  "
#: What is not an option of the tracer.
_NO_WORDS = ("context", "latency", "cpus", "retval_name", "letters")


class Options(Record):
    """What is shown: the ``funcgraph-*`` options (``cpu`` is funcgraph-cpu, ...), and of ``trace_options`` ``context`` (context-info) and
    ``latency`` (latency-format).

    ``cpus`` is the number of possible CPUs: it makes the column's width.  ``retval_name`` is what a return value is called: "ret=" since
    Linux 6.13, "= " before.  ``letters`` is as of ``kernel_flags``.
    """

    cpu: bool = True
    proc: bool = False
    duration: bool = True
    overhead: bool = True
    overrun: bool = False
    abstime: bool = False
    irqs: bool = True
    tail: bool = False
    retval: bool = False
    retval_hex: bool = False
    retaddr: bool = False
    context: bool = True
    latency: bool = False
    cpus: int = 1
    retval_name: str = "ret="
    letters: int = 5


def options_of(words: Iterable[str], **more: Any) -> Options:
    """Options from words as in ``trace_options``; words that do not concern the graph are passed over.

    Example:
        >>> options_of(["funcgraph-proc", "nofuncgraph-cpu", "nooverwrite"]).proc
        True
    """
    names = {f"funcgraph-{name.replace('_', '-')}": name for name in Options._fields if name not in _NO_WORDS}
    names["context-info"], names["latency-format"] = "context", "latency"
    found: dict[str, Any] = {}
    for word in words:
        name = names.get(word)
        if name:
            found[name] = True
        elif word.startswith("no") and word[2:] in names:
            found[names[word[2:]]] = False
    found.update(more)
    return Options(**found)


def mark(duration: int) -> str:
    """The sign before a duration (ns) that is remarkably long.

    Example:
        >>> [mark(ns) for ns in (10_000, 10_001, 200_000, 2_000_000, 20_000_000, 200_000_000, 2_000_000_000)]
        [' ', '+', '!', '#', '*', '@', '$']
    """
    if duration <= 10_000:
        return " "
    if duration <= 1_000_000:
        return "+" if duration <= 100_000 else "!"
    if duration <= 100_000_000:
        return "#" if duration <= 10_000_000 else "*"
    return "@" if duration <= 1_000_000_000 else "$"


def _time(duration: int) -> str:
    """Microseconds in seven digits at most: the longer, the fewer behind the point."""
    micros, rest = divmod(duration, 1000)
    text = str(micros)
    if len(text) < 7:
        text += "." + f"{rest:03d}"[: 7 - len(text)]
    return f"{text} us {'':{max(0, 8 - len(text))}}"


def header(options: Options, latency: str = "", tracer: str = "function_graph") -> str:
    """The lines above the graph.

    Args:
        tracer: where the calls come from.
        latency: with ``Options.latency``, the block about the latency that was measured, which no record tells.
    """
    lines = [f"# tracer: {tracer}\n#\n"]
    if not options.context:
        return lines[0]
    if options.latency:
        lines.append(latency)
        blanks = " " * (16 * options.abstime + 4 * options.cpu + 17 * options.proc)
        for text in (
            "  _-----=> irqs-off        ",
            " / _----=> need-resched    ",
            "| / _---=> hardirq/softirq ",
            "|| / _--=> preempt-depth   ",
            "||| /                      ",
        ):
            lines.append(f"#{blanks}{text}\n")
    for time, cpu, task, flags, duration, calls in (
        ("     TIME       ", " CPU", "  TASK/PID       ", "||||   ", "  DURATION   ", "               FUNCTION CALLS\n"),
        ("      |         ", " |  ", "   |    |        ", "||||   ", "   |   |      ", "               |   |   |   |\n"),
    ):
        lines.append(
            "#"
            + time * options.abstime
            + cpu * options.cpu
            + task * options.proc
            + flags * options.latency
            + duration * options.duration
            + calls
        )
    return "".join(lines)


class _Cpu:
    __slots__ = ("depth", "entered", "hidden", "pid")

    def __init__(self) -> None:
        self.pid = -1
        self.depth = 0
        self.hidden = -1  # the depth at which the interrupt that is not shown began
        self.entered: list[Any] = [0] * _DEPTH


class GraphText:
    """Makes the lines of steps in the order of time, with leaves found (``analysis.function_graph.leaves`` on each CPU before merging).

    Args:
        symbol: function -> its name, a module behind it in brackets.
        comm: thread -> its name.
        comment: the text of a COMMENT; None: it has none and is left out.
        line: the whole line of a COMMENT that the tracer does not treat as one (stack traces, the function tracer's records), or "".
        interrupts: addresses from..to of functions that begin interrupts (``__irqentry_text_start`` and ``__irqentry_text_end``).
        arguments: (function's name, argument registers) -> their text between the parentheses.
        retaddr: return address -> its text.

    Example:
        >>> from harken.analysis.function_graph import leaves, pair
        >>> text = GraphText(str, lambda pid: "cat")
        >>> points = [(0, 0, 7, True, "f"), (10, 0, 7, True, "g"), (2000, 0, 7, False, "g"), (9000, 0, 7, False, "f")]
        >>> print("".join(map(text.step, leaves(pair(points)))), end="")
         0)               |  f() {
         0)   1.990 us    |    g();
         0)   9.000 us    |  }
    """

    def __init__(
        self,
        symbol: Callable[[Any], str],
        comm: Callable[[int], str],
        options: Options | None = None,
        comment: Callable[[Step], str | None] | None = None,
        line: Callable[[Step], str] | None = None,
        interrupts: tuple[int, int] = (0, 0),
        arguments: Callable[[str, tuple[int, ...]], str] | None = None,
        retaddr: Callable[[int], str] | None = None,
    ) -> None:
        self.options = options or Options()
        self._symbol, self._comm, self._comment, self._line = symbol, comm, comment, line
        self._arguments, self._retaddr = arguments, retaddr
        self._first, self._last = interrupts
        self._cpus: dict[int, _Cpu] = {}
        self._names: dict[Any, str] = {}
        self._procs: dict[int, str] = {}
        self._width = len(str(max(1, self.options.cpus) - 1))

    def lines(self, steps: Iterable[Step]) -> Iterator[str]:
        """The text of each step that has one."""
        make = self.step
        for step in steps:
            text = make(step)
            if text:
                yield text

    def step(self, step: Step) -> str:
        """The lines of one step, "" if it has none."""
        state = self._cpus.get(step.cpu)
        if state is None:
            state = self._cpus[step.cpu] = _Cpu()
        if step.kind == ENTRY:
            return self._entry(step, state)
        if step.kind == COMMENT:
            return self._other(step, state)
        return self._return(step, state)

    # -- the parts of a line

    def _name(self, func: Any) -> str:
        name = self._names.get(func)
        if name is None:
            if len(self._names) > 200_000:
                self._names.clear()
            name = self._names[func] = self._symbol(func)
        return name

    def _proc(self, pid: int) -> str:
        """The thread in the middle of 14 columns."""
        text = self._procs.get(pid)
        if text is None:
            text = f"{self._comm(pid)[:7]}-{pid}"
            blanks = max(0, 14 - len(text))
            text = " " * (blanks // 2) + text + " " * (blanks - blanks // 2)
            if len(self._procs) < 100_000:
                self._procs[pid] = text
        return text

    def _context(self, step: Step) -> str:
        options = self.options
        if not options.context:
            return ""
        text = ""
        if options.abstime:
            seconds, rest = divmod(step.time, 1_000_000_000)
            text = f"{seconds:5d}.{rest // 1000:06d} |  "
        if options.cpu:
            text += f" {step.cpu:{self._width}d}) "
        if options.proc:
            text += self._proc(step.pid) + " | "
        if options.latency:
            from .ftrace_kernel import kernel_flags

            text += f" {kernel_flags(step.flags, step.preempt, options.letters)} | "
        return text

    def _switch(self, step: Step, state: _Cpu) -> str:
        """Another thread runs on this CPU: a block that says so."""
        before, state.pid = state.pid, step.pid
        if before in (-1, step.pid):
            return ""
        return f"{_RULE} {step.cpu:{self._width}d}) {self._proc(before)} => {self._proc(step.pid)}\n{_RULE}\n"

    def _interrupt(self, func: Any, context: str, arrow: str) -> str:
        if not self._last or not self._first <= func < self._last:
            return ""
        if self.options.duration and self.options.context:
            return f"{context}  {arrow} |\n"
        return f"{context}{arrow}\n"

    def _blank(self) -> str:
        return _BLANK if self.options.duration and self.options.context else ""

    def _duration(self, duration: int) -> str:
        options = self.options
        if not options.duration or not options.context:
            return ""
        duration &= 0xFFFFFFFFFFFFFFFF
        return f"{mark(duration) if options.overhead else ' '} {_time(duration)}|  "

    def _call(self, step: Step) -> str:
        name = self._name(step.func)
        if step.args and self._arguments is not None:
            return f"{name}({self._arguments(name.partition(' ')[0], step.args)})"
        return name + "()"

    def _value(self, value: int) -> str:
        """A return value: error codes in decimal, also those of 32 bits, all else in hexadecimal."""
        value &= 0xFFFFFFFFFFFFFFFF
        error = value - (1 << 64) if value >> 63 else value - (1 << 32) if value >> 31 == 1 else 0
        if not self.options.retval_hex and -4095 <= error < 0:
            return f" {self.options.retval_name}{error}"
        return f" {self.options.retval_name}0x{value:x}"

    # -- steps

    def _entry(self, step: Step, state: _Cpu) -> str:
        options, func, depth = self.options, step.func, step.depth
        if not options.irqs:
            if state.hidden < 0 and self._last and self._first <= func < self._last:
                state.hidden = depth
            if state.hidden >= 0:
                if step.leaf is not None and state.hidden >= step.leaf.depth:
                    state.hidden = -1
                return ""
        context = self._context(step)
        text = self._switch(step, state) + self._interrupt(func, context, "==========>") + context
        leaf = step.leaf
        call = self._call(step)
        indent = "  " * min(depth, _DEEPEST)
        if leaf is None:
            state.depth = depth
            if 0 <= depth < _DEPTH:
                state.entered[depth] = func
            if options.retaddr and step.retaddr is not None:
                return f"{text}{self._blank()}{indent}{call} {{ /* <-{self._address(step.retaddr)} */\n"
            return f"{text}{self._blank()}{indent}{call} {{\n"
        state.depth = depth - 1
        if 0 <= depth < _DEPTH:
            state.entered[depth] = 0
        text += f"{self._duration(leaf.end - leaf.start)}{indent}{call};"
        notes = ""
        if options.retaddr and step.retaddr is not None:
            notes = f" <-{self._address(step.retaddr)}"
        if options.retval and leaf.retval is not None:
            notes += self._value(leaf.retval)
        if notes:
            text += f" /*{notes} */"
        return f"{text}\n{self._interrupt(func, context, '<==========')}"

    def _return(self, step: Step, state: _Cpu) -> str:
        options, func, depth = self.options, step.func, step.depth
        if not options.irqs and state.hidden >= 0:
            if state.hidden >= depth:
                state.hidden = -1
            return ""
        state.depth = depth - 1
        known = True
        if 0 <= depth < _DEPTH:
            known = state.entered[depth] == func
            state.entered[depth] = 0
        context = self._context(step)
        text = f"{self._switch(step, state)}{context}{self._duration(step.end - step.start)}{'  ' * min(depth, _DEEPEST)}}}"
        if options.retval and step.retval is not None:
            text += f" /* {self._name(func)}{self._value(step.retval)} */"
        elif options.tail or not known:
            text += f" /* {self._name(func)} */"
        text += "\n"
        if options.overrun:
            text += f" (Overruns: {step.overrun})\n"
        return text + self._interrupt(func, context, "<==========")

    def _other(self, step: Step, state: _Cpu) -> str:
        if self._line is not None:
            line = self._line(step)
            if line:
                return line
        comment = self._comment(step) if self._comment is not None else None
        if comment is None:
            return ""
        indent = "  " * min(state.depth + 1, _DEEPEST) if state.depth > 0 else ""
        text = self._switch(step, state) + self._context(step)
        return f"{text}{self._blank()}{indent}/* {comment.removesuffix(chr(10))} */\n"

    def _address(self, address: int) -> str:
        return self._retaddr(address) if self._retaddr is not None else self._name(address)
