"""System call numbers and names (``bcc.syscall``), of this machine.

Example:
    >>> syscall_name(10**6)
    b'[unknown: 1000000]'
"""

from __future__ import annotations

import os

from ..abi.arch import MACHINES, for_machine

__all__ = ("syscalls", "syscall_name")


def _table() -> dict[int, bytes]:
    machine = os.uname().machine
    if machine not in MACHINES:
        return {}
    return {number: name.encode() for name, number in for_machine(machine).syscalls.items()}


#: number -> name
syscalls = _table()


def syscall_name(syscall_num: int) -> bytes:
    """The name of a system call, ``b"[unknown: N]"`` for a number that is none."""
    return syscalls.get(syscall_num, b"[unknown: %d]" % syscall_num)
