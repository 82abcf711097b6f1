"""uprobe and uretprobe: functions of programs and libraries, or any instruction of theirs.

====================================  ===============================================================================================
``uprobe:BINARY:FUNCTION``            by name; static functions of the same name all of them; ``*`` is a wildcard
``uprobe:BINARY:/REGEX/``             all functions whose names match (in quotes if it contains blanks, commas or braces)
``uprobe:BINARY:FUNCTION+OFFSET``     an instruction in it
``uprobe:BINARY:0xADDRESS``           an address as the ELF file counts (``nm`` and ``objdump`` print it)
``uprobe:BINARY:cpp:"A::b"``          a C++ or Rust function, see ``functions``
``uprobe:BINARY@FILE:LINE[:COLUMN]``  a source line, by debug information; once in every function and inlined copy that it became part of
``uprobe:BINARY:FILE:LINE``           the same
====================================  ===============================================================================================

BINARY is a path (with wildcards too), a command in ``$PATH``, a library ("libc", "libc.so.6"), with a PID what that process sees (in its
container), or ``*`` with a PID: all files that it has mapped.  ``arg0`` ... are the registers of the C calling convention (in 32-bit
programs: the first words above the return address), ``retval`` that of the result.

A probe inside of a function is refused where no instruction starts: the kernel does not check that, and a breakpoint in the middle of an
instruction changes what the program does.
"""

from __future__ import annotations

from ..model import Pattern, Probe, View
from .base import MACHINE_ARGUMENTS, fail, is_glob, near_names, number
from .binary import check_instruction, executable_offset, is_file, open_elf, paths_of
from .functions import choose, is_pattern, mangled
from .kprobe import U64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...base.diagnostics import Span
    from ...formats.stapsdt import Operand

__all__ = ("PROVIDERS", "Uprobe", "mangled")


class Uprobe:
    """``uprobe`` (alias ``u``) or ``uretprobe`` (alias ``ur``)."""

    attachers = ("uprobe_multi", "uprobe_perf", "uprobe_tracefs")

    def __init__(self, kind: str, alias: str) -> None:
        self.kind, self.aliases = kind, (alias,)
        self.returns = kind == "uretprobe"

    def parse(self, words: tuple[str, ...], span: Span | None) -> Pattern:
        example = f"{self.kind}:/bin/bash:readline"
        if len(words) > 1 and not words[-1]:
            fail(f"{self.kind} probe has an empty part", span, f"write {example}")
        source = _source_line(words)
        if source is not None:
            if self.returns:
                fail("a return has no source line", span, f"write {self.kind}:{source[0]}:FUNCTION")
            return Pattern(self.kind, words, span)
        if len(words) not in (2, 3) or len(words) == 3 and words[1] != "cpp":
            hint = f"write {example}"
            if len(words) > 3 and not words[2]:
                name = ":".join(words[1:])
                hint = f'C++ names are written {self.kind}:{words[0]}:cpp:"{name}"'
            elif len(words) >= 3:
                hint = f'a path with ":" must be quoted: {self.kind}:"{":".join(words[:-1])}":{words[-1]}'
            fail(f"{self.kind} probe type requires 2 arguments, found {len(words)}", span, hint)
        target = words[-1]
        if len(words) == 3 or is_pattern(target) and "/" in target[:1]:
            return Pattern(self.kind, words, span)
        function, plus, offset = target.rpartition("+")
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
        source = _source_line(pattern.words, catalogue, pattern.pid)
        binary = pattern.words[0] if source is None else source[0]
        where = pattern if source is None else pattern.replace(words=(binary,))
        paths = paths_of(where, catalogue)
        lenient = len(paths) > 1 or is_glob(binary)
        probes: list[Probe] = []
        for path in paths:
            elf = open_elf(path, pattern, catalogue, lenient)
            if elf is not None:
                shown = binary if "/" in binary and not is_glob(binary) else path
                if source is not None:
                    probes += self._of_line(pattern, elf, path, shown, source, catalogue, lenient)
                else:
                    probes += self._of_file(pattern, elf, path, shown)
        return tuple(probes)

    def _of_file(self, pattern: Pattern, elf: Any, path: str, shown: str) -> list[Probe]:
        target, cpp = pattern.words[-1], len(pattern.words) == 3
        prefix = f"{self.kind}:{shown}:"
        if target[0].isdigit() and not cpp:
            address = number(target, pattern.span, "the address", "")
            offset = executable_offset(elf, address)
            if offset is None:
                fail(
                    f"Could not resolve address: {path}:{target}", pattern.span, "it is not inside the file's code (`readelf -lW` shows it)"
                )
            found = elf.symbol_at(address)
            if found is not None:
                check_instruction(elf, pattern, found[0], address - found[1], found[1])
            return [Probe(self.kind, (path, *(found or ("", 0)), offset), prefix + target)]
        if cpp or is_pattern(target):
            probes: list[Probe] = []
            seen: set[int] = set()
            for name, address, _ in choose(elf, target, cpp, pattern.span):
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
            symbols = [s for s in elf.symbols_named(function) if s.kind == symbol.kind] or symbols
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
            if offset:
                if executable_offset(elf, address + offset) is None:
                    fail(f"Offset outside of the code that '{function}' is in", pattern.span, "`readelf -SW` shows the sections")
                check_instruction(elf, pattern, function, address, offset)
            probes.append(Probe(self.kind, (path, function, offset, start + offset), prefix + target))
        return probes

    def _of_line(
        self, pattern: Pattern, elf: Any, path: str, shown: str, source: tuple[str, str, int, int], catalogue: Any, lenient: bool
    ) -> list[Probe]:
        from ...base.errors import FormatError
        from ...symbols.lines import LineTable

        _, file, line, column = source
        try:
            table = LineTable.of(elf, catalogue.kernel)
        except FormatError as error:
            table = None
            if not lenient:
                fail(str(error), pattern.span, error.hint)
        if table is None:
            if lenient:
                return []
            hint = "compile it with -g, or install its debug symbols (packages NAME-dbgsym, NAME-dbg or NAME-debuginfo)"
            fail(f"{path} has no debug information, which source lines need", pattern.span, hint)
        probes = []
        place = f"{file}:{line}" + (f":{column}" if column else "")
        for address in table.addresses(file, line, column):
            offset = executable_offset(elf, address)
            if offset is not None:
                name, inside = elf.symbol_at(address) or ("", 0)
                probes.append(Probe(self.kind, (path, name, inside, offset), f"{self.kind}:{shown}@{place}"))
        if not probes and not lenient:
            _no_line(pattern, table, path, file, line, column)
        return probes

    def near(self, pattern: Pattern, catalogue: Any) -> list[str]:
        if _source_line(pattern.words, catalogue, pattern.pid) is not None:
            return []
        from .uprobe_near import near

        return near(pattern, catalogue)

    def view(self, probe: Probe, catalogue: Any) -> View:
        function = probe.name[1]
        if self.returns:
            return View(returns=U64, function=function, space="user")
        positional = MACHINE_ARGUMENTS.get(catalogue.kernel.machine, 6)
        operands = _stack_operands(positional) if catalogue.kernel.machine == "x86_64" and _narrow(probe.name[0], catalogue) else ()
        return View(positional=positional, function=function, space="user", operands=operands)


