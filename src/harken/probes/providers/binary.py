"""Finding the binary of a uprobe or USDT probe: paths with wildcards, commands of ``$PATH``, libraries by name, a process's own files."""

from __future__ import annotations

import os

from ...base.errors import HarkenError
from .base import fail, is_glob, near_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..model import Pattern

__all__ = ("check_instruction", "executable_offset", "is_file", "open_elf", "paths_of")

#: Files that one pattern may name.
_MOST_FILES = 1024


def paths_of(pattern: Pattern, catalogue: Any) -> list[str]:
    """The files that the first part of a pattern names; each exists.

    "/bin/bash" and "./tool" are paths (``*`` is a wildcard within a part), "bash" is searched in ``$PATH``, "libc" and "libc.so.6" in the
    linker's cache; "*" are the executable and the libraries of the traced process (``pattern.pid``), "" is its executable
    (of markers: all).

    Raises:
        SourceError: no such file.
    """
    word, span, kind, pid = pattern.words[0], pattern.span, pattern.kind, pattern.pid
    if word in ("", "*"):
        if pid < 0:
            fail(f"{kind} needs a target file", span, f"name the binary, {kind}:/bin/bash:..., or the process with -p PID")
        try:
            found = catalogue.process_binaries(pid)
        except HarkenError as error:
            fail(str(error), span, error.hint)
        return list(found) if word or kind == "usdt" else list(found[:1])
    found = catalogue.binaries(word, pid)
    if not found and not is_glob(word):
        hint = (
            _near_file(catalogue.kernel, word, pid)
            if "/" in word
            else f"it is neither a command in $PATH nor a library: give {kind} the full path"
        )
        fail(f"{kind} target file '{word}' does not exist or is not executable", span, hint)
    return list(found[:_MOST_FILES]) if is_glob(word) else list(found[:1])


def _near_file(kernel: Any, path: str, pid: int) -> str:
    from ...symbols.binaries import process_root

    folder, _, name = os.path.abspath(path).rpartition("/")
    try:
        near = near_names(name, kernel.listdir(process_root(kernel, pid) + (folder or "/"))[:10000], 1)
    except OSError:
        return f"there is no directory {folder}" + (f" where process {pid} runs" if pid > 0 else "")
    return f"did you mean {folder}/{near[0]}?" if near else ""


def open_elf(path: str, pattern: Pattern, catalogue: Any, lenient: bool = False) -> Any:
    """The ELF file, or None if ``lenient`` and it is none; raises SourceError."""
    try:
        return catalogue.binary(path)
    except (HarkenError, OSError) as error:
        if lenient:
            return None
        reason = error.strerror if isinstance(error, OSError) else str(error).removeprefix(f"{path}: ")
        hint = getattr(error, "hint", "") or _what_instead(catalogue.kernel, path)
        fail(f"{pattern.kind} target file '{path}' cannot be read: {reason}", pattern.span, hint)


def _what_instead(kernel: Any, path: str) -> str:
    """What to name instead of a file that is no program, as far as its first bytes tell."""
    try:
        start = bytes(kernel.read(path, 256)).decode("utf-8", "replace")
    except OSError:
        return ""
    if start.startswith("#!"):
        words = start[2:].partition("\n")[0].split()
        if len(words) > 1 and words[0].endswith("/env"):
            del words[0]
        return f"it is a script: what runs is {words[0]}" if words else ""
    if start.startswith(("/* GNU ld script", "INPUT", "GROUP", "OUTPUT_FORMAT")):
        return "it is a script of the linker: name the library itself, such as libc.so.6"
    if start.startswith("!<arch>"):
        return "it is an archive of object files: probe the programs that it was linked into"
    return ""


def executable_offset(elf: Any, address: int) -> int | None:
    """The file offset of an address inside code, or None."""
    for segment in elf.segments:
        if segment.type == 1 and segment.flags & 1 and segment.address <= address < segment.address + segment.file_size:
            return int(address - segment.address + segment.offset)
    return None


def is_file(path: str, catalogue: Any, pid: int = -1) -> bool:
    """Whether a path as it stands is a file."""
    return "/" in path and not is_glob(path) and bool(catalogue.binaries(path, pid))


def check_instruction(elf: Any, pattern: Pattern, function: str, address: int, offset: int) -> None:
    """Refuses a place where certainly no instruction starts.

    The kernel writes its breakpoint wherever it is told; in the middle of an instruction the program would do something else from then on.

    Args:
        elf: the file.
        pattern: for the error.
        function: its name, which starts at ``address``.
        offset: of the place in it.

    Raises:
        SourceError: the place is in the middle of an instruction.
    """
    if not offset:
        return
    if elf.machine_name == "aarch64":
        if (address + offset) & 3:
            hint = f"instructions are 4 bytes long: write {function}+{offset & ~3:#x}"
            fail(f"Could not add {pattern.kind} into middle of instruction: {function}+{offset:#x}", pattern.span, hint)
        return
    start = executable_offset(elf, address)
    if elf.machine_name != "x86_64" or start is None:
        return
    from ...formats.x86_length import length, starts_at

    if starts_at(elf.data, start, offset) is False:
        place = start
        while place + length(elf.data, place) <= start + offset:
            place += length(elf.data, place)
        begin, end = place - start, place - start + length(elf.data, place)
        hint = f"instructions start at {function}+{begin:#x} and {function}+{end:#x} (`objdump -d` shows them)"
        fail(f"Could not add {pattern.kind} into middle of instruction: {function}+{offset:#x}", pattern.span, hint)
