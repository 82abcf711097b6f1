"""Settings of tracefs that are undone, and private instances.

``Settings`` writes a setting and remembers how to take it back; ``undo()`` does so in reverse order.  ``Instance`` is a private
ring buffer with settings of its own below ``instances/``; closing it undoes everything and removes it.

Names carry the owner (``tracefs_owner.owner_name``), so that ``sweep_instances`` finds what killed owners left behind.
"""

from __future__ import annotations

import errno
import os

from ..base.errors import KernelError
from .kernel import Call
from .tracefs import Tracefs
from .tracefs_owner import owner_name, owner_of, owner_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("Settings", "Instance", "let_top_grow", "sweep_instances", "instance_names")

_AT_FDCWD = -100
_AT_REMOVEDIR = 0x200
# Files that hold lists: they read with comments and grow when written without truncation.
_LISTS = frozenset(
    "set_event set_event_pid set_event_notrace_pid set_ftrace_filter set_ftrace_notrace set_ftrace_pid set_ftrace_notrace_pid "
    "set_graph_function set_graph_notrace stack_trace_filter".split()
)


class Settings:
    """Changes to a tracefs directory with a journal."""

    def __init__(self, tracefs: Tracefs) -> None:
        self.tracefs = tracefs
        self._journal: list[tuple[str, str, bool]] = []  # (file, what to write, append) in the order of the changes

    @property
    def journal(self) -> tuple[tuple[str, str], ...]:
        """(file, the value that undo will write), oldest first."""
        return tuple((name, text) for name, text, _ in self._journal)

    def set(self, name: str, value: str, append: bool = False) -> None:
        """Writes ``value`` to a file below the directory.

        Args:
            append: add to a list instead of replacing it.

        Raises:
            KernelError: nothing was changed and nothing is journalled.
        """
        old = self._current(name)
        self.tracefs.write(name, value, append)
        if old is not None:
            self._journal.append(old)

    def _current(self, name: str) -> tuple[str, str, bool] | None:
        try:
            text = self.tracefs.read(name)
        except KernelError:
            return None  # write-only files (trace_marker) have nothing to go back to
        return undo_entry(name, text)

    def undo(self) -> list[KernelError]:
        """Takes all changes back, the last one first; goes on when one fails and returns the failures."""
        failed = []
        while self._journal:
            name, text, append = self._journal.pop()
            try:
                self.tracefs.write(name, text, append)
            except KernelError as error:
                failed.append(error)
        return failed


def undo_entry(name: str, text: str) -> tuple[str, str, bool] | None:
    """What to write to a file to get back the state in which it read as ``text``: (file, text, append); None for nothing.

    Example:
        >>> undo_entry("trace_clock", "local [global] counter\\n")
        ('trace_clock', 'global', False)
        >>> undo_entry("set_ftrace_filter", "#### all functions enabled ####\\n")
        ('set_ftrace_filter', '\\n', False)
        >>> undo_entry("buffer_size_kb", "7 (expanded: 1408)\\n")
        ('buffer_size_kb', '1408', False)
        >>> undo_entry("events/sched/filter", "none\\n")
        ('events/sched/filter', '0', False)
        >>> undo_entry("events/sched/filter", "(bogus==1)\\n ^\\nparse_error: Field not found\\n")
        ('events/sched/filter', '0', False)
        >>> undo_entry("events/sched/filter", "### global filter ###\\n# Use this to set filters for multiple events.\\n")
        ('events/sched/filter', '0', False)
    """
    file = name.rpartition("/")[2]
    words = text.split()
    if file == "trace":  # any write clears the buffer; what was in it cannot come back
        return None
    if file in _LISTS:
        lines = [line for line in text.split("\n") if line and line[0] != "#" and line != "no pid"]
        if file.startswith("set_ftrace"):
            lines = [line.split(" ")[0] for line in lines]
        return name, "\n".join(lines) + "\n", False
    if file == "trigger":
        return None if text.startswith("#") or not words else (name, text, False)
    if file == "filter":
        # what was refused is kept as text, with its complaint (a line with "^"), but filters nothing; that of a system shows a comment
        none = words[:1] in ([], ["none"], ["###"]) or "^" in text.replace("\n", " \n ").split(" ")
        return name, "0" if none else text, False
    if file == "enable":
        # "X" (some of the events below are on) has no command of its own: off is the state before harken's own change to all.
        return name, "1" if words[:1] == ["1"] or words[:1] == ["1*"] else "0", False
    if file in ("trace_clock", "timestamp_mode") or (words and text.count("[") == 1 and file not in ("current_tracer", "trace_options")):
        chosen = next((word.strip("[]") for word in words if word.startswith("[")), "")
        return (name, chosen, False) if chosen else None
    if file == "trace_options":
        return None  # set options/NAME instead: single options can be journalled
    if file in ("buffer_size_kb", "buffer_total_size_kb", "saved_cmdlines_size"):
        # a buffer that nobody has used yet would grow when it is first used: small for ever it would lose other people's events
        size = words[2].rstrip(")") if len(words) == 3 and words[1] == "(expanded:" else words[0] if words else ""
        return (name, size, False) if size.isdigit() else None
    return name, text.strip() or "\n", False


