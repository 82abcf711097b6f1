"""``harken symbolize --recording`` against ``perf script`` on the same recording: every sample's address, symbol and file, as text.

Differences that are meant, and what is compared instead:

=====================  =================================================================================================================
version                perf adds the symbol's version to names of .symtab ("cfree@GLIBC_2.2.5"); harken leaves it out
spacing                perf 6.1's demangler writes "> >" where templates end, harken's ">>"
harken knows           perf prints [unknown]: stubs in .plt.sec, files that were deleted or never had a name while the process runs
                       (memfd), code that was mapped after the first sample of a batch in it
ifunc stub             perf prints "@plt" alone for stubs of ifuncs, or names one stub after its neighbour
damaged chain          perf drops a whole call chain if one frame pointer in it looks like a marker (0xffffffffffffffff); harken prints
                       the frames
not demangled          a name that one of the two demanglers refuses
=====================  =================================================================================================================
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter

import pytest

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.program("perf"),
    pytest.mark.skipif(os.geteuid() != 0, reason="recording the whole system needs root"),
]

WORKLOAD = """
python3 -c '
import json, zlib, os, hashlib, re, time
end = time.time() + 0.7
while time.time() < end:
    json.loads(json.dumps({str(i): [i] * 5 for i in range(500)})); zlib.compress(os.urandom(20000)); os.listdir("/usr/lib")
    sorted(hashlib.sha256(str(i).encode()).hexdigest() for i in range(1000)); open("/proc/self/maps").read()
