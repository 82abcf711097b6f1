"""Which kernel this is, and what names a process for good: all that the start of a trace needs of ``kernel.procfs``."""

from __future__ import annotations

import os

from ..base.record import Record
from .kernel import Call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .kernel import Kernel

__all__ = ("Uname", "namespace_number", "read_link", "start_time", "uname")

_AT_FDCWD = -100


class Uname(Record):
    """uname(2)."""

    system: str = ""
    node: str = ""
    release: str = ""
    version: str = ""
    machine: str = ""


def uname(kernel: Kernel) -> Uname:
    """uname(2); empty strings if refused (a seccomp filter)."""
    buffer = bytearray(6 * 65)  # struct new_utsname, include/uapi/linux/utsname.h
    if kernel.call(Call("uname", (buffer,))) < 0:
        return Uname()
    fields = [bytes(buffer[at : at + 65]).split(b"\0", 1)[0].decode("utf-8", "surrogateescape") for at in range(0, 5 * 65, 65)]
    return Uname(*fields)


def namespace_number(kernel: Kernel, kind: str, pid: int | str = "self") -> int:
    """The inode number that names a process's namespace ("pid", "user", "mnt", "cgroup", ...); 0 if it cannot be read."""
    try:
        text = read_link(kernel, f"/proc/{pid}/ns/{kind}")
        return int(text[text.index("[") + 1 : -1])
    except (OSError, ValueError):
        return 0


def start_time(kernel: Kernel, pid: int | str = "self") -> int | None:
    """When a process started, in clock ticks (usually 10 ms) after boot; with the PID it names a process for good.  None if it is gone."""
    fields = _stat_fields(kernel, pid)
    try:
        return int(fields[19]) if fields else None  # field 22; the list starts with field 3
    except (ValueError, IndexError):
        return None


def _stat_fields(kernel: Kernel, pid: int | str) -> list[bytes] | None:
    try:
        data = kernel.read(f"/proc/{pid}/stat", 4096)
    except OSError:
        return None
    # The name in parentheses may hold anything, blanks and parentheses too: the last ')' ends it (proc_pid_stat(5)).
    return data[data.rfind(b")") + 1 :].split()


def read_link(kernel: Kernel, path: str) -> str:
    """readlinkat(2); raises OSError.  Targets of /proc links such as ``/proc/PID/exe`` and ``/proc/PID/ns/pid`` are read like this."""
    buffer = bytearray(4096)
    size = kernel.call(Call("readlinkat", (_AT_FDCWD, os.fsencode(path) + b"\0", buffer, len(buffer))))
    if size < 0:
        raise OSError(-size, os.strerror(-size), path)
    return os.fsdecode(bytes(buffer[:size]))
