"""The tracer mmiotrace's own layout."""

from __future__ import annotations

import struct

import pytest

from harken.formats.event_format import parse
from harken.formats.print_fmt import Env
from harken.formats.ring_page import Records
from harken.render.ftrace_batches import Batch
from harken.render.ftrace_kernel import KernelLines
from harken.render.ftrace_report import ReportLines

COMMON = """\
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:resource_size_t phys;\toffset:8;\tsize:8;\tsigned:0;
"""
RW = """\
\tfield:unsigned long value;\toffset:16;\tsize:8;\tsigned:0;
\tfield:unsigned long pc;\toffset:24;\tsize:8;\tsigned:0;
\tfield:int map_id;\toffset:32;\tsize:4;\tsigned:1;
\tfield:unsigned char opcode;\toffset:36;\tsize:1;\tsigned:0;
\tfield:unsigned char width;\toffset:37;\tsize:1;\tsigned:0;

print fmt: "%lx %lx %lx %d %x %x", (unsigned long)REC->phys, REC->value, REC->pc, REC->map_id, REC->opcode, REC->width
"""
MAP = """\
\tfield:unsigned long virt;\toffset:16;\tsize:8;\tsigned:0;
\tfield:unsigned long len;\toffset:24;\tsize:8;\tsigned:0;
\tfield:int map_id;\toffset:32;\tsize:4;\tsigned:1;
\tfield:unsigned char opcode;\toffset:36;\tsize:1;\tsigned:0;

print fmt: "%lx %lx %lx %d %x", (unsigned long)REC->phys, REC->virt, REC->len, REC->map_id, REC->opcode
"""
EVENTS = {
    7: parse(f"name: mmiotrace_rw\nID: 7\nformat:\n{COMMON}{RW}", "ftrace"),
    8: parse(f"name: mmiotrace_map\nID: 8\nformat:\n{COMMON}{MAP}", "ftrace"),
}
CASES = (
    (8, 3, 0, "MAP 1.500001 2 0xfebd1000 0xab1234 0x1000 0x0 0"),
    (7, 1, 4, "R 4 1.500001 2 0xfebd1000 0xab1234 0x1000 0"),
    (7, 2, 1, "W 1 1.500001 2 0xfebd1000 0xab1234 0x1000 0"),
    (7, 5, 0, "UNKNOWN 1.500001 2 0xfebd1000 ab,12,34 0x1000 0"),
    (7, 9, 0, "rw what?"),
    (8, 9, 0, "map what?"),
    (8, 4, 0, "UNMAP 1.500001 2 0x0 0"),
)


@pytest.mark.parametrize("numpy", [False, True])
def test_the_kernels_lines(numpy):
    rows = [struct.pack("<HBBiQQQiBB2x", kind, 0, 0, 1, 0xFEBD1000, 0xAB1234, 0x1000, 2, op, width) for kind, op, width, _ in CASES]
    records = Records([1_500_000_600] * len(rows), [40 * at for at in range(len(rows))], [40] * len(rows), [case[0] for case in CASES], ())
    if numpy:
        records = records.arrays(pytest.importorskip("numpy"))
    batch = Batch(0, b"".join(rows), records)
    assert KernelLines(EVENTS, Env("<", 8)).text([batch]).splitlines() == [text for _, _, _, text in CASES]
    report = ReportLines(EVENTS, Env("<", 8), "local").text([batch]).splitlines()
    assert report[1].endswith("mmiotrace_rw:         febd1000 ab1234 1000 2 1 4")


MARK = """\
\tfield:unsigned long ip;\toffset:8;\tsize:8;\tsigned:0;
\tfield:char buf[];\toffset:16;\tsize:0;\tsigned:0;

print fmt: "%ps: %s", (void *)REC->ip, REC->buf
"""


@pytest.mark.parametrize("traced", [False, True])
def test_marks_of_users(traced):
    """The tracer has its own line for them; a recording without accesses may be another tracer's."""
    events = EVENTS | {5: parse(f"name: print\nID: 5\nformat:\n{COMMON}{MARK}", "ftrace")}
    row = struct.pack("<HBBiQ16s", 5, 0, 0, 1, 0x10, b"now it is up\n\0")
    asked = []
    lines = KernelLines(events, Env("<", 8))
    lines.by_mmiotrace = lambda kinds: bool(asked.append(kinds)) or traced
    for _ in range(2):
        found = lines.text([Batch(0, row, Records([1_500_000_600], [0], [len(row)], [5], ()))])
        assert found == "MARK 1.500001 now it is up\n" if traced else found.endswith("     1.500001: 0x00000010: now it is up\n"), found
    assert asked == [frozenset((7, 8))]
