"""Python stacks of running interpreters, held against what they say themselves, alone and mixed with native frames.

Every CPython from 3.11 on that is installed here is tried: in PATH, and below ~/.pyenv/versions.
"""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from harken.kernel.kernel import live
from harken.kernel.perf_event import software
from harken.kernel.sampling import Sample, Sampler
from harken.symbols.model import PYTHON
from harken.symbols.python_stack import PythonStacks
from harken.symbols.symbolizer import Symbolizer
from harken.symbols.unwind.unwinder import COMPLETE, Unwinder

pytestmark = [pytest.mark.oracle, pytest.mark.kernel]

PROGRAM = '''
import faulthandler, functools, signal, sys, threading, time

class Thing:
    def __init__(self, n):
        self.n = n
    def __lt__(self, other):
        return spin(self.n)
    def method(self):
        items = [self, Thing(2)]
        return (sorted(
            items))

def spin(n):
    x = 0
    while True:
        for i in range(1000): x += i * i

def generator(depth):
    if depth:
        yield from generator(depth - 1)
    else:
        yield Thing(1).method()

def outer():
    return [x for x in map(lambda d: next(generator(d)), [3])]

def sleeper():
    gl\u00fccklich()

def gl\u00fccklich():
    \u540d\u524d(1)

def \u540d\u524d(n):
    time.sleep(10000)

class Reduce:
    def __add__(self, other):
        return functools.reduce(lambda a, b: a.wait(), [self, self])
    def wait(self):
        """A docstring


        of some lines."""
        (lambda: threading.Event(
        ).wait())()

started = [threading.Thread(target=sleeper, daemon=True), threading.Thread(target=lambda: Reduce() + 1, daemon=True)]
for thread in started:
    thread.start()
time.sleep(0.5)
faulthandler.register(signal.SIGUSR1, file=sys.stderr, all_threads=True)
print(*(thread.native_id for thread in [threading.main_thread(), *started]), flush=True)
outer()
'''


def interpreters() -> list[str]:
    found = [shutil.which(f"python3.{minor}") or "" for minor in range(11, 16)]
    found += sorted(glob.glob(os.path.expanduser("~/.pyenv/versions/3.1[1-9]*/bin/python3")))
    usable = [os.path.realpath(path) for path in ["/usr/bin/python3", *found] if path and "shims" not in path and os.path.exists(path)]
    names = []
    for path in dict.fromkeys(usable):
        done = subprocess.run([path, "-c", "import sys; print(sys.version_info >= (3, 11))"], capture_output=True, text=True, check=False)
        if done.stdout.strip() == "True":
            names.append(path)
    return names


INTERPRETERS = interpreters()


class Running:
    def __init__(self, python: str, folder: Path) -> None:
        (folder / "program.py").write_text(PROGRAM, encoding="utf-8")
        self.errors = (folder / "errors").open("w+b")
        self.process = subprocess.Popen([python, str(folder / "program.py")], stdout=subprocess.PIPE, stderr=self.errors)
        assert self.process.stdout is not None
        self.main, *self.others = [int(word) for word in self.process.stdout.readline().split()]
        self.pid = self.process.pid
        time.sleep(0.2)

    def tracebacks(self) -> list[list[tuple[str, int]]]:
        """What the process says of its threads: (function, line), innermost first."""
        self.errors.seek(0)
        self.errors.truncate()
        self.process.send_signal(10)
        deadline = time.monotonic() + 20
        text = ""
        while time.monotonic() < deadline and "<module>" not in text:
            time.sleep(0.05)
            self.errors.seek(0)
            text = self.errors.read().decode("unicode_escape")
        found: list[list[tuple[str, int]]] = []
        for line in text.splitlines():
            if line.startswith(("Thread", "Current thread")):
                found.append([])
            elif line.startswith("  File "):
                place, _, name = line.partition(" in ")
                found[-1].append((name, int(place.rpartition(" line ")[2])))
        return found

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.errors.close()


@pytest.fixture(params=INTERPRETERS or [pytest.param("", marks=pytest.mark.skip(reason="no CPython from 3.11 on is installed"))])
def running(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Running]:
    process = Running(request.param, tmp_path)
    yield process
    process.close()


