"""Spec -> live objects.

``load`` creates the maps, fills and freezes them, loads the type information, resolves what only this kernel knows (map descriptors, BTF
ids of the functions that programs attach to, kernel variables and functions), and loads the programs: first without the
verifier's log, because writing it costs time, and again with it if one is refused.  Either everything is loaded, or nothing stays open.

Example::

    with load(live(), spec) as loaded:
        loaded.programs["begin"].run()
        print(loaded.maps["counts"].items())
"""

from __future__ import annotations

from struct import pack_into

from ..abi import bpf as abi
from ..base.errors import KernelError, ProbeError, VerifierError
from .bpf import Map, Program, create_map, load_btf, load_with_log, try_load_program
from .bpf_object import refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Any, Self

    from ..formats.btf import Btf
    from ..formats.spec import ProgramSpec, Spec
    from .bpf import BpfObject
    from .btf import KernelTypes
    from .kernel import Kernel

__all__ = ("Loaded", "load", "refused_program")

#: what the name of a tracing program's target looks like in BTF, by expected attach type: (prefix, kind of BTF type)
_TARGETS = {
    abi.BPF_TRACE_RAW_TP: ("btf_trace_", "typedef"),
    abi.BPF_LSM_MAC: ("bpf_lsm_", "func"),
    abi.BPF_LSM_CGROUP: ("bpf_lsm_", "func"),
    abi.BPF_TRACE_ITER: ("bpf_iter_", "func"),
}


class Loaded:
    """Live maps and programs of a Spec, by name.

    Attributes:
        maps, programs: as named in the Spec; maps that were handed to ``load`` are among them, but stay their owner's.
        logs: program name -> verifier's log, where a log was asked for.
        notes: what could not be had but is not needed (sentences).
    """

    def __init__(self) -> None:
        self.maps: dict[str, Map] = {}
        self.programs: dict[str, Program] = {}
        self.logs: dict[str, str] = {}
        self.notes: list[str] = []
        self._borrowed: frozenset[str] = frozenset()

    def close(self) -> None:
        """Closes all descriptors: programs that are not attached and maps that nobody uses go away."""
        for program in self.programs.values():
            program.close()
        for name, map in self.maps.items():
            if name not in self._borrowed:
                map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def load(kernel: Kernel, spec: Spec, *, types: Btf | None = None, log_level: int = 0, maps: Mapping[str, Map] | None = None) -> Loaded:
    """Loads a Spec.

    Args:
        maps: live maps by name, which take the place of the Spec's of that name (programs loaded one after the other share them so).
        types: the running kernel's BTF if the caller has it already; else it is read when a program needs it.
        log_level: 0: the verifier's log is made only for refused programs; 1, 2 or 4: log of every program in ``Loaded.logs``.

    Raises:
        VerifierError: the verifier refused a program; explained, with the whole log.
        ProbeError: a program's target function does not exist.
        KernelError: any other refusal, with advice.
    """
    loaded = Loaded()
    btf: BpfObject | None = None
    finder: KernelTypes | None = None
    if maps:
        loaded.maps.update(maps)
        loaded._borrowed = frozenset(maps)
    try:
        if spec.btf and (any([program.func_info for program in spec.programs]) or any([m.key_type or m.value_type for m in spec.maps])):
            try:
                btf = load_btf(kernel, spec.btf)
            except KernelError as error:
                # it only serves messages of the verifier and other tools, so a kernel without it can still run the programs
                loaded.notes.append(f"{error.message}: errors will not name source lines")
        for map_spec in spec.maps:
            if map_spec.name in loaded._borrowed:
                continue
            map = create_map(kernel, map_spec, btf.fd if btf is not None else 0)
            loaded.maps[map_spec.name] = map
            if map_spec.contents:
                map.update_batch(list(map_spec.contents))
            if map_spec.frozen:
                map.freeze()
        for program in spec.programs:
            if finder is None and _needs_types(program):
                from .btf import KernelTypes

                finder = KernelTypes(kernel, types)
            loaded.programs[program.name] = _load_program(kernel, spec, program, loaded, finder, btf.fd if btf else 0, log_level)
    except BaseException:
        loaded.close()
        raise
    finally:
        if btf is not None:
            btf.close()
        if finder is not None:
            finder.close()
    return loaded


def _needs_types(program: ProgramSpec) -> bool:
    return bool(program.attach_function) or any(reloc.kind in ("ksym", "kfunc") for reloc in program.relocs)


def _load_program(
    kernel: Kernel, spec: Spec, program: ProgramSpec, loaded: Loaded, finder: KernelTypes | None, btf_fd: int, log_level: int
) -> Program:
    attach_id = attach_fd = 0
    if program.attach_function and finder is not None:
        attach_id, attach_fd = _target(program, finder)
    insns, fd_array = _relocated(kernel, program, loaded.maps, finder)
    options: dict[str, Any] = {
        "name": program.name,
        "license": program.license,
        "expected_attach_type": program.expected_attach_type,
        "flags": program.flags,
        "attach_btf_id": attach_id,
        "attach_btf_obj_fd": attach_fd,
        "btf_fd": btf_fd,
        "func_info": program.func_info if btf_fd else b"",
        "line_info": program.line_info if btf_fd else b"",
        "fd_array": fd_array,
    }
    if log_level:
        fd, log = load_with_log(kernel, program.type, insns, log_level=log_level, **options)
        loaded.logs[program.name] = log
    else:
        fd = try_load_program(kernel, program.type, insns, **options)
        if fd < 0:
            refused = fd
            # once more, for the log; should it succeed now (memory was short, a signal came), so much the better
            fd, log = load_with_log(kernel, program.type, insns, **options)
            if fd < 0 and not log:
                fd = refused
    if fd < 0:
        raise refused_program(-fd, log, name=program.name, type=program.type, program=program, btf=spec.btf)
    return Program(kernel, fd, program.name, program.type)


