"""From what a user calls a program or library to its file: paths, PATH, ld.so.cache, a process's own root and mappings.

``find`` takes "/bin/bash", "bash", "libc", "libc.so.6", "/usr/lib/*/libssl*", each also as a process sees it (it may live in a container:
its files are then reached through ``/proc/PID/root``).  ``open_elf`` opens it for ``formats.elf``.

The cache's format is glibc's ``struct cache_file_new`` (elf/dl-cache.h): a header of 48 bytes, entries of 24 bytes (flags, key, value,
OS version, hardware capabilities), strings; offsets count from the header.
"""

from __future__ import annotations

import os
import struct

from ..base.errors import FormatError, HarkenError, ProbeError
from ..formats.elf import Elf
from ..kernel import procfs, procfs_process
from ..kernel.kernel import Call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..kernel.kernel import Kernel

__all__ = ("find", "libraries", "executables", "open_elf", "process_binaries", "process_root", "parse_ld_cache")

#: Flags of an ld.so.cache entry that fit a machine: the type (ELF, libc6) in the low byte, the architecture above
#: (glibc: sysdeps/generic/ldconfig.h).
_CACHE_FLAGS = {"x86_64": 0x0303, "aarch64": 0x0A03}
_CACHE_MAGIC = b"glibc-ld.so.cache1.1"
#: Where libraries live on systems without ld.so.cache (musl, and images without ldconfig); "*" is the multiarch triplet.
_LIBRARY_FOLDERS = ("/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib")
#: What maps writes behind the path of a file that is gone, and how paths begin that are none.
_DELETED = " (deleted)"
_NO_FILES = ("//", "/dev/zero", "/SYSV", "/anon_hugepage")
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MAX_MATCHES = 4096
_MAX_FILE = 2 << 30
#: Files up to this size are read, not mapped: that costs some milliseconds at most, holds no descriptor, and nobody can pull the
#: pages away by truncating the file.
_READ_WHOLE = 16 << 20


def parse_ld_cache(data: bytes, machine: str = "") -> list[tuple[str, str]]:
    """(soname, path) pairs of ld.so.cache, in the loader's order of preference.

    Args:
        machine: as ``uname -m`` says it; entries for other architectures are left out where its flags are known.

    Raises:
        FormatError: not a cache of glibc 2.2 or later, or offsets outside of it.
    """
    what = "ld.so.cache"
    start = 0 if data.startswith(_CACHE_MAGIC) else data.find(_CACHE_MAGIC)  # an old cache may stand before the new one
    if start < 0:
        raise FormatError(what, "not a cache of glibc", 0)
    if len(data) < start + 48:
        raise FormatError(what, "truncated", len(data))
    (count,) = struct.unpack_from("=I", data, start + 20)
    if start + 48 + 24 * count > len(data):
        raise FormatError(what, "truncated", len(data))
    wanted = _CACHE_FLAGS.get(machine)
    found = []
    for flags, key, value, _, _ in struct.iter_unpack("=iIIIQ", data[start + 48 : start + 48 + 24 * count]):
        if wanted is None or flags & 0xFFFF == wanted:
            found.append((_text(data, start + key), _text(data, start + value)))
    return found


def libraries(kernel: Kernel, name: str, root: str = "") -> list[str]:
    """Paths of the shared libraries called ``name``: a soname ("libc.so.6"), its stem ("libc", "c") or a pattern with ``*``.

    Args:
        root: a prefix such as "/proc/42/root"; the paths found carry it.
    """
    entries = []
    try:
        entries = parse_ld_cache(kernel.read(f"{root}/etc/ld.so.cache", 16 << 20), kernel.machine)
    except (OSError, FormatError):
        pass
    if not entries:
        entries = _scan(kernel, root)
    test = _library_test(name)
    found: dict[str, str] = {}
    for soname, path in entries:
        if test(soname) and path.startswith("/") and kernel.exists(root + path):
            found.setdefault(soname, root + path)
    for soname in list(found):  # "libz.so" is the linker's name for some "libz.so.1" beside it
        if soname.endswith(".so") and any(other.startswith(soname + ".") for other in found):
            del found[soname]
    return list(dict.fromkeys(found.values()))


