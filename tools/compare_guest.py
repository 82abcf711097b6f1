"""Recordings of many kinds, made in a guest and printed there by three: the kernel, trace-cmd and harken; line by line.

    python tools/compare_guest.py 6.12                  every case that the kernel has tracers or events for
    python tools/compare_guest.py 6.1-rt wakeup memory  cases whose names begin so
    python tools/compare_guest.py 6.18 --limit 900      seconds after which no case is begun (default: 600)

A case is traced with ``start`` into the top buffer under a load that makes such records.  Then

- ``show`` must be the ``trace`` file, byte for byte,
- ``report --layout kernel`` of what ``extract`` takes from the same buffer must be the lines of that file,
- ``report`` must be what ``trace-cmd report`` prints, also with ``-l``; texts of tracers of latencies as well.

Hashed pointers (``%p``) and ages in jiffies are masked for the kernel; for trace-cmd only events that it cannot parse are left out.  A
guest of another machine has no trace-cmd, so that part is left out there.  Prints a line per case, and the first lines that differ; the
exit status is 1 if any do.
"""

from __future__ import annotations

import argparse
import contextlib
import mmap
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path

TRACING = "/sys/kernel/tracing/"
UNKNOWABLE = re.compile(r"age=\S+|(?<![0-9a-f])[0-9a-f]{16}(?![0-9a-f])")
REMARK = re.compile(r"#(?! *\d+\.\d+ us)")
"""The header's lines and those about CPUs; a call that took a millisecond also begins with a # where CPUs are not shown."""
LOST = re.compile(r"CPU:\d+ \[LOST")
"""The pages of a buffer that was full tell how much was overwritten before them, its ``trace`` file does not."""
FORMATTED = "/tmp/compared.dat"
LATENCY = ("wakeup", "wakeup_rt", "wakeup_dl", "irqsoff", "preemptoff", "preemptirqsoff")
SHOWN = 4

MEMORY = "kmem vmscan compaction migrate huge_memory oom pagemap filemap mmap mmap_lock page_isolation percpu ksm vmalloc".split()
NETWORK = "net sock tcp skb udp napi qdisc neigh fib fib6 icmp netlink".split()
CORE = "sched timer irq irq_vectors ipi workqueue signal task".split()
CALLS = "syscalls raw_syscalls".split()
LOCKS = "rcu lock preemptirq".split()
ELSEWHERE = {*MEMORY, *NETWORK, *CORE, *CALLS, *LOCKS, "ftrace", "maple_tree", "osnoise"}
GRAPH = ["-p", "function_graph", "-l", "vfs_*", "-l", "ksys_*", "-l", "do_sys*", "-l", "*_permission"]
GRAPH_OPTIONS = [
    ("funcgraph-proc", "funcgraph-tail", "funcgraph-abstime"), ("nofuncgraph-overhead", "nofuncgraph-cpu"), ("nofuncgraph-duration",),
    ("funcgraph-overrun",), ("nofuncgraph-irqs",), ("nosleep-time",), ("nograph-time",), ("noirq-info",),
    ("funcgraph-args",), ("funcgraph-retval",), ("funcgraph-retval", "funcgraph-retval-hex"), ("funcgraph-retaddr",),
    ("funcgraph-retval", "funcgraph-args", "funcgraph-tail", "funcgraph-proc"),
]  # fmt: skip


def spawn(*argv: str) -> None:
    subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60, check=False)


def tasks() -> None:
    for _ in range(2):
        spawn("sh", "-c", "ls /proc/self /tmp > /tmp/x; cat /tmp/x > /dev/null; (sleep 0.01; true) | cat; rm /tmp/x; kill -0 $$")
    for _ in range(5):
        time.sleep(0.003)
        os.stat("/proc/self/stat")


def real_time_tasks() -> None:
    for policy in (["-f", "50"], ["-r", "10"]):
        spawn("chrt", *policy, "sh", "-c", "sleep 0.02; true")


def tasks_with_deadlines() -> None:
    for _ in range(2):
        spawn("chrt", "-d", *"--sched-runtime 5000000 --sched-deadline 10000000 --sched-period 20000000 0 sleep 0.05".split())


def files() -> None:
    for name in ("/tmp/a", "/dev/shm/b"):
        with open(name, "w+b") as file:
            file.write(bytes(50_000))
            file.flush()
            os.fsync(file.fileno())
            with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
                sum(mapped[::4096])
        os.rename(name, name + "2")
        os.truncate(name + "2", 5)
        os.unlink(name + "2")


def memory() -> None:
    size = 12 << 20
    with mmap.mmap(-1, size) as mapped:
        for advice in (14, 4):  # MADV_HUGEPAGE, MADV_DONTNEED
            for offset in range(0, size, 4096):
                mapped[offset] = 1
            with contextlib.suppress(OSError):  # a kernel without huge pages
                mapped.madvise(advice)
        pid = os.fork()
        if not pid:
            mapped[: 1 << 20] = bytes(1 << 20)
            os._exit(0)
        os.waitpid(pid, 0)
    for name, value in (("drop_caches", "3"), ("compact_memory", "1")):
        if os.path.exists(f"/proc/sys/vm/{name}"):
            Path(f"/proc/sys/vm/{name}").write_text(value)
    files()


