"""The guest's root file system: an initramfs made of this Python, this harken, busybox and whatever a test needs.

A guest has no disk and needs no drivers: the kernel unpacks a cpio archive into memory and starts ``/init``.  That is as fast as
an emulated machine gets, works with every stock kernel, and nothing of the host can be harmed.

Layout inside the guest::

    /init                        a shell script: mounts, runs the guest program, powers off
    /bin, /lib, ...              busybox's commands, the C library and what else Python links to
    (as on the host)             the interpreter and its standard library, without tests, Tk and pip
    /harken/src, /harken/site    harken itself; the packages asked for, such as pytest
    /harken/job.json             what to do; /harken/tests and others come with the job

The part that only changes with the interpreter is kept in the cache folder; harken, tests and the job are packed anew each time and
appended: the kernel accepts archives one after another.

The archive is cpio's "newc" form, see ``Documentation/driver-api/early-userspace/buffer-format.rst``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import marshal
import os
import shutil
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable
from pathlib import Path

from .kernels import VmError, cache_directory

__all__ = ("COMMANDS", "Archive", "base_image", "package_files", "package_origin", "program_files", "store_image", "wanted")

_UNWANTED = frozenset(
    "__pycache__ test tests idlelib tkinter turtledemo ensurepip lib2to3 distutils pydoc_data site-packages dist-packages venv "
    "unittest/test sqlite3/test".split()
)
_UNWANTED_SUFFIXES = (".a", ".exe", ".so.dbg", ".orig", ".pyi", ".c", ".h", ".whl")
_UNWANTED_MODULES = ("_test", "_tkinter", "xxlimited", "_ctypes_test", "turtle.py", "_curses", "_dbm", "_gdbm", "readline", "nis")

_COMMAND = """import _signal
import sys

if not sys.flags.safe_path:
    del sys.path[0]
if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
from harken.cli.{module} import {function}

{function}()
"""
COMMANDS = {
    "harken": _COMMAND.format(module="main", function="script"),
    "harken-trace-cmd": _COMMAND.format(module="commands.trace_cmd", function="main"),
}
"""The commands of a guest: what stands in the repository's ``bin``, so that a guest runs what an installation does."""


