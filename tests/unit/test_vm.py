"""Guests without booting one: the image's bytes, the choice of kernels, and the pytest plugin over a scripted guest."""

from __future__ import annotations

import importlib.util
import json
import marshal
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from harken.testing import kernels, pytest_plugin, vm, vm_image, vm_machines, vm_userland
from harken.testing.elf_builder import ElfBuilder


class Entry(NamedTuple):
    mode: int
    mtime: int
    device: tuple[int, int]
    data: bytes


def cpio_entries(archive: bytes) -> dict[str, Entry]:
    """Reads the "newc" form, independently of the writer."""
    found = {}
    offset = 0
    while archive[offset : offset + 6] == b"070701":
        numbers = [int(archive[offset + 6 + 8 * n : offset + 14 + 8 * n], 16) for n in range(13)]
        name_size, size = numbers[11], numbers[6]
        name = archive[offset + 110 : offset + 110 + name_size - 1].decode()
        start = (offset + 110 + name_size + 3) & ~3
        if name == "TRAILER!!!":
            return found
        assert name not in found
        found[name] = Entry(numbers[1], numbers[5], (numbers[9], numbers[10]), archive[start : start + size])
        offset = (start + size + 3) & ~3
    raise AssertionError(f"no entry at {offset}")


def test_archive_holds_what_was_added(tmp_path: Path) -> None:
    source = tmp_path / "tool"
    source.write_bytes(b"#!/bin/sh\n")
    source.chmod(0o750)
    archive = vm_image.Archive()
    archive.add("/a/b/c.txt", b"12345")
    archive.add("/a/b/c.txt", b"a second file of that name is ignored")
    archive.link("/a/link", "b/c.txt")
    archive.device("/dev/console", 5, 1)
    archive.file("/a/tool", source)
    entries = cpio_entries(archive.finish())
    assert list(entries) == ["a", "a/b", "a/b/c.txt", "a/link", "dev", "dev/console", "a/tool"]
    assert entries["a/b/c.txt"].data == b"12345"
    assert stat.S_ISDIR(entries["a"].mode) and stat.S_ISLNK(entries["a/link"].mode) and entries["a/link"].data == b"b/c.txt"
    assert stat.S_ISCHR(entries["dev/console"].mode) and entries["dev/console"].device == (5, 1)
    assert stat.S_IMODE(entries["a/tool"].mode) == 0o750


