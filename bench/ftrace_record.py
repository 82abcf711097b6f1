"""Recording system calls: what harken costs, loses and writes, beside trace-cmd.

    python bench/ftrace_record.py [--events N] [--rounds N] [--small KB] [TOOL ...]

A TOOL is a command line that takes ``record`` (default: ``harken trace-cmd`` and ``trace-cmd``, if they are there), or ``pages``: a process
per CPU that moves pages from an instance to a file as trace-cmd's do, and nothing else: no start, no formats, no file in the end.
``dd`` with blocks of one byte makes four events per block.  In turns each tool records nothing to speak of (``true``), N events into large
buffers, and N events into buffers of 64 KB per CPU.  Medians are printed, and the lowest and highest value behind each:

    dd        CPU seconds that dd took while it was recorded
    start     CPU seconds of the recorder for ``true``: start, settings, formats, symbols, file
    took      seconds on the clock for that
    record    CPU seconds more for N events
    lost      events lost of the N, in percent (overrun and dropped, as the kernel counts them); ``small``: with 64 KB per CPU
    file      bytes per event, without compression, beyond those for ``true``

Needs root and tracefs.  trace-cmd records only where the kernel has a function tracer that may be switched; for guests:

    python -m harken.testing.vm 6.12 --add trace-cmd --file bench/ftrace_record.py:/bench.py -- python3 /bench.py --events 20000

An emulated guest's CPU seconds depend on what its host does.  QEMU's ``-icount shift=0,sleep=off`` makes a second of guest time a
billion instructions, whatever the host does: a program called qemu-system-x86_64 in PATH that adds these arguments gives figures that
repeat (Linux 6.1 does not boot that way).
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
    return ["sh", "-c", f"{dd}; times > {folder}/times"] if count else ["true"]


def workload_cpu(folder):
    """CPU seconds of the workload."""
    total = 0.0
    with open(f"{folder}/times") as file:
        for word in file.read().split():
            minutes, _, seconds = word.rstrip("s").partition("m")
            total += 60 * float(minutes) + float(seconds)
    return total


def lost_in(text):
    lost = 0
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("overrun", "commit overrun", "dropped events") and value.strip(" \0").isdecimal():
            lost += int(value.strip(" \0"))
    return lost


def lost_and_size(path):
    from harken.formats.trace_dat import open_trace

    with open_trace(path) as trace:
        lost = sum(lost_in(option.data.decode("ascii", "replace")) for option in trace.option_list(2))
    return lost, os.stat(path).st_blocks * 512


def record(tool, count, folder, kilobytes):
    """(CPU seconds of the workload, CPU seconds of the recorder, events lost, bytes, seconds in all)."""
    before, start, took = cpu(), time.monotonic(), 0.0
    if tool == "pages":
        lost, size = record_pages(count, folder, kilobytes)
        took = time.monotonic() - start
    else:
        path = f"{folder}/bench.dat"
        words = [*tool.split(), "record", "-o", path, "--compression", "none", "-b", str(kilobytes), "-e", "raw_syscalls", "-F", "-c"]
        done = subprocess.run([*words, *workload(count, folder)], stdin=subprocess.DEVNULL, capture_output=True)
        took = time.monotonic() - start
        if done.returncode:
            raise SystemExit(f"{tool} failed: {done.stderr.decode(errors='replace')[-500:]}")
        lost, size = lost_and_size(path)
    used = cpu() - before
    work = workload_cpu(folder) if count else 0.0
    return work, used - work, lost, size, took


def move_pages(source, target):
    """What trace-cmd's recorder of a CPU does: waits in a splice, which moves full pages, until it is killed."""
    reader, writer = os.pipe()
    raw = os.open(source, os.O_RDONLY)
    file = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    while True:
        try:
            size = os.splice(raw, writer, 1 << 16, flags=os.SPLICE_F_MOVE)
        except InterruptedError:
            continue
        while size > 0:
            size -= os.splice(reader, file, size, flags=os.SPLICE_F_MOVE)


def record_pages(count, folder, kilobytes):
    base = f"/sys/kernel/tracing/instances/bench_{os.getpid()}"
    os.mkdir(base)
    readers = []

    def write(file, text):
        with open(f"{base}/{file}", "w") as stream:
            stream.write(text)

    try:
        write("buffer_size_kb", str(kilobytes))
        write("options/event-fork", "1")
        names = os.listdir(f"{base}/per_cpu")
        for name in names:
            pid = os.fork()
            if not pid:
                move_pages(f"{base}/per_cpu/{name}/trace_pipe_raw", f"{folder}/{name}")
            readers.append(pid)
        script = f"echo $$ > {base}/set_event_pid; echo 1 > {base}/events/raw_syscalls/enable; {workload(count, folder)[-1]}"
        subprocess.run(["sh", "-c", script], check=True)
        write("tracing_on", "0")
        time.sleep(0.2)
    finally:
        for reader in readers:
            os.kill(reader, 9)
            os.waitpid(reader, 0)
        lost = size = 0
        for name in names:
            with open(f"{base}/per_cpu/{name}/stats") as stats:
                lost += lost_in(stats.read())
            size += os.stat(f"{folder}/{name}").st_size
        os.rmdir(base)
    return lost, size


def shown(values, form):
    return f"{format(median(values), form)} [{format(min(values), form)}..{format(max(values), form)}]"


def main(argv):
    events, rounds, small, tools = 100000, 5, 64, []
    words = iter(argv)
    for word in words:
        if word == "--events":
            events = int(next(words))
        elif word == "--rounds":
            rounds = int(next(words))
        elif word == "--small":
            small = int(next(words))
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
            bare.append(workload_cpu(folder))
            for tool in tools if turn % 2 else tools[::-1]:
                found[tool].append((record(tool, 0, folder, 7000), record(tool, events, folder, 7000), record(tool, events, folder, small)))
    finally:
        shutil.rmtree(folder)
    print(f"{os.uname().release}, {events} events, {rounds} rounds, {time.strftime('%Y-%m-%d')}; dd alone {shown(bare, '.3f')} s")
    for tool, rows in found.items():
        print(tool)
        print(f"    dd      {shown([full[0] for _, full, _ in rows], '.3f')} s   small {shown([less[0] for _, _, less in rows], '.3f')} s")
        print(f"    start   {shown([empty[1] for empty, _, _ in rows], '.3f')} s")
        print(f"    took    {shown([empty[4] for empty, _, _ in rows], '.3f')} s")
        print(
            f"    record  {shown([full[1] - empty[1] for empty, full, _ in rows], '.3f')} s"
            f"   small {shown([less[1] - empty[1] for empty, _, less in rows], '.3f')} s"
        )
        print(
            f"    lost    {shown([full[2] / events * 100 for _, full, _ in rows], '.1f')} %"
            f"   small {shown([less[2] / events * 100 for _, _, less in rows], '.1f')} %"
        )
        print(f"    file    {shown([(full[3] - empty[3]) / events for empty, full, _ in rows], '.1f')} bytes/event")


main(sys.argv[1:])
