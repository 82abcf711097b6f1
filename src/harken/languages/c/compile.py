"""C source to a ``CUnit``, and one of its functions to a loadable program.

::

    text -> parse (libclang) -> typed tree -> IR of every function -> CUnit
    CUnit + function + how it will run -> entry round the function -> compiler.assemble -> Spec of one program

What a function takes is C's business (``int f(struct pt_regs *ctx, struct file *file)``), how a program gets it is the mechanism's: the
entry that ``program`` puts round a function passes the context and the probe's arguments, wherever this mechanism keeps them.  So one
function serves kprobe, fentry and uprobe; registers that it reads from ``struct pt_regs`` become arguments or the return value where the
program has no registers.
"""

from __future__ import annotations

from ...abi import bpf as abi
from ...abi.arch import for_machine
from ...base.diagnostics import Source, Span, error
from ...base.errors import SourceError
from ...base.record import Record
from ...compiler.assemble import assemble
from ...compiler.context import Context
from ...compiler.ir import I64, PTR, Builder, Const, Function, Module, Param, Program, Value
from ...compiler.passes.inline import call_order
from ...formats.spec import MapSpec, Spec
from . import tree
from .checks import mistakes, warnings
from .depth import Room
from .lower_unit import DATA, UnitCode
from .probes import describe
from .unit import CFunction, CTable, CUnit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ...compiler.target import Target
    from ...probes.catalogue import Catalogue
    from ...probes.model import Plan

__all__ = ("Options", "add_program", "compile", "lower", "context_of", "program", "table_specs", "with_types")


class Options(Record):
    """How to compile.

    ``cflags`` are handed to clang (-D and -I, -W...); ``usdt`` are texts that stand before the program (argument readers of USDT probes);
    ``name`` is what messages call the text where its ``Source`` has no better one.
    """

    cflags: tuple[str, ...] = ()
    usdt: tuple[Any, ...] = ()
    name: str = ""


def compile(
    source: Source,
    catalogue: Catalogue,
    options: Options = Options(),  # noqa: B008 - Options are immutable
    observe: Callable[[str, object], None] | None = None,
) -> CUnit:
    """Compiles a program for the catalogue's kernel.

    Args:
        source: the text; ``source.name`` is what messages call it.
        catalogue: types, tracepoints and features of the kernel.
        options: see ``Options``.
        observe: is told the stages as they are reached: ("ast", tree), ("ir", module).

    Raises:
        SourceError: the program is wrong (clang's text and position), or holds what BPF cannot do.
    """
    from ...kernel.procfs import cpus_possible
    from .parse import parse

    machine, _ = catalogue.features.target()
    parsed = parse(source, catalogue, options)
    if observe is not None:
        observe("ast", parsed)
    unit = lower(parsed, source, len(cpus_possible(catalogue.kernel)), machine, catalogue, options)
    if observe is not None:
        observe("ir", unit.module)
    return unit


def lower(
    parsed: tree.TranslationUnit, source: Source, cpus: int = 1, machine: str = "x86_64", catalogue: Any = None, options: Any = None
) -> CUnit:
    """The second half of ``compile``: a parsed program to a unit.

    Raises:
        SourceError: with everything that was found.
    """
    code = UnitCode(parsed, source, cpus, machine, catalogue, options)
    code.problems += mistakes(parsed)
    if code.problems:
        raise SourceError(tuple(code.problems))
    try:
        with Room():
            code.lower_all()
    except RecursionError:
        whole = source.span(0, len(source.text))
        raise SourceError((error("the program is nested too deep", whole, "split long expressions with variables"),)) from None
    if code.problems:
        raise SourceError(tuple(code.problems))
    functions = tuple(describe(one, code) for one in parsed.functions if not one.static and one.body is not None)
    tables = tuple(_table(table) for table in parsed.tables)
    module = code.module
    for spec in _specs(tables):
        module.maps[spec.name] = spec
    told = [(_position(span), text, "") for span, text in parsed.warnings]
    told += [(_position(span), text, hint) for span, text, hint in warnings(parsed)]
    return CUnit(source.name, source, tables, functions, module, (), parsed.license, tuple(dict.fromkeys(told)), parsed.depends)


def _position(span: Span | None) -> str:
    return error("", span).position if span is not None else ""


def _table(table: tree.Table) -> CTable:
    number = _TYPES.get(table.kind)
    if number is None:
        raise SourceError((error(f"{table.name}: there is no table type {table.kind!r}", table.span),))
    return CTable(
        table.name,
        _histogram(table) if table.kind == "histogram" else number,
        table.key,
        table.value,
        table.max_entries,
        table.flags,
        table.event,
        table.inner,
        table.kind,
        table.pinned,
        table.scope,
        table.span,
    )


