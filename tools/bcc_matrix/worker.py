"""The worker: a process that does, on request, what the tools' probes must see.

`Worker` forks it; ``do("tcp")`` makes it open connections and returns when that is done.  It is called ``{comm}`` ("worker") and stays
the same process all the time, so tools can be told to look at its pid.  Everything is done with the standard library: a guest has no more.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable

from . import worker_machine

__all__ = ("COMM", "WORK", "Worker")

COMM = "worker"
FOLDER = "/tmp/harken-matrix"
PORTS = (80, 81)

_libc = ctypes.CDLL(None, use_errno=True)


class Worker:
    """The forked process and the pipe to it."""

    def __init__(self, guest: bool) -> None:
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            here.close()
            try:
                _serve(there, guest)
            finally:
                os._exit(0)
        there.close()
        self._socket = here

    def do(self, names: tuple[str, ...], patience: float) -> str:
        """Does some works; returns what went wrong ("" if nothing did)."""
        self._socket.send(" ".join(names).encode())
        if select.select([self._socket], [], [], patience)[0]:
            return self._socket.recv(4096).decode()[1:]
        return "the workload did not end in time"

    def close(self) -> None:
        self._socket.close()
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.waitpid(self.pid, 0)


def _serve(request: socket.socket, guest: bool) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, lambda *_: None)
    with open("/proc/self/comm", "w") as file:
        file.write(COMM)
    if guest:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("-1000")
    os.makedirs(FOLDER, exist_ok=True)
    while True:
        data = request.recv(4096)
        if not data:
            return
        problems = []
        for name in data.decode().split():
            try:
                WORK[name]()
            except Exception as error:
                problems.append(f"{name}: {type(error).__name__}: {error}")
        request.send(b"." + "; ".join(problems).encode()[:4000])


def _files() -> None:
    for number in range(8):
        path = f"{FOLDER}/file{number}"
        with open(path, "wb") as file:
            file.write(b"x" * 9000)
        with open(path, "rb") as file:
            file.read()
        os.stat(path)
        try:
            os.stat(path + "-missing")
        except OSError:
            pass
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
        os.close(os.open(f"{FOLDER}/file0", flags))
    try:
        open(f"{FOLDER}/missing").close()
    except OSError:
        pass
    os.statvfs("/tmp")
    if os.uname().machine == "x86_64":  # the C library calls newfstatat instead
        _libc.syscall(4, b"/tmp", ctypes.create_string_buffer(256))
    os.listdir("/proc")
    with open("/proc/self/status") as text:
        text.read()


def _missing() -> None:
    """A call of stat(2) itself that fails; not part of ``files``, whose calls are counted and compared with recorded ones."""
    if os.uname().machine == "x86_64":
        _libc.syscall(4, f"{FOLDER}/missing".encode(), ctypes.create_string_buffer(256))


def _fail() -> None:
    for call, wrong in ((os.kill, (1 << 22, 0)), (os.close, (999,))):
        try:
            call(*wrong)  # type: ignore[operator]
        except OSError:
            pass
    pid = os.fork()
    if pid == 0:
        try:
            os.setuid(65534)
            os.kill(1, 0)
        except OSError:
            pass
        os._exit(0)
    os.waitpid(pid, 0)


def _exec() -> None:
    for words in (["true"], ["true", "a", "b c"], ["sh", "-c", "exit 3"], ["cat", "/dev/null"]):
        subprocess.run(words, stdin=subprocess.DEVNULL)


def _tcp() -> None:
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        for port in PORTS:
            with socket.socket(family) as server:
                server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                server.bind((address, port))
                server.listen(5)
                with socket.create_connection((address, port)) as client:
                    peer, _ = server.accept()
                    client.sendall(b"y" * 20000)
                    time.sleep(0.02)
                    while len(peer.recv(1 << 16)) == 1 << 16:
                        pass
                    peer.sendall(b"answer")
                    client.recv(100)
                    peer.close()


def _listen() -> None:
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((address, 8081))
            server.listen(7)


def _drop() -> None:
    _tcp()
    for _ in range(3):
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            server.listen(0)
            clients = []
            for _ in range(4):  # more than the backlog takes: the last ones are dropped
                client = socket.socket()
                client.setblocking(False)
                client.connect_ex(server.getsockname())
                clients.append(client)
            time.sleep(0.1)
            for client in clients:
                client.close()
    with socket.socket() as server:  # data for a socket that is closed already
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        client = socket.create_connection(server.getsockname())
        peer, _ = server.accept()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        try:
            peer.send(b"late")
            peer.send(b"later")
        except OSError:
            pass
        peer.close()


def _retransmit() -> None:
    """A backlog of nothing: the SYN is not answered and sent again after a second."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        clients = []
        for _ in range(4):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(server.getsockname())
            clients.append(client)
        time.sleep(1.6)
        for client in clients:
            client.close()


