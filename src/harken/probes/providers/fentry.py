"""fentry and fexit: entry and return of kernel functions through BPF trampolines, the fastest way in, with typed arguments.

``fentry:FUNCTION`` or ``fentry:MODULE:FUNCTION`` (aliases ``f``, ``kfunc``; ``fexit`` also ``fr``, ``kretfunc``).  Only functions that
BTF describes can be traced; ``args.NAME`` are the parameters, and ``fexit`` has ``retval`` beside them.
"""

from __future__ import annotations

from ...base.ctype import VOID
from ..model import Argument, Pattern, Probe, View
from .base import fail, is_glob, require
from .kprobe import check_module, functions_of, near_functions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...base.diagnostics import Span

__all__ = ("PROVIDERS", "Fentry")


class Fentry:
    """``fentry`` or ``fexit``."""

    def __init__(self, kind: str, aliases: tuple[str, ...]) -> None:
        self.kind, self.aliases, self.attachers = kind, aliases, (kind,)

    def parse(self, words: tuple[str, ...], span: Span | None) -> Pattern:
        require(self.kind, words, (1, 2), span, f"{self.kind}:vfs_read")
        if "+" in words[-1]:
            fail("Offset not allowed", span, f"{self.kind} traces whole functions; kprobe:{words[-1]} traces one instruction")
        return Pattern(self.kind, words, span)

    def expand(self, pattern: Pattern, catalogue: Any) -> tuple[Probe, ...]:
        *module, function = pattern.words
        if module:
            check_module(pattern, module[0], catalogue)
        probes = []
        wild = is_glob(function) or (bool(module) and is_glob(module[0]))
        for name, owner in functions_of(module[0] if module else "*", function, catalogue):
            if wild and name not in catalogue.described(owner):
                continue
            words = (owner or "vmlinux", name) if wild else pattern.words
            probes.append(Probe(self.kind, (owner, name, 0), ":".join((self.kind, *words))))
        return tuple(probes)

    def near(self, pattern: Pattern, catalogue: Any) -> list[str]:
        prefix = ":".join((self.kind, *pattern.words[:-1]))
        return [f"{prefix}:{name}" for name in near_functions(pattern.words[:-1], pattern.words[-1], catalogue)]

    def view(self, probe: Probe, catalogue: Any) -> View:
        module, function, _ = probe.name
        known = catalogue.function(function, module)
        if known is None:
            return View(function=function)
        args = tuple(Argument(name, kind, index) for index, (name, kind) in enumerate(known.params) if name)
        returns = None if self.kind == "fentry" or known.returns.strip() is VOID else known.returns
        return View(args, len(known.params), returns, function, arity=len(known.params))


PROVIDERS = (Fentry("fentry", ("f", "kfunc")), Fentry("fexit", ("fr", "kretfunc")))
