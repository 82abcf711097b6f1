"""``trace-cmd split``: parts of a recording as files of their own.

    split -i FILE -o OUT [-s N|-m N|-u N|-e N|-p N] [-r] [-c] [-C CPU] [--top [-b NAME]] [-B BUFFER [-t]] ... [START [END]]

Without ``-r`` there is one part, ``OUT.1``; with it the whole recording is cut into ``OUT.0001``, ``OUT.0002``, ...  START and END are
times in seconds.  ``-c`` counts events or time of each CPU by itself, so that CPUs with few of them are in the first parts only; pages
always are counted so.  Records are packed anew: a part holds just what belongs to it, in full pages.
"""

from __future__ import annotations

import os

from ...base.errors import UsageError
from ...formats.trace_dat import open_trace
from ...formats.trace_dat_pages import PageBuilder
from ...formats.trace_dat_parts import BufferSource, CpuSource, Parts
from ...formats.trace_dat_writer import write_trace
from .arguments import number, parse
from .naming import naming

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from ...formats.trace_dat import TraceFile

    #: (buffer, CPU), time, payload
    Row = tuple[tuple[str, int], int, bytes]

__all__ = ("run",)

USAGE = """\
usage:
  harken trace-cmd split [-i FILE] [-o OUT] [OPTIONS] [START [END]]

   -s N, -m N, -u N  a part is so many seconds, milliseconds, microseconds
   -e N, -p N        so many events, so many pages of each CPU
   -r                parts up to the end: OUT.0001, OUT.0002, ... instead of OUT.1
   -c                count the events or the time of each CPU by itself
   -C CPU            only this CPU
   -B BUFFER         only this buffer (several); -t behind it: it becomes the top buffer
   --top             the top buffer (beside those of -B); -b NAME behind it: it gets this name
   START, END        from and to these times, in seconds as 'report' shows them
"""

_UNITS = {"s": 1000000000, "m": 1000000, "u": 1000}


