"""The journal of changes to settings that everybody shares: the top buffer of ftrace, buffers of others, and what exists only once.

Private instances vanish with their owner.  Those that a user gave a name (``record -B NAME``) do not, and where a tracer works in the
top buffer only (function_graph before Linux 6.11), harken has to change what others see.  Each such change is written down, with the
value before, in a file under ``/run/harken`` before it is made: one for each buffer, with its owner's name.  ``DurableSettings.undo``
takes the changes back and removes the file; after a ``kill -9`` the next start of harken finds the file, sees that its owner is dead,
and takes them back then (``sweep_journals``).

A setting that somebody has changed since is left alone: it is theirs now.
"""

from __future__ import annotations

import errno
import os
import time

from ..base.errors import KernelError
from .ftrace_settings import FUNCTION_LISTS, ListSettings, put
from .kernel import Call
from .tracefs import Tracefs
from .tracefs_instances import sweep_instances, undo_entry
from .tracefs_owner import owner_name, owner_of, owner_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .kernel import Kernel

__all__ = ("DIRECTORY", "DurableSettings", "sweep_journals")

#: Lists of tasks, and the options by which the kernel adds children to them and takes away who ends: an empty one lets nobody through.
_TASKS = frozenset(("set_event_pid", "set_ftrace_pid", "set_event_notrace_pid", "set_ftrace_notrace_pid"))
_FORKS = frozenset(("options/event-fork", "options/function-fork"))

DIRECTORY = "/run/harken"
_SUFFIX = ".journal"
_INSTANCES = "instances/"
_AT_FDCWD, _AT_REMOVEDIR = -100, 0x200
#: Kilobytes by which the kernel may round a buffer's size up: to whole sub-buffers, of which it has two at least and the largest are of
#: 128 pages (buffer_subbuf_size_write in kernel/trace/trace.c).
_ROUNDED = 1024
_PATIENCE = 200  # twentieths of a second
_LIMIT = 64 << 20  # lists of functions may name all that the kernel has