def _histogram(table: tree.Table) -> int:
    """A histogram is an array if its key is a number, else a hash."""
    from ...base.ctype import Int

    key = table.key.strip() if table.key is not None else None
    return abi.BPF_MAP_TYPE_ARRAY if isinstance(key, Int) and key.size == 4 else abi.BPF_MAP_TYPE_HASH


_TYPES = {
    "hash": abi.BPF_MAP_TYPE_HASH, "array": abi.BPF_MAP_TYPE_ARRAY, "prog": abi.BPF_MAP_TYPE_PROG_ARRAY,
    "perf_output": abi.BPF_MAP_TYPE_PERF_EVENT_ARRAY, "perf_array": abi.BPF_MAP_TYPE_PERF_EVENT_ARRAY,
    "percpu_hash": abi.BPF_MAP_TYPE_PERCPU_HASH, "percpu_array": abi.BPF_MAP_TYPE_PERCPU_ARRAY,
    "stacktrace": abi.BPF_MAP_TYPE_STACK_TRACE, "cgroup_array": abi.BPF_MAP_TYPE_CGROUP_ARRAY,
    "lru_hash": abi.BPF_MAP_TYPE_LRU_HASH, "lru_percpu_hash": abi.BPF_MAP_TYPE_LRU_PERCPU_HASH,
    "lpm_trie": abi.BPF_MAP_TYPE_LPM_TRIE, "array_of_maps": abi.BPF_MAP_TYPE_ARRAY_OF_MAPS,
    "hash_of_maps": abi.BPF_MAP_TYPE_HASH_OF_MAPS, "devmap": abi.BPF_MAP_TYPE_DEVMAP, "sockmap": abi.BPF_MAP_TYPE_SOCKMAP,
    "cpumap": abi.BPF_MAP_TYPE_CPUMAP, "xskmap": abi.BPF_MAP_TYPE_XSKMAP, "sockhash": abi.BPF_MAP_TYPE_SOCKHASH,
    "cgroup_storage": abi.BPF_MAP_TYPE_CGROUP_STORAGE, "percpu_cgroup_storage": abi.BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE,
    "queue": abi.BPF_MAP_TYPE_QUEUE, "stack": abi.BPF_MAP_TYPE_STACK, "sk_storage": abi.BPF_MAP_TYPE_SK_STORAGE,
    "inode_storage": abi.BPF_MAP_TYPE_INODE_STORAGE, "task_storage": abi.BPF_MAP_TYPE_TASK_STORAGE,
    "ringbuf": abi.BPF_MAP_TYPE_RINGBUF, "histogram": abi.BPF_MAP_TYPE_HASH,
    "extern": abi.BPF_MAP_TYPE_HASH,  # another program's: its own type is known where that one is
}  # fmt: skip
#: types whose keys and values are descriptors or have no size that the program chooses
_KEYLESS = frozenset((abi.BPF_MAP_TYPE_QUEUE, abi.BPF_MAP_TYPE_STACK, abi.BPF_MAP_TYPE_RINGBUF))


def table_specs(unit: CUnit) -> tuple[MapSpec, ...]:
    """The maps of a unit: its tables in order, then the program's global variables if it has any."""
    return (*_specs(unit.tables), *([unit.module.maps[DATA]] if DATA in unit.module.maps else []))


def _specs(tables: tuple[CTable, ...]) -> tuple[MapSpec, ...]:
    made: dict[str, MapSpec] = {}
    for table in sorted(tables, key=lambda table: bool(table.inner)):
        key, value = table.key_size, table.value_size
        if table.type in _KEYLESS:
            key = 0
        if table.type == abi.BPF_MAP_TYPE_RINGBUF:
            value = 0
        elif table.kind in ("perf_output", "perf_array", "cgroup_array", "prog", "array_of_maps", "hash_of_maps"):
            value = 4
            key = key if table.kind == "hash_of_maps" else 4
        made[table.name] = MapSpec(
            table.name, table.type, key, value, table.max_entries, table.flags, inner=made.get(table.inner) if table.inner else None
        )
    return tuple(made[table.name] for table in tables)


def with_types(unit: CUnit, spec: Spec) -> Spec:
    """The spec with the types of the unit's tables in its BTF: the kernel keeps them, so that other tools show fields."""
    from ...formats.btf_types import TypeWriter

    writer = TypeWriter(spec.btf)
    maps = []
    for map in spec.maps:
        table = unit.table(map.name)
        key = table.key if table is not None and map.key_size else None
        value = table.value if table is not None and map.value_size else None
        if key is not None and key.size == map.key_size and key.size:
            map = map.replace(key_type=writer.ctype(key))
        if value is not None and value.size == map.value_size and value.size:
            map = map.replace(value_type=writer.ctype(value))
        maps.append(map)
    return spec.replace(maps=tuple(maps), btf=writer.data())


