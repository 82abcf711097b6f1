"""pytest plugin: runs the tests marked ``kernel`` under other kernels too, as items of the same session.

Load it with ``-p harken.testing.pytest_plugin`` or in the topmost ``conftest.py``::

    pytest_plugins = ("harken.testing.pytest_plugin",)

Then ``pytest --vm 6.1 --vm 6.12`` runs every selected test that is marked ``kernel`` three times: here, and in a guest of each kernel.
``tests/kernel/test_ring.py::test_order`` appears as itself and as ``tests/kernel/test_ring.py::test_order[6.1]`` and ``...[6.12]``,
with the outcome, message, captured output and duration it had in the guest.  ``--vm-only`` leaves the host's own run out.

Each kernel is booted once and runs all its tests in one process, while the host goes on with its own tests; guests follow one
another, or run side by side with ``--vm-jobs``.
When a guest dies or hangs in a test, that test fails with the end of the console log, and the rest runs after a new boot.

Options of the configuration file: ``vm_packages`` and ``vm_programs`` (what else a guest needs of the host, see `harken.testing.vm.Vm`),
``vm_files`` (patterns of files and folders, relative to the project's root, that a guest gets if they are there) and
``vm_patience`` (seconds that one test may take in a guest; default 120).
"""

from __future__ import annotations

import glob
import importlib.util
import os
import shutil
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from . import second_try
from .kernels import VmError, find
from .vm import BOOT_TIMEOUT, Guest, job_image
from .vm_machines import this_machine

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("VmItem",)

_PYTEST_PACKAGES = ("pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments", "py", "exceptiongroup", "tomli")
"""What pytest imports; which of the last ones exist depends on its version."""
_MAX_BOOTS = 4


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("harken", "test kernels")
    group.addoption(
        "--vm", action="append", default=[], metavar="RELEASE", help="run kernel tests under this kernel too (6.1, 6.12, newest)"
    )
    group.addoption("--vm-only", action="store_true", help="run kernel tests only in the guests of --vm, and no others")
    group.addoption("--vm-jobs", type=int, default=1, metavar="N", help="run N guests at a time (default: 1; one needs one CPU)")
    group.addoption("--vm-logs", metavar="DIR", help="keep the guests' console logs there (always kept after a failure)")
    parser.addini("vm_packages", "Python packages that guests need", type="args", default=[])
    parser.addini("vm_programs", "programs that guests need", type="args", default=[])
    parser.addini("vm_files", "patterns of files and folders that guests get, where they are there", type="args", default=[])
    parser.addini("vm_patience", "seconds that one test may take in a guest", default="120")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "kernel: needs root and a real kernel; also run in the guests of --vm")
    config.pluginmanager.register(second_try, "harken-second-try")
    if config.getoption("vm") and not config.option.collectonly:
        config.pluginmanager.register(_Guests(config), "harken-guests")


