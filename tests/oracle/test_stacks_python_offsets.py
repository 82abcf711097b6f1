"""The generated offsets of CPython, held against the headers of the versions that are installed here."""

from __future__ import annotations

import glob
import importlib.util
import os
import shutil
import sysconfig
from pathlib import Path

import pytest

from harken.symbols.python_offsets import DEBUG_OFFSETS, LAYOUTS

TOOL = Path(__file__).parents[2] / "tools" / "generate_python_offsets.py"
INCLUDES = sorted(
    path
    for path in {
        sysconfig.get_path("include"),
        *glob.glob("/usr/include/python3.1[1-9]"),
        *glob.glob(os.path.expanduser("~/.pyenv/versions/3.1[1-9]*/include/python3.1[1-9]")),
    }
    if os.path.exists(f"{path}/internal/pycore_frame.h")
)

pytestmark = [pytest.mark.oracle, pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler is installed")]


@pytest.mark.parametrize("include", INCLUDES or [pytest.param("", marks=pytest.mark.skip(reason="no headers of CPython 3.11 or later"))])
def test_offsets_are_those_of_the_headers(include: str) -> None:
    spec = importlib.util.spec_from_file_location("generate_python_offsets", TOOL)
    assert spec is not None and spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    version, fields, published = tool.offsets(Path(include))
    table = DEBUG_OFFSETS if published else LAYOUTS
    if version not in table and version not in LAYOUTS:
        pytest.skip(f"Python {version[0]}.{version[1]} is newer than the tables")
    assert table[version] == fields
