"""Records as ``trace-cmd report`` prints them, line for line.

Two generations of it print differently: 3.1.6 (libtraceevent 1.7, Debian 12) and 3.4, which has a column of latency flags
(``generation="3.4"``)::

                bash-32595 [000]  4932.494985: sys_exit:             NR 61 = 437        3.1
                bash-32595 [000] d..1.  4932.494985: sys_exit:       ...                3.4

``ReportLines`` writes the events; titles (``cpus=2``), file names and filters are the command's.  The handlers of libtraceevent's plugins
are in ``formats.print_fmt_plugins``; the function trace's indentation, which depends on the calls before, is made here, and the function
graph by a ``Special`` that ``render.function_graph`` provides.
"""

from __future__ import annotations

import struct

from ..formats.event_columns import is_text, numbers_of
from ..formats.function_arguments import MOST
from ..formats.print_fmt import Env, Renderer, compile_print_fmt, plain_renderer
from ..formats.print_fmt_plugins import kernel_stack_text
from ..formats.print_fmt_raw import raw_renderer
from ..formats.print_fmt_rows import NotBulk, rows
from ..native.ring import counts
from .ftrace import Lines
from .ftrace_batches import Item
from .ftrace_bulk import BulkSpecial
from .ftrace_functions import FunctionTexts, place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from ..formats.event_format import EventFormat, FormatField
    from ..formats.event_records import EventColumns
    from .ftrace import Special
    from .ftrace_batches import Batch, Group
    from .ftrace_native import Writer

__all__ = ("ReportLines", "latency_flags", "GENERATIONS")

GENERATIONS = ("3.1", "3.4")

#: Events whose plugin teaches libtraceevent the names of tasks: field of the pid, field of the name.
_TEACHERS = {
    "sched_switch": (("prev_pid", "prev_comm"), ("next_pid", "next_comm")),
    "sched_wakeup": (("pid", "comm"),),
    "sched_wakeup_new": (("pid", "comm"),),
}


def _teaches(pid: FormatField, comm: FormatField) -> bool:
    return numbers_of(pid) in ((2, 1), (4, 1), (8, 1)) and is_text(comm)


def latency_flags(flags: int, preempt: int, lock_depth: int | None = None, migrate: int | None = None, lazy: bool = False) -> str:
    """The letters of ``report -l`` and of every line of 3.4 (``data_latency_format``).

    Args:
        lazy: whether bit 1 says that a task gives way lazily (``TRACE_FLAG_NEED_RESCHED_LAZY``, Linux 6.12), as libtraceevent 1.9 takes it,
            or that the state of interrupts is not known.

    Example:
        >>> latency_flags(0x01 | 0x08, 1)
        'd.h1.'
    """
    irqs = "d" if flags & 0x01 else "X" if flags & 0x02 and not lazy else "."
    resched = "N" if flags & 0x04 else "L" if flags & 0x02 and lazy else "."
    hard, soft = flags & 0x08, flags & 0x10
    context = "H" if hard and soft else "h" if hard else "s" if soft else "."
    text = f"{irqs}{resched}{context}"
    text += f"{preempt & 15:x}" if preempt & 15 else "."
    text += f"{preempt >> 4:x}" if preempt & 0xF0 else "."
    for extra in (migrate, lock_depth):
        if extra is not None:
            text += "." if extra < 0 else str(extra)
    return text