class Archive:
    """A cpio archive in memory.

    >>> archive = Archive()
    >>> archive.add("/etc/hostname", b"guest")
    >>> archive.finish()[:6]
    b'070701'
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._seen: set[str] = set()
        self._inode = 1

    def _entry(self, name: str, mode: int, data: bytes, mtime: int = 0, device: tuple[int, int] = (0, 0)) -> None:
        self._inode += 1
        path = name.encode() + b"\0"
        numbers = (self._inode, mode, 0, 0, 1, mtime, len(data), 0, 0, *device, len(path), 0)
        header = b"070701" + b"".join(b"%08X" % number for number in numbers) + path
        self._parts += [header, bytes(-len(header) % 4), data, bytes(-len(data) % 4)]

    def directory(self, name: str) -> None:
        """A directory and its parents."""
        name = name.strip("/")
        if name and name not in self._seen:
            self.directory(os.path.dirname(name))
            self._seen.add(name)
            self._entry(name, stat.S_IFDIR | 0o755, b"")

    def add(self, name: str, data: bytes, mode: int = 0o644, mtime: int = 0) -> None:
        """A file; the first one of a name stays."""
        name = name.strip("/")
        if name not in self._seen:
            self.directory(os.path.dirname(name))
            self._seen.add(name)
            self._entry(name, stat.S_IFREG | mode, data, mtime)

    def link(self, name: str, target: str) -> None:
        """A symbolic link."""
        name = name.strip("/")
        if name not in self._seen:
            self.directory(os.path.dirname(name))
            self._seen.add(name)
            self._entry(name, stat.S_IFLNK | 0o777, target.encode())

    def device(self, name: str, major: int, minor: int) -> None:
        """A character device."""
        name = name.strip("/")
        self.directory(os.path.dirname(name))
        self._entry(name, stat.S_IFCHR | 0o600, b"", device=(major, minor))

    def file(self, name: str, source: Path) -> None:
        """A file of the host, with its permissions and its time of change."""
        status = source.stat()
        self.add(name, source.read_bytes(), status.st_mode & 0o777, int(status.st_mtime))

    def tree(self, name: str, source: Path) -> None:
        """A directory of the host, Python sources with their compiled form."""
        for path in sorted(source.rglob("*")):
            if "__pycache__" not in path.parts and path.is_file():
                guest = f"{name}/{path.relative_to(source)}"
                if path.suffix == ".py":
                    self.python(guest, path)
                else:
                    self.file(guest, path)

    def python(self, name: str, source: Path) -> None:
        """A Python source and its byte code: compiling inside an emulated machine costs far more than reading.

        Byte code is marked as valid by hash and unchecked (PEP 552), so that no clock can make the guest compile again.
        """
        text = source.read_bytes()
        self.add(name, text, mtime=1)
        try:
            code = _compiled(source, text)
        except (SyntaxError, ValueError, EOFError):
            return  # such as a template; importing it fails in the guest as it does here
        cached = importlib.util.cache_from_source("/" + name.strip("/"))
        self.add(cached, importlib.util.MAGIC_NUMBER + b"\1\0\0\0" + importlib.util.source_hash(text) + code)

    def busybox(self, source: Path) -> None:
        """busybox and a link for each of its commands (those that this machine's busybox has, or the usual ones)."""
        self.file("/bin/busybox", source)
        for name in _commands(source):
            if name != "busybox":
                self.link(f"/bin/{name}", "busybox")

    def finish(self) -> bytes:
        """The archive's bytes."""
        trailer = b"070701" + b"00000000" * 4 + b"00000001" + b"00000000" * 6 + b"0000000B" + b"00000000" + b"TRAILER!!!\0"
        data = b"".join([*self._parts, trailer])
        return data + bytes(-len(data) % 512)


def _compiled(source: Path, text: bytes) -> bytes:
    """A module's marshalled code: from the host's own cache if that is up to date, else compiled."""
    cached = Path(importlib.util.cache_from_source(str(source)))
    try:
        data = cached.read_bytes()
        status = source.stat()
        stamp = int(status.st_mtime).to_bytes(4, "little") + (status.st_size & 0xFFFFFFFF).to_bytes(4, "little")
        if data[:4] == importlib.util.MAGIC_NUMBER and data[4:16] == bytes(4) + stamp:
            return data[16:]
    except OSError:
        pass
    return marshal.dumps(compile(text, str(source), "exec", dont_inherit=True))


def _linked_libraries(files: Iterable[Path]) -> set[Path]:
    """Every shared library (and the dynamic loader) that ELF files need, by asking the loader itself."""
    found: set[Path] = set()
    names = [str(path) for path in files]
    for start in range(0, len(names), 100):
        done = subprocess.run(["ldd", *names[start : start + 100]], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        for line in done.stdout.splitlines():
            words = line.split()
            path = words[2] if len(words) > 3 and words[1] == "=>" else words[0] if words else ""
            if path.startswith("/") and not path.endswith(":"):
                found.add(Path(path))
    return found


def program_files(archive: Archive, programs: Iterable[str]) -> None:
    """Adds programs of the host, by name or path, with the libraries they link to.

    Raises:
        VmError: a program is not installed.
    """
    paths = []
    for program in programs:
        where = shutil.which(program)
        if where is None:
            raise VmError(f"{program} is not installed, so it cannot be put into the guest")
        paths.append(Path(where))
    for path in [*paths, *_linked_libraries(paths)]:
        archive.file(str(path), path)


def package_files(archive: Archive, packages: Iterable[str], place: str = "/harken/site") -> None:
    """Adds importable Python packages of the host, as they are installed here, and the compiled modules' libraries.

    Raises:
        VmError: a package cannot be found.
    """
    compiled = []
    for name in packages:
        origin = package_origin(name)
        if origin.name == "__init__.py":
            archive.tree(f"{place}/{name}", origin.parent)
            compiled += list(origin.parent.rglob("*.so"))
        else:
            archive.python(f"{place}/{origin.name}", origin)
    for path in _linked_libraries(compiled) if compiled else ():
        archive.file(str(path), path)


def package_origin(name: str) -> Path:
    """The file of a Python module, or the ``__init__.py`` of a package; raises VmError if it is not installed here."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise VmError(f"the Python package {name} is not installed here, so it cannot be put into the guest")
    return Path(spec.origin)


def wanted(relative: Path) -> bool:
    """Whether a guest needs a file of the standard library (its path there)."""
    return not (
        _UNWANTED.intersection(relative.parts)
        or any(str(relative).startswith(prefix + "/") for prefix in _UNWANTED if "/" in prefix)
        or any(part.startswith("config-") for part in relative.parts)
        or relative.name.endswith(_UNWANTED_SUFFIXES)
        or relative.name.startswith(_UNWANTED_MODULES)
    )


def _interpreter(archive: Archive) -> None:
    """The interpreter that runs this code and its standard library, at the host's paths."""
    executable = Path(os.path.realpath(sys.executable))
    library = Path(sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix, "base": sys.base_prefix}))
    archive.file(str(executable), executable)
    for name in ("python3", "python"):
        archive.link(f"/usr/bin/{name}", str(executable))
    compiled = [executable]
    for path in sorted(library.rglob("*")):
        if not path.is_file() or not wanted(path.relative_to(library)):
            continue
        if path.suffix == ".py":
            archive.python(str(path), path)
        else:
            archive.file(str(path), path)
            if path.suffix == ".so":
                compiled.append(path)
    for path in sorted(_linked_libraries(compiled)):
        archive.file(str(path), path)