@pytest.mark.skipif(vm_image.shutil.which("cpio") is None, reason="cpio is not installed")
def test_the_real_cpio_reads_it(tmp_path: Path) -> None:
    archive = vm_image.Archive()
    for size in range(9):
        archive.add(f"/d/{'n' * size}x", b"y" * size)
    done = subprocess.run(["cpio", "-idm", "--quiet"], input=archive.finish(), cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert {len(path.name) - 1: path.read_bytes() for path in (tmp_path / "d").iterdir()} == {n: b"y" * n for n in range(9)}


def test_python_comes_compiled(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text("answer = 42\n")
    archive = vm_image.Archive()
    archive.python("/site/module.py", source)
    entries = cpio_entries(archive.finish())
    cached = entries[importlib.util.cache_from_source("/site/module.py").strip("/")].data
    assert cached[:4] == importlib.util.MAGIC_NUMBER
    assert int.from_bytes(cached[4:8], "little") == 1, "valid by hash, unchecked: no clock matters"
    names: dict[str, Any] = {}
    exec(marshal.loads(cached[16:]), names)
    assert names["answer"] == 42


def test_a_stale_byte_code_file_is_not_used(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text("answer = 1\n")
    cached = Path(importlib.util.cache_from_source(str(source)))
    cached.parent.mkdir()
    cached.write_bytes(importlib.util.MAGIC_NUMBER + bytes(12) + marshal.dumps(compile("answer = 2", "x", "exec")))
    names: dict[str, Any] = {}
    exec(marshal.loads(vm_image._compiled(source, source.read_bytes())), names)
    assert names["answer"] == 1


def test_linked_libraries_are_found() -> None:
    found = vm_image._linked_libraries([Path(os.path.realpath(sys.executable))])
    assert any(path.name.startswith("libc.so") for path in found)
    assert any(path.name.startswith("ld-linux") for path in found)


SOURCES = """\
# a comment
Types: deb deb-src
URIs: http://mirror.example/debian/
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/k.gpg

Types: deb
URIs: http://security.example/
Suites: bookworm-security
Components: main
Enabled: no
"""


def test_sources_of_both_forms() -> None:
    assert kernels.parse_sources(SOURCES, deb822=True) == [
        kernels.AptSource(
            "http://mirror.example/debian", ("bookworm", "bookworm-updates"), ("main", "contrib"), "/usr/share/keyrings/k.gpg"
        )
    ]
    lines = "deb-src http://m/debian bookworm main\n#deb http://no/ bookworm main\ndeb [arch=amd64] http://m/debian bookworm main  # end\n"
    assert kernels.parse_sources(lines, deb822=False) == [kernels.AptSource("http://m/debian", ("bookworm",), ("main",))]


def test_the_newest_stock_kernel_is_chosen() -> None:
    names = """linux-image-6.1.0-9-amd64 linux-image-6.1.0-50-amd64 linux-image-6.1.0-51-cloud-amd64 linux-image-6.1.0-51-rt-amd64
        linux-image-6.1.0-51-amd64-dbg linux-image-6.1.0-51-amd64-unsigned linux-image-6.12.9+deb12-amd64 linux-image-6.12.41+deb12-amd64
        linux-headers-6.1.0-60-amd64 linux-image-amd64 linux-binary-7.2.1+deb14-amd64 linux-binary-7.10.1+deb14-amd64
        linux-binary-7.11~rc2-amd64""".split()
    chosen = {release: kernels.choose_package(names, release, "amd64") for release in ("6.1", "6.12", "7.2", "newest", "5.10")}
    assert chosen == {
        "6.1": "linux-image-6.1.0-50-amd64",
        "6.12": "linux-image-6.12.41+deb12-amd64",
        "7.2": "linux-binary-7.2.1+deb14-amd64",
        "newest": "linux-binary-7.10.1+deb14-amd64",
        "5.10": "",
    }


def test_a_cached_kernel_is_found_without_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARKEN_KERNEL_CACHE", str(tmp_path))
    place = tmp_path / "6.1"
    place.mkdir()
    (place / "vmlinuz").write_bytes(b"image")
    (place / "version").write_text("6.1.0-50-amd64\n")
    assert kernels.find("6.1", download=False) == kernels.KernelImage("6.1", "6.1.0-50-amd64", place / "vmlinuz", place / "config")
    assert kernels.find(str(place / "vmlinuz")).vmlinuz == place / "vmlinuz"
    with pytest.raises(kernels.VmError) as caught:
        kernels.find("6.12", download=False)
    assert "harken.testing.kernels 6.12" in caught.value.hint


@pytest.mark.parametrize("name", ["harken", "harken-trace-cmd"])
def test_a_guest_has_the_commands_of_an_installation(name: str) -> None:
    installed = (Path(__file__).parents[2] / "bin" / name).read_text().splitlines()
    assert [line for line in installed if not line.startswith("#")] == vm_image.COMMANDS[name].splitlines()


class ScriptedGuest:
    """Stands for `vm.Guest`: passes, fails, skips or dies as the tests' names say."""

    boots = 0

    def __init__(self, kernel: Any, image: bytes, directory: Path, **_options: Any) -> None:
        entries = cpio_entries(image)
        assert "harken/src/harken/__init__.py" in entries and entries["init"].data.startswith(b"#!/bin/busybox sh")
        assert entries["usr/bin/harken"].data.endswith(vm_image.COMMANDS["harken"].encode())
        self.job = json.loads(entries["harken/job.json"].data)
        assert "harken/test_them.py" in entries
        self.console = directory / "console.log"
        self.state, self.up_after, self.tries = "new", 0.0, 1

    def start(self) -> None:
        type(self).boots += 1
        self.state = "booting"

    def poll(self) -> list[dict[str, Any]]:
        if self.state != "booting":
            return []
        self.state, self.up_after = "up", 1.0
        messages: list[dict[str, Any]] = [{"event": "up"}]
        for name in self.job["tests"]:
            if "hidden" in name:
                continue
            messages.append({"event": "start", "test": name})
            if "dies" in name:
                self.state = "dead"
                return messages
            for when in ("setup", "call", "teardown"):
                outcome, text = "passed", None
                if "fails" in name and when == "call":
                    outcome, text = "failed", "it was wrong in the guest"
                if "skips" in name and when == "call":
                    outcome, text = "skipped", ["/harken/test_them.py", 3, "Skipped: not in this kernel"]
                report = pytest.TestReport(name, ("test_them.py", 1, name), {}, outcome, text, when, duration=1.5)  # type: ignore[arg-type]
                messages.append({"event": "report", "data": json.loads(json.dumps(report._to_json()))})
        messages.append({"event": "done", "status": 0})
        self.state = "done"
        return messages

    def log_tail(self) -> str:
        return "Kernel panic - not syncing"

    def stop(self) -> None:
        pass


@pytest.fixture
def guests(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    cache = pytester.path / "kernels"
    (cache / "6.1").mkdir(parents=True)
    (cache / "6.1" / "vmlinuz").touch()
    monkeypatch.setenv("HARKEN_KERNEL_CACHE", str(cache))
    monkeypatch.setattr(pytest_plugin, "Guest", ScriptedGuest)
    ScriptedGuest.boots = 0
    return pytester


def run(guests: pytest.Pytester, *names: str, options: tuple[str, ...] = ()) -> tuple[Any, Any]:
    text = "import pytest\n"
    for name in names:
        mark = "" if name.endswith("_unmarked") else "@pytest.mark.kernel\n"
        text += f"{mark}def {name}(): pass\n"
    guests.makepyfile(test_them=text)
    recorder = guests.inline_run("-p", "harken.testing.pytest_plugin", "-p", "no:cacheprovider", "--vm", "6.1", *options)
    return recorder, {report.nodeid: report for report in recorder.getreports("pytest_runtest_logreport") if report.when == "call"}


def test_a_guest_test_is_an_item_of_its_own(guests: pytest.Pytester) -> None:
    recorder, calls = run(guests, "test_works", "test_fails", "test_skips", "test_unmarked")
    recorder.assertoutcome(passed=5, failed=1, skipped=1)
    assert calls["test_them.py::test_works[6.1]"].duration == 1.5
    assert calls["test_them.py::test_fails"].passed
    assert calls["test_them.py::test_fails[6.1]"].longrepr == "it was wrong in the guest"
    assert calls["test_them.py::test_skips[6.1]"].longrepr == (f"{guests.path}/test_them.py", 3, "Skipped: not in this kernel")
    assert "test_them.py::test_unmarked[6.1]" not in calls
    assert ScriptedGuest.boots == 1


def test_vm_only_leaves_the_host_out(guests: pytest.Pytester) -> None:
    recorder, calls = run(guests, "test_works", "test_unmarked", options=("--vm-only",))
    recorder.assertoutcome(passed=1)
    assert list(calls) == ["test_them.py::test_works[6.1]"]


def test_the_test_that_kills_its_guest_fails_and_the_rest_runs(guests: pytest.Pytester) -> None:
    recorder, calls = run(guests, "test_first", "test_dies", "test_last", options=("--vm-only",))
    recorder.assertoutcome(passed=2, failed=1)
    assert "Kernel panic" in str(calls["test_them.py::test_dies[6.1]"].longrepr)
    assert ScriptedGuest.boots == 2


def test_a_guest_that_cannot_be_had_fails_its_tests(guests: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_release: str) -> None:
        raise kernels.VmError("no such kernel", "get one")

    monkeypatch.setattr(pytest_plugin, "find", refuse)
    recorder, calls = run(guests, "test_first", "test_second", options=("--vm-only",))
    recorder.assertoutcome(failed=2)
    assert "get one" in str(calls["test_them.py::test_first[6.1]"].longrepr)


def test_a_test_that_the_guest_does_not_collect_is_skipped(guests: pytest.Pytester) -> None:
    recorder, _calls = run(guests, "test_first", "test_hidden", options=("--vm-only",))
    recorder.assertoutcome(passed=1, skipped=1)


def test_names_say_the_release() -> None:
    assert pytest_plugin._with_release("test_x[a]", "/boot/vmlinuz-6.9") == "test_x[a-vmlinuz-6.9]"


def test_a_kernel_of_another_machine_is_named_by_a_suffix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARKEN_KERNEL_CACHE", str(tmp_path))
    for release, machine in (("6.12-arm64", "aarch64"), ("6.12-amd64", "x86_64"), ("6.12", vm_machines.this_machine())):
        (tmp_path / release).mkdir()
        (tmp_path / release / "vmlinuz").write_bytes(b"image")
        assert kernels.find(release, download=False).machine == machine


def test_a_guest_of_another_machine_takes_what_runs_there(tmp_path: Path) -> None:
    mine, theirs, script = tmp_path / "mine", tmp_path / "theirs", tmp_path / "script"
    mine.write_bytes(ElfBuilder(machine=62).build())
    theirs.write_bytes(ElfBuilder(machine=183).build())
    script.write_text("#!/bin/sh\n")
    archive = vm_image.Archive()
    for path in (theirs, script):
        vm_userland.foreign_program(archive, str(path), "aarch64")
    with pytest.raises(vm.VmError, match="a program of x86_64, and the guest is aarch64"):
        vm_userland.foreign_program(archive, str(mine), "aarch64")
    with pytest.raises(vm.VmError, match="No such file"):
        vm_userland.foreign_program(archive, str(tmp_path / "nothing"), "aarch64")
    entries = cpio_entries(archive.finish())
    assert str(theirs)[1:] in entries and str(script)[1:] in entries and str(mine)[1:] not in entries
    assert vm_userland.pure_packages(["pluggy", "numpy", "_pytest"]) == ["pluggy", "_pytest"]


def test_a_guest_that_never_reports_is_started_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tmp_path / "base"
    base.write_bytes(b"")
    monkeypatch.setattr(vm, "base_image_for", lambda _machine, _packages: base)
    fake = tmp_path / "qemu"
    fake.write_text("#!/bin/sh\necho cannot boot >&2\nexit 1\n")
    fake.chmod(0o755)
    here = vm_machines.this_machine()
    monkeypatch.setitem(vm_machines.MACHINES, here, vm_machines.MACHINES[here]._replace(qemu=str(fake)))
    guest = vm.Guest(kernels.KernelImage("6.1", "6.1", base, base), b"", tmp_path)
    guest.start()
    while guest.state != "dead":
        assert guest.poll() == []
    assert guest.tries == 2
    assert "cannot boot" in guest.log_tail()


@pytest.mark.vm
def test_a_command_in_a_real_guest(request: pytest.FixtureRequest) -> None:
    releases = request.config.getoption("vm")
    if not releases:
        pytest.skip("boots a guest: only with --vm RELEASE")
    machine = vm.Vm(releases[0])
    outcome = machine.run(
        "sh", "-c", "uname -r; cat /in/x; echo oops >&2; echo back > /tmp/out; exit 7", files={"/in/x": b"hello\n"}, collect=["/tmp/out"]
    )  # fmt: skip
    assert (outcome.status, outcome.stdout, outcome.stderr) == (7, f"{machine.kernel.version}\nhello\n", "oops\n")
    assert outcome.files == {"/tmp/out": b"back\n"}
