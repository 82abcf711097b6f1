"""ftrace: one buffer with all its settings, every change of which is undone.

``Ftrace`` is a private instance (``private``), an instance with a name that others see (``named``), or the top buffer (``top``).  Its
methods are the files of tracefs with their quirks taken care of: lists that must not be truncated, function filters that take one word
per write, tracers that exist in the top buffer only, features that a kernel lacks.

Example::

    with Ftrace.private(find(kernel)) as trace:
        trace.enable("sched:sched_switch", filter="prev_pid > 0")
        trace.start()
        ...

Closing it undoes what was set and removes a private instance.
"""

from __future__ import annotations

import errno
import os

from ..base.errors import KernelError, ProbeError, UsageError
from .ftrace_events import EventList, near_names, no_histograms, trigger_hint
from .ftrace_functions import Lists
from .ftrace_settings import ListSettings
from .kernel import Call
from .tracefs import Tracefs
from .tracefs_instances import Instance, let_top_grow

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .ftrace_journal import DurableSettings
    from .ftrace_synthetic import SyntheticEvent
    from .kernel import Kernel

__all__ = ("Ftrace",)

_AT_FDCWD = -100
_AT_REMOVEDIR = 0x200
#: Files that exist once for all instances.
_ONCE = frozenset(
    ("set_graph_function", "set_graph_notrace", "max_graph_depth", "tracing_thresh", "saved_cmdlines_size", "tracing_max_latency")
)


