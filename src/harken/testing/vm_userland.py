"""Guests of another machine: Debian's own Python of that machine instead of this interpreter.

The packages are downloaded once (12 MB) over the mirror that this machine's apt is configured with, unpacked below the cache folder, and
never installed; they need not be runnable here.  If Debian's Python has the version of this one, byte code made here serves there.

What a guest gets beside it must be of that machine as well: Python packages without compiled modules, and programs that need no libraries
but those of `PACKAGES` (``aarch64-linux-gnu-gcc -static`` makes some).
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from ..base.errors import FormatError
from ..formats.elf import Elf
from .kernels import Apt, VmError, cache_directory, unpack
from .vm_image import Archive, base_image, package_files, package_origin, store_image, wanted
from .vm_machines import MACHINES, this_machine

__all__ = ("PACKAGES", "SUITE", "base_image_for", "foreign_program", "guest_python", "pure_packages")

SUITE = "bookworm"
"""Whose packages are used."""

PACKAGES = (
    "python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "busybox-static", "libc6", "libgcc-s1", "libstdc++6",
    "libexpat1", "zlib1g", "libffi8", "libbz2-1.0", "liblzma5", "libssl3", "libuuid1", "libcrypt1",
)  # fmt: skip

_PYTHON = "/usr/bin/python3.11"
_LIBRARY = "usr/lib/python3.11"


def guest_python(machine: str) -> str:
    """Where the interpreter lies in a guest."""
    return os.path.realpath(sys.executable) if machine == this_machine() else _PYTHON


def base_image_for(machine: str, packages: tuple[str, ...]) -> Path:
    """The part of the initramfs that changes seldom; see `harken.testing.vm_image.base_image`.

    Raises:
        VmError: a package cannot be downloaded, or (of Python's) is not installed here.
    """
    if machine == this_machine():
        return base_image(packages)
    root = _userland(machine)
    key = hashlib.sha256(repr((sys.version, machine, PACKAGES, packages)).encode())
    for name in packages:
        origin = package_origin(name)
        key.update(repr((str(origin), origin.stat().st_mtime_ns)).encode())
    return store_image(key.hexdigest(), lambda archive: _fill(archive, root, packages))


def _fill(archive: Archive, root: Path, packages: tuple[str, ...]) -> None:
    library = root / _LIBRARY
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if name.startswith("usr/share") or path.is_relative_to(library) and not wanted(path.relative_to(library)):
            continue
        if path.is_symlink():
            archive.link(name, os.readlink(path))
        elif path.is_file() and path.suffix == ".py":
            archive.python(name, path)
        elif path.is_file():
            archive.file(name, path)
    for name in ("python3", "python"):
        archive.link(f"/usr/bin/{name}", _PYTHON)
    archive.busybox(root / "bin/busybox")
    package_files(archive, packages)


def _userland(machine: str) -> Path:
    """The unpacked packages, downloaded if they are not there."""
    debian = MACHINES[machine].debian
    place = cache_directory() / f"userland-{debian}-{hashlib.sha256(repr((SUITE, PACKAGES)).encode()).hexdigest()[:8]}"
    if place.is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=place.parent) as scratch:
        root = Path(scratch)
        apt = Apt(root, (SUITE,), machine)
        apt.run("apt-get", "update")
        apt.run("apt-get", "download", *(f"{name}:{debian}" for name in PACKAGES))
        for package in (root / "download").glob("*.deb"):
            unpack(package, root / "unpacked")
        (root / "unpacked").rename(place)
    return place


def pure_packages(packages: Iterable[str]) -> list[str]:
    """Those Python packages that have no compiled modules."""
    found = []
    for name in packages:
        origin = package_origin(name)
        if origin.name != "__init__.py" or not any(origin.parent.rglob("*.so*")):
            found.append(name)
    return found


def foreign_program(archive: Archive, program: str, machine: str) -> None:
    """Adds a program of another machine, under its own path.

    Raises:
        VmError: there is no such file, or it is of another machine.
    """
    path = Path(program).absolute()
    try:
        found = Elf(path.read_bytes()[: 1 << 16], program).machine_name
    except OSError as problem:
        raise VmError(f"{program}: {problem.strerror}, so it cannot be put into the guest", "give a path") from None
    except FormatError:
        found = machine  # a script
    if found != machine:
        raise VmError(f"{program} is a program of {found or 'another machine'}, and the guest is {machine}")
    archive.file(str(path), path)
