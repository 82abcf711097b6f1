"""The accelerator is built here, fits, and is not needed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harken import native
from harken.native import memory

FOLDER = Path(native.__file__).parent


def test_it_is_built_where_a_compiler_is() -> None:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    found = native.library()
    assert found is not None, "run tools/bootstrap.sh dev"
    assert found.harken_native_version() == native.VERSION


def test_the_environment_does_without_it() -> None:
    code = "from harken import native; print(native.library())"
    environment = dict(os.environ, HARKEN_NATIVE="0")
    assert subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout == "None\n"


def test_a_library_of_another_version_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_found", [])
    monkeypatch.setattr(native, "VERSION", native.VERSION + 1)
    assert native.library() is None


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_it_compiles_without_a_warning(tmp_path: Path) -> None:
    sources = sorted(str(path) for path in FOLDER.glob("*.c"))
    flags = ["-O2", "-std=gnu11", "-shared", "-fPIC", "-Wall", "-Wextra", "-Wconversion", "-Wno-sign-conversion", "-Werror"]
    done = subprocess.run(["cc", *flags, "-o", str(tmp_path / "native.so"), *sources], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_rooms_are_as_large_as_they_are_said_to_be_whatever_other_threads_have_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that meet both put back what they have not used, in any order; C writes as much as was asked for."""
    monkeypatch.setattr(memory, "_rest", [memoryview(bytearray(1 << 20)), memoryview(bytearray(64))])
    found = [memory.room(1 << 16) for _ in range(3)]
    assert [len(room) for room in found] == [1 << 16] * 3
