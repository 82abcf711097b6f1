"""Stacks and symbols as text, in bpftrace's layouts.

A record holds addresses; names come from whoever is handed to ``bound`` as ``names`` (the session's symbols).  Without names, addresses are
shown.  ``Field.detail`` of a stack is (mode, most frames), after ``bound`` a ``Bound``.

===========  =============================================================================================
mode         a frame
===========  =============================================================================================
bpftrace     eight spaces (four in a map's key), ``name+offset``, ``[module]`` of kernel modules, ``@file:line``;
             ``[inlined] name@file:line``
perf         tab, address in hex, ``name+offset``, ``(file)`` in a process; ``name (inlined)``
raw          address in hex
build_id     build id, offset in the file in hex; the address if the kernel did not find the build id
===========  =============================================================================================

Offsets are decimal.  A stack begins with a line end, and each frame ends with one.

Example:
    >>> from harken.base.schema import Field
    >>> field = Field("s", 0, "p", 24, "kstack", detail=("raw", 3))
    >>> text_of_stack(field)(bytes([1, 0, 0, 0, 0, 0, 0, 0, 0xff]) + bytes(15))
    '\\n1\\nff\\n'
"""

from __future__ import annotations

import struct

from ..base.record import Record
from ..base.schema import Field, Schema

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Protocol

    from ..base.schema import Buffer
    from .frames import FrameLike

    class Names(Protocol):
        """Who knows names."""

        def kernel(self, address: int) -> FrameLike: ...
        def user(self, pid: int, address: int) -> FrameLike: ...
        def kernel_stack(self, addresses: Sequence[int]) -> Sequence[FrameLike]: ...
        def user_stack(self, pid: int, addresses: Sequence[int]) -> Sequence[FrameLike]: ...
        def merged_python(self, raw: bytes) -> bytes: ...
        def python_stack(self, raw: Buffer) -> Sequence[FrameLike]: ...
        def unwind(self, raw: Buffer, limit: int, machine: str, pairs: int) -> bytes: ...
        def merged_stack(self, raw: Buffer) -> Sequence[FrameLike]: ...
        def unwound_stack(self, raw: Buffer) -> Sequence[FrameLike]: ...
        def seen(self, pid: int) -> None: ...


__all__ = (
    "ROLES",
    "EXACT",
    "COPIED",
    "UNWOUND",
    "Bound",
    "unwound",
    "frames_of_unwound",
    "python_words",
    "mixed_words",
    "bound",
    "needs_names",
    "split",
    "build_ids",
    "text_of_stack",
    "text_of_symbol",
)

#: Roles of fields that hold addresses with names.
ROLES = frozenset(("kstack", "ustack", "ksym", "usym"))
#: Modes of stacks that were copied and are unwound when they are shown, and of all that are shown as unwound ones.
COPIED = frozenset(("dwarf", "mixed"))
UNWOUND = COPIED | {"unwound", "merged"}
#: Marks an address of an unwound stack that is an instruction and not a return address (no process has addresses so high).
EXACT = 1 << 63
_PID_BYTES = 8
#: Lines of kernel stacks that are remembered; frames of a stack above which it is always asked for whole (it may have been cut).
_REMEMBERED, _DEEP = 1 << 16, 126
_INDENT = 8
_BUILD_ID = struct.Struct("=i20sQ")  # struct bpf_stack_build_id, include/uapi/linux/bpf.h
_VALID = 1  # BPF_STACK_BUILD_ID_VALID
#: What /proc/kallsyms calls modules but nobody would: code that the kernel makes at run time.
_NO_MODULES = ("[kernel.kallsyms]", "[bpf]", "[__builtin__ftrace]", "[__builtin__kprobes]")


class Bound(Record):
    """``Field.detail`` of a stack or symbol whose names are known: ``detail`` is what stood there before."""

    detail: Any
    names: Names


def needs_names(schema: Schema) -> bool:
    """Whether a record holds stacks or symbols."""
    return any([field.role in ROLES or (field.schema is not None and needs_names(field.schema)) for field in schema.fields])


