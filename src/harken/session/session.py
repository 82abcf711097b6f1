"""TraceSession: the life of one running program, from load to the final maps.

Order of events::

    start()   load maps and programs -> open the ring -> BEGIN -> attach all probes -> let the command run
    poll()    wait, drain the ring, perform actions, hand items to the sink; False when the session is over
    finish()  detach -> drain what is left -> END -> drain -> final maps and losses
    close()   give everything back (also after an error at any point)

A session owns every descriptor it opens; it never prints, never exits and installs no signal handlers.  ``stop`` may be called from
another thread or a signal handler.

Reasons to end: ``exit()`` in the program, ``stop()``, the duration, the end of the command or of the observed process.
"""

from __future__ import annotations

import os
import time

from ..base.errors import KernelError
from ..compiler.unit import LOSS, RING
from .tables import TableReader, has_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..compiler.unit import Table, Unit
    from ..kernel.kernel import Kernel
    from ..kernel.loader import Loaded
    from ..probes.model import Link
    from .command import Command
    from .ledger import Loss
    from .local_tables import LocalTable
    from .sink import Sink
    from .stacks import SessionSymbols
    from .stream import Stream

__all__ = ("TraceSession",)

#: Seconds that ``finish`` spends on detaching before it shows the results.
_PATIENCE = 1.0


