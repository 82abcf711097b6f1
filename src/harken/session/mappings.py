"""Which files processes have mapped, also of those that are gone before anybody asks.

A stack in a map is looked up when the map is printed, and by then its process may have ended.  What it had mapped must be noted while it
runs.  ``Follower`` does as perf record does: it asks the kernel to tell of every executable mapping, fork and exit from now on (records
of a dummy event, which never fires by itself), and reads /proc/PID/maps of the processes that are there already.  It is woken by the first
record: what a process's files are has to be seen while it is there, and it may live for milliseconds.

Most processes are never asked for, so that little is done for them: the text of /proc/PID/maps is kept as it is, a mapping from the kernel
is 32 bytes, a fork notes its parent.  ``tell`` hands what is known of one process to the symbolizer.

Bounded: when too much is kept, processes that have ended go first that no map of the program mentions; what goes beyond that is counted.

Facts: PERF_RECORD_MMAP2, _FORK, _EXIT in include/uapi/linux/perf_event.h.
"""

from __future__ import annotations

from array import array
from time import monotonic

from ..base.errors import FormatError, KernelError
from ..kernel.procfs_process import processes as all_processes
from ..symbols.processes import Roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..kernel.kernel import Kernel
    from ..kernel.sampling import Sampler
    from ..symbols.processes import Processes

__all__ = ("Follower",)

_MAPS_LIMIT = 64 << 20
#: Most processes, and most mappings of all of them together (32 bytes each).
_MOST, _MOST_MAPPINGS = 1 << 17, 1 << 21
#: Pages of each CPU's ring.
_PAGES = 32
#: Seconds after a look into the rings before the next one: a busy machine's mappings are taken by the dozen.
_REST = 0.003
#: Seconds for looking at running processes before tracing begins, and each time later until all were looked at.
_AT_ONCE, _AT_A_TIME = 0.03, 0.005
#: Generations of forks without an exec after which a process gets a copy of what its ancestors had mapped.
_GENERATIONS = 32
_WORDS = 4  # of 64 bits per mapping: start, end, offset, number of the file


class _Known:
    """What is known of one process: a text of /proc/PID/maps, mappings, and what it had from its parent when it was forked."""

    __slots__ = ("base", "base_words", "depth", "gone", "python", "root", "text", "told", "words")

    def __init__(self, text: bytes = b"") -> None:
        self.text = text
        self.words = array("Q")
        self.base: _Known | None = None
        self.base_words = self.depth = 0
        self.told = -1
        self.gone = self.python = False
        self.root = ""


