"""``trace-cmd restore``: a trace.dat from the per-CPU files that a crashed trace-cmd left behind.

    restore [-o FILE] [-i INPUT] CPUFILE [CPUFILE ...]     pages of CPU 0, 1, ... into a file with the head of INPUT
    restore -c -o HEAD                                      only the head, taken from this machine
    restore -t TRACEFS_COPY -k KALLSYMS -c -o HEAD          ... from a copy of another machine's tracefs

What a killed harken leaves behind is a readable recording by itself; ``convert`` makes it compact.
"""

from __future__ import annotations

import os
import sys

from ...base.errors import UsageError
from ...formats.trace_dat import open_trace
from ...formats.trace_dat_parts import BufferSource, CpuSource, Parts
from ...formats.trace_dat_writer import write_trace
from .arguments import parse
from .naming import naming

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ("run",)

USAGE = """\
usage:
  harken trace-cmd restore [-i HEAD] [-o FILE] CPUFILE ...     trace.dat of the files of the CPUs, in their order
  harken trace-cmd restore -c [-o HEAD] [-t DIRECTORY] [-k FILE]   trace-partial.dat: what only the traced machine knows

   -i HEAD       of restore -c on the traced machine; without it this machine's is taken
   -t DIRECTORY  a copy of the traced machine's tracefs
   -k FILE       a copy of its /proc/kallsyms
"""


def run(argv: list[str]) -> int:
    """Runs the command; returns the exit status."""
    pairs, files = parse(argv, "co:i:t:k:h", ("help",))
    values = dict(pairs)
    if "h" in values or "help" in values:
        print(USAGE, end="")
        return 0
    output = values.get("o", "trace-partial.dat" if "c" in values else "trace.dat")
    if "c" in values and files:
        raise UsageError("-c makes a head only, and takes no files of pages")
    if "c" not in values and not files:
        raise UsageError("no files of pages", "name the trace.dat.cpuN files in the order of their CPUs")
    if "i" in values:
        with open_trace(values["i"]) as trace:
            parts = Parts.of(trace)
            clock = trace.clock or "local"
    else:
        parts, clock = _live(values.get("t", ""), values.get("k", ""))
    sources = []
    for cpu, path in enumerate(files):
        size = os.stat(path).st_size // parts.page_size * parts.page_size
        if size:
            sources.append(CpuSource(cpu, size, _pages(path, size)))
    fd = os.open(output, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        parts = parts.replace(cpus=max(parts.cpus if not files else 0, len(files)))
        # trace-cmd restores into version 6, which also the oldest readers know
        with naming(output):
            places = write_trace(fd, parts, [BufferSource("", clock, parts.page_size, tuple(sources))], 6)
    finally:
        os.close(fd)
    for _, cpu, offset, _, size in places if files else ():
        print(f"CPU{cpu} data recorded at offset=0x{offset:x}\n    {size} bytes in size", file=sys.stderr)
    return 0


def _pages(path: str, size: int) -> Callable[[], Iterator[bytes]]:
    def read() -> Iterator[bytes]:
        left = size
        with open(path, "rb") as stream:
            while left > 0 and (data := stream.read(min(1 << 20, left))):
                left -= len(data)
                yield data

    return read


def _live(directory: str, kallsyms: str) -> tuple[Parts, str]:
    """The head of this machine, or that of a copy of a tracefs."""
    from ...kernel.kernel import live
    from ...kernel.tracefs import Tracefs
    from ...session.recorder_ftrace_parts import collect
    from .setup import open_tracefs

    root = Tracefs(live(), directory.rstrip("/")) if directory else open_tracefs()
    parts = collect(root)
    if kallsyms:
        with open(kallsyms, "rb") as stream:
            parts = parts.replace(kallsyms=stream.read(64 << 20))
    clocks = root.clocks()[1] if root.exists("trace_clock") else "local"
    return parts, clocks or "local"