def executables(kernel: Kernel, name: str, root: str = "") -> list[str]:
    """The first file called ``name`` (all matches, if it has a ``*``) in the folders of PATH."""
    from ..base.glob import matches

    path = os.environ.get("PATH", _DEFAULT_PATH) if not root else _DEFAULT_PATH
    found: dict[str, str] = {}
    for folder in path.split(":"):
        if not folder.startswith("/"):
            continue
        if "*" not in name:
            if kernel.exists(f"{root}{folder}/{name}"):
                return [f"{root}{folder}/{name}"]
            continue
        for entry in _listdir(kernel, root + folder):
            if matches(name, entry):
                found.setdefault(entry, f"{root}{folder}/{entry}")
    return list(found.values())[:_MAX_MATCHES]


def find(kernel: Kernel, name: str, pid: int = -1) -> list[str]:
    """The files that ``name`` stands for, the best first; empty if there are none.

    Args:
        name: a path, a pattern with ``*``, the name of a program in PATH, or a library (see ``libraries``).
        pid: look with the eyes of this process: its root directory, and the files it has mapped before anything else.
    """
    root = process_root(kernel, pid)
    if pid > 0 and "/" not in name:
        found = _mapped_as(kernel, name, _mapped(kernel, pid, root))
        if found:
            return found
    if "/" in name:
        if not name.startswith("/"):
            name = os.path.abspath(name)
        if "*" in name:
            return _glob(kernel, root, name)
        if pid > 0 and not name.startswith("/proc/"):
            # what it runs, not what was put in its place since
            for path, place in _mapped(kernel, pid, root):
                if path == name + _DELETED:
                    return [place]
        path = name if root and name.startswith("/proc/") and not kernel.exists(root + name) else root + name
        return [path] if kernel.exists(path) else []
    return executables(kernel, name, root) or libraries(kernel, name, root)


def process_binaries(kernel: Kernel, pid: int) -> list[str]:
    """Files that a process has mapped executable, its program first, as paths that can be opened from here.

    A file that was deleted, or replaced by another, is reached through its mapping (/proc/PID/map_files).

    Raises:
        ProbeError: there is no such process, or it may not be looked at.
    """
    return [place for _, place in _mapped(kernel, pid, process_root(kernel, pid))]


def _mapped(kernel: Kernel, pid: int, root: str) -> list[tuple[str, str]]:
    """(path as maps shows it, path to open) of the files that a process has mapped executable; raises ProbeError."""
    maps = procfs_process.mappings(kernel, pid)
    if not maps:
        raise ProbeError(
            f"process {pid} is not there, is a kernel thread, or may not be looked at", "ps -e lists processes; other users' need root"
        )
    found: dict[str, str] = {}
    for place in maps:
        path = place.path
        if "x" not in place.perms or not path.startswith("/") or path in found or path.startswith(_NO_FILES):
            continue
        if path.endswith(_DELETED):
            found[path] = f"/proc/{pid}/map_files/{place.start:x}-{place.end:x}"
        else:
            found[path] = root + path
    return list(found.items())


def _mapped_as(kernel: Kernel, name: str, mapped: list[tuple[str, str]]) -> list[str]:
    """Those of a process's files that ``name`` means: their names, or what the linker knows them as ("libm.so.6" of libm-2.31.so)."""
    test = _library_test(name)
    found = []
    for path, place in mapped:
        file = path.removesuffix(_DELETED).rpartition("/")[2]
        # a library's file may have a longer version than its soname: libstdc++.so.6.0.30
        if test(file) or file == name or (".so" in name and file.startswith(name + ".")):
            found.append(place)
    if found or ".so" not in name:
        return found
    from ..formats.elf_dynamic import soname

    for path, place in mapped:
        if ".so" in path:
            try:
                if soname(open_elf(kernel, place, debug=False)) == name:
                    found.append(place)
            except HarkenError:
                continue
    return found


