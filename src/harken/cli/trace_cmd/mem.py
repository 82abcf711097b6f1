"""``trace-cmd mem``: who allocated how much memory, from a recording of the kmem events.

    trace-cmd record -e 'kmem:kmalloc*' -e kmem:kfree -e 'kmem:kmem_cache_*' COMMAND
    trace-cmd mem

Waste is what was allocated beyond what was asked for.  Allocations made before the recording are not known when they are freed.
"""

from __future__ import annotations

import sys

from ...base.errors import FormatError, UsageError
from ...formats.event_records import columns
from ...formats.trace_dat import TraceFile
from .arguments import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("run", "Site", "account")

_ALLOCATING = frozenset("kmalloc kmalloc_node kmem_cache_alloc kmem_cache_alloc_node".split())
_FREEING = frozenset("kfree kmem_cache_free".split())


class Site:
    """What one function has allocated, in bytes: now, in all, and at most at one time."""

    __slots__ = ("allocated", "requested", "total_allocated", "total_requested", "most_allocated", "most_requested")

    def __init__(self) -> None:
        self.allocated = self.requested = self.total_allocated = self.total_requested = 0
        self.most_allocated = self.most_requested = 0

    @property
    def wasted(self) -> int:
        return self.allocated - self.requested

    @property
    def most_wasted(self) -> int:
        """As trace-cmd has it: of the two highest values, whenever each of them was reached."""
        return self.most_allocated - self.most_requested

    def add(self, requested: int, allocated: int) -> None:
        self.allocated += allocated
        self.requested += requested
        self.total_allocated += allocated
        self.total_requested += requested
        self.most_allocated = max(self.most_allocated, self.allocated)
        self.most_requested = max(self.most_requested, self.requested)

    def free(self, requested: int, allocated: int) -> None:
        self.allocated -= allocated
        self.requested -= requested


def run(argv: list[str]) -> int:
    """Runs the command; returns the exit status."""
    pairs, rest = parse(argv, "i:h", ("help", "verbose?"))
    values = dict(pairs)
    if "h" in values or "help" in values:
        print(
            "usage:\n  harken trace-cmd mem [-i FILE] [FILE]\n\n   of a recording with -e kmem:kmalloc -e kmem:kfree -e 'kmem:kmem_cache_*'"
        )
        return 0
    path = values.get("i") or (rest.pop(0) if rest else "trace.dat")
    if rest:
        raise UsageError(f"mem takes no {rest[0]!r}")
    from .report import open_recording

    with open_recording(path) as trace:
        sites = account(trace)
        print("                Function            \tWaste\tAlloc\treq\t\tTotAlloc     TotReq\t\tMaxAlloc     MaxReq\tMaxWaste")
        print("                --------            \t-----\t-----\t---\t\t--------     ------\t\t--------     ------\t--------")
        for address, site in sorted(sites.items(), key=lambda pair: (-pair[1].wasted, -pair[1].most_wasted, pair[0])):
            name = trace.symbol(address) or f"0x{address:x}"
            total = f"{site.total_allocated:8}   {site.total_requested:8}"
            most = f"{site.most_allocated:8}   {site.most_requested:8}"
            print(f"{name:>32}\t{site.wasted}\t{site.allocated}\t{site.requested}\t\t{total}\t\t{most}\t{site.most_wasted}")
    return 0


def account(trace: TraceFile) -> dict[int, Site]:
    """What each function has allocated, by the address of the function."""
    sites: dict[int, Site] = {}
    live: dict[int, tuple[Site, int, int]] = {}
    seen = False
    for place, call_site, pointer, requested, allocated in _events(trace):
        seen = True
        if place:
            symbol = trace.symbols.find(call_site)
            site = sites.setdefault(symbol[1] if symbol else call_site, Site())
            site.add(requested, allocated)
            live[pointer] = site, requested, allocated
        else:
            owner = live.pop(pointer, None)
            if owner is not None:
                owner[0].free(owner[1], owner[2])
    if not seen:
        print(f"WARNING: {trace.name} has no allocations", file=sys.stderr)
        print("HINT: record the events kmem:kmalloc, kmem:kfree, kmem:kmem_cache_alloc and kmem:kmem_cache_free", file=sys.stderr)
    return sites


def _events(trace: TraceFile) -> Iterator[tuple[bool, int, int, int, int]]:
    """(allocated or freed, caller, pointer, bytes asked for, bytes given) in the order of time."""
    from .report import batches_of

    streams = [(buffer.name, place.cpu) for buffer in trace.buffers for place in buffer.cpus]
    names = {}
    for number in trace.events.ids:
        event = trace.events.get(number)
        if event is not None and event.category == "kmem" and event.name in _ALLOCATING | _FREEING:
            for name in ("ptr",) if event.name in _FREEING else ("ptr", "call_site", "bytes_req", "bytes_alloc"):
                field = event.field(name)
                if field is None or not field.number:
                    raise FormatError(f"event {event.name}", f"no number {name}")
            names[number] = event
    problems: list[str] = []
    for window in batches_of(trace, None, {stream: index for index, stream in enumerate(streams)}, problems):
        rows: list[tuple[int, int, bool, int, int, int, int]] = []
        for batch in window:
            present = {int(kind) for kind in batch.records.types}
            for number in present & set(names):
                event = names[number]
                found = columns(event, batch.buffer, batch.records, trace.order)
                mask = (1 << 64) - 1
                times, pointers = found.times, found["ptr"]
                if event.name in _FREEING:
                    rows += [(int(time), batch.cpu, False, 0, int(pointer) & mask, 0, 0) for time, pointer in zip(times, pointers)]
                    continue
                cells = zip(times, found["call_site"], pointers, found["bytes_req"], found["bytes_alloc"])
                rows += [(int(t), batch.cpu, True, int(s) & mask, int(p) & mask, int(r), int(a)) for t, s, p, r, a in cells]
        rows.sort()
        for _, _, place, site, pointer, requested, allocated in rows:
            yield place, site, pointer, requested, allocated
