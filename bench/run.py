"""harken against the installed bpftrace, side by side: start-up, memory, cost per event, throughput.

    python bench/run.py                  everything, 10 pairs
    python bench/run.py startup -n 30    one part, more pairs
    python bench/run.py --json out.json

Needs root, harken in this Python's environment and bpftrace.  Both tools get the same script.  Runs alternate (A B A B ...), so that a
busy moment of the machine hits both; medians, extremes and the ratio of the medians are shown.

How each figure is had, the same way for both tools and from outside of them:

start-up
    A load process opens ``/harken-bench/<CLOCK_MONOTONIC>`` every 0.2 ms.  The first such name that the tool reports tells when its
    probe was attached, by the load's clock; the start is taken just before the tool is spawned.  The script is the
    same text in all runs, so that harken's cache of compiled programs serves; ``harken new`` has not seen the
    program before, ``harken kernel`` only its own code (the first use on a kernel: features are probed and types are looked for, once per
    boot), ``harken cold`` nothing at all (an empty cache: the first use of all).
whole run
    Spawn to exit of a script that ends at its first event; the teardown of its probes is part of it.
peak memory
    ``ru_maxrss`` from wait4(2), by a spawner of 9 MB (which is the smallest figure that could be seen).
cost per event
    ``run_time_ns / run_cnt`` of the tool's programs, which the kernel keeps under BPF_ENABLE_STATS, during a fixed number of calls.
    ``per call`` is what one traced system call takes longer than an untraced one, statistics off.
throughput
    N calls of getppid(2) at full speed, or at a pace, each a line of output into a file in memory.  When the output no longer grows, the
    tool gets SIGINT; lines are counted and the losses that it told are read.  ``silent`` is what was neither printed nor told.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
PYTHON = (sys.executable, "-I", "-S")

PRINT = (
    'tracepoint:syscalls:sys_enter_openat /comm == "bench-marks"/ { printf("%-16s %-6d %s\\n", comm, pid, str(args->filename)); exit(); }'
)
COUNT = 'tracepoint:syscalls:sys_enter_openat /comm == "bench-marks"/ { @[comm, str(args->filename)] = count(); exit(); }'
CALLS_PRINT = 'tracepoint:syscalls:sys_enter_getppid /pid == LOAD/ { printf("%s %d\\n", comm, pid); }'
CALLS_COUNT = "tracepoint:syscalls:sys_enter_getppid /pid == LOAD/ { @[comm] = count(); }"
CALLS_HIST = "tracepoint:syscalls:sys_enter_getppid /pid == LOAD/ { @[pid] = hist(nsecs % 4096); }"


class Tool(NamedTuple):
    """One way to run a script."""

    name: str
    argv: tuple[str, ...]
    cache: str = ""
    """of harken: "" (warm), "new" (all but the program is cached), "kernel" (the code image is), "cold" (empty)"""


class Run(NamedTuple):
    """One finished run of a tool."""

    start: int
    end: int
    status: int
    peak_kb: int
    cpu: float
    out: Path
    err: Path


class Unusable(Exception):
    """A tool did not do what the benchmark needs; the run says why."""


class Running:
    """A tool that runs; its output goes to files in memory."""

    def __init__(self, tool: Tool, script: str, folder: Path) -> None:
        self.tool, self.folder = tool, folder
        self.out, self.err, self._report = folder / "out", folder / "err", folder / "report"
        for path in (self.out, self.err, self._report):
            path.write_bytes(b"")
        environment = dict(os.environ, PYTHONDONTWRITEBYTECODE="")
        if tool.cache == "new":
            script = f"// {time.monotonic_ns()}\n{script}"
        elif tool.cache in ("kernel", "cold"):
            cache = folder / "cache"
            shutil.rmtree(cache, ignore_errors=True)
            cache.mkdir(mode=0o700)
            if tool.cache == "kernel":
                for kept in known_code():
                    shutil.copy2(kept, cache)
            environment["HARKEN_CACHE"] = str(cache)
        command = [*PYTHON, str(HERE / "spawn.py"), str(self._report), str(self.out), str(self.err), *tool.argv, "-e", script]
        self._spawner = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)

    @property
    def pid(self) -> int:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            words = self._report.read_text().split()
            if len(words) >= 3:
                return int(words[1])
            time.sleep(0.001)
        raise Unusable(f"{self.tool.name} was not spawned")

    def alive(self) -> bool:
        return self._spawner.poll() is None

    def interrupt(self) -> None:
        if self.alive():
            os.kill(self.pid, signal.SIGINT)

    def wait(self, timeout: float = 60.0) -> Run:
        try:
            self._spawner.wait(timeout)
        except subprocess.TimeoutExpired:
            os.kill(self.pid, signal.SIGKILL)
            self._spawner.wait(10)
            raise Unusable(f"{self.tool.name} did not end within {timeout:.0f} s: {self.problem()}") from None
        words = self._report.read_text().split()
        run = Run(int(words[2]), int(words[4]), int(words[5]), int(words[6]), float(words[7]) + float(words[8]), self.out, self.err)
        if run.status not in (0, 3, 130):
            raise Unusable(f"{self.tool.name} ended with status {run.status}: {self.problem()}")
        return run

    def problem(self) -> str:
        return self.err.read_text(errors="replace").strip()[-300:]


@contextmanager
def load(mode: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([*PYTHON, str(HERE / "load.py"), mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def make_calls(process: subprocess.Popen[str], count: int, rate: int = 0) -> tuple[int, int]:
    """Has the load process make calls; returns begin and end in ns."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(f"{count} {rate}\n")
    process.stdin.flush()
    first, last = process.stdout.readline().split()
    return int(first), int(last)


