"""Guests: any command or test under a stock Debian kernel, in QEMU, without KVM, root or a disk image.

Command line::

    python -m harken.testing.vm 6.1 -- harken doctor
    python -m harken.testing.vm 6.12 --add /usr/sbin/bpftool -- sh -c 'bpftool prog; uname -r'

Library::

    outcome = Vm("6.12").run("harken", "doctor", "--json")
    outcome.status, outcome.stdout

``6.12-arm64`` is a guest of another machine (see `harken.testing.vm_userland` for what runs in it).

pytest: ``pytest --vm 6.1 --vm 6.12`` (see `harken.testing.pytest_plugin`).

A guest runs from memory (see `harken.testing.vm_image`); it sees this interpreter, harken as it is now, busybox's commands, and what is
added to it.  It boots in about ten seconds on an idle machine and is 10 to 30 times slower than the host, so give one guest
everything there is to do.  A guest that does not come up is started once more; one that hangs is ended; its console log is kept.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import harken

from .kernels import KernelImage, VmError, find
from .vm_image import COMMANDS, Archive, package_files, program_files
from .vm_machines import MACHINES, this_machine
from .vm_userland import base_image_for, foreign_program, guest_python, pure_packages

__all__ = ("Guest", "Outcome", "Vm", "VmError", "job_image")

BOOT_TIMEOUT = 240.0
"""Seconds until a guest must have reported; a busy two-core host needs up to a minute."""

_INIT = """#!/bin/busybox sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 LC_ALL=C.UTF-8
export PYTHONPATH={path} PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HARKEN_GUEST={release}
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t debugfs debugfs /sys/kernel/debug
mount -t tracefs tracefs /sys/kernel/tracing
mount -t securityfs securityfs /sys/kernel/security
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ln -s /proc/self/fd /dev/fd
ip link set lo up
hostname guest
echo 1 > /proc/sys/kernel/sysrq
(sleep {timeout}; echo "guest: time is up" > /dev/console; echo b > /proc/sysrq-trigger) &
{python} -m harken.testing.vm_guest < /dev/null > /dev/console 2>&1
echo "guest: the guest program ended with status $?"
sync
echo b > /proc/sysrq-trigger
"""


class Outcome(NamedTuple):
    """What a command in a guest did."""

    status: int
    stdout: str
    stderr: str
    files: dict[str, bytes]
    console: str


def job_image(
    kernel: KernelImage,
    job: Mapping[str, Any],
    *,
    files: Mapping[str, bytes | Path] = {},
    trees: Mapping[str, Path] = {},
    packages: Iterable[str] = (),
    programs: Iterable[str] = (),
    timeout: float,
) -> bytes:
    """The part of the initramfs that belongs to one job: harken as it is now, the job, files of the caller.

    Args:
        kernel: whose configuration goes to ``/boot``, where tools look for it.
        job: see `harken.testing.vm_guest`.
        files: guest path -> contents, or a host file (copied with its mode).
        trees: guest directory -> host directory.
        packages: Python packages of the host.
        programs: programs of the host; their libraries come along.
        timeout: seconds after which the guest powers off by itself, whatever happened to the host.
    """
    archive = Archive()
    executable = guest_python(kernel.machine)
    init = _INIT.format(
        path="/harken/src:/harken/site:/harken", python=executable, timeout=int(timeout) + 60, release=kernel.release.replace("/", "_")
    )
    archive.add("/init", init.encode(), 0o755)
    archive.add("/harken/job.json", json.dumps({**job, "channel": MACHINES[kernel.machine].messages}).encode())
    archive.add("/etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
    archive.add("/etc/group", b"root:x:0:\nnogroup:x:65534:\n")
    archive.add("/etc/hostname", b"guest\n")
    archive.add("/etc/hosts", b"127.0.0.1 localhost\n")
    for name, code in COMMANDS.items():
        archive.add(f"/usr/bin/{name}", f"#!{executable}\n{code}".encode(), 0o755)
    if kernel.config.is_file():
        archive.file(f"/boot/config-{kernel.version}", kernel.config)
    archive.tree("/harken/src/harken", Path(harken.__file__).parent)
    for name, content in files.items():
        if isinstance(content, bytes):
            archive.add(name, content)
        else:
            archive.file(name, content)
    for name, source in trees.items():
        archive.tree(name, source)
    package_files(archive, packages)
    if kernel.machine == this_machine():
        program_files(archive, programs)
    else:
        for program in programs:
            foreign_program(archive, program, kernel.machine)
    return archive.finish()


class Guest:
    """One run of a kernel, observed by polling: no threads and no open descriptors between calls.

    Args:
        kernel: what to boot.
        image: the initramfs's changing part (see `job_image`); `base_image` goes before it.
        packages: for the base image.
        timeout: seconds for the whole run, boot included.
        directory: where the console log and the messages are written.
    """

    def __init__(
        self, kernel: KernelImage, image: bytes, directory: Path, *, packages: tuple[str, ...] = (), timeout: float = 600.0, cpus: int = 2,
        memory: int = 1536, devices: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self.kernel = kernel
        self.console = directory / "console.log"
        self.tries = 0
        self.up_after = 0.0
        self._messages = directory / "messages"
        self._initrd = directory / "initrd"
        self._timeout, self._cpus, self._memory, self._devices = timeout, cpus, memory, devices
        self._process: subprocess.Popen[bytes] | None = None
        self._offset = 0
        self._rest = b""
        self._started = 0.0
        self.state = "new"
        """new, booting, up, done (it said so), dead (it did not)"""
        with open(self._initrd, "wb") as file:
            if kernel.machine != this_machine():
                packages = tuple(pure_packages(packages))
            with open(base_image_for(kernel.machine, packages), "rb") as base:
                shutil.copyfileobj(base, file)
            file.write(image)

    def start(self) -> None:
        """Boots (again)."""
        machine = MACHINES[self.kernel.machine]
        qemu = shutil.which(machine.qemu)
        if qemu is None:
            raise VmError("QEMU is needed for guests", f"apt-get install {machine.package}")
        self.tries += 1
        self._messages.write_bytes(b"")
        self._offset, self._rest, self.state = 0, b"", "booting"
        # thread=single: with a thread per processor, QEMU 7.2 may run an int3 that the kernel has already patched away again (static keys,
        # ftrace), which ends the guest; tracing patches code all the time.  It costs a third of the speed, and one host CPU less.
        kernel_line = (
            f"{machine.kernel_line} quiet loglevel=4 panic=-1 oops=panic nokaslr mitigations=off "
            "random.trust_cpu=on audit=0 cgroup_disable=memory"
        )
        command = [
            qemu, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
            *machine.options, "-accel", "tcg,thread=single",
            "-smp", str(self._cpus), "-m", f"{self._memory}M",
            "-kernel", str(self.kernel.vmlinuz), "-initrd", str(self._initrd), "-append", kernel_line,
            "-serial", f"file:{self.console}", *(word.format(self._messages) for word in machine.serial), "-monitor", "none",
            *(word for device in self._devices for word in ("-device", device)),
        ]  # fmt: skip
        with open(self.console.with_suffix(".qemu"), "wb") as errors:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, start_new_session=True)
        self._started = time.monotonic()

    def poll(self) -> list[dict[str, Any]]:
        """New messages of the guest; also notices a failed boot (starts once more), an end and a timeout."""
        if self._process is None or self.state in ("done", "dead"):
            return []
        ended = self._process.poll() is not None
        with open(self._messages, "rb") as file:
            file.seek(self._offset)
            data = file.read()
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        messages = []
        for line in lines:
            try:
                message = json.loads(line)
            except ValueError:
                continue
            if message["event"] == "up":
                self.state, self.up_after = "up", time.monotonic() - self._started
            elif message["event"] == "done":
                self.state = "done"
            messages.append(message)
        spent = time.monotonic() - self._started
        if self.state == "done":
            self._reap(5.0)
        elif self.state == "booting" and (ended or spent > BOOT_TIMEOUT):
            self.stop()
            if self.tries < 2:
                self.start()
            else:
                self.state = "dead"
        elif ended or spent > self._timeout:
            self.stop()
            self.state = "dead"
        return messages

    def _reap(self, patience: float) -> None:
        assert self._process is not None
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self.stop()

    def stop(self) -> None:
        """Ends the guest's process, if it still runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def log_tail(self, lines: int = 30) -> str:
        """The last lines of the console."""
        text = ""
        for path in (self.console, self.console.with_suffix(".qemu")):
            if path.exists():
                text += path.read_text(errors="replace")
        return "\n".join(text.replace("\r", "").splitlines()[-lines:])


