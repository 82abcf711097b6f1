"""Tracers that keep the worst case only (wakeup, irqsoff, ...): their recording is the text of the ``trace`` file, not pages.

Such a tracer swaps its buffer with a second one whenever it saw a longer latency; the ``trace`` file shows that second buffer, with the
task, where it was held up and for how long.  trace-cmd stores this text (``latency`` in version 6 of the file, BUFFER_TEXT in version
7), and its report prints it as it is.
"""

from __future__ import annotations

import os
import sys

from ...base.errors import UsageError
from ...formats.trace_dat_parts import BufferSource
from ...formats.trace_dat_writer import write_trace
from ...kernel.ftrace_tracers import LATENCY_TRACERS
from .naming import naming

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...kernel.ftrace import Ftrace
    from ...kernel.tracefs import Tracefs
    from .record_options import Setup
    from .running import Running

__all__ = ("check_worst_case", "is_worst_case", "record_worst_case", "write_text")

_LIMIT = 256 << 20


def is_worst_case(setup: Setup) -> bool:
    """Whether a command line asks for a tracer of this kind."""
    return any(buffer.tracer in LATENCY_TRACERS for buffer in setup.buffers)


def check_worst_case(setup: Setup, what: str = "") -> None:
    """Refuses what cannot be done with such a tracer.

    Args:
        what: "" for recording into a file, else why pages would be needed ("streaming").

    Raises:
        UsageError: the tracer and the reason.
    """
    names = [buffer.tracer for buffer in setup.buffers if buffer.tracer in LATENCY_TRACERS]
    if not names:
        return
    if what:
        raise UsageError(
            f"{what} is not possible with the tracer {names[0]!r}, which keeps the longest latency only",
            f"'harken trace-cmd start -p {names[0]}', then 'stop' and 'show'; or record into a file",
        )
    if sum(not buffer.empty for buffer in setup.buffers) > 1:
        raise UsageError(
            f"the tracer {names[0]!r} cannot be recorded together with other buffers",
            "its recording is the text of the longest latency, not pages of records",
        )


def record_worst_case(running: Running) -> int:
    """Traces until the end and writes the text; returns its size in bytes."""
    buffers = running.buffers
    try:
        running.start()
        while not running.over:
            running.root.kernel.poll(running.watched, running.patience_ms)
    finally:
        buffers.stop()
    return write_text(running.root, running.setup, buffers.traced[0][1], not running.setup.keep)


def write_text(root: Tracefs, setup: Setup, trace: Ftrace, release: bool = False) -> int:
    """Writes a recording that has the ``trace`` file of a buffer as it is now; returns the text's size in bytes.

    Args:
        release: whether the tracer may be switched off once the text is read.
    """
    from ...session.recorder_ftrace_parts import collect
    from .record import choose_compression, extra_options

    choose_compression(setup)
    text = trace.tracefs.read("trace", _LIMIT).encode("utf-8", "surrogateescape")
    if release:
        trace.set("current_tracer", "nop")  # it watches every function; reading all formats below would take long
    parts = collect(root, None, extra_options(setup), trace.tracefs)
    fd = os.open(setup.output, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        with naming(setup.output):
            write_trace(fd, parts, [BufferSource("", trace.clock, trace.page_size, text=text)], setup.version, setup.compression)
    finally:
        os.close(fd)
    if not setup.quiet:
        print(f"{len(text)} bytes of text in {setup.output}", file=sys.stderr)
        if not any(line and line[0] != "#" for line in text.decode("utf-8", "replace").split("\n")):
            print("HINT: there was no latency to keep: nothing of the kind that this tracer watches happened", file=sys.stderr)
    return len(text)
