"""Test kernels: stock Debian kernels, downloaded once and never installed.

A release is named as in the kernel's own version, ``6.1`` or ``6.12`` (or ``newest``); ``6.12-rt`` is the real-time flavour, which has
tracers of latencies; ``6.12-arm64`` is of another machine than this one.  Its package is looked for in the suites of
`SUITES`, over the mirror that this machine's own apt is configured with, by a private apt state inside the cache folder: the machine's
sources, package lists and installed packages stay as they are.  Debian's signatures are checked by apt as always.

The cache is ``$HARKEN_KERNEL_CACHE``, else ``$XDG_CACHE_HOME/harken/kernels``, else ``~/.cache/harken/kernels``: one folder per release
with ``vmlinuz``, ``config`` and ``version`` (modules are not kept: the guests need none).

From Linux 6.19 on, Debian splits ``linux-image-V`` into ``linux-binary-V`` (the image), ``linux-modules-V`` and ``linux-base-V``.
Cloud flavours are left out: they lack drivers that the guests use.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from ..base.errors import HarkenError
from .vm_machines import MACHINES, split_release, this_machine

__all__ = (
    "CI_RELEASES",
    "SUITES",
    "Apt",
    "AptSource",
    "KernelImage",
    "VmError",
    "cache_directory",
    "find",
    "fetch",
    "parse_sources",
    "unpack",
)

CI_RELEASES = ("6.1", "6.12")
"""The releases that continuous integration runs."""

SUITES = {
    "5.10": ("bullseye",),
    "6.1": ("bookworm",),
    "6.12": ("bookworm-backports", "trixie"),
    "6.1-rt": ("bookworm",),
    "6.12-rt": ("trixie", "bookworm-backports"),
    "6.18": ("trixie-backports",),
    "newest": ("trixie-backports", "sid"),
}
"""Where a release was last seen; others are searched for in all of these suites."""

_APT_TIMEOUT = 600.0


class VmError(HarkenError):
    """A test kernel could not be had, or a guest did not do what it was asked to."""


class AptSource(NamedTuple):
    """One archive that apt is configured with: its address, suites, components and the option that names its keys."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str = ""


class KernelImage(NamedTuple):
    """A kernel that a guest can boot; ``machine`` as uname(2) says."""

    release: str
    version: str
    vmlinuz: Path
    config: Path
    machine: str = this_machine()


def cache_directory() -> Path:
    """Where downloaded kernels are kept (it need not exist yet)."""
    own = os.environ.get("HARKEN_KERNEL_CACHE")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "harken" / "kernels"


def parse_sources(text: str, deb822: bool) -> list[AptSource]:
    """The enabled binary archives of one apt sources file.

    Args:
        text: the file's text.
        deb822: True for the ``.sources`` form (sources.list(5), "DEB822-STYLE FORMAT"), False for one-line entries.

    >>> parse_sources("deb [signed-by=/k.gpg] http://mirror.example/debian bookworm main", deb822=False)
    [AptSource(uri='http://mirror.example/debian', suites=('bookworm',), components=('main',), signed_by='/k.gpg')]
    """
    found = []
    if not deb822:
        for line in text.splitlines():
            match = re.match(r"\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s*([^#]*)", line)
            if match:
                options, uri, suite, components = match.groups()
                keys = re.search(r"signed-by=(\S+)", options or "")
                found.append(AptSource(uri.rstrip("/"), (suite,), tuple(components.split()), keys.group(1) if keys else ""))
        return found
    for paragraph in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in paragraph.splitlines():
            if line.startswith("#"):
                continue
            if line[:1].isspace() and name:
                fields[name] += "\n" + line.strip()
            elif ":" in line:
                name, value = line.split(":", 1)
                name = name.strip().lower()
                fields[name] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in ("no", "false", "0"):
            continue
        keys_field = fields.get("signed-by", "")
        keys_path = keys_field if keys_field.startswith("/") else ""
        for uri in fields.get("uris", "").split():
            suites, components = tuple(fields["suites"].split()), tuple(fields.get("components", "").split())
            found.append(AptSource(uri.rstrip("/"), suites, components, keys_path))
    return found


def _configured_sources() -> list[AptSource]:
    """The archives of this machine, from both forms of configuration."""
    found = []
    folder = Path("/etc/apt")
    files = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]
    for path in files:
        if path.suffix in (".list", ".sources") and path.is_file():
            found += parse_sources(path.read_text(errors="replace"), path.suffix == ".sources")
    return found


