"""Records ftrace's ring buffers: raw pages, spliced from the kernel into a ``trace.dat`` without passing through Python.

``Recorder`` takes the pages of any number of buffers.  It records into a file that is a valid recording at every moment
(``formats.trace_dat_growing.Growing``); ``finish`` adds what is in part-filled pages, names of tasks and statistics, and writes the file in
its final form.  Each CPU has a thread, which waits in the kernel and is let run before others (``kernel.ftrace_splice``): a small buffer is
full again within a millisecond.
"""

from __future__ import annotations

import os
import time

from ..base.errors import KernelError
from ..base.record import Record
from ..formats import trace_dat_layout as layout
from ..formats.trace_dat_growing import Growing
from ..formats.trace_dat_parts import Parts
from ..kernel.ftrace_splice import PageStream, favour
from .recorder_ftrace_parts import kernel_symbols, merged_cmdlines, saved_cmdlines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..kernel.ftrace import Ftrace
    from ..kernel.kernel import Kernel

__all__ = ("Recorder", "Outcome", "CpuOutcome", "parse_stats")

_CHUNK = 1 << 18  # bytes of pages that are read at a time; the largest page is of 64 KB
_NAMES = 0.8  # seconds between two looks at the names of tasks, of which the kernel keeps few
_SHORT = 0.5  # seconds that a recording of few events lasts without threads that move pages


class CpuOutcome(Record):
    """What was recorded of a CPU: ``size`` bytes of pages, stored as ``stored`` bytes at ``offset``.

    ``overrun`` events were overwritten before they were read, ``dropped`` ones found no room.
    """

    buffer: str
    cpu: int
    offset: int
    stored: int
    size: int
    overrun: int = 0
    dropped: int = 0


class Outcome(Record):
    """The recording: ``cpus`` in the file's order."""

    path: str
    compressed: bool
    cpus: tuple[CpuOutcome, ...]

    @property
    def lost(self) -> int:
        return sum(cpu.overrun + cpu.dropped for cpu in self.cpus)


def parse_stats(text: str) -> dict[str, int]:
    """The numbers of ``per_cpu/cpuN/stats``.

    Example:
        >>> parse_stats("entries: 12\\noverrun: 3\\noldest event ts:  5.1\\ndropped events: 0\\n")
        {'entries': 12, 'overrun': 3, 'dropped events': 0}
    """
    found = {}
    for line in text.split("\n"):
        name, colon, value = line.partition(":")
        value = value.strip()
        if colon and value.isdigit():
            found[name.strip()] = int(value)
    return found