def test_stacks_are_those_that_the_interpreter_shows(running: Running) -> None:
    kernel = live()
    with Symbolizer(kernel) as symbolizer:
        stacks = PythonStacks(kernel, symbolizer.processes)
        theirs = running.tracebacks()
        ours = [stacks.stack(running.pid, tid) for tid in (running.main, *running.others)]
    assert len(theirs) == 3
    for number, stack in enumerate(ours):
        # faulthandler shows co_name or, since 3.11, co_qualname; newer threads first
        other = theirs[-1 - number] if number == 0 else next(t for t in theirs if len(t) == len(stack) and t[-2:] == places(stack)[-2:])
        mine = places(stack)
        if number == 0:  # the innermost function runs on between the two looks
            assert mine[0][0] == other[0][0] == "spin" and mine[0][1] in (16, 17, 18, 19)
            mine, other = mine[1:], other[1:]
        assert mine == other
    assert ours[0][1].name == "Thing.__lt__" and ours[0][0].kind == PYTHON
    assert ours[0][0].file.endswith("program.py")
    assert "\u540d\u524d" in [frame.name for frame in ours[1]] + [frame.name for frame in ours[2]]


def places(stack: list[object]) -> list[tuple[str, int]]:
    return [(frame.name.rpartition(".")[2], frame.line) for frame in stack]  # type: ignore[attr-defined]


@pytest.mark.needs("perf_software")
def test_native_and_python_frames_belong_together(running: Running) -> None:
    kernel = live()
    attr = software("cpu-clock", freq=499, flags=("exclude_kernel", "exclude_hv"))
    with (
        Symbolizer(kernel, lines=False) as symbolizer,
        Sampler(kernel, attr, pid=running.pid, registers=True, stack=32768, callchain=False) as sampler,
    ):
        sampler.enable()
        samples: list[Sample] = []
        deadline = time.monotonic() + 60
        while len(samples) < 100 and time.monotonic() < deadline:
            samples += [r for r in sampler.records(duration_ms=200) if type(r) is Sample and r.tid == running.main]
        unwinder = Unwinder(kernel.machine, symbolizer.processes)
        stacks = PythonStacks(kernel, symbolizer.processes)
        ends: Counter[str] = Counter()
        shapes = Counter[tuple[str, ...]]()
        for sample in samples:
            walk = unwinder.walk(sample.pid, sample.registers or {}, sample.stack, 200, pointers=True)
            ends[walk.end] += 1
            native = symbolizer.stack(sample.pid, walk.addresses)
            mixed = stacks.mixed(sample.pid, sample.tid, native, walk.end == COMPLETE, walk.pointers)
            by_name = stacks.mixed(sample.pid, sample.tid, native, walk.end == COMPLETE)
            if sum("EvalFrameDefault" in frame.name for frame in native) == len(set_of_groups(stacks, sample)):
                assert [frame.name for frame in by_name] == [frame.name for frame in mixed]
            assert not any("EvalFrameDefault" in frame.name for frame in mixed)
            shapes[tuple(frame.name for frame in mixed if frame.kind == PYTHON)] += 1
    assert len(samples) >= 100
    assert ends == {COMPLETE: len(samples)}
    (shape,) = shapes  # the same in every sample
    listed = ("outer.<locals>.<listcomp>",) if "outer.<locals>.<listcomp>" in shape else ()  # inlined since 3.12
    assert shape == (
        "spin", "Thing.__lt__", "Thing.method", *["generator"] * 4, "outer.<locals>.<lambda>", *listed, "outer", "<module>",
    )  # fmt: skip
    names = [frame.name for frame in mixed]
    sort = [place for place, name in enumerate(names) if "sort" in name]
    if sort:  # the program's own symbols are there: list.sort lies between the method and the comparison
        assert names.index("Thing.__lt__") < sort[0] <= sort[-1] < names.index("Thing.method")


@pytest.mark.program("unshare")
@pytest.mark.skipif(not INTERPRETERS, reason="no CPython from 3.11 on is installed")
def test_a_process_in_a_namespace_of_its_own_counts_threads_differently(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    command = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", INTERPRETERS[0], str(tmp_path / "program.py")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    try:
        if not process.stdout.readline():
            pytest.skip("no namespaces here")
        time.sleep(0.2)
        pid = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
        kernel = live()
        with Symbolizer(kernel) as symbolizer:
            stacks = PythonStacks(kernel, symbolizer.processes)
            threads = sorted(int(name) for name in os.listdir(f"/proc/{pid}/task"))
            found = [[frame.name for frame in stacks.stack(pid, tid)] for tid in threads]
        assert found[0][0] == "spin" and found[0][-1] == "<module>"
        assert found[1][0] == "\u540d\u524d" and "Reduce.wait" in found[2]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def set_of_groups(stacks: PythonStacks, sample: Sample) -> tuple[object, ...]:
    thread = stacks.thread(sample.pid, sample.tid)
    return thread.groups if thread is not None else ()