class _Wish:
    """What a part is: at most ``count`` events or pages, or ``span`` nanoseconds."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self.span = self.events = self.pages = 0
        self.repeat = self.per_cpu = False
        for name, value in pairs:
            if name in _UNITS:
                self.span = _positive(name, value) * _UNITS[name]
            elif name == "e":
                self.events = _positive(name, value)
            elif name == "p":
                self.pages = _positive(name, value)
                self.per_cpu = True
            elif name == "r":
                self.repeat = True
            elif name == "c":
                self.per_cpu = True
        if sum(map(bool, (self.span, self.events, self.pages))) > 1:
            raise UsageError("one of -s, -m, -u, -e and -p")


def _positive(name: str, value: str) -> int:
    found = number(value, f"-{name}")
    if found <= 0:
        raise UsageError(f"-{name}: a part of {found} is not possible")
    return found


class _Part:
    """A part that is being filled: streams are (buffer, CPU); ``start``: the time from which on it counts, if not from its first record."""

    def __init__(self, wish: _Wish, trace: TraceFile, start: int | None = None) -> None:
        self.wish, self.trace, self.start = wish, trace, start
        self.firsts: dict[tuple[str, int] | None, int] = {}
        self.builders: dict[tuple[str, int], PageBuilder] = {}
        self.counts: dict[tuple[str, int], int] = {}
        self.total = 0

    def takes(self, stream: tuple[str, int], time: int, payload: bytes) -> bool:
        """Whether a record still belongs to the part."""
        wish = self.wish
        if wish.span:
            return time <= self.firsts.get(stream if wish.per_cpu else None, time) + wish.span
        if wish.events:
            return (self.counts.get(stream, 0) if wish.per_cpu else self.total) < wish.events
        if wish.pages:
            builder = self.builders.get(stream)
            return builder is None or builder.count < wish.pages or not builder.begins_page(time, payload)
        return True

    def add(self, stream: tuple[str, int], time: int, payload: bytes) -> None:
        self.firsts.setdefault(stream if self.wish.per_cpu else None, time if self.start is None else self.start)
        builder = self.builders.get(stream)
        if builder is None:
            place = self.trace.buffer(stream[0])
            size = place.page_size if place is not None else self.trace.page_size
            builder = self.builders[stream] = PageBuilder(size, self.trace.order, self.trace.kernel_long)
        builder.add(time, payload)
        self.counts[stream] = self.counts.get(stream, 0) + 1
        self.total += 1

    def write(self, path: str, parts: Parts, names: dict[str, str]) -> None:
        """Writes the file; ``names`` has the name that each buffer gets."""
        sources = []
        for name, shown in names.items():
            place = self.trace.buffer(name)
            if place is None:
                continue
            cpus = [CpuSource(cpu, len(pages) * place.page_size, _iterate(pages)) for cpu, pages in self._pages(name)]
            sources.append(BufferSource(shown, place.clock, place.page_size, tuple(cpus)))
        compression = self.trace.compression[0] or "none"
        if compression != "none":
            from ...formats.trace_dat_compress import codec

            compression = compression if codec(compression).writes else "none"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            with naming(path):
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
    pairs, times = parse(argv, "hi:o:s:m:u:e:p:rcC:B:tb:", ("help", "top"))
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
        chosen = _buffers(pairs)
        names = chosen or {buffer.name: buffer.name for buffer in trace.buffers}
        parts = Parts.of(trace)
        for name in chosen:
            if trace.buffer(name) is None:
                raise UsageError(f"the recording has no buffer {name!r}")
        within = (row for row in _records(trace, names, cpu) if (start is None or row[1] >= start) and (end is None or row[1] <= end))
        made = 0
        for part in (_by_cpu if wish.per_cpu else _by_time)(within, wish, trace, start):
            made += 1
            part.write(f"{output}.{made:04}" if wish.repeat else f"{output}.1", parts, names)
        if not made:
            raise UsageError("no record lies in this part of the recording")
    return 0


def _buffers(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """The buffers that are chosen, with the names that they get; empty: all, with their own.

    Example:
        >>> _buffers([("top", ""), ("b", "main"), ("B", "irqs"), ("t", "")])
        {'': 'main', 'irqs': ''}

    Raises:
        UsageError: ``-b`` without a buffer to name, or two buffers of one name.
    """
    names: dict[str, str] = {}
    last = ""
    for option, value in pairs:
        if option == "B" or option == "top" or (option == "t" and not names):
            last = value
            names[last] = value
        elif option == "t":
            names[last] = ""
        elif option == "b":
            if last or "" not in names:
                raise UsageError("-b names the top buffer, and stands behind --top")
            names[""] = value
    if len(set(names.values())) < len(names):
        raise UsageError("two buffers would have the same name", "--top -b NAME gives the top buffer another one")
    return names


def _by_time(rows: Iterator[Row], wish: _Wish, trace: TraceFile, start: int | None) -> Iterator[_Part]:
    """Parts of which each has what lies behind the one before, whatever the CPU."""
    part: _Part | None = None
    for stream, time, payload in rows:
        if part is None:
            part = _Part(wish, trace, start)
        if not part.takes(stream, time, payload):
            if not wish.repeat:
                break
            yield part
            part = _Part(wish, trace)
        part.add(stream, time, payload)
    if part is not None:
        yield part


def _by_cpu(rows: Iterator[Row], wish: _Wish, trace: TraceFile, start: int | None) -> Iterator[_Part]:
    """Parts of which each has as much of every CPU: how far a CPU is in them has nothing to do with the others."""
    found: list[_Part] = []
    current: dict[tuple[str, int], int] = {}
    for stream, time, payload in rows:
        at = current.setdefault(stream, 0)
        if at < len(found) and not found[at].takes(stream, time, payload):
            if not wish.repeat:
                continue
            at = current[stream] = at + 1
        if at == len(found):
            found.append(_Part(wish, trace, None if found else start))
        found[at].add(stream, time, payload)
    yield from found


def _nanoseconds(text: str) -> int:
    whole, _, fraction = text.partition(".")
    if not whole.isdigit() or (fraction and not fraction.isdigit()):
        raise UsageError(f"{text!r} is not a time in seconds")
    return int(whole) * 1000000000 + int(fraction[:9].ljust(9, "0"))


def _records(trace: TraceFile, names: dict[str, str], cpu: int | None) -> Iterator[Row]:
    """All records in the order of time."""
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
