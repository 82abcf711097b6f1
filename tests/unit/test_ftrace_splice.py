"""Pages that move from a CPU's raw file into a recording, by the accelerator and in Python: a FIFO stands for the raw file."""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import time

import pytest

from harken.base.errors import KernelError
from harken.kernel.ftrace_splice import PageStream
from harken.kernel.kernel import live
from harken.native import library
from harken.native import record as native

PAGE = 4096
START, TABLE = 1 << 20, 128


class _Trace:
    """A buffer whose raw file is a FIFO."""

    def __init__(self, folder, page=PAGE):
        self.kernel, self.page_size, self.tracefs, self.folder = live(), page, self, folder

    def path(self, file):
        return str(self.folder / file.replace("/", "_"))


@pytest.fixture(params=["module", "ctypes", "python"])
def way(request, monkeypatch):
    if request.param == "python":
        monkeypatch.setattr(native, "moving", lambda: None)
        return request.param
    loop = native._module() if request.param == "module" else native._library()
    if loop is None:
        pytest.skip("the accelerator was not built" + ", or without the headers of Python" * (library() is not None))
    monkeypatch.setattr(native, "_found", [loop])
    return request.param


@pytest.fixture
def moved(tmp_path, way):
    """(what writes into the raw file, a function that starts the loop, the stream, the recording's descriptor)."""
    made = []

    def make(keep=0, page=PAGE, target=None):
        trace = _Trace(tmp_path, page)
        os.mkfifo(trace.path("per_cpu/cpu0/trace_pipe_raw"))
        fd = os.open(tmp_path / "trace.dat", os.O_RDWR | os.O_CREAT) if target is None else os.open(target, os.O_RDWR)
        stream = PageStream(trace, "", 0, fd, START, table=TABLE, keep=keep)
        writer = os.open(trace.path("per_cpu/cpu0/trace_pipe_raw"), os.O_WRONLY)
        made.extend([fd, writer])
        return stream, writer, fd

    yield make
    for fd in made:
        os.close(fd)


class _Loop:
    """The loop in a thread, as a recorder runs it."""

    def __init__(self, stream):
        self.error = None
        self._ended, self._end = os.pipe()
        ready, tell = os.pipe()
        self._thread = threading.Thread(target=self._run, args=(stream, tell), daemon=True)
        self._thread.start()
        assert os.read(ready, 9) == b"x"
        os.close(ready)
        os.close(tell)

    def _run(self, stream, tell):
        try:
            stream.serve(50, self._ended, tell)
        except Exception as error:
            self.error = error

    def stop(self):
        os.write(self._end, b"x")
        _ended(self._thread)
        os.close(self._end)
        os.close(self._ended)


def _ended(thread):
    thread.join(60)
    assert not thread.is_alive(), "the loop does not end"


def _until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "the loop does not do what it should"
        os.sched_yield()


def _table(fd):
    """(where the region's data begin, how many bytes there are), as the file says."""
    return struct.unpack("=QQ", os.pread(fd, 16, TABLE).ljust(16, b"\0"))


def test_pages_arrive_in_their_order_and_the_table_says_so(moved):
    stream, writer, fd = moved()
    loop = _Loop(stream)
    data = b"".join(bytes([number % 251]) * PAGE for number in range(300))
    for at in range(0, len(data), 3 * PAGE):
        os.write(writer, data[at : at + 3 * PAGE])
    _until(lambda: stream.size == len(data))
    _until(lambda: _table(fd) == (START, len(data)))
    loop.stop()
    assert loop.error is None and os.pread(fd, len(data) + 1, START) == data
    stream.close()


def test_the_last_bytes_are_kept(moved):
    stream, writer, fd = moved(keep=1 << 20)
    loop = _Loop(stream)
    total = 5 << 20
    for number in range(total >> 16):
        os.write(writer, bytes([number]) * (1 << 16))
    _until(lambda: stream.size == total)
    _until(lambda: sum(_table(fd)) == START + total)
    loop.stop()
    start, size = _table(fd)
    assert 1 << 20 <= size < 2 << 20 and start % PAGE == 0
    assert os.pread(fd, size, start) == b"".join(bytes([number]) * (1 << 16) for number in range(total >> 16))[-size:]
    assert os.pread(fd, 16, START) == bytes(16)  # its room was given back
    stream.close()


def test_a_cpu_that_is_never_done_is_in_the_table(moved, tmp_path):
    """/dev/zero always has more, so the loop never waits; what it has moved is told of all the same, and only the last bytes are kept."""
    stream, _, fd = moved(keep=1 << 20)
    zero, empty = os.open("/dev/zero", os.O_RDONLY), os.dup(stream.fd)
    os.dup2(zero, stream.fd)
    ready, tell = os.pipe()
    ended, end = os.pipe()
    thread = threading.Thread(target=stream.serve, args=(50, ended, tell), daemon=True)
    thread.start()
    _until(lambda: sum(_table(fd)) > START + (6 << 20))
    assert _table(fd)[0] > START
    os.write(end, b"x")
    os.dup2(empty, stream.fd)
    _ended(thread)
    for other in (zero, empty, ready, tell, ended, end):
        os.close(other)
    stream.close()


def test_a_full_disk_is_the_files_fault(moved):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    stream, writer, _ = moved(target="/dev/full")
    loop = _Loop(stream)
    os.write(writer, bytes(PAGE))
    _ended(loop._thread)
    assert isinstance(loop.error, OSError) and not isinstance(loop.error, KernelError)
    loop.stop()
    stream.close()


def test_a_buffer_that_cannot_be_read_is_told(moved, tmp_path):
    stream, _, _ = moved()
    folder = os.open(tmp_path, os.O_RDONLY)  # which cannot be spliced
    os.dup2(folder, stream.fd)
    os.close(folder)
    ready, tell = os.pipe()
    with pytest.raises(KernelError, match="cannot read the buffer of CPU 0"):
        stream.serve(50, ready, tell)
    assert os.read(ready, 9) == b"x"  # nobody waits for ever
    stream.close()
    os.close(ready)
    os.close(tell)


@pytest.mark.parametrize("page", [PAGE, 128 << 10, 512 << 10])
def test_a_pipe_holds_a_page_at_least(moved, page):
    """The kernel splices whole pages only (EINVAL if there is no room for one)."""
    stream, _, _ = moved(page=page)
    assert stream._settings["room"] >= page and fcntl.fcntl(stream._settings["reader"], fcntl.F_GETPIPE_SZ) >= page
    stream.close()


@pytest.mark.parametrize("state, error", [(bytearray(8), ValueError), (bytes(8 * len(native.FIELDS)), BufferError), (7, TypeError)])
def test_the_module_takes_nothing_but_the_state_of_a_stream(state, error):
    move = native._module()
    if move is None:
        pytest.skip("the accelerator was not built, or without the headers of Python")
    with pytest.raises(error):
        move(state)
    with pytest.raises(ValueError):
        move(memoryview(bytearray(8 * len(native.FIELDS) + 1))[1:])
