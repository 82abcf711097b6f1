"""The machines that guests can be: what QEMU emulates, and how a kernel of that machine finds its console and the line to the host.

A release names another machine than this one by a suffix: ``6.12`` is a kernel of the machine that harken runs on, ``6.12-arm64`` one of
arm64.  Guests of another machine run Debian's own Python of that machine (see `harken.testing.vm_userland`).

Example:
    >>> split_release("6.12-arm64", "x86_64"), split_release("6.1-rt", "x86_64"), split_release("6.1-rt-arm64", "x86_64")
    (('6.12', 'aarch64'), ('6.1-rt', 'x86_64'), ('6.1-rt', 'aarch64'))
    >>> MACHINES["aarch64"].debian, MACHINES["aarch64"].messages
    ('arm64', '/dev/ttyS0')
"""

from __future__ import annotations

import os
from typing import NamedTuple

__all__ = ("MACHINES", "GuestMachine", "split_release", "this_machine")


class GuestMachine(NamedTuple):
    """One emulated machine.

    Attributes:
        debian: Debian's name of the architecture.
        qemu: the emulator; ``package`` has it.
        options: what QEMU emulates.
        kernel_line: what only this machine's kernels need.
        messages: the guest's device of the line to the host; ``serial`` are QEMU's options for it, ``{}`` stands for the file.
    """

    debian: str
    qemu: str
    package: str
    options: tuple[str, ...]
    kernel_line: str
    messages: str
    serial: tuple[str, ...]


MACHINES = {
    "x86_64": GuestMachine(
        "amd64", "qemu-system-x86_64", "qemu-system-x86",
        ("-machine", "pc,usb=off,hpet=off", "-cpu", "max"),
        "console=ttyS0 tsc=reliable no_timer_check lpj=4000000",
        "/dev/ttyS1", ("-serial", "file:{}"),
    ),
    # pauth-impdef: signing return addresses by the architecture's own cipher makes everything three times as slow
    "aarch64": GuestMachine(
        "arm64", "qemu-system-aarch64", "qemu-system-arm",
        ("-machine", "virt,gic-version=3", "-cpu", "max,pauth-impdef=on"),
        "console=ttyAMA0",
        "/dev/ttyS0", ("-chardev", "file,id=messages,path={}", "-device", "pci-serial,chardev=messages"),
    ),
}  # fmt: skip


def this_machine() -> str:
    """The machine that harken runs on, as uname(2) says."""
    return os.uname().machine


def split_release(release: str, here: str = "") -> tuple[str, str]:
    """(release of the kernel, machine) of what the user names.

    Args:
        here: the machine meant by a release without suffix; default: this one.
    """
    for machine, facts in MACHINES.items():
        for suffix in (f"-{facts.debian}", f"-{machine}"):
            if release.endswith(suffix) and len(release) > len(suffix):
                return release.removesuffix(suffix), machine
    return release, here or this_machine()
