"""harken's symbols against perf's: the same names for the same samples, and the time that naming them takes.

    python bench/symbols.py                     record a workload, compare, time 5 pairs
    python bench/symbols.py --data perf.data    an existing recording (without call chains)
    python bench/symbols.py -n 10 --samples 100000 --json out.json

Needs root and perf.  ``perf record -e cpu-clock -a`` records a workload of C, C++ and Python programs.  The addresses, with the mappings as
they were made, come from ``perf script -F pid,ip --show-mmap-events --show-task-events`` (harken does not read perf.data here).  Names are
compared as ``perf script --no-inline --no-demangle -F pid,ip,sym,dso`` prints them; every kind of difference is listed with its number and
an example.

Time, CPU seconds of the process, and of the runs alternately:

perf names      ``perf script --no-inline -F pid,ip,sym,dso`` less the same with ``-F pid,ip``: symbols loaded and looked up, text printed
perf whole      the first of them alone: what a perf user waits for
harken names    mappings entered and 100,000 addresses turned into frames, by a process that has nothing loaded yet (tables from its cache)
harken cold     the same with an empty cache
harken whole    from the start of Python, with the text of addresses read and as many lines printed as perf prints
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

HERE = Path(__file__).parent

WORKLOAD = r"""
python3 -c '
import time, json, zlib, os, hashlib, re
end = time.time() + 4
while time.time() < end:
    json.loads(json.dumps({str(i): [i] * 5 for i in range(500)})); zlib.compress(os.urandom(20000))
    sorted(hashlib.sha256(str(i).encode()).hexdigest() for i in range(1000)); os.listdir("/usr/lib")
    open("/proc/self/maps").read(); re.findall("a(b|c)*d", "abcbcbcd" * 200)
