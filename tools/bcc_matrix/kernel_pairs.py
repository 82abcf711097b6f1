"""harken against the real BCC in a guest, where there are kprobes: many tools at once over one workload that does the same every time.

What the real one prints is recorded by `kernel_peer`; ``tests/oracle/test_bcc_kernel_peer.py`` runs harken in guests and compares.

Compared is what the workload determines: the headings, the rows of its process, names, addresses, results, counts.  Not compared is what
the moment determines: times, latencies, process ids, and what other processes did.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from .kernel_work import BARE, COMM, FOLDER, PORT, Worker

__all__ = ("PAIRS", "Pair", "Start", "essence", "run")

#: starts a tool: script, arguments, files for standard output and standard error; the process
Start = Callable[[str, list[str], str, str], int]

_POLLS = frozenset(("7", "23", "34", "35", "230", "232", "270", "271", "281", "441"))
"""System calls of x86_64 in which a tool waits for events or for the time of its next output."""


# -- what is compared


class Pair(NamedTuple):
    """A tool with its arguments and what of its output must be equal."""

    words: tuple[str, ...]
    essence: Callable[[str, int], Any]
    same_kernel: bool = False
    """Whether addresses or names of kernel functions are compared, or the tool takes a newer kernel's structures wrongly."""
    disk: bool = False
    """Whether the workload is that of a guest's block devices (see `machine.prepare_disk`)."""

    @property
    def name(self) -> str:
        return shlex.join(self.words)


def _rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.strip()]


def heading(text: str, word: str) -> str:
    """The line of column names."""
    return next((" ".join(line.split()) for line in text.splitlines() if word in line), "")


def _columns(word: str, process: int, *kept: int, rest: int = -1) -> Callable[[str, int], Any]:
    """Rows of the worker: the columns ``kept``, and everything from column ``rest`` on.

    Args:
        word: of the heading.
        process: the column in which the worker's pid is found.
    """

    def essence(text: str, pid: int) -> Any:
        found = []
        for row in _rows(text):
            if len(row) > process and row[process] == str(pid):
                found.append([row[number] if number < len(row) else "" for number in kept] + ([" ".join(row[rest:])] if rest >= 0 else []))
        return heading(text, word), found

    return essence


def executed(text: str, pid: int) -> Any:
    """Programs that the worker started."""
    rows = [row for row in _rows(text) if len(row) > 3 and row[2] == str(pid)]
    return heading(text, "PCOMM"), [[row[0], row[3], " ".join(row[4:])] for row in rows]


def calls(text: str, pid: int) -> Any:
    """How often the worker made those system calls that only the workload makes."""
    counts = {row[0]: int(row[1]) for row in _rows(text) if len(row) == 2 and row[1].isdecimal()}
    return heading(text, "SYSCALL"), {name: counts.get(name) for name in ("getppid", "mkdir", "rmdir", "sync", "mount", "umount2")}


def counted(text: str, pid: int) -> Any:
    """Functions and how often they were called."""
    return heading(text, "FUNC"), sorted(row for row in _rows(text) if len(row) == 2 and row[1].isdecimal())


def functions(text: str, pid: int) -> Any:
    """Functions with their addresses, of those that surely were called."""
    rows = [row[:2] for row in _rows(text) if len(row) == 3 and row[2].isdecimal()]
    return heading(text, "ADDR"), sorted(row for row in rows if re.search(r"\bvfs_(read|write|open|mkdir|rmdir)\b", row[1]))


def histogram(text: str, pid: int) -> Any:
    """A histogram's headings and how many were counted in all; the distribution is the moment's."""
    total = sum(int(found) for found in re.findall(r"-> \d+\s+: (\d+)", text))
    average = re.search(r"avg = \d+ (\w+), total: \d+ (\w+), count: (\d+)", text)
    return heading(text, "distribution"), total, average.groups() if average else None


def shape(text: str, pid: int) -> Any:
    """A histogram's heading and form."""
    return heading(text, "distribution"), bool(re.search(r"^ +\d+ -> \d+ +: \d+ +\|\*+ *\|$", text, re.M))


def table(*words: str) -> Callable[[str, int], Any]:
    """The heading and how many numbers are below it."""

    def essence(text: str, pid: int) -> Any:
        rows = [len(row) for row in _rows(text) if re.match(r"\d+:|\d+ ", " ".join(row)) and not re.search("[A-Z]{3}", " ".join(row))]
        return heading(text, words[0]), sorted(set(rows))

    return essence


