"""Records ftrace's ring buffers: raw pages, spliced from the kernel into a ``trace.dat`` without passing through Python.

``Recorder`` takes the pages of any number of buffers.  It records into a file that is a valid recording at every moment
(``formats.trace_dat_growing.Growing``); ``finish`` adds what is in part-filled pages, names of tasks and statistics, and writes the file in
its final form.  One thread serves four CPUs; threads wait in the kernel, so the interpreter's lock does not hold them back.

A splice moves full pages only, so what a reader gets is packed as densely as the kernel wrote it.
"""

from __future__ import annotations

import errno
import os
import sys

from ..base.errors import KernelError
from ..base.record import Record
from ..formats import trace_dat_layout as layout
from ..formats.trace_dat import open_trace
from ..formats.trace_dat_growing import Growing
from ..formats.trace_dat_parts import Parts, sources_of
from ..formats.trace_dat_writer import write_trace
from ..kernel.kernel import Call
from .recorder_ftrace_parts import comm_text, saved_comms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..kernel.ftrace import Ftrace
    from ..kernel.kernel import Kernel

__all__ = ("Recorder", "Outcome", "CpuOutcome", "parse_stats")

_MOVE, _NONBLOCK = 1, 2  # SPLICE_F_* in include/linux/splice.h
_SETPIPE_SZ = 1031  # F_SETPIPE_SZ in include/uapi/linux/fcntl.h
_CPUS_PER_THREAD = 4


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


