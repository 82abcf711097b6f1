"""Reading a buffer as it fills: what the last pages hold comes too."""

from __future__ import annotations

import os
import struct
from types import SimpleNamespace
from typing import Any

import pytest

from harken.analysis.function_graph import ENTRY
from harken.session.ftrace_reading import Reader, StepStage
from harken.testing.ring_builder import pages

_FIELDS = """
format:
	field:unsigned short common_type;	offset:0;	size:2;	signed:0;
	field:unsigned char common_flags;	offset:2;	size:1;	signed:0;
	field:unsigned char common_preempt_count;	offset:3;	size:1;	signed:0;
	field:int common_pid;	offset:4;	size:4;	signed:1;

	field:unsigned long func;	offset:8;	size:8;	signed:0;
	field:int depth;	offset:16;	size:4;	signed:1;
"""
_TIMES = """	field:unsigned long long calltime;	offset:24;	size:8;	signed:0;
	field:unsigned long long rettime;	offset:32;	size:8;	signed:0;
"""
_PAGE = """	field: u64 timestamp;	offset:0;	size:8;	signed:0;
	field: local_t commit;	offset:8;	size:8;	signed:1;
	field: int overwrite;	offset:8;	size:1;	signed:1;
	field: char data;	offset:16;	size:4080;	signed:1;
"""
FILES = {
    "events/header_page": _PAGE,
    "events/ftrace/funcgraph_entry/format": f'name: funcgraph_entry\nID: 11{_FIELDS}\nprint fmt: ""\n',
    "events/ftrace/funcgraph_exit/format": f'name: funcgraph_exit\nID: 10{_FIELDS}{_TIMES}\nprint fmt: ""\n',
}


def entry(func: int, depth: int) -> bytes:
    return struct.pack("<HBBiQi", 11, 0, 0, 7, func, depth) + bytes(4)


def returned(func: int, depth: int, start: int, end: int) -> bytes:
    return struct.pack("<HBBiQiIQQ", 10, 0, 0, 7, func, depth, 0, start, end)


@pytest.fixture
def reader(tmp_path: Any) -> Any:
    """A buffer of two CPUs: on one a call ends, on the other one begins last; both shortly before tracing is stopped."""
    contents = {
        0: pages([(100, entry(1, 0)), (150, returned(1, 0, 100, 150))]),
        1: pages([(110, entry(2, 0)), (120, entry(3, 1))]),
    }
    for cpu in contents:
        (tmp_path / f"cpu{cpu}").touch()

    def stop() -> None:
        for cpu, data in contents.items():
            (tmp_path / f"cpu{cpu}").write_bytes(data)

    def read(name: str) -> str:
        return FILES[name]

    place = SimpleNamespace(path=lambda name: str(tmp_path / name.split("/")[1]), read=read)
    nothing = SimpleNamespace(open=os.open)
    ftrace: Any = SimpleNamespace(
        kernel=nothing, root=place, tracefs=place, cpus=(0, 1), page_size=4096,
        clear=lambda: None, start=lambda: None, stop=stop,
    )  # fmt: skip
    made = Reader(ftrace)
    for name in ("funcgraph_entry", "funcgraph_exit"):
        made._learn("ftrace", name)
    return made


def test_the_last_entry_of_each_cpu_comes_when_tracing_has_ended(reader: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves are found by looking at what comes next; of what nothing comes next of, the entry is told all the same."""
    monkeypatch.setattr("harken.session.ftrace_reading._BUILT_IN", ())
    found = list(reader._merged(StepStage(reader._decoding(), True), 0.0, None))
    assert [(step.kind, step.func, step.time) for step in found] == [(ENTRY, 1, 100), (ENTRY, 2, 110), (ENTRY, 3, 120)]
    assert not reader._fds
