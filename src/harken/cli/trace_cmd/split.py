"""``trace-cmd split``: parts of a recording as files of their own.

    split -i FILE -o OUT [-s N|-m N|-u N|-e N|-p N] [-r] [-c] [-C CPU] [-B BUFFER] [START [END]]

Without ``-r`` there is one part, ``OUT.1``; with it the whole recording is cut into ``OUT.0001``, ``OUT.0002``, ...  START and END are
times in seconds.  ``-c`` counts events or pages of each CPU by itself.  Records are packed anew, so a part holds just what belongs to
it.
"""

from __future__ import annotations

import os

from ...base.errors import UsageError
from ...formats.trace_dat import open_trace
from ...formats.trace_dat_pages import PageBuilder
from ...formats.trace_dat_parts import BufferSource, CpuSource, Parts
from ...formats.trace_dat_writer import write_trace
from .arguments import number, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from ...formats.trace_dat import TraceFile

__all__ = ("run",)

USAGE = """\
usage:
  harken trace-cmd split [-i FILE] -o OUT [-s N|-m N|-u N|-e N|-p N] [-r] [-c] [-C CPU] [-B BUFFER ...] [START [END]]

   -s N seconds  -m N milliseconds  -u N microseconds  -e N events  -p N pages
   -r repeat to the end   -c count per CPU   -C only this CPU   -B only this buffer
"""

_UNITS = {"s": 1000000000, "m": 1000000, "u": 1000}


class _Wish:
    """What a part is: at most ``count`` events or pages, or ``span`` nanoseconds."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self.span = self.events = self.pages = 0
        self.repeat = self.per_cpu = False
        for name, value in pairs:
            if name in _UNITS:
                self.span = number(value, f"-{name}") * _UNITS[name]
            elif name == "e":
                self.events = number(value, "-e")
            elif name == "p":
                self.pages = number(value, "-p")
            elif name == "r":
                self.repeat = True
            elif name == "c":
                self.per_cpu = True
        if sum(map(bool, (self.span, self.events, self.pages))) > 1:
            raise UsageError("one of -s, -m, -u, -e and -p")
        if self.repeat and not (self.span or self.events or self.pages):
            raise UsageError("-r needs the size of a part: -s, -m, -u, -e or -p")


class _Part:
    """A part that is being filled: streams are (buffer, CPU)."""

    def __init__(self, wish: _Wish, trace: TraceFile, first: int) -> None:
        self.wish, self.trace, self.first = wish, trace, first
        self.builders: dict[tuple[str, int], PageBuilder] = {}
        self.counts: dict[tuple[str, int], int] = {}
        self.total = 0

    def takes(self, stream: tuple[str, int], time: int) -> bool:
        """Whether a record still belongs to the part."""
        wish = self.wish
        if wish.span:
            return time < self.first + wish.span
        if wish.events:
            return (self.counts.get(stream, 0) if wish.per_cpu else self.total) < wish.events
        if wish.pages:
            pages = self.builders[stream].count if wish.per_cpu and stream in self.builders else 0
            if not wish.per_cpu:
                pages = sum(builder.count for builder in self.builders.values())
            return pages <= wish.pages
        return True

    def add(self, stream: tuple[str, int], time: int, payload: bytes) -> None:
        builder = self.builders.get(stream)
        if builder is None:
            place = self.trace.buffer(stream[0])
            size = place.page_size if place is not None else self.trace.page_size
            builder = self.builders[stream] = PageBuilder(size, self.trace.order, self.trace.kernel_long)
        builder.add(time, payload)
        self.counts[stream] = self.counts.get(stream, 0) + 1
        self.total += 1

    def write(self, path: str, parts: Parts, names: list[str]) -> None:
        sources = []
        for name in names:
            place = self.trace.buffer(name)
            if place is None:
                continue
            cpus = [CpuSource(cpu, len(pages) * place.page_size, _iterate(pages)) for cpu, pages in self._pages(name)]
            sources.append(BufferSource(name, place.clock, place.page_size, tuple(cpus)))
        compression = self.trace.compression[0] or "none"
        if compression != "none":
            from ...formats.trace_dat_compress import codec

            compression = compression if codec(compression).writes else "none"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            write_trace(fd, parts, sources, self.trace.version, compression)
        finally:
            os.close(fd)

    def _pages(self, name: str) -> Iterator[tuple[int, list[bytes]]]:
        for (buffer, cpu), builder in sorted(self.builders.items()):
            if buffer == name:
                yield cpu, builder.finish()


def _iterate(pages: list[bytes]) -> Callable[[], Any]:
    return lambda: pages


def run(argv: list[str]) -> int:
    """Runs the command; returns the exit status."""
    pairs, times = parse(argv, "hi:o:s:m:u:e:p:rcC:B:t", ("help", "top"))
    values = dict(pairs)
    if "h" in values or "help" in values:
        print(USAGE, end="")
        return 0
    wish = _Wish(pairs)
    if len(times) > 2:
        raise UsageError("START and END are all the times there are")
    start, end = (_nanoseconds(times[at]) if at < len(times) else None for at in (0, 1))
    source = values.get("i", "trace.dat")
    output = values.get("o", source)
    cpu = number(values["C"], "-C") if "C" in values else None
    with open_trace(source) as trace:
        chosen = [value for name, value in pairs if name == "B"]
        if "t" in values or "top" in values:
            chosen.insert(0, "")
        names = chosen or [buffer.name for buffer in trace.buffers]
        parts = Parts.of(trace)
        part: _Part | None = None
        written = 0
        for stream, time, payload in _records(trace, names, cpu):
            if (start is not None and time < start) or (end is not None and time > end):
                continue
            if part is None:
                part = _Part(wish, trace, start if start is not None else time)
            if not part.takes(stream, time):
                if not wish.repeat:
                    if wish.per_cpu:
                        continue
                    break
                written += 1
                part.write(f"{output}.{written:04}", parts, names)
                first = part.first + wish.span * ((time - part.first) // wish.span) if wish.span else time
                part = _Part(wish, trace, first)
            part.add(stream, time, payload)
        if part is None:
            raise UsageError("no record lies in this part of the recording")
        part.write(f"{output}.{written + 1:04}" if wish.repeat else f"{output}.1", parts, names)
    return 0


def _nanoseconds(text: str) -> int:
    whole, _, fraction = text.partition(".")
    if not whole.isdigit() or (fraction and not fraction.isdigit()):
        raise UsageError(f"{text!r} is not a time in seconds")
    return int(whole) * 1000000000 + int(fraction[:9].ljust(9, "0"))


def _records(trace: TraceFile, names: list[str], cpu: int | None) -> Iterator[tuple[tuple[str, int], int, bytes]]:
    """((buffer, CPU), time, payload) of all records in the order of time."""
    from ...analysis.merge import merge
    from .report import batches_of

    streams = [(buffer.name, place.cpu) for buffer in trace.buffers for place in buffer.cpus]
    number_of = {stream: index for index, stream in enumerate(streams)}
    problems: list[str] = []
    wanted = frozenset((cpu,)) if cpu is not None else None
    for window in batches_of(trace, wanted, number_of, problems):
        batches = [batch for batch in window if streams[batch.cpu][0] in names]
        order, index = merge([batch.records.times for batch in batches])
        for which, at in zip(order, index):
            batch = batches[which]
            start, size = int(batch.records.starts[at]), int(batch.records.sizes[at])
            yield streams[batch.cpu], int(batch.records.times[at]), batch.buffer[start : start + size]