def bound(schema: Schema, names: Names) -> Schema:
    """The same layout, whose stacks and symbols are shown with names."""
    if not needs_names(schema):
        return schema
    fields = []
    for field in schema.fields:
        if field.role in ROLES:
            field = field.replace(detail=Bound(field.detail, names))
        elif field.schema is not None:
            field = field.replace(schema=bound(field.schema, names))
        fields.append(field)
    return schema.replace(fields=tuple(fields))


def _parts(field: Field) -> tuple[Any, Names | None]:
    detail = field.detail
    return (detail.detail, detail.names) if isinstance(detail, Bound) else (detail, None)


def split(field: Field, raw: Buffer) -> tuple[int, tuple[int, ...]]:
    """Process id (-1: a kernel stack) and addresses of a stack that is not of build ids."""
    data = bytes(raw)
    pid, start = -1, 0
    if field.role == "ustack":
        if len(data) < _PID_BYTES:
            return -1, ()
        pid, start = int.from_bytes(data[:4], "little"), _PID_BYTES
    addresses = struct.unpack_from(f"={(len(data) - start) // 8}Q", data, start)
    if addresses and not addresses[-1]:  # the kernel fills the rest with zeros
        end = addresses.index(0)
        if any(addresses[end:]):  # a frame may be zero too, where a process has broken its stack
            end = max([place for place, address in enumerate(addresses) if address]) + 1
        addresses = addresses[:end]
    return pid, addresses


def unwound(raw: Buffer) -> tuple[int, list[int], tuple[int, ...]]:
    """Process id, addresses, and indexes of those that are instructions, of a stack that was unwound."""
    pid, addresses = int.from_bytes(raw[:4], "little"), struct.unpack_from(f"={len(raw) // 8 - 1}Q", raw, _PID_BYTES)
    exact = tuple([place for place, address in enumerate(addresses) if address & EXACT])
    return pid, [address & ~EXACT for address in addresses], (0, *exact)


def python_words(raw: Buffer) -> tuple[int, list[tuple[int, int]]]:
    """Process id, and (code object, instruction) of each frame, of a Python stack."""
    words = struct.unpack_from(f"={len(raw) // 16 * 2}Q", raw, _PID_BYTES)
    return int.from_bytes(raw[:4], "little"), [pair for pair in zip(words[::2], words[1::2]) if pair[0]]


def mixed_words(raw: Buffer) -> list[tuple[int, int]]:
    """(code object, instruction) of Python's frames and (0, address) of the others, of a stack that was unwound and merged."""
    words = struct.unpack_from(f"={len(raw) // 16 * 2}Q", raw, _PID_BYTES)
    return list(zip(words[::2], words[1::2]))


def build_ids(raw: Buffer) -> list[tuple[str, int]]:
    """(build id in hex, offset in the file) of each frame; ("", address) where the kernel did not find the build id."""
    data = bytes(raw)
    data = data[_PID_BYTES : len(data) - (len(data) - _PID_BYTES) % _BUILD_ID.size]
    found = []
    for status, build_id, offset in _BUILD_ID.iter_unpack(data):
        if not status:
            break
        found.append((build_id.hex() if status == _VALID else "", offset))
    return found


def text_of_stack(field: Field, indent: int = _INDENT) -> Callable[[Buffer], str]:
    """A function from the bytes of a stack to its text."""
    detail, names = _parts(field)
    mode = detail[0] if detail else "bpftrace"
    if mode == "build_id":
        return _build_id_text
    if mode == "python":
        return _python_text(names, " " * indent)
    if mode in UNWOUND:
        return _unwound_text(detail, names, " " * indent)
    user = field.role == "ustack"
    if mode == "raw" or (names is None and mode != "perf"):
        pad, show = ("", "{:x}\n") if mode == "raw" else (" " * indent, "0x{:x}\n")
        return lambda raw: "\n" + "".join([pad + show.format(address) for address in split(field, raw)[1]])
    if names is None:
        return lambda raw: "\n" + "".join([f"\t{address:x} [unknown]\n" for address in split(field, raw)[1]])
    line = _perf_line if mode == "perf" else _plain_line
    pad = " " * indent
    if not user:
        return _kernel_text(field, names, lambda frame: line(frame, pad, False))
    stack = names.user_stack

    def text(raw: Buffer) -> str:
        return "\n" + "".join([line(frame, pad, True) for frame in stack(*split(field, raw))])

    return text


