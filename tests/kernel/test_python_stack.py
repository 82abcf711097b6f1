"""Python stacks of a child of this interpreter, and of its other threads."""

from __future__ import annotations

import _thread
import ast
import os
import select
import sys

import pytest

from harken.kernel.kernel import live
from harken.symbols.processes import Processes
from harken.symbols.python_runtime import find_runtime
from harken.symbols.python_stack import PythonStacks

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(sys.implementation.name != "cpython" or sys.version_info >= (3, 16), reason="no layout for this interpreter"),
]


def shown(frame) -> list[tuple[str, str, int]]:
    found = []
    while frame is not None:
        found.append((frame.f_code.co_qualname, frame.f_code.co_filename, frame.f_lineno))
        frame = frame.f_back
    return found


def wait_for(end: int, expected: list[tuple[str, str, int]]) -> None:
    """Tells the parent where it is, and stays there."""
    expected += shown(sys._getframe())
    os.write(end, repr(expected).encode() + b"\n")
    while True:
        select.select([], [], [])


def test_a_stack_is_the_one_that_python_shows() -> None:
    kernel = live()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            sorted([2, 1], key=lambda number: wait_for(writer, []))
        finally:
            os._exit(1)
    try:
        text = b""
        while not text.endswith(b"\n"):
            text += os.read(reader, 1 << 16)
        theirs = ast.literal_eval(text.decode())
        line = wait_for.__code__.co_firstlineno
        with Processes(kernel) as processes:
            stacks = PythonStacks(kernel, processes)
            runtime = find_runtime(kernel, pid, processes)
            assert runtime is not None and runtime.version == sys.version_info[:2]
            for _ in range(1000):  # until it waits
                thread = stacks.thread(pid, pid)
                assert thread is not None
                found = [(frame.name, frame.file, frame.line) for frame in thread.frames]
                if found and found[0][2] == line + 5:
                    break
        assert found[0] == ("wait_for", wait_for.__code__.co_filename, line + 5)
        assert found[1:] == theirs[1:]
        # sorted() called back: a native frame of its own
        assert [frame.name.rpartition(".")[2] for frame in thread.groups[0]] == ["wait_for", "<lambda>"]
        assert thread.whole and thread.groups[1][0].name == "test_a_stack_is_the_one_that_python_shows"
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(reader)
        os.close(writer)


def test_other_threads_are_found_by_number() -> None:
    kernel = live()
    started, finish = _thread.allocate_lock(), _thread.allocate_lock()
    started.acquire()
    finish.acquire()
    numbers = []

    def wartend() -> None:
        numbers.append(_thread.get_native_id())
        started.release()
        finish.acquire()
        numbers.append(0)

    _thread.start_new_thread(wartend, ())
    started.acquire()
    try:
        with Processes(kernel) as processes:
            stacks = PythonStacks(kernel, processes)
            for _ in range(1000):  # until it waits
                stack = stacks.stack(os.getpid(), numbers[0])
                if stack and stack[0].line == wartend.__code__.co_firstlineno + 3:
                    break
            assert [(frame.name.rpartition(".")[2], frame.line) for frame in stack] == [("wartend", wartend.__code__.co_firstlineno + 3)]
            process = stacks.process(os.getpid())
            assert process is not None
            assert {numbers[0], _thread.get_native_id()} <= {thread.tid for thread in process.threads()}
            assert stacks.stack(os.getpid(), 1) == []
    finally:
        finish.release()
        while len(numbers) < 2:
            pass


def test_what_runs_no_python_has_no_python_stack() -> None:
    kernel = live()
    pid = os.fork()
    if pid == 0:
        os.execv("/bin/sleep", ["sleep", "60"])
    try:
        with Processes(kernel) as processes:
            while os.readlink(f"/proc/{pid}/exe") == os.readlink("/proc/self/exe"):
                pass
            assert PythonStacks(kernel, processes).process(pid) is None
            assert PythonStacks(kernel, processes).stack(1 << 22, 1 << 22) == []
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
