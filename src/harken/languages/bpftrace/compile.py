"""Source text to Unit.

::

    text -> parse -> probes found and planned -> types and checks -> IR -> compiler.assemble -> Unit

``compile`` is the whole; it is pure given the catalogue (what this kernel offers).

What a Unit depends on (``Unit.depends``) is listed in ``compiler.unit``.
"""

from __future__ import annotations

from ...abi import bpf as abi
from ...base.diagnostics import Diagnostic, Source, error
from ...base.errors import LimitError, ProbeError, SourceError
from ...compiler.assemble import assemble
from ...compiler.builtins.code import Environment
from ...compiler.builtins.events import Events
from ...compiler.builtins.values import START
from ...compiler.ir import Builder, Const, Function, Module, Program
from ...compiler.target import Target
from ...compiler.unit import GATE, RING, Unit
from ...formats.spec import MapSpec
from ...probes.attachers import ATTACHERS
from ...probes.model import Pattern, Plan, Probe, View
from ...probes.planner import places, plan, refusal
from ...probes.providers import parse as parse_point
from ...probes.providers import resolve, view
from . import ast as A
from .check import Checker
from .headers import CONSTANTS, PREDEFINED
from .lower import Lowerer
from .lower_base import ENTRIES
from .maps import Maps
from .model import Group, Options, Problems
from .parser import parse
from .ring import USUAL, ring_bytes
from .settings import settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ...base.diagnostics import Span
    from ...probes.catalogue import Catalogue

__all__ = ("compile", "Options")

#: Processes times programs for which it is kept where functions begin.
_ENTRIES = 16384
_MAP_TYPES = ("hash", "lruhash", "percpuhash", "percpulruhash")


def compile(
    source: Source,
    catalogue: Catalogue,
    options: Options = Options(),  # noqa: B008 - Options are immutable
    observe: Callable[[str, object], None] | None = None,
) -> Unit:
    """Compiles a program for the catalogue's kernel.

    Args:
        source: the program; ``source.name`` is "stdin" for ``-e``.
        catalogue: what can be traced here.
        options: see ``Options``; a ``config`` block in the program overrides them.
        observe: is told the stages as they are reached: ("ast", tree), ("ir", module).

    Raises:
        SourceError: the program is wrong; carries all diagnostics that were found.
        ProbeError: a probe cannot be attached here.
        LimitError: too many probes or programs, or too much stack.
    """
    try:
        return _Compilation(source, catalogue, options, observe or _unobserved).run()
    except RecursionError:
        whole = source.span(0, len(source.text))
        raise SourceError((error("the program is nested too deep", whole, "split long expressions with variables"),)) from None


def _unobserved(_stage: str, _what: object) -> None:
    pass