def cache_lines(text: str, pid: int) -> Any:
    """cachestat's lines: the heading, and of each line the number of columns and whether its ratio is that of its hits and misses."""
    rows = [row for row in _rows(text) if row[0].lstrip("-").isdecimal()]
    right = []
    for row in rows:
        hits, misses = int(row[0]), int(row[1])
        right.append([len(row), row[3] == f"{100 * hits / (hits + misses) if hits + misses else 0:.2f}%"])
    return heading(text, "HITS"), [list(one) for one in sorted({tuple(one) for one in right})]


def connected(text: str, pid: int) -> Any:
    """tcpconnect's and tcpaccept's rows, with the ports that are ours."""
    rows = [row for row in _rows(text) if row[0] == str(pid)]
    return heading(text, "COMM"), [
        [row[1], row[2], *[word for word in row[3:] if not word.isdecimal() or word == str(PORT)]] for row in rows
    ]


def lives(text: str, pid: int) -> Any:
    """tcplife's rows: addresses, our port, the kilobytes sent and received."""
    found = []
    for row in _rows(text):
        if len(row) == 9 and str(PORT) in (row[3], row[5]):
            found.append([row[2], row[3] == str(PORT), row[4], row[6], row[7]])
    return heading(text, "LADDR"), sorted(found)


def moves(text: str, pid: int) -> Any:
    """tcpstates' transitions of sockets on our port."""
    found = sorted(re.findall(rf" {PORT} .*? (\w+) +-> (\w+)", text))
    return heading(text, "OLDSTATE"), found


def killed(text: str, pid: int) -> Any:
    """Signals that the worker sent."""
    rows = [row for row in _rows(text) if len(row) > 5 and row[1] == str(pid)]
    return heading(text, "TPID"), [[row[2], row[3], row[4].replace(str(pid), "SELF"), row[5]] for row in rows]


def mounted(text: str, pid: int) -> Any:
    rows = [line for line in text.splitlines() if re.match(rf"{COMM} +{pid} ", line)]
    return heading(text, "MNT_NS"), [re.sub(r"^(\S+) +\d+ +\d+ +\d+ +", r"\1 ", line) for line in rows]


def traced(text: str, pid: int) -> Any:
    rows = [row for row in _rows(text) if row[0] == str(pid)]
    return heading(text, "FUNC"), [" ".join(row[2:]) for row in rows]


def stacks(text: str, pid: int) -> Any:
    """Kernel stacks and how often each occurred."""
    lines = [line.strip() for line in text.splitlines() if line.startswith("  ")]
    return [line for line in lines if not line.startswith(("Tracing", "Hit"))]


def shared(text: str, pid: int) -> Any:
    rows = [line for line in text.splitlines() if line.startswith(f"{pid} ")]
    masked = (re.sub(r"shmid: 0x[0-9a-f]+|shmaddr: 0x[1-9a-f][0-9a-f]*|buf: 0x[1-9a-f][0-9a-f]*", "X", line) for line in rows)
    return heading(text, "SYS"), [re.sub(r"^\d+ +(\S+) +(\S+) +[0-9a-f]+ +", r"\1 \2 ", line) for line in masked]


def operations(text: str, pid: int) -> Any:
    """A file system's histograms: which operations, and how many of each."""
    found: dict[str, int] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith("operation = "):
            name = line.split("=")[1].strip()
        elif counted := re.search(r"-> \d+\s+: (\d+)", line):
            found[name] = found.get(name, 0) + int(counted[1])
    return heading(text, "distribution"), found


def _pair(text: str, essence: Callable[[str, int], Any], same_kernel: bool = False, disk: bool = False) -> Pair:
    return Pair(tuple(shlex.split(text)), essence, same_kernel, disk)


#: ``{pid}`` is the worker
PAIRS = (
    _pair("execsnoop", executed),
    _pair("opensnoop -p {pid}", _columns("PATH", 0, 1, 2, 3, rest=4)),
    _pair("statsnoop -p {pid}", _columns("PATH", 0, 1, 2, 3, rest=4)),
    _pair("filelife -p {pid}", _columns("AGE", 1, 2, rest=4), True),
    _pair("killsnoop -p {pid}", killed),
    _pair("mountsnoop", mounted),
    _pair("shmsnoop -p {pid}", shared),
    _pair("capable -p {pid}", _columns("CAP", 2, 3, 4, 5, 6)),
    _pair("bindsnoop -p {pid}", _columns("PROT", 0, 1, 2, 3, 4, 5, rest=6), True),
    _pair("solisten -p {pid}", _columns("BACKLOG", 0, 1, 2, 3, 4, rest=5)),
    _pair("tcpconnect -p {pid}", connected),
    _pair("tcpaccept -p {pid}", connected, True),
    _pair("tcplife", lives),
    _pair("tcpstates", moves),
    _pair("syscount -p {pid} -T 40", calls),
    _pair("funccount -p {pid} 'vfs_*dir'", counted),
    _pair("funclatency -p {pid} vfs_rmdir", histogram),
    _pair("vfscount", functions, True),
    _pair("stackcount -K -p {pid} vfs_rmdir", stacks, True),
    _pair("trace -p {pid} 'do_sys_openat2 \"%s\", arg2@user'", traced),
    _pair("vfsstat 1", table("READ/s")),
    _pair("cachestat 1", cache_lines),
    _pair("runqlat", shape),
    _pair("ext4dist -p {pid}", operations, disk=True),
    _pair(f"biolatency -e -d {BARE}", histogram, disk=True),
)


