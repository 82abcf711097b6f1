"""The virtual dynamic shared object: code that the kernel maps into every process ("[vdso]"); no file, but an ELF image in memory.

All 64-bit processes of a kernel share the image, so it is read from this process, or from the one that is asked for.  32-bit processes
share another, which is read from one of them, or from the file that distributions install.  Source: vdso(7), arch/*/kernel/vdso.c.

Example:
    >>> from harken.kernel.kernel import live
    >>> elf = image(live())
    >>> elf is None or elf.what
    '[vdso]'
"""

from __future__ import annotations

from ..base.errors import FormatError
from ..formats.elf import Elf
from ..kernel import procfs, procfs_process
from ..kernel.kernel import Call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel.kernel import Kernel
    from .model import Mapping

__all__ = ("image", "of_mapping")

_LARGEST = 1 << 20
#: boot -> the image of 32-bit processes, from the first of them that was asked for: they may be gone when the next one is
_narrow: dict[str, Elf] = {}


def of_mapping(kernel: Kernel, pid: int, mapping: Mapping) -> Elf | None:
    """The [vdso] that a mapping of a process shows, also if the process is gone; None if it cannot be read."""
    elf = image(kernel, pid)
    if mapping.end > 1 << 32:
        return elf if elf is not None and elf.bits == 64 else image(kernel)
    boot = procfs.boot_id(kernel)
    if elf is not None and elf.bits == 32:
        _narrow[boot] = elf
    return _narrow.get(boot) or _installed(kernel)


def _installed(kernel: Kernel) -> Elf | None:
    """The 32-bit image of this kernel as a file (``make vdso_install``)."""
    release = procfs.uname(kernel).release
    if not release or "/" in release:
        return None
    try:
        return Elf(kernel.read(f"/lib/modules/{release}/vdso/vdso32.so", _LARGEST), "[vdso]")
    except (OSError, FormatError):
        return None


def image(kernel: Kernel, pid: int | str = "self") -> Elf | None:
    """The [vdso] of a process; None if it has none, or its memory may not be read."""
    place = next((place for place in procfs_process.mappings(kernel, pid) if place.path == "[vdso]"), None)
    if place is None or not 0 < place.end - place.start <= _LARGEST:
        return None
    buffer = bytearray(place.end - place.start)
    try:
        fd = kernel.open(f"/proc/{pid}/mem")
    except OSError:
        return None
    try:
        size = kernel.call(Call("pread64", (fd, buffer, len(buffer), place.start)))
    finally:
        kernel.close(fd)
    try:
        return Elf(bytes(buffer[:size]), "[vdso]") if size > 0 else None
    except FormatError:
        return None
