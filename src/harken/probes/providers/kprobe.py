"""kprobe and kretprobe: entry to, and return from, almost any function of the kernel.

``kprobe:FUNCTION``, ``kprobe:MODULE:FUNCTION``, ``kprobe:FUNCTION+OFFSET`` (an instruction inside) and ``kprobe:0xADDRESS``.  ``arg0``
... are the registers of the calling convention, ``retval`` that of the result; where BTF knows the function they have types, and
``args.NAME`` works. Wildcards leave out functions that tracing itself depends on (``UNSAFE``); naming one of them exactly is the user's
choice.
"""

from __future__ import annotations

from ...base.ctype import VOID, Int, Ptr, Struct
from ..model import Argument, Pattern, Probe, View
from .base import MACHINE_ARGUMENTS, either, fail, is_glob, matcher, matches, near_names, number, require

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...base.ctype import CType
    from ...base.diagnostics import Span

__all__ = ("PROVIDERS", "Kprobe", "UNSAFE", "is_unsafe", "functions_of", "U64")

U64 = Int("unsigned long", 8, signed=False)

#: Functions, by name or prefix, that a wildcard skips: they run inside every probe (locks, RCU, the BPF and tracing machinery itself),
#: so that probing them makes the machine crawl, loses events to recursion, or on some kernels hangs it.
UNSAFE = (
    "_raw_spin_*",
    "_raw_read_*",
    "_raw_write_*",
    "queued_spin_*",
    "queued_read_*",
    "queued_write_*",
    "native_queued_spin_*",
    "__pv_queued_spin_*",
    "lock_acquire",
    "lock_release",
    "preempt_count_*",
    "migrate_enable",
    "migrate_disable",
    "rcu_read_lock*",
    "rcu_read_unlock*",
    "__rcu_read_*",
    "rcu_is_watching",
    "rcu_nmi_*",
    "trace_hardirqs_*",
    "trace_call_bpf",
    "bpf_get_smp_processor_id",
    "__bpf_prog_*",
    "bpf_prog_*",
    "bpf_trampoline_*",
    "__bpf_tramp_*",
    "__fentry__",
    "ftrace_*",
    "function_trace_*",
    "kprobe_*",
    "perf_trace_buf_*",
    "ring_buffer_*",
    "__ring_buffer_*",
    "rb_*",
)


_UNSAFE_PREFIXES = tuple(pattern[:-1] for pattern in UNSAFE if pattern.endswith("*"))
_UNSAFE_NAMES = frozenset(UNSAFE)


def is_unsafe(function: str) -> bool:
    """Whether wildcards leave a function out.

    >>> is_unsafe("_raw_spin_lock"), is_unsafe("vfs_read")
    (True, False)
    """
    return function.startswith(_UNSAFE_PREFIXES) or function in _UNSAFE_NAMES


class Kprobe:
    """``kprobe`` (alias ``k``) or ``kretprobe`` (alias ``kr``)."""

    def __init__(self, kind: str, alias: str, attachers: tuple[str, ...]) -> None:
        self.kind, self.aliases, self.attachers = kind, (alias,), attachers
        self.returns = kind == "kretprobe"

    def parse(self, words: tuple[str, ...], span: Span | None) -> Pattern:
        example = f"{self.kind}:vfs_read"
        require(self.kind, words, (1, 2), span, example)
        function, plus, offset = words[-1].partition("+")
        if plus and self.returns:
            fail("Offset not allowed", span, f"a return has no offset: write {self.kind}:{function}")
        if plus and is_glob(function):
            fail("Offset not allowed with a wildcard", span, f"name the function: write {self.kind}:vfs_read+4")
        if plus:
            number(offset, span, "the offset", f"{self.kind}:{function}+4")
        if function[:1].isdigit():
            if self.returns or len(words) > 1 or plus:
                fail(f"{self.kind} needs the name of a function, not an address", span, f"write {example}")
            number(function, span, "the address", f"{self.kind}:0xffffffff81000000")
        return Pattern(self.kind, words, span)

    def expand(self, pattern: Pattern, catalogue: Any) -> tuple[Probe, ...]:
        *module, word = pattern.words
        if word[:1].isdigit():
            return (Probe(self.kind, ("", "", number(word, pattern.span, "the address", "")), pattern.text),)
        function, _, offset = word.partition("+")
        if module:
            check_module(pattern, module[0], catalogue)
        at = number(offset, pattern.span, "the offset", "") if offset else 0
        probes = []
        for name, owner in functions_of(module[0] if module else "*", function, catalogue):
            words = (self.kind, owner or "vmlinux", name) if module and is_glob(module[0]) else (self.kind, *module, name)
            text = ":".join(words) + (f"+{offset}" if offset else "")
            probes.append(Probe(self.kind, (owner, name, at), text))
        return tuple(probes)

    def near(self, pattern: Pattern, catalogue: Any) -> list[str]:
        function = pattern.words[-1].partition("+")[0]
        prefix = ":".join((self.kind, *pattern.words[:-1]))
        return [f"{prefix}:{name}" for name in near_functions(pattern.words[:-1], function, catalogue)]

    def view(self, probe: Probe, catalogue: Any) -> View:
        module, function, offset = probe.name
        positional = MACHINE_ARGUMENTS.get(catalogue.kernel.machine, 6)
        known = catalogue.function(function, module) if function else None
        arity = len(known.params) if known is not None else -1
        if self.returns:
            returns: CType = U64
            if known is not None and known.returns is not VOID and known.returns.strip().size in (1, 2, 4, 8):
                returns = known.returns
            return View(returns=returns, function=function, arity=arity)
        args: tuple[Argument, ...] = ()
        if known is not None and not offset:
            args = register_arguments(known.params, positional)
        return View(args, positional, None, function, arity=arity)


