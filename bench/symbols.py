"""Naming all samples of a recording: ``harken symbolize --recording`` against ``perf script``, whole process against whole process.

    python bench/symbols.py                     record a workload with and without call chains, compare, time 5 pairs
    python bench/symbols.py --data perf.data    an existing recording
    python bench/symbols.py -n 10 --samples 100000 --json out.json

Needs root and perf.  ``perf record -e cpu-clock -a`` records a workload of C, C++ and Python programs; the recording is cut to the wanted
number of samples.  Both print "ip,sym,dso" of every sample (perf with --no-inline); lines that differ are counted.

Times are of whole processes, from start to end, run alternately, with everything in the page cache; medians of CPU seconds (user and
system) and of wall-clock seconds:

perf      ``perf script --no-inline -F ip,sym,dso``
warm      ``harken symbolize --recording``, with the symbol tables of an earlier run in harken's cache
cold      the same with an empty cache, which it fills

100,000 samples, CPython 3.11, perf 6.1, two processors without other work: in three rounds of 15 pairs harken has 5.3, 5.4 and 5.0 times
the speed of perf flat (0.095 and 0.515 s in the middle one), 6.5, 7.1 and 7.5 times with call chains (0.143 and 1.011 s), and 0.7 to 1.1
and 1.3 to 1.5 times with an empty cache.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

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
PERF = ("perf", "script", "--no-inline", "-F", "ip,sym,dso", "-i")
SAMPLE = 9


def record(data: str, folder: str, *options: str) -> None:
    """Records the workload into a file."""
    argv = ["perf", "record", "-q", "-o", data, "-e", "cpu-clock", "-c", "100000", "-a", *options, "--", "sh", "-c", WORKLOAD, "sh", folder]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def cut(data: str, samples: int) -> int:
    """Cuts a recording behind a number of samples; returns how many are left."""
    raw = Path(data).read_bytes()
    start, length = struct.unpack_from("=QQ", raw, 40)
    sections = sum(word.bit_count() for word in struct.unpack_from("=4Q", raw, 72))
    place, end, seen = start, start + length, 0
    while place < end and seen < samples:
        kind, _, size = struct.unpack_from("=IHH", raw, place)
        seen += kind == SAMPLE
        place += size
    # the table of features follows the records, and points behind itself
    table = [struct.unpack_from("=QQ", raw, end + 16 * number) for number in range(sections)]
    parts = [raw[:48], struct.pack("=Q", place - start), raw[56:place]]
    parts += [struct.pack("=QQ", at - (end - place), size) for at, size in table]
    Path(data).write_bytes(b"".join([*parts, raw[end + 16 * sections :]]))
    return seen


def timed(argv: tuple[str, ...], environment: dict[str, str] | None = None) -> tuple[float, float]:
    """(CPU seconds, seconds) of a process."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **(environment or {})})
    took, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, took


def output(argv: tuple[str, ...]) -> list[str]:
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode(errors="replace").split("\n")


def measure(title: str, data: str, pairs: int, folder: str) -> dict[str, Any]:
    """Compares and times one recording."""
    harken = (sys.executable, "-c", "from harken.cli.main import script; script()", "symbolize", "--recording", data)
    theirs, ours = output((*PERF, data)), output(harken)
    if len(theirs) == len(ours):
        different = sum(left != right for left, right in zip(theirs, ours))
    else:  # perf drops call chains that it takes for damaged
        different = len(set(ours) - set(theirs))
    print(f"{title}: {len(ours) - 1} lines, {different} differ ({100 * different / max(len(ours), 1):.2f} %)")
    warm = {"HARKEN_CACHE": f"{folder}/cache", "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": f"{folder}/pyc"}
    timed(harken, warm)
    rows: dict[str, list[tuple[float, float]]] = {"perf": [], "warm": [], "cold": []}
    for number in range(pairs):
        rows["perf"].append(timed((*PERF, data)))
        rows["warm"].append(timed(harken, warm))
        rows["cold"].append(timed(harken, {**warm, "HARKEN_CACHE": f"{folder}/cold{title}{number}"}))
    result: dict[str, Any] = {"lines": len(ours) - 1, "different": different}
    for place, kind in enumerate(("cpu", "wall")):
        medians = {name: statistics.median(run[place] for run in runs) for name, runs in rows.items()}
        spread = {name: (min(run[place] for run in runs), max(run[place] for run in runs)) for name, runs in rows.items()}
        for name, seconds in medians.items():
            low, high = spread[name]
            speed = "" if name == "perf" else f"  {medians['perf'] / seconds:.2f} times the speed of perf"
            print(f"  {name:<5} {kind:<4} {seconds:7.3f} s ({low:.3f} to {high:.3f}){speed}")
        result[kind] = medians
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help="a recording of perf")
    parser.add_argument("-n", type=int, default=5, help="pairs of runs")
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory(prefix="harken-bench-") as folder:
        if options.data:
            results["recording"] = measure("recording", options.data, options.n, folder)
        else:
            for title, more in (("flat", ()), ("chains", ("-g",))):
                data = f"{folder}/{title}.data"
                record(data, folder, *more)
                results[title] = {"samples": cut(data, options.samples), **measure(title, data, options.n, folder)}
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
