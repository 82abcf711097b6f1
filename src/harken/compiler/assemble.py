"""From IR to Spec: optimise, legalise for a target, place memory, allocate registers, encode.

Example:
    >>> from harken.compiler.ir import Builder, Function, Module, Program
    >>> from harken.compiler.target import EVERYTHING, Target
    >>> module = Module()
    >>> b = Builder(module.add(Function("probe")))
    >>> _ = b.ret(b.add(b.const(40), b.const(2)))
    >>> module.programs.append(Program("probe", "probe", 5, "tracepoint"))
    >>> program = assemble(module, Target("x86_64", EVERYTHING)).spec.programs[0]
    >>> from harken.formats.insn import disassemble
    >>> disassemble(program.insns)
    ['0: (b7) r0 = 42', '1: (95) exit']
"""

from __future__ import annotations

from ..abi.bpf import (
    BPF_F_RDONLY_PROG,
    BPF_MAP_TYPE_ARRAY,
    BPF_MAP_TYPE_PERCPU_ARRAY,
    BPF_MAP_TYPE_PERF_EVENT_ARRAY,
    BPF_MAP_TYPE_RINGBUF,
    BPF_PROG_TYPE_CGROUP_SKB,
    BPF_PROG_TYPE_LWT_IN,
    BPF_PROG_TYPE_LWT_OUT,
    BPF_PROG_TYPE_LWT_XMIT,
    BPF_PROG_TYPE_SCHED_ACT,
    BPF_PROG_TYPE_SCHED_CLS,
    BPF_PROG_TYPE_SK_SKB,
    BPF_PROG_TYPE_XDP,
)
from ..base.diagnostics import Diagnostic, error
from ..base.errors import LimitError, SourceError
from ..base.record import Record
from ..formats.btf_writer import BtfWriter
from ..formats.spec import MapSpec, ProgramSpec, Spec
from .backends.bpf.allocate import allocate
from .backends.bpf.emit import Linked, layout, link
from .backends.bpf.select import select
from .ir import Function, Inst, Module, Program
from .passes.cfg import clean, replace_values, reverse_postorder
from .passes.dead import drop_dead, drop_dead_zeroing
from .passes.environment import give_environment, pass_environment
from .passes.inline import call_order, callees, clone, count_calls, expand_loops, inline_calls
from .passes.legalise import RODATA, Pool, legalise
from .passes.loads import forward_loads
from .passes.mem2reg import mem2reg
from .passes.pointers import rebase_pointers
from .passes.scratch import SCRATCH, SCRATCH_SLOTS, claim_scratch, move_to_scratch, scratch_map_size
from .passes.simplify import simplify
from .passes.spaces import infer_spaces
from .passes.stack import Placement, place
from .target import Target
from .unit import LOSS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..base.diagnostics import Span

__all__ = ("Assembled", "StackError", "assemble", "optimise")

#: frame bytes kept for spilled registers, tried in turn
_RESERVES = (64, 128, 256, 448)
_SCRATCH_START = 8
#: types of programs that get at packets through their context
_PACKETS = frozenset(
    (
        BPF_PROG_TYPE_SCHED_CLS,
        BPF_PROG_TYPE_SCHED_ACT,
        BPF_PROG_TYPE_XDP,
        BPF_PROG_TYPE_CGROUP_SKB,
        BPF_PROG_TYPE_LWT_IN,
        BPF_PROG_TYPE_LWT_OUT,
        BPF_PROG_TYPE_LWT_XMIT,
        BPF_PROG_TYPE_SK_SKB,
    )
)
#: the largest value of a per-CPU map (PCPU_MIN_UNIT_SIZE, include/linux/percpu.h)
_SCRATCH_LIMIT = 32768


class Assembled(Record):
    """What ``assemble`` makes; ``losses`` names the slots of the map ``LOSS`` as (kind, subject) pairs."""

    spec: Spec
    losses: tuple[tuple[str, str], ...]


class StackError(LimitError):
    """A program needs more memory of its own than there is; ``diagnostic`` points at the largest piece."""

    def __init__(self, message: str, hint: str, span: Span | None) -> None:
        super().__init__(message, hint)
        self.diagnostic: Diagnostic = error(message, span, hint)


def optimise(function: Function) -> None:
    """The passes that need no target, until nothing changes (at most a few rounds)."""
    clean(function)
    mem2reg(function)
    for _ in range(4):
        changed = simplify(function)
        changed = clean(function) or changed
        if not changed:
            break
    drop_dead(function)
    drop_dead_zeroing(function)