def open_elf(kernel: Kernel, path: str, debug: bool = True) -> Elf:
    """Reads or maps an ELF file.

    Args:
        debug: find symbols that were stripped from it in a separate file below /usr/lib/debug or beside it.

    Raises:
        ProbeError: the file cannot be opened.
        FormatError: it is not an ELF file.
    """
    try:
        fd = kernel.open(path, os.O_RDONLY | os.O_NONBLOCK)  # whoever puts a FIFO there shall not make us wait
    except OSError as error:
        raise ProbeError(f"cannot open {path}: {os.strerror(error.errno or 0)}") from None
    try:
        size = kernel.call(Call("lseek", (fd, 0, 2)))
        if not 0 < size <= _MAX_FILE:
            raise FormatError(path, "empty, or not a regular file", 0)
        if size <= _READ_WHOLE:
            data: Any = kernel.read(path, size)
        else:
            try:
                data = kernel.mmap(fd, size)
            except (OSError, ValueError):
                data = kernel.read(path, _MAX_FILE)
    except OSError as error:
        raise FormatError(path, f"cannot be read: {os.strerror(error.errno or 0)}", 0) from None
    finally:
        kernel.close(fd)
    return Elf(data, path, (lambda elf: _debug_file(kernel, path, elf)) if debug else None)


def _debug_file(kernel: Kernel, path: str, elf: Elf) -> Elf | None:
    """The separate file with a stripped file's symbols (``debug_files``); ``path`` may lie below a process's root."""
    from .debug_files import find

    root = "/".join(path.split("/")[:4]) if path.startswith("/proc/") and path.split("/")[3:4] == ["root"] else ""
    return find(kernel, path[len(root) :], elf, root)


def process_root(kernel: Kernel, pid: int) -> str:
    """The prefix for a process's paths: "" when it sees the same files as we do."""
    if pid <= 0:
        return ""
    try:
        same_mounts = procfs.namespace_number(kernel, "mnt", pid) == procfs.namespace_number(kernel, "mnt")
        if same_mounts and procfs.read_link(kernel, f"/proc/{pid}/root") == "/":
            return ""
    except (OSError, HarkenError):
        return ""
    return f"/proc/{pid}/root"


def _library_test(name: str) -> Callable[[str], bool]:
    """Whether a soname is meant by ``name``."""
    if "*" in name:
        from ..base.glob import matches

        return lambda soname: matches(name, soname)
    if ".so" in name:
        return lambda soname: soname == name
    stems = (f"{name}.so", f"{name}-") if name.startswith("lib") else (f"lib{name}.so",)

    def test(soname: str) -> bool:
        if soname.startswith(stems[0]):
            return True
        # libpthread-2.31.so: the file's name where versions stand before the suffix
        return len(stems) > 1 and soname.startswith(stems[1]) and soname[len(stems[1]) : len(stems[1]) + 1].isdigit() and ".so" in soname

    return test


def _scan(kernel: Kernel, root: str) -> list[tuple[str, str]]:
    """(file name, path) of the libraries in the usual folders."""
    folders = []
    for folder in _LIBRARY_FOLDERS:
        folders += [f"{folder}/{kernel.machine}-linux-{libc}" for libc in ("gnu", "musl")] if folder in ("/lib", "/usr/lib") else []
        folders.append(folder)
    found = []
    for folder in folders:
        for entry in _listdir(kernel, root + folder):
            if ".so" in entry:
                found.append((entry, f"{folder}/{entry}"))
    return found


def _glob(kernel: Kernel, root: str, pattern: str) -> list[str]:
    from ..base.glob import matches

    level = [""]
    for part in pattern.strip("/").split("/"):
        if "*" in part:
            level = [
                f"{base}/{entry}" for base in level for entry in sorted(_listdir(kernel, root + (base or "/"))) if matches(part, entry)
            ]
        else:
            level = [f"{base}/{part}" for base in level]
        level = level[:_MAX_MATCHES]
    return [root + path for path in level if kernel.exists(root + path)]


def _listdir(kernel: Kernel, path: str) -> list[str]:
    try:
        return kernel.listdir(path)
    except OSError:
        return []


def _text(data: bytes, start: int) -> str:
    end = data.find(b"\0", start, start + 4096)
    if start >= len(data) or end < 0:
        raise FormatError("ld.so.cache", "a string lies outside of the file", start)
    return os.fsdecode(data[start:end])
