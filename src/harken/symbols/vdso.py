"""The virtual dynamic shared object: code that the kernel maps into every process ("[vdso]"); no file, but an ELF image in memory.

All 64-bit processes of a kernel share the image, so it is read from this process, or from the one that is asked for (a 32-bit one has
another).  Source: vdso(7), arch/*/kernel/vdso.c.

Example:
    >>> from harken.kernel.kernel import live
    >>> elf = image(live())
    >>> elf is None or elf.what
    '[vdso]'
"""

from __future__ import annotations

from ..base.errors import FormatError
from ..formats.elf import Elf
from ..kernel import procfs_process
from ..kernel.kernel import Call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel.kernel import Kernel

__all__ = ("image",)

_LARGEST = 1 << 20


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
