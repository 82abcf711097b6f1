"""C text to a typed tree, with the running kernel's types.

There are no kernel headers: ``#include`` lines of headers that are not on the disk next to the program are answered with nothing, and
what they would have defined is written before the program: the dialect's macros (``headers``), the kernel types that the program
mentions (``declarations``), helper prototypes, tracepoint records, and the few constants that type data lacks (``macros``).

What is to be written is first guessed from the program's words; what clang then misses (a member name made with ``##``, a struct that a
cast in a macro needs) is added and the program parsed again, a few times at most.  Messages that remain are clang's own, at the program's
lines.
"""

from __future__ import annotations

import os
import re

from ...base import cache
from ...base.diagnostics import Diagnostic, Source
from ...base.errors import SourceError
from . import libclang as lc
from . import macros, scan, tree
from .depth import Room
from .messages import INCOMPLETE, NO_MEMBER, UNKNOWN, Messages
from .prelude import MAX_TEXT, Prelude
from .reader_statements import UnitReader
from .reader_types import Types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...probes.catalogue import Catalogue
    from .libclang import Note, Parsed

__all__ = ("parse", "Preparation")

_ROUNDS = 8
_TWICE = re.compile(
    r"(?:typedef )?redefinition of (enumerator )?'?(\w+)|redefinition with different types \('|conflicting types for '(\w+)'"
)
#: Brackets that are nested deeper than 1,200 levels overflow the stack of clang itself.
_ARGUMENTS = (
    "-std=gnu17", "-x", "c", "-nostdinc", "-ffreestanding", "-ferror-limit=20", "-fno-caret-diagnostics", "-fbracket-depth=512",
    "-Wuninitialized", "-Wno-sometimes-uninitialized", "-Wno-error=int-conversion", "-Wno-error=incompatible-pointer-types",
)  # fmt: skip
#: Warnings that kernel code is full of.
_QUIET = (
    "unused address-of-packed-member gnu-variable-sized-type-not-at-end "
    "incompatible-pointer-types-discards-qualifiers pointer-sign int-to-pointer-cast pointer-to-int-cast unknown-attributes "
    "unknown-pragmas duplicate-decl-specifier macro-redefined visibility return-type implicit-int return-mismatch "
    "missing-declarations tautological-compare compare-distinct-pointer-types pragma-once-outside-header "
    "unused-value unknown-warning-option "
)
_LICENSE = re.compile(r"^[ \t]*#[ \t]*define[ \t]+BPF_LICENSE[ \t]+(.+?)[ \t]*$", re.M)


def parse(source: Source, catalogue: Catalogue, options: object = None) -> tree.TranslationUnit:
    """Parses a program for the catalogue's kernel.

    Args:
        source: the program; ``source.name`` is its path if it has one (then its own headers are found next to it).
        options: has ``cflags`` (of clang's command line: -D, -U, -I, -include) and ``usdt``, whose texts are not looked at here.

    Raises:
        SourceError: with clang's messages.
        UsageError: libclang is not installed.
    """
    cflags = tuple(str(flag) for flag in getattr(options, "cflags", ()))
    try:
        with Room():
            return Preparation(source, catalogue, cflags).run()
    except RecursionError:
        whole = Diagnostic("error", "the program is nested too deep", source.span(0, 0), "split long expressions with variables")
        raise SourceError((whole,)) from None


