"""``harken symbolize --recording``: what is said of damaged files."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from harken.abi import perf_event as abi
from harken.cli.commands.symbolize import run
from harken.testing.perf_data_builder import DEFAULT_TYPE, PerfDataBuilder


@pytest.mark.parametrize("damage", ["chain", "cut", "lost"])
def test_messages_name_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str) -> None:
    builder = PerfDataBuilder("<", DEFAULT_TYPE | abi.PERF_SAMPLE_CALLCHAIN)
    chain = struct.pack("<QQ", 1 << 61, 5) if damage == "chain" else builder.chain([abi.PERF_CONTEXT_USER, 5])
    builder.sample(chain, ip=5, pid=1, tid=1, time=1).lost(3, 2)
    data = builder.build()
    path = tmp_path / "perf.data"
    path.write_bytes(data[:-3] if damage == "cut" else data)
    status = run(["--recording", str(path)])
    said = capsys.readouterr().err.splitlines()
    assert status == (1 if damage == "chain" else 0)
    assert said and all(line.startswith(f"harken symbolize: {path}: ") for line in said if not line.startswith("HINT")), said
