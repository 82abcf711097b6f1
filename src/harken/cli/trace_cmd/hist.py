"""``trace-cmd hist``: the events and functions of a recording by how often they came, with the callers that led to them.

    trace-cmd record -e sched -T COMMAND
    trace-cmd hist

Chains are put together from the function tracers and from stack traces behind events (``analysis.call_chains``).
"""

from __future__ import annotations

import struct
import sys

from ...analysis.call_chains import Collector, Tree
from ...base.errors import HarkenError, UsageError
from ...formats.trace_dat import TraceFile
from ...render.call_chains import chains_text
from .arguments import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...formats.event_format import EventFormat

__all__ = ("run", "collect")

USAGE = """\
usage:
  harken trace-cmd hist [-i FILE] [-P] [FILE]

   -P   all tasks together
"""


def run(argv: list[str]) -> int:
    """Runs the command; returns the exit status."""
    pairs, rest = parse(argv, "hi:P", ("help",))
    names = [name for name, _ in pairs]
    if "h" in names or "help" in names:
        print(USAGE, end="")
        return 0
    paths = [value for name, value in pairs if name == "i"] + rest
    if len(paths) > 1:
        raise UsageError("hist reads one file", "several recordings in one: 'report -i A -i B'")
    from .report import open_recording

    with open_recording(paths[0] if paths else "trace.dat") as trace:
        for buffer in trace.instances or ("",):
            tree, comms = collect(trace, buffer, "P" in names)
            sys.stdout.write(chains_text(tree, _Names(trace, comms).find))
    return 0


def collect(trace: TraceFile, buffer: str = "", together: bool = False) -> tuple[Tree, list[tuple[int, str]]]:
    """The chains of a buffer, and (PID, name) as its events tell them.

    Raises:
        HarkenError: there are no records.
    """
    from .walking import numbers_of, records_of

    if trace.text(buffer) is not None:
        raise UsageError("hist does not work with latency traces: they hold text, no records")
    symbols = trace.symbols

    def symbol(address: int) -> tuple[object, str] | None:
        found = symbols.find(address)
        return None if found is None else (found[1], found[0])

    tree = Tree(together)
    comms: list[tuple[int, str]] = []
    reader = _Reader(trace, Collector(tree, symbol), comms)
    place = trace.buffer(buffer)
    problems: list[str] = []
    seen = False
    for cpu in place.cpus if place is not None else ():
        for data, records in records_of(trace, cpu.cpu, buffer, problems):
            losses = {at for at, _ in records.lost}
            for at, (kind, start, size) in enumerate(zip(*numbers_of(records))):
                if at in losses:
                    reader.collector.flush()
                reader.record(kind, data, start, size)
                seen = True
    for problem in problems:
        print(f"WARNING: {problem}", file=sys.stderr)
    if not seen:
        raise HarkenError("no records found in the file")
    reader.collector.finish()
    return tree, comms


class _Names:
    """Names of tasks.  A task that changed its name has several; trace-cmd prints the one that bsearch(3) meets first, and so does this."""

    def __init__(self, trace: TraceFile, comms: list[tuple[int, str]]) -> None:
        pairs = [line.partition(" ")[::2] for line in trace.cmdlines.split("\n")]
        saved = [(int(pid), name) for pid, name in pairs if pid.isdecimal() and len(pid) < 12]
        self._all = sorted(reversed(saved + comms), key=lambda pair: pair[0])

    def find(self, pid: int) -> str:
        if not pid:
            return "<idle>"
        low, high = 0, len(self._all)
        while low < high:
            middle = (low + high) // 2
            if self._all[middle][0] == pid:
                return self._all[middle][1]
            if self._all[middle][0] < pid:
                low = middle + 1
            else:
                high = middle
        return "<...>"


class _Reader:
    """Gives a collector what it needs of each record."""

    def __init__(self, trace: TraceFile, collector: Collector, comms: list[tuple[int, str]]) -> None:
        self.collector, self.comms, self.order, self.trace = collector, comms, trace.order, trace
        self._words = {4: "I", 8: "Q"}[trace.kernel_long]
        self._makers: dict[int, Any] = {}
        self._pid = struct.Struct(trace.order + "i").unpack_from

    def record(self, kind: int, data: bytes, start: int, size: int) -> None:
        if size < 8:
            return
        maker = self._makers.get(kind)
        if maker is None:
            maker = self._makers[kind] = self._maker(kind)
        maker(self._pid(data, start + 4)[0], data[start : start + size])

    def _maker(self, kind: int) -> Any:
        event = self.trace.events.get(kind)
        name = event.name if event is not None else f"unknown {kind}"
        collector = self.collector
        if event is None or event.category != "ftrace":
            told = _comm_fields(event) if event is not None and event.category == "sched" else []
            if not told:
                return lambda pid, _data: collector.event(pid, name)

            def event_with_comms(pid: int, data: bytes) -> None:
                for comm, number in told:
                    text = data[comm.offset : comm.offset + comm.size].partition(b"\0")[0].decode("utf-8", "replace")
                    self.comms.append((self._number(data, number), text))
                collector.event(pid, name)

            return event_with_comms
        if name == "function":
            ip, parent = self._field(event, "ip"), self._field(event, "parent_ip")
            return lambda pid, data: collector.function(pid, ip(data), parent(data))
        if name in ("funcgraph_entry", "fgraph_retaddr_entry"):
            func, depth = self._field(event, "func"), self._field(event, "depth")
            return lambda pid, data: collector.entry(pid, func(data), depth(data))
        if name == "funcgraph_exit":
            depth = self._field(event, "depth")
            return lambda pid, data: collector.exit(pid, depth(data))
        if name == "kernel_stack":
            field = event.field("caller")
            at = field.offset if field is not None else 8
            return lambda pid, data: collector.stack(pid, stack_addresses(data, at, self.order, self._words))
        return lambda pid, _data: collector.event(pid, name)

    def _field(self, event: EventFormat, name: str) -> Any:
        field = event.field(name)
        if field is None:
            raise HarkenError(f"the event {event.name} has no field {name}")
        return lambda data: self._number(data, field)

    def _number(self, data: bytes, field: Any) -> int:
        raw = data[field.offset : field.offset + field.size]
        return int.from_bytes(raw, "little" if self.order == "<" else "big", signed=field.signed)


def stack_addresses(data: bytes, at: int, order: str, word: str) -> tuple[int, ...]:
    """The addresses of a ``kernel_stack`` record, innermost first, up to the end mark.

    Example:
        >>> stack_addresses(bytes(8) + b"\\x01" + bytes(7) + b"\\xff" * 8 + bytes(8), 8, "<", "Q")
        (1,)
    """
    size = 8 if word == "Q" else 4
    count = max(0, len(data) - at) // size
    found: tuple[int, ...] = struct.unpack_from(f"{order}{count}{word}", data, at) if count else ()
    end = (1 << 8 * size) - 1
    return found[: found.index(end)] if end in found else found


def _comm_fields(event: EventFormat) -> list[tuple[Any, Any]]:
    """(name, pid) fields of events that tell the names of tasks."""
    pairs = {
        "sched_wakeup": (("comm", "pid"),),
        "sched_wakeup_new": (("comm", "pid"),),
        "sched_switch": (("prev_comm", "prev_pid"), ("next_comm", "next_pid")),
    }.get(event.name, ())
    found = [(event.field(comm), event.field(pid)) for comm, pid in pairs]
    return [pair for pair in found if None not in pair]