def context_of(plan: Plan, catalogue: Any) -> Context:
    """How programs of a plan run.

    Raises:
        ProbeError: the plan could not be made.
    """
    from ...probes.attachers import ATTACHERS
    from ...probes.planner import places
    from ...probes.providers import view

    where = places(plan, catalogue)
    attacher = ATTACHERS[plan.attacher]
    probe = plan.probes[0]
    returns = probe.kind in ("kretprobe", "fexit", "uretprobe", "kretfunc")
    arity = view(probe, catalogue).arity if attacher.context == "tracing" else -1
    return Context(attacher.program_type, attacher.context, where, attacher.attach_type, attacher.function(probe), arity, 0, returns)


def program(unit: CUnit, function: str, how: Plan | Context, target: Target, catalogue: Any = None) -> Spec:
    """One loadable program.

    Args:
        unit: what ``compile`` gave.
        function: name of a function of it.
        how: the mechanism that will run it; a plan needs the ``catalogue`` too.
        target: the kernel.

    Returns:
        a Spec with the program and the maps that it uses.  Maps that the unit does not declare
        (constants, counters) are this program's own.

    Raises:
        SourceError, LimitError: the function cannot run like this.
    """
    context = how if isinstance(how, Context) else context_of(how, catalogue)
    module = Module()
    if function in unit.module.functions:
        module.functions.update({one.name: one for one in call_order(unit.module.functions, function)})
    module.maps.update(unit.module.maps)
    add_program(module, unit, function, context, target)
    spec = assemble(module, target).spec
    used = {reloc.symbol for one in spec.programs for reloc in one.relocs if reloc.kind in ("map", "map_value")}
    programs = tuple(one.replace(license=unit.license) for one in spec.programs)
    return Spec(tuple(one for one in spec.maps if one.name in used), programs, spec.btf)


def add_program(module: Module, unit: CUnit, function: str, context: Context, target: Target) -> None:
    """Adds a program to a module that has the unit's functions: an entry round one of them.

    Raises:
        SourceError: there is no such function, or it cannot run so.
    """
    described = unit.function(function)
    if described is None:
        raise SourceError((error(f"{unit.name} has no function {function}() that could be a program", None),))
    inner = unit.module.functions[function]
    entry = module.add(Function(f"{function}()", span=inner.span))
    _enter(entry, inner, described, context, target.machine)
    view = "pt_regs" if inner.params and _takes_registers(inner.params[0]) else ""
    module.programs.append(
        Program(
            entry.name,
            function,
            context.type,
            context.context,
            context.attach,
            context.expected_attach_type,
            context.attach_function,
            context.arity,
            context.flags,
            inner.span,
            view,
            context.returns,
        )
    )


def _takes_registers(param: Param) -> bool:
    from ...base.ctype import Ptr, Struct

    kind = param.ctype.strip() if param.ctype is not None else None
    target = kind.target.strip() if isinstance(kind, Ptr) else None
    return isinstance(target, Struct) and target.name == "pt_regs"


def _enter(entry: Function, inner: Function, described: CFunction, context: Context, machine: str) -> None:
    """The body of an entry: arguments from where the mechanism keeps them, the call, the result."""
    b = Builder(entry)
    args: list[Value] = []
    registers: Value | None = None
    arch = for_machine(machine)
    if described.kind == "kretfunc" and context.context == "pt_regs" and len(inner.params) > 1:
        raise SourceError((error(f"{described.name}(): at a kretprobe the function's arguments are gone", described.span),))
    for position, param in enumerate(inner.params):
        if not position:
            args.append(b.ctx())
            continue
        number = position - 1
        raw: Value
        if described.kind == "syscall" and arch.syscall_prefix and context.context != "tracepoint":
            # the kernel's own function gets one argument: the registers that the process had
            if registers is None:
                registers = b.to_pointer(b.arg(0), "kernel")
            if number >= len(arch.syscall_arguments):
                raise SourceError((error(f"{described.name}(): a system call has at most 6 arguments", described.span),))
            raw = b.load(registers, I64, arch.registers[arch.syscall_arguments[number]])
        else:
            raw = b.arg(number)
        if param.type == PTR:
            args.append(b.to_pointer(raw, "any"))
        else:
            args.append(b.resize(raw, param.type, False))
    result: Value = b.call(inner, *args)
    # fentry and fexit programs must return 0
    fixed = context.context == "tracing" and context.expected_attach_type in (abi.BPF_TRACE_FENTRY, abi.BPF_TRACE_FEXIT)
    if fixed or not inner.result.bits:
        result = Const(0)
    b.ret(b.to_int(result) if result.type.pointer else b.resize(result, I64, True))
