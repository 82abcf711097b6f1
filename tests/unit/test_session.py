"""Sinks, actions, tables and events without a kernel."""

from __future__ import annotations

import os
import struct
import time
from typing import Any

import pytest

from harken.analysis.aggregate import Stats
from harken.base.errors import UsageError
from harken.base.schema import Field, Schema
from harken.compiler.unit import Event, Table, Unit
from harken.formats.spec import Spec
from harken.render.text import CHUNK, Writer
from harken.session.actions import EXIT, handler
from harken.session.events import EventSink
from harken.session.ledger import Loss, merged, program_losses
from harken.session.output import TextSink
from harken.session.output_json import JsonSink
from harken.session.sink import Collect
from harken.session.tables import TableReader, plain_key, plain_value

EMPTY = Schema("", 8, ())
NUMBER = Schema("", 16, (Field("arg0", 8, "q"),))
TEXT = Schema("", 12, (Field("arg0", 8, "v"),))


class FakeMap:
    """A live map, as far as tables need it."""

    def __init__(self, content: dict[bytes, bytes], type: int = 1, value_size: int = 8) -> None:
        self.content, self.type, self.value_size = content, type, value_size

    def items(self) -> list[tuple[bytes, bytes]]:
        return list(self.content.items())

    def lookup(self, key: bytes) -> bytes | None:
        return self.content.get(key)

    def update(self, key: bytes, value: bytes) -> None:
        self.content[key] = value

    def clear(self) -> None:
        self.content.clear()


class FakeHost:
    """What actions may do to a session."""

    def __init__(self, sink: Any, tables: dict[str, TableReader] | None = None, **settings: Any) -> None:
        self.sink, self.tables, self.settings = sink, tables or {}, settings
        self.exited, self.code = False, -1

    def exit(self, code: int) -> None:
        self.exited, self.code = True, code

    def setting(self, name: str, default: Any) -> Any:
        return self.settings.get(name, default)


def table(kind: str = "value", key: str = "q", value: str = "q", per_cpu: bool = False) -> Table:
    return Table(
        "@x",
        "AT_x",
        kind,
        Schema("k", 8, (Field("k", 0, key),) if key else ()),
        Schema("v", 8, (Field("v", 0, value),)),
        per_cpu,
    )


def word(*numbers: int) -> bytes:
    return struct.pack(f"={len(numbers)}q", *numbers)


def record(event: int = 0, number: int = 0) -> bytes:
    return struct.pack("=Qq", event, number)


def text_sink() -> tuple[TextSink, list[str]]:
    notices: list[str] = []
    return TextSink(Writer(-1), notices.append), notices


def test_tables_read_and_clear() -> None:
    content = {word(1): word(5), word(2): word(-6)}
    reader = TableReader(table(), FakeMap(content))  # type: ignore[arg-type]
    assert sorted(reader.rows()) == [((1,), (5,)), ((2,), (-6,))]
    reader.zero()
    assert sorted(reader.rows()) == [((1,), (0,)), ((2,), (0,))]
    reader.clear()
    assert reader.rows() == []
    array = FakeMap({b"\0\0\0\0": word(3, 4)}, type=6)
    scalar = TableReader(table("count", key="", value="Q", per_cpu=True), array)  # type: ignore[arg-type]
    assert scalar.rows() == [((), 7)]
    scalar.clear()
    assert scalar.rows() == [((), 0)]


def test_plain_maps_per_cpu_are_joined() -> None:
    reader = TableReader(table(per_cpu=True), FakeMap({word(1): word(5, -6, 2)}))  # type: ignore[arg-type]
    assert reader.rows() == [((1,), (1,))]
    strings = Table("@s", "m", "value", Schema("k", 0, ()), Schema("v", 8, (Field("v", 0, "s", 8),)), True)
    reader = TableReader(strings, FakeMap({b"": bytes(8) + b"abc".ljust(8, b"\0")}))  # type: ignore[arg-type]
    assert reader.rows() == [((), ("abc",))]


def test_plain_values() -> None:
    assert plain_key((1,)) == 1 and plain_key((1, "a")) == (1, "a")
    assert plain_value(table(), (5,)) == 5
    assert plain_value(table(), (5, 6)) == (5, 6)
    assert plain_value(table("avg"), Stats(2, 3, 6)) == 3
    assert plain_value(table("stats"), Stats(2, 3, 6)) == Stats(2, 3, 6)