def _names() -> None:
    for name in ("localhost", "nowhere.invalid"):
        try:
            socket.getaddrinfo(name, 80)
        except OSError:
            pass
        try:
            socket.gethostbyname(name)
        except OSError:
            pass


def _signals() -> None:
    for number in (0, signal.SIGUSR1):
        os.kill(os.getpid(), number)
    try:
        os.kill((1 << 22) - 1, signal.SIGTERM)
    except OSError:
        pass
    child = subprocess.Popen(["sleep", "5"])
    child.send_signal(signal.SIGKILL)
    child.wait()


def _mount() -> None:
    place = f"{FOLDER}/mounted".encode()
    os.makedirs(place, exist_ok=True)
    if _libc.mount(b"none", place, b"tmpfs", 0, b"size=1m") == 0:
        _libc.umount2(place, 0)


def _lives() -> None:
    for number in range(3):
        path = f"{FOLDER}/short{number}"
        with open(path, "w") as file:
            file.write("x")
        time.sleep(0.05)
        os.rename(path, path + ".new")
        os.unlink(path + ".new")


def _threads() -> None:
    for _ in range(4):
        thread = threading.Thread(target=time.sleep, args=(0.01,))
        thread.start()
        thread.join()


def _busy() -> None:
    """More runnable processes than processors, for a while."""
    children = []
    end = time.monotonic() + 1.2
    for _ in range((os.cpu_count() or 1) + 2):
        pid = os.fork()
        if pid == 0:
            while time.monotonic() < end:
                sum(range(10000))
            os._exit(0)
        children.append(pid)
    while time.monotonic() < end:
        sum(range(10000))
    for pid in children:
        os.waitpid(pid, 0)


def _sleep() -> None:
    for _ in range(10):
        time.sleep(0.02)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        for _ in range(10):
            os.write(write, b"x")
            time.sleep(0.01)
        os._exit(0)
    for _ in range(10):
        os.read(read, 1)
    os.waitpid(pid, 0)
    os.close(read)
    os.close(write)


def _memory() -> None:
    _libc.malloc.restype = ctypes.c_void_p
    _libc.malloc.argtypes = (ctypes.c_size_t,)
    for _ in range(50):
        _kept.append(_libc.malloc(3000))


_kept: list[object] = []


def _shm() -> None:
    number = _libc.shmget(0, 4096, 0o1600)
    _libc.shmat.restype = ctypes.c_void_p
    _libc.shmdt.argtypes = (ctypes.c_void_p,)
    address = _libc.shmat(number, None, 0)
    _libc.shmdt(address)
    _libc.shmctl(number, 0, None)


def _passfd() -> None:
    one, two = socket.socketpair()
    with open("/dev/null") as file:
        socket.send_fds(one, [b"x"], [file.fileno()])
        _, descriptors, _, _ = socket.recv_fds(two, 10, 3)
        for fd in descriptors:
            os.close(fd)
    one.close()
    two.close()


def _stdout() -> None:
    """What some examples of the manual pages filter for; not part of ``calls``, whose outputs are compared with recorded ones."""
    _libc.getenv(b"HOME")
    os.write(1, b"")


def _calls() -> None:
    _libc.sleep(0)
    for size in (16, 100, 5000):
        _libc.free.argtypes = (ctypes.c_void_p,)
        _libc.malloc.restype = ctypes.c_void_p
        _libc.free(_libc.malloc(ctypes.c_size_t(size)))
    _libc.getpid()
    _libc.nanosleep(struct.pack("qq", 0, 1000000), None)
    read, write = os.pipe()
    os.write(write, b"hello")
    os.read(read, 5)
    os.close(read)
    os.close(write)
    _names()
    _bash()


