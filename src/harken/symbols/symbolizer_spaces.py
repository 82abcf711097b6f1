"""The address spaces of a recording over time: which mappings hold for a process at the moment of a sample.

A ``Table`` is one process as long as its mappings stay what they are.  It ends when something else is mapped where one of its files lay,
and samples were taken before.  New mappings on free ground do not end it: nothing can have run there before.

With the accelerator (``follow``) the tables are rows in its memory, and what is mapped is looked at once, not in every process.
"""

from __future__ import annotations

from bisect import bisect_left

from ..base.errors import FormatError
from ..formats.perf_data_records import CommEvent, MappingEvent, TaskEvent
from .model import Mapping
from .processes import MOST_MAPS, MOST_PROCESSES, MOST_RECORDED, Processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ..formats.perf_data import PerfData
    from ..formats.perf_data_batch import Batch
    from ..formats.perf_data_records import Other
    from ..native.symbols_spaces import Spaces

__all__ = ("RecordedSpaces", "Table")

#: Paths of memory whose code no file holds (tools/perf/util/map.c): generated code, if it is executable.
_ANONYMOUS = ("//anon", "/dev/zero", "/anon_hugepage")
_NO_FILE = ("[stack", "/SYSV", "[heap]")
_LAST = (1 << 64) - 1
#: Mappings that are copied in a batch, and those of them that are kept until its end.  No recording comes near.
_MOST_COPIED, _MOST_ENDED = 1 << 30, 1 << 25


class Table:
    """One process while its mappings stay what they are.

    Attributes:
        pid: the process.
        starts, maps: its mappings; those of ``Processes`` if it is the last of its process.
        first, end: its samples, in the order of ``Batch.by_process``.
    """

    __slots__ = ("pid", "starts", "maps", "first", "end")

    def __init__(self, pid: int, starts: list[int], maps: list[Mapping], first: int, end: int) -> None:
        self.pid, self.starts, self.maps, self.first, self.end = pid, starts, maps, first, end


class _Comms(dict[int, str]):
    """Names of threads."""

    def __missing__(self, tid: int) -> str:
        return f":{tid - (1 << 32) if tid >> 31 else tid}"


