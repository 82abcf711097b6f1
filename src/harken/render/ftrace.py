"""ftrace records as lines of text: what the kernel's ``trace`` file (``ftrace_kernel``) and trace-cmd's report (``ftrace_report``) share.

``Lines`` turns batches of records of several CPUs into text in the order of time.  A batch is cut into its events; each event's records
become lines by one compiled list comprehension (``formats.print_fmt``), which writes head and text in one go, and the lines are put back
into order.  ``ftrace_batches.windows`` feeds it from recordings of any size with a few megabytes per CPU in memory.

Times of nanosecond clocks are in seconds, rounded to microseconds; those of counters are as they are.
"""

from __future__ import annotations

from ..analysis.merge import merge
from ..formats.print_fmt import Env, compile_format
from ..formats.print_fmt_helpers import Memo
from .ftrace_batches import Batch, Group, Item, with_numpy
from .ftrace_bulk import BULK, BulkSpecial, bulk_lines, bulk_text, rounded, time_matrix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from ..formats.event_format import EventFormat
    from ..formats.print_fmt import Renderer
    from .ftrace_native import Writer

    #: Texts of one event that depend on the records around them: (records in the order of time) -> text each, None to leave a record out.
    Special = Callable[[Sequence[Item]], Sequence[str | None]]

__all__ = ("COUNTERS", "Lines")

#: Clocks whose times are not nanoseconds (``trace_clocks`` in kernel/trace/trace.c: ``in_ns`` 0).
COUNTERS = frozenset(("counter", "uptime", "x86-tsc", "ppc-tb", "s390-tod"))