class Follower:
    """Notes mappings from the moment it is made.

    Args:
        kernel: the running kernel.
        pid: only this process; -1: all.
        wanted: the processes that the program's maps mention now; asked when memory is short.

    Attributes:
        fds: readable when there is something to ``drain``.
        problem: why the kernel does not tell of new mappings, "" if it does.
        dropped: processes that were forgotten although they may be asked for.
    """

    def __init__(self, kernel: Kernel, pid: int = -1, wanted: Callable[[], set[int]] = set) -> None:
        self.kernel, self._pid, self._wanted = kernel, pid, wanted
        self.fds: tuple[int, ...] = ()
        self.problem = ""
        self.dropped = self._lost = 0
        self._known: dict[int, _Known] = {}
        self._files: dict[tuple[str, int, str, str], int] = {}
        self._paths: list[tuple[str, int, str, str]] = []
        self._mappings = 0
        self._processes: Processes | None = None
        self._python: set[int] = set()
        self._drained_at = 0.0
        self._sampler: Sampler | None = None
        self._unseen: list[int] = []
        self._roots = Roots(kernel)
        self._most, self._most_mappings = _MOST, _MOST_MAPPINGS
        self._open()
        if pid >= 0:
            self._look(pid)
        else:
            # those that started last are likely to end first
            self._unseen = all_processes(kernel)
            self.look(_AT_ONCE)

    def _open(self) -> None:
        from ..kernel.perf_event import software
        from ..kernel.sampling import Sampler

        try:
            sampler = Sampler(self.kernel, software("dummy", period=1), callchain=False, pages=_PAGES, wakeup=1)
            try:
                sampler.enable()
            except BaseException:
                sampler.close()
                raise
        except KernelError as problem:
            self.problem = str(problem)
            return
        self._sampler, self.fds = sampler, sampler.fds

    def close(self) -> None:
        """Ends following; what is known stays."""
        sampler, self._sampler, self.fds = self._sampler, None, ()
        if sampler is not None:
            self._lost += sampler.lost
            sampler.close()

    def release(self) -> None:
        """Gives back the root directories of containers: files of processes that have ended there cannot be read any more."""
        self._roots.close()

    @property
    def unfinished(self) -> bool:
        """Whether there are processes to ``look`` at."""
        return bool(self._unseen)

    @property
    def lost(self) -> int:
        """Records that the kernel could not store."""
        return self._lost + (self._sampler.lost if self._sampler is not None else 0)

    @property
    def resting(self) -> float:
        """Seconds for which ``fds`` should not be waited for: what is in the rings was taken just now."""
        return max(0.0, self._drained_at + _REST - monotonic()) if self.fds else 0.0

    # -- what is there already

    def look(self, seconds: float = _AT_A_TIME) -> None:
        """Looks at processes that were there before, for about so long."""
        end = monotonic() + seconds
        while self._unseen and monotonic() < end:
            self._look(self._unseen.pop())

    def _look(self, pid: int) -> _Known:
        known = self._known.get(pid)
        if known is None:
            known = self._known[pid] = _Known()
        if not known.text:
            known.text = self._text(pid)
            if known.text:
                self._reach(pid, known)
                if b"python" in known.text:
                    self._is_python(pid, known)
        return known

    def _reach(self, pid: int, known: _Known) -> None:
        """Notes where the files of a process are that runs in a container."""
        root = self._roots.of(pid)
        if root is not None:  # else it is gone: its parent saw the same files, most likely
            known.root = root

    def _text(self, pid: int) -> bytes:
        """The executable mappings of a running process, as /proc/PID/maps tells them."""
        try:
            text = self.kernel.read(f"/proc/{pid}/maps", _MAPS_LIMIT)
        except OSError:
            return b""
        # "7f0000000000-7f0000001000 r-xp ...": nothing but the permissions has an x so early
        return b"\n".join([line for line in text.split(b"\n") if b"x" in line[:40].partition(b" ")[2][:4]])

    # -- what the kernel tells

    def drain(self) -> None:
        """Takes what the kernel has told meanwhile."""
        if self._sampler is None:
            return
        from ..kernel.sampling import MappingEvent, TaskEvent

        try:
            records = self._sampler.read()
        except (FormatError, KernelError) as problem:
            self._lost += 1  # at least the record that nobody understands, and what would have come
            self.problem = str(problem)
            self.close()
            return
        if records:
            self._drained_at = monotonic()
        running = set()
        for record in records:
            kind = type(record)
            if kind is MappingEvent:
                self._mapped(record)
                running.add(record.pid)
            elif kind is TaskEvent:
                self._task(record)
        for pid in running:  # they may have entered a container since
            known = self._known.get(pid)
            if known is not None and not known.gone:
                self._reach(pid, known)
        if len(self._known) > self._most or self._mappings > self._most_mappings:
            self._forget()
            # those that still run stay: do not try again for every record
            self._most = max(_MOST, len(self._known) + _MOST // 8)
            self._most_mappings = max(_MOST_MAPPINGS, self._mappings + _MOST_MAPPINGS // 8)

    def _mapped(self, record: Any) -> None:
        pid = record.pid
        if not record.executable or (self._pid >= 0 and pid != self._pid):
            return
        known = self._known.get(pid)
        if known is None:
            known = self._known[pid] = _Known()
        file = (record.path, record.inode, record.device, record.build_id)
        if "python" in record.path:
            self._is_python(pid, known)
        number = self._files.get(file)
        if number is None:
            number = self._files[file] = len(self._paths)
            self._paths.append(file)
        known.words.extend((record.start, record.end, record.offset, number))
        self._mappings += 1
        if known.told >= 0:
            self._tell_words(pid, known)

    def _task(self, record: Any) -> None:
        pid = record.pid
        if record.kind == "exit":
            if pid == record.tid and pid in self._known:
                self._known[pid].gone = True
            return
        parent = record.parent
        if pid == parent or (self._pid >= 0 and pid != self._pid):  # a thread, or nobody's concern
            return
        base = self._known.get(parent)
        if base is None or not (base.text or base.words or base.base):
            base = self._look(parent)
        root, python = base.root, base.python
        if not base.text and not base.words and base.base is not None:
            base = base.base  # the parent has mapped nothing itself
            while not base.text and not base.words and base.base is not None:
                base = base.base
        before = self._known.get(pid)
        if before is not None:  # the PID was another process's
            self._mappings -= len(before.words) // _WORDS
        known = self._known[pid] = _Known()
        known.base, known.base_words, known.depth, known.root = base, len(base.words), base.depth + 1, root
        if python:
            self._is_python(pid, known)
        if known.depth > _GENERATIONS:
            words = array("Q")
            texts = []
            for text, part in _lineage(known):
                texts.append(text)
                words.extend(part)
            known.text, known.words, known.base, known.depth = b"\n".join(texts), words, None, 0

    def _is_python(self, pid: int, known: _Known) -> None:
        known.python = True
        self._python.add(pid)

    def take_python(self) -> set[int]:
        """Processes that may run CPython, by the names of their files, as far as they were not told before."""
        taken, self._python = self._python, set()
        return taken

    def _forget(self) -> None:
        wanted = self._wanted()
        for keep in (wanted, set()):
            for pid in [pid for pid, known in self._known.items() if known.gone and pid not in keep]:
                if len(self._known) <= _MOST * 3 // 4 and self._mappings <= _MOST_MAPPINGS * 3 // 4:
                    return
                known = self._known.pop(pid)
                self._mappings -= len(known.words) // _WORDS
                self.dropped += pid in wanted and known.told < 0

    # -- what is asked for

    def tell(self, pid: int, processes: Processes) -> bool:
        """Hands everything that is known of a process to the symbolizer's picture of it; tells whether that was news.

        What the process has mapped later is handed on as it comes.
        """
        self._processes = processes
        known = self._known.get(pid)
        if known is None or known.told < 0:
            self.drain()
            known = self._known.get(pid)
        if known is None:
            return False  # it was not seen: the symbolizer looks for itself
        if known.told >= 0:
            return self._tell_words(pid, known)
        from ..symbols.processes import parse_maps

        for text, words in _lineage(known):
            for mapping in parse_maps(text):
                processes.add(pid, mapping)
            self._add(pid, words)
        known.told = len(known.words)
        if not known.gone:
            processes.refresh(pid)
        processes.reach(pid, known.root)
        return True

    def _tell_words(self, pid: int, known: _Known) -> bool:
        """Hands on what is new."""
        new = known.words[known.told :]
        known.told = len(known.words)
        self._add(pid, new)
        return bool(new)

    def _add(self, pid: int, words: array[int]) -> None:
        from ..symbols.model import Mapping

        assert self._processes is not None
        for place in range(0, len(words), _WORDS):
            start, end, offset, number = words[place : place + _WORDS]
            if start < end:
                path, inode, device, build_id = self._paths[number]
                self._processes.add(pid, Mapping(start, end, offset, path, inode, device, build_id))


def _lineage(known: _Known) -> list[tuple[bytes, array[int]]]:
    """What a process had from its ancestors, the oldest first, and its own."""
    parts = [(known.text, known.words)]
    while known.base is not None:
        parts.append((known.base.text, known.base.words[: known.base_words]))
        known = known.base
    parts.reverse()
    return parts