def _python_text(names: Names | None, pad: str) -> Callable[[Buffer], str]:
    if names is None:
        return lambda raw: "\n" + "".join([f"{pad}0x{instruction:x}\n" for _, instruction in python_words(raw)[1]])
    frames = names.python_stack
    return lambda raw: "\n" + "".join([_plain_line(frame, pad, True) for frame in frames(raw)])


def _unwound_text(detail: Any, names: Names | None, pad: str) -> Callable[[Buffer], str]:
    if names is None:
        return lambda raw: "\n"  # nobody who could unwind it
    frames = frames_of_unwound(Bound(detail, names))

    def text(raw: Buffer) -> str:
        return "\n" + "".join([_plain_line(frame, pad, True) for frame in frames(raw)])

    if detail[0] not in COPIED:
        return text
    unwind, how = names.unwind, detail[1:]
    return lambda raw: text(unwind(raw, *how))


def frames_of_unwound(detail: Bound) -> Callable[[Buffer], Sequence[FrameLike]]:
    """Who names the frames of such a stack when it was unwound."""
    return detail.names.merged_stack if detail.detail[0] in ("mixed", "merged") else detail.names.unwound_stack


def _kernel_text(field: Field, names: Names, line: Callable[[FrameLike], str]) -> Callable[[Buffer], str]:
    """The kernel's addresses are the same for all: each line is made once."""
    callers: dict[int, str] = {}
    stack = names.kernel_stack

    def text(raw: Buffer) -> str:
        _, addresses = split(field, raw)
        # the innermost address may mean another function than the same one as a return address
        rest = [callers.get(address) for address in addresses[1:]]
        if None in rest or len(addresses) > _DEEP:
            frames = stack(addresses)
            shown: list[str | None] = [line(frame) for frame in frames]
            if len(callers) > _REMEMBERED:
                callers.clear()
            callers.update([(frame.address, str(one)) for frame, one in zip(frames[1:], shown[1:]) if frame.name])
        else:
            shown = [*[line(frame) for frame in stack(addresses[:1])], *rest]
        return "\n" + "".join([one or "" for one in shown])

    return text


def _plain_line(frame: FrameLike, pad: str, user: bool) -> str:
    if not frame.name:
        return f"{pad}0x{frame.address:x}\n"
    if frame.kind == "python":
        return f"{pad}{frame.name}@{frame.file}:{frame.line}\n"
    text = f"{pad}[inlined] {frame.name}" if frame.inlined else f"{pad}{frame.name}+{frame.offset}"
    if not user and frame.module and frame.module not in _NO_MODULES:
        text += f" {frame.module}"
    return f"{text}@{frame.file}:{frame.line}\n" if frame.file else text + "\n"


def _perf_line(frame: FrameLike, pad: str, user: bool) -> str:
    if frame.inlined:
        return f"\t{frame.address:x} {frame.name} (inlined)\n"
    name = f"{frame.name}+{frame.offset}" if frame.name else f"0x{frame.address:x}"
    module = frame.module
    if user:
        return f"\t{frame.address:x} {name} ({module or '[unknown]'})\n"
    return f"\t{frame.address:x} {name} {module}\n" if module and module not in _NO_MODULES else f"\t{frame.address:x} {name}\n"


def _build_id_text(raw: Buffer) -> str:
    return "\n" + "".join([f"{build_id} 0x{offset:02x}\n" if build_id else f"{offset:x}\n" for build_id, offset in build_ids(raw)])


def text_of_symbol(field: Field) -> Callable[[Any], str]:
    """A function from a ``ksym`` (address) or ``usym`` ((address, process id)) to its name, or its address if it has none."""
    _, names = _parts(field)
    if field.role == "ksym":
        if names is None:
            return lambda value: f"0x{value:x}"
        kernel = names.kernel
        return lambda value: kernel(value).name or f"0x{value:x}"
    if names is None:
        return lambda value: f"0x{(value[0] if isinstance(value, tuple) else value):x}"
    user = names.user
    return lambda value: user(value[1], value[0]).name or f"0x{value[0]:x}"
