"""Files that processes map, opened once: symbol tables, debug files and line tables by mapping.

A file is looked for where it certainly is the right one first: /proc/PID/map_files (the mapping itself, even if the file was replaced or
deleted), then its path below the process's root, then by build-id below /usr/lib/debug.  If the mapping states a build-id, only a file
that has it counts.  What could not be read is remembered with the reason, and its addresses stay without names.

Example:
    >>> from harken.kernel.kernel import live
    >>> images = Images(live())
    >>> images.of_file("/nonexistent/file").table is None, list(images.problems)
    (True, ['/nonexistent/file'])
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import time

from ..base import cache
from ..base.errors import HarkenError, ProbeError
from ..kernel.procfs import boot_id, read_link
from .symbol_table import SymbolTable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ..formats.elf import Elf
    from ..kernel.kernel import Kernel
    from .model import Mapping
    from .processes import Processes

__all__ = ("Image", "Images")

_DELETED = " (deleted)"
#: How the kernel names files that memfd_create(2) has made of memory; no path leads to them.
_MEMORY = "/memfd:"
_SYMTAB = 2
#: Seconds of reading from which on a table is kept between runs; to map one that was kept takes a tenth of that.
_WORTH_KEEPING = 0.0005
_MOST = 4096


class Image:
    """One mapped file.

    Attributes:
        path: as its process sees it.
        table: its symbols; None if it could not be read.
    """

    def __init__(self, path: str, table: SymbolTable | None = None, place: str = "", root: str = "") -> None:
        self.path = path
        self.table = table
        self.place, self.root = place, root
        self.lines: Any = None
        self.lines_known = False
        #: Readable names by number of the symbol.
        self.names: dict[int, str] = {}

    @property
    def build_id(self) -> str:
        return self.table.build_id if self.table is not None else ""


class Images:
    """The files that were opened so far.

    Args:
        kernel: what opens files; None: no file is ever opened.
        debuginfod: ask debuginfod servers for debug files (``debug_files``).

    Attributes:
        problems: path -> why its symbols could not be read.
    """

    def __init__(self, kernel: Kernel | None, debuginfod: bool = False) -> None:
        self._kernel = kernel
        self._debuginfod = debuginfod
        self._known: dict[object, Image] = {}
        self.problems: dict[str, str] = {}

    def of_mapping(self, pid: int, mapping: Mapping, processes: Processes) -> Image:
        """The image of a mapping of a file, or of "[vdso]"."""
        path = mapping.path
        if path == "[vdso]":
            if mapping.end <= 1 << 32:
                return self._narrow_vdso(pid, mapping)
            return self._remembered(path) or self._keep(path, self._vdso(pid, processes))
        root = processes.root(pid)
        key = (mapping.device, mapping.inode, path, mapping.build_id, "" if mapping.inode else root)
        return self._remembered(key) or self._keep(
            key, self._open(path, mapping.build_id, root, self._places(pid, mapping, processes, root), mapping.inode)
        )

    def of_file(self, path: str) -> Image:
        """The image of a file by path."""
        return self._remembered(path) or self._keep(path, self._open(path, "", "", iter([path])))

    def lines(self, image: Image) -> Any:
        """The line table (``symbols.lines``) of an image, None if it has no DWARF."""
        if not image.lines_known:
            image.lines_known = True
            try:
                elf = self._dwarf(image)
                if elf is not None:
                    from .lines import LineTable

                    image.lines = LineTable.of(elf, self._kernel)
            except HarkenError as error:
                self.problems[image.path] = error.message + (f" ({error.hint})" if error.hint else "")
        return image.lines

    # -- private

    def _remembered(self, key: object) -> Image | None:
        return self._known.get(key)

    def _keep(self, key: object, image: Image) -> Image:
        while len(self._known) >= _MOST:
            self._known.pop(next(iter(self._known)))
        self._known[key] = image
        return image

    def _places(self, pid: int, mapping: Mapping, processes: Processes, root: str) -> Iterator[str]:
        """Paths that may open the file of a mapping, the surest first."""
        if mapping.inode and processes.alive(pid):
            yield f"/proc/{pid}/map_files/{mapping.start:x}-{mapping.end:x}"
        path = mapping.path.removesuffix(_DELETED)
        if not path.startswith(_MEMORY):
            yield root + path
        if root:
            # maps shows paths from the root of the mount namespace, which a process in a chroot does not have (fs/d_path.c)
            try:
                chroot = read_link(self._kernel, root) if self._kernel is not None else "/"
            except OSError:
                chroot = "/"
            if path.startswith(chroot + "/"):
                yield root + path[len(chroot) :]
        if mapping.build_id:
            from . import debug_files

            yield debug_files.by_build_id(mapping.build_id, root)
            yield debug_files.by_build_id(mapping.build_id)
            yield debug_files.by_perf_cache(mapping.build_id)

    def _open(self, path: str, build_id: str, root: str, places: Iterator[str], inode: int = 0) -> Image:
        kernel = self._kernel
        problem = ""
        if kernel is None:
            return Image(path)
        for place in places:
            try:
                table = self._table(kernel, path, place, root)
            except HarkenError as error:
                problem = problem or error.message
                continue
            if inode and not build_id and "/map_files/" not in place:
                from .replaced import replaced

                if replaced(kernel, place, inode):
                    problem = "another file was put in its place"
                    continue
            if build_id and table.build_id != build_id:
                problem = f"another build of this file was mapped (build-id {build_id})"
                continue
            if table.problem:
                self.problems[path] = table.problem
            return Image(path, table, place, root)
        made = "memory that a process has made a file of (memfd_create(2)), which is gone with it"
        self.problems[path] = problem or (made if path.startswith(_MEMORY) else "not on this machine")
        return Image(path)

    def _table(self, kernel: Kernel, path: str, place: str, root: str) -> SymbolTable:
        """The symbols of a file, from the cache if neither it nor the file with its debug symbols has changed.

        A table that is kept notes the state of all files that were looked at for debug symbols, those that were not there too.
        """
        key = "" if root or self._debuginfod else _state(place)
        if key:
            data = cache.mapped("symbols", key)
            if data is not None:
                try:
                    table = SymbolTable.unpack(data)
                    # most files with debug symbols were not there, and still are not
                    if all([_state(other) == state for other, state in table.note if state or os.access(other, os.F_OK)]):
                        return table
                except ValueError:
                    cache.remove("symbols", key)
        if not key and not kernel.exists(place):  # before anything that reads ELF files is imported
            raise ProbeError(f"cannot open {place}: {os.strerror(errno.ENOENT)}")
        from .binaries import open_elf

        begin = time.perf_counter()
        elf = open_elf(kernel, place, debug=False)
        table = SymbolTable(elf, self._debug(elf, path, root))
        if key and time.perf_counter() - begin > _WORTH_KEEPING:
            from . import debug_files

            others = [] if any(section.type == _SYMTAB for section in elf.sections) else debug_files.candidates(path, elf)
            table.note = [(other, _state(other)) for other in others]
            cache.store("symbols", key, table.pack())
        return table

    def _debug(self, elf: Elf, path: str, root: str) -> Elf | None:
        if self._kernel is None or any(section.type == _SYMTAB for section in elf.sections):
            return None
        from . import debug_files

        return debug_files.find(self._kernel, path.removesuffix(_DELETED), elf, root, self._debuginfod)

    def _narrow_vdso(self, pid: int, mapping: Mapping) -> Image:
        """The [vdso] of 32-bit processes; kept once it was seen."""
        from .vdso import of_mapping

        known = self._remembered("[vdso] 32")
        if known is not None or self._kernel is None:
            return known or Image("[vdso]")
        elf = of_mapping(self._kernel, pid, mapping)
        return Image("[vdso]") if elf is None else self._keep("[vdso] 32", Image("[vdso]", SymbolTable(elf)))

    def _vdso(self, pid: int, processes: Processes) -> Image:
        """The [vdso] of a process; that of this one, if the process is gone or recorded: all have the same, but for those of 32 bits."""
        kernel = self._kernel
        if kernel is None:
            return Image("[vdso]")
        if processes.kernel is not None and processes.alive(pid):
            from .vdso import image

            elf = image(kernel, pid)
            if elf is not None:
                return Image("[vdso]", SymbolTable(elf))
        boot = boot_id(kernel)
        key = f"vdso-{boot}-{sys.maxsize:x}"
        data = cache.mapped("symbols", key) if boot else None
        if data is not None:
            try:
                return Image("[vdso]", SymbolTable.unpack(data))
            except ValueError:
                cache.remove("symbols", key)
        from .vdso import image

        elf = image(kernel)
        if elf is None:
            return Image("[vdso]")
        table = SymbolTable(elf)
        if boot:
            cache.store("symbols", key, table.pack())
        return Image("[vdso]", table)

    def _dwarf(self, image: Image) -> Elf | None:
        """The file that holds an image's DWARF."""
        if self._kernel is None or not image.place:
            return None
        from .binaries import open_elf

        # by its name if that is still the same file: split units lie beside it
        elf = None
        for place in dict.fromkeys((image.root + image.path, image.place)):
            try:
                elf = open_elf(self._kernel, place, debug=False)
            except HarkenError:
                continue
            if elf.build_id == image.build_id:
                break
        if elf is None or elf.build_id != image.build_id:
            return None
        if _has_dwarf(elf):
            return elf
        from . import debug_files

        found = debug_files.find(self._kernel, image.path.removesuffix(_DELETED), elf, image.root, self._debuginfod)
        return found if found is not None and _has_dwarf(found) else None


def _state(path: str) -> str:
    """What tells one version of a file from another; "" if there is no such regular file."""
    try:
        state = os.stat(path)
    except OSError:
        return ""
    if not stat.S_ISREG(state.st_mode):
        return ""
    return f"2-{state.st_dev:x}-{state.st_ino:x}-{state.st_size:x}-{state.st_mtime_ns:x}-{state.st_ctime_ns:x}"


def _has_dwarf(elf: Elf) -> bool:
    return any(section.name in (".debug_info", ".zdebug_info", ".debug_line", ".zdebug_line") for section in elf.sections)
