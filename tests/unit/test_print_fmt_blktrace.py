"""Records of the tracer blk, as kernel/trace/blktrace.c prints them."""

from __future__ import annotations

import struct

import pytest

from harken.formats.event_format import parse
from harken.formats.print_fmt import Env, compile_format, compile_print_fmt
from harken.formats.print_fmt_blktrace import blktrace_format
from harken.formats.trace_dat_events import Events

EVENT = parse(blktrace_format(13).decode(), "ftrace")
WRITE, FLUSH, SYNC, QUEUE, COMPLETE, PC, NOTIFY, META, DISCARD, FUA = (1 << bit << 16 for bit in (1, 2, 3, 4, 7, 9, 10, 12, 13, 15))
CGROUP = 1 << 8
FROM = struct.pack(">IIQ", 3 << 20 | 2, 0, 77)


def record(action, sector=0, size=0, error=0, data=b"", device=8 << 20 | 1, order="<"):
    head = struct.pack(order + "HBBi", 13, 0, 0, 7)
    return head + struct.pack(order + "QQIIiIIHH", 0, sector, size, action, 7, device, 0, error, len(data)) + data


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"action": 1 | QUEUE, "sector": 2048, "size": 4096}, "  8,1    Q   R 2048 + 8 [dd]\n"),
        ({"action": 4 | QUEUE | WRITE | SYNC | META, "sector": 1, "size": 512}, "  8,1    G WSM 1 + 1 [dd]\n"),
        ({"action": 12 | QUEUE | FLUSH | WRITE | FUA}, "  8,1    I FWF [dd]\n"),
        ({"action": 1 | QUEUE}, "  8,1    Q   N [dd]\n"),
        ({"action": 7 | DISCARD | SYNC, "size": 1 << 20}, "  8,1    D  DS 0 + 2048 [dd]\n"),
        ({"action": 8 | COMPLETE | WRITE, "sector": 9, "size": 512, "error": 5}, "  8,1    C   W 9 + 1 [5]\n"),
        ({"action": 8 | COMPLETE | WRITE, "sector": 9}, "  8,1    C   W 9 [0]\n"),
        ({"action": 9 | QUEUE}, "  8,1    P   N [dd]\n"),
        ({"action": 11 | QUEUE, "data": struct.pack(">Q", 3)}, "  8,1   UT   N [dd] 3\n"),
        ({"action": 13, "sector": 5, "size": 512, "data": struct.pack(">Q", 6)}, "  8,1    X   R 5 / 6 [dd]\n"),
        (
            {"action": 15 | QUEUE, "sector": 8, "size": 512, "data": struct.pack(">IIQ", 3 << 20 | 2, 0, 77)},
            "  8,1    A   R 8 + 1 <- (3,2) 77\n",
        ),
        ({"action": 7 | PC, "size": 36, "data": bytes.fromhex("12000000240000000000")}, "  8,1    D   R 36 (12 00 00 00 24 00 ..) [dd]\n"),
        ({"action": 8 | PC, "data": b"\x12\x34"}, "  8,1    C   N (12 34) [0]\n"),
        ({"action": 2 | NOTIFY, "data": b"cfq hello"}, "  8,1    m   N cfq hello\n"),
        ({"action": 1 | QUEUE | CGROUP, "size": 512, "data": struct.pack("<II", 0x1F, 2)}, "  8,1   1f,2  Q   R 0 + 1 [dd]\n"),
        ({"action": 99}, "Unknown action 63\n"),
    ],
)
def test_actions(fields, text):
    env = Env("<", 8, comm=lambda pid: {7: "dd"}[pid])
    assert compile_format(EVENT, env)(record(**fields)) == text
    assert compile_format(EVENT, env.replace(dialect="trace-cmd"))(record(**fields)) == text


def test_another_byte_order_and_records_that_end_early():
    render = compile_format(EVENT, Env(">", 8))
    assert render(record(1 | QUEUE, 2048, 4096, order=">")) == "  8,1    Q   R 2048 + 8 [<...>]\n"
    whole = record(15 | QUEUE, 1, 512, data=bytes(16))
    plain = compile_format(EVENT, Env("<", 8))
    for size in range(len(whole)):
        assert plain(whole[:size])


def test_the_event_stands_behind_user_stack():
    text = blktrace_format(12).replace(b"blktrace", b"user_stack")
    events = Events([("ftrace", text)])
    assert events[13].name == "blktrace" and events.find("ftrace:blktrace").id == events.find("blktrace").id == 13
    assert list(events.names) == ["ftrace:user_stack"] and events.ids == (12,) and events.get(14) is None
    assert compile_print_fmt(events[13], Env("<", 8, dialect="trace-cmd"))(record(1 | QUEUE)) == "7"
    taken = Events([("ftrace", text), ("sched", blktrace_format(13).replace(b"blktrace", b"other"))])
    assert taken[13].name == "other"
