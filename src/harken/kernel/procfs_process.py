"""What /proc tells about processes: when they started, what they are called, what they have mapped.

Every function takes a ``Kernel`` and reads bounded amounts; a process that is gone or hidden gives None or nothing.  Texts here are
shaped by whoever runs (a process chooses its own name and paths): they are parsed from the safe end, and bytes that are not UTF-8
survive as surrogates.
"""

from __future__ import annotations

from ..base.record import Record
from .identity import start_time
from .procfs import read_text, status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .kernel import Kernel

__all__ = ("Mapping", "start_time", "comm", "command_line", "mappings", "root_path", "namespace_pid", "processes")

_MAPS_LIMIT = 64 << 20  # vm.max_map_count is 65530 by default, 100 to 300 bytes each


class Mapping(Record):
    """One line of ``/proc/PID/maps``; ``inode`` and ``device`` identify the file even if ``path`` was renamed or deleted."""

    start: int
    end: int
    perms: str
    offset: int
    device: str
    inode: int
    path: str


def comm(kernel: Kernel, pid: int | str) -> str:
    """A process's name (at most 15 bytes); "" if it is gone."""
    text = read_text(kernel, f"/proc/{pid}/comm", 64)
    return text.rstrip("\n") if text else ""


def command_line(kernel: Kernel, pid: int | str) -> list[str]:
    """A process's arguments as it was started (or as it has rewritten them); empty for kernel threads."""
    text = read_text(kernel, f"/proc/{pid}/cmdline", 1 << 20)
    return text.rstrip("\0").split("\0") if text else []


def mappings(kernel: Kernel, pid: int | str = "self") -> list[Mapping]:
    """The memory map of a process; empty if it is gone or may not be looked at."""
    found = []
    for line in (read_text(kernel, f"/proc/{pid}/maps", _MAPS_LIMIT) or "").split("\n"):
        words = line.split(None, 5)
        if len(words) < 5:
            continue
        low, _, high = words[0].partition("-")
        try:
            place = Mapping(int(low, 16), int(high, 16), words[1], int(words[2], 16), words[3], int(words[4]), "")
        except ValueError:
            continue
        # The kernel writes a newline in a path as \012 (seq_path in fs/proc/task_mmu.c) and nothing else.
        found.append(place.replace(path=words[5].replace("\\012", "\n")) if len(words) > 5 else place)
    return found


def root_path(pid: int, path: str) -> str:
    """A path as the process sees it, made reachable from here (it may run in another mount namespace or chroot).

    Example:
        >>> root_path(42, "/usr/bin/ls")
        '/proc/42/root/usr/bin/ls'
    """
    return f"/proc/{pid}/root/{path.lstrip('/')}"


def namespace_pid(kernel: Kernel, pid: int) -> int | None:
    """The number that a process has in its own PID namespace; None if it is gone."""
    found = status(kernel, pid)
    if found is None:
        return None
    return found.ns_pids[-1] if found.ns_pids else found.tgid


def processes(kernel: Kernel) -> list[int]:
    """PIDs of all processes that this one can see, ascending."""
    try:
        return sorted(int(name) for name in kernel.listdir("/proc") if name.isascii() and name.isdigit())
    except OSError:
        return []
