"""``perf.data``: recordings of perf, from a file or a pipe, compressed or not, ended or cut off, of either byte order.

``open_perf_data`` (or ``PerfData`` on bytes) knows what was recorded; ``batches`` gives the records in order of time.

    >>> PerfData(b"PK\\3\\4")
    Traceback (most recent call last):
    ...
    harken.base.errors.FormatError: perf.data: not a perf.data file (too short) at byte 0x0

perf writes one ring after the other, so that records of several CPUs are in no order.  Now and then it writes FINISHED_ROUND: all rings
were read once.  What is older than the newest record of the round before can then be handed out: nothing older comes
(tools/perf/util/session.c, process_finished_round).  A whole file in memory is one batch; a longer one, or a pipe, is read in parts.

The parts: ``perf_data_header`` and ``perf_data_features``, ``perf_data_columns`` and ``perf_data_batch`` (records in bulk),
``perf_data_layout`` and ``perf_data_records`` (their contents), ``perf_data_expand`` (compressed ones).

A recording is not trusted.  Nothing is believed to be longer than the file, what is expanded and held back is bounded, and a damaged record
ends what can be read: ``problems`` tells so.
"""

from __future__ import annotations

from struct import error, unpack_from

from ..abi import perf_event as abi
from ..base.errors import FormatError, UsageError
from . import perf_data_features as features
from .perf_data_batch import Batch
from .perf_data_columns import Walk
from .perf_data_features import BuildId, Features
from .perf_data_header import RecordedEvent, read, read_header, read_whole
from .perf_data_records import LostEvent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from .perf_data_expand import Expander
    from .perf_data_layout import SampleLayout
    from .perf_data_records import Other

__all__ = ("PerfData", "open_perf_data")

_WINDOW = 64 << 20
_CHUNK = 4 << 20
#: Most bytes that wait for the end of a round.
_MOST_HELD = 1 << 30
# tools/perf/lib/include/perf/event.h, enum perf_user_event_type
_ATTR, _BUILD_ID, _FINISHED_ROUND, _UPDATE, _FEATURE = 64, 67, 68, 78, 80
_EVENT_DESC = 12
_MOST_PROBLEMS = 100
#: Files up to this size are read, longer ones are mapped.
_READ_WHOLE = 64 << 20
_UPDATE_NAME = 2
_OF_THREADS = frozenset((abi.PERF_RECORD_COMM, abi.PERF_RECORD_EXIT))
_OF_LOSSES = frozenset((abi.PERF_RECORD_LOST, abi.PERF_RECORD_LOST_SAMPLES))
_OF_INTEREST = frozenset(
    (
        abi.PERF_RECORD_MMAP, abi.PERF_RECORD_MMAP2, abi.PERF_RECORD_COMM, abi.PERF_RECORD_FORK, abi.PERF_RECORD_EXIT, abi.PERF_RECORD_LOST,
        abi.PERF_RECORD_LOST_SAMPLES, abi.PERF_RECORD_KSYMBOL,
    )
)  # fmt: skip


