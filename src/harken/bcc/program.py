"""From C text to what ``BPF`` loads: compiled by ``languages.c``, or taken from the cache without it.

Three kinds of entries are kept, all under one key of the text, its flags and everything else that compiling depends on
(``session.cache.unit_key``):

* the program itself: its tables with the layouts of their keys, values and events, its functions, its maps;
* one per attachment: which mechanism serves it, and where that attaches;
* one per function and mechanism: the instructions.

So a second start imports neither libclang nor the compiler nor the kernel's types.
"""

from __future__ import annotations

import marshal
import os

from ..base import cache
from ..base.record import Record
from ..compiler.context import Context
from ..formats.spec import MapSpec, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ..base.diagnostics import Source
    from ..probes.model import Probe

__all__ = ("FunctionInfo", "Program", "TableInfo")

_KIND = "bcc"


class TableInfo(Record):
    """A table as scripts see it; ``key``, ``value`` and ``event`` are descriptions of ``types.describe``, None if there is none."""

    name: str
    type: int
    kind: str
    key: Any
    value: Any
    event: Any
    max_entries: int
    flags: int
    pinned: str
    scope: str


class FunctionInfo(Record):
    """A function that can become a program; see ``languages.c.unit.CFunction``."""

    name: str
    kind: str
    target: str
    uses: tuple[str, ...]


class Program:
    """A compiled C text.

    Args:
        source: the text.
        cflags: flags for clang.
        usdt: markers whose arguments the program reads: what ``languages.c`` takes.
        kernel: whom it is compiled for.
        catalogue: gives the catalogue when it is needed.
        cached: use the cache.

    Attributes:
        tables, functions: by name, in the program's order.
        maps: the maps to create; ``btf`` holds the types of their keys and values.
        warnings: (position, message, hint) of the compiler.

    Raises:
        SourceError and the like: the text does not compile.
    """

    def __init__(
        self,
        source: Source,
        cflags: Sequence[str],
        usdt: tuple[Any, ...],
        kernel: Any,
        catalogue: Callable[[], Any],
        cached: bool = True,
        observe: Callable[[str, object], None] | None = None,
    ) -> None:
        from ..session.cache import holds, unit_key

        self.source = source
        self._cflags, self._usdt = tuple(cflags), usdt
        self._kernel, self._catalogue = kernel, catalogue
        self._observe = observe
        self._unit: Any = None
        self._key = ""
        #: the maps that were created, for ``libbcc``
        self.maps_live: dict[str, Any] = {}
        if cached:
            folder = os.getcwd() if _reads_files(source.text, self._cflags) else ""
            self._key = unit_key(kernel, source.name, source.text, ("bcc", self._cflags, usdt, folder), "languages/c")
        plain = self._load("unit") if observe is None else None
        if plain is None or not all([holds(kernel, one) for one in plain[5]]):
            plain = self._compile()
            self._store(plain, "unit")
        tables, functions, maps, self.btf, self.warnings, depends = plain
        if depends and self._key:
            # what is made of the program depends on the same files
            self._key = cache.digest(self._key, repr(depends))
        self.tables = {row[0]: TableInfo(*row) for row in tables}
        self.functions = {row[0]: FunctionInfo(*row) for row in functions}
        self.maps: tuple[MapSpec, ...] = Spec.from_plain((maps, (), b"")).maps

    # -- compiling

    @property
    def unit(self) -> Any:
        """The ``CUnit``; compiled now if it came from the cache."""
        if self._unit is None:
            self._compile()
        return self._unit

    def _compile(self) -> tuple[Any, ...]:
        from ..languages.c.compile import Options, compile, table_specs, with_types
        from .types import describe

        options = Options(cflags=self._cflags, usdt=self._usdt)
        unit = self._unit = compile(self.source, self._catalogue(), options, self._observe)
        tables = [
            (
                table.name,
                table.type,
                table.kind,
                None if table.key is None else describe(table.key),
                None if table.value is None else describe(table.value),
                None if table.event is None else describe(table.event, True),
                table.max_entries,
                table.flags,
                table.pinned,
                table.scope,
            )
            for table in unit.tables
        ]
        functions = [(one.name, one.kind, one.target, tuple(sorted(one.uses))) for one in unit.functions]
        maps, _, btf = with_types(unit, Spec(table_specs(unit))).to_plain()
        return tuple(tables), tuple(functions), maps, btf, unit.warnings, unit.depends

    def spec(self, function: str, context: Context) -> Spec:
        """The program that a function becomes, run as ``context`` says."""
        code = ("program", function, *context.code)
        plain = self._load(*code)
        if plain is not None:
            return Spec.from_plain(plain)
        from ..compiler.target import Target
        from ..languages.c.compile import program

        made = program(self.unit, function, context, Target(*self._catalogue().features.target()), self._catalogue())
        self._store(made.to_plain(), *code)
        return made

    # -- planning

    def contexts(
        self,
        function: str,
        key: tuple[Any, ...],
        probes: Callable[[], tuple[Probe, ...]],
        pid: int = -1,
        avoid: tuple[str, ...] = (),
    ) -> list[Context]:
        """How a function is run at probes: a program for each of the contexts.

        Args:
            key: what names the probes, for the cache; empty: do not keep the answer.
            probes: finds the probes, if the answer is not known.
            avoid: mechanisms that were refused when they were tried; what the cache says does not count then.

        Raises:
            ProbeError: one of them cannot be had here.
        """
        code = ("plan", function, pid >= 0, *key)
        plain = self._load(*code) if key and not avoid else None
        if plain is not None:
            return [Context.from_plain(one) for one in plain]
        from ..languages.c.compile import context_of
        from ..probes.planner import plan, refusal

        catalogue = self._catalogue()
        uses = frozenset(self.functions[function].uses)
        found = []
        for chosen in plan(probes(), catalogue, uses, pid=pid, avoid=avoid):
            if not chosen.attacher:
                raise refusal(chosen)
            found.append(context_of(chosen, catalogue))
        if key:
            self._store(tuple([one.to_plain() for one in found]), *code)
        return found

    # -- cache

    def _load(self, *what: Any) -> Any:
        if not self._key:
            return None
        data = cache.load(_KIND, cache.digest(self._key, repr(what)))
        if data is None or cache.digest(data[32:]).encode() != data[:32]:
            return None
        try:
            return marshal.loads(memoryview(data)[32:])
        except (ValueError, EOFError, TypeError):
            return None

    def _store(self, plain: Any, *what: Any) -> None:
        if not self._key:
            return
        try:
            body = marshal.dumps(plain)
        except ValueError:
            return
        cache.store(_KIND, cache.digest(self._key, repr(what)), cache.digest(body).encode() + body)


def _reads_files(text: str, cflags: tuple[str, ...]) -> bool:
    """Whether the text may include files, whose names are relative to the working directory."""
    return '#include"' in text.replace(" ", "").replace("\t", "") or any(flag.startswith(("-I", "-i")) for flag in cflags)