class DurableSettings(ListSettings):
    """Settings of the top directory, or of an instance, whose journal outlives the process."""

    def __init__(self, tracefs: Tracefs, directory: str = "") -> None:
        super().__init__(tracefs)
        self._name = f"{directory or DIRECTORY}/{owner_name(tracefs.kernel)}"
        self._file = ""
        self._fd = -1

    def set(self, name: str, value: str, append: bool = False) -> None:
        old = self._current(name)
        if old is not None:
            self._note(name, old[1], old[2], value, append)
        super().set(name, value, append)
        now = None if old is None or append else self._current(name)
        if old is not None and now is not None and now[1].split() != value.split():  # as sizes are rounded: what stands there then is ours
            self._note(name, old[1], old[2], now[1], append)

    def _remember(self, old: tuple[str, str, bool], value: str) -> None:
        self._note(*old, value, False)
        super()._remember(old, value)

    def command(self, name: str, text: str, undo: str) -> None:
        self._note(name, undo, True, text, True)
        super().command(name, text, undo)

    def make_instance(self, name: str) -> bool:
        """Makes an instance with a name that others see; whoever finds the journal of a dead owner removes it.

        Returns:
            False if there is one of that name, which is another's.

        Raises:
            KernelError: not permitted.
        """
        path = f"{_INSTANCES}{name}"
        try:
            self._note(path, "", False, "", False)
        except OSError:  # there is no place for a journal: it will be up to the user to remove what a kill leaves
            pass
        place = self.tracefs.path(path)
        result = self.tracefs.kernel.call(Call("mkdirat", (_AT_FDCWD, os.fsencode(place) + b"\0", 0o750)))
        if result < 0:
            self.forget()
            if result == -errno.EEXIST:
                return False
            raise self.tracefs.refused(path, OSError(-result, os.strerror(-result)), "make")
        if self._fd >= 0:
            self._note(path, _identity(place), False, "", False)
        return True

    def _note(self, name: str, old: str, old_append: bool, new: str, append: bool) -> None:
        if self._fd < 0:
            self._open()
            self._write(f"{_hex(self.tracefs.root)}\n")
        self._write(f"{_hex(name)} {_hex(old)} {int(old_append)} {_hex(new)} {int(append)}\n")

    def _open(self) -> None:
        os.makedirs(os.path.dirname(self._name), 0o700, exist_ok=True)
        number = 0
        while self._fd < 0:
            self._file = f"{self._name}_{number}{_SUFFIX}"
            try:
                self._fd = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
            except FileExistsError:  # of another buffer of this process
                number += 1

    def _write(self, line: str) -> None:
        try:
            os.write(self._fd, line.encode())
        except OSError as error:  # whoever is told has to know that it is this file's disk that is full
            error.filename = self._file
            raise

    def undo(self) -> list[KernelError]:
        failed = super().undo()
        self.forget()
        return failed

    def keep(self) -> None:
        """Lets all changes stand (``trace-cmd start``)."""
        self._journal.clear()
        self.forget()

    def forget(self) -> None:
        """Removes the file of the journal."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            try:
                os.unlink(self._file)
            except OSError:
                pass


def _identity(path: str) -> str:
    """The number of a directory, which another one of the same name has not; "" if it is not there."""
    try:
        return str(os.stat(path).st_ino)
    except OSError:
        return ""


def _hex(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").hex() or "-"


def _text(word: str) -> str:
    return "" if word == "-" else bytes.fromhex(word).decode("utf-8", "surrogateescape")


def sweep_journals(kernel: Kernel, directory: str = "") -> list[str]:
    """Takes back what dead owners changed; returns the names of the settings.  Never raises."""
    folder = directory or DIRECTORY
    undone: list[str] = []
    try:
        names = [name for name in os.listdir(folder) if name.endswith(_SUFFIX)]
    except OSError:
        return undone
    for name in (*names, *names):  # what the settings of one buffer keep in use is free when those of all have been taken back
        owner = owner_of(name[: -len(_SUFFIX)])
        path = f"{folder}/{name}"
        if owner is None or owner_state(kernel, owner) != "dead":
            continue
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                _wait_for_others(fd)
                status = os.fstat(fd)
                if not status.st_nlink:  # somebody else has done it
                    continue
                text = os.read(fd, _LIMIT).decode("ascii", "replace") if status.st_uid == os.geteuid() else ""
                settings, complete = _take_back(kernel, text)
                undone += settings
                if complete:
                    os.unlink(path)
            finally:
                os.close(fd)
        except (OSError, ValueError):
            continue
    return undone


def _wait_for_others(fd: int) -> None:
    """Waits while another harken takes the same journal back, but not for ever: who changed a setting before would take its value for the
    one that is to come back, and see its own taken back."""
    import fcntl

    for _ in range(_PATIENCE):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            time.sleep(0.05)


def _take_back(kernel: Kernel, text: str) -> tuple[list[str], bool]:
    """The names of what was taken back, and whether nothing is left to do."""
    root, _, rest = text.partition("\n")
    tracefs = Tracefs(kernel, _text(root))
    entries = [line.split(" ") for line in rest.split("\n") if line.count(" ") == 4]
    commands = [entry for entry in entries if _is_command(_text(entry[0]))]
    entries = [entry for entry in entries if not _is_command(_text(entry[0]))]
    last = {entry[0]: entry for entry in entries}  # what the dead owner wrote last
    undone = []
    first: dict[str, tuple[str, bool]] = {}
    for entry in entries:
        first.setdefault(entry[0], (_text(entry[1]), entry[2] == "1"))
    forks = any(_text(key) in _FORKS and last[key][3] == _hex("1") for key in last)
    for key in reversed(list(first)):
        name, (old, old_append) = _text(key), first[key]
        try:
            if not _still(tracefs, name, _text(last[key][3]), last[key][4] == "1") and not (forks and name in _TASKS):
                continue
            put(tracefs, name, old, old_append)
            undone.append(name)
        except KernelError:
            continue
    complete = True
    made = {_text(entry[0]): _text(entry[1]) for entry in commands if _text(entry[0]).startswith(_INSTANCES)}
    if commands:
        sweep_instances(tracefs)  # their triggers keep synthetic events in use
    for path, identity in made.items():
        place = tracefs.path(path)
        if identity and _identity(place) != identity:  # it is gone, or somebody else made one
            continue
        result = kernel.call(Call("unlinkat", (_AT_FDCWD, os.fsencode(place) + b"\0", _AT_REMOVEDIR)))
        undone += [path] if result >= 0 else []
        complete = complete and result != -errno.EBUSY
    for entry in reversed(commands):
        if _text(entry[0]) in made:
            continue
        try:
            tracefs.write(_text(entry[0]), _text(entry[1]), True)
            undone.append(_text(entry[0]))
        except KernelError as error:
            complete = complete and error.errno != errno.EBUSY  # the others are gone already
    return undone, complete


def _is_command(name: str) -> bool:
    """Whether a file takes commands, each of which has its own way back; a directory is one that was made."""
    return (
        (name.startswith(_INSTANCES) and name.count("/") == 1)
        or name in ("dynamic_events", "synthetic_events")
        or name.endswith("/trigger")
    )


def _still(tracefs: Tracefs, name: str, written: str, append: bool) -> bool:
    """Whether a setting still has the value that the dead owner gave it."""
    now = undo_entry(name, tracefs.read(name))
    if now is None:
        return False
    words = written.split()
    if append:  # something was added to a list: it is ours as long as it is in there
        return not words or all(word in now[1] for word in words)
    if name in FUNCTION_LISTS or name.endswith(("cpumask", "filter")):
        return True  # the kernel shows these in another form than it takes them
    if name.endswith("buffer_size_kb") and written.isdigit() and now[1].isdigit():  # rounded up
        return 0 <= int(now[1]) - int(written) <= _ROUNDED
    return now[1].split() == words or (written.strip() in ("", "0") and now[1].strip() in ("", "0"))
