"""Modules of a test kernel, with what they need, for guests: Debian builds file systems and loop devices as modules."""

from __future__ import annotations

import lzma
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from harken.formats.elf import Elf
from harken.testing import kernels

__all__ = ("STAND_IN", "WANTED", "modules", "stand_in")

#: what the tools trace or the workload uses
WANTED = ("crc32c_generic", "loop", "ext4", "btrfs", "xfs", "nfs", "nfsv4", "dummy", "kvm", "raid1", "virtio_pci", "virtio_rng", "nfsd")

#: the module that stands in for what test kernels lack, in a guest
STAND_IN = "/harken/modules/stand_in.ko"


def _folder(release: str) -> Path:
    """The unpacked modules of a release in the cache of kernels, downloaded at the first time."""
    image = kernels.find(release)
    place = kernels.cache_directory() / release / "modules"
    if place.is_dir():
        return place
    with tempfile.TemporaryDirectory(prefix="modules-", dir=kernels.cache_directory()) as scratch:
        root = Path(scratch)
        for suite in kernels.SUITES[release]:
            apt = kernels.Apt(root, (suite,), image.machine)
            apt.run("apt-get", "update")
            names = apt.run("apt-cache", "pkgnames", "linux-").split()
            package = next((n for n in (f"linux-modules-{image.version}", f"linux-image-{image.version}") if n in names), "")
            if package:
                break
        else:
            raise kernels.VmError(f"no package has the modules of {image.version}")
        apt.run("apt-get", "download", package)
        (archive,) = (root / "download").glob("*.deb")
        subprocess.run(["dpkg", "-x", str(archive), str(root / "unpacked")], check=True, stdin=subprocess.DEVNULL)
        (found,) = (path.parent for path in (root / "unpacked").glob("**/modules.builtin"))
        kept = root / "kept"
        kept.mkdir()
        for path in found.glob("**/*.ko*"):
            target = kept / path.relative_to(found)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
        kept.rename(place)
    return place


def modules(release: str, wanted: tuple[str, ...] = WANTED) -> dict[str, bytes]:
    """Guest path -> contents (uncompressed), in an order in which insmod takes them."""
    files = {path.name.partition(".ko")[0].replace("-", "_"): path for path in _folder(release).glob("**/*.ko*")}
    ordered: dict[str, bytes] = {}

    def add(name: str) -> None:
        path, guest = files.get(name), f"/harken/modules/{name}.ko"
        if path is None or guest in ordered:  # what is not a module is built in
            return
        data = path.read_bytes()
        if path.suffix == ".xz":
            data = lzma.decompress(data)
        for other in _needs(data):
            add(other)
        ordered[guest] = data

    for name in wanted:
        add(name.replace("-", "_"))
    return ordered


def _needs(data: bytes) -> list[str]:
    """What a module's own section .modinfo says that it stands on."""
    section = Elf(data).section(".modinfo")
    for line in bytes(section.data).split(b"\0") if section is not None else ():
        if line.startswith(b"depends="):
            return [word.replace("-", "_") for word in line[8:].decode().split(",") if word]
    return []


def stand_in(headers: Path) -> bytes:
    """The module of ``kernel_stand_in``, built.

    Args:
        headers: a folder with the unpacked packages linux-headers-*-amd64, linux-headers-*-common and linux-kbuild-* of the kernel.
    """
    source = headers.absolute() / "usr" / "src"
    names = sorted(name for name in os.listdir(source) if name.startswith("linux-headers"))
    build, common = (next(name for name in names if name.endswith("-common") == ends) for ends in (False, True))
    with tempfile.TemporaryDirectory() as scratch:
        folder = shutil.copytree(Path(__file__).parent / "kernel_stand_in", Path(scratch, "stand_in"))
        words = ["make", "-s", "-C", str(source / build), "-f", str(source / common / "Makefile"), f"M={folder}", "modules"]
        done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise kernels.VmError(f"the stand-in cannot be built: {done.stderr[-1000:]}")
        return (folder / "stand_in.ko").read_bytes()