class Recorder:
    """Records buffers into a file.

    Args:
        path: the file, which is replaced.
        parts: everything but the records (``recorder_ftrace_parts.collect``).
        buffers: (name in the file, buffer); "" is the top one.
        temp: directory for the file while it grows; beside the final one if empty.
        keep: bytes of each CPU that are kept, the last ones (about as many more may be); 0 for all.
        file: what is read of each CPU ("snapshot_raw" for the snapshot).
        others: records of other kinds than the events' may be among them (``recorder_ftrace_markers``), which need the kernel's symbols.

    Raises:
        KernelError: a buffer cannot be read.
        OSError: the file cannot be written.
    """

    def __init__(
        self,
        path: str,
        parts: Parts,
        buffers: Sequence[tuple[str, Ftrace]],
        temp: str = "",
        keep: int = 0,
        file: str = "trace_pipe_raw",
        others: bool = False,
    ) -> None:
        self.path = path
        self._keep = keep
        self._others = others and not parts.kallsyms
        self._top = -1
        self.parts = parts
        self.buffers = tuple(buffers)
        self.kernel: Kernel = buffers[0][1].kernel
        self._cmdlines = parts.cmdlines
        self.stopped = False
        self._failed: BaseException | None = None
        self._streams: list[PageStream] = []
        self._threads = 0
        self._late = 0
        self._ending: tuple[int, int] | tuple[()] = ()
        self._growing_path = f"{temp.rstrip('/')}/{os.path.basename(path)}" if temp else path
        self._fd = os.open(self._growing_path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            tables = [(name, trace.clock, trace.page_size, trace.cpus) for name, trace in buffers]
            self._growing = Growing(self._fd, parts, tables, self._comm_room())
            for name, trace in buffers:
                for cpu in trace.cpus:
                    place, table = self._growing.places[name, cpu], self._growing.tables[name, cpu]
                    self._streams.append(PageStream(trace, name, cpu, self._fd, place, file, table, keep))
        except BaseException:
            self.close()
            raise

    def _comm_room(self) -> int:
        try:
            size = int(self.buffers[0][1].root.read("saved_cmdlines_size"))
        except (KernelError, ValueError):
            size = 128
        return min(max(4 * 24 * size, 1 << 16), 4 << 20)

    @property
    def raw(self) -> list[int]:
        """Descriptors of the buffers' raw files: whoever has one keeps an instance from being removed."""
        return [stream.fd for stream in self._streams]

    @property
    def size(self) -> int:
        """Bytes recorded so far."""
        return sum(stream.size for stream in self._streams)

    def run(self, done: Callable[[], bool], interval_ms: int = 100, watched: Sequence[int] = ()) -> None:
        """Records until ``done()`` says so, which is asked after every wait.

        Args:
            interval_ms: longest wait.
            watched: descriptors that end a wait when they become readable (a pidfd of the traced command).
        """
        if not self._late:
            self.begin(interval_ms)
        try:
            if self._late and not self._few(done, interval_ms, watched):
                self.begin(self._late)
            saved = time.monotonic()
            while not done() and self._failed is None:
                if not self.kernel.poll(watched, interval_ms) and time.monotonic() - saved >= _NAMES:
                    self._save_comms()
                    saved = time.monotonic()
        finally:
            self._end()
        if self._failed is not None:
            if isinstance(self._failed, OSError) and self._failed.filename is None:
                self._failed.filename = self._growing_path
            raise self._failed

    def _few(self, done: Callable[[], bool], interval_ms: int, watched: Sequence[int]) -> bool:
        """Waits as long as there is next to nothing to move; returns whether the recording is over by then."""
        raw = self.raw
        end = time.monotonic() + _SHORT
        while not done():
            left = end - time.monotonic()
            if left <= 0 or not set(raw).isdisjoint(self.kernel.poll((*watched, *raw), min(int(left * 1000) + 1, interval_ms))):
                return False
        return True

    def begin(self, interval_ms: int = 1000, late: bool = False) -> None:
        """Lets the threads wait for pages; whoever calls it before tracing starts loses nothing while they start.  ``run`` ends them.

        Args:
            interval_ms: how often they look at buffers that are less than half full, for which the kernel does not wake them.  Whoever is
                killed loses what came since the last look; each look takes time from what is recorded.
            late: threads start when a buffer is half full, or after half a second.  To start them is a twentieth of what a short recording
                costs, and takes some milliseconds, in which the other half must not become full.
        """
        if self._ending:
            return
        if self._others and not self._late and all(trace.created and not name for name, trace in self.buffers):
            from .recorder_ftrace_markers import count_of_top

            self._top = count_of_top(self.buffers[0][1].root)
        self.kernel.poll((), 0)  # what it needs is loaded now, not while something is recorded
        if late:
            self._late = interval_ms
            return
        self._late = 0
        from _thread import start_new_thread

        ended, end = self._ending = os.pipe2(os.O_CLOEXEC)
        ready, tell = os.pipe2(os.O_CLOEXEC)
        try:
            for stream in self._streams:
                self._threads += 1
                start_new_thread(self._serve, (stream, interval_ms, ended, tell))
            waiting = self._threads
            while waiting:
                waiting -= len(os.read(ready, waiting))
        finally:
            os.close(ready)
            os.close(tell)

    def _end(self) -> None:
        self.stopped = True
        if self._ending:
            ended, end = self._ending
            os.write(end, b"x")
            while self._threads:
                self.kernel.poll((), 1)
            os.close(ended)
            os.close(end)
            self._ending = ()

    def _serve(self, stream: PageStream, interval_ms: int, ended: int, ready: int) -> None:
        try:
            favour()
            stream.serve(interval_ms, ended, ready)
        except BaseException as error:
            self._failed = error
        finally:
            self._threads -= 1

    def _save_comms(self) -> None:
        """The kernel keeps few names; what is read now and then stays known."""
        text = merged_cmdlines(self._cmdlines, saved_cmdlines(self.buffers[0][1].root))
        if text != self._cmdlines:
            self._cmdlines = text
            self._growing.update_cmdlines(text)

    def finish(self, version: int = 7, compression: str = "none", options: Sequence[tuple[int, bytes]] = ()) -> Outcome:
        """Takes what is left in the buffers and writes the final file.  The buffers must have been stopped.

        Args:
            options: more of them, such as the date's offset.

        Raises:
            OSError: the file cannot be written.
        """
        for stream in self._streams:
            stream.flush()
            gone = max(stream.size - self._keep, 0) // stream.page * stream.page if self._keep else 0
            self._growing.update(stream.name, stream.cpu, stream.size - gone, stream.start + gone)
        self._save_comms()
        stats, losses = self._statistics()
        kallsyms = kernel_symbols(self.kernel) if self._others and self._has_others() else b""
        added = [*stats, *options]
        if version == 7 and compression == "none" and self._growing_path == self.path and not self._keep:
            written = self._growing.finish({(stream.name, stream.cpu): stream.size for stream in self._streams}, added, kallsyms)
        else:
            written = self._rewrite(version, compression, added, kallsyms)
        places = {(name, cpu): (offset, stored, size) for name, cpu, offset, stored, size in written}
        found = []
        for stream in self._streams:
            offset, stored, size = places.get((stream.name, stream.cpu), (0, 0, 0))
            found.append(CpuOutcome(stream.name, stream.cpu, offset, stored, size, *losses[stream.name, stream.cpu]))
        return Outcome(self.path, compression != "none", tuple(found))

    def _has_others(self) -> bool:
        """Whether there are records of other kinds than the events', or too many records to look."""
        from .recorder_ftrace_markers import count_of_top, has_others, most_to_look_through

        if self._top >= 0 and count_of_top(self.buffers[0][1].root) == self._top:
            return False
        if self.size > most_to_look_through():
            return True
        return any(
            has_others(
                self.parts,
                (os.pread(self._fd, min(_CHUNK, stream.size - at), stream.start + at) for at in range(0, stream.size, _CHUNK)),
                stream.page,
            )
            for stream in self._streams
        )

    def _rewrite(
        self, version: int, compression: str, options: list[tuple[int, bytes]], kallsyms: bytes
    ) -> list[tuple[str, int, int, int, int]]:
        """Writes the final file from the growing one, and puts it into its place."""
        from ..formats.trace_dat import open_trace
        from ..formats.trace_dat_parts import sources_of
        from ..formats.trace_dat_writer import write_trace

        parts = self.parts.replace(cmdlines=self._cmdlines, options=(*self.parts.options, *options))
        if kallsyms:
            parts = parts.replace(kallsyms=kallsyms)
        target = f"{self.path}.new"
        fd = os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            with open_trace(self._growing_path) as grown:
                sources = [sources_of(grown, buffer.name) for buffer in grown.buffers]
                written = write_trace(fd, parts, sources, version, compression)
        except BaseException:
            os.unlink(target)
            raise
        finally:
            os.close(fd)
        os.rename(target, self.path)
        if self._growing_path != self.path:
            os.unlink(self._growing_path)
        return written

    def _statistics(self) -> tuple[list[tuple[int, bytes]], dict[tuple[str, int], tuple[int, int]]]:
        """CPUSTAT options and (overrun, dropped) of each CPU."""
        options, losses = [], {}
        for name, trace in self.buffers:
            if name:
                options.append((layout.CPUSTAT, f"\nBuffer: {name}\n\n\0".encode()))
            for cpu in trace.cpus:
                try:
                    text = trace.stats(cpu)
                except KernelError:
                    text = ""
                numbers = parse_stats(text)
                losses[name, cpu] = numbers.get("overrun", 0), numbers.get("dropped events", 0)
                options.append((layout.CPUSTAT, f"CPU: {cpu}\n{text}".encode() + b"\0"))
        return options, losses

    def close(self) -> None:
        """Closes all descriptors; the file stays as it is."""
        self._end()
        for stream in self._streams:
            stream.close()
        self._streams = []
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_details: object) -> None:
        self.close()
