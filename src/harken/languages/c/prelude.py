"""The text that stands before a program: macros of the dialect, and whatever of the kernel the program mentions."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from mmap import PAGESIZE

from ...base import cache
from ...base.diagnostics import Source
from ...base.errors import FormatError, HarkenError, KernelError, ProbeError
from . import declarations, declarations_layout, headers, helpers, macros, scan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...formats.btf import Btf
    from ...kernel.config import Config
    from ...kernel.kernel import Kernel
    from ...probes.catalogue import Catalogue

__all__ = ("Prelude", "MAX_TEXT")

#: Longest program.
MAX_TEXT = 4 << 20


class Prelude:
    """What a program asked for so far, and the text that answers it."""

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
        #: the program's ``#include`` lines that were answered with nothing, as ``scan`` found them
        self.unanswered: list[tuple[str, str, int, int]] = []
        #: path -> digest of what was read there, "" where nothing was
        self.contents: dict[str, str] = {}
        self.written = declarations.Written("", frozenset())
        self._add(source.name, source.text)
        if "RAW_TRACEPOINT_PROBE" in self.words:
            self.tags.add("bpf_raw_tracepoint_args")
        if "BPF_STACK_TRACE_BUILDID" in self.words:
            self.tags.update(("bpf_stacktrace_buildid", "bpf_stack_build_id"))
        if "CGROUP_STORAGE" in source.text:
            self.tags.add("bpf_cgroup_storage_key")
        for flag in cflags:
            self.words.update(re.findall(r"[A-Za-z_]\w*", flag))

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
            if name == self.source.name:
                self.unanswered.append((quote, target, start, end))
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
            self.contents[os.path.abspath(path)] = ""
        return None

    def _include(self, path: str) -> None:
        key = os.path.normpath(path)
        if key in self.files or len(self.files) > 200:
            return
        try:
            with open(path, "rb") as file:
                data = file.read(MAX_TEXT)
        except OSError:
            return
        self.contents[os.path.abspath(path)] = cache.digest(data)
        text = data.decode("utf-8", "surrogateescape").replace("\r\n", "\n")
        self.files[key] = b""  # a circle of includes ends here
        self._add(key, text)

    def text(self) -> str:
        words = frozenset(self.words)
        chosen, words = self._macros(words)
        btf = self.catalogue.btf
        types: Sequence[Btf] = () if btf is None else (btf,)
        stubs = {"pt_regs": headers.pt_regs(self.machine), **macros.STUB_TYPES}
        missing = {tag for tag in stubs if btf is None or btf.struct(tag) is None}
        request = declarations.Request(words, frozenset(self.tags - missing), frozenset(self.owned), frozenset(self.complete - missing))
        self.written = declarations.write(request, types, self._modules)
        parts = [headers.BASE, self._kernel_constants(), headers.COMMON, headers.registers(self.machine), chosen]
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
        values = {
            "page_shift": str(PAGESIZE.bit_length() - 1),
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
            lines.append(f"#define _HARKEN_PAGE_SIZE {PAGESIZE}UL")
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
            parts.append(declarations_layout.event(tag, found))
        return parts


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