class Programs:
    """The BPF programs of a tool: those that appear after this object was made and, where descriptors tell, that the tool has open."""

    def __init__(self) -> None:
        from harken.kernel import bpf_info
        from harken.kernel.kernel import live

        self._info, self._kernel = bpf_info, live()
        self._before = set(self._ids())

    def _ids(self) -> list[int]:
        return list(self._info.ids(self._kernel, "program"))

    def _own(self, pid: int) -> set[int]:
        new = set(self._ids()) - self._before
        held = set()
        for path in Path(f"/proc/{pid}/fdinfo").iterdir():
            try:
                held |= {int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith("prog_id:")}
            except OSError:
                continue
        return new & held or new

    def wait(self, running: Running, timeout: float = 30.0) -> None:
        """Until the tool has loaded a program and had time to attach it."""
        deadline = time.monotonic() + timeout
        while not set(self._ids()) - self._before:
            if not running.alive():
                running.wait()
                raise Unusable(f"{running.tool.name} ended early: {running.problem()}")
            if time.monotonic() > deadline:
                raise Unusable(f"{running.tool.name} loaded no program")
            time.sleep(0.01)
        time.sleep(0.7)

    def cost(self, pid: int) -> tuple[int, int]:
        """Their (run_time_ns, run_cnt)."""
        spent = runs = 0
        for number in self._own(pid):
            fd = self._info.fd_by_id(self._kernel, "program", number)
            if fd is None:
                continue
            try:
                info = self._info.program_info(self._kernel, fd)
            finally:
                os.close(fd)
            spent, runs = spent + info.run_time_ns, runs + info.run_cnt
        return spent, runs

    @contextmanager
    def statistics(self) -> Iterator[None]:
        statistics_on = self._info.enable_stats(self._kernel)
        try:
            yield
        finally:
            statistics_on.close()


def known_code() -> list[Path]:
    """The code image in the cache that warm runs use."""
    from harken.base.cache import cache_dir

    return list(Path(cache_dir() or "/nonexistent").glob("code.*"))


def count_lines(path: Path, needle: bytes) -> int:
    """Lines that contain a text, without holding the file in memory."""
    found, rest = 0, b""
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            *lines, rest = (rest + block).split(b"\n")
            found += sum(needle in line for line in lines)
    return found


def told_losses(run: Run) -> int:
    """Events that the tool said it lost, on either stream."""
    found = 0
    for path in (run.out, run.err):
        with open(path, errors="replace") as file:
            for line in file:
                match = re.search(r"\blost (\d+) event", line, re.IGNORECASE)
                if match:
                    found += int(match.group(1))
    return found


