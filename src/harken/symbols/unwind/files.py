"""The files behind a process's mappings, opened for their call frame information.

A file is reached through the process's own root (it may live in a container), a deleted one through /proc/PID/map_files; if the mapping
states a build-id, a file with another one is refused; so is one that was put in its place meanwhile.
"""

from __future__ import annotations

from ...base.errors import HarkenError
from ..binaries import open_elf
from ..replaced import replaced
from ..vdso import of_mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...formats.elf import Elf
    from ..model import Mapping
    from .code import Mappings

__all__ = ("Files",)

_DELETED = " (deleted)"


class Files:
    """Opens files for an unwinder; ``processes`` as for it (without a kernel, files of this machine are read)."""

    def __init__(self, processes: Mappings) -> None:
        from ...kernel.kernel import live

        self._processes = processes
        self._kernel = processes.kernel or live()

    def open(self, pid: int, mapping: Mapping) -> Elf | None:
        """The file of a mapping, or None if there is none, it cannot be opened, or it is another one by now."""
        kernel, path = self._kernel, mapping.path
        if path == "[vdso]":
            return of_mapping(kernel, pid, mapping)
        if not path.startswith("/") or path.startswith(("//", "/dev/", "/SYSV")):
            return None
        choices = [self._processes.root(pid) + path]
        if path.endswith(_DELETED):
            choices = [f"/proc/{pid}/map_files/{mapping.start:x}-{mapping.end:x}", path.removesuffix(_DELETED)]
            if path.startswith("/memfd:"):  # a program may run from there, and generated code
                del choices[1]
        for choice in choices:
            try:
                elf = open_elf(kernel, choice)
            except HarkenError:
                continue
            if not mapping.build_id and "/map_files/" not in choice and replaced(kernel, choice, mapping.inode):
                continue
            if not mapping.build_id or not elf.build_id or elf.build_id == mapping.build_id:
                return elf
        return None
