"""Names for the stacks and symbols of a program while it is traced.

Records and maps hold addresses.  ``SessionSymbols`` is what ``render.stacks`` asks for names and what library users get their frames from:
it keeps one ``Symbolizer``, and where the program takes addresses of processes, a ``Follower`` of their mappings.  A session makes one
only if its program has stacks or symbols; nothing of ``symbols`` is imported before the first name is asked for.

Values for library users (``value_of``):

===========  ==========================================================================
role         value
===========  ==========================================================================
kstack       ``Stack``: a tuple of ``symbols.model.Frame``, innermost first
ustack       ``Stack`` with ``pid``
ksym         ``Frame``
usym         ``UserFrame``: a ``Frame`` with ``pid``
===========  ==========================================================================
"""

from __future__ import annotations

from ..render.stacks import Bound, bound, build_ids, needs_names, split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ..base.schema import Field, Schema
    from ..compiler.unit import Event, Table, Unit
    from ..kernel.kernel import Kernel
    from ..render.stacks import Names
    from ..symbols.model import Frame
    from ..symbols.symbolizer import Symbolizer
    from .ledger import Loss
    from .mappings import Follower
    from .tables import TableReader

__all__ = ("SessionSymbols", "Stack", "symbols_for", "value_of", "noting")

#: Frames of a stack that names no limit (compiler.builtins.stacks), and of any unless kernel.perf_event_max_stack was raised.
_DEFAULT_LIMIT = 127


class Stack(tuple["Frame", ...]):
    """The frames of a stack, innermost first.  ``pid`` is the process, -1 for a kernel stack; equal stacks of two processes differ."""

    pid: int

    def __new__(cls, frames: Sequence[Frame], pid: int = -1) -> Stack:
        made = super().__new__(cls, frames)
        made.pid = pid
        return made

    def __eq__(self, other: object) -> bool:
        return tuple.__eq__(self, other) is True and getattr(other, "pid", self.pid) == self.pid

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return tuple.__hash__(self)

    def __repr__(self) -> str:
        inner = ", ".join([frame.label for frame in self])
        return f"<Stack [{inner}]>" if self.pid < 0 else f"<Stack of {self.pid} [{inner}]>"


def symbols_for(unit: Unit, kernel: Kernel, settings: dict[str, Any]) -> SessionSymbols | None:
    """Symbols for a program, None if it shows none."""
    schemas = [event.schema for event in unit.events] + [part for table in unit.tables for part in (table.key, table.value)]
    if not any([needs_names(schema) for schema in schemas]):
        return None
    return SessionSymbols(kernel, settings, any([_has_user(schema) for schema in schemas]))


def _has_user(schema: Schema) -> bool:
    return any([field.role in ("ustack", "usym") or (field.schema is not None and _has_user(field.schema)) for field in schema.fields])


class SessionSymbols:
    """One session's symbols.

    Args:
        kernel: the running kernel.
        settings: the program's config: ``cpp_demangle`` (on), ``show_debug_info`` (lines and inlined functions, off: reading debug
            information takes time).
        user: whether the program takes addresses of processes.
    """

    def __init__(self, kernel: Kernel, settings: dict[str, Any], user: bool) -> None:
        self._kernel, self._settings, self._user = kernel, settings, user
        self._symbolizer: Symbolizer | None = None
        self.follower: Follower | None = None
        self._readers: list[TableReader] = []
        self._seen: set[int] = set()
        self._cut: dict[str, int] = {}
        self._longest = -1

    # -- life
    def events(self, events: Sequence[Event]) -> tuple[Event, ...]:
        """The program's events, whose stacks and symbols have names."""
        return tuple([event.replace(schema=bound(event.schema, self)) for event in events])

    def table(self, table: Table) -> Table:
        """The same for a map."""
        return table.replace(key=bound(table.key, self), value=bound(table.value, self))

    def follow(self, pid: int, readers: Sequence[TableReader]) -> None:
        """Begins to note the mappings of processes.

        Args:
            pid: the only process that is traced, or -1.
            readers: the program's maps.
        """
        self._readers = [reader for reader in readers if _has_user(reader.table.key) or _has_user(reader.table.value)]
        if self._user:
            from .mappings import Follower

            self.follower = Follower(self._kernel, pid, self._wanted)

    def drain(self, idle: bool = False) -> None:
        """Takes what the kernel has told of processes; if there is nothing else to do, looks at some that were there before."""
        if self.follower is not None:
            self.follower.drain()
            if idle:
                self.follower.look()

    @property
    def fds(self) -> tuple[int, ...]:
        """Readable when there is much to ``drain``."""
        return self.follower.fds if self.follower is not None else ()

    @property
    def unfinished(self) -> bool:
        """Whether ``drain`` has more to do when there is time."""
        return self.follower is not None and self.follower.unfinished

    def losses(self) -> list[Loss]:
        """What is not known of processes that may have been asked for, and which stacks go on where they end."""
        from .ledger import Loss

        follower = self.follower
        cut = [Loss("cut", role, count) for role, count in self._cut.items()]
        if follower is None:
            return cut
        lost = cut + ([Loss("mappings", "the kernel's buffer", follower.lost)] if follower.lost else [])
        return lost + ([Loss("mappings", "processes that have ended", follower.dropped)] if follower.dropped else [])

    def close(self) -> None:
        """Ends following and gives back what is held of containers; names can be asked for all the same."""
        if self.follower is not None:
            self.follower.close()
            self.follower.release()
        if self._symbolizer is not None:
            self._symbolizer.close()

    def _wanted(self) -> set[int]:
        """The processes that the program's maps mention."""
        found: set[int] = set()
        for reader in self._readers:
            for key, value in reader.rows():
                found.update(_processes(reader.table.key, key))
                if reader.table.kind == "value":
                    found.update(_processes(reader.table.value, value))
        return found

    # -- names (render.stacks.Names)
    @property
    def symbolizer(self) -> Symbolizer:
        """Made when it is first asked for."""
        if self._symbolizer is None:
            from ..symbols.symbolizer import Symbolizer

            debug = bool(self._settings.get("show_debug_info", False))
            self._symbolizer = Symbolizer(self._kernel, demangle=bool(self._settings.get("cpp_demangle", True)), lines=debug, inlines=debug)
        return self._symbolizer

    def kernel(self, address: int) -> Frame:
        return self.symbolizer.kernel(address)

    def kernel_stack(self, addresses: Sequence[int]) -> list[Frame]:
        if len(addresses) >= _DEFAULT_LIMIT:
            self._count_cut("kstack", len(addresses))
        return self.symbolizer.stack(-1, addresses, user=False)

    def user(self, pid: int, address: int) -> Frame:
        self.seen(pid)
        symbolizer = self.symbolizer
        frame = symbolizer.user(pid, address)[-1]
        if not frame.name and self._news(pid):
            frame = symbolizer.user(pid, address)[-1]
        return frame

    def user_stack(self, pid: int, addresses: Sequence[int]) -> list[Frame]:
        self.seen(pid)
        if len(addresses) >= _DEFAULT_LIMIT:
            self._count_cut("ustack", len(addresses))
        symbolizer = self.symbolizer
        frames = symbolizer.stack(pid, addresses)
        if any([not frame.module for frame in frames]) and self._news(pid):
            frames = symbolizer.stack(pid, addresses)
        return frames

    def _count_cut(self, role: str, length: int) -> None:
        """Counts a stack that is as long as the kernel allows, or as a program that names no limit gets it."""
        if self._longest < 0:
            from ..kernel.procfs import sysctl

            self._longest = int(sysctl(self._kernel, "kernel.perf_event_max_stack") or _DEFAULT_LIMIT)
        if length in (_DEFAULT_LIMIT, self._longest):
            self._cut[role] = self._cut.get(role, 0) + 1

    def seen(self, pid: int) -> None:
        """A process is in an event: notes what it has mapped while it is there."""
        if pid in self._seen or pid <= 0:
            return
        self._seen.add(pid)
        if self.follower is None or not self.follower.tell(pid, self.symbolizer.processes):
            self.symbolizer.processes.refresh(pid)

    def _news(self, pid: int) -> bool:
        """Whether the process has mapped more than was known."""
        if self.follower is None:
            return False
        processes = self.symbolizer.processes
        before = processes.changes(pid)
        self.follower.drain()  # hands on what belongs to processes that were asked for
        return processes.changes(pid) != before


