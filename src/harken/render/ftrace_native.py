"""Lines of records by the accelerator (``native.text``): what ``render.ftrace`` does, many times as fast.

``Writer`` turns what a ``Lines`` knows into what the accelerator takes: a program per event (``formats.print_fmt_program``), heads of lines
and names as texts that are asked for once.  Events that Python alone can print get their texts first, all of a window, and the accelerator
puts them into their lines.  What depends on other records is done by the accelerator too (function, function_graph), or else the window is
Python's.
"""

from __future__ import annotations

from array import array

from ..formats.print_fmt_program import NotProgram, Program
from ..formats.ring_page import Records
from ..native.columns import news, places
from ..native.memory import address
from ..native.ring import counts
from ..native.text import DEEPEST, KINDS, Job, Out, Stream, Table, engine, event, op, run, span
from ..native.text import OPS as _OPS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from ..formats.event_format import EventFormat, FormatField
    from .ftrace import Lines
    from .ftrace_batches import Batch

    Text = Callable[[Batch, int, int], tuple[str, int]]

__all__ = ("Writer", "field_of", "function_event", "writer")

_SCRATCH = 1 << 16
_MOST_NUMBERS = 1 << 20
_NEWS = 0xFFFFFFFF  # the table's entries of PIDs that were met: the number of no memo


def writer(lines: Lines) -> Writer | None:
    """The accelerator for some lines; None if it is not there or cannot print them."""
    native = engine() if lines.env.order == "<" and lines.env.long_size == 8 else None
    return None if native is None else Writer(lines, native)


