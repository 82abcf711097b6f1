"""The library: ``harken.trace`` and what it returns.

Example (needs root)::

    import harken

    with harken.trace("tracepoint:syscalls:sys_enter_openat { @[comm] = count(); }") as t:
        t.run(1.0)
        for comm, calls in t.maps["@"].items():
            print(comm, calls)

    with harken.trace(r'tracepoint:sched:sched_process_exec { printf("%s %d\\n", comm, pid); }', duration=10) as t:
        for event in t:
            print(event.values, event.text)

Nothing here prints, exits or installs a signal handler.  Errors are those of ``harken.base.errors``.
"""

from __future__ import annotations

from _collections_abc import Mapping  # what collections.abc re-exports; it is loaded already

from ..base.diagnostics import Source
from ..base.errors import KernelError, LossError, UsageError
from .build import build
from .session import TraceSession

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from ..compiler.unit import Unit
    from ..kernel.kernel import Kernel
    from .command import Command
    from .events import TraceEvent
    from .ledger import Loss

__all__ = ("trace", "build", "Trace", "Maps")


def trace(
    program: str,
    *,
    params: Sequence[str] = (),
    pid: int | None = None,
    command: Sequence[str] | None = None,
    duration: float | None = None,
    strict: bool = False,
    name: str = "stdin",
    settings: Mapping[str, Any] | None = None,
    cached: bool = True,
    keep: int = 1_000_000,
) -> Trace:
    """Compiles a program and returns a context manager that runs it.

    Args:
        program: source text in bpftrace's language.
        params: positional parameters ``$1`` ...
        pid: trace only this process; the trace ends when it ends.
        command: program and arguments, started when everything is attached; the trace ends when it ends.
        duration: seconds after which the trace ends.
        strict: raise ``LossError`` at the end if anything was lost.
        name: what messages call the source.
        settings: compiler options by name (``max_strlen`` ...).
        cached: use the cache of compiled programs.
        keep: how many events may wait to be read by the iterator; more are counted as lost.

    Raises:
        SourceError, ProbeError, KernelError, ...: see ``harken.base.errors``.
    """
    if pid is not None and command is not None:
        raise UsageError("a trace follows a process or a command, not both")
    from ..kernel.kernel import live

    kernel = live()
    held: Command | None = None
    if command is not None:
        from .command import Command

        held = Command(kernel, command)
    try:
        unit = build(
            Source(name, program),
            kernel=kernel,
            params=params,
            pid=held.pid if held is not None else -1 if pid is None else pid,
            settings=(*(settings or {}).items(), *((("cpid", held.pid),) if held is not None else ())),
            cached=cached and held is None,
        )
        again = None
        if held is None:

            def again(avoid: tuple[str, ...]) -> Unit:
                options = (*(settings or {}).items(), ("avoid", avoid))
                return build(
                    Source(name, program), kernel=kernel, params=params, pid=-1 if pid is None else pid, settings=options, cached=cached
                )

        return Trace(unit, kernel, pid=-1 if pid is None else pid, command=held, duration=duration, strict=strict, keep=keep, again=again)
    except BaseException:
        if held is not None:
            held.close()
        raise