class PerfData:
    """A recording.

    Args:
        data: its bytes; of a pipe, what was read of it so far.
        name: what to call it in messages.
        more: for a pipe: gives its next bytes, b"" at the end.

    Attributes:
        events: what was recorded; for a pipe they come with the first batch.
        features: feature sections (``Features``).
        build_ids: files with samples, by build (of the section, or of records).
        order: "<" or ">".
        pipe: whether it was written into a pipe.
        lost: records that did not fit into the rings, and ``lost_samples``, so far.
        problems: what is wrong with it.

    Raises:
        FormatError: it is no recording.
    """

    def __init__(self, data: Any, name: str = "perf.data", more: Callable[[int], bytes] | None = None) -> None:
        self.name, self._more = name, more
        self._data = data
        found, self.features = read_header(data, name, lambda order: Features(order, name))
        self.order, self.pipe, self.events = found.order, found.pipe, found.events
        self.problems: list[str] = found.problems
        self._start, self._end = found.start, found.end
        self.build_ids: list[BuildId] = []
        self.lost = self.lost_samples = 0
        self._owner: Any = None
        self._whole = type(data) is bytes
        self._wanted = _OF_INTEREST
        self._kept = 0
        # records of pipes are not always whole words, and compressed ones neither
        self._expander: Expander | None = None
        if self.pipe or self.features.raw("compressed") is not None:
            from .perf_data_expand import Expander

            self._expander = Expander(name)
        self._layouts: tuple[SampleLayout, ...] = ()
        self._layout_of: list[int] = []
        self._by_id: dict[int, int] = {}
        if not self.pipe:
            if more is not None:
                raise FormatError(name, "a file of perf cannot be read from a pipe", hint="give its path, or record with -o -")
            self.build_ids = self.features.get("build_id") or []
            self._name_events()

    def __enter__(self) -> PerfData:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the file; views into it become invalid."""
        self._data = b""
        if self._owner is not None:
            try:
                self._owner.close()
            except BufferError:  # somebody still holds a view
                pass
            self._owner = None

    @property
    def machine(self) -> str:
        """The machine that was recorded, as ``uname -m`` says it; "" if that is not known."""
        return self.features.get("arch") or ""

    # -- records

    def batches(self, window: int = _WINDOW, threads: bool = True) -> Iterator[Batch]:
        """All records, in order of time.

        Args:
            window: about how many bytes are read at a time.
            threads: with names and ends of threads; they need not be asked for if nobody wants them.

        Raises:
            FormatError: samples that cannot be true, or of events that cannot be told apart.
        """
        held, seen, place, size, last = b"", 0, self._start, window, False
        self._wanted = _OF_INTEREST if threads else _OF_INTEREST - _OF_THREADS
        while not last:
            if not held and not place & 7 and self._whole and self._expander is None and self._end - place <= size:
                last, length = True, self._end - place  # it all lies in memory: nothing is copied
                walk = Walk(self._data, self.order, place, self._end)
                used, problem = walk.end - place, walk.problem
            else:
                block, last = self._take(place, size)
                length = len(block)
                if self._expander is not None:
                    from .perf_data_expand import flatten

                    records, used, problem = flatten(block, self.order, self._expander)
                    walk = Walk(held + records, self.order)
                    problem = problem or walk.problem
                else:
                    walk = Walk(held + block if held else block, self.order)
                    used, problem = walk.end - len(held), walk.problem
            if not used and not last and not problem:  # data that follows a record is longer than the window
                size *= 2
                if size > _MOST_HELD:
                    raise FormatError(self.name, f"a record is followed by more than {_MOST_HELD >> 21} MiB of data", place)
                continue
            if problem:
                self._problem(f"{problem} at byte {place + used:#x}: the rest cannot be read")
                last = True
            elif last and used < length:
                self._problem(f"it ends within a record at byte {place + used:#x}")
            place, size = place + used, window
            self._user_records(walk)
            if not self.events:
                if walk.samples:
                    raise FormatError(self.name, "samples of no event", place)
                continue
            if not self._layouts:
                self._lay_out()
            batch = Batch(walk, self._layouts, self._layout_of, self._by_id)
            places, times = self._others(walk)
            rest: list[int] = []
            if not last and batch.timed:
                limit, seen = self._limits(walk, batch, places, times, seen)
                rest = sorted(batch.cut(limit) + [at for at, time in zip(places, times) if time > limit])
                kept = [(at, time) for at, time in zip(places, times) if time <= limit]
                places, times = walk.numbers("I", [at for at, _ in kept]), walk.numbers("Q", [time for _, time in kept])
            self._add_events(batch, places, times)
            held = b"".join([walk.data[8 * at : 8 * at + walk.size(at)] for at in rest])
            if len(held) > _MOST_HELD:
                raise FormatError(self.name, f"more than {_MOST_HELD >> 20} MiB between two rounds of reading the rings", place)
            if len(batch) or batch.other_count:
                yield batch

    def _take(self, place: int, size: int) -> tuple[bytes, bool]:
        """The next bytes of the recording, and whether they are its last."""
        if not self.pipe:
            end = min(place + size, self._end)
            return bytes(self._data[place:end]), end == self._end
        # of a pipe, what was not used yet is kept: it begins at ``_kept``
        parts = [bytes(self._data[place - self._kept :])]
        have = len(parts[0])
        ended = self._more is None
        while have < size and self._more is not None:
            part = self._more(min(_CHUNK, size))
            if not part:
                ended = True
                break
            parts.append(part)
            have += len(part)
        self._data, self._kept = b"".join(parts), place
        return self._data, ended

    def _others(self, walk: Walk) -> tuple[Any, Any]:
        """Places and times of the records that matter and are no samples, as they are recorded."""
        reader = self._layouts[0].records
        return walk.select(self._wanted, False, reader.back, 1 + reader.trailer // 8)

    def _limits(self, walk: Walk, batch: Batch, places: Any, times: Any, seen: int) -> tuple[int, int]:
        """Up to which time records can be handed out, and the newest time before the last round."""
        rounds = [at for at in walk.others if walk.kind(at) == _FINISHED_ROUND]

        def newest(end: int) -> int:
            return max(batch.newest(end), max([time for at, time in zip(places, times) if at < end], default=0), seen)

        if not rounds:
            return 0, seen
        return newest(rounds[-2]) if len(rounds) > 1 else seen, newest(rounds[-1])

    def _add_events(self, batch: Batch, places: Any, times: Any) -> None:
        """Puts the other records between the samples, and counts what was lost."""
        walk = batch.walk
        data, reader = walk.data, self._layouts[0].records

        def decode(at: int) -> Other | None:
            try:
                return reader.decode(data, 8 * at, walk.size(at))
            except FormatError as problem:
                self._problem(problem.message)
                return None

        batch.put_others(places, times, decode)
        if not walk.native:
            batch.events_between  # noqa: B018  # what is damaged is told before the samples
        losses = walk.select(_OF_LOSSES, False)[0]
        for at in set(losses).intersection(places) if len(losses) else ():
            try:
                record = reader.decode(data, 8 * at, walk.size(at))
            except FormatError:  # it is told when all are
                continue
            assert isinstance(record, LostEvent)
            if record.samples:
                self.lost_samples += record.count
            else:
                self.lost += record.count

    def _user_records(self, walk: Walk) -> None:
        """What perf itself has written between the records: attributes, features, build-ids."""
        data, order = walk.data, self.order
        for place in walk.select((), True)[0]:
            kind, start, size = walk.kind(place), 8 * place, walk.size(place)
            try:
                if kind == _ATTR:
                    self._attribute(data, start, size)
                elif kind == _FEATURE and size >= 16:
                    (number,) = unpack_from(order + "Q", data, start + 8)
                    self.features.add(number, data[start + 16 : start + size])
                    if number == _EVENT_DESC:
                        self._name_events()
                elif kind == _UPDATE and size > 24:
                    what, identifier = unpack_from(order + "QQ", data, start + 8)
                    if what == _UPDATE_NAME:
                        name = data[start + 24 : start + size].split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
                        for event in self.events:
                            if identifier in event.ids:
                                event.name = name
                elif kind == _BUILD_ID and size >= 36:
                    self.build_ids.append(features.build_id(data, start, size, walk.misc(place), order))
            except (error, ValueError, IndexError) as problem:
                self._problem(f"a record of type {kind} is damaged ({problem})")

    def _attribute(self, data: bytes, start: int, size: int) -> None:
        (length,) = unpack_from(self.order + "I", data, start + 12)
        if not 64 <= length <= size - 8:
            raise ValueError(f"attributes of {length} bytes")
        fields, flags = features.read_attribute(data, start + 8, length, self.order)
        ids = unpack_from(f"{self.order}{(size - 8 - length) // 8}Q", data, start + 8 + length)
        self.events.append(RecordedEvent("", ids, fields, flags, self.order))
        self._layouts = ()

    def _lay_out(self) -> None:
        """Finds the different layouts of the events, and which identifiers are whose.

        Raises:
            FormatError: samples cannot be told apart.
        """
        different: list[RecordedEvent] = []
        self._layout_of, self._by_id = [], {}
        for number, event in enumerate(self.events):
            index = next((place for place, known in enumerate(different) if known.same_layout(event)), -1)
            if index < 0:
                index = len(different)
                different.append(event)
            self._layout_of.append(index)
            self._by_id.update(dict.fromkeys(event.ids, number))
        try:
            layouts = tuple([event.layout(self.machine) for event in different])
        except UsageError as problem:
            raise FormatError(self.name, problem.message, hint="it was recorded by a newer perf") from None
        places = {layout.id_place for layout in layouts}
        trailers = {tuple(layout.trailer) for layout in layouts}
        if len(layouts) > 1 and (places == {-1} or len(places) > 1 or len({names[-1:] for names in trailers}) > 1):
            raise FormatError(self.name, "its events have different fields, and nothing tells whose a sample is")
        self._layouts = layouts

    def _name_events(self) -> None:
        for event, name in zip(self.events, self._names()):
            event.name = name

    def _names(self) -> list[str]:
        by_id = {ids[0]: name for _, _, name, ids in self.features.get("event_desc") or [] if ids}
        described = [name for _, _, name, _ in self.features.get("event_desc") or []]
        names = []
        for number, event in enumerate(self.events):
            name = by_id.get(event.ids[0], "") if event.ids else described[number] if number < len(described) else ""
            names.append(name or event.name)
        return names

    def _problem(self, text: str) -> None:
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(text)


def open_perf_data(path: str) -> PerfData:
    """Opens a recording; "-" is standard input.

    Raises:
        FormatError: it is none.
        OSError: it cannot be opened.
    """
    import mmap
    import os
    import stat

    fd = 0 if path == "-" else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    close = path != "-"
    try:
        state = os.fstat(fd)
        if stat.S_ISDIR(state.st_mode):
            raise FormatError(path, "a directory (perf record --threads)", hint="record without --threads")
        if not stat.S_ISREG(state.st_mode):
            close = False
            return PerfData(read(fd, 16), "standard input" if path == "-" else path, lambda size: os.read(fd, size))
        size = state.st_size
        if size <= _READ_WHOLE:
            found = PerfData(read_whole(fd, size), path)
            found._whole = True
            return found
        owner = mmap.mmap(fd, size, mmap.MAP_PRIVATE, mmap.PROT_READ)
        try:
            found = PerfData(owner, path)
        except BaseException:
            owner.close()
            raise
        found._owner = owner
        return found
    finally:
        if close:
            os.close(fd)
