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
from functools import lru_cache

from ...base.diagnostics import Diagnostic, Source, Span, nearest
from ...base.errors import FormatError, HarkenError, KernelError, ProbeError, SourceError
from . import declarations, headers, helpers, macros, scan, tree
from . import libclang as lc
from .reader_statements import UnitReader
from .reader_types import Types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...formats.btf import Btf
    from ...kernel.config import Config
    from ...kernel.kernel import Kernel
    from ...probes.catalogue import Catalogue
    from .libclang import Note, Parsed

__all__ = ("parse", "Preparation", "MAX_TEXT")

#: Longest program.
MAX_TEXT = 4 << 20
_ROUNDS = 8
_PRELUDE = "/harken-prelude.h"
_INCOMPLETE = re.compile(r"incomplete (?:definition of )?type '(?:const |volatile )*(?:struct|union) (\w+)")
_NO_MEMBER = re.compile(r"no member named '(\w+)'(?: in '(?:struct|union) (\w+)')?")
_UNKNOWN = re.compile(r"(?:use of undeclared identifier|unknown type name|undeclared function) '(\w+)'")
_TWICE = re.compile(
    r"(?:typedef )?redefinition of (enumerator )?'?(\w+)|redefinition with different types \('|conflicting types for '(\w+)'"
)
_ARGUMENTS = ("-std=gnu17", "-x", "c", "-nostdinc", "-ffreestanding", "-ferror-limit=20", "-fno-caret-diagnostics")
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
        return Preparation(source, catalogue, cflags).run()
    except RecursionError:
        whole = Diagnostic("error", "the program is nested too deep", source.span(0, 0), "split long expressions with variables")
        raise SourceError((whole,)) from None


