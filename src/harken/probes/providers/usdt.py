"""usdt: static markers that programs and libraries carry (``sys/sdt.h``), ``usdt:BINARY:[PROVIDER:]NAME``.

A marker may stand in several places of a file, each with its arguments elsewhere; each place is a probe of its own.  ``arg0`` ... are the
marker's arguments, with their size and sign.  Where the marker has a semaphore, the kernel raises it while the probe is attached, in
processes that start later too.

``usdt:BINARY:NAME`` leaves the provider open; ``usdt::PROVIDER:NAME`` and ``usdt:*:NAME`` with a PID look in all files that the process has
mapped.  ``*`` is a wildcard in each part.
"""

from __future__ import annotations

from ...base.errors import FormatError
from ..model import Pattern, Probe, View
from .base import fail, is_glob, matches, near_names
from .binary import open_elf, paths_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...base.diagnostics import Span
    from ...formats.stapsdt import Operand

__all__ = ("PROVIDERS", "Usdt")

_ET_EXEC = 2


class Usdt:
    """``usdt``, alias ``U``."""

    kind = "usdt"
    aliases = ("U",)
    attachers = ("uprobe_multi", "uprobe_perf", "uprobe_tracefs")

    def parse(self, words: tuple[str, ...], span: Span | None) -> Pattern:
        if len(words) not in (2, 3):
            example = "usdt:/usr/bin/python3:python:function__entry"
            fail(f"usdt probe type requires 2 or 3 arguments, found {len(words)}", span, f"write {example}")
        if not words[-1]:
            fail("usdt probe has an empty part", span, "write usdt:BINARY:PROVIDER:NAME")
        return Pattern(self.kind, words, span)

    def expand(self, pattern: Pattern, catalogue: Any) -> tuple[Probe, ...]:
        paths = paths_of(pattern, catalogue)
        lenient = len(paths) > 1 or is_glob(pattern.words[0])
        provider = pattern.words[1] if len(pattern.words) == 3 else "*"
        name = pattern.words[-1]
        probes = []
        for path in paths:
            shown = pattern.words[0] if "/" in pattern.words[0] and not is_glob(pattern.words[0]) else path
            for marker in _markers(path, pattern, catalogue, lenient):
                if matches(provider, marker.provider) and matches(name, marker.name) and marker.offset >= 0:
                    place = (path, marker.provider, marker.name, marker.offset, max(marker.semaphore_offset, 0), marker.arguments)
                    probes.append(Probe(self.kind, place, f"{self.kind}:{shown}:{marker.provider}:{marker.name}"))
        return tuple(probes)

    def near(self, pattern: Pattern, catalogue: Any) -> list[str]:
        names: dict[str, None] = {}
        paths = paths_of(pattern, catalogue)
        for path in paths[:16]:
            for marker in _markers(path, pattern, catalogue, True):
                names[f"{marker.provider}:{marker.name}"] = None
        if not names and paths:
            which = paths[0] if len(paths) == 1 else f"none of these {len(paths)} files"
            has = "has no markers at all" if len(paths) == 1 else "has a marker"
            hint = f"{which} {has}: programs have them only if they were built so (`readelf -n` shows them)"
            fail(f"No matches for {self.kind} {':'.join(pattern.words)}.", pattern.span, hint)
        prefix = f"{self.kind}:{pattern.words[0]}:"
        plain = {name.partition(":")[2]: name for name in names}
        found = near_names(":".join(pattern.words[1:]), names) or [plain[name] for name in near_names(pattern.words[-1], plain)]
        return [prefix + name for name in found]

    def view(self, probe: Probe, catalogue: Any) -> View:
        path, provider, name, offset, _, text = probe.name
        from ...formats.stapsdt import arguments

        try:
            elf = catalogue.binary(path)
            operands = tuple(_located(operand, elf, offset) for operand in arguments(text, elf.machine_name, partial=True))
        except (FormatError, OSError):
            # the marker can be traced all the same, only without its arguments
            return View(function=name, space="user")
        return View(positional=len(operands), function=name, space="user", operands=operands)


def _markers(path: str, pattern: Pattern, catalogue: Any, lenient: bool) -> tuple[Any, ...]:
    elf = open_elf(path, pattern, catalogue, lenient)
    try:
        return elf.stapsdt() if elf is not None else ()
    except FormatError as error:
        if lenient:
            return ()
        fail(str(error), pattern.span, error.hint)


def _located(operand: Operand, elf: Any, offset: int) -> Operand:
    """An operand that names a variable, with its address instead.

    In a program that is always loaded at the same place that is a number.  Elsewhere it is an offset from the probed instruction, whose
    address is in ``rip`` when the program runs; then each place of a marker has another operand.  Position-independent code of i386 counts
    from its global offset table (``NAME@GOTOFF(%ebx)``).  What cannot be found stays as it is.
    """
    if not operand.symbol or operand.kind not in ("const", "memory"):
        return operand
    name, at, relation = operand.symbol.partition("@")
    relative = relation == "GOTOFF" and elf.machine_name == "i686" and operand.kind == "memory"
    symbol = elf.symbol(name if relative else operand.symbol)
    if symbol is None:
        return operand
    if relative:
        table = elf.section(".got.plt") or elf.section(".got")
        return operand.replace(symbol="", value=operand.value + symbol.value - table.address) if table is not None else operand
    address = operand.value + symbol.value
    if elf.type == _ET_EXEC:
        return operand.replace(symbol="", value=address)
    here = elf.address_of(offset)
    if here is None or operand.register or operand.index or elf.machine_name != "x86_64":
        return operand
    return operand.replace(symbol="", register="rip", value=address - here, kind="sum" if operand.kind == "const" else "memory")


PROVIDERS = (Usdt(),)
