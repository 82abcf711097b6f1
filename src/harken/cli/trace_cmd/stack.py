"""``trace-cmd stack``: the kernel's stack tracer: the deepest stack since it was started."""

from __future__ import annotations

import sys

from ...base.errors import KernelError, UsageError
from .arguments import parse
from .setup import open_tracefs

__all__ = ("run",)

_SWITCH = "/proc/sys/kernel/stack_tracer_enabled"


def run(argv: list[str]) -> int:
    """Runs the command; returns the exit status."""
    pairs, rest = parse(argv, "h", ("start", "stop", "reset", "help", "verbose?"))
    names = [option for option, _ in pairs]
    if "h" in names or "help" in names:
        print("usage:\n  harken trace-cmd stack [--start|--stop|--reset]\n\n   (none: show the deepest stack)")
        return 0
    if rest:
        raise UsageError(f"stack takes no {rest[0]!r}")
    root = open_tracefs()
    if not root.kernel.exists(_SWITCH):
        raise KernelError("this kernel has no stack tracer", errno=2, hint="it comes with CONFIG_STACK_TRACER")
    for name in names:
        if name == "reset":
            root.write("stack_max_size", "0")
        else:
            try:
                root.kernel.write(_SWITCH, b"1" if name == "start" else b"0")
            except OSError as error:
                raise KernelError(f"cannot write {_SWITCH}: {error.strerror}", errno=error.errno or 0, hint="run as root") from None
    if not names:
        on = root.kernel.read(_SWITCH, 16).strip() != b"0"
        print(f"(stack tracer {'' if on else 'not '}running)")
        lines = root.read("stack_trace").splitlines(keepends=True)
        sys.stdout.write("".join(line for line in lines if line[0] != "#"))  # those tell how to start the tracer by its files
    return 0
