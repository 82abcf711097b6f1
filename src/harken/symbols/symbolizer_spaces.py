"""The address spaces of a recording over time: every sample gets the table of texts that holds for its process at that moment.

A ``Table`` is good until something else is mapped where one of its files lay.  New mappings on free ground do not end it: nothing can have
run there before.
"""

from __future__ import annotations

from bisect import bisect_left

from ..formats.perf_data_records import CommEvent, MappingEvent, TaskEvent
from .model import Mapping
from .processes import Processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..formats.perf_data import PerfData
    from ..formats.perf_data_batch import Batch
    from ..formats.perf_data_records import Other

__all__ = ("RecordedSpaces", "Table")

#: Paths of memory whose code no file holds (tools/perf/util/map.c): generated code, if it is executable.
_ANONYMOUS = ("//anon", "/dev/zero", "/anon_hugepage")
_NO_FILE = ("[stack", "/SYSV", "[heap]")


class Table(dict[int, str]):
    """Addresses of one process and their text, as long as its mappings stay what they are; ``chains``: the text of whole chains."""

    __slots__ = ("pid", "number", "starts", "maps", "chains")

    def __init__(self, pid: int, number: int) -> None:
        super().__init__()
        self.pid, self.number = pid, number
        self.starts: list[int] | None = None
        self.maps: list[Mapping] = []
        self.chains: dict[bytes, str | None] = {}


class _Tables(dict[int, Table]):
    """The present table of every process; ``all`` are also those that were replaced."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[Table] = []

    def __missing__(self, pid: int) -> Table:
        self[pid] = table = Table(pid, len(self.all))
        self.all.append(table)
        return table


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
        tables: those of the last batch.
    """

    def __init__(self, recording: PerfData, of_kernel: Callable[[Other], None]) -> None:
        self._recording, self._of_kernel = recording, of_kernel
        self.processes = Processes(None)
        self.tables = _Tables()
        self._comms = _Comms({0: "swapper"})
        self._ids: dict[str, str] | None = None

    def maps(self, table: Table) -> tuple[list[int], list[Mapping]]:
        """(starts, mappings) that hold for a table."""
        return (table.starts, table.maps) if table.starts is not None else self.processes.layout(table.pid)

    def assign(self, batch: Batch, pids: list[int], tids: list[int] | None, comms: list[str] | None) -> list[Table]:
        """The table of every sample, while mappings change between them."""
        current = self.tables
        current.clear()
        current.all = []
        tables: list[Table] = []
        done = 0
        for place, event in batch.others:
            if place > done:
                tables += map(current.__getitem__, pids[done:place])
                if tids is not None and comms is not None:
                    comms += map(self._comms.__getitem__, tids[done:place])
                done = place
            self._apply(event)
        tables += map(current.__getitem__, pids[done:])
        if tids is not None and comms is not None:
            comms += map(self._comms.__getitem__, tids[done:])
        return tables

    def _apply(self, event: Other) -> None:
        if type(event) is MappingEvent:
            if event.in_kernel or event.pid == -1:
                self._of_kernel(event)
            else:
                self._map(event)
        elif type(event) is TaskEvent:
            if event.kind == "fork":
                if event.pid != event.parent and not event.known:
                    self._retire(event.pid)
                    self.processes.fork(event.parent, event.pid)
                self._comms[event.tid] = self._comms[event.parent_tid]
        elif type(event) is CommEvent:
            # the old program's mappings stay until new ones lie over them, as in perf: the exec itself still has its call chain
            self._comms[event.tid] = event.comm
        else:
            self._of_kernel(event)

    def _map(self, event: MappingEvent) -> None:
        path, pid = event.path, event.pid
        anonymous = event.huge or path.startswith(_ANONYMOUS)
        if event.executable and (anonymous or not path or path.startswith(_NO_FILE)):
            path = f"/tmp/perf-{pid}.map"
        build_id = event.build_id
        if not build_id:
            if self._ids is None:
                self._ids = {found.path: found.build_id for found in self._recording.build_ids if not found.in_kernel}
            build_id = self._ids.get(path, "")
        # the recording may be of another machine: a file is known by its build-id, else, as in perf, by its path; not by its inode
        mapping = Mapping(event.start, event.end, event.offset, path, 0, "", build_id, event.executable)
        table = self.tables.get(pid)
        if table is not None:
            starts, maps = self.processes.layout(pid)
            place = bisect_left(starts, event.end)
            if place and maps[place - 1].end > event.start:  # something else lay there until now
                self._retire(pid)
        self.processes.add(pid, mapping)

    def _retire(self, pid: int) -> None:
        """From here on the process has other mappings: its table keeps those of before."""
        table = self.tables.pop(pid, None)
        if table is not None:
            starts, maps = self.processes.layout(pid)
            table.starts, table.maps = list(starts), list(maps)