def settle(running: Running, quiet: float = 1.0) -> int:
    """Waits until the output has not grown for a while; returns when it last grew."""
    size, grown = -1, time.monotonic_ns()
    while (time.monotonic_ns() - grown) / 1e9 < quiet and running.alive():
        now = running.out.stat().st_size
        if now != size:
            size, grown = now, time.monotonic_ns()
        time.sleep(0.02)
    return grown


def first_mark(run: Run) -> int:
    marks = re.findall(rb"/harken-bench/(\d+)", run.out.read_bytes())
    if not marks:
        raise Unusable(f"no event in the output: {run.err.read_text(errors='replace')[-300:]}")
    return min(map(int, marks))


def startup(tool: Tool, script: str, folder: Path) -> dict[str, float]:
    with load("marks"):
        run = Running(tool, script, folder).wait()
    return {
        "start to attached, ms": (first_mark(run) - run.start) / 1e6,
        "whole run, ms": (run.end - run.start) / 1e6,
        "peak memory, MB": run.peak_kb / 1024,
        "CPU, ms": run.cpu * 1e3,
    }


def cost(tool: Tool, script: str, folder: Path, count: int) -> dict[str, float]:
    programs = Programs()
    with load("calls") as caller:
        make_calls(caller, 10_000)
        begin, end = make_calls(caller, count)
        plain = (end - begin) / count
        running = Running(tool, script.replace("LOAD", str(caller.pid)), folder)
        programs.wait(running)
        begin, end = make_calls(caller, count)
        traced = (end - begin) / count
        time.sleep(0.3)
        with programs.statistics():
            before = programs.cost(running.pid)
            make_calls(caller, count)
            after = programs.cost(running.pid)
        running.interrupt()
        run = running.wait()
    runs = after[1] - before[1]
    if runs < count:
        raise Unusable(f"{tool.name}: the program ran {runs} times for {count} calls")
    return {"in the program, ns": (after[0] - before[0]) / runs, "per call, ns": traced - plain, "peak memory, MB": run.peak_kb / 1024}


def throughput(tool: Tool, script: str, folder: Path, count: int, rate: int) -> dict[str, float]:
    programs = Programs()
    with load("calls") as caller:
        running = Running(tool, script.replace("LOAD", str(caller.pid)), folder)
        programs.wait(running)
        begin, end = make_calls(caller, count, rate)
        drained = max(settle(running), end)
        running.interrupt()
        run = running.wait()
        received = count_lines(run.out, str(caller.pid).encode())
    told = told_losses(run)
    return {
        "made per second": count / ((end - begin) / 1e9),
        "printed": received,
        "told lost": told,
        "silent": count - received - told,
        "printed per second": received / ((drained - begin) / 1e9),
        "CPU, ms": run.cpu * 1e3,
        "peak memory, MB": run.peak_kb / 1024,
    }


class Result(NamedTuple):
    """All runs of one script under all tools."""

    title: str
    script: str
    runs: dict[str, list[dict[str, float]]]


def pairs(title: str, script: str, tools: list[Tool], number: int, measure: Callable[[Tool], dict[str, float]]) -> Result:
    """Alternates the tools; a warm tool's first run, which fills its cache, does not count."""
    result = Result(title, script, {tool.name: [] for tool in tools})
    for tool in tools:
        if not tool.cache:
            measure(tool)
    for turn in range(number):
        for tool in tools:
            result.runs[tool.name].append(measure(tool))
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{title}: {turn + 1} of {number} ")
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K")
    return result


def show(result: Result, reference: str) -> str:
    """A table: a line per figure and tool with median, extremes and the ratio to the reference."""
    lines = [f"\n{result.title}", f"  {result.script}"]
    figures = list(next(iter(result.runs.values()))[0])
    lines.append(f"  {'':26}{'':16}{'median':>12}{'min':>12}{'max':>12}{'ratio':>9}")
    for figure in figures:
        base = statistics.median(run[figure] for run in result.runs[reference])
        for place, (tool, runs) in enumerate(result.runs.items()):
            values = [run[figure] for run in runs]
            middle = statistics.median(values)
            ratio = f"{middle / base:9.2f}" if base else f"{'':>9}"
            digits = 1 if abs(middle) < 1000 and figure not in ("printed", "told lost", "silent") else 0
            numbers = "".join(f"{value:12,.{digits}f}" for value in (middle, min(values), max(values)))
            lines.append(f"  {figure if place == 0 else '':26}{tool:16}{numbers}{ratio if tool != reference else ''}")
    return "\n".join(lines)


