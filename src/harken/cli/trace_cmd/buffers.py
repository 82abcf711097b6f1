"""Buffers that exist: which of them a command line means (``-B NAME``, ``-a`` all instances, ``-t`` the top buffer)."""

from __future__ import annotations

import sys

from ...base.errors import KernelError
from ...kernel.ftrace import Ftrace
from ...kernel.tracefs_instances import instance_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ...kernel.tracefs import Tracefs

__all__ = ("existing", "chosen", "copy_file", "option_lines")


def existing(root: Tracefs, name: str) -> Ftrace:
    """A buffer by name, "" for the top one.

    Raises:
        KernelError: there is none of this name.
    """
    return Ftrace.named(root, name, create=False) if name else Ftrace.top(root, durable=False)


def chosen(root: Tracefs, pairs: Iterable[tuple[str, str]], everything: bool = False) -> list[Ftrace]:
    """The buffers that ``-B``, ``-a`` and ``-t`` name, in their order; the top one if there are none of these.

    Args:
        everything: ``-a`` includes the top buffer (``clear``).
    """
    names: list[str] = []
    for option, value in pairs:
        if option == "B":
            names.append(value)
        elif option == "a":
            names += ([""] if everything else []) + instance_names(root)
        elif option == "t":
            names.append("")
    return [existing(root, name) for name in dict.fromkeys(names or [""])]


def option_lines(trace: Ftrace) -> list[str]:
    """The options of a buffer, those that are off with "no" before them, in the order of the directory."""
    lines = []
    for name in trace.kernel.listdir(trace.tracefs.path("options")):
        try:
            on = trace.tracefs.read(f"options/{name}", 16).strip() != "0"
        except KernelError:
            continue
        lines.append(name if on else "no" + name)
    return lines


def copy_file(trace: Ftrace, file: str) -> None:
    """Writes a file of tracefs to standard output as it comes (``trace_pipe`` never ends).

    Raises:
        KernelError: it cannot be read.
        OSError: standard output cannot be written.
    """
    tracefs = trace._of(file)
    try:
        fd = trace.kernel.open(tracefs.path(file))
    except OSError as error:
        raise tracefs.refused(file, error, "read") from None
    out = sys.stdout.buffer
    try:
        while data := _read(fd, tracefs.path(file)):
            out.write(data)
            out.flush()
    except KeyboardInterrupt:
        pass
    finally:
        trace.kernel.close(fd)


def _read(fd: int, path: str) -> bytes:
    import os

    try:
        return os.read(fd, 1 << 16)
    except OSError as error:
        raise KernelError(f"cannot read {path}: {error.strerror}", errno=error.errno or 0) from None
