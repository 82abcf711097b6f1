"""A kernel for tests: scripted answers to system calls, an in-memory file tree, a record of all that was asked.

Example:
    >>> from harken.kernel.bpf import create_map
    >>> from harken.formats.spec import MapSpec
    >>> kernel = FakeKernel(files={"/sys/devices/system/cpu/possible": "0-3"})
    >>> kernel.on_bpf("BPF_MAP_CREATE", 3)
    >>> create_map(kernel, MapSpec("counts", 1, 4, 8, 100)).fd
    3
    >>> kernel.calls[-1].name, kernel.open_fds
    ('bpf', {3})
    >>> kernel.read("/sys/devices/system/cpu/possible")
    b'0-3'
"""

from __future__ import annotations

import errno
import os

from ..abi import bpf as abi
from ..kernel.kernel import Call, Kernel, Memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    Answer = int | Callable[[Call], int]

__all__ = ("FakeKernel", "bpf_field")


class FakeKernel(Kernel):
    """A scripted kernel.

    Answers are ints (a result or ``-errno``) or functions of the Call, which may fill in its buffers.  A call without an answer
    fails with ENOSYS.

    Attributes:
        files: path -> contents; folders are implied by the files below them.
        calls: every system call, oldest first.
        writes: every (path, bytes) that was written.
        open_fds: descriptors that were handed out and not closed.
        readable: descriptors that ``poll`` reports.
        memory: (descriptor, offset) -> bytes that a mapping begins with; ``mappings`` holds those that were made.
    """

    def __init__(self, files: Mapping[str, bytes | str | OSError] | None = None, machine: str = "x86_64") -> None:
        self.machine = machine
        self.files: dict[str, bytes | OSError] = {}
        for path, data in (files or {}).items():
            self.files[path] = data.encode() if isinstance(data, str) else data
        self.calls: list[Call] = []
        self.writes: list[tuple[str, bytes]] = []
        self.open_fds: set[int] = set()
        self.fd_paths: dict[int, str] = {}
        self.memory: dict[tuple[int, int], bytes] = {}
        self.mappings: dict[tuple[int, int], Any] = {}
        self.readable: list[int] = []
        self._answers: dict[str, list[Answer]] = {}
        self._next_fd = 1000

    # -- scripting

    def on(self, name: str, *answers: Answer) -> None:
        """Answers of a system call, one per call; the last one stands for all later ones."""
        self._answers[name] = list(answers)

    def on_bpf(self, command: str, *answers: Answer) -> None:
        """Answers of one bpf(2) command ("BPF_MAP_CREATE"); positive results of commands that make descriptors are tracked."""
        self._answers[f"bpf:{getattr(abi, command)}"] = list(answers)

    def new_fd(self, path: str = "") -> int:
        """A fresh descriptor, as an answer function would return one."""
        self._next_fd += 1
        self.open_fds.add(self._next_fd)
        self.fd_paths[self._next_fd] = path
        return self._next_fd

    def bpf_calls(self, command: str) -> list[Memory]:
        """The attributes of all calls of one command, oldest first."""
        number = getattr(abi, command)
        return [call.args[1] for call in self.calls if call.name == "bpf" and call.args[0] == number]

    # -- Kernel

    def call(self, call: Call) -> int:
        self.calls.append(call)
        key = call.name
        if call.name == "bpf" and f"bpf:{call.args[0]}" in self._answers:
            key = f"bpf:{call.args[0]}"
        answers = self._answers.get(key)
        if not answers:
            return -errno.ENOSYS
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        result = answer(call) if callable(answer) else answer
        if result > 0 and (call.name == "perf_event_open" or (call.name == "bpf" and call.args[0] in _MAKES_FD)):
            self.open_fds.add(result)
        return result

    def read(self, path: str, limit: int = 1 << 26) -> bytes:
        data = self.files.get(path)
        if data is None:
            raise OSError(errno.EISDIR if self._is_folder(path) else errno.ENOENT, "no such file in the fake", path)
        if isinstance(data, OSError):
            raise data
        return data[:limit]

    def write(self, path: str, data: bytes, append: bool = False) -> None:
        old = self.files.get(path)
        if old is None:
            raise OSError(errno.ENOENT, "no such file in the fake", path)
        if isinstance(old, OSError):
            raise old
        self.writes.append((path, bytes(data)))
        self.files[path] = old + data if append else bytes(data)

    def exists(self, path: str) -> bool:
        return path in self.files or self._is_folder(path)

    def listdir(self, path: str) -> list[str]:
        prefix = path.rstrip("/") + "/"
        found = {name[len(prefix) :].partition("/")[0]: None for name in self.files if name.startswith(prefix)}
        if not found:
            raise OSError(errno.ENOTDIR if path in self.files else errno.ENOENT, "no such folder in the fake", path)
        return list(found)

    def open(self, path: str, flags: int = os.O_RDONLY) -> int:
        data = self.files.get(path)
        if data is None and not self._is_folder(path):
            raise OSError(errno.ENOENT, "no such file in the fake", path)
        if isinstance(data, OSError):
            raise data
        return self.new_fd(path)

    def close(self, fd: int) -> None:
        if fd not in self.open_fds:
            raise OSError(errno.EBADF, f"descriptor {fd} is not open")
        self.open_fds.remove(fd)

    def mmap(self, fd: int, length: int, writable: bool = False, offset: int = 0, shared: bool = True) -> Any:
        """Memory that begins with ``memory[fd, offset]``; tests that play the kernel's part find it in ``mappings[fd, offset]``."""
        import mmap

        mapping = mmap.mmap(-1, length)
        contents = self.memory.get((fd, offset), b"")[:length]
        mapping[: len(contents)] = contents
        self.mappings[fd, offset] = mapping
        return mapping

    def poll(self, fds: Sequence[int], timeout_ms: int) -> list[int]:
        return [fd for fd in fds if fd in self.readable]

    def _is_folder(self, path: str) -> bool:
        prefix = path.rstrip("/") + "/"
        return any(name.startswith(prefix) for name in self.files)


_MAKES_FD = frozenset(
    getattr(abi, name)
    for name in (
        "BPF_MAP_CREATE BPF_PROG_LOAD BPF_BTF_LOAD BPF_LINK_CREATE BPF_RAW_TRACEPOINT_OPEN BPF_OBJ_GET BPF_ENABLE_STATS BPF_ITER_CREATE "
        "BPF_MAP_GET_FD_BY_ID BPF_PROG_GET_FD_BY_ID BPF_LINK_GET_FD_BY_ID BPF_BTF_GET_FD_BY_ID"
    ).split()
)


def bpf_field(layout: dict[str, tuple[int, str]], name: str, attribute: Memory) -> Any:
    """An integer or char-array field of a recorded ``union bpf_attr``; the buffer for a pointer field."""
    from struct import unpack_from

    offset, form = layout[name]
    buffer = attribute.at(offset)
    return buffer if buffer is not None else unpack_from(form, attribute.data, offset)[0]