def find_tools(names: list[str]) -> list[Tool]:
    beside = Path(sys.executable).with_name("harken")
    harken = str(beside) if beside.exists() else shutil.which("harken")
    peer = shutil.which("bpftrace")
    found = []
    for name in names:
        if name.startswith("harken"):
            if harken is None:
                raise SystemExit("harken is not installed in this Python's environment: bash tools/bootstrap.sh dev")
            found.append(Tool(name, (harken,), cache=name.partition(" ")[2]))
        elif peer is None:
            raise SystemExit("bpftrace is not installed: apt-get install bpftrace")
        else:
            found.append(Tool(name, (peer,)))
    return found


def environment() -> dict[str, str]:
    peer = subprocess.run(["bpftrace", "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout.strip()
    return {
        "kernel": os.uname().release,
        "cpus": str(os.cpu_count()),
        "python": sys.version.split()[0],
        "bpftrace": peer,
        "load": str(os.getloadavg()[0]),
    }


PARTS = ("startup", "cost", "throughput")


def main() -> int:
    parser = argparse.ArgumentParser(description="Benchmarks of harken against bpftrace, in pairs.")
    parser.add_argument("parts", nargs="*", default=[], help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("-n", "--pairs", type=int, default=10, help="how many pairs of runs (default: 10; a third of that for throughput)")
    parser.add_argument("--calls", type=int, default=1_000_000, help="events of a throughput run (default: 1,000,000)")
    parser.add_argument("--rates", default="0,50000,100000,200000", help="paces of throughput, per second; 0 is full speed")
    parser.add_argument("--json", metavar="FILE", help="write every run as JSON")
    options = parser.parse_args()
    parts = options.parts or PARTS
    if set(parts) - set(PARTS):
        parser.error(f"parts are {', '.join(PARTS)}")
    if os.geteuid() != 0:
        parser.error("tracing needs root")
    results: list[Result] = []
    here = environment()
    print(" · ".join(f"{name} {value}" for name, value in here.items()))
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None

    def add(result: Result) -> None:
        results.append(result)
        print(show(result, "bpftrace"), flush=True)

    with tempfile.TemporaryDirectory(prefix="harken-bench-", dir=memory) as scratch:
        folder = Path(scratch)
        try:
            if "startup" in parts:
                all_tools = find_tools(["harken", "harken new", "harken kernel", "harken cold", "bpftrace"])
                for title, script in (("start-up, one printf", PRINT), ("start-up, count by two keys", COUNT)):
                    add(pairs(title, script, all_tools, options.pairs, lambda tool, script=script: startup(tool, script, folder)))
            two = find_tools(["harken", "bpftrace"])
            few = max(1, options.pairs // 3)
            if "cost" in parts:
                for title, script in (
                    ("cost per event, count", CALLS_COUNT),
                    ("cost per event, hist", CALLS_HIST),
                    ("cost per event, printf", CALLS_PRINT),
                ):
                    add(pairs(title, script, two, few, lambda tool, script=script: cost(tool, script, folder, 200_000)))
            if "throughput" in parts:
                for rate in map(int, options.rates.split(",")):
                    calls = options.calls if not rate else min(options.calls, rate * 5)
                    title = f"throughput, {calls:,} printf events " + (f"at {rate:,} per second" if rate else "at full speed")
                    add(pairs(title, CALLS_PRINT, two, few, lambda tool, n=calls, r=rate: throughput(tool, CALLS_PRINT, folder, n, r)))
        except Unusable as problem:
            print(f"bench: {problem}", file=sys.stderr)
            return 1
        finally:
            if options.json:
                Path(options.json).write_text(
                    json.dumps({"environment": here, "results": [result._asdict() for result in results]}, indent=1)
                )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