def _debian_mirror() -> AptSource:
    """The configured archive that carries Debian itself: one with a suite that has a plain Debian code name and component main."""
    names = {"bookworm", "trixie", "forky", "sid", "stable", "testing", "unstable"}
    for source in _configured_sources():
        if names.intersection(source.suites) and "main" in source.components and "security" not in source.uri:
            return source
    raise VmError(
        "no Debian archive is configured in /etc/apt, so test kernels cannot be downloaded",
        "put a vmlinuz (and its config) into " + str(cache_directory() / "RELEASE") + ", or pass a path instead of a release",
    )


class Apt:
    """apt with a state of its own in ``root``: reads the machine's proxies and keys, writes only below ``root``.

    Args:
        machine: whose packages, as uname(2) says; any machine can download those of any other.
    """

    def __init__(self, root: Path, suites: tuple[str, ...], machine: str) -> None:
        for tool in ("apt-get", "apt-cache", "dpkg"):
            if shutil.which(tool) is None:
                raise VmError(f"{tool} is needed to download test kernels", "pass the path of a vmlinuz instead of a release")
        mirror = _debian_mirror()
        self.root = root
        self.architecture = MACHINES[machine].debian
        for folder in ("state/lists/partial", "cache/archives/partial", "parts", "download"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        (root / "status").touch()
        keys = f"signed-by={mirror.signed_by} " if mirror.signed_by else ""
        lines = [f"deb [{keys}arch={self.architecture}] {mirror.uri} {suite} main\n" for suite in suites]
        (root / "sources.list").write_text("".join(lines))

    def run(self, program: str, *arguments: str) -> str:
        """What the program prints; raises VmError."""
        options = {
            "Dir::Etc::sourcelist": self.root / "sources.list",
            "Dir::Etc::sourceparts": self.root / "parts",
            "Dir::Etc::preferencesparts": self.root / "parts",
            "Dir::State": self.root / "state",
            "Dir::State::status": self.root / "status",
            "Dir::Cache": self.root / "cache",
            "APT::Architecture": self.architecture,
            "APT::Architectures": self.architecture,
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
        }
        command = [program]
        for name, value in options.items():
            command += ["-o", f"{name}={value}"]
        done = subprocess.run(
            [*command, *arguments],
            cwd=self.root / "download",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_APT_TIMEOUT,
        )
        if done.returncode:
            raise VmError(f"{program} {arguments[0]} failed: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout


def unpack(package: Path, into: Path) -> None:
    """The files of a Debian package, whatever its machine; nothing is run."""
    subprocess.run(["dpkg", "-x", str(package), str(into)], check=True, stdin=subprocess.DEVNULL, timeout=_APT_TIMEOUT)


def _version_key(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text))


def choose_package(names: list[str], release: str, architecture: str) -> str:
    """The newest kernel package of a release among package names, or "".

    >>> choose_package(["linux-image-6.1.0-9-amd64", "linux-image-6.1.0-44-amd64", "linux-image-6.12.9-amd64"], "6.1", "amd64")
    'linux-image-6.1.0-44-amd64'
    >>> choose_package(["linux-binary-7.3.1+deb13-amd64", "linux-image-6.18.4+deb13-amd64"], "newest", "amd64")
    'linux-binary-7.3.1+deb13-amd64'
    >>> choose_package(["linux-image-6.1.0-44-amd64", "linux-image-6.1.0-44-rt-amd64"], "6.1-rt", "amd64")
    'linux-image-6.1.0-44-rt-amd64'
    """
    number, _, flavour = release.partition("-")
    wanted = r"\d+\.\d+" if number == "newest" else re.escape(number)
    unwanted = re.compile(r"cloud|dbg|unsigned|\d-rc|~rc" + ("" if flavour == "rt" else "|-rt"))
    pattern = re.compile(rf"linux-(image|binary)-({wanted}[.\d]*[-+.~\w]*?)-{architecture}")
    matches = []
    for name in names:
        match = pattern.fullmatch(name)
        if flavour == "rt" and not name.endswith(f"-rt-{architecture}"):
            continue
        if match and not unwanted.search(name) and re.match(rf"{wanted}(?!\d)", match.group(2)):
            matches.append((_version_key(match.group(2)), match.group(1) == "binary", name))
    return max(matches)[2] if matches else ""


def fetch(release: str, into: Path | None = None) -> KernelImage:
    """Downloads a release (60 to 110 MB) into the cache and unpacks its image; needs apt-get and dpkg.

    Args:
        release: ``6.12``, ``newest`` or ``6.12-arm64``.
        into: the cache folder; default `cache_directory()`.

    Raises:
        VmError: no archive is configured, none has that release, or apt failed.
    """
    number, machine = split_release(release)
    cache = into or cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    suites = SUITES.get(number) or tuple(dict.fromkeys(suite for known in SUITES.values() for suite in known))
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=cache) as scratch:
        root = Path(scratch)
        for group in (suites,) if number == "newest" else tuple((suite,) for suite in suites):
            apt = Apt(root, group, machine)
            apt.run("apt-get", "update")
            package = choose_package(apt.run("apt-cache", "pkgnames", "linux-").split(), number, apt.architecture)
            if package:
                break
        else:
            raise VmError(f"no Debian kernel {release} in {', '.join(suites)}", "known releases: " + ", ".join(SUITES))
        apt.run("apt-get", "download", package)
        (archive,) = (root / "download").glob("*.deb")
        unpacked = root / "unpacked"
        unpack(archive, unpacked)
        images = sorted(unpacked.glob("**/vmlinuz*"))
        if not images:
            raise VmError(f"{archive.name} contains no kernel image")
        version = package.split("-", 2)[2]
        ready = root / "ready"
        ready.mkdir()
        shutil.move(images[0], ready / "vmlinuz")
        configs = sorted(unpacked.glob("**/config-*")) or sorted(unpacked.glob("**/config"))
        if not configs:  # 6.19 and later: in linux-base-V
            configs = _fetch_config(apt, root, version)
        if configs:
            shutil.move(configs[0], ready / "config")
        else:
            (ready / "config").touch()
        (ready / "version").write_text(version + "\n")
        place = cache / release
        if place.exists():
            shutil.rmtree(place)
        ready.rename(place)
    return _cached(place, release)