class VmItem(pytest.Item):
    """One test in one guest.  It runs nothing itself: its reports are the guest's."""

    def __init__(self, *, original: pytest.Item, release: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.original, self.release = original.nodeid, release
        self.reports: dict[str, pytest.TestReport] = {}
        self._location = original.location
        self.add_marker(pytest.mark.timeout(0))  # waiting for the guest is not this test's time

    def reportinfo(self) -> tuple[str, int | None, str]:
        return self._location[0], self._location[1], self.name

    def setup(self) -> None:
        guests = self.config.pluginmanager.get_plugin("harken-guests")
        if guests is not None:
            self.reports = guests.wait(self)

    def runtest(self) -> None:
        """Nothing: the guest ran it."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> pytest.TestReport | None:
    if not isinstance(item, VmItem) or call.excinfo is not None or call.when == "collect":
        return None
    report = item.reports.get(call.when)
    if report is None:
        report = pytest.TestReport(item.nodeid, item.location, {}, "passed", None, call.when)
    report.nodeid, report.location = item.nodeid, item.location
    return report


def _with_release(name: str, release: str) -> str:
    """The test's name in the host's summary: the release becomes a parameter.

    >>> _with_release("test_order", "6.1"), _with_release("test_order[perf]", "6.1")
    ('test_order[6.1]', 'test_order[perf-6.1]')
    """
    label = release.rsplit("/", 1)[-1]
    return f"{name[:-1]}-{label}]" if name.endswith("]") else f"{name}[{label}]"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    releases = config.getoption("vm")
    chosen = [item for item in items if item.get_closest_marker("kernel")]
    if config.getoption("vm_only"):
        items[:] = []
    for release in releases:
        for item in chosen:
            name = _with_release(item.name, release)
            items.append(
                VmItem.from_parent(
                    session, name=name, nodeid=item.nodeid[: len(item.nodeid) - len(item.name)] + name, original=item, release=release
                )
            )


class _Run:
    """The tests of one release: boots a guest, keeps its reports, boots again for what a dead guest left undone."""

    def __init__(self, config: pytest.Config, release: str, items: list[VmItem], directory: Path) -> None:
        self.config, self.release, self.directory = config, release, directory
        self.items = {item.original: item for item in items}
        self.remaining = deque(self.items)
        self.reports: dict[str, dict[str, pytest.TestReport]] = {}
        self.finished: set[str] = set()
        self.boots, self.up_after, self.seconds = 0, 0.0, 0.0
        self.failure = ""
        self.version = release
        self._current = ""
        self._heard = 0.0
        self._guest: Guest | None = None
        self._begun = 0.0
        self._problem = ""
        #: tests in which a guest hung, and why that was thought
        self._interrupted: dict[str, str] = {}
        self._patience = float(config.getini("vm_patience"))

    @property
    def over(self) -> bool:
        return not self.remaining and self._guest is None

    @property
    def started(self) -> bool:
        return self.boots > 0

    def start(self) -> None:
        """Boots a guest for the tests that have no result yet."""
        self.boots += 1
        self._begun = self._begun or time.monotonic()
        try:
            self._guest = self._boot(list(self.remaining))
            self._guest.start()
        except VmError as error:
            self._guest = None
            self._give_up(f"{error}\n{error.hint}")
        self._heard = time.monotonic()

    def _boot(self, tests: list[str]) -> Guest:
        config, root = self.config, self.config.rootpath
        kernel = find(self.release)
        self.version = kernel.version
        folders = {(root / test.split("::", 1)[0]).parent for test in tests}
        trees = {f"/harken/{folder.relative_to(root)}": folder for folder in folders - {root}}
        files: dict[str, bytes | Path] = {}
        for folder in {above for inner in folders for above in (inner, *inner.parents) if above.is_relative_to(root)}:
            for path in folder.glob("conftest.py" if folder == root and folder not in folders else "*.py"):
                files[f"/harken/{path.relative_to(root)}"] = path
        for pattern in config.getini("vm_files"):
            for path in map(Path, sorted(glob.glob(str(root / pattern)))):
                guest = f"/harken/{path.relative_to(root)}" if path.is_relative_to(root) else str(path)
                if path.is_dir():
                    trees[guest] = path
                else:
                    files[guest] = path
        markers = "".join(f"    {line}\n" for line in config.getini("markers"))
        files["/harken/pytest.ini"] = f"[pytest]\nmarkers =\n{markers}".encode()
        timeout = 300.0 + BOOT_TIMEOUT + 30.0 * len(tests)
        job = {"kind": "pytest", "tests": tests, "patience": self._patience, "options": []}
        image = job_image(
            kernel,
            job,
            files=files,
            trees=trees,
            # tests skip without a peer; those installed here are of this machine
            programs=[name for name in config.getini("vm_programs") if shutil.which(name)] if kernel.machine == this_machine() else (),
            timeout=timeout,
        )
        folder = self.directory / f"{self.release.replace('/', '_')}.{self.boots}"
        folder.mkdir(parents=True, exist_ok=True)
        packages = [name for name in _PYTEST_PACKAGES if importlib.util.find_spec(name)]
        return Guest(kernel, image, folder, packages=(*packages, *config.getini("vm_packages")), timeout=timeout)

    def poll(self) -> None:
        """Takes what the guest has said."""
        guest = self._guest
        if guest is None:
            return
        for message in guest.poll():
            self._heard = time.monotonic()
            self._take(message)
        self.up_after = guest.up_after or self.up_after
        self.seconds = time.monotonic() - self._begun
        silent = time.monotonic() - self._heard
        if guest.state == "up" and silent > 2 * self._patience + 60:
            guest.stop()
            self._end(guest, f"the guest hung: nothing was heard from it for {silent:.0f} seconds", hung=True)
        elif guest.state == "done" and not self._problem and self._current == "":
            self._guest = None
            for name in list(self.remaining):  # such as parameters that depend on the machine
                self._settle(
                    name, "setup", "skipped", (name.split("::", 1)[0], 0, f"Skipped: not collected in the guest with {self.version}")
                )
        elif guest.state == "done":
            self._end(guest, self._problem or "the guest ended early")
        elif guest.state == "dead":
            self._end(guest, "the guest died" if guest.up_after else f"the guest did not come up in {guest.tries} tries")

    def _take(self, message: dict[str, Any]) -> None:
        event = message["event"]
        if event == "start":
            self._current = message["test"]
        elif event == "report":
            data = message["data"]
            if isinstance(data.get("longrepr"), list):
                path, line, reason = data["longrepr"]
                data["longrepr"] = (path.replace("/harken/", f"{self.config.rootpath}/", 1), line, reason)
            report = pytest.TestReport._from_json(data)
            name = report.nodeid
            if report.when == "call" and name in self._interrupted:
                report.user_properties.append((second_try.FIRST_TRY, self._interrupted[name]))
            self.reports.setdefault(name, {})[str(report.when)] = report
            if report.when == "teardown":
                self.finished.add(name)
                if name in self.remaining:
                    self.remaining.remove(name)
                self._current = ""
        elif event in ("collect_failed", "error"):
            self._problem += message["text"] + "\n"

    def _end(self, guest: Guest, reason: str, hung: bool = False) -> None:
        """The guest is gone: the test it was in failed; what is left runs in a new one, unless booting makes no sense.

        A test in which an emulated machine hangs (it may come to do nothing but handle its own timer) has a second try, as others have.
        """
        self._guest = None
        if not self.remaining:
            return
        log = f"{reason}\n\nend of the console of {self.version}:\n{guest.log_tail()}"
        self.failure = f"{reason.strip().splitlines()[-1]}; console log: {guest.console}"
        if guest.state == "done" or not guest.up_after or not self._current or self.boots >= _MAX_BOOTS:
            self._give_up(log)
        else:
            if hung and self._current not in self._interrupted:
                self._interrupted[self._current] = reason
                self._current = ""
            else:
                self._fail(self._current, log)
            self.start()

    def _fail(self, name: str, text: str) -> None:
        self._settle(name, "call", "failed", text)

    def _settle(self, name: str, when: Any, outcome: Any, longrepr: Any) -> None:
        """A result that the guest did not give."""
        item = self.items[name]
        self.reports[name] = {when: pytest.TestReport(item.nodeid, item.location, {}, outcome, longrepr, when)}
        self.finished.add(name)
        self.remaining.remove(name)
        self._current = ""

    def _give_up(self, text: str) -> None:
        self.failure = self.failure or text.splitlines()[0]
        for name in list(self.remaining):
            self._fail(name, text)
            text = f"not run: {self.failure}"

    def stop(self) -> None:
        if self._guest is not None:
            self._guest.stop()
            self._guest = None


class _Guests:
    """All releases: as many guests at a time as were asked for."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._runs: dict[str, _Run] = {}
        self._jobs = config.getoption("vm_jobs")
        logs = config.getoption("vm_logs")
        self._directory = Path(logs) if logs else Path(tempfile.mkdtemp(prefix="harken-guests-"))
        self._keep = bool(logs)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Iterator[Any]:
        for item in session.items:
            if isinstance(item, VmItem) and item.release not in self._runs:
                chosen = [other for other in session.items if isinstance(other, VmItem) and other.release == item.release]
                self._runs[item.release] = _Run(self._config, item.release, chosen, self._directory)
        self._advance()
        try:
            result = yield
            self._let_end()
            return result
        finally:
            for run in self._runs.values():
                run.stop()

    def _let_end(self, patience: float = 15.0) -> None:
        """All results are there; guests that are powering off may finish."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and any(run.started and not run.remaining and not run.over for run in self._runs.values()):
            self._advance()
            time.sleep(0.05)

    def pytest_runtest_logfinish(self) -> None:
        self._advance()

    def _advance(self) -> None:
        active = 0
        for run in self._runs.values():
            if run.over:
                continue
            if not run.started:
                run.start()
            run.poll()
            active += not run.over
            if active >= self._jobs:
                return

    def wait(self, item: VmItem) -> dict[str, pytest.TestReport]:
        """The reports of a test, as soon as the guest has finished it."""
        run = self._runs[item.release]
        while item.original not in run.finished:
            self._advance()
            if item.original not in run.finished:
                time.sleep(0.05)
        return run.reports[item.original]

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        for run in self._runs.values():
            line = f"guest {run.release} ({run.version}): {len(run.items)} tests, up after {run.up_after:.0f} s, {run.seconds:.0f} s in all"
            if run.boots > 1:
                line += f", {run.boots} boots"
            if run.failure:
                self._keep = True
                line += f"; {run.failure}"
            terminalreporter.write_line(line)

    def pytest_unconfigure(self) -> None:
        for run in self._runs.values():
            run.stop()
        for big in self._directory.glob("*/initrd"):
            os.unlink(big)
        if not self._keep:
            shutil.rmtree(self._directory, ignore_errors=True)