# -- values


def _processes(schema: Schema, row: tuple[Any, ...]) -> list[int]:
    found = []
    for field, value in zip(schema.fields, row):
        if field.role == "ustack":
            found.append(int.from_bytes(value[:4], "little"))
        elif field.role == "usym":
            found.append(value[1])
        elif field.schema is not None and _has_user(field.schema):
            for part in value if field.count > 1 else (value,):
                found += _processes(field.schema, part)
    return found


def noting(schema: Schema) -> Callable[[tuple[Any, ...]], None] | None:
    """A function that notes what the processes in a decoded record have mapped now; None if it mentions none.

    For records whose names are asked for later, if ever.
    """
    names = _names_of(schema)
    if names is None or not _has_user(schema):
        return None
    seen = names.seen

    def note(row: tuple[Any, ...]) -> None:
        for pid in _processes(schema, row):
            seen(pid)

    return note


def _names_of(schema: Schema) -> Names | None:
    """Who knows the names of a bound record."""
    for field in schema.fields:
        if isinstance(field.detail, Bound):
            return field.detail.names
        inner = _names_of(field.schema) if field.schema is not None else None
        if inner is not None:
            return inner
    return None


def value_of(schema: Schema) -> Callable[[tuple[Any, ...]], tuple[Any, ...]] | None:
    """A function from a decoded record to the values that library users see; None if those are the decoded ones."""
    if not needs_names(schema):
        return None
    parts = [_value(field) for field in schema.fields]
    return lambda row: tuple([value if part is None else part(value) for part, value in zip(parts, row)])


def _value(field: Field) -> Callable[[Any], Any] | None:
    if field.schema is not None and field.role != "usym":
        inner = value_of(field.schema)
        return inner if inner is None or field.count == 1 else lambda rows: tuple([inner(row) for row in rows])
    detail = field.detail
    if not isinstance(detail, Bound):
        return None
    names = detail.names
    if field.role == "ksym":
        return names.kernel
    if field.role == "usym":
        return lambda value: _user_frame(names.user(value[1], value[0]), value[1])
    if detail.detail[0] == "build_id":
        return _of_build_ids
    if field.role == "kstack":
        return lambda raw: Stack(names.kernel_stack(split(field, raw)[1]))  # type: ignore[arg-type]

    def user(raw: Any) -> Stack:
        pid, addresses = split(field, raw)
        return Stack(names.user_stack(pid, addresses), pid)  # type: ignore[arg-type]

    return user


def _user_frame(frame: Any, pid: int) -> Frame:
    from .user_frame import UserFrame

    return UserFrame(**{name: getattr(frame, name) for name in type(frame)._fields}, pid=pid)


def _of_build_ids(raw: Any) -> Stack:
    from ..symbols.model import Frame

    frames = [Frame(offset, build_id=build_id) for build_id, offset in build_ids(raw)]
    return Stack(frames, int.from_bytes(bytes(raw[:4]), "little"))
