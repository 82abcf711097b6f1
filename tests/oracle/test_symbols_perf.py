"""The names of samples, held against ``perf script`` on the same recording."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).parents[2] / "bench" / "symbols.py"
pytestmark = [
    pytest.mark.oracle,
    pytest.mark.program("perf"),
    pytest.mark.skipif(os.geteuid() != 0, reason="recording the whole system needs root"),
    pytest.mark.skipif(not BENCH.exists(), reason="the benchmark is not part of this copy"),
]

#: Kinds of differences that are meant to be: harken names more, and leaves versions out.
MEANT = {
    "perf shows the version too", "perf does not name the stubs of .plt.sec", "perf does not name the stubs of ifuncs",
    "harken knows, perf does not",
}  # fmt: skip


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    pytest.importorskip("numpy")
    spec = importlib.util.spec_from_file_location("bench_symbols", BENCH)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def data(bench, tmp_path_factory):
    folder = tmp_path_factory.mktemp("perf")
    path = str(folder / "perf.data")
    try:
        if shutil.which("g++"):
            bench.record(path, str(folder), period=300_000)
        else:
            argv = ["perf", "record", "-q", "-o", path, "-e", "cpu-clock", "-c", "100000", "-a", "--", "ls", "-lR", "/usr/share/doc"]
            subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"perf cannot record here: {error}")
    return path


@pytest.fixture(scope="module")
def result(bench, data):
    """(address, name, file) by perf, and the span of every sample by harken."""
    samples = bench.parse(bench.perf(data, *bench.ADDRESSES), 100_000)
    known, number, _ = bench.symbolize(samples, demangle=False)
    spans = [known[place] for place in number.tolist()]
    theirs = list(bench.expected(bench.perf(data, "--no-demangle", *bench.NAMES)))[: len(spans)]
    assert len(spans) > 1000 and [address for address, _, _ in theirs] == samples.addresses.tolist()
    return theirs, spans


def test_the_same_names_as_perf(bench, result):
    theirs, spans = result
    same, kinds, examples = bench.compare(theirs, [address for address, _, _ in theirs], spans)
    assert same > 0.98 * len(spans), (same, len(spans), examples)
    others = {kind: number for kind, number in kinds.items() if kind not in MEANT}
    assert sum(others.values()) <= len(spans) / 5000, (others, examples)


def test_the_same_files_as_perf(result):
    wrong = []
    for (address, _, dso), span in zip(*result):
        # perf says [unknown] for what is in no mapping, and names anonymous code after the file that could describe it
        if dso != span.module and not (dso == "[unknown]" and not span.name) and not dso.startswith(("/tmp/perf-", "bpf_prog_")):
            wrong.append((hex(address), dso, span))
    assert len(wrong) <= len(result[1]) / 5000, wrong[:5]
