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
from ...base.diagnostics import Diagnostic, Source, Span, nearest
from ...base.errors import HarkenError, SourceError
from . import libclang as lc
from . import macros, scan, tree
from .depth import Room
from .prelude import MAX_TEXT, Prelude
from .reader_statements import UnitReader
from .reader_types import Types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...probes.catalogue import Catalogue
    from .libclang import Note, Parsed

__all__ = ("parse", "Preparation")

_ROUNDS = 8
_PRELUDE = "/harken-prelude.h"
_INCOMPLETE = re.compile(r"incomplete (?:definition of )?type '(?:const |volatile )*(?:struct|union) (\w+)")
_NO_MEMBER = re.compile(r"no member named '(\w+)'(?: in '(?:struct|union) (\w+)')?")
_UNKNOWN = re.compile(r"(?:use of undeclared identifier|unknown type name|undeclared function) '(\w+)'")
_TWICE = re.compile(
    r"(?:typedef )?redefinition of (enumerator )?'?(\w+)|redefinition with different types \('|conflicting types for '(\w+)'"
)
#: Brackets that are nested deeper than 1,200 levels overflow the stack of clang itself.
_ARGUMENTS = (
    "-std=gnu17", "-x", "c", "-nostdinc", "-ffreestanding", "-ferror-limit=20", "-fno-caret-diagnostics", "-fbracket-depth=512",
)  # fmt: skip
#: Warnings that kernel code is full of.
_QUIET = (
    "unused address-of-packed-member gnu-variable-sized-type-not-at-end int-conversion incompatible-pointer-types "
    "incompatible-pointer-types-discards-qualifiers pointer-sign int-to-pointer-cast pointer-to-int-cast unknown-attributes "
    "unknown-pragmas duplicate-decl-specifier macro-redefined visibility return-type implicit-int return-mismatch "
    "missing-declarations excess-initializers tautological-compare compare-distinct-pointer-types pragma-once-outside-header "
    "unused-value array-bounds constant-conversion unknown-warning-option "
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

    def __init__(self, source: Source, catalogue: Catalogue, cflags: tuple[str, ...] = ()) -> None:
        super().__init__(source, catalogue, cflags)
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
                    if not self.spelling and any(_UNKNOWN.search(note.message) for note in errors):
                        self.spelling = True  # once more, for the sake of clang's suggestions
                        continue
                    raise SourceError(tuple(self._diagnostic(note) for note in errors))
            finally:
                parsed.close()

    def attempt(self) -> Parsed:
        """One run of clang."""
        self.prelude = self.text()
        files = {**self.files, _PRELUDE: self.prelude.encode()}
        quiet = [f"-Wno-{name}" for name in _QUIET.split()]
        spelling = ["-fspell-checking"] if self.spelling else []
        target = f"--target={self.machine}-linux-gnu"
        return lc.parse(self.source.name, files, (*_ARGUMENTS, *quiet, *spelling, target, "-include", _PRELUDE, *self.cflags))

    def _read(self, parsed: Parsed) -> tree.TranslationUnit:
        types = Types(parsed, {struct.name: struct for struct in self.written.structs}, self.packets)
        reader = UnitReader(parsed, self.source, types)
        license = _LICENSE.search(self.source.text)
        unit = reader.unit(lambda file: file != _PRELUDE, license.group(1).strip('"') if license else "GPL")
        types.finish()
        warnings = tuple((self._span(note), note.message) for note in parsed.notes if note.severity == "warning" and self._mine(note))
        return unit.replace(kernel_types=self.written.tags, warnings=warnings, depends=self._depends(parsed))

    def _depends(self, parsed: Parsed) -> tuple[tuple[str, str, str], ...]:
        """The files of the program besides its own text; clang reads some that we did not (``-include``)."""
        for name in parsed.inclusions():
            path = os.path.abspath(name)
            if name not in (self.source.name, _PRELUDE) and path not in self.contents:
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
            found = _INCOMPLETE.search(message)
            if found and not found.group(1).startswith("tracepoint__"):
                self.complete.add(found.group(1))
                self.tags.add(found.group(1))
            found = _NO_MEMBER.search(message) or _UNKNOWN.search(message)
            if found:
                self.words.add(found.group(1))
                self.tags.add(found.group(1))
            found = _TWICE.search(message)
            if found and (note.file == _PRELUDE or any(child.file == _PRELUDE for child in note.children) or note.file != _PRELUDE):
                name = found.group(2) or found.group(3) or ""
                if not name:
                    quoted = re.findall(r"'(?:struct |union |enum )?(\w+)", message)
                    name = quoted[0] if quoted else ""
                kinds = ("enumerator",) if found.group(1) else ("typedef", "struct", "enum", "enumerator", "function")
                self.owned.update(f"{kind} {name}" for kind in kinds)
            if message.startswith("expected") and note.file == self.source.name and note.expanded[0] == self.source.name:
                word = re.match(r"\w+", self.source.text[self._offset(note.offset) :])
                if word and word.group() in macros.MACROS:
                    self.owned.add(f"function {word.group()}")
        return len(self.words) + len(self.tags) + len(self.owned) + len(self.complete) > before

    def _mine(self, note: Note) -> bool:
        return note.file != _PRELUDE or note.expanded[0] not in ("", _PRELUDE)

    def _offset(self, byte: int) -> int:
        text = self.source.text
        return byte if text.isascii() else len(text.encode("utf-8", "surrogateescape")[:byte].decode("utf-8", "ignore"))

    def _span(self, note: Note) -> Span | None:
        """Where the message points to, in the program."""
        file, start, end = note.file, note.offset, note.end
        if file != self.source.name and note.expanded[0] == self.source.name:
            file, start = note.expanded
            end = start
        if file == self.source.name:
            first, last = self._offset(start), self._offset(end)
            if last <= first:
                word = re.compile(r"\w+").match(self.source.text, first)
                last = word.end() if word else first
            return self.source.span(first, last)
        data = self.files.get(file)
        if data is None:
            return None
        text = data.decode("utf-8", "surrogateescape")
        return Source(file, text).span(start, end)

    def _diagnostic(self, note: Note) -> Diagnostic:
        related = tuple(
            (span, child.message) for child in note.children if (span := self._span(child)) is not None and child.severity == "note"
        )
        where = self._span(note)
        message = note.message
        found = _INCOMPLETE.search(message)
        hint = ""
        if found and found.group(1).startswith("tracepoint__"):
            event = found.group(1)[len("tracepoint__") :].replace("__", ":", 1)
            hint = f"this kernel has no event {event}"
        elif found:
            hint = self._absent(found.group(1))
        elif _NO_MEMBER.search(message):
            hint = self._near_member(message)
        elif where is None and note.file == _PRELUDE:
            line = self.prelude.split("\n")[note.line - 1][:200] if note.line else ""
            hint = f"in what harken wrote before the program: {line}"
        return Diagnostic("error", message, where if where is not None else self.source.span(0, 0), hint, related)

    def _absent(self, tag: str) -> str:
        """Why a struct is not known."""
        if self.catalogue.btf is None:
            return "this kernel carries no types (BTF), so its structs are not known"
        return "neither this kernel nor a module that is loaded has it; a module's types are there when it is loaded"

    def _near_member(self, message: str) -> str:
        """Members that are called much like the one that is not there."""
        found = _NO_MEMBER.search(message)
        name, tag = found.groups() if found else ("", "")
        known = next((struct for struct in self.written.structs if struct.name == tag), None)
        names: list[str] = []
        if known is not None:
            names = sorted(set(known.names()))
        elif tag and tag.startswith("tracepoint__"):
            category, _, event = tag[len("tracepoint__") :].partition("__")
            try:
                own = self.catalogue.tracepoint(category, event).own
            except HarkenError:
                own = ()
            names = [("data_loc_" if field.data_loc else "") + field.name for field in own]
        near = nearest(name, names)
        return f"did you mean {' or '.join(near)}?" if near else ""
