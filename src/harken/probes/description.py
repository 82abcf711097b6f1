"""What stands behind the texts that ``listing.search`` finds: ``harken list -v``.

A tracepoint has fields, a function parameters (where BTF knows them), a USDT marker arguments with the places where they lie, a unit of
a PMU terms, a type its members.

Example:
    >>> from harken.kernel.kernel import live
    >>> from harken.probes.catalogue import Catalogue
    >>> describe(Catalogue(live()), "software:page-faults:")
    []
"""

from __future__ import annotations

from ..base.errors import FormatError, HarkenError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..base.ctype import CType, Func
    from .catalogue import Catalogue

__all__ = ("TYPES", "describe")

#: Words before the names of the kernel's types.
TYPES = ("struct", "union", "enum")


def describe(catalogue: Catalogue, text: str) -> list[str]:
    """Lines about one listed text, without indentation: an event's fields, a function's parameters, a marker's arguments, a type's layout.

    Empty where nothing is known; sources that cannot be read count as such.
    """
    kind, _, rest = text.partition(":")
    try:
        if text.partition(" ")[0] in TYPES:
            return _layout(catalogue, text)
        if kind in ("tracepoint", "ftrace"):
            category, _, name = (text if kind == "ftrace" else rest).partition(":")
            return [field.declaration for field in catalogue.tracepoint(category, name).own]
        if kind == "rawtracepoint":
            return _parameters(catalogue.raw_tracepoint(rest.rpartition(":")[2]))
        if kind in ("kprobe", "kretprobe", "fentry", "fexit"):
            module, _, name = rest.rpartition(":")
            function = catalogue.function(name, module)
            return _parameters(function, returns=kind in ("kretprobe", "fexit"))
        if kind == "iter":
            struct = catalogue.iterator(rest)
            return [_declared(name, struct.member(name).type) for name in struct.names()] if struct else []  # type: ignore[union-attr]
        if kind == "usdt":
            return _operands(catalogue, rest)
        if kind == "pmu":
            return _terms(catalogue, rest)
        if kind in ("hardware", "cache") and not _has_cpu_pmu(catalogue):
            return ["(not available: this machine shows no CPU PMU)"]
    except (HarkenError, OSError):
        pass
    return []


def _declared(name: str, kind: CType) -> str:
    return f"{kind.declare()} {name}".rstrip()


def _parameters(function: Func | None, returns: bool = False) -> list[str]:
    if function is None:
        return []
    found = [_declared(name, kind) for name, kind in function.params] + (["..."] if function.variadic else [])
    return [*found, _declared("retval", function.returns)] if returns else found


def _operands(catalogue: Catalogue, rest: str) -> list[str]:
    path, provider, name = rest.rsplit(":", 2)
    elf = catalogue.binary(path)
    marks = [mark for mark in elf.stapsdt() if (mark.provider, mark.name) == (provider, name)]
    if not marks:
        return []
    try:
        # places of one marker may differ in where and of what type their arguments are
        shapes = dict.fromkeys(tuple(mark.operands) for mark in marks)
        types = dict.fromkeys(tuple(operand.type for operand in shape) for shape in shapes)
        found = []
        for kinds in types:
            same = [shape for shape in shapes if tuple(operand.type for operand in shape) == kinds]
            for i, kind in enumerate(kinds):
                where = list(dict.fromkeys(shape[i].place for shape in same))
                found.append(f"{kind} arg{i}  ({', '.join(where[:3])}{', ...' if len(where) > 3 else ''})")
    except FormatError:
        found = [f"(arguments {mark.arguments})" for mark in marks[:1]]
    if len(marks) > 1:
        found.append(f"({len(marks)} places)")
    if any(mark.semaphore for mark in marks):
        found.append("(has a semaphore)")
    return found


def _terms(catalogue: Catalogue, rest: str) -> list[str]:
    from ..kernel.perf_event_pmu import pmu

    name, _, event = rest.rstrip("/").partition("/")
    unit = pmu(catalogue.kernel, name)
    if unit is None:
        return []
    return [text for known, text in unit.events if known == event] + [f"{term}: {bits}" for term, bits in unit.formats]


def _has_cpu_pmu(catalogue: Catalogue) -> bool:
    """Whether the kernel drives a CPU's counters: "cpu" (hybrids: "cpu_core"), "armv8_pmuv3" and its like."""
    try:
        names = catalogue.kernel.listdir("/sys/bus/event_source/devices")
    except OSError:
        return False
    return any(name.startswith(("cpu", "armv", "riscv", "power", "cpum_cf")) and name != "power" for name in names)


def _layout(catalogue: Catalogue, text: str) -> list[str]:
    found = catalogue.btf.find(text) if catalogue.btf is not None else None
    declaration = getattr(found, "declaration", None)
    return declaration().split("\n") if declaration is not None else []