def _bash() -> None:
    import pty

    pid, terminal = pty.fork()
    if pid == 0:
        os.execv("/bin/bash", ["bash", "--norc", "--noprofile", "-i"])
    for line in (b"echo first line\n", b"exit\n"):
        time.sleep(0.3)
        os.write(terminal, line)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            if select.select([terminal], [], [], 0.5)[0] and not os.read(terminal, 4096):
                break
        except OSError:
            break
    os.close(terminal)
    os.waitpid(pid, 0)


def _tls() -> None:
    """By openssl's own programs: Python calls SSL_write_ex, which sslsniff does not know."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(["openssl", "s_server", "-accept", "4433", "-cert", f"{FOLDER}/certificate.pem", "-quiet"], **pipes)  # type: ignore[call-overload]
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            socket.create_connection(("localhost", 4433)).close()
            break
        except OSError:
            time.sleep(0.2)
    client = subprocess.Popen(["openssl", "s_client", "-connect", "localhost:4433", "-quiet"], **pipes)  # type: ignore[call-overload]
    client.stdin.write(b"GET /secret HTTP/1.0\r\n\r\n")
    client.stdin.flush()
    select.select([server.stdout], [], [], max(0.0, end - time.monotonic()))
    time.sleep(0.3)
    for process in (client, server):
        process.kill()
        process.wait()


def _oom() -> None:
    """Only done in a guest: the kernel is asked to kill the process that is marked as its favourite victim."""
    child = subprocess.Popen(["sleep", "30"])
    with open(f"/proc/{child.pid}/oom_score_adj", "w") as file:
        file.write("1000")
    with open("/proc/sysrq-trigger", "w") as file:
        file.write("f")
    child.wait(20)


def _compact() -> None:
    with open("/proc/sys/vm/compact_memory", "w") as file:
        file.write("1")


def _io(folder: str, direct: bool = True) -> None:
    path = f"{folder}/data"
    with open(path, "wb") as file:
        file.write(os.urandom(1 << 19))
        file.flush()
        os.fsync(file.fileno())
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    while os.read(fd, 1 << 16):
        pass
    os.close(fd)
    os.stat(path)
    os.unlink(path)


def _file_system(kind: str) -> Callable[[], None]:
    def work() -> None:
        place = f"{FOLDER}/{kind}"
        if not os.path.ismount(place):
            raise FileNotFoundError(f"no {kind} is mounted here")
        _io(place)

    return work


def _disk() -> None:
    place = f"{FOLDER}/ext4"
    _io(place if os.path.ismount(place) else tempfile.gettempdir())
    os.sync()


def _runtime() -> None:
    time.sleep(1.5)  # the process that is watched works by itself


WORK: dict[str, Callable[[], None]] = {
    "bash": _bash, "btrfs": _file_system("btrfs"), "busy": _busy, "calls": _calls, "compact": _compact,
    "congested": worker_machine.congested, "console": worker_machine.console, "disk": _disk, "drop": _drop, "exec": _exec,
    "ext4": _file_system("ext4"), "fail": _fail, "files": _files, "listen": _listen, "lives": _lives, "locks": worker_machine.locks,
    "mapped": lambda: worker_machine.mapped(f"{FOLDER}/ext4"), "memory": _memory, "missing": _missing, "mount": _mount, "names": _names,
    "nfs": _file_system("nfs"), "oom": _oom, "passfd": _passfd, "pressure": lambda: worker_machine.pressure(f"{FOLDER}/xfs"),
    "raid": worker_machine.raid, "refused": worker_machine.refused,
    "retransmit": _retransmit, "runtime": _runtime, "shm": _shm, "signals": _signals, "sleep": _sleep,
    "stand_in": worker_machine.stand_in, "stdout": _stdout,
    "sync": os.sync, "tcp": _tcp, "threads": _threads, "tls": _tls, "tty": worker_machine.tty, "virtio": worker_machine.virtio,
    "xfs": _file_system("xfs"),
}  # fmt: skip