class ReportLines(Lines):
    """Lines of ``trace-cmd report``.

    Args:
        generation: "3.1" or "3.4".
        nanosecond: ``-t``, times with nine digits.
        raw: ``-R`` (True), or the names of events to print raw (``-r``).
        latency: ``-l``, the latency layout.
        plugins: False for ``-N``; names in ``no_handlers`` for ``-n``.
        parent, indent, offset: the options ``ftrace:parent``, ``ftrace:indent``, ``ftrace:offset`` of the function plugin.
    """

    def __init__(
        self,
        events: Mapping[int, EventFormat],
        env: Env,
        clock: str = "local",
        special: Mapping[int, Special] | None = None,
        generation: str = "3.1",
        nanosecond: bool = False,
        raw: bool | frozenset[str] = False,
        latency: bool = False,
        plugins: bool = True,
        no_handlers: frozenset[str] = frozenset(),
        parent: bool = False,
        indent: bool = True,
        offset: bool = False,
    ) -> None:
        dialect = "trace-cmd-3.1" if generation == "3.1" else "trace-cmd"
        super().__init__(events, env.replace(dialect=dialect), clock, special)
        self.generation, self.nanosecond, self.raw, self.latency = generation, nanosecond, raw, latency
        self.plugins, self.no_handlers = plugins, no_handlers
        self.parent, self.indent, self.offset = parent, indent, offset
        self._learnt: dict[int, str] = {}
        self._teachers: dict[int, tuple[tuple[FormatField, FormatField], ...]] = {}
        self._stacks: dict[int, list[str]] = {}
        self._texts = FunctionTexts(lambda address: self._name(address)[1], self._function_text, indent, parent)
        if plugins and raw is not True:
            functions = self._functions  # one object: records of both are in one order
            for number in range(1, 32):
                event = self.events.get(number)
                if event is None or event.category != "ftrace" or number in self.special or self.is_raw(event):
                    continue
                if event.name in ("function", "func_repeats"):
                    self.special[number] = functions

    def is_raw(self, event: EventFormat) -> bool:
        names = self.raw
        return names is True or (isinstance(names, frozenset) and (event.name in names or f"{event.category}:{event.name}" in names))

    def compile(self, event: EventFormat) -> Renderer:
        if self.is_raw(event):
            return raw_renderer(event, self.env)
        if not self.plugins or event.name in self.no_handlers or f"{event.category}:{event.name}" in self.no_handlers:
            return compile_print_fmt(event, self.env)
        if self.offset and event.category == "ftrace" and event.name == "kernel_stack":
            return plain_renderer(event, kernel_stack_text(event, self.env, offset=True))
        return super().compile(event)

    # ---- layout

    def comm(self, pid: int) -> str:
        found = self.env.comm(pid) if self.env.comm else "<...>"
        return self._learnt.get(pid, found) if found == "<...>" else found

    def prefix(self, pid: int, cpu: int, flags: int, preempt: int) -> str:
        comm = self.comm(pid)
        if self.latency:
            letters = latency_flags(flags, preempt, lazy=self.generation != "3.1")
            return f"{comm[:8]:>8}-{pid:<5} {cpu:3}{f'-0x{flags:x}' if self.raw is True else letters}"
        text = f"{comm:>16}-{pid:<5} [{cpu:03}]"
        if self.generation == "3.1":
            return text
        return f"{text}-0x{flags:x}" if self.raw is True else f"{text} {latency_flags(flags, preempt, lazy=True)}"

    def time_format(self) -> str:
        return " %s: " if self.unit()[1] else "%s: "  # numbers of counters have a column of twelve characters and no blank before

    def unit(self) -> tuple[int, int]:
        if not self.nanoseconds:
            return 1, 0
        return (1, 1000000000) if self.nanosecond else (1000, 1000000)

    def name_format(self, event: EventFormat) -> str:
        return f"{event.name}: ".ljust(22)

    def lost(self, cpu: int, number: int) -> str:
        return f"CPU:{cpu} [{number} EVENTS DROPPED]" if number else f"CPU:{cpu} [EVENTS DROPPED]"

    def unknown(self, number: int) -> str:
        return "[UNKNOWN EVENT]"

    # ---- names that the sched events teach

    def prepare(self, batches: Sequence[Batch]) -> None:
        if self.plugins and self.raw is not True and self.env.comm:
            self._teach(batches)

    def _teach(self, batches: Sequence[Batch]) -> None:
        """Tasks that the recording's list of names lacks get those of the sched events.

        libtraceevent learns a name when it prints such an event and so prints "<...>" up to there; here the name is known in the
        whole of the batch.
        """
        from ..formats.event_records import columns

        writer = self.writer()
        learnt = False
        for batch in batches:
            kinds = batch.records.types
            plain = writer is not None and isinstance(kinds, memoryview)
            for number in counts([kinds]) if plain else sorted(set(kinds.tolist() if hasattr(kinds, "tolist") else kinds)):
                for pid, comm in self._taught(number):
                    records = batch.records
                    if writer is not None and plain and pid.size == 4:
                        records = writer.news(batch, number, pid.offset)
                    found = columns(self.events[number], batch.buffer, records, self.env.order)
                    learnt = self._teach_columns(found, pid.name, comm.name) or learnt
        if learnt:
            self._prefixes.clear()
            if writer is not None:
                writer.table.clear()

    def _taught(self, number: int) -> tuple[tuple[FormatField, FormatField], ...]:
        """The fields of an event that hold the PID and the name of a task."""
        found = self._teachers.get(number)
        if found is None:
            event = self.events.get(number)
            pairs = _TEACHERS.get(event.name, ()) if event is not None and event.category == "sched" else ()
            fields = [(event.field(pid), event.field(comm)) for pid, comm in pairs] if event is not None else []
            found = self._teachers[number] = tuple([(pid, comm) for pid, comm in fields if pid and comm and _teaches(pid, comm)])
        return found

    def _teach_columns(self, found: EventColumns, pid_name: str, comm_name: str) -> bool:
        """Takes names from columns; whether there were new ones."""
        pids = found[pid_name]
        wanted = {int(pid) for pid in set(pids.tolist() if hasattr(pids, "tolist") else pids) if self.comm(pid) == "<...>"}
        if wanted:
            for pid, comm in zip(pids, found[comm_name]):
                if int(pid) in wanted:
                    self._learnt.setdefault(int(pid), comm)
        return bool(wanted)

    # ---- the function tracer

    def stacks(self) -> dict[int, list[str]]:
        return self._stacks

    def _numbers(self, item: Item, *names: str) -> list[int]:
        order: Any = "little" if self.env.order == "<" else "big"
        event = self.events[_kind(item, self.env.order)]
        found = []
        for name in names:
            field = event.field(name)
            raw = item.payload[field.offset : field.offset + field.size] if field is not None else b""
            found.append(int.from_bytes(raw, order))
        return found

    def _name(self, address: int) -> tuple[str, str | None]:
        """(as it is printed, the name or None)."""
        found = self.env.symbol(address) if self.env.symbol else None
        if found is None:
            return f"0x{address:x}", None
        name = found[0].partition(" [")[0]
        return name + (f"+0x{address - found[1] & 0xFFFFFFFF:x} " if self.offset else ""), name

    def _function(self, item: Item) -> str:
        address, caller = self._numbers(item, "ip", "parent_ip")
        shown, name = self._name(address)
        shown_parent, parent = self._name(caller)
        depth = place(self._stacks.setdefault(item.cpu, []), parent, name) if parent and self.indent else 0
        return " " * (3 * depth) + shown + self._arguments(item, name) + (f" <-- {shown_parent}" if self.parent else "")

    def _arguments(self, item: Item, name: str | None) -> str:
        """The arguments of a call, "" if they were not recorded."""
        args, size = self.events[_kind(item, self.env.order)].field("args"), self.env.long_size
        count = min((len(item.payload) - args.offset) // size, MOST) if args is not None and self.env.arguments is not None else 0
        if count <= 0 or args is None or self.env.arguments is None:
            return ""
        values = struct.unpack_from(f"{self.env.order}{count}{'Q' if size == 8 else 'I'}", item.payload, args.offset)
        return f"({self.env.arguments(name or '', values)})"

    def _template(self, address: int, count: int) -> str:
        return self.env.arguments.template(self._name(address)[1] or "", count) if self.env.arguments is not None else ""

    def _functions(self, items: Sequence[Item]) -> list[str | None]:
        order, events = self.env.order, self.events
        return [self._repeat(item) if events[_kind(item, order)].name == "func_repeats" else self._function(item) for item in items]

    def native_special(self, number: int, writer: Writer) -> tuple[str, int, bytes] | None:
        from .ftrace_native import function_event

        if not all(maker == self._functions or self.drawn(maker) for maker in self.special.values()):
            return None  # the stacks of names are kept in one place
        event = self.events[number]
        template = self._template if self.env.arguments is not None else None
        return function_event(writer, event, event.name == "func_repeats", self._name, self.indent, self.parent, template)

    def drawn(self, maker: Special) -> bool:
        """Whether the accelerator knows what a maker of texts does."""
        return False

    def bulk_special(self, groups: Sequence[Group], np: Any) -> BulkSpecial | None:
        mine = [group for group in groups if self.special.get(group.kind) == self._functions]
        found = super().bulk_special([group for group in groups if self.special.get(group.kind) != self._functions], np)
        if found is None:
            return None
        if any(self.events[group.kind].name != "function" or self._have_arguments(group) for group in mine):
            return None
        stacks = {group.batch.cpu: list(self._stacks.get(group.batch.cpu, ())) for group in mine}
        texts = list(found.texts)
        for group in mine:
            if (group.where[1:] < group.where[:-1]).any():  # times that step back: the order is another one
                return None
            made = self._bulk_functions(group, stacks[group.batch.cpu], np)
            if made is None:
                return None
            texts.append((group, made))

        def commit() -> None:
            self._stacks.update(stacks)
            found.commit()

        return BulkSpecial(texts, commit)

    def _have_arguments(self, group: Group) -> bool:
        args = self.events[group.kind].field("args") if self.env.arguments is not None else None
        return args is not None and int(group.sizes.max()) >= args.offset + self.env.long_size

    def _bulk_functions(self, group: Group, stack: list[str], np: Any) -> Callable[[int, int], list[Any]] | None:
        """As ``_function`` for all records of a CPU; ``stack`` is changed."""
        event = self.events[group.kind]
        columns: list[list[int]] = []
        for name in ("ip", "parent_ip"):
            field = event.field(name)
            if field is None or field.size not in (4, 8) or group.shortest < field.offset + field.size:
                return None
            buffer = group.batch.buffer
            all_places = np.ndarray((len(buffer) - field.size + 1,), dtype=f"{self.env.order}u{field.size}", buffer=buffer, strides=(1,))
            columns.append(all_places[group.starts + field.offset].tolist())
        codes = self._texts.numbers(zip(*columns), stack)
        try:
            table = rows(self._texts.texts, np)
        except NotBulk:
            return None
        chosen = np.array(codes, dtype="i8")
        return lambda low, high: [table[chosen[low:high]]]

    def _function_text(self, depth: int, address: int, caller: int) -> str:
        return " " * (3 * depth) + self._name(address)[0] + (f" <-- {self._name(caller)[0]}" if self.parent else "")

    def _repeat(self, item: Item) -> str:
        count, top, bottom = self._numbers(item, "count", "top_delta_ts", "bottom_delta_ts")
        time = self.time_texts([max(0, item.time - (top << 32 | bottom))], None)[0]
        return f"{self._function(item)} (count: {count}  last_ts: {time})"


def _kind(item: Item, order: str) -> int:
    return int.from_bytes(item.payload[:2], "little" if order == "<" else "big")
