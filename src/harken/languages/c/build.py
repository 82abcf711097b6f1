"""All functions of a C program as one Spec, for an object file.

Nothing is planned: a loader (libbpf's, or harken later) attaches the programs, so each becomes what its name says.  One that says nothing
runs as its first parameter demands, ``struct pt_regs *`` or anything else as a kprobe.
"""

from __future__ import annotations

from ...abi import bpf as abi
from ...abi.arch import for_machine
from ...base.ctype import Ptr, Struct
from ...base.diagnostics import error
from ...base.errors import FormatError, KernelError, ProbeError
from ...compiler.assemble import assemble
from ...compiler.context import Context
from ...compiler.ir import Module
from ...compiler.target import Target
from ...formats.spec import AttachSpec, Spec
from ...probes.providers.base import either, near_names
from .compile import Options, add_program, compile, with_types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ...base.diagnostics import Source
    from ...probes.catalogue import Catalogue
    from .unit import CFunction, CUnit

__all__ = ("build", "context_by_name")

_KPROBE, _TRACING = abi.BPF_PROG_TYPE_KPROBE, abi.BPF_PROG_TYPE_TRACING
#: what the first parameter points to -> (program type, context)
_BY_PARAMETER = {
    "bpf_perf_event_data": (abi.BPF_PROG_TYPE_PERF_EVENT, "perf_event"),
    "bpf_raw_tracepoint_args": (abi.BPF_PROG_TYPE_RAW_TRACEPOINT, "raw_tracepoint"),
    "__sk_buff": (abi.BPF_PROG_TYPE_SOCKET_FILTER, "skb"),
    "xdp_md": (abi.BPF_PROG_TYPE_XDP, "xdp"),
}


def build(
    source: Source,
    catalogue: Catalogue,
    cflags: tuple[str, ...] = (),
    observe: Callable[[str, object], None] | None = None,
    warn: Callable[[str, str, str], object] | None = None,
) -> Spec:
    """Compiles a C program for the catalogue's kernel into one Spec of all its functions, with the types of its maps.

    Args:
        observe: is told the stages, as ``compile`` does.
        warn: is told of each warning: position, text, what to do.

    Raises:
        SourceError, LimitError: the program is wrong, or one of its functions cannot run.
    """
    unit = compile(source, catalogue, Options(cflags=cflags), observe)
    if warn is not None:
        for position, text, hint in unit.warnings:
            warn(position, text, hint)
        for function in unit.functions:
            text, hint = _absent(function, catalogue)
            if text:
                warn(error("", function.span).position, text, hint)
    module = Module()
    module.functions.update(unit.module.functions)
    module.maps.update(unit.module.maps)
    target = Target(*catalogue.features.target())
    for function in unit.functions:
        add_program(module, unit, function.name, context_by_name(function, unit, catalogue, target.machine), target)
    spec = assemble(module, target).spec
    return with_types(unit, spec.replace(programs=tuple(one.replace(license=unit.license) for one in spec.programs)))


def _absent(function: CFunction, catalogue: Catalogue) -> tuple[str, str]:
    """(what this kernel lacks of what a function's name says, names like it); empty if it has all.  The object may be for another one."""
    kind, target = function.kind, function.target
    if kind == "tracepoint":
        category, _, name = target.partition(":")
        try:
            catalogue.tracepoint(category, name)
        except ProbeError as problem:
            return problem.message, problem.hint
        except (KernelError, FormatError):
            return "", ""  # it cannot be asked here
    elif kind in ("kprobe", "kretprobe", "kfunc", "kretfunc"):
        module, _, name = target.rpartition(":")
        if catalogue.function(name, module) is None and catalogue.kernel_symbols.addresses(name, module) == []:
            near = near_names(name, [other for other, _ in catalogue.functions()])
            return f"this kernel has no function {name}", f"did you mean {either(near)}?" if near else ""
    return "", ""


def context_by_name(function: CFunction, unit: CUnit, catalogue: Catalogue, machine: str) -> Context:
    """How a function runs, by what its name says."""
    kind, target = function.kind, function.target
    if kind == "tracepoint":
        return Context(abi.BPF_PROG_TYPE_TRACEPOINT, "tracepoint", (AttachSpec(f"tracepoint:{target}", ""),))
    if kind == "raw_tracepoint":
        return Context(abi.BPF_PROG_TYPE_RAW_TRACEPOINT, "raw_tracepoint", (AttachSpec(f"rawtracepoint:{target}", ""),))
    if kind in ("kfunc", "kretfunc", "fmod_ret"):
        attach, word = {
            "kfunc": (abi.BPF_TRACE_FENTRY, "fentry"), "kretfunc": (abi.BPF_TRACE_FEXIT, "fexit"),
            "fmod_ret": (abi.BPF_MODIFY_RETURN, "fmod_ret"),
        }[kind]  # fmt: skip
        module, _, name = target.rpartition(":")
        known = catalogue.function(name, module)
        arity = len(known.params) if known is not None else -1
        return Context(_TRACING, "tracing", (AttachSpec(f"{word}:{target}", ""),), attach, target, arity, 0, kind == "kretfunc")
    if kind == "lsm":
        return Context(abi.BPF_PROG_TYPE_LSM, "tracing", (AttachSpec(f"lsm:{target}", ""),), abi.BPF_LSM_MAC, target)
    if kind == "iter":
        return Context(_TRACING, "tracing", (AttachSpec(f"iter:{target}", ""),), abi.BPF_TRACE_ITER, target)
    if kind == "syscall":
        target = f"{for_machine(machine).syscall_prefix}{target}"
    elif not kind:
        params = unit.module.functions[function.name].params
        type = params[0].ctype.strip() if params and params[0].ctype is not None else None
        pointed = type.target.strip() if isinstance(type, Ptr) else None
        if isinstance(pointed, Struct) and pointed.name in _BY_PARAMETER:
            return Context(*_BY_PARAMETER[pointed.name])
    word = "kretprobe" if kind == "kretprobe" else "kprobe"
    attach_to = (AttachSpec(f"{word}:{target}", ""),) if target or word == "kretprobe" else ()
    return Context(_KPROBE, "pt_regs", attach_to, returns=word == "kretprobe")
