"""Settings of a buffer, with what is particular about single files: lists of functions, filters of events and of systems."""

from __future__ import annotations

import os

from ..base.errors import KernelError
from .kernel import Call
from .tracefs_instances import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .tracefs import Tracefs

__all__ = ("FUNCTION_LISTS", "ListSettings", "put")

#: Lists of functions: the kernel takes one word per write(2) and applies them when the file is closed (kernel/trace/ftrace.c).
FUNCTION_LISTS = frozenset(("set_ftrace_filter", "set_ftrace_notrace", "set_graph_function", "set_graph_notrace"))

_BUSY = FUNCTION_LISTS | {"current_tracer"}


def put(tracefs: Tracefs, name: str, text: str, append: bool = False) -> None:
    """Writes a setting as its file wants it.

    Raises:
        KernelError: the kernel refuses; words of a list before the refused one are set.
    """
    if name not in FUNCTION_LISTS or not text.strip():
        tracefs.write(name, text, append)
        return
    kernel = tracefs.kernel
    try:
        fd = kernel.open(tracefs.path(name), os.O_WRONLY | (os.O_APPEND if append else os.O_TRUNC))
    except OSError as error:
        raise tracefs.refused(name, error, "write", text) from None
    try:
        for word in text.split():
            data = (word + " ").encode("utf-8", "surrogateescape")
            result = kernel.call(Call("write", (fd, data, len(data))))
            if result < 0:
                raise tracefs.refused(name, OSError(-result, os.strerror(-result)), "write", word)
    finally:
        kernel.close(fd)


class ListSettings(Settings):
    """Settings that know the lists of functions."""

    @property
    def vanish(self) -> bool:
        """Whether removing the instance takes all changes back: there are no tracers and triggers, which may keep others busy."""
        return not any(name in _BUSY or name.endswith("/trigger") for name, _, _ in self._journal)

    def set(self, name: str, value: str, append: bool = False) -> None:
        old = self._current(name)
        try:
            put(self.tracefs, name, value, append)
        except KernelError:
            if old is not None and name.endswith("/filter"):  # the kernel keeps a filter that is wrong, with its complaint about it
                put(self.tracefs, *old)
            raise
        if old is not None:
            self._journal.append(old)

    def filter_system(self, system: str, events: Sequence[str], text: str, shared: bool) -> None:
        """Filters all events of a system by one write; the kernel does not filter those that lack a field.

        Args:
            events: the system's.
            shared: whether events may have filters of others, each of which the kernel forgets and only the journal knows then.

        Raises:
            KernelError: none of the events can have this filter.
        """
        files = [f"events/{system}/{event}/filter" for event in events]
        for file in files if shared else ():
            old = self._current(file)
            if old is not None and old[1] != "0":
                self._remember(old, text)
        self.set(f"events/{system}/filter", text)
        # the kernel takes even what is wrong for all of them, and complains in their files only
        if not any((now := self._current(file)) is None or now[1] != "0" for file in files):
            self.set(files[0], text)

    def _remember(self, old: tuple[str, str, bool], _value: str) -> None:
        """Journals what another write is about to change to a value."""
        self._journal.append(old)

    def keep(self) -> None:
        """Lets all changes stand: nothing to do where only the owner knows of them."""

    def undo(self) -> list[KernelError]:
        failed = []
        while self._journal:
            name, text, append = self._journal.pop()
            try:
                put(self.tracefs, name, text, append)
            except KernelError as error:
                failed.append(error)
        return failed

    def command(self, name: str, text: str, undo: str) -> None:
        """Appends a command to a file; ``undo`` is the command that takes it back.

        Raises:
            KernelError: with the kernel's own reason; nothing is journalled.
        """
        self.tracefs.write(name, text, True)
        self._journal.append((name, undo, True))
