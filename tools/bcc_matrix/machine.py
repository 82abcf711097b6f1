"""What a guest needs before the tools run: modules, file systems on loop devices, a mirror of two, an NFS mount of itself."""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Callable

__all__ = ("prepare", "prepare_disk")

_FILE_SYSTEMS = (("ext4", 32, ("-q", "-F", "-t", "ext4")), ("btrfs", 128, ("-q",)), ("xfs", 320, ("-q",)))


def prepare(folder: str, modules: list[str], note: Callable[[str], None]) -> None:
    """Sets a guest up.

    Args:
        folder: where images and mount points go; a file system in memory is mounted there already.
        modules: paths of modules, in order.
        note: told of what did not succeed; the tools that need it will show it.
    """
    _insert(modules, note)
    for number in range(len(_FILE_SYSTEMS)):
        _file_system(folder, number, note)
    for what in (_mirror, _nfs):
        try:
            what(folder, note)
        except OSError as error:
            note(f"{what.__name__}: {error}")


def prepare_disk(folder: str, bare: str, modules: list[str], note: Callable[[str], None]) -> None:
    """Sets up only an ext4 file system, and a block device that has none.

    Args:
        bare: the name of that device ("loop4").
        folder, modules, note: as for `prepare`.
    """
    os.makedirs(folder, exist_ok=True)
    _steps(note, ["mount", "-t", "tmpfs", "-o", "size=200m", "none", folder])
    _insert(modules, note)
    _file_system(folder, 0, note)
    _image(f"{folder}/bare.img", 4)
    _steps(note, ["losetup", f"/dev/{bare}", f"{folder}/bare.img"])


def _insert(modules: list[str], note: Callable[[str], None]) -> None:
    for path in modules:
        more = [f"stext={_start_of_text()}"] if path.endswith("/stand_in.ko") else []
        done = subprocess.run(["insmod", path, *more], capture_output=True, text=True)
        if done.returncode:
            note(f"insmod {path}: {done.stderr.strip()}")


def _start_of_text() -> int:
    with open("/proc/kallsyms") as file:
        return int(next(line for line in file if line.endswith(" _stext\n")).split()[0], 16)


def _file_system(folder: str, number: int, note: Callable[[str], None]) -> None:
    """One of `_FILE_SYSTEMS` on a loop device of its own, mounted."""
    kind, size, options = _FILE_SYSTEMS[number]
    make = "mke2fs" if kind == "ext4" else f"mkfs.{kind}"
    if shutil.which(make) is None:
        note(f"no {make} here")
        return
    image, place = f"{folder}/{kind}.img", f"{folder}/{kind}"
    _image(image, size)
    os.makedirs(place, exist_ok=True)
    device = f"/dev/loop{number}"
    _steps(note, [make, *options, image], ["losetup", device, image], ["mount", "-t", kind, device, place])


def _image(path: str, megabytes: int) -> None:
    with open(path, "wb") as file:
        file.truncate(megabytes << 20)


def _steps(note: Callable[[str], None], *steps: list[str]) -> None:
    """Commands, up to the first that fails."""
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True)
        if done.returncode:
            note(f"{' '.join(step)}: {done.stderr.strip()[:300]}")
            return


def _mirror(folder: str, note: Callable[[str], None]) -> None:
    """/dev/md127, as ``mdadm --build --level 1`` makes it."""
    parts = []
    for number in (5, 6):
        _image(f"{folder}/mirror{number}.img", 4)
        _steps(note, ["losetup", f"/dev/loop{number}", f"{folder}/mirror{number}.img"])
        parts.append(os.stat(f"/dev/loop{number}").st_rdev)
    with open("/sys/module/md_mod/parameters/new_array", "w") as file:
        file.write("md127")
    fd = os.open("/dev/md127", os.O_RDWR)
    try:
        # struct mdu_array_info_s: version 0.90, level 1, 4 MiB, two of two devices, no superblocks, clean
        words = (0, 90, 0, 0, 1, 4096, 2, 2, 127, 1, 0, 1, 2, 2, 0, 0, 0, 0)
        fcntl.ioctl(fd, 0x40480923, struct.pack("18i", *words))  # SET_ARRAY_INFO
        for number, device in enumerate(parts):
            info = struct.pack("5i", number, os.major(device), os.minor(device), number, 6)  # active and in sync
            fcntl.ioctl(fd, 0x40140921, info)  # ADD_NEW_DISK
        fcntl.ioctl(fd, 0x400C0930, struct.pack("3i", 0, 0, 0))  # RUN_ARRAY
    finally:
        os.close(fd)


_FOREVER = 2147483647


def _nfs(folder: str, note: Callable[[str], None]) -> None:
    """Exports the ext4 file system to this machine itself and mounts it by NFS 4.1, doing what rpc.nfsd, mountd and rpcbind would."""
    threading.Thread(target=_port_mapper, args=(socket.create_server(("127.0.0.1", 111)),), daemon=True).start()
    libc = ctypes.CDLL(None, use_errno=True)

    def mount(source: str, place: str, kind: str, options: str = "") -> None:
        os.makedirs(place, exist_ok=True)
        if libc.mount(source.encode(), place.encode(), kind.encode(), 0, options.encode()):
            raise OSError(ctypes.get_errno(), f"mount {kind}")

    def tell(path: str, text: str) -> None:
        with open(path, "w") as file:
            file.write(text)

    mount("nfsd", "/proc/fs/nfsd", "nfsd")
    for word in ("-2", "-3", "+4", "+4.1"):
        try:
            tell("/proc/fs/nfsd/versions", word)
        except OSError:
            pass  # version 2 is not in newer kernels
    tell("/proc/fs/nfsd/nfsv4leasetime", "10")
    tell("/proc/fs/nfsd/nfsv4gracetime", "10")
    # the server's caches, filled beforehand with what it would ask mountd: who the client is, what the root is, how it is exported
    tell("/proc/net/rpc/auth.unix.ip/channel", f"nfsd 127.0.0.1 {_FOREVER} here\n")
    flags = 0x2 | 0x10 | 0x400 | 0x2000  # insecure ports, async, no subtree check, a file system id
    tell("/proc/net/rpc/nfsd.export/channel", f"here {folder}/ext4 {_FOREVER} {flags} 65534 65534 0\n")
    tell("/proc/net/rpc/nfsd.fh/channel", f"here 1 \\x00000000 {_FOREVER} {folder}/ext4\n")
    tell("/proc/fs/nfsd/threads", "2")
    try:
        tell("/proc/fs/nfsd/v4_end_grace", "Y")
    except OSError as error:
        note(f"NFS will first wait for clients of a server before it: {error}")
    mount("127.0.0.1:/", f"{folder}/nfs", "nfs4", "vers=4.1,addr=127.0.0.1,clientaddr=127.0.0.1,sec=sys")


def _port_mapper(server: socket.socket) -> None:
    """Answers every call with "true": the server in the kernel does not start before it has registered (RFC 5531, RFC 1833)."""

    def serve(peer: socket.socket) -> None:
        with peer:
            while True:
                head = peer.recv(8, socket.MSG_WAITALL)
                if len(head) < 8:
                    return
                length, call = struct.unpack(">II", head)
                peer.recv((length & 0x7FFFFFFF) - 4, socket.MSG_WAITALL)
                peer.sendall(struct.pack(">8I", 0x80000000 | 28, call, 1, 0, 0, 0, 0, 1))

    while True:
        peer, _ = server.accept()
        threading.Thread(target=serve, args=(peer,), daemon=True).start()
