"""A small cache on disk: whatever costs time to compute and can be computed again.

Compiled programs, probed features and the BTF index are kept here between runs.  Nothing depends on it: every function answers
"not there" instead of raising, and a wrong or missing file only costs time.

Where: ``$HARKEN_CACHE`` if set (``off`` or an empty value turns the cache off), for root ``/var/cache/harken`` (a root shell started
with ``sudo`` often has the user's ``HOME``), else ``$XDG_CACHE_HOME/harken``, else ``~/.cache/harken``.

Trust: what is loaded may end up as instructions in the kernel, so the directory is 0700 and must belong to the caller, and a file that
belongs to somebody else, can be written by group or others, is a symbolic link or lacks the key it was stored under, is ignored.

Concurrency: a file is written under a private name, then renamed; readers see the old or the new content, never half of one.  A
file that is mapped stays valid when it is replaced or pruned.

Size: when the directory holds more than ``LIMIT`` bytes or ``FILES`` files, those unused for longest go first.
"""

from __future__ import annotations

import os
import stat
import time

__all__ = ("cache_dir", "load", "mapped", "pieces", "Pieces", "store", "remove", "digest", "writable", "LIMIT", "FILES")

#: Most bytes and files that stay in the directory.
LIMIT, FILES = 96 << 20, 2000

_MAGIC = b"harken\x01\n"
_HEAD = 20  # bytes: magic, length of the key (4), length of the data (8)
_ALIGN = 64
_DAY = 86400
_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_+=")
_counter = 0


def digest(*parts: bytes | memoryview | str) -> str:
    """A 128-bit hash in hex of byte strings and texts, in order (each part is delimited: ("ab", "c") differs from ("a", "bc")).

    Example:
        >>> digest("ab", b"c") == digest("ab", "c"), digest("ab", "c") == digest("a", "bc"), len(digest(""))
        (True, False, 32)
    """
    try:
        from _blake2 import blake2b  # hashlib would load OpenSSL: 4 ms
    except ImportError:  # an implementation without the private module
        from hashlib import blake2b
    state = blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "little"))
        state.update(data)
    return state.hexdigest()


def cache_dir() -> str | None:
    """The cache directory, made if it is not there; None if there is none that can be trusted."""
    wish = os.environ.get("HARKEN_CACHE")
    if wish is not None:
        if wish in ("", "off"):
            return None
        path = wish
    elif os.geteuid() == 0:
        path = "/var/cache/harken"
    else:
        base = os.environ.get("XDG_CACHE_HOME", "")
        if not base.startswith("/"):  # the XDG specification: relative paths are ignored
            home = os.environ.get("HOME", "")
            if not home.startswith("/"):
                return None
            base = home + "/.cache"
        path = base + "/harken"
    try:
        state = os.lstat(path)
    except OSError:
        try:
            os.makedirs(path, 0o700, exist_ok=True)
            state = os.lstat(path)
        except OSError:
            return None
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.geteuid() or state.st_mode & 0o022:
        return None
    return path


def writable() -> bool:
    """Whether ``store`` may succeed: there is a directory, and it is not on a file system that is read-only."""
    path = cache_dir()
    return path is not None and os.access(path, os.W_OK)


def load(kind: str, key: str) -> bytes | None:
    """What ``store`` kept under (kind, key), or None."""
    found = _open(kind, key)
    if found is None:
        return None
    fd, start, length = found
    try:
        parts = []
        while length > 0:
            part = os.pread(fd, length, start)
            if not part:
                return None
            parts.append(part)
            start += len(part)
            length -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)
    except OSError:
        return None
    finally:
        os.close(fd)


class Pieces:
    """What is kept under a key: a slice of it is read when it is asked for, and shorter than that if it cannot be.

    Whoever becomes a daemon closes all descriptors, and another file may get the number of this one: then nothing is read any more.
    """

    def __init__(self, fd: int, start: int, length: int) -> None:
        self._fd, self._start, self._length = fd, start, length
        self._file = os.fstat(fd)[1:3]  # inode and device

    def _is_open(self) -> bool:
        try:
            return os.fstat(self._fd)[1:3] == self._file
        except OSError:
            return False

    def __getitem__(self, part: slice) -> bytes:
        start, stop, _ = part.indices(self._length)
        try:
            return os.pread(self._fd, max(stop - start, 0), self._start + start) if self._is_open() else b""
        except OSError:
            return b""

    def __del__(self) -> None:
        if self._is_open():
            os.close(self._fd)


