"""Mount points: what is mounted where, mounting, and looking at a pseudo file system without mounting it anywhere.

``mount_list`` reads ``/proc/self/mounts``.  ``mount_filesystem`` is mount(2) with an error that says what to do.  ``detached`` makes
a mount that has no place in the tree (fsopen(2) and fsmount(2), Linux 5.2): its files are read through ``/proc/self/fd/N``, nobody
else sees it, and it is gone when the descriptor is closed.  harken looks into securityfs and tracefs that way when they are not
mounted, so that asking a question leaves no trace on the machine.
"""

from __future__ import annotations

import errno
import os

from ..base.errors import KernelError
from ..base.record import Record
from .kernel import Call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .kernel import Kernel

__all__ = ("Mount", "Detached", "parse_mounts", "mount_list", "mount_of", "mount_filesystem", "detached", "errno_name")

_MOUNTS_LIMIT = 4 << 20  # a host with ten thousand containers has about 2 MB of mounts
_FSOPEN_CLOEXEC = 1  # include/uapi/linux/mount.h
_FSMOUNT_CLOEXEC = 1
_FSCONFIG_CMD_CREATE = 6


class Mount(Record):
    """One line of ``/proc/self/mounts``: ``options`` are separated by commas."""

    source: str
    target: str
    fstype: str
    options: str = ""

    @property
    def read_only(self) -> bool:
        return "ro" in self.options.split(",")


def errno_name(number: int) -> str:
    """The name of an errno ("EPERM"); its number when it has none (524 is the kernel's internal ENOTSUPP).

    Example:
        >>> errno_name(1), errno_name(-22), errno_name(524)
        ('EPERM', 'EINVAL', 'ENOTSUPP')
    """
    number = abs(number)
    return errno.errorcode.get(number) or ("ENOTSUPP" if number == 524 else str(number))


def parse_mounts(text: str) -> list[Mount]:
    r"""The mounts of a text in the format of ``/proc/self/mounts`` (fstab(5): blanks in names are octal escapes).

    Example:
        >>> parse_mounts(r"none /mnt/a\040b tracefs rw,gid=5 0 0")
        [Mount(source='none', target='/mnt/a b', fstype='tracefs', options='rw,gid=5')]
    """
    found = []
    for line in text.split("\n"):
        words = line.split(" ")
        if len(words) >= 4:
            found.append(Mount(_unescape(words[0]), _unescape(words[1]), words[2], words[3]))
    return found


def mount_list(kernel: Kernel) -> list[Mount]:
    """All mounts that this process sees, in the order of mounting; empty if /proc is not there."""
    try:
        return parse_mounts(kernel.read("/proc/self/mounts", _MOUNTS_LIMIT).decode("utf-8", "surrogateescape"))
    except OSError:
        return []


def mount_of(mounts: list[Mount], *fstypes: str) -> Mount | None:
    """The first mount of one of the types that no later mount, on the same place or above it, hides."""
    for index, mount in enumerate(mounts):
        if mount.fstype in fstypes:
            place = mount.target + "/"
            if not any(place.startswith(later.target.rstrip("/") + "/") for later in mounts[index + 1 :]):
                return mount
    return None


def mount_filesystem(kernel: Kernel, fstype: str, target: str) -> None:
    """mount(2): a pseudo file system of type ``fstype`` on the directory ``target``.

    Raises:
        KernelError: with the errno; EPERM without CAP_SYS_ADMIN, ENODEV when the kernel lacks the file system.
    """
    result = kernel.call(Call("mount", (b"nodev\0", os.fsencode(target) + b"\0", fstype.encode() + b"\0", 0, None)))
    if result < 0:
        command = f"mount -t {fstype} nodev {target}"
        if -result == errno.EPERM:
            hint = f"run as root (CAP_SYS_ADMIN of the mount namespace's owner), or let root run: {command}"
        elif -result == errno.ENODEV:
            hint = f"this kernel was built without {fstype}; it cannot be added at run time"
        elif -result == errno.ENOENT:
            hint = f"the directory {target} does not exist; the kernel makes it when {fstype} is built in"
        else:
            hint = f"try by hand: {command}"
        raise KernelError(
            f"cannot mount {fstype} on {target}: {os.strerror(-result)}",
            call=f'mount("nodev", "{target}", "{fstype}", 0, NULL)',
            errno=-result,
            hint=hint,
        )


class Detached:
    """A mount without a place: ``path`` leads into it, ``close()`` ends it."""

    def __init__(self, kernel: Kernel, fd: int) -> None:
        self._kernel = kernel
        self.fd = fd
        self.path = f"/proc/self/fd/{fd}"

    def close(self) -> None:
        if self.fd >= 0:
            self._kernel.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Detached:
        return self

    def __exit__(self, *_details: object) -> None:
        self.close()


def detached(kernel: Kernel, fstype: str) -> Detached:
    """Makes a detached mount of a pseudo file system, read through ``.path``.

    Raises:
        KernelError: with the errno of fsopen(2), fsconfig(2) or fsmount(2): EPERM without CAP_SYS_ADMIN, ENODEV when the kernel
            lacks the file system, ENOSYS before Linux 5.2.
    """
    context = kernel.call(Call("fsopen", (fstype.encode() + b"\0", _FSOPEN_CLOEXEC)))
    if context < 0:
        raise _refused(f'fsopen("{fstype}")', fstype, context)
    try:
        result = kernel.call(Call("fsconfig", (context, _FSCONFIG_CMD_CREATE, None, None, 0)))
        if result < 0:
            raise _refused(f'fsconfig("{fstype}", FSCONFIG_CMD_CREATE)', fstype, result)
        fd = kernel.call(Call("fsmount", (context, _FSMOUNT_CLOEXEC, 0)))
        if fd < 0:
            raise _refused(f'fsmount("{fstype}")', fstype, fd)
    finally:
        kernel.close(context)
    return Detached(kernel, fd)


def _refused(call: str, fstype: str, result: int) -> KernelError:
    return KernelError(f"cannot look into {fstype}: {os.strerror(-result)}", call=call, errno=-result, hint="run as root")


def _unescape(word: str) -> str:
    if "\\" not in word:
        return word
    parts = word.split("\\")
    out = [parts[0]]
    for part in parts[1:]:
        digits = part[:3]
        if len(digits) == 3 and all(digit in "01234567" for digit in digits):
            out.append(chr(int(digits, 8) & 0xFF) + part[3:])
        else:
            out.append("\\" + part)
    return "".join(out)