class Writer:
    """Keeps what the accelerator knows from window to window."""

    def __init__(self, lines: Lines, native: Any) -> None:
        self.lines, self._native = lines, native
        self.table, self._out = Table(native), Out()
        self.literals = bytearray()
        self._ops = bytearray()
        self._op_count = 0
        self._events = bytearray()
        self._index = array("H", bytes(2 * 65536))
        #: makers of texts by number: of heads first
        self.memos: list[Text] = [self._head]
        self._foreign: set[int] = set()
        self._stacks: dict[int, array[int]] = {}
        self._numbers: dict[str, int] = {}
        self._scratch = bytearray(_SCRATCH)
        self.job = Job()
        self._unit: tuple[int, int, str] | None = None

    def pieces(self, batches: Sequence[Batch]) -> Iterator[memoryview] | None:
        """The lines of a window in pieces, each of which lasts until the next one is asked for; None if Python must make them.

        The records are columns in memory (``Records.plain``).
        """
        if any(batch.cpu >> 16 for batch in batches):
            return None
        present = counts([batch.records.types for batch in batches])
        for number in present:
            if not self._index[number] and not self._learn(number):
                return None
        job = self.job
        self._layout(job)
        foreign = bytearray()
        streams = (Stream * len(batches))()
        keep: list[Any] = []
        chosen = self._foreign.intersection(present)
        for stream, batch in zip(streams, batches):
            self._stream(stream, batch, chosen, foreign, keep)
        heap = array("I", bytes(4 * len(batches)))
        places: dict[str, Any] = {"streams": streams, "heap": heap, "index": self._index, "events": self._events, "ops": self._ops}
        places |= {"literals": self.literals, "foreign": foreign, "scratch": self._scratch}
        held = {name: memoryview(thing) for name, thing in places.items()}  # and keeps what bytes there are in their place
        for name, thing in held.items():
            setattr(job, name, address(thing) if thing.nbytes else 0)
        job.stream_count, job.event_count, job.op_count = len(batches), len(self._events) // 16, self._op_count
        job.literal_size, job.foreign_size, job.scratch_size = len(self.literals), len(foreign), len(self._scratch)

        def make(memo: int, stream: int, index: int) -> tuple[bytes, int]:
            text, number = self.memos[memo](batches[stream], index, stream)
            return text.encode("utf-8", "surrogateescape"), number

        def pieces() -> Iterator[memoryview]:
            yield from run(self._native, job, self.table, self._out, make)
            held.clear()
            keep.clear()

        return pieces()

    def _layout(self, job: Job) -> None:
        """Literals around the time, and its unit; they may be set after the lines were made."""
        lines = self.lines
        unit, second = lines.unit()
        form = lines.time_format()
        if (unit, second, form) == self._unit:
            return
        self._unit = unit, second, form
        before, after = (form % "\0").encode("utf-8", "surrogateescape").split(b"\0")
        job.before, job.before_size = len(self.literals), len(before)
        job.after, job.after_size = len(self.literals) + len(before), len(after)
        self.literals += before + after
        job.unit, job.second, job.digits = unit, second, len(str(second)) - 1

    def _stream(self, stream: Stream, batch: Batch, foreign: set[int], texts: bytearray, keep: list[Any]) -> None:
        records = batch.records
        count = len(records)
        stream.buffer, stream.length = address(batch.buffer), len(batch.buffer)
        for name in ("times", "starts", "sizes", "types"):
            setattr(stream, name, address(getattr(records, name)) if count else 0)
        stream.count, stream.number = count, batch.cpu
        marks = bytearray()
        for at, number in records.lost:
            if at < count:
                data = (self.lines.lost(batch.cpu, number) + "\n").encode("utf-8", "surrogateescape")
                marks += span(at, len(texts), len(data))
                texts += data
        spans = self._foreign_texts(batch, foreign, texts) if foreign else bytearray()
        for name, rows in (("mark", marks), ("text", spans)):
            keep.append(rows)
            setattr(stream, f"{name}s", address(rows))
            setattr(stream, f"{name}_count", len(rows) // 24)
        stack = self._stacks.get(batch.cpu)
        if stack is None:
            stack = self._stacks[batch.cpu] = array("I", bytes(4 * (DEEPEST + 1)))
        stream.stack = address(stack)

    def _foreign_texts(self, batch: Batch, kinds: set[int], texts: bytearray) -> bytearray:
        """Python's texts of a batch's records of some events, in the order of the records."""
        records = batch.records
        made: list[tuple[int, bytes]] = []
        for kind, count in counts([records.types]).items():
            if kind not in kinds:
                continue
            chosen = places(records.types, kind, count).tolist()
            renderer = self.lines.renderer(kind)
            if renderer is None:
                shown = [self.lines.unknown(kind)] * len(chosen)
            else:
                starts = [records.starts[at] for at in chosen]
                sizes = [records.sizes[at] for at in chosen]
                ends = [start + size for start, size in zip(starts, sizes)]
                shown = renderer.lines("", batch.buffer, starts, ends, min(sizes))
            made += zip(chosen, [text.encode("utf-8", "surrogateescape") for text in shown])
        made.sort(key=lambda pair: pair[0])
        spans, at = bytearray(), len(texts)
        for index, data in made:
            spans += span(index, at, len(data))
            at += len(data)
        texts += b"".join([data for _, data in made])
        return spans

    def stacks(self) -> dict[int, list[str]]:
        """As ``Lines.stacks``, of the windows so far."""
        names = {number: name for name, number in self._numbers.items()}
        return {cpu: [names.get(number, "") for number in stack[: stack[DEEPEST]]] for cpu, stack in self._stacks.items()}

    def put_stacks(self, stacks: dict[int, list[str]]) -> None:
        """Goes on behind windows that Python has printed."""
        for cpu, names in stacks.items():
            numbers = array("I", [self.number_of(name) for name in names])
            self._stacks[cpu] = numbers + array("I", bytes(4 * (DEEPEST - len(names)))) + array("I", [len(names)])

    # ---- texts that are made once

    def _head(self, batch: Batch, index: int, _stream: int) -> tuple[str, int]:
        start = batch.records.starts[index]
        word = int.from_bytes(batch.buffer[start : start + 8], "little") if start + 8 <= len(batch.buffer) else 0
        pid = word >> 32
        return self.lines.prefix(pid - (1 << 32) if pid >> 31 else pid, batch.cpu, word >> 16 & 255, word >> 24 & 255), 0

    def number_of(self, name: str | None) -> int:
        """The number of a function's name: 0 if it has none."""
        if not name:
            return 0
        found = self._numbers.get(name)
        if found is None:
            if len(self._numbers) >= _MOST_NUMBERS:
                raise MemoryError("a recording names more functions than any kernel has")
            found = self._numbers[name] = len(self._numbers) + 1
        return found

    def news(self, batch: Batch, number: int, offset: int) -> Records:
        """The records of an event whose 32-bit number at a place was not met before."""
        records = batch.records.plain()
        times, starts, sizes, types = records.times, records.starts, records.sizes, records.types
        found = list(news(self.table, _NEWS, batch.buffer, (times, starts, sizes, types), number, offset))
        return Records([times[at] for at in found], [starts[at] for at in found], [sizes[at] for at in found], [number] * len(found), ())

    def number_of_key(self) -> int:
        """The number that the missing text is looked up by: of memos whose key is one number."""
        return int.from_bytes(bytes(self.job.key[4:12]), "little")

    def memo(self, text: Text) -> int:
        """The number of a new maker of texts."""
        self.memos.append(text)
        return len(self.memos) - 1

    def arguments(self, target: Any, offset: int, size: int, template: Callable[[int, int], str]) -> None:
        """Has arguments of functions printed.

        Args:
            target: the ``native.text.Arguments`` to fill in.
            offset: where they begin in a record; each takes ``size`` bytes.
            template: (function, number of arguments) -> their text with marks (``formats.function_arguments``).
        """
        from ..formats.function_arguments import MOST

        def text(count: int) -> Text:
            return lambda _batch, _index, _stream: (template(self.number_of_key(), count), 0)

        target.offset, target.size = offset, size
        target.templates = self.memo(text(1))
        for count in range(2, MOST + 1):
            self.memo(text(count))

    # ---- events

    def _learn(self, number: int) -> bool:
        """Takes an event in; False if only Python can print it."""
        lines = self.lines
        found = lines.events.get(number)
        kind, needs = "text", 0
        ops: Any = b""
        name = lines.name_format(found) if found is not None else ""
        if number in lines.special:
            special = lines.native_special(number, self)
            if special is None:
                return False
            kind, needs, ops = special
        else:
            renderer = lines.renderer(number)
            needs, ops = self._program(renderer) if renderer is not None else (0, b"")
            if not ops:
                self._foreign.add(number)
                ops = op(_OPS["FOREIGN"], 0, 0, 0, 0) + op(_OPS["END"], 0, 0, 0, 0)
        data = name.encode("utf-8", "surrogateescape")
        program = self._op_count
        self._add(op(_OPS["TEXT"], 0, 0, len(data), len(self.literals)))
        self.literals += data
        self._add(ops(self._op_count) if callable(ops) else ops)
        ended = found is not None and (number in lines.special or lines.ended(found))
        self._events += event(KINDS[kind], program, needs, int(ended))
        self._index[number] = len(self._events) // 16
        return True

    def _add(self, ops: bytes) -> None:
        self._ops += ops
        self._op_count += len(ops) // 16

    def _program(self, renderer: Any) -> tuple[int, Any]:
        """(bytes that it takes, what makes the operations for their place) of an event; (0, b"") if Python must make its texts."""
        if renderer.needs > _SCRATCH or not renderer.parts:
            return 0, b""
        made: list[Any] = []
        text, values, slots, names, order = renderer.parts
        try:
            program = Program(text, values, slots, names, self.literals, made, len(self.memos))
        except NotProgram:
            return 0, b""
        self.memos += [_of_record(make, renderer.needs) for make in made]
        return renderer.needs, program.placed


def _of_record(make: Any, needs: int) -> Text:
    def text(batch: Batch, index: int, _stream: int) -> tuple[str, int]:
        start, size = batch.records.starts[index], batch.records.sizes[index]
        if size >= needs:
            return make(batch.buffer, start, start + size), 0
        return make(bytes(batch.buffer[start : start + size]).ljust(needs, b"\0"), 0, needs), 0

    return text


def field_of(target: Any, event: EventFormat, name: str) -> FormatField | None:
    """Fills a ``native.text`` field in; gives the format's, None if there is none that is a number."""
    field = event.field(name)
    if field is None or not field.number:
        return None
    target.offset, target.size, target.is_signed = field.offset, field.size, int(field.signed)
    return field


def function_event(
    writer: Writer,
    event: EventFormat,
    repeats: bool,
    name: Callable[[int], tuple[str, str | None]],
    indent: bool,
    parent: bool,
    template: Callable[[int, int], str] | None = None,
) -> tuple[str, int, bytes] | None:
    """The function tracer's events as ``Lines.native_special`` gives them.

    Args:
        repeats: for func_repeats.
        name: address -> (as it is printed, the name or None).
        indent, parent: the report's options.
        template: of a function's arguments, as ``Writer.arguments`` takes it; None if they are not shown.
    """
    job = writer.job
    fields = job.repeats if repeats else job.function
    needs = 0
    for target, field in zip(fields, "ip parent_ip count top_delta_ts bottom_delta_ts".split()):
        found = field_of(target, event, field)
        if found is None or found.signed or found.offset + found.size > _SCRATCH:
            return None
        needs = max(needs, found.offset + found.size)
    args = event.field("args") if template is not None and not repeats else None
    if args is not None and args.offset < needs:  # a short record is filled with zeros up to there, which are no arguments
        return None
    if not job.function_names:

        def text(batch: Batch, index: int, _stream: int) -> tuple[str, int]:
            shown, known = name(writer.number_of_key())
            return shown, writer.number_of(known)

        job.function_names = writer.memo(text)
    if template is not None and args is not None:
        writer.arguments(job.function_arguments, args.offset, writer.lines.env.long_size, template)
    job.indent, job.parent = int(indent), int(parent)
    return "text", needs, op(_OPS["REPEATS" if repeats else "FUNCTION"], 0, 0, 0, 0) + op(_OPS["END"], 0, 0, 0, 0)