def pieces(kind: str, key: str) -> Pieces | None:
    """Like ``mapped``, for what little is needed of: nothing is mapped, and no module loaded for it."""
    found = _open(kind, key)
    return Pieces(*found) if found is not None else None


def mapped(kind: str, key: str) -> memoryview | None:
    """Like ``load`` without reading: a view of the mapped file that must not be changed, whose pages come in when they are touched."""
    found = _open(kind, key)
    if found is None:
        return None
    fd, start, length = found
    import mmap

    try:
        # private and writable only because the accelerator must get its address; nobody writes
        return memoryview(mmap.mmap(fd, start + length, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE))[start:]
    except (OSError, ValueError):
        return None
    finally:
        os.close(fd)


def store(kind: str, key: str, data: bytes | bytearray | memoryview) -> bool:
    """Keeps ``data`` under (kind, key); tells whether it did."""
    global _counter
    directory = cache_dir()
    if directory is None or len(data) > LIMIT // 2:
        return False
    name = _name(kind, key)
    _counter += 1
    private = f".{os.getpid()}.{_counter}.{name}"[:250]
    raw = key.encode("utf-8", "surrogateescape")
    head = _MAGIC + len(raw).to_bytes(4, "little") + len(data).to_bytes(8, "little") + raw
    head += bytes(-len(head) % _ALIGN)
    try:
        folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    made = False
    try:
        fd = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
        made = True
        try:
            for part in (memoryview(head), memoryview(data).cast("B")):
                while part:
                    part = part[os.write(fd, part) :]
        finally:
            os.close(fd)
        os.rename(private, name, src_dir_fd=folder, dst_dir_fd=folder)
        made = False
        _prune(folder)
        return True
    except (OSError, ValueError):
        return False
    finally:
        if made:
            _unlink(private, folder)
        os.close(folder)


def remove(kind: str, key: str) -> None:
    """Forgets (kind, key), for content that turned out to be wrong."""
    directory = cache_dir()
    if directory is not None:
        try:
            os.unlink(f"{directory}/{_name(kind, key)}")
        except OSError:
            pass


def _name(kind: str, key: str) -> str:
    plain = key if 0 < len(key) <= 80 and _SAFE.issuperset(key) else digest(key)
    return f"{kind}.{plain}"


def _open(kind: str, key: str) -> tuple[int, int, int] | None:
    """(fd, offset of the data, length of the data) of a file that can be trusted."""
    directory = cache_dir()
    if directory is None:
        return None
    path = f"{directory}/{_name(kind, key)}"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError):
        return None
    try:
        state = os.fstat(fd)
        raw = key.encode("utf-8", "surrogateescape")
        if stat.S_ISREG(state.st_mode) and state.st_uid == os.geteuid() and not state.st_mode & 0o022:
            head = os.pread(fd, _HEAD + len(raw), 0)
            if head[:8] + head[_HEAD:] == _MAGIC + raw and int.from_bytes(head[8:12], "little") == len(raw):
                length = int.from_bytes(head[12:_HEAD], "little")
                start = len(head) + -len(head) % _ALIGN
                if state.st_size == start + length:
                    if time.time() - state.st_mtime > _DAY:
                        os.utime(fd)  # pruning goes by this
                    return fd, start, length
    except OSError:
        pass
    os.close(fd)
    return None


def _unlink(name: str, folder: int) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except OSError:
        pass


def _prune(folder: int) -> None:
    """Removes what was not used for longest until the directory is well below its limits, and what writers that died left behind."""
    now = time.time()
    files: list[tuple[float, int, str]] = []
    total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                state = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if not stat.S_ISREG(state.st_mode):
                continue
            if entry.name.startswith("."):
                if now - state.st_mtime > 3600:
                    _unlink(entry.name, folder)
                continue
            total += state.st_size
            files.append((state.st_mtime, state.st_size, entry.name))
    if total <= LIMIT and len(files) <= FILES:
        return
    files.sort()
    left = len(files)
    for _, size, name in files:
        if total <= LIMIT * 3 // 4 and left <= FILES * 3 // 4:
            break
        _unlink(name, folder)
        total -= size
        left -= 1
