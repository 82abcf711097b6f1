"""All of a recording as columns in one pass: the same as event by event and in Python, also of damaged pages."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from test_ftrace_native import ALL, COMMON, EVENTS, FIELDS, LAYOUT, plain, recording, without  # noqa: E402

from harken import native  # noqa: E402
from harken.formats.event_format import parse  # noqa: E402
from harken.formats.event_recording import in_one_pass  # noqa: E402
from harken.formats.event_records import of_file  # noqa: E402
from harken.native import one_pass as one_pass_module  # noqa: E402
from harken.native.memory import address, room  # noqa: E402
from harken.native.one_pass import Recording, Wanted  # noqa: E402
from harken.testing.ring_builder import pages, record  # noqa: E402

pytestmark = pytest.mark.skipif(native.library() is None, reason="the accelerator is not built")
pytest.importorskip("numpy")


def trace_of(streams, events=ALL, compressed=False):
    """What ``of_file`` asks of a ``TraceFile``."""
    whole, places = b"head of a file", []
    for cpu, data in enumerate(streams):
        places.append(SimpleNamespace(cpu=3 * cpu, offset=len(whole), size=len(data)))
        whole += data
    buffer = SimpleNamespace(text=None, compressed=compressed, cpus=places, page_size=4096)

    def chunks(cpu, _buffer):
        place = next(place for place in places if place.cpu == cpu)
        return [whole[place.offset : place.offset + 5000], whole[place.offset + 5000 : place.offset + place.size]]

    return SimpleNamespace(
        header_page=b"",
        order="<",
        kernel_long=8,
        data=memoryview(whole),
        events=events,
        buffer=lambda _: buffer,
        page_size=4096,
        chunks=chunks,
    )


def one_pass(trace, load=True):
    places = [(place.cpu, place.offset, place.size) for place in trace.buffer("").cpus]
    return in_one_pass(trace.data, 4096, places, LAYOUT, trace.events, load)


def same_columns(fast, slow):
    assert list(fast) == list(slow)
    for key, columns in slow.items():
        assert list(columns.times) == list(fast[key].times) and list(columns.cpus) == list(fast[key].cpus)
        for field in columns.event.fields:
            assert plain(fast[key][field.name]) == plain(columns[field.name]), (key, field.name)


@pytest.mark.parametrize("damage", [0, 2, 40])
@pytest.mark.parametrize("cpus", [1, 2, 5])
def test_a_recording_in_one_pass(damage, cpus, monkeypatch):
    """The same columns as event by event and in Python; what is damaged is mostly left to the other way, since its times go back."""
    streams = [recording(f"pass {cpus} {at}", list(EVENTS.values()), 700, damage)[at % 2] for at in range(cpus)]
    streams[-1] = streams[-1][:-1000]
    streams.insert(1, b"")
    for compressed in (False, True):
        trace = trace_of(streams, compressed=compressed)
        loaded, lazy = of_file(trace, load=True), of_file(trace)
        assert damage or (one_pass(trace) is not None and one_pass(trace, False) is not None)
        same_columns(loaded, lazy)
    with monkeypatch.context() as patch:
        without(patch)
        same_columns(of_file(trace), loaded)
    assert set(EVENTS) <= {columns.event.id for columns in loaded.values()}
    assert all(list(columns.times) == sorted(columns.times) for columns in loaded.values())


def test_a_recording_with_nothing_or_of_unknown_events():
    assert of_file(trace_of([]), load=True) == of_file(trace_of([b"", b""]), load=True) == {}
    assert of_file(trace_of(recording("unknown", list(EVENTS.values()), 50), {}), load=True) == {}


def test_texts_that_are_all_different():
    """Their table grows, as often as it must, and no number changes."""
    event = parse(f'name: texts\nID: 300\nformat:\n{COMMON}{FIELDS}\nprint fmt: ""\n', "test")
    names = [f"{n // 2:x}" for n in range(12_000)]
    records = [(1000 + at, record(event, {"comm": name, "path": f"/{name}"})) for at, name in enumerate(names)]
    trace = trace_of([pages(records[::2], "<"), pages(records[1::2], "<")], {300: event})
    (columns,) = one_pass(trace)
    assert columns["comm"].tolist() == names and columns["path"].tolist() == [f"/{name}" for name in names]
    assert columns["comm"].values == list(dict.fromkeys(names)) and columns["raw"].tolist() == [b""] * len(names)


def test_names_that_fill_their_field_or_have_bytes_behind_their_end():
    event = EVENTS[300]
    names = [b"sixteen letters!", b"short\0!garbage!!", b"short\0?other????", b"exactly8\0behind!", b"\0" * 16, b"\xff\xfe" * 8]
    records = [(1000 + at, record(event, {"comm": names[at % 6]})) for at in range(300)]
    (columns,) = one_pass(trace_of([pages(records, "<")], {300: event}))
    expected = [name.partition(b"\0")[0].decode("utf-8", "surrogateescape") for name in names] * 50
    assert columns["comm"].tolist() == expected and len(columns["comm"].values) == 5


def test_records_that_are_not_in_the_order_of_time_are_sorted(monkeypatch):
    event = EVENTS[300]
    streams = []
    for cpu in range(2):
        moments = [5000, 7000, 6000 + cpu, 9000]
        streams.append(b"".join([pages([(moment, record(event, {"a": moment}))], "<") for moment in moments]))
    trace = trace_of(streams, {300: event})
    assert one_pass(trace) is None
    (columns,) = of_file(trace, load=True).values()
    assert columns["a"].tolist() == columns.times.tolist() == [5000, 5000, 6000, 6001, 7000, 7000, 9000, 9000]
    assert columns.cpus.tolist() == [0, 3, 0, 3, 0, 3, 0, 3]


def test_formats_that_ask_for_more_than_there_is_are_read_when_asked():
    large = "".join([f"\tfield:u64 wide{n}[8];\toffset:8;\tsize:64;\tsigned:0;\n" for n in range(200)])
    event = parse(f'name: x\nID: 300\nformat:\n{COMMON}{large}\nprint fmt: ""\n', "test")
    trace = trace_of([pages([(1000 + at, b"\x2c\1" + bytes(range(2, 90))) for at in range(40)], "<")], {300: event})
    assert one_pass(trace) is None and one_pass(trace, False) is not None
    (columns,) = of_file(trace, load=True).values()
    assert columns["wide7"].shape == (40, 8) and columns["wide199"][39, 0] == int.from_bytes(range(8, 16), "little")


def test_a_recording_that_changes_while_it_is_read():
    records = [(1000 + at, record(EVENTS[300 + at % 2], {})) for at in range(1000)]
    data = bytearray(pages(records, "<"))
    layout = (4096, 0, 8, 8, 16, 8)
    reader = Recording((address(memoryview(data)), len(data)), [(0, 0, len(data))], layout)
    counts = reader.counts()
    assert counts == {300: 500, 301: 500}
    data[:] = data.replace((301).to_bytes(2, "little"), (300).to_bytes(2, "little"))
    assert reader.take({kind: (count, Wanted(True, [(8, 8)])) for kind, count in counts.items()}) is None
    assert Recording((address(memoryview(data)), len(data)), [(0, 0, len(data) + 1)], layout).counts() is None
    assert Recording((address(memoryview(data)), len(data)), [(0, 0, len(data))], (16, 0, 8, 8, 16, 8)).counts() is None


def test_fields_of_texts_take_memory_by_the_number_of_their_records(monkeypatch):
    """Formats may claim thousands of fields that no record fills."""
    taken = []
    monkeypatch.setattr(one_pass_module, "room", lambda size: taken.append(size) or room(size))
    fields = "".join([f"\tfield:char text{n}[6];\toffset:2;\tsize:6;\tsigned:0;\n" for n in range(66)])
    text = f'name: x\nID: %d\nformat:\n{COMMON}{fields}\nprint fmt: ""\n'
    events = {number: parse(text % number, "test") for number in range(300, 1300)}
    records = [(1000 + at, number.to_bytes(2, "little") + b"%06d" % number) for at, number in enumerate(events)]
    columns = one_pass(trace_of([pages(records, "<")], events))
    assert columns is not None and [found["text0"].tolist() + found["text65"].tolist() for found in columns] == [
        [f"{number:06}"] * 2 for number in events
    ]
    assert sum(taken) < 66 * 1000 * 8192