def test_text_actions() -> None:
    sink, _ = text_sink()
    host = FakeHost(sink, {"@x": TableReader(table(), FakeMap({word(1): word(5)}))})  # type: ignore[arg-type]
    assert handler(Event("printf", ("n=%d\n",), NUMBER), host)(record(0, 7), 0) == b"n=7\n"
    assert handler(Event("print_value", (), NUMBER), host)(record(0, 7), 0) == b"7\n"
    assert handler(Event("print_map", ("@x", 0, 0), EMPTY), host)(record(), 0) == b"@x[1]: 5\n"
    assert handler(Event("time", ("%%\n",), EMPTY), host)(record(), 0) == b"%\n"
    assert handler(Event("clear", ("@x",), EMPTY), host)(record(), 0) is None
    assert handler(Event("print_map", ("@x", 0, 0), EMPTY), host)(record(), 0) == b""


def test_exit_stops_side_effects() -> None:
    content = {word(1): word(5)}
    host = FakeHost(Collect(), {"@x": TableReader(table(), FakeMap(content))})  # type: ignore[arg-type]
    leave = handler(Event("exit", (-1,), NUMBER), host)
    assert leave(record(0, 9), 0) is EXIT
    assert host.code == 9
    assert leave(record(0, 3), 0) is None
    assert host.code == 9
    handler(Event("clear", ("@x",), EMPTY), host)(record(), 0)
    handler(Event("zero", ("@x",), EMPTY), host)(record(), 0)
    assert content == {word(1): word(5)}
    assert handler(Event("print_map", ("@x",), EMPTY), host)(record(), 0) is None


def test_cat_reads_a_bounded_part_and_warns() -> None:
    sink, notices = text_sink()
    host = FakeHost(sink, max_cat_bytes=4)
    assert handler(Event("cat", ("/proc/self/%s",), TEXT), host)(struct.pack("=QI6s", 0, 6 << 16 | 12, b"status"), 0) == b"Name"
    missing = handler(Event("cat", ("/nonexistent",), EMPTY, "stdin:1:1-4"), host)
    assert missing(record(), 0) is None
    assert missing(record(), 0) is None
    assert notices == ["stdin:1:1-4: WARNING: failed to open file '/nonexistent': No such file or directory"]
    assert handler(Event("cat", ("/proc\0/x",), EMPTY), host)(record(), 0) is None


def test_warnings_are_told_once_and_counted() -> None:
    reader, writer = os.pipe()
    notices: list[str] = []
    sink = TextSink(Writer(writer), notices.append)
    warn = handler(Event("error", ("div_zero", "stdin:1:3-4"), EMPTY), FakeHost(sink))
    for _ in range(3):
        warn(record(), 0)
    assert len(notices) == 1 and "stdin:1:3-4: WARNING: Divide or modulo by 0" in notices[0]
    sink.maps([])
    assert "3 times" in notices[1]
    os.close(writer)
    os.close(reader)


def test_unknown_actions_are_refused() -> None:
    with pytest.raises(UsageError, match="dance"):
        handler(Event("dance", (), EMPTY), FakeHost(Collect()))


def test_json_items_are_valid_lines() -> None:
    import json

    sink = JsonSink(Writer(-1))
    show = sink.printf(Event("printf", ("%s\n",), TEXT))
    raw = struct.pack("=QI4s", 0, 4 << 16 | 12, b'a"\xff\n')
    line = show(raw, 0)
    assert isinstance(line, bytes)
    assert json.loads(line) == {"type": "printf", "data": 'a"\\xff\n\n'}
    assert json.loads(sink.text("time", "x\ty")) == {"type": "time", "data": "x\ty"}  # type: ignore[arg-type]
    warning = json.loads(sink.warning("cat", "no", "a:b:3:4-5"))  # type: ignore[arg-type]
    assert (warning["filename"], warning["line"], warning["col"]) == ("a:b", 3, 4)
    assert json.loads(sink.value(Event("print_value", (), NUMBER))(record(0, -3), 0)) == {"type": "value", "data": -3}  # type: ignore[arg-type]


def test_writer_modes() -> None:
    reader, writer = os.pipe()
    out = Writer(writer, "full")
    out.write([b"a", b"b"])
    os.set_blocking(reader, False)
    with pytest.raises(BlockingIOError):
        os.read(reader, 1)
    out.flush()
    assert os.read(reader, 10) == b"ab"
    out.write([b"x" * (CHUNK - 1)])
    with pytest.raises(BlockingIOError):
        os.read(reader, 1)
    Writer(writer).write([b"now"])
    assert os.read(reader, 10) == b"now"
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        Writer(writer).write([b"gone"])
    os.close(writer)


