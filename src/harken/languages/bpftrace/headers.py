"""C headers that programs include: what they are included for.

Types come from the kernel's BTF, so that no header is read.  What BTF does not have are the numbers behind ``#define``: those that
tracing programs use are here, by header, as the kernel's UAPI and the C library define them.
"""

from __future__ import annotations

__all__ = ("CONSTANTS", "PREDEFINED")

#: Names that ``#ifdef`` finds defined where the kernel has BTF.
PREDEFINED = frozenset(("BPFTRACE_HAVE_BTF",))

_SOCKET = {"AF_UNSPEC": 0, "AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_NETLINK": 16, "AF_PACKET": 17, "SOCK_STREAM": 1, "SOCK_DGRAM": 2}
_STAT = {"S_IFMT": 0o170000, "S_IFREG": 0o100000, "S_IFDIR": 0o040000, "S_IFLNK": 0o120000, "S_IFSOCK": 0o140000, "S_IFIFO": 0o010000}
_FCNTL = {"O_RDONLY": 0, "O_WRONLY": 1, "O_RDWR": 2, "O_CREAT": 0o100, "O_EXCL": 0o200, "O_TRUNC": 0o1000, "O_APPEND": 0o2000}
_SCHED = {"TASK_RUNNING": 0, "TASK_INTERRUPTIBLE": 1, "TASK_UNINTERRUPTIBLE": 2, "TASK_COMM_LEN": 16}

CONSTANTS: dict[str, dict[str, int]] = {
    "sys/socket.h": _SOCKET,
    "linux/socket.h": _SOCKET,
    "net/sock.h": _SOCKET,
    "sys/stat.h": _STAT,
    "linux/stat.h": _STAT,
    "fcntl.h": _FCNTL,
    "linux/fcntl.h": _FCNTL,
    "linux/sched.h": _SCHED,
    "netinet/in.h": {"IPPROTO_TCP": 6, "IPPROTO_UDP": 17, **_SOCKET},
    "linux/in.h": {"IPPROTO_TCP": 6, "IPPROTO_UDP": 17},
    "linux/in6.h": {},
    "linux/fs.h": {},
    "linux/path.h": {},
    "linux/mm.h": {"PAGE_SHIFT": 12},
    "linux/types.h": {},
    "linux/ktime.h": {},
    "linux/time64.h": {},
    "linux/blkdev.h": {},
    "linux/bio.h": {},
    "linux/tcp.h": {},
    "net/tcp_states.h": {},
    "linux/net.h": {},
    "linux/netdevice.h": {},
    "linux/skbuff.h": {},
    "linux/nsproxy.h": {},
    "linux/oom.h": {},
    "linux/un.h": {},
}