class _Compilation:
    def __init__(self, source: Source, catalogue: Catalogue, options: Options, observe: Callable[[str, object], None]) -> None:
        self.source, self.catalogue, self.options, self.observe = source, catalogue, options, observe
        self.problems = Problems()
        self.config: dict[str, Any] = {}
        self.depends: list[tuple[Any, ...]] = []

    def run(self) -> Unit:
        # the BTF is looked for only if the program asks: it is loaded on first use
        defined = frozenset() if "#if" in self.source.text and self.catalogue.btf is None else PREDEFINED
        program = parse(self.source, self.options.params, defined)
        self.observe("ast", program)
        for include in program.includes:
            if include.header not in CONSTANTS:
                message = (
                    f"#include {include.header} is not read: types come from the kernel's BTF, constants have to be written as numbers"
                )
                self.problems.warn(message, include.span)
        for part in program.unsupported:
            self.problems.error(
                f"{part.what} is not yet supported", part.span, "leave it out; everything else of the program is understood"
            )
        self.config, changes = settings(program.settings, self.problems)
        if changes:
            self.options = self.options.replace(**changes)
        self.declarations(program)
        groups = self.groups(program)
        if self.problems.failed and not groups:
            self.stop()
        checker = Checker(groups, self.catalogue, self.options, self.problems, program.maps)
        machine, features = self.catalogue.features.target()
        checker.registers = _registers(machine)
        checker.define(program.types)
        checker.run()
        if self.problems.failed:
            self.stop()
        return self.build(groups, checker, Target(machine, features))

    def stop(self) -> None:
        raise SourceError(tuple(self.problems.found))

    # -- top level
    def declarations(self, program: A.Program) -> None:
        seen: dict[str, A.MapDecl] = {}
        for one in program.maps:
            if one.type not in _MAP_TYPES:
                from ...base.diagnostics import nearest

                near = nearest(one.type, _MAP_TYPES)
                self.problems.error(
                    f"Invalid map type: {one.type}", one.span, f"did you mean {near[0]}?" if near else "there are " + ", ".join(_MAP_TYPES)
                )
            if one.entries < 1 or one.entries >= 1 << 32:
                self.problems.error(f"the number of keys of {one.name} must be positive", one.span)
            if one.name in seen:
                self.problems.error(f"{one.name} was already declared", one.span, "", ((seen[one.name].span, "first declared here"),))
            seen[one.name] = one

    # -- probes
    def groups(self, program: A.Program) -> list[Group]:
        groups: list[Group] = []
        total = 0
        programs = self.options.max_bpf_progs
        failed: list[tuple[Plan, Span]] = []
        for block in program.probes:
            found = self.expand(block)
            total += len(found)
            if total > self.options.max_probes:
                raise LimitError(
                    f"Your program is trying to attach to {total} probes, which exceeds the current limit of {self.options.max_probes}",
                    "make the wildcards narrower, or raise max_probes in config",
                )
            if not found:
                continue
            planned = plan(
                tuple(found), self.catalogue, self.uses(block), pid=self.options.pid, max_programs=programs, avoid=self.options.avoid
            )
            for chosen in planned:
                if not chosen.attacher:
                    failed.append((chosen, block.points[0].span))
                    continue
                programs -= 1
                probe = chosen.probes[0]
                attacher = ATTACHERS[chosen.attacher]
                groups.append(Group(block, chosen, _merged(chosen, self.catalogue), probe.kind, attacher.context))
        if failed and not self.problems.failed:
            if self.options.missing_probes == "error" or not groups:
                first, span = failed[0]
                for one, where in failed:
                    self.problems.error(one.reason, where, one.hint)
                if len(failed) == 1 and not self.problems.found:
                    raise refusal(first)
            else:
                for one, where in failed:
                    self.problems.warn(one.reason, where, one.hint)
        if not groups and not self.problems.failed and program.probes:
            raise ProbeError("No probes to attach", "no attach point of the program matched anything")
        return groups

    def expand(self, block: A.Probe) -> list[Probe]:
        """All probes of a block's attach points; what matches nothing is an error or a warning."""
        found: list[Probe] = []
        for point in block.points:
            try:
                pattern = parse_point(point.text, point.span)
                probes = resolve(pattern, self.catalogue, self.options.max_probes, self.options.pid)
                self.depend(pattern, probes)
                found += probes
            except SourceError as problem:
                lenient = self.options.missing_probes != "error" and "No matches" in problem.message
                for one in problem.diagnostics:
                    if lenient:
                        if self.options.missing_probes == "warn":
                            self.problems.warn(one.message + " Skipping.", one.span or point.span, one.hint)
                    else:
                        self.problems.error(one.message, one.span or point.span, one.hint)
        return found

    @staticmethod
    def uses(block: A.Probe) -> frozenset[str]:
        """What the block reads of its probe, in the planner's words."""
        words = set()
        for node in A.walk((block.filter, block.body) if block.filter is not None else block.body):
            if isinstance(node, A.Name):
                name = node.name.removeprefix("__builtin_")
                if (
                    name.startswith("arg")
                    and name[3:].isdecimal()
                    or name in ("args", "retval", "func", "probe", "ctx", "kstack", "ustack")
                ):
                    words.add(name)
            elif isinstance(node, A.Call) and node.name in ("reg", "kstack", "ustack"):
                words.add(node.name)
            elif isinstance(node, A.Call) and node.name == "uaddr":
                words.update(("reg", "place"))
        return frozenset(words)

    def depend(self, pattern: Pattern, probes: tuple[Probe, ...]) -> None:
        """What a pattern's expansion depends on besides the kernel and this boot."""
        if pattern.kind in ("uprobe", "uretprobe", "usdt"):
            path = pattern.words[0] if pattern.words else ""
            if "*" in path:
                self.add("never")
            for probe in probes:
                self.depends_on_file(str(probe.name[0]))
        elif any("*" in word for word in pattern.words):
            self.add("modules", _modules(self.catalogue))

    def depends_on_file(self, path: str) -> None:
        import os

        try:
            state = os.stat(path)
        except OSError:
            self.add("file", path, -1, 0, 0)
        else:
            self.add("file", path, state.st_size, state.st_mtime_ns, state.st_ino)

    def add(self, *what: Any) -> None:
        if what not in self.depends:
            self.depends.append(what)

    def note_entry(self, module: Module, lowerer: Lowerer, group: Group) -> None:
        """Adds the program that notes where a function begins whose return is traced."""
        entry = _entry_plan(group.plan)
        name = f"entry_{lowerer.number}"
        lowerer.entry_program(name)
        attacher = ATTACHERS[entry.attacher]
        module.maps[ENTRIES] = MapSpec(ENTRIES, abi.BPF_MAP_TYPE_LRU_HASH, 8, 8, _ENTRIES)
        program = Program(name, name, attacher.program_type, attacher.context, places(entry, self.catalogue), attacher.attach_type)
        # before the other: a function that is entered between the two would have no beginning
        module.programs.insert(len(module.programs) - 1, program)

    # -- code
    def build(self, groups: list[Group], checker: Checker, target: Target) -> Unit:
        from ...kernel.procfs import cpus_possible

        cpus = len(cpus_possible(self.catalogue.kernel))
        module = Module()
        events = Events()
        environment = Environment(self.options.max_strlen, cpus)
        maps = Maps(checker.maps, self.options, cpus)
        module.maps[RING] = MapSpec(RING, abi.BPF_MAP_TYPE_RINGBUF, 0, 0, USUAL)
        for name, spec in maps.specs.items():
            module.maps[name] = spec
        if any([_exits(group) for group in groups]):
            module.maps[GATE] = MapSpec(GATE, abi.BPF_MAP_TYPE_ARRAY, 4, 8, 1)
        if "python" in checker.needs:
            from ...compiler.builtins import python_frames

            python_frames.add_maps(module)
        runs: list[tuple[str, str]] = []
        if "start" in checker.needs:
            _start_program(module)
            runs.append(("begin", "start"))
        plans = []
        sent = []
        for number, group in enumerate(groups):
            events.met = []
            name = f"{group.kind.lower()[: 15 - len(str(number)) - 1]}_{number}"
            span = group.probe.span
            lowerer = Lowerer(group, module, maps, events, environment, self.options, self.catalogue, name, number)
            lowerer.build()
            sent.append((group, events.met))
            chosen = group.plan
            attacher = ATTACHERS[chosen.attacher]
            if group.kind in ("BEGIN", "END"):
                runs.append((group.kind.lower(), name))
            module.programs.append(
                Program(
                    name,
                    name,
                    attacher.program_type,
                    attacher.context,
                    places(chosen, self.catalogue),
                    attacher.attach_type,
                    attacher.function(chosen.probes[0]),
                    group.view.arity,
                    0,
                    span,
                )
            )
            if lowerer.wants_entry:
                self.note_entry(module, lowerer, group)
            plans.append(tuple((probe.text, chosen.attacher, chosen.reason, chosen.rejected) for probe in chosen.probes))
        if events.events:
            size = ring_bytes(int(self.config.get("perf_rb_pages", 0)), sent)
            module.maps[RING] = module.maps[RING].replace(max_entries=size)
        else:
            del module.maps[RING]
        self.observe("ir", module)
        try:
            assembled = assemble(module, target)
        except LimitError as problem:
            diagnostic: Diagnostic | None = getattr(problem, "diagnostic", None)
            if diagnostic is not None:
                raise SourceError((*self.problems.found, diagnostic)) from problem
            raise
        warnings = tuple((one.position, one.message, one.hint) for one in self.problems.found if one.severity == "warning")
        return Unit(
            assembled.spec,
            tuple(events.events),
            tuple(maps.tables),
            assembled.losses,
            tuple(runs),
            tuple(row for rows in plans for row in rows),
            tuple(self.depends),
            warnings,
            tuple(sorted(self.config.items())),
        )


