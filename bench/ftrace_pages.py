"""Large ftrace recordings as text and as columns, beside ``trace-cmd report``.

    python bench/ftrace_pages.py [SET...] [--events N] [--rounds N] [--keep FOLDER] [--also TRACE_CMD_3.4] [--file TRACE.DAT]

Makes recordings of five kinds (``SETS``; the formats of their events come from this kernel, their contents are random), or takes one that
is there, and runs in turns: ``trace-cmd report`` (``HARKEN_TRACE_CMD``; and a second one of 3.4 with ``--also``), ``harken trace-cmd
report`` in their layouts, both with the accelerator and without (``HARKEN_NATIVE=0``), and harken's decoding into columns in this process
(time, CPU, PID and all own fields of every event).  CPU seconds (user and system, all processes) and wall seconds are medians; CPU is what
is compared, as wall time says little on a busy machine.  The texts must be equal.

Needs trace-cmd and a readable tracefs (mount -t tracefs nodev /sys/kernel/tracing).
"""

from __future__ import annotations

import argparse
import filecmp
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TRACEFS = Path("/sys/kernel/tracing")
SETS = ("raw_syscalls", "syscalls", "sched", "function", "function_graph")
FUNCTIONS = 4000


def chosen_events(kind: str) -> list[tuple[str, bytes]]:
    """(category, format) of the events of a recording."""
    if kind in ("function", "function_graph"):
        names = ("function",) if kind == "function" else ("funcgraph_entry", "funcgraph_exit")
        return [("ftrace", (TRACEFS / "events/ftrace" / name / "format").read_bytes()) for name in names]
    names = [path.parent.name for path in sorted((TRACEFS / "events" / kind).glob("*/format"))]
    if kind == "syscalls":
        calls = (
            "openat",
            "read",
            "write",
            "close",
            "newfstat",
            "mmap",
            "munmap",
            "futex",
            "poll",
            "rt_sigaction",
            "clone3",
            "ioctl",
            "lseek",
        )
        names = [f"sys_{way}_{call}" for call in calls for way in ("enter", "exit") if f"sys_{way}_{call}" in names]
    elif kind == "sched":
        names = ["sched_switch", "sched_waking", "sched_wakeup", "sched_stat_runtime", "sched_migrate_task", "sched_process_exit"]
    return [(kind, (TRACEFS / "events" / kind / name / "format").read_bytes()) for name in names]


def paths() -> list[list[tuple[int, int]]]:
    """Ways through the kernel: (function, caller) of each call, as the same system call makes them again and again."""
    rng = random.Random(7)
    found = []
    for _ in range(200):
        calls, stack = [], [rng.randrange(FUNCTIONS)]
        for _ in range(rng.randrange(10, 80)):
            while len(stack) > 1 and (len(stack) > 8 or rng.random() < 0.4):
                stack.pop()
            calls.append((rng.randrange(FUNCTIONS), stack[-1]))
            stack.append(calls[-1][0])
        found.append(calls)
    return found


def payloads(kind: str, events: list, rng: random.Random, cpu: int):  # type: ignore[no-untyped-def]
    """Payloads without end."""
    from harken.testing.ring_builder import record

    ways = paths()

    comms = ["bash", "kworker/0:1", "python3", "swapper/0", "systemd-journal", "nginx", "ksoftirqd/1", "sshd"]
    depth, stack = 0, []  # of the function graph
    while True:
        task, irqs = rng.randrange(1, 20), rng.choice((0, 0, 0, 1))
        common = {"common_pid": task, "common_flags": irqs, "common_preempt_count": irqs}
        if kind == "function":
            for function, caller in rng.choice(ways):
                address = 0xFFFFFFFF81000000 + function * 256
                yield record(events[0], {**common, "ip": address, "parent_ip": 0xFFFFFFFF81000010 + caller * 256})
        elif kind == "function_graph":
            address = 0xFFFFFFFF81000000 + rng.randrange(FUNCTIONS) ** 2 // FUNCTIONS * 256
            long = int(rng.expovariate(1 / 2000))
            fields = {"common_pid": 7 + cpu, "func": address, "depth": depth, "calltime": 10**12, "rettime": 10**12 + long}
            if stack and (depth > 8 or rng.random() < 0.3):
                depth -= 1
                yield record(events[1], {**fields, "func": stack.pop(), "depth": depth})
            elif rng.random() < 0.6:
                yield record(events[0], fields)
                yield record(events[1], fields)
            else:
                stack.append(address)
                depth += 1
                yield record(events[0], fields)
        else:
            event = events[rng.randrange(len(events))]
            values: dict[str, object] = dict(common)
            for field in event.own:
                if "comm" in field.name:
                    values[field.name] = rng.choice(comms)
                elif field.name == "pid" or field.name.endswith("_pid"):
                    values[field.name] = rng.randrange(1, 300)  # as many tasks as a machine has, not as there are numbers
                elif field.array and field.size:
                    values[field.name] = b"".join(
                        [
                            rng.choice((3, 0x1000, 0x7FFED0000000 + rng.randrange(1 << 28))).to_bytes(8, sys.byteorder)
                            for _ in range(field.array)
                        ]
                    )
                else:
                    values[field.name] = rng.choice((0, 3, rng.randrange(4096), 0x7FFED000 + rng.randrange(1 << 24), -11))
            yield record(event, values)


