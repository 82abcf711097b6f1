"""Names of processes that live for milliseconds, in a mount namespace of their own, and of files that are replaced afterwards."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import time
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, __file__.rsplit("/", 1)[0])

pytestmark = pytest.mark.kernel

if os.geteuid() != 0:
    pytest.skip("loading BPF programs needs root", allow_module_level=True)

import language  # noqa: E402

from harken.session.api import trace  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

_CLONE_NEWNS = 0x20000


def needs_tracepoints() -> None:
    answer = language._catalogue.features.answer("tracepoint_perf")
    if answer.state != "yes":
        pytest.skip(answer.reason)


def test_a_short_process_in_a_mount_namespace(tmp_path: Path) -> None:
    """Nobody but the process sees its program, and only while it runs."""
    needs_tracepoints()
    if os.path.basename(os.path.realpath(shutil.which("sleep") or "")) == "busybox":
        pytest.skip("sleep is busybox here, which goes by its name and has no symbols")
    program = tmp_path / "place" / "short"
    program.parent.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    with trace(
        'tracepoint:syscalls:sys_enter_exit_group /comm == "short"/ { @[ustack(perf, 1)] = count(); @d[ustack(dwarf)] = count(); }',
        cached=False,
    ) as running:
        running.run(0.05)
        pid = os.fork()
        if pid == 0:
            try:
                if libc.unshare(_CLONE_NEWNS) or libc.mount(b"none", b"/", None, 0x44000, None):  # MS_REC | MS_PRIVATE
                    os._exit(3)
                if libc.mount(b"tmpfs", bytes(program.parent), b"tmpfs", 0, None):
                    os._exit(4)
                shutil.copy(shutil.which("sleep") or "", program)
                os.chmod(program, 0o755)
                os.execv(program, ["short", "0.03"])
            finally:
                os._exit(5)
        deadline = time.monotonic() + 20
        status = 0
        while time.monotonic() < deadline:
            running.run(0.01)
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                break
        if os.waitstatus_to_exitcode(status) in (3, 4):
            pytest.skip("no mount namespaces here")
        assert status == 0
        running.run(0.05)
    assert not program.exists()
    ((stack, count),) = running.maps["@"].items()
    assert count == 1 and "exit" in stack[0].name, stack
    ((stack, count),) = running.maps["@d"].items()
    assert count == 1 and len(stack) > 3 and any(frame.module == str(program) for frame in stack), stack
    assert stack[-1].module == str(program) and stack[-1].name == "" or stack[-1].name == "_start"


def test_a_file_that_was_replaced_gives_no_names(tmp_path: Path) -> None:
    needs_tracepoints()
    libraries = language._catalogue.libraries("libc")
    if not libraries:
        pytest.skip("no libc found")
    copy = tmp_path / "libown.so"
    shutil.copy(libraries[0], copy)

    def work() -> None:
        pid = os.fork()
        if pid == 0:
            own = ctypes.CDLL(str(copy))
            own.getpgid(0)
            os._exit(0)
        os.waitpid(pid, 0)
        if replace:
            other = tmp_path / "other"
            shutil.copy(sys.executable, other)
            os.rename(other, copy)

    program = f"tracepoint:syscalls:sys_enter_getpgid /pid != {os.getpid()}/ {{ @[ustack(1)] = count(); }}"
    for replace in (False, True):
        text, _ = language.run(program, work=work)
        assert ("getpgid" in text) is not replace, text
        assert ("    0x" in text) is replace, text