def essence(name: str, text: str, pid: int) -> Any:
    """What is compared of a tool's output, as JSON gives it back."""
    return json.loads(json.dumps(next(pair for pair in PAIRS if pair.name == name).essence(text, pid)))


# -- running


def _waits(pid: int) -> bool:
    """Whether a tool waits for events or for its time: all is attached then, and all printed that was to be printed."""
    try:
        return Path(f"/proc/{pid}/syscall").read_text().split()[0] in _POLLS
    except (OSError, IndexError):
        return False


class _Harken:
    """What the harness's own function wants to know of its setting."""

    peer = False


def _start_harken(script: str, args: list[str], out: str, err: str) -> int:
    from .runner import _start

    return _start({"tool": "", "script": script}, args, _Harken, out, err)  # type: ignore[arg-type]


def _settled(processes: list[Any], patience: float) -> str:
    """Waits until each tool has been seen waiting three times in a row; the numbers of those that were not, "" if all were."""
    end, calm = time.monotonic() + patience, dict.fromkeys(processes, 0)
    while min(calm.values()) < 3 and time.monotonic() < end:
        for process in [process for process, times in calm.items() if times < 3]:
            calm[process] = 3 if process.ended() else calm[process] + 1 if _waits(process.pid) else 0
        time.sleep(0.1)
    return " ".join(str(number) for number, times in enumerate(calm.values()) if times < 3)


def run(
    pairs: tuple[Pair, ...], start: Start = _start_harken, at_once: int = 100, patience: float = 240.0, tell: Callable[[str], object] = len
) -> dict[str, Any]:
    """Runs pairs' tools here: {"pid": of the worker, "outputs": {name: {"stdout": ..., "stderr": ...}}}.

    Args:
        pairs: which tools.
        start: starts one, under harken or the real BCC.
        at_once: how many tools run at the same time.
        patience: seconds until the tools must have attached.
        tell: called with a line about each lot of tools, and one of JSON for each tool: [the worker's pid, name, output].
    """
    from .cases import script
    from .runner import _Process

    os.makedirs(FOLDER, exist_ok=True)
    worker = Worker()
    outputs: dict[str, Any] = {}
    processes: list[Any] = []
    try:
        for disk in sorted({pair.disk for pair in pairs}):
            worker.work(disk)  # what Python does at the first time only is done
        for first in range(0, len(pairs), at_once):
            lot = pairs[first : first + at_once]
            running = []
            for number, pair in enumerate(lot):
                words = [word.replace("{pid}", str(worker.pid)) for word in pair.words]
                out, err = (f"{FOLDER}/peer-{kind}-{number}" for kind in ("out", "err"))
                running.append((pair, _Process(start(str(script(words[0])), words[1:], out, err)), out, err))
            processes = [process for _, process, _, _ in running]
            late = _settled(processes, patience)
            tell(f"{time.strftime('%X')} {' '.join(pair.words[0] for pair in lot)}: {f'not ready: {late}' if late else 'ready'}")
            for disk in sorted({pair.disk for pair in lot}):
                worker.work(disk)
            _settled(processes, 60.0)
            for process in processes:
                process.signal(signal.SIGINT)
            for pair, process, out, err in running:
                if not process.ended(60.0):
                    process.signal(signal.SIGKILL)
                    process.ended(5.0)
                texts = [Path(path).read_text(errors="replace") for path in (out, err)]
                outputs[pair.name] = {"status": process.status, "stdout": texts[0][-20000:], "stderr": texts[1][-1500:]}
                tell(json.dumps([worker.pid, pair.name, outputs[pair.name]]))
    finally:
        for process in processes:
            process.signal(signal.SIGKILL)
            process.ended(5.0)
        worker.close()
    return {"pid": worker.pid, "outputs": outputs}
