"""``harken.ftrace.read``: recordings from Python."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import harken
from harken.analysis.function_graph import task_of
from harken.base.errors import FormatError, UsageError
from harken.testing.trace_dat_builder import recording

GRAPH = Path(__file__).parents[1] / "oracle" / "fixtures" / "function_graph-6.12-trace-cmd-3.1.6.dat"
TICKS = {"": {0: [(1000, 7, 42), (4000, 8, 42)], 1: [(2000, -9, 43)]}, "other": {0: [(1500, 1, 42)]}}


@pytest.fixture
def ticks(tmp_path: Path) -> str:
    (tmp_path / "t.dat").write_bytes(recording(TICKS))
    return str(tmp_path / "t.dat")


@pytest.mark.parametrize("order", "<>")
def test_records_come_in_the_order_of_time(tmp_path: Path, order: str) -> None:
    path = tmp_path / "t.dat"
    path.write_bytes(recording(TICKS, order=order))
    with harken.ftrace.read(str(path)) as found:
        rows = [(record.time, record.cpu, record["common_pid"], record["value"], found.text(record)) for record in found.records()]
        assert rows == [(1000, 0, 42, 7, "value=7"), (2000, 1, 43, -9, "value=-9"), (4000, 0, 42, 8, "value=8")]
        assert found.comm(43) == "task-43" and found.symbol(0xFFFFFFFF81000104) == "do_it" and not found.lost and not found.problems


def test_columns_and_buffers(ticks: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with harken.ftrace.read(ticks) as found:
        columns = found.columns()
        assert list(columns) == ["test:tick"] and list(columns["test:tick"]["value"]) == [7, -9, 8]
        monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=dict))  # takes a mapping of columns
        frame = columns["test:tick"].frame()
        assert list(frame) == ["time", "cpu", "value"] and list(frame["cpu"]) == [0, 1, 0]
        assert list(found.columns(load=True)["test:tick"].rows()) == list(columns["test:tick"].rows())
    with harken.ftrace.read(ticks, buffer="other") as found:
        assert [record["value"] for record in found.records()] == [1]
    with pytest.raises(UsageError) as caught:
        harken.ftrace.read(ticks, buffer="none")
    assert "other" in str(caught.value.hint)


def test_what_cannot_be_read_is_told(tmp_path: Path, ticks: str) -> None:
    with pytest.raises(FormatError):
        harken.ftrace.read(__file__)
    with harken.ftrace.read(ticks) as found, pytest.raises(UsageError, match="no calls"):
        found.calls()
    data = recording(TICKS).replace(b"ID: 7\n", b"ID: 6\n")  # an event that the file does not describe
    (tmp_path / "u.dat").write_bytes(data)
    with harken.ftrace.read(str(tmp_path / "u.dat")) as found:
        assert list(found.records()) == [] and found.unknown == 3


def test_call_graphs() -> None:
    """The trees are those of the steps, and hold all that begins and returns."""
    with harken.ftrace.read(str(GRAPH)) as found:
        roots = list(found.calls())
        calls = [call for root in roots for call in root.walk()]
        complete = [call for call in calls if call.returned and call.duration]
        assert len(complete) > 50 and "do_sys_openat2" in {found.symbol(call.func) for call in calls}
        trees = found.graph()
        assert sorted(map(_shape, roots)) == sorted(_shape(root) for task in trees.values() for root in task)
        assert {task_of(root.pid, root.cpu) for root in roots} == set(trees)
        kinds = [step.kind for step in found.steps(leaves=False)]
        assert len(complete) <= sum(1 for call in calls if call.returned) <= len(kinds)


def _shape(call: Any) -> tuple[Any, ...]:
    return (call.start, call.func, call.pid, tuple(map(_shape, call.children)))