class Trace:
    """A running program: a context manager and an iterator of its events.

    Attributes:
        maps: the program's maps by name; each access reads the kernel.  A scalar map is its value, others are dicts in printing order.
            Stacks are tuples of ``symbols.model.Frame`` (with ``pid``), here and in events.
        exit_code: what ``exit(code)`` in the program asked for.
        warnings: (position, message, hint) of the compiler.
    """

    def __init__(
        self,
        unit: Unit,
        kernel: Kernel,
        *,
        pid: int = -1,
        command: Command | None = None,
        duration: float | None = None,
        strict: bool = False,
        keep: int = 1_000_000,
        again: Callable[[tuple[str, ...]], Unit] | None = None,
    ) -> None:
        from .events import EventSink

        self.unit = unit
        self._again = again
        self._sink = EventSink(keep)

        def make() -> TraceSession:
            return TraceSession(self.unit, kernel, self._sink, pid=pid, command=command, duration=duration)

        self._make = make
        self._session = make()
        self._strict = strict
        self._started = False
        self.maps = Maps(self._session)

    # -- life
    def start(self) -> Trace:
        """Loads and attaches; ``with`` does it."""
        if not self._started:
            self._started = True
            avoid: tuple[str, ...] = ()
            while True:
                try:
                    self._session.start()
                    break
                except KernelError as error:
                    self._session.close()
                    from .fallback import next_without, notice

                    avoid = next_without(self.unit, error, avoid) if self._again is not None else ()
                    if not avoid or self._again is None:
                        raise
                    self._sink.warning("fallback", notice(error), "")
                    self.unit = self._again(avoid)
                    self._session = self.maps._session = self._make()
                except BaseException:
                    self._session.close()
                    raise
        return self

    def __enter__(self) -> Trace:
        return self.start()

    def __exit__(self, kind: object, _error: object, _trace: object) -> None:
        self.close()
        if self._strict and kind is None and self.losses:
            lost = sum(loss.count for loss in self.losses)
            raise LossError(f"{lost} events were lost", "see the losses attribute")

    def close(self) -> None:
        """Detaches, runs END, keeps the final maps and losses, and gives everything back."""
        try:
            self._session.finish()
            self.maps.keep()
        finally:
            self._session.close()

    def stop(self) -> None:
        """Ends the trace soon; may be called from another thread or a signal handler."""
        self._session.stop()

    def run(self, duration: float | None = None) -> Trace:
        """Lets the program run until it ends, at most ``duration`` seconds; it can then be continued.

        Events that come meanwhile are kept for the iterator.
        """
        from time import monotonic

        self.start()
        deadline = None if duration is None else monotonic() + duration
        while True:
            left = None if deadline is None else deadline - monotonic()
            if left is not None and left <= 0:
                return self
            if not self._session.poll(left):
                self._session.finish()
                return self

    # -- what it gives
    def __iter__(self) -> Iterator[TraceEvent]:
        """Events as they come, until the trace ends."""
        self.start()
        while True:
            yield from self._sink.take()
            if self._session.ended:
                self._session.finish()
                yield from self._sink.take()
                return
            self._session.poll()

    @property
    def losses(self) -> tuple[Loss, ...]:
        """What was lost; complete when the trace has ended."""
        return self._session.losses + self._sink.losses()

    @property
    def exit_code(self) -> int:
        return self._session.exit_code

    @property
    def warnings(self) -> tuple[tuple[str, str, str], ...]:
        return self.unit.warnings

    @property
    def probes(self) -> tuple[str, ...]:
        """The probes, wildcards expanded."""
        return tuple([str(row[0]) for row in self.unit.plan])

    def explain(self) -> str:
        """Which mechanism serves each probe, why, and why the others do not."""
        from ..render.explain import explain_text

        return explain_text(self.unit.plan)


class Maps(Mapping[str, "Any"]):
    """The maps of a trace by name ("@", "@reads"); after the trace has ended, as they were at the end."""

    def __init__(self, session: TraceSession) -> None:
        self._session = session
        self._kept: dict[str, Any] | None = None

    def __getitem__(self, name: str) -> Any:
        if self._kept is not None:
            return self._kept[name]
        reader = self._session.tables[name]
        from ..render.tables import Layout
        from .tables import plain_rows

        table = reader.table
        rows = plain_rows(table, Layout(table.name, table.kind, table.key, table.value).rows(reader.rows()))
        if not table.key.fields:
            return rows[0][1] if rows else None
        return dict(rows)

    def __iter__(self) -> Iterator[str]:
        return iter(self._session.tables if self._kept is None else self._kept)

    def __len__(self) -> int:
        return len(self._session.tables if self._kept is None else self._kept)

    def __repr__(self) -> str:
        return repr(dict(self))

    def keep(self) -> None:
        """Reads everything for the last time."""
        if self._kept is None:
            self._kept = dict(self)
