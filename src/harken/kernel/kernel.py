"""The one choke point between harken and the kernel.

Everything in ``harken.kernel`` (and whoever stands above it) reaches the kernel through a ``Kernel`` object: system calls are data
(``Call``), files are read and written by path.  ``testing.fake_kernel`` puts a scripted kernel behind the same methods.

Many calls take a struct that points to further memory (``union bpf_attr`` points to instructions, keys, a log buffer).
Such a struct is a ``Memory``: bytes plus the buffers that its pointer fields point to.  The live kernel writes the
addresses just before the call; a fake looks at the buffers.

Example:
    >>> key = bytes(4)
    >>> attr = Memory(bytearray(32), ((8, key),))
    >>> call = Call("bpf", (1, attr, len(attr.data)))
    >>> call.args[1].at(8)
    b'\\x00\\x00\\x00\\x00'
"""

from __future__ import annotations

import os

from ..base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeAlias

    Buffer: TypeAlias = "bytes | bytearray | memoryview | Memory"

__all__ = ("Call", "Memory", "Kernel", "LinuxKernel", "live")

_PAGE = 4096


class Call(Record):
    """One system call: ``name`` as in the man page; ``args`` are int (values), bytes, bytearray, memoryview or Memory (a pointer to
    them; the kernel may write to all but bytes) or None (a null pointer)."""

    name: str
    args: tuple[Any, ...] = ()


class Memory:
    """A struct with pointers: ``pointers`` are (offset of a u64 field, what it points to) pairs.

    A pointee may itself be a Memory (an array of strings is one).  ``None`` is a null pointer.
    """

    __slots__ = ("data", "pointers")

    def __init__(self, data: bytearray, pointers: Sequence[tuple[int, Buffer | None]] = ()) -> None:
        self.data = data
        self.pointers = tuple(pointers)

    def at(self, offset: int) -> Buffer | None:
        """What the pointer field at ``offset`` points to; None for a null pointer."""
        return next((buffer for place, buffer in self.pointers if place == offset), None)

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        return f"Memory({bytes(self.data)!r}, {self.pointers!r})"

    @staticmethod
    def array(items: Sequence[Buffer]) -> Memory:
        """An array of pointers to the items."""
        return Memory(bytearray(8 * len(items)), [(8 * index, item) for index, item in enumerate(items)])


class Kernel:
    """What a kernel can be asked.  Paths and file descriptors are the kernel's own; nothing here interprets contents."""

    machine: str = "x86_64"

    def call(self, call: Call) -> int:
        """Runs a system call; returns its result, or ``-errno`` (never raises for a refusal)."""
        raise NotImplementedError

    def read(self, path: str, limit: int = 1 << 26) -> bytes:
        """A whole (pseudo) file, at most ``limit`` bytes; raises OSError."""
        raise NotImplementedError

    def write(self, path: str, data: bytes, append: bool = False) -> None:
        """One write(2) to an existing file (tracefs commands must not be split); raises OSError."""
        raise NotImplementedError

    def exists(self, path: str) -> bool:
        raise NotImplementedError

    def listdir(self, path: str) -> list[str]:
        raise NotImplementedError

    def open(self, path: str, flags: int = os.O_RDONLY) -> int:
        """A file descriptor (close-on-exec); raises OSError."""
        raise NotImplementedError

    def close(self, fd: int) -> None:
        raise NotImplementedError

    def mmap(self, fd: int, length: int, writable: bool = False, offset: int = 0, shared: bool = True) -> Any:
        """A mapping as an object with the buffer protocol and ``close()``; raises OSError."""
        raise NotImplementedError

    def poll(self, fds: Sequence[int], timeout_ms: int) -> list[int]:
        """Those of ``fds`` that are readable, after at most ``timeout_ms`` (-1: for ever)."""
        raise NotImplementedError


