"""The workloads of `kernel_pairs`: system calls, files, processes, connections; and those of block devices.

One process does them on request, by the C library's functions through ctypes, so that Python's own calls are few and the same each time.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import select
import signal
import socket
from pathlib import Path

__all__ = ("BARE", "COMM", "FOLDER", "PORT", "Worker", "disk_workload", "workload")

COMM = "worker"
FOLDER = "/tmp/harken-matrix"
PORT = 8093
#: a block device without a file system, in a guest (see `machine.prepare_disk`)
BARE = "loop4"
CALLS = 50
_PID = 20000


def workload() -> None:
    """One process's work, the same every time: descriptors, names, numbers of calls."""
    libc = ctypes.CDLL(None, use_errno=True)
    place = f"{FOLDER}/peer".encode()
    libc.mkdir(place, 0o755)
    for _ in range(CALLS):
        libc.getppid()
    for number in range(5):
        libc.mkdir(place + b"/folder%d" % number, 0o755)
    for number in range(5):
        libc.rmdir(place + b"/folder%d" % number)
    for number in range(3):
        name = place + b"/file%d" % number
        fd = libc.open(name, os.O_CREAT | os.O_WRONLY, 0o644)
        libc.write(fd, b"some text\n", 10)
        libc.close(fd)
        fd = libc.open(name, os.O_RDONLY)
        libc.read(fd, ctypes.create_string_buffer(100), 100)
        libc.close(fd)
        libc.open(name + b"-missing", os.O_RDONLY)
        if os.uname().machine == "x86_64":  # the C library calls newfstatat, which not all tools know
            libc.syscall(4, name, ctypes.create_string_buffer(256))
            libc.syscall(4, name + b"-missing", ctypes.create_string_buffer(256))
        libc.unlink(name)
    libc.sync()
    for words in (["true"], ["true", "one", "two words"], ["sh", "-c", "exit 3"]):
        os.waitpid(os.posix_spawnp(words[0], words, {"PATH": "/bin:/usr/bin"}), 0)
    libc.kill(os.getpid(), 0)
    libc.kill(os.getpid(), int(signal.SIGUSR1))
    libc.kill((1 << 22) - 1, 15)
    libc.mkdir(place + b"/mounted", 0o755)
    libc.mount(b"none", place + b"/mounted", b"tmpfs", 0, b"size=1m")
    libc.umount2(place + b"/mounted", 0)
    libc.rmdir(place + b"/mounted")
    libc.rmdir(place)
    _shared_memory(libc)
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        _connection(family, address)


def disk_workload() -> None:
    """Reads and writes of a file system and of a bare block device, the same every time."""
    libc = ctypes.CDLL(None, use_errno=True)
    data = ctypes.create_string_buffer(4096)
    for number in range(3):
        name = f"{FOLDER}/ext4/file{number}".encode()
        fd = libc.open(name, os.O_CREAT | os.O_WRONLY, 0o644)
        for _ in range(4):
            libc.write(fd, data, 4096)
        libc.fsync(fd)
        libc.close(fd)
        fd = libc.open(name, os.O_RDONLY)
        while libc.read(fd, data, 4096) > 0:
            pass
        libc.close(fd)
        libc.unlink(name)
    fd = libc.open(f"/dev/{BARE}".encode(), os.O_RDWR | os.O_DIRECT)
    with mmap.mmap(-1, 4096) as page:  # what goes there directly must be aligned
        for number in range(25):
            os.pwritev(fd, [page], number * 8192)
            os.preadv(fd, [page], number * 8192)
    libc.close(fd)


def _shared_memory(libc: ctypes.CDLL) -> None:
    libc.shmat.restype = ctypes.c_void_p
    libc.shmdt.argtypes = (ctypes.c_void_p,)
    number = libc.shmget(0, 4096, 0o1600)
    libc.shmdt(libc.shmat(number, None, 0))
    libc.shmctl(number, 0, None)


def _connection(family: int, address: str) -> None:
    with socket.socket(family) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((address, PORT))
        server.listen(5)
        with socket.socket(family) as client:
            client.connect((address, PORT))
            peer, _ = server.accept()
            client.sendall(b"y" * 4096)
            rest = 4096
            while rest:
                rest -= len(peer.recv(rest))
            client.close()
            peer.recv(1)
            peer.close()


class Worker:
    """The process that does the workload on request."""

    def __init__(self) -> None:
        here, there = socket.socketpair()
        if "HARKEN_GUEST" in os.environ:  # the same pid in every guest: it is a constant in the tools' programs
            Path("/proc/sys/kernel/ns_last_pid").write_text(str(_PID - 1))
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.dup2(there.fileno(), 200)
                os.closerange(3, 200)  # so that descriptors are the same in every run
                os.closerange(201, 4096)
                Path("/proc/self/comm").write_text(COMM)
                # a program may begin on another CPU, and perf buffers keep order on each CPU only: execsnoop could print no words
                os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
                signal.signal(signal.SIGUSR1, lambda *_: None)
                while request := os.read(200, 1):
                    (disk_workload if request == b"d" else workload)()
                    os.write(200, b".")
            finally:
                os._exit(0)
        there.close()
        self._socket = here

    def work(self, disk: bool = False) -> None:
        self._socket.send(b"d" if disk else b"x")
        if not select.select([self._socket], [], [], 120.0)[0] or not self._socket.recv(1):
            raise RuntimeError("the workload did not end")

    def close(self) -> None:
        self._socket.close()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