def _tidy(function: Function) -> None:
    for _ in range(3):
        changed = simplify(function)
        changed = clean(function) or changed
        if not changed:
            break
    drop_dead(function)


class _Compiled:
    """One program's code and the scratch memory it needs."""

    __slots__ = ("linked", "params", "scratch")

    def __init__(self, linked: Linked, params: dict[str, tuple[str, ...]], scratch: int) -> None:
        self.linked, self.params, self.scratch = linked, params, scratch


def assemble(module: Module, target: Target, optimising: bool = True, backend: str = "bpf") -> Assembled:
    """Compiles every program of a module for a target.  The module is not changed.

    Args:
        optimising: false skips the passes that only make code better (for tests).
        backend: "bpf" (ours) or "llvm".

    Raises:
        LimitError: a program is too large for the kernel, in the user's terms.
        SourceError: the target lacks something that has no substitute.
        IRError: the front end built wrong IR.
    """
    pool = Pool()
    counts = count_calls(module)
    done: dict[tuple[object, ...], _Compiled] = {}
    programs: list[ProgramSpec] = []
    writer = BtfWriter()
    scratch = 0
    for program in module.programs:
        user = any("uprobe" in at.mechanism or "usdt" in at.mechanism for at in program.attach)
        key = (program.function, program.context, program.arity, user, program.view, program.returns)
        compiled = done.get(key)
        if compiled is None:
            compiled = done[key] = _compile(module, program, target, pool, counts, optimising, backend)
        scratch = max(scratch, compiled.scratch)
        linked = compiled.linked
        func_info = line_info = b""
        if target.has("btf_func"):
            names = dict(linked.functions[:1])
            first = linked.functions[0][0]
            names[first] = program.name
            starts = [
                (slot, writer.function(program.name if slot == first else name, compiled.params[name])) for slot, name in linked.functions
            ]
            func_info = writer.func_info(starts)
            line_info = writer.line_info(linked.lines, frozenset(slot for slot, _ in starts))
        programs.append(
            ProgramSpec(
                program.name,
                program.type,
                linked.insns,
                linked.relocs,
                program.attach,
                program.expected_attach_type,
                program.attach_function,
                program.flags,
                func_info=func_info,
                line_info=line_info,
            )
        )
    maps = _maps(module, target, pool, scratch)
    return Assembled(Spec(maps, tuple(programs), writer.data() if target.has("btf_func") else b""), tuple(pool.losses))


def _maps(module: Module, target: Target, pool: Pool, scratch: int) -> tuple[MapSpec, ...]:
    maps = []
    for spec in module.maps.values():
        if spec.type == BPF_MAP_TYPE_RINGBUF and not target.has("ringbuf"):
            spec = MapSpec(spec.name, BPF_MAP_TYPE_PERF_EVENT_ARRAY, 4, 4, 0)
        maps.append(spec)
    if pool.data:
        zero = bytes(4)
        maps.append(MapSpec(RODATA, BPF_MAP_TYPE_ARRAY, 4, len(pool.data), 1, BPF_F_RDONLY_PROG, ((zero, bytes(pool.data)),), True))
    if pool.losses:
        maps.append(MapSpec(LOSS, BPF_MAP_TYPE_PERCPU_ARRAY, 4, 8, len(pool.losses)))
    if scratch:
        maps.append(MapSpec(SCRATCH, BPF_MAP_TYPE_PERCPU_ARRAY, 4, scratch_map_size(scratch), SCRATCH_SLOTS))
    return tuple(maps)


def _compile(
    module: Module, program: Program, target: Target, pool: Pool, counts: dict[str, int], optimising: bool, backend: str
) -> _Compiled:
    for reserve in _RESERVES:
        functions = _prepare(module, program, target, counts, optimising)
        compiled = _generate(functions, program, target, pool, reserve, optimising, backend)
        if compiled is not None:
            return compiled
    allocas = [inst for inst in functions[-1].instructions() if inst.op == "alloca"]
    largest = max(allocas, key=lambda inst: inst.attr[0], default=None)
    what = f" ({largest.attr[2]!r} takes {largest.attr[0]} bytes)" if largest is not None and largest.attr[2] else ""
    raise StackError(
        f"the probe needs more than the {target.max_stack} bytes of stack that the kernel gives a program{what}",
        "use smaller or fewer variables and keys that are alive at the same time, or split the probe",
        largest.span if largest is not None and largest.span is not None else program.span,
    )


