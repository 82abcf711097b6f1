"""What runs inside a guest: reads the job, does it in this one process, and tells the host line by line.

The second serial line carries one JSON object per line to the host::

    {"event": "up", "release": "6.1.0-44-amd64", "seconds": 9.1}
    {"event": "start", "test": "tests/kernel/test_ring.py::test_order"}     for pytest jobs
    {"event": "report", ...}                                               one of pytest's own reports, made plain
    {"event": "output", "stream": "stdout", "text": "..."}                 for commands
    {"event": "file", "path": "/tmp/x", "data": "<base64>"}
    {"event": "done", "status": 0}

Kernel messages go to the first serial line, which the host keeps as the console log.
"""

from __future__ import annotations

import json
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("Channel", "main")


class Channel:
    """The serial line to the host, in raw mode (no translation of newlines)."""

    def __init__(self, path: str) -> None:
        import termios

        self._fd = os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
        settings = termios.tcgetattr(self._fd)
        settings[1] &= ~termios.OPOST
        settings[4] = settings[5] = termios.B4000000
        termios.tcsetattr(self._fd, termios.TCSANOW, settings)
        self._drain = termios.tcdrain

    def send(self, event: str, **fields: Any) -> None:
        """One line; returns when the kernel has taken it."""
        data = (json.dumps({"event": event, **fields}) + "\n").encode()
        while data:
            data = data[os.write(self._fd, data) :]

    def close(self) -> None:
        self._drain(self._fd)
        os.close(self._fd)


def _run_command(channel: Channel, argv: list[str], directory: str, timeout: float) -> int:
    """Runs a command and forwards both of its streams as they come."""
    import select
    import subprocess

    try:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=directory)
    except OSError as error:
        channel.send("output", stream="stderr", text=f"{argv[0]}: {error.strerror}\n")
        return 127
    assert process.stdout is not None and process.stderr is not None
    streams = {process.stdout.fileno(): "stdout", process.stderr.fileno(): "stderr"}
    poller = select.poll()
    for fd in streams:
        poller.register(fd, select.POLLIN)
    deadline = time.monotonic() + timeout
    while streams and time.monotonic() < deadline:
        for fd, _events in poller.poll(500):
            data = os.read(fd, 1 << 16)
            if data:
                channel.send("output", stream=streams[fd], text=data.decode("utf-8", "surrogateescape"))
            else:
                poller.unregister(fd)
                del streams[fd]
        if process.poll() is not None and not poller.poll(0):
            break
    if process.poll() is None and time.monotonic() >= deadline:
        process.kill()
        channel.send("output", stream="stderr", text=f"{argv[0]}: killed after {timeout:.0f} seconds\n")
    return process.wait()


def main() -> int:
    """Does the job of ``/harken/job.json``; returns the status that goes to the host with "done"."""
    import base64

    with open("/harken/job.json") as file:
        job = json.load(file)
    with open("/proc/uptime") as file:
        uptime = float(file.read().split()[0])
    channel = Channel(job["channel"])
    channel.send("up", release=os.uname().release, seconds=uptime)
    status = 1
    try:
        if job["kind"] == "pytest":
            from . import pytest_plugin_guest

            status = pytest_plugin_guest.run(channel, job)
        else:
            for argv in job["commands"]:
                status = _run_command(channel, argv, job["directory"], job["timeout"])
                channel.send("command", status=status)
        for path in job.get("collect", ()):
            try:
                with open(path, "rb") as collected:
                    channel.send("file", path=path, data=base64.b64encode(collected.read()).decode())
            except OSError as error:
                channel.send("file", path=path, error=error.strerror)
    except BaseException as error:
        import traceback

        channel.send("error", text="".join(traceback.format_exception(error)))
    channel.send("done", status=status)
    channel.close()
    return status


if __name__ == "__main__":
    sys.exit(main())
