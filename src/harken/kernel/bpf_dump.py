"""BPF objects of the whole system, found as users name them, and what only a second question to the kernel tells: type information,
translated and machine code, source lines.

Facts: BPF_OBJ_GET_INFO_BY_FD in ``kernel/bpf/syscall.c``: sizes are asked first, then the buffers are filled.
"""

from __future__ import annotations

import os
from struct import iter_unpack

from ..abi import bpf as abi
from ..base.errors import KernelError, UsageError
from .bpf import Map, Program, open_pinned
from .bpf_info import _info, fd_by_id, ids, map_info, program_info
from .bpf_object import field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..formats.btf import Btf
    from .bpf_info import MapInfo
    from .kernel import Kernel

__all__ = ("code", "find", "holders", "lines", "map_of_id", "map_types", "maps", "memory_of", "programs", "types_of")

_MOST_BYTES = 64 << 20


def maps(kernel: Kernel) -> Iterator[Map]:
    """Every map of the system; the caller closes each."""
    for number in ids(kernel, "map"):
        fd = fd_by_id(kernel, "map", number)
        if fd is not None:
            yield Map.from_fd(kernel, fd)


def programs(kernel: Kernel) -> Iterator[Program]:
    """Every program of the system; the caller closes each."""
    for number in ids(kernel, "program"):
        fd = fd_by_id(kernel, "program", number)
        if fd is not None:
            yield Program.from_fd(kernel, fd)


def find(kernel: Kernel, kind: str, how: str, what: str) -> list[Map] | list[Program]:
    """Objects as users name them.

    Args:
        kind: "map" or "program".
        how: "id", "name" (as far as the kernel keeps it: 15 characters), "pinned" (a path), "tag" (programs).

    Returns:
        open objects, at least one; the caller closes them.

    Raises:
        UsageError: there is none.
        KernelError: the kernel refuses.
    """
    of: type[Map] | type[Program] = Map if kind == "map" else Program
    if how == "id":
        if not (what.isascii() and what.isdecimal()):
            raise UsageError(f"not a number: {what}")
        fd = fd_by_id(kernel, kind, int(what)) if int(what) < 1 << 32 else None
        if fd is None:
            raise UsageError(f"there is no {kind} with id {what}", f"'harken {'prog' if kind == 'program' else 'map'} list' shows all")
        return [of.from_fd(kernel, fd)]  # type: ignore[return-value]
    if how == "pinned":
        return [of.from_fd(kernel, open_pinned(kernel, what))]  # type: ignore[return-value]
    found: list[Map | Program] = []
    names = set()
    for one in maps(kernel) if kind == "map" else programs(kernel):
        names.add(one.name)
        tag = one.info().tag.hex() if how == "tag" and isinstance(one, Program) else ""
        if (how == "name" and one.name == what[:15]) or (tag and tag == what):
            found.append(one)
        else:
            one.close()
    if not found:
        from ..base.diagnostics import nearest

        near = nearest(what, sorted(name for name in names if name), 1)
        hint = f"did you mean {near[0]}?" if near else f"'harken {'prog' if kind == 'program' else 'map'} list' shows all"
        raise UsageError(f"there is no {kind} with {how} {what}", hint)
    return found  # type: ignore[return-value]


def holders(kernel: Kernel) -> dict[tuple[str, int], list[tuple[int, str]]]:
    """Which other processes hold descriptors of BPF objects: ("map" or "prog", id) -> [(pid, comm)]."""
    own = str(os.getpid())
    found: dict[tuple[str, int], list[tuple[int, str]]] = {}
    for name in kernel.listdir("/proc"):
        if not name.isdecimal() or name == own:
            continue
        try:
            numbers = kernel.listdir(f"/proc/{name}/fd")
        except OSError:
            continue
        seen = set()
        for number in numbers:
            try:
                if "bpf-" not in os.readlink(f"/proc/{name}/fd/{number}"):
                    continue
                text = kernel.read(f"/proc/{name}/fdinfo/{number}", 1 << 16).decode("utf-8", "replace")
            except OSError:
                continue
            for line in text.splitlines():
                key, _, value = line.partition(":\t")
                if key in ("map_id", "prog_id") and value.isdecimal():
                    seen.add((key[:-3], int(value)))
        if seen:
            try:
                comm = kernel.read(f"/proc/{name}/comm", 64).decode("utf-8", "replace").rstrip("\n")
            except OSError:
                comm = "?"
            for what in seen:
                found.setdefault(what, []).append((int(name), comm))
    return found


