"""The address spaces of processes: which file lies where, for processes that run, that are gone, and that a recording tells of.

``Processes`` reads /proc/PID/maps when a process is first asked for and again when an address lies in no known mapping (or a second has
passed), and keeps what it has seen: unmapped libraries, programs before an exec, and processes that have exited still resolve.
``add``, ``fork``, ``exec`` and ``exit`` do the same from records of perf events (PERF_RECORD_MMAP2, FORK, COMM with the exec bit, EXIT).

A process may live in a container.  Its files are reached through its root directory, which is held open with its mount namespace, so that
they can be read after it has exited; a file that was replaced or deleted is reached through /proc/PID/map_files while the process lives.

Example:
    >>> spaces = Processes(None)
    >>> spaces.add(42, Mapping(0x1000, 0x5000, 0, "/usr/bin/a"))
    >>> spaces.add(42, Mapping(0x2000, 0x3000, 0, "/usr/lib/b"))
    >>> [(hex(m.start), hex(m.end), m.path) for m in spaces.mappings(42)]
    [('0x1000', '0x2000', '/usr/bin/a'), ('0x2000', '0x3000', '/usr/lib/b'), ('0x3000', '0x5000', '/usr/bin/a')]
    >>> spaces.find(42, 0x3004).file_offset(0x3004) == 0x2004
    True
"""

from __future__ import annotations

import os
import time
from bisect import bisect_right

from ..kernel import procfs
from .model import Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel.kernel import Kernel

__all__ = ("Processes", "Roots", "parse_maps", "MOST_PROCESSES", "MOST_RECORDED", "MOST_MAPS")

_MAPS_LIMIT = 64 << 20
#: Seconds after which a process may have changed its mappings unnoticed, and between two looks for an address that is in none.
_STALE, _AGAIN = 1.0, 0.05
#: Address spaces that are kept, and mappings of recorded ones; those that came first go first.
MOST_PROCESSES, MOST_RECORDED = 1 << 14, 1 << 24
#: Mappings of a recorded process: as many as the kernel lets it have (vm.max_map_count is 65,530).
MOST_MAPS = 1 << 16
_MOST_ROOTS = 64


def parse_maps(data: bytes) -> list[Mapping]:
    """The mappings of a text in the format of /proc/PID/maps, ascending; lines that are none are left out.

    Example:
        >>> parse_maps(b"7f0000-7f1000 r-xp 00002000 fd:01 77    /usr/lib/a b.so\\n")[0].replace(start=0, end=0)
        Mapping(start=0, end=0, offset=8192, path='/usr/lib/a b.so', inode=77, device='fd:01', build_id='', executable=True)
    """
    found = []
    for line in data.split(b"\n"):
        words = line.split(None, 5)
        if len(words) < 5:
            continue
        low, _, high = words[0].partition(b"-")
        try:
            start, end, offset, inode = int(low, 16), int(high, 16), int(words[2], 16), int(words[4])
        except ValueError:
            continue
        if not start < end <= 1 << 64:
            continue
        # The kernel writes a newline in a path as \012 and nothing else so (show_map_vma in fs/proc/task_mmu.c).
        path = os.fsdecode(words[5].replace(b"\\012", b"\n")) if len(words) > 5 else ""
        found.append(Mapping(start, end, offset, path, inode, words[3].decode("ascii", "replace"), "", b"x" in words[1]))
    found.sort(key=lambda mapping: mapping.start)
    return found


