"""Text of call graphs as ``trace-cmd report`` has it: one event per line, what follows ``funcgraph_entry:`` and ``funcgraph_exit:``.

trace-cmd knows no options of the tracer but a few of its own (``report -O``): ``fgraph:tailprint``, ``fgraph:depth``, and since 3.3
``fgraph:retval-skip``, ``retval-dec`` and ``retval-hex``.  A call is shown in one line if its return is the very next record of all CPUs,
also of another CPU up to trace-cmd 3.1.
"""

from __future__ import annotations

from ..analysis.function_graph import COMMENT, ENTRY, RETURN
from ..base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from ..analysis.function_graph import Step
    from ..formats.function_arguments import Arguments

__all__ = ("ReportOptions", "ReportText")

_BLANK = "             |  "
_DEEPEST = 1000  # depths that are drawn: no kernel's stack of calls is deeper, a damaged file says what it likes


class ReportOptions(Record):
    """``report -O`` of the plugin ``fgraph``.  ``values``: return values are shown ("" as trace-cmd before 3.3, "auto", "dec" or "hex").
    ``any_cpu``: a leaf's return may be on another CPU (trace-cmd up to 3.1)."""

    tailprint: bool = False
    depth: bool = False
    values: str = ""
    any_cpu: bool = True


def _mark(duration: int) -> str:
    for limit, sign in ((1_000_000_000, "$ "), (1_000_000, "# "), (100_000, "! "), (10_000, "+ ")):
        if duration > limit:
            return sign
    return "  "


class ReportText:
    """Makes the texts of graph records.

    Args:
        symbol: address -> the function's name without its module, "" if there is none.
        options: see ``ReportOptions``.
        arguments: their text between the parentheses, None to leave it empty.
        retaddr: return address -> "function+0x12", "" if unknown.
    """

    def __init__(
        self,
        symbol: Callable[[Any], str],
        options: ReportOptions | None = None,
        arguments: Arguments | None = None,
        retaddr: Callable[[int], str] | None = None,
    ) -> None:
        self.options = options or ReportOptions()
        self._symbol, self._arguments, self._retaddr = symbol, arguments, retaddr
        self._names: dict[Any, str] = {}

    def plain(self, has: Callable[[str], bool]) -> Callable[[Any], str] | None:
        """Names of functions, if texts consist of nothing but durations, depths and them; else None.

        Args:
            has: whether the records have a field of that name.
        """
        options = self.options
        more = options.tailprint or options.depth or (options.values and has("retval"))
        more = more or (self._retaddr is not None and has("retaddr")) or (self._arguments is not None and has("args"))
        return None if more else self.name

    def texts(self, steps: Iterable[Step]) -> Iterator[tuple[Step, str | None]]:
        """(step, text) of records in the order of time, without the returns of leaves; the text is None for records of other events.

        Leaves are found here, as trace-cmd finds them: do not look for them before.
        """
        held: Step | None = None
        any_cpu = self.options.any_cpu
        for step in steps:
            if held is not None:
                entry, held = held, None
                if step.kind == RETURN and step.func == entry.func and step.pid == entry.pid and (any_cpu or step.cpu == entry.cpu):
                    yield entry, self.leaf(entry, step)
                    continue
                yield entry, self.entry(entry)
            if step.kind == ENTRY:
                held = step
            elif step.kind == COMMENT:
                yield step, None
            else:
                yield step, self.exit(step)
        if held is not None:
            yield held, self.entry(held)

    def name(self, func: Any) -> str:
        """A function's name, "" if it has none."""
        name = self._names.get(func)
        if name is None:
            if len(self._names) > 200_000:
                self._names.clear()
            name = self._names[func] = self._symbol(func)
        return name

    def template(self, func: Any, count: int) -> str:
        """A call's arguments with marks in place of values (``formats.function_arguments``)."""
        return self._arguments.template(self.name(func), count) if self._arguments is not None else ""

    @property
    def prints_arguments(self) -> bool:
        """Whether calls have arguments if they were recorded."""
        return self._arguments is not None

    def call(self, func: Any) -> str:
        """A call without arguments."""
        name = self.name(func)
        return f"{name}()" if name else f"{func:x}()" if isinstance(func, int) else f"{func}()"

    def tail(self, func: Any) -> str:
        """What stands behind the brace at a function's end, "" if its name is not known."""
        name = self.name(func)
        return f" /* {name} */" if name else ""

    def back(self, address: int | None) -> str:
        """Where a call was made from, "" if that is not known."""
        name = self._retaddr(address) if address is not None and self._retaddr is not None else ""
        return f" /* <-{name} */" if name else ""

    def _call(self, step: Step) -> str:
        if step.args and self._arguments is not None and self.name(step.func):
            return f"{self.name(step.func)}({self._arguments(self.name(step.func), step.args)})"
        return self.call(step.func)

    def _duration(self, duration: int) -> str:
        duration &= 0xFFFFFFFFFFFFFFFF
        micros, rest = divmod(duration, 1000)
        text = str(micros)
        if len(text) < 7:
            text += f".{rest:03d}"
        return f"{_mark(duration)}{text} us {'':{max(0, 7 - len(text))}}|  "

    def _value(self, step: Step) -> str:
        mode, value = self.options.values, step.retval
        if not mode or value is None:
            return ""
        value &= 0xFFFFFFFFFFFFFFFF
        signed = value - (1 << 64) if value >> 63 else value
        if mode == "dec" or mode == "auto" and -4095 <= signed < 0:
            return f" (ret={signed})"
        return f" (ret=0x{value:x})"

    def _depth(self, step: Step) -> str:
        return f" ({step.depth})" if self.options.depth else ""

    def leaf(self, step: Step, end: Step) -> str:
        """The text of an entry and its return in one."""
        call = f"{self._duration(end.end - end.start)}{'  ' * min(step.depth, _DEEPEST)}{self._call(step)};"
        return call + self._depth(step) + self.back(step.retaddr) + self._value(end)

    def entry(self, step: Step) -> str:
        """The text of an entry whose return comes later."""
        return f"{_BLANK}{'  ' * min(step.depth, _DEEPEST)}{self._call(step)}{self.back(step.retaddr)} {{{self._depth(step)}"

    def exit(self, step: Step) -> str:
        """The text of a return."""
        text = f"{self._duration(step.end - step.start)}{'  ' * min(step.depth, _DEEPEST)}}}"
        if self.options.tailprint:
            tail = self.tail(step.func)
            if not tail:
                return text
            text += tail
        return text + self._depth(step) + self._value(step)