class Preparation:
    """One program on its way to a tree: what was asked for so far, and the text that stands before it."""

    def __init__(self, source: Source, catalogue: Catalogue, cflags: tuple[str, ...] = ()) -> None:
        self.source, self.catalogue, self.cflags = source, catalogue, cflags
        self.machine = catalogue.kernel.machine if catalogue.kernel.machine in ("x86_64", "aarch64") else "x86_64"
        self.files: dict[str, bytes] = {}
        self.words: set[str] = set()
        self.tags: set[str] = set()
        self.owned: set[str] = set()
        self.macros: set[str] = set()
        self.complete: set[str] = set()
        self.tracepoints: set[tuple[str, str]] = set()
        self.stubbed: set[str] = set()
        self.spelling = False
        self.rounds = 0
        self.written = declarations.Written("", frozenset())
        self.prelude = ""
        self._add(source.name, source.text)
        if "RAW_TRACEPOINT_PROBE" in self.words:
            self.tags.add("bpf_raw_tracepoint_args")
        if "BPF_STACK_TRACE_BUILDID" in self.words:
            self.tags.update(("bpf_stacktrace_buildid", "bpf_stack_build_id"))
        if "CGROUP_STORAGE" in source.text:
            self.tags.add("bpf_cgroup_storage_key")
        for flag in cflags:
            self.words.update(re.findall(r"[A-Za-z_]\w*", flag))

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
        self.prelude = self._prelude()
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
        return unit.replace(kernel_types=self.written.tags, warnings=warnings)

    # -- the text before the program

    def _add(self, name: str, text: str) -> None:
        """Takes a file of the program in: its words count, and includes that nobody can answer are blanked out."""
        found = scan.scan(text)
        self.words |= found.words
        self.tags |= found.tags
        self.owned |= found.owned
        self.macros |= found.macros
        self.tracepoints |= found.tracepoints
        folder = os.path.dirname(name)
        parts, position = [], 0
        for quote, target, start, end in found.includes:
            path = self._find(quote, target, folder)
            if path is not None:
                self._include(path)
                continue
            self.stubbed.add(target)
            parts += [text[position:start], " " * (end - start)]
            position = end
        parts.append(text[position:])
        self.files[name] = "".join(parts).encode("utf-8", "surrogateescape")

    def _find(self, quote: str, target: str, folder: str) -> str | None:
        folders = [folder or "."] if quote == '"' else []
        flags = iter(self.cflags)
        for flag in flags:
            if flag in ("-I", "-isystem", "-iquote"):
                folders.append(next(flags, ""))
            elif flag.startswith("-I"):
                folders.append(flag[2:])
        for place in folders:
            path = os.path.join(place, target)
            if place and os.path.isfile(path):
                return path
        return None

    def _include(self, path: str) -> None:
        key = os.path.normpath(path)
        if key in self.files or len(self.files) > 200:
            return
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                text = file.read(MAX_TEXT)
        except OSError:
            return
        self.files[key] = b""  # a circle of includes ends here
        self._add(key, text)

    def _prelude(self) -> str:
        words = frozenset(self.words)
        chosen, words = self._macros(words)
        btf = self.catalogue.btf
        types: Sequence[Btf] = () if btf is None else (btf,)
        stubs = {"pt_regs": headers.pt_regs(self.machine), **macros.STUB_TYPES}
        missing = {tag for tag in stubs if btf is None or btf.struct(tag) is None}
        request = declarations.Request(words, frozenset(self.tags - missing), frozenset(self.owned), frozenset(self.complete - missing))
        self.written = declarations.write(request, types, self._modules)
        parts = [declarations.BASE, self._kernel_constants(), headers.COMMON, headers.registers(self.machine), chosen]
        parts.append(self.written.text)
        parts += [stubs[tag] for tag in sorted(missing & (words | self.tags)) if f"struct {tag}" not in self.owned]
        if self.packets:
            parts.append(headers.PACKETS)
        if self._uses("BPF_") or "cgroup_storage" in self.source.text:
            parts.append(headers.TABLES)
        parts.append(self._helpers(words))
        parts += self._events()
        return "\n".join(parts) + "\n"

    @property
    def packets(self) -> bool:
        """Whether the program reads packets through structs."""
        return bool(self.words.intersection(_PACKETS))

    def _uses(self, prefix: str) -> bool:
        return any(word.startswith(prefix) for word in self.words)

    def _modules(self) -> Sequence[Btf]:
        found = []
        for module in self.catalogue.modules():
            try:
                btf = self.catalogue.module_btf(module)
            except HarkenError:
                continue
            if btf is not None:
                found.append(btf)
        return found

    def _macros(self, words: frozenset[str]) -> tuple[str, frozenset[str]]:
        """The shared macros that the program mentions and nobody else defines, and the words they add."""
        from mmap import PAGESIZE as size

        values = {
            "page_shift": str(size.bit_length() - 1),
            "hz": (self._config("CONFIG_HZ") if "HZ" in words else "") or "250",
            "page_offset": "0xffff888000000000UL" if self.machine == "x86_64" else "0xffff000000000000UL",
        }
        btf = self.catalogue.btf
        lines, known, todo = [], set(), list(words)
        every = set(words)
        while todo:
            word = todo.pop()
            text = macros.MACROS.get(word)
            if text is None or word in known or word in self.macros or f"enumerator {word}" in self.owned or word in self.functions:
                continue
            known.add(word)
            if btf is not None and btf.enumerator(word) is not None:
                continue
            text = text.format(**values)
            lines.append(f"#ifndef {word}\n#define {text}\n#endif")
            for other in re.findall(r"[A-Za-z_]\w*", text):
                if other not in every:
                    every.add(other)
                    todo.append(other)
        lines.sort()
        if "PAGE_SIZE" not in known:
            lines.append(f"#define _HARKEN_PAGE_SIZE {size}UL")
        else:
            lines.append("#define _HARKEN_PAGE_SIZE PAGE_SIZE")
        return "\n".join(lines), frozenset(every)

    @property
    def functions(self) -> frozenset[str]:
        """Names that the program gives to functions (and variables, if clang complained), so that no macro may have them."""
        return frozenset(name[9:] for name in self.owned if name.startswith("function "))

    def _kernel_constants(self) -> str:
        lines = []
        for word in sorted(self.words):
            if word.startswith("CONFIG_"):
                name = word[:-7] if word.endswith("_MODULE") else word
                value = self._config(name)
                if value == "m" and word != name or value == "y" and word == name:
                    lines.append(f"#define {word} 1")
                elif value and value not in ("y", "n", "m"):
                    lines.append(f"#define {word} {value if value.lstrip('-').isalnum() and value[0] in '-0123456789' else _quoted(value)}")
        if self.words.intersection(("LINUX_VERSION_CODE",)):
            lines.append(f"#define LINUX_VERSION_CODE {self._version()}")
        return "\n".join(lines)

    def _config(self, name: str) -> str | None:
        found = _configuration(self.catalogue.kernel).value(name)
        if found is None and name in _USUAL:
            return "y"
        return found

    def _version(self) -> int:
        """LINUX_VERSION_CODE for the program's own ``#if``; harken itself never looks at it."""
        from ...kernel.procfs import uname

        override = os.environ.get("BCC_LINUX_VERSION_CODE", "")
        if override.isdigit():
            return int(override)
        numbers = [int(part) for part in re.findall(r"\d+", uname(self.catalogue.kernel).release)[:3]]
        major, minor, patch = (*numbers, 0, 0, 0)[:3]
        return (major << 16) + (minor << 8) + min(patch, 255)

    def _helpers(self, words: frozenset[str]) -> str:
        lines = ["struct bpf_map;"]
        wanted = words | ({"bpf_probe_read", "bpf_probe_read_str"} if "TP_DATA_LOC_READ" in " ".join(words) else set())
        for word in sorted(wanted):
            if word.startswith("bpf_"):
                text = helpers.declaration(word[4:])
                if text:
                    lines.append(text)
        return "\n".join(lines)

    def _events(self) -> list[str]:
        parts = []
        for category, name in sorted(self.tracepoints):
            tag = f"tracepoint__{category}__{name}"
            if f"struct {tag}" in self.owned:
                continue
            try:
                found = self.catalogue.tracepoint(category, name)
            except (ProbeError, KernelError, FormatError):
                continue  # clang says that the struct is incomplete; the program may never use it
            parts.append(declarations.event(tag, found))
        return parts

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


@lru_cache(2)
def _configuration(kernel: Kernel) -> Config:
    from ...kernel.config import config_of

    return config_of(kernel)


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


_PACKETS = frozenset(("BPF_PACKET_HEADER", *re.findall(r"^struct (\w+) \{", headers.PACKETS, re.M)))
#: What every kernel that runs BPF programs has, for when its configuration cannot be read.
_USUAL = frozenset(
    "CONFIG_BPF CONFIG_BPF_SYSCALL CONFIG_SMP CONFIG_64BIT CONFIG_NET CONFIG_INET CONFIG_IPV6 CONFIG_NAMESPACES CONFIG_PID_NS "
    "CONFIG_NET_NS CONFIG_CGROUPS CONFIG_BLOCK CONFIG_MMU CONFIG_PERF_EVENTS CONFIG_TRACEPOINTS CONFIG_ARCH_HAS_SYSCALL_WRAPPER "
    "CONFIG_CGROUP_SCHED CONFIG_FAIR_GROUP_SCHED CONFIG_TASK_IO_ACCOUNTING CONFIG_X86_64".split()
)