class LinuxKernel(Kernel):
    """The kernel that this process runs on."""

    def __init__(self) -> None:
        self.machine = os.uname().machine
        self._syscall: Callable[..., int] | None = None
        self._errno: Callable[[], int] = int
        self._numbers: dict[str, int] = {}

    def _number(self, name: str) -> int:
        from ..abi.arch import for_machine

        number = self._numbers[name] = for_machine(self.machine).syscall(name)
        return number

    def call(self, call: Call) -> int:
        name = call.name
        if name in _PLAIN:
            try:
                return _PLAIN[name](*call.args)
            except OSError as error:
                return -(error.errno or 5)
        syscall = self._syscall or self._connect()
        number = self._numbers.get(name)
        if number is None:
            number = self._number(name)
        kept: list[Any] = []
        values = [argument if type(argument) is int else _address(argument, kept) for argument in call.args]
        values += (0,) * (6 - len(values))
        result = syscall(number, *values)
        return result if result != -1 else -self._errno()

    def _connect(self) -> Callable[..., int]:
        from .syscall import connect

        self._syscall, self._errno = connect()
        return self._syscall

    def read(self, path: str, limit: int = 1 << 26) -> bytes:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # files made by seq_file give a page at a time, whatever room they are offered, and room that is not used has its price
            chunks = []
            size = _PAGE
            while limit > 0:
                chunk = os.read(fd, min(size, limit))
                if not chunk:
                    break
                chunks.append(chunk)
                limit -= len(chunk)
                if len(chunk) == size:
                    size = min(size * 4, 1 << 22)
                elif len(chunk) <= _PAGE:
                    size = _PAGE
        finally:
            os.close(fd)
        return b"".join(chunks)

    def write(self, path: str, data: bytes, append: bool = False) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | (os.O_APPEND if append else os.O_TRUNC))
        try:
            written = os.write(fd, data)
        finally:
            os.close(fd)
        if written != len(data):
            raise OSError(5, f"only {written} of {len(data)} bytes were taken", path)

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def listdir(self, path: str) -> list[str]:
        return os.listdir(path)

    def open(self, path: str, flags: int = os.O_RDONLY) -> int:
        return os.open(path, flags | os.O_CLOEXEC)

    def close(self, fd: int) -> None:
        os.close(fd)

    def mmap(self, fd: int, length: int, writable: bool = False, offset: int = 0, shared: bool = True) -> Any:
        import mmap

        flags = mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE
        try:
            return mmap.mmap(fd, length, flags, mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0), offset=offset)
        except ValueError as error:  # Python's own refusal: a file is shorter than that
            raise OSError(22, str(error)) from None

    def poll(self, fds: Sequence[int], timeout_ms: int) -> list[int]:
        import select

        poller = select.poll()
        for fd in fds:
            poller.register(fd, select.POLLIN)
        # an error or hang-up counts as readable: whoever reads finds out what it is
        return [fd for fd, _ in poller.poll(min(timeout_ms, 0x7FFFFFFF) if timeout_ms >= 0 else None)]


def _address(argument: Any, kept: list[Any]) -> int:
    """The number that an argument is, or the address of a buffer; what must stay alive during the call goes to ``kept``."""
    if type(argument) is Memory:
        data: bytearray = argument.data
        for offset, buffer in argument.pointers:
            data[offset : offset + 8] = _address(buffer, kept).to_bytes(8, "little")
        argument = data
    elif argument is None:
        return 0
    elif isinstance(argument, int):
        return int(argument)
    from .syscall import address

    return address(argument, kept)


def _path(data: bytes) -> bytes:
    return data.partition(b"\0")[0]


def _readlinkat(directory: int, path: bytes, room: bytearray, size: int) -> int:
    target = os.readlink(_path(path), dir_fd=_directory(directory))[:size]
    room[: len(target)] = target
    return len(target)


def _mkdirat(directory: int, path: bytes, mode: int) -> int:
    os.mkdir(_path(path), mode, dir_fd=_directory(directory))
    return 0


def _unlinkat(directory: int, path: bytes, flags: int) -> int:
    (os.rmdir if flags & 0x200 else os.unlink)(_path(path), dir_fd=_directory(directory))  # AT_REMOVEDIR
    return 0


def _directory(fd: int) -> int | None:
    return None if fd == -100 else fd  # AT_FDCWD


def _uname(room: bytearray) -> int:
    for index, text in enumerate(os.uname()):
        data = os.fsencode(text)[:64]
        room[65 * index : 65 * index + len(data)] = data
    return 0


def _fcntl(fd: int, command: int, argument: int = 0) -> int:
    import fcntl

    return fcntl.fcntl(fd, command, argument)


#: Calls that Python can make by itself: whoever needs no others is spared ctypes (5 ms, and a hundred times that in an emulated machine).
_PLAIN: dict[str, Callable[..., int]] = {
    "readlinkat": _readlinkat,
    "mkdirat": _mkdirat,
    "unlinkat": _unlinkat,
    "uname": _uname,
    "fcntl": _fcntl,
}


def live() -> Kernel:
    """The running kernel."""
    return LinuxKernel()