class _Space:
    """One address space."""

    __slots__ = ("maps", "starts", "text", "read_at", "started", "root", "ns_pid", "users", "recorded", "gone", "changes")

    def __init__(self) -> None:
        self.maps: list[Mapping] = []
        self.starts: list[int] = []
        self.text = b""
        self.read_at = -1e9
        self.started: int | None = None
        self.root = ""
        self.ns_pid = 0
        self.users: tuple[int, ...] = ()
        self.recorded = False
        self.gone = False
        self.changes = 0

    def lay(self, mapping: Mapping) -> None:
        """Puts a mapping over what was there."""
        starts, maps = self.starts, self.maps
        first = bisect_right(starts, mapping.start)
        if first and maps[first - 1].end > mapping.start:
            first -= 1
        elif first == len(starts) or starts[first] >= mapping.end:  # on free ground, as nearly all are
            starts.insert(first, mapping.start)
            maps.insert(first, mapping)
            self.changes += 1
            return
        last = first
        pieces = [mapping]
        while last < len(maps) and maps[last].start < mapping.end:
            old = maps[last]
            if old.start < mapping.start:
                pieces.insert(0, old.replace(end=mapping.start))
            if old.end > mapping.end:
                pieces.append(old.replace(start=mapping.end, offset=old.offset + mapping.end - old.start))
            last += 1
        maps[first:last] = pieces
        starts[first:last] = [piece.start for piece in pieces]
        self.changes += 1

    def lay_all(self, mappings: list[Mapping]) -> None:
        """Lays a whole new map over the old one, whose parts stay where nothing new lies."""
        if not self.maps:
            self.maps, self.starts = mappings, [mapping.start for mapping in mappings]
            self.changes += 1
            return
        known = set(self.maps)
        for mapping in mappings:
            if mapping not in known:
                self.lay(mapping)

    def find(self, address: int) -> Mapping | None:
        place = bisect_right(self.starts, address) - 1
        return self.maps[place] if place >= 0 and address < self.maps[place].end else None


class Roots:
    """Root directories of processes that see other files than this one, held open: their files can be read when they have exited."""

    def __init__(self, kernel: Kernel | None) -> None:
        self._kernel = kernel
        self._held: dict[tuple[int, str], tuple[int, ...]] = {}
        self._own_namespace = -1

    def of(self, pid: int) -> str | None:
        """The prefix that makes a process's paths reachable from here, "" if it sees the same files; None if the process is gone."""
        kernel = self._kernel
        if kernel is None:
            return None
        if self._own_namespace < 0:
            self._own_namespace = procfs.namespace_number(kernel, "mnt")
        namespace = procfs.namespace_number(kernel, "mnt", pid)
        try:
            target = procfs.read_link(kernel, f"/proc/{pid}/root")
        except OSError:
            return None
        if namespace in (0, self._own_namespace) and target == "/":
            return ""
        key = (namespace, target)
        held = self._held.get(key)
        if held is None:
            if len(self._held) >= _MOST_ROOTS:
                return f"/proc/{pid}/root"
            fds: list[int] = []
            try:
                fds.append(kernel.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY))
                # the namespace too, or what is mounted below the root would go with its last process
                fds.append(kernel.open(f"/proc/{pid}/ns/mnt"))
            except OSError:
                if not fds:
                    return f"/proc/{pid}/root"
            held = self._held[key] = tuple(fds)
        return f"/proc/self/fd/{held[0]}"

    def close(self) -> None:
        """Gives back what is held."""
        held, self._held = self._held, {}
        for fds in held.values():
            for fd in fds:
                assert self._kernel is not None
                self._kernel.close(fd)


