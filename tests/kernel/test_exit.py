"""exit() ends a program's work at once: what other probes see until everything is detached does not count."""

from __future__ import annotations

import os
import threading

import pytest

from harken.session.api import trace

pytestmark = [pytest.mark.kernel, pytest.mark.needs("tracepoint_perf")]


def test_nothing_counts_after_exit():
    program = "tracepoint:syscalls:sys_enter_getppid /pid == $1/ { @n++; if (@n == 5) { exit(3); } } END { @end = 1; }"
    stop = threading.Event()

    def call():
        while not stop.is_set():
            os.getppid()

    thread = threading.Thread(target=call)
    with trace(program, params=(str(os.getpid()),), duration=30) as session:
        thread.start()
        for _ in session:
            pass
        stop.set()
        thread.join()
    assert (session.maps["@n"], session.maps["@end"]) == (5, 1)
    assert session.exit_code == 3