def _prepare(module: Module, program: Program, target: Target, counts: dict[str, int], optimising: bool) -> list[Function]:
    """Copies of the functions that a program needs, callees first, optimised as far as no memory has its place yet."""
    ready: dict[str, Function] = {}
    for function in call_order(module.functions, program.function):
        copy = clone(function)
        if any([inst.op in ("loop", "atomic") for inst in copy.instructions()]) and not target.has("bpf_loop"):
            expand_loops(copy, target.has("bounded_loops"))
        inline_calls(copy, ready, counts)
        if optimising:
            optimise(copy)
        else:
            clean(copy)
        ready[function.name] = copy
    order = call_order(ready, program.function)
    for function in order:
        infer_spaces(function, program.type in _PACKETS)
        if optimising and (rebase_pointers(function) | forward_loads(function)):
            _tidy(function)
            drop_dead_zeroing(function)
    return order


def _refuse_loops(function: Function) -> None:
    """Raises SourceError at the first loop, for kernels whose verifier takes none."""
    number = {block: i for i, block in enumerate(reverse_postorder(function))}
    for block in number:
        for after in block.successors():
            if number[after] <= number[block]:
                span = block.insts[-1].span or function.span
                raise SourceError(
                    (
                        error(
                            "this kernel takes no loops in a probe, except with a small constant number of rounds",
                            span,
                            "it takes Linux 5.3",
                        ),
                    )
                )


def _generate(
    functions: list[Function], program: Program, target: Target, pool: Pool, reserve: int, optimising: bool, backend: str
) -> _Compiled | None:
    """Code for the functions (callees first), or None if the stack does not suffice with this reserve for spills."""
    needs: dict[str, tuple[bool, bool]] = {}
    depth: dict[str, int] = {}
    code = {}
    placements: dict[str, Placement] = {}
    end = _SCRATCH_START
    used_scratch = False
    for function in functions:
        entry = function.name == program.function
        legalise(function, program, target, pool)
        below = max([depth[name] for name in callees(function)], default=0)
        outer = pass_environment(function, needs)
        if optimising:
            _tidy(function)
        else:
            clean(function)
        if not target.has("bounded_loops"):
            _refuse_loops(function)
        budget = (target.max_stack - below if entry else target.max_stack // 4) - reserve // (1 if entry else 4)
        _, moved, ranges = place(function, max(0, budget))
        inner: Inst | None = None
        if moved:
            inner, end = move_to_scratch(function, moved, ranges, end)
        scratch = inner if inner is not None else outer
        if inner is not None and outer is not None:
            replace_values(function, {outer: inner})
        if scratch is not None:
            used_scratch = True
        if not entry:
            needs[function.name] = (give_environment(function, scratch), scratch is not None)
        elif scratch is not None:
            claim_scratch(function, scratch, pool.loss("scratch", ""), target.has("atomic_fetch"))
        if optimising and (scratch is not None or not entry):
            _tidy(function)
        placement, _, _ = place(function, 1 << 30)
        placements[function.name] = placement
        if backend == "llvm":
            depth[function.name] = below + ((max(placement.size, 1) + 31) & ~31)
            continue
        selected = select(function, placement, target)
        frame = allocate(selected)
        total = below + ((max(frame, 1) + 31) & ~31)
        if total > target.max_stack:
            return None
        depth[function.name] = total
        code[function.name] = (layout(selected), function.span)
    if end > _SCRATCH_LIMIT:
        raise StackError(
            f"the probe needs {end} bytes of memory at once; {_SCRATCH_LIMIT} is the most that a program can have per CPU",
            "make variables, strings (config max_strlen) or copied stacks (user_stack_bytes) smaller, or print in several steps",
            program.span,
        )
    # tidying may have removed the last call of a function: the kernel takes no type information for what nobody calls
    functions = call_order({function.name: function for function in functions}, program.function)
    ordered = [functions[-1], *functions[:-1]]
    if backend == "llvm":
        from .backends.llvm import generate

        linked = generate([(f, placements[f.name]) for f in ordered], target)
    else:
        linked = link([(f.name, *code[f.name]) for f in ordered], target)
    params = {f.name: tuple(p.name for p in f.params) if f.params or f is not functions[-1] else ("ctx",) for f in ordered}
    return _Compiled(linked, params, end if used_scratch else 0)