class Processes:
    """Address spaces by PID.

    Args:
        kernel: where running processes are looked up; None: only those that were added are known.

    ``close`` gives back the root directories that are held; it is also a context manager.
    """

    def __init__(self, kernel: Kernel | None) -> None:
        self.kernel = kernel
        self._spaces: dict[int, _Space] = {}
        self._recorded = 0
        self._roots = Roots(kernel)

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the root directories of containers that are held open."""
        self._roots.close()

    # -- what is known

    def mappings(self, pid: int) -> tuple[Mapping, ...]:
        """All mappings, ascending by address; empty if the process was never seen and is not there."""
        return tuple(self._space(pid).maps)

    def find(self, pid: int, address: int) -> Mapping | None:
        """The mapping that contains an address."""
        space = self._space(pid)
        found = space.find(address)
        if found is None and self._refresh(pid, space, _AGAIN):
            found = space.find(address)
        return found

    def changes(self, pid: int) -> int:
        """A number that grows whenever the mappings of a process change; it is looked at again if a second has passed."""
        return self._space(pid).changes

    def layout(self, pid: int) -> tuple[list[int], list[Mapping]]:
        """(starts, mappings) of a recorded process, ascending, as they are kept: ``add`` changes them, ``exec`` makes new ones."""
        space = self._spaces.get(pid)
        return (space.starts, space.maps) if space is not None else ([], [])

    def root(self, pid: int) -> str:
        """The prefix that makes a process's paths reachable from here: "" if it sees the same files as this process."""
        return self._space(pid).root

    def namespace_pid(self, pid: int) -> int:
        """The number that the process has in its own PID namespace (by which it names its files in /tmp)."""
        return self._space(pid).ns_pid or pid

    def users(self, pid: int) -> tuple[int, ...]:
        """User IDs (real, effective) that the process had when it was first seen; empty if unknown."""
        return self._space(pid).users

    def alive(self, pid: int) -> bool:
        """Whether the process was there when it was last looked at."""
        return not self._space(pid).gone

    def seen(self) -> tuple[int, ...]:
        """The PIDs that are known."""
        return tuple(self._spaces)

    # -- what recordings tell

    def add(self, pid: int, mapping: Mapping) -> None:
        """A mapping that was made while recording; what it covers is replaced."""
        space = self._spaces.get(pid)
        if space is None:
            space = self._spaces[pid] = _Space()
        space.recorded = True
        before = len(space.maps)
        if before < MOST_MAPS:
            space.lay(mapping)
            self._recorded += len(space.maps) - before
        if len(self._spaces) > MOST_PROCESSES or self._recorded > MOST_RECORDED:
            self._trim()

    def reach(self, pid: int, root: str) -> None:
        """The files of a process that may be gone are found below ``root``, which the caller holds open (see ``Roots``)."""
        space = self._spaces.get(pid)
        if space is not None and root and not space.root:
            space.root = root

    def fork(self, parent: int, child: int) -> None:
        """A process was forked: it has its parent's mappings.  For a new thread (``parent == child``) nothing happens."""
        origin = self._spaces.get(parent)
        if origin is None or parent == child:
            return
        replaced = self._spaces.get(child)
        self._recorded += len(origin.maps) - (len(replaced.maps) if replaced is not None else 0)
        space = self._spaces[child] = _Space()
        space.maps, space.starts = list(origin.maps), list(origin.starts)
        space.recorded, space.root = origin.recorded, origin.root
        self._trim()

    def exec(self, pid: int) -> None:
        """The process executes another program; its mappings follow."""
        space = self._spaces.get(pid)
        if space is not None:
            changes = space.changes
            self._recorded -= len(space.maps) if space.recorded else 0
            space = self._spaces[pid] = _Space()
            space.recorded, space.changes = True, changes + 1

    def exit(self, pid: int) -> None:
        """The process has exited; its mappings stay."""
        if pid in self._spaces:
            self._spaces[pid].gone = True

    def forget(self) -> None:
        """Forgets all processes."""
        self._spaces, self._recorded = {}, 0

    def refresh(self, pid: int) -> bool:
        """Looks at a running process again now; tells whether it is there.  To be called while it certainly runs."""
        return self._refresh(pid, self._space(pid), 0.0)

    # -- private

    def _space(self, pid: int) -> _Space:
        space = self._spaces.get(pid)
        if space is None:
            space = self._spaces[pid] = _Space()
            self._trim()
            self._refresh(pid, space, 0.0)
        elif not space.recorded and not space.gone and self.kernel is not None:
            self._refresh(pid, space, _STALE)
        return space

    def _refresh(self, pid: int, space: _Space, pause: float) -> bool:
        kernel = self.kernel
        if kernel is None or pid <= 0:
            return False
        now = time.monotonic()
        if now - space.read_at < pause:
            return False
        space.read_at = now
        try:
            text = kernel.read(f"/proc/{pid}/maps", _MAPS_LIMIT)
        except OSError:
            text = b""
        if not text:  # gone, a zombie, a kernel thread, or hidden from us
            space.gone = True
            return False
        if text == space.text:
            return True
        from ..kernel import procfs_process

        started = procfs_process.start_time(kernel, pid)
        if space.started not in (None, started):  # the PID was given to another process
            space.maps, space.starts = [], []
        if space.started != started or not space.text:
            space.started = started
            state = procfs.status(kernel, pid)
            if state is not None:
                space.ns_pid = state.ns_pids[-1] if state.ns_pids else state.tgid
                space.users = (state.uid, state.euid)
            space.root = self._roots.of(pid) or ""
        space.text, space.gone = text, False
        space.lay_all(parse_maps(text))
        return True

    def _trim(self) -> None:
        spaces = self._spaces
        while len(spaces) > MOST_PROCESSES or (self._recorded > MOST_RECORDED and len(spaces) > 1):
            space = spaces.pop(next(iter(spaces)))
            self._recorded -= len(space.maps) if space.recorded else 0