class RecordedSpaces:
    """Follows mappings, forks, execs and names of threads.

    Args:
        recording: the recording.
        of_kernel: called with what is the kernel's own: mappings of its image, symbols that come and go.

    Attributes:
        processes: the address spaces at the end of the last batch.
    """

    def __init__(self, recording: PerfData, of_kernel: Callable[[Other], None]) -> None:
        self._recording, self._of_kernel = recording, of_kernel
        self.processes = Processes(None)
        self._comms = _Comms({0: "swapper"})
        self._ids: dict[str, str] | None = None
        self._files: dict[str, str] = {}
        # of the present batch
        self._groups: dict[int, tuple[int, int]] = {}
        self._moments: Sequence[Any] = ()
        self._ended: dict[int, list[Table]] = {}
        self._moment: Any = 0
        self._copied = self._kept = 0
        self._native: Spaces | None = None

    def tables(self, batch: Batch) -> tuple[Sequence[int], list[Table]]:
        """What holds for the samples of a batch.

        Returns:
            Indexes of the samples as they are recorded, by process and time; the tables, one behind the other.

        Raises:
            FormatError: there are too many mappings.
        """
        self._leave_native()
        self._copied = self._kept = 0
        indexes, self._moments, groups = batch.by_process()
        self._groups, self._ended = {pid: (first, end) for pid, first, end in groups}, {}
        for self._moment, event in batch.events_between:
            self._apply(event)
        found: list[Table] = []
        for pid, first, end in groups:
            ended = self._ended.get(pid, [])
            found += [*ended, Table(pid, *self.processes.layout(pid), ended[-1].end if ended else first, end)]
        return indexes, found

    def follow(self, batch: Batch, library: Any) -> Spaces:
        """``tables`` by the accelerator: all tables are in the memory of what is given back, also the samples' numbers of them.

        Once ``tables`` was called this is not to be.

        Raises:
            FormatError: there are too many mappings.
        """
        native = self._native
        if native is None:
            from ..native.symbols_spaces import Spaces

            native = self._native = Spaces(library, MOST_PROCESSES, MOST_RECORDED, _MOST_COPIED, _MOST_ENDED, MOST_MAPS)
        trailer = batch.layouts[0].records.trailer
        others = native.apply(batch.data, *batch.recorded_others(), trailer, *batch.recorded_by_process())
        if others is None:
            raise _too_many()
        if native.damaged:
            batch.events_between  # noqa: B018  # what is damaged is told when it is decoded
        for index in others:
            event = batch.other(index)
            if event is not None:
                self._of_kernel(event)
        return native

    def mapping_of(self, number: int) -> tuple[int, Mapping]:
        """What the accelerator has numbered, as a mapping; and a process that has it.

        If the process has made code itself there, all its mappings are laid out: some of their files may say what it is.
        """
        assert self._native is not None
        kind = self._native.kind(number)
        mapping = self._mapping(
            kind.pid, kind.base, kind.base + kind.size, kind.offset, kind.path, kind.build_id, kind.executable, kind.huge
        )
        if kind.own and mapping.path.startswith("/tmp/perf-") and not self.processes.layout(kind.pid)[0]:
            self._lay_out(kind.pid)
        return kind.pid, mapping

    def comms(self, batch: Batch) -> list[str]:
        """The name of every sample's thread, in order of time."""
        tids = batch.column("tid")
        comms: list[str] = []
        if tids is not None:
            done = 0
            for place, event in batch.others:
                if type(event) is TaskEvent or type(event) is CommEvent:
                    comms += map(self._comms.__getitem__, tids[done:place])
                    done = place
                    self._name(event)
            comms += map(self._comms.__getitem__, tids[done:])
        return comms

    # -- private

    def _name(self, event: TaskEvent | CommEvent) -> None:
        if type(event) is CommEvent:
            self._comms[event.tid] = event.comm
        elif type(event) is TaskEvent and event.kind == "fork":
            self._comms[event.tid] = self._comms[event.parent_tid]

    def _apply(self, event: Other) -> None:
        if type(event) is MappingEvent:
            if event.in_kernel or event.pid == -1:
                self._of_kernel(event)
            else:
                self._map(event)
        elif type(event) is TaskEvent:
            if event.kind == "fork" and event.pid != event.parent and not event.known:
                self._retire(event.pid)
                self._copied += len(self.processes.layout(event.parent)[0])
                if self._copied > _MOST_COPIED:
                    raise _too_many()
                self.processes.fork(event.parent, event.pid)
        elif type(event) is not CommEvent:
            self._of_kernel(event)
        # at an exec, the old program's mappings stay until new ones lie over them, as in perf: the exec itself still has its call chain

    def _mapping(self, pid: int, start: int, end: int, offset: int, path: str, build_id: str, executable: bool, huge: bool) -> Mapping:
        """A mapping as it is recorded."""
        known = self._files.get(path)
        if known is None or huge:
            known = ""
            if not path or path.startswith((*_ANONYMOUS, *_NO_FILE)) or huge:
                path = f"/tmp/perf-{pid}.map" if executable else path
            else:
                if self._ids is None:
                    self._ids = {found.path: found.build_id for found in self._recording.build_ids if not found.in_kernel}
                known = self._files[path] = self._ids.get(path, "")
        # the recording may be of another machine: a file is known by its build-id, else, as in perf, by its path; not by its inode
        return Mapping(start, end, offset, path, 0, "", build_id or known, executable)

    def _map(self, event: MappingEvent) -> None:
        pid, end = event.pid, min(event.end, _LAST)
        mapping = self._mapping(pid, event.start, end, event.offset, event.path, event.build_id, event.executable, event.huge)
        if pid in self._groups:
            starts, maps = self.processes.layout(pid)
            place = bisect_left(starts, end)
            if place and maps[place - 1].end > event.start:  # something else lay there until now
                self._retire(pid)
        self.processes.add(pid, mapping)

    def _retire(self, pid: int) -> None:
        """From here on the process has other mappings: its samples so far belong to a table with those of before."""
        first, end = self._groups.get(pid, (0, 0))
        ended = self._ended.get(pid)
        first = ended[-1].end if ended else first
        if first == end or self._moments[first] >= self._moment:  # it did not run meanwhile, as nearly all that are forked
            return
        starts, maps = self.processes.layout(pid)
        self._copied += len(starts)
        self._kept += len(starts)
        if self._copied > _MOST_COPIED or self._kept > _MOST_ENDED:
            raise _too_many()
        place = bisect_left(self._moments, self._moment, first, end)
        self._ended.setdefault(pid, []).append(Table(pid, list(starts), list(maps), first, place))

    def _leave_native(self) -> None:
        """What the accelerator knows is taken over."""
        if self._native is not None:
            self.processes.forget()
            for pid in self._native.pids():
                self._lay_out(pid)
            self._native = None

    def _lay_out(self, pid: int) -> None:
        """Lays out what the accelerator knows of a process."""
        assert self._native is not None
        self.processes.exec(pid)
        for start, end, base, number in self._native.rows_of(pid):
            kind = self._native.kind(number)
            mapping = self._mapping(kind.pid, base, base + kind.size, kind.offset, kind.path, kind.build_id, kind.executable, kind.huge)
            self.processes.add(pid, mapping.replace(start=start, end=end, offset=mapping.offset + start - base))


def _too_many() -> FormatError:
    return FormatError("perf record", "its processes have more mappings than can be kept")
