"""What the check finds out and lowering uses: variables, maps and groups of probes."""

from __future__ import annotations

from ...base.diagnostics import Diagnostic, Span, error, warning
from ...base.record import Record
from ...compiler.builtins.types import Type
from ...probes.model import Plan, View
from ...probes.providers import view
from . import ast as A

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("Options", "Variable", "MapInfo", "Group", "Problems")

#: Characters of a readable name of a function that ``func`` may have.
_LONG_NAME = 256


class Options(Record):
    """How to compile.

    ``params`` are the positional parameters; ``pid`` limits tracing to one process (-1: all); ``cpid`` is the process of the command
    (-1: none); ``max_strlen`` bounds strings, ``max_map_keys`` maps; ``unsafe`` allows what changes the traced system;
    ``missing_probes`` is "error", "warn" or "ignore"; ``stack_mode`` is how stacks are shown that do not say it themselves;
    ``user_stack_bytes`` is how much of a process's stack ``ustack(dwarf)`` copies; ``avoid`` are mechanisms that were refused when they
    were tried.
    """

    params: tuple[str, ...] = ()
    pid: int = -1
    cpid: int = -1
    max_strlen: int = 1024
    max_map_keys: int = 4096
    max_probes: int = 1024
    max_bpf_progs: int = 1024
    unsafe: bool = False
    missing_probes: str = "error"
    stack_mode: str = "bpftrace"
    user_stack_bytes: int = 16384
    avoid: tuple[str, ...] = ()


class Variable:
    """A ``$variable`` in its scope.

    ``functions`` are the loop bodies (0: the probe itself) that use it: one that is used in several lives in the frame that loop
    bodies share.
    """

    __slots__ = ("declared", "functions", "name", "span", "type", "assigned")

    def __init__(self, name: str, span: Span) -> None:
        self.name, self.span = name, span
        self.type: Type | None = None
        self.declared = False
        self.assigned = False
        self.functions: set[int] = set()


class MapInfo:
    """A map of the user: ``key`` is None until it is used, () for a scalar map; ``kind`` is "" until it is assigned.

    ``here`` tells that the map lies in harken and not in the kernel, since its keys are known only when they have arrived
    (``ustack(dwarf)``); ``looked`` is a place where the program wants to read it, which it cannot then.
    """

    __slots__ = ("assigned", "decl", "here", "key", "kind", "looked", "name", "params", "read", "span", "value")

    def __init__(self, name: str, span: Span) -> None:
        self.name, self.span = name, span
        self.key: tuple[Type, ...] | None = None
        self.value: Type | None = None
        self.kind = ""
        self.params: tuple[int, ...] = ()
        self.decl: A.MapDecl | None = None
        self.assigned = self.read = self.here = False
        self.looked: Span | None = None


class Group:
    """One action block for probes that share a program."""

    def __init__(self, probe: A.Probe, plan: Plan, view: View, kind: str, context: str) -> None:
        self.probe, self.plan, self.view, self.kind, self.context = probe, plan, view, kind, context
        #: by id of the node
        self.types: dict[int, Type] = {}
        self.constants: dict[int, int | str] = {}
        self.variables: dict[int, Variable] = {}
        self.declared: dict[tuple[int, str], Variable] = {}

    def texts(self, what: str, catalogue: Any) -> tuple[str, ...]:
        """What the built-in ``what`` ("probe", "func", "probetype") is at each probe, by the numbers that cookies have."""
        probes = self.plan.probes
        if what == "probetype":
            return (self.kind,)
        if what == "probe":
            return tuple(probe.text for probe in probes)
        if len(probes) == 1:
            return (_readable(self.view.function),)
        return tuple(_readable(view(probe, catalogue).function) for probe in probes)

    @property
    def probed(self) -> tuple[str, int]:
        """File and offset in it of an instruction that is probed (uprobes and USDT); ("", 0) of other probes."""
        probe = self.plan.probes[0]
        return (str(probe.name[0]), int(probe.name[3])) if probe.kind in ("uprobe", "uretprobe", "usdt") else ("", 0)


def _readable(name: str) -> str:
    """A function's name as its author wrote it, as symbols are shown elsewhere; without parameters if it would be very long."""
    if not name.startswith(("_Z", "_R", "__Z")):
        return name
    from ...symbols.demangle import demangle, short

    text = demangle(name)
    if len(text) > _LONG_NAME:
        text = short(name)
    return text if len(text) <= _LONG_NAME else name


class Problems:
    """Collects diagnostics, each (place, message) once, and about one place only what the first group of probes has to say."""

    def __init__(self) -> None:
        self.found: list[Diagnostic] = []
        self.quiet = False
        self.group: Group | None = None
        self._seen: set[tuple[str, int, int]] = set()
        self._first: dict[tuple[int, int], Group | None] = {}

    def error(self, message: str, span: Span, hint: str = "", related: tuple[tuple[Span, str], ...] = ()) -> None:
        self._add(error(message, span, hint, related), span)

    def warn(self, message: str, span: Span, hint: str = "") -> None:
        self._add(warning(message, span, hint), span)

    def _add(self, diagnostic: Diagnostic, span: Span) -> None:
        if self.quiet:
            return
        key = (diagnostic.message, span.start, span.end)
        if self._first.setdefault((span.start, span.end), self.group) is self.group and key not in self._seen:
            self._seen.add(key)
            self.found.append(diagnostic)

    @property
    def failed(self) -> bool:
        return any(one.severity == "error" for one in self.found)
