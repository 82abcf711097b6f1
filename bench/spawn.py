"""Runs one program and reports when it started and ended and what it used; kept tiny because the kernel counts the memory of whoever
starts a program into that program's peak (``signal->maxrss`` survives exec).

Usage: python -I -S spawn.py REPORT OUT ERR PROGRAM ARGUMENTS...

REPORT gets two lines: ``start PID MONOTONIC_NS`` and ``end MONOTONIC_NS STATUS MAXRSS_KB USER_S SYSTEM_S``.
"""

import os
import sys
import time

report, out, err, *argv = sys.argv[1:]
created = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
actions = [
    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
    (os.POSIX_SPAWN_OPEN, 1, out, created, 0o600),
    (os.POSIX_SPAWN_OPEN, 2, err, created, 0o600),
]
fd = os.open(report, created, 0o600)
start = time.monotonic_ns()
pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=actions)
os.write(fd, f"start {pid} {start}\n".encode())
_, status, usage = os.wait4(pid, 0)
end = time.monotonic_ns()
os.write(fd, f"end {end} {os.waitstatus_to_exitcode(status)} {usage.ru_maxrss} {usage.ru_utime} {usage.ru_stime}\n".encode())
