"""Recording system calls: what harken costs, loses and writes, beside trace-cmd.

    python bench/ftrace_record.py [--events N] [--rounds N] [TOOL ...]

A TOOL is a command line that takes ``record`` (default: ``harken trace-cmd`` and ``trace-cmd``, if they are there).  ``dd`` with blocks
of one byte makes four events per block.  In turns each tool records nothing to speak of (``true``), N events into large buffers, and N
events into buffers of 64 KB per CPU.  Medians are printed:

    dd        seconds that dd took, beside those without any tracing
    start     CPU seconds of the recorder for ``true``: start, settings, formats, symbols, file
    record    CPU seconds more for N events, and microseconds per event
    lost      events lost of the N with 64 KB per CPU, in percent (overrun and dropped, as the kernel counts them)
    file      bytes per event, without compression, beyond those for ``true``

Needs root and tracefs.  trace-cmd records only where the kernel has a function tracer; for guests:

    python -m harken.testing.vm 6.12 --add trace-cmd --file bench/ftrace_record.py:/bench.py -- python3 /bench.py --events 20000
"""

import os
import resource
import shutil
import subprocess
import sys
import time


def median(values):
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def cpu():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def workload(count, folder):
    dd = f"dd if=/dev/zero of=/dev/null bs=1 count={count // 4} 2> /dev/null"
    script = f"read a b < /proc/uptime; {dd}; read c d < /proc/uptime; echo $a $c > {folder}/dd; times > {folder}/times"
    return ["sh", "-c", script] if count else ["true"]


def dd_results(folder):
    """(wall seconds of dd, CPU seconds of the workload)."""
    with open(f"{folder}/dd") as file:
        begin, end = file.read().split()
        wall = float(end) - float(begin)
    total = 0.0
    with open(f"{folder}/times") as file:
        for word in file.read().split():
            minutes, _, seconds = word.rstrip("s").partition("m")
            total += 60 * float(minutes) + float(seconds)
    return wall, total


def lost_and_size(path):
    from harken.formats.trace_dat import open_trace

    lost = 0
    with open_trace(path) as trace:
        for option in trace.option_list(2):
            for line in option.data.decode("ascii", "replace").splitlines():
                name, _, value = line.partition(":")
                if name.strip() in ("overrun", "commit overrun", "dropped events") and value.strip(" \0").isdecimal():
                    lost += int(value.strip(" \0"))
    return lost, os.stat(path).st_blocks * 512


def record(tool, count, folder, kilobytes):
    path = f"{folder}/bench.dat"
    before = cpu()
    words = [*tool.split(), "record", "-o", path, "--compression", "none", "-b", str(kilobytes), "-e", "raw_syscalls", "-F", "-c"]
    done = subprocess.run([*words, *workload(count, folder)], stdin=subprocess.DEVNULL, capture_output=True)
    used = cpu() - before
    if done.returncode:
        raise SystemExit(f"{tool} failed: {done.stderr.decode(errors='replace')[-500:]}")
    wall, work = dd_results(folder) if count else (0.0, 0.0)
    lost, size = lost_and_size(path)
    return wall, used - work, lost, size


def main(argv):
    events, rounds, tools = 100000, 5, []
    words = iter(argv)
    for word in words:
        if word == "--events":
            events = int(next(words))
        elif word == "--rounds":
            rounds = int(next(words))
        elif word in ("-h", "--help"):
            print(__doc__)
            return
        else:
            tools.append(word)
    tools = tools or [tool for tool in ("harken trace-cmd", "trace-cmd") if shutil.which(tool.split()[0])]
    folder = f"/tmp/ftrace_record.{os.getpid()}"
    os.mkdir(folder)
    bare, found = [], {tool: [] for tool in tools}
    try:
        for turn in range(rounds):
            subprocess.run(workload(events, folder), check=True)
            bare.append(dd_results(folder)[0])
            for tool in tools if turn % 2 else tools[::-1]:
                found[tool].append((record(tool, 0, folder, 7000), record(tool, events, folder, 7000), record(tool, events, folder, 64)))
    finally:
        shutil.rmtree(folder)
    print(f"{os.uname().release}, {events} events, {rounds} rounds, {time.strftime('%Y-%m-%d')}; dd alone {median(bare):.3f} s")
    for tool, rows in found.items():
        dd = median([full[0] for _, full, _ in rows])
        start = median([empty[1] for empty, _, _ in rows])
        more = median([full[1] - empty[1] for empty, full, _ in rows])
        lost = median([small[2] for _, _, small in rows]) / events * 100
        whole = median([full[2] for _, full, _ in rows]) / events * 100
        size = median([(full[3] - empty[3]) / events for empty, full, _ in rows])
        print(
            f"{tool:20} dd {dd:.3f} s  start {start:.3f} s  record {more:+.3f} s ({more / events * 1e6:.2f} us/event)  "
            f"lost {whole:.1f} % ({lost:.1f} % with 64 KB)  file {size:.1f} bytes/event"
        )


main(sys.argv[1:])