class _Stream:
    """One CPU's buffer: the raw file, and where its pages go."""

    def __init__(self, kernel: Kernel, trace: Ftrace, name: str, cpu: int, target: int, offset: int, file: str) -> None:
        self.name, self.cpu = name, cpu
        self.kernel = kernel
        self.page = trace.page_size
        file = f"per_cpu/cpu{cpu}/{file}"
        try:
            self.fd = kernel.open(trace.tracefs.path(file), os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise trace.tracefs.refused(file, error, "read") from None
        self.reader, self.writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        size = kernel.call(Call("fcntl", (self.reader, _SETPIPE_SZ, 1 << 20)))
        self.room = size if size > 0 else 1 << 16
        self.target = target
        self.start = offset
        self.size = 0
        self._place = bytearray(8)
        self._kept = 0

    def drain(self) -> bool:
        """Moves all full pages; returns whether there were any."""
        call, moved = self.kernel.call, False
        while True:
            result = call(Call("splice", (self.fd, None, self.writer, None, self.room, _MOVE | _NONBLOCK)))
            if result <= 0:
                if result in (0, -errno.EAGAIN, -errno.EINTR):
                    return moved
                raise KernelError(
                    f"cannot read the buffer of CPU {self.cpu}",
                    call=f"splice(trace_pipe_raw) = {errno.errorcode.get(-result)}",
                    errno=-result,
                )
            moved = True
            self._store(result)

    def _store(self, size: int) -> None:
        while size:
            self._place[:] = (self.start + self.size).to_bytes(8, sys.byteorder)
            result = self.kernel.call(Call("splice", (self.reader, None, self.target, self._place, size, _MOVE)))
            if result == -errno.EINTR:
                continue
            if result <= 0:
                raise OSError(-result or errno.EIO, os.strerror(-result or errno.EIO))
            self.size += result
            size -= result

    def cut(self, keep: int) -> int:
        """Gives back the room of all but the last ``keep`` bytes; returns how many bytes of the region are gone."""
        gone = (self.size - keep) // self.page * self.page
        if gone - self._kept >= max(keep // 4, 1 << 20):
            # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE; a file system without holes keeps what it has
            self.kernel.call(Call("fallocate", (self.target, 3, self.start + self._kept, gone - self._kept)))
            self._kept = gone
        return self._kept

    def flush(self) -> None:
        """Takes the part-filled page as well, filled up with zeros."""
        self.drain()
        while True:
            try:
                data = os.read(self.fd, self.page)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.ENODEV:  # the CPU is gone
                    return
                raise
            if not data:
                return
            os.pwrite(self.target, data.ljust(self.page, b"\0"), self.start + self.size)
            self.size += self.page

    def close(self) -> None:
        for fd in (self.fd, self.reader, self.writer):
            os.close(fd)


class Recorder:
    """Records buffers into a file.

    Args:
        path: the file, which is replaced.
        parts: everything but the records (``recorder_ftrace_parts.collect``).
        buffers: (name in the file, buffer); "" is the top one.
        temp: directory for the file while it grows; beside the final one if empty.
        keep: bytes of each CPU that are kept, the last ones (about as many more may be); 0 for all.
        file: what is read of each CPU ("snapshot_raw" for the snapshot).

    Raises:
        KernelError: a buffer cannot be read.
        OSError: the file cannot be written.
    """

    def __init__(
        self, path: str, parts: Parts, buffers: Sequence[tuple[str, Ftrace]], temp: str = "", keep: int = 0, file: str = "trace_pipe_raw"
    ) -> None:
        self.path = path
        self._keep = keep
        self.parts = parts
        self.buffers = tuple(buffers)
        self.kernel: Kernel = buffers[0][1].kernel
        self.comms = saved_comms(buffers[0][1].root)
        self.stopped = False
        self._failed: BaseException | None = None
        self._streams: list[_Stream] = []
        self._threads = 0
        self._growing_path = f"{temp.rstrip('/')}/{os.path.basename(path)}" if temp else path
        self._fd = os.open(self._growing_path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            tables = [(name, trace.clock, trace.page_size, trace.cpus) for name, trace in buffers]
            self._growing = Growing(self._fd, parts, tables, self._comm_room())
            for name, trace in buffers:
                for cpu in trace.cpus:
                    self._streams.append(_Stream(self.kernel, trace, name, cpu, self._fd, self._growing.places[name, cpu], file))
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
    def size(self) -> int:
        """Bytes recorded so far."""
        return sum(stream.size for stream in self._streams)

    def run(self, done: Callable[[], bool], interval_ms: int = 100, watched: Sequence[int] = ()) -> None:
        """Records until ``done()`` says so; it is asked after every wait, so an interrupt ends a recording in time.

        Args:
            interval_ms: longest wait between two looks at all buffers.
            watched: descriptors that end a wait when they become readable (a pidfd of the traced command).
        """
        groups = [self._streams[at : at + _CPUS_PER_THREAD] for at in range(0, len(self._streams), _CPUS_PER_THREAD)]
        if len(groups) > 1:
            from _thread import start_new_thread

            for group in groups[1:]:
                self._threads += 1
                start_new_thread(self._serve, (group, interval_ms))
        try:
            self._loop(groups[0], done, interval_ms, watched)
        finally:
            self.stopped = True
            while self._threads:
                self.kernel.poll((), 1)
        if self._failed is not None:
            raise self._failed

    def _serve(self, group: list[_Stream], interval_ms: int) -> None:
        try:
            self._loop(group, lambda: self.stopped, interval_ms, ())
        except BaseException as error:
            self._failed = error
        finally:
            self._threads -= 1

    def _loop(self, group: list[_Stream], done: Callable[[], bool], interval_ms: int, watched: Sequence[int]) -> None:
        poll, clock = self.kernel.poll, 0
        fds = [stream.fd for stream in group]
        own = group is not None and bool(self._streams) and group[0] is self._streams[0]
        while not done() and self._failed is None:
            ready = poll([*fds, *watched], interval_ms)
            # The kernel wakes a reader when the buffer is half full (buffer_percent); slow streams are looked at in every interval.
            for stream in group:
                if (not ready or stream.fd in ready) and stream.drain():
                    self._update(stream)
            clock += 1
            if own and not ready and clock % 8 == 0:
                self._save_comms()

    def _update(self, stream: _Stream) -> None:
        gone = stream.cut(self._keep) if self._keep else 0
        self._growing.update(stream.name, stream.cpu, stream.size - gone, stream.start + gone)

    def _save_comms(self) -> None:
        """The kernel keeps few names; what is read now and then stays known."""
        before = len(self.comms)
        self.comms.update(saved_comms(self.buffers[0][1].root))
        if len(self.comms) != before:
            self._growing.update_cmdlines(comm_text(self.comms))

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
        self.comms.update(saved_comms(self.buffers[0][1].root))
        self._growing.update_cmdlines(comm_text(self.comms))
        stats, losses = self._statistics()
        parts = self.parts.replace(cmdlines=comm_text(self.comms), options=(*self.parts.options, *stats, *options))
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
        places = {(name, cpu): (offset, stored, size) for name, cpu, offset, stored, size in written}
        found = []
        for stream in self._streams:
            offset, stored, size = places.get((stream.name, stream.cpu), (0, 0, 0))
            found.append(CpuOutcome(stream.name, stream.cpu, offset, stored, size, *losses[stream.name, stream.cpu]))
        return Outcome(self.path, compression != "none", tuple(found))

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
