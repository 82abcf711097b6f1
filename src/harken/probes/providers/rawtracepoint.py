"""rawtracepoint: the arguments of a tracepoint as the kernel's code passes them, ``rawtracepoint:EVENT``.

No record is formatted, so this is the cheapest event of the kernel.  ``arg0`` ... are the arguments; with BTF they have types, and names
where the kernel kept them (``args.NAME``).  ``rawtracepoint:MODULE:EVENT`` is accepted; the module does not matter to the kernel.
"""

from __future__ import annotations

from ...base.ctype import Func, Ptr
from ..model import Argument, Pattern, Probe, View
from .base import is_glob, matcher, near_names, require

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...base.ctype import CType
    from ...base.diagnostics import Span

__all__ = ("PROVIDERS", "RawTracepoint")

#: A raw tracepoint passes at most this many arguments (kernel: include/trace/bpf_probe.h, CAST_TO_U64 up to 12).
_MOST = 12


class RawTracepoint:
    """``rawtracepoint``, alias ``rt``."""

    kind = "rawtracepoint"
    aliases = ("rt",)
    attachers = ("tp_btf", "raw_tracepoint")

    def parse(self, words: tuple[str, ...], span: Span | None) -> Pattern:
        require(self.kind, words, (1, 2), span, "rawtracepoint:sched_switch")
        return Pattern(self.kind, words, span)

    def expand(self, pattern: Pattern, catalogue: Any) -> tuple[Probe, ...]:
        event = pattern.words[-1]
        prefix = ":".join((self.kind, *pattern.words[:-1]))
        return tuple(Probe(self.kind, (name,), f"{prefix}:{name}") for name in matcher(event, catalogue.raw_tracepoints()))

    def near(self, pattern: Pattern, catalogue: Any) -> list[str]:
        event = pattern.words[-1]
        names = catalogue.raw_tracepoints()
        if not is_glob(event):
            for prefix in ("sys_enter_", "sys_exit_"):
                if event.startswith(prefix) and prefix[:-1] in names:
                    return [f"rawtracepoint:{prefix[:-1]}", f"tracepoint:syscalls:{event}"]
        return [f"{self.kind}:{name}" for name in near_names(event, names)]

    def view(self, probe: Probe, catalogue: Any) -> View:
        params = signature(probe.name[0], catalogue)
        if params is None:
            return View(positional=_MOST)
        args = tuple(Argument(name, kind, index) for index, (name, kind) in enumerate(params))
        return View(args, positional=len(args), arity=len(args))


def signature(event: str, catalogue: Any) -> tuple[tuple[str, CType], ...] | None:
    """The parameters of a tracepoint's probe function, without the private first one; None where BTF does not tell.

    The type is that of ``btf_trace_EVENT`` (a pointer to the probe's prototype, Linux 5.5); prototypes carry no names, so these come from
    ``__probestub_EVENT`` (Linux 6.10) or ``__bpf_trace_EVENT`` when it takes the same number.
    """
    btf = catalogue.btf
    if btf is None:
        return None
    typedef = btf.typedef(f"btf_trace_{event}")
    pointer = typedef.strip() if typedef is not None else None
    function = pointer.target.strip() if isinstance(pointer, Ptr) else None
    if not isinstance(function, Func):
        return None
    kinds = function.params[1:]
    for stub in ("__probestub_", "__bpf_trace_"):
        named = catalogue.function(stub + event)
        if named is not None and len(named.params) == len(function.params) and all(name for name, _ in named.params):
            return tuple((name, kind) for (name, _), (_, kind) in zip(named.params[1:], kinds))
    return tuple((name or f"arg{index}", kind) for index, (name, kind) in enumerate(kinds))


PROVIDERS = (RawTracepoint(),)