def _entry_plan(chosen: Plan) -> Plan:
    """The plan for the first instruction of a function whose return is traced."""
    probe = chosen.probes[0]
    return chosen.replace(probes=(probe.replace(kind="uprobe", text=probe.text.replace("uretprobe", "uprobe", 1)),))


def _exits(group: Group) -> bool:
    """Whether a probe can end tracing while others run."""
    body = () if group.kind in ("BEGIN", "END") else group.probe.body
    return any(isinstance(node, A.Call) and node.name == "exit" for node in A.walk(body))


def _merged(chosen: Plan, catalogue: Any) -> View:
    """What the programs of a group see; those that read arguments share a shape (the planner's promise)."""
    return view(chosen.probes[0], catalogue)


def _modules(catalogue: Any) -> str:
    """A hash of the names of the loaded modules, as ``session.cache`` computes it."""
    from ...base.cache import digest

    try:
        text = catalogue.kernel.read("/proc/modules")
    except OSError:
        text = b""
    return digest(b"\n".join(sorted(line.split(b" ", 1)[0] for line in text.splitlines())))


def _registers(machine: str) -> tuple[str, ...]:
    from ...abi.arch import for_machine

    return tuple(sorted(for_machine(machine).registers))


def _start_program(module: Module) -> None:
    """A program that the session runs first: it notes the time for ``elapsed``."""
    module.maps[START] = MapSpec(START, abi.BPF_MAP_TYPE_ARRAY, 4, 8, 1)
    function = module.add(Function("start"))
    b = Builder(function)
    where = b.lookup(START, b.bytes(bytes(4)))
    there, done = b.block("there"), b.block("done")
    b.not_null(where, there, done)
    b.goto(there)
    b.store(where, b.helper("ktime_get_boot_ns"))
    b.br(done)
    b.goto(done)
    b.ret(Const(0))
    run = ATTACHERS["run"]
    module.programs.append(Program("start", "start", run.program_type, run.context))
