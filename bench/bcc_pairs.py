"""harken against the real BCC, side by side: the same unchanged scripts; start-up, memory, events in Python callbacks.

    python bench/bcc_pairs.py --headers FOLDER          everything, 5 pairs
    python bench/bcc_pairs.py --headers FOLDER startup -n 9

Needs root, Debian's bpfcc-tools, harken with its extra ``c`` in this Python's environment, and for BCC kernel headers: ``FOLDER`` is
where header packages were unpacked (``dpkg -x``); they are mounted in a name space of this benchmark only.  Without ``--headers`` BCC
must find its own.  Runs alternate (A B A B ...); medians and the ratio of medians are shown.

start-up
    From the start of the process until it holds the first descriptor of an attachment (a BPF link, or a perf event beside a BPF program),
    by looking at /proc/PID/fd every millisecond.  ``harken`` has the program in its cache, ``harken new`` compiles it, ``harken cold`` has
    no cache at all (features are probed, the kernel's types indexed).  On a busy machine the seconds of CPU, which include a third of a
    second of running and the end, say more.
peak memory
    ``ru_maxrss`` from wait4(2), by a spawner of 9 MB.
events
    ``bcc_events.py``: N system calls at full speed, each a perf_submit of 40 bytes; how many arrive per second until the last has come,
    what each costs the script's process, what each call costs the traced process, how many the script was told to be lost, and how many
    vanished silently.  Arrivals per second are mostly what the traced process can write, and on a busy machine chance.  ``filled``: half
    as many, all of which are in the rings before the script begins to read; that is what the reader alone can do.  ``burst``: 16 events
    per system call, more than any reader can take.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SPAWN = (sys.executable, "-I", "-S", str(HERE / "spawn.py"))
TOOLS = {"syscount": "syscount-bpfcc", "runqlat": "runqlat-bpfcc", "tcplife": "tcplife-bpfcc"}
#: what ``bcc_events.py`` is told, pages of the buffer
MODES = (
    ("event", 4096), ("event", 64), ("raw", 4096), ("raw", 64), ("event filled", 4096), ("raw filled", 4096),
    ("raw burst", 64), ("raw burst", 4096), ("event ring", 8192), ("event ring filled", 8192),
)  # fmt: skip
#: nanoseconds after which an attachment is one, and not a question to the kernel whether it could be made
_STAYS = 50_000_000
_INSIDE = "HARKEN_BENCH_HEADERS"


def enter(headers: str) -> None:
    """Runs this benchmark again where BCC finds the headers: in a mount name space of its own."""
    folder = Path(headers).resolve()
    build = next(iter(sorted((folder / "usr/src").glob("linux-headers-*-amd64"))), None)
    if build is None:
        raise SystemExit(f"{folder} has no unpacked linux-headers packages")
    release = os.uname().release
    script = (
        "mount --make-rprivate / && mkdir -p /lib/modules && mount -t tmpfs none /lib/modules && "
        f"mkdir /lib/modules/{release} && mount --bind {folder}/usr/src /usr/src && "
        f"ln -s /usr/src/{build.name} /lib/modules/{release}/build && "
        f"ln -s /usr/src/{build.name.rpartition('-')[0]}-common /lib/modules/{release}/source && "
        '{ [ -e /sys/kernel/debug/tracing ] || mount -t debugfs none /sys/kernel/debug; } && exec "$0" "$@"'
    )
    os.environ[_INSIDE] = "1"
    os.execvp("unshare", ["unshare", "-m", "sh", "-c", script, sys.executable, *sys.argv])


class Tool:
    """One way to run scripts."""

    def __init__(self, name: str, argv: tuple[str, ...], cache: str = "warm") -> None:
        self.name, self.argv, self.cache = name, argv, cache

    def environment(self, warm: Path) -> dict[str, str]:
        if self.cache == "warm":
            return {"HARKEN_CACHE": str(warm)}
        place = Path(tempfile.mkdtemp(prefix="harken-bench-"))
        if self.cache == "new":  # all but the compiled programs
            shutil.copytree(warm, place, dirs_exist_ok=True)
            for kept in place.glob("bcc.*"):
                kept.unlink()
        return {"HARKEN_CACHE": str(place)}


HARKEN = Tool("harken", (sys.executable, "-m", "harken.bcc"))
NEW = Tool("harken new", HARKEN.argv, "new")
COLD = Tool("harken cold", HARKEN.argv, "cold")
BCC = Tool("BCC", ("/usr/bin/python3",), "none")


def attached(pid: int) -> bool:
    """Whether a process holds an attachment."""
    program = event = False
    try:
        with os.scandir(f"/proc/{pid}/fd") as names:
            for name in names:
                try:
                    target = os.readlink(name.path)
                except OSError:
                    continue
                if "bpf_link" in target or "bpf-link" in target or "raw-tracepoint" in target:
                    return True
                program |= "bpf-prog" in target
                event |= "perf_event" in target
    except OSError:
        return False
    return program and event


def start_up(tool: Tool, script: str, warm: Path) -> tuple[float, float, float]:
    """(seconds to the first attachment, seconds of CPU until its end soon afterwards, peak MB) of one run."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report")
        environment = {**os.environ, **tool.environment(warm)}
        words = [*SPAWN, str(report), f"{folder}/out", f"{folder}/err", *tool.argv, f"/usr/sbin/{script}"]
        spawner = subprocess.Popen(words, env=environment)
        pid = start = found = 0
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if not pid:
                text = report.read_text() if report.exists() else ""
                if text.startswith("start") and "\n" in text:
                    pid, start = (int(word) for word in text.split()[1:3])
            elif not attached(pid):
                found = 0
            elif not found:
                found = time.monotonic_ns()
            elif time.monotonic_ns() - found > _STAYS:
                break
            if spawner.poll() is not None:
                raise SystemExit(f"{tool.name} {script} ended: {Path(folder, 'err').read_text()[-400:]}")
            time.sleep(0.001)
        seconds = (found - start) / 1e9
        time.sleep(0.3)
        os.kill(pid, signal.SIGINT)
        try:
            spawner.wait(5)
        except subprocess.TimeoutExpired:
            os.kill(pid, signal.SIGKILL)
            spawner.wait()
        if tool.cache in ("new", "cold"):
            shutil.rmtree(environment["HARKEN_CACHE"], ignore_errors=True)
        _, _, _, peak, user, system = report.read_text().splitlines()[1].split()
        return seconds, float(user) + float(system), float(peak) / 1024