' &
(for i in $(seq 10); do ls -lR /usr/share/doc > /dev/null; find /etc -type f -exec md5sum {} + > /dev/null 2>&1
bash -c 'for i in $(seq 2000); do :; done'; done) &
(for i in 1 2; do printf '#include <map>\n#include <string>\n#include <regex>\nint main(){std::map<std::string,int> m;
for(int i=0;i<300000;i++)m[std::to_string(i)]=i;std::regex r("a.*b");return std::regex_match("ab",r)+m.size();}' |
g++ -O1 -x c++ - -o "$1/a.out" && "$1/a.out"; done) &
wait
exit 0
"""
SCRIPT = ("script", "--no-inline")
ADDRESSES = ("-F", "pid,ip,time", "--show-mmap-events", "--show-task-events", "--show-bpf-events")
NAMES = ("-F", "pid,ip,sym,dso")


class Samples(NamedTuple):
    """Columns of samples; events are (samples before, what, ...): "mmap" pid Mapping, "fork" parent child, "exec" pid, "ksymbol"."""

    pids: Any
    addresses: Any
    events: list[tuple[Any, ...]]


def record(data: str, folder: str, period: int = 200_000) -> None:
    """Records the workload into a file."""
    subprocess.run(
        ["perf", "record", "-q", "-o", data, "-e", "cpu-clock", "-c", str(period), "-a", "--", "sh", "-c", WORKLOAD, "sh", folder],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def perf(data: str, *options: str) -> str:
    """What ``perf script`` prints."""
    return subprocess.run(["perf", *SCRIPT, "-i", data, *options], check=True, capture_output=True, text=True, errors="replace").stdout


def parse(text: str, limit: int) -> Samples:
    """Samples and events of ``perf script`` with ADDRESSES, until ``limit`` samples were seen."""
    from harken.symbols.model import Mapping

    pids: list[int] = []
    addresses: list[int] = []
    events: list[tuple[Any, ...]] = []
    for line in text.split("\n"):
        words = line.split()
        if len(words) == 3 and words[1][-1:] == ":" and words[2][0] != "P":
            pids.append(int(words[0]))
            addresses.append(int(words[2], 16))
            if len(pids) == limit:
                break
        elif len(words) > 2 and words[2].startswith("PERF_RECORD_"):
            kind = words[2].rstrip(":")
            before = len(pids)
            if kind == "PERF_RECORD_KSYMBOL":  # addr START len SIZE type 1 flags 0x0 name NAME
                flags = int(words[10], 16)
                events.append((before, "ksymbol", -1, int(words[4], 16), int(words[6]), words[12], not flags & 1))
            if kind == "PERF_RECORD_MMAP2":
                pid = int(words[3].partition("/")[0])
                start, _, size = words[4].lstrip("[").partition("(")
                base = int(start, 16)
                length = int(size.rstrip(")"), 16)
                # [0x7f..(0x2000) @ OFFSET MAJ:MIN INODE GENERATION]: r-xp PATH   or   ... @ OFFSET <BUILD-ID>]: r-xp PATH
                offset = int(words[6], 16)
                perms, _, path = line[line.index("]: ") + 3 :].partition(" ")
                device, inode, build_id = ("", 0, words[7].strip("<>]:")) if words[7][0] == "<" else (words[7], int(words[8]), "")
                events.append((before, "mmap", pid, Mapping(base, base + length, offset, path, inode, device, build_id, "x" in perms)))
            elif kind.startswith("PERF_RECORD_FORK"):
                # FORK(CHILD:THREAD):(PARENT:THREAD)
                child, _, parent = words[2].removeprefix("PERF_RECORD_FORK(").partition("):(")
                events.append((before, "fork", int(parent.partition(":")[0]), int(child.partition(":")[0])))
            elif kind == "PERF_RECORD_COMM" and words[3] == "exec:":
                events.append((before, "exec", int(words[-1].rpartition(":")[2].partition("/")[0])))
    return Samples(np.array(pids, np.int64), np.array(addresses, np.uint64), events)


def symbolize(samples: Samples, demangle: bool = True) -> tuple[list[Any], Any, Any]:
    """Spans (symbol and file), the number of its span for every sample, and the symbolizer."""
    from harken.kernel.kernel import live
    from harken.symbols.kernel_symbols import KernelSymbols
    from harken.symbols.processes import Processes
    from harken.symbols.symbolizer import Symbolizer

    processes = Processes(None)
    kernel = live()
    kernel_symbols = KernelSymbols(kernel, look_again=False)
    symbolizer = Symbolizer(kernel, demangle=demangle, processes=processes, kernel_symbols=kernel_symbols)
    pids, addresses = samples.pids, samples.addresses
    # a process's samples belong together as long as its mappings stay; sorted by address within, all of a symbol are neighbours
    epochs = np.zeros(len(pids), np.int64)
    changes: dict[int, list[int]] = {}
    for before, what, pid, *rest in samples.events:
        if what == "ksymbol":  # programs that were unloaded keep their names, as in perf
            if rest[3]:
                kernel_symbols.add(*rest[:3])
        else:
            changes.setdefault(rest[0] if what == "fork" else pid, []).append(before)
    by_pid = np.argsort(pids, kind="stable")
    sorted_pids = pids[by_pid]
    for pid, positions in changes.items():
        mine = by_pid[np.searchsorted(sorted_pids, pid) : np.searchsorted(sorted_pids, pid, side="right")]
        epochs[mine] = np.searchsorted(np.array(positions), mine, side="right")
    order = np.lexsort((addresses, epochs, pids))
    ordered = addresses[order].tolist()
    keys = pids[order] << 20 | epochs[order]
    cuts = [0, *(np.flatnonzero(np.diff(keys)) + 1).tolist(), len(ordered)] if ordered else [0]
    groups = {(key >> 20, key & 0xFFFFF): (low, high) for key, low, high in zip(keys[cuts[:-1]].tolist(), cuts, cuts[1:])}
    spans: list[Any] = []
    lengths: list[tuple[int, int]] = []

    def flush(pid: int, epoch: int) -> None:
        """Names the samples of a process that came before its mappings change."""
        if (pid, epoch) in groups:
            low, high = groups.pop((pid, epoch))
            for end, span in symbolizer.runs(pid, ordered[low:high]):
                spans.append(span)
                lengths.append((low, low + end))

    epoch_of: dict[int, int] = {}
    for _, what, pid, *rest in samples.events:
        if what == "ksymbol":
            continue
        subject = rest[0] if what == "fork" else pid
        flush(subject, epoch_of.get(subject, 0))
        epoch_of[subject] = epoch_of.get(subject, 0) + 1
        if what == "mmap":
            processes.add(pid, rest[0])
        elif what == "fork":
            processes.fork(pid, subject)
        else:
            processes.exec(pid)
    for pid, epoch in list(groups):
        flush(pid, epoch)
    symbolizer.close()
    starts = np.array(lengths, np.int64).reshape(-1, 2)
    number = np.zeros(len(ordered), np.int64)
    for_order = np.argsort(starts[:, 1], kind="stable")
    ends = starts[for_order, 1]
    sizes = np.diff(ends, prepend=0)
    number[order] = np.repeat(for_order, sizes)
    return spans, number, symbolizer


def expected(text: str) -> Iterator[tuple[int, str, str]]:
    """(address, name, DSO) of the lines that perf printed with NAMES."""
    for line in text.split("\n"):
        words = line.split(None, 2)
        if len(words) == 3:
            name, _, dso = words[2].partition(" (")
            yield int(words[1], 16), name, dso[:-1]


def compare(theirs: Iterable[tuple[int, str, str]], addresses: list[int], mine: list[Any]) -> tuple[int, Counter[str], dict[str, str]]:
    """(samples that agree, number of every kind of difference, an example of each)."""
    kinds: Counter[str] = Counter()
    examples: dict[str, str] = {}
    same = 0
    for (address, name, dso), ours, span in zip(theirs, addresses, mine):
        assert address == ours and span.start <= address < span.end, (hex(address), hex(ours), span)
        kind = classify(name, dso, span)
        if not kind:
            same += 1
            continue
        kinds[kind] += 1
        examples.setdefault(kind, f"{address:#x}: perf {name} ({dso}), harken {span.name or '[unknown]'} ({span.module})")
    return same, kinds, examples


def classify(name: str, dso: str, span: Any) -> str:
    """What kind of difference this is, "" for none."""
    ours = span.name or "[unknown]"
    if ours == name:
        return ""
    if name == "[unknown]":
        return "perf does not name the stubs of .plt.sec" if ours.endswith("@plt") else "harken knows, perf does not"
    if ours == "[unknown]":
        return "perf knows, harken does not"
    if name == "@plt" and ours.endswith("@plt"):
        return "perf does not name the stubs of ifuncs"
    if name.partition("@")[0] == ours:
        return "perf shows the version too"
    return "different names"


def child_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def timed(argv: list[str], environment: dict[str, str] | None = None) -> tuple[float, bytes]:
    before = child_seconds()
    out = subprocess.run(
        argv, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, **(environment or {})}
    ).stdout
    return child_seconds() - before, out


def worker(text_file: str, limit: int) -> None:
    """The timed part, in a process of its own: prints the CPU seconds of naming to standard error's place in the last line."""
    with open(text_file) as file:
        samples = parse(file.read(), limit)
    begin = time.process_time()
    spans, number, _ = symbolize(samples)
    end = time.process_time()
    texts = [f" {span.name or '[unknown]'} ({span.module or '[unknown]'})" for span in spans]
    lines = [f"{address:16x}{texts[place]}" for address, place in zip(samples.addresses.tolist(), number.tolist())]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.write(f"{end - begin:.6f}\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help="a recording of perf, without call chains")
    parser.add_argument("-n", type=int, default=5, help="pairs of runs")
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker, options.samples)
        return 0
    with tempfile.TemporaryDirectory(prefix="harken-bench-") as folder:
        data = options.data or f"{folder}/perf.data"
        if not options.data:
            record(data, folder)
        addresses = perf(data, *ADDRESSES)
        samples = parse(addresses, options.samples)
        count = len(samples.pids)
        known, number, symbolizer = symbolize(samples, demangle=False)
        spans = [known[place] for place in number.tolist()]
        same, kinds, examples = compare(expected(perf(data, "--no-demangle", *NAMES)), samples.addresses.tolist(), spans)
        print(f"{count} samples, {len(np.unique(samples.addresses))} addresses, {len({span.module for span in spans})} files")
        print(f"same name: {same} ({100 * same / max(count, 1):.2f} %)")
        for kind, number in kinds.most_common():
            print(f"{kind}: {number}\n    {examples[kind]}")
        for path, problem in symbolizer.problems.items():
            print(f"    {path}: {problem}")
        text = f"{folder}/addresses.txt"
        Path(text).write_text(addresses)
        # perf reads the whole recording, so harken shall too
        total = len(parse(addresses, 1 << 30).pids)
        rows: dict[str, list[float]] = {name: [] for name in ("perf names", "perf whole", "harken names", "harken cold", "harken whole")}
        me = [sys.executable, __file__, "--samples", str(total), "--worker", text]
        cache = {"HARKEN_CACHE": f"{folder}/cache", "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": f"{folder}/pyc"}
        timed(me, cache)
        for _ in range(options.n):
            with_names, _ = timed(["perf", *SCRIPT, "-i", data, *NAMES])
            without, _ = timed(["perf", *SCRIPT, "-i", data, "-F", "pid,ip"])
            warm, out = timed(me, cache)
            _, out_cold = timed(me, {**cache, "HARKEN_CACHE": "off"})
            rows["perf names"].append(with_names - without)
            rows["perf whole"].append(with_names)
            rows["harken whole"].append(warm)
            rows["harken names"].append(float(out.split()[-1]))
            rows["harken cold"].append(float(out_cold.split()[-1]))
        medians = {name: statistics.median(values) for name, values in rows.items()}
        print(f"\nCPU seconds for {total} samples, median of {options.n} (least, most)")
        for name, values in rows.items():
            print(f"{name:<14}{medians[name]:8.3f}  ({min(values):.3f}, {max(values):.3f})")
        for ours in ("harken names", "harken cold"):
            whole, names = medians["perf whole"] / medians[ours], medians["perf names"] / medians[ours]
            print(f"{ours}: {whole:.1f} times the speed of perf whole, {names:.1f} times that of perf names")
        if options.json:
            result = {
                "samples": count,
                "same": same,
                "differences": dict(kinds),
                "examples": examples,
                "seconds": medians,
                "timed_samples": total,
            }
            Path(options.json).write_text(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
