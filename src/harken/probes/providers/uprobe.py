"""uprobe and uretprobe: functions of programs and libraries, or any instruction of theirs.

``uprobe:BINARY:FUNCTION``, ``uprobe:BINARY:FUNCTION+OFFSET``, ``uprobe:BINARY:0xADDRESS`` (as the ELF file counts) and
``uprobe:BINARY:cpp:"Class::method"`` (every overload).  BINARY is a path, a command in ``$PATH``, a library (``libc``), or ``*``
with a PID.
``arg0`` ... are the registers of the C calling convention, ``retval`` that of the result.
"""

from __future__ import annotations

from ..model import Pattern, Probe, View
from .base import MACHINE_ARGUMENTS, fail, is_glob, matcher, matches, near_names, number
from .binary import executable_offset, open_elf, paths_of
from .kprobe import U64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...base.diagnostics import Span

__all__ = ("PROVIDERS", "Uprobe", "mangled")


class Uprobe:
    """``uprobe`` (alias ``u``) or ``uretprobe`` (alias ``ur``)."""

    attachers = ("uprobe_multi", "uprobe_perf", "uprobe_tracefs")

    def __init__(self, kind: str, alias: str) -> None:
        self.kind, self.aliases = kind, (alias,)
        self.returns = kind == "uretprobe"

    def parse(self, words: tuple[str, ...], span: Span | None) -> Pattern:
        example = f"{self.kind}:/bin/bash:readline"
        if len(words) not in (2, 3):
            fail(f"{self.kind} probe type requires 2 arguments, found {len(words)}", span, f"write {example}")
        if len(words) == 3 and words[1] != "cpp":
            hint = f'a path with ":" must be quoted: {self.kind}:"{words[0]}:{words[1]}":{words[2]}'
            fail(f"{self.kind} probe type requires 2 arguments, found 3", span, hint)
        target = words[-1]
        if not target:
            fail(f"{self.kind} probe has an empty part", span, f"write {example}")
        function, plus, offset = target.rpartition("+") if len(words) == 2 else (target, "", "")
        if plus:
            if self.returns:
                fail("Offset not allowed", span, f"a return has no offset: write {self.kind}:{words[0]}:{function}")
            if is_glob(function):
                fail("Offset not allowed with a wildcard", span, f"name the function: write {example}+4")
            number(offset, span, "the offset", f"{self.kind}:{words[0]}:{function}+4")
        elif target[0].isdigit():
            number(target, span, "the address", f"{self.kind}:{words[0]}:0x1234")
        return Pattern(self.kind, words, span)

    def expand(self, pattern: Pattern, catalogue: Any) -> tuple[Probe, ...]:
        paths = paths_of(pattern, catalogue)
        lenient = len(paths) > 1 or is_glob(pattern.words[0])
        probes: list[Probe] = []
        for path in paths:
            elf = open_elf(path, pattern, catalogue, lenient)
            if elf is not None:
                shown = pattern.words[0] if "/" in pattern.words[0] and not is_glob(pattern.words[0]) else path
                probes += self._of_file(pattern, elf, path, shown)
        return tuple(probes)

    def _of_file(self, pattern: Pattern, elf: Any, path: str, shown: str) -> list[Probe]:
        target, cpp = pattern.words[-1], len(pattern.words) == 3
        prefix = f"{self.kind}:{shown}:"
        if target[0].isdigit() and not cpp:
            offset = executable_offset(elf, number(target, pattern.span, "the address", ""))
            if offset is None:
                fail(
                    f"Could not resolve address: {path}:{target}", pattern.span, "it is not inside the file's code (`readelf -lW` shows it)"
                )
            return [Probe(self.kind, (path, "", 0, offset), prefix + target)]
        if cpp or is_glob(target):
            probes: list[Probe] = []
            seen: set[int] = set()
            for name, address, _ in _matching(elf, target, cpp):
                # aliases are one place: probing it once per name would count every call several times
                offset = executable_offset(elf, address)
                if offset is not None and offset not in seen:
                    seen.add(offset)
                    probes.append(Probe(self.kind, (path, name, 0, offset), prefix + name))
            return probes
        return self._exact(pattern, elf, path, prefix)

    def _exact(self, pattern: Pattern, elf: Any, path: str, prefix: str) -> list[Probe]:
        target = pattern.words[-1]
        function, plus, word = target.rpartition("+")
        function = function if plus else target
        offset = number(word, pattern.span, "the offset", "") if plus else 0
        symbol = elf.symbol(function)
        if symbol is None:
            return []
        symbols = [symbol]
        if symbol.binding == "local":
            # static functions of the same name in several source files: all of them
            symbols = [s for s in elf.symbols_named(function) if s.kind == symbol.kind]
        places = dict.fromkeys((s.value, s.size) for s in symbols)
        probes = []
        for address, size in places:
            start = executable_offset(elf, address)
            if start is None:
                continue
            if offset and size and offset >= size:
                fail(
                    f"Offset outside the function bounds ('{function}' size is {size:#x})", pattern.span, f"offsets go up to {size - 1:#x}"
                )
            probes.append(Probe(self.kind, (path, function, offset, start + offset), prefix + target))
        return probes

    def near(self, pattern: Pattern, catalogue: Any) -> list[str]:
        names: dict[str, None] = {}
        for path in paths_of(pattern, catalogue)[:16]:
            elf = open_elf(path, pattern, catalogue, True)
            if elf is not None:
                names.update(dict.fromkeys(name for name, _, _ in elf.functions()))
        prefix = f"{self.kind}:{pattern.words[0]}:"
        return [prefix + name for name in near_names(pattern.words[-1].rpartition("+")[0] or pattern.words[-1], names)]

    def view(self, probe: Probe, catalogue: Any) -> View:
        function = probe.name[1]
        if self.returns:
            return View(returns=U64, function=function, space="user")
        return View(positional=MACHINE_ARGUMENTS.get(catalogue.kernel.machine, 6), function=function, space="user")