def test_event_sink_is_bounded_and_copies() -> None:
    sink = EventSink(2)
    make = sink.printf(Event("printf", ("%s\n",), TEXT, "stdin:1:1-2"))
    buffer = bytearray(b"." * 8 + struct.pack("=QI3s", 0, 3 << 16 | 12, b"abc") + b"rest")
    event: Any = make(buffer, 8)
    buffer[:] = bytes(len(buffer))
    assert (event.values, event.text, event.arg0, event.position) == (("abc",), "abc\n", "abc", "stdin:1:1-2")
    with pytest.raises(AttributeError, match="it has arg0"):
        _ = event.nothing
    sink.emit([1, 2, 3])
    sink.emit([4])
    assert list(sink.take()) == [1, 2]
    assert sink.losses() == (Loss("waiting", "the iterator of events", 2),)
    sink.emit([5])
    assert list(sink.take()) == [5]


def test_program_losses_are_summed_over_cpus() -> None:
    unit = Unit(Spec(), (Event("printf", ("x",), EMPTY, "stdin:1:1-9"),), losses=(("ring", "0"), ("map", "@x"), ("scratch", "")))
    slots = {struct.pack("=I", 0): word(3, 4), struct.pack("=I", 1): word(0, 0), struct.pack("=I", 2): word(1, 0)}
    losses = program_losses(unit, FakeMap(slots))  # type: ignore[arg-type]
    assert losses == [Loss("ring", "printf at stdin:1:1-9", 7), Loss("scratch", "", 1)]
    assert program_losses(unit, None) == []
    assert merged([Loss("a", "b", 1), Loss("c", "d", 2), Loss("a", "b", 3)]) == (Loss("a", "b", 4), Loss("c", "d", 2))


def test_many_links_are_closed_by_several_threads_and_errors_are_told() -> None:
    import threading

    from harken.session.detach import close_links

    together = threading.Barrier(8)

    class Link:
        closed = 0

        def close(self) -> None:
            together.wait(20)  # passes only if eight are closed at the same time
            Link.closed += 1

    class Broken:
        def close(self) -> None:
            raise OSError("broken")

    links = [(Link(), "probe") for _ in range(40)]
    close_links(links, None)
    assert Link.closed == 40 and links == []
    with pytest.raises(OSError, match="broken"):
        close_links([(Broken(), "probe") for _ in range(40)], None)
    links = [(Link(), "probe") for _ in range(40)]
    close_links(links, 0.0)  # the deadline has passed
    assert len(links) == 40


@pytest.mark.parametrize("aligned", [True, False])
def test_a_record_that_nobody_understands_makes_no_other_one_count_twice(aligned: bool) -> None:
    from harken.session.stream import Stream

    class Ring:
        def batches(self, limit: int) -> Any:
            numbers = (0, 0, 7, 0, 9, 0)
            yield memoryview(struct.pack(f"={len(numbers)}Q", *numbers)), [8 * place for place in range(len(numbers))]

    class Session:
        exited = False

    done: list[int] = []
    stream = object.__new__(Stream)
    stream._ring, stream._aligned, stream._unread, stream._session = Ring(), aligned, 0, Session()  # type: ignore[assignment]
    stream._sink = sink = Collect()
    stream._handlers = [lambda _data, start: done.append(start) or start]  # type: ignore[func-returns-value]
    assert stream.drain() == 6 and done == [0, 8, 24, 40] == sink.items
    assert stream._unread == 2


def test_what_is_left_is_taken_but_not_what_goes_on_coming() -> None:
    from harken.session.stream import Stream

    def settled(counts: list[int], deadline: float | None) -> list[int]:
        class Ring(Stream):
            def drain(self) -> int:
                return counts.pop(0)

        object.__new__(Ring).settle(deadline)
        return counts

    full = 1 << 20
    later, before = time.monotonic() + 1000, time.monotonic() - 1
    assert settled([full, 5, 0, 7], None) == [7]
    assert settled([full, 5, 0, 7], later) == [0, 7]  # probes that are still attached: it was empty once
    assert settled([full, full, 5], before) == [full, 5]  # they are faster than we
