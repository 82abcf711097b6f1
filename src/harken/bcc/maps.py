"""The maps of a program: created, found under a path, or shared with the other ``BPF`` objects of the process."""

from __future__ import annotations

from ..base.errors import KernelError
from .errors import BPFError, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..formats.spec import MapSpec
    from ..kernel.bpf import Map
    from .program import Program

__all__ = ("create_maps",)

#: maps that programs declared by BPF_TABLE_PUBLIC or BPF_TABLE_SHARED; they live as long as the process
_shared: dict[str, Map] = {}


def create_maps(kernel: Any, program: Program) -> tuple[dict[str, Map], list[Map]]:
    """All maps of a program by name, and those of them that the caller has to close.

    Raises:
        BPFError: the kernel refuses one, or a shared one is not there.
    """
    from ..kernel.bpf import create_map

    maps: dict[str, Map] = {}
    own: list[Map] = []
    try:
        for spec in program.maps:
            info = program.tables.get(spec.name)
            scope = info.scope if info is not None else ""
            if scope in ("extern", "shared", "public") and spec.name in _shared:
                maps[spec.name] = _shared[spec.name]
                continue
            if scope == "extern":
                raise BPFError(f"there is no table {spec.name!r} to share: create the BPF object that declares it first")
            if info is not None and info.pinned:
                maps[spec.name] = _pinned(kernel, spec, info.pinned)
                own.append(maps[spec.name])
                continue
            made = maps[spec.name] = create_map(kernel, spec)
            if spec.contents:
                made.update_batch(list(spec.contents))
            if spec.frozen:
                made.freeze()
            if scope in ("shared", "public"):
                _shared[spec.name] = made
            else:
                own.append(made)
    except KernelError as error:
        for map in own:
            map.close()
        raise BPFError(f"could not open bpf map: {reason(error)}") from None
    except BPFError:
        for map in own:
            map.close()
        raise
    return maps, own


def _pinned(kernel: Any, spec: MapSpec, path: str) -> Map:
    """The map that is pinned at a path, or a new one that is pinned there."""
    from ..kernel.bpf import Map, create_map, open_pinned

    try:
        fd = open_pinned(kernel, path)
    except KernelError as error:
        if error.errno != 2:
            raise
    else:
        found = Map.from_fd(kernel, fd)
        if (found.type, found.key_size, found.value_size) != (spec.type, spec.key_size, spec.value_size):
            sizes = f"keys of {found.key_size} and values of {found.value_size} bytes"
            found.close()
            raise BPFError(f"the map at {path} is of another kind than {spec.name!r}: it has {sizes}")
        return found
    made = create_map(kernel, spec)
    try:
        made.pin(path)
    except KernelError:
        made.close()
        raise
    return made
