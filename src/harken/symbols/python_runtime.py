"""Finding CPython in a process: where its ``_PyRuntime`` lies, which version it is, and where that version keeps things.

The runtime is a symbol of the program or of libpython, and a section of its own (".PyRuntime"), so that stripped builds are found too.  The
version is read from ``Py_Version`` or from the table of offsets with which ``_PyRuntime`` starts since 3.13.

Versions: 3.11 to 3.15, 64 bits, with or without the global lock (since 3.13).
"""

from __future__ import annotations

import struct

from ..base.errors import HarkenError
from ..base.record import Record
from .binaries import open_elf
from .python_memory import MemoryView, Unreadable
from .python_offsets import COOKIE, DEBUG_OFFSETS, LAYOUTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..formats.elf import Elf
    from ..kernel.kernel import Kernel
    from .model import Mapping
    from .processes import Processes

__all__ = ("Runtime", "find_runtime", "layout_of")

_PT_LOAD = 1
_PAGE = 4096
_MAX_FIELD = 1 << 24
_TABLE_SIZE = 1024
#: a bound for the structs that frames and code objects are read with
_MAX_STRUCT = 2048


class Runtime(Record):
    """CPython in a process.

    Attributes:
        path: the file that holds it.
        address: of ``_PyRuntime`` in the process.
        version: (3, 13).
        free_threaded: built without the global lock.
        offsets: name -> byte offset (see ``python_offsets``).
        eval_ranges: [start, end) addresses of the interpreter's loop in the process, as far as symbols tell.
    """

    path: str
    address: int
    version: tuple[int, int]
    free_threaded: bool
    offsets: dict[str, int]
    eval_ranges: tuple[tuple[int, int], ...] = ()


def layout_of(version: tuple[int, int], table: bytes) -> tuple[dict[str, int], bool] | None:
    """(offsets, whether it is free-threaded) of a version; None if the version is not known or its table makes no sense.

    Args:
        table: the first KiB of ``_PyRuntime``.

    Example:
        >>> layout_of((3, 12), b"")[0]["filename"], layout_of((3, 9), b"")
        (112, None)
    """
    plain = LAYOUTS.get(version)
    if plain is not None:
        return plain, False
    fields = DEBUG_OFFSETS.get(version)
    if fields is None or not table.startswith(COOKIE):
        return None
    found = {}
    for name, place in fields.items():
        if place + 8 > len(table):
            return None
        (found[name],) = struct.unpack_from("<Q", table, place)
        if found[name] > _MAX_FIELD:
            return None
    if found["frame_size"] > _MAX_STRUCT or found["code_size"] > _MAX_STRUCT or found["string_ascii_size"] > _MAX_STRUCT:
        return None
    # PyCompactUnicodeObject adds the length and the address of the UTF-8 form
    found["string_compact_size"] = found["string_ascii_size"] + 16
    return found, bool(found.pop("free_threaded"))


def find_runtime(kernel: Kernel, pid: int, processes: Processes, loop: bool = True) -> Runtime | None:
    """The CPython that a process runs; None if it runs none, or one that is not known here.

    Args:
        loop: look for the interpreter's loop as well (``eval_ranges``).
    """
    mappings = processes.mappings(pid)
    paths = list(dict.fromkeys(m.path for m in mappings if m.path.startswith("/")))
    # the program (which lies lowest) may have it built in under any name; a library is called libpython
    for path in [*paths[:1], *(path for path in paths[1:] if "python" in path.rpartition("/")[2])]:
        try:
            elf = open_elf(kernel, processes.root(pid) + path)
            found = _in_file(kernel, pid, elf, path, mappings, loop)
        except (HarkenError, Unreadable):
            continue
        if found is not None:
            return found
    return None


def _in_file(kernel: Kernel, pid: int, elf: Elf, path: str, mappings: tuple[Mapping, ...], loop: bool) -> Runtime | None:
    if elf.bits != 64 or elf.big_endian:
        return None
    section = elf.section(".PyRuntime")
    symbol = elf.symbol("_PyRuntime")
    if section is None and symbol is None:
        return None
    bias = _bias(elf, [m for m in mappings if m.path == path])
    if bias is None:
        return None
    address = bias + (symbol.value if symbol is not None else section.address if section is not None else 0)
    memory = MemoryView(kernel, pid)
    table = memory.read(address, _TABLE_SIZE)
    number = 0
    if table.startswith(COOKIE):
        (number,) = struct.unpack_from("<Q", table, 8)
    else:
        known = elf.symbol("Py_Version")
        if known is not None:
            number = memory.word(bias + known.value)
    version = (number >> 24 & 0xFF, number >> 16 & 0xFF) if number else _version_of(path)
    layout = layout_of(version, table)
    if layout is None:
        return None
    offsets, free_threaded = layout
    ranges = []
    for name, start, size in elf.functions() if loop else ():
        if name.startswith("_PyEval_EvalFrameDefault") and size:
            ranges.append((bias + start, bias + start + size))
    return Runtime(path, address, version, free_threaded, offsets, tuple(ranges))


def _version_of(path: str) -> tuple[int, int]:
    """From a name like libpython3.11.so.1.0; (0, 0) if it tells nothing."""
    _, _, rest = path.rpartition("/")[2].partition("python")
    major, _, rest = rest.partition(".")
    digits = ""
    for letter in rest:
        if not letter.isdigit():
            break
        digits += letter
    return (int(major), int(digits)) if major.isdigit() and digits else (0, 0)


def _bias(elf: Elf, mappings: list[Mapping]) -> int | None:
    """How far the file was moved when it was loaded."""
    # by its code: a process may also have mapped the file to read it
    for segment in sorted(elf.segments, key=lambda segment: not segment.flags & 1):
        if segment.type != _PT_LOAD:
            continue
        for mapping in mappings:
            first = segment.offset & -_PAGE
            if mapping.executable == bool(segment.flags & 1) and first <= mapping.offset < segment.offset + segment.file_size:
                return mapping.start - mapping.offset - segment.address + segment.offset
    return None