def network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
        with client, accepted:
            for _ in range(3):
                client.send(bytes(5000))
                accepted.recv(5000)
    with socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("127.0.0.1", 0))
        datagrams.sendto(b"1234", datagrams.getsockname())
        datagrams.recv(10)
    with socket.socket() as refused:
        refused.connect_ex(("127.0.0.1", 1))
    spawn("ping", "-c", "1", "127.0.0.1")


def calls() -> None:
    spawn("sh", "-c", "uname -a; id; ls -l /tmp; dd if=/dev/zero of=/tmp/z bs=100 count=2; rm /tmp/z; mount -t tmpfs n /mnt; umount /mnt")
    network()
    files()


def everything() -> None:
    tasks()
    memory()
    network()


def nothing() -> None:
    time.sleep(2)


class Case:
    """What is traced: a name, words for ``start``, a load, and files of tracefs that are set meanwhile."""

    def __init__(self, name: str, words: list[str], load: Callable[[], None], settings: dict[str, str] | None = None) -> None:
        self.name, self.words, self.load, self.settings = name, words, load, settings or {}


def chosen_events(groups: list[str], there: set[str]) -> list[str]:
    return [word for group in groups if group in there for word in ("-e", group)]


def cases(there: set[str], options: set[str]) -> list[Case]:
    """Those that this kernel may have, given the groups of its events and its options."""
    found = []
    for tracer, load in (("wakeup", tasks), ("wakeup_rt", real_time_tasks), ("wakeup_dl", tasks_with_deadlines)):
        found.append(Case(tracer, ["-d", "-p", tracer], load))
        found.append(Case(f"{tracer} with events", ["-d", "-p", tracer, "-e", "sched"], load))
        found.append(Case(f"{tracer} with functions", ["-p", tracer, "-l", "try_to_wake_up", "-l", "enqueue_task*"], load))
    stacks = {"osnoise/print_stack": "1", "osnoise/timerlat_period_us": "20000"}
    found += [
        Case("timerlat with stacks", ["-p", "timerlat"], tasks, stacks),
        Case("timerlat with events", ["-p", "timerlat", "-e", "osnoise", "-e", "sched"], tasks, stacks),
        Case("osnoise", ["-p", "osnoise", "-e", "osnoise"], nothing, {"osnoise/runtime_us": "100000", "osnoise/period_us": "200000"}),
        Case("hwlat", ["-p", "hwlat"], nothing, {"tracing_thresh": "1"}),
        Case("function", ["-p", "function", "-l", "vfs_*", "-l", "do_sys*"], files),
        Case("function with stacks", ["-p", "function", "-l", "vfs_statx", "-l", "vfs_write", "--func-stack"], calls),
        Case("function with events", ["-p", "function", "-l", "vfs_*", "-e", "sched", "-e", "irq"], tasks),
        Case("graph", GRAPH, files),
        Case("graph with events", [*GRAPH, "-e", "sched", "-e", "kmem:mm_page_alloc"], calls),
        *(Case(f"graph depth {depth}", [*GRAPH, "--max-graph-depth", str(depth)], files) for depth in (1, 2, 3)),
    ]
    for names in GRAPH_OPTIONS:
        if all({name, name.removeprefix("no")} & options for name in names):
            found.append(Case("graph " + " ".join(names), [*GRAPH, *(word for name in names for word in ("-O", name))], files))
    groups = {
        "memory": (MEMORY, memory),
        "network": (NETWORK, network),
        "system calls": (CALLS, calls),
        "core": (CORE, tasks),
        "locks": (LOCKS, everything),
        "other groups": (sorted(there - ELSEWHERE), everything),
    }
    found += [Case(name, chosen_events(names, there), load) for name, (names, load) in groups.items()]
    found.append(Case("stacks of events", ["-T", *chosen_events(["sched"], there)], tasks))
    return found


def text_of(words: list[str]) -> str:
    """What a command of harken's prints, without the cost of a process; raises what it raises."""
    from harken.cli.commands.trace_cmd import run

    with tempfile.TemporaryFile() as out:
        sys.stdout.flush()
        kept = os.dup(1)
        os.dup2(out.fileno(), 1)
        try:
            run(words)
            sys.stdout.flush()
        finally:
            os.dup2(kept, 1)
            os.close(kept)
        out.seek(0)
        return out.read().decode("utf-8", "surrogateescape")


def differing(what: str, wanted: list[str], got: list[str], mask: Callable[[str], str]) -> int:
    """Prints the first lines that differ; returns how many do."""
    both = zip_longest(wanted, got, fillvalue="(no line)")
    pairs = [(left, right) for left, right in both if left != right and mask(left) != mask(right)]
    for left, right in pairs[:SHOWN]:
        print(f"    {what}: {left}\n    harken: {right}")
    return len(pairs)


