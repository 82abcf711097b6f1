"""Spec: an inert, deterministic blueprint of maps, programs and attach points.

Compilers make it, object files hold it, the loader (``kernel.loader``) takes it.  It never asks the kernel: the same input gives
the same Spec on every machine, unless the compiler was told to legalise for a particular kernel.

``to_plain``/``from_plain`` turn a Spec into nested tuples of str, int and bytes, which ``marshal`` stores and loads in
microseconds; the cache of compiled programs uses that.
"""

from __future__ import annotations

from ..base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("AttachSpec", "Reloc", "MapSpec", "ProgramSpec", "Spec")


class Reloc(Record):
    """What the loader must put into an instruction.

    kind:
        "map"        ld_imm64 <- map fd (BPF_PSEUDO_MAP_FD)
        "map_value"  ld_imm64 <- map fd + offset into its value (BPF_PSEUDO_MAP_VALUE); ``addend`` is the offset
        "ksym"       ld_imm64 <- BTF id of a kernel variable (BPF_PSEUDO_BTF_ID)
        "kfunc"      call     <- BTF id of a kernel function (BPF_PSEUDO_KFUNC_CALL)
    ``insn`` is the index of the 8-byte slot in ``ProgramSpec.insns``; ``symbol`` is a map name or a kernel symbol.
    (Calls and references between subprograms are resolved by the back end.)
    """

    insn: int
    kind: str
    symbol: str
    addend: int = 0


class MapSpec(Record):
    """A map to create.  ``type`` is a BPF_MAP_TYPE_* number; sizes are in bytes.

    ``max_entries`` 0 means "one per CPU" for perf event arrays.  ``contents`` are (key, value) pairs stored before programs load;
    ``frozen`` maps are made read-only for user space afterwards (.rodata).  ``key_type`` and ``value_type`` are ids of types in
    ``Spec.btf``, 0 if not described: the kernel keeps them, so that other tools show fields.
    """

    name: str
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int = 0
    contents: tuple[tuple[bytes, bytes], ...] = ()
    frozen: bool = False
    inner: MapSpec | None = None
    key_type: int = 0
    value_type: int = 0


class AttachSpec(Record):
    """Where a program goes.

    ``probe`` is the probe in the user's words with wildcards expanded ("kprobe:vfs_read"); ``mechanism`` names the attacher
    that the planner chose ("tracepoint", "kprobe_multi", "fentry", ...); ``target`` is that attacher's own plain data
    (strings, ints, nested tuples of them).
    """

    probe: str
    mechanism: str
    target: tuple[Any, ...] = ()


class ProgramSpec(Record):
    """A program to load.

    ``type`` and ``expected_attach_type`` are BPF_PROG_TYPE_* and BPF_* numbers.  ``attach_function`` is the kernel function (BTF name,
    optionally "module:name") that tracing programs are bound to at load.  ``func_info`` and ``line_info`` are the kernel's records with
    offsets into ``Spec.btf``.
    """

    name: str
    type: int
    insns: bytes
    relocs: tuple[Reloc, ...] = ()
    attach: tuple[AttachSpec, ...] = ()
    expected_attach_type: int = 0
    attach_function: str = ""
    flags: int = 0
    license: str = "GPL"
    func_info: bytes = b""
    line_info: bytes = b""


class Spec(Record):
    """Maps and programs that belong together; ``btf`` describes the programs' types, functions and source lines."""

    maps: tuple[MapSpec, ...] = ()
    programs: tuple[ProgramSpec, ...] = ()
    btf: bytes = b""

    def map(self, name: str) -> MapSpec:
        return next(m for m in self.maps if m.name == name)

    def to_plain(self) -> tuple[Any, ...]:
        return _plain(self)  # type: ignore[no-any-return]

    @staticmethod
    def from_plain(plain: tuple[Any, ...]) -> Spec:
        maps, programs, btf = plain
        return Spec(
            tuple(_map(m) for m in maps),
            tuple(_program(p) for p in programs),
            btf,
        )


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return tuple([_plain(getattr(value, field)) for field in type(value)._fields])
    if isinstance(value, tuple):
        return tuple([_plain(item) for item in value])
    return value


def _map(plain: Any) -> MapSpec:
    name, kind, key_size, value_size, max_entries, flags, contents, frozen, inner, key_type, value_type = plain
    inside = None if inner is None else _map(inner)
    return MapSpec(name, kind, key_size, value_size, max_entries, flags, contents, frozen, inside, key_type, value_type)


def _program(plain: Any) -> ProgramSpec:
    name, kind, insns, relocs, attach, *rest = plain
    return ProgramSpec(
        name,
        kind,
        insns,
        tuple(Reloc(*reloc) for reloc in relocs),
        tuple(AttachSpec(*place) for place in attach),
        *rest,
    )
