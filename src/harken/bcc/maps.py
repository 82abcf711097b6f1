"""The maps of a program: created, found under a path, or shared with the other ``BPF`` objects of the process."""

from __future__ import annotations

from ..base.errors import KernelError
from .errors import BPFError, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..formats.spec import MapSpec
    from ..kernel.bpf import BpfObject, Map
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

    types = _types(kernel, program)
    btf = types.fd if types is not None else 0
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
                maps[spec.name] = _pinned(kernel, spec, info.pinned, btf)
                own.append(maps[spec.name])
                continue
            made = maps[spec.name] = create_map(kernel, spec, btf)
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
    finally:
        if types is not None:
            types.close()
    return maps, own


def _types(kernel: Any, program: Program) -> BpfObject | None:
    """The types of keys and values, for tools that show maps; None where the kernel does not take them, since nothing else needs them."""
    from ..kernel.bpf import load_btf

    if not program.btf or not any([spec.value_type for spec in program.maps]):
        return None
    try:
        return load_btf(kernel, program.btf)
    except KernelError:
        return None


def _pinned(kernel: Any, spec: MapSpec, path: str, btf: int) -> Map:
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
    made = create_map(kernel, spec, btf)
    try:
        made.pin(path)
    except KernelError:
        made.close()
        raise
    return made