class Preparation(Prelude):
    """One program on its way to a tree."""

    #: what the text before the program is called
    PRELUDE = "/harken-prelude.h"

    def __init__(self, source: Source, catalogue: Catalogue, cflags: tuple[str, ...] = ()) -> None:
        super().__init__(source, catalogue, cflags)
        self.messages = Messages(self)
        self.spelling = False
        self.rounds = 0
        self.prelude = ""

    def run(self) -> tree.TranslationUnit:
        """Parses until nothing is missing any more.

        Raises:
            SourceError: with clang's messages.
        """
        if len(self.source.text) > MAX_TEXT:
            raise SourceError((Diagnostic("error", f"the program is longer than {MAX_TEXT >> 20} MB", self.source.span(0, 0)),))
        problem = scan.obstacle(self.source.text)
        if problem:
            raise SourceError((Diagnostic("error", f"the program is too large: {problem}", self.source.span(0, 0)),))
        while True:
            self.rounds += 1
            parsed = self.attempt()
            try:
                errors = [note for note in parsed.notes if note.severity in ("error", "fatal")]
                if not errors:
                    return self._read(parsed)
                if self.rounds >= _ROUNDS or not self._learn(errors):
                    if not self.spelling and any(UNKNOWN.search(note.message) for note in errors):
                        self.spelling = True  # once more, for the sake of clang's suggestions
                        continue
                    raise SourceError(self.messages.errors(parsed.notes))
            finally:
                parsed.close()

    def attempt(self) -> Parsed:
        """One run of clang."""
        self.prelude = self.text()
        files = {**self.files, self.PRELUDE: self.prelude.encode()}
        quiet = [f"-Wno-{name}" for name in _QUIET.split()]
        spelling = ["-fspell-checking"] if self.spelling else []
        target = f"--target={self.machine}-linux-gnu"
        return lc.parse(self.source.name, files, (*_ARGUMENTS, *quiet, *spelling, target, "-include", self.PRELUDE, *self.cflags))

    def _read(self, parsed: Parsed) -> tree.TranslationUnit:
        types = Types(parsed, {struct.name: struct for struct in self.written.structs}, self.packets)
        reader = UnitReader(parsed, self.source, types)
        license = _LICENSE.search(self.source.text)
        unit = reader.unit(lambda file: file != self.PRELUDE, license.group(1).strip('"') if license else "GPL")
        types.finish()
        warnings = self.messages.warnings(parsed.notes)
        return unit.replace(kernel_types=self.written.tags, warnings=warnings, depends=self._depends(parsed))

    def _depends(self, parsed: Parsed) -> tuple[tuple[str, str, str], ...]:
        """The files of the program besides its own text; clang reads some that we did not (``-include``)."""
        for name in parsed.inclusions():
            path = os.path.abspath(name)
            if name not in (self.source.name, self.PRELUDE) and path not in self.contents:
                try:
                    with open(path, "rb") as file:
                        self.contents[path] = cache.digest(file.read())
                except OSError:
                    self.contents[path] = ""
        return tuple(("content", path, digest) for path, digest in sorted(self.contents.items()))

    # -- what clang misses

    def _learn(self, errors: list[Note]) -> bool:
        """Takes from clang's messages what was not written yet; whether there was anything."""
        before = len(self.words) + len(self.tags) + len(self.owned) + len(self.complete)
        for note in errors:
            message = note.message
            found = INCOMPLETE.search(message)
            if found and not found.group(1).startswith("tracepoint__"):
                self.complete.add(found.group(1))
                self.tags.add(found.group(1))
            found = NO_MEMBER.search(message) or UNKNOWN.search(message)
            if found:
                self.words.add(found.group(1))
                self.tags.add(found.group(1))
            found = _TWICE.search(message)
            if found:
                name = found.group(2) or found.group(3) or ""
                if not name:
                    quoted = re.findall(r"'(?:struct |union |enum )?(\w+)", message)
                    name = quoted[0] if quoted else ""
                kinds = ("enumerator",) if found.group(1) else ("typedef", "struct", "enum", "enumerator", "function")
                self.owned.update(f"{kind} {name}" for kind in kinds)
            if message.startswith("expected") and note.file == self.source.name and note.expanded[0] == self.source.name:
                word = re.match(r"\w+", self.source.text[self.messages.offset(note.offset) :])
                if word and word.group() in macros.MACROS:
                    self.owned.add(f"function {word.group()}")
        return len(self.words) + len(self.tags) + len(self.owned) + len(self.complete) > before