class TraceSession:
    """One program on one kernel.

    Args:
        unit: the compiled program.
        kernel: where it runs.
        sink: takes the output.
        pid: observe only this process (where the mechanism can; the compiler adds the condition elsewhere); -1: all.
        command: a held child to let run once everything is attached; the session closes it.
        duration: seconds after which the session ends; None: no limit.
        follow: end when process ``pid`` ends.
        log_level: the verifier's verbosity; its logs are then in ``loaded.logs`` by program.
    """

    def __init__(
        self,
        unit: Unit,
        kernel: Kernel,
        sink: Sink,
        *,
        pid: int = -1,
        command: Command | None = None,
        duration: float | None = None,
        follow: bool = True,
        log_level: int = 0,
    ) -> None:
        self.unit, self.kernel, self.sink = unit, kernel, sink
        self.pid, self.duration, self._follow = pid, duration, follow
        self._log_level = log_level
        self.command = command
        self.loaded: Loaded | None = None
        self.tables: dict[str, TableReader | LocalTable] = {}
        #: live attachments with the probes they serve
        self.links: list[tuple[Link, str]] = []
        #: exit() was seen, so the rest of the stream does not count
        self.exited = False
        self.exit_code = 0
        #: why the session ended: "exit", "stop", "duration", "command", "process", "complete", or "" while it runs
        self.ended = ""
        #: what was lost; complete after ``finish``
        self.losses: tuple[Loss, ...] = ()
        self.attached = 0
        self._settings = dict(unit.config)
        self.events = unit.events
        self.symbols: SessionSymbols | None = None
        if any([has_names(event.schema) for event in unit.events]) or any([has_names(t.key) or has_names(t.value) for t in unit.tables]):
            from .stacks import symbols_for

            self.symbols = symbols_for(unit, kernel, self._settings)
            if self.symbols is not None:
                self.events = self.symbols.events(unit.events)
        self._closers: list[Callable[[], object]] = []
        self._stream: Stream | None = None
        #: map -> updates that found it full, of maps that lie here
        self.refused: dict[str, int] = {}
        #: ``ending`` is a descriptor into which a byte ends the session, as ``stop`` does
        self._wake, self.ending = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._closers += [lambda: os.close(self._wake), lambda: os.close(self.ending)]
        self._fds: list[int] = [self._wake]
        if command is not None:
            self._closers.append(command.close)
        self._process = -1
        self._deadline: float | None = None
        self._finished = self._closed = False

    # -- life
    def start(self, attach: bool = True) -> None:
        """Loads and attaches everything, runs BEGIN, then lets the command run.

        Args:
            attach: False only loads (so that the verifier sees the programs) and ends.
        """
        from ..kernel.loader import load

        try:
            loaded = self.loaded = load(self.kernel, self.unit.spec, log_level=self._log_level)
        except KernelError as error:
            for program in self.unit.spec.programs:
                if program.name == error.program and program.attach:
                    error.mechanism = program.attach[0].mechanism
            raise
        self._closers.append(loaded.close)
        named = self.unit.tables if self.symbols is None else tuple([self.symbols.table(table) for table in self.unit.tables])
        self.tables = {table.name: self._reader(table) for table in named}
        self._open_stream()
        if not attach:
            self.ended = "complete"
            return
        if self.command is not None:
            self._watch(self.command.pid)
        elif self.pid > 0 and self._follow:
            self._watch(self.pid)
        self._prepare()
        self._run("begin")
        self._attach()
        self.sink.attached(self.attached)
        self.drain()
        if self.command is not None:
            self.command.release()
        if self.duration is not None:
            self._deadline = time.monotonic() + self.duration
        if not self.links and not self.ended and self.command is None and self.duration is None:
            self.ended = "complete"  # only BEGIN and END: nothing more can happen

    def poll(self, timeout: float | None = None) -> bool:
        """Waits for something to happen, at most ``timeout`` seconds (None: as long as it takes), and deals with it.

        Returns: False when the session is over (then call ``finish``).
        """
        if self.ended:
            return False
        busy = self.drain()
        if self.ended:
            return False
        fds = self._fds
        wait = -1 if timeout is None else max(0, int(timeout * 1000 + 0.999))
        if busy and self._stream is not None:
            # while records come, whoever writes them shall not have to wake us for each: look again after a rest
            fds = [fd for fd in fds if fd not in self._stream.fds]
            rest = self._stream.rest(busy)
            wait = min(wait, rest) if wait >= 0 else rest
        if self.symbols is not None:
            self.symbols.drain(not busy)
            resting = self.symbols.resting
            for seconds in (resting, self.symbols.pause):
                if seconds:
                    pause = int(seconds * 1000 + 0.999)
                    wait = min(wait, pause) if wait >= 0 else pause
            if not resting:
                fds = [*fds, *self.symbols.fds]
        if self._deadline is not None:
            left = max(0, int((self._deadline - time.monotonic()) * 1000 + 0.999))
            wait = left if wait < 0 else min(wait, left)
        ready = self.kernel.poll(fds, wait)
        if not busy:
            self.drain()
        if self.ended:
            return False
        if self._wake in ready:
            self.ended = "stop"
        elif self._process >= 0 and self._process in ready:
            self.ended = "command" if self.command is not None else "process"
        elif self._deadline is not None and time.monotonic() >= self._deadline:
            self.ended = "duration"
        return not self.ended

    def run(self) -> None:
        """Polls until the session is over, then finishes it."""
        while self.poll():
            pass
        self.finish()

    def stop(self) -> None:
        """Ends the session soon; may be called from anywhere."""
        if self._closed:
            return
        try:
            os.write(self.ending, b"x")
        except OSError:  # full: it was called often enough
            pass

    def finish(self) -> None:
        """Detaches, takes what is left in the ring, runs END, hands the final maps to the sink and adds up the losses."""
        if self._finished or self.loaded is None:
            return
        self._finished = True
        self.ended = self.ended or "stop"
        losses = self._detach()
        self._settle()
        self.exited = False  # END runs after exit() too
        if self._stream is not None:
            self._stream.silent = False
        code = self.exit_code
        self._run("end")
        self._settle()
        self.exit_code = self.exit_code or code
        if self.command is not None:
            self.command.poll()
        from .ledger import merged, program_losses

        losses = [*program_losses(self.unit, self.loaded.maps.get(LOSS)), *losses, *self._read_losses()]
        if self.symbols is not None:
            self.symbols.drain()
        if self._settings.get("print_maps_on_exit", True):
            self.sink.maps([(self.tables[name].table, self.tables[name].rows()) for name in sorted(self.tables)])
        if self.symbols is not None:
            losses += self.symbols.losses()  # also of what was just shown
        self.losses = merged(losses)
        self.sink.flush()

    def close(self) -> None:
        """Gives back everything; may be called twice."""
        if self._closed:
            return
        self._closed = True
        self._close_links(None)
        while self._closers:
            self._closers.pop()()

    def __enter__(self) -> TraceSession:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    # -- what actions may do (actions.Host)
    def exit(self, code: int) -> None:
        """``exit()`` was met in the stream: what follows it does not count."""
        if not self.exited:
            self.exited, self.exit_code = True, code & 0xFF
            self.ended = self.ended or "exit"

    def setting(self, name: str, default: Any) -> Any:
        """A value of the program's config."""
        return self._settings.get(name, default)

    def drain(self) -> int:
        """Takes a batch of records from the ring and hands what they gave to the sink; returns how many there were."""
        return self._stream.drain() if self._stream is not None else 0

    # -- parts of the above
    def _prepare(self) -> None:
        """Does before attaching what would otherwise show up in the events of a program that watches everything (file opens)."""
        from ..kernel.tracefs_leftovers import sweep_leftovers

        sweep_leftovers(self.kernel)  # of sessions that were killed
        self.kernel.poll(self._fds, 0)
        if self.unit.events:
            from . import actions  # noqa: F401
        if self.symbols is not None:
            self._note_mappings(self.symbols)

    def _note_mappings(self, symbols: SessionSymbols) -> None:
        """Begins to note what processes have mapped, unless the program runs in this one only (BEGIN and END)."""
        self._closers.append(symbols.close)
        if len(self.unit.spec.programs) <= len(self.unit.runs):
            return
        pid = self.command.pid if self.command is not None else self.pid
        symbols.follow(pid if pid > 0 else -1, list(self.tables.values()))
        assert self.loaded is not None
        table = self.loaded.maps.get("harken_python")
        if table is not None:
            symbols.follow_python(table)
        follower = symbols.follower
        if follower is not None and follower.problem:
            text = f"what processes have mapped is not noted; those that end have no names: {follower.problem}"
            self.sink.emit([item for item in (self.sink.warning("mappings", text, ""),) if item is not None])

    def _reader(self, table: Table) -> TableReader | LocalTable:
        assert self.loaded is not None
        if table.map:
            return TableReader(table, self.loaded.maps[table.map])
        from .local_tables import LocalTable

        return LocalTable(table)

    def _open_stream(self) -> None:
        assert self.loaded is not None
        map = self.loaded.maps.get(RING)
        if map is None:
            return
        from .stream import Stream

        self._stream = Stream(map, self._settings.get("perf_rb_pages"), self, self.sink)
        self._fds += self._stream.fds
        self._closers.append(self._stream.close)

    def _watch(self, pid: int) -> None:
        from .command import watch

        fd = self._process = watch(pid)
        self._closers.append(lambda: os.close(fd))
        self._fds.append(fd)

    def _run(self, when: str) -> None:
        """Runs the programs for "begin" or "end" in order."""
        assert self.loaded is not None
        for moment, name in self.unit.runs:
            if moment == when:
                self.loaded.programs[name].run()

    def _attach(self) -> None:
        from ..probes.attachers import ATTACHERS, AttachOptions

        assert self.loaded is not None
        pid = self.command.pid if self.command is not None else self.pid
        options = AttachOptions(pid)
        run_here = {name for _when, name in self.unit.runs}
        for program in self.unit.spec.programs:
            if program.name in run_here:
                continue
            for place in program.attach:
                try:
                    link = ATTACHERS[place.mechanism].attach(self.kernel, self.loaded.programs[program.name], place, options)
                except KernelError as error:
                    if not self.unit.runs:  # else BEGIN has run already
                        error.mechanism = place.mechanism
                    raise
                self.links.append((link, place.probe))
                for refused in getattr(link, "skipped", ()):
                    self.sink.warning("skipped", f"not attached: {refused}", "")
        self.attached = len(self.unit.plan) or len(self.links) + len(self.unit.runs)

    def _detach(self) -> list[Loss]:
        """Closes the links; returns what the kernel says it did not deliver."""
        assert self.loaded is not None
        missed = [(probe, link.missed()) for link, probe in self.links]
        self._close_links(time.monotonic() + _PATIENCE)
        from .ledger import kernel_losses

        return kernel_losses(self.unit, self.loaded.programs, missed)

    def _close_links(self, deadline: float | None) -> None:
        """Detaches until the deadline; what is not done by then is left to ``close``, and the user gets the results first."""
        if self.links:
            from .detach import close_links

            close_links(self.links, deadline)

    def _settle(self) -> None:
        """Takes what is in the ring now (probes that could not be detached yet may go on filling it)."""
        if self._stream is not None:
            self._stream.settle(time.monotonic() + _PATIENCE if self.links else None)

    def _read_losses(self) -> list[Loss]:
        from .ledger import Loss

        losses = [Loss("map", name, count) for name, count in self.refused.items()]
        return losses if self._stream is None else [*self._stream.losses(), *losses]
