"""The choke point: how calls are marshalled, and the fake that stands behind it in tests."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

import pytest

from harken.abi.arch import for_machine
from harken.kernel.kernel import Call, LinuxKernel, Memory, live
from harken.testing.fake_kernel import FakeKernel


def test_a_call_fills_a_bytearray() -> None:
    name = bytearray(6 * 65)
    assert live().call(Call("uname", (name,))) == 0
    assert bytes(name).split(b"\0")[0] == b"Linux"


def test_a_refusal_is_a_negative_errno() -> None:
    assert live().call(Call("statfs", (b"/no/such/path\0", bytearray(120)))) == -errno.ENOENT
    assert live().call(Call("read", (-1, bytearray(1), 1))) == -errno.EBADF


def test_calls_that_python_makes_by_itself(tmp_path: Path) -> None:
    kernel = LinuxKernel()
    place = os.fsencode(tmp_path / "place") + b"\0"
    assert kernel.call(Call("mkdirat", (-100, place, 0o750))) == 0 and (tmp_path / "place").is_dir()
    assert kernel.call(Call("mkdirat", (-100, place, 0o750))) == -errno.EEXIST
    assert kernel.call(Call("unlinkat", (-100, place, 0))) in (-errno.EISDIR, -errno.EPERM)
    assert kernel.call(Call("unlinkat", (-100, place, 0x200))) == 0 and not (tmp_path / "place").exists()
    (tmp_path / "link").symlink_to("somewhere")
    room = bytearray(5)
    assert kernel.call(Call("readlinkat", (-100, os.fsencode(tmp_path / "link") + b"\0", room, 5))) == 5 and room == b"somew"
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        room = bytearray(64)
        assert kernel.call(Call("readlinkat", (fd, b"link\0", room, 64))) == 9 and room[:10] == b"somewhere\0"
        assert kernel.call(Call("readlinkat", (fd, b"nothing\0", room, 64))) == -errno.ENOENT
    finally:
        os.close(fd)
    reader, writer = os.pipe()
    assert kernel.call(Call("fcntl", (reader, 1031, 1 << 17))) == 1 << 17
    os.close(reader), os.close(writer)
    assert kernel._syscall is None, "these need no ctypes"


def test_results_are_64_bits_wide() -> None:
    # an address above 4 GiB must come back whole, as must a negative int
    kernel = live()
    address = kernel.call(Call("mmap", (None, 4096, 1, 0x22, -1, 0)))
    assert address > 1 << 32
    assert kernel.call(Call("munmap", (address, 4096))) == 0


def test_pointers_inside_structs(tmp_path: Path) -> None:
    """writev takes an array of (pointer, length), so it shows that nested buffers arrive."""
    fd = os.open(tmp_path / "out", os.O_CREAT | os.O_RDWR)
    try:
        first, second = b"hello ", bytearray(b"world")
        vector = bytearray(32)
        vector[8:16] = len(first).to_bytes(8, "little")
        vector[24:32] = len(second).to_bytes(8, "little")
        memory = Memory(vector, [(0, first), (16, second)])
        assert live().call(Call("writev", (fd, memory, 2))) == 11
        assert os.pread(fd, 20, 0) == b"hello world"
        into = [bytearray(6), bytearray(5)]
        os.lseek(fd, 0, os.SEEK_SET)
        memory = Memory(vector, [(0, into[0]), (16, memoryview(into[1]))])
        assert live().call(Call("readv", (fd, memory, 2))) == 11
        assert into == [b"hello ", b"world"]
    finally:
        os.close(fd)


def test_memory_finds_its_pointees() -> None:
    inner = Memory.array([b"a\0", b"b\0"])
    memory = Memory(bytearray(24), [(8, inner), (16, None)])
    assert memory.at(8) is inner and memory.at(16) is None and memory.at(0) is None
    assert len(inner) == 16 and inner.at(8) == b"b\0" and len(memory) == 24


def test_syscalls_that_a_machine_lacks() -> None:
    kernel = LinuxKernel()
    kernel.machine = "aarch64"
    assert "open" not in for_machine("aarch64").syscalls
    from harken.base.errors import UsageError

    with pytest.raises(UsageError):
        kernel.call(Call("open", (b"/\0", 0)))


def test_files(tmp_path: Path) -> None:
    kernel = live()
    path = str(tmp_path / "file")
    Path(path).write_bytes(b"0123456789" * 20000)
    assert kernel.read(path) == b"0123456789" * 20000
    assert kernel.read(path, 7) == b"0123456"
    kernel.write(path, b"abc")
    kernel.write(path, b"def", append=True)
    assert kernel.read(path) == b"abcdef"
    assert kernel.exists(path) and not kernel.exists(path + "x") and kernel.listdir(str(tmp_path)) == ["file"]
    with pytest.raises(FileNotFoundError):
        kernel.write(path + "x", b"must not create files")
    fd = kernel.open(path)
    assert not os.get_inheritable(fd)
    assert kernel.poll([fd], 0) == [fd]
    kernel.close(fd)


def test_poll_tells_only_the_readable_ones() -> None:
    first, second = os.pipe(), os.pipe()
    try:
        os.write(second[1], b"x")
        assert live().poll([first[0], second[0]], 0) == [second[0]]
    finally:
        for fd in (*first, *second):
            os.close(fd)


def test_the_fake_answers_in_order_and_records() -> None:
    kernel = FakeKernel(files={"/proc/x": "text", "/proc/secret": PermissionError(13, "no")})
    kernel.on("ioctl", -errno.EBUSY, 0)
    assert [kernel.call(Call("ioctl", (1,))) for _ in range(3)] == [-errno.EBUSY, 0, 0]
    assert kernel.call(Call("mount")) == -errno.ENOSYS
    assert [call.name for call in kernel.calls] == ["ioctl", "ioctl", "ioctl", "mount"]
    assert kernel.listdir("/proc") == ["x", "secret"] and kernel.exists("/proc") and not kernel.exists("/pro")
    with pytest.raises(PermissionError):
        kernel.read("/proc/secret")
    with pytest.raises(FileNotFoundError):
        kernel.write("/proc/new", b"")
    kernel.write("/proc/x", b"1")
    kernel.write("/proc/x", b"2", append=True)
    assert kernel.read("/proc/x") == b"12" and kernel.writes == [("/proc/x", b"1"), ("/proc/x", b"2")]
    fd = kernel.open("/proc/x")
    kernel.readable = [fd]
    assert kernel.poll([fd, 5], -1) == [fd] and kernel.open_fds == {fd}
    kernel.close(fd)
    with pytest.raises(OSError):
        kernel.close(fd)


def test_the_fakes_memory_is_shared_with_the_test() -> None:
    kernel = FakeKernel()
    kernel.memory[7, 4096] = b"abc"
    mapping = kernel.mmap(7, 8192, offset=4096)
    assert bytes(mapping[:4]) == b"abc\0"
    kernel.mappings[7, 4096][0:1] = b"X"
    assert bytes(mapping[:3]) == b"Xbc"
    mapping.close()


@pytest.mark.parametrize("kept", [23, 24, 4096, 5_000_000])
def test_types_that_were_cut_are_told_as_such(tmp_path: Path, kept: int) -> None:
    """Whatever the header promises, a file cannot be mapped beyond its end."""
    from harken.base.errors import FormatError
    from harken.kernel.btf import indexed_types

    path = tmp_path / "cut"
    header = struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, 4_500_000, 4_500_000, 1_000_000)
    path.write_bytes((header + bytes(kept))[:kept])
    with pytest.raises(OSError, match="length"), path.open("rb") as file:
        live().mmap(file.fileno(), 5_500_024)
    with pytest.raises(FormatError, match="cut: "):
        indexed_types(live(), str(path), path.read_bytes()[: 1 << 16])