def register_arguments(params: tuple[tuple[str, CType], ...], registers: int) -> tuple[Argument, ...]:
    """The named parameters that are in registers: from the first struct passed by value on, positions are the compiler's secret."""
    args = []
    for index, (name, kind) in enumerate(params[:registers]):
        plain = kind.strip()
        if isinstance(plain, Struct) or not (isinstance(plain, Ptr) or 0 < plain.size <= 8):
            break
        if name:
            args.append(Argument(name, kind, index))
    return tuple(args)


def functions_of(module: str, pattern: str, catalogue: Any) -> list[tuple[str, str]]:
    """(name, module) of the traceable functions that match, without the unsafe ones for wildcards; ``module`` "vmlinux" is the kernel
    itself.

    An exact name is looked up in BTF first, which is much cheaper than listing all functions.
    """
    if not is_glob(pattern) and not is_glob(module):
        owner = "" if module == "vmlinux" else module
        if catalogue.function(pattern, owner) is not None:
            return [(pattern, owner)]
    if not is_glob(pattern) and module == "*" and catalogue.function(pattern, "") is not None:
        return [(pattern, "")]
    listed: list[tuple[str, str]] = catalogue.functions()
    if module != "*":
        if is_glob(module):
            owners = set(matcher(module, dict.fromkeys(owner or "vmlinux" for _, owner in listed)))
            listed = [pair for pair in listed if (pair[1] or "vmlinux") in owners]
        else:
            owner = "" if module == "vmlinux" else module
            listed = [pair for pair in listed if pair[1] == owner]
    if not is_glob(pattern):
        return [pair for pair in listed if pair[0] == pattern][:1]
    names = set(matcher(pattern, [name for name, _ in listed]))
    times: dict[str, int] = {}
    found = []
    for pair in listed:
        if pair[0] in names:
            found.append(pair)
            times[pair[0]] = times.get(pair[0], 0) + 1
    return [pair for pair in found if times[pair[0]] == 1 and not is_unsafe(pair[0])]


def near_functions(module: tuple[str, ...], function: str, catalogue: Any) -> list[str]:
    """Functions with a name like this one."""
    owner = module[0] if module else "*"
    listed = catalogue.functions()
    names = [n for n, m in listed if owner == "*" or matches(owner, m or "vmlinux")]
    return near_names(function, names)


def check_module(pattern: Pattern, module: str, catalogue: Any) -> None:
    """Refuses a module that is not loaded."""
    if is_glob(module):
        return
    loaded = ["vmlinux", *catalogue.modules()]
    if module not in loaded:
        near = near_names(module, loaded)
        hint = f"did you mean {either(near)}?" if near else "`lsmod` lists the loaded modules; a built-in function needs no module"
        fail(f"specified module {module} in probe {pattern.text} is not loaded.", pattern.span, hint)


PROVIDERS = (
    Kprobe("kprobe", "k", ("fentry", "kprobe_multi", "kprobe_perf", "kprobe_tracefs")),
    Kprobe("kretprobe", "kr", ("fexit", "kprobe_multi", "kprobe_perf", "kprobe_tracefs")),
)
