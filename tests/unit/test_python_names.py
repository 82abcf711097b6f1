"""When ``PythonNames`` looks at processes that have only begun."""

from __future__ import annotations

import errno
import sys
from typing import Any

import pytest

from harken.base.errors import KernelError
from harken.session import python_names
from harken.session.python_names import PythonNames


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(python_names, "monotonic", made)
    return made


class Names(PythonNames):
    """One that finds CPython in the processes of ``there``."""

    def __init__(self) -> None:
        unused: Any = None
        super().__init__(unused, unused, unused)
        self.there: set[int] = set()
        self.looked: list[int] = []

    def look(self, pid: int) -> bool:
        self.looked.append(pid)
        if pid in self.there:
            self._again.pop(pid, None)
        return pid in self.there


def test_a_process_is_looked_at_again_soon_and_then_less_often(clock: Clock) -> None:
    names = Names()
    assert not names.pause
    names.noticed(7)
    assert names.looked == [7] and names.pause == pytest.approx(0.001)
    names.look_again()  # woken by something else: not yet
    assert names.looked == [7]
    pauses = []
    while names.pause:
        pauses.append(names.pause)
        clock.now += names.pause
        names.look_again()
    assert pauses == sorted(pauses) and 5 < len(pauses) < 25
    assert sum(pauses[:5]) < 0.01 and 0.4 < sum(pauses) < 0.7


def test_a_process_that_shows_its_runtime_is_not_looked_at_again(clock: Clock) -> None:
    names = Names()
    names.noticed(7)
    names.noticed(8)
    names.there = {7}
    clock.now += 0.002
    names.look_again()
    assert names.looked == [7, 8, 7, 8]
    names.there = {7, 8}
    clock.now += 0.002
    names.look_again()
    assert names.looked[4:] == [8] and not names.pause


def test_ended_processes_make_room_in_a_full_map(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    class Table(dict[bytes, bytes]):
        def update(self, key: bytes, value: bytes) -> None:  # type: ignore[override]
            if key not in self and len(self) >= 2:
                raise KernelError("full", errno=errno.E2BIG)
            self[key] = value

        def items(self) -> Any:
            return list(super().items())

        def delete(self, key: bytes) -> None:
            del self[key]

    running = {1, 2, 3, 4}
    monkeypatch.setattr(python_names.procfs_process, "start_time", lambda _kernel, pid: 7 if pid in running else None)
    unused: Any = None
    table: Any = Table()
    names = PythonNames(unused, unused, table)
    for pid in (1, 2, 3):
        names._tell(pid, b"")
    assert len(table) == 2 and names.late == 1  # all of them run
    running.remove(1)
    names._tell(4, b"")
    assert names.late == 2  # it was looked just now
    clock.now += 1
    names._tell(4, b"")
    assert sorted(int.from_bytes(key, sys.byteorder) for key in table) == [2, 4] and names.late == 2