class Vm:
    """Runs commands in guests of one kernel; each `run` is one boot.

    Args:
        release: ``6.1``, ``newest`` or a path of a vmlinuz (see `harken.testing.kernels`).
        packages: Python packages of the host that the guest shall have, beside harken.
        programs: programs of the host that it shall have, beside busybox's.
        cpus, memory: of the guest, memory in MiB.
        devices: more devices for QEMU's ``-device``, such as ``virtio-rng-pci``.
    """

    def __init__(
        self, release: str, *, packages: Sequence[str] = (), programs: Sequence[str] = (), cpus: int = 2, memory: int = 1536,
        devices: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.kernel = find(release)
        self._packages, self._programs, self._cpus, self._memory = tuple(packages), tuple(programs), cpus, memory
        self._devices = tuple(devices)

    def run(
        self,
        *argv: str,
        commands: Sequence[Sequence[str]] = (),
        files: Mapping[str, bytes | Path] = {},
        trees: Mapping[str, Path] = {},
        collect: Sequence[str] = (),
        timeout: float = 600.0,
        on_output: Callable[[str, str], None] | None = None,
    ) -> Outcome:
        """Boots, runs one command (or several, in order), and powers off.

        Args:
            argv: the command; or give several as ``commands``.
            files, trees: what to put into the guest: path there -> contents or path here.
            collect: guest paths of files to bring back.
            timeout: seconds for everything.
            on_output: called with ("stdout" or "stderr", text) as output arrives.

        Returns:
            the last command's status and the output of all.

        Raises:
            VmError: the guest did not come up or died; the message carries the end of the console log.
        """
        todo = [list(command) for command in commands] or [list(argv)]
        job = {"kind": "run", "commands": todo, "collect": list(collect), "directory": "/root", "timeout": timeout}
        image = job_image(self.kernel, job, files=files, trees=trees, programs=self._programs, timeout=timeout)
        texts = {"stdout": "", "stderr": ""}
        brought: dict[str, bytes] = {}
        status, problem = 1, ""
        with tempfile.TemporaryDirectory(prefix="harken-vm-") as scratch:
            guest = Guest(
                self.kernel, image, Path(scratch), packages=self._packages, timeout=timeout, cpus=self._cpus, memory=self._memory,
                devices=self._devices,
            )  # fmt: skip
            try:
                guest.start()
                while guest.state not in ("done", "dead"):
                    time.sleep(0.05)
                    for message in guest.poll():
                        if message["event"] == "output":
                            texts[message["stream"]] += message["text"]
                            if on_output is not None:
                                on_output(message["stream"], message["text"])
                        elif message["event"] == "file":
                            brought[message["path"]] = _decode(message)
                        elif message["event"] == "done":
                            status = message["status"]
                        elif message["event"] == "error":
                            problem = message["text"]
            finally:
                guest.stop()
            if guest.state == "dead" or problem:
                raise VmError(f"the guest with kernel {self.kernel.version} failed; its console ends with:\n{problem}{guest.log_tail()}")
            return Outcome(status, texts["stdout"], texts["stderr"], brought, guest.log_tail(1000))


def _decode(message: dict[str, Any]) -> bytes:
    import base64

    if "error" in message:
        raise VmError(f"{message['path']} could not be brought back from the guest: {message['error']}")
    return base64.b64decode(message["data"])


def main() -> int:
    """``python -m harken.testing.vm RELEASE [options] -- COMMAND...``."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m harken.testing.vm", description="Run a command under a Debian kernel in QEMU.")
    parser.add_argument("release", help="6.1, 6.12, 6.18, newest, 6.12-arm64, or the path of a vmlinuz")
    parser.add_argument("--add", action="append", default=[], metavar="PROGRAM", help="put a program of this machine into the guest")
    parser.add_argument("--package", action="append", default=[], help="put a Python package of this machine into the guest")
    parser.add_argument("--file", action="append", default=[], metavar="HERE[:THERE]", help="put a file or a directory into the guest")
    parser.add_argument("--collect", action="append", default=[], metavar="THERE:HERE", help="bring a file back")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for everything (default: 600)")
    parser.add_argument("--console", action="store_true", help="print the kernel's console at the end")
    parser.add_argument("command", nargs="+", help="the command and its arguments, after --")
    options = parser.parse_args()
    files: dict[str, bytes | Path] = {}
    trees: dict[str, Path] = {}
    for pair in options.file:
        here, _, there = pair.partition(":")
        target = there or os.path.abspath(here)
        if os.path.isdir(here):
            trees[target] = Path(here)
        else:
            files[target] = Path(here)
    places = dict(pair.split(":", 1) for pair in options.collect)

    def show(stream: str, text: str) -> None:
        out = sys.stdout if stream == "stdout" else sys.stderr
        out.write(text)
        out.flush()

    import signal

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the guest, which has a session of its own
    try:
        vm = Vm(options.release, packages=options.package, programs=options.add)
        outcome = vm.run(
            *options.command, files=files, trees=trees, collect=list(places), timeout=options.timeout, on_output=show
        )  # fmt: skip
    except VmError as error:
        sys.stderr.write(f"{error}\n" + (f"hint: {error.hint}\n" if error.hint else ""))
        return 1
    for there, data in outcome.files.items():
        Path(places[there]).write_bytes(data)
    if options.console:
        sys.stderr.write(outcome.console + "\n")
    return outcome.status


if __name__ == "__main__":
    raise SystemExit(main())