def let_top_grow(root: Tracefs, resize: Callable[[], None]) -> None:
    """Gives the buffer of an instance another size, without harm to the top buffer.

    A top buffer that nobody has used yet ("7 (expanded: 1408)") grows when it is used.  Before Linux 6.7 an instance that gets a size takes
    that from it ("7"), and whoever uses it next would lose most events: so it grows now.
    """
    before = root.read("buffer_size_kb").split()
    try:
        resize()
    finally:  # the kernel forgets it before it looks for memory
        if len(before) == 3 and root.read("buffer_size_kb").split() == before[:1]:
            root.write("buffer_size_kb", before[2].rstrip(")"))


class Instance(Tracefs):
    """A private instance of tracefs: its own buffers, events, filters and (where the kernel allows) tracer.

    Example::

        with Instance(find(kernel)) as private:
            private.settings.set("events/sched/sched_switch/enable", "1")
    """

    def __init__(self, parent: Tracefs, label: str = "") -> None:
        """Makes the instance; ``label`` (letters, digits, _) tells several of one process apart.

        Raises:
            KernelError: not permitted, or the kernel has no instances (before Linux 3.10).
        """
        kernel = parent.kernel
        self.name = owner_name(kernel) + (f"_{label}" if label else "")
        root = parent.path(f"instances/{self.name}")
        result = kernel.call(Call("mkdirat", (_AT_FDCWD, os.fsencode(root) + b"\0", 0o750)))
        if result < 0 and result != -errno.EEXIST:
            error = OSError(-result, os.strerror(-result))
            raise parent.refused(f"instances/{self.name}", error, "make")
        super().__init__(kernel, root, parent.note)
        self.parent = parent
        self.settings = Settings(self)

    def close(self) -> None:
        """Undoes the settings and removes the instance; if it cannot be removed (somebody reads it), ``sweep_instances`` will do it."""
        self.settings.undo()
        _remove(self.parent, self.name)

    def __enter__(self) -> Instance:
        return self

    def __exit__(self, *_details: object) -> None:
        self.close()


def _remove(parent: Tracefs, name: str) -> bool:
    path = os.fsencode(parent.path(f"instances/{name}")) + b"\0"
    return parent.kernel.call(Call("unlinkat", (_AT_FDCWD, path, _AT_REMOVEDIR))) >= 0


def instance_names(tracefs: Tracefs) -> list[str]:
    """Names of all instances, whoever made them."""
    try:
        return tracefs.kernel.listdir(tracefs.path("instances"))
    except OSError:
        return []


def sweep_instances(tracefs: Tracefs) -> list[str]:
    """Removes instances whose harken owner is dead; returns their names.  Those of living owners and of others are left alone."""
    removed = []
    for name in instance_names(tracefs):
        owner = owner_of(name)
        if owner is not None and owner_state(tracefs.kernel, owner) == "dead" and _remove(tracefs, name):
            removed.append(name)
    return removed