def events(tool: Tool, count: int, pages: int, mode: str, warm: Path) -> tuple[float, float, float, int, int]:
    """(events per second, microseconds of CPU for each, and for each that was written, lost and told, lost silently) of one run."""
    words = [*tool.argv, str(HERE / "bcc_events.py"), str(count), str(pages), *mode.split()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, env={**os.environ, **tool.environment(warm)})
    if done.returncode or not done.stdout.startswith("events"):
        raise SystemExit(f"{tool.name}: {done.stderr[-400:]}")
    got, lost, seconds, used, writer = map(float, done.stdout.split()[1::2])
    return got / seconds, used * 1e6 / got, writer * 1e6 / count, int(lost), int(count - got - lost)


def table(title: str, rows: dict[str, list[tuple[float, ...]]], columns: tuple[str, ...], best: Callable[[float, float], float]) -> None:
    """Medians, and for the first column the ratio to the last row (the peer)."""
    print(f"\n{title}\n{'':16}" + "".join(f"{name:>18}" for name in columns) + f"{'ratio':>10}")
    peer = statistics.median([row[0] for row in list(rows.values())[-1]])
    for name, runs in rows.items():
        middles = [statistics.median(values) for values in zip(*runs)]
        print(f"{name:16}" + "".join(f"{value:>18.3f}" for value in middles) + f"{best(peer, middles[0]):>10.1f}", flush=True)


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", help="startup, events (default: both)")
    parser.add_argument("--headers", default="", help="folder with unpacked linux-headers packages for BCC")
    parser.add_argument("-n", type=int, default=5, help="pairs")
    parser.add_argument("--count", type=int, default=500_000, help="events")
    parser.add_argument("--json", default="", help="all figures into this file")
    options = parser.parse_args()
    if options.headers and _INSIDE not in os.environ:
        enter(options.headers)
    warm = Path(tempfile.mkdtemp(prefix="harken-bench-warm-"))
    kept: dict[str, Any] = {}
    parts = options.parts or ["startup", "events"]
    try:
        if "startup" in parts:
            for name, script in TOOLS.items():
                start_up(HARKEN, script, warm)  # fills the cache
                rows: dict[str, list[tuple[float, ...]]] = {}
                for _ in range(options.n):
                    for tool in (HARKEN, NEW, COLD, BCC):
                        rows.setdefault(tool.name, []).append(start_up(tool, script, warm))
                table(f"{name}: start to first attachment", rows, ("seconds", "of CPU", "peak MB"), lambda peer, own: peer / own)
                kept[name] = rows
        if "events" in parts:
            for mode, pages in MODES:
                count = options.count // 2 if "filled" in mode else options.count
                rows = {}
                for _ in range(options.n):
                    for tool in (HARKEN, BCC):
                        rows.setdefault(tool.name, []).append(events(tool, count, pages, mode, warm))
                title = f"{count} events, {mode}, {pages} pages per CPU"
                table(
                    title, rows, ("events/s", "us of CPU each", "writer's us", "lost, told", "lost silently"), lambda peer, own: own / peer
                )
                kept[title] = rows
    finally:
        shutil.rmtree(warm, ignore_errors=True)
    if options.json:
        Path(options.json).write_text(json.dumps(kept, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
