"""What all BPF objects share: bpf(2) itself, attributes, descriptors, names, pinning."""

from __future__ import annotations

import errno
from struct import pack_into, unpack_from

from ..abi import bpf as abi
from .kernel import Call, Memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from ..abi.bpf import Layout
    from ..base.errors import KernelError
    from .kernel import Buffer, Kernel

__all__ = ("BpfObject", "attr", "bpf", "bpf_with_memlock", "field", "object_name", "open_pinned", "pin", "refusal", "text_of")

_UNSIGNED = {"=I": 0xFFFFFFFF, "=Q": 0xFFFFFFFFFFFFFFFF}


def attr(layout: Layout, size: int, **values: int | Buffer | None) -> Memory:
    """A member of ``union bpf_attr``.

    Args:
        layout, size: from ``abi.bpf`` (``MAP_CREATE``, ``MAP_CREATE_SIZE``).
        values: ints; buffers for pointer fields; bytes for char arrays; None leaves a null pointer.

    Example:
        >>> one = attr(abi.MAP_ELEM, abi.MAP_ELEM_SIZE, map_fd=3, key=b"key", flags=1)
        >>> one.data[:4], one.at(8)
        (bytearray(b'\\x03\\x00\\x00\\x00'), b'key')
    """
    data = bytearray(size)
    pointers: list[tuple[int, Buffer]] = []
    for name, value in values.items():
        offset, form = layout[name]
        if type(value) is int:
            # a closed descriptor is -1, which goes into unsigned fields too: the kernel says EBADF
            pack_into(form, data, offset, value if value >= 0 or form[1] > "Z" else value & _UNSIGNED[form])
        elif value is None or len(value) == 0:  # type: ignore[arg-type]
            continue
        elif form[-1] == "s":
            data[offset : offset + len(value)] = value  # type: ignore[arg-type, assignment]
        else:
            pointers.append((offset, value))  # type: ignore[arg-type]
    return Memory(data, pointers)


def bpf(kernel: Kernel, command: int, attribute: Memory) -> int:
    """bpf(2); returns its result or ``-errno``.

    A kernel that is older than our headers takes the longer struct as long as what it does not know is zero
    (bpf_check_uarg_tail_zero).
    """
    return kernel.call(Call("bpf", (command, attribute, len(attribute.data))))


def field(layout: Layout, name: str, data: bytearray) -> int:
    """Reads an integer field of a struct that the kernel filled in."""
    offset, form = layout[name]
    return int(unpack_from(form, data, offset)[0])


def object_name(name: str) -> bytes:
    """A name as the kernel takes it: 15 characters of ``[A-Za-z0-9_.]``.

    >>> object_name("tracepoint:syscalls:sys_enter_openat")
    b'tracepoint_sysc'
    """
    kept = "".join([c if c.isascii() and (c.isalnum() or c in "_.") else "_" for c in name])
    return kept[: abi.BPF_OBJ_NAME_LEN - 1].encode()


class BpfObject:
    """Owner of one BPF file descriptor."""

    __slots__ = ("kernel", "fd", "name")

    def __init__(self, kernel: Kernel, fd: int, name: str = "") -> None:
        self.kernel = kernel
        self.fd = fd
        self.name = name

    def fileno(self) -> int:
        return self.fd

    def close(self) -> None:
        """Closes the descriptor; more than once does no harm."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            self.kernel.close(fd)

    def detach(self) -> int:
        """Gives up the descriptor: the caller closes it."""
        fd, self.fd = self.fd, -1
        return fd

    def pin(self, path: str) -> None:
        """Keeps the object alive under a path of a bpf file system; raises KernelError."""
        pin(self.kernel, self.fd, path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} fd={self.fd}>"


def text_of(log: bytearray) -> str:
    """The text in a buffer that the kernel filled."""
    return bytes(log[: log.find(0) if 0 in log else len(log)]).decode("utf-8", "replace")


def bpf_with_memlock(kernel: Kernel, command: int, attribute: Memory) -> int:
    """A command that may count against RLIMIT_MEMLOCK.

    Kernels before 5.11 charge maps and programs to the limit and say EPERM when it is reached; newer ones use memory cgroups (commit
    80ee81e0403c).  So only after EPERM, and only if the limit is finite, it is raised and the command tried once more.
    """
    result = bpf(kernel, command, attribute)
    if result == -errno.EPERM:
        # struct rlimit64; RLIMIT_MEMLOCK is 8 on all machines but alpha, mips and sparc
        old = bytearray(16)
        infinity = b"\xff" * 16
        finite = kernel.call(Call("prlimit64", (0, 8, None, old))) == 0 and old != infinity
        if finite and kernel.call(Call("prlimit64", (0, 8, infinity, None))) == 0:
            result = bpf(kernel, command, attribute)
            if result < 0:
                kernel.call(Call("prlimit64", (0, 8, bytes(old), None)))
    return result


def refusal(command: str, number: int, what: str, log: str = "") -> KernelError:
    """``bpf_errors.refusal``, imported when something was refused."""
    from .bpf_errors import refusal as make

    return make(command, number, what, log)


def pin(kernel: Kernel, fd: int, path: str) -> None:
    """BPF_OBJ_PIN: keeps an object alive under a path of a mounted bpf file system; raises KernelError."""
    result = bpf(kernel, abi.BPF_OBJ_PIN, attr(abi.OBJ, abi.OBJ_SIZE, pathname=path.encode() + b"\0", bpf_fd=fd))
    if result < 0:
        raise refusal("obj_pin", -result, f"an object at {path!r} (it must lie on a bpf file system)")


def open_pinned(kernel: Kernel, path: str, flags: int = 0) -> int:
    """BPF_OBJ_GET: a descriptor of the pinned object; raises KernelError.

    ``Map.from_fd`` and ``Program.from_fd`` make objects of it.
    """
    fd = bpf(kernel, abi.BPF_OBJ_GET, attr(abi.OBJ, abi.OBJ_SIZE, pathname=path.encode() + b"\0", file_flags=flags))
    if fd < 0:
        raise refusal("obj_get", -fd, f"the pinned object {path!r}")
    return fd
