"""Separate files with symbols and DWARF: where distributions put what they strip from programs.

The order is gdb's ("Debugging Information in Separate Files"): by build-id below /usr/lib/debug/.build-id, then by the name and checksum in
section .gnu_debuglink beside the file, in .debug beside it, and below /usr/lib/debug.  A file counts only if its build-id (or else the
checksum) is the right one.  A process in a container has its own /usr/lib/debug, which is looked at first.

Servers of the debuginfod protocol are asked only if the caller says so and ``DEBUGINFOD_URLS`` names some: a download tells others what
runs here.  A file is fetched once into the cache that elfutils uses too (``DEBUGINFOD_CACHE_PATH``, else ~/.cache/debuginfod_client), in
bounded time (``DEBUGINFOD_TIMEOUT`` seconds, 90) and size (``DEBUGINFOD_MAXSIZE`` bytes, 2 GiB).  Reference: debuginfod(8), "WEBAPI".

Example:
    >>> by_build_id("e1f2a3"), [*linked("/usr/bin/ls", "ls.debug")][2]
    ('/usr/lib/debug/.build-id/e1/f2a3.debug', '/usr/lib/debug/usr/bin/ls.debug')
"""

from __future__ import annotations

import os

from ..base.errors import HarkenError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..formats.elf import Elf
    from ..kernel.kernel import Kernel

__all__ = ("find", "candidates", "by_build_id", "by_perf_cache", "linked", "fetch")

DEBUG = "/usr/lib/debug"
_CHUNK = 1 << 16
_LARGEST = 2 << 30
_missing: set[str] = set()


def by_build_id(build_id: str, root: str = "") -> str:
    """The path of a debug file by build-id."""
    return f"{root}{DEBUG}/.build-id/{build_id[:2]}/{build_id[2:]}.debug"


def by_perf_cache(build_id: str) -> str:
    """Where ``perf record`` keeps a copy of a file that was sampled (perf-buildid-cache(1))."""
    return f"{os.path.expanduser('~')}/.debug/.build-id/{build_id[:2]}/{build_id[2:]}/elf"


def linked(path: str, name: str, root: str = "") -> Iterator[str]:
    """Paths where a file's .gnu_debuglink may lie.

    Args:
        path: of the stripped file, as its process sees it.
        name: what the section states.
        root: a prefix such as "/proc/42/root".
    """
    folder = path.rpartition("/")[0]
    yield f"{root}{folder}/{name}"
    yield f"{root}{folder}/.debug/{name}"
    yield f"{root}{DEBUG}{folder}/{name}"
    if folder.startswith("/usr/"):  # /lib may be a link to /usr/lib, and packages disagree on which is meant
        yield f"{root}{DEBUG}{folder[4:]}/{name}"
    elif folder.startswith(("/lib", "/bin", "/sbin")):
        yield f"{root}{DEBUG}/usr{folder}/{name}"


def candidates(path: str, elf: Elf, root: str = "") -> list[str]:
    """All paths where the debug file of ``elf`` may lie, the best first; arguments as for ``find``.

    Raises:
        FormatError: the headers of ``elf`` do not fit.
    """
    build_id, link = elf.build_id, elf.debug_link()
    found = [by_build_id(build_id, prefix) for prefix in dict.fromkeys((root, ""))] if len(build_id) > 2 else []
    if link is not None and path.startswith("/"):
        found += linked(path, link[0], root)
    return found


def find(kernel: Kernel, path: str, elf: Elf, root: str = "", debuginfod: bool = False) -> Elf | None:
    """The file with the symbols (and DWARF) that were stripped from ``elf``; None if there is none here.

    Args:
        path: of ``elf`` as its process sees it, without ``root``.
        root: the prefix under which the process's files are reached.
        debuginfod: ask the servers of DEBUGINFOD_URLS too.
    """
    import zlib

    from .binaries import open_elf

    try:
        build_id, link = elf.build_id, elf.debug_link()
        choices = candidates(path, elf, root)
    except HarkenError:
        return None
    for choice in choices:
        if choice == root + path or not kernel.exists(choice):
            continue
        try:
            found = open_elf(kernel, choice, debug=False)
            if found.build_id == build_id if build_id else link is not None and zlib.crc32(found.data) == link[1]:
                return found
        except HarkenError:
            continue
    if debuginfod and build_id:
        fetched = fetch(build_id)
        if fetched:
            try:
                found = open_elf(kernel, fetched, debug=False)
                return found if found.build_id == build_id else None
            except HarkenError:
                return None
    return None


def fetch(build_id: str, kind: str = "debuginfo") -> str:
    """The path of a file from the debuginfod servers or their cache; "" if no server has it.

    Args:
        build_id: in hex.
        kind: "debuginfo" or "executable".
    """
    if len(build_id) < 8 or not set(build_id) <= set("0123456789abcdef") or kind not in ("debuginfo", "executable"):
        return ""
    base = os.environ.get("DEBUGINFOD_CACHE_PATH") or ""
    if not base:
        home = os.environ.get("XDG_CACHE_HOME") or os.environ.get("HOME", "") + "/.cache"
        base = home + "/debuginfod_client"
    path = f"{base}/{build_id}/{kind}"
    if os.path.isfile(path) and os.path.getsize(path):
        return path
    servers = os.environ.get("DEBUGINFOD_URLS", "").split()
    if not servers or path in _missing or not base.startswith("/"):
        return ""
    for server in servers[:16]:
        if server.startswith(("http://", "https://")) and _download(f"{server.rstrip('/')}/buildid/{build_id}/{kind}", path):
            return path
    _missing.add(path)
    return ""


def _download(url: str, path: str) -> bool:
    import http.client
    import time
    import urllib.request

    limit, left = _number("DEBUGINFOD_TIMEOUT", 90), _number("DEBUGINFOD_MAXSIZE", _LARGEST)
    end = time.monotonic() + limit
    private = f"{path}.{os.getpid()}"
    try:
        os.makedirs(path.rpartition("/")[0], 0o700, exist_ok=True)
        request = urllib.request.Request(url, headers={"User-Agent": "harken"})
        with urllib.request.urlopen(request, timeout=min(limit, 30)) as answer:
            fd = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as file:
                while True:
                    part = answer.read(_CHUNK)
                    if not part:
                        break
                    left -= len(part)
                    if left < 0 or time.monotonic() > end:
                        raise OSError("too large or too slow")
                    file.write(part)
        os.rename(private, path)
        return True
    except (OSError, ValueError, http.client.HTTPException):
        try:
            os.unlink(private)
        except OSError:
            pass
        return False


def _number(name: str, usual: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and 0 < int(text) < usual << 4 else usual
