"""The catalogue: everything that can be traced on this machine, looked up when it is asked for.

One object is shared by the providers (which expand wildcards), the planner, ``harken list`` and the front ends (which need the types of
arguments).  Creating it costs nothing; every answer is computed once.

Example:
    >>> from harken.kernel.kernel import live
    >>> Catalogue(live()).function("no_such_function") is None
    True
"""

from __future__ import annotations

from ..base.ctype import Func, Ptr, Struct
from ..base.errors import FormatError, KernelError, ProbeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..formats.btf import Btf
    from ..formats.elf import Elf
    from ..formats.event_format import EventFormat
    from ..kernel.kernel import Kernel
    from ..kernel.tracefs import Tracefs
    from ..symbols.kallsyms import Kallsyms
    from ..symbols.kernel_symbols import KernelSymbols

__all__ = ("Catalogue",)

_BLACKLIST = "/sys/kernel/debug/kprobes/blacklist"
_MAX_ELF_FILES = 64
#: What kallsyms calls the "modules" of code that the kernel makes at run time: JITed programs, trampolines.
_GENERATED = ("bpf", "__builtin__ftrace", "__builtin__kprobes")


class Catalogue:
    """What this kernel and its programs offer.

    Args:
        kernel: whom to ask.
        features: a ``kernel.features.Features``; made on first use if None.
        tracefs: a ``kernel.tracefs.Tracefs``; found (and mounted, if it must be) on first use if None.
    """

    def __init__(self, kernel: Kernel, features: Any = None, tracefs: Tracefs | None = None) -> None:
        self.kernel = kernel
        self._features = features
        self._tracefs = tracefs
        self._btf: tuple[Btf | None, str] | None = None
        self._module_btf: dict[str, Btf | None] = {}
        self._modules: list[str] | None = None
        self._tracepoints: list[tuple[str, str]] | None = None
        self._formats: dict[tuple[str, str], EventFormat] = {}
        self._functions: tuple[list[tuple[str, str]], str] | None = None
        self._described: dict[str, frozenset[str]] = {}
        self._raw_tracepoints: list[str] | None = None
        self._kallsyms: Kallsyms | None = None
        self._kernel_symbols: KernelSymbols | None = None
        self._elfs: dict[str, Elf] = {}

    # -- sources

    @property
    def features(self) -> Any:
        """What the kernel can do: ``kernel.features.Features``."""
        if self._features is None:
            from ..kernel.features import Features

            self._features = Features(self.kernel)
        return self._features

    def remember(self) -> None:
        """Stores what was found out about the kernel, for later starts."""
        if self._features is not None:
            self._features.save()

    @property
    def tracefs(self) -> Tracefs:
        """The machine's tracefs; raises KernelError if it can neither be found nor mounted."""
        if self._tracefs is None:
            from ..kernel.tracefs import find

            self._tracefs = find(self.kernel)
        return self._tracefs

    @property
    def btf(self) -> Btf | None:
        """The kernel's types, None if it carries none (``btf_reason`` says why); raises FormatError if they are damaged."""
        return self._load_btf()[0]

    @property
    def btf_reason(self) -> str:
        """Why there is no BTF, "" if there is."""
        return self._load_btf()[1]

    @property
    def kallsyms(self) -> Kallsyms:
        """The kernel's symbols."""
        if self._kallsyms is None:
            from ..symbols.kallsyms import read

            self._kallsyms = read(self.kernel)
        return self._kallsyms

    @property
    def kernel_symbols(self) -> KernelSymbols:
        """The kernel's symbols through the index that is kept per boot."""
        if self._kernel_symbols is None:
            from ..symbols.kernel_symbols import KernelSymbols

            self._kernel_symbols = KernelSymbols(self.kernel)
        return self._kernel_symbols

    def modules(self) -> list[str]:
        """Names of the loaded modules, sorted."""
        if self._modules is None:
            from ..kernel.procfs import modules

            self._modules = sorted(module.name for module in modules(self.kernel))
        return self._modules

    def module_btf(self, name: str) -> Btf | None:
        """The types of a loaded module (their base is the kernel's), None if it has none."""
        if name not in self._module_btf:
            from .catalogue_btf import module_btf

            self._module_btf[name] = None if self.btf is None else module_btf(self.kernel, name, self.btf)
        return self._module_btf[name]

    # -- tracepoints

    def tracepoints(self) -> list[tuple[str, str]]:
        """(category, event) of every event of tracefs, dynamic ones too, sorted.

        Raises:
            KernelError: tracefs cannot be read.
        """
        if self._tracepoints is None:
            self._tracepoints = sorted(set(self.tracefs.events()))
        return self._tracepoints

    def has_tracepoint(self, category: str, name: str) -> bool:
        """Whether ``tracepoints`` names an event, mostly without listing them (10 ms); raises KernelError as that does."""
        plain = "/" not in category + name and not {"", ".", ".."} & {category, name}
        # a file that every event has that is listed, and no other: kernel/trace/trace_events.c, event_create_dir() and t_next()
        if plain and self._tracepoints is None and self.tracefs.exists(f"events/{category}/{name}/enable"):
            return True
        return (category, name) in self.tracepoints()

    def tracepoint(self, category: str, name: str) -> EventFormat:
        """The record of an event: its fields, with BTF's types where the format file only names them.

        Raises:
            ProbeError: there is no such event.
            KernelError: tracefs cannot be read.
        """
        found = self._formats.get((category, name))
        if found is None:
            from ..formats.event_format import parse

            try:
                text = self.tracefs.event_format(category, name)
            except KernelError as error:
                import errno

                if error.errno != errno.ENOENT:
                    raise
                raise ProbeError(f"there is no event {category}:{name}", self._near_event(category, name)) from None
            found = self._formats[category, name] = parse(text, category, self._resolve)
        return found

    def raw_tracepoints(self) -> list[str]:
        """Names of the raw tracepoints, sorted: those that BTF describes, or without BTF what tracefs suggests."""
        if self._raw_tracepoints is None:
            found: set[str] = set()
            if self.btf is not None:
                prefix = "btf_trace_"
                found = {name[len(prefix) :] for name in self.btf.names("typedef") if name.startswith(prefix)}
                if self.kernel.exists("/sys/module"):
                    from .catalogue_btf import module_tracepoints

                    found.update(module_tracepoints(self.kernel, self.modules()))
            if not found:
                for category, name in self.tracepoints():
                    if category == "syscalls":  # all system calls pass through two raw tracepoints
                        found.update(("sys_enter", "sys_exit"))
                    elif category not in ("ftrace", "kprobes", "uprobes", "synthetic"):
                        found.add(name)
            self._raw_tracepoints = sorted(found)
        return self._raw_tracepoints

    def has_raw_tracepoint(self, name: str) -> bool:
        """Whether ``raw_tracepoints`` has a name, mostly without listing them."""
        if self._raw_tracepoints is None and self.btf is not None and self.btf.typedef(f"btf_trace_{name}") is not None:
            return True
        return name in self.raw_tracepoints()

    def raw_tracepoint(self, name: str) -> Func | None:
        """The arguments of a raw tracepoint as a function, None where BTF does not tell.

        Names come from ``__probestub_NAME`` (Linux 6.10), ``__traceiter_NAME`` (5.10) or ``__bpf_trace_NAME``; the prototype behind
        the typedef ``btf_trace_NAME`` (5.5) has the types but no names.  The first parameter of all of them, the probe's own
        data, is left out.
        """
        for btf in self._all_btf():
            typedef = btf.typedef(f"btf_trace_{name}")
            pointer = typedef.strip() if typedef is not None else None
            proto = pointer.target.strip() if isinstance(pointer, Ptr) else None
            if not isinstance(proto, Func):
                continue
            params = proto.params[1:]
            for prefix in ("__probestub_", "__traceiter_", "__bpf_trace_"):
                named = btf.function(prefix + name)
                if named is not None and len(named.params) == len(params) + 1 and all(text for text, _ in named.params[1:]):
                    params = tuple((text, kind) for (text, _), (_, kind) in zip(named.params[1:], params))
                    break
            else:
                params = tuple((text or f"arg{index}", kind) for index, (text, kind) in enumerate(params))
            return Func(name, proto.returns, params, proto.variadic)
        return None

    # -- kernel functions

    def functions(self) -> list[tuple[str, str]]:
        """(function, module or "") of the kernel functions that probes may be put on, in the kernel's order; a name that several
        static functions share stands there as often.

        From ftrace's list; where that is refused or missing, BTF's functions that the kernel's symbols confirm, less the kprobe blacklist.
        """
        return self._load_functions()[0]

    @property
    def functions_source(self) -> str:
        """Where ``functions`` comes from, as a sentence."""
        return self._load_functions()[1]

    def function(self, name: str, module: str = "") -> Func | None:
        """The signature of a kernel function, None where BTF does not know it.

        Args:
            module: "" or "vmlinux" for the kernel itself, else a loaded module (only its own functions count).
        """
        if module in ("", "vmlinux"):
            return None if self.btf is None else self.btf.function(name)
        btf = self.module_btf(module)
        if btf is None:
            return None
        own = [number for number in btf.ids_of(name, "func") if number >= btf.first]
        found = btf.type(own[0]) if own else None
        return found if isinstance(found, Func) else None

    def described(self, module: str = "") -> frozenset[str]:
        """Names of all functions that BTF describes, of the kernel itself or of a module; empty without BTF."""
        found = self._described.get(module)
        if found is None:
            btf = self.module_btf(module) if module else self.btf
            found = self._described[module] = frozenset(btf.names("func")) if btf is not None else frozenset()
        return found

    def locate(self, name: str, module: str = "") -> tuple[str, str]:
        """The one traceable function that ``name`` means, as (name, module or "").

        Raises:
            ProbeError: there is none (with names like it), or it is not the only one.
        """
        wanted = "" if module == "vmlinux" else module
        found = [pair for pair in self.functions() if pair[0] == name and (not module or pair[1] == wanted)]
        if not found:
            from .providers.base import near_names

            near = near_names(name, [n for n, m in self.functions() if not module or m == wanted])
            where = f" in module {module}" if wanted else ""
            raise ProbeError(f"there is no traceable kernel function {name}{where}", f"did you mean {' or '.join(near)}?" if near else "")
        owners = sorted({owner for _, owner in found})
        if len(owners) > 1:
            choices = ", ".join(f"{owner or 'vmlinux'}:{name}" for owner in owners)
            raise ProbeError(f"{name} is a function of {len(owners)} modules", f"write which one: {choices}")
        if len(found) > 1:
            raise ProbeError(
                f"{len(found)} functions of {owners[0] or 'the kernel'} are called {name}",
                f"probe one by its address: grep ' {name}$' /proc/kallsyms lists them",
            )
        return found[0]

    # -- iterators

    def iterators(self) -> list[str]:
        """Targets of BPF iterators that BTF describes ("task", "bpf_map", ...), sorted."""
        if self.btf is None:
            return []
        prefix = "bpf_iter__"
        names = {name[len(prefix) :] for name in self.btf.names("struct") if name.startswith(prefix)}
        return sorted(name for name in names if not name.endswith("__safe_trusted"))

    def iterator(self, name: str) -> Struct | None:
        """The context of a BPF iterator: ``struct bpf_iter__NAME``."""
        return None if self.btf is None else self.btf.struct(f"bpf_iter__{name}")

    # -- programs and libraries

    def binary(self, path: str) -> Elf:
        """An ELF file, mapped and kept.

        Raises:
            ProbeError: it cannot be opened.
            FormatError: it is not an ELF file.
        """
        found = self._elfs.get(path)
        if found is None:
            from ..symbols.binaries import open_elf

            found = open_elf(self.kernel, path)
            while len(self._elfs) >= _MAX_ELF_FILES:  # a pattern over a whole folder must not keep all of it mapped
                del self._elfs[next(iter(self._elfs))]
            self._elfs[path] = found
        return found

    def binaries(self, name: str, pid: int = -1) -> list[str]:
        """The files that a name stands for (path, pattern, program in PATH, library), seen by a process if ``pid`` is given."""
        from ..symbols.binaries import find

        return find(self.kernel, name, pid)

    def libraries(self, name: str) -> list[str]:
        """Paths of the shared libraries called ``name`` ("libc", "libc.so.6", "c")."""
        from ..symbols.binaries import libraries

        return libraries(self.kernel, name)

    def process_binaries(self, pid: int) -> list[str]:
        """Files that a process has mapped executable, its program first; raises ProbeError if it is not there."""
        from ..symbols.binaries import process_binaries

        return process_binaries(self.kernel, pid)

    # -- private

    def _load_btf(self) -> tuple[Btf | None, str]:
        if self._btf is None:
            from .catalogue_btf import kernel_btf

            self._btf = kernel_btf(self.kernel)
        return self._btf

    def _all_btf(self) -> list[Btf]:
        """The kernel's BTF, then those of modules, whose reading is put off until they are reached."""
        if self.btf is None:
            return []
        found = [self.btf]
        for module in self.modules():
            own = self.module_btf(module)
            if own is not None:
                found.append(own)
        return found

    def _resolve(self, spelling: str) -> Any:
        try:
            return None if self.btf is None else self.btf.find(spelling)
        except FormatError:
            return None

    def _near_event(self, category: str, name: str) -> str:
        from .providers.base import near_names

        near = near_names(f"{category}:{name}", [":".join(pair) for pair in self.tracepoints()])
        return f"did you mean {' or '.join(near)}?" if near else f"'harken list tracepoint:{category}:*' shows what there is"

    def _load_functions(self) -> tuple[list[tuple[str, str]], str]:
        if self._functions is None:
            try:
                self._functions = self.tracefs.filter_functions(), "ftrace's list of functions (available_filter_functions)"
            except KernelError as error:
                self._functions = self._guess_functions(), f"BTF and the kernel's symbols, because: {error.message}"
        return self._functions

    def _guess_functions(self) -> list[tuple[str, str]]:
        banned = self._blacklist()
        symbols = self.kallsyms.functions()
        owners = {module for _, module in symbols}
        known = {module: self.described(module) for module in owners.difference(_GENERATED)}
        unknown = {module for module, names in known.items() if not names}  # no BTF: whatever is called a function may be one
        known.update(dict.fromkeys(_GENERATED, frozenset()))
        found = [(name, module) for name, module in symbols if name in known[module] or module in unknown]
        found = found or [(name, "") for name in sorted(self.described())]
        return [pair for pair in found if pair[0] not in banned] if banned else found

    def _blacklist(self) -> set[str]:
        """Functions that kprobes are forbidden on; empty if it cannot be read."""
        try:
            text = self.kernel.read(_BLACKLIST, 4 << 20).decode("utf-8", "backslashreplace")
        except OSError:
            return set()
        return {line.rpartition("\t")[2].strip() for line in text.splitlines()}
