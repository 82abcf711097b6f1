"""Finding the binary of a uprobe or USDT probe: paths with wildcards, commands of ``$PATH``, libraries by name, a process's own files."""

from __future__ import annotations

import os

from ...base.errors import HarkenError
from .base import fail, is_glob, matcher, near_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...base.diagnostics import Span
    from ..model import Pattern

__all__ = ("paths_of", "open_elf", "executable_offset")

#: Files that one pattern may name.
_MOST_FILES = 1024


def paths_of(pattern: Pattern, catalogue: Any) -> list[str]:
    """The files that the first part of a pattern names; each exists.

    "/bin/bash" and "./tool" are paths (``*`` is a wildcard within a part), "bash" is searched in ``$PATH``, "libc" and "libc.so.6" in the
    linker's cache, and "" or "*" are the executable and the libraries of the traced process.

    Raises:
        SourceError: no such file.
    """
    word, span = pattern.words[0], pattern.span
    kernel = catalogue.kernel
    if word in ("", "*"):
        return _of_process(word, catalogue, pattern.kind, span)
    if "/" in word:
        path = word if word.startswith("/") else os.path.abspath(word)
        if is_glob(path):
            return _glob(kernel, path)
        if not kernel.exists(path):
            fail(f"{pattern.kind} target file '{word}' does not exist or is not executable", span, _near_file(kernel, path))
        return [path]
    found: list[str] = []
    if word.startswith("lib"):
        found = list(catalogue.libraries(word))
    if not found:
        found = _commands(kernel, word)
    if not found and not word.startswith("lib"):
        found = list(catalogue.libraries(word))
    if not found:
        fail(
            f"{pattern.kind} target file '{word}' does not exist or is not executable",
            span,
            f"it is neither a command in $PATH nor a library: give the full path, {pattern.kind}:/path/to/{word}:...",
        )
    return found[:1] if not is_glob(word) else found[:_MOST_FILES]


def _commands(kernel: Any, word: str) -> list[str]:
    found = []
    for folder in (os.environ.get("PATH") or "/usr/sbin:/usr/bin:/sbin:/bin").split(":"):
        if not folder.startswith("/"):
            continue
        if not is_glob(word):
            if kernel.exists(f"{folder}/{word}"):
                found.append(f"{folder}/{word}")
            continue
        try:
            found += [f"{folder}/{name}" for name in matcher(word, sorted(kernel.listdir(folder)))]
        except OSError:
            continue
    return found


def _glob(kernel: Any, path: str) -> list[str]:
    found = [""]
    for part in path.split("/")[1:]:
        if not is_glob(part):
            found = [f"{folder}/{part}" for folder in found]
            continue
        wider = []
        for folder in found:
            try:
                wider += [f"{folder}/{name}" for name in matcher(part, sorted(kernel.listdir(folder or "/")))]
            except OSError:
                continue
        found = wider[:_MOST_FILES]
    return [name for name in found if kernel.exists(name)]


def _near_file(kernel: Any, path: str) -> str:
    folder, _, name = path.rpartition("/")
    try:
        near = near_names(name, kernel.listdir(folder or "/")[:10000], 1)
    except OSError:
        return f"there is no directory {folder}"
    return f"did you mean {folder}/{near[0]}?" if near else ""


def _of_process(word: str, catalogue: Any, kind: str, span: Span | None) -> list[str]:
    pid = getattr(catalogue, "pid", -1)
    if pid is None or pid < 0:
        fail(f"{kind} needs a target file", span, f"name the binary, {kind}:/bin/bash:..., or the process with -p PID")
    from ...kernel.procfs import mappings

    found = dict.fromkeys(m.path for m in mappings(catalogue.kernel, pid) if "x" in m.perms and m.path.startswith("/"))
    paths = [path for path in found if catalogue.kernel.exists(path)]
    if not paths:
        fail(f"cannot read the memory map of process {pid}", span, "is it still running, and may you read /proc/PID/maps?")
    return paths if word == "*" else paths[:1]


def open_elf(path: str, pattern: Pattern, catalogue: Any, lenient: bool = False) -> Any:
    """The ELF file, or None if ``lenient`` and it is none; raises SourceError."""
    try:
        return catalogue.binary(path)
    except (HarkenError, OSError) as error:
        if lenient:
            return None
        reason = error.strerror if isinstance(error, OSError) else str(error)
        fail(f"{pattern.kind} target file '{path}' cannot be read: {reason}", pattern.span, getattr(error, "hint", ""))


def executable_offset(elf: Any, address: int) -> int | None:
    """The file offset of an address inside code, or None."""
    for segment in elf.segments:
        if segment.type == 1 and segment.flags & 1 and segment.address <= address < segment.address + segment.file_size:
            return int(address - segment.address + segment.offset)
    return None
