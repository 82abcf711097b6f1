"""``trace-cmd snapshot``: take (-s), show, clear (-r) or free (-f) the snapshot of a buffer."""

from __future__ import annotations

from ...base.errors import UsageError
from .arguments import number, parse
from .buffers import copy_file, existing
from .setup import open_tracefs

__all__ = ("run",)


def run(argv: list[str]) -> int:
    """Runs the command; returns the exit status."""
    pairs, rest = parse(argv, "srfB:c:h", ("help",))
    names = [option for option, _ in pairs]
    if "h" in names or "help" in names:
        print("usage:\n  harken trace-cmd snapshot [-s|-r|-f] [-c CPU] [-B BUFFER]\n")
        print("   -s take one   -r clear it   -f free it   (none: show it)")
        return 0
    if rest:
        raise UsageError(f"snapshot takes no {rest[0]!r}")
    values = dict(pairs)
    trace = existing(open_tracefs(), values.get("B", ""))
    base = f"per_cpu/cpu{number(values['c'], '-c')}/" if "c" in values else ""
    if not trace.has(f"{base}snapshot"):
        from ...base.errors import KernelError

        raise KernelError("this kernel has no snapshots", errno=2, hint="they come with CONFIG_TRACER_SNAPSHOT")
    commands = {"s": "1", "r": "2", "f": "0"}
    wanted = [commands[name] for name in names if name in commands]
    for value in wanted:
        trace.tracefs.write(f"{base}snapshot", value)
    if not wanted:
        copy_file(trace, f"{base}snapshot")
    return 0
