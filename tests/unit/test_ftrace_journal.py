"""The journal of shared settings: what becomes of it on a full disk, and however long it is."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from typing import TYPE_CHECKING

import pytest

from harken.kernel import ftrace_journal
from harken.kernel.tracefs import Tracefs
from harken.testing.fake_kernel import FakeKernel

if TYPE_CHECKING:
    from pathlib import Path

ROOT = "/sys/kernel/tracing"


def test_a_full_disk_is_the_journals_fault_and_nothing_is_changed(tmp_path: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    kernel = FakeKernel({f"{ROOT}/tracing_thresh": "0\n"})
    settings = ftrace_journal.DurableSettings(Tracefs(kernel, ROOT), str(tmp_path))
    settings._fd, settings._file = os.open("/dev/full", os.O_WRONLY), str(tmp_path / "journal")
    with pytest.raises(OSError) as caught:
        settings.set("tracing_thresh", "5")
    assert caught.value.errno == errno.ENOSPC and str(caught.value.filename).startswith(str(tmp_path))
    assert kernel.files[f"{ROOT}/tracing_thresh"] == b"0\n"
    settings.forget()


def test_two_that_start_at_once_take_it_back_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ftrace_journal, "owner_state", lambda *_: "dead")
    kernel = FakeKernel({f"{ROOT}/tracing_thresh": "0\n"})
    settings = ftrace_journal.DurableSettings(Tracefs(kernel, ROOT), str(tmp_path))
    settings.set("tracing_thresh", "5")
    os.close(settings._fd)  # killed
    (journal,) = tmp_path.iterdir()
    dead = journal.rename(tmp_path / "harken_4711_1_effffffc.journal")
    with open(dead) as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        found: list[list[str]] = []
        thread = threading.Thread(target=lambda: found.append(ftrace_journal.sweep_journals(kernel, str(tmp_path))), daemon=True)
        thread.start()
        thread.join(0.2)
        assert thread.is_alive() and kernel.files[f"{ROOT}/tracing_thresh"] == b"5"
        dead.unlink()
    thread.join(60)
    assert found == [[]] and kernel.files[f"{ROOT}/tracing_thresh"] == b"5"  # which is the other one's by now


def test_lists_of_all_functions_are_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ftrace_journal, "owner_state", lambda *_: "dead")
    functions = "".join(f"a_function_of_the_kernel_{number}\n" for number in range(90_000))
    pids = f"{ROOT}/set_event_notrace_pid"
    kernel = FakeKernel({f"{ROOT}/set_graph_notrace": functions, pids: "\n"})
    settings = ftrace_journal.DurableSettings(Tracefs(kernel, ROOT), str(tmp_path))
    old = ftrace_journal.undo_entry("set_graph_notrace", functions)
    assert old is not None
    settings._remember(old, "vfs_read")
    settings.set("set_event_notrace_pid", "4711")
    os.close(settings._fd)  # killed
    (journal,) = tmp_path.iterdir()
    assert journal.stat().st_size > 4 << 20
    journal.rename(tmp_path / "harken_4711_1_effffffc.journal")
    written: list[str] = []
    monkeypatch.setattr(ftrace_journal, "put", lambda _tracefs, name, text, _append: written.append(f"{name} {len(text)}"))
    assert sorted(ftrace_journal.sweep_journals(kernel, str(tmp_path))) == ["set_event_notrace_pid", "set_graph_notrace"]
    assert f"set_graph_notrace {len(functions)}" in written and not list(tmp_path.iterdir())
