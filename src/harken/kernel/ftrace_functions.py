"""The lists of a buffer: of functions, with hints where a name is wrong, and of tasks, that are traced, left out or graphed."""

from __future__ import annotations

import errno

from ..base.errors import KernelError, ProbeError
from .ftrace_events import is_regex, match_functions, near_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .tracefs import Tracefs

__all__ = ("Lists",)


class Lists:
    """What a buffer can do with functions and tasks; ``root`` is the top directory."""

    root: Tracefs

    if TYPE_CHECKING:

        def set(self, file: str, value: str, append: bool = False) -> None:
            """Writes a setting that is undone."""

        def has(self, file: str) -> bool:
            """Whether this buffer has a file of its own."""

        @property
        def tracer(self) -> str:
            """The one that is chosen."""

    def functions(self, file: str, patterns: Sequence[str], module: str = "") -> None:
        """Fills a list of functions: ``set_ftrace_filter``, ``set_ftrace_notrace``, ``set_graph_function`` or ``set_graph_notrace``.

        Args:
            patterns: globs or regular expressions.
            module: functions of this module only.

        Raises:
            ProbeError: no function matches.
            KernelError: the kernel refuses.
        """
        words: list[str] = []
        for pattern in patterns:
            if is_regex(pattern):
                found = match_functions(self.root.filter_functions(), pattern, module)
                if not found:
                    raise ProbeError(f"no function matches {pattern!r}", "'harken trace-cmd list -f' shows all functions")
                words += found
            else:
                words.append(f"{pattern}:mod:{module}" if module else pattern)
        if not patterns and module:
            words.append(f":mod:{module}")
        try:
            self.set(file, " ".join(words))
        except KernelError as error:
            if error.errno == errno.EINVAL and not error.hint:
                hint = self.near_functions(words)
                if hint:
                    raise ProbeError(f"{error.message}: this kernel has no such function that it can trace", hint) from None
            raise

    def near_functions(self, words: Iterable[str]) -> str:
        """A hint for the first of ``words`` that no function has as its name or matches, "" if there is none."""
        return next((hint for word in words if (hint := self.near_function(word))), "")

    def near_function(self, word: str, existing: bool = False) -> str:
        """A hint with the names of functions that look like ``word``, or where all names are if none does; "" if there is such a function.

        Args:
            existing: also if there is a function of this very name.
        """
        try:
            have = [name for name, _ in self.root.filter_functions()]
        except KernelError:
            return ""
        every = "" if existing else "'harken trace-cmd list -f' shows all functions"
        if set(word) & set("*?[:"):
            from fnmatch import fnmatchcase

            return "" if ":" in word or any(fnmatchcase(name, word) for name in have) else every
        if not existing and word in have:
            return ""
        near = near_names(have, word)
        return f"this kernel has {', '.join(near)}" if near else every

    def pids(self, numbers: Sequence[int], children: bool = False, functions: bool = True) -> None:
        """Traces only these tasks: events and functions.  With ``children`` also those that they start from now on.

        Args:
            functions: False: events only, where no tracer of functions will be chosen.
        """
        text = " ".join(str(number) for number in numbers)
        if functions and self.has("set_ftrace_pid"):
            try:
                self.set("set_ftrace_pid", text)
            except KernelError:
                if self.tracer not in ("nop", ""):
                    raise
        if self.has("set_event_pid"):
            self.set("set_event_pid", text)
        if children:
            for option in ("event-fork", "function-fork")[: 1 + functions]:
                if self.has(f"options/{option}"):
                    self.set(f"options/{option}", "1")

    def not_pids(self, numbers: Sequence[int], functions: bool = True) -> None:
        """Leaves these tasks out (Linux 5.8; before, nothing is done); ``functions`` as for ``pids``."""
        text = " ".join(str(number) for number in numbers)
        for file in ("set_event_notrace_pid", "set_ftrace_notrace_pid")[: 1 + functions]:
            if self.has(file):
                try:
                    self.set(file, text)
                except KernelError:  # a policy may forbid the function tracer's file
                    continue
