"""Makes the events that the benchmarks trace.

Usage: python -I -S load.py marks          opens /harken-bench/<monotonic ns> every 0.2 ms until killed; is called bench-marks
       python -I -S load.py calls          for each line "N RATE" on stdin: N getppid(2) calls, RATE per second (0: as fast as they go);
                                           answers with "BEGIN_NS END_NS"
"""

import os
import sys
import time


def marks() -> None:
    now, access, sleep = time.monotonic_ns, os.open, time.sleep
    while True:
        try:
            access(f"/harken-bench/{now()}", os.O_RDONLY)
        except OSError:
            pass
        sleep(0.0002)


def calls(count: int, rate: int) -> tuple[int, int]:
    call = os.getppid
    begin = time.monotonic_ns()
    if not rate:
        for _ in range(count):
            call()
    else:
        made = 0
        while made < count:
            due = min(count, (time.monotonic_ns() - begin) * rate // 1_000_000_000)
            for _ in range(due - made):
                call()
            made = max(made, due)
            time.sleep(0.0005)
    return begin, time.monotonic_ns()


if sys.argv[1] == "marks":
    with open("/proc/self/comm", "w") as comm:
        comm.write("bench-marks")
    marks()
else:
    for line in sys.stdin:
        number, pace = line.split()
        first, last = calls(int(number), int(pace))
        sys.stdout.write(f"{first} {last}\n")
        sys.stdout.flush()