def make(path: str, kind: str, count: int) -> None:
    """Writes a recording of two CPUs."""
    from harken.formats.event_format import parse
    from harken.formats.trace_dat_parts import BufferSource, CpuSource, Parts
    from harken.formats.trace_dat_writer import write_trace
    from harken.testing.ring_builder import pages

    texts = chosen_events(kind)
    events = [parse(text, category) for category, text in texts]
    streams = []
    for cpu in range(2):
        rng = random.Random(cpu)
        moment, records = 10**12 + cpu, []
        made = payloads(kind, events, rng, cpu)
        for _ in range(count // 2):
            moment += rng.randrange(100, 3000)
            records.append((moment, next(made)))
        streams.append(pages(records))
    symbols = "".join(f"{0xFFFFFFFF81000000 + n * 256:x} t {'do' if n % 3 else '__x64_sys'}_function_{n}\n" for n in range(FUNCTIONS + 1))
    categories = tuple(dict.fromkeys(category for category, _ in texts if category != "ftrace"))
    parts = Parts(
        (TRACEFS / "events/header_page").read_bytes(),
        (TRACEFS / "events/header_event").read_bytes(),
        tuple(text for category, text in texts if category == "ftrace"),
        tuple((category, tuple(text for other, text in texts if other == category)) for category in categories),
        symbols.encode(),
        b"",
        "".join(f"{pid} task-{pid}\n" for pid in range(1, 20)).encode(),
        (),
        len(streams),
    )
    sources = tuple(CpuSource(cpu, len(data), lambda data=data: iter([data])) for cpu, data in enumerate(streams))
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    write_trace(fd, parts, (BufferSource("", "local", 4096, sources),), 6)
    os.close(fd)


def child(argv: list[str], out: str, environment: dict[str, str] | None = None) -> tuple[float, float]:
    """(CPU seconds, wall seconds) of a process and its children."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with open(out, "wb") as file:
        subprocess.run(argv, stdout=file, stderr=subprocess.DEVNULL, check=True, env={**os.environ, **(environment or {})})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.monotonic() - start


def decode(path: str) -> tuple[float, float, int]:
    """(CPU seconds, wall seconds, events) of decoding everything into columns."""
    from harken.formats.event_records import of_file
    from harken.formats.trace_dat import open_trace

    with open_trace(path) as trace:
        trace.events.names  # noqa: B018  the formats are parsed before the clock starts, as in every way of reading
        total, start, wall = 0, time.process_time(), time.monotonic()
        for columns in of_file(trace, load=True).values():
            columns.load()
            total += len(columns["common_pid"])
        return time.process_time() - start, time.monotonic() - wall, total


def measure(path: str, folder: str, rounds: int, also: str) -> None:
    """Runs all in turns and prints medians."""
    report = [sys.executable, "-m", "harken", "trace-cmd", "report", "-i", path]
    old = os.environ.get("HARKEN_TRACE_CMD", "trace-cmd")
    runs = {"trace-cmd": ([old, "report", "-i", path], None), "harken": (report, None), "harken, Python": (report, {"HARKEN_NATIVE": "0"})}
    if also:
        runs["trace-cmd 3.4"] = ([also, "report", "-i", path], None)
        runs["harken, as 3.4"] = ([*report, "--layout", "3.4"], None)
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in (*runs, "columns")}
    total = 0
    for _ in range(rounds):
        for name, (argv, environment) in runs.items():
            seen[name].append(child(argv, os.path.join(folder, name), environment))
        cpu, wall, total = decode(path)
        seen["columns"].append((cpu, wall))
    pairs = [("trace-cmd", "harken"), ("trace-cmd", "harken, Python"), *([("trace-cmd 3.4", "harken, as 3.4")] if also else [])]
    unequal = [name for one, name in pairs if not filecmp.cmp(os.path.join(folder, one), os.path.join(folder, name), False)]
    print(f"  {total} events, {os.path.getsize(path) / 1e6:.0f} MB; texts are {f'NOT EQUAL: {unequal}' if unequal else 'equal'}")
    peers = {"harken, as 3.4": "trace-cmd 3.4"}
    for name, values in seen.items():
        cpu, wall = (statistics.median(column) for column in zip(*values))
        peer = statistics.median([value[0] for value in seen[peers.get(name, "trace-cmd")]])
        print(f"  {name:16} {cpu:7.3f} s CPU  {wall:7.3f} s wall  {total / cpu / 1e6:7.2f} M events/s  {peer / cpu:6.1f} x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="*", default=[], help=f"of {', '.join(SETS)}; default: all")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep", help="a folder for the recordings; those that are there are taken")
    parser.add_argument("--also", default="", help="a trace-cmd of version 3.4")
    parser.add_argument("--file", help="a recording to read in place of one made here")
    options = parser.parse_args()
    if options.keep:
        os.makedirs(options.keep, exist_ok=True)
    import numpy  # noqa: F401  its import is not what is measured

    with tempfile.TemporaryDirectory() as folder:
        for kind in [options.file] if options.file else options.sets or SETS:
            path = kind if options.file else os.path.join(options.keep or folder, f"{kind}-{options.events}.dat")
            if not os.path.exists(path):
                make(path, kind, options.events)
            print(kind)
            measure(path, folder, options.rounds, options.also)


if __name__ == "__main__":
    main()