def _matching(elf: Any, target: str, cpp: bool) -> list[tuple[str, int, int]]:
    functions: list[tuple[str, int, int]] = elf.functions()
    if cpp:
        return [entry for entry in functions if mangled(entry[0], target)]
    if target == "*":
        return functions
    names = set(matcher(target, dict.fromkeys(name for name, _, _ in functions)))
    return [entry for entry in functions if entry[0] in names]


def mangled(symbol: str, name: str) -> bool:
    """Whether a symbol is an overload of a C++ function, or a Rust function of that path.

    Args:
        symbol: as in the file.
        name: with namespaces, without parameters, ``*`` allowed in a component.

    >>> mangled("_ZN3foo3barEi", "foo::bar"), mangled("_Z3bari", "bar"), mangled("_ZN3foo3bazEv", "foo::bar")
    (True, True, False)
    """
    if not symbol.startswith("_Z"):
        return False
    wanted = name.partition("(")[0].split("::")
    at, parts = 2, []
    nested = symbol.startswith("N", at)
    if nested:
        at += 1
        while symbol[at : at + 1] in ("K", "V", "r", "R", "O") and symbol[at : at + 1]:
            at += 1
    if symbol.startswith("St", at):
        parts.append("std")
        at += 2
    elif symbol.startswith("L", at):
        at += 1
    while symbol[at : at + 1].isdigit() and len(parts) < 64:
        end = at
        while symbol[end : end + 1].isdigit():
            end += 1
        length = int(symbol[at : min(end, at + 6)])
        parts.append(symbol[end : end + length])
        at = end + length
        if not nested:
            break
    if len(parts) == len(wanted) + 1 and len(parts[-1]) == 17 and parts[-1][0] == "h":
        parts.pop()  # Rust's hash
    return len(parts) == len(wanted) and (not nested or symbol.startswith("E", at)) and all(map(matches, wanted, parts))


PROVIDERS = (Uprobe("uprobe", "u"), Uprobe("uretprobe", "ur"))