def _commands(busybox: Path) -> list[str]:
    """The commands of a busybox; one of another machine cannot be asked, Debian's are built alike."""
    for program in (str(busybox), shutil.which("busybox")):
        try:
            if program is not None:
                done = subprocess.run([program, "--list"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
                if done.returncode == 0:
                    return done.stdout.split()
        except OSError:
            continue
    raise VmError("busybox is needed for the guest", "apt-get install busybox-static")


def base_image(packages: tuple[str, ...]) -> Path:
    """The part of the initramfs that changes seldom, built once per interpreter, busybox and set of packages.

    Args:
        packages: Python packages to include, beside the standard library.
    """
    executable = Path(os.path.realpath(sys.executable))
    key = hashlib.sha256(repr((sys.version, str(executable), os.stat(executable).st_mtime_ns, packages, _FORMAT)).encode())
    for name in packages:
        origin = package_origin(name)
        key.update(repr((str(origin), origin.stat().st_mtime_ns)).encode())

    def fill(archive: Archive) -> None:
        busybox = shutil.which("busybox")
        if busybox is None:
            raise VmError("busybox is needed for the guest", "apt-get install busybox-static")
        _interpreter(archive)
        archive.busybox(Path(busybox))
        package_files(archive, packages)

    return store_image(key.hexdigest(), fill)


def store_image(key: str, fill: Callable[[Archive], None]) -> Path:
    """The base image of a key, made by ``fill`` unless the cache has it; what was not used for longest goes."""
    place = cache_directory() / f"base-{key[:16]}.cpio"
    if place.exists():
        os.utime(place)
        return place
    for old in sorted(cache_directory().glob("base-*.cpio"), key=lambda path: path.stat().st_mtime)[: -(_KEPT - 1)]:
        old.unlink(missing_ok=True)
    archive = Archive()
    for folder in ("dev", "proc", "sys", "tmp", "run", "root", "etc", "harken"):
        archive.directory(folder)
    archive.device("/dev/console", 5, 1)
    fill(archive)
    place.parent.mkdir(parents=True, exist_ok=True)
    scratch = place.with_suffix(f".{os.getpid()}")
    scratch.write_bytes(archive.finish())
    scratch.rename(place)
    return place


_KEPT = 4
"""How many base images (70 MB each) stay in the cache; those unused for longest go."""

_FORMAT = 1
"""Raised when `base_image` puts other things into the image, so that old ones in the cache are not used."""
