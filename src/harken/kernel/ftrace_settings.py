"""Settings of a buffer, with what is particular about single files: lists of functions, filters."""

from __future__ import annotations

import os

from ..base.errors import KernelError
from .kernel import Call
from .tracefs_instances import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
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