def _narrow(path: str, catalogue: Any) -> bool:
    """Whether a binary is one of i386."""
    from ...base.errors import HarkenError

    try:
        return bool(catalogue.binary(path).machine_name == "i686")
    except (HarkenError, OSError):
        return False


def _stack_operands(count: int) -> tuple[Operand, ...]:
    """Where a function of i386 finds its arguments when it is called: 4 bytes each, above the return address."""
    from ...formats.stapsdt import Operand

    return tuple(Operand(4, True, "memory", 4 + 4 * place, "rsp", bits=32, address_bits=32) for place in range(count))


def _source_line(words: tuple[str, ...], catalogue: Any = None, pid: int = -1) -> tuple[str, str, int, int] | None:
    """(binary, file, line, column or 0) if the words name a source line.

    ``BINARY@FILE:LINE`` and ``BINARY:FILE:LINE``, each with a column or not.  A file whose name contains "@" is no such thing if it
    exists, which the catalogue can tell.

    >>> _source_line(("/bin/a@b.c", "7")), _source_line(("/bin/a", "b.c", "7", "3")), _source_line(("/bin/a", "f"))
    (('/bin/a', 'b.c', 7, 0), ('/bin/a', 'b.c', 7, 3), None)
    """
    binary, at, file = words[0].rpartition("@")
    if at and binary and file and 2 <= len(words) <= 3 and all(map(_is_number, words[1:])):
        if catalogue is not None and len(words) == 2 and is_file(words[0], catalogue, pid):
            return None
        return binary, file, int(words[1]), int(words[2]) if len(words) == 3 else 0
    if 3 <= len(words) <= 4 and words[1] != "cpp" and words[1] and all(map(_is_number, words[2:])):
        return words[0], words[1], int(words[2]), int(words[3]) if len(words) == 4 else 0
    return None


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) < 10 and int(word) > 0


def _no_line(pattern: Pattern, table: Any, path: str, file: str, line: int, column: int) -> None:
    """Raises the error for a source line without code, with what there is instead."""
    near = table.lines_with_code(file, line)
    if not near:
        files = table.files()
        found = near_names(file, dict.fromkeys(name.rpartition("/")[2] for name in files))
        hint = f"did you mean {' or '.join(found)}?" if found else table.problem
        fail(f"no code of {path} comes from a file {file}", pattern.span, hint)
    if line in near:
        fail(
            f"no code of {path} starts at {file}:{line}:{column}", pattern.span, "leave the column out: any part of the line is meant then"
        )
    lines = ", ".join(map(str, near))
    fail(f"line {line} of {file} did not become code of {path}", pattern.span, f"lines near it that did: {lines}")


PROVIDERS = (Uprobe("uprobe", "u"), Uprobe("uretprobe", "ur"))