def memory_of(kernel: Kernel, fd: int) -> int:
    """Bytes that an object of ours takes, as the kernel states them in fdinfo; 0 if it does not."""
    try:
        text = kernel.read(f"/proc/self/fdinfo/{fd}", 1 << 16).decode("utf-8", "replace")
    except OSError:
        return 0
    for line in text.splitlines():
        key, _, value = line.partition(":\t")
        if key == "memlock" and value.isdecimal():
            return int(value)
    return 0


def types_of(kernel: Kernel, number: int) -> Btf | None:
    """The type information with this id (``btf_id`` of a map or program), None if it is gone or there is none."""
    from ..formats.btf import Btf

    if not number:
        return None
    fd = fd_by_id(kernel, "btf", number)
    if fd is None:
        return None
    try:
        head = _info(kernel, fd, abi.BTF_INFO, abi.BTF_INFO_SIZE, "type information")
        size = min(field(abi.BTF_INFO, "btf_size", head), _MOST_BYTES)
        if field(abi.BTF_INFO, "kernel_btf", head):
            from .btf import vmlinux_types

            return vmlinux_types(kernel)
        data = bytearray(size)
        _info(kernel, fd, abi.BTF_INFO, abi.BTF_INFO_SIZE, "type information", btf=data, btf_size=size)
        return Btf(bytes(data), f"type information {number}")
    finally:
        kernel.close(fd)


def map_types(kernel: Kernel, info: MapInfo) -> tuple[Btf | None, int, int]:
    """(types, id of the key's, id of the value's) of a map; (None, 0, 0) if it was made without."""
    if not info.btf_id or not info.btf_value_type_id:
        return None, 0, 0
    btf = types_of(kernel, info.btf_id)
    return (btf, info.btf_key_type_id, info.btf_value_type_id) if btf is not None else (None, 0, 0)


def code(kernel: Kernel, program: Program, jited: bool) -> bytes:
    """A program's instructions as the verifier left them, or the machine code that it became; b"" if the kernel does not tell."""
    info = program_info(kernel, program.fd)
    size = min(info.jited_size if jited else info.xlated_size, _MOST_BYTES)
    if not size:
        return b""
    data = bytearray(size)
    if jited:
        told = _info(kernel, program.fd, abi.PROG_INFO, abi.PROG_INFO_SIZE, "a program", jited_prog_insns=data, jited_prog_len=size)
        kept = field(abi.PROG_INFO, "jited_prog_insns", told)
    else:
        told = _info(kernel, program.fd, abi.PROG_INFO, abi.PROG_INFO_SIZE, "a program", xlated_prog_insns=data, xlated_prog_len=size)
        kept = field(abi.PROG_INFO, "xlated_prog_insns", told)
    # without the rights to see addresses the kernel clears the pointer instead of filling the buffer
    return bytes(data) if kept else b""


def lines(kernel: Kernel, program: Program) -> tuple[Btf | None, list[tuple[int, int, int, int]]]:
    """A program's types and its line marks: (instruction slot, offsets of file and line in the types' strings, line << 10 | column)."""
    first = _info(kernel, program.fd, abi.PROG_INFO, abi.PROG_INFO_SIZE, "a program")
    count = min(field(abi.PROG_INFO, "nr_line_info", first), 1 << 20)
    each = field(abi.PROG_INFO, "line_info_rec_size", first)
    btf = types_of(kernel, field(abi.PROG_INFO, "btf_id", first))
    if not count or btf is None or each < 16:
        return btf, []
    data = bytearray(count * each)
    _info(
        kernel, program.fd, abi.PROG_INFO, abi.PROG_INFO_SIZE, "a program", line_info=data, nr_line_info=count, line_info_rec_size=each
    )  # fmt: skip
    return btf, [row[:4] for row in iter_unpack(f"=4I{each - 16}x", data)]


def map_of_id(kernel: Kernel, number: int) -> MapInfo | None:
    """What the kernel knows of the map with this id, None if it is gone."""
    fd = fd_by_id(kernel, "map", number)
    if fd is None:
        return None
    try:
        return map_info(kernel, fd)
    except KernelError:
        return None
    finally:
        kernel.close(fd)
