"""What all tests share: skips with a reason, and checks that nothing is left behind.

Markers (beside pytest's own):

- ``kernel``: needs root and a kernel that may be traced; also run in the guests of ``--vm``
- ``needs("kprobe_multi", ...)``: features that ``harken.kernel.features`` must find; else the test is skipped with the reason found
- ``program("bpftrace", ...)``: programs that must be installed
- ``oracle``: compares with an installed peer
- ``keeps_fds``: the test leaves file descriptors open on purpose
"""

from __future__ import annotations

import gc
import os
import shutil
import struct
import tempfile
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest_plugins = () if "HARKEN_GUEST" in os.environ else ("harken.testing.pytest_plugin", "pytester")

_BPF_PROG_GET_NEXT_ID, _BPF_MAP_GET_NEXT_ID = 11, 12
_DYNAMIC_EVENTS = ("kprobe_events", "uprobe_events", "dynamic_events")
_TRACEFS = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")


def pytest_configure(config: pytest.Config) -> None:
    for line in (
        "kernel: needs root and a real kernel; also run in the guests of --vm",
        "needs(*features): skipped where harken.kernel.features does not find them",
        "program(*names): skipped where these programs are not installed",
        "oracle: holds output against an installed peer",
        "keeps_fds: leaves file descriptors open on purpose",
    ):
        config.addinivalue_line("markers", line)
    if "HARKEN_CACHE" not in os.environ:  # what is cached by the user's own runs must not decide a test
        os.environ["HARKEN_CACHE"] = folder = tempfile.mkdtemp(prefix="harken-test-cache-")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("kernel") and os.geteuid() != 0 and type(item).__name__ != "VmItem":
        pytest.skip("kernel tests need root")
    for marker in item.iter_markers("program"):
        for name in marker.args:
            if shutil.which(name) is None:
                pytest.skip(f"{name} is not installed")
    for marker in item.iter_markers("needs"):
        for name in marker.args:
            answer = _features().answer(name)
            if answer.state != "yes":
                pytest.skip(f"{name}: {answer.state}: {answer.reason}")


def _features() -> Any:
    global _known_features
    if _known_features is None:
        from harken.kernel.features import Features
        from harken.kernel.kernel import live

        _known_features = Features(live())
    return _known_features


_known_features: Any = None


def _open_fds() -> dict[int, str]:
    """This process's descriptors and what they refer to."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the directory's own, closed by now
    return found


def _describe_fd(fd: int, target: str) -> str:
    try:
        with open(f"/proc/self/fdinfo/{fd}") as file:
            details = [
                line.split() for line in file if line.startswith(("prog_id", "map_id", "link_id", "prog_type", "map_type", "btf_id"))
            ]
    except OSError:
        details = []
    return f"fd {fd}: {target} " + " ".join(f"{words[0]}{words[1]}" for words in details if len(words) > 1)


@pytest.fixture(autouse=True)
def _no_fd_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that leaves descriptors open, and names them."""
    before = _open_fds()
    yield
    if request.node.get_closest_marker("keeps_fds"):
        return
    leaked = _new_fds(before)
    if leaked:
        gc.collect()  # what only a reference cycle kept alive is not a leak
        leaked = _new_fds(before)
    if leaked:
        pytest.fail(
            "file descriptors left open:\n" + "\n".join(_describe_fd(fd, target) for fd, target in sorted(leaked.items())), pytrace=False
        )


def _new_fds(before: dict[int, str]) -> dict[int, str]:
    """Descriptors that came since, except those of mapped files: Python's mmap holds a duplicate, and a catalogue that several tests share
    maps the files that it reads when it first needs them."""
    new = {fd: target for fd, target in _open_fds().items() if before.get(fd) != target}
    if new:
        with open("/proc/self/maps") as file:
            mapped = {line.split(maxsplit=5)[5].strip() for line in file if line.count("/")}
        new = {fd: target for fd, target in new.items() if target not in mapped or target.startswith(("/dev/", "anon_inode:"))}
    return new


def _bpf_ids(command: int) -> set[int]:
    """The ids of all loaded BPF programs or maps."""
    from harken.kernel.kernel import Call, live

    kernel, found, last = live(), set(), 0
    while True:
        attributes = bytearray(struct.pack("<III", last, 0, 0).ljust(128, b"\0"))
        if kernel.call(Call("bpf", (command, attributes, len(attributes)))) < 0:
            return found
        last = struct.unpack_from("<I", attributes, 4)[0]
        found.add(last)


def _held_ids(key: str) -> set[int]:
    """The ids of BPF objects that some process has a descriptor of."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            for fd in os.listdir(f"/proc/{pid}/fdinfo"):
                with open(f"/proc/{pid}/fdinfo/{fd}") as file:
                    found |= {int(line.split()[1]) for line in file if line.startswith(key + ":")}
        except OSError:
            continue
    return found


def _dynamic_events() -> set[str]:
    found = set()
    for root in _TRACEFS:
        for name in _DYNAMIC_EVENTS:
            try:
                with open(f"{root}/{name}") as file:
                    found |= {line.strip() for line in file}
            except OSError:
                continue
    return found


def _left_behind(programs: set[int], maps: set[int], events: set[str]) -> list[str]:
    """New kernel objects without an owner.  Another process may load programs meanwhile: those have an owner, so they do not count;
    dynamic events count if they carry this process's id, or if nobody else can have made them."""
    problems = []
    for what, command, key, before in (
        ("BPF program", _BPF_PROG_GET_NEXT_ID, "prog_id", programs),
        ("BPF map", _BPF_MAP_GET_NEXT_ID, "map_id", maps),
    ):
        new = _bpf_ids(command) - before
        if new:
            new -= _held_ids(key)
            problems += [f"{what} {number} is still loaded and no process has it open" for number in sorted(new & _bpf_ids(command))]
    alone = "HARKEN_GUEST" in os.environ
    problems += [f"dynamic event: {line}" for line in sorted(_dynamic_events() - events) if alone or str(os.getpid()) in line]
    return problems


@pytest.fixture(scope="session", autouse=True)
def _nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails the session's last test if the session leaves BPF objects or dynamic events in the kernel."""
    watched = os.geteuid() == 0 and any(item.get_closest_marker("kernel") for item in request.session.items)
    if not watched:
        yield
        return
    before = _bpf_ids(_BPF_PROG_GET_NEXT_ID), _bpf_ids(_BPF_MAP_GET_NEXT_ID), _dynamic_events()
    yield
    gc.collect()
    problems: list[str] = []
    for _attempt in range(20):  # the kernel frees objects some time after their last user has gone
        problems = _left_behind(*before)
        if not problems:
            return
        time.sleep(0.25)
    pytest.fail("left behind in the kernel by this session:\n" + "\n".join(problems), pytrace=False)