def _fetch_config(apt: Apt, root: Path, version: str) -> list[Path]:
    """The kernel's configuration from its companion package, where the image's own package has none."""
    names = apt.run("apt-cache", "pkgnames", "linux-").split()
    for companion in (f"linux-base-{version}", f"linux-modules-{version}"):
        if companion in names:
            for old in (root / "download").glob("*.deb"):
                old.unlink()
            apt.run("apt-get", "download", companion)
            (archive,) = (root / "download").glob("*.deb")
            unpack(archive, root / companion)
            found = sorted((root / companion).glob("**/config-*"))
            if found:
                return found
    return []


def _cached(place: Path, release: str) -> KernelImage:
    version = place / "version"
    name = version.read_text().strip() if version.exists() else release
    return KernelImage(release, name, place / "vmlinuz", place / "config", split_release(release)[1])


def find(release: str, download: bool = True) -> KernelImage:
    """A bootable kernel by release, or by the path of a vmlinuz.

    Args:
        release: ``6.1``, ``newest``, or a path with a slash in it.
        download: fetch what the cache does not have.

    Raises:
        VmError: there is none, with the way to get one.
    """
    if "/" in release:
        image = Path(release)
        if not image.is_file():
            raise VmError(f"{release} is not a file")
        name = image.name.removeprefix("vmlinuz-")
        beside = image.with_name("config-" + name) if name != image.name else image.with_name("config")
        return KernelImage(name, name, image, beside)
    place = cache_directory() / release
    if (place / "vmlinuz").is_file():
        return _cached(place, release)
    if not download:
        raise VmError(f"test kernel {release} is not in {place.parent}", f"python -m harken.testing.kernels {release}")
    return fetch(release)


def main() -> int:
    """``python -m harken.testing.kernels RELEASE...``: fetches what is missing and says where it is."""
    import argparse
    import sys

    parser = argparse.ArgumentParser(prog="python -m harken.testing.kernels", description="Download Debian kernels for test guests.")
    parser.add_argument("release", nargs="*", default=list(CI_RELEASES), help=f"such as 6.12, or newest (default: {' '.join(CI_RELEASES)})")
    for release in parser.parse_args().release:
        try:
            kernel = find(release)
        except VmError as error:
            sys.stderr.write(f"{error}\n{error.hint}\n")
            return 1
        sys.stdout.write(f"{kernel.release}: {kernel.version} in {kernel.vmlinuz}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
