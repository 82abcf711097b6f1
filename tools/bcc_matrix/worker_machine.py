"""More of the worker's workloads: what needs devices, file systems, memory or a network that misbehaves.

Those that would harm the machine (memory pressure, the serial port, a mirror of loop devices) are only asked for in guests.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import struct
import threading
import time

__all__ = ("congested", "console", "locks", "mapped", "pressure", "raid", "refused", "stand_in", "tty", "virtio")

_libc = ctypes.CDLL(None, use_errno=True)


def tty() -> None:
    """Writes to the terminal that ttysnoop watches, in two pieces: of one, newer kernels make another kind of iterator."""
    fd = os.open(os.environ["HARKEN_TTY"], os.O_WRONLY | os.O_NOCTTY)
    os.writev(fd, [b"typed on a terminal\r\n", b"\r\n"])
    os.close(fd)


def console() -> None:
    """The serial port of a guest, which interrupts for what it has sent."""
    with open("/dev/ttyS0", "wb", buffering=0) as file:
        file.write(b"x" * 64 + b"\r\n")


def locks() -> None:
    """Two threads that take two locks in opposite order, one after the other."""
    one, two = ctypes.create_string_buffer(64), ctypes.create_string_buffer(64)

    def take(first: object, second: object) -> None:
        for _ in range(3):
            _libc.pthread_mutex_lock(first)
            _libc.pthread_mutex_lock(second)
            _libc.pthread_mutex_unlock(second)
            _libc.pthread_mutex_unlock(first)

    for pair in ((one, two), (two, one)):
        thread = threading.Thread(target=take, args=pair)
        thread.start()
        thread.join()


def congested(ports: tuple[int, ...] = (80, 81)) -> None:
    """Segments that the receiver drops for a while, so that the sender's state changes there and back."""
    everything = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0), 8)  # BPF_RET 0
    program = struct.pack("HxxxxxxP", 1, ctypes.addressof(everything))
    attach, detach = 26, 27  # SO_ATTACH_FILTER, SO_DETACH_FILTER
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        for port in ports:
            with socket.socket(family) as server:
                server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                server.bind((address, port))
                server.listen(5)
                with socket.create_connection((address, port)) as client:
                    peer, _ = server.accept()
                    for sender, receiver in ((client, peer), (peer, client)):
                        receiver.setsockopt(socket.SOL_SOCKET, attach, program)
                        sender.sendall(b"x" * 100)
                        time.sleep(0.5)
                        receiver.setsockopt(socket.SOL_SOCKET, detach, 0)
                        receiver.recv(100)
                    peer.close()


def pressure(folder: str) -> None:
    """The reserve is set above what is free for a moment, so that whoever wants memory must reclaim some first."""
    place = f"{folder}/cached"
    with open(place, "wb") as file:
        for _ in range(64):
            file.write(bytes(1 << 20))
        file.flush()
        os.fsync(file.fileno())
    limit = "/proc/sys/vm/min_free_kbytes"
    with open(limit) as text:
        before = text.read()
    child = os.fork()
    if child == 0:
        with open("/proc/self/oom_score_adj", "w") as text:
            text.write("1000")
        time.sleep(0.2)
        memory = mmap.mmap(-1, 16 << 20)
        for offset in range(0, 16 << 20, 4096):
            memory[offset] = 1
        os._exit(0)
    with open("/proc/meminfo") as text:
        free = next(int(line.split()[1]) for line in text if line.startswith("MemFree"))
    try:
        with open(limit, "w") as text:
            text.write(str(free + 8192))
        end = time.monotonic() + 20
        while time.monotonic() < end and not os.waitpid(child, os.WNOHANG)[0]:
            time.sleep(0.05)
    finally:
        with open(limit, "w") as text:
            text.write(before)
    os.unlink(place)


def mapped(folder: str) -> None:
    """Page faults of a mapped file that is not in memory: the kernel reads around them."""
    path = f"{folder}/mapped"
    with open(path, "wb") as file:
        file.write(os.urandom(1 << 20))
        file.flush()
        os.fsync(file.fileno())
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as memory:
            sum(memory[offset] for offset in range(0, len(memory), 4096))
        while file.read(1 << 16):
            pass
    os.unlink(path)


def raid() -> None:
    """A flush of the mirror of two loop devices."""
    with open("/dev/md127", "r+b", buffering=0) as file:
        file.write(os.urandom(8192))
        os.fsync(file.fileno())


def virtio() -> None:
    """Random numbers of the guest's device."""
    with open("/dev/hwrng", "rb", buffering=0) as file:
        for _ in range(8):
            file.read(64)


def refused() -> None:
    """Segments that a program of their control group drops as they are sent: drops with a reason, of a socket's own packets.

    Nothing where the unified hierarchy is mounted elsewhere than in guests.
    """
    if "HARKEN_GUEST" not in os.environ:
        return
    from harken.abi import bpf as abi
    from harken.kernel.bpf import load_program
    from harken.kernel.kernel import live
    from harken.kernel.link import link_create

    place = "/sys/fs/cgroup/harken_matrix"
    os.makedirs(place, exist_ok=True)
    nothing = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0)  # r0 = 0; exit
    group = os.open(place, os.O_RDONLY)
    egress = abi.BPF_CGROUP_INET_EGRESS
    program = load_program(live(), abi.BPF_PROG_TYPE_CGROUP_SKB, nothing, name="refused", expected_attach_type=egress)
    link = link_create(live(), program, egress, group)
    child = os.fork()
    if child == 0:
        with open(f"{place}/cgroup.procs", "w") as file:
            file.write(str(os.getpid()))
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with socket.socket(family) as client:
                client.setblocking(False)
                client.connect_ex((address, 80))
        os._exit(0)
    os.waitpid(child, 0)
    link.close()
    program.close()
    os.close(group)
    os.rmdir(place)


def stand_in() -> None:
    """What a module does in place of what test kernels lack (see `modules.stand_in`); nothing where it is not."""
    try:
        fd = os.open("/dev/stand_in", os.O_RDWR)
    except FileNotFoundError:
        return
    for _ in range(3):
        os.write(fd, b"some data")
        os.fsync(fd)
        os.pread(fd, 512, 0)
    os.close(fd)
