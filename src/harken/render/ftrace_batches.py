"""Records of several CPUs in batches that can be put out one after the other."""

from __future__ import annotations

from ..base.record import Record
from ..formats.ring_page import Layout, Records, numpy_or_none, walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

__all__ = ("Batch", "Group", "Item", "part", "windows", "with_numpy")


class Item(Record):
    """One record for a ``Special``: where it was recorded, when, its payload; flags << 8 | preempt count."""

    cpu: int
    time: int
    pid: int
    payload: bytes
    flags: int = 0


class Batch(Record):
    """Records of one CPU: what was read (``bytes``) and what was found in it."""

    cpu: int
    buffer: bytes
    records: Records


class Group(Record):
    """Records of one event and CPU: their places among the lines, and in the buffer."""

    kind: int
    batch: Batch
    where: Any
    starts: Any
    sizes: Any
    times: Any
    shortest: int


def windows(
    streams: Sequence[tuple[int, Iterable[Any]]], page_size: int, layout: Layout | None = None, numpy: Any = True
) -> Iterator[list[Batch]]:
    """Batches of all CPUs that can be put out one after the other: no record of a later batch is earlier than one of an earlier batch.

    Args:
        streams: (cpu, buffers of whole pages in the order of recording), as ``TraceFile.chunks`` gives them.
    """
    waiting: dict[int, Batch] = {}
    sources = {cpu: iter(chunks) for cpu, chunks in streams}
    ends: dict[int, int] = {}
    rooms: list[Any] = []

    def fill(cpu: int) -> None:
        for chunk in sources[cpu]:
            data = bytes(chunk)
            records = walk(data, page_size, layout, None if numpy is True else numpy, rooms)
            if len(records):
                waiting[cpu] = Batch(cpu, data, records)
                ends[cpu] = _latest(records.times)
                return
        del sources[cpu]

    for cpu in list(sources):
        fill(cpu)
    while waiting:
        open_ends = [ends[cpu] for cpu in waiting if cpu in sources]
        horizon = min(open_ends) if open_ends else None
        ready: list[Batch] = []
        for cpu in sorted(waiting):
            batch = waiting[cpu]
            cut = len(batch.records) if horizon is None else _until(batch.records.times, horizon)
            if cut:
                ready.append(batch if cut == len(batch.records) else Batch(cpu, batch.buffer, part(batch.records, 0, cut)))
            if cut == len(batch.records):
                del waiting[cpu]
                if cpu in sources:
                    fill(cpu)
            elif cut:
                waiting[cpu] = Batch(cpu, batch.buffer, part(batch.records, cut, len(batch.records)))
        if ready:
            yield ready


def _latest(times: Any) -> int:
    if isinstance(times, memoryview):
        from ..native.ring import latest

        return latest(times)
    return int(times.max() if hasattr(times, "dtype") else max(times))


def _until(times: Any, horizon: int) -> int:
    """The number of records that come before the first one later than ``horizon``.  Times may step back, in damaged files by any amount."""
    if hasattr(times, "dtype"):
        late = times > horizon
        return int(late.argmax()) if late.any() else len(times)
    if isinstance(times, memoryview):
        from ..native.ring import until

        return until(times, horizon)
    return next((index for index, time in enumerate(times) if time > horizon), len(times))


def part(records: Records, start: int, stop: int) -> Records:
    """The records from ``start`` to before ``stop``."""
    # marks in front of a part's first record are its own; those behind the last record belong to the next part
    lost = tuple([(at - start, number) for at, number in records.lost if start <= at < stop or (at == stop == len(records))])
    cut = slice(start, stop)
    return Records(records.times[cut], records.starts[cut], records.sizes[cut], records.types[cut], lost)


def with_numpy(batches: Sequence[Batch]) -> Sequence[Batch]:
    """Batches whose records were found by the accelerator, as numpy arrays where numpy is installed; others as they are."""
    if not any(isinstance(batch.records.times, memoryview) for batch in batches):
        return batches
    np = numpy_or_none()
    return batches if np is None else [Batch(batch.cpu, batch.buffer, batch.records.arrays(np)) for batch in batches]