' &
(ls -lR /usr/share/doc > /dev/null; find /etc -type f -name "*a*" -exec md5sum {} + > /dev/null 2>&1
bash -c 'for i in $(seq 3000); do :; done') &
apt-cache search -- zlib > /dev/null 2>&1 &
wait
exit 0
"""
VERSION = re.compile(r"@@?[A-Za-z][A-Za-z0-9_.]*$")


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """Makes recordings with more options of perf record, each once."""
    folder = tmp_path_factory.mktemp("perf")
    made: dict[tuple[str, ...], str] = {}

    def make(*options: str) -> str:
        if options not in made:
            path = str(folder / f"{len(made)}.data")
            argv = ["perf", "record", "-q", "-N", "-o", path, "-e", "cpu-clock", "-c", "400000", "-a", *options, "--", "sh", "-c", WORKLOAD]
            run = subprocess.run(argv, capture_output=True, timeout=120)
            if run.returncode:
                pytest.skip(f"perf cannot record here: {run.stderr.decode(errors='replace')[-300:]}")
            made[options] = path
        return made[options]

    return make


def perf(data: str, *options: str) -> str:
    argv = ["perf", "script", "--no-inline", "-i", data, *options]
    return subprocess.run(argv, check=True, capture_output=True).stdout.decode(errors="replace")


def harken(data: str, *options: str, stdin: int = subprocess.DEVNULL) -> str:
    argv = [sys.executable, "-m", "harken", "symbolize", "--recording", data, *options]
    run = subprocess.run(argv, capture_output=True, stdin=stdin)
    assert run.returncode == 0, run.stderr
    return run.stdout.decode(errors="replace")


def kind(theirs: str, ours: str) -> str:
    """What kind of difference two lines have; "" for none."""
    if theirs == ours:
        return ""
    pattern = re.compile(r"((?:.*: )?)\s*([0-9a-f]+) (.*) (\([^()]*(?:\(deleted\))?\))$")
    left, right = pattern.match(theirs), pattern.match(ours)
    if left is None or right is None or left[1] != right[1] or left[2] != right[2]:
        return "different"
    name, mine = left[3], right[3]
    if left[4] != right[4] and not (name == "[unknown]" and left[4] == "([unknown])"):
        return "different file"
    while "> >" in name:
        name = name.replace("> >", ">>")
    if name == mine:
        return "spacing"
    if VERSION.sub("", name) == mine:
        return "version"
    if name == "[unknown]":
        return "harken knows"
    if name.endswith("@plt") and mine.endswith("@plt"):
        return "ifunc stub"
    if mine.startswith("_Z") or name.startswith("_Z"):
        return "not demangled"
    return "different name"


def samples(text: str) -> list[list[str]]:
    """The lines of each sample of a text with call chains."""
    found: list[list[str]] = []
    lines = iter(text.split("\n")[:-1])
    for head in lines:
        sample = [head]
        for line in lines:
            if not line:
                break
            sample.append(line)
        found.append(sample)
    return found


def judge(kinds: Counter[str], total: int, examples: dict[str, tuple[str, str]]) -> None:
    bad = {name: number for name, number in kinds.items() if name.startswith("different")}
    assert sum(bad.values()) <= total / 10_000, (bad, examples)
    assert sum(kinds.values()) <= total / 25, (kinds, examples)


@pytest.mark.parametrize("fields", ["comm,tid,cpu,time,event,ip,sym,dso"])
def test_every_sample_as_perf_prints_it(record, fields) -> None:
    data = record()
    theirs, ours = perf(data, "-F", fields).split("\n"), harken(data, "-F", fields).split("\n")
    assert len(theirs) == len(ours) > 2000
    kinds, examples = Counter(), {}
    for left, right in zip(theirs, ours):
        found = kind(left, right)
        if found:
            kinds[found] += 1
            examples.setdefault(found, (left, right))
    judge(kinds, len(theirs), examples)


@pytest.mark.parametrize("fields", ["comm,pid,tid,time,ip,sym,dso"])
def test_every_call_chain_as_perf_prints_it(record, fields) -> None:
    data = record("-g")
    theirs, ours = samples(perf(data, "-F", fields)), samples(harken(data, "-F", fields))
    assert len(theirs) == len(ours) > 2000
    kinds, examples, frames = Counter(), {}, 0
    for left, right in zip(theirs, ours):
        assert left[0] == right[0]
        if len(left) == 1 and len(right) > 1:
            kinds["damaged chain"] += 1
            continue
        if len(left) != len(right):
            kinds["different length"] += 1
            examples.setdefault("different length", (str(left), str(right)))
            continue
        for one, other in zip(left[1:], right[1:]):
            frames += 1
            found = kind(one, other)
            if found:
                kinds[found] += 1
                examples.setdefault(found, (one, other))
    assert frames > 10_000
    judge(kinds, frames, examples)


def test_only_the_columns_before_the_address(record) -> None:
    data = record()
    for fields in ("comm,pid,time", "tid,cpu", "comm,tid,cpu,time,period,event"):
        assert harken(data, "-F", fields) == perf(data, "-F", fields)


def test_addresses_alone_are_equal(record) -> None:
    assert harken(record(), "-F", "comm,pid,tid,cpu,time,ip") == perf(record(), "-F", "comm,pid,tid,cpu,time,ip")
    theirs, ours = samples(perf(record("-g"), "-F", "time,ip")), samples(harken(record("-g"), "-F", "time,ip"))
    different = [pair for pair in zip(theirs, ours) if pair[0] != pair[1] and len(pair[0]) > 1]
    assert len(theirs) == len(ours) and len(different) <= len(theirs) / 5000, different[:3]


def test_other_ways_of_recording(record) -> None:
    pytest.importorskip("zstandard")
    data = record("-z", "-d", "-W", "--buildid-mmap")
    theirs, ours = perf(data, "-F", "time,ip,sym,dso").split("\n"), harken(data, "-F", "time,ip,sym,dso").split("\n")
    assert len(theirs) == len(ours) > 1000
    kinds = Counter(filter(None, map(kind, theirs, ours)))
    assert sum(number for name, number in kinds.items() if name.startswith("different")) <= len(ours) / 5000, kinds


def test_a_pipe(tmp_path) -> None:
    path = tmp_path / "pipe.data"
    with open(path, "wb") as out:
        argv = ["perf", "record", "-q", "-o", "-", "-e", "cpu-clock", "-c", "300000", "-a", "--", "sleep", "0.5"]
        run = subprocess.run(argv, stdout=out, stderr=subprocess.PIPE, timeout=60)
    raw = path.read_bytes()
    if run.returncode or not raw.startswith(b"PERFILE2"):
        pytest.skip(f"perf cannot record into a pipe here: {run.stderr.decode(errors='replace')[-200:]}")
    with open(path, "rb") as stream:
        ours = harken("-", "-F", "time,ip", stdin=stream.fileno())
    assert ours == perf(str(path), "-F", "time,ip") and ours.count("\n") > 100


def test_what_perf_says_of_the_recording(record) -> None:
    from harken.formats.perf_data import open_perf_data

    data = record()
    text = subprocess.run(["perf", "report", "-i", data, "--header-only"], check=True, capture_output=True, text=True).stdout
    with open_perf_data(data) as found:
        said = dict(re.findall(r"^# (hostname|os release|perf version|arch|cpudesc|total memory|cmdline) : (.*?)\s*$", text, re.M))
        for name, feature in (("hostname", "hostname"), ("os release", "osrelease"), ("perf version", "version"), ("arch", "arch")):
            assert found.features.get(feature) == said[name]
        assert said["cpudesc"] == found.features.get("cpudesc") and said["total memory"] == f"{found.features.get('total_mem')} kB"
        assert said["cmdline"].split() == [shutil.which("perf"), *found.features.get("cmdline")[1:]] or "record" in said["cmdline"]
        names = re.findall(r"^# event : name = (.*?), , id = \{ ([0-9, ]*)\}", text, re.M) or re.findall(
            r"^# event : name = ([^,]*),.*?id = \{ ([0-9, ]*)\}", text, re.M
        )
        assert [(event.name, len(event.ids)) for event in found.events] == [(name, len(ids.split(","))) for name, ids in names]
        listed = subprocess.run(["perf", "buildid-list", "-i", data], check=True, capture_output=True, text=True).stdout.split("\n")[:-1]
        assert sorted(f"{entry.build_id} {entry.path}" for entry in found.build_ids) == sorted(listed)
        list(found.batches())
        assert not found.problems and not found.features.problems