class Ftrace(Lists):
    """One buffer.  ``name`` is "" for the top buffer; ``tracefs`` is its directory, ``root`` the top directory."""

    def __init__(self, root: Tracefs, tracefs: Tracefs, settings: ListSettings, name: str = "", created: bool = False) -> None:
        self.root = root
        self.tracefs = tracefs
        self.kernel: Kernel = root.kernel
        self.name = name
        self.created = created
        self.settings = settings
        self._shared: DurableSettings | None = None
        self._events: EventList | None = None
        self._cpus: tuple[int, ...] = ()
        self._page = 0

    @classmethod
    def private(cls, root: Tracefs, label: str = "") -> Ftrace:
        """A new instance that nobody else uses; it vanishes when closed, or at the next start of harken if this process is killed.

        Raises:
            KernelError: not permitted.
        """
        instance = Instance(root, label)
        return cls(root, instance, ListSettings(instance), instance.name, True)

    @classmethod
    def named(cls, root: Tracefs, name: str, create: bool = True) -> Ftrace:
        """The instance of a name; ``created`` tells whether it had to be made.

        Raises:
            KernelError: it is not there and may not be made.
        """
        if not name or "/" in name or name.startswith("."):
            raise UsageError(f"{name!r} cannot be the name of a buffer")
        path = f"instances/{name}"
        shared = None
        if not root.exists(f"{path}/trace"):
            if not create:
                raise KernelError(
                    f"there is no buffer called {name!r}", errno=errno.ENOENT, hint="'harken trace-cmd list -B' shows those that exist"
                )
            shared = _durable(root)
            if not shared.make_instance(name):  # somebody else was faster
                shared = None
        tracefs = Tracefs(root.kernel, root.path(path), root.note)
        settings = _durable(tracefs) if create and shared is None else ListSettings(tracefs)  # of somebody else's buffer
        found = cls(root, tracefs, settings, name, shared is not None)
        found._shared = shared
        return found

    @classmethod
    def top(cls, root: Tracefs, durable: bool = True) -> Ftrace:
        """The top buffer, which everybody shares; its changes are journalled on disk."""
        if not durable:
            return cls(root, root, ListSettings(root))
        found = cls(root, root, _durable(root))
        found._shared = found.settings  # type: ignore[assignment]
        return found

    def remove(self) -> bool:
        """Removes the instance; False if somebody still uses it."""
        if not self.name:
            return False
        path = os.fsencode(self.root.path(f"instances/{self.name}")) + b"\0"
        return self.kernel.call(Call("unlinkat", (_AT_FDCWD, path, _AT_REMOVEDIR))) >= 0

    def close(self) -> list[KernelError]:
        """Undoes everything and removes an instance that was made here; returns what could not be undone."""
        if self.created and self.settings.vanish and self.remove():
            failed = []
        else:
            failed = self.settings.undo()
            # its triggers keep synthetic events in use; a private one that cannot be removed goes with the next start
            if self.created and not self.remove() and not isinstance(self.tracefs, Instance):
                failed.append(KernelError(f"the buffer {self.name!r} stays: somebody uses it", errno=errno.EBUSY))
        if self._shared is not None:
            failed += self._shared.undo()
        return failed

    def keep(self) -> None:
        """Lets everything stand as it is."""
        for settings in (self.settings, self._shared):
            if settings is not None:
                settings.keep()
        self.created = False

    def __enter__(self) -> Ftrace:
        return self

    def __exit__(self, *_details: object) -> None:
        self.close()

    # -- files

    def has(self, file: str) -> bool:
        """Whether this buffer has a file of its own."""
        return self.tracefs.exists(file)

    def read(self, file: str) -> str:
        """A file of this buffer, or the one that exists for all."""
        return self._of(file).read(file)

    def _of(self, file: str) -> Tracefs:
        return self.root if self.name and file in _ONCE and not self.tracefs.exists(file) else self.tracefs

    def set(self, file: str, value: str, append: bool = False) -> None:
        """Writes a setting; ``close`` takes it back.

        Raises:
            KernelError: with the kernel's own reason where it gives one.
        """
        self._page = 0  # which a setting may change
        if self._of(file) is self.tracefs:
            self.settings.set(file, value, append)
            return
        self._for_all().set(file, value, append)

    def _for_all(self) -> DurableSettings:
        """The journal of what is not this buffer's own."""
        if self._shared is None:
            self._shared = _durable(self.root)
        return self._shared

    # -- running

    def start(self) -> None:
        self.set("tracing_on", "1")

    def stop(self) -> None:
        self.tracefs.write("tracing_on", "0")

    @property
    def running(self) -> bool:
        return self.tracefs.read("tracing_on").strip() == "1"

    def clear(self) -> None:
        """Empties the buffer."""
        self.tracefs.write("trace", "\n")

    # -- what is traced

    @property
    def tracers(self) -> tuple[str, ...]:
        """Tracers that this buffer offers."""
        return self.tracefs.tracers()

    @property
    def tracer(self) -> str:
        return self.tracefs.read("current_tracer").strip()

    def set_tracer(self, name: str) -> None:
        """Chooses a tracer.

        Raises:
            ProbeError: the kernel does not have it, or not for this buffer.
        """
        have = self.tracers
        if name not in have:
            from .ftrace_tracers import tracer_missing

            raise tracer_missing(self.root, name, have, bool(self.name))
        self._set_of_tracer("current_tracer", name)

    def _set_of_tracer(self, file: str, value: str) -> None:
        """Chooses a tracer or sets an option, of which some exclude each other."""
        try:
            self.set(file, value)
        except KernelError as error:
            if error.errno == errno.EINVAL:
                from .ftrace_tracers import exclusive

                error.hint = error.hint or exclusive(self.tracefs, file.rpartition("/")[2])
            raise

    @property
    def event_list(self) -> EventList:
        if self._events is None:
            self._events = EventList(self.root.read("available_events"))
        return self._events

    @property
    def events(self) -> list[tuple[str, str]]:
        """(system, event) of all events."""
        return self.event_list.pairs

    def enable(self, pattern: str, filter: str = "", trigger: str = "", ignore: bool = False, on: bool = True) -> list[tuple[str, str]]:
        """Enables the events that a pattern means (``kernel.ftrace_events``); returns them.

        Args:
            filter: a condition in the kernel's syntax.
            trigger: what happens when the event does ("stacktrace", "traceoff:1 if ...").
            ignore: a pattern without an event is not an error.
            on: False sets filters and triggers only.

        Raises:
            ProbeError: no event matches.
            KernelError: the filter or trigger is refused, with the kernel's reason.
        """
        chosen = self.event_list.match(pattern) if ignore else self.event_list.required(pattern)
        if not chosen:
            return []
        whole, single = self.event_list.whole(chosen)
        if filter:
            for system in whole:
                self.settings.filter_system(system, [name for owner, name in chosen if owner == system], filter, not self.created)
            for system, event in single:
                self.set(f"events/{system}/{event}/filter", filter)
        if trigger:
            for system, event in chosen:
                self.add_trigger(system, event, trigger)
        if on:
            self._switch(whole, single, chosen, "1")
        return chosen

    def disable(self, pattern: str) -> list[tuple[str, str]]:
        """Disables the events that a pattern means; returns them."""
        chosen = self.event_list.match(pattern)
        whole, single = self.event_list.whole(chosen)
        self._switch(whole, single, chosen, "0")
        return chosen

    def _switch(self, whole: list[str], single: list[tuple[str, str]], chosen: list[tuple[str, str]], value: str) -> None:
        for system in whole:
            file = f"events/{system}/enable"
            # One write cannot put back a mixed state, and what looks as if all were on may be on for triggers only (soft mode,
            # kernel/trace/trace_events.c): then each event is journalled.
            if self.created or self.tracefs.read(file).strip() == "0":
                try:
                    self.set(file, value)
                    continue
                except KernelError:  # one event that refuses must not keep the others off
                    pass
            for event in [name for owner, name in chosen if owner == system]:
                try:
                    self.set(f"events/{system}/{event}/enable", value)
                except KernelError:
                    continue
        for system, event in single:
            self.set(f"events/{system}/{event}/enable", value)

    def add_trigger(self, system: str, event: str, trigger: str) -> None:
        """Adds a trigger; ``close`` removes it.  Raises KernelError with the kernel's reason and the place in the trigger."""
        file = f"events/{system}/{event}/trigger"
        if trigger.startswith("hist") and not self.has(f"events/{system}/{event}/hist") and self.has(file):
            raise no_histograms()
        # a trigger is taken away by its own text with '!'
        try:
            self.settings.command(file, trigger, "!" + trigger)
        except KernelError as error:
            error.hint = error.hint or trigger_hint(trigger)
            raise

    def synthetic(self, name: str, fields: str) -> SyntheticEvent:
        """Defines a synthetic event ``synthetic:NAME`` ("pid_t pid; u64 lat"), which goes when this buffer is closed.

        Raises:
            KernelError: the kernel has none, the name is taken, or the definition is wrong (with the place in it).
        """
        from .ftrace_synthetic import SyntheticEvent, check, definition

        check(self.root, name)
        file, line, undo = definition(self.root, name, fields)
        self._for_all().command(file, line, undo)
        self._events = None
        return SyntheticEvent(name, fields)

    # -- how

    def option(self, name: str) -> None:
        """Sets a trace option; a leading "no" clears it.

        Raises:
            ProbeError: there is no such option here (options of a tracer exist while it is chosen).
        """
        for word, value in ((name, "1"), (name[2:] if name.startswith("no") else "", "0")):
            if word and self.has(f"options/{word}"):
                self._set_of_tracer(f"options/{word}", value)
                return
        try:
            self.tracefs.write("trace_options", name)
        except KernelError as error:
            if error.errno == errno.EINVAL:
                near = near_names(self.tracefs.options(), name.removeprefix("no"))
                raise ProbeError(
                    f"there is no trace option {name!r} here",
                    f"did you mean {' or '.join(near)}?" if near else "'harken trace-cmd list -o' shows the options",
                ) from None
            raise

    def set_clock(self, name: str) -> None:
        """Chooses the clock of time stamps.

        Raises:
            ProbeError: the kernel has no such clock.
        """
        have, chosen = self.tracefs.clocks()
        if name not in have:
            raise ProbeError(f"there is no clock {name!r}", f"this kernel has {' '.join(have)}")
        if name != chosen:
            self.set("trace_clock", name)

    @property
    def clock(self) -> str:
        return self.tracefs.clocks()[1]

    def set_buffer_kb(self, size: int) -> None:
        """The size of each CPU's buffer."""
        if self.name:
            let_top_grow(self.root, lambda: self.set("buffer_size_kb", str(size)))
        else:
            self.set("buffer_size_kb", str(size))

    def set_cpumask(self, mask: str) -> None:
        """Traces only these CPUs: a hexadecimal mask, or -1 for all."""
        from .ftrace_masks import mask_text

        self.set("tracing_cpumask", mask_text(self.kernel, mask))

    # -- what there is to read

    @property
    def page_size(self) -> int:
        """Bytes of a page (a sub-buffer) of this ring buffer."""
        if not self._page:
            self._page = os.sysconf("SC_PAGE_SIZE")
            if self.has("buffer_subbuf_size_kb"):
                try:
                    self._page = int(self.tracefs.read("buffer_subbuf_size_kb")) * 1024
                except (KernelError, ValueError):
                    pass
        return self._page

    def stats(self, cpu: int) -> str:
        """``per_cpu/cpuN/stats``: lines of entries, overrun, dropped events, ..."""
        return self.tracefs.read(f"per_cpu/cpu{cpu}/stats")

    @property
    def cpus(self) -> tuple[int, ...]:
        """CPUs that have a buffer."""
        if not self._cpus:
            names = self.kernel.listdir(self.tracefs.path("per_cpu"))
            self._cpus = tuple(sorted([int(name[3:]) for name in names if name.startswith("cpu") and name[3:].isdigit()]))
        return self._cpus


def _durable(tracefs: Tracefs) -> DurableSettings:
    """Settings that outlive a killed owner, which few recordings change: their module is large."""
    from .ftrace_journal import DurableSettings

    return DurableSettings(tracefs)