class Lines:
    """Batches to text; subclasses know a layout.

    Args:
        events: id -> format.
        env: the traced machine; ``env.comm`` names tasks.
        clock: the clock's name; it decides how times look.
        special: event id -> maker of texts that depend on other records.
    """

    def __init__(
        self, events: Mapping[int, EventFormat], env: Env, clock: str = "local", special: Mapping[int, Special] | None = None
    ) -> None:
        self.events, self.env, self.clock = events, env, clock
        self.special = dict(special or {})
        self.nanoseconds = clock not in COUNTERS
        self._renderers: dict[int, Renderer | None] = {}
        self._prefixes: dict[int, Memo] = {}
        self.arena, self.widest = bytearray(), 0  # of ftrace_bulk
        self._writer: list[Writer | None] = []
        self.lazy = 0  # where records have a byte more that heads of lines depend on, 0 for none
        self._left = False  # whether the window before was Python's, although there is an accelerator

    # ---- what a layout says

    def prefix(self, pid: int, cpu: int, flags: int, preempt: int) -> str:
        """The part of a line in front of the time."""
        raise NotImplementedError

    def time_format(self) -> str:
        """``%`` format around the time's text, up to the event's name."""
        raise NotImplementedError

    def name_format(self, event: EventFormat) -> str:
        """What stands between time and text."""
        raise NotImplementedError

    def lost(self, cpu: int, number: int) -> str:
        """The line that says that events were lost."""
        raise NotImplementedError

    def unknown(self, number: int) -> str:
        """The text of an event that has no format."""
        raise NotImplementedError

    def ended(self, event: EventFormat) -> bool:
        """Whether a line break at the end of the event's texts is dropped."""
        return True

    # ---- the work

    def renderer(self, number: int) -> Renderer | None:
        if number not in self._renderers:
            event = self.events.get(number)
            self._renderers[number] = None if event is None else self.compile(event)
        return self._renderers[number]

    def compile(self, event: EventFormat) -> Renderer:
        return compile_format(event, self.env)

    def text(self, batches: Sequence[Batch]) -> str:
        """The lines of some batches, each line with its end; "" if there are none."""
        return self.data(batches).decode("utf-8", "surrogateescape")

    def data(self, batches: Sequence[Batch]) -> bytes:
        """As ``text``, in the bytes that were recorded: names of files and tasks need not be UTF-8."""
        return b"".join([bytes(piece) for piece in self.pieces(batches)])

    def pieces(self, batches: Sequence[Batch]) -> Iterator[Any]:
        """As ``data`` in pieces, of which each lasts until the next one is asked for."""
        total = sum(len(batch.records) for batch in batches)
        if not total:
            return
        self.prepare(batches)
        writer = self.writer()
        if writer is not None:
            if self._left:
                writer.put_stacks(self.stacks())
            found = writer.pieces([Batch(batch.cpu, batch.buffer, batch.records.plain()) for batch in batches])
            if found is not None:
                self._left = False
                yield from found
                return
            if not self._left:
                self.stacks().update(writer.stacks())
            self._left = True
        yield self._lines_of(with_numpy(batches), total)

    def _lines_of(self, batches: Sequence[Batch], total: int) -> bytes:
        """The lines without the accelerator."""
        if all(hasattr(batch.records.times, "dtype") for batch in batches):
            data = bulk_text(self, batches, total) if total >= BULK else None
            if data is not None:
                return data
            lines, marks = self._with_numpy(batches, total)
        else:
            lines, marks = self._plain(batches)
        for place, line in reversed(sorted(marks, key=lambda mark: mark[0])):  # the last ones first; two of a place keep their order
            lines[place] = line if lines[place] is None else line + "\n" + str(lines[place])
        kept = [line for line in lines if line is not None] if self.special else lines
        return ("\n".join(kept) + "\n" if kept else "").encode("utf-8", "surrogateescape")  # type: ignore[arg-type]

    def writer(self) -> Writer | None:
        """The accelerator, made when it is asked for first; None if there is none for these lines."""
        if not self._writer:
            from .ftrace_native import writer

            self._writer.append(writer(self))
        return self._writer[0]

    def native_special(self, number: int, writer: Writer) -> tuple[str, int, bytes] | None:
        """How the accelerator prints an event of ``special``: (kind, bytes that it takes, operations); None if it cannot."""
        return None

    def stacks(self) -> dict[int, list[str]]:
        """The names of the functions that lead to the last one of each CPU, for the function tracer's indentation."""
        return {}

    def prepare(self, batches: Sequence[Batch]) -> None:
        """Learns from batches what later lines need; called for every window in order, also by those who print only some of them."""

    def _common(self, buffer: bytes, starts: Sequence[int]) -> list[int]:
        """pid << 32 | lazy << 16 | flags << 8 | preempt count of records, without numpy."""
        import struct

        unpack = struct.Struct(self.env.order + "HBBi").unpack_from
        found = []
        for start in starts:
            _, flags, preempt, pid = unpack(buffer, start) if start + 8 <= len(buffer) else (0, 0, 0, 0)
            lazy = buffer[start + self.lazy] if self.lazy and start + self.lazy < len(buffer) else 0
            found.append((pid & 0xFFFFFFFF) << 32 | lazy << 16 | flags << 8 | preempt)
        return found

    def heads(self, keys: list[int], cpu: int) -> list[str]:
        """The prefixes of records; each combination of task, CPU and flags is made once."""
        return list(map(self.head_memo(cpu).__getitem__, keys))

    def head_memo(self, cpu: int) -> Memo:
        """Key of a record (``keys``) -> its prefix."""
        memo = self._prefixes.get(cpu)
        if memo is None:

            def make(key: int) -> str:
                pid = (key >> 32) - (1 << 32) if key >> 63 else key >> 32
                return self.prefix(pid, cpu, key >> 8 & 255, key & 255 | key >> 8 & 0xFF00)

            memo = self._prefixes[cpu] = Memo(make)
        return memo

    def time_texts(self, times: Any, np: Any) -> list[str]:
        """Times as they are printed: seconds and a fraction, or the plain number of a counter."""
        unit, second = self.unit()
        if np is None:
            if not second:
                return [f"{time:12d}" for time in times]
            digits = len(str(second)) - 1
            form = f"%5d.%0{digits}d"
            return [form % divmod((time + unit // 2) // unit, second) for time in times]
        values = rounded(times, unit, np)
        if not second:
            return list(map("%12d".__mod__, values.tolist()))
        return _time_texts(values, second, np)

    def unit(self) -> tuple[int, int]:
        """(clock units per printed unit, printed units per second or 0)."""
        return (1000, 1000000) if self.nanoseconds else (1, 0)

    def _with_numpy(self, batches: Sequence[Batch], total: int) -> tuple[list[str | None], list[tuple[int, str]]]:
        import numpy as np

        out = np.empty(total, dtype=object)
        time_format = self.time_format()
        waiting: dict[int, list[tuple[int, Item]]] = {}
        groups, marks = self.groups(batches, total, np)
        for group in groups:
            if group.kind in self.special:
                keys = self._keys(group.batch.buffer, group.starts, group.shortest, np)
                items = self._items(group.batch, group.starts, group.sizes, group.times, keys, group.where)
                waiting.setdefault(group.kind, []).extend(items)
                continue
            found = bulk_lines(self, group) if len(group.where) >= BULK else None
            out[group.where] = self.slow_lines(group, np) if found is None else found
        self._specials(waiting, out, time_format)
        return out.tolist(), marks

    def groups(self, batches: Sequence[Batch], total: int, np: Any) -> tuple[list[Group], list[tuple[int, str]]]:
        """Batches cut into their events, and the marks of losses by place."""
        positions = np.arange(total)
        if len(batches) == 1:
            place = [positions]
        else:
            streams, index = merge([batch.records.times for batch in batches])
            place = [np.empty(len(batch.records), dtype="i8") for batch in batches]  # of each batch's records in the output
            for number in range(len(batches)):
                mine = streams == number
                place[number][index[mine]] = positions[mine]
        marks: list[tuple[int, str]] = []
        found = []
        for number, batch in enumerate(batches):
            records = batch.records
            for at, count in records.lost:
                if at < len(records):
                    marks.append((int(place[number][at]), self.lost(batch.cpu, count)))
            kinds = records.types
            present = np.nonzero(np.bincount(kinds))[0].tolist()
            for kind in present:
                chosen = np.nonzero(kinds == kind)[0] if len(present) > 1 else slice(None)
                sizes = records.sizes[chosen]
                where = place[number][chosen]
                found.append(Group(kind, batch, where, records.starts[chosen], sizes, records.times[chosen], int(sizes.min())))
        return found, marks

    def slow_lines(self, group: Group, np: Any) -> list[str]:
        """The lines of a group, made one by one."""
        buffer, starts = group.batch.buffer, group.starts
        heads = self.heads(self._keys(buffer, starts, group.shortest, np), group.batch.cpu)
        ends, times = (starts + group.sizes).tolist(), self.time_texts(group.times, np)
        return self._lines(group.kind, self.time_format(), buffer, starts.tolist(), ends, group.shortest, heads, times)

    def _keys(self, buffer: bytes, starts: Any, shortest: int, np: Any) -> list[int]:
        if shortest < max(8, self.lazy + 1):
            return self._common(buffer, starts.tolist())
        return self.keys(buffer, starts, np).tolist()  # type: ignore[no-any-return]

    def keys(self, buffer: bytes, starts: Any, np: Any) -> Any:
        """pid << 32 | lazy << 16 | flags << 8 | preempt count of records of at least 8 bytes and what ``lazy`` says (u8)."""
        order = self.env.order
        # the first 8 bytes of a record: u16 type, u8 flags, u8 preempt count, s32 pid
        whole = np.ndarray((len(buffer) - 7,), dtype=f"{order}u8", buffer=buffer, strides=(1,))[starts].astype("u8")
        if order == "<":
            flags, preempt, pid = whole >> np.uint64(16) & np.uint64(255), whole >> np.uint64(24) & np.uint64(255), whole >> np.uint64(32)
        else:
            flags, preempt = whole >> np.uint64(40) & np.uint64(255), whole >> np.uint64(32) & np.uint64(255)
            pid = whole & np.uint64(0xFFFFFFFF)
        if self.lazy:
            preempt |= np.frombuffer(buffer, "u1")[starts + self.lazy].astype("u8") << np.uint64(16)
        return pid << np.uint64(32) | flags << np.uint64(8) | preempt

    def _items(self, batch: Batch, starts: Any, sizes: Any, times: Any, keys: list[int], where: Any) -> list[tuple[int, Item]]:
        items = []
        for start, size, time, key, place in zip(starts.tolist(), sizes.tolist(), times.tolist(), keys, where.tolist()):
            items.append((place, Item(batch.cpu, time, key >> 32, batch.buffer[start : start + size], key & 0xFFFF)))
        return items

    def _lines(
        self,
        kind: int,
        time_format: str,
        buffer: bytes,
        starts: list[int],
        ends: list[int],
        shortest: int,
        heads: list[str],
        times: list[str],
    ) -> list[str]:
        renderer = self.renderer(kind)
        if renderer is None:
            text = self.unknown(kind)
            return [head + time_format % time + text for head, time in zip(heads, times)]
        event = renderer.event
        head = "%s" + time_format + self.name_format(event).replace("%", "%%")
        lines = renderer.lines(head, buffer, starts, ends, shortest, heads, times)
        if self.ended(event):
            lines = [line[:-1] if line.endswith("\n") else line for line in lines]
        return lines

    def bulk_special(self, groups: Sequence[Group], np: Any) -> BulkSpecial | None:
        """The texts of events that depend on other records, as columns; None if ``special`` must make them one by one.

        Args:
            groups: all of a window that are of such events.
        """
        return None if groups else BulkSpecial([], lambda: None)

    def _specials(self, waiting: dict[int, list[tuple[int, Item]]], out: Any, time_format: str) -> None:
        """Events whose texts depend on one another: all of one maker at once, in the order of time."""
        makers: dict[int, tuple[Special, list[tuple[int, int, Item]]]] = {}
        for kind, items in waiting.items():
            maker = self.special[kind]
            makers.setdefault(id(maker), (maker, []))[1].extend([(place, kind, item) for place, item in items])
        for maker, entries in makers.values():
            entries.sort(key=lambda entry: entry[0])
            texts = maker([item for _, _, item in entries])
            for (place, kind, item), text in zip(entries, texts):
                if text is None:
                    out[place] = None
                    continue
                pid = item.pid - (1 << 32) if item.pid >> 31 else item.pid
                time = time_format % self.time_texts([item.time], None)[0]
                event = self.events.get(kind)
                name = self.name_format(event) if event is not None else ""
                line = self.prefix(pid, item.cpu, item.flags >> 8, item.flags & 255) + time + name + text
                out[place] = line[:-1] if line.endswith("\n") else line

    def _plain(self, batches: Sequence[Batch]) -> tuple[list[str | None], list[tuple[int, str]]]:
        """Without numpy: record by record in the order of time."""
        streams, index = merge([batch.records.times for batch in batches], numpy=False)
        time_format = self.time_format()
        out: list[str | None] = [None] * len(streams)
        place: list[dict[int, int]] = [{} for _ in batches]
        for position, (number, at) in enumerate(zip(streams, index)):
            place[number][at] = position
        marks: list[tuple[int, str]] = []
        waiting: dict[int, list[tuple[int, Item]]] = {}
        for number, batch in enumerate(batches):
            records = batch.records
            for at, count in records.lost:
                if at < len(records):
                    marks.append((place[number][at], self.lost(batch.cpu, count)))
            groups: dict[int, list[int]] = {}
            for at, kind in enumerate(records.types):
                groups.setdefault(int(kind), []).append(at)
            for kind, chosen in groups.items():
                starts = [int(records.starts[at]) for at in chosen]
                sizes = [int(records.sizes[at]) for at in chosen]
                times = [int(records.times[at]) for at in chosen]
                keys = self._common(batch.buffer, starts)
                where = [place[number][at] for at in chosen]
                if kind in self.special:
                    rows = zip(starts, sizes, times, keys, where)
                    waiting.setdefault(kind, []).extend(
                        [
                            (spot, Item(batch.cpu, time, key >> 32, batch.buffer[s : s + size], key & 0xFFFF))
                            for s, size, time, key, spot in rows
                        ]
                    )
                    continue
                ends = [start + size for start, size in zip(starts, sizes)]
                shown = self.time_texts(times, None)
                lines = self._lines(kind, time_format, batch.buffer, starts, ends, min(sizes), self.heads(keys, batch.cpu), shown)
                for spot, line in zip(where, lines):
                    out[spot] = line
        self._specials(waiting, out, time_format)
        return out, marks


def _time_texts(values: Any, second: int, np: Any) -> list[str]:
    """Seconds and fraction as texts: digit by digit for all at once, which costs a third of ``"%5d.%06d"`` per number."""
    letters = time_matrix(values, second, np)
    if letters is None or (len(letters) and not letters[:, 0].all()):
        digits = len(str(second)) - 1
        form = f"%5d.%0{digits}d"
        return [form % divmod(value, second) for value in values.tolist()]
    return letters.astype("u4").view(f"U{letters.shape[1]}").ravel().tolist()  # type: ignore[no-any-return]
