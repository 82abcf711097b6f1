"""harken against the real BCC: the same tool, the same workload, and what must be equal of the two outputs.

``python -m tools.bcc_matrix.compare --record FILE`` runs the real one (it needs kernel headers where BCC looks for them) and keeps its
outputs; ``tests/oracle/test_bcc_peer.py`` runs harken and compares with what was kept.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from .cases import Case, script
from .runner import Setting, run_case, terminal
from .worker import COMM, Worker

__all__ = ("PAIRS", "Pair", "record", "run")


class Pair(NamedTuple):
    """A case and what of its output must be equal."""

    case: Case
    essence: Callable[[str], Any]


def _rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.strip()]


def _heading(text: str, word: str) -> str:
    """The line of column names, which both must print the same."""
    return next((" ".join(line.split()) for line in text.splitlines() if word in line), "")


def _shape(line: str) -> str:
    """A line with its numbers replaced by what they look like."""
    line = re.sub(r"\d+:\d+:\d+", "T", line)
    line = re.sub(r"0x[0-9a-f]+", "X", line)
    line = re.sub(r"\d+\.\d+", "F", line)
    return " ".join(re.sub(r"\d+", "N", line).split())


def syscalls(text: str) -> Any:
    """System calls of one process and how often: the same workload makes the same calls (of rare ones only the first ten are shown)."""
    counts = {row[0]: row[1] for row in _rows(text) if len(row) == 2 and row[1].isdecimal() and int(row[1]) > 1}
    return _heading(text, "SYSCALL"), counts


def connections(text: str) -> Any:
    """Connections by address and the ports that are ours.

    What was sent is left out: with headers of another kernel the real one reads it at wrong offsets.
    """
    found = []
    for row in _rows(text):
        if len(row) == 9 and row[1] == COMM:
            ports = [port for port in (row[3], row[5]) if port in ("80", "81")]
            found.append((row[2], row[4], ports, row[3] in ("80", "81")))
    return _heading(text, "LADDR"), sorted(map(repr, found))


def states(text: str) -> Any:
    """Transitions of sockets on our ports."""
    moves: dict[str, int] = {}
    for line in text.splitlines():
        found = re.search(r"(?<![\d.])(80|81)\s+(\S+)\s+(\d+)\s+(\S+)\s+-> (\S+)", line)
        if found:
            key = f"{found[1]} {found[4]} -> {found[5]}"
            moves[key] = moves.get(key, 0) + 1
    return _heading(text, "OLDSTATE"), moves


def typed(text: str) -> Any:
    """Lines that were typed into the shell."""
    return _heading(text, "COMMAND"), [row[2:] for row in _rows(text) if len(row) > 2 and row[1].isdecimal()]


def hosts(text: str) -> Any:
    """Names that the worker looked up."""
    return _heading(text, "LATms"), sorted(row[4] for row in _rows(text) if len(row) == 5 and row[2] == COMM)


def counted(text: str) -> Any:
    """Functions and how often they were called."""
    return _heading(text, "FUNC"), sorted(" ".join(row) for row in _rows(text) if len(row) == 2 and row[1].isdecimal())


def traced(text: str) -> Any:
    """Traced calls with their arguments, without pids."""
    lines = [row for row in _rows(text) if len(row) >= 4 and row[2].strip("b'") == COMM]
    return _heading(text, "COMM"), [" ".join(row[3:]) for row in lines]


def distribution(text: str) -> Any:
    """argdist's table."""
    return sorted(" ".join(row) for row in _rows(text) if len(row) >= 2 and row[0].isdecimal() and "=" in " ".join(row))


def stacks(text: str) -> Any:
    """Innermost functions of the stacks, and how often in all: what called them has no names without frame pointers, so stacks differ."""
    found, top = Counter[str](), ""
    for line in text.splitlines():
        if line.startswith("  ") and line.strip() and not line.strip().isdecimal():
            top = top or line.strip()
        elif line.strip().isdecimal():
            found[top] += int(line)
            top = ""
    return dict(found)


def histogram(text: str) -> Any:
    """A histogram's heading: what is measured depends on the moment."""
    return _shape(_heading(text, "distribution")), any("|*" in line for line in text.splitlines())


def names(text: str) -> Any:
    """The heading and whether the usual names are there; how long each took depends on the moment."""
    found = {row[0] for row in _rows(text) if len(row) == 2 and row[1].isdecimal()}
    return _heading(text, "TOTAL"), sorted(found & {"sched", "rcu", "timer"})


def _pair(text: str, work: str, essence: Callable[[str], Any], expect: str = "") -> Pair:
    import shlex

    tool, *args = shlex.split(text)
    return Pair(Case(tool, tuple(args), tuple(work.split()), expect, 1), essence)


PAIRS = (
    _pair("syscount -p {pid}", "files fail", syscalls),
    _pair("tcplife", "tcp", connections),
    _pair("tcpstates", "tcp", states),
    _pair("bashreadline", "bash", typed),
    _pair("gethostlatency", "names", hosts),
    _pair("funccount -p {pid} 'c:get*info'", "names", counted),
    _pair("trace -p {pid} 'c:write(int fd, const void *buf, size_t count) \"count %d\", count'", "calls", traced),
    _pair(
        "argdist -p {pid} -i 2 -n 2 -C 'p:c:write(int fd, const void *buf, size_t count):size_t:count'", "calls sleep sleep", distribution
    ),
    _pair("stackcount -p {pid} c:getaddrinfo", "names", stacks),
    _pair("runqlat 1 2", "busy", histogram),
    _pair("softirqs 1 2", "busy sync busy", names),
)


def run(pairs: tuple[Pair, ...], peer: bool) -> dict[str, dict[str, Any]]:
    """Runs the pairs' cases here; name -> result (see `runner.run_case`)."""
    terminal()
    worker = Worker(False)
    try:
        setting = Setting({"guest": False, "peer": peer}, worker)
        found = {}
        for pair in pairs:
            case = pair.case
            job = {**case._asdict(), "script": str(script(case.tool)), "args": list(case.args), "work": list(case.work)}
            found[case.name] = run_case(job, setting)
        return found
    finally:
        worker.close()


def record(path: Path) -> None:
    """Keeps the real BCC's outputs."""
    found = run(PAIRS, True)
    version = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", "bpfcc-tools"], capture_output=True, text=True).stdout
    kept = {name: {"stdout": result["stdout"], "stderr": result["stderr"][-400:]} for name, result in found.items()}
    path.write_text(json.dumps({"bcc": version, "kernel": os.uname().release, "outputs": kept}, indent=1) + "\n")


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tools.bcc_matrix.compare")
    parser.add_argument("--record", type=Path, help="run the real BCC and keep what it prints")
    parser.add_argument("--json", action="store_true", help="harken's outputs and what of them is compared, as JSON")
    parser.add_argument("--only", metavar="NAME", help="of one tool")
    options = parser.parse_args()
    pairs = tuple(pair for pair in PAIRS if options.only in (None, pair.case.name))
    if options.record:
        record(options.record)
    elif options.json:
        found = run(pairs, False)
        print(json.dumps(found))
    else:
        for (name, result), pair in zip(run(pairs, False).items(), pairs):
            print(name, json.dumps(pair.essence(result["stdout"]))[:400], result["stderr"][-300:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