def _target(program: ProgramSpec, finder: KernelTypes) -> tuple[int, int]:
    """(BTF id, BTF descriptor) of the function that a tracing program is bound to."""
    prefix, kind = _TARGETS.get(program.expected_attach_type, ("", "func"))
    module, _, name = program.attach_function.rpartition(":")
    if not name.startswith(prefix):
        name = prefix + name
    found = finder.find(f"{module}:{name}" if module else name, kind)
    if found is None:
        where = f" of module {module}" if module else ""
        raise ProbeError(
            f"{program.name}: the kernel{where} has no {program.attach_function.rpartition(':')[2]!r} that such a program can be bound to",
            "it may be inlined, or in a module: write MODULE:FUNCTION",
        )
    return found


def _relocated(kernel: Kernel, program: ProgramSpec, maps: dict[str, Map], finder: KernelTypes | None) -> tuple[bytes, bytes]:
    """The instructions with everything filled in that only this kernel knows, and the array of descriptors of modules' BTF."""
    if not program.relocs:
        return program.insns, b""
    insns = bytearray(program.insns)
    fds: list[int] = []
    for reloc in program.relocs:
        at = reloc.insn * 8
        if reloc.kind in ("map", "map_value"):
            map = maps.get(reloc.symbol)
            if map is None:
                raise KernelError(f"program {program.name!r} uses the map {reloc.symbol!r}, which the Spec does not have")
            pseudo = abi.BPF_PSEUDO_MAP_FD if reloc.kind == "map" else abi.BPF_PSEUDO_MAP_VALUE
            _wide(insns, at, pseudo, map.fd, reloc.addend)
            continue
        if reloc.kind not in ("kfunc", "ksym") or finder is None:
            raise KernelError(f"program {program.name!r} has a relocation of unknown kind {reloc.kind!r}")
        if reloc.kind == "kfunc":
            found = finder.find(reloc.symbol, "func")
            if found is None:
                raise KernelError(
                    f"program {program.name!r} calls the kernel function {reloc.symbol!r}, which this kernel does not offer", errno=2
                )
            number, fd = found
            slot = 0
            if fd:
                if fd not in fds:
                    fds.append(fd)
                slot = fds.index(fd) + 1
            insns[at + 1] = (insns[at + 1] & 0x0F) | abi.BPF_PSEUDO_KFUNC_CALL << 4
            pack_into("=hi", insns, at + 2, slot, number)
        else:
            found = finder.find(reloc.symbol, "var")
            if found is not None:
                _wide(insns, at, abi.BPF_PSEUDO_BTF_ID, *found)
            else:
                _address(kernel, program, insns, at, reloc.symbol)
    # slot 0 of the array stands for the kernel itself
    return bytes(insns), b"".join([fd.to_bytes(4, "little") for fd in [0, *fds]]) if fds else b""


def _wide(insns: bytearray, at: int, pseudo: int, low: int, high: int) -> None:
    """Fills in a 16-byte ld_imm64."""
    insns[at + 1] = (insns[at + 1] & 0x0F) | pseudo << 4
    pack_into("=i", insns, at + 4, low)
    pack_into("=i", insns, at + 12, high)


def _address(kernel: Kernel, program: ProgramSpec, insns: bytearray, at: int, symbol: str) -> None:
    """A variable that BTF does not describe (most are not): its address, from which one can probe_read."""
    from .procfs import symbol_addresses

    name = symbol.rpartition(":")[2]
    addresses = symbol_addresses(kernel, (name,)).get(name, ())
    if len(addresses) != 1:
        reason = "is not one" if not addresses else f"has {len(addresses)}"
        raise KernelError(
            f"program {program.name!r} reads the kernel variable {name!r}, of which there {reason}",
            errno=2,
            hint="/proc/kallsyms lists variables only with CONFIG_KALLSYMS_ALL=y, and shows addresses only to root"
            if not addresses
            else "",
        )
    insns[at + 1] &= 0x0F
    pack_into("=I", insns, at + 4, addresses[0] & 0xFFFFFFFF)
    pack_into("=I", insns, at + 12, addresses[0] >> 32)


def refused_program(number: int, log: str, *, name: str, type: int, program: ProgramSpec | None = None, btf: bytes = b"") -> KernelError:
    """The error for a program that the kernel refused.

    Args:
        number: the positive errno.
        log: the verifier's text; empty if it did not get so far.
        program, btf: the blueprint and its type information, which name source lines where the log does not.

    Returns:
        VerifierError if there is a log, else a KernelError with advice from the errno.
    """
    if not log.strip():
        from ..abi.bpf_names import PROG_TYPES

        refused = refusal("prog_load", number, f"program {name!r} ({PROG_TYPES.get(type, f'type {type}')})")
        refused.program = name
        return refused
    from .verifier import explain

    explanation = explain(log, program, btf)
    return VerifierError(
        f"the kernel's verifier refused {name!r}: {explanation.message}",
        log=log,
        errno=number,
        hint=explanation.hint,
        program=name,
        diagnostic=explanation.diagnostic,
        key=explanation.key,
    )