def masked(line: str) -> str:
    return UNKNOWABLE.sub("?", line)


def parsed(line: str) -> str:
    """An event that trace-cmd cannot parse is equal to everything: up to the name of the event, which stands in the fourth place or so."""
    head, failed, _ = line.partition("[FAILED TO PARSE]")
    return head if failed else line


def against_trace_cmd(words: list[str]) -> tuple[int, int]:
    """(lines, lines that differ) of a report."""
    command = ["trace-cmd", "report", "-i", FORMATTED, *words]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="surrogateescape", check=False)
    theirs = done.stdout.splitlines()
    ours = text_of(["report", "--layout", "3.1", "-i", FORMATTED, *words]).splitlines()
    for number, line in enumerate(theirs[: len(ours)]):
        if parsed(line) != line:
            ours[number] = ours[number][: len(parsed(line))]
    return len(theirs), differing("trace-cmd", theirs, ours, parsed)


def compare(case: Case, peer: bool) -> int:
    """Traces and compares; returns how many lines differ."""
    kept = {}
    try:
        for name, value in case.settings.items():
            kept[name] = Path(TRACING + name).read_text()
            Path(TRACING + name).write_text(value)
        text_of(["start", "-q", "-b", "4096", *case.words])
        case.load()
        text_of(["stop"])
        with open(TRACING + "trace", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            text = file.read()
        bad = differing("trace file", text.splitlines(), text_of(["show"]).splitlines(), lambda line: line)
        tracer = case.words[case.words.index("-p") + 1] if "-p" in case.words else ""
        kind = ["-p", tracer] if tracer in LATENCY else []
        text_of(["extract", "-q", "--compression", "none", "-o", FORMATTED, *kind])
        layout: list[str] = [] if kind else ["--layout", "kernel"]
        options = [word for option in case.words if option.startswith(("funcgraph", "nofuncgraph")) for word in ("-O", option)]
        printed = text_of(["report", "-i", FORMATTED, *layout, *options])
        wanted = [line for line in text.splitlines() if kind or not (REMARK.match(line) or LOST.match(line))]
        ours = printed.splitlines()[1:-1] if kind else printed.splitlines()  # around the text: cpus=N, and an empty line
        differ = differing("kernel", wanted, [line for line in ours if not LOST.match(line)], masked)
        line = f"{case.name}: {len(wanted)} lines of the kernel, {differ} differ"
        bad += differ
        for words in ([], ["-l"]) if peer else ():
            lines, differ = against_trace_cmd(words)
            line += f"; {' '.join(['report', *words])} {lines} lines, {differ} differ"
            bad += differ
        print(line, flush=True)
        return bad
    finally:
        text_of(["reset", "-k", "all"])
        for name, value in reversed(kept.items()):
            Path(TRACING + name).write_text(value)


def inside(names: list[str], limit: float) -> int:
    """In the guest."""
    from harken.base.errors import HarkenError

    def words_of(name: str) -> set[str]:
        return set(Path(TRACING + name).read_text().split())

    tracers, peer = words_of("available_tracers"), os.path.exists("/usr/bin/trace-cmd")
    text_of(["start", "-q", "-e", "sched:sched_switch"])  # the kernel learns this task's name, as it shows it from then on
    tasks()
    text_of(["stop"])
    text_of(["reset", "-k", "all"])
    began, bad = time.monotonic(), 0
    for case in cases({event.split(":")[0] for event in words_of("available_events")}, set(os.listdir(TRACING + "options"))):
        tracer = case.words[case.words.index("-p") + 1] if "-p" in case.words else ""
        if names and not case.name.startswith(tuple(names)) or tracer and tracer not in tracers or not case.words:
            continue
        if time.monotonic() - began > limit:
            print(f"{case.name}: not begun, time is up", flush=True)
            continue
        try:
            bad += compare(case, peer)
        except (HarkenError, OSError) as error:
            print(f"{case.name}: {error}", flush=True)
            bad += 1
    return bool(bad)


def main() -> int:
    parser = argparse.ArgumentParser(prog="compare_guest.py")
    parser.add_argument("release", help="6.1, 6.12-rt, 6.12-arm64, ... or 'inside' in the guest")
    parser.add_argument("case", nargs="*")
    parser.add_argument("--limit", type=float, default=600.0)
    options = parser.parse_args()
    if options.release == "inside":
        return inside(options.case, options.limit)
    from harken.testing.vm import Vm

    programs = [] if options.release.endswith("-arm64") else ["trace-cmd", "chrt"]
    files = {str(path): path for path in Path("/usr/lib").glob("*/traceevent/plugins/*.so")} if programs else {}
    words = ["inside", *options.case, "--limit", str(options.limit)]
    outcome = Vm(options.release, programs=programs).run(
        "python3", "/compare_guest.py", *words, files={"/compare_guest.py": Path(__file__), **files}, timeout=options.limit + 300.0,
        on_output=lambda _stream, text: print(text, end="", flush=True),
    )  # fmt: skip
    return outcome.status


if __name__ == "__main__":
    sys.exit(main())
